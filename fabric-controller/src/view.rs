//! Views: the input of render functions. These are plain values, borrowed from the model, with every identifier
//! resolved. A render function takes one view and returns the entities of one device;
//! its output can depend only on its view.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use vfabric_api::ident::{Mac, PortId, Vni};
use vfabric_api::topology::{IpFamily, Role};

/// Settings that hold for the fabric as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FabricView {
    /// Largest IP packet of the underlay, in octets.
    pub mtu: u16,
    /// Family of the VXLAN tunnels.
    pub vxlan_underlay: IpFamily,
    /// MAC address of every gateway.
    pub gateway_mac: Mac,
}

/// A VTEP: a leaf or a host. Also a destination in the underlay.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct VtepView {
    /// Fabric-wide number of the VTEP (16 bits): leaves and hosts. 0 for spines.
    pub vtep_id: u16,
    /// Address, IPv4 (a switch's loopback).
    pub ipv4: Ipv4Addr,
    /// Address, IPv6.
    pub ipv6: Ipv6Addr,
}

impl VtepView {
    /// The address that tunnels use.
    pub fn address(&self, family: IpFamily) -> IpAddr {
        match family {
            IpFamily::Ipv4 => self.ipv4.into(),
            IpFamily::Ipv6 => self.ipv6.into(),
        }
    }
}

/// A switch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SwitchView {
    /// Name in the topology.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// P4Runtime device id.
    pub device_id: u16,
    /// Its loopback as a VTEP.
    pub vtep: VtepView,
    /// MAC address of its routed ports.
    pub router_mac: Mac,
    /// Ports cabled to other switches.
    pub fabric_ports: Vec<FabricPort>,
    /// Ports of bare-metal machines.
    pub access_ports: Vec<PortId>,
}

/// A port that is cabled to another switch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FabricPort {
    /// The port.
    pub port: PortId,
    /// Router MAC of the switch at the other end.
    pub peer_mac: Mac,
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostView {
    /// Name in the topology.
    pub name: String,
    /// Its addresses as a VTEP.
    pub vtep: VtepView,
    /// MAC address of its uplink.
    pub mac: Mac,
    /// Port of its leaf.
    pub port: PortId,
    /// Its leaf as a VTEP.
    pub leaf: VtepView,
}

/// How a switch reaches another one: all shortest paths that are up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathView {
    /// Number of the group, unique on this switch and stable: the handle of the destination, from 1.
    pub group_id: u32,
    /// Ports to use, ascending; empty when the destination cannot be reached.
    pub next_hops: Vec<FabricPort>,
}

/// What a switch reaches over its path to another one. It does not depend on the ports of the path, so a lost link changes none
/// of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BehindView {
    /// Number of the path's group.
    pub group_id: u32,
    /// The destination: its loopback.
    pub destination: VtepView,
    /// Hosts behind the destination (it is their leaf): their addresses are routed like it.
    pub hosts: Vec<VtepView>,
}

/// A tenant network.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NetworkView {
    /// Its VNI.
    pub vni: Vni,
    /// VRF of the router that joins it.
    pub vrf: Option<Vni>,
    /// Largest IP packet inside it, in octets.
    pub mtu: u16,
    /// Its subnets.
    pub subnets: Vec<SubnetView>,
    /// Whether its router has static routes.
    pub static_routes: bool,
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SubnetView {
    /// The prefix.
    pub cidr: IpNet,
    /// Address of the gateway.
    pub gateway: IpAddr,
}

/// An attachment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AttachmentView {
    /// Identity for hosts: `vdc/name`.
    pub id: String,
    /// MAC address.
    pub mac: Mac,
    /// Addresses.
    pub ips: Vec<IpAddr>,
    /// Where it is.
    pub place: PlaceView,
    /// Whether it may use only its own addresses.
    pub port_security: bool,
    /// Further addresses from which it may send, each with its MAC address.
    pub allowed: Vec<AllowedView>,
    /// Prefixes that its network's router sends to one of its addresses.
    pub routes: Vec<IpNet>,
    /// While it migrates: where it goes.
    pub target: Option<TargetView>,
}

impl AttachmentView {
    /// The VTEP that frames for it go to; none if it is on an access port.
    pub fn served_by(&self) -> Option<&VtepView> {
        match (&self.target, &self.place) {
            (Some(target), _) if target.active => Some(&target.host.vtep),
            (_, PlaceView::Host { host, .. }) => Some(&host.vtep),
            (_, PlaceView::Port(_)) => None,
        }
    }
}

/// The second place of an attachment that migrates.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TargetView {
    /// The host.
    pub host: HostView,
    /// Network namespace.
    pub netns: String,
    /// Interface inside it.
    pub interface: String,
    /// Whether it serves there already.
    pub active: bool,
}

/// Addresses from which an attachment may send besides its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AllowedView {
    /// The addresses.
    pub net: IpNet,
    /// Their MAC address.
    pub mac: Mac,
}

/// Where an attachment is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PlaceView {
    /// On a host.
    Host {
        /// The host.
        host: HostView,
        /// Network namespace.
        netns: String,
        /// Interface inside it.
        interface: String,
    },
    /// On an access port.
    Port(AccessView),
}

/// An access port, or one VLAN of it, in use by an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AccessView {
    /// The leaf, as a VTEP.
    pub leaf: VtepView,
    /// The port.
    pub port: PortId,
    /// VLAN id of tagged frames.
    pub vlan: Option<u16>,
    /// Number of this (port, VLAN) on its leaf, 1 to 32767.
    pub access_id: u16,
}

/// The places to which a leaf replicates broadcast, unknown unicast and multicast frames of a network.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FloodView {
    /// Group for frames from local hosts and access ports: everybody.
    pub group_all: u16,
    /// Group for frames from the overlay: local ones only (split horizon).
    pub group_local: u16,
    /// Local hosts in the network.
    pub hosts: Vec<HostView>,
    /// Local access ports in the network.
    pub access: Vec<AccessView>,
    /// Other leaves in the network, each with the uplink its copy takes; those that cannot
    /// be reached now are left out.
    pub remote: Vec<(VtepView, PortId)>,
}

/// The view of one contribution.
#[derive(Debug, Clone)]
pub enum View<'a> {
    /// A switch by itself.
    Switch(&'a SwitchView),
    /// The path from one switch to another, on the first one.
    Path(&'a SwitchView, PathView),
    /// On the first switch, another one and the hosts under it.
    Behind(&'a SwitchView, BehindView),
    /// On a leaf, a host under it.
    LocalHost(&'a SwitchView, &'a HostView),
    /// A network on a leaf.
    NetworkOnLeaf(&'a SwitchView, NetworkView),
    /// A network of a router on a leaf.
    RoutedOnLeaf(&'a SwitchView, NetworkView),
    /// A network's flood groups on a leaf.
    Flood(&'a SwitchView, NetworkView, FloodView),
    /// On a leaf, a network of a host under it.
    HostNetworkOnLeaf(&'a SwitchView, &'a HostView, NetworkView),
    /// A network on a host.
    NetworkOnHost(&'a HostView, NetworkView),
    /// An attachment on a leaf; whether its network is bridged there.
    AttachmentOnLeaf(&'a SwitchView, NetworkView, AttachmentView, bool),
    /// An attachment on a host.
    AttachmentOnHost(&'a HostView, NetworkView, AttachmentView),
}
