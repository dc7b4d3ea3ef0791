//! Whether a change makes sense; and what it is given that the user left open.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use ipnet::IpNet;
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::{Mac, Name, Vni};
use vfabric_api::intent::{AttachmentSpec, NetworkSpec, Place, RouterSpec, SubnetSpec};
use vfabric_api::service::{Key, Kind, Spec};
use vfabric_api::topology::{IpFamily, OVERLAY_OVERHEAD_V4, OVERLAY_OVERHEAD_V6, Role};

use super::fabric::Node;
use super::object::{At, Network, Stored};
use super::quarantine::Held;
use super::{Model, NetworkId};

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
struct Fields<'a>(&'a str);

impl Fields<'_> {
    fn error(&self, code: ErrorCode, field: &str, value: impl ToString, expected: impl Into<String>) -> ApiError {
        let dot = if self.0.is_empty() || field.is_empty() { "" } else { "." };
        ApiError::field(code, format!("{}{dot}{field}", self.0), value, expected)
    }

    fn invalid(&self, field: &str, value: impl ToString, expected: impl Into<String>) -> ApiError {
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
            (None, Some(vni)) if self.is_free(vni.get()) => vni,
            (None, Some(vni)) => {
                return Err(fields.error(ErrorCode::Taken, "vni", vni, "a VNI that no device holds any more"));
            }
            (None, None) => self.free_vni()?,
        };
        Ok(Stored::Network {
            spec: spec.clone(),
            vni,
        })
    }

    fn free_vni(&self) -> Result<Vni, ApiError> {
        let detail = "every VNI of the pool is in use or waits for devices to let go of it";
        self.vnis
            .find(|vni| self.quarantine.holds(&Held::Vni(vni)))
            .ok_or_else(|| ApiError::new(ErrorCode::Exhausted, detail))
    }

    /// Whether nobody has a VNI, and no device may hold it.
    fn is_free(&self, vni: u32) -> bool {
        !self.vnis.is_used(vni) && !self.quarantine.holds(&Held::Vni(vni))
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
        let vrf = match known.and_then(|r| self.routers.get(r)) {
            Some(router) => router.vrf,
            None => self.free_vni()?,
        };
        Ok(Stored::Router {
            spec: spec.clone(),
            vrf,
        })
    }

    fn check_attachment(&self, fields: &Fields<'_>, key: &Key, spec: &AttachmentSpec) -> Result<Stored, ApiError> {
        let Some((_, network)) = self.known_network(&key.vdc, &spec.network) else {
            return Err(fields.invalid("network", &spec.network, format!("a network of vdc `{}`", key.vdc)));
        };
        let own = self
            .vdcs
            .get(&key.vdc)
            .and_then(|v| v.attachments.get(&key.name))
            .copied();
        let access_id = self.check_place(fields, own, &spec.place)?;
        let leaf = match self.resolve(&key.vdc, spec, access_id) {
            Some((_, super::object::At::Host(host))) => self.fabric.leaf_of(host),
            Some((_, super::object::At::Port { leaf, .. })) => Some(leaf),
            None => None,
        };
        // Without a pair of flood groups the network would not work there.
        if leaf
            .and_then(|l| self.groups.get(l.index()))
            .is_some_and(|g| g.peek(&network.vni.get()).is_none())
        {
            let expected = "a place on or under a leaf that has multicast groups left for another network";
            return Err(fields.error(ErrorCode::Exhausted, "place", &spec.name, expected));
        }
        let mac = spec.mac.unwrap_or_else(|| derived_mac(key, network));
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
            // What it has is kept if it still fits; a new one gets one of each subnet.
            let kept = own
                .and_then(|o| self.attachments.get(o))
                .filter(|a| a.spec.network == spec.network);
            ips = match kept {
                Some(attachment) => attachment.ips.clone(),
                None => self.free_ips(fields, network)?,
            };
        }
        self.check_allowed(fields, spec, network)?;
        Ok(Stored::Attachment {
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

    /// The first address of each subnet that nobody has and no device may hold for somebody else.
    fn free_ips(&self, fields: &Fields<'_>, network: &Network) -> Result<Vec<IpAddr>, ApiError> {
        let free = |subnet: &SubnetSpec| {
            let host_bits = u32::from(subnet.cidr.max_prefix_len() - subnet.cidr.prefix_len());
            let size = 1u128.checked_shl(host_bits).unwrap_or(u128::MAX);
            // As many as are in use or in quarantine can be taken, plus gateway, first and last.
            let tries = size.min((network.ips.len() + self.quarantine.len()) as u128 + 4);
            let base = subnet.cidr.network();
            let at = |offset: u128| match base {
                IpAddr::V4(b) => IpAddr::V4((u32::from(b).wrapping_add(offset as u32)).into()),
                IpAddr::V6(b) => IpAddr::V6((u128::from(b).wrapping_add(offset)).into()),
            };
            let usable = |ip: &IpAddr| {
                let taken = network.ips.contains_key(ip) || self.quarantine.holds(&Held::Ip(network.vni.get(), *ip));
                is_host_address(&subnet.cidr, *ip) && subnet.gateway() != *ip && !taken
            };
            (0..tries).map(|i| at((2 + i) % size)).find(usable)
        };
        let expected = "a subnet with a free address that no device holds any more";
        let full = |s: &SubnetSpec| fields.error(ErrorCode::Exhausted, "ips", s.cidr, expected);
        let subnets = network.spec.subnets.iter();
        subnets.map(|s| free(s).ok_or_else(|| full(s))).collect()
    }

    /// Checks a place; answers the number of the access port, 0 for a host.
    fn check_place(
        &self,
        fields: &Fields<'_>,
        own: Option<super::AttachmentId>,
        place: &Place,
    ) -> Result<u16, ApiError> {
        match place {
            Place::Host { host, netns, interface } => {
                let Some(Node::Host(index)) = self.fabric.node(host) else {
                    return Err(fields.invalid("place.host.host", host, "the name of a host"));
                };
                let plain = |s: &str| s.bytes().all(|b| b.is_ascii_graphic());
                let (length, word) = (interface.len(), interface.as_str());
                if !(1..=MAX_INTERFACE).contains(&length) || !plain(word) || word.contains('/') || word.starts_with('.')
                {
                    let expected = format!("an interface name of 1 to {MAX_INTERFACE} characters without `/`");
                    return Err(fields.invalid("place.host.interface", interface, expected));
                }
                let relative = netns.contains('/') && !netns.starts_with('/');
                if netns.is_empty() || netns.len() > MAX_NETNS || !plain(netns) || relative || netns.starts_with('.') {
                    let expected = "the name of a network namespace, or an absolute path";
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
                let view = self.fabric.switches.get(index.index()).filter(|s| s.role == Role::Leaf);
                let Some(view) = view else {
                    return Err(fields.invalid("place.port.switch", switch, "the name of a leaf"));
                };
                if !view.access_ports.contains(port) {
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
                let numbers = self.access_ids.get(index.index());
                numbers.and_then(|n| n.peek(&(*port, *vlan))).ok_or_else(|| {
                    ApiError::new(
                        ErrorCode::Exhausted,
                        format!("`{switch}` has no number left for another access port"),
                    )
                })
            }
        }
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

/// A locally administered MAC address (IEEE 802c) that the same attachment always gets,
/// unless somebody else in the network has it.
fn derived_mac(key: &Key, network: &Network) -> Mac {
    for attempt in 0u32.. {
        let mut hasher = DefaultHasher::new();
        (key.vdc.as_str(), network.spec.name.as_str(), key.name.as_str(), attempt).hash(&mut hasher);
        let [a, b, c, d, e, ..] = hasher.finish().to_be_bytes();
        let mac = Mac([0x02, a, b, c, d, e]);
        // Never one of the fabric's routers.
        if !network.macs.contains_key(&mac) && mac.0.get(..3) != Some(&[0x02, 0xfa, 0xb0]) {
            return mac;
        }
    }
    Mac([0x02, 0, 0, 0, 0, 1])
}
