//! Ternary, range and optional match: tuple space search with merged tuples.
//!
//! Entries whose masks are alike share a *tuple*: a hash index over the bits that the tuple's mask keeps (Srinivasan,
//! Suri and Varghese, 1999). A look-up probes tuples by their best priority, and stops as soon as none can do better
//! than what was found.
//!
//! - A **range** has as its mask the leading bits that both of its bounds share; the bounds are compared afterwards. So
//!   all ranges under one hash contain a common point (as in a centred interval tree), and ranges under other hashes
//!   are not compared.
//! - **Many masks**: the first [`OWN_TUPLES`] masks get a tuple of their own. A further mask goes into an existing tuple
//!   whose bits it all has; of several such tuples, the one with the most bits. If there is none, a new tuple keeps only
//!   the whole bytes of the mask. Entries in such a merged tuple are compared in full after the probe (after
//!   *TupleMerge*, Daly et al., 2019). If more than [`CROWD`] entries have one hash, further entries of that mask go into
//!   a tuple with more bits, and finally into a tuple for this mask alone.
//! - Entries under one hash form a list by priority, so the first match wins.
//! - Keys and patterns are **packed**: fields of few bits share words, so that there is less to hash, to compare and to
//!   keep. A look-up packs its key once.
//!
//! If entries with the same priority match a packet, any of them may win; the specification leaves that open.

mod entry;
mod tuple;

use foldhash::HashMap;

use super::index::NO_SLOT;
use super::layout::{FieldKind, FieldPlace, KeyLayout};
use super::shared::Shared;
use entry::Extra;
use tuple::Tuple;

/// The first masks, up to this number, get a tuple each: so few probes cost less than the comparisons that a merged
/// tuple needs.
pub const OWN_TUPLES: usize = 24;

/// Most entries with one hash in a merged tuple. A look-up reads a record for each of them; a further tuple would
/// cost a probe.
pub const CROWD: usize = 6;

/// Longest packed keys; longer ones are used as they are.
const MAX_PACKED: usize = 8;

/// Where a word of a key lies in the packed key.
#[derive(Debug, Clone, Copy)]
struct Part {
    at: usize,
    shift: u32,
    /// The bits that the field uses.
    used: u64,
}

impl Part {
    #[inline]
    fn of(&self, packed: &[u64]) -> u64 {
        packed.get(self.at).copied().unwrap_or(0) >> self.shift & self.used
    }
}

/// What a table's structure needs to compare keys with patterns.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// By word of a key.
    parts: Box<[Part]>,
    /// Words of a packed key.
    packed: usize,
    /// Whether keys are packed. False if packing gains nothing.
    packs: bool,
    /// By packed word, the bits that are compared under a mask: all but those of ranges.
    masked: Box<[u64]>,
    /// Parts of each range.
    ranges: Box<[Box<[Part]>]>,
    range_places: Box<[FieldPlace]>,
}

impl Shape {
    fn new(layout: &KeyLayout) -> Self {
        let used = layout.places().iter().flat_map(|p| (0..p.words).map(|i| p.used(i)));
        // Bits that are taken of each packed word.
        let mut bins: Vec<u32> = Vec::new();
        let mut parts: Box<[Part]> = used
            .map(|used| {
                let bits = 64 - used.leading_zeros();
                let at = bins.iter().position(|taken| taken + bits <= 64).unwrap_or_else(|| {
                    bins.push(0);
                    bins.len() - 1
                });
                let shift = bins.get(at).copied().unwrap_or(0);
                if let Some(taken) = bins.get_mut(at) {
                    *taken += bits;
                }
                // A field of no bits may come behind a full word.
                Part {
                    at,
                    shift: shift.min(63),
                    used,
                }
            })
            .collect();
        let packs = bins.len() < layout.words() && bins.len() <= MAX_PACKED;
        if !packs {
            parts
                .iter_mut()
                .enumerate()
                .for_each(|(at, part)| (part.at, part.shift) = (at, 0));
        }
        let packed = if packs { bins.len() } else { layout.words() };
        let mut masked = vec![u64::MAX; packed];
        let is_range = |p: &&FieldPlace| p.field.kind == FieldKind::Range;
        let of_range = |p: &FieldPlace| parts.get(p.at..p.at + p.words).unwrap_or_default().into();
        let ranges: Box<[Box<[Part]>]> = layout.places().iter().filter(is_range).map(of_range).collect();
        for part in ranges.iter().flatten() {
            if let Some(word) = masked.get_mut(part.at) {
                *word &= !(part.used << part.shift);
            }
        }
        Self {
            parts,
            packed,
            packs,
            masked: masked.into(),
            ranges,
            range_places: layout.places().iter().filter(is_range).copied().collect(),
        }
    }

    /// Words that an entry keeps in its record.
    fn extra(&self) -> usize {
        entry::HEADER + 2 * self.packed
    }

    /// Packs a key, or the values or masks of a pattern.
    #[inline]
    fn pack<'k>(&self, key: &'k [u64], space: &'k mut [u64; MAX_PACKED]) -> &'k [u64] {
        if !self.packs {
            return key;
        }
        for (part, word) in self.parts.iter().zip(key) {
            if let Some(packed) = space.get_mut(part.at) {
                *packed |= (word & part.used) << part.shift;
            }
        }
        space.get(..self.packed).unwrap_or_default()
    }

    /// Writes a pattern into the words of a record.
    fn fill(&self, pattern: &[u64], priority: i32, extra: &mut [u64]) {
        entry::set_head(extra, priority, NO_SLOT);
        let (values, masks) = pattern.split_at_checked(self.parts.len()).unwrap_or_default();
        let (mut a, mut b) = ([0; MAX_PACKED], [0; MAX_PACKED]);
        let packed = self.pack(values, &mut a).iter().chain(self.pack(masks, &mut b));
        extra
            .iter_mut()
            .skip(entry::HEADER)
            .zip(packed)
            .for_each(|(to, from)| *to = *from);
    }

    /// Whether a packed key matches an entry's packed pattern.
    #[inline]
    fn matches(&self, key: &[u64], pattern: &[u64]) -> bool {
        let Some((values, masks)) = pattern.split_at_checked(self.packed) else {
            return false;
        };
        let words = key.iter().zip(values).zip(masks);
        if self.ranges.is_empty() {
            return words.fold(0, |d, ((k, v), m)| d | (k ^ v) & m) == 0;
        }
        let words = words.zip(&self.masked);
        words.fold(0, |d, (((k, v), m), masked)| d | (k ^ v) & m & masked) == 0
            && self.ranges.iter().all(|range| {
                let of = |bound: &[u64]| {
                    let mut words = range.iter().map(|part| (part.of(key), part.of(bound)));
                    words.find(|(key, bound)| key != bound)
                };
                of(values).is_none_or(|(key, low)| key > low) && of(masks).is_none_or(|(key, high)| key < high)
            })
    }

    /// The bits that a pattern fixes: its masks, and the leading bits that both bounds of a range share.
    fn mask(&self, pattern: &[u64]) -> Box<[u64]> {
        let (values, masks) = pattern.split_at_checked(self.parts.len()).unwrap_or_default();
        let mut mask: Box<[u64]> = masks.into();
        for range in &self.range_places {
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
        mask.iter_mut().zip(&self.parts).for_each(|(m, part)| *m &= part.used);
        mask
    }

    /// A mask with only its whole bytes; a word of which all used bits are set counts as whole.
    fn coarse(&self, mask: &[u64]) -> Box<[u64]> {
        let bytes = |m: u64| {
            let whole = m.to_ne_bytes().map(|b| if b == 0xff { b } else { 0 });
            u64::from_ne_bytes(whole)
        };
        let coarse = |(m, part): (&u64, &Part)| if *m == part.used { *m } else { bytes(*m) };
        mask.iter().zip(&self.parts).map(coarse).collect()
    }
}

/// For each place of an entry's record, the place of the next one in its list.
#[derive(Debug, Clone, Default)]
pub(super) struct Links(Vec<u32>);

impl Links {
    #[inline]
    fn next(&self, place: u32) -> u32 {
        self.0.get(place as usize).copied().unwrap_or(NO_SLOT)
    }

    fn set(&mut self, place: u32, next: u32) {
        let at = place as usize;
        if self.0.len() <= at {
            self.0.resize(at + 1, NO_SLOT);
        }
        if let Some(link) = self.0.get_mut(at) {
            *link = next;
        }
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
    homes: HashMap<Box<[u64]>, Home>,
    links: Links,
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
            homes: HashMap::default(),
            links: Links::default(),
        }
    }

    /// Words that an entry keeps in its record.
    pub fn extra(&self) -> usize {
        self.shape.extra()
    }

    /// Writes a pattern into these words.
    pub fn fill(&self, pattern: &[u64], priority: i32, extra: &mut [u64]) {
        self.shape.fill(pattern, priority, extra);
    }

    /// Sets the tuple that an entry went into.
    pub fn set_tuple(extra: &mut [u64], tuple: u32) {
        entry::set_head(extra, Extra(extra).priority(), tuple);
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        let home = size_of::<(Box<[u64]>, Home)>() + 8 * self.shape.parts.len();
        let links = self.links.0.capacity() * 4;
        links
            + self.tuples.iter().map(Tuple::bytes).sum::<usize>()
            + self.order.capacity() * 8
            + self.homes.capacity() * home
    }

    /// Tuples that a look-up may have to probe.
    pub fn tuples(&self) -> usize {
        self.order.len()
    }

    /// The place of the entry with the highest priority that a key matches.
    #[inline]
    pub fn find(&self, records: &Shared, key: &[u64]) -> Option<u32> {
        let mut space = [0; MAX_PACKED];
        let key = self.shape.pack(key, &mut space);
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
                    slot = self.links.next(slot);
                }
                // Others may share the hash.
                false
            });
        }
        (found != NO_SLOT).then_some(found)
    }

    /// Puts an entry in. Its record is already written, except for the tuple, which this returns.
    pub fn insert(&mut self, records: &Shared, pattern: &[u64], place: u32) -> u32 {
        let mask = self.shape.mask(pattern);
        let mut tuple = match self.homes.get(&mask).map(|home| home.tuple) {
            Some(tuple) if self.still_takes(tuple, &mask) => tuple,
            _ => self.first_home(&mask),
        };
        let packed = Extra(records.extra(place)).pattern();
        while self.is_crowded(records, tuple, packed, &mask) {
            tuple = self.next_home(&mask, tuple);
        }
        match self.homes.get_mut(&mask) {
            Some(home) => {
                home.entries += 1;
                home.tuple = tuple;
            }
            None => {
                self.homes.insert(mask, Home { tuple, entries: 1 });
            }
        }
        if let Some(t) = self.tuples.get_mut(tuple as usize) {
            t.link(records, &mut self.links, place);
            self.reorder(tuple);
        }
        tuple
    }

    /// Lets another record stand for an entry.
    pub fn replace(&mut self, records: &Shared, old: u32, new: u32) {
        let tuple = Extra(records.extra(old)).tuple();
        if let Some(t) = self.tuples.get_mut(tuple as usize) {
            t.relink(records, &mut self.links, old, new);
        }
    }

    /// Removes an entry with this pattern; its record must still be there. False if there was no such entry.
    pub fn remove(&mut self, records: &Shared, pattern: &[u64], place: u32) -> bool {
        let tuple = Extra(records.extra(place)).tuple();
        let mask = self.shape.mask(pattern);
        let Some(t) = self.tuples.get_mut(tuple as usize) else {
            return false;
        };
        if !t.unlink(records, &mut self.links, place) {
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

    /// Whether a mask's home is still valid: its tuple may have been emptied and reused for another mask, while older
    /// entries of this mask are left in other tuples.
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

    /// Of the tuples that can hold entries of this mask and have at least `bits` bits, the one with the most bits.
    fn finest(&self, mask: &[u64], bits: u32) -> Option<u32> {
        let all = self
            .order
            .iter()
            .filter_map(|(_, i)| Some((*i, self.tuples.get(*i as usize)?)));
        all.filter(|(_, t)| t.bits >= bits && t.takes(mask))
            .max_by_key(|(_, t)| t.bits)
            .map(|(i, _)| i)
    }

    /// Whether a merged tuple has enough entries under a packed pattern's hash.
    fn is_crowded(&self, records: &Shared, tuple: u32, pattern: &[u64], mask: &[u64]) -> bool {
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
            slot = self.links.next(slot);
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
        let mut space = [0; MAX_PACKED];
        let new = Tuple::new(mask, self.shape.pack(mask, &mut space));
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

    /// Moves a tuple to the position for its best priority; removes it if it is empty.
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
