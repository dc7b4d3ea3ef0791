//! Makes the plain values that render functions see, from objects and contributions.

use super::fabric::Fabric;
use super::{HostIndex, Model, NetworkId, SwitchIndex};
use crate::ident::{DeviceIndex, Owner, Source};
use crate::view::{BehindView, FabricPort, PathView, View};

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
            | Source::Behind(s, _)
            | Source::NetworkOnLeaf(_, s)
            | Source::RoutedOnLeaf(_, s)
            | Source::Flood(_, s)
            | Source::AttachmentOnLeaf(_, s) => self.switch_device(s),
            Source::LocalHost(h) | Source::HostNetworkOnLeaf(_, h) => self.switch_device(self.leaf_of(h)?),
            Source::NetworkOnHost(_, h) | Source::AttachmentOnHost(_, h) => self.host_device(h),
        })
    }
}

/// The number of the groups of next hops towards a switch.
fn group_id(to: SwitchIndex) -> u32 {
    to.0 + 1
}

impl Model {
    /// Whether the object of a contribution waits for a number that still means something else on some device. Then no
    /// device gets any of it.
    fn is_held_back(&self, source: Source) -> bool {
        let of_network = |n: NetworkId| self.waits(Owner::Network(n));
        match source {
            Source::Switch(_) | Source::Path(..) | Source::Behind(..) | Source::LocalHost(_) => false,
            Source::NetworkOnLeaf(n, _)
            | Source::RoutedOnLeaf(n, _)
            | Source::Flood(n, _)
            | Source::HostNetworkOnLeaf(n, _)
            | Source::NetworkOnHost(n, _) => of_network(n),
            Source::AttachmentOnLeaf(a, _) | Source::AttachmentOnHost(a, _) => {
                let network = self.attachments.get(a).map(|a| a.network);
                self.waits(Owner::Attachment(a)) || network.is_some_and(of_network)
            }
        }
    }

    /// The view of a contribution; none if there is no reason for the contribution, or if it waits.
    pub fn view(&self, source: Source) -> Option<View<'_>> {
        if self.is_held_back(source) {
            return None;
        }
        let switch = |s| self.fabric.switch_view(s);
        let leaf_of = |h| switch(self.fabric.leaf_of(h)?);
        let host = |h| self.fabric.host_view(h);
        Some(match source {
            Source::Switch(s) => View::Switch(switch(s)?),
            Source::Path(on, to) | Source::Behind(on, to) if on == to => return None,
            Source::Path(on, to) => View::Path(switch(on)?, self.path_view(on, to)?),
            Source::Behind(on, to) => View::Behind(switch(on)?, self.behind_view(to)?),
            Source::LocalHost(h) => View::LocalHost(leaf_of(h)?, host(h)?),
            Source::NetworkOnLeaf(n, s) => {
                let network = self.networks.get(n)?;
                network.used().leaves.get(&s)?;
                View::NetworkOnLeaf(switch(s)?, self.network_view(network))
            }
            Source::RoutedOnLeaf(n, s) => {
                let network = self.networks.get(n)?;
                self.routers.get(network.router?)?.leaves.get(&s)?;
                View::RoutedOnLeaf(switch(s)?, self.network_view(network))
            }
            Source::Flood(n, s) => {
                let network = self.networks.get(n)?;
                network.used().leaves.get(&s)?;
                View::Flood(switch(s)?, self.network_view(network), self.flood_view(network, s)?)
            }
            Source::HostNetworkOnLeaf(n, h) => {
                let network = self.networks.get(n)?;
                network.used().hosts.get(&h)?;
                View::HostNetworkOnLeaf(leaf_of(h)?, host(h)?, self.network_view(network))
            }
            Source::NetworkOnHost(n, h) => {
                let network = self.networks.get(n)?;
                network.used().hosts.get(&h)?;
                View::NetworkOnHost(host(h)?, self.network_view(network))
            }
            Source::AttachmentOnLeaf(a, s) => {
                let attachment = self.attachments.get(a)?;
                let network = self.networks.get(attachment.network)?;
                let bridged = network.used().leaves.contains_key(&s);
                if !bridged {
                    self.routers.get(network.router?)?.leaves.get(&s)?;
                }
                let (network, shown) = (self.network_view(network), self.attachment_view(attachment)?);
                View::AttachmentOnLeaf(switch(s)?, network, shown, bridged)
            }
            Source::AttachmentOnHost(a, h) => {
                let attachment = self.attachments.get(a)?;
                let network = self.networks.get(attachment.network)?;
                network.used().hosts.get(&h)?;
                View::AttachmentOnHost(host(h)?, self.network_view(network), self.attachment_view(attachment)?)
            }
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
        self.fabric.switch(to)?;
        Some(PathView {
            group_id: group_id(to),
            next_hops: self.fabric_ports(on, to),
        })
    }

    fn behind_view(&self, to: SwitchIndex) -> Option<BehindView> {
        let hosts = self.fabric.hosts_under(to).filter_map(|h| self.fabric.host_view(h));
        Some(BehindView {
            group_id: group_id(to),
            destination: self.fabric.switch_view(to)?.vtep.clone(),
            hosts: hosts.map(|h| h.vtep.clone()).collect(),
        })
    }

    /// Contributions that do not depend on tenants.
    pub(super) fn fabric_sources(&self) -> Vec<Source> {
        let switches = || self.fabric.switches().map(|(s, _)| s);
        let mut sources: Vec<Source> = switches().map(Source::Switch).collect();
        let pairs = || switches().flat_map(|a| switches().map(move |b| (a, b)));
        sources.extend(pairs().flat_map(|(a, b)| [Source::Path(a, b), Source::Behind(a, b)]));
        sources.extend(self.fabric.hosts().map(|(h, _)| Source::LocalHost(h)));
        sources
    }

    /// Every contribution for which there is a reason, computed from scratch.
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
