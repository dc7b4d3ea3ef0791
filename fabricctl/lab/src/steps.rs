//! Shows progress on a terminal, and plain lines elsewhere.

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
        // The caller shows the reason, with its own context.
        self.show(what, step, |_| String::new())
            .with_context(|| what.to_owned())
    }

    /// Runs a check: one that fails is shown with its reason, and the next one follows.
    ///
    /// # Errors
    /// The reason, in words.
    pub fn check(&self, what: &str, check: impl FnOnce() -> Result<String>) -> Result<String, String> {
        let reason = |error: &anyhow::Error| format!(": {error:#}");
        self.show(what, check, reason).map_err(|error| format!("{error:#}"))
    }

    fn show<T>(
        &self,
        what: &str,
        step: impl FnOnce() -> Result<T>,
        reason: impl FnOnce(&anyhow::Error) -> String,
    ) -> Result<T> {
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
        let done = step();
        bar.finish_and_clear();
        if !self.quiet {
            eprintln!("{}", line(what, started.elapsed(), done.as_ref().err().map(reason)));
        }
        done
    }
}

/// The line of a step that has ended.
fn line(what: &str, took: Duration, failed: Option<String>) -> String {
    let (mark, reason) = failed.map_or(("✓", String::new()), |reason| ("✗", reason));
    format!("  {mark} {what} ({:.1} s){reason}", took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_is_marked_and_says_why() {
        let took = Duration::from_millis(1234);
        assert_eq!(line("switches", took, None), "  ✓ switches (1.2 s)");
        assert_eq!(
            line("TCP, routed", took, Some(": no answer".into())),
            "  ✗ TCP, routed (1.2 s): no answer"
        );
        let why = Steps::quiet().check("TCP, routed", || anyhow::bail!("no answer"));
        assert_eq!(why, Err("no answer".to_owned()));
    }
}
