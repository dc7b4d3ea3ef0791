//! What devices should hold after any history equals what a fresh rendering gives.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use vfabric_api::ident::{Mac, Name};
use vfabric_api::intent::{AttachmentSpec, NetworkSpec, Place, RouterSpec, SubnetSpec, VdcSpec};
use vfabric_api::inventory::{InventoryChange, Item, ItemKey};
use vfabric_api::kind::StaticRoute;
use vfabric_api::service::{Change, Key, Kind, Spec};
use vfabric_api::topology::{Host, Link, PortRef, Role, Switch};

use super::Engine;
use crate::device::driver::DeviceIndex;
use crate::device::{Device, Registry};
use crate::entity::{Entity, EntityKey};
use crate::model::Model;
use crate::render::FabricRender;
use crate::testing::topology;
use crate::timings::AllTimings;
use crate::topology::LinkIndex;

#[derive(Debug, Clone)]
enum Step {
    /// Changes of one transaction; changes after a refused one do not happen either.
    Transaction(Vec<Change>),
    Link(u32, bool),
    /// Changes of the inventory; with `false`, they are undone.
    Inventory(Vec<InventoryChange>, bool),
    /// Every device has confirmed everything, and numbers have rested.
    Release,
}

fn item_key() -> impl Strategy<Value = ItemKey> {
    prop_oneof![
        3 => (1..=4u8).prop_map(|h| ItemKey::Host(name("host", h))),
        2 => (1..=3u8).prop_map(|l| ItemKey::Switch(name("leaf", l))),
        1 => (1..=2u8).prop_map(|s| ItemKey::Switch(name("spine", s))),
        2 => (1..=3u8, 1..=2u8).prop_map(|(l, s)| ItemKey::link(&link(l, s))),
    ]
}

fn link(leaf: u8, spine: u8) -> Link {
    let end = |switch, port: u8| PortRef {
        switch,
        port: u16::from(port).try_into().unwrap(),
    };
    Link {
        a: end(name("leaf", leaf), spine),
        b: end(name("spine", spine), leaf),
    }
}

/// A device of the test's fabric, or one more; `other` chooses between two kinds of hardware.
fn item() -> impl Strategy<Value = Item> {
    let v4 = |a: u8, b: u8| Ipv4Addr::new(10, 255, a, b);
    let v6 = |a: u8, b: u8| Ipv6Addr::new(0xfd00, 0x255, a.into(), 0, 0, 0, 0, b.into());
    let host = (1..=4u8, 1..=3u8, any::<bool>()).prop_map(move |(h, l, other)| {
        Item::Host(Host {
            name: name("host", h),
            uplink: PortRef {
                switch: name("leaf", l),
                port: (2 + u16::from(h)).try_into().unwrap(),
            },
            mac: Mac([2, 0, 0, 0, 1 + u8::from(other), h]),
            vtep_ipv4: v4(1, h),
            vtep_ipv6: v6(1, h),
        })
    });
    let switch = (1..=3u8, any::<bool>(), any::<bool>()).prop_map(move |(l, other, leaf)| {
        let (id, role, prefix) = if leaf {
            (2 + l, Role::Leaf, "leaf")
        } else {
            (l, Role::Spine, "spine")
        };
        Item::Switch(Switch {
            name: name(prefix, l),
            role,
            device_id: u16::from(id) + if other { 100 } else { 0 },
            loopback_ipv4: v4(0, id),
            loopback_ipv6: v6(0, id),
            p4runtime: SocketAddr::from(([192, 0, 2, id], 9559)),
            access_ports: match (leaf, other) {
                (false, _) => Vec::new(),
                (true, false) => vec![10.try_into().unwrap()],
                (true, true) => vec![10.try_into().unwrap(), 11.try_into().unwrap()],
            },
            serial: None,
            mac: None,
            model: None,
            software: None,
            ports: Vec::new(),
            breakouts: Vec::new(),
        })
    });
    let link = (1..=3u8, 1..=2u8).prop_map(|(l, s)| Item::Link(link(l, s)));
    prop_oneof![2 => host, 2 => switch, 2 => link]
}

fn inventory_change() -> impl Strategy<Value = InventoryChange> {
    prop_oneof![
        4 => item().prop_map(InventoryChange::Put),
        2 => (item_key(), any::<bool>()).prop_map(|(key, cascade)| InventoryChange::Remove { key, cascade }),
        1 => item_key().prop_map(InventoryChange::Drain),
        1 => item_key().prop_map(InventoryChange::Undrain),
        1 => item_key().prop_map(InventoryChange::Gone),
        1 => item_key().prop_map(InventoryChange::Left),
        2 => item_key().prop_map(InventoryChange::Arrived),
    ]
}

fn name(prefix: &str, i: u8) -> Name {
    format!("{prefix}{i}").parse().unwrap()
}

fn subnet(second: u8, variant: u8) -> SubnetSpec {
    let cidr = match variant {
        0 => format!("10.{second}.0.0/24"),
        1 => format!("10.{second}.0.0/16"),
        _ => format!("fd00:{second}::/64"),
    };
    SubnetSpec::new(cidr.parse().unwrap())
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        (1..=4u8, 0..2u8).prop_map(|(h, i)| Place::Host {
            host: name("host", h),
            netns: "ns".into(),
            interface: format!("eth{i}"),
        }),
        (1..=3u8, 10..=11u16, prop_oneof![Just(None), Just(Some(7u16))]).prop_map(|(l, port, vlan)| Place::Port {
            switch: name("leaf", l),
            port: port.try_into().unwrap(),
            vlan,
        }),
    ]
}

fn spec() -> impl Strategy<Value = Spec> {
    let network = (
        1..=3u8,
        proptest::collection::vec((1..=3u8, 0..3u8), 0..3),
        any::<bool>(),
    )
        .prop_map(|(n, s, big)| {
            let subnets = s.into_iter().map(|(second, variant)| subnet(second, variant)).collect();
            Spec::Network(NetworkSpec {
                name: name("n", n),
                subnets,
                mtu: if big { 9000 } else { 1500 },
                vni: None,
                labels: Default::default(),
            })
        });
    let routes = proptest::collection::vec((1..=3u8, 2..=4u8, 0..2u8), 0..2);
    let router = (1..=2u8, proptest::collection::btree_set(1..=3u8, 0..3), routes).prop_map(|(r, joined, routes)| {
        let mut spec = RouterSpec::new(name("r", r), joined.into_iter().map(|n| name("n", n)).collect());
        let route = |(second, host, to)| StaticRoute {
            to: format!("198.51.{to}.0/24").parse().unwrap(),
            via: format!("10.{second}.0.{host}").parse().unwrap(),
        };
        spec.routes = routes.into_iter().map(route).collect();
        Spec::Router(spec)
    });
    let attachment = (1..=6u8, 1..=3u8, place()).prop_map(|(a, n, place)| {
        Spec::Attachment(AttachmentSpec {
            name: name("a", a),
            network: name("n", n),
            mac: None,
            ips: Vec::new(),
            place,
            port_security: true,
            allowed_addresses: Vec::new(),
            migration: None,
            labels: Default::default(),
        })
    });
    prop_oneof![2 => network, 2 => router, 6 => attachment]
}

fn change() -> impl Strategy<Value = Change> {
    let vdc = || (1..=2u8).prop_map(|v| name("v", v));
    let kind = prop_oneof![
        Just((Kind::Network, "n")),
        Just((Kind::Router, "r")),
        Just((Kind::Attachment, "a"))
    ];
    prop_oneof![
        5 => (vdc(), spec(), 0..3u8).prop_map(|(v, s, how)| match how {
            0 => Change::Create(v, s),
            1 => Change::Replace(v, s),
            _ => Change::Put(v, s),
        }),
        2 => (vdc(), kind, 1..=6u8).prop_map(|(v, (kind, prefix), i)| Change::Delete(Key::new(v, kind, name(prefix, i)))),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => proptest::collection::vec(change(), 1..4).prop_map(Step::Transaction),
        1 => (0..6u32, any::<bool>()).prop_map(|(link, up)| Step::Link(link, up)),
        3 => (proptest::collection::vec(inventory_change(), 1..3), proptest::bool::weighted(0.8))
            .prop_map(|(changes, keep)| Step::Inventory(changes, keep)),
        1 => Just(Step::Release),
    ]
}

struct World {
    model: Model,
    engine: Engine,
    revision: u64,
    now: Instant,
}

type Held = Vec<BTreeMap<EntityKey, Entity>>;

impl World {
    fn new() -> Self {
        let topology = topology();
        let mut world = Self {
            model: Model::new(&topology),
            engine: engine(),
            revision: 0,
            now: Instant::now(),
        };
        world.update();
        for v in 1..=2 {
            let vdc = Spec::Vdc(VdcSpec::new(name("v", v)));
            world.transaction(&[Change::Create(name("v", v), vdc)]);
        }
        world
    }

    fn update(&mut self) {
        self.revision += 1;
        let touched = self.model.take_touched();
        self.engine.update(&self.model, touched, self.revision);
    }

    fn transaction(&mut self, changes: &[Change]) -> bool {
        let changes: Vec<_> = changes.iter().map(|c| (String::new(), c.clone())).collect();
        match self.model.apply(&changes) {
            Ok(applied) => {
                self.model.settle(&applied, self.revision + 1);
                self.update();
                true
            }
            Err(_) => {
                self.model.take_touched();
                false
            }
        }
    }

    fn release(&mut self) {
        for _ in 0..2 {
            self.now += Duration::from_secs(60);
            self.model.release_quarantine(|_, _| true, self.now);
        }
        while let Some((revision, touched)) = self.model.take_woken() {
            self.engine.update(&self.model, touched, revision);
        }
        for change in self.model.travellers(|_, _| true) {
            self.inventory(&[change], true);
        }
    }

    /// Devices that the inventory has.
    fn register(&self) {
        let switches = self.model.fabric.switches().map(|(s, entry)| (s.0, &entry.spec.name));
        let hosts = self.model.fabric.hosts().map(|(h, entry)| (h.0, &entry.spec.name));
        for (index, name) in switches.chain(hosts) {
            let index = DeviceIndex(index);
            if self.engine.devices().get(index).is_none() {
                self.engine.devices().insert(index, device(name.clone()));
            }
        }
    }

    fn inventory(&mut self, changes: &[InventoryChange], keep: bool) {
        let changes: Vec<_> = changes
            .iter()
            .map(|c| (String::new(), Change::Inventory(c.clone())))
            .collect();
        match self.model.apply(&changes) {
            Ok(applied) if keep => {
                self.model.settle(&applied, self.revision + 1);
                self.register();
                self.update();
                // Devices that have left do not exist any more.
                let there = |index: &DeviceIndex| self.model.fabric.node_of(*index).is_some();
                for (index, device) in self.engine.devices().all() {
                    if !there(&index) {
                        assert!(
                            device.desired().is_empty(),
                            "{} left, and should hold something",
                            device.name
                        );
                        self.engine.devices().remove(index);
                    }
                }
            }
            Ok(applied) => {
                self.model.undo(applied);
                self.model.take_touched();
            }
            Err(_) => drop(self.model.take_touched()),
        }
    }

    fn link(&mut self, link: u32, up: bool) {
        self.model.set_links([(LinkIndex(link), up, false)]);
        self.update();
    }

    fn held(&self) -> Held {
        held(&self.engine)
    }

    fn rendered_from_scratch(&self) -> Held {
        let devices = Registry::default();
        for (index, known) in self.engine.devices().all() {
            devices.insert(index, device(known.name.clone()));
        }
        let mut fresh = Engine::new(Arc::new(FabricRender), Arc::new(devices));
        fresh.update(&self.model, self.model.all_sources().into_iter().collect(), 1);
        held(&fresh)
    }

    /// Deletes every tenant object but the vDCs, users before what they use.
    fn clear(&mut self) {
        let mut keys = Vec::new();
        for (v, vdc) in self.model.vdcs() {
            keys.extend(
                vdc.attachments
                    .keys()
                    .map(|n| Key::new(v.clone(), Kind::Attachment, n.clone())),
            );
            keys.extend(vdc.routers.keys().map(|n| Key::new(v.clone(), Kind::Router, n.clone())));
            keys.extend(
                vdc.networks
                    .keys()
                    .map(|n| Key::new(v.clone(), Kind::Network, n.clone())),
            );
        }
        for key in keys {
            assert!(
                self.transaction(&[Change::Delete(key.clone())]),
                "{key} cannot be deleted"
            );
        }
    }
}

fn device(name: Name) -> Arc<Device> {
    Arc::new(Device::new(name, Arc::default(), AllTimings::default().of("switch")))
}

fn engine() -> Engine {
    let topology = topology();
    let names = topology
        .switches
        .iter()
        .map(|s| s.name.clone())
        .chain(topology.hosts.iter().map(|h| h.name.clone()));
    let devices = Registry::default();
    for (i, name) in (0..).zip(names) {
        devices.insert(DeviceIndex(i), device(name));
    }
    Engine::new(Arc::new(FabricRender), Arc::new(devices))
}

fn held(engine: &Engine) -> Held {
    let of = |d: &Arc<Device>| {
        d.desired()
            .into_iter()
            .map(|(e, _)| (e.key(), Entity::clone(&e)))
            .collect()
    };
    engine.devices().all().iter().map(|(_, d)| of(d)).collect()
}

/// Names the first difference, instead of printing everything.
fn difference(a: &Held, b: &Held) -> Option<String> {
    a.iter().zip(b).enumerate().find_map(|(i, (a, b))| {
        let keys = a.keys().chain(b.keys());
        let key = keys.into_iter().find(|k| a.get(k) != b.get(k))?;
        Some(format!(
            "device {i}, {key}: {:?} instead of {:?}",
            a.get(key),
            b.get(key)
        ))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn incremental_equals_from_scratch(steps in proptest::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        let empty = world.held();
        let whole = !steps.iter().any(|s| matches!(s, Step::Inventory(..)));
        for step in steps {
            match &step {
                Step::Transaction(changes) => {
                    let before = world.held();
                    if !world.transaction(changes) {
                        prop_assert_eq!(difference(&world.rendered_from_scratch(), &before), None, "refused, but changed: {:?}", step);
                    }
                }
                Step::Link(link, up) => world.link(*link, *up),
                Step::Inventory(changes, keep) => world.inventory(changes, *keep),
                Step::Release => world.release(),
            }
            prop_assert_eq!(difference(&world.held(), &world.rendered_from_scratch()), None, "after {:?}", step);
        }
        world.clear();
        (0..4).for_each(|link| world.link(link, true));
        if whole {
            prop_assert_eq!(difference(&world.held(), &empty), None, "something stayed behind");
        }
        prop_assert_eq!(difference(&world.held(), &world.rendered_from_scratch()), None);
    }
}

fn neighbour(content: u8) -> Entity {
    let (vni, mac) = (
        vtep_proto::Vni::new(7),
        vtep_proto::MacAddress::new([2, 0, 0, 0, 0, content]),
    );
    Entity::Host(vtep_proto::HostEntity::Neighbour(vtep_proto::Neighbour {
        vni: vni.unwrap(),
        ip: std::net::Ipv4Addr::new(10, 0, 0, 1).into(),
        mac: mac.unwrap(),
    }))
}

/// A rendering that repeats an entity asks for it once. Otherwise, removing the contribution would also remove an
/// entity that another one asks for.
#[test]
fn a_contribution_asks_for_an_entity_once() {
    let device = device(name("d", 1));
    let replace = |asker: usize, before: Vec<Arc<Entity>>, now: Vec<Entity>, revision| {
        let source = super::Source::Switch(asker.into());
        let (mut gone, mut edit) = (Vec::new(), device.edit(revision));
        let after = super::exchange(before, super::set_of(now), |e| edit.add(source, e), &mut gone);
        for e in &gone {
            edit.remove(source, e);
        }
        after
    };
    let held = || {
        device
            .desired()
            .into_iter()
            .map(|(e, _)| Entity::clone(&e))
            .collect::<Vec<_>>()
    };
    let other = replace(1, Vec::new(), vec![neighbour(1)], 1);
    let twice = replace(2, Vec::new(), vec![neighbour(1), neighbour(1)], 2);
    let twice = replace(2, twice, vec![neighbour(1), neighbour(1), neighbour(1)], 3);
    replace(2, twice, Vec::new(), 4);
    assert_eq!(held(), [neighbour(1)], "the other contribution still asks for it");
    let changed = replace(1, other, vec![neighbour(1), neighbour(2)], 5);
    assert_eq!(held(), [neighbour(2)], "the last one counts");
    replace(1, changed, Vec::new(), 6);
    assert!(held().is_empty());
}

/// The property only means something if enough changes are accepted.
#[test]
fn a_history_reaches_every_kind_of_contribution() {
    let mut world = World::new();
    let v = || name("v", 1);
    let network = |n: u8| {
        Spec::Network(NetworkSpec {
            name: name("n", n),
            subnets: vec![subnet(n, 0), subnet(n, 2)],
            mtu: 1500,
            vni: None,
            labels: Default::default(),
        })
    };
    let attachment = |a: u8, n: u8, place| {
        Spec::Attachment(AttachmentSpec {
            name: name("a", a),
            network: name("n", n),
            mac: None,
            ips: Vec::new(),
            place,
            port_security: true,
            allowed_addresses: Vec::new(),
            migration: None,
            labels: Default::default(),
        })
    };
    let on_host = |h: u8| Place::Host {
        host: name("host", h),
        netns: "ns".into(),
        interface: "eth0".into(),
    };
    let on_port = Place::Port {
        switch: name("leaf", 2),
        port: 10.try_into().unwrap(),
        vlan: Some(7),
    };
    let router = Spec::Router(RouterSpec::new(name("r", 1), vec![name("n", 1), name("n", 2)]));
    let specs = [
        network(1),
        network(2),
        attachment(1, 1, on_host(1)),
        attachment(2, 2, on_port),
        router,
    ];
    for spec in specs {
        let before = world.held();
        let kind = spec.kind();
        assert!(world.transaction(&[Change::Create(v(), spec)]));
        if kind != Kind::Network {
            assert_ne!(
                difference(&before, &world.held()),
                None,
                "a {kind} changed nothing on any device"
            );
        }
        assert_eq!(difference(&world.held(), &world.rendered_from_scratch()), None);
    }
}
