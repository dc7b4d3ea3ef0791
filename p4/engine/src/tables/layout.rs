//! How the key of a table is laid out in 64-bit words, and how the keys of entries are written into them.

/// How a field of a key matches (P4Runtime specification, section 9.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FieldKind {
    /// One value.
    Exact,
    /// Leading bits.
    Lpm,
    /// Bits under a mask.
    Ternary,
    /// Between two bounds, both included.
    Range,
    /// One value or any.
    Optional,
}

/// One field of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyField {
    /// How it matches.
    pub kind: FieldKind,
    /// Width in bits.
    pub width: u32,
}

/// What one field of an entry's key matches; values are big-endian and of any length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldMatch<'a> {
    /// This value.
    Exact(&'a [u8]),
    /// The leading bits of this value, that many.
    Lpm(&'a [u8], u32),
    /// This value under this mask.
    Ternary(&'a [u8], &'a [u8]),
    /// From and to, both included.
    Range(&'a [u8], &'a [u8]),
    /// Anything.
    Any,
}

/// A field and where its words lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldPlace {
    /// The field.
    pub field: KeyField,
    /// Its first word.
    pub at: usize,
    /// Its words.
    pub words: usize,
}

impl FieldPlace {
    /// The bits of its word `i` that the width leaves in use.
    pub fn used(&self, i: usize) -> u64 {
        let above = (self.words * 64).saturating_sub(self.field.width as usize);
        if i == 0 && above > 0 {
            u64::MAX.checked_shr(above as u32).unwrap_or(0)
        } else {
            u64::MAX
        }
    }
}

/// The words of a key.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyLayout {
    places: Box<[FieldPlace]>,
    words: usize,
}

impl KeyLayout {
    /// The layout of these fields.
    pub fn new(fields: impl IntoIterator<Item = KeyField>) -> Self {
        let mut at = 0;
        let place = |field: KeyField| {
            let words = (field.width as usize).div_ceil(64);
            at += words;
            FieldPlace {
                field,
                at: at - words,
                words,
            }
        };
        let places = fields.into_iter().map(place).collect();
        Self { places, words: at }
    }

    /// Words of a look-up key; a pattern has twice as many.
    pub fn words(&self) -> usize {
        self.words
    }

    /// The fields in order.
    pub fn places(&self) -> &[FieldPlace] {
        &self.places
    }

    /// Whether it has fields of this kind.
    pub fn has(&self, kind: FieldKind) -> bool {
        self.places.iter().any(|p| p.field.kind == kind)
    }

    /// Appends an entry's pattern to `out`: its values (of a range, the low bounds), then its masks (the high bounds).
    /// The pattern is canonical: no bits beyond a field's width, and none set outside the mask. Fields after the end of
    /// `matches` match anything.
    pub fn pattern<'a>(&self, matches: impl IntoIterator<Item = FieldMatch<'a>>, out: &mut Vec<u64>) {
        let start = out.len();
        out.resize(start + 2 * self.words, 0);
        let Some((values, masks)) = out.get_mut(start..).map(|o| o.split_at_mut(self.words)) else {
            return;
        };
        let mut matches = matches.into_iter();
        for place in &self.places {
            let range = place.at..place.at + place.words;
            let (Some(value), Some(mask)) = (values.get_mut(range.clone()), masks.get_mut(range)) else {
                continue;
            };
            let all = |out: &mut [u64]| out.iter_mut().enumerate().for_each(|(i, w)| *w = place.used(i));
            match matches.next().unwrap_or(FieldMatch::Any) {
                FieldMatch::Exact(bytes) => {
                    words(bytes, value);
                    match place.field.kind {
                        FieldKind::Range => mask.copy_from_slice(value),
                        _ => all(mask),
                    }
                }
                FieldMatch::Lpm(bytes, prefix) => {
                    words(bytes, value);
                    prefix_mask(place.field.width, prefix, mask);
                }
                FieldMatch::Ternary(bytes, bits) => {
                    words(bytes, value);
                    words(bits, mask);
                }
                FieldMatch::Range(low, high) => {
                    words(low, value);
                    words(high, mask);
                }
                FieldMatch::Any if place.field.kind == FieldKind::Range => all(mask),
                FieldMatch::Any => {}
            }
        }
        self.canonicalize(values, masks);
    }

    /// Clears the bits of a pattern that mean nothing.
    fn canonicalize(&self, values: &mut [u64], masks: &mut [u64]) {
        for place in &self.places {
            let pair = values.iter_mut().zip(masks.iter_mut());
            for (i, (value, mask)) in pair.skip(place.at).take(place.words).enumerate() {
                *mask &= place.used(i);
                *value &= if place.field.kind == FieldKind::Range {
                    place.used(i)
                } else {
                    *mask
                };
            }
        }
    }
}

/// Writes big-endian bytes into words, most significant first; the last byte is the lowest. What does not fit is cut.
pub fn words(bytes: &[u8], out: &mut [u64]) {
    let mut chunks = bytes.rchunks(8);
    for word in out.iter_mut().rev() {
        let chunk = chunks.next().unwrap_or_default();
        *word = match <[u8; 8]>::try_from(chunk) {
            Ok(whole) => u64::from_be_bytes(whole),
            Err(_) => chunk.iter().fold(0, |w, b| w << 8 | u64::from(*b)),
        };
    }
}

/// Writes the mask of the leading `prefix` of `width` bits into words.
pub fn prefix_mask(width: u32, prefix: u32, out: &mut [u64]) {
    let above = (out.len() as u32 * 64).saturating_sub(width);
    let end = above + prefix.min(width);
    for (i, word) in out.iter_mut().enumerate() {
        let from = (i as u32) * 64;
        // Bits of this word before `end`, less those before the field.
        let ones = |until: u32| match until.saturating_sub(from).min(64) {
            0 => 0,
            n => u64::MAX << (64 - n),
        };
        *word = ones(end) & !ones(above);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_lie_at_the_top_of_the_field() {
        let mask = |width, prefix, words| {
            let mut out = vec![0; words];
            prefix_mask(width, prefix, &mut out);
            out
        };
        assert_eq!(mask(32, 24, 1), [0xffff_ff00]);
        assert_eq!(mask(32, 0, 1), [0]);
        assert_eq!(mask(64, 64, 1), [u64::MAX]);
        assert_eq!(mask(70, 6, 2), [0x3f, 0]);
        assert_eq!(mask(70, 7, 2), [0x3f, 1 << 63]);
        assert_eq!(mask(128, 128, 2), [u64::MAX, u64::MAX]);
    }

    #[test]
    fn patterns_are_canonical() {
        let field = |kind, width| KeyField { kind, width };
        let layout = KeyLayout::new([
            field(FieldKind::Exact, 9),
            field(FieldKind::Ternary, 72),
            field(FieldKind::Range, 16),
            field(FieldKind::Optional, 8),
        ]);
        assert_eq!(layout.words(), 5);
        let mut out = Vec::new();
        let ternary = FieldMatch::Ternary(&[0xff, 0, 0, 0, 0, 0, 0, 0, 0xff], &[0x0f, 0, 0, 0, 0, 0, 0, 0, 0]);
        let exact = FieldMatch::Exact(&[0xff, 0xff]);
        layout.pattern([exact, ternary, FieldMatch::Any, FieldMatch::Any], &mut out);
        assert_eq!(out, [0x1ff, 0x0f, 0, 0, 0, 0x1ff, 0x0f, 0, 0xffff, 0]);
    }
}
