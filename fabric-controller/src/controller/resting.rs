//! Attachments that move to addresses which another has just given up.
//!
//! **Problem.** An address rests until all devices have confirmed that its old meaning is gone. An attachment in the intent that asks for
//! a resting one is on no device: after a swap it would be in no network at all until then.
//!
//! **Choice.** A change of one attachment that is in a network now is proposed once everything that it asks for is free, at the latest
//! after [`FREE_PATIENCE`]; meanwhile the attachment stays where it is. That holds for swaps from below and for
//! requests over REST. A transaction of several changes does not wait, because its order is the caller's.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use vfabric_api::kind::{Key, Kind, Spec};
use vfabric_api::service::{Change, Transaction};

use super::Controller;
use crate::model::change::By;
use crate::store::Store;

/// Longest wait for addresses that another has just given up.
const FREE_PATIENCE: Duration = Duration::from_secs(5);
/// Time between two checks during that wait; one check costs a look at one attachment.
const FREE_LOOK: Duration = Duration::from_millis(10);
/// Most changes that check at the same time, so that no number of callers can keep the writer busy; others wait for
/// their turn.
pub(super) const LOOKERS: usize = 16;

impl<S: Store> Controller<S> {
    /// Waits as [`Self::until_free`], if the transaction changes one attachment and nothing else.
    pub(super) async fn until_move_is_free(&self, transaction: &Transaction) {
        let [(_, change)] = transaction.changes.as_slice() else {
            return;
        };
        let key = match change {
            Change::Replace(vdc, Spec::Attachment(spec)) | Change::Put(vdc, Spec::Attachment(spec)) => {
                &Key::new(vdc.clone(), Kind::Attachment, spec.name.clone())
            }
            Change::Patch(key, _) if key.kind == Kind::Attachment => key,
            _ => return,
        };
        if !transaction.dry_run {
            self.until_free(key, change).await;
        }
    }

    /// Waits until nothing that an attachment asks for is in quarantine. In the intent it would wait in no network at all;
    /// here it waits in the one that it has.
    pub(super) async fn until_free(&self, key: &Key, change: &Change) {
        if !self.would_wait(key, change).await {
            return;
        }
        let end = Instant::now() + FREE_PATIENCE;
        let Ok(Ok(_turn)) = timeout_at(end, self.lookers.acquire()).await else {
            return;
        };
        while self.would_wait(key, change).await && Instant::now() < end {
            sleep(FREE_LOOK).await;
        }
    }

    /// Whether an attachment that is on devices now would be kept from them after a change. What is wrong with the change is not said
    /// here.
    async fn would_wait(&self, key: &Key, change: &Change) -> bool {
        let model = &mut self.state.lock().await.model;
        if model.owner(key).is_none_or(|owner| model.waits(owner)) {
            return false;
        }
        let by = By {
            force: true,
            ..By::default()
        };
        let Ok(applied) = model.apply_by(&[(String::new(), change.clone())], &by) else {
            return false;
        };
        let waits = model.owner(key).is_some_and(|owner| model.waits(owner));
        model.undo(applied);
        model.take_touched();
        waits
    }
}
