//! The interface of a controller to the REST router.
//!
//! Every mutation is one [`Transaction`]: it is validated as a unit, made durable, then acknowledged; or nothing of it
//! happens. The router turns HTTP into calls of this trait, and knows nothing else of the controller.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::enrolment::{EnrolmentTokenSpec, HostToken, SwitchToken};
use crate::error::{ApiError, ErrorCode};
use crate::event::Events;
use crate::history::{Changes, Diff, History, Revision};
use crate::ident::{Label, Name, OwnerName};
#[cfg(feature = "server")]
use crate::image::Content;
use crate::image::{Image, NewImage};
use crate::intent::Intent;
use crate::inventory::{Inventory, InventoryChange, ItemChange};
pub use crate::kind::{Key, Kind, Spec};
use crate::labels::Selector;
use crate::lifecycle::{Lifecycle, ReplaceSpec, RetireSpec};
use crate::machine::{Install, InstallSpec, Reboot, RebootSpec};
use crate::plan::Plan;
use crate::provisioning::Provisioning;
use crate::status::{
    Applied, DeviceEntity, Drops, FabricStatus, HostStatus, LinkStatus, ObjectEntity, SwitchStatus, TableUse, View,
};

/// One step of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The object must not exist yet; the same content again is accepted and changes nothing.
    Create(Name, Spec),
    /// The object must exist.
    Replace(Name, Spec),
    /// Create or replace.
    Put(Name, Spec),
    /// Merge a document into what the user wrote (RFC 7396). The object must exist.
    Patch(Key, serde_json::Value),
    /// The object must exist and nothing may use it.
    Delete(Key),
    /// A change of the fabric itself.
    Inventory(InventoryChange),
}

/// A set of changes that happens as a whole or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transaction {
    /// Each change with the path that errors about it start with (empty for a body that is
    /// the object itself, `vdcs[0].networks[1]` in an intent file).
    pub changes: Vec<(String, Change)>,
    /// Plan only: nothing is stored or written.
    pub dry_run: bool,
    /// An object that must be at this revision, or nothing happens.
    pub expect: Option<(Key, u64)>,
    /// Who asks for it, and why.
    pub origin: Origin,
    /// For a rollback: the owners of objects at that time. These become owners again; other objects get the owner of the origin.
    pub owners: BTreeMap<Key, Option<OwnerName>>,
}

impl Transaction {
    /// A transaction of one change, whose errors name fields of the object itself.
    pub fn one(change: Change, origin: Origin) -> Self {
        Self {
            changes: vec![(String::new(), change)],
            origin,
            ..Self::default()
        }
    }
}

/// The caller of a transaction, and the reason; kept with its revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Origin {
    /// The caller, as the audit log names it; empty for the controller itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub author: String,
    /// In the caller's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// The new owner of the objects; absent: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<OwnerName>,
    /// Whether objects of other owners are changed, too.
    #[serde(skip)]
    pub force: bool,
    /// Whether attachments are deleted that use hosts or access ports which their vDC loses.
    #[serde(skip)]
    pub cascade: bool,
    /// Whether the caller is limited to what its vDC was assigned.
    #[serde(skip)]
    pub is_tenant: bool,
    /// The key of a call that may be repeated.
    #[serde(skip)]
    pub repeatable: Option<Repeatable>,
}

/// A call with an `Idempotency-Key`: repeated, it gets the first response again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repeatable {
    /// SHA-256 of the caller and its key.
    pub key: [u8; 32],
    /// SHA-256 of the method, the path with its query, and the body.
    pub request: [u8; 32],
}

/// What a transaction did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Committed {
    /// Revision of the intent after it. Devices that have fully applied it report an epoch
    /// of at least this.
    pub revision: u64,
    /// Objects that are new.
    pub created: Vec<Key>,
    /// Objects whose content changed.
    pub updated: Vec<Key>,
    /// Objects that were deleted.
    pub deleted: Vec<Key>,
    /// How many were already as requested.
    pub unchanged: usize,
    /// What happened to the inventory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inventory: Vec<ItemChange>,
    /// For a dry run: what it would change in objects and on devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// Set if the call was carried out before; then this is the response of that time.
    #[serde(skip)]
    pub replay: Option<Replay>,
}

/// The stored data of a repeated call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replay {
    /// For a call that created or changed one object: the object as the API showed it then.
    pub object: Option<serde_json::Value>,
}

/// The result of a change, and the progress of the devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Outcome {
    /// What was stored.
    #[serde(flatten)]
    pub committed: Committed,
    /// The progress of the devices when the call returned; absent without `?wait=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Applied>,
}

/// How to apply an intent file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApplyOptions {
    /// Delete the owner's objects in the file's vDCs that the file does not name; without an owner, those that have no
    /// owner.
    pub prune: bool,
    /// The vDCs exist and stay as they are: only the objects in them are applied.
    pub keep_vdcs: bool,
    /// Plan only.
    pub dry_run: bool,
    /// Who asks for it, and why.
    pub origin: Origin,
}

/// A return to an older revision of the intent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rollback {
    /// The revision whose intent should be restored.
    pub to: u64,
    /// If set, only this vDC and the objects in it.
    pub vdc: Option<Name>,
    /// Plan only.
    pub dry_run: bool,
    /// Who asks for it, and why.
    pub origin: Origin,
}

/// One page of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The objects, by name.
    pub items: Vec<T>,
    /// Give this as `after` to get the next page; absent on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A copy of the controller's store, made while it is in use.
#[derive(Debug)]
pub struct Backup {
    /// Its revision.
    pub revision: u64,
    /// The copy, read from its beginning.
    pub file: std::fs::File,
}

/// A controller, as the REST router sees it.
pub trait FabricService: Send + Sync + 'static {
    /// Validates, stores and starts to apply a transaction.
    fn commit(&self, transaction: Transaction) -> impl Future<Output = Result<Committed, ApiError>> + Send;

    /// Applies an intent file as one transaction.
    fn apply(&self, intent: Intent, options: ApplyOptions) -> impl Future<Output = Result<Committed, ApiError>> + Send;

    /// Restores the intent of an older revision, as one transaction. The inventory stays as it is.
    fn rollback(&self, rollback: Rollback) -> impl Future<Output = Result<Committed, ApiError>> + Send;

    /// The last revisions below `before`, at most `limit`, the newest first.
    fn history(&self, before: Option<u64>, limit: usize) -> impl Future<Output = Result<History, ApiError>> + Send;

    /// One revision.
    fn revision(&self, revision: u64) -> impl Future<Output = Result<Revision, ApiError>> + Send;

    /// How the intent of two revisions differs.
    fn diff(&self, from: u64, to: u64) -> impl Future<Output = Result<Diff, ApiError>> + Send;

    /// Up to `limit` revisions after `after`, in order, without those that changed only the controller's own
    /// records.
    fn changes(&self, after: u64, limit: usize) -> impl Future<Output = Result<Changes, ApiError>> + Send;

    /// The last revision.
    fn revision_now(&self) -> u64;

    /// Waits until there is a revision after `after`.
    fn changed(&self, after: u64) -> impl Future<Output = ()> + Send;

    /// Events after `after` that the caller may see, at most `limit`, in order; without `after`, the last ones. `sees` says for
    /// a vDC whether to include its events, and for `None` whether to include those of the fabric.
    fn events(&self, after: Option<u64>, limit: usize, sees: &(dyn Fn(Option<&Name>) -> bool + Sync)) -> Events;

    /// The number of the last event.
    fn event_now(&self) -> u64;

    /// Waits until there is an event after `after`.
    fn happened(&self, after: u64) -> impl Future<Output = ()> + Send;

    /// One object with its status.
    fn get(&self, key: &Key) -> impl Future<Output = Result<View, ApiError>> + Send;

    /// The selected objects of a kind (of one vDC, except for vDCs themselves), ordered by name, at most `limit`,
    /// starting after the name `after`. A page may have fewer objects and still not be the last.
    fn list(
        &self,
        kind: Kind,
        vdc: Option<&Name>,
        selector: &Selector,
        after: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<Page<View>, ApiError>> + Send;

    /// Waits until every device that `revision` concerns has applied it, or `timeout` has
    /// passed; returns the progress.
    fn wait_applied(&self, revision: u64, timeout: Duration) -> impl Future<Output = Applied> + Send;

    /// The fabric at a glance.
    fn fabric(&self) -> impl Future<Output = FabricStatus> + Send;

    /// The inventory.
    fn inventory(&self) -> impl Future<Output = Inventory> + Send;

    /// Every switch.
    fn switches(&self) -> impl Future<Output = Vec<SwitchStatus>> + Send;

    /// Every host.
    fn hosts(&self) -> impl Future<Output = Vec<HostStatus>> + Send;

    /// Makes a token with which the agent of a host of the inventory enrols, once.
    fn make_host_token(
        &self,
        host: &Name,
        spec: EnrolmentTokenSpec,
    ) -> impl Future<Output = Result<HostToken, ApiError>> + Send;

    /// Makes a token with which the machine of a switch of the inventory enrols, once.
    fn make_switch_token(
        &self,
        switch: &Name,
        spec: EnrolmentTokenSpec,
    ) -> impl Future<Output = Result<SwitchToken, ApiError>> + Send;

    /// Restarts a switch. If it is drained first, the drain is recorded as a change by `origin`.
    fn reboot(
        &self,
        switch: &Name,
        spec: RebootSpec,
        origin: Origin,
    ) -> impl Future<Output = Result<Reboot, ApiError>> + Send;

    /// Begins to install software on a switch.
    fn install(
        &self,
        switch: &Name,
        spec: InstallSpec,
        origin: Origin,
    ) -> impl Future<Output = Result<Install, ApiError>> + Send;

    /// Makes another machine this switch; `origin` is whose change it is.
    fn replace_machine(
        &self,
        switch: &Name,
        spec: ReplaceSpec,
        origin: Origin,
    ) -> impl Future<Output = Result<Lifecycle, ApiError>> + Send;

    /// Takes a switch out of the fabric for good.
    fn retire(
        &self,
        switch: &Name,
        spec: RetireSpec,
        origin: Origin,
    ) -> impl Future<Output = Result<Lifecycle, ApiError>> + Send;

    /// How each switch came into service, or how far it is.
    fn provisioning(&self) -> impl Future<Output = Vec<Provisioning>> + Send;

    /// Every link between switches.
    fn links(&self) -> impl Future<Output = Vec<LinkStatus>> + Send;

    /// All lost frames, read from the devices now.
    fn drops(&self) -> impl Future<Output = Drops> + Send;

    /// Warnings if changes can be stored; otherwise why they cannot. The words name no tenant, because
    /// anybody may ask.
    fn health(&self) -> impl Future<Output = Result<Vec<String>, String>> + Send;

    /// All metrics, as OpenMetrics text.
    fn metrics(&self) -> impl Future<Output = String> + Send;

    /// A copy of the store, which [`crate::rest`] sends.
    fn backup(&self) -> impl Future<Output = Result<Backup, ApiError>> + Send;

    /// All images for switches.
    fn images(&self) -> impl Future<Output = Result<Vec<Image>, ApiError>> + Send {
        std::future::ready(Err(no_images()))
    }

    /// Stores an image, whole or not at all.
    #[cfg(feature = "server")]
    fn put_image(&self, image: NewImage, content: Content) -> impl Future<Output = Result<Image, ApiError>> + Send {
        let _ = (image, content);
        std::future::ready(Err(no_images()))
    }

    /// Deletes an image; one that is the software of a switch only with `force`.
    fn delete_image(&self, name: Label, force: bool) -> impl Future<Output = Result<(), ApiError>> + Send {
        let _ = (name, force);
        std::future::ready(Err(no_images()))
    }

    /// How full the tables of switches are (of one switch, if it is named), by switch, then by table.
    fn tables(&self, switch: Option<&Name>) -> impl Future<Output = Result<Vec<TableUse>, ApiError>> + Send;

    /// The entities that an object asks devices for. Costs the size of the result.
    fn entities_of(&self, key: &Key) -> impl Future<Output = Result<Vec<ObjectEntity>, ApiError>> + Send;

    /// What a device (switch or host) should hold, and whether it holds it.
    fn entities(&self, device: &Name) -> impl Future<Output = Result<Vec<DeviceEntity>, ApiError>> + Send;
}

/// The error of a controller without a place for images.
pub fn no_images() -> ApiError {
    let detail = "this controller stores no images: start it with `--images DIRECTORY`";
    ApiError::new(ErrorCode::PreconditionFailed, detail)
}
