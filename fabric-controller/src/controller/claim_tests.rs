//! A controller with an empty or another store leaves a fabric as it is.

use super::Start;
use super::tests::*;
use crate::device::claim::Claim;
use vfabric_api::status::DeviceState;

/// Places in the topology of tests.
const LEAF1: usize = 2;
const HOST1: usize = 4;

/// More entities on each device than another store's controller deletes without being asked.
async fn fill(world: &World<MemoryStore>) {
    world.applied(basics()).await;
    for host in ["host1", "host2", "host3"] {
        let names = (0..10).map(|i| format!("{host}-{i}"));
        let attachments = names.map(|name| create(attach(&name, "red", host)));
        world.applied(attachments.collect()).await;
    }
    for device in 0..7 {
        world.settled(device).await;
    }
}

async fn over(store: &MemoryStore, number: u32, adopt: bool, devices: &[FakeDevice]) -> World<MemoryStore> {
    let start = Start {
        claim: Arc::new(Claim::new(number, adopt)),
        ..topology().into()
    };
    World::over(start, store.clone(), devices.to_vec()).await
}

fn writes(devices: &[FakeDevice]) -> Vec<u64> {
    devices.iter().map(FakeDevice::writes).collect()
}

#[tokio::test(start_paused = true)]
async fn an_empty_store_takes_over_nothing_until_it_is_to_adopt() {
    let (devices, full) = (fakes(), MemoryStore::default());
    let world = over(&full, 1, false, &devices).await;
    fill(&world).await;
    world.controller.shut_down().await;
    drop(world);
    let (before, held) = (writes(&devices), devices[LEAF1].entities());

    let empty = MemoryStore::default();
    let world = over(&empty, 2, false, &devices).await;
    for at in [LEAF1, HOST1] {
        let device = &world.controller.devices()[at];
        let deadline = tokio::time::Instant::now() + 6 * PATIENCE;
        while device.numbers().connects < 3 {
            assert!(tokio::time::Instant::now() < deadline, "{:?}", device.status());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    let connects = world.controller.devices()[LEAF1].numbers().connects;
    assert!(connects < 40, "{connects} sessions in two minutes are a storm");
    let now = writes(&devices);
    assert_eq!(
        (now[LEAF1], now[HOST1]),
        (before[LEAF1], before[HOST1]),
        "leaf1 and host1 were written to"
    );
    assert_eq!(devices[LEAF1].entities(), held);
    let status = world.controller.devices()[LEAF1].status();
    assert_eq!(status.state, DeviceState::Disconnected);
    let said = status.last_error.unwrap();
    assert!(
        said.contains("kept by another store") && said.contains("--adopt"),
        "{said}"
    );
    let refused = world.commit(basics()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unavailable);
    assert!(refused.detail.contains("leaf1"), "{refused:?}");
    world.controller.shut_down().await;
    drop(world);

    // The right store finds everything as it was.
    let world = over(&full, 1, false, &devices).await;
    for device in 0..7 {
        world.settled(device).await;
    }
    assert_eq!(
        devices[LEAF1].writes(),
        before[LEAF1],
        "the right store had to write to leaf1"
    );
    world.controller.shut_down().await;
    drop(world);

    let world = over(&MemoryStore::default(), 3, true, &devices).await;
    for device in 0..7 {
        world.settled(device).await;
    }
    assert!(devices[HOST1].entities().is_empty(), "host1 was not taken over");
    world.applied(basics()).await;
}

/// Entities that were deleted while a device was away are removed from it, however many there are.
#[tokio::test(start_paused = true)]
async fn the_store_that_keeps_a_device_may_delete_all() {
    let (devices, store) = (fakes(), MemoryStore::default());
    let world = over(&store, 1, false, &devices).await;
    fill(&world).await;
    devices[HOST1].go_offline();
    let gone = (0..10).map(|i| delete(Kind::Attachment, &format!("host1-{i}")));
    world
        .commit(gone.chain([delete(Kind::Attachment, "a1")]).collect())
        .await
        .unwrap();
    world.controller.shut_down().await;
    drop(world);
    devices[HOST1].go_online();
    let world = over(&store, 1, false, &devices).await;
    world.settled(HOST1).await;
    assert!(devices[HOST1].entities().is_empty(), "host1 keeps what is gone");
}

/// A copy of the store from before the last changes would undo them on every device.
#[tokio::test(start_paused = true)]
async fn an_older_copy_of_the_right_store_changes_no_host_until_it_is_to_adopt() {
    let (devices, store) = (fakes(), MemoryStore::default());
    let world = over(&store, 1, false, &devices).await;
    fill(&world).await;
    let copy = store.copy();
    world.applied(vec![create(attach("late", "red", "host1"))]).await;
    world.settled(HOST1).await;
    world.controller.shut_down().await;
    drop(world);
    let held = devices[HOST1].entities();

    let world = over(&copy, 1, false, &devices).await;
    let device = &world.controller.devices()[HOST1];
    let deadline = tokio::time::Instant::now() + 6 * PATIENCE;
    while device.numbers().connects < 3 {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", device.status());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(devices[HOST1].entities(), held, "host1 was written to");
    let said = device.status().last_error.unwrap();
    assert!(said.contains("older copy") && said.contains("--adopt"), "{said}");
    world.controller.shut_down().await;
    drop(world);

    let world = over(&copy, 1, true, &devices).await;
    world.settled(HOST1).await;
    assert!(
        devices[HOST1].entities().len() < held.len(),
        "host1 holds what the copy does not have"
    );
}

/// As the test before, with switches. What they hold counts for the whole fabric: numbers that the copy would allocate
/// may be in use there.
#[tokio::test(start_paused = true)]
async fn an_older_copy_of_the_right_store_changes_no_switch_until_it_is_to_adopt() {
    let (devices, store) = (fakes(), MemoryStore::default());
    let world = over(&store, 1, false, &devices).await;
    fill(&world).await;
    let copy = store.copy();
    let late = (0..3).map(|i| create(attach(&format!("late{i}"), "red", "host1")));
    world.applied(late.collect()).await;
    world.settled(LEAF1).await;
    world.controller.shut_down().await;
    drop(world);
    let (before, held) = (devices[LEAF1].writes(), devices[LEAF1].entities());

    let world = over(&copy, 1, false, &devices).await;
    let device = &world.controller.devices()[LEAF1];
    let deadline = tokio::time::Instant::now() + 6 * PATIENCE;
    while device.numbers().connects < 3 {
        assert!(tokio::time::Instant::now() < deadline, "{:?}", device.status());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(
        (devices[LEAF1].writes(), devices[LEAF1].entities()),
        (before, held.clone())
    );
    let said = device.status().last_error.unwrap();
    assert!(said.contains("older copy") && said.contains("--adopt"), "{said}");
    let refused = world.commit(vec![delete(Kind::Attachment, "a1")]).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::Unavailable);
    assert!(refused.detail.contains("leaf1"), "{refused:?}");
    world.controller.shut_down().await;
    drop(world);

    let world = over(&copy, 1, true, &devices).await;
    world.settled(LEAF1).await;
    assert!(
        devices[LEAF1].entities().len() < held.len(),
        "leaf1 holds what the copy does not have"
    );
    world.commit(vec![delete(Kind::Attachment, "a1")]).await.unwrap();
}
