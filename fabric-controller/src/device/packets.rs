//! Frames between the controller and a switch's pipeline, beside the actor.
//!
//! The actor does one thing after another, but a probe of a link must not wait for a read-back or ten thousand writes.
//! So frames bypass the actor: a driver opens its [`PacketPort`] with each session and carries frames in both
//! directions until the session ends.
//!
//! Both directions are bounded and lossy, like a wire: probes are sent again every second anyway.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;
use vfabric_api::ident::PortId;

use super::driver::DeviceIndex;

/// Frames that may wait to be sent by one switch: two for each of its ports (at most 509).
const OUTGOING: usize = 1024;

/// A frame to be sent by a port.
pub type FrameOut = (PortId, Bytes);

/// A frame that a pipeline sent to the controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameIn {
    /// The switch.
    pub device: DeviceIndex,
    /// The port that it came in by.
    pub port: PortId,
    /// The frame itself, without a packet-in header.
    pub frame: Bytes,
}

/// The queues of frames to and from one switch; clones share them.
#[derive(Debug, Clone)]
pub struct PacketPort {
    device: DeviceIndex,
    session: Arc<Mutex<Option<mpsc::Sender<FrameOut>>>>,
    received: mpsc::Sender<FrameIn>,
}

impl PacketPort {
    /// For a switch without a session yet. Frames that it hands over go to `received`.
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

    /// For the driver: a session began. Returns the queue of frames to send, which ends when the port is closed or
    /// opened again.
    pub fn open(&self) -> mpsc::Receiver<FrameOut> {
        let (sender, frames) = mpsc::channel(OUTGOING);
        *self.lock() = Some(sender);
        frames
    }

    /// For the driver: the session ended.
    pub fn close(&self) {
        *self.lock() = None;
    }

    /// For the driver: the pipeline sent a frame. It is lost if the receiver does not keep up.
    pub fn received(&self, port: PortId, frame: Bytes) {
        let device = self.device;
        let _ = self.received.try_send(FrameIn { device, port, frame });
    }
}
