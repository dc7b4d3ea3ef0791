//! The client's state machine (RFC 2131 section 4.4). It takes a time or a message and returns actions; it does no I/O.
//!
//! | state | leaves when |
//! | --- | --- |
//! | selecting | an offer with a Bootz server arrives, or the wait is over and there is another offer (requesting) |
//! | requesting | acknowledged (bound), refused or not answered (selecting) |
//! | rebooting | acknowledged (bound), refused (selecting), not answered (bound while the lease lasts, else selecting) |
//! | bound | T1 (renewing), or the user wants fresh options (rebooting) |
//! | renewing | acknowledged (bound), refused (selecting), T2 (rebinding) |
//! | rebinding | acknowledged (bound), refused or the lease ends (selecting) |

use std::net::Ipv4Addr;
use std::time::Duration;

use dhcproto::v4::MessageType;

use crate::message::{self, Ask, Identity, Lease, Reply};

/// First and longest wait for a reply; each wait is twice the one before (RFC 2131 section 4.1).
const WAIT: (Duration, Duration) = (Duration::from_secs(4), Duration::from_secs(64));
/// Each wait is made longer or shorter at random, by at most this much, so that machines that were powered on together
/// do not ask at the same moments.
const JITTER: Duration = Duration::from_secs(1);
/// How many REQUESTs are sent for an offer before the client gives it up; the waits are 4, 8, 16 and 32 seconds.
const REQUESTS: u32 = 4;
/// How many REQUESTs are sent for the address of an earlier run. Then a switch that has a lease stops waiting for a
/// server.
const REBOOTS: u32 = 2;
/// Shortest wait between two attempts to renew (RFC 2131 section 4.4.5).
const RENEWALS: Duration = Duration::from_secs(60);
/// Wait after a refusal, so that a server that refuses its own offers is not asked in a tight loop.
const REFUSED: Duration = Duration::from_secs(2);

/// What the caller must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send these octets as a broadcast, with this source.
    Broadcast(Ipv4Addr, Vec<u8>),
    /// Send these octets to a server.
    Send(Ipv4Addr, Vec<u8>),
    /// Put the address of this lease on the interface, for this long.
    Use(Lease, Duration),
    /// Remove this address: it is no longer ours.
    Lose(Ipv4Addr),
}

/// Where replies are expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    Nowhere,
    /// In frames, because there may be no address.
    Frames,
    /// In datagrams to the interface's own address.
    Datagrams(Ipv4Addr),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Selecting(Option<Lease>),
    Requesting(Lease),
    Rebooting,
    Bound,
    Renewing,
    Rebinding,
}

#[derive(Debug, Clone)]
struct Held {
    lease: Lease,
    /// When the lease began.
    since: Duration,
    /// Whether [`Action::Use`] was returned for it.
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
    xid: u32,
    /// When this exchange began.
    began: Duration,
    /// When the last message was sent: the lease counts from then.
    sent: Duration,
    /// Messages sent in this state.
    tries: u32,
    due: Duration,
}

impl Machine {
    /// A client that starts at `now`. `remembered` is the lease of an earlier run and its age. Times count from any
    /// fixed moment.
    pub fn new(who: Identity, remembered: Option<(Lease, Duration)>, now: Duration) -> Self {
        let held = remembered.and_then(|(lease, age)| {
            // A time before the fixed moment cannot be expressed; only the rest of the lease matters.
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
        let state = if held.is_some() {
            State::Rebooting
        } else {
            State::Selecting(None)
        };
        Self {
            who,
            state,
            held,
            xid: 0,
            began: now,
            sent: now,
            tries: 0,
            due: now,
        }
    }

    /// When the caller must call [`Self::timer`].
    pub fn due(&self) -> Duration {
        self.due
    }

    /// Where replies are expected now.
    pub fn listen(&self) -> Listen {
        match (&self.state, &self.held) {
            (State::Bound, _) => Listen::Nowhere,
            (State::Renewing, Some(held)) => Listen::Datagrams(held.lease.address),
            _ => Listen::Frames,
        }
    }

    /// The user asks for fresh options, because its Bootz server does not work.
    pub fn ask_again(&mut self, now: Duration) {
        if matches!(self.state, State::Bound | State::Renewing) && self.held.is_some() {
            self.enter(State::Rebooting, now);
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
        self.enter(State::Selecting(None), now);
    }

    /// The transitions when the timer fires.
    fn advance(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let ends = self.held.as_ref().map(Held::ends);
        if ends.is_some_and(|ends| now >= ends) {
            return self.begin(now, actions);
        }
        match (&self.state, &self.held) {
            (State::Selecting(Some(offer)), _) => {
                let state = State::Requesting(offer.clone());
                self.enter(state, now);
            }
            (State::Requesting(_), _) if self.tries >= REQUESTS => self.begin(now, actions),
            (State::Rebooting, Some(_)) if self.tries >= REBOOTS => self.keep(now, actions),
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

    /// Uses the stored lease although no server has confirmed it (RFC 2131 section 3.2).
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
        if self.state == State::Bound {
            return;
        }
        // An offer and its REQUEST are one exchange.
        if self.tries == 0 && !matches!(self.state, State::Requesting(_)) {
            self.xid = random();
        }
        let secs = u16::try_from(now.saturating_sub(self.began).as_secs()).unwrap_or(u16::MAX);
        let ask = Ask {
            xid: self.xid,
            secs,
            ..Ask::default()
        };
        let held = self.held.as_ref();
        let (kind, ask) = match (&self.state, held) {
            (State::Requesting(offer), _) => {
                let (requested, server) = (Some(offer.address), Some(offer.server));
                (
                    MessageType::Request,
                    Ask {
                        requested,
                        server,
                        ..ask
                    },
                )
            }
            (State::Rebooting, Some(held)) => {
                let requested = Some(held.lease.address);
                (MessageType::Request, Ask { requested, ..ask })
            }
            (State::Renewing | State::Rebinding, Some(held)) => {
                let in_use = Some(held.lease.address);
                (MessageType::Request, Ask { in_use, ..ask })
            }
            _ => (MessageType::Discover, ask),
        };
        let octets = message::request(kind, &self.who, ask);
        actions.push(match (&self.state, held) {
            (State::Renewing, Some(held)) => Action::Send(held.lease.server, octets),
            _ => Action::Broadcast(ask.in_use.unwrap_or(Ipv4Addr::UNSPECIFIED), octets),
        });
        self.sent = now;
        self.due = now.saturating_add(self.wait(now, random));
        self.tries = self.tries.saturating_add(1);
    }

    fn wait(&self, now: Duration, random: &mut dyn FnMut() -> u32) -> Duration {
        let half = |until: Duration| {
            let left = until.saturating_sub(now);
            (left / 2).max(RENEWALS).min(left)
        };
        match (&self.state, &self.held) {
            (State::Renewing, Some(held)) => half(held.at(held.lease.rebind_seconds)),
            (State::Rebinding, Some(held)) => half(held.ends()),
            _ => jittered((WAIT.0 * 2u32.saturating_pow(self.tries.min(8))).min(WAIT.1), random),
        }
    }

    /// A message arrived.
    pub fn received(&mut self, octets: &[u8], now: Duration, random: &mut dyn FnMut() -> u32) -> Vec<Action> {
        let mut actions = Vec::new();
        // Before the first message nothing is expected.
        if self.tries == 0 || self.state == State::Bound {
            return actions;
        }
        let Some(reply) = message::reply(octets, self.who.mac, self.xid) else {
            return actions;
        };
        match (reply, &mut self.state) {
            (Reply::Offer(offer), State::Selecting(best)) => {
                let leads_on = !offer.bootz.is_empty();
                if leads_on {
                    self.enter(State::Requesting(offer), now);
                    self.speak(now, random, &mut actions);
                } else {
                    // Keep the first such offer, and wait on: a server that knows the fabric may still reply.
                    best.get_or_insert(offer);
                }
            }
            (Reply::Ack(lease), State::Requesting(offer)) if lease.server == offer.server => {
                self.bind(lease, now, &mut actions);
            }
            (Reply::Ack(lease), State::Rebooting | State::Renewing | State::Rebinding) => {
                let held = self.held.as_ref().map(|h| h.lease.address);
                if held == Some(lease.address) {
                    self.bind(lease, now, &mut actions);
                }
            }
            (Reply::Nak(server, words), state) => {
                let is_meant = match state {
                    State::Requesting(offer) => server == Some(offer.server),
                    State::Rebooting | State::Renewing | State::Rebinding => true,
                    State::Selecting(_) | State::Bound => false,
                };
                if is_meant {
                    tracing::warn!(?server, words, "a DHCP server refuses the address");
                    self.begin(now, &mut actions);
                    self.due = now.saturating_add(jittered(REFUSED, random));
                }
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

/// A wait, shorter or longer by [`JITTER`] at most.
fn jittered(wait: Duration, random: &mut dyn FnMut() -> u32) -> Duration {
    let range = u32::try_from(2 * JITTER.as_millis()).unwrap_or(u32::MAX);
    let part = Duration::from_millis((random() % (range + 1)).into());
    (wait + part).saturating_sub(JITTER)
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
