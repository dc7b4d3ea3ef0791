//! Released numbers that devices may still hold.
//!
//! **Model.** There is an entry for each number: its last owner, and the devices that may hold it, each with the revision
//! that took it away. A device is removed from the entry when it has confirmed that revision. When no device is left,
//! the number rests for [`Number::rest`]; then the entry is deleted and the number is free.
//!
//! Entries are made while a transaction is carried out, before it has a revision, so that a later change of the
//! same transaction finds them. They become final with the transaction, or are undone with it.
//!
//! **Invariants.** An entry has one owner. Another object that wants the number waits, so no device ever holds anything
//! of it. Entries survive a restart: the store keeps them.
//!
//! **Cost.** Processing confirmations costs the devices that have to confirm, and the numbers that they release.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Instant;

use super::fault::{self, Fault};
use super::number::{Number, Uid};
use crate::ident::DeviceIndex;

/// Stands for the revision of a transaction that is not stored yet. No device can confirm it.
const UNSETTLED: u64 = u64::MAX;

/// The last owner of a number, and the devices that may still hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The last owner.
    pub owner: Uid,
    /// Devices that may hold it, with the revision that took it from them.
    devices: BTreeMap<DeviceIndex, u64>,
    /// When it becomes free; set once no device may hold it.
    until: Option<Instant>,
    /// The device that confirmed last.
    last: Option<DeviceIndex>,
    /// The revision that wrote its row in the store; none before that transaction is stored, or without a row.
    row: Option<u64>,
}

impl Entry {
    /// The revision in the key of its row in the store, if there is a row.
    pub fn row(&self) -> Option<u64> {
        self.row
    }

    /// Devices that may hold the number; none while it only rests.
    pub fn devices(&self) -> impl Iterator<Item = DeviceIndex> {
        self.devices.keys().copied()
    }

    /// The device that confirmed last, for a number that only rests.
    pub fn last(&self) -> Option<DeviceIndex> {
        self.last
    }
}

/// A number that a transaction took from devices, and its entry before that.
#[derive(Debug)]
pub struct Left {
    /// The number.
    pub number: Number,
    devices: Vec<DeviceIndex>,
    before: Option<Entry>,
}

impl Left {
    /// The revision of the number's earlier row in the store, if there is one.
    pub fn row_before(&self) -> Option<u64> {
        self.before.as_ref().and_then(Entry::row)
    }
}

/// The effect of confirmations from devices.
#[derive(Debug, Default)]
pub(super) struct Released {
    /// Numbers that fewer devices hold than before.
    pub(super) confirmed: Vec<Number>,
    /// Numbers that are free from now on, each with the revision of its row.
    pub(super) free: Vec<(Number, Option<u64>)>,
}

/// All numbers that are not free.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    entries: HashMap<Number, Entry>,
    by_device: BTreeMap<DeviceIndex, BTreeMap<u64, BTreeSet<Number>>>,
    resting: BTreeSet<(Instant, Number)>,
    /// VNIs in use.
    owned: HashSet<u32>,
    /// The number of entries that are VNIs not in use.
    idle_vnis: usize,
}

impl Quarantine {
    /// The current transaction takes a number from devices. Returns `None` without devices, and if there is an entry of another
    /// owner: then this owner was still waiting for the number, and no device ever held it for this owner.
    pub(super) fn leave(
        &mut self,
        number: Number,
        owner: Uid,
        devices: impl IntoIterator<Item = DeviceIndex>,
    ) -> Option<Left> {
        self.leave_at(number, owner, devices, UNSETTLED)
    }

    /// Puts a number back into quarantine after a restart. Devices that may hold it must confirm
    /// `revision`; `row` is the revision of its row.
    pub(super) fn restore(
        &mut self,
        number: Number,
        owner: Uid,
        devices: impl IntoIterator<Item = DeviceIndex>,
        (revision, row): (u64, Option<u64>),
        now: Instant,
    ) {
        let left = self.leave_at(number.clone(), owner, devices, revision);
        if left.is_some() {
            if let Some(entry) = self.entries.get_mut(&number) {
                entry.row = row;
            }
        } else if !self.entries.contains_key(&number) {
            // Every device that held it is gone; frames may still be under way.
            let until = now + number.rest();
            let entry = Entry {
                owner,
                devices: BTreeMap::new(),
                until: Some(until),
                last: None,
                row,
            };
            self.set(&number, Some(entry));
        }
    }

    fn leave_at(
        &mut self,
        number: Number,
        owner: Uid,
        devices: impl IntoIterator<Item = DeviceIndex>,
        revision: u64,
    ) -> Option<Left> {
        let devices: Vec<DeviceIndex> = devices.into_iter().collect();
        let before = self.entries.get(&number).cloned();
        if devices.is_empty() || before.as_ref().is_some_and(|e| e.owner != owner) {
            return None;
        }
        let mut entry = before.clone().unwrap_or(Entry {
            owner,
            devices: BTreeMap::new(),
            until: None,
            last: None,
            row: None,
        });
        entry.until = None;
        entry.devices.extend(devices.iter().map(|d| (*d, revision)));
        self.set(&number, Some(entry));
        Some(Left {
            number,
            devices,
            before,
        })
    }

    /// Replaces an entry, in all indexes.
    fn set(&mut self, number: &Number, entry: Option<Entry>) {
        if let Some(old) = self.entries.remove(number) {
            self.count(number, false);
            for (device, revision) in old.devices {
                self.forget(number, device, revision);
            }
            if let Some(until) = old.until {
                self.resting.remove(&(until, number.clone()));
            }
        }
        let Some(entry) = entry else { return };
        for (device, revision) in &entry.devices {
            let of_device = self.by_device.entry(*device).or_default();
            of_device.entry(*revision).or_default().insert(number.clone());
        }
        self.resting.extend(entry.until.map(|until| (until, number.clone())));
        self.entries.insert(number.clone(), entry);
        self.count(number, true);
    }

    fn forget(&mut self, number: &Number, device: DeviceIndex, revision: u64) {
        let Some(of_device) = self.by_device.get_mut(&device) else {
            return;
        };
        if let Some(of_revision) = of_device.get_mut(&revision) {
            of_revision.remove(number);
            if of_revision.is_empty() {
                of_device.remove(&revision);
            }
        }
        if of_device.is_empty() {
            self.by_device.remove(&device);
        }
    }

    /// Undoes the changes of a transaction that failed. Call it for later transactions before earlier ones.
    pub(super) fn undo(&mut self, left: Left) {
        self.set(&left.number, left.before);
    }

    /// The transaction that took a number away is stored under this revision.
    pub(super) fn settle(&mut self, left: &Left, revision: u64) {
        let Some(mut entry) = self.entries.get(&left.number).cloned() else {
            return;
        };
        for device in &left.devices {
            entry.devices.insert(*device, revision);
        }
        self.set(&left.number, Some(entry));
    }

    /// The transaction of this revision has written the rows of these numbers.
    pub(super) fn note_rows(&mut self, left: &[Left], revision: u64) {
        for left in left {
            if let Some(entry) = self.entries.get_mut(&left.number) {
                entry.row = Some(revision);
            }
        }
    }

    /// The entry of a number; none if it is free.
    pub(super) fn get(&self, number: &Number) -> Option<&Entry> {
        self.entries.get(number)
    }

    /// Whether some device may hold it, or it rests.
    pub(super) fn holds(&self, number: &Number) -> bool {
        self.entries.contains_key(number)
    }

    /// Whether this owner has to wait for it: it is not free, and belonged to another owner.
    pub(super) fn bars(&self, number: &Number, owner: Uid) -> bool {
        self.entries.get(number).is_some_and(|e| e.owner != owner)
    }

    /// Every number that is not free.
    pub(super) fn all(&self) -> impl Iterator<Item = &Number> {
        self.entries.keys()
    }

    /// When the next resting number becomes free.
    pub(super) fn next_free(&self) -> Option<Instant> {
        self.resting.first().map(|(until, _)| *until)
    }

    /// Processes what devices have confirmed.
    pub(super) fn release(&mut self, confirmed: impl Fn(DeviceIndex, u64) -> bool, now: Instant) -> Released {
        let mut confirmations: Vec<(DeviceIndex, Number)> = Vec::new();
        self.by_device.retain(|device, revisions| {
            while let Some(first) = revisions.first_entry() {
                let confirmed = || confirmed(*device, *first.key()) || fault::is_on(Fault::NobodyConfirms);
                if *first.key() == UNSETTLED || !confirmed() {
                    break;
                }
                confirmations.extend(first.remove().into_iter().map(|number| (*device, number)));
            }
            !revisions.is_empty()
        });
        let mut released = Released::default();
        for (device, number) in confirmations {
            released.confirmed.push(number.clone());
            let Some(entry) = self.entries.get_mut(&number) else {
                continue;
            };
            entry.devices.remove(&device);
            entry.last = Some(device);
            if entry.devices.is_empty() || fault::is_on(Fault::FirstConfirmation) {
                let until = now + number.rest();
                entry.until = Some(until);
                self.resting.insert((until, number));
            }
        }
        while let Some((_, number)) = self.resting.pop_first_if(|(until, _)| *until <= now) {
            let row = self.entries.remove(&number).and_then(|entry| entry.row);
            self.count(&number, false);
            released.free.push((number, row));
        }
        released
    }

    /// The number of VNIs that are neither in use nor free. Costs nothing.
    pub(super) fn idle_vnis(&self) -> usize {
        self.idle_vnis
    }

    /// Records whether this VNI is in use.
    pub(super) fn own_vni(&mut self, vni: u32, owned: bool) {
        let changed = if owned {
            self.owned.insert(vni)
        } else {
            self.owned.remove(&vni)
        };
        if changed && self.holds(&Number::Vni(vni)) {
            self.idle(!owned);
        }
    }

    fn count(&mut self, number: &Number, comes: bool) {
        if matches!(number, Number::Vni(vni) if !self.owned.contains(vni)) {
            self.idle(comes);
        }
    }

    fn idle(&mut self, more: bool) {
        self.idle_vnis = if more {
            self.idle_vnis + 1
        } else {
            self.idle_vnis.saturating_sub(1)
        };
    }
}

/// `BTreeSet::pop_first`, if a condition holds.
trait PopFirstIf<T> {
    fn pop_first_if(&mut self, wanted: impl Fn(&T) -> bool) -> Option<T>;
}

impl<T: Ord> PopFirstIf<T> for BTreeSet<T> {
    fn pop_first_if(&mut self, wanted: impl Fn(&T) -> bool) -> Option<T> {
        if self.first().is_some_and(wanted) {
            self.pop_first()
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const A: DeviceIndex = DeviceIndex(1);
    const B: DeviceIndex = DeviceIndex(2);
    const RED: Uid = Uid(1);
    const BLUE: Uid = Uid(2);

    fn seven() -> Number {
        Number::Vni(7)
    }

    #[test]
    fn a_number_is_free_when_the_last_device_has_confirmed_and_it_has_rested() {
        let mut quarantine = Quarantine::default();
        let start = Instant::now();
        let left = quarantine.leave(seven(), RED, [A, B]).unwrap();
        assert!(quarantine.release(|_, _| true, start).free.is_empty(), "not stored yet");
        quarantine.settle(&left, 10);
        quarantine.note_rows(std::slice::from_ref(&left), 10);
        assert!(quarantine.release(|d, _| d == A, start).free.is_empty());
        assert!(quarantine.bars(&seven(), BLUE) && !quarantine.bars(&seven(), RED));
        assert!(quarantine.release(|_, r| r <= 10, start).free.is_empty(), "it rests");
        assert_eq!(quarantine.next_free(), Some(start + seven().rest()));
        let before = start + seven().rest() - Duration::from_millis(1);
        assert!(quarantine.release(|_, _| true, before).free.is_empty());
        let free = quarantine.release(|_, _| false, start + seven().rest()).free;
        assert_eq!(free, [(seven(), Some(10))], "with the revision of its row");
        assert!(!quarantine.holds(&seven()) && quarantine.idle_vnis() == 0);
    }

    #[test]
    fn vnis_that_nobody_has_are_counted_whichever_comes_first() {
        let mut quarantine = Quarantine::default();
        let start = Instant::now();
        quarantine.own_vni(7, true);
        let left = quarantine.leave(seven(), RED, [A]).unwrap();
        assert_eq!(quarantine.idle_vnis(), 0, "its network is still there");
        quarantine.own_vni(7, false);
        quarantine.own_vni(7, false);
        assert_eq!(quarantine.idle_vnis(), 1);
        quarantine.own_vni(7, true);
        assert_eq!(quarantine.idle_vnis(), 0);
        quarantine.own_vni(7, false);
        quarantine.undo(left);
        assert_eq!(quarantine.idle_vnis(), 0);
        quarantine.restore(seven(), RED, [], (5, Some(4)), start);
        assert_eq!(quarantine.idle_vnis(), 1, "it rests");
        quarantine.release(|_, _| true, start + seven().rest());
        assert_eq!(quarantine.idle_vnis(), 0);
    }

    #[test]
    fn leaving_again_waits_for_the_later_revision() {
        let mut quarantine = Quarantine::default();
        let start = Instant::now();
        let left = quarantine.leave(seven(), RED, [A]).unwrap();
        quarantine.settle(&left, 10);
        quarantine.note_rows(std::slice::from_ref(&left), 10);
        quarantine.release(|_, r| r <= 10, start);
        let again = quarantine.leave(seven(), RED, [A]).unwrap();
        assert_eq!(again.row_before(), Some(10), "which goes");
        quarantine.settle(&again, 20);
        quarantine.note_rows(std::slice::from_ref(&again), 20);
        let late = start + Duration::from_secs(60);
        assert!(quarantine.release(|_, r| r <= 19, late).free.is_empty());
        quarantine.release(|_, r| r <= 20, late);
        assert_eq!(
            quarantine.release(|_, _| false, late + seven().rest()).free,
            [(seven(), Some(20))]
        );
    }

    #[test]
    fn a_transaction_that_fails_leaves_the_books_as_they_were() {
        let mut quarantine = Quarantine::default();
        let start = Instant::now();
        let left = quarantine.leave(seven(), RED, [A]).unwrap();
        quarantine.settle(&left, 10);
        quarantine.note_rows(std::slice::from_ref(&left), 10);
        let before = quarantine.get(&seven()).cloned();
        let undone = quarantine.leave(seven(), RED, [A, B]).unwrap();
        quarantine.undo(undone);
        assert_eq!(quarantine.get(&seven()).cloned(), before);
        assert!(
            quarantine.leave(seven(), BLUE, [A]).is_none(),
            "blue waited: no device holds it for blue"
        );
        quarantine.release(|_, _| true, start);
        assert_eq!(
            quarantine.release(|_, _| true, start + seven().rest()).free,
            [(seven(), Some(10))]
        );
        assert!(quarantine.by_device.is_empty() && quarantine.resting.is_empty());
    }
}
