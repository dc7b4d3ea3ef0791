//! What the controller does to a switch as a machine, apart from what it forwards.

use std::fs::File;

use futures::future::BoxFuture;
use vfabric_api::machine::MachineStatus;
use vfabric_api::topology::Switch;

/// Why something was not done to a switch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MachineError {
    /// The switch does not have the service.
    #[error("it has no {0}: its gRPC server replies UNIMPLEMENTED")]
    Missing(&'static str),
    /// It refused.
    #[error("it refuses: {0}")]
    Refused(String),
    /// The switch cannot be reached, or did not reply in time.
    #[error("{0}")]
    Unreachable(String),
    /// The controller lacks something for it.
    #[error("{0}")]
    Ours(String),
}

/// An image that is to be installed.
#[derive(Debug)]
pub struct Package {
    /// Name of the version, as the switch will report it.
    pub version: String,
    /// Its size in octets.
    pub octets: u64,
    /// The content.
    pub content: File,
}

/// Access to switches as machines. Each call opens a connection of its own, so it works also while no session is open.
pub trait Maintenance: Send + Sync + 'static {
    /// Asks a switch for its clock, software and health. Services that it does not have are listed.
    fn look<'a>(&'a self, switch: &'a Switch) -> BoxFuture<'a, Result<MachineStatus, MachineError>>;

    /// Restarts it.
    fn reboot<'a>(&'a self, switch: &'a Switch, reason: &'a str) -> BoxFuture<'a, Result<(), MachineError>>;

    /// Transfers software, and makes the switch check it. The switch goes on running its present
    /// software.
    fn install<'a>(&'a self, switch: &'a Switch, package: Package) -> BoxFuture<'a, Result<(), MachineError>>;

    /// Makes the switch run an installed version; it restarts for that.
    fn activate<'a>(&'a self, switch: &'a Switch, version: &'a str) -> BoxFuture<'a, Result<(), MachineError>>;

    /// Whether certificates can be renewed: there is TLS, and an authority for switches.
    fn renews(&self) -> bool;

    /// Gives the switch a newer certificate, for a key that the switch makes. Returns the last second of the
    /// certificate, in seconds since 1970. After an error the switch has its earlier certificate.
    fn renew<'a>(&'a self, switch: &'a Switch) -> BoxFuture<'a, Result<i64, MachineError>>;
}
