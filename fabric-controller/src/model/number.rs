//! Numbers that occur in packets, and their owners.
//!
//! A *number* is a value that a device compares packets with, or puts into them, and whose meaning could change. It may
//! mean one tenant today and another tomorrow: a VNI, an access id, a flood group, a VLAN of a port, an interface in a
//! namespace, a MAC or IP address. Or it may mean one switch or host today and another tomorrow: the number and the
//! addresses of a VTEP, a router's MAC address, a port. Its *owner* is the object that it means, named by an identity
//! that is never reused ([`Uid`]).
//!
//! **Invariant.** No number changes its owner on a device before that device has confirmed that the old
//! meaning is gone, and after the last device has confirmed, the number rests for [`Number::rest`].
//! [`super::quarantine`] records this; [`super::waiting`] holds back objects that would violate it.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use vfabric_api::ident::{Mac, PortId};

use super::fabric::{Fabric, Node};
use super::fault::{self, Fault};
use super::{HostIndex, SwitchIndex};

/// Longer than any queue holds a frame: receive rings, qdiscs and egress queues of a running switch or host drain in
/// tens of milliseconds, and a device that is stopped confirms nothing.
const REST: Duration = Duration::from_secs(1);

/// Identity of an object. It never changes and is never given to another object.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uid(pub(in crate::model) u64);

impl Uid {
    /// As a number.
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number, with its scope.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Number {
    /// VNI of a network, or L3 VNI of a router (RFC 7348 section 5); the whole fabric.
    Vni(u32),
    /// A leaf's id for a VLAN of an access port; this leaf.
    AccessId(SwitchIndex, u16),
    /// Pair of multicast groups of a network; this leaf.
    FloodGroup(SwitchIndex, u16),
    /// VLAN of an access port (`None`: untagged frames); this leaf.
    PortVlan(SwitchIndex, PortId, Option<u16>),
    /// Interface in a network namespace; this host.
    Interface(HostIndex, Arc<str>, Arc<str>),
    /// MAC address in the network with this identity.
    Mac(Uid, Mac),
    /// IP address in the network with this identity.
    Ip(Uid, IpAddr),
    /// Number of a VTEP and of its replicas; the whole fabric.
    Vtep(u16),
    /// Loopback or VTEP address; the whole fabric.
    Underlay(IpAddr),
    /// MAC address of the router with this device id; the whole fabric.
    RouterMac(u16),
    /// MAC address of a host; this leaf.
    HostMac(SwitchIndex, Mac),
    /// Port that a host or another switch is cabled to; this switch.
    Port(SwitchIndex, PortId),
}

impl Number {
    /// How long it stays out of use after the last device has confirmed that it is gone.
    pub fn rest(&self) -> Duration {
        match self {
            // The kernel removes the interface together with its queues.
            Self::Interface(..) => Duration::ZERO,
            // A MAC address has a meaning only in one network, so a frame under way reaches the same tenant. An
            // attachment that is created again at once under the same name keeps its address, so that neighbours need
            // not learn another one.
            Self::Mac(..) => Duration::ZERO,
            _ if fault::is_on(Fault::NoRest) => Duration::ZERO,
            _ => REST,
        }
    }

    /// In words, for a status.
    pub fn describe(&self, fabric: &Fabric) -> String {
        let switch = |s: &SwitchIndex| fabric.switch_name(*s).unwrap_or("a removed switch").to_owned();
        match self {
            Self::Vni(vni) => format!("VNI {vni}"),
            Self::AccessId(s, id) => format!("access id {id} of {}", switch(s)),
            Self::FloodGroup(s, group) => format!("flood group {group} of {}", switch(s)),
            Self::PortVlan(s, port, None) => format!("port {port} of {}", switch(s)),
            Self::PortVlan(s, port, Some(vlan)) => format!("VLAN {vlan} of port {port} of {}", switch(s)),
            Self::Interface(h, netns, interface) => {
                let host = fabric.host_name(*h).unwrap_or("a removed host");
                format!("interface {interface} in {netns} on {host}")
            }
            Self::Mac(_, mac) => format!("MAC address {mac}"),
            Self::Ip(_, ip) => format!("address {ip}"),
            Self::Vtep(id) => format!("VTEP number {id}"),
            Self::Underlay(ip) => format!("underlay address {ip}"),
            Self::RouterMac(id) => format!("the router MAC address of device id {id}"),
            Self::HostMac(s, mac) => format!("host MAC address {mac} on {}", switch(s)),
            Self::Port(s, port) => format!("the cable at port {port} of {}", switch(s)),
        }
    }
}

/// A number as the store keeps it: devices by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredNumber {
    /// [`Number::Vni`].
    Vni(u32),
    /// [`Number::AccessId`].
    AccessId(String, u16),
    /// [`Number::FloodGroup`].
    FloodGroup(String, u16),
    /// [`Number::PortVlan`].
    PortVlan(String, PortId, Option<u16>),
    /// [`Number::Interface`].
    Interface(String, String, String),
    /// [`Number::Mac`].
    Mac(Uid, Mac),
    /// [`Number::Ip`].
    Ip(Uid, IpAddr),
    /// [`Number::Vtep`].
    Vtep(u16),
    /// [`Number::Underlay`].
    Underlay(IpAddr),
    /// [`Number::RouterMac`].
    RouterMac(u16),
    /// [`Number::HostMac`].
    HostMac(String, Mac),
    /// [`Number::Port`].
    Port(String, PortId),
}

impl StoredNumber {
    /// As stored; `None` for a number of a device that is no longer known.
    pub fn of(number: &Number, fabric: &Fabric) -> Option<Self> {
        let switch = |s: &SwitchIndex| fabric.switch_name(*s).map(str::to_owned);
        Some(match number {
            Number::Vni(vni) => Self::Vni(*vni),
            Number::AccessId(s, id) => Self::AccessId(switch(s)?, *id),
            Number::FloodGroup(s, group) => Self::FloodGroup(switch(s)?, *group),
            Number::PortVlan(s, port, vlan) => Self::PortVlan(switch(s)?, *port, *vlan),
            Number::Interface(h, netns, interface) => {
                let host = fabric.host_name(*h)?.to_owned();
                Self::Interface(host, netns.to_string(), interface.to_string())
            }
            Number::Mac(network, mac) => Self::Mac(*network, *mac),
            Number::Ip(network, ip) => Self::Ip(*network, *ip),
            Number::Vtep(id) => Self::Vtep(*id),
            Number::Underlay(ip) => Self::Underlay(*ip),
            Number::RouterMac(id) => Self::RouterMac(*id),
            Number::HostMac(s, mac) => Self::HostMac(switch(s)?, *mac),
            Number::Port(s, port) => Self::Port(switch(s)?, *port),
        })
    }

    /// The number; `None` if its device is no longer known.
    pub fn resolve(&self, fabric: &Fabric) -> Option<Number> {
        let node = |name: &str| fabric.node(&name.parse().ok()?);
        let switch = |name: &str| match node(name)? {
            Node::Switch(s) => Some(s),
            Node::Host(_) => None,
        };
        Some(match self {
            Self::Vni(vni) => Number::Vni(*vni),
            Self::AccessId(s, id) => Number::AccessId(switch(s)?, *id),
            Self::FloodGroup(s, group) => Number::FloodGroup(switch(s)?, *group),
            Self::PortVlan(s, port, vlan) => Number::PortVlan(switch(s)?, *port, *vlan),
            Self::Interface(host, netns, interface) => match node(host)? {
                Node::Host(h) => Number::Interface(h, netns.as_str().into(), interface.as_str().into()),
                Node::Switch(_) => return None,
            },
            Self::Mac(network, mac) => Number::Mac(*network, *mac),
            Self::Ip(network, ip) => Number::Ip(*network, *ip),
            Self::Vtep(id) => Number::Vtep(*id),
            Self::Underlay(ip) => Number::Underlay(*ip),
            Self::RouterMac(id) => Number::RouterMac(*id),
            Self::HostMac(s, mac) => Number::HostMac(switch(s)?, *mac),
            Self::Port(s, port) => Number::Port(switch(s)?, *port),
        })
    }
}
