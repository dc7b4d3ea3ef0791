//! The controller: intent in, devices kept at it.
//!
//! **Way of a change.** A transaction is carried out on the model in memory, written to the
//! store in one durable transaction, and only then acknowledged and rendered. If the store
//! fails, the model is put back. One lock orders changes; reads take it briefly.
//!
//! **Invariants.** Nothing acknowledged is lost: what is acknowledged is in the store.
//! Nothing is half applied: the store's transaction is the only step that counts. After a
//! restart everything is loaded, rendered and compared with the devices; where nothing
//! changed, nothing is written.

#[cfg(test)]
mod chaos_tests;
pub mod fleet;
mod inventory;
#[cfg(test)]
mod inventory_tests;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod link_tests;
mod links;
#[cfg(test)]
mod quarantine_tests;
mod service;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod upgrade_tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, RwLock, Weak};
use std::time::Duration;

use fabric_identity::Credentials;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, MutexGuard, Notify};
use tracing::{info, warn};
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::Name;
use vfabric_api::inventory::SetAside;
use vfabric_api::service::{Committed, Key, Transaction};

use crate::device::driver::DeviceIndex;
use crate::device::{Device, Registry};
use crate::engine::Engine;
use crate::metrics::AllTimings;
use crate::model::Model;
use crate::model::change::Applied;
use crate::model::fabric::{Fabric, Node};
use crate::model::number::{Number, StoredNumber, Uid};
use crate::model::object::{Stored, parse_store_key, store_key};
use crate::render::Render;
use crate::store::{Op, Store, StoreError, StoreTransaction, Versioned};
use crate::topology::links::{Links, Memory};
use fleet::Fleet;
pub use inventory::Start;

/// Transactions of which is known which devices they concern; older ones concern all.
const REMEMBERED: usize = 4096;
/// As soon as there are this many expired quarantine keys, they are deleted without waiting for a transaction.
const EXPIRED_AT_MOST: usize = 4096;
/// Longest time between two looks at what is in quarantine.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Why a controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing says what the fabric is made of.
    #[error("the store has no inventory: name a topology file to begin with")]
    NoInventory,
    /// The topology that was to be imported contradicts the inventory.
    #[error("the topology cannot be imported: {0}")]
    Import(#[source] ApiError),
}

struct State {
    model: Model,
    engine: Engine,
    revision: u64,
    /// Devices that each of the last transactions concerned.
    concerned: VecDeque<(u64, Vec<DeviceIndex>)>,
    /// Store keys of numbers that have left quarantine. They are deleted with the next transaction, which is the first
    /// that can give these numbers to others; and before an object that waited for one of them is rendered. Otherwise a
    /// restart would hold the new owner back.
    expired: BTreeSet<Vec<u8>>,
}

/// A controller over a store.
pub struct Controller<S> {
    store: S,
    state: Mutex<State>,
    /// Taken briefly, also while `state` is.
    links: std::sync::Mutex<Links>,
    registry: Arc<Registry>,
    /// What the fabric is made of, as of the last transaction. Held to copy the pointer only.
    fabric: RwLock<Arc<Fabric>>,
    /// The actors, once they are started.
    fleet: std::sync::OnceLock<Fleet>,
    /// Rows of the store that are not used.
    set_aside: Vec<SetAside>,
    /// Of this process, for metrics; none in tests.
    credentials: std::sync::OnceLock<Arc<Credentials>>,
    progress: Arc<Notify>,
    timings: AllTimings,
    me: Weak<Self>,
}

/// The time; tests can stop it.
fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

/// Kinds of devices, as metrics name them.
const SWITCH: &str = "switch";
const HOST: &str = "host";

impl<S: Store> Controller<S> {
    /// Loads what is stored and renders it; no device is talked to yet.
    ///
    /// # Errors
    /// [`StartError`] names the file.
    pub async fn load(start: impl Into<Start>, store: S, render: Arc<dyn Render>) -> Result<Arc<Self>, StartError> {
        let start = start.into();
        let progress = Arc::new(Notify::new());
        let timings = AllTimings::default();
        let Restored {
            mut model,
            revision,
            links,
            expired,
            set_aside,
        } = restore(&store, start.topology.as_ref()).await?;
        for link in links.down() {
            model.set_link(link, false, false);
        }
        let registry = Arc::new(inventory::devices_of(&model.fabric, &progress, &timings));
        let mut engine = Engine::new(render, Arc::clone(&registry));
        let touched = model.take_touched();
        engine.update(&model, touched, revision);
        let (networks, routers, attachments) = model.counts();
        info!(
            revision,
            vdcs = model.vdcs().len(),
            networks,
            routers,
            attachments,
            set_aside = set_aside.len(),
            "intent loaded"
        );
        let fabric = RwLock::new(Arc::new(model.fabric.clone()));
        let state = State {
            model,
            engine,
            revision,
            concerned: VecDeque::new(),
            expired,
        };
        let state = Mutex::new(state);
        let controller = Arc::new_cyclic(|me| Self {
            store,
            state,
            links: std::sync::Mutex::new(links),
            registry,
            fabric,
            fleet: std::sync::OnceLock::new(),
            set_aside,
            credentials: std::sync::OnceLock::new(),
            progress,
            timings,
            me: Weak::clone(me),
        });
        let import = {
            let mut state = controller.state.lock().await;
            controller.compare(&mut state.model, &start).await?
        };
        if let Some(topology) = start.topology.filter(|_| import) {
            controller.import(topology).await?;
        }
        Ok(controller)
    }

    /// The devices, in the order in which they were added to the inventory.
    pub fn devices(&self) -> Vec<Arc<Device>> {
        self.registry.all().into_iter().map(|(_, device)| device).collect()
    }

    /// Sets the credentials whose expiry metrics show.
    pub fn set_credentials(&self, credentials: Arc<Credentials>) {
        // The first call counts; there is only one.
        let _ = self.credentials.set(credentials);
    }

    /// Runs a change in a task of its own: it is carried through, or undone, even if the
    /// caller goes away while the store writes.
    async fn to_end<F>(&self, change: impl FnOnce(Arc<Self>) -> F) -> Result<Committed, ApiError>
    where
        F: Future<Output = Result<Committed, ApiError>> + Send + 'static,
    {
        let gone = || ApiError::new(ErrorCode::Unavailable, "the controller is stopping");
        let me = self.me.upgrade().ok_or_else(gone)?;
        tokio::spawn(change(me)).await.unwrap_or_else(|error| {
            warn!(%error, "a change did not come to its end");
            Err(ApiError::new(
                ErrorCode::Internal,
                "the change could not be carried out",
            ))
        })
    }

    async fn commit_locked(
        &self,
        mut state: MutexGuard<'_, State>,
        transaction: &Transaction,
    ) -> Result<Committed, ApiError> {
        self.release_quarantine(&mut state);
        let mut applied = state.model.apply(&transaction.changes)?;
        let mut committed = std::mem::take(&mut applied.committed);
        let nothing = applied.is_empty();
        if nothing || transaction.dry_run {
            state.model.undo(applied);
            state.model.take_touched();
            committed.revision = state.revision;
            return Ok(committed);
        }
        let expired: Vec<Vec<u8>> = state.expired.iter().cloned().collect();
        let rests = self.rests(&state.model, &applied);
        match self
            .store
            .commit(self.to_store(&state.model, &applied, &expired, &rests))
            .await
        {
            Ok(revision) => {
                state.revision = revision;
                state.forget(&expired);
                state.forget(rests.iter().map(|(key, _)| key));
            }
            Err(error) => {
                state.model.undo(applied);
                state.model.take_touched();
                warn!(%error, "the store refused a transaction");
                return Err(ApiError::new(ErrorCode::Unavailable, "the change could not be stored"));
            }
        }
        let revision = state.revision;
        let state = &mut *state;
        state.model.settle(&applied, revision);
        self.welcome(&state.model.fabric, &applied);
        let touched = state.model.take_touched();
        let concerned = state.engine.update(&state.model, touched, revision);
        self.settle_inventory(&state.model.fabric, &applied);
        state.concerned.push_back((revision, concerned));
        if state.concerned.len() > REMEMBERED {
            state.concerned.pop_front();
        }
        if state.model.has_woken() {
            // Housekeeping renders them.
            self.progress.notify_waiters();
        }
        committed.revision = revision;
        Ok(committed)
    }

    fn to_store(
        &self,
        model: &Model,
        applied: &Applied,
        expired: &[Vec<u8>],
        rests: &[(Vec<u8>, Rest)],
    ) -> StoreTransaction {
        // Deletes come first: the same transaction may put a key back into quarantine.
        let mut ops: Vec<Op> = expired.iter().cloned().map(Op::Delete).collect();
        for (key, object) in &applied.objects {
            ops.push(match object {
                // Serializing these types cannot fail: their map keys are strings.
                Some(object) => Op::Put(store_key(key), serde_json::to_vec(object).unwrap_or_default()),
                None => Op::Delete(store_key(key)),
            });
        }
        ops.extend(inventory::rows(model, applied));
        for change in &applied.groups {
            let Some(name) = model.fabric.switch_name(change.leaf) else {
                continue;
            };
            let key = format!("group/{name}/{}", change.vni).into_bytes();
            ops.push(match change.now {
                Some(group) => Op::Put(key, group.to_string().into()),
                None => Op::Delete(key),
            });
        }
        ops.extend(rests.iter().map(|(key, rest)| Op::Put(key.clone(), to_json(rest))));
        if applied.uids {
            ops.push(Op::Put(UID_KEY.to_vec(), model.next_uid().to_string().into()));
        }
        StoreTransaction {
            compares: Vec::new(),
            ops,
        }
    }

    /// What the store is to keep of the numbers that a transaction takes from devices: one row for each number.
    fn rests(&self, model: &Model, applied: &Applied) -> Vec<(Vec<u8>, Rest)> {
        let mut rows = std::collections::BTreeMap::new();
        for left in &applied.left {
            let Some((number, owner, devices)) = model.resting(&left.number) else {
                continue;
            };
            let names = devices.iter().filter_map(|d| self.registry.get(*d));
            let devices = names.map(|d| d.name.clone()).collect();
            rows.insert(rest_key(&number), Rest { owner, devices });
        }
        rows.into_iter().collect()
    }

    /// Frees numbers that devices have confirmed to be gone. Objects that waited for them come with [`Controller::wake`].
    fn release_quarantine(&self, state: &mut State) {
        let confirmed = |d: DeviceIndex, revision| self.registry.get(d).is_none_or(|d| d.has_confirmed(revision));
        let free = state.model.release_quarantine(confirmed, now());
        let stored = |number: &Number| StoredNumber::of(number, &state.model.fabric);
        let keys: Vec<Vec<u8>> = free.iter().filter_map(stored).map(|n| rest_key(&n)).collect();
        state.expired.extend(keys);
    }

    /// Deletes expired keys if there are many or if somebody waits for that; then renders the objects that waited. If
    /// the store fails, they wait until it works again.
    async fn wake(&self, state: &mut State) {
        let wakes = state.model.has_woken();
        if (wakes && !state.expired.is_empty()) || state.expired.len() >= EXPIRED_AT_MOST {
            let expired: Vec<Vec<u8>> = state.expired.iter().cloned().collect();
            let transaction = StoreTransaction {
                compares: Vec::new(),
                ops: expired.iter().cloned().map(Op::Delete).collect(),
            };
            match self.store.commit(transaction).await {
                Ok(revision) => {
                    state.revision = revision;
                    state.forget(&expired);
                }
                Err(error) => {
                    warn!(%error, "cannot delete expired quarantine keys");
                    return;
                }
            }
        }
        while let Some((revision, touched)) = state.model.take_woken() {
            let concerned = state.engine.update(&state.model, touched, revision);
            state.concern(revision, concerned);
        }
        if wakes {
            self.progress.notify_waiters();
        }
    }

    /// Looks after the quarantine whenever devices confirm something. Runs until dropped.
    pub async fn housekeeping(&self) {
        loop {
            let next = self.state.lock().await.model.next_free();
            let rests = next.map(|at| at.saturating_duration_since(now()));
            let wait = rests.unwrap_or(HOUSEKEEPING).min(HOUSEKEEPING);
            let _ = tokio::time::timeout(wait, self.progress.notified()).await;
            let mut state = self.state.lock().await;
            self.release_quarantine(&mut state);
            self.wake(&mut state).await;
            let left = state.model.ready_to_leave();
            drop(state);
            self.see_off(left).await;
        }
    }
}

impl State {
    /// These keys are gone from the store, or mean something again.
    fn forget<'a>(&mut self, keys: impl IntoIterator<Item = &'a Vec<u8>>) {
        for key in keys {
            self.expired.remove(key);
        }
    }

    /// A revision concerns these devices too.
    fn concern(&mut self, revision: u64, devices: Vec<DeviceIndex>) {
        let at = self.concerned.binary_search_by_key(&revision, |(r, _)| *r);
        if let Some((_, known)) = at.ok().and_then(|at| self.concerned.get_mut(at)) {
            known.extend(devices);
            known.sort_unstable();
            known.dedup();
        }
    }
}

/// Key of the identity that the next object gets.
const UID_KEY: &[u8] = b"uid";

/// What the store keeps of a number in quarantine.
#[derive(Debug, Serialize, Deserialize)]
struct Rest {
    /// Its last owner.
    owner: Uid,
    /// Devices that may hold it.
    devices: Vec<Name>,
}

fn rest_key(number: &StoredNumber) -> Vec<u8> {
    [b"rest/".as_slice(), &to_json(number)].concat()
}

/// Serializing these types cannot fail: their map keys are strings.
fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// What a store said.
struct Restored {
    model: Model,
    revision: u64,
    links: Links,
    /// Keys that mean nothing any more.
    expired: BTreeSet<Vec<u8>>,
    /// Rows that are not used.
    set_aside: Vec<SetAside>,
}

/// Order in which rows are read: what others need comes first.
fn turn(key: &[u8]) -> u8 {
    match key.split(|b| *b == b'/').next() {
        Some(b"uid") => 0,
        Some(b"group" | b"rest") => 1,
        Some(b"object") => 2,
        _ => 3,
    }
}

/// Reads everything back into a model. What cannot be used is set aside.
async fn restore<S: Store>(
    store: &S,
    topology: Option<&vfabric_api::topology::Topology>,
) -> Result<Restored, StartError> {
    let mut rows: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut visit = |key: &[u8], value: &Versioned| {
        rows.push((key.to_vec(), value.value.clone()));
        ControlFlow::Continue(())
    };
    let mut revision = store.scan(b"", &mut visit).await?;
    let number = |value: &[u8]| std::str::from_utf8(value).ok().and_then(|v| v.parse::<u64>().ok());
    let next_uid = rows.iter().find(|(key, _)| key == UID_KEY).and_then(|(_, v)| number(v));
    let mut loaded = inventory::load(&mut rows, next_uid.unwrap_or(1), topology)?;
    let model = &mut loaded.model;
    // Rows of older stores in the form of today.
    let mut renewed = std::mem::take(&mut loaded.ops);
    rows.sort_by(|(a, _), (b, _)| turn(a).cmp(&turn(b)).then_with(|| a.cmp(b)));
    let mut reading = Reading {
        memories: HashMap::new(),
        expired: BTreeSet::new(),
        scratch: Applied::default(),
        revision,
        now: now(),
    };
    for (key, value) in rows {
        if let Err(reason) = reading.row(model, &key, &value, &mut renewed) {
            loaded.set_aside.push(inventory::aside(&key, &reason));
        }
    }
    model.end_restore();
    if !renewed.is_empty() {
        renewed.push(Op::Put(UID_KEY.to_vec(), model.next_uid().to_string().into()));
        let transaction = StoreTransaction {
            compares: Vec::new(),
            ops: renewed,
        };
        revision = store.commit(transaction).await?;
    }
    model.settle(&reading.scratch, revision);
    model.restore_fences(revision);
    let mut links = Links::default();
    // What is stored of a cable that is not there says nothing of others.
    for (index, link) in model.fabric.links() {
        let memory = reading.memories.get(&links::store_key(&link.spec)).copied();
        links.add(index, link.ends, memory.unwrap_or_default());
    }
    Ok(Restored {
        revision,
        links,
        expired: reading.expired,
        set_aside: loaded.set_aside,
        model: loaded.model,
    })
}

/// Reading rows of a store into a model.
struct Reading {
    memories: HashMap<String, Memory>,
    expired: BTreeSet<Vec<u8>>,
    scratch: Applied,
    revision: u64,
    now: std::time::Instant,
}

impl Reading {
    /// Takes one row over; the error says why it cannot be used.
    fn row(&mut self, model: &mut Model, key: &[u8], value: &[u8], renewed: &mut Vec<Op>) -> Result<(), String> {
        let shown = String::from_utf8_lossy(key).into_owned();
        let number = |value: &[u8]| std::str::from_utf8(value).ok().and_then(|v| v.parse::<u64>().ok());
        let node = |model: &Model, name: &str| model.fabric.node(&name.parse().ok()?);
        let (kind, rest) = shown.split_once('/').unwrap_or((shown.as_str(), ""));
        match (kind, rest.split('/').collect::<Vec<_>>().as_slice()) {
            ("uid", _) => model.restore_next_uid(number(value).ok_or("is not a number")?),
            ("group", [switch, vni]) => {
                let group = number(value).and_then(|n| u16::try_from(n).ok());
                let (Some(group), Ok(vni)) = (group, vni.parse()) else {
                    return Err("is not a number".into());
                };
                // A switch that is gone took its groups along.
                if let Some(Node::Switch(at)) = node(model, switch) {
                    model.restore_group(at, vni, group);
                }
            }
            ("rest", _) => {
                let number: StoredNumber = serde_json::from_str(rest).map_err(|e| e.to_string())?;
                let rest: Rest = serde_json::from_slice(value).map_err(|e| e.to_string())?;
                // A device that is not there any more took along what it held.
                let devices: Vec<DeviceIndex> = rest
                    .devices
                    .iter()
                    .filter_map(|d| model.fabric.node(d))
                    .map(Node::device)
                    .collect();
                model.restore_rest(&number, rest.owner, devices, self.revision, self.now);
                if number.resolve(&model.fabric).is_none() {
                    self.expired.insert(key.to_vec());
                }
            }
            // Until there were identities, rows named a VNI and a device, or an address of a network.
            ("former", [vni, device]) => {
                let vni = vni.parse().map_err(|_| "is not a VNI")?;
                let owner = model.owner_of_vni(vni).unwrap_or_default();
                let device = node(model, device).map(Node::device);
                model.restore_rest(&StoredNumber::Vni(vni), owner, device, self.revision, self.now);
                self.expired.insert(key.to_vec());
            }
            ("resting", [vni, ip]) => {
                let (Ok(vni), Ok(ip)) = (vni.parse(), ip.parse()) else {
                    return Err("is not an address of a network".into());
                };
                if let Some(network) = model.owner_of_vni(vni) {
                    let devices = model.devices_of_vni(vni);
                    let number = StoredNumber::Ip(network, ip);
                    model.restore_rest(&number, Uid::default(), devices, self.revision, self.now);
                }
                self.expired.insert(key.to_vec());
            }
            ("link", _) => {
                let memory = serde_json::from_slice(value).map_err(|e| e.to_string())?;
                self.memories.insert(shown, memory);
            }
            ("object", _) => {
                let at: Key = parse_store_key(key).ok_or("is not a key")?;
                let mut object: Stored = serde_json::from_slice(value).map_err(|e| e.to_string())?;
                if let Some(uid) = object.uid_mut()
                    && *uid == Uid::default()
                {
                    *uid = model.new_uid();
                    renewed.push(Op::Put(key.to_vec(), to_json(&object)));
                }
                model.put(&at, Some(object.clone()), &mut self.scratch);
                if model.stored(&at).is_none() {
                    inventory::reserve(model, &object);
                    return Err("refers to a network, host or switch that is not there".into());
                }
            }
            _ => return Err("is not known to this version".into()),
        }
        Ok(())
    }
}
