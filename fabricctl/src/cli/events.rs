//! `events`: recent events, and new ones as they happen.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use fabric_lab::{out, say};
use vfabric_api::event::Event;

use super::Output;
use super::connect::{OfVdc, Session};
use super::history::time;
use super::show::{Format, Table};

/// Pause before a connection that ended is opened again.
const AGAIN: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    #[command(flatten)]
    of: OfVdc,
    /// Only warnings
    #[arg(long)]
    warnings: bool,
    /// Most events to show
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Also show new events, until interrupted; with -o json a line for each event
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    output: Output,
}

fn row(table: &mut Table, event: &Event) {
    let what = event
        .object
        .clone()
        .or_else(|| event.device.as_ref().map(ToString::to_string));
    let word = serde_json::to_value(event.reason).ok();
    let word = word.and_then(|word| word.as_str().map(|word| word.replace('_', " ")));
    table.row([
        ("LAST", time(event.time_ms)),
        ("COUNT", event.count.to_string()),
        ("KIND", if event.warning { "warning" } else { "normal" }.to_owned()),
        ("REASON", word.unwrap_or_default()),
        ("VDC", event.vdc.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("ABOUT", what.unwrap_or_default()),
        (
            "DEVICE",
            event.device.as_ref().map(ToString::to_string).unwrap_or_default(),
        ),
        ("DETAIL", event.detail.clone()),
    ]);
}

pub(super) async fn events(session: &Session, args: EventsArgs) -> Result<ExitCode> {
    let (client, vdc) = (&session.client, session.of_vdc(&args.of));
    let is_asked = |event: &Event| event.warning || !args.warnings;
    let mut page = client.events(None, args.limit, vdc.as_ref()).await?;
    page.items.retain(is_asked);
    if !args.watch {
        return args.output.output.print(&page, || {
            let mut table = Table::default();
            page.items.iter().for_each(|event| row(&mut table, event));
            table
        });
    }
    let mut printed = Table::default();
    let mut show = |event: &Event| -> Result<()> {
        if !is_asked(event) {
            return Ok(());
        }
        if matches!(args.output.output, Format::Table) {
            row(&mut printed, event);
            printed.line();
        } else {
            say!("{}", serde_json::to_string(event)?);
        }
        Ok(())
    };
    page.items.iter().try_for_each(&mut show)?;
    let mut after = page.upto;
    loop {
        let mut watch = client.watch_events(after, vdc.as_ref()).await?;
        while let Some(event) = watch.next().await? {
            after = event.number;
            show(&event)?;
            if out::is_gone() {
                return Ok(ExitCode::SUCCESS);
            }
        }
        if out::is_gone() {
            return Ok(ExitCode::SUCCESS);
        }
        tokio::time::sleep(AGAIN).await;
    }
}
