//! Ternary, range and optional match: tuple space search with merged tuples.
//!
//! Entries whose masks are alike share a *tuple*: a hash index over the bits that the tuple's mask keeps (Srinivasan,
//! Suri and Varghese, 1999). A look-up probes tuples by their best priority, and stops as soon as none can do better
//! than what was found.
//!
//! - **Ranges** count with the bits that both bounds share from the top as mask; the bounds are compared afterwards.
//!   Ranges under one hash thus all contain one point (as in a centred interval tree), whatever their number elsewhere.
//! - **Many masks**: the first [`OWN_TUPLES`] masks get a tuple of their own. Further ones go into the tuple with the
//!   most bits among those whose bits they all have, or a new one with only whole bytes of theirs, and are compared as
//!   a whole afterwards (after *TupleMerge*, Daly et al., 2019). Where more than [`CROWD`] entries meet under one hash,
//!   the next of that mask go into a tuple with more bits; at the end of that road is one of the mask's own.
//! - Entries under one hash form a list by priority, so the first that matches is the one.
//!
//! Of entries with the same priority that match one packet any may win, as the specification leaves it.

mod entry;
mod tuple;

use rustc_hash::FxHashMap;

use super::index::NO_SLOT;
use super::layout::{FieldKind, FieldPlace, KeyLayout};
use super::records::Records;
use entry::Extra;
use tuple::Tuple;

/// Masks that get a tuple without asking: so many probes cost less than comparing afterwards does.
pub const OWN_TUPLES: usize = 24;

/// Entries that may meet under one hash in a merged tuple. Passing them costs a record each, a further tuple a probe.
pub const CROWD: usize = 6;

/// Words that an entry keeps in its record besides its pattern.
pub use entry::HEADER as EXTRA_WORDS;

/// What a table's structure needs to compare keys with patterns.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    words: usize,
    /// Words that are compared under a mask, all but those of ranges.
    masked: Box<[usize]>,
    ranges: Box<[FieldPlace]>,
    /// By word, the bits that the fields use.
    used: Box<[u64]>,
}

impl Shape {
    fn new(layout: &KeyLayout) -> Self {
        let of = |range: bool| {
            let kind = move |p: &&FieldPlace| (p.field.kind == FieldKind::Range) == range;
            layout.places().iter().filter(kind).copied()
        };
        Self {
            words: layout.words(),
            masked: of(false).flat_map(|p| p.at..p.at + p.words).collect(),
            ranges: of(true).collect(),
            used: layout
                .places()
                .iter()
                .flat_map(|p| (0..p.words).map(|i| p.used(i)))
                .collect(),
        }
    }

    /// Whether a key matches an entry's pattern.
    #[inline]
    fn matches(&self, key: &[u64], pattern: &[u64]) -> bool {
        let Some((values, masks)) = pattern.split_at_checked(self.words) else {
            return false;
        };
        if self.ranges.is_empty() {
            let differing = key
                .iter()
                .zip(values)
                .zip(masks)
                .fold(0, |d, ((k, v), m)| d | (k ^ v) & m);
            return differing == 0;
        }
        let word = |words: &[u64], i: usize| words.get(i).copied().unwrap_or(0);
        let differing = self
            .masked
            .iter()
            .fold(0, |d, i| d | (word(key, *i) ^ word(values, *i)) & word(masks, *i));
        differing == 0
            && self.ranges.iter().all(|r| {
                let field = r.at..r.at + r.words;
                let (key, low, high) = (
                    key.get(field.clone()),
                    values.get(field.clone()),
                    masks.get(field.clone()),
                );
                key >= low && key <= high
            })
    }

    /// The bits that a pattern is sure of: its masks, and of ranges what both bounds share from the top.
    fn mask(&self, pattern: &[u64]) -> Box<[u64]> {
        let (values, masks) = pattern.split_at_checked(self.words).unwrap_or_default();
        let mut mask: Box<[u64]> = masks.into();
        for range in &self.ranges {
            let mut shared = true;
            for i in range.at..range.at + range.words {
                let (Some(low), Some(high), Some(mask)) = (values.get(i), masks.get(i), mask.get_mut(i)) else {
                    continue;
                };
                let differing = low ^ high;
                *mask = match (shared, differing) {
                    (false, _) => 0,
                    (true, 0) => u64::MAX,
                    (true, _) => !(u64::MAX >> differing.leading_zeros()),
                };
                shared &= differing == 0;
            }
        }
        mask.iter_mut().zip(&self.used).for_each(|(m, used)| *m &= used);
        mask
    }

    /// A mask with only its whole bytes; a word of which all used bits are set counts as whole.
    fn coarse(&self, mask: &[u64]) -> Box<[u64]> {
        let bytes = |m: u64| {
            let whole = m.to_ne_bytes().map(|b| if b == 0xff { b } else { 0 });
            u64::from_ne_bytes(whole)
        };
        let coarse = |(m, used): (&u64, &u64)| if m == used { *m } else { bytes(*m) };
        mask.iter().zip(&self.used).map(coarse).collect()
    }
}

/// Entries by tuple.
#[derive(Debug, Clone)]
pub struct Ternary {
    shape: Shape,
    /// Tuples; those that are empty are used again.
    tuples: Vec<Tuple>,
    /// Tuples in use, by falling best priority.
    order: Vec<(i32, u32)>,
    /// By mask, the tuple that its next entry goes to.
    homes: FxHashMap<Box<[u64]>, Home>,
}

/// Where entries of one mask go.
#[derive(Debug, Clone, Copy)]
struct Home {
    tuple: u32,
    entries: u32,
}

impl Ternary {
    /// An empty structure for this layout.
    pub fn new(layout: &KeyLayout) -> Self {
        Self {
            shape: Shape::new(layout),
            tuples: Vec::new(),
            order: Vec::new(),
            homes: FxHashMap::default(),
        }
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        let home = size_of::<(Box<[u64]>, Home)>() + 8 * self.shape.words;
        self.tuples.iter().map(Tuple::bytes).sum::<usize>() + self.order.capacity() * 8 + self.homes.capacity() * home
    }

    /// Tuples that a look-up may have to probe.
    pub fn tuples(&self) -> usize {
        self.order.len()
    }

    /// The slot of the entry with the highest priority that a key matches.
    #[inline]
    pub fn find(&self, records: &Records, key: &[u64]) -> Option<u32> {
        let mut best = i32::MIN;
        let mut found = NO_SLOT;
        for (reach, tuple) in &self.order {
            if found != NO_SLOT && *reach <= best {
                break;
            }
            let Some(tuple) = self.tuples.get(*tuple as usize) else {
                continue;
            };
            tuple.index.find(tuple.hash(key), |head| {
                let mut slot = head;
                while slot != NO_SLOT {
                    let extra = Extra(records.extra(slot));
                    let priority = extra.priority();
                    if found != NO_SLOT && priority <= best {
                        break;
                    }
                    if self.shape.matches(key, extra.pattern()) {
                        (best, found) = (priority, slot);
                        break;
                    }
                    slot = extra.next();
                }
                // Others may share the hash.
                false
            });
        }
        (found != NO_SLOT).then_some(found)
    }

    /// Puts an entry in, whose record is there already.
    pub fn insert(&mut self, records: &mut Records, pattern: &[u64], priority: i32, slot: u32) {
        let mask = self.shape.mask(pattern);
        let mut tuple = match self.homes.get(&mask).map(|home| home.tuple) {
            Some(tuple) if self.still_takes(tuple, &mask) => tuple,
            _ => self.first_home(&mask),
        };
        let home = self.homes.entry(mask.clone()).or_insert(Home { tuple, entries: 0 });
        home.tuple = tuple;
        home.entries += 1;
        while self.is_crowded(records, tuple, pattern, &mask) {
            tuple = self.next_home(&mask, tuple);
            if let Some(home) = self.homes.get_mut(&mask) {
                home.tuple = tuple;
            }
        }
        entry::write(records.extra_mut(slot), pattern, priority, tuple);
        if let Some(t) = self.tuples.get_mut(tuple as usize) {
            t.link(records, slot);
            self.reorder(tuple);
        }
    }

    /// Takes an entry out, whose record is still there; false if it was not in.
    pub fn remove(&mut self, records: &mut Records, slot: u32) -> bool {
        let extra = Extra(records.extra(slot));
        let tuple = extra.tuple();
        let mask = self.shape.mask(extra.pattern());
        let Some(t) = self.tuples.get_mut(tuple as usize) else {
            return false;
        };
        if !t.unlink(records, slot) {
            return false;
        }
        if let Some(home) = self.homes.get_mut(&mask) {
            home.entries -= 1;
            if home.entries == 0 {
                self.homes.remove(&mask);
            }
        }
        self.reorder(tuple);
        true
    }

    /// Whether a mask's home is still what it was: its tuple may have been emptied, and be another's by now, while
    /// entries of the mask are left in the tuples before it.
    fn still_takes(&self, tuple: u32, mask: &[u64]) -> bool {
        let tuple = self.tuples.get(tuple as usize);
        tuple.is_some_and(|t| !t.index.is_empty() && t.takes(mask))
    }

    /// The tuple for the first entry of a mask.
    fn first_home(&mut self, mask: &[u64]) -> u32 {
        if self.order.len() < OWN_TUPLES {
            return self.tuple(mask);
        }
        match self.finest(mask, 0) {
            Some(tuple) => tuple,
            None => self.tuple(&self.shape.coarse(mask)),
        }
    }

    /// A tuple for a mask with more bits than the one that is crowded.
    fn next_home(&mut self, mask: &[u64], crowded: u32) -> u32 {
        let bits = self.tuples.get(crowded as usize).map_or(0, |t| t.bits);
        if let Some(tuple) = self.finest(mask, bits + 1) {
            return tuple;
        }
        let coarse = self.shape.coarse(mask);
        if tuple::count(&coarse) > bits {
            self.tuple(&coarse)
        } else {
            self.tuple(mask)
        }
    }

    /// The tuple with most bits, and at least so many, that takes entries of a mask.
    fn finest(&self, mask: &[u64], bits: u32) -> Option<u32> {
        let all = self
            .order
            .iter()
            .filter_map(|(_, i)| Some((*i, self.tuples.get(*i as usize)?)));
        all.filter(|(_, t)| t.bits >= bits && t.takes(mask))
            .max_by_key(|(_, t)| t.bits)
            .map(|(i, _)| i)
    }

    /// Whether a merged tuple has enough entries under a pattern's hash.
    fn is_crowded(&self, records: &Records, tuple: u32, pattern: &[u64], mask: &[u64]) -> bool {
        let Some(t) = self.tuples.get(tuple as usize) else {
            return false;
        };
        if t.bits == tuple::count(mask) {
            return false;
        }
        let mut slot = t.head(records, pattern).unwrap_or(NO_SLOT);
        for _ in 0..CROWD {
            if slot == NO_SLOT {
                return false;
            }
            slot = Extra(records.extra(slot)).next();
        }
        true
    }

    /// The tuple of a mask, in use or new.
    fn tuple(&mut self, mask: &[u64]) -> u32 {
        let mut unused = None;
        for (i, tuple) in self.tuples.iter().enumerate() {
            if tuple.index.is_empty() {
                unused = Some(i);
            } else if *tuple.mask == *mask {
                return i as u32;
            }
        }
        let new = Tuple::new(mask);
        match unused.and_then(|i| Some((i, self.tuples.get_mut(i)?))) {
            Some((i, place)) => {
                *place = new;
                i as u32
            }
            None => {
                self.tuples.push(new);
                (self.tuples.len() - 1) as u32
            }
        }
    }

    /// Puts a tuple where its best priority belongs; takes it out if it is empty.
    fn reorder(&mut self, tuple: u32) {
        let Some(t) = self.tuples.get(tuple as usize) else {
            return;
        };
        let now = (!t.index.is_empty()).then_some(t.best);
        let before = self.order.iter().position(|(_, i)| *i == tuple);
        if before.and_then(|at| self.order.get(at)).map(|(best, _)| *best) == now {
            return;
        }
        if let Some(at) = before {
            self.order.remove(at);
        }
        if let Some(best) = now {
            let at = self.order.partition_point(|(b, _)| *b >= best);
            self.order.insert(at, (best, tuple));
        }
    }
}
