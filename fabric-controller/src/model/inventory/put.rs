//! Sets an object of the inventory without a check: its entry, paths, released numbers, and the contributions that it
//! touches.

use vfabric_api::inventory::{ItemKey, ItemState};
use vfabric_api::topology::{Role, Topology};

use super::stored::{StoredHost, StoredItem, StoredLink, StoredSwitch};
use crate::ident::DeviceIndex;
use crate::ident::Source;
use crate::model::change::Applied;
use crate::model::fabric::{GREATEST_VTEP, Node};
use crate::model::number::Number;
use crate::model::{HostIndex, Model, OnSwitch, SwitchIndex};
use crate::topology::{LinkIndex, PathChange};

/// The numbers of an object that occur in packets.
pub(super) fn numbers_of(item: &StoredItem, leaf: Option<SwitchIndex>) -> Vec<Number> {
    let mut numbers = Vec::new();
    match item {
        StoredItem::Switch(s) => {
            numbers.push(Number::RouterMac(s.spec.device_id));
            numbers.push(Number::Underlay(s.spec.loopback_ipv4.into()));
            numbers.push(Number::Underlay(s.spec.loopback_ipv6.into()));
            numbers.extend((s.vtep_id != 0).then_some(Number::Vtep(s.vtep_id)));
        }
        StoredItem::Host(h) => {
            numbers.push(Number::Vtep(h.vtep_id));
            numbers.push(Number::Underlay(h.spec.vtep_ipv4.into()));
            numbers.push(Number::Underlay(h.spec.vtep_ipv6.into()));
            numbers.extend(leaf.map(|leaf| Number::HostMac(leaf, h.spec.mac)));
            numbers.extend(leaf.map(|leaf| Number::Port(leaf, h.spec.uplink.port)));
        }
        StoredItem::Fabric(_) | StoredItem::Link(_) => {}
    }
    numbers
}

impl Model {
    /// Adds the objects of a topology, with numbers in the order of the file. These are the numbers that they had
    /// before there was an inventory.
    pub(in crate::model) fn found(&mut self, topology: &Topology) {
        let mut scratch = Applied::default();
        let mut put = |model: &mut Self, item: StoredItem| model.put_item(&item.key(), Some(item), &mut scratch);
        let mut handle = 0u32;
        for spec in &topology.switches {
            let vtep_id = match spec.role {
                Role::Leaf => u16::try_from((handle + 1).min(GREATEST_VTEP)).unwrap_or(0),
                Role::Spine => 0,
            };
            let switch = StoredSwitch {
                uid: self.new_uid(),
                handle,
                vtep_id,
                state: ItemState::InService,
                gone: false,
                replaced_s: 0,
                spec: spec.clone(),
            };
            put(self, StoredItem::Switch(switch));
            handle += 1;
        }
        for spec in &topology.hosts {
            let host = StoredHost {
                uid: self.new_uid(),
                handle,
                vtep_id: u16::try_from((handle + 1).min(GREATEST_VTEP)).unwrap_or(0),
                state: ItemState::InService,
                gone: false,
                spec: spec.clone(),
            };
            put(self, StoredItem::Host(host));
            handle += 1;
        }
        for (handle, spec) in (0..).zip(&topology.links) {
            let link = StoredLink {
                uid: self.new_uid(),
                handle,
                spec: spec.clone(),
            };
            put(self, StoredItem::Link(link));
        }
    }

    /// Sets an object, whatever its earlier state.
    pub fn put_item(&mut self, key: &ItemKey, next: Option<StoredItem>, applied: &mut Applied) {
        let before = self.stored_item(key);
        let leaf = match (key, before.as_ref().or(next.as_ref())) {
            (ItemKey::Host(_), Some(StoredItem::Host(host))) => match self.fabric.node(&host.spec.uplink.switch) {
                Some(Node::Switch(leaf)) => Some(leaf),
                _ => None,
            },
            _ => None,
        };
        let owns = |item: &&StoredItem| item.state().is_wanted();
        let kept: Vec<Number> = next.iter().filter(owns).flat_map(|i| numbers_of(i, leaf)).collect();
        let had = before.iter().filter(owns).flat_map(|i| numbers_of(i, leaf));
        let left: Vec<Number> = had.filter(|n| !kept.contains(n)).collect();
        match (key, next) {
            (ItemKey::Fabric, Some(StoredItem::Fabric(settings))) => {
                self.vnis
                    .set_range(settings.vni_pool.first.get(), settings.vni_pool.last.get());
                let before = std::mem::replace(&mut self.fabric.settings, settings.clone());
                self.fabric.set(settings);
                let rendered = (before.mtu, before.vxlan_underlay, before.gateway_mac);
                let now = &self.fabric.settings;
                if rendered != (now.mtu, now.vxlan_underlay, now.gateway_mac) {
                    self.touched.extend(self.all_sources());
                }
            }
            (ItemKey::Switch(name), next) => {
                let known = match self.fabric.node(name) {
                    Some(Node::Switch(s)) => Some(s),
                    _ => None,
                };
                match (known, next) {
                    (known, Some(StoredItem::Switch(next))) => self.put_switch(known, next),
                    (Some(s), _) => self.remove_switch(s),
                    (None, _) => {}
                }
            }
            (ItemKey::Host(name), next) => {
                let known = match self.fabric.node(name) {
                    Some(Node::Host(h)) => Some(h),
                    _ => None,
                };
                if let Some(h) = known {
                    self.touch_host(h);
                }
                match (known, next) {
                    (_, Some(StoredItem::Host(next))) => {
                        let at = HostIndex(next.handle);
                        self.fabric.put_host(at, next);
                        self.touch_host(at);
                    }
                    (Some(h), _) => self.fabric.take_host(h),
                    (None, _) => {}
                }
            }
            (ItemKey::Link(..), Some(StoredItem::Link(next))) => self.insert_link(next),
            (ItemKey::Link(..), _) => self.remove_link(key, applied),
            (ItemKey::Fabric, _) => {}
        }
        let owner = before.as_ref().map(StoredItem::uid).unwrap_or_default();
        for number in left {
            let holders = self.holders(&number, before.as_ref());
            self.leave(number, owner, holders, applied);
        }
    }

    /// Devices that may hold a number of an object of the inventory.
    fn holders(&self, number: &Number, of: Option<&StoredItem>) -> Vec<DeviceIndex> {
        let own = match of {
            Some(StoredItem::Switch(s)) => Some(DeviceIndex(s.handle)),
            Some(StoredItem::Host(h)) => Some(DeviceIndex(h.handle)),
            _ => None,
        };
        let all = || self.fabric.switches().map(|(s, _)| self.fabric.switch_device(s));
        match number {
            Number::HostMac(leaf, _) | Number::Port(leaf, _) => vec![self.fabric.switch_device(*leaf)],
            _ => all().chain(own).filter(|d| self.fabric.node_of(*d).is_some()).collect(),
        }
    }

    fn put_switch(&mut self, known: Option<SwitchIndex>, next: StoredSwitch) {
        let at = SwitchIndex(next.handle);
        let before = known.and_then(|s| self.fabric.switch(s));
        let drained = next.state == ItemState::Drained;
        // Draining only changes paths.
        let only_drained = before.is_some_and(|b| b.spec == next.spec && b.state.is_live() && next.state.is_live());
        if !only_drained && let Some(s) = known {
            self.touch_switch(s);
        }
        self.fabric.put_switch(at, next);
        if known.is_none() {
            self.paths.add_switch(at);
            self.on_switch.insert(at, OnSwitch::new());
        }
        let changes = self.paths.set_drained(at, drained);
        self.touch_paths(&changes);
        if !only_drained {
            for link in self.fabric.links_of(at).collect::<Vec<_>>() {
                self.update_link(link);
            }
            self.touch_switch(at);
        }
    }

    fn remove_switch(&mut self, at: SwitchIndex) {
        self.touch_switch(at);
        let changes = self.paths.remove_switch(at);
        self.touch_paths(&changes);
        self.on_switch.remove(&at);
        self.fabric.remove_switch(at);
    }

    fn insert_link(&mut self, next: StoredLink) {
        let at = LinkIndex(next.handle);
        if self.fabric.link(at).is_some() || !self.fabric.put_link(at, next.uid, next.spec) {
            return;
        }
        if let Some(ends) = self.fabric.link(at).map(|l| l.ends) {
            self.paths.add_link(at, ends);
            self.touched.extend(ends.map(|(s, _)| Source::Switch(s)));
        }
        self.update_link(at);
    }

    fn remove_link(&mut self, key: &ItemKey, applied: &mut Applied) {
        let Some(at) = self.fabric.link_of(key) else { return };
        let Some((uid, ends)) = self.fabric.link(at).map(|l| (l.uid, l.ends)) else {
            return;
        };
        let changes = self.paths.remove_link(at);
        self.touch_paths(&changes);
        self.fabric.take_link(at);
        for (switch, port) in ends {
            self.touched.insert(Source::Switch(switch));
            let device = self.fabric.switch_device(switch);
            self.leave(Number::Port(switch, port), uid, [device], applied);
        }
    }

    /// Updates the paths to the known state of a link and of its ends.
    fn update_link(&mut self, link: LinkIndex) {
        if let Some((up, avoided)) = self.fabric.link(link).map(|l| (l.up, l.avoided)) {
            self.set_links([(link, up, avoided)]);
        }
    }

    /// Changes the known state of links: for each, whether it may be used, and whether only if there is no other path.
    pub fn set_links(&mut self, links: impl IntoIterator<Item = (LinkIndex, bool, bool)>) -> Vec<PathChange> {
        let mut changes = Vec::new();
        for (link, up, avoided) in links {
            self.fabric.set_used(link, up, avoided);
            let usable = self.fabric.link(link).is_some_and(|l| self.fabric.is_usable(l));
            changes.extend(self.paths.set_link(link, up && usable));
            changes.extend(self.paths.avoid_link(link, avoided));
        }
        changes.sort_unstable();
        changes.dedup();
        self.touch_paths(&changes);
        changes
    }

    /// An object as it is stored.
    pub fn stored_item(&self, key: &ItemKey) -> Option<StoredItem> {
        Some(match key {
            ItemKey::Fabric => StoredItem::Fabric(self.fabric.settings.clone()),
            ItemKey::Switch(name) => {
                let Node::Switch(at) = self.fabric.node(name)? else {
                    return None;
                };
                let entry = self.fabric.switch(at)?;
                StoredItem::Switch(StoredSwitch {
                    uid: entry.uid,
                    handle: at.0,
                    vtep_id: entry.vtep_id,
                    state: entry.state,
                    gone: entry.gone,
                    replaced_s: entry.replaced_s,
                    spec: entry.spec.clone(),
                })
            }
            ItemKey::Host(name) => {
                let Node::Host(at) = self.fabric.node(name)? else {
                    return None;
                };
                let entry = self.fabric.host(at)?;
                StoredItem::Host(StoredHost {
                    uid: entry.uid,
                    handle: at.0,
                    vtep_id: entry.vtep_id,
                    state: entry.state,
                    gone: entry.gone,
                    spec: entry.spec.clone(),
                })
            }
            ItemKey::Link(..) => {
                let at = self.fabric.link_of(key)?;
                let entry = self.fabric.link(at)?;
                StoredItem::Link(StoredLink {
                    uid: entry.uid,
                    handle: at.0,
                    spec: entry.spec.clone(),
                })
            }
        })
    }

    /// Every object, in the order in which they must be loaded.
    pub fn all_items(&self) -> Vec<StoredItem> {
        let switches = self
            .fabric
            .switches()
            .map(|(_, s)| ItemKey::Switch(s.spec.name.clone()));
        let hosts = self.fabric.hosts().map(|(_, h)| ItemKey::Host(h.spec.name.clone()));
        let links = self.fabric.links().map(|(_, l)| ItemKey::link(&l.spec));
        let keys = std::iter::once(ItemKey::Fabric)
            .chain(switches)
            .chain(hosts)
            .chain(links);
        keys.filter_map(|key| self.stored_item(&key)).collect()
    }

    /// An object that cannot be added keeps its numbers: nobody else gets them.
    pub fn reserve_item(&mut self, item: &StoredItem) {
        let vtep_id = match item {
            StoredItem::Switch(s) => s.vtep_id,
            StoredItem::Host(h) => h.vtep_id,
            StoredItem::Fabric(_) | StoredItem::Link(_) => 0,
        };
        if vtep_id != 0 {
            self.fabric.vteps.take(vtep_id.into());
        }
    }

    /// Gone devices were shut out before this revision of the store.
    pub fn restore_fences(&mut self, revision: u64) {
        let items: Vec<_> = self.all_items().into_iter().map(|i| (i.key(), Some(i))).collect();
        self.fence(&items, revision);
    }

    /// Handles of the next device and link, for the store.
    pub fn next_handles(&self) -> (u32, u32) {
        (self.fabric.next_device, self.fabric.next_link)
    }

    /// Handles from these on were never used, as before a restart.
    pub fn restore_handles(&mut self, (device, link): (u32, u32)) {
        self.fabric.next_device = self.fabric.next_device.max(device);
        self.fabric.next_link = self.fabric.next_link.max(link);
    }
}
