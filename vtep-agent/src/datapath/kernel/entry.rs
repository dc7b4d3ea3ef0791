//! Forwarding and neighbour entries.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use vtep_proto::{MacAddress, Vni};

use super::netlink::{Netlink, Request};
use crate::error::NetlinkError;
use crate::object::{bridge_name, vxlan_name};

/// NUD_NOARP | NUD_REACHABLE: to a bridge and to a VXLAN device, a static entry that is not one of the host's own
/// addresses (`bridge fdb add ... static`).
const STATIC: NeighbourState = NeighbourState::Other(0x42);
/// MAC address of the default entry of a VXLAN device.
const ANY_MAC: [u8; 6] = [0; 6];

/// An entry of a forwarding database.
#[derive(Debug, Clone)]
pub(super) struct FdbEntry {
    /// The port, or the VXLAN device.
    pub(super) index: u32,
    pub(super) mac: [u8; 6],
    /// Set in the database of a VXLAN device.
    pub(super) vtep: Option<IpAddr>,
    /// True in the bridge's database, false in the device's own.
    pub(super) of_bridge: bool,
    /// True when it neither ages nor is one of the host's own addresses.
    pub(super) fixed: bool,
    /// True when it was set up by the kernel itself, for an address of a link.
    pub(super) local: bool,
}

impl FdbEntry {
    pub(super) fn is_default(&self) -> bool {
        self.mac == ANY_MAC
    }
}

/// An entry of a neighbour table.
#[derive(Debug, Clone)]
pub(super) struct NeighbourEntry {
    pub(super) index: u32,
    pub(super) ip: IpAddr,
    pub(super) mac: Option<MacAddress>,
    pub(super) router: bool,
}

fn message(family: AddressFamily, index: u32, state: NeighbourState, flags: NeighbourFlags) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family;
    message.header.ifindex = index;
    message.header.state = state;
    message.header.flags = flags;
    message
}

fn family(ip: IpAddr) -> AddressFamily {
    match ip {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn lladdr(mac: [u8; 6]) -> NeighbourAttribute {
    NeighbourAttribute::LinkLayerAddress(mac.to_vec())
}

/// Sends frames for `mac` to `vtep`: an entry of the VXLAN device, and one of the bridge
/// that points at the device (without which requests for it are not answered here).
pub(super) fn set_station(index: u32, vni: Vni, mac: MacAddress, vtep: IpAddr) -> Request {
    let mut entry = message(
        AddressFamily::Bridge,
        index,
        STATIC,
        NeighbourFlags::Own | NeighbourFlags::Controller,
    );
    entry.attributes = vec![lladdr(mac.octets()), NeighbourAttribute::Destination(vtep.into())];
    let what = format!("set fdb entry {mac} to {vtep} on {}", vxlan_name(vni));
    Request::new(
        RouteNetlinkMessage::NewNeighbour(entry),
        NLM_F_CREATE | NLM_F_REPLACE,
        what,
    )
}

/// Undoes [`set_station`]; either may be absent.
pub(super) fn remove_station(index: u32, vni: Vni, mac: MacAddress) -> [Request; 2] {
    [NeighbourFlags::Controller, NeighbourFlags::Own].map(|flags| {
        let mut entry = message(AddressFamily::Bridge, index, NeighbourState::None, flags);
        entry.attributes = vec![lladdr(mac.octets())];
        let what = format!("remove fdb entry {mac} from {}", vxlan_name(vni));
        Request::new(RouteNetlinkMessage::DelNeighbour(entry), 0, what)
    })
}

/// Ties a workload's MAC address to its port.
pub(super) fn set_port_station(index: u32, name: &str, mac: MacAddress) -> Request {
    let mut entry = message(AddressFamily::Bridge, index, STATIC, NeighbourFlags::Controller);
    entry.attributes = vec![lladdr(mac.octets())];
    let what = format!("set fdb entry {mac} on {name}");
    Request::new(
        RouteNetlinkMessage::NewNeighbour(entry),
        NLM_F_CREATE | NLM_F_REPLACE,
        what,
    )
}

/// Removes a MAC address from a port.
pub(super) fn remove_port_station(index: u32, name: &str, mac: [u8; 6]) -> Request {
    let mut entry = message(
        AddressFamily::Bridge,
        index,
        NeighbourState::None,
        NeighbourFlags::Controller,
    );
    entry.attributes = vec![lladdr(mac)];
    Request::new(
        RouteNetlinkMessage::DelNeighbour(entry),
        0,
        format!("remove an fdb entry from {name}"),
    )
}

/// Adds a VTEP to those that get a copy of each frame whose destination has no entry.
pub(super) fn add_flood(index: u32, vni: Vni, vtep: IpAddr) -> Request {
    let mut entry = message(
        AddressFamily::Bridge,
        index,
        NeighbourState::Permanent,
        NeighbourFlags::Own,
    );
    entry.attributes = vec![lladdr(ANY_MAC), NeighbourAttribute::Destination(vtep.into())];
    let what = format!("add flood entry to {vtep} on {}", vxlan_name(vni));
    Request::new(
        RouteNetlinkMessage::NewNeighbour(entry),
        NLM_F_CREATE | NLM_F_APPEND,
        what,
    )
}

/// Undoes [`add_flood`].
pub(super) fn remove_flood(index: u32, vni: Vni, vtep: IpAddr) -> Request {
    let mut entry = message(AddressFamily::Bridge, index, NeighbourState::None, NeighbourFlags::Own);
    entry.attributes = vec![lladdr(ANY_MAC), NeighbourAttribute::Destination(vtep.into())];
    let what = format!("remove flood entry to {vtep} from {}", vxlan_name(vni));
    Request::new(RouteNetlinkMessage::DelNeighbour(entry), 0, what)
}

/// Makes the bridge answer requests for `ip` with `mac`.
pub(super) fn set_neighbour(index: u32, vni: Vni, ip: IpAddr, mac: MacAddress, router: bool) -> Request {
    let flags = if router {
        NeighbourFlags::Router
    } else {
        NeighbourFlags::empty()
    };
    let mut entry = message(family(ip), index, NeighbourState::Permanent, flags);
    entry.attributes = vec![NeighbourAttribute::Destination(ip.into()), lladdr(mac.octets())];
    let what = format!("set neighbour {ip} to {mac} on {}", bridge_name(vni));
    Request::new(
        RouteNetlinkMessage::NewNeighbour(entry),
        NLM_F_CREATE | NLM_F_REPLACE,
        what,
    )
}

/// Undoes [`set_neighbour`].
pub(super) fn remove_neighbour(index: u32, vni: Vni, ip: IpAddr) -> Request {
    let mut entry = message(family(ip), index, NeighbourState::None, NeighbourFlags::empty());
    entry.attributes = vec![NeighbourAttribute::Destination(ip.into())];
    let what = format!("remove neighbour {ip} from {}", bridge_name(vni));
    Request::new(RouteNetlinkMessage::DelNeighbour(entry), 0, what)
}

/// Reads forwarding entries: all, those of one bridge and its ports, or those of one port (its index; 0 for any).
pub(super) fn dump_fdb(netlink: &mut Netlink, bridge: Option<u32>, port: u32) -> Result<Vec<FdbEntry>, NetlinkError> {
    let mut question = message(
        AddressFamily::Bridge,
        port,
        NeighbourState::None,
        NeighbourFlags::empty(),
    );
    question.attributes.extend(bridge.map(NeighbourAttribute::Controller));
    let answers = netlink.dump(RouteNetlinkMessage::GetNeighbour(question), "read fdb entries")?;
    let messages = answers.into_iter().filter_map(new_neighbour);
    Ok(messages.filter_map(|m| fdb_entry(&m)).collect())
}

fn new_neighbour(answer: RouteNetlinkMessage) -> Option<NeighbourMessage> {
    match answer {
        RouteNetlinkMessage::NewNeighbour(message) => Some(message),
        _ => None,
    }
}

/// Reads a forwarding entry from a message about it, whether the entry is new or gone.
pub(super) fn fdb_entry(message: &NeighbourMessage) -> Option<FdbEntry> {
    let (mut mac, mut vtep) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(octets) => mac = octets.as_slice().try_into().ok(),
            NeighbourAttribute::Destination(address) => vtep = ip_address(address),
            _ => {}
        }
    }
    let state = u16::from(message.header.state);
    Some(FdbEntry {
        index: message.header.ifindex,
        mac: mac?,
        vtep,
        of_bridge: !message.header.flags.contains(NeighbourFlags::Own),
        fixed: state & u16::from(NeighbourState::Noarp) != 0,
        local: state == u16::from(NeighbourState::Permanent),
    })
}

fn ip_address(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(a) => Some(IpAddr::V4(*a)),
        NeighbourAddress::Inet6(a) => Some(IpAddr::V6(*a)),
        NeighbourAddress::Other(octets) => {
            let v4 = <[u8; 4]>::try_from(octets.as_slice())
                .ok()
                .map(|o| IpAddr::V4(Ipv4Addr::from(o)));
            v4.or_else(|| {
                <[u8; 16]>::try_from(octets.as_slice())
                    .ok()
                    .map(|o| IpAddr::V6(Ipv6Addr::from(o)))
            })
        }
        _ => None,
    }
}

/// Reads permanent neighbour entries of both families: all, or those of one link.
pub(super) fn dump_neighbours(netlink: &mut Netlink, index: Option<u32>) -> Result<Vec<NeighbourEntry>, NetlinkError> {
    let mut entries = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut question = message(family, 0, NeighbourState::None, NeighbourFlags::empty());
        question.attributes.extend(index.map(NeighbourAttribute::IfIndex));
        let answers = netlink.dump(RouteNetlinkMessage::GetNeighbour(question), "read neighbours")?;
        let permanent = answers.into_iter().filter_map(new_neighbour).filter(is_permanent);
        entries.extend(permanent.filter_map(|m| neighbour_entry(&m)));
    }
    Ok(entries)
}

/// True for an entry that somebody set and the kernel keeps.
pub(super) fn is_permanent(message: &NeighbourMessage) -> bool {
    message.header.state == NeighbourState::Permanent
}

/// Reads a neighbour entry from a message about it, whether the entry is new or gone.
pub(super) fn neighbour_entry(message: &NeighbourMessage) -> Option<NeighbourEntry> {
    let (mut ip, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(address) => ip = ip_address(address),
            NeighbourAttribute::LinkLayerAddress(octets) => {
                mac = octets.as_slice().try_into().ok().and_then(MacAddress::new);
            }
            _ => {}
        }
    }
    let router = message.header.flags.contains(NeighbourFlags::Router);
    Some(NeighbourEntry {
        index: message.header.ifindex,
        ip: ip?,
        mac,
        router,
    })
}
