//! Attachments that are exchanged at a steady rate while thousands of others stay.
//!
//! **Model.** Attachments are spread over the pods of all hosts. Calls have their times on a schedule: what comes late is
//! made up for at once, so a slow call does not lower the rate that is asked for, and the rate that was reached is a
//! figure. A caller owns some pods, because calls for one pod are carried out one at a time. The networks stay.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::runtime::Runtime;
use vfabric_api::client::Client;
use vfabric_api::service::Kind;
use vfabric_api::status::{Progress, View};

use super::bench::Times;
use super::{NETWORKS, Pod, TENANTS};
use crate::{Lab, netns};

/// Interfaces of a pod: less than a host may ask for in one.
const PER_POD: usize = 50;
/// Callers at once: more than calls are under way at the rate that is asked for.
const CALLERS: usize = 32;

/// How much is exchanged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    /// Attachments at any time.
    pub(super) standing: usize,
    /// Calls a second, ADD and DEL.
    pub(super) rate: u32,
    /// How long.
    pub(super) span: Duration,
}

/// What was measured.
pub(super) struct Churned {
    /// Times of ADD.
    pub(super) adds: Times,
    /// Hosts that took part.
    pub(super) hosts: usize,
    /// Calls a second that were reached.
    pub(super) calls_per_s: f64,
    /// Attachments that were missing, or not applied, after it.
    pub(super) lost: usize,
    /// Attachments that were left after all were removed.
    pub(super) left: usize,
}

/// A pod with its interfaces, by number.
struct Owned {
    pod: Pod,
    interfaces: usize,
}

impl Owned {
    fn call(&self, lab: &Lab, verb: &'static str, interface: usize) -> Result<()> {
        let asked = json!({ "network": NETWORKS[interface % NETWORKS.len()].0 });
        lab.cni_done(verb, &self.pod, &format!("c{interface}"), &asked)
            .map(drop)
    }
}

/// Runs it, and removes everything.
///
/// # Errors
/// A call is refused.
pub(super) fn run(lab: &Lab, client: &Client, runtime: &Runtime, size: Size) -> Result<Churned> {
    let hosts = &lab.topology.hosts;
    let mut callers: Vec<Vec<Owned>> = (0..CALLERS).map(|_| Vec::new()).collect();
    for i in 0..size.standing.div_ceil(PER_POD).max(CALLERS) {
        let host = &hosts[i % hosts.len()].name;
        let pod = Pod::start(&format!("churn-{i}"), host, TENANTS[0])?;
        callers[i % CALLERS].push(Owned { pod, interfaces: 0 });
    }
    for i in 0..size.standing {
        let own = &mut callers[i % CALLERS];
        let at = (i / CALLERS) % own.len();
        own[at].interfaces += 1;
    }
    let each = |work: &(dyn Fn(&Owned, usize) -> Result<()> + Sync)| {
        at_once(&callers, |own| {
            own.iter()
                .try_for_each(|o| (0..o.interfaces).try_for_each(|i| work(o, i)))
        })
    };
    each(&|o, i| o.call(lab, "ADD", i))?;
    let (adds, took, calls) = exchange(lab, &callers, size)?;
    let lost = size.standing - applied(client, runtime)?.min(size.standing);
    each(&|o, i| o.call(lab, "DEL", i))?;
    let mut left = applied(client, runtime)?;
    for host in hosts {
        left += lab.agent_list(host.name.as_str())?.len();
    }
    let lines: Vec<String> = callers
        .iter()
        .flatten()
        .map(|o| format!("netns del {}", o.pod.namespace))
        .collect();
    netns::ip_batch(None, &lines.join("\n"))?;
    Ok(Churned {
        adds,
        hosts: hosts.len(),
        calls_per_s: calls as f64 / took.as_secs_f64(),
        lost,
        left,
    })
}

/// Each caller does its work, all at once.
fn at_once(callers: &[Vec<Owned>], work: impl Fn(&[Owned]) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let all: Vec<_> = callers.iter().map(|own| scope.spawn(|| work(own))).collect();
        let join = |t: thread::ScopedJoinHandle<'_, Result<()>>| t.join().ok().context("a thread panicked")?;
        all.into_iter().try_for_each(join)
    })
}

/// Removes and adds attachments by the schedule; returns the times of ADD, how long it took, and the number of calls.
fn exchange(lab: &Lab, callers: &[Vec<Owned>], size: Size) -> Result<(Times, Duration, u64)> {
    let (next, times) = (AtomicU64::new(0), Mutex::new(Times::new()?));
    ensure!(
        size.rate > 1,
        "a rate of {} calls a second: expected 2 or more",
        size.rate
    );
    // An exchange is two calls.
    let apart = Duration::from_secs(2) / size.rate;
    let exchanges = (size.span.as_micros() / apart.as_micros()) as u64;
    let start = Instant::now();
    at_once(callers, |own| {
        let slots: Vec<(&Owned, usize)> = own
            .iter()
            .flat_map(|o| (0..o.interfaces).map(move |i| (o, i)))
            .collect();
        for (owned, interface) in slots.iter().cycle() {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= exchanges {
                break;
            }
            let due = start + apart * u32::try_from(number)?;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            owned.call(lab, "DEL", *interface)?;
            let at = Instant::now();
            owned.call(lab, "ADD", *interface)?;
            let took = at.elapsed();
            times.lock().unwrap_or_else(PoisonError::into_inner).note(took)?;
        }
        Ok(())
    })?;
    let took = start.elapsed();
    Ok((
        times.into_inner().unwrap_or_else(PoisonError::into_inner),
        took,
        2 * exchanges,
    ))
}

/// Attachments of the tenant that every device has applied.
fn applied(client: &Client, runtime: &Runtime) -> Result<usize> {
    let all = runtime.block_on(client.list(Kind::Attachment, Some(&TENANTS[0].parse()?)))?;
    let is_applied = |view: &View| matches!(view, View::Attachment(a) if a.applied.progress == Progress::Applied);
    Ok(all.iter().filter(|view| is_applied(view)).count())
}
