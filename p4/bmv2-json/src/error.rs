//! Errors of this crate.

/// Why a document could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is not JSON, or not of this shape.
    #[error("BMv2 JSON, at {path}: {message}")]
    Schema {
        /// Path of the offending value, e.g. `pipelines[0].tables[3].name`.
        path: String,
        /// What was expected, with line and column.
        message: String,
    },
    /// The document declares a major version that this crate does not know.
    #[error("BMv2 JSON, at __meta__.version: major version {found} is not supported (expected 2)")]
    Version {
        /// The major version found.
        found: u32,
    },
}
