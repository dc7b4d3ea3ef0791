//! Devices that come, change and go, over devices in memory.

use std::collections::HashMap;

use vfabric_api::ident::Name;
use vfabric_api::intent::Place;
use vfabric_api::inventory::{Inventory, InventoryChange, Item, ItemAction, ItemKey, ItemState};
use vfabric_api::service::Transaction;
use vfabric_api::topology::{Host, Link, PortRef, Role, Switch};

use super::Start;
use super::link_tests::{cabled, port};
use super::tests::*;
use crate::entity::EntityKey;

type Held = HashMap<EntityKey, Arc<Entity>>;

fn end(switch: &str, at: u16) -> PortRef {
    let (switch, port) = (n(switch), port(at));
    PortRef { switch, port }
}

pub(super) fn host(name: &str, leaf: &str, at: u16, last: u8) -> Host {
    Host {
        name: n(name),
        uplink: end(leaf, at),
        mac: vfabric_api::ident::Mac([2, 0, 0, 0, 1, last]),
        vtep_ipv4: [10, 255, 1, last].into(),
        vtep_ipv6: format!("fd00:255:1::{last}").parse().unwrap(),
    }
}

fn leaf(name: &str, id: u8) -> Switch {
    Switch {
        name: n(name),
        role: Role::Leaf,
        device_id: id.into(),
        loopback_ipv4: [10, 255, 0, id].into(),
        loopback_ipv6: format!("fd00:255::{id}").parse().unwrap(),
        p4runtime: format!("192.0.2.{id}:9559").parse().unwrap(),
        access_ports: vec![port(10)],
        serial: None,
        mac: None,
        model: None,
        software: None,
        ports: Vec::new(),
        breakouts: Vec::new(),
    }
}

pub(super) fn put(item: Item) -> Change {
    Change::Inventory(InventoryChange::Put(item))
}

pub(super) fn remove(key: ItemKey, cascade: bool) -> Change {
    Change::Inventory(InventoryChange::Remove { key, cascade })
}

pub(super) fn host_key(name: &str) -> ItemKey {
    ItemKey::Host(n(name))
}

pub(super) fn switch_key(name: &str) -> ItemKey {
    ItemKey::Switch(n(name))
}

pub(super) fn gone(key: ItemKey) -> Change {
    Change::Inventory(InventoryChange::Gone(key))
}

/// A fabric with tenants; everything is where it should be.
pub(super) async fn busy<S: Store>(start: impl Into<Start>, store: S) -> World<S> {
    let world = World::over(start, store, cabled()).await;
    world.applied(basics()).await;
    world.quiet().await;
    world
}

impl<S: Store> World<S> {
    /// Until all devices of the inventory that are not dead hold exactly what they should.
    pub(super) async fn quiet(&self) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let hosts = self.inventory().await.hosts.into_iter();
        let dead: Vec<Name> = hosts
            .filter(|h| h.state == ItemState::Gone)
            .map(|h| h.spec.name)
            .collect();
        for device in self.controller.devices() {
            if dead.contains(&device.name) {
                continue;
            }
            let fake = self.plugged.device(&device.name);
            let wanted = || {
                device
                    .desired()
                    .into_iter()
                    .map(|(e, _)| (e.key(), e))
                    .collect::<Held>()
            };
            while fake.entities() != wanted() {
                assert!(
                    tokio::time::Instant::now() < deadline,
                    "{} does not settle",
                    device.name
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// What each device holds; forgets what was written.
    pub(super) fn held(&self) -> HashMap<Name, Held> {
        let devices = self.controller.devices();
        let one = |device: &Arc<crate::device::Device>| {
            let fake = self.plugged.device(&device.name);
            fake.take_written();
            (device.name.clone(), fake.entities())
        };
        devices.iter().map(one).collect()
    }

    /// Entities that a device held before, holds now, and that were written meanwhile.
    pub(super) fn rewritten(&self, before: &HashMap<Name, Held>) -> Vec<(Name, EntityKey)> {
        let mut rewritten = Vec::new();
        for (name, before) in before {
            let fake = self.plugged.device(name);
            let after = fake.entities();
            let written = fake.take_written().into_keys();
            let kept = written.filter(|key| before.contains_key(key) && after.contains_key(key));
            rewritten.extend(kept.map(|key| (name.clone(), key)));
        }
        rewritten
    }

    pub(super) async fn inventory(&self) -> Inventory {
        self.controller.inventory().await
    }

    pub(super) async fn host_item(&self, name: &str) -> Option<vfabric_api::inventory::HostItem> {
        let hosts = self.inventory().await.hosts;
        hosts.into_iter().find(|h| h.spec.name == n(name))
    }

    /// Until an object is not in the inventory any more.
    pub(super) async fn left(&self, key: &ItemKey) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let inventory = self.inventory().await;
            let there = match key {
                ItemKey::Host(name) => inventory.hosts.iter().any(|h| h.spec.name == *name),
                ItemKey::Switch(name) => inventory.switches.iter().any(|s| s.spec.name == *name),
                _ => false,
            };
            if !there {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{key} does not leave: {inventory:?}"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Adds or changes a device, and waits until it is in service.
    pub(super) async fn added(&self, item: Item) {
        let key = item.key();
        self.applied(vec![put(item)]).await;
        self.arrived(&key).await;
    }

    /// Until a device is in service and holds what it should.
    pub(super) async fn arrived(&self, key: &ItemKey) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let inventory = self.inventory().await;
            let hosts = inventory
                .hosts
                .iter()
                .map(|h| (host_key(h.spec.name.as_str()), h.state));
            let switches = inventory
                .switches
                .iter()
                .map(|s| (switch_key(s.spec.name.as_str()), s.state));
            if hosts
                .chain(switches)
                .any(|item| item == (key.clone(), ItemState::InService))
            {
                return self.quiet().await;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "{key} does not arrive: {inventory:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) async fn refused(&self, changes: Vec<Change>, code: ErrorCode) -> String {
        let error = self.commit(changes).await.unwrap_err();
        assert_eq!(error.code, code, "{error}");
        error.to_string()
    }
}

#[tokio::test]
async fn what_is_added_or_removed_rewrites_nothing_of_the_others() {
    let world = busy(topology(), MemoryStore::default()).await;
    let before = world.held();
    // A leaf at the end, and a host in the middle of the file.
    let mut wider = topology();
    wider.switches.push(leaf("leaf3", 5));
    wider.hosts.insert(1, host("host9", "leaf1", 9, 9));
    world.applied(vec![import(&wider)]).await;
    world.arrived(&switch_key("leaf3")).await;
    world.arrived(&host_key("host9")).await;
    assert_eq!(world.rewritten(&before), []);
    assert!(
        !world.plugged.device(&n("leaf3")).entities().is_empty(),
        "leaf3 got nothing"
    );
    // Its cables give the spines one more path to each other.
    let before = world.held();
    wider.links.push(Link {
        a: end("leaf3", 1),
        b: end("spine1", 3),
    });
    wider.links.push(Link {
        a: end("leaf3", 2),
        b: end("spine2", 3),
    });
    world.applied(vec![import(&wider)]).await;
    world.quiet().await;
    let rewritten: Vec<String> = world
        .rewritten(&before)
        .into_iter()
        .map(|(d, _)| d.to_string())
        .collect();
    assert!(
        rewritten
            .iter()
            .all(|d| ["spine1", "spine2", "leaf3"].contains(&d.as_str())),
        "{rewritten:?}"
    );
    assert!(
        rewritten.iter().filter(|d| d.as_str() != "leaf3").count() <= 2,
        "{rewritten:?}"
    );
    // Remove the host in the middle, and one that has attachments.
    let before = world.held();
    world
        .applied(vec![remove(host_key("host9"), false), remove(host_key("host1"), true)])
        .await;
    world.quiet().await;
    assert_eq!(world.rewritten(&before), []);
    world.left(&host_key("host9")).await;
    world.left(&host_key("host1")).await;
    assert_eq!(world.rewritten(&before), []);
}

pub(super) fn import(topology: &Topology) -> Change {
    Change::Inventory(InventoryChange::Import(Box::new(topology.clone())))
}

#[tokio::test]
async fn a_new_host_works_and_a_removed_one_is_emptied() {
    let world = busy(topology(), MemoryStore::default()).await;
    world.added(Item::Host(host("host9", "leaf2", 9, 9))).await;
    world.applied(vec![create(attach("a9", "red", "host9"))]).await;
    world.quiet().await;
    let fake = world.plugged.device(&n("host9"));
    assert!(!fake.entities().is_empty());
    let said = world
        .refused(vec![remove(host_key("host9"), false)], ErrorCode::InUse)
        .await;
    assert_eq!(said, "host `host9` is still used by attachment `a9` of vdc `v`");
    world.applied(vec![remove(host_key("host9"), true)]).await;
    assert!(fake.entities().is_empty(), "it holds something, although it has left");
    world.left(&host_key("host9")).await;
    assert!(world.controller.registry.find(&n("host9")).is_none());
}

#[tokio::test]
async fn a_drained_spine_is_avoided_and_written_to_no_more_than_before() {
    let world = busy(topology(), MemoryStore::default()).await;
    let before = world.held();
    world
        .applied(vec![Change::Inventory(InventoryChange::Drain(switch_key("spine1")))])
        .await;
    world.quiet().await;
    let drained = world.held();
    assert_eq!(drained[&n("spine1")], before[&n("spine1")], "it forwards as before");
    assert_ne!(drained[&n("leaf1")], before[&n("leaf1")], "leaf1 still uses it");
    for (name, held) in &drained {
        assert_eq!(held.len(), before[name].len(), "{name}: entries came or went");
    }
    let said = world
        .refused(
            vec![Change::Inventory(InventoryChange::Drain(ItemKey::Fabric))],
            ErrorCode::Invalid,
        )
        .await;
    assert!(said.contains("neither a switch nor a host"), "{said}");
    world
        .applied(vec![Change::Inventory(InventoryChange::Undrain(switch_key("spine1")))])
        .await;
    world.quiet().await;
    assert_eq!(world.held(), before);
}

#[tokio::test]
async fn a_drained_host_gets_no_new_attachments_and_keeps_those_it_has() {
    let world = busy(topology(), MemoryStore::default()).await;
    let before = world.held();
    world
        .applied(vec![Change::Inventory(InventoryChange::Drain(host_key("host1")))])
        .await;
    world.quiet().await;
    assert_eq!(world.held(), before);
    let said = world
        .refused(vec![create(attach("a2", "red", "host1"))], ErrorCode::InUse)
        .await;
    assert!(said.contains("this one is drained"), "{said}");
    let mut changed = attach("a1", "red", "host1");
    changed.port_security = false;
    world
        .applied(vec![Change::Put(n("v"), Spec::Attachment(changed))])
        .await;
    world.applied(vec![create(attach("a2", "red", "host2"))]).await;
}

#[tokio::test]
async fn a_name_is_free_when_its_numbers_are_and_then_stands_for_another() {
    let world = busy(topology(), MemoryStore::default()).await;
    let old = world.host_item("host2").await.unwrap();
    let spine = &world.devices[1];
    spine.go_offline();
    world.commit(vec![remove(host_key("host2"), false)]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let leaving = world.host_item("host2").await.unwrap();
    assert_eq!(leaving.state, ItemState::Leaving);
    assert!(
        leaving.waiting.iter().any(|w| w.contains("`spine2` has confirmed")),
        "{:?}",
        leaving.waiting
    );
    let spec = old.spec.clone();
    let said = world
        .refused(vec![put(Item::Host(spec.clone()))], ErrorCode::InUse)
        .await;
    assert!(said.contains("is leaving: waits until `spine2`"), "{said}");
    // Nor may another one take its address or its port.
    let mut other = host("host8", "leaf1", 8, 8);
    other.vtep_ipv4 = spec.vtep_ipv4;
    let said = world
        .refused(vec![put(Item::Host(other.clone()))], ErrorCode::Taken)
        .await;
    assert!(
        said.contains("vtep_ipv4") && said.contains("host `host2`, which is leaving"),
        "{said}"
    );
    other.vtep_ipv4 = [10, 255, 1, 8].into();
    other.uplink = spec.uplink.clone();
    world.refused(vec![put(Item::Host(other))], ErrorCode::Taken).await;
    spine.go_online();
    world.left(&host_key("host2")).await;
    world.added(Item::Host(spec)).await;
    let new = world.host_item("host2").await.unwrap();
    assert!(new.uid > old.uid, "an identity was given twice");
    assert_ne!(new.vtep_id, old.vtep_id, "numbers go round");
}

#[tokio::test]
async fn a_host_declared_gone_is_shut_out_and_what_it_held_is_free() {
    let world = busy(topology(), MemoryStore::default()).await;
    // Five addresses, as in the /29 of a small network.
    let small = Change::Create(
        n("v"),
        Spec::Network(vfabric_api::intent::NetworkSpec {
            name: n("small"),
            subnets: vec![vfabric_api::intent::SubnetSpec::new("10.9.0.0/29".parse().unwrap())],
            mtu: 1500,
            vni: None,
            labels: Default::default(),
        }),
    );
    world.applied(vec![small]).await;
    let on = |i: u32, host: &str| {
        let mut spec = attach(&format!("s{i}"), "small", host);
        if let Place::Host { netns, .. } = &mut spec.place {
            *netns = format!("s{i}");
        }
        create(spec)
    };
    for i in 0..5 {
        world.applied(vec![on(i, "host2")]).await;
    }
    world.devices[5].go_offline();
    for i in 0..5 {
        world
            .commit(vec![delete(Kind::Attachment, &format!("s{i}"))])
            .await
            .unwrap();
    }
    world.settled(2).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let said = world.refused(vec![on(9, "host1")], ErrorCode::Exhausted).await;
    assert!(said.contains("is free when `host2` has removed it"), "{said}");
    // Its leaf cannot be reached either: nobody has shut it out yet.
    world.devices[2].go_offline();
    world.commit(vec![gone(host_key("host2"))]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    world.refused(vec![on(9, "host1")], ErrorCode::Exhausted).await;
    world.devices[2].go_online();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while let Err(error) = world.commit(vec![on(9, "host1")]).await {
        assert!(tokio::time::Instant::now() < deadline, "{error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let admits = |e: &Arc<Entity>| format!("{e:?}").contains("10, 255, 1, 2]");
    let admitted = world.devices[2].entities().into_values().filter(admits).count();
    assert_eq!(admitted, 0, "leaf1 still lets host2 in");
    assert!(!world.devices[5].entities().is_empty(), "it is dead: nobody emptied it");
    assert_eq!(world.host_item("host2").await.unwrap().state, ItemState::Gone);
    // Removed, it leaves at once, and a new one may come under its name.
    let spec = world.host_item("host2").await.unwrap().spec;
    let said = world
        .refused(vec![put(Item::Host(spec.clone()))], ErrorCode::InUse)
        .await;
    assert!(said.contains("declared gone"), "{said}");
    world.commit(vec![remove(host_key("host2"), false)]).await.unwrap();
    world.left(&host_key("host2")).await;
    // It is the old machine with its old entities: until it is empty, no leaf lets it in.
    world.commit(vec![put(Item::Host(spec.clone()))]).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.host_item("host2").await.unwrap().state, ItemState::Arriving);
    let said = world.refused(vec![on(10, "host2")], ErrorCode::InUse).await;
    assert!(said.contains("this one is arriving"), "{said}");
    assert_eq!(world.devices[2].entities().into_values().filter(admits).count(), 0);
    world.devices[5].go_online();
    world.arrived(&host_key("host2")).await;
    assert_ne!(world.devices[2].entities().into_values().filter(admits).count(), 0);
    world.applied(vec![on(10, "host2")]).await;
    world.quiet().await;
}

#[tokio::test]
async fn a_switch_that_is_replaced_is_read_back_and_armed() {
    let world = busy(topology(), MemoryStore::default()).await;
    let mut spec = topology().switches[0].clone();
    let before = world.held();
    spec.p4runtime = "192.0.2.99:9559".parse().unwrap();
    let hardware = FakeDevice::new(true);
    // What its last owner left behind.
    let stray = before[&n("spine2")].values().next().unwrap();
    hardware.meddle_insert(Entity::clone(stray));
    world.plugged.plug(&n("spine1"), hardware);
    world.applied(vec![put(Item::Switch(spec.clone()))]).await;
    world.quiet().await;
    let others = world
        .rewritten(&before)
        .into_iter()
        .filter(|(device, _)| *device != n("spine1"));
    assert_eq!(others.count(), 0, "a new address of a switch concerns no other device");
    assert_eq!(world.held(), before);
    // Another device id means another router MAC address, which its neighbours learn.
    spec.device_id = 77;
    world.added(Item::Switch(spec.clone())).await;
    let after = world.held();
    assert_ne!(after[&n("leaf1")], before[&n("leaf1")]);
    assert_eq!(after[&n("host1")], before[&n("host1")]);
    spec.role = Role::Leaf;
    let said = world.refused(vec![put(Item::Switch(spec))], ErrorCode::Invalid).await;
    assert!(said.contains("role"), "{said}");
}

#[tokio::test]
async fn a_switch_is_removed_when_nothing_uses_it() {
    let world = busy(topology(), MemoryStore::default()).await;
    let said = world
        .refused(vec![remove(switch_key("leaf2"), false)], ErrorCode::InUse)
        .await;
    assert!(said.contains("is still used by link leaf2:1 - spine1:2"), "{said}");
    let committed = world
        .controller
        .commit(Transaction {
            changes: vec![(String::new(), remove(switch_key("leaf2"), true))],
            dry_run: true,
            ..Transaction::default()
        })
        .await
        .unwrap();
    let removed = committed
        .inventory
        .iter()
        .filter(|c| c.action == ItemAction::Removed)
        .count();
    assert_eq!(
        (removed, committed.deleted.len()),
        (4, 1),
        "two links, host3, leaf2; a3"
    );
    assert_eq!(
        world.inventory().await.topology(),
        topology(),
        "a dry run changes nothing"
    );
    world.applied(vec![remove(switch_key("leaf2"), true)]).await;
    world.quiet().await;
    assert!(world.devices[3].entities().is_empty(), "leaf2 still forwards");
    world.left(&switch_key("leaf2")).await;
    world.left(&host_key("host3")).await;
    assert_eq!(world.inventory().await.links.len(), 2);
    assert_eq!(world.controller.devices().len(), 5);
}

#[tokio::test]
async fn every_contradiction_is_refused_with_its_field() {
    let world = busy(topology(), MemoryStore::default()).await;
    let with = |change: fn(&mut Host)| {
        let mut host = host("host9", "leaf1", 9, 9);
        change(&mut host);
        put(Item::Host(host))
    };
    let switch = |change: fn(&mut Switch)| {
        let mut switch = leaf("leaf9", 9);
        change(&mut switch);
        put(Item::Switch(switch))
    };
    let cable = |a: PortRef, b: PortRef| put(Item::Link(Link { a, b }));
    let cases = [
        (
            with(|h| h.vtep_ipv4 = [10, 255, 0, 1].into()),
            ErrorCode::Taken,
            "vtep_ipv4",
        ),
        (
            with(|h| h.vtep_ipv4 = [224, 0, 0, 1].into()),
            ErrorCode::Invalid,
            "vtep_ipv4",
        ),
        (with(|h| h.mac.0[5] = 1), ErrorCode::Taken, "mac"),
        (with(|h| h.mac.0[0] = 1), ErrorCode::Invalid, "mac"),
        (with(|h| h.uplink = end("leaf1", 10)), ErrorCode::Taken, "uplink.port"),
        (
            with(|h| h.uplink = end("spine1", 9)),
            ErrorCode::Invalid,
            "uplink.switch",
        ),
        (with(|h| h.name = n("leaf1")), ErrorCode::Taken, "name"),
        (switch(|s| s.device_id = 0), ErrorCode::Invalid, "device_id"),
        (switch(|s| s.device_id = 3), ErrorCode::Taken, "device_id"),
        (switch(|s| s.role = Role::Spine), ErrorCode::Invalid, "access_ports"),
        (
            switch(|s| s.access_ports.push(port(10))),
            ErrorCode::Invalid,
            "access_ports[1]",
        ),
        (
            switch(|s| s.p4runtime = "192.0.2.1:9559".parse().unwrap()),
            ErrorCode::Taken,
            "p4runtime",
        ),
        (
            switch(|s| s.mac = Some(vfabric_api::ident::Mac([3, 0, 0, 0, 0, 1]))),
            ErrorCode::Invalid,
            "mac",
        ),
        (
            switch(|s| s.mac = Some(topology().hosts[0].mac)),
            ErrorCode::Taken,
            "mac",
        ),
        (cable(end("leaf1", 1), end("leaf2", 8)), ErrorCode::Taken, "a.port"),
        (cable(end("leaf1", 8), end("leaf1", 9)), ErrorCode::Invalid, "b.switch"),
        (cable(end("leaf1", 8), end("leaf9", 9)), ErrorCode::Invalid, "b.switch"),
    ];
    for (change, code, field) in cases {
        let error = world.commit(vec![change.clone()]).await.unwrap_err();
        assert_eq!(error.code, code, "{error}");
        assert!(
            error.errors.iter().any(|e| e.field == format!("here.{field}")),
            "{field} is not named by {error}"
        );
    }
    assert_eq!(world.inventory().await.topology(), topology());
    // An access port with an attachment stays.
    let mut bare = attach("bare", "red", "host1");
    bare.place = Place::Port {
        switch: n("leaf1"),
        port: port(11),
        vlan: None,
    };
    world.applied(vec![create(bare)]).await;
    let mut fewer = topology().switches[2].clone();
    fewer.access_ports = vec![port(10)];
    let said = world
        .refused(vec![put(Item::Switch(fewer.clone()))], ErrorCode::InUse)
        .await;
    assert!(said.contains("attachment `bare`"), "{said}");
    world
        .applied(vec![delete(Kind::Attachment, "bare"), put(Item::Switch(fewer))])
        .await;
}

#[tokio::test]
async fn a_machine_belongs_to_one_switch_and_its_fields_show_in_differences() {
    let world = busy(topology(), MemoryStore::default()).await;
    let with = |at: usize, serial: Option<&str>| {
        let mut switch = topology().switches[at].clone();
        switch.serial = serial.map(|s| s.parse().unwrap());
        put(Item::Switch(switch))
    };
    let said = async |change: Change| -> Vec<String> {
        let transaction = Transaction {
            changes: vec![(String::new(), change)],
            ..Transaction::default()
        };
        let changes = world.controller.commit(transaction).await.unwrap().inventory;
        changes.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        said(with(2, Some("AF39"))).await,
        ["~ switch `leaf1`\n    serial: null -> AF39"]
    );
    world.refused(vec![with(3, Some("af39"))], ErrorCode::Taken).await;
    assert_eq!(
        said(with(2, None)).await,
        ["~ switch `leaf1`\n    serial: AF39 -> null"]
    );
    // Free again.
    said(with(3, Some("af39"))).await;
}

/// A dead host confirms nothing: a call that declares it gone, or removes its objects, does not wait for it.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_host_that_was_declared_gone() {
    let world = busy(topology(), MemoryStore::default()).await;
    world.applied(vec![create(attach("late", "red", "host2"))]).await;
    let on_host2 = world.devices[5].entities().len();
    assert!(on_host2 > 0, "host2 has nothing to confirm");
    world.devices[5].go_offline();
    world.applied(vec![gone(host_key("host2"))]).await;
    world.applied(vec![remove(host_key("host2"), true)]).await;
    assert_eq!(world.devices[5].entities().len(), on_host2, "nobody emptied it");
}
