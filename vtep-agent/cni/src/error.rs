//! Errors with the codes of CNI 1.1 (section 5, "Error").

use serde_json::{Value, json};

use crate::config::CURRENT_VERSION;

/// The version is not supported.
pub const INCOMPATIBLE_VERSION: u32 = 1;
/// A field is not supported.
pub const UNSUPPORTED_FIELD: u32 = 2;
/// An environment variable is missing or wrong.
pub const ENVIRONMENT: u32 = 4;
/// Reading or writing failed.
pub const IO: u32 = 5;
/// The input is not the JSON that was expected.
pub const DECODE: u32 = 6;
/// The network configuration is contradictory.
pub const CONFIG: u32 = 7;
/// The same call may succeed later.
pub const TRY_AGAIN: u32 = 11;
/// ADD cannot be done now.
pub const NOT_AVAILABLE: u32 = 50;
/// ADD cannot be done now, and containers may have lost their connections.
pub const LIMITED: u32 = 51;
/// The fabric refuses the attachment.
pub const REFUSED: u32 = 100;
/// What CHECK found differs from what ADD made.
pub const DIFFERS: u32 = 101;
/// A plugin that one of our plugins ran has failed.
pub const DELEGATE: u32 = 102;

/// An error that goes to the runtime.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// Code of CNI, or one of ours from 100.
    pub code: u32,
    /// What is wrong, naming the field.
    pub message: String,
}

impl Error {
    /// An error of that code.
    pub fn new(code: u32, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// A failure of input or output.
    pub fn io(message: impl Into<String>) -> Self {
        Self::new(IO, message)
    }

    /// A field of the network configuration.
    pub fn field(field: &str, found: impl std::fmt::Display, expected: &str) -> Self {
        Self::new(CONFIG, format!("{field}: `{found}`: expected {expected}"))
    }

    /// An environment variable.
    pub fn environment(name: &str, expected: &str) -> Self {
        Self::new(ENVIRONMENT, format!("{name}: expected {expected}"))
    }

    /// The document for standard output. For DEL, it leaves out words that runtimes take for success: go-cni does
    /// that with "not found" and "no such file or directory".
    pub fn document(&self, command: Option<&str>, input: &[u8]) -> Value {
        let asked = serde_json::from_slice::<Value>(input).ok();
        let version = asked.as_ref().and_then(|v| v.get("cniVersion")?.as_str());
        let message = match command {
            Some("DEL" | "GC") => harmless(&self.message),
            _ => self.message.clone(),
        };
        json!({ "cniVersion": version.unwrap_or(CURRENT_VERSION), "code": self.code, "msg": message })
    }
}

/// The text without words that mean success to a runtime, whether in upper or lower case.
fn harmless(text: &str) -> String {
    let mut text = text.to_owned();
    for (word, instead) in [("not found", "missing"), ("no such file", "missing file")] {
        // ASCII lower case keeps every position.
        while let Some(at) = text.to_ascii_lowercase().find(word) {
            text.replace_range(at..at + word.len(), instead);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_del_never_reads_like_success() {
        let error = Error::io("netns Not Found: NO SUCH FILE or directory");
        let text = error.document(Some("DEL"), b"{}").to_string().to_lowercase();
        assert!(!text.contains("not found") && !text.contains("no such file"), "{text}");
        assert_eq!(error.document(Some("ADD"), b"{}")["msg"], error.message);
    }

    #[test]
    fn an_error_repeats_the_version_that_was_asked_for() {
        let error = Error::io("x");
        assert_eq!(
            error.document(None, br#"{"cniVersion":"0.4.0"}"#)["cniVersion"],
            "0.4.0"
        );
        assert_eq!(error.document(None, b"{")["cniVersion"], CURRENT_VERSION);
    }
}
