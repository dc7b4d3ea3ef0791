//! Compares control-plane files with those of another compiler, field by field.
//!
//! Both sides are protobuf messages: ours as the compiler built it, the other's as a published text file. They are
//! walked together through reflection, so that no field can be forgotten here, and every place where they differ is
//! one [`Difference`].
//!
//! Three things do not count as differences, because the P4Runtime specification gives them no meaning:
//! - the order of lists whose elements are found by name or id (tables, actions, match fields, parameters ...),
//! - leading zeros of byte strings (section "Bytestrings": both forms are the same value, the shorter is canonical),
//! - a message without any field set against its absence.

use anyhow::{Context, Result};
use p4runtime_proto::p4::config::v1::P4Info;
use p4runtime_proto::p4::v1::WriteRequest;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, MapKey, ReflectMessage, Value};
use std::collections::BTreeMap;
use std::fmt;

/// One field that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The place, such as `tables[ingress.route].match_fields[hdr.ip.dst].bitwidth`.
    pub path: String,
    /// Our value; `None` if the field or element is missing.
    pub ours: Option<String>,
    /// The other file's value.
    pub expected: Option<String>,
}

impl Difference {
    /// The path without the names and indices of elements: `tables.match_fields.bitwidth`. Equal kinds of differences
    /// in different programs share it.
    pub fn kind(&self) -> String {
        let mut depth = 0usize;
        let outside = self.path.chars().filter(|c| match c {
            '[' => {
                depth += 1;
                false
            }
            ']' => {
                depth = depth.saturating_sub(1);
                false
            }
            _ => depth == 0,
        });
        outside.collect()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |v: &Option<String>| v.clone().unwrap_or_else(|| "nothing".into());
        write!(
            f,
            "{}: {}, expected {}",
            self.path,
            show(&self.ours),
            show(&self.expected)
        )
    }
}

/// The differences between our P4Info and the text of a `.p4info.txtpb` file.
///
/// # Errors
/// The text is no P4Info in protobuf's text format.
pub fn p4info(ours: &P4Info, expected: &str) -> Result<Vec<Difference>> {
    compare("p4.config.v1.P4Info", ours, expected)
}

/// The differences between our entries and the text of an `.entries.txtpb` file.
///
/// # Errors
/// The text is not a `WriteRequest` in protobuf's text format.
pub fn entries(ours: &WriteRequest, expected: &str) -> Result<Vec<Difference>> {
    compare("p4.v1.WriteRequest", ours, expected)
}

fn compare(type_name: &str, ours: &impl Message, expected: &str) -> Result<Vec<Difference>> {
    let pool = DescriptorPool::decode(p4runtime_proto::FILE_DESCRIPTOR_SET)?;
    let descriptor = pool
        .get_message_by_name(type_name)
        .with_context(|| format!("no descriptor of {type_name}"))?;
    let expected = DynamicMessage::parse_text_format(descriptor.clone(), expected)?;
    let ours = DynamicMessage::decode(descriptor, ours.encode_to_vec().as_slice())?;
    let mut found = Vec::new();
    messages("", &ours, &expected, &mut found);
    Ok(found)
}

fn messages(path: &str, ours: &DynamicMessage, expected: &DynamicMessage, found: &mut Vec<Difference>) {
    for field in ours.descriptor().fields() {
        let path = if path.is_empty() {
            field.name().to_string()
        } else {
            format!("{path}.{}", field.name())
        };
        values(
            &path,
            &field,
            present(ours, &field).as_ref(),
            present(expected, &field).as_ref(),
            found,
        );
    }
}

/// The field's value; `None` if it is not set (or, without presence, has its default). Inside a `oneof` even an empty
/// message has a meaning: it selects the case.
fn present(message: &DynamicMessage, field: &FieldDescriptor) -> Option<Value> {
    let value = message
        .has_field(field)
        .then(|| message.get_field(field).into_owned())?;
    let empty = field.containing_oneof().is_none() && value.as_message().is_some_and(is_empty);
    (!empty).then_some(value)
}

fn is_empty(m: &DynamicMessage) -> bool {
    m.fields().next().is_none()
}

fn values(
    path: &str,
    field: &FieldDescriptor,
    ours: Option<&Value>,
    expected: Option<&Value>,
    found: &mut Vec<Difference>,
) {
    match (ours, expected) {
        (None, None) => {}
        (Some(Value::Message(a)), Some(Value::Message(b))) => messages(path, a, b, found),
        (a, b) if field.is_map() => maps(path, field, a, b, found),
        (a, b) if field.is_list() => lists(path, field, items(a), items(b), found),
        (Some(a), Some(b)) if same(a, b) => {}
        (a, b) => found.push(Difference {
            path: path.to_string(),
            ours: a.map(|v| show(field, v)),
            expected: b.map(|v| show(field, v)),
        }),
    }
}

fn items(list: Option<&Value>) -> &[Value] {
    list.and_then(Value::as_list).unwrap_or_default()
}

/// Scalars; byte strings count as equal if their numbers are.
fn same(a: &Value, b: &Value) -> bool {
    fn number(b: &[u8]) -> &[u8] {
        b.iter().position(|b| *b != 0).and_then(|i| b.get(i..)).unwrap_or(&[])
    }
    match (a, b) {
        (Value::Bytes(a), Value::Bytes(b)) => number(a) == number(b),
        _ => a == b,
    }
}

fn maps(
    path: &str,
    field: &FieldDescriptor,
    ours: Option<&Value>,
    expected: Option<&Value>,
    found: &mut Vec<Difference>,
) {
    let name = |k: &MapKey| match k {
        MapKey::String(s) => s.clone(),
        other => format!("{other:?}"),
    };
    let mut all: BTreeMap<String, (Option<&Value>, Option<&Value>)> = BTreeMap::new();
    for (k, v) in ours.and_then(Value::as_map).into_iter().flatten() {
        all.entry(name(k)).or_default().0 = Some(v);
    }
    for (k, v) in expected.and_then(Value::as_map).into_iter().flatten() {
        all.entry(name(k)).or_default().1 = Some(v);
    }
    for (k, (a, b)) in all {
        element(&format!("{path}[{k}]"), field, a, b, found);
    }
}

fn lists(path: &str, field: &FieldDescriptor, ours: &[Value], expected: &[Value], found: &mut Vec<Difference>) {
    if let (Some(a), Some(b)) = (by_identity(ours), by_identity(expected)) {
        for (k, v) in &a {
            element(&format!("{path}[{k}]"), field, Some(v), b.get(k).copied(), found);
        }
        for (k, v) in b.iter().filter(|(k, _)| !a.contains_key(*k)) {
            element(&format!("{path}[{k}]"), field, None, Some(v), found);
        }
        return;
    }
    for i in 0..ours.len().max(expected.len()) {
        element(&format!("{path}[{i}]"), field, ours.get(i), expected.get(i), found);
    }
}

fn element(
    path: &str,
    field: &FieldDescriptor,
    ours: Option<&Value>,
    expected: Option<&Value>,
    found: &mut Vec<Difference>,
) {
    match (ours, expected) {
        (Some(Value::Message(a)), Some(Value::Message(b))) => messages(path, a, b, found),
        (Some(a), Some(b)) if same(a, b) => {}
        (a, b) => found.push(Difference {
            path: path.to_string(),
            ours: a.map(|v| show(field, v)),
            expected: b.map(|v| show(field, v)),
        }),
    }
}

/// Elements by their identity; `None` if one has no identity or two share one.
fn by_identity(list: &[Value]) -> Option<BTreeMap<String, &Value>> {
    let mut out = BTreeMap::new();
    for v in list {
        if out.insert(identity(v.as_message()?)?, v).is_some() {
            return None;
        }
    }
    Some(out)
}

/// The name in the preamble, the element's own name, or its id.
fn identity(m: &DynamicMessage) -> Option<String> {
    if let Some(p) = m.get_field_by_name("preamble") {
        return Some(p.as_message()?.get_field_by_name("name")?.as_str()?.to_string());
    }
    if let Some(name) = m
        .get_field_by_name("name")
        .and_then(|n| n.as_str().map(str::to_string))
        .filter(|n| !n.is_empty())
    {
        return Some(name);
    }
    let id = |name: &str| {
        m.get_field_by_name(name)
            .and_then(|v| v.as_u32())
            .filter(|id| *id != 0)
            .map(|id| id.to_string())
    };
    ["id", "field_id", "param_id"].into_iter().find_map(id)
}

fn show(field: &FieldDescriptor, v: &Value) -> String {
    match v {
        Value::EnumNumber(n) => match field.kind() {
            prost_reflect::Kind::Enum(e) => e.get_value(*n).map_or_else(|| n.to_string(), |v| v.name().to_string()),
            _ => n.to_string(),
        },
        Value::Message(m) => format!("{{{}}}", m.to_text_format()),
        Value::String(s) => format!("{s:?}"),
        Value::Bytes(b) => format!("0x{}", b.iter().map(|b| format!("{b:02x}")).collect::<String>()),
        Value::Bool(b) => b.to_string(),
        Value::I32(n) => n.to_string(),
        Value::I64(n) => n.to_string(),
        Value::U32(n) => n.to_string(),
        Value::U64(n) => n.to_string(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use p4runtime_proto::p4::config::v1::{MatchField, Preamble, Table};

    fn table(id: u32, name: &str, fields: &[(u32, &str, i32)]) -> Table {
        Table {
            preamble: Some(Preamble {
                id,
                name: name.into(),
                ..Default::default()
            }),
            match_fields: fields
                .iter()
                .map(|(id, name, bitwidth)| MatchField {
                    id: *id,
                    name: name.to_string(),
                    bitwidth: *bitwidth,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }
    }

    fn info(tables: Vec<Table>) -> P4Info {
        P4Info {
            tables,
            ..Default::default()
        }
    }

    const TEXT: &str = r#"
        # a comment, as published files have
        tables { preamble { id: 2 name: "b" } }
        tables { preamble { id: 1 name: "a" } match_fields { id: 1 name: "x" bitwidth: 8 } }
    "#;

    #[test]
    fn order_of_named_things_is_no_difference() {
        let ours = info(vec![table(1, "a", &[(1, "x", 8)]), table(2, "b", &[])]);
        assert_eq!(p4info(&ours, TEXT).unwrap(), []);
    }

    #[test]
    fn every_field_that_differs_is_named() {
        let ours = info(vec![
            table(1, "a", &[(1, "x", 9)]),
            table(3, "b", &[]),
            table(4, "c", &[]),
        ]);
        let found = p4info(&ours, TEXT).unwrap();
        let paths: Vec<&str> = found.iter().map(|d| d.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "tables[a].match_fields[x].bitwidth",
                "tables[b].preamble.id",
                "tables[c]"
            ]
        );
        assert_eq!(
            found[0].to_string(),
            "tables[a].match_fields[x].bitwidth: 9, expected 8"
        );
        assert_eq!(found[0].kind(), "tables.match_fields.bitwidth");
        assert_eq!(found[2].expected, None);
    }

    #[test]
    fn byte_strings_are_numbers() {
        let entry = |v: &str| {
            format!(
                "updates {{ type: INSERT entity {{ table_entry {{ table_id: 1 \
                 match {{ field_id: 1 exact {{ value: \"{v}\" }} }} }} }} }}"
            )
        };
        let pool = DescriptorPool::decode(p4runtime_proto::FILE_DESCRIPTOR_SET).unwrap();
        let descriptor = pool.get_message_by_name("p4.v1.WriteRequest").unwrap();
        let read = |text: &str| {
            let m = DynamicMessage::parse_text_format(descriptor.clone(), text).unwrap();
            WriteRequest::decode(m.encode_to_vec().as_slice()).unwrap()
        };
        let ours = read(&entry("\\001"));
        assert_eq!(entries(&ours, &entry("\\000\\001")).unwrap(), []);
        assert_eq!(entries(&ours, &entry("\\002")).unwrap().len(), 1);
        assert!(entries(&ours, "no such field: 1").is_err());
    }
}
