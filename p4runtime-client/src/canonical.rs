//! Bytestrings in their canonical form: big-endian, without leading zero bytes,
//! at least one byte long (P4Runtime 1.4, section 8.3).
//!
//! Servers accept longer forms and some return them, so every bytestring that
//! enters this crate goes through [`canonical`].

/// `bytes` without leading zero bytes; zero is one zero byte.
///
/// An empty slice stays empty: it is not a number, but a legal value of a string-translated type.
#[must_use]
pub fn canonical(bytes: &[u8]) -> &[u8] {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    let keep = zeros.min(bytes.len().saturating_sub(1));
    bytes.get(keep..).unwrap_or_default()
}

/// Number of significant bits of a big-endian number; 0 for zero.
#[must_use]
pub fn significant_bits(bytes: &[u8]) -> u32 {
    let bytes = canonical(bytes);
    let Some((first, rest)) = bytes.split_first() else {
        return 0;
    };
    let rest = u32::try_from(rest.len()).unwrap_or(u32::MAX / 8);
    rest.saturating_mul(8).saturating_add(u8::BITS - first.leading_zeros())
}

/// Whether the number fits into `bitwidth` bits. Width 0 means a
/// string-translated type, which everything fits.
#[must_use]
pub fn fits(bytes: &[u8], bitwidth: u32) -> bool {
    bitwidth == 0 || significant_bits(bytes) <= bitwidth
}

/// The number as a `u128`, or `None` when it is larger than that.
#[must_use]
pub fn to_u128(bytes: &[u8]) -> Option<u128> {
    let bytes = canonical(bytes);
    if bytes.len() > 16 {
        return None;
    }
    let fold = |number: u128, byte: &u8| (number << 8) | u128::from(*byte);
    Some(bytes.iter().fold(0, fold))
}

/// The number as a `u32`, or `None` when it is larger than that.
#[must_use]
pub fn to_u32(bytes: &[u8]) -> Option<u32> {
    to_u128(bytes)?.try_into().ok()
}

/// The canonical form of a number.
#[must_use]
pub fn from_u128(number: u128) -> Vec<u8> {
    canonical(&number.to_be_bytes()).to_vec()
}

/// The number as exactly `N` bytes, or `None` when it needs more.
///
/// Useful to get an address or a MAC back from a canonical bytestring.
#[must_use]
pub fn expand<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let bytes = canonical(bytes);
    let mut wide = [0; N];
    wide.get_mut(N.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
    Some(wide)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zero_is_one_byte() {
        assert_eq!(canonical(&[0, 0, 0]), [0]);
        assert_eq!(canonical(&[0]), [0]);
        assert_eq!(canonical(&[]), [0; 0]);
        assert_eq!(from_u128(0), [0]);
    }

    #[test]
    fn widths_are_counted_in_bits() {
        assert_eq!(significant_bits(&[0, 0]), 0);
        assert_eq!(significant_bits(&[1, 0xff]), 9);
        assert!(fits(&[1, 0xff], 9));
        assert!(!fits(&[2, 0], 9));
        assert!(fits(b"any string", 0));
    }

    proptest! {
        #[test]
        fn numbers_survive(number: u128, zeros in 0usize..4) {
            let mut long = vec![0; zeros];
            long.extend(from_u128(number));
            prop_assert_eq!(to_u128(&long), Some(number));
            prop_assert_eq!(canonical(&long), from_u128(number));
            prop_assert_eq!(expand::<16>(&long), Some(number.to_be_bytes()));
            prop_assert_eq!(significant_bits(&long), 128 - number.leading_zeros());
        }
    }
}
