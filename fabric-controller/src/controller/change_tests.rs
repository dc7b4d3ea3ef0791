//! Changes to existing objects: patches, and revisions that a caller expects.

use serde_json::json;
use vfabric_api::error::ApiError;
use vfabric_api::ident::Mac;
use vfabric_api::intent::Place;
use vfabric_api::kind::View;
use vfabric_api::service::{Committed, Transaction};

use super::Controller;
use super::tests::*;
use crate::render::FabricRender;

type Bare = Arc<Controller<MemoryStore>>;

async fn bare() -> Bare {
    let loaded = Controller::load(topology(), MemoryStore::default(), Arc::new(FabricRender)).await;
    let world = loaded.unwrap();
    let changes = basics().into_iter().map(|c| (String::new(), c)).collect();
    let basics = Transaction {
        changes,
        ..Transaction::default()
    };
    world.commit(basics).await.unwrap();
    world
}

fn a1() -> Key {
    Key::new(n("v"), Kind::Attachment, n("a1"))
}

async fn patch(world: &Bare, expect: Option<u64>, patch: serde_json::Value) -> Result<Committed, ApiError> {
    let transaction = Transaction {
        expect: expect.map(|revision| (a1(), revision)),
        ..Transaction::one(Change::Patch(a1(), patch), Default::default())
    };
    world.commit(transaction).await
}

#[tokio::test]
async fn a_patch_changes_what_it_names() {
    let world = bare().await;
    let View::Attachment(before) = world.get(&a1()).await.unwrap() else {
        panic!("not an attachment");
    };
    patch(&world, None, json!({"port_security": false, "ips": ["10.1.0.9"]}))
        .await
        .unwrap();
    let View::Attachment(after) = world.get(&a1()).await.unwrap() else {
        panic!("not an attachment");
    };
    assert_eq!((after.mac, after.spec.place.clone()), (before.mac, before.spec.place));
    assert!(!after.spec.port_security);
    assert_eq!(after.ips, ["10.1.0.9".parse::<std::net::IpAddr>().unwrap()]);
    // A null field counts as left out.
    patch(&world, None, json!({"ips": null, "port_security": null}))
        .await
        .unwrap();
    let View::Attachment(last) = world.get(&a1()).await.unwrap() else {
        panic!("not an attachment");
    };
    assert!(last.spec.port_security && last.spec.ips.is_empty());
    for (wrong, field, code) in [
        (json!({"network": "nope"}), "network", ErrorCode::Invalid),
        (
            json!({"place": {"host": {"host": 7}}}),
            "place.host.host",
            ErrorCode::Invalid,
        ),
        (json!({"name": "other"}), "name", ErrorCode::Invalid),
        (json!({"colour": "red"}), "colour", ErrorCode::Invalid),
    ] {
        let error = patch(&world, None, wrong).await.unwrap_err();
        assert_eq!((error.code, error.errors[0].field.as_str()), (code, field), "{error}");
    }
    let error = patch(&world, None, json!("text")).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Invalid);
}

/// The MAC address that a device holds for an attachment.
fn held_mac(device: &FakeDevice, id: &str) -> Option<Mac> {
    let held = device.entities();
    held.values().find_map(|entity| match entity.as_ref() {
        Entity::Host(vtep_proto::HostEntity::Attachment(a)) if a.id == id => Some(Mac(a.mac.octets())),
        _ => None,
    })
}

#[tokio::test]
async fn an_attachment_keeps_the_mac_it_was_given_through_changes_moves_and_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("intent.redb");
    let mut world = World::over(topology(), RedbStore::open(&file).unwrap(), fakes()).await;
    world.applied(basics()).await;
    let now = async |world: &World<RedbStore>| match world.controller.get(&a1()).await.unwrap() {
        View::Attachment(a) => a,
        other => panic!("{other:?}"),
    };
    let first = now(&world).await;
    let on_host = |host: &str| attach("a1", "red", host).place;
    let on_port = Place::Port {
        switch: n("leaf1"),
        port: 10.try_into().unwrap(),
        vlan: Some(20),
    };
    // Hosts 1 to 3 are devices 4 to 6.
    let places = [
        (on_host("host1"), Some(4)),
        (on_host("host2"), Some(5)),
        (on_port, None),
        (on_host("host3"), Some(6)),
        (on_host("host1"), Some(4)),
    ];
    for round in 0..3 {
        for (place, device) in &places {
            let mut spec = first.spec.clone();
            spec.place = place.clone();
            spec.port_security = round % 2 == 0;
            world
                .applied(vec![Change::Put(n("v"), Spec::Attachment(spec.clone()))])
                .await;
            // The same change again, and a patch that does not name the MAC address.
            world
                .commit(vec![Change::Put(n("v"), Spec::Attachment(spec))])
                .await
                .unwrap();
            world
                .applied(vec![Change::Patch(a1(), json!({"port_security": round % 2 != 0}))])
                .await;
            let after = now(&world).await;
            assert_eq!(
                (after.mac, after.spec.mac),
                (first.mac, None),
                "round {round}, {place:?}"
            );
            if let Some(device) = device {
                assert_eq!(
                    held_mac(&world.devices[*device], "v/a1"),
                    Some(first.mac),
                    "round {round}, {place:?}"
                );
            }
        }
        let devices = world.devices.clone();
        drop(world);
        world = World::over(topology(), reopened(&file).await, devices).await;
        assert_eq!(now(&world).await.mac, first.mac, "after restart {round}");
    }
}

#[tokio::test]
async fn a_change_is_made_to_what_its_caller_saw() {
    let world = bare().await;
    let seen = world.get(&a1()).await.unwrap().revision();
    let changed = patch(&world, Some(seen), json!({"port_security": false}))
        .await
        .unwrap();
    assert_eq!(world.get(&a1()).await.unwrap().revision(), changed.revision);
    let stale = patch(&world, Some(seen), json!({"port_security": true}))
        .await
        .unwrap_err();
    assert_eq!(stale.code, ErrorCode::PreconditionFailed);
    assert!(
        stale.detail.contains(&format!("is at revision {}", changed.revision)),
        "{stale}"
    );
    // A change of another object does not change this object's revision.
    let other = Key::new(n("v"), Kind::Attachment, n("a3"));
    let other = Change::Patch(other, json!({"port_security": false}));
    world.commit(Transaction::one(other, Default::default())).await.unwrap();
    patch(&world, Some(changed.revision), json!({"port_security": true}))
        .await
        .unwrap();
}

#[tokio::test]
async fn of_changes_that_saw_the_same_one_wins_also_in_a_group() {
    let world = bare().await;
    let seen = world.get(&a1()).await.unwrap().revision();
    let patches = (0..8).map(|i| patch(&world, Some(seen), json!({"ips": [format!("10.1.0.{}", 100 + i)]})));
    let results = futures::future::join_all(patches).await;
    let won = results.iter().filter(|r| r.is_ok()).count();
    assert_eq!(won, 1, "{results:?}");
}

#[tokio::test]
async fn objects_keep_their_revisions_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("intent.redb");
    let load = || Controller::load(topology(), RedbStore::open(&file).unwrap(), Arc::new(FabricRender));
    let world = load().await.unwrap();
    let changes = basics().into_iter().map(|c| (String::new(), c)).collect();
    let basics = Transaction {
        changes,
        ..Transaction::default()
    };
    world.commit(basics).await.unwrap();
    let change = Change::Patch(a1(), json!({"port_security": false}));
    let changed = world
        .commit(Transaction::one(change, Default::default()))
        .await
        .unwrap();
    let other = Key::new(n("v"), Kind::Network, n("red"));
    let of_other = world.get(&other).await.unwrap().revision();
    drop(world);
    let world = load().await.unwrap();
    assert_eq!(world.get(&a1()).await.unwrap().revision(), changed.revision);
    assert_eq!(world.get(&other).await.unwrap().revision(), of_other);
    assert_ne!(of_other, changed.revision);
}
