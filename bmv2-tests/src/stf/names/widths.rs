//! Tables and value sets of the document, with the widths of what they compare.

use bmv2_json::{Expression, FieldRef, FieldWidths, KeyTarget, Program, Value};

use super::{KeyField, Table, Wrong};

/// Value sets with the widths of what the parser compares with them.
pub(super) fn value_sets(program: &Program, widths: &FieldWidths<'_>) -> Result<Vec<(String, Vec<u32>)>, Wrong> {
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

pub(super) fn table_names(table: &bmv2_json::Table, widths: &FieldWidths<'_>) -> Result<Table, Wrong> {
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

fn width(value: &Value, widths: &FieldWidths<'_>) -> Result<u32, Wrong> {
    Ok(match value {
        Value::Field(FieldRef(h, f)) | Value::StackField(FieldRef(h, f)) => {
            let found = widths.of(h, f);
            found.ok_or_else(|| format!("field {h}.{f} is unknown"))?
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
