//! The model's interface to the controller for numbers in quarantine and the objects that wait for them.

use std::collections::BTreeSet;
use std::time::Instant;

use super::cursor::Moved;
use super::fault::{self, Fault};
use super::number::{Number, StoredNumber, Uid};
use super::quarantine::Entry;
use super::{Model, SwitchIndex};
use crate::ident::{DeviceIndex, Owner, Source};

/// Why an object waits.
#[derive(Debug, Clone)]
pub struct Waits {
    /// The revision that asked for it.
    pub revision: u64,
    /// The reasons as text, each with the device that has to confirm.
    pub reasons: Vec<(Option<DeviceIndex>, String)>,
}

impl Model {
    /// VNIs that are neither in use nor free.
    pub fn quarantined(&self) -> usize {
        self.quarantine.idle_vnis()
    }

    /// Objects that wait for a number.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Processes what devices have confirmed. Returns the numbers that are free from now on, each with the revision of
    /// its row in the store. [`Model::take_woken`] returns the objects that waited for them.
    pub fn release_quarantine(
        &mut self,
        confirmed: impl Fn(DeviceIndex, u64) -> bool,
        now: Instant,
    ) -> Vec<(Number, Option<u64>)> {
        let rid = |device, revision| self.fabric.is_rid(device, revision, &confirmed);
        let released = self.quarantine.release(rid, now);
        released.confirmed.iter().for_each(|number| self.waiting.touch(number));
        for (number, _) in &released.free {
            for (revision, waiter) in self.waiting.released(number) {
                self.woken.entry(revision).or_default().insert(waiter);
            }
        }
        released.free
    }

    /// When the next resting number becomes free.
    pub fn next_free(&self) -> Option<Instant> {
        self.quarantine.next_free()
    }

    /// Whether there are objects that no longer have to wait.
    pub fn has_woken(&self) -> bool {
        !self.woken.is_empty()
    }

    /// Contributions of objects that waited, with the revision that asked for them; the oldest first.
    pub fn take_woken(&mut self) -> Option<(u64, BTreeSet<Source>)> {
        let (revision, waiters) = self.woken.pop_first()?;
        let before = self.take_touched();
        for waiter in waiters {
            match waiter {
                Owner::Network(id) => self.touch_network(id),
                Owner::Attachment(id) => {
                    let Some(attachment) = self.attachments.get(id) else {
                        continue;
                    };
                    let (network, leaf) = (attachment.network, self.leaf_of(attachment));
                    self.touch_attachment(id, network);
                    self.touched.extend(leaf.map(|leaf| Source::Flood(network, leaf)));
                }
                // The fabric's own contributions do not wait.
                Owner::Switch(_) | Owner::Host(_) => {}
            }
        }
        let touched = std::mem::replace(&mut self.touched, before);
        Some((revision, touched))
    }

    /// Objects whose waits have changed since the last call: each with the revision that waits and the reasons, or
    /// nothing if it does not wait. An object that no longer has to wait still counts as waiting until
    /// [`Model::take_woken`] has returned it and it was rendered.
    pub fn take_changed_waits(&mut self) -> Vec<(Owner, Option<Waits>)> {
        let mut changed = Vec::new();
        for (waiter, revision) in self.waiting.take_changed() {
            if self.woken.values().any(|woken| woken.contains(&waiter)) {
                self.waiting.touch_waiters([waiter]);
                continue;
            }
            let waits = revision.map(|revision| Waits {
                revision,
                reasons: self.reasons(waiter),
            });
            changed.push((waiter, waits));
        }
        changed
    }

    /// The next [`Model::take_changed_waits`] returns these again.
    pub fn touch_waits(&mut self, waiters: impl IntoIterator<Item = Owner>) {
        self.waiting.touch_waiters(waiters);
    }

    /// Each number that an object waits for, with a device that holds or held it.
    pub(crate) fn reasons(&self, waiter: Owner) -> Vec<(Option<DeviceIndex>, String)> {
        let name = match waiter {
            Owner::Network(id) => self
                .networks
                .get(id)
                .map(|n| format!("network {}/{}", n.vdc, n.spec.name)),
            Owner::Attachment(id) => {
                let attachment = self.attachments.get(id);
                attachment.map(|a| format!("attachment {}/{}", a.vdc, a.spec.name))
            }
            Owner::Switch(_) | Owner::Host(_) => None,
        };
        let Some(name) = name else { return Vec::new() };
        let reason = |number: &Number| {
            let what = number.describe(&self.fabric);
            let entry = self.quarantine.get(number);
            match entry.and_then(|e| e.devices().next()) {
                Some(device) => (
                    Some(device),
                    format!("{name} waits until the former use of {what} is removed"),
                ),
                None => (
                    entry.and_then(Entry::last),
                    format!("{name} waits while {what} rests after its former use"),
                ),
            }
        };
        self.waiting.numbers(waiter).map(reason).collect()
    }

    /// Runs a function on the model as it will be when no object waits any more.
    pub fn without_waits<T>(&mut self, look: impl FnOnce(&Self) -> T) -> T {
        self.waiting.ignore(true);
        let seen = look(self);
        self.waiting.ignore(false);
        seen
    }

    /// Whether an object waits and is not sent to devices.
    pub(crate) fn waits(&self, waiter: Owner) -> bool {
        self.waiting.waits(waiter)
    }

    /// A pair of flood groups that is free on a leaf.
    pub(super) fn free_group(&self, leaf: SwitchIndex) -> Option<u16> {
        let space = &self.on_switch.get(&leaf)?.groups;
        let resting = |n: u32| u16::try_from(n).is_ok_and(|n| self.quarantine.holds(&Number::FloodGroup(leaf, n)));
        let resting = |n: u32| resting(n) && !fault::is_on(Fault::GroupAtOnce);
        space.find(resting).and_then(|n| u16::try_from(n).ok())
    }

    /// An access id that is free on a leaf.
    pub(super) fn free_access_id(&self, leaf: SwitchIndex) -> Option<u16> {
        let space = &self.on_switch.get(&leaf)?.access_ids;
        let resting = |n: u32| u16::try_from(n).is_ok_and(|n| self.quarantine.holds(&Number::AccessId(leaf, n)));
        let resting = |n: u32| resting(n) && !fault::is_on(Fault::AccessIdAtOnce);
        space.find(resting).and_then(|n| u16::try_from(n).ok())
    }

    /// A number in quarantine as it is stored: its owner, and the devices that may hold it.
    pub fn resting(&self, number: &Number) -> Option<(StoredNumber, Uid, Vec<DeviceIndex>)> {
        let entry = self.quarantine.get(number)?;
        let stored = StoredNumber::of(number, &self.fabric)?;
        Some((stored, entry.owner, entry.devices().collect()))
    }

    /// Identity of the next object, for the store.
    pub fn next_uid(&self) -> u64 {
        self.next_uid
    }

    /// Identities from this one on were never used, as before a restart.
    pub fn restore_next_uid(&mut self, next: u64) {
        self.next_uid = self.next_uid.max(next);
    }

    /// A new identity, for an object of a store that had none.
    pub fn new_uid(&mut self) -> Uid {
        self.next_uid += 1;
        Uid(self.next_uid - 1)
    }

    /// Puts a number back into quarantine after a restart. Devices that may hold it must confirm `revision`; `row` is
    /// the revision of its row in the store.
    pub fn restore_rest(
        &mut self,
        number: &StoredNumber,
        owner: Uid,
        devices: impl IntoIterator<Item = DeviceIndex>,
        (revision, row): (u64, Option<u64>),
        now: Instant,
    ) {
        // Numbers of a device that has left are free.
        if let Some(number) = number.resolve(&self.fabric)
            && !fault::is_on(Fault::ForgetsAtRestart)
        {
            self.quarantine.restore(number, owner, devices, (revision, row), now);
        }
    }

    /// Reserves the flood groups that a network had on a leaf, for when it is put there next.
    pub fn restore_group(&mut self, leaf: SwitchIndex, vni: u32, number: u16) {
        self.restored_groups.insert((leaf, vni), number);
    }

    /// Marks an identity as used, so that no other object gets it.
    pub fn restore_uid(&mut self, uid: Uid) {
        self.restore_next_uid(uid.0.saturating_add(1));
    }

    /// Flood groups that no restored network has claimed, because its object was set aside. They stay used, and so does
    /// the VNI in their row.
    pub fn reserve_restored_groups(&mut self) {
        let restored: Vec<((SwitchIndex, u32), u16)> = self.restored_groups.iter().map(|(k, g)| (*k, *g)).collect();
        for ((leaf, vni), group) in restored {
            let network = self.by_vni.get(&vni).and_then(|n| self.networks.get(*n));
            if network.is_some_and(|n| n.used().leaves.get(&leaf).is_some_and(|l| l.group == group)) {
                continue;
            }
            if network.is_none() {
                self.own_vni(vni, true);
            }
            self.reserve(&Number::FloodGroup(leaf, group), None);
        }
    }

    /// Everything was put back.
    pub fn end_restore(&mut self) {
        self.restored_groups.clear();
        self.moved = Moved::default();
    }

    /// The identity and VNI of a network by its VNI, for stores from before there were identities.
    pub fn owner_of_vni(&self, vni: u32) -> Option<Uid> {
        self.by_vni.get(&vni).and_then(|n| self.networks.get(*n)).map(|n| n.uid)
    }

    /// Devices that hold the network with a VNI.
    pub fn devices_of_vni(&self, vni: u32) -> BTreeSet<DeviceIndex> {
        self.by_vni.get(&vni).map(|n| self.devices_of(*n)).unwrap_or_default()
    }

    /// The attachment at a VLAN of an access port.
    #[cfg(test)]
    pub(crate) fn attachment_at(
        &self,
        leaf: SwitchIndex,
        port: vfabric_api::ident::PortId,
        vlan: Option<u16>,
    ) -> Option<&super::kind::Attachment> {
        self.attachments.get(*self.ports.get(&(leaf, port, vlan))?)
    }

    /// Limits the numbers of VTEPs.
    #[cfg(test)]
    pub(crate) fn limit_vteps(&mut self, first: u32, last: u32) {
        self.fabric.vteps.set_range(first, last);
    }

    /// Limits access ids and flood groups, so that tests see them reused.
    #[cfg(test)]
    pub(crate) fn limit_numbers(&mut self, most: u32) {
        for on in self.on_switch.values_mut() {
            on.access_ids.limit(most);
            on.groups.limit(most);
        }
    }
}
