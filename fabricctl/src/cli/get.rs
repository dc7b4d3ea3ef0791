//! `get`: objects and the state of the fabric, as tables for people or documents for programs.

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use fabric_lab::say;
use serde::Serialize;
use serde_json::Value;
use vfabric_api::ident::Name;
use vfabric_api::kind::{Key, Kind};
use vfabric_api::status::{DeviceEntity, LinkStatus, View};

use super::complete;
use super::connect::{InVdc, Session};
use super::show::{ListFormat, Listing};
use super::tables;
use super::what::What;

#[derive(Debug, Args)]
pub(super) struct GetArgs {
    /// What to show: vdcs, networks (net), routers (rt), attachments (att), switches (sw), hosts, links, drops (lost
    /// packets by device, place and reason) or entities (what devices should hold)
    #[arg(add = ArgValueCandidates::new(complete::things))]
    what: What,
    /// Only these: NAME or VDC/NAME; for links SWITCH:PORT of one end; for drops and entities the device
    #[arg(add = ArgValueCandidates::new(complete::names))]
    names: Vec<String>,
    #[command(flatten)]
    vdc: InVdc,
    /// Objects of all vDCs
    #[arg(short = 'A', long, conflicts_with = "vdc")]
    all_vdcs: bool,
    /// How to print it
    #[arg(short, long, value_enum, default_value_t = ListFormat::Table)]
    output: ListFormat,
}

/// An object with the vDC that it is in.
#[derive(Serialize)]
struct Object {
    /// Absent if the object is itself a vDC.
    #[serde(skip_serializing_if = "Option::is_none")]
    vdc: Option<Name>,
    #[serde(flatten)]
    view: Value,
    #[serde(skip)]
    shown: View,
}

impl Object {
    fn new(vdc: Option<Name>, view: View) -> Result<Self> {
        Ok(Self {
            vdc,
            view: serde_json::to_value(&view)?,
            shown: view,
        })
    }

    /// The name in the form that other commands accept.
    fn name(&self) -> String {
        let name = self.shown.name();
        self.vdc
            .as_ref()
            .map_or_else(|| name.to_string(), |vdc| format!("{vdc}/{name}"))
    }
}

pub(super) async fn get(session: &Session, args: GetArgs) -> Result<ExitCode> {
    let (client, names, format) = (&session.client, &args.names, args.output);
    match args.what {
        What::Objects(kind) => objects(session, kind, &args).await,
        What::Switches => {
            let found = only(client.switches().await?, ("switch", "switches"), names, |s, name| {
                s.name.as_str() == name
            })?;
            listing(&found, names, format).print(|s| s.name.to_string(), tables::switch)
        }
        What::Hosts => {
            let found = only(client.hosts().await?, ("host", "hosts"), names, |h, name| {
                h.name.as_str() == name
            })?;
            listing(&found, names, format).print(|h| h.name.to_string(), tables::host)
        }
        What::Links => {
            let at = |l: &LinkStatus, name: &str| {
                [&l.a, &l.b]
                    .iter()
                    .any(|end| format!("{}:{}", end.switch, end.port) == name)
            };
            let found = only(client.links().await?, ("link", "links"), names, at)?;
            listing(&found, names, format).print(|l| format!("{}:{}", l.a.switch, l.a.port), tables::link)
        }
        What::Drops => drops(session, &args).await,
        What::Entities => entities(session, &args).await,
    }
}

fn listing<'a, T>(items: &'a [T], names: &[String], format: ListFormat) -> Listing<'a, T> {
    Listing {
        items,
        is_one: names.len() == 1 && items.len() == 1,
        format,
    }
}

/// The items with these names, in the items' order; all items if no name is given.
///
/// # Errors
/// An item does not exist; the error names it.
fn only<T>(
    items: Vec<T>,
    (one, many): (&str, &str),
    names: &[String],
    is: impl Fn(&T, &str) -> bool,
) -> Result<Vec<T>> {
    if names.is_empty() {
        return Ok(items);
    }
    if let Some(name) = names.iter().find(|name| !items.iter().any(|item| is(item, name))) {
        bail!("{one} `{name}` does not exist; `fabricctl get {many}` shows those that do");
    }
    Ok(items
        .into_iter()
        .filter(|item| names.iter().any(|name| is(item, name)))
        .collect())
}

async fn objects(session: &Session, kind: Kind, args: &GetArgs) -> Result<ExitCode> {
    let client = &session.client;
    let inside = |vdc: &Name| Some(vdc.clone()).filter(|_| kind != Kind::Vdc);
    let mut found = Vec::new();
    if args.names.is_empty() {
        let vdcs = match kind {
            Kind::Vdc => vec![None],
            _ if args.all_vdcs => {
                let vdcs = client.list(Kind::Vdc, None).await?;
                vdcs.iter().map(|vdc| Some(vdc.name().clone())).collect()
            }
            _ => vec![Some(session.vdc(&args.vdc)?)],
        };
        for vdc in vdcs {
            for view in client.list(kind, vdc.as_ref()).await? {
                found.push(Object::new(vdc.clone(), view)?);
            }
        }
    } else {
        let keys: Result<Vec<Key>> = args
            .names
            .iter()
            .map(|name| session.key(kind, name, &args.vdc))
            .collect();
        for key in keys? {
            found.push(Object::new(inside(&key.vdc), client.get(&key).await?)?);
        }
    }
    let vdcs: BTreeSet<&Option<Name>> = found.iter().map(|object| &object.vdc).collect();
    let mixed = args.all_vdcs || vdcs.len() > 1;
    listing(&found, &args.names, args.output).print(Object::name, |table, object| {
        let vdc = object.vdc.as_ref().filter(|_| mixed);
        tables::object(table, vdc, &object.shown);
    })
}

/// Losses; below the table, the devices whose losses are unknown.
async fn drops(session: &Session, args: &GetArgs) -> Result<ExitCode> {
    let mut drops = session.client.drops().await?;
    if !args.names.is_empty() {
        let client = &session.client;
        let switches = client.switches().await?.into_iter().map(|s| s.name);
        let devices = switches
            .chain(client.hosts().await?.into_iter().map(|h| h.name))
            .collect();
        only(
            devices,
            ("device", "switches` and `get hosts"),
            &args.names,
            |device: &Name, name| device.as_str() == name,
        )?;
        let named = |device: &Name| args.names.iter().any(|name| name == device.as_str());
        drops.counts.retain(|count| named(&count.device));
        drops.missing.retain(|missing| named(&missing.device));
    }
    if matches!(args.output, ListFormat::Json | ListFormat::Yaml) {
        let one = [drops];
        let one = Listing {
            items: &one,
            is_one: true,
            format: args.output,
        };
        return one.print(|_| String::new(), |_, _| {});
    }
    let all = Listing {
        items: &drops.counts,
        is_one: false,
        format: args.output,
    };
    let done = all.print(|d| d.device.to_string(), tables::drops)?;
    if !matches!(args.output, ListFormat::Name) {
        for missing in &drops.missing {
            say!("missing: {}: {}", missing.device, missing.reason);
        }
    }
    Ok(done)
}

/// Entities of one device; with several devices, each entity with its device.
async fn entities(session: &Session, args: &GetArgs) -> Result<ExitCode> {
    #[derive(Serialize)]
    struct On {
        device: Name,
        #[serde(flatten)]
        entity: DeviceEntity,
    }
    let mut found = Vec::new();
    for name in &args.names {
        let device: Name = name.parse().with_context(|| format!("`{name}`"))?;
        let entities = session.client.entities(&device).await?;
        found.extend(entities.into_iter().map(|entity| On {
            device: device.clone(),
            entity,
        }));
    }
    let mixed = match args.names.len() {
        0 => bail!("no device is named: `fabricctl get entities DEVICE`; `get switches` and `get hosts` show devices"),
        n => n > 1,
    };
    let all = Listing {
        items: &found,
        is_one: false,
        format: args.output,
    };
    all.print(
        |on| format!("{} {} {}", on.device, on.entity.table, on.entity.key),
        |table, on| tables::entity(table, mixed.then_some(&on.device), &on.entity),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_does_not_exist_is_an_error_and_not_an_empty_table() {
        let all = || vec!["leaf1", "leaf2"];
        let pick = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
            only(all(), ("switch", "switches"), &names, |item, name| *item == name)
        };
        assert_eq!(pick(&[]).unwrap(), all());
        assert_eq!(pick(&["leaf2"]).unwrap(), ["leaf2"]);
        let error = pick(&["leaf2", "leaf9"]).unwrap_err().to_string();
        assert!(
            error.contains("switch `leaf9`") && error.contains("get switches"),
            "{error}"
        );
    }
}
