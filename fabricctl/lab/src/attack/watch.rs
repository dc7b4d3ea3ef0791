//! Finds out who receives each frame: one thread listens on every cable of the lab. Also has the sockets that send.
//!
//! Each frame of an attack carries a [`Token`] that no other frame of the run has. So a token
//! that is seen identifies its frame, even if everything around it was rewritten. Only frames that a place
//! *receives* count: every cable has a place at both ends, so nothing is missed, and a sender's own
//! frames do not count for it.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, send, setsockopt, socket,
    sockopt::RcvBufForce,
};

use super::taps;
use crate::netns;
use crate::probe::Worker;

/// Octets of a token.
pub(crate) const TOKEN: usize = 16;
/// The start of every token; the rest is drawn for each run.
const MAGIC: [u8; 4] = [0xa7, 0x7a, 0xc4, 0xed];
/// Packet type of what the socket's own end sent (linux/if_packet.h).
const OUTGOING: u8 = 4;
/// Receive buffer of one place, in octets: more than the largest attack sends.
const BUFFER: usize = 64 << 20;
/// How often the thread checks whether it should end, in milliseconds.
const LOOK_EVERY_MS: u8 = 50;
/// Largest frame of a veth.
const MAX_FRAME: usize = 1 << 16;

/// Identifies one frame of one attack of one run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Token {
    run: u32,
    /// Number of the attack in the run.
    pub(crate) attack: u32,
    /// Number of the frame in the attack.
    pub(crate) frame: u32,
}

impl Token {
    /// As it is in a frame.
    pub(crate) fn octets(self) -> [u8; TOKEN] {
        let mut octets = [0; TOKEN];
        let parts = [
            MAGIC,
            self.run.to_be_bytes(),
            self.attack.to_be_bytes(),
            self.frame.to_be_bytes(),
        ];
        for (to, from) in octets.iter_mut().zip(parts.as_flattened()) {
            *to = *from;
        }
        octets
    }

    /// The token of a run in a frame, wherever it is.
    fn find(run: u32, frame: &[u8]) -> Option<Self> {
        let mut begin = [0; 8];
        begin[..4].copy_from_slice(&MAGIC);
        begin[4..].copy_from_slice(&run.to_be_bytes());
        let at = frame.windows(8).position(|w| w == begin)?;
        let number = |at: usize| Some(u32::from_be_bytes(*frame.get(at..)?.first_chunk()?));
        Some(Self {
            run,
            attack: number(at + 8)?,
            frame: number(at + 12)?,
        })
    }
}

/// Numbers of the frames that a namespace received, by attack and namespace.
type Seen = BTreeMap<(u32, usize), BTreeSet<u32>>;

/// Listens everywhere until it is dropped.
pub(crate) struct Watch {
    run: u32,
    namespaces: Vec<String>,
    seen: Arc<Mutex<Seen>>,
    _worker: Worker<()>,
}

impl Watch {
    /// Listens in these namespaces from now on.
    ///
    /// # Errors
    /// One of them does not exist.
    pub(crate) fn start(namespaces: &[&str]) -> Result<Self> {
        let run = rand::random();
        let seen = Arc::new(Mutex::new(Seen::new()));
        let sockets: Vec<OwnedFd> = namespaces
            .iter()
            .map(|n| netns::within(n, listener))
            .collect::<Result<_>>()?;
        let shared = Arc::clone(&seen);
        let worker = Worker::start(move |stop| {
            let mut buffer = vec![0u8; MAX_FRAME];
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let mut ready: Vec<PollFd<'_>> = sockets
                    .iter()
                    .map(|s| PollFd::new(s.as_fd(), PollFlags::POLLIN))
                    .collect();
                // Interrupted, or nothing for a while: look again.
                let _ = poll(&mut ready, PollTimeout::from(LOOK_EVERY_MS));
                let ready: Vec<bool> = ready.iter().map(|p| p.any() == Some(true)).collect();
                for (place, socket) in sockets.iter().enumerate() {
                    if ready.get(place) == Some(&true) {
                        take(socket, &mut buffer, |frame| {
                            if let Some(token) = Token::find(run, frame) {
                                lock(&shared)
                                    .entry((token.attack, place))
                                    .or_default()
                                    .insert(token.frame);
                            }
                        });
                    }
                }
            }
        });
        Ok(Self {
            run,
            namespaces: namespaces.iter().map(|n| (*n).to_owned()).collect(),
            seen,
            _worker: worker,
        })
    }

    /// The token of a frame.
    pub(crate) fn token(&self, attack: u32, frame: u32) -> Token {
        Token {
            run: self.run,
            attack,
            frame,
        }
    }

    /// The frames of an attack that each namespace has received so far.
    pub(crate) fn seen(&self, attack: u32) -> BTreeMap<&str, BTreeSet<u32>> {
        let seen = lock(&self.seen);
        let of_attack = seen.range((attack, 0)..=(attack, usize::MAX));
        of_attack
            .filter_map(|((_, place), frames)| Some((self.namespaces.get(*place)?.as_str(), frames.clone())))
            .collect()
    }

    /// Forgets an attack.
    pub(crate) fn forget(&self, attack: u32) {
        lock(&self.seen).retain(|(of, _), _| *of != attack);
    }
}

/// A panic of another holder leaves whole entries behind.
fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

fn listener() -> Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )?;
    setsockopt(&socket, RcvBufForce, &BUFFER)?;
    Ok(socket)
}

/// Passes on the frames that wait in a socket, except those that were sent on the same interface.
fn take(socket: &OwnedFd, buffer: &mut [u8], mut each: impl FnMut(&[u8])) {
    loop {
        match recvfrom::<LinkAddr>(socket.as_raw_fd(), buffer) {
            Ok((length, from)) if from.is_none_or(|f| f.pkttype() != OUTGOING) => {
                each(buffer.get(..length).unwrap_or_default());
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// An interface that frames are sent by, as they are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Port {
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) interface: String,
}

impl Port {
    /// A port.
    pub(crate) fn new(namespace: &str, interface: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            interface: interface.to_owned(),
        }
    }

    /// Opens it for sending.
    ///
    /// # Errors
    /// There is no such interface.
    pub(crate) fn open(&self) -> Result<Sender> {
        netns::within(&self.namespace, || {
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
            taps::bypass(&socket)?;
            let all = nix::ifaddrs::getifaddrs()?;
            let ours = all.filter(|a| a.interface_name == self.interface);
            let link = ours.filter_map(|a| a.address?.as_link_addr().copied()).next();
            let link = link.with_context(|| format!("no interface {} in {}", self.interface, self.namespace))?;
            bind(socket.as_raw_fd(), &link)?;
            Ok(Sender {
                socket,
                port: self.clone(),
            })
        })
    }
}

/// Sends frames by one interface.
pub(crate) struct Sender {
    socket: OwnedFd,
    port: Port,
}

impl Sender {
    /// Sends one frame.
    ///
    /// # Errors
    /// The kernel does not take it: it is too long or too short, for example.
    pub(crate) fn send(&self, frame: &[u8]) -> Result<()> {
        loop {
            match send(self.socket.as_raw_fd(), frame, MsgFlags::empty()) {
                Ok(_) => return Ok(()),
                // The interface does not accept frames for a moment.
                Err(Errno::ENOBUFS | Errno::EINTR | Errno::EAGAIN) => std::thread::yield_now(),
                Err(e) => bail!(
                    "{} {}: sending {} octets: {e}",
                    self.port.namespace,
                    self.port.interface,
                    frame.len()
                ),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_found_wherever_it_is_and_only_in_its_run() {
        let token = Token {
            run: 7,
            attack: 3,
            frame: 0x0102_0304,
        };
        let frame = [&[0xa7, 0x7a, 0xc4][..], &token.octets(), b"tail"].concat();
        assert_eq!(Token::find(7, &frame), Some(token));
        assert_eq!(Token::find(8, &frame), None);
        // Cut off: nothing, and no panic.
        assert_eq!(Token::find(7, &frame[..17]), None);
    }
}
