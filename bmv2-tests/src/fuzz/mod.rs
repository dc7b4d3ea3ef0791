//! Bodies of the fuzz targets, as plain functions.
//!
//! Each takes arbitrary octets and must neither panic nor contradict itself; an `Err` is a finding.
//! `cargo xtask fuzz NAME --seconds N` runs one on a seed corpus with reproducible mutations; the targets in `fuzz/`
//! pass them to libFuzzer. Each input that once was a finding is kept as a file in `regressions/NAME/`, and the tests
//! run it from then on.

pub mod batch;
mod boot;
mod daemons;
pub mod differential;
pub mod frames;
pub mod generate;
mod mutate;
mod p4_tools;

use std::path::PathBuf;

pub use mutate::{Finding, Mutator, run};

/// One target.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name on command lines.
    pub name: &'static str,
    /// The property that must hold for any input.
    pub about: &'static str,
    /// Inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Takes any input.
    pub body: fn(&[u8]) -> Result<(), String>,
}

/// All targets.
pub fn targets() -> impl Iterator<Item = &'static Target> {
    p4_tools::TARGETS.iter().chain(&daemons::TARGETS).chain(&boot::TARGETS)
}

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    targets().find(|t| t.name == name)
}

/// Runs one target on one input.
///
/// # Errors
/// The finding, or that there is no such target.
pub fn body(name: &str, data: &[u8]) -> Result<(), String> {
    let target = target(name).ok_or_else(|| format!("no target {name}"))?;
    (target.body)(data)
}

/// The folder with a target's earlier findings, one file each. Every run begins with them.
pub fn regressions(target: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/regressions")).join(target)
}
