//! Reports of a daemon to the service manager: it is ready, it is alive, it stops.
//!
//! **Problem.** A process may exist but do nothing, because a thread that waits for ever blocks all others. The
//! service manager can restart it, but only the process itself knows whether its work goes on.
//!
//! **Model.** A daemon calls [`run`] when it is ready, with a *beat*: a check that only the working part of the daemon
//! can pass (the engine's thread, the writer of changes, the forwarding threads). While the beat succeeds in time,
//! `WATCHDOG=1` is sent to the service manager; otherwise nothing is sent, and the manager restarts the service
//! after its `WatchdogSec`. The log then names what is stuck: the error of the beat, or what it [waits](Waits) for.
//! [`stopping`] is sent before a daemon ends on purpose.
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
//! # async fn works() {}
//! # async fn daemon() {
//! tokio::select! {
//!     () = serve() => {}
//!     () = fabric_service::run(|waits| async move {
//!         waits.on("the thread that works");
//!         works().await;
//!         Ok(())
//!     }) => {}
//! }
//! fabric_service::stopping();
//! # }
//! ```

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

/// Beats for each period of the watchdog: one may be late, or lost with a full socket.
const BEATS: u32 = 3;

/// What a beat waits for, so that it can be named when it never comes.
#[derive(Debug, Clone, Default)]
pub struct Waits(Arc<Mutex<&'static str>>);

impl Waits {
    /// From now on the beat waits for this.
    pub fn on(&self, what: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = what;
    }

    fn what(&self) -> &'static str {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends `READY=1`, and from then on `WATCHDOG=1` each time that `beat` succeeds in time. Its error names what does not
/// work. Never returns: it is for a `select!` with the daemon's work.
pub async fn run<F: Future<Output = Result<(), String>>>(beat: impl FnMut(Waits) -> F) {
    say(NotifyState::Ready);
    match sd_notify::watchdog_enabled().filter(|p| !p.is_zero()) {
        Some(period) => {
            let alive = || say(NotifyState::Watchdog);
            let stuck = |what: &str| tracing::warn!("{what}: the watchdog is not fed");
            watch(period, beat, alive, stuck).await;
        }
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
        tracing::warn!(%error, "the service manager does not accept `{what}`");
    }
}

async fn watch<F: Future<Output = Result<(), String>>>(
    period: Duration,
    mut beat: impl FnMut(Waits) -> F,
    mut alive: impl FnMut(),
    mut stuck: impl FnMut(&str),
) {
    let every = period / BEATS;
    let mut ticks = interval_at(Instant::now(), every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let waits = Waits::default();
        match timeout(every, beat(waits.clone())).await {
            Ok(Ok(())) => alive(),
            Ok(Err(what)) => stuck(&what),
            Err(_) => stuck(&format!("no answer for {} ms from {}", every.as_millis(), waits.what())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::{Cell, RefCell};

    /// Beats, signs of life and what was stuck within ten periods; the beat of each number does what `beat` says.
    async fn ten_periods<F: Future<Output = Result<(), String>>>(
        beat: impl Fn(u32, Waits) -> F,
    ) -> (u32, u32, Vec<String>) {
        let (beats, signs, stuck) = (Cell::new(0), Cell::new(0), RefCell::new(Vec::new()));
        let asked = |waits| {
            beats.set(beats.get() + 1);
            beat(beats.get(), waits)
        };
        let period = Duration::from_secs(30);
        let alive = || signs.set(signs.get() + 1);
        let named = |what: &str| stuck.borrow_mut().push(what.to_owned());
        let work = watch(period, asked, alive, named);
        assert!(timeout(period * 10 - Duration::from_secs(1), work).await.is_err());
        (beats.get(), signs.get(), stuck.take())
    }

    #[tokio::test(start_paused = true)]
    async fn each_beat_feeds_the_watchdog_once() {
        assert_eq!(ten_periods(|_, _| async { Ok(()) }).await, (30, 30, vec![]));
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_ended_feeds_nothing_and_is_named() {
        let (beats, signs, stuck) = ten_periods(|_, _| async { Err("the writer has ended".into()) }).await;
        assert_eq!((beats, signs), (30, 0));
        assert!(stuck.len() == 30 && stuck.iter().all(|s| s == "the writer has ended"));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_silent_feeds_nothing_and_is_named_until_it_answers_again() {
        let (beats, signs, stuck) = ten_periods(|beat, waits| async move {
            waits.on("the first");
            waits.on("the second");
            if (5..10).contains(&beat) {
                std::future::pending::<()>().await;
            }
            Ok(())
        })
        .await;
        assert_eq!(beats - signs, 5);
        assert!(signs >= 20, "{signs}");
        assert!(
            stuck.len() == 5 && stuck.iter().all(|s| s == "no answer for 10000 ms from the second"),
            "{stuck:?}"
        );
    }
}
