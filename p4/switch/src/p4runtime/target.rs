//! The interface to the part that executes packets: the few functions of a loaded program that the server uses.
//!
//! The server validates everything first, so a target only receives operations that it can carry out. A whole `Write`
//! arrives as one list of [`Op`] and becomes visible to packets at once. Objects are named by their index in [`Info`],
//! entries by an id that the server chose, so a target needs no lookup by name and no map of its own.

use std::sync::Arc;

use super::action::Call;
use super::entries::Entries;
use super::error::EntityError;
use super::info::Info;
use super::ports::PortNames;
use super::state::{CloneSession, MeterConfig, Replica, Selected, State};
use super::streams::PuntCounters;

/// Bytes and packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CounterValue {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
}

/// Packets that a meter marked green, yellow and red (section 9.4.3).
pub type ColourCounts = [CounterValue; 3];

/// An entry or the default entry of a table: the owner of direct counters and meters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// A match entry, by its id.
    Entry(u32),
    /// The default entry.
    Default,
}

/// The cells of an array that an operation changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cells {
    /// One.
    One(usize),
    /// All.
    All,
}

/// One change of the forwarding state, already validated.
#[derive(Debug, Clone)]
pub enum Op {
    /// A new entry.
    Insert {
        /// Table index.
        table: usize,
        /// The entry.
        id: u32,
    },
    /// Another action or idle timeout for an entry.
    Modify {
        /// Table index.
        table: usize,
        /// The entry.
        id: u32,
    },
    /// An entry is gone.
    Delete {
        /// Table index.
        table: usize,
        /// The entry.
        id: u32,
    },
    /// The default action; `None` is the program's own.
    Default {
        /// Table index.
        table: usize,
        /// The new default action.
        call: Option<Call>,
    },
    /// A member of a profile is new or changed; `None` removes it.
    Member {
        /// Profile index.
        profile: usize,
        /// Member id.
        id: u32,
        /// Its action.
        call: Option<Call>,
    },
    /// A group of a selector is new or changed; `None` removes it.
    Group {
        /// Profile index.
        profile: usize,
        /// Group id.
        id: u32,
        /// Its members.
        members: Option<Vec<Selected>>,
    },
    /// A multicast group; `None` removes it.
    Multicast {
        /// Group id.
        id: u32,
        /// Its replicas.
        replicas: Option<Vec<Replica>>,
    },
    /// A clone session; `None` removes it.
    Clone {
        /// Session id.
        id: u32,
        /// The session.
        session: Option<CloneSession>,
    },
    /// All members of a value set, as packed keys.
    ValueSet {
        /// Value set index.
        set: usize,
        /// Members.
        members: Vec<Box<[u8]>>,
    },
    /// Counter cells are set.
    Counter {
        /// Counter index.
        counter: usize,
        /// Which cells.
        cells: Cells,
        /// The new value.
        value: CounterValue,
    },
    /// A direct counter is set.
    DirectCounter {
        /// Table index.
        table: usize,
        /// Whose counter.
        owner: Owner,
        /// The new value.
        value: CounterValue,
    },
    /// Meter cells are configured; `None` is green for everything.
    Meter {
        /// Meter index.
        meter: usize,
        /// Which cells.
        cells: Cells,
        /// Rates.
        config: Option<MeterConfig>,
    },
    /// A direct meter is configured; `None` is green for everything.
    DirectMeter {
        /// Table index.
        table: usize,
        /// Whose meter.
        owner: Owner,
        /// Rates.
        config: Option<MeterConfig>,
    },
    /// Counters by colour of meter cells are set.
    MeterColours {
        /// Meter index.
        meter: usize,
        /// Which cells.
        cells: Cells,
        /// The new value.
        value: ColourCounts,
    },
    /// Counters by colour of a direct meter are set.
    DirectMeterColours {
        /// Table index.
        table: usize,
        /// Whose meter.
        owner: Owner,
        /// The new value.
        value: ColourCounts,
    },
    /// Register cells are written.
    Register {
        /// Register index.
        register: usize,
        /// Which cells.
        cells: Cells,
        /// Padded value.
        value: Vec<u8>,
    },
}

/// An entry that the program itself defines.
#[derive(Debug, Clone)]
pub struct InitialEntry {
    /// Packed key without priority.
    pub key: Vec<u8>,
    /// Larger wins; 0 if the table takes no priorities.
    pub priority: i32,
    /// Its action.
    pub call: Call,
    /// Whether clients may not change it.
    pub is_const: bool,
}

/// One loaded program with its own forwarding state.
pub trait Target: Send + Sync {
    /// The program's own entries of a table.
    fn initial_entries(&self, table: usize) -> Vec<InitialEntry>;

    /// The program's own default action for a table.
    fn initial_default(&self, table: usize) -> Option<Call>;

    /// Receives the initial entries with the ids that the server gave them.
    fn adopt(&mut self, table: usize, entries: &Entries);

    /// Carries out `ops` in order; packets see all of them or none. `state` has the entries as they are after all of
    /// the operations, and removed ones as they were before.
    ///
    /// # Errors
    /// Only errors that validation cannot foresee (the target ran out of something). Then nothing was changed.
    fn apply(&mut self, state: &State, ops: Vec<Op>) -> Result<(), EntityError>;

    /// Reads a counter cell.
    fn counter(&self, counter: usize, cell: usize) -> CounterValue;

    /// Reads a direct counter.
    fn direct_counter(&self, table: usize, owner: Owner) -> CounterValue;

    /// Counters by colour of a meter cell.
    fn meter_colours(&self, meter: usize, cell: usize) -> ColourCounts;

    /// Counters by colour of a direct meter.
    fn direct_meter_colours(&self, table: usize, owner: Owner) -> ColourCounts;

    /// Reads a register cell, padded.
    fn register(&self, register: usize, cell: usize) -> Vec<u8>;

    /// Nanoseconds since an entry was last hit, or since it was inserted.
    fn since_last_hit_ns(&self, table: usize, id: u32) -> u64;

    /// Lets packets run through this program from now on.
    fn activate(&mut self);
}

/// An event of a running program for the server.
#[derive(Debug, Clone)]
pub enum Event {
    /// A frame left through the CPU port.
    PacketIn(Vec<u8>),
    /// The program sent a digest.
    Digest {
        /// P4Info id.
        digest_id: u32,
        /// Its fields, padded, in order.
        message: Vec<Vec<u8>>,
    },
}

/// The device: loads programs and owns ports.
pub trait Device: Send + Sync + 'static {
    /// Loads a device config beside the running program and binds the P4Info to it: names are resolved, and the data
    /// plane widths of translated values are filled into `info`.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a config that cannot be executed or that contradicts the P4Info.
    fn load(&self, info: &mut Info, device_config: &[u8]) -> Result<Box<dyn Target>, EntityError>;

    /// The port that carries packet-in and packet-out, if the switch has one.
    fn cpu_port(&self) -> Option<u32>;

    /// Names and numbers of the ports.
    fn ports(&self) -> Arc<PortNames>;

    /// Counts of messages to controllers, and of lost ones.
    fn punted(&self) -> Arc<PuntCounters>;

    /// Sets the digests (P4Info ids, in order) for which clients have a `DigestEntry`. The device passes on no others.
    fn learn(&self, digests: Vec<u32>) {
        let _ = digests;
    }

    /// Feeds a frame in as if it came from the CPU port.
    ///
    /// # Errors
    /// `RESOURCE_EXHAUSTED` if the input queue is full, `FAILED_PRECONDITION` without a CPU port.
    fn packet_out(&self, frame: Vec<u8>) -> Result<(), EntityError>;
}
