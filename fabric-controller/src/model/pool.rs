//! Numbers that are given out and taken back.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use vfabric_api::ident::Vni;
use vfabric_api::topology::VniPool;

/// VNIs: in use, in quarantine, or free. A released VNI is given out again only when every
/// device that held it has confirmed the removal.
#[derive(Debug)]
pub(super) struct Vnis {
    pool: VniPool,
    used: BTreeSet<u32>,
    /// Revision that released each.
    quarantine: BTreeMap<u32, u64>,
    next: u32,
}

impl Vnis {
    /// A pool that nothing was taken of.
    pub(super) fn new(pool: VniPool) -> Self {
        Self {
            pool,
            used: BTreeSet::new(),
            quarantine: BTreeMap::new(),
            next: pool.first.get(),
        }
    }

    /// Whether somebody has it, or had it until a moment ago.
    pub(super) fn is_free(&self, vni: Vni) -> bool {
        !self.used.contains(&vni.get()) && !self.quarantine.contains_key(&vni.get())
    }

    /// The next free one, going round; none when all are taken. Costs what lies between.
    pub(super) fn find(&self) -> Option<Vni> {
        let (first, last) = (self.pool.first.get(), self.pool.last.get());
        let round = (self.next..=last).chain(first..self.next.min(last + 1));
        round.filter_map(|v| Vni::try_from(v).ok()).find(|v| self.is_free(*v))
    }

    /// Takes one.
    pub(super) fn take(&mut self, vni: Vni) {
        self.used.insert(vni.get());
        self.quarantine.remove(&vni.get());
        if (self.pool.first.get()..=self.pool.last.get()).contains(&vni.get()) {
            self.next = if vni.get() >= self.pool.last.get() {
                self.pool.first.get()
            } else {
                vni.get() + 1
            };
        }
    }

    /// Gives one back at once (a transaction that did not happen).
    pub(super) fn free(&mut self, vni: Vni) {
        self.used.remove(&vni.get());
    }

    /// Gives one back; it stays in quarantine until `revision` is confirmed everywhere.
    pub(super) fn quarantine(&mut self, vni: Vni, revision: u64) {
        self.used.remove(&vni.get());
        self.quarantine.insert(vni.get(), revision);
    }

    /// Those in quarantine, each with the revision that released it.
    pub(super) fn in_quarantine(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.quarantine.iter().map(|(vni, revision)| (*vni, *revision))
    }

    /// Lets go of one.
    pub(super) fn release(&mut self, vni: u32) {
        self.quarantine.remove(&vni);
    }

    /// How many are in quarantine.
    pub(super) fn quarantined(&self) -> usize {
        self.quarantine.len()
    }
}

/// Small numbers from 1 up to a greatest one; the smallest free one is taken.
#[derive(Debug)]
pub(super) struct Numbers<K> {
    greatest: u16,
    by_key: HashMap<K, u16>,
    free: BTreeSet<u16>,
    next: u16,
}

impl<K: std::hash::Hash + Eq> Numbers<K> {
    /// None taken.
    pub(super) fn new(greatest: u16) -> Self {
        Self {
            greatest,
            by_key: HashMap::new(),
            free: BTreeSet::new(),
            next: 1,
        }
    }

    /// The number of a key, which is given one if it has none; none when all are taken.
    pub(super) fn get(&mut self, key: K) -> Option<u16> {
        if let Some(number) = self.by_key.get(&key) {
            return Some(*number);
        }
        let number = match self.free.pop_first() {
            Some(number) => number,
            None if self.next <= self.greatest => {
                self.next += 1;
                self.next - 1
            }
            None => return None,
        };
        self.by_key.insert(key, number);
        Some(number)
    }

    /// The number that a key has.
    pub(super) fn number(&self, key: &K) -> Option<u16> {
        self.by_key.get(key).copied()
    }

    /// The number that [`Numbers::get`] would give, without giving it.
    pub(super) fn peek(&self, key: &K) -> Option<u16> {
        let fresh = || Some(self.next).filter(|n| *n <= self.greatest);
        self.by_key.get(key).or(self.free.first()).copied().or_else(fresh)
    }

    /// Gives a key the number it had before a restart.
    pub(super) fn restore(&mut self, key: K, number: u16) {
        if number >= self.next {
            self.free.extend(self.next..number);
            self.next = number.saturating_add(1);
        }
        self.free.remove(&number);
        self.by_key.insert(key, number);
    }

    /// Takes a key's number back.
    pub(super) fn release(&mut self, key: &K) {
        self.free.extend(self.by_key.remove(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vni(v: u32) -> Vni {
        Vni::try_from(v).unwrap()
    }

    #[test]
    fn vnis_go_round_and_wait_in_quarantine() {
        let mut vnis = Vnis::new(VniPool {
            first: vni(10),
            last: vni(12),
        });
        for expected in [10, 11, 12] {
            let found = vnis.find().unwrap();
            assert_eq!(found.get(), expected);
            vnis.take(found);
        }
        assert_eq!(vnis.find(), None);
        vnis.quarantine(vni(11), 5);
        assert_eq!(vnis.find(), None, "in quarantine is not free");
        assert_eq!(vnis.in_quarantine().collect::<Vec<_>>(), [(11, 5)]);
        vnis.release(11);
        assert_eq!(vnis.find(), Some(vni(11)));
    }

    #[test]
    fn numbers_are_reused_and_run_out() {
        let mut numbers = Numbers::new(2);
        assert_eq!(
            (numbers.get('a'), numbers.get('b'), numbers.get('c')),
            (Some(1), Some(2), None)
        );
        assert_eq!(numbers.get('a'), Some(1));
        numbers.release(&'a');
        assert_eq!(numbers.get('c'), Some(1));
        let mut restored = Numbers::new(9);
        restored.restore('z', 3);
        assert_eq!(
            (restored.get('y'), restored.get('x'), restored.get('w')),
            (Some(1), Some(2), Some(4))
        );
    }
}
