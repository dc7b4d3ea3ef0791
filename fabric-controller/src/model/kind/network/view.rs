//! The view of a network, and its contributions.

use super::Network;
use crate::ident::{AttachmentId, HostIndex, NetworkId, Owner, Source, SwitchIndex};
use crate::model::Model;
use crate::model::kind::{At, Attachment};
use crate::view::{FloodView, NetworkView, SubnetView};

impl Model {
    /// A network as render functions see it.
    pub(in crate::model) fn network_view(&self, network: &Network) -> NetworkView {
        let router = network.router.and_then(|r| self.routers.get(r));
        NetworkView {
            vni: network.vni,
            vrf: router.map(|r| r.vrf),
            static_routes: router.is_some_and(|r| !r.spec.routes.is_empty()),
            mtu: network.spec.mtu,
            subnets: network
                .spec
                .subnets
                .iter()
                .map(|s| SubnetView {
                    cidr: s.cidr,
                    gateway: s.gateway(),
                })
                .collect(),
        }
    }

    pub(in crate::model) fn flood_view(&self, network: &Network, on: SwitchIndex) -> Option<FloodView> {
        let number = Some(network.used().leaves.get(&on)?.group).filter(|group| *group != 0)?;
        let here = |h: &&HostIndex| self.fabric.leaf_of(**h) == Some(on);
        let hosts = network
            .used()
            .hosts
            .keys()
            .filter(here)
            .filter_map(|h| self.fabric.host_view(*h))
            .cloned()
            .collect();
        let mine = |a: &&AttachmentId| {
            let here = |a: &Attachment| matches!(a.at, At::Port { leaf, .. } if leaf == on);
            // A waiting attachment gets no copy: the copy would be dropped, because its access id means nothing yet.
            let waits = self.waits(Owner::Attachment(**a));
            self.attachments.get(**a).is_some_and(here) && !waits
        };
        let access = network.used().attachments.iter().filter(mine);
        let access = access
            .filter_map(|a| self.access_view(self.attachments.get(*a)?))
            .collect();
        let others = network.used().leaves.keys().filter(|l| **l != on);
        let remote = others.filter_map(|leaf| {
            let ports = self.paths.ports(on, *leaf);
            // Spread over the uplinks by VNI and destination; always the same for the same input.
            let at = (network.vni.get() as usize + leaf.index()) % ports.len().max(1);
            Some((self.fabric.switch_view(*leaf)?.vtep.clone(), *ports.get(at)?))
        });
        Some(FloodView {
            group_all: number * 2 - 1,
            group_local: number * 2,
            hosts,
            access,
            remote: remote.collect(),
        })
    }

    /// Contributions that a network owns.
    pub(in crate::model) fn sources_of_network(&self, id: NetworkId) -> Vec<Source> {
        let Some(network) = self.networks.get(id) else {
            return Vec::new();
        };
        let leaves = network
            .used()
            .leaves
            .keys()
            .flat_map(|l| [Source::NetworkOnLeaf(id, *l), Source::Flood(id, *l)]);
        let hosts = network
            .used()
            .hosts
            .keys()
            .flat_map(|h| [Source::HostNetworkOnLeaf(id, *h), Source::NetworkOnHost(id, *h)]);
        let routed = network
            .router
            .and_then(|r| self.routers.get(r))
            .into_iter()
            .flat_map(|r| r.leaves.keys());
        leaves
            .chain(hosts)
            .chain(routed.map(|l| Source::RoutedOnLeaf(id, *l)))
            .collect()
    }
}
