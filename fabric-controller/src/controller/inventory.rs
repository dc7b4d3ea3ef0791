//! The inventory at work: what a change of it does to devices, links and actors, and how it is stored.
//!
//! **Order.** When a transaction is published, new devices are registered first; then rendered entities reach them;
//! then links are added and removed; then actors start and stop. A device that has left is removed last.

mod load;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use tracing::{info, warn};
use vfabric_api::event::EventReason;
use vfabric_api::ident::Name;
use vfabric_api::inventory::{HostItem, Inventory, InventoryChange, ItemKey, ItemState, LinkItem, SwitchItem};
use vfabric_api::service::{Change, Transaction};
use vfabric_api::topology::Topology;

use super::fleet::Fleet;
use super::rows::to_json;
use super::writer::State;
use super::{Controller, HOST, SWITCH, StartError};
use crate::device::claim::Claim;
use crate::device::driver::DeviceIndex;
use crate::device::launch::Hardware;
use crate::device::reports::Reports;
use crate::device::settings::Settings;
use crate::device::{Device, Registry};
use crate::events;
use crate::model::Model;
use crate::model::change::Applied;
use crate::model::fabric::{Fabric, Node};
use crate::model::inventory::{NEXT_KEY, item_key};
use crate::store::{Op, Store};
use crate::tables::Tables;
use crate::topology::links::Memory;
pub(super) use load::{compare, is_stored, load};

/// The inputs of a controller's start, apart from its store.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// The topology, which is needed if the store has no inventory yet.
    pub topology: Option<Topology>,
    /// Whether to change the stored inventory to match the topology.
    pub import: bool,
    /// Its claim to devices.
    pub claim: Arc<Claim>,
    /// Room in the tables of switches; the default bounds nothing.
    pub tables: Tables,
}

impl From<Topology> for Start {
    fn from(topology: Topology) -> Self {
        Self {
            topology: Some(topology),
            ..Self::default()
        }
    }
}

/// What a transaction changed of the inventory, to be published once it is durable.
pub(super) struct News {
    /// The fabric after it.
    fabric: Arc<Fabric>,
    keys: Vec<ItemKey>,
}

impl News {
    /// The changes of a transaction that was carried out; none if it leaves the inventory alone. Costs the size of the
    /// inventory.
    pub(super) fn of(model: &Model, applied: &Applied) -> Option<Self> {
        let keys: Vec<ItemKey> = applied.items.iter().map(|(key, _)| key.clone()).collect();
        let fabric = || Arc::new(model.fabric.clone());
        (!keys.is_empty()).then(|| Self { fabric: fabric(), keys })
    }
}

/// Rows of what a transaction changed.
pub(super) fn rows(model: &Model, applied: &Applied) -> Vec<Op> {
    let mut ops = Vec::new();
    for (key, item) in &applied.items {
        ops.push(match item {
            Some(item) => Op::Put(item_key(key), to_json(item)),
            None => Op::Delete(item_key(key)),
        });
        if let (ItemKey::Link(a, b), None) = (key, item) {
            // The stored state of a link is deleted with it, whichever end was named first.
            for (a, b) in [(a, b), (b, a)] {
                let (a, b) = (a.clone(), b.clone());
                let key = super::links::store_key(&vfabric_api::topology::Link { a, b });
                ops.push(Op::Delete(key.into_bytes()));
            }
        }
    }
    if !applied.items.is_empty() {
        ops.push(Op::Put(NEXT_KEY.to_vec(), to_json(&model.next_handles())));
    }
    ops
}

impl<S: Store> Controller<S> {
    /// The topology as of the last transaction.
    pub(super) fn fabric_now(&self) -> Arc<Fabric> {
        Arc::clone(&self.fabric.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Starts an actor for every device.
    pub fn start(&self, mut fleet: Fleet) {
        fleet.claim = Arc::clone(&self.claim);
        // The first call counts; there is only one.
        let _ = self.fleet.set(fleet);
        let fabric = self.fabric_now();
        for (index, _) in self.registry.all() {
            self.crew(&fabric, index);
        }
        self.plan_ports(&fabric);
    }

    /// Sets the port plan of every switch.
    fn plan_ports(&self, fabric: &Fabric) {
        let Some(fleet) = self.fleet.get() else { return };
        for (switch, entry) in fabric.switches() {
            let settings = Settings::of(&entry.spec);
            fleet.set_ports(fabric.switch_device(switch), fabric.ports_of(switch), settings);
        }
    }

    /// Ends every actor.
    pub async fn shut_down(&self) {
        if let Some(fleet) = self.fleet.get() {
            fleet.shut_down().await;
        }
    }

    /// Registers the devices that a transaction added, before anything is rendered for them.
    pub(super) fn welcome(&self, news: &Option<News>) {
        let Some(News { fabric, keys }) = news else { return };
        for key in keys {
            let (ItemKey::Switch(name) | ItemKey::Host(name)) = key else {
                continue;
            };
            if let Some(node) = fabric.node(name)
                && self.registry.get(node.device()).is_none()
            {
                let device = device(name, node, (&self.progress, &self.timings, &self.reports));
                self.registry.insert(node.device(), device);
            }
        }
    }

    /// Brings links and actors in line with the inventory after a transaction that changed it.
    pub(super) fn settle_inventory(&self, news: Option<News>) {
        let Some(News { fabric: now, keys }) = news else { return };
        let before = {
            let mut published = self.fabric.write().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *published, Arc::clone(&now))
        };
        self.write_published().not_live = not_live(&now);
        for key in &keys {
            match key {
                ItemKey::Fabric => {}
                ItemKey::Link(..) => self.settle_link(&before, &now, key),
                ItemKey::Switch(name) | ItemKey::Host(name) => {
                    let nodes = [before.node(name), now.node(name)];
                    for node in nodes.into_iter().flatten() {
                        self.crew(&now, node.device());
                    }
                }
            }
        }
        self.plan_ports(&now);
        self.progress.notify_waiters();
    }

    fn settle_link(&self, before: &Fabric, now: &Fabric, key: &ItemKey) {
        let (old, new) = (before.link_of(key), now.link_of(key));
        let mut links = self.links_locked();
        if let Some(old) = old.filter(|_| old != new) {
            links.remove(old);
        }
        if let Some((new, entry)) = new.filter(|_| old != new).and_then(|l| Some((l, now.link(l)?))) {
            links.add(new, entry.ends, Memory::default());
        }
    }

    /// Starts or stops the actor of a device, depending on its state.
    fn crew(&self, fabric: &Fabric, index: DeviceIndex) {
        let hardware = match fabric.node_of(index) {
            Some(Node::Switch(s)) => fabric
                .switch(s)
                .filter(|s| !s.gone)
                .map(|s| Hardware::Switch(s.spec.clone(), s.replaced_s)),
            Some(Node::Host(h)) => fabric
                .host(h)
                .filter(|h| !h.gone)
                .map(|h| Hardware::Host(h.spec.clone())),
            None => {
                if let Some(device) = self.registry.get(index) {
                    self.claim.left(&device.name, device.sent());
                }
                self.registry.remove(index);
                self.links_locked().remove_switch(crate::model::SwitchIndex(index.0));
                self.wire.forget(index);
                None
            }
        };
        let Some(fleet) = self.fleet.get() else { return };
        match (hardware, self.registry.get(index)) {
            (Some(hardware), Some(device)) => fleet.ensure(index, &device, hardware),
            (_, device) => {
                fleet.stop(index);
                if let Some(device) = device {
                    device.disconnected("declared gone".into());
                }
            }
        }
    }

    /// Objects that can leave, and objects that have arrived.
    pub(super) fn travellers(&self, state: &mut State) -> Vec<InventoryChange> {
        let confirmed = |device, revision| self.registry.get(device).is_some_and(|d| d.has_confirmed(revision));
        state.model.travellers(confirmed)
    }

    /// Removes leaving objects of which no device holds anything any more, and takes into service those that have
    /// arrived.
    pub(super) async fn let_pass(&self, travellers: Vec<InventoryChange>) {
        for change in travellers {
            if let InventoryChange::Arrived(ItemKey::Switch(name)) = &change {
                self.avoid_until_filled(name).await;
            }
            let changes = vec![(String::new(), Change::Inventory(change.clone()))];
            let dry_run = false;
            match (
                self.propose(Transaction {
                    changes,
                    dry_run,
                    ..Transaction::default()
                })
                .await,
                change,
            ) {
                (Ok(_), InventoryChange::Left(key)) => {
                    info!(%key, "left the inventory");
                    self.note_item(EventReason::Left, &key, "left the inventory");
                }
                (Ok(_), InventoryChange::Arrived(key)) => {
                    info!(%key, "arrived");
                    self.note_item(EventReason::Arrived, &key, "is in service");
                }
                (Ok(_), _) => {}
                (Err(error), change) => warn!(?change, %error, "the state of the inventory cannot be updated"),
            }
        }
    }

    /// Paths avoid a switch that comes into service until it holds what it should: others are to send it nothing before.
    async fn avoid_until_filled(&self, name: &Name) {
        let fabric = self.fabric_now();
        let Some(Node::Switch(switch)) = fabric.node(name) else {
            return;
        };
        if let Some(device) = self.registry.get(fabric.switch_device(switch)) {
            device.fill();
            if self.is_filling(&fabric, switch) {
                let changes = self.links_locked().fill(switch);
                self.reroute(changes).await;
            }
        }
    }

    fn note_item(&self, reason: EventReason, key: &ItemKey, detail: &str) {
        self.events.note(events::News {
            object: Some(key.to_string()),
            ..events::News::of_fabric(reason, detail)
        });
    }

    /// Changes the inventory to match a topology.
    pub(super) async fn import(&self, topology: Topology) -> Result<(), StartError> {
        let change = Change::Inventory(InventoryChange::Import(Box::new(topology)));
        let changes = vec![(String::new(), change)];
        let dry_run = false;
        let committed = self
            .propose(Transaction {
                changes,
                dry_run,
                ..Transaction::default()
            })
            .await;
        for change in committed.map_err(StartError::Import)?.inventory {
            info!("imported: {change}");
        }
        Ok(())
    }

    /// For the API.
    pub(super) async fn inventory_view(&self) -> Inventory {
        let fabric = self.fabric_now();
        let state = self.state.lock().await;
        let waiting = |item: ItemState, key: ItemKey| match item {
            ItemState::Leaving => state.model.why_leaving(&key),
            ItemState::Arriving => vec!["waits until it was read back and holds nothing".to_owned()],
            _ => Vec::new(),
        };
        let switches = fabric.switches().map(|(_, s)| SwitchItem {
            spec: s.spec.clone(),
            uid: s.uid.get(),
            vtep_id: Some(s.vtep_id).filter(|id| *id != 0),
            state: s.state,
            waiting: waiting(s.state, ItemKey::Switch(s.spec.name.clone())),
            machine: self.machines.status(&s.spec.name),
        });
        let hosts = fabric.hosts().map(|(_, h)| HostItem {
            spec: h.spec.clone(),
            uid: h.uid.get(),
            vtep_id: h.vtep_id,
            state: h.state,
            waiting: waiting(h.state, ItemKey::Host(h.spec.name.clone())),
        });
        let links = fabric.links().map(|(_, l)| LinkItem {
            spec: l.spec.clone(),
            uid: l.uid.get(),
        });
        Inventory {
            fabric: fabric.settings.clone(),
            switches: switches.collect(),
            links: links.collect(),
            hosts: hosts.collect(),
            set_aside: self.published().set_aside.clone(),
        }
    }
}

/// Devices that hold nothing now, and for which other devices hold nothing.
pub(super) fn not_live(fabric: &Fabric) -> BTreeMap<Name, ItemState> {
    let switches = fabric.switches().map(|(_, s)| (&s.spec.name, s.state));
    let hosts = fabric.hosts().map(|(_, h)| (&h.spec.name, h.state));
    let dead = switches.chain(hosts).filter(|(_, state)| !state.is_live());
    dead.map(|(name, state)| (name.clone(), state)).collect()
}

/// A device of which nothing is known.
fn device(
    name: &Name,
    node: Node,
    (progress, timings, reports): (&Arc<tokio::sync::Notify>, &crate::timings::AllTimings, &Reports),
) -> Arc<Device> {
    let device = Device::new(name.clone(), Arc::clone(progress), timings.of(kind(node)));
    Arc::new(device.reporting(reports.clone()))
}

/// The kind of a device, as metrics name it.
pub(super) fn kind(node: Node) -> &'static str {
    match node {
        Node::Switch(_) => SWITCH,
        Node::Host(_) => HOST,
    }
}

/// A device for each switch and host.
pub(super) fn devices_of(
    fabric: &Fabric,
    progress: &Arc<tokio::sync::Notify>,
    timings: &crate::timings::AllTimings,
    reports: &Reports,
) -> Registry {
    let registry = Registry::default();
    let switches = fabric.switches().map(|(s, entry)| (&entry.spec.name, Node::Switch(s)));
    let hosts = fabric.hosts().map(|(h, entry)| (&entry.spec.name, Node::Host(h)));
    for (name, node) in switches.chain(hosts) {
        registry.insert(node.device(), device(name, node, (progress, timings, reports)));
    }
    registry
}
