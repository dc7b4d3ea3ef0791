//! Any tree of P4 programs: compiled, compared with p4c, and run on the switches.
//!
//! # Model
//! [`find`] looks for programs in folders. Each program, with flags from the command line, a [`manifest`] or a
//! [`makefile`], becomes one or more [`job`]s. Each job is a process of its own ([`mod@one`]), and several run at a time
//! ([`process`]). The results go into a table, JSON and JUnit ([`report`], [`junit`]).
//!
//! # What is compared
//! | | with | where |
//! | --- | --- | --- |
//! | verdict, P4Info, entries | p4c's | `p4c-bm2-ss` is on PATH |
//! | frames that leave | reference evaluator, interpreter and machine code, at both levels of optimisation | always |
//! | the same | p4c's output on our engine | `p4c-bm2-ss` is on PATH |
//! | the same | bmv2 with our output | `simple_switch_grpc` is on PATH |
//!
//! The last lines of a run name each comparison that was not made, and why.

mod find;
mod glob;
mod job;
mod junit;
mod makefile;
mod manifest;
mod one;
mod process;
mod report;
mod source;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bmv2_tests::on_path;
use indicatif::{ProgressBar, ProgressStyle};

use crate::Cli;
use job::{Job, Peers};
use manifest::Manifest;
pub(crate) use one::one;
pub(crate) use process::ONE;
use report::{LeftOut, Report};

/// The reference compiler.
const P4C: &str = "p4c-bm2-ss";
/// The reference switch.
const BMV2: &str = "simple_switch_grpc";
/// Names of our own programs. The names above may be links to them (`cargo xtask shims`).
const OURS: [&str; 2] = ["p4-compiler", "p4-switch"];

/// Flags for other trees than p4c's test data.
#[derive(clap::Args, Debug, Default, PartialEq)]
pub(crate) struct Flags {
    /// Look here for included files, for all programs
    #[arg(short = 'I', value_name = "DIR")]
    include: Vec<PathBuf>,
    /// Define a macro, for all programs
    #[arg(short = 'D', value_name = "NAME[=TEXT]")]
    define: Vec<String>,
    /// Flags, variants and known differences of the programs, as YAML (docs/p4-compiler.md)
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Do not take flags from Makefiles that call p4c
    #[arg(long)]
    no_makefiles: bool,
    /// Write the results here for CI, as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// The p4c-bm2-ss to compare with [default: that, if it is on PATH]
    #[arg(long, value_name = "PROGRAM")]
    p4c: Option<PathBuf>,
    /// Programs at a time [default: one for each processor]
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Seconds for a program, with all that is compared [default: 120]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// Frames for each program; 0 runs none [default: 64]
    #[arg(long, value_name = "N")]
    packets: Option<usize>,
    /// From which entries and frames are made [default: 1]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Keep results in this file, and take those of an earlier run from it where nothing has changed
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
}

/// Runs all programs and prints the results. True if nothing differs.
pub(crate) fn run(cli: &Cli, flags: &Flags) -> Result<bool> {
    let started = Instant::now();
    let (peers, why_not) = peers(cli, flags)?;
    let (jobs, left_out) = jobs(cli, flags)?;
    if jobs.is_empty() {
        bail!("no program for v1model with a main was found; {}", left_out.short());
    }
    let journal = process::Journal::open(flags.resume.as_deref())?;
    let at_once = flags
        .jobs
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let limit = Duration::from_secs(flags.timeout.unwrap_or(120));
    let bar = ProgressBar::new(jobs.len() as u64);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos} of {len}, {eta} left  {msg:40!}") {
        bar.set_style(style);
    }
    let (outcomes, old) = process::run_all(&jobs, &peers, (at_once.max(1), limit), &journal, &bar)?;
    bar.finish_and_clear();
    let report = Report {
        rows: jobs.iter().zip(&outcomes).collect(),
        left_out,
        why_not,
        old,
        elapsed: started.elapsed(),
    };
    if let Some(file) = &cli.json {
        std::fs::write(file, report.json()).with_context(|| file.display().to_string())?;
    }
    if let Some(file) = &flags.junit {
        std::fs::write(file, junit::document(&report)).with_context(|| file.display().to_string())?;
    }
    print!("{}", report.text());
    Ok(report.is_good())
}

/// What to compare with, and a reason for each comparison that is not made.
fn peers(cli: &Cli, flags: &Flags) -> Result<(Peers, Vec<String>)> {
    let mut why_not = Vec::new();
    let mut find = |given: &Option<PathBuf>, name: &str, flag: &str, what: &str| -> Result<Option<PathBuf>> {
        if let Some(given) = given {
            // Symbolic links are not resolved: some programs look at the name by which they are called.
            let path = std::path::absolute(given)?;
            if !path.is_file() {
                bail!("{flag} {}: no such program", given.display());
            }
            return Ok(Some(path));
        }
        match on_path(name).map(|p| (is_ours(&p), p)) {
            Some((false, path)) => return Ok(Some(path)),
            Some((true, _)) => why_not.push(format!("{what}: {name} on PATH is this project's own program")),
            None => why_not.push(format!("{what}: {name} is not on PATH, and {flag} names none")),
        }
        Ok(None)
    };
    let p4c = find(&flags.p4c, P4C, "--p4c", "verdict, P4Info and entries with p4c's")?;
    let switch = find(&cli.peer, BMV2, "--peer", "packets with bmv2's")?;
    let frames = flags.packets.unwrap_or(64);
    if frames == 0 {
        why_not.push("packets: --packets 0".to_owned());
    }
    let peers = Peers {
        p4c,
        switch,
        frames,
        seed: flags.seed.unwrap_or(1),
    };
    Ok((peers, why_not))
}

/// Whether a program belongs to this project and only has another name.
fn is_ours(path: &Path) -> bool {
    let real = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let name = real.file_name().unwrap_or_default().to_string_lossy().into_owned();
    OURS.contains(&name.as_str())
}

/// The compilations to make, and what is left out.
fn jobs(cli: &Cli, flags: &Flags) -> Result<(Vec<Job>, LeftOut)> {
    let manifest = flags
        .manifest
        .as_deref()
        .map(Manifest::read)
        .transpose()?
        .unwrap_or_default();
    let mut used = vec![false; manifest.rules()];
    let include: Vec<PathBuf> = flags.include.iter().chain(&manifest.include).cloned().collect();
    if let Some(missing) = flags.include.iter().find(|dir| !dir.is_dir()) {
        bail!("-I {}: no such folder", missing.display());
    }
    let (mut jobs, mut left_out) = (Vec::new(), LeftOut::default());
    for dir in &cli.dirs {
        let top = std::fs::canonicalize(dir).with_context(|| dir.display().to_string())?;
        let found = find::programs(&top, &include)?;
        left_out.add(&found, &top);
        for program in found.programs {
            let below = program.path.strip_prefix(&top).unwrap_or(&program.path);
            let make = match flags.no_makefiles {
                true => makefile::MakeFlags::default(),
                false => makefile::flags(&program.path, &top),
            };
            left_out.unread.extend(make.unread);
            for settings in manifest.settings(&below.to_string_lossy(), &mut used) {
                let mut name = below.with_extension("").to_string_lossy().into_owned();
                if cli.dirs.len() > 1 {
                    let top = top.file_name().unwrap_or_default().to_string_lossy();
                    name = format!("{top}/{name}");
                }
                if let Some(variant) = &settings.variant {
                    name = format!("{name} [{variant}]");
                }
                if cli.only.as_ref().is_some_and(|only| !name.contains(only)) {
                    continue;
                }
                if let Some(why) = settings.skip {
                    left_out.skipped.push((name, why));
                    continue;
                }
                let own = settings.include.into_iter().chain(make.include.iter().cloned());
                let mut folders = Vec::new();
                for folder in flags.include.iter().cloned().chain(own) {
                    let folder = std::fs::canonicalize(&folder).with_context(|| folder.display().to_string())?;
                    if !folders.contains(&folder) {
                        folders.push(folder);
                    }
                }
                jobs.push(Job {
                    name,
                    path: program.path.clone(),
                    include: folders,
                    define: defines([&make.define, &settings.define, &flags.define]),
                    expect: settings.expect,
                    known: settings.known,
                    digest: program.digest,
                });
            }
        }
    }
    left_out.unused = manifest.unused(&used).map(str::to_owned).collect();
    Ok((jobs, left_out))
}

/// Macros. If several have the same name, the last one counts.
fn defines(lists: [&Vec<String>; 3]) -> Vec<String> {
    let name = |define: &str| define.split('=').next().unwrap_or_default().to_owned();
    let mut all: Vec<String> = Vec::new();
    for define in lists.into_iter().flatten() {
        all.retain(|other| name(other) != name(define));
        all.push(define.clone());
    }
    all
}
