//! Values and match keys as `simple_switch_CLI` writes them.

use num_bigint::BigUint;
use num_traits::Num as _;
use p4runtime_proto::p4::config::v1::MatchField;
use p4runtime_proto::p4::config::v1::match_field::{Match, MatchType};
use p4runtime_proto::p4::v1::FieldMatch;
use p4runtime_proto::p4::v1::field_match::{Exact, FieldMatchType, Lpm, Optional, Range, Ternary};

/// A number, an IPv4, IPv6 or MAC address, as octets.
pub(super) fn value(text: &str, bits: i32) -> Result<Vec<u8>, String> {
    let expected = || format!("{text:?} is not a number, IP or MAC address");
    let octets = if let Ok(address) = text.parse::<std::net::Ipv4Addr>() {
        address.octets().to_vec()
    } else if let Ok(address) = text.parse::<std::net::Ipv6Addr>() {
        address.octets().to_vec()
    } else if text.contains(':') {
        let octet = |part: &str| u8::from_str_radix(part, 16).map_err(|_| expected());
        text.split(':').map(octet).collect::<Result<Vec<u8>, _>>()?
    } else {
        let (digits, radix) = match text.get(..2) {
            Some("0x" | "0X") => (text.get(2..).unwrap_or_default(), 16),
            Some("0b" | "0B") => (text.get(2..).unwrap_or_default(), 2),
            _ => (text, 10),
        };
        // It has at most as many octets as the line has characters.
        let number = BigUint::from_str_radix(digits, radix).map_err(|_| expected())?;
        number.to_bytes_be()
    };
    let number = BigUint::from_bytes_be(&octets);
    if bits > 0 && number.bits() > u64::from(bits.unsigned_abs()) {
        return Err(format!("{text:?} needs more than {bits} bits"));
    }
    Ok(number.to_bytes_be())
}

/// Both parts of a key, joined by `by`.
fn pair<'a>(text: &'a str, by: &str, what: &str) -> Result<(&'a str, &'a str), String> {
    text.split_once(by)
        .ok_or_else(|| format!("{text:?}: a {what} match is written as two values joined by {by}"))
}

/// One field of a key; none if it matches anything.
pub(super) fn field(of: &MatchField, text: &str) -> Result<Option<FieldMatch>, String> {
    let number = |text: &str| value(text, of.bitwidth);
    let is_zero = |octets: &[u8]| octets.iter().all(|octet| *octet == 0);
    let kind = match &of.r#match {
        Some(Match::MatchType(kind)) => MatchType::try_from(*kind).unwrap_or(MatchType::Unspecified),
        _ => MatchType::Unspecified,
    };
    let matched = match kind {
        MatchType::Exact => match text {
            "True" | "true" => Some(FieldMatchType::Exact(Exact { value: vec![1] })),
            "False" | "false" => Some(FieldMatchType::Exact(Exact { value: vec![0] })),
            _ => Some(FieldMatchType::Exact(Exact { value: number(text)? })),
        },
        MatchType::Lpm => {
            let (prefix, length) = pair(text, "/", "prefix")?;
            let prefix_len: i32 = length
                .parse()
                .map_err(|_| format!("{length:?} is not a prefix length"))?;
            let host_bits = of.bitwidth.saturating_sub(prefix_len);
            let prefix = BigUint::from_bytes_be(&number(prefix)?);
            // bmv2 ignores bits after the prefix; P4Runtime requires them to be 0.
            let prefix = match u32::try_from(host_bits) {
                Ok(bits) => (prefix >> bits) << bits,
                Err(_) => return Err(format!("{length}: the field has {} bits", of.bitwidth)),
            };
            (prefix_len > 0).then(|| {
                FieldMatchType::Lpm(Lpm {
                    value: prefix.to_bytes_be(),
                    prefix_len,
                })
            })
        }
        MatchType::Ternary => {
            let (value, mask) = pair(text, "&&&", "ternary")?;
            let (value, mask) = (number(value)?, number(mask)?);
            let masked = BigUint::from_bytes_be(&value) & BigUint::from_bytes_be(&mask);
            (!is_zero(&mask)).then(|| {
                FieldMatchType::Ternary(Ternary {
                    value: masked.to_bytes_be(),
                    mask,
                })
            })
        }
        MatchType::Range => {
            let (low, high) = pair(text, "->", "range")?;
            let (low, high) = (number(low)?, number(high)?);
            let most = (BigUint::from(1u8) << of.bitwidth.max(0)) - 1u8;
            let is_all = is_zero(&low) && BigUint::from_bytes_be(&high) == most;
            (!is_all).then_some(FieldMatchType::Range(Range { low, high }))
        }
        MatchType::Optional => {
            // In bmv2 an optional key is a ternary key whose mask has all bits or none.
            let (value, mask) = pair(text, "&&&", "optional")?;
            let value = number(value)?;
            (!is_zero(&number(mask)?)).then_some(FieldMatchType::Optional(Optional { value }))
        }
        MatchType::Unspecified => return Err(format!("{:?} is matched in a way that is not known", of.name)),
    };
    Ok(matched.map(|matched| FieldMatch {
        field_id: of.id,
        field_match_type: Some(matched),
    }))
}

/// Whether entries of a table with these fields have a priority.
pub(super) fn needs_priority(fields: &[MatchField]) -> bool {
    let kinds = [MatchType::Ternary, MatchType::Range, MatchType::Optional];
    fields.iter().any(|field| match &field.r#match {
        Some(Match::MatchType(kind)) => kinds.iter().any(|needs| *needs as i32 == *kind),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: MatchType, bitwidth: i32) -> MatchField {
        MatchField {
            id: 1,
            bitwidth,
            r#match: Some(Match::MatchType(kind.into())),
            ..MatchField::default()
        }
    }

    #[test]
    fn values_are_read_as_people_write_them() {
        assert_eq!(value("10.0.1.2", 32).unwrap(), [10, 0, 1, 2]);
        assert_eq!(value("08:00:00:00:01:11", 48).unwrap(), [8, 0, 0, 0, 1, 0x11]);
        assert_eq!(value("::1", 128).unwrap(), [1]);
        assert_eq!(value("0x1ff", 9).unwrap(), [1, 0xff]);
        assert_eq!(value("0", 9).unwrap(), [0]);
        for (text, bits) in [("512", 9), ("x", 9), ("", 9), ("0x", 9), ("-1", 9), ("1:zz", 48)] {
            assert!(value(text, bits).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_are_those_of_p4runtime() {
        let lpm = field(&of(MatchType::Lpm, 32), "10.0.1.2/24").unwrap().unwrap();
        let want = FieldMatchType::Lpm(Lpm {
            value: vec![10, 0, 1, 0],
            prefix_len: 24,
        });
        assert_eq!(lpm.field_match_type, Some(want));
        assert_eq!(field(&of(MatchType::Lpm, 32), "0.0.0.0/0").unwrap(), None);
        let ternary = field(&of(MatchType::Ternary, 8), "0xff&&&0x0f").unwrap().unwrap();
        let want = FieldMatchType::Ternary(Ternary {
            value: vec![15],
            mask: vec![15],
        });
        assert_eq!(ternary.field_match_type, Some(want));
        assert_eq!(field(&of(MatchType::Ternary, 8), "5&&&0").unwrap(), None);
        assert_eq!(field(&of(MatchType::Range, 8), "0->255").unwrap(), None);
        assert!(field(&of(MatchType::Range, 8), "1->2").unwrap().is_some());
        for (kind, text) in [
            (MatchType::Lpm, "10.0.0.1"),
            (MatchType::Lpm, "10.0.0.1/33"),
            (MatchType::Lpm, "10.0.0.1/x"),
            (MatchType::Ternary, "1"),
            (MatchType::Range, "1"),
        ] {
            assert!(field(&of(kind, 32), text).is_err(), "{text}");
        }
    }
}
