//! What the two versions of IP differ in, for leases and sockets.

use std::fmt::{Debug, Display};
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

use ipnet::{Ipv4Net, Ipv6Net};

/// An address that is leased.
pub trait Address: Copy + Ord + Hash + Debug + Display + Into<IpAddr> + Send + Sync + 'static {
    /// A subnet of such addresses.
    type Net: Debug + Send + Sync;
    /// Where a reply goes.
    type Socket: Clone + Debug + PartialEq + Eq + Into<SocketAddr> + Send;
    /// Whether it is one of IPv4.
    const IS_V4: bool;
    /// Name of the file of leases in the directory of state.
    const FILE: &'static str;

    /// As a number; addresses of a pool are consecutive numbers.
    fn number(self) -> u128;

    /// The address that comes so many after this one; the last one if there is none.
    fn plus(self, more: u32) -> Self;
}

impl Address for Ipv4Addr {
    type Net = Ipv4Net;
    type Socket = SocketAddrV4;
    const IS_V4: bool = true;
    const FILE: &'static str = "leases";

    fn number(self) -> u128 {
        u32::from(self).into()
    }

    fn plus(self, more: u32) -> Self {
        u32::from(self).saturating_add(more).into()
    }
}

impl Address for Ipv6Addr {
    type Net = Ipv6Net;
    type Socket = SocketAddrV6;
    const IS_V4: bool = false;
    const FILE: &'static str = "leases6";

    fn number(self) -> u128 {
        self.into()
    }

    fn plus(self, more: u32) -> Self {
        u128::from(self).saturating_add(more.into()).into()
    }
}
