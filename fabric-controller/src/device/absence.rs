//! When the log names a device that is away.
//!
//! A device that is away is tried every few seconds. Its first failure is worth a warning; the next thousand say
//! nothing new and would bury everything else. So the log repeats the warning at intervals that double from [`FIRST`]
//! to [`LONGEST`], with the number of attempts so far; the device's status always has the last error.

use std::time::{Duration, Instant};

/// Time from the first warning to the second.
const FIRST: Duration = Duration::from_secs(60);
/// Longest time between two warnings: a device that is away for good is named each hour.
const LONGEST: Duration = Duration::from_secs(3600);

/// One device that is away.
#[derive(Debug)]
pub(crate) struct Absence {
    since: Instant,
    attempts: u64,
    next: Instant,
    interval: Duration,
}

impl Absence {
    /// Starts the count at the first failure, which the caller reports.
    pub(crate) fn begin(now: Instant) -> Self {
        Self {
            since: now,
            attempts: 1,
            next: now + FIRST,
            interval: FIRST,
        }
    }

    /// Counts another failure; returns true if the caller should report it.
    pub(crate) fn failed(&mut self, now: Instant) -> bool {
        self.attempts += 1;
        if now < self.next {
            return false;
        }
        self.interval = (self.interval * 2).min(LONGEST);
        self.next = now + self.interval;
        true
    }

    /// Attempts that failed.
    pub(crate) fn attempts(&self) -> u64 {
        self.attempts
    }

    /// How long it has been away, in whole seconds.
    pub(crate) fn seconds(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.since).as_secs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_stays_away_is_named_less_and_less_often() {
        let begin = Instant::now();
        let mut absence = Absence::begin(begin);
        let second = Duration::from_secs(1);
        let at = |n: u32| begin + second * n;
        let reported: Vec<u32> = (1..=20_000).filter(|n| absence.failed(at(*n))).collect();
        // A minute, then two, four ... and at last an hour apart.
        assert_eq!(reported[..6], [60, 180, 420, 900, 1860, 3780]);
        assert!(reported.windows(2).all(|two| two[1] - two[0] <= 3600));
        assert_eq!(reported.len(), 10);
        assert_eq!((absence.attempts(), absence.seconds(at(20_000))), (20_001, 20_000));
    }
}
