//! What the fabric needs from a switch's ports, besides its tables.
//!
//! **Model.** Every port that the inventory names must be enabled and have a minimum MTU: that of the underlay's
//! packets between switches and towards hosts, that of tenants' packets on access ports. Ports that it does not name
//! are left alone, and so are larger MTUs.
//!
//! The plan is in a watch channel: the controller replaces it when the inventory changes, and the driver applies it to
//! the switch (`driver/ports.rs`).

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use vfabric_api::ident::PortId;

use super::settings::{Settings, SettingsPlan};

/// Least MTU of each port that the fabric uses, in octets of the Ethernet payload.
pub type PortPlan = Arc<BTreeMap<PortId, u16>>;

/// The plan of one switch, and its settings; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Ports(Arc<watch::Sender<PortPlan>>, Arc<watch::Sender<SettingsPlan>>);

impl Ports {
    /// Replaces the plan. Followers wake only if it differs.
    pub fn set(&self, plan: BTreeMap<PortId, u16>) {
        self.0.send_if_modified(|now| {
            let differs = **now != plan;
            if differs {
                *now = Arc::new(plan);
            }
            differs
        });
    }

    /// Replaces the settings. Followers wake only if they differ.
    pub fn set_settings(&self, settings: Settings) {
        self.1.send_if_modified(|now| {
            let differs = **now != settings;
            if differs {
                *now = Arc::new(settings);
            }
            differs
        });
    }

    /// Follows the settings.
    pub fn follow_settings(&self) -> watch::Receiver<SettingsPlan> {
        self.1.subscribe()
    }

    /// Follows the plan.
    pub fn follow(&self) -> watch::Receiver<PortPlan> {
        self.0.subscribe()
    }
}
