//! What one device should hold, what it holds, and the differences. Pure.
//!
//! **Model.** A key is *dirty* from the moment the two sides may differ until the device has
//! confirmed that they do not:
//!
//! | phase of a dirty key | leaves when |
//! | --- | --- |
//! | to do | the actor takes it ([`Ledger::take`]), but not while it is held back ([`super::handover`]) |
//! | writing | the device has replied ([`Ledger::written`]): the key is clean, failed, or to do again if it was changed meanwhile |
//! | failed | the key is changed, tried again, or read back |
//!
//! **Invariants.** A dirty key keeps two revisions: the oldest unconfirmed one, so that
//! no change is reported as applied too early, and the newest, so that no change waits for an
//! older one that was refused. A key that is being written is never clean, because the result of
//! that write is not known yet. A failure is always about the entity that is desired now, never about
//! an earlier one.
//!
//! **Cost.** Each call costs the number of its keys, times a logarithm; queries about revisions
//! and failures do not walk the keys. Each entity found by a read-back costs a look-up; missing entities are searched for
//! only if there are any.
//!
//! **Read-backs** are split into any number of calls ([`Ledger::begin_read_back`], [`Ledger::found`],
//! [`Ledger::end_read_back`]). Changes and writes come in between, and a part may be older than a write that the device has
//! confirmed since. So a read-back says nothing about a key that was written while it ran. At its end, all
//! differences that it found become *to do* together, because only then is it known which entity refers to which.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::{HashMap, HashSet};
use rustc_hash::FxHashMap;
use vtep_proto::{HostEntity, Mode, Vni};

use super::askers::Askers;
use super::claim::Census;
use super::driver::{EntityError, Write, WriteResult};
use super::handover::Step;
use super::rows::{Held, Rows, Wanted};
use crate::entity::{Entity, EntityKey};
use crate::ident::Source;
use crate::reconcile::Difference;
use crate::tables::table_of;

/// Capacity that is kept for dirty keys while there are none. After a burst, capacity above this is released.
const FEW: usize = 64;

/// Phase of a dirty key.
#[derive(Debug)]
enum Phase {
    ToDo,
    Writing,
    Failed(Box<Failure>),
}

#[derive(Debug)]
struct Dirty {
    /// Oldest unconfirmed revision of this key.
    oldest: u64,
    /// The last revision that changed it.
    newest: u64,
    phase: Phase,
}

/// Counts by revision.
#[derive(Debug, Default)]
struct Counts(BTreeMap<u64, usize>);

impl Counts {
    fn up(&mut self, revision: u64) {
        *self.0.entry(revision).or_default() += 1;
    }

    fn down(&mut self, revision: u64) {
        if let Some(count) = self.0.get_mut(&revision) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&revision);
            }
        }
    }

    /// How many there are up to this revision. Walks the revisions, not the keys.
    fn up_to(&self, revision: u64) -> usize {
        self.0.range(..=revision).map(|(_, count)| count).sum()
    }

    /// Whether there is one up to this revision.
    fn any(&self, revision: u64) -> bool {
        self.0.keys().next().is_some_and(|first| *first <= revision)
    }
}

/// Failed keys by the last revision that changed them.
#[derive(Debug, Default)]
struct Failures {
    keys: BTreeMap<u64, HashSet<EntityKey>>,
    count: usize,
}

impl Failures {
    fn insert(&mut self, newest: u64, key: EntityKey) {
        self.count += usize::from(self.keys.entry(newest).or_default().insert(key));
    }

    fn remove(&mut self, newest: u64, key: &EntityKey) {
        if let Some(keys) = self.keys.get_mut(&newest) {
            self.count -= usize::from(keys.remove(key));
            if keys.is_empty() {
                self.keys.remove(&newest);
            }
        }
    }

    fn since(&self, revision: u64) -> impl Iterator<Item = &EntityKey> {
        self.keys.range(revision..).flat_map(|(_, keys)| keys)
    }
}

/// What a device refused.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The entity that should be written or removed.
    pub entity: Arc<Entity>,
    /// The device's message.
    pub error: EntityError,
}

impl Failure {
    /// True if it is not tried again until something changes, or until the next read-back.
    pub fn is_final(&self) -> bool {
        !self.error.retryable && !self.error.device_retries
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.entity, self.error)?;
        match (self.error.device_retries, self.error.retryable) {
            (true, _) => f.write_str(" (the device tries again)"),
            (false, true) => f.write_str(" (is tried again)"),
            (false, false) => Ok(()),
        }
    }
}

/// What a read-back under way has yet to settle.
#[derive(Debug, Default)]
struct Reading {
    /// Keys whose writes the device has confirmed since the read-back began.
    written: HashSet<EntityKey>,
    /// Keys that it found different, and that were clean then.
    differing: Vec<EntityKey>,
    /// Keys that it found held but not in place, and why.
    failing: HashMap<EntityKey, EntityError>,
}

/// The desired and the applied entities of a device, and the differences.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// What it should hold, and what it holds.
    rows: Rows,
    /// How many entries of each table it should hold, by P4Info id.
    entries: FxHashMap<u32, usize>,
    dirty: HashMap<EntityKey, Dirty>,
    /// Dirty keys by their oldest revision.
    dirty_since: Counts,
    /// Dirty keys that have not failed, by their oldest revision.
    open_since: Counts,
    /// Keys in phase `ToDo`.
    to_do: HashSet<EntityKey>,
    /// Dirty keys that are not written before a step of the handover of a revision.
    held_back: HashMap<EntityKey, (u64, Step)>,
    /// Failed for good.
    refused: Failures,
    /// Failed, and the device tries again by itself.
    device_retries: Failures,
    /// Failed, and we try again.
    we_retry: Failures,
    /// Revision of the last change of intent that concerned the device.
    last_change: u64,
    read_back: bool,
    /// Number of the last read-back that has begun.
    round: u32,
    /// Number of keys that this read-back has seen.
    seen: usize,
    /// The read-back under way.
    reading: Option<Reading>,
}

impl Ledger {
    /// A different device takes its place: its entities are unknown. What it should hold stays.
    pub(super) fn forget(&mut self) {
        self.begin_read_back();
        self.end_read_back();
        self.read_back = false;
    }

    /// True once it was read back since the controller started.
    pub(super) fn was_read_back(&self) -> bool {
        self.read_back
    }

    /// Revision of the last change that concerned it.
    pub(super) fn last_change(&self) -> u64 {
        self.last_change
    }

    /// True if no change up to `revision` is outstanding.
    pub(super) fn is_clean(&self, revision: u64) -> bool {
        !self.dirty_since.any(revision)
    }

    /// True if some change up to `revision` is under way.
    pub(super) fn is_under_way(&self, revision: u64) -> bool {
        self.open_since.any(revision)
    }

    /// True if only held-back keys up to `revision` are under way. Costs the number of held-back
    /// keys.
    pub(super) fn has_made(&self, revision: u64) -> bool {
        let is_open = |d: &&Dirty| d.oldest <= revision && !matches!(d.phase, Phase::Failed(_));
        let held_back = self.held_back.keys().filter_map(|key| self.dirty.get(key));
        self.open_since.up_to(revision) <= held_back.filter(is_open).count()
    }

    /// Whether it is known to hold an attachment, in another network than this.
    pub(super) fn holds_elsewhere(&self, key: &EntityKey, vni: Vni) -> bool {
        let held = self.rows.held(key).map(|held| held.entity.as_ref());
        matches!(held, Some(Entity::Host(held @ HostEntity::Attachment(_))) if held.vni() != vni)
    }

    /// Whether it is known to hold an attachment, and that attachment does not serve there.
    pub(super) fn holds_silent(&self, key: &EntityKey) -> bool {
        let held = self.rows.held(key).map(|held| held.entity.as_ref());
        matches!(held, Some(Entity::Host(HostEntity::Attachment(a))) if a.mode != Mode::Serving)
    }

    /// Whether it should hold an attachment, and serve it.
    pub(super) fn wants_serving(&self, key: &EntityKey) -> bool {
        let wanted = self.wanted(key).map(AsRef::as_ref);
        matches!(wanted, Some(Entity::Host(HostEntity::Attachment(a))) if a.mode == Mode::Serving)
    }

    /// Holds a key back: it is not written before this step of the handover of a revision.
    pub(super) fn hold_back(&mut self, key: EntityKey, revision: u64, step: Step) {
        let waits = self
            .dirty
            .get(&key)
            .is_some_and(|d| !matches!(d.phase, Phase::Failed(_)));
        if waits {
            self.held_back.insert(key, (revision, step));
        }
    }

    /// Releases the keys that may be written at this step of the handover of a revision. True if there were any.
    pub(super) fn open(&mut self, revision: u64, step: Step) -> bool {
        let before = self.held_back.len();
        self.held_back
            .retain(|_, (of, until)| *of != revision || !until.is_open_at(step));
        self.held_back.len() < before
    }

    /// Keys it should hold.
    pub(super) fn desired_count(&self) -> usize {
        self.rows.wanted_count()
    }

    /// Entries that a table should hold.
    pub(super) fn entries(&self, table: u32) -> usize {
        self.entries.get(&table).copied().unwrap_or_default()
    }

    /// Keys that are not confirmed.
    pub(super) fn dirty_count(&self) -> usize {
        self.dirty.len()
    }

    /// Keys that it refused, for good or not.
    pub(super) fn failed_count(&self) -> usize {
        self.refused.count + self.device_retries.count + self.we_retry.count
    }

    /// Whether some refused write may succeed when we try it again.
    pub(super) fn wants_retry(&self) -> bool {
        self.we_retry.count > 0
    }

    /// A failed key among those that `revision` changed; permanent failures come first. Costs the number of failed keys
    /// that were changed after it.
    pub(super) fn failure(&self, revision: u64) -> Option<&Failure> {
        let concerned = |key: &&EntityKey| self.dirty.get(*key).is_some_and(|d| d.oldest <= revision);
        let first = |set: &'_ Failures| set.since(revision).find(concerned).cloned();
        let key = first(&self.refused)
            .or_else(|| first(&self.we_retry))
            .or_else(|| first(&self.device_retries))?;
        self.failure_of(&key)
    }

    /// All failures, the permanent ones first.
    pub(super) fn failures(&self) -> impl Iterator<Item = &Failure> {
        let sets = [&self.refused, &self.we_retry, &self.device_retries];
        let keys = sets.into_iter().flat_map(|set| set.since(0));
        keys.filter_map(|key| self.failure_of(key))
    }

    /// Why the device refused a key, if it did.
    pub(super) fn failure_of(&self, key: &EntityKey) -> Option<&Failure> {
        match &self.dirty.get(key)?.phase {
            Phase::Failed(failure) => Some(failure),
            Phase::ToDo | Phase::Writing => None,
        }
    }

    /// Whether a key is not confirmed.
    pub(super) fn is_dirty(&self, key: &EntityKey) -> bool {
        self.dirty.contains_key(key)
    }

    /// Counts of what the device holds. Walks all of it.
    pub(super) fn census(&self) -> Census {
        Census {
            held: self.rows.held_count(),
            unwanted: self.rows.all_held().filter(|(_, is_wanted)| !is_wanted).count(),
            of_switch: self
                .rows
                .all_held()
                .any(|(held, _)| matches!(*held.entity, Entity::Switch(_))),
        }
    }

    /// Everything it should hold.
    pub(super) fn desired(&self) -> impl Iterator<Item = &Arc<Entity>> {
        self.rows.all_wanted()
    }

    /// What it should hold under a key.
    pub(super) fn wanted(&self, key: &EntityKey) -> Option<&Arc<Entity>> {
        self.rows.wanted(key).map(|w| &w.entity)
    }

    /// The contributions that ask for a key.
    pub(super) fn askers(&self, key: &EntityKey) -> impl Iterator<Item = Source> {
        self.rows.wanted(key).into_iter().flat_map(|w| w.askers.iter())
    }

    /// From `revision` on, a contribution asks for this entity; it replaces another one that the contribution asked for
    /// under this key. True if that changes what the device should hold.
    pub(super) fn add(&mut self, source: Source, entity: Arc<Entity>, revision: u64) -> bool {
        let key = entity.key();
        self.last_change = self.last_change.max(revision);
        match self.rows.wanted_mut(&key) {
            Some(wanted) => {
                wanted.askers.insert(source);
                if wanted.entity == entity {
                    return false;
                }
                wanted.entity = entity;
            }
            None => {
                let askers = Askers::One(source);
                if let Some(table) = table_of(&entity) {
                    *self.entries.entry(table).or_default() += 1;
                }
                self.rows.set_wanted(&key, Some(Wanted { entity, askers }));
            }
        }
        self.changed(key, revision);
        true
    }

    /// A contribution no longer asks for the entity with this key. True if that changes what the device should hold.
    pub(super) fn remove(&mut self, source: Source, entity: &Entity, revision: u64) -> bool {
        let key = entity.key();
        self.last_change = self.last_change.max(revision);
        let Some(wanted) = self.rows.wanted_mut(&key) else {
            return false;
        };
        if !wanted.askers.remove(source) {
            return false;
        }
        self.rows.set_wanted(&key, None);
        if let Some(count) = table_of(entity).and_then(|table| self.entries.get_mut(&table)) {
            *count -= 1;
        }
        self.changed(key, revision);
        true
    }

    fn changed(&mut self, key: EntityKey, revision: u64) {
        self.held_back.remove(&key);
        let writing = self.dirty.get(&key).is_some_and(|d| matches!(d.phase, Phase::Writing));
        if self.read_back && !writing && self.rows.agree(&key) {
            // The change was undone before it was written: nothing is left to do.
            self.clear(&key);
            return;
        }
        if !writing {
            self.set_phase(key.clone(), Phase::ToDo);
        }
        self.mark(key, revision);
    }

    /// The keys that must be written and may be tried now; with `retry`, also failed keys that may
    /// succeed. From now on these keys are being written.
    pub(super) fn take(&mut self, retry: bool) -> Vec<Difference> {
        let is_open = |key: &EntityKey| !self.held_back.contains_key(key);
        let mut keys: Vec<EntityKey> = self.to_do.extract_if(is_open).collect();
        if retry {
            keys.extend(self.we_retry.since(0).cloned());
        }
        let mut differences = Vec::with_capacity(keys.len());
        for key in keys {
            if self.rows.agree(&key) {
                self.clear(&key);
                continue;
            }
            differences.push(Difference {
                desired: self.rows.wanted(&key).map(|w| Arc::clone(&w.entity)),
                applied: self.rows.held(&key).map(|h| Arc::clone(&h.entity)),
            });
            self.set_phase(key, Phase::Writing);
        }
        differences
    }

    /// Records the result of one write.
    pub(super) fn written(&mut self, write: &Write, result: WriteResult) {
        let key = write.entity().key();
        let wanted = self.rows.wanted(&key).map(|w| &w.entity);
        let meant = match write {
            Write::Insert(e) | Write::Modify(e) => wanted == Some(e),
            Write::Delete(_) => wanted.is_none(),
        };
        if let (Ok(()), Some(reading)) = (&result, &mut self.reading) {
            reading.written.insert(key.clone());
        }
        match (result, write) {
            (Ok(()), Write::Delete(_)) => {
                self.lacks(&key);
            }
            (Ok(()), Write::Insert(e) | Write::Modify(e)) => self.holds(&key, Arc::clone(e)),
            (Err(error), _) if meant => {
                let entity = Arc::clone(write.entity());
                self.fail(key, Failure { entity, error });
                return;
            }
            // The desired entity has changed meanwhile: the new one will be tried.
            (Err(_), _) => {}
        }
        self.settle(key);
    }

    /// Records what the device reported about an entity without being asked.
    pub(super) fn entity_state(&mut self, key: &EntityKey, result: WriteResult) {
        let wanted = self.rows.wanted(key).map(|w| Arc::clone(&w.entity));
        if let Some(reading) = &mut self.reading {
            // The report is later than the part of the read-back that has the entity.
            reading.failing.remove(key);
        }
        match (result, wanted) {
            // The result of our write will show whether the report came before or after it.
            (Ok(()), _) if self.dirty.get(key).is_some_and(|d| matches!(d.phase, Phase::Writing)) => {}
            // The report is about what the device holds, not about what it has not received yet.
            (result, _) if self.held_back.contains_key(key) => {
                if result.is_err() && self.rows.wanted(key).is_some() {
                    self.lacks(key);
                }
            }
            (Ok(()), Some(entity)) => {
                self.holds(key, entity);
                self.settle(key.clone());
            }
            (Ok(()), None) => {}
            (Err(error), Some(entity)) => {
                self.lacks(key);
                self.mark(key.clone(), self.last_change);
                self.fail(key.clone(), Failure { entity, error });
            }
            // An entity that is not in place may exist in part, and the device tries again. It is gone only when the
            // device has confirmed that.
            (Err(_), None) => {}
        }
    }

    /// A read-back begins. No reply of an earlier write is still to come, so each key that was being written must be done
    /// again, unless the read-back finds it right.
    pub(super) fn begin_read_back(&mut self) {
        self.round += 1;
        self.seen = 0;
        self.reading = Some(Reading::default());
        self.put_back(|phase| matches!(phase, Phase::Writing));
    }

    /// Makes keys in this phase *to do* again.
    fn put_back(&mut self, is_such: impl Fn(&Phase) -> bool) {
        let such = self.dirty.iter().filter(|(_, d)| is_such(&d.phase));
        let keys: Vec<EntityKey> = such.map(|(key, _)| key.clone()).collect();
        for key in keys {
            self.set_phase(key, Phase::ToDo);
        }
    }

    /// Whether a key was written after the current read-back began. Then the read-back's result for it may be out of
    /// date.
    fn was_written(&self, key: &EntityKey) -> bool {
        self.reading
            .as_ref()
            .is_some_and(|reading| reading.written.contains(key))
    }

    /// The device holds this entity. `same` decides whether two unequal entities are the
    /// same to the device.
    pub(super) fn found(&mut self, entity: Entity, same: impl Fn(&Entity, &Entity) -> bool) {
        let key = entity.key();
        if self.was_written(&key) {
            return;
        }
        if let Some(known) = self.rows.held_mut(&key)
            && *known.entity == entity
        {
            self.seen += usize::from(known.round != self.round);
            known.round = self.round;
        } else {
            let wanted = self.rows.wanted(&key).map(|w| &w.entity);
            let wanted = wanted.filter(|w| ***w == entity || same(w, &entity)).map(Arc::clone);
            // A correct entity shares its memory with the desired one, so the next comparison is quick.
            self.holds(&key, wanted.unwrap_or_else(|| Arc::new(entity)));
        }
        match (self.rows.agree(&key), self.dirty.get(&key).map(|d| &d.phase)) {
            // The result of the write will show.
            (true, Some(Phase::Writing)) => {}
            (true, Some(_)) => self.clear(&key),
            (false, None) => {
                if let Some(reading) = &mut self.reading {
                    reading.differing.push(key);
                }
            }
            _ => {}
        }
    }

    /// The device holds an entity that was found, but it is not in place, for this reason.
    pub(super) fn found_failing(&mut self, key: EntityKey, error: EntityError) {
        if let Some(reading) = &mut self.reading {
            reading.failing.insert(key, error);
        }
    }

    /// The device holds nothing else. Returns how many keys are new differences, including missing ones. From now on every
    /// difference is dirty, and what has failed is to do again.
    pub(super) fn end_read_back(&mut self) -> usize {
        let reading = self.reading.take().unwrap_or_default();
        let mut fresh = 0;
        for key in reading.differing {
            fresh += usize::from(self.compare(key));
        }
        if self.seen < self.rows.held_count() {
            let missing = self.rows.all_held().filter(|(held, _)| held.round != self.round);
            let missing: Vec<EntityKey> = missing.map(|(held, _)| held.entity.key()).collect();
            for key in missing {
                self.lacks(&key);
                fresh += usize::from(self.compare(key));
            }
        }
        self.put_back(|phase| matches!(phase, Phase::Failed(_)));
        for (key, error) in reading.failing {
            if !reading.written.contains(&key) {
                self.entity_state(&key, Err(error));
            }
        }
        self.read_back = true;
        fresh
    }

    /// Updates the state of a key after the read-back; true if it became dirty.
    fn compare(&mut self, key: EntityKey) -> bool {
        let phase = self.dirty.get(&key).map(|d| &d.phase);
        match (self.rows.agree(&key), phase) {
            (true, Some(Phase::ToDo | Phase::Failed(_))) => self.clear(&key),
            (false, None) => {
                self.mark(key, self.last_change);
                return true;
            }
            _ => {}
        }
        false
    }

    /// The device now holds this.
    fn holds(&mut self, key: &EntityKey, entity: Arc<Entity>) {
        let round = self.round;
        let before = self.rows.set_held(key, Some(Held { entity, round }));
        self.seen += usize::from(before.is_none_or(|b| b.round != round));
    }

    /// The device now holds nothing under this key; true if it held something before.
    fn lacks(&mut self, key: &EntityKey) -> bool {
        let before = self.rows.set_held(key, None);
        self.seen -= usize::from(before.as_ref().is_some_and(|b| b.round == self.round));
        before.is_some()
    }

    /// Makes a key dirty since a revision; if it was clean, it becomes *to do*.
    fn mark(&mut self, key: EntityKey, revision: u64) {
        match self.dirty.get_mut(&key) {
            None => {
                self.dirty_since.up(revision);
                self.open_since.up(revision);
                self.to_do.insert(key.clone());
                let (oldest, newest) = (revision, revision);
                let phase = Phase::ToDo;
                self.dirty.insert(key, Dirty { oldest, newest, phase });
            }
            Some(Dirty {
                newest,
                phase: Phase::ToDo | Phase::Writing,
                ..
            }) => *newest = revision.max(*newest),
            // A failure stays about the same entity; a change makes the key *to do* first.
            Some(_) => {}
        }
    }

    /// Makes a key clean if the two sides agree, otherwise *to do*.
    fn settle(&mut self, key: EntityKey) {
        if self.rows.agree(&key) {
            self.clear(&key);
        } else {
            self.set_phase(key.clone(), Phase::ToDo);
            self.mark(key, self.last_change);
        }
    }

    fn fail(&mut self, key: EntityKey, failure: Failure) {
        self.mark(key.clone(), self.last_change);
        self.set_phase(key, Phase::Failed(Box::new(failure)));
    }

    fn clear(&mut self, key: &EntityKey) {
        self.held_back.remove(key);
        self.leave_phase(key);
        if let Some(dirty) = self.dirty.remove(key) {
            self.dirty_since.down(dirty.oldest);
            self.open_since.down(dirty.oldest);
        }
        if self.dirty.is_empty() && self.dirty.capacity() > FEW {
            self.dirty.shrink_to(FEW);
            self.to_do.shrink_to(FEW);
        }
    }

    /// Takes a key out of its phase's set; it counts as open until it enters another.
    fn leave_phase(&mut self, key: &EntityKey) {
        let Some(dirty) = self.dirty.get(key) else { return };
        match &dirty.phase {
            Phase::ToDo => {
                self.to_do.remove(key);
            }
            Phase::Writing => {}
            Phase::Failed(failure) => {
                let set = failures_like(
                    &failure.error,
                    &mut self.refused,
                    &mut self.device_retries,
                    &mut self.we_retry,
                );
                set.remove(dirty.newest, key);
                self.open_since.up(dirty.oldest);
            }
        }
    }

    fn set_phase(&mut self, key: EntityKey, phase: Phase) {
        self.leave_phase(&key);
        let Some(dirty) = self.dirty.get_mut(&key) else { return };
        match &phase {
            Phase::ToDo => {
                self.to_do.insert(key);
            }
            Phase::Writing => {}
            Phase::Failed(failure) => {
                let set = failures_like(
                    &failure.error,
                    &mut self.refused,
                    &mut self.device_retries,
                    &mut self.we_retry,
                );
                set.insert(dirty.newest, key);
                self.open_since.down(dirty.oldest);
            }
        }
        dirty.phase = phase;
    }
}

/// The set that a failure of this kind belongs to.
fn failures_like<'a>(
    error: &EntityError,
    refused: &'a mut Failures,
    device: &'a mut Failures,
    ours: &'a mut Failures,
) -> &'a mut Failures {
    match (error.device_retries, error.retryable) {
        (true, _) => device,
        (false, true) => ours,
        (false, false) => refused,
    }
}

#[cfg(test)]
mod tests;
