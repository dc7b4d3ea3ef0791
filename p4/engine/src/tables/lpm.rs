//! Longest prefix match: a multibit trie whose nodes are bitmaps.
//!
//! A node stands for six bits of the key (after *tree bitmap*, Eatherton, Varghese and Dittia, 2004). One bitmap has a
//! bit for each of the 63 prefixes that end in them, a second one a bit for each of the 64 children; the children of a
//! node lie side by side, and so do the slots of its prefixes, so that counting bits gives a place in them. A node with one
//! prefix, as most are, has its slot in itself: no memory besides is fetched, taken or given back for it. A look-up notes where
//! the slot of the longest prefix lies that it passes and fetches it at the end.
//!
//! A path along which nothing branches or ends is compressed: a node keeps up to nine chunks of six bits that are
//! compared before its own. Nodes are 32 bytes; 1M routes need about one each, however long their prefixes are.
//!
//! A table that also has exact fields has one trie for each combination of their values, found by hash.

mod bits;
mod pool;
mod trie;

use super::index::{Index, Seed};
use super::layout::{FieldKind, FieldPlace, KeyLayout};
use bits::{Bits, Long, Short, Wide};
use pool::Pool;
use trie::{Trie, Walk};

/// Prefixes whose nodes are fetched together. A processor has about this many cache misses under way at a time.
pub const ABREAST: usize = 16;

/// Prefixes of a table, by exact fields and prefix.
#[derive(Debug, Clone)]
pub struct Lpm {
    trie: Trie,
    /// The LPM field.
    place: FieldPlace,
    /// Words of a key before and after it.
    exact: Option<Box<Exact>>,
    /// Root where there are no exact fields.
    root: Option<u32>,
}

/// The bits of a field in the form that suits its length.
macro_rules! bits {
    ($field:expr, $width:expr, $key:ident => $then:expr) => {
        match $field {
            [word] => {
                let $key = Short::new(*word, $width);
                $then
            }
            [high, low] => {
                let $key = Wide::new(*high, *low, $width);
                $then
            }
            words => {
                let $key = Long::new(words, $width);
                $then
            }
        }
    };
}

/// Roots by the values of the exact fields.
#[derive(Debug, Clone)]
struct Exact {
    seed: Seed,
    index: Index,
    /// Values of the exact fields, `words` for each root number.
    keys: Vec<u64>,
    words: usize,
    /// Root node by root number.
    roots: Vec<u32>,
    free: Vec<u32>,
}

impl Lpm {
    /// An empty structure for this layout; none if it has no LPM field.
    pub fn new(layout: &KeyLayout) -> Option<Self> {
        let place = *layout.places().iter().find(|p| p.field.kind == FieldKind::Lpm)?;
        let words = layout.words() - place.words;
        let exact = (words > 0).then(|| {
            Box::new(Exact {
                seed: Seed::random(),
                index: Index::default(),
                keys: Vec::new(),
                words,
                roots: Vec::new(),
                free: Vec::new(),
            })
        });
        Some(Self {
            trie: Trie::default(),
            place,
            exact,
            root: None,
        })
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        let exact = self.exact.as_ref().map_or(0, |e| {
            e.index.bytes() + e.keys.capacity() * 8 + (e.roots.capacity() + e.free.capacity()) * 4
        });
        self.trie.bytes() + exact
    }

    /// The words of the exact fields of a key.
    #[inline]
    fn exact_words<'a>(&self, key: &'a [u64]) -> impl Iterator<Item = &'a u64> + Clone {
        let before = key.get(..self.place.at).unwrap_or_default();
        let after = key.get(self.place.at + self.place.words..).unwrap_or_default();
        before.iter().chain(after)
    }

    #[inline]
    fn root(&self, key: &[u64]) -> Option<u32> {
        let Some(exact) = &self.exact else { return self.root };
        let words = self.exact_words(key);
        let number = exact.find(exact.hash(words.clone()), words)?;
        exact.roots.get(number as usize).copied()
    }

    /// The slot of the longest prefix that a key matches.
    #[inline]
    pub fn find(&self, key: &[u64]) -> Option<u32> {
        let root = self.root(key)?;
        let field = key.get(self.place.at..self.place.at + self.place.words)?;
        let width = self.place.field.width;
        bits!(field, width, key => self.trie.find(root, key))
    }

    /// Puts a prefix in: `values` and `masks` of a pattern. A slot that was under it before is given back.
    pub fn insert(&mut self, values: &[u64], masks: &[u64], slot: u32) -> Option<u32> {
        let root = match self.root(values) {
            Some(root) => root,
            None => self.plant(values),
        };
        let (field, length) = self.prefix(values, masks)?;
        let width = self.place.field.width;
        bits!(field, width, key => self.trie.insert(root, key, length, slot))
    }

    /// Brings the nodes of up to [`ABREAST`] prefixes into the cache; patterns as [`KeyLayout::pattern`] makes them.
    pub fn fetch<'a>(&self, patterns: impl Iterator<Item = &'a [u64]>) {
        let width = self.place.field.width;
        match self.place.words {
            1 => self.fetch_as(patterns, |field| Some(Short::new(*field.first()?, width))),
            2 => self.fetch_as(patterns, |field| match field {
                [high, low] => Some(Wide::new(*high, *low, width)),
                _ => None,
            }),
            _ => self.fetch_as(patterns, |field| Some(Long::new(field, width))),
        }
    }

    fn fetch_as<'a, B: Bits>(&self, patterns: impl Iterator<Item = &'a [u64]>, bits: impl Fn(&'a [u64]) -> Option<B>) {
        let start = |pattern: &'a [u64]| {
            let (values, masks) = pattern.split_at(pattern.len() / 2);
            let (field, length) = self.prefix(values, masks)?;
            Some(Walk {
                at: self.root(values)?,
                key: bits(field)?,
                length,
            })
        };
        let mut walks = [None; ABREAST];
        walks
            .iter_mut()
            .zip(patterns)
            .for_each(|(walk, pattern)| *walk = start(pattern));
        self.trie.fetch(&mut walks);
    }

    /// The LPM field of a pattern, and the length of its prefix.
    fn prefix<'a>(&self, values: &'a [u64], masks: &[u64]) -> Option<(&'a [u64], u32)> {
        let range = self.place.at..self.place.at + self.place.words;
        let length = masks.get(range.clone())?.iter().map(|m| m.count_ones()).sum();
        Some((values.get(range)?, length))
    }

    /// Takes a prefix out, if it leads to this slot.
    pub fn remove(&mut self, values: &[u64], masks: &[u64], slot: u32) -> bool {
        let (Some(root), Some((field, length))) = (self.root(values), self.prefix(values, masks)) else {
            return false;
        };
        let width = self.place.field.width;
        if !bits!(field, width, key => self.trie.remove(root, key, length, slot)) {
            return false;
        }
        if self.trie.is_bare(root) {
            self.fell(values, root);
        }
        true
    }

    /// A root for these exact values.
    fn plant(&mut self, key: &[u64]) -> u32 {
        let root = self.trie.plant();
        let words: Vec<u64> = self.exact_words(key).copied().collect();
        match &mut self.exact {
            None => self.root = Some(root),
            Some(exact) => exact.add(&words, root),
        }
        root
    }

    /// Removes a root under which there is nothing.
    fn fell(&mut self, key: &[u64], root: u32) {
        self.trie.fell(root);
        let words: Vec<u64> = self.exact_words(key).copied().collect();
        match &mut self.exact {
            None => self.root = None,
            Some(exact) => exact.forget(&words),
        }
    }
}

impl Exact {
    #[inline]
    fn hash<'a>(&self, words: impl Iterator<Item = &'a u64>) -> u32 {
        self.seed
            .finish(words.fold(self.seed.start(), |h, w| self.seed.add(h, *w)))
    }

    #[inline]
    fn find<'a>(&self, hash: u32, words: impl Iterator<Item = &'a u64> + Clone) -> Option<u32> {
        self.index.find(hash, |number| {
            let start = number as usize * self.words;
            let key = self.keys.get(start..start + self.words).unwrap_or_default();
            key.iter().eq(words.clone())
        })
    }

    fn add(&mut self, words: &[u64], root: u32) {
        let number = self.free.pop().unwrap_or(self.roots.len() as u32);
        let start = number as usize * self.words;
        if number as usize == self.roots.len() {
            self.roots.push(root);
            self.keys.extend_from_slice(words);
        } else if let (Some(place), Some(key)) = (
            self.roots.get_mut(number as usize),
            self.keys.get_mut(start..start + self.words),
        ) {
            *place = root;
            key.copy_from_slice(words);
        }
        self.index.insert(self.hash(words.iter()), number);
    }

    fn forget(&mut self, words: &[u64]) {
        let hash = self.hash(words.iter());
        if let Some(number) = self.find(hash, words.iter()) {
            self.index.remove(hash, number);
            self.free.push(number);
        }
    }
}
