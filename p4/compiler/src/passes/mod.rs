//! From the typed program to flat code.
pub mod lower;
pub mod simplify;
