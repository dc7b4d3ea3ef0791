//! One history.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fabric_pipeline::Pipeline;
use p4runtime_client::order::Order;
use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};
use vfabric_api::ident::{Mac, Name};
use vfabric_api::intent::VdcSpec;
use vfabric_api::service::{Change, FabricService as _, Spec, Transaction};
use vfabric_api::topology::{Role, Topology};

use super::devices::{Host, Sim, Switch};
use super::frames;
use super::migrations::Steps;
use super::network::{Edge, InFlight, Network};
use super::places::Station;
use super::store::Shared;
use crate::controller::Controller;
use crate::device::Device;
use crate::device::driver::{Batch, DeviceIndex, Limits, Write};
use crate::driver::p4runtime::rank;
use crate::entity::{Entity, EntityKey};
use crate::reconcile;
use crate::render::FabricRender;

pub(super) const GATEWAY: Mac = Mac([0x00, 0x00, 0x5e, 0x00, 0x01, 0x01]);
const BROADCAST: Mac = Mac([0xff; 6]);
/// Few numbers of each kind, so that they are soon needed again.
const NUMBERS: u32 = 4;

/// A moment in which fast devices carry out a write.
const HASTE: Duration = Duration::from_millis(8);

/// A device's session.
#[derive(Default)]
struct Session {
    connected: bool,
    /// The device that it is with.
    device: Option<DeviceIndex>,
    revision: u64,
    batches: VecDeque<Batch>,
}

/// Events of a walk besides single transactions of tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// Nothing.
    Single,
    /// Several transactions at once; the store may fail.
    Groups,
    /// Hosts leave and come back; they still hold what they held when they left.
    Inventory,
    /// Attachments migrate between hosts, and hosts leave and come back.
    Migrations,
}

pub(super) struct Walk {
    pub(super) rng: StdRng,
    pub(super) topology: Topology,
    store: Shared,
    pub(super) controller: Arc<Controller<Shared>>,
    pub(super) sims: Vec<Sim>,
    sessions: Vec<Session>,
    pub(super) network: Network,
    /// The tenant at each VLAN of an access port, according to its leaf's entry.
    pub(super) access: BTreeMap<Edge, Station>,
    /// The tenant of an entry that is about to be written.
    pub(super) meant: BTreeMap<(usize, EntityKey), Station>,
    /// Tenants whose frames came out of a place since its last entry was removed.
    pub(super) seen: BTreeMap<Edge, BTreeSet<String>>,
    pub(super) held: Vec<(tokio::time::Instant, InFlight)>,
    pub(super) made: Made,
    /// Transactions that were accepted in groups.
    pub(super) committed: usize,
    /// Steps of migrations.
    pub(super) steps_taken: Steps,
}

pub(super) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

impl Walk {
    pub(super) async fn new(rng: StdRng, made: Made) -> Self {
        let mut topology = crate::testing::topology();
        let pool = &mut topology.fabric.vni_pool;
        (pool.first, pool.last) = (10.try_into().unwrap(), 15.try_into().unwrap());
        let store = Shared::default();
        let controller = start(&topology, &store).await;
        for vdc in ["blue", "red"] {
            let spec = VdcSpec::new(name(vdc));
            let changes = vec![(String::new(), Change::Create(name(vdc), Spec::Vdc(spec)))];
            let dry_run = false;
            controller
                .commit(Transaction {
                    changes,
                    dry_run,
                    ..Transaction::default()
                })
                .await
                .unwrap();
        }
        let switches = topology.switches.iter().map(|s| Sim::Switch(Box::new(switch(s))));
        let sims: Vec<Sim> = switches
            .chain(topology.hosts.iter().map(|_| Sim::Host(Host::default())))
            .collect();
        Self {
            rng,
            network: Network::new(&topology),
            topology,
            store,
            controller,
            sessions: sims.iter().map(|_| Session::default()).collect(),
            sims,
            access: BTreeMap::new(),
            meant: BTreeMap::new(),
            seen: BTreeMap::new(),
            held: Vec::new(),
            made,
            committed: 0,
            steps_taken: Steps::new(),
        }
    }

    /// A random transaction; many are refused, which is fine.
    pub(super) async fn transaction(&mut self) -> Result<(), String> {
        let mut migrating = Vec::new();
        match self.made {
            Made::Single => {}
            Made::Groups => {
                self.group().await;
                return Ok(());
            }
            Made::Inventory if self.rng.random_bool(0.3) => {
                self.change_inventory().await;
                return Ok(());
            }
            Made::Inventory => {}
            Made::Migrations => match self.rng.random_range(0..20) {
                _ if self.on_hosts().is_empty() => {
                    self.populate().await;
                    return Ok(());
                }
                0..12 => return self.migrate().await,
                12 | 13 => {
                    if !self.bring_hosts_back().await {
                        self.change_inventory().await;
                    }
                    return Ok(());
                }
                _ => migrating = self.on_hosts(),
            },
        }
        for changes in self.alternatives() {
            let transaction = self.sometimes_dry(changes);
            if self.controller.commit(transaction).await.is_ok() {
                break;
            }
        }
        self.note_overturned(&migrating);
        Ok(())
    }

    /// Several at once, which the store may refuse together. Readers must see the true state then.
    async fn group(&mut self) {
        let count = self.rng.random_range(1..=4);
        let mut group = Vec::new();
        for _ in 0..count {
            for changes in self.alternatives() {
                group.push(self.sometimes_dry(changes));
            }
        }
        let fails = (0..4).fold(0u64, |bits, _| bits << 1 | u64::from(self.rng.random_bool(0.2)));
        self.store.fails.store(fails, Ordering::SeqCst);
        // Some come while those before them are made durable.
        let late = |_| self.rng.random_range(0..6);
        let late: Vec<usize> = group.iter().map(late).collect();
        let proposed = group.into_iter().zip(late).map(async |(transaction, late)| {
            for _ in 0..late {
                tokio::task::yield_now().await;
            }
            self.controller.commit(transaction).await
        });
        let results = futures::future::join_all(proposed).await;
        self.committed += results.iter().filter(|r| r.is_ok()).count();
        self.store.fails.store(0, Ordering::SeqCst);
    }

    /// The published state equals the model, and the model equals what a start would load from the store.
    fn check_published(&self) -> Result<(), String> {
        let state = self.controller.state.try_lock().unwrap();
        self.controller.published().differs(&state.model).map_or(Ok(()), Err)
    }

    pub(super) fn sometimes_dry(&mut self, changes: Vec<Change>) -> Transaction {
        let changes = changes.into_iter().map(|c| (String::new(), c)).collect();
        let dry_run = self.rng.random_bool(0.1);
        Transaction {
            changes,
            dry_run,
            ..Transaction::default()
        }
    }

    /// Now and then a session breaks, a switch loses everything, or the controller starts again.
    pub(super) async fn disturb(&mut self) {
        if self.rng.random_bool(0.1) {
            let device = self.rng.random_range(0..self.sims.len());
            self.disconnect(device);
        }
        if self.rng.random_bool(0.05) {
            let at = self.rng.random_range(0..self.topology.switches.len());
            self.disconnect(at);
            self.sims[at] = Sim::Switch(Box::new(switch(&self.topology.switches[at])));
            self.access
                .retain(|edge, _| !matches!(edge, Edge::Access(d, ..) if *d == at));
        }
        if self.rng.random_bool(0.05) {
            self.restart().await;
        }
        let pause = self.rng.random_range(0..900);
        tokio::time::advance(Duration::from_millis(pause)).await;
    }

    pub(super) async fn restart(&mut self) {
        self.controller = start(&self.topology, &self.store).await;
        self.sessions = self.sims.iter().map(|_| Session::default()).collect();
    }

    pub(super) fn disconnect(&mut self, device: usize) {
        if let Some((_, device)) = self.device(device) {
            device.disconnected("the walk".into());
        }
        self.sessions[device] = Session::default();
    }

    /// A device as the controller knows it; none if the controller does not manage it.
    pub(super) fn device(&self, at: usize) -> Option<(DeviceIndex, Arc<Device>)> {
        let switches = self.topology.switches.iter().map(|s| &s.name);
        let name = switches.chain(self.topology.hosts.iter().map(|h| &h.name)).nth(at)?;
        let index = self.controller.registry.find(name)?;
        let fabric = self.controller.fabric_now();
        let (_, gone) = fabric.state_of(fabric.node_of(index)?)?;
        (!gone).then(|| Some((index, self.controller.registry.get(index)?)))?
    }

    /// Some writes of some devices, with frames after each.
    pub(super) async fn steps(&mut self) -> Result<(), String> {
        self.check_published()?;
        for _ in 0..self.rng.random_range(0..40) {
            let device = self.rng.random_range(0..self.sims.len());
            if self.step(device) {
                self.check()?;
            }
            if self.rng.random_bool(0.2) {
                let pause = self.rng.random_range(0..200);
                tokio::time::advance(Duration::from_millis(pause)).await;
                self.housekeeping().await;
            }
        }
        Ok(())
    }

    async fn housekeeping(&self) {
        let mut state = self.controller.state.lock().await;
        self.controller.release_quarantine(&mut state);
        self.controller.wake(&mut state).await;
        let travellers = self.controller.travellers(&mut state);
        drop(state);
        self.controller.let_pass(travellers).await;
        self.controller.tend_migrations().await;
    }

    /// One write of a device, or the step before it. Returns true if it wrote.
    pub(super) fn step(&mut self, index: usize) -> bool {
        let Some((handle, device)) = self.device(index) else {
            return false;
        };
        if self.sessions[index].device != Some(handle) {
            self.sessions[index] = Session {
                device: Some(handle),
                ..Session::default()
            };
        }
        if !self.sessions[index].connected {
            device.connected();
            device.begin_read_back();
            let held = self.sims[index].held().values().cloned();
            device.found(held, |wanted, held| wanted == held);
            device.end_read_back();
            self.sessions[index].connected = true;
            return false;
        }
        if self.sessions[index].batches.is_empty() {
            let (revision, differences) = device.differences(true);
            for wanted in differences.iter().filter_map(|d| d.desired.as_ref()) {
                self.note_meaning(index, wanted);
            }
            let ordered = matches!(self.sims[index], Sim::Host(_));
            let limits = Limits { batch: 8, ordered };
            let role = self.topology.switches.get(index).map(|s| s.role);
            let order = role.map(|role| Order::new(&pipeline(role).decode_p4info().unwrap()));
            let rank = |key: &EntityKey| match (key, &order) {
                (EntityKey::Switch(key), Some(order)) => rank(order, key),
                _ => key.rank(),
            };
            let session = &mut self.sessions[index];
            session.batches = reconcile::plan(differences, limits, rank, revision).into();
            session.revision = revision;
            if session.batches.is_empty() {
                device.flushed(revision);
                return false;
            }
        }
        let ordered = matches!(self.sims[index], Sim::Host(_));
        let session = &mut self.sessions[index];
        let Some(batch) = session.batches.front_mut() else {
            return false;
        };
        if !ordered {
            batch.writes.shuffle(&mut self.rng);
        }
        let write = batch.writes.remove(0);
        if batch.writes.is_empty() {
            session.batches.pop_front();
        }
        self.write(index, &write);
        true
    }

    fn write(&mut self, index: usize, write: &Write) {
        let result = self.sims[index].write(write);
        self.note_occupant(index, write);
        if self.rng.random_bool(0.02) {
            // The device carried it out, but the answer is lost with the session.
            self.disconnect(index);
            return;
        }
        let Some((_, device)) = self.device(index) else { return };
        device.written(std::slice::from_ref(write), vec![result], Duration::ZERO);
    }

    /// Frames of every workload run through all devices.
    pub(super) fn check(&mut self) -> Result<(), String> {
        self.check_interfaces()?;
        let stations = self.stations();
        let owners: BTreeMap<Edge, String> = stations.iter().map(|(e, s)| (e.clone(), s.vdc.clone())).collect();
        let mut arrivals: Vec<(String, Edge)> = Vec::new();
        let now = tokio::time::Instant::now();
        let (due, held) = std::mem::take(&mut self.held)
            .into_iter()
            .partition(|(until, _)| *until <= now);
        self.held = held;
        let due: Vec<(tokio::time::Instant, InFlight)> = due;
        for (_, frame) in due {
            let label = frames::label(&frame.frame).unwrap();
            let (reached, _) = self.network.run(&self.sims, vec![frame], || false);
            arrivals.extend(reached.into_iter().map(|e| (label.clone(), e)));
        }
        for (edge, station) in &stations {
            for frame in self.frames_of(station, &stations) {
                let (start, mut reached) = self.network.send(&self.sims, edge, &frame);
                let rng = &mut self.rng;
                let (ends, held) = self.network.run(&self.sims, start, || rng.random_bool(0.02));
                reached.extend(ends);
                arrivals.extend(reached.into_iter().map(|e| (station.vdc.clone(), e)));
                for frame in held {
                    // Within what a queue may hold a frame.
                    let until = now + Duration::from_millis(self.rng.random_range(0..900));
                    self.held.push((until, frame));
                }
            }
        }
        for (label, edge) in arrivals {
            if let Some(owner) = owners.get(&edge) {
                if *owner != label {
                    return Err(format!("a frame of {label} reached {edge:?} of {owner}"));
                }
                continue;
            }
            let seen = self.seen.entry(edge.clone()).or_default();
            seen.insert(label);
            if seen.len() > 1 {
                return Err(format!(
                    "frames of {seen:?} came out of {edge:?} before it was anybody's again"
                ));
            }
        }
        Ok(())
    }

    fn frames_of(&mut self, station: &Station, all: &[(Edge, Station)]) -> Vec<Vec<u8>> {
        let v4 = |s: &Station| {
            s.ips.iter().find_map(|ip| match ip {
                IpAddr::V4(ip) => Some(*ip),
                IpAddr::V6(_) => None,
            })
        };
        let from = v4(station).unwrap_or(Ipv4Addr::new(10, 1, 0, 2));
        let send = |dst, to| frames::labelled(dst, station.mac, from, to, &station.vdc);
        let mut out = vec![send(BROADCAST, Ipv4Addr::BROADCAST)];
        let others: Vec<&(Edge, Station)> = all.choose_multiple(&mut self.rng, 1).collect();
        for (_, other) in others {
            let to = v4(other).unwrap_or(from);
            out.push(send(other.mac, to));
            out.push(send(GATEWAY, to));
        }
        out
    }

    /// A transaction that is to be accepted, or refused.
    pub(super) async fn commit(&mut self, changes: Vec<Change>) -> bool {
        let changes = changes.into_iter().map(|c| (String::new(), c)).collect();
        let dry_run = false;
        self.controller
            .commit(Transaction {
                changes,
                dry_run,
                ..Transaction::default()
            })
            .await
            .is_ok()
    }

    /// These devices carry out all of their writes; frames run after each.
    pub(super) async fn settle(&mut self, devices: std::ops::Range<usize>) -> Result<(), String> {
        for _ in 0..60 {
            tokio::time::advance(Duration::from_millis(100)).await;
            self.housekeeping().await;
            for device in devices.clone() {
                for _ in 0..10 {
                    if self.step(device) {
                        self.check()?;
                    }
                }
            }
        }
        self.check()
    }

    /// Time passes without writes, and frames run.
    pub(super) async fn linger(&mut self, rounds: usize) -> Result<(), String> {
        for _ in 0..rounds {
            tokio::time::advance(HASTE).await;
            self.check()?;
        }
        Ok(())
    }

    /// All devices carry out their writes within the time that a queue may hold a frame.
    pub(super) async fn hurry(&mut self) -> Result<(), String> {
        for _ in 0..100 {
            tokio::time::advance(HASTE).await;
            self.housekeeping().await;
            for device in self.all() {
                if self.step(device) {
                    self.check()?;
                }
            }
            self.check()?;
        }
        Ok(())
    }

    /// Objects that wait for a number.
    pub(super) async fn waiting(&self) -> usize {
        self.controller.state.lock().await.model.waiting()
    }

    /// Every device.
    pub(super) fn all(&self) -> std::ops::Range<usize> {
        0..self.sims.len()
    }

    /// Every switch.
    pub(super) fn switches(&self) -> std::ops::Range<usize> {
        0..self.topology.switches.len()
    }

    /// A host of the first topology.
    pub(super) fn host(&self, at: usize) -> vfabric_api::topology::Host {
        self.topology.hosts[at].clone()
    }

    /// When nothing changes any more, everything wanted is there, and a restart writes nothing.
    pub(super) async fn converge(&mut self) -> Result<(), String> {
        for _ in 0..200 {
            tokio::time::advance(Duration::from_millis(100)).await;
            self.housekeeping().await;
            for device in 0..self.sims.len() {
                for _ in 0..10 {
                    if self.step(device) {
                        self.check()?;
                    }
                }
            }
        }
        self.check_published()?;
        let waiting = self.waiting().await;
        if waiting > 0 {
            return Err(format!("{waiting} objects wait for ever"));
        }
        self.check_intruders()?;
        self.restart().await;
        for i in 0..self.sims.len() {
            let Some((_, device)) = self.device(i) else { continue };
            let wanted: BTreeMap<EntityKey, Entity> = device
                .desired()
                .into_iter()
                .map(|(e, _)| (e.key(), e.as_ref().clone()))
                .collect();
            let held = self.sims[i].held();
            let differs = |key: &&EntityKey| wanted.get(key) != held.get(key);
            if let Some(key) = wanted.keys().chain(held.keys()).find(differs) {
                let (wanted, held) = (wanted.get(key), held.get(key));
                return Err(format!("{} should hold {wanted:?}, but holds {held:?}", device.name));
            }
        }
        Ok(())
    }
}

async fn start(topology: &Topology, store: &Shared) -> Arc<Controller<Shared>> {
    let render = Arc::new(FabricRender);
    let controller = Controller::load(topology.clone(), store.clone(), render).await.unwrap();
    controller.state.lock().await.model.limit_numbers(NUMBERS);
    controller
}

fn pipeline(role: Role) -> Pipeline {
    match role {
        Role::Leaf => Pipeline::LEAF,
        Role::Spine => Pipeline::SPINE,
    }
}

fn switch(s: &vfabric_api::topology::Switch) -> Switch {
    Switch::new(s.device_id, pipeline(s.role))
}
