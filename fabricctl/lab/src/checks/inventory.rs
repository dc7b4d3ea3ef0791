//! What does it cost to change the fabric while it is used?

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use vfabric_api::client::{ClientError, Verb};
use vfabric_api::error::ErrorCode;
use vfabric_api::inventory::{ItemKey, ItemState};
use vfabric_api::service::{ApplyOptions, Outcome};
use vfabric_api::status::Progress;
use vfabric_api::topology::{Host, PortRef, Role};

use super::faults::{AROUND, across, start};
use super::{Endpoint, Scene};
use crate::probe::{self, ANSWER_TIMEOUT};
use crate::traffic::Loss;

/// Longest time that a change may take until every device has applied it.
const APPLIED: Duration = Duration::from_secs(30);

fn applied(outcome: &Outcome) -> Result<()> {
    let applied = outcome.applied.as_ref().context("the answer says nothing of devices")?;
    ensure!(
        applied.progress == Progress::Applied,
        "not applied: {:?}",
        applied.waiting
    );
    Ok(())
}

/// Nothing may be lost here, with or without a counter.
fn lossless(loss: &Loss, while_: &str) -> Result<()> {
    ensure!(loss.lost == 0, "{while_}: {loss}");
    Ok(())
}

/// A spine is drained and put back into service under traffic.
pub(super) fn spine_drained(cx: &Scene<'_>) -> Result<String> {
    let spine = cx.lab.topology.switches.iter().find(|s| s.role == Role::Spine);
    let spine = spine.context("the lab has a spine")?;
    let key = ItemKey::Switch(spine.name.clone());
    let traffic = start(cx, across)?;
    let mut changed = 0;
    for verb in [Verb::Drain, Verb::Undrain] {
        std::thread::sleep(AROUND);
        let outcome = cx.runtime.block_on(cx.client.device(&key, verb, Some(APPLIED)))?;
        applied(&outcome)?;
        changed += outcome.applied.map_or(0, |a| a.devices);
    }
    std::thread::sleep(AROUND);
    let loss = traffic.stop()?;
    cx.measured_loss(&loss);
    ensure!(changed > 0, "no switch was told to avoid {}", spine.name);
    lossless(&loss, "while it was drained and put back")?;
    cx.ready()?;
    Ok(format!(
        "{}: {loss}; {changed} switches changed their paths",
        spine.name
    ))
}

/// A spine is drained, unplugged, and other hardware takes its place, under traffic; then the first one comes back.
pub(super) fn spine_replaced(cx: &Scene<'_>) -> Result<String> {
    let spine = cx.lab.topology.switches.iter().find(|s| s.role == Role::Spine);
    let spine = spine.context("the lab has a spine")?;
    let key = ItemKey::Switch(spine.name.clone());
    let mut other = cx.lab.topology.clone();
    let device_id = spine.device_id + 1000;
    for switch in other.switches.iter_mut().filter(|s| s.name == spine.name) {
        switch.device_id = device_id;
    }
    let in_service = |device_id: u16| {
        let inventory = cx.runtime.block_on(cx.client.inventory())?;
        let item = inventory.switches.iter().find(|s| s.spec.name == spine.name);
        let item = item.filter(|s| s.spec.device_id == device_id && s.state == ItemState::InService);
        Ok(item.map(|_| ()))
    };
    let traffic = start(cx, across)?;
    let mut took = Vec::new();
    for (device_id, topology) in [(device_id, &other), (spine.device_id, &cx.lab.topology)] {
        std::thread::sleep(AROUND);
        applied(
            &cx.runtime
                .block_on(cx.client.device(&key, Verb::Drain, Some(APPLIED)))?,
        )?;
        std::thread::sleep(AROUND);
        cx.lab.daemons.crash(spine.name.as_str())?;
        cx.runtime.block_on(cx.client.import(topology, false, None))?;
        cx.lab.start_switch_as(&spine.name, device_id)?;
        let ((), time) = cx.until(APPLIED, "the other hardware does not come into service", || {
            in_service(device_id)
        })?;
        took.push(time.as_millis().to_string());
        cx.ready()?;
    }
    std::thread::sleep(AROUND);
    let loss = traffic.stop()?;
    cx.measured_loss(&loss);
    lossless(&loss, "while a spine was replaced")?;
    Ok(format!(
        "{}: {loss}; in service {} ms after it was started",
        spine.name,
        took.join(" and ")
    ))
}

/// A host is added that never comes, declared gone and removed, under traffic.
pub(super) fn host_gone(cx: &Scene<'_>) -> Result<String> {
    let leaf = cx.lab.leaves().next().context("the lab has a leaf")?;
    let name: vfabric_api::ident::Name = "absent".parse()?;
    let mut wider = cx.runtime.block_on(cx.client.inventory())?.topology();
    wider.hosts.push(Host {
        name: name.clone(),
        uplink: PortRef {
            switch: leaf.name.clone(),
            port: 500.try_into()?,
        },
        mac: "02:00:00:00:ff:fe".parse()?,
        vtep_ipv4: "10.255.255.254".parse()?,
        vtep_ipv6: "fd00:255:ffff::fffe".parse()?,
    });
    let traffic = start(cx, across)?;
    std::thread::sleep(AROUND);
    cx.runtime.block_on(cx.client.import(&wider, false, None))?;
    let key = ItemKey::Host(name.clone());
    applied(&cx.runtime.block_on(cx.client.device(&key, Verb::Gone, Some(APPLIED)))?)?;
    cx.runtime.block_on(cx.client.remove(&key, false, None))?;
    let left = || {
        let inventory = cx.runtime.block_on(cx.client.inventory())?;
        let there = inventory.hosts.iter().any(|h| h.spec.name == name);
        Ok((!there).then_some(()))
    };
    let ((), took) = cx.until(APPLIED, "the host stays in the inventory", left)?;
    let loss = traffic.stop()?;
    cx.measured_loss(&loss);
    lossless(&loss, "while a host came and went")?;
    cx.ready()?;
    Ok(format!(
        "under {}: {loss}; left after {} ms",
        leaf.name,
        took.as_millis()
    ))
}

/// The host with the fewest workloads.
fn quiet_host(cx: &Scene<'_>) -> Result<Host> {
    let busy = |host: &&Host| {
        cx.endpoints
            .iter()
            .filter(|e| e.host.as_ref() == Some(&host.name))
            .count()
    };
    let hosts = cx.lab.topology.hosts.iter();
    let found = hosts.filter(|host| busy(host) > 0).min_by_key(busy);
    Ok(found.context("no host has a workload")?.clone())
}

/// Whether an endpoint has nothing to do with a host.
fn is_elsewhere(endpoint: &Endpoint, host: &Host) -> bool {
    endpoint.host.as_ref() != Some(&host.name)
}

/// A host with workloads is removed under the traffic of the others: refused as long as it is used, then with all that uses
/// it. Its leaf holds nothing of it afterwards.
pub(super) fn host_retired(cx: &Scene<'_>) -> Result<String> {
    let host = quiet_host(cx)?;
    let key = ItemKey::Host(host.name.clone());
    let traffic = start(cx, |a, b| {
        across(a, b) && is_elsewhere(a, &host) && is_elsewhere(b, &host)
    })?;
    std::thread::sleep(AROUND);
    match cx.runtime.block_on(cx.client.remove(&key, false, None)) {
        Err(ClientError::Api(error)) if error.code == ErrorCode::InUse => {}
        Err(error) => return Err(error.into()),
        Ok(_) => bail!("{key} was removed although it was in use"),
    }
    let outcome = cx.runtime.block_on(cx.client.remove(&key, true, Some(APPLIED)))?;
    applied(&outcome)?;
    let detached = outcome.committed.deleted.len();
    let left = || {
        let inventory = cx.runtime.block_on(cx.client.inventory())?;
        let is_there = inventory.hosts.iter().any(|h| h.spec.name == host.name);
        Ok((!is_there).then_some(()))
    };
    let ((), took) = cx.until(APPLIED, "the host stays in the inventory", left)?;
    std::thread::sleep(AROUND);
    let loss = traffic.stop()?;
    cx.measured_loss(&loss);
    lossless(&loss, "while a host was retired")?;
    let entities = cx.runtime.block_on(cx.client.entities(&host.uplink.switch))?;
    let words = format!("host `{}`", host.name);
    let stays = entities.iter().find(|e| e.asked_by.contains(&words));
    ensure!(stays.is_none(), "{} still holds {stays:?}", host.uplink.switch);
    Ok(format!(
        "{}: {loss}; {detached} attachments went with it, left after {} ms",
        host.name,
        took.as_millis()
    ))
}

/// The host is added again under traffic, is emptied before it is used, and its workloads come back.
pub(super) fn host_created(cx: &Scene<'_>) -> Result<String> {
    let host = quiet_host(cx)?;
    let traffic = start(cx, |a, b| {
        across(a, b) && is_elsewhere(a, &host) && is_elsewhere(b, &host)
    })?;
    std::thread::sleep(AROUND);
    cx.runtime.block_on(cx.client.import(&cx.lab.topology, false, None))?;
    let in_service = || {
        let inventory = cx.runtime.block_on(cx.client.inventory())?;
        let item = inventory.hosts.iter().find(|h| h.spec.name == host.name);
        Ok(item.filter(|h| h.state == ItemState::InService).map(|_| ()))
    };
    let ((), took) = cx.until(APPLIED, "the host does not come into service", in_service)?;
    let options = ApplyOptions::default();
    let outcome = cx
        .runtime
        .block_on(cx.client.apply(&cx.lab.intent, options, Some(APPLIED)))?;
    applied(&outcome)?;
    let loss = traffic.stop()?;
    cx.measured_loss(&loss);
    lossless(&loss, "while a host was created")?;
    cx.ready()?;
    let pairs = cx.pairs(|a, b| a.vdc == b.vdc && !(is_elsewhere(a, &host) && is_elsewhere(b, &host)))?;
    for (from, to) in &pairs {
        for ip in to.ips() {
            let answer = probe::ask(&from.namespace, ip, "back", ANSWER_TIMEOUT)?;
            answer.with_context(|| format!("{} does not reach {} ({ip})", from.id, to.id))?;
        }
    }
    Ok(format!(
        "{}: {loss}; in service after {} ms, {} attachments back, {} pairs reach each other",
        host.name,
        took.as_millis(),
        outcome.committed.created.len(),
        pairs.len()
    ))
}
