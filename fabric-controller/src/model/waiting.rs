//! Objects that are not sent to devices yet, because a number that they need still has another meaning somewhere.
//!
//! **Model.** A user may name a number: a VLAN of a port, a VNI, an address. If it is no longer in use but is in
//! quarantine, the object is accepted and waits: none of it is rendered. When its last number is free, the object is
//! rendered under the revision of the transaction that asked for it.
//!
//! **Cost.** Constant for each number of an object that waits; nothing for one that does not.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::number::Number;
use crate::ident::Owner;

/// Revision of a transaction that is not stored yet.
const UNSETTLED: u64 = u64::MAX;

/// What an object waits for, and since which revision.
#[derive(Debug, Clone)]
pub(super) struct Wait {
    revision: u64,
    numbers: BTreeSet<Number>,
}

/// The objects that wait, and their numbers.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    waits: HashMap<Owner, Wait>,
    by_number: HashMap<Number, BTreeSet<Owner>>,
    by_revision: BTreeMap<u64, BTreeSet<Owner>>,
    /// Objects whose waits have to be published again.
    changed: BTreeSet<Owner>,
    /// While set, no object counts as waiting, so that a plan shows what comes later.
    ignored: bool,
}

impl Waiting {
    /// Notes that an object of the current transaction waits for these numbers. With none it does not wait.
    pub(super) fn begin(&mut self, waiter: Owner, numbers: impl IntoIterator<Item = Number>) {
        self.end(waiter);
        let numbers: BTreeSet<Number> = numbers.into_iter().collect();
        if numbers.is_empty() {
            return;
        }
        for number in &numbers {
            self.by_number.entry(number.clone()).or_default().insert(waiter);
        }
        self.by_revision.entry(UNSETTLED).or_default().insert(waiter);
        self.changed.insert(waiter);
        let revision = UNSETTLED;
        self.waits.insert(waiter, Wait { revision, numbers });
    }

    /// Forgets an object that was deleted or is replaced.
    pub(super) fn end(&mut self, waiter: Owner) {
        let Some(wait) = self.waits.remove(&waiter) else { return };
        self.changed.insert(waiter);
        for number in &wait.numbers {
            self.drop_number(number, waiter);
        }
        self.drop_revision(wait.revision, waiter);
    }

    /// The wait of an object, to restore it if the current transaction fails.
    pub(super) fn get(&self, waiter: Owner) -> Option<Wait> {
        self.waits.get(&waiter).cloned()
    }

    /// Makes an object wait exactly as it did.
    pub(super) fn restore(&mut self, waiter: Owner, wait: Option<Wait>) {
        self.end(waiter);
        let Some(wait) = wait else { return };
        for number in &wait.numbers {
            self.by_number.entry(number.clone()).or_default().insert(waiter);
        }
        self.by_revision.entry(wait.revision).or_default().insert(waiter);
        self.changed.insert(waiter);
        self.waits.insert(waiter, wait);
    }

    /// A number's state changed: the objects that wait for it are published again.
    pub(super) fn touch(&mut self, number: &Number) {
        self.changed
            .extend(self.by_number.get(number).into_iter().flatten().copied());
    }

    /// Marks objects to be published again.
    pub(super) fn touch_waiters(&mut self, waiters: impl IntoIterator<Item = Owner>) {
        self.changed.extend(waiters);
    }

    /// Objects to publish again, each with the revision that waits (none: it does not wait).
    pub(super) fn take_changed(&mut self) -> Vec<(Owner, Option<u64>)> {
        let changed = std::mem::take(&mut self.changed);
        let wait = |waiter| (waiter, self.waits.get(&waiter).map(|w| w.revision));
        changed.into_iter().map(wait).collect()
    }

    fn drop_number(&mut self, number: &Number, waiter: Owner) {
        if let Some(waiters) = self.by_number.get_mut(number) {
            waiters.remove(&waiter);
            if waiters.is_empty() {
                self.by_number.remove(number);
            }
        }
    }

    fn drop_revision(&mut self, revision: u64, waiter: Owner) {
        if let Some(waiters) = self.by_revision.get_mut(&revision) {
            waiters.remove(&waiter);
            if waiters.is_empty() {
                self.by_revision.remove(&revision);
            }
        }
    }

    /// The transaction is stored, as this revision.
    pub(super) fn settle(&mut self, revision: u64) {
        let fresh = self.by_revision.remove(&UNSETTLED).unwrap_or_default();
        for waiter in &fresh {
            if let Some(wait) = self.waits.get_mut(waiter) {
                wait.revision = revision;
            }
            self.changed.insert(*waiter);
        }
        if !fresh.is_empty() {
            self.by_revision.entry(revision).or_default().extend(fresh);
        }
    }

    /// A number is free. Returns the objects that no longer wait, each with the revision that asked for it.
    pub(super) fn released(&mut self, number: &Number) -> Vec<(u64, Owner)> {
        let mut woken = Vec::new();
        for waiter in self.by_number.remove(number).unwrap_or_default() {
            let Some(wait) = self.waits.get_mut(&waiter) else {
                continue;
            };
            wait.numbers.remove(number);
            self.changed.insert(waiter);
            if wait.numbers.is_empty() {
                let revision = wait.revision;
                self.waits.remove(&waiter);
                self.drop_revision(revision, waiter);
                woken.push((revision, waiter));
            }
        }
        woken
    }

    /// Whether an object waits.
    pub(super) fn waits(&self, waiter: Owner) -> bool {
        !self.ignored && self.waits.contains_key(&waiter)
    }

    /// Whether waits are ignored.
    pub(super) fn ignore(&mut self, ignored: bool) {
        self.ignored = ignored;
    }

    /// What an object waits for.
    pub(super) fn numbers(&self, waiter: Owner) -> impl Iterator<Item = &Number> {
        self.waits.get(&waiter).into_iter().flat_map(|w| &w.numbers)
    }

    /// How many objects wait.
    pub(super) fn len(&self) -> usize {
        self.waits.len()
    }
}
