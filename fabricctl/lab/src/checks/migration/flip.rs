//! Where the pings of a flow were answered, and which are lost. Pure.
//!
//! Pings of a flow arrive in order, so their numbers serve as a clock without jitter: a ping that the guest answered at
//! the source came before the guest stopped there. A few pings have reached the guest when it stops, and move with its
//! memory. The guest answers these first at the target. All lost pings must come directly after these, in one run;
//! every later ping is answered at the target.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::pings::Pinged;

/// Most pings that a guest can have received and not answered when it stops: it answers within a few milliseconds.
const IN_MEMORY: u32 = 4;

/// A flow around a move.
pub(super) struct Flow<'a> {
    pub(super) pinged: &'a Pinged,
    /// Numbers of replies that left the namespace at the source.
    pub(super) by_source: &'a BTreeSet<u32>,
    /// Numbers of replies that left the namespace at the target.
    pub(super) by_target: &'a BTreeSet<u32>,
}

/// What a move cost a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    pub(super) sent: usize,
    pub(super) lost: usize,
    /// Time from the first lost ping to the next one that was answered.
    pub(super) outage: Duration,
    /// When the reply to the first ping after the lost ones arrived.
    pub(super) served: Instant,
}

/// Numbers of the pings that nobody answered.
pub(super) fn lost(pinged: &Pinged) -> BTreeSet<u32> {
    let all = (0u32..).take(pinged.sent.len());
    all.filter(|number| !pinged.answered.contains_key(number)).collect()
}

impl Flow<'_> {
    /// The cost of the move; an error if a ping is lost that no move explains.
    pub(super) fn cost(&self) -> Result<Cost, String> {
        let lost = lost(self.pinged);
        let Some(last) = self.by_source.last().copied() else {
            return Err("the guest answered nothing at the source".into());
        };
        let arrived = |number: &&u32| self.pinged.answered.contains_key(number);
        let Some(first) = self.by_target.iter().find(arrived).copied() else {
            return Err("no reply came from the target".into());
        };
        if let Some(both) = self.by_source.intersection(self.by_target).next() {
            return Err(format!("ping {both} was answered at both places"));
        }
        if first < last {
            return Err(format!(
                "ping {first} was answered at the target, and {last} at the source"
            ));
        }
        let end = match (lost.first().copied(), lost.last().copied()) {
            (Some(begin), Some(end)) => {
                let in_memory = begin.saturating_sub(last + 1);
                let in_a_row = (begin..=end).all(|number| lost.contains(&number));
                if begin <= last || in_memory > IN_MEMORY || !in_a_row {
                    return Err(format!(
                        "pings {lost:?} are lost, though the guest answered at the source until {last} and at the target from {first} on"
                    ));
                }
                end + 1
            }
            _ => first,
        };
        let sent_at = |number: u32| self.pinged.sent.get(number as usize).copied();
        let outage = lost
            .first()
            .and_then(|number| Some(sent_at(end)?.saturating_duration_since(sent_at(*number)?)));
        Ok(Cost {
            sent: self.pinged.sent.len(),
            lost: lost.len(),
            outage: outage.unwrap_or_default(),
            served: self.pinged.answered.get(&end).copied().unwrap_or_else(Instant::now),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(4);

    /// Ten pings, of which these were answered, at the source and at the target.
    fn cost(answered: &[u32], source: &[u32], target: &[u32]) -> Result<Cost, String> {
        let start = Instant::now();
        let pinged = Pinged {
            sent: (0..10).map(|i| start + INTERVAL * i).collect(),
            answered: answered.iter().map(|number| (*number, start)).collect(),
        };
        let [by_source, by_target] = [source, target].map(|numbers| numbers.iter().copied().collect());
        Flow {
            pinged: &pinged,
            by_source: &by_source,
            by_target: &by_target,
        }
        .cost()
    }

    #[test]
    fn only_what_is_lost_in_the_flip_is_explained() {
        let fine = cost(&[0, 1, 2, 6, 7, 8, 9], &[0, 1, 2], &[6, 7, 8, 9]).unwrap();
        assert_eq!((fine.sent, fine.lost, fine.outage), (10, 3, INTERVAL * 3));
        let all = (0..10).collect::<Vec<_>>();
        let none = cost(&all, &[0, 1, 2], &[3, 4, 5, 6, 7, 8, 9]).unwrap();
        assert_eq!((none.lost, none.outage), (0, Duration::ZERO));
        // A guest that runs again answers before it is served: that reply is lost in the flip, too.
        let early = cost(&[0, 1, 2, 6, 7, 8, 9], &[0, 1, 2], &[3, 6, 7, 8, 9]).unwrap();
        assert_eq!(early.lost, 3);
        // Ping 3 was in the guest's memory when it moved.
        let moved = cost(&[0, 1, 2, 3, 6, 7, 8, 9], &[0, 1, 2], &[3, 6, 7, 8, 9]).unwrap();
        assert_eq!((moved.lost, moved.outage), (2, INTERVAL * 2));
        for (what, wrong) in [
            (
                "long after",
                cost(&[0, 1, 2, 3, 4, 5, 6, 7, 9], &[0, 1, 2], &[3, 4, 5, 6, 7, 9]),
            ),
            ("before", cost(&[0, 2, 6, 7, 8, 9], &[0, 1, 2], &[6, 7, 8, 9])),
            ("after", cost(&[0, 1, 2, 6, 8, 9], &[0, 1, 2], &[6, 7, 8, 9])),
            ("at the end", cost(&[0, 1, 2, 6, 7, 8], &[0, 1, 2], &[6, 7, 8])),
            ("twice", cost(&all, &[0, 1, 2, 3], &[3, 4, 5, 6, 7, 8, 9])),
            ("in disorder", cost(&all, &[0, 1, 5], &[2, 3, 4, 6, 7, 8, 9])),
            ("never at the target", cost(&[0, 1, 2], &[0, 1, 2], &[3, 4])),
            ("never at the source", cost(&[3, 4], &[], &[3, 4])),
        ] {
            assert!(wrong.is_err(), "{what}: {wrong:?}");
        }
    }
}
