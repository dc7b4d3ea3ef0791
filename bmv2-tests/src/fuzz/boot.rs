//! Targets of the provisioning server: what machines without an identity send.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::{Arc, OnceLock};

use fabric_provision::board::Board;
use fabric_provision::dhcp::leases::Leases;
use fabric_provision::dhcp::run::Serve as _;
use fabric_provision::dhcp::server::World;
use fabric_provision::dhcp6::server::Server;
use fabric_provision::directory::Directory;
use fabric_provision::settings::Settings;
use vfabric_api::topology::Topology;

use super::Target;

/// The targets.
pub(super) const TARGETS: [Target; 1] = [Target {
    name: "dhcp6",
    about: "any datagrams are answered in whole options or not at all, and no address is given twice",
    seeds: datagrams,
    body: dhcp6,
}];

const TOPOLOGY: &str = r#"
fabric: { name: lab }
switches:
  - { name: leaf1, role: leaf, device_id: 1, loopback_ipv4: 10.255.0.1, loopback_ipv6: "fd00:255::1", p4runtime: "[2001:db8:1::11]:9559", mac: "02:aa:00:00:00:01" }
  - { name: leaf2, role: leaf, device_id: 2, loopback_ipv4: 10.255.0.2, loopback_ipv6: "fd00:255::2", p4runtime: "192.0.2.12:9559", mac: "02:aa:00:00:00:02" }
"#;

const SETTINGS: &str = r#"
address: 192.0.2.1
subnets: [{ subnet: 192.0.2.0/24 }]
state: state
ipv6:
  address: 2001:db8:1::1
  subnets: [{ subnet: "2001:db8:1::/64", pool: { first: "2001:db8:1::10", last: "2001:db8:1::13" } }]
"#;

/// Identifier of the server.
const DUID: &[u8] = b"\0\x04server";

struct Fixed {
    settings: Arc<Settings>,
    directory: Directory,
}

fn fixed() -> Result<&'static Fixed, String> {
    static FIXED: OnceLock<Result<Fixed, String>> = OnceLock::new();
    let new = || {
        let settings = vfabric_api::yaml::read(SETTINGS).map_err(|error| error.to_string())?;
        let topology = Topology::from_yaml(TOPOLOGY).map_err(|error| error.to_string())?;
        Ok(Fixed {
            settings: Arc::new(settings),
            directory: Directory::new(topology),
        })
    };
    FIXED.get_or_init(new).as_ref().map_err(Clone::clone)
}

fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    [&code.to_be_bytes()[..], &length.to_be_bytes(), value].concat()
}

/// Datagrams with a length of two octets in front of each.
fn framed(datagrams: &[Vec<u8>]) -> Vec<u8> {
    let one = |d: &Vec<u8>| [&u16::try_from(d.len()).unwrap_or(u16::MAX).to_be_bytes()[..], d].concat();
    datagrams.iter().flat_map(one).collect()
}

fn datagrams() -> Vec<Vec<u8>> {
    let client = option(1, &[0, 3, 0, 1, 2, 0xaa, 0, 0, 0, 2]);
    let server = option(2, DUID);
    let wanted = option(3, &[&[0, 0, 0, 5][..], &[0; 8]].concat());
    let asked = option(6, &[0, 23, 0, 59, 0, 136, 0, 239]);
    let message = |kind: u8, options: &[&[u8]]| [&[kind, 1, 2, 3][..], &options.concat()].concat();
    let solicit = message(1, &[&client, &wanted, &asked]);
    let request = message(3, &[&client, &server, &wanted]);
    let release = message(8, &[&client, &server, &wanted]);
    let inform = message(11, &[&client, &asked, &option(15, b"\0\x09SONiC-ZTP")]);
    let link: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1);
    let hardware = option(79, &[0, 1, 2, 0xaa, 0, 0, 0, 1]);
    let relayed = [
        &[12, 0][..],
        &link.octets(),
        &link.octets(),
        &hardware,
        &option(9, &solicit),
    ]
    .concat();
    vec![
        framed(&[solicit.clone(), request, release]),
        framed(&[inform, relayed]),
        framed(&[solicit]),
    ]
}

/// Whether octets are whole options.
fn whole(mut octets: &[u8]) -> bool {
    while let Some(([_, _, a, b], rest)) = octets.split_first_chunk::<4>() {
        let Some((_, rest)) = rest.split_at_checked(u16::from_be_bytes([*a, *b]).into()) else {
            return false;
        };
        octets = rest;
    }
    octets.is_empty()
}

fn dhcp6(mut data: &[u8]) -> Result<(), String> {
    let Fixed { settings, directory } = fixed()?;
    let ipv6 = settings.ipv6.clone().ok_or("the settings have no IPv6")?;
    let mut server = Server::new(Arc::clone(settings), ipv6, DUID.to_vec(), Leases::default());
    let board = Board::default();
    let source = SocketAddrV6::new(Ipv6Addr::new(0xfe80, 0, 0, 0, 0xaa, 0xff, 0xfe00, 1), 546, 0, 7);
    let net = "2001:db8:1::1/64"
        .parse::<ipnet::Ipv6Net>()
        .map_err(|e| e.to_string())?;
    let mut now = 1000;
    while let Some((length, rest)) = data.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (datagram, rest) = rest.split_at(length);
        data = rest;
        now += 10;
        let world = World {
            directory,
            board: &board,
            now,
        };
        let outcome = server.handle(datagram, SocketAddr::V6(source), &[net], world);
        if let Some(reply) = outcome.reply {
            let header = if reply.octets.first() == Some(&13) { 34 } else { 4 };
            if !reply.octets.get(header..).is_some_and(whole) {
                return Err(format!("a reply with a part of an option: {:?}", reply.octets));
            }
        }
        let mut holders: Vec<_> = server.leases().all().map(|lease| lease.holder.clone()).collect();
        let all = holders.len();
        holders.sort();
        holders.dedup();
        if holders.len() != all {
            return Err("a machine has two addresses".to_owned());
        }
        if server.leases().all().any(|lease| !net.contains(&lease.address)) {
            return Err("an address of another subnet".to_owned());
        }
    }
    Ok(())
}
