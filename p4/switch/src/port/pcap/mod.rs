//! Capture files: as ports, and as records of the frames of other ports.
//!
//! One thread writes all files, so that no forwarding thread waits for a disk: a [`Tap`] that finds its queue full
//! loses the record, and reports the number at the end. A [`FilePort`] is the only output of its frames, so it waits.

pub mod format;
mod port;
mod record;

pub use port::{FilePort, Tap};
pub use record::{Recorder, Track};
