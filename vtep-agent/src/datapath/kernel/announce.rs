//! Listens for the first frame of a workload that is expected to arrive.
//!
//! A guest that has been migrated announces itself: QEMU sends a RARP frame for its MAC address, five times within half a second;
//! a guest's own system sends a gratuitous ARP request (RFC 5227 section 3) or an unsolicited neighbour advertisement (RFC 4861
//! section 7.2.6). The port is closed, but a packet socket receives the frame before the port drops it. A filter in the
//! kernel lets nothing else through, and the socket is closed after the first frame.
//!
//! One thread serves all sockets. There is none while no attachment is in standby.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::socket::{MsgFlags, recv};
use socket2::SockFilter;
use vtep_proto::Attachment;

use super::overlay::Overlay;
use crate::capture;
use crate::error::NetlinkError;
use crate::object::port_name;

/// Longest frame that is looked at: an advertisement with some options.
const FRAME: usize = 256;
/// Announcements that wait for the agent; the thread waits for a place.
const QUEUE: usize = 64;
/// Longest wait for the thread to open its sockets: each takes some microseconds.
const PATIENCE: Duration = Duration::from_secs(1);

const ETHERTYPE: usize = 12;
const RARP: u16 = 0x8035;
const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// The workload of this attachment has announced itself, by this kind of frame.
    Announced(String, &'static str),
    /// This attachment is not listened to any more: its port is gone.
    Lost(String),
}

/// What to listen to, and where to report that it is done.
type News = (BTreeMap<String, Attachment>, mpsc::SyncSender<()>);

/// The sockets, and the thread that listens to them.
pub struct Listeners {
    wanted: Sender<News>,
    wake: Arc<EventFd>,
}

impl Listeners {
    /// Starts the thread, without sockets.
    ///
    /// # Errors
    /// When the kernel refuses a thread or a file.
    pub fn start(overlay: &Overlay) -> Result<(Self, tokio::sync::mpsc::Receiver<Heard>), NetlinkError> {
        let fail = |e: io::Error| NetlinkError::io("listen for announcements", &e);
        let (heard, receiver) = tokio::sync::mpsc::channel(QUEUE);
        let (wanted, news) = mpsc::channel();
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = Arc::new(EventFd::from_flags(flags).map_err(|e| fail(e.into()))?);
        let namespace = overlay.netns().file().try_clone().map_err(fail)?;
        let woken = Arc::clone(&wake);
        let run = move || {
            // The thread ends in the overlay, in which ports are.
            if let Err(error) = nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET) {
                tracing::error!(%error, "cannot listen for announcements in the overlay");
                return;
            }
            Thread {
                sockets: BTreeMap::new(),
                news,
                woken,
                heard,
            }
            .run();
        };
        thread::Builder::new()
            .name("announcements".into())
            .spawn(run)
            .map_err(fail)?;
        Ok((Self { wanted, wake }, receiver))
    }

    /// Listens to the ports of these attachments, by id, and to no others. When it returns, nothing that they send is missed.
    pub fn set(&self, wanted: BTreeMap<String, Attachment>) {
        let (done, is_done) = mpsc::sync_channel(1);
        // The thread ends with the agent only.
        let sent = self.wanted.send((wanted, done)).is_ok() && self.wake.write(1).is_ok();
        if !sent || is_done.recv_timeout(PATIENCE).is_err() {
            tracing::error!("the thread that listens for announcements does not answer");
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        // Disconnected, the channel ends the thread.
        self.wanted = mpsc::channel().0;
        let _ = self.wake.write(1);
    }
}

struct Thread {
    sockets: BTreeMap<String, (OwnedFd, Attachment)>,
    news: Receiver<News>,
    woken: Arc<EventFd>,
    heard: tokio::sync::mpsc::Sender<Heard>,
}

impl Thread {
    fn run(mut self) {
        loop {
            let ready: Vec<String> = {
                let sockets = self.sockets.values().map(|(socket, _)| socket.as_fd());
                let all = std::iter::once(self.woken.as_fd()).chain(sockets);
                let mut all: Vec<PollFd<'_>> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
                match poll(&mut all, PollTimeout::NONE) {
                    Ok(_) | Err(Errno::EINTR) => {}
                    Err(error) => return tracing::error!(%error, "announcements are no longer heard"),
                }
                let is_ready = |fd: &PollFd<'_>| fd.any().unwrap_or(true);
                let of_sockets = self.sockets.keys().zip(all.iter().skip(1));
                of_sockets
                    .filter(|(_, fd)| is_ready(fd))
                    .map(|(id, _)| id.clone())
                    .collect()
            };
            for id in ready {
                if let Some(heard) = self.look(&id) {
                    self.sockets.remove(&id);
                    if self.heard.blocking_send(heard).is_err() {
                        return;
                    }
                }
            }
            let _ = self.woken.read();
            loop {
                match self.news.try_recv() {
                    Ok((wanted, done)) => {
                        if !self.change(wanted) {
                            return;
                        }
                        // The agent may not wait any more.
                        let _ = done.try_send(());
                    }
                    Err(mpsc::TryRecvError::Empty) => break,
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
        }
    }

    /// Opens and closes sockets; false when nobody listens any more.
    fn change(&mut self, wanted: BTreeMap<String, Attachment>) -> bool {
        self.sockets.retain(|id, (_, had)| wanted.get(id) == Some(had));
        for (id, attachment) in wanted {
            if self.sockets.contains_key(&id) {
                continue;
            }
            match open(&attachment) {
                Ok(socket) => {
                    self.sockets.insert(id, (socket, attachment));
                }
                Err(error) => {
                    tracing::debug!(attachment = id, %error, "cannot listen at a port");
                    if self.heard.blocking_send(Heard::Lost(id)).is_err() {
                        return false;
                    }
                }
            }
        }
        true
    }

    /// The announcement in a socket's queue, if there is one.
    fn look(&self, id: &str) -> Option<Heard> {
        let (socket, attachment) = self.sockets.get(id)?;
        let mut frame = [0; FRAME];
        loop {
            match recv(socket.as_raw_fd(), &mut frame, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => {
                    if let Some(by) = announcement(frame.get(..length).unwrap_or_default(), attachment) {
                        return Some(Heard::Announced(id.to_owned(), by));
                    }
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return None,
                // The link is gone, or down. The agent will ask again if it still needs
                // this socket.
                Err(_) => return Some(Heard::Lost(id.to_owned())),
            }
        }
    }
}

/// A socket that hears announcements from the workload's end of a port, and nothing else.
fn open(attachment: &Attachment) -> io::Result<OwnedFd> {
    capture::listen_through(&port_name(&attachment.id), &program(attachment))
}

fn instruction(code: u32, yes: u8, no: u8, k: u32) -> SockFilter {
    // All codes of classic BPF are below 256.
    SockFilter::new(u16::try_from(code).unwrap_or(0), yes, no, k)
}

/// The filter in the kernel (classic BPF): RARP, ARP and neighbour advertisements from this MAC address that the link
/// received.
fn program(attachment: &Attachment) -> Vec<SockFilter> {
    let [a, b, c, d, e, f] = attachment.mac.octets();
    let (high, low) = (u32::from_be_bytes([a, b, c, d]), u32::from(u16::from_be_bytes([e, f])));
    let load = |size: u32, at: u32| instruction(libc::BPF_LD | size | libc::BPF_ABS, 0, 0, at);
    let is = |k: u32, yes, no| instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, yes, no, k);
    let end = |k: u32| instruction(libc::BPF_RET | libc::BPF_K, 0, 0, k);
    // SKF_AD_OFF + SKF_AD_PKTTYPE: how the kernel classed the frame.
    let kind = u32::MAX - 0x1000 + 1 + 4;
    vec![
        load(libc::BPF_B, kind),
        is(4, 12, 0), // PACKET_OUTGOING: to the workload
        load(libc::BPF_W, 6),
        is(high, 0, 10),
        load(libc::BPF_H, 10),
        is(low, 0, 8),
        load(libc::BPF_H, 12),
        is(RARP.into(), 7, 0),
        is(ARP.into(), 6, 0),
        is(IPV6.into(), 0, 4),
        load(libc::BPF_B, 20),
        is(58, 0, 2),
        load(libc::BPF_B, 54),
        is(136, 1, 0),
        end(0),
        end(256),
    ]
}

/// The kind of announcement that a frame is; none if it announces nobody, or another station.
fn announcement(frame: &[u8], attachment: &Attachment) -> Option<&'static str> {
    let at = |from: usize, length: usize| frame.get(from..from + length);
    let mac = attachment.mac.octets();
    if at(6, 6)? != mac {
        return None;
    }
    let own = |ip: IpAddr| attachment.addresses.iter().any(|net| net.addr() == ip);
    match u16::from_be_bytes(at(ETHERTYPE, 2)?.try_into().ok()?) {
        // "Request reverse" (RFC 903), for itself.
        RARP => (at(20, 2)? == [0, 3] && at(32, 6)? == mac).then_some("RARP"),
        ARP => {
            let sender = Ipv4Addr::from(<[u8; 4]>::try_from(at(28, 4)?).ok()?);
            (at(22, 6)? == mac && own(sender.into())).then_some("ARP")
        }
        IPV6 => {
            let target = Ipv6Addr::from(<[u8; 16]>::try_from(at(62, 16)?).ok()?);
            let is_advertisement = at(20, 1)? == [58] && at(54, 1)? == [136];
            (is_advertisement && own(target.into())).then_some("neighbour advertisement")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vtep_proto::{MacAddress, Mode, Vni};

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn attachment() -> Attachment {
        Attachment {
            id: "blue/vm".into(),
            vni: Vni::new(10).unwrap(),
            mac: MacAddress::new(MAC).unwrap(),
            addresses: ["10.0.0.7/24".parse().unwrap(), "fd00::7/64".parse().unwrap()].into(),
            routes: Default::default(),
            netns: "vm".into(),
            interface: "eth0".into(),
            mtu: 0,
            allowed_addresses: Default::default(),
            port_security: true,
            shared_netns: false,
            mode: Mode::Standby,
        }
    }

    fn ethernet(kind: u16, payload: &[u8]) -> Vec<u8> {
        [&[0xff; 6][..], &MAC, &kind.to_be_bytes(), payload].concat()
    }

    fn arp(operation: u8, sender: [u8; 4]) -> Vec<u8> {
        [&[0, 1, 8, 0, 6, 4, 0, operation][..], &MAC, &sender, &MAC, &sender].concat()
    }

    fn advertisement(target: Ipv6Addr) -> Vec<u8> {
        let head = [&[0x60, 0, 0, 0, 0, 24, 58, 255][..], &target.octets(), &[0xff; 16]].concat();
        [&head[..], &[136, 0, 0, 0, 0x20, 0, 0, 0], &target.octets()].concat()
    }

    #[test]
    fn what_a_guest_announces_itself_by_is_known_and_nothing_else() {
        let a = attachment();
        let own6: Ipv6Addr = "fd00::7".parse().unwrap();
        let rarp = ethernet(RARP, &arp(3, [0; 4]));
        for (frame, expected) in [
            (rarp.clone(), Some("RARP")),
            (ethernet(ARP, &arp(1, [10, 0, 0, 7])), Some("ARP")),
            (ethernet(ARP, &arp(2, [10, 0, 0, 7])), Some("ARP")),
            (ethernet(IPV6, &advertisement(own6)), Some("neighbour advertisement")),
            // Of another address; a probe; a reply to another; a packet.
            (ethernet(ARP, &arp(1, [10, 0, 0, 8])), None),
            (ethernet(ARP, &arp(1, [0; 4])), None),
            (ethernet(RARP, &arp(4, [0; 4])), None),
            (ethernet(IPV6, &advertisement("fd00::8".parse().unwrap())), None),
            (ethernet(0x0800, &[0x45; 60]), None),
        ] {
            assert_eq!(announcement(&frame, &a), expected, "{frame:02x?}");
        }
        let mut other = rarp.clone();
        other[11] = 8;
        assert_eq!(announcement(&other, &a), None);
        for length in 0..rarp.len() {
            let _ = announcement(&rarp[..length], &a);
        }
    }
}
