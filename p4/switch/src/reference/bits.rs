//! Bits in and out of octets, most significant first.

/// All ones in the low `width` bits.
pub(crate) fn mask(width: u32) -> u128 {
    if width >= 128 { u128::MAX } else { (1u128 << width) - 1 }
}

/// Reads `width` (at most 128) bits at a bit offset; `None` beyond the end.
pub(crate) fn read(data: &[u8], offset: usize, width: u32) -> Option<u128> {
    let end = offset.checked_add(width as usize)?;
    let bytes = data.get(offset / 8..end.div_ceil(8))?;
    // At most 17 octets: 128 bits that start inside one.
    let (head, tail) = bytes.split_at_checked(16).unwrap_or((bytes, &[]));
    let spare = (bytes.len() * 8) as u32 - (offset % 8) as u32 - width;
    let value = head.iter().fold(0u128, |v, b| v << 8 | u128::from(*b));
    let value = match tail.first() {
        None => value >> spare,
        Some(last) => value << (8 - spare) | u128::from(*last) >> spare,
    };
    Some(value & mask(width))
}

/// Appends bits to octets.
#[derive(Default)]
pub(crate) struct Writer {
    out: Vec<u8>,
    /// Bits in use of the last octet; 0 when it is full.
    used: u32,
}

impl Writer {
    /// Appends to `out`, which it empties first.
    pub(crate) fn reuse(mut out: Vec<u8>) -> Self {
        out.clear();
        Self { out, used: 0 }
    }

    /// Appends the low `width` bits of a value.
    pub(crate) fn write(&mut self, value: u128, width: u32) {
        let mut left = width;
        if self.used == 0 {
            while left >= 8 {
                left -= 8;
                self.out.push((value >> left) as u8);
            }
        }
        while left > 0 {
            if self.used == 0 {
                self.out.push(0);
            }
            let take = left.min(8 - self.used);
            left -= take;
            let bits = (value >> left) as u8 & (mask(take) as u8);
            if let Some(last) = self.out.last_mut() {
                *last |= bits << (8 - self.used - take);
            }
            self.used = (self.used + take) % 8;
        }
    }

    /// Appends whole octets.
    pub(crate) fn write_bytes(&mut self, bytes: &[u8]) {
        if self.used == 0 {
            self.out.extend_from_slice(bytes);
        } else {
            bytes.iter().for_each(|b| self.write((*b).into(), 8));
        }
    }

    /// What was written, the last octet padded with zeros.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// A value from octets of any number; the high ones are cut off.
pub(crate) fn from_bytes(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |v, b| v << 8 | u128::from(*b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(fields: Vec<(u128, u8)>) {
            let mut writer = Writer::default();
            let fields: Vec<(u128, u32)> = fields.into_iter().map(|(v, w)| (v, u32::from(w % 129))).collect();
            for (value, width) in &fields {
                writer.write(*value, *width);
            }
            let data = writer.finish();
            let mut at = 0;
            for (value, width) in fields {
                prop_assert_eq!(read(&data, at, width), Some(value & mask(width)));
                at += width as usize;
            }
            prop_assert_eq!(data.len(), at.div_ceil(8));
            prop_assert_eq!(read(&data, at, 9), None);
        }
    }
}
