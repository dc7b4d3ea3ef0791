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
use vfabric_api::client::Client;
use vfabric_api::intent::SubnetSpec;
use vfabric_cni::protocol::Request;

use super::churn::{self, Churned};
use super::{NETWORKS, Pod, TENANTS, Tenants, runtime, tenant};
use crate::{Lab, Steps, netns, plan, process, say};

/// Calls one after the other, for a median.
const CALLS: usize = 50;
/// ADDs at once.
const AT_ONCE: usize = 100;
/// Pods that start together, each with several interfaces.
const TOGETHER: (usize, usize) = (110, 4);
/// The churn, and a smaller one for a quick look.
const CHURN: churn::Size = churn::Size {
    standing: 5000,
    rate: 200,
    span: Duration::from_secs(60),
};
const CHURN_SHORT: churn::Size = churn::Size {
    standing: 200,
    rate: 100,
    span: Duration::from_secs(10),
};
/// The subnet of each network.
const SUBNET: &str = "10.60.0.0/16";
/// Where Debian has the reference plugins.
const REFERENCE: &str = "/usr/lib/cni";

/// Times of one kind of call.
pub(super) struct Times(Histogram<u64>);

impl Times {
    pub(super) fn new() -> Result<Self> {
        Ok(Self(Histogram::new(3)?))
    }

    pub(super) fn note(&mut self, time: Duration) -> Result<()> {
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

/// Measures and prints; returns the figures, whose names end with their units. A row that cannot be measured says why, and the others
/// follow.
///
/// # Errors
/// The tenants cannot be made or removed.
pub(crate) fn run(lab: &Lab, runtime: &Runtime, steps: &Steps, short: bool) -> Result<Figures> {
    let client = lab.client()?;
    let mut twins = tenant(lab, TENANTS[0], false)?;
    // Room for all attachments of the churn.
    let subnet = SubnetSpec::new(SUBNET.parse()?);
    twins.networks.iter_mut().for_each(|n| n.subnets = vec![subnet.clone()]);
    let tenants = Tenants::of(&client, runtime, vec![twins])?;
    let mut figures = Figures::default();
    all(lab, &client, runtime, steps, short, &mut figures);
    tenants.remove(&client, runtime)?;
    Ok(figures)
}

/// The rows, and the names of those that could not be measured.
#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) rows: Map<String, Value>,
    pub(crate) failed: Vec<String>,
}

impl Figures {
    /// Measures one row. After a failure everything of pods is removed, so that the next row starts with nothing.
    fn row<T>(
        &mut self,
        lab: &Lab,
        steps: &Steps,
        name: &str,
        measure: impl FnOnce() -> Result<T>,
        show: impl FnOnce(&T) -> (String, Value),
    ) -> Option<T> {
        match steps.run(name, measure) {
            Ok(measured) => {
                let (words, row) = show(&measured);
                say!("{words}");
                self.rows.insert(name.into(), row);
                Some(measured)
            }
            Err(error) => {
                let why = format!("{error:#}");
                say!("{name}: {why}");
                self.rows.insert(name.into(), json!({ "failed": why }));
                self.failed.push(name.to_owned());
                if let Err(error) = clear(lab) {
                    say!("after {name}: {error:#}");
                }
                None
            }
        }
    }
}

/// Removes all interfaces that agents hold, and all namespaces of pods.
fn clear(lab: &Lab) -> Result<()> {
    for host in &lab.topology.hosts {
        for (slot, _) in lab.agent_list(host.name.as_str())? {
            lab.ask_agent(host.name.as_str(), &Request::Del { slot })?;
        }
    }
    let pods = netns::list(&format!("{}pod-", plan::PREFIX));
    let lines: Vec<String> = pods.iter().map(|p| format!("netns del {p}")).collect();
    netns::ip_batch(None, &lines.join("\n"))
}

fn all(lab: &Lab, client: &Client, runtime: &Runtime, steps: &Steps, short: bool, figures: &mut Figures) {
    let has_peer = Path::new(REFERENCE).join("bridge").exists();
    if !has_peer {
        say!("no peer: Debian package containernetworking-plugins is not installed");
    }
    let peers = has_peer.then(|| {
        figures.row(lab, steps, "loopback ADD", peer, |(floor, ..)| {
            let words = format!("a plugin's process alone (loopback ADD): p50 {:.1} ms", floor.p50());
            (words, json!({ "p50_ms": floor.p50() }))
        })
    });
    let (peer_add, peer_del) = peers.flatten().map(|(_, add, del)| (add, del)).unzip();
    // The DELs are shown after the ADDs, of which they are no part.
    let both = figures.row(
        lab,
        steps,
        "ADD",
        || sequence(lab),
        |(add, _)| beside("ADD", add, peer_add.as_ref()),
    );
    if let Some((_, del)) = both {
        let (words, row) = beside("DEL", &del, peer_del.as_ref());
        say!("{words}");
        figures.rows.insert("DEL".into(), row);
    }
    for (what, pods, interfaces) in [("ADDs at once", AT_ONCE, 1), ("pods at once", TOGETHER.0, TOGETHER.1)] {
        let show = |took: &Duration| {
            let took = took.as_secs_f64();
            let words =
                format!("{pods} pods with {interfaces} interfaces at once on one host: {took:.2} s, all complete");
            (
                words,
                json!({ "pods": pods, "interfaces": pods * interfaces, "complete_s": took }),
            )
        };
        figures.row(lab, steps, what, || at_once(lab, pods, interfaces), show);
    }
    figures.row(
        lab,
        steps,
        "swap",
        || swaps(lab),
        |swap| {
            let (p50, p99, samples) = (swap.p50(), swap.p99(), swap.0.len());
            let words = format!("swap: p50 {p50:.1} ms, p99 {p99:.1} ms over {samples}");
            (words, json!({ "p50_ms": p50, "p99_ms": p99, "samples": samples }))
        },
    );
    let size = if short { CHURN_SHORT } else { CHURN };
    let churned = figures.row(
        lab,
        steps,
        "churn",
        || churn::run(lab, client, runtime, size),
        |c| shown_churn(size, c),
    );
    if churned.is_some_and(|c| c.lost + c.left > 0) {
        figures.failed.push("churn: attachments were lost or left".into());
    }
}

fn shown_churn(size: churn::Size, c: &Churned) -> (String, Value) {
    let words = format!(
        "churn of {} attachments on {} hosts, {} calls/s asked for: {:.0} calls/s, {} lost, {} left; ADD p50 {:.1} ms, p99 {:.1} ms over {}",
        size.standing,
        c.hosts,
        size.rate,
        c.calls_per_s,
        c.lost,
        c.left,
        c.adds.p50(),
        c.adds.p99(),
        c.adds.0.len()
    );
    let row = json!({ "attachments": size.standing, "hosts": c.hosts, "asked_calls_per_s": size.rate, "calls_per_s": c.calls_per_s,
        "lost": c.lost, "left": c.left, "add_p50_ms": c.adds.p50(), "add_p99_ms": c.adds.p99(), "samples": c.adds.0.len() });
    (words, row)
}

/// A row of ours, compared with the peer's where there is one.
fn beside(what: &str, ours: &Times, peers: Option<&Times>) -> (String, Value) {
    let (p50, p99, samples) = (ours.p50(), ours.p99(), ours.0.len());
    let mut row = json!({ "p50_ms": p50, "p99_ms": p99, "samples": samples });
    let mut words = format!("{what}: p50 {p50:.1} ms, p99 {p99:.1} ms over {samples}");
    if let Some(peers) = peers {
        let ratio = p50 / peers.p50();
        row["peer_p50_ms"] = peers.p50().into();
        row["of_peer_ratio"] = ratio.into();
        words.push_str(&format!(
            "; bridge with host-local {:.1} ms ({ratio:.2} of it)",
            peers.p50()
        ));
    }
    (words, row)
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
