//! Numbers that are given out and taken back.

use std::collections::BTreeSet;

use super::fault::{self, Fault};

/// A range of numbers of one kind: used, or not.
///
/// A free number is looked for going round, so that one which was given back is given out again as late as possible.
#[derive(Debug, Clone)]
pub(super) struct Space {
    first: u32,
    last: u32,
    used: BTreeSet<u32>,
    next: u32,
}

impl Space {
    /// The range from `first` to `last`, both included; nothing is used.
    pub(super) fn new(first: u32, last: u32) -> Self {
        Self {
            first,
            last,
            used: BTreeSet::new(),
            next: first,
        }
    }

    /// Whether somebody has it.
    pub(super) fn is_used(&self, number: u32) -> bool {
        self.used.contains(&number)
    }

    /// The next one that nobody has and that is not barred; none when there is none. Costs what lies between.
    pub(super) fn find(&self, barred: impl Fn(u32) -> bool) -> Option<u32> {
        let at_once = [Fault::VniAtOnce, Fault::GroupAtOnce, Fault::AccessIdAtOnce];
        let next = if at_once.into_iter().any(fault::is_on) {
            self.first
        } else {
            self.next
        };
        let mut round = (next..=self.last).chain(self.first..next.min(self.last + 1));
        round.find(|n| !self.is_used(*n) && !barred(*n))
    }

    /// Takes one, which may lie outside of the range: users name numbers too.
    pub(super) fn take(&mut self, number: u32) {
        self.used.insert(number);
        if (self.first..=self.last).contains(&number) {
            self.next = if number >= self.last { self.first } else { number + 1 };
        }
    }

    /// Where the next one is looked for.
    pub(super) fn cursor(&self) -> u32 {
        self.next
    }

    /// The next one is looked for there again, as [`Space::cursor`] said.
    pub(super) fn set_cursor(&mut self, next: u32) {
        self.next = next;
    }

    /// Gives one back.
    pub(super) fn free(&mut self, number: u32) {
        self.used.remove(&number);
    }

    /// Gives out numbers of another range from now on; what is used stays used.
    pub(super) fn set_range(&mut self, first: u32, last: u32) {
        if (first, last) == (self.first, self.last) {
            return;
        }
        (self.first, self.last) = (first, last);
        if !(first..=last).contains(&self.next) {
            self.next = first;
        }
    }

    /// How many numbers there are.
    pub(super) fn size(&self) -> u32 {
        (self.last - self.first).saturating_add(1)
    }

    /// Leaves only the numbers up to `last`.
    #[cfg(test)]
    pub(super) fn limit(&mut self, last: u32) {
        self.last = self.last.min(last);
        if self.next > self.last {
            self.next = self.first;
        }
    }
}

/// Addresses of a subnet, as offsets from its first one.
///
/// Everything from `next` on was never given out by us. What was given back lies in `freed`. So looking for a free one
/// costs a step as long as there are fresh ones, and no more than what rests in quarantine afterwards. Most networks are
/// empty, so a pool from which nothing was taken allocates nothing.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    size: u128,
    next: u128,
    /// Whether each of the offsets before [`FIRST_OFFSET`] is free.
    low: [bool; FIRST_OFFSET as usize],
    freed: BTreeSet<u128>,
}

/// Offsets 0 and 1 are the subnet's own and, as a rule, the gateway's; they are given out after all fresh ones.
const FIRST_OFFSET: u128 = 2;

impl Addresses {
    /// A subnet of 2^`host_bits` addresses.
    pub(super) fn new(host_bits: u32) -> Self {
        Self {
            size: 1u128.checked_shl(host_bits).unwrap_or(u128::MAX),
            next: FIRST_OFFSET,
            low: [true; FIRST_OFFSET as usize],
            freed: BTreeSet::new(),
        }
    }

    /// An offset that is usable; none if there is none.
    pub(super) fn find(&self, usable: impl Fn(u128) -> bool) -> Option<u128> {
        let fresh = std::iter::successors(Some(self.next), |o| o.checked_add(1)).take_while(|o| *o < self.size);
        let low = (0..FIRST_OFFSET)
            .zip(self.low)
            .filter_map(|(o, is_free)| is_free.then_some(o));
        fresh.chain(low).chain(self.freed.iter().copied()).find(|o| usable(*o))
    }

    /// Takes an offset; `used` says of others whether they are in use.
    pub(super) fn take(&mut self, offset: u128, used: impl Fn(u128) -> bool) {
        if !self.set_low(offset, false) {
            self.freed.remove(&offset);
        }
        if offset == self.next {
            self.next += 1;
            while self.next < self.size && used(self.next) {
                self.next += 1;
            }
        }
    }

    /// Notes whether one of the first offsets is free; returns false if it is none of these.
    fn set_low(&mut self, offset: u128, is_free: bool) -> bool {
        let low = usize::try_from(offset).ok().and_then(|at| self.low.get_mut(at));
        low.is_some_and(|low| {
            *low = is_free;
            true
        })
    }

    /// Where fresh ones begin.
    pub(super) fn cursor(&self) -> u128 {
        self.next
    }

    /// Fresh ones begin there again, as [`Addresses::cursor`] said: all from there on that were taken are given back.
    pub(super) fn set_cursor(&mut self, next: u128) {
        self.next = next;
        self.freed.split_off(&next);
    }

    /// Gives an offset back.
    pub(super) fn free(&mut self, offset: u128) {
        if !self.set_low(offset, true) && offset < self.next {
            self.freed.insert(offset);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_round_and_run_out() {
        let mut space = Space::new(10, 12);
        for expected in [10, 11, 12] {
            let found = space.find(|_| false).unwrap();
            assert_eq!(found, expected);
            space.take(found);
        }
        assert_eq!(space.find(|_| false), None);
        space.free(11);
        assert_eq!(space.find(|n| n == 11), None);
        assert_eq!(space.find(|_| false), Some(11));
        space.take(99);
        assert!(space.is_used(99));
    }

    #[test]
    fn addresses_are_fresh_as_long_as_there_are_fresh_ones() {
        let mut pool = Addresses::new(3);
        let mut used = BTreeSet::from([4]);
        for expected in [2, 3, 5, 6, 7] {
            let found = pool.find(|o| !used.contains(&o)).unwrap();
            assert_eq!(found, expected);
            used.insert(found);
            pool.take(found, |o| used.contains(&o));
            if found == 3 {
                used.remove(&2);
                pool.free(2);
            }
        }
        assert_eq!(pool.find(|o| o > 1 && !used.contains(&o)), Some(2));
        used.insert(2);
        pool.take(2, |_| false);
        assert_eq!(pool.find(|o| o > 1 && !used.contains(&o)), None);
    }
}
