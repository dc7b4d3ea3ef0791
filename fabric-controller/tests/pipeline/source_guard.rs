//! Machines on access ports that use addresses of others, with and without permission.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use fabric_pipeline::DropReason;

use crate::cases::*;
use crate::frames::*;
use crate::world::*;

const NOBODY: Mac = [2, 0xbb, 0, 0, 0, 1];
/// The link-local address of workload 21.
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x00aa, 0x00ff, 0xfe00, 21);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];

/// A neighbour advertisement or solicitation with any source, and any number of options.
fn neighbour(kind: u8, src: Ipv6Addr, dst: Ipv6Addr, target: Ipv6Addr, options: &[[u8; 8]]) -> Vec<u8> {
    let rest = [&[0; 4][..], &target.octets(), &options.concat()].concat();
    icmp(src.into(), dst.into(), 255, kind, 0, &rest)
}

fn option(kind: u8, mac: Mac) -> [u8; 8] {
    [kind, 1, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]]
}

impl World {
    pub(crate) fn source_guard(&self) -> Vec<Case> {
        let mut cases = self.stations();
        cases.extend(self.arp_senders());
        cases.extend(self.nd_senders());
        cases.extend(self.rogue_servers());
        cases.extend(self.hidden_servers());
        cases.extend(self.in_parts());
        cases.extend(self.exceptions());
        cases
    }

    /// A frame of workload 21 that is bridged to host 3.
    fn passes(&self, name: &'static str, inner: Vec<u8>) -> Case {
        let out = vec![(UPLINK, self.made(SPINE, self.host(3), A, &inner))];
        sent(name, ACCESS_A, inner, out)
    }

    /// A frame of workload 21 that is flooded in its network.
    fn floods(&self, name: &'static str, inner: Vec<u8>) -> Case {
        let out = vec![
            (H1, self.made(host_mac(1), self.host(1), A, &inner)),
            (H2, self.made(host_mac(2), self.host(2), A, &inner)),
            (UPLINK, self.made(SPINE, self.leaf2(), A, &inner)),
        ];
        sent(name, ACCESS_A, inner, out)
    }

    fn stations(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for (w21, w13) in ips(A, 21).into_iter().zip(ips(A, 13)) {
            for source in [NOBODY, mac(13), mac(22), GATEWAY, LEAF] {
                let inner = frame(mac(13), source, &echo(w21, w13, 64, false));
                cases.push(dropped("another MAC address", ACCESS_A, inner, DropReason::SourceMac));
            }
        }
        let other_v4 = [
            v4(A, 13),
            v4(A, 1),
            v4(A, 99),
            v4(B, 22),
            Ipv4Addr::LOCALHOST,
            Ipv4Addr::UNSPECIFIED,
        ];
        let other_v6 = [
            v6(A, 13),
            v6(A, 1),
            v6(A, 99),
            v6(B, 22),
            Ipv6Addr::LOCALHOST,
            Ipv6Addr::UNSPECIFIED,
        ];
        let other_v6 = other_v6.into_iter().chain(["fe80::1".parse().unwrap()]);
        let others = other_v4.map(IpAddr::from).into_iter().chain(other_v6.map(IpAddr::from));
        for other in others {
            let (bridged, routed) = match other {
                IpAddr::V4(_) => (v4(A, 13).into(), v4(B, 14).into()),
                IpAddr::V6(_) => (v6(A, 13).into(), v6(B, 14).into()),
            };
            for (to, dst) in [(mac(13), bridged), (GATEWAY, routed)] {
                let inner = frame(to, mac(21), &echo(other, dst, 64, false));
                cases.push(dropped("another IP address", ACCESS_A, inner, DropReason::SourceIp));
            }
        }
        let inner = frame(mac(13), mac(21), &echo(LINK_LOCAL.into(), v6(A, 13).into(), 64, false));
        cases.push(self.passes("link-local address of the MAC address", inner));
        cases.push(self.passes("neither IP nor ARP", ethernet(mac(13), mac(21), 0x88b5, &[0x42; 46])));
        cases
    }

    fn arp_senders(&self) -> Vec<Case> {
        use DropReason::{SourceIp, SourceNeighbour};
        let w13 = (mac(13), v4(A, 13));
        let mut cases = Vec::new();
        for claimed in [v4(A, 1), v4(A, 13), v4(B, 22), v4(A, 99)] {
            for (opcode, to) in [(1, BROADCAST), (2, mac(13)), (2, BROADCAST)] {
                let packet = arp(opcode, (mac(21), claimed), w13);
                let inner = ethernet(to, mac(21), 0x0806, &packet);
                cases.push(dropped("ARP for another address", ACCESS_A, inner, SourceIp));
                let packet = arp(opcode, (mac(21), claimed), (mac(21), claimed));
                let inner = ethernet(to, mac(21), 0x0806, &packet);
                cases.push(dropped("gratuitous ARP for another address", ACCESS_A, inner, SourceIp));
            }
        }
        for claimed in [mac(13), GATEWAY, NOBODY] {
            let inner = ethernet(mac(13), mac(21), 0x0806, &arp(2, (claimed, v4(A, 21)), w13));
            cases.push(dropped("ARP for another MAC address", ACCESS_A, inner, SourceNeighbour));
        }
        let probe_reply = arp(2, (mac(21), Ipv4Addr::UNSPECIFIED), w13);
        let inner = ethernet(mac(13), mac(21), 0x0806, &probe_reply);
        cases.push(dropped("ARP reply from nowhere", ACCESS_A, inner, SourceIp));
        let mut odd = arp(2, (mac(21), v4(A, 21)), w13);
        odd[4] = 8; // the sender's IP address would stand elsewhere
        let inner = ethernet(mac(13), mac(21), 0x0806, &odd);
        cases.push(dropped("ARP of another shape", ACCESS_A, inner, SourceNeighbour));
        let inner = ethernet(mac(13), mac(21), 0x0806, &arp(2, (mac(21), v4(A, 21)), w13));
        cases.push(self.passes("ARP reply for itself", inner));
        cases
    }

    fn nd_senders(&self) -> Vec<Case> {
        use DropReason::{SourceIp, SourceNeighbour};
        const NS: u8 = 135;
        const NA: u8 = 136;
        let (me, w13) = (v6(A, 21), v6(A, 13));
        let own = [option(2, mac(21))];
        let mut cases = Vec::new();
        let mut refuse = |name, packet: &[u8], reason| {
            let inner = frame(mac(13), mac(21), packet);
            cases.push(dropped(name, ACCESS_A, inner, reason));
        };
        for claimed in [v6(A, 1), v6(A, 13), v6(A, 99)] {
            refuse(
                "advertisement from another",
                &neighbour(NA, claimed, w13, claimed, &own),
                SourceIp,
            );
            refuse(
                "advertisement for another",
                &neighbour(NA, me, w13, claimed, &own),
                SourceNeighbour,
            );
            let bare = neighbour(NA, me, w13, claimed, &[]);
            refuse("advertisement for another, no option", &bare, SourceNeighbour);
        }
        for claimed in [mac(13), GATEWAY, NOBODY] {
            let packet = neighbour(NA, me, w13, me, &[option(2, claimed)]);
            refuse("advertised MAC address", &packet, SourceNeighbour);
            let packet = neighbour(NS, me, w13, v6(A, 99), &[option(1, claimed)]);
            refuse("solicitation's MAC address", &packet, SourceNeighbour);
        }
        let two = [option(14, [1; 6]), option(1, GATEWAY)];
        refuse(
            "second option of a solicitation",
            &neighbour(NS, me, w13, v6(A, 99), &two),
            SourceNeighbour,
        );
        refuse(
            "second option of an advertisement",
            &neighbour(NA, me, w13, me, &two),
            SourceNeighbour,
        );
        let inner = frame(mac(13), mac(21), &neighbour(NA, me, w13, me, &own));
        cases.push(self.passes("advertisement for itself", inner));
        cases
    }

    fn rogue_servers(&self) -> Vec<Case> {
        use DropReason::RogueServer;
        let (me4, me6) = (v4(A, 21), v6(A, 21));
        let mut cases = Vec::new();
        let mut refuse =
            |name, to, packet: &[u8]| cases.push(dropped(name, ACCESS_A, frame(to, mac(21), packet), RogueServer));
        for kind in [134, 137] {
            for src in [LINK_LOCAL, me6] {
                let packet = icmp(src.into(), ALL_NODES.into(), 255, kind, 0, &[0; 36]);
                refuse("router advertisement or redirect", ALL_NODES_MAC, &packet);
            }
        }
        let advertisement = icmp(LINK_LOCAL.into(), ALL_NODES.into(), 255, 134, 0, &[0; 12])[40..].to_vec();
        for header in [0, 43, 44, 51, 60] {
            let hidden = [&[58, 0, 1, 4, 0, 0, 0, 0][..], &advertisement].concat();
            refuse(
                "hidden advertisement",
                ALL_NODES_MAC,
                &ipv6(LINK_LOCAL, ALL_NODES, 255, header, &hidden),
            );
        }
        let offer = udp(67, 68, &[2; 240]);
        refuse(
            "DHCP offer",
            BROADCAST,
            &ipv4(me4, Ipv4Addr::BROADCAST, 64, 17, 0, &offer),
        );
        refuse("DHCP offer, unicast", mac(13), &ipv4(me4, v4(A, 13), 64, 17, 0, &offer));
        let options = ipv4_with(me4, v4(A, 13), 64, 17, 0, &[1, 1, 1, 0], &offer);
        refuse("DHCP offer behind options", mac(13), &options);
        let fragment = ipv4(me4, Ipv4Addr::BROADCAST, 64, 17, 0x2000, &offer);
        refuse("DHCP offer in fragments", BROADCAST, &fragment);
        refuse(
            "DHCPv6 reply",
            mac(13),
            &ipv6(me6, v6(A, 13), 64, 17, &udp(547, 546, &[7; 40])),
        );

        let discover = ipv4(
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::BROADCAST,
            64,
            17,
            0,
            &udp(68, 67, &[1; 240]),
        );
        cases.push(self.floods("DHCP discovery", frame(BROADCAST, mac(21), &discover)));
        let report = [&[58, 0, 5, 2, 0, 0, 1, 0][..], &[143, 0, 0, 0, 0, 0, 0, 0]].concat();
        let routers = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16);
        for src in [LINK_LOCAL, Ipv6Addr::UNSPECIFIED] {
            let packet = ipv6(src, routers, 1, 0, &report);
            let inner = frame([0x33, 0x33, 0, 0, 0, 0x16], mac(21), &packet);
            cases.push(self.floods("multicast listener report", inner));
        }
        let solicitation = icmp(Ipv6Addr::UNSPECIFIED.into(), ALL_NODES.into(), 255, 133, 0, &[0; 4]);
        cases.push(self.floods("router solicitation", frame(ALL_NODES_MAC, mac(21), &solicitation)));
        cases
    }

    /// Clients of DHCP do not look at the port that an answer comes from; their systems put fragments together and
    /// read past extension headers.
    fn hidden_servers(&self) -> Vec<Case> {
        use DropReason::RogueServer;
        let (me4, me6) = (v4(A, 21), v6(A, 21));
        let (w13, w13_v6) = (v4(A, 13), v6(A, 13));
        let mut cases = Vec::new();
        let mut refuse =
            |name, packet: &[u8]| cases.push(dropped(name, ACCESS_A, frame(mac(13), mac(21), packet), RogueServer));
        for from in [1, 68, 1067] {
            let offer = ipv4(me4, w13, 64, 17, 0, &udp(from, 68, &[2; 240]));
            refuse("DHCP offer from another port", &offer);
        }
        for from in [1, 546, 1547] {
            for src in [me6, LINK_LOCAL] {
                let reply = ipv6(src, w13_v6, 64, 17, &udp(from, 546, &[7; 40]));
                refuse("DHCPv6 reply from another port", &reply);
            }
        }
        // "More fragments", and everything in the first.
        let first = ipv4(me4, w13, 64, 17, 0x2000, &udp(67, 68, &[2; 240]));
        refuse("DHCP offer in fragments for one station", &first);
        let reply = udp(547, 546, &[7; 40]);
        for more in [0, 1] {
            let part = [&[17, 0, 0, more, 0, 0, 0, 9][..], &reply].concat();
            refuse("DHCPv6 reply in fragments", &ipv6(me6, w13_v6, 64, 44, &part));
        }
        for header in [0, 43, 51, 60] {
            let behind = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &reply].concat();
            refuse("DHCPv6 reply behind a header", &ipv6(me6, w13_v6, 64, header, &behind));
            for second in [0, 43, 44, 51, 60] {
                let two = [&[second, 0, 1, 4, 0, 0, 0, 0][..], &behind].concat();
                refuse("DHCPv6 reply behind two headers", &ipv6(me6, w13_v6, 64, header, &two));
            }
            let part = [&[header, 0, 0, 1, 0, 0, 0, 9][..], &behind].concat();
            refuse(
                "DHCPv6 reply behind a header in fragments",
                &ipv6(me6, w13_v6, 64, 44, &part),
            );
        }

        let poison = arp(2, (mac(21), v4(A, 1)), (mac(13), w13));
        let foreign = echo(v4(A, 99).into(), w13.into(), 64, false);
        for (kind, packet) in [([8, 6], &poison), ([8, 0], &foreign)] {
            let snap = [&[0xaa, 0xaa, 3, 0, 0, 0][..], &kind, packet].concat();
            let inner = ethernet(mac(13), mac(21), snap.len() as u16, &snap);
            cases.push(dropped("SNAP", ACCESS_A, inner, RogueServer));
            let inner = ethernet(mac(14), mac(22), snap.len() as u16, &snap);
            cases.push(dropped("SNAP behind a tag", ACCESS_B, tagged(100, &inner), RogueServer));
        }
        cases
    }

    /// What looks like the above and hides no server.
    fn in_parts(&self) -> Vec<Case> {
        let (me4, me6) = (v4(A, 21), v6(A, 21));
        let (w13, w13_v6) = (v4(A, 13), v6(A, 13));
        let (large, small) = (udp(68, 4000, &[9; 40]), [9]);
        let part = |next, place: [u8; 2], payload: &[u8]| {
            let header = [next, 0, place[0], place[1], 0, 0, 0, 9];
            ipv6(me6, w13_v6, 64, 44, &[&header[..], payload].concat())
        };
        let behind = |next| [&[next, 0, 1, 4, 0, 0, 0, 0][..], &[8; 24]].concat();
        let mut packets = vec![
            ("first fragment of UDP", ipv4(me4, w13, 64, 17, 0x2000, &large)),
            ("last fragment of UDP", ipv4(me4, w13, 64, 17, 0x0006, &small)),
            ("first fragment of UDP over IPv6", part(17, [0, 1], &large)),
            ("last fragment of UDP over IPv6", part(17, [0, 0x30], &small)),
            ("last fragment behind a header", part(60, [0, 0x30], &small)),
            ("first fragment of TCP over IPv6", part(6, [0, 1], &[1; 24])),
        ];
        packets.extend([0, 43, 51, 60].map(|header| {
            let name = "TCP behind a header";
            (name, ipv6(me6, w13_v6, 64, header, &behind(6)))
        }));
        let mut cases: Vec<Case> = packets
            .into_iter()
            .map(|(name, packet)| self.passes(name, frame(mac(13), mac(21), &packet)))
            .collect();
        // NetBIOS, as IEEE 802.2 carries it.
        let llc = ethernet(mac(13), mac(21), 46, &[&[0xf0, 0xf0, 3][..], &[0x42; 43]].concat());
        cases.push(self.passes("LLC without SNAP", llc));
        cases
    }

    /// `allowed_addresses` of workload 22, and workload 23 without port security.
    fn exceptions(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        let of = |source: Mac, src: IpAddr| {
            let dst = if src.is_ipv4() {
                v4(B, 14).into()
            } else {
                v6(B, 14).into()
            };
            frame(mac(14), source, &echo(src, dst, 64, false))
        };
        for (source, n) in [(mac(22), 22), (mac(22), 5), (VRRP, 200)] {
            for src in ips(B, n) {
                let inner = of(source, src);
                let out = vec![(UPLINK, self.made(SPINE, self.host(3), B, &inner))];
                cases.push(sent("allowed address", ACCESS_B, tagged(100, &inner), out));
            }
        }
        for (source, n) in [
            (mac(22), 1),
            (mac(22), 16),
            (mac(22), 200),
            (VRRP, 22),
            (VRRP, 5),
            (VRRP, 1),
        ] {
            for src in ips(B, n) {
                let inner = tagged(100, &of(source, src));
                cases.push(dropped("not allowed", ACCESS_B, inner, DropReason::SourceIp));
            }
        }
        let free = [
            of(NOBODY, v4(B, 99).into()),
            of(NOBODY, v6(B, 99).into()),
            ethernet(
                mac(14),
                mac(23),
                0x0806,
                &arp(2, (NOBODY, v4(B, 99)), (mac(14), v4(B, 14))),
            ),
            frame(
                mac(14),
                mac(23),
                &ipv4(v4(B, 23), v4(B, 14), 64, 17, 0, &udp(67, 68, &[2; 240])),
            ),
        ];
        for inner in free {
            let out = vec![(UPLINK, self.made(SPINE, self.host(3), B, &inner))];
            cases.push(sent("no port security", ACCESS_B, tagged(200, &inner), out));
        }
        cases
    }
}
