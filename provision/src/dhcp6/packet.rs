//! Messages of DHCPv6 (RFC 8415, sections 8, 9 and 21) as octets.
//!
//! Requests are read option by option as raw octets, as those of DHCPv4 are: `dhcproto` reads a relayed message as if it
//! were another relay's. Replies are written with `dhcproto`.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;

use dhcproto::v6::{DhcpOption, DhcpOptions, IAAddr, IANA, Message, MessageType, Status, StatusCode, UnknownOption};
use dhcproto::{Encodable as _, Encoder};
use vfabric_api::ident::Mac;

/// Codes of options (IANA, "DHCPv6 Option Codes").
pub mod code {
    #![allow(missing_docs)]
    pub const CLIENT_ID: u16 = 1;
    pub const SERVER_ID: u16 = 2;
    pub const IA_NA: u16 = 3;
    pub const IA_ADDRESS: u16 = 5;
    pub const REQUESTED: u16 = 6;
    pub const RELAYED: u16 = 9;
    pub const USER_CLASS: u16 = 15;
    pub const VENDOR_CLASS: u16 = 16;
    pub const INTERFACE_ID: u16 = 18;
    pub const DNS: u16 = 23;
    pub const DOMAINS: u16 = 24;
    /// RFC 5970, section 3.1.
    pub const BOOT_FILE_URL: u16 = 59;
    /// RFC 6939.
    pub const LINK_LAYER_ADDRESS: u16 = 79;
    /// RFC 8357, section 4.2.
    pub const RELAY_PORT: u16 = 135;
    /// RFC 8572, section 8.2.
    pub const SZTP_REDIRECT: u16 = 136;
    /// SONiC's provisioning script.
    pub const SCRIPT: u16 = 239;
}

/// Most relays that a message comes through (`HOP_COUNT_LIMIT`, RFC 8415, section 7.6).
const RELAYS: usize = 8;
/// Octets of a relay's fixed part.
const RELAY_HEADER: usize = 34;
/// Longest DUID, with its type (RFC 8415, section 11.1).
const LONGEST_DUID: usize = 130;
/// Most associations of a message that are answered; a switch has one.
const ASSOCIATIONS: usize = 4;
/// Hardware type of Ethernet.
const ETHERNET: [u8; 2] = [0, 1];

/// Why a datagram is not a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Malformed {
    /// Shorter than a message, or an option is cut off.
    #[error("it is cut off")]
    Short,
    /// A type that clients and relays do not send.
    #[error("it is not a request")]
    NotRequest,
    /// Too many relays.
    #[error("it came through more than {RELAYS} relays")]
    Relays,
    /// A relay's message that contains no client's message.
    #[error("a relay sent no message")]
    Empty,
    /// A client identifier that is too long.
    #[error("its client identifier is too long")]
    Duid,
}

/// Options in the order of their codes; of one code in the order of the message.
type Options = BTreeMap<u16, Vec<Vec<u8>>>;

/// A relay that a message came through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    hops: u8,
    /// An address of the link that the client or the next relay is on; unspecified if the relay does not say.
    pub link: Ipv6Addr,
    /// The address from which the relay received the message.
    pub peer: Ipv6Addr,
    options: Options,
}

/// An association that a client asks about (IA_NA).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Association {
    /// Its number, which the client chose.
    pub id: u32,
    /// Addresses in it.
    pub addresses: Vec<Ipv6Addr>,
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    /// What it asks for.
    pub kind: MessageType,
    xid: [u8; 3],
    options: Options,
    /// Relays, the one next to this server first.
    pub relays: Vec<Relay>,
}

fn options(mut octets: &[u8]) -> Result<Options, Malformed> {
    let mut options = Options::new();
    while !octets.is_empty() {
        let ([a, b, c, d], rest) = octets.split_first_chunk::<4>().ok_or(Malformed::Short)?;
        let length = usize::from(u16::from_be_bytes([*c, *d]));
        let (value, rest) = rest.split_at_checked(length).ok_or(Malformed::Short)?;
        let all = options.entry(u16::from_be_bytes([*a, *b])).or_default();
        all.push(value.to_vec());
        octets = rest;
    }
    Ok(options)
}

fn address(octets: &[u8], at: usize) -> Option<Ipv6Addr> {
    let octets: [u8; 16] = octets.get(at..at.checked_add(16)?)?.try_into().ok()?;
    Some(octets.into())
}

/// Texts with a length of two octets in front of each.
fn texts(mut octets: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (length, rest) = octets.split_first_chunk::<2>()?;
        let (text, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        octets = rest;
        Some(text)
    })
}

impl Packet {
    /// Reads a datagram of a client or a relay.
    ///
    /// # Errors
    /// The datagram is no request.
    pub fn parse(datagram: &[u8]) -> Result<Self, Malformed> {
        use MessageType::{Confirm, Decline, InformationRequest, Rebind, RelayForw, Release, Renew, Request, Solicit};
        let mut relays: Vec<Relay> = Vec::new();
        let mut inner: Vec<u8>;
        let mut octets = datagram;
        loop {
            let kind = MessageType::from(*octets.first().ok_or(Malformed::Short)?);
            match kind {
                RelayForw if relays.len() >= RELAYS => return Err(Malformed::Relays),
                RelayForw => {
                    let (header, rest) = octets.split_at_checked(RELAY_HEADER).ok_or(Malformed::Short)?;
                    let mut options = options(rest)?;
                    let relayed = options.remove(&code::RELAYED).unwrap_or_default();
                    let relayed = relayed.into_iter().next().ok_or(Malformed::Empty)?;
                    relays.push(Relay {
                        hops: header.get(1).copied().unwrap_or_default(),
                        link: address(header, 2).ok_or(Malformed::Short)?,
                        peer: address(header, 18).ok_or(Malformed::Short)?,
                        options,
                    });
                    inner = relayed;
                    octets = inner.as_slice();
                }
                Solicit | Request | Confirm | Renew | Rebind | Release | Decline | InformationRequest => {
                    let (header, rest) = octets.split_first_chunk::<4>().ok_or(Malformed::Short)?;
                    let packet = Self {
                        kind,
                        xid: [header[1], header[2], header[3]],
                        options: options(rest)?,
                        relays,
                    };
                    let is_long = packet.duid().is_some_and(|duid| duid.len() > LONGEST_DUID);
                    return if is_long { Err(Malformed::Duid) } else { Ok(packet) };
                }
                _ => return Err(Malformed::NotRequest),
            }
        }
    }

    /// An option; the first one, if it is there more than once.
    pub fn option(&self, code: u16) -> Option<&[u8]> {
        self.options.get(&code)?.first().map(Vec::as_slice)
    }

    /// Who sends it.
    pub fn duid(&self) -> Option<&[u8]> {
        self.option(code::CLIENT_ID).filter(|duid| !duid.is_empty())
    }

    /// The server that it is for; none if it is for every server.
    pub fn server(&self) -> Option<&[u8]> {
        self.option(code::SERVER_ID)
    }

    /// Whether the client asks for an option.
    pub fn asks_for(&self, code: u16) -> bool {
        let list = self.option(code::REQUESTED).unwrap_or_default();
        list.chunks_exact(2).any(|c| c == code.to_be_bytes())
    }

    /// Codes that the client asks for.
    pub fn asked(&self) -> impl Iterator<Item = u16> {
        let list = self.option(code::REQUESTED).unwrap_or_default();
        list.chunks_exact(2).map(|c| u16::from_be_bytes([c[0], c[1]]))
    }

    /// The first class of its vendor.
    pub fn vendor_class(&self) -> &[u8] {
        let classes = self.option(code::VENDOR_CLASS).and_then(|octets| octets.get(4..));
        texts(classes.unwrap_or_default()).next().unwrap_or_default()
    }

    /// The first class of its user.
    pub fn user_class(&self) -> &[u8] {
        let classes = self.option(code::USER_CLASS).unwrap_or_default();
        // Some clients omit the length, as in DHCPv4.
        texts(classes).next().unwrap_or(classes)
    }

    /// What it asks about.
    pub fn associations(&self) -> Vec<Association> {
        let all = self.options.get(&code::IA_NA).map(Vec::as_slice).unwrap_or_default();
        let read = |octets: &Vec<u8>| {
            let (id, rest) = octets.split_first_chunk::<4>()?;
            // T1 and T2 of a client are only hints, so they are skipped.
            let inner = options(rest.get(8..)?).ok()?;
            let addresses = inner.get(&code::IA_ADDRESS).map(Vec::as_slice).unwrap_or_default();
            Some(Association {
                id: u32::from_be_bytes(*id),
                addresses: addresses.iter().filter_map(|octets| address(octets, 0)).collect(),
            })
        };
        all.iter().take(ASSOCIATIONS).filter_map(read).collect()
    }

    /// Hardware addresses that the client may have, the most trustworthy first. `source` is the address from which
    /// the message came.
    pub fn hardware(&self, source: Ipv6Addr) -> Vec<Mac> {
        let client = self.relays.last();
        let seen = client.and_then(|relay| relay.options.get(&code::LINK_LAYER_ADDRESS)?.first());
        let seen = seen.and_then(|octets| mac(octets.strip_prefix(&ETHERNET)?));
        let own = eui64(client.map_or(source, |relay| relay.peer));
        let of_duid = match self.duid().unwrap_or_default() {
            // With a time, and without (RFC 8415, sections 11.2 and 11.4).
            [0, 1, 0, 1, _, _, _, _, rest @ ..] | [0, 3, 0, 1, rest @ ..] => mac(rest),
            _ => None,
        };
        let mut all: Vec<Mac> = Vec::new();
        for mac in [seen, own, of_duid].into_iter().flatten() {
            if !all.contains(&mac) {
                all.push(mac);
            }
        }
        all
    }

    /// An address on the client's link, according to its relays; none if the client is on our own link, or no
    /// relay names an address.
    pub fn link(&self) -> Option<Ipv6Addr> {
        let links = self.relays.iter().rev().map(|relay| relay.link);
        links.into_iter().find(|link| !link.is_unspecified())
    }

    /// Whether the relay next to us sends from a port of its own (RFC 8357).
    pub fn has_port(&self) -> bool {
        let next = self.relays.first();
        next.is_some_and(|relay| relay.options.contains_key(&code::RELAY_PORT))
    }

    /// The octets of a reply, inside the replies to its relays. Empty if it cannot be written.
    pub fn reply(&self, kind: MessageType, options: Vec<DhcpOption>) -> Vec<u8> {
        let mut message = Message::new_with_id(kind, self.xid);
        message.set_opts(options.into_iter().collect::<DhcpOptions>());
        let mut octets = Vec::new();
        if message.encode(&mut Encoder::new(&mut octets)).is_err() {
            return Vec::new();
        }
        for relay in self.relays.iter().rev() {
            let mut outer = vec![u8::from(MessageType::RelayRepl), relay.hops];
            outer.extend(relay.link.octets());
            outer.extend(relay.peer.octets());
            // Options that a relay needs in the reply to find its client (RFC 8415, section 19.3; RFC 8357,
            // section 5.3).
            for code in [code::INTERFACE_ID, code::RELAY_PORT] {
                let back = relay.options.get(&code).and_then(|all| all.first());
                back.into_iter().for_each(|octets| push(&mut outer, code, octets));
            }
            push(&mut outer, code::RELAYED, &octets);
            octets = outer;
        }
        octets
    }
}

fn push(to: &mut Vec<u8>, code: u16, octets: &[u8]) {
    to.extend(code.to_be_bytes());
    to.extend(u16::try_from(octets.len()).unwrap_or(u16::MAX).to_be_bytes());
    to.extend(octets);
}

/// A hardware address of Ethernet that a machine can have.
fn mac(octets: &[u8]) -> Option<Mac> {
    let octets: [u8; 6] = octets.try_into().ok()?;
    let is_one = octets != [0; 6] && octets[0] & 1 == 0;
    is_one.then_some(Mac(octets))
}

/// The hardware address that a link-local address was made of (RFC 4291, appendix A).
fn eui64(address: Ipv6Addr) -> Option<Mac> {
    let o = address.octets();
    let is_made = address.is_unicast_link_local() && o[11] == 0xff && o[12] == 0xfe;
    let octets = [o[8] ^ 2, o[9], o[10], o[13], o[14], o[15]];
    is_made.then(|| mac(&octets)).flatten()
}

/// An option of which `dhcproto` knows only the number.
pub fn raw(code: u16, octets: Vec<u8>) -> DhcpOption {
    DhcpOption::Unknown(UnknownOption::new(code.into(), octets))
}

/// How a request or an association ended.
pub fn status(status: Status, words: &str) -> DhcpOption {
    DhcpOption::StatusCode(StatusCode {
        status,
        msg: words.to_owned(),
    })
}

/// An address of an association, for so many seconds.
pub fn leased(address: Ipv6Addr, seconds: u32) -> DhcpOption {
    DhcpOption::IAAddr(IAAddr {
        addr: address,
        preferred_life: seconds,
        valid_life: seconds,
        opts: DhcpOptions::new(),
    })
}

/// An association with what it holds now. It is renewed after half of its time (RFC 8415, section 21.4).
pub fn association(id: u32, seconds: u32, inner: Vec<DhcpOption>) -> DhcpOption {
    DhcpOption::IANA(IANA {
        id,
        t1: seconds / 2,
        t2: seconds / 5 * 4,
        opts: inner.into_iter().collect(),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A message of a client.
    pub(crate) fn message(kind: u8, options: &[(u16, &[u8])]) -> Vec<u8> {
        let mut octets = vec![kind, 1, 2, 3];
        options.iter().for_each(|(code, value)| push(&mut octets, *code, value));
        octets
    }

    /// A relay's message around another one.
    pub(crate) fn relayed(link: &str, peer: &str, options: &[(u16, &[u8])], inner: &[u8]) -> Vec<u8> {
        let mut octets = vec![12, 0];
        for text in [link, peer] {
            octets.extend(text.parse::<Ipv6Addr>().unwrap().octets());
        }
        options.iter().for_each(|(code, value)| push(&mut octets, *code, value));
        push(&mut octets, code::RELAYED, inner);
        octets
    }

    pub(crate) fn packet(kind: u8, options: &[(u16, &[u8])]) -> Packet {
        Packet::parse(&message(kind, options)).unwrap()
    }

    #[test]
    fn hardware_addresses_come_from_the_relay_then_the_link_then_the_duid() {
        let source: Ipv6Addr = "fe80::aa:ff:fe00:1".parse().unwrap();
        let duid = [0, 3, 0, 1, 2, 0, 0, 0, 0, 9];
        let all = |packet: &Packet, source| {
            packet
                .hardware(source)
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        let direct = packet(1, &[(1, &duid)]);
        assert_eq!(all(&direct, source), ["02:aa:00:00:00:01", "02:00:00:00:00:09"]);
        // A link-local address made for privacy shows no hardware address. A time in the
        // DUID is skipped.
        let timed = packet(1, &[(1, &[0, 1, 0, 1, 9, 9, 9, 9, 2, 0, 0, 0, 0, 9])]);
        assert_eq!(all(&timed, "fe80::1234".parse().unwrap()), ["02:00:00:00:00:09"]);
        // DUIDs of a UUID, of a group address, and of other hardware.
        for junk in [
            &[0u8, 4, 1, 2, 3, 4][..],
            &[0, 3, 0, 1, 3, 0, 0, 0, 0, 9],
            &[0, 3, 0, 6, 2, 0, 0, 0, 0, 9],
        ] {
            assert!(
                all(&packet(1, &[(1, junk)]), "fe80::1".parse().unwrap()).is_empty(),
                "{junk:?}"
            );
        }
        let seen = [0, 1, 2, 0, 0, 0, 0, 7];
        let far = relayed(
            "2001:db8:2::1",
            "fe80::aa:ff:fe00:1",
            &[(79, &seen)],
            &message(1, &[(1, &duid)]),
        );
        let far = Packet::parse(&far).unwrap();
        let expected = ["02:00:00:00:00:07", "02:aa:00:00:00:01", "02:00:00:00:00:09"];
        assert_eq!(all(&far, "2001:db8:2::1".parse().unwrap()), expected);
    }

    #[test]
    fn replies_go_back_through_every_relay() {
        let inner = message(1, &[(1, b"duid")]);
        let near_client = relayed("2001:db8:2::1", "fe80::9", &[(18, b"port7")], &inner);
        let near_us = relayed("::", "2001:db8:2::1", &[(135, &[0, 0])], &near_client);
        let packet = Packet::parse(&near_us).unwrap();
        assert_eq!(packet.link(), Some("2001:db8:2::1".parse().unwrap()));
        assert!(packet.has_port());
        let octets = packet.reply(MessageType::Advertise, vec![DhcpOption::ClientId(b"duid".to_vec())]);
        let expected = {
            let mut inner = message(2, &[(1, b"duid")]);
            for (link, peer, code, back) in [
                ("2001:db8:2::1", "fe80::9", 18, &b"port7"[..]),
                ("::", "2001:db8:2::1", 135, &[0, 0]),
            ] {
                inner = relayed(link, peer, &[(code, back)], &inner);
                inner[0] = 13;
            }
            inner
        };
        assert_eq!(octets, expected);
    }

    #[test]
    fn what_is_no_request_says_why() {
        let long = [7; 131];
        let mut deep = message(1, &[(1, b"duid")]);
        for _ in 0..9 {
            deep = relayed("::", "fe80::1", &[], &deep);
        }
        let cut = message(1, &[(1, b"duid")]);
        for (octets, why) in [
            (Vec::new(), Malformed::Short),
            (vec![1, 2], Malformed::Short),
            (cut[..cut.len() - 1].to_vec(), Malformed::Short),
            (message(2, &[]), Malformed::NotRequest),
            (message(200, &[]), Malformed::NotRequest),
            (message(1, &[(1, &long)]), Malformed::Duid),
            (deep, Malformed::Relays),
            (vec![12; 34], Malformed::Empty),
        ] {
            assert_eq!(Packet::parse(&octets), Err(why));
        }
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic_and_what_is_read_can_be_answered(
            kind in 0u8..14,
            rest in proptest::collection::vec(any::<u8>(), 0..300),
            relays in 0usize..10,
        ) {
            let mut octets = [vec![kind], rest].concat();
            for _ in 0..relays {
                octets = relayed("2001:db8::1", "fe80::1", &[], &octets);
            }
            if let Ok(packet) = Packet::parse(&octets) {
                let _ = (packet.associations(), packet.vendor_class(), packet.user_class(), packet.asked().count());
                let _ = packet.hardware(Ipv6Addr::LOCALHOST);
                let reply = packet.reply(MessageType::Reply, vec![status(Status::Success, "")]);
                prop_assert!(!reply.is_empty());
            }
        }

        #[test]
        fn a_whole_option_is_read_whatever_it_holds(value in proptest::collection::vec(any::<u8>(), 0..100), code in 1u16..300) {
            prop_assume!(code != code::CLIENT_ID);
            let packet = packet(1, &[(1, b"duid"), (code, &value)]);
            prop_assert_eq!(packet.option(code), Some(value.as_slice()));
            prop_assert_eq!(packet.duid(), Some(&b"duid"[..]));
        }
    }
}
