//! Tokens with which new machines enrol.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ident::Name;

/// Settings of a host's enrolment token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostTokenSpec {
    /// Seconds until it expires: 60 to 604,800 (7 days); an hour when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 60, maximum = 604_800)]
    pub lifetime_s: Option<u64>,
}

/// A host's enrolment token. It is shown only this once, and works for one key.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HostToken {
    /// The token.
    pub token: String,
    /// The host that it is for.
    pub host: Name,
    /// When it expires, in milliseconds since 1970 (UTC).
    pub expires_ms: u64,
    /// Fingerprint of the authority that vouches for the controller: `sha256:` and 64 hexadecimal digits. The host
    /// recognises the controller by it.
    pub authority: String,
}

impl fmt::Debug for HostToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostToken")
            .field("host", &self.host)
            .field("expires_ms", &self.expires_ms)
            .finish_non_exhaustive()
    }
}
