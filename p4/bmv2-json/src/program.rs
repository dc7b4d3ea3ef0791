//! The document and its arrays.

use indexmap::IndexMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::{Error, Expression, FieldRef, HexStr, ParserParameter, Value};

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
    /// Headers whose fields bmv2 must keep as numbers; without meaning to other readers.
    pub force_arith: Vec<serde_json::Value>,
    /// Extern instances other than the arrays above.
    pub extern_instances: Vec<ExternInstance>,
    /// Names that the target expects, and the fields that stand for them.
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

/// Format version and compiler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// Major and minor version of the format.
    pub version: (u32, u32),
    /// Who wrote the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compiler: Option<String>,
}

/// The layout of a header or metadata struct.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeaderType {
    /// Name.
    pub name: String,
    /// Unique among header types.
    pub id: u32,
    /// Fields in wire order.
    pub fields: Vec<FieldDecl>,
    /// Length of the variable field in bits (written by P4_14 compilers only).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length_exp: Option<Value>,
    /// Largest size in bytes of a header with a variable field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u32>,
}

/// A field of a header type: `[name, bits, signed]`, or `[name, "*"]` for a variable field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldDecl {
    /// Name.
    pub name: String,
    /// Width.
    pub width: FieldWidth,
    /// Two's complement.
    pub signed: bool,
}

/// The width of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldWidth {
    /// So many bits.
    Bits(u32),
    /// Known when the header is extracted.
    Variable,
}

impl Serialize for FieldDecl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.width {
            FieldWidth::Bits(bits) => (&self.name, bits, self.signed).serialize(serializer),
            FieldWidth::Variable => (&self.name, "*").serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for FieldDecl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde_json::Value as Json;
        let parts = Vec::<Json>::deserialize(deserializer)?;
        let name = parts.first().and_then(Json::as_str);
        let width = match parts.get(1) {
            Some(Json::String(text)) if text == "*" => Some(FieldWidth::Variable),
            Some(Json::Number(bits)) => bits.as_u64().and_then(|b| u32::try_from(b).ok()).map(FieldWidth::Bits),
            _ => None,
        };
        match (name, width) {
            (Some(name), Some(width)) if parts.len() <= 3 => Ok(FieldDecl {
                name: name.to_owned(),
                width,
                signed: parts.get(2).and_then(Json::as_bool).unwrap_or(false),
            }),
            _ => Err(de::Error::custom("expected a field as [name, bits or \"*\", signed]")),
        }
    }
}

/// A header or metadata instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Name.
    pub name: String,
    /// Unique among headers.
    pub id: u32,
    /// Name of its type.
    pub header_type: String,
    /// Always valid and never on the wire.
    #[serde(default)]
    pub metadata: bool,
    /// Hidden from control planes.
    #[serde(default)]
    pub pi_omit: bool,
}

/// A header stack.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeaderStack {
    /// Name.
    pub name: String,
    /// Unique among stacks.
    pub id: u32,
    /// Type of its elements.
    pub header_type: String,
    /// Number of elements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// Its elements, first first.
    pub header_ids: Vec<u32>,
}

/// The layout of a header union: member name and header type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeaderUnionType {
    /// Name.
    pub name: String,
    /// Unique among union types.
    pub id: u32,
    /// Members: name and header type.
    pub headers: Vec<(String, String)>,
}

/// A header union: at most one member is valid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeaderUnion {
    /// Name.
    pub name: String,
    /// Unique among unions.
    pub id: u32,
    /// Name of its type.
    pub union_type: String,
    /// Its members in the order of the type.
    pub header_ids: Vec<u32>,
    /// Hidden from control planes.
    #[serde(default)]
    pub pi_omit: bool,
}

/// A stack of header unions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeaderUnionStack {
    /// Name.
    pub name: String,
    /// Unique among union stacks.
    pub id: u32,
    /// Type of its elements.
    pub union_type: String,
    /// Number of elements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// Its elements, first first.
    pub header_union_ids: Vec<u32>,
}

/// Fields kept by clone, resubmit and recirculate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FieldList {
    /// Id that the primitives name.
    pub id: u32,
    /// Name.
    pub name: String,
    /// Where it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_info: Option<SourceInfo>,
    /// Fields or constants.
    pub elements: Vec<Value>,
}

/// A digest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LearnList {
    /// Id that `generate_digest` names.
    pub id: u32,
    /// Name.
    pub name: String,
    /// Where it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_info: Option<SourceInfo>,
    /// Fields or constants.
    pub elements: Vec<Value>,
}

/// An enum and its values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Enum {
    /// Name.
    pub name: String,
    /// Member and number.
    pub entries: Vec<(String, u32)>,
}

/// A parser.
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
    /// Where it goes, tried in order.
    pub transitions: Vec<Transition>,
    /// What transitions look at.
    pub transition_key: Vec<Value>,
}

/// One operation of a parser state.
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

/// A parser value set.
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

/// A deparser.
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

/// A meter array.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MeterArray {
    /// Name.
    pub name: String,
    /// Unique among meters.
    pub id: u32,
    /// Where it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_info: Option<SourceInfo>,
    /// Attached to the entries of a table.
    #[serde(default)]
    pub is_direct: bool,
    /// Number of meters.
    #[serde(default)]
    pub size: u32,
    /// Number of rates (2 for RFC 2698).
    #[serde(default)]
    pub rate_count: u32,
    /// What a token stands for.
    #[serde(rename = "type")]
    pub kind: MeterKind,
    /// Table of a direct meter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
    /// Where a direct meter leaves the colour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_target: Option<FieldRef>,
}

/// What a meter counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeterKind {
    /// Bytes.
    Bytes,
    /// Packets.
    Packets,
}

/// A counter array.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CounterArray {
    /// Name.
    pub name: String,
    /// Unique among counters.
    pub id: u32,
    /// Where it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_info: Option<SourceInfo>,
    /// Number of counters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u32>,
    /// Attached to the entries of a table.
    #[serde(default)]
    pub is_direct: bool,
    /// Table of a direct counter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
}

/// A register array.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegisterArray {
    /// Name.
    pub name: String,
    /// Unique among registers.
    pub id: u32,
    /// Where it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_info: Option<SourceInfo>,
    /// Number of cells.
    pub size: u32,
    /// Width of a cell.
    pub bitwidth: u32,
}

/// A named hash input with its algorithm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Calculation {
    /// Name.
    pub name: String,
    /// Unique among calculations.
    pub id: u32,
    /// Where it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_info: Option<SourceInfo>,
    /// `csum16`, `crc32` ...
    pub algo: String,
    /// What is hashed, in order.
    pub input: Vec<CalculationInput>,
}

/// One piece of a hash input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalculationInput {
    /// `field`, `hexstr`, `header` or `payload`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the kind asks for.
    #[serde(default)]
    pub value: serde_json::Value,
    /// Width of a constant in bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitwidth: Option<u32>,
}

/// An action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// Name; several actions may share one (copies of one source action).
    pub name: String,
    /// Unique among actions.
    pub id: u32,
    /// Parameters.
    pub runtime_data: Vec<RuntimeData>,
    /// Body.
    pub primitives: Vec<PrimitiveCall>,
}

/// A parameter of an action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RuntimeData {
    /// Name.
    pub name: String,
    /// Width.
    pub bitwidth: u32,
}

/// A primitive with its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrimitiveCall {
    /// Name.
    pub op: String,
    /// Arguments.
    #[serde(default)]
    pub parameters: Vec<Value>,
    /// Where it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_info: Option<SourceInfo>,
}

/// A match-action control flow.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pipeline {
    /// `ingress` or `egress`.
    pub name: String,
    /// Unique among pipelines.
    pub id: u32,
    /// Where it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_info: Option<SourceInfo>,
    /// First node: a table, a conditional or an action call.
    pub init_table: Option<String>,
    /// Tables.
    pub tables: Vec<Table>,
    /// Action profiles and selectors.
    #[serde(default)]
    pub action_profiles: Vec<ActionProfile>,
    /// Branches.
    #[serde(default)]
    pub conditionals: Vec<Conditional>,
    /// Direct action calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub action_calls: Vec<ActionCall>,
}

/// An action profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActionProfile {
    /// Name.
    pub name: String,
    /// Unique among action profiles.
    pub id: u32,
    /// Where it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_info: Option<SourceInfo>,
    /// Present when groups of members are chosen from by a hash.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// Largest number of members.
    #[serde(default)]
    pub max_size: u32,
}

/// How a member of a group is chosen.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Selector {
    /// Hash.
    pub algo: String,
    /// Fields hashed.
    pub input: Vec<Value>,
}

/// How a table or key compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MatchType {
    /// Validity of a header.
    Valid,
    /// Equal.
    Exact,
    /// Longest prefix.
    Lpm,
    /// Under a mask (`optional` keys too).
    Ternary,
    /// Within bounds.
    Range,
}

/// How a table holds its actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TableType {
    /// In the entry.
    Simple,
    /// In members of an action profile.
    Indirect,
    /// In members or groups of an action selector.
    IndirectWs,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Name.
    pub name: String,
    /// Unique among tables.
    pub id: u32,
    /// Where it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_info: Option<SourceInfo>,
    /// Key.
    pub key: Vec<KeyElement>,
    /// How the table as a whole matches.
    pub match_type: MatchType,
    /// How it holds actions.
    #[serde(rename = "type")]
    pub kind: TableType,
    /// Profile of an indirect table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action_profile: Option<String>,
    /// Largest number of entries.
    pub max_size: u32,
    /// Has direct counters.
    #[serde(default)]
    pub with_counters: bool,
    /// Entries age.
    #[serde(default)]
    pub support_timeout: bool,
    /// Its direct meter, if any.
    pub direct_meters: Option<String>,
    /// Ids of the actions, in the order of `actions`.
    #[serde(default)]
    pub action_ids: Vec<u32>,
    /// Names of the actions.
    pub actions: Vec<String>,
    /// Next node where no action decides.
    #[serde(default)]
    pub base_default_next: Option<String>,
    /// Next node by action name, or by `__HIT__` and `__MISS__`.
    pub next_tables: IndexMap<String, Option<String>>,
    /// Initial default action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_entry: Option<DefaultEntry>,
    /// Entries of the program; the table is then constant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<Vec<Entry>>,
}

/// One element of a table key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyElement {
    /// How it compares.
    pub match_type: MatchType,
    /// Its name towards control planes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A field, or a header where `match_type` is `valid`.
    pub target: KeyTarget,
    /// Static mask over the field.
    #[serde(default)]
    pub mask: Option<HexStr>,
}

/// What a key element looks at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum KeyTarget {
    /// A field.
    Field(FieldRef),
    /// A header, for its validity.
    Header(String),
    /// An expression, which p4c writes for keys like `h.stack[i].f`.
    Expression(Value),
}

/// The default action of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DefaultEntry {
    /// Action.
    pub action_id: u32,
    /// The action may not be replaced.
    #[serde(default)]
    pub action_const: bool,
    /// Arguments.
    #[serde(default)]
    pub action_data: Vec<HexStr>,
    /// The arguments may not be replaced.
    #[serde(default)]
    pub action_entry_const: bool,
}

/// An entry of the program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Where it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_info: Option<SourceInfo>,
    /// Key.
    pub match_key: Vec<EntryKey>,
    /// Action and arguments.
    pub action_entry: ActionEntry,
    /// Smaller wins; only for ternary and range tables.
    #[serde(default)]
    pub priority: i64,
}

/// One element of the key of an entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "match_type", rename_all = "snake_case")]
pub enum EntryKey {
    /// Header validity.
    Valid {
        /// Expected validity.
        key: bool,
    },
    /// Equal.
    Exact {
        /// Value.
        key: HexStr,
    },
    /// Prefix.
    Lpm {
        /// Value.
        key: HexStr,
        /// Bits of it that count.
        prefix_length: u32,
    },
    /// Under a mask.
    Ternary {
        /// Value.
        key: HexStr,
        /// Bits of it that count.
        mask: HexStr,
    },
    /// Within bounds.
    Range {
        /// Smallest.
        start: HexStr,
        /// Largest.
        end: HexStr,
    },
}

/// Action and arguments of an entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActionEntry {
    /// Action.
    pub action_id: u32,
    /// Arguments.
    #[serde(default)]
    pub action_data: Vec<HexStr>,
}

/// A branch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Conditional {
    /// Name.
    pub name: String,
    /// Unique among conditionals.
    pub id: u32,
    /// Where it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_info: Option<SourceInfo>,
    /// Condition.
    pub expression: Value,
    /// Next node if it does not hold.
    pub false_next: Option<String>,
    /// Next node if it holds.
    pub true_next: Option<String>,
}

/// A direct action call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ActionCall {
    /// Name.
    pub name: String,
    /// Unique among action calls.
    pub id: u32,
    /// Where it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_info: Option<SourceInfo>,
    /// Action without parameters.
    pub action_id: u32,
    /// Next node.
    pub next_node: Option<String>,
}

/// A checksum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checksum {
    /// Name.
    pub name: String,
    /// Unique among checksums.
    pub id: u32,
    /// Where it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_info: Option<SourceInfo>,
    /// Field that holds it.
    pub target: FieldRef,
    /// Always `generic`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Name of the calculation.
    pub calculation: String,
    /// Compare after parsing.
    #[serde(default = "yes")]
    pub verify: bool,
    /// Write before deparsing.
    #[serde(default = "yes")]
    pub update: bool,
    /// Only if this holds.
    #[serde(default)]
    pub if_cond: Option<Value>,
}

fn yes() -> bool {
    true
}

/// An extern instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExternInstance {
    /// Name.
    pub name: String,
    /// Unique among extern instances.
    pub id: u32,
    /// Where it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_info: Option<SourceInfo>,
    /// Extern type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Constructor arguments.
    #[serde(default)]
    pub attribute_values: Vec<ExternAttribute>,
}

/// A constructor argument of an extern instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExternAttribute {
    /// Name.
    pub name: String,
    /// `hexstr`, `string` or `expression`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the kind asks for.
    pub value: serde_json::Value,
}

impl From<Expression> for Value {
    fn from(expression: Expression) -> Self {
        Value::Expression(Box::new(expression))
    }
}
