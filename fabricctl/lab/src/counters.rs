//! Losses that the fabric reports: every counter that a lost frame can raise, as the controller returns them
//! (`GET /v1/drops`).
//!
//! | where | what |
//! | --- | --- |
//! | switch | refused by the pipeline, by reason (and host) |
//! | switch, port | no room in the ring, not taken by the device, in error |
//! | host, attachment or link | refused by the filter, dropped by a link or by the queue in front of the uplink |

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Result, bail};

use crate::{Lab, plan};

/// One counter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Counter {
    /// The switch or host.
    pub(crate) device: String,
    /// The port, attachment, link or host that it is about; empty for a whole switch.
    pub(crate) place: String,
    /// Why the frames were lost.
    pub(crate) reason: String,
}

impl Counter {
    /// A reason of a switch's pipeline.
    pub(crate) fn switch(switch: impl fmt::Display, reason: &str) -> Self {
        Self {
            device: switch.to_string(),
            place: String::new(),
            reason: reason.to_owned(),
        }
    }

    /// Whether a pipeline or a filter refused the frames; the others were lost by a link. (A link's counters follow
    /// with a delay, and include frames that the kernel's own stack dropped.)
    pub(crate) fn is_refusal(&self) -> bool {
        let by_port = ["-discards", "-errors"].iter().any(|end| self.reason.ends_with(end));
        let by_link = ["received, ", "sent, "]
            .iter()
            .any(|begin| self.reason.starts_with(begin));
        !by_port && !by_link
    }

    /// A reason at a place of a device.
    pub(crate) fn at(device: impl fmt::Display, place: impl fmt::Display, reason: &str) -> Self {
        Self {
            device: device.to_string(),
            place: place.to_string(),
            reason: reason.to_owned(),
        }
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = if self.place.is_empty() { "" } else { " " };
        write!(f, "{}{place}{} {}", self.device, self.place, self.reason)
    }
}

/// Frames lost so far.
pub(crate) type Counts = BTreeMap<Counter, u64>;

/// Losses between two readings. If a counter is smaller than before, it was reset, and all of it is new.
pub(crate) fn since(before: &Counts, now: &Counts) -> Counts {
    let grown = now.iter().map(|(counter, n)| {
        let then = before.get(counter).copied().unwrap_or(0);
        (counter.clone(), n.checked_sub(then).unwrap_or(*n))
    });
    grown.filter(|(_, n)| *n > 0).collect()
}

/// In words.
pub(crate) fn words(counts: &Counts) -> String {
    if counts.is_empty() {
        return "no counter moved".into();
    }
    let each: Vec<String> = counts.iter().map(|(c, n)| format!("{c} +{n}")).collect();
    each.join(", ")
}

/// Reads all counters, from the controller.
pub(crate) struct Reader {
    client: vfabric_api::client::Client,
}

impl Reader {
    /// For the controller of a lab.
    ///
    /// # Errors
    /// The lab has no client settings.
    pub(crate) fn open(lab: &Lab) -> Result<Self> {
        Ok(Self { client: lab.client()? })
    }

    /// All losses since the counters started.
    ///
    /// # Errors
    /// The controller, or a device, does not reply.
    pub(crate) async fn read(&self) -> Result<Counts> {
        let drops = self.client.drops().await?;
        if !drops.missing.is_empty() {
            let missing = drops.missing.iter().map(|m| format!("{}: {}", m.device, m.reason));
            bail!("counters are missing: {}", missing.collect::<Vec<_>>().join(", "));
        }
        let mut counts = Counts::new();
        for d in drops.counts {
            let sender = || d.host.as_ref().map(ToString::to_string);
            let place = d.place.clone().or_else(sender).unwrap_or_default();
            *counts.entry(Counter::at(&d.device, place, &d.reason)).or_default() += d.packets;
        }
        Ok(counts)
    }
}

/// The namespace of a device.
pub(crate) fn namespace(device: &str) -> String {
    format!("{}{device}", plan::PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_link_loses_is_no_refusal() {
        for reason in ["in-discards", "out-errors", "received, dropped", "sent, queue full"] {
            assert!(!Counter::at("leaf1", "swp1", reason).is_refusal(), "{reason}");
        }
        assert!(Counter::switch("leaf1", "host_vni").is_refusal());
        assert!(Counter::at("host1", "blue/web1", "source-mac").is_refusal());
    }

    #[test]
    fn only_what_has_grown_was_lost_since() {
        let counter = |reason| Counter::switch("leaf1", reason);
        let before = Counts::from([(counter("same"), 5), (counter("more"), 5), (counter("reset"), 5)]);
        let now = Counts::from([
            (counter("same"), 5),
            (counter("more"), 7),
            (counter("reset"), 2),
            (counter("new"), 1),
        ]);
        let expected = Counts::from([(counter("more"), 2), (counter("reset"), 2), (counter("new"), 1)]);
        assert_eq!(since(&before, &now), expected);
        assert_eq!(words(&expected), "leaf1 more +2, leaf1 new +1, leaf1 reset +2");
        assert_eq!(words(&Counts::new()), "no counter moved");
    }
}
