//! Measures the controller's own time for one more attachment, by number of tenant networks.
//!
//! Store and devices are in memory, and devices answer at once. So only the controller's own work is measured: checks,
//! model, rendering and actors. The ratio of the figures matters: a change may not cost more because other objects
//! exist.
//!
//! **Fairness.** The fabrics of all sizes exist side by side and take turns, so that all see the same machine at the
//! same time. Two cases separate the controller's work from the machine's memory:
//! - *again*: one network gets and loses the same attachment over and over. The data that this touches is in the
//!   processor's caches at every size. So the times are those of the work, and should be equal.
//! - *spread*: at each size, the same number of networks, spread evenly over all of them, take turns. The work is the
//!   same, but with more networks the data lies further apart in memory, and less of it is in caches and TLBs.
//!
//! The entities written for each attachment are counted, to show that the work is the same.
//!
//! Another part measures how many changes a second clients get stored on a disk ([`clients`]).

mod clients;

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
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
/// Networks that take turns: all of them at the smallest size.
const SPREAD: usize = 100;
/// Times that one network gets its attachment before another fabric has its turn.
const AGAIN: usize = 100;
/// Turns of each fabric, in both ways. The first warms up and is not counted.
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
    /// Entities that are written to devices for one more attachment.
    writes: f64,
    again: Times,
    spread: Times,
}

/// What one more attachment takes.
#[derive(Debug, Serialize)]
struct Times {
    samples: usize,
    /// From the request to its acknowledgement.
    committed_p50_us: f64,
    committed_p99_us: f64,
    /// From the request until every device concerned has confirmed.
    applied_p50_us: f64,
    applied_p99_us: f64,
    /// Of `applied_p50_us` to that of the smallest size.
    ratio: f64,
}

/// Runs it, prints the figures and writes them to `json`. The store of the part with clients lies in `dir`;
/// `only_clients` leaves the other part out.
///
/// # Errors
/// When a change is refused or devices do not take it, or the file cannot be written.
pub async fn run(only_clients: bool, dir: &Path, json: Option<&Path>) -> Result<()> {
    let mut report = serde_json::Map::new();
    for figures in clients::run(dir).await? {
        report.insert(figures.name(), serde_json::to_value(figures)?);
    }
    let networks: &[usize] = if only_clients { &[] } else { &NETWORKS };
    let mut fabrics = Vec::new();
    for networks in networks {
        fabrics.push(Fabric::with(*networks).await?);
    }
    for way in [Way::Again, Way::Spread] {
        for round in 0..ROUNDS {
            for fabric in &mut fabrics {
                fabric.round(way, round > 0).await?;
            }
        }
    }
    let mut figures: Vec<Figures> = fabrics.into_iter().map(Fabric::figures).collect();
    let least = |times: fn(&Figures) -> &Times| figures.first().map_or(f64::NAN, |f| times(f).applied_p50_us);
    let (again, spread) = (least(|f| &f.again), least(|f| &f.spread));
    for f in &mut figures {
        println!(
            "{:>7} networks: {:.0} entities written for one more attachment",
            f.networks, f.writes
        );
        for (way, times, least) in [("again", &mut f.again, again), ("spread", &mut f.spread, spread)] {
            times.ratio = times.applied_p50_us / least;
            println!(
                "    {way:<7} committed p50 {:.0} us, p99 {:.0} us; on all devices p50 {:.0} us, p99 {:.0} us; ratio {:.2}",
                times.committed_p50_us, times.committed_p99_us, times.applied_p50_us, times.applied_p99_us, times.ratio,
            );
        }
        report.insert(format!("{} networks", f.networks), serde_json::to_value(&*f)?);
    }
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
        port_security: true,
        allowed_addresses: Vec::new(),
        migration: None,
        labels: Default::default(),
    };
    Ok(Change::Create(vdc()?, Spec::Attachment(spec)))
}

fn vdc() -> Result<Name> {
    Ok("bench".parse()?)
}

fn network(n: usize) -> Result<Change> {
    let subnet = SubnetSpec::new("10.0.0.0/16".parse()?);
    let spec = NetworkSpec {
        name: format!("n{n}").parse()?,
        subnets: vec![subnet],
        mtu: 1500,
        vni: None,
        labels: Default::default(),
    };
    Ok(Change::Create(vdc()?, Spec::Network(spec)))
}

fn transaction(changes: Vec<Change>) -> Transaction {
    Transaction {
        changes: changes.into_iter().map(|c| (String::new(), c)).collect(),
        ..Transaction::default()
    }
}

/// Which networks get the attachments that are measured; see the file's header.
#[derive(Debug, Clone, Copy)]
enum Way {
    Again,
    Spread,
}

/// What was measured in one way.
#[derive(Debug)]
struct Samples {
    committed: Measured,
    applied: Measured,
}

/// A controller over fake devices, with its samples.
struct Fabric {
    networks: usize,
    controller: Arc<Controller<MemoryStore>>,
    again: Samples,
    spread: Samples,
    /// Writes that devices confirmed for the attachments that were made.
    writes: u64,
    _stop: DropGuard,
}

impl Fabric {
    /// A controller with this many networks, each with one attachment, all applied.
    async fn with(networks: usize) -> Result<Self> {
        let controller = Controller::load(topology()?, MemoryStore::default(), Arc::new(FabricRender)).await?;
        let stop = CancellationToken::new();
        // Nothing is reported by these devices.
        let (events, _inbox) = tokio::sync::mpsc::channel(1);
        for (i, device) in (0u32..).zip(controller.devices()) {
            let driver = FakeDevice::new(true).driver();
            actor::spawn(
                DeviceIndex(i),
                device,
                driver,
                events.clone(),
                Default::default(),
                stop.clone(),
            );
        }
        let fabric = Self {
            networks,
            controller,
            again: Samples::new()?,
            spread: Samples::new()?,
            writes: 0,
            _stop: stop.drop_guard(),
        };
        let spec = Spec::Vdc(VdcSpec::new(vdc()?));
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

    /// One turn of this fabric; its times count if `measured`.
    async fn round(&mut self, way: Way, measured: bool) -> Result<()> {
        let targets: Vec<usize> = match way {
            Way::Again => vec![self.networks / 2; AGAIN],
            Way::Spread => (0..SPREAD).map(|t| t * self.networks / SPREAD).collect(),
        };
        for n in targets {
            let name = format!("b{n}");
            // On another leaf's host, so that the network is new on host and leaf.
            let change = vec![attachment(n, name.clone(), n + 3)?];
            let before = self.written();
            let start = Instant::now();
            let revision = self.commit(change).await?;
            let committed = start.elapsed();
            self.wait(revision).await?;
            let applied = start.elapsed();
            if measured {
                self.writes += self.written() - before;
                let samples = match way {
                    Way::Again => &mut self.again,
                    Way::Spread => &mut self.spread,
                };
                samples.committed.add(committed);
                samples.applied.add(applied);
            }
            let gone = Change::Delete(Key::new(vdc()?, Kind::Attachment, name.parse()?));
            let revision = self.commit(vec![gone]).await?;
            self.wait(revision).await?;
        }
        Ok(())
    }

    /// Writes that all devices have confirmed so far.
    fn written(&self) -> u64 {
        self.controller.devices().iter().map(|d| d.numbers().writes).sum()
    }

    fn figures(self) -> Figures {
        let attachments = self.again.applied.len() + self.spread.applied.len();
        Figures {
            networks: self.networks,
            writes: self.writes as f64 / attachments.max(1) as f64,
            again: self.again.times(),
            spread: self.spread.times(),
        }
    }
}

impl Samples {
    fn new() -> Result<Self> {
        Ok(Self {
            committed: Measured::new()?,
            applied: Measured::new()?,
        })
    }

    fn times(self) -> Times {
        Times {
            samples: self.applied.len(),
            committed_p50_us: self.committed.percentile(50.0),
            committed_p99_us: self.committed.percentile(99.0),
            applied_p50_us: self.applied.percentile(50.0),
            applied_p99_us: self.applied.percentile(99.0),
            ratio: f64::NAN,
        }
    }
}

/// Times that were measured.
#[derive(Debug)]
struct Measured(Histogram<u64>);

impl Measured {
    /// None yet; kept to a thousandth.
    fn new() -> Result<Self> {
        Ok(Self(Histogram::new(3)?))
    }

    fn add(&mut self, time: Duration) {
        // It grows as needed, so that no value is too large for it.
        let _ = self.0.record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    fn extend(&mut self, times: impl IntoIterator<Item = Duration>) {
        times.into_iter().for_each(|time| self.add(time));
    }

    fn len(&self) -> usize {
        usize::try_from(self.0.len()).unwrap_or(usize::MAX)
    }

    /// The time that `percent` of all do not exceed, in microseconds.
    fn percentile(&self, percent: f64) -> f64 {
        self.0.value_at_percentile(percent) as f64 / 1e3
    }
}
