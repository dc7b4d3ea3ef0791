//! Where packets and digests go.

use crate::program::Value;
use crate::worker::Waiting;

/// Takes the output of a worker. Frames are in the worker's buffer.
pub trait Sink {
    /// A frame leaves by a port; for the CPU port, a packet-in with its header.
    fn frame(&mut self, port: u32, data: &[u8]);

    /// The program sends a digest: its id in the program, its fields.
    fn digest(&mut self, id: u32, fields: DigestFields<'_>);

    /// Packets that wait in the egress queues of a port. `None` if it has no queues; then its packets go through egress
    /// at once.
    fn waiting(&mut self, port: u32) -> Option<usize> {
        let _ = port;
        None
    }

    /// Puts a packet into a port's queue of that priority. It goes on by [`Batch::leave`](super::Batch::leave).
    fn enqueue(&mut self, priority: u64, packet: Waiting) {
        let _ = (priority, packet);
    }
}

/// The fields of a digest, each padded to whole octets.
#[derive(Clone, Copy)]
pub struct DigestFields<'a> {
    fields: &'a [(Value, u32)],
    bytes: &'a [u8],
}

impl<'a> DigestFields<'a> {
    pub(crate) fn new(fields: &'a [(Value, u32)], bytes: &'a [u8]) -> Self {
        Self { fields, bytes }
    }
}

impl<'a> Iterator for DigestFields<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let ((_, width), rest) = self.fields.split_first()?;
        let (field, bytes) = self.bytes.split_at_checked(width.div_ceil(8) as usize)?;
        (self.fields, self.bytes) = (rest, bytes);
        Some(field)
    }
}
