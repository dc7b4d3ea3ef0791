//! A packet under way: its arena and its octets.

use crate::program::Program;

/// Octets kept free before a frame, for headers that a program adds (as many as
/// simple_switch allows).
pub(crate) const HEADROOM: usize = 512;
/// Octets kept behind a frame, so that a header's last octets can be read as a whole word.
const SLACK: usize = 16;
/// No limit to the length of a frame that leaves.
const WHOLE: usize = usize::MAX;

/// A packet.
#[derive(Debug, Default)]
pub(crate) struct Packet {
    /// Headers and metadata, see `layout`.
    pub(crate) words: Vec<u64>,
    /// Octets, with room before and behind.
    buffer: Vec<u8>,
    /// Where the frame, its payload, and its end are in the buffer.
    start: usize,
    payload: usize,
    end: usize,
    /// Port that it came in by.
    pub(crate) port: u32,
    /// Octets with which it entered the parser; counters and meters use this number.
    pub(crate) length: usize,
    /// Length of the packet now, with headers that were added or removed since.
    pub(crate) register_length: i64,
    /// Most octets that leave.
    pub(crate) truncated: usize,
}

impl Packet {
    /// Takes a frame.
    pub(crate) fn fill(&mut self, program: &Program, port: u32, frame: &[u8]) {
        self.words.clear();
        self.words.extend_from_slice(&program.blank);
        let end = HEADROOM + frame.len();
        if self.buffer.len() < end + SLACK {
            self.buffer.resize(end + SLACK, 0);
        }
        self.buffer[HEADROOM..end].copy_from_slice(frame);
        self.buffer[end..end + SLACK].fill(0);
        (self.start, self.payload, self.end) = (HEADROOM, HEADROOM, end);
        self.port = port;
        self.length = frame.len();
        self.register_length = frame.len() as i64;
        self.truncated = WHOLE;
    }

    /// Becomes a copy of another, headers and all.
    pub(crate) fn copy(&mut self, other: &Self) {
        self.words.clone_from(&other.words);
        self.buffer.clone_from(&other.buffer);
        (self.start, self.payload, self.end) = (other.start, other.payload, other.end);
        (self.port, self.length) = (other.port, other.length);
        (self.register_length, self.truncated) = (other.register_length, other.truncated);
    }

    /// The frame as it came in, with room behind it.
    pub(crate) fn octets(&self) -> (&[u8], usize) {
        (&self.buffer[self.start..], self.end - self.start)
    }

    /// As [`Self::octets`], together with the arena to write to.
    pub(crate) fn split(&mut self) -> (&[u8], usize, &mut [u64]) {
        (&self.buffer[self.start..], self.end - self.start, &mut self.words)
    }

    /// The frame as it came in, or as it leaves.
    pub(crate) fn frame(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// What follows the parsed headers.
    pub(crate) fn payload(&self) -> &[u8] {
        &self.buffer[self.payload..self.end]
    }

    /// Ends the headers after this many octets of the frame.
    pub(crate) fn set_parsed(&mut self, octets: usize) {
        self.payload = (self.start + octets).min(self.end);
    }

    /// Cuts the frame before it is parsed.
    pub(crate) fn cut(&mut self, octets: usize) {
        self.end = self.end.min(self.start + octets);
        let end = self.end;
        self.buffer[end..end + SLACK].fill(0);
    }

    /// Makes room for this many octets of headers before the payload, and returns it, together with the arena that has
    /// the headers.
    pub(crate) fn headers(&mut self, octets: usize) -> (&mut [u8], &[u64]) {
        if self.payload < octets {
            let more = octets - self.payload;
            self.buffer.splice(0..0, std::iter::repeat_n(0, more));
            self.payload += more;
            self.end += more;
        }
        self.start = self.payload - octets;
        (&mut self.buffer[self.start..self.payload], &self.words)
    }

    /// Where the payload begins, if there are at least [`HEADROOM`] octets before it.
    #[cfg(feature = "native")]
    pub(crate) fn roomy_payload(&mut self) -> Option<*mut u8> {
        let payload = self.payload;
        let rest = self.buffer.get_mut(payload..)?;
        (payload >= HEADROOM).then_some(rest.as_mut_ptr())
    }

    /// Notes that this many octets of headers were written before the payload.
    #[cfg(feature = "native")]
    pub(crate) fn set_headers(&mut self, octets: usize) {
        self.start = self.payload.saturating_sub(octets);
    }

    /// Applies the limit to its length.
    pub(crate) fn truncate(&mut self) {
        self.end = self.end.min(self.start.saturating_add(self.truncated));
    }
}
