//! Tenants' frames and the host's own IP stack never meet. Needs root, `ip` and `nft`.

#[allow(unreachable_pub, dead_code)]
mod common;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{Command, Stdio};

use common::frames::{Fragment, Mac, ethernet, icmp, icmpv6, ipv4, ipv6, ipv6_fragment, udp};
use common::wire::{Capture, send};
use common::{Lab, Netns, ip, udp_round_trip, udp_round_trip_on_ports, unique};
use vtep_proto::{HostEntity, UnderlayFamily};

const NET: u32 = 10_000;
const A: Mac = [2, 0, 0, 0, 0, 1];
const B: Mac = [2, 0, 0, 0, 0, 2];
const A4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const B6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

/// Rules like those of docker, podman, firewalld and kube-proxy: they forward only their own traffic, check connection
/// states, translate addresses, and drop packets that conntrack does not know.
const RULES: &str = r#"
table ip filter {
  chain DOCKER-USER { return; }
  chain FORWARD {
    type filter hook forward priority filter; policy drop;
    jump DOCKER-USER
    ct state related,established accept
    iifname "docker0" oifname != "docker0" accept
  }
}
table ip nat {
  chain PREROUTING { type nat hook prerouting priority dstnat; policy accept; fib daddr type local udp dport 7777 dnat to 172.17.0.2:80; }
  chain POSTROUTING { type nat hook postrouting priority srcnat; policy accept; ip saddr 10.0.0.0/8 masquerade; }
}
table ip6 filter {
  chain FORWARD { type filter hook forward priority filter; policy drop; ct state invalid drop; }
}
table inet netavark {
  chain FORWARD { type filter hook forward priority filter; policy drop; ip saddr 10.88.0.0/16 accept; }
}
table inet firewalld {
  chain filter_PREROUTING { type filter hook prerouting priority -290; policy accept; meta nfproto ipv6 fib saddr . iif oif missing drop; }
  chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept; ct state established,related accept; ct state invalid drop; reject with icmpx type admin-prohibited; }
}
table ip kube-proxy {
  chain filter-forward { type filter hook forward priority filter; policy accept; ct state invalid drop; meta mark & 0x4000 == 0x4000 accept; }
  chain nat-postrouting { type nat hook postrouting priority srcnat; policy accept; meta mark & 0x4000 == 0x4000 masquerade fully-random; }
}
table bridge host {
  chain forward { type filter hook forward priority 0; policy drop; }
}
"#;

fn nft(netns: &str, rules: &str) {
    let mut child = Command::new("ip")
        .args(["netns", "exec", netns, "nft", "-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "nft refused the rules");
}

/// A host whose own filters would block or mix up any tenant's frame that reached them.
fn hostile(netns: &str) {
    nft(netns, RULES);
    for set in ["iptables", "ip6tables", "arptables"] {
        let set = format!("net.bridge.bridge-nf-call-{set}=1");
        common::run("ip", &["netns", "exec", netns, "sysctl", "-qw", &set]);
    }
    let forward = ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"];
    for set in forward {
        common::run("ip", &["netns", "exec", netns, "sysctl", "-qw", set]);
    }
}

/// Two tenants, each with a workload on both hosts; all addresses are equal.
struct Tenants {
    lab: Lab,
    red: [Netns; 2],
}

impl Tenants {
    fn new(underlay: UnderlayFamily) -> Self {
        let mut lab = Lab::new(underlay);
        (0..2).for_each(|host| hostile(lab.host(host)));
        lab.two_workloads(NET);
        let red = [Netns::new(&unique("r")), Netns::new(&unique("r"))];
        for (host, netns) in red.iter().enumerate() {
            let mut all = vec![lab.network(host, NET + 1)];
            all.extend(lab.remote(1 - host, NET + 1));
            if let HostEntity::Attachment(mut a) = lab.attachment(host, NET + 1, "x") {
                a.id = "red/x".into();
                a.netns = netns.name().to_owned();
                all.push(HostEntity::Attachment(a));
            }
            let keys: Vec<_> = all.iter().map(HostEntity::key).collect();
            lab.update(host, all, &[]);
            for key in keys {
                assert_eq!(lab.error(host, &key), None);
            }
        }
        Self { lab, red }
    }

    /// The namespaces of both tenants on a host.
    fn on(&self, host: usize) -> [&str; 2] {
        [self.lab.workload(host), self.red[host].name()]
    }
}

fn filters_of_the_host_do_not_matter(underlay: UnderlayFamily) {
    let tenants = Tenants::new(underlay);
    for (from, to) in [(IpAddr::from(A4), IpAddr::from(B4)), (A6.into(), B6.into())] {
        for (near, far) in tenants.on(0).into_iter().zip(tenants.on(1)) {
            // One flow of each tenant, equal in all five values; and one that is fragmented.
            udp_round_trip_on_ports((near, from, 4001), (far, to, 4002), 100);
            udp_round_trip((near, from), (far, to), 4000);
        }
    }
    // The host has no trace of a tenant's connection.
    for host in 0..2 {
        let read = common::inside(tenants.lab.host(host), || {
            std::fs::read_to_string("/proc/thread-self/net/nf_conntrack").unwrap_or_default()
        });
        let known = read.join().unwrap();
        assert!(!known.contains("10.0.0.") && !known.contains("fd00:"), "{known}");
    }
}

#[test]
fn filters_of_the_host_do_not_matter_over_ipv4() {
    filters_of_the_host_do_not_matter(UnderlayFamily::Ipv4);
}

#[test]
fn filters_of_the_host_do_not_matter_over_ipv6() {
    filters_of_the_host_do_not_matter(UnderlayFamily::Ipv6);
}

#[test]
fn fragments_of_two_tenants_are_never_put_together() {
    let tenants = Tenants::new(UnderlayFamily::Ipv4);
    let datagram = udp(4001, 4002, &[0xa5; 1000]);
    let (first, second) = datagram.split_at(512);
    let four = |octets: &[u8], offset, more| {
        let packet = ipv4(A4, B4, 17, Fragment(77, offset, more), octets);
        ethernet(B, A, 0x0800, &packet)
    };
    let six = |octets: &[u8], offset, more| {
        let packet = ipv6(A6, B6, 44, &ipv6_fragment(17, 77, offset, more, octets));
        ethernet(B, A, 0x86dd, &packet)
    };
    // Blue sends the first half of a datagram, red the second; addresses, ports and
    // identification are equal.
    let halves = [
        [four(first, 0, true), six(first, 0, true)],
        [four(second, 512, false), six(second, 512, false)],
    ];
    let captures = tenants.on(1).map(Capture::start);
    for (netns, frames) in tenants.on(0).into_iter().zip(&halves) {
        send(netns, "eth0", frames.to_vec());
    }
    for ((capture, own), other) in captures.into_iter().zip(&halves).zip(halves.iter().rev()) {
        let seen = capture.frames();
        assert!(
            own.iter().all(|f| seen.contains(f)),
            "a fragment did not arrive unchanged"
        );
        assert!(!other.iter().any(|f| seen.contains(f)), "a fragment crossed");
        let whole = seen.iter().filter(|f| f.len() > 1000).count();
        assert_eq!(whole, 0, "something was reassembled");
    }
}

fn mac_of(netns: &str, link: &str) -> Mac {
    let links = common::links(netns);
    let line = links.iter().find(|l| l.contains(&format!(" {link}@"))).unwrap();
    let words = line.split("link/ether ").nth(1).unwrap();
    let octets: Vec<u8> = words[..17]
        .split(':')
        .map(|o| u8::from_str_radix(o, 16).unwrap())
        .collect();
    octets.try_into().unwrap()
}

fn route_to(netns: &str, to: &str) -> String {
    let out = Command::new("ip")
        .args(["-n", netns, "route", "get", to])
        .output()
        .unwrap();
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn a_forged_error_does_not_change_a_tunnels_mtu_over_ipv4() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    lab.two_workloads(NET);
    let host = lab.host(0).to_owned();
    let (us, them, elsewhere) = (
        Ipv4Addr::new(192, 0, 2, 1),
        Ipv4Addr::new(192, 0, 2, 2),
        Ipv4Addr::new(192, 0, 2, 99),
    );
    let to_host = |packet: &[u8]| ethernet(mac_of(&host, "up0"), mac_of(lab.host(1), "up0"), 0x0800, packet);
    // The quoted packets: one of the tunnel, and the answer to a ping, which the kernel believes at once.
    let tunnel = udp(50_000, 4789, &[8, 0, 0, 0, 0, 0x27, 0x10, 0]);
    let echo = icmp(0, 0, &[0, 1, 0, 1]);
    let too_big = |to: Ipv4Addr, protocol: u8, payload: &[u8]| {
        let quoted = ipv4(us, to, protocol, Fragment(1, 0, false), payload);
        let error = icmp(3, 4, &[&[0, 0, 0x02, 0x40][..], &quoted].concat());
        to_host(&ipv4(them, us, 1, Fragment::default(), &error))
    };
    let forged = vec![
        too_big(them, 17, &tunnel),
        too_big(them, 1, &echo),
        // One that the kernel may believe shows that the others were well formed.
        too_big(elsewhere, 1, &echo),
    ];
    send(lab.host(1), "up0", forged);
    lab.until(|lab| route_to(lab.host(0), "192.0.2.99").contains("mtu 576"));
    assert!(
        !route_to(&host, "192.0.2.2").contains("mtu"),
        "{}",
        route_to(&host, "192.0.2.2")
    );
    lab.udp_round_trip(0, A4.into(), 1, B4.into(), 1400);
}

#[test]
fn a_forged_error_does_not_change_a_tunnels_mtu_over_ipv6() {
    let mut lab = Lab::new(UnderlayFamily::Ipv6);
    lab.two_workloads(NET);
    let host = lab.host(0).to_owned();
    let at = |last: u16| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
    let (us, them) = (at(1), at(2));
    let tunnel = udp(50_000, 4789, &[8, 0, 0, 0, 0, 0x27, 0x10, 0]);
    let too_big = |to: Ipv6Addr, next: u8, payload: &[u8]| {
        let quoted = ipv6(us, to, next, payload);
        let error = icmpv6(them, us, 2, &[&[0, 0, 0x05, 0x00][..], &quoted].concat());
        let packet = ipv6(them, us, 58, &error);
        ethernet(mac_of(&host, "up0"), mac_of(lab.host(1), "up0"), 0x86dd, &packet)
    };
    let echo = icmpv6(us, them, 128, &[0, 1, 0, 1]);
    let forged = vec![
        too_big(them, 17, &tunnel),
        too_big(them, 58, &echo),
        too_big(at(99), 58, &echo),
    ];
    send(lab.host(1), "up0", forged);
    lab.until(|lab| route_to(lab.host(0), "2001:db8::63").contains("mtu 1280"));
    assert!(
        !route_to(&host, "2001:db8::2").contains("mtu"),
        "{}",
        route_to(&host, "2001:db8::2")
    );
    lab.udp_round_trip(0, A6.into(), 1, B6.into(), 1400);
}

#[test]
fn the_host_is_out_of_a_tenants_reach_whatever_its_mac_address() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    lab.two_workloads(NET);
    // The bridge's MAC address, which is random and never shown to a tenant, is known here.
    let links = common::links(lab.overlay(0));
    let line = links.iter().find(|l| l.contains(" vfb10000:")).unwrap();
    let mac: Vec<u8> = line.split("link/ether ").nth(1).unwrap()[..17]
        .split(':')
        .map(|o| u8::from_str_radix(o, 16).unwrap())
        .collect();
    let mac: Mac = mac.try_into().unwrap();
    // TTL 1 to an address that is routed elsewhere, and the host's own: an IP stack would
    // answer with an error.
    let mut frames = Vec::new();
    for to in [
        Ipv4Addr::new(192, 0, 2, 1),
        Ipv4Addr::new(203, 0, 113, 1),
        Ipv4Addr::BROADCAST,
    ] {
        let packet = ipv4(A4, to, 17, Fragment::default(), &udp(9, 9, b"x"));
        frames.push(ethernet(mac, A, 0x0800, &packet));
    }
    for to in ["2001:db8::1", "2001:db8:ffff::1", "ff02::1"] {
        let mut packet = ipv6(A6, to.parse().unwrap(), 17, &udp(9, 9, b"x"));
        packet[7] = 1;
        frames.push(ethernet(mac, A, 0x86dd, &packet));
    }
    ip(&["-n", lab.host(0), "route", "add", "default", "via", "192.0.2.2"]);
    ip(&["-n", lab.host(0), "-6", "route", "add", "default", "via", "2001:db8::2"]);
    let (underlay, workload) = (Capture::start(lab.host(1)), Capture::start(lab.workload(0)));
    send(lab.workload(0), "eth0", frames.clone());
    // ICMP; ICMPv6 errors, of which each has a type below 128 (RFC 4443 section 2.1).
    let is_error = |f: &[u8]| match f[12..14] {
        [8, 0] => f[23] == 1,
        [0x86, 0xdd] => f[20] == 58 && f[54] < 128,
        _ => false,
    };
    let from_host = |seen: Vec<Vec<u8>>| seen.into_iter().filter(|f| is_error(f)).count();
    assert_eq!(
        from_host(underlay.frames()),
        0,
        "the host sent an error into the underlay"
    );
    assert_eq!(from_host(workload.frames()), 0, "the host answered a tenant");
}
