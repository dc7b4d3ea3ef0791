//! Pods: the cost of attaching, swapping and detaching, and the late frames of a dead host.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use vfabric_api::client::Verb;
use vfabric_api::ident::{Mac, Name};
use vfabric_api::intent::VdcIntent;
use vfabric_api::inventory::{ItemKey, ItemState};

use super::faults::interval;
use super::{Scene, median};
use crate::attack::frame::{self, BROADCAST, arp, ethernet};
use crate::attack::watch::Port;
use crate::counters::{self, Counts};
use crate::netns;
use crate::pods::{Interface, NETWORKS, Pod, TENANTS, Tenants, runtime, tenant};
use crate::probe::{self, Capture, EchoServer};
use crate::traffic::{Flow, OneByOne, Traffic, Walked};

/// Pods whose figures are taken.
const PODS: usize = 8;
/// Swaps of one interface under traffic.
const SWAPS: usize = 6;
/// Longest time for a reply: far more than a busy machine needs.
const ANSWER: Duration = Duration::from_secs(5);
/// Longest time that a change may take until every device has applied it.
const APPLIED: Duration = Duration::from_secs(30);
/// The peer that both networks have, with the same addresses, so that an interface may be swapped under traffic.
const PEER: ([u8; 4], &str) = ([10, 60, 0, 200], "02:00:00:60:00:c8");
/// The pod that moves from a dead host to another.
const MOVED: ([u8; 4], &str) = ([10, 60, 0, 50], "02:00:00:60:00:32");
/// An address of the network that nobody has.
const NOBODY: [u8; 4] = [10, 60, 0, 99];
/// Late frames of each kind.
const LATE: usize = 20;

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A vDC whose two networks have the same subnet, and no router.
fn twins(cx: &Scene<'_>) -> Result<VdcIntent> {
    let mut vdc = tenant(cx.lab, TENANTS[0], false)?;
    let subnets = vdc.networks.first().context("networks")?.subnets.clone();
    vdc.networks.iter_mut().for_each(|n| n.subnets.clone_from(&subnets));
    Ok(vdc)
}

/// Pods with one interface. They are ended when the check is over, whether it passed or not.
pub(super) struct Ward<'a> {
    cx: &'a Scene<'a>,
    pods: Vec<Pod>,
}

impl Ward<'_> {
    /// A pod on the host of that place in the topology, with its first interface; returns how long ADD took.
    pub(super) fn start(&mut self, name: &str, host: usize, asked: &serde_json::Value) -> Result<(Pod, Duration)> {
        let hosts = &self.cx.lab.topology.hosts;
        let host = &hosts.get(host % hosts.len()).context("the lab has hosts")?.name;
        let mut pod = Pod::start(name, host, TENANTS[0])?;
        let new = Interface {
            network: None,
            by_runtime: true,
            swapped: false,
        };
        pod.interfaces.insert("eth0".to_owned(), new);
        self.pods.push(pod.clone());
        let started = Instant::now();
        self.cx.lab.cni_done("ADD", &pod, "eth0", asked)?;
        Ok((pod, started.elapsed()))
    }

    /// DEL of all, and their namespaces; returns how long each DEL took.
    fn end(self) -> Result<Vec<Duration>> {
        let mut times = Vec::new();
        for pod in self.pods {
            let started = Instant::now();
            self.cx.lab.cni_done("DEL", &pod, "eth0", &json!({}))?;
            times.push(started.elapsed());
            netns::ip_batch(None, &format!("netns del {}", pod.namespace))?;
        }
        Ok(times)
    }
}

/// Runs a check with pods, then ends them and deletes their tenants, even if it failed.
pub(super) fn with_pods<T>(
    cx: &Scene<'_>,
    vdc: VdcIntent,
    check: impl FnOnce(&mut Ward<'_>) -> Result<T>,
) -> Result<(T, Vec<Duration>)> {
    let tenants = Tenants::of(&cx.client, cx.runtime, vec![vdc])?;
    let mut ward = Ward { cx, pods: Vec::new() };
    let outcome = check(&mut ward);
    let ended = ward.end();
    let removed = tenants.remove(&cx.client, cx.runtime);
    let outcome = outcome?;
    let times = ended?;
    removed?;
    Ok((outcome, times))
}

fn peer(network: &str) -> serde_json::Value {
    json!({ "network": network, "mac": PEER.1, "ips": [Ipv4Addr::from(PEER.0)] })
}

/// The name of the server that answers at the peer's address.
fn who(pod: &Pod) -> Result<String> {
    let answer = probe::ask(&pod.namespace, Ipv4Addr::from(PEER.0).into(), "who", ANSWER)?;
    let (who, _) = answer.with_context(|| format!("{}: nobody answers", pod.container))?;
    Ok(who)
}

/// Pods are attached and detached through the CNI plugin, get a second interface, and change their network under traffic.
pub(super) fn attached(cx: &Scene<'_>) -> Result<String> {
    let [front, back] = NETWORKS.map(|(name, _)| name);
    let (figures, mut del) = with_pods(cx, twins(cx)?, |ward| {
        let hosts = cx.lab.topology.hosts.len();
        let mut servers = Vec::new();
        for (network, host) in [(front, hosts - 1), (back, hosts.saturating_sub(2))] {
            let (pod, _) = ward.start(&format!("peer-{network}"), host, &peer(network))?;
            servers.push(EchoServer::start(&pod.namespace, network)?);
        }
        let (mut add, mut plug, mut swap, mut pods) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for i in 0..PODS {
            let (pod, took) = ward.start(&format!("figure{i}"), i, &json!({ "network": front }))?;
            // The first packet finds its way, and its reply too.
            ensure!(who(&pod)? == front, "{} is not in {front}", pod.container);
            add.push(took);
            let started = Instant::now();
            let request = runtime::plug(&pod, "net1", back);
            cx.lab.ask_agent(pod.host.as_str(), &request)?;
            plug.push(started.elapsed());
            pods.push(pod);
        }
        for pod in &pods {
            let slot = runtime::slot(pod, "net1");
            let request = vfabric_cni::protocol::Request::Del { slot };
            cx.lab.ask_agent(pod.host.as_str(), &request)?;
        }
        let [moves, stays, ..] = pods.as_slice() else {
            anyhow::bail!("two pods are needed");
        };
        let address = own_address(moves)?;
        let flow = |pod: &Pod| Flow {
            from: pod.namespace.clone(),
            to: Ipv4Addr::from(PEER.0).into(),
        };
        let every = interval(cx.lab.options.target);
        let before = cx.runtime.block_on(counters::Reader::open(cx.lab)?.read())?;
        let moving = Traffic::start(&[flow(moves)], every)?;
        let single = OneByOne::start(&flow(moves), every)?;
        let untouched = Traffic::start(&[flow(stays)], every)?;
        for i in 0..SWAPS {
            let network = if i % 2 == 0 { back } else { front };
            let started = Instant::now();
            let request = runtime::swap(moves, "eth0", network, vec![address]);
            cx.lab.ask_agent(moves.host.as_str(), &request)?;
            swap.push(started.elapsed());
            ensure!(
                who(moves)? == network,
                "{} is not in {network} after its swap",
                moves.container
            );
        }
        let (moving, single, untouched) = (moving.stop()?, single.stop()?, untouched.stop()?);
        ensure!(untouched.lost == 0, "another pod: {untouched}");
        let now = cx.runtime.block_on(counters::Reader::open(cx.lab)?.read())?;
        let lost = lost_by_swaps(&single, &servers, &counters::since(&before, &now))?;
        let [add, plug, swap] = [add, plug, swap].map(|mut times| median(&mut times));
        Ok((add, plug, swap, moving, lost, untouched))
    })?;
    let (add, plug, swap, moving, lost, untouched) = figures;
    let del = median(&mut del);
    for (name, time) in [
        ("add_p50_ms", add),
        ("plug_p50_ms", plug),
        ("swap_p50_ms", swap),
        ("del_p50_ms", del),
    ] {
        cx.measured(name, ms(time));
    }
    cx.measured("swap_outage_ms", ms(moving.outage));
    Ok(format!(
        "{PODS} pods: ADD p50 {:.0} ms, one interface more {:.0} ms, swap {:.0} ms ({SWAPS} swaps under traffic; one packet at a \
         time: {lost}; a stream: {} of {} packets lost, longest outage {:.1} ms), DEL {:.0} ms; another pod meanwhile: \
         {untouched}",
        ms(add),
        ms(plug),
        ms(swap),
        moving.lost,
        moving.sent,
        ms(moving.outage),
        ms(del)
    ))
}

/// The cost of swaps for a flow with one packet under way. Each swap may cost only that packet, which was in the old
/// network when the interface left it. No switch refuses anything, because the new network is set up before the move
/// and the old one is removed after it.
fn lost_by_swaps(single: &Walked, servers: &[EchoServer], lost: &Counts) -> Result<String> {
    let refused: Counts = lost
        .iter()
        .filter(|(c, _)| c.is_refusal())
        .map(|(c, n)| (c.clone(), *n))
        .collect();
    ensure!(
        refused.is_empty(),
        "refused during swaps: {}",
        counters::words(&refused)
    );
    let heard = |number: &&u32| servers.iter().any(|s| s.heard(single.from).contains(*number));
    let replies = single.lost.iter().filter(heard).count();
    let (all, requests) = (single.lost.len(), single.lost.len() - replies);
    ensure!(
        all <= SWAPS,
        "{SWAPS} swaps: {requests} requests and {replies} replies of {} packets lost, one at a time",
        single.sent
    );
    Ok(format!(
        "{requests} requests and {replies} replies of {} lost, none refused",
        single.sent
    ))
}

/// The address that a pod has in its first interface.
fn own_address(pod: &Pod) -> Result<IpAddr> {
    let output = crate::process::command("ip")
        .args(["-n", &pod.namespace, "-j", "-4", "address", "show", "eth0"])
        .output()?;
    let links: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let address = links[0]["addr_info"][0]["local"].as_str();
    Ok(address
        .with_context(|| format!("{} has no address", pod.container))?
        .parse()?)
}

/// A host dies in the eyes of the controller, but still works for its workloads: the agent is dead, the kernel
/// forwards. It is declared gone and removed, and at once another host has the address of its pod. Late frames of the
/// dead host reach nobody. Then it comes back, its runtime ends the old pod, and the moved address stays where it is.
pub(super) fn host_fenced(cx: &Scene<'_>) -> Result<String> {
    let lab = cx.lab;
    let dead = lab.topology.hosts.last().context("the lab has hosts")?;
    let here = lab.topology.hosts.len() - 1;
    let (address, mac): (IpAddr, Mac) = (Ipv4Addr::from(MOVED.0).into(), MOVED.1.parse()?);
    let front = NETWORKS[0].0;
    let asked = json!({ "network": front, "mac": MOVED.1, "ips": [address] });
    let vdc = tenant(lab, TENANTS[0], true)?;
    let leaf = dead.uplink.switch.clone();
    let outcome = with_pods(cx, vdc, |ward| {
        let (observer, _) = ward.start("observer", 0, &json!({ "network": front }))?;
        let (late, _) = ward.start("late", here, &asked)?;
        let reach = |from: &Pod| probe::ask(&from.namespace, address, "where", ANSWER);
        let first = EchoServer::start(&late.namespace, "dead-host")?;
        let answer = reach(&observer)?.context("the pod is not reached before its host dies")?;
        ensure!(answer.0 == "dead-host", "{} answers", answer.0);

        lab.daemons.crash(dead.name.as_str())?;
        let key = ItemKey::Host(dead.name.clone());
        let started = Instant::now();
        cx.runtime.block_on(cx.client.device(&key, Verb::Gone, Some(APPLIED)))?;
        cx.runtime.block_on(cx.client.remove(&key, true, Some(APPLIED)))?;
        let (moved, _) = ward.start("moved", 1, &asked)?;
        let took = started.elapsed();
        let second = EchoServer::start(&moved.namespace, "other-host")?;
        let expect_moved = |when: &str| -> Result<()> {
            let answer = reach(&observer)?.with_context(|| format!("{when}: the moved pod is not reached"))?;
            ensure!(answer.0 == "other-host", "{when}: {} answers", answer.0);
            Ok(())
        };
        expect_moved("moved")?;

        // Everybody listens. The dead host's pod still sends, with addresses that now belong to another pod.
        let token: [u8; 16] = rand::random();
        let listeners = cx.endpoints.iter().map(|e| e.namespace.as_str());
        let listeners = listeners.chain([observer.namespace.as_str(), moved.namespace.as_str()]);
        let captures: Vec<(String, Capture)> = listeners
            .map(|n| Ok((n.to_owned(), Capture::start(n)?)))
            .collect::<Result<_>>()?;
        let before = cx.runtime.block_on(counters::Reader::open(lab)?.read())?;
        let port = Port::new(&late.namespace, "eth0").open()?;
        let IpAddr::V4(own) = address else {
            anyhow::bail!("an IPv4 address is needed");
        };
        let to = match own_address(&observer)? {
            IpAddr::V4(to) => (mac_of(&observer)?, to),
            IpAddr::V6(_) => anyhow::bail!("an IPv4 address is needed"),
        };
        // Ask for an address that nobody has, because the host's bridge replies for all others and floods no
        // announcement.
        let question = arp(1, (mac, own), (Mac([0; 6]), NOBODY.into()));
        let mut question = ethernet(BROADCAST, mac, frame::kind::ARP, &question);
        question.extend(token);
        let datagram = frame::Ip::new(own, to.1).udp(9, 9, &token);
        let datagram = ethernet(to.0, mac, frame::kind::IPV4, &datagram);
        for _ in 0..LATE {
            port.send(&question)?;
            port.send(&datagram)?;
        }
        // The leaf has counted them all: none is under way any more.
        let (refused, _) = cx.until(APPLIED, "the leaf has not refused the late frames", || {
            let now = cx.runtime.block_on(counters::Reader::open(lab)?.read())?;
            let grown = counters::since(&before, &now);
            let of_leaf = grown
                .iter()
                .filter(|(c, _)| c.device == leaf.as_str() && c.is_refusal());
            let refused: u64 = of_leaf.map(|(_, n)| n).sum();
            ensure!(refused >= 2 * LATE as u64, "{}", counters::words(&grown));
            Ok(Some(refused))
        })?;
        for (namespace, frames) in Capture::finish_all(captures)? {
            let heard = frames.iter().filter(|f| probe::contains(f, &token)).count();
            ensure!(heard == 0, "{heard} late frames of {} reached {namespace}", dead.name);
        }
        expect_moved("after the late frames")?;

        // The host comes back while it is not in the inventory; then it is added again, and its runtime ends the old pod.
        lab.start_agent(dead)?;
        let left = || {
            let inventory = cx.runtime.block_on(cx.client.inventory())?;
            let there = inventory.hosts.iter().any(|h| h.spec.name == dead.name);
            Ok((!there).then_some(()))
        };
        cx.until(APPLIED, "the host stays in the inventory", left)?;
        cx.runtime
            .block_on(cx.client.import(&lab.topology, false, Some(APPLIED)))?;
        in_service(cx, &dead.name)?;
        expect_moved("after the host came back")?;
        lab.cni_done("DEL", &late, "eth0", &json!({}))?;
        expect_moved("after the late DEL")?;
        drop((first, second));
        Ok(format!(
            "{}: its pod's address on another host {:.0} ms after it was declared gone; {refused} late frames refused by {leaf}, \
             none received; back and emptied",
            dead.name,
            ms(took)
        ))
    });
    // Bring the host back, even if the check has failed.
    if lab.daemons.pid(dead.name.as_str()).is_none() {
        lab.start_agent(dead)?;
    }
    cx.runtime
        .block_on(cx.client.import(&lab.topology, false, Some(APPLIED)))?;
    in_service(cx, &dead.name)?;
    cx.runtime.block_on(lab.apply(&cx.client))?;
    let (words, _) = outcome?;
    cx.ready()?;
    Ok(words)
}

/// Waits until a host that came back was emptied and is used again.
fn in_service(cx: &Scene<'_>, host: &Name) -> Result<()> {
    let state = || {
        let inventory = cx.runtime.block_on(cx.client.inventory())?;
        let item = inventory.hosts.iter().find(|h| h.spec.name == *host);
        Ok(item.filter(|h| h.state == ItemState::InService).map(drop))
    };
    cx.until(APPLIED, "the host is not in service", state)?;
    Ok(())
}

fn mac_of(pod: &Pod) -> Result<Mac> {
    let output = crate::process::command("ip")
        .args(["-n", &pod.namespace, "-j", "link", "show", "eth0"])
        .output()?;
    let links: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    Ok(links[0]["address"].as_str().context("a MAC address")?.parse()?)
}
