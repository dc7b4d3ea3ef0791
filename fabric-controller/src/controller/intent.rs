//! Intent files as transactions.

use std::collections::BTreeSet;

use vfabric_api::ident::Name;
use vfabric_api::intent::Intent;
use vfabric_api::kind::{Key, Kind, Spec};
use vfabric_api::service::{ApplyOptions, Change, Transaction};

use crate::model::Model;

/// An intent file as changes, in the order in which objects need each other.
pub(super) fn transaction_of(model: &Model, intent: Intent, options: ApplyOptions) -> Transaction {
    let mut changes = Vec::new();
    let mut deletions = Vec::new();
    for (i, vdc) in intent.vdcs.into_iter().enumerate() {
        let name = vdc.name.clone();
        let specs = vdc.into_specs();
        if options.prune {
            let gone = pruned(model, &name, &specs).into_iter();
            deletions.extend(gone.map(|key| (format!("vdcs[{i}]"), Change::Delete(key))));
        }
        for (path, spec) in specs {
            let dot = if path.is_empty() { "" } else { "." };
            changes.push((format!("vdcs[{i}]{dot}{path}"), Change::Put(name.clone(), spec)));
        }
    }
    deletions.extend(changes);
    Transaction {
        changes: deletions,
        dry_run: options.dry_run,
        origin: options.origin,
        ..Transaction::default()
    }
}

/// What a vDC holds and the file does not name: users before what they use.
fn pruned(model: &Model, vdc: &Name, specs: &[(String, Spec)]) -> Vec<Key> {
    let Some(held) = model.vdc(vdc) else {
        return Vec::new();
    };
    let named: BTreeSet<(Kind, &Name)> = specs.iter().map(|(_, spec)| (spec.kind(), spec.name())).collect();
    let of_kind = |kind: &Kind| {
        let kind = *kind;
        let gone = held.names(kind).filter(|name| !named.contains(&(kind, *name)));
        gone.map(|name| Key::new(vdc.clone(), kind, name.clone()))
            .collect::<Vec<_>>()
    };
    Kind::ALL.iter().rev().flat_map(of_kind).collect()
}
