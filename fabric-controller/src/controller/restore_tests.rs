//! Starts over stores of an older format, and with rows that cannot be loaded.

use vfabric_api::intent::Place;
use vfabric_api::status::{Progress, View};

use super::Start;
use super::tests::*;
use crate::store::{Op, StoreTransaction};

/// A store of format 1, as the version before wrote it; host 1 was away.
async fn format_1(dir: &std::path::Path) -> World<RedbStore> {
    let file = dir.join("intent.redb");
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/schema-1.redb");
    std::fs::copy(fixture, &file).unwrap();
    World::over(topology(), RedbStore::open(&file).unwrap(), fakes()).await
}

#[tokio::test]
async fn a_store_of_format_1_means_what_it_meant() {
    let dir = tempfile::tempdir().unwrap();
    let world = format_1(dir.path()).await;
    let fabric = world.controller.fabric().await;
    assert_eq!(
        (fabric.vdcs, fabric.networks, fabric.routers, fabric.attachments),
        (1, 2, 1, 4)
    );
    assert_eq!(fabric.set_aside, []);
    let p1 = world
        .controller
        .get(&Key::new(n("v"), Kind::Attachment, n("p1")))
        .await
        .unwrap();
    let View::Attachment(p1) = p1 else { panic!("{p1:?}") };
    assert_eq!(
        (p1.mac.to_string().as_str(), p1.ips[0].to_string().as_str()),
        ("02:0e:1f:7c:0c:ee", "10.1.0.3")
    );
    // It waited for an address that another attachment had on host 1, and still waits for it.
    let w = Key::new(n("v"), Kind::Attachment, n("w"));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let View::Attachment(w) = world.controller.get(&w).await.unwrap() else {
            panic!()
        };
        if w.applied.progress == Progress::Applied {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{w:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for device in 0..7 {
        world.settled(device).await;
    }
}

/// Starts a controller over a store in which one bit of each of these rows was flipped.
async fn damaged(dir: &std::path::Path, keys: &[&str]) -> World<RedbStore> {
    let file = dir.join("intent.redb");
    let world = World::over(topology(), RedbStore::open(&file).unwrap(), fakes()).await;
    world.applied(basics()).await;
    world.applied(vec![at_port("p")]).await;
    let devices = world.devices.clone();
    drop(world);
    drop(reopened(&file).await);
    for key in keys {
        crate::store::flip(&file, key.as_bytes());
    }
    World::over(topology(), reopened(&file).await, devices).await
}

fn at_port(name: &str) -> Change {
    let mut spec = attach(name, "red", "host1");
    spec.place = Place::Port {
        switch: n("leaf1"),
        port: 10.try_into().unwrap(),
        vlan: Some(20),
    };
    create(spec)
}

#[tokio::test]
async fn a_damaged_object_is_set_aside_and_named_and_its_numbers_are_nobody_elses() {
    let dir = tempfile::tempdir().unwrap();
    let world = damaged(dir.path(), &["object/3/v/p"]).await;
    let fabric = world.controller.fabric().await;
    let [aside] = fabric.set_aside.as_slice() else {
        panic!("{:?}", fabric.set_aside)
    };
    assert_eq!(
        (aside.object.as_str(), aside.reason.as_str()),
        ("attachment `p` of vdc `v`", "its checksum is wrong")
    );
    assert_eq!(
        (fabric.attachments, fabric.networks),
        (2, 2),
        "the other rows are loaded"
    );
    let health = world.controller.health().await.unwrap();
    assert!(
        health[0].contains("set aside: 1") && !health[0].contains("`p`"),
        "{health:?}"
    );
    let error = world.commit(vec![at_port("q")]).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Taken, "{error}");
    let error = world.commit(vec![at_port("p")]).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::InUse, "{error}");
    assert!(error.to_string().contains("set aside"), "{error}");
    // Deleted, it is forgotten for good.
    world.applied(vec![delete(Kind::Attachment, "p")]).await;
    assert_eq!(world.controller.fabric().await.set_aside, []);
    let devices = world.devices.clone();
    drop(world);
    let world = World::over(topology(), reopened(&dir.path().join("intent.redb")).await, devices).await;
    assert_eq!(world.controller.fabric().await.set_aside, []);
    world.applied(vec![at_port("p")]).await;
}

#[tokio::test]
async fn what_needs_an_object_that_was_set_aside_is_set_aside_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let world = damaged(dir.path(), &["object/1/v/red", "uid"]).await;
    let fabric = world.controller.fabric().await;
    let mut named: Vec<&str> = fabric.set_aside.iter().map(|a| a.object.as_str()).collect();
    named.sort_unstable();
    let expected = [
        "attachment `a1` of vdc `v`",
        "attachment `p` of vdc `v`",
        "network `red` of vdc `v`",
        "router `r` of vdc `v`",
        "row `uid`",
    ];
    assert_eq!(named, expected);
    let vni = |name: &str| {
        let (controller, key) = (Arc::clone(&world.controller), Key::new(n("v"), Kind::Network, n(name)));
        async move {
            match controller.get(&key).await.unwrap() {
                View::Network(network) => network.vni.get(),
                other => panic!("{other:?}"),
            }
        }
    };
    world.applied(vec![network("green", "10.1.0.0/24")]).await;
    assert!(
        ![10_000, 10_002, vni("blue").await].contains(&vni("green").await),
        "it has the VNI of another"
    );
    world.applied(vec![create(attach("g", "green", "host1"))]).await;
}

#[tokio::test]
async fn an_object_on_a_host_that_cannot_be_loaded_is_set_aside_until_the_host_is_back() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("intent.redb");
    let world = World::over(topology(), RedbStore::open(&file).unwrap(), fakes()).await;
    world.applied(basics()).await;
    let a3 = Key::new(n("v"), Kind::Attachment, n("a3"));
    let spec = |view| match view {
        View::Attachment(a) => (a.spec, a.mac, a.ips),
        other => panic!("{other:?}"),
    };
    let before = spec(world.controller.get(&a3).await.unwrap());
    let devices = world.devices.clone();
    drop(world);
    let store = reopened(&file).await;
    let host3 = b"inventory/2/host3";
    let row = store.get(host3).await.unwrap().unwrap().value;
    let put = |value: &[u8]| StoreTransaction {
        compares: Vec::new(),
        ops: vec![Op::Put(host3.to_vec(), value.to_vec())],
        ..StoreTransaction::default()
    };
    store.commit(put(b"{}")).await.unwrap();
    let world = World::over(Start::default(), store, devices[..6].to_vec()).await;
    let fabric = world.controller.fabric().await;
    let [host, aside] = fabric.set_aside.as_slice() else {
        panic!("{:?}", fabric.set_aside)
    };
    assert_eq!(host.object, "row `inventory/2/host3`");
    assert_eq!(aside.object, "attachment `a3` of vdc `v`");
    assert_eq!(fabric.attachments, 1);
    // Its address, in a network that exists, is given to nobody else.
    let mut same = attach("other", "blue", "host1");
    same.ips.clone_from(&before.2);
    assert_eq!(
        world.commit(vec![create(same)]).await.unwrap_err().code,
        ErrorCode::Taken
    );
    drop(world);
    let store = reopened(&file).await;
    store.commit(put(&row)).await.unwrap();
    let world = World::over(Start::default(), store, devices).await;
    assert_eq!(world.controller.fabric().await.set_aside, []);
    assert_eq!(spec(world.controller.get(&a3).await.unwrap()), before);
    for device in 0..7 {
        world.settled(device).await;
    }
}
