//! How long to wait before the next attempt to reach a switch.

use std::time::Duration;

/// First wait: a restarted switch is usually back by then.
pub const FIRST: Duration = Duration::from_millis(100);
/// Longest wait: what an operator who plugs a switch in puts up with.
pub const LONGEST: Duration = Duration::from_secs(10);

/// Doubling waits with jitter: each lies between half and all of its step, so
/// that many controllers or switches that failed together do not return
/// together. Pure but for the dice, which the caller may bring.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    step: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(FIRST, LONGEST)
    }
}

impl Backoff {
    /// Waits from `first`, doubling up to `longest`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            step: first,
        }
    }

    /// The next wait; `dice` is a number from 0 to 1.
    pub fn next_with(&mut self, dice: f64) -> Duration {
        let step = self.step.min(self.longest);
        self.step = step.saturating_mul(2);
        step / 2 + (step / 2).mul_f64(dice.clamp(0.0, 1.0))
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        self.next_with(rand::random())
    }

    /// The attempt succeeded: start over.
    pub fn reset(&mut self) {
        self.step = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_start_over() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(350));
        let waits: Vec<_> = (0..4).map(|_| backoff.next_with(1.0).as_millis()).collect();
        assert_eq!(waits, [100, 200, 350, 350]);
        assert_eq!(backoff.next_with(0.0).as_millis(), 175);
        backoff.reset();
        assert_eq!(backoff.next_with(1.0).as_millis(), 100);
    }
}
