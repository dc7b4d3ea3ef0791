//! Exchanges of clients with the server, octets in and octets out.

use std::collections::BTreeMap;

use dhcproto::v4::borrowed::DhcpOptionIterator;
use proptest::prelude::*;

use super::*;
use crate::board::Status;
use crate::dhcp::packet::tests::octets;
use crate::directory::tests::directory;
use crate::settings::tests::good;

const SERVER: [u8; 4] = [192, 0, 2, 1];
const ONIE: &[u8] = b"onie_vendor:x86_64-acme_s1-r0";

struct Bench {
    server: Server,
    directory: Directory,
    board: Board,
    now: Seconds,
}

/// A client's request, and how it comes.
#[derive(Clone)]
struct Ask {
    kind: u8,
    mac: u8,
    ciaddr: [u8; 4],
    giaddr: [u8; 4],
    options: Vec<(u8, Vec<u8>)>,
}

fn ask(kind: u8, mac: u8, options: &[(u8, &[u8])]) -> Ask {
    Ask {
        kind,
        mac,
        ciaddr: [0; 4],
        giaddr: [0; 4],
        options: options.iter().map(|(c, o)| (*c, o.to_vec())).collect(),
    }
}

/// A reply as a client sees it.
#[derive(Debug)]
struct Got {
    kind: u8,
    address: [u8; 4],
    options: BTreeMap<u8, Vec<u8>>,
    to: String,
    broadcast: bool,
}

impl Bench {
    fn new() -> Self {
        Self {
            server: Server::new(Arc::new(good()), Leases::default()),
            directory: directory(),
            board: Board::default(),
            now: 1000,
        }
    }

    fn outcome(&mut self, ask: &Ask) -> Outcome {
        let options: Vec<(u8, &[u8])> = ask.options.iter().map(|(c, o)| (*c, o.as_slice())).collect();
        let mut request = octets(ask.kind, &options);
        request[33] = ask.mac;
        request[12..16].copy_from_slice(&ask.ciaddr);
        request[24..28].copy_from_slice(&ask.giaddr);
        let arrival = Arrival {
            source: "192.0.2.200:4000".parse().unwrap(),
            interface: &["192.0.2.1/24".parse().unwrap()],
        };
        let world = World {
            directory: &self.directory,
            board: &self.board,
            now: self.now,
        };
        let outcome = self.server.handle(&request, arrival, world);
        if let Some((switch, what, detail)) = &outcome.done {
            self.board.step(switch, self.now, *what, detail);
        }
        outcome
    }

    fn reply(&mut self, ask: &Ask) -> Option<Got> {
        let reply = self.outcome(ask).reply?;
        let options: BTreeMap<u8, Vec<u8>> = DhcpOptionIterator::new(&reply.octets[240..])
            .map(|o| (o.code().into(), o.data().to_vec()))
            .collect();
        Some(Got {
            kind: options[&53][0],
            address: reply.octets[16..20].try_into().unwrap(),
            options,
            to: reply.to.to_string(),
            broadcast: reply.octets[10] & 0x80 != 0,
        })
    }

    /// DISCOVER and REQUEST; the address.
    fn lease(&mut self, mac: u8, options: &[(u8, &[u8])]) -> [u8; 4] {
        let offer = self.reply(&ask(1, mac, options)).unwrap();
        assert_eq!(offer.kind, 2);
        let options = [options, &[(54, offer.options[&54].as_slice()), (50, &offer.address)]].concat();
        let ack = self.reply(&ask(3, mac, &options)).unwrap();
        assert_eq!((ack.kind, ack.address), (5, offer.address));
        ack.address
    }

    fn status(&self) -> Status {
        self.board.status(self.now)
    }
}

#[test]
fn a_switch_gets_its_own_address_and_keeps_it_whatever_it_runs() {
    let mut bench = Bench::new();
    let onie = bench.lease(1, &[(60, ONIE), (61, b"\x01\x02\xaa\0\0\0\x01")]);
    assert_eq!(onie, [192, 0, 2, 11], "that of its P4Runtime server");
    let sonic = bench.lease(1, &[(77, b"SONiC-ZTP"), (61, b"SONiC##acme##AF39")]);
    assert_eq!(sonic, onie);
    assert_eq!(bench.server.leases().all().count(), 1);
    let status = bench.status();
    let steps: Vec<String> = status.switches[&"spine1".parse().unwrap()]
        .steps
        .iter()
        .map(|s| s.what.to_string())
        .collect();
    assert_eq!(steps, ["discovered", "leased", "discovered", "leased"]);
}

#[test]
fn a_switch_without_an_address_of_its_own_here_gets_one_of_the_pool() {
    let mut bench = Bench::new();
    let address = bench.lease(9, &[(77, b"SONiC-ZTP"), (61, b"SONiC##acme##AF41")]);
    assert!((100..110).contains(&address[3]), "{address:?}");
    // Much later, and with a request for another address.
    bench.now += 100_000;
    let sonic: &[(u8, &[u8])] = &[(77, b"SONiC-ZTP"), (61, b"SONiC##acme##AF41")];
    let wish = [sonic, &[(50, &[192, 0, 2, 107])]].concat();
    assert_eq!(bench.reply(&ask(1, 9, &wish)).unwrap().address, address);
    let again = bench.lease(9, sonic);
    assert_eq!(again, address);
}

#[test]
fn strangers_get_no_answer_and_are_shown_with_all_that_is_known() {
    let mut bench = Bench::new();
    let request = ask(
        1,
        9,
        &[
            (60, ONIE),
            (12, b"box\xff"),
            (55, &[1, 3, 67]),
            (82, b"\x01\x04eth7\x02\x02\0\x01"),
        ],
    );
    let request = Ask {
        giaddr: [192, 0, 2, 254],
        ..request
    };
    for _ in 0..3 {
        assert!(bench.reply(&request).is_none());
    }
    let strangers = bench.status().strangers;
    assert_eq!((strangers.len(), strangers[0].times), (1, 3));
    let details = &strangers[0].details;
    for (name, value) in [
        ("vendor class", "onie_vendor:x86_64-acme_s1-r0"),
        ("model", "x86_64-acme_s1-r0"),
        ("host name", "box\\xff"),
        ("asks for options", "1 3 67"),
        ("relay", "192.0.2.254"),
        ("relay circuit", "eth7"),
        ("relay remote", "\\x00\\x01"),
        ("software", "ONIE"),
    ] {
        assert_eq!(details.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(bench.server.leases().all().next().is_none());
}

#[test]
fn contradictions_are_refused_also_while_the_window_is_open_and_shown_at_the_switch() {
    let mut bench = Bench::new();
    bench.board.open_window(bench.now, 60, 10);
    let sonic = |serial: &str| {
        [
            (77, b"SONiC-ZTP".to_vec()),
            (61, format!("SONiC##acme##{serial}").into_bytes()),
        ]
    };
    for (mac, serial, word) in [
        (9, "AF39", "clone"),
        (1, "ZZ99", "another machine"),
        (1, "AF40", "swapped"),
    ] {
        let request = Ask {
            options: sonic(serial).into(),
            ..ask(1, mac, &[])
        };
        assert!(bench.reply(&request).is_none(), "{mac} {serial}");
        let line = &bench.status().switches[&"spine1".parse().unwrap()];
        let step = line.steps.back().unwrap();
        assert!(step.what == What::Refused && step.detail.contains(word), "{step:?}");
    }
    // Junk instead of a serial number says nothing.
    let request = Ask {
        options: sonic("\u{1}\u{2}").into(),
        ..ask(1, 1, &[])
    };
    assert_eq!(bench.reply(&request).unwrap().address, [192, 0, 2, 11]);
}

#[test]
fn one_serial_number_has_one_machine_while_its_lease_lives() {
    let mut bench = Bench::new();
    let options: &[(u8, &[u8])] = &[(77, b"SONiC-ZTP"), (61, b"SONiC##acme##AF41")];
    bench.lease(9, options);
    assert!(bench.reply(&ask(1, 8, options)).is_none());
    assert!(bench.status().strangers[0].reason.contains("02:aa:00:00:00:09"));
    bench.now += 3600;
    assert!(bench.reply(&ask(1, 8, options)).is_some());
}

#[test]
fn the_window_lets_strangers_in_for_a_while_and_for_so_many() {
    let mut bench = Bench::new();
    bench.board.open_window(bench.now, 60, 2);
    let first = bench.lease(20, &[(60, ONIE), (55, &[67, 114])]);
    assert!((100..110).contains(&first[3]));
    bench.lease(21, &[]);
    assert!(bench.reply(&ask(1, 22, &[])).is_none(), "two were let in");
    bench.lease(20, &[]);
    bench.board.open_window(bench.now, 60, 2);
    let offer = bench.reply(&ask(1, 22, &[(60, ONIE)])).unwrap();
    assert!(!offer.options.contains_key(&125), "an address, and nothing to boot");
    bench.now += 60;
    assert!(bench.reply(&ask(1, 22, &[])).is_none(), "it closed by itself");
    let renew = Ask {
        ciaddr: first,
        ..ask(3, 20, &[])
    };
    assert!(bench.reply(&renew).is_none());
    assert!(bench.status().strangers.iter().any(|s| s.enrolled));
}

#[test]
fn requests_for_another_server_are_left_alone() {
    let mut bench = Bench::new();
    bench.reply(&ask(1, 1, &[])).unwrap();
    let other = ask(3, 1, &[(54, &[192, 0, 2, 77]), (50, &[192, 0, 2, 150])]);
    assert!(bench.reply(&other).is_none());
    let stranger = ask(3, 9, &[(54, &[192, 0, 2, 77]), (50, &[192, 0, 2, 151])]);
    assert!(bench.reply(&stranger).is_none());
    let status = bench.status();
    assert_eq!(
        (status.counters["dhcp_for_other_server"], status.strangers.len()),
        (2, 0)
    );
    // It renews with that server, and looks for any server after a restart: there is no record of it here.
    for request in [
        Ask {
            ciaddr: [192, 0, 2, 150],
            ..ask(3, 1, &[])
        },
        ask(3, 1, &[(50, &[192, 0, 2, 150])]),
    ] {
        assert!(bench.reply(&request).is_none());
    }
    assert!(bench.server.leases().all().next().is_none());
}

#[test]
fn leases_are_renewed_and_wrong_addresses_refused() {
    let mut bench = Bench::new();
    let address = bench.lease(1, &[]);
    bench.now += 1000;
    let renewed = bench
        .reply(&Ask {
            ciaddr: address,
            ..ask(3, 1, &[])
        })
        .unwrap();
    assert_eq!(
        (renewed.kind, renewed.address, renewed.to.as_str()),
        (5, address, "192.0.2.11:68")
    );
    assert_eq!(bench.server.leases().all().next().unwrap().expires, bench.now + 3600);
    let rebooted = bench.reply(&ask(3, 1, &[(50, &address)])).unwrap();
    assert_eq!((rebooted.kind, rebooted.to.as_str()), (5, "255.255.255.255:68"));
    let wrong = bench.reply(&ask(3, 1, &[(50, &[192, 0, 2, 99])])).unwrap();
    assert_eq!(
        (wrong.kind, wrong.address, wrong.to.as_str()),
        (6, [0; 4], "255.255.255.255:68")
    );
    assert_eq!(wrong.options[&54], SERVER);
    let not_offered = bench
        .reply(&ask(3, 1, &[(54, &SERVER), (50, &[192, 0, 2, 101])]))
        .unwrap();
    assert_eq!(not_offered.kind, 6);
    // A lease moves with the inventory: the old address is refused, the new one offered.
    let moved = crate::directory::tests::TOPOLOGY.replace("192.0.2.11:9559", "192.0.2.21:9559");
    bench.directory = Directory::new(vfabric_api::topology::Topology::from_yaml(&moved).unwrap());
    assert_eq!(
        bench
            .reply(&Ask {
                ciaddr: address,
                ..ask(3, 1, &[])
            })
            .unwrap()
            .kind,
        6
    );
    assert_eq!(bench.lease(1, &[]), [192, 0, 2, 21]);
}

#[test]
fn relays_get_their_option_back_and_choose_the_subnet() {
    let mut bench = Bench::new();
    let relayed = |options: &[(u8, &[u8])]| Ask {
        giaddr: [198, 51, 100, 1],
        ..ask(1, 1, options)
    };
    let offer = bench.reply(&relayed(&[(82, b"\x01\x02e1")])).unwrap();
    assert_eq!(
        (offer.to.as_str(), &offer.options[&82]),
        ("198.51.100.1:67", &b"\x01\x02e1".to_vec())
    );
    assert_eq!(offer.address[..3], [198, 51, 100], "of the relay's subnet");
    assert_eq!(offer.options[&54], [192, 0, 2, 2], "the address for that subnet");
    let selected = bench.reply(&relayed(&[(82, &[5, 4, 192, 0, 2, 0])])).unwrap();
    assert_eq!(
        (selected.address, selected.to.as_str()),
        ([192, 0, 2, 11], "198.51.100.1:67")
    );
    let from_a_port = bench.reply(&relayed(&[(82, &[19, 0])])).unwrap();
    assert_eq!(from_a_port.to, "198.51.100.1:4000");
    let nak = Ask {
        options: vec![(54, vec![192, 0, 2, 2]), (50, vec![10, 0, 0, 9])],
        kind: 3,
        ..relayed(&[])
    };
    let nak = bench.reply(&nak).unwrap();
    assert!(nak.kind == 6 && nak.broadcast && nak.to == "198.51.100.1:67", "{nak:?}");
    let unknown = Ask {
        giaddr: [203, 0, 113, 1],
        ..ask(1, 1, &[])
    };
    assert!(bench.reply(&unknown).is_none());
    assert!(bench.status().troubles[0].detail.contains("203.0.113.1"));
}

#[test]
fn what_runs_out_is_named() {
    let mut bench = Bench::new();
    bench.board.open_window(bench.now, 600, 100);
    for i in 0..10 {
        bench.lease(20 + i, &[]);
    }
    let sonic: &[(u8, &[u8])] = &[(77, b"SONiC-ZTP"), (61, b"SONiC##acme##AF41")];
    assert!(bench.reply(&ask(1, 9, sonic)).is_none());
    let status = bench.status();
    let expected = "subnet 192.0.2.0/24: all 10 addresses of the pool 192.0.2.100 to 192.0.2.109 are taken";
    assert_eq!(status.troubles[0].detail, expected);
    assert_eq!(
        status.switches[&"leaf2".parse().unwrap()].steps[0].what,
        What::NoAddress
    );
    // A switch with an address of its own is not concerned.
    assert_eq!(bench.lease(1, &[]), [192, 0, 2, 11]);
}

#[test]
fn addresses_come_back_by_release_and_go_to_nobody_after_decline() {
    let mut bench = Bench::new();
    let sonic: &[(u8, &[u8])] = &[(77, b"SONiC-ZTP"), (61, b"SONiC##acme##AF41")];
    let address = bench.lease(9, sonic);
    let release = Ask {
        ciaddr: address,
        ..ask(7, 9, sonic)
    };
    let outcome = bench.outcome(&release);
    assert!(outcome.reply.is_none());
    assert_eq!(outcome.change.unwrap().put.expires, bench.now);
    let address = bench.lease(9, sonic);
    let decline = [sonic, &[(50, &address), (54, &SERVER)]].concat();
    assert!(bench.reply(&ask(4, 9, &decline)).is_none());
    assert_ne!(bench.lease(9, sonic), address);
    assert!(bench.status().troubles[0].detail.contains("in use by another machine"));
}

#[test]
fn informed_clients_get_options_and_no_lease() {
    let mut bench = Bench::new();
    let inform = Ask {
        ciaddr: [192, 0, 2, 150],
        ..ask(8, 1, &[(60, ONIE), (55, &[114])])
    };
    let got = bench.reply(&inform).unwrap();
    assert_eq!((got.kind, got.address, got.to.as_str()), (5, [0; 4], "192.0.2.150:68"));
    assert!(got.options.contains_key(&114) && !got.options.contains_key(&51));
    assert!(bench.server.leases().all().next().is_none());
}

proptest! {
    /// Whatever clients send, nothing panics, and no address gets two holders.
    #[test]
    fn no_exchange_makes_it_panic(
        steps in proptest::collection::vec(
            (
                1..9u8,
                0..12u8,
                prop_oneof![Just([0u8; 4]), any::<[u8; 4]>(), (100..112u8).prop_map(|l| [192, 0, 2, l])],
                prop_oneof![Just([0u8; 4]), any::<[u8; 4]>(), Just([198, 51, 100, 1])],
                proptest::collection::vec(
                    (
                        prop_oneof![any::<u8>(), Just(50u8), Just(54), Just(61), Just(82)],
                        prop_oneof![
                            proptest::collection::vec(any::<u8>(), 0..40),
                            (100..112u8).prop_map(|l| vec![192, 0, 2, l]),
                            Just(SERVER.to_vec()),
                            Just(b"SONiC##acme##AF41".to_vec()),
                        ],
                    ),
                    0..5,
                ),
                0..2000u64,
            ),
            1..30,
        ),
        window in any::<bool>(),
    ) {
        let mut bench = Bench::new();
        if window {
            bench.board.open_window(bench.now, 3600, 1000);
        }
        for (kind, mac, ciaddr, giaddr, options, wait) in steps {
            bench.now += wait;
            let outcome = bench.outcome(&Ask { kind, mac, ciaddr, giaddr, options });
            if let Some(reply) = outcome.reply {
                prop_assert!(reply.octets.len() >= 300);
            }
            let mut addresses: Vec<Ipv4Addr> = bench.server.leases().all().map(|l| l.address).collect();
            let all = addresses.len();
            addresses.dedup();
            prop_assert_eq!(all, addresses.len());
        }
    }
}
