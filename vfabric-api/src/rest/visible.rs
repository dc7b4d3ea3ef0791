//! Limits responses about several vDCs to what a caller may see.

use super::guard::{EDIT, permit, too_little};
use super::{PAGE_LIMIT, Service};
use crate::access::{Caller, Level, Needs};
use crate::error::{ApiError, ErrorCode};
use crate::history::{Diff, History, Objects, Revision};
use crate::ident::Name;
use crate::intent::Intent;
use crate::kind::{Key, Kind, View};
use crate::labels::Selector;
use crate::service::Page;

/// Whether there is nothing that a caller may not see.
fn sees_all(caller: &Caller) -> bool {
    caller.grants.fabric().is_some()
}

/// The vDCs that a caller has a role in, or all.
pub(super) async fn vdcs(
    service: &Service,
    caller: &Caller,
    selector: &Selector,
    after: Option<&str>,
    limit: usize,
) -> Result<Page<View>, ApiError> {
    if sees_all(caller) {
        return service.list(Kind::Vdc, None, selector, after, limit).await;
    }
    let wrong = |e: crate::ident::IdentError| ApiError::field(ErrorCode::Malformed, "after", e.value, e.expected);
    let after: Option<Name> = after.map(str::parse).transpose().map_err(wrong)?;
    let mut items: Vec<View> = Vec::new();
    let mut last = None;
    for vdc in caller
        .grants
        .vdcs()
        .filter(|vdc| after.as_ref().is_none_or(|after| *vdc > after))
    {
        if items.len() == limit {
            return Ok(Page { items, next: last });
        }
        match service.get(&Key::vdc(vdc.clone())).await {
            Ok(view) if view.is_selected(selector) => items.push(view),
            Ok(_) => {}
            // Deleted, while the role is still there.
            Err(error) if error.code == ErrorCode::NotFound => continue,
            Err(error) => return Err(error),
        }
        last = Some(vdc.to_string());
    }
    Ok(Page { items, next: None })
}

fn keep(caller: &Caller, vdc: Option<&Name>, selector: &Selector, objects: &mut Objects) {
    objects.retain(|objects, key| {
        let is_seen = caller.grants.vdc(&key.vdc).is_some() && vdc.is_none_or(|vdc| *vdc == key.vdc);
        is_seen && (selector.is_empty() || objects.is_selected(key, selector))
    });
}

/// The part of a revision that a caller may see: of one vDC if one is named, of objects with selected labels. None if
/// nothing is left.
pub(super) fn revision_of(
    caller: &Caller,
    vdc: Option<&Name>,
    selector: &Selector,
    revision: &Revision,
) -> Option<Revision> {
    let mut revision = revision.clone();
    if sees_all(caller) && vdc.is_none() && selector.is_empty() {
        return Some(revision);
    }
    keep(caller, vdc, selector, &mut revision.objects);
    revision.inventory.clear();
    (!revision.objects.is_empty()).then_some(revision)
}

/// One revision.
pub(super) async fn revision(service: &Service, caller: &Caller, number: u64) -> Result<Revision, ApiError> {
    let found = service.revision(number).await;
    match found
        .as_ref()
        .map(|revision| revision_of(caller, None, &Selector::default(), revision))
    {
        Ok(Some(revision)) => Ok(revision),
        Err(error) if sees_all(caller) => Err(error.clone()),
        _ => Err(ApiError::not_found(format_args!("revision {number}"))),
    }
}

/// A page of the history. For a caller that sees only a part, a page may have fewer items than requested although more
/// follow, because the work for a page is the same for every caller.
pub(super) async fn history(
    service: &Service,
    caller: &Caller,
    vdc: Option<&Name>,
    before: Option<u64>,
    limit: usize,
) -> Result<History, ApiError> {
    if vdc.is_some() {
        permit(caller, Needs::Vdc(Level::View), vdc)?;
    }
    if sees_all(caller) && vdc.is_none() {
        return service.history(before, limit).await;
    }
    let mut history = service.history(before, PAGE_LIMIT).await?;
    let mut seen: Vec<Revision> = history
        .items
        .iter()
        .filter_map(|r| revision_of(caller, vdc, &Selector::default(), r))
        .collect();
    if seen.len() > limit {
        seen.truncate(limit);
        history.next = seen.last().map(|r| r.revision);
    }
    history.items = seen;
    Ok(history)
}

/// The part of a comparison that a caller may see.
pub(super) fn diff(caller: &Caller, mut diff: Diff) -> Diff {
    if !sees_all(caller) {
        keep(caller, None, &Selector::default(), &mut diff.objects);
        diff.inventory.clear();
    }
    diff
}

/// Whether a caller may apply an intent file: it may edit each vDC that is named.
pub(super) fn may_apply(caller: &Caller, intent: &Intent) -> Result<(), ApiError> {
    intent
        .vdcs
        .iter()
        .try_for_each(|vdc| permit(caller, EDIT, Some(&vdc.name)))
}

/// Whether a caller may roll back: one vDC that it may edit; everything, if it may do everything.
pub(super) fn may_roll_back(caller: &Caller, vdc: Option<&Name>) -> Result<(), ApiError> {
    let needs = match vdc {
        Some(_) => EDIT,
        None => Needs::Fabric(Level::Admin),
    };
    if vdc.is_none() && caller.grants.fabric() < Some(Level::Admin) {
        let mut error = too_little(needs, None);
        error
            .detail
            .push_str("; a role of a vDC can roll back that vDC: name it with `vdc`");
        return Err(error);
    }
    permit(caller, needs, vdc)
}
