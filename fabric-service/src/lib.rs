//! Reports of a daemon to the service manager: it is ready, it is alive, it stops.
//!
//! **Problem.** A process may exist but do nothing, because a thread that waits for ever blocks all others. The
//! service manager can restart it, but only the process itself knows whether its work goes on.
//!
//! **Model.** A daemon calls [`run`] when it is ready, with a *beat*: a check that only the working part of the daemon
//! can pass (the engine's thread, the writer of changes, the forwarding threads). While the beat returns true in time,
//! `WATCHDOG=1` is sent to the service manager; otherwise nothing is sent, and the manager restarts the service
//! after its `WatchdogSec`. [`stopping`] is sent before a daemon ends on purpose.
//!
//! **Invariants.** `WATCHDOG=1` is sent only after a beat, never by a timer alone. Without a service manager nothing is sent, and
//! no beat is taken.
//!
//! **Cost.** Three beats for each `WatchdogSec`.
//!
//! Sources: sd_notify(3), sd_watchdog_enabled(3), systemd.service(5).
//!
//! # Example
//! ```no_run
//! # async fn serve() {}
//! # async fn is_working() -> bool { true }
//! # async fn daemon() {
//! tokio::select! {
//!     () = serve() => {}
//!     () = fabric_service::run(is_working) => {}
//! }
//! fabric_service::stopping();
//! # }
//! ```

use std::future::Future;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

/// Beats for each period of the watchdog: one may be late, or lost with a full socket.
const BEATS: u32 = 3;

/// Sends `READY=1`, and from then on `WATCHDOG=1` each time that `beat` returns true in time. Never returns: it is for a
/// `select!` with the daemon's work.
pub async fn run<F: Future<Output = bool>>(beat: impl FnMut() -> F) {
    say(NotifyState::Ready);
    match sd_notify::watchdog_enabled().filter(|p| !p.is_zero()) {
        Some(period) => watch(period, beat, || say(NotifyState::Watchdog)).await,
        None => std::future::pending().await,
    }
}

/// Sends `STOPPING=1`.
pub fn stopping() {
    say(NotifyState::Stopping);
}

fn say(state: NotifyState<'_>) {
    let what = state.to_string();
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager does not take `{what}`");
    }
}

async fn watch<F: Future<Output = bool>>(period: Duration, mut beat: impl FnMut() -> F, mut alive: impl FnMut()) {
    let every = period / BEATS;
    let mut ticks = interval_at(Instant::now(), every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match timeout(every, beat()).await {
            Ok(true) => alive(),
            Ok(false) => tracing::warn!("the main loop has ended: the watchdog is not fed"),
            Err(_) => tracing::warn!(
                ms = every.as_millis(),
                "the main loop is silent: the watchdog is not fed"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// Beats and signs of life within ten periods; the beat of each number does what `beat` says.
    async fn ten_periods<F: Future<Output = bool>>(beat: impl Fn(u32) -> F) -> (u32, u32) {
        let (beats, signs) = (Cell::new(0), Cell::new(0));
        let asked = || {
            beats.set(beats.get() + 1);
            beat(beats.get())
        };
        let period = Duration::from_secs(30);
        let work = watch(period, asked, || signs.set(signs.get() + 1));
        assert!(timeout(period * 10 - Duration::from_secs(1), work).await.is_err());
        (beats.get(), signs.get())
    }

    #[tokio::test(start_paused = true)]
    async fn each_beat_feeds_the_watchdog_once() {
        assert_eq!(ten_periods(|_| async { true }).await, (30, 30));
    }

    #[tokio::test(start_paused = true)]
    async fn a_loop_that_has_ended_feeds_nothing() {
        assert_eq!(ten_periods(|_| async { false }).await, (30, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_loop_feeds_nothing_until_it_answers_again() {
        let (beats, signs) = ten_periods(|beat| async move {
            if (5..10).contains(&beat) {
                std::future::pending::<()>().await;
            }
            true
        })
        .await;
        assert_eq!(beats - signs, 5);
        assert!(signs >= 20, "{signs}");
    }
}
