//! Random changes of two tenants, and of the inventory. Few names and few numbers, so that both tenants want the same.

use std::net::{IpAddr, Ipv4Addr};

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use vfabric_api::ident::Mac;
use vfabric_api::intent::{AttachmentSpec, NetworkSpec, Place, RouterSpec, SubnetSpec};
use vfabric_api::inventory::{InventoryChange, Item, ItemKey};
use vfabric_api::service::{Change, FabricService as _, Key, Kind, Spec};

use super::walk::{Made, Walk, name};

impl Walk {
    /// A host is removed, added, drained or declared gone; or a switch is drained.
    pub(super) async fn change_inventory(&mut self) {
        let hosts = self.topology.hosts.clone();
        let host = hosts.choose(&mut self.rng).unwrap();
        let key = ItemKey::Host(host.name.clone());
        let switch = ItemKey::Switch(self.topology.switches.choose(&mut self.rng).unwrap().name.clone());
        let drained = if self.rng.random_bool(0.5) { key.clone() } else { switch };
        let change = match self.rng.random_range(0..10) {
            0..=2 => InventoryChange::Remove { key, cascade: true },
            3 | 4 => InventoryChange::Gone(key),
            5..=7 => InventoryChange::Put(Item::Host(host.clone())),
            8 => InventoryChange::Drain(drained),
            _ => InventoryChange::Undrain(drained),
        };
        let transaction = self.sometimes_dry(vec![Change::Inventory(change)]);
        self.committed += usize::from(self.controller.commit(transaction).await.is_ok());
    }

    /// Random changes, and a smaller set that may be accepted if the first is not.
    pub(super) fn alternatives(&mut self) -> [Vec<Change>; 2] {
        let count = self.rng.random_range(1..=3);
        let mut changes: Vec<Change> = (0..count).flat_map(|_| self.change()).collect();
        // Deletions come first, as a user would do it: they make room for additions.
        changes.sort_by_key(|c| !matches!(c, Change::Delete(_)));
        let smaller: Vec<Change> = changes.iter().take(1).cloned().collect();
        [changes, smaller]
    }

    fn change(&mut self) -> Vec<Change> {
        let vdc = name(["blue", "red"].choose(&mut self.rng).unwrap());
        let delete = |kind, what: String| Change::Delete(Key::new(vdc.clone(), kind, name(&what)));
        let ports = if self.made == Made::Migrations { 0.15 } else { 0.6 };
        let rng = &mut self.rng;
        match rng.random_range(0..16) {
            0..=1 => vec![delete(Kind::Attachment, format!("a{}", rng.random_range(0..4)))],
            // A network goes with all that uses it.
            2..=3 => {
                let n = rng.random_range(0..2);
                let attachments = (0..4).map(|a| delete(Kind::Attachment, format!("a{a}")));
                let all = attachments.chain([delete(Kind::Router, "r".into()), delete(Kind::Network, format!("n{n}"))]);
                let state = self.controller.state.try_lock().unwrap();
                let there = |c: &Change| matches!(c, Change::Delete(key) if state.model.stored(key).is_some());
                all.filter(there).collect()
            }
            4 => vec![delete(Kind::Router, "r".into())],
            5 => vec![Change::Put(vdc.clone(), Spec::Router(router(rng)))],
            6..=8 => vec![Change::Put(vdc.clone(), Spec::Network(network(rng)))],
            _ => vec![Change::Put(vdc.clone(), Spec::Attachment(attachment(rng, ports)))],
        }
    }
}

fn network(rng: &mut StdRng) -> NetworkSpec {
    let n = rng.random_range(0..2u8);
    let subnet = SubnetSpec::new(format!("10.{n}.0.0/28").parse().unwrap());
    let named = rng
        .random_bool(0.3)
        .then(|| rng.random_range(10..=12u32).try_into().unwrap());
    NetworkSpec {
        name: name(&format!("n{n}")),
        subnets: vec![subnet],
        mtu: 1500,
        vni: named,
        labels: Default::default(),
    }
}

fn router(rng: &mut StdRng) -> RouterSpec {
    let networks = (0..2).filter(|_| rng.random_bool(0.7)).map(|n| name(&format!("n{n}")));
    RouterSpec::new(name("r"), networks.collect())
}

/// `ports` is the share that is at access ports.
fn attachment(rng: &mut StdRng, ports: f64) -> AttachmentSpec {
    let n = rng.random_range(0..2u8);
    let place = if rng.random_bool(ports) {
        let (switch, port) = *[("leaf1", 10u16), ("leaf1", 11), ("leaf2", 10)].choose(rng).unwrap();
        Place::Port {
            switch: name(switch),
            port: port.try_into().unwrap(),
            vlan: *[None, Some(20), Some(30)].choose(rng).unwrap(),
        }
    } else {
        Place::Host {
            host: name(&format!("host{}", rng.random_range(1..=3))),
            netns: (*["x", "y"].choose(rng).unwrap()).to_owned(),
            interface: "eth0".into(),
        }
    };
    let mac = Mac([2, 0, 0, 0, 9, rng.random_range(1..4)]);
    let ip = IpAddr::V4(Ipv4Addr::new(10, n, 0, rng.random_range(2..6)));
    AttachmentSpec {
        name: name(&format!("a{}", rng.random_range(0..4))),
        network: name(&format!("n{n}")),
        mac: rng.random_bool(0.3).then_some(mac),
        ips: if rng.random_bool(0.3) { vec![ip] } else { Vec::new() },
        port_security: true,
        allowed_addresses: Vec::new(),
        migration: None,
        place,
        labels: Default::default(),
    }
}
