//! Addresses of Bootz servers, which DHCP hands out (options 143 and 136).

use serde::{Deserialize, Serialize};

/// Octets that an option of DHCPv4 has room for (RFC 2132, section 2). Those of DHCPv6 have more.
const ROOM: usize = 255;
/// What each address begins with.
const SCHEME: &str = "bootz://";

/// One or several addresses, `bootz://HOST:PORT`: a device tries them in turn.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Written")]
pub struct Redirects(Vec<String>);

/// The form in settings: a single address needs no list.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    One(String),
    Several(Vec<String>),
}

impl From<Written> for Redirects {
    fn from(written: Written) -> Self {
        match written {
            Written::One(one) => Self(vec![one]),
            Written::Several(several) => Self(several),
        }
    }
}

impl Redirects {
    /// The address, if there was none before.
    pub(crate) fn or_own(&mut self, own: String) {
        if self.0.is_empty() {
            self.0.push(own);
        }
    }

    /// The form in the option: each address after its length in two octets (RFC 8572, section 8.3); `None` if there
    /// are no addresses.
    pub(crate) fn option(&self) -> Option<Vec<u8>> {
        let one = |address: &String| {
            let length = u16::try_from(address.len()).unwrap_or(u16::MAX);
            [&length.to_be_bytes(), address.as_bytes()].concat()
        };
        (!self.0.is_empty()).then(|| self.0.iter().flat_map(one).collect())
    }

    /// # Errors
    /// Why they cannot be handed out.
    pub(crate) fn check(&self) -> Result<(), String> {
        let is_good = |address: &&String| address.starts_with(SCHEME) && address.bytes().all(|b| b.is_ascii_graphic());
        if let Some(bad) = self.0.iter().find(|address| !is_good(address)) {
            return Err(format!(
                "`{bad}`: expected visible characters of ASCII, the first `{SCHEME}`"
            ));
        }
        match self.option().map_or(0, |option| option.len()) {
            octets if octets > ROOM => Err(format!(
                "{octets} octets with their lengths: an option has room for {ROOM}"
            )),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Redirects {
        vfabric_api::yaml::read(text).unwrap()
    }

    #[test]
    fn one_or_several_addresses_stand_in_the_option_in_order() {
        let one = read("bootz://h:1");
        assert_eq!(one, read("[\"bootz://h:1\"]"));
        assert_eq!(one.option().unwrap(), b"\0\x0bbootz://h:1");
        let two = read("[\"bootz://h:1\", \"bootz://i:22\"]");
        assert_eq!(two.option().unwrap(), b"\0\x0bbootz://h:1\0\x0cbootz://i:22");
        assert_eq!(Redirects::default().option(), None);
        two.check().unwrap();
        for (bad, words) in [
            (read("http://h:1"), "`http://h:1`"),
            (read("[\"bootz://h:1\", \"bootz://a b:1\"]"), "`bootz://a b:1`"),
            (
                Redirects(vec![format!("{SCHEME}{}:1", "h".repeat(100)); 3]),
                "room for 255",
            ),
        ] {
            let why = bad.check().unwrap_err();
            assert!(why.contains(words), "{why}");
        }
    }
}
