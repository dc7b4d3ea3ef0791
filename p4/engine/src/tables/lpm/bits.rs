//! A key's field as a string of bits that is read from the front.

/// Bits from the front of a field; behind its end come zeros.
pub(super) trait Bits: Copy {
    /// The next 64.
    fn peek(&self) -> u64;
    /// Goes on by that many, at most 63.
    fn skip(&mut self, bits: u32);
}

/// A field of one word.
#[derive(Clone, Copy)]
pub(super) struct Short(u64);

impl Short {
    #[inline]
    pub(super) fn new(word: u64, width: u32) -> Self {
        Self(word << (64 - width.clamp(1, 64)))
    }
}

impl Bits for Short {
    #[inline]
    fn peek(&self) -> u64 {
        self.0
    }

    #[inline]
    fn skip(&mut self, bits: u32) {
        self.0 <<= bits;
    }
}

/// A field of two words.
#[derive(Clone, Copy)]
pub(super) struct Wide(u128);

impl Wide {
    #[inline]
    pub(super) fn new(high: u64, low: u64, width: u32) -> Self {
        let whole = u128::from(high) << 64 | u128::from(low);
        Self(whole << (128 - width.clamp(65, 128)))
    }
}

impl Bits for Wide {
    #[inline]
    fn peek(&self) -> u64 {
        (self.0 >> 64) as u64
    }

    #[inline]
    fn skip(&mut self, bits: u32) {
        self.0 <<= bits;
    }
}

/// A field of any length.
#[derive(Clone, Copy)]
pub(super) struct Long<'a> {
    words: &'a [u64],
    at: usize,
}

impl<'a> Long<'a> {
    #[inline]
    pub(super) fn new(words: &'a [u64], width: u32) -> Self {
        let at = (words.len() * 64).saturating_sub(width as usize);
        Self { words, at }
    }
}

impl Bits for Long<'_> {
    #[inline]
    fn peek(&self) -> u64 {
        let word = |i: usize| self.words.get(i).copied().unwrap_or(0);
        let (first, shift) = (self.at / 64, self.at % 64);
        match shift {
            0 => word(first),
            _ => word(first) << shift | word(first + 1) >> (64 - shift),
        }
    }

    #[inline]
    fn skip(&mut self, bits: u32) {
        self.at += bits as usize;
    }
}
