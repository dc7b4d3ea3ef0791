//! SPIFFE ids of a fabric (SPIFFE-ID specification, section 2): `spiffe://<fabric>/<subject>`.

use std::fmt;
use std::str::FromStr;

use crate::error::SpiffeError;

/// Longest SPIFFE id in octets (section 2.3).
const MAX_ID_LEN: usize = 2048;
/// Longest trust domain in octets (section 2.3).
const MAX_FABRIC_LEN: usize = 255;
/// The scheme of every SPIFFE id.
const SCHEME: &str = "spiffe://";

/// Name of a fabric: the trust domain of its SPIFFE ids.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FabricName(String);

impl FabricName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FabricName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for FabricName {
    type Err = SpiffeError;

    /// Lower-case letters, digits, `.`, `-` and `_` (section 2.1).
    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b);
        if text.is_empty() || text.len() > MAX_FABRIC_LEN || !text.bytes().all(allowed) {
            return Err(SpiffeError::Fabric(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A member of a fabric.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// The controller: `/controller`.
    Controller,
    /// A switch, by name: `/switch/<name>`.
    Switch(String),
    /// A host, by name: `/host/<name>`.
    Host(String),
    /// A person who reads devices without the controller: `/operator/<name>`.
    Operator(String),
    /// A person who may change devices without the controller, for emergencies: `/operator/<name>/admin`.
    Admin(String),
    /// The provisioning server: `/provision`. It may only ask the controller for enrolments of switches.
    Provision,
    /// A user of the controller's API, by name: `/user/<name>`. No device lets it in.
    User(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Controller => f.write_str("controller"),
            Self::Switch(name) => write!(f, "switch/{name}"),
            Self::Host(name) => write!(f, "host/{name}"),
            Self::Operator(name) => write!(f, "operator/{name}"),
            Self::Admin(name) => write!(f, "operator/{name}/admin"),
            Self::Provision => f.write_str("provision"),
            Self::User(name) => write!(f, "user/{name}"),
        }
    }
}

/// A SPIFFE id of a fabric.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The fabric.
    pub fabric: FabricName,
    /// The subject in the fabric.
    pub subject: Subject,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.fabric, self.subject)
    }
}

/// A path segment: letters, digits, `.`, `-`, `_`, but not `.` or `..` (section 2.2).
fn is_segment(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b".-_".contains(&b);
    !text.is_empty() && text != "." && text != ".." && text.bytes().all(allowed)
}

impl FromStr for Identity {
    type Err = SpiffeError;

    fn from_str(text: &str) -> Result<Self, SpiffeError> {
        let malformed = || SpiffeError::Malformed(text.chars().take(MAX_FABRIC_LEN).collect());
        let rest = text.strip_prefix(SCHEME).filter(|_| text.len() <= MAX_ID_LEN);
        let (fabric, path) = rest.and_then(|r| r.split_once('/')).ok_or_else(malformed)?;
        let fabric = fabric.parse()?;
        let segments: Vec<&str> = path.split('/').collect();
        if !segments.iter().all(|s| is_segment(s)) {
            return Err(malformed());
        }
        let subject = match segments.as_slice() {
            ["controller"] => Subject::Controller,
            ["switch", name] => Subject::Switch((*name).to_owned()),
            ["host", name] => Subject::Host((*name).to_owned()),
            ["operator", name] => Subject::Operator((*name).to_owned()),
            ["operator", name, "admin"] => Subject::Admin((*name).to_owned()),
            ["provision"] => Subject::Provision,
            ["user", name] => Subject::User((*name).to_owned()),
            _ => return Err(SpiffeError::UnknownSubject(text.to_owned())),
        };
        Ok(Self { fabric, subject })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subject_is_read_as_it_is_written() {
        for subject in [
            "controller",
            "switch/leaf1",
            "host/rack-1_h.2",
            "operator/ada",
            "operator/ada/admin",
            "provision",
            "user/ada",
        ] {
            let text = format!("spiffe://dc1.example/{subject}");
            let identity: Identity = text.parse().unwrap();
            assert_eq!(identity.to_string(), text);
            assert_eq!(identity.fabric.as_str(), "dc1.example");
        }
    }

    #[test]
    fn what_is_not_an_id_of_a_fabric_is_nobody() {
        let long = format!("spiffe://lab/host/{}", "h".repeat(MAX_ID_LEN));
        for text in [
            "",
            "controller",
            "https://lab/controller",
            "SPIFFE://lab/controller",
            "spiffe://lab",
            "spiffe://lab/",
            "spiffe:///controller",
            "spiffe://Lab/controller",
            "spiffe://lab:1/controller",
            "spiffe://u@lab/controller",
            "spiffe://lab/controller/",
            "spiffe://lab/controller?x",
            "spiffe://lab/controller#x",
            "spiffe://lab/Controller",
            "spiffe://lab//controller",
            "spiffe://lab/./controller",
            "spiffe://lab/host/..",
            "spiffe://lab/host/a%2fb",
            "spiffe://lab/host/\u{e9}",
            "spiffe://lab/host/",
            "spiffe://lab/host",
            "spiffe://lab/host/a/b",
            "spiffe://lab/operator/ada/root",
            "spiffe://lab/provision/a",
            &long,
        ] {
            assert!(text.parse::<Identity>().is_err(), "{text}");
        }
    }
}
