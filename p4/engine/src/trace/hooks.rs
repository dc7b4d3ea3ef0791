//! Hooks for observers of each step of a packet.

use crate::tables::Record;

/// Observes each step of a packet. With [`NoTrace`] the hooks cost nothing.
///
/// Indexes are those of the [`Pipeline`](crate::Pipeline) that runs; its methods name them.
pub trait Trace {
    /// Whether the steps are observed.
    const ON: bool;

    /// A packet enters the parser, by a port; `kind` is its `instance_type`.
    fn ingress(&mut self, port: u32, kind: u64, frame: &[u8]) {
        let _ = (port, kind, frame);
    }

    /// A packet or copy enters egress for a port.
    fn egress(&mut self, port: u32, replica: u16, kind: u64) {
        let _ = (port, replica, kind);
    }

    /// The parser enters a state, at a bit of the frame.
    fn state(&mut self, state: u32, bit: usize) {
        let _ = (state, bit);
    }

    /// The parser gave up.
    fn parser_error(&mut self, error: u64) {
        let _ = error;
    }

    /// A condition of ingress or egress was decided.
    fn branch(&mut self, egress: bool, condition: u32, holds: bool) {
        let _ = (egress, condition, holds);
    }

    /// A table was looked up: key, slot of the entry that was hit, action with arguments.
    fn table(&mut self, table: u32, key: &[u64], entry: Option<u32>, action: Option<Record<'_>>) {
        let _ = (table, key, entry, action);
    }

    /// An action runs.
    fn action(&mut self, action: u32, args: &[u64]) {
        let _ = (action, args);
    }

    /// Headers and metadata as they are now: after parsing, and after each action.
    fn arena(&mut self, words: &[u64]) {
        let _ = words;
    }

    /// A packet ends here.
    fn dropped(&mut self, why: Dropped) {
        let _ = why;
    }

    /// A frame leaves.
    fn sent(&mut self, port: u32, frame: &[u8]) {
        let _ = (port, frame);
    }
}

/// Why a packet ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// Ingress chose the drop port.
    Ingress,
    /// Egress chose the drop port.
    Egress,
    /// Its multicast group makes no copies.
    NoReplicas,
    /// There were too many copies or too many passes.
    TooMany,
}

/// Observes nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTrace;

impl Trace for NoTrace {
    const ON: bool = false;
}
