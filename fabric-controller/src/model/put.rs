//! Makes objects be as given, without a check: their indexes, the numbers that they take and give back, and what
//! of them devices see.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use vfabric_api::ident::{Mac, Vni};
use vfabric_api::intent::{AttachmentSpec, NetworkSpec, RouterSpec};
use vfabric_api::service::{Key, Kind};

use super::change::Applied;
use super::fault::{self, Fault};
use super::number::{Number, Uid};
use super::object::{At, Attachment, Network, Router, Stored, Vdc};
use super::pool::Addresses;
use super::waiting::Waiter;
use super::{Model, NetworkId, SwitchIndex};
use crate::ident::DeviceIndex;

/// What an attachment is stored as, but for its key.
struct Given {
    uid: Uid,
    spec: AttachmentSpec,
    mac: Mac,
    ips: Vec<std::net::IpAddr>,
    access_id: u16,
}

impl Model {
    /// Makes an object be as given, whatever it was. What it needs exists, and what it takes is free or in quarantine;
    /// `applied` learns what came and went with it.
    pub fn put(&mut self, key: &Key, next: Option<Stored>, applied: &mut Applied) {
        match (key.kind, next) {
            (Kind::Vdc, Some(Stored::Vdc(spec))) => match self.vdcs.get_mut(&key.vdc) {
                Some(vdc) => vdc.spec = spec,
                None => {
                    let (networks, routers, attachments) = Default::default();
                    let vdc = Vdc {
                        spec,
                        networks,
                        routers,
                        attachments,
                    };
                    self.vdcs.insert(key.vdc.clone(), vdc);
                }
            },
            (Kind::Vdc, _) => {
                self.vdcs.remove(&key.vdc);
            }
            (Kind::Network, Some(Stored::Network { uid, spec, vni })) => self.put_network(key, uid, spec, vni),
            (Kind::Network, _) => self.remove_network(key),
            (Kind::Router, Some(Stored::Router { uid, spec, vrf })) => {
                // Its VRF stays, but it may leave some of its networks.
                self.remove_router(key, applied);
                self.insert_router(key, uid, spec, vrf);
            }
            (Kind::Router, _) => self.remove_router(key, applied),
            (
                Kind::Attachment,
                Some(Stored::Attachment {
                    uid,
                    spec,
                    mac,
                    ips,
                    access_id,
                }),
            ) => {
                let given = Given {
                    uid,
                    spec,
                    mac,
                    ips,
                    access_id,
                };
                self.put_attachment(key, given, applied);
            }
            (Kind::Attachment, _) => self.remove_attachment(key, None, applied),
        }
    }

    pub(super) fn leave(
        &mut self,
        number: Number,
        owner: Uid,
        devices: impl IntoIterator<Item = DeviceIndex>,
        applied: &mut Applied,
    ) {
        let left = self.quarantine.leave(number, owner, devices);
        left.iter().for_each(|l| self.waiting.touch(&l.number));
        applied.left.extend(left);
    }

    /// A VNI has an owner from now on, or has none.
    pub(super) fn own_vni(&mut self, vni: u32, owned: bool) {
        if owned {
            self.vnis.take(vni);
        } else {
            self.vnis.free(vni);
        }
        self.quarantine.own_vni(vni, owned);
    }

    fn put_network(&mut self, key: &Key, uid: Uid, spec: NetworkSpec, vni: Vni) {
        self.own_vni(vni.get(), true);
        let known = self.vdcs.get(&key.vdc).and_then(|v| v.networks.get(&key.name)).copied();
        if let Some(id) = known {
            if let Some(network) = self.networks.get_mut(id) {
                network.pools = pools(&spec, network.ips.keys());
                network.spec = spec;
            }
            self.touch_network(id);
            return;
        }
        let number = vni.get();
        let id = self.networks.insert(Network {
            uid,
            vdc: key.vdc.clone(),
            pools: pools(&spec, std::iter::empty()),
            spec,
            vni,
            router: None,
            attachments: Default::default(),
            macs: Default::default(),
            ips: Default::default(),
            leaves: Default::default(),
            hosts: Default::default(),
        });
        let barred = self.barred(uid, [Number::Vni(number)]);
        self.waiting.begin(Waiter::Network(id), barred);
        self.by_vni.insert(number, id);
        if let Some(vdc) = self.vdcs.get_mut(&key.vdc) {
            vdc.networks.insert(key.name.clone(), id);
        }
    }

    /// Those of the numbers that their new owner has to wait for.
    fn barred(&self, owner: Uid, numbers: impl IntoIterator<Item = Number>) -> Vec<Number> {
        let missed = |n: &Number| match n {
            Number::Vni(_) => fault::is_on(Fault::VniAtOnce),
            Number::AccessId(..) => fault::is_on(Fault::AccessIdAtOnce),
            _ => false,
        };
        let bars = |n: &Number| self.quarantine.bars(n, owner) && !missed(n) && !fault::is_on(Fault::NobodyWaits);
        numbers.into_iter().filter(bars).collect()
    }

    fn remove_network(&mut self, key: &Key) {
        let id = self.vdcs.get_mut(&key.vdc).and_then(|v| v.networks.remove(&key.name));
        // Only a network without attachments and router is removed: what devices hold of it is in quarantine already.
        if let Some((id, network)) = id.and_then(|id| Some((id, self.networks.remove(id)?))) {
            self.waiting.end(Waiter::Network(id));
            self.by_vni.remove(&network.vni.get());
            self.own_vni(network.vni.get(), false);
        }
    }

    fn insert_router(&mut self, key: &Key, uid: Uid, spec: RouterSpec, vrf: Vni) {
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
            .flat_map(|n| &n.leaves)
        {
            *leaves.entry(*leaf).or_default() += on_leaf.count;
        }
        let router = Router {
            uid,
            vdc: key.vdc.clone(),
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

    fn remove_router(&mut self, key: &Key, applied: &mut Applied) {
        let Some(id) = self.vdcs.get_mut(&key.vdc).and_then(|v| v.routers.remove(&key.name)) else {
            return;
        };
        let networks = self.routers.get(id).map(|r| r.networks.clone()).unwrap_or_default();
        // While the networks still lead to the router, so that all its leaves are touched.
        for network in &networks {
            self.touch_network(*network);
        }
        for network in &networks {
            if let Some(net) = self.networks.get_mut(*network) {
                net.router = None;
            }
        }
        if let Some(router) = self.routers.remove(id) {
            for leaf in router.leaves.keys() {
                self.leave_routed((router.vrf, router.uid), &networks, *leaf, applied);
            }
            self.own_vni(router.vrf.get(), false);
        }
    }

    fn put_attachment(&mut self, key: &Key, given: Given, applied: &mut Applied) {
        let known = self.vdcs.get(&key.vdc).and_then(|v| v.attachments.get(&key.name));
        let before = known.and_then(|id| self.attachments.get(*id));
        let before = before.and_then(|a| Some((a.network, self.leaf_of(a)?, a.at.clone())));
        // Where it was it stays counted until it is counted where it is now: what does not change is not made again.
        if let Some((network, leaf, at)) = &before {
            self.arrive(*network, *leaf, at, applied);
        }
        let attachment = self
            .resolve(&key.vdc, &given.spec, given.access_id)
            .map(|(network, at)| Attachment {
                uid: given.uid,
                vdc: key.vdc.clone(),
                spec: given.spec,
                mac: given.mac,
                ips: given.ips,
                network,
                at,
            });
        self.remove_attachment(key, attachment.as_ref(), applied);
        if let Some(attachment) = attachment {
            self.insert_attachment(key, attachment, applied);
        }
        if let Some((network, leaf, at)) = before {
            self.depart(network, leaf, &at, applied);
        }
    }

    fn insert_attachment(&mut self, key: &Key, attachment: Attachment, applied: &mut Applied) {
        let (network, at) = (attachment.network, attachment.at.clone());
        let Some(leaf) = self.leaf_of(&attachment) else { return };
        let Some(network_uid) = self.networks.get(network).map(|n| n.uid) else {
            return;
        };
        let numbers = attachment
            .place_numbers()
            .into_iter()
            .chain(attachment.address_numbers(network_uid));
        let barred = self.barred(attachment.uid, numbers);
        let (mac, ips) = (attachment.mac, attachment.ips.clone());
        let interface = interface_key(&attachment);
        let id = self.attachments.insert(attachment);
        self.waiting.begin(Waiter::Attachment(id), barred);
        self.at.entry(self.device_at(&at)).or_default().insert(id);
        if let Some(vdc) = self.vdcs.get_mut(&key.vdc) {
            vdc.attachments.insert(key.name.clone(), id);
        }
        match &at {
            At::Host(_) => self.interfaces.extend(interface.map(|i| (i, id))),
            At::Port {
                leaf,
                port,
                vlan,
                access_id,
            } => {
                self.ports.insert((*leaf, *port, *vlan), id);
                if let Some(on) = self.on_switch.get_mut(leaf) {
                    on.access_ids.take((*access_id).into());
                }
            }
        }
        if let Some(net) = self.networks.get_mut(network) {
            net.attachments.insert(id);
            net.macs.insert(mac, id);
            for ip in ips {
                net.ips.insert(ip, id);
                take(&net.spec, &mut net.pools, ip, |ip| net.ips.contains_key(&ip));
            }
        }
        self.arrive(network, leaf, &at, applied);
        self.touch_attachment(id, network);
    }

    /// `next` is what it becomes; none if it goes.
    fn remove_attachment(&mut self, key: &Key, next: Option<&Attachment>, applied: &mut Applied) {
        let Some(id) = self
            .vdcs
            .get_mut(&key.vdc)
            .and_then(|v| v.attachments.remove(&key.name))
        else {
            return;
        };
        let Some(network) = self.attachments.get(id).map(|a| a.network) else {
            return;
        };
        // While it still counts, so that all who know it are touched.
        self.touch_attachment(id, network);
        let knew = self.devices_of(network);
        let Some(attachment) = self.attachments.remove(id) else {
            return;
        };
        self.waiting.end(Waiter::Attachment(id));
        let device = self.device_at(&attachment.at);
        if let Some(all) = self.at.get_mut(&device) {
            all.remove(&id);
            if all.is_empty() {
                self.at.remove(&device);
            }
        }
        let Some(leaf) = self.leaf_of(&attachment) else { return };
        match &attachment.at {
            At::Host(_) => {
                if let Some(interface) = interface_key(&attachment) {
                    self.interfaces.remove(&interface);
                }
            }
            At::Port {
                leaf,
                port,
                vlan,
                access_id,
            } => {
                self.ports.remove(&(*leaf, *port, *vlan));
                if let Some(on) = self.on_switch.get_mut(leaf) {
                    on.access_ids.free((*access_id).into());
                }
            }
        }
        let Some(net) = self.networks.get_mut(network) else {
            return;
        };
        net.attachments.remove(&id);
        net.macs.remove(&attachment.mac);
        for ip in &attachment.ips {
            net.ips.remove(ip);
            give_back(&net.spec, &mut net.pools, *ip);
        }
        let uid = net.uid;
        self.leave_attachment(&attachment, uid, next, &knew, applied);
        self.depart(network, leaf, &attachment.at, applied);
    }

    /// The numbers of an attachment that goes, or becomes `next`, go into quarantine. What it keeps at the same place in
    /// the same network keeps its meaning.
    fn leave_attachment(
        &mut self,
        old: &Attachment,
        network: Uid,
        next: Option<&Attachment>,
        knew: &BTreeSet<DeviceIndex>,
        applied: &mut Applied,
    ) {
        let stays = next.filter(|n| n.network == old.network && n.at == old.at);
        let kept: BTreeSet<Number> = stays
            .into_iter()
            .flat_map(|n| n.place_numbers().into_iter().chain(n.address_numbers(network)))
            .collect();
        let home = self.device_at(&old.at);
        for number in old.place_numbers().into_iter().filter(|n| !kept.contains(n)) {
            self.leave(number, old.uid, [home], applied);
        }
        for number in old.address_numbers(network).filter(|n| !kept.contains(n)) {
            self.leave(number, old.uid, knew.iter().copied(), applied);
        }
    }

    /// The host or leaf of a place.
    pub(super) fn device_at(&self, at: &At) -> DeviceIndex {
        match at {
            At::Host(host) => self.fabric.host_device(*host),
            At::Port { leaf, .. } => self.fabric.switch_device(*leaf),
        }
    }

    /// One more attachment of a network at a place.
    fn arrive(&mut self, network: NetworkId, leaf: SwitchIndex, at: &At, applied: &mut Applied) {
        let Some(net) = self.networks.get(network) else { return };
        let (vni, router) = (net.vni.get(), net.router);
        let first_on_leaf = !net.leaves.contains_key(&leaf);
        let group = if first_on_leaf { self.new_group(leaf, vni) } else { None };
        let Some(net) = self.networks.get_mut(network) else {
            return;
        };
        let on_leaf = net.leaves.entry(leaf).or_insert(super::object::OnLeaf {
            count: 0,
            group: group.unwrap_or(0),
        });
        on_leaf.count += 1;
        let mut first_on_host = None;
        if let At::Host(host) = at {
            let on_host = net.hosts.entry(*host).or_default();
            *on_host += 1;
            first_on_host = (*on_host == 1).then_some(*host);
        }
        if first_on_leaf {
            if let Some(on) = self.on_switch.get_mut(&leaf) {
                on.networks.insert(network);
            }
            applied.groups.push(super::change::GroupChange {
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
        self.touched.insert(crate::ident::Source::Flood(network, leaf));
    }

    /// One attachment less of a network at a place.
    fn depart(&mut self, network: NetworkId, leaf: SwitchIndex, at: &At, applied: &mut Applied) {
        let Some(net) = self.networks.get_mut(network) else {
            return;
        };
        let (uid, vni, router) = (net.uid, net.vni.get(), net.router);
        let gone_from_leaf = net.leaves.get_mut(&leaf).and_then(|on_leaf| {
            on_leaf.count -= 1;
            (on_leaf.count == 0).then_some(on_leaf.group)
        });
        if gone_from_leaf.is_some() {
            net.leaves.remove(&leaf);
        }
        let gone_from_host = match at {
            At::Host(host) => count_down(&mut net.hosts, *host).then_some(*host),
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
            applied.groups.push(super::change::GroupChange {
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
        self.touched.insert(crate::ident::Source::Flood(network, leaf));
    }

    /// A pair of flood groups for a network on a leaf: the one that it had before a restart, or a free one.
    fn new_group(&mut self, leaf: SwitchIndex, vni: u32) -> Option<u16> {
        let restored = self.restored_groups.get(&(leaf, vni)).copied();
        let found = restored.or_else(|| self.free_group(leaf))?;
        if let Some(on) = self.on_switch.get_mut(&leaf) {
            on.groups.take(found.into());
        }
        Some(found)
    }

    /// A leaf no longer needs a router's VRF, nor the networks that it joins for the router's sake.
    fn leave_routed(
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

/// One less; true when it was the last.
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

/// What may exist once on a host.
fn interface_key(a: &Attachment) -> Option<(super::HostIndex, String, String)> {
    match (&a.at, &a.spec.place) {
        (At::Host(host), vfabric_api::intent::Place::Host { netns, interface, .. }) => {
            Some((*host, netns.clone(), interface.clone()))
        }
        _ => None,
    }
}

/// A pool for each subnet, with what is in use taken out.
fn pools<'a>(spec: &NetworkSpec, used: impl Iterator<Item = &'a std::net::IpAddr>) -> Vec<Addresses> {
    let used: BTreeSet<std::net::IpAddr> = used.copied().collect();
    let host_bits = |c: &IpNet| u32::from(c.max_prefix_len() - c.prefix_len());
    let mut pools = spec
        .subnets
        .iter()
        .map(|s| Addresses::new(host_bits(&s.cidr)))
        .collect();
    for ip in &used {
        take(spec, &mut pools, *ip, |ip| used.contains(&ip));
    }
    pools
}

fn take(spec: &NetworkSpec, pools: &mut Vec<Addresses>, ip: std::net::IpAddr, used: impl Fn(std::net::IpAddr) -> bool) {
    for (subnet, pool) in spec.subnets.iter().zip(pools) {
        if let Some(offset) = super::check::offset_in(&subnet.cidr, ip) {
            pool.take(offset, |o| used(super::check::address_at(&subnet.cidr, o)));
        }
    }
}

fn give_back(spec: &NetworkSpec, pools: &mut [Addresses], ip: std::net::IpAddr) {
    for (subnet, pool) in spec.subnets.iter().zip(pools) {
        if let Some(offset) = super::check::offset_in(&subnet.cidr, ip) {
            pool.free(offset);
        }
    }
}
