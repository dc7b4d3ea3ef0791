//! Notifications of the kernel about links and entries.
//!
//! A notification says what may differ from what is wanted, never what to do: the agent
//! compares the networks and ports it names with the kernel and repairs the difference. A notification about an entry says
//! what the entry is now. If that is what is wanted, the agent compares nothing. So its own changes cost as much in a network with
//! very many stations as in a small one.

use std::collections::HashMap;
use std::io;
use std::thread;

use netlink_packet_core::{NetlinkMessage, NetlinkPayload};
use netlink_packet_route::neighbour::{NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use tokio::sync::mpsc;
use vtep_proto::{MacAddress, Vni};

use super::entry::{self, FdbEntry};
use super::link::{Link, OWNER_GROUP};
use super::overlay::Overlay;
use crate::datapath::Seen;
use crate::error::NetlinkError;
use crate::object::{Object, ObjectKey};

/// Multicast groups of rtnetlink (linux/rtnetlink.h).
const RTNLGRP_LINK: u32 = 1;
const RTNLGRP_NEIGH: u32 = 3;
/// Receive buffer: a burst of some 1,000 notifications of 2 KiB each. When it overflows the
/// kernel says so, and everything is compared.
const RECEIVE_BUFFER: usize = 2 * 1024 * 1024;
/// Changes that wait for the agent. If the queue is full, the change is reported as [`Change::Anything`] as soon as
/// there is room.
const QUEUE: usize = 1024;

/// What may differ from what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// This entry.
    Entry(Seen),
    /// Something in this network.
    Network(Vni),
    /// This port, by the name of its end on the host.
    Port(String),
    /// The uplink: true when it is up and has carrier.
    Uplink(bool),
    /// Anything: notifications were lost.
    Anything,
}

/// Notifications, as they come.
pub type Monitor = mpsc::Receiver<Change>;

/// Starts to listen: to the overlay, and to the uplink in the network namespace of this
/// thread. Every change from here on is reported.
///
/// # Errors
/// When the kernel refuses a socket or a thread.
pub fn start(uplink: &str, overlay: &Overlay) -> Result<Monitor, NetlinkError> {
    let fail = |e: io::Error| NetlinkError::io("listen to netlink notifications", &e);
    let (changes, monitor) = mpsc::channel(QUEUE);
    let tenants = overlay.netns().within(|| socket(&[RTNLGRP_LINK, RTNLGRP_NEIGH]));
    listen("", tenants.map_err(fail)?.map_err(fail)?, changes.clone()).map_err(fail)?;
    listen(uplink, socket(&[RTNLGRP_LINK]).map_err(fail)?, changes).map_err(fail)?;
    Ok(monitor)
}

fn socket(groups: &[u32]) -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.set_rx_buf_sz(RECEIVE_BUFFER as libc::c_int)?;
    for group in groups {
        socket.add_membership(*group)?;
    }
    Ok(socket)
}

/// Starts the thread that listens to a socket.
fn listen(uplink: &str, socket: Socket, changes: mpsc::Sender<Change>) -> io::Result<()> {
    let mut listener = Listener {
        uplink: uplink.to_owned(),
        networks: HashMap::new(),
        ports: HashMap::new(),
    };
    let run = move || {
        loop {
            let found = match socket.recv_from_full() {
                Ok((datagram, _)) => listener.changes(&datagram),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => vec![Change::Anything],
                Err(error) => {
                    tracing::error!(%error, "netlink notifications ended");
                    return;
                }
            };
            for change in found {
                // The socket's buffer holds what comes while this waits.
                if changes.blocking_send(change).is_err() {
                    return;
                }
            }
        }
    };
    thread::Builder::new().name("netlink-monitor".into()).spawn(run)?;
    Ok(())
}

/// A link of a network that is not a port.
#[derive(Clone, Copy)]
struct OfNetwork {
    vni: Vni,
    part: Part,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Bridge,
    Vxlan,
    Unknown,
}

struct Listener {
    /// Empty if there is none.
    uplink: String,
    /// Our bridges, their VXLAN devices and links for unknown stations, by index: entries name only an index.
    networks: HashMap<u32, OfNetwork>,
    /// Our ports, by index: what a bridge knows at a port is about that port alone.
    ports: HashMap<u32, String>,
}

impl Listener {
    fn changes(&mut self, datagram: &[u8]) -> Vec<Change> {
        let mut found = Vec::new();
        let mut rest = datagram;
        while let Some(length) = rest.first_chunk::<4>().map(|b| u32::from_ne_bytes(*b) as usize) {
            let Some(message) = rest.get(..length).filter(|m| m.len() >= 16) else {
                break;
            };
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            let parsed = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message).map(|m| m.payload);
            if let Ok(NetlinkPayload::InnerMessage(message)) = parsed {
                found.extend(self.change(message));
            }
        }
        found
    }

    fn change(&mut self, message: RouteNetlinkMessage) -> Option<Change> {
        match message {
            RouteNetlinkMessage::NewLink(m) => self.link(Link::from_message(m), false),
            RouteNetlinkMessage::DelLink(m) => self.link(Link::from_message(m), true),
            RouteNetlinkMessage::NewNeighbour(m) => self.entry(&m, false),
            RouteNetlinkMessage::DelNeighbour(m) => self.entry(&m, true),
            _ => None,
        }
    }

    fn link(&mut self, link: Link, gone: bool) -> Option<Change> {
        if !self.uplink.is_empty() && link.name == self.uplink {
            return Some(Change::Uplink(link.running && !gone));
        }
        let of = |part| move |vni| OfNetwork { vni, part };
        let network = link
            .as_bridge()
            .map(of(Part::Bridge))
            .or_else(|| link.as_vxlan().map(of(Part::Vxlan)))
            .or_else(|| link.as_unknown().map(of(Part::Unknown)));
        let whole = |network: OfNetwork| Change::Network(network.vni);
        if gone || link.is_out_of_use() {
            // A port's notification of leaving its bridge comes as "gone", too. The deletion of a link that has been out of use
            // since then changes nothing more.
            let known = self.networks.remove(&link.index);
            self.ports.remove(&link.index);
            return network.or(known).map(whole).or_else(|| port(&link));
        }
        if let Some(network) = network {
            self.networks.insert(link.index, network);
        }
        let of_port = port(&link);
        if let Some(Change::Port(name)) = &of_port {
            self.ports.insert(link.index, name.clone());
        }
        network.map(whole).or(of_port)
    }

    /// What a message about an entry of a forwarding database or a neighbour table says.
    fn entry(&self, message: &NeighbourMessage, gone: bool) -> Option<Change> {
        let index = message.header.ifindex;
        if let Some(port) = self.ports.get(&index) {
            return Some(Change::Port(port.clone()));
        }
        let network = self.networks.get(&index);
        if message.header.family == AddressFamily::Bridge {
            let bridge = message.attributes.iter().find_map(|a| match a {
                NeighbourAttribute::Controller(index) => Some(index),
                _ => None,
            });
            // A port that somebody else has put into our bridge has the bridge's network.
            let vni = network.or_else(|| self.networks.get(bridge?))?.vni;
            let of_device = network.is_some_and(|n| n.part == Part::Vxlan);
            let seen = entry::fdb_entry(message).and_then(|e| forwarding(vni, &e, of_device, gone));
            return Some(seen.map_or(Change::Network(vni), Change::Entry));
        }
        // Neighbours of other links (the uplink's next hop) come and go by themselves.
        let vni = network.filter(|n| n.part == Part::Bridge)?.vni;
        let entry = entry::neighbour_entry(message)?;
        let (ip, router) = (entry.ip, entry.router);
        let seen = match entry.mac.filter(|_| !gone && entry::is_permanent(message)) {
            Some(mac) => Seen::Is(Object::Neighbour { vni, ip, mac, router }),
            None => Seen::Gone(ObjectKey::Neighbour(vni, ip)),
        };
        Some(Change::Entry(seen))
    }
}

/// What a forwarding entry says of a station or a flood entry, where that can be told from it alone. `of_device`: it is at the
/// VXLAN device.
fn forwarding(vni: Vni, entry: &FdbEntry, of_device: bool, gone: bool) -> Option<Seen> {
    if of_device && !entry.of_bridge && entry.is_default() {
        let vtep = entry.vtep?;
        return Some(match gone {
            true => Seen::Gone(ObjectKey::Flood(vni, vtep)),
            false => Seen::Is(Object::Flood { vni, vtep }),
        });
    }
    let mac = MacAddress::new(entry.mac)?;
    // A bridge has one entry for an address: one at another link, or one of the kernel's own, stands in place of the station's.
    if gone || (entry.of_bridge && (!of_device || entry.local)) {
        return Some(Seen::Gone(ObjectKey::Station(vni, mac)));
    }
    match entry.of_bridge {
        true => entry.fixed.then_some(Seen::Tunnelled(vni, mac)),
        false => Some(Seen::Is(Object::Station {
            vni,
            mac,
            vtep: entry.vtep.filter(|_| of_device)?,
        })),
    }
}

fn port(link: &Link) -> Option<Change> {
    let ours = link.group == OWNER_GROUP && link.name.starts_with("vfa");
    ours.then(|| Change::Port(link.name.clone()))
}
