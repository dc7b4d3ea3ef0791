//! The inventory at a start: a topology file that differs from the store, the state after a restart, rows that cannot
//! be loaded.

use vfabric_api::inventory::{InventoryChange, Item, ItemState};
use vfabric_api::service::Transaction;
use vfabric_api::status::Progress;

use super::Start;
use super::inventory_tests::{busy, gone, host, host_key, import, put, remove, switch_key};
use super::tests::*;

/// The store of a controller that was dropped, with a topology or none.
async fn again(world: World<RedbStore>, file: &std::path::Path, start: impl Into<Start>) -> World<RedbStore> {
    let devices = world.devices.clone();
    drop(world);
    World::over(start, reopened(file).await, devices).await
}

#[tokio::test]
async fn a_topology_file_is_imported_once_and_then_only_when_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("intent.redb");
    let world = busy(topology(), RedbStore::open(&file).unwrap()).await;
    let mut other = topology();
    other.hosts.remove(1);
    other.hosts.push(host("host9", "leaf2", 9, 9));
    other.fabric.mtu = 9000;
    // Without an import, the stored inventory is used.
    let world = again(world, &file, other.clone()).await;
    assert_eq!(world.inventory().await.topology(), topology());
    world.quiet().await;
    // What an import would change.
    let dry = Transaction {
        changes: vec![(String::new(), import(&other))],
        dry_run: true,
        ..Transaction::default()
    };
    let said = world.controller.commit(dry).await.unwrap().inventory;
    let said: Vec<String> = said.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        ["- host `host2`", "~ fabric\n    mtu: 9216 -> 9000", "+ host `host9`"]
    );
    assert_eq!(world.inventory().await.topology(), topology());
    // With an import.
    let start = Start {
        topology: Some(other.clone()),
        import: true,
        ..Start::default()
    };
    let world = again(world, &file, start).await;
    world.quiet().await;
    assert_eq!(world.inventory().await.topology(), other);
    world.left(&host_key("host2")).await;
    // Without a file: as it was.
    let world = again(world, &file, Start::default()).await;
    world.quiet().await;
    assert_eq!(world.inventory().await.topology(), other);
    assert!(
        world
            .controller
            .get(&Key::new(n("v"), Kind::Attachment, n("a1")))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_restart_goes_on_with_what_leaves_and_keeps_out_what_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("intent.redb");
    let world = busy(topology(), RedbStore::open(&file).unwrap()).await;
    world.devices[1].go_offline();
    world.devices[6].go_offline();
    world
        .commit(vec![
            remove(host_key("host2"), false),
            gone(host_key("host3")),
            Change::Inventory(InventoryChange::Drain(switch_key("spine1"))),
        ])
        .await
        .unwrap();
    let leaf2 = world.devices[3].clone();
    world.settled(3).await;
    let held = leaf2.entities();
    let world = again(world, &file, Start::default()).await;
    world.settled(3).await;
    assert_eq!(leaf2.entities(), held);
    let states: Vec<ItemState> = world.inventory().await.hosts.iter().map(|h| h.state).collect();
    assert_eq!(states, [ItemState::InService, ItemState::Leaving, ItemState::Gone]);
    assert_eq!(world.inventory().await.switches[0].state, ItemState::Drained);
    // Its attachment is on no device, and says why.
    let a3 = Key::new(n("v"), Kind::Attachment, n("a3"));
    let vfabric_api::status::View::Attachment(a3) = world.controller.get(&a3).await.unwrap() else {
        panic!("a3 is an attachment")
    };
    assert_eq!(a3.applied.progress, Progress::Pending);
    assert_eq!(a3.applied.waiting[0].reason, "is gone");
    world.devices[1].go_online();
    world.left(&host_key("host2")).await;
    let uids: Vec<u64> = world.inventory().await.hosts.iter().map(|h| h.uid).collect();
    world.added(Item::Host(host("host2", "leaf1", 4, 2))).await;
    let new = world.host_item("host2").await.unwrap();
    assert!(uids.iter().all(|uid| *uid < new.uid), "an identity was given twice");
}

#[tokio::test]
async fn a_bad_row_is_set_aside_and_named_and_its_number_kept() {
    let store = MemoryStore::default();
    let world = World::over(topology(), store, fakes()).await;
    world.applied(basics()).await;
    let rows = std::sync::Mutex::new(Vec::new());
    let mut visit = |key: &[u8], value: &Versioned| {
        rows.lock().unwrap().push((key.to_vec(), value.value.clone()));
        std::ops::ControlFlow::Continue(())
    };
    world.controller.store.scan(b"", &mut visit).await.unwrap();
    let store = MemoryStore::default();
    let broken = rows.into_inner().unwrap().into_iter().map(|(key, value)| {
        let bad = key == b"inventory/1/leaf2".as_slice();
        crate::store::Op::Put(key, if bad { b"{".to_vec() } else { value })
    });
    let transaction = crate::store::StoreTransaction {
        compares: Vec::new(),
        ops: broken.collect(),
        ..crate::store::StoreTransaction::default()
    };
    store.commit(transaction).await.unwrap();
    let world = World::over(Start::default(), store, fakes()).await;
    let aside = world.inventory().await.set_aside;
    let keys: Vec<&str> = aside.iter().map(|a| a.object.as_str()).collect();
    // The leaf, and the objects that depend on it.
    assert!(
        keys.contains(&"row `inventory/1/leaf2`") && keys.contains(&"row `inventory/2/host3`"),
        "{keys:?}"
    );
    assert!(
        keys.contains(&"attachment `a3` of vdc `v`") && !keys.contains(&"attachment `a1` of vdc `v`"),
        "{keys:?}"
    );
    assert_eq!(world.inventory().await.switches.len(), 3);
    world.applied(vec![create(attach("a2", "red", "host2"))]).await;
}

#[tokio::test]
async fn a_number_space_that_is_used_up_is_named() {
    let world = busy(topology(), MemoryStore::default()).await;
    world.controller.state.lock().await.model.limit_vteps(3, 7);
    let said = world
        .refused(
            vec![put(Item::Host(host("host9", "leaf1", 9, 9)))],
            ErrorCode::Exhausted,
        )
        .await;
    assert_eq!(
        said,
        "host `host9` cannot be added: all 5 numbers of VTEPs are in use or wait for devices to let go of them"
    );
    let mut settings = topology().fabric;
    (settings.vni_pool.first, settings.vni_pool.last) = (10_000.try_into().unwrap(), 10_002.try_into().unwrap());
    world.applied(vec![put(Item::Fabric(settings))]).await;
    let said = world
        .refused(vec![network("more", "10.7.0.0/24")], ErrorCode::Exhausted)
        .await;
    let expected = "network `more` of vdc `v` cannot be added: each of the 3 VNIs of the pool (10000 to 10002)";
    assert!(said.starts_with(expected), "{said}");
}

#[tokio::test]
async fn settings_that_tenants_rely_on_stay() {
    let world = busy(topology(), MemoryStore::default()).await;
    let with = |change: fn(&mut vfabric_api::topology::Fabric)| {
        let mut settings = topology().fabric;
        change(&mut settings);
        put(Item::Fabric(settings))
    };
    for (change, field) in [
        (with(|f| f.gateway_mac.0[5] = 9), "gateway_mac"),
        (
            with(|f| f.vxlan_underlay = vfabric_api::topology::IpFamily::Ipv6),
            "vxlan_underlay",
        ),
        (with(|f| f.mtu = 1500), "mtu"),
    ] {
        let said = world.refused(vec![change], ErrorCode::InUse).await;
        assert!(said.contains(field), "{said}");
    }
    let revision = world.commit(vec![with(|f| f.name = n("other"))]).await.unwrap();
    let applied = world.controller.wait_applied(revision, PATIENCE).await;
    assert_eq!(applied.progress, Progress::Applied);
    assert_eq!(world.controller.fabric().await.name, n("other"));
}
