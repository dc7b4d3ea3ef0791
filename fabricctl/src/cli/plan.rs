//! Shows people what a change would do, or what it did.

use fabric_lab::say;
use std::io::IsTerminal as _;

use comfy_table::{Cell, Color};
use serde_json::Value;
use vfabric_api::plan::{DevicePlan, FieldChange, Plan};
use vfabric_api::service::Committed;

use super::show::{plain_or_lines, sign};

/// Prints objects that were added, changed and removed, field by field.
pub(super) fn objects(committed: &Committed) {
    let colour = std::io::stdout().is_terminal();
    let fields = |key| {
        let plan = committed.plan.iter().flat_map(|p| &p.changes);
        plan.filter(move |change| change.key == key)
            .flat_map(|change| &change.fields)
    };
    for key in &committed.created {
        say!("{} {key}", sign('+', colour));
    }
    for key in &committed.updated {
        say!("{} {key}", sign('~', colour));
        fields(key.clone()).for_each(|field| say!("    {}", words(field)));
    }
    for key in &committed.deleted {
        say!("{} {key}", sign('-', colour));
    }
    for item in &committed.inventory {
        say!("{item}");
    }
}

/// Prints the entities of a plan by device.
pub(super) fn devices(plan: &Plan) {
    let colour = std::io::stdout().is_terminal();
    device_tables(&plan.devices, colour, "");
    for wait in &plan.waits {
        say!("\n! {wait}");
    }
    device_tables(&plan.later, colour, ", later");
}

fn device_tables(devices: &[DevicePlan], colour: bool, when: &str) {
    for device in devices {
        let mut table = plain_or_lines();
        table.set_header(["", "TABLE", "KEY", "ACTION"]);
        let (mut come, mut change, mut go) = (0, 0, 0);
        for entity in &device.entities {
            let (what, count, action, shade) = match (&entity.before, &entity.after) {
                (Some(before), Some(after)) => ('~', &mut change, format!("{before}\n{after}"), Color::Yellow),
                (None, Some(after)) => ('+', &mut come, after.clone(), Color::Green),
                (before, None) => ('-', &mut go, before.clone().unwrap_or_default(), Color::Red),
            };
            *count += 1;
            let first = Cell::new(what);
            let first = if colour { first.fg(shade) } else { first };
            table.add_row([
                first,
                Cell::new(&entity.table),
                Cell::new(&entity.key),
                Cell::new(action),
            ]);
        }
        let name = &device.device;
        say!(
            "\n{name}{when}: {come} to add, {change} to change, {go} to remove\n{}",
            table.trim_fmt()
        );
        for room in &device.tables {
            let free = room.size.saturating_sub(room.after);
            say!(
                "  {}: {} -> {} entries, then {free} free",
                room.table,
                room.before,
                room.after
            );
        }
    }
}

/// A field in words.
pub(super) fn words(change: &FieldChange) -> String {
    let value = |value: &Option<Value>| match value {
        None => "(none)".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    format!(
        "{}: {} -> {}",
        change.field,
        value(&change.before),
        value(&change.after)
    )
}
