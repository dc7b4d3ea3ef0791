//! Objects besides the code: counters, meters, registers, calculations and checksums, digests, field lists,
//! externs.

use serde::{Deserialize, Serialize};

use crate::{FieldRef, SourceInfo, Value};

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

/// A digest (section `learn_lists`).
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

/// A meter array (section `meter_arrays`).
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
    /// The unit of a token.
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

/// A counter array (section `counter_arrays`).
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

/// A register array (section `register_arrays`).
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

/// A named hash input with its algorithm (section `calculations`).
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
    /// The value; its form depends on the kind.
    #[serde(default)]
    pub value: serde_json::Value,
    /// Width of a constant in bits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitwidth: Option<u32>,
}

/// A checksum (section `checksums`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Checksum {
    /// Name.
    pub name: String,
    /// Unique among checksums.
    pub id: u32,
    /// Where it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_info: Option<SourceInfo>,
    /// Field that holds the checksum.
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
    /// The checksum is used only if this condition holds.
    #[serde(default)]
    pub if_cond: Option<Value>,
}

fn yes() -> bool {
    true
}

/// An extern instance (section `extern_instances`).
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
    /// The value; its form depends on the kind.
    pub value: serde_json::Value,
}
