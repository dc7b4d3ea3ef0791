//! Operations and faults, drawn from a seed.
//!
//! Each operation has a random generator of its own, made from the seed and the operation's number. So a run with the
//! same seed tries the same operations, even if an earlier one ended differently. Only an operation that a fault hits
//! may fail. An operation that starts after the fault must succeed, because plugin, agent and controller wait for each
//! other longer than a restart takes. ADDs whose IPAM plugin fails have to fail, and leave nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use serde_json::json;
use tokio::runtime::Runtime;
use vfabric_api::client::Client;
use vfabric_api::ident::Name;
use vfabric_cni::protocol::Request;

use super::agree::{self, Pins, agree};
use super::fault::{Fault, die};
use super::machines::Machine;
use super::{Interface, NETWORKS, Pod, TENANTS, Tenants, runtime};
use crate::checks::Scene;
use crate::{Lab, netns, probe};

/// Operations among the lab's checks.
const AMONG_CHECKS: usize = 60;
/// Pods at once: enough that networks are shared, few enough that each is compared often.
const MOST_PODS: usize = 16;
/// Interfaces of a pod.
const MOST_INTERFACES: usize = 4;
/// Operations between two comparisons of everything.
const COMPARE_EVERY: usize = 25;
/// Operations between two lines of a long run.
const REPORT_EVERY: usize = 100;
/// Share of operations that a fault hits.
const FAULTS: f64 = 0.12;
/// Latest moment of a fault within its operation, in microseconds: most operations have ended by then.
const FAULT_WITHIN_US: u64 = 60_000;
/// Longest time until everything has recovered from a fault, or agrees: far more than is needed.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// How often that is checked.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Longest time for the reply to a ping.
const ANSWER: Duration = Duration::from_secs(5);
/// How many earlier operations an error shows.
const SHOWN: usize = 12;

/// Runs some operations as one of the lab's checks.
///
/// # Errors
/// As for [`run`].
pub(crate) fn among_checks(cx: &Scene<'_>) -> Result<String> {
    run(cx.lab, cx.runtime, AMONG_CHECKS, rand::random())
}

/// Runs this many operations; returns a summary.
///
/// # Errors
/// Something failed that no fault explains, or places do not agree: names seed and operation.
pub(super) fn run(lab: &Lab, runtime: &Runtime, operations: usize, seed: u64) -> Result<String> {
    let client = lab.client()?;
    let tables = leaf_tables(lab, runtime)?;
    let tenants = Tenants::create(lab, &client, runtime)?;
    runtime::write_plugins(lab)?;
    let mut run = Run {
        lab,
        client,
        runtime,
        pods: Vec::new(),
        machines: Vec::new(),
        pins: Pins::default(),
        next: 0,
        done: BTreeMap::new(),
        faults: 0,
        drawn: BTreeMap::new(),
        failed: 0,
        refused: 0,
        compared: 0,
        log: VecDeque::new(),
        number: 0,
    };
    let outcome = run.all(operations, seed);
    // Clean up even after a failure, so that the lab stays usable; the failure is still the result.
    let ended = run.end().and_then(|()| {
        let Run { client, .. } = &run;
        tenants.remove(client, runtime)
    });
    let log = || run.log.iter().cloned().collect::<Vec<_>>().join("\n  ");
    outcome.with_context(|| format!("seed {seed}, operation {}; before it\n  {}", run.number, log()))?;
    ended.with_context(|| format!("seed {seed}, at the end"))?;
    let after = leaf_tables(lab, runtime)?;
    ensure!(
        tables == after,
        "seed {seed}: leaves held {tables:?} table entries before, {after:?} after"
    );
    Ok(format!("seed {seed}: {}", run.words()))
}

/// Table entries of each leaf.
fn leaf_tables(lab: &Lab, runtime: &Runtime) -> Result<BTreeMap<Name, usize>> {
    let read = |leaf: &vfabric_api::topology::Switch| {
        let held = runtime.block_on(crate::intruder::table_entries(lab, leaf))?;
        Ok((leaf.name.clone(), held))
    };
    lab.leaves().map(read).collect()
}

pub(super) struct Run<'a> {
    pub(super) lab: &'a Lab,
    pub(super) client: Client,
    pub(super) runtime: &'a Runtime,
    pods: Vec<Pod>,
    /// Workloads that users attached.
    pub(super) machines: Vec<Machine>,
    pins: Pins,
    /// Number of the latest pod or namespace.
    next: u32,
    /// Times of operations that succeeded, in microseconds, by kind.
    done: BTreeMap<&'static str, Histogram<u64>>,
    faults: usize,
    /// Faults, namespaces that vanished, and failing plugins, by kind.
    drawn: BTreeMap<&'static str, usize>,
    /// Operations that failed because of a fault.
    failed: usize,
    /// ADDs that had to fail because of another plugin.
    refused: usize,
    compared: usize,
    log: VecDeque<String>,
    number: usize,
}

/// The result of a call: its document, or why it was refused.
pub(super) type Ended = Result<(), String>;

impl Run<'_> {
    fn words(&self) -> String {
        let kinds = self.done.iter().map(|(kind, times)| {
            let ms = |percent| times.value_at_quantile(percent) as f64 / 1e3;
            format!("{} {kind} (p50 {:.0} ms, p99 {:.0} ms)", times.len(), ms(0.5), ms(0.99))
        });
        let kinds: Vec<String> = kinds.collect();
        let drawn: Vec<String> = self.drawn.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        format!(
            "{}; {} faults ({}), {} operations failed by them; {} failed by other plugins; everything agreed {} times",
            kinds.join(", "),
            self.faults,
            drawn.join(", "),
            self.failed,
            self.refused,
            self.compared
        )
    }

    fn all(&mut self, operations: usize, seed: u64) -> Result<()> {
        for number in 0..operations {
            self.number = number;
            let of_number = seed ^ (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            self.one(&mut StdRng::seed_from_u64(of_number))?;
            if number % COMPARE_EVERY == COMPARE_EVERY - 1 {
                self.agreed()?;
            }
            if operations > AMONG_CHECKS && number % REPORT_EVERY == REPORT_EVERY - 1 {
                eprintln!("  {} of {operations} operations: {} faults", number + 1, self.faults);
            }
        }
        self.agreed()
    }

    /// Ends all pods; everything has to agree that nothing is there.
    fn end(&mut self) -> Result<()> {
        self.recovered()?;
        while let Some(pod) = self.pods.pop() {
            for interface in pod.interfaces.keys() {
                self.lab.cni_done("DEL", &pod, interface, &json!({}))?;
            }
            netns::ip_batch(None, &format!("netns del {}", pod.namespace))?;
        }
        while let Some(machine) = self.machines.pop() {
            self.end_machine(&machine)?;
        }
        self.agreed()
    }

    pub(super) fn pods(&self) -> &[Pod] {
        &self.pods
    }

    pub(super) fn pods_mut(&mut self) -> &mut Vec<Pod> {
        &mut self.pods
    }

    /// A number that no pod or namespace had before.
    pub(super) fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    fn drew(&mut self, kind: &'static str) {
        *self.drawn.entry(kind).or_default() += 1;
    }

    pub(super) fn note(&mut self, what: String) {
        if self.log.len() == SHOWN {
            self.log.pop_front();
        }
        self.log.push_back(what);
    }

    fn one(&mut self, rng: &mut StdRng) -> Result<()> {
        let kind = rng.random_range(0..116);
        if self.pods.is_empty() || (kind < 22 && self.pods.len() < MOST_PODS) {
            return self.start(rng);
        }
        let i = rng.random_range(0..self.pods.len());
        match kind {
            0..45 => self.attach(i, rng),
            45..55 => self.detach(i, rng),
            55..73 => self.swap(i, rng),
            73..85 => self.stop(i, rng, false),
            85..90 => self.stop(i, rng, true),
            90..94 => self.again(i, rng),
            94..97 => self.delegate(rng),
            97..100 => self.reboot(rng),
            100..108 => self.machine(rng),
            _ => self.take_over(i, rng),
        }
    }

    /// A fault for an operation on a host, sometimes; and when it happens.
    pub(super) fn fault(&self, host: &Name, rng: &mut StdRng) -> Result<Option<(Fault, Duration)>> {
        if !rng.random_bool(FAULTS) {
            return Ok(None);
        }
        let fault = match rng.random_range(0..4) {
            0 | 1 => Fault::Agent(host.clone()),
            2 => Fault::Controller,
            _ => Fault::Leaf(self.lab.topology.host(host).context("the host")?.uplink.switch.clone()),
        };
        let at = Duration::from_micros(rng.random_range(0..FAULT_WITHIN_US));
        Ok(Some((fault, at)))
    }

    /// Does some work during which something may die, and waits until it is back.
    pub(super) fn during(
        &mut self,
        kind: &'static str,
        what: String,
        fault: Option<(Fault, Duration)>,
        work: impl FnOnce(&Lab) -> Result<Ended> + Send,
    ) -> Result<bool> {
        let lab = self.lab;
        self.note(match &fault {
            None => what,
            Some((fault, at)) => format!("{what}; {fault:?} dies after {} us", at.as_micros()),
        });
        let started = Instant::now();
        let ended = std::thread::scope(|scope| {
            let working = scope.spawn(|| work(lab));
            if let Some((fault, at)) = &fault {
                std::thread::sleep(*at);
                die(lab, fault)?;
            }
            working.join().ok().context("an operation panicked")?
        })?;
        let took = started.elapsed();
        if let Some((fault, _)) = &fault {
            self.faults += 1;
            self.drew(fault.kind());
            self.recovered()?;
        }
        match ended {
            Ok(()) => {
                let times = match self.done.entry(kind) {
                    std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                    std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Histogram::new(3)?),
                };
                times.record(u64::try_from(took.as_micros())?)?;
                Ok(true)
            }
            Err(_) if fault.is_some() => {
                self.failed += 1;
                Ok(false)
            }
            Err(message) => bail!("{message}"),
        }
    }

    /// Waits until every agent follows the controller.
    fn recovered(&self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        for host in &self.lab.topology.hosts {
            while let Err(error) = self.lab.ask_agent(host.name.as_str(), &Request::Status) {
                ensure!(Instant::now() < end, "does not recover: {error:#}");
                std::thread::sleep(LOOK_EVERY);
            }
        }
        Ok(())
    }

    fn start(&mut self, rng: &mut StdRng) -> Result<()> {
        let host = self
            .lab
            .topology
            .hosts
            .choose(rng)
            .context("the lab has hosts")?
            .name
            .clone();
        let vdc = TENANTS.choose(rng).context("tenants")?;
        let network = NETWORKS.choose(rng).context("networks")?.0;
        let number = self.number();
        let mut pod = Pod::start(&number.to_string(), &host, vdc)?;
        // Half of them may move to another host.
        pod.workload = rng.random_bool(0.5).then(|| format!("lab-workload-{number:08}"));
        let fault = self.fault(&host, rng)?;
        let unhurt = fault.is_none();
        self.pods.push(pod.clone());
        if self.add(self.pods.len() - 1, "eth0", network, true, fault)? && unhurt {
            // The first packet after ADD is not lost.
            expect_gateway(&pod.namespace, network)?;
        }
        Ok(())
    }

    /// ADD, or one more interface for a running pod. After a failure, DEL.
    fn add(
        &mut self,
        i: usize,
        interface: &str,
        network: &'static str,
        by_runtime: bool,
        fault: Option<(Fault, Duration)>,
    ) -> Result<bool> {
        let pod = self.pods[i].clone();
        let what = format!(
            "{} {interface} of {} on {} in {}/{network}",
            if by_runtime { "ADD" } else { "plug" },
            pod.container,
            pod.host,
            pod.vdc
        );
        let added = self.during(if by_runtime { "ADD" } else { "plug" }, what, fault, |lab| {
            if by_runtime {
                let asked = json!({ "network": network });
                return Ok(lab.cni("ADD", &pod, interface, &asked)?.end()?.map(drop));
            }
            let asked = lab.ask_agent(pod.host.as_str(), &runtime::plug(&pod, interface, network));
            Ok(asked.map(drop).map_err(|e| format!("{e:#}")))
        })?;
        if added {
            let new = Interface {
                network: Some(network),
                by_runtime,
                swapped: false,
            };
            self.pods[i].interfaces.insert(interface.to_owned(), new);
            return Ok(true);
        }
        self.lab.cni_done("DEL", &pod, interface, &json!({}))?;
        self.forget_plugged(i);
        if self.pods[i].interfaces.is_empty() {
            let pod = self.pods.swap_remove(i);
            netns::ip_batch(None, &format!("netns del {}", pod.namespace))?;
        }
        Ok(false)
    }

    /// Interfaces that were added to a running pod are removed with the last interface that the runtime added.
    fn forget_plugged(&mut self, i: usize) {
        let interfaces = &mut self.pods[i].interfaces;
        if interfaces.values().all(|i| !i.by_runtime) {
            interfaces.clear();
        }
    }

    fn attach(&mut self, i: usize, rng: &mut StdRng) -> Result<()> {
        let network = NETWORKS.choose(rng).context("networks")?.0;
        let by_runtime = rng.random_bool(0.5);
        let fault = self.fault(&self.pods[i].host.clone(), rng)?;
        let mut names = (1..MOST_INTERFACES).map(|n| format!("net{n}"));
        let free = names.find(|name| !self.pods[i].interfaces.contains_key(name));
        match free {
            Some(interface) => self.add(i, &interface, network, by_runtime, fault).map(drop),
            None => Ok(()),
        }
    }

    fn detach(&mut self, i: usize, rng: &mut StdRng) -> Result<()> {
        let pod = self.pods[i].clone();
        let fault = self.fault(&pod.host, rng)?;
        let secondary: Vec<&String> = pod.interfaces.keys().filter(|n| *n != "eth0").collect();
        let Some(interface) = secondary.choose(rng) else {
            return Ok(());
        };
        self.del(&pod, interface, fault)?;
        self.pods[i].interfaces.remove(*interface);
        self.forget_plugged(i);
        Ok(())
    }

    /// DEL until it has succeeded.
    fn del(&mut self, pod: &Pod, interface: &str, fault: Option<(Fault, Duration)>) -> Result<()> {
        let what = format!("DEL {interface} of {} on {}", pod.container, pod.host);
        let call = |lab: &Lab| Ok(lab.cni("DEL", pod, interface, &json!({}))?.end()?.map(drop));
        if !self.during("DEL", what, fault, call)? {
            self.lab.cni_done("DEL", pod, interface, &json!({}))?;
        }
        Ok(())
    }

    fn swap(&mut self, i: usize, rng: &mut StdRng) -> Result<()> {
        let pod = self.pods[i].clone();
        let all: Vec<&String> = pod.interfaces.keys().collect();
        let interface = all.choose(rng).context("a pod without interfaces")?.as_str();
        let network = NETWORKS.choose(rng).context("networks")?.0;
        let fault = self.fault(&pod.host, rng)?;
        let what = format!("swap {interface} of {} on {} to {network}", pod.container, pod.host);
        let swapped = self.during("swap", what, fault, |lab| {
            let asked = lab.ask_agent(pod.host.as_str(), &runtime::swap(&pod, interface, network, Vec::new()));
            Ok(asked.map(drop).map_err(|e| format!("{e:#}")))
        })?;
        if let Some(interface) = self.pods[i].interfaces.get_mut(interface) {
            interface.network = swapped.then_some(network);
            interface.swapped = true;
        }
        Ok(())
    }

    /// The container ends; its namespace may have vanished before.
    fn stop(&mut self, i: usize, rng: &mut StdRng, vanished: bool) -> Result<()> {
        let pod = self.pods.swap_remove(i);
        let remove = format!("netns del {}", pod.namespace);
        if vanished {
            self.drew("namespaces vanished");
            self.note(format!("the namespace of {} vanishes", pod.container));
            netns::ip_batch(None, &remove)?;
        }
        let by_runtime = pod.interfaces.iter().filter(|(_, i)| i.by_runtime);
        let names: Vec<String> = by_runtime.map(|(name, _)| name.clone()).collect();
        for interface in names {
            let fault = self.fault(&pod.host, rng)?;
            self.del(&pod, &interface, fault)?;
        }
        if !vanished {
            netns::ip_batch(None, &remove)?;
        }
        Ok(())
    }

    /// The runtime asks again for an interface that it has: nothing changes.
    fn again(&mut self, i: usize, rng: &mut StdRng) -> Result<()> {
        let pod = self.pods[i].clone();
        let all: Vec<(&String, &Interface)> = pod.interfaces.iter().collect();
        let (name, interface) = all.choose(rng).context("a pod without interfaces")?;
        let network = interface.network.filter(|_| interface.by_runtime && !interface.swapped);
        let what = format!("{name} of {} on {} again", pod.container, pod.host);
        self.during("again", what, None, |lab| match network {
            Some(network) => {
                let asked = json!({ "network": network });
                Ok(lab.cni("ADD", &pod, name, &asked)?.end()?.map(drop))
            }
            None => {
                let slot = runtime::slot(&pod, name);
                let asked = lab.ask_agent(pod.host.as_str(), &Request::Check { slot });
                Ok(asked.map(drop).map_err(|e| format!("{e:#}")))
            }
        })?;
        Ok(())
    }

    /// A pod starts, and the plugin that should give its address fails, either at once or after its own work is done. The ADD fails
    /// with what the plugin said, and nothing is left.
    fn delegate(&mut self, rng: &mut StdRng) -> Result<()> {
        let host = self.lab.topology.hosts.choose(rng).context("the lab has hosts")?;
        let (host, vdc) = (host.name.clone(), *TENANTS.choose(rng).context("tenants")?);
        let network = NETWORKS.choose(rng).context("networks")?.0;
        let pod = Pod::start(&self.number().to_string(), &host, vdc)?;
        // The second plugin gives addresses outside all subnets of the network.
        let asked = match rng.random_bool(0.5) {
            true => json!({ "network": network, "ipam": { "type": runtime::FAILING } }),
            false => json!({ "network": network, "ipam": { "type": runtime::FOREIGN } }),
        };
        self.note(format!(
            "ADD eth0 of {} on {host} with {}",
            pod.container, asked["ipam"]
        ));
        let added = self.lab.cni("ADD", &pod, "eth0", &asked)?.end()?;
        ensure!(added.is_err(), "{}: ADD with {asked} succeeded", pod.container);
        self.lab.cni_done("DEL", &pod, "eth0", &asked)?;
        let given = runtime::given(self.lab, &pod);
        ensure!(
            !given,
            "{}: its address was not given back after {asked}",
            pod.container
        );
        self.refused += 1;
        self.drew("delegates failing");
        netns::ip_batch(None, &format!("netns del {}", pod.namespace))
    }

    /// A host dies and starts again: namespaces are gone, the agent's state is there. Nobody sends DEL.
    fn reboot(&mut self, rng: &mut StdRng) -> Result<()> {
        let host = self.lab.topology.hosts.choose(rng).context("the lab has hosts")?;
        self.note(format!("{} is restarted", host.name));
        self.faults += 1;
        self.drew("hosts rebooted");
        self.lab.daemons.crash(host.name.as_str())?;
        let (here, elsewhere) = self.pods.drain(..).partition::<Vec<_>, _>(|p| p.host == host.name);
        self.pods = elsewhere;
        let mut gone: Vec<String> = here.iter().map(|p| p.namespace.clone()).collect();
        gone.extend(agree::names_of(&gone));
        gone.push(self.lab.overlay(host.name.as_str()));
        let machines = self.machines.iter().filter(|m| m.at.host == host.name);
        let machines: Vec<&Machine> = machines.collect();
        gone.extend(machines.iter().map(|m| m.at.namespace.clone()));
        let lines: Vec<String> = gone.iter().map(|n| format!("netns del {n}")).collect();
        netns::ip_batch(None, &lines.join("\n"))?;
        self.lab.start_agent(host)?;
        // As an operator would, start the machines again after the agent.
        machines.iter().try_for_each(|m| m.at.create())?;
        self.recovered()
    }

    /// Waits until everything agrees.
    fn agreed(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let pods = self.resolved()?;
            let all = (pods.as_slice(), self.machines.as_slice());
            match agree(self.lab, &self.client, self.runtime, all, &mut self.pins) {
                Ok(()) => {
                    self.pods = pods;
                    break;
                }
                Err(error) => ensure!(Instant::now() < end, "places do not agree: {error:#}"),
            }
            std::thread::sleep(LOOK_EVERY);
        }
        self.compared += 1;
        // Packets agree too.
        for pod in &self.pods {
            let networks: Vec<&str> = pod.interfaces.values().filter_map(|i| i.network).collect();
            let distinct: BTreeSet<&&str> = networks.iter().collect();
            if distinct.len() < networks.len() {
                // Two interfaces in one subnet: the kernel chooses.
                continue;
            }
            for network in networks {
                expect_gateway(&pod.namespace, network)?;
            }
        }
        for machine in &self.machines {
            expect_gateway(&machine.at.namespace, machine.network)?;
        }
        Ok(())
    }

    /// The pods, with the networks that agents report after interrupted swaps.
    fn resolved(&self) -> Result<Vec<Pod>> {
        let mut pods = self.pods.clone();
        for pod in &mut pods {
            if pod.interfaces.values().all(|i| i.network.is_some()) {
                continue;
            }
            let listed = self.lab.agent_list(pod.host.as_str())?;
            for (name, interface) in &mut pod.interfaces {
                let is_it =
                    |slot: &vfabric_cni::protocol::Slot| slot.container == pod.container && slot.interface == *name;
                let wish = listed.iter().find(|(slot, _)| is_it(slot)).map(|(_, wish)| wish);
                let known = NETWORKS
                    .iter()
                    .map(|(n, _)| *n)
                    .find(|n| wish.is_some_and(|w| w.network == **n));
                interface.network = interface.network.or(known);
            }
        }
        Ok(pods)
    }
}

/// Fails unless the first ping to the gateway of a network is answered.
pub(super) fn expect_gateway(namespace: &str, network: &str) -> Result<()> {
    let gateway = gateway(network)?;
    let answer = probe::ping(namespace, gateway, 32, ANSWER)?;
    answer.with_context(|| format!("{namespace}: the first ping to {gateway} is lost"))?;
    Ok(())
}

/// The gateway of a network.
fn gateway(network: &str) -> Result<std::net::IpAddr> {
    let subnet = NETWORKS
        .iter()
        .find(|(name, _)| *name == network)
        .context("the network")?
        .1;
    Ok(subnet.replace(".0/24", ".1").parse()?)
}
