//! One task for each device: connects, reads back, repairs, writes, listens.
//!
//! | state | leaves when |
//! | --- | --- |
//! | disconnected | `connect` succeeds (tried again with growing, random delays) |
//! | syncing | read-back compared and every difference written |
//! | in sync, or degraded | the session ends (disconnected); when the sweep is due, it is read back again |
//!
//! The first read-back of a session comes before any write: it shows whether the device is ours. Later ones stop nothing:
//! changes of intent are written while the device is being read ([`super::ledger`] says how the two are kept apart).
//!
//! A slow or dead device delays nobody: what it should hold is kept in [`Device`], by
//! key, so no queue grows while it is away.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, info, warn};
use vfabric_api::provisioning::BootStep;

use super::absence::Absence;
use super::claim::{Claim, Memory};
use super::driver::{CounterQuery, CounterValue, DeviceIndex, Driver, DriverError, Event, Losses, Part, Warning};
use super::pace::Pace;
use super::reports::Milestone;
use super::shared::Device;
use super::waits::Waits;
use crate::reconcile;

/// How often a device is read back to find what others changed, unless all devices together hold too much ([`Pace`]).
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// A device with many entities is read back less often: the time between two read-backs is at least
/// this many times as long as one takes, so that they use at most a twentieth of the time.
const SWEEP_SHARE: u32 = 20;
/// Entities of a read-back that are compared under one lock. Comparing them takes a fraction of a millisecond, and a
/// change of intent may have to wait that long.
const COMPARED_AT_ONCE: usize = 256;
/// Requests that may wait for an actor; each has a caller that waits for the reply.
const REQUESTS: usize = 64;

/// Events handled between two batches: more than usually arrive in that time, but few enough that a
/// storm of events does not stop the writing.
const EVENTS_BETWEEN_BATCHES: usize = 64;

/// A request to the actor.
#[derive(Debug)]
pub enum Request {
    /// Read counters.
    Counters(
        Vec<CounterQuery>,
        oneshot::Sender<Result<Vec<CounterValue>, DriverError>>,
    ),
    /// Read the other losses.
    Losses(oneshot::Sender<Result<Losses, DriverError>>),
}

/// An event with the device it is about.
pub type DeviceEvent = (DeviceIndex, Event);

/// The handle of an actor.
#[derive(Debug, Clone)]
pub struct ActorHandle {
    requests: mpsc::Sender<Request>,
}

impl ActorHandle {
    /// Sends a request; false if the actor is too busy or gone.
    pub fn ask(&self, request: Request) -> bool {
        self.requests.try_send(request).is_ok()
    }
}

/// Starts the actor of a device; all actors share `claim` and `pace`. Events that are not about the session go to the
/// queue `events`, which the engine drains; if it is full, the actor waits.
pub fn spawn<D: Driver>(
    index: DeviceIndex,
    device: Arc<Device>,
    driver: D,
    events: mpsc::Sender<DeviceEvent>,
    (claim, pace): (Arc<Claim>, Arc<Pace>),
    stop: CancellationToken,
) -> (ActorHandle, tokio::task::JoinHandle<()>) {
    let (requests, inbox) = mpsc::channel(REQUESTS);
    let span = tracing::info_span!("device", name = %device.name);
    let actor = Actor {
        index,
        device,
        driver,
        events,
        inbox,
        claim,
        pace,
        claimed: false,
        reading: Reading::default(),
    };
    let task =
        tokio::spawn(async move { stop.run_until_cancelled_owned(actor.run()).await.unwrap_or(()) }.instrument(span));
    (ActorHandle { requests }, task)
}

struct Actor<D> {
    index: DeviceIndex,
    device: Arc<Device>,
    driver: D,
    events: mpsc::Sender<DeviceEvent>,
    inbox: mpsc::Receiver<Request>,
    claim: Arc<Claim>,
    pace: Arc<Pace>,
    /// Whether the device may be written to in this session.
    claimed: bool,
    /// The last read-back that has begun.
    reading: Reading,
}

/// How far a read-back is.
#[derive(Debug, Default, Clone, Copy)]
struct Reading {
    /// Entities read so far.
    count: usize,
    /// New differences, once everything is read.
    differ: Option<usize>,
}

impl<D: Driver> Actor<D> {
    async fn run(mut self) {
        let mut waits = Waits::new();
        let mut absence: Option<Absence> = None;
        loop {
            let connected = self.connect().await;
            for milestone in self.driver.milestones() {
                self.device.step(milestone);
            }
            let error = match connected {
                Ok(()) => self.session().await,
                Err(error) => error,
            };
            if std::mem::take(&mut self.claimed) {
                waits = Waits::new();
                absence = None;
            }
            absence = Some(Self::away(absence, &error));
            self.device.disconnected(error.to_string());
            self.driver.disconnect().await;
            tokio::time::sleep(waits.next()).await;
        }
    }

    /// Logs that the device is away: the first time, then at growing intervals.
    fn away(absence: Option<Absence>, error: &DriverError) -> Absence {
        let now = std::time::Instant::now();
        let Some(mut absence) = absence else {
            warn!(%error, "session ended");
            return Absence::begin(now);
        };
        if absence.failed(now) {
            let (attempts, seconds) = (absence.attempts(), absence.seconds(now));
            warn!(%error, attempts, seconds, "still away");
        } else {
            debug!(%error, "still away");
        }
        absence
    }

    /// Handles requests even while there is no session.
    async fn connect(&mut self) -> Result<(), DriverError> {
        let connect = self.driver.connect();
        tokio::pin!(connect);
        loop {
            tokio::select! {
                done = &mut connect => return done,
                Some(request) = self.inbox.recv() => {
                    let away = DriverError::Unreachable("not connected".into());
                    // The caller may have gone.
                    match request {
                        Request::Counters(_, answer) => drop(answer.send(Err(away))),
                        Request::Losses(answer) => drop(answer.send(Err(away))),
                    }
                }
            }
        }
    }

    /// Works until the session is over, and returns the reason.
    async fn session(&mut self) -> DriverError {
        self.device.connected();
        info!("connected");
        loop {
            let sweep_after = match self.sync().await {
                Ok(took) => SWEEP_EVERY.max(took * SWEEP_SHARE),
                Err(error) => return error,
            };
            if let Err(error) = self.serve(sweep_after).await {
                return error;
            }
        }
    }

    /// Reads back, compares, repairs. Returns how long the first two took.
    async fn sync(&mut self) -> Result<Duration, DriverError> {
        let begin = Instant::now();
        // At each sweep, because certificates can come close to their end during a session.
        let certificate = self.driver.certificate();
        let ends = certificate.and_then(|c| c.warning("its certificate"));
        self.device.certificate(certificate);
        self.note(Event::Warning(Warning::Certificate, ends)).await?;
        let (count, differ) = self.read().await?;
        let took = begin.elapsed();
        debug!(count, differ, "read back");
        // This is the first read-back of the session.
        if !self.claimed {
            let words = format!("{count} entities, {differ} differ");
            self.device.step(Milestone::now(BootStep::ReadBack, words));
        }
        self.claim().await?;
        self.flush(true).await?;
        Ok(took)
    }

    /// Reads back and compares. Returns the number of entities, and of new differences. A device that may be written to gets
    /// changes of intent meanwhile.
    async fn read(&mut self) -> Result<(usize, usize), DriverError> {
        self.device.begin_read_back();
        self.reading = Reading::default();
        self.driver.begin_read_back().await?;
        loop {
            if let Some(differ) = self.reading.differ {
                return Ok((self.reading.count, differ));
            }
            tokio::select! {
                () = self.device.work(), if self.claimed => self.flush(false).await?,
                event = self.driver.next_event() => self.event(event).await?,
                Some(request) = self.inbox.recv() => self.request(request).await?,
            }
        }
    }

    /// Compares a part of a read-back.
    async fn held(&mut self, part: Part) {
        self.reading.count += part.entities.len();
        let mut entities = part.entities.into_iter();
        while entities.len() > 0 {
            let some = entities.by_ref().take(COMPARED_AT_ONCE);
            self.device.found(some, |wanted, held| self.driver.same(wanted, held));
            tokio::task::yield_now().await;
        }
        self.device.found_failing(part.failing);
        if part.last {
            self.reading.differ = Some(self.device.end_read_back());
        }
    }

    /// Decides whether the device may be written to. This is done once in a session, because the device
    /// remembers it.
    async fn claim(&mut self) -> Result<(), DriverError> {
        if self.claimed {
            return Ok(());
        }
        let (kept_by, census) = (self.driver.kept_by(), self.device.census());
        let memory = Memory {
            kept_by,
            brought_to: self.driver.brought_to(),
            sent: self.device.sent(),
        };
        let settled = self.claim.settle(&self.device.name, memory, census);
        if let Some(store) = settled.map_err(DriverError::Foreign)? {
            info!(
                ?kept_by,
                held = census.held,
                unwanted = census.unwanted,
                "takes the device over"
            );
            self.driver.keep(store).await?;
        }
        self.claimed = true;
        Ok(())
    }

    /// Writes every difference that may be tried now.
    async fn flush(&mut self, mut retry: bool) -> Result<(), DriverError> {
        loop {
            let (revision, differences) = self.device.differences(retry);
            retry = false;
            if differences.is_empty() {
                if let Some(epoch) = self.device.flushed(revision) {
                    self.driver.synced(epoch).await?;
                }
                return Ok(());
            }
            let batches = reconcile::plan(differences, self.driver.limits(), |k| self.driver.rank(k), revision);
            for batch in batches {
                let begin = Instant::now();
                let results = self.driver.apply(&batch).await?;
                let took = begin.elapsed();
                let refused = results.iter().filter(|r| r.is_err()).count();
                if refused > 0 {
                    let first = results.iter().find_map(|r| r.as_ref().err());
                    warn!(
                        refused,
                        writes = batch.writes.len(),
                        first = first.map(tracing::field::display),
                        "refused"
                    );
                }
                self.device.written(&batch.writes, results, took);
                self.between_batches().await?;
            }
        }
    }

    /// Changes that arrive while a batch is written wait only for that batch, and for one part of a read-back.
    async fn between_batches(&mut self) -> Result<(), DriverError> {
        while let Ok(request) = self.inbox.try_recv() {
            self.request(request).await?;
        }
        for _ in 0..EVENTS_BETWEEN_BATCHES {
            let Some(event) = self.driver.next_event().now_or_never() else {
                break;
            };
            let is_part = matches!(event, Event::Held(_));
            self.note(event).await?;
            if is_part {
                break;
            }
        }
        Ok(())
    }

    /// Serves until the sweep is due or the session is over.
    async fn serve(&mut self, sweep_after: Duration) -> Result<(), DriverError> {
        let sweep = self.sweep(sweep_after);
        tokio::pin!(sweep);
        let mut retries = Waits::new();
        loop {
            let retry = self.device.wants_retry();
            let wait = if retry { retries.next() } else { sweep_after };
            tokio::select! {
                () = self.device.work() => self.flush(false).await?,
                () = tokio::time::sleep(wait), if retry => self.flush(true).await?,
                () = &mut sweep => return Ok(()),
                event = self.driver.next_event() => self.event(event).await?,
                Some(request) = self.inbox.recv() => self.request(request).await?,
            }
        }
    }

    /// Returns when the next read-back is due.
    fn sweep(&self, after: Duration) -> impl Future<Output = ()> + use<D> {
        let (device, pace) = (Arc::clone(&self.device), Arc::clone(&self.pace));
        async move {
            tokio::time::sleep(after).await;
            let now = tokio::time::Instant::now();
            let begin = pace.reserve(now.into_std(), device.numbers().desired);
            tokio::time::sleep_until(begin.into()).await;
        }
    }

    async fn event(&mut self, event: Event) -> Result<(), DriverError> {
        let writable = self.claimed && matches!(event, Event::EntityState(..));
        self.note(event).await?;
        if writable { self.flush(false).await } else { Ok(()) }
    }

    async fn note(&mut self, event: Event) -> Result<(), DriverError> {
        match event {
            Event::Disconnected(error) => return Err(error),
            Event::Held(part) => self.held(part).await,
            Event::EntityState(key, result) => self.device.entity_state(&key, result),
            Event::Repaired(what) => {
                warn!(what, "changed by others and repaired");
                self.device.repaired();
            }
            Event::Step(milestone) => self.device.step(milestone),
            Event::Warning(about, what) => {
                if self.device.warn(about, what.clone()) {
                    match what {
                        Some(what) => warn!(what, "warning"),
                        None => info!(?about, "warning has ended"),
                    }
                }
            }
            other => {
                // Fails only when the engine has ended; then this task ends soon, too.
                let _ = self.events.send((self.index, other)).await;
            }
        }
        Ok(())
    }

    async fn request(&mut self, request: Request) -> Result<(), DriverError> {
        match request {
            Request::Counters(queries, answer) => {
                let values = self.driver.read_counters(&queries).await;
                let failed = values.as_ref().err().cloned();
                let _ = answer.send(values);
                failed.map_or(Ok(()), Err)
            }
            Request::Losses(answer) => {
                let losses = self.driver.read_losses().await;
                let failed = losses.as_ref().err().cloned();
                let _ = answer.send(losses);
                failed.map_or(Ok(()), Err)
            }
        }
    }
}
