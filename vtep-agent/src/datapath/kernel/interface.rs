//! The workload's end of a port. Everything here runs inside the workload's namespace.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use vtep_proto::{Attachment, Route};

use super::link;
use super::netlink::{Netlink, Request};
use super::pauses::Pauses;
use crate::error::NetlinkError;

/// Marks our routes (rtm_protocol), so that they differ from a workload's own. No routing daemon uses this number
/// (iproute2's rt_protos).
const ROUTE_PROTOCOL: RouteProtocol = RouteProtocol::Other(118);
/// Rounds of comparing addresses: removing an IPv4 address takes others of its subnet with
/// it (promote_secondaries is off by default), which the second round puts back.
const ADDRESS_ROUNDS: usize = 2;
/// Longest wait for the kernel to receive for an address.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(3);

/// The workload's end of a port as it is.
#[derive(Debug, Clone, Default)]
pub(super) struct Interface {
    pub(super) index: u32,
    /// Index of the other end, on the host.
    pub(super) peer: Option<u32>,
    pub(super) ours: bool,
    /// Made just now: nobody can have given it addresses or routes.
    is_new: bool,
    mac: Vec<u8>,
    mtu: u32,
    up: bool,
    addresses: BTreeSet<IpNet>,
    routes: BTreeSet<OurRoute>,
}

/// A route that we made, with its metric.
type OurRoute = (Route, u32);

impl Interface {
    /// Reads the interface of that name.
    pub(super) fn read(netlink: &mut Netlink, name: &str) -> Result<Option<Self>, NetlinkError> {
        let Some(mut interface) = Self::read_new(netlink, name)? else {
            return Ok(None);
        };
        interface.is_new = false;
        interface.addresses = addresses(netlink, interface.index)?;
        interface.routes = routes(netlink, interface.index)?;
        Ok(Some(interface))
    }

    /// Reads the interface of that name that was made just now: it has no addresses and no routes.
    pub(super) fn read_new(netlink: &mut Netlink, name: &str) -> Result<Option<Self>, NetlinkError> {
        Ok(link::get(netlink, name)?.map(|link| Self {
            index: link.index,
            peer: link.peer,
            ours: link.is_ours(),
            is_new: true,
            mac: link.mac,
            mtu: link.mtu,
            up: link.up,
            ..Self::default()
        }))
    }

    /// True when it is the other end of the link of that index on the host.
    pub(super) fn is_other_end_of(&self, host: &link::Link) -> bool {
        self.ours && self.peer == Some(host.index) && host.peer == Some(self.index)
    }

    /// True when it is as the attachment asks.
    pub(super) fn is_right(&self, attachment: &Attachment) -> bool {
        self.up
            && self.mac == attachment.mac.octets()
            && self.mtu == attachment.mtu
            && self.addresses == attachment.addresses
            && self.routes == wanted_routes(self.index, attachment)
    }
}

/// Metric of the routes over a link: this number plus the link's index. It is greater than what other programs use (0
/// for IPv4, 1024 for IPv6), so that the workload's own routes come first; and it differs between the links of a
/// workload, so that each may have a default route.
const METRIC: u32 = 0x10000;

fn wanted_routes(index: u32, attachment: &Attachment) -> BTreeSet<OurRoute> {
    let metric = METRIC.saturating_add(index);
    attachment.routes.iter().map(|r| (r.clone(), metric)).collect()
}

/// Makes the interface as the attachment asks, and changes only what differs.
pub(super) fn configure(netlink: &mut Netlink, was: &Interface, attachment: &Attachment) -> Result<(), NetlinkError> {
    let (index, name) = (was.index, attachment.interface.as_str());
    if !was.up {
        prepare_ipv6(name, attachment)?;
    }
    let mac = (was.mac != attachment.mac.octets()).then_some(attachment.mac);
    if mac.is_some() || !was.up || was.mtu != attachment.mtu {
        netlink.request(link::set_interface(index, name, mac, attachment.mtu))?;
    }
    set_addresses(netlink, was, attachment)?;
    let have = match was.is_new {
        true => BTreeSet::new(),
        false => routes(netlink, index)?,
    };
    let wanted = wanted_routes(index, attachment);
    let place = |(route, metric): &OurRoute| (route.destination, *metric);
    let (ours, needed): (BTreeSet<_>, BTreeSet<_>) =
        (have.iter().map(place).collect(), wanted.iter().map(place).collect());
    // Add routes on the link first: another route's next hop may depend on them.
    let mut add: Vec<&OurRoute> = wanted.difference(&have).collect();
    add.sort_by_key(|(r, _)| r.via.is_some());
    let add = add.into_iter().map(|r| {
        let how = if ours.contains(&place(r)) {
            Change::Replace
        } else {
            Change::Add
        };
        (r, how)
    });
    // A route that was replaced need not be removed.
    let remove = have.difference(&wanted).filter(|r| !needed.contains(&place(r)));
    let remove = remove.map(|r| (r, Change::Remove));
    let requests = add.chain(remove).map(|(r, how)| route(index, attachment, r, how));
    netlink
        .batch(requests.collect())
        .into_iter()
        .collect::<Result<Vec<()>, _>>()?;
    Ok(())
}

/// Gives the interface the addresses of the attachment and no others.
fn set_addresses(netlink: &mut Netlink, was: &Interface, attachment: &Attachment) -> Result<(), NetlinkError> {
    let (index, name) = (was.index, attachment.interface.as_str());
    for round in 0..ADDRESS_ROUNDS {
        let have = match was.is_new && round == 0 {
            true => BTreeSet::new(),
            false => addresses(netlink, index)?,
        };
        let add = attachment.addresses.difference(&have);
        let mut requests: Vec<Request> = add.map(|a| add_address(index, name, a)).collect();
        let added = requests.len();
        let remove = have.difference(&attachment.addresses);
        requests.extend(remove.map(|a| remove_address(index, name, a)));
        let removes = requests.len() > added;
        netlink.batch(requests).into_iter().collect::<Result<Vec<()>, _>>()?;
        if !removes {
            break;
        }
    }
    Ok(())
}

/// Waits until the interface receives packets for its IPv6 addresses.
///
/// The kernel acknowledges an address before it receives for it: a work item that runs later adds the local route
/// (`addrconf_dad_work`), even without duplicate address detection. On a busy machine that takes seconds, and what
/// arrives before is dropped.
pub(super) fn await_addresses(netlink: &mut Netlink, attachment: &Attachment) -> Result<(), NetlinkError> {
    let start = Instant::now();
    let ips = attachment.addresses.iter().map(IpNet::addr);
    for ip in ips.filter(IpAddr::is_ipv6) {
        let mut pauses = Pauses::new();
        while !is_received(netlink, ip)? {
            if start.elapsed() > ADDRESS_TIMEOUT {
                return Err(NetlinkError {
                    what: format!("{} does not receive for {ip} yet", attachment.interface),
                    errno: libc::ETIMEDOUT,
                    hint: None,
                });
            }
            pauses.pause();
        }
    }
    Ok(())
}

/// Whether a packet to this address would be delivered here.
fn is_received(netlink: &mut Netlink, ip: IpAddr) -> Result<bool, NetlinkError> {
    let mut question = RouteMessage::default();
    question.header.address_family = family(ip);
    question.header.destination_prefix_length = 128;
    question.attributes.push(RouteAttribute::Destination(ip.into()));
    let answer = netlink.get(
        RouteNetlinkMessage::GetRoute(question),
        &format!("read the route to {ip}"),
    );
    match answer {
        Ok(Some(RouteNetlinkMessage::NewRoute(route))) => Ok(route.header.kind == RouteType::Local),
        Ok(_) => Ok(false),
        // No route at all yet.
        Err(e) if e.errno == libc::ENETUNREACH => Ok(false),
        Err(e) => Err(e),
    }
}

/// How to add a route.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    /// Only if there is none to that destination: an existing one is the workload's own.
    Add,
    /// Replaces one of ours.
    Replace,
    Remove,
}

/// Makes IPv6 addresses usable at once. Duplicate address detection (RFC 4862 section 5.4)
/// has nothing to find: the controller has checked that addresses are used once. Router
/// advertisements could only come from another tenant's workload in the network.
fn prepare_ipv6(interface: &str, attachment: &Attachment) -> Result<(), NetlinkError> {
    let set = |option: &str, value: &str| {
        let path = format!("/proc/sys/net/ipv6/conf/{interface}/{option}");
        match fs::write(&path, value) {
            // A kernel without IPv6 has no such file.
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|e| NetlinkError::io(format!("set {path} to {value}"), &e)),
        }
    };
    set("accept_dad", "0")?;
    set("accept_ra", "0")?;
    if attachment.addresses.iter().any(|a| a.addr().is_ipv6()) {
        set("disable_ipv6", "0")?;
    }
    Ok(())
}

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

fn address_message(index: u32, address: &IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address.addr());
    message.header.prefix_len = address.prefix_len();
    message.header.index = index;
    message.header.scope = AddressScope::Universe;
    message.attributes = vec![
        AddressAttribute::Local(address.addr()),
        AddressAttribute::Address(address.addr()),
    ];
    message
}

fn add_address(index: u32, name: &str, address: &IpNet) -> Request {
    let mut message = address_message(index, address);
    match address {
        IpNet::V4(v4) if v4.prefix_len() < 31 => message.attributes.push(AddressAttribute::Broadcast(v4.broadcast())),
        IpNet::V4(_) => {}
        IpNet::V6(_) => {
            message.header.flags = AddressHeaderFlags::Nodad;
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
    }
    let what = format!("add address {address} to {name}");
    Request::new(
        RouteNetlinkMessage::NewAddress(message),
        NLM_F_CREATE | NLM_F_REPLACE,
        what,
    )
}

fn remove_address(index: u32, name: &str, address: &IpNet) -> Request {
    let message = address_message(index, address);
    Request::new(
        RouteNetlinkMessage::DelAddress(message),
        0,
        format!("remove address {address} from {name}"),
    )
}

/// The addresses of a link, but for the automatic link-local one (RFC 4291 section 2.5.6).
fn addresses(netlink: &mut Netlink, index: u32) -> Result<BTreeSet<IpNet>, NetlinkError> {
    let mut question = AddressMessage::default();
    question.header.index = index;
    let answers = netlink.dump(RouteNetlinkMessage::GetAddress(question), "read addresses")?;
    let address = |answer| {
        let RouteNetlinkMessage::NewAddress(message) = answer else {
            return None;
        };
        let link_scope = message.header.scope == AddressScope::Link && message.header.family == AddressFamily::Inet6;
        if message.header.index != index || link_scope {
            return None;
        }
        // For IPv4 IFA_LOCAL is the own address; IPv6 has IFA_ADDRESS only.
        let local = message.attributes.iter().find_map(|a| match a {
            AddressAttribute::Local(ip) => Some(*ip),
            _ => None,
        });
        let ip = local.or_else(|| {
            message.attributes.iter().find_map(|a| match a {
                AddressAttribute::Address(ip) => Some(*ip),
                _ => None,
            })
        })?;
        IpNet::new(ip, message.header.prefix_len).ok()
    };
    Ok(answers.into_iter().filter_map(address).collect())
}

fn route(index: u32, attachment: &Attachment, (route, metric): &OurRoute, change: Change) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = family(route.destination.addr());
    message.header.destination_prefix_length = route.destination.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = ROUTE_PROTOCOL;
    message.header.kind = RouteType::Unicast;
    message.header.scope = if route.via.is_some() {
        RouteScope::Universe
    } else {
        RouteScope::Link
    };
    if route.destination.prefix_len() > 0 {
        message
            .attributes
            .push(RouteAttribute::Destination(route.destination.addr().into()));
    }
    if let Some(via) = route.via {
        message.attributes.push(RouteAttribute::Gateway(via.into()));
        if !attachment.addresses.iter().any(|a| a.contains(&via)) {
            message.header.flags |= RouteFlags::Onlink;
        }
    }
    message.attributes.push(RouteAttribute::Oif(index));
    message.attributes.push(RouteAttribute::Priority(*metric));
    let (interface, to) = (&attachment.interface, route.destination);
    let flags = match change {
        Change::Add => NLM_F_CREATE | NLM_F_EXCL,
        Change::Replace => NLM_F_CREATE | NLM_F_REPLACE,
        Change::Remove => {
            let what = format!("remove route to {to} from {interface}");
            return Request::new(RouteNetlinkMessage::DelRoute(message), 0, what);
        }
    };
    let what = format!("add route to {to} on {interface}");
    Request::new(RouteNetlinkMessage::NewRoute(message), flags, what)
}

/// Our routes over a link.
fn routes(netlink: &mut Netlink, index: u32) -> Result<BTreeSet<OurRoute>, NetlinkError> {
    let mut found = BTreeSet::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut question = RouteMessage::default();
        question.header.address_family = family;
        question.header.table = RouteHeader::RT_TABLE_MAIN;
        question.attributes.push(RouteAttribute::Oif(index));
        let answers = netlink.dump(RouteNetlinkMessage::GetRoute(question), "read routes")?;
        found.extend(answers.into_iter().filter_map(|answer| read_route(answer, index)));
    }
    Ok(found)
}

fn read_route(answer: RouteNetlinkMessage, index: u32) -> Option<OurRoute> {
    let RouteNetlinkMessage::NewRoute(message) = answer else {
        return None;
    };
    if message.header.protocol != ROUTE_PROTOCOL {
        return None;
    }
    let any: IpAddr = match message.header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        _ => Ipv6Addr::UNSPECIFIED.into(),
    };
    let ip = |address: &RouteAddress| match address {
        RouteAddress::Inet(a) => Some(IpAddr::V4(*a)),
        RouteAddress::Inet6(a) => Some(IpAddr::V6(*a)),
        _ => None,
    };
    let (mut destination, mut via, mut oif, mut metric) = (any, None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(a) => destination = ip(a)?,
            RouteAttribute::Gateway(a) => via = ip(a),
            RouteAttribute::Oif(i) => oif = Some(*i),
            RouteAttribute::Priority(m) => metric = *m,
            _ => {}
        }
    }
    let destination = IpNet::new(destination, message.header.destination_prefix_length).ok()?;
    (oif == Some(index)).then_some((Route { destination, via }, metric))
}
