//! One network interface: its packet socket, its address, its route.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use futures::TryStreamExt as _;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, CacheInfo};
use netlink_packet_route::route::RouteProtocol;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::LinkAddr;
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use crate::error::DhcpError;
use crate::frame;
use crate::message::Lease;

/// Largest frame that is read: replies are asked for in whole Ethernet frames, and may have a VLAN tag.
const FRAME: usize = 1522;
/// Metric of the default route: a route of the operator's is preferred.
const METRIC: u32 = 1024;

/// The interface.
pub struct Interface {
    name: String,
    link: LinkAddr,
    mac: [u8; 6],
    handle: Handle,
}

/// A packet socket for replies, and for broadcasts without a source address. Tokio has no such type, but its datagram
/// socket can wait, send and receive on a packet socket in the same way.
pub struct Frames(UdpSocket);

fn seconds(left: Duration) -> u32 {
    u32::try_from(left.as_secs()).unwrap_or(u32::MAX)
}

impl Interface {
    /// Opens an interface, and brings it up. Runs inside a Tokio runtime.
    ///
    /// # Errors
    /// There is no such Ethernet interface, or it may not be changed.
    pub async fn open(name: &str) -> Result<Self, DhcpError> {
        let socket = |what| {
            let interface = name.to_owned();
            move |source| DhcpError::Socket {
                interface,
                what,
                source,
            }
        };
        let all = getifaddrs()
            .map_err(io::Error::from)
            .map_err(socket("its hardware address"))?;
        let mut of_it = all.filter(|a| a.interface_name == name);
        let link = of_it.find_map(|a| a.address?.as_link_addr().copied());
        let mac = link.and_then(|link| link.addr()).filter(|mac| *mac != [0; 6]);
        let (Some(link), Some(mac)) = (link, mac) else {
            return Err(DhcpError::NoInterface(name.to_owned()));
        };
        let (connection, handle, _) = rtnetlink::new_connection().map_err(socket("netlink"))?;
        tokio::spawn(connection);
        let interface = Self {
            name: name.to_owned(),
            link,
            mac,
            handle,
        };
        let up = LinkMessageBuilder::<LinkUnspec>::new()
            .index(interface.index())
            .up()
            .build();
        let done = interface.handle.link().set(up).execute().await;
        done.map_err(interface.failed("it cannot be brought up"))?;
        Ok(interface)
    }

    /// Its hardware address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Its number.
    pub(crate) fn index(&self) -> u32 {
        u32::try_from(self.link.ifindex()).unwrap_or_default()
    }

    fn failed(&self, what: &'static str) -> impl FnOnce(rtnetlink::Error) -> DhcpError {
        let interface = self.name.clone();
        move |source| DhcpError::Netlink {
            interface,
            what,
            source,
        }
    }

    /// Opens the packet socket.
    ///
    /// # Errors
    /// The system refuses it, or the interface is gone.
    pub fn frames(&self) -> io::Result<Frames> {
        let protocol = (nix::libc::ETH_P_IP as u16).to_be();
        let socket = Socket::new(
            Domain::PACKET,
            Type::RAW.nonblocking(),
            Some(Protocol::from(i32::from(protocol))),
        )?;
        nix::sys::socket::bind(socket.as_raw_fd(), &self.link)?;
        Ok(Frames(UdpSocket::from_std(socket.into())?))
    }

    /// Opens a socket for datagrams to the interface's own address.
    ///
    /// # Errors
    /// The system refuses it, or the address is gone.
    pub fn datagrams(&self, own: Ipv4Addr) -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        socket.set_reuse_address(true)?;
        socket.bind_device(Some(self.name.as_bytes()))?;
        socket.bind(&SocketAddrV4::new(own, frame::CLIENT_PORT).into())?;
        UdpSocket::from_std(socket.into())
    }

    /// Puts the address and the default route of a lease on the interface, until it ends.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn take(&self, lease: &Lease, left: Duration) -> Result<(), DhcpError> {
        let mut request = self
            .handle
            .address()
            .add(self.index(), lease.address.into(), lease.prefix)
            .replace();
        let mut lifetime = CacheInfo::default();
        (lifetime.ifa_valid, lifetime.ifa_preferred) = (seconds(left), seconds(left));
        request
            .message_mut()
            .attributes
            .push(AddressAttribute::CacheInfo(lifetime));
        request
            .execute()
            .await
            .map_err(self.failed("it does not take the address"))?;
        let Some(router) = lease.router else { return Ok(()) };
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .gateway(router)
            .output_interface(self.index())
            // The kernel removes the route with this address.
            .pref_source(lease.address)
            .protocol(RouteProtocol::Dhcp)
            .priority(METRIC)
            .build();
        let done = self.handle.route().add(route).replace().execute().await;
        done.map_err(self.failed("it does not take the default route"))
    }

    /// Opens a socket for DHCPv6; its messages use link-local addresses.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn datagrams6(&self, port: u16) -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
        socket.set_only_v6(true)?;
        socket.set_reuse_address(true)?;
        socket.bind_device(Some(self.name.as_bytes()))?;
        socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0).into())?;
        UdpSocket::from_std(socket.into())
    }

    /// Puts an address of a DHCPv6 lease on the interface, until it ends. Prefix and routers come from router advertisements.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn take6(&self, address: Ipv6Addr, left: Duration) -> Result<(), DhcpError> {
        let mut request = self.handle.address().add(self.index(), address.into(), 128).replace();
        let mut lifetime = CacheInfo::default();
        (lifetime.ifa_valid, lifetime.ifa_preferred) = (seconds(left), seconds(left));
        // Usable at once: the server gives each switch an address of its own.
        let attributes = &mut request.message_mut().attributes;
        attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        attributes.push(AddressAttribute::CacheInfo(lifetime));
        let done = request.execute().await;
        done.map_err(self.failed("it does not take the address"))
    }

    /// Takes an address away, if it is there.
    ///
    /// # Errors
    /// The system refuses.
    pub async fn lose(&self, address: IpAddr) -> Result<(), DhcpError> {
        let mut all = self
            .handle
            .address()
            .get()
            .set_link_index_filter(self.index())
            .set_address_filter(address)
            .execute();
        while let Some(message) = all.try_next().await.map_err(self.failed("its addresses"))? {
            let gone = self.handle.address().del(message).execute().await;
            gone.map_err(self.failed("the address cannot be removed"))?;
        }
        Ok(())
    }
}

impl Frames {
    /// Sends a frame.
    ///
    /// # Errors
    /// The interface is down or gone, or its queue is full: DHCP asks again.
    pub async fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.0.send(frame).await.map(|_| ())
    }

    /// The message of the next frame that may be a reply.
    ///
    /// # Errors
    /// The interface is down or gone.
    pub async fn receive(&self) -> io::Result<Vec<u8>> {
        let mut octets = [0; FRAME];
        loop {
            let length = self.0.recv(&mut octets).await?;
            if let Some(message) = octets.get(..length).and_then(frame::reply) {
                return Ok(message.to_vec());
            }
        }
    }
}
