//! When links whose deletion blocks the kernel may be deleted.
//!
//! **Problem.** For each bridge that is deleted, the kernel holds the lock of its network configuration until a full RCU grace period is over
//! (`rcu_barrier` in `br_multicast_dev_del`; 17 ms in the measured kernel). Other requests about links wait meanwhile.
//!
//! **Model.** A part (one bridge, or some VXLAN devices) is deleted only when this agent has configured nothing for
//! [`QUIET`], and while deletions take no more than one [`SHARE`]th of the time. A few networks may go faster. There is
//! an allowance of time: each deletion takes its own duration from it, and one [`SHARE`]th of the passing time is
//! added, up to [`MOST`]. So a few networks are deleted within a second. After a thousand networks that went together,
//! less than one percent of all requests, from any program, has to wait for a deletion.
//!
//! | state | a part is deleted |
//! | --- | --- |
//! | quiet, up to [`FEW`] parts | when the allowance permits |
//! | quiet, more parts | after a pause that is [`SHARE`] times as long as the deletion before it |
//! | never quiet | as above, but not more often than every [`STARVED`] |
//! | more than [`CROWD`] parts wait | at once, with pauses as long as the deletions: memory counts more then |
//!
//! No I/O is done here, and the time comes from the caller.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long nothing must have been configured. The steps of an ADD follow each other faster than this, and the agent
/// looks for missing namespaces less often than this.
const QUIET: Duration = Duration::from_millis(100);
/// The share of the time that deletions may take in the long run.
const SHARE: u32 = 100;
/// Parts that may go faster: ten networks.
const FEW: usize = 20;
/// How much time they may take at once.
const MOST: Duration = Duration::from_millis(500);
/// How often a part is deleted on a host that is never quiet.
const STARVED: Duration = Duration::from_secs(30);
/// Parts that may wait: some tens of MiB of kernel memory.
const CROWD: usize = 4096;

/// When this agent last configured something.
pub(super) struct Activity {
    base: Instant,
    /// Milliseconds after `base`.
    last: AtomicU64,
    /// Callers that configure right now.
    busy: AtomicUsize,
}

impl Activity {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            base: now,
            last: AtomicU64::new(0),
            busy: AtomicUsize::new(0),
        }
    }

    /// Something is being configured while the value lives.
    pub(super) fn hold(of: &Arc<Self>) -> Hold {
        of.busy.fetch_add(1, Ordering::Relaxed);
        Hold(Arc::clone(of))
    }

    fn note(&self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.base).as_millis();
        self.last
            .fetch_max(u64::try_from(elapsed).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// How long until nothing has been configured for [`QUIET`].
    fn until_quiet(&self, now: Instant) -> Duration {
        if self.busy.load(Ordering::Relaxed) > 0 {
            return QUIET;
        }
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        (last + QUIET).saturating_sub(now.saturating_duration_since(self.base))
    }
}

/// See [`Activity::hold`].
pub(super) struct Hold(Arc<Activity>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.note(Instant::now());
        self.0.busy.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Decides when the next part may be deleted.
pub(super) struct Pace {
    /// Allowance in microseconds at `counted`; below zero after a part that took longer than there was.
    left_us: i64,
    counted: Instant,
    /// When the last deletion ended, and how long it took.
    ended: Instant,
    took: Duration,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            left_us: micros(MOST),
            counted: now,
            ended: now,
            took: Duration::ZERO,
        }
    }

    /// How long to wait before the next part may be deleted, if nothing changes meanwhile; zero: now. `waiting` parts are
    /// there.
    pub(super) fn pause(&mut self, now: Instant, activity: &Activity, waiting: usize) -> Duration {
        self.count(now);
        // Others have their turn before the next one, whatever the allowance.
        let after = |times: u32| (self.ended + self.took * times).saturating_duration_since(now);
        let turn = after(1);
        if waiting > CROWD {
            return turn;
        }
        let missing = match waiting > FEW {
            true => after(SHARE),
            false => Duration::from_micros(u64::try_from(-self.left_us).unwrap_or(0)) * SHARE,
        };
        let starved = (self.ended + STARVED).saturating_duration_since(now);
        turn.max(missing).max(activity.until_quiet(now).min(starved))
    }

    /// A part has been deleted.
    pub(super) fn spent(&mut self, started: Instant, now: Instant) {
        self.count(now);
        self.took = now.saturating_duration_since(started);
        self.ended = now;
        self.left_us = self.left_us.saturating_sub(micros(self.took));
    }

    fn count(&mut self, now: Instant) {
        let earned = now.saturating_duration_since(self.counted) / SHARE;
        // Fractions of a microsecond count next time.
        if earned >= Duration::from_micros(1) {
            self.left_us = self.left_us.saturating_add(micros(earned)).min(micros(MOST));
            self.counted = now;
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Time that one bridge takes.
    const BRIDGE: Duration = Duration::from_millis(17);

    /// Deletes parts for so long, on a host that is quiet or not; returns when each was deleted.
    fn deletions(parts: usize, span: Duration, quiet: bool) -> Vec<Duration> {
        let start = Instant::now();
        let (activity, mut pace) = (Activity::new(start), Pace::new(start));
        let (mut now, mut times) = (start + QUIET, Vec::new());
        while now < start + span && times.len() < parts {
            if !quiet {
                activity.note(now);
            }
            let pause = pace.pause(now, &activity, parts - times.len());
            if pause.is_zero() {
                times.push(now - start);
                pace.spent(now, now + BRIDGE);
                now += BRIDGE;
            } else {
                // Somebody else's request comes now and then.
                now += if quiet { pause } else { pause.min(QUIET / 2) };
            }
        }
        times
    }

    #[test]
    fn a_few_go_at_once_and_many_take_a_hundredth_of_the_time() {
        let few = deletions(10, Duration::from_secs(60), true);
        assert_eq!(few.len(), 10);
        assert!(*few.last().unwrap() < Duration::from_secs(1), "{few:?}");
        let span = Duration::from_secs(1_000);
        let many = deletions(1_000, span, true);
        let taken = BRIDGE * u32::try_from(many.len()).unwrap();
        assert!(taken <= span / SHARE + BRIDGE, "{taken:?}");
        assert!(taken + 2 * BRIDGE >= span / SHARE * 98 / 100, "{taken:?}");
        for pair in many.windows(2) {
            assert!(pair[1] - pair[0] > BRIDGE * (SHARE - 1), "{pair:?}");
        }
    }

    #[test]
    fn a_host_that_configures_is_left_alone_and_not_for_ever() {
        let minute = deletions(1_000, Duration::from_secs(61), false);
        assert_eq!(minute.len(), 2, "{minute:?}");
        let start = Instant::now();
        let activity = Arc::new(Activity::new(start));
        let mut pace = Pace::new(start);
        let late = start + STARVED + Duration::from_secs(1);
        assert_eq!(pace.pause(late, &activity, 1), Duration::ZERO);
        pace.spent(late, late);
        let hold = Activity::hold(&activity);
        assert_eq!(pace.pause(late, &activity, 1), QUIET);
        drop(hold);
        // The clock of the test is ahead of the time that the hold has noted.
        assert_eq!(pace.pause(late, &activity, 1), Duration::ZERO);
    }

    #[test]
    fn a_crowd_goes_whatever_is_configured_and_others_get_their_turn() {
        let many = deletions(CROWD + 100, Duration::from_secs(10), false);
        assert!(many.len() >= 100, "{}", many.len());
        for pair in many[..100].windows(2) {
            assert!(pair[1] - pair[0] >= 2 * BRIDGE, "{pair:?}");
        }
    }
}
