//! Objects of the inventory as the store keeps them: what the operator wrote, and what was allocated.

use serde::{Deserialize, Serialize};
use vfabric_api::inventory::{ItemKey, ItemState};
use vfabric_api::topology::{Fabric, Host, Link, Switch};

use crate::model::number::Uid;

/// A switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSwitch {
    /// Its identity.
    pub uid: Uid,
    /// Its handle; hosts share the sequence.
    pub handle: u32,
    /// Number of its VTEP; 0 for a spine.
    pub vtep_id: u16,
    /// Its state.
    #[serde(default)]
    pub state: ItemState,
    /// Whether an operator declared it dead.
    #[serde(default)]
    pub gone: bool,
    /// When its machine was replaced, in seconds since 1970; zero: never. Certificates from before are not accepted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub replaced_s: u64,
    /// As written.
    pub spec: Switch,
}

fn is_zero(seconds: &u64) -> bool {
    *seconds == 0
}

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredHost {
    /// Its identity.
    pub uid: Uid,
    /// Its handle; switches share the sequence.
    pub handle: u32,
    /// Number of its VTEP.
    pub vtep_id: u16,
    /// Its state.
    #[serde(default)]
    pub state: ItemState,
    /// Whether an operator declared it dead.
    #[serde(default)]
    pub gone: bool,
    /// As written.
    pub spec: Host,
}

/// A link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredLink {
    /// Its identity.
    pub uid: Uid,
    /// Its handle.
    pub handle: u32,
    /// As written.
    pub spec: Link,
}

/// An object of the inventory with everything that is not derived from others: a row of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StoredItem {
    /// Settings of the fabric as a whole.
    Fabric(Fabric),
    /// A switch.
    Switch(StoredSwitch),
    /// A host.
    Host(StoredHost),
    /// A link.
    Link(StoredLink),
}

impl StoredItem {
    /// Its name.
    pub fn key(&self) -> ItemKey {
        match self {
            Self::Fabric(_) => ItemKey::Fabric,
            Self::Switch(s) => ItemKey::Switch(s.spec.name.clone()),
            Self::Host(h) => ItemKey::Host(h.spec.name.clone()),
            Self::Link(l) => ItemKey::link(&l.spec),
        }
    }

    /// Its identity; that of the settings means nothing.
    pub fn uid(&self) -> Uid {
        match self {
            Self::Fabric(_) => Uid::default(),
            Self::Switch(s) => s.uid,
            Self::Host(h) => h.uid,
            Self::Link(l) => l.uid,
        }
    }

    /// Its state. Links and settings are in service as long as they exist.
    pub fn state(&self) -> ItemState {
        match self {
            Self::Switch(s) => s.state,
            Self::Host(h) => h.state,
            Self::Fabric(_) | Self::Link(_) => ItemState::InService,
        }
    }

    /// The same object in another state.
    pub(super) fn in_state(mut self, to: ItemState) -> Self {
        let (state, gone) = match &mut self {
            Self::Switch(s) => (&mut s.state, &mut s.gone),
            Self::Host(h) => (&mut h.state, &mut h.gone),
            Self::Fabric(_) | Self::Link(_) => return self,
        };
        if to == ItemState::Gone {
            *gone = true;
            // A leaving object stays in that state; nothing is asked of it any more.
            if *state == ItemState::Leaving {
                return self;
            }
        }
        *state = to;
        self
    }
}

/// Prefix of all rows of the inventory.
pub const PREFIX: &[u8] = b"inventory/";

/// Row of the next handles of devices and links.
pub const NEXT_KEY: &[u8] = b"inventory/next";

/// The store's key of an object. Kinds sort in the order in which they must be loaded.
pub fn item_key(key: &ItemKey) -> Vec<u8> {
    match key {
        ItemKey::Fabric => "inventory/0/fabric".to_owned(),
        ItemKey::Switch(name) => format!("inventory/1/{name}"),
        ItemKey::Host(name) => format!("inventory/2/{name}"),
        ItemKey::Link(a, b) => format!("inventory/3/{}:{}/{}:{}", a.switch, a.port, b.switch, b.port),
    }
    .into_bytes()
}
