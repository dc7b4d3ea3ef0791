//! Puts a network into the indexes, and takes it out.

use std::sync::Arc;

use vfabric_api::kind::Key;

use super::subnet::pools;
use super::{Network, StoredNetwork};
use crate::ident::Owner;
use crate::model::Model;
use crate::model::number::Number;

impl Model {
    pub(in crate::model) fn put_network(&mut self, key: &Key, object: Arc<StoredNetwork>) {
        let (uid, number) = (object.uid, object.vni.get());
        self.own_vni(number, true);
        let known = self.vdcs.get(&key.vdc).and_then(|v| v.networks.get(&key.name)).copied();
        if let Some(id) = known {
            if let Some(network) = self.networks.get_mut(id) {
                if let Some(used) = &mut network.used {
                    used.pools = pools(&object.spec, used.ips.keys());
                }
                network.kept = object;
            }
            self.touch_network(id);
            return;
        }
        let id = self.networks.insert(Network {
            kept: object,
            vdc: key.vdc.clone(),
            router: None,
            used: None,
        });
        let barred = self.barred(uid, [Number::Vni(number)]);
        self.waiting.begin(Owner::Network(id), barred);
        self.by_vni.insert(number, id);
        if let Some(vdc) = self.vdcs.get_mut(&key.vdc) {
            vdc.networks.insert(key.name.clone(), id);
        }
    }

    pub(in crate::model) fn remove_network(&mut self, key: &Key) {
        let id = self.vdcs.get_mut(&key.vdc).and_then(|v| v.networks.remove(&key.name));
        // Only a network without attachments and router is removed, so the numbers that devices hold of it are in
        // quarantine already.
        if let Some((id, network)) = id.and_then(|id| Some((id, self.networks.remove(id)?))) {
            self.waiting.end(Owner::Network(id));
            self.by_vni.remove(&network.vni.get());
            self.own_vni(network.vni.get(), false);
        }
    }
}
