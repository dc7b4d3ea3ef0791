//! Bits in and out of octets, most significant first; numbers cut to a width.

use num_bigint::{BigInt, BigUint, Sign};

/// All ones in the low `width` bits.
pub(crate) fn ones(width: u32) -> BigUint {
    (BigUint::from(1u8) << width) - 1u8
}

/// The low `width` bits of a number in two's complement.
pub(crate) fn cut(value: &BigInt, width: u32) -> BigUint {
    let magnitude = value.magnitude();
    if value.sign() != Sign::Minus {
        return if magnitude.bits() <= width.into() {
            magnitude.clone()
        } else {
            magnitude & ones(width)
        };
    }
    let wrapped = value & BigInt::from(ones(width));
    wrapped.magnitude().clone()
}

/// Reads `width` bits at a bit offset; `None` beyond the end.
pub(crate) fn read(data: &[u8], offset: usize, width: u32) -> Option<BigUint> {
    let end = offset.checked_add(width as usize)?;
    let bytes = data.get(offset / 8..end.div_ceil(8))?;
    let spare = end.div_ceil(8) * 8 - end;
    Some((BigUint::from_bytes_be(bytes) >> spare) & ones(width))
}

/// A number as octets, as many as its width needs.
pub(crate) fn octets(value: &BigUint, width: u32) -> Vec<u8> {
    let (bytes, size) = (value.to_bytes_be(), (width as usize).div_ceil(8));
    let mut out = vec![0; size.saturating_sub(bytes.len())];
    out.extend_from_slice(bytes.get(bytes.len().saturating_sub(size)..).unwrap_or_default());
    out
}

/// Appends bits to octets.
#[derive(Default)]
pub(crate) struct Writer {
    out: Vec<u8>,
    /// Bits in use of the last octet; 0 when it is full.
    used: u32,
}

impl Writer {
    /// Appends the low `width` bits of a value.
    pub(crate) fn write(&mut self, value: &BigUint, width: u32) {
        if self.used == 0 && width.is_multiple_of(8) {
            self.out.extend(octets(value, width));
            return;
        }
        for bit in (0..width).rev() {
            if self.used == 0 {
                self.out.push(0);
            }
            self.used = (self.used + 1) % 8;
            if let Some(last) = self.out.last_mut() {
                *last |= u8::from(value.bit(bit.into())) << ((8 - self.used) % 8);
            }
        }
    }

    /// Appends whole octets.
    pub(crate) fn write_bytes(&mut self, bytes: &[u8]) {
        if self.used == 0 {
            self.out.extend_from_slice(bytes);
        } else {
            bytes.iter().for_each(|b| self.write(&BigUint::from(*b), 8));
        }
    }

    /// What was written, the last octet padded with zeros.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(fields: Vec<(Vec<u8>, u16)>) {
            let mut writer = Writer::default();
            let fields: Vec<(BigUint, u32)> =
                fields.into_iter().map(|(v, w)| (BigUint::from_bytes_be(&v), u32::from(w % 300))).collect();
            for (value, width) in &fields {
                writer.write(value, *width);
            }
            let data = writer.finish();
            let mut at = 0;
            for (value, width) in fields {
                prop_assert_eq!(read(&data, at, width), Some(value & ones(width)));
                at += width as usize;
            }
            prop_assert_eq!(data.len(), at.div_ceil(8));
            prop_assert_eq!(read(&data, at, 9), None);
        }

        #[test]
        fn cutting_is_twos_complement(value: i64, width in 1u32..64) {
            let low = (value as u64) & (u64::MAX >> (64 - width));
            prop_assert_eq!(cut(&value.into(), width), BigUint::from(low));
        }
    }
}
