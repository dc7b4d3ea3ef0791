//! Direct resources of entries, by slot: counter, meter and time of last hit.
//!
//! They exist once, beside the two copies of the tables: packets change them and control planes read and set them, all
//! without a lock (a meter has one for itself). Arrays grow by chunks that never move.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::meter::Meter;

/// Packets and octets.
#[derive(Debug, Default)]
pub struct Counter {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    /// Counts a packet.
    #[inline]
    pub fn count(&self, bytes: usize) {
        self.add(1, bytes as u64);
    }

    /// Counts several packets.
    #[inline]
    pub fn add(&self, packets: u64, bytes: u64) {
        self.packets.fetch_add(packets, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Packets and octets so far.
    pub fn get(&self) -> (u64, u64) {
        (self.packets.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Sets it.
    pub fn set(&self, packets: u64, bytes: u64) {
        self.packets.store(packets, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }
}

/// Elements of the first chunk, as a power of two; each further one is twice as long.
const FIRST_BITS: u32 = 8;

/// Chunks for all slots that 32 bits name.
const CHUNKS: usize = 33 - FIRST_BITS as usize;

/// An array that grows while others use it; its elements start as their default.
#[derive(Debug)]
pub struct SlotArray<T> {
    chunks: [OnceLock<Box<[T]>>; CHUNKS],
}

impl<T> Default for SlotArray<T> {
    fn default() -> Self {
        Self {
            chunks: [const { OnceLock::new() }; CHUNKS],
        }
    }
}

impl<T: Default> SlotArray<T> {
    /// Chunk, length of it, and place in it.
    #[inline]
    fn place(slot: u32) -> (usize, usize, usize) {
        let n = u64::from(slot) + (1 << FIRST_BITS);
        let bits = 63 - n.leading_zeros();
        let start = 1_u64 << bits;
        ((bits - FIRST_BITS) as usize, start as usize, (n - start) as usize)
    }

    /// The element of a slot for which [`Self::ensure`] was called.
    #[inline]
    pub fn get(&self, slot: u32) -> Option<&T> {
        let (chunk, _, at) = Self::place(slot);
        self.chunks.get(chunk)?.get()?.get(at)
    }

    /// The element of a slot, made if need be.
    pub fn ensure(&self, slot: u32) -> Option<&T> {
        let (chunk, len, at) = Self::place(slot);
        let chunk = self.chunks.get(chunk)?;
        chunk.get_or_init(|| (0..len).map(|_| T::default()).collect()).get(at)
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        let lens = self.chunks.iter().filter_map(|c| c.get().map(|c| c.len()));
        lens.sum::<usize>() * size_of::<T>()
    }
}

/// The direct resources of one table's entries; arrays that the program does not need are absent.
#[derive(Debug, Default)]
pub struct Direct {
    /// Direct counters.
    pub counters: Option<SlotArray<Counter>>,
    /// Direct meters.
    pub meters: Option<SlotArray<Meter>>,
    /// When entries were last hit, or put in, in nanoseconds of the switch's clock.
    pub last_hit_ns: Option<SlotArray<AtomicU64>>,
    /// Counter of the default entry.
    pub default_counter: Counter,
    /// Meter of the default entry.
    pub default_meter: Meter,
}

impl Direct {
    /// `counter`, `meter` and `ages` say which resources the table needs.
    pub fn new(counter: bool, meter: bool, ages: bool) -> Self {
        Self {
            counters: counter.then(SlotArray::default),
            meters: meter.then(SlotArray::default),
            last_hit_ns: ages.then(SlotArray::default),
            ..Self::default()
        }
    }

    /// Makes a slot ready for a new entry: counter and meter start afresh.
    pub fn start(&self, slot: u32, now_ns: u64) {
        if let Some(counter) = self.counters.as_ref().and_then(|c| c.ensure(slot)) {
            counter.set(0, 0);
        }
        if let Some(meter) = self.meters.as_ref().and_then(|m| m.ensure(slot)) {
            meter.configure(None, now_ns);
            meter.marked().iter().for_each(|c| c.set(0, 0));
        }
        if let Some(hit) = self.last_hit_ns.as_ref().and_then(|h| h.ensure(slot)) {
            hit.store(now_ns, Ordering::Relaxed);
        }
    }

    /// Counter of an entry, or of the default entry.
    #[inline]
    pub fn counter(&self, slot: Option<u32>) -> Option<&Counter> {
        match slot {
            Some(slot) => self.counters.as_ref()?.get(slot),
            None => Some(&self.default_counter),
        }
    }

    /// Meter of an entry, or of the default entry.
    #[inline]
    pub fn meter(&self, slot: Option<u32>) -> Option<&Meter> {
        match slot {
            Some(slot) => self.meters.as_ref()?.get(slot),
            None => Some(&self.default_meter),
        }
    }

    /// Notes a hit of an entry of a table that ages.
    #[inline]
    pub fn hit(&self, slot: u32, now_ns: u64) {
        if let Some(hit) = self.last_hit_ns.as_ref().and_then(|h| h.get(slot)) {
            hit.store(now_ns, Ordering::Relaxed);
        }
    }

    /// When an entry was last hit or put in.
    pub fn last_hit_ns(&self, slot: u32) -> Option<u64> {
        Some(self.last_hit_ns.as_ref()?.get(slot)?.load(Ordering::Relaxed))
    }

    /// Bytes it takes.
    pub fn bytes(&self) -> usize {
        self.counters.as_ref().map_or(0, SlotArray::bytes)
            + self.meters.as_ref().map_or(0, SlotArray::bytes)
            + self.last_hit_ns.as_ref().map_or(0, SlotArray::bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_have_one_place_each() {
        let array: SlotArray<AtomicU64> = SlotArray::default();
        assert!(array.get(0).is_none());
        for slot in 0..5000 {
            array.ensure(slot).unwrap().store(slot.into(), Ordering::Relaxed);
        }
        assert!((0..5000).all(|slot| array.get(slot).unwrap().load(Ordering::Relaxed) == u64::from(slot)));
        assert_eq!(SlotArray::<u8>::place(u32::MAX).0, CHUNKS - 1);
    }
}
