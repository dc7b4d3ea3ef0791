//! Links: our requests to the kernel, and how we read its replies.

use std::collections::HashMap;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, BridgePortState, In6AddrGenMode, InfoBridge, InfoBridgePort, InfoData, InfoKind,
    InfoPortData, InfoPortKind, InfoVeth, InfoVxlan, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
    State, VxlanDf,
};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use vtep_proto::{Attachment, MacAddress, Mode, Vni};

use super::netlink::{Netlink, Request};
use super::pauses::Pauses;
use crate::error::NetlinkError;
use crate::object::{Segment, bridge_name, port_name, unknown_name, vxlan_name};

/// Link group of links that this agent made ("vfab"). It is set in the same request that creates
/// a link, so there is no moment at which one of ours could be mistaken for somebody else's.
pub(super) const OWNER_GROUP: u32 = 0x7666_6162;
/// Link group of links that are out of use and about to be deleted ("vfdl").
pub(super) const TRASH_GROUP: u32 = 0x7666_646c;
/// Link group that the next request deletes ("vfdm"): the kernel deletes a whole group at once, which takes little
/// longer than deleting a single link.
pub(super) const DOOMED_GROUP: u32 = 0x7666_646d;
/// Name of a link that is out of use and whose old name is needed; the kernel puts a number in place of `%d`.
const RETIRED: &str = "vfd%d";
/// UDP port of VXLAN (RFC 7348 section 5).
pub(super) const VXLAN_PORT: u16 = 4789;
/// Longest wait for the kernel to act on a new carrier; the kernel does so once a second.
const CARRIER_TIMEOUT: Duration = Duration::from_millis(1500);
/// Up to this many links are read one by one; more are read in one dump.
const FEW_LINKS: usize = 64;
/// Starts the alias of a port; the attachment's id follows.
const ALIAS_PREFIX: &str = "vfabric attachment ";

/// The attributes of a link that this agent needs.
#[derive(Debug, Clone, Default)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) up: bool,
    /// True when it is up and has carrier.
    pub(super) running: bool,
    state: Option<State>,
    pub(super) mtu: u32,
    pub(super) mac: Vec<u8>,
    pub(super) group: u32,
    pub(super) master: Option<u32>,
    /// Index of the other end of a veth pair, in its namespace.
    pub(super) peer: Option<u32>,
    pub(super) kind: Option<InfoKind>,
    pub(super) alias: Option<String>,
    info: Vec<InfoVxlan>,
    bridge: Vec<InfoBridge>,
    port: Vec<InfoBridgePort>,
    no_link_local: bool,
    /// The namespace in which a VXLAN device has its socket, if that is not the device's own namespace.
    link_namespace: Option<i32>,
}

impl Link {
    /// Reads a link from a message.
    pub(super) fn from_message(message: LinkMessage) -> Self {
        let flags = message.header.flags;
        let (up, running) = (
            flags.contains(LinkFlags::Up),
            flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        );
        let mut link = Self {
            index: message.header.index,
            up,
            running,
            ..Self::default()
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::OperState(state) => link.state = Some(state),
                LinkAttribute::Address(mac) => link.mac = mac,
                LinkAttribute::Group(group) => link.group = group,
                LinkAttribute::Controller(index) => link.master = Some(index),
                LinkAttribute::Link(index) => link.peer = Some(index),
                LinkAttribute::LinkNetNsId(id) => link.link_namespace = Some(id),
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
                LinkAttribute::LinkInfo(infos) => link.read_info(infos),
                LinkAttribute::AfSpecUnspec(specs) => link.no_link_local = has_no_link_local(&specs),
                _ => {}
            }
        }
        link
    }

    fn read_info(&mut self, infos: Vec<LinkInfo>) {
        for info in infos {
            match info {
                LinkInfo::Kind(kind) => self.kind = Some(kind),
                LinkInfo::Data(InfoData::Vxlan(data)) => self.info = data,
                LinkInfo::Data(InfoData::Bridge(data)) => self.bridge = data,
                LinkInfo::PortData(InfoPortData::BridgePort(data)) => self.port = data,
                _ => {}
            }
        }
    }

    /// True when this agent made it and has not marked it for deletion.
    pub(super) fn is_ours(&self) -> bool {
        self.group == OWNER_GROUP
    }

    /// True when it is out of use and about to be deleted.
    pub(super) fn is_out_of_use(&self) -> bool {
        matches!(self.group, TRASH_GROUP | DOOMED_GROUP)
    }

    /// The network, if this link is a network's bridge.
    pub(super) fn as_bridge(&self) -> Option<Vni> {
        (self.is_ours() && self.kind == Some(InfoKind::Bridge)).then(|| numbered(&self.name, "vfb"))?
    }

    /// The network, if this link is a network's VXLAN device.
    pub(super) fn as_vxlan(&self) -> Option<Vni> {
        (self.is_ours() && self.kind == Some(InfoKind::Vxlan)).then(|| numbered(&self.name, "vfx"))?
    }

    /// The network, if this link receives a network's frames for unknown stations.
    pub(super) fn as_unknown(&self) -> Option<Vni> {
        (self.is_ours() && self.kind == Some(InfoKind::Ifb)).then(|| numbered(&self.name, "vfu"))?
    }

    /// True when it is the host's end of a port.
    pub(super) fn is_port(&self) -> bool {
        self.is_ours() && self.kind == Some(InfoKind::Veth) && self.name.starts_with("vfa")
    }

    /// The attachment whose port it is, if its alias is already set.
    pub(super) fn attachment_id(&self) -> Option<&str> {
        self.alias.as_deref()?.strip_prefix(ALIAS_PREFIX)
    }

    /// Own address of a VXLAN device.
    pub(super) fn vxlan_local(&self) -> Option<IpAddr> {
        self.info.iter().find_map(|i| match i {
            InfoVxlan::Local(a) => Some(IpAddr::V4(*a)),
            InfoVxlan::Local6(a) => Some(IpAddr::V6(*a)),
            _ => None,
        })
    }

    /// True when the attributes that cannot be changed on an existing VXLAN device are right.
    pub(super) fn vxlan_fits(&self, segment: &Segment, home_id: i32) -> bool {
        let has = |wanted: InfoVxlan| self.info.contains(&wanted);
        self.kind == Some(InfoKind::Vxlan)
            && self.link_namespace == Some(home_id)
            && self.vxlan_local() == segment.local
            && vxlan_options(segment)
                .into_iter()
                .filter(|o| !matches!(o, InfoVxlan::Df(_)))
                .all(has)
    }

    /// True when the bridge is right.
    pub(super) fn bridge_is_right(&self, segment: &Segment) -> bool {
        self.up
            && self.mtu == segment.mtu
            && self.no_link_local
            && self.bridge.contains(&InfoBridge::MulticastSnooping(false))
    }

    /// True when the VXLAN device is right.
    pub(super) fn vxlan_is_right(&self, segment: &Segment, bridge: u32, home_id: i32) -> bool {
        self.up
            && self.mtu == segment.mtu
            && self.no_link_local
            && self.vxlan_fits(segment, home_id)
            && self.master == Some(bridge)
            && vxlan_port_options().iter().all(|o| self.port.contains(o))
    }

    /// True when the link for unknown stations is right; its chain is not checked here.
    pub(super) fn unknown_is_right(&self, segment: &Segment, bridge: u32) -> bool {
        self.up
            && self.mtu == segment.mtu
            && self.no_link_local
            && self.master == Some(bridge)
            && unknown_port_options().iter().all(|o| self.port.contains(o))
    }

    /// True when frames get through.
    pub(super) fn carries(&self) -> bool {
        let forwarding =
            self.port.is_empty() || self.port.contains(&InfoBridgePort::State(BridgePortState::Forwarding));
        self.state == Some(State::Up) && forwarding
    }

    /// True when the host's end of a port is right.
    pub(super) fn port_is_right(&self, attachment: &Attachment, bridge: u32) -> bool {
        self.up
            && self.mtu == attachment.mtu
            && self.no_link_local
            && self.master == Some(bridge)
            && self.attachment_id() == Some(&attachment.id)
            && workload_port_options(attachment).iter().all(|o| self.port.contains(o))
    }
}

/// The VNI in a name made of a prefix and a number.
fn numbered(name: &str, prefix: &str) -> Option<Vni> {
    let digits = name.strip_prefix(prefix)?;
    // This agent never uses a name such as `vfb007`.
    digits
        .parse()
        .ok()
        .and_then(Vni::new)
        .filter(|v| v.to_string() == digits)
}

fn has_no_link_local(specs: &[AfSpecUnspec]) -> bool {
    specs.iter().any(|s| match s {
        AfSpecUnspec::Inet6(inet6) => inet6.contains(&AfSpecInet6::AddrGenMode(In6AddrGenMode::None)),
        _ => false,
    })
}

/// No automatic link-local address: a bridge or its ports must not have an address through which a tenant
/// could reach the host.
fn no_link_local() -> LinkAttribute {
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
        In6AddrGenMode::None,
    )])])
}

/// The attributes with which a VXLAN device is created.
fn vxlan_options(segment: &Segment) -> Vec<InfoVxlan> {
    let mut options = vec![
        InfoVxlan::Id(segment.vni.get()),
        InfoVxlan::Port(VXLAN_PORT),
        // Only the controller says where a station is; the device does not learn it from frames.
        InfoVxlan::Learning(false),
        // Over IPv6 a checksum is computed when sending, but not required when receiving: RFC 6935 section 5 lets a
        // tunnel egress accept zero, which an encapsulating leaf may send.
        InfoVxlan::UDPZeroCsumTX(false),
        InfoVxlan::UDPZeroCsumRX(true),
    ];
    if matches!(segment.local, Some(IpAddr::V4(_))) {
        // RFC 7348 section 5: over IPv4 the checksum should be sent as zero.
        options.push(InfoVxlan::UDPCsum(false));
        // Leaves refuse fragments of outer packets, so never make any.
        options.push(InfoVxlan::Df(VxlanDf::Set));
    }
    options
}

/// Options of the VXLAN device as a port of the bridge. Frames for unknown stations reach it only through the link for
/// these ([`super::unknown`]). Frames from the VXLAN device do not go to that link (isolated), but to all other ports.
fn vxlan_port_options() -> Vec<InfoBridgePort> {
    vec![
        InfoBridgePort::Learning(false),
        InfoBridgePort::NeighSupress(true),
        InfoBridgePort::UnicastFlood(false),
        InfoBridgePort::MulticastFlood(true),
        InfoBridgePort::BroadcastFlood(true),
        InfoBridgePort::Isolated(true),
    ]
}

/// Options of the link for unknown stations: it gets only frames whose receiver the bridge does not know. It does not
/// get ARP requests and neighbour solicitations that the bridge has answered itself (`neigh_suppress`).
fn unknown_port_options() -> Vec<InfoBridgePort> {
    vec![
        InfoBridgePort::Learning(false),
        InfoBridgePort::NeighSupress(true),
        InfoBridgePort::UnicastFlood(true),
        InfoBridgePort::MulticastFlood(false),
        InfoBridgePort::BroadcastFlood(false),
        InfoBridgePort::Isolated(true),
    ]
}

/// Options of a workload's port. The workload may only send from its given MAC address (locked: frames from any other
/// source are dropped), and does not receive frames for others. Further MAC addresses of a workload may move from port
/// to port. So a port with such addresses also receives frames for which the bridge has no entry, and only the filter
/// decides from which addresses its workload may send. A port whose workload is not here receives nothing.
fn workload_port_options(attachment: &Attachment) -> Vec<InfoBridgePort> {
    let further = has_further_macs(attachment);
    let serves = attachment.mode == Mode::Serving;
    vec![
        InfoBridgePort::Learning(false),
        InfoBridgePort::UnicastFlood(further && serves),
        InfoBridgePort::MulticastFlood(serves),
        InfoBridgePort::BroadcastFlood(serves),
        InfoBridgePort::Locked(!further || !serves),
        InfoBridgePort::Isolated(false),
    ]
}

/// True when the port may have stations with other MAC addresses than the attachment's.
pub(super) fn has_further_macs(attachment: &Attachment) -> bool {
    !attachment.port_security || attachment.allowed_addresses.iter().any(|a| a.mac.is_some())
}

fn message(index: u32, attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = attributes;
    message
}

fn up(mut message: LinkMessage) -> LinkMessage {
    message.header.flags |= LinkFlags::Up;
    message.header.change_mask |= LinkFlags::Up;
    message
}

fn named(name: &str) -> LinkAttribute {
    LinkAttribute::IfName(name.to_owned())
}

/// Asks for a link by name.
pub(super) fn get(netlink: &mut Netlink, name: &str) -> Result<Option<Link>, NetlinkError> {
    let question = message(
        0,
        vec![named(name), LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])],
    );
    let answer = netlink.get(RouteNetlinkMessage::GetLink(question), &format!("read link {name}"))?;
    Ok(answer.and_then(into_link))
}

/// Reads links by name. Many links are read in one dump, which also has other links: with a request for each link, each
/// request would wait for all other programs that configure something at that time.
pub(super) fn find(
    netlink: &mut Netlink,
    names: impl Iterator<Item = String>,
) -> Result<HashMap<String, Link>, NetlinkError> {
    let names: Vec<String> = names.collect();
    let found = match names.len() > FEW_LINKS {
        true => dump(netlink, None)?,
        false => {
            let each = names.iter().map(|name| get(netlink, name));
            each.filter_map(Result::transpose).collect::<Result<_, _>>()?
        }
    };
    Ok(found.into_iter().map(|l| (l.name.clone(), l)).collect())
}

/// Asks for a link by index.
pub(super) fn get_by_index(netlink: &mut Netlink, index: u32) -> Result<Option<Link>, NetlinkError> {
    let attributes = vec![LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
    let question = RouteNetlinkMessage::GetLink(message(index, attributes));
    let answer = netlink.get(question, &format!("read link {index}"))?;
    Ok(answer.and_then(into_link))
}

/// Waits until frames get through a link that was brought up.
///
/// The kernel acts on a new carrier in the background ("link watch", at most once a second): only then does a bridge
/// forward from the port, and a queue accept frames. Since Linux 6.8, reading the link makes the kernel act at once;
/// before that, the only way is to read the link repeatedly.
///
/// Without `wait` it reads the link once.
pub(super) fn await_carrier(netlink: &mut Netlink, name: &str, wait: bool) -> Result<(), NetlinkError> {
    let (start, mut pauses) = (Instant::now(), Pauses::new());
    loop {
        if get(netlink, name)?.is_some_and(|l| l.carries()) {
            return Ok(());
        }
        if !wait || start.elapsed() > CARRIER_TIMEOUT {
            return Err(NetlinkError {
                what: format!("{name} does not forward"),
                errno: libc::ETIMEDOUT,
                hint: None,
            });
        }
        pauses.pause();
    }
}

/// Asks for all links, or for the ports of a bridge.
pub(super) fn dump(netlink: &mut Netlink, master: Option<u32>) -> Result<Vec<Link>, NetlinkError> {
    let mut attributes = vec![LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])];
    attributes.extend(master.map(LinkAttribute::Controller));
    let answers = netlink.dump(RouteNetlinkMessage::GetLink(message(0, attributes)), "read links")?;
    Ok(answers.into_iter().filter_map(into_link).collect())
}

fn into_link(answer: RouteNetlinkMessage) -> Option<Link> {
    match answer {
        RouteNetlinkMessage::NewLink(message) => Some(Link::from_message(message)),
        _ => None,
    }
}

/// Creates the bridge of a network. Its MAC address is fixed, because otherwise a bridge takes
/// the lowest of its ports' addresses, and a change of that flushes its neighbour entries. It is
/// random, because nobody in the network should know it.
pub(super) fn create_bridge(segment: &Segment) -> Request {
    let name = bridge_name(segment.vni);
    // Snooping is right only with a querier in every network; flooding is always right.
    let data = InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)]);
    let attributes = vec![
        named(&name),
        LinkAttribute::Group(OWNER_GROUP),
        LinkAttribute::Address(random_mac().to_vec()),
        LinkAttribute::Mtu(segment.mtu),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(data)]),
    ];
    let create = RouteNetlinkMessage::NewLink(message(0, attributes));
    Request::new(create, NLM_F_CREATE | NLM_F_EXCL, format!("create bridge {name}"))
}

/// A random address, locally administered, of a single station.
fn random_mac() -> [u8; 6] {
    let mut mac: [u8; 6] = rand::random();
    mac[0] = (mac[0] & 0xfc) | 0x02;
    mac
}

/// Sets up the bridge of a network as it should be.
pub(super) fn set_bridge(index: u32, segment: &Segment) -> Request {
    let data = InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)]);
    let info = LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Bridge), LinkInfo::Data(data)]);
    let set = up(message(
        index,
        vec![LinkAttribute::Mtu(segment.mtu), info, no_link_local()],
    ));
    Request::new(
        RouteNetlinkMessage::NewLink(set),
        0,
        format!("set up bridge {}", bridge_name(segment.vni)),
    )
}

/// Creates the VXLAN device of a network, in the network's bridge in the overlay namespace. The request is sent in the
/// host's namespace, in which the device then has its socket.
pub(super) fn create_vxlan(segment: &Segment, bridge: u32, overlay: RawFd) -> Request {
    let name = vxlan_name(segment.vni);
    let mut options = vxlan_options(segment);
    match segment.local {
        Some(IpAddr::V4(a)) => options.push(InfoVxlan::Local(a)),
        Some(IpAddr::V6(a)) => options.push(InfoVxlan::Local6(a)),
        None => {}
    }
    let attributes = vec![
        named(&name),
        LinkAttribute::NetNsFd(overlay),
        LinkAttribute::Group(OWNER_GROUP),
        LinkAttribute::Mtu(segment.mtu),
        LinkAttribute::Controller(bridge),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vxlan),
            LinkInfo::Data(InfoData::Vxlan(options)),
        ]),
    ];
    let create = RouteNetlinkMessage::NewLink(message(0, attributes));
    Request::new(create, NLM_F_CREATE | NLM_F_EXCL, format!("create VXLAN device {name}"))
}

/// Creates the link of a network for frames for unknown stations, in the network's bridge. It is down, so it gets none yet.
pub(super) fn create_unknown(segment: &Segment, bridge: u32) -> Request {
    let name = unknown_name(segment.vni);
    let attributes = vec![
        named(&name),
        LinkAttribute::Group(OWNER_GROUP),
        LinkAttribute::Mtu(segment.mtu),
        LinkAttribute::Controller(bridge),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Ifb)]),
    ];
    let create = RouteNetlinkMessage::NewLink(message(0, attributes));
    Request::new(create, NLM_F_CREATE | NLM_F_EXCL, format!("create link {name}"))
}

/// Moves a link into a bridge.
pub(super) fn enslave(index: u32, bridge: u32, name: &str) -> Request {
    let set = message(index, vec![LinkAttribute::Controller(bridge)]);
    Request::new(
        RouteNetlinkMessage::NewLink(set),
        0,
        format!("move {name} into its bridge"),
    )
}

/// Moves a link into another namespace. The request names the link by its index, and `name` is only for errors.
pub(super) fn move_to(index: u32, name: &str, namespace: RawFd) -> Request {
    let set = message(index, vec![LinkAttribute::NetNsFd(namespace)]);
    Request::new(
        RouteNetlinkMessage::NewLink(set),
        0,
        format!("move {name} into the overlay"),
    )
}

/// The id that another namespace has in the namespace of the socket. Links show namespaces by such ids.
pub(super) fn namespace_id(netlink: &mut Netlink, namespace: RawFd) -> Result<i32, NetlinkError> {
    let fd = NsidAttribute::Fd(u32::try_from(namespace).unwrap_or(u32::MAX));
    let ask = |attributes: Vec<NsidAttribute>| {
        let mut message = NsidMessage::default();
        message.attributes = attributes;
        message
    };
    // -1 lets the kernel choose the id. It refuses (EEXIST) if the namespace has one already.
    let assign = RouteNetlinkMessage::NewNsId(ask(vec![fd.clone(), NsidAttribute::Id(-1)]));
    match netlink.request(Request::new(assign, 0, "give the host's namespace an id")) {
        Err(e) if e.errno != libc::EEXIST => return Err(e),
        _ => {}
    }
    let answer = netlink.get(
        RouteNetlinkMessage::GetNsId(ask(vec![fd])),
        "read the id of the host's namespace",
    )?;
    let id = match answer {
        Some(RouteNetlinkMessage::NewNsId(m)) => m.attributes.into_iter().find_map(|a| match a {
            NsidAttribute::Id(id) if id >= 0 => Some(id),
            _ => None,
        }),
        _ => None,
    };
    id.ok_or_else(|| NetlinkError {
        what: "read the id of the host's namespace".into(),
        errno: libc::ENOENT,
        hint: None,
    })
}

/// Takes a link out of its bridge.
pub(super) fn release(index: u32, name: &str) -> Request {
    let set = message(index, vec![LinkAttribute::Controller(0)]);
    Request::new(
        RouteNetlinkMessage::NewLink(set),
        0,
        format!("take {name} out of its bridge"),
    )
}

fn set_port(index: u32, mut attributes: Vec<LinkAttribute>, options: Vec<InfoBridgePort>) -> RouteNetlinkMessage {
    attributes.push(no_link_local());
    attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::PortKind(InfoPortKind::Bridge),
        LinkInfo::PortData(InfoPortData::BridgePort(options)),
    ]));
    RouteNetlinkMessage::NewLink(message(index, attributes))
}

fn bring_up(index: u32, name: &str) -> Request {
    Request::new(
        RouteNetlinkMessage::NewLink(up(message(index, vec![]))),
        0,
        format!("bring up {name}"),
    )
}

/// Sets up a VXLAN device, which is in its bridge already: options first, so that it
/// never forwards without them.
pub(super) fn set_vxlan(index: u32, segment: &Segment) -> [Request; 2] {
    let name = vxlan_name(segment.vni);
    let set = set_port(index, vec![LinkAttribute::Mtu(segment.mtu)], vxlan_port_options());
    [Request::new(set, 0, format!("set up {name}")), bring_up(index, &name)]
}

/// Sets up the link for unknown stations, which is in its bridge already: options first.
pub(super) fn set_unknown(index: u32, segment: &Segment) -> [Request; 2] {
    let name = unknown_name(segment.vni);
    let set = set_port(index, vec![LinkAttribute::Mtu(segment.mtu)], unknown_port_options());
    [Request::new(set, 0, format!("set up {name}")), bring_up(index, &name)]
}

/// Creates a veth pair: one end in the bridge, the other in the namespace.
pub(super) fn create_port(attachment: &Attachment, bridge: u32, namespace: RawFd) -> Request {
    let name = port_name(&attachment.id);
    let peer = message(
        0,
        vec![
            named(&attachment.interface),
            LinkAttribute::NetNsFd(namespace),
            LinkAttribute::Address(attachment.mac.octets().to_vec()),
            LinkAttribute::Mtu(attachment.mtu),
            LinkAttribute::Group(OWNER_GROUP),
        ],
    );
    let attributes = vec![
        named(&name),
        LinkAttribute::Group(OWNER_GROUP),
        LinkAttribute::Mtu(attachment.mtu),
        LinkAttribute::Controller(bridge),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    let create = RouteNetlinkMessage::NewLink(message(0, attributes));
    let what = format!("create port {name} for attachment {}", attachment.id);
    Request::new(create, NLM_F_CREATE | NLM_F_EXCL, what)
}

/// Sets up the host's end of a port as it should be. A separate request brings it up.
pub(super) fn set_workload_port(index: u32, attachment: &Attachment) -> [Request; 2] {
    let name = port_name(&attachment.id);
    let alias = LinkAttribute::IfAlias(format!("{ALIAS_PREFIX}{}", attachment.id));
    let set = set_port(
        index,
        vec![LinkAttribute::Mtu(attachment.mtu), alias],
        workload_port_options(attachment),
    );
    [Request::new(set, 0, format!("set up {name}")), bring_up(index, &name)]
}

/// Sets MAC address and MTU of the workload's end and brings it up.
pub(super) fn set_interface(index: u32, name: &str, mac: Option<MacAddress>, mtu: u32) -> Request {
    let mut attributes = vec![LinkAttribute::Mtu(mtu)];
    attributes.extend(mac.map(|m| LinkAttribute::Address(m.octets().to_vec())));
    Request::new(
        RouteNetlinkMessage::NewLink(up(message(index, attributes))),
        0,
        format!("set up interface {name}"),
    )
}

/// Marks a link for deletion.
pub(super) fn doom(index: u32, name: &str) -> Request {
    let set = message(index, vec![LinkAttribute::Group(DOOMED_GROUP)]);
    Request::new(
        RouteNetlinkMessage::NewLink(set),
        0,
        format!("mark {name} for deletion"),
    )
}

/// Takes a link out of use: puts it into the group of links to delete, gives it another name, brings it down, and
/// removes it from its bridge.
pub(super) fn retire(index: u32, name: &str) -> Request {
    let attributes = vec![
        LinkAttribute::Group(TRASH_GROUP),
        named(RETIRED),
        LinkAttribute::Controller(0),
    ];
    let mut set = message(index, attributes);
    set.header.change_mask |= LinkFlags::Up;
    Request::new(RouteNetlinkMessage::NewLink(set), 0, format!("take {name} out of use"))
}

/// Takes a bridge or a VXLAN device out of use: puts it into the group of links to delete, and brings it down. It keeps
/// its name and its ports until they are needed again, because each further change would cost the kernel as much again.
/// A bridge that is down forwards nothing between its ports; a VXLAN device that is down has no socket and no place
/// among the receivers of its VNI.
pub(super) fn retire_segment(index: u32, name: &str) -> Request {
    let mut set = message(index, vec![LinkAttribute::Group(TRASH_GROUP)]);
    set.header.change_mask |= LinkFlags::Up;
    Request::new(RouteNetlinkMessage::NewLink(set), 0, format!("take {name} out of use"))
}

/// Gives a link that is out of use another name.
pub(super) fn give_up_name(index: u32, name: &str) -> Request {
    let set = message(index, vec![named(RETIRED)]);
    Request::new(
        RouteNetlinkMessage::NewLink(set),
        0,
        format!("rename {name}, which is out of use"),
    )
}

/// Deletes every link that is marked for deletion.
pub(super) fn delete_doomed() -> Request {
    let delete = message(0, vec![LinkAttribute::Group(DOOMED_GROUP)]);
    Request::new(RouteNetlinkMessage::DelLink(delete), 0, "delete links")
}
