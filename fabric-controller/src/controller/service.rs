//! What the REST router asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::Name;
use vfabric_api::intent::{Intent, VdcSpec};
use vfabric_api::service::{ApplyOptions, Change, Committed, FabricService, Key, Kind, Page, Spec, Transaction};
use vfabric_api::status::{
    Applied, Attachment, Count, DeviceEntity, DeviceReason, DeviceState, DropCount, FabricStatus, HostStatus,
    LinkStatus, Network, Progress, Router, SwitchStatus, Vdc, View,
};
use vfabric_api::topology::Switch;

use super::{Controller, HOST, SWITCH, State};
use crate::device::actor::Request;
use crate::device::driver::{CounterValue, DeviceIndex};
use crate::device::entity::{Entity, EntityKey};
use crate::device::{Device, Lag, Standing};
use crate::engine::{Owner, Source};
use crate::metrics::Snapshot;
use crate::model::change::page;
use crate::model::waiting::Waiter;
use crate::model::{AttachmentId, NetworkId, RouterId};
use crate::store::Store;

/// Longest time a switch may take to answer for its counters.
const COUNTERS_TIMEOUT: Duration = Duration::from_secs(3);
/// Reasons that one object's status shows.
const SHOWN_REASONS: usize = 16;
/// Contributions that are looked at for the objects that asked for one entity.
const SHOWN_ASKERS: usize = 16;

/// A contribution with its device and what it asks for.
type Asked<'a> = (Source, DeviceIndex, &'a [Arc<Entity>]);

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
            let devices = concerned.iter().filter_map(|i| self.devices.get(i.0 as usize));
            let lags: Vec<_> = devices.filter_map(|d| Some((d, d.lag(revision)?))).collect();
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
        let count = |devices: &[Arc<crate::device::Device>]| Count {
            ok: devices.iter().filter(|d| d.state() == DeviceState::InSync).count(),
            total: devices.len(),
        };
        let (switches, hosts) = self
            .devices
            .split_at(self.topology.switches.len().min(self.devices.len()));
        let links = self.link_states();
        let state = self.state.lock().await;
        let (networks, routers, attachments) = state.model.counts();
        FabricStatus {
            name: self.topology.fabric.name.clone(),
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

    async fn switches(&self) -> Vec<SwitchStatus> {
        let switches = self.topology.switches.iter().zip(&self.devices);
        switches
            .map(|(s, device)| SwitchStatus {
                name: s.name.clone(),
                role: s.role,
                device_id: s.device_id,
                loopback_ipv4: s.loopback_ipv4,
                loopback_ipv6: s.loopback_ipv6,
                status: device.status(),
            })
            .collect()
    }

    async fn hosts(&self) -> Vec<HostStatus> {
        let devices = self.devices.iter().skip(self.topology.switches.len());
        let hosts = self.topology.hosts.iter().zip(devices);
        hosts
            .map(|(h, device)| HostStatus {
                name: h.name.clone(),
                uplink: h.uplink.clone(),
                vtep_ipv4: h.vtep_ipv4,
                vtep_ipv6: h.vtep_ipv6,
                status: device.status(),
            })
            .collect()
    }

    async fn links(&self) -> Vec<LinkStatus> {
        self.link_states()
    }

    async fn drops(&self) -> Result<Vec<DropCount>, ApiError> {
        let mut drops = Vec::new();
        for (i, switch) in (0u32..).zip(&self.topology.switches) {
            let of_switch = self.drops_of(DeviceIndex(i), switch).await;
            let wrong = |why| ApiError::new(ErrorCode::Unavailable, format!("{}: {why}", switch.name));
            drops.extend(of_switch.map_err(wrong)?);
        }
        Ok(drops)
    }

    async fn metrics(&self) -> String {
        let switches = (0u32..).zip(&self.topology.switches);
        let drops = switches.map(|(i, switch)| async move {
            let mut by_reason: BTreeMap<String, u64> = BTreeMap::new();
            let read = self.drops_of(DeviceIndex(i), switch).await.map(|drops| {
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
        let kinds = (0..).map(|i| if i < self.topology.switches.len() { SWITCH } else { HOST });
        let devices = kinds.zip(&self.devices);
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
        let index = self.by_name.get(device).ok_or_else(missing)?;
        let found = self.devices.get(index.0 as usize).ok_or_else(missing)?;
        let role = self.topology.switches.get(index.0 as usize).map(|s| s.role);
        let state = self.state.lock().await;
        let describe = |(entity, applied): &(Arc<Entity>, bool)| {
            let (table, key, action) = state.engine.renderer().describe(role, entity);
            DeviceEntity {
                asked_by: state.asked_by(found, &entity.key()),
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
            None => (0u32..).zip(&self.devices).map(|(i, _)| DeviceIndex(i)).collect(),
        };
        (state.device_reasons(waits), concerned)
    }

    /// What one switch refused, by reason and host; or why it cannot say.
    async fn drops_of(&self, index: DeviceIndex, switch: &Switch) -> Result<Vec<DropCount>, String> {
        let render = Arc::clone(self.state.lock().await.engine.renderer());
        let values = self.counters(index, render.drop_counters(switch.role)).await?;
        let mut drops = Vec::new();
        for value in values.iter().filter(|v| v.packets > 0) {
            let Some((reason, vtep_id)) = render.drop_reason(switch.role, value) else {
                continue;
            };
            let host = match vtep_id {
                Some(id) => self.host_of_vtep(id).await,
                None => None,
            };
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
        let actor = self
            .actors
            .get()
            .and_then(|a| a.get(device.0 as usize))
            .ok_or("is not started")?;
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

    async fn host_of_vtep(&self, vtep_id: u16) -> Option<Name> {
        let state = self.state.lock().await;
        let at = state
            .model
            .fabric
            .hosts
            .iter()
            .position(|(h, _)| h.vtep.vtep_id == vtep_id)?;
        self.topology.hosts.get(at).map(|h| h.name.clone())
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
        let applied = self.applied(self.engine.asked_by(Owner::Network(id)), waits);
        Some(View::Network(Network {
            spec: network.spec.clone(),
            vni: network.vni,
            router,
            applied,
        }))
    }

    fn router_view(&self, id: RouterId) -> Option<View> {
        let router = self.model.router(id)?;
        let routed = |(source, _, _): &Asked<'_>| matches!(source, Source::RoutedOnLeaf(..));
        let of_networks = router.networks.iter().map(|n| self.engine.asked_by(Owner::Network(*n)));
        let asked = of_networks.flatten().filter(routed);
        Some(View::Router(Router {
            spec: router.spec.clone(),
            vrf: router.vrf,
            applied: self.applied(asked, Vec::new()),
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
            applied: self.applied(self.engine.asked_by(Owner::Attachment(id)), waits),
        }))
    }

    /// Reasons to wait with the names of devices; those without a device are not shown.
    fn device_reasons(&self, waits: Vec<(Option<DeviceIndex>, String)>) -> Vec<DeviceReason> {
        let reason = |(device, reason): (Option<DeviceIndex>, String)| {
            let device = self.engine.device(device?)?.name.clone();
            Some(DeviceReason { device, reason })
        };
        waits.into_iter().filter_map(reason).collect()
    }

    /// The objects that asked for an entity of a device, in words.
    fn asked_by(&self, device: &Device, key: &EntityKey) -> Vec<String> {
        let names = |owner| match owner {
            Owner::Switch(s) => self.model.fabric.switch_name(s).map(|n| format!("switch `{n}`")),
            Owner::Host(h) => self.model.fabric.host_name(h).map(|n| format!("host `{n}`")),
            Owner::Network(n) => {
                let network = self.model.network(n)?;
                Some(Key::new(network.vdc.clone(), Kind::Network, network.spec.name.clone()).to_string())
            }
            Owner::Attachment(a) => {
                let attachment = self.model.attachment(a)?;
                Some(Key::new(attachment.vdc.clone(), Kind::Attachment, attachment.spec.name.clone()).to_string())
            }
        };
        let owners = device.asked_by(key, SHOWN_ASKERS).into_iter().map(Source::owner);
        let owners: BTreeSet<Owner> = owners.collect();
        owners.into_iter().filter_map(names).collect()
    }

    /// How far the devices are with what these contributions ask for; `waits` is what keeps the object from them.
    fn applied<'a>(
        &self,
        asked: impl Iterator<Item = Asked<'a>>,
        waits: Vec<(Option<DeviceIndex>, String)>,
    ) -> Applied {
        let mut by_device: BTreeMap<DeviceIndex, Vec<EntityKey>> = BTreeMap::new();
        for (_, device, entities) in asked {
            by_device
                .entry(device)
                .or_default()
                .extend(entities.iter().map(|e| e.key()));
        }
        let held_back = !waits.is_empty();
        let mut waiting = self.device_reasons(waits);
        let (mut devices, mut behind, mut refused) = (0, 0, false);
        for (index, keys) in by_device {
            let Some(device) = self.engine.device(index) else {
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
