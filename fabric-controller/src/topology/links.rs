//! Which links carry traffic: a state machine over what ports report and what probes say.
//! Pure: time is an argument.
//!
//! Every [`PROBE_EVERY`] a probe ([`super::lldp`]) leaves each end of each link. A link is used
//! unless one of these holds:
//!
//! | fault | begins | ends |
//! | --- | --- | --- |
//! | port down | a switch reports a port of the link down | it reports it up |
//! | miswired | a probe arrives where it should not | the right one arrives, or [`HOLD`] without the wrong one |
//! | silent | an end that has heard probes hears none for [`HOLD`] | it hears one |
//! | inherited | the link was down when the last controller ended | ports at both ends are reported up, a probe arrives, or [`HOLD`] without a sign |
//!
//! **Invariants.** Silence counts only while both switches are ready, from the moment on which
//! both were, and only as long as the clock runs: what a switch that is being synchronised, or a
//! controller that was stopped, cannot hear is no fault of the link. An end that never heard a
//! probe is not silent: its switch may not be able to punt. What was heard once is remembered
//! ([`Memory`]) beyond a restart of the controller, and so is a link that was down, so that
//! nothing is routed over it before it is known to be well.
//!
//! **Cost.** Constant for each probe and report; a tick looks at every link once.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use vfabric_api::ident::PortId;

use super::LinkIndex;
use crate::model::SwitchIndex;

/// How often each end of a link is probed.
pub const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Silence for this long is a fault: three probes in a row are lost on a link that is well once
/// in a million times if one in a hundred is.
pub const HOLD: Duration = Duration::from_secs(3);
/// How often [`Links::tick`] is due. Links are probed in turn, a tenth at each tick, so that
/// probes do not come in bursts.
pub const TICK: Duration = Duration::from_millis(100);
/// Ticks in [`PROBE_EVERY`].
const TURNS: usize = 10;
/// A tick that comes later than this after the one before says that we were stopped, not that
/// the links were silent.
const STALL: Duration = Duration::from_millis(1000);

/// One end of a link.
pub type End = (SwitchIndex, PortId);

/// A link is used from now on, or no longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkChange {
    /// The link.
    pub link: LinkIndex,
    /// Whether it is used.
    pub up: bool,
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
    /// It was down before the controller started, and nothing is known of it since.
    Inherited,
}

/// What outlives the controller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// It was not used.
    pub down: bool,
    /// Probes arrived at its first and second end once.
    pub probed: [bool; 2],
}

/// Something seen at some time.
type Seen<T> = Option<(T, Instant)>;

#[derive(Debug, Default)]
struct EndState {
    /// As its switch reports it.
    reported: Option<bool>,
    /// Probes arrived here once.
    probed: bool,
    /// When the last right one did.
    heard: Option<Instant>,
    silent: bool,
    /// A wrong one arrives here.
    hears: Seen<End>,
    /// Ours arrives at a wrong place.
    reaches: Seen<End>,
    /// Of the last probe that left here and arrived.
    sequence: u64,
}

#[derive(Debug)]
struct Link {
    ends: [End; 2],
    state: [EndState; 2],
    inherited: bool,
    up: bool,
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
        wrong.or_else(silent).or(self.inherited.then_some(Fault::Inherited))
    }

    fn memory(&self) -> Memory {
        let [a, b] = &self.state;
        Memory {
            down: !self.up,
            probed: [a.probed, b.probed],
        }
    }
}

/// All links of a fabric.
#[derive(Debug)]
pub struct Links {
    links: Vec<Link>,
    by_end: HashMap<End, (LinkIndex, usize)>,
    /// Since when each switch has been ready.
    ready: Vec<Option<Instant>>,
    /// The last tick, and since when they have come in time.
    ticked: Option<(Instant, Instant)>,
    turn: usize,
    sequence: u64,
    /// To be probed at the next tick, whoever's turn it is.
    urgent: BTreeSet<LinkIndex>,
    /// Links whose memory is to be stored.
    unsaved: BTreeSet<LinkIndex>,
}

impl Links {
    /// The links by [`LinkIndex`], each with its ends and what is remembered of it.
    pub fn new(switches: usize, links: impl IntoIterator<Item = ([End; 2], Memory)>) -> Self {
        let mut all = Self {
            links: Vec::new(),
            by_end: HashMap::new(),
            ready: vec![None; switches],
            ticked: None,
            turn: 0,
            sequence: 0,
            urgent: BTreeSet::new(),
            unsaved: BTreeSet::new(),
        };
        for (index, (ends, memory)) in (0..).zip(links) {
            for (i, end) in ends.into_iter().enumerate() {
                all.by_end.insert(end, (LinkIndex(index), i));
            }
            let state = memory.probed.map(|probed| EndState {
                probed,
                // Only a probe will tell that it is well again.
                silent: memory.down && probed,
                ..EndState::default()
            });
            all.links.push(Link {
                ends,
                inherited: memory.down && !state.iter().any(|s| s.silent),
                state,
                up: !memory.down,
                remembered: memory,
            });
        }
        all
    }

    /// Links that are not used as things stand.
    pub fn down(&self) -> impl Iterator<Item = LinkIndex> {
        (0..).zip(&self.links).filter(|(_, l)| !l.up).map(|(i, _)| LinkIndex(i))
    }

    /// Why a link is not used; nothing if it is.
    pub fn fault(&self, link: LinkIndex) -> Option<Fault> {
        self.links.get(link.0 as usize)?.fault()
    }

    /// A switch reports a port up or down.
    pub fn reported(&mut self, end: End, up: bool) -> Option<LinkChange> {
        let (index, i) = *self.by_end.get(&end)?;
        let link = self.links.get_mut(index.0 as usize)?;
        link.state.get_mut(i)?.reported = Some(up);
        if up {
            self.urgent.insert(index);
        }
        if link.state.iter().all(|s| s.reported == Some(true)) {
            link.inherited = false;
        }
        self.judge(index)
    }

    /// From now on a switch can be expected to send and hand over probes; or no longer.
    pub fn set_ready(&mut self, switch: SwitchIndex, ready: bool, now: Instant) {
        if let Some(since) = self.ready.get_mut(switch.index()) {
            *since = ready.then(|| since.unwrap_or(now));
        }
    }

    /// A probe that left by `from` arrived at `at`. One that is not newer than the last from
    /// there is not looked at.
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
        if right && let Some(link) = here.and_then(|(l, _)| self.links.get_mut(l.0 as usize)) {
            link.inherited = false;
        }
        concerned.into_iter().filter_map(|link| self.judge(link)).collect()
    }

    /// Time passes; due every [`TICK`].
    pub fn tick(&mut self, now: Instant) -> Vec<LinkChange> {
        let awake = match self.ticked {
            Some((last, since)) if now.saturating_duration_since(last) <= STALL => since,
            _ => now,
        };
        self.ticked = Some((now, awake));
        let mut changes = Vec::new();
        for index in (0..self.links.len())
            .filter_map(|i| u32::try_from(i).ok())
            .map(LinkIndex)
        {
            let Some(link) = self.links.get_mut(index.0 as usize) else {
                break;
            };
            let ready = link.ends.map(|(s, _)| self.ready.get(s.index()).copied().flatten());
            let [Some(a), Some(b)] = ready else { continue };
            let since = a.max(b).max(awake);
            let over = |seen: Instant| now.saturating_duration_since(seen.max(since)) > HOLD;
            for end in &mut link.state {
                end.silent |= end.probed && over(end.heard.unwrap_or(since));
                end.hears = end.hears.filter(|(_, seen)| !over(*seen));
                end.reaches = end.reaches.filter(|(_, seen)| !over(*seen));
            }
            link.inherited &= !over(since);
            changes.extend(self.judge(index));
        }
        changes
    }

    /// Ends whose probes are to leave at this tick, each with its sequence number.
    pub fn probes(&mut self) -> Vec<(End, u64)> {
        let turn = self.turn;
        self.turn = (turn + 1) % TURNS;
        let urgent = std::mem::take(&mut self.urgent);
        let mut due = Vec::new();
        for (i, link) in (0..).zip(&self.links) {
            if i as usize % TURNS == turn || urgent.contains(&LinkIndex(i)) {
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

    /// What is to be stored of links of which something else is stored.
    pub fn take_unsaved(&mut self) -> Vec<(LinkIndex, Memory)> {
        let mut unsaved = Vec::new();
        for index in std::mem::take(&mut self.unsaved) {
            if let Some(link) = self.links.get_mut(index.0 as usize) {
                link.remembered = link.memory();
                unsaved.push((index, link.remembered));
            }
        }
        unsaved
    }

    /// It could not be stored: next time.
    pub fn keep_unsaved(&mut self, links: impl IntoIterator<Item = LinkIndex>) {
        self.unsaved.extend(links);
    }

    fn end_mut(&mut self, (link, i): (LinkIndex, usize)) -> Option<&mut EndState> {
        self.links.get_mut(link.0 as usize)?.state.get_mut(i)
    }

    fn judge(&mut self, index: LinkIndex) -> Option<LinkChange> {
        let link = self.links.get_mut(index.0 as usize)?;
        let up = link.fault().is_none();
        let changed = std::mem::replace(&mut link.up, up) != up;
        if link.memory() != link.remembered {
            self.unsaved.insert(index);
        }
        changed.then_some(LinkChange { link: index, up })
    }
}

#[cfg(test)]
mod tests;
