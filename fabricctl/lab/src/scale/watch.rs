//! Watchers while much changes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::sync::watch;
use vfabric_api::client::{Client, ClientError, Watch, Watched};
use vfabric_api::error::ErrorCode;
use vfabric_api::ident::Name;
use vfabric_api::kind::Spec;

use super::objects;
use super::report::{Goal, Report, percentile_ms, record, times};
use super::world::{World, own_address};

/// Clients that change things.
const WRITERS: usize = 16;
/// Revisions of the store's log: a watcher that is further behind is cut off.
const LOG: u64 = 10_000;
/// How long watchers may take after the last change.
const AFTER: Duration = Duration::from_secs(5);

/// When each revision was acknowledged.
type Acknowledged = Arc<Mutex<HashMap<u64, Instant>>>;
/// When each revision arrived.
type Seen = Vec<(u64, Instant)>;

/// Measures watchers while clients make changes: many that watch one vDC each, some that watch everything, and one that
/// reads nothing.
///
/// # Errors
/// A watch ends, or a change is refused.
pub(super) async fn run(world: &World, report: &mut Report) -> Result<()> {
    let size = &world.size;
    let (stop, stopped) = watch::channel(false);
    let mut watchers = Vec::new();
    for (n, at) in objects::spread(size, size.vdcs, size.watchers).enumerate() {
        let watch = open(world, n, Some(&objects::vdc(at.vdc)?)).await?;
        watchers.push(tokio::spawn(follow(watch, stopped.clone())));
    }
    for n in 0..size.watchers_of_all {
        let watch = open(world, n, None).await?;
        watchers.push(tokio::spawn(follow(watch, stopped.clone())));
    }
    let mut stalled = world.client_from(Some(own_address(0)))?.watch(None, None).await?;
    let memory = world.memory_mib("VmRSS")?;
    let acknowledged: Acknowledged = Arc::default();
    // More revisions than the log has, so that the watcher that reads nothing is cut off.
    let seconds = size.seconds.max(if size.changes_per_s >= 1_000 {
        LOG / 1_000 + 2
    } else {
        0
    });
    let started = Instant::now();
    let until = started + Duration::from_secs(seconds);
    let every = Duration::from_secs_f64(WRITERS as f64 / size.changes_per_s as f64);
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| {
            let networks: Vec<objects::At> = objects::spread(size, size.vdcs, size.watchers)
                .skip(n)
                .step_by(WRITERS)
                .collect();
            let (client, hosts, acknowledged) = (world.client.clone(), size.hosts, Arc::clone(&acknowledged));
            tokio::spawn(async move { change(client, n, &networks, hosts, (until, every), &acknowledged).await })
        })
        .collect();
    for writer in writers {
        writer.await.context("a writer")??;
    }
    let took = started.elapsed();
    tokio::time::sleep(AFTER).await;
    stop.send_replace(true);
    let grown = world.memory_mib("VmRSS")? - memory;
    let acknowledged = std::mem::take(&mut *acknowledged.lock().unwrap_or_else(PoisonError::into_inner));
    let (mut behind, mut events) = (times()?, 0_usize);
    for watcher in watchers {
        let seen: Seen = watcher.await.context("a watcher")??;
        events += seen.len();
        for (revision, at) in seen {
            // The event may arrive before its client has the answer.
            if let Some(then) = acknowledged.get(&revision) {
                record(&mut behind, at.saturating_duration_since(*then))?;
            }
        }
    }
    let changes = acknowledged.len();
    let expected = changes * (size.watchers_of_all + usize::from(size.watchers > 0));
    ensure!(events >= expected, "of {expected} events only {events} came");
    let what = format!(
        "{} watchers of a vDC, {} of everything",
        size.watchers, size.watchers_of_all
    );
    report.add(
        &what,
        "changes",
        changes as f64 / took.as_secs_f64(),
        "1/s",
        Goal::AtLeast(0.9 * size.changes_per_s as f64),
    );
    report.add(&what, "events", events as f64 / took.as_secs_f64(), "1/s", Goal::None);
    report.add(
        &what,
        "furthest behind",
        percentile_ms(&behind, 100.0),
        "ms",
        Goal::Below(1000.0),
    );
    report.add(&what, "p99 behind", percentile_ms(&behind, 99.0), "ms", Goal::None);
    report.add(&what, "memory grown by", grown, "MiB", Goal::None);
    if changes as u64 > LOG {
        let cut_off = is_cut_off(&mut stalled).await;
        report.add(
            &what,
            "stalled ones cut off",
            f64::from(u8::from(cut_off)),
            "",
            Goal::AtLeast(1.0),
        );
    }
    Ok(())
}

async fn open(world: &World, n: usize, vdc: Option<&Name>) -> Result<Watch> {
    let client = world.client_from(Some(own_address(n)))?;
    client.watch(None, vdc).await.context("a watch")
}

/// Notes when each revision arrives, until `stopped` is true.
async fn follow(mut watch: Watch, mut stopped: watch::Receiver<bool>) -> Result<Seen> {
    let mut seen = Vec::new();
    loop {
        tokio::select! {
            next = watch.next() => match next?.context("a watch has ended")? {
                Watched::Revision(revision) => seen.push((revision.revision, Instant::now())),
                Watched::Bookmark(_) => {}
            },
            _ = stopped.wait_for(|stop| *stop) => return Ok(seen),
        }
    }
}

/// Creates and deletes attachments at a certain rate.
async fn change(
    client: Client,
    n: usize,
    networks: &[objects::At],
    hosts: usize,
    (until, every): (Instant, Duration),
    acknowledged: &Acknowledged,
) -> Result<()> {
    let mut ticks = tokio::time::interval(every);
    // A late change is made up for, so that the average rate is kept.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let note = |revision| {
        let mut acknowledged = acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        acknowledged.insert(revision, Instant::now());
    };
    let name = format!("e{n}");
    for (turn, at) in networks.iter().cycle().enumerate() {
        if Instant::now() >= until {
            break;
        }
        let vdc = objects::vdc(at.vdc)?;
        let spec = Spec::Attachment(objects::attachment(name.clone(), at.network, (n * 13 + turn) % hosts)?);
        ticks.tick().await;
        note(client.create(&vdc, &spec, None).await?.revision());
        ticks.tick().await;
        let key = objects::attachment_key(&vdc, &name)?;
        note(client.delete(&key, None).await?.committed.revision);
    }
    Ok(())
}

/// Whether a watch ends because it is too far behind, once what was sent before has been read.
async fn is_cut_off(watch: &mut Watch) -> bool {
    loop {
        match watch.next().await {
            Ok(Some(_)) => {}
            Ok(None) => return true,
            Err(ClientError::Api(error)) => return error.code == ErrorCode::Gone,
            Err(_) => return false,
        }
    }
}
