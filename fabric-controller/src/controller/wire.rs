//! What ports use on the wire, as switches report it, and what of that does not fit: the two ends of a link, or a port and the inventory.
//!
//! A cable with two speeds or two kinds of error correction stays dark, and both ends only say "down". So it is named in words, with the
//! port to look at.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};

use vfabric_api::ethernet::{Fec, PortSettings, Speed};
use vfabric_api::ident::PortId;
use vfabric_api::topology::{Link, PortRef};

use crate::device::settings::OnWire;
use crate::ident::DeviceIndex;
use crate::model::fabric::{Fabric, Node};

/// What a port uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Used {
    speed: Option<Speed>,
    fec: Option<Fec>,
}

/// What is known of all ports.
#[derive(Default)]
pub(super) struct Wire(Mutex<HashMap<DeviceIndex, HashMap<PortId, Used>>>);

/// One end of a link.
struct End<'a> {
    at: &'a PortRef,
    wanted: Option<&'a PortSettings>,
    used: Used,
}

impl Display for End<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.at.switch, self.at.port)
    }
}

impl Wire {
    fn all(&self) -> MutexGuard<'_, HashMap<DeviceIndex, HashMap<PortId, Used>>> {
        // Every update under the lock is complete before anything in it can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a report.
    pub(super) fn note(&self, device: DeviceIndex, port: PortId, now: OnWire) {
        let mut all = self.all();
        let used = all.entry(device).or_default().entry(port).or_default();
        match now {
            OnWire::Speed(speed) => used.speed = speed,
            OnWire::Fec(fec) => used.fec = fec,
        }
    }

    /// Forgets a device that has left.
    pub(super) fn forget(&self, device: DeviceIndex) {
        self.all().remove(&device);
    }

    /// What does not fit at a link, in words.
    pub(super) fn mismatch(&self, fabric: &Fabric, link: &Link) -> Option<String> {
        let all = self.all();
        let end = |at: &'_ PortRef| {
            let Some(Node::Switch(switch)) = fabric.node(&at.switch) else {
                return None;
            };
            let spec = &fabric.switch(switch)?.spec;
            let used = all
                .get(&fabric.switch_device(switch))
                .and_then(|ports| ports.get(&at.port));
            Some((
                spec.ports.iter().find(|port| port.port == at.port),
                used.copied().unwrap_or_default(),
            ))
        };
        let (a, b) = (end(&link.a)?, end(&link.b)?);
        let of = |at, (wanted, used)| End { at, wanted, used };
        words(&of(&link.a, a), &of(&link.b, b))
    }
}

/// Compares the ends of a link.
fn words(a: &End<'_>, b: &End<'_>) -> Option<String> {
    let speed = compare(
        "speed",
        "the transceiver and the cable",
        [a, b],
        |end| end.wanted.and_then(|wanted| wanted.speed),
        |end| end.used.speed,
    );
    // A port that chooses its error correction has no wrong one.
    let is_fixed = |fec: &Fec| *fec != Fec::Auto;
    let fec = compare(
        "FEC",
        "the transceiver and the settings",
        [a, b],
        |end| end.wanted.and_then(|wanted| wanted.fec).filter(is_fixed),
        |end| end.used.fec.filter(is_fixed),
    );
    let found: Vec<String> = [speed, fec].into_iter().flatten().collect();
    (!found.is_empty()).then(|| found.join("; "))
}

/// Compares one setting: each end with the inventory, then the ends with each other.
fn compare<T: PartialEq + Display>(
    what: &str,
    look: &str,
    ends: [&End<'_>; 2],
    wanted: impl Fn(&End<'_>) -> Option<T>,
    used: impl Fn(&End<'_>) -> Option<T>,
) -> Option<String> {
    let [a, b] = ends;
    for (end, other) in [(a, b), (b, a)] {
        if let (Some(wanted), Some(used)) = (wanted(end), used(end))
            && wanted != used
        {
            return Some(format!(
                "wrong {what}: {end} uses {used} instead of {wanted}: look at {look} at {end}; the other end is {other}"
            ));
        }
    }
    let said = |end: &End<'_>| used(end).or_else(|| wanted(end));
    match (said(a), said(b)) {
        (Some(at_a), Some(at_b)) if at_a != at_b => {
            // The end that the inventory does not vouch for is the one to look at.
            let odd = if wanted(a).is_some() { b } else { a };
            Some(format!(
                "different {what}: {a} has {at_a}, {b} has {at_b}: look at {look} at {odd}"
            ))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(switch: &str) -> PortRef {
        PortRef {
            switch: switch.parse().unwrap(),
            port: 1.try_into().unwrap(),
        }
    }

    fn settings(speed: Option<Speed>, fec: Option<Fec>) -> PortSettings {
        PortSettings {
            port: 1.try_into().unwrap(),
            speed,
            fec,
            auto_negotiate: None,
        }
    }

    #[test]
    fn what_does_not_fit_is_named_with_the_port_to_look_at() {
        let (leaf, spine) = (port("leaf1"), port("spine1"));
        let of = |at, wanted, speed, fec| End {
            at,
            wanted,
            used: Used { speed, fec },
        };
        let said = |a: &End<'_>, b: &End<'_>| words(a, b).unwrap_or_default();
        let wanted = settings(Some(Speed::G25), Some(Fec::Rs528));
        let right = of(&leaf, Some(&wanted), Some(Speed::G25), Some(Fec::Rs528));
        let silent = of(&spine, None, None, None);
        assert_eq!(said(&right, &silent), "");
        let slow = of(&leaf, Some(&wanted), Some(Speed::G10), Some(Fec::Rs528));
        assert_eq!(
            said(&slow, &silent),
            "wrong speed: leaf1:1 uses 10G instead of 25G: look at the transceiver and the cable at leaf1:1; the other end is spine1:1"
        );
        let bare = of(&spine, None, Some(Speed::G25), Some(Fec::Disabled));
        assert_eq!(
            said(&right, &bare),
            "different FEC: leaf1:1 has rs528, spine1:1 has none: look at the transceiver and the settings at spine1:1"
        );
        // Neither end reports what it uses, and the inventory asks for two different speeds.
        let other = settings(Some(Speed::G100), None);
        let (a, b) = (
            of(&leaf, Some(&wanted), None, None),
            of(&spine, Some(&other), None, None),
        );
        assert!(said(&a, &b).starts_with("different speed: leaf1:1 has 25G, spine1:1 has 100G"));
        let auto = of(&spine, None, Some(Speed::G25), Some(Fec::Auto));
        assert_eq!(said(&right, &auto), "");
    }
}
