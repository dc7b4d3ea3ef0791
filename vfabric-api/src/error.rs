//! What a user sees when something is refused.
//!
//! All errors have the same form: a stable code, a sentence, and the fields that are wrong.
//! On the wire this is `application/problem+json` (RFC 9457). Internals never appear in it;
//! they go to the log under the request id.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Stable code of an error; each has one HTTP status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The body is not JSON, or the query or a header does not have the documented form (400).
    Malformed,
    /// There is no valid bearer token or client certificate (401).
    Unauthenticated,
    /// The caller is known, but may not do this (403).
    Forbidden,
    /// The object does not exist, or the caller may not know that it does (404).
    NotFound,
    /// An object of that name exists with another content (409).
    AlreadyExists,
    /// The object cannot be removed or changed while other objects use it (409).
    InUse,
    /// A MAC, IP, VNI, port or interface is taken already (409).
    Taken,
    /// The object belongs to another owner, and the change was not forced (409).
    Owned,
    /// A pool or a table has no room left (409).
    Exhausted,
    /// The object is not at the revision that the caller expects (412).
    PreconditionFailed,
    /// The body is longer than the server accepts (413).
    TooLarge,
    /// The operation does not accept the body's media type (415).
    UnsupportedMediaType,
    /// The resource is no longer available, such as a revision that is too old (410).
    Gone,
    /// More requests than the caller may make in this time (429); `Retry-After` says when to try again.
    TooMany,
    /// The request is well formed, but a value is not valid for its field or contradicts others (422).
    Invalid,
    /// The controller cannot do it now; the same call may succeed later (503).
    Unavailable,
    /// A fault of the controller; the log has the details under the request id (500).
    Internal,
}

impl ErrorCode {
    /// The HTTP status of the code.
    pub fn http_status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::Unauthenticated => 401,
            Self::Forbidden => 403,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::InUse | Self::Taken | Self::Owned | Self::Exhausted => 409,
            Self::PreconditionFailed => 412,
            Self::Gone => 410,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::Invalid => 422,
            Self::TooMany => 429,
            Self::Unavailable => 503,
            Self::Internal => 500,
        }
    }

    /// True when repeating the same call later may succeed.
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Unavailable | Self::Internal | Self::TooMany)
    }
}

/// One field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Path of the field in the request, such as `vdcs[0].attachments[2].ips[0]`.
    pub field: String,
    /// The value that was given.
    pub value: String,
    /// What was expected instead.
    pub expected: String,
}

/// An error of the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema, thiserror::Error)]
#[error("{detail}{}", .errors.iter().map(|e| format!("\n  {}: `{}`: expected {}", e.field, e.value, e.expected)).collect::<String>())]
pub struct ApiError {
    /// The kind of error.
    pub code: ErrorCode,
    /// One sentence for people.
    pub detail: String,
    /// The fields that are wrong, if the error is about fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Id under which the log knows the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl ApiError {
    /// An error of that code with a sentence.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            request_id: None,
        }
    }

    /// An error about one field; `code` is [`ErrorCode::Invalid`], [`ErrorCode::Taken`] and the like.
    pub fn field(code: ErrorCode, field: impl Into<String>, value: impl ToString, expected: impl Into<String>) -> Self {
        let e = FieldError {
            field: field.into(),
            value: value.to_string(),
            expected: expected.into(),
        };
        Self {
            code,
            detail: format!("`{}` is not acceptable", e.field),
            errors: vec![e],
            request_id: None,
        }
    }

    /// The object does not exist.
    pub fn not_found(what: impl std::fmt::Display) -> Self {
        Self::new(ErrorCode::NotFound, format!("{what} does not exist"))
    }
}
