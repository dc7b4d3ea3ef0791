//! Released numbers are allocated again as soon as the devices that held them have confirmed, and not before.

use vfabric_api::status::{Progress, View};

use super::tests::*;

/// A fabric with one VNI.
fn small() -> Topology {
    let mut small = topology();
    (small.fabric.vni_pool.first, small.fabric.vni_pool.last) = (10.try_into().unwrap(), 10.try_into().unwrap());
    small
}

fn red() -> Vec<Change> {
    let vdc = Spec::Vdc(VdcSpec::new(n("v")));
    vec![
        Change::Create(n("v"), vdc),
        network("red", "10.1.0.0/24"),
        create(attach("a", "red", "host1")),
        create(attach("b", "red", "host2")),
    ]
}

fn blue() -> Vec<Change> {
    vec![network("blue", "10.1.0.0/24")]
}

/// Index of a host among the devices.
const HOST1: usize = 4;
const HOST3: usize = 6;

impl<S: Store> World<S> {
    async fn refused_for_now(&self, changes: Vec<Change>) {
        let error = self.commit(changes).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::Exhausted, "{error}");
    }

    async fn accepted_soon(&self, changes: impl Fn() -> Vec<Change>) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while let Err(error) = self.commit(changes()).await {
            assert!(tokio::time::Instant::now() < deadline, "{error}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn ip(&self, name: &str) -> std::net::IpAddr {
        let key = Key::new(n("v"), Kind::Attachment, n(name));
        match self.controller.get(&key).await.unwrap() {
            View::Attachment(a) => a.ips[0],
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_vni_waits_for_the_devices_that_held_it_and_for_no_other() {
    let mut small = topology();
    (small.fabric.vni_pool.first, small.fabric.vni_pool.last) = (10.try_into().unwrap(), 10.try_into().unwrap());
    let world = World::over(small, MemoryStore::default(), fakes()).await;
    let vdc = Spec::Vdc(VdcSpec::new(n("v")));
    world
        .applied(vec![
            Change::Create(n("v"), vdc),
            network("red", "10.1.0.0/24"),
            create(attach("a", "red", "host1")),
        ])
        .await;
    for device in 0..7 {
        world.settled(device).await;
    }
    let next = || network("blue", "10.1.0.0/24");
    let error = world.commit(vec![next()]).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Exhausted, "{error}");
    // Host 1 held it, host 3 never did.
    world.devices[4].go_offline();
    world.devices[6].go_offline();
    world
        .commit(vec![delete(Kind::Attachment, "a"), delete(Kind::Network, "red")])
        .await
        .unwrap();
    assert_eq!(world.commit(vec![next()]).await.unwrap_err().code, ErrorCode::Exhausted);
    world.devices[4].go_online();
    world.settled(4).await;
    world.settled(2).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while let Err(error) = world.commit(vec![next()]).await {
        assert!(tokio::time::Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_network_without_attachments_gives_its_vni_back_at_once() {
    let world = World::over(small(), MemoryStore::default(), fakes()).await;
    world.devices.iter().for_each(FakeDevice::go_offline);
    world.commit(red().into_iter().take(2).collect()).await.unwrap();
    world.commit(vec![delete(Kind::Network, "red")]).await.unwrap();
    world.commit(blue()).await.unwrap();
}

#[tokio::test]
async fn after_a_restart_only_devices_that_may_hold_a_vni_are_waited_for() {
    // The network goes before the restart, or after it.
    for network_goes_first in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("intent.redb");
        let world = World::over(small(), RedbStore::open(&file).unwrap(), fakes()).await;
        world.applied(red()).await;
        world.settled(HOST1).await;
        world.devices[HOST1].go_offline();
        world.devices[HOST3].go_offline();
        let goes = || vec![delete(Kind::Network, "red")];
        world
            .commit(vec![delete(Kind::Attachment, "a"), delete(Kind::Attachment, "b")])
            .await
            .unwrap();
        if network_goes_first {
            world.commit(goes()).await.unwrap();
        }
        let devices = world.devices.clone();
        drop(world);
        let world = World::over(small(), reopened(&file).await, devices).await;
        if !network_goes_first {
            world.commit(goes()).await.unwrap();
        }
        for device in [0, 1, 2, 3, 5] {
            world.settled(device).await;
        }
        world.refused_for_now(blue()).await;
        // Host 3 never held it and stays away.
        world.devices[HOST1].go_online();
        world.accepted_soon(blue).await;
        assert!(world.devices[HOST1].entities().is_empty(), "given out while it is held");
    }
}

#[tokio::test]
async fn an_address_is_not_allocated_while_a_device_may_hold_it_for_somebody_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("intent.redb");
    let world = World::over(topology(), RedbStore::open(&file).unwrap(), fakes()).await;
    world.applied(red()).await;
    let (a, b) = (world.ip("a").await, world.ip("b").await);
    world.devices[HOST1].go_offline();
    // Host 1 still sends what is for b to host 2.
    world.commit(vec![delete(Kind::Attachment, "b")]).await.unwrap();
    world.commit(vec![create(attach("c", "red", "host3"))]).await.unwrap();
    let c = world.ip("c").await;
    assert!(c != a && c != b, "{b} was allocated again");
    let devices = world.devices.clone();
    drop(world);
    let world = World::over(topology(), reopened(&file).await, devices).await;
    world.settled(HOST3).await;
    world.commit(vec![create(attach("d", "red", "host3"))]).await.unwrap();
    assert_ne!(world.ip("d").await, b, "{b} was allocated again after a restart");
    // A user who names it gets it once host 1 has released it; until then, no device gets any of it.
    let mut asked = attach("e", "red", "host3");
    asked.ips = vec![b];
    let revision = world.commit(vec![create(asked)]).await.unwrap();
    let waits = world.controller.wait_applied(revision, Duration::ZERO).await;
    assert_eq!(waits.progress, Progress::Pending);
    let reason = waits.waiting.iter().find(|w| w.device.as_str() == "host1").unwrap();
    let expected = format!("attachment v/e waits until the former use of address {b} is removed");
    assert_eq!(reason.reason, expected);
    let holds = |device: usize| {
        world.devices[device]
            .entities()
            .iter()
            .any(|e| format!("{e:?}").contains("\"v/e\""))
    };
    assert!(!holds(HOST3), "host 3 got it while host 1 holds its address for b");
    world.devices[HOST1].go_online();
    let applied = world.controller.wait_applied(revision, PATIENCE).await;
    assert_eq!(applied.progress, Progress::Applied, "{:?}", applied.waiting);
    assert!(holds(HOST3));
}

#[tokio::test]
async fn the_store_forgets_what_is_over() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("intent.redb");
    let world = World::over(topology(), RedbStore::open(&file).unwrap(), fakes()).await;
    let rows = || async {
        let mut count = 0;
        let mut visit = |_: &[u8], _: &Versioned| {
            count += 1;
            std::ops::ControlFlow::Continue(())
        };
        world.controller.store.scan(b"rest/", &mut visit).await.unwrap();
        count
    };
    world.applied(red()).await;
    assert_eq!(rows().await, 0);
    world.applied(vec![delete(Kind::Attachment, "a")]).await;
    assert!(rows().await > 0, "a restart now would not know who held it");
    for device in 0..7 {
        world.settled(device).await;
    }
    let wait = |i: u32| vec![network(&format!("n{i}"), "10.7.0.0/24")];
    let deadline = tokio::time::Instant::now() + PATIENCE;
    for i in 0.. {
        world.commit(wait(i)).await.unwrap();
        if rows().await == 0 {
            break;
        }
        assert!(
            tokio::time::Instant::now() < deadline,
            "{} rows stay for ever",
            rows().await
        );
    }
}

/// A file that the last version of format 3 wrote: `red` with `a` on host 1; `b` on host 2 was deleted, and no device has
/// confirmed anything.
fn format_3(dir: &std::path::Path) -> std::path::PathBuf {
    let file = dir.join("intent.redb");
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/schema-3.redb");
    std::fs::copy(fixture, &file).unwrap();
    file
}

#[tokio::test]
async fn numbers_in_quarantine_of_a_store_of_format_3_stay_there_until_devices_have_confirmed() {
    let dir = tempfile::tempdir().unwrap();
    let file = format_3(dir.path());
    let devices = fakes();
    devices[HOST1].go_offline();
    let world = World::over(topology(), RedbStore::open(&file).unwrap(), devices).await;
    let rows = || async {
        let mut keys = Vec::new();
        let mut visit = |key: &[u8], _: &Versioned| {
            keys.push(String::from_utf8_lossy(key).into_owned());
            std::ops::ControlFlow::Continue(())
        };
        world.controller.store.scan(b"rest/", &mut visit).await.unwrap();
        keys
    };
    let old = r#"rest/{"ip":[13,"10.1.0.3"]}"#;
    assert!(rows().await.iter().any(|key| key == old), "{:?}", rows().await);
    let mut asked = attach("e", "red", "host3");
    asked.ips = vec!["10.1.0.3".parse().unwrap()];
    let revision = world.commit(vec![create(asked)]).await.unwrap();
    let waits = world.controller.wait_applied(revision, Duration::ZERO).await;
    assert_eq!(waits.progress, Progress::Pending);
    let reason = "attachment v/e waits until the former use of address 10.1.0.3 is removed";
    assert!(waits.waiting.iter().any(|w| w.reason == reason), "{:?}", waits.waiting);
    world.devices[HOST1].go_online();
    let applied = world.controller.wait_applied(revision, PATIENCE).await;
    assert_eq!(applied.progress, Progress::Applied, "{:?}", applied.waiting);
    assert!(!rows().await.iter().any(|key| key == old), "it is over");
    // What is left behind now is named by its revision.
    let revision = world.commit(vec![delete(Kind::Attachment, "e")]).await.unwrap();
    let new = format!("rest/{revision:016x}/");
    assert!(
        rows().await.iter().any(|key| key.starts_with(&new)),
        "{:?}",
        rows().await
    );
}
