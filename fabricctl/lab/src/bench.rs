//! Measures a lab: the time that a change takes, and what each fault costs.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::say;
use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use serde_json::json;
use tokio::runtime::Runtime;
use vfabric_api::intent::{AttachmentSpec, Place};
use vfabric_api::service::{Key, Kind, Spec};
use vfabric_api::status::{Progress, View};

use super::{Lab, Steps, checks};

/// Longest time one attachment may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Attachments made one after the other
    #[arg(long, default_value_t = 200)]
    attachments: usize,
    /// Measure attachments of pods instead, beside Debian's reference CNI plugins
    #[arg(long)]
    pods: bool,
    /// Fewer attachments and shorter times, where a row takes minutes
    #[arg(long)]
    short: bool,
    /// Also measure what each fault costs
    #[arg(long)]
    faults: bool,
    /// Write the figures to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Parts of the names of the checks that show what a fault costs.
const FAULTS: [&str; 3] = ["killed", "link", "stray"];

/// Measures and prints.
///
/// # Errors
/// Something could not be measured.
pub fn run(lab: &Lab, args: &Args, runtime: &Runtime) -> Result<ExitCode> {
    let steps = Steps::default();
    if args.pods {
        let figures = crate::pods::bench::run(lab, runtime, &steps, args.short)?;
        store(args, &figures.rows)?;
        ensure!(figures.failed.is_empty(), "not measured: {}", figures.failed.join(", "));
        return Ok(ExitCode::SUCCESS);
    }
    let mut figures = serde_json::Map::new();
    if let Some(startup) = lab.startup {
        say!("lab start-up, to every device in sync: {:.2} s", startup.as_secs_f64());
        figures.insert("lab start-up".into(), json!({ "ready_s": startup.as_secs_f64() }));
    }
    let (add, remove) = steps.run("attachments", || runtime.block_on(attachments(lab, args.attachments)))?;
    for (what, times) in [
        ("POST attachment to applied", &add),
        ("DELETE attachment to applied", &remove),
    ] {
        let milliseconds = |percent: f64| times.value_at_percentile(percent) as f64 / 1e3;
        let (p50, p99) = (milliseconds(50.0), milliseconds(99.0));
        say!("{what}: p50 {p50:.2} ms, p99 {p99:.2} ms over {}", times.len());
        figures.insert(
            what.into(),
            json!({ "p50_ms": p50, "p99_ms": p99, "samples": times.len() }),
        );
    }
    let mut code = ExitCode::SUCCESS;
    for only in FAULTS.into_iter().filter(|_| args.faults) {
        let report = checks::run(lab, Some(only), &steps, runtime)?;
        say!("{report}");
        for row in &report.rows {
            let mut measured: serde_json::Map<_, _> =
                row.figures.iter().map(|(n, v)| ((*n).to_owned(), json!(v))).collect();
            if let Err(why) = &row.outcome {
                measured.insert("failed".into(), json!(why));
                code = ExitCode::FAILURE;
            }
            figures.insert(row.name.clone(), measured.into());
        }
    }
    store(args, &figures)?;
    Ok(code)
}

fn store(args: &Args, figures: &serde_json::Map<String, serde_json::Value>) -> Result<()> {
    let Some(path) = &args.json else { return Ok(()) };
    std::fs::write(path, serde_json::to_string_pretty(figures)?).with_context(|| path.display().to_string())
}

/// Microseconds from the request until every device has confirmed, for each of `count`
/// attachments; and the same for their removal.
async fn attachments(lab: &Lab, count: usize) -> Result<(Histogram<u64>, Histogram<u64>)> {
    let client = lab.client()?;
    let vdc = lab.intent.vdcs.first().context("the intent has no vDC")?;
    let network = vdc.networks.first().context("the vDC has no network")?;
    let host = lab.topology.hosts.first().context("the topology has no host")?;
    let netns = lab.plan.workloads.first().context("the intent has no workload")?;
    let (mut add, mut remove) = (Histogram::new(3)?, Histogram::new(3)?);
    for i in 0..count {
        let name: vfabric_api::ident::Name = format!("bench{i}").parse()?;
        let spec = Spec::Attachment(AttachmentSpec {
            name: name.clone(),
            network: network.name.clone(),
            mac: None,
            ips: Vec::new(),
            place: Place::Host {
                host: host.name.clone(),
                netns: netns.clone(),
                interface: format!("bench{i}"),
            },
            port_security: true,
            allowed_addresses: Vec::new(),
            migration: None,
            labels: Default::default(),
        });
        let started = Instant::now();
        let View::Attachment(a) = client.create(&vdc.name, &spec, Some(TIMEOUT)).await? else {
            bail!("no attachment")
        };
        if a.applied.progress != Progress::Applied {
            bail!("attachment {name}: {:?}", a.applied);
        }
        add.record(started.elapsed().as_micros() as u64)?;
        let key = Key::new(vdc.name.clone(), Kind::Attachment, name);
        let started = Instant::now();
        client.delete(&key, Some(TIMEOUT)).await?;
        remove.record(started.elapsed().as_micros() as u64)?;
    }
    Ok((add, remove))
}
