//! Groups: what is visible when, and what happens after a failure.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Semaphore;
use vfabric_api::service::{Committed, Transaction};
use vfabric_api::status::{Progress, View};

use super::tests::*;
use crate::store::{Past, Revision, Scanned, StoreError, StoreTransaction, Visit};

/// A store whose commits wait for a gate, and may fail.
#[derive(Default)]
struct Slow {
    inner: MemoryStore,
    gate: Option<Semaphore>,
    fails: AtomicBool,
    /// How often other tasks run while a group is made durable.
    turns: AtomicUsize,
    /// How many transactions each group had.
    groups: Mutex<Vec<usize>>,
}

#[derive(Clone)]
struct Shared(Arc<Slow>);

impl Store for Shared {
    async fn revision(&self) -> Result<Revision, StoreError> {
        self.0.inner.revision().await
    }
    async fn get(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        self.0.inner.get(key).await
    }
    async fn scan_range(&self, from: &[u8], before: Option<&[u8]>, visit: Visit<'_>) -> Result<Scanned, StoreError> {
        self.0.inner.scan_range(from, before, visit).await
    }
    async fn past(&self, from: Revision, to: Revision, limit: usize) -> Result<Past, StoreError> {
        self.0.inner.past(from, to, limit).await
    }
    async fn commit_group(&self, transactions: Vec<StoreTransaction>) -> Result<Revision, StoreError> {
        let gate = self.0.gate.as_ref().expect("has a gate");
        let _open = gate.acquire().await.expect("stays open");
        self.0.groups.lock().unwrap().push(transactions.len());
        for _ in 0..self.0.turns.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        if self.0.fails.load(Ordering::SeqCst) {
            let (path, message) = ("/full".into(), "no space left".into());
            return Err(StoreError::Storage { path, message });
        }
        self.0.inner.commit_group(transactions).await
    }
    async fn check(&self) -> Result<(), StoreError> {
        // Only using it shows whether it works.
        Ok(())
    }
}

struct Gated {
    world: World<Shared>,
    store: Arc<Slow>,
}

type Answer = tokio::task::JoinHandle<Result<Committed, vfabric_api::error::ApiError>>;

impl Gated {
    /// A controller with a vDC and a network, and the gate closed.
    async fn new() -> Self {
        let gate = Some(Semaphore::new(1));
        let store = Arc::new(Slow {
            gate,
            ..Slow::default()
        });
        let world = World::over(topology(), Shared(Arc::clone(&store)), fakes()).await;
        world.applied(basics()).await;
        for device in 0..7 {
            world.settled(device).await;
        }
        let closed = Self { world, store };
        closed.close().await;
        closed
    }

    fn gate(&self) -> &Semaphore {
        self.store.gate.as_ref().unwrap()
    }

    async fn close(&self) {
        self.gate().acquire().await.unwrap().forget();
        self.store.groups.lock().unwrap().clear();
    }

    /// Opens the gate, and waits until nobody is in it or waits for it.
    fn open(&self) {
        self.gate().add_permits(1);
    }

    /// Proposes changes, in order.
    async fn propose(&self, dry_run: bool, changes: Vec<Change>) -> Answer {
        let changes = changes.into_iter().map(|c| (String::new(), c)).collect();
        let controller = Arc::clone(&self.world.controller);
        let transaction = Transaction {
            changes,
            dry_run,
            ..Transaction::default()
        };
        let answer = tokio::spawn(async move { controller.commit(transaction).await });
        // One thread: the task comes to the queue, and the writer to the gate, before this one goes on.
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
        answer
    }

    fn desired(&self) -> Vec<usize> {
        let devices = self.world.controller.devices();
        devices.iter().map(|d| d.desired().len()).collect()
    }
}

fn attachment(i: usize) -> Vec<Change> {
    vec![create(attach(&format!("b{i}"), "red", "host2"))]
}

#[tokio::test]
async fn what_waits_is_committed_as_one_group_with_a_revision_each() {
    let gated = Gated::new().await;
    let before = gated.world.controller.fabric().await.revision;
    let first = gated.propose(false, attachment(0)).await;
    let mut others = Vec::new();
    for i in 1..50 {
        others.push(gated.propose(false, attachment(i)).await);
    }
    gated.open();
    let mut revisions = vec![first.await.unwrap().unwrap().revision];
    for other in others {
        revisions.push(other.await.unwrap().unwrap().revision);
    }
    assert_eq!(revisions, (before + 1..=before + 50).collect::<Vec<_>>());
    assert_eq!(*gated.store.groups.lock().unwrap(), [1, 49]);
    let waited = gated.world.controller.wait_applied(revisions[49], PATIENCE).await;
    assert_eq!(waited.progress, Progress::Applied, "{waited:?}");
    for device in 0..7 {
        gated.world.settled(device).await;
    }
}

/// The number of durable transactions for clients that each send a change when their previous one is done.
async fn transactions_of(clients: usize, changes: usize) -> usize {
    let gated = Gated::new().await;
    gated.open();
    // A disk is slower than a client that receives an answer and sends its next change.
    gated.store.turns.store(64, Ordering::SeqCst);
    let client = |client: usize| {
        let controller = Arc::clone(&gated.world.controller);
        tokio::spawn(async move {
            for change in 0..changes {
                let spec = attach(&format!("c{client}-{change}"), "red", "host2");
                let transaction = Transaction::one(create(spec), Default::default());
                controller.commit(transaction).await.unwrap();
            }
        })
    };
    let running: Vec<_> = (0..clients).map(client).collect();
    for client in running {
        client.await.unwrap();
    }
    let groups = gated.store.groups.lock().unwrap().clone();
    assert_eq!(groups.iter().sum::<usize>(), clients * changes, "{groups:?}");
    groups.len()
}

#[tokio::test]
async fn sixteen_clients_share_durable_transactions() {
    let (alone, together) = (transactions_of(1, 10).await, transactions_of(16, 10).await);
    assert_eq!(alone, 10, "one client waits for each of its changes");
    // Sixteen times as many changes. The first group has only the first change, so there are one or a few more groups.
    assert!(
        together * 5 <= 16 * alone,
        "16 clients cost {together} durable transactions for 160 changes"
    );
}

#[tokio::test]
async fn readers_see_nothing_before_it_is_durable_and_do_not_wait_for_it() {
    let gated = Gated::new().await;
    let (controller, key) = (&gated.world.controller, Key::new(n("v"), Kind::Attachment, n("b0")));
    let (desired, fabric) = (gated.desired(), controller.fabric().await);
    let changes = vec![create(attach("b0", "red", "host2")), delete(Kind::Attachment, "a1")];
    let answer = gated.propose(false, changes).await;
    // All of these return although the gate is closed.
    assert_eq!(controller.get(&key).await.unwrap_err().code, ErrorCode::NotFound);
    controller
        .get(&Key::new(n("v"), Kind::Attachment, n("a1")))
        .await
        .unwrap();
    assert_eq!(controller.fabric().await, fabric);
    let listed = controller
        .list(Kind::Attachment, Some(&n("v")), &Default::default(), None, 100)
        .await
        .unwrap();
    assert_eq!(listed.items.len(), 2);
    controller.metrics().await;
    let old = controller.wait_applied(fabric.revision, PATIENCE).await;
    assert_eq!(old.progress, Progress::Applied);
    assert_eq!(gated.desired(), desired, "a device is to hold what is not durable");
    assert!(!answer.is_finished());
    gated.open();
    answer.await.unwrap().unwrap();
    controller.get(&key).await.unwrap();
    assert_ne!(gated.desired(), desired);
}

#[tokio::test]
async fn a_group_that_cannot_be_stored_comes_to_nothing_and_says_so_to_everybody_it_concerns() {
    let gated = Gated::new().await;
    let controller = &gated.world.controller;
    let (desired, fabric) = (gated.desired(), controller.fabric().await);
    // The first one is in the gate when the others come.
    let first = gated.propose(false, attachment(0)).await;
    let refused_by_itself = gated.propose(false, vec![delete(Kind::Network, "red")]).await;
    let second = gated.propose(false, attachment(1)).await;
    let gone = gated.propose(false, vec![delete(Kind::Attachment, "a1")]).await;
    let refused_by_another = gated.propose(false, vec![delete(Kind::Attachment, "a1")]).await;
    let same_again = gated.propose(false, attachment(1)).await;
    // Deletes what the first one made, which is not durable yet.
    let made_and_gone = gated.propose(false, vec![delete(Kind::Attachment, "b0")]).await;
    let dry = gated.propose(true, attachment(2)).await;
    gated.store.fails.store(true, Ordering::SeqCst);
    gated.open();
    let code = |answer: Result<Committed, vfabric_api::error::ApiError>| answer.unwrap_err().code;
    assert_eq!(code(first.await.unwrap()), ErrorCode::Unavailable);
    // They were checked while the first was under way.
    for answer in [
        refused_by_itself,
        second,
        gone,
        refused_by_another,
        same_again,
        made_and_gone,
    ] {
        assert_eq!(code(answer.await.unwrap()), ErrorCode::Unavailable);
    }
    // A plan is about what is stored, so it belongs to no group.
    assert_eq!(dry.await.unwrap().unwrap().revision, fabric.revision);
    assert_eq!(*gated.store.groups.lock().unwrap(), [1]);
    assert_eq!(gated.desired(), desired);
    let state = controller.state.lock().await;
    assert_eq!(controller.published().differs(&state.model), None);
    drop(state);
    let failing = controller.fabric().await;
    assert!(
        failing
            .store_fault
            .as_ref()
            .is_some_and(|why| why.contains("no space left"))
    );
    assert!(controller.health().await.is_err());
    assert_eq!(failing.attachments, fabric.attachments);
    gated.store.fails.store(false, Ordering::SeqCst);
    // As if nothing had happened: the same changes have the same results.
    let changes = [attachment(0), attachment(1), vec![delete(Kind::Attachment, "a1")]].concat();
    let revision = gated.world.commit(changes).await.unwrap();
    assert_eq!(revision, fabric.revision + 1);
    assert!(controller.health().await.unwrap().is_empty());
    assert_eq!(
        controller.wait_applied(revision, PATIENCE).await.progress,
        Progress::Applied
    );
    for device in 0..7 {
        gated.world.settled(device).await;
    }
}

#[tokio::test]
async fn proposals_of_a_group_see_those_before_them_and_no_dry_run() {
    let gated = Gated::new().await;
    let blocks = gated.propose(false, attachment(0)).await;
    let dry = gated.propose(true, attachment(1)).await;
    let replaces_dry = gated.propose(false, vec![delete(Kind::Attachment, "b1")]).await;
    let made = gated.propose(false, attachment(1)).await;
    let again = gated.propose(false, attachment(1)).await;
    let deleted = gated.propose(false, vec![delete(Kind::Attachment, "b1")]).await;
    gated.open();
    let first = blocks.await.unwrap().unwrap().revision;
    let dry = dry.await.unwrap().unwrap();
    assert_eq!((dry.revision, dry.created.len()), (first, 1));
    assert_eq!(replaces_dry.await.unwrap().unwrap_err().code, ErrorCode::NotFound);
    assert_eq!(made.await.unwrap().unwrap().revision, first + 1);
    let again = again.await.unwrap().unwrap();
    assert_eq!((again.revision, again.unchanged), (first + 1, 1));
    assert_eq!(deleted.await.unwrap().unwrap().revision, first + 2);
    for device in 0..7 {
        gated.world.settled(device).await;
    }
}

#[tokio::test]
async fn an_object_that_waits_goes_on_waiting_for_its_own_revision_after_a_dry_run_and_a_failure() {
    let gated = Gated::new().await;
    gated.open();
    let (world, controller) = (&gated.world, &gated.world.controller);
    world.applied(vec![create(attach("b", "red", "host2"))]).await;
    let ip = match controller
        .get(&Key::new(n("v"), Kind::Attachment, n("b")))
        .await
        .unwrap()
    {
        View::Attachment(b) => b.ips[0],
        other => panic!("{other:?}"),
    };
    world.devices[4].go_offline();
    world.commit(vec![delete(Kind::Attachment, "b")]).await.unwrap();
    let mut waits = attach("w", "red", "host3");
    waits.ips = vec![ip];
    let revision = world.commit(vec![create(waits.clone())]).await.unwrap();
    let waiting = || async {
        let applied = controller.wait_applied(revision, Duration::ZERO).await;
        assert_eq!(applied.progress, Progress::Pending);
        let for_w = |r: &&vfabric_api::status::DeviceReason| r.reason.contains("attachment v/w waits");
        applied.waiting.iter().filter(for_w).count()
    };
    assert_eq!(waiting().await, 1);
    waits.port_security = false;
    let changed = vec![Change::Put(n("v"), Spec::Attachment(waits))];
    gated.propose(true, changed.clone()).await.await.unwrap().unwrap();
    world.commit(attachment(5)).await.unwrap();
    assert_eq!(waiting().await, 1, "the dry run moved it to another revision");
    gated.store.fails.store(true, Ordering::SeqCst);
    assert!(world.commit(changed).await.is_err());
    assert!(world.commit(vec![delete(Kind::Attachment, "w")]).await.is_err());
    gated.store.fails.store(false, Ordering::SeqCst);
    world.commit(attachment(6)).await.unwrap();
    assert_eq!(waiting().await, 1, "the failure moved it to another revision");
    world.devices[4].go_online();
    let applied = controller.wait_applied(revision, PATIENCE).await;
    assert_eq!(applied.progress, Progress::Applied, "{:?}", applied.waiting);
    world.settled(6).await;
}
