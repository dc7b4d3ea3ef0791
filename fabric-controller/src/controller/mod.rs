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
mod link_tests;
mod links;
#[cfg(test)]
mod quarantine_tests;
mod service;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::{Arc, Weak};
use std::time::Duration;

use fabric_identity::Credentials;
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
use crate::model::object::{Stored, parse_store_key, store_key};
use crate::model::quarantine::Held;
use crate::render::Render;
use crate::store::{Op, Store, StoreError, StoreTransaction, Versioned};
use crate::topology::LinkIndex;
use crate::topology::links::{Links, Memory};

/// Transactions of which is known which devices they concern; older ones concern all.
const REMEMBERED: usize = 4096;
/// Keys of what is over that one transaction takes along; most make fewer, and it stays small.
const OVER_AT_ONCE: usize = 256;
/// As soon as there are so many, they are not kept for a transaction that may never come.
const OVER_AT_MOST: usize = 4096;
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
    /// Keys of the store that say of quarantine what is over. They go with the next
    /// transaction; until then they would cost nothing but patience after a restart.
    over: BTreeSet<Vec<u8>>,
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
        let (revision, links) = restore(&store, &mut model, &topology).await?;
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
            over: BTreeSet::new(),
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
        let over: Vec<Vec<u8>> = state.over.iter().take(OVER_AT_ONCE).cloned().collect();
        match self.store.commit(self.to_store(&applied, &over)).await {
            Ok(revision) => {
                state.revision = revision;
                state.forget(&over);
                let left = applied
                    .left
                    .iter()
                    .filter_map(|(held, d)| self.quarantine_key(*held, *d));
                state.forget(left.collect::<Vec<_>>().iter());
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
        committed.revision = revision;
        Ok(committed)
    }

    fn to_store(&self, applied: &Applied, over: &[Vec<u8>]) -> StoreTransaction {
        // First, so that what begins anew is not taken for over.
        let mut ops: Vec<Op> = over.iter().cloned().map(Op::Delete).collect();
        for (key, object) in &applied.objects {
            ops.push(match object {
                // Serializing these types cannot fail: their map keys are strings.
                Some(object) => Op::Put(store_key(key), serde_json::to_vec(object).unwrap_or_default()),
                None => Op::Delete(store_key(key)),
            });
        }
        for (switch, vni, number) in &applied.groups {
            let Some(name) = self.topology.switches.get(switch.index()).map(|s| &s.name) else {
                continue;
            };
            let key = format!("group/{name}/{vni}").into_bytes();
            ops.push(number.map_or_else(
                || Op::Delete(key.clone()),
                |n| Op::Put(key.clone(), n.to_string().into()),
            ));
        }
        let left: BTreeSet<Vec<u8>> = applied
            .left
            .iter()
            .filter_map(|(held, device)| self.quarantine_key(*held, *device))
            .collect();
        ops.extend(left.into_iter().map(|key| Op::Put(key, Vec::new())));
        StoreTransaction {
            compares: Vec::new(),
            ops,
        }
    }

    /// Where the store keeps that a device may hold something. One row for each address: after a
    /// restart, who has the network may hold it.
    fn quarantine_key(&self, held: Held, device: DeviceIndex) -> Option<Vec<u8>> {
        let key = match held {
            Held::Vni(vni) => format!("former/{vni}/{}", self.devices.get(device.0 as usize)?.name),
            Held::Ip(vni, ip) => format!("resting/{vni}/{ip}"),
        };
        Some(key.into_bytes())
    }

    /// Lets go of VNIs and addresses that devices have confirmed to be gone.
    fn release_quarantine(&self, state: &mut State) {
        let confirmed =
            |d: DeviceIndex, revision| self.devices.get(d.0 as usize).is_none_or(|d| d.has_confirmed(revision));
        for (held, device) in state.model.release_quarantine(confirmed) {
            let over = match held {
                Held::Vni(_) => true,
                Held::Ip(..) => !state.model.in_quarantine(&held),
            };
            state.over.extend(self.quarantine_key(held, device).filter(|_| over));
        }
    }

    /// Looks after the quarantine whenever devices confirm something. Runs until dropped.
    pub async fn housekeeping(&self) {
        loop {
            let _ = tokio::time::timeout(HOUSEKEEPING, self.progress.notified()).await;
            let mut state = self.state.lock().await;
            self.release_quarantine(&mut state);
            if state.over.len() >= OVER_AT_MOST {
                let over: Vec<Vec<u8>> = state.over.iter().cloned().collect();
                let transaction = StoreTransaction {
                    compares: Vec::new(),
                    ops: over.iter().cloned().map(Op::Delete).collect(),
                };
                match self.store.commit(transaction).await {
                    Ok(revision) => {
                        state.revision = revision;
                        state.forget(&over);
                    }
                    // They stay until the store works again.
                    Err(error) => warn!(%error, "cannot store what is over"),
                }
            }
        }
    }
}

impl State {
    /// These keys are gone from the store, or mean something again.
    fn forget<'a>(&mut self, keys: impl IntoIterator<Item = &'a Vec<u8>>) {
        for key in keys {
            self.over.remove(key);
        }
    }
}

/// Reads everything back into the model; answers the revision, and the links as they were.
async fn restore<S: Store>(store: &S, model: &mut Model, topology: &Topology) -> Result<(u64, Links), StartError> {
    let mut memories: HashMap<String, Memory> = HashMap::new();
    let switches = topology.switches.iter().map(|s| s.name.as_str());
    let names = switches.chain(topology.hosts.iter().map(|h| h.name.as_str()));
    let by_name: HashMap<&str, DeviceIndex> = names.zip((0..).map(DeviceIndex)).collect();
    let mut rows: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut visit = |key: &[u8], value: &Versioned| {
        rows.push((key.to_vec(), value.value.clone()));
        ControlFlow::Continue(())
    };
    let revision = store.scan(b"", &mut visit).await?;
    let mut scratch = Applied::default();
    // In the order of keys: groups before objects, among these what others need first, then
    // addresses that rest.
    for (key, value) in rows {
        let shown = String::from_utf8_lossy(&key).into_owned();
        let wrong = |reason: &str| StartError::Object {
            key: shown.clone(),
            reason: reason.to_owned(),
        };
        let words: Vec<&str> = shown.split('/').collect();
        match words.as_slice() {
            ["group", switch, vni] => {
                let number = std::str::from_utf8(&value).ok().and_then(|v| v.parse().ok());
                let (Some(number), Ok(vni)) = (number, vni.parse()) else {
                    return Err(wrong("is not a number"));
                };
                // A switch that left the topology took its groups along.
                if let Some(at) = topology.switches.iter().position(|s| s.name.as_str() == *switch) {
                    model.restore_group(at.into(), vni, number);
                }
            }
            ["former", vni, device] => {
                let vni = vni.parse().map_err(|_| wrong("is not a VNI"))?;
                // A device that left the topology took along what it held.
                if let Some(device) = by_name.get(*device) {
                    model.restore_vni(vni, *device, revision);
                }
            }
            ["resting", vni, ip] => {
                let (Ok(vni), Ok(ip)) = (vni.parse(), ip.parse()) else {
                    return Err(wrong("is not an address of a network"));
                };
                model.restore_ip(vni, ip, revision);
            }
            ["link", ..] => {
                let memory = serde_json::from_slice(&value).map_err(|e| wrong(&e.to_string()))?;
                memories.insert(shown, memory);
            }
            ["object", ..] => {
                let key: Key = parse_store_key(&key).ok_or_else(|| wrong("is not a key"))?;
                let object: Stored = serde_json::from_slice(&value).map_err(|e| wrong(&e.to_string()))?;
                model.put(&key, Some(object), &mut scratch);
                if model.stored(&key).is_none() {
                    return Err(wrong("refers to a network, host or switch that is not there"));
                }
            }
            _ => return Err(wrong("is not known to this version")),
        }
    }
    // What is stored of a cable that left the topology says nothing of others.
    let link = |(index, link): (u32, &Link)| {
        let memory = memories.get(&links::store_key(link)).copied().unwrap_or_default();
        Some((model.paths.ends(LinkIndex(index))?, memory))
    };
    let links = (0u32..).zip(&topology.links).filter_map(link);
    Ok((revision, Links::new(topology.switches.len(), links)))
}
