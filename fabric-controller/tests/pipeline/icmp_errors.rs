//! ICMP errors that a leaf makes: their form, their receiver, packets about which none is sent, and their rate.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bmv2_tests::program::Core;
use etherparse::{IpSlice, SlicedPacket, TransportSlice};
use fabric_pipeline::{DropReason, Pipeline};
use vfabric_api::topology::IpFamily;

use crate::cases::*;
use crate::frames::*;
use crate::p4_switch;
use crate::world::*;

/// Type and code of an error, IPv4's and IPv6's.
type Kinds = [(u8, u8); 2];

const TIME_EXCEEDED: Kinds = [(11, 0), (3, 0)];
const NO_HOST: Kinds = [(3, 1), (1, 3)];
const NO_PORT: Kinds = [(3, 3), (1, 4)];
const TOO_BIG: Kinds = [(3, 4), (2, 0)];

/// The error about a packet, from the gateway of network `net`.
fn error(net: u32, about: &[u8], kinds: Kinds, mtu: u16) -> Vec<u8> {
    let [v4_kind, v6_kind] = kinds;
    if about[0] >> 4 == 4 {
        icmp_error(v4(net, 1).into(), about, v4_kind.0, v4_kind.1, mtu)
    } else {
        icmp_error(v6(net, 1).into(), about, v6_kind.0, v6_kind.1, mtu)
    }
}

/// UDP between two addresses of one family; over IPv4 with these flags.
fn udp_packet(src: IpAddr, dst: IpAddr, ttl: u8, flags: u16, payload: &[u8]) -> Vec<u8> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => ipv4(src, dst, ttl, 17, flags, &udp(33_434, 33_435, payload)),
        (IpAddr::V6(src), IpAddr::V6(dst)) => ipv6(src, dst, ttl, 17, &udp(33_434, 33_435, payload)),
        _ => panic!("two families"),
    }
}

/// UDP in an IP packet of this many octets.
fn sized(src: IpAddr, dst: IpAddr, flags: u16, octets: usize) -> Vec<u8> {
    let header = if src.is_ipv4() { 20 } else { 40 };
    udp_packet(src, dst, 64, flags, &vec![0x42; octets - header - 8])
}

impl World {
    /// Workload 11, on host 1, sends to the gateway's MAC address; the error comes back through the tunnel.
    fn w11_hears(&self, name: &'static str, about: &[u8], reason: DropReason, kinds: Kinds, mtu: u16) -> Case {
        let said = frame(mac(11), GATEWAY, &error(A, about, kinds, mtu));
        let out = vec![(H1, self.made(host_mac(1), self.host(1), A, &said))];
        with_error(name, H1, self.w11_asks(about), reason, out)
    }

    fn w11_asks(&self, packet: &[u8]) -> Vec<u8> {
        self.h1_sends(self.leaf1(), A, &frame(GATEWAY, mac(11), packet))
    }

    pub(crate) fn icmp_errors(&self) -> Vec<Case> {
        let mut cases = self.errors_into_tunnels();
        cases.extend(self.errors_on_access_ports());
        cases.extend(self.too_big());
        cases.extend(self.fragments_refused());
        cases.extend(self.no_errors());
        cases
    }

    fn errors_into_tunnels(&self) -> Vec<Case> {
        use DropReason::{GatewayProtocol, NoRoute, TtlExpired};
        let mut cases = Vec::new();
        for ((w11, w14), (nobody, gateway)) in ips(A, 11)
            .into_iter()
            .zip(ips(B, 14))
            .zip(ips(B, 99).into_iter().zip(ips(B, 1)))
        {
            for ttl in [0, 1] {
                let ping = echo(w11, w14, ttl, false);
                cases.push(self.w11_hears("TTL used up", &ping, TtlExpired, TIME_EXCEEDED, 0));
            }
            let reply = echo(w11, w14, 1, true);
            cases.push(self.w11_hears("TTL of a reply used up", &reply, TtlExpired, TIME_EXCEEDED, 0));
            let long = udp_packet(w11, w14, 1, 0, &[7; 1201]);
            cases.push(self.w11_hears("TTL of a long packet used up", &long, TtlExpired, TIME_EXCEEDED, 0));
            let short = udp_packet(w11, w14, 1, 0, &[]);
            cases.push(self.w11_hears("TTL of 8 octets used up", &short, TtlExpired, TIME_EXCEEDED, 0));
            let ping = echo(w11, nobody, 64, false);
            cases.push(self.w11_hears("no such address", &ping, NoRoute, NO_HOST, 0));
            let probe = udp_packet(w11, gateway, 1, 0, b"traceroute");
            cases.push(self.w11_hears("no port of the gateway", &probe, GatewayProtocol, NO_PORT, 0));
        }
        // A packet that asks for low delay, and is marked for ECN.
        let mut marked = udp_packet(v4(A, 11).into(), v4(B, 14).into(), 1, 0, b"marked");
        marked[1] = 0x2f;
        let checksum = ipv4_checksum(&marked);
        marked[10..12].copy_from_slice(&checksum);
        cases.push(self.w11_hears("type of service", &marked, TtlExpired, TIME_EXCEEDED, 0));
        // The sender's leaf routed wrongly, or its host sends to another leaf: the error comes back through the tunnel
        // that was used.
        for (w13, w22) in ips(A, 13).into_iter().zip(ips(B, 22)) {
            let ping = echo(w13, w22, 1, false);
            let tunnel = vxlan(self.host(3), self.leaf1(), 62, A, &frame(GATEWAY, mac(13), &ping));
            let said = frame(mac(13), GATEWAY, &error(A, &ping, TIME_EXCEEDED, 0));
            let out = vec![(UPLINK, self.made(SPINE, self.host(3), A, &said))];
            let frame_in = frame(LEAF, SPINE, &tunnel);
            cases.push(with_error(
                "TTL used up, through the fabric",
                UPLINK,
                frame_in,
                TtlExpired,
                out,
            ));
        }
        cases
    }

    fn errors_on_access_ports(&self) -> Vec<Case> {
        use DropReason::{GatewayProtocol, NoRoute, TtlExpired};
        let mut cases = Vec::new();
        let targets = ips(B, 22).into_iter().zip(ips(A, 21));
        for ((w22, w21), (nobody, gateway)) in targets.zip(ips(A, 99).into_iter().zip(ips(A, 1))) {
            for (packet, reason, kinds) in [
                (echo(w22, w21, 1, false), TtlExpired, TIME_EXCEEDED),
                (echo(w22, nobody, 64, false), NoRoute, NO_HOST),
                (udp_packet(w22, gateway, 64, 0, b"?"), GatewayProtocol, NO_PORT),
            ] {
                let said = tagged(100, &frame(mac(22), GATEWAY, &error(B, &packet, kinds, 0)));
                let frame_in = tagged(100, &frame(GATEWAY, mac(22), &packet));
                let out = vec![(ACCESS_B, said)];
                cases.push(with_error("error on a tagged port", ACCESS_B, frame_in, reason, out));
            }
            let ping = echo(w21, w22, 1, false);
            let said = frame(mac(21), GATEWAY, &error(A, &ping, TIME_EXCEEDED, 0));
            // Frames are padded to 60 octets, and more; priority tags belong to no VLAN.
            let plain = frame(GATEWAY, mac(21), &ping);
            let padded = [&plain[..], &[0xee; 30]].concat();
            for frame_in in [plain.clone(), padded, tagged(0, &plain)] {
                let out = vec![(ACCESS_A, said.clone())];
                cases.push(with_error(
                    "error on an untagged port",
                    ACCESS_A,
                    frame_in,
                    TtlExpired,
                    out,
                ));
            }
        }
        cases
    }

    fn too_big(&self) -> Vec<Case> {
        use DropReason::TooBig;
        const DF: u16 = 0x4000;
        let mtu = usize::from(MTU_B);
        let mut cases = Vec::new();
        for ((w11, w14), (w21, w22)) in ips(A, 11)
            .into_iter()
            .zip(ips(B, 14))
            .zip(ips(A, 21).into_iter().zip(ips(B, 22)))
        {
            for flags in [DF, 0] {
                for octets in [mtu + 1, 1500] {
                    let big = sized(w11, w14, flags, octets);
                    cases.push(self.w11_hears("too big for a tunnel", &big, TooBig, TOO_BIG, MTU_B));
                    let big = sized(w11, w22, flags, octets);
                    cases.push(self.w11_hears("too big for an access port", &big, TooBig, TOO_BIG, MTU_B));
                }
            }
            let big = sized(w21, w22, DF, mtu + 1);
            let said = frame(mac(21), GATEWAY, &error(A, &big, TOO_BIG, MTU_B));
            let frame_in = frame(GATEWAY, mac(21), &big);
            cases.push(with_error(
                "too big, of bare metal",
                ACCESS_A,
                frame_in,
                TooBig,
                vec![(ACCESS_A, said)],
            ));
            // TTL is checked first (RFC 1812 section 5.3.1).
            let mut old = big;
            old[if w21.is_ipv4() { 8 } else { 7 }] = 1;
            if w21.is_ipv4() {
                let checksum = ipv4_checksum(&old);
                old[10..12].copy_from_slice(&checksum);
            }
            let said = frame(mac(21), GATEWAY, &error(A, &old, TIME_EXCEEDED, 0));
            let out = vec![(ACCESS_A, said)];
            let frame_in = frame(GATEWAY, mac(21), &old);
            cases.push(with_error(
                "too big and too old",
                ACCESS_A,
                frame_in,
                DropReason::TtlExpired,
                out,
            ));

            let as_routed = |src: IpAddr, dst: IpAddr, octets| {
                let mut packet = sized(src, dst, DF, octets);
                packet[if src.is_ipv4() { 8 } else { 7 }] = 63;
                if src.is_ipv4() {
                    let checksum = ipv4_checksum(&packet);
                    packet[10..12].copy_from_slice(&checksum);
                }
                packet
            };
            let out = vec![(
                ACCESS_B,
                tagged(100, &frame(mac(22), GATEWAY, &as_routed(w11, w22, mtu))),
            )];
            let asked = self.w11_asks(&sized(w11, w22, DF, mtu));
            cases.push(sent("as large as may be", H1, asked, out));
            // Into the network with the larger MTU.
            let out = vec![(ACCESS_A, frame(mac(21), GATEWAY, &as_routed(w22, w21, 1500)))];
            let asked = tagged(100, &frame(GATEWAY, mac(22), &sized(w22, w21, DF, 1500)));
            cases.push(sent("as large as may be there", ACCESS_B, asked, out));
        }
        cases
    }

    /// Of fragments, only the first is answered, and only if it is certainly not an ICMP error.
    fn fragments_refused(&self) -> Vec<Case> {
        use DropReason::TtlExpired;
        let (w11, w14) = (v4(A, 11), v4(B, 14));
        let data = udp(1, 2, &[9; 40]);
        let of_v4 = |flags, protocol| ipv4(w11, w14, 1, protocol, flags, &data);
        let of_v6 = |next, offset: u16, hop_limit| {
            let [high, low] = (offset << 3 | 1).to_be_bytes();
            let payload = [&[next, 0, high, low, 0, 0, 0, 9][..], &data].concat();
            ipv6(v6(A, 11), v6(B, 14), hop_limit, 44, &payload)
        };
        let silent = |name, packet: &[u8]| dropped(name, H1, self.w11_asks(packet), TtlExpired);
        vec![
            self.w11_hears("first fragment", &of_v4(0x2000, 17), TtlExpired, TIME_EXCEEDED, 0),
            self.w11_hears("first fragment", &of_v6(17, 0, 1), TtlExpired, TIME_EXCEEDED, 0),
            self.w11_hears("first fragment", &of_v6(6, 0, 1), TtlExpired, TIME_EXCEEDED, 0),
            silent("fragment", &of_v4(0x2001, 17)),
            silent("last fragment", &of_v4(0x0005, 17)),
            silent("fragment of ICMP", &of_v4(0x2000, 1)),
            silent("fragment", &of_v6(17, 1, 1)),
            silent("fragment of ICMP", &of_v6(58, 0, 1)),
            silent("fragment of options", &of_v6(60, 0, 1)),
        ]
    }

    fn no_errors(&self) -> Vec<Case> {
        use DropReason::{GatewayProtocol, Martian, NoRoute, TtlExpired};
        let mut cases = Vec::new();
        let mut silent = |name, packet: &[u8], reason| cases.push(dropped(name, H1, self.w11_asks(packet), reason));
        let [w11, w11_v6] = ips(A, 11);
        let [w14, w14_v6] = ips(B, 14);
        let quoted = [&[0; 4][..], &echo(w14, w11, 64, false)[..28]].concat();
        for kind in [1, 2, 3, 4, 5, 6, 9, 10, 11, 12] {
            silent("about ICMP", &icmp(w11, w14, 1, kind, 0, &quoted), TtlExpired);
            silent(
                "about ICMP",
                &icmp(w11, v4(B, 99).into(), 64, kind, 0, &quoted),
                NoRoute,
            );
        }
        for kind in [0, 1, 2, 3, 4, 100, 127, 137] {
            silent("about ICMPv6", &icmp(w11_v6, w14_v6, 1, kind, 0, &quoted), TtlExpired);
        }
        // After extension headers, there could be anything.
        for next in [0, 43, 51, 60] {
            let payload = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &udp(1, 2, b"hidden")].concat();
            silent(
                "extension header",
                &ipv6(v6(A, 11), v6(B, 14), 1, next, &payload),
                TtlExpired,
            );
        }
        let options = ipv4_with(v4(A, 11), v4(B, 14), 1, 17, 0, &[1, 1, 1, 0], &udp(1, 2, b"options"));
        silent("options", &options, TtlExpired);
        silent("7 octets", &ipv4(v4(A, 11), v4(B, 14), 1, 99, 0, &[0; 7]), TtlExpired);
        silent("7 octets", &ipv6(v6(A, 11), v6(B, 14), 1, 99, &[0; 7]), TtlExpired);
        // A length that the frame does not have.
        let mut short = ipv6(v6(A, 11), v6(B, 14), 1, 99, &[0; 7]);
        short[5] = 8;
        silent("8 octets, cut", &short, TtlExpired);
        silent(
            "TCP to the gateway",
            &ipv4(v4(A, 11), v4(B, 1), 64, 6, 0, &[0; 20]),
            GatewayProtocol,
        );

        // No station of the network: gateway, broadcast, network, other networks, martians.
        let [b, c] = [v4(B, 14), v4(C, 5)];
        for src in [v4(A, 1), v4(A, 255), v4(A, 0), b, c, Ipv4Addr::new(192, 0, 2, 1)] {
            silent("source", &udp_packet(src.into(), w14, 1, 0, b"?"), TtlExpired);
            silent(
                "source",
                &udp_packet(src.into(), v4(B, 99).into(), 64, 0, b"?"),
                NoRoute,
            );
        }
        for src in [
            v6(A, 1),
            v6(A, 0),
            v6(B, 14),
            v6(C, 5),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1),
        ] {
            silent("source", &udp_packet(src.into(), w14_v6, 1, 0, b"?"), TtlExpired);
        }
        for src in [[127, 0, 0, 1], [224, 0, 0, 1], [255; 4], [0; 4]] {
            let src = IpAddr::from(src);
            silent("martian", &udp_packet(src, w14, 1, 0, b"?"), Martian);
            silent(
                "martian to nobody",
                &udp_packet(src, v4(B, 99).into(), 64, 0, b"?"),
                NoRoute,
            );
        }
        // To groups and broadcasts.
        for dst in [v4(A, 255), v4(B, 255), [255; 4].into(), [224, 0, 0, 9].into()] {
            silent("broadcast", &udp_packet(w11, dst.into(), 1, 0, b"?"), Martian);
        }
        silent(
            "group",
            &udp_packet(w11_v6, Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 9).into(), 1, 0, b"?"),
            Martian,
        );
        cases
    }
}

/// Beyond the rate of a subnet, no error is sent, but the drop is still counted. Other subnets have their own rates.
fn rate(core: Core) {
    let world = World::new(IpFamily::Ipv4);
    let flood = |src: IpAddr, dst: IpAddr| (H1, world.w11_asks(&echo(src, dst, 1, false)));
    let mut packets = vec![flood(v4(A, 11).into(), v4(B, 14).into()); 150];
    packets.push(flood(v6(A, 11).into(), v6(B, 14).into()));
    let of_b = echo(v4(B, 22).into(), v4(A, 21).into(), 1, false);
    packets.push((ACCESS_B, tagged(100, &frame(GATEWAY, mac(22), &of_b))));
    let outcome = p4_switch::run(core, Pipeline::LEAF, &world.entities(), &packets);
    assert_eq!(outcome.out[&H1].len(), 101, "errors for A, by {}", core.name());
    assert_eq!(outcome.out[&ACCESS_B].len(), 1, "errors for B, by {}", core.name());
    assert_eq!(outcome.drops, [(DropReason::TtlExpired as u32, 152)].into());
    assert_eq!(outcome.icmp_errors, [(0, 102), (2, 50)].into());
}

#[test]
fn engine_rate() {
    rate(Core::Engine);
}

#[test]
fn interpreter_rate() {
    rate(Core::Interpreter);
}

#[test]
fn reference_rate() {
    rate(Core::Reference);
}

/// An independent library parses the errors and verifies their checksums.
#[test]
fn errors_are_well_formed() {
    let world = World::new(IpFamily::Ipv4);
    let addresses = ips(B, 22).into_iter().zip(ips(A, 21));
    let packets: Vec<Vec<u8>> = addresses
        .map(|(w22, w21)| udp_packet(w22, w21, 1, 0, &[5; 99]))
        .collect();
    let frames: Vec<_> = packets
        .iter()
        .map(|p| (ACCESS_B, tagged(100, &frame(GATEWAY, mac(22), p))))
        .collect();
    let outcome = p4_switch::run(Core::Engine, Pipeline::LEAF, &world.entities(), &frames);
    let errors = &outcome.out[&ACCESS_B];
    assert_eq!(errors.len(), packets.len());
    for (error, about) in errors.iter().zip(&packets) {
        let parsed = SlicedPacket::from_ethernet(error).unwrap();
        let ip = IpSlice::from_slice(&error[18..]).unwrap();
        match (&ip, parsed.transport) {
            (IpSlice::Ipv4(ip), Some(TransportSlice::Icmpv4(message))) => {
                let header = ip.header().to_header();
                assert_eq!(header.calc_header_checksum(), header.header_checksum);
                let sum = message.icmp_type().calc_checksum(message.payload());
                assert_eq!(sum, message.checksum(), "{}", crate::hex(error));
                assert_eq!(message.payload(), &about[..28]);
            }
            (IpSlice::Ipv6(ip), Some(TransportSlice::Icmpv6(message))) => {
                let header = ip.header();
                assert!(
                    message.is_checksum_valid(header.source(), header.destination()),
                    "{}",
                    crate::hex(error)
                );
                assert_eq!(message.payload(), &about[..48]);
            }
            _ => panic!("{}", crate::hex(error)),
        }
    }
}
