//! `fabricctl`: command line of the fabric.

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match fabricctl::cli::run(fabricctl::cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("fabricctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}
