//! Numbers of a fixed width, as match fields and action parameters have them.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// An unsigned number of `W` bits, 1 to 128. Every value of this type fits its width.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bits<const W: u32>(u128);

impl<const W: u32> Bits<W> {
    /// The greatest number of this width.
    pub const MAX: u128 = if W >= 128 { u128::MAX } else { (1 << W) - 1 };

    /// The number, or `None` if it needs more than `W` bits.
    pub const fn new(value: u128) -> Option<Self> {
        if value <= Self::MAX { Some(Self(value)) } else { None }
    }

    /// The lowest `W` bits of a number: for values that their own type already bounds, such
    /// as a VNI in 24 bits.
    pub const fn masked(value: u128) -> Self {
        debug_assert!(value <= Self::MAX);
        Self(value & Self::MAX)
    }

    /// The number.
    pub const fn get(self) -> u128 {
        self.0
    }

    /// Big-endian, with leading zeros.
    pub const fn bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl<const W: u32> fmt::Display for Bits<W> {
    /// The format depends on the width: 48 bits as a MAC address, 32 as an IPv4 address, 128 as an IPv6 address
    /// (IPv4-mapped ones as IPv4), all others as a decimal number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match W {
            32 => Ipv4Addr::from_bits(self.0 as u32).fmt(f),
            48 => {
                let [.., a, b, c, d, e, g] = self.bytes();
                write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
            }
            128 => match Ipv6Addr::from_bits(self.0).to_ipv4_mapped() {
                Some(v4) => v4.fmt(f),
                None => Ipv6Addr::from_bits(self.0).fmt(f),
            },
            _ => self.0.fmt(f),
        }
    }
}

impl<const W: u32> fmt::Debug for Bits<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! exact_width {
    ($($number:ty => $width:literal),*) => {$(
        impl From<$number> for Bits<$width> {
            fn from(value: $number) -> Self {
                Self(value.into())
            }
        }
    )*};
}
exact_width!(bool => 1, u8 => 8, u16 => 16, u32 => 32, u64 => 64, u128 => 128);

impl From<[u8; 6]> for Bits<48> {
    fn from(mac: [u8; 6]) -> Self {
        Self(mac.iter().fold(0, |v, b| (v << 8) | u128::from(*b)))
    }
}

impl From<Ipv4Addr> for Bits<32> {
    fn from(address: Ipv4Addr) -> Self {
        Self(address.to_bits().into())
    }
}

impl From<Ipv6Addr> for Bits<128> {
    fn from(address: Ipv6Addr) -> Self {
        Self(address.to_bits())
    }
}

impl From<Ipv4Addr> for Bits<128> {
    /// As an IPv4-mapped address (RFC 4291 section 2.5.5.2).
    fn from(address: Ipv4Addr) -> Self {
        address.to_ipv6_mapped().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_fits_exists() {
        assert_eq!(Bits::<9>::new(511).map(Bits::get), Some(511));
        assert_eq!(Bits::<9>::new(512), None);
        assert_eq!(Bits::<128>::new(u128::MAX).map(Bits::get), Some(u128::MAX));
    }

    #[test]
    fn addresses_are_shown_as_such() {
        assert_eq!(Bits::<32>::from(Ipv4Addr::new(10, 0, 0, 1)).to_string(), "10.0.0.1");
        assert_eq!(Bits::<48>::from([2, 0, 0, 0, 0, 255]).to_string(), "02:00:00:00:00:ff");
        assert_eq!(Bits::<128>::from(Ipv4Addr::new(10, 0, 0, 1)).to_string(), "10.0.0.1");
        assert_eq!(Bits::<128>::from(Ipv6Addr::LOCALHOST).to_string(), "::1");
        assert_eq!(Bits::<12>::masked(7).to_string(), "7");
    }
}
