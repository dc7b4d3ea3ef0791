//! `fabricctl lab …`.

use std::path::PathBuf;
use std::process::ExitCode;

use crate::say;
use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use tokio::runtime::Runtime;

use super::checks::{self, Report};
use super::{INTENT, Lab, Options, Steps, TOPOLOGY, Target, attack, bench, boot, pods, scale};

/// Build, check and remove a whole fabric on this machine.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build a lab, check it with real packets, and leave it running
    Up(Up),
    /// Check the running lab
    Check(Filter),
    /// Attack the running lab, from every place
    Attack(attack::Args),
    /// Start, change and end pods on the running lab, with faults; everything must agree afterwards
    Pods(pods::Args),
    /// Measure the running lab
    Bench(bench::Args),
    /// Measure a controller with a million networks; needs no lab
    Scale(scale::Args),
    /// Measure how blank switches come into service; needs no lab
    Boot(boot::Args),
    /// Remove every trace of a lab
    Down,
}

/// Which checks to run.
#[derive(Debug, Args)]
pub struct Filter {
    /// Only checks whose name contains this
    #[arg(long)]
    only: Option<String>,
}

/// How to build a lab.
#[derive(Debug, Args)]
pub struct Up {
    /// What runs the pipelines
    #[arg(long, value_enum, default_value_t = Target::P4Switch)]
    target: Target,
    /// Compile the pipelines with p4c instead of using the embedded ones
    #[arg(long)]
    p4c: bool,
    /// Begin with an inventory and blank switches: DHCP, Bootz, certificates, pipelines
    #[arg(long, conflicts_with = "target")]
    ztp: bool,
    /// Time between two probes of a link's end, such as 200ms [default: the controller's]
    #[arg(long)]
    probe_interval: Option<String>,
    /// A folder with boot/vmlinuz-VERSION and lib/modules/VERSION, for the guest of a virtual machine [default: /]
    #[arg(long)]
    guest: Option<PathBuf>,
    /// Directory of the P4 programs, for --p4c
    #[arg(long, default_value = "p4/fabric")]
    p4_dir: PathBuf,
    /// Directory of the daemons' binaries [default: where fabricctl is]
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// A topology file [default: the shipped one]
    #[arg(long)]
    topology: Option<PathBuf>,
    /// An intent file [default: the shipped one]
    #[arg(long)]
    intent: Option<PathBuf>,
    /// Do not run the checks
    #[arg(long)]
    no_checks: bool,
}

/// Runs one command.
///
/// # Errors
/// The reason in words.
pub fn run(command: Command, runtime: &Runtime) -> Result<ExitCode> {
    // These touch no lab.
    let _lock = match command {
        Command::Scale(_) | Command::Boot(_) => None,
        _ => Some(super::lock::take()?),
    };
    match command {
        Command::Scale(args) => scale::run(args, runtime),
        Command::Boot(args) => boot::run(args, runtime),
        Command::Up(up) => self::up(up, runtime),
        Command::Check(filter) => Ok(report(&checks::run(
            &Lab::open()?,
            filter.only.as_deref(),
            &Steps::default(),
            runtime,
        )?)),
        Command::Attack(args) => attack::run(&Lab::open()?, &args, runtime),
        Command::Pods(args) => pods::run(&Lab::open()?, &args, runtime),
        Command::Bench(args) => bench::run(&Lab::open()?, &args, runtime),
        Command::Down => {
            Lab::down()?;
            say!("nothing of the lab is left");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn up(up: Up, runtime: &Runtime) -> Result<ExitCode> {
    let read = |path: &Option<PathBuf>, shipped: &str| match path {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display())),
        None => Ok(shipped.to_owned()),
    };
    let (topology, intent) = (read(&up.topology, TOPOLOGY)?, read(&up.intent, INTENT)?);
    let here = std::env::current_exe()?;
    let bin_dir = up
        .bin_dir
        .or_else(|| here.parent().map(PathBuf::from))
        .context("--bin-dir")?;
    let options = Options {
        target: up.target,
        p4c: up.p4c,
        probe_interval: up.probe_interval.clone(),
        guest: up.guest.as_deref().map(std::path::absolute).transpose()?,
        ztp: up.ztp,
        bin_dir,
        p4_dir: up.p4_dir,
    };
    let steps = Steps::default();
    let lab = Lab::up(options, &topology, &intent, &steps, runtime)?;
    let code = if up.no_checks {
        ExitCode::SUCCESS
    } else {
        report(&checks::run(&lab, None, &steps, runtime)?)
    };
    let startup = lab.startup.unwrap_or_default().as_secs_f64();
    say!(
        "\nThe lab is running (ready after {startup:.2} s). Things to try:\n\
         \n  export VFABRIC_CONFIG={}\
         \n  {fabricctl} status\
         \n  {fabricctl} get switches\
         \n  {fabricctl} get attachments -n blue\
         \n  {fabricctl} get entities leaf1\
         \n  ip netns exec vflab-blue-web1 ping 10.0.1.11        # blue: web to db, through the leaf's gateway\
         \n  {fabricctl} get drops\
         \n  cargo xtask attack\
         \n  cargo xtask bench\
         \n  cargo xtask lab down",
        lab.client_config().display(),
        fabricctl = here.display(),
    );
    Ok(code)
}

fn report(report: &Report) -> ExitCode {
    say!("{report}");
    if report.all_passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
