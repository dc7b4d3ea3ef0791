//! Shows what devices would be asked to hold, before it happens.

use std::collections::BTreeMap;
use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::{Engine, Rendered};
use crate::entity::{Entity, EntityKey};
use crate::ident::{DeviceIndex, Source};

/// An entity before and after. At least one of the two exists, and they differ.
pub struct Previewed {
    /// What the device should hold now.
    pub before: Option<Arc<Entity>>,
    /// What it would have to hold.
    pub after: Option<Arc<Entity>>,
}

/// The change of one key.
#[derive(Default)]
struct Fate {
    /// The last contribution that asks for an entity under it.
    asked: Option<Arc<Entity>>,
    /// Contributions that no longer ask for it.
    left: FxHashSet<Source>,
}

impl Engine {
    /// What [`Engine::take`] would change of what devices should hold. Changes nothing; costs what was rendered.
    pub fn preview(&self, rendered: &Rendered) -> Vec<(DeviceIndex, Vec<Previewed>)> {
        let of_device = |(index, fresh): (&DeviceIndex, &Vec<(Source, Vec<Entity>)>)| {
            let changes = self.preview_device(*index, fresh);
            (!changes.is_empty()).then_some((*index, changes))
        };
        let mut devices: Vec<_> = rendered.0.iter().filter_map(of_device).collect();
        devices.sort_by_key(|(index, _)| *index);
        devices
    }

    fn preview_device(&self, index: DeviceIndex, fresh: &[(Source, Vec<Entity>)]) -> Vec<Previewed> {
        let mut fates: BTreeMap<EntityKey, Fate> = BTreeMap::new();
        for (source, now) in fresh {
            let of_owner = self.contributions.get(&source.owner());
            let before = of_owner.and_then(|all| all.get(*source));
            for entity in before.into_iter().flat_map(|c| c.entities.iter()) {
                fates.entry(entity.key()).or_default().left.insert(*source);
            }
            for entity in now {
                let fate = fates.entry(entity.key()).or_default();
                fate.left.remove(source);
                fate.asked = Some(Arc::new(entity.clone()));
            }
        }
        let device = self.devices.get(index);
        let change = |(key, fate): (EntityKey, Fate)| {
            let (before, askers) = device.as_ref().map_or((None, 0), |d| d.wanted(&key));
            let stays = fate.asked.is_none() && askers > fate.left.len();
            let after = if stays { before.clone() } else { fate.asked };
            (before != after).then_some(Previewed { before, after })
        };
        fates.into_iter().filter_map(change).collect()
    }
}
