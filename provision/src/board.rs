//! What an operator sees: a timeline of each switch, strangers, troubles, the enrolment window.
//!
//! Everything here is bounded, because outsiders can cause every entry.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bootz_proto::request::BootStep;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use vfabric_api::ident::{Mac, Name};

use crate::dhcp::address::Address;
use crate::dhcp::leases::{Holder, Lease, Seconds};

/// Most steps that are kept for each switch; the oldest are dropped first.
const STEPS: usize = 64;
/// Most switches that have a timeline: those of the inventory, and removed ones until their slots are needed.
const SWITCHES: usize = 4096;
/// Most strangers that are kept; the one not heard for the longest time is dropped first.
const STRANGERS: usize = 256;
/// Most troubles that are kept.
const TROUBLES: usize = 64;
/// Longest text of a step, in characters.
const DETAIL: usize = 300;
/// Most log lines about strangers and troubles in a minute. Suppressed lines are counted.
const LOG_LINES: u32 = 30;
/// Longest time that an enrolment window can be open, in seconds.
pub const LONGEST_WINDOW: Seconds = 3600;

/// Now, in seconds since 1970.
pub fn now() -> Seconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// Now, in milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A time as people and programs write it (RFC 3339).
pub fn written(at: Seconds) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(at));
    time.map(|t| humantime::format_rfc3339_seconds(t).to_string())
        .unwrap_or_default()
}

pub use vfabric_api::provisioning::BootStep as What;

/// One step of a switch. A repeated step is one step with a count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// When it happened first (RFC 3339).
    pub at: String,
    /// When it happened last.
    pub last: String,
    /// How often in a row.
    pub times: u64,
    /// What happened.
    pub what: What,
    /// In words.
    pub detail: String,
}

/// The timeline of a switch.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    /// Its steps, oldest first.
    pub steps: VecDeque<Step>,
    /// Steps that were dropped from the front.
    pub dropped: u64,
}

/// A machine that is not in the inventory, or contradicts it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stranger {
    /// Its hardware address.
    pub mac: Mac,
    /// Why it is not one of our switches.
    pub reason: String,
    /// The subnet that it is in.
    pub subnet: String,
    /// What it says about itself: vendor class, client id, serial number and so on; and what its relay says.
    pub details: BTreeMap<String, String>,
    /// When it was heard first.
    pub first: String,
    /// When it was heard last.
    pub last: String,
    /// How often it was heard.
    pub times: u64,
    /// Whether it came in through the enrolment window.
    pub enrolled: bool,
}

/// Something that needs an operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// When it happened first.
    pub at: String,
    /// When it happened last.
    pub last: String,
    /// How often.
    pub times: u64,
    /// In words.
    pub detail: String,
}

/// A leased address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Given {
    /// The address.
    pub address: IpAddr,
    /// Who has it.
    pub holder: Holder,
    /// The hardware address that asked for it.
    pub mac: Mac,
    /// When the lease ends.
    pub expires: String,
}

/// The status document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Where the inventory comes from, how many switches it has, and what is wrong with it.
    pub inventory: String,
    /// When the enrolment window closes; absent when it is closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enrolment_until: Option<String>,
    /// How many more machines it lets in.
    #[serde(default)]
    pub enrolment_left: u32,
    /// Each switch. Timelines begin when the server starts.
    pub switches: BTreeMap<Name, Timeline>,
    /// Leases that have not ended.
    pub leases: Vec<Given>,
    /// Machines that are not in the inventory, or contradict it.
    pub strangers: Vec<Stranger>,
    /// Troubles that need an operator.
    pub troubles: Vec<Trouble>,
    /// Counts of datagrams and requests by outcome.
    pub counters: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct Window {
    until: Seconds,
    left: u32,
}

#[derive(Debug, Default)]
struct Log {
    minute: Seconds,
    lines: u32,
    left_out: u64,
}

impl Log {
    /// Whether a line may be written now, and how many were suppressed before it.
    fn due(&mut self, now: Seconds) -> Option<u64> {
        if now / 60 != self.minute {
            (self.minute, self.lines) = (now / 60, 0);
        }
        if self.lines >= LOG_LINES {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[derive(Debug, Default)]
struct Inner {
    inventory: String,
    window: Option<Window>,
    switches: BTreeMap<Name, Timeline>,
    strangers: HashMap<Mac, (Seconds, Stranger)>,
    troubles: VecDeque<Trouble>,
    leases: HashMap<IpAddr, Lease<IpAddr>>,
    counters: BTreeMap<&'static str, u64>,
    log: Log,
    /// Limits how many refusals of machines without a name are reported.
    refusals: Log,
    /// Where steps are reported.
    tell: Option<mpsc::Sender<BootStep>>,
}

impl Inner {
    /// Reports a step of a machine. If the queue is full, the step is only counted.
    fn tell(&mut self, switch: &str, who: &str, what: What, detail: &str) {
        let Some(tell) = &self.tell else { return };
        // The names of steps are texts in JSON.
        let what = serde_json::to_value(what).ok();
        let step = BootStep {
            switch: switch.to_owned(),
            who: who.to_owned(),
            what: what.as_ref().and_then(|w| w.as_str()).unwrap_or_default().to_owned(),
            at_ms: now_ms(),
            detail: detail.to_owned(),
        };
        if tell.try_send(step).is_err() {
            *self.counters.entry("steps not reported").or_default() += 1;
        }
    }
}

/// The board; every part of the server writes to it.
#[derive(Debug, Default)]
pub struct Board(Mutex<Inner>);

/// A text cut to the longest length, without characters that would change the terminal.
fn cut(text: &str) -> String {
    let harmless = |c: char| match c.is_control() {
        true => c.escape_default().to_string(),
        false => c.to_string(),
    };
    let shown: String = text.chars().take(DETAIL).map(harmless).collect();
    if text.chars().nth(DETAIL).is_some() {
        format!("{shown}...")
    } else {
        shown
    }
}

impl Board {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports steps from now on: those of switches as they happen, at most one of a kind in a second; those of
    /// strangers when they are logged.
    pub fn tell(&self, to: mpsc::Sender<BootStep>) {
        self.inner().tell = Some(to);
    }

    /// Counts something.
    pub fn count(&self, what: &'static str) {
        *self.inner().counters.entry(what).or_default() += 1;
    }

    /// Adds a step to a switch's timeline, and to the log if it is new.
    pub fn step(&self, switch: &Name, now: Seconds, what: What, detail: &str) {
        let mut inner = self.inner();
        if !inner.switches.contains_key(switch) && inner.switches.len() >= SWITCHES {
            inner.switches.pop_last();
        }
        let line = inner.switches.entry(switch.clone()).or_default();
        let (at, detail) = (written(now), cut(detail));
        if let Some(last) = line.steps.back_mut().filter(|s| s.what == what && s.detail == detail) {
            last.times += 1;
            let is_told = std::mem::replace(&mut last.last, at.clone()) == at;
            if !is_told {
                inner.tell(switch.as_str(), switch.as_str(), what, &detail);
            }
            return;
        }
        if line.steps.len() >= STEPS {
            line.steps.pop_front();
            line.dropped += 1;
        }
        if what.is_trouble() {
            if let Some(left_out) = inner.log.due(now) {
                tracing::warn!(%switch, %what, detail, left_out, "provisioning");
            }
        } else {
            tracing::info!(%switch, %what, detail, "provisioning");
        }
        inner.tell(switch.as_str(), switch.as_str(), what, &detail);
        let step = Step {
            last: at.clone(),
            at,
            times: 1,
            what,
            detail,
        };
        if let Some(line) = inner.switches.get_mut(switch) {
            line.steps.push_back(step);
        }
    }

    /// Remembers a stranger. Logs everything known about it when it is new, and when the reason changes.
    pub fn stranger(&self, now: Seconds, mut stranger: Stranger) {
        let mut inner = self.inner();
        let at = written(now);
        stranger.last = at.clone();
        if let Some((heard, known)) = inner.strangers.get_mut(&stranger.mac)
            && known.reason == stranger.reason
            && known.enrolled == stranger.enrolled
        {
            *heard = now;
            let (first, times) = (std::mem::take(&mut known.first), known.times + 1);
            *known = Stranger {
                first,
                times,
                ..stranger
            };
            return;
        }
        if inner.strangers.len() >= STRANGERS && !inner.strangers.contains_key(&stranger.mac) {
            let oldest = inner.strangers.iter().min_by_key(|(_, (heard, _))| *heard);
            if let Some(mac) = oldest.map(|(mac, _)| *mac) {
                inner.strangers.remove(&mac);
            }
        }
        stranger.first = at;
        stranger.times = 1;
        if let Some(left_out) = inner.log.due(now) {
            let details: Vec<String> = stranger.details.iter().map(|(k, v)| format!("{k}: {v}")).collect();
            tracing::warn!(
                mac = %stranger.mac,
                subnet = stranger.subnet,
                enrolled = stranger.enrolled,
                details = details.join(", "),
                left_out,
                "a machine that is not ours: {}",
                stranger.reason
            );
            if !stranger.enrolled {
                let words = format!("{} ({})", stranger.reason, details.join(", "));
                inner.tell("", &stranger.mac.to_string(), What::Refused, &cut(&words));
            }
        }
        inner.strangers.insert(stranger.mac, (now, stranger));
    }

    /// Notes something that needs an operator, and logs it the first time and again each minute.
    pub fn trouble(&self, now: Seconds, detail: &str) {
        let mut inner = self.inner();
        let (at, detail) = (written(now), cut(detail));
        let known = inner.troubles.iter().position(|t| t.detail == detail);
        if let Some(known) = known.and_then(|i| inner.troubles.get_mut(i)) {
            known.times += 1;
            let minute = |time: &str| time.get(..16).map(str::to_owned);
            let same_minute = minute(&known.last) == minute(&at);
            known.last = at;
            if same_minute {
                return;
            }
        } else {
            if inner.troubles.len() >= TROUBLES {
                inner.troubles.pop_front();
            }
            inner.troubles.push_back(Trouble {
                last: at.clone(),
                at,
                times: 1,
                detail: detail.clone(),
            });
        }
        if let Some(left_out) = inner.log.due(now) {
            tracing::error!(left_out, "{detail}");
        }
    }

    /// Notes that a machine was refused that seems not to be a switch of the inventory.
    pub fn refused(&self, now: Seconds, who: &str, detail: &str) {
        self.trouble(now, detail);
        let mut inner = self.inner();
        if inner.refusals.due(now).is_some() {
            inner.tell("", who, What::Refused, &cut(detail));
        }
    }

    /// The leases of one version of IP on the disk.
    pub fn set_leases<'a, A: Address>(&self, leases: impl Iterator<Item = &'a Lease<A>>) {
        self.inner().leases.retain(|address, _| address.is_ipv4() != A::IS_V4);
        self.leased(leases);
    }

    /// Adds leases that are now on the disk.
    pub fn leased<'a, A: Address>(&self, leases: impl Iterator<Item = &'a Lease<A>>) {
        let mut inner = self.inner();
        for lease in leases {
            let of_it =
                |address: &IpAddr, known: &Lease<IpAddr>| known.holder == lease.holder && address.is_ipv4() == A::IS_V4;
            inner.leases.retain(|address, known| !of_it(address, known));
            let address = lease.address.into();
            let lease = Lease {
                holder: lease.holder.clone(),
                mac: lease.mac,
                address,
                expires: lease.expires,
            };
            inner.leases.insert(address, lease);
        }
    }

    /// Who has an address.
    pub fn holder(&self, address: IpAddr, now: Seconds) -> Option<Holder> {
        let inner = self.inner();
        let lease = inner.leases.get(&address).filter(|l| l.expires > now);
        lease.map(|l| l.holder.clone())
    }

    /// Records where the inventory comes from and its state.
    pub fn set_inventory(&self, text: String) {
        self.inner().inventory = text;
    }

    /// Opens the enrolment window for this many seconds and machines; zero seconds close it. Returns the time when it closes.
    pub fn open_window(&self, now: Seconds, seconds: Seconds, machines: u32) -> Option<Seconds> {
        let mut inner = self.inner();
        let seconds = seconds.min(LONGEST_WINDOW);
        inner.window = (seconds > 0 && machines > 0).then_some(Window {
            until: now + seconds,
            left: machines,
        });
        let until = inner.window.as_ref().map(|w| w.until);
        match until {
            Some(until) => tracing::warn!(until = written(until), machines, "the enrolment window is open"),
            None => tracing::info!("the enrolment window is closed"),
        }
        until
    }

    /// Whether the enrolment window is open, and for how many more machines.
    pub fn window(&self, now: Seconds) -> Option<u32> {
        let inner = self.inner();
        inner.window.as_ref().filter(|w| w.until > now).map(|w| w.left)
    }

    /// Takes one of the window's places for a new machine.
    pub fn enrolled_one(&self) {
        if let Some(window) = &mut self.inner().window {
            window.left = window.left.saturating_sub(1);
        }
    }

    /// Closes the window when its time is up. Called about once a second.
    pub fn tick(&self, now: Seconds) {
        let mut inner = self.inner();
        if inner.window.as_ref().is_some_and(|w| w.until <= now) {
            inner.window = None;
            tracing::info!("the enrolment window has closed");
        }
    }

    /// The status document.
    pub fn status(&self, now: Seconds) -> Status {
        let inner = self.inner();
        let mut leases: Vec<&Lease<IpAddr>> = inner.leases.values().filter(|l| l.expires > now).collect();
        leases.sort_by_key(|l| l.address);
        let given = |l: &Lease<IpAddr>| Given {
            address: l.address,
            holder: l.holder.clone(),
            mac: l.mac,
            expires: written(l.expires),
        };
        let mut strangers: Vec<&(Seconds, Stranger)> = inner.strangers.values().collect();
        strangers.sort_by_key(|(heard, stranger)| (std::cmp::Reverse(*heard), stranger.mac));
        let window = inner.window.as_ref().filter(|w| w.until > now);
        Status {
            inventory: inner.inventory.clone(),
            enrolment_until: window.map(|w| written(w.until)),
            enrolment_left: window.map_or(0, |w| w.left),
            switches: inner.switches.clone(),
            leases: leases.into_iter().map(given).collect(),
            strangers: strangers.into_iter().map(|(_, s)| s.clone()).collect(),
            troubles: inner.troubles.iter().cloned().collect(),
            counters: inner.counters.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stranger(i: u32) -> Stranger {
        let [_, a, b, c] = i.to_be_bytes();
        Stranger {
            mac: Mac([2, 0, 0, a, b, c]),
            reason: "unknown".into(),
            subnet: "192.0.2.0/24".into(),
            details: BTreeMap::new(),
            first: String::new(),
            last: String::new(),
            times: 0,
            enrolled: false,
        }
    }

    #[test]
    fn what_outsiders_can_fill_is_bounded() {
        let board = Board::default();
        let name: Name = "leaf1".parse().unwrap();
        for i in 0..1000 {
            board.step(&name, 1000 + i, What::Refused, &format!("{i} {}", "x".repeat(1000)));
            board.stranger(1000 + i, stranger(i as u32));
            board.trouble(1000 + i, &format!("trouble {i}"));
        }
        let status = board.status(3000);
        let line = &status.switches[&name];
        assert_eq!((line.steps.len(), line.dropped), (STEPS, 1000 - STEPS as u64));
        assert!(line.steps[0].detail.chars().count() <= DETAIL + 3);
        assert_eq!((status.strangers.len(), status.troubles.len()), (STRANGERS, TROUBLES));
        assert_eq!(status.strangers[0].mac, stranger(999).mac, "the last one heard is kept");
    }

    #[test]
    fn nothing_that_outsiders_write_changes_a_terminal() {
        assert_eq!(cut("onie-\u{1b}[31m\r\nroot é"), "onie-\\u{1b}[31m\\r\\nroot é");
    }

    #[test]
    fn what_is_repeated_is_counted() {
        let board = Board::default();
        let name: Name = "leaf1".parse().unwrap();
        for i in 0..3 {
            board.step(&name, i, What::Leased, "192.0.2.1");
            board.stranger(i, stranger(1));
            board.trouble(i, "disk full");
        }
        let status = board.status(3);
        let step = &status.switches[&name].steps[0];
        assert_eq!(
            (step.times, step.at.as_str(), step.last.as_str()),
            (3, "1970-01-01T00:00:00Z", "1970-01-01T00:00:02Z")
        );
        assert_eq!((status.strangers[0].times, status.troubles[0].times), (3, 3));
        let again = Stranger {
            reason: "a clone".into(),
            ..stranger(1)
        };
        board.stranger(4, again);
        assert_eq!(board.status(4).strangers[0].times, 1);
    }

    #[test]
    fn the_window_closes_by_itself_and_counts_machines() {
        let board = Board::default();
        assert_eq!(board.window(0), None);
        assert_eq!(board.open_window(100, 60, 2), Some(160));
        assert_eq!((board.window(159), board.window(160)), (Some(2), None));
        assert!(board.status(160).enrolment_until.is_none());
        board.enrolled_one();
        assert_eq!(board.window(120), Some(1));
        board.enrolled_one();
        board.enrolled_one();
        board.tick(120);
        assert_eq!(board.window(120), Some(0), "open for those that are in");
        board.tick(160);
        assert_eq!(board.window(120), None);
        assert_eq!(board.open_window(0, 1_000_000, 1), Some(LONGEST_WINDOW));
        assert_eq!(board.open_window(0, 0, 1), None);
    }
}
