//! A spine that forwards nothing any more while its ports keep their carrier: leaves see a link that is up. Only probes
//! tell that the next hop is dead.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use vfabric_api::topology::Switch;

use super::Scene;
use super::faults::{AROUND, across, settled, start};

/// Longest time that the fabric may take to notice, and to heal.
const HEALED: Duration = Duration::from_secs(30);

/// How a spine dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Its process is gone: the controller loses its session with it.
    Killed,
    /// Its process stands still: the session stays open.
    Stopped,
}

pub(super) fn spine_killed(cx: &Scene<'_>) -> Result<String> {
    spine(cx, Way::Killed)
}

pub(super) fn spine_stopped(cx: &Scene<'_>) -> Result<String> {
    spine(cx, Way::Stopped)
}

fn spine(cx: &Scene<'_>, way: Way) -> Result<String> {
    let leaves: Vec<_> = cx.lab.leaves().map(|leaf| &leaf.name).collect();
    let mut switches = cx.lab.topology.switches.iter();
    let spine = switches.find(|s| !leaves.contains(&&s.name));
    let spine = spine.context("the topology has no spine")?;
    let traffic = start(cx, across)?;
    std::thread::sleep(AROUND);
    match way {
        Way::Killed => cx.lab.daemons.crash(spine.name.as_str())?,
        Way::Stopped => cx.lab.daemons.signal(spine.name.as_str(), Signal::SIGSTOP)?,
    }
    let while_dead = dead(cx, spine);
    std::thread::sleep(AROUND);
    let loss = traffic.stop();
    let rest = while_dead.and_then(|noticed| Ok((noticed, without_it(cx)?)));
    // Whatever was found: the next check needs a whole fabric.
    match way {
        Way::Killed => cx.lab.start_switch(&spine.name)?,
        Way::Stopped => cx.lab.daemons.signal(spine.name.as_str(), Signal::SIGCONT)?,
    }
    cx.ready()?;
    cx.until(HEALED, "the links of the spine are used again", || {
        Ok(faults(cx, spine)?.iter().all(Option::is_none).then_some(()))
    })?;
    let (loss, (noticed, sent)) = (loss?, rest?);
    cx.measured_loss(&loss);
    cx.measured("noticed_ms", noticed.as_secs_f64() * 1e3);
    settled(cx)?;
    Ok(format!(
        "{}: left out after {} ms, outage {} ms; then 0 of {sent} packets lost without it",
        spine.name,
        noticed.as_millis(),
        loss.outage.as_millis()
    ))
}

/// What `links` says of each link of a switch: the reason why it is not used, if it is not.
fn faults(cx: &Scene<'_>, switch: &Switch) -> Result<Vec<Option<String>>> {
    let links = cx.runtime.block_on(cx.client.links())?;
    let own = links
        .into_iter()
        .filter(|l| l.a.switch == switch.name || l.b.switch == switch.name);
    Ok(own.map(|l| (!l.up).then(|| l.reason.unwrap_or_default())).collect())
}

/// Waits until no link of the spine is used. Returns how long that took.
fn dead(cx: &Scene<'_>, spine: &Switch) -> Result<Duration> {
    let (words, took) = cx.until(HEALED, "a link of the dead spine is still used", || {
        let faults = faults(cx, spine)?;
        Ok(faults.into_iter().collect::<Option<Vec<String>>>())
    })?;
    if words.is_empty() || words.iter().any(String::is_empty) {
        bail!("{}: `links` does not say why they are not used: {words:?}", spine.name);
    }
    Ok(took)
}

/// Traffic of all kinds while the spine is dead. Returns the packets sent, of which none may be lost.
fn without_it(cx: &Scene<'_>) -> Result<usize> {
    let traffic = start(cx, across)?;
    std::thread::sleep(AROUND);
    let loss = traffic.stop()?;
    if loss.lost > 0 {
        bail!("without the spine: {loss}");
    }
    Ok(loss.sent)
}
