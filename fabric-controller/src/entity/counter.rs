//! Counters of devices: queries and results.

use super::EntityKey;

/// Which counters to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CounterQuery {
    /// All cells of an indirect counter, by P4Info id.
    Indirect {
        /// P4Info id of the counter.
        counter_id: u32,
    },
    /// The direct counters of all entries of a table, by P4Info id.
    Direct {
        /// P4Info id of the table.
        table_id: u32,
    },
}

/// Which cell of a counter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CounterCell {
    /// Of an indirect counter: its index.
    Index(u64),
    /// Of a table's direct counter: the entry.
    Entry(EntityKey),
    /// Of a table's direct counter: its default entry (the misses).
    Default,
}

/// One counter cell that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterValue {
    /// The query to which it belongs.
    pub query: CounterQuery,
    /// The cell.
    pub cell: CounterCell,
    /// Packets counted.
    pub packets: u64,
    /// Octets counted.
    pub bytes: u64,
}
