//! All devices of the fabric; they come and go while the controller runs.
//!
//! **Cost.** A look-up takes a lock for reading; it is held for writing only while a device comes or goes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use vfabric_api::ident::Name;

use super::driver::DeviceIndex;
use super::shared::Device;

#[derive(Debug, Default)]
struct Inner {
    devices: BTreeMap<DeviceIndex, Arc<Device>>,
    by_name: HashMap<Name, DeviceIndex>,
}

/// Devices by handle and by name.
#[derive(Debug, Default)]
pub struct Registry(RwLock<Inner>);

impl Registry {
    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        // Every update under the lock is complete before anything in it can panic.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a device.
    pub fn insert(&self, index: DeviceIndex, device: Arc<Device>) {
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        inner.by_name.insert(device.name.clone(), index);
        inner.devices.insert(index, device);
    }

    /// Removes a device.
    pub fn remove(&self, index: DeviceIndex) {
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = inner.devices.remove(&index)
            && inner.by_name.get(&device.name) == Some(&index)
        {
            inner.by_name.remove(&device.name);
        }
    }

    /// The device of a handle.
    pub fn get(&self, index: DeviceIndex) -> Option<Arc<Device>> {
        self.read().devices.get(&index).cloned()
    }

    /// The handle of the device with a name.
    pub fn find(&self, name: &Name) -> Option<DeviceIndex> {
        self.read().by_name.get(name).copied()
    }

    /// Every device, in the order in which they were added to the inventory.
    pub fn all(&self) -> Vec<(DeviceIndex, Arc<Device>)> {
        self.read().devices.iter().map(|(i, d)| (*i, Arc::clone(d))).collect()
    }
}
