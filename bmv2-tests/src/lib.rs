//! Whole-system tests, and what they share.

pub mod fuzz;
pub mod p4info_diff;
pub mod program;
pub mod stf;
pub mod venv;
