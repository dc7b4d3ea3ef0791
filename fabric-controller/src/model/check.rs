//! Whether a change makes sense; and what it is given that the user left open.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use ipnet::IpNet;
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::{Mac, Name, PortId, Vni};
use vfabric_api::intent::{AttachmentSpec, NetworkSpec, Place, RouterSpec, SubnetSpec};
use vfabric_api::inventory::ItemState;
use vfabric_api::service::{Key, Kind, Spec};
use vfabric_api::topology::{IpFamily, OVERLAY_OVERHEAD_V4, OVERLAY_OVERHEAD_V6, Role};

use super::fabric::Node;
use super::fault::{self, Fault};
use super::number::{Number, Uid};
use super::object::{At, Network, Stored};
use super::{GREATEST_NUMBER, Model, NetworkId, SwitchIndex};

/// Smallest MTU that IPv4 hosts must accept (RFC 791) and IPv6 links must have (RFC 8200 section 5).
const LEAST_MTU_V4: u16 = 576;
const LEAST_MTU_V6: u16 = 1280;
/// Longest name of a Linux interface.
const MAX_INTERFACE: usize = 15;
/// Longest path of a network namespace (PATH_MAX is far beyond what anybody means).
const MAX_NETNS: usize = 255;

/// Most `allowed_addresses` of one attachment: room for a virtual router and some nested workloads in the tables that
/// every attachment of a leaf shares.
const MAX_ALLOWED: usize = 64;

/// Errors of one object, all about fields below one path.
pub(super) struct Fields<'a>(pub(super) &'a str);

impl Fields<'_> {
    pub(super) fn error(
        &self,
        code: ErrorCode,
        field: &str,
        value: impl ToString,
        expected: impl Into<String>,
    ) -> ApiError {
        let dot = if self.0.is_empty() || field.is_empty() { "" } else { "." };
        ApiError::field(code, format!("{}{dot}{field}", self.0), value, expected)
    }

    pub(super) fn invalid(&self, field: &str, value: impl ToString, expected: impl Into<String>) -> ApiError {
        self.error(ErrorCode::Invalid, field, value, expected)
    }
}

impl Model {
    /// Checks an object and completes it: what it would be stored as.
    pub(super) fn check(&self, path: &str, key: &Key, spec: &Spec) -> Result<Stored, ApiError> {
        let fields = Fields(path);
        if key.kind != Kind::Vdc && !self.vdcs.contains_key(&key.vdc) {
            return Err(ApiError::not_found(Key::vdc(key.vdc.clone())));
        }
        match spec {
            Spec::Vdc(spec) => Ok(Stored::Vdc(spec.clone())),
            Spec::Network(spec) => self.check_network(&fields, key, spec),
            Spec::Router(spec) => self.check_router(&fields, key, spec),
            Spec::Attachment(spec) => self.check_attachment(&fields, key, spec),
        }
    }

    /// Refuses to delete what others use.
    pub(super) fn check_unused(&self, key: &Key) -> Result<(), ApiError> {
        let Some(vdc) = self.vdcs.get(&key.vdc) else {
            return Ok(());
        };
        let user = match key.kind {
            Kind::Vdc => {
                let first = vdc.networks.keys().map(|n| (Kind::Network, n));
                let first = first.chain(vdc.routers.keys().map(|n| (Kind::Router, n))).next();
                first.map(|(kind, n)| Key::new(key.vdc.clone(), kind, n.clone()))
            }
            Kind::Network => vdc
                .networks
                .get(&key.name)
                .and_then(|n| self.networks.get(*n))
                .and_then(|n| {
                    let attachment = n.attachments.first().and_then(|a| self.attachments.get(*a));
                    let router = n.router.and_then(|r| self.routers.get(r));
                    let user = attachment.map(|a| (Kind::Attachment, &a.spec.name));
                    let (kind, name) = user.or(router.map(|r| (Kind::Router, &r.spec.name)))?;
                    Some(Key::new(key.vdc.clone(), kind, name.clone()))
                }),
            Kind::Router | Kind::Attachment => None,
        };
        match user {
            Some(user) => Err(ApiError::new(
                ErrorCode::InUse,
                format!("{key} is still used by {user}"),
            )),
            None => Ok(()),
        }
    }

    fn known_network(&self, vdc: &Name, name: &Name) -> Option<(NetworkId, &Network)> {
        let id = *self.vdcs.get(vdc)?.networks.get(name)?;
        Some((id, self.networks.get(id)?))
    }

    fn check_network(&self, fields: &Fields<'_>, key: &Key, spec: &NetworkSpec) -> Result<Stored, ApiError> {
        let overhead = match self.fabric.view.vxlan_underlay {
            IpFamily::Ipv4 => OVERLAY_OVERHEAD_V4,
            IpFamily::Ipv6 => OVERLAY_OVERHEAD_V6,
        };
        let has_v6 = spec.subnets.iter().any(|s| matches!(s.cidr, IpNet::V6(_)));
        let least = if has_v6 { LEAST_MTU_V6 } else { LEAST_MTU_V4 };
        let most = self.fabric.view.mtu - overhead;
        if !(least..=most).contains(&spec.mtu) {
            return Err(fields.invalid("mtu", spec.mtu, format!("{least} to {most} octets")));
        }
        for (i, subnet) in spec.subnets.iter().enumerate() {
            check_subnet(fields, i, subnet)?;
            for (j, other) in spec.subnets.iter().take(i).enumerate() {
                if overlap(&subnet.cidr, &other.cidr) {
                    let expected = format!("a subnet that does not overlap subnets[{j}] ({})", other.cidr);
                    return Err(fields.invalid(&format!("subnets[{i}].cidr"), subnet.cidr, expected));
                }
            }
        }
        let known = self.known_network(&key.vdc, &key.name);
        if let Some((id, network)) = known {
            self.check_network_in_use(fields, id, network, spec)?;
        }
        let vni = match (known, spec.vni) {
            (Some((_, network)), None) => network.vni,
            (Some((_, network)), Some(vni)) if vni == network.vni => vni,
            (Some((_, network)), Some(vni)) => {
                return Err(fields.invalid("vni", vni, format!("{}, which cannot be changed", network.vni)));
            }
            // One in quarantine is accepted: the network waits for it.
            (None, Some(vni)) if !self.vnis.is_used(vni.get()) => vni,
            (None, Some(vni)) => {
                let expected = "a VNI that no network and no router has";
                return Err(fields.error(ErrorCode::Taken, "vni", vni, expected));
            }
            (None, None) => self.free_vni(key)?,
        };
        Ok(Stored::Network {
            uid: known.map_or(Uid(self.next_uid), |(_, network)| network.uid),
            spec: spec.clone(),
            vni,
        })
    }

    fn free_vni(&self, key: &Key) -> Result<Vni, ApiError> {
        let detail = || {
            let pool = &self.fabric.settings.vni_pool;
            format!(
                "{key} cannot be added: each of the {} VNIs of the pool ({} to {}) is in use or waits for devices to let \
                 go of it",
                self.vnis.size(),
                pool.first,
                pool.last
            )
        };
        self.vnis
            .find(|vni| self.quarantine.holds(&Number::Vni(vni)) && !fault::is_on(Fault::VniAtOnce))
            .and_then(|vni| Vni::try_from(vni).ok())
            .ok_or_else(|| ApiError::new(ErrorCode::Exhausted, detail()))
    }

    /// A network that changes while it has attachments or a router.
    fn check_network_in_use(
        &self,
        fields: &Fields<'_>,
        id: NetworkId,
        network: &Network,
        spec: &NetworkSpec,
    ) -> Result<(), ApiError> {
        for ip in network.ips.keys() {
            let stays = spec.subnets.iter().any(|s| s.cidr.contains(ip) && s.gateway() != *ip);
            if !stays {
                let expected = format!("subnets in which {ip}, an attachment's address, is no gateway");
                return Err(fields.error(ErrorCode::InUse, "subnets", list(&spec.subnets), expected));
            }
        }
        let router = network.router.and_then(|r| self.routers.get(r));
        for other in router.into_iter().flat_map(|r| &r.networks).filter(|n| **n != id) {
            let Some(other) = self.networks.get(*other) else {
                continue;
            };
            disjoint(fields, "subnets", spec, &other.spec)?;
        }
        Ok(())
    }

    fn check_router(&self, fields: &Fields<'_>, key: &Key, spec: &RouterSpec) -> Result<Stored, ApiError> {
        let known = self.vdcs.get(&key.vdc).and_then(|v| v.routers.get(&key.name)).copied();
        let mut joined: Vec<&Network> = Vec::new();
        let mut seen = HashSet::new();
        for (i, name) in spec.networks.iter().enumerate() {
            let field = format!("networks[{i}]");
            let Some((id, network)) = self.known_network(&key.vdc, name) else {
                return Err(fields.invalid(&field, name, format!("a network of vdc `{}`", key.vdc)));
            };
            if !seen.insert(id) {
                return Err(fields.invalid(&field, name, "each network once"));
            }
            if let Some(other) = network
                .router
                .filter(|r| Some(*r) != known)
                .and_then(|r| self.routers.get(r))
            {
                let expected = format!("a network that router `{}` does not join", other.spec.name);
                return Err(fields.error(ErrorCode::Taken, &field, name, expected));
            }
            for other in &joined {
                disjoint(fields, &field, &network.spec, &other.spec)?;
            }
            joined.push(network);
        }
        let (uid, vrf) = match known.and_then(|r| self.routers.get(r)) {
            Some(router) => (router.uid, router.vrf),
            None => (Uid(self.next_uid), self.free_vni(key)?),
        };
        Ok(Stored::Router {
            uid,
            spec: spec.clone(),
            vrf,
        })
    }

    fn check_attachment(&self, fields: &Fields<'_>, key: &Key, spec: &AttachmentSpec) -> Result<Stored, ApiError> {
        let Some((network_id, network)) = self.known_network(&key.vdc, &spec.network) else {
            return Err(fields.invalid("network", &spec.network, format!("a network of vdc `{}`", key.vdc)));
        };
        let own = self
            .vdcs
            .get(&key.vdc)
            .and_then(|v| v.attachments.get(&key.name))
            .copied();
        let access_id = self.check_place(fields, own, network_id, &spec.place)?;
        let leaf = match self.resolve(&key.vdc, spec, access_id) {
            Some((_, At::Host(host))) => self.fabric.leaf_of(host),
            Some((_, At::Port { leaf, .. })) => Some(leaf),
            None => None,
        };
        // Without a pair of flood groups the network would not work there.
        if leaf.is_some_and(|l| !network.leaves.contains_key(&l) && self.free_group(l).is_none()) {
            let leaf = leaf.and_then(|l| self.fabric.switch_name(l)).unwrap_or_default();
            let expected = format!(
                "a place on or under another leaf: `{leaf}` has all its {GREATEST_NUMBER} pairs of multicast groups in use"
            );
            return Err(fields.error(ErrorCode::Exhausted, "place", &spec.name, expected));
        }
        let before = own.and_then(|o| self.attachments.get(o));
        let uid = before.map_or(Uid(self.next_uid), |a| a.uid);
        // What it has is kept if it stays in its network.
        let kept = before.filter(|a| a.network == network_id);
        let given = || kept.map_or_else(|| self.free_mac(key, uid, network), |a| a.mac);
        let mac = spec.mac.unwrap_or_else(given);
        if !mac.is_unicast() || mac == self.fabric.view.gateway_mac {
            return Err(fields.invalid("mac", mac, "a unicast MAC address other than the gateway's"));
        }
        if network.macs.get(&mac).is_some_and(|owner| Some(*owner) != own) {
            let expected = format!("a MAC address that nobody in network `{}` has", spec.network);
            return Err(fields.error(ErrorCode::Taken, "mac", mac, expected));
        }
        let mut ips: Vec<IpAddr> = Vec::new();
        for (i, ip) in spec.ips.iter().enumerate() {
            check_ip(fields, &format!("ips[{i}]"), *ip, network)?;
            if ips.contains(ip) || network.ips.get(ip).is_some_and(|owner| Some(*owner) != own) {
                let expected = format!("an address that nobody in network `{}` has", spec.network);
                return Err(fields.error(ErrorCode::Taken, &format!("ips[{i}]"), ip, expected));
            }
            ips.push(*ip);
        }
        if ips.is_empty() {
            ips = match kept {
                Some(attachment) => attachment.ips.clone(),
                None => self.free_ips(fields, network)?,
            };
        }
        self.check_allowed(fields, spec, network)?;
        Ok(Stored::Attachment {
            uid,
            spec: spec.clone(),
            mac,
            ips,
            access_id,
        })
    }

    fn check_allowed(&self, fields: &Fields<'_>, spec: &AttachmentSpec, network: &Network) -> Result<(), ApiError> {
        let allowed = &spec.allowed_addresses;
        if allowed.len() > MAX_ALLOWED {
            let expected = format!("at most {MAX_ALLOWED} entries");
            return Err(fields.invalid("allowed_addresses", allowed.len(), expected));
        }
        for (i, entry) in allowed.iter().enumerate() {
            let field = |name: &str| format!("allowed_addresses[{i}].{name}");
            let Some(net) = entry.net() else {
                return Err(fields.invalid(&format!("allowed_addresses[{i}]"), "", "either `ip` or `cidr`"));
            };
            if net.trunc() != net {
                return Err(fields.invalid(&field("cidr"), net, "a prefix with no host bits set"));
            }
            let one = net.prefix_len() == net.max_prefix_len();
            if one && (net.addr().is_multicast() || net.addr().is_unspecified()) {
                return Err(fields.invalid(&field("ip"), net.addr(), "a unicast address"));
            }
            if one && network.spec.subnets.iter().any(|s| s.gateway() == net.addr()) {
                let expected = "an address other than the gateway's";
                return Err(fields.error(ErrorCode::Taken, &field("ip"), net.addr(), expected));
            }
            if let Some(mac) = entry
                .mac
                .filter(|m| !m.is_unicast() || *m == self.fabric.view.gateway_mac)
            {
                return Err(fields.invalid(&field("mac"), mac, "a unicast MAC address other than the gateway's"));
            }
        }
        Ok(())
    }

    /// A fresh address of each subnet: nobody has it, and no device may hold it for somebody else.
    fn free_ips(&self, fields: &Fields<'_>, network: &Network) -> Result<Vec<IpAddr>, ApiError> {
        let free = |(subnet, pool): (&SubnetSpec, &super::pool::Addresses)| {
            let usable = |offset: u128| {
                let ip = address_at(&subnet.cidr, offset);
                let taken = network.ips.contains_key(&ip) || self.quarantine.holds(&Number::Ip(network.uid, ip));
                is_host_address(&subnet.cidr, ip) && subnet.gateway() != ip && !taken
            };
            let found = pool.find(usable).map(|offset| address_at(&subnet.cidr, offset));
            found.ok_or_else(|| fields.error(ErrorCode::Exhausted, "ips", subnet.cidr, self.why_full(network, subnet)))
        };
        network.spec.subnets.iter().zip(&network.pools).map(free).collect()
    }

    /// What would make room in a subnet that is full: names a device that addresses wait for.
    fn why_full(&self, network: &Network, subnet: &SubnetSpec) -> String {
        let waits = self.quarantine.all().find_map(|number| match number {
            Number::Ip(of, ip) if *of == network.uid && subnet.cidr.contains(ip) => {
                let device = self.quarantine.get(number)?.devices().next()?;
                Some((*ip, self.fabric.device_name(device)?))
            }
            _ => None,
        });
        match waits {
            Some((ip, device)) => {
                format!("a subnet with a free address; {ip}, among others, is free when `{device}` has removed it")
            }
            None => "a subnet with a free address".to_owned(),
        }
    }

    /// A locally administered MAC address (IEEE 802c) that nobody in the network has and no device may hold. The first
    /// choice is made from the attachment's name, so that a namesake that comes back has the address that its
    /// neighbours know; others are made from its identity.
    fn free_mac(&self, key: &Key, uid: Uid, network: &Network) -> Mac {
        for attempt in 0u32..=u32::MAX {
            let mut hasher = DefaultHasher::new();
            match attempt {
                0 => (key.vdc.as_str(), network.spec.name.as_str(), key.name.as_str()).hash(&mut hasher),
                _ => (uid, attempt).hash(&mut hasher),
            }
            let [a, b, c, d, e, ..] = hasher.finish().to_be_bytes();
            let mac = Mac([0x02, a, b, c, d, e]);
            let taken = network.macs.contains_key(&mac) || self.quarantine.holds(&Number::Mac(network.uid, mac));
            // Never one of the fabric's routers.
            if !taken && mac.0.get(..3) != Some(&[0x02, 0xfa, 0xb0]) {
                return mac;
            }
        }
        Mac([0x02, 0, 0, 0, 0, 1])
    }

    /// Checks a place in a network; returns the access id, 0 for a host.
    fn check_place(
        &self,
        fields: &Fields<'_>,
        own: Option<super::AttachmentId>,
        network: NetworkId,
        place: &Place,
    ) -> Result<u16, ApiError> {
        match place {
            Place::Host { host, netns, interface } => {
                let Some(Node::Host(index)) = self.fabric.node(host) else {
                    return Err(fields.invalid("place.host.host", host, "the name of a host"));
                };
                self.check_in_service(fields, "place.host.host", Node::Host(index), own)?;
                let plain = |s: &str| s.bytes().all(|b| b.is_ascii_graphic());
                let (length, word) = (interface.len(), interface.as_str());
                if !(1..=MAX_INTERFACE).contains(&length) || !plain(word) || word.contains('/') || word.starts_with('.')
                {
                    let expected = format!("an interface name of 1 to {MAX_INTERFACE} characters without `/`");
                    return Err(fields.invalid("place.host.interface", interface, expected));
                }
                // A path could lead to the host's own namespace.
                let path = netns.contains('/') || netns.starts_with('.');
                if netns.is_empty() || netns.len() > MAX_NETNS || !plain(netns) || path {
                    let expected = "the name of a network namespace in /run/netns, not a path";
                    return Err(fields.invalid("place.host.netns", netns, expected));
                }
                let taken = self.interfaces.get(&(index, netns.clone(), interface.clone()));
                if taken.is_some_and(|owner| Some(*owner) != own) {
                    let expected = format!("an interface that no attachment in `{netns}` on `{host}` has");
                    return Err(fields.error(ErrorCode::Taken, "place.host.interface", interface, expected));
                }
                Ok(0)
            }
            Place::Port { switch, port, vlan } => {
                let Some(Node::Switch(index)) = self.fabric.node(switch) else {
                    return Err(fields.invalid("place.port.switch", switch, "the name of a leaf"));
                };
                let leaf = self.fabric.switch(index).filter(|s| s.spec.role == Role::Leaf);
                let Some(leaf) = leaf else {
                    return Err(fields.invalid("place.port.switch", switch, "the name of a leaf"));
                };
                self.check_in_service(fields, "place.port.switch", Node::Switch(index), own)?;
                if !leaf.spec.access_ports.contains(port) {
                    return Err(fields.invalid("place.port.port", port, format!("an access port of `{switch}`")));
                }
                if let Some(vlan) = vlan.filter(|v| !(1..=4094).contains(v)) {
                    return Err(fields.invalid("place.port.vlan", vlan, "a VLAN id from 1 to 4094"));
                }
                if self
                    .ports
                    .get(&(index, *port, *vlan))
                    .is_some_and(|owner| Some(*owner) != own)
                {
                    let expected = format!("a port and VLAN of `{switch}` that no attachment has");
                    return Err(fields.error(ErrorCode::Taken, "place.port", port, expected));
                }
                self.access_id_at(own, network, (index, *port, *vlan)).ok_or_else(|| {
                    ApiError::new(
                        ErrorCode::Exhausted,
                        format!(
                            "`{switch}` has all its {GREATEST_NUMBER} access ids in use: none is left for port {port}"
                        ),
                    )
                })
            }
        }
    }

    /// A new attachment, or one that moves, goes where devices are in service.
    fn check_in_service(
        &self,
        fields: &Fields<'_>,
        field: &str,
        node: Node,
        own: Option<super::AttachmentId>,
    ) -> Result<(), ApiError> {
        let stays = own.and_then(|o| self.attachments.get(o));
        if stays.is_some_and(|a| self.device_at(&a.at) == node.device()) {
            return Ok(());
        }
        match self.fabric.state_of(node) {
            Some((ItemState::InService, false)) => Ok(()),
            state => {
                let state = state.map(|(state, _)| state).unwrap_or(ItemState::Leaving);
                let name = self.fabric.device_name(node.device()).unwrap_or_default();
                let expected = format!("a place that is in service; this one is {state}");
                Err(fields.error(ErrorCode::InUse, field, name, expected))
            }
        }
    }

    /// The access id that an attachment has if it stays where it is, in its network; a free one otherwise: at another
    /// place the id would be something else to frames under way.
    fn access_id_at(
        &self,
        own: Option<super::AttachmentId>,
        network: NetworkId,
        place: (SwitchIndex, PortId, Option<u16>),
    ) -> Option<u16> {
        let own = own
            .and_then(|o| self.attachments.get(o))
            .filter(|a| a.network == network);
        match own.map(|a| &a.at) {
            Some(At::Port {
                leaf,
                port,
                vlan,
                access_id,
            }) if (*leaf, *port, *vlan) == place || (*leaf == place.0 && fault::is_on(Fault::AccessIdMoves)) => {
                Some(*access_id)
            }
            _ => self.free_access_id(place.0),
        }
    }

    /// An attachment on an access port, whatever its VLAN.
    pub(super) fn attachment_on_port(&self, leaf: SwitchIndex, port: PortId) -> Option<Key> {
        let all = self.at.get(&self.fabric.switch_device(leaf)).into_iter().flatten();
        let mut found = all.filter_map(|a| self.attachments.get(*a));
        let user = found.find(|a| matches!(a.at, At::Port { port: p, .. } if p == port))?;
        Some(Key::new(user.vdc.clone(), Kind::Attachment, user.spec.name.clone()))
    }

    /// Resolves where an attachment is and in which network; none if that is gone.
    pub(super) fn resolve(&self, vdc: &Name, spec: &AttachmentSpec, access_id: u16) -> Option<(NetworkId, At)> {
        let (network, _) = self.known_network(vdc, &spec.network)?;
        let at = match &spec.place {
            Place::Host { host, .. } => match self.fabric.node(host)? {
                Node::Host(host) => At::Host(host),
                Node::Switch(_) => return None,
            },
            Place::Port { switch, port, vlan } => match self.fabric.node(switch)? {
                Node::Switch(leaf) => At::Port {
                    leaf,
                    port: *port,
                    vlan: *vlan,
                    access_id,
                },
                Node::Host(_) => return None,
            },
        };
        Some((network, at))
    }
}

fn list(subnets: &[SubnetSpec]) -> String {
    subnets.iter().map(|s| s.cidr.to_string()).collect::<Vec<_>>().join(" ")
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

fn disjoint(fields: &Fields<'_>, field: &str, one: &NetworkSpec, other: &NetworkSpec) -> Result<(), ApiError> {
    for a in &one.subnets {
        if let Some(b) = other.subnets.iter().find(|b| overlap(&a.cidr, &b.cidr)) {
            let expected = format!("subnets that do not overlap {} of network `{}`", b.cidr, other.name);
            return Err(fields.invalid(field, a.cidr, expected));
        }
    }
    Ok(())
}

fn check_subnet(fields: &Fields<'_>, i: usize, subnet: &SubnetSpec) -> Result<(), ApiError> {
    let field = |name: &str| format!("subnets[{i}].{name}");
    let cidr = subnet.cidr;
    if cidr.trunc() != cidr {
        return Err(fields.invalid(
            &field("cidr"),
            cidr,
            format!("a prefix without host bits, such as {}", cidr.trunc()),
        ));
    }
    // A subnet holds its gateway and at least one workload.
    let longest = cidr.max_prefix_len() - 2;
    if cidr.prefix_len() > longest || cidr.prefix_len() == 0 {
        return Err(fields.invalid(&field("cidr"), cidr, format!("a prefix length from 1 to {longest}")));
    }
    let base = cidr.network();
    if base.is_multicast() || base.is_loopback() || base.is_unspecified() {
        return Err(fields.invalid(&field("cidr"), cidr, "unicast addresses"));
    }
    if let IpAddr::V6(v6) = base
        && v6.is_unicast_link_local()
    {
        return Err(fields.invalid(&field("cidr"), cidr, "addresses that are not link-local"));
    }
    let gateway = subnet.gateway();
    if !is_host_address(&cidr, gateway) {
        return Err(fields.invalid(&field("gateway"), gateway, format!("a host address in {cidr}")));
    }
    Ok(())
}

/// Inside the prefix, and neither its first address nor, with IPv4, its last.
fn is_host_address(cidr: &IpNet, ip: IpAddr) -> bool {
    cidr.contains(&ip) && ip != cidr.network() && (ip.is_ipv6() || ip != cidr.broadcast())
}

fn check_ip(fields: &Fields<'_>, field: &str, ip: IpAddr, network: &Network) -> Result<(), ApiError> {
    let Some(subnet) = network.spec.subnets.iter().find(|s| is_host_address(&s.cidr, ip)) else {
        let expected = format!("a host address in one of {}", list(&network.spec.subnets));
        return Err(fields.invalid(field, ip, expected));
    };
    if subnet.gateway() == ip {
        return Err(fields.error(ErrorCode::Taken, field, ip, "an address other than the gateway's"));
    }
    Ok(())
}

/// The address at an offset of a prefix.
pub(super) fn address_at(cidr: &IpNet, offset: u128) -> IpAddr {
    match cidr.network() {
        // An offset of a prefix of 32 bits has 32 bits.
        IpAddr::V4(base) => IpAddr::V4(u32::from(base).wrapping_add(offset as u32).into()),
        IpAddr::V6(base) => IpAddr::V6(u128::from(base).wrapping_add(offset).into()),
    }
}

/// The offset of an address in a prefix; none if it lies outside.
pub(super) fn offset_in(cidr: &IpNet, ip: IpAddr) -> Option<u128> {
    match (cidr.network(), ip) {
        _ if !cidr.contains(&ip) => None,
        (IpAddr::V4(base), IpAddr::V4(ip)) => Some(u32::from(ip).wrapping_sub(u32::from(base)).into()),
        (IpAddr::V6(base), IpAddr::V6(ip)) => Some(u128::from(ip).wrapping_sub(u128::from(base))),
        _ => None,
    }
}
