//! Octets: bits read from a frame, bits written to one.

use crate::layout::Header;
use crate::word::{mask64, top_bits, words_of};

/// Reads up to 64 bits at a bit offset; nothing where the octets end before.
#[inline]
pub(crate) fn read(data: &[u8], at: usize, width: u32) -> Option<u64> {
    if width == 0 {
        return Some(0);
    }
    let (first, end) = (at / 8, at.checked_add(width as usize)?);
    let inside = at % 8 + width as usize;
    if inside <= 64
        && let Some(octets) = data.get(first..).and_then(|rest| rest.first_chunk())
    {
        return Some(u64::from_be_bytes(*octets) >> (64 - inside) & mask64(width));
    }
    let octets = data.get(first..end.div_ceil(8))?;
    let window = octets.iter().fold(0u128, |v, b| v << 8 | u128::from(*b));
    let unused = octets.len() * 8 - (end - first * 8);
    Some((window >> unused) as u64 & mask64(width))
}

/// Reads a value of any width into words, most significant first.
pub(crate) fn read_words(data: &[u8], mut at: usize, width: u32, out: &mut [u64]) -> Option<()> {
    let mut left = width;
    for word in out.iter_mut().take(words_of(width) as usize) {
        let bits = top_bits(left);
        *word = read(data, at, bits)?;
        at += bits as usize;
        left -= bits;
    }
    Some(())
}

/// Appends bits to octets.
pub(crate) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    /// Bits that wait for their octet, right-aligned.
    held: u128,
    bits: u32,
}

impl<'a> BitWriter<'a> {
    /// Writes into an emptied buffer.
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        out.clear();
        Self { out, held: 0, bits: 0 }
    }

    /// Appends the low `width` bits, at most 64.
    #[inline]
    pub(crate) fn write(&mut self, value: u64, width: u32) {
        if self.bits == 0 && width.is_multiple_of(8) {
            let octets = value.to_be_bytes();
            self.out.extend_from_slice(&octets[8 - (width / 8) as usize..]);
            return;
        }
        self.held = self.held << width | u128::from(value & mask64(width));
        self.bits += width;
        while self.bits >= 8 {
            self.bits -= 8;
            self.out.push((self.held >> self.bits) as u8);
        }
        self.held &= u128::from(mask64(self.bits));
    }

    /// Appends a value held in words.
    pub(crate) fn write_words(&mut self, words: &[u64], width: u32) {
        let mut left = width;
        for word in words.iter().take(words_of(width) as usize) {
            let bits = top_bits(left);
            self.write(*word, bits);
            left -= bits;
        }
    }

    /// Appends whole octets.
    pub(crate) fn write_bytes(&mut self, bytes: &[u8]) {
        if self.bits == 0 {
            self.out.extend_from_slice(bytes);
        } else {
            bytes.iter().for_each(|b| self.write((*b).into(), 8));
        }
    }

    /// Appends a variable-length field: its length and its left-aligned octets.
    pub(crate) fn write_variable(&mut self, words: &[u64], slot: u32) {
        let mut left = words.get(slot as usize).map_or(0, |bits| *bits as u32);
        let content = words.get(slot as usize + 1..).unwrap_or_default();
        for word in content.iter().take(words_of(left) as usize) {
            let bits = left.min(64);
            self.write(word >> (64 - bits), bits);
            left -= bits;
        }
    }

    /// Appends a header.
    pub(crate) fn write_header(&mut self, header: &Header, words: &[u64]) {
        for field in &header.fields {
            if field.variable {
                self.write_variable(words, field.slot);
            } else {
                self.write_words(words.get(field.slot as usize..).unwrap_or_default(), field.width);
            }
        }
    }

    /// Fills the last octet up with zeros.
    pub(crate) fn finish(self) {
        if self.bits > 0 {
            self.out.push((self.held << (8 - self.bits)) as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(fields: Vec<(u64, u8)>) {
            let fields: Vec<(u64, u32)> = fields.into_iter().map(|(v, w)| (v, u32::from(w % 65))).collect();
            let mut data = Vec::new();
            let mut writer = BitWriter::new(&mut data);
            fields.iter().for_each(|(value, width)| writer.write(*value, *width));
            writer.finish();
            let mut at = 0;
            for (value, width) in fields {
                prop_assert_eq!(read(&data, at, width), Some(value & mask64(width)));
                at += width as usize;
            }
            prop_assert_eq!(data.len(), at.div_ceil(8));
            prop_assert_eq!(read(&data, at, 9), None);
        }
    }
}
