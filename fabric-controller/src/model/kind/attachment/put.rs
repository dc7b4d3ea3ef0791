//! Puts an attachment into the indexes, and takes it out.

use std::collections::BTreeSet;
use std::sync::Arc;

use vfabric_api::kind::{Key, Place};

use super::{At, Attachment, StoredAttachment};
use crate::ident::{DeviceIndex, HostIndex, Owner};
use crate::model::Model;
use crate::model::change::Applied;
use crate::model::kind::network::{give_back, take};
use crate::model::number::{Number, Uid};

impl Model {
    pub(in crate::model) fn put_attachment(&mut self, key: &Key, given: Arc<StoredAttachment>, applied: &mut Applied) {
        let known = self.vdcs.get(&key.vdc).and_then(|v| v.attachments.get(&key.name));
        let before = known.and_then(|id| self.attachments.get(*id));
        let before = before.and_then(|a| Some((a.network, self.leaf_of(a)?, a.at.clone())));
        // Count it at its new place before it is uncounted at its old one, so that objects that stay the same are not
        // rebuilt.
        if let Some((network, leaf, at)) = &before {
            self.arrive(*network, *leaf, at, applied);
        }
        let attachment = self
            .resolve(&key.vdc, &given.spec, given.access_id)
            .map(|(network, at)| Attachment {
                kept: given,
                vdc: key.vdc.clone(),
                network,
                at,
            });
        self.remove_attachment(key, attachment.as_ref(), applied);
        if let Some(attachment) = attachment {
            self.insert_attachment(key, attachment, applied);
        }
        if let Some((network, leaf, at)) = before {
            self.depart(network, leaf, &at, applied);
        }
    }

    fn insert_attachment(&mut self, key: &Key, attachment: Attachment, applied: &mut Applied) {
        let (network, at) = (attachment.network, attachment.at.clone());
        let Some(leaf) = self.leaf_of(&attachment) else { return };
        let Some(network_uid) = self.networks.get(network).map(|n| n.uid) else {
            return;
        };
        let numbers = attachment
            .place_numbers()
            .into_iter()
            .chain(attachment.address_numbers(network_uid));
        let barred = self.barred(attachment.uid, numbers);
        let kept = Arc::clone(&attachment.kept);
        let interface = interface_key(&attachment);
        let id = self.attachments.insert(attachment);
        self.waiting.begin(Owner::Attachment(id), barred);
        self.at.entry(self.device_at(&at)).or_default().insert(id);
        if let Some(vdc) = self.vdcs.get_mut(&key.vdc) {
            vdc.attachments.insert(key.name.clone(), id);
        }
        match &at {
            At::Host(_) => self.interfaces.extend(interface.map(|i| (i, id))),
            At::Port {
                leaf,
                port,
                vlan,
                access_id,
            } => {
                self.ports.insert((*leaf, *port, *vlan), id);
                if let Some(on) = self.on_switch.get_mut(leaf) {
                    self.moved.access_id(*leaf, on.access_ids.cursor());
                    on.access_ids.take((*access_id).into());
                }
            }
        }
        if let Some(net) = self.networks.get_mut(network) {
            let (net, used) = net.parts_mut();
            used.attachments.insert(id);
            used.macs.insert(kept.mac, id);
            for (subnet, pool) in used.pools.iter().enumerate() {
                self.moved.address(network, subnet, pool.cursor());
            }
            for ip in &kept.ips {
                used.ips.insert(*ip, id);
                take(&net.spec, &mut used.pools, *ip, |ip| used.ips.contains_key(&ip));
            }
        }
        self.arrive(network, leaf, &at, applied);
        self.touch_attachment(id, network);
    }

    /// `next` is its new state; none if it is deleted.
    pub(in crate::model) fn remove_attachment(&mut self, key: &Key, next: Option<&Attachment>, applied: &mut Applied) {
        let Some(id) = self
            .vdcs
            .get_mut(&key.vdc)
            .and_then(|v| v.attachments.remove(&key.name))
        else {
            return;
        };
        let Some(network) = self.attachments.get(id).map(|a| a.network) else {
            return;
        };
        // Do this while it still counts, so that everything that knows it is touched.
        self.touch_attachment(id, network);
        let knew = self.devices_of(network);
        let Some(attachment) = self.attachments.remove(id) else {
            return;
        };
        self.waiting.end(Owner::Attachment(id));
        let device = self.device_at(&attachment.at);
        if let Some(all) = self.at.get_mut(&device) {
            all.remove(&id);
            if all.is_empty() {
                self.at.remove(&device);
            }
        }
        let Some(leaf) = self.leaf_of(&attachment) else { return };
        match &attachment.at {
            At::Host(_) => {
                if let Some(interface) = interface_key(&attachment) {
                    self.interfaces.remove(&interface);
                }
            }
            At::Port {
                leaf,
                port,
                vlan,
                access_id,
            } => {
                self.ports.remove(&(*leaf, *port, *vlan));
                if let Some(on) = self.on_switch.get_mut(leaf) {
                    on.access_ids.free((*access_id).into());
                }
            }
        }
        let Some(net) = self.networks.get_mut(network) else {
            return;
        };
        let (net, used) = net.parts_mut();
        used.attachments.remove(&id);
        used.macs.remove(&attachment.mac);
        for ip in &attachment.ips {
            used.ips.remove(ip);
            give_back(&net.spec, &mut used.pools, *ip);
        }
        let uid = net.uid;
        self.leave_attachment(&attachment, uid, next, &knew, applied);
        self.depart(network, leaf, &attachment.at, applied);
    }

    /// Puts the numbers of an attachment that is deleted, or becomes `next`, into quarantine. Numbers that it keeps at
    /// the same place in the same network keep their meaning.
    fn leave_attachment(
        &mut self,
        old: &Attachment,
        network: Uid,
        next: Option<&Attachment>,
        knew: &BTreeSet<DeviceIndex>,
        applied: &mut Applied,
    ) {
        let stays = next.filter(|n| n.network == old.network && n.at == old.at);
        let kept: BTreeSet<Number> = stays
            .into_iter()
            .flat_map(|n| n.place_numbers().into_iter().chain(n.address_numbers(network)))
            .collect();
        let home = self.device_at(&old.at);
        for number in old.place_numbers().into_iter().filter(|n| !kept.contains(n)) {
            self.leave(number, old.uid, [home], applied);
        }
        for number in old.address_numbers(network).filter(|n| !kept.contains(n)) {
            self.leave(number, old.uid, knew.iter().copied(), applied);
        }
    }

    /// The host or leaf of a place.
    pub(in crate::model) fn device_at(&self, at: &At) -> DeviceIndex {
        match at {
            At::Host(host) => self.fabric.host_device(*host),
            At::Port { leaf, .. } => self.fabric.switch_device(*leaf),
        }
    }
}

/// A thing that may exist only once on a host.
fn interface_key(a: &Attachment) -> Option<(HostIndex, String, String)> {
    match (&a.at, &a.spec.place) {
        (At::Host(host), Place::Host { netns, interface, .. }) => Some((*host, netns.clone(), interface.clone())),
        _ => None,
    }
}
