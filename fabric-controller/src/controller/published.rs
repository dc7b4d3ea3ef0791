//! What readers see: the intent that is durable, and what devices are to hold for it.
//!
//! **Model.** A copy of every object beside the model, and the engine with the contributions in force. The writer's
//! model runs ahead of the store while a group of transactions is under way; this here does not: a transaction is
//! published whole, after it is durable. Readers take a lock that is only ever held for work in memory, so they wait
//! neither for the disk nor for checks or rendering.
//!
//! **Invariants.** What is here is in the store. An object that waits for a number is published with its reasons in one
//! step, and stops waiting in the step that brings it to devices: nobody can take "not rendered" for "applied".
//!
//! **Cost.** Publishing costs the objects and contributions that a transaction changed. Memory: each object's
//! specification is held twice, here and in the model.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;

use rustc_hash::FxHashMap;
use vfabric_api::ident::{Mac, Name, Vni};
use vfabric_api::intent::{AttachmentSpec, NetworkSpec, RouterSpec, VdcSpec};
use vfabric_api::service::{Key, Kind};
use vfabric_api::status::SetAside;

use crate::device::driver::DeviceIndex;
use crate::engine::{Engine, Rendered};
use crate::ident::Owner;
use crate::model::object::Stored;
use crate::model::rest::Waits;
use crate::model::waiting::Waiter;
use crate::model::{AttachmentId, NetworkId};

/// Transactions of which is known which devices they concern; older ones concern all.
const REMEMBERED: usize = 4096;

/// A vDC and the names in it.
pub(super) struct Vdc {
    pub(super) spec: VdcSpec,
    pub(super) networks: BTreeMap<Name, NetworkId>,
    pub(super) routers: BTreeMap<Name, Router>,
    pub(super) attachments: BTreeMap<Name, AttachmentId>,
}

/// A network.
pub(super) struct Network {
    pub(super) vdc: Name,
    pub(super) spec: NetworkSpec,
    pub(super) vni: Vni,
    /// The router that joins it.
    pub(super) router: Option<Name>,
}

/// A router.
pub(super) struct Router {
    pub(super) spec: RouterSpec,
    pub(super) vrf: Vni,
}

/// An attachment.
pub(super) struct Attachment {
    pub(super) vdc: Name,
    pub(super) spec: AttachmentSpec,
    pub(super) mac: Mac,
    pub(super) ips: Vec<IpAddr>,
}

/// An object as it is from now on (`None`: gone), and what its contributions name it by.
pub(super) struct Changed {
    pub(super) key: Key,
    pub(super) object: Option<Stored>,
    pub(super) owner: Option<Owner>,
}

/// What one transaction is to publish once it is durable.
#[derive(Default)]
pub(super) struct Publication {
    pub(super) objects: Vec<Changed>,
    pub(super) rendered: Rendered,
    pub(super) waits: Vec<(Waiter, Option<Waits>)>,
}

/// Everything that readers see.
pub(super) struct Published {
    pub(super) revision: u64,
    pub(super) engine: Engine,
    pub(super) vdcs: BTreeMap<Name, Vdc>,
    pub(super) networks: FxHashMap<NetworkId, Network>,
    pub(super) attachments: FxHashMap<AttachmentId, Attachment>,
    pub(super) routers: usize,
    /// VNIs that nobody has and that are not free.
    pub(super) quarantined: usize,
    /// Rows of the store that could not be loaded.
    pub(super) set_aside: Vec<SetAside>,
    waits: HashMap<Waiter, Waits>,
    waiting: BTreeMap<u64, BTreeSet<Waiter>>,
    /// Devices that each of the last transactions concerned.
    concerned: VecDeque<(u64, Vec<DeviceIndex>)>,
}

impl Published {
    pub(super) fn new(engine: Engine, revision: u64) -> Self {
        Self {
            revision,
            engine,
            vdcs: BTreeMap::new(),
            networks: FxHashMap::default(),
            attachments: FxHashMap::default(),
            routers: 0,
            quarantined: 0,
            set_aside: Vec::new(),
            waits: HashMap::new(),
            waiting: BTreeMap::new(),
            concerned: VecDeque::new(),
        }
    }

    /// Publishes a transaction that is durable, as this revision.
    pub(super) fn publish(&mut self, publication: Publication, revision: u64) {
        publication.objects.into_iter().for_each(|change| self.put(change));
        let concerned = self.engine.take(publication.rendered, revision);
        self.publish_waits(publication.waits);
        self.concerned.push_back((revision, concerned));
        if self.concerned.len() > REMEMBERED {
            self.concerned.pop_front();
        }
        self.revision = revision;
    }

    /// An object as it is from now on.
    pub(super) fn put(&mut self, change: Changed) {
        let Changed { key, object, owner } = change;
        // A router joins networks that are there already, and leaves them before they go.
        let router = match key.kind {
            Kind::Network => self.network(&key).and_then(|n| n.router.clone()),
            _ => None,
        };
        self.remove(&key, object.is_none());
        match (object, owner) {
            (Some(Stored::Vdc(spec)), _) => match self.vdcs.get_mut(&key.vdc) {
                Some(vdc) => vdc.spec = spec,
                None => {
                    let (networks, routers, attachments) = Default::default();
                    let vdc = Vdc {
                        spec,
                        networks,
                        routers,
                        attachments,
                    };
                    self.vdcs.insert(key.vdc, vdc);
                }
            },
            (Some(Stored::Network { spec, vni, .. }), Some(Owner::Network(id))) => {
                let Some(vdc) = self.vdcs.get_mut(&key.vdc) else { return };
                vdc.networks.insert(key.name, id);
                let vdc = key.vdc;
                self.networks.insert(id, Network { vdc, spec, vni, router });
            }
            (Some(Stored::Router { spec, vrf, .. }), _) => {
                let Some(vdc) = self.vdcs.get_mut(&key.vdc) else { return };
                for id in spec.networks.iter().filter_map(|n| vdc.networks.get(n)) {
                    if let Some(network) = self.networks.get_mut(id) {
                        network.router = Some(key.name.clone());
                    }
                }
                vdc.routers.insert(key.name, Router { spec, vrf });
                self.routers += 1;
            }
            (Some(Stored::Attachment { spec, mac, ips, .. }), Some(Owner::Attachment(id))) => {
                let Some(vdc) = self.vdcs.get_mut(&key.vdc) else { return };
                vdc.attachments.insert(key.name, id);
                let vdc = key.vdc;
                self.attachments.insert(id, Attachment { vdc, spec, mac, ips });
            }
            // It is gone again in the same transaction.
            _ => {}
        }
    }

    fn network(&self, key: &Key) -> Option<&Network> {
        self.networks.get(self.vdcs.get(&key.vdc)?.networks.get(&key.name)?)
    }

    fn remove(&mut self, key: &Key, for_good: bool) {
        if for_good && !self.set_aside.is_empty() {
            let name = key.to_string();
            self.set_aside.retain(|aside| aside.object != name);
        }
        let Some(vdc) = self.vdcs.get_mut(&key.vdc) else { return };
        match key.kind {
            Kind::Vdc if for_good => {
                self.vdcs.remove(&key.vdc);
            }
            Kind::Vdc => {}
            Kind::Network => {
                let id = vdc.networks.remove(&key.name);
                id.and_then(|id| self.networks.remove(&id));
            }
            Kind::Router => {
                let Some(router) = vdc.routers.remove(&key.name) else {
                    return;
                };
                for id in router.spec.networks.iter().filter_map(|n| vdc.networks.get(n)) {
                    if let Some(network) = self.networks.get_mut(id) {
                        network.router = None;
                    }
                }
                self.routers -= 1;
            }
            Kind::Attachment => {
                let id = vdc.attachments.remove(&key.name);
                id.and_then(|id| self.attachments.remove(&id));
            }
        }
    }

    /// Contributions changed without a transaction, or came later than theirs. Returns the devices concerned.
    pub(super) fn render(&mut self, rendered: Rendered, revision: u64) -> Vec<DeviceIndex> {
        let devices = self.engine.take(rendered, revision);
        let at = self.concerned.binary_search_by_key(&revision, |(r, _)| *r);
        if let Some((_, known)) = at.ok().and_then(|at| self.concerned.get_mut(at)) {
            known.extend(devices.iter().copied());
            known.sort_unstable();
            known.dedup();
        }
        devices
    }

    /// What objects wait for changed.
    pub(super) fn publish_waits(&mut self, changed: impl IntoIterator<Item = (Waiter, Option<Waits>)>) {
        for (waiter, waits) in changed {
            if let Some(old) = self.waits.remove(&waiter)
                && let Some(waiters) = self.waiting.get_mut(&old.revision)
            {
                waiters.remove(&waiter);
                if waiters.is_empty() {
                    self.waiting.remove(&old.revision);
                }
            }
            if let Some(waits) = waits {
                self.waiting.entry(waits.revision).or_default().insert(waiter);
                self.waits.insert(waiter, waits);
            }
        }
    }

    /// Why an object is on no device yet; nothing if it does not wait.
    pub(super) fn waits(&self, waiter: Waiter) -> &[(Option<DeviceIndex>, String)] {
        self.waits.get(&waiter).map_or(&[], |w| &w.reasons)
    }

    /// The same for all objects of a revision.
    pub(super) fn waits_of(&self, revision: u64) -> impl Iterator<Item = &(Option<DeviceIndex>, String)> {
        let waiters = self.waiting.get(&revision).into_iter().flatten();
        waiters.flat_map(|w| self.waits(*w))
    }

    /// Devices that a revision concerns so far; none if that is not known any more.
    pub(super) fn concerned(&self, revision: u64) -> Option<&[DeviceIndex]> {
        let at = self.concerned.binary_search_by_key(&revision, |(r, _)| *r).ok()?;
        self.concerned.get(at).map(|(_, devices)| devices.as_slice())
    }
}

#[cfg(test)]
impl Published {
    /// The first thing that is published otherwise than the model has it. For a model with nothing under way.
    pub(super) fn differs(&self, model: &crate::model::Model) -> Option<String> {
        let counts = (self.networks.len(), self.routers, self.attachments.len());
        if (self.vdcs.len(), counts) != (model.vdcs().len(), model.counts()) {
            return Some(format!("{counts:?} instead of {:?}", model.counts()));
        }
        let differs = |key: &Key| {
            let (stored, owner) = (model.stored(key)?, model.owner(key));
            let vdc = self.vdcs.get(&key.vdc);
            let same = match (&stored, owner) {
                (Stored::Vdc(spec), _) => vdc.is_some_and(|v| v.spec == *spec),
                (Stored::Network { spec, vni, .. }, Some(Owner::Network(id))) => {
                    let router = model.network(id).and_then(|n| n.router).and_then(|r| model.router(r));
                    let router = router.map(|r| &r.spec.name);
                    let published = self.networks.get(&id);
                    let same = |n: &Network| n.spec == *spec && n.vni == *vni && n.router.as_ref() == router;
                    published.is_some_and(same) && vdc.is_some_and(|v| v.networks.get(&key.name) == Some(&id))
                }
                (Stored::Router { spec, vrf, .. }, _) => {
                    let published = vdc.and_then(|v| v.routers.get(&key.name));
                    published.is_some_and(|r| r.spec == *spec && r.vrf == *vrf)
                }
                (Stored::Attachment { spec, mac, ips, .. }, Some(Owner::Attachment(id))) => {
                    let same = |a: &Attachment| a.spec == *spec && a.mac == *mac && a.ips == *ips;
                    self.attachments.get(&id).is_some_and(same)
                        && vdc.is_some_and(|v| v.attachments.get(&key.name) == Some(&id))
                }
                _ => false,
            };
            (!same).then(|| format!("{key} is published otherwise"))
        };
        let waits = || {
            let stale = |(waiter, waits): (&Waiter, &Waits)| {
                let reasons = model.reasons(*waiter);
                (waits.reasons != reasons).then(|| format!("{:?} instead of {reasons:?}", waits.reasons))
            };
            let count = (!model.has_woken() && self.waits.len() != model.waiting())
                .then(|| format!("{} objects wait, not {}", model.waiting(), self.waits.len()));
            count.or_else(|| self.waits.iter().filter(|_| !model.has_woken()).find_map(stale))
        };
        model.keys().find_map(|key| differs(&key)).or_else(waits)
    }
}
