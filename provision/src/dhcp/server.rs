//! Handles the messages of clients (RFC 2131 section 4.3). It does no I/O: its input is octets and the time, its output
//! a reply and a change of leases. If there is a change, the reply may be sent only after the change is on the disk.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use dhcproto::v4::{CLIENT_PORT, MessageType};
use ipnet::Ipv4Net;
use vfabric_api::ident::Name;
use vfabric_api::topology::Switch;

use super::address::Address;
use super::leases::{Change, Holder, Lease, Leases, Place, Seconds};
use super::packet::{Packet, code, relay};
use super::reply::{self, Asker};
use super::run::Serve;
use crate::board::{Board, Stranger, What};
use crate::client::{Client, shown};
use crate::directory::{Directory, Refusal};
use crate::settings::{Settings, Subnet};

/// Bit of the flags that asks for a broadcast.
const BROADCAST: u16 = 0x8000;

/// Where a datagram came from.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Its source.
    pub source: SocketAddrV4,
    /// Our addresses on the interface on which it arrived; none if that is not known.
    pub interface: &'a [Ipv4Net],
}

/// The state that all parts share.
#[derive(Clone, Copy)]
pub struct World<'a> {
    /// The inventory.
    pub directory: &'a Directory,
    /// Where steps and troubles are written.
    pub board: &'a Board,
    /// The time.
    pub now: Seconds,
}

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply<A: Address = Ipv4Addr> {
    /// Its octets.
    pub octets: Vec<u8>,
    /// Where to send it; the limited broadcast address means the interface on which the request arrived.
    pub to: A::Socket,
}

/// The result of a message.
#[derive(Debug)]
pub struct Outcome<A: Address = Ipv4Addr> {
    /// A reply. If there is a change, the reply must wait until the change is durable.
    pub reply: Option<Reply<A>>,
    /// A change of leases, which is already made in memory.
    pub change: Option<Change<A>>,
    /// Notes for the board, to be written when the change is durable.
    pub done: Option<(Name, What, String)>,
}

impl<A: Address> Default for Outcome<A> {
    fn default() -> Self {
        Self {
            reply: None,
            change: None,
            done: None,
        }
    }
}

/// The server.
#[derive(Debug)]
pub struct Server {
    settings: Arc<Settings>,
    leases: Leases,
}

impl Serve for Server {
    type Address = Ipv4Addr;

    fn handle(
        &mut self,
        octets: &[u8],
        source: SocketAddr,
        interface: &[Ipv4Net],
        world: World<'_>,
    ) -> Outcome<Ipv4Addr> {
        match source {
            SocketAddr::V4(source) => self.handle(octets, Arrival { source, interface }, world),
            SocketAddr::V6(_) => Outcome::default(),
        }
    }

    fn leases(&self) -> &Leases {
        &self.leases
    }

    fn undo(&mut self, changes: Vec<Change>) {
        self.undo(changes);
    }

    fn tick(&mut self, now: Seconds) {
        self.tick(now);
    }
}

/// A request, with everything that is known about its sender.
struct Asked<'a> {
    packet: &'a Packet,
    client: &'a Client,
    holder: Holder,
    switch: Option<&'a Switch>,
    subnet: &'a Subnet,
    arrival: Arrival<'a>,
}

impl Server {
    /// A server with the leases of an earlier process.
    pub fn new(settings: Arc<Settings>, leases: Leases) -> Self {
        Self { settings, leases }
    }

    /// The leases.
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Undoes changes that could not be made durable.
    pub fn undo(&mut self, changes: Vec<Change>) {
        for change in changes.into_iter().rev() {
            self.leases.undo(change);
        }
    }

    /// Called about once a second.
    pub fn tick(&mut self, now: Seconds) {
        self.leases.expire(now);
    }

    /// Decides about one datagram.
    pub fn handle(&mut self, octets: &[u8], arrival: Arrival<'_>, world: World<'_>) -> Outcome {
        let World { board, now, .. } = world;
        let packet = match Packet::parse(octets) {
            Ok(packet) => packet,
            Err(_) => {
                board.count("dhcp_malformed");
                return Outcome::default();
            }
        };
        let settings = Arc::clone(&self.settings);
        let Some(subnet) = subnet_of(&settings, &packet, arrival) else {
            board.count("dhcp_no_subnet");
            if !packet.giaddr.is_unspecified() {
                let detail = format!(
                    "a DHCP relay at {} serves a subnet that is not in the settings",
                    packet.giaddr
                );
                board.trouble(now, &detail);
            }
            return Outcome::default();
        };
        let ours = settings.address_in(Some(subnet));
        let client = Client::of_packet(&packet);
        let known = world.directory.recognise(Some(packet.mac), client.serial.as_ref());
        let known = known.and_then(|switch| self.not_a_clone(switch, &packet, now));
        if packet.address(code::SERVER_ID).is_some_and(|server| server != ours) {
            board.count("dhcp_for_other_server");
            // The client took another server's offer.
            if let Ok(switch) = known {
                self.leases.withdraw(&Holder::Switch(switch.name.clone()));
            }
            return Outcome::default();
        }
        let (holder, switch) = match known {
            Ok(switch) => (Holder::Switch(switch.name.clone()), Some(switch)),
            Err(refusal) => {
                let holder = Holder::Stranger(packet.mac);
                let is_in = self.leases.of(&holder).is_some() || self.leases.offer_of(&holder, now).is_some();
                let room = board.window(now).is_some_and(|left| is_in || left > 0);
                let let_in = refusal.may_enrol() && room;
                self.note(&packet, &client, subnet, &refusal, let_in, world);
                if !let_in {
                    return Outcome::default();
                }
                (holder, None)
            }
        };
        let asked = Asked {
            packet: &packet,
            client: &client,
            holder,
            switch,
            subnet,
            arrival,
        };
        match packet.kind {
            MessageType::Discover => self.discover(&asked, world),
            MessageType::Request => self.request(&asked, world),
            MessageType::Decline => self.decline(&asked, world),
            MessageType::Release => self.release(&asked, world),
            MessageType::Inform => self.inform(&asked, world),
            _ => Outcome::default(),
        }
    }

    /// If the inventory has only the serial number of a switch, and the switch has a lease, then only the machine with
    /// that lease counts as the switch.
    fn not_a_clone<'a>(&self, switch: &'a Switch, packet: &Packet, now: Seconds) -> Result<&'a Switch, Refusal> {
        if switch.mac.is_some() {
            return Ok(switch);
        }
        let lease = self.leases.of(&Holder::Switch(switch.name.clone()));
        match lease.filter(|l| l.expires > now && l.mac != packet.mac) {
            None => Ok(switch),
            Some(lease) => Err(Refusal::Clone {
                switch: switch.name.clone(),
                holder: lease.mac,
            }),
        }
    }

    fn note(
        &self,
        packet: &Packet,
        client: &Client,
        subnet: &Subnet,
        refusal: &Refusal,
        enrolled: bool,
        world: World<'_>,
    ) {
        world
            .board
            .count(if enrolled { "dhcp_enrolling" } else { "dhcp_stranger" });
        let mut details = client.details.clone();
        details.insert("software".into(), client.kind.to_string());
        if !packet.giaddr.is_unspecified() {
            details.insert("relay".into(), packet.giaddr.to_string());
        }
        for (name, sub) in [("relay circuit", relay::CIRCUIT_ID), ("relay remote", relay::REMOTE_ID)] {
            details.extend(packet.relay(sub).map(|octets| (name.to_owned(), shown(octets))));
        }
        if let Some(list) = packet.option(code::PARAMETERS) {
            let list: Vec<String> = list.iter().take(64).map(u8::to_string).collect();
            details.insert("asks for options".into(), list.join(" "));
        }
        let stranger = Stranger {
            mac: packet.mac,
            reason: refusal.to_string(),
            subnet: subnet.subnet.to_string(),
            details,
            first: String::new(),
            last: String::new(),
            times: 0,
            enrolled,
        };
        world.board.stranger(world.now, stranger);
        if let Some(switch) = refusal.switch() {
            let detail = format!("{}: {refusal}", packet.mac);
            world.board.step(switch, world.now, What::Refused, &detail);
        }
    }

    fn discover(&mut self, asked: &Asked<'_>, world: World<'_>) -> Outcome {
        let World { board, now, .. } = world;
        board.count("dhcp_discover");
        let Asked { packet, subnet, .. } = asked;
        let is_new = self.leases.of(&asked.holder).is_none() && self.leases.offer_of(&asked.holder, now).is_none();
        let (settings, directory) = (Arc::clone(&self.settings), world.directory);
        let kept = |address| is_kept(&settings, directory, subnet, address);
        let place = place(asked, &settings, &kept);
        let wish = packet.address(code::REQUESTED_ADDRESS);
        let address = match self.leases.offer(&asked.holder, wish, &place, now) {
            Ok(address) => address,
            Err(why) => {
                board.count("dhcp_no_address");
                let detail = format!("subnet {}: {why}", subnet.subnet);
                if let Some(switch) = asked.switch {
                    board.step(&switch.name, now, What::NoAddress, &detail);
                }
                board.trouble(now, &detail);
                return Outcome::default();
            }
        };
        if is_new && asked.switch.is_none() {
            board.enrolled_one();
        }
        if let Some(switch) = asked.switch {
            let via = if packet.giaddr.is_unspecified() {
                String::new()
            } else {
                format!(" through relay {}", packet.giaddr)
            };
            let detail = format!("{} at {} in {}{via}", asked.client.kind, packet.mac, subnet.subnet);
            board.step(&switch.name, now, What::Discovered, &detail);
            if asked.client.kind == crate::client::Kind::Onie && reply::image_of(&settings, switch).is_none() {
                let detail = match &switch.software {
                    None => "ONIE asks for an installer, and the inventory names no software".to_owned(),
                    Some(software) => format!("ONIE asks for an installer: the settings have no image of {software}"),
                };
                board.step(&switch.name, now, What::NoFile, &detail);
            }
        }
        self.answer(asked, MessageType::Offer, address)
    }

    fn request(&mut self, asked: &Asked<'_>, world: World<'_>) -> Outcome {
        let World { board, now, .. } = world;
        board.count("dhcp_request");
        let Asked { packet, subnet, .. } = asked;
        let selecting = packet.address(code::SERVER_ID).is_some();
        let wish = packet.address(code::REQUESTED_ADDRESS);
        let in_use = Some(packet.ciaddr).filter(|a| !a.is_unspecified());
        let Some(address) = (if selecting { wish.or(in_use) } else { in_use.or(wish) }) else {
            board.count("dhcp_malformed");
            return Outcome::default();
        };
        let (settings, directory) = (Arc::clone(&self.settings), world.directory);
        let kept = |address| is_kept(&settings, directory, subnet, address);
        let place = place(asked, &settings, &kept);
        let may = self.leases.may_have(&asked.holder, address, &place, now);
        let known = self.leases.of(&asked.holder);
        // Another server may have given this address (RFC 2131 section 4.3.2): without a record of our own, stay silent.
        let judge = selecting || known.is_some();
        let ours = match known {
            Some(lease) => lease.address == address || selecting,
            None => selecting || place.own == Some(address),
        };
        if !(may && ours) {
            if !judge {
                board.count("dhcp_not_ours");
                return Outcome::default();
            }
            board.count("dhcp_nak");
            return self.refuse(asked, "this address is not yours here: begin with DISCOVER");
        }
        let change = self.leases.put(Lease {
            holder: asked.holder.clone(),
            mac: packet.mac,
            address,
            expires: now + u64::from(settings.lease_seconds),
        });
        let done = asked.switch.map(|switch| {
            let detail = format!("{address} for {} s to {}", settings.lease_seconds, packet.mac);
            (switch.name.clone(), What::Leased, detail)
        });
        Outcome {
            change: Some(change),
            done,
            ..self.answer(asked, MessageType::Ack, address)
        }
    }

    fn decline(&mut self, asked: &Asked<'_>, world: World<'_>) -> Outcome {
        world.board.count("dhcp_decline");
        let Some(address) = asked.packet.address(code::REQUESTED_ADDRESS) else {
            return Outcome::default();
        };
        let offered = self.leases.offer_of(&asked.holder, world.now) == Some(address);
        let leased = self.leases.of(&asked.holder).is_some_and(|l| l.address == address);
        if !offered && !leased {
            return Outcome::default();
        }
        self.leases.withdraw(&asked.holder);
        self.leases.decline(address, world.now);
        let detail = format!("{address} is in use by another machine, says {}", asked.packet.mac);
        world.board.trouble(world.now, &detail);
        self.ended(asked, detail, world)
    }

    fn release(&mut self, asked: &Asked<'_>, world: World<'_>) -> Outcome {
        world.board.count("dhcp_release");
        let address = asked.packet.ciaddr;
        let of_it = |l: &&Lease| l.address == address && l.mac == asked.packet.mac;
        if self.leases.of(&asked.holder).filter(of_it).is_none() {
            return Outcome::default();
        }
        self.ended(asked, format!("{address} by {}", asked.packet.mac), world)
    }

    /// Ends the holder's lease. There is no reply.
    fn ended(&mut self, asked: &Asked<'_>, detail: String, world: World<'_>) -> Outcome {
        let over = self.leases.of(&asked.holder).map(|lease| Lease {
            expires: world.now,
            ..lease.clone()
        });
        Outcome {
            change: over.map(|lease| self.leases.put(lease)),
            done: asked.switch.map(|switch| (switch.name.clone(), What::Released, detail)),
            reply: None,
        }
    }

    /// Options for a client that got its address elsewhere (RFC 2131 section 4.3.5).
    fn inform(&mut self, asked: &Asked<'_>, world: World<'_>) -> Outcome {
        world.board.count("dhcp_inform");
        if asked.switch.is_none() || asked.packet.ciaddr.is_unspecified() {
            return Outcome::default();
        }
        self.answer(asked, MessageType::Ack, Ipv4Addr::UNSPECIFIED)
    }

    fn answer(&self, asked: &Asked<'_>, kind: MessageType, address: Ipv4Addr) -> Outcome {
        let Asked { packet, subnet, .. } = asked;
        let asker = Asker {
            packet,
            client: asked.client,
            switch: asked.switch,
            subnet,
        };
        let options = reply::options(&self.settings, &asker, !address.is_unspecified());
        let next_server = match asked.switch {
            Some(_) => self.settings.address_in(Some(subnet)),
            None => Ipv4Addr::UNSPECIFIED,
        };
        let octets = packet.reply(kind, address, next_server, &options);
        let reply = (!octets.is_empty()).then(|| Reply {
            octets,
            to: self.destination(asked, false),
        });
        Outcome {
            reply,
            ..Outcome::default()
        }
    }

    fn refuse(&self, asked: &Asked<'_>, why: &str) -> Outcome {
        let ours = self.settings.address_in(Some(asked.subnet)).octets().to_vec();
        let options = [(code::SERVER_ID, ours), (code::MESSAGE, why.as_bytes().to_vec())];
        // The relay must broadcast it, because the client's address is wrong (RFC 2131 section 4.3.2).
        let packet = Packet {
            flags: asked.packet.flags | BROADCAST,
            ciaddr: Ipv4Addr::UNSPECIFIED,
            ..asked.packet.clone()
        };
        let none = Ipv4Addr::UNSPECIFIED;
        let reply = Reply {
            octets: packet.reply(MessageType::Nak, none, none, &options),
            to: self.destination(asked, true),
        };
        Outcome {
            reply: Some(reply),
            ..Outcome::default()
        }
    }

    /// RFC 2131 section 4.1. The reply to a client without an address is a broadcast: to reach it by its hardware address
    /// alone, the server would need the right to send raw frames.
    fn destination(&self, asked: &Asked<'_>, refused: bool) -> SocketAddrV4 {
        let packet = asked.packet;
        if !packet.giaddr.is_unspecified() {
            // RFC 8357: a relay that uses another port says so.
            let port = match packet.relay(relay::SOURCE_PORT) {
                Some(_) => asked.arrival.source.port(),
                None => self.settings.dhcp_port,
            };
            return SocketAddrV4::new(packet.giaddr, port);
        }
        let address = match packet.ciaddr.is_unspecified() || refused {
            true => Ipv4Addr::BROADCAST,
            false => packet.ciaddr,
        };
        SocketAddrV4::new(address, CLIENT_PORT)
    }
}

/// The subnet of a client: that of the link that its relay names (RFC 3527), of its relay, of the address that it
/// uses, or of the interface on which it is heard.
fn subnet_of<'a>(settings: &'a Settings, packet: &Packet, arrival: Arrival<'_>) -> Option<&'a Subnet> {
    let find = |address: Ipv4Addr| settings.subnet_of(address).and_then(|i| settings.subnets.get(i));
    if !packet.giaddr.is_unspecified() {
        if packet.giaddr.is_multicast() || packet.giaddr.is_broadcast() {
            return None;
        }
        let link: Option<[u8; 4]> = packet.relay(relay::LINK_SELECTION).and_then(|o| o.try_into().ok());
        return find(link.map_or(packet.giaddr, Ipv4Addr::from));
    }
    if !packet.ciaddr.is_unspecified() {
        return find(packet.ciaddr);
    }
    arrival.interface.iter().find_map(|net| find(net.addr()))
}

fn is_kept(settings: &Settings, directory: &Directory, subnet: &Subnet, address: Ipv4Addr) -> bool {
    directory.switch_at(address).is_some()
        || settings.address_in(Some(subnet)) == address
        || subnet.routers.contains(&address)
}

fn place<'a>(asked: &Asked<'_>, settings: &Settings, kept: &'a dyn Fn(Ipv4Addr) -> bool) -> Place<'a> {
    let own = asked.switch.and_then(|switch| match switch.p4runtime.ip() {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    });
    let ours = settings.address_in(Some(asked.subnet));
    let usable = |a: &Ipv4Addr| asked.subnet.subnet.contains(a) && *a != ours && !asked.subnet.routers.contains(a);
    Place {
        mac: asked.packet.mac,
        own: own.filter(usable),
        pool: asked.subnet.pool,
        kept,
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
