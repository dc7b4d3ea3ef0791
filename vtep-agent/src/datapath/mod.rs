//! The I/O edge of the agent: the trait behind which objects are created.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use vtep_proto::v1::ErrorCode;
use vtep_proto::{Attachment, MacAddress, Vni};

use crate::error::{AgentError, NetlinkError};
use crate::object::{Object, ObjectKey};

pub mod fake;
pub mod kernel;

/// The holder of the objects: the kernel, or a fake in tests.
///
/// It touches only objects that it created itself, and never rebuilds an object that is right: a step to the same state
/// does nothing.
pub trait Datapath {
    /// All of our objects that exist, strays included. `expected` are the ports that
    /// should exist, by the name of their end on the host; each says in which network namespace
    /// to look for the other end.
    ///
    /// # Errors
    /// When it cannot be read; then nothing is known.
    fn read_back(&mut self, scope: &Scope, expected: &Expected) -> Result<BTreeMap<ObjectKey, Object>, AgentError>;

    /// Checks what all objects depend on and repairs what somebody has changed; returns
    /// the repairs.
    ///
    /// # Errors
    /// When it cannot be read or repaired.
    fn put_right(&mut self) -> Result<Vec<String>, AgentError> {
        Ok(Vec::new())
    }

    /// Frames that were lost so far, where there were any.
    ///
    /// # Errors
    /// When they cannot be read.
    fn losses(&mut self) -> Result<Vec<Loss>, AgentError> {
        Ok(Vec::new())
    }

    /// Frames and octets of attachments and networks so far.
    ///
    /// # Errors
    /// When they cannot be read.
    fn traffic(&mut self) -> Result<Vec<Traffic>, AgentError> {
        Ok(Vec::new())
    }

    /// Applies steps in order and returns the outcome of each. A step is carried out even
    /// if one before it failed.
    fn apply(&mut self, steps: &[Step]) -> Vec<Outcome>;
}

/// The ports that should exist, by the name of their end on the host.
pub type Expected = BTreeMap<String, Attachment>;

/// Frames that were lost at one place for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// The attachment, or the link.
    pub place: String,
    /// The reason, such as `source-mac`.
    pub reason: String,
    /// Frames since the link was made.
    pub frames: u64,
}

/// What one attachment, or one network's tunnels, have carried since their link was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// The attachment; none for the tunnels of the network.
    pub attachment: Option<String>,
    /// VNI of the network.
    pub vni: u32,
    /// Frames that went to the workload, or came from tunnels.
    pub received_frames: u64,
    /// Octets of these, Ethernet headers included.
    pub received_bytes: u64,
    /// Frames that came from the workload, or went into tunnels.
    pub sent_frames: u64,
    /// Octets of these.
    pub sent_bytes: u64,
}

impl Traffic {
    /// Received frames and octets, sent frames and octets.
    pub fn counts(&self) -> [u64; 4] {
        [
            self.received_frames,
            self.received_bytes,
            self.sent_frames,
            self.sent_bytes,
        ]
    }
}

/// A part of the datapath.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of it.
    All,
    /// These networks without their ports, and these ports in any network. A change of a port is noticed at the
    /// port, so checking a network with a thousand ports need not look into a thousand namespaces.
    Some {
        /// Networks.
        vnis: BTreeSet<Vni>,
        /// Ports, by the name of their end on the host.
        ports: BTreeSet<String>,
    },
}

/// The state of one forwarding or neighbour entry, as a notification reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// The entry is this now.
    Is(Object),
    /// The bridge of a network sends the frames of a station into the tunnels. Another entry says to which VTEP.
    Tunnelled(Vni, MacAddress),
    /// There is no such entry any more.
    Gone(ObjectKey),
}

impl Seen {
    /// The entry.
    pub fn key(&self) -> ObjectKey {
        match self {
            Self::Is(object) => object.key(),
            Self::Tunnelled(vni, mac) => ObjectKey::Station(*vni, *mac),
            Self::Gone(key) => key.clone(),
        }
    }
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Create, or change to this.
    Ensure(Object),
    /// Remove; removing a missing object succeeds.
    Remove(ObjectKey),
}

/// The outcome of a step.
pub type Outcome = Result<Done, StepError>;

/// A step that succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Done {
    /// The object is in place.
    InPlace,
    /// The object is in place, but had to be made again; the objects on it are gone.
    Rebuilt,
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct StepError {
    /// What kind of failure.
    pub code: ErrorCode,
    /// What was expected and what was found.
    pub message: String,
}

impl StepError {
    /// A failure of that kind.
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl From<NetlinkError> for StepError {
    fn from(e: NetlinkError) -> Self {
        Self::new(ErrorCode::Kernel, e.to_string())
    }
}
