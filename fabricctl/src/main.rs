//! `fabricctl`: command line of the fabric.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};

fn main() -> ExitCode {
    // Does something only if a shell asks for completions.
    clap_complete::CompleteEnv::with_factory(fabricctl::cli::Cli::command).complete();
    match fabricctl::cli::run(fabricctl::cli::Cli::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("fabricctl: {error:#}");
            ExitCode::FAILURE
        }
    }
}
