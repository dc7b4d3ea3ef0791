//! What the REST router asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::sync::oneshot;
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::Name;
use vfabric_api::intent::{Intent, VdcSpec};
use vfabric_api::inventory::Inventory;
use vfabric_api::service::{ApplyOptions, Change, Committed, FabricService, Key, Kind, Page, Spec, Transaction};
use vfabric_api::status::{
    Applied, Attachment, Count, DeviceEntity, DeviceReason, DeviceState, DropCount, FabricStatus, HostStatus,
    LinkStatus, Network, Progress, Router, SwitchStatus, Vdc, View,
};
use vfabric_api::topology::Switch;

use super::{Controller, State};
use crate::device::actor::Request;
use crate::device::driver::{CounterValue, DeviceIndex};
use crate::device::{Lag, Standing};
use crate::engine::Source;
use crate::metrics::Snapshot;
use crate::model::change::page;
use crate::model::fabric::Node;
use crate::model::fabric::{HostEntry, SwitchEntry};
use crate::model::waiting::Waiter;
use crate::model::{AttachmentId, HostIndex, NetworkId, RouterId, SwitchIndex};
use crate::store::Store;

/// Longest time a switch may take to answer for its counters.
const COUNTERS_TIMEOUT: Duration = Duration::from_secs(3);
/// Reasons that one object's status shows.
const SHOWN_REASONS: usize = 16;

impl<S: Store> FabricService for Controller<S> {
    async fn commit(&self, transaction: Transaction) -> Result<Committed, ApiError> {
        self.to_end(|me| async move { me.commit_locked(me.state.lock().await, &transaction).await })
            .await
    }

    async fn apply(&self, intent: Intent, options: ApplyOptions) -> Result<Committed, ApiError> {
        self.to_end(move |me| async move {
            let state = me.state.lock().await;
            let transaction = transaction_of(&state, intent, options);
            me.commit_locked(state, &transaction).await
        })
        .await
    }

    async fn get(&self, key: &Key) -> Result<View, ApiError> {
        let state = self.state.lock().await;
        let missing = || ApiError::not_found(key);
        let vdc = state.model.vdc(&key.vdc).ok_or_else(missing)?;
        let view = match key.kind {
            Kind::Vdc => Some(vdc_view(vdc)),
            Kind::Network => vdc.networks.get(&key.name).and_then(|n| state.network_view(*n)),
            Kind::Router => vdc.routers.get(&key.name).and_then(|r| state.router_view(*r)),
            Kind::Attachment => vdc.attachments.get(&key.name).and_then(|a| state.attachment_view(*a)),
        };
        view.ok_or_else(missing)
    }

    async fn list(
        &self,
        kind: Kind,
        vdc: Option<&Name>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Page<View>, ApiError> {
        let wrong =
            |e: vfabric_api::ident::IdentError| ApiError::field(ErrorCode::Malformed, "after", e.value, e.expected);
        let after: Option<Name> = after.map(str::parse).transpose().map_err(wrong)?;
        let after = after.as_ref();
        let state = self.state.lock().await;
        if let (Kind::Vdc, _) | (_, None) = (kind, vdc) {
            return Ok(cut(page(state.model.vdcs(), after), limit, |v| Some(vdc_view(v))));
        }
        let found = vdc.and_then(|v| state.model.vdc(v));
        let vdc = found.ok_or_else(|| ApiError::not_found(vdc.map_or_else(String::new, |v| format!("vdc `{v}`"))))?;
        Ok(match kind {
            Kind::Network => cut(page(&vdc.networks, after), limit, |n| state.network_view(*n)),
            Kind::Router => cut(page(&vdc.routers, after), limit, |r| state.router_view(*r)),
            Kind::Attachment | Kind::Vdc => cut(page(&vdc.attachments, after), limit, |a| state.attachment_view(*a)),
        })
    }

    async fn wait_applied(&self, revision: u64, timeout: Duration) -> Applied {
        let (mut waits, mut concerned) = self.concerned(revision).await;
        let until = tokio::time::Instant::now() + timeout;
        let mut over = false;
        loop {
            // Registered before the look, so that no progress in between is missed.
            let progress = self.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            // What waits for a number is on no device yet, so the devices cannot say that it is missing.
            if !waits.is_empty() {
                (waits, concerned) = self.concerned(revision).await;
            }
            let devices = concerned.iter().filter_map(|i| self.registry.get(*i));
            let lags: Vec<_> = devices.filter_map(|d| d.lag(revision).map(|lag| (d, lag))).collect();
            let failed = |lag: &Lag, also_retried| match lag {
                Lag::Failed(f) => also_retried || f.is_final(),
                Lag::Pending(_) => false,
            };
            // Waiting longer does not help after a refusal for good.
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
        let state = self.state.lock().await;
        let (networks, routers, attachments) = state.model.counts();
        FabricStatus {
            name: fabric.settings.name.clone(),
            revision: state.revision,
            switches: count(switches),
            hosts: count(hosts),
            links: Count {
                ok: links.iter().filter(|l| l.up).count(),
                total: links.len(),
            },
            vdcs: state.model.vdcs().len(),
            networks,
            routers,
            attachments,
            vnis_in_quarantine: state.model.quarantined(),
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

    async fn links(&self) -> Vec<LinkStatus> {
        self.link_states()
    }

    async fn drops(&self) -> Result<Vec<DropCount>, ApiError> {
        let mut drops = Vec::new();
        let fabric = self.fabric_now();
        for (index, entry) in fabric.switches() {
            let switch = &entry.spec;
            let of_switch = self.drops_of(fabric.switch_device(index), switch).await;
            let wrong = |why| ApiError::new(ErrorCode::Unavailable, format!("{}: {why}", switch.name));
            drops.extend(of_switch.map_err(wrong)?);
        }
        Ok(drops)
    }

    async fn metrics(&self) -> String {
        let fabric = self.fabric_now();
        let switches = fabric.switches().map(|(i, s)| (fabric.switch_device(i), &s.spec));
        let drops = switches.map(|(index, switch)| async move {
            let mut by_reason: BTreeMap<String, u64> = BTreeMap::new();
            let read = self.drops_of(index, switch).await.map(|drops| {
                drops
                    .into_iter()
                    .for_each(|d| *by_reason.entry(d.reason).or_default() += d.packets);
            });
            (
                switch.name.to_string(),
                read.ok().map(|()| by_reason.into_iter().collect()),
            )
        });
        // At once, so that switches that are away cost one timeout, not one each.
        let drops = futures::future::join_all(drops).await;
        let all = self.registry.all().into_iter();
        let devices = all.filter_map(|(i, d)| Some((super::inventory::kind(fabric.node_of(i)?), d)));
        let state = self.state.lock().await;
        let (networks, routers, attachments) = state.model.counts();
        let snapshot = Snapshot {
            revision: state.revision,
            objects: [
                ("vdc", state.model.vdcs().len()),
                ("network", networks),
                ("router", routers),
                ("attachment", attachments),
            ],
            vnis_in_quarantine: state.model.quarantined(),
            devices: devices
                .map(|(kind, d)| (kind, d.name.to_string(), d.numbers()))
                .collect(),
            certificates: self.credentials.get().map(|credentials| credentials.expiry()),
            timings: self.timings.clone(),
            links: self.link_states(),
            drops,
        };
        drop(state);
        snapshot.text()
    }

    async fn entities(&self, device: &Name) -> Result<Vec<DeviceEntity>, ApiError> {
        let missing = || ApiError::not_found(format_args!("device `{device}`"));
        let index = self.registry.find(device).ok_or_else(missing)?;
        let found = self.registry.get(index).ok_or_else(missing)?;
        let role = self.fabric_now().role_of(index);
        let render = std::sync::Arc::clone(self.state.lock().await.engine.renderer());
        let describe = |(entity, applied): &(std::sync::Arc<crate::device::entity::Entity>, bool)| {
            let (table, key, action) = render.describe(role, entity);
            DeviceEntity {
                table,
                key,
                action,
                applied: *applied,
            }
        };
        let mut entities: Vec<DeviceEntity> = found.desired().iter().map(describe).collect();
        entities.sort_by(|a, b| (&a.table, &a.key).cmp(&(&b.table, &b.key)));
        Ok(entities)
    }
}

impl<S: Store> Controller<S> {
    /// What objects of a revision wait for, and the devices that the revision concerns so far.
    async fn concerned(&self, revision: u64) -> (Vec<DeviceReason>, Vec<DeviceIndex>) {
        let state = self.state.lock().await;
        let waits = state.model.waits_of(revision);
        let at = state.concerned.binary_search_by_key(&revision, |(r, _)| *r);
        let concerned = match at.ok().and_then(|at| state.concerned.get(at)) {
            Some((_, devices)) => devices.clone(),
            None => self.registry.all().into_iter().map(|(i, _)| i).collect(),
        };
        (state.device_reasons(waits), concerned)
    }

    /// What one switch refused, by reason and host; or why it cannot say.
    async fn drops_of(&self, index: DeviceIndex, switch: &Switch) -> Result<Vec<DropCount>, String> {
        let render = std::sync::Arc::clone(self.state.lock().await.engine.renderer());
        let values = self.counters(index, render.drop_counters(switch.role)).await?;
        let mut drops = Vec::new();
        for value in values.iter().filter(|v| v.packets > 0) {
            let Some((reason, vtep_id)) = render.drop_reason(switch.role, value) else {
                continue;
            };
            let host = vtep_id.and_then(|id| self.host_of_vtep(id));
            drops.push(DropCount {
                switch: switch.name.clone(),
                reason,
                host,
                packets: value.packets,
                bytes: value.bytes,
            });
        }
        Ok(drops)
    }

    async fn counters(
        &self,
        device: DeviceIndex,
        queries: Vec<crate::device::driver::CounterQuery>,
    ) -> Result<Vec<CounterValue>, String> {
        let actor = self.fleet.get().and_then(|f| f.actor(device)).ok_or("is not started")?;
        let (answer, values) = oneshot::channel();
        if !actor.ask(Request::Counters(queries, answer)) {
            return Err("is busy".into());
        }
        match tokio::time::timeout(COUNTERS_TIMEOUT, values).await {
            Ok(Ok(values)) => values.map_err(|e| e.to_string()),
            Ok(Err(_)) => Err("has lost its session".into()),
            Err(_) => Err("does not answer".into()),
        }
    }

    fn host_of_vtep(&self, vtep_id: u16) -> Option<Name> {
        let fabric = self.fabric_now();
        match fabric.node_of_vtep(vtep_id)? {
            Node::Host(h) => fabric.host(h).map(|h| h.spec.name.clone()),
            Node::Switch(_) => None,
        }
    }
}

/// An intent file as changes, in the order in which objects need each other.
fn transaction_of(state: &State, intent: Intent, options: ApplyOptions) -> Transaction {
    let mut changes = Vec::new();
    let mut deletions = Vec::new();
    for (i, vdc) in intent.vdcs.into_iter().enumerate() {
        let name = vdc.name.clone();
        let put = |path: String, spec: Spec| (path, Change::Put(name.clone(), spec));
        let spec = VdcSpec {
            name: vdc.name.clone(),
            description: vdc.description.clone(),
        };
        if options.prune {
            deletions.extend(
                pruned(state, &vdc)
                    .into_iter()
                    .map(|k| (format!("vdcs[{i}]"), Change::Delete(k))),
            );
        }
        changes.push(put(format!("vdcs[{i}]"), Spec::Vdc(spec)));
        let networks = vdc.networks.into_iter().enumerate();
        changes.extend(networks.map(|(j, s)| put(format!("vdcs[{i}].networks[{j}]"), Spec::Network(s))));
        let routers = vdc.routers.into_iter().enumerate();
        changes.extend(routers.map(|(j, s)| put(format!("vdcs[{i}].routers[{j}]"), Spec::Router(s))));
        let attachments = vdc.attachments.into_iter().enumerate();
        changes.extend(attachments.map(|(j, s)| put(format!("vdcs[{i}].attachments[{j}]"), Spec::Attachment(s))));
    }
    deletions.extend(changes);
    Transaction {
        changes: deletions,
        dry_run: options.dry_run,
    }
}

/// What a vDC holds and the file does not name: users before what they use.
fn pruned(state: &State, vdc: &vfabric_api::intent::VdcIntent) -> Vec<Key> {
    let Some(held) = state.model.vdc(&vdc.name) else {
        return Vec::new();
    };
    let key = |kind, name: &Name| Key::new(vdc.name.clone(), kind, name.clone());
    let named: [BTreeSet<&Name>; 3] = [
        vdc.attachments.iter().map(|a| &a.name).collect(),
        vdc.routers.iter().map(|r| &r.name).collect(),
        vdc.networks.iter().map(|n| &n.name).collect(),
    ];
    let [attachments, routers, networks] = &named;
    let mut gone = Vec::new();
    gone.extend(
        held.attachments
            .keys()
            .filter(|n| !attachments.contains(n))
            .map(|n| key(Kind::Attachment, n)),
    );
    gone.extend(
        held.routers
            .keys()
            .filter(|n| !routers.contains(n))
            .map(|n| key(Kind::Router, n)),
    );
    gone.extend(
        held.networks
            .keys()
            .filter(|n| !networks.contains(n))
            .map(|n| key(Kind::Network, n)),
    );
    gone
}

fn cut<'a, T: 'a>(
    all: impl Iterator<Item = (&'a Name, &'a T)>,
    limit: usize,
    view: impl Fn(&T) -> Option<View>,
) -> Page<View> {
    let mut items = Vec::new();
    let mut last: Option<&Name> = None;
    for (name, object) in all {
        if items.len() == limit {
            return Page {
                items,
                next: last.map(ToString::to_string),
            };
        }
        items.extend(view(object));
        last = Some(name);
    }
    Page { items, next: None }
}

fn vdc_view(vdc: &crate::model::object::Vdc) -> View {
    View::Vdc(Vdc {
        spec: vdc.spec.clone(),
        networks: vdc.networks.len(),
        routers: vdc.routers.len(),
        attachments: vdc.attachments.len(),
    })
}

impl State {
    fn network_view(&self, id: NetworkId) -> Option<View> {
        let network = self.model.network(id)?;
        let router = network
            .router
            .and_then(|r| self.model.router(r))
            .map(|r| r.spec.name.clone());
        let waits = self.model.reasons(Waiter::Network(id));
        let applied = self.applied(&self.model.sources_of_network(id), waits);
        Some(View::Network(Network {
            spec: network.spec.clone(),
            vni: network.vni,
            router,
            applied,
        }))
    }

    fn router_view(&self, id: RouterId) -> Option<View> {
        let router = self.model.router(id)?;
        let routed = |n: &NetworkId| {
            router
                .leaves
                .keys()
                .map(|l| Source::RoutedOnLeaf(*n, *l))
                .collect::<Vec<_>>()
        };
        let sources: Vec<Source> = router.networks.iter().flat_map(routed).collect();
        Some(View::Router(Router {
            spec: router.spec.clone(),
            vrf: router.vrf,
            applied: self.applied(&sources, Vec::new()),
        }))
    }

    fn attachment_view(&self, id: AttachmentId) -> Option<View> {
        let attachment = self.model.attachment(id)?;
        let mut waits = self.model.reasons(Waiter::Attachment(id));
        waits.extend(self.model.reasons(Waiter::Network(attachment.network)));
        Some(View::Attachment(Attachment {
            spec: attachment.spec.clone(),
            mac: attachment.mac,
            ips: attachment.ips.clone(),
            applied: self.applied(&self.model.sources_of_attachment(id), waits),
        }))
    }

    /// Reasons to wait with the names of devices; those without a device are not shown.
    fn device_reasons(&self, waits: Vec<(Option<DeviceIndex>, String)>) -> Vec<DeviceReason> {
        let reason = |(device, reason): (Option<DeviceIndex>, String)| {
            let device = self.engine.devices().get(device?)?.name.clone();
            Some(DeviceReason { device, reason })
        };
        waits.into_iter().filter_map(reason).collect()
    }

    /// How far the devices are with what these contributions ask for; `waits` is what keeps the object from them.
    fn applied(&self, sources: &[Source], waits: Vec<(Option<DeviceIndex>, String)>) -> Applied {
        let by_device = self.engine.keys(&self.model, sources);
        let held_back = !waits.is_empty();
        let mut waiting = self.device_reasons(waits);
        let (mut devices, mut behind, mut refused) = (0, 0, false);
        for (index, keys) in by_device {
            let Some(device) = self.engine.devices().get(index) else {
                continue;
            };
            devices += 1;
            let standings = keys.iter().map(|k| device.standing(k));
            let reasons = standings.filter_map(|standing| match standing {
                Standing::Applied => None,
                Standing::Pending => Some((false, "not confirmed yet".to_owned())),
                Standing::Failed(failure) => Some((true, failure.to_string())),
            });
            // A refusal says more than that something is under way.
            if let Some((failed, reason)) = reasons.max_by_key(|(failed, _)| *failed) {
                behind += 1;
                refused |= failed;
                waiting.push(DeviceReason {
                    device: device.name.clone(),
                    reason,
                });
            }
        }
        waiting.sort_by(|a, b| a.device.cmp(&b.device));
        waiting.truncate(SHOWN_REASONS);
        let progress = match (behind, refused) {
            (0, _) if !held_back => Progress::Applied,
            (_, true) => Progress::Failed,
            (_, false) => Progress::Pending,
        };
        Applied {
            revision: self.revision,
            progress,
            devices,
            applied: devices - behind,
            waiting,
        }
    }
}
