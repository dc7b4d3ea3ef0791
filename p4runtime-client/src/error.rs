//! What can go wrong between a controller and a switch.

use p4runtime_proto::google::rpc::Code;

/// Errors of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A message of the switch breaks the protocol.
    #[error("{what}: {problem}")]
    Malformed {
        /// The message or field.
        what: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// An entity that this crate has no form for.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
}

impl Error {
    pub(crate) fn malformed(what: &'static str, problem: impl Into<String>) -> Self {
        Self::Malformed {
            what,
            problem: problem.into(),
        }
    }
}

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The canonical code of a number on the wire; numbers unknown are `UNKNOWN`.
#[must_use]
pub fn code(number: i32) -> Code {
    Code::try_from(number).unwrap_or(Code::Unknown)
}
