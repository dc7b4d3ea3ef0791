//! A leaf in a small fabric: hosts h1 (port 3) and h2 (port 4), access ports 10 (untagged)
//! and 11 (VLAN 100), a spine on port 1 and, behind it, leaf 2 with host h3. Networks A and
//! B of one router; network C without one, on leaf 2 only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fabric_controller::entity::Entity;
use fabric_controller::render::{FabricRender, Render};
use fabric_controller::view::*;
use ipnet::IpNet;
use p4runtime_client::entity::Entity as SwitchEntity;
use vfabric_api::ident::{self, PortId, Vni};
use vfabric_api::topology::{IpFamily, Role};

use crate::frames::Mac;

pub(crate) const GATEWAY: Mac = [0x00, 0x00, 0x5e, 0x00, 0x01, 0x01];
pub(crate) const LEAF: Mac = [0x02, 0xfa, 0xb0, 0, 0, 3];
pub(crate) const SPINE: Mac = [0x02, 0xfa, 0xb0, 0, 0, 1];
pub(crate) const A: u32 = 10_001;
pub(crate) const B: u32 = 10_002;
pub(crate) const C: u32 = 10_003;
const VRF: u32 = 20_000;
/// The MTU of network B; that of A is 1500.
pub(crate) const MTU_B: u16 = 1400;

pub(crate) fn host_mac(n: u8) -> Mac {
    [2, 0, 0, 0, 1, n]
}

/// MAC address of workload `n`.
pub(crate) fn mac(n: u8) -> Mac {
    [2, 0xaa, 0, 0, 0, n]
}

pub(crate) fn v4(net: u32, n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, (net - A) as u8, n)
}

pub(crate) fn v6(net: u32, n: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 0, 0, (net - A + 1) as u16, 0, 0, 0, n.into())
}

fn switch_vtep(vtep_id: u16, n: u8) -> VtepView {
    let ipv6 = Ipv6Addr::new(0xfd00, 0x255, 0, 0, 0, 0, 0, n.into());
    VtepView {
        vtep_id,
        ipv4: Ipv4Addr::new(10, 255, 0, n),
        ipv6,
    }
}

fn host_vtep(n: u8) -> VtepView {
    let ipv6 = Ipv6Addr::new(0xfd00, 0x255, 1, 0, 0, 0, 0, n.into());
    VtepView {
        vtep_id: 10 + u16::from(n),
        ipv4: Ipv4Addr::new(10, 255, 1, n),
        ipv6,
    }
}

fn port(n: u16) -> PortId {
    PortId::try_from(n).unwrap()
}

fn vni(n: u32) -> Vni {
    Vni::try_from(n).unwrap()
}

/// A virtual router's MAC address (RFC 9568 section 7.3), which workload 22 may use.
pub(crate) const VRRP: Mac = [0, 0, 0x5e, 0, 1, 7];

/// Further addresses from which workload 22 may send: prefixes that contain the gateway, and a virtual router's
/// address.
fn allowed() -> Vec<AllowedView> {
    let of = |net: &str, mac: Mac| AllowedView {
        net: net.parse().unwrap(),
        mac: ident::Mac(mac),
    };
    vec![
        of("10.0.1.0/28", mac(22)),
        of("fd00:0:0:2::/124", mac(22)),
        of("10.0.1.200/32", VRRP),
        of("fd00:0:0:2::c8/128", VRRP),
    ]
}

/// Static routes of the router: everything to workload 14, and a site to workload 22.
const ALL: [&str; 2] = ["0.0.0.0/0", "::/0"];
const SITE: [&str; 2] = ["198.51.100.0/24", "2001:db8:7::/48"];

fn static_routes(to: [&str; 2]) -> Vec<IpNet> {
    to.map(|net| net.parse().unwrap()).to_vec()
}

pub(crate) struct World {
    pub(crate) family: IpFamily,
    fabric: FabricView,
    leaf: SwitchView,
    leaf2: VtepView,
}

impl World {
    pub(crate) fn new(family: IpFamily) -> Self {
        let fabric = FabricView {
            mtu: 9216,
            vxlan_underlay: family,
            gateway_mac: ident::Mac(GATEWAY),
        };
        let leaf = SwitchView {
            name: "leaf1".into(),
            role: Role::Leaf,
            device_id: 3,
            vtep: switch_vtep(1, 3),
            router_mac: ident::Mac(LEAF),
            fabric_ports: vec![FabricPort {
                port: port(1),
                peer_mac: ident::Mac(SPINE),
            }],
            access_ports: vec![port(10), port(11)],
        };
        Self {
            family,
            fabric,
            leaf,
            leaf2: switch_vtep(2, 4),
        }
    }

    fn address(&self, vtep: &VtepView) -> IpAddr {
        vtep.address(self.family)
    }

    /// Underlay address of leaf 1, of leaf 2, of host `n`.
    pub(crate) fn leaf1(&self) -> IpAddr {
        self.address(&self.leaf.vtep)
    }
    pub(crate) fn leaf2(&self) -> IpAddr {
        self.address(&self.leaf2)
    }
    pub(crate) fn host(&self, n: u8) -> IpAddr {
        self.address(&host_vtep(n))
    }

    fn host_view(&self, n: u8) -> HostView {
        let (leaf, uplink) = if n == 3 {
            (&self.leaf2, 3)
        } else {
            (&self.leaf.vtep, u16::from(n) + 2)
        };
        HostView {
            name: format!("h{n}"),
            vtep: host_vtep(n),
            mac: ident::Mac(host_mac(n)),
            port: port(uplink),
            leaf: leaf.clone(),
        }
    }

    fn network(&self, n: u32) -> NetworkView {
        let subnet = |cidr: String, gateway| SubnetView {
            cidr: cidr.parse().unwrap(),
            gateway,
        };
        let v4_subnet = subnet(format!("{}/24", v4(n, 0)), v4(n, 1).into());
        let v6_subnet = subnet(format!("{}/64", v6(n, 0)), v6(n, 1).into());
        NetworkView {
            vni: vni(n),
            vrf: Some(vni(VRF)),
            mtu: if n == B { MTU_B } else { 1500 },
            subnets: vec![v4_subnet, v6_subnet],
            static_routes: true,
        }
    }

    fn access(&self, p: u16, vlan: Option<u16>, access_id: u16) -> AccessView {
        AccessView {
            leaf: self.leaf.vtep.clone(),
            port: port(p),
            vlan,
            access_id,
        }
    }

    /// Workload `n` of network `net`: 11 on h1, 12 on h2, 13 on h3 and 21 on port 10 in A;
    /// 14 on h3, 22 on VLAN 100 and 23, without port security, on VLAN 200 of port 11 in B.
    fn attachment(&self, net: u32, n: u8, place: PlaceView) -> (u32, AttachmentView) {
        let ips = vec![v4(net, n).into(), v6(net, n).into()];
        (
            net,
            AttachmentView {
                id: format!("t/w{n}"),
                mac: ident::Mac(mac(n)),
                ips,
                place,
                port_security: true,
                allowed: vec![],
                routes: vec![],
                target: None,
            },
        )
    }

    fn on_host(&self, n: u8) -> PlaceView {
        PlaceView::Host {
            host: self.host_view(n),
            netns: "w".into(),
            interface: "eth0".into(),
        }
    }

    /// Everything that leaf 1 holds.
    pub(crate) fn entities(&self) -> Vec<SwitchEntity> {
        let (render, fabric, leaf) = (FabricRender, &self.fabric, &self.leaf);
        let mut out = Vec::new();
        render.switch(fabric, leaf, &mut out);
        let others = [
            (1, switch_vtep(0, 1), vec![]),
            (4, self.leaf2.clone(), vec![host_vtep(3)]),
        ];
        for (group_id, destination, hosts) in others {
            let next_hops = leaf.fabric_ports.clone();
            render.path(&PathView { group_id, next_hops }, &mut out);
            let behind = BehindView {
                group_id,
                destination,
                hosts,
            };
            render.behind(fabric, leaf, &behind, &mut out);
        }
        for n in [1, 2] {
            render.local_host(fabric, leaf, &self.host_view(n), &mut out);
        }
        for n in [A, B] {
            render.network_on_leaf(fabric, leaf, &self.network(n), &mut out);
            render.routed_network_on_leaf(fabric, leaf, &self.network(n), &mut out);
        }
        let flood_a = FloodView {
            group_all: 1,
            group_local: 2,
            hosts: vec![self.host_view(1), self.host_view(2)],
            access: vec![self.access(10, None, 1)],
            remote: vec![(self.leaf2.clone(), port(1))],
        };
        let flood_b = FloodView {
            group_all: 3,
            group_local: 4,
            hosts: vec![],
            access: vec![self.access(11, Some(100), 2)],
            remote: vec![(self.leaf2.clone(), port(1))],
        };
        render.flood_on_leaf(fabric, leaf, &self.network(A), &flood_a, &mut out);
        render.flood_on_leaf(fabric, leaf, &self.network(B), &flood_b, &mut out);
        for n in [1, 2] {
            render.host_network_on_leaf(fabric, leaf, &self.host_view(n), &self.network(A), &mut out);
        }
        let mut w22 = self.attachment(B, 22, PlaceView::Port(self.access(11, Some(100), 2)));
        w22.1.allowed = allowed();
        let mut w23 = self.attachment(B, 23, PlaceView::Port(self.access(11, Some(200), 3)));
        w23.1.port_security = false;
        let mut w14 = self.attachment(B, 14, self.on_host(3));
        w14.1.routes = static_routes(ALL);
        w22.1.routes = static_routes(SITE);
        let attachments = [
            self.attachment(A, 11, self.on_host(1)),
            self.attachment(A, 12, self.on_host(2)),
            self.attachment(A, 13, self.on_host(3)),
            self.attachment(A, 21, PlaceView::Port(self.access(10, None, 1))),
            w14,
            w22,
            w23,
        ];
        for (net, attachment) in &attachments {
            render.attachment_on_leaf(fabric, leaf, &self.network(*net), attachment, true, &mut out);
        }
        out.into_iter()
            .map(|e| match e {
                Entity::Switch(e) => e,
                Entity::Host(e) => panic!("{e:?} on a leaf"),
            })
            .collect()
    }
}
