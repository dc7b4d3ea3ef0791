//! Ports: where frames come from and go to.
//!
//! # Model
//! A [`Port`] opens as one [`Lane`] per forwarding thread, each with a [`Receive`] and a [`Transmit`]; the threads share
//! only what the port itself shares internally. [`Ports`] is the set of open ports and the threads: ports are attached and
//! detached while frames flow. Each thread has a [`Forwarder`], which decides what happens to a frame and sends
//! through a [`Sink`]. Kinds of ports: network devices ([`netdev`]), memory ([`memory`]), capture files ([`pcap`]), none ([`closed`]).
//!
//! # Invariants
//! - The frames of one flow and port go through one thread in the order in which they came.
//! - A frame has the form that it would have on a wire: checksums are complete, VLAN tags in place, segments cut
//!   ([`offload`]).
//! - No frame is ever sent back to the socket that sends it.
//! - Frames that arrive faster than they are forwarded, and frames that a device does not accept, are lost and counted
//!   in [`Counters`]. Nothing waits for a port.
//!
//! # Cost
//! A received frame is processed where the kernel put it and copied once for sending; sending is one call for up to 64
//! frames. Nothing is allocated per frame. Idle threads sleep in one `epoll_wait`.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub mod closed;
pub mod memory;
pub mod netdev;
pub mod offload;
pub mod pcap;
pub mod qdisc;
mod sys;
mod workers;

pub use workers::{Ports, Waker};

/// Frames received by a port, for one thread.
pub trait Receive: Send {
    /// Readable while frames wait.
    fn fd(&self) -> BorrowedFd<'_>;

    /// The next frame, which the caller may change; none if none waits.
    fn next(&mut self) -> Option<&mut [u8]>;

    /// The descriptor reported an error; clears the error, so that it is not reported again.
    fn failed(&mut self) {}
}

/// Frames sent through a port, from one thread.
pub trait Transmit: Send {
    /// Takes a frame. It is sent now or with the next [`flush`](Self::flush).
    fn send(&mut self, frame: &[u8]);

    /// Sends all waiting frames.
    fn flush(&mut self);

    /// Whether the device accepts more now. If it does not, frames that are sent anyway are lost.
    fn has_room(&self) -> bool {
        true
    }
}

/// One thread's access to a port.
pub struct Lane {
    /// How to receive; none if other threads receive for it.
    pub rx: Option<Box<dyn Receive>>,
    /// How to send.
    pub tx: Box<dyn Transmit>,
}

/// Something that can be opened as a port.
pub trait Port: Send {
    /// Opens it for this many threads.
    ///
    /// # Errors
    /// It does not exist, or must not be opened.
    fn open(&self, lanes: usize) -> io::Result<Vec<Lane>>;
}

/// Takes the frames that a forwarder sends.
pub trait Sink {
    /// Sends a frame through a port; if there is no such port, returns false and the frame is lost.
    fn frame(&mut self, port: u32, frame: &[u8]) -> bool;

    /// Whether a port's device accepts more now.
    fn has_room(&self, port: u32) -> bool {
        let _ = port;
        true
    }
}

/// Waiting frames of one port, as many as one turn allows.
pub struct Burst<'a> {
    port: u32,
    rx: &'a mut dyn Receive,
    left: usize,
}

impl Burst<'_> {
    /// The port.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// The next frame.
    pub fn next_frame(&mut self) -> Option<&mut [u8]> {
        let left = self.left.checked_sub(1)?;
        let frame = self.rx.next()?;
        // Count only frames that were found, so that a sender of single frames is not mistaken for a flood.
        self.left = left;
        Some(frame)
    }
}

/// What happens to frames: one thread's view of a pipeline.
pub trait Forwarder: Send {
    /// Forwards the frames of a burst. Frames that it does not read keep waiting.
    fn burst(&mut self, burst: &mut Burst<'_>, sink: &mut dyn Sink);

    /// Forwards frames that did not come from ports. Called when the thread was woken by its [`Waker`], or when the time
    /// that [`rest`](Self::rest) returned has passed.
    fn woken(&mut self, sink: &mut dyn Sink) {
        let _ = sink;
    }

    /// How long the thread may sleep; none if it may sleep until a frame comes.
    fn rest(&self) -> Option<Duration> {
        None
    }
}

/// Frames that a port lost.
#[derive(Debug, Default)]
pub struct Counters {
    /// Received frames: the ring was full, they did not fit, or were of a kind that cannot be cut into packets.
    pub in_lost: AtomicU64,
    /// Frames to send that the device did not accept.
    pub out_lost: AtomicU64,
}

impl Counters {
    /// Received frames that were lost so far.
    pub fn in_lost(&self) -> u64 {
        self.in_lost.load(Ordering::Relaxed)
    }

    /// Frames to send that were lost so far.
    pub fn out_lost(&self) -> u64 {
        self.out_lost.load(Ordering::Relaxed)
    }

    fn add(counter: &AtomicU64, lost: u64) {
        if lost > 0 {
            counter.fetch_add(lost, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_counts_the_frames_that_it_found() {
        let (port, wire) = memory::pair().unwrap();
        let mut lane = port.open(1).unwrap().remove(0);
        let rx = lane.rx.as_mut().unwrap();
        for n in 0..3 {
            assert!(wire.send(&[n]));
        }
        let mut burst = Burst {
            port: 1,
            rx: rx.as_mut(),
            left: 2,
        };
        assert_eq!(burst.next_frame(), Some(&mut [0][..]));
        assert_eq!(burst.next_frame(), Some(&mut [1][..]));
        assert!(burst.next_frame().is_none(), "as many as a turn allows");
        burst.left = 5;
        assert_eq!(burst.next_frame(), Some(&mut [2][..]));
        assert!(burst.next_frame().is_none(), "none is left");
        assert_eq!(burst.left, 4);
    }
}
