//! What a host's agent needs: the networks in use there, the attachments on it, and how to
//! reach all others of these networks.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use vfabric_api::ident::{Mac, Vni};
use vfabric_api::topology::IpFamily;
use vtep_proto::{
    Attachment, FdbEntry, Gateway, HostEntity, MacAddress, Neighbour, Network, Route, UnderlayFamily,
};

use super::view::{AttachmentView, FabricView, HostView, NetworkView, PlaceView};
use crate::device::entity::Entity;

/// The agent's form of a VNI. Both forms have the same range, so there always is one.
fn vni(v: Vni) -> Option<vtep_proto::Vni> {
    vtep_proto::Vni::new(v.get())
}

/// The agent's form of a unicast MAC address; the API lets no other through.
fn mac(m: Mac) -> Option<MacAddress> {
    MacAddress::new(m.0)
}

/// `Render::network_on_host`.
pub(super) fn network(fabric: &FabricView, host: &HostView, network: &NetworkView, out: &mut Vec<Entity>) {
    let Some(vni) = vni(network.vni) else { return };
    let leaf = host.leaf.address(fabric.vxlan_underlay);
    let gateways = network.vrf.and_then(|_| {
        let ips: BTreeSet<IpAddr> = network.subnets.iter().map(|s| s.gateway).collect();
        let mac = mac(fabric.gateway_mac)?;
        (!ips.is_empty()).then_some(Gateway { mac, vtep: leaf, ips })
    });
    let entity = HostEntity::Network(Network {
        vni,
        mtu: network.mtu.into(),
        underlay: match fabric.vxlan_underlay {
            IpFamily::Ipv4 => UnderlayFamily::Ipv4,
            IpFamily::Ipv6 => UnderlayFamily::Ipv6,
        },
        flood: BTreeSet::from([leaf]),
        gateways: gateways.into_iter().collect(),
    });
    out.push(entity.into());
}

/// `Render::attachment_on_host`.
pub(super) fn attachment(
    fabric: &FabricView,
    host: &HostView,
    network: &NetworkView,
    attachment: &AttachmentView,
    out: &mut Vec<Entity>,
) {
    let (Some(vni), Some(mac)) = (vni(network.vni), mac(attachment.mac)) else { return };
    let vtep = match &attachment.place {
        PlaceView::Host { host: its, netns, interface } if its.vtep.vtep_id == host.vtep.vtep_id => {
            let own = HostEntity::Attachment(Attachment {
                id: attachment.id.clone(),
                vni,
                mac,
                addresses: attachment.ips.iter().map(|ip| with_prefix(network, *ip)).collect(),
                routes: default_routes(network),
                netns: netns.clone(),
                interface: interface.clone(),
                mtu: 0,
            });
            return out.push(own.into());
        }
        PlaceView::Host { host: its, .. } => &its.vtep,
        PlaceView::Port(access) => &access.leaf,
    };
    let vtep = vtep.address(fabric.vxlan_underlay);
    out.push(HostEntity::Fdb(FdbEntry { vni, mac, vtep }).into());
    let neighbours = attachment.ips.iter().map(|ip| HostEntity::Neighbour(Neighbour { vni, ip: *ip, mac }));
    out.extend(neighbours.map(Entity::from));
}

/// The address with the prefix length of its subnet; that of a host if no subnet has it.
fn with_prefix(network: &NetworkView, ip: IpAddr) -> IpNet {
    let subnet = network.subnets.iter().find(|s| s.cidr.contains(&ip));
    let len = subnet.map(|s| s.cidr.prefix_len());
    len.and_then(|len| IpNet::new(ip, len).ok()).unwrap_or_else(|| ip.into())
}

/// One default route per family of a routed network, through the gateway of its first
/// subnet.
fn default_routes(network: &NetworkView) -> BTreeSet<Route> {
    if network.vrf.is_none() {
        return BTreeSet::new();
    }
    let v4 = network.subnets.iter().find(|s| s.gateway.is_ipv4()).map(|s| {
        let any = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0);
        Route { destination: any.into(), via: Some(s.gateway) }
    });
    let v6 = network.subnets.iter().find(|s| s.gateway.is_ipv6()).map(|s| {
        let any = Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0);
        Route { destination: any.into(), via: Some(s.gateway) }
    });
    v4.into_iter().chain(v6).collect()
}
