//! Real devices: switches over P4Runtime, hosts over the agents' stream.

use std::sync::Arc;

use fabric_identity::{Credentials, Dialer, Subject};
use p4runtime_client::pipeline::Pipeline;
use vfabric_api::topology::{Role, Switch};

use super::p4runtime::{P4RuntimeDriver, SwitchConfig};
use super::vtep::VtepServer;
use crate::device::launch::{Hardware, Launch, Launcher, Running};

/// Makes the drivers of a fabric's devices.
pub struct Devices {
    /// The controller's own certificate, and the authorities that it trusts.
    pub credentials: Arc<Credentials>,
    /// Speak plaintext to the switches.
    pub insecure_p4runtime: bool,
    /// The pipeline of leaves.
    pub leaf: Arc<Pipeline>,
    /// The pipeline of spines.
    pub spine: Arc<Pipeline>,
    /// The server for agents.
    pub hosts: VtepServer,
}

impl Devices {
    fn switch(&self, switch: &Switch) -> Result<P4RuntimeDriver, String> {
        let subject = Subject::Switch(switch.name.to_string());
        let dialer = Dialer::new(Arc::clone(&self.credentials), subject).map_err(|e| format!("TLS: {e}"))?;
        let pipeline = match switch.role {
            Role::Leaf => &self.leaf,
            Role::Spine => &self.spine,
        };
        Ok(P4RuntimeDriver::new(SwitchConfig {
            name: switch.name.to_string(),
            address: switch.p4runtime.to_string(),
            device_id: switch.device_id.into(),
            tls: (!self.insecure_p4runtime).then_some(dialer),
            pipeline: Arc::clone(pipeline),
        }))
    }
}

impl Launcher for Devices {
    fn launch(&self, hardware: &Hardware, launch: Launch) -> Result<Running, String> {
        Ok(match hardware {
            Hardware::Switch(switch, since_s) => launch.run(self.switch(switch)?.expecting_since(*since_s)),
            Hardware::Host(host) => launch.run(self.hosts.driver(host.name.as_str())),
        })
    }

    fn stopped(&self, hardware: &Hardware) {
        if let Hardware::Host(host) = hardware {
            self.hosts.remove(host.name.as_str());
        }
    }
}
