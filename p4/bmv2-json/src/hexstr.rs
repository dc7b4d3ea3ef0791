//! Hexadecimal constants of any width.

use num_bigint::{BigInt, BigUint, Sign};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A constant as the format writes it: `0x0800`, or `-0x1` for negative values.
///
/// The text is kept as written, because in match keys its leading zeros carry the byte width. It is always a number.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HexStr(String);

impl HexStr {
    /// Keeps a text such as `0x0a`, `-0x1` or `0a`; `None` if it is not a hexadecimal number.
    pub fn parse(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        let digits = Self::digits_of(&text);
        (!digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit())).then_some(Self(text))
    }

    /// Writes a number with as few digits as it needs.
    pub fn from_bigint(value: &BigInt) -> Self {
        let sign = if value.sign() == Sign::Minus { "-" } else { "" };
        Self(format!("{sign}0x{:x}", value.magnitude()))
    }

    /// Writes an unsigned number padded to whole bytes of `bits` (at least one byte).
    pub fn padded(value: &BigUint, bits: u32) -> Self {
        let digits = (bits.div_ceil(8).max(1) * 2) as usize;
        Self(format!("0x{value:0>digits$x}"))
    }

    /// The number.
    pub fn value(&self) -> BigInt {
        let sign = if self.0.starts_with('-') {
            Sign::Minus
        } else {
            Sign::Plus
        };
        let magnitude = BigUint::parse_bytes(Self::digits_of(&self.0).as_bytes(), 16).unwrap_or_default();
        BigInt::from_biguint(sign, magnitude)
    }

    /// The digits as big-endian bytes, in the width in which they were written.
    pub fn bytes(&self) -> Vec<u8> {
        let digits = Self::digits_of(&self.0).as_bytes();
        let odd = digits.len() % 2;
        let nibble = |b: u8| (b as char).to_digit(16).unwrap_or(0) as u8;
        let mut out = Vec::with_capacity(digits.len().div_ceil(2));
        if odd == 1 {
            out.push(nibble(digits[0]));
        }
        out.extend(digits[odd..].chunks_exact(2).map(|c| nibble(c[0]) << 4 | nibble(c[1])));
        out
    }

    /// The text as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn digits_of(text: &str) -> &str {
        let text = text.strip_prefix('-').unwrap_or(text);
        text.strip_prefix("0x")
            .or_else(|| text.strip_prefix("0X"))
            .unwrap_or(text)
    }
}

impl Serialize for HexStr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for HexStr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        HexStr::parse(text.clone())
            .ok_or_else(|| de::Error::invalid_value(de::Unexpected::Str(&text), &"a hexadecimal number"))
    }
}
