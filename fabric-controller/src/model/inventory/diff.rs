//! The difference between a topology and the inventory, and the changes that remove it.

use serde_json::Value;
use vfabric_api::error::{ApiError, ErrorCode, FieldError};
use vfabric_api::inventory::{FieldChange, InventoryChange, Item, ItemAction, ItemChange, ItemKey, ItemState};
use vfabric_api::topology::Topology;

use super::stored::StoredItem;
use crate::model::Model;
use crate::model::change::Applied;

/// A change of an object, for people. The end of a leaving object is not mentioned, because its removal was.
pub(super) fn describe(key: &ItemKey, before: Option<&StoredItem>, next: Option<&StoredItem>) -> Option<ItemChange> {
    let action = match (before, next) {
        (None, _) => ItemAction::Added,
        (Some(before), None) if before.state() == ItemState::Leaving => return None,
        (Some(_), None) => ItemAction::Removed,
        (Some(_), Some(next)) if next.state() == ItemState::Leaving => ItemAction::Removed,
        (Some(_), Some(_)) => ItemAction::Changed,
    };
    let fields = match (action, before, next) {
        (ItemAction::Changed, Some(before), Some(next)) => fields(before, next),
        _ => Vec::new(),
    };
    Some(ItemChange {
        action,
        item: key.to_string(),
        fields,
    })
}

fn fields(before: &StoredItem, next: &StoredItem) -> Vec<FieldChange> {
    let mut all = Vec::new();
    differences(&spec(before), &spec(next), "", &mut all);
    let (from, to) = (before.state(), next.state());
    if from != to {
        all.push(FieldChange {
            field: "state".into(),
            from: from.to_string(),
            to: to.to_string(),
        });
    }
    all
}

/// Serializing these types cannot fail: their map keys are strings.
fn spec(item: &StoredItem) -> Value {
    match item {
        StoredItem::Fabric(spec) => serde_json::to_value(spec),
        StoredItem::Switch(s) => serde_json::to_value(&s.spec),
        StoredItem::Host(h) => serde_json::to_value(&h.spec),
        StoredItem::Link(l) => serde_json::to_value(&l.spec),
    }
    .unwrap_or_default()
}

fn differences(before: &Value, next: &Value, path: &str, all: &mut Vec<FieldChange>) {
    let plain = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    match (before, next) {
        (Value::Object(before), Value::Object(next)) => {
            for (name, value) in next {
                let dot = if path.is_empty() { "" } else { "." };
                let before = before.get(name).unwrap_or(&Value::Null);
                differences(before, value, &format!("{path}{dot}{name}"), all);
            }
            // Optional fields that were removed.
            for (name, value) in before.iter().filter(|(name, _)| !next.contains_key(*name)) {
                let dot = if path.is_empty() { "" } else { "." };
                differences(value, &Value::Null, &format!("{path}{dot}{name}"), all);
            }
        }
        (before, next) if before == next => {}
        (before, next) => all.push(FieldChange {
            field: path.to_owned(),
            from: plain(before),
            to: plain(next),
        }),
    }
}

impl Model {
    /// Changes the inventory to match a topology. Removals come first, because they make room.
    pub(super) fn import(&mut self, path: &str, topology: &Topology, applied: &mut Applied) -> Result<(), ApiError> {
        let dot = if path.is_empty() { "" } else { "." };
        let problems = topology.validate();
        if !problems.is_empty() {
            let list: Vec<String> = problems.iter().map(|p| format!("{}: {}", p.field, p.message)).collect();
            let mut error = ApiError::new(ErrorCode::Invalid, list.join("; "));
            let field = |p: vfabric_api::topology::Problem| FieldError {
                field: format!("{path}{dot}{}", p.field),
                value: String::new(),
                expected: p.message,
            };
            error.errors = problems.into_iter().map(field).collect();
            return Err(error);
        }
        for key in self.not_in(topology) {
            self.remove_item(&key, false, applied)?;
        }
        let fabric = (format!("{path}{dot}fabric"), Item::Fabric(topology.fabric.clone()));
        let switches = topology.switches.iter().enumerate();
        let switches = switches.map(|(i, s)| (format!("{path}{dot}switches[{i}]"), Item::Switch(s.clone())));
        let hosts = topology.hosts.iter().enumerate();
        let hosts = hosts.map(|(i, h)| (format!("{path}{dot}hosts[{i}]"), Item::Host(h.clone())));
        let links = topology.links.iter().enumerate();
        let links = links.map(|(i, l)| (format!("{path}{dot}links[{i}]"), Item::Link(l.clone())));
        for (path, item) in std::iter::once(fabric).chain(switches).chain(hosts).chain(links) {
            self.put_checked(&path, &item, applied)?;
        }
        Ok(())
    }

    /// Objects that a topology does not name, users before what they use.
    fn not_in(&self, topology: &Topology) -> Vec<ItemKey> {
        use std::collections::HashSet;
        let links: HashSet<ItemKey> = topology.links.iter().map(ItemKey::link).collect();
        let hosts: HashSet<_> = topology.hosts.iter().map(|h| &h.name).collect();
        let switches: HashSet<_> = topology.switches.iter().map(|s| &s.name).collect();
        let links_gone = self.fabric.links().map(|(_, l)| ItemKey::link(&l.spec));
        let links_gone = links_gone.filter(|key| !links.contains(key));
        let staying = |state: ItemState| state != ItemState::Leaving;
        let hosts_gone = self.fabric.hosts().filter(|(_, h)| staying(h.state));
        let hosts_gone = hosts_gone.filter(|(_, h)| !hosts.contains(&h.spec.name));
        let switches_gone = self.fabric.switches().filter(|(_, s)| staying(s.state));
        let switches_gone = switches_gone.filter(|(_, s)| !switches.contains(&s.spec.name));
        links_gone
            .chain(hosts_gone.map(|(_, h)| ItemKey::Host(h.spec.name.clone())))
            .chain(switches_gone.map(|(_, s)| ItemKey::Switch(s.spec.name.clone())))
            .collect()
    }

    /// What would change if the inventory were made to match a topology.
    ///
    /// # Errors
    /// The first object that cannot be changed in this way.
    pub fn differences(&mut self, topology: &Topology) -> Result<Vec<ItemChange>, ApiError> {
        let change = vfabric_api::service::Change::Inventory(InventoryChange::Import(Box::new(topology.clone())));
        let mut applied = self.apply(&[(String::new(), change)])?;
        let differences = std::mem::take(&mut applied.committed.inventory);
        self.undo(applied);
        Ok(differences)
    }
}
