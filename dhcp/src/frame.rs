//! Puts requests into Ethernet frames and takes replies out of them, for a client without an address (RFC 2131 section
//! 4.1).

use std::net::Ipv4Addr;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

/// UDP port of clients.
pub const CLIENT_PORT: u16 = dhcproto::v4::CLIENT_PORT;
/// UDP port of servers and relays.
pub const SERVER_PORT: u16 = dhcproto::v4::SERVER_PORT;
/// TTL of requests. Its value does not matter, because no router forwards a broadcast.
const TTL: u8 = 64;

/// The broadcast frame for a client's request.
pub fn broadcast(mac: [u8; 6], from: Ipv4Addr, request: &[u8]) -> Vec<u8> {
    let headers = PacketBuilder::ethernet2(mac, [0xff; 6])
        .ipv4(from.octets(), Ipv4Addr::BROADCAST.octets(), TTL)
        .udp(CLIENT_PORT, SERVER_PORT);
    let mut out = Vec::with_capacity(headers.size(request.len()));
    // Writing fails only for more octets than IPv4 can carry.
    if headers.write(&mut out, request).is_err() {
        out.clear();
    }
    out
}

/// The message in a frame from a server to a client; `None` for any other frame.
///
/// The UDP checksum is ignored, because it is not filled in yet in frames that a host sends to itself. The transaction
/// id and the hardware address in the message show whom it is for.
pub fn reply(frame: &[u8]) -> Option<&[u8]> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(NetSlice::Ipv4(ip)) = &packet.net else {
        return None;
    };
    if ip.is_payload_fragmented() {
        return None;
    }
    match &packet.transport {
        Some(TransportSlice::Udp(udp)) if udp.destination_port() == CLIENT_PORT => Some(udp.payload()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_found_among_other_frames() {
        let frame = |port: u16| {
            let headers = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [0xff; 6])
                .ipv4([192, 0, 2, 1], [255; 4], TTL)
                .udp(SERVER_PORT, port);
            let mut out = Vec::new();
            headers.write(&mut out, b"message").unwrap();
            out
        };
        let good = frame(CLIENT_PORT);
        assert_eq!(reply(&good), Some(b"message".as_slice()));
        assert_eq!(reply(&frame(53)), None);
        for length in 0..good.len() {
            assert_eq!(reply(&good[..length]), None, "{length} octets of it");
        }
        let mut fragment = good.clone();
        fragment[20] |= 0x20;
        assert_eq!(reply(&fragment), None);
        let sent = broadcast([2, 0, 0, 0, 0, 1], Ipv4Addr::UNSPECIFIED, b"request");
        assert_eq!(&sent[..14], b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x08\0");
        assert_eq!(&sent[sent.len() - 7..], b"request");
    }
}
