//! Prefixes as texts.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

/// Parses a prefix. An address with leading zeros is refused, since programs disagree whether they mean octal (RFC 6943,
/// section 3.1.1).
fn parse(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let digits = length.bytes().all(|b| b.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
    let length = length.parse().ok().filter(|_| digits)?;
    IpNet::new(address.parse::<IpAddr>().ok()?, length).ok()
}

/// Reads a prefix.
pub(super) fn one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<IpNet, D::Error> {
    let text = String::deserialize(deserializer)?;
    let expected = "expected a prefix such as 10.1.0.0/24 or fd00:1::/64, without leading zeros";
    let wrong = || de::Error::custom(format_args!("`{}` is not valid: {expected}", shown(&text)));
    parse(&text).ok_or_else(wrong)
}

#[derive(Deserialize)]
#[serde(transparent)]
struct One(#[serde(deserialize_with = "one")] IpNet);

/// Reads a prefix that may be left out.
pub(super) fn perhaps<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpNet>, D::Error> {
    Ok(Option::<One>::deserialize(deserializer)?.map(|One(net)| net))
}

/// Reads a list of prefixes.
pub(crate) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    let nets = Vec::<One>::deserialize(deserializer)?;
    Ok(nets.into_iter().map(|One(net)| net).collect())
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_has_one_spelling_of_each_number() {
        for good in [
            "10.1.0.0/24",
            "0.0.0.0/0",
            "fd00:1::/64",
            "fd00:0001::/64",
            "10.1.0.9/32",
        ] {
            assert_eq!(parse(good), good.parse().ok(), "{good}");
        }
        for bad in [
            "",
            "10.1.0.0",
            "010.1.0.0/24",
            "10.1.0.0/024",
            "10.1.0.0/+24",
            "10.1.0.0/33",
            "10.1.0/24",
            "10.1.0.0/24 ",
            "fd00::/129",
            "fe80::%1/64",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
