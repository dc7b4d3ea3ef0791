//! What tenants ask for: vDCs, tenant networks, routers and attachments.
//!
//! These are the bodies of the REST API and the documents of an intent file. A `*Spec` is
//! what a user writes; ids that the controller allocates (VNI, VRF, MAC) come back in the
//! status. An object is addressed as `vdc/kind/name`; names are unique per kind in a vDC.

use std::net::IpAddr;

pub use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ident::{Mac, Name, PortId, Vni};

/// Virtual data centre: one tenant's slice of the fabric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VdcSpec {
    /// Name, unique in the fabric.
    pub name: Name,
    /// Free text for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Hosts whose agents may attach workloads in it by themselves, for pods that start there; none when left out. An
    /// attachment that a user writes needs no such right. Hosts may be named before they are in the inventory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Name>,
}

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
    /// Largest IP packet of the workloads, in octets.
    #[serde(default = "default_mtu")]
    pub mtu: u16,
    /// VNI, if it is to be a certain one; otherwise allocated from the pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vni: Option<Vni>,
}

fn default_mtu() -> u16 {
    1500
}

/// One IPv4 or IPv6 subnet of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SubnetSpec {
    /// The prefix, with no host bits set.
    #[schema(value_type = String)]
    pub cidr: IpNet,
    /// Address of the anycast gateway; the first address of the prefix when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub gateway: Option<IpAddr>,
}

impl SubnetSpec {
    /// The gateway's address: given, or the first after the prefix itself.
    pub fn gateway(&self) -> IpAddr {
        self.gateway.unwrap_or(match self.cidr.network() {
            IpAddr::V4(a) => IpAddr::V4(u32::from(a).wrapping_add(1).into()),
            IpAddr::V6(a) => IpAddr::V6(u128::from(a).wrapping_add(1).into()),
        })
    }
}

/// A vDC's L3 domain: one VRF that joins networks of that vDC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouterSpec {
    /// Name, unique in the vDC.
    pub name: Name,
    /// Networks it joins; a network has one router at most, and the subnets of all joined
    /// networks are disjoint.
    pub networks: Vec<Name>,
}

/// One interface of one workload in one tenant network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttachmentSpec {
    /// Name, unique in the vDC.
    pub name: Name,
    /// The network it is in.
    pub network: Name,
    /// MAC address; derived from vDC, network and name when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Addresses, each inside a subnet of the network; when left out, one free address of
    /// each subnet is taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub ips: Vec<IpAddr>,
    /// Where the workload is.
    pub place: Place,
    /// Whether the workload is held to its MAC address and IP addresses, and may be neither a
    /// router nor a DHCP server for its neighbours.
    #[serde(default = "default_port_security")]
    pub port_security: bool,
    /// What it may speak from besides its own addresses: virtual routers (RFC 9568), nested
    /// workloads. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_addresses: Vec<AllowedAddress>,
}

fn default_port_security() -> bool {
    true
}

/// An address, or a prefix, that an attachment may speak from besides its own. A gateway's
/// address inside the prefix stays the gateway's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowedAddress {
    /// One address; either this or `cidr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub ip: Option<IpAddr>,
    /// A prefix with no host bits set; either this or `ip`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub cidr: Option<IpNet>,
    /// The MAC address that it goes with; the attachment's when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
}

impl AllowedAddress {
    /// The addresses; `None` unless exactly one of `ip` and `cidr` is given.
    pub fn net(&self) -> Option<IpNet> {
        match (self.ip, self.cidr) {
            (Some(ip), None) => Some(ip.into()),
            (None, Some(cidr)) => Some(cidr),
            _ => None,
        }
    }
}

/// Where an attachment is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Place {
    /// A workload on a host, in a network namespace.
    Host {
        /// The host.
        host: Name,
        /// Network namespace: a name in `/run/netns`.
        netns: String,
        /// Name of the interface inside the namespace (1 to 15 octets).
        interface: String,
    },
    /// A machine cabled to an access port of a leaf.
    Port {
        /// The leaf.
        switch: Name,
        /// Its port.
        port: PortId,
        /// 802.1Q VLAN id (1 to 4094) its frames carry; untagged when left out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vlan: Option<u16>,
    },
}

/// An intent file: vDCs with everything in them, applied as one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Intent {
    /// The vDCs.
    pub vdcs: Vec<VdcIntent>,
}

/// One vDC of an intent file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VdcIntent {
    /// Name, unique in the fabric.
    pub name: Name,
    /// Free text for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Hosts whose agents may attach workloads in it by themselves, for pods that start there; none when left out. An
    /// attachment that a user writes needs no such right. Hosts may be named before they are in the inventory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<Name>,
    /// Its tenant networks.
    #[serde(default)]
    pub networks: Vec<NetworkSpec>,
    /// Its routers.
    #[serde(default)]
    pub routers: Vec<RouterSpec>,
    /// Its attachments.
    #[serde(default)]
    pub attachments: Vec<AttachmentSpec>,
}
