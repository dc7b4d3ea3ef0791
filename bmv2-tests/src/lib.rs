//! Whole-system tests.

pub mod venv;
