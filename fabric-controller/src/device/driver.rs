//! What a device actor needs from a device. The controller does I/O with devices only here.
//!
//! A driver is owned by one actor task, which calls one method at a time. It connects, reads
//! the device back, writes batches and reports events. It decides nothing: the actor decides what to write,
//! in which order and when to try again.

use std::fmt;
use std::future::Future;

use fabric_identity::Validity;
use vfabric_api::ident::PortId;

use super::packets::PacketPort;
use super::ports::Ports;
use super::reports::Milestone;
use super::settings::OnWire;
pub use crate::entity::counter::{CounterCell, CounterQuery, CounterValue};
use crate::entity::{Entity, EntityKey};
pub use crate::ident::DeviceIndex;
pub use crate::reconcile::{Batch, Limits, Write};

/// Why a device refused one write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EntityError {
    /// The reason in words, for the status of the object.
    pub message: String,
    /// True when the device may accept the same write later (it is busy, a table is full, a
    /// namespace does not exist yet). Other writes are tried again only when the entity
    /// changes, the device reconnects, or at the next sweep.
    pub retryable: bool,
    /// True when the device itself tries again and reports [`Event::EntityState`].
    pub device_retries: bool,
}

/// Result of one write, in the order of [`Batch::writes`].
pub type WriteResult = Result<(), EntityError>;

/// Frames that were lost at one place of a device for one reason, apart from those that a pipeline refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The port, attachment or link; empty for the device as a whole.
    pub place: String,
    /// Why, in the device's words.
    pub reason: String,
    /// How many.
    pub frames: u64,
}

/// The losses of a device, or why they cannot be read.
pub type Losses = Result<Vec<Loss>, String>;

/// Why a session with a device ended or did not begin. The actor drops the session,
/// waits (backoff with jitter) and connects again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DriverError {
    /// The device cannot be reached or has closed the session.
    #[error("not reachable: {0}")]
    Unreachable(String),
    /// The device did not reply in time.
    #[error("timed out: {0}")]
    Timeout(String),
    /// Another controller is primary, or the device does not let us in.
    #[error("not permitted: {0}")]
    NotPermitted(String),
    /// The device violates the protocol.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// The device belongs to another store (see [`super::claim`]).
    #[error("left as it is: {0}")]
    Foreign(String),
    /// The pipeline could not be loaded.
    #[error("pipeline: {0}")]
    Pipeline(String),
}

/// A part of a read-back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Part {
    /// Entities that the device holds, in canonical form.
    pub entities: Vec<Entity>,
    /// Those among them that are not in place yet, with the reason; the device is working on them.
    pub failing: Vec<(EntityKey, EntityError)>,
    /// True when it is the last part.
    pub last: bool,
}

/// What a device reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A part of the read-back under way.
    Held(Part),
    /// The session is over; the actor connects again.
    Disconnected(DriverError),
    /// Operational state of a port (gNMI `oper-status`; not from bmv2, which has no gNMI).
    Port {
        /// The port.
        port: PortId,
        /// True when it carries traffic.
        up: bool,
    },
    /// What a port of a switch uses on the wire (gNMI `ethernet/state`).
    OnWire(PortId, OnWire),
    /// The device has retried an entity itself: the entity is in place (`Ok`) or no longer so (`Err`).
    EntityState(EntityKey, WriteResult),
    /// Somebody else changed something that is not part of the read-back, and the device or its driver corrected it.
    Repaired(String),
    /// On a host, a workload that migrates has announced itself: it has arrived.
    Announced {
        /// The attachment's id, `vdc/name`.
        attachment: String,
        /// The kind of frame by which the workload announced itself.
        by: String,
    },
    /// The device took a step towards service, after the steps of [`Driver::connect`].
    Step(Milestone),
    /// Something about the device is wrong, in words; `None` when it is right again.
    Warning(Warning, Option<String>),
}

/// The subject of a warning; a later warning with the same subject replaces it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Warning {
    /// Its certificate expires soon.
    Certificate,
    /// Its clock.
    Clock,
    /// Its ports are not as the fabric asks.
    Ports,
    /// Its host name.
    HostName,
    /// Speed or negotiation of its ports.
    Speed,
    /// Forward error correction of its ports.
    Fec,
    /// How its front-panel ports are split.
    Breakout,
}

/// A device, seen from its actor. Methods are called one at a time; every one has its own
/// timeout inside, so that a dead device is noticed and never blocks its actor for ever.
pub trait Driver: Send + 'static {
    /// How much the device accepts at once.
    fn limits(&self) -> Limits;

    /// Place of an entity in the order of creation; removal goes the other way. An entity
    /// refers only to entities of a smaller rank.
    fn rank(&self, key: &EntityKey) -> u16 {
        key.rank()
    }

    /// Opens a session and makes the device ready for entities: arbitration, the pipeline
    /// (pushed only if its cookie differs), event subscriptions. Once it returns, no
    /// event is lost. If the device connects to the controller (vtep), the call waits until it has. This is the only
    /// call that may take for ever; it is cancel safe.
    fn connect(&mut self) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// The steps that `connect` went through since the last call, even if it failed in the end.
    fn milestones(&mut self) -> Vec<Milestone> {
        Vec::new()
    }

    /// The validity of the certificate that the device has shown; none without TLS.
    fn certificate(&self) -> Option<Validity> {
        None
    }

    /// The store that the device remembers as its own, as read by `connect`; none if it remembers none.
    fn kept_by(&self) -> Option<u32> {
        None
    }

    /// The last revision of that store's intent that the device received; none from devices that do not
    /// remember it.
    fn brought_to(&self) -> Option<u64> {
        None
    }

    /// Makes the device remember this store as its own, now or at the latest with `synced`. A device that cannot
    /// remember it ignores this.
    fn keep(&mut self, store: u32) -> impl Future<Output = Result<(), DriverError>> + Send {
        let _ = store;
        async { Ok(()) }
    }

    /// Begins to read everything that the device holds of the kinds that the controller owns. It comes as
    /// [`Event::Held`]; a read-back that fails is [`Event::Disconnected`]. Other calls may come before the last part,
    /// and a part may be older than a write that was confirmed before it. Only one read-back is under way at a time.
    fn begin_read_back(&mut self) -> impl Future<Output = Result<(), DriverError>> + Send;

    /// Reads everything and waits for it, for callers with nothing else to do: other events are dropped meanwhile.
    fn read_back(&mut self) -> impl Future<Output = Result<Vec<Entity>, DriverError>> + Send {
        async move {
            self.begin_read_back().await?;
            let mut held = Vec::new();
            loop {
                match self.next_event().await {
                    Event::Held(part) => {
                        held.extend(part.entities);
                        if part.last {
                            return Ok(held);
                        }
                    }
                    Event::Disconnected(error) => return Err(error),
                    _ => {}
                }
            }
        }
    }

    /// Whether a read-back of `wanted` would return `held`, although they are not equal: the device cannot
    /// store all of `wanted`, or does not report all of it.
    fn same(&self, wanted: &Entity, held: &Entity) -> bool {
        wanted == held
    }

    /// Writes a batch: one result per write, in the order of the batch. A `DriverError`
    /// means that the outcome is unknown; the actor connects again and reads back.
    fn apply(&mut self, batch: &Batch) -> impl Future<Output = Result<Vec<WriteResult>, DriverError>> + Send;

    /// Called when everything that the device must hold has been sent (after a read-back and its
    /// repairs, whether or not some write was refused).
    fn synced(&mut self, epoch: u64) -> impl Future<Output = Result<(), DriverError>> + Send {
        let _ = epoch;
        async { Ok(()) }
    }

    /// The next event of the open session. Cancel safe: an event is returned or kept.
    /// Waits while there is none.
    fn next_event(&mut self) -> impl Future<Output = Event> + Send;

    /// Called once, before the first `connect`: the queues for frames to and from the pipeline during
    /// a session. They work concurrently with all other calls. Devices without a pipeline ignore this.
    fn carry_packets(&mut self, port: PacketPort) {
        let _ = port;
    }

    /// Called once, before the first `connect`: how the switch's ports should be set. During a session the driver keeps them
    /// so, concurrently with all other calls, and reports what it corrects. Devices without ports ignore this.
    fn keep_ports(&mut self, ports: Ports) {
        let _ = ports;
    }

    /// Reads counters.
    fn read_counters(
        &mut self,
        queries: &[CounterQuery],
    ) -> impl Future<Output = Result<Vec<CounterValue>, DriverError>> + Send {
        let _ = queries;
        async { Ok(Vec::new()) }
    }

    /// Reads the losses that [`Self::read_counters`] does not include; places without losses are left out.
    fn read_losses(&mut self) -> impl Future<Output = Result<Losses, DriverError>> + Send {
        async { Ok(Ok(Vec::new())) }
    }

    /// Ends the session, and lets the device know if that is still possible. Also called before every new
    /// `connect`.
    fn disconnect(&mut self) -> impl Future<Output = ()> + Send;
}

impl fmt::Display for DeviceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
