//! p4c's public test data, with the outputs that p4c publishes beside it.
//!
//! Every v1model program of `p4_16_samples` is compiled, and the script beside it is run if there is one. Every program
//! that p4c rejects is given to our compiler too.

pub(crate) mod corpus;
mod report;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use bmv2_tests::on_path;
use bmv2_tests::p4info_diff::{self, Difference};
use bmv2_tests::program::{Core, compile, run_script, run_script_on};
use bmv2_tests::stf::run::Ports;
use corpus::Sample;
use indicatif::ProgressBar;
use p4_compiler::{OptLevel, Options};

use crate::Cli;

/// The reference switch: scripts run on it too where it is installed.
const PEER: &str = "simple_switch_grpc";

/// The results for a sample.
#[derive(Debug)]
struct Outcome {
    compiled: Result<(), Vec<String>>,
    compile_time: Duration,
    /// Results of the program's script, if it has one, on each switch of this project.
    scripts: Vec<(Core, Result<(), Vec<String>>)>,
    /// The script's results on [`PEER`], if it is installed.
    peer: Option<Result<(), Vec<String>>>,
    /// Differences from p4c's P4Info. `None` if the program does not compile here or p4c publishes no P4Info for it.
    p4info: Option<Vec<Difference>>,
    /// The same for entries.
    entries: Option<Vec<Difference>>,
}

/// Runs everything and prints the results. True if nothing is wrong.
pub(crate) fn run(cli: &Cli, testdata: &Path) -> Result<bool> {
    let corpus = corpus::read(testdata, cli.only.as_deref())?;
    // Panics are caught and reported with their program, so that they do not disturb the progress bar.
    std::panic::set_hook(Box::new(|_| {}));
    let bar = ProgressBar::new((corpus.samples.len() + corpus.errors.len()) as u64);
    let started = Instant::now();
    let options = Options {
        level: if cli.optimise == Some(0) {
            OptLevel::O0
        } else {
            OptLevel::O1
        },
        ..Options::default()
    };
    let peer = cli.peer.clone().or_else(|| on_path(PEER));
    let outcomes = in_parallel(&corpus.samples, &bar, |s| sample(s, &options, peer.as_deref()));
    let accepted = in_parallel(&corpus.errors, &bar, is_accepted);
    bar.finish_and_clear();
    let report = report::Report {
        samples: corpus.samples.iter().zip(&outcomes).collect(),
        errors: corpus.errors.iter().zip(accepted).collect(),
        elapsed: started.elapsed(),
    };
    if let Some(file) = &cli.json {
        std::fs::write(file, report.json())?;
    }
    Ok(report.print(cli.verbose))
}

fn sample(sample: &Sample, options: &Options, peer: Option<&Path>) -> Outcome {
    let started = Instant::now();
    let compiled = compile(&sample.path, options);
    let compile_time = started.elapsed();
    let scripts = match (&sample.script, &compiled) {
        (None, _) => Vec::new(),
        (Some(_), Err(_)) => Core::ALL
            .iter()
            .map(|core| (*core, Err(vec!["the program does not compile".into()])))
            .collect(),
        (Some(script), Ok(compiled)) => {
            let run = |core: &Core| (*core, run_script(compiled, script, *core, Ports::Named));
            Core::ALL.iter().map(run).collect()
        }
    };
    let peer = match (peer, &sample.script, &compiled) {
        (Some(peer), Some(script), Ok(compiled)) => Some(run_script_on(peer, compiled, script, Ports::Named)),
        _ => None,
    };
    let (p4info, entries) = compiled.as_ref().map_or((None, None), |c| {
        let p4info = published(sample.p4info.as_deref(), |text| p4info_diff::p4info(&c.p4info, text));
        let entries = published(sample.entries.as_deref(), |text| p4info_diff::entries(&c.entries, text));
        (p4info, entries)
    });
    Outcome {
        compiled: compiled.map(drop),
        compile_time,
        scripts,
        peer,
        p4info,
        entries,
    }
}

/// Compares with a published file, if there is one. A file that cannot be read is one difference.
fn published(file: Option<&Path>, compare: impl Fn(&str) -> Result<Vec<Difference>>) -> Option<Vec<Difference>> {
    let file = file?;
    let found = std::fs::read_to_string(file)
        .map_err(Into::into)
        .and_then(|text| compare(&text));
    Some(found.unwrap_or_else(|error| {
        vec![Difference {
            path: file.display().to_string(),
            ours: None,
            expected: Some(format!("{error:#}")),
        }]
    }))
}

/// Whether our compiler accepts a program that p4c rejects.
fn is_accepted(sample: &Sample) -> bool {
    let options = Options {
        check_only: !sample.has_main,
        ..Options::default()
    };
    compile(&sample.path, &options).is_ok()
}

/// Maps over all cores; results come in the order of the items.
fn in_parallel<T: Sync, R: Send>(items: &[T], bar: &ProgressBar, f: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let (at, Some(item)) = {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    (at, items.get(at))
                } {
                    let result = f(item);
                    done.lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .push((at, result));
                    bar.inc(1);
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}
