//! Real packets: echo servers that return their names, pings, TCP transfers, captures.
//!
//! Every socket is opened inside a namespace ([`netns::within`]) and used from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{Domain, Protocol, Socket, Type};

use super::netns;

/// UDP port of the echo servers.
pub const ECHO_PORT: u16 = 7007;
/// The payload of pings.
pub const PING_DATA: u8 = 0x5a;
/// TCP port of the transfers.
const TCP_PORT: u16 = 7008;
/// Longest time for a single reply: far more than a lab on a busy machine needs.
pub const ANSWER_TIMEOUT: Duration = Duration::from_millis(1500);
/// How often a blocked reader checks whether it should stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Largest frame a capture keeps whole.
const MAX_FRAME: usize = 65536;

/// A background thread that ends when it is dropped.
pub(crate) struct Worker<T> {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<T>>,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts a thread that runs `f`, which must end soon after the flag is set.
    pub(crate) fn start(f: impl FnOnce(&AtomicBool) -> T + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        Self {
            stop,
            thread: Some(std::thread::spawn(move || f(&flag))),
        }
    }

    /// Ends the thread and returns its result.
    ///
    /// # Errors
    /// The thread panicked.
    pub(crate) fn finish(mut self) -> Result<T> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the worker has ended")?;
        thread.join().ok().context("the worker panicked")
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What an echo server has received: senders, each with the numbers that it sent (datagrams of 4 octets).
type Heard = BTreeMap<SocketAddr, BTreeSet<u32>>;

/// Answers every UDP datagram with the server's name, a space, and the datagram.
pub struct EchoServer {
    heard: Arc<Mutex<Heard>>,
    _worker: Worker<()>,
}

impl EchoServer {
    /// Starts a server in a namespace; it answers over IPv4 and IPv6.
    ///
    /// # Errors
    /// The namespace does not exist, or the port is taken.
    pub fn start(namespace: &str, name: &str) -> Result<Self> {
        let socket = netns::within(namespace, || {
            UdpSocket::bind((Ipv6Addr::UNSPECIFIED, ECHO_PORT)).with_context(|| format!("echo server in {namespace}"))
        })?;
        socket.set_read_timeout(Some(LOOK_EVERY))?;
        let prefix = format!("{name} ").into_bytes();
        let heard = Arc::<Mutex<Heard>>::default();
        let notes = Arc::clone(&heard);
        let worker = Worker::start(move |stop| {
            let mut buffer = vec![0u8; MAX_FRAME];
            while !stop.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                let mut answer = prefix.clone();
                let datagram = buffer.get(..length).unwrap_or_default();
                if let Ok(number) = datagram.try_into().map(u32::from_be_bytes) {
                    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                    let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
                    notes.entry(from).or_default().insert(number);
                }
                answer.extend_from_slice(datagram);
                let _ = socket.send_to(&answer, from);
            }
        });
        Ok(Self { heard, _worker: worker })
    }

    /// The numbers that the server received from a sender.
    pub(crate) fn heard(&self, from: SocketAddr) -> BTreeSet<u32> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        heard.get(&from).cloned().unwrap_or_default()
    }
}

fn any(of: IpAddr) -> IpAddr {
    if of.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    }
}

/// Opens a UDP socket in a namespace, for packets to `to`.
///
/// # Errors
/// The namespace does not exist, or has no route to `to`.
pub fn udp(namespace: &str, to: SocketAddr) -> Result<UdpSocket> {
    netns::within(namespace, || {
        let socket = UdpSocket::bind((any(to.ip()), 0))?;
        socket.connect(to).with_context(|| format!("{namespace} to {to}"))?;
        Ok(socket)
    })
}

/// Sends `payload` to an echo server. Returns the name of the server that answered and how long it took. `None`: no answer.
///
/// # Errors
/// The packet could not even be sent.
pub fn ask(namespace: &str, to: IpAddr, payload: &str, timeout: Duration) -> Result<Option<(String, Duration)>> {
    let socket = udp(namespace, (to, ECHO_PORT).into())?;
    socket.set_read_timeout(Some(timeout))?;
    let started = Instant::now();
    socket
        .send(payload.as_bytes())
        .with_context(|| format!("{namespace} to {to}"))?;
    let mut buffer = vec![0u8; MAX_FRAME];
    let Ok(length) = socket.recv(&mut buffer) else {
        return Ok(None);
    };
    let took = started.elapsed();
    let answer = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned();
    match answer.split_once(' ') {
        Some((who, back)) if back == payload => Ok(Some((who.to_owned(), took))),
        _ => bail!("{to} answered {namespace} with `{answer}`, which is not what was sent"),
    }
}

/// Pings once (ICMP or ICMPv6 echo) with this many octets of data. Returns the time until the reply.
///
/// # Errors
/// The packet could not be sent.
pub fn ping(namespace: &str, to: IpAddr, data: usize, timeout: Duration) -> Result<Option<Duration>> {
    ping_with(namespace, to, &vec![PING_DATA; data], timeout)
}

/// Pings once with this data.
///
/// # Errors
/// The packet could not be sent.
pub(crate) fn ping_with(namespace: &str, to: IpAddr, data: &[u8], timeout: Duration) -> Result<Option<Duration>> {
    let (domain, protocol, request, reply) = match to {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8u8, 0u8),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
    };
    let socket = netns::within(namespace, || Ok(Socket::new(domain, Type::RAW, Some(protocol))?))?;
    let id: u16 = rand::random();
    let mut packet = vec![request, 0, 0, 0];
    packet.extend_from_slice(&id.to_be_bytes());
    packet.extend_from_slice(&[0, 1]);
    packet.extend_from_slice(data);
    if to.is_ipv4() {
        let sum = etherparse::checksum::Sum16BitWords::new()
            .add_slice(&packet)
            .ones_complement();
        packet.splice(2..4, sum.to_ne_bytes());
    }
    let started = Instant::now();
    socket.connect(&SocketAddr::new(to, 0).into())?;
    socket
        .send(&packet)
        .with_context(|| format!("ping {to} from {namespace}"))?;
    let mut buffer = vec![0u8; MAX_FRAME];
    while let Some(left) = timeout.checked_sub(started.elapsed()).filter(|l| !l.is_zero()) {
        socket.set_read_timeout(Some(left))?;
        let Ok(length) = (&socket).read(&mut buffer) else {
            return Ok(None);
        };
        // A raw IPv4 socket hands out the IP header too; an IPv6 one does not.
        let skip = if to.is_ipv4() {
            usize::from(buffer.first().copied().unwrap_or(0) & 15) * 4
        } else {
            0
        };
        let message = buffer.get(skip..length).unwrap_or_default();
        let ours = message.first() == Some(&reply) && message.get(4..) == packet.get(4..);
        if ours {
            return Ok(Some(started.elapsed()));
        }
    }
    Ok(None)
}

/// An ICMP or ICMPv6 error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IcmpError {
    /// Its sender.
    pub from: IpAddr,
    /// Its type.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// Its second word: the next hop's MTU, if it reports one.
    pub rest: u32,
}

/// Sends one UDP datagram with this many octets of data and this TTL, and returns the ICMP error about it.
///
/// # Errors
/// The packet could not be sent.
pub fn provoke(namespace: &str, to: SocketAddr, ttl: u32, data: usize, timeout: Duration) -> Result<Option<IcmpError>> {
    let (domain, protocol, header) = match to {
        SocketAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 20),
        SocketAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 40),
    };
    let listener = netns::within(namespace, || Ok(Socket::new(domain, Type::RAW, Some(protocol))?))?;
    let socket = udp(namespace, to)?;
    match to {
        SocketAddr::V4(_) => socket.set_ttl(ttl)?,
        SocketAddr::V6(_) => socket2::SockRef::from(&socket).set_unicast_hops_v6(ttl)?,
    }
    let ports = [socket.local_addr()?.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    let listener = UdpSocket::from(listener);
    let started = Instant::now();
    socket
        .send(&vec![PING_DATA; data])
        .with_context(|| format!("{namespace} to {to}"))?;
    let mut buffer = vec![0u8; MAX_FRAME];
    while let Some(left) = timeout.checked_sub(started.elapsed()).filter(|l| !l.is_zero()) {
        listener.set_read_timeout(Some(left))?;
        let Ok((length, from)) = listener.recv_from(&mut buffer) else {
            return Ok(None);
        };
        // A raw IPv4 socket hands out the IP header too; an IPv6 one does not.
        let skip = if to.is_ipv4() { 20 } else { 0 };
        let message = buffer.get(skip..length).unwrap_or_default();
        if let [kind, code, _, _, a, b, c, d, quoted @ ..] = message
            && quoted.get(header..header + 4) == Some(&ports)
        {
            return Ok(Some(IcmpError {
                from: from.ip(),
                kind: *kind,
                code: *code,
                rest: u32::from_be_bytes([*a, *b, *c, *d]),
            }));
        }
    }
    Ok(None)
}

/// Sends this many octets over TCP from one namespace to another and compares what arrives;
/// returns how long it took.
///
/// # Errors
/// The connection failed, or other octets arrived than were sent.
pub fn tcp(from: &str, to_namespace: &str, to: IpAddr, octets: usize) -> Result<Duration> {
    let listener = netns::within(to_namespace, || Ok(TcpListener::bind((any(to), TCP_PORT))?))?;
    let chunk: Vec<u8> = (0..1u32 << 16)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let expected = chunk.clone();
    let started = Instant::now();
    std::thread::scope(|scope| {
        let receive = scope.spawn(move || -> Result<usize> {
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(ANSWER_TIMEOUT * 4))?;
            let mut buffer = vec![0u8; 1 << 16];
            let mut received = 0;
            loop {
                let length = stream.read(&mut buffer)?;
                if length == 0 {
                    return Ok(received);
                }
                for (i, byte) in buffer.iter().take(length).enumerate() {
                    if expected.get((received + i) % expected.len()) != Some(byte) {
                        bail!("octet {} arrived changed", received + i);
                    }
                }
                received += length;
            }
        });
        let address = SocketAddr::from((to, TCP_PORT));
        let send = netns::within(from, || {
            let mut stream = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT * 2)
                .with_context(|| format!("TCP from {from} to {address}"))?;
            stream.set_write_timeout(Some(ANSWER_TIMEOUT * 4))?;
            let mut left = octets;
            while left > 0 {
                let part = chunk.get(..left.min(chunk.len())).unwrap_or_default();
                stream.write_all(part)?;
                left -= part.len();
            }
            Ok(())
        });
        if send.is_err() {
            // The receiver still waits for a connection, and nobody else will make one.
            let _ = netns::within(to_namespace, || Ok(TcpStream::connect((to, TCP_PORT))?));
        }
        let received = receive.join().ok().context("the receiver panicked")?;
        send?;
        let received = received?;
        if received != octets {
            bail!("{received} of {octets} octets arrived");
        }
        Ok(started.elapsed())
    })
}

/// Whether a TCP connection from one namespace is accepted in the other.
///
/// # Errors
/// The receiver cannot listen.
pub(crate) fn tcp_arrives(from: &str, to_namespace: &str, to: IpAddr) -> Result<bool> {
    let listener = netns::within(to_namespace, || Ok(TcpListener::bind((any(to), TCP_PORT))?))?;
    listener.set_nonblocking(true)?;
    let address = SocketAddr::from((to, TCP_PORT));
    // It may be refused, unreachable, or accepted by another machine with the same address: only the listener knows.
    let connection = netns::within(from, || Ok(TcpStream::connect_timeout(&address, ANSWER_TIMEOUT)))?;
    if connection.is_ok() {
        // The connecting side is done one packet before the listening side (RFC 9293, section 3.5).
        let mut waiting = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        poll(&mut waiting, PollTimeout::try_from(ANSWER_TIMEOUT)?)?;
    }
    match listener.accept() {
        Ok(_) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Captures every frame that a namespace's interfaces receive.
pub struct Capture(Worker<Vec<Vec<u8>>>);

impl Capture {
    /// Starts a capture.
    ///
    /// # Errors
    /// The namespace does not exist.
    pub fn start(namespace: &str) -> Result<Self> {
        let every_protocol = Protocol::from(i32::from((nix::libc::ETH_P_ALL as u16).to_be()));
        let socket = netns::within(namespace, || {
            Ok(Socket::new(Domain::PACKET, Type::RAW, Some(every_protocol))?)
        })?;
        socket.set_read_timeout(Some(LOOK_EVERY))?;
        Ok(Self(Worker::start(move |stop| {
            let mut frames = Vec::new();
            let mut buffer = vec![0u8; MAX_FRAME];
            loop {
                match (&socket).read(&mut buffer) {
                    Ok(length) => frames.push(buffer.get(..length).unwrap_or_default().to_vec()),
                    Err(_) if stop.load(Ordering::Relaxed) => return frames,
                    Err(_) => {}
                }
            }
        })))
    }

    /// Ends the capture, after frames under way have had time to arrive.
    ///
    /// # Errors
    /// The capturing thread panicked.
    pub fn finish(self) -> Result<Vec<Vec<u8>>> {
        std::thread::sleep(LOOK_EVERY);
        self.0.finish()
    }

    /// Ends several captures at the same time.
    ///
    /// # Errors
    /// A capturing thread panicked.
    pub fn finish_all<T>(captures: Vec<(T, Self)>) -> Result<Vec<(T, Vec<Vec<u8>>)>> {
        std::thread::sleep(LOOK_EVERY);
        captures
            .iter()
            .for_each(|(_, c)| c.0.stop.store(true, Ordering::Relaxed));
        captures.into_iter().map(|(of, c)| Ok((of, c.0.finish()?))).collect()
    }
}

/// Whether `needle` is somewhere in the frame.
pub fn contains(frame: &[u8], needle: &[u8]) -> bool {
    frame.windows(needle.len()).any(|w| w == needle)
}

/// TTL or hop limit of an IP packet in an Ethernet frame.
pub fn ttl(frame: &[u8]) -> Option<u8> {
    match etherparse::SlicedPacket::from_ethernet(frame).ok()?.net? {
        etherparse::NetSlice::Ipv4(v4) => Some(v4.header().ttl()),
        etherparse::NetSlice::Ipv6(v6) => Some(v6.header().hop_limit()),
        _ => None,
    }
}
