//! Checksums and hashes over fields, by BMv2's names of algorithms.

use super::expr::Context;
use super::layout::Header;
use super::program::Value;
use super::wire::BitWriter;

/// What a calculation computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Csum16,
    Xor16,
    Crc8,
    Crc16,
    CrcCcitt,
    Crc32,
    Identity,
    /// BMv2's `round_robin` counts; a hash must not depend on other packets, so it is 0.
    RoundRobin,
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
            _ => return None,
        })
    }

    /// Computes it over octets.
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
            Self::Crc16 => data
                .iter()
                .fold(0u16, |crc, b| crc >> 8 ^ CRC16[usize::from(crc as u8 ^ b)])
                .into(),
            Self::CrcCcitt => data
                .iter()
                .fold(0xffffu16, |crc, b| crc << 8 ^ CCITT[usize::from((crc >> 8) as u8 ^ b)])
                .into(),
            Self::Crc32 => {
                let step = |crc: u32, b: &u8| crc >> 8 ^ CRC32[usize::from(crc as u8 ^ b)];
                u64::from(!data.iter().fold(u32::MAX, step))
            }
            Self::Identity => data.iter().fold(0, |v, b| v << 8 | u64::from(*b)),
            Self::RoundRobin => 0,
        }
    }
}

/// Sum of 16-bit words (RFC 1071); an odd octet at the end is the high one.
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

/// A table for a CRC over reflected bits, one octet at a time.
const fn reflected(polynomial: u32) -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = crc >> 1 ^ (polynomial * (crc & 1));
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
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

const fn low16(wide: [u32; 256]) -> [u16; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        table[i] = wide[i] as u16;
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
static CRC16: [u16; 256] = low16(reflected(0xa001));
static CCITT: [u16; 256] = plain(0x1021, 16);
static CRC32: [u32; 256] = reflected(0xedb8_8320);

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
    /// What follows the headers.
    Payload,
}

/// A calculation.
#[derive(Debug, Clone)]
pub(crate) struct Calculation {
    pub(crate) algorithm: Algorithm,
    pub(crate) input: Box<[Input]>,
    /// The input of a checksum of words at fixed places: slots, and shifts by which they
    /// weigh in the sum (2^16 is 1 modulo 2^16 - 1, so only the place modulo 16 counts).
    words: Option<Box<[(u32, u8)]>>,
}

impl Calculation {
    pub(crate) fn new(algorithm: Algorithm, input: Vec<Input>) -> Self {
        let words = (algorithm == Algorithm::Csum16).then(|| weights(&input)).flatten();
        Self {
            algorithm,
            input: input.into(),
            words,
        }
    }

    /// Computes it. `buffer` is for the input's octets.
    pub(crate) fn run(&self, headers: &[Header], payload: &[u8], c: &Context<'_>, buffer: &mut Vec<u8>) -> u64 {
        if let Some(words) = &self.words {
            let each = words
                .iter()
                .map(|(slot, shift)| u128::from(c.words[*slot as usize]) << shift);
            let sum: u128 = each.sum();
            let low = (sum as u64 & 0xffff_ffff) + (sum as u64 >> 32) + ((sum >> 64) as u64);
            return u64::from(!fold(low));
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

fn weights(input: &[Input]) -> Option<Box<[(u32, u8)]>> {
    let mut end = 0;
    let mut words = Vec::new();
    for input in input {
        let Input::Word(slot, width) = input else { return None };
        end += width;
        words.push((*slot, ((16 - end % 16) % 16) as u8));
    }
    Some(words.into())
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
    impl crate::engine::expr::Registers for NoRegisters {
        fn read(&self, _: u32, _: usize) -> num_bigint::BigInt {
            num_bigint::BigInt::ZERO
        }
        fn read_low(&self, _: u32, _: usize) -> u64 {
            0
        }
    }

    proptest! {
        #[test]
        fn weighted_words_sum_like_their_octets(fields: Vec<(u64, u8)>) {
            let widths: Vec<u32> = fields.iter().map(|(_, w)| u32::from(w % 64) + 1).collect();
            let words: Vec<u64> = fields.iter().zip(&widths)
                .map(|((v, _), w)| v & crate::engine::word::mask64(*w)).collect();
            let input = widths.iter().enumerate().map(|(i, w)| Input::Word(i as u32, *w)).collect();
            let mut calculation = Calculation::new(Algorithm::Csum16, input);
            let c = Context { words: &words, args: &[], registers: &NoRegisters };
            let quick = calculation.run(&[], &[], &c, &mut Vec::new());
            calculation.words = None;
            prop_assert_eq!(quick, calculation.run(&[], &[], &c, &mut Vec::new()));
        }
    }
}
