//! Identifiers and addresses. Each is a newtype, so that illegal values cannot be built.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a text is not a valid identifier: what was given and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not valid: expected {expected}")]
pub struct IdentError {
    /// The text that was given.
    pub value: String,
    /// What would have been accepted.
    pub expected: &'static str,
}

fn error(value: &str, expected: &'static str) -> IdentError {
    IdentError {
        value: value.chars().take(80).collect(),
        expected,
    }
}

/// Name of an object: a DNS label (RFC 1123 section 2.1): 1 to 63 of `a-z 0-9 -`,
/// starting and ending with a letter or digit.
///
/// Copies share the text, because an object's name is also in lists and in other objects that refer to it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize, ToSchema)]
#[schema(value_type = String)]
#[serde(try_from = "String")]
pub struct Name(Arc<str>);

impl Serialize for Name {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = IdentError;
    fn from_str(s: &str) -> Result<Self, IdentError> {
        let bytes = s.as_bytes();
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        let edge = |b: Option<&u8>| b.is_some_and(|b| *b != b'-');
        if bytes.len() <= 63 && bytes.iter().all(inner) && edge(bytes.first()) && edge(bytes.last()) {
            Ok(Self(s.into()))
        } else {
            Err(error(
                s,
                "a name of 1 to 63 characters a-z, 0-9 and '-', with no '-' at either end",
            ))
        }
    }
}

impl TryFrom<String> for Name {
    type Error = IdentError;
    fn try_from(s: String) -> Result<Self, IdentError> {
        s.parse()
    }
}

impl From<Name> for String {
    fn from(n: Name) -> Self {
        n.0.as_ref().to_owned()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An IEEE 802 MAC address, written `02:00:00:00:00:01`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[schema(value_type = String)]
#[serde(try_from = "String", into = "String")]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// True for addresses a single station may use as its own: not group, not all zero.
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl FromStr for Mac {
    type Err = IdentError;
    fn from_str(s: &str) -> Result<Self, IdentError> {
        let bad = || error(s, "a MAC address such as 02:00:00:00:00:01");
        let mut out = [0u8; 6];
        let mut parts = s.split([':', '-']);
        for byte in &mut out {
            let part = parts.next().ok_or_else(bad)?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *byte = u8::from_str_radix(part, 16).map_err(|_| bad())?;
        }
        if parts.next().is_some() {
            Err(bad())
        } else {
            Ok(Self(out))
        }
    }
}

impl TryFrom<String> for Mac {
    type Error = IdentError;
    fn try_from(s: String) -> Result<Self, IdentError> {
        s.parse()
    }
}

impl From<Mac> for String {
    fn from(m: Mac) -> Self {
        m.to_string()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Name of a piece of hardware or software: a serial number, a model, a release. 1 to 64 of
/// `A-Z a-z 0-9 . _ + -`, starting with a letter or digit, so that it can be part of a file name or URL.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[schema(value_type = String)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

impl Label {
    /// The label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The form in which serial numbers are compared: devices and stickers disagree about upper and lower case.
    pub fn folded(&self) -> String {
        self.0.to_ascii_uppercase()
    }
}

impl FromStr for Label {
    type Err = IdentError;
    fn from_str(s: &str) -> Result<Self, IdentError> {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b"._+-".contains(&b);
        if s.len() <= 64 && s.bytes().all(inner) && s.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric) {
            Ok(Self(s.to_owned()))
        } else {
            Err(error(
                s,
                "1 to 64 characters A-Z, a-z, 0-9, '.', '_', '+' and '-', the first a letter or digit",
            ))
        }
    }
}

impl TryFrom<String> for Label {
    type Error = IdentError;
    fn try_from(s: String) -> Result<Self, IdentError> {
        s.parse()
    }
}

impl From<Label> for String {
    fn from(l: Label) -> Self {
        l.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Owner of an object: the file or tool that manages it. 1 to 128 of `A-Z a-z 0-9 . _ : / @ + -`, starting with a letter or digit,
/// such as `file:web.yaml` or `terraform`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[schema(value_type = String)]
#[serde(try_from = "String", into = "String")]
pub struct OwnerName(std::sync::Arc<str>);

impl OwnerName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for OwnerName {
    type Err = IdentError;
    fn from_str(s: &str) -> Result<Self, IdentError> {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b"._:/@+-".contains(&b);
        if s.len() <= 128 && s.bytes().all(inner) && s.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric) {
            Ok(Self(s.into()))
        } else {
            Err(error(
                s,
                "1 to 128 characters A-Z, a-z, 0-9, '.', '_', ':', '/', '@', '+' and '-', the first a letter or digit",
            ))
        }
    }
}

impl TryFrom<String> for OwnerName {
    type Error = IdentError;
    fn try_from(s: String) -> Result<Self, IdentError> {
        s.parse()
    }
}

impl From<OwnerName> for String {
    fn from(o: OwnerName) -> Self {
        o.as_str().to_owned()
    }
}

impl fmt::Display for OwnerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Types without values that describe addresses in the OpenAPI document. Their rules are in the module `rest::document`.
pub mod schema {
    use utoipa::ToSchema;

    /// An IPv4 or IPv6 address.
    #[derive(ToSchema)]
    pub struct IpAddress(pub String);

    /// An IPv4 or IPv6 prefix, such as `10.1.0.0/24` or `fd00:1::/64`.
    #[derive(ToSchema)]
    pub struct IpPrefix(pub String);

    /// An address with a port, such as `192.0.2.1:9559` or `[2001:db8::1]:9559`.
    #[derive(ToSchema)]
    pub struct SocketAddress(pub String);
}

/// VXLAN network identifier, 24 bits (RFC 7348 section 5); 0 is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[schema(value_type = u32)]
#[serde(try_from = "u32", into = "u32")]
pub struct Vni(u32);

impl Vni {
    /// The greatest VNI.
    pub const MAX: u32 = 0x00ff_ffff;

    /// The number.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for Vni {
    type Error = IdentError;
    fn try_from(v: u32) -> Result<Self, IdentError> {
        if (1..=Self::MAX).contains(&v) {
            Ok(Self(v))
        } else {
            Err(error(&v.to_string(), "a VNI from 1 to 16777215"))
        }
    }
}

impl From<Vni> for u32 {
    fn from(v: Vni) -> Self {
        v.0
    }
}

impl fmt::Display for Vni {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a switch's front-panel port as the pipeline sees it: 1 to 509
/// (v1model has 9 bits; 510 is the CPU port, 511 the drop port, 0 is never a port).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[schema(value_type = u16)]
#[serde(try_from = "u16", into = "u16")]
pub struct PortId(u16);

impl PortId {
    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for PortId {
    type Error = IdentError;
    fn try_from(v: u16) -> Result<Self, IdentError> {
        if (1..=509).contains(&v) {
            Ok(Self(v))
        } else {
            Err(error(&v.to_string(), "a port number from 1 to 509"))
        }
    }
}

impl From<PortId> for u16 {
    fn from(p: PortId) -> Self {
        p.0
    }
}

impl fmt::Display for PortId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "leaf-1", "0x", &"a".repeat(63)] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"a".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_can_be_part_of_a_path() {
        for good in ["571254X1625041", "x86_64-accton_wedge100bf_32x-r0", "4.1.2+b7"] {
            assert!(good.parse::<Label>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "../x", "a/b", "a b", "a\n", "ä", "-r0", &"a".repeat(65)] {
            assert!(bad.parse::<Label>().is_err(), "{bad}");
        }
    }

    #[test]
    fn macs_round_trip_and_refuse_the_rest() {
        let mac: Mac = "02:AB:00:00:00:ff".parse().unwrap();
        assert_eq!(mac.to_string(), "02:ab:00:00:00:ff");
        for bad in [
            "",
            "02:ab:00:00:00",
            "02:ab:00:00:00:ff:00",
            "02:ab:00:00:00:+f",
            "2:ab:00:00:00:ff",
        ] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
    }
}
