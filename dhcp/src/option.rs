//! Options of DHCPv4: their numbers, and how to read them as raw octets, so that a malformed option does not hide those
//! after it.

use std::collections::BTreeMap;

use dhcproto::v4::borrowed::DhcpOptionIterator;

/// Numbers of options (RFC 2132 and those named beside them).
pub mod code {
    #![allow(missing_docs)]
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTERS: u8 = 3;
    pub const DNS: u8 = 6;
    pub const HOST_NAME: u8 = 12;
    pub const DOMAIN: u8 = 15;
    pub const BROADCAST: u8 = 28;
    pub const NTP: u8 = 42;
    pub const REQUESTED_ADDRESS: u8 = 50;
    pub const LEASE_SECONDS: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER_ID: u8 = 54;
    pub const PARAMETERS: u8 = 55;
    pub const MESSAGE: u8 = 56;
    pub const MAX_SIZE: u8 = 57;
    pub const RENEWAL_SECONDS: u8 = 58;
    pub const REBINDING_SECONDS: u8 = 59;
    pub const VENDOR_CLASS: u8 = 60;
    pub const CLIENT_ID: u8 = 61;
    pub const TFTP_NAME: u8 = 66;
    pub const BOOT_FILE: u8 = 67;
    pub const WWW: u8 = 72;
    /// RFC 3004.
    pub const USER_CLASS: u8 = 77;
    /// RFC 3046.
    pub const RELAY: u8 = 82;
    /// ONIE's default URL.
    pub const DEFAULT_URL: u8 = 114;
    /// RFC 3925.
    pub const VENDOR_OPTIONS: u8 = 125;
    /// RFC 8572 section 8.
    pub const SZTP_REDIRECT: u8 = 143;
    /// RFC 5859.
    pub const TFTP_ADDRESS: u8 = 150;
    /// Script of SONiC and Cumulus.
    pub const SCRIPT: u8 = 239;
}

const FILE: std::ops::Range<usize> = 108..236;
const SNAME: std::ops::Range<usize> = 44..108;
/// Where the options begin: after the fixed part and the magic cookie.
const OPTIONS: usize = 240;

/// The options of a message by their numbers. Parts of one option are joined (RFC 3396). `file` and `sname` are read,
/// too, if the message says that they contain options (RFC 2131 section 4.1).
pub fn read(message: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut options = BTreeMap::new();
    collect(message.get(OPTIONS..).unwrap_or_default(), &mut options);
    let overload = options.get(&code::OVERLOAD).and_then(|o: &Vec<u8>| o.first());
    let overload = overload.copied().unwrap_or(0);
    for (bit, field) in [(1, FILE), (2, SNAME)] {
        if overload & bit != 0 {
            collect(message.get(field).unwrap_or_default(), &mut options);
        }
    }
    options
}

fn collect(octets: &[u8], into: &mut BTreeMap<u8, Vec<u8>>) {
    for option in DhcpOptionIterator::new(octets) {
        let all = into.entry(option.code().into()).or_default();
        all.extend_from_slice(option.data());
    }
}

/// The texts of option 143 (RFC 8572 section 8.3), each preceded by its length in two octets. Reading stops at the
/// first text that is truncated or not ASCII.
pub fn redirects(octets: &[u8]) -> Vec<String> {
    let (mut rest, mut all) = (octets, Vec::new());
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let Some((text, after)) = after.split_at_checked(u16::from_be_bytes(*length).into()) else {
            break;
        };
        let text = std::str::from_utf8(text)
            .ok()
            .filter(|t| t.bytes().all(|b| b.is_ascii_graphic()));
        let Some(text) = text.filter(|t| !t.is_empty()) else {
            break;
        };
        all.push(text.to_owned());
        rest = after;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_end_where_they_make_no_sense() {
        assert_eq!(redirects(b"\x00\x03a:b\x00\x01c"), ["a:b", "c"]);
        assert_eq!(redirects(b"\x00\x03a:b\x00\x09c"), ["a:b"]);
        assert_eq!(redirects(b"\x00\x03a b\x00\x01c"), [""; 0]);
        assert_eq!(redirects(b"\x00"), [""; 0]);
    }
}
