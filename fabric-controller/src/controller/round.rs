//! Rounds of the writer: groups of proposals. While one group is made durable, the next is checked.
//!
//! **Model.** A round has the lock of the model. Checked proposals are added to the *open* group. When no group is in
//! flight, the open one is sent to the store and *flies* until it is durable. Meanwhile further proposals go into a new
//! open group, each seeing all before it. When a group *lands*, its proposals are published and acknowledged one by
//! one, while the open one flies. The round ends when nothing is left, or after [`FLIGHTS`], so that others can use the
//! model too.
//!
//! **Invariants.** Groups reach the store one after the other, in order. If one cannot be stored, the open group is
//! undone first, then the failed one, each from its last proposal to its first. Every proposal whose result could
//! depend on the failed group gets `unavailable`. Numbers leave quarantine only while nothing flies. So the new owner
//! of a number is stored with the group that deletes the number's key, or after it.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::mpsc;
use tracing::warn;
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::inventory::InventoryChange;
use vfabric_api::kind::Key;
use vfabric_api::service::{Change, Committed, Origin, Repeatable, Transaction};

use super::intent::transaction_of;
use super::published::{Changed, Publication};
use super::requests::{self, Written};
use super::room::{self, Growth, Tight};
use super::writer::{Answer, Proposal, State, What, unavailable};
use super::{Controller, below, inventory, tenancy};
use crate::engine::Rendered;
use crate::ident::{Owner, Source};
use crate::model::Model;
use crate::model::change::{Applied, By};
use crate::store::{Op, Revision, Store, StoreError, StoreTransaction};

/// Most proposals of one group: limits how long the first of them waits for the others.
const GROUP: usize = 256;
/// Octets of one group's operations, for the same reason. One proposal may be larger.
const GROUP_BYTES: usize = 1 << 20;
/// Most groups of one round: some milliseconds in which nobody else can use the model.
const FLIGHTS: usize = 16;

/// A proposal that will be committed.
struct Accepted {
    applied: Applied,
    transaction: StoreTransaction,
    publication: Publication,
    /// What it changes of the inventory.
    inventory: Option<inventory::News>,
    /// The stored response, for a call that may be repeated.
    request: Option<Written>,
    revision: u64,
    /// What it may add to tables.
    growth: Growth,
}

/// The entities that a transaction asks of devices.
struct Asks {
    touched: BTreeSet<Source>,
    rendered: Rendered,
    /// The entries that it may add to tables, now or later.
    growth: Growth,
    /// The part of `growth` that contributions add later.
    reserve: Vec<(Source, Growth)>,
}

/// A result, and where it goes.
struct Answered {
    answer: Answer,
    result: Result<Committed, ApiError>,
    /// True if it depends on no proposal that is not durable yet.
    independent: bool,
}

/// Proposals that are committed together.
#[derive(Default)]
struct Group {
    accepted: Vec<Accepted>,
    bytes: usize,
    /// In the order in which they came.
    answers: Vec<Answered>,
    /// Whether it deletes the expired keys of the round.
    expires: bool,
}

impl Group {
    fn is_full(&self) -> bool {
        self.answers.len() >= GROUP || self.bytes >= GROUP_BYTES
    }

    /// Sends each result; if the group could not be stored, results that depend on it are replaced by the reason.
    fn answer(self, stored: bool) {
        for Answered {
            answer,
            result,
            independent,
        } in self.answers
        {
            let result = if stored || independent {
                result
            } else {
                Err(unavailable("the change could not be stored"))
            };
            // A caller that is gone needs no reply.
            let _ = answer.send(result);
        }
    }
}

type Stored<'a> = Pin<Box<dyn Future<Output = Result<Revision, StoreError>> + Send + 'a>>;

/// A group that was sent to the store.
struct Flight<'a> {
    group: Group,
    stored: Stored<'a>,
}

/// The state of a round.
struct Round<'a, S: Store> {
    controller: &'a Controller<S>,
    state: &'a mut State,
    /// Keys that the first group deletes.
    expired: Vec<Vec<u8>>,
    open: Group,
    flight: Option<Flight<'a>>,
    flights: usize,
    /// The entries that everything under way may add to tables.
    growing: Growth,
}

/// Carries out the first transaction that is accepted. If none is, the error is that of the last.
fn first_accepted(model: &mut Model, all: Vec<Transaction>) -> Result<(Transaction, Applied), ApiError> {
    let mut refused = ApiError::new(ErrorCode::Internal, "there is nothing to do");
    for transaction in all {
        match model.apply_by(&transaction.changes, &By::of(&transaction)) {
            Ok(applied) => return Ok((transaction, applied)),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

impl<S: Store> Controller<S> {
    /// Carries out a proposal and those that come while it is under way. Returns a proposal that has to begin the next round.
    pub(super) async fn round(&self, first: Proposal, queue: &mut mpsc::Receiver<Proposal>) -> Option<Proposal> {
        let mut state = self.state.lock().await;
        self.release_quarantine(&mut state);
        let mut round = Round {
            expired: state.expired.iter().cloned().collect(),
            controller: self,
            state: &mut state,
            open: Group::default(),
            flight: None,
            flights: 0,
            growing: Growth::default(),
        };
        let (mut next, mut put_off) = (Some(first), None);
        loop {
            while let Some(proposal) = next.take() {
                if proposal.what.comes_first() && !round.is_fresh() {
                    put_off = Some(proposal);
                    break;
                }
                round.take(proposal).await;
                next = round.has_room().then(|| queue.try_recv().ok()).flatten();
            }
            if round.flight.is_none() && !round.start() {
                return put_off;
            }
            let takes_more = put_off.is_none() && round.has_room();
            let Some(flight) = &mut round.flight else { continue };
            tokio::select! {
                biased;
                stored = &mut flight.stored => round.land(stored),
                // When the queue is closed, wait only for the flight.
                Some(proposal) = queue.recv(), if takes_more => next = Some(proposal),
            }
        }
    }
}

impl<'a, S: Store> Round<'a, S> {
    /// Whether everything in the model is durable.
    fn is_fresh(&self) -> bool {
        self.flight.is_none() && self.open.accepted.is_empty()
    }

    fn has_room(&self) -> bool {
        !self.open.is_full() && self.flights < FLIGHTS
    }

    /// Groups that are not durable yet, the last first.
    fn under_way(&self) -> impl Iterator<Item = &Group> {
        [&self.open].into_iter().chain(self.flight.as_ref().map(|f| &f.group))
    }

    /// The revision of the last transaction that was accepted.
    fn revision(&self) -> u64 {
        let accepted: usize = self.under_way().map(|group| group.accepted.len()).sum();
        self.state.revision + accepted as u64
    }

    /// Checks a proposal and carries it out on the model: the first of its alternatives that is accepted.
    async fn take(&mut self, proposal: Proposal) {
        let Proposal { what, answer } = proposal;
        let independent = self.is_fresh();
        if let Some(result) = self.repeated(&what) {
            self.open.answers.push(Answered {
                answer,
                result,
                independent,
            });
            return;
        }
        let whose = what.whose();
        let alternatives = match what {
            What::Transaction(transaction) => Ok(vec![transaction]),
            What::Intent(intent, options) => transaction_of(&self.state.model, intent, options).map(|t| vec![t]),
            What::OfHost(host, transaction) => {
                let permitted = below::permit(&self.state.model, &host, &transaction.changes);
                permitted.map(|()| vec![transaction])
            }
            What::Rollback(rollback) => {
                let way = self.controller.way_back(self.state.revision, &rollback).await;
                way.map(Vec::from)
            }
        };
        let permitted = alternatives.and_then(|all| self.within_rights(all));
        let result = match permitted {
            Ok(all) => self.check(all).await,
            Err(refused) => Err(refused),
        };
        if let (Some(whose), Err(error)) = (whose, &result)
            && error.code == ErrorCode::Exhausted
        {
            self.controller.note_exhausted(whose, error);
        }
        // Refused or undone proposals touch nothing. Accepted ones are rendered.
        self.state.model.take_touched();
        let independent = independent && self.is_fresh();
        self.open.answers.push(Answered {
            answer,
            result,
            independent,
        });
    }

    /// The stored response to this call; none if the call is new, or cannot be repeated.
    fn repeated(&self, what: &What) -> Option<Result<Committed, ApiError>> {
        let repeatable = what.origin()?.repeatable?;
        let under_way = self.under_way().flat_map(|group| group.accepted.iter().rev());
        let under_way = under_way
            .filter_map(|accepted| accepted.request.as_ref()?.of(&repeatable))
            .next();
        let found = under_way.or_else(|| self.state.requests.find(&repeatable));
        found.map(|record| record.answer(&repeatable))
    }

    /// The alternatives, if the caller may make their changes. All of them change the same objects.
    fn within_rights(&self, alternatives: Vec<Transaction>) -> Result<Vec<Transaction>, ApiError> {
        for transaction in alternatives.iter().filter(|t| t.origin.is_tenant) {
            tenancy::permit(&self.state.model, &transaction.changes)?;
        }
        Ok(alternatives)
    }

    async fn check(&mut self, mut alternatives: Vec<Transaction>) -> Result<Committed, ApiError> {
        if let Some((key, revision)) = alternatives.iter().find_map(|t| t.expect.as_ref()) {
            self.expect(key, *revision)?;
        }
        let (transaction, mut applied, asked) = loop {
            let (transaction, applied) = first_accepted(&mut self.state.model, alternatives)?;
            let permitted = self.controller.check_users(&applied);
            if let Err(refused) = permitted.and_then(|()| self.controller.check_activation(&applied)) {
                self.state.model.undo(applied);
                return Err(refused);
            }
            match self.ask(&transaction, &applied) {
                Ok(asked) => break (transaction, applied, asked),
                Err(Tight::Refused(error)) => {
                    self.state.model.undo(applied);
                    return Err(error);
                }
                Err(Tight::Unknown) => {
                    self.state.model.undo(applied);
                    self.state.model.take_touched();
                    self.settle_all().await?;
                    // If a proposal takes several rounds, it counts as fresh only in the
                    // first.
                    alternatives = vec![transaction];
                }
            }
        };
        let before = self.revision();
        let mut committed = std::mem::take(&mut applied.committed);
        committed.revision = before;
        if transaction.dry_run {
            committed.plan = Some(self.controller.plan(&mut self.state.model, &applied, asked.touched));
        }
        let repeatable = transaction.origin.repeatable.filter(|_| !transaction.dry_run);
        if transaction.dry_run || (applied.is_empty() && repeatable.is_none()) {
            self.state.model.undo(applied);
        } else {
            if !applied.is_empty() {
                committed.revision += 1;
            }
            let request = repeatable.map(|repeatable| self.answered(&repeatable, &transaction, &applied, &committed));
            let room = (asked.rendered, asked.growth, asked.reserve);
            let accepted = self.accept(applied, room, before, &transaction.origin, request);
            self.growing.add(&accepted.growth);
            self.open.bytes += accepted.transaction.bytes();
            self.open.accepted.push(accepted);
        }
        Ok(committed)
    }

    /// Renders a transaction that was carried out on the model, and checks whether it fits.
    fn ask(&mut self, transaction: &Transaction, applied: &Applied) -> Result<Asks, Tight> {
        let (controller, is_fresh) = (self.controller, self.is_fresh());
        let model = &mut self.state.model;
        let touched = model.take_touched();
        let rendered = controller.rendered(model, touched.clone());
        // Nobody asked for the controller's own changes of the inventory.
        let is_own = |(_, change): &(String, Change)| {
            matches!(
                change,
                Change::Inventory(InventoryChange::Left(_) | InventoryChange::Arrived(_))
            )
        };
        if transaction.changes.iter().any(is_own) {
            return Ok(Asks {
                touched,
                rendered,
                growth: Growth::default(),
                reserve: Vec::new(),
            });
        }
        let later =
            (model.waiting() > 0).then(|| model.without_waits(|model| controller.rendered(model, touched.clone())));
        let asked = room::Asked {
            applied,
            rendered: later.as_ref().unwrap_or(&rendered),
            is_tenant: transaction.origin.is_tenant,
        };
        let growth = controller.fits(model, &asked, &self.growing, is_fresh)?;
        let reserve = match &later {
            Some(later) if !controller.tables.is_empty() => {
                controller
                    .published()
                    .reserve(&controller.tables, model, &rendered, later)
            }
            _ => Vec::new(),
        };
        Ok(Asks {
            touched,
            rendered,
            growth,
            reserve,
        })
    }

    /// Waits until everything that is under way is durable and published.
    async fn settle_all(&mut self) -> Result<(), ApiError> {
        while !self.is_fresh() {
            if self.flight.is_none() {
                self.start();
            }
            let Some(flight) = &mut self.flight else { continue };
            let stored = flight.stored.as_mut().await;
            let failed = stored.is_err();
            self.land(stored);
            if failed {
                return Err(unavailable("the changes before this one could not be stored"));
            }
        }
        Ok(())
    }

    /// The row to store for a call that may be repeated.
    fn answered(
        &self,
        repeatable: &Repeatable,
        transaction: &Transaction,
        applied: &Applied,
        committed: &Committed,
    ) -> Written {
        let key = requests::changed_object(transaction);
        // An object that stays as it is stays at its revision.
        let revision = if applied.is_empty() {
            key.as_ref().and_then(|key| self.revision_of(key))
        } else {
            Some(committed.revision)
        };
        let object = key.zip(revision);
        let object = object.and_then(|(key, revision)| requests::object_of(&self.state.model, &key, revision));
        let origin = &transaction.origin;
        let requests = &self.state.requests;
        requests.write(repeatable, origin, (committed, object), self.revision() + 1)
    }

    /// The revision of an object, including changes under way; none if it does not exist.
    fn revision_of(&self, key: &Key) -> Option<u64> {
        let of_it = |accepted: &&Accepted| accepted.applied.objects.iter().any(|(changed, _)| changed == key);
        let mut changes = self.under_way().flat_map(|group| group.accepted.iter().rev());
        match changes.find(of_it) {
            Some(accepted) => Some(accepted.revision),
            None => self.controller.published().object(key).map(|object| object.revision),
        }
    }

    /// Whether an object is at a revision, including changes under way.
    fn expect(&self, key: &Key, revision: u64) -> Result<(), ApiError> {
        match self.revision_of(key) {
            Some(found) if found == revision => Ok(()),
            Some(found) => {
                let detail = format!("{key} is at revision {found}, not {revision}: somebody changed it meanwhile");
                Err(ApiError::new(ErrorCode::PreconditionFailed, detail))
            }
            None => Err(ApiError::not_found(key)),
        }
    }

    /// Gives a transaction that was carried out its revision, and prepares its rows and its publication.
    fn accept(
        &mut self,
        applied: Applied,
        (rendered, growth, reserve): (Rendered, Growth, Vec<(Source, Growth)>),
        before: u64,
        origin: &Origin,
        request: Option<Written>,
    ) -> Accepted {
        // The first one deletes the expired keys: it is the first that can give their numbers to others.
        let expires = self.flights == 0 && self.open.accepted.is_empty();
        self.open.expires |= expires;
        let expired = if expires { self.expired.as_slice() } else { &[] };
        let (controller, model) = (self.controller, &mut self.state.model);
        let revision = before + 1;
        let rests = controller.rests(model, &applied, revision);
        let mut transaction = controller.to_store(model, &applied, expired, &rests, (before, origin));
        if let Some(request) = &request {
            let (gone, (key, row)) = request.rows();
            transaction.ops.extend(gone.into_iter().map(Op::Delete));
            transaction.ops.push(Op::Put(key, row));
        }
        model.settle(&applied, revision);
        let changed = |(key, object): &(Key, Option<_>)| Changed {
            owner: model.owner(key),
            key: key.clone(),
            object: object.clone(),
        };
        let publication = Publication {
            objects: applied.objects.iter().map(changed).collect(),
            rendered,
            waits: model.take_changed_waits(),
            reserve,
        };
        Accepted {
            inventory: inventory::News::of(model, &applied),
            applied,
            transaction,
            publication,
            request,
            revision,
            growth,
        }
    }

    /// Sends the open group to the store. Returns false if there is nothing to store: then its results are sent, and
    /// the round is over.
    fn start(&mut self) -> bool {
        if self.open.accepted.is_empty() {
            let group = std::mem::take(&mut self.open);
            self.settle_waits();
            group.answer(true);
            return false;
        }
        if let Some(stored) = self.launch() {
            self.land(stored);
        }
        true
    }

    /// Sends the open group to the store. Returns the outcome if the store is done at once.
    fn launch(&mut self) -> Option<Result<Revision, StoreError>> {
        let mut group = std::mem::take(&mut self.open);
        let transactions = group.accepted.iter_mut().map(|a| std::mem::take(&mut a.transaction));
        let stored: Stored<'a> = Box::pin(self.controller.store.commit_group(transactions.collect()));
        let mut flight = Flight { group, stored };
        // The store does not start before the first poll.
        let asked = flight
            .stored
            .as_mut()
            .poll(&mut std::task::Context::from_waker(std::task::Waker::noop()));
        self.flights += 1;
        self.flight = Some(flight);
        match asked {
            Poll::Ready(stored) => Some(stored),
            Poll::Pending => None,
        }
    }

    /// Publishes the group that flew, and sends its results; or undoes it together with the open one.
    fn land(&mut self, stored: Result<Revision, StoreError>) {
        let Some(Flight { mut group, .. }) = self.flight.take() else {
            return;
        };
        self.controller.note_store(stored.as_ref().err());
        match stored {
            Ok(_) => {
                // The store has the next group while this one is published.
                let next = (!self.open.accepted.is_empty()).then(|| self.launch()).flatten();
                self.publish(&mut group);
                self.settle_waits();
                group.answer(true);
                if let Some(stored) = next {
                    self.land(stored);
                }
            }
            Err(error) => {
                let mut open = std::mem::take(&mut self.open);
                let changes = group.accepted.len() + open.accepted.len();
                warn!(%error, changes, "the store refused a group of changes");
                self.undo(&mut open);
                self.undo(&mut group);
                // Keys that it should have deleted are deleted with the next round.
                self.flights = FLIGHTS;
                self.settle_waits();
                group.answer(false);
                open.answer(false);
            }
        }
    }

    fn publish(&mut self, group: &mut Group) {
        if group.expires {
            self.state.forget(&self.expired);
        }
        for done in group.accepted.drain(..) {
            self.growing.subtract(&done.growth);
            self.state.revision = done.revision;
            if let Some(request) = done.request {
                self.state.requests.publish(request);
            }
            self.controller.welcome(&done.inventory);
            let mut published = self.controller.write_published();
            let handover = published.publish(done.publication, done.revision);
            drop(published);
            if let Some(handover) = handover {
                tokio::spawn(handover.carry_out(Arc::clone(&self.controller.progress)));
            }
            self.controller.revisions.send_replace(done.revision);
            self.controller.settle_inventory(done.inventory);
        }
    }

    fn undo(&mut self, group: &mut Group) {
        let mut waiters: Vec<Owner> = Vec::new();
        for undone in group.accepted.drain(..).rev() {
            self.growing.subtract(&undone.growth);
            waiters.extend(undone.publication.waits.into_iter().map(|(waiter, _)| waiter));
            self.state.model.undo(undone.applied);
        }
        self.state.model.touch_waits(waiters);
        self.state.model.take_touched();
    }

    /// Do this whatever the outcome of a group: earlier confirmations of devices have changed what objects wait for.
    fn settle_waits(&mut self) {
        self.controller.publish_waits(&mut self.state.model);
        if self.state.model.has_woken() {
            // Housekeeping renders them.
            self.controller.progress.notify_waiters();
        }
    }
}
