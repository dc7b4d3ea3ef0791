//! Records of a table's entries: written once, read through both copies.
//!
//! A record does not change while an entry leads to it. A modification writes a new record in another *place* and lets
//! the structures lead there. So both copies of a table share one set of records, and each has only its own path to
//! them.
//!
//! ```text
//! what it leads to, slot 1 | arguments | what the structure keeps: key, priority
//! ```
//!
//! Records lie in chunks that never move, which the copies hold together.
//!
//! # Why this is sound
//! [`super::store`] keeps three rules. [`super::snapshot`] makes sure that no reader is in the stale copy when a
//! transaction begins.
//! 1. Only the one writer writes records, and only in places that it took from [`Shelf::take`] in the same transaction.
//! 2. A place is given back in the transaction that removes the path to it from one copy, and taken again in a later one
//!    at the earliest, after the path to it was removed from the other copy, too.
//! 3. A reader reaches a record only through a copy that it has pinned, and only while it has it pinned
//!    ([`Table::lookup`](super::Table::lookup) gives the record itself, not its place, and tables cannot be cloned).
//!
//! So nobody reads a place while it is written.

#![allow(unsafe_code)]

use std::cell::UnsafeCell;
use std::sync::Arc;

use super::index::NO_SLOT;
use super::records::{Leads, Record, header};
use super::store::Slots;

/// Places in a chunk, as a power of two. A chunk is some ten kilobytes, so that the list of the chunks of a million
/// entries stays in a cache.
const CHUNK_BITS: u32 = 11;

/// A word that is only written while nobody reads it.
#[repr(transparent)]
struct Word(UnsafeCell<u64>);

// SAFETY: see the module: no word is read while it is written.
unsafe impl Sync for Word {}

type Chunk = Arc<[Word]>;

/// Records as a copy of the table reads them.
#[derive(Clone)]
pub struct Shared {
    chunks: Vec<Chunk>,
    stride: usize,
    args: usize,
}

impl Shared {
    /// Records with room for `args` words of arguments and `extra` words besides.
    fn new(args: usize, extra: usize) -> Self {
        Self {
            chunks: Vec::new(),
            stride: 1 + args + extra,
            args,
        }
    }

    #[inline]
    fn words(&self, place: u32) -> &[u64] {
        let start = (place & ((1 << CHUNK_BITS) - 1)) as usize * self.stride;
        let chunk = self.chunks.get((place >> CHUNK_BITS) as usize);
        let words = chunk
            .and_then(|c| c.get(start..start + self.stride))
            .unwrap_or_default();
        // SAFETY: `Word` is an `UnsafeCell<u64>`, which is laid out as a `u64`. By the rules of the module, nobody
        // writes these words while they can be reached.
        unsafe { std::slice::from_raw_parts(words.as_ptr().cast(), words.len()) }
    }

    /// The record in a place.
    #[inline]
    pub(super) fn get(&self, place: u32) -> Record<'_> {
        Record::new(self.words(place).get(..1 + self.args).unwrap_or_default())
    }

    /// The words that the table's structure keeps in a place.
    #[inline]
    pub(super) fn extra(&self, place: u32) -> &[u64] {
        self.words(place).get(1 + self.args..).unwrap_or_default()
    }

    /// Makes the records of a shelf visible.
    pub(super) fn share(&mut self, shelf: &Shelf) {
        if self.chunks.len() < shelf.records.chunks.len() {
            let new = shelf.records.chunks.iter().skip(self.chunks.len());
            self.chunks.extend(new.cloned());
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("stride", &self.stride)
            .finish_non_exhaustive()
    }
}

/// Writes a record, except for the words that belong to the table's structure.
fn put(words: &mut [u64], leads: Leads, slot: u32, args: &[u64]) {
    if let Some((first, rest)) = words.split_first_mut() {
        *first = header(leads, slot);
        let args = args.iter().copied().chain(std::iter::repeat(0));
        rest.iter_mut().zip(args).for_each(|(to, from)| *to = from);
    }
}

/// The writer's side: gives places out and writes records.
#[derive(Debug)]
pub(super) struct Shelf {
    records: Shared,
    places: Slots,
    /// Place of each slot's record; [`NO_SLOT`] if it has none.
    of: Vec<u32>,
}

impl Shelf {
    /// An empty shelf; see [`Shared`].
    pub(super) fn new(args: usize, extra: usize) -> Self {
        Self {
            records: Shared::new(args, extra),
            places: Slots::default(),
            of: Vec::new(),
        }
    }

    /// The handle through which the copies read it.
    pub(super) fn view(&self) -> Shared {
        self.records.clone()
    }

    /// Bytes it takes.
    pub(super) fn bytes(&self) -> usize {
        let chunk = (1 << CHUNK_BITS) * self.records.stride * size_of::<u64>();
        self.records.chunks.len() * chunk + self.of.capacity() * size_of::<u32>()
    }

    /// A transaction begins: places that were given back before may be taken.
    pub(super) fn settle(&mut self) {
        self.places.settle();
    }

    /// Place of a slot's record.
    pub(super) fn place(&self, slot: u32) -> Option<u32> {
        self.of.get(slot as usize).copied().filter(|p| *p != NO_SLOT)
    }

    /// Slot of the record in a place.
    pub(super) fn slot(&self, place: u32) -> u32 {
        self.records.get(place).slot()
    }

    /// A place for a slot's record.
    fn reserve(&mut self, slot: u32) -> u32 {
        let place = self.places.take();
        let chunk = (place >> CHUNK_BITS) as usize;
        while self.records.chunks.len() <= chunk {
            let words = (0..self.records.stride << CHUNK_BITS).map(|_| Word(UnsafeCell::new(0)));
            self.records.chunks.push(words.collect());
        }
        let at = slot as usize;
        if self.of.len() <= at {
            self.of.resize(at + 1, NO_SLOT);
        }
        if let Some(of) = self.of.get_mut(at) {
            *of = place;
        }
        place
    }

    /// Writes a slot's record in a new place; `fill` writes the words for the structure.
    pub(super) fn take(&mut self, slot: u32, leads: Leads, args: &[u64], fill: impl FnOnce(&mut [u64])) -> u32 {
        let place = self.reserve(slot);
        self.write(place, |words| {
            let (head, extra) = words.split_at_mut(1 + self.records.args);
            put(head, leads, slot, args);
            fill(extra);
        });
        place
    }

    /// Writes a new record for a slot that has one, with what the structure keeps, and returns its place; the old place
    /// is given back.
    pub(super) fn exchange(&mut self, slot: u32, leads: Leads, args: &[u64]) -> u32 {
        let old = self.place(slot).unwrap_or(NO_SLOT);
        self.give_back(slot);
        let place = self.reserve(slot);
        self.write(place, |words| {
            let (head, extra) = words.split_at_mut(1 + self.records.args);
            put(head, leads, slot, args);
            let kept = self.records.extra(old);
            extra.iter_mut().zip(kept).for_each(|(to, from)| *to = *from);
        });
        place
    }

    /// Gives all places back.
    pub(super) fn clear(&mut self) {
        for slot in 0..self.of.len() as u32 {
            self.give_back(slot);
        }
        self.of.clear();
    }

    /// Changes what the structure keeps in a place that was taken in this transaction.
    pub(super) fn amend(&mut self, place: u32, change: impl FnOnce(&mut [u64])) {
        let args = self.records.args;
        self.write(place, |words| change(words.get_mut(1 + args..).unwrap_or_default()));
    }

    fn write(&self, place: u32, change: impl FnOnce(&mut [u64])) {
        let stride = self.records.stride;
        let start = (place & ((1 << CHUNK_BITS) - 1)) as usize * stride;
        let chunk = self.records.chunks.get((place >> CHUNK_BITS) as usize);
        let Some(words) = chunk.and_then(|c| c.get(start..start + stride)) else {
            return;
        };
        // SAFETY: the words are `UnsafeCell`s, so they may be written through a shared reference to them. The place was
        // taken in this transaction (rule 1), so no copy that is read leads to it (rule 2) and nobody has a reference
        // to its words (rule 3); there is one shelf for them, which the callers have borrowed mutably.
        change(unsafe { std::slice::from_raw_parts_mut(UnsafeCell::raw_get(words.as_ptr().cast()), stride) });
    }

    /// Gives a slot's place back.
    pub(super) fn give_back(&mut self, slot: u32) {
        if let Some(of) = self.of.get_mut(slot as usize) {
            let place = std::mem::replace(of, NO_SLOT);
            if place != NO_SLOT {
                self.places.give_back(place);
            }
        }
    }
}
