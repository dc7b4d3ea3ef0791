//! The project's own tasks.
//!
//! **Problem.** Building, checking, measuring and packaging must work the same on a fresh machine, at a desk and in CI.
//!
//! **Model.** Each task is a command of `cargo xtask` and a module here. `lab` and `test` are the two commands of the
//! README. Tasks build the programs and call them; the logic of the lab is in the crate `fabric-lab`.
//!
//! **Invariants.** A task installs what it needs, or says what is missing.
//!
//! **Cost.** `lab` and most of `bench` make a release build first. `test` prints, before each stage, how long it has
//! run.

mod bench;
mod figures;
mod guest;
mod package;
mod packages;
mod release;
mod shims;
mod test;
mod venv;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

/// The project's own tasks.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build everything and bring up a checked fabric on this machine (`lab down` removes it).
    Lab {
        /// Arguments of `fabricctl lab`; flags alone are those of `up` [default: up]
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Attack the running lab (`lab` builds one) from every place.
    Attack {
        /// Arguments of `fabricctl lab attack`: NAME... --churn --random --seconds N --seed S -o json --list
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Everything that must pass.
    Test,
    /// Measure: everything, or the benchmark of that name.
    Bench {
        /// fabric, controller, host, scale, agent, switch, provision or compiler
        name: Option<String>,
        /// Also write all figures to this file, as one JSON document
        #[arg(long)]
        json: Option<PathBuf>,
        /// Also update the figures in the pages of docs/
        #[arg(long)]
        docs: bool,
        /// Measure less where a row takes minutes (host)
        #[arg(long, conflicts_with = "docs")]
        short: bool,
    },
    /// Kill the controller again and again while clients change what they have: nothing acknowledged may be lost.
    CrashLoop {
        /// How often
        #[arg(default_value_t = 200)]
        kills: u32,
        /// Seed of an earlier run, as that run printed it
        #[arg(long)]
        seed: Option<u32>,
    },
    /// Compile and run P4 programs, and compare with p4c and bmv2 where these are installed: any folders, or p4c's public test data
    /// (`DIR`: its `testdata`, or the checkout).
    P4cCorpus {
        /// Arguments of the runner: DIR... [-I DIR] [-D NAME[=TEXT]] [--manifest FILE] [--json FILE] [--junit FILE]; --help has all
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        args: Vec<String>,
    },
    /// Run a fuzz target: parser, compiler, bmv2_json, packet, differential, rest, yaml, vtep, gnmi, lldp, netlink, dhcp6.
    Fuzz {
        /// Arguments of the runner: NAME [--seconds N] [--start N]
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        args: Vec<String>,
    },
    /// Run an exercise in the style of p4lang's tutorials or of p4-utils, or a network of ONOS: a folder with topology.json,
    /// p4app.json or netcfg.json.
    Exercise {
        /// Arguments of the runner: DIR|topology.json [--check] [--program FILE] [--link END,END] [--run COMMAND]
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        args: Vec<String>,
    },
    /// Create links in a folder through which tools for bmv2, p4c and Stratum find our programs: simple_switch_grpc, p4c and others.
    Shims {
        /// The folder; put it first into PATH
        dir: PathBuf,
    },
    /// Accept the current output: update all golden files and the expected files of scenarios.
    Bless,
    /// Build Debian packages of controller, agent, switch and command line.
    Package(package::Options),
    /// Create the Python environments of the test peers under target/venv.
    Venv,
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Lab { args } => lab(&args),
        Task::Attack { args } => {
            let args: Vec<String> = std::iter::once("attack".to_owned()).chain(args).collect();
            lab(&args)
        }
        Task::Test => test::run(),
        Task::Bench {
            name,
            json,
            docs,
            short,
        } => bench::run(name.as_deref(), json.as_deref(), docs, short),
        Task::CrashLoop { kills, seed } => crash_loop(kills, seed),
        Task::P4cCorpus { args } => tool("p4c-corpus", &args),
        Task::Fuzz { args } => tool("fuzz", &args),
        Task::Exercise { args } => exercise(&args),
        Task::Shims { dir } => {
            release::build(release::PRODUCT)?;
            shims::lay(&dir, &std::fs::canonicalize(release_dir())?)
        }
        Task::Bless => bless(),
        Task::Package(options) => package::run(&options),
        Task::Venv => venv::create_all(&target_dir().join("venv")),
    }
}

/// Debian packages that the lab and the tests in network namespaces use.
const LAB_PACKAGES: &[&str] = &["iproute2", "ethtool", "iputils-ping", "nftables", "procps"];

fn lab(args: &[String]) -> Result<()> {
    packages::install(LAB_PACKAGES)?;
    release::build(release::PRODUCT)?;
    let up = args.first().is_none_or(|first| first.starts_with('-')).then_some("up");
    let builds = up.is_some() || args.first().is_some_and(|first| first == "up");
    let has = |flag: &str| args.iter().any(|arg| arg.split('=').next() == Some(flag));
    let mut command = fabricctl();
    command.arg("lab").args(up).args(args);
    if builds && !has("--no-checks") && !has("--guest") {
        match guest::prepare() {
            Ok(folder) => drop(command.arg("--guest").arg(folder)),
            // The check of the virtual machine says what is missing.
            Err(error) => eprintln!("no virtual machine: {error:#}"),
        }
    }
    call(&mut command)
}

/// Runs a test that `test` also runs, with more kills.
fn crash_loop(kills: u32, seed: Option<u32>) -> Result<()> {
    const LOOP: &str = "nothing_acknowledged_is_lost_and_nothing_is_half_done";
    let mut test = cargo();
    test.args([
        "test",
        "--workspace",
        "--test",
        "crash_loop",
        "--",
        "--exact",
        LOOP,
        "--nocapture",
    ]);
    test.env("CRASH_LOOP_KILLS", kills.to_string());
    if let Some(seed) = seed {
        test.env("CRASH_LOOP_SEED", seed.to_string());
    }
    call(&mut test)
}

fn exercise(args: &[String]) -> Result<()> {
    packages::install(LAB_PACKAGES)?;
    release::build(&["exercise", "p4-switch"])?;
    call(Command::new(release_dir().join("exercise")).arg("run").args(args))
}

/// Runs a tool of the tests. Each tool is a binary of its own, so that `xtask` need not be linked with the compiler and
/// the switch. It runs in the user's directory, because its arguments may be relative paths.
fn tool(name: &str, args: &[String]) -> Result<()> {
    release::build(&[name])?;
    call(Command::new(release_dir().join(name)).args(args))
}

/// Test files that compare generated text with files in the repository.
const GOLDEN_TESTS: [&str; 2] = ["golden", "scenarios"];

fn bless() -> Result<()> {
    let mut tests = cargo();
    tests.args(["test", "--workspace", "--no-fail-fast"]).env("BLESS", "1");
    for name in GOLDEN_TESTS {
        tests.args(["--test", name]);
    }
    call(&mut tests)
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

fn fabricctl() -> Command {
    let mut command = Command::new(release_dir().join("fabricctl"));
    command.current_dir(root());
    command
}

/// Runs a command, and fails if the command fails.
fn call(command: &mut Command) -> Result<()> {
    let shown = format!("{command:?}");
    let status = command.status().with_context(|| format!("cannot start {shown}"))?;
    if status.success() {
        Ok(())
    } else {
        bail!("{shown} ended with {status}")
    }
}

/// Whether a program is installed.
fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(program).is_file())
}

/// The workspace's folder.
fn root() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Cargo's target folder of this workspace.
fn target_dir() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn release_dir() -> PathBuf {
    target_dir().join("release")
}
