//! Exchanges of clients with the server, octets in and octets out.

use std::collections::BTreeMap;

use proptest::prelude::*;
use vfabric_api::topology::Topology;

use super::super::packet::code;
use super::super::packet::tests::{message, relayed};
use super::super::settings::tests::good;
use super::*;
use crate::board::{Board, Status as Shown};

const DUID: &[u8] = b"\0\x04server";
const ON: &str = "fe80::";

/// As of the machine with the last octet `mac`, whose DUID has the hardware address of another port.
fn duid(mac: u8) -> Vec<u8> {
    vec![0, 3, 0, 1, 2, 0xee, 0, 0, 0, mac]
}

const TOPOLOGY: &str = r#"
fabric: { name: lab }
switches:
  - { name: leaf1, role: leaf, device_id: 1, loopback_ipv4: 10.255.0.1, loopback_ipv6: "fd00:255::1", p4runtime: "[2001:db8:1::11]:9559", serial: AF39, mac: "02:aa:00:00:00:01", model: x86_64-acme_s1-r0, software: nos-1.0 }
  - { name: leaf2, role: leaf, device_id: 2, loopback_ipv4: 10.255.0.2, loopback_ipv6: "fd00:255::2", p4runtime: "192.0.2.12:9559", mac: "02:aa:00:00:00:02" }
  - { name: leaf3, role: leaf, device_id: 3, loopback_ipv4: 10.255.0.3, loopback_ipv6: "fd00:255::3", p4runtime: "[2001:db8:1::101]:9559", mac: "02:aa:00:00:00:03" }
"#;

struct Bench {
    server: Server,
    directory: Directory,
    board: Board,
    now: Seconds,
}

/// A reply as a client sees it: options by code, and each association with its addresses, times and status.
#[derive(Debug)]
struct Got {
    kind: u8,
    options: BTreeMap<u16, Vec<u8>>,
    associations: Vec<(u32, Vec<(Ipv6Addr, u32)>, Option<u16>)>,
    to: String,
}

fn read(mut octets: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some(([a, b, c, d], rest)) = octets.split_first_chunk::<4>() {
        let (value, rest) = rest.split_at(u16::from_be_bytes([*c, *d]).into());
        all.push((u16::from_be_bytes([*a, *b]), value.to_vec()));
        octets = rest;
    }
    all
}

fn held(octets: &[u8]) -> (u32, Vec<(Ipv6Addr, u32)>, Option<u16>) {
    let (mut addresses, mut said) = (Vec::new(), None);
    for (code, value) in read(&octets[12..]) {
        let number = |at: usize| u32::from_be_bytes(value[at..at + 4].try_into().unwrap());
        match code {
            code::IA_ADDRESS => {
                let address: [u8; 16] = value[..16].try_into().unwrap();
                addresses.push((address.into(), number(20)));
            }
            13 => said = Some(u16::from_be_bytes([value[0], value[1]])),
            other => panic!("{other}"),
        }
    }
    (u32::from_be_bytes(octets[..4].try_into().unwrap()), addresses, said)
}

/// An association with addresses in it.
fn ia(id: u32, addresses: &[&str]) -> Vec<u8> {
    let mut octets = [id.to_be_bytes().as_slice(), &[0; 8]].concat();
    for text in addresses {
        let address: Ipv6Addr = text.parse().unwrap();
        octets.extend([0, 5, 0, 24]);
        octets.extend(address.octets());
        octets.extend([0; 8]);
    }
    octets
}

impl Bench {
    fn new() -> Self {
        let settings = Arc::new(crate::settings::tests::good());
        Self {
            server: Server::new(settings, good(), DUID.to_vec(), Leases::default()),
            directory: Directory::new(Topology::from_yaml(TOPOLOGY).unwrap()),
            board: Board::default(),
            now: 1000,
        }
    }

    fn outcome(&mut self, octets: &[u8], source: SocketAddrV6) -> Outcome<A> {
        let world = World {
            directory: &self.directory,
            board: &self.board,
            now: self.now,
        };
        let interface = ["fe80::1/64".parse().unwrap(), "2001:db8:1::1/64".parse().unwrap()];
        self.server.handle(octets, source.into(), &interface, world)
    }

    fn got(&mut self, octets: &[u8], source: SocketAddrV6) -> Option<Got> {
        let reply = self.outcome(octets, source).reply?;
        let all = read(&reply.octets[4..]);
        let of = |(code, value): &(u16, Vec<u8>)| (*code == code::IA_NA).then(|| held(value));
        let associations = all.iter().filter_map(of).collect();
        Some(Got {
            kind: reply.octets[0],
            options: all.into_iter().collect(),
            associations,
            to: reply.to.to_string(),
        })
    }

    /// A machine on our link asks.
    fn ask(&mut self, kind: u8, mac: u8, options: &[(u16, &[u8])]) -> Option<Got> {
        let source = format!("[{ON}aa:ff:fe00:{mac:x}%7]:546").parse().unwrap();
        let id = duid(mac);
        let octets = message(kind, &[&[(code::CLIENT_ID, id.as_slice())], options].concat());
        self.got(&octets, source)
    }

    /// SOLICIT and REQUEST; the address.
    fn lease(&mut self, mac: u8) -> Ipv6Addr {
        let offer = self.ask(1, mac, &[(3, &ia(5, &[]))]).unwrap();
        assert_eq!(offer.kind, 2);
        let offered = offer.associations[0].1[0].0;
        let wish = ia(5, &[&offered.to_string()]);
        let got = self.ask(3, mac, &[(2, DUID), (3, &wish)]).unwrap();
        assert_eq!(
            (got.kind, got.associations),
            (7, vec![(5, vec![(offered, 3600)], None)])
        );
        offered
    }

    fn status(&self) -> Shown {
        self.board.status(self.now)
    }
}

fn ip(text: &str) -> Ipv6Addr {
    text.parse().unwrap()
}

#[test]
fn a_switch_gets_its_own_address_and_others_one_of_the_pool() {
    let mut bench = Bench::new();
    let offer = bench.ask(1, 1, &[(3, &ia(5, &[]))]).unwrap();
    assert_eq!(offer.to, "[fe80::aa:ff:fe00:1%7]:546");
    assert_eq!((&offer.options[&1], offer.options[&2].as_slice()), (&duid(1), DUID));
    assert_eq!(bench.lease(1), ip("2001:db8:1::11"));
    // leaf2 has an address of IPv4 only. That of leaf3 is in the pool, and is kept for it.
    assert_eq!(bench.lease(2), ip("2001:db8:1::100"));
    assert_eq!(bench.lease(3), ip("2001:db8:1::101"));
    assert_eq!(bench.lease(2), ip("2001:db8:1::100"), "it keeps it");
    let line = &bench.status().switches[&"leaf1".parse().unwrap()];
    assert_eq!(line.steps.len(), 1, "what is leased is noted when it is durable");
    assert!(line.steps[0].detail.contains("02:aa:00:00:00:01 in 2001:db8:1::/64"));
}

#[test]
fn strangers_get_no_answer_unless_the_window_is_open() {
    let mut bench = Bench::new();
    for (kind, options) in [(1, vec![]), (3, vec![(2, DUID)]), (11, vec![])] {
        assert!(bench.ask(kind, 9, &options).is_none(), "{kind}");
    }
    let status = bench.status();
    let stranger = &status.strangers[0];
    assert_eq!(
        (stranger.mac.to_string().as_str(), stranger.times),
        ("02:aa:00:00:00:09", 3)
    );
    assert_eq!(stranger.details["duid"], "0003000102ee00000009");
    bench.board.open_window(bench.now, 60, 1);
    assert_eq!(bench.lease(9), ip("2001:db8:1::100"));
    assert!(bench.ask(1, 8, &[(3, &ia(1, &[]))]).is_none(), "the window let one in");
    assert!(bench.ask(11, 9, &[]).is_none(), "and gives it nothing to boot");
}

#[test]
fn contradictions_are_refused_and_shown_at_the_switch() {
    let mut bench = Bench::new();
    bench.board.open_window(bench.now, 60, 5);
    let class = b"\0\0\0\x09\0\x15Arista;DCS;01.23;ZZ99";
    assert!(bench.ask(1, 1, &[(16, class), (3, &ia(1, &[]))]).is_none());
    let status = bench.status();
    let step = &status.switches[&"leaf1".parse().unwrap()].steps[0];
    assert!(step.what == What::Refused && step.detail.contains("ZZ99"), "{step:?}");
}

#[test]
fn leases_are_renewed_and_what_is_unknown_or_elsewhere_is_named() {
    let mut bench = Bench::new();
    // Before a lease: RENEW learns that there is none, REBIND is left to the server that knows it.
    let own = ia(5, &["2001:db8:1::11"]);
    let unknown = bench.ask(5, 1, &[(2, DUID), (3, &own)]).unwrap();
    assert_eq!(unknown.associations, [(5, vec![], Some(3))]);
    assert!(bench.ask(6, 1, &[(3, &own)]).is_none());
    bench.lease(1);
    for (kind, options) in [
        (5, vec![(2, DUID), (3, own.as_slice())]),
        (6, vec![(3, own.as_slice())]),
    ] {
        bench.now += 100;
        let renewed = bench.ask(kind, 1, &options).unwrap();
        assert_eq!(renewed.associations, [(5, vec![(ip("2001:db8:1::11"), 3600)], None)]);
        let lease = bench.server.leases.at(ip("2001:db8:1::11")).unwrap();
        assert_eq!(lease.expires, bench.now + 3600);
    }
    // The inventory has another address now: the old one ends, the new one begins.
    let moved = TOPOLOGY.replace("2001:db8:1::11", "2001:db8:1::22");
    bench.directory = Directory::new(Topology::from_yaml(&moved).unwrap());
    let moved = bench.ask(5, 1, &[(2, DUID), (3, &own)]).unwrap();
    let both = vec![(ip("2001:db8:1::11"), 0), (ip("2001:db8:1::22"), 3600)];
    assert_eq!(moved.associations, [(5, both, None)]);
    let wrong = bench.ask(3, 1, &[(2, DUID), (3, &ia(5, &["2001:db8:9::1"]))]).unwrap();
    assert_eq!(wrong.associations, [(5, vec![], Some(4))]);
    // CONFIRM is about the link.
    let confirm = |bench: &mut Bench, address: &str| {
        let got = bench.ask(4, 1, &[(3, &ia(5, &[address]))]).unwrap();
        u16::from_be_bytes([got.options[&13][0], got.options[&13][1]])
    };
    assert_eq!(
        (
            confirm(&mut bench, "2001:db8:1::99"),
            confirm(&mut bench, "2001:db8:9::1")
        ),
        (0, 4)
    );
    assert!(bench.ask(4, 1, &[(3, &ia(5, &[]))]).is_none());
}

#[test]
fn requests_for_another_server_and_those_against_the_rules_are_left_alone() {
    let mut bench = Bench::new();
    let wish = ia(5, &[]);
    for (kind, options) in [
        (3, vec![(2, &b"other"[..]), (3, &wish)]),
        (11, vec![(2, &b"other"[..])]),
        // RFC 8415, section 16: these must, and those must not name a server.
        (3, vec![(3, &wish)]),
        (5, vec![(3, &wish)]),
        (8, vec![(3, &wish)]),
        (1, vec![(2, DUID), (3, &wish)]),
        (6, vec![(2, DUID), (3, &wish)]),
    ] {
        assert!(bench.ask(kind, 1, &options).is_none(), "{kind}");
    }
    // Without a client identifier only information can be asked for.
    let source = "[fe80::aa:ff:fe00:1%7]:546".parse().unwrap();
    assert!(bench.got(&message(1, &[(3, &wish)]), source).is_none());
    assert_eq!(bench.got(&message(11, &[(6, &[0, 23])]), source).unwrap().kind, 7);
    // There is no reply to unicast from elsewhere, and none to a machine that shows no
    // hardware address.
    let far = "[2001:db8:1::11]:546".parse().unwrap();
    assert!(bench.got(&message(11, &[]), far).is_none());
    let private = "[fe80::1234%7]:546".parse().unwrap();
    assert!(bench.got(&message(1, &[(1, b"\0\x04uuid")]), private).is_none());
    assert_eq!(bench.status().counters["dhcp6_no_hardware_address"], 1);
    assert!(bench.server.leases.all().next().is_none());
}

#[test]
fn relays_choose_the_subnet_and_get_the_reply() {
    let mut bench = Bench::new();
    let inner = message(1, &[(1, &duid(9)), (3, &ia(1, &[]))]);
    let seen = [&[0u8, 1][..], &[2, 0xaa, 0, 0, 0, 2]].concat();
    let relay: SocketAddrV6 = "[2001:db8:2::1]:4000".parse().unwrap();
    let far = relayed("2001:db8:2::1", "fe80::9", &[(79, &seen)], &inner);
    let reply = bench.outcome(&far, relay).reply.unwrap();
    assert_eq!(
        (reply.octets[0], reply.to.to_string().as_str()),
        (13, "[2001:db8:2::1]:547")
    );
    let inside = read(&reply.octets[34..])
        .into_iter()
        .find(|(code, _)| *code == 9)
        .unwrap()
        .1;
    let association = read(&inside[4..]).into_iter().find(|(code, _)| *code == 3).unwrap().1;
    assert_eq!(held(&association), (1, vec![(ip("2001:db8:2::100"), 3600)], None));
    let with_port = relayed("2001:db8:2::1", "fe80::9", &[(79, &seen), (135, &[0, 0])], &inner);
    assert_eq!(bench.outcome(&with_port, relay).reply.unwrap().to.port(), 4000);
    // A relay of a link that nobody described.
    let elsewhere = relayed("2001:db8:9::1", "fe80::9", &[(79, &seen)], &inner);
    assert!(bench.outcome(&elsewhere, relay).reply.is_none());
    assert!(bench.status().troubles[0].detail.contains("2001:db8:9::1"));
}

#[test]
fn addresses_come_back_by_release_go_to_nobody_after_decline_and_run_out() {
    let mut bench = Bench::new();
    let address = bench.lease(2);
    let own = ia(5, &[&address.to_string()]);
    let other = ia(6, &["2001:db8:1::11"]);
    let released = bench.ask(8, 2, &[(2, DUID), (3, &own), (3, &other)]).unwrap();
    assert_eq!(released.associations, [(6, vec![], Some(3))]);
    assert_eq!(bench.server.leases.at(address).unwrap().expires, bench.now);
    assert_eq!(bench.lease(2), address);
    bench.ask(9, 2, &[(2, DUID), (3, &own)]).unwrap();
    assert!(bench.status().troubles[0].detail.contains("in use by another machine"));
    let next = bench.lease(2);
    assert_ne!(next, address);
    // Two of four are left: one is that of leaf3. A second association of one machine gets nothing.
    let two = bench.ask(1, 2, &[(3, &ia(1, &[])), (3, &ia(2, &[]))]).unwrap();
    assert_eq!(two.associations, [(1, vec![(next, 3600)], None), (2, vec![], Some(2))]);
    bench.board.open_window(bench.now, 60, 5);
    bench.lease(7);
    let none = bench.ask(1, 8, &[(3, &ia(1, &[]))]).unwrap();
    assert_eq!(none.associations, [(1, vec![], Some(2))]);
    assert!(bench.status().troubles.iter().any(|t| t.detail.contains("are taken")));
}

proptest! {
    #[test]
    fn no_exchange_makes_it_panic_or_gives_one_address_twice(
        asks in proptest::collection::vec((1u8..12, 1u8..6, any::<bool>(), proptest::collection::vec(any::<u8>(), 0..80)), 1..20),
    ) {
        let mut bench = Bench::new();
        bench.board.open_window(bench.now, 3600, 2);
        for (kind, mac, is_ours, junk) in asks {
            let mut options: Vec<(u16, &[u8])> = vec![(3, &junk), (16, &junk), (6, &junk)];
            if is_ours {
                options.push((2, DUID));
            }
            bench.ask(kind, mac, &options);
            bench.now += 100;
            bench.server.tick(bench.now);
            let all: Vec<_> = bench.server.leases.all().map(|l| l.holder.clone()).collect();
            let mut once = all.clone();
            once.sort();
            once.dedup();
            prop_assert_eq!(all.len(), once.len());
        }
    }
}
