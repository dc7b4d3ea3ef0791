//! A device in memory: exact and immediate; tests can interfere with it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use vfabric_api::ident::PortId;

use crate::device::driver::{
    Batch, Driver, DriverError, EntityError, Event, Limits, Loss, Losses, Part, Write, WriteResult,
};
use crate::device::packets::PacketPort;
use crate::entity::{Entity, EntityKey};

/// Writes per batch: that of a real switch session.
const BATCH: usize = 500;
/// Events that wait for the actor.
const EVENTS: usize = 1024;

/// Entities of a part of a read-back: few, so that writes come between the parts of small devices, too.
const PART: usize = 8;

/// Writes of several devices in the order in which they were carried out, each with the place of its device.
pub type Record = Arc<Mutex<Vec<(usize, Write)>>>;

#[derive(Default)]
struct State {
    online: bool,
    session: u64,
    entities: HashMap<EntityKey, Arc<Entity>>,
    refuse: HashMap<EntityKey, EntityError>,
    events: Option<mpsc::Sender<Event>>,
    writes: u64,
    reads: u64,
    kept_by: Option<u32>,
    /// The last revision that it received.
    brought_to: u64,
    packets: Option<PacketPort>,
    /// Where the cable at each port ends.
    cables: HashMap<PortId, (FakeDevice, PortId)>,
    /// Operational state of ports, reported at every connect and when it changes.
    ports: BTreeMap<PortId, bool>,
    /// Number of writes until a session breaks; this may be in the middle of a batch.
    breaks_after: Option<usize>,
    /// The losses that it reports.
    losses: Vec<Loss>,
    /// Writes of each key, whether accepted or not.
    written: HashMap<EntityKey, u64>,
    /// Where several devices note their writes, and this one's place among them.
    record: Option<(usize, Record)>,
    /// Whether read-backs stop after their first part.
    reads_stop: bool,
    /// Read-backs that have stopped after their first part.
    stopped: u64,
}

/// The device itself; clones are handles to the same one.
#[derive(Clone)]
pub struct FakeDevice {
    state: Arc<Mutex<State>>,
    powered: Arc<Notify>,
    /// Read-backs go on.
    resumed: Arc<Notify>,
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
            resumed: Arc::new(Notify::new()),
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
            packets: None,
            reading: None,
        }
    }

    /// Everything it holds.
    pub fn entities(&self) -> HashMap<EntityKey, Arc<Entity>> {
        self.lock().entities.clone()
    }

    /// Writes that it was asked to do so far.
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// From now on its read-backs stop after the first part.
    pub fn stop_reads(&self) {
        self.lock().reads_stop = true;
    }

    /// Read-backs under way that have stopped.
    pub fn stopped_reads(&self) -> u64 {
        self.lock().stopped
    }

    /// Lets its read-backs continue. Their further parts show what the device held when
    /// they began.
    pub fn resume_reads(&self) {
        let mut state = self.lock();
        (state.reads_stop, state.stopped) = (false, 0);
        drop(state);
        self.resumed.notify_waiters();
    }

    /// Times it was read back to the end.
    pub fn reads(&self) -> u64 {
        self.lock().reads
    }

    /// How often each key was written; resets the counts.
    pub fn take_written(&self) -> HashMap<EntityKey, u64> {
        std::mem::take(&mut self.lock().written)
    }

    /// From now on its writes are noted, including those that it refuses.
    pub fn note_in(&self, place: usize, record: &Record) {
        self.lock().record = Some((place, Arc::clone(record)));
    }

    /// From now on it reports these losses.
    pub fn lose(&self, losses: Vec<Loss>) {
        self.lock().losses = losses;
    }

    /// Connects two ports with a cable; frames pass in both directions.
    pub fn cable(a: (&Self, PortId), b: (&Self, PortId)) {
        a.0.lock().cables.insert(a.1, (b.0.clone(), b.1));
        b.0.lock().cables.insert(b.1, (a.0.clone(), a.1));
    }

    /// Pulls the cable at a port. No device reports it.
    pub fn uncable(&self, port: PortId) {
        let far = self.lock().cables.remove(&port);
        if let Some((peer, port)) = far {
            peer.lock().cables.remove(&port);
        }
    }

    /// A port goes up or down, and the device reports it now and at every connect.
    pub fn set_port(&self, port: PortId, up: bool) {
        self.lock().ports.insert(port, up);
        self.report(Event::Port { port, up });
    }

    /// A frame leaves by a port.
    fn transmit(&self, session: u64, port: PortId, frame: Bytes) {
        let far = {
            let state = self.lock();
            let alive = state.online && state.session == session;
            state.cables.get(&port).filter(|_| alive).cloned()
        };
        if let Some((peer, port)) = far {
            let state = peer.lock();
            if let Some(packets) = state.packets.as_ref().filter(|_| state.events.is_some()) {
                packets.received(port, frame);
            }
        }
    }

    /// Cuts the device off: its session ends, and no other begins. It keeps what it
    /// holds.
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
        state.kept_by = None;
        state.brought_to = 0;
        Self::hang_up(&mut state, "restarted");
    }

    fn hang_up(state: &mut State, why: &str) {
        if let Some(events) = state.events.take() {
            // If the queue is full, dropping its sender ends the session just as well.
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

    /// From now on the device refuses nothing.
    pub fn accept_all(&self) {
        self.lock().refuse.clear();
    }

    /// After this many writes the session ends. Writes that were carried out stay, but are not confirmed.
    pub fn break_after(&self, writes: usize) {
        self.lock().breaks_after = Some(writes);
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
    packets: Option<PacketPort>,
    reading: Option<Reading>,
}

/// A read-back under way.
struct Reading {
    /// The rest of what the device held when it began.
    rest: std::vec::IntoIter<Entity>,
    /// Whether it had a part yet.
    begun: bool,
    /// Whether it is counted as stopped.
    stopped: bool,
}

impl FakeDriver {
    /// The next part of the read-back under way; none if there is none, or if it has stopped.
    fn part(&mut self) -> Option<Part> {
        let reading = self.reading.as_mut()?;
        let mut state = self.device.lock();
        if reading.begun && state.reads_stop {
            state.stopped += u64::from(!std::mem::replace(&mut reading.stopped, true));
            return None;
        }
        reading.begun = true;
        let entities = reading.rest.by_ref().take(PART).collect();
        let last = reading.rest.len() == 0;
        if last {
            state.reads += 1;
            self.reading = None;
        }
        Some(Part {
            entities,
            failing: Vec::new(),
            last,
        })
    }

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
        for (port, up) in &state.ports {
            let (port, up) = (*port, *up);
            // There are fewer ports than places in the queue.
            let _ = sender.try_send(Event::Port { port, up });
        }
        state.events = Some(sender);
        state.packets.clone_from(&self.packets);
        self.session = state.session;
        drop(state);
        self.events = Some(receiver);
        if let Some(packets) = &self.packets {
            let (mut frames, device, session) = (packets.open(), self.device.clone(), self.session);
            tokio::spawn(async move {
                while let Some((port, frame)) = frames.recv().await {
                    device.transmit(session, port, frame);
                }
            });
        }
        Ok(())
    }

    fn kept_by(&self) -> Option<u32> {
        self.device.lock().kept_by
    }

    async fn keep(&mut self, store: u32) -> Result<(), DriverError> {
        self.session()?.kept_by = Some(store);
        Ok(())
    }

    fn brought_to(&self) -> Option<u64> {
        Some(self.device.lock().brought_to)
    }

    async fn synced(&mut self, epoch: u64) -> Result<(), DriverError> {
        self.session()?.brought_to = epoch;
        Ok(())
    }

    async fn begin_read_back(&mut self) -> Result<(), DriverError> {
        let held: Vec<Entity> = self.session()?.entities.values().map(|e| Entity::clone(e)).collect();
        self.reading = Some(Reading {
            rest: held.into_iter(),
            begun: false,
            stopped: false,
        });
        Ok(())
    }

    async fn read_losses(&mut self) -> Result<Losses, DriverError> {
        Ok(Ok(self.session()?.losses.clone()))
    }

    async fn apply(&mut self, batch: &Batch) -> Result<Vec<WriteResult>, DriverError> {
        let mut state = self.session()?;
        state.writes += batch.writes.len() as u64;
        for write in &batch.writes {
            *state.written.entry(write.entity().key()).or_default() += 1;
        }
        let mut results = Vec::with_capacity(batch.writes.len());
        for w in &batch.writes {
            if let Some(left) = &mut state.breaks_after {
                let Some(fewer) = left.checked_sub(1) else {
                    state.breaks_after = None;
                    state.session += 1;
                    FakeDevice::hang_up(&mut state, "broken");
                    return Err(DriverError::Timeout("the answer is lost".into()));
                };
                *left = fewer;
            }
            if let Some((place, record)) = &state.record {
                let mut record = record.lock().unwrap_or_else(PoisonError::into_inner);
                record.push((*place, w.clone()));
            }
            results.push(write(&mut state, w));
        }
        Ok(results)
    }

    async fn next_event(&mut self) -> Event {
        loop {
            let resumed = Arc::clone(&self.device.resumed);
            let resumed = resumed.notified();
            if let Some(part) = self.part() {
                return Event::Held(part);
            }
            let Some(events) = &mut self.events else {
                return std::future::pending().await;
            };
            tokio::select! {
                event = events.recv() => {
                    let over = || Event::Disconnected(DriverError::Unreachable("session is over".into()));
                    return event.unwrap_or_else(over);
                }
                () = resumed => {}
            }
        }
    }

    fn carry_packets(&mut self, port: PacketPort) {
        self.packets = Some(port);
    }

    async fn disconnect(&mut self) {
        if let Some(packets) = &self.packets {
            packets.close();
        }
        (self.events, self.reading) = (None, None);
    }
}
