//! Attachments.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ident::schema::{IpAddress, IpPrefix};
use crate::ident::{Mac, Name, OwnerName, PortId};
use crate::labels::Labels;
use crate::status::Applied;

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
    #[schema(value_type = Vec<IpAddress>)]
    pub ips: Vec<IpAddr>,
    /// Where the workload is.
    pub place: Place,
    /// Whether the workload may send only from its own MAC and IP addresses, and may be neither a
    /// router nor a DHCP server for its neighbours.
    #[serde(default = "default_port_security")]
    pub port_security: bool,
    /// Addresses from which it may send besides its own: virtual routers (RFC 9568), nested
    /// workloads. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 64)]
    pub allowed_addresses: Vec<AllowedAddress>,
    /// The host that its workload moves to while it runs. The controller deletes this when the move is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub migration: Option<Migration>,
    /// Labels, which selectors use (at most 32).
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

fn default_port_security() -> bool {
    true
}

/// An address or prefix from which an attachment may send besides its own addresses. A gateway's
/// address inside the prefix remains refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowedAddress {
    /// One address; either this or `cidr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<IpAddress>)]
    pub ip: Option<IpAddr>,
    /// A prefix with no host bits set; either this or `ip`.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "super::prefix::perhaps"
    )]
    #[schema(value_type = Option<IpPrefix>)]
    pub cidr: Option<IpNet>,
    /// The MAC address used with it; the attachment's when left out.
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

/// A move of an attachment to another host while its workload runs (live migration).
///
/// Both hosts hold the interface, and one of them serves: the one in `place` while the phase is `prepared`, the target
/// once it is `active`. After that, the controller waits until all devices know, puts the target into `place` and deletes this.
/// Deleting it earlier cancels the move: the attachment is at `place` as before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Migration {
    /// The host that it moves to.
    pub host: Name,
    /// Network namespace there, named as in `place`; that of `place` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// Name of the interface in it; that of `place` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Which of the two hosts serves.
    #[serde(default)]
    pub phase: MigrationPhase,
    /// Seconds until a migration that is still `prepared` is cancelled (10 to 86400).
    #[serde(default = "default_timeout_s")]
    #[schema(minimum = 10, maximum = 86400)]
    pub timeout_s: u32,
}

impl Migration {
    /// How long a migration is prepared, in seconds, unless its user says otherwise: a guest with much memory takes minutes.
    pub const DEFAULT_TIMEOUT_S: u32 = 600;

    /// Where the attachment is after the move; none if it is not on a host now.
    pub fn target(&self, now: &Place) -> Option<Place> {
        let Place::Host { netns, interface, .. } = now else {
            return None;
        };
        Some(Place::Host {
            host: self.host.clone(),
            netns: self.netns.as_ref().unwrap_or(netns).clone(),
            interface: self.interface.as_ref().unwrap_or(interface).clone(),
        })
    }
}

fn default_timeout_s() -> u32 {
    Migration::DEFAULT_TIMEOUT_S
}

/// How far a migration is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MigrationPhase {
    /// The target is ready and silent; the source serves. The first RARP, ARP or neighbour advertisement of the workload at the
    /// target makes it `active`.
    #[default]
    Prepared,
    /// The target serves; frames that still reach the source are sent on to it.
    Active,
}

/// Where an attachment is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Place {
    /// A workload on a host, in a network namespace.
    Host {
        /// The host.
        host: Name,
        /// Network namespace: a name in `/run/netns`, of 1 to 255 printable ASCII characters without `/` that does not
        /// start with a dot.
        #[schema(min_length = 1, max_length = 255, pattern = r"^[!-\-0-~][!-.0-~]*$")]
        netns: String,
        /// Name of the interface inside the namespace: 1 to 15 printable ASCII characters without `/`, `:` and `%`, the
        /// first not a dot; not `lo`, `all` or `default`.
        #[schema(min_length = 1, max_length = 15, pattern = r"^[!-$&-\-0-9;-~][!-$&-.0-9;-~]*$")]
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
        #[schema(minimum = 1, maximum = 4094)]
        vlan: Option<u16>,
    },
}

/// An attachment with its status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Attachment {
    /// As the user wrote it.
    pub spec: AttachmentSpec,
    /// Its MAC address, given or derived.
    pub mac: Mac,
    /// Its addresses, given or allocated.
    #[schema(value_type = Vec<IpAddress>)]
    pub ips: Vec<IpAddr>,
    /// The progress of the devices.
    pub applied: Applied,
    /// Its owner; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerName>,
    /// Revision that last changed it; `ETag` carries the same.
    #[serde(default)]
    pub revision: u64,
}
