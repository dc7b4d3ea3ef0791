//! The audit log: every call that changes something or is refused.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ident::Name;

/// One call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditRecord {
    /// Its number, one more than that of the call before; assigned by the log.
    pub seq: u64,
    /// When the response was sent, in milliseconds since 1970 (UTC), by the controller's clock.
    pub time_ms: u64,
    /// The caller; empty without a valid proof.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub caller: String,
    /// How the caller proved its identity.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub proof: String,
    /// The caller's address.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub peer: String,
    /// Id of the request, as in the response.
    pub request_id: String,
    /// HTTP method.
    pub method: String,
    /// Path, without the query.
    pub path: String,
    /// The vDC that the path names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vdc: Option<Name>,
    /// HTTP status of the response.
    pub status: u16,
    /// Why it was refused, in words; absent if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Equal refusals of this peer within the last minute, which have no records of their own.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// The last records, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditPage {
    /// The records.
    pub items: Vec<AuditRecord>,
    /// Give this as `before` to get the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// Number of the oldest record that the API still shows; older ones are in the files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<u64>,
}
