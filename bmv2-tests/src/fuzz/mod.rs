//! Bodies of the fuzz targets, as plain functions.
//!
//! Each takes octets that anybody may have sent and must neither panic nor contradict itself; an `Err` is a finding.
//! `cargo xtask fuzz NAME --seconds N` runs one on a seed corpus that is mutated in a fixed way, the targets in `fuzz/`
//! hand them to libFuzzer.

pub mod differential;
pub mod generate;
mod mutate;
mod targets;

pub use mutate::{Mutator, run};
pub use targets::{TARGETS, Target};

/// Runs one target on one input.
///
/// # Errors
/// The finding, or that there is no such target.
pub fn body(name: &str, data: &[u8]) -> Result<(), String> {
    let target = TARGETS.iter().find(|t| t.name == name);
    let target = target.ok_or_else(|| format!("no target {name}"))?;
    (target.body)(data)
}
