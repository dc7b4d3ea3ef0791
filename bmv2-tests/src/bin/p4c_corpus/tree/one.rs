//! The work on one program, in a process of its own: it may be killed when it takes too long, and a crash takes no other program along.
//!
//! The task comes in as JSON on standard input. Each step is a line on standard output as soon as it ends.

use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};

use anyhow::{Context as _, Result};
use bmv2_tests::fuzz::{batch, differential};
use bmv2_tests::p4info_diff;
use bmv2_tests::program::compile;
use p4_compiler::{Compiled, OptLevel, Options};

use super::job::{Event, Found, Job, Step, Task, Verdict};

/// Lines of p4c's messages that are kept.
const MESSAGES: usize = 40;

/// Runs the task on standard input.
pub(crate) fn one() -> Result<bool> {
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    let task: Task = serde_json::from_str(&text).context("a task is expected on standard input")?;
    run(&task)?;
    Ok(true)
}

fn emit(event: &Event) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(event)?)?;
    out.flush()?;
    Ok(())
}

fn step(step: Step, work: impl FnOnce() -> Found) -> Result<()> {
    emit(&Event::Begins(step))?;
    emit(&Event::Ended(step, work()))
}

fn run(task: &Task) -> Result<()> {
    let Task { job, peers } = task;
    let mut ours = None;
    step(Step::Compile, || match ours_at(job, OptLevel::O1) {
        Ok(compiled) => {
            ours = Some(compiled);
            verdict(true, Vec::new())
        }
        Err(messages) => verdict(false, messages),
    })?;
    let mut theirs = None;
    if let Some(p4c) = &peers.p4c {
        step(Step::P4c, || match by_p4c(p4c, job) {
            Ok(Ok(output)) => {
                theirs = Some(output);
                verdict(true, Vec::new())
            }
            Ok(Err(messages)) => verdict(false, messages),
            Err(why) => Found::NotCompared(why),
        })?;
    }
    let Some(ours) = ours else { return Ok(()) };
    if let Some(theirs) = &theirs {
        let compare = |text: &str, found: Result<Vec<p4info_diff::Difference>>| match found {
            Ok(differ) if differ.is_empty() => Found::Same(String::new()),
            Ok(differ) => Found::Differs(differ.iter().map(ToString::to_string).collect()),
            Err(error) => Found::Differs(vec![format!(
                "p4c's file cannot be read: {error:#} ({} octets)",
                text.len()
            )]),
        };
        step(Step::P4info, || {
            compare(&theirs.p4info, p4info_diff::p4info(&ours.p4info, &theirs.p4info))
        })?;
        step(Step::Entries, || {
            compare(&theirs.entries, p4info_diff::entries(&ours.entries, &theirs.entries))
        })?;
    }
    if peers.frames == 0 {
        return Ok(());
    }
    packets(task, &ours, theirs.as_ref())
}

fn packets(task: &Task, ours: &Compiled, theirs: Option<&ByP4c>) -> Result<()> {
    let Task { job, peers } = task;
    let input = match batch::input(&ours.program, peers.seed, peers.frames) {
        Ok(input) => input,
        Err(why) => return step(Step::OurSwitches, || Found::Differs(vec![why])),
    };
    let same_clock = batch::unpredictable(&ours.program, false);
    step(Step::OurSwitches, || match (same_clock, ours_at(job, OptLevel::O0)) {
        (Some(why), _) => Found::NotCompared(why.to_owned()),
        (None, Err(messages)) => Found::Differs(messages),
        (None, Ok(plain)) => match differential::on_our_switches(&plain, ours, &input) {
            Ok(()) => same(input.frames.len(), input.entries.len(), 0),
            Err(why) => differs(&why),
        },
    })?;
    let compared = |found: Result<batch::Compared, String>| match found {
        Ok(compared) => same(compared.frames, compared.entries, compared.refused),
        Err(why) => differs(&why),
    };
    if let Some(theirs) = theirs {
        step(Step::OutputOfP4c, || {
            match (same_clock, bmv2_json::Program::from_slice(&theirs.json)) {
                (Some(why), _) => Found::NotCompared(why.to_owned()),
                (None, Err(error)) => Found::Differs(vec![format!("p4c's output cannot be loaded: {error}")]),
                (None, Ok(document)) => compared(batch::with_document(&ours.program, &document, &input)),
            }
        })?;
    }
    if let Some(switch) = &peers.switch {
        step(Step::Bmv2, || match batch::unpredictable(&ours.program, true) {
            Some(why) => Found::NotCompared(why.to_owned()),
            None => compared(batch::with_process(switch, ours, &input)),
        })?;
    }
    Ok(())
}

fn verdict(accepted: bool, messages: Vec<String>) -> Found {
    Found::Verdict(Verdict { accepted, messages })
}

fn same(frames: usize, entries: usize, refused: usize) -> Found {
    let refused = match refused {
        0 => String::new(),
        n => format!(", {n} more entries refused there"),
    };
    Found::Same(format!("{frames} frames, {entries} entries{refused}"))
}

fn differs(why: &str) -> Found {
    Found::Differs(why.lines().map(str::to_owned).collect())
}

fn ours_at(job: &Job, level: OptLevel) -> Result<Compiled, Vec<String>> {
    let define = |define: &String| match define.split_once('=') {
        Some((name, text)) => (name.to_owned(), text.to_owned()),
        None => (define.clone(), "1".to_owned()),
    };
    let options = Options {
        include_paths: job.include.clone(),
        defines: job.define.iter().map(define).collect(),
        level,
        ..Options::default()
    };
    compile(&job.path, &options)
}

/// What p4c writes for a program.
struct ByP4c {
    json: Vec<u8>,
    p4info: String,
    entries: String,
}

/// p4c's output, or its messages if it refuses the program.
///
/// # Errors
/// It gives no verdict: it cannot start, crashes, or writes no files.
fn by_p4c(p4c: &Path, job: &Job) -> Result<Result<ByP4c, Vec<String>>, String> {
    let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
    let file = |name: &str| dir.path().join(name);
    let mut command = Command::new(p4c);
    // Our compiler takes externs that the program declares, as p4c does with this flag.
    command
        .args(["--std", "p4-16", "--emit-externs", "-o"])
        .arg(file("out.json"));
    command.arg("--p4runtime-files").arg(file("out.p4info.txtpb"));
    command.arg("--p4runtime-entries-files").arg(file("out.entries.txtpb"));
    for dir in &job.include {
        command.arg("-I").arg(dir);
    }
    for define in &job.define {
        command.arg("-D").arg(define);
    }
    let output = command.arg(&job.path).output();
    let output = output.map_err(|e| format!("{}: {e}", p4c.display()))?;
    let messages = messages(&output);
    if let Some(signal) = output.status.signal() {
        return Err(format!("p4c was ended by signal {signal}"));
    }
    if messages
        .iter()
        .any(|line| line.contains("Compiler Bug") || line.contains("COMPILER BUG"))
    {
        return Err("p4c has an internal error".to_owned());
    }
    if !output.status.success() {
        return Ok(Err(messages));
    }
    let read = |name: &str| std::fs::read_to_string(file(name)).map_err(|e| format!("p4c wrote no {name}: {e}"));
    Ok(Ok(ByP4c {
        json: read("out.json")?.into_bytes(),
        p4info: read("out.p4info.txtpb")?,
        // It writes none for a program without entries.
        entries: read("out.entries.txtpb").unwrap_or_default(),
    }))
}

fn messages(output: &Output) -> Vec<String> {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().take(MESSAGES).map(str::to_owned).collect()
}
