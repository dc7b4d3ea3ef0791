//! Counts for direct counters, kept by each worker until its burst ends.
//!
//! An addition that other processors must see costs ten times as much as a local one, and in
//! a burst the same entries are hit again and again.

use crate::tables::store::Store;

/// Most entries that a worker counts at the same time. Before it counts a further one, it adds the count of another to
/// that entry's counter.
const CELLS: usize = 256;
/// Bits of an index of a cell.
const BITS: u32 = CELLS.trailing_zeros();

/// Stands for the default entry of a table.
const DEFAULT: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    /// Table and slot of the entry.
    entry: (u32, u32),
    /// 0 where the cell is not in use.
    packets: u64,
    bytes: u64,
}

/// Counts of entries.
#[derive(Debug)]
pub(crate) struct Counts {
    cells: Box<[Cell; CELLS]>,
    /// Cells in use.
    used: Vec<u8>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            cells: Box::new([Cell::default(); CELLS]),
            used: Vec::with_capacity(CELLS),
        }
    }
}

impl Cell {
    fn send(&self, store: &Store) {
        let (table, slot) = self.entry;
        let direct = store.direct(table as usize);
        let slot = (slot != DEFAULT).then_some(slot);
        if let Some(counter) = direct.and_then(|d| d.counter(slot)) {
            counter.add(self.packets, self.bytes);
        }
    }
}

impl Counts {
    /// Counts a packet for an entry, or for the default entry.
    #[inline]
    pub(crate) fn add(&mut self, store: &Store, table: u32, slot: Option<u32>, bytes: u64) {
        let entry = (table, slot.unwrap_or(DEFAULT));
        // Neighbouring slots and tables go to different cells (Fibonacci hashing).
        let mixed = (u64::from(entry.1) << 32 | u64::from(table)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let at = (mixed >> (64 - BITS)) as usize;
        let cell = &mut self.cells[at];
        if cell.packets == 0 {
            self.used.push(at as u8);
        } else if cell.entry == entry {
            cell.packets += 1;
            cell.bytes += bytes;
            return;
        } else {
            cell.send(store);
        }
        *cell = Cell {
            entry,
            packets: 1,
            bytes,
        };
    }

    /// Adds all counts to the counters.
    pub(crate) fn flush(&mut self, store: &Store) {
        for at in self.used.drain(..) {
            let cell = &mut self.cells[usize::from(at)];
            cell.send(store);
            cell.packets = 0;
        }
    }
}
