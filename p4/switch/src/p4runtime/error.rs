//! Errors of single entities: a canonical code, a message for people, and `p4.v1.Error` on the wire.

use p4runtime_proto::google::rpc;
use p4runtime_proto::p4::v1;
use prost::Message as _;
use thiserror::Error;
use tonic::Code;

use super::bytestring::BytestringError;
use super::info::InfoError;
use super::session::{AccessError, SessionError};
use super::translation::TranslationError;

/// Type URL of a `p4.v1.Error` inside a `google.protobuf.Any`.
const ERROR_TYPE_URL: &str = "type.googleapis.com/p4.v1.Error";

/// Names this target in `p4.v1.Error.space`.
const ERROR_SPACE: &str = "p4-switch";

/// Message of an RPC status whose details contain the errors of single updates or requests.
const BATCH_FAILED: &str = "one or more elements of the batch failed; see the details";

/// Why one update, request or configuration was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{message}")]
pub struct EntityError {
    /// Canonical gRPC code.
    pub code: Code,
    /// The object, the field, and what was expected.
    pub message: String,
}

impl EntityError {
    fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// `INVALID_ARGUMENT`.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, message)
    }

    /// `NOT_FOUND`.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Code::NotFound, message)
    }

    /// `ALREADY_EXISTS`.
    pub fn exists(message: impl Into<String>) -> Self {
        Self::new(Code::AlreadyExists, message)
    }

    /// `PERMISSION_DENIED`.
    pub fn denied(message: impl Into<String>) -> Self {
        Self::new(Code::PermissionDenied, message)
    }

    /// `FAILED_PRECONDITION`.
    pub fn precondition(message: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, message)
    }

    /// `RESOURCE_EXHAUSTED`.
    pub fn exhausted(message: impl Into<String>) -> Self {
        Self::new(Code::ResourceExhausted, message)
    }

    /// `OUT_OF_RANGE`.
    pub fn range(message: impl Into<String>) -> Self {
        Self::new(Code::OutOfRange, message)
    }

    /// `UNIMPLEMENTED`.
    pub fn unimplemented(message: impl Into<String>) -> Self {
        Self::new(Code::Unimplemented, message)
    }

    /// `INTERNAL`: the target refused something that it had accepted before.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(Code::Internal, message)
    }

    /// `ABORTED`: this update was fine, but another one of its all-or-none batch was not.
    pub fn aborted() -> Self {
        Self::new(Code::Aborted, "rolled back because another update of the batch failed")
    }

    /// The same error, prefixed with its place.
    pub fn at(self, place: &str) -> Self {
        Self {
            code: self.code,
            message: format!("{place}: {}", self.message),
        }
    }

    /// As `p4.v1.Error`.
    pub fn to_wire(&self) -> v1::Error {
        v1::Error {
            canonical_code: self.code as i32,
            message: self.message.clone(),
            space: ERROR_SPACE.to_owned(),
            code: 0,
            details: None,
        }
    }
}

impl From<EntityError> for tonic::Status {
    fn from(error: EntityError) -> Self {
        Self::new(error.code, error.message)
    }
}

impl From<BytestringError> for EntityError {
    /// Section 8.4; match fields and action parameters override the code (sections 9.1.1 and 9.1.2).
    fn from(error: BytestringError) -> Self {
        Self::range(error.to_string())
    }
}

impl From<TranslationError> for EntityError {
    fn from(error: TranslationError) -> Self {
        match error {
            TranslationError::Bytestring(error) => error.into(),
            TranslationError::TooManyStrings => Self::exhausted(error.to_string()),
            TranslationError::NotText | TranslationError::NoEquivalent { .. } => Self::invalid(error.to_string()),
        }
    }
}

impl From<InfoError> for EntityError {
    fn from(error: InfoError) -> Self {
        Self::invalid(format!("P4Info: {error}"))
    }
}

impl From<AccessError> for EntityError {
    fn from(error: AccessError) -> Self {
        match error {
            AccessError::UnknownRole(_) => Self::not_found(error.to_string()),
            AccessError::NotPrimary { .. } => Self::denied(error.to_string()),
        }
    }
}

impl From<SessionError> for EntityError {
    fn from(error: SessionError) -> Self {
        let message = error.to_string();
        match error {
            SessionError::UnknownDevice(_) => Self::not_found(message),
            SessionError::DeviceChanged { .. } | SessionError::RoleChanged { .. } => Self::precondition(message),
            SessionError::DuplicateElectionId(_) | SessionError::RoleNameTooLong => Self::invalid(message),
            SessionError::TooManyStreams | SessionError::TooManyRoles => Self::exhausted(message),
        }
    }
}

/// The status of a batch: OK if nothing failed, else `UNKNOWN` with one `p4.v1.Error` per element (section 12.3).
pub fn batch_status(results: &[Result<(), EntityError>]) -> Result<(), tonic::Status> {
    if results.iter().all(Result::is_ok) {
        return Ok(());
    }
    let details = results.iter().map(|result| {
        let error = match result {
            Ok(()) => v1::Error::default(),
            Err(error) => error.to_wire(),
        };
        prost_types::Any {
            type_url: ERROR_TYPE_URL.to_owned(),
            value: error.encode_to_vec(),
        }
    });
    let status = rpc::Status {
        code: Code::Unknown as i32,
        message: BATCH_FAILED.to_owned(),
        details: details.collect(),
    };
    Err(tonic::Status::with_details(
        Code::Unknown,
        BATCH_FAILED,
        status.encode_to_vec().into(),
    ))
}
