//! The client's state machine (RFC 8415, section 18.2). It takes a time or a message and returns actions; it does no I/O.
//!
//! | state | sends | leaves when |
//! | --- | --- | --- |
//! | soliciting | SOLICIT | an offer with a Bootz server arrives, or a wait is over and there is an offer without one (requesting) |
//! | requesting | REQUEST | granted (bound), refused or not answered (soliciting) |
//! | checking | REBIND | granted (bound), refused (soliciting), not answered (bound while the lease lasts) |
//! | bound | - | T1 (renewing), or the user wants fresh options (checking) |
//! | renewing | RENEW | granted (bound), refused (soliciting), T2 (rebinding) |
//! | rebinding | REBIND | granted (bound), refused or the lease ends (soliciting) |

use std::net::Ipv6Addr;
use std::time::Duration;

use super::message::{self, Ask, Kind, Lease, Reply};
use crate::message::Identity;

/// First and longest wait for a reply in each state (RFC 8415, section 7.6). SOLICIT is repeated more often than the
/// hourly limit of the RFC, because a switch without a server is of no use.
const SOLICIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(120));
const REQUEST: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
const RENEW: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));
/// How many REQUESTs are sent for an offer before the client gives it up.
const REQUESTS: u32 = 10;
/// How many REBINDs are sent for the address of an earlier run, with waits of 1 and 2 seconds. Then a switch that has a
/// lease stops waiting for a server.
const CHECKS: u32 = 2;
/// Wait after a refusal, so that a server that refuses its own offers is not asked in a tight loop.
const REFUSED: Duration = Duration::from_secs(2);

/// What the caller must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send these octets to all servers of the link.
    Send(Vec<u8>),
    /// Put the address of this lease on the interface, for this long.
    Use(Lease, Duration),
    /// Remove this address: it is no longer ours.
    Lose(Ipv6Addr),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Soliciting(Option<Lease>),
    Requesting(Lease),
    Checking,
    Bound,
    Renewing,
    Rebinding,
}

#[derive(Debug, Clone)]
struct Held {
    lease: Lease,
    /// When it began.
    since: Duration,
    /// Whether the user of this machine has been given the lease.
    is_used: bool,
}

impl Held {
    fn at(&self, seconds: u32) -> Duration {
        self.since.saturating_add(Duration::from_secs(seconds.into()))
    }

    fn ends(&self) -> Duration {
        self.at(self.lease.seconds)
    }
}

/// The client.
#[derive(Debug)]
pub struct Machine {
    who: Identity,
    state: State,
    held: Option<Held>,
    xid: [u8; 3],
    /// When this exchange began.
    began: Duration,
    /// When the last message was sent: the lease counts from then.
    sent: Duration,
    /// Messages sent in this state.
    tries: u32,
    /// The last wait for a reply.
    waited: Duration,
    due: Duration,
}

impl Machine {
    /// A client that starts at `now`. `remembered` is the lease of an earlier run and its age. Times count from any fixed moment.
    pub fn new(who: Identity, remembered: Option<(Lease, Duration)>, now: Duration) -> Self {
        let held = remembered.and_then(|(lease, age)| {
            // A time before the fixed moment cannot be expressed. That does no harm: only the rest of
            // the lease matters.
            let gone = u32::try_from(age.as_secs()).ok()?;
            let left = |seconds: u32| seconds.saturating_sub(gone);
            let lease = Lease {
                seconds: left(lease.seconds),
                renew_seconds: left(lease.renew_seconds),
                rebind_seconds: left(lease.rebind_seconds),
                ..lease
            };
            (lease.seconds > 0).then_some(Held {
                lease,
                since: now,
                is_used: false,
            })
        });
        let state = match held {
            Some(_) => State::Checking,
            None => State::Soliciting(None),
        };
        Self {
            who,
            state,
            held,
            xid: [0; 3],
            began: now,
            sent: now,
            tries: 0,
            waited: Duration::ZERO,
            due: now,
        }
    }

    /// When the caller must call [`Self::timer`].
    pub fn due(&self) -> Duration {
        self.due
    }

    /// The user asks for fresh options, because its Bootz server does not work.
    pub fn ask_again(&mut self, now: Duration) {
        if matches!(self.state, State::Bound | State::Renewing) && self.held.is_some() {
            self.enter(State::Checking, now);
        }
    }

    /// The time of [`Self::due`] has come.
    pub fn timer(&mut self, now: Duration, random: &mut dyn FnMut() -> u32) -> Vec<Action> {
        if now < self.due {
            return Vec::new();
        }
        let mut actions = Vec::new();
        self.advance(now, &mut actions);
        self.speak(now, random, &mut actions);
        actions
    }

    fn enter(&mut self, state: State, now: Duration) {
        self.state = state;
        (self.tries, self.began, self.due) = (0, now, now);
    }

    /// Starts from the beginning, after the address was lost or when there was none.
    fn begin(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if let Some(held) = self.held.take()
            && held.is_used
        {
            actions.push(Action::Lose(held.lease.address));
        }
        self.enter(State::Soliciting(None), now);
    }

    /// The transitions when the timer fires.
    fn advance(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if self.held.as_ref().is_some_and(|held| now >= held.ends()) {
            return self.begin(now, actions);
        }
        match (&self.state, &self.held) {
            (State::Soliciting(Some(offer)), _) => {
                let state = State::Requesting(offer.clone());
                self.enter(state, now);
            }
            (State::Requesting(_), _) if self.tries >= REQUESTS => self.begin(now, actions),
            (State::Checking, Some(_)) if self.tries >= CHECKS => self.keep(now, actions),
            (State::Bound | State::Renewing, Some(held)) => {
                let (t1, t2) = (held.at(held.lease.renew_seconds), held.at(held.lease.rebind_seconds));
                if now >= t2 {
                    self.enter(State::Rebinding, now);
                } else if now >= t1 && self.state == State::Bound {
                    self.enter(State::Renewing, now);
                }
            }
            _ => {}
        }
    }

    /// Uses the stored lease although no server has confirmed it.
    fn keep(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let Some(held) = &mut self.held else { return };
        if !held.is_used {
            held.is_used = true;
            actions.push(Action::Use(held.lease.clone(), held.ends().saturating_sub(now)));
        }
        let due = held.at(held.lease.renew_seconds);
        self.enter(State::Bound, now);
        self.due = due;
        if now >= due {
            self.advance(now, actions);
        }
    }

    /// Sends the message of the current state, and sets the time of the next attempt.
    fn speak(&mut self, now: Duration, random: &mut dyn FnMut() -> u32, actions: &mut Vec<Action>) {
        let held = self.held.as_ref().map(|held| &held.lease);
        let (kind, address, server) = match (&self.state, held) {
            (State::Bound, _) => return,
            (State::Soliciting(_), _) => (Kind::Solicit, None, None),
            (State::Requesting(offer), _) => (Kind::Request, Some(offer.address), Some(offer.server.clone())),
            (State::Renewing, Some(held)) => (Kind::Renew, Some(held.address), Some(held.server.clone())),
            (_, held) => (Kind::Rebind, held.map(|held| held.address), None),
        };
        // Each exchange has a number of its own (section 16.1).
        if self.tries == 0 {
            let [a, b, c, _] = random().to_be_bytes();
            self.xid = [a, b, c];
        }
        let elapsed = now.saturating_sub(self.began).as_millis() / 10;
        let ask = Ask {
            xid: self.xid,
            elapsed: u16::try_from(elapsed).unwrap_or(u16::MAX),
            address,
            server: server.as_deref(),
        };
        actions.push(Action::Send(message::request(kind, &self.who, ask)));
        self.sent = now;
        self.due = now.saturating_add(self.wait(now, random));
        self.tries = self.tries.saturating_add(1);
    }

    /// The next wait (section 15). It ends at the next transition at the latest.
    fn wait(&mut self, now: Duration, random: &mut dyn FnMut() -> u32) -> Duration {
        let (first, longest) = match self.state {
            State::Renewing | State::Rebinding => RENEW,
            State::Soliciting(_) => SOLICIT,
            State::Requesting(_) | State::Checking | State::Bound => REQUEST,
        };
        let base = match self.tries {
            0 => first,
            _ => (self.waited * 2).min(longest),
        };
        // Up to a tenth more or less.
        let tenths = random() % 201;
        self.waited = base * 9 / 10 + base * tenths / 1000;
        let left = |until: Duration| until.saturating_sub(now);
        match (&self.state, &self.held) {
            (State::Renewing, Some(held)) => self.waited.min(left(held.at(held.lease.rebind_seconds))),
            (State::Rebinding, Some(held)) => self.waited.min(left(held.ends())),
            _ => self.waited,
        }
    }

    /// A message arrived.
    pub fn received(&mut self, octets: &[u8], now: Duration, random: &mut dyn FnMut() -> u32) -> Vec<Action> {
        let mut actions = Vec::new();
        // Before the first message nothing is expected.
        if self.tries == 0 || self.state == State::Bound {
            return actions;
        }
        let Some(reply) = message::reply(octets, &self.who, self.xid) else {
            return actions;
        };
        match (reply, &mut self.state) {
            (Reply::Offer(offer), State::Soliciting(best)) => {
                if offer.bootz.is_empty() {
                    // Keep the first such offer, and wait on: a server that knows the fabric may still reply.
                    best.get_or_insert(offer);
                } else {
                    self.enter(State::Requesting(offer), now);
                    self.speak(now, random, &mut actions);
                }
            }
            (Reply::Ack(lease), State::Requesting(offer)) if lease.server == offer.server => {
                self.bind(lease, now, &mut actions);
            }
            // A reply with another address does not belong to this request.
            (Reply::Ack(lease), State::Checking | State::Renewing | State::Rebinding)
                if self
                    .held
                    .as_ref()
                    .is_some_and(|held| held.lease.address == lease.address) =>
            {
                self.bind(lease, now, &mut actions);
            }
            (Reply::Refused(why), State::Requesting(_) | State::Checking | State::Renewing | State::Rebinding) => {
                tracing::warn!(why, "a DHCPv6 server refuses the address");
                self.begin(now, &mut actions);
                self.due = now.saturating_add(REFUSED);
            }
            _ => {}
        }
        actions
    }

    fn bind(&mut self, lease: Lease, now: Duration, actions: &mut Vec<Action>) {
        let held = Held {
            lease,
            since: self.sent,
            is_used: true,
        };
        actions.push(Action::Use(held.lease.clone(), held.ends().saturating_sub(now)));
        let due = held.at(held.lease.renew_seconds);
        self.held = Some(held);
        self.enter(State::Bound, now);
        self.due = due;
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
