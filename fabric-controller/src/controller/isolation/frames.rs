//! Frames of workloads, each with the name of its tenant inside, and their outer headers in a tunnel.

use std::net::{IpAddr, Ipv4Addr};

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use vfabric_api::ident::Mac;

/// UDP port of VXLAN (RFC 7348 section 5).
const VXLAN: u16 = 4789;
/// The marker of a labelled payload.
const MARK: &[u8] = b"label:";

/// A UDP packet from a workload of `label`.
pub(super) fn labelled(dst: Mac, src: Mac, from: Ipv4Addr, to: Ipv4Addr, label: &str) -> Vec<u8> {
    let payload = [MARK, label.as_bytes(), b"."].concat();
    let builder = PacketBuilder::ethernet2(src.0, dst.0).ipv4(from.octets(), to.octets(), 64);
    let mut frame = Vec::new();
    builder.udp(7, 7).write(&mut frame, &payload).unwrap();
    frame
}

/// The tenant whose frame this is, tunnelled or not.
pub(super) fn label(frame: &[u8]) -> Option<String> {
    let at = frame.windows(MARK.len()).position(|w| w == MARK)? + MARK.len();
    let end = frame[at..].iter().position(|b| *b == b'.')?;
    Some(String::from_utf8_lossy(&frame[at..at + end]).into_owned())
}

/// With a VLAN tag (IEEE 802.1Q); VLAN `None` adds none.
pub(super) fn tagged(vlan: Option<u16>, frame: &[u8]) -> Vec<u8> {
    match vlan {
        Some(vid) => [&frame[..12], &0x8100u16.to_be_bytes(), &vid.to_be_bytes(), &frame[12..]].concat(),
        None => frame.to_vec(),
    }
}

/// The VLAN of a frame.
pub(super) fn vlan(frame: &[u8]) -> Option<u16> {
    (frame[12..14] == [0x81, 0]).then(|| u16::from_be_bytes([frame[14], frame[15]]) & 0xfff)
}

/// Destination MAC address.
pub(super) fn destination(frame: &[u8]) -> Mac {
    Mac(frame[..6].try_into().unwrap())
}

/// The outer headers of a tunnelled frame.
pub(super) struct Outer {
    pub(super) macs: (Mac, Mac),
    pub(super) from: Ipv4Addr,
    pub(super) to: Ipv4Addr,
    pub(super) vni: u32,
}

/// A frame in a VXLAN tunnel over IPv4.
pub(super) fn tunnelled(outer: &Outer, frame: &[u8]) -> Vec<u8> {
    let vni = outer.vni.to_be_bytes();
    let header = [8, 0, 0, 0, vni[1], vni[2], vni[3], 0];
    let payload = [&header[..], frame].concat();
    let (dst, src) = outer.macs;
    let builder = PacketBuilder::ethernet2(src.0, dst.0).ipv4(outer.from.octets(), outer.to.octets(), 64);
    let mut packet = Vec::new();
    builder.udp(50_000, VXLAN).write(&mut packet, &payload).unwrap();
    // A Linux VTEP sends checksum 0 over IPv4.
    packet[40..42].copy_from_slice(&[0, 0]);
    packet
}

/// Outer destination, VNI and inner frame of a tunnelled frame.
pub(super) fn untunnelled(packet: &[u8]) -> Option<(IpAddr, u32, Vec<u8>)> {
    let sliced = SlicedPacket::from_ethernet(packet).ok()?;
    let Some(NetSlice::Ipv4(ip)) = sliced.net else {
        return None;
    };
    let Some(TransportSlice::Udp(udp)) = sliced.transport else {
        return None;
    };
    let payload = udp.payload();
    if udp.destination_port() != VXLAN || payload.len() < 8 {
        return None;
    }
    let vni = u32::from_be_bytes([0, payload[4], payload[5], payload[6]]);
    Some((ip.header().destination_addr().into(), vni, payload[8..].to_vec()))
}
