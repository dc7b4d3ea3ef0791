//! What does it cost to change the fabric while it is in use?

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use vfabric_api::client::Verb;
use vfabric_api::inventory::ItemKey;
use vfabric_api::service::Outcome;
use vfabric_api::status::Progress;
use vfabric_api::topology::{Host, PortRef, Role};

use super::Scene;
use super::faults::{AROUND, across, start};
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
