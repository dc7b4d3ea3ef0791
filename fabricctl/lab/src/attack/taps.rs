//! Sends past the taps of an interface (packet(7), `PACKET_QDISC_BYPASS`).
//!
//! A switch that reads its ports with libpcap without a direction, such as simple_switch_grpc, mistakes frames that
//! others send out of a port for received ones. But a frame that an attack sends out of a switch's port must only reach
//! the other end of the cable.

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
