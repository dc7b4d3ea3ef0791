//! Numbers that are given out and taken back.

use std::collections::{BTreeSet, HashMap};

use vfabric_api::ident::Vni;
use vfabric_api::topology::VniPool;

/// VNIs: in use, or not.
#[derive(Debug)]
pub(super) struct Vnis {
    pool: VniPool,
    used: BTreeSet<u32>,
    next: u32,
}

impl Vnis {
    /// A pool that nothing was taken of.
    pub(super) fn new(pool: VniPool) -> Self {
        Self {
            pool,
            used: BTreeSet::new(),
            next: pool.first.get(),
        }
    }

    /// Whether somebody has it.
    pub(super) fn is_used(&self, vni: u32) -> bool {
        self.used.contains(&vni)
    }

    /// The next one that nobody has and that is not barred, going round; none when there is
    /// none. Costs what lies between.
    pub(super) fn find(&self, barred: impl Fn(u32) -> bool) -> Option<Vni> {
        let (first, last) = (self.pool.first.get(), self.pool.last.get());
        let mut round = (self.next..=last).chain(first..self.next.min(last + 1));
        let free = round.find(|v| !self.is_used(*v) && !barred(*v))?;
        Vni::try_from(free).ok()
    }

    /// Takes one.
    pub(super) fn take(&mut self, vni: Vni) {
        self.used.insert(vni.get());
        if (self.pool.first.get()..=self.pool.last.get()).contains(&vni.get()) {
            self.next = if vni.get() >= self.pool.last.get() {
                self.pool.first.get()
            } else {
                vni.get() + 1
            };
        }
    }

    /// Gives one back.
    pub(super) fn free(&mut self, vni: Vni) {
        self.used.remove(&vni.get());
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
    fn vnis_go_round() {
        let mut vnis = Vnis::new(VniPool {
            first: vni(10),
            last: vni(12),
        });
        for expected in [10, 11, 12] {
            let found = vnis.find(|_| false).unwrap();
            assert_eq!(found.get(), expected);
            vnis.take(found);
        }
        assert_eq!(vnis.find(|_| false), None);
        vnis.free(vni(11));
        assert_eq!(vnis.find(|v| v == 11), None);
        assert_eq!(vnis.find(|_| false), Some(vni(11)));
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
