//! The past: what each revision did, how two of them differ, and how to return to an older one.
//!
//! **Model.** Everything is read from the log of the store, the newest entry first. For each key, the first "value
//! after" that is found is its later state, and the last "value before" is its earlier state. A rollback is an ordinary
//! transaction, which the writer makes from this difference when its turn comes. It restores what users wrote; numbers
//! that the controller allocates may differ. The inventory is left as it is: a rollback moves no hardware.
//!
//! **Cost.** The number of entries that are read, which the window of the log bounds.

use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, BTreeSet};

use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::history::{Diff, History, Objects, Revision};
use vfabric_api::ident::{Name, OwnerName};
use vfabric_api::kind::{Key, Kind};
use vfabric_api::plan::{self, ObjectChange};
use vfabric_api::service::{Change, Rollback, Transaction};

use super::Controller;
use crate::model::inventory::{PREFIX, StoredItem};
use crate::model::kind::{Stored, Written, parse_store_key};
use crate::store::log::Entry;
use crate::store::{Past, Store};

/// Entries that are read at a time: bounds the memory of a reader.
pub(super) const ENTRIES_AT_ONCE: usize = 256;

/// The combined effect of several entries, which are added from the newest to the oldest.
#[derive(Default)]
struct Net {
    /// The value before the oldest entry, and the value after the newest.
    objects: BTreeMap<Key, (Option<Written>, Option<Written>)>,
    inventory: BTreeSet<String>,
}

/// What users had chosen, by a row of the store.
fn written(key: &Key, value: Option<&Vec<u8>>) -> Result<Option<Written>, ApiError> {
    let read = |value: &Vec<u8>| serde_json::from_slice::<Stored>(value).map(|object| object.written());
    let unreadable = |error| ApiError::new(ErrorCode::Internal, format!("the log of {key} cannot be read: {error}"));
    value.map(read).transpose().map_err(unreadable)
}

impl Net {
    fn add(&mut self, entry: &Entry) -> Result<(), ApiError> {
        for effect in entry.effects.iter().rev() {
            let (before, after) = (effect.before.as_ref().map(|(_, value)| value), effect.after.as_ref());
            if let Some(key) = parse_store_key(&effect.key) {
                let before = written(&key, before)?;
                match self.objects.entry(key) {
                    Slot::Occupied(mut net) => net.get_mut().0 = before,
                    Slot::Vacant(slot) => {
                        let after = written(slot.key(), after)?;
                        slot.insert((before, after));
                    }
                }
            } else if effect.key.starts_with(PREFIX) {
                let item = after
                    .or(before)
                    .and_then(|value| serde_json::from_slice::<StoredItem>(value).ok());
                self.inventory.extend(item.map(|item| item.key().to_string()));
            }
        }
        Ok(())
    }

    fn objects(&self) -> Objects {
        let mut objects = Objects::default();
        for (key, change) in &self.objects {
            let (before, after) = change;
            if before != after {
                let of =
                    |written: &Option<Written>| written.as_ref().map(|w| w.spec.labels().clone()).unwrap_or_default();
                let labels = [of(before), of(after)];
                if labels.iter().any(|labels| !labels.is_empty()) {
                    objects.labels.insert(key.clone(), labels);
                }
            }
            match change {
                (None, Some(_)) => objects.created.push(key.clone()),
                (Some(_), None) => objects.deleted.push(key.clone()),
                (Some(before), Some(after)) if before != after => {
                    let fields = plan::differences(&before.document(), &after.document());
                    let key = key.clone();
                    objects.updated.push(ObjectChange { key, fields });
                }
                _ => {}
            }
        }
        objects
    }

    fn inventory(self) -> Vec<String> {
        self.inventory.into_iter().collect()
    }
}

/// A revision, unless it only has the controller's own records.
pub(super) fn revision(number: u64, entry: &Entry) -> Result<Option<Revision>, ApiError> {
    let mut net = Net::default();
    net.add(entry)?;
    let objects = net.objects();
    if objects.is_empty() && net.inventory.is_empty() {
        return Ok(None);
    }
    Ok(Some(Revision {
        revision: number,
        time_ms: entry.time_ms,
        // Entries of older versions have no note.
        origin: serde_json::from_slice(&entry.note).unwrap_or_default(),
        objects,
        inventory: net.inventory(),
    }))
}

impl<S: Store> Controller<S> {
    pub(super) async fn past(&self, from: u64, to: u64) -> Result<Past, ApiError> {
        let past = self.store.past(from, to, ENTRIES_AT_ONCE).await;
        past.map_err(|error| ApiError::new(ErrorCode::Unavailable, error.to_string()))
    }

    /// The last revisions below `before`, the newest first.
    pub(super) async fn read_history(&self, before: Option<u64>, limit: usize) -> Result<History, ApiError> {
        let last = self.published().revision;
        let mut from = before.map_or(last, |before| last.min(before.saturating_sub(1)));
        let mut history = History::default();
        loop {
            let past = self.past(from, 0).await?;
            history.oldest = past.oldest;
            for (number, entry) in past.entries {
                if history.items.len() == limit {
                    history.next = Some(number + 1);
                    return Ok(history);
                }
                history.items.extend(revision(number, &entry)?);
                from = number.saturating_sub(1);
            }
            if past.oldest.is_none_or(|oldest| from < oldest) {
                return Ok(history);
            }
        }
    }

    /// One revision.
    pub(super) async fn read_revision(&self, number: u64) -> Result<Revision, ApiError> {
        let past = self.past(number, number.saturating_sub(1)).await?;
        let entry = past.entries.first();
        let found = entry
            .map(|(number, entry)| revision(*number, entry))
            .transpose()?
            .flatten();
        found.ok_or_else(|| ApiError::not_found(format_args!("revision {number}, as a change of the intent,")))
    }

    /// How two revisions differ.
    pub(super) async fn read_diff(&self, from: u64, to: u64) -> Result<Diff, ApiError> {
        let last = self.published().revision;
        if to > last {
            return Err(ApiError::field(
                ErrorCode::Invalid,
                "to",
                to,
                format!("at most {last}, the last revision"),
            ));
        }
        if from > to {
            return Err(ApiError::field(
                ErrorCode::Invalid,
                "from",
                from,
                format!("at most {to}"),
            ));
        }
        let net = self.net("from", from, to).await?;
        let objects = net.objects();
        Ok(Diff {
            from,
            to,
            objects,
            inventory: net.inventory(),
        })
    }

    /// The combined effect of the revisions after `from`, up to `to`.
    async fn net(&self, field: &str, from: u64, to: u64) -> Result<Net, ApiError> {
        let mut net = Net::default();
        let mut next = to;
        while next > from {
            let past = self.past(next, from).await?;
            let Some((last, _)) = past.entries.last() else {
                let oldest = past.oldest.unwrap_or(to + 1);
                let expected = format!("at least {}: earlier revisions are no longer kept", oldest - 1);
                return Err(ApiError::field(ErrorCode::Gone, field, from, expected));
            };
            next = last - 1;
            past.entries.iter().try_for_each(|(_, entry)| net.add(entry))?;
        }
        Ok(net)
    }

    /// The transaction that restores the intent of an older revision, in two orders: if the first is refused, the
    /// second may be accepted.
    pub(super) async fn way_back(&self, last: u64, rollback: &Rollback) -> Result<[Transaction; 2], ApiError> {
        let to = rollback.to;
        if to > last {
            let expected = format!("at most {last}, the last revision");
            return Err(ApiError::field(ErrorCode::Invalid, "to", to, expected));
        }
        let net = self.net("to", to, last).await?;
        let concerned = |key: &Key| rollback.vdc.as_ref().is_none_or(|vdc| key.vdc == *vdc);
        let changed = net
            .objects
            .into_iter()
            .filter(|(key, (then, now))| then != now && concerned(key));
        let changed: Vec<_> = changed.map(|(key, (then, now))| (key, then, now)).collect();
        let then = changed.iter().filter_map(|(key, then, _)| Some((key, then.as_ref()?)));
        let owners: BTreeMap<Key, Option<OwnerName>> =
            then.map(|(key, then)| (key.clone(), then.owner.clone())).collect();
        Ok([false, true].map(|twice| Transaction {
            changes: back(&changed, twice),
            owners: owners.clone(),
            dry_run: rollback.dry_run,
            origin: rollback.origin.clone(),
            ..Transaction::default()
        }))
    }
}

/// Changes that restore an older state: objects are deleted before those that they use, and created after them. With
/// `twice`, routers and attachments that only change are deleted first, too, so that they can take over each other's
/// numbers.
fn back(changed: &[(Key, Option<Written>, Option<Written>)], twice: bool) -> Vec<(String, Change)> {
    let made_again = |kind: Kind| twice && matches!(kind, Kind::Router | Kind::Attachment);
    let goes = changed
        .iter()
        .filter(|(key, then, now)| now.is_some() && (then.is_none() || made_again(key.kind)));
    let mut goes: Vec<&Key> = goes.map(|(key, ..)| key).collect();
    goes.sort_by_key(|key| std::cmp::Reverse(key.kind));
    let comes = changed.iter().filter_map(|(key, then, _)| Some((key, then.as_ref()?)));
    let mut comes: Vec<(&Key, &Written)> = comes.collect();
    comes.sort_by_key(|(key, _)| key.kind);
    let path = |vdc: &Name, name: &Name| format!("{vdc}/{name}");
    let goes = goes
        .into_iter()
        .map(|key| (path(&key.vdc, &key.name), Change::Delete(key.clone())));
    let comes = comes.into_iter().map(|(key, then)| {
        let change = Change::Put(key.vdc.clone(), then.spec.clone());
        (path(&key.vdc, &key.name), change)
    });
    goes.chain(comes).collect()
}
