//! How a row of the table of objects is laid out: `revision (8, little endian) | checksum (4) | value`.
//!
//! The checksum (CRC-32 of key, revision and value) finds every flipped bit and every burst of up to 32 bits.
//! The storage engine checks its pages only when it repairs a file.

use super::Revision;

const REVISION: usize = 8;
const HEADER: usize = REVISION + 4;

fn checksum(key: &[u8], revision: &[u8], value: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(revision);
    hasher.update(value);
    hasher.finalize().to_le_bytes()
}

/// A row.
pub(super) fn encode(key: &[u8], revision: Revision, value: &[u8]) -> Vec<u8> {
    let number = revision.to_le_bytes();
    [&number, checksum(key, &number, value).as_slice(), value].concat()
}

/// A row as it was read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    /// Revision that wrote it; 0 if there is not even room for one.
    pub(super) revision: Revision,
    /// Its value.
    pub(super) value: &'a [u8],
    /// Whether the checksum is right. Without that nothing here can be trusted.
    pub(super) sound: bool,
}

/// Reads a row; never fails, but may find it unsound.
pub(super) fn decode<'a>(key: &[u8], row: &'a [u8]) -> Record<'a> {
    let (Some((number, rest)), Some(value)) = (row.split_first_chunk::<REVISION>(), row.get(HEADER..)) else {
        return Record {
            revision: 0,
            value: &[],
            sound: false,
        };
    };
    Record {
        revision: Revision::from_le_bytes(*number),
        value,
        sound: rest.starts_with(&checksum(key, number, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_noticed() {
        let row = encode(b"object/1/v/red", 7, b"{\"vni\":10}");
        let expected = Record {
            revision: 7,
            value: b"{\"vni\":10}",
            sound: true,
        };
        assert_eq!(decode(b"object/1/v/red", &row), expected);
        for bit in 0..row.len() * 8 {
            let mut flipped = row.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(!decode(b"object/1/v/red", &flipped).sound, "bit {bit}");
        }
        assert!(!decode(b"object/1/v/rec", &row).sound, "another key");
        for length in 0..row.len() {
            assert!(!decode(b"object/1/v/red", &row[..length]).sound, "cut at {length}");
        }
    }
}
