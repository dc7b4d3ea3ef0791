//! Pauses between questions to the kernel about work that it does later.
//!
//! Most of this work is done within a tenth of a millisecond, and nothing says when. On a busy machine it takes seconds.

use std::thread;
use std::time::Duration;

/// The first pause.
const FIRST: Duration = Duration::from_micros(100);
/// The longest one.
const LONGEST: Duration = Duration::from_millis(2);

/// Pauses, each twice as long as the one before.
pub(super) struct Pauses(Duration);

impl Pauses {
    pub(super) fn new() -> Self {
        Self(FIRST)
    }

    /// Waits for the next pause.
    pub(super) fn pause(&mut self) {
        thread::sleep(self.0);
        self.0 = (2 * self.0).min(LONGEST);
    }
}
