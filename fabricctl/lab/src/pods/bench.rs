//! What attachments of pods cost on the running lab, compared with Debian's reference plugins in the same run.
//!
//! Every time is that of a whole call by a runtime, including the start of the plugin's process, the agent, the
//! controller and the leaf. The peer is `bridge` with `host-local` (Debian's containernetworking-plugins), called the
//! same way in a namespace of its own; `loopback` shows what the start of a plugin alone costs.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};
use tokio::runtime::Runtime;
use vfabric_cni::protocol::Request;

use super::{NETWORKS, Pod, TENANTS, Tenants, runtime, tenant};
use crate::{Lab, Steps, netns, plan, process, say};

/// Calls one after the other, for a median.
const CALLS: usize = 50;
/// ADDs at once.
const AT_ONCE: usize = 100;
/// Pods that start together, each with several interfaces.
const TOGETHER: (usize, usize) = (110, 4);
/// Workers and time of the churn: each adds and removes one pod after the other.
const CHURN: (usize, Duration) = (16, Duration::from_secs(20));
/// Where Debian has the reference plugins.
const REFERENCE: &str = "/usr/lib/cni";

/// Times of one kind of call.
struct Times(Histogram<u64>);

impl Times {
    fn new() -> Result<Self> {
        Ok(Self(Histogram::new(3)?))
    }

    fn note(&mut self, time: Duration) -> Result<()> {
        Ok(self.0.record(u64::try_from(time.as_micros())?)?)
    }

    fn ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }

    fn p50(&self) -> f64 {
        self.ms(0.5)
    }

    fn p99(&self) -> f64 {
        self.ms(0.99)
    }
}

/// Measures and prints; returns the figures, whose names end with their units.
///
/// # Errors
/// Something could not be measured.
pub(crate) fn run(lab: &Lab, runtime: &Runtime, steps: &Steps) -> Result<Map<String, Value>> {
    let client = lab.client()?;
    let mut twins = tenant(lab, TENANTS[0], false)?;
    let subnets = twins.networks.first().context("networks")?.subnets.clone();
    twins.networks.iter_mut().for_each(|n| n.subnets.clone_from(&subnets));
    let tenants = Tenants::of(&client, runtime, vec![twins])?;
    let measured = all(lab, steps);
    tenants.remove(&client, runtime)?;
    measured
}

fn all(lab: &Lab, steps: &Steps) -> Result<Map<String, Value>> {
    let mut figures = Map::new();
    let (floor, peer_add, peer_del) = match Path::new(REFERENCE).join("bridge").exists() {
        true => steps.run("reference plugins", peer)?,
        false => {
            say!("no peer: Debian package containernetworking-plugins is not installed");
            (Times::new()?, Times::new()?, Times::new()?)
        }
    };
    let (add, del) = steps.run("one after the other", || sequence(lab))?;
    let has_peer = !peer_add.0.is_empty();
    for (what, ours, peers) in [("ADD", &add, &peer_add), ("DEL", &del, &peer_del)] {
        let mut row = json!({ "p50_ms": ours.p50(), "p99_ms": ours.p99(), "samples": ours.0.len() });
        let mut words = format!(
            "{what}: p50 {:.1} ms, p99 {:.1} ms over {}",
            ours.p50(),
            ours.p99(),
            ours.0.len()
        );
        if has_peer {
            row["peer_p50_ms"] = peers.p50().into();
            row["of_peer_ratio"] = (ours.p50() / peers.p50()).into();
            words.push_str(&format!(
                "; bridge with host-local {:.1} ms ({:.2} of it)",
                peers.p50(),
                ours.p50() / peers.p50()
            ));
        }
        say!("{words}");
        figures.insert(what.into(), row);
    }
    if has_peer {
        say!("a plugin's process alone (loopback ADD): p50 {:.1} ms", floor.p50());
        figures.insert("loopback ADD".into(), json!({ "p50_ms": floor.p50() }));
    }
    for (what, pods, interfaces) in [("ADDs at once", AT_ONCE, 1), ("pods at once", TOGETHER.0, TOGETHER.1)] {
        let took = steps.run(what, || at_once(lab, pods, interfaces))?;
        say!(
            "{pods} pods with {interfaces} interfaces at once on one host: {:.2} s, all complete",
            took.as_secs_f64()
        );
        let figure = json!({ "pods": pods, "interfaces": pods * interfaces, "complete_s": took.as_secs_f64() });
        figures.insert(what.into(), figure);
    }
    let swap = steps.run("swaps", || swaps(lab))?;
    say!(
        "swap: p50 {:.1} ms, p99 {:.1} ms over {}",
        swap.p50(),
        swap.p99(),
        swap.0.len()
    );
    figures.insert(
        "swap".into(),
        json!({ "p50_ms": swap.p50(), "p99_ms": swap.p99(), "samples": swap.0.len() }),
    );
    let (churned, took) = steps.run("churn", || churn(lab))?;
    let rate = 2.0 * churned.0.len() as f64 / took.as_secs_f64();
    say!(
        "churn over {} hosts: {} attachments in {:.0} s, {rate:.0} calls/s, ADD p50 {:.1} ms, p99 {:.1} ms",
        lab.topology.hosts.len(),
        churned.0.len(),
        took.as_secs_f64(),
        churned.p50(),
        churned.p99()
    );
    let figure = json!({ "attachments": churned.0.len(), "calls_per_s": rate, "add_p50_ms": churned.p50(),
        "add_p99_ms": churned.p99() });
    figures.insert("churn".into(), figure);
    Ok(figures)
}

/// Pods on a host, with namespaces and no interfaces yet.
fn pods(lab: &Lab, name: &str, count: usize, host: usize) -> Result<Vec<Pod>> {
    let hosts = &lab.topology.hosts;
    let host = &hosts.get(host % hosts.len()).context("the lab has hosts")?.name;
    (0..count)
        .map(|i| Pod::start(&format!("{name}-{i}"), host, TENANTS[0]))
        .collect()
}

fn remove(pods: &[Pod]) -> Result<()> {
    let lines: Vec<String> = pods.iter().map(|p| format!("netns del {}", p.namespace)).collect();
    netns::ip_batch(None, &lines.join("\n"))
}

/// Calls one after the other, on one host.
fn sequence(lab: &Lab) -> Result<(Times, Times)> {
    let pods = pods(lab, "seq", CALLS, 0)?;
    let (mut add, mut del) = (Times::new()?, Times::new()?);
    for (verb, times) in [("ADD", &mut add), ("DEL", &mut del)] {
        for pod in &pods {
            let started = Instant::now();
            lab.cni_done(verb, pod, "eth0", &json!({}))?;
            times.note(started.elapsed())?;
        }
    }
    remove(&pods)?;
    Ok((add, del))
}

/// Runs something for all pods at once; returns how long that took.
fn each(pods: &[Pod], work: impl Fn(&Pod) -> Result<()> + Sync) -> Result<Duration> {
    let started = Instant::now();
    std::thread::scope(|scope| {
        let all: Vec<_> = pods.iter().map(|pod| scope.spawn(|| work(pod))).collect();
        let join = |t: std::thread::ScopedJoinHandle<'_, Result<()>>| t.join().ok().context("a thread panicked")?;
        all.into_iter().map(join).collect::<Result<Vec<()>>>()
    })?;
    Ok(started.elapsed())
}

/// Pods that start at once on one host, each with interfaces one after the other.
fn at_once(lab: &Lab, count: usize, interfaces: usize) -> Result<Duration> {
    let pods = pods(lab, "once", count, 0)?;
    let name = |i: usize| if i == 0 { "eth0".to_owned() } else { format!("net{i}") };
    let networks = |i: usize| json!({ "network": NETWORKS[i % NETWORKS.len()].0 });
    let took = each(&pods, |pod| {
        (0..interfaces).try_for_each(|i| lab.cni_done("ADD", pod, &name(i), &networks(i)).map(drop))
    })?;
    each(&pods, |pod| {
        (0..interfaces).try_for_each(|i| lab.cni_done("DEL", pod, &name(i), &networks(i)).map(drop))
    })?;
    remove(&pods)?;
    Ok(took)
}

/// Swaps of one interface, back and forth, with its MAC address and its address.
fn swaps(lab: &Lab) -> Result<Times> {
    let pods = pods(lab, "swap", 1, 0)?;
    let pod = pods.first().context("a pod")?;
    let address: std::net::IpAddr = "10.60.0.77".parse()?;
    lab.cni_done("ADD", pod, "eth0", &json!({ "ips": [address] }))?;
    // Both networks stay on the host, as they would if other pods used them.
    let keeper = self::pods(lab, "keep", 1, 0)?;
    for (i, (network, _)) in NETWORKS.iter().enumerate() {
        let interface = format!("net{i}");
        lab.cni_done("ADD", &keeper[0], &interface, &json!({ "network": network }))?;
    }
    let mut times = Times::new()?;
    for i in 0..CALLS {
        let network = NETWORKS[(i + 1) % NETWORKS.len()].0;
        let request: Request = runtime::swap(pod, "eth0", network, vec![address]);
        let started = Instant::now();
        lab.ask_agent(pod.host.as_str(), &request)?;
        times.note(started.elapsed())?;
    }
    lab.cni_done("DEL", pod, "eth0", &json!({}))?;
    for i in 0..NETWORKS.len() {
        lab.cni_done("DEL", &keeper[0], &format!("net{i}"), &json!({}))?;
    }
    remove(&pods)?;
    remove(&keeper)?;
    Ok(times)
}

/// Pods that come and go on all hosts for some time; none may be refused, and none is left.
fn churn(lab: &Lab) -> Result<(Times, Duration)> {
    let hosts = lab.topology.hosts.len();
    let mut all = Vec::new();
    for i in 0..CHURN.0 {
        all.extend(pods(lab, &format!("churn{i}"), 1, i % hosts)?);
    }
    let times = std::sync::Mutex::new(Times::new()?);
    let started = Instant::now();
    let took = each(&all, |pod| {
        while started.elapsed() < CHURN.1 {
            let at = Instant::now();
            lab.cni_done("ADD", pod, "eth0", &json!({}))?;
            let took = at.elapsed();
            let mut times = times.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            times.note(took)?;
            drop(times);
            lab.cni_done("DEL", pod, "eth0", &json!({}))?;
        }
        Ok(())
    })?;
    remove(&all)?;
    for host in &lab.topology.hosts {
        let left = lab.agent_list(host.name.as_str())?;
        ensure!(left.is_empty(), "{} holds {left:?} after the churn", host.name);
    }
    Ok((
        times.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner),
        took,
    ))
}

/// Times of Debian's plugins: `loopback` ADD, `bridge` with `host-local` ADD and DEL.
fn peer() -> Result<(Times, Times, Times)> {
    let host = format!("{}peer", plan::PREFIX);
    netns::ip_batch(None, &format!("netns add {host}"))?;
    let pods: Vec<String> = (0..CALLS).map(|i| format!("{}peer-{i}", plan::PREFIX)).collect();
    let lines: Vec<String> = pods.iter().map(|p| format!("netns add {p}")).collect();
    netns::ip_batch(None, &lines.join("\n"))?;
    let leases = PathBuf::from(crate::STATE_DIR).join("peer");
    let bridge = json!({ "cniVersion": "1.0.0", "name": "peer", "type": "bridge", "bridge": "peer0",
        "ipam": { "type": "host-local", "dataDir": leases, "subnet": "10.61.0.0/24" } });
    let loopback = json!({ "cniVersion": "1.0.0", "name": "lo", "type": "loopback" });
    let (mut floor, mut add, mut del) = (Times::new()?, Times::new()?, Times::new()?);
    for (kind, verb, config, interface, times) in [
        ("loopback", "ADD", &loopback, "lo", &mut floor),
        ("bridge", "ADD", &bridge, "eth0", &mut add),
        ("bridge", "DEL", &bridge, "eth0", &mut del),
    ] {
        for pod in &pods {
            let started = Instant::now();
            call(&host, kind, verb, config, pod, interface)?;
            times.note(started.elapsed())?;
        }
    }
    let lines: Vec<String> = pods.iter().chain([&host]).map(|p| format!("netns del {p}")).collect();
    netns::ip_batch(None, &lines.join("\n"))?;
    Ok((floor, add, del))
}

fn call(host: &str, kind: &str, verb: &str, config: &Value, pod: &str, interface: &str) -> Result<()> {
    let mut command = process::command(Path::new(REFERENCE).join(kind));
    command.env("CNI_COMMAND", verb).env("CNI_CONTAINERID", pod);
    command.env("CNI_NETNS", format!("/run/netns/{pod}"));
    command.env("CNI_IFNAME", interface).env("CNI_PATH", REFERENCE);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = netns::within(host, || command.spawn().with_context(|| format!("cannot run {kind}")))?;
    let mut input = child.stdin.take().context("standard input")?;
    std::io::Write::write_all(&mut input, config.to_string().as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{kind}: {verb}: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(())
}
