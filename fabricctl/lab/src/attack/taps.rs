//! Sends past the taps of an interface (packet(7), `PACKET_QDISC_BYPASS`).
//!
//! A switch that reads its ports with libpcap takes what others send out of a port for received frames: simple_switch_grpc
//! does not ask for a direction. A frame that an attack sends out of a switch's port is for the other end of the cable only.

#![allow(unsafe_code)] // One socket option, for which neither nix nor socket2 has a name.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

/// Makes a packet socket send past queueing and taps.
///
/// # Errors
/// The kernel does not know the option (before Linux 3.14).
pub(super) fn bypass(socket: &OwnedFd) -> nix::Result<()> {
    let on: libc::c_int = 1;
    let length = std::mem::size_of_val(&on) as libc::socklen_t;
    // SAFETY: the descriptor is open, and the pointer and the length are those of an int, which the call only reads.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_QDISC_BYPASS,
            (&raw const on).cast(),
            length,
        )
    };
    Errno::result(done).map(drop)
}
