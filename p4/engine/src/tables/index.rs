//! A hash index: from the hash of a key to slots, with the keys elsewhere.
//!
//! A bucket is 8 bytes, 32 bits of the hash and the slot, and eight fill a cache line. Buckets are kept in the order of
//! those 32 bits, which also say where in the array a search begins (linear probing in Robin Hood order). So a search
//! for a missing key ends as soon as it meets a larger hash, deletion leaves no tombstones, and growing the array
//! copies it from front to back without reading a key.
//!
//! Arrays grow by a quarter, so that they are between 70 and 87 percent full. When an index has more than [`SEGMENT`]
//! slots for each of its arrays, one of them is split in two by the lowest bits of the hash; each array has its turn
//! (*linear hashing*, Litwin, 1980). So no insertion ever moves more than the slots of one array.
//!
//! Hashes are keyed by a random seed for each index: an outsider who chooses keys cannot choose which of them collide.

/// Stands for no slot.
pub const NO_SLOT: u32 = u32::MAX;

/// An unused bucket. Larger than any other, so that it ends every search.
const EMPTY: u64 = u64::MAX;

/// Smallest array: one cache line.
const MIN_SIZE: u32 = 8;

/// If arrays have more slots than this on average, one is split. Moving its slots takes some tens of microseconds.
const SEGMENT: usize = if cfg!(test) { 32 } else { 1 << 14 };

/// A keyed hash over words. Each word is mixed in by a 64x64 multiplication.
#[derive(Debug, Clone, Copy)]
pub struct Seed {
    start: u64,
    factor: u64,
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

impl Seed {
    /// A seed that nobody knows.
    pub fn random() -> Self {
        Self {
            start: rand::random(),
            factor: rand::random::<u64>() | 1,
        }
    }

    /// The hash of no words.
    #[inline]
    pub fn start(&self) -> u64 {
        self.start
    }

    /// The hash with one more word.
    #[inline]
    pub fn add(&self, hash: u64, word: u64) -> u64 {
        fold(hash ^ word, self.factor)
    }

    /// The hash by which an [`Index`] finds a key.
    #[inline]
    pub fn finish(&self, hash: u64) -> u32 {
        let tag = (fold(hash ^ self.start, 0x9e37_79b9_7f4a_7c15) >> 32) as u32;
        // The largest would look like an empty bucket.
        tag.min(u32::MAX - 1)
    }

    /// The hash of a whole key.
    #[inline]
    pub fn hash(&self, words: &[u64]) -> u32 {
        self.finish(words.iter().fold(self.start, |h, w| self.add(h, *w)))
    }

    /// The hash of a string of bytes; strings of different lengths may have one hash.
    #[inline]
    pub fn hash_bytes(&self, bytes: &[u8]) -> u32 {
        let (words, rest) = bytes.as_chunks::<8>();
        let hash = words
            .iter()
            .fold(self.start, |h, w| self.add(h, u64::from_le_bytes(*w)));
        let last = rest.iter().fold(0, |w, b| w << 8 | u64::from(*b));
        self.finish(self.add(hash, last))
    }
}

fn pack(hash: u32, slot: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(slot)
}

fn hash_of(bucket: u64) -> u32 {
    (bucket >> 32) as u32
}

/// The first bucket from `at` on that matches, or the end.
#[inline]
fn seek(buckets: &[u64], at: usize, is_it: impl Fn(u64) -> bool) -> usize {
    let run = buckets.get(at..).unwrap_or_default();
    at + run.iter().position(|b| is_it(*b)).unwrap_or(run.len())
}

/// One array of buckets.
#[derive(Debug, Clone)]
struct Segment {
    /// `size` homes, and some buckets behind so that searches need not wrap around.
    buckets: Vec<u64>,
    size: u32,
    len: u32,
}

impl Segment {
    /// An array of buckets that are in order.
    fn of(size: u32, ordered: impl Iterator<Item = u64>) -> Self {
        let size = size.max(MIN_SIZE);
        let behind = 8 * (u32::BITS - size.leading_zeros()) as usize;
        let mut segment = Self {
            buckets: vec![EMPTY; size as usize + behind],
            size,
            len: 0,
        };
        let mut next = 0;
        for bucket in ordered {
            let at = next.max(segment.home(hash_of(bucket)));
            // They may crowd at the end.
            if at >= segment.buckets.len() {
                segment.buckets.resize(at + 1, EMPTY);
            }
            if let Some(place) = segment.buckets.get_mut(at) {
                *place = bucket;
            }
            next = at + 1;
            segment.len += 1;
        }
        // The last stays empty, so that every search ends.
        if next >= segment.buckets.len() {
            segment.buckets.push(EMPTY);
        }
        segment
    }

    #[inline]
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * u64::from(self.size)) >> 32) as usize
    }

    #[inline]
    fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        for bucket in self.buckets.get(self.home(hash)..)? {
            let found = hash_of(*bucket);
            if found >= hash {
                if found > hash {
                    return None;
                }
                if is_it(*bucket as u32) {
                    return Some(*bucket as u32);
                }
            }
        }
        None
    }

    fn insert(&mut self, bucket: u64) {
        // Seven eighths full; a search then passes four buckets on average.
        if self.len >= self.size / 8 * 7 {
            self.resize(self.size + (self.size / 4).max(MIN_SIZE));
        }
        self.place(bucket);
    }

    /// Puts a bucket in its place and moves those behind it up.
    fn place(&mut self, bucket: u64) {
        let at = self.home(hash_of(bucket));
        let at = seek(&self.buckets, at, |b| b > bucket);
        let free = seek(&self.buckets, at, |b| b == EMPTY);
        // The last stays empty, so that every search ends.
        if free + 1 >= self.buckets.len() {
            self.buckets.resize(free + 2, EMPTY);
        }
        self.buckets.copy_within(at..free, at + 1);
        if let Some(place) = self.buckets.get_mut(at) {
            *place = bucket;
        }
        self.len += 1;
    }

    fn position(&self, bucket: u64) -> Option<usize> {
        let home = self.home(hash_of(bucket));
        let run = self.buckets.get(home..)?;
        let at = run.iter().position(|b| *b >= bucket)?;
        (run.get(at) == Some(&bucket)).then_some(home + at)
    }

    fn remove(&mut self, bucket: u64) -> bool {
        let Some(at) = self.position(bucket) else {
            return false;
        };
        // The buckets behind it move down, up to the first one that is at its own place.
        let mut end = at + 1;
        while let Some(bucket) = self.buckets.get(end)
            && *bucket != EMPTY
            && self.home(hash_of(*bucket)) < end
        {
            end += 1;
        }
        self.buckets.copy_within(at + 1..end, at);
        if let Some(last) = self.buckets.get_mut(end - 1) {
            *last = EMPTY;
        }
        self.len -= 1;
        if self.size > MIN_SIZE && self.len < self.size / 8 {
            self.resize(self.size / 4);
        }
        true
    }

    /// Puts another slot in place of one under the same hash, if that keeps the order.
    fn replace(&mut self, old: u64, new: u64) -> bool {
        let Some(at) = self.position(old) else { return false };
        let beside = |at: usize| self.buckets.get(at).copied();
        let fits = beside(at.wrapping_sub(1)).is_none_or(|before| before <= new)
            && beside(at + 1).is_none_or(|after| after >= new);
        match self.buckets.get_mut(at) {
            Some(place) if fits => {
                *place = new;
                true
            }
            _ => false,
        }
    }

    fn iter(&self) -> impl Iterator<Item = u64> {
        self.buckets.iter().copied().filter(|b| *b != EMPTY)
    }

    fn resize(&mut self, size: u32) {
        *self = Self::of(size, self.iter());
    }

    /// An array for these, three quarters full.
    fn fitting(ordered: &[u64]) -> Self {
        Self::of(ordered.len() as u32 / 3 * 4, ordered.iter().copied())
    }
}

/// Slots by hash.
#[derive(Debug, Clone)]
pub struct Index {
    first: Segment,
    /// The second and further arrays.
    more: Vec<Segment>,
    len: usize,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            first: Segment::of(MIN_SIZE, std::iter::empty()),
            more: Vec::new(),
            len: 0,
        }
    }
}

/// Which of `count` arrays a hash belongs to.
#[inline]
fn segment_of(hash: u32, count: usize) -> usize {
    let all = count.next_power_of_two() - 1;
    let at = hash as usize & all;
    // That array is not split off yet.
    if at < count { at } else { at & (all >> 1) }
}

impl Index {
    /// Slots in it.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn segments(&self) -> impl Iterator<Item = &Segment> {
        std::iter::once(&self.first).chain(&self.more)
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        let buckets: usize = self.segments().map(|s| s.buckets.capacity() * size_of::<u64>()).sum();
        buckets + self.more.capacity() * size_of::<Segment>()
    }

    #[inline]
    fn segment(&self, hash: u32) -> &Segment {
        if self.more.is_empty() {
            return &self.first;
        }
        let at = segment_of(hash, self.more.len() + 1);
        self.more.get(at.wrapping_sub(1)).unwrap_or(&self.first)
    }

    fn segment_mut(&mut self, hash: u32) -> &mut Segment {
        let at = segment_of(hash, self.more.len() + 1);
        self.more.get_mut(at.wrapping_sub(1)).unwrap_or(&mut self.first)
    }

    /// The first slot under `hash` that `is_it` accepts.
    #[inline]
    pub fn find(&self, hash: u32, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.segment(hash).find(hash, is_it)
    }

    /// Puts a slot in.
    pub fn insert(&mut self, hash: u32, slot: u32) {
        self.segment_mut(hash).insert(pack(hash, slot));
        self.len += 1;
        if self.len > SEGMENT * (self.more.len() + 1) {
            self.split();
        }
    }

    /// Splits the array whose turn it is.
    fn split(&mut self) {
        let count = self.more.len() + 1;
        let bit = 1 << count.ilog2();
        // Any hash that belongs there.
        let of = (count - bit) as u32;
        let parent = self.segment_mut(of);
        let (stay, go): (Vec<u64>, Vec<u64>) = parent.iter().partition(|b| hash_of(*b) as usize & bit == 0);
        *parent = Segment::fitting(&stay);
        self.more.push(Segment::fitting(&go));
    }

    /// Takes a slot out; false if it was not in.
    pub fn remove(&mut self, hash: u32, slot: u32) -> bool {
        let removed = self.segment_mut(hash).remove(pack(hash, slot));
        self.len -= usize::from(removed);
        // This is well below the size at which the bucket would be split again.
        if !self.more.is_empty() && self.len < SEGMENT / 4 * self.more.len() {
            self.join();
        }
        removed
    }

    /// Puts the last array back into the one that it was split from.
    fn join(&mut self) {
        let Some(last) = self.more.pop() else { return };
        if self.more.capacity() > 8 + 4 * self.more.len() {
            self.more.shrink_to(2 * self.more.len());
        }
        let at = self.more.len() + 1;
        let parent = self.segment_mut((at - (1 << at.ilog2())) as u32);
        let mut all: Vec<u64> = parent.iter().chain(last.iter()).collect();
        all.sort_unstable();
        *parent = Segment::fitting(&all);
    }

    /// Puts another slot in place of one under the same hash.
    pub fn replace(&mut self, hash: u32, old: u32, new: u32) {
        let segment = self.segment_mut(hash);
        if !segment.replace(pack(hash, old), pack(hash, new)) && segment.remove(pack(hash, old)) {
            segment.insert(pack(hash, new));
        }
    }

    /// All slots.
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        self.segments().flat_map(Segment::iter).map(|b| b as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        /// Hashes from few bits collide and crowd at both ends. Every slot is found, and no removed one is.
        #[test]
        fn behaves_as_a_set(ops in prop::collection::vec((any::<bool>(), 0_u32..40, 0_u32..4, any::<bool>()), 0..600)) {
            let mut index = Index::default();
            let mut model = BTreeSet::new();
            for (insert, hash, slot, high) in ops {
                let hash = if high { u32::MAX - 1 - hash } else { hash };
                if insert && model.insert((hash, slot)) {
                    index.insert(hash, slot);
                } else if !insert {
                    prop_assert_eq!(index.remove(hash, slot), model.remove(&(hash, slot)));
                }
                prop_assert_eq!(index.len(), model.len());
            }
            for hash in (0..40).flat_map(|h| [h, u32::MAX - 1 - h]) {
                for slot in 0..4 {
                    let found = index.find(hash, |s| s == slot).is_some();
                    prop_assert_eq!(found, model.contains(&(hash, slot)));
                }
            }
        }
    }

    #[test]
    fn shrinks_again() {
        let seed = Seed::random();
        let mut index = Index::default();
        let hash = |n: u32| seed.hash(&[n.into()]);
        (0..10_000).for_each(|n| index.insert(hash(n), n));
        assert!((0..10_000).all(|n| index.find(hash(n), |s| s == n).is_some()));
        (0..10_000).for_each(|n| assert!(index.remove(hash(n), n)));
        assert!(index.bytes() < 1024);
    }
}
