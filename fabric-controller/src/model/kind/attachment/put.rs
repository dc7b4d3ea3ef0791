//! Puts an attachment into the indexes, and takes it out.

use std::collections::BTreeSet;
use std::sync::Arc;

use vfabric_api::kind::{Key, Place};

use super::{At, Attachment, StoredAttachment};
use crate::ident::{DeviceIndex, HostIndex, NetworkId, Owner, SwitchIndex};
use crate::model::Model;
use crate::model::change::Applied;
use crate::model::fault::{self, Fault};
use crate::model::kind::network::{give_back, take};
use crate::model::number::{Number, Uid};

impl Model {
    pub(in crate::model) fn put_attachment(&mut self, key: &Key, given: Arc<StoredAttachment>, applied: &mut Applied) {
        let known = self.vdcs.get(&key.vdc).and_then(|v| v.attachments.get(&key.name));
        let before = known.and_then(|id| self.attachments.get(*id));
        let before = before.map(|a| (a.network, self.counted_at(a)));
        // Where it was it stays counted until it is counted where it is now: what does not change is not made again.
        for (network, (leaf, at)) in each(&before) {
            self.arrive(network, *leaf, at, applied);
        }
        let target = self.target_of(&given.spec);
        let attachment = self
            .resolve(&key.vdc, &given.spec, given.access_id)
            .map(|(network, at)| Attachment {
                kept: given,
                vdc: key.vdc.clone(),
                network,
                at,
                target,
            });
        self.remove_attachment(key, attachment.as_ref(), applied);
        if let Some(attachment) = attachment {
            self.insert_attachment(key, attachment, applied);
        }
        for (network, (leaf, at)) in each(&before) {
            self.depart(network, *leaf, at, applied);
        }
    }

    /// The places at which an attachment counts, each with its leaf.
    fn counted_at(&self, attachment: &Attachment) -> Vec<(SwitchIndex, At)> {
        let leaf = |at: &At| match at {
            At::Host(host) => self.fabric.leaf_of(*host),
            At::Port { leaf, .. } => Some(*leaf),
        };
        attachment.places().filter_map(|at| Some((leaf(&at)?, at))).collect()
    }

    fn insert_attachment(&mut self, key: &Key, attachment: Attachment, applied: &mut Applied) {
        let (network, at) = (attachment.network, attachment.at.clone());
        let counted = self.counted_at(&attachment);
        if counted.is_empty() {
            return;
        }
        let Some(network_uid) = self.networks.get(network).map(|n| n.uid) else {
            return;
        };
        let numbers = attachment
            .place_numbers()
            .into_iter()
            .chain(attachment.address_numbers(network_uid));
        let barred = self.barred(attachment.uid, numbers);
        let kept = Arc::clone(&attachment.kept);
        let interfaces = interface_keys(&attachment);
        let migrates = attachment.target.is_some();
        let id = self.attachments.insert(attachment);
        self.waiting.begin(Owner::Attachment(id), barred);
        for (_, at) in &counted {
            self.at.entry(self.device_at(at)).or_default().insert(id);
        }
        if migrates {
            self.migrating.insert(id);
        }
        if let Some(vdc) = self.vdcs.get_mut(&key.vdc) {
            vdc.attachments.insert(key.name.clone(), id);
        }
        match &at {
            At::Host(_) => self.interfaces.extend(interfaces.into_iter().map(|i| (i, id))),
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
        for (leaf, at) in &counted {
            self.arrive(network, *leaf, at, applied);
        }
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
        self.migrating.remove(&id);
        for at in attachment.places() {
            let device = self.device_at(&at);
            if let Some(all) = self.at.get_mut(&device) {
                all.remove(&id);
                if all.is_empty() {
                    self.at.remove(&device);
                }
            }
        }
        let counted = self.counted_at(&attachment);
        match &attachment.at {
            At::Host(_) => {
                for interface in interface_keys(&attachment) {
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
        let stays = |at: &At| *at != attachment.at && fault::is_on(Fault::StaysAdmitted);
        for (leaf, at) in counted.iter().filter(|(_, at)| !stays(at)) {
            self.depart(network, *leaf, at, applied);
        }
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
        // An interface stays what it is also where the other place of a migration goes.
        let remains = next.filter(|n| n.network == old.network && n.target.is_some() != old.target.is_some());
        let interfaces: BTreeSet<Number> = remains.into_iter().flat_map(Attachment::place_numbers).collect();
        let home = self.device_at(&old.at);
        let remains = |n: &Number| matches!(n, Number::Interface(..)) && interfaces.contains(n);
        let goes = |n: &Number| !kept.contains(n) && !remains(n);
        for number in old.place_numbers().into_iter().filter(goes) {
            let device = match &number {
                Number::Interface(host, ..) => self.fabric.host_device(*host),
                _ => home,
            };
            self.leave(number, old.uid, [device], applied);
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

/// What may exist once on a host.
fn interface_keys(a: &Attachment) -> Vec<(HostIndex, String, String)> {
    let home = match (&a.at, &a.spec.place) {
        (At::Host(host), Place::Host { netns, interface, .. }) => Some((*host, netns.clone(), interface.clone())),
        _ => None,
    };
    let target = a.target.iter().map(|t| (t.host, t.netns.clone(), t.interface.clone()));
    home.into_iter().chain(target).collect()
}

/// The places of an attachment that was there, each with its network.
fn each(before: &Option<(NetworkId, Vec<(SwitchIndex, At)>)>) -> impl Iterator<Item = (NetworkId, &(SwitchIndex, At))> {
    let all = before.iter();
    all.flat_map(|(network, counted)| counted.iter().map(|place| (*network, place)))
}
