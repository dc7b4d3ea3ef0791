//! The actors of devices, which start and stop as devices are added and removed.
//!
//! A [`Launcher`] decides how a device is reached, so that tests can start actors for devices in memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use vfabric_api::ident::PortId;

use crate::device::Device;
use crate::device::actor::{ActorHandle, DeviceEvent};
use crate::device::claim::Claim;
use crate::device::launch::{Hardware, Launch, Launcher, Running};
use crate::device::pace::Pace;
use crate::device::packets::{FrameIn, PacketPort};
use crate::device::ports::Ports;
use crate::device::settings::Settings;
use crate::ident::DeviceIndex;

/// Capacity of the queue of device events. While it is full, actors wait.
const EVENTS: usize = 1024;
/// Capacity of the queue of frames from pipelines: enough for a probe a second from each of some thousand links.
/// Further frames are lost; probes are sent again anyway.
const FRAMES: usize = 8192;

/// All actors.
pub struct Fleet {
    launcher: Box<dyn Launcher>,
    events: mpsc::Sender<DeviceEvent>,
    frames: mpsc::Sender<FrameIn>,
    /// The claim under which the actors write to devices.
    pub(super) claim: Arc<Claim>,
    pace: Arc<Pace>,
    stop: CancellationToken,
    running: Mutex<HashMap<DeviceIndex, (Hardware, Option<Running>)>>,
}

/// The receivers of what actors send.
pub struct Inbox {
    /// What devices report.
    pub events: mpsc::Receiver<DeviceEvent>,
    /// Frames from pipelines.
    pub frames: mpsc::Receiver<FrameIn>,
}

impl Fleet {
    /// A fleet without actors. All its actors end when `stop` is cancelled.
    pub fn new(launcher: impl Launcher, stop: CancellationToken) -> (Self, Inbox) {
        let (events, reports) = mpsc::channel(EVENTS);
        let (frames, arrived) = mpsc::channel(FRAMES);
        let fleet = Self {
            launcher: Box::new(launcher),
            events,
            frames,
            claim: Arc::default(),
            pace: Arc::default(),
            stop,
            running: Mutex::default(),
        };
        let inbox = Inbox {
            events: reports,
            frames: arrived,
        };
        (fleet, inbox)
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<DeviceIndex, (Hardware, Option<Running>)>> {
        // Every update under the lock is complete before anything in it can panic.
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes sure that the actor of a device runs for this hardware. If the hardware changed, the device is read back
    /// first, because nothing is known about what the new hardware holds.
    pub(super) fn ensure(&self, index: DeviceIndex, device: &Arc<Device>, hardware: Hardware) {
        let mut running = self.locked();
        match running.get_mut(&index) {
            Some((known, _)) if known.is_reached_like(&hardware) => {
                *known = hardware;
                return;
            }
            Some(_) => {
                self.end(running.remove(&index));
                self.claim.left(&device.name, device.sent());
                device.replaced();
                info!(device = %device.name, "replaced by another machine, or reached in another way");
            }
            None => {}
        }
        let packets = matches!(hardware, Hardware::Switch(..)).then(|| PacketPort::new(index, self.frames.clone()));
        let launch = Launch {
            index,
            device: Arc::clone(device),
            events: self.events.clone(),
            packets,
            ports: Ports::default(),
            claim: Arc::clone(&self.claim),
            pace: Arc::clone(&self.pace),
            stop: self.stop.child_token(),
        };
        let started = self.launcher.launch(&hardware, launch).map_err(|reason| {
            warn!(device = %device.name, reason, "no driver");
            device.disconnected(reason);
        });
        running.insert(index, (hardware, started.ok()));
    }

    /// Stops the actor of a device; does nothing if there is none.
    pub(super) fn stop(&self, index: DeviceIndex) {
        let ended = self.locked().remove(&index);
        self.end(ended);
    }

    fn end(&self, ended: Option<(Hardware, Option<Running>)>) {
        let Some((hardware, running)) = ended else { return };
        if let Some(running) = running {
            running.stop.cancel();
            if let Some(port) = running.packets {
                port.close();
            }
        }
        self.claim.forget(hardware.name());
        self.launcher.stopped(&hardware);
    }

    /// The handle of an actor.
    pub(super) fn actor(&self, index: DeviceIndex) -> Option<ActorHandle> {
        let running = self.locked();
        let (_, running) = running.get(&index)?;
        running.as_ref().map(|r| r.handle.clone())
    }

    /// Sets the port plan of a switch, and its settings.
    pub(super) fn set_ports(&self, index: DeviceIndex, plan: BTreeMap<PortId, u16>, settings: Settings) {
        if let Some((_, Some(running))) = self.locked().get(&index) {
            running.ports.set(plan);
            running.ports.set_settings(settings);
        }
    }

    /// The sender of frames to a switch.
    pub(super) fn packets(&self, index: DeviceIndex) -> Option<PacketPort> {
        let running = self.locked();
        let (_, running) = running.get(&index)?;
        running.as_ref().and_then(|r| r.packets.clone())
    }

    /// Ends every actor and waits until they have ended.
    pub async fn shut_down(&self) {
        self.stop.cancel();
        let all: Vec<_> = self.locked().drain().collect();
        for (_, (_, running)) in all {
            if let Some(running) = running {
                // A panic was already logged by the actor.
                let _ = running.task.await;
            }
        }
    }
}
