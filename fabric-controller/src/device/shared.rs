//! One device as the engine, its actor and the API share it: the ledger behind a lock.
//!
//! The engine changes what the device should hold; the actor learns what it holds; neither waits for the
//! other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fabric_identity::Validity;
use tokio::sync::Notify;
use vfabric_api::ident::Name;
use vfabric_api::provisioning::BootStep;
use vfabric_api::status::{DeviceState, DeviceStatus};
use vtep_proto::Vni;

use super::claim::Census;
use super::driver::{EntityError, Warning, Write, WriteResult};
use super::handover::Step;
use super::ledger::{Failure, Ledger};
use super::reports::{Milestone, Report, Reports};
use crate::entity::{Entity, EntityKey};
use crate::ident::Source;
use crate::reconcile::Difference;
use crate::timings::Timings;

/// Refusals that a status shows; the rest are only counted.
const SHOWN_FAILURES: usize = 8;

/// The state of an entity on its device.
#[derive(Debug, Clone)]
pub enum Standing {
    /// Confirmed.
    Applied,
    /// Not confirmed yet.
    Pending,
    /// Refused.
    Failed(Failure),
}

/// Why a device has not confirmed a revision.
#[derive(Debug, Clone)]
pub enum Lag {
    /// The device refused something, for good or to be tried again.
    Failed(Failure),
    /// Something is still under way; the text says what.
    Pending(String),
}

/// Figures about a device; as in [`DeviceStatus`], counts begin when the controller
/// starts.
#[derive(Debug, Clone, Copy)]
pub struct Numbers {
    /// The controller's relation to it.
    pub state: DeviceState,
    /// Revision of the last change that concerned it.
    pub last_change: u64,
    /// Highest revision that it has fully applied.
    pub epoch: u64,
    /// Entities it should hold.
    pub desired: usize,
    /// Entities not confirmed.
    pub pending: usize,
    /// Entities it refused.
    pub failed: usize,
    /// Entities written.
    pub writes: u64,
    /// Entities found different by a read-back.
    pub repairs: u64,
    /// Rounds of trying again.
    pub retries: u64,
    /// Sessions.
    pub connects: u64,
    /// When its certificate expires, in seconds since 1970; none if it has shown none.
    pub certificate_not_after: Option<i64>,
}

#[derive(Debug)]
struct Inner {
    ledger: Ledger,
    state: DeviceState,
    last_error: Option<String>,
    epoch: u64,
    /// The latest revision of which anything was sent to it.
    sent: u64,
    writes: u64,
    repairs: u64,
    retries: u64,
    connects: u64,
    warnings: BTreeMap<Warning, String>,
    certificate: Option<Validity>,
    /// Whether it is new, or has lost everything that it should hold, and has not confirmed everything since.
    filling: bool,
    /// Since when it has not confirmed everything.
    behind_since: Option<Instant>,
}

/// One device; the engine and the actor share it.
#[derive(Debug)]
pub struct Device {
    /// Its name in the topology.
    pub name: Name,
    inner: Mutex<Inner>,
    work: Notify,
    progress: Arc<Notify>,
    timings: Timings,
    reports: Option<Reports>,
}

/// Changes of what a device should hold, collected under one lock.
pub struct Edit<'a> {
    inner: MutexGuard<'a, Inner>,
    revision: u64,
    /// Whether anything changed.
    pub changed: bool,
}

impl Device {
    /// A device about which nothing is known yet. `progress` is notified each time the device confirms
    /// something.
    pub fn new(name: Name, progress: Arc<Notify>, timings: Timings) -> Self {
        let inner = Inner {
            ledger: Ledger::default(),
            state: DeviceState::Disconnected,
            last_error: None,
            epoch: 0,
            sent: 0,
            writes: 0,
            repairs: 0,
            retries: 0,
            connects: 0,
            warnings: BTreeMap::new(),
            certificate: None,
            filling: false,
            behind_since: None,
        };
        Self {
            name,
            inner: Mutex::new(inner),
            work: Notify::new(),
            progress,
            timings,
            reports: None,
        }
    }

    /// Adds a receiver of the device's events.
    pub fn reporting(self, reports: Reports) -> Self {
        Self {
            reports: Some(reports),
            ..self
        }
    }

    fn report(&self, report: Report) {
        if let Some(reports) = &self.reports {
            reports.report(&self.name, report);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every update under the lock is complete before anything in it can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins to change what it should hold, for a revision of the intent.
    pub fn edit(&self, revision: u64) -> Edit<'_> {
        Edit {
            inner: self.lock(),
            revision,
            changed: false,
        }
    }

    /// Wakes the actor after an edit.
    pub fn wake(&self) {
        self.lock().behind_since.get_or_insert_with(Instant::now);
        self.work.notify_one();
    }

    /// Waits until there may be something to write.
    pub async fn work(&self) {
        self.work.notified().await;
    }

    /// True once every change up to `revision` is confirmed, by a device that was read back.
    pub fn has_confirmed(&self, revision: u64) -> bool {
        let inner = self.lock();
        inner.ledger.was_read_back() && inner.ledger.is_clean(revision)
    }

    /// True once it was read back since the controller started.
    pub fn was_read_back(&self) -> bool {
        self.lock().ledger.was_read_back()
    }

    /// True once everything up to `revision` is confirmed or refused, except keys that are held back for its handover.
    /// Also true for a device that is away, so that nothing waits for it.
    pub(super) fn has_made(&self, revision: u64) -> bool {
        let inner = self.lock();
        inner.state == DeviceState::Disconnected || (inner.ledger.was_read_back() && inner.ledger.has_made(revision))
    }

    /// Whether there is no session with it.
    pub(super) fn is_away(&self) -> bool {
        self.state() == DeviceState::Disconnected
    }

    /// Whether it is known to hold an attachment in a network other than this.
    pub fn holds_elsewhere(&self, key: &EntityKey, vni: Vni) -> bool {
        self.lock().ledger.holds_elsewhere(key, vni)
    }

    /// Whether it is known to hold an attachment that does not serve there.
    pub fn holds_silent(&self, key: &EntityKey) -> bool {
        self.lock().ledger.holds_silent(key)
    }

    /// Whether it should serve an attachment.
    pub(super) fn wants_serving(&self, key: &EntityKey) -> bool {
        self.lock().ledger.wants_serving(key)
    }

    /// Allows what was held back for the handover of a revision to be written, as far as this step.
    pub(super) fn open(&self, revision: u64, step: Step) {
        let opened = self.lock().ledger.open(revision, step);
        if opened {
            self.work.notify_one();
        }
    }

    /// Why the changes of `revision` are not all confirmed; none if they are. A permanent refusal comes
    /// before one that is tried again, and that before changes under way. Refusals of
    /// older changes do not count.
    pub fn lag(&self, revision: u64) -> Option<Lag> {
        let inner = self.lock();
        if let Some(failure) = inner.ledger.failure(revision) {
            return Some(Lag::Failed(failure.clone()));
        }
        if inner.ledger.was_read_back() && !inner.ledger.is_under_way(revision) {
            return None;
        }
        Some(Lag::Pending(match (inner.state, inner.ledger.dirty_count()) {
            (DeviceState::Disconnected, _) => inner.last_error.clone().unwrap_or_else(|| "not connected yet".into()),
            (_, 0) => "not read back yet".into(),
            (_, 1) => "1 entity not confirmed yet".into(),
            (_, count) => format!("{count} entities not confirmed yet"),
        }))
    }

    /// The state of one entity.
    pub fn standing(&self, key: &EntityKey) -> Standing {
        let inner = self.lock();
        match (inner.ledger.failure_of(key), inner.ledger.is_dirty(key)) {
            (Some(failure), _) => Standing::Failed(failure.clone()),
            (None, true) => Standing::Pending,
            (None, false) => Standing::Applied,
        }
    }

    /// Everything it should hold, each with whether it is confirmed.
    pub fn desired(&self) -> Vec<(Arc<Entity>, bool)> {
        let inner = self.lock();
        let ledger = &inner.ledger;
        let all = ledger.desired().map(|e| (Arc::clone(e), !ledger.is_dirty(&e.key())));
        all.collect()
    }

    /// Entries that each of these tables should hold, by P4Info id.
    pub fn entries(&self, tables: impl IntoIterator<Item = u32>) -> Vec<usize> {
        let inner = self.lock();
        tables.into_iter().map(|table| inner.ledger.entries(table)).collect()
    }

    /// What it should hold under a key, and how many contributions ask for that.
    pub fn wanted(&self, key: &EntityKey) -> (Option<Arc<Entity>>, usize) {
        let inner = self.lock();
        (
            inner.ledger.wanted(key).map(Arc::clone),
            inner.ledger.askers(key).count(),
        )
    }

    /// The contributions that ask for a key, at most `limit` of them, in no order.
    pub fn asked_by(&self, key: &EntityKey, limit: usize) -> Vec<Source> {
        self.lock().ledger.askers(key).take(limit).collect()
    }

    /// The controller's relation to it.
    pub fn state(&self) -> DeviceState {
        self.lock().state
    }

    /// For monitoring.
    pub fn numbers(&self) -> Numbers {
        let inner = self.lock();
        Numbers {
            state: inner.state,
            last_change: inner.ledger.last_change(),
            epoch: inner.epoch,
            desired: inner.ledger.desired_count(),
            pending: inner.ledger.dirty_count(),
            failed: inner.ledger.failed_count(),
            writes: inner.writes,
            repairs: inner.repairs,
            retries: inner.retries,
            connects: inner.connects,
            certificate_not_after: inner.certificate.map(|c| c.not_after),
        }
    }

    /// For the API.
    pub fn status(&self) -> DeviceStatus {
        let inner = self.lock();
        let failures = inner.ledger.failures().take(SHOWN_FAILURES);
        DeviceStatus {
            state: inner.state,
            epoch: inner.epoch,
            desired: inner.ledger.desired_count(),
            pending: inner.ledger.dirty_count(),
            failed: failures.map(ToString::to_string).collect(),
            writes: inner.writes,
            repairs: inner.repairs,
            retries: inner.retries,
            connects: inner.connects,
            last_error: inner.last_error.clone(),
            warnings: inner.warnings.values().cloned().collect(),
        }
    }

    /// Other hardware takes its place; the actor has been stopped.
    pub fn replaced(&self) {
        let mut inner = self.lock();
        inner.ledger.forget();
        inner.state = DeviceState::Disconnected;
        inner.last_error = None;
        inner.warnings.clear();
        inner.certificate = None;
        inner.sent = 0;
    }

    /// It comes into service, and holds nothing.
    pub fn fill(&self) {
        self.lock().filling = true;
    }

    /// Whether it is new, or came back empty, and has not confirmed everything since.
    pub fn is_filling(&self) -> bool {
        self.lock().filling
    }

    // The methods from here on are for the actor.

    /// It reached a step on its way into service.
    pub(super) fn step(&self, milestone: Milestone) {
        self.report(Report::Step(milestone));
    }

    /// A session began.
    pub(crate) fn connected(&self) {
        let mut inner = self.lock();
        inner.connects += 1;
        inner.state = DeviceState::Syncing;
    }

    /// The session ended.
    pub(crate) fn disconnected(&self, why: String) {
        let mut inner = self.lock();
        let before = std::mem::replace(&mut inner.state, DeviceState::Disconnected);
        inner.last_error = Some(why.clone());
        drop(inner);
        self.report(match before {
            DeviceState::Disconnected => Report::Step(Milestone::now(BootStep::Unreachable, why)),
            _ => Report::Lost(why),
        });
        self.progress.notify_waiters();
    }

    /// A read-back begins; [`Device::found`] takes what it finds.
    pub(crate) fn begin_read_back(&self) {
        self.lock().ledger.begin_read_back();
    }

    /// Records a part of a read-back; `same` decides whether two unequal entities are the same to the device.
    pub(crate) fn found(&self, part: impl Iterator<Item = Entity>, same: impl Fn(&Entity, &Entity) -> bool) {
        let mut inner = self.lock();
        part.for_each(|entity| inner.ledger.found(entity, &same));
    }

    /// Records what a read-back found held but not in place, and why.
    pub(super) fn found_failing(&self, part: Vec<(EntityKey, EntityError)>) {
        if part.is_empty() {
            return;
        }
        let mut inner = self.lock();
        for (key, error) in part {
            let why = format!("{key}: {error}");
            self.report(Report::Refused(key.clone(), why.clone()));
            inner.last_error = Some(why);
            inner.ledger.found_failing(key, error);
        }
    }

    /// A read-back is complete. Returns the number of new differences, including missing entities. From now on every
    /// difference is dirty.
    pub(crate) fn end_read_back(&self) -> usize {
        let mut inner = self.lock();
        let again = inner.ledger.was_read_back();
        let differ = inner.ledger.end_read_back();
        let wanted = inner.ledger.desired_count();
        inner.filling |= again && wanted > 0 && inner.ledger.dirty_count() >= wanted;
        if again {
            inner.repairs += differ as u64;
        }
        differ
    }

    /// Counts of what it holds, once it was read back.
    pub(super) fn census(&self) -> Census {
        self.lock().ledger.census()
    }

    /// The latest revision of which anything was sent to it.
    pub(crate) fn sent(&self) -> u64 {
        self.lock().sent
    }

    /// The differences that may be tried now; with `retry`, also those that were refused. With the
    /// revision that the device reaches when all of them are confirmed.
    pub(crate) fn differences(&self, retry: bool) -> (u64, Vec<Difference>) {
        let mut inner = self.lock();
        if retry && inner.ledger.wants_retry() {
            inner.retries += 1;
        }
        let differences = inner.ledger.take(retry);
        inner.sent = inner.sent.max(inner.ledger.last_change());
        (inner.ledger.last_change(), differences)
    }

    /// Records the results of a batch, and how long it took.
    pub(crate) fn written(&self, writes: &[Write], results: Vec<WriteResult>, took: Duration) {
        self.timings.written(took);
        let mut guard = self.lock();
        let inner = &mut *guard;
        for (write, result) in writes.iter().zip(results) {
            match &result {
                Ok(()) => inner.writes += 1,
                Err(error) => {
                    let why = format!("{}: {error}", write.entity());
                    self.report(Report::Refused(write.entity().key(), why.clone()));
                    inner.last_error = Some(why);
                }
            }
            inner.ledger.written(write, result);
        }
        drop(guard);
        self.progress.notify_waiters();
    }

    /// Something that is not part of the read-back was corrected.
    pub(super) fn repaired(&self) {
        self.lock().repairs += 1;
    }

    /// The validity of the certificate that it showed last.
    pub fn shown_certificate(&self) -> Option<Validity> {
        self.lock().certificate
    }

    /// Records the certificate that it shows.
    pub(super) fn certificate(&self, certificate: Option<Validity>) {
        self.lock().certificate = certificate;
    }

    /// Records a warning, or that there is none any more. Returns whether that is new.
    pub(super) fn warn(&self, about: Warning, what: Option<String>) -> bool {
        let mut inner = self.lock();
        let before = match &what {
            Some(what) => inner.warnings.insert(about, what.clone()),
            None => inner.warnings.remove(&about),
        };
        before != what
    }

    /// Records what the device reported about an entity without being asked.
    pub(super) fn entity_state(&self, key: &EntityKey, result: WriteResult) {
        let mut inner = self.lock();
        if let Err(error) = &result {
            let why = format!("{key}: {error}");
            self.report(Report::Refused(key.clone(), why.clone()));
            inner.last_error = Some(why);
        }
        inner.ledger.entity_state(key, result);
        drop(inner);
        self.progress.notify_waiters();
    }

    /// Nothing more can be written now: the device is in sync, or refuses something.
    /// Returns the revision that it has fully applied, if there is one.
    pub(crate) fn flushed(&self, revision: u64) -> Option<u64> {
        let mut inner = self.lock();
        let complete = inner.ledger.is_clean(revision);
        if complete {
            inner.epoch = inner.epoch.max(revision);
            inner.filling &= inner.ledger.desired_count() == 0 || inner.ledger.dirty_count() > 0;
            // If the intent for the device has changed again meanwhile, the device stays
            // behind.
            if inner.ledger.dirty_count() == 0
                && let Some(since) = inner.behind_since.take()
            {
                self.timings.applied(since.elapsed());
            }
        }
        let failed = inner.ledger.failed_count();
        let state = if failed == 0 {
            DeviceState::InSync
        } else {
            DeviceState::Degraded
        };
        let before = std::mem::replace(&mut inner.state, state);
        if before != state {
            self.report(if failed == 0 {
                Report::InSync
            } else {
                Report::Degraded(failed)
            });
        }
        let epoch = complete.then_some(inner.epoch);
        drop(inner);
        self.progress.notify_waiters();
        epoch
    }

    /// Whether some refused write may succeed when tried again.
    pub(super) fn wants_retry(&self) -> bool {
        self.lock().ledger.wants_retry()
    }
}

impl Edit<'_> {
    /// A contribution asks for this entity; it replaces another one that the contribution asked for under its key.
    pub fn add(&mut self, source: Source, entity: Arc<Entity>) {
        self.changed |= self.inner.ledger.add(source, entity, self.revision);
    }

    /// A contribution no longer asks for the entity with this key. True if that changes what the device should hold.
    pub fn remove(&mut self, source: Source, entity: &Entity) -> bool {
        let changed = self.inner.ledger.remove(source, entity, self.revision);
        self.changed |= changed;
        changed
    }

    /// Holds a key back that this edit changed: it is not written before this step of the revision's handover.
    pub fn hold_back(&mut self, key: EntityKey, step: Step) {
        self.inner.ledger.hold_back(key, self.revision, step);
    }
}
