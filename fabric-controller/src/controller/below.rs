//! Attachments that hosts ask for: pods that start and end.
//!
//! **Handling of a request.** The host is known from its certificate. Its request becomes an ordinary transaction,
//! which the writer refuses unless [`permit`] allows it: the vDC is assigned to the host, the place is on this host and
//! in a pod's namespace, and there is room. The call returns once host and leaf have applied it; if they do not, the
//! attachment is removed again. The call also waits a little for the other connected devices, so that the first packet
//! from there can be answered.
//!
//! **Invariants.** A host changes nothing but attachments in its own pods' namespaces. A caller that goes away leaves a
//! complete attachment or none: a separate task finishes the work.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::Name;
use vfabric_api::kind::{AttachmentSpec, Key, Kind, Place, Spec, View};
use vfabric_api::service::{Change, FabricService};
use vfabric_api::status::{Applied, DeviceState, Progress};
use vtep_proto::POD_NETNS;

use super::Controller;
use super::published::Published;
use super::takeover::{self, Left};
use super::users::finish;
use crate::device::driver::DeviceIndex;
use crate::driver::vtep::{Ask, Below, Spot};
use crate::model::Model;
use crate::model::fabric::Node;
use crate::store::Store;

/// Attachments that a host may ask for in one pod's namespace.
const PER_POD: usize = 64;
/// Attachments that a host may ask for in all of them.
const PER_HOST: usize = 4096;
/// Longest wait for host and leaf: longer than a leaf takes to start again and be read back.
const PLACE_PATIENCE: Duration = Duration::from_secs(30);
/// Longest wait for other connected devices, once host and leaf are ready.
const ELSEWHERE_PATIENCE: Duration = Duration::from_secs(2);
/// Longest wait for a host to remove what is gone from the intent.
const REMOVAL_PATIENCE: Duration = Duration::from_secs(20);

/// Whether a host may ask for these changes.
pub(super) fn permit(model: &Model, host: &Name, changes: &[(String, Change)]) -> Result<(), ApiError> {
    changes.iter().try_for_each(|(_, change)| match change {
        Change::Create(vdc, Spec::Attachment(spec)) => permit_attachment(model, host, vdc, spec),
        Change::Replace(vdc, Spec::Attachment(spec)) => {
            let key = Key::new(vdc.clone(), Kind::Attachment, spec.name.clone());
            let held = model.attachment_spec(&key).ok_or_else(|| ApiError::not_found(&key))?;
            if spec.migration.is_some() {
                takeover::permit(model, host, vdc, (held, spec))?;
                return has_room(model, host, takeover::netns_of(spec));
            }
            if held.migration.is_some() {
                let detail = format!("{key} migrates to another host; end that first");
                return Err(ApiError::new(ErrorCode::InUse, detail));
            }
            in_own_pod(host, &held.place)?;
            permit_attachment(model, host, vdc, spec)
        }
        Change::Delete(key) if key.kind == Kind::Attachment => {
            let spec = model.attachment_spec(key).ok_or_else(|| ApiError::not_found(key))?;
            in_own_pod(host, &spec.place).map(|_| ())
        }
        _ => Err(forbidden("a host may ask for attachments only")),
    })
}

pub(super) fn forbidden(why: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::Forbidden, why)
}

fn permit_attachment(model: &Model, host: &Name, vdc: &Name, spec: &AttachmentSpec) -> Result<(), ApiError> {
    if !model.vdc(vdc).is_some_and(|v| v.spec.hosts.contains(host)) {
        return Err(forbidden(format!("vDC `{vdc}` is not assigned to host `{host}`")));
    }
    if spec.migration.is_some() {
        return Err(forbidden("a host may not migrate an attachment"));
    }
    if !spec.port_security || !spec.allowed_addresses.is_empty() {
        return Err(forbidden("a host may not loosen the source guard"));
    }
    let netns = in_own_pod(host, &spec.place)?;
    let held = model.attachment_spec(&Key::new(vdc.clone(), Kind::Attachment, spec.name.clone()));
    if held.is_some() {
        // Repeating it changes nothing; for any other content, the check refuses it.
        return Ok(());
    }
    has_room(model, host, netns)
}

/// Whether a pod, and its host, may have one more attachment.
fn has_room(model: &Model, host: &Name, netns: &str) -> Result<(), ApiError> {
    let (in_pod, on_host) = model.interfaces_in(host, netns, POD_NETNS);
    let full = |what: &str, limit: usize| {
        let message = format!("{what} has its {limit} attachments: none may be added");
        Err(ApiError::new(ErrorCode::Exhausted, message))
    };
    match (in_pod, on_host) {
        (n, _) if n >= PER_POD => full(&format!("the pod in `{netns}` on host `{host}`"), PER_POD),
        (_, n) if n >= PER_HOST => full(&format!("host `{host}`"), PER_HOST),
        _ => Ok(()),
    }
}

/// The namespace of a place that is in a pod of this host.
fn in_own_pod<'a>(host: &Name, place: &'a Place) -> Result<&'a str, ApiError> {
    match place {
        Place::Host { host: at, netns, .. } if at == host && netns.starts_with(POD_NETNS) => Ok(netns),
        _ => Err(forbidden(format!(
            "host `{host}` may ask for attachments in its own pods only"
        ))),
    }
}

/// The name of an attachment that a host asks for: the same for the same interface, and for the same interface of a workload
/// wherever that is.
fn name_of(host: &Name, spot: &Spot) -> Result<Name, ApiError> {
    let (text, prefix) = match &spot.workload {
        None => (format!("{host}\0{}\0{}", spot.netns, spot.interface), "pod-"),
        Some(workload) => (format!("{workload}\0{}", spot.interface), takeover::PREFIX),
    };
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let mut name = prefix.to_owned();
    for octet in digest.as_ref().iter().take(16) {
        // Writing to a string cannot fail.
        let _ = write!(name, "{octet:02x}");
    }
    name.parse()
        .map_err(|_| ApiError::new(ErrorCode::Internal, "no name for the attachment"))
}

/// The attachment that a host requests.
fn asked(host: &Name, ask: Ask) -> Result<(Key, AttachmentSpec), ApiError> {
    let key = Key::new(ask.spot.vdc.clone(), Kind::Attachment, name_of(host, &ask.spot)?);
    let spec = AttachmentSpec {
        name: key.name.clone(),
        network: ask.network,
        mac: ask.mac,
        ips: ask.ips,
        place: Place::Host {
            host: host.clone(),
            netns: ask.spot.netns,
            interface: ask.spot.interface,
        },
        port_security: true,
        allowed_addresses: Vec::new(),
        migration: None,
        labels: Default::default(),
    };
    Ok((key, spec))
}

/// The id of an attachment on its host.
pub(super) fn id_of(key: &Key) -> String {
    format!("{}/{}", key.vdc, key.name)
}

/// Carries out the requests of hosts, over a controller.
struct Desk<S>(Arc<Controller<S>>);

#[tonic::async_trait]
impl<S: Store> Below for Desk<S> {
    async fn attach(&self, host: Name, ask: Ask) -> Result<String, ApiError> {
        let controller = Arc::clone(&self.0);
        // This is finished even if the caller goes away.
        finish(async move { controller.attach_below(&host, ask).await }).await
    }

    async fn swap(&self, host: Name, ask: Ask) -> Result<String, ApiError> {
        let controller = Arc::clone(&self.0);
        finish(async move { controller.swap_below(&host, ask).await }).await
    }

    async fn detach(&self, host: Name, spot: Spot) -> Result<(), ApiError> {
        let controller = Arc::clone(&self.0);
        finish(async move { controller.detach_below(&host, &spot).await }).await
    }
}

impl<S: Store> Controller<S> {
    /// The part that carries out the requests of hosts.
    pub fn below(self: Arc<Self>) -> Arc<dyn Below> {
        Arc::new(Desk(self))
    }

    async fn attach_below(&self, host: &Name, ask: Ask) -> Result<String, ApiError> {
        let has_workload = ask.spot.workload.is_some();
        let (key, spec) = asked(host, ask)?;
        if has_workload && let Some(done) = self.take_over(host, &key, &spec).await? {
            return Ok(done);
        }
        let change = Change::Create(key.vdc.clone(), Spec::Attachment(spec));
        let committed = self.propose_of_host(host.clone(), change).await?;
        if let Err(why) = self.wait_for_place(host, &key).await {
            // An attachment that existed before this call stays.
            if committed.created.contains(&key) {
                self.roll_back(host, Change::Delete(key)).await;
            }
            return Err(why);
        }
        info!(target: "audit", %host, attachment = %key, "attached by the host");
        Ok(id_of(&key))
    }

    async fn swap_below(&self, host: &Name, ask: Ask) -> Result<String, ApiError> {
        let (key, spec) = asked(host, ask)?;
        let before = self.get(&key).await?;
        let View::Attachment(before) = before else {
            return Err(ApiError::not_found(&key));
        };
        if before.spec.place != spec.place {
            return Err(forbidden("the workload is not in this pod"));
        }
        let network = spec.network.clone();
        let change = Change::Replace(key.vdc.clone(), Spec::Attachment(spec));
        self.until_free(&key, &change).await;
        self.propose_of_host(host.clone(), change).await?;
        if let Err(why) = self.wait_for_place(host, &key).await {
            let old = AttachmentSpec {
                mac: Some(before.mac),
                ips: before.ips,
                ..before.spec
            };
            self.roll_back(host, Change::Replace(key.vdc.clone(), Spec::Attachment(old)))
                .await;
            return Err(why);
        }
        info!(target: "audit", %host, attachment = %key, %network, "put into another network by the host");
        Ok(id_of(&key))
    }

    async fn roll_back(&self, host: &Name, change: Change) {
        match self.propose_of_host(host.clone(), change).await {
            Ok(_) => info!(%host, "an attachment was rolled back"),
            Err(e) if e.code == ErrorCode::NotFound => {}
            // The host has a journal and removes the attachment when it can.
            Err(error) => warn!(%host, %error, "an attachment cannot be rolled back"),
        }
    }

    async fn detach_below(&self, host: &Name, spot: &Spot) -> Result<(), ApiError> {
        let key = Key::new(spot.vdc.clone(), Kind::Attachment, name_of(host, spot)?);
        if spot.workload.is_some() {
            if let Left::Elsewhere(left) = self.leave(host, spot, &key).await? {
                if let Some(revision) = left {
                    self.until_removed(host, &key, revision).await;
                }
                return Ok(());
            }
        } else if self.has_moved_on(host, &key).await? {
            return Ok(());
        }
        let change = Change::Delete(key.clone());
        let revision = match self.propose_of_host(host.clone(), change).await {
            Ok(committed) => committed.revision,
            Err(e) if e.code == ErrorCode::NotFound => return Ok(()),
            Err(e) => return Err(e),
        };
        info!(target: "audit", %host, attachment = %key, "detached by the host");
        self.until_removed(host, &key, revision).await;
        Ok(())
    }

    /// Waits a while until a host has confirmed a revision in which it gave up an attachment.
    pub(super) async fn until_removed(&self, host: &Name, key: &Key, revision: u64) {
        let Some(device) = self.registry.find(host).and_then(|i| self.registry.get(i)) else {
            return;
        };
        let removed = self.until(REMOVAL_PATIENCE, || device.lag(revision).is_none().then_some(()));
        if removed.await.is_none() {
            warn!(%host, attachment = %key, "the host has not confirmed yet that it is gone");
        }
    }

    /// Checks again whenever a device has confirmed something, until there is a result or time runs out.
    async fn until<T>(&self, patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
        let end = Instant::now() + patience;
        loop {
            // Registered before the look, so that no progress in between is missed.
            let progress = self.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            if let Some(result) = look() {
                return Some(result);
            }
            if tokio::time::timeout_at(end, progress).await.is_err() {
                return look();
            }
        }
    }

    /// Waits until host and leaf have applied an attachment, then a while for other devices.
    pub(super) async fn wait_for_place(&self, host: &Name, key: &Key) -> Result<(), ApiError> {
        let place = self.place_devices(host);
        let own: BTreeSet<DeviceIndex> = place.first().copied().into_iter().collect();
        let here: BTreeSet<DeviceIndex> = place.into_iter().collect();
        let look = || {
            let read_back = |d: &DeviceIndex| self.registry.get(*d).is_some_and(|d| d.was_read_back());
            let published = self.published();
            let Some(all) = published.applied_on(key, |d| here.contains(&d)) else {
                return Some(Err(ApiError::new(
                    ErrorCode::Unavailable,
                    "the attachment was removed meanwhile",
                )));
            };
            // The host retries what it refused, but a pod does not wait for that.
            let refused = published.applied_on(key, |d| own.contains(&d));
            match (all.progress, refused.filter(|r| r.progress == Progress::Failed)) {
                (_, Some(refused)) => Some(Err(not_applied(&refused))),
                (Progress::Applied, _) if all.devices == here.len() && here.iter().all(read_back) => Some(Ok(())),
                _ => None,
            }
        };
        match self.until(PLACE_PATIENCE, look).await {
            Some(result) => result?,
            None => {
                let applied = self.published().applied_on(key, |d| here.contains(&d));
                return Err(applied.map_or_else(|| ApiError::not_found(key), |a| not_applied(&a)));
            }
        }
        let connected = |d: DeviceIndex| {
            self.registry
                .get(d)
                .is_some_and(|d| d.state() != DeviceState::Disconnected)
        };
        let elsewhere = self.until(ELSEWHERE_PATIENCE, || {
            let applied = self.published().applied_on(key, connected)?;
            (applied.progress == Progress::Applied).then_some(())
        });
        if elsewhere.await.is_none() {
            info!(%host, attachment = %key, "attached, while devices elsewhere are behind");
        }
        Ok(())
    }

    /// The devices at which an attachment of this host has to be applied: the host, then its leaf.
    pub(super) fn place_devices(&self, host: &Name) -> Vec<DeviceIndex> {
        let fabric = self.fabric_now();
        let Some(Node::Host(index)) = fabric.node(host) else {
            return Vec::new();
        };
        let leaf = fabric.leaf_of(index).map(|l| fabric.switch_device(l));
        [fabric.host_device(index)].into_iter().chain(leaf).collect()
    }
}

pub(super) fn not_applied(applied: &Applied) -> ApiError {
    let reasons: Vec<String> = applied
        .waiting
        .iter()
        .map(|w| format!("{}: {}", w.device, w.reason))
        .collect();
    ApiError::new(ErrorCode::Unavailable, format!("not applied: {}", reasons.join("; ")))
}

impl Published {
    /// How far some devices are with an attachment and its network; `None` if there is no such attachment.
    pub(super) fn applied_on(&self, key: &Key, counts: impl Fn(DeviceIndex) -> bool) -> Option<Applied> {
        let object = self.object(key)?;
        let Spec::Attachment(spec) = object.stored.spec() else {
            return None;
        };
        let network = self.object(&Key::new(key.vdc.clone(), Kind::Network, spec.network))?;
        let owners = [object.owner?, network.owner?];
        let waits = owners.iter().flat_map(|owner| self.waits(*owner));
        let asked = owners.iter().flat_map(|owner| self.engine.asked_by(*owner));
        Some(self.applied(asked.filter(|(_, device, _)| counts(*device)), waits))
    }
}
