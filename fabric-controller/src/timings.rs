//! How long devices take: the histograms of the metrics.

use std::time::Duration;

use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;

/// Buckets in seconds: from the time in an idle fabric to that of a device that was away.
const BUCKETS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];

type Histograms = Family<Vec<(&'static str, String)>, Histogram, fn() -> Histogram>;

/// How long devices of each kind take. Clones share their counts.
#[derive(Debug, Clone)]
pub struct AllTimings {
    /// From a change until a device had confirmed everything.
    pub(crate) applied: Histograms,
    /// Time until a device answered a batch of writes.
    pub(crate) written: Histograms,
}

impl Default for AllTimings {
    fn default() -> Self {
        let new = || Histograms::new_with_constructor(|| Histogram::new(BUCKETS));
        Self {
            applied: new(),
            written: new(),
        }
    }
}

impl AllTimings {
    /// Of one kind of device.
    pub fn of(&self, kind: &'static str) -> Timings {
        let labels = vec![("kind", kind.to_owned())];
        Timings {
            applied: self.applied.get_or_create(&labels).clone(),
            written: self.written.get_or_create(&labels).clone(),
        }
    }
}

/// How long devices of one kind take.
#[derive(Debug, Clone)]
pub struct Timings {
    applied: Histogram,
    written: Histogram,
}

impl Timings {
    /// A device has confirmed everything. The time counts from its oldest unconfirmed change.
    pub(crate) fn applied(&self, took: Duration) {
        self.applied.observe(took.as_secs_f64());
    }

    /// A device has answered a batch of writes.
    pub(crate) fn written(&self, took: Duration) {
        self.written.observe(took.as_secs_f64());
    }
}
