//! Objects with their status, as the API shows them, from the published state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use vfabric_api::ident::Name;
use vfabric_api::kind::{Key, Kind, View};
use vfabric_api::status::{Applied, DeviceReason, Progress};

use super::published::{Object, Published};
use crate::device::driver::DeviceIndex;
use crate::device::{Device, Standing};
use crate::entity::{Entity, EntityKey};
use crate::ident::{Owner, Source};
use crate::model::fabric::Fabric;
use crate::model::kind::Seen;

/// Reasons that one object's status shows.
pub(super) const SHOWN_REASONS: usize = 16;
/// Most contributions of one entity that are searched for the objects behind it.
const SHOWN_ASKERS: usize = 16;

/// A contribution with its device and its entities.
type Asked<'a> = (Source, DeviceIndex, &'a [Arc<Entity>]);

impl Published {
    /// An object with its status.
    pub(super) fn view(&self, object: &Object) -> Option<View> {
        let vdc = self.vdcs.get(&object.key.vdc)?;
        let followed = object.stored.followed(&object.key);
        let owners = |keys: &[Key]| -> Vec<Owner> { keys.iter().filter_map(|k| self.object(k)?.owner).collect() };
        let (asked, waits) = (owners(&followed.asked), owners(&followed.waits));
        let asked = asked.into_iter().flat_map(|owner| self.engine.asked_by(owner));
        let waits = waits.into_iter().flat_map(|owner| self.waits(owner));
        let mut applied = self.applied(asked.filter(|(source, ..)| (followed.counts)(source)), waits);
        if let Some(device) = &followed.device {
            self.show_not_live(device, &mut applied);
        }
        let router = vdc
            .router_of(&object.key.name)
            .filter(|_| object.key.kind == Kind::Network);
        Some(object.stored.view(Seen {
            owner: object.stored.owner.clone(),
            applied,
            router: router.cloned(),
            counts: vdc.counts(),
            revision: object.revision,
        }))
    }

    /// Names a device that is not in service. Contributions ask nothing of it, but that does not mean that the object works there.
    fn show_not_live(&self, device: &Name, applied: &mut Applied) {
        let Some(state) = self.not_live.get(device) else { return };
        let reason = DeviceReason {
            device: device.clone(),
            reason: format!("is {state}"),
        };
        applied.waiting.insert(0, reason);
        if applied.progress == Progress::Applied {
            applied.progress = Progress::Pending;
        }
    }

    /// Reasons to wait with the names of devices; those without a device are not shown.
    pub(super) fn device_reasons<'a>(
        &self,
        waits: impl IntoIterator<Item = &'a (Option<DeviceIndex>, String)>,
    ) -> Vec<DeviceReason> {
        let reason = |(device, reason): &(Option<DeviceIndex>, String)| {
            let device = self.engine.device((*device)?)?.name.clone();
            let reason = reason.clone();
            Some(DeviceReason { device, reason })
        };
        waits.into_iter().filter_map(reason).collect()
    }

    /// The objects that asked for an entity of a device, in words.
    pub(super) fn asked_by(&self, fabric: &Fabric, device: &Device, key: &EntityKey) -> Vec<String> {
        let names = |owner| match owner {
            Owner::Switch(s) => Some(format!("switch `{}`", fabric.switch_name(s)?)),
            Owner::Host(h) => Some(format!("host `{}`", fabric.host_name(h)?)),
            Owner::Network(_) | Owner::Attachment(_) => Some(self.owned(owner)?.key.to_string()),
        };
        let owners = device.asked_by(key, SHOWN_ASKERS).into_iter().map(Source::owner);
        let owners: BTreeSet<Owner> = owners.collect();
        owners.into_iter().filter_map(names).collect()
    }

    /// The progress of the devices with these contributions; `waits` has the reasons why the object is not sent to
    /// them.
    pub(super) fn applied<'a>(
        &self,
        asked: impl Iterator<Item = Asked<'a>>,
        waits: impl IntoIterator<Item = &'a (Option<DeviceIndex>, String)>,
    ) -> Applied {
        let mut waits = waits.into_iter().peekable();
        let mut by_device: BTreeMap<DeviceIndex, Vec<EntityKey>> = BTreeMap::new();
        for (_, device, entities) in asked {
            by_device
                .entry(device)
                .or_default()
                .extend(entities.iter().map(|e| e.key()));
        }
        let held_back = waits.peek().is_some();
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
            // A refusal is more important than a change under way.
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
