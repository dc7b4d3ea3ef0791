//! Revisions in order, for readers that follow them as they come.
//!
//! The last [`KEPT`] revisions are kept as they were read from the log, so that a thousand followers cost one read. A
//! follower that is further behind reads the log itself.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::Mutex;
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::history::{Changes, Revision};

use super::Controller;
use super::history::{ENTRIES_AT_ONCE, revision};
use crate::store::Store;

/// Revisions that are kept.
const KEPT: usize = 1024;

/// The last revisions.
#[derive(Default)]
pub(super) struct Followed(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    /// In order.
    revisions: VecDeque<Arc<Revision>>,
    /// Everything after this one is here...
    from: u64,
    /// ... up to this one.
    upto: u64,
}

impl Kept {
    /// The revisions after a given one, if all of them are here.
    fn behind(&self, after: u64, limit: usize) -> Option<Changes> {
        if after < self.from || after >= self.upto {
            return None;
        }
        let upto = self.upto.min(after.saturating_add(limit as u64));
        let first = self.revisions.partition_point(|r| r.revision <= after);
        let items = self.revisions.range(first..).take_while(|r| r.revision <= upto);
        Some(Changes {
            items: items.cloned().collect(),
            upto,
        })
    }

    fn add(&mut self, changes: &Changes, after: u64) {
        if self.upto != after {
            self.revisions.clear();
            self.from = after;
        }
        self.upto = changes.upto;
        self.revisions.extend(changes.items.iter().cloned());
        while self.revisions.len() > KEPT {
            if let Some(old) = self.revisions.pop_front() {
                self.from = old.revision;
            }
        }
    }
}

impl<S: Store> Controller<S> {
    /// The revisions after `after`, among the next `limit`.
    ///
    /// # Errors
    /// `Gone` if the log does not reach so far back; `Unavailable` if it cannot be read.
    pub(super) async fn read_changes(&self, after: u64, limit: usize) -> Result<Changes, ApiError> {
        let last = self.published().revision;
        if after >= last {
            return Ok(Changes {
                items: Vec::new(),
                upto: after,
            });
        }
        let mut kept = self.followed.0.lock().await;
        if let Some(changes) = kept.behind(after, limit) {
            return Ok(changes);
        }
        // All close followers wait for this read, because all of them want its result.
        let is_close = kept.upto <= after;
        if !is_close {
            drop(kept);
            return self.read_log(after, limit, last).await;
        }
        let changes = self.read_log(after, limit, last).await?;
        kept.add(&changes, after);
        Ok(changes)
    }

    async fn read_log(&self, after: u64, limit: usize, last: u64) -> Result<Changes, ApiError> {
        let limit = limit.min(ENTRIES_AT_ONCE);
        let upto = last.min(after.saturating_add(limit as u64));
        let past = self.past(upto, after).await?;
        let is_whole = past.entries.last().is_some_and(|(first, _)| *first == after + 1);
        if !is_whole && past.oldest.is_none_or(|oldest| oldest > after + 1) {
            let oldest = past.oldest.unwrap_or(last);
            let expected = format!(
                "at least {}: earlier revisions are no longer kept",
                oldest.saturating_sub(1)
            );
            return Err(ApiError::field(ErrorCode::Gone, "after", after, expected));
        }
        let mut items = Vec::new();
        for (number, entry) in past.entries.iter().rev() {
            items.extend(revision(*number, entry)?.map(Arc::new));
        }
        Ok(Changes { items, upto })
    }
}
