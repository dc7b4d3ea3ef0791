//! Whole-system tests, and the code that they share.

pub mod exercise;
pub mod fuzz;
pub mod p4info_diff;
pub mod program;
pub mod stf;
pub mod venv;

/// The path of a program on PATH.
pub fn on_path(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|dir| dir.join(program))
        .find(|p| p.is_file())
}
