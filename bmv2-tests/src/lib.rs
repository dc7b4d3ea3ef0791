//! Whole-system tests.

pub mod p4info_diff;
pub mod venv;
