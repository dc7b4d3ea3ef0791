//! A device in memory: exact, immediate, and open to meddling by tests.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use vfabric_api::ident::PortId;

use crate::device::driver::{Batch, Driver, DriverError, EntityError, Event, Limits, Write, WriteResult};
use crate::device::entity::{Entity, EntityKey};

/// Writes per batch: that of a real switch session.
const BATCH: usize = 500;
/// Events that wait for the actor.
const EVENTS: usize = 1024;

#[derive(Default)]
struct State {
    online: bool,
    session: u64,
    entities: HashMap<EntityKey, Arc<Entity>>,
    refuse: HashMap<EntityKey, EntityError>,
    events: Option<mpsc::Sender<Event>>,
    writes: u64,
    reads: u64,
    sent: Vec<(PortId, Bytes)>,
}

/// The device itself; clones are handles to the same one.
#[derive(Clone)]
pub struct FakeDevice {
    state: Arc<Mutex<State>>,
    powered: Arc<Notify>,
    ordered: bool,
}

impl FakeDevice {
    /// An empty device that is online. `ordered` as in [`Limits`].
    pub fn new(ordered: bool) -> Self {
        let state = State {
            online: true,
            ..State::default()
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            powered: Arc::new(Notify::new()),
            ordered,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A driver for it.
    pub fn driver(&self) -> FakeDriver {
        FakeDriver {
            device: self.clone(),
            session: 0,
            events: None,
        }
    }

    /// Everything it holds.
    pub fn entities(&self) -> HashMap<EntityKey, Arc<Entity>> {
        self.lock().entities.clone()
    }

    /// Writes it was asked for so far.
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// Times it was read back.
    pub fn reads(&self) -> u64 {
        self.lock().reads
    }

    /// Frames that were sent out of its ports, and forgets them.
    pub fn take_sent(&self) -> Vec<(PortId, Bytes)> {
        std::mem::take(&mut self.lock().sent)
    }

    /// Cuts it off: sessions end, none begins. It keeps what it holds.
    pub fn go_offline(&self) {
        let mut state = self.lock();
        state.online = false;
        state.session += 1;
        Self::hang_up(&mut state, "offline");
    }

    /// Makes it reachable again.
    pub fn go_online(&self) {
        self.lock().online = true;
        self.powered.notify_waiters();
    }

    /// Power cycle: the session ends, everything it held is gone.
    pub fn restart_empty(&self) {
        let mut state = self.lock();
        state.session += 1;
        state.entities.clear();
        Self::hang_up(&mut state, "restarted");
    }

    fn hang_up(state: &mut State, why: &str) {
        if let Some(events) = state.events.take() {
            // A full queue ends with its sender, which tells the driver just as well.
            let _ = events.try_send(Event::Disconnected(DriverError::Unreachable(why.to_owned())));
        }
    }

    /// Something else writes to it behind the controller's back.
    pub fn meddle_insert(&self, entity: Entity) {
        self.lock().entities.insert(entity.key(), Arc::new(entity));
    }

    /// Something else deletes from it behind the controller's back.
    pub fn meddle_delete(&self, key: &EntityKey) {
        self.lock().entities.remove(key);
    }

    /// From now on it refuses to insert or modify that key.
    pub fn refuse(&self, key: EntityKey, message: &str, retryable: bool) {
        let error = EntityError {
            message: message.to_owned(),
            retryable,
            device_retries: false,
        };
        self.lock().refuse.insert(key, error);
    }

    /// It refuses nothing any more.
    pub fn accept_all(&self) {
        self.lock().refuse.clear();
    }

    /// Reports an event.
    pub fn report(&self, event: Event) {
        if let Some(events) = &self.lock().events {
            let _ = events.try_send(event);
        }
    }
}

/// Drives a [`FakeDevice`].
pub struct FakeDriver {
    device: FakeDevice,
    session: u64,
    events: Option<mpsc::Receiver<Event>>,
}

impl FakeDriver {
    fn session(&self) -> Result<MutexGuard<'_, State>, DriverError> {
        let state = self.device.lock();
        if state.online && state.session == self.session && self.events.is_some() {
            Ok(state)
        } else {
            Err(DriverError::Unreachable("session is over".into()))
        }
    }
}

fn write(state: &mut State, write: &Write) -> WriteResult {
    let key = write.entity().key();
    let refused = state.refuse.get(&key).filter(|_| !matches!(write, Write::Delete(_)));
    if let Some(error) = refused {
        return Err(error.clone());
    }
    let held = state.entities.contains_key(&key);
    let wrong = |what: &str| {
        Err(EntityError {
            message: format!("{key} {what}"),
            retryable: false,
            device_retries: false,
        })
    };
    match write {
        Write::Insert(_) if held => return wrong("exists already"),
        Write::Modify(_) | Write::Delete(_) if !held => return wrong("does not exist"),
        Write::Insert(e) | Write::Modify(e) => state.entities.insert(key, Arc::clone(e)),
        Write::Delete(_) => state.entities.remove(&key),
    };
    Ok(())
}

impl Driver for FakeDriver {
    fn limits(&self) -> Limits {
        Limits {
            batch: BATCH,
            ordered: self.device.ordered,
        }
    }

    async fn connect(&mut self) -> Result<(), DriverError> {
        let (sender, receiver) = mpsc::channel(EVENTS);
        let mut state = self.device.lock();
        if !state.online {
            return Err(DriverError::Unreachable("offline".into()));
        }
        state.session += 1;
        state.events = Some(sender);
        self.session = state.session;
        drop(state);
        self.events = Some(receiver);
        Ok(())
    }

    async fn read_back(&mut self) -> Result<Vec<Entity>, DriverError> {
        let mut state = self.session()?;
        state.reads += 1;
        Ok(state.entities.values().map(|e| Entity::clone(e)).collect())
    }

    async fn apply(&mut self, batch: &Batch) -> Result<Vec<WriteResult>, DriverError> {
        let mut state = self.session()?;
        state.writes += batch.writes.len() as u64;
        Ok(batch.writes.iter().map(|w| write(&mut state, w)).collect())
    }

    async fn next_event(&mut self) -> Event {
        match &mut self.events {
            None => std::future::pending().await,
            Some(events) => match events.recv().await {
                Some(event) => event,
                None => Event::Disconnected(DriverError::Unreachable("session is over".into())),
            },
        }
    }

    async fn packet_out(&mut self, port: PortId, frame: Bytes) -> Result<(), DriverError> {
        self.session()?.sent.push((port, frame));
        Ok(())
    }

    async fn disconnect(&mut self) {
        self.events = None;
    }
}
