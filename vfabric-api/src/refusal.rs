//! The error about a document that cannot be read: the field, its value, what was expected.

use serde_json::Value;
use serde_path_to_error::Segment;

use crate::error::{ApiError, ErrorCode, FieldError};

/// Longest piece of a wrong value that an error repeats.
const SHOWN_CHARS: usize = 80;

/// The error for a document that cannot be read; `root` is the document, if it is JSON.
pub(crate) fn refusal(error: &serde_path_to_error::Error<serde_json::Error>, root: Option<&Value>) -> ApiError {
    // JSON with a value that its field does not accept, or no JSON at all.
    let code = if error.inner().is_data() {
        ErrorCode::Invalid
    } else {
        ErrorCode::Malformed
    };
    let error = FieldError {
        field: error.path().to_string(),
        value: root.map(|root| value_at(root, error.path())).unwrap_or_default(),
        expected: error.inner().to_string(),
    };
    ApiError {
        errors: vec![error],
        ..ApiError::new(code, "the body does not have the documented form")
    }
}

/// The value at a path, shortened; empty where there is none.
fn value_at(root: &Value, path: &serde_path_to_error::Path) -> String {
    let mut at = root;
    for segment in path {
        let next = match segment {
            Segment::Seq { index } => at.get(*index),
            Segment::Map { key } => at.get(key),
            Segment::Enum { variant } => at.get(variant).or(Some(at)),
            Segment::Unknown => None,
        };
        let Some(next) = next else { return String::new() };
        at = next;
    }
    match at {
        Value::String(s) => s.chars().take(SHOWN_CHARS).collect(),
        other => other.to_string().chars().take(SHOWN_CHARS).collect(),
    }
}
