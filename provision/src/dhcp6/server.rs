//! Handles the messages of clients (RFC 8415, section 18.3). No I/O: from octets and the time it makes a reply and a change of
//! leases. The reply to a change may be sent only after the change is on the disk.
//!
//! One machine has one address: of several associations the first one gets it.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use dhcproto::v6::{CLIENT_PORT, DhcpOption, MessageType, Status};
use ipnet::Ipv6Net;
use vfabric_api::ident::Mac;
use vfabric_api::topology::Switch;

use super::packet::{Association, Packet, association, leased, status};
use super::reply::{self, Asker};
use super::settings::{Ipv6, Subnet6};
use crate::board::{Stranger, What};
use crate::client::Client;
use crate::dhcp::leases::{Change, Holder, Lease, Leases, Place, Seconds};
use crate::dhcp::run::Serve;
use crate::dhcp::server::{Outcome, Reply, World};
use crate::directory::{Directory, Refusal};
use crate::settings::Settings;

/// What the server leases.
type A = Ipv6Addr;

/// The server.
#[derive(Debug)]
pub struct Server {
    settings: Arc<Settings>,
    ipv6: Arc<Ipv6>,
    duid: Vec<u8>,
    leases: Leases<A>,
}

/// A request with everything that is known about who sends it.
struct Asked<'a> {
    packet: &'a Packet,
    client: &'a Client,
    mac: Mac,
    holder: Holder,
    switch: Option<&'a Switch>,
    subnet: &'a Subnet6,
    source: SocketAddrV6,
}

/// What becomes of the associations of a request.
#[derive(Default)]
struct Answer {
    options: Vec<DhcpOption>,
    change: Option<Change<A>>,
    address: Option<A>,
}

impl Server {
    /// A server with its identifier and the leases of an earlier process.
    pub fn new(settings: Arc<Settings>, ipv6: Ipv6, duid: Vec<u8>, leases: Leases<A>) -> Self {
        Self {
            settings,
            ipv6: Arc::new(ipv6),
            duid,
            leases,
        }
    }

    fn decide(&mut self, octets: &[u8], source: SocketAddrV6, interface: &[Ipv6Net], world: World<'_>) -> Outcome<A> {
        let World { board, now, .. } = world;
        let Ok(packet) = Packet::parse(octets) else {
            board.count("dhcp6_malformed");
            return Outcome::default();
        };
        // Clients of the link send by multicast; who sends to our address from afar is no client (section 18.4).
        if packet.relays.is_empty() && !source.ip().is_unicast_link_local() {
            board.count("dhcp6_not_of_the_link");
            return Outcome::default();
        }
        let ipv6 = Arc::clone(&self.ipv6);
        let Some(subnet) = subnet_of(&ipv6, &packet, interface) else {
            board.count("dhcp6_no_subnet");
            if let Some(link) = packet.link() {
                let detail = format!("a DHCPv6 relay at {link} serves a subnet that is not in the settings");
                board.trouble(now, &detail);
            }
            return Outcome::default();
        };
        let client = Client::of_packet6(&packet);
        let hardware = packet.hardware(*source.ip());
        let Some(first) = hardware.first() else {
            board.count("dhcp6_no_hardware_address");
            return Outcome::default();
        };
        let (mac, known) = recognise(world.directory, &hardware, &client).unwrap_or((*first, Err(Refusal::Unknown)));
        let known = known.and_then(|switch| self.not_a_clone(switch, mac, now));
        if packet.server().is_some_and(|server| server != self.duid) {
            board.count("dhcp6_for_other_server");
            // It took another server's offer.
            if let Ok(switch) = known {
                self.leases.withdraw(&Holder::Switch(switch.name.clone()));
            }
            return Outcome::default();
        }
        let (holder, switch) = match known {
            Ok(switch) => (Holder::Switch(switch.name.clone()), Some(switch)),
            Err(refusal) => {
                let holder = Holder::Stranger(mac);
                let is_in = self.leases.of(&holder).is_some() || self.leases.offer_of(&holder, now).is_some();
                let room = board.window(now).is_some_and(|left| is_in || left > 0);
                let let_in = refusal.may_enrol() && room;
                note(&packet, &client, mac, subnet, &refusal, let_in, world);
                if !let_in {
                    return Outcome::default();
                }
                (holder, None)
            }
        };
        let asked = Asked {
            packet: &packet,
            client: &client,
            mac,
            holder,
            switch,
            subnet,
            source,
        };
        self.answer(&asked, world)
    }

    fn answer(&mut self, asked: &Asked<'_>, world: World<'_>) -> Outcome<A> {
        use MessageType::{
            Advertise, Confirm, Decline, InformationRequest, Rebind, Release, Renew, Reply, Request, Solicit,
        };
        let packet = asked.packet;
        // Section 16: who must be named in which message.
        let names_server = packet.server().is_some();
        let is_valid = match packet.kind {
            Solicit | Confirm | Rebind => !names_server && packet.duid().is_some(),
            Request | Renew | Decline | Release => names_server && packet.duid().is_some(),
            _ => true,
        };
        if !is_valid {
            world.board.count("dhcp6_malformed");
            return Outcome::default();
        }
        let associations = packet.associations();
        match packet.kind {
            Solicit => {
                let answer = self.solicit(asked, &associations, world);
                self.outcome(asked, Advertise, answer, None)
            }
            Request | Renew | Rebind => {
                let Some(answer) = self.lease(asked, &associations, world) else {
                    return Outcome::default();
                };
                let done = asked.switch.zip(answer.address).map(|(switch, address)| {
                    let seconds = self.settings.lease_seconds;
                    let detail = format!("{address} for {seconds} s to {}", asked.mac);
                    (switch.name.clone(), What::Leased, detail)
                });
                self.outcome(asked, Reply, answer, done)
            }
            Confirm => self.confirm(asked, &associations, world),
            Release | Decline => self.give_back(asked, &associations, world),
            InformationRequest => {
                world.board.count("dhcp6_inform");
                match asked.switch {
                    Some(_) => self.outcome(asked, Reply, Answer::default(), None),
                    None => Outcome::default(),
                }
            }
            _ => Outcome::default(),
        }
    }

    /// If a switch is known only by its serial number and has a lease, only the machine with that lease is the switch.
    fn not_a_clone<'a>(&self, switch: &'a Switch, mac: Mac, now: Seconds) -> Result<&'a Switch, Refusal> {
        let lease = self.leases.of(&Holder::Switch(switch.name.clone()));
        match lease.filter(|l| switch.mac.is_none() && l.expires > now && l.mac != mac) {
            None => Ok(switch),
            Some(lease) => Err(Refusal::Clone {
                switch: switch.name.clone(),
                holder: lease.mac,
            }),
        }
    }

    /// Chooses an address and keeps it for a while.
    fn offer(&mut self, asked: &Asked<'_>, wish: Option<A>, world: World<'_>) -> Option<A> {
        let (ipv6, directory) = (Arc::clone(&self.ipv6), world.directory);
        let kept = |address| is_kept(&ipv6, directory, asked.subnet, address);
        let place = place(asked, &ipv6, &kept);
        match self.leases.offer(&asked.holder, wish, &place, world.now) {
            Ok(address) => Some(address),
            Err(why) => {
                world.board.count("dhcp6_no_address");
                let detail = format!("subnet {}: {why}", asked.subnet.subnet);
                if let Some(switch) = asked.switch {
                    world.board.step(&switch.name, world.now, What::NoAddress, &detail);
                }
                world.board.trouble(world.now, &detail);
                None
            }
        }
    }

    fn may_have(&self, asked: &Asked<'_>, address: A, world: World<'_>) -> bool {
        let (ipv6, directory) = (Arc::clone(&self.ipv6), world.directory);
        let kept = |address| is_kept(&ipv6, directory, asked.subnet, address);
        let place = place(asked, &ipv6, &kept);
        self.leases.may_have(&asked.holder, address, &place, world.now)
    }

    fn solicit(&mut self, asked: &Asked<'_>, associations: &[Association], world: World<'_>) -> Answer {
        let World { board, now, .. } = world;
        board.count("dhcp6_solicit");
        let is_new = self.leases.of(&asked.holder).is_none() && self.leases.offer_of(&asked.holder, now).is_none();
        let mut answer = Answer::default();
        for (i, wanted) in associations.iter().enumerate() {
            let offered = match i {
                0 => self.offer(asked, wanted.addresses.first().copied(), world),
                _ => None,
            };
            answer.options.push(self.holds(wanted.id, offered));
            answer.address = answer.address.or(offered);
        }
        if is_new && asked.switch.is_none() && answer.address.is_some() {
            board.enrolled_one();
        }
        if let Some(switch) = asked.switch {
            let via = match asked.packet.link() {
                Some(link) => format!(" through relay {link}"),
                None => String::new(),
            };
            let (kind, mac, subnet) = (asked.client.kind, asked.mac, asked.subnet.subnet);
            let detail = format!("{kind} at {mac} in {subnet}{via}");
            board.step(&switch.name, now, What::Discovered, &detail);
        }
        answer
    }

    /// An association with its address, or with the reason why it has none.
    fn holds(&self, id: u32, address: Option<A>) -> DhcpOption {
        let seconds = self.settings.lease_seconds;
        match address {
            Some(address) => association(id, seconds, vec![leased(address, seconds)]),
            None => association(id, 0, vec![status(Status::NoAddrsAvail, "no address is free for it")]),
        }
    }

    /// REQUEST, RENEW and REBIND. None: another server may know better.
    fn lease(&mut self, asked: &Asked<'_>, associations: &[Association], world: World<'_>) -> Option<Answer> {
        let (board, kind) = (world.board, asked.packet.kind);
        board.count("dhcp6_request");
        let known = self.leases.of(&asked.holder).map(|lease| lease.address);
        let mut answer = Answer::default();
        for (i, wanted) in associations.iter().enumerate() {
            if i > 0 {
                answer.options.push(self.holds(wanted.id, None));
                continue;
            }
            if known.is_none() && kind != MessageType::Request {
                if kind == MessageType::Rebind {
                    board.count("dhcp6_not_ours");
                    return None;
                }
                let none = status(Status::NoBinding, "this server knows of no lease: begin with SOLICIT");
                answer.options.push(association(wanted.id, 0, vec![none]));
                continue;
            }
            let elsewhere = wanted.addresses.iter().any(|a| !asked.subnet.subnet.contains(a));
            if kind == MessageType::Request && elsewhere {
                let wrong = status(Status::NotOnLink, "an address of another link");
                answer.options.push(association(wanted.id, 0, vec![wrong]));
                continue;
            }
            // The one that it asks for, or has; else another one, and what it had ends now (section 18.3.4).
            let wish = wanted.addresses.first().copied().or(known);
            let right = wish.filter(|address| self.may_have(asked, *address, world));
            let Some(address) = right.or_else(|| self.offer(asked, None, world)) else {
                answer.options.push(self.holds(wanted.id, None));
                continue;
            };
            let seconds = self.settings.lease_seconds;
            let ended = wanted.addresses.iter().filter(|a| **a != address);
            let mut inner: Vec<DhcpOption> = ended.map(|a| leased(*a, 0)).collect();
            inner.push(leased(address, seconds));
            answer.options.push(association(wanted.id, seconds, inner));
            answer.address = Some(address);
            answer.change = Some(self.leases.put(Lease {
                holder: asked.holder.clone(),
                mac: asked.mac,
                address,
                expires: world.now + u64::from(seconds),
            }));
        }
        Some(answer)
    }

    /// Whether addresses still fit the link (section 18.3.3).
    fn confirm(&self, asked: &Asked<'_>, associations: &[Association], world: World<'_>) -> Outcome<A> {
        world.board.count("dhcp6_confirm");
        let mut addresses = associations.iter().flat_map(|a| &a.addresses).peekable();
        if addresses.peek().is_none() {
            return Outcome::default();
        }
        let fit = addresses.all(|address| asked.subnet.subnet.contains(address));
        let said = match fit {
            true => status(Status::Success, "the addresses fit the link"),
            false => status(Status::NotOnLink, "an address of another link"),
        };
        self.send(asked, MessageType::Reply, vec![said])
    }

    /// RELEASE and DECLINE.
    fn give_back(&mut self, asked: &Asked<'_>, associations: &[Association], world: World<'_>) -> Outcome<A> {
        let (board, now) = (world.board, world.now);
        let is_decline = asked.packet.kind == MessageType::Decline;
        board.count(if is_decline { "dhcp6_decline" } else { "dhcp6_release" });
        let held = self.leases.of(&asked.holder).filter(|l| l.mac == asked.mac).cloned();
        let offered = self.leases.offer_of(&asked.holder, now).filter(|_| is_decline);
        let mut options = vec![status(Status::Success, "")];
        let (mut change, mut done) = (None, None);
        for wanted in associations {
            let is_held = |a: &&A| Some(**a) == held.as_ref().map(|l| l.address) || Some(**a) == offered;
            let Some(address) = wanted.addresses.iter().find(is_held).copied() else {
                let none = status(Status::NoBinding, "this server knows of no lease of it");
                options.push(association(wanted.id, 0, vec![none]));
                continue;
            };
            let detail = if is_decline {
                self.leases.withdraw(&asked.holder);
                self.leases.decline(address, now);
                let detail = format!("{address} is in use by another machine, says {}", asked.mac);
                board.trouble(now, &detail);
                detail
            } else {
                format!("{address} by {}", asked.mac)
            };
            if let Some(lease) = held.clone().filter(|l| l.address == address && change.is_none()) {
                change = Some(self.leases.put(Lease { expires: now, ..lease }));
            }
            done = asked.switch.map(|switch| (switch.name.clone(), What::Released, detail));
        }
        Outcome {
            change,
            done,
            ..self.send(asked, MessageType::Reply, options)
        }
    }

    fn outcome(
        &self,
        asked: &Asked<'_>,
        kind: MessageType,
        answer: Answer,
        done: Option<(vfabric_api::ident::Name, What, String)>,
    ) -> Outcome<A> {
        let asker = Asker {
            packet: asked.packet,
            client: asked.client,
            switch: asked.switch,
            subnet: asked.subnet,
        };
        let mut options = answer.options;
        options.extend(reply::options(&self.settings, &self.ipv6, &asker));
        Outcome {
            change: answer.change,
            done,
            ..self.send(asked, kind, options)
        }
    }

    fn send(&self, asked: &Asked<'_>, kind: MessageType, mut options: Vec<DhcpOption>) -> Outcome<A> {
        let packet = asked.packet;
        options.push(DhcpOption::ServerId(self.duid.clone()));
        options.extend(packet.duid().map(|duid| DhcpOption::ClientId(duid.to_vec())));
        let octets = packet.reply(kind, options);
        let mut to = asked.source;
        to.set_port(match (packet.relays.is_empty(), packet.has_port()) {
            (true, _) => CLIENT_PORT,
            // RFC 8357: a relay may send from another port, and says so.
            (false, true) => asked.source.port(),
            (false, false) => self.ipv6.port,
        });
        Outcome {
            reply: (!octets.is_empty()).then_some(Reply { octets, to }),
            ..Outcome::default()
        }
    }
}

impl Serve for Server {
    type Address = A;

    fn handle(&mut self, octets: &[u8], source: SocketAddr, interface: &[Ipv6Net], world: World<'_>) -> Outcome<A> {
        match source {
            SocketAddr::V6(source) => self.decide(octets, source, interface, world),
            SocketAddr::V4(_) => Outcome::default(),
        }
    }

    fn leases(&self) -> &Leases<A> {
        &self.leases
    }

    fn undo(&mut self, changes: Vec<Change<A>>) {
        for change in changes.into_iter().rev() {
            self.leases.undo(change);
        }
    }

    fn tick(&mut self, now: Seconds) {
        self.leases.expire(now);
    }
}

/// The switch that a machine is, by the first hardware address that says something, and that address.
fn recognise<'a>(
    directory: &'a Directory,
    hardware: &[Mac],
    client: &Client,
) -> Option<(Mac, Result<&'a Switch, Refusal>)> {
    let judged = |mac: &Mac| (*mac, directory.recognise(Some(*mac), client.serial.as_ref()));
    let mut judged: Vec<_> = hardware.iter().map(judged).collect();
    let known = judged.iter().position(|(_, known)| known.is_ok());
    // A contradiction says more than that nothing is known.
    let known = known.or_else(|| judged.iter().position(|(_, known)| known != &Err(Refusal::Unknown)));
    known.map(|at| judged.swap_remove(at))
}

fn note(
    packet: &Packet,
    client: &Client,
    mac: Mac,
    subnet: &Subnet6,
    refusal: &Refusal,
    enrolled: bool,
    world: World<'_>,
) {
    let what = if enrolled { "dhcp6_enrolling" } else { "dhcp6_stranger" };
    world.board.count(what);
    let mut details = client.details.clone();
    details.insert("software".into(), client.kind.to_string());
    details.extend(packet.link().map(|link| ("relay".to_owned(), link.to_string())));
    details.extend(packet.duid().map(|duid| {
        let hex: String = duid.iter().take(64).map(|b| format!("{b:02x}")).collect();
        ("duid".to_owned(), hex)
    }));
    let list: Vec<String> = packet.asked().take(64).map(|code| code.to_string()).collect();
    if !list.is_empty() {
        details.insert("asks for options".into(), list.join(" "));
    }
    let stranger = Stranger {
        mac,
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
        let detail = format!("{mac}: {refusal}");
        world.board.step(switch, world.now, What::Refused, &detail);
    }
}

/// The subnet of a client: that of the link that its relays name, or of the interface on which it is heard.
fn subnet_of<'a>(ipv6: &'a Ipv6, packet: &Packet, interface: &[Ipv6Net]) -> Option<&'a Subnet6> {
    match packet.link() {
        Some(link) => ipv6.subnet_of(link),
        // A relay on our link that names no other is on the client's link too.
        None => interface.iter().find_map(|net| ipv6.subnet_of(net.addr())),
    }
}

fn is_kept(ipv6: &Ipv6, directory: &Directory, subnet: &Subnet6, address: A) -> bool {
    directory.switch_at(address).is_some() || ipv6.address_in(subnet) == address
}

fn place<'a>(asked: &Asked<'_>, ipv6: &Ipv6, kept: &'a dyn Fn(A) -> bool) -> Place<'a, A> {
    let own = asked.switch.and_then(|switch| match switch.p4runtime.ip() {
        IpAddr::V6(address) => Some(address),
        IpAddr::V4(_) => None,
    });
    let ours = ipv6.address_in(asked.subnet);
    Place {
        mac: asked.mac,
        own: own.filter(|a| asked.subnet.subnet.contains(a) && *a != ours),
        pool: asked.subnet.pool,
        kept,
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
