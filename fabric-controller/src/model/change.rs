//! Transactions: checked and carried out change by change, undone if one is refused.

use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::{Name, Vni};
use vfabric_api::service::{Change, Committed, Key, Kind};

use super::object::{At, Attachment, Network, Router, Stored, Vdc};
use super::quarantine::Held;
use super::{Model, NetworkId, RouterId, SwitchIndex};
use crate::device::driver::DeviceIndex;

/// What a transaction did, and what has to be stored for it.
#[derive(Debug, Default)]
pub struct Applied {
    /// For the user; its revision is set by the store.
    pub committed: Committed,
    /// Objects as they are now; `None`: gone. Later ones win.
    pub objects: Vec<(Key, Option<Stored>)>,
    /// Flood groups that were given out (`Some`) or taken back, by switch and VNI.
    pub groups: Vec<(SwitchIndex, u32, Option<u16>)>,
    /// VNIs that nobody uses any more.
    pub released: Vec<Vni>,
    /// What was taken from which devices.
    pub left: Vec<(Held, DeviceIndex)>,
    undo: Vec<(Key, Option<Stored>)>,
}

impl Model {
    /// Carries out a transaction in memory.
    ///
    /// # Errors
    /// The first change that is refused, with the path of its field; then nothing changed.
    pub fn apply(&mut self, changes: &[(String, Change)]) -> Result<Applied, ApiError> {
        let mut applied = Applied::default();
        for (path, change) in changes {
            if let Err(error) = self.change(path, change, &mut applied) {
                self.undo(applied);
                return Err(error);
            }
        }
        Ok(applied)
    }

    /// Takes back a transaction that could not be stored.
    pub fn undo(&mut self, applied: Applied) {
        let mut scratch = Applied::default();
        for (key, before) in applied.undo.into_iter().rev() {
            self.put(&key, before, &mut scratch);
        }
        for (switch, vni, number) in applied.groups {
            if number.is_some() && !self.uses_group(switch, vni) {
                self.release_group(switch, vni);
            }
        }
        for (_, object) in applied.objects {
            if let Some(Stored::Network { vni, .. } | Stored::Router { vrf: vni, .. }) = object
                && !self.uses_vni(vni)
            {
                self.vnis.free(vni);
            }
        }
    }

    /// Makes a transaction final once it is stored.
    pub fn settle(&mut self, applied: &Applied, revision: u64) {
        for vni in &applied.released {
            self.vnis.free(*vni);
        }
        for (held, device) in &applied.left {
            self.quarantine.leave(*held, *device, revision);
        }
        for (switch, vni, number) in &applied.groups {
            if number.is_none() && !self.uses_group(*switch, *vni) {
                self.release_group(*switch, *vni);
            }
        }
    }

    fn change(&mut self, path: &str, change: &Change, applied: &mut Applied) -> Result<(), ApiError> {
        let (key, next) = match change {
            Change::Create(vdc, spec) | Change::Replace(vdc, spec) | Change::Put(vdc, spec) => {
                let key = Key::new(vdc.clone(), spec.kind(), spec.name().clone());
                let before = self.stored(&key);
                match (change, &before) {
                    (Change::Replace(..), None) => return Err(ApiError::not_found(&key)),
                    (_, Some(before)) if before.spec() == *spec => {
                        applied.committed.unchanged += 1;
                        return Ok(());
                    }
                    (Change::Create(..), Some(_)) => {
                        let detail = format!("{key} exists already, with another content");
                        return Err(ApiError::new(ErrorCode::AlreadyExists, detail));
                    }
                    _ => {}
                }
                (key.clone(), Some(self.check(path, &key, spec)?))
            }
            Change::Delete(key) => {
                self.stored(key).ok_or_else(|| ApiError::not_found(key))?;
                self.check_unused(key)?;
                (key.clone(), None)
            }
        };
        let before = self.stored(&key);
        let done = match (&before, &next) {
            (None, _) => &mut applied.committed.created,
            (Some(_), Some(_)) => &mut applied.committed.updated,
            (Some(_), None) => &mut applied.committed.deleted,
        };
        done.push(key.clone());
        applied.undo.push((key.clone(), before));
        applied.objects.push((key.clone(), next.clone()));
        self.put(&key, next, applied);
        Ok(())
    }

    /// An object as it would be stored.
    pub fn stored(&self, key: &Key) -> Option<Stored> {
        let vdc = self.vdcs.get(&key.vdc)?;
        Some(match key.kind {
            Kind::Vdc => Stored::Vdc(vdc.spec.clone()),
            Kind::Network => {
                let n = self.networks.get(*vdc.networks.get(&key.name)?)?;
                Stored::Network {
                    spec: n.spec.clone(),
                    vni: n.vni,
                }
            }
            Kind::Router => {
                let r = self.routers.get(*vdc.routers.get(&key.name)?)?;
                Stored::Router {
                    spec: r.spec.clone(),
                    vrf: r.vrf,
                }
            }
            Kind::Attachment => {
                let a = self.attachments.get(*vdc.attachments.get(&key.name)?)?;
                let access_id = match a.at {
                    At::Port { access_id, .. } => access_id,
                    At::Host(_) => 0,
                };
                Stored::Attachment {
                    spec: a.spec.clone(),
                    mac: a.mac,
                    ips: a.ips.clone(),
                    access_id,
                }
            }
        })
    }

    /// Makes an object be as given, whatever it was, without a check. What it needs exists,
    /// and what it takes is free; `Applied` learns what came and went with it.
    pub fn put(&mut self, key: &Key, next: Option<Stored>, applied: &mut Applied) {
        match (key.kind, next) {
            (Kind::Vdc, Some(Stored::Vdc(spec))) => match self.vdcs.get_mut(&key.vdc) {
                Some(vdc) => vdc.spec = spec,
                None => {
                    let (networks, routers, attachments) = Default::default();
                    self.vdcs.insert(
                        key.vdc.clone(),
                        Vdc {
                            spec,
                            networks,
                            routers,
                            attachments,
                        },
                    );
                }
            },
            (Kind::Vdc, _) => {
                self.vdcs.remove(&key.vdc);
            }
            (Kind::Network, Some(Stored::Network { spec, vni })) => self.put_network(key, spec, vni),
            (Kind::Network, _) => self.remove_network(key, applied),
            (Kind::Router, Some(Stored::Router { spec, vrf })) => {
                // Its VRF stays, but it may leave some of its networks.
                let mut before = Applied::default();
                self.remove_router(key, &mut before);
                applied.left.append(&mut before.left);
                self.insert_router(key, spec, vrf);
            }
            (Kind::Router, _) => self.remove_router(key, applied),
            (
                Kind::Attachment,
                Some(Stored::Attachment {
                    spec,
                    mac,
                    ips,
                    access_id,
                }),
            ) => {
                self.remove_attachment(key, applied);
                let Some((network, at)) = self.resolve(&key.vdc, &spec, access_id) else {
                    return;
                };
                let attachment = Attachment {
                    vdc: key.vdc.clone(),
                    spec,
                    mac,
                    ips,
                    network,
                    at,
                };
                self.insert_attachment(key, attachment, applied);
            }
            (Kind::Attachment, _) => self.remove_attachment(key, applied),
        }
    }

    fn put_network(&mut self, key: &Key, spec: vfabric_api::intent::NetworkSpec, vni: Vni) {
        self.vnis.take(vni);
        let known = self.vdcs.get(&key.vdc).and_then(|v| v.networks.get(&key.name)).copied();
        if let Some(id) = known {
            if let Some(network) = self.networks.get_mut(id) {
                network.spec = spec;
            }
            self.touch_network(id);
            return;
        }
        let number = vni.get();
        let id = self.networks.insert(Network {
            vdc: key.vdc.clone(),
            spec,
            vni,
            router: None,
            attachments: Default::default(),
            macs: Default::default(),
            ips: Default::default(),
            leaves: Default::default(),
            hosts: Default::default(),
        });
        self.by_vni.insert(number, id);
        if let Some(vdc) = self.vdcs.get_mut(&key.vdc) {
            vdc.networks.insert(key.name.clone(), id);
        }
    }

    fn remove_network(&mut self, key: &Key, applied: &mut Applied) {
        let id = self.vdcs.get_mut(&key.vdc).and_then(|v| v.networks.remove(&key.name));
        // Only a network without attachments and router is removed: no device holds it.
        if let Some(network) = id.and_then(|id| self.networks.remove(id)) {
            self.by_vni.remove(&network.vni.get());
            applied.released.push(network.vni);
        }
    }

    fn insert_router(&mut self, key: &Key, spec: vfabric_api::intent::RouterSpec, vrf: Vni) {
        self.vnis.take(vrf);
        let Some(vdc) = self.vdcs.get_mut(&key.vdc) else { return };
        let networks: Vec<NetworkId> = spec
            .networks
            .iter()
            .filter_map(|n| vdc.networks.get(n))
            .copied()
            .collect();
        let mut leaves = std::collections::BTreeMap::new();
        for (leaf, count) in networks
            .iter()
            .filter_map(|n| self.networks.get(*n))
            .flat_map(|n| &n.leaves)
        {
            *leaves.entry(*leaf).or_default() += count;
        }
        let router = Router {
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
                self.leave_routed(router.vrf, &networks, *leaf, applied);
            }
            applied.released.push(router.vrf);
        }
    }

    fn insert_attachment(&mut self, key: &Key, attachment: Attachment, applied: &mut Applied) {
        let (network, at) = (attachment.network, attachment.at.clone());
        let Some(leaf) = self.leaf_of(&attachment) else { return };
        let (mac, ips) = (attachment.mac, attachment.ips.clone());
        let interface = interface_key(&attachment);
        let id = self.attachments.insert(attachment);
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
                if let Some(numbers) = self.access_ids.get_mut(leaf.index()) {
                    numbers.restore((*port, *vlan), *access_id);
                }
            }
        }
        let Some(net) = self.networks.get_mut(network) else {
            return;
        };
        net.attachments.insert(id);
        net.macs.insert(mac, id);
        net.ips.extend(ips.into_iter().map(|ip| (ip, id)));
        let on_leaf = net.leaves.entry(leaf).or_default();
        *on_leaf += 1;
        let first_on_leaf = *on_leaf == 1;
        let mut first_on_host = false;
        if let At::Host(host) = &at {
            let on_host = net.hosts.entry(*host).or_default();
            *on_host += 1;
            first_on_host = *on_host == 1;
        }
        let (vni, router) = (net.vni, net.router);
        if first_on_leaf {
            self.networks_on.get_mut(leaf.index()).map(|n| n.insert(network));
            let number = self.groups.get_mut(leaf.index()).and_then(|g| g.get(vni.get()));
            applied.groups.push((leaf, vni.get(), number));
            self.touch_network_on_leaf(network, leaf);
        }
        self.count_on_router(router, leaf, true, applied);
        if let (At::Host(host), true) = (&at, first_on_host) {
            self.touch_network_on_host(network, *host);
        }
        self.touched.insert(crate::engine::Source::Flood(network, leaf));
        self.touch_attachment(id, network);
    }

    fn remove_attachment(&mut self, key: &Key, applied: &mut Applied) {
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
        let Some(leaf) = self.leaf_of(&attachment) else { return };
        match &attachment.at {
            At::Host(_) => {
                if let Some(interface) = interface_key(&attachment) {
                    self.interfaces.remove(&interface);
                }
            }
            At::Port { leaf, port, vlan, .. } => {
                self.ports.remove(&(*leaf, *port, *vlan));
                if let Some(numbers) = self.access_ids.get_mut(leaf.index()) {
                    numbers.release(&(*port, *vlan));
                }
            }
        }
        let Some(net) = self.networks.get_mut(network) else {
            return;
        };
        net.attachments.remove(&id);
        net.macs.remove(&attachment.mac);
        net.ips.retain(|_, owner| *owner != id);
        let last_on_leaf = count_down(&mut net.leaves, leaf);
        let last_on_host = match &attachment.at {
            At::Host(host) => count_down(&mut net.hosts, *host).then_some(*host),
            At::Port { .. } => None,
        };
        let (vni, router) = (net.vni.get(), net.router);
        if let Some(host) = last_on_host {
            applied.left.push((Held::Vni(vni), self.fabric.host_device(host)));
            self.touch_network_on_host(network, host);
        }
        let addresses = attachment.ips.iter().map(|ip| Held::Ip(vni, *ip));
        applied
            .left
            .extend(addresses.flat_map(|ip| knew.iter().map(move |d| (ip, *d))));
        if last_on_leaf {
            applied.left.push((Held::Vni(vni), self.fabric.switch_device(leaf)));
            self.networks_on.get_mut(leaf.index()).map(|n| n.remove(&network));
            applied.groups.push((leaf, vni, None));
            self.touch_network_on_leaf(network, leaf);
        }
        self.count_on_router(router, leaf, false, applied);
        self.touched.insert(crate::engine::Source::Flood(network, leaf));
    }

    /// One attachment of a router's networks more or less on a leaf.
    fn count_on_router(&mut self, router: Option<RouterId>, leaf: SwitchIndex, more: bool, applied: &mut Applied) {
        let Some(router) = router.and_then(|r| self.routers.get_mut(r)) else {
            return;
        };
        let turned = if more {
            let count = router.leaves.entry(leaf).or_default();
            *count += 1;
            *count == 1
        } else {
            count_down(&mut router.leaves, leaf)
        };
        if turned {
            let (vrf, networks) = (router.vrf, router.networks.clone());
            if !more {
                self.leave_routed(vrf, &networks, leaf, applied);
            }
            for network in networks {
                self.touch_routed_on_leaf(network, leaf);
            }
        }
    }

    /// A leaf no longer needs a router's VRF, nor the networks that it joins for its sake.
    fn leave_routed(&self, vrf: Vni, networks: &[NetworkId], leaf: SwitchIndex, applied: &mut Applied) {
        let device = self.fabric.switch_device(leaf);
        let joined = networks.iter().filter_map(|n| self.networks.get(*n)).map(|n| n.vni);
        let vnis = joined.chain([vrf]).map(|vni| (Held::Vni(vni.get()), device));
        applied.left.extend(vnis);
    }

    fn uses_group(&self, switch: SwitchIndex, vni: u32) -> bool {
        let network = self.by_vni.get(&vni).and_then(|n| self.networks.get(*n));
        network.is_some_and(|n| n.leaves.contains_key(&switch))
    }

    fn release_group(&mut self, switch: SwitchIndex, vni: u32) {
        if let Some(numbers) = self.groups.get_mut(switch.index()) {
            numbers.release(&vni);
        }
    }

    /// Whether an object has this VNI; only asked when a transaction is undone.
    fn uses_vni(&self, vni: Vni) -> bool {
        self.vdcs.values().any(|v| {
            v.networks
                .values()
                .any(|n| self.networks.get(*n).is_some_and(|n| n.vni == vni))
                || v.routers
                    .values()
                    .any(|r| self.routers.get(*r).is_some_and(|r| r.vrf == vni))
        })
    }
}

/// One less; true when it was the last.
fn count_down<K: Ord>(counts: &mut std::collections::BTreeMap<K, u32>, key: K) -> bool {
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

/// Keeps names together with the objects of a listing.
pub fn page<'a, T>(
    all: &'a std::collections::BTreeMap<Name, T>,
    after: Option<&Name>,
) -> impl Iterator<Item = (&'a Name, &'a T)> {
    use std::ops::Bound;
    let from = after.map_or(Bound::Unbounded, |a| Bound::Excluded(a.clone()));
    all.range((from, Bound::Unbounded))
}
