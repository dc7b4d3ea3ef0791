//! `ztp`: how switches come into service.

use std::collections::HashSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;
use fabric_lab::{out, say};
use vfabric_api::ident::Name;
use vfabric_api::provisioning::{BootStep, Provisioning, TimelineStep};

use super::connect::Session;
use super::history::time;
use super::show::{Format, Table};
use super::{Output, complete};

/// Interval of `--watch`.
const AGAIN: Duration = Duration::from_millis(500);

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show how far switches are between power-on and service, or each step of one switch
    Status(StatusArgs),
}

#[derive(Debug, Args)]
pub(super) struct StatusArgs {
    /// The switch, to show each of its steps [default: a line for each switch]
    #[arg(add = ArgValueCandidates::new(complete::names))]
    switch: Option<Name>,
    /// Print steps as they happen, until interrupted; with -o json a line for each step
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    output: Output,
}

/// Milliseconds for people.
fn took(ms: Option<u64>) -> String {
    ms.map(|ms| format!("{}.{:03} s", ms / 1000, ms % 1000))
        .unwrap_or_default()
}

fn step_row(table: &mut Table, switch: Option<&Name>, step: &TimelineStep) {
    let name = switch.map(|name| ("SWITCH", name.to_string()));
    table.row_with(
        name,
        [
            ("AT", time(step.at_ms)),
            ("STEP", step.step.to_string()),
            ("AFTER", took(step.took_ms)),
            ("TIMES", step.times.to_string()),
            ("DETAIL", step.detail.clone()),
        ],
    );
}

fn row(table: &mut Table, line: &Provisioning) {
    let last = line.steps.iter().rev().find(|s| !s.trouble);
    let step = last.map(|s| s.step).map(BootStep::words).unwrap_or_default();
    table.row([
        ("SWITCH", line.switch.to_string()),
        ("IN SERVICE", if line.in_service { "yes" } else { "no" }.to_owned()),
        ("TOOK", took(line.took_ms)),
        ("LAST STEP", step.to_owned()),
        ("WAITS FOR", line.waits_for.clone().unwrap_or_default()),
        ("LAST ERROR", line.last_error.clone().unwrap_or_default()),
    ]);
}

pub(super) async fn run(session: &Session, command: Command) -> Result<ExitCode> {
    let Command::Status(args) = command;
    if args.watch {
        return watch(session, &args).await;
    }
    let lines = lines(session, args.switch.as_ref()).await?;
    match (&args.switch, lines.as_slice()) {
        (Some(_), [line]) => args.output.output.print(line, || {
            let mut table = Table::default();
            line.steps.iter().for_each(|step| step_row(&mut table, None, step));
            table
        }),
        _ => args.output.output.print(&lines, || {
            let mut table = Table::default();
            lines.iter().for_each(|line| row(&mut table, line));
            table
        }),
    }
}

async fn lines(session: &Session, switch: Option<&Name>) -> Result<Vec<Provisioning>> {
    let mut lines = session.client.provisioning().await?;
    if let Some(name) = switch {
        lines.retain(|line| line.switch == *name);
        if lines.is_empty() {
            bail!("switch `{name}` does not exist");
        }
    }
    Ok(lines)
}

async fn watch(session: &Session, args: &StatusArgs) -> Result<ExitCode> {
    let mut shown: HashSet<(Name, u64, BootStep, String)> = HashSet::new();
    let mut printed = Table::default();
    while !out::is_gone() {
        let mut now = HashSet::new();
        let mut news = Vec::new();
        for line in lines(session, args.switch.as_ref()).await? {
            for step in line.steps {
                let key = (line.switch.clone(), step.at_ms, step.step, step.detail.clone());
                if !shown.contains(&key) {
                    news.push((line.switch.clone(), step));
                }
                now.insert(key);
            }
        }
        news.sort_by_key(|(_, step)| step.at_ms);
        for (switch, step) in &news {
            if matches!(args.output.output, Format::Table) {
                step_row(&mut printed, Some(switch), step);
                printed.line();
            } else {
                say!("{}", serde_json::to_string(&(switch, step))?);
            }
        }
        shown = now;
        tokio::time::sleep(AGAIN).await;
    }
    Ok(ExitCode::SUCCESS)
}
