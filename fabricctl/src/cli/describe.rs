//! `describe`: everything about one object or device.
//!
//! For an object: what the user asked for, what the controller chose, the state on each device, the revision that last changed it,
//! and each entity that it asks devices for. For a device: its state, its entries in each table, and its losses.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use fabric_lab::say;
use serde::Serialize;
use serde_json::Value;
use vfabric_api::client::Client;
use vfabric_api::ident::Name;
use vfabric_api::kind::{Key, Kind};

use super::connect::{InVdc, Session};
use super::history::time;
use super::show::Table;
use super::what::What;
use super::{complete, tables};

#[derive(Debug, Args)]
pub(super) struct DescribeArgs {
    /// The kind: vdc, network, router, attachment, switch, host or link
    #[arg(add = ArgValueCandidates::new(complete::things))]
    what: What,
    /// The object: NAME or VDC/NAME; for a link SWITCH:PORT of one end
    #[arg(required = true, add = ArgValueCandidates::new(complete::names))]
    names: Vec<String>,
    #[command(flatten)]
    vdc: InVdc,
}

pub(super) async fn describe(session: &Session, args: DescribeArgs) -> Result<ExitCode> {
    for (i, name) in args.names.iter().enumerate() {
        if i > 0 {
            say!("");
        }
        match args.what {
            What::Objects(kind) => object(session, &session.key(kind, name, &args.vdc)?).await?,
            What::Switches => {
                let all = session.client.switches().await?;
                let one = all.iter().find(|s| s.name.as_str() == name);
                device(&session.client, "switch", name, one.map(|s| (&s.name, s))).await?;
            }
            What::Hosts => {
                let all = session.client.hosts().await?;
                let one = all.iter().find(|h| h.name.as_str() == name);
                device(&session.client, "host", name, one.map(|h| (&h.name, h))).await?;
            }
            What::Links => {
                let all = session.client.links().await?;
                let at = |end: &vfabric_api::topology::PortRef| format!("{}:{}", end.switch, end.port) == *name;
                let one = all.iter().find(|l| at(&l.a) || at(&l.b));
                fields(&serde_json::to_value(
                    one.with_context(|| format!("link `{name}` does not exist"))?,
                )?);
            }
            What::Drops | What::Entities => {
                bail!("`describe` is about one object or device; `get` shows drops and entities")
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A document as indented lines.
fn fields(value: &Value) {
    if let Ok(text) = serde_saphyr::to_string(value) {
        fabric_lab::out::text(format_args!("{text}"));
    }
}

/// A part with a heading.
fn part(heading: &str, value: &impl Serialize) -> Result<()> {
    let mut with = serde_json::Map::new();
    with.insert(heading.to_owned(), serde_json::to_value(value)?);
    fields(&Value::Object(with));
    Ok(())
}

async fn object(session: &Session, key: &Key) -> Result<()> {
    let client = &session.client;
    let view = client.get(key).await?;
    let mut document = serde_json::to_value(&view)?;
    part("kind", &key.kind.word())?;
    if key.kind != Kind::Vdc {
        part("vdc", &key.vdc)?;
    }
    // The request first, then its result.
    let whole = document.as_object_mut();
    if let Some(spec) = whole.and_then(|fields| fields.remove("spec")) {
        part("spec", &spec)?;
    }
    part("status", &document)?;
    if let Ok(revision) = client.revision(view.revision()).await {
        let origin = revision.origin;
        let mut changed = BTreeMap::from([("time", time(revision.time_ms))]);
        changed.extend(
            [("by", origin.author), ("because", origin.reason)]
                .into_iter()
                .filter(|(_, w)| !w.is_empty()),
        );
        part("last_change", &changed)?;
    }
    entities(session, key).await
}

/// The entities that the object asks devices for. If other objects ask for the same entity, only some of them are
/// named.
async fn entities(session: &Session, key: &Key) -> Result<()> {
    let client = &session.client;
    let words = key.to_string();
    if !session.sees_devices().await? {
        say!("entities: (only users with a role of the fabric see them)");
        return Ok(());
    }
    say!("entities:");
    let mut last = None;
    // Lines rather than a table: contents of host entities are long.
    for found in client.entities_of(key).await? {
        let (device, entity) = (found.device, found.entity);
        if last.as_ref() != Some(&device) {
            say!("  {device}:");
        }
        let state = if entity.applied { "applied" } else { "not applied yet" };
        say!("  - {} [{}], {state}", entity.table, entity.key);
        say!("      {}", entity.action);
        let others: Vec<&str> = entity
            .asked_by
            .iter()
            .map(String::as_str)
            .filter(|by| *by != words)
            .collect();
        if !others.is_empty() {
            say!("      also for {}", others.join(", "));
        }
        last = Some(device);
    }
    Ok(())
}

async fn device<T: Serialize>(client: &Client, kind: &str, name: &str, found: Option<(&Name, &T)>) -> Result<()> {
    let Some((name, status)) = found else {
        bail!("{kind} `{name}` does not exist");
    };
    part("kind", &kind)?;
    fields(&serde_json::to_value(status)?);
    let mut by_table: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for entity in client.entities(name).await? {
        let [all, applied] = by_table.entry(entity.table).or_default();
        *all += 1;
        *applied += usize::from(entity.applied);
    }
    say!("tables:");
    let mut table = Table::default();
    for (of, [all, applied]) in by_table {
        table.row([
            ("TABLE", of),
            ("ENTITIES", all.to_string()),
            ("APPLIED", applied.to_string()),
        ]);
    }
    table.show();
    let drops = client.drops().await?;
    say!("drops:");
    let mut table = Table::default();
    let counts = drops.counts.iter().filter(|count| count.device == *name);
    counts.for_each(|count| tables::drops(&mut table, count));
    table.show();
    for missing in drops.missing.iter().filter(|missing| missing.device == *name) {
        say!("missing: {}", missing.reason);
    }
    Ok(())
}
