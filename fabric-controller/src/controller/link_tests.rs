//! Links over fake devices with cables: rerouted around, restored, remembered.

use vfabric_api::status::{LinkFault, LinkStatus};

use super::tests::*;

pub(super) fn port(n: u16) -> vfabric_api::ident::PortId {
    n.try_into().unwrap()
}

/// Cables as the topology says. Devices: spine1, spine2, leaf1, leaf2, hosts.
pub(super) fn cabled() -> Vec<FakeDevice> {
    let devices = fakes();
    for (leaf, at) in [(2, 1), (3, 2)] {
        for (spine, uplink) in [(0, 1), (1, 2)] {
            FakeDevice::cable((&devices[leaf], port(uplink)), (&devices[spine], port(at)));
        }
    }
    devices
}

impl<S: Store> World<S> {
    async fn links(&self) -> Vec<LinkStatus> {
        self.controller.links().await
    }

    /// Waits until exactly these links are down.
    async fn until_down(&self, expected: &[usize]) -> Vec<LinkStatus> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let links = self.links().await;
            let down: Vec<usize> = (0..links.len()).filter(|l| !links[*l].up).collect();
            if down == expected {
                return links;
            }
            assert!(tokio::time::Instant::now() < deadline, "{links:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn all_settled(&self) {
        for device in 0..self.devices.len() {
            self.settled(device).await;
        }
    }

    /// Until probes went over every link in both directions, and the store knows.
    async fn probed(&self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let stored = std::sync::Mutex::new(0);
            let mut visit = |_: &[u8], value: &Versioned| {
                let memory: crate::topology::links::Memory = serde_json::from_slice(&value.value).unwrap();
                *stored.lock().unwrap() += usize::from(memory.probed == [true; 2]);
                std::ops::ControlFlow::Continue(())
            };
            self.controller.store.scan(b"link/", &mut visit).await.unwrap();
            if *stored.lock().unwrap() == 4 {
                return;
            }
            assert!(tokio::time::Instant::now() < deadline, "links are not probed");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn a_link_without_port_states_is_rerouted_around_by_its_probes() {
    let world = World::over(topology(), MemoryStore::default(), cabled()).await;
    world.applied(basics()).await;
    world.probed().await;
    let whole = world.devices[2].entities();
    world.devices[2].uncable(port(1));
    let links = world.until_down(&[0]).await;
    assert_eq!(links[0].fault, Some(LinkFault::Silent));
    let reason = links[0].reason.clone().unwrap();
    assert!(reason.contains("leaf1:1") && reason.contains("spine1:1"), "{reason}");
    world.all_settled().await;
    assert_ne!(world.devices[2].entities(), whole, "leaf1 still uses the link");
    FakeDevice::cable((&world.devices[2], port(1)), (&world.devices[0], port(1)));
    world.until_down(&[]).await;
    world.all_settled().await;
    assert_eq!(world.devices[2].entities(), whole);
}

#[tokio::test]
async fn exchanged_cables_are_named_and_not_used() {
    let devices = cabled();
    // Both leaves are cabled to spine 1, each at the other's port.
    devices[2].uncable(port(1));
    devices[3].uncable(port(1));
    FakeDevice::cable((&devices[2], port(1)), (&devices[0], port(2)));
    FakeDevice::cable((&devices[3], port(1)), (&devices[0], port(1)));
    let world = World::over(topology(), MemoryStore::default(), devices).await;
    world.applied(basics()).await;
    let links = world.until_down(&[0, 2]).await;
    assert_eq!(links[0].fault, Some(LinkFault::Miswired));
    assert_eq!(
        links[0].reason.as_deref(),
        Some("wrong cabling: leaf1:1 is connected to spine1:2 instead of spine1:1")
    );
    world.all_settled().await;
}

#[tokio::test]
async fn links_of_a_switch_that_is_away_are_avoided_until_it_is_back() {
    let world = World::over(topology(), MemoryStore::default(), cabled()).await;
    world.applied(basics()).await;
    world.probed().await;
    world.all_settled().await;
    let whole = world.devices[2].entities();
    world.devices[0].go_offline();
    let links = world.until_down(&[0, 2]).await;
    assert_eq!(links[0].fault, Some(LinkFault::Unanswered));
    let reason = links[0].reason.clone().unwrap();
    assert!(reason.contains("no session with spine1"), "{reason}");
    world.settled(2).await;
    assert_ne!(world.devices[2].entities(), whole, "leaf1 still uses spine1");
    // Routes to the spine itself stay, because there is no other path.
    let lost = whole.keys().filter(|k| !world.devices[2].entities().contains_key(k));
    assert_eq!(lost.count(), 0);
    world.devices[0].go_online();
    world.until_down(&[]).await;
    world.all_settled().await;
    assert_eq!(world.devices[2].entities(), whole);
}

/// Ends a controller and starts the next one over the same store and devices. `between` is
/// done while there is none.
async fn restarted(
    world: World<RedbStore>,
    file: &std::path::Path,
    between: impl FnOnce(&[FakeDevice]),
) -> World<RedbStore> {
    let devices = world.devices.clone();
    drop(world);
    let store = reopened(file).await;
    devices.iter().for_each(|d| drop(d.take_written()));
    between(&devices);
    World::over(topology(), store, devices).await
}

/// Every switch held what it should before `change`, and what it should after it; between the
/// two nothing was written twice, and only what had to be.
async fn only_differences_were_written(world: &World<RedbStore>, before: &[Held]) {
    world.all_settled().await;
    for (device, before) in world.devices.iter().zip(before) {
        let after = device.entities();
        for (key, writes) in device.take_written() {
            assert_eq!(writes, 1, "{key} was written {writes} times");
            assert_ne!(before.get(&key), after.get(&key), "{key} was written needlessly");
        }
    }
}

type Held = std::collections::HashMap<crate::entity::EntityKey, Arc<Entity>>;

fn held(devices: &[FakeDevice]) -> Vec<Held> {
    devices.iter().map(FakeDevice::entities).collect()
}

#[tokio::test]
async fn a_link_that_was_down_before_a_restart_is_not_used_after_it() {
    for reported in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("intent.redb");
        let world = World::over(topology(), RedbStore::open(&file).unwrap(), cabled()).await;
        world.applied(basics()).await;
        world.probed().await;
        if reported {
            world.devices[2].set_port(port(1), false);
        }
        world.devices[2].uncable(port(1));
        world.until_down(&[0]).await;
        world.all_settled().await;
        // The store learns of it a moment later.
        tokio::time::sleep(Duration::from_secs(2)).await;
        let before = held(&world.devices);
        let world = restarted(world, &file, |_| {}).await;
        world.all_settled().await;
        tokio::time::sleep(crate::topology::pace::Pace::default().hold() + Duration::from_secs(1)).await;
        assert!(!world.links().await[0].up);
        assert_eq!(held(&world.devices), before);
        let writes: usize = world.devices.iter().map(|d| d.take_written().len()).sum();
        assert_eq!(writes, 0, "reported: {reported}");
        // Repaired: it is used like any other link.
        FakeDevice::cable((&world.devices[2], port(1)), (&world.devices[0], port(1)));
        if reported {
            world.devices[2].set_port(port(1), true);
        }
        world.until_down(&[]).await;
        only_differences_were_written(&world, &before).await;
    }
}

#[tokio::test]
async fn a_link_that_went_down_while_there_was_no_controller_is_rerouted_once_known() {
    for reported in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("intent.redb");
        let world = World::over(topology(), RedbStore::open(&file).unwrap(), cabled()).await;
        world.applied(basics()).await;
        world.probed().await;
        world.all_settled().await;
        let before = held(&world.devices);
        let cut = |devices: &[FakeDevice]| {
            devices[2].uncable(port(1));
            if reported {
                devices[2].set_port(port(1), false);
            }
        };
        let world = restarted(world, &file, cut).await;
        world.until_down(&[0]).await;
        only_differences_were_written(&world, &before).await;
        assert_ne!(held(&world.devices)[2], before[2], "leaf1 still uses the link");
    }
}
