//! Short arrays in one long one, with free lists by size.

/// Sizes that arrays come in; at most a third is wasted. The largest holds all children of a node.
const SIZES: [usize; 12] = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64];

/// The index of the smallest size that holds `len`.
fn class(len: usize) -> usize {
    SIZES.partition_point(|s| *s < len).min(SIZES.len() - 1)
}

/// Arrays of `T` of up to 64 elements, named by the index of their first.
#[derive(Debug, Clone)]
pub(super) struct Pool<T> {
    items: Vec<T>,
    free: [Vec<u32>; SIZES.len()],
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
        let free: usize = self.free.iter().map(|f| f.capacity() * size_of::<u32>()).sum();
        self.items.capacity() * size_of::<T>() + free
    }

    #[inline]
    pub(super) fn get(&self, at: u32) -> Option<&T> {
        self.items.get(at as usize)
    }

    pub(super) fn get_mut(&mut self, at: u32) -> Option<&mut T> {
        self.items.get_mut(at as usize)
    }

    /// A new array of this many.
    pub(super) fn allocate(&mut self, len: usize) -> u32 {
        let class = class(len);
        let free = self.free.get_mut(class).and_then(Vec::pop);
        free.unwrap_or_else(|| {
            let at = self.items.len();
            let size = SIZES.get(class).copied().unwrap_or(len);
            self.items.resize(at + size, T::default());
            at as u32
        })
    }

    /// Gives an array of this many back.
    pub(super) fn release(&mut self, at: u32, len: usize) {
        if len > 0
            && let Some(free) = self.free.get_mut(class(len))
        {
            free.push(at);
        }
    }

    /// Puts an element into an array of `len`, which may move.
    pub(super) fn insert(&mut self, at: u32, len: usize, place: usize, item: T) -> u32 {
        let (old, mut new) = (at as usize, at as usize);
        if len == 0 || class(len) != class(len + 1) {
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
        if class(len) != class(len - 1) {
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
