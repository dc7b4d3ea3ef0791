//! The sockets of the DHCPv6 server, and its identifier. The rest of its shell is that of DHCPv4.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::path::Path;

use ipnet::Ipv6Net;
use ring::rand::{SecureRandom as _, SystemRandom};
use socket2::Domain;

use super::settings::Ipv6;
use crate::dhcp::run::Port;
use crate::dhcp::socket::{Place, udp};
use crate::error::ProvisionError;
use crate::settings::Settings;

/// All DHCP relays and servers of a link, and all servers of a site (RFC 8415, section 7.1).
const GROUPS: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2),
    Ipv6Addr::new(0xff05, 0, 0, 0, 0, 0, 1, 3),
];
/// Name of the file with this server's identifier in the directory of state.
const FILE: &str = "duid";
/// Type of a DUID that is a UUID (RFC 6355).
const UUID: [u8; 2] = [0, 4];

fn socket(interface: Option<&str>, address: Ipv6Addr, port: u16) -> io::Result<UdpSocket> {
    let to = SocketAddrV6::new(address, port, 0, 0).into();
    udp(Domain::IPV6, interface, &to, |socket| {
        socket.set_only_v6(true)?;
        let Some(name) = interface else { return Ok(()) };
        let index = nix::net::if_::if_nametoindex(name)?;
        GROUPS
            .iter()
            .try_for_each(|group| socket.join_multicast_v6(group, index))
    })
}

/// Opens the sockets: one for each interface, or one for relayed requests only.
///
/// # Errors
/// An interface is missing or has no address in a subnet of the settings, or its port cannot be bound.
pub fn open(settings: &Settings, ipv6: &Ipv6) -> Result<Vec<Port<Ipv6Addr>>, ProvisionError> {
    let place = Place {
        what: "DHCPv6",
        address: ipv6.address,
        port: ipv6.port,
        interfaces: &settings.interfaces,
        subnet: &|a| {
            let address = a.address.as_ref()?.as_sockaddr_in6()?.ip();
            let mask = a.netmask.as_ref()?.as_sockaddr_in6()?.ip();
            let net = Ipv6Net::with_netmask(address, mask).ok()?;
            Some((net, ipv6.subnet_of(address).is_some()))
        },
        open: socket,
        unspecified: Ipv6Addr::UNSPECIFIED,
    };
    place.ports()
}

/// This server's identifier, made at its first start: clients that renew must find the same one after a restart.
///
/// # Errors
/// The file cannot be read or written.
pub fn duid(state: &Path) -> Result<Vec<u8>, ProvisionError> {
    let path = state.join(FILE);
    match std::fs::read(&path) {
        Ok(octets) if octets.len() == 18 && octets.starts_with(&UUID) => return Ok(octets),
        Ok(_) => tracing::warn!(path = %path.display(), "not an identifier of a DHCPv6 server; making another one"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(ProvisionError::file(&path)(error)),
    }
    let mut octets = [0; 18];
    octets[..2].copy_from_slice(&UUID);
    let random = SystemRandom::new().fill(&mut octets[2..]);
    let random = random.map_err(|_| io::Error::other("the system has no random numbers"));
    let write = || {
        random?;
        let new = path.with_extension("new");
        std::fs::write(&new, octets)?;
        std::fs::File::open(&new)?.sync_all()?;
        std::fs::rename(&new, &path)
    };
    write().map_err(ProvisionError::file(&path))?;
    Ok(octets.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identifier_stays() {
        let dir = tempfile::tempdir().unwrap();
        let first = duid(dir.path()).unwrap();
        assert_eq!((first.len(), duid(dir.path()).unwrap()), (18, first.clone()));
        std::fs::write(dir.path().join(FILE), "junk").unwrap();
        let other = duid(dir.path()).unwrap();
        assert!(other != first && duid(dir.path()).unwrap() == other);
    }
}
