//! The kernel datapath in real network namespaces, with real packets. Needs root and `ip`.
//!
//! Two hosts are joined by a plain veth pair, which acts as the underlay; each runs an engine of its own. Workloads
//! talk by ordinary sockets inside their namespaces.

#[allow(unreachable_pub, dead_code)]
mod common;

use std::net::{IpAddr, SocketAddr};

use common::{Lab, ip, mac, vni};
use vtep_agent::datapath::{Datapath, Scope};
use vtep_agent::object::{ObjectKey, bridge_name, port_name, vxlan_name};
use vtep_proto::v1::ErrorCode;
use vtep_proto::{FdbEntry, HostEntity, HostKey, MacAddress, UnderlayFamily};

const NET: u32 = 10_000;
/// Link group of links that are out of use, as `ip` takes it.
const TRASH: &str = "1986421868";

/// Two workloads talk over the overlay in both families of inner address, with datagrams of
/// full size and by TCP.
fn workloads_talk(underlay: UnderlayFamily) {
    let mut lab = Lab::new(underlay);
    lab.two_workloads(NET);
    for (from, to) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        lab.udp_round_trip(0, from, 1, to, 1000);
        lab.udp_round_trip(1, to, 0, from, 1400);
        lab.tcp_round_trip(0, from, 1, to, 1 << 20);
    }
}

#[test]
fn workloads_talk_over_ipv4() {
    workloads_talk(UnderlayFamily::Ipv4);
}

#[test]
fn workloads_talk_over_ipv6() {
    workloads_talk(UnderlayFamily::Ipv6);
}

#[test]
fn networks_with_the_same_addresses_do_not_meet() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    lab.two_workloads(NET);
    // The second workload moves to another network: same addresses, same host.
    let other = NET + 1;
    let (network, moved) = (lab.network(0, other), lab.attachment(1, other, "b"));
    lab.update(1, vec![network, moved], &[]);
    let (from, to) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    assert!(!lab.udp_arrives(0, from, 1, to));
    // Move it to a network that is not on the host: it must not stay in the old one, either.
    let nowhere = lab.attachment(1, NET + 2, "b");
    let back = lab.attachment(1, NET, "b");
    lab.update(1, vec![back.clone()], &[]);
    lab.update(1, vec![nowhere], &[]);
    assert_eq!(
        lab.error(1, &back.key()).map(|e| e.code),
        Some(ErrorCode::NetworkNotFound)
    );
    assert!(!lab.udp_arrives(0, from, 1, to));
    lab.update(1, vec![back], &[]);
    lab.udp_round_trip(0, from, 1, to, 64);
}

#[test]
fn a_restart_changes_nothing_and_loses_no_packet() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    lab.two_workloads(NET);
    let before = lab.links(0);
    for host in 0..2 {
        let news = lab.restart(host);
        assert!(news.is_empty(), "host {host}: {news:?}");
    }
    assert_eq!(lab.links(0), before, "no link was rebuilt or changed");
    lab.udp_round_trip(0, "10.0.0.1".parse().unwrap(), 1, "10.0.0.2".parse().unwrap(), 100);
}

#[test]
fn strays_go_and_foreign_links_stay() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    lab.two_workloads(NET);
    let host = lab.overlay(0).to_owned();
    let vxlan = vxlan_name(vni(NET));
    ip(&[
        "-n",
        &host,
        "neigh",
        "add",
        "10.0.0.77",
        "lladdr",
        "02:00:00:00:00:77",
        "dev",
        "vfb10000",
    ]);
    bridge(&[
        "-n",
        &host,
        "fdb",
        "add",
        "02:00:00:00:00:77",
        "dev",
        &vxlan,
        "dst",
        "192.0.2.77",
        "self",
        "permanent",
    ]);
    bridge(&[
        "-n",
        &host,
        "fdb",
        "append",
        "00:00:00:00:00:00",
        "dev",
        &vxlan,
        "dst",
        "192.0.2.78",
        "self",
        "permanent",
    ]);
    ip(&["-n", &host, "link", "add", "vfb20000", "type", "bridge"]);
    let news = lab.check(0, &Scope::All);
    assert_eq!(news.repaired.len(), 3, "{:?}", news.repaired);
    assert!(lab.check(0, &Scope::All).is_empty());
    assert!(
        lab.links(0).iter().any(|l| l.contains("vfb20000")),
        "a link that is not ours was touched"
    );
    // A network that would need that name is refused, not forced.
    let network = lab.network(0, 20_000);
    lab.update(0, vec![network], &[]);
    let error = lab.error(0, &HostKey::Network(vni(20_000))).unwrap();
    assert_eq!(error.code, ErrorCode::NameInUse, "{error}");
}

fn bridge(args: &[&str]) {
    common::run("bridge", args);
}

#[test]
fn foreign_deletion_and_change_are_repaired() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    lab.two_workloads(NET);
    let host = lab.overlay(0).to_owned();
    let (from, to) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    let scope = Scope::Some {
        vnis: [vni(NET)].into(),
        ports: [port_name("blue/a")].into(),
    };
    let port = port_name("blue/a");
    let hands: [&[&str]; 8] = [
        &["-n", &host, "link", "del", "vfb10000"],
        &["-n", &host, "link", "del", "vfx10000"],
        &["-n", &host, "link", "set", "vfx10000", "down"],
        &["-n", &host, "link", "del", "vfu10000"],
        &["-n", &host, "link", "set", "vfu10000", "nomaster"],
        &["-n", &host, "link", "set", "vfu10000", "down"],
        &["-n", &host, "link", "set", &port, "nomaster"],
        &["-n", &host, "neigh", "flush", "dev", "vfb10000", "nud", "permanent"],
    ];
    for hand in hands {
        ip(hand);
        let news = lab.check(0, &scope);
        assert!(!news.repaired.is_empty(), "{hand:?} was not noticed");
        assert!(news.failed.is_empty(), "{hand:?}: {:?}", news.failed);
        let again = lab.check(0, &Scope::All);
        assert!(again.is_empty(), "{hand:?} was not repaired at once: {again:?}");
        lab.udp_round_trip(0, from, 1, to, 64);
    }
}

#[test]
fn only_what_others_change_in_entries_needs_a_comparison() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    lab.two_workloads(NET);
    // Changes of the agent's own: a station with its neighbours goes, comes back, and moves to another VTEP.
    let remote = lab.remote(1, NET);
    let keys: Vec<HostKey> = remote.iter().map(HostEntity::key).collect();
    lab.update(0, vec![], &keys);
    lab.update(0, remote, &[]);
    let mut network = lab.network(0, NET);
    let HostEntity::Network(flooded) = &mut network else {
        unreachable!()
    };
    flooded.flood = ["192.0.2.2".parse().unwrap()].into();
    lab.update(0, vec![network], &[]);
    // Messages say what was, so those about entries that have gone and come back since are news; the last ones are not.
    lab.news_of_entries(0, NET);
    let moved = |last: u8| {
        HostEntity::Fdb(FdbEntry {
            vni: vni(NET),
            mac: mac(2),
            vtep: [192, 0, 2, last].into(),
        })
    };
    lab.update(0, vec![moved(3)], &[]);
    assert_eq!(lab.news_of_entries(0, NET), []);
    lab.update(0, vec![moved(2)], &[]);
    assert_eq!(lab.news_of_entries(0, NET), []);

    let host = lab.overlay(0).to_owned();
    let (bridge, vxlan) = (bridge_name(vni(NET)), vxlan_name(vni(NET)));
    let station = "02:00:00:00:00:02";
    let of_station = ObjectKey::Station(vni(NET), mac(2));
    let flood = |last: u8| ObjectKey::Flood(vni(NET), [192, 0, 2, last].into());
    let neighbour = |ip: &str| ObjectKey::Neighbour(vni(NET), ip.parse().unwrap());
    let any = "00:00:00:00:00:00";
    let hands: [(&str, &[&str], ObjectKey); 10] = [
        (
            "bridge",
            &["fdb", "del", station, "dev", &vxlan, "self"],
            of_station.clone(),
        ),
        (
            "bridge",
            &["fdb", "del", station, "dev", &vxlan, "master"],
            of_station.clone(),
        ),
        (
            "bridge",
            &[
                "fdb",
                "replace",
                station,
                "dev",
                &vxlan,
                "dst",
                "192.0.2.9",
                "self",
                "static",
            ],
            of_station.clone(),
        ),
        (
            "bridge",
            &["fdb", "replace", station, "dev", &vxlan, "master", "local"],
            of_station.clone(),
        ),
        (
            "bridge",
            &[
                "fdb",
                "append",
                any,
                "dev",
                &vxlan,
                "dst",
                "192.0.2.8",
                "self",
                "permanent",
            ],
            flood(8),
        ),
        (
            "bridge",
            &["fdb", "del", any, "dev", &vxlan, "dst", "192.0.2.2", "self"],
            flood(2),
        ),
        (
            "ip",
            &["neigh", "del", "10.0.0.2", "dev", &bridge],
            neighbour("10.0.0.2"),
        ),
        ("ip", &["neigh", "del", "fd00::2", "dev", &bridge], neighbour("fd00::2")),
        (
            "ip",
            &[
                "neigh",
                "replace",
                "10.0.0.2",
                "lladdr",
                "02:00:00:00:00:66",
                "dev",
                &bridge,
                "nud",
                "permanent",
            ],
            neighbour("10.0.0.2"),
        ),
        (
            "ip",
            &[
                "neigh",
                "add",
                "10.0.0.66",
                "lladdr",
                "02:00:00:00:00:66",
                "dev",
                &bridge,
                "nud",
                "permanent",
            ],
            neighbour("10.0.0.66"),
        ),
    ];
    for (program, hand, of) in hands {
        common::run(program, &[&["-n", &host], hand].concat());
        let news = lab.news_of_entries(0, NET);
        assert!(news.iter().any(|seen| seen.key() == of), "{hand:?}: {news:?}");
        let scope = Scope::Some {
            vnis: [vni(NET)].into(),
            ports: Default::default(),
        };
        assert!(!lab.check(0, &scope).repaired.is_empty(), "{hand:?}");
        assert_eq!(lab.news_of_entries(0, NET), [], "after the repair of {hand:?}");
    }
}

#[test]
fn a_workload_that_changes_its_interface_gets_it_back() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    lab.two_workloads(NET);
    let netns = lab.workload(0).to_owned();
    ip(&["-n", &netns, "addr", "del", "10.0.0.1/24", "dev", "eth0"]);
    ip(&["-n", &netns, "addr", "add", "10.0.0.99/24", "dev", "eth0"]);
    ip(&["-n", &netns, "link", "set", "eth0", "down"]);
    assert!(!lab.check(0, &Scope::All).repaired.is_empty());
    assert!(lab.check(0, &Scope::All).is_empty());
    lab.udp_round_trip(0, "10.0.0.1".parse().unwrap(), 1, "10.0.0.2".parse().unwrap(), 100);
}

#[test]
fn a_namespace_may_come_later_and_vanish() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    let (network, mut late) = (lab.network(0, NET), lab.attachment(0, NET, "a"));
    let name = common::unique("late");
    if let vtep_proto::HostEntity::Attachment(a) = &mut late {
        a.netns = name.clone();
    }
    let key = late.key();
    lab.update(0, vec![network, late], &[]);
    let error = lab.error(0, &key).unwrap();
    assert_eq!(error.code, ErrorCode::NetnsNotFound);
    assert!(error.message.ends_with(&format!("{name} not found")), "{error}");
    let namespace = common::Netns::new(&name);
    let news = lab.retry(0);
    assert_eq!(news.applied, vec![key.clone()]);
    drop(namespace);
    // The kernel removes a namespace in the background.
    lab.until(|lab| {
        lab.check(0, &Scope::All);
        lab.error(0, &key).is_some_and(|e| e.code == ErrorCode::NetnsNotFound)
    });
}

#[test]
fn removal_leaves_nothing_behind() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    lab.two_workloads(NET);
    assert_eq!(lab.links(0).len(), 5);
    let keys = lab.keys(0);
    lab.update(0, vec![], &keys);
    // Nothing is in use from now on; links that are out of use are deleted in the background.
    let workload = common::links(lab.workload(0));
    assert!(!workload.iter().any(|l| l.contains("eth0")), "{workload:?}");
    lab.until(|lab| lab.links(0).len() == 1 && common::links(lab.workload(0)).len() == 1);
    assert_eq!(lab.links_of_host(0), 2, "something is in the host's own namespace");
    assert!(
        lab.engine(0, |e| e.datapath().read_back(&Scope::All, &Default::default()).unwrap())
            .is_empty()
    );
}

#[test]
fn an_attachment_that_goes_and_comes_back_at_once_meets_nothing_of_its_old_self() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    lab.two_workloads(NET);
    let again = lab.attachment(0, NET, "a");
    for _ in 0..3 {
        lab.update(0, vec![], &[again.key()]);
        lab.update(0, vec![again.clone()], &[]);
        assert_eq!(lab.error(0, &again.key()), None);
        let (from, to) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        lab.udp_round_trip(0, from, 1, to, 64);
    }
    lab.until(|lab| lab.links(0).len() == 5 && common::links(lab.workload(0)).len() == 2);
    assert_eq!(lab.check(0, &Scope::All), Default::default());
}

#[test]
fn a_network_that_goes_and_comes_back_at_once_meets_nothing_of_its_old_self() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    lab.two_workloads(NET);
    let stale = MacAddress::new([2, 0, 0, 0, 0, 0x77]).unwrap();
    let vtep = [192, 0, 2, 77].into();
    let stale = HostEntity::Fdb(FdbEntry {
        vni: vni(NET),
        mac: stale,
        vtep,
    });
    let (from, to) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    for _ in 0..3 {
        lab.update(0, vec![stale.clone()], &[]);
        let keys = lab.keys(0);
        lab.update(0, vec![], &keys);
        lab.two_workloads(NET);
        lab.udp_round_trip(0, from, 1, to, 64);
        let entries = common::output("bridge", &["-n", lab.overlay(0), "fdb", "show"]);
        assert!(!entries.contains("02:00:00:00:00:77"), "{entries}");
        assert_eq!(lab.check(0, &Scope::All), Default::default());
    }
    lab.until(|lab| lab.links(0).len() == 5);
    assert_eq!(lab.check(0, &Scope::All), Default::default());
}

/// Frames that a link has received and sent, if it is there and up.
fn carried(netns: &str, link: &str) -> Option<(u64, u64)> {
    let shown = common::output("ip", &["-n", netns, "-s", "-j", "link", "show", "up"]);
    let all: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let found = all.as_array()?.iter().find(|l| l["ifname"] == link)?;
    let packets = |way: &str| found["stats64"][way]["packets"].as_u64();
    Some((packets("rx")?, packets("tx")?))
}

#[test]
fn a_network_out_of_use_carries_nothing_while_it_waits_for_deletion() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    lab.two_workloads(NET);
    let (from, to) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    lab.udp_round_trip(0, from, 1, to, 64);
    let overlay = lab.overlay(0).to_owned();
    assert_ne!(carried(&overlay, "vfx10000"), Some((0, 0)));
    // The attachment stays, so its port is still there. More networks go than are deleted within moments.
    let more: Vec<HostEntity> = (1..=40).map(|i| lab.network(0, NET + i)).collect();
    let keys: Vec<HostKey> = more
        .iter()
        .map(HostEntity::key)
        .chain([HostKey::Network(vni(NET))])
        .collect();
    lab.update(0, more, &[]);
    assert!(carried(&overlay, "vfx10040").is_some());
    lab.update(0, vec![], &keys);
    // At once, before any of them can have been deleted: none of them is up.
    let up = common::output("ip", &["-n", &overlay, "-o", "link", "show", "up"]);
    assert!(!up.contains("vfb") && !up.contains("vfx"), "{up}");
    assert!(!lab.udp_arrives(1, to, 0, from) && !lab.udp_arrives(0, from, 1, to));
    // The kernel has no receiver for the VNI, so the other host's frames do not get past the socket, and there is none.
    let sockets = common::output("ss", &["-N", lab.host(0), "-uln"]);
    assert!(!sockets.contains(":4789"), "{sockets}");
}

#[test]
fn many_networks_go_and_come_back_under_the_names_that_still_wait() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    // More than are looked up one by one.
    let networks: Vec<HostEntity> = (0..40).map(|i| lab.network(0, NET + i)).collect();
    let keys: Vec<HostKey> = networks.iter().map(HostEntity::key).collect();
    for _ in 0..2 {
        lab.update(0, networks.clone(), &[]);
        let failed = keys.iter().find_map(|k| Some((k.clone(), lab.error(0, k)?)));
        assert_eq!(failed, None);
        lab.update(0, vec![], &keys);
    }
    lab.update(0, networks, &[]);
    assert_eq!(lab.restart(0), Default::default());
}

#[test]
fn networks_that_an_earlier_run_took_out_of_use_are_deleted_and_give_up_their_names() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    let (host, overlay) = (lab.host(0).to_owned(), lab.overlay(0).to_owned());
    let made = lab.network(0, NET);
    lab.stop(0);
    for i in [NET, NET + 1] {
        ip(&[
            "-n",
            &overlay,
            "link",
            "add",
            &format!("vfb{i}"),
            "group",
            TRASH,
            "type",
            "bridge",
        ]);
        let (name, vni) = (format!("vfx{i}"), i.to_string());
        let vxlan = ["type", "vxlan", "id", &vni, "dstport", "4789", "local", "192.0.2.1"];
        let place = ["-n", &host, "link", "add", &name, "netns", &overlay, "group", TRASH];
        ip(&[&place[..], &vxlan[..]].concat());
    }
    assert_eq!(lab.links(0).len(), 5);
    lab.restart(0);
    lab.update(0, vec![made.clone()], &[]);
    assert_eq!(lab.error(0, &made.key()), None);
    lab.until(|lab| lab.links(0).len() == 4);
    assert_eq!(lab.check(0, &Scope::All), Default::default());
}

#[test]
fn what_an_earlier_run_took_out_of_use_is_deleted() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    lab.two_workloads(NET);
    let overlay = lab.overlay(0).to_owned();
    let pair = format!("link add vfd0 group {TRASH} type veth peer name eth7 group {TRASH} netns");
    let mut words = vec!["-n", overlay.as_str()];
    words.extend(pair.split(' ').chain([lab.workload(0)]));
    ip(&words);
    assert_eq!(lab.links(0).len(), 6);
    lab.restart(0);
    lab.until(|lab| lab.links(0).len() == 5 && common::links(lab.workload(0)).len() == 2);
}

#[test]
fn only_the_given_mac_may_speak_and_the_host_is_out_of_reach() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    lab.two_workloads(NET);
    let (from, to) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    lab.udp_round_trip(0, from, 1, to, 64);
    let netns = lab.workload(0).to_owned();
    // A tenant asks for the host's underlay address.
    ip(&["-n", &netns, "route", "add", "192.0.2.1/32", "dev", "eth0"]);
    assert!(!lab.host_answers(0, from, SocketAddr::from(([192, 0, 2, 1], 4000))));
    ip(&["-n", &netns, "link", "set", "eth0", "address", &mac(0x55).to_string()]);
    assert!(
        !lab.udp_arrives(0, from, 1, to),
        "a forged source MAC address got through"
    );
}
