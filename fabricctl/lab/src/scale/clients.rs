//! Many clients at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;
use vfabric_api::client::Client;
use vfabric_api::intent::{SubnetSpec, VdcIntent};
use vfabric_api::kind::Spec;
use vfabric_api::service::ApplyOptions;
use vfabric_api::status::{Progress, View};

use super::objects;
use super::report::{Goal, Report, percentile_ms, record, times};
use super::world::World;

/// Numbers of clients that are compared, each with its goal as a multiple of one client.
const LEVELS: [(usize, Option<f64>); 3] = [(1, None), (16, Some(5.0)), (64, Some(10.0))];
/// Rounds of each level; levels take turns, so that all see the same machine.
const TURNS: u64 = 2;
/// Calls of the burst under way.
const IN_FLIGHT: usize = 64;
/// Networks of one vDC of the burst.
const BURST_OF_VDC: usize = 100;
/// Longest wait for devices.
const PATIENCE: Duration = Duration::from_secs(60);
/// Attachments of one request into the crowded network.
const CROWD_PART: usize = 1_000;
/// Hosts that these attachments are on: each host learns of every attachment on the others.
const CROWD_HOSTS: usize = 4;
/// Clients that read while others write, and the time between their reads.
const READERS: usize = 4;
const READ_EVERY: Duration = Duration::from_millis(10);

/// Clients that create and delete attachments, each in the networks of one vDC in turn, and wait for each acknowledgement.
/// An address rests a second after its last use, so one network of 253 addresses would run out.
///
/// # Errors
/// A change is refused.
pub(super) async fn writers(world: &World, report: &mut Report) -> Result<()> {
    let mut levels = Vec::new();
    for _ in LEVELS {
        levels.push((times()?, 0_u64, Duration::ZERO));
    }
    let turn = Duration::from_secs(world.size.seconds) / u32::try_from(TURNS)?;
    for _ in 0..TURNS {
        for ((clients, _), (took, count, time)) in LEVELS.iter().zip(&mut levels) {
            let started = Instant::now();
            let until = started + turn;
            let tasks: Vec<_> = objects::spread(&world.size, world.size.vdcs, *clients)
                .enumerate()
                .map(|(n, at)| {
                    let client = world.client.clone();
                    let (host, networks) = ((n * 13 + 5) % world.size.hosts, world.size.networks_of_vdc());
                    tokio::spawn(async move { write(client, n, (at, networks), host, until).await })
                })
                .collect();
            for task in tasks {
                let times = task.await.context("a client")??;
                *count += times.len();
                took.add(times)?;
            }
            *time += started.elapsed();
        }
    }
    let rate = |(_, count, time): &(Histogram<u64>, u64, Duration)| *count as f64 / time.as_secs_f64();
    let one = levels.first().map(rate).unwrap_or(f64::NAN);
    for ((clients, ratio), level) in LEVELS.iter().zip(&levels) {
        let what = format!("writers: {clients}");
        report.add(&what, "changes", rate(level), "1/s", Goal::None);
        if let Some(ratio) = ratio {
            report.add(&what, "ratio to one", rate(level) / one, "", Goal::AtLeast(*ratio));
        }
        report.add_times(&what, &level.0, Goal::None, Goal::Below(50.0));
    }
    Ok(())
}

async fn write(
    client: Client,
    n: usize,
    (at, networks): (objects::At, usize),
    host: usize,
    until: Instant,
) -> Result<Histogram<u64>> {
    let vdc = objects::vdc(at.vdc)?;
    let name = format!("w{n}");
    let key = objects::attachment_key(&vdc, &name)?;
    let mut took = times()?;
    for network in (0..networks).cycle().skip(at.network) {
        if Instant::now() >= until {
            break;
        }
        let spec = Spec::Attachment(objects::attachment(name.clone(), network, host)?);
        let started = Instant::now();
        client.create(&vdc, &spec, None).await?;
        record(&mut took, started.elapsed())?;
        let started = Instant::now();
        client.delete(&key, None).await?;
        record(&mut took, started.elapsed())?;
    }
    Ok(took)
}

/// Creates networks with one attachment each, by two calls each, and waits until all devices have all of them. Returns how
/// long that took.
///
/// # Errors
/// A change is refused, or a device does not apply it.
pub(super) async fn burst(world: &World) -> Result<Duration> {
    let count = world.size.burst;
    for v in 0..count.div_ceil(BURST_OF_VDC) {
        let name = format!("burst{v}").parse()?;
        world.client.create(&name, &objects::bare(&name), None).await?;
    }
    let next = Arc::new(AtomicUsize::new(0));
    let started = Instant::now();
    let tasks: Vec<_> = (0..IN_FLIGHT)
        .map(|_| {
            let (client, next, hosts) = (world.client.clone(), Arc::clone(&next), world.size.hosts);
            tokio::spawn(async move {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return anyhow::Ok(());
                    }
                    let vdc = format!("burst{}", n / BURST_OF_VDC).parse()?;
                    let network = objects::network(n % BURST_OF_VDC)?;
                    client.create(&vdc, &Spec::Network(network), None).await?;
                    let attachment = objects::attachment(format!("b{n}"), n % BURST_OF_VDC, n % hosts)?;
                    let made = client
                        .create(&vdc, &Spec::Attachment(attachment), Some(PATIENCE))
                        .await?;
                    let View::Attachment(made) = made else { continue };
                    ensure!(made.applied.progress == Progress::Applied, "{:?}", made.applied);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.context("a client")??;
    }
    Ok(started.elapsed())
}

/// Creates attachments without addresses in one network, while other clients read.
///
/// # Errors
/// A change is refused.
pub(super) async fn crowd(world: &World, report: &mut Report) -> Result<()> {
    let vdc: vfabric_api::ident::Name = "crowd".parse()?;
    let mut network = objects::network(0)?;
    network.subnets = vec![SubnetSpec::new("10.0.0.0/16".parse()?)];
    let mut intent = VdcIntent::new(vdc.clone());
    intent.networks = vec![network];
    world
        .client
        .apply(&objects::file(intent), ApplyOptions::default(), None)
        .await?;
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..READERS)
        .map(|n| tokio::spawn(read(world.client.clone(), n, Arc::clone(&done))))
        .collect();
    let count = world.size.crowd;
    // At least three parts, which are compared.
    let part = CROWD_PART.min(count / 3).max(1);
    let mut parts = Vec::new();
    for first in (0..count).step_by(part) {
        let mut intent = VdcIntent::new(vdc.clone());
        let hosts = CROWD_HOSTS.min(world.size.hosts);
        let attachments =
            (first..(first + part).min(count)).map(|n| objects::attachment(format!("c{n}"), 0, n % hosts));
        intent.attachments = attachments.collect::<Result<_>>()?;
        let options = ApplyOptions {
            keep_vdcs: true,
            ..ApplyOptions::default()
        };
        let started = Instant::now();
        world.client.apply(&objects::file(intent), options, None).await?;
        parts.push(started.elapsed().as_secs_f64());
    }
    done.store(true, Ordering::Relaxed);
    let mut reads = times()?;
    for reader in readers {
        reads.add(reader.await.context("a reader")??)?;
    }
    let applied = world.in_sync().await?;
    let what = format!("{count} attachments into one network");
    let third = (parts.len() / 3).max(1);
    let sum = |parts: &[f64]| parts.iter().sum::<f64>();
    let (head, tail) = (
        parts.get(..third).unwrap_or_default(),
        parts.get(parts.len() - third..).unwrap_or_default(),
    );
    report.add(&what, "stored", sum(&parts), "s", Goal::None);
    report.add(&what, "devices behind by", applied.as_secs_f64(), "s", Goal::None);
    // Twice the time for the last third would be quadratic.
    report.add(
        &what,
        "last third to first",
        sum(tail) / sum(head),
        "",
        Goal::Below(1.25),
    );
    report.add(
        &what,
        "p99 of readers",
        percentile_ms(&reads, 99.0),
        "ms",
        Goal::Below(20.0),
    );
    Ok(())
}

async fn read(client: Client, n: usize, done: Arc<AtomicBool>) -> Result<Histogram<u64>> {
    let key = objects::attachment_key(&objects::vdc(n)?, &objects::loaded_name(n, 0))?;
    let mut took = times()?;
    while !done.load(Ordering::Relaxed) {
        let started = Instant::now();
        client.get(&key).await?;
        record(&mut took, started.elapsed())?;
        tokio::time::sleep(READ_EVERY).await;
    }
    Ok(took)
}
