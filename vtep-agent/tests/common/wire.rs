//! Frames as they are on the wire, and the checksums in them.

// `ioctl` has no safe form for SIOCETHTOOL.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket,
    sockopt::{RcvBufForce, ReceiveTimeout},
};
use nix::sys::time::TimeVal;

use super::inside;

/// Receive buffer of a capture, in octets: more than a test sends.
const BUFFER: usize = 64 << 20;

/// Longest wait for another frame, in microseconds.
const QUIET: i64 = 300_000;

/// Turns TX checksum offload off, as is necessary on a link to a userspace switch.
pub fn no_tx_checksum_offload(netns: &str, interface: &'static str) {
    /// ETHTOOL_STXCSUM (linux/ethtool.h).
    const SET_TX_CHECKSUM: u32 = 0x17;
    const SIOCETHTOOL: libc::c_ulong = 0x8946;
    #[repr(C)]
    struct EthtoolValue {
        command: u32,
        data: u32,
    }
    let work = move || {
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::empty(), None).unwrap();
        let mut value = EthtoolValue {
            command: SET_TX_CHECKSUM,
            data: 0,
        };
        // SAFETY: an all-zero ifreq is valid; the kernel reads the name and the pointer to
        // `value`, which outlives the call.
        let done = unsafe {
            let mut request: libc::ifreq = std::mem::zeroed();
            for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
                *to = from as libc::c_char;
            }
            request.ifr_ifru.ifru_data = (&raw mut value).cast();
            libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &request)
        };
        assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    };
    inside(netns, work).join().unwrap();
}

/// Sends frames unchanged through an interface.
pub fn send(netns: &str, interface: &'static str, frames: Vec<Vec<u8>>) {
    let work = move || {
        let s = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None).unwrap();
        let index = nix::net::if_::if_nametoindex(interface).unwrap();
        for frame in &frames {
            // SAFETY: an all-zero sockaddr_ll is valid; the kernel reads the frame and the
            // address, which outlive the call.
            let sent = unsafe {
                let mut to: libc::sockaddr_ll = std::mem::zeroed();
                to.sll_family = libc::AF_PACKET as u16;
                to.sll_ifindex = index as i32;
                libc::sendto(
                    s.as_raw_fd(),
                    frame.as_ptr().cast(),
                    frame.len(),
                    0,
                    (&raw const to).cast(),
                    size_of::<libc::sockaddr_ll>() as u32,
                )
            };
            assert_eq!(sent, frame.len() as isize, "{}", std::io::Error::last_os_error());
        }
    };
    inside(netns, work).join().unwrap();
}

/// A capture of all frames that a namespace sees.
pub struct Capture {
    thread: JoinHandle<Vec<Vec<u8>>>,
    enough: Arc<AtomicBool>,
}

impl Capture {
    /// Starts a capture. It is running when this returns.
    pub fn start(netns: &str) -> Self {
        let open = || -> OwnedFd {
            let s = socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::empty(),
                SockProtocol::EthAll,
            )
            .unwrap();
            setsockopt(&s, ReceiveTimeout, &TimeVal::new(0, QUIET)).unwrap();
            setsockopt(&s, RcvBufForce, &BUFFER).unwrap();
            s
        };
        let socket = inside(netns, open).join().unwrap();
        let enough = Arc::new(AtomicBool::new(false));
        let stop = enough.clone();
        let thread = std::thread::spawn(move || {
            let (mut frames, mut buffer) = (Vec::new(), vec![0u8; 1 << 17]);
            loop {
                match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                    Ok(n) => frames.push(buffer[..n].to_vec()),
                    Err(_) if stop.load(Ordering::Relaxed) => return frames,
                    Err(_) => {}
                }
            }
        });
        Self { thread, enough }
    }

    /// Ends the capture once no more frames arrive, and returns its frames.
    pub fn frames(self) -> Vec<Vec<u8>> {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }

    /// Like [`Self::frames`], but returns only the tunnelled frames.
    pub fn tunnelled(self) -> Vec<Tunnelled> {
        self.frames().iter().filter_map(|f| Tunnelled::parse(f)).collect()
    }
}

/// A frame inside VXLAN.
#[derive(Debug)]
pub struct Tunnelled {
    /// The outer IP header and what follows.
    pub outer: Vec<u8>,
    /// The inner Ethernet frame.
    pub inner: Vec<u8>,
}

fn u16_at(octets: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([octets[at], octets[at + 1]])
}

/// Length of an IP header without options or extensions; `None` for anything else.
fn ip_header(packet: &[u8]) -> Option<usize> {
    match packet.first()? {
        0x45 => Some(20),
        v if v >> 4 == 6 => Some(40),
        _ => None,
    }
}

fn protocol(packet: &[u8]) -> u8 {
    if packet[0] >> 4 == 4 { packet[9] } else { packet[6] }
}

/// True when the checksum of the TCP segment or UDP datagram in a packet is right: the sum
/// over it and the pseudo header is all ones (RFC 1071; RFC 8200 section 8.1).
pub fn checksum_is_right(packet: &[u8]) -> bool {
    let header = ip_header(packet).unwrap();
    let addresses = if header == 20 { &packet[12..20] } else { &packet[8..40] };
    let total = if header == 20 {
        usize::from(u16_at(packet, 2))
    } else {
        40 + usize::from(u16_at(packet, 4))
    };
    let segment = &packet[header..total];
    let word = |c: &[u8]| u32::from(u16::from_be_bytes([c[0], c.get(1).copied().unwrap_or(0)]));
    let sum = |octets: &[u8]| octets.chunks(2).map(word).sum::<u32>();
    let mut all = sum(addresses) + sum(segment) + u32::from(protocol(packet)) + segment.len() as u32;
    while all > 0xffff {
        all = (all & 0xffff) + (all >> 16);
    }
    all == 0xffff
}

impl Tunnelled {
    fn parse(frame: &[u8]) -> Option<Self> {
        let outer = frame.get(14..)?;
        let header = ip_header(outer)?;
        if protocol(outer) != 17 || outer.len() < header + 16 || u16_at(outer, header + 2) != 4789 {
            return None;
        }
        Some(Self {
            outer: outer.to_vec(),
            inner: outer[header + 16..].to_vec(),
        })
    }

    /// The inner IP packet, if it carries TCP.
    pub fn inner_tcp(&self) -> Option<&[u8]> {
        let packet = self.inner.get(14..)?;
        (ip_header(packet).is_some() && protocol(packet) == 6).then_some(packet)
    }

    /// The outer UDP checksum.
    pub fn outer_checksum(&self) -> u16 {
        u16_at(&self.outer, ip_header(&self.outer).unwrap() + 6)
    }

    /// True if the outer packet is not a fragment and must not be fragmented (IPv4), or is IPv6.
    pub fn is_whole_and_stays_so(&self) -> bool {
        self.outer[0] >> 4 == 6 || u16_at(&self.outer, 6) == 0x4000
    }
}
