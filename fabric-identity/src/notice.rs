//! Log lines that outsiders can cause, each at most once a minute.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The same peer and reason are logged again after this.
const AGAIN: Duration = Duration::from_secs(60);
/// Most pairs of peer and reason that are remembered. Further pairs are not logged until the minute is over.
const MAX_PAIRS: usize = 1024;

/// When the window of a pair began, and how often it has occurred since.
struct Seen {
    first: Instant,
    since: u64,
}

/// Remembers what was logged. Reasons are fixed words, or texts that a peer cannot choose freely.
#[derive(Default)]
pub struct Notices(Mutex<HashMap<(IpAddr, String), Seen>>);

impl Notices {
    /// Whether to log this now; if so, how many equal lines were left out before.
    pub fn due(&self, peer: IpAddr, reason: &str) -> Option<u64> {
        self.due_at(peer, reason, Instant::now())
    }

    fn due_at(&self, peer: IpAddr, reason: &str, now: Instant) -> Option<u64> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |s: &Seen| now.duration_since(s.first) >= AGAIN;
        if let Some(known) = seen.get_mut(&(peer, reason.to_owned())) {
            if !over(known) {
                known.since += 1;
                return None;
            }
            let left_out = known.since;
            *known = Seen { first: now, since: 0 };
            return Some(left_out);
        }
        if seen.len() >= MAX_PAIRS {
            seen.retain(|_, s| !over(s));
        }
        if seen.len() >= MAX_PAIRS {
            return None;
        }
        seen.insert((peer, reason.to_owned()), Seen { first: now, since: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(last: u32) -> IpAddr {
        std::net::Ipv4Addr::from(0x0a00_0000 + last).into()
    }

    #[test]
    fn a_pair_is_logged_once_a_minute_with_what_was_left_out() {
        let (notices, start) = (Notices::default(), Instant::now());
        assert_eq!(notices.due_at(peer(1), "x", start), Some(0));
        assert_eq!(notices.due_at(peer(1), "x", start), None);
        assert_eq!(notices.due_at(peer(1), "x", start), None);
        assert_eq!(notices.due_at(peer(1), "y", start), Some(0));
        assert_eq!(notices.due_at(peer(2), "x", start), Some(0));
        assert_eq!(notices.due_at(peer(1), "x", start + AGAIN), Some(2));
    }

    #[test]
    fn memory_is_bounded_however_many_peers_there_are() {
        let (notices, start) = (Notices::default(), Instant::now());
        let logged = (0..5000).filter(|n| notices.due_at(peer(*n), "x", start).is_some());
        assert_eq!(logged.count(), MAX_PAIRS);
        assert!(notices.0.lock().unwrap().len() <= MAX_PAIRS);
        assert_eq!(notices.due_at(peer(9999), "x", start + AGAIN), Some(0));
    }
}
