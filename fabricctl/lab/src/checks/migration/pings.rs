//! Numbered pings, and a record of them where they arrive.
//!
//! Each ping carries a mark and a number: the mark says which flow it belongs to. So a frame is recognised
//! wherever it is captured, and a lost one is known by its number.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, setsockopt, socket, sockopt::RcvBufForce,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns;
use crate::probe::Worker;

/// Octets of a mark.
pub(super) const MARK: usize = 12;
/// Octets of the header of an echo message (RFC 792, RFC 4443 section 4.1).
const ECHO_HEADER: usize = 8;
/// Types of echo messages, of IPv4 and IPv6.
const REQUESTS: [u8; 2] = [8, 128];
const REPLIES: [u8; 2] = [0, 129];
/// Longest wait for the last replies: on a busy machine a process may not run for a large part of a
/// second.
const LINGER: Duration = Duration::from_secs(2);
/// How often a thread that waits looks whether it should end.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const LOOK_EVERY_MS: u8 = 20;
/// Receive buffer of a socket, in octets: more than all pings of a check.
const BUFFER: usize = 8 << 20;
/// Longest frame of interest.
const FRAME: usize = 2048;
/// EtherTypes of RARP (RFC 903), which QEMU sends, and ARP (RFC 826), which a guest sends.
const ANNOUNCEMENTS: [u16; 2] = [0x8035, 0x0806];
/// Packet type of what the interface's own system sends (linux/if_packet.h).
const OUTGOING: u8 = 4;

/// Marks the pings of a flow.
pub(super) type Mark = [u8; MARK];

/// An echo message that carries a mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Echo {
    pub(super) number: u32,
    pub(super) is_reply: bool,
}

impl Echo {
    /// Finds one in a packet or frame.
    pub(super) fn find(octets: &[u8], mark: &Mark) -> Option<Self> {
        let at = octets.windows(MARK).position(|window| window == mark)?;
        let number = octets.get(at + MARK..)?.first_chunk()?;
        let kind = octets.get(at.checked_sub(ECHO_HEADER)?)?;
        let is_reply = REPLIES.contains(kind);
        (is_reply || REQUESTS.contains(kind)).then_some(Self {
            number: u32::from_be_bytes(*number),
            is_reply,
        })
    }
}

/// A request with this mark and number.
fn request(to: IpAddr, id: u16, mark: &Mark, number: u32) -> Vec<u8> {
    let kind = REQUESTS[usize::from(to.is_ipv6())];
    let [.., high, low] = number.to_be_bytes();
    let mut packet = [&[kind, 0, 0, 0][..], &id.to_be_bytes(), &[high, low], mark].concat();
    packet.extend(number.to_be_bytes());
    if to.is_ipv4() {
        let sum = etherparse::checksum::Sum16BitWords::new()
            .add_slice(&packet)
            .ones_complement();
        packet.splice(2..4, sum.to_ne_bytes());
    }
    packet
}

/// Pings from one place to another until it is stopped.
pub(super) struct Pings {
    sender: Worker<Vec<Instant>>,
    receiver: Worker<BTreeMap<u32, Instant>>,
}

/// The results of the pings.
pub(super) struct Pinged {
    /// When each was sent.
    pub(super) sent: Vec<Instant>,
    /// When the reply to each came.
    pub(super) answered: BTreeMap<u32, Instant>,
}

impl Pings {
    /// Starts the pings, one in each interval.
    ///
    /// # Errors
    /// A socket cannot be opened.
    pub(super) fn start(namespace: &str, to: IpAddr, mark: Mark, interval: Duration) -> Result<Self> {
        let (domain, protocol) = match to {
            IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4),
            IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6),
        };
        let socket = netns::within(namespace, || {
            let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
            setsockopt(&socket, RcvBufForce, &BUFFER)?;
            let connected = socket.connect(&SocketAddr::new(to, 0).into());
            connected.with_context(|| format!("{namespace} to {to}"))?;
            Ok(socket)
        })?;
        socket.set_read_timeout(Some(LOOK_EVERY))?;
        let writer = socket.try_clone()?;
        let (all_sent, total) = mpsc::channel();
        let id = rand::random();
        let sender = Worker::start(move |stop| {
            let mut sent = Vec::new();
            let mut next = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                let number = u32::try_from(sent.len()).unwrap_or(u32::MAX);
                sent.push(Instant::now());
                // A packet that could not be sent counts as lost.
                let _ = writer.send(&request(to, id, &mark, number));
                next += interval;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
            let _ = all_sent.send(sent.len());
            sent
        });
        let receiver = Worker::start(move |_| receive(&socket, &mark, &total));
        Ok(Self { sender, receiver })
    }

    /// Stops them.
    ///
    /// # Errors
    /// A thread panicked.
    pub(super) fn stop(self) -> Result<Pinged> {
        let sent = self.sender.finish()?;
        let answered = self.receiver.finish()?;
        Ok(Pinged { sent, answered })
    }
}

/// Collects replies until every ping has one, or until time runs out after the last ping.
fn receive(mut socket: &Socket, mark: &Mark, total: &mpsc::Receiver<usize>) -> BTreeMap<u32, Instant> {
    let mut answered = BTreeMap::new();
    let mut end: Option<(usize, Instant)> = None;
    let mut buffer = [0; FRAME];
    loop {
        let length = socket.read(&mut buffer).unwrap_or(0);
        let echo = Echo::find(buffer.get(..length).unwrap_or_default(), mark);
        if let Some(echo) = echo.filter(|echo| echo.is_reply) {
            answered.entry(echo.number).or_insert_with(Instant::now);
        }
        match total.try_recv() {
            Ok(total) => end = Some((total, Instant::now())),
            // The sender panicked: its own result says so.
            Err(mpsc::TryRecvError::Disconnected) if end.is_none() => return answered,
            Err(_) => {}
        }
        if end.is_some_and(|(total, since)| answered.len() >= total || since.elapsed() > LINGER) {
            return answered;
        }
    }
}

/// A record of what passed an interface.
pub(super) struct Record(Worker<Passed>);

/// What passed.
#[derive(Default)]
pub(super) struct Passed {
    /// Numbers of requests that came in, for each mark.
    pub(super) requests: BTreeMap<Mark, BTreeSet<u32>>,
    /// Numbers of replies that went out.
    pub(super) replies: BTreeMap<Mark, BTreeSet<u32>>,
    /// The first frame that went out and announces a guest: its EtherType, and when.
    pub(super) announced: Option<(u16, Instant)>,
}

impl Record {
    /// Begins a record of an interface in a namespace.
    ///
    /// # Errors
    /// There is no such interface.
    pub(super) fn start(namespace: &str, interface: &str, marks: Vec<Mark>) -> Result<Self> {
        let socket = netns::within(namespace, || listener(interface))?;
        Ok(Self(Worker::start(move |stop| {
            let mut passed = Passed::default();
            loop {
                let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
                let is_ready = poll(&mut ready, PollTimeout::from(LOOK_EVERY_MS)) == Ok(1);
                if is_ready {
                    take(&socket, &marks, &mut passed);
                } else if stop.load(Ordering::Relaxed) {
                    return passed;
                }
            }
        })))
    }

    /// Ends the record when nothing more arrives.
    ///
    /// # Errors
    /// The thread panicked.
    pub(super) fn finish(self) -> Result<Passed> {
        self.0.finish()
    }
}

fn listener(interface: &str) -> Result<OwnedFd> {
    let all = nix::ifaddrs::getifaddrs()?;
    let mut links = all.filter(|a| a.interface_name == interface);
    let link = links.find_map(|a| a.address?.as_link_addr().copied());
    let link = link.with_context(|| format!("no interface {interface}"))?;
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)?;
    setsockopt(&socket, RcvBufForce, &BUFFER)?;
    // Without a protocol in the address, the socket keeps its own (packet(7)).
    bind(socket.as_raw_fd(), &link)?;
    // Frames that arrived before the socket was bound may be from other links.
    while recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut [0]).is_ok() {}
    Ok(socket)
}

/// Takes the frames that wait in a socket.
fn take(socket: &OwnedFd, marks: &[Mark], passed: &mut Passed) {
    let mut buffer = [0; FRAME];
    while let Ok((length, from)) = recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) {
        let frame = buffer.get(..length).unwrap_or_default();
        passed.note(frame, from.is_some_and(|from| from.pkttype() == OUTGOING), marks);
    }
}

impl Passed {
    fn note(&mut self, frame: &[u8], is_out: bool, marks: &[Mark]) {
        let kind = frame.get(12..14).and_then(|kind| <[u8; 2]>::try_from(kind).ok());
        // The namespace's own system sends reports of multicast groups, too.
        let kind = kind.map(u16::from_be_bytes).filter(|kind| ANNOUNCEMENTS.contains(kind));
        if let (true, None, Some(kind)) = (is_out, self.announced, kind) {
            self.announced = Some((kind, Instant::now()));
        }
        for mark in marks {
            let Some(echo) = Echo::find(frame, mark).filter(|echo| echo.is_reply == is_out) else {
                continue;
            };
            let numbers = if is_out { &mut self.replies } else { &mut self.requests };
            numbers.entry(*mark).or_default().insert(echo.number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: Mark = *b"mark of mine";
    const OTHER: Mark = *b"mark another";

    #[test]
    fn a_ping_is_known_by_its_mark_and_number_in_both_directions() {
        for (to, reply) in [("10.0.0.1", 0), ("fd00::1", 129)] {
            let mut packet = request(to.parse().unwrap(), 7, &MINE, 0x0001_0002);
            let frame = |packet: &[u8]| [&[0; 12][..], &[8, 0], &[0x45; 20], packet].concat();
            let mut passed = Passed::default();
            passed.note(&frame(&packet), false, &[OTHER, MINE]);
            // A request that goes out is not a reply of the guest.
            passed.note(&frame(&packet), true, &[MINE]);
            assert_eq!(passed.requests, BTreeMap::from([(MINE, BTreeSet::from([0x0001_0002]))]));
            assert!(passed.replies.is_empty());
            packet[0] = reply;
            passed.note(&frame(&packet), true, &[MINE]);
            assert_eq!(passed.replies[&MINE], BTreeSet::from([0x0001_0002]));
            assert_eq!(passed.announced, None);
            let rarp = [&[0; 12][..], &[0x80, 0x35], &[0; 28]].concat();
            passed.note(&rarp, false, &[]);
            assert_eq!(passed.announced, None, "that came in");
            passed.note(&rarp, true, &[]);
            assert_eq!(passed.announced.unwrap().0, 0x8035);
            for length in 0..packet.len() {
                assert_eq!(Echo::find(&packet[..length], &MINE), None);
            }
        }
    }
}
