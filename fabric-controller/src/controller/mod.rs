//! The controller: intent in, devices kept at it.
//!
//! **Way of a change.** It is proposed to the one writer ([`writer`]), which checks proposals in order on its model,
//! commits them in groups, and only then publishes ([`published`]) and acknowledges them. If the store fails, the model
//! is put back. Readers ([`reader`]) see what is published and wait for nobody. A start ([`restore`]) reads the store
//! back into the model.
//!
//! **Invariants.** Nothing acknowledged is lost: what is acknowledged is in the store.
//! Nothing is half applied: the store's transaction is the only step that counts. After a
//! restart everything is loaded, rendered and compared with the devices; where nothing
//! changed, nothing is written.

#[cfg(test)]
mod chaos_tests;
mod intent;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod link_tests;
mod links;
mod published;
#[cfg(test)]
mod quarantine_tests;
mod reader;
mod restore;
#[cfg(test)]
mod restore_tests;
mod rows;
mod service;
#[cfg(test)]
mod tests;
mod writer;
#[cfg(test)]
mod writer_tests;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use fabric_identity::Credentials;
use tokio::sync::{Mutex, Notify};
use tracing::{info, warn};
use vfabric_api::ident::Name;
use vfabric_api::topology::Topology;

use crate::device::Device;
use crate::device::actor::ActorHandle;
use crate::device::driver::DeviceIndex;
use crate::engine::{Engine, Rendered};
use crate::metrics::AllTimings;
use crate::model::Model;
use crate::render::Render;
use crate::store::{Store, StoreError};
use crate::topology::links::Links;
use published::{Changed, Published};
use restore::{Restored, restore};
use writer::State;

/// Longest time between two looks at what is in quarantine.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Why a controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A controller over a store.
pub struct Controller<S> {
    topology: Topology,
    store: S,
    render: Arc<dyn Render>,
    /// Orders everything that changes the model; held while the store writes.
    state: Mutex<State>,
    /// What readers see. Held for work in memory only, also while `state` is held.
    published: RwLock<Published>,
    queue: writer::Queue,
    /// Why the store cannot be written, while it cannot.
    store_fault: std::sync::Mutex<Option<String>>,
    /// Taken briefly, also while `state` is.
    links: std::sync::Mutex<Links>,
    devices: Vec<Arc<Device>>,
    by_name: HashMap<Name, DeviceIndex>,
    /// Handles of the actors, set once they are started.
    actors: std::sync::OnceLock<Vec<ActorHandle>>,
    /// Of this process, for metrics; none in tests.
    credentials: std::sync::OnceLock<Arc<Credentials>>,
    progress: Arc<Notify>,
    timings: AllTimings,
    /// Of the hosts, in the topology's order.
    vtep_ids: Vec<u16>,
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
    /// [`StartError`] names the file. A damaged or unfitting object is no error: it is set aside.
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
            set_aside,
        } = restore(&store, &mut model, &topology).await?;
        for link in links.down() {
            let changes = model.paths.set_link(link, false);
            model.touch_paths(&changes);
        }
        let engine = Engine::new(Arc::clone(&render), devices.clone());
        let mut published = Published::new(engine, revision);
        for key in model.keys() {
            let (object, owner) = (model.stored(&key), model.owner(&key));
            published.put(Changed { key, object, owner });
        }
        let touched = model.take_touched();
        published.render(Rendered::new(render.as_ref(), &model, touched), revision);
        published.publish_waits(model.take_changed_waits());
        published.quarantined = model.quarantined();
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
        published.set_aside = set_aside;
        let (queue, proposals) = writer::queue();
        let controller = Arc::new(Self {
            vtep_ids: model.fabric.hosts.iter().map(|(h, _)| h.vtep.vtep_id).collect(),
            topology,
            store,
            render,
            state: Mutex::new(State {
                model,
                revision,
                expired,
            }),
            published: RwLock::new(published),
            queue,
            store_fault: std::sync::Mutex::new(None),
            links: std::sync::Mutex::new(links),
            devices,
            by_name,
            credentials: std::sync::OnceLock::new(),
            actors: std::sync::OnceLock::new(),
            progress,
            timings,
        });
        writer::spawn(&controller, proposals);
        Ok(controller)
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

    /// Sets the handles of the actors, in the order of [`Controller::devices`].
    pub fn set_actors(&self, actors: Vec<ActorHandle>) {
        // The first call counts; there is only one.
        let _ = self.actors.set(actors);
    }

    /// What readers see.
    fn published(&self) -> RwLockReadGuard<'_, Published> {
        self.published.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// To publish. Held for work in memory only.
    fn write_published(&self) -> RwLockWriteGuard<'_, Published> {
        self.published.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the store cannot be written, while it cannot.
    fn store_fault(&self) -> Option<String> {
        self.store_fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes over whether the store works; says so when that changes.
    fn note_store(&self, error: Option<&StoreError>) {
        let mut fault = self.store_fault.lock().unwrap_or_else(PoisonError::into_inner);
        match (error, fault.is_some()) {
            (Some(error), false) => warn!(%error, "changes cannot be stored"),
            (None, true) => info!("changes can be stored again"),
            _ => {}
        }
        *fault = error.map(ToString::to_string);
    }

    /// Looks after the quarantine whenever devices confirm something, and after the store. Runs until dropped.
    pub async fn housekeeping(&self) {
        let mut looked = std::time::Instant::now();
        loop {
            let next = self.state.lock().await.model.next_free();
            let rests = next.map(|at| at.saturating_duration_since(now()));
            let wait = rests.unwrap_or(HOUSEKEEPING).min(HOUSEKEEPING);
            let _ = tokio::time::timeout(wait, self.progress.notified()).await;
            let mut state = self.state.lock().await;
            if looked.elapsed() >= HOUSEKEEPING {
                self.note_store(self.store.check().await.err().as_ref());
                looked = std::time::Instant::now();
            }
            self.release_quarantine(&mut state);
            self.wake(&mut state).await;
        }
    }
}
