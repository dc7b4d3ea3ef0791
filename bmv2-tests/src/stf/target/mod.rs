//! The switch on which a script runs.
//!
//! A target gets its entries with full names and padded octets, so it needs no parser and no handles. Frames and
//! digests are read at the points where the script looks at them, so a target may be another process.

mod engine;
mod process;
mod reference;

pub use engine::Engine;
pub(crate) use engine::all_compiled;
pub use process::Process;
pub use reference::Reference;

/// The condition of one element of a key, in the octets of the field's width.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Key {
    /// This value.
    Exact(Vec<u8>),
    /// These leading bits.
    Lpm(Vec<u8>, usize),
    /// This value under this mask.
    Ternary(Vec<u8>, Vec<u8>),
    /// Lowest and highest value, both included.
    Range(Vec<u8>, Vec<u8>),
}

/// An action with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Full name.
    pub action: String,
    /// Id in the BMv2 JSON, which distinguishes copies of one action.
    pub id: u32,
    /// Arguments in the octets of the parameters' widths.
    pub args: Vec<Vec<u8>>,
}

/// What an entry makes the packet do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// An action.
    Call(Call),
    /// A member of the table's profile.
    Member(u32),
    /// A group of the table's selector.
    Group(u32),
}

/// A table entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Full name of the table.
    pub table: String,
    /// Its key, element by element.
    pub key: Vec<Key>,
    /// Larger wins; 0 if the table takes no priorities.
    pub priority: i32,
    /// What it leads to.
    pub action: Action,
}

/// A copy that the replication engine makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replica {
    /// Port on which it leaves.
    pub port: u32,
    /// `egress_rid`.
    pub rid: u32,
}

/// Packets and octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Octets.
    pub bytes: u64,
}

/// Rates of a two-rate three-colour meter: millionths of a unit a second, units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "RFC 2698's names")]
pub struct Rates {
    pub cir: u64,
    pub cbs: u64,
    pub pir: u64,
    pub pbs: u64,
}

/// The target's error, for people.
pub type Failed = String;

/// Frames for this port are dropped, as simple_switch numbers it.
const DROP_PORT: u32 = 511;
/// Time that each frame takes on the script's clock, so that no two have the same time stamp.
const FRAME_NS: u64 = 1_000;
/// Where the clock starts: 0 would look like a field that nobody set.
const START_NS: u64 = 1_000_000_000;

/// The object with a name in the program.
fn known<T>(found: Option<T>, kind: &str, name: &str) -> Result<T, Failed> {
    found.ok_or_else(|| format!("the switch has no {kind} {name}"))
}

/// A cell of an array of the program.
fn known_cell<T>(found: Option<T>, array: &str, cell: impl std::fmt::Display) -> Result<T, Failed> {
    found.ok_or_else(|| format!("{array} has no cell {cell}"))
}

/// A cell's number as an index. A number that cannot be an index is beyond the end of every
/// array.
fn index(cell: u64) -> usize {
    usize::try_from(cell).unwrap_or(usize::MAX)
}

/// A switch with one program loaded.
pub trait Target {
    /// Puts an entry in.
    fn add(&mut self, entry: &Entry) -> Result<(), Failed>;
    /// Takes an entry out.
    fn remove(&mut self, entry: &Entry) -> Result<(), Failed>;
    /// Sets a table's default action.
    fn set_default(&mut self, table: &str, call: &Call) -> Result<(), Failed>;
    /// Sets a member of an action profile.
    fn member(&mut self, profile: &str, id: u32, call: &Call) -> Result<(), Failed>;
    /// Sets a group of a selector: members, each with the port that it needs, if any.
    fn group(&mut self, profile: &str, id: u32, members: &[(u32, Option<u32>)]) -> Result<(), Failed>;
    /// Sets all members of a value set: octets of each field.
    fn value_set(&mut self, set: &str, members: &[Vec<Vec<u8>>]) -> Result<(), Failed>;
    /// Sets a multicast group.
    fn multicast(&mut self, group: u32, replicas: &[Replica]) -> Result<(), Failed>;
    /// Sets a clone session, or removes it.
    fn mirror(&mut self, session: u32, replicas: Option<&[Replica]>) -> Result<(), Failed>;
    /// Sets the state of a link.
    fn port(&mut self, port: u32, up: bool) -> Result<(), Failed>;
    /// Reads a counter cell.
    fn counter(&mut self, counter: &str, cell: u64) -> Result<Count, Failed>;
    /// Sets a counter cell.
    fn set_counter(&mut self, counter: &str, cell: u64, count: Count) -> Result<(), Failed>;
    /// Reads the direct counter of an entry.
    fn direct_counter(&mut self, entry: &Entry) -> Result<Count, Failed>;
    /// Configures a meter cell, or all of the array.
    fn meter(&mut self, meter: &str, cell: Option<u64>, rates: Rates) -> Result<(), Failed>;
    /// Configures the direct meter of an entry.
    fn direct_meter(&mut self, entry: &Entry, rates: Rates) -> Result<(), Failed>;
    /// Reads a register cell: octets of its width.
    fn register(&mut self, register: &str, cell: u64) -> Result<Vec<u8>, Failed>;
    /// Sets a register cell.
    fn set_register(&mut self, register: &str, cell: u64, value: &[u8]) -> Result<(), Failed>;
    /// Milliseconds since an entry was last hit or put in.
    fn idle_ms(&mut self, entry: &Entry) -> Result<u64, Failed>;
    /// Lets time pass.
    fn wait(&mut self, ms: u64) -> Result<(), Failed>;
    /// A frame arrives on a port.
    fn packet(&mut self, port: u32, frame: &[u8]) -> Result<(), Failed>;
    /// Frames that left since the last call, by port in their order.
    fn frames(&mut self) -> Result<Vec<(u32, Vec<u8>)>, Failed>;
    /// Digests that were sent since the last call: name, and fields padded to octets.
    fn digests(&mut self) -> Result<Vec<(String, Vec<Vec<u8>>)>, Failed>;
}
