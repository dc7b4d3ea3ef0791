//! Turns a change of intent into changes of what devices should hold.
//!
//! **Model.** What a device should hold is the sum of contributions ([`Source`]), each
//! rendered separately. When the model reports that some may have changed, exactly those are rendered again and
//! compared with their old values. The differences are added to and removed from their device ([`Device`]), which knows
//! which contributions ask for each entity.
//!
//! **Index.** Contributions are stored under the object that causes them ([`Owner`]). For an entity, its device
//! names the contributions, and each names its owner. So the entities of an object, and the objects behind an
//! entity, can be found at the cost of the result.
//!
//! **Cost.** The touched contributions, times their rendering; never the number of networks.

mod preview;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use vtep_proto::{HostEntity, Mode};

use crate::device::handover::{Handover, Opening, Step};
use crate::device::{Device, Registry};
use crate::entity::{Entity, EntityKey};
use crate::ident::{AttachmentId, DeviceIndex, Owner, Source};
use crate::model::Model;
use crate::render::{self, Render};

pub use preview::Previewed;

/// The entities that one contribution asks for, and their device.
#[derive(Debug)]
struct Contribution {
    source: Source,
    device: DeviceIndex,
    /// Sorted by key.
    entities: Box<[Arc<Entity>]>,
}

/// The contributions of one object, sorted by source. An object has one for each device that holds it: most have a
/// handful, so they are kept in one sorted list.
#[derive(Debug, Default)]
struct OfOwner(Vec<Contribution>);

impl OfOwner {
    fn find(&self, source: Source) -> Result<usize, usize> {
        self.0.binary_search_by_key(&source, |c| c.source)
    }

    fn get(&self, source: Source) -> Option<&Contribution> {
        self.0.get(self.find(source).ok()?)
    }

    /// Adds a contribution that is not in the list.
    fn insert(&mut self, contribution: Contribution) {
        let (Ok(at) | Err(at)) = self.find(contribution.source);
        // Do not double the capacity: after a transaction, an object usually stays the same for a long time.
        self.0.reserve_exact(1);
        self.0.insert(at, contribution);
    }

    fn remove(&mut self, source: Source) -> Option<Contribution> {
        let at = self.find(source).ok()?;
        Some(self.0.remove(at))
    }
}

/// The contributions in force, and the devices they add up to.
pub struct Engine {
    render: Arc<dyn Render>,
    devices: Arc<Registry>,
    /// Contributions with at least one entity, by the object that causes them.
    contributions: FxHashMap<Owner, OfOwner>,
}

/// Contributions as rendered from the model at one moment, for [`Engine::take`].
#[derive(Debug, Default)]
pub struct Rendered(FxHashMap<DeviceIndex, Vec<(Source, Vec<Entity>)>>);

impl Rendered {
    /// Renders contributions from the current model. This changes nothing and needs no engine, so nobody has to wait
    /// for it.
    pub fn new(render: &dyn Render, model: &Model, touched: BTreeSet<Source>) -> Self {
        let mut by_device: FxHashMap<DeviceIndex, Vec<(Source, Vec<Entity>)>> = FxHashMap::default();
        for source in touched {
            if let Some(device) = model.fabric.device_of(source) {
                let view = model.view(source);
                let entities = view.map_or_else(Vec::new, |v| render::render(render, &model.fabric.view, &v));
                let entities = set_of(entities);
                by_device.entry(device).or_default().push((source, entities));
            }
        }
        Self(by_device)
    }

    /// For each device, its contributions with their entities, sorted by key.
    pub(crate) fn by_device(&self) -> impl Iterator<Item = (DeviceIndex, &[(Source, Vec<Entity>)])> {
        self.0.iter().map(|(device, fresh)| (*device, fresh.as_slice()))
    }
}

impl Engine {
    /// No contributions yet.
    pub fn new(render: Arc<dyn Render>, devices: Arc<Registry>) -> Self {
        Self {
            render,
            devices,
            contributions: FxHashMap::default(),
        }
    }

    /// The device of a handle.
    pub fn device(&self, index: DeviceIndex) -> Option<Arc<Device>> {
        self.devices.get(index)
    }

    /// The devices.
    pub fn devices(&self) -> &Arc<Registry> {
        &self.devices
    }

    /// The renderer.
    pub fn renderer(&self) -> &Arc<dyn Render> {
        &self.render
    }

    /// Updates what the devices should hold to the model at a revision of the
    /// intent, and wakes the devices that changed. Returns these.
    pub fn update(&mut self, model: &Model, touched: BTreeSet<Source>, revision: u64) -> Vec<DeviceIndex> {
        self.take(Rendered::new(self.render.as_ref(), model, touched), revision)
            .0
    }

    /// The second half of [`Engine::update`]: applies contributions that were rendered before. Where attachments change their
    /// networks, the returned handover holds the order across devices, and the caller has to carry it out.
    pub fn take(&mut self, rendered: Rendered, revision: u64) -> (Vec<DeviceIndex>, Option<Handover>) {
        let moves = self.moves(&rendered);
        let openings = self.openings(&rendered);
        let (mut changed, mut devices) = (Vec::new(), Vec::new());
        for (index, fresh) in rendered.0 {
            let Some(device) = self.devices.get(index) else {
                continue;
            };
            let mut edit = device.edit(revision);
            // All additions first, so that an entity that moves from one contribution to another stays.
            let mut gone: Vec<(Source, Arc<Entity>)> = Vec::new();
            let waits = |source: Source| {
                let opening = openings.iter().find(|opening| opening.makes_wait(source, &device))?;
                Some(Step::Serve(opening.attachment))
            };
            for (source, now) in fresh {
                let before = self.remove(source);
                let mut left = Vec::new();
                let later = waits(source);
                let add = |e: Arc<Entity>| {
                    let key = e.key();
                    edit.add(source, e);
                    if let Some(step) = later {
                        edit.hold_back(key, step);
                    }
                };
                let entities = exchange(before, now, add, &mut left);
                gone.extend(left.into_iter().map(|e| (source, e)));
                if !entities.is_empty() {
                    let of_owner = self.contributions.entry(source.owner()).or_default();
                    of_owner.insert(Contribution {
                        source,
                        device: index,
                        entities: entities.into(),
                    });
                }
            }
            for (source, e) in &gone {
                if edit.remove(*source, e) {
                    if let Some(step) = waits(*source) {
                        edit.hold_back(e.key(), step);
                    } else if !moves.is_empty() {
                        edit.hold_back(e.key(), Step::Break);
                    }
                }
            }
            let here = moves.iter().filter(|(host, _)| Arc::ptr_eq(host, &device));
            here.for_each(|(_, key)| edit.hold_back(key.clone(), Step::Move));
            let any = edit.changed;
            drop(edit);
            if any {
                device.wake();
                changed.push(index);
                devices.push(Arc::clone(&device));
            }
        }
        let handover = (!moves.is_empty() || !openings.is_empty()).then_some(Handover {
            revision,
            moves,
            openings,
            devices,
        });
        (changed, handover)
    }

    /// After a start: which changes of an attachment the other devices hold back until the host that is to serve it has
    /// confirmed. None if only one host has the attachment.
    pub fn resume(&self, attachment: AttachmentId, revision: u64) -> Option<Handover> {
        let all: Vec<_> = self.asked_by(Owner::Attachment(attachment)).collect();
        let part = |mode: Mode| {
            let mut of_hosts = all
                .iter()
                .flat_map(|(_, device, entities)| entities.iter().map(|e| (*device, e)));
            of_hosts.find(|(_, e)| matches!(e.as_ref(), Entity::Host(HostEntity::Attachment(a)) if a.mode == mode))
        };
        let ((serving, entity), _) = (part(Mode::Serving)?, part(Mode::Leaving)?);
        let opening = Opening {
            attachment,
            host: self.devices.get(serving)?,
            key: entity.key(),
        };
        let mut devices = Vec::new();
        for (_, index, entities) in all.iter().filter(|(_, index, _)| *index != serving) {
            let device = self.devices.get(*index)?;
            let mut edit = device.edit(revision);
            for entity in *entities {
                edit.hold_back(entity.key(), Step::Serve(attachment));
            }
            drop(edit);
            devices.push(device);
        }
        Some(Handover {
            revision,
            moves: Vec::new(),
            openings: vec![opening],
            devices,
        })
    }

    /// The attachments that a host begins to serve: it is known to hold them, silent.
    fn openings(&self, rendered: &Rendered) -> Vec<Opening> {
        let of_device = |(index, fresh): (&DeviceIndex, &Vec<(Source, Vec<Entity>)>)| {
            let host = self.devices.get(*index)?;
            let opens = fresh
                .iter()
                .filter_map(|(source, entities)| match (source, entities.as_slice()) {
                    (Source::AttachmentOnHost(attachment, _), [entity @ Entity::Host(HostEntity::Attachment(own))])
                        if own.mode == Mode::Serving && host.holds_silent(&entity.key()) =>
                    {
                        Some(Opening {
                            attachment: *attachment,
                            host: Arc::clone(&host),
                            key: entity.key(),
                        })
                    }
                    _ => None,
                });
            Some(opens.collect::<Vec<_>>())
        };
        rendered.0.iter().filter_map(of_device).flatten().collect()
    }

    /// The attachments that change their networks and stay on their hosts.
    fn moves(&self, rendered: &Rendered) -> Vec<(Arc<Device>, EntityKey)> {
        let of_device = |(index, fresh): (&DeviceIndex, &Vec<(Source, Vec<Entity>)>)| {
            let own = fresh
                .iter()
                .filter_map(|(source, entities)| match (source, entities.as_slice()) {
                    (Source::AttachmentOnHost(..), [entity @ Entity::Host(own @ HostEntity::Attachment(_))]) => {
                        Some((entity.key(), own.vni()))
                    }
                    _ => None,
                });
            let device = self.devices.get(*index)?;
            let moved = own.filter(|(key, vni)| device.holds_elsewhere(key, *vni));
            let moved: Vec<_> = moved.map(|(key, _)| (Arc::clone(&device), key)).collect();
            Some(moved)
        };
        rendered.0.iter().filter_map(of_device).flatten().collect()
    }

    fn remove(&mut self, source: Source) -> Vec<Arc<Entity>> {
        let Some(of_owner) = self.contributions.get_mut(&source.owner()) else {
            return Vec::new();
        };
        let before = of_owner.remove(source);
        if of_owner.0.is_empty() {
            self.contributions.remove(&source.owner());
        }
        before.map(|c| c.entities.into_vec()).unwrap_or_default()
    }

    /// The entities of a contribution, sorted by key; none if it is not in force.
    pub(crate) fn contribution(&self, source: Source) -> &[Arc<Entity>] {
        let of_owner = self.contributions.get(&source.owner());
        let found = of_owner.and_then(|all| all.get(source));
        found.map_or(&[], |contribution| &contribution.entities)
    }

    /// The entities of an object's contributions, each with its device. Costs the size of the result.
    pub fn asked_by(&self, owner: Owner) -> impl Iterator<Item = (Source, DeviceIndex, &[Arc<Entity>])> {
        let all = self.contributions.get(&owner).into_iter().flat_map(|all| &all.0);
        all.map(|c| (c.source, c.device, &*c.entities))
    }
}

/// A contribution asks for each key once, even if its rendering repeats a key (the last one
/// counts); sorted by key.
fn set_of(mut entities: Vec<Entity>) -> Vec<Entity> {
    if entities.len() > 1 {
        entities.sort_by_cached_key(Entity::key);
        entities.reverse();
        entities.dedup_by_key(|e| e.key());
        entities.reverse();
    }
    entities
}

/// The new entities of a contribution. Unchanged ones keep their old pointer; for new ones
/// `add` is called. Entities whose keys are gone go to `gone`. Both inputs are sorted by key.
fn exchange(
    before: Vec<Arc<Entity>>,
    now: Vec<Entity>,
    mut add: impl FnMut(Arc<Entity>),
    gone: &mut Vec<Arc<Entity>>,
) -> Vec<Arc<Entity>> {
    let mut before = before.into_iter().peekable();
    let mut after = Vec::with_capacity(now.len());
    for entity in now {
        let key = entity.key();
        while let Some(old) = before.next_if(|old| old.key() < key) {
            gone.push(old);
        }
        match before.next_if(|old| old.key() == key) {
            Some(old) if *old == entity => after.push(old),
            // Another one under the same key takes its place.
            _ => {
                let entity = Arc::new(entity);
                add(Arc::clone(&entity));
                after.push(entity);
            }
        }
    }
    gone.extend(before);
    after
}
