//! Which links carry traffic: a state machine over reports of ports and arrivals of probes.
//! Pure: time is an argument.
//!
//! At a [`Pace`] a probe ([`super::lldp`]) leaves each end of each link. A link is used
//! unless one of these holds:
//!
//! | fault | begins | ends |
//! | --- | --- | --- |
//! | port down | a switch reports a port of the link down | it reports it up |
//! | miswired | a probe arrives where it should not | the right one arrives, or [`Pace::hold`] without the wrong one |
//! | silent | an end that has heard probes hears none for [`Pace::hold`] | it hears one |
//! | unanswered | the controller has a session with one end, and for [`Pace::hold`] none with the other | it has one with both |
//! | filling | a spine at an end of it is new, or came back empty | the spine holds all that it should |
//! | inherited | the link was down when the last controller ended | ports at both ends are reported up, a probe arrives, or both switches have been ready for [`Pace::hold`] |
//!
//! An unanswered link may work, because its far switch forwards without us. A link whose spine is being filled will
//! work soon. So both are *avoided*: used only where there is no other path. All other faults take a link out of use.
//!
//! **Invariants.** Silence counts only while both switches are ready, from the moment at which
//! both became so, and only while the clock runs. Probes that a switch misses while it is synchronised,
//! or that a stopped controller misses, are not faults of the link. An end that never heard a
//! probe is not silent: its switch may not be able to punt. [`Memory`] keeps across a restart of the
//! controller which ends have heard a probe and which links were down, so that nothing is routed
//! over such a link before it is known to work.
//!
//! **Cost.** Constant for each probe and report; a tick looks at every link once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use vfabric_api::ident::PortId;

use super::LinkIndex;
use super::pace::Pace;
use crate::ident::SwitchIndex;

/// One end of a link.
pub type End = (SwitchIndex, PortId);

/// Whether a link is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// As any other.
    Up,
    /// Only if there is no other path.
    Avoided,
    /// Not at all.
    Down,
}

/// The use of a link has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkChange {
    /// The link.
    pub link: LinkIndex,
    /// Whether it is used.
    pub used: Use,
}

/// Why a link is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A switch reports this port down.
    PortDown(End),
    /// The cable that begins at `at` ends at `found`, and not at `expected`.
    Miswired {
        /// An end of the link.
        at: End,
        /// Where its cable really goes.
        found: End,
        /// Where the topology says it goes.
        expected: End,
    },
    /// No probe arrives at this end.
    Silent(End),
    /// It was down before the controller started, and nothing has shown since that it works.
    Inherited,
    /// There is no session with the switch of this end.
    Unanswered(End),
    /// The switch of this end does not hold yet what it should.
    Filling(End),
}

impl Fault {
    /// How the link may still be used with this fault.
    pub fn used(self) -> Use {
        match self {
            Self::Unanswered(_) | Self::Filling(_) => Use::Avoided,
            _ => Use::Down,
        }
    }
}

/// The state that is kept across a restart of the controller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The link was not used.
    pub down: bool,
    /// Probes arrived at its first and second end once.
    pub probed: [bool; 2],
}

/// When something was last seen.
type Seen<T> = Option<(T, Instant)>;

#[derive(Debug, Default)]
struct EndState {
    /// The port's state, as its switch reports it.
    reported: Option<bool>,
    /// Probes arrived here once.
    probed: bool,
    /// When the last right probe arrived.
    heard: Option<Instant>,
    silent: bool,
    /// A wrong probe arrives here.
    hears: Seen<End>,
    /// A probe from here arrives at a wrong place.
    reaches: Seen<End>,
    /// Sequence number of the last probe that left here and arrived.
    sequence: u64,
    /// There has been no session with its switch for so long that the link is not trusted.
    unanswered: bool,
    /// Its switch is being filled.
    filling: bool,
}

#[derive(Debug)]
struct Link {
    ends: [End; 2],
    state: [EndState; 2],
    inherited: bool,
    used: Use,
    remembered: Memory,
}

impl Link {
    fn fault(&self) -> Option<Fault> {
        let ends = || self.ends.iter().zip(&self.state);
        let down = ends().find(|(_, s)| s.reported == Some(false));
        if let Some((end, _)) = down {
            return Some(Fault::PortDown(*end));
        }
        let wrong = (0..).zip(ends()).find_map(|(i, (at, s))| {
            let (found, _) = s.hears.or(s.reaches)?;
            let expected = *self.ends.get(1usize.checked_sub(i)?)?;
            Some(Fault::Miswired {
                at: *at,
                found,
                expected,
            })
        });
        let silent = || ends().find(|(_, s)| s.silent).map(|(end, _)| Fault::Silent(*end));
        let unanswered = || {
            ends()
                .find(|(_, s)| s.unanswered)
                .map(|(end, _)| Fault::Unanswered(*end))
        };
        let down = wrong.or_else(silent).or(self.inherited.then_some(Fault::Inherited));
        let filling = || ends().find(|(_, s)| s.filling).map(|(end, _)| Fault::Filling(*end));
        down.or_else(unanswered).or_else(filling)
    }

    fn used(&self) -> Use {
        self.fault().map_or(Use::Up, Fault::used)
    }

    fn memory(&self) -> Memory {
        let [a, b] = &self.state;
        Memory {
            down: self.used == Use::Down,
            probed: [a.probed, b.probed],
        }
    }
}

/// The state of the controller's session with a switch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Session {
    /// There is one.
    pub open: bool,
    /// The switch holds what it should, so it can be expected to send and punt probes.
    pub ready: bool,
    /// It is a spine that is new or came back empty, and does not hold yet what it should.
    pub filling: bool,
}

/// Since when a switch has been ready, or without a session.
#[derive(Debug, Clone, Copy, Default)]
struct Since {
    ready: Option<Instant>,
    away: Option<Instant>,
    filling: bool,
}

/// All links of a fabric.
#[derive(Debug, Default)]
pub struct Links {
    pace: Pace,
    links: BTreeMap<LinkIndex, Link>,
    by_end: HashMap<End, (LinkIndex, usize)>,
    switches: HashMap<SwitchIndex, Since>,
    /// When the last tick was, and since when ticks have been on time.
    ticked: Option<(Instant, Instant)>,
    turn: usize,
    sequence: u64,
    /// Links that are probed at the next tick, before their turn.
    urgent: BTreeSet<LinkIndex>,
    /// Links whose memory must be stored.
    unsaved: BTreeSet<LinkIndex>,
}

impl Links {
    /// How often they are probed.
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// Sets how often they are probed.
    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// Adds a link, with its ends and what is remembered of it.
    pub fn add(&mut self, index: LinkIndex, ends: [End; 2], memory: Memory) {
        for (i, end) in ends.into_iter().enumerate() {
            self.by_end.insert(end, (index, i));
        }
        let state = memory.probed.map(|probed| EndState {
            probed,
            // Only a probe can show that it works again.
            silent: memory.down && probed,
            ..EndState::default()
        });
        let link = Link {
            ends,
            inherited: memory.down && !state.iter().any(|s| s.silent),
            state,
            used: if memory.down { Use::Down } else { Use::Up },
            remembered: memory,
        };
        self.links.insert(index, link);
    }

    /// Forgets a link.
    pub fn remove(&mut self, index: LinkIndex) {
        if let Some(link) = self.links.remove(&index) {
            for end in link.ends {
                // The port may have another cable by now.
                if self.by_end.get(&end).is_some_and(|(at, _)| *at == index) {
                    self.by_end.remove(&end);
                }
            }
        }
        self.urgent.remove(&index);
        self.unsaved.remove(&index);
    }

    /// Links that are currently not used.
    pub fn down(&self) -> impl Iterator<Item = LinkIndex> {
        self.links.iter().filter(|(_, l)| l.used == Use::Down).map(|(i, _)| *i)
    }

    /// Why a link is not used; none if it is used.
    pub fn fault(&self, link: LinkIndex) -> Option<Fault> {
        self.links.get(&link)?.fault()
    }

    /// Whether a link has no fault, and probes crossed it both ways since its switches have been ready.
    pub fn is_crossed(&self, link: LinkIndex) -> bool {
        let Some(link) = self.links.get(&link).filter(|l| l.fault().is_none()) else {
            return false;
        };
        let ready = |(switch, _): End| self.switches.get(&switch).and_then(|since| since.ready);
        let [Some(a), Some(b)] = link.ends.map(ready) else {
            return false;
        };
        let since = a.max(b);
        link.state
            .iter()
            .all(|end| end.heard.is_some_and(|heard| heard >= since))
    }

    /// A switch reports a port up or down.
    pub fn reported(&mut self, end: End, up: bool) -> Option<LinkChange> {
        let (index, i) = *self.by_end.get(&end)?;
        let link = self.links.get_mut(&index)?;
        link.state.get_mut(i)?.reported = Some(up);
        if up {
            self.urgent.insert(index);
        }
        if link.state.iter().all(|s| s.reported == Some(true)) {
            link.inherited = false;
        }
        self.judge(index)
    }

    /// The session with a switch has changed.
    pub fn set_session(&mut self, switch: SwitchIndex, session: Session, now: Instant) {
        let since = self.switches.entry(switch).or_default();
        since.ready = session.ready.then(|| since.ready.unwrap_or(now));
        since.away = (!session.open).then(|| since.away.unwrap_or(now));
        since.filling = session.filling;
    }

    /// A spine comes into service, and does not hold yet what it should.
    pub fn fill(&mut self, switch: SwitchIndex) -> Vec<LinkChange> {
        self.switches.entry(switch).or_default().filling = true;
        let mut changes = Vec::new();
        for (index, link) in &mut self.links {
            for ((at, _), end) in link.ends.iter().zip(&mut link.state) {
                end.filling |= *at == switch;
            }
            changes.extend(judge(*index, link, &mut self.unsaved));
        }
        changes
    }

    /// Forgets a switch.
    pub fn remove_switch(&mut self, switch: SwitchIndex) {
        self.switches.remove(&switch);
    }

    /// A probe sent from `from` has arrived at `at`. It is ignored if it is not newer than the last one from
    /// there.
    pub fn heard(&mut self, at: End, from: End, sequence: u64, now: Instant) -> Vec<LinkChange> {
        let (here, there) = (self.by_end.get(&at).copied(), self.by_end.get(&from).copied());
        if let Some(sender) = there.and_then(|t| self.end_mut(t)) {
            if sequence <= sender.sequence {
                return Vec::new();
            }
            sender.sequence = sequence;
        }
        let right = matches!((here, there), (Some((a, i)), Some((b, j))) if a == b && i != j);
        if let Some(end) = here.and_then(|h| self.end_mut(h)) {
            end.probed = true;
            if right {
                (end.heard, end.silent, end.hears) = (Some(now), false, None);
            } else {
                end.hears = Some((from, now));
            }
        }
        if let Some(end) = there.and_then(|t| self.end_mut(t)) {
            end.reaches = (!right).then_some((at, now));
        }
        let concerned: BTreeSet<LinkIndex> = [here, there].into_iter().flatten().map(|(link, _)| link).collect();
        if right && let Some(link) = here.and_then(|(l, _)| self.links.get_mut(&l)) {
            link.inherited = false;
        }
        concerned.into_iter().filter_map(|link| self.judge(link)).collect()
    }

    /// Time passes; due every [`Pace::tick`].
    pub fn tick(&mut self, now: Instant) -> Vec<LinkChange> {
        let awake = match self.ticked {
            Some((last, since)) if now.saturating_duration_since(last) <= self.pace.stall() => since,
            _ => now,
        };
        self.ticked = Some((now, awake));
        let (mut changes, hold) = (Vec::new(), self.pace.hold());
        for (index, link) in &mut self.links {
            let [a, b] = link
                .ends
                .map(|(s, _)| self.switches.get(&s).copied().unwrap_or_default());
            for (end, (own, other)) in link.state.iter_mut().zip([(a, b), (b, a)]) {
                let unanswered = own
                    .away
                    .zip(other.ready)
                    .is_some_and(|(away, ready)| now.saturating_duration_since(away.max(ready).max(awake)) > hold);
                // This lasts until there is a session again, even if the other end loses its session too.
                end.unanswered = unanswered || (end.unanswered && own.away.is_some());
                end.filling = own.filling;
            }
            if let (Some(a), Some(b)) = (a.ready, b.ready) {
                let since = a.max(b).max(awake);
                let over = |seen: Instant| now.saturating_duration_since(seen.max(since)) > hold;
                for end in &mut link.state {
                    end.silent |= end.probed && over(end.heard.unwrap_or(since));
                    end.hears = end.hears.filter(|(_, seen)| !over(*seen));
                    end.reaches = end.reaches.filter(|(_, seen)| !over(*seen));
                }
                link.inherited &= !over(since);
            }
            changes.extend(judge(*index, link, &mut self.unsaved));
        }
        changes
    }

    /// Ends that must send a probe at this tick, each with its sequence number.
    pub fn probes(&mut self) -> Vec<(End, u64)> {
        let turn = self.turn;
        self.turn = (turn + 1) % Pace::TURNS;
        let urgent = std::mem::take(&mut self.urgent);
        let mut due = Vec::new();
        for (index, link) in &self.links {
            if index.0 as usize % Pace::TURNS == turn || urgent.contains(index) {
                due.extend(link.ends);
            }
        }
        let mut numbered = Vec::with_capacity(due.len());
        for end in due {
            self.sequence += 1;
            numbered.push((end, self.sequence));
        }
        numbered
    }

    /// The links whose stored memory is out of date.
    pub fn take_unsaved(&mut self) -> Vec<(LinkIndex, Memory)> {
        let mut unsaved = Vec::new();
        for index in std::mem::take(&mut self.unsaved) {
            if let Some(link) = self.links.get_mut(&index) {
                link.remembered = link.memory();
                unsaved.push((index, link.remembered));
            }
        }
        unsaved
    }

    /// It could not be stored; try again next time.
    pub fn keep_unsaved(&mut self, links: impl IntoIterator<Item = LinkIndex>) {
        self.unsaved.extend(links);
    }

    fn end_mut(&mut self, (link, i): (LinkIndex, usize)) -> Option<&mut EndState> {
        self.links.get_mut(&link)?.state.get_mut(i)
    }

    fn judge(&mut self, index: LinkIndex) -> Option<LinkChange> {
        judge(index, self.links.get_mut(&index)?, &mut self.unsaved)
    }
}

fn judge(index: LinkIndex, link: &mut Link, unsaved: &mut BTreeSet<LinkIndex>) -> Option<LinkChange> {
    let used = link.used();
    let changed = std::mem::replace(&mut link.used, used) != used;
    if link.memory() != link.remembered {
        unsaved.insert(index);
    }
    changed.then_some(LinkChange { link: index, used })
}

#[cfg(test)]
mod tests;
