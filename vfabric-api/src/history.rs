//! What changed, when, by whom and why.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::kind::Key;
use crate::labels::{Labels, Selector};
use crate::plan::ObjectChange;
use crate::service::Origin;

/// One revision: a transaction that was committed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Revision {
    /// Its number.
    pub revision: u64,
    /// When it was committed, in milliseconds since 1970 (UTC), by the controller's clock.
    pub time_ms: u64,
    /// The caller, and the reason.
    #[serde(flatten)]
    pub origin: Origin,
    /// What it did to tenants' objects.
    #[serde(flatten)]
    pub objects: Objects,
    /// Objects of the inventory that it changed, as in `host host1`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inventory: Vec<String>,
}

/// The changes of tenants' objects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Objects {
    /// New objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub created: Vec<Key>,
    /// Objects whose content changed, field by field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub updated: Vec<ObjectChange>,
    /// Removed objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deleted: Vec<Key>,
    /// Labels of objects that have or had any, before and after. Used by selectors, not shown.
    #[serde(skip)]
    pub labels: BTreeMap<Key, [Labels; 2]>,
}

impl Objects {
    /// Leaves out objects.
    pub fn retain(&mut self, keep: impl Fn(&Self, &Key) -> bool) {
        let labels = std::mem::take(&mut self.labels);
        let with_labels = Self {
            labels,
            ..Self::default()
        };
        self.created.retain(|key| keep(&with_labels, key));
        self.updated.retain(|change| keep(&with_labels, &change.key));
        self.deleted.retain(|key| keep(&with_labels, key));
        self.labels = with_labels.labels;
    }

    /// Whether labels of an object meet the requirements on labels, before or after.
    pub fn is_selected(&self, key: &Key, selector: &Selector) -> bool {
        let none = Labels::new();
        match self.labels.get(key) {
            Some(labels) => labels.iter().any(|labels| selector.selects_labels(labels)),
            None => selector.selects_labels(&none),
        }
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.created.is_empty() && self.updated.is_empty() && self.deleted.is_empty()
    }
}

/// The last revisions, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct History {
    /// The revisions, without those that changed only the controller's own records.
    pub items: Vec<Revision>,
    /// Give this as `before` to get the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// The oldest revision that is still known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oldest: Option<u64>,
}

/// Revisions in order, for callers that follow the history.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// The revisions.
    pub items: Vec<Arc<Revision>>,
    /// The last revision that was examined; later ones are not included.
    pub upto: u64,
}

/// How the intent of two revisions differs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Diff {
    /// The earlier revision.
    pub from: u64,
    /// The later revision.
    pub to: u64,
    /// The changes of tenants' objects from one to the other.
    #[serde(flatten)]
    pub objects: Objects,
    /// Objects of the inventory that differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inventory: Vec<String>,
}
