//! The objects that the kernel should hold, and how they are derived from the controller's entities.
//!
//! The controller sends networks, stations and attachments ([`vtep_proto::HostEntity`]);
//! a datapath holds segments, forwarding entries and ports. [`lower`] is the pure function
//! from one to the other. Several entities may ask for the same object (a gateway and a station
//! with one address, an attachment that is moving to another host); [`crate::desired`] says
//! which one wins.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use vtep_proto::{Attachment, HostEntity, MacAddress, Network, UnderlayFamily, Vni};

/// Names an object of the datapath; the order is the order of creation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKey {
    /// The bridge and the VXLAN device of a network.
    Segment(Vni),
    /// A VTEP that gets a copy of broadcast, unknown unicast and multicast.
    Flood(Vni, IpAddr),
    /// A station behind another VTEP.
    Station(Vni, MacAddress),
    /// An address whose ARP requests and neighbour solicitations are answered here.
    Neighbour(Vni, IpAddr),
    /// A workload's interface, by the name of its end on the host.
    Port(String),
}

/// An object of the datapath.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// The bridge and the VXLAN device of a network.
    Segment(Segment),
    /// A copy of broadcast, unknown unicast and multicast goes to `vtep`.
    Flood {
        /// The network.
        vni: Vni,
        /// Where to.
        vtep: IpAddr,
    },
    /// Frames for `mac` go to `vtep`.
    Station {
        /// The network.
        vni: Vni,
        /// The station.
        mac: MacAddress,
        /// The VTEP it is behind.
        vtep: IpAddr,
    },
    /// `ip` is at `mac`.
    Neighbour {
        /// The network.
        vni: Vni,
        /// The address.
        ip: IpAddr,
        /// The station that has it.
        mac: MacAddress,
        /// True for an IPv6 gateway (the R flag of RFC 4861 section 4.4).
        router: bool,
    },
    /// A workload's interface.
    Port(Box<Port>),
    /// A port that exists although nobody asked for it.
    StrayPort {
        /// Name of its end on the host.
        name: String,
        /// The attachment it was made for, if its alias says so.
        id: Option<String>,
    },
}

/// The bridge and the VXLAN device of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The network.
    pub vni: Vni,
    /// MTU of both, in octets.
    pub mtu: u32,
    /// Own VTEP address; `None` in a read-back when it is not set.
    pub local: Option<IpAddr>,
    /// False in a read-back when anything else about it is wrong.
    pub intact: bool,
}

/// A workload's interface: a veth pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// What the controller asked for, with the effective MTU.
    pub attachment: Attachment,
    /// False in a read-back when anything about it is wrong.
    pub intact: bool,
}

impl Object {
    /// Its key.
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Segment(s) => ObjectKey::Segment(s.vni),
            Self::Flood { vni, vtep } => ObjectKey::Flood(*vni, *vtep),
            Self::Station { vni, mac, .. } => ObjectKey::Station(*vni, *mac),
            Self::Neighbour { vni, ip, .. } => ObjectKey::Neighbour(*vni, *ip),
            Self::Port(p) => ObjectKey::Port(port_name(&p.attachment.id)),
            Self::StrayPort { name, .. } => ObjectKey::Port(name.clone()),
        }
    }

    /// The network it lies in; `None` when that is not known.
    pub fn vni(&self) -> Option<Vni> {
        match self {
            Self::Segment(s) => Some(s.vni),
            Self::Flood { vni, .. } | Self::Station { vni, .. } | Self::Neighbour { vni, .. } => Some(*vni),
            Self::Port(p) => Some(p.attachment.vni),
            Self::StrayPort { .. } => None,
        }
    }
}

impl ObjectKey {
    /// The network it lies in; `None` for a port, whose name does not say it.
    pub fn vni(&self) -> Option<Vni> {
        match self {
            Self::Segment(vni) | Self::Flood(vni, _) | Self::Station(vni, _) | Self::Neighbour(vni, _) => Some(*vni),
            Self::Port(_) => None,
        }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(vni) => write!(f, "{} and {}", bridge_name(*vni), vxlan_name(*vni)),
            Self::Flood(vni, vtep) => write!(f, "flood entry to {vtep} on {}", vxlan_name(*vni)),
            Self::Station(vni, mac) => write!(f, "fdb entry {mac} on {}", vxlan_name(*vni)),
            Self::Neighbour(vni, ip) => write!(f, "neighbour {ip} on {}", bridge_name(*vni)),
            Self::Port(name) => write!(f, "port {name}"),
        }
    }
}

/// Name of the bridge of a network.
pub fn bridge_name(vni: Vni) -> String {
    format!("vfb{vni}")
}

/// Name of the VXLAN device of a network.
pub fn vxlan_name(vni: Vni) -> String {
    format!("vfx{vni}")
}

/// Name of the link to which the bridge of a network sends frames for stations that it does not know.
pub fn unknown_name(vni: Vni) -> String {
    format!("vfu{vni}")
}

/// Name of an attachment's end on the host: a hash of its id (FNV-1a, 48 bits). With 1,000
/// attachments on a host, two share a name on one host in 10^8; then the second is refused.
pub fn port_name(id: &str) -> String {
    let hash = hash(id.bytes());
    format!("vfa{:012x}", (hash ^ (hash >> 48)) & 0xffff_ffff_ffff)
}

/// FNV-1a. It is the same in every version, so that later versions find names made with it.
pub(crate) fn hash(octets: impl Iterator<Item = u8>) -> u64 {
    octets.fold(0xcbf2_9ce4_8422_2325u64, |h, b| {
        (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The VTEP addresses of this host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LocalVteps {
    /// IPv4.
    pub ipv4: Option<std::net::Ipv4Addr>,
    /// IPv6.
    pub ipv6: Option<std::net::Ipv6Addr>,
}

impl LocalVteps {
    /// The address of a family.
    pub fn of(&self, family: UnderlayFamily) -> Option<IpAddr> {
        match family {
            UnderlayFamily::Ipv4 => self.ipv4.map(IpAddr::V4),
            UnderlayFamily::Ipv6 => self.ipv6.map(IpAddr::V6),
        }
    }
}

/// The objects that follow from an entity. `network` is the network of an attachment,
/// if it is known: it gives the MTU if the attachment does not.
pub fn lower(entity: &HostEntity, local: &LocalVteps, network: Option<&Network>) -> Vec<Object> {
    match entity {
        HostEntity::Network(n) => lower_network(n, local),
        HostEntity::Fdb(e) => vec![Object::Station {
            vni: e.vni,
            mac: e.mac,
            vtep: e.vtep,
        }],
        HostEntity::Neighbour(n) => vec![Object::Neighbour {
            vni: n.vni,
            ip: n.ip,
            mac: n.mac,
            router: false,
        }],
        HostEntity::Attachment(a) => lower_attachment(a, network),
    }
}

fn lower_network(n: &Network, local: &LocalVteps) -> Vec<Object> {
    let segment = Segment {
        vni: n.vni,
        mtu: n.mtu,
        local: local.of(n.underlay),
        intact: true,
    };
    let mut objects = vec![Object::Segment(segment)];
    objects.extend(n.flood.iter().map(|vtep| Object::Flood {
        vni: n.vni,
        vtep: *vtep,
    }));
    for g in &n.gateways {
        objects.push(Object::Station {
            vni: n.vni,
            mac: g.mac,
            vtep: g.vtep,
        });
        objects.extend(g.ips.iter().map(|ip| Object::Neighbour {
            vni: n.vni,
            ip: *ip,
            mac: g.mac,
            router: ip.is_ipv6(),
        }));
    }
    objects
}

fn lower_attachment(a: &Attachment, network: Option<&Network>) -> Vec<Object> {
    let mut attachment = a.clone();
    if let (0, Some(network)) = (a.mtu, network) {
        attachment.mtu = network.mtu;
    }
    // Include the host's own attachments: the bridge then knows that a station is local, and keeps one local workload's
    // request for another out of the tunnels.
    let ips: BTreeSet<IpAddr> = a.addresses.iter().map(|net| net.addr()).collect();
    let neighbours = ips.into_iter().map(|ip| Object::Neighbour {
        vni: a.vni,
        ip,
        mac: a.mac,
        router: false,
    });
    neighbours
        .chain([Object::Port(Box::new(Port {
            attachment,
            intact: true,
        }))])
        .collect()
}

/// Why an entity can never be made on this host, whatever the kernel supports.
pub fn unsupported(entity: &HostEntity, local: &LocalVteps, network: Option<&Network>) -> Option<String> {
    match entity {
        HostEntity::Network(n) if local.of(n.underlay).is_none() => Some(format!(
            "network {}: this host has no {:?} VTEP address",
            n.vni, n.underlay
        )),
        HostEntity::Fdb(e) => {
            let family = network.map(|n| n.underlay)?;
            (UnderlayFamily::of(e.vtep) != family).then(|| {
                format!(
                    "fdb {} in network {}: VTEP {} is not of the network's underlay family",
                    e.mac, e.vni, e.vtep
                )
            })
        }
        HostEntity::Attachment(a) => {
            let network = network?;
            (a.mtu > network.mtu).then(|| {
                format!(
                    "attachment {}: MTU {} is greater than that of network {} ({})",
                    a.id, a.mtu, a.vni, network.mtu
                )
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_into_ifnamsiz_and_differ() {
        let vni = Vni::new(Vni::MAX).unwrap();
        assert!(
            [bridge_name(vni), vxlan_name(vni), unknown_name(vni)]
                .iter()
                .all(|n| n.len() <= 15)
        );
        let names: BTreeSet<String> = (0..10_000).map(|i| port_name(&format!("blue/web-{i}"))).collect();
        assert_eq!(names.len(), 10_000);
        assert!(names.iter().all(|n| n.len() == 15));
    }
}
