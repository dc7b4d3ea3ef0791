//! Identifiers that somebody gave back and devices may still hold.
//!
//! **Model.** A set of pairs: this device may hold this identifier until it has confirmed this
//! revision. An identifier is free again when no pair of it is left. Pairs are made when
//! something leaves a device, not when the identifier is given back, so that only devices that
//! were told of it and have not confirmed are ever waited for: also after a restart, since pairs
//! are stored.
//!
//! **Cost.** Looking for what devices have confirmed costs the devices that are waited for, and
//! what they let go of.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use crate::device::driver::DeviceIndex;

/// What a device may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Held {
    /// The VNI of a network or router.
    Vni(u32),
    /// An address of an attachment of the network with this VNI.
    Ip(u32, IpAddr),
}

/// Who may hold what.
#[derive(Debug, Default)]
pub(super) struct Quarantine {
    by_device: BTreeMap<DeviceIndex, BTreeMap<u64, BTreeSet<Held>>>,
    by_held: HashMap<Held, BTreeMap<DeviceIndex, u64>>,
}

impl Quarantine {
    /// Something is taken from a device by `revision`.
    pub(super) fn leave(&mut self, held: Held, device: DeviceIndex, revision: u64) {
        let before = self.by_held.entry(held).or_default().insert(device, revision);
        if let Some(before) = before {
            self.forget(held, device, before);
        }
        let of_device = self.by_device.entry(device).or_default();
        of_device.entry(revision).or_default().insert(held);
    }

    fn forget(&mut self, held: Held, device: DeviceIndex, revision: u64) {
        let Some(of_device) = self.by_device.get_mut(&device) else {
            return;
        };
        if let Some(of_revision) = of_device.get_mut(&revision) {
            of_revision.remove(&held);
            if of_revision.is_empty() {
                of_device.remove(&revision);
            }
        }
        if of_device.is_empty() {
            self.by_device.remove(&device);
        }
    }

    /// Whether some device may hold it.
    pub(super) fn holds(&self, held: &Held) -> bool {
        self.by_held.contains_key(held)
    }

    /// How many identifiers some device may hold.
    pub(super) fn len(&self) -> usize {
        self.by_held.len()
    }

    /// Devices that may hold it.
    pub(super) fn holders(&self, held: &Held) -> impl Iterator<Item = DeviceIndex> {
        self.by_held.get(held).into_iter().flat_map(|d| d.keys().copied())
    }

    /// Identifiers that some device may hold.
    pub(super) fn all(&self) -> impl Iterator<Item = &Held> {
        self.by_held.keys()
    }

    /// Forgets pairs whose device has confirmed their revision; answers these pairs.
    pub(super) fn release(&mut self, confirmed: impl Fn(DeviceIndex, u64) -> bool) -> Vec<(Held, DeviceIndex)> {
        let mut released = Vec::new();
        self.by_device.retain(|device, revisions| {
            while let Some(first) = revisions.first_entry() {
                if !confirmed(*device, *first.key()) {
                    break;
                }
                released.extend(first.remove().into_iter().map(|held| (held, *device)));
            }
            !revisions.is_empty()
        });
        for (held, device) in &released {
            if let Some(devices) = self.by_held.get_mut(held) {
                devices.remove(device);
                if devices.is_empty() {
                    self.by_held.remove(held);
                }
            }
        }
        released
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_free_when_the_last_device_has_confirmed() {
        let mut quarantine = Quarantine::default();
        let (a, b) = (DeviceIndex(1), DeviceIndex(2));
        let (seven, eight) = (Held::Vni(7), Held::Vni(8));
        quarantine.leave(seven, a, 10);
        quarantine.leave(seven, b, 11);
        quarantine.leave(eight, a, 12);
        assert_eq!(quarantine.release(|_, _| false), []);
        assert_eq!(quarantine.release(|d, r| d == a && r <= 11), [(seven, a)]);
        assert!(quarantine.holds(&seven) && quarantine.holds(&eight));
        // Told of it again, and it left again: the later revision counts.
        quarantine.leave(seven, b, 20);
        assert_eq!(quarantine.release(|_, r| r <= 19), [(eight, a)]);
        assert_eq!(quarantine.release(|_, r| r <= 20), [(seven, b)]);
        assert_eq!(quarantine.all().count(), 0);
    }
}
