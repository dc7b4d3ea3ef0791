//! Virtual data centres.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ident::Name;

/// Virtual data centre: one tenant's slice of the fabric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VdcSpec {
    /// Name, unique in the fabric.
    pub name: Name,
    /// Free text for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
}

/// A vDC with its status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Vdc {
    /// As the user wrote it.
    pub spec: VdcSpec,
    /// Tenant networks in it.
    pub networks: usize,
    /// Routers in it.
    pub routers: usize,
    /// Attachments in it.
    pub attachments: usize,
    /// Revision that last changed it; `ETag` carries the same.
    #[serde(default)]
    pub revision: u64,
}
