//! Frames, octet by octet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) type Mac = [u8; 6];

pub(crate) const ECHO: [u8; 12] = *b"\x12\x34\x00\x01pipeline";

fn sum(data: &[u8], start: u32) -> u32 {
    data.chunks(2).fold(start, |s, c| {
        s + (u32::from(c[0]) << 8) + c.get(1).map_or(0, |b| u32::from(*b))
    })
}

fn fold(mut sum: u32) -> [u8; 2] {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

pub(crate) fn ethernet(dst: Mac, src: Mac, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    [&dst[..], &src, &ether_type.to_be_bytes(), payload].concat()
}

/// Ethernet with the type that goes with the IP version of `packet`.
pub(crate) fn frame(dst: Mac, src: Mac, packet: &[u8]) -> Vec<u8> {
    ethernet(dst, src, if packet[0] >> 4 == 4 { 0x0800 } else { 0x86dd }, packet)
}

pub(crate) fn tagged(vid: u16, frame: &[u8]) -> Vec<u8> {
    tagged_as(0x8100, vid, frame)
}

/// A tag with another type than 802.1Q's customer tag.
pub(crate) fn tagged_as(tpid: u16, vid: u16, frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &tpid.to_be_bytes(), &vid.to_be_bytes(), &frame[12..]].concat()
}

pub(crate) fn ipv4(src: Ipv4Addr, dst: Ipv4Addr, ttl: u8, protocol: u8, flags: u16, payload: &[u8]) -> Vec<u8> {
    ipv4_with(src, dst, ttl, protocol, flags, &[], payload)
}

pub(crate) fn ipv4_with(
    src: Ipv4Addr,
    dst: Ipv4Addr,
    ttl: u8,
    protocol: u8,
    flags: u16,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let len = (20 + options.len() + payload.len()) as u16;
    let mut header = vec![0x45 + (options.len() / 4) as u8, 0];
    header.extend(len.to_be_bytes());
    header.extend([0, 0]);
    header.extend(flags.to_be_bytes());
    header.extend([ttl, protocol, 0, 0]);
    header.extend(src.octets());
    header.extend(dst.octets());
    header.extend(options);
    let checksum = fold(sum(&header, 0));
    header[10..12].copy_from_slice(&checksum);
    header.extend(payload);
    header
}

pub(crate) fn ipv6(src: Ipv6Addr, dst: Ipv6Addr, hop_limit: u8, next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend((payload.len() as u16).to_be_bytes());
    header.extend([next_header, hop_limit]);
    header.extend(src.octets());
    header.extend(dst.octets());
    header.extend(payload);
    header
}

/// Whether the checksum inside some data is right, with an additional sum (RFC 1071).
pub(crate) fn sums_to_zero(data: &[u8], start: u32) -> bool {
    fold(sum(data, start)) == [0, 0]
}

/// What the checksum of this IPv4 header is, by computation.
pub(crate) fn ipv4_checksum(header: &[u8]) -> [u8; 2] {
    let mut header = header[..usize::from(header[0] & 15) * 4].to_vec();
    header[10..12].fill(0);
    fold(sum(&header, 0))
}

/// The packet with that identification field.
pub(crate) fn identified(mut packet: Vec<u8>, identification: u16) -> Vec<u8> {
    packet[4..6].copy_from_slice(&identification.to_be_bytes());
    let checksum = ipv4_checksum(&packet);
    packet[10..12].copy_from_slice(&checksum);
    packet
}

/// The sum over the addresses, protocol and length of an IP packet's payload.
pub(crate) fn payload_sum(packet: &[u8]) -> u32 {
    match packet[0] >> 4 {
        4 => sum(&packet[12..20], u32::from(packet[9]) + (packet.len() - 20) as u32),
        _ => sum(&packet[8..40], u32::from(packet[6]) + (packet.len() - 40) as u32),
    }
}

/// The UDP packet with its checksum in it.
pub(crate) fn udp_summed(mut packet: Vec<u8>) -> Vec<u8> {
    let at = if packet[0] >> 4 == 4 { 20 } else { 40 };
    packet[at + 6..at + 8].fill(0);
    let checksum = match fold(sum(&packet[at..], payload_sum(&packet))) {
        [0, 0] => [0xff, 0xff], // 0 is "none" (RFC 768)
        checksum => checksum,
    };
    packet[at + 6..at + 8].copy_from_slice(&checksum);
    packet
}

fn pseudo_header(src: Ipv6Addr, dst: Ipv6Addr, next_header: u8, len: usize) -> u32 {
    sum(&src.octets(), sum(&dst.octets(), len as u32 + u32::from(next_header)))
}

fn icmpv6(src: Ipv6Addr, dst: Ipv6Addr, hop_limit: u8, message: &[u8]) -> Vec<u8> {
    let mut message = message.to_vec();
    let checksum = fold(sum(&message, pseudo_header(src, dst, 58, message.len())));
    message[2..4].copy_from_slice(&checksum);
    ipv6(src, dst, hop_limit, 58, &message)
}

/// An ICMP or ICMPv6 message of another kind than echo, after the version of the addresses.
pub(crate) fn icmp(src: IpAddr, dst: IpAddr, ttl: u8, kind: u8, code: u8, rest: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0][..], rest].concat();
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let checksum = fold(sum(&message, 0));
            message[2..4].copy_from_slice(&checksum);
            ipv4(src, dst, ttl, 1, 0, &message)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => icmpv6(src, dst, ttl, &message),
        _ => panic!("two families"),
    }
}

/// The ICMP error about a packet: from a gateway to the packet's source, with 8 octets of what follows the IP header.
pub(crate) fn icmp_error(gateway: IpAddr, about: &[u8], kind: u8, code: u8, mtu: u16) -> Vec<u8> {
    let [high, low] = mtu.to_be_bytes();
    let quoted = if gateway.is_ipv4() { 20 + 8 } else { 40 + 8 };
    let rest = [&[0, 0, high, low], &about[..quoted]].concat();
    match gateway {
        IpAddr::V4(gateway) => {
            let to = Ipv4Addr::from(<[u8; 4]>::try_from(&about[12..16]).unwrap());
            let mut message = [&[kind, code, 0, 0][..], &rest].concat();
            let checksum = fold(sum(&message, 0));
            message[2..4].copy_from_slice(&checksum);
            let mut packet = ipv4(gateway, to, 64, 1, 0x4000, &message);
            packet[1] = 0xc0 | (about[1] & 0x1c);
            let checksum = ipv4_checksum(&packet);
            packet[10..12].copy_from_slice(&checksum);
            packet
        }
        IpAddr::V6(_) => {
            let to = Ipv6Addr::from(<[u8; 16]>::try_from(&about[8..24]).unwrap());
            icmp(gateway, to.into(), 64, kind, code, &rest)
        }
    }
}

/// An IP packet with an echo request or reply.
pub(crate) fn echo(src: IpAddr, dst: IpAddr, ttl: u8, reply: bool) -> Vec<u8> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut message = vec![if reply { 0 } else { 8 }, 0, 0, 0];
            message.extend(ECHO);
            let checksum = fold(sum(&message, 0));
            message[2..4].copy_from_slice(&checksum);
            ipv4(src, dst, ttl, 1, 0, &message)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let mut message = vec![if reply { 129 } else { 128 }, 0, 0, 0];
            message.extend(ECHO);
            icmpv6(src, dst, ttl, &message)
        }
        _ => panic!("two families"),
    }
}

pub(crate) fn udp(src_port: u16, dst_port: u16, payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len()) as u16;
    [
        &src_port.to_be_bytes()[..],
        &dst_port.to_be_bytes(),
        &len.to_be_bytes(),
        &[0, 0],
        payload,
    ]
    .concat()
}

/// An underlay packet, UDP port `SPORT` to 4789 with VXLAN around `inner`; "do not
/// fragment" over IPv4, no UDP checksum.
pub(crate) fn vxlan(src: IpAddr, dst: IpAddr, ttl: u8, vni: u32, inner: &[u8]) -> Vec<u8> {
    let payload = [&[8, 0, 0, 0][..], &(vni << 8).to_be_bytes(), inner].concat();
    underlay(src, dst, ttl, 17, &udp(SPORT, 4789, &payload))
}

/// Source port of tunnels in expected and compared frames; the pipeline's own is a hash.
pub(crate) const SPORT: u16 = 0xc000;

pub(crate) fn underlay(src: IpAddr, dst: IpAddr, ttl: u8, protocol: u8, payload: &[u8]) -> Vec<u8> {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => ipv4(src, dst, ttl, protocol, 0x4000, payload),
        (IpAddr::V6(src), IpAddr::V6(dst)) => ipv6(src, dst, ttl, protocol, payload),
        _ => panic!("two families"),
    }
}

/// Sets the outer UDP source port of a tunnelled frame to [`SPORT`], if it is one in the
/// dynamic range.
pub(crate) fn normalise(mut frame: Vec<u8>) -> Vec<u8> {
    let at = match (frame.get(12..14), frame.get(23), frame.get(20)) {
        (Some([0x08, 0x00]), Some(17), _) => 34,
        (Some([0x86, 0xdd]), _, Some(17)) => 54,
        _ => return frame,
    };
    if frame.get(at + 2..at + 4) == Some(&4789u16.to_be_bytes()) && frame[at] >= 0xc0 {
        frame[at..at + 2].copy_from_slice(&SPORT.to_be_bytes());
    }
    frame
}

pub(crate) fn arp(opcode: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr)) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4];
    packet.extend(opcode.to_be_bytes());
    for (mac, ip) in [sender, target] {
        packet.extend(mac);
        packet.extend(ip.octets());
    }
    packet
}

/// A neighbour solicitation, with an option of 8 octets if given.
pub(crate) fn solicitation(src: Ipv6Addr, dst: Ipv6Addr, target: Ipv6Addr, option: Option<[u8; 8]>) -> Vec<u8> {
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    message.extend(option.into_iter().flatten());
    icmpv6(src, dst, 255, &message)
}

pub(crate) fn advertisement(dst: Ipv6Addr, target: Ipv6Addr, flags: u8, mac: Mac) -> Vec<u8> {
    let mut message = vec![136, 0, 0, 0, flags, 0, 0, 0];
    message.extend(target.octets());
    message.extend([2, 1]);
    message.extend(mac);
    icmpv6(target, dst, 255, &message)
}
