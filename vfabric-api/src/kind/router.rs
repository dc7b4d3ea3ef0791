//! Routers.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ident::schema::{IpAddress, IpPrefix};
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
    /// Static routes, at most 1024, each prefix once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<StaticRoute>,
    /// Labels, which selectors use (at most 32).
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

impl RouterSpec {
    /// A router without static routes.
    pub fn new(name: Name, networks: Vec<Name>) -> Self {
        Self {
            name,
            networks,
            routes: Vec::new(),
            labels: Labels::default(),
        }
    }
}

/// Packets to a prefix go to an attachment, which passes them on: a firewall, a VPN gateway, a router of the tenant's
/// own. Packets from there have source addresses that are not the attachment's, so it needs `allowed_addresses`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct StaticRoute {
    /// The prefix, without host bits. It may contain networks of the router, which are still reached directly, but must
    /// not be inside one. The longest matching prefix wins.
    #[serde(deserialize_with = "super::prefix::one")]
    #[schema(value_type = IpPrefix)]
    pub to: IpNet,
    /// Address of an attachment in a network of the router, of the same family. While no attachment has it, the
    /// route is not in force.
    #[schema(value_type = IpAddress)]
    pub via: IpAddr,
}

/// A router with its status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Router {
    /// As the user wrote it.
    pub spec: RouterSpec,
    /// Its VRF (an L3 VNI).
    pub vrf: Vni,
    /// The progress of the devices.
    pub applied: Applied,
    /// Its owner; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerName>,
    /// Revision that last changed it; `ETag` carries the same.
    #[serde(default)]
    pub revision: u64,
}
