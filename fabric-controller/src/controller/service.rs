//! The functions behind the REST router.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use vfabric_api::enrolment::{EnrolmentTokenSpec, HostToken, SwitchToken};
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::event::Events;
use vfabric_api::history::{Changes, Diff, History, Revision};
use vfabric_api::ident::{Label, Name};
use vfabric_api::image::{Content, Image, NewImage};
use vfabric_api::intent::Intent;
use vfabric_api::inventory::Inventory;
use vfabric_api::labels::Selector;
use vfabric_api::lifecycle::{Lifecycle, ReplaceSpec, RetireSpec};
use vfabric_api::machine::{Install, InstallSpec, Reboot, RebootSpec};
use vfabric_api::provisioning::Provisioning;
use vfabric_api::service::{
    ApplyOptions, Backup, Committed, FabricService, Key, Kind, Origin, Page, Rollback, Transaction,
};
use vfabric_api::status::{
    Applied, Count, DeviceEntity, DeviceReason, DeviceState, DropCount, Drops, FabricStatus, HostStatus, LinkStatus,
    ObjectEntity, Progress, SwitchStatus, TableUse, View, Warning,
};
use vfabric_api::topology::Switch;

use super::Controller;
use super::published::{Object, Published};
use super::reader::SHOWN_REASONS;
use crate::device::actor::Request;
use crate::device::driver::{CounterValue, DeviceIndex, DriverError, Loss};
use crate::device::{Device, Lag, Standing};
use crate::entity::Entity;
use crate::metrics::Snapshot;
use crate::model::fabric::{Fabric, HostEntry, Node, SwitchEntry};
use crate::model::{HostIndex, SwitchIndex};
use crate::store::Store;

/// Entities that are described under one lock of the published state; between two locks the writer gets its turn.
const ENTITIES_AT_ONCE: usize = 256;
/// Most objects that are examined for one page, because the published state is locked meanwhile.
const LOOKED_AT: usize = 10_000;
/// Longest time a device may take to answer for its counters.
const COUNTERS_TIMEOUT: Duration = Duration::from_secs(3);
impl<S: Store> FabricService for Controller<S> {
    async fn commit(&self, transaction: Transaction) -> Result<Committed, ApiError> {
        self.until_move_is_free(&transaction).await;
        self.propose(transaction).await
    }

    async fn apply(&self, intent: Intent, options: ApplyOptions) -> Result<Committed, ApiError> {
        self.propose_intent(intent, options).await
    }

    async fn rollback(&self, rollback: Rollback) -> Result<Committed, ApiError> {
        self.propose_rollback(rollback).await
    }

    async fn history(&self, before: Option<u64>, limit: usize) -> Result<History, ApiError> {
        self.read_history(before, limit).await
    }

    async fn revision(&self, revision: u64) -> Result<Revision, ApiError> {
        self.read_revision(revision).await
    }

    async fn diff(&self, from: u64, to: u64) -> Result<Diff, ApiError> {
        self.read_diff(from, to).await
    }

    async fn changes(&self, after: u64, limit: usize) -> Result<Changes, ApiError> {
        self.read_changes(after, limit).await
    }

    fn revision_now(&self) -> u64 {
        self.published().revision
    }

    async fn changed(&self, after: u64) {
        // The sender lives as long as the controller.
        let _ = self.revisions.subscribe().wait_for(|now| *now > after).await;
    }

    fn events(&self, after: Option<u64>, limit: usize, sees: &(dyn Fn(Option<&Name>) -> bool + Sync)) -> Events {
        self.events.page(after, limit, sees)
    }

    fn event_now(&self) -> u64 {
        self.events.last()
    }

    async fn happened(&self, after: u64) {
        self.events.happened(after).await;
    }

    async fn get(&self, key: &Key) -> Result<View, ApiError> {
        let published = self.published();
        let found = published.object(key).and_then(|object| published.view(object));
        found.ok_or_else(|| ApiError::not_found(key))
    }

    async fn list(
        &self,
        kind: Kind,
        vdc: Option<&Name>,
        selector: &Selector,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<View>, ApiError> {
        let wrong =
            |e: vfabric_api::ident::IdentError| ApiError::field(ErrorCode::Malformed, "after", e.value, e.expected);
        let after: Option<Name> = after.map(str::parse).transpose().map_err(wrong)?;
        let after = after.as_ref();
        let published = self.published();
        let (Some(vdc), true) = (vdc, kind != Kind::Vdc) else {
            let vdcs = page(&published.vdcs, after);
            let vdcs = vdcs.filter_map(|(name, vdc)| Some((name, vdc.all(Kind::Vdc).get(name)?)));
            return Ok(published.cut(vdcs, selector, limit));
        };
        let found = published
            .vdcs
            .get(vdc)
            .ok_or_else(|| ApiError::not_found(Key::vdc(vdc.clone())))?;
        Ok(published.cut(page(found.all(kind), after), selector, limit))
    }

    async fn wait_applied(&self, revision: u64, timeout: Duration) -> Applied {
        let (mut waits, mut concerned) = self.concerned(revision);
        let until = tokio::time::Instant::now() + timeout;
        let mut over = false;
        loop {
            // Register before the check, so that no progress in between is missed.
            let progress = self.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            // An object that waits for a number is on no device yet, so devices cannot report that it is missing.
            if !waits.is_empty() {
                (waits, concerned) = self.concerned(revision);
            }
            let devices = concerned.iter().filter_map(|i| self.registry.get(*i));
            let lags: Vec<_> = devices.filter_map(|d| d.lag(revision).map(|lag| (d, lag))).collect();
            let failed = |lag: &Lag, also_retried| match lag {
                Lag::Failed(f) => also_retried || f.is_final(),
                Lag::Pending(_) => false,
            };
            // After a permanent refusal, waiting longer does not help.
            let hopeless = lags.iter().any(|(_, lag)| failed(lag, false));
            let done = lags.is_empty() && waits.is_empty();
            if done || hopeless || over {
                let refused = lags.iter().any(|(_, lag)| failed(lag, true));
                let progress = match (done, refused) {
                    (true, _) => Progress::Applied,
                    (false, true) => Progress::Failed,
                    (false, false) => Progress::Pending,
                };
                let reasons = lags.iter().map(|(device, lag)| DeviceReason {
                    device: device.name.clone(),
                    reason: match lag {
                        Lag::Failed(failure) => failure.to_string(),
                        Lag::Pending(why) => why.clone(),
                    },
                });
                return Applied {
                    revision,
                    progress,
                    devices: concerned.len(),
                    applied: concerned.len() - lags.len(),
                    waiting: reasons.chain(waits).take(SHOWN_REASONS).collect(),
                };
            }
            over = tokio::time::timeout_at(until, progress).await.is_err();
        }
    }

    async fn fabric(&self) -> FabricStatus {
        let fabric = self.fabric_now();
        let in_sync = |device: DeviceIndex| {
            self.registry
                .get(device)
                .is_some_and(|d| d.state() == DeviceState::InSync)
        };
        let count = |devices: Vec<DeviceIndex>| Count {
            ok: devices.iter().filter(|d| in_sync(**d)).count(),
            total: devices.len(),
        };
        let switches = fabric.switches().map(|(s, _)| fabric.switch_device(s)).collect();
        let hosts = fabric.hosts().map(|(h, _)| fabric.host_device(h)).collect();
        let links = self.link_states();
        let published = self.published();
        FabricStatus {
            name: fabric.settings.name.clone(),
            revision: published.revision,
            switches: count(switches),
            hosts: count(hosts),
            links: Count {
                ok: links.iter().filter(|l| l.up && l.reason.is_none()).count(),
                total: links.len(),
            },
            vdcs: published.vdcs.len(),
            networks: published.count(Kind::Network),
            routers: published.count(Kind::Router),
            attachments: published.count(Kind::Attachment),
            vnis_in_quarantine: published.quarantined,
            store_fault: self.store_fault(),
            set_aside: published.set_aside.clone(),
            warnings: self.warnings(&fabric),
        }
    }

    async fn inventory(&self) -> Inventory {
        self.inventory_view().await
    }

    async fn switches(&self) -> Vec<SwitchStatus> {
        let fabric = self.fabric_now();
        let status = |(index, entry): (SwitchIndex, &SwitchEntry)| {
            let s = &entry.spec;
            Some(SwitchStatus {
                name: s.name.clone(),
                role: s.role,
                device_id: s.device_id,
                item: entry.state,
                loopback_ipv4: s.loopback_ipv4,
                loopback_ipv6: s.loopback_ipv6,
                status: self.registry.get(fabric.switch_device(index))?.status(),
            })
        };
        fabric.switches().filter_map(status).collect()
    }

    async fn make_host_token(&self, host: &Name, spec: EnrolmentTokenSpec) -> Result<HostToken, ApiError> {
        Controller::make_host_token(self, host, spec).await
    }

    async fn make_switch_token(&self, switch: &Name, spec: EnrolmentTokenSpec) -> Result<SwitchToken, ApiError> {
        Controller::make_switch_token(self, switch, spec).await
    }

    async fn install(&self, switch: &Name, spec: InstallSpec, origin: Origin) -> Result<Install, ApiError> {
        self.begin_install(switch, spec, origin).await
    }

    async fn reboot(&self, switch: &Name, spec: RebootSpec, origin: Origin) -> Result<Reboot, ApiError> {
        self.reboot_switch(switch, spec, origin).await
    }

    async fn replace_machine(&self, switch: &Name, spec: ReplaceSpec, origin: Origin) -> Result<Lifecycle, ApiError> {
        self.replace_switch(switch, spec, origin).await
    }

    async fn retire(&self, switch: &Name, spec: RetireSpec, origin: Origin) -> Result<Lifecycle, ApiError> {
        self.retire_switch(switch, spec, origin).await
    }

    async fn hosts(&self) -> Vec<HostStatus> {
        let fabric = self.fabric_now();
        let status = |(index, entry): (HostIndex, &HostEntry)| {
            let h = &entry.spec;
            Some(HostStatus {
                name: h.name.clone(),
                uplink: h.uplink.clone(),
                vtep_ipv4: h.vtep_ipv4,
                vtep_ipv6: h.vtep_ipv6,
                item: entry.state,
                status: self.registry.get(fabric.host_device(index))?.status(),
            })
        };
        fabric.hosts().filter_map(status).collect()
    }

    async fn provisioning(&self) -> Vec<Provisioning> {
        self.all_timelines()
    }

    async fn links(&self) -> Vec<LinkStatus> {
        self.link_states()
    }

    async fn drops(&self) -> Drops {
        self.all_drops().await
    }

    async fn health(&self) -> Result<Vec<String>, String> {
        if let Some(why) = self.store_fault() {
            return Err(why);
        }
        if self.queue.is_closed() {
            return Err("the writer of changes has ended; the controller must be restarted".into());
        }
        Ok(match self.published().set_aside.len() {
            0 => Vec::new(),
            n => vec![format!(
                "stored rows that are set aside: {n}; `fabricctl status` and the log name them"
            )],
        })
    }

    async fn metrics(&self) -> String {
        let fabric = self.fabric_now();
        let drops = self.all_drops().await;
        let all = self.registry.all().into_iter();
        let devices = all.filter_map(|(i, d)| Some((super::inventory::kind(fabric.node_of(i)?), d)));
        let published = self.published();
        let snapshot = Snapshot {
            revision: published.revision,
            objects: Kind::ALL
                .iter()
                .map(|kind| (kind.word(), published.count(*kind)))
                .collect(),
            vnis_in_quarantine: published.quarantined,
            store_ok: self.store_fault().is_none(),
            set_aside: published.set_aside.len(),
            devices: devices
                .map(|(kind, d)| (kind, d.name.to_string(), d.numbers()))
                .collect(),
            certificates: self.credentials.get().map(|credentials| credentials.expiry()),
            timings: self.timings.clone(),
            links: self.link_states(),
            drops,
            tables: self.table_uses(None).unwrap_or_default(),
            provisioning: self.all_timelines(),
        };
        drop(published);
        snapshot.text()
    }

    async fn backup(&self) -> Result<Backup, ApiError> {
        let unavailable = |detail: &str| ApiError::new(ErrorCode::Unavailable, detail);
        // Only one backup at a time, because each takes as much disk space as the store.
        let _only = self
            .backing_up
            .try_lock()
            .map_err(|_| unavailable("another backup is being made"))?;
        let made = self.store.backup().await.map_err(|error| {
            tracing::warn!(%error, "a backup cannot be made");
            unavailable("a backup cannot be made; the log says why")
        })?;
        let (revision, file) = made.ok_or_else(|| unavailable("the store is not in a file"))?;
        tracing::info!(revision, "backup made");
        Ok(Backup { revision, file })
    }

    async fn images(&self) -> Result<Vec<Image>, ApiError> {
        self.all_images().await
    }

    async fn put_image(&self, image: NewImage, content: Content) -> Result<Image, ApiError> {
        self.store_image(image, content).await
    }

    async fn delete_image(&self, name: Label, force: bool) -> Result<(), ApiError> {
        self.remove_image(name, force).await
    }

    async fn tables(&self, switch: Option<&Name>) -> Result<Vec<TableUse>, ApiError> {
        self.table_uses(switch)
    }

    async fn entities_of(&self, key: &Key) -> Result<Vec<ObjectEntity>, ApiError> {
        let fabric = self.fabric_now();
        let published = self.published();
        let object = published.object(key).ok_or_else(|| ApiError::not_found(key))?;
        let followed = object.stored.followed(key);
        let owners = followed.asked.iter().filter_map(|key| published.object(key)?.owner);
        let asked = owners.flat_map(|owner| published.engine.asked_by(owner));
        let mut found = Vec::new();
        for (_, index, entities) in asked.filter(|(source, ..)| (followed.counts)(source)) {
            let Some(device) = self.registry.get(index) else {
                continue;
            };
            let role = fabric.role_of(index);
            found.extend(entities.iter().map(|entity| {
                let (table, words, action) = self.render.describe(role, entity);
                let entity_key = entity.key();
                ObjectEntity {
                    device: device.name.clone(),
                    entity: DeviceEntity {
                        table,
                        key: words,
                        action,
                        applied: matches!(device.standing(&entity_key), Standing::Applied),
                        asked_by: published.asked_by(&fabric, &device, &entity_key),
                    },
                }
            }));
        }
        let place = |e: &ObjectEntity| (e.device.clone(), e.entity.table.clone(), e.entity.key.clone());
        found.sort_by_cached_key(place);
        // Several contributions may contain the same entity.
        found.dedup_by_key(|entity| place(entity));
        Ok(found)
    }

    async fn entities(&self, device: &Name) -> Result<Vec<DeviceEntity>, ApiError> {
        let missing = || ApiError::not_found(format_args!("device `{device}`"));
        let index = self.registry.find(device).ok_or_else(missing)?;
        let found = self.registry.get(index).ok_or_else(missing)?;
        let fabric = self.fabric_now();
        let role = fabric.role_of(index);
        let describe = |published: &Published, entity: &Entity, applied: bool| {
            let (table, key, action) = self.render.describe(role, entity);
            DeviceEntity {
                table,
                key,
                action,
                applied,
                asked_by: published.asked_by(&fabric, &found, &entity.key()),
            }
        };
        let mut entities: Vec<DeviceEntity> = Vec::new();
        for part in found.desired().chunks(ENTITIES_AT_ONCE) {
            let published = self.published();
            entities.extend(
                part.iter()
                    .map(|(entity, applied)| describe(&published, entity, *applied)),
            );
        }
        entities.sort_by(|a, b| (&a.table, &a.key).cmp(&(&b.table, &b.key)));
        Ok(entities)
    }
}

impl<S: Store> Controller<S> {
    /// Warnings about the controller and its devices.
    fn warnings(&self, fabric: &Fabric) -> Vec<Warning> {
        let of_controller = self.credentials.get().map(|c| c.expiry().warnings());
        let own = of_controller
            .into_iter()
            .flatten()
            .map(|reason| Warning { device: None, reason });
        let of_device = |(index, device): (DeviceIndex, Arc<Device>)| {
            // Nobody expects a device to answer after it was declared gone.
            let is_expected = fabric
                .node_of(index)
                .and_then(|n| fabric.state_of(n))
                .is_some_and(|(_, gone)| !gone);
            let status = device.status();
            let away = (status.state == DeviceState::Disconnected).then(|| match &status.last_error {
                Some(why) => format!("disconnected: {why}"),
                None => "has not connected yet".to_owned(),
            });
            let name = device.name.clone();
            let reasons = away.into_iter().chain(status.warnings).filter(move |_| is_expected);
            reasons.map(move |reason| Warning {
                device: Some(name.clone()),
                reason,
            })
        };
        let mismatches = fabric.links().filter_map(|(_, link)| {
            let reason = self.wire.mismatch(fabric, &link.spec)?;
            let device = Some(link.spec.a.switch.clone());
            Some(Warning { device, reason })
        });
        let of_devices = self.registry.all().into_iter().flat_map(of_device);
        own.chain(of_devices).chain(mismatches).collect()
    }

    /// The numbers for which objects of a revision still wait, and the devices that the revision concerns so far.
    fn concerned(&self, revision: u64) -> (Vec<DeviceReason>, Vec<DeviceIndex>) {
        let published = self.published();
        let concerned = published.concerned(revision).map(<[DeviceIndex]>::to_vec);
        let all = || self.registry.all().into_iter().map(|(i, _)| i).collect();
        let waits = published.device_reasons(published.waits_of(revision));
        // A device that was declared gone confirms nothing any more; its neighbours shut it out.
        let fabric = self.fabric_now();
        let is_gone = |device: &DeviceIndex| {
            let state = fabric.node_of(*device).and_then(|node| fabric.state_of(node));
            state.is_some_and(|(_, gone)| gone)
        };
        let mut concerned: Vec<DeviceIndex> = concerned.unwrap_or_else(all);
        concerned.retain(|device| !is_gone(device));
        (waits, concerned)
    }

    /// The losses of all devices. They are asked at the same time, so that several devices without an answer cost only
    /// one timeout.
    async fn all_drops(&self) -> Drops {
        let fabric = self.fabric_now();
        let fabric = fabric.as_ref();
        let reason = |device: &Name, reason| DeviceReason {
            device: device.clone(),
            reason,
        };
        let switches = fabric.switches().map(|(index, entry)| async move {
            let (index, spec) = (fabric.switch_device(index), &entry.spec);
            // First one request, then the other, because the actor handles one at a time.
            let refused = self.drops_of(index, spec).await;
            let lost = match &refused {
                Ok(_) => self.losses_of(index, &spec.name).await,
                Err(_) => Ok(Vec::new()),
            };
            (&spec.name, [refused, lost])
        });
        let hosts = fabric.hosts().map(|(index, entry)| async move {
            let name = &entry.spec.name;
            (
                name,
                [self.losses_of(fabric.host_device(index), name).await, Ok(Vec::new())],
            )
        });
        let asked = futures::future::join(futures::future::join_all(switches), futures::future::join_all(hosts));
        let (switches, hosts) = asked.await;
        let mut drops = Drops::default();
        for (name, parts) in switches.into_iter().chain(hosts) {
            for part in parts {
                match part {
                    Ok(counts) => drops.counts.extend(counts),
                    Err(why) => drops.missing.push(reason(name, why)),
                }
            }
        }
        drops
    }

    /// The losses of one device outside its pipeline, or why it cannot return them.
    async fn losses_of(&self, index: DeviceIndex, name: &Name) -> Result<Vec<DropCount>, String> {
        let losses = self.ask(index, Request::Losses).await??;
        let count = |loss: Loss| DropCount {
            device: name.clone(),
            place: Some(loss.place).filter(|place| !place.is_empty()),
            reason: loss.reason,
            host: None,
            packets: loss.frames,
            bytes: None,
        };
        Ok(losses.into_iter().map(count).collect())
    }

    /// Asks the actor of a device.
    async fn ask<T>(
        &self,
        device: DeviceIndex,
        request: impl FnOnce(oneshot::Sender<Result<T, DriverError>>) -> Request,
    ) -> Result<T, String> {
        let actor = self.fleet.get().and_then(|f| f.actor(device)).ok_or("is not started")?;
        let (answer, values) = oneshot::channel();
        if !actor.ask(request(answer)) {
            return Err("is busy".into());
        }
        match tokio::time::timeout(COUNTERS_TIMEOUT, values).await {
            Ok(Ok(values)) => values.map_err(|e| e.to_string()),
            Ok(Err(_)) => Err("has lost its session".into()),
            Err(_) => Err("does not answer".into()),
        }
    }

    /// The packets that the pipeline of one switch refused, by reason and host, or why it cannot return them.
    async fn drops_of(&self, index: DeviceIndex, switch: &Switch) -> Result<Vec<DropCount>, String> {
        let render = &self.render;
        let queries = render.drop_counters(switch.role);
        let values: Vec<CounterValue> = self.ask(index, |answer| Request::Counters(queries, answer)).await?;
        let mut drops = Vec::new();
        for value in values.iter().filter(|v| v.packets > 0) {
            let Some((reason, vtep_id)) = render.drop_reason(switch.role, value) else {
                continue;
            };
            let host = match vtep_id {
                Some(id) => self.host_of_vtep(id),
                None => None,
            };
            drops.push(DropCount {
                device: switch.name.clone(),
                place: None,
                reason,
                host,
                packets: value.packets,
                bytes: Some(value.bytes),
            });
        }
        Ok(drops)
    }

    fn host_of_vtep(&self, vtep_id: u16) -> Option<Name> {
        let fabric = self.fabric_now();
        match fabric.node_of_vtep(vtep_id)? {
            Node::Host(h) => fabric.host(h).map(|h| h.spec.name.clone()),
            Node::Switch(_) => None,
        }
    }
}

impl Published {
    /// The selected objects of one page, and where the next begins.
    fn cut<'a>(
        &self,
        all: impl Iterator<Item = (&'a Name, &'a Arc<Object>)>,
        selector: &Selector,
        limit: usize,
    ) -> Page<View> {
        let mut items = Vec::new();
        let mut last: Option<&Name> = None;
        let is_selected = |object: &Object| {
            let stored = &object.stored;
            selector.is_empty() || selector.selects(&stored.spec(), stored.owner.as_ref())
        };
        for (looked_at, (name, object)) in all.enumerate() {
            if items.len() == limit || looked_at == LOOKED_AT {
                return Page {
                    items,
                    next: last.map(ToString::to_string),
                };
            }
            if is_selected(object) {
                items.extend(self.view(object));
            }
            last = Some(name);
        }
        Page { items, next: None }
    }
}

/// The objects after a name, in order.
fn page<'a, T>(all: &'a BTreeMap<Name, T>, after: Option<&Name>) -> impl Iterator<Item = (&'a Name, &'a T)> {
    let from = after.map_or(Bound::Unbounded, |a| Bound::Excluded(a.clone()));
    all.range((from, Bound::Unbounded))
}
