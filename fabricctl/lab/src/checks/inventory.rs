//! What does it cost to change the fabric while it is in use?

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use vfabric_api::client::{ClientError, Verb};
use vfabric_api::error::ErrorCode;
use vfabric_api::ident::Name;
use vfabric_api::inventory::{ItemKey, ItemState};
use vfabric_api::plan::Plan;
use vfabric_api::service::Outcome;
use vfabric_api::status::Progress;
use vfabric_api::topology::{Host, PortRef, Role, Switch, Topology};

use super::faults::{AROUND, across, start};
use super::{Endpoint, Scene};
use crate::Target;
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

/// Why a spine is not replaced or retired in a lab of blank switches.
const OTHER_MACHINE: &str =
    "not asked of blank switches: a new machine has another serial number, and a retired one may not come back";

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
    ensure!(changed > 0, "no switch changed its paths to avoid {}", spine.name);
    lossless(&loss, "while it was drained and put back")?;
    cx.ready()?;
    Ok(format!(
        "{}: {loss}; {changed} switches changed their paths",
        spine.name
    ))
}

/// A host that never connects is added, declared gone and removed, under traffic.
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

/// Changes the fabric under the traffic of those that have nothing to do with what is `concerned`, and who loses nothing
/// that no link counted as lost.
fn under_traffic<T>(
    cx: &Scene<'_>,
    while_: &str,
    concerned: impl Fn(&Endpoint) -> bool,
    change: impl FnOnce() -> Result<T>,
) -> Result<(T, String)> {
    let mut account = cx.account()?;
    let traffic = start(cx, |a, b| across(a, b) && !concerned(a) && !concerned(b))?;
    std::thread::sleep(AROUND);
    let done = change();
    std::thread::sleep(AROUND);
    let loss = traffic.stop()?;
    cx.measured_loss(&loss);
    let done = done?;
    Ok((done, account.explain_by_links(&loss, while_)?))
}

/// The plan of a dry run, which must have changed nothing.
fn plan_of(cx: &Scene<'_>, dry: impl Future<Output = Result<Outcome, ClientError>>) -> Result<Plan> {
    let before = cx.runtime.block_on(cx.client.inventory())?;
    let outcome = cx.runtime.block_on(dry)?;
    ensure!(
        !outcome.committed.inventory.is_empty(),
        "a dry run shows no change of the inventory"
    );
    let after = cx.runtime.block_on(cx.client.inventory())?;
    ensure!(before == after, "a dry run has changed the inventory");
    outcome.committed.plan.context("a dry run has no plan")
}

/// The devices that are still there hold what was planned for them, and not what was to go. Returns the plan in words.
fn came_true(cx: &Scene<'_>, plan: &Plan) -> Result<String> {
    let inventory = cx.runtime.block_on(cx.client.inventory())?.topology();
    let is_there = |name: &Name| inventory.switch(name).is_some() || inventory.host(name).is_some();
    for device in plan.devices.iter().filter(|d| is_there(&d.device)) {
        let held = cx.runtime.block_on(cx.client.entities(&device.device))?;
        for planned in &device.entities {
            let found = held.iter().find(|e| e.table == planned.table && e.key == planned.key);
            let action = found.map(|e| &e.action);
            ensure!(
                action == planned.after.as_ref(),
                "{}: {} {}: {:?} was planned, {action:?} is there",
                device.device,
                planned.table,
                planned.key,
                planned.after
            );
        }
    }
    let count: usize = plan.devices.iter().map(|d| d.entities.len()).sum();
    Ok(format!("{count} entities of {} devices as planned", plan.devices.len()))
}

/// Waits until an object has left the inventory.
fn has_left(cx: &Scene<'_>, name: &Name) -> Result<Duration> {
    let left = || {
        let inventory = cx.runtime.block_on(cx.client.inventory())?;
        let switches = inventory.switches.iter().map(|s| &s.spec.name);
        let mut all = switches.chain(inventory.hosts.iter().map(|h| &h.spec.name));
        Ok((!all.any(|there| there == name)).then_some(()))
    };
    Ok(cx.until(APPLIED, &format!("{name} stays in the inventory"), left)?.1)
}

/// Waits until a device is used, with this device id if it is a switch.
fn in_service(cx: &Scene<'_>, name: &Name, device_id: Option<u16>) -> Result<Duration> {
    let in_service = || {
        let inventory = cx.runtime.block_on(cx.client.inventory())?;
        let switch = inventory.switches.iter().find(|s| s.spec.name == *name);
        let switch = switch.filter(|s| Some(s.spec.device_id) == device_id);
        let host = inventory.hosts.iter().find(|h| h.spec.name == *name);
        let state = switch.map(|s| s.state).or_else(|| host.map(|h| h.state));
        Ok((state == Some(ItemState::InService)).then_some(()))
    };
    Ok(cx
        .until(APPLIED, &format!("{name} does not come into service"), in_service)?
        .1)
}

fn import(cx: &Scene<'_>, topology: &Topology) -> Result<Plan> {
    let plan = plan_of(cx, cx.client.import(topology, true, None))?;
    applied(&cx.runtime.block_on(cx.client.import(topology, false, Some(APPLIED)))?)?;
    Ok(plan)
}

fn a_spine<'a>(cx: &'a Scene<'_>) -> Result<(&'a Switch, ItemKey)> {
    let spine = cx.lab.topology.switches.iter().find(|s| s.role == Role::Spine);
    let spine = spine.context("the lab has a spine")?;
    Ok((spine, ItemKey::Switch(spine.name.clone())))
}

fn drain(cx: &Scene<'_>, key: &ItemKey) -> Result<()> {
    applied(&cx.runtime.block_on(cx.client.device(key, Verb::Drain, Some(APPLIED)))?)
}

/// A spine is drained and unplugged, and other hardware takes its place; then the first one comes back.
pub(super) fn spine_replaced(cx: &Scene<'_>) -> Result<String> {
    if cx.lab.options.ztp {
        return Ok(OTHER_MACHINE.into());
    }
    let (spine, key) = a_spine(cx)?;
    let mut other = cx.lab.topology.clone();
    let device_id = spine.device_id + 1000;
    for switch in other.switches.iter_mut().filter(|s| s.name == spine.name) {
        switch.device_id = device_id;
    }
    let replace = || {
        let mut took = Vec::new();
        for (device_id, topology) in [(device_id, &other), (spine.device_id, &cx.lab.topology)] {
            drain(cx, &key)?;
            std::thread::sleep(AROUND);
            cx.lab.daemons.crash(spine.name.as_str())?;
            plan_of(cx, cx.client.import(topology, true, None))?;
            // Devices are not waited for: one of them is not there.
            cx.runtime.block_on(cx.client.import(topology, false, None))?;
            cx.lab.start_switch_as(&spine.name, device_id)?;
            let time = in_service(cx, &spine.name, Some(device_id))?;
            took.push(time.as_millis().to_string());
            cx.ready()?;
            std::thread::sleep(AROUND);
        }
        Ok(took)
    };
    let (took, loss) = under_traffic(cx, "while a spine was replaced", |_| false, replace)?;
    Ok(format!(
        "{}: {loss}; in service {} ms after it was started",
        spine.name,
        took.join(" and ")
    ))
}

/// A spine is drained and leaves with its links; then it joins again, empty.
pub(super) fn spine_retired_and_created(cx: &Scene<'_>) -> Result<String> {
    if cx.lab.options.ztp {
        return Ok(OTHER_MACHINE.into());
    }
    let (spine, key) = a_spine(cx)?;
    let change = || {
        drain(cx, &key)?;
        let plan = plan_of(cx, cx.client.plan_removal(&key, true))?;
        cx.runtime.block_on(cx.client.remove(&key, true, None))?;
        let left = has_left(cx, &spine.name)?;
        let planned = came_true(cx, &plan)?;
        std::thread::sleep(AROUND);
        plan_of(cx, cx.client.import(&cx.lab.topology, true, None))?;
        cx.runtime.block_on(cx.client.import(&cx.lab.topology, false, None))?;
        let joined = in_service(cx, &spine.name, Some(spine.device_id))?;
        cx.ready()?;
        Ok((left, planned, joined))
    };
    let ((left, planned, joined), loss) = under_traffic(cx, "while a spine left and joined", |_| false, change)?;
    Ok(format!(
        "{}: {loss}; left after {} ms ({planned}), in service after {} ms",
        spine.name,
        left.as_millis(),
        joined.as_millis()
    ))
}

/// The host with the fewest workloads.
fn quiet_host(cx: &Scene<'_>) -> Result<Host> {
    let busy = |host: &&Host| cx.endpoints.iter().filter(|e| is_on(e, host)).count();
    let hosts = cx.lab.topology.hosts.iter();
    let found = hosts.filter(|host| busy(host) > 0).min_by_key(busy);
    Ok(found.context("no host has a workload")?.clone())
}

fn is_on(endpoint: &Endpoint, host: &Host) -> bool {
    endpoint.host.as_ref() == Some(&host.name)
}

/// Waits until the workloads of a host and all others of their vDCs reach each other. Returns how many pairs that are.
fn reached(cx: &Scene<'_>, host: &Host) -> Result<usize> {
    let pairs = cx.pairs(|a, b| a.vdc == b.vdc && (is_on(a, host) || is_on(b, host)))?;
    for (from, to) in &pairs {
        for ip in to.ips() {
            let what = format!("{} does not reach {} ({ip})", from.id, to.id);
            cx.until(APPLIED, &what, || {
                probe::ask(&from.namespace, ip, "there", ANSWER_TIMEOUT)
            })?;
        }
    }
    Ok(pairs.len())
}

/// A host's cable is plugged into another port of its leaf and back. The host's own packets are lost in between; nobody
/// else's are.
pub(super) fn uplink_moved(cx: &Scene<'_>) -> Result<String> {
    if cx.lab.options.target == Target::Bmv2 {
        return Ok("not asked of simple_switch_grpc, which does not open a port again".into());
    }
    let host = quiet_host(cx)?;
    let (leaf, first) = (&host.uplink.switch, host.uplink.port);
    let second = cx.lab.spare_port(leaf)?;
    let mut moved = cx.lab.topology.clone();
    for item in moved.hosts.iter_mut().filter(|h| h.name == host.name) {
        item.uplink.port = second;
    }
    let change = || {
        let mut words = Vec::new();
        for topology in [&moved, &cx.lab.topology] {
            let plan = import(cx, topology)?;
            words.push(came_true(cx, &plan)?);
            cx.lab.swap_cables(leaf, (first, second))?;
            reached(cx, &host)?;
            cx.ready()?;
        }
        Ok(words)
    };
    let (words, loss) = under_traffic(cx, "while an uplink was moved", |e| is_on(e, &host), change)?;
    Ok(format!(
        "{} from port {first} of {leaf} to {second} and back: {loss} by others; {}",
        host.name,
        words.join(", ")
    ))
}

/// A host with workloads is removed: refused as long as it is used, then with all that uses it. Its leaf holds nothing of it
/// afterwards. Then it is added again, is emptied before it is used, and its workloads come back.
pub(super) fn host_retired_and_created(cx: &Scene<'_>) -> Result<String> {
    let host = quiet_host(cx)?;
    let (retired, lost_then) = under_traffic(
        cx,
        "while a host was retired",
        |e| is_on(e, &host),
        || retire(cx, &host),
    )?;
    let (created, lost_now) = under_traffic(
        cx,
        "while a host was created",
        |e| is_on(e, &host),
        || create(cx, &host),
    )?;
    Ok(format!(
        "{}: {lost_then} by others, {retired}; {lost_now} by others, {created}",
        host.name
    ))
}

fn retire(cx: &Scene<'_>, host: &Host) -> Result<String> {
    let key = ItemKey::Host(host.name.clone());
    match cx.runtime.block_on(cx.client.remove(&key, false, None)) {
        Err(ClientError::Api(error)) if error.code == ErrorCode::InUse => {}
        Err(error) => return Err(error.into()),
        Ok(_) => bail!("{key} was removed although it was in use"),
    }
    let plan = plan_of(cx, cx.client.plan_removal(&key, true))?;
    let outcome = cx.runtime.block_on(cx.client.remove(&key, true, Some(APPLIED)))?;
    applied(&outcome)?;
    let took = has_left(cx, &host.name)?;
    let planned = came_true(cx, &plan)?;
    let leaf = &host.uplink.switch;
    let held = cx.runtime.block_on(cx.client.entities(leaf))?;
    let words = format!("host `{}`", host.name);
    let stays = held.iter().find(|e| e.asked_by.contains(&words));
    ensure!(stays.is_none(), "{leaf} still holds {stays:?}");
    Ok(format!(
        "left with {} attachments after {} ms ({planned})",
        outcome.committed.deleted.len(),
        took.as_millis()
    ))
}

fn create(cx: &Scene<'_>, host: &Host) -> Result<String> {
    let plan = plan_of(cx, cx.client.import(&cx.lab.topology, true, None))?;
    cx.runtime.block_on(cx.client.import(&cx.lab.topology, false, None))?;
    let took = in_service(cx, &host.name, None)?;
    came_true(cx, &plan)?;
    cx.runtime.block_on(cx.lab.apply(&cx.client))?;
    cx.ready()?;
    let pairs = reached(cx, host)?;
    Ok(format!(
        "in service after {} ms, {pairs} pairs reach each other",
        took.as_millis()
    ))
}
