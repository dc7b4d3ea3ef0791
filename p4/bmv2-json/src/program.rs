//! The document.

use serde::{Deserialize, Serialize};

use crate::{
    Action, Calculation, Checksum, CounterArray, Deparser, Error, ExternInstance, FieldList, FieldRef, Header,
    HeaderStack, HeaderType, HeaderUnion, HeaderUnionStack, HeaderUnionType, LearnList, MeterArray, ParseVset, Parser,
    Pipeline, RegisterArray,
};

/// A whole BMv2 JSON document.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Program {
    /// Layouts of headers and metadata.
    pub header_types: Vec<HeaderType>,
    /// Header and metadata instances.
    pub headers: Vec<Header>,
    /// Header stacks.
    pub header_stacks: Vec<HeaderStack>,
    /// Layouts of header unions.
    pub header_union_types: Vec<HeaderUnionType>,
    /// Header union instances.
    pub header_unions: Vec<HeaderUnion>,
    /// Stacks of header unions.
    pub header_union_stacks: Vec<HeaderUnionStack>,
    /// Fields kept by clone, resubmit and recirculate.
    pub field_lists: Vec<FieldList>,
    /// Parser errors: name and value.
    pub errors: Vec<(String, u32)>,
    /// Enums without a declared representation.
    pub enums: Vec<Enum>,
    /// Parsers; v1model has one, named `parser`.
    pub parsers: Vec<Parser>,
    /// Parser value sets.
    pub parse_vsets: Vec<ParseVset>,
    /// Deparsers; v1model has one, named `deparser`.
    pub deparsers: Vec<Deparser>,
    /// Meters.
    pub meter_arrays: Vec<MeterArray>,
    /// Counters.
    pub counter_arrays: Vec<CounterArray>,
    /// Registers.
    pub register_arrays: Vec<RegisterArray>,
    /// Hash and checksum inputs.
    pub calculations: Vec<Calculation>,
    /// Digests.
    pub learn_lists: Vec<LearnList>,
    /// Actions.
    pub actions: Vec<Action>,
    /// Match-action control flows; v1model has `ingress` and `egress`.
    pub pipelines: Vec<Pipeline>,
    /// Checksums to verify after parsing and update before deparsing.
    pub checksums: Vec<Checksum>,
    /// Headers whose fields bmv2 must keep as numbers; other readers may ignore it.
    pub force_arith: Vec<serde_json::Value>,
    /// Extern instances other than the arrays above.
    pub extern_instances: Vec<ExternInstance>,
    /// Names that the target expects, each with its field.
    pub field_aliases: Vec<(String, FieldRef)>,
    /// Name of the source file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<String>,
    /// Format version and compiler.
    #[serde(rename = "__meta__", skip_serializing_if = "Option::is_none")]
    pub meta: Option<Meta>,
}

impl Program {
    /// Reads a document, with the path of the offending value in the error.
    pub fn from_slice(text: &[u8]) -> Result<Self, Error> {
        let mut reader = serde_json::Deserializer::from_slice(text);
        let program: Program = serde_path_to_error::deserialize(&mut reader).map_err(|e| Error::Schema {
            path: e.path().to_string(),
            message: e.inner().to_string(),
        })?;
        reader.end().map_err(|e| Error::Schema {
            path: ".".into(),
            message: e.to_string(),
        })?;
        match &program.meta {
            Some(meta) if meta.version.0 != 2 => Err(Error::Version { found: meta.version.0 }),
            _ => Ok(program),
        }
    }

    /// Writes the document with two spaces of indentation and a final newline.
    pub fn to_string_pretty(&self) -> String {
        // Serializing these types cannot fail: every map key is a string and no writer is involved.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// Where in the source an object was written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SourceInfo {
    /// File as given to the compiler.
    pub filename: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// The text.
    pub source_fragment: String,
}

/// Format version and compiler (section `__meta__`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Major and minor version of the format.
    pub version: (u32, u32),
    /// Who wrote the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compiler: Option<String>,
}

/// An enum and its values (section `enums`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Enum {
    /// Name.
    pub name: String,
    /// Member and number.
    pub entries: Vec<(String, u32)>,
}
