//! Whole-system tests, and what they share.

pub mod exercise;
pub mod fuzz;
pub mod p4info_diff;
pub mod program;
pub mod stf;
pub mod venv;

/// Where a program is that can be called by its name.
pub fn on_path(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|p| p.is_file())
}
