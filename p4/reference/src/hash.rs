//! Checksums and hashes over fields, by BMv2's names of algorithms.

use num_bigint::BigUint;

use crate::bits::Writer;
use crate::expr::{Expr, HeaderRef, World};
use crate::phv::{Header, Phv};

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
    /// A constant (BMv2's `round_robin` counts; here every call counts one).
    RoundRobin,
    /// FNV-1a with mixed bits, as specified for the switch.
    Random,
}

/// One piece of a calculation's input.
#[derive(Debug, Clone)]
pub(crate) enum Input {
    /// A value of that many bits.
    Value(Expr, u32),
    /// A variable-length field.
    Variable(usize),
    /// A header, if it is valid.
    Header(HeaderRef),
    /// The octets after the headers.
    Payload,
}

/// A calculation.
#[derive(Debug, Clone)]
pub(crate) struct Calculation {
    pub(crate) algorithm: Algorithm,
    pub(crate) input: Vec<Input>,
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

    fn run(self, data: &[u8]) -> u64 {
        match self {
            Self::Csum16 => {
                let words = data
                    .chunks(2)
                    .map(|c| u32::from(u16::from_be_bytes([c[0], c.get(1).copied().unwrap_or(0)])));
                let mut sum: u64 = words.map(u64::from).sum();
                while sum >> 16 != 0 {
                    sum = (sum & 0xffff) + (sum >> 16);
                }
                u64::from(!(sum as u16))
            }
            Self::Xor16 => {
                let words = data
                    .chunks(2)
                    .map(|c| u16::from_be_bytes([c[0], c.get(1).copied().unwrap_or(0)]));
                u64::from(words.fold(0, |x, w| x ^ w))
            }
            Self::Crc8 => data
                .iter()
                .fold(0u8, |crc, b| (0..8).fold(crc ^ b, |c, _| c << 1 ^ (0x07 * (c >> 7))))
                .into(),
            Self::Crc16 => reflected(data, 0xa001, 0).into(),
            Self::CrcCcitt => {
                let step = |c: u16, _| c << 1 ^ (0x1021 * (c >> 15));
                data.iter()
                    .fold(0xffffu16, |crc, b| (0..8).fold(crc ^ u16::from(*b) << 8, step))
                    .into()
            }
            Self::Crc32 => u64::from(!reflected(data, 0xedb8_8320, u32::MAX)),
            Self::Identity => data.iter().take(8).fold(0, |v, b| v << 8 | u64::from(*b)),
            Self::RoundRobin => 0,
            Self::Random => {
                let mut hash = 14_695_981_039_346_656_037u64;
                for octet in data {
                    hash = (hash ^ u64::from(*octet)).wrapping_mul(1_099_511_628_211);
                }
                for (shift, factor) in [(30, 0xbf58_476d_1ce4_e5b9), (27, 0x94d0_49bb_1331_11eb)] {
                    hash = (hash ^ (hash >> shift)).wrapping_mul(factor);
                }
                hash ^ (hash >> 31)
            }
        }
    }
}

/// A CRC over reflected bits (CRC-16/ARC, CRC-32).
fn reflected(data: &[u8], polynomial: u32, start: u32) -> u32 {
    data.iter().fold(start, |crc, b| {
        (0..8).fold(crc ^ u32::from(*b), |c, _| c >> 1 ^ (polynomial * (c & 1)))
    })
}

impl Calculation {
    /// Computes it.
    pub(crate) fn run(&self, phv: &Phv, world: &dyn World) -> BigUint {
        let mut out = Writer::default();
        for input in &self.input {
            match input {
                Input::Value(expr, width) => out.write(&expr.bits(*width, phv, world), *width),
                Input::Variable(v) => out.write_bytes(phv.octets(*v)),
                Input::Header(h) => {
                    if let Some(h) = h.find(phv, world) {
                        emit(world.headers(), phv, h, &mut out);
                    }
                }
                Input::Payload => out.write_bytes(&phv.payload),
            }
        }
        self.algorithm.run(&out.finish()).into()
    }
}

/// Writes a header if it is valid.
pub(crate) fn emit(headers: &[Header], phv: &Phv, header: usize, out: &mut Writer) {
    let Some(header) = headers.get(header).filter(|_| phv.is_valid(header)) else {
        return;
    };
    for field in &header.fields {
        match field.variable {
            Some(v) => out.write_bytes(phv.octets(v)),
            None => out.write(&phv.get(field.slot), field.width),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
