//! Reports of devices, from which events are made. No device waits to send one: reports that do not fit into the queue
//! are only counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;
use vfabric_api::ident::Name;
use vfabric_api::provisioning::BootStep;

use crate::entity::EntityKey;

/// Reports that wait to be noted.
const QUEUE: usize = 1024;

/// What a device has to report.
#[derive(Debug)]
pub enum Report {
    /// Its session ended, and why.
    Lost(String),
    /// It holds what it should.
    InSync,
    /// The device refuses this many entities.
    Degraded(usize),
    /// It refused an entity, and why.
    Refused(EntityKey, String),
    /// It reached a step on its way into service, or failed to.
    Step(Milestone),
}

/// A step of a device on its way into service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Milestone {
    /// Which one.
    pub step: BootStep,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// In words.
    pub detail: String,
}

impl Milestone {
    /// A step that happens now.
    pub fn now(step: BootStep, detail: impl Into<String>) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            step,
            at_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            detail: detail.into(),
        }
    }
}

/// The sending end of the queue. Clones share the queue.
#[derive(Debug, Clone)]
pub struct Reports {
    queue: mpsc::Sender<(Name, Report)>,
    lost: Arc<AtomicU64>,
}

/// The receiving end of the queue.
#[derive(Debug)]
pub struct Inbox {
    queue: mpsc::Receiver<(Name, Report)>,
    lost: Arc<AtomicU64>,
}

impl Reports {
    /// A queue, and its end.
    pub fn new() -> (Self, Inbox) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let lost = Arc::default();
        let inbox = Inbox {
            queue: receiver,
            lost: Arc::clone(&lost),
        };
        (Self { queue: sender, lost }, inbox)
    }

    pub(super) fn report(&self, device: &Name, report: Report) {
        if self.queue.try_send((device.clone(), report)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Inbox {
    /// The next report, and how many were lost before it; none when there are no more devices.
    pub async fn next(&mut self) -> Option<(Name, Report, u64)> {
        let (device, report) = self.queue.recv().await?;
        Some((device, report, self.lost.swap(0, Ordering::Relaxed)))
    }
}
