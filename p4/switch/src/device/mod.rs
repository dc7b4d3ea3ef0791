//! The packet engine as a device of the P4Runtime server: the state that the server, the forwarding threads and the loaded
//! program share. [`target`] is the program as the server writes to it.

mod hidden;
mod target;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;

use crate::gnmi::tree::PipelineState;
use crate::p4runtime::bind::bind;
use crate::p4runtime::device_config;
use crate::p4runtime::error::EntityError;
use crate::p4runtime::info::Info;
use crate::p4runtime::ports::PortNames;
use crate::p4runtime::streams::PuntCounters;
use crate::p4runtime::target::{Device, Event, Target};
use crate::queues::Queues;
use p4_engine::{DigestFields, Pipeline};

/// Packet-outs that wait for the forwarding thread.
pub const PACKET_OUT_QUEUE: usize = 1024;

/// The state that the server, the forwarding thread and loaded programs share.
pub struct Dataplane {
    /// The program that packets run through, with the P4Info ids of its digests.
    pub running: ArcSwapOption<Running>,
    /// Start of the clock.
    started: Instant,
    cpu_port: Option<u32>,
    drop_port: u32,
    /// Numbers and names of the current ports.
    pub names: Arc<PortNames>,
    down: Mutex<Vec<u32>>,
    outgoing: mpsc::Sender<Vec<u8>>,
    wake: Box<dyn Fn() + Send + Sync>,
    events: mpsc::Sender<Event>,
    /// P4Info ids of the digests that clients asked for, in order.
    learned: ArcSwap<Vec<u32>>,
    /// Egress queues of the ports.
    pub queues: Queues,
    /// Counts of messages to controllers, and of lost ones.
    pub punted: Arc<PuntCounters>,
    /// Frames that no program took, or that were for a port that does not exist.
    pub dropped: Arc<AtomicU64>,
}

/// A program that packets run through.
pub struct Running {
    /// The program with its state.
    pub pipeline: Arc<Pipeline>,
    digests: FxHashMap<u32, u32>,
}

impl Dataplane {
    /// A data plane without a program. `outgoing` takes packet-outs, and `wake` wakes the
    /// thread that empties it; `events` takes packet-ins and digests.
    pub fn new(
        ports: Vec<(String, u32)>,
        cpu_port: Option<u32>,
        drop_port: u32,
        outgoing: mpsc::Sender<Vec<u8>>,
        wake: Box<dyn Fn() + Send + Sync>,
        events: mpsc::Sender<Event>,
    ) -> Arc<Self> {
        Arc::new(Self {
            running: ArcSwapOption::empty(),
            started: Instant::now(),
            cpu_port,
            drop_port,
            names: Arc::new(PortNames::new(ports)),
            down: Mutex::default(),
            outgoing,
            wake,
            events,
            learned: ArcSwap::default(),
            queues: Queues::new(),
            punted: Arc::default(),
            dropped: Arc::default(),
        })
    }

    /// The switch's clock.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Notes whether a port carries traffic; selectors leave out members that watch it.
    pub fn set_port(&self, port: u32, up: bool) {
        let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        down.retain(|p| *p != port);
        if !up {
            down.push(port);
        }
        if let Some(running) = self.running.load().as_ref() {
            running.pipeline.store().ports.set(port, up);
        }
    }

    /// Wakes the thread that takes packet-outs and empties the egress queues.
    pub fn wake(&self) {
        (self.wake)();
    }

    /// Forgets a port.
    pub fn forget_port(&self, port: u32) {
        let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        down.retain(|p| *p != port);
        if let Some(running) = self.running.load().as_ref() {
            // The state of a port of which nothing is known.
            running.pipeline.store().ports.set(port, true);
        }
    }

    /// The meaning of a reserved port number.
    pub fn reserved(&self, port: u32) -> Option<&'static str> {
        match port {
            _ if Some(port) == self.cpu_port => Some("CPU port"),
            _ if port == self.drop_port => Some("port that drops"),
            _ => None,
        }
    }

    /// What gNMI reports about the pipeline.
    pub fn pipeline_state(&self, node_id: u64) -> PipelineState {
        PipelineState {
            node_id,
            punted: self.punted.queued.load(Ordering::Relaxed),
            punts_lost: self.punted.lost.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
        }
    }

    /// Passes a frame for the CPU port to the server; false if it is for another port.
    pub fn packet_in(&self, port: u32, data: &[u8]) -> bool {
        let is_it = Some(port) == self.cpu_port;
        if is_it {
            self.tell(|| Event::PacketIn(data.to_vec()));
        }
        is_it
    }

    /// Passes a digest of the running program to the server, if a client has a `DigestEntry` for it (P4Runtime
    /// specification, section 9.10).
    pub fn digest(&self, id: u32, fields: DigestFields<'_>) {
        let running = self.running.load();
        if let Some(digest_id) = running.as_ref().and_then(|r| r.digests.get(&id)).copied()
            && self.learned.load().binary_search(&digest_id).is_ok()
        {
            self.tell(|| Event::Digest {
                digest_id,
                message: fields.map(<[u8]>::to_vec).collect(),
            });
        }
    }

    /// Packet-ins and digests that the server has not taken yet.
    pub fn punts_waiting(&self) -> usize {
        self.events.max_capacity().saturating_sub(self.events.capacity())
    }

    /// Queues an event, or counts it as lost: packets never wait for the server.
    fn tell(&self, event: impl FnOnce() -> Event) {
        match self.events.try_reserve() {
            Ok(place) => {
                self.punted.queued.fetch_add(1, Ordering::Relaxed);
                place.send(event());
            }
            Err(_) => self.punted.lose(1),
        }
    }
}

/// The device that the P4Runtime server works with.
pub struct EngineDevice(pub Arc<Dataplane>);

impl Device for EngineDevice {
    fn load(&self, info: &mut Info, device_config: &[u8]) -> Result<Box<dyn Target>, EntityError> {
        let program = device_config::program(device_config)?;
        let bound = bind(info, &program)?;
        let (pipeline, mut writer) = Pipeline::new(&program, self.0.cpu_port, self.0.drop_port)
            .map_err(|error| EntityError::invalid(format!("device config: {error}")))?;
        hidden::insert_entries(info, &program, &pipeline, &mut writer);
        Ok(Box::new(target::EngineTarget::new(
            Arc::clone(&self.0),
            pipeline,
            writer,
            info.clone(),
            bound,
        )?))
    }

    fn cpu_port(&self) -> Option<u32> {
        self.0.cpu_port
    }

    fn ports(&self) -> Arc<PortNames> {
        Arc::clone(&self.0.names)
    }

    fn punted(&self) -> Arc<PuntCounters> {
        Arc::clone(&self.0.punted)
    }

    fn learn(&self, digests: Vec<u32>) {
        self.0.learned.store(Arc::new(digests));
    }

    fn packet_out(&self, frame: Vec<u8>) -> Result<(), EntityError> {
        if self.0.cpu_port.is_none() {
            return Err(EntityError::precondition("the switch has no CPU port"));
        }
        let queued = self.0.outgoing.try_send(frame);
        queued.map_err(|_| EntityError::exhausted("the input queue is full"))?;
        (self.0.wake)();
        Ok(())
    }
}
