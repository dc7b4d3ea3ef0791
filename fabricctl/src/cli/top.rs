//! `top`: how busy each device is, or what one device holds in each table.
//!
//! The API counts writes, repairs and lost packets of devices; a rate is the difference of two samples, one interval
//! apart. The list of all devices shows the fullest table of each switch; for a single switch, each table is shown with
//! its free places.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use fabric_lab::out;
use vfabric_api::client::Client;
use vfabric_api::ident::Name;
use vfabric_api::status::{DeviceStatus, TableUse};

use super::complete;
use super::connect::Session;
use super::show::Table;
use super::tables;

/// Shorter intervals would measure the controller's response time rather than the devices.
const SHORTEST: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(super) struct TopArgs {
    /// A switch or host, to show what it holds in each table [default: a line for each device]
    #[arg(add = ArgValueCandidates::new(complete::names))]
    device: Option<Name>,
    /// Time between two samples, as in 2s; at least 100ms
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// Repeat until interrupted
    #[arg(short, long)]
    watch: bool,
}

/// A sample of all devices.
struct Sample {
    at: Instant,
    devices: BTreeMap<Name, DeviceStatus>,
    lost: BTreeMap<Name, u64>,
    /// The fullest table of each switch.
    fullest: BTreeMap<Name, TableUse>,
}

impl Sample {
    async fn take(client: &Client) -> Result<Self> {
        let switches = client.switches().await?.into_iter().map(|s| (s.name, s.status));
        let devices = switches
            .chain(client.hosts().await?.into_iter().map(|h| (h.name, h.status)))
            .collect();
        let mut lost: BTreeMap<Name, u64> = BTreeMap::new();
        for count in client.drops().await?.counts {
            let sum = lost.entry(count.device).or_default();
            *sum = sum.saturating_add(count.packets);
        }
        let mut fullest: BTreeMap<Name, TableUse> = BTreeMap::new();
        for table in client.tables(None).await? {
            match fullest.get(&table.switch) {
                Some(known) if per_mille(known) >= per_mille(&table) => {}
                _ => {
                    fullest.insert(table.switch.clone(), table);
                }
            }
        }
        Ok(Self {
            fullest,
            at: Instant::now(),
            devices,
            lost,
        })
    }
}

/// How full a table is, in thousandths.
fn per_mille(table: &TableUse) -> usize {
    table.used.saturating_mul(1000).checked_div(table.size).unwrap_or(1000)
}

/// How full a table is, in per cent, for people.
fn full(table: &TableUse) -> String {
    let per_mille = per_mille(table);
    format!("{}.{} %", per_mille / 10, per_mille % 10)
}

/// A counter's growth in a second. A counter that was reset counts from zero.
#[allow(clippy::cast_precision_loss, reason = "a rate for people")]
fn rate(before: u64, after: u64, took: Duration) -> String {
    let grown = after.checked_sub(before).unwrap_or(after);
    format!("{:.1}", grown as f64 / took.as_secs_f64().max(f64::EPSILON))
}

pub(super) async fn top(session: &Session, args: TopArgs) -> Result<ExitCode> {
    if args.interval < SHORTEST {
        bail!(
            "--interval: `{}`: expected at least 100ms",
            humantime::format_duration(args.interval)
        );
    }
    let client = &session.client;
    let mut before = match args.device {
        Some(_) => None,
        None => Some(Sample::take(client).await?),
    };
    loop {
        if before.is_some() {
            tokio::time::sleep(args.interval).await;
        }
        let table = match (&args.device, &before) {
            (Some(device), _) => of(client, device).await?,
            (None, last) => {
                let now = Sample::take(client).await?;
                let table = all(last.as_ref().unwrap_or(&now), &now);
                before = Some(now);
                table
            }
        };
        if args.watch && std::io::stdout().is_terminal() {
            // Clears the screen (ECMA-48, ED and CUP).
            out::text(format_args!("\x1b[2J\x1b[H"));
        }
        table.show();
        if !args.watch || out::is_gone() {
            return Ok(ExitCode::SUCCESS);
        }
        if args.device.is_some() {
            tokio::time::sleep(args.interval).await;
        }
    }
}

fn all(before: &Sample, now: &Sample) -> Table {
    let took = now.at.saturating_duration_since(before.at);
    let mut table = Table::default();
    for (name, s) in &now.devices {
        let last = before.devices.get(name).unwrap_or(s);
        let lost = |sample: &Sample| sample.lost.get(name).copied().unwrap_or_default();
        table.row([
            ("DEVICE", name.to_string()),
            ("STATE", tables::word(s.state).to_owned()),
            ("ENTITIES", s.desired.to_string()),
            ("PENDING", s.pending.to_string()),
            ("WRITES/S", rate(last.writes, s.writes, took)),
            ("REPAIRS/S", rate(last.repairs, s.repairs, took)),
            ("DROPS/S", rate(lost(before), lost(now), took)),
            ("DROPS", lost(now).to_string()),
            (
                "FULLEST TABLE",
                now.fullest
                    .get(name)
                    .map(|table| format!("{} {}", table.table, full(table)))
                    .unwrap_or_default(),
            ),
        ]);
    }
    table
}

async fn of(client: &Client, device: &Name) -> Result<Table> {
    let mut pending: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for entity in client.entities(device).await? {
        let [all, pending] = pending.entry(entity.table).or_default();
        *all += 1;
        *pending += usize::from(!entity.applied);
    }
    let is_switch = client.switches().await?.iter().any(|switch| switch.name == *device);
    let tables = if is_switch {
        client.tables(Some(device)).await?
    } else {
        Vec::new()
    };
    let mut table = Table::default();
    let mut row = |name: String, all: usize, pending: usize, room: Option<&TableUse>| {
        let of_room = |of: fn(&TableUse) -> String| room.map(of).unwrap_or_default();
        table.row([
            ("TABLE", name),
            ("ENTITIES", all.to_string()),
            ("PENDING", pending.to_string()),
            ("FREE", of_room(|room| room.free.to_string())),
            ("SIZE", of_room(|room| room.size.to_string())),
            ("FULL", of_room(full)),
        ]);
    };
    for room in &tables {
        let [_, waiting] = pending.remove(&room.table).unwrap_or_default();
        row(room.table.clone(), room.used, waiting, Some(room));
    }
    for (name, [all, waiting]) in pending {
        row(name, all, waiting, None);
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_full_in_per_cent() {
        let table = |used, size| TableUse {
            switch: "leaf1".parse().unwrap(),
            table: "t".into(),
            size,
            used,
            free: 0,
        };
        assert_eq!(full(&table(1, 3)), "33.3 %");
        assert_eq!(full(&table(8, 8)), "100.0 %");
        assert_eq!(full(&table(0, 0)), "100.0 %");
    }

    #[test]
    fn a_rate_is_per_second_and_a_counter_may_begin_again() {
        let second = Duration::from_secs(1);
        assert_eq!(rate(10, 30, 2 * second), "10.0");
        assert_eq!(rate(100, 5, second), "5.0");
        assert_eq!(rate(0, 0, Duration::ZERO), "0.0");
    }
}
