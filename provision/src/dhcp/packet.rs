//! Messages of DHCPv4 (RFC 2131 section 2) as octets.
//!
//! Requests are read option by option as raw octets: a malformed option must not hide those after it. Replies are
//! written with `dhcproto`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dhcproto::v4::borrowed;
use dhcproto::v4::{DhcpOption, Flags, HType, MAGIC, Message, MessageType, Opcode, UnknownOption};
use dhcproto::{Encodable, Encoder};
use fabric_dhcp::option;
pub use fabric_dhcp::option::code;
use vfabric_api::ident::Mac;

/// Sub-options of the relay's option (RFC 3046).
pub mod relay {
    #![allow(missing_docs)]
    pub const CIRCUIT_ID: u8 = 1;
    pub const REMOTE_ID: u8 = 2;
    /// RFC 3527.
    pub const LINK_SELECTION: u8 = 5;
    /// RFC 8357.
    pub const SOURCE_PORT: u8 = 19;
}

/// Smallest message that every client accepts (RFC 2131 section 2), without the headers of IP and UDP.
const SMALLEST_LIMIT: usize = 576 - 28;
/// Largest message that is sent whatever the client accepts, so that it is never a fragment.
const LARGEST: usize = 1500 - 28;
/// Messages are padded to the size of BOOTP's, because old relays and clients drop shorter ones.
const BOOTP: usize = dhcproto::v4::MIN_PACKET_SIZE;
const ETHERNET: u8 = 1;

/// Why a datagram is not a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// Shorter than the fixed part.
    #[error("it is too short for DHCP")]
    Short,
    /// A reply, or an unknown operation.
    #[error("it is not a request")]
    NotRequest,
    /// The message is not from an Ethernet machine.
    #[error("its hardware address is not an Ethernet one")]
    NotEthernet,
    /// Without the magic cookie: BOOTP.
    #[error("it has no options of DHCP")]
    NoMagic,
    /// Without a type, or with one that clients do not send.
    #[error("it has no message type that a client sends")]
    NoType,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// What it asks for.
    pub kind: MessageType,
    /// Transaction id (`xid`).
    pub xid: u32,
    /// Seconds since the client began.
    pub secs: u16,
    /// Flags; bit 15 asks for a broadcast.
    pub flags: u16,
    /// The client's address, if it uses one.
    pub ciaddr: Ipv4Addr,
    /// The relay's address, if it came through one.
    pub giaddr: Ipv4Addr,
    /// The client's hardware address.
    pub mac: Mac,
    pub(super) options: BTreeMap<u8, Vec<u8>>,
}

impl Packet {
    /// Reads a datagram.
    ///
    /// # Errors
    /// Why it is not a request.
    pub fn parse(octets: &[u8]) -> Result<Self, Malformed> {
        let message = borrowed::Message::new(octets).map_err(|_| Malformed::Short)?;
        if message.opcode() != Opcode::BootRequest {
            return Err(Malformed::NotRequest);
        }
        // The library trusts the length of the hardware address, so check it first.
        if message.htype() != HType::from(ETHERNET) || message.hlen() != 6 {
            return Err(Malformed::NotEthernet);
        }
        let mac = Mac(<[u8; 6]>::try_from(message.chaddr()).map_err(|_| Malformed::NotEthernet)?);
        if !mac.is_unicast() {
            return Err(Malformed::NotEthernet);
        }
        if octets.get(236..240) != Some(MAGIC.as_slice()) {
            return Err(Malformed::NoMagic);
        }
        let options = option::read(octets);
        let kind = options.get(&code::MESSAGE_TYPE).and_then(|o| o.first()).copied();
        let kind = kind.map(MessageType::from).ok_or(Malformed::NoType)?;
        use MessageType::{Decline, Discover, Inform, Release, Request};
        if !matches!(kind, Discover | Request | Decline | Release | Inform) {
            return Err(Malformed::NoType);
        }
        Ok(Self {
            kind,
            xid: message.xid(),
            secs: message.secs(),
            flags: message.flags().into(),
            ciaddr: message.ciaddr(),
            giaddr: message.giaddr(),
            mac,
            options,
        })
    }

    /// The octets of an option; parts of one option are joined (RFC 3396).
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.get(&code).map(Vec::as_slice)
    }

    /// An option that is one address.
    pub fn address(&self, code: u8) -> Option<Ipv4Addr> {
        let octets: [u8; 4] = self.option(code)?.try_into().ok()?;
        Some(octets.into())
    }

    /// Whether the client asks for an option.
    pub fn asks_for(&self, code: u8) -> bool {
        self.option(code::PARAMETERS).is_some_and(|list| list.contains(&code))
    }

    /// A sub-option of the relay's option.
    pub fn relay(&self, wanted: u8) -> Option<&[u8]> {
        let mut rest = self.option(code::RELAY)?;
        while let Some(([code, length], after)) = rest.split_first_chunk::<2>() {
            let (value, after) = after.split_at_checked(usize::from(*length))?;
            if *code == wanted {
                return Some(value);
            }
            rest = after;
        }
        None
    }

    /// The largest reply that the client accepts.
    pub fn limit(&self) -> usize {
        let largest: Option<[u8; 2]> = self.option(code::MAX_SIZE).and_then(|o| o.try_into().ok());
        let largest = largest.map_or(0, |o| usize::from(u16::from_be_bytes(o)).saturating_sub(28));
        largest.clamp(SMALLEST_LIMIT, LARGEST)
    }

    /// A reply to it. Options come in order of importance: if they do not all fit, the last ones are left out. The
    /// relay's option is returned unchanged and is always last (RFC 3046 section 2.2).
    pub fn reply(
        &self,
        kind: MessageType,
        address: Ipv4Addr,
        next_server: Ipv4Addr,
        options: &[(u8, Vec<u8>)],
    ) -> Vec<u8> {
        let mut message = Message::default();
        message
            .set_opcode(Opcode::BootReply)
            .set_xid(self.xid)
            .set_flags(Flags::from(self.flags))
            .set_yiaddr(address)
            .set_siaddr(next_server)
            .set_giaddr(self.giaddr)
            .set_chaddr(&self.mac.0);
        if kind == MessageType::Ack {
            message.set_ciaddr(self.ciaddr);
        }
        message.opts_mut().insert(DhcpOption::MessageType(kind));
        let relay = self.option(code::RELAY).map_or(0, |o| encoded(o.len()));
        // Fixed part, magic cookie, message type, end.
        let mut size = 240 + 3 + 1 + relay;
        for (code, octets) in options {
            let more = encoded(octets.len());
            if size + more > self.limit() {
                continue;
            }
            size += more;
            message.opts_mut().insert(raw(*code, octets));
        }
        let mut out = Vec::with_capacity(size.max(BOOTP));
        // Encoding fails only for texts that are too long, and there are none.
        if message.encode(&mut Encoder::new(&mut out)).is_err() {
            return Vec::new();
        }
        if let Some(relay) = self.option(code::RELAY) {
            // Before the end, which is the last octet.
            out.pop();
            for part in relay.chunks(255) {
                out.extend([code::RELAY, u8::try_from(part.len()).unwrap_or(u8::MAX)]);
                out.extend(part);
            }
            out.push(255);
        }
        out.resize(out.len().max(BOOTP), 0);
        out
    }
}

/// An option from its number and octets. The library chooses a variant by number when it reads, but writes an unknown
/// option with any number.
fn raw(code: u8, octets: &[u8]) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(code.into(), octets.to_vec()))
}

/// Octets of an option with its headers.
fn encoded(length: usize) -> usize {
    length + 2 * length.div_ceil(255).max(1)
}

#[cfg(test)]
pub(crate) mod tests {
    use dhcproto::v4::Decodable as _;
    use dhcproto::v4::{Decoder, OptionCode};
    use proptest::prelude::*;

    use super::*;

    /// A request as octets.
    pub(crate) fn octets(kind: u8, options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut out = vec![0; 236];
        out[..3].copy_from_slice(&[1, 1, 6]);
        out[4..8].copy_from_slice(&[1, 2, 3, 4]);
        out[28..34].copy_from_slice(&[2, 0xaa, 0, 0, 0, 1]);
        out.extend(MAGIC);
        out.extend([53, 1, kind]);
        for (code, octets) in options {
            for part in octets.chunks(255) {
                out.extend([*code, part.len() as u8]);
                out.extend(part);
            }
        }
        out.push(255);
        out
    }

    pub(crate) fn packet(kind: u8, options: &[(u8, &[u8])]) -> Packet {
        Packet::parse(&octets(kind, options)).unwrap()
    }

    #[test]
    fn options_are_read_past_junk_in_parts_and_from_other_fields() {
        let long = [b'x'; 300];
        let request = packet(
            1,
            &[
                (12, b"\xff\xfe"),
                (43, &long),
                (50, &[1, 2]),
                (60, b"class"),
                (55, &[1, 114]),
            ],
        );
        assert_eq!(request.option(12), Some(b"\xff\xfe".as_slice()));
        assert_eq!(request.option(43).map(<[u8]>::len), Some(300));
        assert_eq!(
            (request.address(50), request.option(60)),
            (None, Some(b"class".as_slice()))
        );
        assert!(request.asks_for(114) && !request.asks_for(67));
        let mut overloaded = octets(1, &[(52, &[3])]);
        overloaded[108..113].copy_from_slice(&[12, 2, b'a', b'b', 255]);
        overloaded[44..48].copy_from_slice(&[60, 1, b'c', 255]);
        let overloaded = Packet::parse(&overloaded).unwrap();
        assert_eq!(
            (overloaded.option(12), overloaded.option(60)),
            (Some(b"ab".as_slice()), Some(b"c".as_slice()))
        );
    }

    #[test]
    fn what_is_no_request_is_named() {
        let change = |at: usize, to: u8| {
            let mut octets = octets(1, &[]);
            octets[at] = to;
            Packet::parse(&octets).unwrap_err()
        };
        assert_eq!(Packet::parse(&[1; 239]), Err(Malformed::Short));
        assert_eq!(change(0, 2), Malformed::NotRequest);
        assert_eq!(change(1, 6), Malformed::NotEthernet);
        assert_eq!(change(2, 255), Malformed::NotEthernet);
        assert_eq!(change(28, 1), Malformed::NotEthernet);
        assert_eq!(change(236, 0), Malformed::NoMagic);
        assert_eq!(change(242, 5), Malformed::NoType);
        assert_eq!(change(240, 54), Malformed::NoType);
    }

    #[test]
    fn replies_keep_the_relays_option_as_it_came_and_at_the_end() {
        let relay = [1, 3, b'a', 0, 0xff, 2, 1, b'b', 200, 0];
        let request = packet(1, &[(82, &relay)]);
        assert_eq!(request.relay(1), Some([b'a', 0, 0xff].as_slice()));
        assert_eq!((request.relay(200), request.relay(5)), (Some([].as_slice()), None));
        let reply = request.reply(
            MessageType::Offer,
            [192, 0, 2, 9].into(),
            [192, 0, 2, 1].into(),
            &[(54, vec![192, 0, 2, 1]), (114, b"http://192.0.2.1/x".to_vec())],
        );
        assert!(reply.len() >= 300);
        let end = reply.iter().rposition(|b| *b == 255).unwrap();
        assert_eq!(reply[end - relay.len() - 2..end - relay.len()], [82, relay.len() as u8]);
        assert_eq!(reply[end - relay.len()..end], relay);
        let read = Message::decode(&mut Decoder::new(&reply)).unwrap();
        assert_eq!((read.yiaddr(), read.xid()), ([192, 0, 2, 9].into(), 0x0102_0304));
        assert_eq!(read.opts().msg_type(), Some(MessageType::Offer));
        let server = read.opts().get(OptionCode::ServerIdentifier);
        assert_eq!(server, Some(&DhcpOption::ServerIdentifier([192, 0, 2, 1].into())));
    }

    #[test]
    fn replies_stay_below_the_clients_limit() {
        let options: Vec<(u8, Vec<u8>)> = [54, 67, 114, 12].map(|code| (code, vec![b'x'; 120])).into();
        for (limit, left) in [(&[2u8, 64u8][..], 2), (&[0x05, 0xdc], 4), (&[0], 2), (&[0xff, 0xff], 4)] {
            let request = packet(1, &[(57, limit)]);
            let reply = request.reply(MessageType::Ack, [1; 4].into(), [0; 4].into(), &options);
            assert!(reply.len() <= request.limit());
            let held = option::read(&reply);
            assert_eq!(held.len() - 1, left, "{limit:?}");
            assert!(held.contains_key(&54), "{limit:?}");
        }
    }

    proptest! {
        #[test]
        fn no_datagram_makes_it_panic(octets in proptest::collection::vec(any::<u8>(), 0..700)) {
            let _ = Packet::parse(&octets);
        }

        #[test]
        fn no_request_makes_it_panic(
            head in proptest::collection::vec(any::<u8>(), 236),
            options in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let mut octets = head;
            octets[..3].copy_from_slice(&[1, 1, 6]);
            octets[28] &= 0xfe;
            octets[33] |= 1;
            octets.extend(MAGIC);
            octets.extend([53, 1, 1]);
            octets.extend(options);
            let packet = Packet::parse(&octets);
            if let Ok(packet) = packet {
                let client = crate::client::Client::of_packet(&packet);
                prop_assert!(client.details.values().all(|text| text.is_ascii()));
                let reply = packet.reply(MessageType::Offer, [1; 4].into(), [0; 4].into(), &[(1, vec![0; 4])]);
                // The relay's option is always returned.
                let relay = packet.option(code::RELAY).map_or(0, |o| encoded(o.len()));
                prop_assert!(reply.len() <= packet.limit().max(BOOTP).max(260 + relay));
            }
        }
    }
}
