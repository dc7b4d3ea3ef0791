//! What dies during an operation.

use anyhow::{Context, Result};
use vfabric_api::ident::Name;

use crate::{Lab, daemons};

/// What dies during an operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    Agent(Name),
    Controller,
    Leaf(Name),
}

impl Fault {
    /// Its name in the summary.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Agent(_) => "agents killed",
            Self::Controller => "controllers killed",
            Self::Leaf(_) => "leaves restarted",
        }
    }
}

/// Kills a daemon and starts it again.
pub(super) fn die(lab: &Lab, fault: &Fault) -> Result<()> {
    match fault {
        Fault::Agent(name) => {
            lab.daemons.crash(name.as_str())?;
            lab.start_agent(lab.topology.host(name).context("the host")?)
        }
        Fault::Controller => {
            lab.daemons.crash(daemons::CONTROLLER)?;
            lab.restart_controller()
        }
        Fault::Leaf(name) => {
            lab.daemons.crash(name.as_str())?;
            lab.start_switch(name)
        }
    }
}
