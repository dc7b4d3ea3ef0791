//! Objects with their status, as the API shows them, from what is published.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use vfabric_api::intent::Place;
use vfabric_api::service::{Key, Kind};
use vfabric_api::status::{Applied, Attachment, DeviceReason, Network, Progress, Router, Vdc, View};

use super::published::Published;
use crate::device::driver::DeviceIndex;
use crate::device::{Device, Standing};
use crate::entity::{Entity, EntityKey};
use crate::ident::{Owner, Source};
use crate::model::fabric::Fabric;
use crate::model::waiting::Waiter;
use crate::model::{AttachmentId, NetworkId};

/// Reasons that one object's status shows.
pub(super) const SHOWN_REASONS: usize = 16;
/// Contributions that are looked at for the objects that asked for one entity.
const SHOWN_ASKERS: usize = 16;

/// A contribution with its device and what it asks for.
type Asked<'a> = (Source, DeviceIndex, &'a [Arc<Entity>]);

pub(super) fn vdc_view(vdc: &super::published::Vdc) -> View {
    View::Vdc(Vdc {
        spec: vdc.spec.clone(),
        networks: vdc.networks.len(),
        routers: vdc.routers.len(),
        attachments: vdc.attachments.len(),
    })
}

impl Published {
    /// An object with its status.
    pub(super) fn view(&self, key: &Key) -> Option<View> {
        let vdc = self.vdcs.get(&key.vdc)?;
        match key.kind {
            Kind::Vdc => Some(vdc_view(vdc)),
            Kind::Network => self.network_view(*vdc.networks.get(&key.name)?),
            Kind::Router => self.router_view(vdc, vdc.routers.get(&key.name)?),
            Kind::Attachment => self.attachment_view(*vdc.attachments.get(&key.name)?),
        }
    }

    /// A network with its status.
    pub(super) fn network_view(&self, id: NetworkId) -> Option<View> {
        let network = self.networks.get(&id)?;
        let waits = self.waits(Waiter::Network(id));
        Some(View::Network(Network {
            spec: network.spec.clone(),
            vni: network.vni,
            router: network.router.clone(),
            applied: self.applied(self.engine.asked_by(Owner::Network(id)), waits),
        }))
    }

    /// A router of a vDC with its status.
    pub(super) fn router_view(&self, vdc: &super::published::Vdc, router: &super::published::Router) -> Option<View> {
        let routed = |(source, _, _): &Asked<'_>| matches!(source, Source::RoutedOnLeaf(..));
        let networks = router.spec.networks.iter().filter_map(|n| vdc.networks.get(n));
        let asked = networks
            .flat_map(|n| self.engine.asked_by(Owner::Network(*n)))
            .filter(routed);
        Some(View::Router(Router {
            spec: router.spec.clone(),
            vrf: router.vrf,
            applied: self.applied(asked, []),
        }))
    }

    /// An attachment with its status.
    pub(super) fn attachment_view(&self, id: AttachmentId) -> Option<View> {
        let attachment = self.attachments.get(&id)?;
        let vdc = self.vdcs.get(&attachment.vdc)?;
        let network = vdc.networks.get(&attachment.spec.network)?;
        let waits = self.waits(Waiter::Attachment(id)).iter();
        let waits = waits.chain(self.waits(Waiter::Network(*network)));
        let mut applied = self.applied(self.engine.asked_by(Owner::Attachment(id)), waits);
        let (Place::Host { host: device, .. } | Place::Port { switch: device, .. }) = &attachment.spec.place;
        if let Some(state) = self.not_live.get(device) {
            // No device asks for anything of it, which is not the same as that it works.
            applied.waiting.insert(
                0,
                DeviceReason {
                    device: device.clone(),
                    reason: format!("is {state}"),
                },
            );
            if applied.progress == Progress::Applied {
                applied.progress = Progress::Pending;
            }
        }
        Some(View::Attachment(Attachment {
            spec: attachment.spec.clone(),
            mac: attachment.mac,
            ips: attachment.ips.clone(),
            applied,
        }))
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
            Owner::Network(n) => {
                let network = self.networks.get(&n)?;
                Some(Key::new(network.vdc.clone(), Kind::Network, network.spec.name.clone()).to_string())
            }
            Owner::Attachment(a) => {
                let attachment = self.attachments.get(&a)?;
                Some(Key::new(attachment.vdc.clone(), Kind::Attachment, attachment.spec.name.clone()).to_string())
            }
        };
        let owners = device.asked_by(key, SHOWN_ASKERS).into_iter().map(Source::owner);
        let owners: BTreeSet<Owner> = owners.collect();
        owners.into_iter().filter_map(names).collect()
    }

    /// How far the devices are with what these contributions ask for; `waits` is what keeps the object from them.
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
