//! Files in the formats of P4Runtime's messages.

use p4_compiler::Compiled;
use std::path::Path;

/// How a protobuf message is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    Text,
    Json,
    /// p4c's default, if the file's name does not ask for another format.
    #[default]
    Binary,
}

impl Format {
    /// The format of `--p4runtime-format`.
    pub fn named(text: &str) -> Result<Format, String> {
        match text {
            "text" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            "binary" => Ok(Format::Binary),
            _ => Err(format!("format {text} is not known: text, json or binary")),
        }
    }

    /// The format that follows from a file's name.
    pub fn of(path: &Path, otherwise: Format) -> Format {
        match path.extension().and_then(|e| e.to_str()) {
            Some("txtpb" | "txt" | "textproto" | "p4info") => Format::Text,
            Some("json") => Format::Json,
            Some("bin") => Format::Binary,
            _ => otherwise,
        }
    }
}

/// P4Info in a format.
pub fn p4info(c: &Compiled, format: Format) -> Vec<u8> {
    match format {
        Format::Text => c.p4info_text.clone().into_bytes(),
        Format::Json => c.p4info_json().into_bytes(),
        Format::Binary => c.p4info_binary.clone(),
    }
}

/// The program's entries in a format.
pub fn entries(c: &Compiled, format: Format) -> Vec<u8> {
    match format {
        Format::Text => c.entries_text.clone().into_bytes(),
        Format::Json => c.entries_json().into_bytes(),
        Format::Binary => c.entries_binary(),
    }
}

/// Writes a file, and creates its directories if necessary.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), String> {
    if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir).map_err(|e| format!("cannot create {}: {e}", dir.display()))?;
    }
    std::fs::write(path, bytes).map_err(|e| format!("cannot write {}: {e}", path.display()))
}
