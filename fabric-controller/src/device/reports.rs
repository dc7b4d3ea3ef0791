//! What devices have to report of themselves, for events. Nobody waits for it: what does not fit into the queue is counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use vfabric_api::ident::Name;

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
    /// It refuses so many entities.
    Degraded(usize),
    /// It refused an entity, and why.
    Refused(EntityKey, String),
}

/// Where reports go. Clones share the queue.
#[derive(Debug, Clone)]
pub struct Reports {
    queue: mpsc::Sender<(Name, Report)>,
    lost: Arc<AtomicU64>,
}

/// Where reports come from.
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
    /// The next report, and how many were lost before it; none when there are no devices any more.
    pub async fn next(&mut self) -> Option<(Name, Report, u64)> {
        let (device, report) = self.queue.recv().await?;
        Some((device, report, self.lost.swap(0, Ordering::Relaxed)))
    }
}
