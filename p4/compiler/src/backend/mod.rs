//! What a compiled program is turned into.

pub mod bindings;
pub(crate) mod bmv2;
pub(crate) mod entries;
pub(crate) mod p4info;
