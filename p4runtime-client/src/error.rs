//! What can go wrong between a controller and a switch.

use p4runtime_proto::google::rpc::Code;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The address or the TLS material is not usable.
    #[error("{what} is not usable: {problem}")]
    Config {
        /// Which setting.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// No connection to the switch.
    #[error("cannot connect to {address}: {problem}")]
    Connect {
        /// URI of the switch.
        address: String,
        /// The causes, outermost first.
        problem: String,
    },
    /// The switch did not answer in time.
    #[error("{what}: no answer within {} s", .after.as_secs_f32())]
    Timeout {
        /// The call.
        what: &'static str,
        /// How long was waited.
        after: std::time::Duration,
    },
    /// The switch replied to a call with an error.
    #[error("{what}: {} ({:?})", .status.message(), .status.code())]
    Rpc {
        /// The call.
        what: &'static str,
        /// The reply.
        #[source]
        status: Box<tonic::Status>,
    },
    /// The stream of the session ended.
    #[error("session closed: {0}")]
    Closed(String),
    /// Another controller is primary.
    #[error("not primary: the primary's election id is {0}")]
    NotPrimary(String),
    /// A message of the switch breaks the protocol.
    #[error("{what}: {problem}")]
    Malformed {
        /// The message or field.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// An entity that this crate cannot express.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    /// A name or id that the P4Info does not have, or a value that does not fit.
    #[error("P4Info: {0}")]
    Schema(String),
    /// The switch did not take the pipeline.
    #[error("pipeline: {0}")]
    Pipeline(String),
}

impl Error {
    pub(crate) fn malformed(what: &'static str, problem: impl Into<String>) -> Self {
        Self::Malformed {
            what,
            problem: problem.into(),
        }
    }

    pub(crate) fn rpc(what: &'static str, status: tonic::Status) -> Self {
        Self::Rpc {
            what,
            status: Box::new(status),
        }
    }

    /// gRPC code, if the switch replied with one.
    #[must_use]
    pub fn code(&self) -> Option<tonic::Code> {
        match self {
            Self::Rpc { status, .. } => Some(status.code()),
            _ => None,
        }
    }

    /// Whether the same call may succeed in a new session.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Timeout { .. } | Self::Closed(_) | Self::NotPrimary(_) => true,
            Self::Rpc { status, .. } => matches!(
                status.code(),
                tonic::Code::Unavailable
                    | tonic::Code::Aborted
                    | tonic::Code::Cancelled
                    | tonic::Code::DeadlineExceeded
                    | tonic::Code::ResourceExhausted
                    | tonic::Code::Unknown
                    | tonic::Code::Internal
            ),
            Self::Config { .. }
            | Self::Malformed { .. }
            | Self::Unsupported(_)
            | Self::Schema(_)
            | Self::Pipeline(_) => false,
        }
    }
}

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The canonical code of a number on the wire; unknown numbers become `UNKNOWN`.
#[must_use]
pub fn code(number: i32) -> Code {
    Code::try_from(number).unwrap_or(Code::Unknown)
}

/// An error and its causes in one line, without repetition.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = error.to_string();
        if !text.contains(&line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        cause = error.source();
    }
    text
}
