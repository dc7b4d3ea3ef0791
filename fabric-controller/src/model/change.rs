//! Transactions: checked and carried out change by change, undone if one is refused.
//!
//! **Owners.** An object may have an owner: a file or a tool. Others can change its content only by
//! force:
//!
//! | the object's owner | the change's owner | the change | with force | owner afterwards |
//! | --- | --- | --- | --- | --- |
//! | none | none | happens | happens | none |
//! | none | A | happens, also if only the owner changes | the same | A |
//! | A | A | happens | the same | A |
//! | A | none | refused | happens | A |
//! | A | B | refused; if the content stays the same, nothing happens | happens, also if only the owner changes | B |
//!
//! Tenants cannot set the owner of a vDC, since they cannot change the vDC either. A rollback also restores the
//! owners.

use std::collections::{BTreeMap, BTreeSet};

use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::OwnerName;
use vfabric_api::inventory::ItemKey;
use vfabric_api::kind::{Key, Kind, Spec, VdcSpec};
use vfabric_api::plan;
use vfabric_api::service::{Change, Committed, Transaction};

use super::aside::Aside;
use super::cursor::Cursors;
use super::fields::Fields;
use super::inventory::StoredItem;
use super::kind::{Stored, attachments_to_drain};
use super::quarantine::Left;
use super::waiting::Wait;
use super::{Model, SwitchIndex};

/// Flood groups that a network got on a leaf, or gave back.
#[derive(Debug, Clone, Copy)]
pub struct GroupChange {
    /// The leaf.
    pub leaf: SwitchIndex,
    /// VNI of the network.
    pub vni: u32,
    /// The groups before.
    pub before: Option<u16>,
    /// The groups now.
    pub now: Option<u16>,
}

/// The effect of a transaction, and what has to be stored for it.
#[derive(Debug, Default)]
pub struct Applied {
    /// The result for the user; the store sets its revision.
    pub committed: Committed,
    /// Objects as they are now; `None`: gone. Later ones win.
    pub objects: Vec<(Key, Option<Stored>)>,
    /// Objects of the inventory as they are now; `None`: removed. Later ones win.
    pub items: Vec<(ItemKey, Option<StoredItem>)>,
    /// Flood groups that were allocated or released. Later ones win.
    pub groups: Vec<GroupChange>,
    /// Numbers that were taken from devices.
    pub left: Vec<Left>,
    /// Whether identities were given out.
    pub uids: bool,
    /// The objects before the transaction, in order.
    pub(super) undo: Vec<Undo>,
    /// The state of the number pools before.
    cursors: Cursors,
}

impl Applied {
    /// Tenants' objects that exist before and after the transaction, in both versions.
    pub fn updated(&self) -> impl Iterator<Item = (&Key, &Stored, &Stored)> {
        let last: BTreeMap<&Key, &Option<Stored>> = self.objects.iter().map(|(key, object)| (key, object)).collect();
        let mut seen = BTreeSet::new();
        self.undo.iter().filter_map(move |undo| match undo {
            Undo::Known(key, Some(before), _) if seen.insert(key) => {
                let after = (*last.get(key)?).as_ref()?;
                Some((key, before, after))
            }
            _ => None,
        })
    }

    /// Whether there is nothing to store.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.items.is_empty()
    }
}

/// The author of a transaction, as far as owners of objects are concerned.
#[derive(Debug, Default)]
pub struct By {
    /// The owner of what is created and changed.
    pub owner: Option<OwnerName>,
    /// Whether objects of other owners are changed, too.
    pub force: bool,
    /// Whether the author is a user of a vDC.
    pub is_tenant: bool,
    /// Whether to delete attachments that use something that their vDC loses.
    pub cascade: bool,
    /// In a rollback: the owners that objects get back.
    pub then: BTreeMap<Key, Option<OwnerName>>,
}

impl By {
    /// The author of a transaction.
    pub fn of(transaction: &Transaction) -> Self {
        Self {
            owner: transaction.origin.owner.clone(),
            force: transaction.origin.force,
            is_tenant: transaction.origin.is_tenant,
            cascade: transaction.origin.cascade,
            then: transaction.owners.clone(),
        }
    }

    /// The owner of an object after a change.
    fn owner(&self, key: &Key, before: Option<&Stored>) -> Option<OwnerName> {
        if let Some(then) = self.then.get(key) {
            return then.clone();
        }
        let had = before.and_then(|before| before.owner.clone());
        if self.is_tenant && key.kind == Kind::Vdc {
            return had;
        }
        self.owner.clone().or(had)
    }

    /// Whether an object with unchanged content also keeps its owner.
    fn keeps(&self, key: &Key, before: &Stored) -> bool {
        let is_others = before.owner.is_some() && before.owner != self.owner;
        (is_others && !self.force) || self.owner(key, Some(before)) == before.owner
    }

    /// Whether the content of an object may be changed, or the object deleted.
    fn may_change(&self, path: &str, key: &Key, before: &Stored) -> Result<(), ApiError> {
        match &before.owner {
            Some(owner) if before.owner != self.owner && !self.force => {
                let asked = self.owner.as_ref().map(OwnerName::as_str).unwrap_or_default();
                let expected = format!("`{owner}`, or `force`");
                Err(ApiError {
                    detail: format!("{key} belongs to `{owner}`: change it there, or force the change"),
                    ..Fields(path).error(ErrorCode::Owned, "owner", asked, expected)
                })
            }
            _ => Ok(()),
        }
    }
}

/// An object before a change.
#[derive(Debug)]
pub(super) enum Undo {
    /// A tenant's object: missing, or with this content and these reasons to wait.
    Known(Key, Option<Stored>, Option<Wait>),
    /// A tenant's object that had been set aside.
    Aside(Key, Aside),
    /// An object of the inventory: missing, or with this content.
    Item(ItemKey, Option<StoredItem>),
}

impl Model {
    /// Carries out a transaction in memory.
    ///
    /// # Errors
    /// The first refused change, with the path of its field; then nothing is changed.
    pub fn apply(&mut self, changes: &[(String, Change)]) -> Result<Applied, ApiError> {
        self.apply_by(changes, &By::default())
    }

    /// As [`Self::apply`], for an author that may be an owner.
    ///
    /// # Errors
    /// As [`Self::apply`]; `Owned` if an object belongs to another owner.
    pub fn apply_by(&mut self, changes: &[(String, Change)], by: &By) -> Result<Applied, ApiError> {
        let mut applied = Applied {
            cursors: self.cursors(),
            ..Applied::default()
        };
        for (path, change) in changes {
            if let Err(error) = self.change(path, change, by, &mut applied) {
                self.note_moved(&mut applied.cursors);
                self.undo(applied);
                return Err(error);
            }
        }
        self.note_moved(&mut applied.cursors);
        Ok(applied)
    }

    /// Undoes a transaction that could not be stored. With several, undo the last one first.
    pub fn undo(&mut self, applied: Applied) {
        // Networks that return to a leaf get back the groups that they had when the transaction began.
        for group in applied.groups.iter().rev() {
            if let Some(before) = group.before {
                self.restore_group(group.leaf, group.vni, before);
            }
        }
        let mut scratch = Applied::default();
        for undo in applied.undo.into_iter().rev() {
            match undo {
                Undo::Known(key, object, wait) => {
                    self.put(&key, object, &mut scratch);
                    if let Some(owner) = self.owner(&key) {
                        self.waiting.restore(owner, wait);
                    }
                }
                Undo::Aside(key, aside) => {
                    self.aside.insert(key, aside);
                }
                Undo::Item(key, item) => self.put_item(&key, item, &mut scratch),
            }
        }
        for left in scratch.left.into_iter().rev().chain(applied.left.into_iter().rev()) {
            self.waiting.touch(&left.number);
            self.quarantine.undo(left);
        }
        self.end_restore();
        self.restore_cursors(applied.cursors);
    }

    /// Gives a transaction its revision. It can still be undone until confirmations of devices are processed.
    pub fn settle(&mut self, applied: &Applied, revision: u64) {
        for left in &applied.left {
            self.quarantine.settle(left, revision);
        }
        self.quarantine.note_rows(&applied.left, revision);
        self.end_settling(applied, revision);
    }

    /// As [`Self::settle`], for a transaction made from the store's contents, which writes no rows.
    pub fn settle_restored(&mut self, applied: &Applied, revision: u64) {
        for left in &applied.left {
            self.quarantine.settle(left, revision);
        }
        self.end_settling(applied, revision);
    }

    fn end_settling(&mut self, applied: &Applied, revision: u64) {
        self.waiting.settle(revision);
        self.fence(&applied.items, revision);
    }

    pub(super) fn change(
        &mut self,
        path: &str,
        change: &Change,
        by: &By,
        applied: &mut Applied,
    ) -> Result<(), ApiError> {
        let patched;
        let change = match change {
            Change::Patch(key, patch) => {
                patched = self.patched(key, patch.clone())?;
                &patched
            }
            change => change,
        };
        let (key, next) = match change {
            Change::Create(vdc, spec) | Change::Replace(vdc, spec) | Change::Put(vdc, spec) => {
                let key = Key::new(vdc.clone(), spec.kind(), spec.name().clone());
                if let Some(aside) = self.aside.get(&key) {
                    return Err(ApiError::new(ErrorCode::InUse, aside.refusal(&key)));
                }
                let before = self.stored(&key);
                match (change, &before) {
                    (Change::Replace(..), None) => return Err(ApiError::not_found(&key)),
                    (_, Some(before)) if before.spec() == *spec && by.keeps(&key, before) => {
                        applied.committed.unchanged += 1;
                        return Ok(());
                    }
                    (_, Some(before)) if before.spec() == *spec => {}
                    (Change::Create(..), Some(_)) => {
                        let detail = format!("{key} exists already, with another content");
                        return Err(ApiError::new(ErrorCode::AlreadyExists, detail));
                    }
                    _ => {}
                }
                let owner = by.owner(&key, before.as_ref());
                let next = match before {
                    None => {
                        self.check_limit(&key)?;
                        self.check(path, &key, spec)?
                    }
                    // Only the owner changes.
                    Some(before) if before.spec() == *spec => before,
                    Some(before) => {
                        by.may_change(path, &key, &before)?;
                        if let (Spec::Vdc(spec), true) = (spec, by.cascade) {
                            self.drain_vdc(path, &key, spec, applied)?;
                        }
                        self.check(path, &key, spec)?
                    }
                };
                (key.clone(), Some(next.owned_by(owner)))
            }
            Change::Patch(key, _) => return Err(ApiError::not_found(key)),
            Change::Inventory(change) => return self.change_inventory(path, change, applied),
            Change::Delete(key) if self.aside.contains_key(key) => {
                self.discard(key, applied);
                return Ok(());
            }
            Change::Delete(key) => {
                let before = self.stored(key).ok_or_else(|| ApiError::not_found(key))?;
                by.may_change(path, key, &before)?;
                if let Some(user) = self.user(key) {
                    let detail = format!("{key} is still used by {user}");
                    return Err(ApiError::new(ErrorCode::InUse, detail));
                }
                (key.clone(), None)
            }
        };
        let before = self.stored(&key);
        let done = match (&before, &next) {
            (None, _) => &mut applied.committed.created,
            (Some(_), Some(_)) => &mut applied.committed.updated,
            (Some(_), None) => &mut applied.committed.deleted,
        };
        done.push(key.clone());
        // A new object takes the identity with which it was checked.
        if before.is_none() {
            self.next_uid += 1;
            applied.uids = true;
        }
        let wait = self.owner(&key).and_then(|owner| self.waiting.get(owner));
        applied.undo.push(Undo::Known(key.clone(), before, wait));
        applied.objects.push((key.clone(), next.clone()));
        self.put(&key, next, applied);
        Ok(())
    }

    /// Deletes the attachments that use what a vDC would lose.
    fn drain_vdc(&mut self, path: &str, key: &Key, spec: &VdcSpec, applied: &mut Applied) -> Result<(), ApiError> {
        // The caller asked for the cascade, and its plan shows what it deletes.
        let by = By {
            force: true,
            ..By::default()
        };
        let lost = attachments_to_drain(self, &key.vdc, spec).into_iter();
        lost.map(Change::Delete)
            .try_for_each(|change| self.change(path, &change, &by, applied))
    }

    /// Whether one more object fits into its vDC.
    fn check_limit(&self, key: &Key) -> Result<(), ApiError> {
        let Some(vdc) = self.vdc(&key.vdc) else { return Ok(()) };
        match vdc.spec.limits.of(key.kind) {
            Some(limit) if vdc.count(key.kind) >= limit => {
                let (vdc, kind) = (&key.vdc, key.kind.plural());
                let detail =
                    format!("vDC `{vdc}` may have {limit} {kind} and has them: one more is needed, none is free");
                Err(ApiError::new(ErrorCode::Exhausted, detail))
            }
            _ => Ok(()),
        }
    }

    /// The object after a patch.
    pub fn patched(&self, key: &Key, patch: serde_json::Value) -> Result<Change, ApiError> {
        let before = self.stored(key).ok_or_else(|| ApiError::not_found(key))?;
        let mut document = before.spec().body().unwrap_or_default();
        plan::merge(&mut document, patch);
        let spec = Spec::read(key.kind, document)?;
        if *spec.name() != key.name {
            let expected = format!("`{}`: a name cannot be changed", key.name);
            return Err(ApiError::field(ErrorCode::Invalid, "name", spec.name(), expected));
        }
        Ok(Change::Replace(key.vdc.clone(), spec))
    }

    /// Deletes an object that was set aside. Its numbers stay in quarantine until all devices have confirmed.
    fn discard(&mut self, key: &Key, applied: &mut Applied) {
        let Some(aside) = self.aside.remove(key) else { return };
        for number in &aside.numbers {
            let devices: Vec<_> = self.fabric.devices().collect();
            self.leave(number.clone(), aside.uid, devices, applied);
        }
        applied.committed.deleted.push(key.clone());
        applied.objects.push((key.clone(), None));
        applied.undo.push(Undo::Aside(key.clone(), aside));
    }
}
