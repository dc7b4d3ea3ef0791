//! Runs trees of P4 programs through the project's compiler and switches, and compares with p4c and bmv2.
//!
//! `cargo xtask p4c-corpus DIR...` builds this in release mode and calls it. There are two ways:
//!
//! - [`published`]: p4c's own test data. It has p4c's output as files, so it needs no p4c.
//! - [`tree`]: any other programs. p4c and simple_switch_grpc are asked where they are installed.

mod published;
mod tree;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;

/// Compile and run P4 programs, and compare with p4c and bmv2.
///
/// A folder with p4c's test data (`p4_16_samples`) is compared with the outputs that p4c publishes beside it. In any other folder, each
/// file with a `main` is a program: verdict, P4Info and entries are compared with p4c-bm2-ss, and packets with simple_switch_grpc, where
/// these are on PATH. The exit code is 1 if something differs.
#[derive(Parser, Debug)]
#[command(name = "p4c-corpus", version)]
struct Cli {
    /// Folders of programs, or p4c's checkout or `testdata`
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
    /// Write all results here, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Only programs with this in their name
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Level of optimisation of the programs that run (p4c's test data)
    #[arg(short = 'O', value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(0..=1))]
    optimise: Option<u8>,
    /// Also run packets on this switch, which has the command line of simple_switch_grpc [default: that, if it is on PATH]
    #[arg(long, value_name = "PROGRAM")]
    peer: Option<PathBuf>,
    /// Show the programs that pass too (p4c's test data)
    #[arg(long, short)]
    verbose: bool,
    /// Treat p4c's test data like any other folder
    #[arg(long)]
    tree: bool,
    #[command(flatten)]
    of_tree: tree::Flags,
}

fn main() -> ExitCode {
    let done = match std::env::args_os().nth(1) {
        Some(first) if first == tree::ONE => tree::one(),
        _ => run(&Cli::parse()),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("p4c-corpus: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<bool> {
    let published = match cli.dirs.as_slice() {
        [dir] if !cli.tree => published::corpus::testdata(dir),
        _ => None,
    };
    let flags = &cli.of_tree;
    match published {
        Some(_) if *flags != tree::Flags::default() => {
            bail!("with p4c's test data, -I, -D, --manifest, --p4c and the like need --tree")
        }
        Some(testdata) => published::run(cli, &testdata),
        None if cli.optimise.is_some() => bail!("-O is for p4c's test data: other programs run at both levels"),
        None => tree::run(cli, flags),
    }
}
