//! What devices hold, switch or host: one type, so that the engine and the actors need not
//! know which kind of device they work for.

use std::fmt;

use vtep_proto::{HostEntity, HostKey};

/// Names an entity on its device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntityKey {
    /// On a switch.
    Switch(SwitchKey),
    /// On a host.
    Host(HostKey),
}

/// One P4Runtime entity or one object of a host, in canonical form: equal exactly if the
/// device would behave the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entity {
    /// Of a switch.
    Switch(SwitchEntity),
    /// Of a host.
    Host(HostEntity),
}

impl Entity {
    /// What names it.
    pub fn key(&self) -> EntityKey {
        match self {
            Self::Switch(e) => EntityKey::Switch(e.key()),
            Self::Host(e) => EntityKey::Host(e.key()),
        }
    }
}

impl EntityKey {
    /// Place in the order of creation, from 0; removal goes the other way. What has a rank
    /// refers only to what has a smaller one.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Switch(k) => k.rank(),
            Self::Host(k) => k.rank(),
        }
    }
}

impl fmt::Display for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(k) => k.fmt(f),
            Self::Host(k) => k.fmt(f),
        }
    }
}

impl From<HostEntity> for Entity {
    fn from(e: HostEntity) -> Self {
        Self::Host(e)
    }
}

impl From<SwitchEntity> for Entity {
    fn from(e: SwitchEntity) -> Self {
        Self::Switch(e)
    }
}

/// Stand-in for `p4runtime_client::entity::EntityKey` until that crate has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SwitchKey(u8, Vec<u8>);

/// Stand-in for `p4runtime_client::entity::Entity` until that crate has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SwitchEntity {
    rank: u8,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl SwitchKey {
    fn rank(&self) -> u8 {
        self.0
    }
}

impl fmt::Display for SwitchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.1))
    }
}

impl SwitchEntity {
    /// An entity of that rank, key and content.
    pub fn new(rank: u8, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { rank, key: key.into(), value: value.into() }
    }

    fn key(&self) -> SwitchKey {
        SwitchKey(self.rank, self.key.clone())
    }
}
