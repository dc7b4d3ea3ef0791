//! Runs the processes of programs: several at a time, each for a limited time, with a file that remembers results.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use indicatif::ProgressBar;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::job::{Event, Found, Job, Outcome, Peers, Step, Task};

/// First argument of a program's process.
pub(crate) const ONE: &str = "--one-program";

/// Results of earlier runs, and the file to which new ones are added.
pub(super) struct Journal {
    known: HashMap<String, Outcome>,
    file: Option<Mutex<File>>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    key: String,
    name: String,
    outcome: Outcome,
}

impl Journal {
    /// Reads a journal, which need not exist. A line that a killed run left unfinished is passed over.
    pub(super) fn open(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            return Ok(Self {
                known: HashMap::new(),
                file: None,
            });
        };
        let text = std::fs::read_to_string(path).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
        let known = lines.map(|line| (line.key, line.outcome)).collect();
        let mut file = OpenOptions::new().create(true).append(true).open(path);
        if let Ok(file) = &mut file
            && !text.is_empty()
            && !text.ends_with('\n')
        {
            file.write_all(b"\n")?;
        }
        let file = file.with_context(|| path.display().to_string())?;
        Ok(Self {
            known,
            file: Some(Mutex::new(file)),
        })
    }

    fn add(&self, key: &str, name: &str, outcome: &Outcome) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let line = Line {
            key: key.to_owned(),
            name: name.to_owned(),
            outcome: outcome.clone(),
        };
        let line = serde_json::to_string(&line)? + "\n";
        let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(line.as_bytes()).context("the file of --resume")
    }
}

/// Results of all jobs, in their order, and how many of them were there before.
pub(super) fn run_all(
    jobs: &[Job],
    peers: &Peers,
    limits: (usize, Duration),
    journal: &Journal,
    bar: &ProgressBar,
) -> Result<(Vec<Outcome>, usize)> {
    let (at_once, limit) = limits;
    let (next, old) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let done = Mutex::new(Vec::with_capacity(jobs.len()));
    let work = || -> Result<()> {
        while let (at, Some(job)) = {
            let at = next.fetch_add(1, Ordering::Relaxed);
            (at, jobs.get(at))
        } {
            let key = key(job, peers)?;
            let outcome = match journal.known.get(&key) {
                Some(outcome) => {
                    old.fetch_add(1, Ordering::Relaxed);
                    outcome.clone()
                }
                None => {
                    let outcome = run(job, peers, limit)?;
                    journal.add(&key, &job.name, &outcome)?;
                    outcome
                }
            };
            bar.inc(1);
            bar.set_message(job.name.clone());
            done.lock().unwrap_or_else(PoisonError::into_inner).push((at, outcome));
        }
        Ok(())
    };
    std::thread::scope(|scope| -> Result<()> {
        let threads: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    let outcomes = done.into_iter().map(|(_, outcome)| outcome).collect();
    Ok((outcomes, old.into_inner()))
}

/// Changes with everything on which a result depends: the program, the flags, the peers and this build.
fn key(job: &Job, peers: &Peers) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(&(job, peers))?.hash(&mut hasher);
    let this = std::env::current_exe()?;
    for tool in [Some(&this), peers.p4c.as_ref(), peers.switch.as_ref()]
        .into_iter()
        .flatten()
    {
        let about = std::fs::metadata(tool).with_context(|| tool.display().to_string())?;
        (about.len(), about.modified().ok()).hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn run(job: &Job, peers: &Peers, limit: Duration) -> Result<Outcome> {
    let started = Instant::now();
    let mut child = Command::new(std::env::current_exe()?)
        .arg(ONE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // A group of its own, so that p4c and switches end with it.
        .process_group(0)
        .spawn()
        .context("a process for a program")?;
    let group = Group(Pid::from_raw(i32::try_from(child.id()).context("a process id")?));
    let task = Task {
        job: job.clone(),
        peers: peers.clone(),
    };
    let input = child.stdin.take().context("a process without input")?;
    serde_json::to_writer(input, &task).context("a task for a process")?;
    let events = lines(&mut child)?;
    let mut outcome = Outcome::default();
    let (mut now, mut is_late) = (Step::Compile, false);
    loop {
        match events.recv_timeout(limit.saturating_sub(started.elapsed())) {
            Ok(Event::Begins(step)) => now = step,
            Ok(Event::Ended(step, found)) => drop(outcome.steps.insert(step, found)),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                is_late = true;
                break;
            }
        }
    }
    drop(group);
    let status = child.wait()?;
    if is_late {
        let late = format!("it did not end within {} s", limit.as_secs());
        outcome.steps.insert(now, without_result(now, late));
    } else {
        let crashed = || Found::Differs(vec![format!("crashed: {status}")]);
        outcome.steps.entry(now).or_insert_with(crashed);
    }
    outcome.took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    Ok(outcome)
}

/// A step that was cut off counts as a difference where only our own programs run in it.
fn without_result(step: Step, why: String) -> Found {
    match step {
        Step::Compile => Found::Differs(vec![why]),
        _ => Found::NotCompared(why),
    }
}

/// Kills the processes of a group at the end, also those that a program's process started.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        // An error means that all have ended.
        let _ = killpg(self.0, Signal::SIGKILL);
    }
}

/// The events of a process, as they come.
fn lines(child: &mut Child) -> Result<Receiver<Event>> {
    let output = child.stdout.take().context("a process without output")?;
    let (sender, events) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Ok(event) = serde_json::from_str(&line)
                && sender.send(event).is_err()
            {
                break;
            }
        }
    });
    Ok(events)
}
