//! What readers see: the durable intent, and what devices should hold for it.
//!
//! **Model.** A copy of every object beside the model, and the engine with the contributions in force. The writer's
//! model runs ahead of the store while a group of transactions is under way. The published state does not: a transaction is
//! published as a whole, after it is durable. Readers take a lock that is held only for work in memory, so they wait
//! neither for the disk nor for checks or rendering.
//!
//! **Invariants.** Everything here is in the store. An object that waits for a number is published together with its
//! reasons, and stops waiting in the same step that sends it to devices. So nobody can take "not rendered" for "applied".
//!
//! **Cost.** Publishing costs the objects and contributions that a transaction changed. Memory: the stored form of an
//! object is shared with the model; only its place in the indexes is held twice.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use vfabric_api::event::EventReason;
use vfabric_api::ident::Name;
use vfabric_api::inventory::ItemState;
use vfabric_api::kind::{Key, Kind};
use vfabric_api::status::SetAside;

use super::room::{Growth, Place};
use crate::device::driver::DeviceIndex;
use crate::device::handover::Handover;
use crate::engine::{Engine, Rendered};
use crate::entity::Entity;
use crate::events::{Events, News};
use crate::ident::{Owner, Source};
use crate::model::kind::{Counts, Stored};
use crate::model::rest::Waits;
use crate::tables::table_of;

/// The last transactions, for which the devices that they concern are known; older ones count as concerning all devices.
const REMEMBERED: usize = 4096;
/// Reasons to wait that an event names.
const NOTED: usize = 4;

/// An object as it is published.
pub(super) struct Object {
    pub(super) key: Key,
    pub(super) stored: Stored,
    /// Its name in contributions.
    pub(super) owner: Option<Owner>,
    /// Revision that last changed it.
    pub(super) revision: u64,
}

/// A vDC: itself, and what is in it.
#[derive(Default)]
pub(super) struct Vdc {
    /// By rank of the kind, then by name. The vDC itself is one of the objects.
    objects: [BTreeMap<Name, Arc<Object>>; Kind::ALL.len()],
    /// The router that joins a network, by the network's name.
    routers: BTreeMap<Name, Name>,
    /// Entries that its objects ask for, in each table of each switch.
    pub(super) entries: FxHashMap<Place, usize>,
}

impl Vdc {
    /// Its objects of a kind.
    pub(super) fn all(&self, kind: Kind) -> &BTreeMap<Name, Arc<Object>> {
        &self.objects[usize::from(kind.rank())]
    }

    fn all_mut(&mut self, kind: Kind) -> &mut BTreeMap<Name, Arc<Object>> {
        &mut self.objects[usize::from(kind.rank())]
    }

    /// How many objects of each kind are in it.
    pub(super) fn counts(&self) -> Counts {
        std::array::from_fn(|rank| self.objects.get(rank).map_or(0, BTreeMap::len))
    }

    /// The router that joins a network.
    pub(super) fn router_of(&self, network: &Name) -> Option<&Name> {
        self.routers.get(network)
    }
}

/// Objects by their names in contributions. Handles are small numbers that are used again, so a table with a place for each
/// is smaller than a map.
#[derive(Default)]
struct ByOwner {
    networks: Vec<Option<Arc<Object>>>,
    attachments: Vec<Option<Arc<Object>>>,
}

impl ByOwner {
    fn get(&self, owner: Owner) -> Option<&Arc<Object>> {
        match owner {
            Owner::Network(id) => self.networks.get(id.index())?.as_ref(),
            Owner::Attachment(id) => self.attachments.get(id.index())?.as_ref(),
            Owner::Switch(_) | Owner::Host(_) => None,
        }
    }

    fn set(&mut self, owner: Owner, object: Option<Arc<Object>>) {
        let (table, at) = match owner {
            Owner::Network(id) => (&mut self.networks, id.index()),
            Owner::Attachment(id) => (&mut self.attachments, id.index()),
            // These belong to the fabric, not to a tenant.
            Owner::Switch(_) | Owner::Host(_) => return,
        };
        if at >= table.len() {
            table.resize(at + 1, None);
        }
        if let Some(place) = table.get_mut(at) {
            *place = object;
        }
    }
}

/// An object after the change (`None`: deleted), and its name in contributions.
pub(super) struct Changed {
    pub(super) key: Key,
    pub(super) object: Option<Stored>,
    pub(super) owner: Option<Owner>,
}

/// What one transaction will publish once it is durable.
#[derive(Default)]
pub(super) struct Publication {
    pub(super) objects: Vec<Changed>,
    pub(super) rendered: Rendered,
    pub(super) waits: Vec<(Owner, Option<Waits>)>,
    /// Room in tables for contributions that wait.
    pub(super) reserve: Vec<(Source, Growth)>,
}

/// Everything that readers see.
pub(super) struct Published {
    pub(super) revision: u64,
    pub(super) engine: Engine,
    pub(super) vdcs: BTreeMap<Name, Vdc>,
    by_owner: ByOwner,
    counts: Counts,
    /// VNIs that are neither in use nor free.
    pub(super) quarantined: usize,
    /// Devices that hold nothing now, and for which other devices hold nothing.
    pub(super) not_live: BTreeMap<Name, ItemState>,
    /// Rows of the store that could not be loaded.
    pub(super) set_aside: Vec<SetAside>,
    waits: HashMap<Owner, Waits>,
    waiting: BTreeMap<u64, BTreeSet<Owner>>,
    /// Room in tables that is kept for waiting contributions, one by one and in total.
    pub(super) reservations: FxHashMap<Source, Growth>,
    pub(super) reserved: Growth,
    /// What happened to objects.
    events: Arc<Events>,
    /// Devices that each of the last transactions concerned.
    concerned: VecDeque<(u64, Vec<DeviceIndex>)>,
}

impl Published {
    pub(super) fn new(engine: Engine, revision: u64, events: Arc<Events>) -> Self {
        Self {
            revision,
            engine,
            vdcs: BTreeMap::new(),
            by_owner: ByOwner::default(),
            counts: Counts::default(),
            quarantined: 0,
            not_live: BTreeMap::new(),
            set_aside: Vec::new(),
            waits: HashMap::new(),
            waiting: BTreeMap::new(),
            reservations: FxHashMap::default(),
            reserved: Growth::default(),
            events,
            concerned: VecDeque::new(),
        }
    }

    /// Publishes a durable transaction under this revision.
    /// Returns the handover that it begins, which the caller has to carry out.
    pub(super) fn publish(&mut self, publication: Publication, revision: u64) -> Option<Handover> {
        let Publication {
            objects,
            rendered,
            waits,
            reserve,
        } = publication;
        let put = |published: &mut Self| objects.into_iter().for_each(|change| published.put(change, revision));
        let (concerned, handover) = self.take(rendered, revision, put);
        self.publish_waits(waits);
        for (source, growth) in reserve {
            self.reserved.add(&growth);
            if let Some(before) = self.reservations.insert(source, growth) {
                self.reserved.subtract(&before);
            }
        }
        self.concerned.push_back((revision, concerned));
        if self.concerned.len() > REMEMBERED {
            self.concerned.pop_front();
        }
        self.revision = revision;
        handover
    }

    /// Updates devices to the rendered contributions, and recounts the entries that vDCs ask for. In between, objects are
    /// replaced.
    fn take(
        &mut self,
        rendered: Rendered,
        revision: u64,
        put: impl FnOnce(&mut Self),
    ) -> (Vec<DeviceIndex>, Option<Handover>) {
        if !self.reservations.is_empty() {
            let fresh = rendered.by_device().flat_map(|(_, fresh)| fresh);
            for kept in fresh.filter_map(|(source, _)| self.reservations.remove(source)) {
                self.reserved.subtract(&kept);
            }
        }
        let is_tenants = |source: &Source| matches!(source.owner(), Owner::Network(_) | Owner::Attachment(_));
        let of_device = |(device, fresh): (DeviceIndex, &[(Source, Vec<Entity>)])| {
            let sources: Vec<Source> = fresh.iter().map(|(source, _)| *source).filter(is_tenants).collect();
            (device, sources)
        };
        let counted: Vec<(DeviceIndex, Vec<Source>)> = rendered.by_device().map(of_device).collect();
        self.tally(&counted, |entries, place| {
            if let Some(count) = entries.get_mut(&place) {
                *count -= 1;
                if *count == 0 {
                    entries.remove(&place);
                }
            }
        });
        put(self);
        let taken = self.engine.take(rendered, revision);
        self.tally(&counted, |entries, place| *entries.entry(place).or_default() += 1);
        taken
    }

    /// Visits the table entries of contributions in force, with the counts of their vDC.
    fn tally(&mut self, counted: &[(DeviceIndex, Vec<Source>)], note: impl Fn(&mut FxHashMap<Place, usize>, Place)) {
        for (device, sources) in counted {
            for source in sources {
                let entities = self.engine.contribution(*source);
                // Hosts have no tables.
                if !matches!(entities.first().map(AsRef::as_ref), Some(Entity::Switch(_))) {
                    continue;
                }
                let vdc = self.by_owner.get(source.owner()).map(|object| &object.key.vdc);
                let Some(vdc) = vdc.and_then(|vdc| self.vdcs.get_mut(vdc)) else {
                    continue;
                };
                let tables = entities.iter().filter_map(|entity| table_of(entity));
                tables.for_each(|table| note(&mut vdc.entries, (*device, table)));
            }
        }
    }

    /// Sets an object from a revision on.
    pub(super) fn put(&mut self, change: Changed, revision: u64) {
        let Changed { key, object, owner } = change;
        self.remove(&key, object.is_none());
        let Some(stored) = object else { return };
        let vdc = self.vdcs.entry(key.vdc.clone()).or_default();
        if key.kind == Kind::Router {
            let joined = stored.networks().iter().cloned();
            vdc.routers.extend(joined.map(|network| (network, key.name.clone())));
        }
        let (kind, name) = (key.kind, key.name.clone());
        let object = Arc::new(Object {
            key,
            stored,
            owner,
            revision,
        });
        if let Some(owner) = owner {
            self.by_owner.set(owner, Some(Arc::clone(&object)));
        }
        vdc.all_mut(kind).insert(name, object);
        self.counts[usize::from(kind.rank())] += 1;
    }

    fn remove(&mut self, key: &Key, for_good: bool) {
        if for_good && !self.set_aside.is_empty() {
            let name = key.to_string();
            self.set_aside.retain(|aside| aside.object != name);
        }
        let Some(vdc) = self.vdcs.get_mut(&key.vdc) else { return };
        if let Some(object) = vdc.all_mut(key.kind).remove(&key.name) {
            if key.kind == Kind::Router {
                object.stored.networks().iter().for_each(|network| {
                    vdc.routers.remove(network);
                });
            }
            if let Some(owner) = object.owner {
                self.by_owner.set(owner, None);
            }
            self.counts[usize::from(key.kind.rank())] -= 1;
        }
        if key.kind == Kind::Vdc && for_good {
            self.vdcs.remove(&key.vdc);
            self.events.forget(&key.vdc);
        }
    }

    /// An object.
    pub(super) fn object(&self, key: &Key) -> Option<&Arc<Object>> {
        self.vdcs.get(&key.vdc)?.all(key.kind).get(&key.name)
    }

    /// The object with this name in contributions.
    pub(super) fn owned(&self, owner: Owner) -> Option<&Arc<Object>> {
        self.by_owner.get(owner)
    }

    /// How many objects of a kind there are.
    pub(super) fn count(&self, kind: Kind) -> usize {
        self.counts[usize::from(kind.rank())]
    }

    /// Publishes contributions that changed without a transaction, or later than their transaction. Returns the devices
    /// concerned.
    pub(super) fn render(&mut self, rendered: Rendered, revision: u64) -> Vec<DeviceIndex> {
        // Without a transaction no attachment changes its network.
        let (devices, _) = self.take(rendered, revision, |_| {});
        let at = self.concerned.binary_search_by_key(&revision, |(r, _)| *r);
        if let Some((_, known)) = at.ok().and_then(|at| self.concerned.get_mut(at)) {
            known.extend(devices.iter().copied());
            known.sort_unstable();
            known.dedup();
        }
        devices
    }

    /// The reasons why objects wait have changed.
    pub(super) fn publish_waits(&mut self, changed: impl IntoIterator<Item = (Owner, Option<Waits>)>) {
        for (waiter, waits) in changed {
            let before = self.waits.remove(&waiter);
            self.note_wait(waiter, before.is_some(), waits.as_ref());
            if let Some(old) = before
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

    /// Reports that an object begins or stops waiting.
    fn note_wait(&self, waiter: Owner, waited: bool, waits: Option<&Waits>) {
        let (reason, detail) = match (waited, waits) {
            (false, Some(waits)) => {
                let words: Vec<&str> = waits
                    .reasons
                    .iter()
                    .map(|(_, words)| words.as_str())
                    .take(NOTED)
                    .collect();
                (EventReason::Waiting, words.join("; "))
            }
            (true, None) => (EventReason::Released, "no longer waits".to_owned()),
            _ => return,
        };
        let Some(object) = self.owned(waiter) else { return };
        self.events.note(News {
            reason,
            vdc: Some(object.key.vdc.clone()),
            object: Some(object.key.to_string()),
            device: None,
            detail,
        });
    }

    /// Why an object waits; none if it does not wait.
    pub(super) fn waits(&self, waiter: Owner) -> &[(Option<DeviceIndex>, String)] {
        self.waits.get(&waiter).map_or(&[], |w| &w.reasons)
    }

    /// As [`Self::waits`], for all objects of a revision.
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
    /// The first difference between the published state and the model. Use it only when nothing is under way.
    pub(super) fn differs(&self, model: &crate::model::Model) -> Option<String> {
        let expected: BTreeSet<Key> = model.keys().collect();
        let published = || self.vdcs.values().flat_map(|vdc| vdc.objects.iter().flatten());
        if published().count() != expected.len() || self.counts.iter().sum::<usize>() != expected.len() {
            return Some(format!("{} objects instead of {}", published().count(), expected.len()));
        }
        let differs = |key: &Key| {
            let object = self.object(key);
            let router = match model.owner(key) {
                Some(Owner::Network(id)) => model.network(id).and_then(|n| n.router).and_then(|r| model.router(r)),
                _ => None,
            };
            let published_router = self.vdcs.get(&key.vdc).filter(|_| key.kind == Kind::Network);
            let published_router = published_router.and_then(|vdc| vdc.router_of(&key.name));
            let owned = model
                .owner(key)
                .is_none_or(|owner| self.owned(owner).is_some_and(|o| o.key == *key));
            let same = object
                .is_some_and(|o| Some(&o.stored) == model.stored(key).as_ref() && o.owner == model.owner(key))
                && published_router == router.map(|r| &r.spec.name)
                && owned;
            (!same).then(|| format!("{key} is published otherwise"))
        };
        let waits = || {
            let stale = |(waiter, waits): (&Owner, &Waits)| {
                let reasons = model.reasons(*waiter);
                (waits.reasons != reasons).then(|| format!("{:?} instead of {reasons:?}", waits.reasons))
            };
            let count = (!model.has_woken() && self.waits.len() != model.waiting())
                .then(|| format!("{} objects wait, not {}", model.waiting(), self.waits.len()));
            count.or_else(|| self.waits.iter().filter(|_| !model.has_woken()).find_map(stale))
        };
        let entries = || {
            self.vdcs.iter().find_map(|(name, vdc)| {
                let mut counted: FxHashMap<Place, usize> = FxHashMap::default();
                let owners = vdc
                    .objects
                    .iter()
                    .flat_map(BTreeMap::values)
                    .filter_map(|object| object.owner);
                for (_, device, entities) in owners.flat_map(|owner| self.engine.asked_by(owner)) {
                    for table in entities.iter().filter_map(|entity| table_of(entity)) {
                        *counted.entry((device, table)).or_default() += 1;
                    }
                }
                (counted != vdc.entries).then(|| format!("vDC {name} asks for {counted:?}, not {:?}", vdc.entries))
            })
        };
        expected.iter().find_map(differs).or_else(waits).or_else(entries)
    }
}
