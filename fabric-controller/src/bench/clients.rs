//! Measures how many changes a second clients get stored on a real disk, by number of clients; and how long readers
//! take at the same time.
//!
//! Each client creates an attachment and deletes it, over and over, in a network of its own, and waits for each
//! acknowledgement. A single client waits for the disk once for each change; with many clients, the writer commits
//! their changes in groups. The levels take turns, so that all see the same machine. Devices are in memory and confirm
//! at once.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;
use tokio_util::sync::{CancellationToken, DropGuard};
use vfabric_api::intent::VdcSpec;
use vfabric_api::service::{Change, FabricService as _, Key, Kind, Spec};

use super::{Measured, attachment, network, topology, transaction, vdc};
use crate::controller::Controller;
use crate::device::actor;
use crate::device::driver::DeviceIndex;
use crate::driver::fake::FakeDevice;
use crate::render::FabricRender;
use crate::store::RedbStore;

/// Numbers of clients that are compared, with how often each makes and deletes its attachment in one turn.
const LEVELS: [(usize, usize); 3] = [(1, 100), (16, 30), (64, 15)];
/// Turns of each level. The first warms up and is not counted.
const ROUNDS: usize = 6;
/// Pause between two reads of the reader that runs at the same time.
const READ_EVERY: Duration = Duration::from_millis(1);

/// Figures of one number of clients.
#[derive(Debug, Default, Serialize)]
pub(super) struct Figures {
    clients: usize,
    changes: usize,
    changes_per_s: f64,
    /// From the request to its acknowledgement.
    committed_p50_us: f64,
    committed_p99_us: f64,
    /// Time to read one object with its status while the clients write.
    read_p50_us: f64,
    read_p99_us: f64,
    /// Ratio of `changes_per_s` to that of one client.
    ratio: f64,
}

#[derive(Debug)]
struct Samples {
    committed: Measured,
    read: Measured,
    took: Duration,
}

/// What one turn of a level took.
#[derive(Debug, Default)]
struct Turn {
    committed: Vec<Duration>,
    read: Vec<Duration>,
    took: Duration,
}

type Stored = Arc<Controller<RedbStore>>;

/// Runs it over a store in `dir`, prints the figures and returns them.
///
/// # Errors
/// When a change is refused, or the store cannot be made.
pub(super) async fn run(dir: &Path) -> Result<Vec<Figures>> {
    let file = dir.join(format!("bench-{}.redb", std::process::id()));
    let removed = Removed(&file);
    let store = RedbStore::open(&file)?;
    let (controller, stop) = start(store).await?;
    let mut samples = LEVELS.iter().map(|_| Samples::new()).collect::<Result<Vec<_>>>()?;
    for round in 0..ROUNDS {
        for ((clients, times), samples) in LEVELS.into_iter().zip(&mut samples) {
            let turn = turn(&controller, clients, times).await?;
            if round > 0 {
                samples.committed.extend(turn.committed);
                samples.read.extend(turn.read);
                samples.took += turn.took;
            }
        }
    }
    drop((stop, removed));
    let mut figures: Vec<Figures> = LEVELS.iter().zip(samples).map(|((n, _), s)| s.figures(*n)).collect();
    let one = figures.first().map_or(f64::NAN, |f| f.changes_per_s);
    println!("clients that write, over a store in {}:", dir.display());
    for f in &mut figures {
        f.ratio = f.changes_per_s / one;
        println!(
            "{:>7} clients: {:.0} changes/s, ratio {:.1}; committed p50 {:.0} us, p99 {:.0} us; reads meanwhile p50 {:.0} us, p99 {:.0} us",
            f.clients, f.changes_per_s, f.ratio, f.committed_p50_us, f.committed_p99_us, f.read_p50_us, f.read_p99_us,
        );
    }
    Ok(figures)
}

/// A file that is deleted when this is dropped.
struct Removed<'a>(&'a Path);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        // A file that is left behind is no reason to fail. The file with its format is deleted, too.
        let _ = std::fs::remove_file(self.0);
        let _ = std::fs::remove_file(self.0.with_extension("format"));
    }
}

/// A controller with a network for each client.
async fn start(store: RedbStore) -> Result<(Stored, DropGuard)> {
    let controller = Controller::load(topology()?, store, Arc::new(FabricRender)).await?;
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
    let (keeping, stopped) = (Arc::clone(&controller), stop.clone());
    tokio::spawn(async move { stopped.run_until_cancelled(keeping.housekeeping()).await });
    let spec = Spec::Vdc(VdcSpec::new(vdc()?));
    let mut changes = vec![Change::Create(vdc()?, spec)];
    let most = LEVELS.iter().map(|(clients, _)| *clients).max().unwrap_or(1);
    for n in 0..most {
        changes.push(network(n)?);
        changes.push(attachment(n, format!("a{n}"), n)?);
    }
    controller.commit(transaction(changes)).await?;
    Ok((controller, stop.drop_guard()))
}

/// One turn of a level.
async fn turn(controller: &Stored, clients: usize, times: usize) -> Result<Turn> {
    let done = Arc::new(AtomicBool::new(false));
    let reader = tokio::spawn(read(Arc::clone(controller), Arc::clone(&done)));
    let start = Instant::now();
    let clients: Vec<_> = (0..clients)
        .map(|n| tokio::spawn(client(Arc::clone(controller), n, times)))
        .collect();
    let mut turn = Turn::default();
    for client in clients {
        turn.committed.extend(client.await.context("a client")??);
    }
    turn.took = start.elapsed();
    done.store(true, Ordering::Relaxed);
    turn.read = reader.await.context("the reader")??;
    Ok(turn)
}

async fn client(controller: Stored, n: usize, times: usize) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    let name = format!("b{n}");
    for _ in 0..times {
        let gone = Change::Delete(Key::new(vdc()?, Kind::Attachment, name.parse()?));
        for change in [attachment(n, name.clone(), n + 3)?, gone] {
            let start = Instant::now();
            controller.commit(transaction(vec![change])).await?;
            took.push(start.elapsed());
        }
    }
    Ok(took)
}

async fn read(controller: Stored, done: Arc<AtomicBool>) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    let key = Key::new(vdc()?, Kind::Attachment, "a0".parse()?);
    while !done.load(Ordering::Relaxed) {
        let start = Instant::now();
        controller.get(&key).await?;
        took.push(start.elapsed());
        tokio::time::sleep(READ_EVERY).await;
    }
    Ok(took)
}

impl Figures {
    /// What they are of.
    pub(super) fn name(&self) -> String {
        match self.clients {
            1 => "1 client".into(),
            n => format!("{n} clients"),
        }
    }
}

impl Samples {
    fn new() -> Result<Self> {
        Ok(Self {
            committed: Measured::new()?,
            read: Measured::new()?,
            took: Duration::ZERO,
        })
    }

    fn figures(self, clients: usize) -> Figures {
        Figures {
            clients,
            changes: self.committed.len(),
            changes_per_s: self.committed.len() as f64 / self.took.as_secs_f64(),
            committed_p50_us: self.committed.percentile(50.0),
            committed_p99_us: self.committed.percentile(99.0),
            read_p50_us: self.read.percentile(50.0),
            read_p99_us: self.read.percentile(99.0),
            ratio: f64::NAN,
        }
    }
}
