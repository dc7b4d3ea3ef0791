//! How a switch should be set apart from its tables and from what the fabric needs of its ports ([`super::ports`]): its host name, and what
//! the inventory asks for on the wire.

use std::collections::BTreeMap;
use std::sync::Arc;

use vfabric_api::ethernet::{Breakout, Fec, PortSettings, Speed};
use vfabric_api::ident::PortId;
use vfabric_api::topology::Switch;

/// The settings of one switch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Its name in the inventory; none sets no name.
    pub hostname: Option<String>,
    /// What the inventory asks for, by port.
    pub ports: BTreeMap<PortId, PortSettings>,
    /// Front-panel ports that are split.
    pub breakouts: Vec<Breakout>,
}

/// As it is passed on.
pub type SettingsPlan = Arc<Settings>;

impl Settings {
    /// Of a switch of the inventory.
    pub fn of(switch: &Switch) -> Self {
        Self {
            hostname: Some(switch.name.to_string()),
            ports: switch.ports.iter().map(|port| (port.port, port.clone())).collect(),
            breakouts: switch.breakouts.clone(),
        }
    }
}

/// What a port uses, as the switch reports it; none: it does not say, or has no link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnWire {
    /// Its speed.
    Speed(Option<Speed>),
    /// Its forward error correction.
    Fec(Option<Fec>),
}
