//! Writes the client's messages and reads servers' replies (RFC 8415, sections 8 and 21).

use std::net::Ipv6Addr;

use serde::{Deserialize, Serialize};

use crate::message::{Identity, NOT_HARDWARE, VENDOR_CLASS};
use crate::option::redirects;

/// Codes of options.
mod code {
    pub(super) const CLIENT_ID: u16 = 1;
    pub(super) const SERVER_ID: u16 = 2;
    pub(super) const IA_NA: u16 = 3;
    pub(super) const IA_ADDRESS: u16 = 5;
    pub(super) const REQUESTED: u16 = 6;
    pub(super) const ELAPSED: u16 = 8;
    pub(super) const STATUS: u16 = 13;
    pub(super) const VENDOR_CLASS: u16 = 16;
    /// RFC 8572, section 8.2.
    pub(super) const SZTP_REDIRECT: u16 = 136;
}

/// The one association of this client.
const IAID: u32 = 1;
/// Enterprise number of the identifier and of the vendor class: none is registered for this software, and 0 is reserved by IANA.
const ENTERPRISE: [u8; 4] = [0; 4];
/// Longest identifier of a server (RFC 8415, section 11.1).
const LONGEST_DUID: usize = 130;

/// Kinds of messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Solicit = 1,
    Request = 3,
    Renew = 5,
    Rebind = 6,
}

/// A lease, as a server grants it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The address.
    pub address: Ipv6Addr,
    /// Identifier of the server.
    pub server: Vec<u8>,
    /// How long the address may be used, in seconds.
    pub seconds: u32,
    /// After how many seconds the server is asked to renew (T1).
    pub renew_seconds: u32,
    /// After how many seconds any server is asked (T2).
    pub rebind_seconds: u32,
    /// Bootz servers, as `bootz://HOST:PORT`; other URLs of option 136 are left out.
    pub bootz: Vec<String>,
}

/// Contents of a message.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Ask<'a> {
    pub(crate) xid: [u8; 3],
    /// Time since the exchange began, in hundredths of a second.
    pub(crate) elapsed: u16,
    /// The address that the client asks for or uses.
    pub(crate) address: Option<Ipv6Addr>,
    /// The server that is chosen.
    pub(crate) server: Option<&'a [u8]>,
}

fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    // A model or serial number that is too long is cut; all other values are far below the
    // limit.
    let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    out.extend(code.to_be_bytes());
    out.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(value);
}

/// The client's identifier: numbered by the vendor, with a zero octet and the serial number (RFC 8415, section 11.3).
fn duid(who: &Identity) -> Vec<u8> {
    [&[0, 2], &ENTERPRISE[..], &[NOT_HARDWARE], who.serial.as_bytes()].concat()
}

/// A message as octets.
pub(crate) fn request(kind: Kind, who: &Identity, ask: Ask<'_>) -> Vec<u8> {
    let mut out = vec![kind as u8];
    out.extend(ask.xid);
    option(&mut out, code::CLIENT_ID, &duid(who));
    if let Some(server) = ask.server {
        option(&mut out, code::SERVER_ID, server);
    }
    // T1 and T2 are zero: the server chooses (section 21.4).
    let mut association = [&IAID.to_be_bytes()[..], &[0; 8]].concat();
    if let Some(address) = ask.address {
        let value = [&address.octets()[..], &[0; 8]].concat();
        option(&mut association, code::IA_ADDRESS, &value);
    }
    option(&mut out, code::IA_NA, &association);
    option(&mut out, code::REQUESTED, &code::SZTP_REDIRECT.to_be_bytes());
    option(&mut out, code::ELAPSED, &ask.elapsed.to_be_bytes());
    let class = format!("{VENDOR_CLASS}{}", who.model);
    let length = u16::try_from(class.len()).unwrap_or(u16::MAX).to_be_bytes();
    option(
        &mut out,
        code::VENDOR_CLASS,
        &[&ENTERPRISE[..], &length, class.as_bytes()].concat(),
    );
    out
}

/// A reply to this client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// ADVERTISE.
    Offer(Lease),
    /// REPLY.
    Ack(Lease),
    /// A REPLY without an address, and its status in words.
    Refused(String),
}

/// Options, each with its code. They end at the first one that is cut off.
fn options(mut octets: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let ([a, b, c, d], rest) = octets.split_first_chunk::<4>()?;
        let (value, rest) = rest.split_at_checked(u16::from_be_bytes([*c, *d]).into())?;
        octets = rest;
        Some((u16::from_be_bytes([*a, *b]), value))
    })
}

fn find(octets: &[u8], code: u16) -> Option<&[u8]> {
    options(octets)
        .find(|(found, _)| *found == code)
        .map(|(_, value)| value)
}

/// Status code and message among these options (section 21.13), if the status is not success.
fn failure(octets: &[u8]) -> Option<String> {
    let (code, words) = find(octets, code::STATUS)?.split_first_chunk::<2>()?;
    let code = u16::from_be_bytes(*code);
    (code != 0).then(|| format!("status {code}: {}", words.escape_ascii()))
}

fn number(octets: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(octets.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

/// Reads a reply to `xid`; `None` for any other message.
pub(crate) fn reply(octets: &[u8], who: &Identity, xid: [u8; 3]) -> Option<Reply> {
    let ([kind, a, b, c], body) = octets.split_first_chunk::<4>()?;
    if [*a, *b, *c] != xid || find(body, code::CLIENT_ID)? != duid(who) {
        return None;
    }
    let server = find(body, code::SERVER_ID).filter(|server| (1..=LONGEST_DUID).contains(&server.len()))?;
    let lease = lease(body, server);
    match (*kind, lease) {
        // An ADVERTISE without an address is no offer (section 18.2.9).
        (2, Ok(lease)) => Some(Reply::Offer(lease)),
        (7, Ok(lease)) => Some(Reply::Ack(lease)),
        (7, Err(why)) => Some(Reply::Refused(why)),
        _ => None,
    }
}

/// The lease that a message grants.
///
/// # Errors
/// The reason, in words, why the message has no usable lease.
fn lease(body: &[u8], server: &[u8]) -> Result<Lease, String> {
    if let Some(why) = failure(body) {
        return Err(why);
    }
    let ours = options(body).filter(|(code, _)| *code == code::IA_NA);
    let association = ours
        .map(|(_, value)| value)
        .find(|value| number(value, 0) == Some(IAID));
    let association = association.ok_or("no association")?;
    let inner = association.get(12..).unwrap_or_default();
    if let Some(why) = failure(inner) {
        return Err(why);
    }
    let good = |value: &[u8]| -> Option<(Ipv6Addr, u32)> {
        let address = Ipv6Addr::from(<[u8; 16]>::try_from(value.get(..16)?).ok()?);
        let (preferred, valid) = (number(value, 16)?, number(value, 20)?);
        let is_usable = !address.is_unspecified()
            && !address.is_multicast()
            && !address.is_loopback()
            && !address.is_unicast_link_local();
        (is_usable && valid > 0 && preferred <= valid).then_some((address, valid))
    };
    let found = options(inner)
        .filter(|(code, _)| *code == code::IA_ADDRESS)
        .find_map(|(_, value)| good(value));
    let (address, seconds) = found.ok_or("no address that can be used")?;
    // If the server's times make no sense, they are chosen here (section 14.2).
    let rebind = number(association, 8).filter(|t2| *t2 > 0 && *t2 < seconds);
    let rebind_seconds = rebind.unwrap_or(seconds - seconds.div_ceil(5));
    let renew = number(association, 4).filter(|t1| *t1 > 0 && *t1 < rebind_seconds);
    let bootz = find(body, code::SZTP_REDIRECT).map(redirects).unwrap_or_default();
    Ok(Lease {
        address,
        server: server.to_vec(),
        seconds,
        renew_seconds: renew.unwrap_or(seconds / 2).min(rebind_seconds),
        rebind_seconds,
        bootz: bootz.into_iter().filter(|url| url.starts_with("bootz://")).collect(),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::tests::identity;

    pub(crate) const XID: [u8; 3] = [1, 2, 3];
    const SERVER: &[u8] = &[0, 3, 0, 1, 2, 0, 0, 0, 0, 9];

    /// A message as a server writes it: an address for 80 seconds, T1 40, T2 70.
    pub(crate) fn octets(
        kind: u8,
        xid: [u8; 3],
        server: &[u8],
        address: Option<&str>,
        more: &[(u16, &[u8])],
    ) -> Vec<u8> {
        let mut out = vec![kind, xid[0], xid[1], xid[2]];
        option(&mut out, code::CLIENT_ID, &duid(&identity()));
        option(&mut out, code::SERVER_ID, server);
        let mut association = [1u32, 40, 70].map(u32::to_be_bytes).concat();
        if let Some(address) = address {
            let address: Ipv6Addr = address.parse().unwrap();
            let times = [60u32, 80].map(u32::to_be_bytes).concat();
            option(
                &mut association,
                code::IA_ADDRESS,
                &[&address.octets()[..], &times].concat(),
            );
        }
        option(&mut out, code::IA_NA, &association);
        for (code, value) in more {
            option(&mut out, *code, value);
        }
        out
    }

    pub(crate) const BOOTZ: (u16, &[u8]) = (136, b"\x00\x0fbootz://h:15006\x00\x09https://x");

    #[test]
    fn a_lease_has_what_it_needs_or_is_none() {
        let read = |octets: &[u8]| reply(octets, &identity(), XID);
        let good = octets(7, XID, SERVER, Some("2001:db8::11"), &[BOOTZ]);
        let Some(Reply::Ack(lease)) = read(&good) else { panic!() };
        assert_eq!(lease.address, "2001:db8::11".parse::<Ipv6Addr>().unwrap());
        assert_eq!((lease.renew_seconds, lease.rebind_seconds, lease.seconds), (40, 70, 80));
        assert_eq!(
            (lease.server.as_slice(), lease.bootz),
            (SERVER, vec!["bootz://h:15006".to_owned()])
        );
        assert!(matches!(
            read(&octets(2, XID, SERVER, Some("2001:db8::11"), &[])),
            Some(Reply::Offer(_))
        ));
        assert_eq!(read(&octets(2, XID, SERVER, None, &[])), None, "an offer of nothing");
        for bad in ["::", "::1", "ff02::1", "fe80::1"] {
            let refused = read(&octets(7, XID, SERVER, Some(bad), &[]));
            assert!(matches!(refused, Some(Reply::Refused(_))), "{bad}: {refused:?}");
        }
        let refused = read(&octets(7, XID, SERVER, None, &[(13, b"\0\x02none\n")]));
        assert_eq!(refused, Some(Reply::Refused("status 2: none\\n".into())));
        assert_eq!(
            read(&octets(7, [1, 2, 4], SERVER, Some("2001:db8::11"), &[])),
            None,
            "for another exchange"
        );
        assert_eq!(
            read(&octets(7, XID, &[], Some("2001:db8::11"), &[])),
            None,
            "of no server"
        );
        let mut other = identity();
        other.serial = "AF41".into();
        assert_eq!(reply(&good, &other, XID), None, "for another client");
    }

    proptest! {
        #[test]
        fn no_reply_makes_it_panic(kind in any::<u8>(), more in prop::collection::vec(any::<u8>(), 0..300), cut in 0usize..200) {
            let mut good = octets(kind, XID, SERVER, Some("2001:db8::11"), &[BOOTZ]);
            good.extend(more);
            let _ = reply(&good, &identity(), XID);
            let _ = reply(good.get(..cut).unwrap_or(&good), &identity(), XID);
        }
    }
}
