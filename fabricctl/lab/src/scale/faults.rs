//! Faults at scale: the controller, a leaf and a spine go away and come back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use futures::future::{join_all, try_join_all};
use vfabric_api::topology::Role;

use super::report::{Goal, Report, percentile_ms, record, times};
use super::world::World;

/// Times that the spine is lost.
const LOSSES: usize = 5;
/// Longest wait for devices.
const PATIENCE: Duration = Duration::from_secs(120);

/// The controller stops and starts again; nothing has changed.
///
/// # Errors
/// It does not start, or devices do not come back.
pub(super) async fn restart(world: &mut World, report: &mut Report) -> Result<()> {
    world.in_sync().await?;
    let before = world.writes();
    world.stop_controller().await?;
    let started = Instant::now();
    let serving = world.start_controller().await?;
    world.in_sync().await?;
    let confirmed = started.elapsed();
    let what = "restart of the controller";
    report.add(what, "until it serves", serving.as_secs_f64(), "s", Goal::Below(8.0));
    let text = "until all is confirmed unchanged";
    report.add(what, text, confirmed.as_secs_f64(), "s", Goal::Below(20.0));
    report.add(
        what,
        "entities written",
        (world.writes() - before) as f64,
        "",
        Goal::Below(1.0),
    );
    report.add(what, "memory", world.memory_mib("VmRSS")?, "MiB", Goal::None);
    Ok(())
}

/// A leaf comes back empty: it gets its own entities, and no other device gets any.
///
/// # Errors
/// The leaf does not get its entities.
pub(super) async fn leaf(world: &World, report: &mut Report) -> Result<()> {
    world.in_sync().await?;
    let leaf = world.switches.first().context("no leaf")?;
    let (held, own, all) = (leaf.held(), leaf.writes(), world.writes());
    leaf.restart_empty();
    let started = Instant::now();
    tokio::time::timeout(PATIENCE, leaf.holds(1))
        .await
        .context("the controller does not come back")?;
    let found = started.elapsed();
    tokio::time::timeout(PATIENCE, leaf.holds(held))
        .await
        .context("the leaf does not get its entities")?;
    let took = started.elapsed() - found;
    world.in_sync().await?;
    let (own, all) = (leaf.writes() - own, world.writes() - all);
    let what = "a leaf returns empty";
    report.add(what, "entities that it had", held as f64, "", Goal::None);
    // The group in which it remembers a revision is not counted.
    report.add(
        what,
        "written to it beyond these",
        own as f64 - held as f64,
        "",
        Goal::Below(2.0),
    );
    report.add(what, "written to others", (all - own) as f64, "", Goal::Below(1.0));
    report.add(
        what,
        "connected again after",
        found.as_secs_f64() * 1e3,
        "ms",
        Goal::None,
    );
    report.add(
        what,
        "entities",
        held as f64 / took.as_secs_f64().max(1e-6),
        "1/s",
        Goal::None,
    );
    Ok(())
}

/// All links of a spine go down, as their leaves report. The groups of all leaves must then leave it out.
///
/// # Errors
/// A group stays as it was.
pub(super) async fn spine(world: &World, report: &mut Report) -> Result<()> {
    world.in_sync().await?;
    let leaves = world.topology.switches.iter().filter(|s| s.role == Role::Leaf).count();
    let leaves = world.switches.get(..leaves).unwrap_or_default();
    // The first uplink of each leads to the first spine.
    let port = 1;
    let mut took = times()?;
    let processor = world.processor_ms()?;
    for _ in 0..LOSSES {
        for (up, is_measured) in [(false, true), (true, false)] {
            let started = Instant::now();
            leaves.iter().for_each(|leaf| leaf.set_port(port, up));
            let repaired = leaves
                .iter()
                .map(|leaf| tokio::time::timeout(PATIENCE, leaf.uses(port, up)));
            try_join_all(repaired).await.context("the groups of a leaf")?;
            if is_measured {
                record(&mut took, started.elapsed())?;
            }
            world.in_sync().await?;
        }
    }
    let processor = (world.processor_ms()? - processor) / (2 * LOSSES) as f64;
    let what = format!("a spine is lost, {} leaves", leaves.len());
    let text = "from the first report to the last group, slowest";
    report.add(&what, text, percentile_ms(&took, 100.0), "ms", Goal::Below(100.0));
    report.add(&what, "median", percentile_ms(&took, 50.0), "ms", Goal::None);
    report.add(
        &what,
        "processor of the controller, with looking at its state",
        processor,
        "ms",
        Goal::None,
    );
    // Late reports change nothing.
    join_all(leaves.iter().map(|leaf| leaf.uses(port, true))).await;
    Ok(())
}
