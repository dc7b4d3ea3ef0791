//! What devices hold: one type for switches and hosts, so that the engine and the actors need not
//! know the kind of a device.

pub mod counter;

use std::cmp::Ordering;
use std::fmt;

pub use p4runtime_client::entity::{Entity as SwitchEntity, EntityKey as SwitchKey};
use vtep_proto::{HostEntity, HostKey};

/// Names an entity on its device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntityKey {
    /// On a switch.
    Switch(SwitchKey),
    /// On a host.
    Host(HostKey),
}

/// One P4Runtime entity or one object of a host, in canonical form: Two are equal exactly if the device would behave
/// the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entity {
    /// An entity of a switch.
    Switch(SwitchEntity),
    /// An object of a host.
    Host(HostEntity),
}

impl Entity {
    /// Its key.
    pub fn key(&self) -> EntityKey {
        match self {
            Self::Switch(e) => EntityKey::Switch(e.key().clone()),
            Self::Host(e) => EntityKey::Host(e.key()),
        }
    }

    /// Whether it has this key; compares without copying its own key.
    pub fn is_named(&self, key: &EntityKey) -> bool {
        match (self, key) {
            (Self::Switch(e), EntityKey::Switch(key)) => e.key() == key,
            (Self::Host(e), EntityKey::Host(key)) => e.is_named(key),
            _ => false,
        }
    }

    /// The order of the keys, without copying them where possible.
    pub fn cmp_key(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Switch(a), Self::Switch(b)) => a.key().cmp(b.key()),
            (a, b) => a.key().cmp(&b.key()),
        }
    }
}

impl EntityKey {
    /// Place in the order of creation that follows from the kind alone, from 0; removal goes
    /// the other way. (`Driver::rank` refines it.)
    pub fn rank(&self) -> u16 {
        match self {
            Self::Switch(k) => k.rank() as u16,
            Self::Host(k) => k.rank().into(),
        }
    }
}

impl fmt::Display for Entity {
    /// Its kind and key, with the pipeline's names if there are any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(e) => match fabric_pipeline::tables::describe(e) {
                Some(d) => write!(f, "{} [{}]", d.table, d.key),
                None => write!(f, "{:?}", e.key()),
            },
            Self::Host(e) => e.key().fmt(f),
        }
    }
}

impl fmt::Display for EntityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch(k) => write!(f, "{k:?}"),
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
