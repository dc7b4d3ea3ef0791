//! The single writer: it carries out proposals in order, in groups.
//!
//! **How a proposal is handled.** It waits in a bounded queue. The writer takes all waiting proposals as one group, checks
//! them one by one on its model, each seeing those before it, and renders what each touches. The group is committed in
//! one durable transaction of the store, with one revision for each proposal; meanwhile the next group is checked
//! ([`super::round`]). Then the proposals are published and acknowledged one by one.
//!
//! **Invariants.** Nobody sees any part of a group before it is durable. If it cannot be stored, all of it is
//! undone together with everything checked after it, and every proposal whose result could depend on it gets
//! `unavailable`. A dry run begins a round, so that its plan is based on the published state; it is undone before the next
//! proposal is checked. A proposal goes on even if its caller hangs up.
//!
//! **Cost.** The contributions that the proposals touch, and one wait for the disk for the whole group.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::warn;
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::Name;
use vfabric_api::intent::Intent;
use vfabric_api::service::{ApplyOptions, Change, Committed, Origin, Rollback, Transaction};

use super::requests::Requests;
use super::rows::rest_key;
use super::{Controller, now};
use crate::device::driver::DeviceIndex;
use crate::engine::Rendered;
use crate::ident::Source;
use crate::model::Model;
use crate::model::number::{Number, StoredNumber};
use crate::store::{Compare, Op, Store, StoreTransaction};

/// Proposals that may wait for the writer: some seconds of work. Later callers wait for a place.
const QUEUE: usize = 1024;
/// Longest wait for a place in the queue. Clients retry, so a longer wait would not help them.
const PATIENCE: Duration = Duration::from_secs(10);
/// As soon as there are this many expired quarantine keys, they are deleted without waiting for a transaction.
const EXPIRED_AT_MOST: usize = 4096;

/// The writer's state; all code that changes the model holds its lock.
pub(super) struct State {
    /// The model; it is ahead of the store while a group is under way.
    pub(super) model: Model,
    /// Revision of the last durable transaction.
    pub(super) revision: u64,
    /// Store keys of numbers that have left quarantine. They are deleted with the next transaction, because that is the
    /// first one that can give these numbers to others. They are also deleted before an object that waited for such a
    /// number is rendered. Otherwise the new owner would have to wait again after a restart.
    pub(super) expired: BTreeSet<Vec<u8>>,
    /// Stored responses to calls that may be repeated.
    pub(super) requests: Requests,
}

/// A requested change.
pub(super) enum What {
    Transaction(Transaction),
    Intent(Intent, ApplyOptions),
    /// A request from a host.
    OfHost(Name, Transaction),
    Rollback(Rollback),
}

impl What {
    /// Whether it changes more than the inventory.
    fn is_of_tenants(&self) -> bool {
        match self {
            Self::Transaction(t) => t.changes.iter().any(|(_, c)| !matches!(c, Change::Inventory(_))),
            Self::Intent(..) | Self::Rollback(_) | Self::OfHost(..) => true,
        }
    }

    /// The author of the change; none for a dry run.
    pub(super) fn origin(&self) -> Option<&Origin> {
        match self {
            Self::Transaction(t) | Self::OfHost(_, t) => (!t.dry_run).then_some(&t.origin),
            Self::Intent(_, options) => (!options.dry_run).then_some(&options.origin),
            Self::Rollback(rollback) => (!rollback.dry_run).then_some(&rollback.origin),
        }
    }

    /// The vDC that it changes (the first, if there are several), and whether a tenant asks; none for a dry run.
    pub(super) fn whose(&self) -> Option<(Option<Name>, bool)> {
        let origin = self.origin()?;
        let vdc = match self {
            Self::Transaction(t) | Self::OfHost(_, t) => t.changes.iter().find_map(|(_, change)| match change {
                Change::Create(vdc, _) | Change::Replace(vdc, _) | Change::Put(vdc, _) => Some(vdc),
                Change::Patch(key, _) | Change::Delete(key) => Some(&key.vdc),
                Change::Inventory(_) => None,
            }),
            Self::Intent(intent, _) => intent.vdcs.first().map(|vdc| &vdc.name),
            Self::Rollback(rollback) => rollback.vdc.as_ref(),
        };
        Some((vdc.cloned(), origin.is_tenant))
    }

    /// Whether it depends on the published state, and so has to begin a round.
    pub(super) fn comes_first(&self) -> bool {
        match self {
            Self::Transaction(transaction) => transaction.dry_run,
            Self::Intent(_, options) => options.dry_run,
            Self::OfHost(..) => false,
            Self::Rollback(_) => true,
        }
    }
}

/// A proposal and where its result goes.
pub(super) struct Proposal {
    pub(super) what: What,
    pub(super) answer: Answer,
}

/// Where a result goes.
pub(super) type Answer = oneshot::Sender<Result<Committed, ApiError>>;

/// The handle of the writer.
pub(super) type Queue = mpsc::Sender<Proposal>;

pub(super) fn unavailable(detail: &str) -> ApiError {
    ApiError::new(ErrorCode::Unavailable, detail)
}

/// The queue of a writer that is not started yet.
pub(super) fn queue() -> (Queue, mpsc::Receiver<Proposal>) {
    mpsc::channel(QUEUE)
}

/// Carries out proposals until the controller is gone.
pub(super) async fn run<S: Store>(controller: Weak<Controller<S>>, mut queue: mpsc::Receiver<Proposal>) {
    let mut put_off = None;
    loop {
        let first = match put_off.take() {
            Some(first) => Some(first),
            None => queue.recv().await,
        };
        let (Some(first), Some(controller)) = (first, controller.upgrade()) else {
            return;
        };
        put_off = controller.round(first, &mut queue).await;
    }
}

impl<S: Store> Controller<S> {
    /// Ends when the writer ends, which only happens if it panicked. Then the model cannot be trusted, and the process
    /// has to restart.
    pub async fn writer_ended(&self) {
        self.queue.closed().await;
    }

    /// Proposes a transaction.
    ///
    /// # Errors
    /// The errors of the check; `Unavailable` if there was no place in the queue, or if it could not be stored.
    pub(super) async fn propose(&self, transaction: Transaction) -> Result<Committed, ApiError> {
        self.send(What::Transaction(transaction)).await
    }

    /// Proposes an intent file, which becomes a transaction when its turn comes.
    ///
    /// # Errors
    /// As [`Controller::propose`].
    pub(super) async fn propose_intent(&self, intent: Intent, options: ApplyOptions) -> Result<Committed, ApiError> {
        self.send(What::Intent(intent, options)).await
    }

    /// Proposes changes that a host asks for: they are refused unless it may ask for them.
    ///
    /// # Errors
    /// As [`Controller::propose`]; `Forbidden` or `Exhausted` if the host may not.
    pub(super) async fn propose_of_host(&self, host: Name, change: Change) -> Result<Committed, ApiError> {
        let origin = Origin {
            author: format!("host {host}"),
            reason: "requested by a host".to_owned(),
            // The prefix and a name fit into an owner's name.
            owner: format!("host:{host}").parse().ok(),
            // The permissions of a host are checked separately.
            force: true,
            ..Origin::default()
        };
        self.send(What::OfHost(host, Transaction::one(change, origin))).await
    }

    /// Proposes to restore the intent of an older revision.
    ///
    /// # Errors
    /// As [`Controller::propose`]; `Gone` if the log does not reach so far back.
    pub(super) async fn propose_rollback(&self, rollback: Rollback) -> Result<Committed, ApiError> {
        self.send(What::Rollback(rollback)).await
    }

    /// Refuses tenants' changes while a device belongs to another store: numbers that are free here may be in use
    /// there.
    fn check_claim(&self, what: &What) -> Result<(), ApiError> {
        match self.claim.foreign() {
            Some(device) if what.is_of_tenants() => Err(unavailable(&format!(
                "device `{device}` is kept by another store; its status says what it holds"
            ))),
            _ => Ok(()),
        }
    }

    pub(super) async fn send(&self, what: What) -> Result<Committed, ApiError> {
        self.check_claim(&what)?;
        let (answer, result) = oneshot::channel();
        match self.queue.send_timeout(Proposal { what, answer }, PATIENCE).await {
            Ok(()) => {}
            Err(mpsc::error::SendTimeoutError::Timeout(_)) => {
                return Err(unavailable("too many changes wait to be carried out"));
            }
            Err(mpsc::error::SendTimeoutError::Closed(_)) => return Err(unavailable("the controller is stopping")),
        }
        let gone = |_| ApiError::new(ErrorCode::Internal, "the change could not be carried out");
        result.await.map_err(gone).flatten()
    }

    /// Frees numbers that devices have confirmed to be gone. Objects that waited for them come with [`Controller::wake`].
    pub(super) fn release_quarantine(&self, state: &mut State) {
        let confirmed = |d: DeviceIndex, revision| self.registry.get(d).is_none_or(|d| d.has_confirmed(revision));
        let free = state.model.release_quarantine(confirmed, now());
        let key = |(number, row): &(Number, Option<u64>)| {
            let number = StoredNumber::of(number, &state.model.fabric)?;
            Some(rest_key(&number, (*row)?))
        };
        let keys: Vec<Vec<u8>> = free.iter().filter_map(key).collect();
        state.expired.extend(keys);
    }

    /// Deletes expired keys if there are many or if somebody waits for that; then renders the objects that waited. If
    /// the store fails, they wait until it works again.
    pub(super) async fn wake(&self, state: &mut State) {
        let wakes = state.model.has_woken();
        if (wakes && !state.expired.is_empty()) || state.expired.len() >= EXPIRED_AT_MOST {
            let expired: Vec<Vec<u8>> = state.expired.iter().cloned().collect();
            let ops = expired.iter().cloned().map(Op::Delete).collect();
            if self
                .commit_ops(state, ops, "cannot delete expired quarantine keys")
                .await
            {
                state.forget(&expired);
            } else {
                self.publish_waits(&mut state.model);
                return;
            }
        }
        while let Some((revision, touched)) = state.model.take_woken() {
            let rendered = self.rendered(&state.model, touched);
            let waits = state.model.take_changed_waits();
            let mut published = self.write_published();
            published.render(rendered, revision);
            published.publish_waits(waits);
        }
        self.publish_waits(&mut state.model);
        if wakes {
            self.progress.notify_waiters();
        }
    }

    /// Stores rows that are not objects, under the next revision. Returns whether they are durable.
    pub(super) async fn commit_ops(&self, state: &mut State, ops: Vec<Op>, what: &str) -> bool {
        let compares = vec![Compare::StoreRevision(state.revision)];
        let stored = self
            .store
            .commit(StoreTransaction {
                compares,
                ops,
                ..StoreTransaction::default()
            })
            .await;
        self.note_store(stored.as_ref().err());
        match stored {
            Ok(revision) => {
                state.revision = revision;
                self.write_published().revision = revision;
                self.revisions.send_replace(revision);
                true
            }
            Err(error) => {
                warn!(%error, "{what}");
                false
            }
        }
    }

    /// Contributions as they are now.
    pub(super) fn rendered(&self, model: &Model, touched: BTreeSet<Source>) -> Rendered {
        Rendered::new(self.render.as_ref(), model, touched)
    }

    pub(super) fn publish_waits(&self, model: &mut Model) {
        let (waits, quarantined) = (model.take_changed_waits(), model.quarantined());
        let mut published = self.write_published();
        published.publish_waits(waits);
        published.quarantined = quarantined;
    }
}

impl State {
    /// These keys are gone from the store.
    pub(super) fn forget<'a>(&mut self, keys: impl IntoIterator<Item = &'a Vec<u8>>) {
        for key in keys {
            self.expired.remove(key);
        }
    }
}

/// A task that carries out proposals; ends with the controller.
pub(super) fn spawn<S: Store>(controller: &Arc<Controller<S>>, queue: mpsc::Receiver<Proposal>) {
    tokio::spawn(run(Arc::downgrade(controller), queue));
}
