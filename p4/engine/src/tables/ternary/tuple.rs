//! One tuple: entries that are found by the key bits under one mask.

use super::entry::Extra;
use super::{Links, NO_SLOT, Shared};
use crate::tables::index::{Index, Seed};

/// Entries by masked key; each bucket leads to the first of a list.
#[derive(Debug, Clone)]
pub(super) struct Tuple {
    pub(super) mask: Box<[u64]>,
    /// The words of the packed mask that are not zero, and where.
    kept: Box<[(u32, u64)]>,
    /// Number of ones in the mask.
    pub(super) bits: u32,
    seed: Seed,
    pub(super) index: Index,
    /// No entry of the tuple has a higher priority than this.
    pub(super) best: i32,
    entries: usize,
    /// Entries removed since `best` was found.
    removed: usize,
}

/// Number of ones in a mask.
pub(super) fn count(mask: &[u64]) -> u32 {
    mask.iter().map(|m| m.count_ones()).sum()
}

impl Tuple {
    /// A tuple for this mask. `packed` is the same mask in the layout of packed keys.
    pub(super) fn new(mask: &[u64], packed: &[u64]) -> Self {
        let words = packed.iter().enumerate().filter(|(_, m)| **m != 0);
        Self {
            mask: mask.into(),
            kept: words.map(|(i, m)| (i as u32, *m)).collect(),
            bits: count(mask),
            seed: Seed::random(),
            index: Index::default(),
            best: i32::MIN,
            entries: 0,
            removed: 0,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.index.bytes() + self.mask.len() * 8 + self.kept.len() * 16
    }

    /// Whether entries with this mask can be in the tuple: the mask must have all bits of the tuple's mask.
    pub(super) fn takes(&self, mask: &[u64]) -> bool {
        self.mask.iter().zip(mask).all(|(own, theirs)| own & !theirs == 0)
    }

    /// The hash of those bits of a packed key, or of a packed pattern's values, that are under the mask.
    #[inline]
    pub(super) fn hash(&self, key: &[u64]) -> u32 {
        let word = |i: u32| key.get(i as usize).copied().unwrap_or(0);
        let kept = self.kept.iter();
        self.seed
            .finish(kept.fold(self.seed.start(), |h, (i, m)| self.seed.add(h, word(*i) & m)))
    }

    fn same(&self, a: &[u64], b: &[u64]) -> bool {
        let word = |of: &[u64], i: u32| of.get(i as usize).copied().unwrap_or(0);
        self.kept.iter().all(|(i, m)| (word(a, *i) ^ word(b, *i)) & m == 0)
    }

    /// The first entry of the list that a pattern belongs to.
    pub(super) fn head(&self, records: &Shared, pattern: &[u64]) -> Option<u32> {
        self.index.find(self.hash(pattern), |slot| {
            self.same(pattern, Extra(records.extra(slot)).pattern())
        })
    }

    /// Puts an entry into its list.
    pub(super) fn link(&mut self, records: &Shared, links: &mut Links, place: u32) {
        let extra = Extra(records.extra(place));
        let priority = extra.priority();
        let hash = self.hash(extra.pattern());
        let head = self.head(records, extra.pattern());
        self.entries += 1;
        self.best = self.best.max(priority);
        let (mut before, mut after) = (NO_SLOT, head.unwrap_or(NO_SLOT));
        while after != NO_SLOT && Extra(records.extra(after)).priority() >= priority {
            (before, after) = (after, links.next(after));
        }
        links.set(place, after);
        match (before, head) {
            (NO_SLOT, None) => self.index.insert(hash, place),
            (NO_SLOT, Some(head)) => self.index.replace(hash, head, place),
            _ => links.set(before, place),
        }
    }

    /// The entry before one in its list ([`NO_SLOT`] if it is the first); none if it is not in it.
    fn before(&self, records: &Shared, links: &Links, place: u32) -> Option<u32> {
        let pattern = Extra(records.extra(place)).pattern();
        let (mut before, mut at) = (NO_SLOT, self.head(records, pattern).unwrap_or(NO_SLOT));
        while at != place {
            if at == NO_SLOT {
                return None;
            }
            (before, at) = (at, links.next(at));
        }
        Some(before)
    }

    /// Takes an entry out of its list; false if it is not in it.
    pub(super) fn unlink(&mut self, records: &Shared, links: &mut Links, place: u32) -> bool {
        let Some(before) = self.before(records, links, place) else {
            return false;
        };
        let hash = self.hash(Extra(records.extra(place)).pattern());
        match (before, links.next(place)) {
            (NO_SLOT, NO_SLOT) => {
                self.index.remove(hash, place);
            }
            (NO_SLOT, next) => self.index.replace(hash, place, next),
            (before, next) => links.set(before, next),
        }
        self.entries -= 1;
        self.removed += 1;
        if self.removed > self.entries {
            self.find_best(records);
        }
        true
    }

    /// Puts another record of the same entry into its place in the list.
    pub(super) fn relink(&mut self, records: &Shared, links: &mut Links, old: u32, new: u32) {
        let Some(before) = self.before(records, links, old) else {
            return;
        };
        links.set(new, links.next(old));
        match before {
            NO_SLOT => self
                .index
                .replace(self.hash(Extra(records.extra(old)).pattern()), old, new),
            before => links.set(before, new),
        }
    }

    /// Removals may leave `best` too high, which costs probes but changes no result. After as many removals as there
    /// are entries, it is worth searching for it again.
    fn find_best(&mut self, records: &Shared) {
        self.removed = 0;
        let heads = self.index.slots().map(|slot| Extra(records.extra(slot)).priority());
        self.best = heads.max().unwrap_or(i32::MIN);
    }
}
