//! Virtual data centres.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ident::schema::IpPrefix;
use crate::ident::{Name, OwnerName, PortId, Vni};
use crate::kind::Kind;
use crate::labels::Labels;

/// Virtual data centre: one tenant's part of the fabric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VdcSpec {
    /// Name, unique in the fabric.
    pub name: Name,
    /// Free text for people, of at most 500 octets.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schema(max_length = 500)]
    pub description: String,
    /// Hosts that are assigned to it; none when left out. Their agents may attach pods that start there, and
    /// users of the vDC may place attachments there. A `fabric-admin` may place them anywhere.
    /// Hosts may be named before they are in the inventory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Name>,
    /// Access ports that are assigned to it, for users of the vDC; none when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<AssignedPort>,
    /// VNIs that users of the vDC may name; none when left out. If a network names no VNI, the controller chooses one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vnis: Vec<VniRange>,
    /// Prefixes that hold the subnets of its networks. A user of the vDC may only create subnets inside one of them; any
    /// subnet when left out. Other vDCs may have the same prefixes.
    #[serde(
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "super::prefix::list"
    )]
    #[schema(value_type = Vec<IpPrefix>)]
    pub address_pools: Vec<IpNet>,
    /// Limits on its objects.
    #[serde(default, skip_serializing_if = "Limits::is_empty")]
    pub limits: Limits,
    /// Labels, which selectors use (at most 32).
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

impl VdcSpec {
    /// A vDC without assignments.
    pub fn new(name: Name) -> Self {
        Self {
            name,
            description: String::new(),
            hosts: Vec::new(),
            ports: Vec::new(),
            vnis: Vec::new(),
            address_pools: Vec::new(),
            limits: Limits::default(),
            labels: Labels::new(),
        }
    }

    /// Whether its users may create this subnet.
    pub fn may_have(&self, cidr: &IpNet) -> bool {
        self.address_pools.is_empty() || self.address_pools.iter().any(|pool| pool.contains(cidr))
    }
}

/// An access port that a vDC may use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AssignedPort {
    /// The leaf.
    pub switch: Name,
    /// Its port.
    pub port: PortId,
    /// Only frames with these 802.1Q VLAN ids; when left out, only untagged frames.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlans: Option<VlanRange>,
}

impl AssignedPort {
    /// Whether an attachment with this VLAN id, or with none, may be there.
    pub fn takes(&self, vlan: Option<u16>) -> bool {
        match (self.vlans, vlan) {
            (None, None) => true,
            (Some(range), Some(vlan)) => (range.first..=range.last).contains(&vlan),
            _ => false,
        }
    }
}

/// 802.1Q VLAN ids, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VlanRange {
    /// The first (1 to 4094).
    #[schema(minimum = 1, maximum = 4094)]
    pub first: u16,
    /// The last (1 to 4094).
    #[schema(minimum = 1, maximum = 4094)]
    pub last: u16,
}

/// VNIs, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VniRange {
    /// The first.
    pub first: Vni,
    /// The last.
    pub last: Vni,
}

impl VniRange {
    /// Whether it has this VNI.
    pub fn contains(&self, vni: Vni) -> bool {
        (self.first..=self.last).contains(&vni)
    }
}

/// How many objects a vDC may have, and how much of the switches they may use; no limit where a number is left out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Tenant networks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<u32>,
    /// Routers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routers: Option<u32>,
    /// Static routes of all its routers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<u32>,
    /// Attachments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachments: Option<u32>,
    /// Share of each table of each switch that its objects may use, in per cent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100)]
    pub table_percent: Option<u8>,
}

impl Limits {
    /// Whether nothing is limited.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Most objects of a kind; none means no limit.
    pub fn of(&self, kind: Kind) -> Option<usize> {
        let limit = match kind {
            Kind::Network => self.networks,
            Kind::Router => self.routers,
            Kind::Attachment => self.attachments,
            _ => None,
        };
        limit.and_then(|n| usize::try_from(n).ok())
    }
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
    /// Its owner; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerName>,
    /// Revision that last changed it; `ETag` carries the same.
    #[serde(default)]
    pub revision: u64,
}
