//! The inventory.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use fabric_lab::say;
use vfabric_api::client::{Client, Verb, link_at};
use vfabric_api::inventory::{Inventory, ItemKey};
use vfabric_api::service::Outcome;
use vfabric_api::topology::Topology;

use super::show::Table;
use super::{Output, report, seconds};

/// Commands about the inventory.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Show every switch, link and host
    Get(Output),
    /// Print it as a topology file
    Export,
    /// Show what a topology file would change, on each device too
    Diff(File),
    /// Change the inventory to match a topology file
    Import(Import),
    /// Drain a switch or host: paths avoid a switch while there are others, and there are no new attachments
    Drain(Device),
    /// Put a switch or host back into service
    Undrain(Device),
    /// Remove a switch, link or host
    Remove(Remove),
    /// Declare a switch or host dead: its neighbours shut it out, then its numbers are free
    Gone(Device),
}

#[derive(Debug, Args)]
pub(super) struct File {
    /// The topology file (YAML), or - for standard input
    #[arg(short, long)]
    file: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    #[command(flatten)]
    file: File,
    /// Seconds to wait until every device has applied it; 0 does not wait
    #[arg(long, default_value_t = 30.0)]
    wait: f64,
}

#[derive(Debug, Args)]
pub(super) struct Device {
    /// `switch` or `host`
    kind: String,
    /// Its name
    name: String,
    /// Only show what would change, on each device too
    #[arg(long)]
    dry_run: bool,
    /// Seconds to wait until every device has applied it; 0 does not wait
    #[arg(long, default_value_t = 30.0)]
    wait: f64,
}

#[derive(Debug, Args)]
pub(super) struct Remove {
    /// `switch`, `host` or `link`
    kind: String,
    /// Its name; for a link, `SWITCH:PORT` of one end
    name: String,
    /// Also remove what uses it: links of a switch, hosts under a leaf, attachments there
    #[arg(long)]
    cascade: bool,
    /// Only show what would change, on each device too
    #[arg(long)]
    dry_run: bool,
    /// Seconds to wait until every device has applied it; 0 does not wait
    #[arg(long, default_value_t = 30.0)]
    wait: f64,
}

fn key(kind: &str, name: &str) -> Result<ItemKey> {
    Ok(match kind {
        "switch" => ItemKey::Switch(name.parse()?),
        "host" => ItemKey::Host(name.parse()?),
        "link" => {
            let expected = || format!("`{name}`: expected SWITCH:PORT of one end of the link");
            let (switch, port) = name.split_once(':').with_context(expected)?;
            let port: u16 = port.parse().with_context(expected)?;
            link_at(switch.parse()?, port.try_into()?)
        }
        _ => bail!("`{kind}`: expected switch, host or link"),
    })
}

/// Reads a topology file. The controller checks its content.
fn read(path: &Path) -> Result<Topology> {
    let text = if path == Path::new("-") {
        std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?
    } else {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?
    };
    Topology::from_yaml(&text).with_context(|| format!("in {}", path.display()))
}

/// Runs one command.
pub(super) async fn run(client: &Client, command: Command) -> Result<ExitCode> {
    match command {
        Command::Get(output) => {
            let inventory = client.inventory().await?;
            output.output.print(&inventory, || table(&inventory))
        }
        Command::Export => {
            let topology = client.inventory().await?.topology();
            fabric_lab::out::text(format_args!("{}", serde_saphyr::to_string(&topology)?));
            Ok(ExitCode::SUCCESS)
        }
        Command::Diff(file) => {
            let outcome = client.import(&read(&file.file)?, true, None).await?;
            planned(&outcome)
        }
        Command::Import(import) => {
            let topology = read(&import.file.file)?;
            done(&client.import(&topology, false, seconds(import.wait)?).await?)
        }
        Command::Drain(device) => verb(client, &device, Verb::Drain).await,
        Command::Undrain(device) => verb(client, &device, Verb::Undrain).await,
        Command::Gone(device) => verb(client, &device, Verb::Gone).await,
        Command::Remove(remove) => {
            let key = key(&remove.kind, &remove.name)?;
            if remove.dry_run {
                return planned(&client.plan_removal(&key, remove.cascade).await?);
            }
            done(&client.remove(&key, remove.cascade, seconds(remove.wait)?).await?)
        }
    }
}

async fn verb(client: &Client, device: &Device, verb: Verb) -> Result<ExitCode> {
    let key = key(&device.kind, &device.name)?;
    if matches!(key, ItemKey::Link(..)) {
        bail!("`link`: expected switch or host");
    }
    if device.dry_run {
        return planned(&client.plan_device(&key, verb).await?);
    }
    done(&client.device(&key, verb, seconds(device.wait)?).await?)
}

fn changes(outcome: &Outcome) {
    for change in &outcome.committed.inventory {
        say!("{change}");
    }
    for key in &outcome.committed.deleted {
        say!("- {key}");
    }
    say!(
        "{} unchanged, revision {}",
        outcome.committed.unchanged,
        outcome.committed.revision
    );
}

fn planned(outcome: &Outcome) -> Result<ExitCode> {
    changes(outcome);
    if let Some(plan) = &outcome.committed.plan {
        super::plan::devices(plan);
    }
    Ok(ExitCode::SUCCESS)
}

fn done(outcome: &Outcome) -> Result<ExitCode> {
    changes(outcome);
    Ok(report(outcome))
}

fn table(inventory: &Inventory) -> Table {
    let mut t = Table::default();
    let mut row = |kind: &str, name: String, uid: u64, vtep: String, state: String, about: String| {
        t.row([
            ("KIND", kind.to_owned()),
            ("NAME", name),
            (
                "UID",
                Some(uid)
                    .filter(|uid| *uid != 0)
                    .map(|uid| uid.to_string())
                    .unwrap_or_default(),
            ),
            ("VTEP", vtep),
            ("ABOUT", about),
            ("STATE", state),
        ]);
    };
    let state = |state: &dyn std::fmt::Display, waiting: &[String]| {
        let reasons: String = waiting.iter().map(|w| format!("\n{w}")).collect();
        format!("{state}{reasons}")
    };
    for s in &inventory.switches {
        let mut about = format!(
            "{} {} {} at {}",
            format!("{:?}", s.spec.role).to_lowercase(),
            s.spec.loopback_ipv4,
            s.spec.loopback_ipv6,
            s.spec.p4runtime
        );
        let machine = [
            ("model", s.spec.model.as_ref().map(ToString::to_string)),
            ("serial", s.spec.serial.as_ref().map(ToString::to_string)),
            ("mac", s.spec.mac.as_ref().map(ToString::to_string)),
            ("software", s.spec.software.as_ref().map(ToString::to_string)),
        ];
        let parts: Vec<String> = machine
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name} {}", value?)))
            .collect();
        if !parts.is_empty() {
            about = format!("{about}\n{}", parts.join(", "));
        }
        if let Some(machine) = &s.machine {
            let runs = machine.software.iter().map(|version| format!("runs {version}"));
            let troubles = machine.troubles.iter().map(|trouble| format!("trouble: {trouble}"));
            let lines: String = runs.chain(troubles).map(|line| format!("\n{line}")).collect();
            about.push_str(&lines);
        }
        let vtep = s.vtep_id.map(|id| id.to_string()).unwrap_or_default();
        let state = state(&s.state, &s.waiting);
        row("switch", s.spec.name.to_string(), s.uid, vtep, state, about);
    }
    for h in &inventory.hosts {
        let (spec, uplink) = (&h.spec, &h.spec.uplink);
        let about = format!(
            "{}:{} {} {}",
            uplink.switch, uplink.port, spec.vtep_ipv4, spec.vtep_ipv6
        );
        let state = state(&h.state, &h.waiting);
        row(
            "host",
            spec.name.to_string(),
            h.uid,
            h.vtep_id.to_string(),
            state,
            about,
        );
    }
    for l in &inventory.links {
        let (a, b) = (&l.spec.a, &l.spec.b);
        let about = format!("{}:{} - {}:{}", a.switch, a.port, b.switch, b.port);
        let name = format!("{}:{}", a.switch, a.port);
        row("link", name, l.uid, String::new(), "in service".to_owned(), about);
    }
    for aside in &inventory.set_aside {
        let state = format!("set aside: {}", aside.reason);
        row("stored", aside.object.clone(), 0, String::new(), state, String::new());
    }
    t
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_named_by_kind_and_name() {
        assert_eq!(key("switch", "leaf1").unwrap().to_string(), "switch `leaf1`");
        let link = key("link", "leaf1:3").unwrap();
        assert!(matches!(link, ItemKey::Link(end, _) if end.port.get() == 3));
        for (kind, name) in [("link", "leaf1"), ("link", "leaf1:0"), ("vdc", "v"), ("host", "-")] {
            assert!(key(kind, name).is_err(), "{kind} {name}");
        }
    }
}
