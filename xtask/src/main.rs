//! The project's own tasks: lab, test, bench.

mod venv;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The project's own tasks.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Make the Python environments of the test peers under target/venv.
    Venv,
}

fn main() -> Result<()> {
    let Cli { task } = Cli::parse();
    match task {
        Task::Venv => venv::create_all(&target_dir().join("venv")),
    }
}

/// Cargo's target folder of this workspace.
fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target")),
        PathBuf::from,
    )
}
