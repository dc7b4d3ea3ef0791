//! Values of keys and arguments, in the octets of their widths.

use bmv2_json::MatchType;
use num_bigint::BigUint;

use super::{KeyField, Wrong};
use crate::stf::command::{Digits, KeyValue};
use crate::stf::target::Key;

/// What a key element matches if the script leaves it out.
pub(super) fn anything(field: &KeyField) -> Key {
    let zero = vec![0; octets(field.width)];
    match field.kind {
        MatchType::Exact | MatchType::Valid => Key::Exact(zero),
        MatchType::Lpm => Key::Lpm(zero, 0),
        MatchType::Ternary => Key::Ternary(zero.clone(), zero),
        MatchType::Range => Key::Range(zero, padded(&ones(field.width), field.width)),
    }
}

pub(super) fn key_part(field: &KeyField, given: &KeyValue) -> Result<Key, Wrong> {
    let (name, width) = (&field.name, field.width);
    let value = |d: &Digits| value(name, d, width);
    let full = || padded(&ones(width), width);
    Ok(match (field.kind, given) {
        (MatchType::Exact | MatchType::Valid, KeyValue::Plain(v)) => Key::Exact(value(v)?),
        (MatchType::Lpm, KeyValue::Plain(v)) => {
            let prefix = if v.care.is_some() { v.bits } else { width as usize };
            if prefix > width as usize {
                return Err(format!("key {name} has {width} bits, not {prefix}"));
            }
            Key::Lpm(value(v)?, prefix)
        }
        (MatchType::Lpm, KeyValue::Prefix(v, prefix)) if *prefix <= width as usize => Key::Lpm(value(v)?, *prefix),
        (MatchType::Ternary, KeyValue::Plain(v)) => {
            let mask = v
                .care
                .as_ref()
                .map_or_else(full, |care| padded(&(care & ones(width)), width));
            Key::Ternary(value(v)?, mask)
        }
        (MatchType::Ternary, KeyValue::Masked(v, m)) => Key::Ternary(value(v)?, value(m)?),
        (MatchType::Range, KeyValue::Plain(v)) => Key::Range(value(v)?, value(v)?),
        (MatchType::Range, KeyValue::Range(low, high)) => Key::Range(value(low)?, value(high)?),
        (kind, _) => {
            return Err(format!(
                "key {name} ({kind:?}, {width} bits) does not take such a value"
            ));
        }
    })
}

/// A value's octets, if it fits.
pub(super) fn value(name: &str, digits: &Digits, width: u32) -> Result<Vec<u8>, Wrong> {
    if digits.value.bits() > u64::from(width) {
        return Err(format!("{name}: {:#x} does not fit into {width} bits", digits.value));
    }
    Ok(padded(&digits.value, width))
}

/// Number of octets for a number of bits.
fn octets(width: u32) -> usize {
    (width as usize).div_ceil(8)
}

fn ones(width: u32) -> BigUint {
    (BigUint::from(1u8) << width) - 1u8
}

/// A number in the octets of its width.
pub(in crate::stf) fn padded(value: &BigUint, width: u32) -> Vec<u8> {
    let bytes = value.to_bytes_be();
    let size = octets(width);
    let skip = bytes.len().saturating_sub(size);
    let mut out = vec![0; size.saturating_sub(bytes.len())];
    out.extend_from_slice(bytes.get(skip..).unwrap_or_default());
    out
}

/// A constant of the document in two's complement of its width.
pub(super) fn unsigned(value: &bmv2_json::HexStr, width: u32) -> BigUint {
    let modulus = num_bigint::BigInt::from(1u8) << width;
    let wrapped = ((value.value() % &modulus) + &modulus) % &modulus;
    wrapped.to_biguint().unwrap_or_default()
}
