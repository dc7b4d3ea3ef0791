//! `fabricctl check`: runs a user's topology and intent on software switches, and checks the user's expectations.
//!
//! A run is a lab in separate namespaces ([`sandbox`]): several can run side by side, without root where
//! the kernel lets users create namespaces. Each row of the file ([`mod@file`]) is tested with real packets. They carry a
//! random mark and are followed through captures, so a reply from another machine with the same address does not
//! count. "Nothing arrives" counts only if the sender has shown that it can send ([`control`]). Each row is tested once, without
//! retries.

pub mod adapt;
pub mod file;
pub mod report;
pub mod sandbox;
pub mod write;

mod control;
mod fault;
mod judge;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use crate::say;
use anyhow::{Context, Result, bail};
use clap::Args;
use tokio::runtime::Runtime;
use vfabric_api::intent::Intent;
use vfabric_api::topology::Topology;

use crate::checks;
use crate::{Lab, Options, Steps, Target};
use file::{Expectation, File};
use judge::Verdict;
use report::Row;
use world::World;

/// An expectation failed.
const FAILED: u8 = 1;
/// The check could not run.
pub const COULD_NOT_RUN: u8 = 2;
/// Lines of a daemon's log that are kept beside the captures.
const LOG_LINES: usize = 500;
/// Most reasons that a row shows; the rest are counted.
const SHOWN: usize = 5;

/// Check an intent on a fabric of software switches against expectations.
///
/// Exit codes: 0 all hold, 1 an expectation failed, 2 the check could not run.
#[derive(Debug, Args)]
pub struct Check {
    /// The topology file
    #[arg(long, required_unless_present = "write")]
    topology: Option<PathBuf>,
    /// The intent file
    #[arg(long)]
    intent: PathBuf,
    /// The file of expectations
    #[arg(long)]
    expect: PathBuf,
    /// Write the file of expectations from the intent instead; an existing file is kept
    #[arg(long)]
    write: bool,
    /// The target that runs the pipelines
    #[arg(long, value_enum, default_value_t = Target::P4Switch)]
    target: Target,
    /// Write a JUnit XML report
    #[arg(long)]
    junit: Option<PathBuf>,
    /// Write captures of packets that went wrong into this directory (at most 1 MiB each), and the ends of the daemons' logs
    #[arg(long)]
    pcap: Option<PathBuf>,
    /// Directory of the daemons' binaries [default: where fabricctl is]
    #[arg(long)]
    bin_dir: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// Why the check could not run.
pub fn run(check: &Check, runtime: &Runtime) -> Result<ExitCode> {
    let intent: Intent =
        vfabric_api::yaml::read(&read(&check.intent)?).with_context(|| format!("in {}", check.intent.display()))?;
    if check.write {
        return write_file(&check.expect, &intent);
    }
    let path = check.topology.as_deref().context("--topology is missing")?;
    let topology = Topology::from_yaml(&read(path)?).with_context(|| format!("in {}", path.display()))?;
    let file = File::parse(&read(&check.expect)?).with_context(|| format!("in {}", check.expect.display()))?;
    if sandbox::run().is_none() {
        return sandbox::enter();
    }
    let rows = inside(check, topology, intent, &file, runtime)?;
    let table = checks::Report {
        rows: rows
            .iter()
            .map(|r| checks::Row {
                name: r.name.clone(),
                outcome: r.outcome.clone(),
                figures: Vec::new(),
            })
            .collect(),
        not_run: Vec::new(),
    };
    say!("{table}");
    if rows.iter().any(|r| r.is_error) {
        bail!("the row above could not be judged; those after it were not tried");
    }
    Ok(if table.all_passed() {
        ExitCode::SUCCESS
    } else {
        FAILED.into()
    })
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

fn write_file(path: &Path, intent: &Intent) -> Result<ExitCode> {
    let text = serde_saphyr::to_string(&write::from_intent(intent))?;
    let mut new = std::fs::File::create_new(path).with_context(|| format!("cannot write {}", path.display()))?;
    std::io::Write::write_all(&mut new, text.as_bytes())?;
    say!("{} written", path.display());
    Ok(ExitCode::SUCCESS)
}

fn inside(
    check: &Check,
    mut topology: Topology,
    mut intent: Intent,
    file: &File,
    runtime: &Runtime,
) -> Result<Vec<Row>> {
    sandbox::prepare()?;
    adapt::topology(&mut topology)?;
    adapt::intent(&mut intent);
    let here = std::env::current_exe()?;
    let beside = || here.parent().map(PathBuf::from);
    let options = Options {
        target: check.target,
        p4c: false,
        probe_interval: None,
        guest: None,
        ztp: false,
        bin_dir: check.bin_dir.clone().or_else(beside).context("--bin-dir")?,
        p4_dir: PathBuf::new(),
    };
    let (text, intent) = (serde_saphyr::to_string(&topology)?, serde_saphyr::to_string(&intent)?);
    let steps = Steps::default();
    let lab = Lab::up(options, &text, &intent, &steps, runtime)?;
    let world = World::open(&lab, runtime)?;
    // A name that is wrong ends the run before any packet is sent.
    for (i, e) in file.expect.iter().enumerate() {
        world.pairs(e).with_context(|| format!("expect[{i}] ({})", e.title()))?;
    }
    let mut rows: Vec<Row> = Vec::new();
    for e in &file.expect {
        rows.push(row(&world, e, check.pcap.as_deref(), rows.len() + 1, &steps)?);
        if rows.last().is_some_and(|r| r.is_error) {
            break;
        }
    }
    if let (Some(dir), true) = (&check.pcap, rows.iter().any(|r| r.outcome.is_err())) {
        logs(dir, &lab)?;
    }
    if let Some(path) = &check.junit {
        report::junit(path, topology.fabric.name.as_str(), &rows)?;
    }
    Ok(rows)
}

fn row(world: &World<'_>, of: &Expectation, pcap: Option<&Path>, number: usize, steps: &Steps) -> Result<Row> {
    let started = Instant::now();
    let name = of.title();
    let mut verdict = None;
    let outcome = steps.check(&name, || {
        let (found, loss) = match &of.under {
            None => (judge::judge(world, of)?, None),
            Some(fault) => {
                let (found, loss) = fault::judge_under(world, of, fault)?;
                (found, Some(loss))
            }
        };
        figure(of, verdict.insert(found), loss)
    });
    if let (Err(_), Some(dir), Some(verdict)) = (&outcome, pcap, &verdict) {
        captures(dir, number, verdict)?;
    }
    Ok(Row {
        name,
        outcome,
        is_error: verdict.is_none(),
        took: started.elapsed(),
    })
}

/// The row's figure.
///
/// # Errors
/// What is wrong.
fn figure(of: &Expectation, verdict: &mut Verdict, loss: Option<crate::traffic::Loss>) -> Result<String> {
    let median = checks::median(&mut verdict.times).as_secs_f64() * 1e3;
    if of.answer_ms.is_some_and(|most| median > most) {
        let most = of.answer_ms.unwrap_or_default();
        verdict
            .wrong
            .push(format!("answers take {median:.2} ms (median), expected at most {most}"));
    }
    if !verdict.wrong.is_empty() {
        let more = verdict.wrong.len().saturating_sub(SHOWN);
        let mut words: Vec<String> = verdict.wrong.iter().take(SHOWN).cloned().collect();
        if more > 0 {
            words.push(format!("{more} more"));
        }
        bail!("{}", words.join("; "));
    }
    let loss = loss.map_or(String::new(), |l| format!("; {l}"));
    Ok(if of.reach {
        format!("{} answers, median {median:.2} ms{loss}", verdict.times.len())
    } else {
        format!("nothing arrived{loss}")
    })
}

fn captures(dir: &Path, number: usize, verdict: &Verdict) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut places: std::collections::BTreeMap<&str, Vec<Vec<u8>>> = Default::default();
    for (place, frames) in &verdict.frames {
        places.entry(place).or_default().extend(frames.iter().cloned());
    }
    for (place, frames) in places.iter().filter(|(_, f)| !f.is_empty()) {
        let file = format!("{number:02}-{}.pcap", place.replace('/', "-"));
        report::pcap(&dir.join(file), frames)?;
    }
    Ok(())
}

/// Writes the last lines of every daemon's log.
fn logs(dir: &Path, lab: &Lab) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let switches = lab.topology.switches.iter().map(|s| s.name.as_str());
    let hosts = lab.topology.hosts.iter().map(|h| h.name.as_str());
    for name in switches.chain(hosts).chain([crate::daemons::CONTROLLER]) {
        let file = dir.join(format!("{name}.log"));
        std::fs::write(&file, lab.daemons.last_words(name, LOG_LINES))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}
