//! Measures the controller's own time for one more attachment, by number of tenant networks.
//!
//! Devices are in memory and answer at once, and so is the store: what remains is the way
//! of a change through checks, model, rendering and actors. The point of the figures is
//! their ratio: a change may not cost more because others exist.
//!
//! **Fairness.** The fabrics of all sizes stand side by side and take turns, so that all see
//! the same machine at the same time. Each is measured on the same number of networks, spread
//! evenly over all it has, which get and lose the same attachment round after round. The first
//! round is told apart: there, a network is touched for the first time since thousands of others
//! were, so that the memory it lies in is in no cache of the processor. What is measured then is
//! the machine's memory more than the controller, and it cannot be the same at all sizes.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use tokio_util::sync::{CancellationToken, DropGuard};
use vfabric_api::ident::Name;
use vfabric_api::intent::{AttachmentSpec, NetworkSpec, Place, SubnetSpec, VdcSpec};
use vfabric_api::service::{Change, FabricService as _, Key, Kind, Spec, Transaction};
use vfabric_api::status::Progress;
use vfabric_api::topology::Topology;

use crate::controller::Controller;
use crate::device::actor;
use crate::device::driver::DeviceIndex;
use crate::driver::fake::FakeDevice;
use crate::render::FabricRender;
use crate::store::MemoryStore;

/// Numbers of networks that are compared.
const NETWORKS: [usize; 3] = [100, 10_000, 100_000];
/// Networks that are measured at each size: all of them at the least.
const TARGETS: usize = 100;
/// Rounds over these. The first warms up and is told apart.
const ROUNDS: usize = 21;
/// Leaves of the fabric; each has two hosts. At 100,000 networks a leaf has 25,000, within
/// the multicast groups of one switch.
const LEAVES: usize = 8;
/// Changes in one transaction while networks are defined.
const CHUNK: usize = 500;
/// Longest wait for devices to take everything.
const PATIENCE: Duration = Duration::from_secs(120);

/// Figures at one number of networks, in microseconds.
#[derive(Debug, Serialize)]
struct Figures {
    networks: usize,
    samples: usize,
    /// From the request to its acknowledgement.
    committed_p50_us: f64,
    committed_p99_us: f64,
    /// From the request until every device concerned has confirmed.
    applied_p50_us: f64,
    applied_p99_us: f64,
    /// The same in the first round.
    first_p50_us: f64,
    /// Of `applied_p50_us` to that of the smallest size.
    ratio: f64,
}

/// Runs it, prints the figures and writes them to `json`.
///
/// # Errors
/// When a change is refused or devices do not take it, or the file cannot be written.
pub async fn run(json: Option<&Path>) -> Result<()> {
    let mut fabrics = Vec::new();
    for networks in NETWORKS {
        fabrics.push(Fabric::with(networks).await?);
    }
    for round in 0..ROUNDS {
        for fabric in &mut fabrics {
            fabric.round(round == 0).await?;
        }
    }
    let mut figures: Vec<Figures> = fabrics.into_iter().map(Fabric::figures).collect();
    let least = figures.first().map_or(f64::NAN, |f| f.applied_p50_us);
    let mut report = serde_json::Map::new();
    for f in &mut figures {
        f.ratio = f.applied_p50_us / least;
        println!(
            "{:>7} networks: committed p50 {:.0} us, p99 {:.0} us; on all devices p50 {:.0} us, p99 {:.0} us, \
             ratio {:.2}; at first touch p50 {:.0} us",
            f.networks,
            f.committed_p50_us,
            f.committed_p99_us,
            f.applied_p50_us,
            f.applied_p99_us,
            f.ratio,
            f.first_p50_us
        );
        report.insert(format!("{} networks", f.networks), serde_json::to_value(&*f)?);
    }
    let ratio = figures.last().map_or(f64::NAN, |f| f.ratio);
    println!("ratio of the last p50 to the first: {ratio:.2}");
    if let Some(path) = json {
        let text = serde_json::to_vec_pretty(&report)?;
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

fn topology() -> Result<Topology> {
    let mut text = String::from("fabric: { name: bench }\nswitches:\n");
    writeln!(
        text,
        r#"  - {{ name: spine, role: spine, device_id: 1000, loopback_ipv4: 10.255.9.1, loopback_ipv6: "fd00:9::1", p4runtime: "192.0.2.200:9559" }}"#
    )?;
    for l in 1..=LEAVES {
        writeln!(
            text,
            r#"  - {{ name: leaf{l}, role: leaf, device_id: {l}, loopback_ipv4: 10.255.0.{l}, loopback_ipv6: "fd00::{l}", p4runtime: "192.0.2.{l}:9559" }}"#
        )?;
    }
    text.push_str("links:\n");
    for l in 1..=LEAVES {
        writeln!(
            text,
            "  - {{ a: {{ switch: leaf{l}, port: 1 }}, b: {{ switch: spine, port: {l} }} }}"
        )?;
    }
    text.push_str("hosts:\n");
    for h in 0..LEAVES * 2 {
        let (leaf, port, mac) = (h / 2 + 1, h % 2 + 2, format!("02:00:00:00:01:{h:02x}"));
        writeln!(
            text,
            r#"  - {{ name: host{h}, uplink: {{ switch: leaf{leaf}, port: {port} }}, mac: "{mac}", vtep_ipv4: 10.255.1.{}, vtep_ipv6: "fd00:1::{}" }}"#,
            h + 1,
            h + 1
        )?;
    }
    Ok(Topology::from_yaml(&text)?)
}

fn attachment(n: usize, name: String, host: usize) -> Result<Change> {
    let host = format!("host{}", host % (LEAVES * 2)).parse()?;
    let place = Place::Host {
        host,
        netns: name.clone(),
        interface: "eth0".into(),
    };
    let spec = AttachmentSpec {
        name: name.parse()?,
        network: format!("n{n}").parse()?,
        mac: None,
        ips: Vec::new(),
        place,
    };
    Ok(Change::Create(vdc()?, Spec::Attachment(spec)))
}

fn vdc() -> Result<Name> {
    Ok("bench".parse()?)
}

fn network(n: usize) -> Result<Change> {
    let subnet = SubnetSpec {
        cidr: "10.0.0.0/24".parse()?,
        gateway: None,
    };
    let spec = NetworkSpec {
        name: format!("n{n}").parse()?,
        subnets: vec![subnet],
        mtu: 1500,
        vni: None,
    };
    Ok(Change::Create(vdc()?, Spec::Network(spec)))
}

fn transaction(changes: Vec<Change>) -> Transaction {
    Transaction {
        changes: changes.into_iter().map(|c| (String::new(), c)).collect(),
        dry_run: false,
    }
}

/// A controller over fake devices, with its samples.
struct Fabric {
    networks: usize,
    controller: Arc<Controller<MemoryStore>>,
    committed: Vec<Duration>,
    applied: Vec<Duration>,
    first: Vec<Duration>,
    _stop: DropGuard,
}

impl Fabric {
    /// With as many networks, each with one attachment, all on their devices.
    async fn with(networks: usize) -> Result<Self> {
        let controller = Controller::load(topology()?, MemoryStore::default(), Arc::new(FabricRender)).await?;
        let stop = CancellationToken::new();
        // Nothing is reported by these devices.
        let (events, _inbox) = tokio::sync::mpsc::channel(1);
        for (i, device) in (0u32..).zip(controller.devices()) {
            let driver = FakeDevice::new(true).driver();
            actor::spawn(DeviceIndex(i), Arc::clone(device), driver, events.clone(), stop.clone());
        }
        let fabric = Self {
            networks,
            controller,
            committed: Vec::new(),
            applied: Vec::new(),
            first: Vec::new(),
            _stop: stop.drop_guard(),
        };
        let spec = Spec::Vdc(VdcSpec {
            name: vdc()?,
            description: String::new(),
        });
        let mut last = fabric.commit(vec![Change::Create(vdc()?, spec)]).await?;
        let all: Vec<usize> = (0..networks).collect();
        for chunk in all.chunks(CHUNK) {
            let mut changes = chunk.iter().map(|n| network(*n)).collect::<Result<Vec<_>>>()?;
            for n in chunk {
                changes.push(attachment(*n, format!("a{n}"), *n)?);
            }
            last = fabric.commit(changes).await?;
        }
        fabric.wait(last).await?;
        Ok(fabric)
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<u64> {
        Ok(self.controller.commit(transaction(changes)).await?.revision)
    }

    async fn wait(&self, revision: u64) -> Result<()> {
        let done = self.controller.wait_applied(revision, PATIENCE).await;
        ensure!(done.progress == Progress::Applied, "devices did not take all: {done:?}");
        Ok(())
    }

    /// One more attachment in each of the networks that are measured, and one less again.
    async fn round(&mut self, first: bool) -> Result<()> {
        for target in 0..TARGETS {
            let n = target * self.networks / TARGETS;
            let name = format!("b{target}");
            // On another leaf's host, so that the network is new on host and leaf.
            let change = vec![attachment(n, name.clone(), n + 3)?];
            let start = Instant::now();
            let revision = self.commit(change).await?;
            let committed = start.elapsed();
            self.wait(revision).await?;
            let applied = start.elapsed();
            if first {
                self.first.push(applied);
            } else {
                self.committed.push(committed);
                self.applied.push(applied);
            }
            let gone = Change::Delete(Key::new(vdc()?, Kind::Attachment, name.parse()?));
            let revision = self.commit(vec![gone]).await?;
            self.wait(revision).await?;
        }
        Ok(())
    }

    fn figures(mut self) -> Figures {
        for samples in [&mut self.committed, &mut self.applied, &mut self.first] {
            samples.sort_unstable();
        }
        Figures {
            networks: self.networks,
            samples: self.applied.len(),
            committed_p50_us: percentile(&self.committed, 50),
            committed_p99_us: percentile(&self.committed, 99),
            applied_p50_us: percentile(&self.applied, 50),
            applied_p99_us: percentile(&self.applied, 99),
            first_p50_us: percentile(&self.first, 50),
            ratio: f64::NAN,
        }
    }
}

/// The smallest sample that `percent` of all do not exceed, in microseconds.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map_or(f64::NAN, |d| d.as_secs_f64() * 1e6)
}
