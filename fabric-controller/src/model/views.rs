//! From objects, and from contributions, to the plain values that render functions see.

use super::fabric::Fabric;
use super::fault::{self, Fault};
use super::object::{At, Attachment, Network};
use super::waiting::Waiter;
use super::{AttachmentId, HostIndex, Model, NetworkId, SwitchIndex};
use crate::ident::DeviceIndex;
use crate::ident::Source;
use crate::view::{
    AccessView, AllowedView, AttachmentView, FabricPort, FloodView, NetworkView, PathView, PlaceView, SubnetView, View,
};

impl Fabric {
    /// The device index of a switch.
    pub fn switch_device(&self, switch: SwitchIndex) -> DeviceIndex {
        DeviceIndex(switch.0)
    }

    /// The device index of a host.
    pub fn host_device(&self, host: HostIndex) -> DeviceIndex {
        DeviceIndex(host.0)
    }

    /// The device that a contribution is for.
    pub fn device_of(&self, source: Source) -> Option<DeviceIndex> {
        Some(match source {
            Source::Switch(s)
            | Source::Path(s, _)
            | Source::NetworkOnLeaf(_, s)
            | Source::RoutedOnLeaf(_, s)
            | Source::Flood(_, s)
            | Source::AttachmentOnLeaf(_, s) => self.switch_device(s),
            Source::LocalHost(h) | Source::HostNetworkOnLeaf(_, h) => self.switch_device(self.leaf_of(h)?),
            Source::NetworkOnHost(_, h) | Source::AttachmentOnHost(_, h) => self.host_device(h),
        })
    }
}

impl Model {
    /// Whether what a contribution is about waits for a number that still means something else somewhere. Then no device
    /// gets any of it.
    fn is_held_back(&self, source: Source) -> bool {
        let of_network = |n: NetworkId| self.waits(Waiter::Network(n));
        match source {
            Source::Switch(_) | Source::Path(..) | Source::LocalHost(_) => false,
            Source::NetworkOnLeaf(n, _)
            | Source::RoutedOnLeaf(n, _)
            | Source::Flood(n, _)
            | Source::HostNetworkOnLeaf(n, _)
            | Source::NetworkOnHost(n, _) => of_network(n),
            Source::AttachmentOnLeaf(a, _) | Source::AttachmentOnHost(a, _) => {
                let network = self.attachments.get(a).map(|a| a.network);
                self.waits(Waiter::Attachment(a)) || network.is_some_and(of_network)
            }
        }
    }

    /// What a contribution is rendered from; none if there is no reason for it, or it waits.
    pub fn view(&self, source: Source) -> Option<View<'_>> {
        if self.is_held_back(source) {
            return None;
        }
        let switch = |s| self.fabric.switch_view(s);
        let leaf_of = |h| switch(self.fabric.leaf_of(h)?);
        let host = |h| self.fabric.host_view(h);
        Some(match source {
            Source::Switch(s) => View::Switch(switch(s)?),
            Source::Path(on, to) if on == to => return None,
            Source::Path(on, to) => View::Path(switch(on)?, self.path_view(on, to)?),
            Source::LocalHost(h) => View::LocalHost(leaf_of(h)?, host(h)?),
            Source::NetworkOnLeaf(n, s) => {
                let network = self.networks.get(n)?;
                network.leaves.get(&s)?;
                View::NetworkOnLeaf(switch(s)?, self.network_view(network))
            }
            Source::RoutedOnLeaf(n, s) => {
                let network = self.networks.get(n)?;
                self.routers.get(network.router?)?.leaves.get(&s)?;
                View::RoutedOnLeaf(switch(s)?, self.network_view(network))
            }
            Source::Flood(n, s) => {
                let network = self.networks.get(n)?;
                network.leaves.get(&s)?;
                View::Flood(switch(s)?, self.network_view(network), self.flood_view(network, s)?)
            }
            Source::HostNetworkOnLeaf(n, h) => {
                let network = self.networks.get(n)?;
                network.hosts.get(&h)?;
                View::HostNetworkOnLeaf(leaf_of(h)?, host(h)?, self.network_view(network))
            }
            Source::NetworkOnHost(n, h) => {
                let network = self.networks.get(n)?;
                network.hosts.get(&h)?;
                View::NetworkOnHost(host(h)?, self.network_view(network))
            }
            Source::AttachmentOnLeaf(a, s) => {
                let attachment = self.attachments.get(a)?;
                let network = self.networks.get(attachment.network)?;
                let bridged = network.leaves.contains_key(&s);
                if !bridged {
                    self.routers.get(network.router?)?.leaves.get(&s)?;
                }
                let (network, shown) = (self.network_view(network), self.attachment_view(attachment)?);
                View::AttachmentOnLeaf(switch(s)?, network, shown, bridged)
            }
            Source::AttachmentOnHost(a, h) => {
                let attachment = self.attachments.get(a)?;
                let network = self.networks.get(attachment.network)?;
                network.hosts.get(&h)?;
                View::AttachmentOnHost(host(h)?, self.network_view(network), self.attachment_view(attachment)?)
            }
        })
    }

    /// A network as render functions see it.
    fn network_view(&self, network: &Network) -> NetworkView {
        NetworkView {
            vni: network.vni,
            vrf: network.router.and_then(|r| self.routers.get(r)).map(|r| r.vrf),
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

    fn attachment_view(&self, attachment: &Attachment) -> Option<AttachmentView> {
        let place = match (&attachment.at, &attachment.spec.place) {
            (At::Host(host), vfabric_api::intent::Place::Host { netns, interface, .. }) => PlaceView::Host {
                host: self.fabric.host_view(*host)?.clone(),
                netns: netns.clone(),
                interface: interface.clone(),
            },
            (At::Port { .. }, _) => PlaceView::Port(self.access_view(attachment)?),
            (At::Host(_), _) => return None,
        };
        Some(AttachmentView {
            id: format!("{}/{}", attachment.vdc, attachment.spec.name),
            mac: attachment.mac,
            ips: attachment.ips.clone(),
            place,
            port_security: attachment.spec.port_security,
            allowed: attachment
                .spec
                .allowed_addresses
                .iter()
                .filter_map(|a| {
                    Some(AllowedView {
                        net: a.net()?,
                        mac: a.mac.unwrap_or(attachment.mac),
                    })
                })
                .collect(),
        })
    }

    fn access_view(&self, attachment: &Attachment) -> Option<AccessView> {
        let At::Port {
            leaf,
            port,
            vlan,
            access_id,
        } = &attachment.at
        else {
            return None;
        };
        let leaf = self.fabric.switch_view(*leaf)?.vtep.clone();
        Some(AccessView {
            leaf,
            port: *port,
            vlan: *vlan,
            access_id: *access_id,
        })
    }

    fn fabric_ports(&self, on: SwitchIndex, to: SwitchIndex) -> Vec<FabricPort> {
        let Some(switch) = self.fabric.switch_view(on) else {
            return Vec::new();
        };
        let ports = self.paths.ports(on, to);
        switch
            .fabric_ports
            .iter()
            .filter(|p| ports.contains(&p.port))
            .cloned()
            .collect()
    }

    fn path_view(&self, on: SwitchIndex, to: SwitchIndex) -> Option<PathView> {
        let behind = self.fabric.hosts_under(to).filter_map(|h| self.fabric.host_view(h));
        Some(PathView {
            group_id: to.0 + 1,
            target: self.fabric.switch_view(to)?.vtep.clone(),
            hosts: behind.map(|h| h.vtep.clone()).collect(),
            next_hops: self.fabric_ports(on, to),
        })
    }

    fn flood_view(&self, network: &Network, on: SwitchIndex) -> Option<FloodView> {
        let number = Some(network.leaves.get(&on)?.group).filter(|group| *group != 0)?;
        let here = |h: &&HostIndex| self.fabric.leaf_of(**h) == Some(on);
        let hosts = network
            .hosts
            .keys()
            .filter(here)
            .filter_map(|h| self.fabric.host_view(*h))
            .cloned()
            .collect();
        let mine = |a: &&AttachmentId| {
            let here = |a: &Attachment| matches!(a.at, At::Port { leaf, .. } if leaf == on);
            let waits = self.waits(Waiter::Attachment(**a)) && !fault::is_on(Fault::FloodsToWaiting);
            self.attachments.get(**a).is_some_and(here) && !waits
        };
        let access = network.attachments.iter().filter(mine);
        let access = access
            .filter_map(|a| self.access_view(self.attachments.get(*a)?))
            .collect();
        let others = network.leaves.keys().filter(|l| **l != on);
        let remote = others.filter_map(|leaf| {
            let ports = self.paths.ports(on, *leaf);
            // Spread over the uplinks by VNI and target; the same answer every time.
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

    /// Contributions that exist because of an attachment.
    fn sources_of_attachment(&self, id: AttachmentId) -> Vec<Source> {
        let Some(network) = self.attachments.get(id).and_then(|a| self.networks.get(a.network)) else {
            return Vec::new();
        };
        let routed = network
            .router
            .and_then(|r| self.routers.get(r))
            .into_iter()
            .flat_map(|r| r.leaves.keys());
        let leaves = network
            .leaves
            .keys()
            .chain(routed)
            .map(|l| Source::AttachmentOnLeaf(id, *l));
        let hosts = network.hosts.keys().map(|h| Source::AttachmentOnHost(id, *h));
        let mut sources: Vec<Source> = leaves.chain(hosts).collect();
        sources.sort_unstable();
        sources.dedup();
        sources
    }

    /// The same for a network.
    fn sources_of_network(&self, id: NetworkId) -> Vec<Source> {
        let Some(network) = self.networks.get(id) else {
            return Vec::new();
        };
        let leaves = network
            .leaves
            .keys()
            .flat_map(|l| [Source::NetworkOnLeaf(id, *l), Source::Flood(id, *l)]);
        let hosts = network
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

    /// Contributions that do not depend on tenants.
    pub(super) fn fabric_sources(&self) -> Vec<Source> {
        let switches = || self.fabric.switches().map(|(s, _)| s);
        let mut sources: Vec<Source> = switches().map(Source::Switch).collect();
        sources.extend(switches().flat_map(|a| switches().map(move |b| Source::Path(a, b))));
        sources.extend(self.fabric.hosts().map(|(h, _)| Source::LocalHost(h)));
        sources
    }

    /// Every contribution there is a reason for, from scratch.
    pub(crate) fn all_sources(&self) -> Vec<Source> {
        let mut sources = Vec::new();
        sources.extend(self.fabric_sources());
        for vdc in self.vdcs.values() {
            sources.extend(vdc.networks.values().flat_map(|n| self.sources_of_network(*n)));
            sources.extend(vdc.attachments.values().flat_map(|a| self.sources_of_attachment(*a)));
        }
        sources
    }
}
