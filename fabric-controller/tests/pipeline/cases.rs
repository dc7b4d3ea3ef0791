//! Input frames and expected output frames, octet by octet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fabric_pipeline::DropReason;

use crate::frames::*;
use crate::world::*;

pub(crate) const BROADCAST: Mac = [0xff; 6];
pub(crate) const H1: u16 = 3;
pub(crate) const H2: u16 = 4;
pub(crate) const UPLINK: u16 = 1;
pub(crate) const ACCESS_A: u16 = 10;
pub(crate) const ACCESS_B: u16 = 11;

pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) port: u16,
    pub(crate) frame: Vec<u8>,
    pub(crate) out: Vec<(u16, Vec<u8>)>,
    pub(crate) drop: Option<DropReason>,
}

pub(crate) fn sent(name: &'static str, port: u16, frame: Vec<u8>, out: Vec<(u16, Vec<u8>)>) -> Case {
    Case {
        name,
        port,
        frame,
        out,
        drop: None,
    }
}

pub(crate) fn dropped(name: &'static str, port: u16, frame: Vec<u8>, reason: DropReason) -> Case {
    Case {
        name,
        port,
        frame,
        out: vec![],
        drop: Some(reason),
    }
}

/// Dropped, and its sender (or somebody else) gets an ICMP error.
pub(crate) fn with_error(
    name: &'static str,
    port: u16,
    frame: Vec<u8>,
    reason: DropReason,
    out: Vec<(u16, Vec<u8>)>,
) -> Case {
    Case {
        name,
        port,
        frame,
        out,
        drop: Some(reason),
    }
}

/// Both families of workload `n` of a network.
pub(crate) fn ips(net: u32, n: u8) -> [IpAddr; 2] {
    [v4(net, n).into(), v6(net, n).into()]
}

impl World {
    /// A tunnelled frame as host 1 sends it.
    pub(crate) fn h1_sends(&self, dst: IpAddr, vni: u32, inner: &[u8]) -> Vec<u8> {
        frame(LEAF, host_mac(1), &vxlan(self.host(1), dst, 64, vni, inner))
    }

    /// A tunnelled frame as the leaf makes it.
    pub(crate) fn made(&self, link: Mac, dst: IpAddr, vni: u32, inner: &[u8]) -> Vec<u8> {
        frame(link, LEAF, &vxlan(self.leaf1(), dst, 64, vni, inner))
    }

    pub(crate) fn cases(&self) -> Vec<Case> {
        let mut cases = self.tunnelled();
        cases.extend(self.bare_metal());
        cases.extend(self.flooded());
        cases.extend(self.refused());
        cases.extend(self.answered());
        cases.extend(self.guarded());
        cases.extend(self.source_guard());
        cases.extend(self.icmp_errors());
        cases.extend(self.static_routes());
        cases
    }

    fn tunnelled(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for ((w11, w13), (w14, w22)) in ips(A, 11)
            .into_iter()
            .zip(ips(A, 13))
            .zip(ips(B, 14).into_iter().zip(ips(B, 22)))
        {
            let inner = frame(mac(13), mac(11), &echo(w11, w13, 64, false));
            let passed = frame(SPINE, LEAF, &vxlan(self.host(1), self.host(3), 63, A, &inner));
            cases.push(sent(
                "same network, in transit",
                H1,
                self.h1_sends(self.host(3), A, &inner),
                vec![(UPLINK, passed)],
            ));

            let asked = frame(GATEWAY, mac(11), &echo(w11, w14, 64, false));
            let routed = frame(mac(14), GATEWAY, &echo(w11, w14, 63, false));
            let out = vec![(UPLINK, self.made(SPINE, self.host(3), B, &routed))];
            cases.push(sent(
                "routed in one pass, host to host",
                H1,
                self.h1_sends(self.leaf1(), A, &asked),
                out,
            ));

            let asked = frame(GATEWAY, mac(11), &echo(w11, w22, 2, false));
            let routed = tagged(100, &frame(mac(22), GATEWAY, &echo(w11, w22, 1, false)));
            let out = vec![(ACCESS_B, routed)];
            cases.push(sent(
                "routed to a tagged access port",
                H1,
                self.h1_sends(self.leaf1(), A, &asked),
                out,
            ));
        }
        for (w11, gateway) in ips(A, 11).into_iter().zip(ips(B, 1)) {
            let asked = frame(GATEWAY, mac(11), &echo(w11, gateway, 1, false));
            let said = frame(mac(11), GATEWAY, &echo(gateway, w11, 64, true));
            let out = vec![(H1, self.made(host_mac(1), self.host(1), A, &said))];
            cases.push(sent(
                "gateway answers echo",
                H1,
                self.h1_sends(self.leaf1(), A, &asked),
                out,
            ));
        }
        // Options are routed, and their checksum stays right.
        let options = [1, 1, 1, 0];
        let with = |ttl| ipv4_with(v4(A, 11), v4(B, 22), ttl, 17, 0, &options, &udp(1, 2, b"options"));
        let asked = self.h1_sends(self.leaf1(), A, &frame(GATEWAY, mac(11), &with(64)));
        let routed = tagged(100, &frame(mac(22), GATEWAY, &with(63)));
        cases.push(sent(
            "IPv4 options inside are routed",
            H1,
            asked,
            vec![(ACCESS_B, routed)],
        ));
        for to in ips_of(self.leaf1()) {
            let asked = frame(LEAF, host_mac(1), &echo(self.host(1), to, 64, false));
            let said = frame(host_mac(1), LEAF, &echo(to, self.host(1), 64, true));
            cases.push(sent("loopback answers echo", H1, asked, vec![(H1, said)]));
        }
        cases
    }

    fn bare_metal(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for ((w11, w13), (w21, w22)) in ips(A, 11)
            .into_iter()
            .zip(ips(A, 13))
            .zip(ips(A, 21).into_iter().zip(ips(B, 22)))
        {
            let inner = frame(mac(13), mac(21), &echo(w21, w13, 64, false));
            let out = vec![(UPLINK, self.made(SPINE, self.host(3), A, &inner))];
            cases.push(sent("bare metal to a remote host", ACCESS_A, inner, out));

            let inner = frame(mac(21), mac(13), &echo(w13, w21, 64, true));
            let tunnel = frame(LEAF, SPINE, &vxlan(self.host(3), self.leaf1(), 62, A, &inner));
            cases.push(sent(
                "remote host to bare metal",
                UPLINK,
                tunnel,
                vec![(ACCESS_A, inner)],
            ));

            let inner = frame(mac(11), mac(21), &echo(w21, w11, 64, false));
            let out = vec![(H1, self.made(host_mac(1), self.host(1), A, &inner))];
            cases.push(sent("bare metal to a local host", ACCESS_A, inner, out));

            let asked = tagged(100, &frame(GATEWAY, mac(22), &echo(w22, w21, 64, false)));
            let routed = frame(mac(21), GATEWAY, &echo(w22, w21, 63, false));
            cases.push(sent(
                "bare metal to bare metal, routed",
                ACCESS_B,
                asked,
                vec![(ACCESS_A, routed)],
            ));
        }
        for (w22, gateway) in ips(B, 22).into_iter().zip(ips(B, 1)) {
            let asked = tagged(100, &frame(GATEWAY, mac(22), &echo(w22, gateway, 64, false)));
            let said = tagged(100, &frame(mac(22), GATEWAY, &echo(gateway, w22, 64, true)));
            cases.push(sent(
                "gateway answers on a tagged port",
                ACCESS_B,
                asked,
                vec![(ACCESS_B, said)],
            ));
        }
        // A tenant's own VXLAN stays inside its network, whatever its content.
        let tenant_vxlan = vxlan(
            v4(A, 21).into(),
            v4(A, 13).into(),
            64,
            B,
            &frame(mac(14), mac(21), &[0x45]),
        );
        let inner = frame(mac(13), mac(21), &tenant_vxlan);
        let out = vec![(UPLINK, self.made(SPINE, self.host(3), A, &inner))];
        cases.push(sent("tenant VXLAN is payload", ACCESS_A, inner, out));
        let inner = frame(GATEWAY, mac(21), &echo(v4(B, 22).into(), v4(B, 14).into(), 64, false));
        let forged = vxlan(self.host(1), self.leaf1(), 64, B, &inner);
        let forged = frame(LEAF, mac(21), &forged);
        cases.push(dropped(
            "tenant VXLAN to the leaf",
            ACCESS_A,
            forged,
            DropReason::FabricMac,
        ));
        let untagged = frame(mac(14), mac(22), &echo(v4(B, 22).into(), v4(B, 14).into(), 64, false));
        cases.push(dropped(
            "untagged on a tagged port",
            ACCESS_B,
            untagged,
            DropReason::UnknownPort,
        ));
        let spanning_tree = ethernet([0x01, 0x80, 0xc2, 0, 0, 0], mac(21), 0x0027, &[0x42; 39]);
        cases.push(dropped(
            "link-local group address",
            ACCESS_A,
            spanning_tree,
            DropReason::ReservedMac,
        ));
        cases
    }

    fn flooded(&self) -> Vec<Case> {
        let cry = |n: u8| {
            ethernet(
                BROADCAST,
                mac(n),
                0x88b5,
                b"is anybody there?.............................",
            )
        };
        let to = |n: u8| (u16::from(n) + 2, self.made(host_mac(n), self.host(n), A, &cry(11)));
        let h1 = vec![
            to(2),
            (ACCESS_A, cry(11)),
            (UPLINK, self.made(SPINE, self.leaf2(), A, &cry(11))),
        ];
        let local = |n: u8| (u16::from(n) + 2, self.made(host_mac(n), self.host(n), A, &cry(13)));
        let from_leaf2 = frame(LEAF, SPINE, &vxlan(self.leaf2(), self.leaf1(), 62, A, &cry(13)));
        let from_access = vec![
            (H1, self.made(host_mac(1), self.host(1), A, &cry(21))),
            (H2, self.made(host_mac(2), self.host(2), A, &cry(21))),
            (UPLINK, self.made(SPINE, self.leaf2(), A, &cry(21))),
        ];
        let stray = frame(mac(13), mac(14), &echo(v4(A, 14).into(), v4(A, 13).into(), 64, false));
        let stray = frame(LEAF, SPINE, &vxlan(self.leaf2(), self.leaf1(), 62, A, &stray));
        vec![
            sent("broadcast of a host", H1, self.h1_sends(self.leaf1(), A, &cry(11)), h1),
            sent(
                "broadcast from another leaf",
                UPLINK,
                from_leaf2,
                vec![local(1), local(2), (ACCESS_A, cry(13))],
            ),
            sent("broadcast of bare metal", ACCESS_A, cry(21), from_access),
            dropped("never back into the fabric", UPLINK, stray, DropReason::SplitHorizon),
        ]
    }

    fn refused(&self) -> Vec<Case> {
        use DropReason::{
            HostProtocol, HostSource, HostVni, InnerVlan, LocalProtocol, Malformed, UnknownVni, VxlanReserved,
        };
        let inner = frame(mac(13), mac(11), &echo(v4(A, 11).into(), v4(A, 13).into(), 64, false));
        let (h1, h3, leaf) = (self.host(1), self.host(3), self.leaf1());
        let link = |packet: &[u8]| frame(LEAF, host_mac(1), packet);
        let mut cases = vec![
            dropped("forged VNI, in transit", H1, self.h1_sends(h3, C, &inner), HostVni),
            dropped("forged VNI, to the leaf", H1, self.h1_sends(leaf, B, &inner), HostVni),
            dropped(
                "forged source",
                H1,
                link(&vxlan(self.host(2), h3, 64, A, &inner)),
                HostSource,
            ),
            dropped(
                "other protocol",
                H1,
                link(&underlay(h1, h3, 64, 6, &[0; 20])),
                HostProtocol,
            ),
            dropped(
                "other UDP port",
                H1,
                link(&underlay(h1, h3, 64, 17, &udp(1, 53, b"?"))),
                HostProtocol,
            ),
            dropped(
                "tag in the tunnel",
                H1,
                self.h1_sends(leaf, A, &tagged(5, &inner)),
                InnerVlan,
            ),
        ];
        let mut flags = vxlan(h1, h3, 64, A, &inner);
        let at = flags.len() - inner.len() - 8;
        flags[at] = 0x0c;
        cases.push(dropped("VXLAN with reserved flags", H1, link(&flags), VxlanReserved));
        let mut long = self.h1_sends(h3, A, &inner);
        long.extend([0; 4]);
        cases.push(dropped("octets after the packet", H1, long, Malformed));
        let cut = self.h1_sends(h3, A, &inner)[..40].to_vec();
        cases.push(dropped("cut short", H1, cut, Malformed));
        let unknown = frame(LEAF, SPINE, &vxlan(self.leaf2(), leaf, 62, C, &inner));
        cases.push(dropped("network that is not here", UPLINK, unknown, UnknownVni));
        let tcp = frame(LEAF, SPINE, &underlay(h3, leaf, 62, 6, &[0; 20]));
        cases.push(dropped("TCP to the loopback", UPLINK, tcp, LocalProtocol));
        if let (IpAddr::V4(h1), IpAddr::V4(h3)) = (h1, h3) {
            let payload = udp(
                SPORT,
                4789,
                &[&[8, 0, 0, 0][..], &(A << 8).to_be_bytes(), &inner].concat(),
            );
            let fragment = ipv4(h1, h3, 64, 17, 0x2000, &payload);
            cases.push(dropped("fragment", H1, link(&fragment), HostProtocol));
            let options = ipv4_with(h1, h3, 64, 17, 0, &[1, 1, 1, 0], &payload);
            cases.push(dropped("options", H1, link(&options), HostProtocol));
            let mut damaged = link(&vxlan(h1.into(), h3.into(), 64, A, &inner));
            damaged[24] ^= 1;
            cases.push(dropped("wrong checksum", H1, damaged, Malformed));
        }
        if let (IpAddr::V6(h1), IpAddr::V6(h3)) = (h1, h3) {
            let payload = udp(
                SPORT,
                4789,
                &[&[8, 0, 0, 0][..], &(A << 8).to_be_bytes(), &inner].concat(),
            );
            let behind_options = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &payload].concat();
            let extension = ipv6(h1, h3, 64, 60, &behind_options);
            cases.push(dropped("extension header", H1, link(&extension), HostProtocol));
        }
        cases
    }

    fn answered(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        let b21 = (mac(21), v4(A, 21));
        for (owner, n) in [(mac(13), 13), (GATEWAY, 1)] {
            let asked = ethernet(BROADCAST, mac(21), 0x0806, &arp(1, b21, ([0; 6], v4(A, n))));
            let said = ethernet(mac(21), owner, 0x0806, &arp(2, (owner, v4(A, n)), b21));
            cases.push(sent("ARP on an access port", ACCESS_A, asked, vec![(ACCESS_A, said)]));
        }
        let probe = ethernet(
            BROADCAST,
            mac(21),
            0x0806,
            &arp(1, (mac(21), Ipv4Addr::UNSPECIFIED), ([0; 6], v4(A, 21))),
        );
        cases.push(dropped(
            "ARP probe for its own address",
            ACCESS_A,
            probe,
            DropReason::OwnProbe,
        ));
        let (loopback4, loopback6) = (
            Ipv4Addr::new(10, 255, 0, 3),
            Ipv6Addr::new(0xfd00, 0x255, 0, 0, 0, 0, 0, 3),
        );
        let h1 = (host_mac(1), Ipv4Addr::new(10, 255, 1, 1));
        let asked = ethernet(BROADCAST, host_mac(1), 0x0806, &arp(1, h1, ([0; 6], loopback4)));
        let said = ethernet(host_mac(1), LEAF, 0x0806, &arp(2, (LEAF, loopback4), h1));
        cases.push(sent("ARP for the loopback", H1, asked, vec![(H1, said)]));
        let other = ethernet(
            BROADCAST,
            host_mac(1),
            0x0806,
            &arp(1, h1, ([0; 6], Ipv4Addr::new(10, 255, 1, 2))),
        );
        cases.push(dropped("ARP for another host", H1, other, DropReason::NotForRouter));

        let group = |ip: Ipv6Addr| {
            let [.., a, b, c] = ip.octets();
            let ip = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
            (ip, [0x33, 0x33, 0xff, a, b, c])
        };
        let option = |mac: Mac| Some([1, 1, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]]);
        for (owner, n, flags) in [(mac(13), 13, 0x60), (GATEWAY, 1, 0xe0)] {
            let (to, to_mac) = group(v6(A, n));
            let asked = frame(to_mac, mac(21), &solicitation(v6(A, 21), to, v6(A, n), option(mac(21))));
            let said = frame(mac(21), owner, &advertisement(v6(A, 21), v6(A, n), flags, owner));
            cases.push(sent(
                "solicitation on an access port",
                ACCESS_A,
                asked,
                vec![(ACCESS_A, said)],
            ));
        }
        let (to, to_mac) = group(v6(A, 13));
        let nobody = Ipv6Addr::UNSPECIFIED;
        let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let asked = frame(to_mac, mac(21), &solicitation(nobody, to, v6(A, 13), None));
        let taken = advertisement(all_nodes, v6(A, 13), 0x20, mac(13));
        let said = frame([0x33, 0x33, 0, 0, 0, 1], mac(13), &taken);
        cases.push(sent("address that is taken", ACCESS_A, asked, vec![(ACCESS_A, said)]));
        let (to, to_mac) = group(v6(A, 21));
        let nonce = Some([14, 1, 1, 2, 3, 4, 5, 6]);
        let own = frame(to_mac, mac(21), &solicitation(nobody, to, v6(A, 21), nonce));
        cases.push(dropped(
            "probe for its own address",
            ACCESS_A,
            own,
            DropReason::OwnProbe,
        ));

        let h1 = Ipv6Addr::new(0xfd00, 0x255, 1, 0, 0, 0, 0, 1);
        let said = frame(host_mac(1), LEAF, &advertisement(h1, loopback6, 0xe0, LEAF));
        let (to, to_mac) = group(loopback6);
        let asked = frame(
            to_mac,
            host_mac(1),
            &solicitation(h1, to, loopback6, option(host_mac(1))),
        );
        cases.push(sent(
            "solicitation for the loopback",
            H1,
            asked,
            vec![(H1, said.clone())],
        ));
        let asked = frame(LEAF, host_mac(1), &solicitation(h1, loopback6, loopback6, None));
        cases.push(sent("is the loopback still there", H1, asked, vec![(H1, said)]));
        cases
    }
}

/// The address alone; a list so that callers can loop.
fn ips_of(address: IpAddr) -> [IpAddr; 1] {
    [address]
}
