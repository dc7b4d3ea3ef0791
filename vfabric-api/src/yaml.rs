//! Reading the YAML that people write: intents, topologies, settings.
//!
//! The size of a file is limited in octets, not in parts, because an intent of 20,000 networks is an ordinary file. The
//! limits on depth and on aliases stay, so a small file cannot become a large document.
//!
//! An error is one line with the place and the fault. It quotes nothing of the file, which may contain secrets.

use serde::de::DeserializeOwned;

/// The largest document, in octets: as much as the REST API takes in one request.
pub const MAX_OCTETS: usize = 64 << 20;
/// The deepest nesting. Our documents need less than half of it.
const MAX_DEPTH: usize = 64;

/// Why a document could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// The document has more than [`MAX_OCTETS`].
    #[error("{octets} octets: expected at most {MAX_OCTETS}")]
    TooLarge {
        /// How many it has.
        octets: usize,
    },
    /// It is not YAML, or does not have the expected form.
    #[error("line {line}, column {column}: {message}")]
    Malformed {
        /// Line, from 1.
        line: u64,
        /// Column in characters, from 1.
        column: u64,
        /// What is wrong.
        message: String,
    },
    /// Something is wrong, but its place is not known.
    #[error("{0}")]
    Unplaced(String),
}

/// Reads one document.
///
/// # Errors
/// It is too large, is not YAML, or does not have the expected form.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, YamlError> {
    if text.len() > MAX_OCTETS {
        return Err(YamlError::TooLarge { octets: text.len() });
    }
    // Every part takes at least one octet, so the bound in octets also bounds these.
    let budget = serde_saphyr::budget! {
        max_events: usize::MAX,
        max_nodes: usize::MAX,
        max_total_scalar_bytes: MAX_OCTETS,
        max_depth: MAX_DEPTH,
    };
    let options = serde_saphyr::options! {
        budget: budget,
        with_snippet: false,
    };
    let mut path = String::new();
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options, |document| {
        serde_path_to_error::deserialize(document).map_err(|error| {
            path = error.path().to_string();
            error.into_inner()
        })
    });
    read.map_err(|error| explain(&error, &path))
}

/// The fault, after the path of its field.
fn explain(error: &serde_saphyr::Error, path: &str) -> YamlError {
    use serde_saphyr::MessageFormatter as _;
    // The path does not contain an unknown field.
    let path = path.trim_end_matches('?').trim_end_matches('.');
    let error = error.without_snippet();
    let message = serde_saphyr::UserMessageFormatter.format_message(error);
    let message = message
        .escape_debug()
        .to_string()
        .replace("\\'", "'")
        .replace("\\\"", "\"");
    let message = match path {
        "" => message,
        path => format!("{path}: {message}"),
    };
    match error.location() {
        Some(at) if at.line() > 0 => YamlError::Malformed {
            line: at.line(),
            column: at.column(),
            message,
        },
        _ => YamlError::Unplaced(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intent::Intent;

    fn wrong(text: &str) -> String {
        read::<Intent>(text).unwrap_err().to_string()
    }

    #[test]
    fn an_error_is_one_line_with_its_place_and_no_advice_for_programmers() {
        for (text, place, says) in [
            (
                "vdcs:\n- name: blue\n  nets: []\n",
                "line 3, column 3: vdcs[0]",
                ": unknown field `nets`, expected one of name",
            ),
            (
                "vdcs:\n- name: blue\n  name: red\n",
                "line 3, column 3: vdcs[0]",
                ": duplicate mapping key: name",
            ),
            (
                "vdcs:\n- networks: []\n",
                "line 2, column 3: vdcs[0]",
                ": missing field `name`",
            ),
            ("vdcs:\n- name: Blue!\n", "line 2, column 9: vdcs[0].name: ", "Blue!"),
            ("vdcs: 7\n", "line 1, column 7: vdcs: ", "sequence"),
            ("vdcs: [\n", "line 1, column 7: vdcs: ", "unclosed"),
            (
                "vdcs: []\n---\nvdcs: []\n",
                "line ",
                "only single YAML document expected",
            ),
        ] {
            let error = wrong(text);
            assert!(error.starts_with(place) && error.contains(says), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
            for advice in ["Option", "serde", "Policy", "-->", "from_"] {
                assert!(!error.contains(advice), "{error}");
            }
        }
    }

    #[test]
    fn size_is_bounded_by_octets_and_aliases_cannot_multiply_it() {
        let long = "#".repeat(MAX_OCTETS + 1);
        assert_eq!(
            read::<Intent>(&long),
            Err(YamlError::TooLarge { octets: MAX_OCTETS + 1 })
        );
        let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (this, last) in ["b", "c", "d", "e", "f", "g", "h", "i"]
            .iter()
            .zip(["a", "b", "c", "d", "e", "f", "g", "h"])
        {
            bomb.push_str(&format!(
                "{this}: &{this} [{}]\n",
                vec![format!("*{last}"); 9].join(", ")
            ));
        }
        let error = read::<serde_json::Value>(&bomb).unwrap_err().to_string();
        assert!(error.contains("too large"), "{error}");
    }
}
