//! The default route of a pod: `default-route` gives it to one attachment (NPWG 4.1.2.1.9).
//!
//! Default routes of other interfaces are removed but kept in the form in which the kernel showed them, so that they
//! can be restored when the attachment is removed. Those of the fabric's own attachments stay: the agent would restore
//! them anyway, and their metric is larger than any that is set here.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::thread;

use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sched::{CloneFlags, setns};
use serde::{Deserialize, Serialize};

use crate::error::Error;

// linux/netlink.h, linux/rtnetlink.h
const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const REQUEST_ACK: u16 = 0x1 | 0x4;
const REQUEST_DUMP: u16 = 0x1 | 0x300;
const CREATE_EXCLUSIVE: u16 = 0x400 | 0x200;
const NLMSG_HEADER: usize = 16;
const RTMSG: usize = 12;
const TABLE_MAIN: u8 = 254;
const TYPE_UNICAST: u8 = 1;
const PROTOCOL_STATIC: u8 = 4;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
/// Routes of the fabric's agent.
const PROTOCOL_AGENT: u8 = 118;
/// Longest wait for the kernel's reply; it replies during the request.
const PATIENCE_SECONDS: i64 = 30;

/// A route as the kernel showed it: `struct rtmsg` and its attributes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route(Vec<u8>);

impl Route {
    fn attribute(&self, kind: u16) -> Option<&[u8]> {
        let mut rest = self.0.get(RTMSG..)?;
        while let Some(head) = rest.first_chunk::<4>() {
            let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
            let value = rest.get(4..length)?;
            if u16::from_ne_bytes([head[2], head[3]]) & 0x3fff == kind {
                return Some(value);
            }
            rest = rest.get(length.next_multiple_of(4)..)?;
        }
        None
    }

    fn interface(&self) -> Option<u32> {
        Some(u32::from_ne_bytes(self.attribute(RTA_OIF)?.try_into().ok()?))
    }

    fn gateway(&self) -> Option<IpAddr> {
        let octets = self.attribute(RTA_GATEWAY)?;
        let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
        v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
    }

    /// A default route of the main table that carries packets.
    fn is_default(&self) -> bool {
        matches!(self.0.get(..8), Some([_, 0, _, _, TABLE_MAIN, _, _, TYPE_UNICAST]))
    }

    fn is_agents(&self) -> bool {
        self.0.get(5) == Some(&PROTOCOL_AGENT)
    }

    fn new(gateway: IpAddr, interface: u32, metric: u32) -> Self {
        let family = if gateway.is_ipv4() { libc_inet() } else { libc_inet6() };
        let mut octets = vec![
            family,
            0,
            0,
            0,
            TABLE_MAIN,
            PROTOCOL_STATIC,
            0,
            TYPE_UNICAST,
            0,
            0,
            0,
            0,
        ];
        let mut push = |kind: u16, value: &[u8]| {
            octets.extend((value.len() as u16 + 4).to_ne_bytes());
            octets.extend(kind.to_ne_bytes());
            octets.extend(value);
        };
        match gateway {
            IpAddr::V4(a) => push(RTA_GATEWAY, &a.octets()),
            IpAddr::V6(a) => push(RTA_GATEWAY, &a.octets()),
        }
        push(RTA_OIF, &interface.to_ne_bytes());
        push(RTA_PRIORITY, &metric.to_ne_bytes());
        Self(octets)
    }
}

fn libc_inet() -> u8 {
    nix::sys::socket::AddressFamily::Inet as u8
}

fn libc_inet6() -> u8 {
    nix::sys::socket::AddressFamily::Inet6 as u8
}

struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let timeout = nix::sys::time::TimeVal::new(PATIENCE_SECONDS, 0);
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::ReceiveTimeout, &timeout)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends a request and collects what follows until the end of a dump or the acknowledgement.
    fn ask(&mut self, kind: u16, flags: u16, body: &[u8]) -> io::Result<Vec<Route>> {
        self.sequence += 1;
        let mut message = ((NLMSG_HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend(flags.to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend([0; 4]);
        message.extend(body);
        self.socket.send(&message, 0)?;
        let mut routes = Vec::new();
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            let mut rest = datagram.as_slice();
            while let Some(head) = rest.first_chunk::<NLMSG_HEADER>() {
                let length = u32::from_ne_bytes([head[0], head[1], head[2], head[3]]) as usize;
                let Some(body) = rest.get(NLMSG_HEADER..length) else {
                    break;
                };
                let is_ours = head[8..12] == self.sequence.to_ne_bytes();
                match u16::from_ne_bytes([head[4], head[5]]) {
                    NLMSG_DONE if is_ours => return Ok(routes),
                    NLMSG_ERROR if is_ours => {
                        let code = body
                            .first_chunk::<4>()
                            .map_or(-nix::libc::EIO, |b| i32::from_ne_bytes(*b));
                        return if code == 0 {
                            Ok(routes)
                        } else {
                            Err(io::Error::from_raw_os_error(-code))
                        };
                    }
                    RTM_NEWROUTE if is_ours => routes.push(Route(body.to_vec())),
                    _ => {}
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }

    fn defaults(&mut self) -> io::Result<Vec<Route>> {
        let mut all = Vec::new();
        for family in [libc_inet(), libc_inet6()] {
            let mut question = [0; RTMSG];
            question[0] = family;
            all.extend(self.ask(RTM_GETROUTE, REQUEST_DUMP, &question)?);
        }
        all.retain(Route::is_default);
        Ok(all)
    }

    fn remove(&mut self, route: &Route) -> io::Result<()> {
        match self.ask(RTM_DELROUTE, REQUEST_ACK, &route.0) {
            Err(e) if e.raw_os_error() == Some(nix::libc::ESRCH) => Ok(()),
            other => other.map(drop),
        }
    }

    fn add(&mut self, route: &Route) -> io::Result<()> {
        match self.ask(RTM_NEWROUTE, REQUEST_ACK | CREATE_EXCLUSIVE, &route.0) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other.map(drop),
        }
    }
}

/// Does `work` on a thread inside a network namespace.
fn within<T: Send>(netns: &str, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let file = File::open(netns)?;
    let inside = || {
        setns(&file, CloneFlags::CLONE_NEWNET)?;
        work()
    };
    let ended = || Err(io::Error::other("the thread has ended"));
    thread::scope(|s| s.spawn(inside).join().unwrap_or_else(|_| ended()))
}

/// Gives an interface the default route through gateways; the first one of each family is preferred. Without gateways,
/// the interface keeps its own default routes. Returns the default routes of other interfaces.
///
/// # Errors
/// When the namespace or interface does not exist, or the kernel refuses a gateway. Then nothing is changed.
pub fn prefer(netns: &str, interface: &str, gateways: &[IpAddr]) -> Result<Vec<Route>, Error> {
    let work = || {
        let index = nix::net::if_::if_nametoindex(interface)?;
        let mut netlink = Netlink::open()?;
        let (own, others): (Vec<_>, Vec<_>) = netlink
            .defaults()?
            .into_iter()
            .partition(|r| r.interface() == Some(index));
        let mut added = Vec::new();
        for (place, gateway) in gateways.iter().enumerate() {
            let route = Route::new(*gateway, index, place as u32 + 1);
            if let Err(e) = netlink.add(&route) {
                for route in &added {
                    let _ = netlink.remove(route);
                }
                return Err(io::Error::new(e.kind(), format!("{gateway}: {e}")));
            }
            added.push(route);
        }
        let displaced: Vec<Route> = others.into_iter().filter(|r| !r.is_agents()).collect();
        let stale = own.iter().filter(|r| !gateways.is_empty() && !r.is_agents());
        let stale = stale.filter(|r| r.gateway().is_none_or(|g| !gateways.contains(&g)));
        for route in displaced.iter().chain(stale) {
            netlink.remove(route)?;
        }
        Ok(displaced)
    };
    within(netns, work).map_err(|e| Error::io(format!("default-route: interface {interface}: {e}")))
}

/// Restores routes whose interfaces still exist.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn restore(netns: &str, routes: &[Route]) -> Result<(), Error> {
    let work = || {
        let mut netlink = Netlink::open()?;
        for route in routes {
            // The interface, or the route to the gateway, may be gone by now; then this route is gone, too.
            let _ = netlink.add(route);
        }
        Ok(())
    };
    within(netns, work).map_err(|e| Error::io(format!("default-route: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_read_as_it_was_made_and_garbage_is_survived() {
        for gateway in ["10.0.0.1", "fd00::1"] {
            let gateway: IpAddr = gateway.parse().unwrap();
            let route = Route::new(gateway, 7, 1);
            assert!(route.is_default() && !route.is_agents());
            assert_eq!((route.gateway(), route.interface()), (Some(gateway), Some(7)));
            for length in 0..route.0.len() {
                let cut = Route(route.0[..length].to_vec());
                let _ = (cut.is_default(), cut.gateway(), cut.interface());
            }
        }
        assert_eq!(Route(vec![0; 16]).interface(), None);
    }
}
