//! The controller: it takes intent, and keeps devices in the state that follows from it.
//!
//! **How a change is carried out.** It is proposed to the single writer ([`writer`]), which checks proposals in order on its model,
//! commits them in groups, and only then publishes ([`published`]) and acknowledges them. If the store fails, the
//! changes of the model are undone. Readers ([`reader`]) see only published state and never wait. A start
//! ([`mod@restore`]) reads the store back into the model.
//!
//! **Invariants.** No acknowledged change is lost, because it is in the store.
//! No change is half applied, because the store's transaction decides. After a
//! restart everything is loaded, rendered and compared with the devices; only
//! differences are written.

mod below;
#[cfg(test)]
mod below_tests;
mod boot;
#[cfg(test)]
mod boot_tests;
#[cfg(test)]
mod change_tests;
#[cfg(test)]
mod chaos_tests;
mod chronicle;
#[cfg(test)]
mod chronicle_tests;
#[cfg(test)]
mod claim_tests;
mod enrolment;
pub mod fleet;
mod follow;
pub mod gate;
mod history;
#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod image_tests;
mod images;
mod intent;
mod inventory;
#[cfg(test)]
mod inventory_start_tests;
#[cfg(test)]
mod inventory_tests;
#[cfg(test)]
mod isolation;
mod lifecycle;
#[cfg(test)]
mod lifecycle_tests;
#[cfg(test)]
mod link_tests;
mod links;
#[cfg(test)]
mod machine_tests;
mod machines;
mod migration;
#[cfg(test)]
mod migration_tests;
#[cfg(test)]
mod owner_tests;
mod plan;
#[cfg(test)]
mod plan_tests;
mod published;
#[cfg(test)]
mod quarantine_tests;
mod reader;
#[cfg(test)]
mod request_tests;
mod requests;
mod resting;
mod restore;
#[cfg(test)]
mod restore_tests;
mod room;
#[cfg(test)]
mod room_tests;
mod round;
mod rows;
mod service;
mod software;
#[cfg(test)]
mod static_route_tests;
mod takeover;
#[cfg(test)]
mod takeover_tests;
mod tenancy;
#[cfg(test)]
mod tenancy_tests;
#[cfg(test)]
mod tests;
mod token_enrolment;
#[cfg(test)]
mod upgrade_tests;
mod users;
#[cfg(test)]
mod values_tests;
mod wire;
mod writer;
#[cfg(test)]
mod writer_tests;

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use fabric_identity::Credentials;
use fabric_service::Waits;
use tokio::sync::{Mutex, Notify, Semaphore};
use tracing::{info, warn};
use vfabric_api::error::ApiError;
use vfabric_api::event::EventReason;

use crate::access::Directory;
use crate::device::claim::Claim;
use crate::device::reports::Reports;
use crate::device::{Device, Registry};
use crate::engine::{Engine, Rendered};
use crate::events::{Events, News};
use crate::ident::Source;
use crate::images::Shelf;
use crate::model::Model;
use crate::model::fabric::Fabric;
use crate::render::Render;
use crate::store::{Store, StoreError};
use crate::tables::Tables;
use crate::timeline::Timelines;
use crate::timings::AllTimings;
use crate::token_enrolment::desk::Desk;
use crate::topology::links::Links;
use fleet::Fleet;
use follow::Followed;
pub use inventory::Start;
use published::Published;
use restore::{Restored, restore};
use writer::State;

/// Longest time between two checks of the quarantine.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

/// Why a controller cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is neither an inventory in the store nor a topology file.
    #[error("the store has no inventory: name a topology file to begin with")]
    NoInventory,
    /// The topology that was to be imported contradicts the inventory.
    #[error("the topology cannot be imported: {0}")]
    Import(#[source] ApiError),
    /// The system gives no thread to load objects on.
    #[error("no thread to load objects: {0}")]
    Thread(#[source] std::io::Error),
}

/// A controller over a store.
pub struct Controller<S> {
    store: S,
    render: Arc<dyn Render>,
    /// Room in the tables of switches.
    tables: Tables,
    /// Serialises all changes of the model; held while the store writes.
    state: Mutex<State>,
    /// What readers see. The lock is only held for work in memory; it may be taken while `state` is held.
    published: RwLock<Published>,
    queue: writer::Queue,
    /// Why the store cannot be written; none while it can.
    store_fault: std::sync::Mutex<Option<String>>,
    /// Locked briefly, also while `state` is held.
    links: std::sync::Mutex<Links>,
    registry: Arc<Registry>,
    /// The fabric as of the last durable transaction. The lock is held only to copy the pointer.
    fabric: RwLock<Arc<Fabric>>,
    claim: Arc<Claim>,
    directory: Directory,
    /// The last published revision; watches wait here for the next one.
    revisions: tokio::sync::watch::Sender<u64>,
    followed: Followed,
    /// The actors, once they are started.
    fleet: std::sync::OnceLock<Fleet>,
    /// This process's credentials, for metrics; none in tests.
    credentials: std::sync::OnceLock<Arc<Credentials>>,
    /// Images for switches, if there is a place for them.
    images: std::sync::OnceLock<Arc<Shelf>>,
    progress: Arc<Notify>,
    timings: AllTimings,
    events: Arc<Events>,
    /// How switches came into service. Taken briefly.
    timelines: std::sync::Mutex<Timelines>,
    /// Lets machines enrol with tokens, if that is enabled.
    token_enrolment: std::sync::OnceLock<Arc<Desk>>,
    /// Held while a backup is made.
    backing_up: Mutex<()>,
    /// Changes that check whether addresses have become free.
    lookers: Semaphore,
    /// Receives the events of devices.
    reports: Reports,
    migrations: migration::Migrations,
    machines: machines::Machines,
    software: software::Jobs,
    wire: wire::Wire,
}

/// The time; tests can stop it.
fn now() -> std::time::Instant {
    tokio::time::Instant::now().into_std()
}

/// Contributions that are rendered together at a start, and after paths have changed. At a start no actor runs yet, so no
/// device can see the parts. Rendering all at once would need memory for everything twice.
const RENDERED_AT_ONCE: usize = 4096;

/// Renders what is touched, and publishes it on this thread while the next part is rendered on another.
fn render_at_start(
    published: &mut Published,
    (model, touched): (&Model, BTreeSet<Source>),
    render: &dyn Render,
    revision: u64,
) {
    std::thread::scope(|scope| {
        let (parts, rendered) = std::sync::mpsc::sync_channel(1);
        scope.spawn(move || {
            let mut touched = touched.into_iter();
            loop {
                let part: BTreeSet<Source> = touched.by_ref().take(RENDERED_AT_ONCE).collect();
                if part.is_empty() || parts.send(Rendered::new(render, model, part)).is_err() {
                    return;
                }
            }
        });
        for part in rendered {
            published.render(part, revision);
        }
    });
}

/// Kinds of devices, as metrics name them.
const SWITCH: &str = "switch";
const HOST: &str = "host";

impl<S: Store> Controller<S> {
    /// Loads the store and renders everything; no device is contacted yet.
    ///
    /// # Errors
    /// [`StartError`] names the file. A damaged or unfitting object is not an error: it is set aside.
    pub async fn load(start: impl Into<Start>, store: S, render: Arc<dyn Render>) -> Result<Arc<Self>, StartError> {
        let start = start.into();
        let progress = Arc::new(Notify::new());
        let timings = AllTimings::default();
        let events = Arc::new(Events::default());
        let (reports, reported) = Reports::new();
        let publish = |model: &Model, revision| {
            let registry = inventory::devices_of(&model.fabric, &progress, &timings, &reports);
            let engine = Engine::new(Arc::clone(&render), Arc::new(registry));
            Published::new(engine, revision, Arc::clone(&events))
        };
        let Restored {
            mut model,
            mut published,
            revision,
            links,
            expired,
            set_aside,
            users,
            requests,
        } = restore(&store, start.topology.as_ref(), publish).await?;
        let registry = Arc::clone(published.engine.devices());
        start.claim.loaded(revision);
        for link in links.down() {
            model.set_links([(link, false, false)]);
        }
        let import = inventory::compare(&mut model, &start)?;
        let touched = model.take_touched();
        render_at_start(&mut published, (&model, touched), render.as_ref(), revision);
        let handovers = migration::resumed(&model, &published, revision);
        published.publish_waits(model.take_changed_waits());
        published.quarantined = model.quarantined();
        published.not_live = inventory::not_live(&model.fabric);
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
        for aside in &set_aside {
            events.note(News {
                object: Some(aside.object.clone()),
                ..News::of_fabric(EventReason::SetAside, aside.reason.clone())
            });
        }
        published.set_aside = set_aside;
        let (queue, proposals) = writer::queue();
        let controller = Arc::new(Self {
            fabric: RwLock::new(Arc::new(model.fabric.clone())),
            store,
            render,
            tables: start.tables,
            state: Mutex::new(State {
                model,
                revision,
                expired,
                requests,
            }),
            published: RwLock::new(published),
            queue,
            store_fault: std::sync::Mutex::new(None),
            links: std::sync::Mutex::new(links),
            registry,
            claim: start.claim,
            directory: Directory::new(users),
            revisions: tokio::sync::watch::Sender::new(revision),
            followed: Followed::default(),
            credentials: std::sync::OnceLock::new(),
            images: std::sync::OnceLock::new(),
            fleet: std::sync::OnceLock::new(),
            progress,
            timings,
            events,
            timelines: std::sync::Mutex::default(),
            token_enrolment: std::sync::OnceLock::new(),
            backing_up: Mutex::default(),
            lookers: Semaphore::new(resting::LOOKERS),
            reports,
            migrations: migration::Migrations::default(),
            machines: machines::Machines::default(),
            software: software::Jobs::default(),
            wire: wire::Wire::default(),
        });
        for handover in handovers {
            tokio::spawn(handover.carry_out(Arc::clone(&controller.progress)));
        }
        writer::spawn(&controller, proposals);
        chronicle::spawn(&controller, reported);
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

    /// What readers see.
    fn published(&self) -> RwLockReadGuard<'_, Published> {
        self.published.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Access for publishing. The lock is held only for work in memory.
    fn write_published(&self) -> RwLockWriteGuard<'_, Published> {
        self.published.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why the store cannot be written; none while it can.
    fn store_fault(&self) -> Option<String> {
        self.store_fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Records whether the store works, and logs when that changes.
    fn note_store(&self, error: Option<&StoreError>) {
        let mut fault = self.store_fault.lock().unwrap_or_else(PoisonError::into_inner);
        match (error, fault.is_some()) {
            (Some(error), false) => {
                warn!(%error, "changes cannot be stored");
                self.events
                    .note(News::of_fabric(EventReason::StoreFault, error.to_string()));
            }
            (None, true) => {
                info!("changes can be stored again");
                self.events
                    .note(News::of_fabric(EventReason::StoreWorks, "changes can be stored again"));
            }
            _ => {}
        }
        *fault = error.map(ToString::to_string);
    }

    /// Shows that the writer is alive: returns once the model can be locked and readers are not blocked. The writer holds
    /// the model while a group is checked and stored, and has then finished its round.
    ///
    /// # Errors
    /// The writer has ended.
    pub async fn is_alive(&self, waits: Waits) -> Result<(), String> {
        waits.on("what holds the model: the writer of changes, housekeeping, or a change of a link");
        drop(self.state.lock().await);
        waits.on("what holds the published objects");
        drop(self.published());
        match self.queue.is_closed() {
            false => Ok(()),
            true => Err("the writer of changes has ended".into()),
        }
    }

    /// Updates the quarantine whenever devices confirm something, and watches the store. Runs until dropped.
    pub async fn housekeeping(&self) {
        let mut looked = std::time::Instant::now();
        loop {
            let next = self.state.lock().await.model.next_free();
            let rests = next.map(|at| at.saturating_duration_since(now()));
            let wait = rests.unwrap_or(HOUSEKEEPING).min(HOUSEKEEPING);
            let woken = async {
                tokio::select! {
                    () = self.progress.notified() => {}
                    () = self.migrations.woken() => {}
                }
            };
            let _ = tokio::time::timeout(wait, woken).await;
            let mut state = self.state.lock().await;
            if looked.elapsed() >= HOUSEKEEPING {
                self.note_store(self.store.check().await.err().as_ref());
                looked = std::time::Instant::now();
            }
            self.release_quarantine(&mut state);
            self.wake(&mut state).await;
            let travellers = self.travellers(&mut state);
            drop(state);
            self.let_pass(travellers).await;
            self.tend_migrations().await;
        }
    }
}
