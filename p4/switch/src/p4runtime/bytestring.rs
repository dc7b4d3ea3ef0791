//! P4Runtime bytestrings (specification, section 8.4): unsigned big-endian integers as the shortest string of bytes.
//!
//! Inside the server a `bit<W>` value is held padded to `bytes(W)` bytes, so that packed keys compare bytewise; on the
//! wire it is canonical (shortest, at least one byte). Non-canonical input is accepted; only canonical output is sent.

use thiserror::Error;

/// Why a bytestring was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BytestringError {
    /// The specification rejects the empty string everywhere.
    #[error("the value is empty")]
    Empty,
    /// The integer needs more bits than the type has.
    #[error("the value needs {needed} bits, the type has {width}")]
    TooWide {
        /// Bits that the value needs.
        needed: usize,
        /// Bits of the type.
        width: usize,
    },
}

/// Bytes that a padded `bit<width>` value takes.
pub const fn bytes(width: usize) -> usize {
    width.div_ceil(8)
}

/// The shortest string of the same unsigned value; an empty string becomes one zero byte.
pub fn canonical(value: &[u8]) -> &[u8] {
    const ZERO: &[u8] = &[0];
    match value.iter().position(|byte| *byte != 0) {
        Some(first) => &value[first..],
        None => ZERO,
    }
}

/// [`canonical`] as an owned string.
pub fn canonical_vec(value: &[u8]) -> Vec<u8> {
    canonical(value).to_vec()
}

/// Bits needed for the value; zero needs one.
fn bits_needed(canonical: &[u8]) -> usize {
    match canonical.first() {
        Some(first) => (canonical.len() - 1) * 8 + (8 - first.leading_zeros() as usize).max(1),
        None => 1,
    }
}

/// Checks that `value` fits `bit<width>` and returns its canonical form.
pub fn checked(value: &[u8], width: usize) -> Result<&[u8], BytestringError> {
    if value.is_empty() {
        return Err(BytestringError::Empty);
    }
    let value = canonical(value);
    let needed = bits_needed(value);
    if needed > width && value != [0] {
        return Err(BytestringError::TooWide { needed, width });
    }
    Ok(value)
}

/// Appends `value` padded to `bytes(width)` bytes to `out`.
pub fn push_padded(out: &mut Vec<u8>, value: &[u8], width: usize) -> Result<(), BytestringError> {
    let value = checked(value, width)?;
    let total = bytes(width);
    // A canonical value that fits is never longer than the padded one, except the single zero of a zero-width type.
    let value = &value[value.len().saturating_sub(total)..];
    match to_u64(value) {
        // The value fits a CPU register, so two copies of a length known only at run time are saved.
        Some(number) if total <= 8 => out.extend_from_slice(&number.to_be_bytes()[8 - total..]),
        _ => {
            out.resize(out.len() + total - value.len(), 0);
            out.extend_from_slice(value);
        }
    }
    Ok(())
}

/// Checks and pads to `bytes(width)` bytes.
pub fn padded(value: &[u8], width: usize) -> Result<Vec<u8>, BytestringError> {
    let mut out = Vec::with_capacity(bytes(width));
    push_padded(&mut out, value, width)?;
    Ok(out)
}

/// The value as a number if it fits 64 bits.
pub fn to_u64(value: &[u8]) -> Option<u64> {
    let value = canonical(value);
    (value.len() <= 8).then(|| value.iter().fold(0, |n, byte| n << 8 | u64::from(*byte)))
}

/// The canonical string of a number.
pub fn from_u64(value: u64) -> Vec<u8> {
    canonical_vec(&value.to_be_bytes())
}

/// Appends the padded mask of the `prefix_len` most significant of `width` bits.
pub fn push_prefix_mask(out: &mut Vec<u8>, prefix_len: usize, width: usize) {
    let start = out.len();
    let total = bytes(width);
    out.resize(start + total, 0);
    let unused = total * 8 - width;
    let end = unused + prefix_len.min(width);
    for (i, byte) in out.iter_mut().skip(start).enumerate() {
        // The bits of this byte that come before a position in the whole value.
        let before = |place: usize| (0xff00_u16 >> place.saturating_sub(i * 8).min(8)) as u8;
        *byte = before(end) & !before(unused);
    }
}

/// Appends the padded all-ones value of `width` bits.
pub fn push_ones(out: &mut Vec<u8>, width: usize) {
    push_prefix_mask(out, width, width);
}

/// Whether a padded value is the largest of `width` bits.
pub fn is_ones(value: &[u8], width: usize) -> bool {
    let Some((first, rest)) = value.split_first() else {
        return true;
    };
    let unused = bytes(width) * 8 - width;
    *first == 0xff >> unused && rest.iter().all(|byte| *byte == 0xff)
}

/// Whether one of the lowest `bits` of a padded value is set.
pub fn is_beyond(value: &[u8], bits: usize) -> bool {
    let (whole, rest) = (bits / 8, bits % 8);
    let mut from_last = value.iter().rev();
    from_last.by_ref().take(whole).any(|byte| *byte != 0)
        || from_last.next().is_some_and(|byte| *byte & ((1 << rest) - 1) != 0)
}

/// Whether `value` has a bit outside `mask`; both padded to one length.
pub fn outside_mask(value: &[u8], mask: &[u8]) -> bool {
    value.iter().zip(mask).any(|(value, mask)| value & !mask != 0)
}

/// Checks a signed `int<width>` in two's complement (section 8.4) and returns it sign-extended to `bytes(width)` bytes.
pub fn padded_signed(value: &[u8], width: usize) -> Result<Vec<u8>, BytestringError> {
    let value = canonical_signed(value)?;
    let first = value.first().copied().unwrap_or(0);
    let negative = first & 0x80 != 0;
    // Redundant copies of the sign bit in the first byte do not count.
    let significant = 8
        - (if negative {
            first.leading_ones()
        } else {
            first.leading_zeros()
        }) as usize
        + 1;
    let needed = (value.len() - 1) * 8 + significant;
    if needed > width {
        return Err(BytestringError::TooWide { needed, width });
    }
    let mut out = vec![if negative { 0xff } else { 0 }; bytes(width).saturating_sub(value.len())];
    out.extend_from_slice(value);
    Ok(out)
}

/// The shortest two's complement string of the same signed value.
pub fn canonical_signed(value: &[u8]) -> Result<&[u8], BytestringError> {
    let mut rest = value;
    while let [first, second, ..] = rest {
        let redundant = matches!((first, second & 0x80), (0, 0) | (0xff, 0x80));
        if !redundant {
            break;
        }
        rest = &rest[1..];
    }
    if rest.is_empty() {
        Err(BytestringError::Empty)
    } else {
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_the_specification_lists_as_valid() {
        for (width, value, shortest) in [
            (8, &[0x63][..], &[0x63][..]),
            (16, &[0, 0x63], &[0x63]),
            (16, &[0x30, 0x64], &[0x30, 0x64]),
            (16, &[0, 0x30, 0x64], &[0x30, 0x64]),
            (12, &[0, 0, 0x63], &[0x63]),
            (16, &[0, 0], &[0]),
        ] {
            assert_eq!(checked(value, width), Ok(shortest), "bit<{width}> {value:x?}");
        }
    }

    #[test]
    fn values_that_the_specification_lists_as_invalid() {
        for (width, value) in [
            (8, &[1, 0x63][..]),
            (8, &[]),
            (16, &[1, 0, 0x63]),
            (12, &[0x10, 0x63]),
            (12, &[1, 0, 0x63]),
            (12, &[0, 0x40, 0x63]),
        ] {
            assert!(checked(value, width).is_err(), "bit<{width}> {value:x?}");
        }
    }

    #[test]
    fn padding_and_canonical_form_are_inverse() {
        assert_eq!(padded(&[5], 32), Ok(vec![0, 0, 0, 5]));
        assert_eq!(canonical(&[0, 0, 0, 5]), [5]);
        assert_eq!(canonical(&[0, 0]), [0]);
        assert_eq!(canonical(&[]), [0]);
        assert_eq!(padded(&[1, 0xff], 9), Ok(vec![1, 0xff]));
        assert_eq!(
            padded(&[2, 0], 9),
            Err(BytestringError::TooWide { needed: 10, width: 9 })
        );
    }

    #[test]
    fn prefix_masks_start_at_the_types_first_bit() {
        let mask = |len, width| {
            let mut out = Vec::new();
            push_prefix_mask(&mut out, len, width);
            out
        };
        assert_eq!(mask(8, 32), [0xff, 0, 0, 0]);
        assert_eq!(mask(0, 32), [0, 0, 0, 0]);
        assert_eq!(mask(3, 9), [1, 0b1100_0000]);
        assert_eq!(mask(9, 9), [1, 0xff]);
        assert!(is_beyond(&[0, 1], 1) && !is_beyond(&[0xff, 0xfe], 1));
        assert!(is_beyond(&[1, 0], 9) && !is_beyond(&[2, 0], 9) && is_beyond(&[0, 1], 8));
        assert!(!is_beyond(&[1, 0], 0) && !is_beyond(&[0, 0], 16) && is_beyond(&[0x80, 0], 16));
        assert!(outside_mask(&[0, 1], &[1, 0xfe]));
        assert!(!outside_mask(&[1, 2], &[1, 0xfe]));
    }

    #[test]
    fn signed_values() {
        assert_eq!(padded_signed(&[0x9d], 8), Ok(vec![0x9d]));
        assert_eq!(padded_signed(&[0xff, 0x9d], 8), Ok(vec![0x9d]));
        assert_eq!(padded_signed(&[0xfd, 0x1d], 12), Ok(vec![0xfd, 0x1d]));
        assert_eq!(padded_signed(&[0, 0], 16), Ok(vec![0, 0]));
        assert_eq!(padded_signed(&[0x80], 16), Ok(vec![0xff, 0x80]));
        assert!(padded_signed(&[0, 0x9d], 8).is_err());
        assert!(padded_signed(&[0x8d, 0x1d], 12).is_err());
        assert!(padded_signed(&[], 16).is_err());
        assert_eq!(canonical_signed(&[0xff, 0x9d]), Ok(&[0x9d][..]));
    }

    #[test]
    fn numbers() {
        assert_eq!(to_u64(&[0, 0, 1, 0]), Some(256));
        assert_eq!(to_u64(&[1; 9]), None);
        assert_eq!(from_u64(0), [0]);
        assert_eq!(from_u64(510), [1, 0xfe]);
    }
}
