//! When devices are read back, so that all of them together take a bounded share of the controller's time.
//!
//! **Model.** A read-back costs what the device holds. All read-backs together are spread over time at [`PER_SECOND`]:
//! each one reserves as much time as its entities need, after the reservations before it, and begins when that time
//! comes. A device that does not answer delays no other, because a reservation is a time and not a lock.
//!
//! **Cost.** A small fabric never waits here. With two million entities each device is looked at every 40 s instead of every
//! 5, and 50,000 entities a second take about a tenth of a processor.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Entities that periodic read-backs read in a second, on average: about a tenth of a processor.
const PER_SECOND: u64 = 50_000;
/// What a read-back of an empty device costs, in entities: requests and answers.
const LEAST: u64 = 50;

/// Spreads read-backs over time. Actors share one.
#[derive(Debug, Default)]
pub struct Pace {
    /// When the last reservation ends; none before the first.
    reserved: Mutex<Option<Instant>>,
}

impl Pace {
    /// Reserves time for a read-back of this many entities. Returns when it may begin.
    pub fn reserve(&self, now: Instant, entities: usize) -> Instant {
        let entities = LEAST.saturating_add(u64::try_from(entities).unwrap_or(u64::MAX));
        let takes = Duration::from_nanos(entities.saturating_mul(1_000_000_000 / PER_SECOND));
        let mut reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner);
        let begin = reserved.map_or(now, |reserved| reserved.max(now));
        *reserved = Some(begin + takes);
        begin
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_backs_begin_one_after_the_other_and_a_pause_is_not_saved_up() {
        let (pace, start) = (Pace::default(), Instant::now());
        let at = |pace: &Pace, ms: u64, entities: usize| {
            let now = start + Duration::from_millis(ms);
            pace.reserve(now, entities).duration_since(start).as_millis()
        };
        assert_eq!(at(&pace, 0, 9_950), 0, "the first begins at once");
        assert_eq!(at(&pace, 0, 950), 200, "10,000 entities take 200 ms");
        assert_eq!(at(&pace, 100, 0), 220, "and 1,000 behind them 20 ms");
        assert_eq!(at(&pace, 5_000, 9_950), 5_000, "nobody waits for what is past");
        assert_eq!(at(&pace, 5_000, 0), 5_200, "and it makes nothing cheaper");
    }
}
