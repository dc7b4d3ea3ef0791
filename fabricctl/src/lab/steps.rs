//! Progress on a terminal, plain lines elsewhere.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};

/// Shows one step after the other, with the time each took.
#[derive(Debug, Default)]
pub struct Steps {
    quiet: bool,
}

impl Steps {
    /// Shows nothing (for tests).
    pub fn quiet() -> Self {
        Self { quiet: true }
    }

    /// Runs a step and shows how long it took.
    ///
    /// # Errors
    /// The step's own, with its name.
    pub fn run<T>(&self, what: &str, step: impl FnOnce() -> Result<T>) -> Result<T> {
        let started = Instant::now();
        // Draws nothing unless standard error is a terminal.
        let bar = if self.quiet {
            ProgressBar::hidden()
        } else {
            ProgressBar::new_spinner()
        };
        bar.set_style(
            ProgressStyle::with_template("  {spinner} {msg} {elapsed}")
                .unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        let done = step().with_context(|| what.to_owned());
        bar.finish_and_clear();
        if !self.quiet {
            let mark = if done.is_ok() { "✓" } else { "✗" };
            eprintln!("  {mark} {what} ({:.1} s)", started.elapsed().as_secs_f64());
        }
        done
    }
}
