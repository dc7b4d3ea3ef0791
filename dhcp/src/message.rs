//! Writes the client's requests and reads servers' replies.

use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, Flags, HType, MAGIC, Message, MessageType, Opcode, OptionCode, borrowed};
use dhcproto::{Encodable, Encoder};
use serde::{Deserialize, Serialize};

use crate::option::{self, code};

/// Largest reply that is accepted, with its IP and UDP headers: a whole Ethernet frame (RFC 2132 section 9.10).
const LARGEST: u16 = 1500;
/// Smallest size of a request: old relays and servers drop shorter ones.
const BOOTP: usize = dhcproto::v4::MIN_PACKET_SIZE;
/// First octet of a client identifier that is not a hardware address (RFC 2132 section 9.14).
pub const NOT_HARDWARE: u8 = 0;
/// Options that are asked for.
const PARAMETERS: [u8; 5] = [
    code::SUBNET_MASK,
    code::ROUTERS,
    code::RENEWAL_SECONDS,
    code::REBINDING_SECONDS,
    code::SZTP_REDIRECT,
];
/// Vendor class of this client, up to the model.
pub const VENDOR_CLASS: &str = "p4-switch:";

/// The client's identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Hardware address of the interface.
    pub mac: [u8; 6],
    /// Model; option 60 is [`VENDOR_CLASS`] followed by the model.
    pub model: String,
    /// Serial number; option 61 is a zero octet followed by the serial number.
    pub serial: String,
}

/// A lease, as a server grants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address.
    pub address: Ipv4Addr,
    /// Length of the subnet's prefix.
    pub prefix: u8,
    /// The default router, if there is one.
    pub router: Option<Ipv4Addr>,
    /// The server, as it names itself.
    pub server: Ipv4Addr,
    /// How long the address may be used, in seconds.
    pub seconds: u32,
    /// After how many seconds the server is asked to renew (T1).
    pub renew_seconds: u32,
    /// After how many seconds any server is asked (T2).
    pub rebind_seconds: u32,
    /// Bootz servers, as `bootz://HOST:PORT`; other URLs of option 143 are left out.
    pub bootz: Vec<String>,
}

/// Contents of a request.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ask {
    pub(crate) xid: u32,
    pub(crate) secs: u16,
    /// The client's own address, once it is in use.
    pub(crate) in_use: Option<Ipv4Addr>,
    /// The address that is asked for.
    pub(crate) requested: Option<Ipv4Addr>,
    /// The server that is chosen.
    pub(crate) server: Option<Ipv4Addr>,
}

/// A request as octets.
pub(crate) fn request(kind: MessageType, who: &Identity, ask: Ask) -> Vec<u8> {
    let none = Ipv4Addr::UNSPECIFIED;
    let mut message = Message::new_with_id(ask.xid, ask.in_use.unwrap_or(none), none, none, none, &who.mac);
    // Without an address, the client still receives frames to its hardware address, so it does not ask for broadcasts.
    message.set_secs(ask.secs).set_flags(Flags::default());
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    let id = [&[NOT_HARDWARE], who.serial.as_bytes()].concat();
    options.insert(DhcpOption::ClientIdentifier(id));
    let class = format!("{VENDOR_CLASS}{}", who.model);
    options.insert(DhcpOption::ClassIdentifier(class.into_bytes()));
    options.insert(DhcpOption::MaxMessageSize(LARGEST));
    let wanted = PARAMETERS.map(OptionCode::from).to_vec();
    options.insert(DhcpOption::ParameterRequestList(wanted));
    if let Some(address) = ask.requested {
        options.insert(DhcpOption::RequestedIpAddress(address));
    }
    if let Some(server) = ask.server {
        options.insert(DhcpOption::ServerIdentifier(server));
    }
    let mut out = Vec::with_capacity(BOOTP);
    // Encoding fails only for texts that are too long, and these were cut to the length of an option.
    if message.encode(&mut Encoder::new(&mut out)).is_err() {
        return Vec::new();
    }
    out.resize(out.len().max(BOOTP), 0);
    out
}

/// A reply to this client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Offer(Lease),
    Ack(Lease),
    /// A refusal: the server, if it names itself, and its message.
    Nak(Option<Ipv4Addr>, String),
}

/// Reads a reply to `xid` for the hardware address; `None` for any other message.
pub(crate) fn reply(octets: &[u8], mac: [u8; 6], xid: u32) -> Option<Reply> {
    let message = borrowed::Message::new(octets).ok()?;
    // The library trusts the length of the hardware address, so check it first.
    if message.opcode() != Opcode::BootReply || message.htype() != HType::Eth || message.hlen() != 6 {
        return None;
    }
    if message.xid() != xid || message.chaddr() != mac || octets.get(236..240) != Some(MAGIC.as_slice()) {
        return None;
    }
    let options = option::read(octets);
    let address = |code: u8| {
        let first: [u8; 4] = options.get(&code)?.get(..4)?.try_into().ok()?;
        Some(Ipv4Addr::from(first))
    };
    let server = address(code::SERVER_ID);
    let kind = MessageType::from(*options.get(&code::MESSAGE_TYPE)?.first()?);
    if kind == MessageType::Nak {
        let words = options.get(&code::MESSAGE).map(|m| m.escape_ascii().to_string());
        return Some(Reply::Nak(server, words.unwrap_or_default()));
    }
    let lease = lease(message.yiaddr(), server?, address, |code| {
        let octets = options.get(&code)?;
        Some(u32::from_be_bytes(octets.as_slice().try_into().ok()?))
    })?;
    let redirects = options.get(&code::SZTP_REDIRECT).map(|o| option::redirects(o));
    let bootz = redirects
        .unwrap_or_default()
        .into_iter()
        .filter(|r| r.starts_with("bootz://"));
    let lease = Lease {
        bootz: bootz.collect(),
        ..lease
    };
    match kind {
        MessageType::Offer => Some(Reply::Offer(lease)),
        MessageType::Ack => Some(Reply::Ack(lease)),
        _ => None,
    }
}

/// The lease of an offer or acknowledgement, if it can be used.
fn lease(
    address: Ipv4Addr,
    server: Ipv4Addr,
    option: impl Fn(u8) -> Option<Ipv4Addr>,
    number: impl Fn(u8) -> Option<u32>,
) -> Option<Lease> {
    if address.is_unspecified() || address.is_multicast() || address.is_broadcast() || address.is_loopback() {
        return None;
    }
    let mask = u32::from(option(code::SUBNET_MASK)?);
    let prefix = mask.leading_ones();
    if prefix == 0 || mask.checked_shl(prefix).unwrap_or(0) != 0 {
        return None;
    }
    let seconds = number(code::LEASE_SECONDS).filter(|s| *s > 0)?;
    let rebind = number(code::REBINDING_SECONDS).filter(|s| *s > 0 && *s < seconds);
    // RFC 2131 section 4.4.5.
    let rebind_seconds = rebind.unwrap_or(seconds - seconds.div_ceil(8));
    let renew = number(code::RENEWAL_SECONDS).filter(|s| *s > 0 && *s < rebind_seconds);
    Some(Lease {
        address,
        prefix: u8::try_from(prefix).ok()?,
        router: option(code::ROUTERS).filter(|r| !r.is_unspecified()),
        server,
        seconds,
        renew_seconds: renew.unwrap_or(seconds / 2).min(rebind_seconds),
        rebind_seconds,
        bootz: Vec::new(),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) const WHO: [u8; 6] = [2, 0xaa, 0, 0, 0, 1];

    pub(crate) fn identity() -> Identity {
        Identity {
            mac: WHO,
            model: "s1".into(),
            serial: "AF40".into(),
        }
    }

    /// A reply as a server writes it.
    pub(crate) fn octets(kind: u8, xid: u32, address: [u8; 4], options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut out = vec![0; 236];
        out[..3].copy_from_slice(&[2, 1, 6]);
        out[4..8].copy_from_slice(&xid.to_be_bytes());
        out[16..20].copy_from_slice(&address);
        out[28..34].copy_from_slice(&WHO);
        out.extend(MAGIC);
        out.extend([53, 1, kind]);
        for (code, octets) in options {
            out.extend([*code, octets.len() as u8]);
            out.extend(*octets);
        }
        out.push(255);
        out
    }

    pub(crate) const GOOD: &[(u8, &[u8])] = &[
        (54, &[192, 0, 2, 1]),
        (51, &[0, 0, 0, 80]),
        (1, &[255, 255, 255, 0]),
        (3, &[192, 0, 2, 254]),
        (143, b"\x00\x0fbootz://h:15006\x00\x09https://x"),
    ];

    #[test]
    fn a_lease_has_what_it_needs_or_is_none() {
        let read = |options: &[(u8, &[u8])]| reply(&octets(5, 7, [192, 0, 2, 11], options), WHO, 7);
        let Some(Reply::Ack(lease)) = read(GOOD) else { panic!() };
        assert_eq!((lease.prefix, lease.router), (24, Some([192, 0, 2, 254].into())));
        assert_eq!((lease.renew_seconds, lease.rebind_seconds, lease.seconds), (40, 70, 80));
        assert_eq!(lease.bootz, ["bootz://h:15006"]);
        for without in [54, 51, 1] {
            let less: Vec<_> = GOOD.iter().copied().filter(|(code, _)| *code != without).collect();
            assert_eq!(read(&less), None, "without option {without}");
        }
        let with = |code: u8, octets: &'static [u8]| {
            let others = GOOD.iter().copied().filter(|(c, _)| *c != code);
            read(&others.chain([(code, octets)]).collect::<Vec<_>>())
        };
        assert_eq!(with(1, &[255, 0, 255, 0]), None, "a mask with a hole");
        assert_eq!(with(51, &[0, 0, 0, 0]), None, "a lease of no time");
        let Some(Reply::Ack(odd)) = with(59, &[0, 0, 1, 0]) else {
            panic!()
        };
        assert_eq!(odd.rebind_seconds, 70, "T2 after the end of the lease");
    }

    #[test]
    fn replies_to_others_are_not_read() {
        let good = octets(2, 7, [192, 0, 2, 11], GOOD);
        assert!(matches!(reply(&good, WHO, 7), Some(Reply::Offer(_))));
        assert_eq!(reply(&good, WHO, 8), None);
        assert_eq!(reply(&good, [2, 0, 0, 0, 0, 9], 7), None);
        assert_eq!(reply(&octets(2, 7, [0; 4], GOOD), WHO, 7), None);
        let nak = reply(&octets(6, 7, [0; 4], &[(54, &[192, 0, 2, 1]), (56, b"no\n")]), WHO, 7);
        assert_eq!(nak, Some(Reply::Nak(Some([192, 0, 2, 1].into()), "no\\n".into())));
    }

    proptest! {
        #[test]
        fn no_reply_makes_it_panic(kind in any::<u8>(), hlen in any::<u8>(), options in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut good = octets(kind, 7, [192, 0, 2, 11], &[]);
            good.pop();
            good.extend(options);
            let _ = reply(&good, WHO, 7);
            good[2] = hlen;
            let _ = reply(&good, WHO, 7);
        }
    }
}
