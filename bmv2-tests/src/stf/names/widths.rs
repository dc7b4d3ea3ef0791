//! Tables and value sets of the document, with the widths of what they compare.

use std::collections::HashMap;

use bmv2_json::{Expression, FieldRef, FieldWidth, KeyTarget, Program, Value};

use super::{KeyField, Table, Wrong};

/// Widths of fields by header (or stack) and name.
pub(super) fn field_widths(program: &Program) -> HashMap<(&str, &str), u32> {
    let types: HashMap<&str, &bmv2_json::HeaderType> =
        program.header_types.iter().map(|t| (t.name.as_str(), t)).collect();
    let headers = program
        .headers
        .iter()
        .map(|h| (h.name.as_str(), h.header_type.as_str()));
    let stacks = program
        .header_stacks
        .iter()
        .map(|s| (s.name.as_str(), s.header_type.as_str()));
    let mut widths = HashMap::new();
    for (name, kind) in headers.chain(stacks) {
        for field in types.get(kind).into_iter().flat_map(|t| &t.fields) {
            if let FieldWidth::Bits(bits) = field.width {
                widths.insert((name, field.name.as_str()), bits);
            }
        }
    }
    widths
}

/// Value sets with the widths of what the parser compares with them.
pub(super) fn value_sets(
    program: &Program,
    widths: &HashMap<(&str, &str), u32>,
) -> Result<Vec<(String, Vec<u32>)>, Wrong> {
    let states = || program.parsers.iter().flat_map(|p| &p.parse_states);
    let mut out = Vec::new();
    for set in &program.parse_vsets {
        let uses_it = |t: &bmv2_json::Transition| {
            t.kind == bmv2_json::TransitionKind::ParseVset && t.value.as_deref() == Some(set.name.as_str())
        };
        let fields = match states().find(|s| s.transitions.iter().any(uses_it)) {
            Some(state) => state
                .transition_key
                .iter()
                .map(|k| width(k, widths))
                .collect::<Result<_, _>>()?,
            None => vec![set.compressed_bitwidth],
        };
        out.push((set.name.clone(), fields));
    }
    Ok(out)
}

pub(super) fn table_names(table: &bmv2_json::Table, widths: &HashMap<(&str, &str), u32>) -> Result<Table, Wrong> {
    let mut key = Vec::new();
    for element in &table.key {
        let (shown, width) = match &element.target {
            KeyTarget::Field(f) => (format!("{}.{}", f.0, f.1), width(&Value::Field(f.clone()), widths)?),
            KeyTarget::Header(h) => (format!("{h}.$valid$"), 1),
            KeyTarget::Expression(v) => (String::new(), width(v, widths)?),
        };
        let name = element.name.clone().unwrap_or(shown);
        key.push(KeyField {
            name,
            kind: element.match_type,
            width,
        });
    }
    Ok(Table {
        name: table.name.clone(),
        key,
        actions: table
            .actions
            .iter()
            .cloned()
            .zip(table.action_ids.iter().copied())
            .collect(),
        profile: table.action_profile.clone(),
    })
}

fn width(value: &Value, widths: &HashMap<(&str, &str), u32>) -> Result<u32, Wrong> {
    Ok(match value {
        Value::Field(FieldRef(_, f)) | Value::StackField(FieldRef(_, f)) if f == "$valid$" => 1,
        Value::Field(FieldRef(h, f)) | Value::StackField(FieldRef(h, f)) => {
            let found = widths.get(&(h.as_str(), f.as_str()));
            *found.ok_or_else(|| format!("field {h}.{f} is unknown"))?
        }
        Value::Lookahead(_, width) => *width,
        Value::Header(_) | Value::Bool(_) => 1,
        Value::Expression(e) => match e.as_ref() {
            Expression::Value(v) => width(v, widths)?,
            Expression::Op(op) => return Err(format!("the width of a key with `{}` is not known", op.op)),
        },
        other => return Err(format!("the width of {other:?} is not known")),
    })
}
