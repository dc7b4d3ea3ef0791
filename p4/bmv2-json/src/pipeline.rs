//! Pipelines: actions, tables with their entries, branches.

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use crate::{FieldRef, HexStr, SourceInfo, Value};

/// An action (section `actions`).
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

/// A match-action control flow (section `pipelines`).
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
    /// Present when a hash chooses a member of a group.
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
    /// Entries can time out.
    #[serde(default)]
    pub support_timeout: bool,
    /// Its direct meter, if any.
    pub direct_meters: Option<String>,
    /// Ids of the actions, in the order of `actions`.
    #[serde(default)]
    pub action_ids: Vec<u32>,
    /// Names of the actions.
    pub actions: Vec<String>,
    /// Next node for the actions that `next_tables` does not name.
    #[serde(default)]
    pub base_default_next: Option<String>,
    /// Next node by action name, or by `__HIT__` and `__MISS__`.
    pub next_tables: IndexMap<String, Option<String>>,
    /// Initial default action.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_entry: Option<DefaultEntry>,
    /// Entries that the program defines; the table is then constant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<Vec<Entry>>,
}

/// One element of a table key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyElement {
    /// How it compares.
    pub match_type: MatchType,
    /// Its name for control planes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A field, or a header where `match_type` is `valid`.
    pub target: KeyTarget,
    /// Static mask over the field.
    #[serde(default)]
    pub mask: Option<HexStr>,
}

/// The value that a key element compares.
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

/// An entry that the program defines (section "match-action entry format").
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
        /// Number of leading bits that are compared.
        prefix_length: u32,
    },
    /// Under a mask.
    Ternary {
        /// Value.
        key: HexStr,
        /// Which of its bits are compared.
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
