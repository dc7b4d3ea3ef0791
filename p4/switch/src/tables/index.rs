//! A hash index: from the hash of a key to slots, with the keys elsewhere.
//!
//! A bucket is 8 bytes, 32 bits of the hash and the slot, and eight fill a cache line. Buckets are kept in the order of
//! those 32 bits, of which the leading ones name the bucket where a search begins (linear probing in Robin Hood
//! order). So a search for what is not there ends as soon as it meets a larger hash, deletion leaves no tombstones, and
//! growing copies from front to back without looking at a key.
//!
//! Hashes are keyed by a random seed for each index: an outsider who chooses keys cannot choose which of them collide.

/// Stands for no slot.
pub const NO_SLOT: u32 = u32::MAX;

/// An unused bucket. Larger than any other, so that it ends every search.
const EMPTY: u64 = u64::MAX;

/// Smallest size: one cache line.
const MIN_BITS: u32 = 3;

/// Largest size that 32 bits of hash can address.
const MAX_BITS: u32 = 31;

/// A keyed hash over words: each is folded in by a 64x64 multiplication.
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

    /// What an [`Index`] is asked with.
    #[inline]
    pub fn finish(&self, hash: u64) -> u32 {
        let tag = (fold(hash ^ self.start, 0x9e37_79b9_7f4a_7c15) >> 32) as u32;
        // The largest would look like an empty bucket.
        tag.min(u32::MAX - 1)
    }

    /// Of whole keys.
    #[inline]
    pub fn hash(&self, words: &[u64]) -> u32 {
        self.finish(words.iter().fold(self.start, |h, w| self.add(h, *w)))
    }

    /// Of a string of bytes; strings of different lengths may have one hash.
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

/// Slots by hash.
#[derive(Debug, Clone)]
pub struct Index {
    buckets: Vec<u64>,
    bits: u32,
    len: usize,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            buckets: vec![EMPTY; room(MIN_BITS)],
            bits: MIN_BITS,
            len: 0,
        }
    }
}

/// Buckets of a size, with some behind the last home so that searches need not wrap around.
fn room(bits: u32) -> usize {
    (1 << bits) + 8 * bits as usize
}

fn pack(hash: u32, slot: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(slot)
}

fn hash_of(bucket: u64) -> u32 {
    (bucket >> 32) as u32
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

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<u64>()
    }

    #[inline]
    fn home(&self, hash: u32) -> usize {
        (hash >> (32 - self.bits)) as usize
    }

    /// The first slot under `hash` that `is_it` accepts.
    #[inline]
    pub fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
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

    /// Puts a slot in.
    pub fn insert(&mut self, hash: u32, slot: u32) {
        // Seven eighths full; a search then passes four buckets on average.
        if self.len >= (1 << self.bits) / 8 * 7 {
            self.resize(self.bits + 1);
        }
        let bucket = pack(hash, slot);
        while !self.place(bucket) && self.bits < MAX_BITS {
            self.resize(self.bits + 1);
        }
    }

    /// Puts a bucket in its place and moves those behind it up; false if there is no room.
    fn place(&mut self, bucket: u64) -> bool {
        let home = self.home(hash_of(bucket));
        let Some(run) = self.buckets.get_mut(home..) else {
            return false;
        };
        let Some(at) = run.iter().position(|b| *b > bucket) else {
            return false;
        };
        let Some(free) = run.iter().skip(at).position(|b| *b == EMPTY).map(|n| at + n) else {
            return false;
        };
        run.copy_within(at..free, at + 1);
        if let Some(place) = run.get_mut(at) {
            *place = bucket;
        }
        self.len += 1;
        true
    }

    fn position(&self, bucket: u64) -> Option<usize> {
        let home = self.home(hash_of(bucket));
        let run = self.buckets.get(home..)?;
        let at = run.iter().position(|b| *b >= bucket)?;
        (run.get(at) == Some(&bucket)).then_some(home + at)
    }

    /// Takes a slot out; false if it was not in.
    pub fn remove(&mut self, hash: u32, slot: u32) -> bool {
        let Some(at) = self.position(pack(hash, slot)) else {
            return false;
        };
        // What lies behind moves down, up to the first that is at home.
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
        if self.bits > MIN_BITS && self.len < (1 << self.bits) / 8 {
            self.resize(self.bits - 1);
        }
        true
    }

    /// Puts another slot in place of one under the same hash.
    pub fn replace(&mut self, hash: u32, old: u32, new: u32) {
        if self.remove(hash, old) {
            self.insert(hash, new);
        }
    }

    /// All slots, in order of their hashes.
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        self.buckets.iter().filter(|b| **b != EMPTY).map(|b| *b as u32)
    }

    fn resize(&mut self, bits: u32) {
        if bits > MAX_BITS {
            return;
        }
        self.bits = bits;
        let old = std::mem::replace(&mut self.buckets, vec![EMPTY; room(bits)]);
        let mut next = 0;
        for bucket in old.into_iter().filter(|b| *b != EMPTY) {
            let at = next.max(self.home(hash_of(bucket)));
            match self.buckets.get_mut(at) {
                Some(place) => *place = bucket,
                // They crowd at the end; there is always room behind.
                None => self.buckets.push(bucket),
            }
            next = at + 1;
        }
        if next >= self.buckets.len() {
            self.buckets.push(EMPTY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        /// Hashes from few bits collide and crowd at both ends; every slot is found, and none that is gone.
        #[test]
        fn behaves_as_a_set(ops in prop::collection::vec((any::<bool>(), 0_u32..40, 0_u32..4, any::<bool>()), 0..400)) {
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
