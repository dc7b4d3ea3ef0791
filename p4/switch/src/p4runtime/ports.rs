//! Names and numbers of the switch's ports, which come and go.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

/// The ports. A switch has some hundred at most, so names are searched linearly.
#[derive(Debug, Default)]
pub struct PortNames(RwLock<BTreeMap<u32, Arc<str>>>);

impl PortNames {
    /// These ports.
    pub fn new(ports: impl IntoIterator<Item = (String, u32)>) -> Self {
        let ports = ports.into_iter().map(|(name, number)| (number, name.into()));
        Self(RwLock::new(ports.collect()))
    }

    fn read<T>(&self, look: impl FnOnce(&BTreeMap<u32, Arc<str>>) -> T) -> T {
        look(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether there is a port of this number.
    pub fn has(&self, number: u32) -> bool {
        self.read(|ports| ports.contains_key(&number))
    }

    /// The name of a port.
    pub fn name_of(&self, number: u32) -> Option<Arc<str>> {
        self.read(|ports| ports.get(&number).cloned())
    }

    /// The number of a port.
    pub fn number_of(&self, name: &str) -> Option<u32> {
        self.read(|ports| ports.iter().find(|(_, n)| &***n == name).map(|(number, _)| *number))
    }

    /// Adds a port, or renames the one of its number.
    pub fn insert(&self, number: u32, name: &str) {
        let mut ports = self.0.write().unwrap_or_else(PoisonError::into_inner);
        ports.insert(number, name.into());
    }

    /// Removes a port.
    pub fn remove(&self, number: u32) {
        let mut ports = self.0.write().unwrap_or_else(PoisonError::into_inner);
        ports.remove(&number);
    }
}
