//! Adds, changes and removes entries, with their indexes and views.

use vfabric_api::inventory::{ItemKey, ItemState};
use vfabric_api::topology::{self, Link};

use super::{Fabric, HostEntry, LinkEntry, Node, SwitchEntry, uniques_of_host, uniques_of_link, uniques_of_switch};
use crate::ident::DeviceIndex;
use crate::model::inventory::{StoredHost, StoredSwitch};
use crate::model::number::Uid;
use crate::model::{HostIndex, SwitchIndex};
use crate::topology::LinkIndex;
use crate::view::{FabricPort, HostView, SwitchView, VtepView};

impl Fabric {
    /// Adds or changes a switch.
    pub(in crate::model) fn put_switch(&mut self, at: SwitchIndex, stored: StoredSwitch) {
        self.take_switch(at);
        let StoredSwitch {
            uid,
            vtep_id,
            state,
            gone,
            replaced_s,
            spec,
            ..
        } = stored;
        let key = ItemKey::Switch(spec.name.clone());
        let uniques = uniques_of_switch(&spec).into_iter();
        self.uniques.extend(uniques.map(|(_, u)| (u, key.clone())));
        self.by_name.insert(spec.name.clone(), Node::Switch(at));
        self.number(vtep_id, Node::Switch(at));
        self.enter(DeviceIndex(at.0), state, gone);
        let view = SwitchView {
            name: spec.name.to_string(),
            role: spec.role,
            device_id: spec.device_id,
            vtep: VtepView {
                vtep_id,
                ipv4: spec.loopback_ipv4,
                ipv6: spec.loopback_ipv6,
            },
            router_mac: spec.router_mac(),
            fabric_ports: Vec::new(),
            access_ports: spec.access_ports.clone(),
        };
        let entry = SwitchEntry {
            uid,
            spec,
            vtep_id,
            state,
            gone,
            replaced_s,
            view,
        };
        self.switches.insert(at, entry);
        // Updates the views of it that others have.
        for neighbour in self.neighbours(at) {
            self.find_ports(neighbour);
        }
        self.find_ports(at);
        for host in self.hosts_under(at).collect::<Vec<_>>() {
            let leaf = self.switches.get(&at).map(|s| s.view.vtep.clone());
            if let (Some(host), Some(leaf)) = (self.hosts.get_mut(&host), leaf) {
                host.view.leaf = leaf;
            }
        }
    }

    /// Records the state of a device; the opposite of [`Fabric::forget`].
    fn enter(&mut self, device: DeviceIndex, state: ItemState, gone: bool) {
        if state == ItemState::Leaving {
            self.leaving.insert(device);
        }
        if state == ItemState::Arriving {
            self.arriving.insert(device, None);
        }
        if !gone {
            self.fences.remove(&device);
        }
        self.next_device = self.next_device.max(device.0.saturating_add(1));
    }

    fn number(&mut self, vtep_id: u16, node: Node) {
        if vtep_id != 0 {
            self.vteps.take(vtep_id.into());
            self.by_vtep.insert(vtep_id, node);
        }
    }

    /// Removes a switch; its links and hosts are removed already.
    pub(in crate::model) fn remove_switch(&mut self, at: SwitchIndex) {
        self.take_switch(at);
        self.hosts_under.remove(&at);
        self.links_of.remove(&at);
    }

    fn take_switch(&mut self, at: SwitchIndex) {
        let Some(old) = self.switches.remove(&at) else { return };
        for (_, unique) in uniques_of_switch(&old.spec) {
            self.uniques.remove(&unique);
        }
        self.by_name.remove(&old.spec.name);
        self.forget(DeviceIndex(at.0), old.vtep_id);
    }

    fn forget(&mut self, device: DeviceIndex, vtep_id: u16) {
        self.leaving.remove(&device);
        self.arriving.remove(&device);
        if vtep_id != 0 {
            self.vteps.free(vtep_id.into());
            self.by_vtep.remove(&vtep_id);
        }
    }

    /// Adds or changes a host. False if its leaf does not exist.
    pub(in crate::model) fn put_host(&mut self, at: HostIndex, stored: StoredHost) -> bool {
        let StoredHost {
            uid,
            vtep_id,
            state,
            gone,
            spec,
            ..
        } = stored;
        let Some(Node::Switch(leaf)) = self.node(&spec.uplink.switch) else {
            return false;
        };
        let Some(leaf_view) = self.switches.get(&leaf).map(|s| s.view.vtep.clone()) else {
            return false;
        };
        self.take_host(at);
        let key = ItemKey::Host(spec.name.clone());
        let uniques = uniques_of_host(&spec).into_iter();
        self.uniques.extend(uniques.map(|(_, u)| (u, key.clone())));
        self.by_name.insert(spec.name.clone(), Node::Host(at));
        self.number(vtep_id, Node::Host(at));
        self.enter(DeviceIndex(at.0), state, gone);
        self.hosts_under.entry(leaf).or_default().insert(at);
        let view = HostView {
            name: spec.name.to_string(),
            vtep: VtepView {
                vtep_id,
                ipv4: spec.vtep_ipv4,
                ipv6: spec.vtep_ipv6,
            },
            mac: spec.mac,
            port: spec.uplink.port,
            leaf: leaf_view,
        };
        let entry = HostEntry {
            uid,
            spec,
            vtep_id,
            state,
            gone,
            leaf,
            view,
        };
        self.hosts.insert(at, entry);
        true
    }

    /// Removes a host.
    pub(in crate::model) fn take_host(&mut self, at: HostIndex) {
        let Some(old) = self.hosts.remove(&at) else { return };
        for (_, unique) in uniques_of_host(&old.spec) {
            self.uniques.remove(&unique);
        }
        self.by_name.remove(&old.spec.name);
        self.forget(DeviceIndex(at.0), old.vtep_id);
        if let Some(hosts) = self.hosts_under.get_mut(&old.leaf) {
            hosts.remove(&at);
        }
    }

    /// Adds a link. False if one of its ends does not exist.
    pub(in crate::model) fn put_link(&mut self, at: LinkIndex, uid: Uid, spec: Link) -> bool {
        let end = |end: &topology::PortRef| match self.node(&end.switch)? {
            Node::Switch(s) => Some((s, end.port)),
            Node::Host(_) => None,
        };
        let (Some(a), Some(b)) = (end(&spec.a), end(&spec.b)) else {
            return false;
        };
        let key = ItemKey::link(&spec);
        let uniques = uniques_of_link(&spec).into_iter();
        self.uniques.extend(uniques.map(|(_, u)| (u, key.clone())));
        self.by_key.insert(key, at);
        self.next_link = self.next_link.max(at.0.saturating_add(1));
        let ends = [a, b];
        // The link may have been removed by a transaction that was undone.
        let (up, avoided) = self.removed_links.remove(&at).unwrap_or((true, false));
        let entry = LinkEntry {
            uid,
            spec,
            ends,
            up,
            avoided,
        };
        self.links.insert(at, entry);
        for (switch, _) in ends {
            self.links_of.entry(switch).or_default().insert(at);
            self.find_ports(switch);
        }
        true
    }

    /// Removes a link.
    pub(in crate::model) fn take_link(&mut self, at: LinkIndex) {
        let Some(old) = self.links.remove(&at) else { return };
        self.removed_links.insert(at, (old.up, old.avoided));
        for (_, unique) in uniques_of_link(&old.spec) {
            self.uniques.remove(&unique);
        }
        self.by_key.remove(&ItemKey::link(&old.spec));
        for (switch, _) in old.ends {
            if let Some(links) = self.links_of.get_mut(&switch) {
                links.remove(&at);
            }
            self.find_ports(switch);
        }
    }

    /// Ports of a switch that are cabled to live ones.
    fn find_ports(&mut self, of: SwitchIndex) {
        let links = self.links_of(of).filter_map(|l| self.links.get(&l));
        let port = |link: &LinkEntry| {
            let [a, b] = link.ends;
            let (mine, other) = if a.0 == of { (a, b) } else { (b, a) };
            Some(FabricPort {
                port: mine.1,
                peer_mac: self.switch_view(other.0)?.router_mac,
            })
        };
        let mut ports: Vec<FabricPort> = links.filter_map(port).collect();
        ports.sort_by_key(|p| p.port.get());
        if let Some(switch) = self.switches.get_mut(&of) {
            switch.view.fabric_ports = ports;
        }
    }
}
