//! The ports of the switch on network devices: opens them, follows their devices, adds and removes them.
//!
//! When a device goes away its sockets die, even if a new device gets its name. So a port is opened again
//! whenever there is a different device behind its name. While there is none, frames sent through the port are counted
//! as lost.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use rustc_hash::FxHashMap;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tonic::Status;

use crate::device::Dataplane;
use crate::gnmi::ethernet::Settings;
use crate::gnmi::netdev::NetdevInterfaces;
use crate::gnmi::tree::{Interface, Interfaces, PipelineState};
use crate::port::closed::Closed;
use crate::port::{Counters, Port, Ports};

/// Ports that are opened in parallel at the start, because the kernel takes some milliseconds for each;
/// more threads than this cost more than they save.
const OPENED_AT_ONCE: usize = 16;

/// Makes the port of an interface, which counts its losses.
pub type Make = dyn Fn(&Interface, Arc<Counters>) -> io::Result<Box<dyn Port>> + Send + Sync;

/// A port.
struct Member {
    /// Index of the device on which it is open; 0 if it is closed.
    ifindex: u32,
    counters: Arc<Counters>,
}

/// The device of each open port.
pub struct Links {
    /// Weak, because the owner of the threads ends them.
    ports: Weak<Ports>,
    plane: Arc<Dataplane>,
    make: Box<Make>,
    /// By port number. Held while a port is opened, so that nobody opens it twice.
    members: Mutex<FxHashMap<u32, Member>>,
}

impl Links {
    /// Opens all ports whose device exists, with `make`.
    ///
    /// # Errors
    /// A device does not exist or cannot be opened; the error names it. If this kernel can open only devices that are up, one that
    /// is down is opened later.
    pub fn start(
        ports: &Arc<Ports>,
        plane: Arc<Dataplane>,
        interfaces: &dyn Interfaces,
        make: Box<Make>,
    ) -> io::Result<Self> {
        let mut members = FxHashMap::default();
        for interfaces in interfaces.list().chunks(OPENED_AT_ONCE) {
            let mut opening = Vec::with_capacity(interfaces.len());
            for interface in interfaces {
                if interface.ifindex == 0 {
                    let text = format!("interface {}: no such device", interface.name);
                    return Err(io::Error::new(io::ErrorKind::NotFound, text));
                }
                plane.set_port(interface.id, interface.is_up);
                let counters = Arc::<Counters>::default();
                let port = make(interface, Arc::clone(&counters))?;
                opening.push((interface, counters, port));
            }
            let opened = std::thread::scope(|scope| {
                let threads: Vec<_> = opening
                    .into_iter()
                    .map(|(interface, counters, port)| {
                        (
                            interface,
                            counters,
                            scope.spawn(move || ports.attach(interface.id, &*port)),
                        )
                    })
                    .collect();
                let joined = threads.into_iter().map(|(interface, counters, thread)| {
                    let panicked = |_| Err(io::Error::other("opening a port panicked"));
                    (interface, counters, thread.join().unwrap_or_else(panicked))
                });
                joined.collect::<Vec<_>>()
            });
            for (interface, counters, attached) in opened {
                let ifindex = match attached {
                    Ok(()) => interface.ifindex,
                    Err(error) if interface.enabled => return Err(error),
                    Err(_) => 0,
                };
                members.insert(interface.id, Member { ifindex, counters });
            }
        }
        Ok(Self {
            ports: Arc::downgrade(ports),
            plane,
            make,
            members: Mutex::new(members),
        })
    }

    fn ports(&self) -> io::Result<Arc<Ports>> {
        let ended = || io::Error::other("the forwarding threads have ended");
        self.ports.upgrade().ok_or_else(ended)
    }

    fn members(&self) -> MutexGuard<'_, FxHashMap<u32, Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows the devices for ever.
    pub async fn follow(self: Arc<Self>, interfaces: Arc<dyn Interfaces>) {
        let mut changes = interfaces.changes();
        loop {
            for interface in interfaces.list() {
                let mut members = self.members();
                // It may have been removed meanwhile.
                let Some(member) = members.get_mut(&interface.id) else {
                    continue;
                };
                if let Err(error) = self.sync(member, &interface) {
                    // It is tried again at the next change, for example when the device comes up.
                    tracing::warn!("port {} stays closed: {error}", interface.id);
                }
            }
            // Missed messages do not matter, because the list has everything.
            if matches!(changes.recv().await, Err(RecvError::Closed)) {
                return;
            }
        }
    }

    fn sync(&self, member: &mut Member, interface: &Interface) -> io::Result<()> {
        self.plane.set_port(interface.id, interface.is_up);
        if member.ifindex == interface.ifindex {
            return Ok(());
        }
        let ports = self.ports()?;
        if member.ifindex != 0 {
            member.ifindex = 0;
            ports.attach(interface.id, &Closed(Arc::clone(&member.counters)))?;
            tracing::info!("port {}: device {} is gone", interface.id, interface.name);
        }
        if interface.ifindex != 0 {
            let port = (self.make)(interface, Arc::clone(&member.counters))?;
            ports.attach(interface.id, &*port)?;
            member.ifindex = interface.ifindex;
            tracing::info!("port {}: device {} is open", interface.id, interface.name);
        }
        Ok(())
    }

    /// Opens a new port.
    fn add(&self, interface: &Interface) -> io::Result<()> {
        let mut members = self.members();
        let mut member = Member {
            ifindex: 0,
            counters: Arc::default(),
        };
        match self.sync(&mut member, interface) {
            Err(error) if interface.enabled => {
                self.plane.forget_port(interface.id);
                return Err(error);
            }
            _ => {}
        }
        members.insert(interface.id, member);
        self.plane.names.insert(interface.id, &interface.name);
        Ok(())
    }

    /// Closes a port for good.
    fn remove(&self, interface: &Interface) {
        self.members().remove(&interface.id);
        self.plane.names.remove(interface.id);
        self.plane.forget_port(interface.id);
        if let Err(error) = self.ports().and_then(|ports| ports.detach(interface.id)) {
            tracing::error!("port {}: {error}", interface.id);
        }
    }

    /// Adds the port's losses to the counts of its device.
    fn complete(&self, interface: &mut Interface) {
        if let Some(member) = self.members().get(&interface.id) {
            interface.counters.in_discards += member.counters.in_lost();
            let lost = self.plane.queues.lost(interface.id);
            interface.counters.out_discards += member.counters.out_lost().saturating_add(lost);
        }
    }
}

/// The switch's ports as gNMI sees and changes them.
pub struct SwitchPorts {
    devices: Arc<NetdevInterfaces>,
    links: Arc<Links>,
    node_id: u64,
}

impl SwitchPorts {
    /// The ports of the switch with this P4Runtime device id.
    pub fn new(devices: Arc<NetdevInterfaces>, links: Arc<Links>, node_id: u64) -> Self {
        Self {
            devices,
            links,
            node_id,
        }
    }
}

impl Interfaces for SwitchPorts {
    fn list(&self) -> Vec<Interface> {
        let mut all = self.devices.list();
        all.iter_mut().for_each(|interface| self.links.complete(interface));
        all
    }

    fn get(&self, name: &str) -> Option<Interface> {
        let mut interface = self.devices.get(name)?;
        self.links.complete(&mut interface);
        Some(interface)
    }

    fn set_enabled(&self, name: &str, enabled: bool) -> Result<(), Status> {
        self.devices.set_enabled(name, enabled)
    }

    fn set_mtu(&self, name: &str, mtu: u16) -> Result<(), Status> {
        self.devices.set_mtu(name, mtu)
    }

    fn set_description(&self, name: &str, description: &str) -> Result<(), Status> {
        self.devices.set_description(name, description)
    }

    fn set_ethernet(&self, name: &str, settings: Settings) -> Result<(), Status> {
        self.devices.set_ethernet(name, settings)
    }

    fn check_new(&self, name: &str, id: u32) -> Result<(), Status> {
        let plane = &self.links.plane;
        if let Some(what) = plane.reserved(id) {
            return Err(Status::invalid_argument(format!("port {id} is the {what}")));
        }
        // The caller has compared gNMI's ports; only capture files are left.
        match plane.names.name_of(id) {
            Some(other) if self.devices.get(&other).is_none() => {
                Err(Status::already_exists(format!("port {id} is in use by {other}")))
            }
            _ => self.devices.check_new(name, id),
        }
    }

    fn add(&self, name: &str, id: u32) -> Result<Interface, Status> {
        let interface = self.devices.find(name, id)?;
        self.links
            .add(&interface)
            .map_err(|error| Status::failed_precondition(format!("port {id}: {error}")))?;
        self.devices.insert(interface.clone());
        tracing::info!("port {id} is added on {name}");
        Ok(interface)
    }

    fn remove(&self, name: &str) -> Result<(), Status> {
        let interface = self.devices.get(name);
        let interface = interface.ok_or_else(|| Status::not_found(format!("interface {name:?} does not exist")))?;
        self.devices.remove(name)?;
        self.links.remove(&interface);
        tracing::info!("port {} on {name} is removed", interface.id);
        Ok(())
    }

    fn hostname(&self) -> String {
        self.devices.hostname()
    }

    fn set_hostname(&self, hostname: &str) -> Result<(), Status> {
        self.devices.set_hostname(hostname)
    }

    fn pipeline(&self) -> PipelineState {
        self.links.plane.pipeline_state(self.node_id)
    }

    fn changes(&self) -> broadcast::Receiver<Option<Arc<str>>> {
        self.devices.changes()
    }
}
