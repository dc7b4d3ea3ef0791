//! What the agent is doing, and since when.
//!
//! Every piece of work that could block holds a [`Busy`] while it runs. So a piece of work that never returns is
//! visible by name: in the status, which does not need the engine for this, and in the log ([`Watch::run`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Work that runs longer than this is logged.
const SLOW: Duration = Duration::from_secs(5);
/// How often to look; a piece of work is logged again when it has taken twice as long.
const LOOK: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Work {
    what: String,
    since: Instant,
    /// Logged when it takes longer than this.
    limit: Duration,
}

/// The work that is being done now.
#[derive(Debug, Clone, Default)]
pub struct Watch(Arc<Mutex<(u64, BTreeMap<u64, Work>)>>);

/// A running piece of work; dropped when it is done.
#[derive(Debug)]
pub struct Busy {
    watch: Watch,
    number: u64,
}

/// A piece of work in the status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// What is being done.
    pub what: String,
    /// For how long, in milliseconds.
    pub for_ms: u64,
}

impl Watch {
    fn work<T>(&self, f: impl FnOnce(&mut (u64, BTreeMap<u64, Work>)) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes that a piece of work begins.
    pub fn begin(&self, what: impl Into<String>) -> Busy {
        let work = Work {
            what: what.into(),
            since: Instant::now(),
            limit: SLOW,
        };
        let number = self.work(|(next, all)| {
            *next += 1;
            all.insert(*next, work);
            *next
        });
        Busy {
            watch: self.clone(),
            number,
        }
    }

    /// How long a piece of work of that name has been running; `None` if there is none.
    pub fn running(&self, what: &str) -> Option<Duration> {
        self.work(|(_, all)| all.values().find(|w| w.what == what).map(|w| w.since.elapsed()))
    }

    /// How many pieces of work run whose name starts like this.
    pub fn count(&self, prefix: &str) -> usize {
        self.work(|(_, all)| all.values().filter(|w| w.what.starts_with(prefix)).count())
    }

    /// All work that has been running for at least this long, oldest first.
    pub fn longer_than(&self, least: Duration) -> Vec<Running> {
        self.work(|(_, all)| {
            let long = all
                .values()
                .map(|w| (w, w.since.elapsed()))
                .filter(|(_, d)| *d >= least);
            long.map(|(w, d)| Running {
                what: w.what.clone(),
                for_ms: u64::try_from(d.as_millis()).unwrap_or(u64::MAX),
            })
            .collect()
        })
    }

    /// Work to log now, because it has exceeded its limit. The limit is then doubled.
    fn overdue(&self) -> Vec<(String, Duration)> {
        self.work(|(_, all)| {
            let mut overdue = Vec::new();
            for work in all.values_mut().filter(|w| w.since.elapsed() >= w.limit) {
                work.limit *= 2;
                overdue.push((work.what.clone(), work.since.elapsed()));
            }
            overdue
        })
    }

    /// Logs work that takes too long. Never returns.
    pub async fn run(self) {
        loop {
            tokio::time::sleep(LOOK).await;
            for (what, time) in self.overdue() {
                tracing::warn!(seconds = time.as_secs(), "still running: {what}");
            }
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.watch.work(|(_, all)| all.remove(&self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_named_until_it_is_done() {
        let watch = Watch::default();
        let first = watch.begin("work in a");
        let second = watch.begin("work in b");
        assert_eq!(watch.count("work in "), 2);
        assert!(watch.running("work in a").is_some());
        drop(first);
        let left = watch.longer_than(Duration::ZERO);
        assert_eq!(left.iter().map(|r| r.what.as_str()).collect::<Vec<_>>(), ["work in b"]);
        drop(second);
        assert!(watch.longer_than(Duration::ZERO).is_empty());
    }
}
