//! Devices that fail, lose connections and restart, links that come and go, a controller that
//! is restarted, while tenants change their intent: in the end, every device holds exactly what a controller that knows
//! only the store would give it.

use std::collections::HashMap;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, SeedableRng as _};

use super::link_tests::{cabled, port};
use super::tests::*;
use crate::entity::EntityKey;
use crate::render::FabricRender;
use crate::store::{Past, Revision, Scanned, StoreError, StoreTransaction, Visit};

/// Number of histories; they run at the same time.
const HISTORIES: u64 = 8;
/// Events of a history.
const EVENTS: usize = 150;

/// A store that outlives its controllers.
#[derive(Clone, Default)]
struct Kept(Arc<MemoryStore>);

impl Store for Kept {
    async fn revision(&self) -> Result<Revision, StoreError> {
        self.0.revision().await
    }
    async fn get(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        self.0.get(key).await
    }
    async fn scan_range(&self, from: &[u8], before: Option<&[u8]>, visit: Visit<'_>) -> Result<Scanned, StoreError> {
        self.0.scan_range(from, before, visit).await
    }
    async fn past(&self, from: Revision, to: Revision, limit: usize) -> Result<Past, StoreError> {
        self.0.past(from, to, limit).await
    }
    async fn commit_group(&self, transactions: Vec<StoreTransaction>) -> Result<Revision, StoreError> {
        self.0.commit_group(transactions).await
    }
}

/// Leaf, its uplink, spine, the port there.
const CABLES: [(usize, u16, usize, u16); 4] = [(2, 1, 0, 1), (2, 2, 1, 1), (3, 1, 0, 2), (3, 2, 1, 2)];

struct Chaos {
    rng: StdRng,
    store: Kept,
    world: World<Kept>,
    /// Entities seen on devices: keys to refuse, and strays to insert.
    seen: Vec<Entity>,
    accepted: usize,
}

impl Chaos {
    async fn new(seed: u64) -> Self {
        let store = Kept::default();
        let world = World::over(topology(), store.clone(), cabled()).await;
        world.commit(basics()).await.unwrap();
        Self {
            rng: StdRng::seed_from_u64(seed),
            store,
            world,
            seen: Vec::new(),
            accepted: 1,
        }
    }

    fn pick<'a>(&mut self, names: &[&'a str]) -> &'a str {
        names.choose(&mut self.rng).unwrap()
    }

    /// Changes that tenants may ask for; many are refused.
    fn change(&mut self) -> Change {
        let attachment = self.pick(&["a1", "a2", "a3", "a4", "a5", "a6", "a7", "a8"]);
        let net = self.pick(&["red", "blue", "green"]);
        let host = self.pick(&["host1", "host2", "host3"]);
        match self.rng.random_range(0..10) {
            0 => network("green", "10.3.0.0/24"),
            1 => delete(Kind::Network, net),
            2 => delete(Kind::Router, "r"),
            3 => Change::Put(
                n("v"),
                router(&["red", "blue", "green"][..self.rng.random_range(0..=3)]),
            ),
            4..=6 => delete(Kind::Attachment, attachment),
            _ => create(attach(attachment, net, host)),
        }
    }

    async fn event(&mut self) {
        let which = self.rng.random_range(0..self.world.devices.len());
        let device = self.world.devices[which].clone();
        self.seen
            .extend(device.entities().into_values().take(3).map(|e| Entity::clone(&e)));
        self.seen.truncate(64);
        let (leaf, uplink, spine, at) = *CABLES.choose(&mut self.rng).unwrap();
        let (leaf, spine) = (self.world.devices[leaf].clone(), self.world.devices[spine].clone());
        match self.rng.random_range(0..40) {
            0 => device.go_offline(),
            1 | 2 => device.go_online(),
            3 => device.restart_empty(),
            4 => device.break_after(self.rng.random_range(0..5)),
            5 => {
                if let Some(entity) = self.seen.choose(&mut self.rng) {
                    let retryable = self.rng.random();
                    device.refuse(entity.key(), "not today", retryable);
                }
            }
            6 => device.accept_all(),
            7 => {
                let kind = |e: &&Entity| matches!(e, Entity::Switch(_)) == (which < 4);
                let same: Vec<&Entity> = self.seen.iter().filter(kind).collect();
                if let Some(stray) = same.choose(&mut self.rng) {
                    device.meddle_insert(Entity::clone(stray));
                }
            }
            8 => {
                if let Some(key) = device.entities().into_keys().next() {
                    device.meddle_delete(&key);
                }
            }
            9 => leaf.set_port(port(uplink), false),
            10 | 11 => leaf.set_port(port(uplink), true),
            12 => leaf.uncable(port(uplink)),
            13 | 14 => FakeDevice::cable((&leaf, port(uplink)), (&spine, port(at))),
            15 => self.restart().await,
            16..=20 => tokio::time::sleep(Duration::from_millis(self.rng.random_range(0..300))).await,
            _ => {
                let changes = (0..self.rng.random_range(1..3)).map(|_| self.change()).collect();
                self.accepted += usize::from(self.world.commit(changes).await.is_ok());
            }
        }
    }

    async fn restart(&mut self) {
        self.world = World::over(topology(), self.store.clone(), self.world.devices.clone()).await;
    }

    /// All faults are repaired; what do the devices hold in the end?
    async fn converge(self, seed: u64) {
        for device in &self.world.devices {
            device.accept_all();
            device.go_online();
        }
        for (leaf, uplink, spine, at) in CABLES {
            let (leaf, spine) = (&self.world.devices[leaf], &self.world.devices[spine]);
            leaf.uncable(port(uplink));
            spine.uncable(port(at));
            FakeDevice::cable((leaf, port(uplink)), (spine, port(at)));
            leaf.set_port(port(uplink), true);
        }
        assert!(
            self.accepted > EVENTS / 20,
            "history {seed}: hardly anything was accepted"
        );
        let deadline = tokio::time::Instant::now() + 3 * PATIENCE;
        loop {
            let links = self.world.controller.links().await;
            if links.iter().all(|l| l.up) && self.differing().await.is_none() {
                return;
            }
            let late = tokio::time::Instant::now() > deadline;
            assert!(!late, "history {seed}: {:?}, links {links:?}", self.differing().await);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// A device that does not hold what a controller over the same store would give it if all links were up.
    async fn differing(&self) -> Option<String> {
        let fresh = MemoryStore::default();
        let copied = std::sync::Mutex::new(Vec::new());
        let mut visit = |key: &[u8], value: &Versioned| {
            if !key.starts_with(b"link/") {
                let (key, value) = (key.to_vec(), value.value.clone());
                copied.lock().unwrap().push(crate::store::Op::Put(key, value));
            }
            std::ops::ControlFlow::Continue(())
        };
        self.store.scan(b"", &mut visit).await.unwrap();
        let transaction = StoreTransaction {
            compares: Vec::new(),
            ops: copied.into_inner().unwrap(),
            ..StoreTransaction::default()
        };
        fresh.commit(transaction).await.unwrap();
        let judge = super::Controller::load(topology(), fresh, Arc::new(FabricRender))
            .await
            .unwrap();
        let mut devices = self.world.devices.iter().zip(judge.devices());
        devices.find_map(|(device, wanted)| {
            let wanted: HashMap<EntityKey, Arc<Entity>> =
                wanted.desired().into_iter().map(|(e, _)| (e.key(), e)).collect();
            let held = device.entities();
            let key = held
                .keys()
                .chain(wanted.keys())
                .find(|k| held.get(k) != wanted.get(k))?;
            Some(format!(
                "{key}: holds {:?}, should hold {:?}",
                held.get(key),
                wanted.get(key)
            ))
        })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_history_converges() {
    let histories = (0..HISTORIES).map(|seed| {
        tokio::spawn(async move {
            let mut chaos = Chaos::new(seed).await;
            for _ in 0..EVENTS {
                chaos.event().await;
            }
            chaos.converge(seed).await;
        })
    });
    for history in histories.collect::<Vec<_>>() {
        history.await.unwrap();
    }
}
