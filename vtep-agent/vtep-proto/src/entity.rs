//! The objects of a host in canonical form.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::ident::{MacAddress, Vni};

/// Names an object of a host.
///
/// The derived order is the order of creation: networks, forwarding entries, neighbours,
/// attachments.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostKey {
    /// A tenant network.
    Network(Vni),
    /// A remote station of a network.
    Fdb(Vni, MacAddress),
    /// An address of a remote station.
    Neighbour(Vni, IpAddr),
    /// A workload's interface, by its id.
    Attachment(String),
}

impl HostKey {
    /// Place in the order of creation, from 0; removal goes from the greatest to 0. An object
    /// may refer only to objects of a smaller rank.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Network(_) => 0,
            Self::Fdb(..) => 1,
            Self::Neighbour(..) => 2,
            Self::Attachment(_) => 3,
        }
    }
}

impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(vni) => write!(f, "network {vni}"),
            Self::Fdb(vni, mac) => write!(f, "fdb {mac} in network {vni}"),
            Self::Neighbour(vni, ip) => write!(f, "neighbour {ip} in network {vni}"),
            Self::Attachment(id) => write!(f, "attachment {id}"),
        }
    }
}

/// An object of a host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostEntity {
    /// A tenant network.
    Network(Network),
    /// A remote station of a network.
    Fdb(FdbEntry),
    /// An address of a remote station.
    Neighbour(Neighbour),
    /// A workload's interface. Boxed, because it is much larger than the others, which are far more numerous.
    Attachment(Box<Attachment>),
}

impl From<Attachment> for HostEntity {
    fn from(attachment: Attachment) -> Self {
        Self::Attachment(Box::new(attachment))
    }
}

impl HostEntity {
    /// Whether the object has this key. The same as a comparison with [`HostEntity::key`], but no key is made.
    pub fn is_named(&self, key: &HostKey) -> bool {
        match (self, key) {
            (Self::Network(n), HostKey::Network(vni)) => n.vni == *vni,
            (Self::Fdb(e), HostKey::Fdb(vni, mac)) => (e.vni, e.mac) == (*vni, *mac),
            (Self::Neighbour(n), HostKey::Neighbour(vni, ip)) => (n.vni, n.ip) == (*vni, *ip),
            (Self::Attachment(a), HostKey::Attachment(id)) => a.id == *id,
            _ => false,
        }
    }

    /// Its key.
    pub fn key(&self) -> HostKey {
        match self {
            Self::Network(n) => HostKey::Network(n.vni),
            Self::Fdb(e) => HostKey::Fdb(e.vni, e.mac),
            Self::Neighbour(n) => HostKey::Neighbour(n.vni, n.ip),
            Self::Attachment(a) => HostKey::Attachment(a.id.clone()),
        }
    }

    /// The network that the object belongs to; for a network, itself.
    pub fn vni(&self) -> Vni {
        match self {
            Self::Network(n) => n.vni,
            Self::Fdb(e) => e.vni,
            Self::Neighbour(n) => n.vni,
            Self::Attachment(a) => a.vni,
        }
    }
}

/// Family of the outer IP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnderlayFamily {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl UnderlayFamily {
    /// The family of an address.
    pub fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }

    /// Octets that VXLAN adds to a tenant's IP packet: 14 inner Ethernet, 8 VXLAN, 8 UDP and
    /// the outer IP header (RFC 7348 section 5).
    pub fn overhead(self) -> u32 {
        match self {
            Self::Ipv4 => 50,
            Self::Ipv6 => 70,
        }
    }
}

/// A tenant network that is in use on the host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Network {
    /// VXLAN network identifier.
    pub vni: Vni,
    /// Largest IP packet inside the network, in octets.
    pub mtu: u32,
    /// Family of the outer header; all VTEP addresses of the network have this family.
    pub underlay: UnderlayFamily,
    /// VTEPs that get a copy of every broadcast, unknown unicast and multicast frame.
    pub flood: BTreeSet<IpAddr>,
    /// Gateways, by MAC address.
    pub gateways: BTreeSet<Gateway>,
}

/// An anycast gateway of a network.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gateway {
    /// Its MAC address.
    pub mac: MacAddress,
    /// VTEP that frames for it are sent to.
    pub vtep: IpAddr,
    /// Its addresses in the network.
    pub ips: BTreeSet<IpAddr>,
}

/// A station of a network that is not on this host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FdbEntry {
    /// The network.
    pub vni: Vni,
    /// The station.
    pub mac: MacAddress,
    /// VTEP that frames for it are sent to.
    pub vtep: IpAddr,
}

/// An address of a station that is not on this host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Neighbour {
    /// The network.
    pub vni: Vni,
    /// The address.
    pub ip: IpAddr,
    /// The station that has it.
    pub mac: MacAddress,
}

/// One interface of one workload on this host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Attachment {
    /// Stable identity, unique on the host: 1 to 160 octets, printable, no spaces.
    pub id: String,
    /// The network it is in.
    pub vni: Vni,
    /// MAC address of the workload's interface.
    pub mac: MacAddress,
    /// Addresses of the workload's interface, each with the length of its prefix.
    pub addresses: BTreeSet<IpNet>,
    /// Routes of the workload through this interface.
    pub routes: BTreeSet<Route>,
    /// Network namespace: a name in `/run/netns`.
    pub netns: String,
    /// Name of the interface inside the namespace.
    pub interface: String,
    /// MTU of the interface, in octets; 0: that of the network.
    pub mtu: u32,
    /// Addresses that the workload may use besides its own.
    pub allowed_addresses: BTreeSet<AllowedAddress>,
    /// False: the workload may use any address.
    pub port_security: bool,
    /// True: the namespace may also hold attachments of other vDCs in which this is true, too.
    pub shared_netns: bool,
    /// Whether frames for the workload are delivered here.
    pub mode: Mode,
}

/// What a host does for an attachment. All modes except [`Mode::Serving`] belong to a
/// migration.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// The workload is here: its frames pass in both directions.
    #[default]
    Serving,
    /// The workload will come here. Its interface is complete, but no frame passes. The agent reports the first frame
    /// by which the workload announces itself.
    Standby,
    /// The workload has left. No frame passes, and frames for it that still come out of tunnels are sent on to the VTEP of its
    /// forwarding entry.
    Leaving,
}

impl Attachment {
    /// The vDC it belongs to: its id is `vdc/name`.
    pub fn vdc(&self) -> &str {
        self.id.split_once('/').map_or(&self.id, |(vdc, _)| vdc)
    }
}

/// An address that a workload may use besides its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AllowedAddress {
    /// One address or a prefix, with no host bits set.
    pub prefix: IpNet,
    /// A further MAC address that the workload may use, such as that of a virtual router (RFC
    /// 9568).
    pub mac: Option<MacAddress>,
}

/// A route of a workload.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// Destination, with no host bits set.
    pub destination: IpNet,
    /// Next hop, of the same family; `None`: the destination is on the link.
    pub via: Option<IpAddr>,
}
