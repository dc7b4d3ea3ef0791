//! The one writer: proposals in order, in groups.
//!
//! **Way of a proposal.** It waits in a bounded queue. The writer takes what is there as one group, checks proposal
//! after proposal on its model, each seeing those before it, and renders what each touches. The group is committed in
//! one durable transaction of the store, with one revision for each proposal; then it is published, proposal by
//! proposal, and answered.
//!
//! **Invariants.** Nobody sees anything of a group before it is durable. If it cannot be made durable, all of it is
//! undone, the last first, and every proposal whose result could depend on it is answered with `unavailable`. A dry run
//! is answered from the checked model and undone before the next proposal is looked at. A caller that goes away stops
//! nothing.
//!
//! **Cost.** What the proposals of the group touch, and one wait for the disk for all of them.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tracing::warn;
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::Name;
use vfabric_api::intent::Intent;
use vfabric_api::service::{ApplyOptions, Change, Committed, Transaction};

use super::intent::transaction_of;
use super::published::{Changed, Publication};
use super::rows::rest_key;
use super::{Controller, below, inventory, now};
use crate::device::driver::DeviceIndex;
use crate::engine::Rendered;
use crate::ident::Source;
use crate::model::Model;
use crate::model::change::Applied;
use crate::model::number::{Number, StoredNumber};
use crate::model::waiting::Waiter;
use crate::store::{Compare, Op, Store, StoreTransaction};

/// Proposals that wait for the writer: some seconds of work; whoever comes later waits for a place.
const QUEUE: usize = 1024;
/// Longest wait for a place in the queue. Clients retry; more waiting would not serve them.
const PATIENCE: Duration = Duration::from_secs(10);
/// Proposals of one group: bounds how long the first of them waits for the others.
const GROUP: usize = 256;
/// Octets of one group's operations, for the same reason. One proposal may be larger.
const GROUP_BYTES: usize = 1 << 20;
/// As soon as there are this many expired quarantine keys, they are deleted without waiting for a transaction.
const EXPIRED_AT_MOST: usize = 4096;

/// What the writer works on; everybody who changes the model holds its lock.
pub(super) struct State {
    /// Ahead of the store while a group is under way.
    pub(super) model: Model,
    /// Of the last durable transaction.
    pub(super) revision: u64,
    /// Store keys of numbers that have left quarantine. They are deleted with the next transaction, which is the first
    /// that can give these numbers to others; and before an object that waited for one of them is rendered. Otherwise a
    /// restart would hold the new owner back.
    pub(super) expired: BTreeSet<Vec<u8>>,
}

/// What somebody asks for.
enum What {
    Transaction(Transaction),
    Intent(Intent, ApplyOptions),
    /// A host asks for it.
    OfHost(Name, Vec<(String, Change)>),
}

/// A proposal and where its result goes.
pub(super) struct Proposal {
    what: What,
    answer: oneshot::Sender<Result<Committed, ApiError>>,
}

/// The way to the writer.
pub(super) type Queue = mpsc::Sender<Proposal>;

/// A proposal that is to be committed.
struct Accepted {
    applied: Applied,
    transaction: StoreTransaction,
    publication: Publication,
    /// What it changes of the inventory.
    inventory: Option<inventory::News>,
    /// Rows of numbers in quarantine that it writes.
    rests: Vec<Vec<u8>>,
    revision: u64,
}

/// Proposals that are committed together.
#[derive(Default)]
struct Group {
    accepted: Vec<Accepted>,
    bytes: usize,
    /// In the order in which they came; true for those that nothing accepted goes before.
    answers: Vec<(Proposed, bool)>,
}

/// A result, and where it goes.
type Proposed = (
    oneshot::Sender<Result<Committed, ApiError>>,
    Result<Committed, ApiError>,
);

fn unavailable(detail: &str) -> ApiError {
    ApiError::new(ErrorCode::Unavailable, detail)
}

/// The queue of a writer to come.
pub(super) fn queue() -> (Queue, mpsc::Receiver<Proposal>) {
    mpsc::channel(QUEUE)
}

/// Carries out proposals until the controller is gone.
pub(super) async fn run<S: Store>(controller: Weak<Controller<S>>, mut queue: mpsc::Receiver<Proposal>) {
    while let Some(first) = queue.recv().await {
        let Some(controller) = controller.upgrade() else { return };
        controller.group(first, &mut queue).await;
    }
}

impl<S: Store> Controller<S> {
    /// Ends when the writer does, which it does only if something in it panicked. What the model says then is worth
    /// nothing: the process has to start again.
    pub async fn writer_ended(&self) {
        self.queue.closed().await;
    }

    /// Proposes a transaction.
    ///
    /// # Errors
    /// What the check refuses; `Unavailable` if there was no place in the queue, or it could not be stored.
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
    /// As [`Controller::propose`]; `Invalid` or `Exhausted` if the host may not.
    pub(super) async fn propose_of_host(
        &self,
        host: Name,
        changes: Vec<(String, Change)>,
    ) -> Result<Committed, ApiError> {
        self.send(What::OfHost(host, changes)).await
    }

    async fn send(&self, what: What) -> Result<Committed, ApiError> {
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

    /// Takes what is there as one group, commits it, publishes it, answers.
    async fn group(&self, first: Proposal, queue: &mut mpsc::Receiver<Proposal>) {
        let mut state = self.state.lock().await;
        let state = &mut *state;
        self.release_quarantine(state);
        let expired: Vec<Vec<u8>> = state.expired.iter().cloned().collect();
        let mut group = Group::default();
        let mut next = Some(first);
        while let Some(proposal) = next {
            self.check(state, &mut group, &expired, proposal);
            let full = group.answers.len() >= GROUP || group.bytes >= GROUP_BYTES;
            next = if full { None } else { queue.try_recv().ok() };
        }
        let committed = group.accepted.is_empty() || self.commit_group(state, &mut group.accepted, &expired).await;
        // Whatever came of the group: what devices confirmed before it changed what objects wait for.
        self.publish_waits(&mut state.model);
        if state.model.has_woken() {
            // Housekeeping renders them.
            self.progress.notify_waiters();
        }
        for ((answer, result), independent) in group.answers {
            let result = if committed || independent {
                result
            } else {
                Err(unavailable("the change could not be stored"))
            };
            // A caller that is gone needs no answer.
            let _ = answer.send(result);
        }
    }

    /// Checks a proposal and carries it out on the model.
    fn check(&self, state: &mut State, group: &mut Group, expired: &[Vec<u8>], proposal: Proposal) {
        let (transaction, permitted) = match proposal.what {
            What::Transaction(transaction) => (transaction, Ok(())),
            What::Intent(intent, options) => (transaction_of(&state.model, intent, options), Ok(())),
            What::OfHost(host, changes) => {
                let permitted = below::permit(&state.model, &host, &changes);
                let dry_run = false;
                (Transaction { changes, dry_run }, permitted)
            }
        };
        let independent = group.accepted.is_empty();
        let before = state.revision + group.accepted.len() as u64;
        let applied = permitted.and_then(|()| state.model.apply(&transaction.changes));
        let result = applied.map(|mut applied| {
            let mut committed = std::mem::take(&mut applied.committed);
            committed.revision = before;
            if applied.is_empty() || transaction.dry_run {
                state.model.undo(applied);
            } else {
                committed.revision += 1;
                let expired = if independent { expired } else { &[] };
                let accepted = self.accept(&mut state.model, applied, expired, before);
                group.bytes += accepted.transaction.bytes();
                group.accepted.push(accepted);
            }
            committed
        });
        // What was refused or undone touches nothing; what was accepted is rendered.
        state.model.take_touched();
        let independent = independent && group.accepted.is_empty();
        group.answers.push(((proposal.answer, result), independent));
    }

    /// Gives a transaction that was carried out its revision, and prepares what is to be stored and published of it.
    fn accept(&self, model: &mut Model, applied: Applied, expired: &[Vec<u8>], before: u64) -> Accepted {
        let revision = before + 1;
        let rests = self.rests(model, &applied);
        let transaction = self.to_store(model, &applied, expired, &rests, before);
        model.settle(&applied, revision);
        let touched = model.take_touched();
        let changed = |(key, object): &(vfabric_api::service::Key, Option<_>)| Changed {
            owner: model.owner(key),
            key: key.clone(),
            object: object.clone(),
        };
        let publication = Publication {
            objects: applied.objects.iter().map(changed).collect(),
            rendered: Rendered::new(self.render.as_ref(), model, touched),
            waits: model.take_changed_waits(),
        };
        Accepted {
            inventory: inventory::News::of(model, &applied),
            applied,
            transaction,
            publication,
            rests: rests.into_iter().map(|(key, _)| key).collect(),
            revision,
        }
    }

    /// Makes a group durable and publishes it, or undoes it. Returns whether it is durable.
    async fn commit_group(&self, state: &mut State, accepted: &mut Vec<Accepted>, expired: &[Vec<u8>]) -> bool {
        let transactions = accepted
            .iter_mut()
            .map(|a| std::mem::take(&mut a.transaction))
            .collect();
        let stored = self.store.commit_group(transactions).await;
        self.note_store(stored.as_ref().err());
        if let Err(error) = stored {
            warn!(%error, changes = accepted.len(), "the store refused a group of changes");
            let mut waiters: Vec<Waiter> = Vec::new();
            for undone in accepted.drain(..).rev() {
                waiters.extend(undone.publication.waits.into_iter().map(|(waiter, _)| waiter));
                state.model.undo(undone.applied);
            }
            state.model.touch_waits(waiters);
            state.model.take_touched();
            return false;
        }
        state.forget(expired);
        for done in accepted.drain(..) {
            state.forget(&done.rests);
            state.revision = done.revision;
            self.welcome(&done.inventory);
            self.write_published().publish(done.publication, done.revision);
            self.settle_inventory(done.inventory);
        }
        true
    }

    /// Frees numbers that devices have confirmed to be gone. Objects that waited for them come with [`Controller::wake`].
    pub(super) fn release_quarantine(&self, state: &mut State) {
        let confirmed = |d: DeviceIndex, revision| self.registry.get(d).is_none_or(|d| d.has_confirmed(revision));
        let free = state.model.release_quarantine(confirmed, now());
        let stored = |number: &Number| StoredNumber::of(number, &state.model.fabric);
        let keys: Vec<Vec<u8>> = free.iter().filter_map(stored).map(|n| rest_key(&n)).collect();
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

    /// Stores rows that are no objects, under the next revision. Returns whether they are durable.
    pub(super) async fn commit_ops(&self, state: &mut State, ops: Vec<Op>, what: &str) -> bool {
        let compares = vec![Compare::StoreRevision(state.revision)];
        let stored = self.store.commit(StoreTransaction { compares, ops }).await;
        self.note_store(stored.as_ref().err());
        match stored {
            Ok(revision) => {
                state.revision = revision;
                self.write_published().revision = revision;
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

    fn publish_waits(&self, model: &mut Model) {
        let (waits, quarantined) = (model.take_changed_waits(), model.quarantined());
        let mut published = self.write_published();
        published.publish_waits(waits);
        published.quarantined = quarantined;
    }
}

impl State {
    /// These keys are gone from the store, or mean something again.
    fn forget<'a>(&mut self, keys: impl IntoIterator<Item = &'a Vec<u8>>) {
        for key in keys {
            self.expired.remove(key);
        }
    }
}

/// A task that carries out proposals; ends with the controller.
pub(super) fn spawn<S: Store>(controller: &Arc<Controller<S>>, queue: mpsc::Receiver<Proposal>) {
    tokio::spawn(run(Arc::downgrade(controller), queue));
}
