//! The load, and one more attachment at three sizes on the way.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use hdrhistogram::Histogram;
use vfabric_api::intent::Intent;
use vfabric_api::kind::Spec;
use vfabric_api::service::ApplyOptions;
use vfabric_api::status::{Progress, View};

use super::objects::{self, At};
use super::report::{Goal, Report, percentile_ms, record, times};
use super::world::World;

/// Approximate number of objects in one request.
const OBJECTS: usize = 10_000;
/// Requests under way, so that the next one is sent while one is carried out.
const REQUESTS: usize = 2;
/// Longest wait for devices to take one attachment.
const PATIENCE: Duration = Duration::from_secs(60);
/// Greatest memory of the controller, in MiB.
const MOST_MEMORY_MIB: f64 = 1536.0;
/// Longest time of the load.
const LONGEST_LOAD_S: f64 = 60.0;

/// One more attachment at one size.
struct Stage {
    networks: usize,
    applied: Histogram<u64>,
    /// Entities that devices wrote for each.
    entities: f64,
    /// Processor time of the controller for each attachment that came and went.
    processor_ms: f64,
}

/// Loads everything; measures one more attachment with a hundredth, a tenth and all of the networks.
///
/// # Errors
/// Something is refused, or a device does not apply it.
pub(super) async fn run(world: &World, report: &mut Report) -> Result<()> {
    let size = &world.size;
    let mut took = Duration::ZERO;
    let (mut vdcs, mut stages) = (0, Vec::new());
    for upto in [size.vdcs / 100, size.vdcs / 10, size.vdcs] {
        let upto = upto.max(vdcs + 1).min(size.vdcs);
        took += load(world, vdcs..upto).await?;
        vdcs = upto;
        world.in_sync().await?;
        stages.push(stage(world, vdcs).await?);
    }
    let fabric = world.client.fabric().await?;
    let what = format!(
        "load of {} networks, {} attachments",
        fabric.networks, fabric.attachments
    );
    report.add(
        &what,
        "bulk REST, durable",
        took.as_secs_f64(),
        "s",
        Goal::Below(LONGEST_LOAD_S),
    );
    report.add(
        &what,
        "memory",
        world.memory_mib("VmRSS")?,
        "MiB",
        Goal::Below(MOST_MEMORY_MIB),
    );
    report.add(&what, "memory at most", world.memory_mib("VmHWM")?, "MiB", Goal::None);
    report.add(&what, "store", world.store_mib()?, "MiB", Goal::None);
    report.add(&what, "entities on devices", world.held() as f64, "", Goal::None);
    flat(report, &stages);
    Ok(())
}

fn flat(report: &mut Report, stages: &[Stage]) {
    let least = stages.first().map(|stage| percentile_ms(&stage.applied, 50.0));
    for (index, stage) in stages.iter().enumerate() {
        let what = format!("one more attachment at {} networks", stage.networks);
        let is_last = index + 1 == stages.len();
        let (p50, p99) = if is_last {
            (Goal::Below(3.0), Goal::Below(15.0))
        } else {
            (Goal::None, Goal::None)
        };
        report.add_times(&what, &stage.applied, p50, p99);
        report.add(&what, "entities written", stage.entities, "", Goal::None);
        report.add(
            &what,
            "processor, with its removal",
            stage.processor_ms,
            "ms",
            Goal::None,
        );
        if let Some(least) = least.filter(|_| index > 0) {
            let ratio = percentile_ms(&stage.applied, 50.0) / least;
            report.add(&what, "p50 to that of the smallest", ratio, "", Goal::Below(1.25));
        }
    }
}

/// Applies vDCs of the load.
async fn load(world: &World, vdcs: std::ops::Range<usize>) -> Result<Duration> {
    let size = &world.size;
    let of_vdc = 1 + size.networks_of_vdc() + size.attachments_of_vdc();
    let at_once = (OBJECTS / of_vdc).max(1);
    let started = Instant::now();
    let parts: Vec<std::ops::Range<usize>> = vdcs
        .clone()
        .step_by(at_once)
        .map(|first| first..(first + at_once).min(vdcs.end))
        .collect();
    let apply = |part: std::ops::Range<usize>| async move {
        let vdcs = part
            .map(|index| objects::loaded(size, index))
            .collect::<Result<Vec<_>>>()?;
        let intent = Intent { vdcs };
        world
            .client
            .apply(&intent, ApplyOptions::default(), None)
            .await
            .context("bulk load")
    };
    futures::stream::iter(parts)
        .map(apply)
        .buffer_unordered(REQUESTS)
        .try_for_each(|_| std::future::ready(Ok(())))
        .await?;
    Ok(started.elapsed())
}

async fn stage(world: &World, vdcs: usize) -> Result<Stage> {
    let size = &world.size;
    let (mut applied, mut discarded) = (times()?, times()?);
    // Connections and caches.
    for at in objects::spread(size, vdcs, size.samples / 10 + 1) {
        add_and_remove(world, at, &mut discarded).await?;
    }
    let (mut entities, processor) = (0, world.processor_ms()?);
    for at in objects::spread(size, vdcs, size.samples) {
        entities += add_and_remove(world, at, &mut applied).await?;
    }
    Ok(Stage {
        networks: vdcs * size.networks_of_vdc(),
        applied,
        entities: entities as f64 / size.samples as f64,
        processor_ms: (world.processor_ms()? - processor) / size.samples as f64,
    })
}

/// One more attachment until all devices have acknowledged it, and its removal. Returns the entities written for it.
async fn add_and_remove(world: &World, at: At, took: &mut Histogram<u64>) -> Result<u64> {
    let vdc = objects::vdc(at.vdc)?;
    // On a host that usually does not have the network yet.
    let host = (at.vdc * 7 + at.network + 3) % world.size.hosts;
    let spec = Spec::Attachment(objects::attachment("more".into(), at.network, host)?);
    let before = world.writes();
    let started = Instant::now();
    let view = world.client.create(&vdc, &spec, Some(PATIENCE)).await?;
    record(took, started.elapsed())?;
    let View::Attachment(made) = view else {
        anyhow::bail!("the answer is not an attachment")
    };
    ensure!(made.applied.progress == Progress::Applied, "{:?}", made.applied);
    let written = world.writes() - before;
    let key = objects::attachment_key(&vdc, "more")?;
    world.client.delete(&key, Some(PATIENCE)).await?;
    Ok(written)
}
