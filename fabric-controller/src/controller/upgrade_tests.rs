//! A store from before there was an inventory.

use std::fmt::Write as _;

use vfabric_api::intent::Place;

use super::tests::*;

/// Rows of the store, and what each device should hold.
async fn dump<S: Store>(world: &World<S>) -> String {
    let rows = std::sync::Mutex::new(String::new());
    let mut visit = |key: &[u8], value: &Versioned| {
        let (key, value) = (String::from_utf8_lossy(key), String::from_utf8_lossy(&value.value));
        writeln!(rows.lock().unwrap(), "row\t{key}\t{value}").unwrap();
        std::ops::ControlFlow::Continue(())
    };
    world.controller.store.scan(b"", &mut visit).await.unwrap();
    let mut text = rows.into_inner().unwrap();
    for device in ["spine1", "spine2", "leaf1", "leaf2", "host1", "host2", "host3"] {
        for e in world.controller.entities(&n(device)).await.unwrap() {
            writeln!(text, "holds\t{device}\t{}\t{}\t{}", e.table, e.key, e.action).unwrap();
        }
    }
    text
}

#[tokio::test]
#[ignore = "only to make the fixture"]
async fn make_the_fixture() {
    let world = World::over(topology(), MemoryStore::default(), fakes()).await;
    world.applied(basics()).await;
    let mut bare = attach("a4", "red", "host2");
    bare.place = Place::Port {
        switch: n("leaf1"),
        port: 10.try_into().unwrap(),
        vlan: Some(7),
    };
    let mut other = attach("a5", "blue", "host2");
    other.place = Place::Port {
        switch: n("leaf2"),
        port: 10.try_into().unwrap(),
        vlan: None,
    };
    world
        .applied(vec![create(bare), create(other), create(attach("a2", "blue", "host2"))])
        .await;
    // What a host that is away may still hold.
    world.devices[5].go_offline();
    world.commit(vec![delete(Kind::Attachment, "a2")]).await.unwrap();
    print!("{}", dump(&world).await);
}

const BEFORE: &str = include_str!("../../tests/data/before-inventory.txt");

/// A store with the rows of the fixture.
async fn stored() -> MemoryStore {
    let rows = BEFORE.lines().filter_map(|l| l.strip_prefix("row\t"));
    let ops = rows.map(|row| {
        let (key, value) = row.split_once('\t').unwrap();
        crate::store::Op::Put(key.into(), value.into())
    });
    let store = MemoryStore::default();
    let compares = Vec::new();
    let transaction = crate::store::StoreTransaction {
        compares,
        ops: ops.collect(),
        ..crate::store::StoreTransaction::default()
    };
    store.commit(transaction).await.unwrap();
    store
}

fn lines<'a>(text: &'a str, what: &str) -> Vec<&'a str> {
    text.lines().filter(|l| l.starts_with(what)).collect()
}

/// An entity as text of the pipeline of that time, which made no ICMP errors and had no storm control; none if it is
/// for one of these.
fn as_before(line: &str) -> Option<String> {
    let is_new = ["\ticmp_source_", "\tflood_rate\t"]
        .iter()
        .any(|new| line.contains(new))
        || line.ends_with("\trefuse_broadcast()");
    (!is_new).then(|| line.replace(", mtu 1500)", ")"))
}

#[tokio::test]
async fn an_upgrade_keeps_every_number_that_devices_hold() {
    let world = World::over(topology(), stored().await, fakes()).await;
    let after = dump(&world).await;
    let held: Vec<String> = lines(&after, "holds").into_iter().filter_map(as_before).collect();
    assert_eq!(held, lines(BEFORE, "holds"));
    // The old objects are stored unchanged, beside the inventory.
    let rows = lines(&after, "row");
    let (inventory, others): (Vec<&str>, Vec<&str>) = rows.into_iter().partition(|l| l.starts_with("row\tinventory/"));
    let of = |l: &&str| !l.starts_with("row\tuid");
    let (before, others): (Vec<_>, Vec<_>) = (
        lines(BEFORE, "row").into_iter().filter(of).collect(),
        others.into_iter().filter(of).collect(),
    );
    assert_eq!(others, before);
    // Settings, four switches, three hosts, four links, the next handles.
    assert_eq!(inventory.len(), 13, "{inventory:?}");
    // The next start finds the inventory, and needs no file.
    let copy = MemoryStore::default();
    let ops = lines(&after, "row").into_iter().map(|l| {
        let (key, value) = l.strip_prefix("row\t").unwrap().split_once('\t').unwrap();
        crate::store::Op::Put(key.into(), value.into())
    });
    let transaction = crate::store::StoreTransaction {
        compares: Vec::new(),
        ops: ops.collect(),
        ..crate::store::StoreTransaction::default()
    };
    copy.commit(transaction).await.unwrap();
    let again = World::over(super::Start::default(), copy, fakes()).await;
    assert_eq!(dump(&again).await, after);
}
