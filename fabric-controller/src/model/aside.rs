//! Stored objects that could not be loaded: they are named, and the numbers that they have are given to nobody else.
//!
//! **Model.** A row of the store may be damaged, or may need something that is no longer there. The start goes on
//! without it. What can be read of it says which numbers it has; these count as used, so that we do not give them out
//! and a user who names one is refused. The object can only be deleted. Then its numbers go into quarantine until every
//! device has confirmed, like those of any other object.

use vfabric_api::kind::Key;

use super::kind::Stored;
use super::number::{Number, Uid};
use super::{AttachmentId, Model, NetworkId};

/// A placeholder for an attachment that does not exist, where an index needs one.
const NOBODY: AttachmentId = AttachmentId(u32::MAX);

/// A stored object that could not be loaded.
#[derive(Debug)]
pub(super) struct Aside {
    /// Its identity, as far as it can be read.
    pub(super) uid: Uid,
    /// Numbers that it is known to have.
    pub(super) numbers: Vec<Number>,
    reason: String,
}

impl Aside {
    /// Why it cannot be changed.
    pub(super) fn refusal(&self, key: &Key) -> String {
        format!(
            "{key} was set aside when the controller started ({}); it can only be deleted",
            self.reason
        )
    }
}

impl Model {
    /// Sets an object aside. `object` is what can be read of it, if anything.
    pub fn set_aside(&mut self, key: Key, object: Option<Stored>, reason: String) {
        let mut uid = Uid::default();
        let mut numbers = Vec::new();
        let mut network = None;
        if let Some(mut object) = object {
            // Only an attachment has addresses, and it is in one network.
            let of_one = object.networks().first();
            network = of_one.and_then(|n| self.known_network(&key.vdc, n)).map(|(id, _)| id);
            uid = object.uid_mut().map_or(uid, |uid| *uid);
            numbers = object.numbers(self, &key);
            self.restore_next_uid(uid.0.saturating_add(1));
        }
        numbers.iter().for_each(|number| self.reserve(number, network));
        self.aside.insert(key, Aside { uid, numbers, reason });
    }

    /// Counts a number as used, unless another object has it, which then keeps it. An address is one of `network`.
    pub(super) fn reserve(&mut self, number: &Number, network: Option<NetworkId>) {
        match number {
            Number::Vni(vni) => self.own_vni(*vni, true),
            Number::AccessId(s, id) => {
                if let Some(on) = self.on_switch.get_mut(s) {
                    on.access_ids.take((*id).into());
                }
            }
            Number::FloodGroup(s, group) => {
                if let Some(on) = self.on_switch.get_mut(s) {
                    on.groups.take((*group).into());
                }
            }
            Number::Vtep(id) => self.fabric.vteps.take((*id).into()),
            // Tenants' objects have none of these.
            Number::Underlay(_) | Number::RouterMac(_) | Number::HostMac(..) | Number::Port(..) => {}
            Number::PortVlan(s, port, vlan) => {
                self.ports.entry((*s, *port, *vlan)).or_insert(NOBODY);
            }
            Number::Interface(h, netns, interface) => {
                let interface = (*h, netns.to_string(), interface.to_string());
                self.interfaces.entry(interface).or_insert(NOBODY);
            }
            Number::Mac(_, mac) => {
                if let Some(network) = network.and_then(|n| self.networks.get_mut(n)) {
                    network.used_mut().macs.entry(*mac).or_insert(NOBODY);
                }
            }
            Number::Ip(_, ip) => {
                if let Some(network) = network.and_then(|n| self.networks.get_mut(n)) {
                    network.used_mut().ips.entry(*ip).or_insert(NOBODY);
                }
            }
        }
    }
}
