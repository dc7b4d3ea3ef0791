//! Measures the kernel datapath on this machine, in network namespaces of its own.

pub mod tcp;

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};
use vtep_proto::{
    Attachment, FdbEntry, Gateway, HostEntity, HostKey, MacAddress, Neighbour, Network, UnderlayFamily, Vni,
};

use crate::datapath::Scope;
use crate::datapath::kernel::{FloodLimit, Kernel, Overlay};
use crate::desired::Desired;
use crate::engine::Engine;
use crate::error::AgentError;
use crate::netns::{self, Netns};
use crate::object::LocalVteps;
use crate::watch::Watch;

/// First VNI that is used.
const FIRST_VNI: u32 = 10_000;
/// Stations elsewhere in each network, each with an IPv4 and an IPv6 address.
const STATIONS: u8 = 10;
/// Pause between two attachments: longer than the agent waits before it deletes what is out of use.
const PAUSE: Duration = Duration::from_millis(150);
/// MTU of the uplink that the engine uses; no packet is sent.
const UPLINK_MTU: u32 = 9216;

/// What was measured; times in milliseconds.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Figures {
    /// Networks on the host, with [`STATIONS`] stations each.
    pub networks: u32,
    /// Time from nothing to all networks with all stations and neighbours.
    pub apply_ms: f64,
    /// Time until a new engine, which knows the desired objects, has found that all of them exist.
    pub restart_ms: f64,
    /// What that restart changed; 0 unless something is wrong.
    pub restart_changes: usize,
    /// Time to add one more attachment, from the namespace to a usable interface: median and 99th percentile.
    pub attach_p50_ms: f64,
    /// See [`Self::attach_p50_ms`].
    pub attach_p99_ms: f64,
    /// Attachments that were timed.
    pub attachments: usize,
    /// Time to remove one attachment, until it is out of use: median and 99th percentile.
    pub detach_p50_ms: f64,
    /// See [`Self::detach_p50_ms`].
    pub detach_p99_ms: f64,
    /// Time to add one attachment to a network that stays, before other networks go: median and 99th percentile.
    pub add_before_p50_ms: f64,
    /// See [`Self::add_before_p50_ms`].
    pub add_before_p99_ms: f64,
    /// Time to go from all networks to one, until the others are out of use.
    pub out_of_use_ms: f64,
    /// As [`Self::add_before_p50_ms`], while the kernel deletes what is out of use.
    pub add_meanwhile_p50_ms: f64,
    /// See [`Self::add_meanwhile_p50_ms`].
    pub add_meanwhile_p99_ms: f64,
    /// Links that were deleted meanwhile.
    pub deleted_meanwhile: usize,
    /// Links that were not yet deleted after that.
    pub still_waiting: usize,
    /// Resident memory of this process with all networks applied, in KiB.
    pub memory_kib: u64,
}

/// Runs it: `networks` networks and up to `attachments` attachments, one at a time.
///
/// # Errors
/// When namespaces cannot be made (it needs root), or the kernel refuses something.
pub fn run(networks: u32, attachments: u32) -> Result<Figures, AgentError> {
    let measure = move || {
        // The thread has the host's namespace, which ends with the thread.
        unshare(CloneFlags::CLONE_NEWNET).map_err(|e| file("network namespace", e.into()))?;
        measure(networks, attachments.min(networks))
    };
    let ended = || Err(AgentError::Ended("bench thread"));
    thread::spawn(measure).join().unwrap_or_else(|_| ended())
}

fn file(path: &str, source: io::Error) -> AgentError {
    AgentError::File {
        path: path.into(),
        source,
    }
}

fn failed(what: &str, message: impl Into<String>) -> AgentError {
    AgentError::Config {
        what: what.into(),
        message: message.into(),
    }
}

fn measure(networks: u32, attachments: u32) -> Result<Figures, AgentError> {
    let local = LocalVteps {
        ipv4: Some([192, 0, 2, 1].into()),
        ipv6: None,
    };
    let mut entities: Vec<HostEntity> = (0..networks)
        .filter_map(|i| Vni::new(FIRST_VNI + i))
        .flat_map(network)
        .collect();
    let name = |what: &str| format!("vfabric-bench-{what}-{}", std::process::id());
    // The name survives the restart; at the end, the namespace is removed with it.
    let overlay = Named::new(name("overlay"))?;
    let open = || Kernel::open(Overlay::keep(&overlay.0)?, FloodLimit::default(), Watch::default());
    let mut engine = Engine::new(open()?, Desired::new(local, UPLINK_MTU), vec![], true);
    let start = Instant::now();
    engine.update(entities.clone(), &[])?;
    let apply_ms = elapsed(start);
    expect_in_place(&engine, &entities)?;

    let workload = Named::new(name("workload"))?;
    let mut times = histogram()?;
    for i in 0..attachments {
        let Some(attachment) = Vni::new(FIRST_VNI + i).and_then(|vni| attachment(vni, i, &workload.0)) else {
            continue;
        };
        let start = Instant::now();
        engine.update(vec![attachment.clone()], &[])?;
        times.saturating_record(start.elapsed().as_micros() as u64);
        entities.push(attachment);
    }
    expect_in_place(&engine, &entities)?;
    let memory_kib = resident_kib();
    drop(engine);

    let start = Instant::now();
    let mut engine = Engine::new(open()?, Desired::new(local, UPLINK_MTU), entities.clone(), true);
    let news = engine.check(&Scope::All)?;
    let restart_ms = elapsed(start);

    let mut detach = histogram()?;
    let is_own = |key: &HostKey| matches!(key, HostKey::Attachment(_));
    let (own, keys): (Vec<HostKey>, Vec<HostKey>) = entities.iter().map(HostEntity::key).partition(is_own);
    for key in own {
        let start = Instant::now();
        engine.update(vec![], &[key])?;
        detach.saturating_record(start.elapsed().as_micros() as u64);
    }
    let stays = Vni::new(FIRST_VNI + networks).ok_or_else(|| failed("--networks", "are more than there are VNIs"))?;
    engine.update(network(stays), &[])?;
    let before = adds(&mut engine, stays, &workload.0, attachments)?;
    let start = Instant::now();
    engine.update(vec![], &keys)?;
    let out_of_use_ms = elapsed(start);
    let waiting = engine.datapath().waiting()?;
    let meanwhile = adds(&mut engine, stays, &workload.0, attachments)?;
    let still_waiting = engine.datapath().waiting()?;
    Ok(Figures {
        networks,
        apply_ms,
        restart_ms,
        restart_changes: news.repaired.len(),
        attach_p50_ms: percentile(&times, 50.0),
        attach_p99_ms: percentile(&times, 99.0),
        attachments: times.len() as usize,
        detach_p50_ms: percentile(&detach, 50.0),
        detach_p99_ms: percentile(&detach, 99.0),
        add_before_p50_ms: percentile(&before, 50.0),
        add_before_p99_ms: percentile(&before, 99.0),
        out_of_use_ms,
        add_meanwhile_p50_ms: percentile(&meanwhile, 50.0),
        add_meanwhile_p99_ms: percentile(&meanwhile, 99.0),
        deleted_meanwhile: waiting.saturating_sub(still_waiting),
        still_waiting,
        memory_kib,
    })
}

/// Times of attachments in one network, one after the other with pauses, in which the kernel may delete what is out of use.
fn adds(engine: &mut Engine<Kernel>, vni: Vni, workload: &str, count: u32) -> Result<Histogram<u64>, AgentError> {
    let mut times = histogram()?;
    for i in 0..count {
        let Some(attachment) = attachment(vni, i, workload) else {
            continue;
        };
        let start = Instant::now();
        engine.update(vec![attachment.clone()], &[])?;
        times.saturating_record(start.elapsed().as_micros() as u64);
        expect_in_place(engine, std::slice::from_ref(&attachment))?;
        engine.update(vec![], &[attachment.key()])?;
        thread::sleep(PAUSE);
    }
    Ok(times)
}

/// A histogram of times in microseconds.
fn histogram() -> Result<Histogram<u64>, AgentError> {
    Histogram::new_with_max(60_000_000, 3).map_err(|e| failed("histogram", e.to_string()))
}

fn elapsed(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1000.0
}

/// A percentile of times in microseconds, in milliseconds.
fn percentile(times: &Histogram<u64>, percent: f64) -> f64 {
    times.value_at_percentile(percent) as f64 / 1000.0
}

fn expect_in_place(engine: &Engine<Kernel>, entities: &[HostEntity]) -> Result<(), AgentError> {
    match entities.iter().find_map(|e| Some((e.key(), engine.error(&e.key())?))) {
        Some((key, error)) => Err(failed(&key.to_string(), error.to_string())),
        None => Ok(()),
    }
}

fn mac(last: u8) -> Option<MacAddress> {
    MacAddress::new([2, 0, 0, 0, 0, last])
}

fn network(vni: Vni) -> Vec<HostEntity> {
    let leaf = [192, 0, 2, 254].into();
    let ips = [[10, 0, 0, 1].into(), [0xfd00, 0, 0, 0, 0, 0, 0, 1].into()];
    let gateways = mac(0xfe)
        .map(|mac| Gateway {
            mac,
            vtep: leaf,
            ips: ips.into(),
        })
        .into_iter()
        .collect();
    let network = Network {
        vni,
        mtu: 1500,
        underlay: UnderlayFamily::Ipv4,
        flood: [leaf].into(),
        gateways,
    };
    let mut all = vec![HostEntity::Network(network)];
    for (i, mac) in (2..2 + STATIONS).filter_map(|i| Some((i, mac(i)?))) {
        all.push(HostEntity::Fdb(FdbEntry {
            vni,
            mac,
            vtep: [192, 0, 2, i].into(),
        }));
        for ip in [[10, 0, 0, i].into(), [0xfd00, 0, 0, 0, 0, 0, 0, i.into()].into()] {
            all.push(HostEntity::Neighbour(Neighbour { vni, ip, mac }));
        }
    }
    all
}

fn attachment(vni: Vni, i: u32, netns: &str) -> Option<HostEntity> {
    let addresses = ["10.0.0.200/24", "fd00::c8/64"]
        .iter()
        .filter_map(|a| a.parse().ok())
        .collect();
    Some(HostEntity::from(Attachment {
        id: format!("bench/{i}"),
        vni,
        mac: mac(200)?,
        addresses,
        routes: Default::default(),
        netns: netns.to_owned(),
        interface: format!("e{i}"),
        mtu: 0,
        allowed_addresses: Default::default(),
        port_security: true,
        shared_netns: false,
        mode: Default::default(),
    }))
}

/// A network namespace whose name is removed when the value is dropped.
struct Named(String);

impl Named {
    fn new(name: String) -> Result<Self, AgentError> {
        Netns::create(&name)?;
        Ok(Self(name))
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if let Err(error) = netns::remove(&self.0) {
            tracing::warn!(error = %crate::chain(&error), "cannot remove a network namespace");
        }
    }
}

/// Resident memory of this process; 0 if /proc does not show it.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}
