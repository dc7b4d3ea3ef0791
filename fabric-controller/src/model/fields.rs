//! Errors about the fields of one object.

use vfabric_api::error::{ApiError, ErrorCode};

/// Errors of one object, all about fields below one path.
pub(super) struct Fields<'a>(pub(super) &'a str);

impl Fields<'_> {
    pub(super) fn error(
        &self,
        code: ErrorCode,
        field: &str,
        value: impl ToString,
        expected: impl Into<String>,
    ) -> ApiError {
        let dot = if self.0.is_empty() || field.is_empty() { "" } else { "." };
        ApiError::field(code, format!("{}{dot}{field}", self.0), value, expected)
    }

    pub(super) fn invalid(&self, field: &str, value: impl ToString, expected: impl Into<String>) -> ApiError {
        self.error(ErrorCode::Invalid, field, value, expected)
    }
}
