//! The sockets of a DHCP server, of either version of IP.

use std::io;
use std::net::UdpSocket;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::address::Address;
use super::run::Port;
use crate::error::ProvisionError;

/// Room for some thousands of requests that arrive during a wait for the disk.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Where a server listens.
pub(crate) struct Place<'a, A: Address> {
    /// Name of the protocol, in errors.
    pub(crate) what: &'static str,
    /// The server's own address, for relayed requests.
    pub(crate) address: A,
    /// UDP port.
    pub(crate) port: u16,
    /// Interfaces on which clients without an address are heard.
    pub(crate) interfaces: &'a [String],
    /// The subnet of an interface's address, if the address has this version of IP and the settings name
    /// the subnet.
    pub(crate) subnet: &'a dyn Fn(&InterfaceAddress) -> Option<(A::Net, bool)>,
    /// Opens the socket for an interface, or one that is bound to no interface.
    pub(crate) open: fn(Option<&str>, A, u16) -> io::Result<UdpSocket>,
    /// The address of no interface.
    pub(crate) unspecified: A,
}

impl<A: Address> Place<'_, A> {
    /// Opens the sockets: one for each interface, or one for relayed requests only.
    ///
    /// # Errors
    /// An interface is missing or has no address in a subnet of the settings, or its port cannot be bound.
    pub(crate) fn ports(&self) -> Result<Vec<Port<A>>, ProvisionError> {
        let (what, port) = (self.what, self.port);
        let error = |what: String| move |source| ProvisionError::Socket { what, source };
        if self.interfaces.is_empty() {
            let place = format!("UDP port {port} of {} for {what}", self.address);
            let socket = (self.open)(None, self.address, port).map_err(error(place))?;
            return Ok(vec![Port {
                socket,
                interface: None,
                addresses: Vec::new(),
            }]);
        }
        let all = getifaddrs().map_err(io::Error::from);
        let all: Vec<_> = all.map_err(error("addresses of this machine".into()))?.collect();
        let open = |name: &String| {
            let of_it = all.iter().filter(|a| a.interface_name == *name);
            let (addresses, is_ours): (Vec<A::Net>, Vec<bool>) = of_it.filter_map(self.subnet).unzip();
            let place = format!("UDP port {port} of interface `{name}` for {what}");
            if !is_ours.contains(&true) {
                let why = "it has no address in a subnet of the settings";
                return Err(error(place)(io::Error::new(io::ErrorKind::AddrNotAvailable, why)));
            }
            let socket = (self.open)(Some(name), self.unspecified, port).map_err(error(place))?;
            Ok(Port {
                socket,
                interface: Some(name.clone()),
                addresses,
            })
        };
        self.interfaces.iter().map(open).collect()
    }
}

/// A datagram socket. `prepare` sets the options for the version of IP before the socket
/// is bound.
pub(crate) fn udp(
    domain: Domain,
    interface: Option<&str>,
    to: &SockAddr,
    prepare: impl FnOnce(&Socket) -> io::Result<()>,
) -> io::Result<UdpSocket> {
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    // The system may grant less; then more requests are lost in a burst, and clients ask again.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER);
    if let Some(interface) = interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    prepare(&socket)?;
    socket.bind(to)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}
