//! The frames of an attack, where each of them has to end, and the verdict afterwards.
//!
//! Most frames have one of two fates. They are *refused*: nobody receives one beyond the device that refuses it, and
//! exactly one of the named counters rises by one. Or they are *kept*: nobody but the sender's own network receives
//! one, and each was received or counted as lost. So a frame that crosses, one that vanishes without a trace, and one
//! that is counted twice all fail an attack.

use std::collections::{BTreeMap, BTreeSet};

use super::watch::{Port, TOKEN, Watch};
use crate::counters::{self, Counter, Counts};
use crate::plan;
use crate::traffic::Loss;

/// Where frames have to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// Each raises one of these counters by one, and nobody beyond these devices receives it.
    Refused(BTreeSet<Counter>),
    /// Only these of the namespaces of workloads and machines receive it. Frames that they do not receive are counted
    /// as lost somewhere.
    Kept(BTreeSet<String>),
    /// Nobody has the address: it is flooded in the sender's network, where hosts with members
    /// of it receive it, and machines.
    Flooded {
        /// Namespaces of the network's workloads and machines.
        network: BTreeSet<String>,
        /// Namespaces of its hosts.
        hosts: BTreeSet<String>,
    },
    /// As `Kept`, but more of them are sent than the sender is allowed to: at least one of these counters rises.
    Limited {
        /// Namespaces of the network's workloads and machines.
        network: BTreeSet<String>,
        /// Where the limit is counted.
        by: BTreeSet<Counter>,
    },
    /// The device hands it to the controller; nobody else receives it.
    Punted(String),
}

impl Fate {
    /// Refused by one of some counters.
    pub(super) fn refused(counters: impl IntoIterator<Item = Counter>) -> Self {
        Self::Refused(counters.into_iter().collect())
    }

    /// Whether a namespace may receive such a frame. `members` are those of workloads and machines.
    fn permits(&self, namespace: &str, members: &BTreeSet<String>) -> bool {
        match self {
            Self::Refused(counters) => counters.iter().any(|c| counters::namespace(&c.device) == namespace),
            Self::Kept(network) | Self::Flooded { network, .. } | Self::Limited { network, .. } => {
                network.contains(namespace) || !(members.contains(namespace) || namespace == plan::MGMT)
            }
            Self::Punted(device) => counters::namespace(device) == namespace,
        }
    }
}

/// Frames from one port with the same fate.
#[derive(Debug)]
pub(super) struct Shot {
    /// Where they are sent.
    pub(super) port: Port,
    /// Where they have to end.
    pub(super) fate: Fate,
    /// The frames, each with the number in its token.
    pub(super) frames: Vec<(u32, Vec<u8>)>,
}

impl Shot {
    fn len(&self) -> u32 {
        u32::try_from(self.frames.len()).unwrap_or(u32::MAX)
    }
}

/// All that one attack sends.
pub(super) struct Volley<'a> {
    watch: &'a Watch,
    /// Number of the attack; `None` leaves tokens empty.
    attack: Option<u32>,
    next: u32,
    /// What is sent.
    pub(super) shots: Vec<Shot>,
}

impl<'a> Volley<'a> {
    /// Nothing yet.
    pub(super) fn new(watch: &'a Watch, attack: u32) -> Self {
        Self {
            watch,
            attack: Some(attack),
            next: 0,
            shots: Vec::new(),
        }
    }

    /// Nothing yet. The frames will have no tokens, because they are not sent unchanged.
    pub(super) fn without_tokens(watch: &'a Watch) -> Self {
        Self {
            attack: None,
            ..Self::new(watch, 0)
        }
    }

    /// Adds a frame; `build` puts the token into it.
    pub(super) fn fire(&mut self, port: &Port, fate: &Fate, build: impl FnOnce(&[u8; TOKEN]) -> Vec<u8>) {
        let number = self.next;
        self.next += 1;
        let token = self.attack.map(|attack| self.watch.token(attack, number).octets());
        let frame = build(&token.unwrap_or_default());
        match self.shots.iter_mut().find(|s| &s.port == port && &s.fate == fate) {
            Some(shot) => shot.frames.push((number, frame)),
            None => self.shots.push(Shot {
                port: port.clone(),
                fate: fate.clone(),
                frames: vec![(number, frame)],
            }),
        }
    }
}

/// The outcome of an attack.
#[derive(Debug, Clone, Default)]
pub(super) struct Outcome {
    /// Frames sent.
    pub(super) sent: u32,
    /// Frames that somebody in the sender's own network received.
    pub(super) arrived: u32,
    /// Frames that were flooded in the sender's own network, and that nobody took.
    pub(super) flooded: u32,
    /// Frames handed to the controller.
    pub(super) punted: u32,
    /// What is wrong; empty when all is well.
    pub(super) faults: Vec<String>,
}

/// Judges an attack by what every namespace received (numbers of frames) and what was counted.
/// `members` are the namespaces of workloads and machines; `alone` says that nothing else in the
/// lab makes frames that could be refused.
pub(super) fn judge(
    shots: &[Shot],
    members: &BTreeSet<String>,
    seen: &BTreeMap<&str, BTreeSet<u32>>,
    counted: &Counts,
    alone: bool,
) -> Outcome {
    let mut outcome = Outcome::default();
    let mut refused: BTreeMap<&BTreeSet<Counter>, u64> = BTreeMap::new();
    let mut missing = 0u64;
    for shot in shots {
        outcome.sent += shot.len();
        for (namespace, numbers) in seen {
            let here = shot.frames.iter().filter(|(n, _)| numbers.contains(n)).count();
            if here > 0 && !shot.fate.permits(namespace, members) {
                outcome
                    .faults
                    .push(format!("{here} frames of {} reached {namespace}", shot.port.namespace));
            }
        }
        match &shot.fate {
            Fate::Refused(counters) => *refused.entry(counters).or_default() += u64::from(shot.len()),
            Fate::Kept(network) | Fate::Limited { network, .. } => {
                let there = received(shot, network, seen);
                outcome.arrived += there;
                missing += u64::from(shot.len() - there);
                outcome.faults.extend(unlimited(shot, counted));
            }
            Fate::Flooded { network, hosts } => {
                let there = received(shot, &network.union(hosts).cloned().collect(), seen);
                outcome.flooded += there;
                missing += u64::from(shot.len() - there);
            }
            Fate::Punted(_) => outcome.punted += shot.len(),
        }
    }
    let mut rest = counted.clone();
    // Shots whose counters overlap are judged together, because a frame of one may have raised the other's counter.
    for (counters, sent) in together(refused) {
        let n: u64 = counters.iter().filter_map(|c| rest.remove(c)).sum();
        if n != sent {
            let names: Vec<String> = counters.iter().map(ToString::to_string).collect();
            outcome
                .faults
                .push(format!("{sent} frames sent, {n} counted as {}", names.join(" or ")));
        }
    }
    let elsewhere: u64 = rest.values().sum();
    if missing > elsewhere {
        outcome.faults.push(format!(
            "{missing} frames neither arrived nor were counted ({elsewhere} were)"
        ));
    }
    let refusals: u64 = rest.iter().filter(|(c, _)| c.is_refusal()).map(|(_, n)| n).sum();
    if alone && refusals > missing {
        outcome
            .faults
            .push(format!("{} more frames were counted than lost", refusals - missing));
    }
    outcome
}

/// What is wrong if the limit that a shot exceeds was not applied.
fn unlimited(shot: &Shot, counted: &Counts) -> Option<String> {
    let Fate::Limited { by, .. } = &shot.fate else {
        return None;
    };
    let applied = by.iter().any(|counter| counted.contains_key(counter));
    (!applied).then(|| {
        let names: Vec<String> = by.iter().map(ToString::to_string).collect();
        format!(
            "{} frames at once, and none counted as {}",
            shot.len(),
            names.join(" or ")
        )
    })
}

/// How many frames of a shot were received somewhere.
fn received(shot: &Shot, at: &BTreeSet<String>, seen: &BTreeMap<&str, BTreeSet<u32>>) -> u32 {
    let places: Vec<&BTreeSet<u32>> = at.iter().filter_map(|n| seen.get(n.as_str())).collect();
    let arrived = shot.frames.iter().filter(|(n, _)| places.iter().any(|p| p.contains(n)));
    u32::try_from(arrived.count()).unwrap_or(u32::MAX)
}

/// Merges sets that share an element.
fn together(of: BTreeMap<&BTreeSet<Counter>, u64>) -> Vec<(BTreeSet<Counter>, u64)> {
    let mut groups: Vec<(BTreeSet<Counter>, u64)> = Vec::new();
    for (counters, sent) in of {
        let (mut all, mut sum) = (counters.clone(), sent);
        groups.retain(|(other, n)| {
            let apart = other.is_disjoint(&all);
            if !apart {
                all.extend(other.iter().cloned());
                sum += n;
            }
            apart
        });
        groups.push((all, sum));
    }
    groups
}

/// Losses of the legitimate traffic during the attack.
pub(super) fn disturbed(loss: Loss) -> Option<String> {
    (loss.lost > 0).then(|| format!("the legitimate traffic beside it: {loss}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shot(fate: Fate, numbers: std::ops::Range<u32>) -> Shot {
        Shot {
            port: Port::new("vflab-a", "eth0"),
            fate,
            frames: numbers.map(|n| (n, Vec::new())).collect(),
        }
    }

    fn counter(reason: &str) -> Counter {
        Counter::switch("leaf1", reason)
    }

    fn members() -> BTreeSet<String> {
        ["vflab-a", "vflab-b", "vflab-x"].map(str::to_owned).into()
    }

    fn faults(shots: &[Shot], seen: &[(&str, std::ops::Range<u32>)], counted: Counts) -> Vec<String> {
        let seen = seen.iter().map(|(at, n)| (*at, n.clone().collect())).collect();
        judge(shots, &members(), &seen, &counted, true).faults
    }

    #[test]
    fn what_is_refused_is_counted_once_and_seen_no_further() {
        let shots = || [shot(Fate::refused([counter("spoofed")]), 0..5)];
        let leaf = [("vflab-leaf1", 0..5)];
        assert!(faults(&shots(), &leaf, Counts::from([(counter("spoofed"), 5)])).is_empty());
        for wrong in [4, 6] {
            let counted = Counts::from([(counter("spoofed"), wrong)]);
            assert_eq!(faults(&shots(), &leaf, counted).len(), 1, "{wrong} counted");
        }
        // The expected counter did not rise, and another one did.
        assert_eq!(faults(&shots(), &leaf, Counts::from([(counter("other"), 5)])).len(), 2);
        let twice = Counts::from([(counter("spoofed"), 5), (counter("other"), 5)]);
        assert_eq!(faults(&shots(), &leaf, twice).len(), 1);
        for behind in ["vflab-x", "vflab-spine1", "vflab-b"] {
            let counted = Counts::from([(counter("spoofed"), 5)]);
            assert_eq!(faults(&shots(), &[(behind, 2..3)], counted).len(), 1, "{behind}");
        }
    }

    #[test]
    fn what_is_kept_arrives_in_its_network_or_is_counted() {
        let kept = || [shot(Fate::Kept(["vflab-b".to_owned()].into()), 0..5)];
        let on_the_way = ("vflab-spine1", 0..5);
        assert!(faults(&kept(), &[("vflab-b", 0..5), on_the_way.clone()], Counts::new()).is_empty());
        assert!(faults(&kept(), &[("vflab-b", 0..3)], Counts::from([(counter("full"), 2)])).is_empty());
        assert_eq!(
            faults(&kept(), &[("vflab-b", 0..3), on_the_way], Counts::new()).len(),
            1
        );
        assert_eq!(
            faults(&kept(), &[("vflab-b", 0..5), ("vflab-x", 1..2)], Counts::new()).len(),
            1
        );
    }

    #[test]
    fn a_limit_that_was_not_applied_is_a_fault() {
        let limited = || {
            [shot(
                Fate::Limited {
                    network: ["vflab-b".to_owned()].into(),
                    by: [counter("flood_limit")].into(),
                },
                0..5,
            )]
        };
        let applied = Counts::from([(counter("flood_limit"), 2)]);
        assert!(faults(&limited(), &[("vflab-b", 0..3)], applied.clone()).is_empty());
        assert_eq!(
            faults(&limited(), &[("vflab-b", 0..2)], applied).len(),
            1,
            "one is missing"
        );
        assert_eq!(faults(&limited(), &[("vflab-b", 0..5)], Counts::new()).len(), 1);
    }

    #[test]
    fn what_is_flooded_reaches_the_hosts_of_its_network_at_least() {
        let flooded = || {
            [shot(
                Fate::Flooded {
                    network: ["vflab-b".to_owned()].into(),
                    hosts: ["vflab-host1".to_owned()].into(),
                },
                0..5,
            )]
        };
        assert!(faults(&flooded(), &[("vflab-host1", 0..5)], Counts::new()).is_empty());
        assert_eq!(faults(&flooded(), &[("vflab-host1", 0..4)], Counts::new()).len(), 1);
        let crossed = [("vflab-host1", 0..5), ("vflab-x", 0..1)];
        assert_eq!(faults(&flooded(), &crossed, Counts::new()).len(), 1);
    }

    #[test]
    fn counters_of_refused_frames_do_not_explain_lost_ones() {
        let shots = [
            shot(Fate::refused([counter("spoofed")]), 0..5),
            shot(Fate::Kept(["vflab-b".to_owned()].into()), 5..6),
        ];
        assert_eq!(faults(&shots, &[], Counts::from([(counter("spoofed"), 5)])).len(), 1);
        let two = Counts::from([(counter("spoofed"), 5), (counter("full"), 1)]);
        assert!(faults(&shots, &[], two).is_empty());
    }

    #[test]
    fn fates_that_share_a_counter_are_judged_together() {
        let shots = [
            shot(Fate::refused([counter("a"), counter("b")]), 0..5),
            shot(Fate::refused([counter("b"), counter("c")]), 5..8),
            shot(Fate::refused([counter("c")]), 8..9),
        ];
        let all = Counts::from([(counter("a"), 2), (counter("b"), 3), (counter("c"), 4)]);
        assert!(faults(&shots, &[], all).is_empty());
    }
}
