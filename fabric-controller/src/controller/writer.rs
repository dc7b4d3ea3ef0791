//! The one writer: proposals in order, in groups.
//!
//! **Way of a proposal.** It waits in a bounded queue. The writer takes what is there as one group, checks proposal
//! after proposal on its model, each seeing those before it, and renders what each touches. The group is committed in
//! one durable transaction of the store, with one revision for each proposal; then it is published, proposal by
//! proposal, and answered.
//!
//! **Invariants.** Nobody sees anything of a group before it is durable. If it cannot be made durable, all of it is
//! undone, the last first, and every proposal whose result could depend on it is answered with `unavailable`. A dry run
//! comes first in its group, so that its plan is about what is published; it is undone before the next proposal is looked
//! at. A caller that goes away stops nothing.
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
use vfabric_api::kind::Key;
use vfabric_api::service::{ApplyOptions, Change, Committed, Origin, Rollback, Transaction};

use super::intent::transaction_of;
use super::published::{Changed, Publication};
use super::rows::rest_key;
use super::{Controller, below, inventory, now};
use crate::device::driver::DeviceIndex;
use crate::engine::Rendered;
use crate::ident::{Owner, Source};
use crate::model::Model;
use crate::model::change::Applied;
use crate::model::number::{Number, StoredNumber};
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
    OfHost(Name, Transaction),
    Rollback(Rollback),
}

impl What {
    /// Whether it is about what is published, so that it has to come first in its group.
    fn comes_first(&self) -> bool {
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
    what: What,
    answer: Answer,
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
type Proposed = (Answer, Result<Committed, ApiError>);

/// Where a result goes.
type Answer = oneshot::Sender<Result<Committed, ApiError>>;

/// Carries out the first transaction that is accepted. If none is, the error is that of the last.
fn first_accepted(model: &mut Model, all: Vec<Transaction>) -> Result<(Transaction, Applied), ApiError> {
    let mut refused = ApiError::new(ErrorCode::Internal, "there is nothing to do");
    for transaction in all {
        match model.apply(&transaction.changes) {
            Ok(applied) => return Ok((transaction, applied)),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn unavailable(detail: &str) -> ApiError {
    ApiError::new(ErrorCode::Unavailable, detail)
}

/// The queue of a writer to come.
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
        put_off = controller.group(first, &mut queue).await;
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
    /// As [`Controller::propose`]; `Forbidden` or `Exhausted` if the host may not.
    pub(super) async fn propose_of_host(&self, host: Name, change: Change) -> Result<Committed, ApiError> {
        let origin = Origin {
            author: format!("host {host}"),
            reason: "asked for from below".to_owned(),
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

    /// Takes what is there as one group, commits it, publishes it, answers. Returns a proposal that has to come first in
    /// the next group.
    async fn group(&self, first: Proposal, queue: &mut mpsc::Receiver<Proposal>) -> Option<Proposal> {
        let mut state = self.state.lock().await;
        let state = &mut *state;
        self.release_quarantine(state);
        let expired: Vec<Vec<u8>> = state.expired.iter().cloned().collect();
        let mut group = Group::default();
        let mut next = Some(first);
        let mut put_off = None;
        while let Some(proposal) = next {
            if proposal.what.comes_first() && !group.accepted.is_empty() {
                put_off = Some(proposal);
                break;
            }
            let alternatives = match proposal.what {
                What::Transaction(transaction) => Ok(vec![transaction]),
                What::Intent(intent, options) => Ok(vec![transaction_of(&state.model, intent, options)]),
                What::OfHost(host, transaction) => {
                    below::permit(&state.model, &host, &transaction.changes).map(|()| vec![transaction])
                }
                What::Rollback(rollback) => self.way_back(state.revision, &rollback).await.map(Vec::from),
            };
            self.check(state, &mut group, &expired, alternatives, proposal.answer);
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
        put_off
    }

    /// Checks a proposal and carries it out on the model: the first of its alternatives that is accepted.
    fn check(
        &self,
        state: &mut State,
        group: &mut Group,
        expired: &[Vec<u8>],
        alternatives: Result<Vec<Transaction>, ApiError>,
        answer: Answer,
    ) {
        let independent = group.accepted.is_empty();
        let before = state.revision + group.accepted.len() as u64;
        let expected = alternatives.and_then(|all| match all.iter().find_map(|t| t.expect.as_ref()) {
            Some((key, revision)) => self.expect(group, key, *revision).map(|()| all),
            None => Ok(all),
        });
        let accepted = expected.and_then(|all| first_accepted(&mut state.model, all));
        let result = accepted.map(|(transaction, mut applied)| {
            let mut committed = std::mem::take(&mut applied.committed);
            committed.revision = before;
            if transaction.dry_run {
                committed.plan = Some(self.plan(&mut state.model, &applied));
            }
            if applied.is_empty() || transaction.dry_run {
                state.model.undo(applied);
            } else {
                committed.revision += 1;
                let expired = if independent { expired } else { &[] };
                let accepted = self.accept(&mut state.model, applied, expired, (before, &transaction.origin));
                group.bytes += accepted.transaction.bytes();
                group.accepted.push(accepted);
            }
            committed
        });
        // What was refused or undone touches nothing; what was accepted is rendered.
        state.model.take_touched();
        let independent = independent && group.accepted.is_empty();
        group.answers.push(((answer, result), independent));
    }

    /// Whether an object is at a revision, with the group as it is so far.
    fn expect(&self, group: &Group, key: &Key, revision: u64) -> Result<(), ApiError> {
        let of_group = |accepted: &&Accepted| accepted.applied.objects.iter().any(|(changed, _)| changed == key);
        let found = match group.accepted.iter().rev().find(of_group) {
            Some(accepted) => Some(accepted.revision),
            None => self.published().object(key).map(|object| object.revision),
        };
        match found {
            Some(found) if found == revision => Ok(()),
            Some(found) => {
                let detail = format!("{key} is at revision {found}, not {revision}: somebody changed it meanwhile");
                Err(ApiError::new(ErrorCode::PreconditionFailed, detail))
            }
            None => Err(ApiError::not_found(key)),
        }
    }

    /// Gives a transaction that was carried out its revision, and prepares what is to be stored and published of it.
    fn accept(
        &self,
        model: &mut Model,
        applied: Applied,
        expired: &[Vec<u8>],
        (before, origin): (u64, &Origin),
    ) -> Accepted {
        let revision = before + 1;
        let rests = self.rests(model, &applied);
        let transaction = self.to_store(model, &applied, expired, &rests, (before, origin));
        model.settle(&applied, revision);
        let touched = model.take_touched();
        let changed = |(key, object): &(Key, Option<_>)| Changed {
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
            let mut waiters: Vec<Owner> = Vec::new();
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
