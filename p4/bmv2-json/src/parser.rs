//! Parsers, value sets and deparsers.

use serde::{Deserialize, Serialize};

use crate::{HexStr, ParserParameter, SourceInfo, Value};

/// A parser (section `parsers`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Parser {
    /// Name.
    pub name: String,
    /// Unique among parsers.
    pub id: u32,
    /// First state, if any.
    pub init_state: Option<String>,
    /// States.
    pub parse_states: Vec<ParseState>,
}

/// A parser state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParseState {
    /// Name.
    pub name: String,
    /// Unique among states of all parsers.
    pub id: u32,
    /// What the state does.
    pub parser_ops: Vec<ParserOp>,
    /// Edges to the next state, tried in order.
    pub transitions: Vec<Transition>,
    /// The values that transitions compare.
    pub transition_key: Vec<Value>,
}

/// One operation of a parser state (section "parser operations").
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParserOp {
    /// Its operands.
    pub parameters: Vec<ParserParameter>,
    /// What to do.
    pub op: ParserOpKind,
}

/// Kinds of parser operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ParserOpKind {
    /// Extract a header of fixed size.
    #[serde(rename = "extract")]
    Extract,
    /// Extract a header with a variable field.
    #[serde(rename = "extract_VL")]
    ExtractVl,
    /// Assign to a field.
    #[serde(rename = "set")]
    Set,
    /// Raise an error unless a condition holds.
    #[serde(rename = "verify")]
    Verify,
    /// Skip bytes (old form).
    #[serde(rename = "shift")]
    Shift,
    /// Skip bits.
    #[serde(rename = "advance")]
    Advance,
    /// Run a primitive.
    #[serde(rename = "primitive")]
    Primitive,
}

/// An edge of the parser graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transition {
    /// How the key is compared.
    #[serde(rename = "type", default = "TransitionKind::default_kind")]
    pub kind: TransitionKind,
    /// A hexadecimal value, or the name of a value set.
    pub value: Option<String>,
    /// Mask over the key.
    pub mask: Option<HexStr>,
    /// Next state; none ends the parser.
    pub next_state: Option<String>,
}

/// Kinds of transition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransitionKind {
    /// When nothing else matched.
    Default,
    /// Against a value.
    Hexstr,
    /// Against a value set.
    ParseVset,
}

impl TransitionKind {
    fn default_kind() -> Self {
        TransitionKind::Hexstr
    }
}

/// A parser value set (section `parse_vsets`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ParseVset {
    /// Name.
    pub name: String,
    /// Unique among value sets.
    pub id: u32,
    /// Where it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_info: Option<SourceInfo>,
    /// Width of a member in bits, without padding.
    pub compressed_bitwidth: u32,
    /// Largest number of members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_size: Option<u32>,
}

/// A deparser (section `deparsers`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deparser {
    /// Name.
    pub name: String,
    /// Unique among deparsers.
    pub id: u32,
    /// Where it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_info: Option<SourceInfo>,
    /// Headers in the order in which valid ones are emitted.
    pub order: Vec<String>,
    /// Calls made before emission.
    #[serde(default)]
    pub primitives: Vec<ParserOp>,
}
