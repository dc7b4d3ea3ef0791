//! May this controller change what a device holds?
//!
//! **Model.** A device remembers the number of the store that has its claim. The controller of that store may do everything.
//! A controller with another store, such as an empty one or that of another fabric, takes a device over if it would
//! delete little of what the device holds. Otherwise it leaves the device as it is, closes the session, and says so. It
//! tries again, because others may empty the device. `--adopt` takes over every device.
//!
//! If a device remembers a later revision than its own store has, the store is an older copy. Such a device
//! is also left as it is. A revision is durable before it is sent to devices, so this never happens with the right store.
//!
//! **Invariant.** Nothing is written to a device before the claim to it is settled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use vfabric_api::ident::Name;

/// Entities that another store's controller may delete without being asked: remains of a test or an earlier version.
const FEW: usize = 8;
/// The same as a share of what the device holds: one in this many.
const SHARE: usize = 4;

/// Counts of what a device holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Census {
    /// Entities that it holds.
    pub held: usize,
    /// How many of these entities nobody asks for.
    pub unwanted: usize,
    /// Whether it is a switch.
    pub of_switch: bool,
}

/// What a device remembers, and what was sent to it since the controller started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Memory {
    /// The store that has its claim.
    pub(super) kept_by: Option<u32>,
    /// The last revision of that store that it received.
    pub(super) brought_to: Option<u64>,
    /// The latest revision that this controller has sent to it.
    pub(super) sent: u64,
}

/// The controller's right to devices.
#[derive(Debug, Default)]
pub struct Claim {
    /// Number of the store. `None` claims every device and leaves no mark; for tests and measurements.
    store: Option<u32>,
    /// Take over devices of another store, whatever they hold.
    adopt: bool,
    /// Revision of the store when it was loaded.
    loaded: AtomicU64,
    /// Switches that this controller leaves as they are.
    foreign: Mutex<BTreeSet<Name>>,
    /// The latest revision that was sent to devices which have since left the inventory or were replaced. A device that comes
    /// back under the same name may remember it.
    left: Mutex<BTreeMap<Name, u64>>,
}

impl Claim {
    /// The claim of a store with this number.
    pub fn new(store: u32, adopt: bool) -> Self {
        Self {
            store: Some(store),
            adopt,
            loaded: AtomicU64::new(u64::MAX),
            foreign: Mutex::default(),
            left: Mutex::default(),
        }
    }

    /// Records the revision of the store that was loaded.
    pub(crate) fn loaded(&self, revision: u64) {
        self.loaded.store(revision, Ordering::Relaxed);
    }

    /// The number that a device must remember in place of `kept_by`; none if it already does.
    ///
    /// # Errors
    /// The device belongs to another store; in words.
    pub(super) fn settle(&self, device: &Name, memory: Memory, census: Census) -> Result<Option<u32>, String> {
        let kept_by = memory.kept_by;
        let mut foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let known = left.get(device).copied().unwrap_or_default().max(memory.sent);
        drop(left);
        let loaded = self.loaded.load(Ordering::Relaxed);
        let later = memory.brought_to.filter(|revision| *revision > loaded.max(known));
        if let (Some(later), true, false) = (later, self.store.is_some() && kept_by == self.store, self.adopt) {
            // A host may lie, so its number proves nothing about other devices.
            if census.of_switch {
                foreign.insert(device.clone());
            }
            return Err(format!(
                "it was brought to revision {later} of this store, which had revision {loaded} when it was loaded: the \
                 store is an older copy; nothing is written to it. Restore the newest one, or start with --adopt to go \
                 back to what this copy says"
            ));
        }
        let takes_over = self.store.is_none() || kept_by == self.store || self.adopt || census.is_harmless();
        if !takes_over {
            // A host may lie, and its leaf admits nothing that the store does not have.
            if census.of_switch {
                foreign.insert(device.clone());
            }
            let Census { held, unwanted, .. } = census;
            return Err(format!(
                "it is kept by another store: of {held} entities that it holds, this store does not have {unwanted}; \
                 nothing is written to it. Restore the right store, or start with --adopt to delete them"
            ));
        }
        foreign.remove(device);
        Ok(self.store.filter(|_| kept_by != self.store))
    }

    /// A switch that this controller leaves as it is, if there is one.
    pub(crate) fn foreign(&self) -> Option<Name> {
        let foreign = self.foreign.lock().unwrap_or_else(PoisonError::into_inner);
        foreign.first().cloned()
    }

    /// Keeps the revision of a device that leaves the inventory or is replaced by other hardware.
    pub(crate) fn left(&self, device: &Name, sent: u64) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let known = left.entry(device.clone()).or_default();
        *known = sent.max(*known);
    }

    /// A device has left the inventory, or other hardware has taken its place.
    pub(crate) fn forget(&self, device: &Name) {
        self.foreign
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(device);
    }
}

impl Census {
    /// Whether only a small part of what the device holds is unwanted.
    fn is_harmless(self) -> bool {
        self.unwanted <= FEW || self.unwanted * SHARE <= self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(held: usize, unwanted: usize) -> Census {
        let of_switch = true;
        Census {
            held,
            unwanted,
            of_switch,
        }
    }

    #[test]
    fn a_device_of_another_store_is_taken_over_if_that_deletes_little() {
        let claim = Claim::new(7, false);
        let name: Name = "leaf1".parse().unwrap();
        let of = |kept_by| Memory {
            kept_by,
            ..Memory::default()
        };
        let settle = |kept_by, held, unwanted| claim.settle(&name, of(kept_by), census(held, unwanted));
        assert_eq!(settle(Some(7), 100, 100), Ok(None), "its own");
        assert_eq!(settle(None, 8, 8), Ok(Some(7)), "few");
        assert_eq!(settle(Some(9), 100, 25), Ok(Some(7)), "a small share");
        assert!(settle(Some(9), 100, 26).unwrap_err().contains("does not have 26"));
        assert_eq!(claim.foreign(), Some(name.clone()));
        assert!(settle(None, 9, 9).is_err(), "unmarked, as by an earlier version");
        assert_eq!(settle(Some(9), 100, 1), Ok(Some(7)));
        assert_eq!(claim.foreign(), None);
        let adopts = Claim::new(7, true);
        assert_eq!(adopts.settle(&name, of(Some(9)), census(9, 9)), Ok(Some(7)));
        assert_eq!(Claim::default().settle(&name, of(Some(9)), census(9, 9)), Ok(None));
    }

    #[test]
    fn an_older_copy_of_the_right_store_is_not_trusted() {
        let name: Name = "host1".parse().unwrap();
        let memory = |kept_by, brought_to, sent| Memory {
            kept_by: Some(kept_by),
            brought_to: Some(brought_to),
            sent,
        };
        let claim = Claim::new(7, false);
        claim.loaded(50);
        let settle = |memory| claim.settle(&name, memory, census(100, 0));
        assert_eq!(settle(memory(7, 50, 0)), Ok(None));
        let said = settle(memory(7, 51, 0)).unwrap_err();
        assert!(said.contains("revision 51") && said.contains("older copy"), "{said}");
        assert_eq!(settle(memory(7, 60, 60)), Ok(None), "sent by this controller itself");
        assert!(settle(memory(7, 61, 60)).is_err());
        // The device left. It comes back as a new one, which was sent nothing.
        claim.left(&name, 60);
        claim.left(&name, 55);
        assert_eq!(
            settle(memory(7, 60, 0)),
            Ok(None),
            "sent by this controller before it left"
        );
        assert!(settle(memory(7, 61, 0)).is_err());
        assert_eq!(
            settle(memory(9, 99, 0)),
            Ok(Some(7)),
            "revisions of another store say nothing"
        );
        // A device that left and comes back is a new one: nothing was sent to it yet.
        claim.left(&name, 70);
        assert_eq!(settle(memory(7, 70, 0)), Ok(None));
        assert!(settle(memory(7, 71, 0)).is_err());
        let other: Name = "host2".parse().unwrap();
        assert!(claim.settle(&other, memory(7, 60, 0), census(100, 0)).is_err());
        let adopts = Claim::new(7, true);
        adopts.loaded(50);
        assert_eq!(adopts.settle(&name, memory(7, 51, 0), census(100, 0)), Ok(None));
    }
}
