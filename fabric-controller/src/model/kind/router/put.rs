//! Puts a router into the indexes, and takes it out.

use std::collections::BTreeMap;

use vfabric_api::kind::Key;

use super::{Router, StoredRouter, routes};
use crate::ident::{NetworkId, SwitchIndex};
use crate::model::Model;
use crate::model::change::Applied;

impl Model {
    pub(in crate::model) fn insert_router(&mut self, key: &Key, object: StoredRouter) {
        let StoredRouter { uid, spec, vrf } = object;
        self.own_vni(vrf.get(), true);
        let Some(vdc) = self.vdcs.get_mut(&key.vdc) else { return };
        let networks: Vec<NetworkId> = spec
            .networks
            .iter()
            .filter_map(|n| vdc.networks.get(n))
            .copied()
            .collect();
        let mut leaves: BTreeMap<SwitchIndex, u32> = BTreeMap::new();
        for (leaf, on_leaf) in networks
            .iter()
            .filter_map(|n| self.networks.get(*n))
            .flat_map(|n| &n.used().leaves)
        {
            *leaves.entry(*leaf).or_default() += on_leaf.count;
        }
        vdc.routes += spec.routes.len();
        let router = Router {
            uid,
            vdc: key.vdc.clone(),
            routes: routes::by_target(&spec),
            spec,
            vrf,
            networks: networks.clone(),
            leaves,
        };
        let id = self.routers.insert(router);
        vdc.routers.insert(key.name.clone(), id);
        for network in &networks {
            if let Some(net) = self.networks.get_mut(*network) {
                net.router = Some(id);
            }
        }
        for network in networks {
            self.touch_network(network);
        }
    }

    pub(in crate::model) fn remove_router(&mut self, key: &Key, applied: &mut Applied) {
        let Some(id) = self.vdcs.get_mut(&key.vdc).and_then(|v| v.routers.remove(&key.name)) else {
            return;
        };
        let networks = self.routers.get(id).map(|r| r.networks.clone()).unwrap_or_default();
        // Do this while the networks still point to the router, so that all its leaves are touched.
        for network in &networks {
            self.touch_network(*network);
        }
        for network in &networks {
            if let Some(net) = self.networks.get_mut(*network) {
                net.router = None;
            }
        }
        if let Some(router) = self.routers.remove(id) {
            if let Some(vdc) = self.vdcs.get_mut(&key.vdc) {
                vdc.routes -= router.spec.routes.len();
            }
            for leaf in router.leaves.keys() {
                self.leave_routed((router.vrf, router.uid), &networks, *leaf, applied);
            }
            self.own_vni(router.vrf.get(), false);
        }
    }
}
