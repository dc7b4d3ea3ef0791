use std::net::Ipv4Addr;

use vtep_proto::{Attachment, FdbEntry, Gateway, MacAddress, Network, UnderlayFamily};

use super::*;
use crate::datapath::fake::Fake;
use crate::object::{LocalVteps, port_name};

fn vni(n: u32) -> Vni {
    Vni::new(n).unwrap()
}

fn mac(last: u8) -> MacAddress {
    MacAddress::new([2, 0, 0, 0, 0, last]).unwrap()
}

fn network(n: u32) -> HostEntity {
    let gateway = Gateway {
        mac: mac(0xfe),
        vtep: [10, 255, 0, 1].into(),
        ips: [[10, 0, 0, 1].into()].into(),
    };
    HostEntity::Network(Network {
        vni: vni(n),
        mtu: 1500,
        underlay: UnderlayFamily::Ipv4,
        flood: [[10, 255, 0, 1].into()].into(),
        gateways: [gateway].into(),
    })
}

fn station(n: u32, last: u8) -> HostEntity {
    HostEntity::Fdb(FdbEntry {
        vni: vni(n),
        mac: mac(last),
        vtep: [10, 255, 1, last].into(),
    })
}

fn attachment(n: u32, id: &str, last: u8) -> HostEntity {
    HostEntity::from(Attachment {
        id: id.into(),
        vni: vni(n),
        mac: mac(last),
        addresses: [format!("10.0.0.{last}/24").parse().unwrap()].into(),
        routes: BTreeSet::new(),
        netns: "w".into(),
        interface: "eth0".into(),
        mtu: 0,
        allowed_addresses: Default::default(),
        port_security: true,
        shared_netns: false,
        mode: Default::default(),
    })
}

fn desired() -> Desired {
    Desired::new(
        LocalVteps {
            ipv4: Some(Ipv4Addr::new(10, 255, 1, 1)),
            ipv6: None,
        },
        9216,
    )
}

fn engine(complete: bool) -> Engine<Fake> {
    Engine::new(Fake::default(), desired(), vec![], complete)
}

#[test]
fn a_change_applies_what_it_touches_and_nothing_else() {
    let mut e = engine(true);
    e.update(
        vec![network(1), network(2), station(1, 7), attachment(1, "blue/a", 9)],
        &[],
    )
    .unwrap();
    assert!(e.check(&Scope::All).unwrap().is_empty());
    e.datapath().steps.clear();
    e.update(vec![station(2, 8)], &[station(1, 7).key()]).unwrap();
    let steps = std::mem::take(&mut e.datapath().steps);
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert!(e.check(&Scope::All).unwrap().is_empty());
    assert!(
        e.datapath().steps.is_empty(),
        "a comparison without differences writes nothing"
    );
}

#[test]
fn an_attachment_takes_the_networks_mtu_and_follows_it() {
    let mut e = engine(true);
    e.update(vec![network(1), attachment(1, "blue/a", 9)], &[]).unwrap();
    let HostEntity::Network(mut n) = network(1) else {
        unreachable!()
    };
    n.mtu = 1400;
    e.update(vec![HostEntity::Network(n)], &[]).unwrap();
    let port = &e.datapath().objects[&ObjectKey::Port(port_name("blue/a"))];
    assert!(matches!(port, Object::Port(p) if p.attachment.mtu == 1400), "{port:?}");
}

#[test]
fn strays_go_only_when_all_is_known() {
    let stray = Object::Station {
        vni: vni(1),
        mac: mac(0x66),
        vtep: [10, 9, 9, 9].into(),
    };
    for complete in [false, true] {
        let mut e = engine(complete);
        e.update(vec![network(1)], &[]).unwrap();
        e.datapath().objects.insert(stray.key(), stray.clone());
        e.check(&Scope::All).unwrap();
        assert_eq!(e.datapath().objects.contains_key(&stray.key()), !complete);
        e.set_complete().unwrap();
        assert!(!e.datapath().objects.contains_key(&stray.key()));
    }
}

#[test]
fn foreign_deletion_is_repaired_with_all_that_hung_on_it() {
    let mut e = engine(true);
    e.update(vec![network(1), station(1, 7), attachment(1, "blue/a", 9)], &[])
        .unwrap();
    let before = e.datapath().objects.clone();
    e.datapath().apply(&[Step::Remove(ObjectKey::Segment(vni(1)))]);
    let news = e
        .check(&Scope::Some {
            vnis: [vni(1)].into(),
            ports: BTreeSet::new(),
        })
        .unwrap();
    assert_eq!(e.datapath().objects, before);
    assert!(news.repaired.iter().any(|r| r.contains("vfb1")), "{:?}", news.repaired);
}

#[test]
fn what_fails_is_reported_once_and_again_when_it_succeeds() {
    let mut e = engine(true);
    let port = ObjectKey::Port(port_name("blue/a"));
    e.datapath().refused.insert(port);
    let key = attachment(1, "blue/a", 9).key();
    e.update(vec![network(1), attachment(1, "blue/a", 9)], &[]).unwrap();
    assert_eq!(e.error(&key).map(|x| x.code), Some(ErrorCode::NetnsNotFound));
    assert!(e.error(&network(1).key()).is_none());
    let netns = |code| code == ErrorCode::NetnsNotFound;
    assert!(e.retry(netns).unwrap().is_empty());
    e.datapath().refused.clear();
    assert_eq!(e.retry(netns).unwrap().applied, vec![key]);
}

#[test]
fn entries_that_came_before_their_network_are_made_with_it() {
    let mut e = engine(true);
    e.update(vec![station(1, 7)], &[]).unwrap();
    assert_eq!(
        e.error(&station(1, 7).key()).map(|x| x.code),
        Some(ErrorCode::NetworkNotFound)
    );
    let news = e.update(vec![network(1)], &[]).unwrap();
    assert_eq!(news.applied, vec![station(1, 7).key()]);
}

#[test]
fn a_local_attachment_wins_over_the_same_address_elsewhere() {
    let mut e = engine(true);
    let ip = [10, 0, 0, 9].into();
    let elsewhere = HostEntity::Neighbour(vtep_proto::Neighbour {
        vni: vni(1),
        ip,
        mac: mac(0x44),
    });
    e.update(vec![network(1), attachment(1, "blue/a", 9), elsewhere.clone()], &[])
        .unwrap();
    let key = ObjectKey::Neighbour(vni(1), ip);
    assert!(matches!(&e.datapath().objects[&key], Object::Neighbour { mac: m, .. } if *m == mac(9)));
    e.update(vec![], &[attachment(1, "blue/a", 9).key()]).unwrap();
    assert!(matches!(&e.datapath().objects[&key], Object::Neighbour { mac: m, .. } if *m == mac(0x44)));
    e.update(vec![], &[elsewhere.key()]).unwrap();
    assert!(!e.datapath().objects.contains_key(&key));
}

#[test]
fn what_the_host_cannot_do_is_refused_by_name() {
    let mut e = engine(true);
    let HostEntity::Network(mut n) = network(1) else {
        unreachable!()
    };
    n.underlay = UnderlayFamily::Ipv6;
    e.update(vec![HostEntity::Network(n.clone())], &[]).unwrap();
    let said = e.error(&HostKey::Network(vni(1))).unwrap();
    assert_eq!(said.code, ErrorCode::Unsupported);
    assert!(said.message.contains("Ipv6"), "{said}");
    n.underlay = UnderlayFamily::Ipv4;
    n.mtu = 9200;
    e.update(vec![HostEntity::Network(n)], &[]).unwrap();
    assert!(e.error(&HostKey::Network(vni(1))).unwrap().message.contains("9250"));
    e.update(vec![network(1)], &[]).unwrap();
    assert!(e.error(&HostKey::Network(vni(1))).is_none());
}

/// A step of a random run.
#[derive(Debug, Clone)]
enum Act {
    Upsert(usize),
    Remove(usize),
    /// Somebody removes the n-th existing object.
    Foreign(usize),
    /// The datapath refuses the n-th desired object, or from now on none.
    Refuse(usize),
    Relent,
    Check,
}

/// Everything a random run can ask for, with conflicting contents under the same keys.
fn universe() -> Vec<HostEntity> {
    let mut all = Vec::new();
    for n in 1..=3 {
        all.push(network(n));
        let HostEntity::Network(mut other) = network(n) else {
            unreachable!()
        };
        (other.mtu, other.gateways) = (1400, BTreeSet::new());
        all.push(HostEntity::Network(other));
        all.extend([
            station(n, 7),
            station(n, 0xfe),
            attachment(n, "blue/a", 9),
            attachment(n, "blue/b", 7),
        ]);
        let ip = [10, 0, 0, 9].into();
        all.push(HostEntity::Neighbour(vtep_proto::Neighbour {
            vni: vni(n),
            ip,
            mac: mac(0x44),
        }));
    }
    all
}

fn act() -> impl proptest::strategy::Strategy<Value = Act> {
    use proptest::prelude::*;
    prop_oneof![
        6 => (0usize..21).prop_map(Act::Upsert),
        4 => (0usize..21).prop_map(Act::Remove),
        2 => (0usize..21).prop_map(Act::Foreign),
        1 => (0usize..21).prop_map(Act::Refuse),
        1 => Just(Act::Relent),
        1 => Just(Act::Check),
    ]
}

proptest::proptest! {
    /// Whatever the history, in the end the datapath holds what a new engine would have made of the same entities, and
    /// the engine knows which objects are not in place.
    #[test]
    fn every_history_leads_to_the_same_datapath(acts in proptest::collection::vec(act(), 1..60)) {
        let universe = universe();
        let mut e = engine(true);
        let mut wanted = BTreeMap::new();
        for act in acts {
            match act {
                Act::Upsert(i) => {
                    let entity = universe[i % universe.len()].clone();
                    wanted.insert(entity.key(), entity.clone());
                    e.update(vec![entity], &[]).unwrap();
                }
                Act::Remove(i) => {
                    let key = universe[i % universe.len()].key();
                    wanted.remove(&key);
                    e.update(vec![], &[key]).unwrap();
                }
                Act::Foreign(i) => {
                    let objects = &mut e.datapath().objects;
                    let key = objects.keys().nth(i % objects.len().max(1)).cloned();
                    key.map(|k| e.datapath().apply(&[Step::Remove(k)]));
                }
                Act::Refuse(i) => {
                    let keys: Vec<_> = e.desired().objects().map(|(k, _)| k.clone()).collect();
                    e.datapath().refused.extend(keys.get(i % keys.len().max(1)).cloned());
                }
                Act::Relent => e.datapath().refused.clear(),
                Act::Check => drop(e.check(&Scope::All).unwrap()),
            }
        }
        e.datapath().refused.clear();
        e.check(&Scope::All).unwrap();
        e.retry(|_| true).unwrap();
        let news = e.check(&Scope::All).unwrap();
        proptest::prop_assert!(news.is_empty(), "{:?}", news);

        let mut fresh = engine(true);
        fresh.update(wanted.values().cloned().collect(), &[]).unwrap();
        proptest::prop_assert_eq!(&e.datapath().objects, &fresh.datapath().objects);
        for key in wanted.keys() {
            let (one, other) = (e.error(key).map(|x| x.code), fresh.error(key).map(|x| x.code));
            proptest::prop_assert_eq!(one, other, "{}", key);
        }
    }
}
