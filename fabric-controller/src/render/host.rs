//! What a host's agent needs: the networks in use there, the attachments on it, and how to
//! reach all others of these networks.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use vfabric_api::ident::{Mac, Vni};
use vfabric_api::topology::IpFamily;
use vtep_proto::{
    Attachment, FdbEntry, Gateway, HostEntity, MacAddress, Mode, Neighbour, Network, Route, UnderlayFamily,
};

use super::allowed;
use crate::entity::Entity;
use crate::view::{AttachmentView, FabricView, HostView, NetworkView, PlaceView, SubnetView};

/// The agent's form of a VNI. Both types have the same range, so it always exists.
fn vni(v: Vni) -> Option<vtep_proto::Vni> {
    vtep_proto::Vni::new(v.get())
}

/// The agent's form of a unicast MAC address; the API accepts no other.
pub(super) fn mac(m: Mac) -> Option<MacAddress> {
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
    let (Some(vni), Some(mac)) = (vni(network.vni), mac(attachment.mac)) else {
        return;
    };
    if let Some((netns, interface, mode)) = part_of(host, attachment) {
        let own = HostEntity::from(Attachment {
            id: attachment.id.clone(),
            vni,
            mac,
            addresses: attachment.ips.iter().map(|ip| with_prefix(network, *ip)).collect(),
            routes: default_routes(network, &attachment.ips),
            netns: netns.to_owned(),
            interface: interface.to_owned(),
            mtu: 0,
            allowed_addresses: allowed::on_host(network, attachment),
            port_security: attachment.port_security,
            shared_netns: false,
            mode,
        });
        out.push(own.into());
        if mode == Mode::Serving {
            return;
        }
    }
    let vtep = match (attachment.served_by(), &attachment.place) {
        (Some(vtep), _)
        | (
            None,
            PlaceView::Host {
                host: HostView { vtep, .. },
                ..
            },
        ) => vtep,
        (None, PlaceView::Port(access)) => &access.leaf,
    };
    let vtep = vtep.address(fabric.vxlan_underlay);
    out.push(HostEntity::Fdb(FdbEntry { vni, mac, vtep }).into());
    let neighbours = attachment
        .ips
        .iter()
        .map(|ip| HostEntity::Neighbour(Neighbour { vni, ip: *ip, mac }));
    out.extend(neighbours.map(Entity::from));
}

/// Namespace and interface of an attachment on a host, and the part that the host has in it; none if it is elsewhere only.
fn part_of<'a>(host: &HostView, attachment: &'a AttachmentView) -> Option<(&'a str, &'a str, Mode)> {
    let is_here = |its: &HostView| its.vtep.vtep_id == host.vtep.vtep_id;
    match (&attachment.place, &attachment.target) {
        (_, Some(to)) if is_here(&to.host) => {
            let mode = if to.active { Mode::Serving } else { Mode::Standby };
            Some((&to.netns, &to.interface, mode))
        }
        (
            PlaceView::Host {
                host: its,
                netns,
                interface,
            },
            to,
        ) if is_here(its) => {
            let left = to.as_ref().is_some_and(|to| to.active);
            Some((netns, interface, if left { Mode::Leaving } else { Mode::Serving }))
        }
        _ => None,
    }
}

/// The address with the prefix length of its subnet; with that of a single host if no subnet contains it.
fn with_prefix(network: &NetworkView, ip: IpAddr) -> IpNet {
    let subnet = network.subnets.iter().find(|s| s.cidr.contains(&ip));
    let len = subnet.map(|s| s.cidr.prefix_len());
    len.and_then(|len| IpNet::new(ip, len).ok())
        .unwrap_or_else(|| ip.into())
}

/// One default route per family of a routed network, through the gateway of the first subnet in
/// which the workload has an address: other gateways are not on its link.
fn default_routes(network: &NetworkView, ips: &[IpAddr]) -> BTreeSet<Route> {
    if network.vrf.is_none() {
        return BTreeSet::new();
    }
    let own = |s: &&SubnetView| ips.iter().any(|ip| s.cidr.contains(ip));
    let mut v4 = network.subnets.iter().filter(own).filter(|s| s.gateway.is_ipv4());
    let v4 = v4.next().map(|s| {
        let any = Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0);
        Route {
            destination: any.into(),
            via: Some(s.gateway),
        }
    });
    let mut v6 = network.subnets.iter().filter(own).filter(|s| s.gateway.is_ipv6());
    let v6 = v6.next().map(|s| {
        let any = Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0);
        Route {
            destination: any.into(),
            via: Some(s.gateway),
        }
    });
    v4.into_iter().chain(v6).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{AccessView, AllowedView, VtepView};
    use vfabric_api::ident::PortId;

    fn vtep(vtep_id: u16, n: u8) -> VtepView {
        let ipv6 = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n.into());
        VtepView {
            vtep_id,
            ipv4: Ipv4Addr::new(10, 255, 0, n),
            ipv6,
        }
    }

    fn host(n: u8) -> HostView {
        let port = PortId::try_from(u16::from(n)).unwrap();
        HostView {
            name: format!("h{n}"),
            vtep: vtep(n.into(), n),
            mac: Mac([2, 0, 0, 0, 0, n]),
            port,
            leaf: vtep(100, 100),
        }
    }

    fn fabric(family: IpFamily) -> FabricView {
        FabricView {
            mtu: 9216,
            vxlan_underlay: family,
            gateway_mac: Mac([0, 0, 0x5e, 0, 1, 1]),
        }
    }

    fn net(routed: bool) -> NetworkView {
        let subnet = |cidr: &str, gw: &str| SubnetView {
            cidr: cidr.parse().unwrap(),
            gateway: gw.parse().unwrap(),
        };
        NetworkView {
            vni: Vni::try_from(10_001).unwrap(),
            vrf: routed.then(|| Vni::try_from(20_000).unwrap()),
            mtu: 1500,
            subnets: vec![
                subnet("10.0.0.0/24", "10.0.0.1"),
                subnet("fd00:0:0:1::/64", "fd00:0:0:1::1"),
            ],
            static_routes: false,
        }
    }

    fn workload(place: PlaceView) -> AttachmentView {
        let ips = vec!["10.0.0.5".parse().unwrap(), "fd00:0:0:1::5".parse().unwrap()];
        AttachmentView {
            id: "blue/web".into(),
            mac: Mac([2, 0, 0, 0, 9, 9]),
            ips,
            place,
            port_security: true,
            allowed: vec![],
            routes: vec![],
            target: None,
        }
    }

    fn on(n: u8) -> PlaceView {
        PlaceView::Host {
            host: host(n),
            netns: "web".into(),
            interface: "eth0".into(),
        }
    }

    fn render(host: &HostView, network: &NetworkView, a: &AttachmentView, family: IpFamily) -> Vec<HostEntity> {
        let mut out = Vec::new();
        attachment(&fabric(family), host, network, a, &mut out);
        let own = |e| match e {
            Entity::Host(e) => e,
            Entity::Switch(e) => panic!("{e:?} on a host"),
        };
        out.into_iter().map(own).collect()
    }

    /// The host's filter allows everything that the intent allows, not only the workload's own addresses.
    #[test]
    fn exceptions_of_the_attachment_reach_its_host() {
        let mut a = workload(on(1));
        let allow = |net: &str, last: u8| AllowedView {
            net: net.parse().unwrap(),
            mac: Mac([2, 0, 0, 0, 9, last]),
        };
        a.allowed = vec![
            allow("198.51.100.0/24", 9),
            allow("198.51.100.128/25", 7),
            allow("10.0.0.0/30", 9),
        ];
        let rendered = |a: &AttachmentView| match render(&host(1), &net(true), a, IpFamily::Ipv4).as_slice() {
            [HostEntity::Attachment(a)] => a.clone(),
            out => panic!("{out:?}"),
        };
        let guarded = rendered(&a);
        assert!(guarded.port_security);
        let mut words: Vec<String> = Vec::new();
        for allowed in &guarded.allowed_addresses {
            let mac = allowed.mac.map_or_else(String::new, |mac| format!(" {mac}"));
            words.push(format!("{}{mac}", allowed.prefix));
        }
        // Not the gateway, 10.0.0.1; the nested prefix brings its MAC address.
        let expected = [
            "10.0.0.0/32",
            "10.0.0.2/31",
            "198.51.100.0/24",
            "198.51.100.0/24 02:00:00:00:09:07",
        ];
        assert_eq!(words, expected);
        a.port_security = false;
        assert!(!rendered(&a).port_security);
    }

    #[test]
    fn a_workload_of_this_host_gets_its_addresses_and_default_routes() {
        let out = render(&host(1), &net(true), &workload(on(1)), IpFamily::Ipv4);
        let [HostEntity::Attachment(a)] = out.as_slice() else {
            panic!("{out:?}")
        };
        let addresses: Vec<String> = a.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.5/24", "fd00:0:0:1::5/64"]);
        let routes: Vec<String> = a
            .routes
            .iter()
            .map(|r| format!("{} via {:?}", r.destination, r.via))
            .collect();
        assert_eq!(routes, ["0.0.0.0/0 via Some(10.0.0.1)", "::/0 via Some(fd00:0:0:1::1)"]);
        assert_eq!((a.netns.as_str(), a.interface.as_str()), ("web", "eth0"));

        let out = render(&host(1), &net(false), &workload(on(1)), IpFamily::Ipv4);
        let [HostEntity::Attachment(a)] = out.as_slice() else {
            panic!("{out:?}")
        };
        assert!(a.routes.is_empty(), "nobody routes");
    }

    #[test]
    fn a_default_route_goes_through_a_gateway_on_the_workloads_link() {
        let mut routed = net(true);
        let first = SubnetView {
            cidr: "10.9.0.0/24".parse().unwrap(),
            gateway: "10.9.0.1".parse().unwrap(),
        };
        routed.subnets.insert(0, first);
        let mut one_family = workload(on(1));
        one_family.ips.truncate(1);
        let out = render(&host(1), &routed, &one_family, IpFamily::Ipv4);
        let [HostEntity::Attachment(a)] = out.as_slice() else {
            panic!("{out:?}")
        };
        let gateways: Vec<Option<IpAddr>> = a.routes.iter().map(|r| r.via).collect();
        assert_eq!(gateways, ["10.0.0.1".parse().ok()]);
    }

    #[test]
    fn a_workload_elsewhere_is_reached_through_its_vtep() {
        let port = PortId::try_from(10).unwrap();
        let bare_metal = PlaceView::Port(AccessView {
            leaf: vtep(101, 101),
            port,
            vlan: None,
            access_id: 1,
        });
        for (place, v4, v6) in [
            (on(2), "10.255.0.2", "fd00::2"),
            (bare_metal, "10.255.0.101", "fd00::65"),
        ] {
            for (family, want) in [(IpFamily::Ipv4, v4), (IpFamily::Ipv6, v6)] {
                let out = render(&host(1), &net(true), &workload(place.clone()), family);
                let [HostEntity::Fdb(fdb), HostEntity::Neighbour(a), HostEntity::Neighbour(b)] = out.as_slice() else {
                    panic!("{out:?}")
                };
                assert_eq!(fdb.vtep.to_string(), want);
                assert_eq!([a.ip, b.ip].map(|ip| ip.to_string()), ["10.0.0.5", "fd00:0:0:1::5"]);
            }
        }
    }

    /// At every moment exactly one of the two hosts serves, and both that do not, and everybody else, send to it.
    #[test]
    fn of_two_hosts_one_serves_and_the_other_knows_where() {
        use crate::view::TargetView;
        let mut a = workload(on(1));
        for (active, modes, vtep) in [
            (false, [Mode::Serving, Mode::Standby], "10.255.0.1"),
            (true, [Mode::Leaving, Mode::Serving], "10.255.0.2"),
        ] {
            a.target = Some(TargetView {
                host: host(2),
                netns: "moved".into(),
                interface: "eth1".into(),
                active,
            });
            for (n, mode) in (1..).zip(modes) {
                let out = render(&host(n), &net(true), &a, IpFamily::Ipv4);
                let [HostEntity::Attachment(own), others @ ..] = out.as_slice() else {
                    panic!("{out:?}")
                };
                assert_eq!(own.mode, mode, "host {n}, active {active}");
                let place = if n == 1 { ("web", "eth0") } else { ("moved", "eth1") };
                assert_eq!((own.netns.as_str(), own.interface.as_str()), place);
                match others {
                    [] => assert_eq!(mode, Mode::Serving),
                    [HostEntity::Fdb(fdb), ..] => {
                        assert_eq!((fdb.vtep.to_string().as_str(), mode != Mode::Serving), (vtep, true))
                    }
                    _ => panic!("{others:?}"),
                }
            }
            let elsewhere = render(&host(3), &net(true), &a, IpFamily::Ipv4);
            assert!(matches!(elsewhere.as_slice(), [HostEntity::Fdb(fdb), _, _] if fdb.vtep.to_string() == vtep));
        }
    }

    #[test]
    fn only_a_routed_network_has_a_gateway() {
        for routed in [true, false] {
            let mut out = Vec::new();
            network(&fabric(IpFamily::Ipv6), &host(1), &net(routed), &mut out);
            let [Entity::Host(HostEntity::Network(n))] = out.as_slice() else {
                panic!("{out:?}")
            };
            assert_eq!(
                n.flood.iter().map(ToString::to_string).collect::<Vec<_>>(),
                ["fd00::64"]
            );
            assert_eq!(n.gateways.len(), usize::from(routed));
            assert_eq!(n.underlay, UnderlayFamily::Ipv6);
        }
    }
}
