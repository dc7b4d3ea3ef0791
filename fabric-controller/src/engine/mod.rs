//! From a change of intent to changes of what devices should hold.
//!
//! **Model.** What a device should hold is a sum of contributions ([`Source`]), each
//! rendered by itself. When the model says that some may have changed, exactly those are
//! rendered again, compared with what they were, and the differences added to and taken
//! from their device ([`Device`](crate::device::Device)), which counts how many ask for
//! each entity.
//!
//! **Cost.** What was touched, times its rendering; never the number of networks.

mod source;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use rustc_hash::FxHashMap;

pub use source::Source;

use crate::device::Registry;
use crate::device::driver::DeviceIndex;
use crate::device::entity::{Entity, EntityKey};
use crate::model::Model;
use crate::render::Render;

/// The contributions in force, and the devices they add up to.
pub struct Engine {
    render: Arc<dyn Render>,
    devices: Arc<Registry>,
    contributions: FxHashMap<Source, Vec<Arc<Entity>>>,
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

    /// The devices.
    pub fn devices(&self) -> &Arc<Registry> {
        &self.devices
    }

    /// What is rendered.
    pub fn renderer(&self) -> &Arc<dyn Render> {
        &self.render
    }

    /// Brings what the devices should hold up to date with the model, for a revision of the
    /// intent, and wakes those that something changed for. Answers which.
    pub fn update(&mut self, model: &Model, touched: BTreeSet<Source>, revision: u64) -> Vec<DeviceIndex> {
        let mut by_device: FxHashMap<DeviceIndex, Vec<Source>> = FxHashMap::default();
        for source in touched {
            if let Some(device) = model.fabric.device_of(source) {
                by_device.entry(device).or_default().push(source);
            }
        }
        let mut changed = Vec::new();
        for (index, sources) in by_device {
            let Some(device) = self.devices.get(index) else {
                continue;
            };
            let fresh: Vec<_> = sources
                .into_iter()
                .map(|s| (s, set_of(model.render(self.render.as_ref(), s))))
                .collect();
            let mut edit = device.edit(revision);
            // Additions of all first: what moves from one contribution to another stays.
            let mut gone: Vec<Arc<Entity>> = Vec::new();
            for (source, now) in fresh {
                let before = self.contributions.remove(&source).unwrap_or_default();
                let now = exchange(before, now, |e| edit.add(e), &mut gone);
                if !now.is_empty() {
                    self.contributions.insert(source, now);
                }
            }
            gone.iter().for_each(|e| edit.remove(e));
            let any = edit.changed;
            drop(edit);
            if any {
                device.wake();
                changed.push(index);
            }
        }
        changed
    }

    /// Keys that the given contributions ask for, by device.
    pub fn keys(&self, model: &Model, sources: &[Source]) -> FxHashMap<DeviceIndex, Vec<EntityKey>> {
        let mut keys: FxHashMap<DeviceIndex, Vec<EntityKey>> = FxHashMap::default();
        for source in sources {
            if let (Some(device), Some(entities)) = (model.fabric.device_of(*source), self.contributions.get(source)) {
                keys.entry(device).or_default().extend(entities.iter().map(|e| e.key()));
            }
        }
        keys
    }
}

/// A contribution asks for each key once, whatever its rendering repeats (the last one
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

/// What a contribution asks for from now on: what stays by its old pointer, what is new after
/// `add` was told of it. What is gone or replaced goes to `gone`. Both sides are sorted by key.
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
            old => {
                let entity = Arc::new(entity);
                add(Arc::clone(&entity));
                after.push(entity);
                gone.extend(old);
            }
        }
    }
    gone.extend(before);
    after
}
