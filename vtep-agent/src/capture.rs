//! `vtep-agent capture`: the frames of one attachment, as a pcap file.
//!
//! Frames are taken at the host's end of the interface, in the overlay: those that the workload sends before any filter,
//! those that it receives after all of them. The file is in the format of libpcap with times in nanoseconds
//! (pcap-savefile(5)), so that `tcpdump -r -` and Wireshark read it.

use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, socket};
use socket2::{SockFilter, SockRef};

use crate::error::AgentError;
use crate::netns::Netns;

/// Magic number of a file with nanoseconds, in the byte order of the writer.
const MAGIC: u32 = 0xa1b2_3c4d;
/// Version of the format.
const VERSION: (u16, u16) = (2, 4);
/// Link type Ethernet.
const ETHERNET: u32 = 1;
/// Most octets of a frame that are kept: all that a link can carry.
const SNAP: u32 = 65_536;
/// How often a silent capture checks whether its time is over, in milliseconds.
const LOOK_EVERY_MS: u16 = 100;

/// When a capture ends; it also ends when nobody reads it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Until {
    /// After this many frames.
    pub frames: Option<u64>,
    /// After this time.
    pub time: Option<Duration>,
}

/// The header of a file.
fn header() -> Vec<u8> {
    [
        &MAGIC.to_ne_bytes()[..],
        &VERSION.0.to_ne_bytes(),
        &VERSION.1.to_ne_bytes(),
        &[0; 8],
        &SNAP.to_ne_bytes(),
        &ETHERNET.to_ne_bytes(),
    ]
    .concat()
}

/// One frame in the format of the file.
fn record(at: Duration, frame: &[u8]) -> Vec<u8> {
    // Times of the format end in 2106.
    let seconds = u32::try_from(at.as_secs()).unwrap_or(u32::MAX);
    let length = u32::try_from(frame.len()).unwrap_or(SNAP);
    let head = [seconds, at.subsec_nanos(), length, length].map(u32::to_ne_bytes);
    [head.as_flattened(), frame].concat()
}

/// A socket that receives every frame of a link.
fn listen(port: &str) -> io::Result<OwnedFd> {
    listen_through(port, &[])
}

/// A socket that hears what a filter of classic BPF lets through at a link; without instructions, everything.
pub(crate) fn listen_through(port: &str, filter: &[SockFilter]) -> io::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )?;
    if !filter.is_empty() {
        SockRef::from(&socket).attach_filter(filter)?;
    }
    let links = nix::ifaddrs::getifaddrs()?.filter(|a| a.interface_name == port);
    let link = links.filter_map(|a| a.address?.as_link_addr().copied()).next();
    let link = link.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no link {port}")))?;
    // Without a protocol in the address, the socket keeps its own (packet(7)).
    bind(socket.as_raw_fd(), &link)?;
    // Frames from before it was bound may be those of other links.
    loop {
        match recv(socket.as_raw_fd(), &mut [0; 1], MsgFlags::MSG_DONTWAIT) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => return Ok(socket),
            Err(e) => return Err(e.into()),
        }
    }
}

/// Writes the frames at a port of the overlay until the end.
///
/// # Errors
/// There is no such port, or the file cannot be written. A reader that goes away is not an error.
pub fn run(overlay: &str, port: &str, until: Until, to: &mut impl Write) -> Result<u64, AgentError> {
    let fail = |source| AgentError::File {
        path: format!("{overlay}: {port}").into(),
        source,
    };
    let namespace = Netns::named(overlay).map_err(|e| fail(io::Error::other(e)))?;
    let socket = namespace.within(|| listen(port)).and_then(|s| s).map_err(fail)?;
    match take(&socket, until, to) {
        Err((_, e)) if e.kind() != io::ErrorKind::BrokenPipe => Err(fail(e)),
        Ok(frames) | Err((frames, _)) => Ok(frames),
    }
}

fn take(socket: &OwnedFd, until: Until, to: &mut impl Write) -> Result<u64, (u64, io::Error)> {
    let started = Instant::now();
    let mut frames = 0;
    let mut buffer = vec![0; SNAP as usize];
    to.write_all(&header()).and_then(|()| to.flush()).map_err(|e| (0, e))?;
    while until.frames.is_none_or(|n| frames < n) && until.time.is_none_or(|t| started.elapsed() < t) {
        let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::from(LOOK_EVERY_MS)) {
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(e) => return Err((frames, e.into())),
        }
        let length = match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => length,
            Err(Errno::EINTR | Errno::EAGAIN) => continue,
            Err(e) => return Err((frames, e.into())),
        };
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let frame = buffer.get(..length).unwrap_or_default();
        to.write_all(&record(at, frame))
            .and_then(|()| to.flush())
            .map_err(|e| (frames, e))?;
        frames += 1;
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_as_libpcap_writes_it() {
        let header = header();
        assert_eq!(header.len(), 24);
        assert_eq!(header[..4], 0xa1b2_3c4d_u32.to_ne_bytes());
        assert_eq!(header[20..], 1u32.to_ne_bytes());
        let record = record(Duration::new(7, 9), b"frame");
        let words: Vec<u32> = record[..16]
            .chunks(4)
            .map(|w| u32::from_ne_bytes(w.try_into().unwrap()))
            .collect();
        assert_eq!((words.as_slice(), &record[16..]), (&[7, 9, 5, 5][..], &b"frame"[..]));
    }
}
