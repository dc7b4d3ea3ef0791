//! Frames as an attacker builds them: every field is the caller's, right or wrong.
//!
//! Checksums are right unless the caller spoils them afterwards, so that a frame is refused for its content and not for
//! a mistake in building it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vfabric_api::ident::Mac;

/// Shortest frame on a wire, without its check sequence (IEEE 802.3).
const SHORTEST: usize = 60;
/// UDP port of VXLAN (RFC 7348 section 5).
pub(crate) const VXLAN_PORT: u16 = 4789;
/// All stations.
pub(crate) const BROADCAST: Mac = Mac([0xff; 6]);

/// EtherTypes.
pub(crate) mod kind {
    /// Internet Protocol, version 4.
    pub(crate) const IPV4: u16 = 0x0800;
    /// Address resolution (RFC 826).
    pub(crate) const ARP: u16 = 0x0806;
    /// Internet Protocol, version 6.
    pub(crate) const IPV6: u16 = 0x86dd;
    /// VLAN tag (IEEE 802.1Q).
    pub(crate) const VLAN: u16 = 0x8100;
    /// Service tag (IEEE 802.1ad).
    pub(crate) const SERVICE_VLAN: u16 = 0x88a8;
    /// Link layer discovery (IEEE 802.1AB).
    pub(crate) const LLDP: u16 = 0x88cc;
}

/// IP protocols.
pub(crate) mod protocol {
    /// ICMP (RFC 792).
    pub(crate) const ICMP: u8 = 1;
    /// UDP.
    pub(crate) const UDP: u8 = 17;
    /// Fragment header of IPv6 (RFC 8200 section 4.5).
    pub(crate) const FRAGMENT: u8 = 44;
    /// ICMPv6 (RFC 4443).
    pub(crate) const ICMPV6: u8 = 58;
    /// Destination options of IPv6 (RFC 8200 section 4.6).
    pub(crate) const DESTINATION_OPTIONS: u8 = 60;
}

/// A frame.
pub(crate) fn ethernet(to: Mac, from: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&to.0[..], &from.0, &kind.to_be_bytes(), payload].concat();
    frame.resize(frame.len().max(SHORTEST), 0);
    frame
}

/// The same frame with a tag in front of its EtherType.
pub(crate) fn tagged(tag: u16, vlan: u16, frame: &[u8]) -> Vec<u8> {
    let (addresses, rest) = frame.split_at(frame.len().min(12));
    [addresses, &tag.to_be_bytes(), &vlan.to_be_bytes(), rest].concat()
}

/// Sum of RFC 1071 over some octets; the complement is the checksum.
fn sum(parts: &[&[u8]]) -> u16 {
    let octets = parts.concat();
    let word = |c: &[u8]| match *c {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(u16::from_be_bytes([high, 0])),
        _ => 0,
    };
    let mut sum: u32 = octets.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // The loop above has folded it to 16 bits.
    u16::try_from(sum).unwrap_or(u16::MAX)
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

/// The checksum of an IP payload, with the pseudo header (RFC 768, RFC 8200 section 8.1).
fn checksum(from: IpAddr, to: IpAddr, protocol: u8, payload: &[u8]) -> [u8; 2] {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    (!sum(&[&octets(from), &octets(to), &length, &[0, 0, 0, protocol], payload])).to_be_bytes()
}

fn put(message: &mut [u8], at: usize, value: [u8; 2]) {
    for (to, from) in message.iter_mut().skip(at).zip(value) {
        *to = from;
    }
}

/// ARP between IPv4 addresses (RFC 826): `operation` is 1 for a request, 2 for a reply.
pub(crate) fn arp(operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4];
    [
        &head[..],
        &operation.to_be_bytes(),
        &sender.0.0,
        &sender.1.octets(),
        &target.0.0,
        &target.1.octets(),
    ]
    .concat()
}

/// An IP header, of the version of its addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ip {
    /// Source.
    pub(crate) from: IpAddr,
    /// Destination.
    pub(crate) to: IpAddr,
    /// TTL or hop limit.
    pub(crate) ttl: u8,
    /// Flags and fragment offset of IPv4, as in the header.
    pub(crate) fragment: u16,
    /// Options of IPv4, in words of four octets, all "no operation".
    pub(crate) option_words: u8,
}

impl Ip {
    /// A whole packet with TTL 64.
    pub(crate) fn new(from: impl Into<IpAddr>, to: impl Into<IpAddr>) -> Self {
        Self {
            from: from.into(),
            to: to.into(),
            ttl: 64,
            fragment: 0,
            option_words: 0,
        }
    }

    /// With another TTL or hop limit.
    pub(crate) fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    /// The EtherType that goes with it.
    pub(crate) fn kind(&self) -> u16 {
        if self.from.is_ipv4() { kind::IPV4 } else { kind::IPV6 }
    }

    /// The packet.
    pub(crate) fn packet(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        match self.from {
            IpAddr::V4(_) => self.ipv4(protocol, payload),
            IpAddr::V6(_) => self.ipv6(protocol, payload),
        }
    }

    fn ipv4(&self, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let options = vec![1u8; usize::from(self.option_words) * 4];
        let length = u16::try_from(20 + options.len() + payload.len()).unwrap_or(u16::MAX);
        let mut header = [
            &[0x45 + self.option_words, 0][..],
            &length.to_be_bytes(),
            &[0x12, 0x34],
            &self.fragment.to_be_bytes(),
            &[self.ttl, protocol, 0, 0],
            &octets(self.from),
            &octets(self.to),
            &options,
        ]
        .concat();
        let sum = !sum(&[&header]);
        put(&mut header, 10, sum.to_be_bytes());
        [&header[..], payload].concat()
    }

    fn ipv6(&self, next: u8, payload: &[u8]) -> Vec<u8> {
        let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
        [
            &[0x60, 0, 0, 0][..],
            &length.to_be_bytes(),
            &[next, self.ttl],
            &octets(self.from),
            &octets(self.to),
            payload,
        ]
        .concat()
    }

    /// A UDP datagram.
    pub(crate) fn udp(&self, from: u16, to: u16, data: &[u8]) -> Vec<u8> {
        self.packet(protocol::UDP, &self.datagram(from, to, data))
    }

    /// A UDP datagram as the payload of IP.
    pub(crate) fn datagram(&self, from: u16, to: u16, data: &[u8]) -> Vec<u8> {
        let length = u16::try_from(8 + data.len()).unwrap_or(u16::MAX);
        let ports = [from.to_be_bytes(), to.to_be_bytes(), length.to_be_bytes(), [0, 0]];
        let mut datagram = [&ports.concat()[..], data].concat();
        let sum = match checksum(self.from, self.to, protocol::UDP, &datagram) {
            // Zero would mean that there is no checksum (RFC 768).
            [0, 0] => [0xff, 0xff],
            sum => sum,
        };
        put(&mut datagram, 6, sum);
        datagram
    }

    /// An ICMP or ICMPv6 message.
    pub(crate) fn icmp(&self, message_kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
        let mut message = [&[message_kind, code, 0, 0][..], rest].concat();
        let (protocol, sum) = match self.from {
            IpAddr::V4(_) => (protocol::ICMP, (!sum(&[&message])).to_be_bytes()),
            IpAddr::V6(_) => (
                protocol::ICMPV6,
                checksum(self.from, self.to, protocol::ICMPV6, &message),
            ),
        };
        put(&mut message, 2, sum);
        self.packet(protocol, &message)
    }
}

/// A neighbour advertisement (RFC 4861 section 4.4) for `target` at `mac`, sent to the address `ip`.
pub(crate) fn advertisement(ip: Ip, target: Ipv6Addr, mac: Mac) -> Vec<u8> {
    // Solicited, override; target link-layer address.
    let rest = [&[0x60, 0, 0, 0][..], &target.octets(), &[2, 1], &mac.0].concat();
    ip.ttl(255).icmp(136, 0, &rest)
}

/// A neighbour solicitation (RFC 4861 section 4.3) for `target`, from a station at `mac`.
pub(crate) fn solicitation(ip: Ip, target: Ipv6Addr, mac: Mac) -> Vec<u8> {
    let rest = [&[0, 0, 0, 0][..], &target.octets(), &[1, 1], &mac.0].concat();
    ip.ttl(255).icmp(135, 0, &rest)
}

/// A router advertisement (RFC 4861 section 4.2) with a default route.
pub(crate) fn router_advertisement(ip: Ip, mac: Mac) -> Vec<u8> {
    let rest = [&[64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0][..], &[1, 1], &mac.0].concat();
    ip.ttl(255).icmp(134, 0, &rest)
}

/// A redirect (RFC 4861 section 4.5) of `destination` to `target`.
pub(crate) fn redirect(ip: Ip, target: Ipv6Addr, destination: Ipv6Addr) -> Vec<u8> {
    let rest = [&[0; 4][..], &target.octets(), &destination.octets()].concat();
    ip.ttl(255).icmp(137, 0, &rest)
}

/// A frame in VXLAN (RFC 7348 section 5), as the payload of UDP.
pub(crate) fn vxlan(vni: u32, frame: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = vni.to_be_bytes();
    [&[0x08, 0, 0, 0, a, b, c, 0][..], frame].concat()
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn ends() -> [Ip; 2] {
        [
            Ip::new(Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)),
            Ip::new(
                "fd00::1".parse::<Ipv6Addr>().unwrap(),
                "fd00::2".parse::<Ipv6Addr>().unwrap(),
            ),
        ]
    }

    #[test]
    fn another_reader_finds_whole_packets_with_right_checksums() {
        for ip in ends() {
            // A payload of odd length, so that the checksum must pad it.
            let frame = ethernet(BROADCAST, MAC, ip.kind(), &ip.udp(7, 9, b"odd"));
            let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
            let Some(TransportSlice::Udp(udp)) = sliced.transport else {
                panic!("no UDP: {sliced:?}")
            };
            assert_eq!(
                (udp.source_port(), udp.destination_port(), udp.payload()),
                (7, 9, &b"odd"[..])
            );
            let sum = match sliced.net.unwrap() {
                NetSlice::Ipv4(v4) => {
                    let header = v4.header().to_header();
                    assert_eq!(header.header_checksum, header.calc_header_checksum());
                    udp.to_header().calc_checksum_ipv4(&header, udp.payload())
                }
                NetSlice::Ipv6(v6) => udp
                    .to_header()
                    .calc_checksum_ipv6(&v6.header().to_header(), udp.payload()),
                other => panic!("{other:?}"),
            };
            assert_eq!(udp.checksum(), sum.unwrap());
        }
    }

    #[test]
    fn messages_of_icmp_have_right_checksums() {
        let [v4, v6] = ends();
        let echo = ethernet(BROADCAST, MAC, kind::IPV4, &v4.icmp(8, 0, &[0, 1, 0, 1, 9]));
        let Some(TransportSlice::Icmpv4(echo)) = SlicedPacket::from_ethernet(&echo).unwrap().transport else {
            panic!("no ICMP")
        };
        let right = etherparse::Icmpv4Header::with_checksum(echo.icmp_type(), echo.payload());
        assert_eq!(echo.checksum(), right.checksum);
        let target: Ipv6Addr = "fd00::9".parse().unwrap();
        for message in [
            advertisement(v6, target, MAC),
            solicitation(v6, target, MAC),
            router_advertisement(v6, MAC),
            redirect(v6, target, target),
        ] {
            let frame = ethernet(BROADCAST, MAC, kind::IPV6, &message);
            let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
            let (Some(NetSlice::Ipv6(ip)), Some(TransportSlice::Icmpv6(icmp))) = (sliced.net, sliced.transport) else {
                panic!("no ICMPv6")
            };
            let header = ip.header();
            assert!(icmp.is_checksum_valid(header.source(), header.destination()));
        }
    }

    #[test]
    fn a_tag_comes_before_the_ethertype_and_options_after_the_addresses() {
        let [v4, _] = ends();
        let frame = tagged(
            kind::VLAN,
            20,
            &ethernet(BROADCAST, MAC, kind::IPV4, &v4.udp(1, 2, b"x")),
        );
        let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
        assert_eq!(sliced.vlan_ids().first().map(|v| v.value()), Some(20));
        let with_options = Ip { option_words: 2, ..v4 };
        let frame = ethernet(BROADCAST, MAC, kind::IPV4, &with_options.udp(1, 2, b"x"));
        let Some(NetSlice::Ipv4(ip)) = SlicedPacket::from_ethernet(&frame).unwrap().net else {
            panic!("no IPv4")
        };
        let header = ip.header().to_header();
        assert_eq!(header.options.as_slice(), [1; 8]);
        assert_eq!(header.header_checksum, header.calc_header_checksum());
    }
}
