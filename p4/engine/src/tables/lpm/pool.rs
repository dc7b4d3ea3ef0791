//! Short arrays in one long one, by the buddy system (Knowlton, 1965).
//!
//! Arrays come in sizes that are powers of two, and lie at multiples of their size. One that is given back is joined with
//! its other half if that is free too. The nodes of a trie grow at the same pace, so without joining, the space of
//! smaller arrays would be of no use to the larger ones.

/// Sizes: 1 to 64, which holds all children of a node.
const ORDERS: usize = 7;

/// The order of the smallest size that holds `len`.
fn order(len: usize) -> usize {
    (len.max(1).next_power_of_two().trailing_zeros() as usize).min(ORDERS - 1)
}

/// Stale entries that a list may have before it is tidied up.
const STALE: usize = 256;

/// Free blocks of one order.
#[derive(Debug, Clone, Default)]
struct Free {
    /// Where they begin, and some that are not free any more.
    list: Vec<u32>,
    /// A bit for each block of this order.
    is_free: Vec<u64>,
    len: usize,
}

impl Free {
    fn place(block: u32) -> (usize, u64) {
        (block as usize / 64, 1 << (block % 64))
    }

    /// Notes a block, by its number, as free.
    fn put(&mut self, block: u32) {
        let (word, bit) = Self::place(block);
        if self.is_free.len() <= word {
            self.is_free.resize(word + 1, 0);
        }
        if let Some(bits) = self.is_free.get_mut(word) {
            *bits |= bit;
        }
        self.len += 1;
        if self.list.len() > STALE + 2 * self.len {
            self.list.sort_unstable();
            self.list.dedup();
            let is_free = &self.is_free;
            self.list.retain(|block| {
                let (word, bit) = Self::place(*block);
                is_free.get(word).is_some_and(|bits| bits & bit != 0)
            });
        }
        self.list.push(block);
    }

    /// Takes this very block; false if it is not free.
    fn take(&mut self, block: u32) -> bool {
        let (word, bit) = Self::place(block);
        match self.is_free.get_mut(word) {
            Some(bits) if *bits & bit != 0 => {
                *bits &= !bit;
                self.len -= 1;
                true
            }
            _ => false,
        }
    }

    /// Takes any block.
    fn take_any(&mut self) -> Option<u32> {
        while let Some(block) = self.list.pop() {
            if self.take(block) {
                return Some(block);
            }
        }
        None
    }

    fn bytes(&self) -> usize {
        self.list.capacity() * size_of::<u32>() + self.is_free.capacity() * size_of::<u64>()
    }
}

/// Arrays of `T` of up to 64 elements, named by the index of their first.
#[derive(Debug, Clone)]
pub(super) struct Pool<T> {
    items: Vec<T>,
    free: [Free; ORDERS],
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            free: Default::default(),
        }
    }
}

impl<T: Copy + Default> Pool<T> {
    pub(super) fn bytes(&self) -> usize {
        self.items.capacity() * size_of::<T>() + self.free.iter().map(Free::bytes).sum::<usize>()
    }

    #[inline]
    pub(super) fn get(&self, at: u32) -> Option<&T> {
        self.items.get(at as usize)
    }

    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.items.get_mut(at as usize)
    }

    fn free(&mut self, order: usize, block: u32) {
        if let Some(free) = self.free.get_mut(order) {
            free.put(block);
        }
    }

    /// A new array of this many.
    pub(super) fn allocate(&mut self, len: usize) -> u32 {
        let wanted = order(len);
        for found in wanted..ORDERS {
            let Some(block) = self.free.get_mut(found).and_then(Free::take_any) else {
                continue;
            };
            // What is too much goes back by halves.
            let at = block << found;
            (wanted..found).for_each(|order| self.free(order, (at >> order) + 1));
            return at;
        }
        // A whole one of the largest size at a time keeps all at multiples of their size.
        let at = self.items.len();
        self.items.resize(at + (1 << (ORDERS - 1)), T::default());
        let at = at as u32;
        (wanted..ORDERS - 1).for_each(|order| self.free(order, (at >> order) + 1));
        at
    }

    /// A new array of these two.
    pub(super) fn pair(&mut self, items: [T; 2]) -> u32 {
        let at = self.allocate(2);
        for (place, item) in (at..).zip(items) {
            if let Some(to) = self.get_mut(place) {
                *to = item;
            }
        }
        at
    }

    /// Gives an array of this many back.
    pub(super) fn release(&mut self, at: u32, len: usize) {
        if len == 0 {
            return;
        }
        let mut order = order(len);
        let mut block = at >> order;
        while order < ORDERS - 1 && self.free.get_mut(order).is_some_and(|free| free.take(block ^ 1)) {
            block >>= 1;
            order += 1;
        }
        self.free(order, block);
    }

    /// Puts an element into an array of `len`, which may move.
    pub(super) fn insert(&mut self, at: u32, len: usize, place: usize, item: T) -> u32 {
        let (old, mut new) = (at as usize, at as usize);
        if len == 0 || order(len) != order(len + 1) {
            new = self.allocate(len + 1) as usize;
            self.items.copy_within(old..old + place.min(len), new);
        }
        if old != new || place < len {
            self.items.copy_within(old + place..old + len, new + place + 1);
        }
        if let Some(slot) = self.items.get_mut(new + place) {
            *slot = item;
        }
        if old != new {
            self.release(at, len);
        }
        new as u32
    }

    /// Takes an element out of an array of `len`, which may move.
    pub(super) fn remove(&mut self, at: u32, len: usize, place: usize) -> u32 {
        let (old, mut new) = (at as usize, at as usize);
        if len == 1 {
            self.release(at, len);
            return 0;
        }
        if order(len) != order(len - 1) {
            new = self.allocate(len - 1) as usize;
            self.items.copy_within(old..old + place, new);
        }
        self.items.copy_within(old + place + 1..old + len, new + place);
        if old != new {
            self.release(at, len);
        }
        new as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    /// Arrays that grow and shrink never overlap, and when all are gone there is one free block for each that was made.
    #[test]
    fn arrays_keep_apart_and_join_again() {
        let mut rng = StdRng::seed_from_u64(3);
        let mut pool: Pool<u32> = Pool::default();
        let mut arrays: Vec<(u32, Vec<u32>)> = Vec::new();
        for n in 0..20_000 {
            let grows = rng.random_ratio(if n < 10_000 { 3 } else { 1 }, 4);
            if grows && rng.random_ratio(1, 4) {
                arrays.push((0, Vec::new()));
            }
            if arrays.is_empty() {
                continue;
            }
            let at = rng.random_range(0..arrays.len());
            let (start, held) = &mut arrays[at];
            if grows && held.len() < 64 {
                let place = rng.random_range(0..=held.len());
                *start = pool.insert(*start, held.len(), place, n);
                held.insert(place, n);
            } else if !grows && !held.is_empty() {
                let place = rng.random_range(0..held.len());
                *start = pool.remove(*start, held.len(), place);
                held.remove(place);
            }
            if n % 64 == 0 {
                for (start, held) in &arrays {
                    let of = |i: usize| pool.get(start + i as u32).copied();
                    assert!(held.iter().enumerate().all(|(i, n)| of(i) == Some(*n)));
                }
            }
        }
        for (start, held) in &arrays {
            pool.release(*start, held.len());
        }
        assert_eq!(pool.free[ORDERS - 1].len, pool.items.len() / 64);
        assert!(pool.free[..ORDERS - 1].iter().all(|free| free.len == 0));
    }
}
