//! Where a network is: the leaves and hosts that hold it as long as it has attachments there.

use std::collections::BTreeMap;

use vfabric_api::ident::Vni;

use super::OnLeaf;
use crate::ident::{NetworkId, Source, SwitchIndex};
use crate::model::Model;
use crate::model::change::{Applied, GroupChange};
use crate::model::kind::At;
use crate::model::number::{Number, Uid};

impl Model {
    /// Counts one more attachment of a network at a place.
    pub(in crate::model) fn arrive(&mut self, network: NetworkId, leaf: SwitchIndex, at: &At, applied: &mut Applied) {
        let Some(net) = self.networks.get(network) else { return };
        let (vni, router) = (net.vni.get(), net.router);
        let first_on_leaf = !net.used().leaves.contains_key(&leaf);
        let group = if first_on_leaf { self.new_group(leaf, vni) } else { None };
        let Some(net) = self.networks.get_mut(network) else {
            return;
        };
        let used = net.used_mut();
        let on_leaf = used.leaves.entry(leaf).or_insert(OnLeaf {
            count: 0,
            group: group.unwrap_or(0),
        });
        on_leaf.count += 1;
        let mut first_on_host = None;
        if let At::Host(host) = at {
            let on_host = used.hosts.entry(*host).or_default();
            *on_host += 1;
            first_on_host = (*on_host == 1).then_some(*host);
        }
        if first_on_leaf {
            if let Some(on) = self.on_switch.get_mut(&leaf) {
                on.networks.insert(network);
            }
            applied.groups.push(GroupChange {
                leaf,
                vni,
                before: None,
                now: group,
            });
            self.touch_network_on_leaf(network, leaf);
        }
        if let Some(router) = router.and_then(|r| self.routers.get_mut(r)) {
            let count = router.leaves.entry(leaf).or_default();
            *count += 1;
            if *count == 1 {
                for network in router.networks.clone() {
                    self.touch_routed_on_leaf(network, leaf);
                }
            }
        }
        if let Some(host) = first_on_host {
            self.touch_network_on_host(network, host);
        }
        self.touched.insert(Source::Flood(network, leaf));
    }

    /// Counts one attachment fewer of a network at a place.
    pub(in crate::model) fn depart(&mut self, network: NetworkId, leaf: SwitchIndex, at: &At, applied: &mut Applied) {
        let Some(net) = self.networks.get_mut(network) else {
            return;
        };
        let (uid, vni, router) = (net.uid, net.vni.get(), net.router);
        let used = net.used_mut();
        let gone_from_leaf = used.leaves.get_mut(&leaf).and_then(|on_leaf| {
            on_leaf.count -= 1;
            (on_leaf.count == 0).then_some(on_leaf.group)
        });
        if gone_from_leaf.is_some() {
            used.leaves.remove(&leaf);
        }
        let gone_from_host = match at {
            At::Host(host) => count_down(&mut used.hosts, *host).then_some(*host),
            At::Port { .. } => None,
        };
        if let Some(host) = gone_from_host {
            let device = self.fabric.host_device(host);
            self.leave(Number::Vni(vni), uid, [device], applied);
            self.touch_network_on_host(network, host);
        }
        if let Some(group) = gone_from_leaf {
            let device = self.fabric.switch_device(leaf);
            self.leave(Number::Vni(vni), uid, [device], applied);
            if let Some(on) = self.on_switch.get_mut(&leaf) {
                on.networks.remove(&network);
            }
            if let (Some(on), true) = (self.on_switch.get_mut(&leaf), group != 0) {
                on.groups.free(group.into());
                self.leave(Number::FloodGroup(leaf, group), uid, [device], applied);
            }
            applied.groups.push(GroupChange {
                leaf,
                vni,
                before: Some(group).filter(|g| *g != 0),
                now: None,
            });
            self.touch_network_on_leaf(network, leaf);
        }
        let of_router = router.and_then(|r| self.routers.get_mut(r));
        if let Some(router) = of_router
            && count_down(&mut router.leaves, leaf)
        {
            let (vrf, networks) = ((router.vrf, router.uid), router.networks.clone());
            self.leave_routed(vrf, &networks, leaf, applied);
            for network in networks {
                self.touch_routed_on_leaf(network, leaf);
            }
        }
        self.touched.insert(Source::Flood(network, leaf));
    }

    /// A pair of flood groups for a network on a leaf: the one that it had before a restart, or a free one.
    fn new_group(&mut self, leaf: SwitchIndex, vni: u32) -> Option<u16> {
        let restored = self.restored_groups.get(&(leaf, vni)).copied();
        let found = restored.or_else(|| self.free_group(leaf))?;
        if let Some(on) = self.on_switch.get_mut(&leaf) {
            self.moved.group(leaf, on.groups.cursor());
            on.groups.take(found.into());
        }
        Some(found)
    }

    /// A leaf no longer needs a router's VRF, or the networks that it only had because of the router.
    pub(in crate::model) fn leave_routed(
        &mut self,
        (vrf, router): (Vni, Uid),
        networks: &[NetworkId],
        leaf: SwitchIndex,
        applied: &mut Applied,
    ) {
        let device = self.fabric.switch_device(leaf);
        let joined = networks.iter().filter_map(|n| self.networks.get(*n));
        let numbers: Vec<(Vni, Uid)> = joined.map(|n| (n.vni, n.uid)).chain([(vrf, router)]).collect();
        for (vni, owner) in numbers {
            self.leave(Number::Vni(vni.get()), owner, [device], applied);
        }
    }
}

/// Counts one less; true if it was the last one.
fn count_down<K: Ord>(counts: &mut BTreeMap<K, u32>, key: K) -> bool {
    let Some(count) = counts.get_mut(&key) else {
        return false;
    };
    *count -= 1;
    let last = *count == 0;
    if last {
        counts.remove(&key);
    }
    last
}
