//! Attachments that migrate: the steps of a migration, and its end.
//!
//! **Model.** The intent says how far a migration is ([`Migration`]); each step is an ordinary transaction. This module
//! proposes the steps that no user asks for (`docs/adr/host-8` has the table of states):
//!
//! | phase | what happens | the controller proposes |
//! | --- | --- | --- |
//! | prepared | the workload announces itself at the target | `active`, once the target and its leaf have applied the attachment |
//! | prepared | its time is over | no migration: it is rolled back |
//! | active | the target and every connected device have confirmed, and [`LATE`] has passed | the target as its place, and no migration |
//! | active | the target has confirmed, and [`PATIENCE`] has passed since | the same |
//! | active | the target refuses to serve, and [`PATIENCE`] has passed | a roll-back |
//!
//! If the target is away after `active`, the controller waits for it. Until the target serves, nothing else changes
//! ([`crate::device::handover`]), and a user may call the migration off.
//!
//! **Invariants.** A proposal names the revision on which it was based, so that another change in between wins. An
//! announcement counts only if it comes from the target. Times begin again when the controller starts.
//!
//! **Cost.** The attachments that migrate, each time a device has confirmed something.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::Notify;
use tracing::{info, warn};
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::event::EventReason;
use vfabric_api::ident::Name;
use vfabric_api::kind::{AttachmentSpec, Key, Kind, Migration, MigrationPhase, Place, Spec};
use vfabric_api::service::{Change, Origin, Transaction};
use vfabric_api::status::{DeviceState, Progress};

use super::Controller;
use super::below::not_applied;
use super::published::Published;
use crate::device::driver::DeviceIndex;
use crate::device::handover::Handover;
use crate::events::News;
use crate::ident::Owner;
use crate::model::Model;
use crate::model::change::Applied;
use crate::store::Store;

/// How long the source forwards late frames once all devices know the target: longer than any queue holds a frame.
const LATE: Duration = Duration::from_secs(1);
/// How long the source forwards at most while a connected device is behind, once the target serves. Also how long a
/// target may refuse to serve.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is known of migrations besides the intent.
#[derive(Default)]
pub(super) struct Migrations {
    tended: Mutex<Tended>,
    woken: Notify,
}

impl Migrations {
    /// Ends when a workload has announced itself.
    pub(super) async fn woken(&self) {
        self.woken.notified().await;
    }

    fn locked(&self) -> MutexGuard<'_, Tended> {
        // Every update under the lock is complete before anything in it can panic.
        self.tended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Tended {
    clocks: BTreeMap<Key, Clock>,
    /// Workloads that have announced themselves, each with the target and how.
    announced: BTreeMap<Key, (Place, String)>,
    /// Why a migration was ended.
    why: BTreeMap<Key, String>,
}

/// The times of a migration. Pure.
#[derive(Debug, Clone)]
struct Clock {
    target: Place,
    phase: MigrationPhase,
    /// Since when it has been in this phase.
    since: Instant,
    /// Since when the target has served.
    served: Option<Instant>,
    /// Since when the target and all connected devices have confirmed.
    confirmed: Option<Instant>,
}

/// The state of a migration, as devices and the intent say.
#[derive(Debug, Clone, Copy)]
struct Seen {
    phase: MigrationPhase,
    timeout: Duration,
    /// Whether the workload has announced itself at the target.
    announced: bool,
    /// Whether the target has applied the attachment.
    served: bool,
    /// Whether all connected devices have applied the attachment.
    confirmed: bool,
    /// Whether the target refuses it.
    refused: bool,
}

/// What a migration needs now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Activate,
    RollBack(&'static str),
    Finish,
}

impl Clock {
    fn look(&mut self, seen: Seen, now: Instant) -> Option<Due> {
        if self.phase != seen.phase {
            (self.phase, self.since) = (seen.phase, now);
            (self.served, self.confirmed) = (None, None);
        }
        let since = |then: Instant| now.saturating_duration_since(then);
        let passed = since(self.since);
        match seen.phase {
            MigrationPhase::Prepared if passed >= seen.timeout => {
                Some(Due::RollBack("the workload did not come to the target in time"))
            }
            MigrationPhase::Prepared => seen.announced.then_some(Due::Activate),
            MigrationPhase::Active => {
                self.served = self.served.or(seen.served.then_some(now));
                let confirmed = self.served.is_some() && seen.confirmed;
                self.confirmed = confirmed.then(|| self.confirmed.unwrap_or(now));
                match (self.served, self.confirmed) {
                    (_, Some(confirmed)) if since(confirmed) >= LATE => Some(Due::Finish),
                    (Some(served), None) if since(served) >= PATIENCE => Some(Due::Finish),
                    (None, _) if passed >= PATIENCE && seen.refused => {
                        Some(Due::RollBack("the target refuses to serve"))
                    }
                    _ => None,
                }
            }
        }
    }
}

/// The migration of a spec, and where it goes.
pub(super) fn under_way(spec: &AttachmentSpec) -> Option<(&Migration, Place)> {
    let migration = spec.migration.as_ref()?;
    Some((migration, migration.target(&spec.place)?))
}

/// After a start: restores the waits for the targets of active migrations.
pub(super) fn resumed(model: &Model, published: &Published, revision: u64) -> Vec<Handover> {
    let active = model.migrating().filter(|(_, spec)| {
        let migration = spec.migration.as_ref();
        migration.is_some_and(|migration| migration.phase == MigrationPhase::Active)
    });
    let owners = active.filter_map(|(key, _)| published.object(&key)?.owner);
    let attachments = owners.filter_map(|owner| match owner {
        Owner::Attachment(attachment) => Some(attachment),
        _ => None,
    });
    let resume = |attachment| published.engine.resume(attachment, revision);
    attachments.filter_map(resume).collect()
}

impl<S: Store> Controller<S> {
    /// A workload has announced itself at a host.
    pub(super) fn announced(&self, device: DeviceIndex, attachment: &str, by: String) {
        let key = attachment
            .split_once('/')
            .and_then(|(vdc, name)| Some(Key::new(vdc.parse().ok()?, Kind::Attachment, name.parse().ok()?)));
        let host = self.registry.get(device).map(|device| device.name.clone());
        let (Some(key), Some(host)) = (key, host) else { return };
        // An announcement counts only for an attachment that migrates to that host, so
        // that no host can fill the memory.
        let target = match self.published().object(&key).map(|object| object.stored.spec()) {
            Some(Spec::Attachment(spec)) => under_way(&spec)
                .filter(|(m, _)| m.host == host)
                .map(|(_, target)| target),
            _ => None,
        };
        let Some(target) = target else {
            info!(%host, %key, "announced an attachment that is not to come there");
            return;
        };
        self.migrations.locked().announced.insert(key, (target, by));
        self.migrations.woken.notify_one();
    }

    /// Refuses to make a migration active while its target is not ready, because frames to the
    /// target would be lost.
    pub(super) fn check_activation(&self, applied: &Applied) -> Result<(), ApiError> {
        for (key, before, after) in applied.updated() {
            let (Spec::Attachment(before), Spec::Attachment(after)) = (before.spec(), after.spec()) else {
                continue;
            };
            let (Some((was, _)), Some((is, _))) = (under_way(&before), under_way(&after)) else {
                continue;
            };
            if was.phase == MigrationPhase::Prepared && is.phase == MigrationPhase::Active {
                self.is_ready(key, &is.host)?;
            }
        }
        Ok(())
    }

    /// Whether the target of a migration and its leaf have applied it.
    fn is_ready(&self, key: &Key, target: &Name) -> Result<(), ApiError> {
        let here: BTreeSet<DeviceIndex> = self.place_devices(target).into_iter().collect();
        let not_yet = |detail: String| {
            let expected = format!("`prepared` until `{target}` and its leaf are ready");
            ApiError {
                detail,
                ..ApiError::field(ErrorCode::InUse, "migration.phase", "active", expected)
            }
        };
        let unread = here
            .iter()
            .filter_map(|d| self.registry.get(*d))
            .find(|d| !d.was_read_back());
        if let Some(unread) = unread {
            return Err(not_yet(format!("`{}` is not connected yet", unread.name)));
        }
        let applied = self.published().applied_on(key, |d| here.contains(&d));
        let applied = applied.ok_or_else(|| ApiError::not_found(key))?;
        if applied.progress == Progress::Applied && applied.devices == here.len() {
            return Ok(());
        }
        Err(not_yet(not_applied(&applied).detail))
    }

    /// Whether an attachment that a host gives up is served by another host: then it stays, and the migration is
    /// over.
    pub(super) async fn has_moved_on(&self, host: &Name, key: &Key) -> Result<bool, ApiError> {
        let found = self
            .published()
            .object(key)
            .map(|object| (object.stored.spec(), object.revision));
        let Some((Spec::Attachment(spec), revision)) = found else {
            return Ok(false);
        };
        let is_here = matches!(&spec.place, Place::Host { host: at, .. } if at == host);
        match under_way(&spec) {
            _ if !is_here => Ok(true),
            Some((migration, target)) if migration.phase == MigrationPhase::Active => {
                self.change_migration(key, revision, finished(&target), "the source gave it up")
                    .await?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Makes migrations go on, and ends those that are over.
    pub(super) async fn tend_migrations(&self) {
        let found: Vec<(Key, AttachmentSpec)> = {
            let state = self.state.lock().await;
            state.model.migrating().map(|(key, spec)| (key, spec.clone())).collect()
        };
        self.note_ended(&found);
        for (key, spec) in found {
            let Some((migration, target)) = under_way(&spec) else {
                continue;
            };
            let Some(revision) = self.published().object(&key).map(|object| object.revision) else {
                continue;
            };
            let due = self.due(&key, migration, &target);
            let (patch, why) = match due {
                None => continue,
                Some(Due::Activate) => (json!({"migration": {"phase": "active"}}), "the workload has arrived"),
                Some(Due::RollBack(why)) => (json!({"migration": null}), why),
                Some(Due::Finish) => (finished(&target), "all devices know the new host"),
            };
            if due != Some(Due::Activate) {
                self.migrations.locked().why.insert(key.clone(), why.to_owned());
            }
            match self.change_migration(&key, revision, patch, why).await {
                Ok(_) => info!(%key, host = %migration.host, ?due, why, "a migration goes on"),
                // Another change came first, or the target is not ready yet: the next round looks
                // again.
                Err(e)
                    if matches!(
                        e.code,
                        ErrorCode::PreconditionFailed | ErrorCode::InUse | ErrorCode::NotFound
                    ) =>
                {
                    info!(%key, ?due, error = %e, "a migration does not go on yet");
                }
                Err(error) => warn!(%key, ?due, %error, "a migration cannot go on"),
            }
        }
    }

    /// What a migration needs now.
    fn due(&self, key: &Key, migration: &Migration, target: &Place) -> Option<Due> {
        let here: BTreeSet<DeviceIndex> = self.place_devices(&migration.host).into_iter().take(1).collect();
        let connected = |d: DeviceIndex| {
            let device = self.registry.get(d);
            device.is_some_and(|d| d.state() != DeviceState::Disconnected)
        };
        let (all, own) = {
            let published = self.published();
            let all = published.applied_on(key, connected);
            (all, published.applied_on(key, |d| here.contains(&d)))
        };
        let now = super::now();
        let mut tended = self.migrations.locked();
        let announced = tended.announced.get(key).is_some_and(|(place, _)| place == target);
        let clock = tended.clocks.entry(key.clone()).or_insert_with(|| Clock {
            target: target.clone(),
            phase: migration.phase,
            since: now,
            served: None,
            confirmed: None,
        });
        if clock.target != *target {
            (clock.target, clock.since) = (target.clone(), now);
        }
        let before = clock.phase;
        let seen = Seen {
            phase: migration.phase,
            timeout: Duration::from_secs(migration.timeout_s.into()),
            announced,
            served: own.as_ref().is_some_and(|a| a.progress == Progress::Applied),
            confirmed: all.is_some_and(|a| a.progress == Progress::Applied),
            refused: own.is_some_and(|a| a.progress == Progress::Failed),
        };
        let due = clock.look(seen, now);
        if (before, migration.phase) == (MigrationPhase::Prepared, MigrationPhase::Active) {
            let by = tended.announced.get(key).map(|(_, by)| format!("after its {by}"));
            let by = by.unwrap_or_else(|| "as asked".to_owned());
            drop(tended);
            let detail = format!("served by host `{}`, {by}", migration.host);
            self.note_migration(key, EventReason::MigrationActive, &migration.host, detail);
        }
        due
    }

    /// Takes note of migrations that are over.
    fn note_ended(&self, found: &[(Key, AttachmentSpec)]) {
        let is_found = |key: &Key| found.iter().any(|(found, _)| found == key);
        let mut tended = self.migrations.locked();
        tended.announced.retain(|key, _| is_found(key));
        let gone: Vec<Key> = tended.clocks.keys().filter(|key| !is_found(key)).cloned().collect();
        let ended: Vec<_> = gone
            .into_iter()
            .filter_map(|key| {
                let (clock, why) = (tended.clocks.remove(&key)?, tended.why.remove(&key));
                Some((key, clock, why))
            })
            .collect();
        drop(tended);
        for (key, clock, why) in ended {
            let Some(Spec::Attachment(now)) = self.published().object(&key).map(|object| object.stored.spec()) else {
                continue;
            };
            let Place::Host { host, .. } = &clock.target else {
                continue;
            };
            let why = why.unwrap_or_else(|| "as asked".to_owned());
            if now.place == clock.target {
                let detail = format!("is on host `{host}`: {why}");
                self.note_migration(&key, EventReason::MigrationFinished, host, detail);
            } else {
                let detail = format!("does not move to host `{host}`: {why}");
                self.note_migration(&key, EventReason::MigrationRolledBack, host, detail);
            }
        }
    }

    fn note_migration(&self, key: &Key, reason: EventReason, host: &Name, detail: String) {
        // The lock is held until the event is noted: if the vDC is deleted meanwhile, its
        // events are deleted with it.
        let published = self.published();
        if published.vdcs.contains_key(&key.vdc) {
            self.events.note(News {
                reason,
                vdc: Some(key.vdc.clone()),
                object: Some(key.to_string()),
                device: Some(host.clone()),
                detail,
            });
        }
    }

    /// Proposes the next step of a migration as it was at a revision.
    pub(super) async fn change_migration(
        &self,
        key: &Key,
        revision: u64,
        patch: serde_json::Value,
        why: &str,
    ) -> Result<u64, ApiError> {
        let origin = Origin {
            reason: format!("migration: {why}"),
            // The migration of an attachment with an owner goes on, too, and the
            // attachment keeps its owner.
            force: true,
            ..Origin::default()
        };
        let transaction = Transaction {
            expect: Some((key.clone(), revision)),
            ..Transaction::one(Change::Patch(key.clone(), patch), origin)
        };
        self.propose(transaction).await.map(|committed| committed.revision)
    }
}

/// The patch that ends a migration at its target.
pub(super) fn finished(target: &Place) -> serde_json::Value {
    json!({"place": target, "migration": null})
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn seen(phase: MigrationPhase) -> Seen {
        Seen {
            phase,
            timeout: TIMEOUT,
            announced: false,
            served: false,
            confirmed: false,
            refused: false,
        }
    }

    fn clock(now: Instant) -> Clock {
        Clock {
            target: Place::Host {
                host: "h2".parse().unwrap(),
                netns: "x".into(),
                interface: "eth0".into(),
            },
            phase: MigrationPhase::Prepared,
            since: now,
            served: None,
            confirmed: None,
        }
    }

    #[test]
    fn a_migration_waits_for_the_workload_and_not_for_ever() {
        let start = Instant::now();
        let mut clock = clock(start);
        let prepared = seen(MigrationPhase::Prepared);
        assert_eq!(clock.look(prepared, start), None);
        let announced = Seen {
            announced: true,
            ..prepared
        };
        assert_eq!(clock.look(announced, start), Some(Due::Activate));
        assert!(matches!(clock.look(prepared, start + TIMEOUT), Some(Due::RollBack(_))));
    }

    #[test]
    fn the_source_forwards_until_everybody_knows_and_a_while_longer() {
        let start = Instant::now();
        let mut clock = clock(start);
        let active = Seen {
            served: true,
            ..seen(MigrationPhase::Active)
        };
        let confirmed = Seen {
            confirmed: true,
            ..active
        };
        let ms = Duration::from_millis;
        assert_eq!(clock.look(active, start), None);
        assert_eq!(clock.look(confirmed, start + ms(10)), None);
        // A device that was away comes back, and does not know of the migration.
        assert_eq!(clock.look(active, start + ms(500)), None);
        assert_eq!(clock.look(confirmed, start + ms(1200)), None);
        assert_eq!(clock.look(confirmed, start + ms(1200) + LATE), Some(Due::Finish));
        assert_eq!(clock.look(active, start + PATIENCE), Some(Due::Finish));
    }

    #[test]
    fn a_target_that_is_away_is_waited_for_and_one_that_refuses_is_not() {
        let start = Instant::now();
        let mut clock = clock(start);
        let away = seen(MigrationPhase::Active);
        // All other connected devices have confirmed, but perhaps not the target.
        let others = Seen {
            confirmed: true,
            ..away
        };
        for seconds in [0, 29, 31, 3600] {
            assert_eq!(
                clock.look(others, start + Duration::from_secs(seconds)),
                None,
                "{seconds} s"
            );
        }
        let refused = Seen { refused: true, ..away };
        let mut refusing = clock.clone();
        assert!(matches!(
            refusing.look(refused, start + PATIENCE),
            Some(Due::RollBack(_))
        ));
        // Once the target serves, the devices that are behind get their time.
        let served = Seen { served: true, ..away };
        let back = start + Duration::from_secs(3700);
        assert_eq!(clock.look(served, back), None);
        assert_eq!(clock.look(served, back + PATIENCE), Some(Due::Finish));
    }

    proptest! {
        /// Whatever is seen: only what was announced becomes active, nothing is finished before it is active, and nothing stays
        /// longer than its time.
        #[test]
        fn nothing_happens_early_and_nothing_stays(
            looks in proptest::collection::vec((0u64..20_000, any::<[bool; 5]>()), 1..40),
        ) {
            let start = Instant::now();
            let (mut now, mut entered, mut clock) = (start, start, clock(start));
            let mut phase = MigrationPhase::Prepared;
            let mut first_served = None;
            for (ms, [announced, served, confirmed, refused, goes_on]) in looks {
                now += Duration::from_millis(ms);
                let due = clock.look(Seen { phase, timeout: TIMEOUT, announced, served, confirmed, refused }, now);
                let passed = now - entered;
                if phase == MigrationPhase::Active && served {
                    first_served.get_or_insert(now);
                }
                match (phase, due) {
                    (MigrationPhase::Prepared, Some(Due::Activate)) => prop_assert!(announced && passed < TIMEOUT),
                    (MigrationPhase::Prepared, Some(Due::RollBack(_))) => prop_assert!(passed >= TIMEOUT),
                    (MigrationPhase::Prepared, None) => prop_assert!(!announced && passed < TIMEOUT),
                    (MigrationPhase::Active, Some(Due::RollBack(_))) => {
                        prop_assert!(refused && first_served.is_none() && passed >= PATIENCE);
                    }
                    (MigrationPhase::Active, Some(Due::Finish)) => {
                        prop_assert!(passed >= LATE && first_served.is_some());
                    }
                    (MigrationPhase::Active, None) => {
                        let behind = first_served.is_some_and(|since| now - since >= PATIENCE);
                        prop_assert!(confirmed || !behind);
                    }
                    (_, due) => prop_assert!(false, "{phase:?}: {due:?}"),
                }
                if due == Some(Due::Activate) && goes_on {
                    (phase, entered) = (MigrationPhase::Active, now);
                    let seen = Seen { phase, timeout: TIMEOUT, announced, served: false, confirmed: false, refused };
                    prop_assert_eq!(clock.look(seen, now), None);
                }
            }
        }
    }
}
