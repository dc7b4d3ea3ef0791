//! Repeated calls make one change and get one answer, even after a restart and when the store fails.

use vfabric_api::access::UserKey;
use vfabric_api::error::ApiError;
use vfabric_api::kind::View;
use vfabric_api::service::{Committed, Origin, Repeatable, Transaction};

use super::Controller;
use super::tests::*;
use crate::render::FabricRender;

type Bare = Arc<Controller<MemoryStore>>;

async fn over(store: MemoryStore) -> Bare {
    let loaded = Controller::load(topology(), store, Arc::new(FabricRender)).await;
    loaded.unwrap()
}

/// A transaction with key `key` of a call; equal calls have the same `request`.
fn keyed(change: Change, key: u8, request: u8) -> Transaction {
    let origin = Origin {
        author: "v/alice".into(),
        repeatable: Some(Repeatable {
            key: [key; 32],
            request: [request; 32],
        }),
        ..Origin::default()
    };
    Transaction::one(change, origin)
}

async fn ask(world: &Bare, change: Change, key: u8, request: u8) -> Result<Committed, ApiError> {
    world.commit(keyed(change, key, request)).await
}

fn vdc() -> Change {
    Change::Create(n("v"), Spec::Vdc(VdcSpec::new(n("v"))))
}

/// The object of a stored answer.
fn replayed(answer: &Committed) -> View {
    let object = answer.replay.as_ref().expect("the stored answer").object.clone();
    View::read(Kind::Network, object.expect("an object")).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_sent_again_changes_nothing_and_gets_the_same_answer() {
    let store = MemoryStore::default();
    let world = over(store.clone()).await;
    world.commit(Transaction::one(vdc(), Origin::default())).await.unwrap();
    let first = ask(&world, network("red", "10.1.0.0/24"), 1, 1).await.unwrap();
    assert!(first.replay.is_none());
    let revision = world.revision_now();
    let View::Network(made) = world.get(&Key::new(n("v"), Kind::Network, n("red"))).await.unwrap() else {
        panic!("no network")
    };

    // The object was deleted meanwhile, but the answer stays the same.
    let gone = Transaction::one(delete(Kind::Network, "red"), Origin::default());
    world.commit(gone).await.unwrap();
    let again = over(store.copy()).await;
    for world in [&world, &again] {
        let second = ask(world, network("red", "10.1.0.0/24"), 1, 1).await.unwrap();
        assert_eq!((second.revision, &second.created), (revision, &first.created));
        let View::Network(shown) = replayed(&second) else {
            panic!("no network")
        };
        assert_eq!(
            (shown.spec, shown.vni, shown.revision),
            (made.spec.clone(), made.vni, revision)
        );
        assert_eq!(world.revision_now(), revision + 1, "nothing happened");
        let error = ask(world, network("red", "10.1.0.0/24"), 1, 2).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Invalid, "another call with this key");
        assert!(error.detail.contains("Idempotency-Key"), "{error}");
    }
    // Another key is another call.
    ask(&again, network("red", "10.1.0.0/24"), 2, 1).await.unwrap();
    assert_eq!(again.revision_now(), revision + 2);
}

#[tokio::test(start_paused = true)]
async fn refused_calls_and_dry_runs_leave_no_trace() {
    let world = over(MemoryStore::default()).await;
    let red = || network("red", "10.1.0.0/24");
    assert_eq!(ask(&world, red(), 1, 1).await.unwrap_err().code, ErrorCode::NotFound);
    world.commit(Transaction::one(vdc(), Origin::default())).await.unwrap();
    let plan = Transaction {
        dry_run: true,
        ..keyed(red(), 1, 1)
    };
    assert!(world.commit(plan.clone()).await.unwrap().plan.is_some());
    assert!(world.commit(plan).await.unwrap().replay.is_none());
    let done = ask(&world, red(), 1, 1).await.unwrap();
    assert_eq!((done.created.len(), done.replay), (1, None));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_changed_nothing_is_remembered_and_shows_nowhere() {
    let world = over(MemoryStore::default()).await;
    world.commit(Transaction::one(vdc(), Origin::default())).await.unwrap();
    let red = || network("red", "10.1.0.0/24");
    let made = world.commit(Transaction::one(red(), Origin::default())).await.unwrap();
    let same = ask(&world, red(), 1, 1).await.unwrap();
    assert_eq!((same.unchanged, same.revision), (1, made.revision));
    // Without the key, this would be refused now.
    let other = Change::Patch(
        Key::new(n("v"), Kind::Network, n("red")),
        serde_json::json!({"mtu": 1400}),
    );
    world.commit(Transaction::one(other, Origin::default())).await.unwrap();
    let again = ask(&world, red(), 1, 1).await.unwrap();
    assert_eq!(again.unchanged, 1);
    let View::Network(shown) = replayed(&again) else {
        panic!("no network")
    };
    assert_eq!((shown.spec.mtu, shown.revision), (1500, made.revision));
    let history = world.history(None, 10).await.unwrap();
    let changes = history.items.iter().filter(|r| !r.objects.is_empty()).count();
    assert_eq!(changes, 3, "{:?}", history.items);
}

#[tokio::test(start_paused = true)]
async fn the_same_call_at_the_same_time_is_carried_out_once() {
    let world = over(MemoryStore::default()).await;
    world.commit(Transaction::one(vdc(), Origin::default())).await.unwrap();
    let revision = world.revision_now();
    let calls = (0..16).map(|_| ask(&world, network("red", "10.1.0.0/24"), 1, 1));
    let answers = futures::future::join_all(calls).await;
    let answers: Vec<Committed> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.iter().filter(|answer| answer.replay.is_none()).count(), 1);
    assert!(
        answers
            .iter()
            .all(|answer| answer.created.len() == 1 && answer.revision == revision + 1)
    );
    assert_eq!(world.revision_now(), revision + 1);
}

#[tokio::test(start_paused = true)]
async fn answers_go_with_their_user() {
    let store = MemoryStore::default();
    let world = over(store.clone()).await;
    world.commit(Transaction::one(vdc(), Origin::default())).await.unwrap();
    let spec = vfabric_api::access::UserSpec {
        name: n("alice"),
        description: String::new(),
        roles: Vec::new(),
        oidc_subject: None,
    };
    let key = UserKey {
        vdc: Some(n("v")),
        name: n("alice"),
    };
    world.put_user(Some(n("v")), spec, true).await.unwrap();
    ask(&world, network("red", "10.1.0.0/24"), 1, 1).await.unwrap();
    world.delete_user(&key).await.unwrap();
    let again = over(store.copy()).await;
    for world in [world, again] {
        let answer = ask(&world, delete(Kind::Network, "red"), 1, 9).await.unwrap();
        assert!(answer.replay.is_none(), "the key is free again");
    }
}
