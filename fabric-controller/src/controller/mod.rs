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
use std::sync::{Arc, Weak};
use std::time::Duration;

use fabric_identity::Credentials;
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex, MutexGuard, Notify};
use tracing::{info, warn};
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::Name;
use vfabric_api::service::{Committed, Key, Transaction};
use vfabric_api::topology::{Link, Topology};

use crate::device::Device;
use crate::device::actor::ActorHandle;
use crate::device::driver::DeviceIndex;
use crate::engine::Engine;
use crate::metrics::AllTimings;
use crate::model::Model;
use crate::model::change::Applied;
use crate::model::number::{Number, StoredNumber, Uid};
use crate::model::object::{Stored, parse_store_key, store_key};
use crate::render::Render;
use crate::store::{Op, Store, StoreError, StoreTransaction, Versioned};
use crate::topology::LinkIndex;
use crate::topology::links::{Links, Memory};

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
    /// Something stored does not fit the topology or other objects.
    #[error("stored {key}: {reason}")]
    Object {
        /// The object.
        key: String,
        /// Why it cannot be used.
        reason: String,
    },
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
    topology: Topology,
    store: S,
    state: Mutex<State>,
    /// Taken briefly, also while `state` is.
    links: std::sync::Mutex<Links>,
    devices: Vec<Arc<Device>>,
    by_name: HashMap<Name, DeviceIndex>,
    /// Ways to the actors, set once they are started.
    actors: std::sync::OnceLock<Vec<ActorHandle>>,
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
    /// [`StartError`] names the file or object.
    pub async fn load(topology: Topology, store: S, render: Arc<dyn Render>) -> Result<Arc<Self>, StartError> {
        let progress = Arc::new(Notify::new());
        let timings = AllTimings::default();
        let switches = topology.switches.iter().map(|s| (&s.name, SWITCH));
        let names = switches.chain(topology.hosts.iter().map(|h| (&h.name, HOST)));
        let devices: Vec<_> = names
            .map(|(name, kind)| Arc::new(Device::new(name.clone(), Arc::clone(&progress), timings.of(kind))))
            .collect();
        let by_name = (0u32..)
            .zip(&devices)
            .map(|(i, d)| (d.name.clone(), DeviceIndex(i)))
            .collect();
        let mut model = Model::new(&topology);
        let Restored {
            revision,
            links,
            expired,
        } = restore(&store, &mut model, &topology).await?;
        for link in links.down() {
            let changes = model.paths.set_link(link, false);
            model.touch_paths(&changes);
        }
        let mut engine = Engine::new(render, devices.clone());
        let touched = model.take_touched();
        engine.update(&model, touched, revision);
        let (networks, routers, attachments) = model.counts();
        info!(
            revision,
            vdcs = model.vdcs().len(),
            networks,
            routers,
            attachments,
            "intent loaded"
        );
        let state = State {
            model,
            engine,
            revision,
            concerned: VecDeque::new(),
            expired,
        };
        let actors = std::sync::OnceLock::new();
        let state = Mutex::new(state);
        Ok(Arc::new_cyclic(|me| {
            let me = Weak::clone(me);
            Self {
                topology,
                store,
                state,
                links: std::sync::Mutex::new(links),
                devices,
                by_name,
                credentials: std::sync::OnceLock::new(),
                actors,
                progress,
                timings,
                me,
            }
        }))
    }

    /// The devices, switches first, for their actors.
    pub fn devices(&self) -> &[Arc<Device>] {
        &self.devices
    }

    /// The topology.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Sets the credentials whose expiry metrics show.
    pub fn set_credentials(&self, credentials: Arc<Credentials>) {
        // The first call counts; there is only one.
        let _ = self.credentials.set(credentials);
    }

    /// Tells it the ways to the actors, in the order of [`Controller::devices`].
    pub fn set_actors(&self, actors: Vec<ActorHandle>) {
        // The first call counts; there is only one.
        let _ = self.actors.set(actors);
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
        let nothing = applied.objects.is_empty();
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
        let touched = state.model.take_touched();
        let concerned = state.engine.update(&state.model, touched, revision);
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
        for change in &applied.groups {
            let Some(name) = self.topology.switches.get(change.leaf.index()).map(|s| &s.name) else {
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
            let names = devices.iter().filter_map(|d| self.devices.get(d.0 as usize));
            let devices = names.map(|d| d.name.clone()).collect();
            rows.insert(rest_key(&number), Rest { owner, devices });
        }
        rows.into_iter().collect()
    }

    /// Frees numbers that devices have confirmed to be gone. Objects that waited for them come with [`Controller::wake`].
    fn release_quarantine(&self, state: &mut State) {
        let confirmed =
            |d: DeviceIndex, revision| self.devices.get(d.0 as usize).is_none_or(|d| d.has_confirmed(revision));
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
    revision: u64,
    links: Links,
    /// Keys that mean nothing any more.
    expired: BTreeSet<Vec<u8>>,
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

/// Reads everything back into the model.
async fn restore<S: Store>(store: &S, model: &mut Model, topology: &Topology) -> Result<Restored, StartError> {
    let mut memories: HashMap<String, Memory> = HashMap::new();
    let switches = topology.switches.iter().map(|s| s.name.as_str());
    let names = switches.chain(topology.hosts.iter().map(|h| h.name.as_str()));
    let by_name: HashMap<&str, DeviceIndex> = names.zip((0..).map(DeviceIndex)).collect();
    let mut rows: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut visit = |key: &[u8], value: &Versioned| {
        rows.push((key.to_vec(), value.value.clone()));
        ControlFlow::Continue(())
    };
    let mut revision = store.scan(b"", &mut visit).await?;
    rows.sort_by(|(a, _), (b, _)| turn(a).cmp(&turn(b)).then_with(|| a.cmp(b)));
    let now = now();
    let mut scratch = Applied::default();
    let mut expired = BTreeSet::new();
    // Rows of older stores in the form of today.
    let mut renewed: Vec<Op> = Vec::new();
    for (key, value) in rows {
        let shown = String::from_utf8_lossy(&key).into_owned();
        let wrong = |reason: &str| StartError::Object {
            key: shown.clone(),
            reason: reason.to_owned(),
        };
        let number = |value: &[u8]| std::str::from_utf8(value).ok().and_then(|v| v.parse::<u64>().ok());
        let (kind, rest) = shown.split_once('/').unwrap_or((shown.as_str(), ""));
        match (kind, rest.split('/').collect::<Vec<_>>().as_slice()) {
            ("uid", _) => model.restore_next_uid(number(&value).ok_or_else(|| wrong("is not a number"))?),
            ("group", [switch, vni]) => {
                let group = number(&value).and_then(|n| u16::try_from(n).ok());
                let (Some(group), Ok(vni)) = (group, vni.parse()) else {
                    return Err(wrong("is not a number"));
                };
                // A switch that left the topology took its groups along.
                if let Some(at) = topology.switches.iter().position(|s| s.name.as_str() == *switch) {
                    model.restore_group(at.into(), vni, group);
                }
            }
            ("rest", _) => {
                let number: StoredNumber = serde_json::from_str(rest).map_err(|e| wrong(&e.to_string()))?;
                let rest: Rest = serde_json::from_slice(&value).map_err(|e| wrong(&e.to_string()))?;
                // A device that left the topology took along what it held.
                let devices = rest.devices.iter().filter_map(|d| by_name.get(d.as_str()).copied());
                model.restore_rest(&number, rest.owner, devices, revision, now);
                if number.resolve(&model.fabric).is_none() {
                    expired.insert(key);
                }
            }
            // Until there were identities, rows named a VNI and a device, or an address of a network.
            ("former", [vni, device]) => {
                let vni = vni.parse().map_err(|_| wrong("is not a VNI"))?;
                let owner = model.owner_of_vni(vni).unwrap_or_default();
                let device = by_name.get(*device).copied();
                model.restore_rest(&StoredNumber::Vni(vni), owner, device, revision, now);
                expired.insert(key);
            }
            ("resting", [vni, ip]) => {
                let (Ok(vni), Ok(ip)) = (vni.parse(), ip.parse()) else {
                    return Err(wrong("is not an address of a network"));
                };
                if let Some(network) = model.owner_of_vni(vni) {
                    let devices = model.devices_of_vni(vni);
                    model.restore_rest(&StoredNumber::Ip(network, ip), Uid::default(), devices, revision, now);
                }
                expired.insert(key);
            }
            ("link", _) => {
                let memory = serde_json::from_slice(&value).map_err(|e| wrong(&e.to_string()))?;
                memories.insert(shown, memory);
            }
            ("object", _) => {
                let at: Key = parse_store_key(&key).ok_or_else(|| wrong("is not a key"))?;
                let mut object: Stored = serde_json::from_slice(&value).map_err(|e| wrong(&e.to_string()))?;
                if let Some(uid) = object.uid_mut()
                    && *uid == Uid::default()
                {
                    *uid = model.new_uid();
                    renewed.push(Op::Put(key, to_json(&object)));
                }
                model.put(&at, Some(object), &mut scratch);
                if model.stored(&at).is_none() {
                    return Err(wrong("refers to a network, host or switch that is not there"));
                }
            }
            _ => return Err(wrong("is not known to this version")),
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
    model.settle(&scratch, revision);
    // What is stored of a cable that left the topology says nothing of others.
    let link = |(index, link): (u32, &Link)| {
        let memory = memories.get(&links::store_key(link)).copied().unwrap_or_default();
        Some((model.paths.ends(LinkIndex(index))?, memory))
    };
    let links = (0u32..).zip(&topology.links).filter_map(link);
    let links = Links::new(topology.switches.len(), links);
    Ok(Restored {
        revision,
        links,
        expired,
    })
}
