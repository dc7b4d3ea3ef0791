//! One network interface, raw: AF_PACKET sockets (packet(7)).
#![allow(unsafe_code)] // binding to an interface and its options have no safe interface

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Octets of the kernel's receive buffer: some thousand frames wait while the switch is busy.
const RECEIVE_BUFFER: libc::c_int = 8 << 20;
/// `PACKET_IGNORE_OUTGOING` (Linux 4.20).
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;
/// TPID of a customer VLAN tag (IEEE 802.1Q).
const TPID: [u8; 2] = [0x81, 0x00];

/// A socket that sends and receives whole frames of one interface.
pub(super) struct PacketSocket(OwnedFd);

/// What came with a frame (`struct tpacket_auxdata`).
#[repr(C)]
#[derive(Clone, Copy)]
struct Auxdata {
    status: u32,
    len: u32,
    snaplen: u32,
    mac: u16,
    net: u16,
    vlan_tci: u16,
    vlan_tpid: u16,
}

const TP_STATUS_VLAN_VALID: u32 = 1 << 4;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

impl PacketSocket {
    /// Opens an interface, promiscuous and non-blocking.
    pub(super) fn open(interface: &str) -> io::Result<Self> {
        let name = std::ffi::CString::new(interface)?;
        // SAFETY: the name is a valid C string for the duration of the call.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        let protocol = (libc::ETH_P_ALL as u16).to_be();
        let kind = libc::SOCK_RAW | libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
        // SAFETY: takes no pointers; a descriptor that is returned is owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::socket(libc::AF_PACKET, kind, 0))?) };
        let socket = Self(fd);
        socket.option(libc::SOL_PACKET, libc::PACKET_AUXDATA, &1)?;
        socket.option(libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, &1)?;
        // Needs CAP_NET_ADMIN; without it the buffer is as large as the system allows.
        let _ = socket.option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &RECEIVE_BUFFER);
        // SAFETY: all-zero is a valid value of these plain C structures.
        let mut address: libc::sockaddr_ll = unsafe { zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = index as i32;
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: pointer and length describe `address`.
        check(unsafe { libc::bind(socket.fd(), (&raw const address).cast(), length) })?;
        // SAFETY: as above.
        let mut membership: libc::packet_mreq = unsafe { zeroed() };
        membership.mr_ifindex = index as i32;
        membership.mr_type = libc::PACKET_MR_PROMISC as u16;
        socket.option(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &membership)?;
        Ok(socket)
    }

    fn option<T>(&self, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
        let length = size_of::<T>() as libc::socklen_t;
        // SAFETY: pointer and length describe `value`.
        check(unsafe { libc::setsockopt(self.fd(), level, name, std::ptr::from_ref(value).cast(), length) }).map(drop)
    }

    fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Receives a frame into `buffer`, with its VLAN tag where the kernel took it out.
    /// Answers its length; `WouldBlock` when there is none.
    pub(super) fn receive(&self, buffer: &mut Vec<u8>, most: usize) -> io::Result<usize> {
        buffer.resize(most, 0);
        let mut vector = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        let mut control = [0u64; 8];
        // SAFETY: all-zero is a valid message header.
        let mut message: libc::msghdr = unsafe { zeroed() };
        message.msg_iov = &raw mut vector;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = size_of::<[u64; 8]>();
        // SAFETY: every pointer in `message` is to a live buffer of the length given beside it.
        let length = unsafe { libc::recvmsg(self.fd(), &raw mut message, 0) };
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        buffer.truncate(length);
        // SAFETY: the kernel filled `message`, whose control buffer is live and aligned.
        let aux = unsafe { auxdata(&message) };
        if let Some(aux) = aux.filter(|a| a.status & TP_STATUS_VLAN_VALID != 0 && length >= 12) {
            let tci = aux.vlan_tci.to_be_bytes();
            buffer.splice(12..12, [TPID[0], TPID[1], tci[0], tci[1]]);
        }
        Ok(buffer.len())
    }

    /// Sends a frame.
    pub(super) fn send(&self, frame: &[u8]) -> io::Result<()> {
        // SAFETY: pointer and length describe `frame`.
        let sent = unsafe { libc::send(self.fd(), frame.as_ptr().cast(), frame.len(), libc::MSG_DONTWAIT) };
        if sent < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// # Safety
/// `message` was filled by `recvmsg` and its control buffer is still there.
unsafe fn auxdata(message: &libc::msghdr) -> Option<Auxdata> {
    // SAFETY: by the contract above; CMSG_FIRSTHDR checks the length.
    let header = unsafe { libc::CMSG_FIRSTHDR(message).as_ref()? };
    if header.cmsg_level != libc::SOL_PACKET || header.cmsg_type != libc::PACKET_AUXDATA {
        return None;
    }
    // SAFETY: the kernel wrote a whole `tpacket_auxdata` behind the header.
    Some(unsafe { libc::CMSG_DATA(header).cast::<Auxdata>().read_unaligned() })
}
