//! Does a deletion remove everything of an object, and nothing else?

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use vfabric_api::client::ClientError;
use vfabric_api::error::ErrorCode;
use vfabric_api::ident::{Name, Vni};
use vfabric_api::intent::{AttachmentSpec, Place, VdcIntent};
use vfabric_api::service::{Key, Kind, Rollback, Spec};
use vfabric_api::status::{Progress, View};

use super::{Endpoint, Scene};
use crate::probe::{self, ANSWER_TIMEOUT};

/// Time that a deletion gets to be confirmed by every device.
const CONFIRMED: Duration = Duration::from_secs(20);

type Entities = BTreeMap<Name, BTreeSet<(String, String, String)>>;

/// The entities that every device should hold, and those that it holds.
fn entities(cx: &Scene<'_>) -> Result<Entities> {
    let switches = cx.lab.topology.switches.iter().map(|s| &s.name);
    let devices = switches.chain(cx.lab.topology.hosts.iter().map(|h| &h.name));
    devices
        .map(|device| {
            let held = cx.runtime.block_on(cx.client.entities(device))?;
            Ok((
                device.clone(),
                held.into_iter().map(|e| (e.table, e.key, e.action)).collect(),
            ))
        })
        .collect()
}

fn count(of: &Entities) -> usize {
    of.values().map(BTreeSet::len).sum()
}

fn delete(cx: &Scene<'_>, key: &Key) -> Result<()> {
    let outcome = cx.runtime.block_on(cx.client.delete(key, Some(CONFIRMED)))?;
    let applied = outcome
        .applied
        .context("the answer does not say how far the devices are")?;
    if applied.progress != Progress::Applied {
        bail!(
            "{key}: deletion confirmed by {} of {} devices",
            applied.applied,
            applied.devices
        );
    }
    Ok(())
}

/// How many entities of each table a device holds. Only these counts stay the same when an object is deleted and comes
/// back, because it then has a new identity, another MAC address and other numbers.
fn shape(of: &Entities) -> BTreeMap<(&Name, &str), usize> {
    let mut shape = BTreeMap::new();
    for (device, held) in of {
        for (table, ..) in held {
            *shape.entry((device, table.as_str())).or_default() += 1;
        }
    }
    shape
}

/// Deletes one attachment and rolls that back. The others notice nothing, the plan names as many entities as come back,
/// and afterwards every device holds as many entities of each table as before.
pub(super) fn attachment(cx: &Scene<'_>) -> Result<String> {
    let before = entities(cx)?;
    let a = cx
        .endpoints
        .iter()
        .find(|e| e.host.is_some())
        .context("no workload on a host")?;
    let revision = cx.runtime.block_on(cx.client.fabric())?.revision;
    delete(cx, &key(a))?;
    let without = entities(cx)?;
    for (device, held) in &without {
        // An entity that it shares with others (a flood group) may have become smaller.
        let known = |(table, key, _): &(String, String, String)| {
            before
                .get(device)
                .is_some_and(|b| b.iter().any(|(t, k, _)| t == table && k == key))
        };
        if let Some(new) = held.iter().find(|e| !known(e)) {
            bail!("{device} holds {new:?}, which it did not before the deletion");
        }
    }
    let removed = count(&before) - count(&without);
    let interfaces = crate::netns::within(&a.namespace, || {
        Ok(std::fs::read_to_string("/proc/thread-self/net/dev")?)
    })?;
    if interfaces.contains("eth0") {
        bail!("{}: the interface is still there", a.id);
    }
    let others = cx.pairs(|x, y| x.vdc == a.vdc && y.vdc == a.vdc && x.id != a.id && y.id != a.id)?;
    for (from, to) in others {
        let answer = probe::ask(&from.namespace, to.ipv4, "still there", ANSWER_TIMEOUT)?;
        answer.with_context(|| format!("{} no longer reaches {}", from.id, to.id))?;
    }
    let planned = roll_back(cx, revision)?;
    ensure!(
        planned == removed,
        "the plan adds {planned} entities; {removed} were removed"
    );
    let after = entities(cx)?;
    let (now, then) = (shape(&after), shape(&before));
    if let Some((device, table)) = now.keys().chain(then.keys()).find(|k| now.get(*k) != then.get(*k)) {
        bail!("after the attachment came back {device} holds another number of entities in `{table}`");
    }
    Ok(format!(
        "{}: {removed} entities removed, {removed} planned and back",
        a.id
    ))
}

/// Goes back to a revision. Returns how many entities the plan adds to devices.
fn roll_back(cx: &Scene<'_>, to: u64) -> Result<usize> {
    let back = |dry_run| Rollback {
        to,
        dry_run,
        ..Rollback::default()
    };
    let planned = cx.runtime.block_on(cx.client.rollback(&back(true), None))?;
    let plan = planned.committed.plan.context("a dry run has a plan")?;
    let all = plan
        .devices
        .iter()
        .chain(&plan.later)
        .flat_map(|device| &device.entities);
    let outcome = cx.runtime.block_on(cx.client.rollback(&back(false), Some(CONFIRMED)))?;
    let applied = outcome.applied.context("the answer says nothing of devices")?;
    ensure!(
        applied.progress == Progress::Applied,
        "not applied: {:?}",
        applied.waiting
    );
    Ok(all.filter(|entity| entity.before.is_none()).count())
}

fn key(e: &Endpoint) -> Key {
    Key::new(e.vdc.clone(), Kind::Attachment, e.name.clone())
}

/// A host that cannot be reached has not confirmed a deletion. A new network that names the same VNI waits, and no
/// device gets it.
pub(super) fn vni_quarantine(cx: &Scene<'_>) -> Result<String> {
    let network = |name: &str, vni: Option<Vni>| -> Result<Spec> {
        let subnets = vec![vfabric_api::intent::SubnetSpec::new("10.9.0.0/24".parse()?)];
        Ok(Spec::Network(vfabric_api::intent::NetworkSpec {
            name: name.parse()?,
            subnets,
            mtu: 1500,
            vni,
            labels: Default::default(),
        }))
    };
    // A namespace belongs to one vDC: both places are of the vDC that the networks are made in.
    let on_host = |e: &&Endpoint| e.host.is_some();
    let first = cx.endpoints.iter().find(on_host).context("no workload on a host")?;
    let elsewhere = |e: &&Endpoint| on_host(e) && e.vdc == first.vdc && e.host != first.host;
    let second = cx.endpoints.iter().find(elsewhere);
    let second = second.context("no workload of the same vDC on a second host")?;
    let vdc = first.vdc.clone();
    let host = first.host.clone().context("no workload on a host")?;
    let other = second.host.clone().context("no workload on a second host")?;
    let (netns, other_netns) = (first.namespace.clone(), second.namespace.clone());
    let probe = |name: &str, network: &str, host: &Name, netns: &str| -> Result<Spec> {
        Ok(Spec::Attachment(AttachmentSpec {
            name: name.parse()?,
            network: network.parse()?,
            mac: None,
            ips: Vec::new(),
            place: Place::Host {
                host: host.clone(),
                netns: netns.to_owned(),
                interface: "quarantine".into(),
            },
            port_security: true,
            allowed_addresses: Vec::new(),
            migration: None,
            labels: Default::default(),
        }))
    };
    let create = |spec: &Spec| cx.runtime.block_on(cx.client.create(&vdc, spec, Some(CONFIRMED)));
    let View::Network(made) = create(&network("resting-1", None)?)? else {
        bail!("no network")
    };
    create(&probe("resting-1", "resting-1", &host, &netns)?)?;
    let second = Key::new(vdc.clone(), Kind::Attachment, "resting-2".parse()?);
    let progress = || match cx.runtime.block_on(cx.client.get(&second))? {
        View::Attachment(a) => Ok(a.applied),
        _ => bail!("no attachment"),
    };
    cx.lab.daemons.signal(host.as_str(), Signal::SIGSTOP)?;
    let meanwhile = (|| {
        for (kind, name) in [(Kind::Attachment, "resting-1"), (Kind::Network, "resting-1")] {
            let gone = Key::new(vdc.clone(), kind, name.parse()?);
            cx.runtime.block_on(cx.client.delete(&gone, None))?;
        }
        for spec in [
            network("resting-2", Some(made.vni))?,
            probe("resting-2", "resting-2", &other, &other_netns)?,
        ] {
            cx.runtime.block_on(cx.client.create(&vdc, &spec, None))?;
        }
        progress()
    })();
    cx.lab.daemons.signal(host.as_str(), Signal::SIGCONT)?;
    let meanwhile = meanwhile?;
    if meanwhile.progress != Progress::Pending || !meanwhile.waiting.iter().any(|w| w.device == host) {
        bail!(
            "VNI {} of a network that {host} had not let go: expected to wait for it, got {meanwhile:?}",
            made.vni
        );
    }
    let applied = || Ok(Some(progress()?).filter(|a| a.progress == Progress::Applied));
    let (_, took) = cx.until(CONFIRMED, "the VNI becomes free", applied)?;
    delete(cx, &second)?;
    delete(cx, &Key::new(vdc, Kind::Network, "resting-2".parse()?))?;
    Ok(format!(
        "VNI {}: its next network waited while {host} was stopped, in place {:.0} ms after",
        made.vni,
        took.as_secs_f64() * 1e3
    ))
}

/// Deletes a whole vDC object by object, users first, and brings it back.
pub(super) fn vdc(cx: &Scene<'_>) -> Result<String> {
    let before = entities(cx)?;
    let intent = cx.lab.intent.vdcs.last().context("the intent has no vDC")?;
    let survivors = cx.pairs(|a, b| a.vdc != intent.name && b.vdc == a.vdc)?;
    refuses_while_used(cx, intent)?;
    let keys = |kind, names: Vec<&Name>| {
        names
            .into_iter()
            .map(move |n| Key::new(intent.name.clone(), kind, n.clone()))
            .collect::<Vec<_>>()
    };
    let order = [
        keys(Kind::Attachment, intent.attachments.iter().map(|a| &a.name).collect()),
        keys(Kind::Router, intent.routers.iter().map(|r| &r.name).collect()),
        keys(Kind::Network, intent.networks.iter().map(|n| &n.name).collect()),
        vec![Key::vdc(intent.name.clone())],
    ];
    for key in order.iter().flatten() {
        delete(cx, key)?;
    }
    let without = entities(cx)?;
    for (from, to) in &survivors {
        let answer = probe::ask(&from.namespace, to.ipv6, "still there", ANSWER_TIMEOUT)?;
        answer.with_context(|| format!("{} no longer reaches {}", from.id, to.id))?;
    }
    cx.runtime.block_on(cx.lab.apply(&cx.client))?;
    let removed = count(&before) - count(&without);
    Ok(format!(
        "{}: {} objects deleted, {removed} entities removed; the other vDC undisturbed",
        intent.name,
        order.iter().flatten().count()
    ))
}

fn refuses_while_used(cx: &Scene<'_>, intent: &VdcIntent) -> Result<()> {
    let network = intent.networks.first().context("the vDC has no network")?;
    for key in [
        Key::new(intent.name.clone(), Kind::Network, network.name.clone()),
        Key::vdc(intent.name.clone()),
    ] {
        match cx.runtime.block_on(cx.client.delete(&key, None)) {
            Err(ClientError::Api(e)) if e.code == ErrorCode::InUse => {}
            other => bail!("deletion of {key}, which is in use: expected `in_use`, got {other:?}"),
        }
    }
    Ok(())
}
