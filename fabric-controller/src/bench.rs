//! Measures the controller's own time for one more attachment, by number of tenant networks.
//!
//! Devices are in memory and answer at once, and so is the store: what remains is the way
//! of a change through checks, model, rendering and actors. The point of the figures is
//! their ratio: a change may not cost more because others exist.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use vfabric_api::ident::Name;
use vfabric_api::intent::{AttachmentSpec, NetworkSpec, Place, SubnetSpec, VdcSpec};
use vfabric_api::service::{Change, FabricService as _, Spec, Transaction};
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
/// Attachments measured at each.
const SAMPLES: usize = 200;
/// Leaves of the fabric; each has two hosts. At 100,000 networks a leaf has 25,000, within
/// the multicast groups of one switch.
const LEAVES: usize = 8;
/// Changes in one transaction while networks are defined.
const CHUNK: usize = 500;
/// Longest wait for devices to take everything.
const PATIENCE: Duration = Duration::from_secs(120);

/// Figures at one number of networks; each name ends with its unit.
#[derive(Debug, Serialize)]
struct Figures {
    #[serde(skip)]
    networks: usize,
    samples: usize,
    /// From the request to its acknowledgement.
    committed_p50_us: f64,
    committed_p99_us: f64,
    /// From the request until every device concerned has confirmed.
    applied_p50_us: f64,
    applied_p99_us: f64,
}

#[derive(Debug, Serialize)]
struct Report {
    /// By number of networks.
    #[serde(flatten)]
    figures: BTreeMap<String, Figures>,
    /// `applied_p50_us` at the most networks to that at the fewest.
    #[serde(rename = "most to fewest networks")]
    ratio: Ratio,
}

#[derive(Debug, Serialize)]
struct Ratio {
    applied_p50_ratio: f64,
}

/// Runs it, prints the figures and writes them to `json`.
///
/// # Errors
/// When a change is refused or devices do not take it, or the file cannot be written.
pub async fn run(json: Option<&Path>) -> Result<()> {
    let mut figures = Vec::new();
    for networks in NETWORKS {
        let f = measure(networks).await?;
        println!(
            "{:>7} networks: committed p50 {:.0} us, p99 {:.0} us; on all devices p50 {:.0} us, p99 {:.0} us",
            f.networks, f.committed_p50_us, f.committed_p99_us, f.applied_p50_us, f.applied_p99_us
        );
        figures.push(f);
    }
    let ratio = match (figures.first(), figures.last()) {
        (Some(first), Some(last)) => last.applied_p50_us / first.applied_p50_us,
        _ => f64::NAN,
    };
    println!("ratio of the last p50 to the first: {ratio:.2}");
    if let Some(path) = json {
        let figures = figures.into_iter().map(|f| (format!("{} networks", f.networks), f));
        let report = Report {
            figures: figures.collect(),
            ratio: Ratio {
                applied_p50_ratio: ratio,
            },
        };
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

async fn measure(networks: usize) -> Result<Figures> {
    let controller = Controller::load(topology()?, MemoryStore::default(), Arc::new(FabricRender)).await?;
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    // Nothing is reported by these devices.
    let (events, _inbox) = tokio::sync::mpsc::channel(1);
    for (i, device) in (0u32..).zip(controller.devices()) {
        let driver = FakeDevice::new(true).driver();
        actor::spawn(DeviceIndex(i), Arc::clone(device), driver, events.clone(), stop.clone());
    }
    let spec = Spec::Vdc(VdcSpec {
        name: vdc()?,
        description: String::new(),
    });
    let mut last = controller
        .commit(transaction(vec![Change::Create(vdc()?, spec)]))
        .await?
        .revision;
    let all: Vec<usize> = (0..networks).collect();
    for chunk in all.chunks(CHUNK) {
        let mut changes = chunk.iter().map(|n| network(*n)).collect::<Result<Vec<_>>>()?;
        for n in chunk {
            changes.push(attachment(*n, format!("a{n}"), *n)?);
        }
        last = controller.commit(transaction(changes)).await?.revision;
    }
    let settled = controller.wait_applied(last, PATIENCE).await;
    ensure!(
        settled.progress == Progress::Applied,
        "devices did not take {networks} networks: {settled:?}"
    );
    let (mut committed, mut applied) = (Vec::new(), Vec::new());
    for sample in 0..SAMPLES {
        let n = sample * networks / SAMPLES;
        // On the host's neighbour, so that the network is new on another host and leaf.
        let change = transaction(vec![attachment(n, format!("b{sample}"), n + 3)?]);
        let start = Instant::now();
        let revision = controller.commit(change).await?.revision;
        committed.push(start.elapsed());
        let done = controller.wait_applied(revision, PATIENCE).await;
        applied.push(start.elapsed());
        ensure!(
            done.progress == Progress::Applied,
            "devices did not take an attachment: {done:?}"
        );
    }
    committed.sort_unstable();
    applied.sort_unstable();
    Ok(Figures {
        networks,
        samples: SAMPLES,
        committed_p50_us: percentile(&committed, 50),
        committed_p99_us: percentile(&committed, 99),
        applied_p50_us: percentile(&applied, 50),
        applied_p99_us: percentile(&applied, 99),
    })
}

/// The smallest sample that `percent` of all do not exceed, in microseconds.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map_or(f64::NAN, |d| d.as_secs_f64() * 1e6)
}
