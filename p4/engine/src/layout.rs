//! The place of headers and metadata in a packet's arena, and their form on the wire.
//!
//! The arena is one run of 64-bit words. A header is its validity (one word, 0 or 1) and
//! its fields in order, so that a copy of a header is one copy of words. A field takes
//! `ceil(width / 64)` words, most significant first, and is always cut to its width. A
//! variable-length field is its length in bits and its octets, left-aligned.

use crate::word::{mask64, top_bits, words_of};

/// A field of a header.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    /// Its name, for traces.
    pub(crate) name: String,
    /// Its first word.
    pub(crate) slot: u32,
    /// Its bits; of a variable one, the most.
    pub(crate) width: u32,
    /// Whether its length varies.
    pub(crate) variable: bool,
}

impl Field {
    /// Words that it takes.
    pub(crate) fn words(&self) -> u32 {
        words_of(self.width) + u32::from(self.variable)
    }
}

/// A header or a metadata struct.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    /// Its name, for traces.
    pub(crate) name: String,
    /// The word of its validity; its fields follow.
    pub(crate) slot: u32,
    /// Words that it takes, the one of its validity included.
    pub(crate) words: u32,
    /// Its fields in order.
    pub(crate) fields: Box<[Field]>,
    /// Metadata is always valid and never emitted.
    pub(crate) metadata: bool,
    /// Validity words of the other members of its union; at most one is valid.
    pub(crate) rivals: Box<[u32]>,
    /// Bits on the wire without a variable field.
    pub(crate) fixed_bits: u32,
    /// The variable field: index.
    pub(crate) variable: Option<usize>,
    /// How it is read from the wire, where it has no variable field.
    pub(crate) loads: Box<[Load]>,
    /// How it is written.
    pub(crate) stores: Box<[Store]>,
    /// Pieces of what `stores` write.
    pub(crate) pieces: Box<[Piece]>,
}

/// One word read from the wire: the 8 octets at `octet`, shifted and masked; with bits of a ninth octet if it reaches
/// that far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) octet: u32,
    pub(crate) slot: u32,
    pub(crate) shift: u8,
    /// Bits in the ninth octet.
    pub(crate) spill: u8,
    pub(crate) mask: u64,
}

/// Up to 8 octets written: the sum of some pieces, left-aligned.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Store {
    /// Octets.
    pub(crate) octets: u32,
    /// Its pieces, as a range.
    pub(crate) from: u32,
    pub(crate) to: u32,
}

/// The place of a word of the arena in a word on the wire: shifted left, or right if negative.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    pub(crate) slot: u32,
    pub(crate) shift: i8,
}

impl Header {
    /// Plans how it is read and written.
    pub(crate) fn plan(&mut self) {
        self.variable = self.fields.iter().position(|f| f.variable);
        let fixed = self.fields.iter().filter(|f| !f.variable);
        self.fixed_bits = fixed.fold(0, |bits, f| bits.saturating_add(f.width));
        if self.variable.is_some() {
            return;
        }
        let mut loads = Vec::new();
        let mut words = Vec::new();
        let mut bit = 0u32;
        for field in &self.fields {
            let mut left = field.width;
            for word in 0..words_of(field.width) {
                let bits = top_bits(left);
                loads.push(load(bit, bits, field.slot + word));
                words.push((field.slot + word, bits));
                bit += bits;
                left -= bits;
            }
        }
        self.loads = loads.into();
        (self.stores, self.pieces) = stores(&words);
    }
}

/// How words of the arena, with these numbers of bits, are written one after the other.
pub(crate) fn stores(words: &[(u32, u32)]) -> (Box<[Store]>, Box<[Piece]>) {
    let mut wire: Vec<Vec<Piece>> = Vec::new();
    let mut bit = 0u32;
    for (slot, bits) in words {
        pieces(&mut wire, bit, *bits, *slot);
        bit += bits;
    }
    let octets = bit.div_ceil(8);
    let mut all = Vec::new();
    let mut stores = Vec::new();
    for (i, pieces) in wire.into_iter().enumerate() {
        let from = all.len() as u32;
        all.extend(pieces);
        stores.push(Store {
            octets: (octets - 8 * i as u32).min(8),
            from,
            to: all.len() as u32,
        });
    }
    (stores.into(), all.into())
}

pub(crate) fn load(bit: u32, bits: u32, slot: u32) -> Load {
    let end = bit % 8 + bits;
    Load {
        octet: bit / 8,
        slot,
        shift: 64u32.saturating_sub(end) as u8,
        spill: end.saturating_sub(64) as u8,
        mask: mask64(bits),
    }
}

fn pieces(words: &mut Vec<Vec<Piece>>, bit: u32, bits: u32, slot: u32) {
    let (word, end) = ((bit / 64) as usize, bit % 64 + bits);
    let mut put = |word: usize, shift: i32| {
        words.resize_with(words.len().max(word + 1), Vec::new);
        words[word].push(Piece {
            slot,
            shift: shift as i8,
        });
    };
    put(word, 64 - end as i32);
    if end > 64 {
        put(word + 1, 128 - end as i32);
    }
}

impl Load {
    /// Reads the word; octets behind the end of `data` are as if 0.
    #[inline(always)]
    pub(crate) fn read(&self, data: &[u8], at: usize) -> u64 {
        let at = at + self.octet as usize;
        let Some(octets) = data.get(at..at + 8) else { return 0 };
        let word = u64::from_be_bytes(octets.try_into().unwrap_or_default());
        if self.spill == 0 {
            word >> self.shift & self.mask
        } else {
            let next = data.get(at + 8).copied().unwrap_or(0);
            (word << self.spill | u64::from(next >> (8 - self.spill))) & self.mask
        }
    }
}

impl Store {
    /// The word on the wire, left-aligned.
    #[inline(always)]
    pub(crate) fn word(&self, pieces: &[Piece], words: &[u64]) -> u64 {
        let pieces = &pieces[self.from as usize..self.to as usize];
        pieces.iter().fold(0, |word, piece| word | piece.of(words))
    }
}

impl Piece {
    /// Its share of the word on the wire.
    #[inline(always)]
    fn of(&self, words: &[u64]) -> u64 {
        let word = words[self.slot as usize];
        if self.shift >= 0 {
            word << self.shift
        } else {
            word >> -i32::from(self.shift)
        }
    }
}
