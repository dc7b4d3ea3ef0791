//! How long to wait before the next attempt to reach a device, or to repeat a write that it refused.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// First wait: a restarted device is usually back by then.
const FIRST: Duration = Duration::from_millis(50);
/// Longest wait without its random part.
const LONGEST: Duration = Duration::from_millis(2500);

/// Waits that double, each with up to as much again at random, so that devices that failed together do not return
/// together. A success starts them from the shortest again.
pub(crate) struct Waits(ExponentialBackoff);

impl Waits {
    pub(crate) fn new() -> Self {
        let builder = ExponentialBuilder::new().with_min_delay(FIRST).with_max_delay(LONGEST);
        Self(builder.with_factor(2.0).with_jitter().without_max_times().build())
    }

    pub(crate) fn next(&mut self) -> Duration {
        self.0.next().unwrap_or(LONGEST)
    }
}
