//! Frames between the controller and a switch's pipeline, beside the actor.
//!
//! The actor does one thing after another; a probe of a link must not wait behind a read-back
//! or ten thousand writes. So frames go another way: a driver opens its [`PacketPort`] with each
//! session and carries frames both ways until the session ends.
//!
//! Both directions are bounded and lossy, as a wire is: what is sent again every second anyway
//! needs no patience.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;
use vfabric_api::ident::PortId;

use super::driver::DeviceIndex;

/// Frames that wait to be sent by one switch: one for each of its ports (at most 509), twice.
const OUTGOING: usize = 1024;

/// A frame to be sent by a port.
pub type FrameOut = (PortId, Bytes);

/// A frame that a pipeline handed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameIn {
    /// The switch.
    pub device: DeviceIndex,
    /// The port that it came in by.
    pub port: PortId,
    /// The frame itself, without a packet-in header.
    pub frame: Bytes,
}

/// The way of frames to and from one switch; clones are the same way.
#[derive(Debug, Clone)]
pub struct PacketPort {
    device: DeviceIndex,
    session: Arc<Mutex<Option<mpsc::Sender<FrameOut>>>>,
    received: mpsc::Sender<FrameIn>,
}

impl PacketPort {
    /// Of a switch, with no session yet; what it hands over goes to `received`.
    pub fn new(device: DeviceIndex, received: mpsc::Sender<FrameIn>) -> Self {
        Self {
            device,
            session: Arc::default(),
            received,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<mpsc::Sender<FrameOut>>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a frame; false if there is no session, or it does not keep up.
    pub fn send(&self, port: PortId, frame: Bytes) -> bool {
        self.lock()
            .as_ref()
            .is_some_and(|session| session.try_send((port, frame)).is_ok())
    }

    /// For the driver: a session began. What is to be sent comes out here, until the port is
    /// closed or opened again.
    pub fn open(&self) -> mpsc::Receiver<FrameOut> {
        let (sender, frames) = mpsc::channel(OUTGOING);
        *self.lock() = Some(sender);
        frames
    }

    /// For the driver: the session ended.
    pub fn close(&self) {
        *self.lock() = None;
    }

    /// For the driver: the pipeline handed over a frame. Lost if nobody keeps up with them.
    pub fn received(&self, port: PortId, frame: Bytes) {
        let device = self.device;
        let _ = self.received.try_send(FrameIn { device, port, frame });
    }
}
