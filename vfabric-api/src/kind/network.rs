//! Tenant networks.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ident::schema::{IpAddress, IpPrefix};
use crate::ident::{Name, OwnerName, Vni};
use crate::labels::Labels;
use crate::status::Applied;

/// One L2 segment of a vDC: one VNI, any number of subnets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkSpec {
    /// Name, unique in the vDC.
    pub name: Name,
    /// Subnets; they may overlap those of other vDCs and of networks that no router joins
    /// with this one.
    #[serde(default)]
    pub subnets: Vec<SubnetSpec>,
    /// Largest IP packet of the workloads, in octets: at least 576, with an IPv6 subnet 1280.
    #[serde(default = "default_mtu")]
    #[schema(minimum = 576, maximum = 65535)]
    pub mtu: u16,
    /// VNI; allocated from the pool when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<Vni>,
    /// Labels, which selectors use (at most 32).
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

fn default_mtu() -> u16 {
    1500
}

/// One IPv4 or IPv6 subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubnetSpec {
    /// The prefix, with no host bits set, of unicast addresses that hosts may have (no loopback, link-local, multicast,
    /// reserved or IPv4-mapped ones).
    #[serde(deserialize_with = "super::prefix::one")]
    #[schema(value_type = IpPrefix)]
    pub cidr: IpNet,
    /// Address of the anycast gateway; the first address of the prefix when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<IpAddress>)]
    pub gateway: Option<IpAddr>,
    /// Addresses that the controller does not allocate (at most 64 ranges). An attachment gets one of them only if its
    /// `ips` name it. Attachments that have one of these addresses when the range is reserved keep it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reserved: Vec<AddressRange>,
}

/// Addresses of one subnet, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddressRange {
    /// The first.
    #[schema(value_type = IpAddress)]
    pub first: IpAddr,
    /// The last.
    #[schema(value_type = IpAddress)]
    pub last: IpAddr,
}

impl AddressRange {
    /// Whether it has this address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        (self.first..=self.last).contains(&ip)
    }
}

impl SubnetSpec {
    /// A subnet with its usual gateway and no reserved addresses.
    pub fn new(cidr: IpNet) -> Self {
        Self {
            cidr,
            gateway: None,
            reserved: Vec::new(),
        }
    }

    /// The gateway's address: given, or the first after the prefix itself.
    pub fn gateway(&self) -> IpAddr {
        self.gateway.unwrap_or(match self.cidr.network() {
            IpAddr::V4(a) => IpAddr::V4(u32::from(a).wrapping_add(1).into()),
            IpAddr::V6(a) => IpAddr::V6(u128::from(a).wrapping_add(1).into()),
        })
    }
}

/// A tenant network with its status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Network {
    /// As the user wrote it.
    pub spec: NetworkSpec,
    /// Its VNI.
    pub vni: Vni,
    /// The router that joins it, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router: Option<Name>,
    /// The progress of the devices.
    pub applied: Applied,
    /// Its owner; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerName>,
    /// Revision that last changed it; `ETag` carries the same.
    #[serde(default)]
    pub revision: u64,
}
