//! `fabric-provision`: the provisioning server and the commands of its operator.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    match fabric_provision::command::run(fabric_provision::command::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fabric-provision: {error:#}");
            ExitCode::FAILURE
        }
    }
}
