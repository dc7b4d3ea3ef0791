//! Intent files as transactions.

use std::collections::BTreeSet;

use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::{Name, OwnerName};
use vfabric_api::intent::Intent;
use vfabric_api::kind::{Key, Kind, Spec, VdcSpec};
use vfabric_api::service::{ApplyOptions, Change, Transaction};

use crate::model::Model;

/// Turns an intent file into changes, in an order in which they are possible: first deletions, users before the objects
/// that they use; then additions and changes.
///
/// # Errors
/// An object is named twice, or a vDC would be removed. If vDCs are to stay as they are: one does not exist, or the
/// file describes it.
pub(super) fn transaction_of(model: &Model, intent: Intent, options: ApplyOptions) -> Result<Transaction, ApiError> {
    let mut changes = Vec::new();
    let mut deletions = Vec::new();
    let mut vdcs = BTreeSet::new();
    for (i, mut vdc) in intent.vdcs.into_iter().enumerate() {
        let name = vdc.name.clone();
        let at = |path: &str| match path {
            "" => format!("vdcs[{i}]"),
            path => format!("vdcs[{i}].{path}"),
        };
        let twice = |path: &str, name: &Name| {
            let path = at(&if path.is_empty() {
                "name".to_owned()
            } else {
                path.to_owned()
            });
            ApiError::field(ErrorCode::Invalid, path, name, "an object that the file names once")
        };
        if !vdcs.insert(name.clone()) {
            return Err(twice("", &name));
        }
        let removals = std::mem::take(&mut vdc.remove);
        let specs = vdc.into_specs();
        let mut named: BTreeSet<(Kind, Name)> = BTreeSet::new();
        for (path, spec) in &specs {
            if !named.insert((spec.kind(), spec.name().clone())) {
                return Err(twice(path, spec.name()));
            }
        }
        for (r, removal) in removals.into_iter().enumerate() {
            let path = format!("remove[{r}]");
            if removal.kind == Kind::Vdc {
                let kinds: Vec<&str> = Kind::ALL.iter().skip(1).map(|kind| kind.word()).collect();
                let (field, expected) = (at(&format!("{path}.kind")), format!("one of {}", kinds.join(", ")));
                return Err(ApiError::field(ErrorCode::Invalid, field, removal.kind, expected));
            }
            if !named.insert((removal.kind, removal.name.clone())) {
                return Err(twice(&path, &removal.name));
            }
            let key = Key::new(name.clone(), removal.kind, removal.name);
            if model.stored(&key).is_some() {
                deletions.push((at(&path), Change::Delete(key)));
            }
        }
        if options.prune {
            let gone = pruned(model, &name, &named, options.origin.owner.as_ref()).into_iter();
            deletions.extend(gone.map(|key| (at(""), Change::Delete(key))));
        }
        for (path, spec) in specs {
            if options.keep_vdcs
                && let Spec::Vdc(spec) = &spec
            {
                kept(model, &at(""), spec)?;
                continue;
            }
            changes.push((at(&path), Change::Put(name.clone(), spec)));
        }
    }
    // Over all vDCs: kinds whose objects use others go first.
    deletions.sort_by_key(|(_, change)| match change {
        Change::Delete(key) => std::cmp::Reverse(key.kind),
        _ => std::cmp::Reverse(Kind::Vdc),
    });
    deletions.extend(changes);
    Ok(Transaction {
        changes: deletions,
        dry_run: options.dry_run,
        origin: options.origin,
        ..Transaction::default()
    })
}

/// A vDC that stays as it is.
fn kept(model: &Model, path: &str, spec: &VdcSpec) -> Result<(), ApiError> {
    if model.vdc(&spec.name).is_none() {
        return Err(ApiError::not_found(Key::vdc(spec.name.clone())));
    }
    if *spec != VdcSpec::new(spec.name.clone()) {
        let expected = "only its name and its objects: `keep_vdcs` leaves the vDC itself as it is";
        return Err(ApiError::field(ErrorCode::Invalid, path, &spec.name, expected));
    }
    Ok(())
}

/// Objects of an owner in a vDC that the file does not name; without an owner, those that nobody owns.
fn pruned(model: &Model, vdc: &Name, named: &BTreeSet<(Kind, Name)>, owner: Option<&OwnerName>) -> Vec<Key> {
    let Some(held) = model.vdc(vdc) else {
        return Vec::new();
    };
    let of_kind = |kind: &Kind| {
        let kind = *kind;
        let gone = held
            .names(kind)
            .filter(|name| !named.contains(&(kind, (*name).clone())));
        let keys = gone.map(|name| Key::new(vdc.clone(), kind, name.clone()));
        keys.filter(|key| model.owner_of(key) == owner).collect::<Vec<_>>()
    };
    Kind::ALL.iter().rev().flat_map(of_kind).collect()
}
