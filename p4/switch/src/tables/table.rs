//! One copy of one table: records, and the structure that finds them.

use super::index::{Index, Seed};
use super::layout::{FieldKind, KeyLayout};
use super::lpm::Lpm;
use super::records::{Leads, Record, Records};
use super::ternary::{EXTRA_WORDS, Ternary};

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

/// One table as packets see it.
#[derive(Debug, Clone)]
pub struct Table {
    layout: KeyLayout,
    structure: Structure,
    records: Records,
    /// The default action is record 0 of these, if there is one.
    default: Records,
    len: usize,
}

impl Table {
    /// An empty table whose actions take up to `args` words of arguments.
    ///
    /// A table with one LPM field and else exact ones takes the longest prefix; any other with an LPM field goes by
    /// priority, as P4Runtime and BMv2 have it.
    pub fn new(layout: KeyLayout, args: usize) -> Self {
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
            None => (
                Structure::Ternary(Box::new(Ternary::new(&layout))),
                EXTRA_WORDS + 2 * words,
            ),
        };
        Self {
            layout,
            structure,
            records: Records::new(args, extra),
            default: Records::new(args, 0),
            len: 0,
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

    /// Bytes that this copy takes.
    pub fn bytes(&self) -> usize {
        let structure = match &self.structure {
            Structure::None => 0,
            Structure::Exact(_, index) => index.bytes(),
            Structure::Lpm(lpm) => lpm.bytes(),
            Structure::Ternary(ternary) => ternary.bytes(),
        };
        structure + self.records.bytes() + self.default.bytes()
    }

    /// Masks that a look-up may have to probe; 1 for tables without.
    pub fn tuples(&self) -> usize {
        match &self.structure {
            Structure::Ternary(ternary) => ternary.tuples(),
            _ => 1,
        }
    }

    /// The slot of the entry that a key matches; the key is as long as the layout says.
    #[inline]
    pub fn lookup(&self, key: &[u64]) -> Option<u32> {
        match &self.structure {
            Structure::None => None,
            Structure::Exact(seed, index) => index.find(seed.hash(key), |slot| same(self.records.extra(slot), key)),
            Structure::Lpm(lpm) => lpm.find(key),
            Structure::Ternary(ternary) => ternary.find(&self.records, key),
        }
    }

    /// The record of an entry.
    #[inline]
    pub fn record(&self, slot: u32) -> Record<'_> {
        self.records.get(slot)
    }

    /// The default action; vacant if there is none.
    #[inline]
    pub fn default(&self) -> Record<'_> {
        self.default.get(0)
    }

    pub(super) fn set_default(&mut self, leads: Leads, args: &[u64]) {
        self.default.set(0, leads, args);
    }

    /// Puts an entry in; a `pattern` as [`KeyLayout::pattern`] makes it. If the slot is in use, the entry in it has to
    /// have this pattern and priority. In exact and LPM tables an entry with the same key gives way.
    pub(super) fn insert(&mut self, slot: u32, pattern: &[u64], priority: i32, leads: Leads, args: &[u64]) {
        let Some((values, masks)) = pattern.split_at_checked(self.layout.words()) else {
            return;
        };
        let is_new = self.records.get(slot).leads() == Leads::Vacant;
        let leads_somewhere = leads != Leads::Vacant;
        if !leads_somewhere || matches!(self.structure, Structure::None) {
            return;
        }
        self.records.set(slot, leads, args);
        if !is_new {
            return;
        }
        self.len += 1;
        let replaced = match &mut self.structure {
            Structure::None => None,
            Structure::Exact(seed, index) => {
                let hash = seed.hash(values);
                let old = index.find(hash, |other| same(self.records.extra(other), values));
                self.records.extra_mut(slot).copy_from_slice(values);
                match old {
                    Some(old) => index.replace(hash, old, slot),
                    None => index.insert(hash, slot),
                }
                old
            }
            Structure::Lpm(lpm) => lpm.insert(values, masks, slot),
            Structure::Ternary(ternary) => {
                ternary.insert(&mut self.records, pattern, priority, slot);
                None
            }
        };
        if let Some(old) = replaced {
            self.records.clear(old);
            self.len -= 1;
        }
    }

    /// Changes what an entry leads to.
    pub(super) fn modify(&mut self, slot: u32, leads: Leads, args: &[u64]) {
        if self.records.get(slot).leads() != Leads::Vacant && leads != Leads::Vacant {
            self.records.set(slot, leads, args);
        }
    }

    /// Takes an entry out, with the pattern that it was put in with.
    pub(super) fn remove(&mut self, slot: u32, pattern: &[u64]) {
        let Some((values, masks)) = pattern.split_at_checked(self.layout.words()) else {
            return;
        };
        if self.records.get(slot).leads() == Leads::Vacant {
            return;
        }
        let removed = match &mut self.structure {
            Structure::None => false,
            Structure::Exact(seed, index) => index.remove(seed.hash(values), slot),
            Structure::Lpm(lpm) => lpm.remove(values, masks, slot),
            Structure::Ternary(ternary) => ternary.remove(&mut self.records, slot),
        };
        if removed {
            self.records.clear(slot);
            self.len -= 1;
        }
    }

    /// Takes all entries out.
    pub(super) fn clear(&mut self) {
        let args = self.records.args();
        let default = std::mem::replace(&mut self.default, Records::new(args, 0));
        *self = Self {
            default,
            ..Self::new(std::mem::take(&mut self.layout), args)
        };
    }
}

/// Whether two keys are equal; keys are too short for a call to compare them.
#[inline]
fn same(a: &[u64], b: &[u64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |d, (a, b)| d | a ^ b) == 0
}
