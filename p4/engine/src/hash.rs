//! Checksums and hashes over fields, by BMv2's names of algorithms.

use crate::expr::Context;
use crate::layout::{Header, Piece, Store, stores};
use crate::program::Value;
use crate::wire::BitWriter;

/// What a calculation computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Csum16,
    Xor16,
    Crc8,
    Crc16,
    CrcCcitt,
    Crc32,
    /// The first eight octets.
    Identity,
    /// BMv2's `round_robin` counts packets. A hash must not depend on other packets, so here it is 0.
    RoundRobin,
    /// `HashAlgorithm.random` does not define a function. Ours is FNV-1a with mixed bits: equal input has an equal
    /// hash, so that a flow keeps its path.
    Random,
}

impl Algorithm {
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Some(match name {
            "csum16" => Self::Csum16,
            "xor16" => Self::Xor16,
            "crc8" => Self::Crc8,
            "crc16" | "crc16_custom" => Self::Crc16,
            "crcCCITT" => Self::CrcCcitt,
            "crc32" | "crc32_custom" => Self::Crc32,
            "identity" => Self::Identity,
            "round_robin" | "round_robin_consistent" => Self::RoundRobin,
            "random" => Self::Random,
            _ => return None,
        })
    }

    /// Computes the checksum or hash of some octets.
    pub(crate) fn run(self, data: &[u8]) -> u64 {
        match self {
            Self::Csum16 => u64::from(!fold(sum(data))),
            Self::Xor16 => {
                let words = data
                    .chunks(2)
                    .map(|c| u16::from_be_bytes([c[0], c.get(1).copied().unwrap_or(0)]));
                words.fold(0, |x, w| x ^ w).into()
            }
            Self::Crc8 => data.iter().fold(0u8, |crc, b| CRC8[usize::from(crc ^ b)]).into(),
            Self::Crc16 => CRC16.octets(0, data).into(),
            Self::CrcCcitt => data
                .iter()
                .fold(0xffffu16, |crc, b| crc << 8 ^ CCITT[usize::from((crc >> 8) as u8 ^ b)])
                .into(),
            Self::Crc32 => u64::from(!CRC32.octets(u32::MAX, data)),
            Self::Identity => data.iter().take(8).fold(0, |v, b| v << 8 | u64::from(*b)),
            Self::RoundRobin => 0,
            Self::Random => {
                let step = |h: u64, b: &u8| (h ^ u64::from(*b)).wrapping_mul(0x0000_0100_0000_01b3);
                mix(data.iter().fold(0xcbf2_9ce4_8422_2325, step))
            }
        }
    }
}

/// Spreads every bit over all others (the finalizer of SplitMix64).
fn mix(mut h: u64) -> u64 {
    h = (h ^ h >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    h = (h ^ h >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    h ^ h >> 31
}

/// Sum of 16-bit words (RFC 1071), two at a time; an odd octet at the end is the high half of a word.
fn sum(data: &[u8]) -> u64 {
    let mut chunks = data.chunks_exact(4);
    let mut sum: u64 = 0;
    for c in &mut chunks {
        sum += u64::from(u32::from_be_bytes([c[0], c[1], c[2], c[3]]));
    }
    let rest = chunks.remainder();
    let at = |i: usize| rest.get(i).copied().unwrap_or(0);
    sum + u64::from(u32::from_be_bytes([at(0), at(1), at(2), 0]))
}

/// The one's complement sum in 16 bits.
fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// A CRC with reflected bits, over 8 octets at a time: table `k` has the CRC of an octet that `k` octets of zeros
/// follow.
struct Reflected([[u32; 256]; 8]);

impl Reflected {
    const fn new(polynomial: u32) -> Self {
        let mut tables = [[0; 256]; 8];
        let mut i = 0;
        while i < 256 {
            let mut crc = i as u32;
            let mut bit = 0;
            while bit < 64 {
                if bit % 8 == 0 && bit > 0 {
                    tables[bit / 8 - 1][i] = crc;
                }
                crc = crc >> 1 ^ (polynomial * (crc & 1));
                bit += 1;
            }
            tables[7][i] = crc;
            i += 1;
        }
        Self(tables)
    }

    /// Adds 8 octets to the CRC. The first octet is in the high bits of `word`.
    #[inline]
    fn word(&self, crc: u32, word: u64) -> u32 {
        let x = (word ^ u64::from(crc.swap_bytes()) << 32).to_be_bytes();
        let t = &self.0;
        let at = |k: usize| t[7 - k][usize::from(x[k])];
        at(0) ^ at(1) ^ at(2) ^ at(3) ^ at(4) ^ at(5) ^ at(6) ^ at(7)
    }

    /// Adds the first `octets` octets of a word (fewer than 8), all in one step too.
    #[inline]
    fn part(&self, crc: u32, word: u64, octets: usize) -> u32 {
        let x = (word ^ u64::from(crc.swap_bytes()) << 32).to_be_bytes();
        // The part of the CRC that these octets do not touch is shifted.
        let rest = crc.checked_shr(8 * octets as u32).unwrap_or(0);
        let tables = self.0.iter().take(octets).rev();
        tables.zip(x).fold(rest, |crc, (table, x)| crc ^ table[usize::from(x)])
    }

    fn octets(&self, mut crc: u32, data: &[u8]) -> u32 {
        let (words, rest) = data.as_chunks();
        for word in words {
            crc = self.word(crc, u64::from_be_bytes(*word));
        }
        let mut last = [0; 8];
        last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        self.part(crc, u64::from_be_bytes(last), rest.len())
    }

    /// Adds the words that the stores produce.
    fn stores(&self, mut crc: u32, (stores, pieces): &(Box<[Store]>, Box<[Piece]>), words: &[u64]) -> u32 {
        for store in stores {
            let word = store.word(pieces, words);
            crc = match store.octets {
                8 => self.word(crc, word),
                octets => self.part(crc, word, octets as usize),
            };
        }
        crc
    }
}

/// A table for a CRC of that many bits over bits in order.
const fn plain(polynomial: u16, bits: u32) -> [u16; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = (i as u16) << (bits - 8);
        let mut bit = 0;
        while bit < 8 {
            let top = crc >> (bits - 1) & 1;
            crc = crc << 1 ^ (polynomial * top);
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

const fn low8(wide: [u16; 256]) -> [u8; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = wide[i] as u8;
        i += 1;
    }
    table
}

static CRC8: [u8; 256] = low8(plain(0x07, 8));
static CRC16: Reflected = Reflected::new(0xa001);
static CCITT: [u16; 256] = plain(0x1021, 16);
static CRC32: Reflected = Reflected::new(0xedb8_8320);

/// One piece of a calculation's input.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// A word of the arena of that many bits.
    Word(u32, u32),
    /// A value of that many bits.
    Value(Value, u32),
    /// A variable-length field: its first word.
    Variable(u32),
    /// A header, if it is valid.
    Header(u32),
    /// The payload after the headers.
    Payload,
}

/// A calculation.
#[derive(Debug, Clone)]
pub(crate) struct Calculation {
    pub(crate) algorithm: Algorithm,
    pub(crate) input: Box<[Input]>,
    quick: Quick,
}

/// Words of a quick sum: each adds less than 2^48, so that 64 bits are enough.
const MAX_SUM: usize = 1 << 15;

/// A calculation over words at fixed places.
#[derive(Debug, Clone)]
enum Quick {
    /// The input is not only words at fixed places.
    No,
    /// A checksum: slots, and the shifts with which they enter the sum (2^16 is 1 modulo 2^16 - 1, so only the bit
    /// position modulo 16 counts).
    Sum(Box<[(u32, u8)]>),
    /// A CRC of octets, which are taken word by word.
    Octets((Box<[Store]>, Box<[Piece]>)),
}

impl Quick {
    fn new(algorithm: Algorithm, input: &[Input]) -> Self {
        let word = |input: &Input| match input {
            Input::Word(slot, width) => Some((*slot, *width)),
            _ => None,
        };
        let Some(words) = input.iter().map(word).collect::<Option<Vec<_>>>() else {
            return Self::No;
        };
        let bits: u32 = words.iter().map(|(_, width)| width).sum();
        match algorithm {
            Algorithm::Csum16 if words.len() <= MAX_SUM => Self::Sum(weights(&words)),
            Algorithm::Crc16 | Algorithm::Crc32 if bits.is_multiple_of(8) => Self::Octets(stores(&words)),
            _ => Self::No,
        }
    }
}

impl Calculation {
    pub(crate) fn new(algorithm: Algorithm, input: Vec<Input>) -> Self {
        Self {
            algorithm,
            quick: Quick::new(algorithm, &input),
            input: input.into(),
        }
    }

    /// For a checksum of words at fixed places: their slots, the shifts with which they enter the sum, and their widths
    /// in bits.
    #[cfg(feature = "native")]
    pub(crate) fn sum(&self) -> Option<impl Iterator<Item = (u32, u8, u32)>> {
        let Quick::Sum(words) = &self.quick else { return None };
        let widths = self.input.iter().map(|input| match input {
            Input::Word(_, width) => *width,
            _ => u64::BITS,
        });
        Some(
            words
                .iter()
                .zip(widths)
                .map(|((slot, shift), width)| (*slot, *shift, width)),
        )
    }

    /// Computes the calculation. `buffer` is room for the input's octets.
    pub(crate) fn run(&self, headers: &[Header], payload: &[u8], c: &Context<'_>, buffer: &mut Vec<u8>) -> u64 {
        match &self.quick {
            Quick::Sum(words) => {
                let sum = words.iter().fold(0, |sum: u64, (slot, shift)| {
                    // Add the two halves of the word separately: each has room for its shift, and the sum has room for
                    // all of them.
                    let word = c.words[*slot as usize];
                    sum + ((word & 0xffff_ffff) << shift) + (word >> 32 << shift)
                });
                return u64::from(!fold(sum));
            }
            Quick::Octets(octets) if self.algorithm == Algorithm::Crc16 => {
                return CRC16.stores(0, octets, c.words).into();
            }
            Quick::Octets(octets) => return (!CRC32.stores(u32::MAX, octets, c.words)).into(),
            Quick::No => {}
        }
        let mut out = BitWriter::new(buffer);
        for input in &self.input {
            match input {
                Input::Word(slot, width) => out.write(c.words[*slot as usize], *width),
                Input::Value(value, width) => value.write(*width, c, &mut out),
                Input::Variable(slot) => out.write_variable(c.words, *slot),
                Input::Header(h) => {
                    if let Some(header) = headers.get(*h as usize)
                        && c.words[header.slot as usize] != 0
                    {
                        out.write_header(header, c.words);
                    }
                }
                Input::Payload => out.write_bytes(payload),
            }
        }
        out.finish();
        self.algorithm.run(buffer)
    }
}

fn weights(words: &[(u32, u32)]) -> Box<[(u32, u8)]> {
    let mut end = 0;
    let weight = |(slot, width): &(u32, u32)| {
        end += width;
        (*slot, ((16 - end % 16) % 16) as u8)
    };
    words.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The check values of the CRC catalogue, and RFC 1071's example.
    #[test]
    fn known_values() {
        let data = b"123456789";
        assert_eq!(Algorithm::Crc8.run(data), 0xf4);
        assert_eq!(Algorithm::Crc16.run(data), 0xbb3d);
        assert_eq!(Algorithm::CrcCcitt.run(data), 0x29b1);
        assert_eq!(Algorithm::Crc32.run(data), 0xcbf4_3926);
        assert_eq!(
            Algorithm::Csum16.run(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            0x220d
        );
    }

    struct NoRegisters;
    impl crate::expr::Registers for NoRegisters {
        fn read(&self, _: u32, _: usize) -> num_bigint::BigInt {
            num_bigint::BigInt::ZERO
        }
        fn read_low(&self, _: u32, _: usize) -> u64 {
            0
        }
    }

    proptest! {
        #[test]
        fn quick_ways_give_what_the_octets_give(fields: Vec<(u64, u8)>, whole: bool) {
            let width = |w: u8| if whole { u32::from(w % 8 + 1) * 8 } else { u32::from(w % 64) + 1 };
            let widths: Vec<u32> = fields.iter().map(|(_, w)| width(*w)).collect();
            let words: Vec<u64> = fields.iter().zip(&widths)
                .map(|((v, _), w)| v & crate::word::mask64(*w)).collect();
            let c = Context { words: &words, args: &[], registers: &NoRegisters };
            for algorithm in [Algorithm::Csum16, Algorithm::Crc16, Algorithm::Crc32] {
                let input = widths.iter().enumerate().map(|(i, w)| Input::Word(i as u32, *w)).collect();
                let mut calculation = Calculation::new(algorithm, input);
                let quick = calculation.run(&[], &[], &c, &mut Vec::new());
                calculation.quick = Quick::No;
                prop_assert_eq!(quick, calculation.run(&[], &[], &c, &mut Vec::new()));
            }
        }
    }
}
