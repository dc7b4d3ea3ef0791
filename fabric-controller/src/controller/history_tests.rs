//! The past as users see it, and rollbacks.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};
use vfabric_api::error::ApiError;
use vfabric_api::service::{Committed, Origin, Rollback, Transaction};

use super::Controller;
use super::tests::*;
use crate::render::FabricRender;

type Bare = Arc<Controller<MemoryStore>>;
/// The intent, and the number of entities that devices should hold, by device and table.
type Picture = (Vec<Spec>, BTreeMap<(String, String), usize>);

async fn bare() -> Bare {
    let loaded = Controller::load(topology(), MemoryStore::default(), Arc::new(FabricRender)).await;
    loaded.unwrap()
}

async fn commit(world: &Bare, changes: Vec<Change>, reason: &str) -> Result<Committed, ApiError> {
    let origin = Origin {
        author: "token 1".into(),
        reason: reason.into(),
        ..Origin::default()
    };
    let changes = changes.into_iter().map(|c| (String::new(), c)).collect();
    let transaction = Transaction {
        changes,
        origin,
        ..Transaction::default()
    };
    world.commit(transaction).await
}

async fn picture(world: &Bare) -> Picture {
    let specs = {
        let state = world.state.lock().await;
        let keys = state.model.keys();
        keys.filter_map(|key| Some(state.model.stored(&key)?.spec())).collect()
    };
    let mut counts = BTreeMap::new();
    for device in world.devices() {
        for e in world.entities(&device.name).await.unwrap() {
            *counts.entry((device.name.to_string(), e.table)).or_default() += 1;
        }
    }
    (specs, counts)
}

fn back_to(to: u64) -> Rollback {
    Rollback {
        to,
        ..Rollback::default()
    }
}

fn random(rng: &mut StdRng) -> Vec<Change> {
    let count = rng.random_range(1..=4);
    let one = |_| {
        let name = format!("a{}", rng.random_range(0..6));
        let network_name = *["red", "blue"].choose(rng).unwrap();
        let host = format!("host{}", rng.random_range(1..=3));
        let (routed, second) = (Spec::Router, ["r", "s"].choose(rng).unwrap());
        match rng.random_range(0..12) {
            0 => delete(Kind::Attachment, &name),
            1 => delete(Kind::Router, second),
            2..=4 => {
                let joins: &[&str] = [["red"].as_slice(), &["blue"], &["red", "blue"]].choose(rng).unwrap();
                let spec = vfabric_api::kind::RouterSpec::new(n(second), joins.iter().map(|name| n(name)).collect());
                Change::Put(n("v"), routed(spec))
            }
            5 => delete(Kind::Network, network_name),
            6 => network(network_name, "10.3.0.0/24"),
            _ => Change::Put(n("v"), Spec::Attachment(attach(&name, network_name, &host))),
        }
    };
    (0..count).map(one).collect()
}

/// Waits until no object waits for a number, and devices hold what they should.
async fn quiet(world: &World<MemoryStore>, revision: u64) {
    let applied = world.controller.wait_applied(revision, Duration::from_secs(60)).await;
    assert_eq!(applied.progress, vfabric_api::status::Progress::Applied, "{applied:?}");
}

#[tokio::test(start_paused = true)]
async fn after_a_rollback_everything_is_as_it_was_then() {
    let devices = World::over(topology(), MemoryStore::default(), fakes()).await;
    let world = &devices.controller;
    let mut rng = StdRng::seed_from_u64(3);
    let mut known: Vec<(u64, Picture)> = Vec::new();
    let first = commit(world, basics(), "").await.unwrap();
    quiet(&devices, first.revision).await;
    known.push((first.revision, picture(world).await));
    let (mut rolled_back, mut changed) = (0, 0);
    for _ in 0..250 {
        if rng.random_bool(0.3) {
            let (to, then) = known.choose(&mut rng).unwrap().clone();
            let dry = Rollback {
                dry_run: true,
                ..back_to(to)
            };
            let planned = world.rollback(dry).await.unwrap();
            let done = world
                .rollback(back_to(to))
                .await
                .unwrap_or_else(|e| panic!("to {to}: {e}"));
            let lists = |c: &Committed| (c.created.clone(), c.updated.clone(), c.deleted.clone());
            assert_eq!(lists(&planned), lists(&done));
            quiet(&devices, done.revision).await;
            assert_eq!(picture(world).await, then, "to {to}");
            rolled_back += 1;
            changed += usize::from(lists(&done) != Default::default());
            let diff = world.diff(to, done.revision).await.unwrap();
            assert!(diff.objects.is_empty(), "{diff:?}");
        } else if let Ok(committed) = commit(world, random(&mut rng), "").await {
            quiet(&devices, committed.revision).await;
            known.push((committed.revision, picture(world).await));
        }
    }
    let counts = format!(
        "{rolled_back} rolled back, {changed} with a change, {} revisions",
        known.len()
    );
    assert!(rolled_back > 50 && changed > 40 && known.len() > 60, "{counts}");
}

#[tokio::test]
async fn each_revision_says_who_and_why_and_what() {
    let world = bare().await;
    commit(&world, basics(), "the first").await.unwrap();
    let mut moved = attach("a1", "red", "host2");
    moved.port_security = false;
    let second = commit(&world, vec![Change::Put(n("v"), Spec::Attachment(moved))], "moves")
        .await
        .unwrap();
    let third = commit(&world, vec![delete(Kind::Attachment, "a3")], "").await.unwrap();

    let history = world.history(None, 2).await.unwrap();
    let numbers: Vec<u64> = history.items.iter().map(|r| r.revision).collect();
    assert_eq!(numbers, [third.revision, second.revision]);
    assert_eq!(
        history.items[0].objects.deleted,
        [Key::new(n("v"), Kind::Attachment, n("a3"))]
    );
    let shown = &history.items[1];
    assert_eq!(
        (shown.origin.author.as_str(), shown.origin.reason.as_str()),
        ("token 1", "moves")
    );
    assert_eq!(world.revision(second.revision).await.unwrap(), *shown);
    let [change] = shown.objects.updated.as_slice() else {
        panic!("{shown:?}");
    };
    let fields: Vec<&str> = change.fields.iter().map(|f| f.field.as_str()).collect();
    assert_eq!(fields, ["place.host.host", "port_security"]);
    // The next page, and the last.
    let rest = world.history(history.next, 10).await.unwrap();
    assert_eq!(
        rest.items.last().unwrap().inventory.len() + rest.items[0].objects.created.len(),
        6 + 12
    );
    assert_eq!(rest.next, None);
    // What two revisions did together.
    let diff = world.diff(second.revision - 1, third.revision).await.unwrap();
    assert_eq!((diff.objects.updated.len(), diff.objects.deleted.len()), (1, 1));
    let wrong = world.diff(third.revision, second.revision).await.unwrap_err();
    assert_eq!(wrong.code, ErrorCode::Invalid);
    let wrong = world.rollback(back_to(third.revision + 1)).await.unwrap_err();
    assert_eq!((wrong.code, wrong.errors[0].field.as_str()), (ErrorCode::Invalid, "to"));
}

#[tokio::test]
async fn a_rollback_of_one_vdc_leaves_others_alone() {
    let world = bare().await;
    let first = commit(&world, basics(), "").await.unwrap();
    let vdc = |name: &str| {
        let spec = VdcSpec::new(n(name));
        Change::Create(n(name), Spec::Vdc(spec))
    };
    commit(&world, vec![vdc("w"), delete(Kind::Attachment, "a1")], "")
        .await
        .unwrap();
    let rollback = Rollback {
        vdc: Some(n("v")),
        ..back_to(first.revision)
    };
    let done = world.rollback(rollback).await.unwrap();
    assert_eq!(done.created, [Key::new(n("v"), Kind::Attachment, n("a1"))]);
    assert_eq!((done.updated.len(), done.deleted.len()), (0, 0));
    world.get(&Key::vdc(n("w"))).await.unwrap();
}

#[tokio::test]
async fn what_is_forgotten_is_said_to_be() {
    let world = bare().await;
    commit(&world, basics(), "").await.unwrap();
    for round in 0..1100 {
        let mut a1 = attach("a1", "red", "host1");
        a1.port_security = round % 2 == 1;
        commit(&world, vec![Change::Put(n("v"), Spec::Attachment(a1))], "")
            .await
            .unwrap();
    }
    let oldest = world.history(None, 1).await.unwrap().oldest.unwrap();
    assert!(oldest > 50);
    for refused in [
        world.rollback(back_to(oldest - 2)).await.map(|_| ()),
        world.diff(oldest - 2, oldest + 5).await.map(|_| ()),
    ] {
        let refused = refused.unwrap_err();
        assert_eq!(refused.code, ErrorCode::Gone);
        assert!(
            refused.to_string().contains(&format!("at least {}", oldest - 1)),
            "{refused}"
        );
    }
    world.rollback(back_to(oldest - 1)).await.unwrap();
}

#[tokio::test]
async fn followers_get_each_change_once_and_in_order_however_far_behind_they_are() {
    let world = bare().await;
    let begin = world.revision_now();
    commit(&world, basics(), "begin").await.unwrap();
    for i in 0..40 {
        let cidr = format!("10.9.{i}.0/24");
        commit(&world, vec![network(&format!("n{i}"), &cidr)], "")
            .await
            .unwrap();
    }
    let history = world.history(None, 100).await.unwrap();
    let mut wanted: Vec<u64> = history
        .items
        .iter()
        .map(|r| r.revision)
        .filter(|r| *r > begin)
        .collect();
    wanted.reverse();
    assert_eq!(wanted.len(), 41);
    // Followers that are close, far behind and in between, with batches of different
    // sizes.
    for (start, limit) in [(begin, 1000), (begin, 7), (begin + 20, 3), (begin, 1)] {
        let (mut after, mut seen) = (start, Vec::new());
        while after < world.revision_now() {
            let changes = world.changes(after, limit).await.unwrap();
            assert!(changes.upto > after);
            seen.extend(changes.items.iter().map(|r| r.revision));
            after = changes.upto;
        }
        let wanted: Vec<u64> = wanted.iter().copied().filter(|r| *r > start).collect();
        assert_eq!(seen, wanted, "after {start}, {limit} at a time");
    }
    // A waiting follower is woken by the next change, and only by that.
    let now = world.revision_now();
    let waiting = tokio::spawn({
        let world = Arc::clone(&world);
        async move { world.changed(now).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    commit(&world, vec![network("last", "10.10.0.0/24")], "").await.unwrap();
    waiting.await.unwrap();
    assert_eq!(world.changes(now, 9).await.unwrap().items.len(), 1);
    assert!(
        world.changes(now + 5, 9).await.unwrap().items.is_empty(),
        "a revision that does not exist yet"
    );
}
