//! The plan of a large change.

use std::time::Instant;

use anyhow::Result;
use vfabric_api::intent::VdcIntent;
use vfabric_api::service::ApplyOptions;

use super::objects;
use super::report::{Goal, Report, percentile_ms, record, times};
use super::world::World;

/// How often it is planned.
const TIMES: usize = 11;
/// Attachments of the plan in one vDC.
const OF_VDC: usize = 10;

/// Plans this many attachments, spread over vDCs; nothing is written.
///
/// # Errors
/// The plan is refused.
pub(super) async fn run(world: &World, report: &mut Report) -> Result<()> {
    let size = &world.size;
    let mut intent = vfabric_api::intent::Intent { vdcs: Vec::new() };
    for (n, at) in objects::spread(size, size.vdcs, size.planned / OF_VDC).enumerate() {
        let mut vdc = VdcIntent::new(objects::vdc(at.vdc)?);
        let attachments = (0..OF_VDC).map(|i| {
            let network = (at.network + i) % size.networks_of_vdc();
            objects::attachment(format!("p{i}"), network, (n * OF_VDC + i) % size.hosts)
        });
        vdc.attachments = attachments.collect::<Result<_>>()?;
        intent.vdcs.push(vdc);
    }
    let (revision, writes) = (world.client.fabric().await?.revision, world.writes());
    let options = ApplyOptions {
        dry_run: true,
        keep_vdcs: true,
        ..ApplyOptions::default()
    };
    let (mut took, mut added) = (times()?, 0);
    for _ in 0..TIMES {
        let started = Instant::now();
        let outcome = world.client.apply(&intent, options.clone(), None).await?;
        record(&mut took, started.elapsed())?;
        added = outcome.committed.created.len();
    }
    let what = format!("plan of {added} objects");
    report.add(&what, "p50", percentile_ms(&took, 50.0), "ms", Goal::Below(300.0));
    report.add(&what, "slowest", percentile_ms(&took, 100.0), "ms", Goal::None);
    let written = (world.writes() - writes) + (world.client.fabric().await?.revision - revision);
    report.add(
        &what,
        "revisions and entities written",
        written as f64,
        "",
        Goal::Below(1.0),
    );
    Ok(())
}
