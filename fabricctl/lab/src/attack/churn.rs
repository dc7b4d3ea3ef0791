//! Objects that come and go while attacks run: attachments, networks and whole vDCs, over the API;
//! and devices that are stopped for moments, so that some are always behind others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::Signal;
use vfabric_api::client::Client;
use vfabric_api::ident::Name;
use vfabric_api::intent::{AttachmentSpec, Intent, NetworkSpec, Place, SubnetSpec, VdcIntent};
use vfabric_api::service::{ApplyOptions, Key, Kind, Outcome};
use vfabric_api::status::Progress;

use crate::checks::Scene;
use crate::daemons::NO_IPV6;
use crate::process::Daemons;
use crate::{Target, netns, plan};

/// Longest time that a change may take to be applied.
const APPLIED: Duration = Duration::from_secs(20);
/// For how long a switch stops: its rings hold what arrives meanwhile.
const SWITCH_PAUSE: Duration = Duration::from_millis(20);
/// For how long an agent stops.
const AGENT_PAUSE: Duration = Duration::from_millis(120);
/// Time from the end of a pause to the next.
const BETWEEN_PAUSES: Duration = Duration::from_millis(80);
/// Namespace of the workloads that come and go, one for each host.
const NAMESPACE: &str = "churn";

/// Changes the intent until it is stopped.
pub(super) struct Churn {
    stop: Arc<AtomicBool>,
    worker: JoinHandle<Result<u32>>,
    pauses: JoinHandle<Result<u32>>,
    namespaces: Vec<String>,
}

fn applied(outcome: &Outcome) -> Result<()> {
    let applied = outcome
        .applied
        .as_ref()
        .context("the answer does not say how far the devices are")?;
    if applied.progress != Progress::Applied {
        bail!("revision {}: {:?}", applied.revision, applied.waiting);
    }
    Ok(())
}

/// A vDC of one network, with a workload on each host. Its addresses are those of the other
/// vDCs, so that a device that mixes them up is noticed. It has no IPv6: a station that comes up reports its
/// groups (RFC 3810) before its leaf admits the network, and these frames would be counted among
/// those of an attack.
fn vdc(round: u32, hosts: &[(Name, String)]) -> Result<VdcIntent> {
    let network: Name = format!("net{}", round % 3).parse()?;
    let subnet = |cidr: &str| -> Result<SubnetSpec> { Ok(SubnetSpec::new(cidr.parse()?)) };
    let attachments = hosts.iter().enumerate().map(|(i, (host, netns))| {
        Ok(AttachmentSpec {
            name: format!("w{i}-{}", round % 2).parse()?,
            network: network.clone(),
            mac: None,
            ips: Vec::new(),
            place: Place::Host {
                host: host.clone(),
                netns: netns.clone(),
                interface: format!("eth{}", round % 4),
            },
            port_security: true,
            allowed_addresses: Vec::new(),
            migration: None,
            labels: Default::default(),
        })
    });
    Ok(VdcIntent {
        networks: vec![NetworkSpec {
            name: network.clone(),
            subnets: vec![subnet("10.0.0.0/24")?],
            mtu: 1500,
            vni: None,
            labels: Default::default(),
        }],
        attachments: attachments.collect::<Result<_>>()?,
        ..VdcIntent::new(format!("churn{}", round % 2).parse()?)
    })
}

/// Creates a vDC and deletes it again, users before the objects that they use.
async fn round(client: &Client, intent: VdcIntent) -> Result<()> {
    let keys: Vec<Key> = {
        let of = |kind, name: &Name| Key::new(intent.name.clone(), kind, name.clone());
        let attachments = intent.attachments.iter().map(|a| of(Kind::Attachment, &a.name));
        let networks = intent.networks.iter().map(|n| of(Kind::Network, &n.name));
        attachments
            .chain(networks)
            .chain([Key::vdc(intent.name.clone())])
            .collect()
    };
    let all = Intent { vdcs: vec![intent] };
    applied(&client.apply(&all, ApplyOptions::default(), Some(APPLIED)).await?)?;
    for key in keys {
        applied(&client.delete(&key, Some(APPLIED)).await?)?;
    }
    Ok(())
}

/// Stops one daemon after the other for a moment, until `stop` is set; returns how often.
fn pause(daemons: &Daemons, moments: &[(String, Duration)], stop: &AtomicBool) -> Result<u32> {
    let mut pauses = 0;
    for (daemon, moment) in moments.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        daemons.signal(daemon, Signal::SIGSTOP)?;
        std::thread::sleep(*moment);
        daemons.signal(daemon, Signal::SIGCONT)?;
        pauses += 1;
        std::thread::sleep(BETWEEN_PAUSES);
    }
    Ok(pauses)
}

impl Churn {
    /// Begins to change things.
    ///
    /// # Errors
    /// The namespaces of its workloads cannot be made.
    pub(super) fn start(scene: &Scene<'_>) -> Result<Self> {
        let hosts: Vec<(Name, String)> = scene
            .lab
            .topology
            .hosts
            .iter()
            .flat_map(|h| [0, 1].map(|n| (h.name.clone(), format!("{}{NAMESPACE}{n}-{}", plan::PREFIX, h.name))))
            .collect();
        let there = netns::list(plan::PREFIX);
        let namespaces: Vec<String> = hosts.iter().map(|(_, n)| n.clone()).collect();
        let missing = namespaces.iter().filter(|n| !there.contains(n));
        let lines: Vec<String> = missing.map(|n| format!("netns add {n}")).collect();
        if !lines.is_empty() {
            netns::ip_batch(None, &lines.join("\n"))?;
        }
        for namespace in &namespaces {
            netns::sysctl(namespace, &NO_IPV6)?;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (flag, client) = (Arc::clone(&stop), scene.lab.client()?);
        let handle = scene.runtime.handle().clone();
        let worker = std::thread::spawn(move || {
            let mut rounds = 0;
            while !flag.load(Ordering::Relaxed) {
                // A namespace belongs to one vDC: each of the two has its own.
                let parity = rounds % 2;
                let mine = hosts.iter().enumerate().filter(|(i, _)| *i as u32 % 2 == parity);
                let mine: Vec<_> = mine.map(|(_, h)| h.clone()).collect();
                handle.block_on(round(&client, vdc(rounds, &mine)?))?;
                rounds += 1;
            }
            Ok(rounds)
        });
        let topology = &scene.lab.topology;
        let agents = topology.hosts.iter().map(|h| (h.name.to_string(), AGENT_PAUSE));
        // simple_switch_grpc queues only few packets.
        let switches = topology
            .switches
            .iter()
            .filter(|_| scene.lab.options.target == Target::P4Switch);
        let switches = switches.map(|s| (s.name.to_string(), SWITCH_PAUSE));
        let moments: Vec<_> = switches.chain(agents).collect();
        let (flag, daemons) = (Arc::clone(&stop), scene.lab.daemons.clone());
        let pauses = std::thread::spawn(move || pause(&daemons, &moments, &flag));
        Ok(Self {
            stop,
            worker,
            pauses,
            namespaces,
        })
    }

    /// Ends the churn and removes all of its objects; returns a summary.
    ///
    /// # Errors
    /// A change was refused or not applied in time.
    pub(super) fn stop(self, scene: &Scene<'_>) -> Result<String> {
        self.stop.store(true, Ordering::Relaxed);
        let rounds = self.worker.join().ok().context("the churn panicked")?;
        let pauses = self.pauses.join().ok().context("the pauses panicked")?;
        let lines: Vec<String> = self.namespaces.iter().map(|n| format!("netns del {n}")).collect();
        netns::ip_batch(None, &lines.join("\n"))?;
        let (rounds, pauses) = (rounds?, pauses?);
        scene.ready()?;
        if rounds == 0 {
            bail!("nothing came or went");
        }
        let per_vdc = self.namespaces.len() / 2;
        Ok(format!(
            "{rounds} vDCs with a network and {per_vdc} attachments came and went, devices stopped {pauses} times"
        ))
    }
}
