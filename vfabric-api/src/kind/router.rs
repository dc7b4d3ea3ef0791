//! Routers.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ident::{Name, OwnerName, Vni};
use crate::labels::Labels;
use crate::status::Applied;

/// A vDC's L3 domain: one VRF that joins networks of that vDC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouterSpec {
    /// Name, unique in the vDC.
    pub name: Name,
    /// Networks it joins; a network has one router at most, and the subnets of all joined
    /// networks are disjoint.
    pub networks: Vec<Name>,
    /// Labels: what selectors choose by (at most 32).
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// A router with its status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Router {
    /// As the user wrote it.
    pub spec: RouterSpec,
    /// Its VRF (an L3 VNI).
    pub vrf: Vni,
    /// How far the devices are.
    pub applied: Applied,
    /// Who looks after it; absent: nobody in particular.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerName>,
    /// Revision that last changed it; `ETag` carries the same.
    #[serde(default)]
    pub revision: u64,
}
