//! Why a message cannot be accepted.

/// A field of a received object is missing or malformed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: `{value}` is not valid: expected {expected}")]
pub struct DecodeError {
    /// Path of the field inside the object, such as `attachment.routes[1].via`.
    pub field: String,
    /// What was found, shortened.
    pub value: String,
    /// What would have been accepted.
    pub expected: &'static str,
}

impl DecodeError {
    /// An error about `field`, showing `value` (its first 80 characters).
    pub(crate) fn new(field: impl Into<String>, value: impl std::fmt::Display, expected: &'static str) -> Self {
        Self {
            field: field.into(),
            value: value.to_string().chars().take(80).collect(),
            expected,
        }
    }
}
