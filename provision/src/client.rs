//! What a machine says about itself, in DHCP and in HTTP.
//!
//! Nothing here is proven, and all of it may be junk from a broken EEPROM: a field that cannot be read is
//! ignored, and is never an error.

use std::collections::BTreeMap;
use std::fmt;

use fabric_dhcp::message::{NOT_HARDWARE, VENDOR_CLASS};
use serde::{Deserialize, Serialize};
use vfabric_api::ident::{Label, Mac};

use crate::dhcp::packet::{Packet, code};
use crate::dhcp6::packet as packet6;

/// Enterprise numbers under which ONIE sends its options (RFC 3925): the current one, and that of its first releases.
pub const ONIE_ENTERPRISES: [u32; 2] = [42_623, 40_310];
/// Most octets of a field that are kept for people.
const SHOWN: usize = 64;

/// The kind of software on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The Open Network Install Environment.
    Onie,
    /// SONiC's ZTP service.
    Sonic,
    /// Cumulus Linux's autoprovisioning.
    Cumulus,
    /// Arista EOS' zero touch provisioning.
    Arista,
    /// A client of OpenConfig Bootz or of RFC 8572.
    Bootz,
    /// Anything else.
    Other,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Onie => "ONIE",
            Self::Sonic => "SONiC",
            Self::Cumulus => "Cumulus",
            Self::Arista => "Arista",
            Self::Bootz => "Bootz",
            Self::Other => "other",
        })
    }
}

/// What a machine says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// Its software.
    pub kind: Kind,
    /// Its serial number, if it is readable.
    pub serial: Option<Label>,
    /// Its model, if it is readable.
    pub model: Option<Label>,
    /// The enterprise number under which an ONIE sends its options.
    pub enterprise: u32,
    /// Everything that it says, for people: names and texts, cut to some octets, unprintable ones escaped.
    pub details: BTreeMap<String, String>,
}

/// Octets as text for people and logs: visible ASCII unchanged, the rest escaped, cut to a limit.
pub fn shown(octets: &[u8]) -> String {
    let cut = octets.get(..SHOWN);
    let text = cut.unwrap_or(octets).escape_ascii().to_string();
    if cut.is_some_and(|cut| cut.len() < octets.len()) {
        format!("{text}... ({} octets)", octets.len())
    } else {
        text
    }
}

/// A label, unless it is junk. Manufacturers without serial numbers write one of these.
fn label(octets: &[u8]) -> Option<Label> {
    let text = std::str::from_utf8(octets)
        .ok()?
        .trim_matches(['\0', ' ', '\t', '\r', '\n']);
    let junk = [
        "na",
        "n-a",
        "none",
        "null",
        "unknown",
        "default",
        "0",
        "123456789",
        "serial",
    ];
    let junk = junk.iter().any(|j| text.eq_ignore_ascii_case(j));
    let one_digit = text.bytes().all(|b| Some(&b) == text.as_bytes().first()) && text.len() > 3;
    text.parse().ok().filter(|_| !junk && !one_digit)
}

/// What a DHCP message says about its sender, in either version of IP.
struct Said<'a> {
    class: &'a [u8],
    user: &'a [u8],
    id: &'a [u8],
    host: &'a [u8],
    /// Option 125 of DHCPv4.
    vendor: &'a [u8],
    /// Whether it asks for a Bootz server.
    asks_for_bootz: bool,
}

impl Client {
    /// Reads a DHCP message.
    pub fn of_packet(packet: &Packet) -> Self {
        let option = |code| packet.option(code).unwrap_or_default();
        Self::of(&Said {
            class: option(code::VENDOR_CLASS),
            user: option(code::USER_CLASS),
            id: option(code::CLIENT_ID),
            host: option(code::HOST_NAME),
            vendor: option(code::VENDOR_OPTIONS),
            asks_for_bootz: packet.asks_for(code::SZTP_REDIRECT),
        })
    }

    /// Reads a DHCPv6 message.
    pub fn of_packet6(packet: &packet6::Packet) -> Self {
        let duid = packet.duid().unwrap_or_default();
        Self::of(&Said {
            class: packet.vendor_class(),
            user: packet.user_class(),
            // What a vendor numbered (RFC 8415, section 11.3), without type and enterprise number.
            id: duid.strip_prefix(&[0, 2]).and_then(|d| d.get(4..)).unwrap_or_default(),
            host: &[],
            vendor: &[],
            asks_for_bootz: packet.asks_for(packet6::code::SZTP_REDIRECT),
        })
    }

    fn of(said: &Said<'_>) -> Self {
        let Said { class, user, id, .. } = *said;
        let mut client = Self {
            kind: Kind::Other,
            serial: None,
            model: None,
            enterprise: ONIE_ENTERPRISES[0],
            details: BTreeMap::new(),
        };
        for (name, octets) in [
            ("vendor class", class),
            ("user class", user),
            ("client id", id),
            ("host name", said.host),
        ] {
            if !octets.is_empty() {
                client.details.insert(name.into(), shown(octets));
            }
        }
        if let Some(machine) = class.strip_prefix(b"onie_vendor:") {
            client.kind = Kind::Onie;
            client.model = label(machine);
            client.onie(said.vendor);
        } else if let Some(rest) = class.strip_prefix(b"Arista;") {
            client.kind = Kind::Arista;
            // Arista;MODEL;REVISION;SERIAL
            let mut fields = rest.split(|b| *b == b';');
            client.model = fields.next().and_then(label);
            client.serial = fields.nth(1).and_then(label);
        } else if is_class(user, b"SONiC-ZTP") || sonic_id(id).is_some() {
            client.kind = Kind::Sonic;
            if let Some((product, serial)) = sonic_id(id) {
                client.model = label(product);
                client.serial = label(serial);
            }
        } else if class.starts_with(b"cumulus-linux") {
            client.kind = Kind::Cumulus;
        } else if let Some(model) = class.strip_prefix(VENDOR_CLASS.as_bytes()) {
            client.kind = Kind::Bootz;
            client.model = label(model);
            client.serial = id.strip_prefix(&[NOT_HARDWARE]).and_then(label);
        } else if is_class(user, b"onie_dhcp_user_class") {
            client.kind = Kind::Onie;
            client.onie(said.vendor);
        } else if said.asks_for_bootz {
            client.kind = Kind::Bootz;
        }
        let (serial, model) = (client.serial.clone(), client.model.clone());
        client
            .details
            .extend(serial.map(|s| ("serial".to_owned(), s.to_string())));
        client
            .details
            .extend(model.map(|m| ("model".to_owned(), m.to_string())));
        client
    }

    /// Option 125 of ONIE: enterprise number, length, then options of one octet code and one octet length.
    fn onie(&mut self, mut octets: &[u8]) {
        while let Some((number, rest)) = octets.split_first_chunk::<4>() {
            let Some((length, rest)) = rest.split_first() else {
                return;
            };
            let Some((body, rest)) = rest.split_at_checked(usize::from(*length)) else {
                return;
            };
            octets = rest;
            let number = u32::from_be_bytes(*number);
            if !ONIE_ENTERPRISES.contains(&number) {
                continue;
            }
            self.enterprise = number;
            for (code, value) in tlv(body) {
                let name = match code {
                    3 => "machine",
                    4 => "arch",
                    5 => "revision",
                    _ => continue,
                };
                self.details.insert(name.into(), shown(value));
            }
        }
    }

    /// Reads the headers of an HTTP request. `header` returns a header's octets by its name.
    pub fn of_headers<'a>(header: impl Fn(&str) -> Option<&'a [u8]>) -> (Self, Option<Mac>) {
        let mut client = Self {
            kind: Kind::Other,
            serial: None,
            model: None,
            enterprise: ONIE_ENTERPRISES[0],
            details: BTreeMap::new(),
        };
        let mut mac = None;
        for (name, what, kind) in HEADERS {
            let Some(octets) = header(name) else { continue };
            client.details.insert((*name).to_owned(), shown(octets));
            if client.kind == Kind::Other {
                client.kind = *kind;
            }
            match what {
                Header::Serial => client.serial = client.serial.take().or_else(|| label(octets)),
                Header::Mac => mac = mac.or_else(|| mac_of(octets)),
                Header::Model => client.model = client.model.take().or_else(|| label(octets)),
                Header::Detail => {}
            }
        }
        (client, mac)
    }
}

enum Header {
    Serial,
    Mac,
    Model,
    Detail,
}

/// Headers that boot clients send. SONiC's have no prefix, so the others come first.
const HEADERS: &[(&str, Header, Kind)] = &[
    ("onie-serial-number", Header::Serial, Kind::Onie),
    ("onie-eth-addr", Header::Mac, Kind::Onie),
    ("onie-machine", Header::Detail, Kind::Onie),
    ("onie-machine-rev", Header::Detail, Kind::Onie),
    ("onie-arch", Header::Detail, Kind::Onie),
    ("onie-vendor-id", Header::Detail, Kind::Onie),
    ("onie-operation", Header::Detail, Kind::Onie),
    ("onie-version", Header::Detail, Kind::Onie),
    ("cumulus-serial", Header::Serial, Kind::Cumulus),
    ("cumulus-mgmt-mac", Header::Mac, Kind::Cumulus),
    ("cumulus-productname", Header::Model, Kind::Cumulus),
    ("cumulus-version", Header::Detail, Kind::Cumulus),
    ("x-arista-serial", Header::Serial, Kind::Arista),
    ("x-arista-systemmac", Header::Detail, Kind::Arista),
    ("x-arista-modelname", Header::Model, Kind::Arista),
    ("x-arista-softwareversion", Header::Detail, Kind::Arista),
    ("serial-number", Header::Serial, Kind::Sonic),
    // The base MAC address is that of the management port on most models, but not on all, so it is not compared.
    ("base-mac-address", Header::Detail, Kind::Sonic),
    ("product-name", Header::Model, Kind::Sonic),
    ("sonic-version", Header::Detail, Kind::Sonic),
];

fn mac_of(octets: &[u8]) -> Option<Mac> {
    std::str::from_utf8(octets).ok()?.trim().parse().ok()
}

/// Options of one octet code and one octet length, up to the first that is cut off.
fn tlv(mut octets: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let ([code, length], rest) = octets.split_first_chunk::<2>()?;
        let (value, rest) = rest.split_at_checked(usize::from(*length))?;
        octets = rest;
        Some((*code, value))
    })
}

/// A user class, as plain text (most clients) or with a length in front (RFC 3004).
fn is_class(octets: &[u8], class: &[u8]) -> bool {
    let lists = octets
        .split_first()
        .is_some_and(|(length, rest)| usize::from(*length) == class.len() && rest.starts_with(class));
    octets == class || lists
}

/// Product and serial number of `SONiC##PRODUCT##SERIAL`, with or without an octet for the type in front.
fn sonic_id(octets: &[u8]) -> Option<(&[u8], &[u8])> {
    let start = b"SONiC##";
    let rest = octets
        .strip_prefix(start)
        .or_else(|| octets.get(1..)?.strip_prefix(start))?;
    let at = rest.windows(2).position(|w| w == b"##")?;
    Some((&rest[..at], rest.get(at + 2..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dhcp::packet::tests::packet;

    fn client(options: &[(u8, &[u8])]) -> Client {
        Client::of_packet(&packet(1, options))
    }

    fn known(client: &Client) -> (Kind, Option<String>, Option<String>) {
        let text = |label: &Option<Label>| label.as_ref().map(ToString::to_string);
        (client.kind, text(&client.model), text(&client.serial))
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    #[test]
    fn clients_are_known_by_what_they_say() {
        let onie = client(&[
            (60, b"onie_vendor:x86_64-acme_s1-r0"),
            (77, b"onie_dhcp_user_class"),
            (125, b"\x00\x00\xa6\x7f\x0a\x03\x03abc\x04\x03x86"),
        ]);
        assert_eq!(known(&onie), (Kind::Onie, some("x86_64-acme_s1-r0"), None));
        assert_eq!(onie.enterprise, 42_623);
        assert_eq!(
            (onie.details["machine"].as_str(), onie.details["arch"].as_str()),
            ("abc", "x86")
        );
        let old = client(&[(60, b"onie_vendor:a-b"), (125, b"\x00\x00\x9d\x76\x05\x03\x03abc")]);
        assert_eq!(old.enterprise, 40_310);
        let sonic = client(&[(77, b"SONiC-ZTP"), (61, b"\0SONiC##acme-s1##AF39")]);
        assert_eq!(known(&sonic), (Kind::Sonic, some("acme-s1"), some("AF39")));
        assert_eq!(client(&[(77, b"\x09SONiC-ZTP")]).kind, Kind::Sonic);
        let arista = client(&[(60, b"Arista;DCS-7050;01.23;JPE12345678")]);
        assert_eq!(known(&arista), (Kind::Arista, some("DCS-7050"), some("JPE12345678")));
        assert_eq!(client(&[(60, b"cumulus-linux x86_64")]).kind, Kind::Cumulus);
        assert_eq!(client(&[(55, &[1, 3, 143])]).kind, Kind::Bootz);
        let ours = client(&[(60, b"p4-switch:s1"), (61, b"\0AF39")]);
        assert_eq!(known(&ours), (Kind::Bootz, some("s1"), some("AF39")));
        // A hardware address is not a serial number.
        assert_eq!(client(&[(60, b"p4-switch:s1"), (61, b"\x01AF39")]).serial, None);
        assert_eq!(client(&[(60, b"udhcp 1.35.0")]).kind, Kind::Other);
    }

    #[test]
    fn junk_counts_as_not_said() {
        for junk in ["\u{0}\u{1}\u{ff}", "N/A", "none", "0000000", "", "A B", "123456789"] {
            let id = format!("SONiC##acme-s1##{junk}");
            let client = client(&[(77, b"SONiC-ZTP"), (61, id.as_bytes())]);
            assert_eq!(client.serial, None, "{junk:?}");
            assert!(client.details["client id"].starts_with("SONiC##"), "{junk:?}");
        }
        let cut = client(&[(60, b"onie_vendor:a-b"), (125, b"\x00\x00\xa6\x7f\xff\x03")]);
        assert_eq!(cut.kind, Kind::Onie);
        assert_eq!(shown(b"\x1b[31m\xff"), "\\x1b[31m\\xff");
        assert!(shown(&[b'a'; 300]).ends_with("... (300 octets)"));
    }

    #[test]
    fn headers_of_boot_clients_are_read() {
        let read = |headers: &'static [(&'static str, &'static [u8])]| {
            Client::of_headers(|name| headers.iter().find(|(n, _)| *n == name).map(|(_, v)| *v))
        };
        let (client, mac) = read(&[
            ("onie-serial-number", b"AF39"),
            ("onie-eth-addr", b"02:AA:00:00:00:01"),
            ("onie-machine", b"\xff\xfe"),
        ]);
        assert_eq!((client.kind, client.serial.unwrap().as_str()), (Kind::Onie, "AF39"));
        assert_eq!(mac, Some(Mac([2, 0xaa, 0, 0, 0, 1])));
        assert_eq!(client.details["onie-machine"], "\\xff\\xfe");
        let (client, mac) = read(&[("serial-number", b"AF39"), ("base-mac-address", b"junk")]);
        assert_eq!((client.kind, mac), (Kind::Sonic, None));
        assert_eq!(read(&[]).0.kind, Kind::Other);
    }
}
