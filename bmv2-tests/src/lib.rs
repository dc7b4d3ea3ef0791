//! Whole-system tests, and the code that they share.
//!
//! **Problem.** Each part must do what it promises when tools of other projects use it, when it works with switches of
//! other projects, and when all parts run together.
//!
//! **Model.** `tests/` drives the daemons, the compiler and the switches from outside: with clients from Python environments
//! ([`venv`]), with scripts that bmv2's users write ([`stf`], [`exercise`]), and with random programs and packets ([`fuzz`]).
//! [`program`] compiles and runs one P4 program on each of our switches.
//!
//! **Invariants.** A missing tool is an error and never a reason to skip a test, except `simple_switch_grpc`: tests that need it
//! are ignored unless they are asked for.
//!
//! **Cost.** Minutes: many tests start daemons or other projects' programs. Some need root.

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
