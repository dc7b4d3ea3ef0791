//! What is known of one device: what it should hold, what it holds, what differs.
//!
//! The engine changes `desired`; the actor learns `applied`; neither waits for the other.
//! A key is *dirty* from the moment the two may differ until the device has confirmed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustc_hash::FxHashMap;
use tokio::sync::Notify;
use vfabric_api::ident::Name;
use vfabric_api::status::{DeviceState, DeviceStatus};

use super::driver::{EntityError, Write, WriteResult};
use super::entity::{Entity, EntityKey};
use crate::reconcile::Difference;

/// Refusals that a status shows; the rest are only counted.
const SHOWN_FAILURES: usize = 8;

/// Something that a device should hold, and how many contributions ask for it.
#[derive(Debug, Clone)]
struct Wanted {
    entity: Arc<Entity>,
    count: u32,
}

/// How an entity stands on its device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Confirmed.
    Applied,
    /// Not confirmed yet.
    Pending,
    /// Refused, for this reason.
    Failed(String),
}

#[derive(Debug)]
struct Inner {
    desired: FxHashMap<EntityKey, Wanted>,
    applied: FxHashMap<EntityKey, Arc<Entity>>,
    /// Keys that may differ, with the oldest revision that is not confirmed for them.
    dirty: FxHashMap<EntityKey, u64>,
    /// How many dirty keys each revision has.
    dirty_revisions: BTreeMap<u64, usize>,
    failed: HashMap<EntityKey, EntityError>,
    state: DeviceState,
    last_error: Option<String>,
    /// Revision of the last change of intent that the device was told of.
    target: u64,
    epoch: u64,
    synced_once: bool,
    writes: u64,
    repairs: u64,
    connects: u64,
}

/// One device; the engine and the actor share it.
#[derive(Debug)]
pub struct Device {
    /// Its name in the topology.
    pub name: Name,
    inner: Mutex<Inner>,
    work: Notify,
    progress: Arc<Notify>,
}

/// Changes of what a device should hold, collected under one lock.
pub struct Edit<'a> {
    inner: MutexGuard<'a, Inner>,
    revision: u64,
    /// Whether anything changed.
    pub changed: bool,
}

impl Device {
    /// A device of which nothing is known. `progress` is told whenever it has confirmed
    /// something.
    pub fn new(name: Name, progress: Arc<Notify>) -> Self {
        let inner = Inner {
            desired: FxHashMap::default(),
            applied: FxHashMap::default(),
            dirty: FxHashMap::default(),
            dirty_revisions: BTreeMap::new(),
            failed: HashMap::new(),
            state: DeviceState::Disconnected,
            last_error: None,
            target: 0,
            epoch: 0,
            synced_once: false,
            writes: 0,
            repairs: 0,
            connects: 0,
        };
        Self {
            name,
            inner: Mutex::new(inner),
            work: Notify::new(),
            progress,
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
        self.work.notify_one();
    }

    /// Ends when there may be something to write.
    pub async fn work(&self) {
        self.work.notified().await;
    }

    /// True once every change up to `revision` is confirmed, by a device that was read back.
    pub fn has_confirmed(&self, revision: u64) -> bool {
        let inner = self.lock();
        inner.synced_once
            && inner
                .dirty_revisions
                .keys()
                .next()
                .is_none_or(|first| *first > revision)
    }

    /// True once it was read back in this life of the controller.
    pub fn was_read_back(&self) -> bool {
        self.lock().synced_once
    }

    /// Why changes up to `revision` are not confirmed, in words; and whether some were refused.
    pub fn reason(&self, revision: u64) -> Option<(bool, String)> {
        let inner = self.lock();
        let outstanding = inner.dirty.iter().filter(|(_, r)| **r <= revision);
        let refused = outstanding
            .clone()
            .find_map(|(k, _)| inner.failed.get(k).map(|e| format!("{k}: {e}")));
        let count = outstanding.count();
        if count == 0 && inner.synced_once {
            return None;
        }
        Some(match (refused, inner.state) {
            (Some(refusal), _) => (true, refusal),
            (None, DeviceState::Disconnected) => (
                false,
                inner.last_error.clone().unwrap_or_else(|| "not connected yet".into()),
            ),
            (None, _) => (false, format!("{count} entities not confirmed yet")),
        })
    }

    /// How one entity stands.
    pub fn standing(&self, key: &EntityKey) -> Standing {
        let inner = self.lock();
        match (inner.failed.get(key), inner.dirty.contains_key(key)) {
            (Some(e), _) => Standing::Failed(e.to_string()),
            (None, true) => Standing::Pending,
            (None, false) => Standing::Applied,
        }
    }

    /// Everything it should hold, with whether it was seen to.
    pub fn desired(&self) -> Vec<(Arc<Entity>, bool)> {
        let inner = self.lock();
        let all = inner
            .desired
            .iter()
            .map(|(k, w)| (Arc::clone(&w.entity), !inner.dirty.contains_key(k)));
        all.collect()
    }

    /// For the API.
    pub fn status(&self) -> DeviceStatus {
        let inner = self.lock();
        let failed = inner
            .failed
            .iter()
            .take(SHOWN_FAILURES)
            .map(|(k, e)| format!("{k}: {e}"))
            .collect();
        DeviceStatus {
            state: inner.state,
            epoch: inner.epoch,
            desired: inner.desired.len(),
            pending: inner.dirty.len(),
            failed,
            writes: inner.writes,
            repairs: inner.repairs,
            connects: inner.connects,
            last_error: inner.last_error.clone(),
        }
    }

    // What follows is for the actor.

    /// A session began.
    pub(super) fn connected(&self) {
        let mut inner = self.lock();
        inner.connects += 1;
        inner.state = DeviceState::Syncing;
    }

    /// The session ended.
    pub(super) fn disconnected(&self, why: String) {
        let mut inner = self.lock();
        inner.state = DeviceState::Disconnected;
        inner.last_error = Some(why);
        drop(inner);
        self.progress.notify_waiters();
    }

    /// Takes over what a read-back found; all that differs from what should be is dirty.
    /// Returns how many keys differ. Costs what the device holds and should hold.
    pub(super) fn read_back(&self, held: Vec<Entity>) -> usize {
        let mut guard = self.lock();
        let inner = &mut *guard;
        inner.applied = held.into_iter().map(|e| (e.key(), Arc::new(e))).collect();
        let (target, desired, applied) = (inner.target, &inner.desired, &inner.applied);
        let differs = |k: &EntityKey| desired.get(k).map(|w| &w.entity) != applied.get(k);
        let strays = applied.keys().filter(|k| !desired.contains_key(*k));
        let differ: Vec<EntityKey> = desired.keys().chain(strays).filter(|k| differs(k)).cloned().collect();
        let was: FxHashMap<EntityKey, u64> = std::mem::take(&mut inner.dirty);
        inner.dirty_revisions.clear();
        // What cannot be helped is not tried again before it changes, or a new session.
        inner.failed.clear();
        let fresh = differ.iter().filter(|k| !was.contains_key(*k)).count();
        if inner.synced_once {
            inner.repairs += fresh as u64;
        }
        for key in differ {
            let revision = was.get(&key).copied().unwrap_or(target);
            inner.mark(key, revision);
        }
        inner.synced_once = true;
        fresh
    }

    /// What differs and may be tried now; with `retry`, also what was refused.
    pub(super) fn differences(&self, retry: bool) -> (u64, Vec<Difference>) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let mut settled = Vec::new();
        let mut differences = Vec::new();
        for key in inner.dirty.keys() {
            let refused = inner.failed.get(key);
            if refused.is_some_and(|e| e.device_retries || !(retry && e.retryable)) {
                continue;
            }
            let desired = inner.desired.get(key).map(|w| Arc::clone(&w.entity));
            let applied = inner.applied.get(key).map(Arc::clone);
            if desired == applied {
                settled.push(key.clone());
            } else {
                differences.push(Difference { desired, applied });
            }
        }
        for key in settled {
            inner.clear(&key);
        }
        (inner.target, differences)
    }

    /// Takes over what a device said of a batch.
    pub(super) fn written(&self, writes: &[Write], results: Vec<WriteResult>) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        for (write, result) in writes.iter().zip(results) {
            let key = write.entity().key();
            match result {
                Ok(()) => {
                    inner.writes += 1;
                    match write {
                        Write::Delete(_) => inner.applied.remove(&key),
                        Write::Insert(e) | Write::Modify(e) => inner.applied.insert(key.clone(), Arc::clone(e)),
                    };
                    inner.failed.remove(&key);
                    inner.settle(&key);
                }
                Err(error) => {
                    inner.last_error = Some(format!("{key}: {error}"));
                    inner.failed.insert(key, error);
                }
            }
        }
        drop(guard);
        self.progress.notify_waiters();
    }

    /// Takes over what the device said of an entity by itself.
    pub(super) fn entity_state(&self, key: &EntityKey, result: WriteResult) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        match result {
            Ok(()) => {
                if let Some(wanted) = inner.desired.get(key) {
                    inner.applied.insert(key.clone(), Arc::clone(&wanted.entity));
                }
                inner.failed.remove(key);
                inner.settle(key);
            }
            Err(error) => {
                inner.last_error = Some(format!("{key}: {error}"));
                inner.applied.remove(key);
                let target = inner.target;
                inner.mark(key.clone(), target);
                inner.failed.insert(key.clone(), error);
            }
        }
        drop(guard);
        self.progress.notify_waiters();
    }

    /// Nothing more can be written now: the device is in sync, or refuses something.
    /// Answers the revision it has fully applied, if it has.
    pub(super) fn flushed(&self, target: u64) -> Option<u64> {
        let mut inner = self.lock();
        let complete = inner.dirty_revisions.keys().next().is_none_or(|first| *first > target);
        if complete {
            inner.epoch = inner.epoch.max(target);
        }
        inner.state = if inner.failed.is_empty() {
            DeviceState::InSync
        } else {
            DeviceState::Degraded
        };
        let epoch = complete.then_some(inner.epoch);
        drop(inner);
        self.progress.notify_waiters();
        epoch
    }

    /// Whether some refused write may succeed when tried again.
    pub(super) fn wants_retry(&self) -> bool {
        self.lock().failed.values().any(|e| e.retryable && !e.device_retries)
    }
}

impl Inner {
    /// The oldest revision that is not confirmed stays: until then nobody who waits for it
    /// may be told that it is.
    fn mark(&mut self, key: EntityKey, revision: u64) {
        let old = self.dirty.get(&key).copied();
        if old.is_some_and(|old| old <= revision) {
            return;
        }
        if let Some(old) = old {
            self.count_down(old);
        }
        self.dirty.insert(key, revision);
        *self.dirty_revisions.entry(revision).or_default() += 1;
    }

    fn clear(&mut self, key: &EntityKey) {
        if let Some(revision) = self.dirty.remove(key) {
            self.count_down(revision);
        }
        self.failed.remove(key);
    }

    fn count_down(&mut self, revision: u64) {
        if let Some(count) = self.dirty_revisions.get_mut(&revision) {
            *count -= 1;
            if *count == 0 {
                self.dirty_revisions.remove(&revision);
            }
        }
    }

    /// A key is clean once the two sides agree.
    fn settle(&mut self, key: &EntityKey) {
        if self.desired.get(key).map(|w| &w.entity) == self.applied.get(key) {
            self.clear(key);
        }
    }
}

impl Edit<'_> {
    /// One more contribution asks for this entity.
    pub fn add(&mut self, entity: Arc<Entity>) {
        let key = entity.key();
        let inner = &mut *self.inner;
        inner.target = inner.target.max(self.revision);
        match inner.desired.get_mut(&key) {
            Some(wanted) => {
                wanted.count += 1;
                if wanted.entity == entity {
                    return;
                }
                wanted.entity = entity;
            }
            None => {
                inner.desired.insert(key.clone(), Wanted { entity, count: 1 });
            }
        }
        self.touch(key);
    }

    /// One contribution less asks for this entity.
    pub fn remove(&mut self, entity: &Entity) {
        let key = entity.key();
        let inner = &mut *self.inner;
        inner.target = inner.target.max(self.revision);
        let Some(wanted) = inner.desired.get_mut(&key) else {
            return;
        };
        wanted.count -= 1;
        if wanted.count == 0 {
            inner.desired.remove(&key);
            self.touch(key);
        }
    }

    fn touch(&mut self, key: EntityKey) {
        self.changed = true;
        self.inner.failed.remove(&key);
        self.inner.mark(key.clone(), self.revision);
        if self.inner.synced_once {
            // Undone before it was written: nothing is left to do.
            self.inner.settle(&key);
        }
    }
}
