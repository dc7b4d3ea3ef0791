//! The physical fabric as the model sees it: every switch and host resolved once.

use std::collections::HashMap;

use vfabric_api::ident::{Name, PortId};
use vfabric_api::topology::{PortRef, Role, Topology};

use super::ident::{HostIndex, SwitchIndex};
use crate::device::driver::DeviceIndex;
use crate::render::view::{FabricPort, FabricView, HostView, SwitchView, VtepView};

/// Switches and hosts with their views, and who is where.
#[derive(Debug, Clone)]
pub struct Fabric {
    /// Settings.
    pub view: FabricView,
    /// Switches in the topology's order.
    pub switches: Vec<SwitchView>,
    /// Hosts in the topology's order, each with the leaf it is under.
    pub hosts: Vec<(HostView, SwitchIndex)>,
    by_name: HashMap<Name, Node>,
}

/// A switch or a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// A switch.
    Switch(SwitchIndex),
    /// A host.
    Host(HostIndex),
}

impl Fabric {
    /// Resolves a validated topology. VTEPs are numbered in its order (switches, then
    /// hosts, from 1), so the numbers hold as long as the topology grows at its ends.
    pub fn new(topology: &Topology) -> Self {
        let mut by_name = HashMap::new();
        let mut number = 0u16;
        let mut next = || {
            number = number.saturating_add(1);
            number
        };
        let mut switches = Vec::new();
        for (i, s) in topology.switches.iter().enumerate() {
            by_name.insert(s.name.clone(), Node::Switch(i.into()));
            let id = next();
            switches.push(SwitchView {
                name: s.name.to_string(),
                role: s.role,
                device_id: s.device_id,
                vtep: VtepView {
                    vtep_id: if s.role == Role::Leaf { id } else { 0 },
                    ipv4: s.loopback_ipv4,
                    ipv6: s.loopback_ipv6,
                },
                router_mac: s.router_mac(),
                fabric_ports: fabric_ports(topology, &s.name),
                access_ports: s.access_ports.clone(),
            });
        }
        let mut hosts = Vec::new();
        for (i, h) in topology.hosts.iter().enumerate() {
            let Some(Node::Switch(leaf)) = by_name.get(&h.uplink.switch).copied() else {
                continue;
            };
            let Some(leaf_view) = switches.get(leaf.index()) else {
                continue;
            };
            let view = HostView {
                name: h.name.to_string(),
                vtep: VtepView {
                    vtep_id: next(),
                    ipv4: h.vtep_ipv4,
                    ipv6: h.vtep_ipv6,
                },
                mac: h.mac,
                port: h.uplink.port,
                leaf: leaf_view.vtep.clone(),
            };
            by_name.insert(h.name.clone(), Node::Host(i.into()));
            hosts.push((view, leaf));
        }
        let view = FabricView {
            mtu: topology.fabric.mtu,
            vxlan_underlay: topology.fabric.vxlan_underlay,
            gateway_mac: topology.fabric.gateway_mac,
        };
        Self {
            view,
            switches,
            hosts,
            by_name,
        }
    }

    /// The switch or host of that name.
    pub fn node(&self, name: &Name) -> Option<Node> {
        self.by_name.get(name).copied()
    }

    /// Name of a switch.
    pub fn switch_name(&self, switch: SwitchIndex) -> Option<&str> {
        self.switches.get(switch.index()).map(|s| s.name.as_str())
    }

    /// Name of a device.
    pub fn device_name(&self, device: DeviceIndex) -> Option<&str> {
        let at = device.0 as usize;
        let host = || self.host_name(at.checked_sub(self.switches.len())?.into());
        self.switch_name(at.into()).or_else(host)
    }

    /// Name of a host.
    pub fn host_name(&self, host: HostIndex) -> Option<&str> {
        self.hosts.get(host.index()).map(|(h, _)| h.name.as_str())
    }

    /// The leaf that a host is under.
    pub fn leaf_of(&self, host: HostIndex) -> Option<SwitchIndex> {
        self.hosts.get(host.index()).map(|(_, leaf)| *leaf)
    }
}

fn fabric_ports(topology: &Topology, of: &Name) -> Vec<FabricPort> {
    let peer = |mine: &PortRef, other: &PortRef| -> Option<FabricPort> {
        (mine.switch == *of).then_some(())?;
        Some(FabricPort {
            port: mine.port,
            peer_mac: topology.switch(&other.switch)?.router_mac(),
        })
    };
    let ends = topology.links.iter().flat_map(|l| [peer(&l.a, &l.b), peer(&l.b, &l.a)]);
    let mut ports: Vec<FabricPort> = ends.flatten().collect();
    ports.sort_by_key(|p: &FabricPort| PortId::get(p.port));
    ports
}
