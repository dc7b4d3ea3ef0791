//! A workload moves from one host to another, with the real kernel datapath: where its frames arrive, and what happens
//! to late ones. Needs root and `ip`.

#[allow(unreachable_pub, dead_code)]
mod common;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Lab, Netns, frames, inside, mac, unique, vni};
use vtep_agent::datapath::Scope;
use vtep_proto::{Attachment, FdbEntry, HostEntity, HostKey, Mode, UnderlayFamily};

const NET: u32 = 10_020;
/// The workload that moves.
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const PORT: u16 = 7000;
/// The station that sends to the workload, behind the other VTEP.
const SENDER: ([u8; 6], Ipv4Addr) = ([2, 0, 0, 0, 0, 8], Ipv4Addr::new(10, 0, 0, 8));
/// How long the last frame may take on a loaded machine.
const ARRIVAL: Duration = Duration::from_secs(2);

fn moving(netns: &Netns, mode: Mode) -> HostEntity {
    HostEntity::from(Attachment {
        id: "blue/vm".into(),
        vni: vni(NET),
        mac: mac(9),
        addresses: [format!("{ADDRESS}/24").parse().unwrap()].into(),
        routes: Default::default(),
        netns: netns.name().to_owned(),
        interface: "eth0".into(),
        mtu: 0,
        allowed_addresses: Default::default(),
        port_security: true,
        shared_netns: false,
        mode,
    })
}

/// The forwarding entry that says: the workload is behind the VTEP of that host.
fn behind(host: u8) -> HostEntity {
    HostEntity::Fdb(FdbEntry {
        vni: vni(NET),
        mac: mac(9),
        vtep: [192, 0, 2, host + 1].into(),
    })
}

/// A datagram with a number for the workload, as the other VTEP sends it into the tunnel.
fn tunnelled(to: [u8; 6], number: u32) -> Vec<u8> {
    let udp = frames::udp(PORT, PORT, &number.to_be_bytes());
    let packet = frames::ipv4(SENDER.1, ADDRESS, 17, frames::Fragment::default(), &udp);
    let [_, a, b, c] = NET.to_be_bytes();
    let vxlan = [0x08, 0, 0, 0, a, b, c, 0];
    [&vxlan[..], &frames::ethernet(to, SENDER.0, 0x0800, &packet)].concat()
}

/// Receives the workload's datagrams in a namespace, until it is stopped.
struct Ear(Arc<AtomicBool>, thread::JoinHandle<Vec<u32>>);

impl Ear {
    fn new(netns: &Netns) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let socket = inside(netns.name(), || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap());
        let socket = socket.join().unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let run = move || {
            let mut heard = Vec::new();
            let mut buffer = [0; 64];
            while !stopped.load(Ordering::Relaxed) {
                if let Ok(4) = socket.recv(&mut buffer) {
                    heard.push(u32::from_be_bytes(buffer[..4].try_into().unwrap()));
                }
            }
            heard
        };
        Self(stop, thread::spawn(run))
    }

    fn stop(self) -> Vec<u32> {
        self.0.store(true, Ordering::Relaxed);
        self.1.join().unwrap()
    }
}

/// Sends numbered datagrams to the VTEP of host 0 until it is stopped; returns how many.
fn late_sender(lab: &Lab, stop: &Arc<AtomicBool>) -> thread::JoinHandle<u32> {
    let stop = Arc::clone(stop);
    inside(lab.host(1), move || {
        let socket = UdpSocket::bind("192.0.2.2:0").unwrap();
        let mut sent = 0;
        while !stop.load(Ordering::Relaxed) {
            socket.send_to(&tunnelled(MAC, sent), "192.0.2.1:4789").unwrap();
            sent += 1;
            thread::sleep(Duration::from_millis(1));
        }
        sent
    })
}

fn has_no_error(lab: &Lab, host: usize, key: &HostKey) {
    assert_eq!(lab.error(host, key), None);
}

#[test]
fn frames_that_come_late_to_the_source_reach_the_target_once() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    let places = [Netns::new(&unique("vm")), Netns::new(&unique("vm"))];
    let network = |lab: &Lab, host| lab.network(host, NET);
    let key = moving(&places[0], Mode::Serving).key();
    // The migration is prepared: host 0 serves, and host 1 passes no frames.
    let entities = vec![network(&lab, 0), moving(&places[0], Mode::Serving)];
    lab.update(0, entities, &[]);
    let entities = vec![network(&lab, 1), behind(0), moving(&places[1], Mode::Standby)];
    lab.update(1, entities, &[]);
    for host in 0..2 {
        has_no_error(&lab, host, &key);
        let news = lab.check(host, &Scope::All);
        assert!(news.is_empty(), "host {host}: {news:?}");
    }
    let ears = [Ear::new(&places[0]), Ear::new(&places[1])];
    // No frame gets through to the target, neither unicast nor broadcast.
    let socket = inside(lab.host(0), || UdpSocket::bind("192.0.2.1:0").unwrap())
        .join()
        .unwrap();
    for to in [MAC, frames::BROADCAST] {
        socket.send_to(&tunnelled(to, 1_000_000), "192.0.2.2:4789").unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let sender = late_sender(&lab, &stop);
    thread::sleep(Duration::from_millis(200));

    let flipped = Instant::now();
    lab.update(1, vec![moving(&places[1], Mode::Serving)], &[behind(0).key()]);
    let opened = flipped.elapsed();
    lab.update(0, vec![behind(1), moving(&places[0], Mode::Leaving)], &[]);
    let took = flipped.elapsed();
    for host in 0..2 {
        has_no_error(&lab, host, &key);
    }
    thread::sleep(Duration::from_millis(200));
    // An agent that starts again finds everything in place.
    for host in 0..2 {
        let news = lab.restart(host);
        assert!(news.is_empty(), "host {host}: {news:?}");
    }
    thread::sleep(Duration::from_millis(200));
    stop.store(true, Ordering::Relaxed);
    let sent = sender.join().unwrap();
    thread::sleep(ARRIVAL);
    let [old, new] = ears.map(Ear::stop);
    let all: BTreeSet<u32> = old.iter().chain(&new).copied().collect();
    assert_eq!(all.len(), old.len() + new.len(), "a frame came twice");
    assert!(
        all.iter().all(|number| *number < sent),
        "a silent port let a frame through"
    );
    // The last datagram at the old place was sent before the first one at the new place.
    assert!(old.last() < new.first(), "{:?} after {:?}", old.last(), new.first());
    let lost: Vec<u32> = (0..sent).filter(|number| !all.contains(number)).collect();
    println!(
        "{sent} frames to the source, one each ms: {} heard there, {} sent on to the target, {} lost in the flip; the target served \
         after {:.1} ms, the source sent on after {:.1} ms",
        old.len(),
        new.len(),
        lost.len(),
        opened.as_secs_f64() * 1e3,
        took.as_secs_f64() * 1e3,
    );
    // All losses are in one gap: between the last datagram at the old place and the first at the new one.
    let gap = old.last().copied().unwrap()..new.first().copied().unwrap();
    assert!(
        lost.iter().all(|number| gap.contains(number)),
        "{lost:?} outside of {gap:?}"
    );
    assert!(new.len() > 100, "late frames are not sent on");

    // The source removes the attachment: nothing is left of it, and late frames are dropped there.
    lab.update(0, vec![], &[key]);
    assert!(
        lab.links(0).iter().all(|link| !link.contains(": vfa")),
        "{:?}",
        lab.links(0)
    );
    let ear = Ear::new(&places[1]);
    let socket = inside(lab.host(1), || UdpSocket::bind("192.0.2.2:0").unwrap())
        .join()
        .unwrap();
    socket.send_to(&tunnelled(MAC, 7), "192.0.2.1:4789").unwrap();
    thread::sleep(Duration::from_millis(400));
    assert_eq!(ear.stop(), Vec::<u32>::new());
}

/// A change of the mode alone opens a silent port, and closes it again.
#[test]
fn a_workload_in_standby_cannot_speak() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    lab.two_workloads(NET);
    let (from, to): (IpAddr, IpAddr) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
    lab.udp_round_trip(0, from, 1, to, 100);
    let in_mode = |lab: &Lab, mode| match lab.attachment(0, NET, "a") {
        HostEntity::Attachment(a) => HostEntity::from(Attachment { mode, ..*a }),
        other => other,
    };
    for mode in [Mode::Standby, Mode::Leaving] {
        let silent = in_mode(&lab, mode);
        lab.update(0, vec![silent], &[]);
        assert!(
            !lab.udp_arrives(0, from, 1, to) && !lab.udp_arrives(1, to, 0, from),
            "{mode:?}"
        );
        let news = lab.check(0, &Scope::All);
        assert!(news.is_empty(), "{news:?}");
        let serving = in_mode(&lab, Mode::Serving);
        lab.update(0, vec![serving], &[]);
        lab.udp_round_trip(0, from, 1, to, 100);
        lab.udp_round_trip(1, to, 0, from, 100);
    }
}
