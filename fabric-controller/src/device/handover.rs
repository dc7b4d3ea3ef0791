//! An attachment that changes its network while it stays where it is, or the host that serves it, without a gap.
//!
//! **Problem.** Devices are written to independently. If the host's end of an interface moved before the leaf admits the
//! host in the new network, or the leaf forgot the old network before the end has moved, frames would be lost for as long
//! as the slower of the two takes.
//!
//! **Model.** As with every transaction, what each device should hold changes at once. A handover then puts the writes
//! of the transaction into an order *across* devices. It holds keys back ([`Step`]):
//!
//! | step | what is written | held back | ends when |
//! | --- | --- | --- | --- |
//! | make | all that is new, on every device | the attachment on its host; all that goes | every device that is connected has it, or [`MAKE_PATIENCE`] |
//! | move | the attachment on its host | all that goes | the host has confirmed or refused it, or is away; or [`MOVE_PATIENCE`] |
//! | break | all that goes | nothing | |
//!
//! When an attachment migrates ([`Opening`]), the host that begins to serve it gets all its changes at once. All
//! changes of that attachment on other devices wait until that host has confirmed, however long it is away. So nobody
//! sends to a host whose port is still closed. The wait also ends if the migration is rolled back, because then the
//! host is not to serve.
//!
//! **Invariants.** A key that is held back is not confirmed, so no number of the old network is free before its entries
//! are gone. A later change of a key ends its hold. A handover that ends early (the controller stops, its task panics)
//! releases all keys: the order is lost, but nothing else. After a restart of the controller only the wait for a host
//! that begins to serve goes on ([`crate::engine::Engine::resume`]).
//!
//! **Cost.** Nothing for transactions without such an attachment. Otherwise one look at each device of the transaction
//! whenever one of them confirms something.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::shared::{Device, Standing};
use crate::entity::EntityKey;
use crate::ident::{AttachmentId, Owner, Source};

/// Longest wait for new entries. A device that takes longer is behind with all its work.
const MAKE_PATIENCE: Duration = Duration::from_secs(2);
/// How often the controller checks a host that begins to serve, because the host may be removed. It also checks
/// whenever a device confirms something.
const OPEN_LOOK: Duration = Duration::from_secs(1);
/// Longest wait for the host: a busy one has hundreds of interfaces before this.
const MOVE_PATIENCE: Duration = Duration::from_secs(5);

/// When a key that is held back may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Once everything new is in place.
    Move,
    /// Once the attachment has moved.
    Break,
    /// Once the host that begins to serve this attachment has confirmed it.
    Serve(AttachmentId),
}

impl Step {
    /// Whether a key that waits for this step may be written once the handover has
    /// reached the other one.
    pub(super) fn is_open_at(self, reached: Self) -> bool {
        self == reached || (self, reached) == (Self::Move, Self::Break)
    }
}

/// An attachment that one host begins to serve, after another did.
#[derive(Debug)]
pub struct Opening {
    /// The attachment.
    pub attachment: AttachmentId,
    /// The host that begins.
    pub host: Arc<Device>,
    /// What it has to confirm.
    pub key: EntityKey,
}

impl Opening {
    /// True once the host serves, or is no longer meant to.
    fn is_done(&self) -> bool {
        matches!(self.host.standing(&self.key), Standing::Applied) || !self.host.wants_serving(&self.key)
    }

    /// Whether a contribution to a device waits until the host has begun.
    pub fn makes_wait(&self, source: Source, device: &Arc<Device>) -> bool {
        source.owner() == Owner::Attachment(self.attachment) && !Arc::ptr_eq(device, &self.host)
    }
}

/// Attachments of one transaction that are on their way, and the devices that it concerns.
#[derive(Debug)]
pub struct Handover {
    /// The revision of the transaction; it names what is held back.
    pub revision: u64,
    /// The attachments, each with its host.
    pub moves: Vec<(Arc<Device>, EntityKey)>,
    /// Attachments that a host begins to serve.
    pub openings: Vec<Opening>,
    /// Every device that the transaction changes.
    pub devices: Vec<Arc<Device>>,
}

impl Handover {
    /// Carries out the handover. `progress` is notified each time a device has confirmed something.
    pub async fn carry_out(self, progress: Arc<Notify>) {
        let served = join_all(self.openings.iter().map(|opening| self.serve(opening, &progress)));
        tokio::join!(served, self.relocate(&progress));
        // The rest is released when `self` is dropped here.
    }

    /// Waits until a host serves its attachment, then lets everybody else know.
    async fn serve(&self, opening: &Opening, progress: &Notify) {
        while !opening.is_done() {
            until(OPEN_LOOK, progress, || opening.is_done()).await;
        }
        self.open(Step::Serve(opening.attachment));
    }

    /// Carries out the three steps for the attachments that change their networks.
    async fn relocate(&self, progress: &Notify) {
        if self.moves.is_empty() {
            return;
        }
        let made = || self.devices.iter().all(|d| d.has_made(self.revision));
        until(MAKE_PATIENCE, progress, made).await;
        self.open(Step::Move);
        let has_moved =
            |(host, key): &(Arc<Device>, EntityKey)| host.is_away() || !matches!(host.standing(key), Standing::Pending);
        until(MOVE_PATIENCE, progress, || self.moves.iter().all(has_moved)).await;
        self.open(Step::Break);
    }

    fn open(&self, step: Step) {
        self.devices.iter().for_each(|d| d.open(self.revision, step));
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        self.open(Step::Break);
        self.openings
            .iter()
            .for_each(|opening| self.open(Step::Serve(opening.attachment)));
    }
}

/// Checks again whenever a device has confirmed something, until the condition holds or time runs out.
async fn until(patience: Duration, progress: &Notify, is_so: impl Fn() -> bool) {
    let end = Instant::now() + patience;
    loop {
        // Registered before the look, so that no progress in between is missed.
        let notified = progress.notified();
        tokio::pin!(notified);
        notified.as_mut().enable();
        if is_so() || timeout_at(end, notified).await.is_err() {
            return;
        }
    }
}
