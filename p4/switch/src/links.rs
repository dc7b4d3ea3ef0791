//! Keeps the open ports in step with the network devices behind them.
//!
//! A device that goes away takes its sockets with it, even if another of its name comes; so a port is opened again
//! whenever the device behind its name is another than before.

use std::io;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use tokio::sync::broadcast::error::RecvError;

use crate::device::Dataplane;
use crate::gnmi::tree::{Interface, Interfaces};
use crate::port::{Port, Ports};

/// Which device each port is open on.
pub struct Links {
    ports: Arc<Ports>,
    plane: Arc<Dataplane>,
    make: Box<dyn Fn(&Interface) -> Box<dyn Port> + Send + Sync>,
    /// Interface index by port number.
    open: FxHashMap<u32, u32>,
}

impl Links {
    /// Opens all ports whose device exists; `make` says how.
    ///
    /// # Errors
    /// A device does not exist or cannot be opened; the error names it. One that is down may be opened later, where
    /// this kernel wants it up.
    pub fn start(
        ports: Arc<Ports>,
        plane: Arc<Dataplane>,
        interfaces: &dyn Interfaces,
        make: impl Fn(&Interface) -> Box<dyn Port> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let mut this = Self {
            ports,
            plane,
            make: Box::new(make),
            open: FxHashMap::default(),
        };
        for interface in interfaces.list() {
            if interface.ifindex == 0 {
                let text = format!("interface {}: no such device", interface.name);
                return Err(io::Error::new(io::ErrorKind::NotFound, text));
            }
            if let Err(error) = this.sync(&interface)
                && interface.enabled
            {
                return Err(error);
            }
        }
        Ok(this)
    }

    /// Follows the devices for ever.
    pub async fn follow(mut self, interfaces: Arc<dyn Interfaces>) {
        let mut changes = interfaces.changes();
        loop {
            for interface in interfaces.list() {
                if let Err(error) = self.sync(&interface) {
                    // Tried again with the next change: that the device comes up is one.
                    tracing::warn!("port {} stays closed: {error}", interface.id);
                }
            }
            // Lagging behind is no loss: the list says all.
            if matches!(changes.recv().await, Err(RecvError::Closed)) {
                return;
            }
        }
    }

    fn sync(&mut self, interface: &Interface) -> io::Result<()> {
        self.plane.set_port(interface.id, interface.is_up);
        let open = self.open.get(&interface.id).copied().unwrap_or(0);
        if open == interface.ifindex {
            return Ok(());
        }
        if open != 0 {
            self.open.remove(&interface.id);
            self.ports.detach(interface.id)?;
            tracing::info!("port {}: device {} is gone", interface.id, interface.name);
        }
        if interface.ifindex != 0 {
            self.ports.attach(interface.id, &*(self.make)(interface))?;
            self.open.insert(interface.id, interface.ifindex);
            tracing::info!("port {}: device {} is open", interface.id, interface.name);
        }
        Ok(())
    }
}
