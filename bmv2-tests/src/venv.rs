//! Finds the Python environments that `cargo xtask test` makes.

use std::path::PathBuf;

use anyhow::{Result, bail};

/// Path of the Python interpreter of the peer environment `name`, for instance
/// `p4runtime`.
///
/// Looks in the folder named by `VFABRIC_VENVS`, else in `target/venv`. A
/// missing environment is an error and never a reason to skip a test.
pub fn python(name: &str) -> Result<PathBuf> {
    let root = std::env::var_os("VFABRIC_VENVS").map_or_else(
        || {
            std::env::var_os("CARGO_TARGET_DIR")
                .map_or_else(
                    || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")),
                    PathBuf::from,
                )
                .join("venv")
        },
        PathBuf::from,
    );
    let python = root.join(name).join("bin/python");
    if !python.exists() {
        bail!(
            "no Python environment '{name}' ({} is missing): run `cargo xtask test`, \
             which makes it, or `cargo xtask venv`",
            python.display()
        );
    }
    Ok(python)
}
