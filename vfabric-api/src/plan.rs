//! What a transaction would change, before it happens, and what one has changed, in the same form.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::ident::Name;
use crate::kind::Key;

/// What a transaction would do: `?dry_run=true`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Plan {
    /// Objects whose content changes, field by field. New and deleted ones are only named, in the transaction's own
    /// lists.
    pub changes: Vec<ObjectChange>,
    /// The entities that each device would have to hold, or no longer hold; devices without changes are left out.
    pub devices: Vec<DevicePlan>,
    /// Objects that would have to wait for a number that still has another meaning somewhere, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits: Vec<String>,
    /// Entities that devices would also have to hold once those objects no longer wait.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub later: Vec<DevicePlan>,
}

/// An object whose content changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObjectChange {
    /// The object.
    pub key: Key,
    /// Its fields that change.
    pub fields: Vec<FieldChange>,
}

/// A field before and after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldChange {
    /// Its path, as in `subnets[1].gateway`.
    pub field: String,
    /// The earlier value; absent: there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    /// The later value; absent: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

/// What changes on a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DevicePlan {
    /// The switch or host.
    pub device: Name,
    /// Entities that are added, removed or changed, by table and key.
    pub entities: Vec<EntityChange>,
    /// For a switch: tables whose number of entries changes, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<TableChange>,
}

/// How full a table of a switch becomes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TableChange {
    /// The table.
    pub table: String,
    /// Entries that it should hold now.
    pub before: usize,
    /// Entries that it would then have to hold.
    pub after: usize,
    /// Entries that fit into it.
    pub size: usize,
}

/// An entity before and after, in the names of the P4 program or of the host's kernel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
pub struct EntityChange {
    /// Table, or kind of kernel object.
    pub table: String,
    /// Its key.
    pub key: String,
    /// Its action or content now; absent: it is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Its action or content afterwards; absent: it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Merges a patch into a document (RFC 7396, section 2).
pub fn merge(document: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *document = patch;
        return;
    };
    if !document.is_object() {
        *document = Value::Object(serde_json::Map::new());
    }
    let Value::Object(members) = document else { return };
    for (name, value) in patch {
        if value.is_null() {
            members.remove(&name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), value);
        }
    }
}

/// The fields in which two documents differ, in the order of their paths.
pub fn differences(before: &Value, after: &Value) -> Vec<FieldChange> {
    let mut found = Vec::new();
    compare(String::new(), Some(before), Some(after), &mut found);
    found
}

fn compare(path: String, before: Option<&Value>, after: Option<&Value>, found: &mut Vec<FieldChange>) {
    match (before, after) {
        (Some(Value::Object(b)), Some(Value::Object(a))) => {
            let names: std::collections::BTreeSet<&String> = b.keys().chain(a.keys()).collect();
            for name in names {
                let dot = if path.is_empty() { "" } else { "." };
                compare(format!("{path}{dot}{name}"), b.get(name), a.get(name), found);
            }
        }
        (Some(Value::Array(b)), Some(Value::Array(a))) => {
            for i in 0..b.len().max(a.len()) {
                compare(format!("{path}[{i}]"), b.get(i), a.get(i), found);
            }
        }
        (before, after) if before != after => found.push(FieldChange {
            field: path,
            before: before.cloned(),
            after: after.cloned(),
        }),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patches_merge_as_in_the_rfc() {
        // RFC 7396, appendix A.
        for (document, patch, expected) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut merged = document.clone();
            merge(&mut merged, patch.clone());
            assert_eq!(merged, expected, "{document} with {patch}");
        }
    }

    #[test]
    fn fields_are_named_by_their_paths() {
        let before = json!({"name": "n", "subnets": [{"cidr": "10.0.0.0/24"}], "mtu": 1500});
        let after = json!({"name": "n", "subnets": [{"cidr": "10.0.0.0/23"}, {"cidr": "fd00::/64"}], "vni": 7});
        let changes = differences(&before, &after);
        let found: Vec<(&str, bool, bool)> = changes
            .iter()
            .map(|c| (c.field.as_str(), c.before.is_some(), c.after.is_some()))
            .collect();
        let expected = [
            ("mtu", true, false),
            ("subnets[0].cidr", true, true),
            ("subnets[1]", false, true),
            ("vni", false, true),
        ];
        assert_eq!(found, expected);
        assert_eq!(differences(&after, &after), []);
    }
}
