//! Headers: layouts, instances, stacks, unions.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::Value;

/// The layout of a header or metadata struct (section `header_types`).
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

/// A field of a header type (section `header_types`): `[name, bits, signed]`, or `[name, "*"]` for a variable field.
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
    /// This many bits.
    Bits(u32),
    /// The width is known only when the header is extracted.
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

/// A header or metadata instance (section `headers`).
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

/// A header stack (section `header_stacks`).
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
    /// Ids of its elements, by index.
    pub header_ids: Vec<u32>,
}

/// The layout of a header union (section `header_union_types`): member name and header type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeaderUnionType {
    /// Name.
    pub name: String,
    /// Unique among union types.
    pub id: u32,
    /// Members: name and header type.
    pub headers: Vec<(String, String)>,
}

/// A header union (section `header_unions`): at most one member is valid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeaderUnion {
    /// Name.
    pub name: String,
    /// Unique among unions.
    pub id: u32,
    /// Name of its type.
    pub union_type: String,
    /// Ids of its members, in the order of the type.
    pub header_ids: Vec<u32>,
    /// Hidden from control planes.
    #[serde(default)]
    pub pi_omit: bool,
}

/// A stack of header unions (section `header_union_stacks`).
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
    /// Ids of its elements, by index.
    pub header_union_ids: Vec<u32>,
}
