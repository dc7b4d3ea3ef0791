//! What a leaf needs for a tenant network that has an attachment on it, and for the
//! networks that a router joins with it.

use std::net::IpAddr;

use fabric_pipeline::tables::{arp_reply, bridge_flood, host_vni, ipv4_host, ipv6_host, nd_reply, vni};
use fabric_pipeline::{REPLICA_ACCESS, binding};
use ipnet::IpNet;
use p4runtime_client::entity::{self, Port, Replica};

use super::{convert, flood_rate, icmp_error, route};
use crate::entity::Entity;
use crate::view::{AccessView, FabricView, FloodView, HostView, NetworkView};

/// `Render::network_on_leaf`.
pub(super) fn network(fabric: &FabricView, network: &NetworkView, out: &mut Vec<Entity>) {
    let bd = convert::vni(network.vni);
    let vrf = convert::vrf(network.vrf);
    out.push(vni::Key { vni: bd }.entry(vni::Action::SetNetwork { vrf }).into());
    if network.vrf.is_none() {
        return; // nobody routes, so nobody is the gateway
    }
    let mac = convert::mac(fabric.gateway_mac);
    for subnet in &network.subnets {
        out.push(answer(bd, subnet.gateway, mac, true).into());
        icmp_error::source(bd, subnet, out);
    }
}

/// The answer to "who has `ip`?" in a network.
pub(super) fn answer(bd: binding::Bits<24>, ip: IpAddr, mac: binding::Bits<48>, router: bool) -> binding::Entity {
    match ip {
        IpAddr::V4(a) => arp_reply::Key { bd, address: a.into() }.entry(arp_reply::Action::ReplyArp { mac }),
        IpAddr::V6(a) => nd_reply::Key { bd, address: a.into() }.entry(nd_reply::Action::ReplyNd {
            mac,
            router: router.into(),
        }),
    }
}

/// `Render::routed_network_on_leaf`.
pub(super) fn routed_network(network: &NetworkView, out: &mut Vec<Entity>) {
    let Some(vrf) = network.vrf.map(convert::vni) else {
        return;
    };
    for subnet in &network.subnets {
        let entry = match subnet.gateway {
            IpAddr::V4(a) => ipv4_host::Key { vrf, dst: a.into() }.entry(ipv4_host::Action::RouteToGateway),
            IpAddr::V6(a) => ipv6_host::Key { vrf, dst: a.into() }.entry(ipv6_host::Action::RouteToGateway),
        };
        out.push(entry.into());
        // A subnet of one or two addresses has no broadcast address (RFC 3021).
        if let IpNet::V4(net) = subnet.cidr
            && net.prefix_len() < 31
        {
            let dst = net.broadcast().into();
            let entry = ipv4_host::Key { vrf, dst }.entry(ipv4_host::Action::RefuseBroadcast);
            out.push(entry.into());
        }
        if network.static_routes {
            out.push(route::nowhere(vrf, subnet.cidr));
        }
    }
}

/// The replica number of an access port; those of VTEPs are below [`REPLICA_ACCESS`].
pub(super) fn access_replica(access: &AccessView) -> u16 {
    REPLICA_ACCESS | access.access_id
}

/// `Render::flood_on_leaf`.
pub(super) fn flood(network: &NetworkView, flood: &FloodView, out: &mut Vec<Entity>) {
    let copy = |port: u16, number: u16| Replica::new(Port(port.into()), number.into());
    let hosts = flood.hosts.iter().map(|h| copy(h.port.get(), h.vtep.vtep_id));
    let access = flood.access.iter().map(|a| copy(a.port.get(), access_replica(a)));
    let remote = flood
        .remote
        .iter()
        .map(|(leaf, uplink)| copy(uplink.get(), leaf.vtep_id));
    let local: Vec<Replica> = hosts.chain(access).collect();
    let all: Vec<Replica> = local.iter().cloned().chain(remote).collect();

    for (from_fabric, group, replicas) in [(false, flood.group_all, all), (true, flood.group_local, local)] {
        if replicas.is_empty() {
            continue;
        }
        out.push(entity::Entity::multicast_group(group.into(), replicas).into());
        let key = bridge_flood::Key {
            bd: convert::vni(network.vni),
            from_fabric: from_fabric.into(),
        };
        out.push(key.entry(bridge_flood::Action::Flood { group: group.into() }).into());
    }
}

/// `Render::host_network_on_leaf`.
pub(super) fn host_network(host: &HostView, network: &NetworkView, out: &mut Vec<Entity>) {
    let (vtep_id, vni) = (host.vtep.vtep_id.into(), convert::vni(network.vni));
    let key = host_vni::Key { vtep_id, vni };
    out.push(key.entry(host_vni::Action::Permit).into());
    out.push(flood_rate::of(vni, vtep_id));
}
