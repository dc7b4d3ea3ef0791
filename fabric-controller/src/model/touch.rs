//! The contributions that a change may concern. Too many cost time; too few are a fault. A property test compares the
//! result with rendering everything from scratch.

use std::collections::BTreeSet;

use super::kind::{At, Attachment};
use super::{AttachmentId, Model, NetworkId, SwitchIndex};
use crate::ident::DeviceIndex;
use crate::ident::Source;
use crate::model::HostIndex;
use crate::topology::PathChange;

impl Model {
    /// Touches everything that does not depend on tenants.
    pub(super) fn touch_fabric(&mut self) {
        let sources = self.fabric_sources();
        self.touched.extend(sources);
    }

    /// Touches a switch on every device that knows it.
    pub(super) fn touch_switch(&mut self, at: SwitchIndex) {
        self.touched.insert(Source::Switch(at));
        let others: Vec<SwitchIndex> = self.fabric.switches().map(|(s, _)| s).collect();
        let pairs = others.into_iter().flat_map(|s| [(at, s), (s, at)]);
        let paths = pairs.flat_map(|(on, to)| [Source::Path(on, to), Source::Behind(on, to)]);
        self.touched.extend(paths);
        let neighbours = self.fabric.neighbours(at);
        self.touched.extend(neighbours.into_iter().map(Source::Switch));
        for host in self.fabric.hosts_under(at).collect::<Vec<_>>() {
            self.touched.insert(Source::LocalHost(host));
            for network in self.networks_at(DeviceIndex(host.0)) {
                self.touch_network_on_host(network, host);
            }
        }
        let networks: Vec<NetworkId> = match self.on_switch.get(&at) {
            Some(on) => on.networks.iter().copied().collect(),
            None => Vec::new(),
        };
        for network in networks {
            self.touch_network_on_leaf(network, at);
            let router = self.networks.get(network).and_then(|n| n.router);
            let joined = router
                .and_then(|r| self.routers.get(r))
                .map(|r| r.networks.clone())
                .unwrap_or_default();
            for network in joined {
                self.touch_routed_on_leaf(network, at);
            }
        }
        self.touch_attachments_at(DeviceIndex(at.0));
    }

    /// Touches a host on every device that knows it.
    pub(super) fn touch_host(&mut self, at: HostIndex) {
        let Some(leaf) = self.fabric.leaf_of(at) else { return };
        self.touched.insert(Source::LocalHost(at));
        // Routes to it.
        let others: Vec<SwitchIndex> = self.fabric.switches().map(|(s, _)| s).collect();
        self.touched.extend(others.into_iter().map(|s| Source::Behind(s, leaf)));
        for network in self.networks_at(DeviceIndex(at.0)) {
            self.touch_network_on_host(network, at);
            self.touched.insert(Source::Flood(network, leaf));
        }
        self.touch_attachments_at(DeviceIndex(at.0));
    }

    /// Networks with an attachment on a host, or on access ports of a leaf.
    fn networks_at(&self, device: DeviceIndex) -> BTreeSet<NetworkId> {
        let all = self.at.get(&device).into_iter().flatten();
        all.filter_map(|a| Some(self.attachments.get(*a)?.network)).collect()
    }

    fn touch_attachments_at(&mut self, device: DeviceIndex) {
        let all: Vec<AttachmentId> = self.at.get(&device).into_iter().flatten().copied().collect();
        for id in all {
            if let Some(network) = self.attachments.get(id).map(|a| a.network) {
                self.touch_attachment(id, network);
            }
        }
    }

    /// Paths through the fabric changed: the groups of next hops, and the copies of flooded frames on these paths. The changes
    /// are in order. The networks of each switch whose paths changed are walked once, however many of its paths these are.
    pub(super) fn touch_paths(&mut self, changes: &[PathChange]) {
        self.touched.extend(changes.iter().map(|c| Source::Path(c.on, c.to)));
        for of_one in changes.chunk_by(|a, b| a.on == b.on) {
            let Some(on) = of_one.first().map(|c| c.on) else {
                continue;
            };
            let Some(here) = self.on_switch.get(&on) else { continue };
            let is_changed = |to: &SwitchIndex| of_one.binary_search_by_key(to, |c| c.to).is_ok();
            let floods = here.networks.iter().filter(|n| {
                let network = self.networks.get(**n);
                network.is_some_and(|n| n.used().leaves.keys().any(is_changed))
            });
            self.touched.extend(floods.map(|n| Source::Flood(*n, on)));
        }
    }

    /// The leaf that an attachment is on or under.
    pub(super) fn leaf_of(&self, attachment: &Attachment) -> Option<SwitchIndex> {
        match &attachment.at {
            At::Host(host) => self.fabric.leaf_of(*host),
            At::Port { leaf, .. } => Some(*leaf),
        }
    }

    /// Touches one attachment on every device that knows it.
    pub(super) fn touch_attachment(&mut self, id: AttachmentId, network: NetworkId) {
        let Some(net) = self.networks.get(network) else { return };
        let router = net.router.and_then(|r| self.routers.get(r));
        let routed = router.into_iter().flat_map(|r| r.leaves.keys());
        let leaves = net
            .used()
            .leaves
            .keys()
            .chain(routed)
            .map(|l| Source::AttachmentOnLeaf(id, *l));
        let hosts = net.used().hosts.keys().map(|h| Source::AttachmentOnHost(id, *h));
        self.touched.extend(leaves.chain(hosts));
    }

    /// Touches a network on a leaf, after its first attachment was added or its last one removed.
    pub(super) fn touch_network_on_leaf(&mut self, network: NetworkId, leaf: SwitchIndex) {
        let Some(net) = self.networks.get(network) else { return };
        self.touched.insert(Source::NetworkOnLeaf(network, leaf));
        self.touched.extend(
            net.used()
                .attachments
                .iter()
                .map(|a| Source::AttachmentOnLeaf(*a, leaf)),
        );
        // The other leaves flood to this one, or no longer do.
        self.touched
            .extend(net.used().leaves.keys().map(|l| Source::Flood(network, *l)));
        self.touched.insert(Source::Flood(network, leaf));
    }

    /// The same for a network on a host.
    pub(super) fn touch_network_on_host(&mut self, network: NetworkId, host: HostIndex) {
        let Some(net) = self.networks.get(network) else { return };
        self.touched.insert(Source::NetworkOnHost(network, host));
        self.touched.insert(Source::HostNetworkOnLeaf(network, host));
        self.touched.extend(
            net.used()
                .attachments
                .iter()
                .map(|a| Source::AttachmentOnHost(*a, host)),
        );
    }

    /// Touches a network of a router on a leaf that needs or needed the router.
    pub(super) fn touch_routed_on_leaf(&mut self, network: NetworkId, leaf: SwitchIndex) {
        let Some(net) = self.networks.get(network) else { return };
        self.touched.insert(Source::RoutedOnLeaf(network, leaf));
        self.touched.extend(
            net.used()
                .attachments
                .iter()
                .map(|a| Source::AttachmentOnLeaf(*a, leaf)),
        );
    }

    /// Touches a network on every device, after one of its attributes changed.
    pub(super) fn touch_network(&mut self, network: NetworkId) {
        let Some(net) = self.networks.get(network) else { return };
        let (leaves, hosts): (Vec<_>, Vec<_>) = (
            net.used().leaves.keys().copied().collect(),
            net.used().hosts.keys().copied().collect(),
        );
        let routed = net
            .router
            .and_then(|r| self.routers.get(r))
            .map(|r| r.leaves.keys().copied().collect::<Vec<_>>());
        for leaf in leaves {
            self.touch_network_on_leaf(network, leaf);
        }
        for host in hosts {
            self.touch_network_on_host(network, host);
        }
        for leaf in routed.unwrap_or_default() {
            self.touch_routed_on_leaf(network, leaf);
        }
    }
}
