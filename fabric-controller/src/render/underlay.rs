//! What a switch needs before there is any tenant: its own addresses, its links, paths to the other switches, the hosts
//! on its ports, and the places of all VTEPs.

use std::net::IpAddr;

use fabric_pipeline::binding::{ActionParams, KeyFields, Lpm};
use fabric_pipeline::tables::{
    arp_reply, host_refusal, host_source, local_address, nd_reply, neighbour, path, port_vlan, remote_vtep, replica,
    router_mac, underlay_route,
};
use fabric_pipeline::{Bits, binding};
use p4runtime_client::entity::{self, GroupMember, Port, TableAction, TableKey};
use vfabric_api::ident::PortId;
use vfabric_api::topology::{IpFamily, Role};

use super::convert;
use crate::entity::Entity;
use crate::view::{BehindView, FabricView, HostView, PathView, SwitchView, VtepView};

/// Untagged frames.
const UNTAGGED: Bits<12> = Bits::masked(0);
/// The bridge domain of an underlay link.
const UNDERLAY: Bits<24> = Bits::masked(0);

fn addresses(vtep: &VtepView) -> [IpAddr; 2] {
    [vtep.ipv4.into(), vtep.ipv6.into()]
}

/// `Render::switch`.
pub(super) fn switch(fabric: &FabricView, switch: &SwitchView, out: &mut Vec<Entity>) {
    let mut add = |e: binding::Entity| out.push(e.into());
    for address in addresses(&switch.vtep) {
        let key = local_address::Key {
            address: convert::underlay(address),
        };
        add(key.entry(local_address::Action::SetLocal));
    }
    for p in &switch.fabric_ports {
        let port = convert::port(p.port);
        add(port_vlan::Key { port, vid: UNTAGGED }.entry(port_vlan::Action::SetFabric));
        let (smac, dmac) = (convert::mac(switch.router_mac), convert::mac(p.peer_mac));
        add(neighbour::Key { port }.entry(neighbour::Action::Rewrite { smac, dmac }));
        let way = path::Action::ToFabricPort { port }.to_call();
        add(entity::Entity::member(path::PROFILE_ID, member_id(p.port), way));
    }
    if switch.role == Role::Leaf {
        let dmac = convert::mac(fabric.gateway_mac);
        add(router_mac::Key { dmac }.entry(router_mac::Action::SetRouted));
        // Hosts ask for the loopback, their next hop, on their uplinks.
        let mac = convert::mac(switch.router_mac);
        let arp = arp_reply::Key {
            bd: UNDERLAY,
            address: switch.vtep.ipv4.into(),
        };
        add(arp.entry(arp_reply::Action::ReplyArp { mac }));
        let nd = nd_reply::Key {
            bd: UNDERLAY,
            address: switch.vtep.ipv6.into(),
        };
        add(nd.entry(nd_reply::Action::ReplyNd {
            mac,
            router: true.into(),
        }));
    }
}

/// Members of the path selector have the number of their port: one per port, shared by all
/// groups.
fn member_id(port: PortId) -> u32 {
    port.get().into()
}

/// The number of a path in the pipeline: paths are numbered by the switches of the topology, of which there are less than 2^16.
fn path_id(group_id: u32) -> Bits<16> {
    Bits::masked(u128::from(group_id) & Bits::<16>::MAX)
}

/// `Render::path`.
pub(super) fn path(to: &PathView, out: &mut Vec<Entity>) {
    // Without next hops the routes stay, and packets are counted as having no route.
    if to.next_hops.is_empty() {
        return;
    }
    let member = |port: PortId| GroupMember {
        member_id: member_id(port),
        weight: 1,
        watch_port: Some(Port(port.get().into())),
    };
    let members = to.next_hops.iter().map(|p| member(p.port)).collect();
    out.push(entity::Entity::group(path::PROFILE_ID, to.group_id, members, 0).into());
    let path = path_id(to.group_id);
    let key = TableKey::new(path::ID, path::Key { path }.to_match());
    out.push(entity::Entity::table(key, TableAction::Group(to.group_id)).into());
}

/// `Render::behind`.
pub(super) fn behind(fabric: &FabricView, switch: &SwitchView, to: &BehindView, out: &mut Vec<Entity>) {
    let path = path_id(to.group_id);
    let destinations = std::iter::once(&to.destination).chain(&to.hosts);
    for address in destinations.clone().flat_map(addresses) {
        let key = underlay_route::Key {
            dst: Lpm::host(convert::underlay(address)),
        };
        out.push(key.entry(underlay_route::Action::ToPath { path }).into());
    }
    if switch.role == Role::Leaf {
        for vtep in destinations.filter(|v| v.vtep_id != 0) {
            out.push(tunnel_to(fabric, switch, vtep).into());
        }
        if to.destination.vtep_id != 0 {
            out.push(copies_to(fabric, switch, &to.destination).into());
        }
    }
}

/// `Render::local_host`.
pub(super) fn local_host(fabric: &FabricView, leaf: &SwitchView, host: &HostView, out: &mut Vec<Entity>) {
    let mut add = |e: binding::Entity| out.push(e.into());
    let port = convert::port(host.port);
    let vtep_id = host.vtep.vtep_id.into();
    add(port_vlan::Key { port, vid: UNTAGGED }.entry(port_vlan::Action::SetHost));
    let (smac, dmac) = (convert::mac(leaf.router_mac), convert::mac(host.mac));
    add(neighbour::Key { port }.entry(neighbour::Action::Rewrite { smac, dmac }));
    for address in addresses(&host.vtep).map(convert::underlay) {
        let source = host_source::Key {
            port,
            outer_src: address,
        };
        add(source.entry(host_source::Action::SetSourceHost { vtep_id }));
        let route = underlay_route::Key {
            dst: Lpm::host(address),
        };
        add(route.entry(underlay_route::Action::ToHost { port }));
    }
    add(host_refusal::Key { vtep_id }.entry(host_refusal::Action::CountRefusal));
    add(tunnel_to(fabric, leaf, &host.vtep));
    add(copies_to(fabric, leaf, &host.vtep));
}

/// The place of a VTEP, for frames with one destination.
fn tunnel_to(fabric: &FabricView, leaf: &SwitchView, to: &VtepView) -> binding::Entity {
    use remote_vtep::{Action, Key};
    let key = Key {
        vtep_id: to.vtep_id.into(),
    };
    key.entry(match fabric.vxlan_underlay {
        IpFamily::Ipv4 => Action::TunnelIpv4 {
            src: leaf.vtep.ipv4.into(),
            dst: to.ipv4.into(),
        },
        IpFamily::Ipv6 => Action::TunnelIpv6 {
            src: leaf.vtep.ipv6.into(),
            dst: to.ipv6.into(),
        },
    })
}

/// The place of a VTEP, for copies of flooded frames. The replica number of a VTEP is the VTEP's own number.
fn copies_to(fabric: &FabricView, leaf: &SwitchView, to: &VtepView) -> binding::Entity {
    use replica::{Action, Key};
    let key = Key {
        replica: to.vtep_id.into(),
    };
    key.entry(match fabric.vxlan_underlay {
        IpFamily::Ipv4 => Action::ReplicateIpv4 {
            src: leaf.vtep.ipv4.into(),
            dst: to.ipv4.into(),
        },
        IpFamily::Ipv6 => Action::ReplicateIpv6 {
            src: leaf.vtep.ipv6.into(),
            dst: to.ipv6.into(),
        },
    })
}
