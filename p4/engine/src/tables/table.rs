//! One copy of one table: the structure that finds records, and the default action.

use super::index::{Index, Seed};
use super::layout::{FieldKind, KeyLayout};
#[cfg(doc)]
use super::lpm::ABREAST;
use super::lpm::Lpm;
use super::records::{Leads, Record, Records};
use super::shared::{Shared, Shelf};
use super::ternary::Ternary;

/// How a table finds entries.
#[derive(Debug, Clone)]
enum Structure {
    /// It has no key, so it holds none.
    None,
    /// All fields exact: the key lies in the record.
    Exact(Seed, Index),
    /// One LPM field, the others exact: the key lies in the structure.
    Lpm(Box<Lpm>),
    /// Anything else: pattern and priority lie in the record.
    Ternary(Box<Ternary>),
}

/// One table as packets see it. A reader that has pinned it cannot clone it, because a clone would outlive the records.
#[derive(Debug)]
pub struct Table {
    layout: KeyLayout,
    structure: Structure,
    records: Shared,
    /// The default action is record 0 of these, if there is one.
    default: Records,
    len: usize,
}

/// Result of an insertion.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Inserted {
    /// The place that an entry with the same key had.
    pub(super) replaced: Option<u32>,
    /// What the structure has to note in the record.
    pub(super) tuple: Option<u32>,
}

impl Table {
    /// One copy of an empty table whose actions take up to `args` words of arguments, and what holds its records. The
    /// other copy is its [`Self::twin`].
    ///
    /// A table with one LPM field and otherwise only exact fields takes the longest prefix. Any other table with an LPM
    /// field goes by priority, as P4Runtime and BMv2 do.
    pub(super) fn new(layout: KeyLayout, args: usize) -> (Self, Shelf) {
        let exact = |k: FieldKind| k == FieldKind::Exact;
        let lpms = layout
            .places()
            .iter()
            .filter(|p| p.field.kind == FieldKind::Lpm)
            .count();
        let inexact = layout.places().iter().filter(|p| !exact(p.field.kind)).count();
        let words = layout.words();
        let lpm = (lpms == 1 && inexact == 1).then(|| Lpm::new(&layout)).flatten();
        let (structure, extra) = match lpm {
            _ if layout.places().is_empty() => (Structure::None, 0),
            Some(lpm) => (Structure::Lpm(Box::new(lpm)), 0),
            None if inexact == 0 => (Structure::Exact(Seed::random(), Index::default()), words),
            None => {
                let ternary = Box::new(Ternary::new(&layout));
                let extra = ternary.extra();
                (Structure::Ternary(ternary), extra)
            }
        };
        let shelf = Shelf::new(args, extra);
        let table = Self {
            layout,
            structure,
            records: shelf.view(),
            default: Records::new(args),
            len: 0,
        };
        (table, shelf)
    }

    /// The other copy.
    pub(super) fn twin(&self) -> Self {
        Self {
            layout: self.layout.clone(),
            structure: self.structure.clone(),
            records: self.records.clone(),
            default: self.default.clone(),
            len: self.len,
        }
    }

    /// How its key is laid out.
    pub fn layout(&self) -> &KeyLayout {
        &self.layout
    }

    /// Entries in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that this copy takes, without the records that it shares.
    pub fn bytes(&self) -> usize {
        let structure = match &self.structure {
            Structure::None => 0,
            Structure::Exact(_, index) => index.bytes(),
            Structure::Lpm(lpm) => lpm.bytes(),
            Structure::Ternary(ternary) => ternary.bytes(),
        };
        structure + self.default.bytes()
    }

    /// Masks that a look-up may have to probe; 1 for tables without.
    pub fn tuples(&self) -> usize {
        match &self.structure {
            Structure::Ternary(ternary) => ternary.tuples(),
            _ => 1,
        }
    }

    /// The record of the entry that a key matches; the key is as long as the layout says.
    #[inline]
    pub fn lookup(&self, key: &[u64]) -> Option<Record<'_>> {
        let place = match &self.structure {
            Structure::None => None,
            Structure::Exact(seed, index) => index.find(seed.hash(key), |place| same(self.records.extra(place), key)),
            Structure::Lpm(lpm) => lpm.find(key),
            Structure::Ternary(ternary) => ternary.find(&self.records, key),
        };
        Some(self.records.get(place?))
    }

    /// The default action; vacant if there is none.
    #[inline]
    pub fn default(&self) -> Record<'_> {
        self.default.get(0)
    }

    pub(super) fn set_default(&mut self, leads: Leads, args: &[u64]) {
        self.default.set(0, leads, args);
    }

    /// Whether it can hold entries.
    pub(super) fn has_key(&self) -> bool {
        !matches!(self.structure, Structure::None)
    }

    /// Writes what the structure keeps of an entry into the words that a record has for it; a `pattern` as
    /// [`KeyLayout::pattern`] makes it.
    pub(super) fn fill(&self, pattern: &[u64], priority: i32, extra: &mut [u64]) {
        match &self.structure {
            Structure::None | Structure::Lpm(_) => {}
            Structure::Exact(..) => extra.iter_mut().zip(pattern).for_each(|(to, from)| *to = *from),
            Structure::Ternary(ternary) => ternary.fill(pattern, priority, extra),
        }
    }

    /// Whether [`Self::fetch`] does anything.
    pub(super) fn fetches(&self) -> bool {
        matches!(self.structure, Structure::Lpm(_))
    }

    /// Brings into the cache what changes of the entries with these patterns, at most [`ABREAST`], will read. In a
    /// trie, a change spends most of its time waiting for one node after the other.
    pub(super) fn fetch<'a>(&self, patterns: impl Iterator<Item = &'a [u64]>) {
        if let Structure::Lpm(lpm) = &self.structure {
            lpm.fetch(patterns);
        }
    }

    /// Puts an entry in. Its record is already written, except for the part that this returns. In exact and LPM tables
    /// it replaces an entry with the same key.
    pub(super) fn insert(&mut self, place: u32, pattern: &[u64], shelf: &Shelf) -> Inserted {
        self.records.share(shelf);
        let Some((values, masks)) = pattern.split_at_checked(self.layout.words()) else {
            return Inserted::default();
        };
        let (mut replaced, mut tuple) = (None, None);
        match &mut self.structure {
            Structure::None => return Inserted::default(),
            Structure::Exact(seed, index) => {
                let hash = seed.hash(values);
                replaced = index.find(hash, |other| same(self.records.extra(other), values));
                match replaced {
                    Some(old) => index.replace(hash, old, place),
                    None => index.insert(hash, place),
                }
            }
            Structure::Lpm(lpm) => replaced = lpm.insert(values, masks, place),
            Structure::Ternary(ternary) => tuple = Some(ternary.insert(&self.records, pattern, place)),
        }
        self.len += usize::from(replaced.is_none());
        Inserted { replaced, tuple }
    }

    /// Lets an entry lead to another record of its own.
    pub(super) fn replace(&mut self, old: u32, new: u32, pattern: &[u64], shelf: &Shelf) {
        self.records.share(shelf);
        let Some((values, masks)) = pattern.split_at_checked(self.layout.words()) else {
            return;
        };
        match &mut self.structure {
            Structure::None => {}
            Structure::Exact(seed, index) => index.replace(seed.hash(values), old, new),
            Structure::Lpm(lpm) => {
                lpm.insert(values, masks, new);
            }
            Structure::Ternary(ternary) => ternary.replace(&self.records, old, new),
        }
    }

    /// Takes an entry out, with the pattern that it was put in with.
    pub(super) fn remove(&mut self, place: u32, pattern: &[u64]) {
        let Some((values, masks)) = pattern.split_at_checked(self.layout.words()) else {
            return;
        };
        let removed = match &mut self.structure {
            Structure::None => false,
            Structure::Exact(seed, index) => index.remove(seed.hash(values), place),
            Structure::Lpm(lpm) => lpm.remove(values, masks, place),
            Structure::Ternary(ternary) => ternary.remove(&self.records, pattern, place),
        };
        self.len -= usize::from(removed);
    }

    /// Takes all entries out.
    pub(super) fn clear(&mut self) {
        let (empty, _) = Self::new(std::mem::take(&mut self.layout), 0);
        self.layout = empty.layout;
        self.structure = empty.structure;
        self.len = 0;
    }
}

/// Whether two keys are equal; keys are too short for a call to compare them.
#[inline]
fn same(a: &[u64], b: &[u64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |d, (a, b)| d | a ^ b) == 0
}
