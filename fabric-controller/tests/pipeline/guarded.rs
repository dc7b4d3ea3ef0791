//! Frames that a workload or a host must not send: tags, forged or malformed tunnels, ICMP about other hosts' tunnels,
//! addresses that nobody can have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fabric_pipeline::DropReason;

use crate::cases::*;
use crate::frames::*;
use crate::world::*;

/// An IPv4 address as the IPv4-mapped IPv6 address.
fn mapped(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(a) => a.to_ipv6_mapped().into(),
        IpAddr::V6(_) => ip,
    }
}

impl World {
    pub(crate) fn guarded(&self) -> Vec<Case> {
        let mut cases = self.tags();
        cases.extend(self.mapped_addresses());
        cases.extend(self.vxlan_headers());
        cases.extend(self.udp_checksums());
        cases.extend(self.host_icmp());
        cases.extend(self.martians());
        cases.extend(self.fragments_to_the_gateway());
        cases
    }

    fn tags(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        let on_a = frame(mac(13), mac(21), &echo(v4(A, 21).into(), v4(A, 13).into(), 64, false));
        let on_b = frame(mac(14), mac(22), &echo(v6(B, 22).into(), v6(B, 14).into(), 64, false));
        let cry_b = ethernet(BROADCAST, mac(22), 0x88b5, &[0x42; 46]);
        let mut refuse = |name, port, frame| cases.push(dropped(name, port, frame, DropReason::DoubleTag));
        for tpid in [0x8100, 0x88a8, 0x9100, 0x9200] {
            for inner in [&on_b, &cry_b] {
                let double = tagged(100, &tagged_as(tpid, 20, inner));
                refuse("second tag on a tagged port", ACCESS_B, double);
            }
            let priority = tagged(0, &tagged_as(tpid, 20, &on_a));
            refuse("tag behind a priority tag", ACCESS_A, priority);
        }
        for tpid in [0x88a8, 0x9100, 0x9200] {
            refuse("service tag on an untagged port", ACCESS_A, tagged_as(tpid, 20, &on_a));
        }
        let out = vec![(UPLINK, self.made(SPINE, self.host(3), A, &on_a))];
        cases.push(sent(
            "priority tag on an untagged port",
            ACCESS_A,
            tagged(0, &on_a),
            out,
        ));
        // On a port with VLANs 100 and 200: without a tag, with a priority tag only, with unused tags and tags of
        // others, and with its own tag after another one or as a service tag.
        let mut unknown = vec![on_b.clone(), tagged(0, &on_b)];
        unknown.extend([1, 20, 99, 101, 4094, 4095].map(|vlan| tagged(vlan, &on_b)));
        unknown.extend([0, 20, 4095].map(|vlan| tagged(vlan, &tagged(100, &on_b))));
        unknown.extend([0x88a8, 0x9100, 0x9200].map(|tpid| tagged_as(tpid, 100, &on_b)));
        for frame in unknown {
            let name = "a tag that the port does not have";
            cases.push(dropped(name, ACCESS_B, frame, DropReason::UnknownPort));
        }
        let foreign = tagged(20, &on_a);
        cases.push(dropped(
            "tag on an untagged port",
            ACCESS_A,
            foreign,
            DropReason::UnknownPort,
        ));

        let inner = frame(mac(13), mac(11), &echo(v4(A, 11).into(), v4(A, 13).into(), 64, false));
        for tpid in [0x8100, 0x88a8] {
            let inner = tagged_as(tpid, 20, &inner);
            for (name, to) in [
                ("tag in the tunnel, to the leaf", self.leaf1()),
                ("tag in the tunnel, in transit", self.host(3)),
            ] {
                cases.push(dropped(name, H1, self.h1_sends(to, A, &inner), DropReason::InnerVlan));
            }
            let from_leaf2 = frame(LEAF, SPINE, &vxlan(self.leaf2(), self.leaf1(), 62, A, &inner));
            cases.push(dropped(
                "tag from another leaf",
                UPLINK,
                from_leaf2,
                DropReason::InnerVlan,
            ));
        }
        cases
    }

    fn mapped_addresses(&self) -> Vec<Case> {
        let inner = frame(mac(13), mac(11), &echo(v4(A, 11).into(), v4(A, 13).into(), 64, false));
        let h1_v4: IpAddr = Ipv4Addr::new(10, 255, 1, 1).into();
        let h3_v4: IpAddr = Ipv4Addr::new(10, 255, 1, 3).into();
        let [h1_v6, h3_v6]: [IpAddr; 2] = [1, 3].map(|n| Ipv6Addr::new(0xfd00, 0x255, 1, 0, 0, 0, 0, n).into());
        let pairs = [
            (mapped(h1_v4), mapped(h3_v4)),
            (mapped(h1_v4), h3_v6),
            (h1_v6, mapped(h3_v4)),
        ];
        let mut cases = Vec::new();
        for (src, dst) in pairs {
            let packet = vxlan(src, dst, 64, A, &inner);
            let reason = DropReason::OuterAddress;
            cases.push(dropped(
                "IPv4-mapped, host",
                H1,
                frame(LEAF, host_mac(1), &packet),
                reason,
            ));
            cases.push(dropped(
                "IPv4-mapped, fabric",
                UPLINK,
                frame(LEAF, SPINE, &packet),
                reason,
            ));
            let ping = frame(LEAF, host_mac(1), &echo(src, dst, 64, false));
            cases.push(dropped("IPv4-mapped echo", H1, ping, reason));
        }
        cases
    }

    fn vxlan_headers(&self) -> Vec<Case> {
        let inner = frame(mac(13), mac(11), &echo(v4(A, 11).into(), v4(A, 13).into(), 64, false));
        let mut cases = Vec::new();
        for to in [self.host(3), self.leaf1()] {
            // Octets of the VXLAN header: flags, reserved; after the VNI, reserved.
            for (octet, bits) in [(0, 0x0c), (0, 0x00), (1, 0x01), (3, 0x80), (7, 0x01), (7, 0xff)] {
                let mut packet = vxlan(self.host(1), to, 64, A, &inner);
                let at = packet.len() - inner.len() - 8;
                packet[at + octet] = bits;
                let packet = frame(LEAF, host_mac(1), &packet);
                cases.push(dropped("reserved bits of VXLAN", H1, packet, DropReason::VxlanReserved));
            }
        }
        cases
    }

    fn udp_checksums(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        let odd = [&udp(1, 2, b"an odd number")[..], b""].concat();
        let inners = [
            frame(mac(13), mac(11), &echo(v4(A, 11).into(), v4(A, 13).into(), 64, false)),
            frame(mac(13), mac(11), &echo(v6(A, 11).into(), v6(A, 13).into(), 64, false)),
            frame(mac(13), mac(11), &ipv4(v4(A, 11), v4(A, 13), 64, 17, 0, &odd)),
            frame(
                mac(13),
                mac(11),
                &solicitation(v6(A, 11), v6(A, 13), v6(A, 99), Some([1, 1, 2, 3, 4, 5, 6, 7])),
            ),
            ethernet(
                mac(13),
                mac(11),
                0x0806,
                &arp(2, (mac(11), v4(A, 11)), (mac(13), v4(A, 13))),
            ),
            ethernet(mac(13), mac(11), 0x88b5, &[0x42; 47]),
            // Its datagram sums to zero, so its checksum is 0xffff.
            self.zero_sum(),
        ];
        for inner in &inners {
            let at = |ttl| udp_summed(vxlan(self.host(1), self.host(3), ttl, A, inner));
            let passed = vec![(UPLINK, frame(SPINE, LEAF, &at(63)))];
            cases.push(sent(
                "outer UDP checksum",
                H1,
                frame(LEAF, host_mac(1), &at(64)),
                passed,
            ));
            let mut wrong = at(64);
            let last = wrong.len() - 1;
            wrong[last] ^= 1;
            cases.push(dropped(
                "wrong outer UDP checksum",
                H1,
                frame(LEAF, host_mac(1), &wrong),
                DropReason::Malformed,
            ));
            let to_leaf = udp_summed(vxlan(self.host(1), self.leaf1(), 64, A, inner));
            let inside = vec![(UPLINK, self.made(SPINE, self.host(3), A, inner))];
            cases.push(sent(
                "outer UDP checksum, to the leaf",
                H1,
                frame(LEAF, host_mac(1), &to_leaf),
                inside,
            ));
        }
        cases
    }

    /// A frame whose tunnel from host 1 to host 3 has a UDP checksum that computes to zero.
    fn zero_sum(&self) -> Vec<u8> {
        let filled = |filling: u16| {
            let payload = [&filling.to_be_bytes()[..], &[0; 46]].concat();
            ethernet(mac(13), mac(11), 0x88b5, &payload)
        };
        let at = |packet: &[u8]| if packet[0] >> 4 == 4 { 26 } else { 46 };
        let packet = udp_summed(vxlan(self.host(1), self.host(3), 64, A, &filled(0)));
        let checksum = u16::from_be_bytes([packet[at(&packet)], packet[at(&packet) + 1]]);
        let inner = filled(checksum);
        let packet = udp_summed(vxlan(self.host(1), self.host(3), 64, A, &inner));
        assert_eq!(packet[at(&packet)..at(&packet) + 2], [0xff, 0xff]);
        inner
    }

    /// Of ICMP a host may send echo requests to its leaf; the link's neighbour discovery has
    /// cases of its own.
    fn host_icmp(&self) -> Vec<Case> {
        let (h1, h2, h3, leaf) = (self.host(1), self.host(2), self.host(3), self.leaf1());
        let quoted = vxlan(h2, leaf, 64, A, &[0; 60])[..28].to_vec();
        let body = [&[0, 0, 5, 0][..], &quoted].concat();
        let kinds: &[(u8, u8)] = match h1 {
            // Unreachable, fragmentation needed, source quench, redirect, router advertisement,
            // time exceeded, parameter problem, timestamp, echo reply.
            IpAddr::V4(_) => &[
                (3, 1),
                (3, 4),
                (4, 0),
                (5, 1),
                (9, 0),
                (11, 0),
                (12, 0),
                (13, 0),
                (0, 0),
            ],
            // Unreachable, packet too big, time exceeded, parameter problem, echo reply, router
            // solicitation and advertisement, advertisement, redirect.
            IpAddr::V6(_) => &[
                (1, 0),
                (2, 0),
                (3, 0),
                (4, 0),
                (129, 0),
                (133, 0),
                (134, 0),
                (136, 0),
                (137, 0),
            ],
        };
        let mut cases = Vec::new();
        for to in [leaf, h2, h3, self.leaf2()] {
            for (kind, code) in kinds {
                let packet = icmp(h1, to, 64, *kind, *code, &body);
                let frame_in = frame(LEAF, host_mac(1), &packet);
                cases.push(dropped("ICMP of a host", H1, frame_in, DropReason::HostProtocol));
            }
        }
        for to in [h2, h3, self.leaf2()] {
            let ping = frame(LEAF, host_mac(1), &echo(h1, to, 64, false));
            cases.push(dropped("echo beyond the leaf", H1, ping, DropReason::HostProtocol));
        }
        cases
    }

    fn martians(&self) -> Vec<Case> {
        let v4s = |list: &[[u8; 4]]| list.iter().map(|a| IpAddr::from(*a)).collect::<Vec<_>>();
        let v6s = |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect::<Vec<IpAddr>>();
        let families: [(Vec<IpAddr>, [IpAddr; 3]); 2] = [
            (
                v4s(&[
                    [0, 0, 0, 0],
                    [0, 1, 2, 3],
                    [127, 0, 0, 1],
                    [127, 255, 255, 255],
                    [169, 254, 1, 1],
                    [224, 0, 0, 1],
                    [239, 1, 2, 3],
                    [240, 0, 0, 1],
                    [255, 255, 255, 255],
                ]),
                [v4(A, 11).into(), v4(B, 14).into(), v4(B, 1).into()],
            ),
            (
                v6s(&[
                    "::",
                    "::1",
                    "::10.0.0.11",
                    "::ffff:10.0.0.11",
                    "fe80::1",
                    "febf::1",
                    "ff02::1",
                    "ff0e::1",
                ]),
                [v6(A, 11).into(), v6(B, 14).into(), v6(B, 1).into()],
            ),
        ];
        let mut cases = Vec::new();
        for (martians, [w11, w14, gateway]) in families {
            for martian in martians {
                for (name, src, dst) in [
                    ("martian source", martian, w14),
                    ("martian source, to the gateway", martian, gateway),
                    ("martian destination", w11, martian),
                ] {
                    let asked = frame(GATEWAY, mac(11), &echo(src, dst, 64, false));
                    let frame_in = self.h1_sends(self.leaf1(), A, &asked);
                    cases.push(dropped(name, H1, frame_in, DropReason::Martian));
                }
            }
        }
        cases
    }

    /// An echo request in fragments is not put together again here; each is counted.
    fn fragments_to_the_gateway(&self) -> Vec<Case> {
        let message = echo(v4(A, 11).into(), v4(B, 1).into(), 64, false)[20..].to_vec();
        let behind_header = [&[58, 0, 0, 1, 0, 0, 0, 1][..], &[128, 0, 0, 0, 0, 0, 0, 0]].concat();
        // More fragments follow; the last one, from octet 8 on; IPv6's fragment header.
        let fragments = [
            ipv4(v4(A, 11), v4(B, 1), 64, 1, 0x2000, &message[..8]),
            ipv4(v4(A, 11), v4(B, 1), 64, 1, 0x0001, &message[8..]),
            ipv6(v6(A, 11), v6(B, 1), 64, 44, &behind_header),
        ];
        let case = |packet: &Vec<u8>| {
            let frame_in = self.h1_sends(self.leaf1(), A, &frame(GATEWAY, mac(11), packet));
            dropped("fragment to the gateway", H1, frame_in, DropReason::GatewayProtocol)
        };
        fragments.iter().map(case).collect()
    }
}
