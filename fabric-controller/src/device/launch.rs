//! How an actor is started over a driver.

use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use vfabric_api::ident::Name;
use vfabric_api::topology::{Host, Switch};

use super::Device;
use super::actor::{self, ActorHandle, DeviceEvent};
use super::claim::Claim;
use super::driver::{DeviceIndex, Driver};
use super::pace::Pace;
use super::packets::PacketPort;
use super::ports::Ports;

/// What a driver is made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hardware {
    /// A switch, and when its machine was replaced, in seconds since 1970 (zero: never).
    Switch(Switch, u64),
    /// A host.
    Host(Host),
}

impl Hardware {
    /// Its name.
    pub fn name(&self) -> &Name {
        match self {
            Self::Switch(s, _) => &s.name,
            Self::Host(h) => &h.name,
        }
    }

    /// Whether a session with one of them reaches the same device as a session with the other.
    pub(crate) fn is_reached_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Switch(a, a_since), Self::Switch(b, b_since)) => {
                let reached = |s: &Switch| (s.name.clone(), s.role, s.p4runtime, s.device_id);
                (reached(a), a_since) == (reached(b), b_since)
            }
            // Hosts dial in by their names. Another network card may be in another machine.
            (Self::Host(a), Self::Host(b)) => (&a.name, a.mac) == (&b.name, b.mac),
            _ => false,
        }
    }
}

/// Makes drivers, because it knows how each device is reached.
pub trait Launcher: Send + Sync + 'static {
    /// Makes a driver and runs it with [`Launch::run`].
    ///
    /// # Errors
    /// Why there can be no driver, in words.
    fn launch(&self, hardware: &Hardware, launch: Launch) -> Result<Running, String>;

    /// The actor of this device has been stopped.
    fn stopped(&self, hardware: &Hardware) {
        let _ = hardware;
    }
}

/// An actor that is to be started.
pub struct Launch {
    pub(crate) index: DeviceIndex,
    pub(crate) device: Arc<Device>,
    pub(crate) events: mpsc::Sender<DeviceEvent>,
    pub(crate) packets: Option<PacketPort>,
    pub(crate) ports: Ports,
    pub(crate) claim: Arc<Claim>,
    pub(crate) pace: Arc<Pace>,
    pub(crate) stop: CancellationToken,
}

impl Launch {
    /// Starts the actor over a driver.
    pub fn run<D: Driver>(self, mut driver: D) -> Running {
        if let Some(port) = &self.packets {
            driver.carry_packets(port.clone());
            driver.keep_ports(self.ports.clone());
        }
        let stop = self.stop.clone();
        let shared = (self.claim, self.pace);
        let (handle, task) = actor::spawn(self.index, self.device, driver, self.events, shared, self.stop);
        Running {
            handle,
            task,
            stop,
            packets: self.packets,
            ports: self.ports,
        }
    }
}

/// An actor at work.
pub struct Running {
    pub(crate) handle: ActorHandle,
    pub(crate) task: JoinHandle<()>,
    pub(crate) stop: CancellationToken,
    pub(crate) packets: Option<PacketPort>,
    pub(crate) ports: Ports,
}
