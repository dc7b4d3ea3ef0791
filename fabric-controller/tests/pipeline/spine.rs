//! A spine with leaf 3 on port 1 and leaf 4 on ports 3 and 4 (two cables).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fabric_controller::entity::Entity;
use fabric_controller::render::{FabricRender, Render};
use fabric_controller::view::*;
use fabric_pipeline::DropReason;
use p4runtime_client::entity::Entity as SwitchEntity;
use vfabric_api::ident::{self, PortId};
use vfabric_api::topology::{IpFamily, Role};

use crate::cases::{Case, dropped, sent};
use crate::frames::*;

pub(crate) const SPINE: Mac = [0x02, 0xfa, 0xb0, 0, 0, 1];

pub(crate) fn leaf_mac(n: u8) -> Mac {
    [0x02, 0xfa, 0xb0, 0, 0, n]
}

fn loopback(n: u8) -> VtepView {
    let ipv6 = Ipv6Addr::new(0xfd00, 0x255, 0, 0, 0, 0, 0, n.into());
    VtepView {
        vtep_id: 0,
        ipv4: Ipv4Addr::new(10, 255, 0, n),
        ipv6,
    }
}

fn host(n: u8) -> VtepView {
    let ipv6 = Ipv6Addr::new(0xfd00, 0x255, 1, 0, 0, 0, 0, n.into());
    VtepView {
        vtep_id: 10 + u16::from(n),
        ipv4: Ipv4Addr::new(10, 255, 1, n),
        ipv6,
    }
}

/// Underlay address of host `n`.
pub(crate) fn host_address(n: u8) -> IpAddr {
    host(n).ipv4.into()
}

pub(crate) fn entities() -> Vec<SwitchEntity> {
    let fabric = FabricView {
        mtu: 9216,
        vxlan_underlay: IpFamily::Ipv4,
        gateway_mac: ident::Mac([0, 0, 0x5e, 0, 1, 1]),
    };
    let link = |port: u16, peer| FabricPort {
        port: PortId::try_from(port).unwrap(),
        peer_mac: ident::Mac(leaf_mac(peer)),
    };
    let spine = SwitchView {
        name: "spine1".into(),
        role: Role::Spine,
        device_id: 1,
        vtep: loopback(1),
        router_mac: ident::Mac(SPINE),
        fabric_ports: vec![link(1, 3), link(3, 4), link(4, 4)],
        access_ports: vec![],
    };
    let mut out = Vec::new();
    FabricRender.switch(&fabric, &spine, &mut out);
    let leaves = [
        (3u8, vec![host(1)], vec![link(1, 3)]),
        (4, vec![host(3)], vec![link(3, 4), link(4, 4)]),
        // Leaf 5 cannot be reached now.
        (5, vec![], vec![]),
    ];
    for (leaf, hosts, next_hops) in leaves {
        let group_id = leaf.into();
        FabricRender.path(&PathView { group_id, next_hops }, &mut out);
        let destination = VtepView {
            vtep_id: leaf.into(),
            ..loopback(leaf)
        };
        let behind = BehindView {
            group_id,
            destination,
            hosts,
        };
        FabricRender.behind(&fabric, &spine, &behind, &mut out);
    }
    let switch = |e| match e {
        Entity::Switch(e) => e,
        Entity::Host(e) => panic!("{e:?} on a spine"),
    };
    out.into_iter().map(switch).collect()
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for family in [IpFamily::Ipv4, IpFamily::Ipv6] {
        let [h1, h3, leaf5, me] = [host(1), host(3), loopback(5), loopback(1)].map(|v| v.address(family));
        let tunnel = |dst, ttl| vxlan(h3, dst, ttl, 10_001, &[0x42; 60]);
        let from_leaf4 = |packet: &[u8]| frame(SPINE, leaf_mac(4), packet);
        let passed = vec![(1, frame(leaf_mac(3), SPINE, &tunnel(h1, 62)))];
        cases.push(sent("in transit", 3, from_leaf4(&tunnel(h1, 63)), passed));
        let said = vec![(1, frame(leaf_mac(3), SPINE, &echo(me, h1, 64, true)))];
        cases.push(sent(
            "loopback answers echo",
            1,
            frame(SPINE, leaf_mac(3), &echo(h1, me, 63, false)),
            said,
        ));
        cases.push(dropped(
            "TTL used up",
            3,
            from_leaf4(&tunnel(h1, 1)),
            DropReason::TtlExpired,
        ));
        cases.push(dropped(
            "no tunnel ends here",
            3,
            from_leaf4(&tunnel(me, 63)),
            DropReason::LocalProtocol,
        ));
        cases.push(dropped(
            "cut off",
            3,
            from_leaf4(&tunnel(leaf5, 63)),
            DropReason::NoUnderlayRoute,
        ));
        let mapped = IpAddr::from(Ipv4Addr::new(10, 255, 1, 1).to_ipv6_mapped());
        let ends = [(h3, mapped), (mapped, h1)];
        for (src, dst) in ends.into_iter().filter(|_| family == IpFamily::Ipv6) {
            cases.push(dropped(
                "IPv4-mapped",
                3,
                from_leaf4(&underlay(src, dst, 63, 17, &udp(SPORT, 4789, &[0x42; 60]))),
                DropReason::OuterAddress,
            ));
        }
        let nobody: IpAddr = match family {
            IpFamily::Ipv4 => Ipv4Addr::new(192, 0, 2, 1).into(),
            IpFamily::Ipv6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into(),
        };
        cases.push(dropped(
            "unknown address",
            3,
            from_leaf4(&tunnel(nobody, 63)),
            DropReason::NoUnderlayRoute,
        ));
        cases.push(dropped(
            "unknown port",
            10,
            from_leaf4(&tunnel(h1, 63)),
            DropReason::UnknownPort,
        ));
    }
    let broadcast = ethernet([0xff; 6], leaf_mac(4), 0x88b5, &[0; 46]);
    cases.push(dropped("not for the router", 3, broadcast, DropReason::NotForRouter));
    cases
}

/// Number of flows, and of packets of each.
const FLOWS: u16 = 32;
const PACKETS: usize = 3;

/// Tunnels from leaf 3 to host 3 that differ in their source port.
pub(crate) fn flows() -> Vec<(u16, Vec<u8>)> {
    let flow = |n: u16| {
        let payload = udp(SPORT + n, 4789, &[&[8, 0, 0, 0, 0, 0, 1, 0][..], &[0x42; 60]].concat());
        let packet = underlay(host(1).ipv4.into(), host(3).ipv4.into(), 63, 17, &payload);
        (1, frame(SPINE, leaf_mac(3), &packet))
    };
    (0..FLOWS).flat_map(|n| std::iter::repeat_n(flow(n), PACKETS)).collect()
}

/// Every packet left by one of the two cables, all packets of a flow by the same one, and both are used.
pub(crate) fn check_spread(sent: &[(u16, Vec<u8>)], out: &BTreeMap<u16, Vec<Vec<u8>>>) {
    let by_port = |port: u16| {
        let mut count: BTreeMap<[u8; 2], usize> = BTreeMap::new();
        for frame in out.get(&port).into_iter().flatten() {
            *count.entry([frame[34], frame[35]]).or_default() += 1;
        }
        count
    };
    let (a, b) = (by_port(3), by_port(4));
    assert_eq!(a.values().chain(b.values()).sum::<usize>(), sent.len());
    assert!(
        a.values().chain(b.values()).all(|n| *n == PACKETS),
        "a flow took both paths: {a:?} {b:?}"
    );
    assert!(
        !a.is_empty() && !b.is_empty(),
        "one path carries everything: {a:?} {b:?}"
    );
}
