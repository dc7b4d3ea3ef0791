//! Machine words that expressions are computed in.

/// `u64` or `u128`, in two's complement.
pub(crate) trait Word: Copy + Eq + Ord + std::fmt::Debug + Default + 'static {
    /// Bits of it.
    const BITS: u32;
    /// The other of the two.
    type Other: Word<Other = Self>;

    fn from_u64(value: u64) -> Self;
    fn low(self) -> u64;
    /// From the other width: cut, or extended with zeros or with the sign.
    fn convert(value: Self::Other, signed: bool) -> Self;
    /// From 64-bit digits, least significant first; negative numbers in two's complement.
    fn from_digits(digits: impl Iterator<Item = u64>, negative: bool) -> Self;
    fn add(self, other: Self) -> Self;
    fn sub(self, other: Self) -> Self;
    fn mul(self, other: Self) -> Self;
    fn not(self) -> Self;
    fn and(self, other: Self) -> Self;
    fn or(self, other: Self) -> Self;
    fn xor(self, other: Self) -> Self;
    /// Shifted left; by all its bits or more it is 0.
    fn shl(self, by: u64) -> Self;
    fn shr(self, by: u64) -> Self;
    /// Shifted right, filled with the sign.
    fn sar(self, by: u64) -> Self;
    /// Quotient without sign; 0 where there is none.
    fn div(self, other: Self) -> Self;
    fn rem(self, other: Self) -> Self;
    fn div_signed(self, other: Self) -> Self;
    fn rem_signed(self, other: Self) -> Self;
    fn less_signed(self, other: Self) -> bool;
    /// The low `bits` bits set.
    fn mask(bits: u32) -> Self;
    /// The words at a slot, most significant first; as many as this type has.
    fn load(words: &[u64], slot: u32) -> Self;
}

macro_rules! word {
    ($word:ty, $signed:ty, $other:ty, $other_signed:ty, $load:expr) => {
        impl Word for $word {
            const BITS: u32 = <$word>::BITS;
            type Other = $other;

            #[inline(always)]
            fn from_u64(value: u64) -> Self {
                value as Self
            }
            #[inline(always)]
            fn low(self) -> u64 {
                self as u64
            }
            #[inline(always)]
            fn convert(value: $other, signed: bool) -> Self {
                if signed {
                    value as $other_signed as Self
                } else {
                    value as Self
                }
            }
            fn from_digits(digits: impl Iterator<Item = u64>, negative: bool) -> Self {
                let mut value: $word = 0;
                for (i, digit) in digits.take((Self::BITS / 64) as usize).enumerate() {
                    value |= (digit as $word) << (64 * i as u32);
                }
                if negative { value.wrapping_neg() } else { value }
            }
            #[inline(always)]
            fn add(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
            #[inline(always)]
            fn sub(self, other: Self) -> Self {
                self.wrapping_sub(other)
            }
            #[inline(always)]
            fn mul(self, other: Self) -> Self {
                self.wrapping_mul(other)
            }
            #[inline(always)]
            fn not(self) -> Self {
                !self
            }
            #[inline(always)]
            fn and(self, other: Self) -> Self {
                self & other
            }
            #[inline(always)]
            fn or(self, other: Self) -> Self {
                self | other
            }
            #[inline(always)]
            fn xor(self, other: Self) -> Self {
                self ^ other
            }
            #[inline(always)]
            fn shl(self, by: u64) -> Self {
                if by < u64::from(Self::BITS) { self << by } else { 0 }
            }
            #[inline(always)]
            fn shr(self, by: u64) -> Self {
                if by < u64::from(Self::BITS) { self >> by } else { 0 }
            }
            #[inline(always)]
            fn sar(self, by: u64) -> Self {
                (self as $signed >> by.min(u64::from(Self::BITS - 1))) as Self
            }
            fn div(self, other: Self) -> Self {
                self.checked_div(other).unwrap_or(0)
            }
            fn rem(self, other: Self) -> Self {
                self.checked_rem(other).unwrap_or(0)
            }
            fn div_signed(self, other: Self) -> Self {
                if other == 0 {
                    0
                } else {
                    (self as $signed).wrapping_div(other as $signed) as Self
                }
            }
            fn rem_signed(self, other: Self) -> Self {
                if other == 0 {
                    0
                } else {
                    (self as $signed).wrapping_rem(other as $signed) as Self
                }
            }
            #[inline(always)]
            fn less_signed(self, other: Self) -> bool {
                (self as $signed) < (other as $signed)
            }
            #[inline(always)]
            fn mask(bits: u32) -> Self {
                if bits >= Self::BITS {
                    Self::MAX
                } else {
                    (1 << bits) - 1
                }
            }
            #[inline(always)]
            fn load(words: &[u64], slot: u32) -> Self {
                $load(words, slot as usize)
            }
        }
    };
}

word!(u64, i64, u128, i128, |words: &[u64], slot: usize| words[slot]);
word!(u128, i128, u64, i64, |words: &[u64], slot: usize| u128::from(
    words[slot]
) << 64
    | u128::from(words[slot + 1]));

/// Words that this many bits take.
pub(crate) fn words_of(width: u32) -> u32 {
    width.div_ceil(64)
}

/// The low `width` bits of a word set.
#[inline(always)]
pub(crate) fn mask64(width: u32) -> u64 {
    <u64 as Word>::mask(width)
}

/// Bits that the most significant word of a field of that width uses.
pub(crate) fn top_bits(width: u32) -> u32 {
    match width % 64 {
        0 if width > 0 => 64,
        rest => rest,
    }
}
