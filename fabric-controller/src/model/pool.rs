//! Pools of numbers.

use std::collections::BTreeSet;

use super::fault::{self, Fault};

/// A range of numbers of one kind, each used or free.
///
/// The search for a free number goes round the range, so that a released number is reused as late as possible.
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

    /// The next free number that is not barred; none if there is none. Costs the used and barred numbers in between.
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

    /// Takes a number. It may be outside the range, because users can name numbers, too.
    pub(super) fn take(&mut self, number: u32) {
        self.used.insert(number);
        if (self.first..=self.last).contains(&number) {
            self.next = if number >= self.last { self.first } else { number + 1 };
        }
    }

    /// The position at which the next search begins.
    pub(super) fn cursor(&self) -> u32 {
        self.next
    }

    /// Restores the position that [`Space::cursor`] returned.
    pub(super) fn set_cursor(&mut self, next: u32) {
        self.next = next;
    }

    /// Releases a number.
    pub(super) fn free(&mut self, number: u32) {
        self.used.remove(&number);
    }

    /// Allocates from another range from now on; used numbers stay used.
    pub(super) fn set_range(&mut self, first: u32, last: u32) {
        if (first, last) == (self.first, self.last) {
            return;
        }
        (self.first, self.last) = (first, last);
        if !(first..=last).contains(&self.next) {
            self.next = first;
        }
    }

    /// Size of the range.
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
/// Offsets from `next` on were never allocated by us. Released ones are in `freed`. So the search takes one step while
/// there are fresh offsets, and later at most as many as there are in quarantine. Most networks are empty, so an unused
/// pool takes no memory.
#[derive(Debug, Clone)]
pub(super) struct Addresses {
    size: u128,
    next: u128,
    /// Whether each of the offsets before [`FIRST_OFFSET`] is free.
    low: [bool; FIRST_OFFSET as usize],
    freed: BTreeSet<u128>,
}

/// Offsets 0 and 1 are the subnet's own and, usually, the gateway's; they are allocated after all fresh ones.
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

    /// A usable offset, if there is one. If an offset lies in a range that is not usable, `barred` returns the last
    /// offset of that range. So a range costs one step, however large it is.
    pub(super) fn find(&self, barred: impl Fn(u128) -> Option<u128>) -> Option<u128> {
        let mut offset = self.next;
        while offset < self.size {
            match barred(offset) {
                None => return Some(offset),
                Some(last) => offset = last.saturating_add(1),
            }
        }
        let mut low = (0..FIRST_OFFSET).zip(self.low);
        if let Some((offset, _)) = low.find(|(o, is_free)| *is_free && barred(*o).is_none()) {
            return Some(offset);
        }
        let mut from = 0;
        while let Some(offset) = self.freed.range(from..).next() {
            match barred(*offset) {
                None => return Some(*offset),
                Some(last) => from = last.saturating_add(1),
            }
        }
        None
    }

    /// Takes an offset. If an offset lies in a range whose offsets are in use or never allocated, `passed` returns the
    /// last offset of that range.
    pub(super) fn take(&mut self, offset: u128, passed: impl Fn(u128) -> Option<u128>) {
        if !self.set_low(offset, false) {
            self.freed.remove(&offset);
        }
        if offset == self.next {
            self.next = offset.saturating_add(1);
        }
        while self.next < self.size
            && let Some(last) = passed(self.next)
        {
            self.next = last.saturating_add(1);
        }
    }

    /// Records whether one of the first offsets is free; returns false if it is not one of these.
    fn set_low(&mut self, offset: u128, is_free: bool) -> bool {
        let low = usize::try_from(offset).ok().and_then(|at| self.low.get_mut(at));
        low.is_some_and(|low| {
            *low = is_free;
            true
        })
    }

    /// The first fresh offset.
    pub(super) fn cursor(&self) -> u128 {
        self.next
    }

    /// Restores the position that [`Addresses::cursor`] returned. All offsets that were taken from there on were given
    /// back.
    pub(super) fn set_cursor(&mut self, next: u128) {
        self.next = next;
        self.freed.split_off(&next);
    }

    /// Releases an offset.
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

    /// The set as ranges of one offset each.
    fn each(used: &BTreeSet<u128>) -> impl Fn(u128) -> Option<u128> + '_ {
        |o| used.contains(&o).then_some(o)
    }

    #[test]
    fn addresses_are_fresh_as_long_as_there_are_fresh_ones() {
        let mut pool = Addresses::new(3);
        let mut used = BTreeSet::from([0, 1, 4]);
        for expected in [2, 3, 5, 6, 7] {
            let found = pool.find(each(&used)).unwrap();
            assert_eq!(found, expected);
            used.insert(found);
            pool.take(found, each(&used));
            if found == 3 {
                used.remove(&2);
                pool.free(2);
            }
        }
        assert_eq!(pool.find(each(&used)), Some(2));
        used.insert(2);
        pool.take(2, |_| None);
        assert_eq!(pool.find(each(&used)), None);
    }

    #[test]
    fn a_large_reserved_range_is_passed_in_one_step() {
        use std::cell::Cell;
        let mut pool = Addresses::new(64);
        let end = 1u128 << 63;
        let mut used = BTreeSet::new();
        let asked = Cell::new(0);
        for expected in [end, end + 1, end + 2] {
            let barred = |used: &BTreeSet<u128>, o: u128| {
                asked.set(asked.get() + 1);
                (o < end).then_some(end - 1).or(used.contains(&o).then_some(o))
            };
            let found = pool.find(|o| barred(&used, o)).unwrap();
            assert_eq!(found, expected);
            used.insert(found);
            pool.take(found, |o| barred(&used, o));
        }
        assert!(asked.get() < 20, "{asked:?} steps");
        // If an attachment gives back a reserved address that it had named, the address stays reserved.
        pool.take(7, |_| None);
        pool.free(7);
        let barred = |o: u128| (o < end).then_some(end - 1);
        assert_eq!(pool.find(barred), Some(end + 3));
    }
}
