//! System interfaces without a safe binding: packet sockets with a memory-mapped receive ring (packet(7), kernel
//! document `networking/packet_mmap`), sendmmsg(2), and the ethtool ioctl that turns LRO off.
//!
//! Received frames stay in the ring's memory while they are worked on; a slot goes back to the kernel
//! when the next frame is asked for. Frames that a slot is too small for (jumbo frames, and the large
//! frames of a sender that leaves segmentation to its device) come whole through the socket's queue.
//!
//! The ring is `TPACKET_V2`: version 3 shows frames only when a whole block is full or its timer, of a
//! millisecond at least, runs out (ADR switch-1). The transmit ring is not used: a veth hands
//! a frame's memory to its peer and reports the slot as free while the peer still reads it.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::offload::{Offload, VlanTag};

/// Octets of a ring slot: a frame of the usual MTU, tagged and tunnelled, with the kernel's header.
const SLOT: usize = 2048;
/// Octets that the kernel allocates at once; a power of two of pages.
const BLOCK: usize = 64 << 10;
/// Octets of large frames that wait beside the ring.
const LARGE_FRAMES: libc::c_int = 4 << 20;
/// Octets of frames that a device may hold unsent.
const SEND_BUFFER: libc::c_int = 4 << 20;
/// Frames handed to the kernel by one call: enough that the call itself costs little.
pub(super) const SEND_BATCH: usize = 64;
/// Octets, by the kernel's count, that a queueing discipline may hold before packets wait in the switch: some tens of
/// frames, so that it never runs dry between two checks, and programs see the queue grow.
const SHAPED_BACKLOG: usize = 64 << 10;
/// Octets of frames that wait for that call; more are sent at once.
const SEND_OCTETS: usize = 256 << 10;
/// Octets of `struct virtio_net_hdr` in front of each frame.
const VNET_HEADER: usize = 10;
/// Octets of the kernel's header in a slot, with the address behind it.
const SLOT_HEADER: usize = libc::TPACKET2_HDRLEN;
/// Largest frame: the kernel's largest packet with its Ethernet header.
pub(super) const MAX_FRAME: usize = 65_535 + 14;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Index of an interface.
pub(super) fn index(interface: &str) -> io::Result<u32> {
    let name = std::ffi::CString::new(interface)?;
    // SAFETY: the name is a valid C string for the duration of the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(index)
    }
}

fn socket() -> io::Result<OwnedFd> {
    // Protocol 0: nothing is received before the socket is bound to one.
    let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: takes no pointers; a descriptor that is returned is owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(check(libc::socket(libc::AF_PACKET, kind, 0))?) })
}

fn option<T>(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let length = size_of::<T>() as libc::socklen_t;
    // SAFETY: pointer and length describe `value`.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            length,
        )
    })
    .map(drop)
}

fn bind(socket: &OwnedFd, index: u32, protocol: u16) -> io::Result<()> {
    // SAFETY: all-zero is a valid value of this plain C structure.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = index as i32;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: pointer and length describe `address`.
    check(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) }).map(drop)
}

/// Blocks all frames with a filter of one instruction: accept 0 octets of each.
fn refuse_all(socket: &OwnedFd) -> io::Result<()> {
    let mut none = libc::sock_filter {
        code: (libc::BPF_RET | libc::BPF_K) as u16,
        jt: 0,
        jf: 0,
        k: 0,
    };
    let program = libc::sock_fprog {
        len: 1,
        filter: &raw mut none,
    };
    option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Sockets of one interface among which the kernel spreads frames by flow.
#[derive(Clone, Copy)]
pub(super) struct Fanout(u16);

/// Turns large receive offload off, because the frames that it merges cannot be separated
/// exactly.
pub(super) fn disable_lro(interface: &str) -> io::Result<()> {
    const ETHTOOL_GFLAGS: u32 = 0x25;
    const ETHTOOL_SFLAGS: u32 = 0x26;
    const ETH_FLAG_LRO: u32 = 1 << 15;
    const SIOCETHTOOL: libc::c_ulong = 0x8946;
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    // Use a family whose sockets close at once: closing a packet socket waits for every processor.
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: takes no pointers; a descriptor that is returned is owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(check(libc::socket(libc::AF_INET, kind, 0))?) };
    let call = |value: &mut Value| {
        // SAFETY: all-zero is a valid `ifreq`.
        let mut request: libc::ifreq = unsafe { zeroed() };
        let room = request.ifr_name.len() - 1;
        for (to, from) in request.ifr_name.iter_mut().take(room).zip(interface.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = std::ptr::from_mut(value).cast();
        // SAFETY: the request points to a live structure of the kind that the command wants.
        check(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) })
    };
    let mut value = Value {
        command: ETHTOOL_GFLAGS,
        data: 0,
    };
    call(&mut value)?;
    if value.data & ETH_FLAG_LRO != 0 {
        value.command = ETHTOOL_SFLAGS;
        value.data &= !ETH_FLAG_LRO;
        call(&mut value)?;
    }
    Ok(())
}

/// The kernel's information about a frame, beside its octets.
#[derive(Clone, Copy)]
pub(super) struct Meta {
    /// The work that was left to a device.
    pub(super) offload: Offload,
    /// The VLAN tag that was taken out.
    pub(super) vlan: Option<VlanTag>,
}

/// Octets that are free in front of a frame, as many as a VLAN tag has.
pub(super) const HEADROOM: usize = 4;

/// The place of the last received frame.
#[derive(Clone, Copy)]
enum Place {
    Nowhere,
    /// In a slot of the ring: slot, first octet, number of octets.
    Slot(usize, usize, usize),
    Large,
}

/// Receives the frames of one interface, or a share of them.
pub(super) struct RxRing {
    socket: OwnedFd,
    base: NonNull<u8>,
    length: usize,
    slots: usize,
    /// The next slot to check.
    next: usize,
    place: Place,
    /// Whether the slot before `next` is still ours.
    held: bool,
    /// A large frame, with its header.
    large: Vec<u8>,
    /// Frames that were lost since this number was last taken: the ring was full, or they were truncated.
    pub(super) lost: u64,
}

// SAFETY: the mapping belongs to this value alone and has no tie to a thread.
unsafe impl Send for RxRing {}

impl RxRing {
    /// Opens a ring of `octets` on an interface, which becomes promiscuous. It stays empty until [`Self::begin`].
    pub(super) fn open(index: u32, octets: usize) -> io::Result<Self> {
        let socket = socket()?;
        let packet = libc::SOL_PACKET;
        let version = libc::tpacket_versions::TPACKET_V2 as libc::c_int;
        option(&socket, packet, libc::PACKET_VERSION, &version)?;
        option(&socket, packet, libc::PACKET_VNET_HDR, &1)?;
        option(&socket, packet, libc::PACKET_COPY_THRESH, &1)?;
        option(&socket, packet, libc::PACKET_IGNORE_OUTGOING, &1)?;
        // Needs CAP_NET_ADMIN; without it the queue is as large as the system allows.
        let _ = option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &LARGE_FRAMES);
        let blocks = octets.div_ceil(BLOCK).max(1);
        let request = libc::tpacket_req {
            tp_block_size: BLOCK as u32,
            tp_block_nr: blocks as u32,
            tp_frame_size: SLOT as u32,
            tp_frame_nr: (blocks * (BLOCK / SLOT)) as u32,
        };
        option(&socket, packet, libc::PACKET_RX_RING, &request)?;
        let length = blocks * BLOCK;
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses, of the size that the ring was made with.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                protection,
                libc::MAP_SHARED,
                socket.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mmap gave no memory"))?;
        // From here on, dropping the value unmaps it.
        let ring = Self {
            socket,
            base,
            length,
            slots: length / SLOT,
            next: 0,
            place: Place::Nowhere,
            held: false,
            large: Vec::new(),
            lost: 0,
        };
        // Until sockets share the interface, each of them would get every frame.
        refuse_all(&ring.socket)?;
        bind(&ring.socket, index, libc::ETH_P_ALL as u16)?;
        let membership = libc::packet_mreq {
            mr_ifindex: index as i32,
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        option(&ring.socket, packet, libc::PACKET_ADD_MEMBERSHIP, &membership)?;
        Ok(ring)
    }

    /// Lets frames in.
    pub(super) fn begin(&self) -> io::Result<()> {
        option(&self.socket, libc::SOL_SOCKET, libc::SO_DETACH_FILTER, &0)
    }

    /// Shares the interface's frames with the other sockets of a group. Without one, makes a group that others can join.
    /// Frames of a flow, in both directions, come to the same socket.
    pub(super) fn join(&self, group: Option<Fanout>) -> io::Result<Fanout> {
        let unique = if group.is_none() {
            libc::PACKET_FANOUT_FLAG_UNIQUEID
        } else {
            0
        };
        let wanted = group.map_or(0, |g| u32::from(g.0)) | (libc::PACKET_FANOUT_HASH | unique) << 16;
        option(&self.socket, libc::SOL_PACKET, libc::PACKET_FANOUT, &wanted)?;
        if let Some(group) = group {
            return Ok(group);
        }
        let mut got = 0u32;
        let mut length = size_of::<u32>() as libc::socklen_t;
        // SAFETY: pointer and length describe `got`.
        check(unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_FANOUT,
                (&raw mut got).cast(),
                &raw mut length,
            )
        })?;
        Ok(Fanout(got as u16))
    }

    /// Frames that the kernel found no room for since the last call.
    fn drops(&self) -> u64 {
        let mut got = [0u32; 2];
        let mut length = size_of::<[u32; 2]>() as libc::socklen_t;
        // SAFETY: pointer and length describe `got`, which is laid out as `struct tpacket_stats`.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut got).cast(),
                &raw mut length,
            )
        };
        if result == 0 { u64::from(got[1]) } else { 0 }
    }

    fn slot(&self, at: usize) -> NonNull<u8> {
        // SAFETY: `at` is below `slots`, so that the slot lies in the mapping.
        unsafe { self.base.add(at * SLOT) }
    }

    fn status(&self, at: usize) -> &AtomicU32 {
        // SAFETY: a slot starts with its status, which the kernel and we hand to and fro; it is aligned, and
        // lives as long as the mapping.
        unsafe { self.slot(at).cast::<AtomicU32>().as_ref() }
    }

    fn release(&mut self) {
        self.place = Place::Nowhere;
        if std::mem::take(&mut self.held) {
            let before = self.next.checked_sub(1).unwrap_or(self.slots - 1);
            self.status(before).store(libc::TP_STATUS_KERNEL, Ordering::Release);
        }
    }

    /// Advances to the next frame; none if there is none yet.
    pub(super) fn advance(&mut self) -> Option<Meta> {
        loop {
            self.release();
            let at = self.next;
            let status = self.status(at).load(Ordering::Acquire);
            if status & libc::TP_STATUS_USER == 0 {
                return None;
            }
            if status & libc::TP_STATUS_LOSING != 0 {
                // The flag shows whether the number is valid.
                self.lost += self.drops();
            }
            self.held = true;
            self.next = if at + 1 == self.slots { 0 } else { at + 1 };
            let slot = self.slot(at);
            // SAFETY: the kernel filled the slot and gave it to us, header first.
            let header = unsafe { slot.cast::<libc::tpacket2_hdr>().read() };
            let behind = size_of::<libc::tpacket2_hdr>().next_multiple_of(libc::TPACKET_ALIGNMENT);
            // SAFETY: the address follows the header in the same slot; it is a plain C structure.
            let address = unsafe { slot.add(behind).cast::<libc::sockaddr_ll>().read() };
            if address.sll_pkttype == libc::PACKET_OUTGOING {
                continue;
            }
            let vlan = (status & libc::TP_STATUS_VLAN_VALID != 0).then_some(VlanTag {
                tpid: match header.tp_vlan_tpid {
                    0 => VlanTag::CUSTOMER,
                    tpid => tpid,
                },
                tci: header.tp_vlan_tci,
            });
            let (start, length) = (usize::from(header.tp_mac), header.tp_snaplen as usize);
            let is_whole = header.tp_len == header.tp_snaplen && start >= SLOT_HEADER + VNET_HEADER;
            let offload = if status & libc::TP_STATUS_COPY != 0 && self.receive_large() {
                self.place = Place::Large;
                Offload::from_vnet(self.large.get(..VNET_HEADER).unwrap_or_default())
            } else if status & libc::TP_STATUS_COPY == 0 && is_whole && start + length <= SLOT {
                self.place = Place::Slot(at, start, length);
                // SAFETY: the header lies in the slot, in front of the frame, as just checked.
                Offload::from_vnet(unsafe {
                    std::slice::from_raw_parts(slot.add(start - VNET_HEADER).as_ptr(), VNET_HEADER)
                })
            } else {
                self.lost += 1;
                continue;
            };
            return Some(Meta { offload, vlan });
        }
    }

    /// The octets of the frame that was received last, and [`HEADROOM`] in front of it.
    pub(super) fn room_and_frame(&mut self) -> &mut [u8] {
        match self.place {
            Place::Nowhere => &mut [],
            Place::Large => self.large.get_mut(VNET_HEADER - HEADROOM..).unwrap_or_default(),
            // SAFETY: `advance` checked that these octets lie in the slot behind its header, and the slot is ours
            // until it is called again, which needs this value mutably.
            Place::Slot(at, start, length) => unsafe {
                let first = self.slot(at).add(start - HEADROOM);
                std::slice::from_raw_parts_mut(first.as_ptr(), HEADROOM + length)
            },
        }
    }

    /// Takes a pending error (the interface went down), which would otherwise wake the waiting thread for ever.
    pub(super) fn acknowledge_error(&self) {
        let mut error: libc::c_int = 0;
        let mut length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: pointer and length describe `error`.
        unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ERROR,
                (&raw mut error).cast(),
                &raw mut length,
            );
        }
    }

    /// Takes the oldest frame of the queue beside the ring.
    fn receive_large(&mut self) -> bool {
        self.large.resize(VNET_HEADER + MAX_FRAME, 0);
        // SAFETY: pointer and length describe `large`.
        let length = unsafe {
            libc::recv(
                self.socket.as_raw_fd(),
                self.large.as_mut_ptr().cast(),
                self.large.len(),
                libc::MSG_DONTWAIT | libc::MSG_TRUNC,
            )
        };
        match usize::try_from(length) {
            Ok(length) if length > VNET_HEADER && length <= self.large.len() => {
                self.large.truncate(length);
                true
            }
            _ => false,
        }
    }
}

impl AsFd for RxRing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for RxRing {
    fn drop(&mut self) {
        // SAFETY: the mapping is as `open` made it, and nothing refers to it any more.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}

/// Sends frames by one interface, many with one call.
pub(super) struct TxSocket {
    socket: OwnedFd,
    /// Whether to bypass the queueing discipline; others may change it at any time.
    bypass: Arc<AtomicBool>,
    /// The current setting of the socket.
    bypasses: bool,
    /// Frames that wait, one after the other.
    octets: Vec<u8>,
    lengths: Vec<usize>,
    vectors: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
}

// SAFETY: the pointers in `vectors` and `messages` are made and used within one call of `flush`.
unsafe impl Send for TxSocket {}

impl TxSocket {
    /// Opens an interface for sending; `bypass` always shows whether to bypass its queueing discipline.
    pub(super) fn open(index: u32, bypass: Arc<AtomicBool>) -> io::Result<Self> {
        let socket = socket()?;
        let bypasses = bypass.load(Ordering::Relaxed);
        option(
            &socket,
            libc::SOL_PACKET,
            libc::PACKET_QDISC_BYPASS,
            &libc::c_int::from(bypasses),
        )?;
        // Needs CAP_NET_ADMIN, as above.
        let _ = option(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BUFFER);
        bind(&socket, index, 0)?;
        Ok(Self {
            socket,
            bypass,
            bypasses,
            octets: Vec::with_capacity(SEND_OCTETS + MAX_FRAME),
            lengths: Vec::with_capacity(SEND_BATCH),
            vectors: Vec::with_capacity(SEND_BATCH),
            messages: Vec::with_capacity(SEND_BATCH),
        })
    }

    /// Adds a frame to the waiting ones. Returns whether it is time to [`flush`](Self::flush).
    pub(super) fn push(&mut self, frame: &[u8]) -> bool {
        self.octets.extend_from_slice(frame);
        self.lengths.push(frame.len());
        self.lengths.len() >= SEND_BATCH || self.octets.len() >= SEND_OCTETS
    }

    /// Whether the queueing discipline is bypassed, or holds little that this socket sent (SIOCOUTQ, packet(7)).
    pub(super) fn has_room(&self) -> bool {
        if self.bypasses {
            return true;
        }
        let mut unsent: libc::c_int = 0;
        // SAFETY: the pointer is that of a live integer, which the command writes. SIOCOUTQ has the number of TIOCOUTQ.
        let asked = unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut unsent) };
        let unsent = usize::try_from(unsent).unwrap_or(0);
        asked < 0 || unsent.saturating_add(self.octets.len()) < SHAPED_BACKLOG
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Sends all waiting frames. Returns how many of them the device did not accept, because it is down or full or they
    /// do not fit.
    pub(super) fn flush(&mut self) -> usize {
        let bypass = self.bypass.load(Ordering::Relaxed);
        if bypass != self.bypasses {
            // The kernel accepts this at any time; if it failed, the socket would work as before.
            let value = libc::c_int::from(bypass);
            let _ = option(&self.socket, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &value);
            self.bypasses = bypass;
        }
        let mut rest = self.octets.as_mut_ptr();
        for length in &self.lengths {
            self.vectors.push(libc::iovec {
                iov_base: rest.cast(),
                iov_len: *length,
            });
            // SAFETY: the lengths sum up to that of `octets`.
            rest = unsafe { rest.add(*length) };
        }
        for vector in &mut self.vectors {
            // SAFETY: all-zero is a valid message header.
            let mut message: libc::mmsghdr = unsafe { zeroed() };
            message.msg_hdr.msg_iov = vector;
            message.msg_hdr.msg_iovlen = 1;
            self.messages.push(message);
        }
        let (mut at, mut lost) = (0, 0);
        while let Some(left) = self.messages.get_mut(at..).filter(|l| !l.is_empty()) {
            // SAFETY: every message points to a live vector, and that to live octets.
            let sent = unsafe {
                libc::sendmmsg(
                    self.socket.as_raw_fd(),
                    left.as_mut_ptr(),
                    left.len() as libc::c_uint,
                    libc::MSG_DONTWAIT,
                )
            };
            // An error is that of the first message.
            at += usize::try_from(sent).ok().filter(|n| *n > 0).unwrap_or_else(|| {
                lost += 1;
                1
            });
        }
        self.octets.clear();
        self.lengths.clear();
        self.vectors.clear();
        self.messages.clear();
        lost
    }
}
