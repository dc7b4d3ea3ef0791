//! What does a crash, a cut or an intruder cost?

use std::time::Duration;

use anyhow::{Context, Result, bail};
use vfabric_api::status::DeviceStatus;
use vfabric_api::topology::{PortRef, Switch};

use super::{Endpoint, Scene};
use crate::traffic::Traffic;
use crate::{Target, daemons, intruder, netns, operator, plan};

/// Traffic before and after a fault, so that a loss can be attributed to the fault.
pub(super) const AROUND: Duration = Duration::from_millis(300);
/// Longest time that recovery from any of these faults may take.
const HEALED: Duration = Duration::from_secs(30);
/// Time between two packets of a flow. simple_switch_grpc forwards some ten thousand packets a
/// second at best and keeps few of them waiting: at the embedded switch's rate it loses some
/// without any fault.
pub(crate) fn interval(target: Target) -> Duration {
    Duration::from_millis(match target {
        Target::P4Switch => 2,
        Target::Bmv2 => 25,
    })
}

pub(super) fn start(cx: &Scene<'_>, what: impl Fn(&Endpoint, &Endpoint) -> bool) -> Result<Traffic> {
    Traffic::start(&cx.flows(what)?, interval(cx.lab.options.target))
}

pub(super) fn across(a: &Endpoint, b: &Endpoint) -> bool {
    a.leaf != b.leaf
}

/// Writes that devices have confirmed since the controller started.
fn writes(cx: &Scene<'_>) -> Result<u64> {
    let switches = cx.runtime.block_on(cx.client.switches())?.into_iter().map(|s| s.status);
    let hosts = cx.runtime.block_on(cx.client.hosts())?.into_iter().map(|h| h.status);
    Ok(switches.chain(hosts).map(|s: DeviceStatus| s.writes).sum())
}

pub(super) fn controller(cx: &Scene<'_>) -> Result<String> {
    let mut account = cx.account()?;
    let traffic = start(cx, across)?;
    std::thread::sleep(AROUND);
    cx.lab.daemons.crash(daemons::CONTROLLER)?;
    std::thread::sleep(AROUND);
    cx.lab.restart_controller()?;
    let back = cx.ready()?;
    std::thread::sleep(AROUND);
    let loss = traffic.stop()?;
    cx.measured_loss(&loss);
    cx.measured("in_sync_ms", back.as_secs_f64() * 1e3);
    let loss = account.explain(&loss, "while the controller was dead and came back")?;
    let written = writes(cx)?;
    if written > 0 {
        bail!("{written} entities were rewritten although nothing had changed");
    }
    Ok(format!(
        "{loss}; in sync after {:.0} ms with 0 writes",
        back.as_secs_f64() * 1e3
    ))
}

pub(super) fn agent(cx: &Scene<'_>) -> Result<String> {
    let host = cx
        .endpoints
        .iter()
        .find_map(|e| e.host.clone())
        .context("no workload on a host")?;
    let spec = cx.lab.topology.host(&host).context("the workload's host")?;
    let on_host = |e: &Endpoint| e.host.as_ref() == Some(&host);
    let mut account = cx.account()?;
    let traffic = start(cx, |a, b| on_host(a) || on_host(b))?;
    std::thread::sleep(AROUND);
    let before = writes(cx)?;
    cx.lab.daemons.crash(host.as_str())?;
    std::thread::sleep(AROUND);
    cx.lab.start_agent(spec)?;
    let back = cx.ready()?;
    std::thread::sleep(AROUND);
    let loss = traffic.stop()?;
    cx.measured_loss(&loss);
    cx.measured("in_sync_ms", back.as_secs_f64() * 1e3);
    let loss = account.explain(&loss, "while the agent was dead and came back")?;
    let written = writes(cx)? - before;
    if written > 0 {
        bail!("{written} objects were rewritten although nothing had changed");
    }
    Ok(format!(
        "{host}: {loss}; in sync after {:.0} ms with 0 writes",
        back.as_secs_f64() * 1e3
    ))
}

fn a_leaf<'a>(cx: &'a Scene<'_>) -> Result<&'a Switch> {
    cx.lab.leaves().next().context("the topology has no leaf")
}

pub(super) fn leaf(cx: &Scene<'_>) -> Result<String> {
    let leaf = a_leaf(cx)?;
    let traffic = start(cx, across)?;
    std::thread::sleep(AROUND);
    cx.lab.daemons.crash(leaf.name.as_str())?;
    std::thread::sleep(AROUND);
    cx.lab.start_switch(&leaf.name)?;
    let entities = |s: &DeviceStatus| s.desired;
    let back = cx.ready()?;
    let status = cx
        .runtime
        .block_on(cx.client.switches())?
        .into_iter()
        .find(|s| s.name == leaf.name);
    let count = status.as_ref().map_or(0, |s| entities(&s.status));
    std::thread::sleep(AROUND * 3);
    let loss = traffic.stop()?;
    cx.measured_loss(&loss);
    cx.measured("in_sync_ms", back.as_secs_f64() * 1e3);
    // A dead switch counts nothing. Losses after it is in sync again have another cause.
    settled(cx)?;
    Ok(format!(
        "{}: {count} entities back {:.0} ms after the restart; outage {} ms ({} ms of it dead)",
        leaf.name,
        back.as_secs_f64() * 1e3,
        loss.outage.as_millis(),
        AROUND.as_millis()
    ))
}

/// One end of a cable: a namespace and an interface in it.
pub(crate) type End = (String, String);

/// The cable between a leaf and its first spine; the leaf's end is the first.
fn cable(cx: &Scene<'_>) -> Result<[End; 2]> {
    let leaf = a_leaf(cx)?;
    let end = |r: &PortRef| (plan::namespace(&r.switch), format!("swp{}", r.port));
    let mut links = cx.lab.topology.links.iter();
    let ends = links.find_map(|l| match () {
        () if l.a.switch == leaf.name => Some([end(&l.a), end(&l.b)]),
        () if l.b.switch == leaf.name => Some([end(&l.b), end(&l.a)]),
        () => None,
    });
    ends.context("the leaf has no link")
}

/// Cuts or repairs a cable.
pub(crate) fn switch_link(target: Target, ends: &[End; 2], up: bool) -> Result<()> {
    match target {
        // An end that is set down takes the carrier of the other away.
        Target::P4Switch => {
            let [(namespace, port), _] = ends;
            let state = if up { "up" } else { "down" };
            netns::ip_batch(Some(namespace), &format!("link set {port} {state}"))
        }
        // Once one of its interfaces was set down, bmv2 does not read any port again. So both ends stay up and drop
        // everything that they should send, because every packet is longer than the bucket.
        Target::Bmv2 => ends.iter().try_for_each(|(namespace, port)| {
            let words = match up {
                false => "qdisc add dev PORT root tbf rate 8bit burst 1 limit 1",
                true => "qdisc del dev PORT root",
            };
            let words: Vec<&str> = words.split(' ').map(|w| if w == "PORT" { port } else { w }).collect();
            netns::run(namespace, "tc", &words)
        }),
    }
}

/// Fails when traffic of all kinds loses a packet that nothing has counted.
pub(super) fn settled(cx: &Scene<'_>) -> Result<()> {
    let mut account = cx.account()?;
    let traffic = start(cx, across)?;
    std::thread::sleep(AROUND);
    account.explain(&traffic.stop()?, "after everything had settled")?;
    Ok(())
}

fn links_up(cx: &Scene<'_>) -> Result<usize> {
    Ok(cx.runtime.block_on(cx.client.links())?.iter().filter(|l| l.up).count())
}

fn switch_cable(cx: &Scene<'_>, up: bool) -> Result<String> {
    let cable = cable(cx)?;
    let all = cx.lab.topology.links.len();
    let mut account = cx.account()?;
    let traffic = start(cx, across)?;
    std::thread::sleep(AROUND);
    switch_link(cx.lab.options.target, &cable, up)?;
    let expected = if up { all } else { all - 1 };
    let noticed = cx.until(HEALED, "the link's state", || {
        Ok((links_up(cx)? == expected).then_some(()))
    });
    let back = noticed.and_then(|_| cx.ready());
    std::thread::sleep(AROUND * 3);
    let loss = traffic.stop()?;
    cx.measured_loss(&loss);
    back?;
    // With bmv2, the ends still accept packets, which the link loses. Only probes notice that.
    let loss = match cx.lab.options.target {
        Target::P4Switch => account.explain(&loss, "around the change of the link")?,
        Target::Bmv2 => loss.to_string(),
    };
    settled(cx)?;
    let [(namespace, port), _] = cable;
    let how = match cx.lab.options.target {
        Target::P4Switch => "",
        Target::Bmv2 => " (silently: noticed by probes alone)",
    };
    Ok(format!("{namespace} {port}{how}: {loss}"))
}

pub(super) fn link_cut(cx: &Scene<'_>) -> Result<String> {
    switch_cable(cx, false)
}

pub(super) fn link_restored(cx: &Scene<'_>) -> Result<String> {
    switch_cable(cx, true)
}

/// Somebody with the rights of a controller writes an entry that no intent asks for.
pub(super) fn stray_entry(cx: &Scene<'_>) -> Result<String> {
    let leaf = a_leaf(cx)?;
    cx.runtime.block_on(intruder::write_stray_entry(cx.lab, leaf))?;
    let gone = || {
        let stands = cx.runtime.block_on(intruder::stray_entry_stands(cx.lab, leaf))?;
        Ok((!stands).then_some(()))
    };
    let ((), took) = cx.until(HEALED, "the stray entry is still there", gone)?;
    cx.ready()?;
    cx.measured("removed_ms", took.as_secs_f64() * 1e3);
    Ok(format!(
        "{}: removed {:.0} ms after it was written",
        leaf.name,
        took.as_secs_f64() * 1e3
    ))
}

/// An operator with the right to change a switch disables a port of a link and lowers its MTU, over gNMI.
pub(super) fn foreign_setting(cx: &Scene<'_>) -> Result<String> {
    if cx.lab.options.target == Target::Bmv2 {
        return Ok("not tried on simple_switch_grpc, which has no such settings".into());
    }
    let leaf = a_leaf(cx)?;
    let repairs = || -> Result<u64> {
        let switches = cx.runtime.block_on(cx.client.switches())?;
        let status = switches.into_iter().find(|s| s.name == leaf.name);
        Ok(status.context("the leaf's status")?.status.repairs)
    };
    let link = cx
        .lab
        .topology
        .links
        .iter()
        .find_map(|l| [&l.a, &l.b].into_iter().find(|e| e.switch == leaf.name));
    let port = format!("swp{}", link.context("the leaf has a link")?.port);
    let before = repairs()?;
    let setting = cx.runtime.block_on(operator::setting(cx.lab, leaf, &port))?;
    if !setting.enabled {
        bail!("{port} of {} is not enabled to begin with", leaf.name);
    }
    let wrong = operator::Setting {
        enabled: false,
        mtu: 1400,
    };
    cx.runtime.block_on(operator::set(cx.lab, leaf, &port, wrong))?;
    let right = || {
        let now = cx.runtime.block_on(operator::setting(cx.lab, leaf, &port))?;
        Ok((now.enabled && now.mtu >= cx.lab.topology.fabric.mtu).then_some(now))
    };
    let (now, took) = cx.until(HEALED, "the port is not as the fabric needs it", right)?;
    let (counted, _) = cx.until(HEALED, "two repairs are not counted", || {
        let counted = repairs()? - before;
        Ok((counted >= 2).then_some(counted))
    })?;
    // The link is used again.
    cx.ready()?;
    cx.measured("repaired_ms", took.as_secs_f64() * 1e3);
    Ok(format!(
        "{} {port}: disabled with MTU {}, enabled with {} again {:.0} ms later, {counted} repairs counted",
        leaf.name,
        wrong.mtu,
        now.mtu,
        took.as_secs_f64() * 1e3
    ))
}
