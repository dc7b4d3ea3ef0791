//! A store that outlives its controller, and fails as asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::{MemoryStore, Past, Revision, Scanned, Store, StoreError, StoreTransaction, Versioned, Visit};

/// A store that outlives its controller.
#[derive(Clone, Default)]
pub(super) struct Shared {
    inner: Arc<MemoryStore>,
    /// Whether the next groups fail: one bit for each, the lowest first.
    pub(super) fails: Arc<AtomicU64>,
}

impl Store for Shared {
    async fn revision(&self) -> Result<Revision, StoreError> {
        self.inner.revision().await
    }
    async fn get(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        self.inner.get(key).await
    }
    async fn scan_range(&self, from: &[u8], before: Option<&[u8]>, visit: Visit<'_>) -> Result<Scanned, StoreError> {
        self.inner.scan_range(from, before, visit).await
    }
    async fn past(&self, from: Revision, to: Revision, limit: usize) -> Result<Past, StoreError> {
        self.inner.past(from, to, limit).await
    }
    async fn commit_group(&self, transactions: Vec<StoreTransaction>) -> Result<Revision, StoreError> {
        // A disk takes time; let other tasks run meanwhile.
        for _ in 0..4 {
            tokio::task::yield_now().await;
        }
        let fails = self.fails.load(Ordering::SeqCst);
        self.fails.store(fails >> 1, Ordering::SeqCst);
        if fails & 1 == 1 {
            let (path, message) = ("memory".into(), "full".into());
            return Err(StoreError::Storage { path, message });
        }
        self.inner.commit_group(transactions).await
    }
}
