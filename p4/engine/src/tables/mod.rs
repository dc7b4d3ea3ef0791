//! Match tables of the packet engine, which writers change and packets read.
//!
//! A library without I/O. [`store`] holds everything that a control plane writes - entries, default actions, members
//! and groups of action profiles, multicast groups, clone sessions, value sets - in two copies. Packets read one copy
//! while a writer changes the other; then they are exchanged, so a batch of any size and over any tables becomes
//! visible at once, and neither side waits for a lock ([`snapshot`]).
//!
//! # Keys
//! A look-up key is `&[u64]`: every match field takes `ceil(width / 64)` words, most significant word first, in the
//! order of the table's key ([`layout`]). The key of an entry, its *pattern*, is two such keys: values and masks (for a
//! range, low and high bounds).
//!
//! # Structures
//!
//! | key | structure | a look-up costs |
//! | --- | --- | --- |
//! | exact, optional never left out | open addressing, keyed hash ([`index`]) | one bucket, one record |
//! | one LPM field, any exact ones | trie of 6 bits a level, paths compressed ([`lpm`]) | a node for each level that branches |
//! | ternary, range, optional | tuple space with merged tuples ([`ternary`]) | a bucket for each tuple that may still have a better priority |
//!
//! All of them lead to the *place* of the entry's record ([`records`]), in which action and arguments lie side by side
//! with what the structure compares, and the entry's *slot*: the index of its counter, meter and time of last hit
//! ([`direct`]). Records and what is at slots exist once for both copies. A modification writes a new record in another
//! place ([`shared`]); the slot stays.
//!
//! # Cost
//! Inserting, modifying and deleting cost what they touch, in both copies: hash tables double when full, so insertion
//! is constant when spread over all; nothing else walks a table. An entry takes, in bytes, with `a` words of arguments
//! and `k` of its key (packed, for ternary):
//!
//! | structure | once | in each copy |
//! | --- | --- | --- |
//! | exact | 8 + 8a + 8k record, 4 place of the slot | 9 to 18 bucket |
//! | LPM | 8 + 8a record, 4 place of the slot | about 60 nodes |
//! | ternary | 8 + 8a + 8 + 16k record, 4 place of the slot | 9 to 18 bucket, 4 next of the list |
//!
//! # What this does not do
//! This module validates nothing; the P4Runtime server does that. (Two mistakes do no harm: a pattern that is not
//! canonical is made canonical, and large slot numbers only cost memory.) It runs no actions.
pub mod direct;
pub mod index;
pub mod layout;
pub mod lpm;
pub mod meter;
pub mod records;
mod shared;
pub mod snapshot;
pub mod state;
pub mod store;
pub mod table;
pub mod ternary;
#[cfg(test)]
mod tests;

pub use direct::{Counter, Direct, SlotArray};
pub use layout::{FieldKind, FieldMatch, KeyField, KeyLayout};
pub use lpm::ABREAST;
pub use records::{Leads, Record};
pub use state::{CloneSession, Group, GroupMember, Replica, Tables};
pub use store::{ActionCall, Choice, Slots, Store, TableSpec, Target, Transaction, Writer};
pub use table::Table;
