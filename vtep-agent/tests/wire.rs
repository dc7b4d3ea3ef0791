//! Frames that leave a host, checked on the wire. Needs root and `ip`.

#[allow(unreachable_pub, dead_code)]
mod common;

use std::net::{IpAddr, UdpSocket};
use std::process::Command;

use common::wire::{Capture, checksum_is_right, no_tx_checksum_offload};
use common::{Lab, inside, mac};
use vtep_proto::{Gateway, HostEntity, UnderlayFamily};

const NET: u32 = 10_000;

/// TCP with full-size segments over a link without checksum offload: the packets that a userspace switch receives are
/// complete, unfragmented and no larger than the MTU.
fn tcp_is_complete(underlay: UnderlayFamily) {
    let mut lab = Lab::new(underlay);
    lab.two_workloads(NET);
    no_tx_checksum_offload(lab.host(0), "up0");
    no_tx_checksum_offload(lab.host(1), "up0");
    for (from, to) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
        let capture = Capture::start(lab.host(1));
        lab.tcp_round_trip(0, from, 1, to, 256 * 1024);
        let frames = capture.tunnelled();
        let mut full = 0;
        for frame in &frames {
            let Some(packet) = frame.inner_tcp() else { continue };
            assert!(
                packet.len() <= 1500,
                "a packet of {} octets in a network with MTU 1500",
                packet.len()
            );
            assert!(checksum_is_right(packet), "inner TCP checksum");
            assert!(frame.is_whole_and_stays_so());
            match underlay {
                UnderlayFamily::Ipv4 => assert_eq!(frame.outer_checksum(), 0),
                UnderlayFamily::Ipv6 => assert!(checksum_is_right(&frame.outer), "outer UDP checksum"),
            }
            full += usize::from(packet.len() == 1500);
        }
        assert!(
            full > 100,
            "only {full} segments of full size among {} frames",
            frames.len()
        );
    }
}

#[test]
fn tcp_is_complete_over_ipv4() {
    tcp_is_complete(UnderlayFamily::Ipv4);
}

#[test]
fn tcp_is_complete_over_ipv6() {
    tcp_is_complete(UnderlayFamily::Ipv6);
}

#[test]
fn requests_for_known_addresses_are_answered_on_the_spot() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    let HostEntity::Network(mut network) = lab.network(0, NET) else {
        unreachable!()
    };
    // The flood entry leads to the other host, which would show a request that gets out.
    let other: IpAddr = "192.0.2.2".parse().unwrap();
    let ips = ["10.0.0.254".parse().unwrap(), "fd00::fe".parse().unwrap()];
    network.flood = [other].into();
    network.gateways = [Gateway {
        mac: mac(0xfe),
        vtep: other,
        ips: ips.into(),
    }]
    .into();
    let attachment = lab.attachment(0, NET, "a");
    lab.update(0, vec![HostEntity::Network(network), attachment], &[]);

    let capture = Capture::start(lab.host(1));
    let talk = |from: &'static str, to: IpAddr| {
        let send = move || UdpSocket::bind((from, 0)).unwrap().send_to(b"x", (to, 9)).unwrap();
        inside(lab.workload(0), send).join().unwrap();
    };
    talk("10.0.0.1", ips[0]);
    talk("fd00::1", ips[1]);
    let frames = capture.tunnelled();
    let neighbours = Command::new("ip")
        .args(["-n", lab.workload(0), "neigh"])
        .output()
        .unwrap();
    let neighbours = String::from_utf8(neighbours.stdout).unwrap();
    for ip in ips {
        let line = neighbours
            .lines()
            .find(|l| l.starts_with(&format!("{ip} ")))
            .unwrap_or("");
        assert!(
            line.contains(&mac(0xfe).to_string()),
            "{ip} is not resolved: {neighbours}"
        );
    }
    // The two datagrams, and no request: neither ARP nor a solicitation (ICMPv6 type 135).
    let asks = |inner: &[u8]| {
        inner[12..14] == [0x08, 0x06] || (inner[12..14] == [0x86, 0xdd] && inner[20] == 58 && inner[54] == 135)
    };
    assert_eq!(
        frames.iter().filter(|f| asks(&f.inner)).count(),
        0,
        "a request left the host"
    );
    assert_eq!(frames.iter().filter(|f| f.inner[..6] == mac(0xfe).octets()).count(), 2);
}
