//! Interfaces that only exist in memory: the fake behind tests, and the ports of a switch without netdevs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;
use tonic::Status;

use super::ethernet::Settings;
use super::tree::{Interface, Interfaces, PipelineState};

/// Most changes that are kept for a slow subscriber; beyond these, it has to read everything again.
const CHANGES: usize = 256;

/// Named ports and a host name.
pub struct MemoryInterfaces {
    ports: Mutex<BTreeMap<String, Interface>>,
    /// Devices that are not ports yet.
    spare: Mutex<BTreeMap<String, Interface>>,
    hostname: Mutex<String>,
    changes: broadcast::Sender<Option<Arc<str>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryInterfaces {
    /// These ports.
    pub fn new(hostname: &str, ports: impl IntoIterator<Item = Interface>) -> Self {
        let ports = ports.into_iter().map(|port| (port.name.clone(), port)).collect();
        Self {
            ports: Mutex::new(ports),
            spare: Mutex::default(),
            hostname: Mutex::new(hostname.to_owned()),
            changes: broadcast::channel(CHANGES).0,
        }
    }

    /// Has devices that may become ports.
    #[must_use]
    pub fn with_spare(self, devices: impl IntoIterator<Item = Interface>) -> Self {
        let devices = devices.into_iter().map(|device| (device.name.clone(), device));
        lock(&self.spare).extend(devices);
        self
    }

    /// Changes a port; returns `false` if there is none of this name. Followers are notified unless only counters
    /// changed.
    pub fn update(&self, name: &str, change: impl FnOnce(&mut Interface)) -> bool {
        let mut ports = lock(&self.ports);
        let Some(port) = ports.get_mut(name) else { return false };
        let before = port.clone();
        change(port);
        let is_news = *port
            != Interface {
                counters: port.counters,
                ..before
            };
        drop(ports);
        if is_news {
            // Without subscribers, nobody is notified.
            let _ = self.changes.send(Some(name.into()));
        }
        true
    }

    /// Adds a port, or replaces the one of its name.
    pub fn insert(&self, port: Interface) {
        let name: Arc<str> = port.name.as_str().into();
        lock(&self.ports).insert(port.name.clone(), port);
        let _ = self.changes.send(Some(name));
    }

    /// Removes a port.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn take(&self, name: &str) -> Result<Interface, Status> {
        let port = lock(&self.ports).remove(name).ok_or_else(|| unknown(name))?;
        let _ = self.changes.send(Some(name.into()));
        Ok(port)
    }
}

fn unknown(name: &str) -> Status {
    Status::not_found(format!("interface {name:?} does not exist"))
}

impl Interfaces for MemoryInterfaces {
    fn list(&self) -> Vec<Interface> {
        lock(&self.ports).values().cloned().collect()
    }

    fn get(&self, name: &str) -> Option<Interface> {
        lock(&self.ports).get(name).cloned()
    }

    fn set_enabled(&self, name: &str, enabled: bool) -> Result<(), Status> {
        let found = self.update(name, |port| {
            port.enabled = enabled;
            port.shut = !enabled;
            port.is_up = enabled;
        });
        if found { Ok(()) } else { Err(unknown(name)) }
    }

    fn set_mtu(&self, name: &str, mtu: u16) -> Result<(), Status> {
        let found = self.update(name, |port| port.mtu = mtu);
        if found { Ok(()) } else { Err(unknown(name)) }
    }

    fn set_description(&self, name: &str, description: &str) -> Result<(), Status> {
        let found = self.update(name, |port| description.clone_into(&mut port.description));
        if found { Ok(()) } else { Err(unknown(name)) }
    }

    fn set_ethernet(&self, name: &str, settings: Settings) -> Result<(), Status> {
        let found = self.update(name, |port| {
            let new = settings.beside(port.ethernet.config);
            port.speed_bps = new.speed_bps.or(port.speed_bps);
            port.ethernet.auto_negotiate = new.auto_negotiate.or(port.ethernet.auto_negotiate);
            port.ethernet.fec = new.fec.or(port.ethernet.fec);
            port.ethernet.config = settings;
        });
        if found { Ok(()) } else { Err(unknown(name)) }
    }

    fn check_new(&self, name: &str, _: u32) -> Result<(), Status> {
        let exists = lock(&self.spare).contains_key(name) || lock(&self.ports).contains_key(name);
        let missing = || Status::not_found(format!("there is no network device {name:?}"));
        exists.then_some(()).ok_or_else(missing)
    }

    fn add(&self, name: &str, id: u32) -> Result<Interface, Status> {
        self.check_new(name, id)?;
        let device = lock(&self.spare).remove(name);
        let port = device.map(|device| Interface { id, ..device });
        let port = port.ok_or_else(|| Status::already_exists(format!("interface {name:?} exists")))?;
        self.insert(port.clone());
        Ok(port)
    }

    fn remove(&self, name: &str) -> Result<(), Status> {
        let port = self.take(name)?;
        lock(&self.spare).insert(name.to_owned(), port);
        Ok(())
    }

    fn pipeline(&self) -> PipelineState {
        PipelineState::default()
    }

    fn hostname(&self) -> String {
        lock(&self.hostname).clone()
    }

    fn set_hostname(&self, hostname: &str) -> Result<(), Status> {
        hostname.clone_into(&mut lock(&self.hostname));
        let _ = self.changes.send(None);
        Ok(())
    }

    fn changes(&self) -> broadcast::Receiver<Option<Arc<str>>> {
        self.changes.subscribe()
    }
}
