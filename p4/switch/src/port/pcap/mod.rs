//! Capture files: as ports, and beside ports to see what passes.
//!
//! One thread writes all files, so that no forwarding thread waits for a disk: a [`Tap`] that finds its queue full loses
//! the record, and says how many at the end; a [`FilePort`] is all there is of its frames, and waits.

pub mod format;
mod port;
mod record;

pub use port::{FilePort, Tap};
pub use record::{Recorder, Track};
