//! Ports in memory, for tests and for switches inside a program.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{Lane, Port, Receive, Transmit};

/// Frames that wait in each direction; more are lost, as in the ring of a device.
const QUEUE: usize = 4096;

/// The switch's side. It can be opened once.
pub struct MemoryPort(Mutex<Option<(Receiver<Vec<u8>>, SyncSender<Vec<u8>>)>>, Arc<EventFd>);

/// The other side of the wire.
pub struct Wire {
    frames: Receiver<Vec<u8>>,
    sender: SyncSender<Vec<u8>>,
    ready: Arc<EventFd>,
}

/// A port and the other end of its wire.
///
/// # Errors
/// The process has no descriptor left.
pub fn pair() -> io::Result<(MemoryPort, Wire)> {
    let (to_switch, from_wire) = sync_channel(QUEUE);
    let (to_wire, from_switch) = sync_channel(QUEUE);
    // As a semaphore, it is readable exactly while frames wait.
    let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_SEMAPHORE;
    let ready = Arc::new(EventFd::from_flags(flags)?);
    let port = MemoryPort(Mutex::new(Some((from_wire, to_wire))), Arc::clone(&ready));
    let wire = Wire {
        frames: from_switch,
        sender: to_switch,
        ready,
    };
    Ok((port, wire))
}

impl Wire {
    /// Sends a frame to the switch. False if it was lost: the queue is full, or the port closed.
    pub fn send(&self, frame: &[u8]) -> bool {
        let sent = self.sender.try_send(frame.to_vec()).is_ok();
        sent && self.ready.write(1).is_ok()
    }

    /// Sends a frame to the switch, waiting for room. False if the port is closed.
    pub fn send_waiting(&self, frame: &[u8]) -> bool {
        let sent = self.sender.send(frame.to_vec()).is_ok();
        sent && self.ready.write(1).is_ok()
    }

    /// Whether the switch's side is closed.
    pub fn is_closed(&self) -> bool {
        // The port holds the other end while it is open.
        Arc::strong_count(&self.ready) == 1
    }

    /// The next frame that the switch sent; none if there is none in this time, or the port is closed.
    pub fn receive(&self, timeout: Duration) -> Option<Vec<u8>> {
        self.frames.recv_timeout(timeout).ok()
    }
}

impl Port for MemoryPort {
    fn open(&self, lanes: usize) -> io::Result<Vec<Lane>> {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (frames, sender) = taken.ok_or_else(|| io::Error::other("a port in memory can be opened once"))?;
        let rx = MemoryReceive {
            frames,
            ready: Arc::clone(&self.1),
            frame: Vec::new(),
        };
        let mut rx = Some(Box::new(rx) as Box<dyn Receive>);
        let lane = || Lane {
            // One thread keeps all flows in order.
            rx: rx.take(),
            tx: Box::new(MemoryTransmit(sender.clone())),
        };
        Ok(std::iter::repeat_with(lane).take(lanes).collect())
    }
}

struct MemoryReceive {
    frames: Receiver<Vec<u8>>,
    ready: Arc<EventFd>,
    frame: Vec<u8>,
}

impl Receive for MemoryReceive {
    fn fd(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }

    fn next(&mut self) -> Option<&mut [u8]> {
        self.ready.read().ok()?;
        self.frame = self.frames.try_recv().ok()?;
        Some(&mut self.frame)
    }
}

struct MemoryTransmit(SyncSender<Vec<u8>>);

impl Transmit for MemoryTransmit {
    fn send(&mut self, frame: &[u8]) {
        let _ = self.0.try_send(frame.to_vec());
    }

    fn flush(&mut self) {}
}
