//! A store of before there was an inventory.

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
    world.applied(vec![create(bare), create(other), create(attach("a2", "blue", "host2"))]).await;
    // What a host that is away may still hold.
    world.devices[5].go_offline();
    world.commit(vec![delete(Kind::Attachment, "a2")]).await.unwrap();
    print!("{}", dump(&world).await);
}
