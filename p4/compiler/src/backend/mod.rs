//! What a compiled program is turned into.

pub mod bindings;
