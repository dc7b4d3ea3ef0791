//! The part of the DHCP server that does I/O: sockets, batches, and the rule that a change is on the disk before its
//! reply is sent.
//!
//! It runs on a thread of its own, because it waits for the disk. Each turn takes the datagrams that have arrived,
//! decides about all of them, makes all changes durable with one write, and only then sends. If the write fails, the
//! changes are taken back and the replies that depend on them are not sent; clients ask again.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use ipnet::Ipv4Net;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::Domain;

use super::address::Address;
use super::journal::Keeper;
use super::leases::{Change, Lease, Leases, Seconds};
use super::server::{Outcome, Server, World};
use super::socket::{Place, udp};
use crate::board::{Board, now};
use crate::directory::Directory;
use crate::error::ProvisionError;
use crate::settings::Settings;

/// Most datagrams that one turn takes from one socket; all of them share one write to the disk.
const BATCH: usize = 256;
/// Longest wait without a datagram. The stop flag is read, and expired offers are removed, at
/// least this often.
const TURN: Duration = Duration::from_millis(200);
/// How often expired offers and the enrolment window are checked.
const TICK: Duration = Duration::from_secs(1);

/// A server that decides about datagrams. No I/O.
pub trait Serve: Send {
    /// What it leases.
    type Address: Address;

    /// Decides about one datagram that came from `source`; `interface` has our subnets on the interface on which it arrived.
    fn handle(
        &mut self,
        octets: &[u8],
        source: SocketAddr,
        interface: &[<Self::Address as Address>::Net],
        world: World<'_>,
    ) -> Outcome<Self::Address>;

    /// The leases.
    fn leases(&self) -> &Leases<Self::Address>;

    /// Undoes changes that could not be made durable.
    fn undo(&mut self, changes: Vec<Change<Self::Address>>);

    /// Called about once a second.
    fn tick(&mut self, now: Seconds);
}

/// A socket on one interface, or on none in particular.
#[derive(Debug)]
pub struct Port<A: Address = Ipv4Addr> {
    pub(crate) socket: UdpSocket,
    pub(crate) interface: Option<String>,
    /// Our subnets on the interface.
    pub(crate) addresses: Vec<A::Net>,
}

impl Port {
    /// The address to which it is bound.
    ///
    /// # Errors
    /// The system refuses to say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

fn socket(interface: Option<&str>, address: Ipv4Addr, port: u16) -> io::Result<UdpSocket> {
    let to = SocketAddrV4::new(address, port).into();
    udp(Domain::IPV4, interface, &to, |socket| socket.set_broadcast(true))
}

/// Opens the sockets: one for each interface, or one for relayed requests only.
///
/// # Errors
/// An interface is missing or has no address in a subnet of the settings, or its port cannot be bound.
pub fn open(settings: &Settings) -> Result<Vec<Port>, ProvisionError> {
    let place = Place {
        what: "DHCP",
        address: settings.address,
        port: settings.dhcp_port,
        interfaces: &settings.interfaces,
        subnet: &|a| {
            let address = a.address.as_ref()?.as_sockaddr_in()?.ip();
            let mask = a.netmask.as_ref()?.as_sockaddr_in()?.ip();
            let net = Ipv4Net::with_netmask(address, mask).ok()?;
            Some((net, settings.subnet_of(address).is_some()))
        },
        open: socket,
        unspecified: Ipv4Addr::UNSPECIFIED,
    };
    place.ports()
}

/// Everything that the thread needs.
pub struct Shell<S: Serve = Server> {
    /// The sockets.
    pub ports: Vec<Port<S::Address>>,
    /// The server that decides.
    pub server: S,
    /// Where leases are kept.
    pub keeper: Box<dyn Keeper<S::Address>>,
    /// The inventory.
    pub directory: Arc<ArcSwap<Directory>>,
    /// What operators see.
    pub board: Arc<Board>,
    /// Ends the thread.
    pub stop: Arc<AtomicBool>,
}

impl<S: Serve> Shell<S> {
    /// Serves until it is stopped.
    ///
    /// # Errors
    /// The sockets cannot be waited for any more.
    pub fn run(mut self) -> io::Result<()> {
        self.board.set_leases(self.server.leases().all());
        let mut ticked = Instant::now();
        while !self.stop.load(Ordering::Relaxed) {
            self.wait()?;
            self.turn(now());
            if ticked.elapsed() >= TICK {
                ticked = Instant::now();
                self.server.tick(now());
                self.board.tick(now());
            }
        }
        Ok(())
    }

    fn wait(&self) -> io::Result<()> {
        let mut waiting: Vec<PollFd<'_>> = self
            .ports
            .iter()
            .map(|port| PollFd::new(port.socket.as_fd(), PollFlags::POLLIN))
            .collect();
        let timeout = PollTimeout::try_from(TURN).unwrap_or(PollTimeout::ZERO);
        match poll(&mut waiting, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the datagrams that have arrived, decides, writes, sends.
    fn turn(&mut self, now: u64) {
        let directory = self.directory.load_full();
        let mut outcomes: Vec<(usize, Outcome<S::Address>)> = Vec::new();
        let mut octets = [0u8; 1500];
        for (at, port) in self.ports.iter().enumerate() {
            for _ in 0..BATCH {
                let (length, source) = match port.socket.recv_from(&mut octets) {
                    Ok(received) => received,
                    // Errors about earlier datagrams (ICMP) are reported here too; they say nothing about the socket.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => {
                        let name = port.interface.as_deref().unwrap_or("any");
                        self.board.trouble(now, &format!("DHCP on interface {name}: {error}"));
                        break;
                    }
                };
                let world = World {
                    directory: &directory,
                    board: &self.board,
                    now,
                };
                let datagram = octets.get(..length).unwrap_or_default();
                outcomes.push((at, self.server.handle(datagram, source, &port.addresses, world)));
            }
        }
        self.settle(outcomes, now);
    }

    fn settle(&mut self, mut outcomes: Vec<(usize, Outcome<S::Address>)>, now: u64) {
        let changes: Vec<Lease<S::Address>> = outcomes
            .iter()
            .filter_map(|(_, o)| Some(o.change.as_ref()?.put.clone()))
            .collect();
        if !changes.is_empty() {
            let server = &self.server;
            let all = || server.leases().all().cloned().collect();
            match self.keeper.keep(&changes, &all) {
                Ok(()) => self.board.leased(changes.iter()),
                Err(error) => {
                    let mut undone: Vec<Change<S::Address>> = Vec::new();
                    for (_, outcome) in &mut outcomes {
                        if let Some(change) = outcome.change.take() {
                            undone.push(change);
                            (outcome.reply, outcome.done) = (None, None);
                        }
                    }
                    self.server.undo(undone);
                    self.board.count("dhcp_not_written");
                    let detail = format!("leases cannot be written, so none are given: {error}");
                    self.board.trouble(now, &detail);
                }
            }
        }
        for (at, outcome) in outcomes {
            if let Some((switch, what, detail)) = outcome.done {
                self.board.step(&switch, now, what, &detail);
            }
            let (Some(reply), Some(port)) = (outcome.reply, self.ports.get(at)) else {
                continue;
            };
            let to: SocketAddr = reply.to.into();
            match port.socket.send_to(&reply.octets, to) {
                Ok(_) => self.board.count("dhcp_sent"),
                Err(error) => {
                    self.board.count("dhcp_not_sent");
                    self.board
                        .trouble(now, &format!("a DHCP reply to {} cannot be sent: {error}", to.ip()));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use dhcproto::v4::{Decodable as _, Decoder, Message, MessageType};

    use super::*;
    use crate::dhcp::leases::Holder;
    use crate::dhcp::packet::tests::octets;
    use crate::directory::tests::directory;
    use crate::settings::tests::good;

    /// A disk that can be full.
    struct Disk(Arc<AtomicBool>, Arc<std::sync::Mutex<Vec<Lease>>>);

    impl Keeper for Disk {
        fn keep(&mut self, changes: &[Lease], _: &dyn Fn() -> Vec<Lease>) -> io::Result<()> {
            if self.0.load(Ordering::Relaxed) {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.1.lock().unwrap().extend_from_slice(changes);
            Ok(())
        }
    }

    #[test]
    fn no_lease_is_given_that_cannot_be_written() {
        let mut settings = good();
        (settings.address, settings.interfaces, settings.dhcp_port) = (Ipv4Addr::LOCALHOST, Vec::new(), 0);
        settings.subnets[0].subnet = "127.0.0.0/24".parse().unwrap();
        settings.subnets[0].routers.clear();
        settings.subnets[0].pool = Some(crate::settings::Pool {
            first: [127, 0, 0, 100].into(),
            last: [127, 0, 0, 109].into(),
        });
        let settings = Arc::new(settings);
        let ports = open(&settings).unwrap();
        let to = ports[0].local_addr().unwrap();
        let (full, written) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let mut shell = Shell {
            ports,
            server: Server::new(Arc::clone(&settings), Leases::default()),
            keeper: Box::new(Disk(Arc::clone(&full), Arc::clone(&written))),
            directory: Arc::new(ArcSwap::from_pointee(directory())),
            board: Arc::default(),
            stop: Arc::default(),
        };
        // A relay on this machine that sends from a port of its own (RFC 8357).
        let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
        relay.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let send = |kind: u8, options: &[(u8, &[u8])]| {
            let options = [options, &[(82, &[19u8, 0])]].concat();
            let mut request = octets(kind, &options);
            request[24..28].copy_from_slice(&[127, 0, 0, 1]);
            relay.send_to(&request, to).unwrap();
        };
        let receive = || {
            let mut octets = [0u8; 1500];
            let (length, _) = relay.recv_from(&mut octets).unwrap();
            (
                octets[..length].to_vec(),
                [octets[16], octets[17], octets[18], octets[19]],
            )
        };
        let mut turn = |now| {
            shell.wait().unwrap();
            shell.turn(now);
        };
        let request = |address: [u8; 4]| send(3, &[(54, &[127, 0, 0, 1]), (50, &address)]);
        send(1, &[]);
        turn(100);
        let (_, offered) = receive();
        full.store(true, Ordering::Relaxed);
        request(offered);
        turn(101);
        // The offer is still good, and the disk has room again.
        full.store(false, Ordering::Relaxed);
        request(offered);
        turn(102);
        let (ack, address) = receive();
        let ack = Message::decode(&mut Decoder::new(&ack)).unwrap();
        assert_eq!((ack.opts().msg_type(), address), (Some(MessageType::Ack), offered));
        let written = written.lock().unwrap();
        assert_eq!(written.len(), 1, "only what was acknowledged");
        assert_eq!(written[0].holder, Holder::Switch("spine1".parse().unwrap()));
        let status = shell.board.status(103);
        assert_eq!(status.counters["dhcp_not_written"], 1);
        assert!(
            status.troubles[0].detail.contains("cannot be written"),
            "{:?}",
            status.troubles
        );
        assert_eq!((status.leases.len(), status.counters["dhcp_sent"]), (1, 2));
        relay.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert!(relay.recv_from(&mut [0; 1500]).is_err(), "nothing else was sent");
    }
}
