//! Tenants' frames and the host's own IP stack never meet. Needs root, `ip` and `nft`; uses netavark and firewalld where they are
//! installed.

#[allow(unreachable_pub, dead_code)]
mod common;

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::frames::{Fragment, Mac, ethernet, icmp, icmpv6, ipv4, ipv6, ipv6_fragment, udp};
use common::wire::{Capture, send};
use common::{Lab, Netns, ip, udp_round_trip, udp_round_trip_on_ports, unique};
use vtep_agent::datapath::Datapath;
use vtep_proto::{HostEntity, UnderlayFamily};

/// Longest wait for a program that the test starts, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

const NET: u32 = 10_000;
const A: Mac = [2, 0, 0, 0, 0, 1];
const B: Mac = [2, 0, 0, 0, 0, 2];
const A4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const B4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const A6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const B6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);

/// Rules of programs that cannot be run in a test: they forward only their own traffic, check connection states, translate addresses, and
/// drop packets that conntrack does not know. Docker's are those that its engine makes for its default bridge (moby at 00b2c13a1bc3, 2021:
/// `libnetwork/drivers/bridge/setup_ip_tables.go`), kube-proxy's are its base chains and what they jump to in mode nftables (kubernetes at
/// 01d7de5464ba, 2024: `pkg/proxy/nftables/proxier.go`). The last two tables are worse than any of them.
const RULES: &str = r#"
table ip filter {
  chain DOCKER { }
  chain DOCKER-USER { return; }
  chain DOCKER-ISOLATION-STAGE-2 { oifname "docker0" drop; return; }
  chain DOCKER-ISOLATION-STAGE-1 { iifname "docker0" oifname != "docker0" jump DOCKER-ISOLATION-STAGE-2; return; }
  chain FORWARD {
    type filter hook forward priority filter; policy drop;
    jump DOCKER-USER
    jump DOCKER-ISOLATION-STAGE-1
    oifname "docker0" ct state related,established accept
    oifname "docker0" jump DOCKER
    iifname "docker0" oifname != "docker0" accept
    iifname "docker0" oifname "docker0" accept
  }
}
table ip nat {
  chain DOCKER { iifname "docker0" return; iifname != "docker0" udp dport 7778 dnat to 172.17.0.2:80; }
  chain PREROUTING { type nat hook prerouting priority dstnat; policy accept; fib daddr type local jump DOCKER; }
  chain OUTPUT { type nat hook output priority -100; policy accept; ip daddr != 127.0.0.0/8 fib daddr type local jump DOCKER; }
  chain POSTROUTING { type nat hook postrouting priority srcnat; policy accept; ip saddr 172.17.0.0/16 oifname != "docker0" masquerade; }
}
table ip kube-proxy {
  map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  map firewall-ips { type ipv4_addr . inet_proto . inet_service : verdict; }
  map no-endpoint-services { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 10.0.0.2 . udp . 4002 : goto reject-chain }; }
  chain reject-chain { reject; }
  chain endpoints-check { ip daddr . meta l4proto . th dport vmap @no-endpoint-services; }
  chain firewall-check { ip daddr . meta l4proto . th dport vmap @firewall-ips; }
  chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }
  chain masquerading { meta mark & 0x4000 == 0 return; meta mark set meta mark ^ 0x4000; masquerade fully-random; }
  chain filter-prerouting { type filter hook prerouting priority dstnat - 10; policy accept; ct state new jump firewall-check; }
  chain filter-input { type filter hook input priority -110; policy accept; ct state new jump endpoints-check; }
  chain filter-forward { type filter hook forward priority -110; policy accept; ct state new jump endpoints-check; }
  chain filter-output { type filter hook output priority -110; policy accept; ct state new jump firewall-check; }
  chain nat-prerouting { type nat hook prerouting priority dstnat; policy accept; jump services; }
  chain nat-output { type nat hook output priority -100; policy accept; jump services; }
  chain nat-postrouting { type nat hook postrouting priority srcnat; policy accept; jump masquerading; }
}
table ip worse {
  chain PREROUTING { type nat hook prerouting priority dstnat; policy accept; udp dport 7777 dnat to 172.17.0.2:80; }
  chain POSTROUTING { type nat hook postrouting priority srcnat; policy accept; ip saddr 10.0.0.0/8 masquerade; }
}
table ip6 worse {
  chain FORWARD { type filter hook forward priority filter; policy drop; ct state invalid drop; }
}
table bridge host {
  chain forward { type filter hook forward priority 0; policy drop; }
}
"#;

/// Where Debian installs podman's network program, and its input for a container with a published port
/// (netavark(1)).
const NETAVARK: &str = "/usr/lib/podman/netavark";
const CONTAINER: &str = r#"{
  "container_id": "0123456789abcdef", "container_name": "c",
  "port_mappings": [{"container_port": 80, "host_ip": "", "host_port": 7777, "protocol": "udp", "range": 1}],
  "networks": {"podman": {"static_ips": ["10.88.0.2"], "interface_name": "eth0"}},
  "network_info": {"podman": {
    "name": "podman", "id": "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9", "driver": "bridge",
    "network_interface": "podman0", "created": "2022-01-01T00:00:00Z",
    "subnets": [{"subnet": "10.88.0.0/16", "gateway": "10.88.0.1"}],
    "ipv6_enabled": false, "internal": false, "dns_enabled": false, "ipam_options": {"driver": "host-local"}
  }}
}"#;
/// Rules in place of netavark's where it is not installed, modelled on version 1.4.
const LIKE_NETAVARK: &str = r#"
table inet netavark {
  chain FORWARD { type filter hook forward priority filter; policy accept; ip daddr 10.88.0.0/16 ct state related,established accept; ip saddr 10.88.0.0/16 accept; }
  chain POSTROUTING { type nat hook postrouting priority srcnat; policy accept; ip saddr 10.88.0.0/16 ip daddr != 10.88.0.0/16 masquerade; }
}
"#;
/// Rules in place of firewalld's where it is not installed, modelled on version 1.3.
const LIKE_FIREWALLD: &str = r#"
table inet firewalld {
  chain filter_PREROUTING { type filter hook prerouting priority filter + 10; policy accept; meta nfproto ipv6 fib saddr . mark . iif oif missing drop; }
  chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept; ct state { established, related } accept; ct status dnat accept; iifname "lo" accept; ct state invalid drop; reject with icmpx type admin-prohibited; }
}
"#;
/// A bus on which everybody may own every name, call every method, and get every reply.
const BUS: &str = r#"<busconfig><type>system</type><auth>EXTERNAL</auth><policy context="default">
<allow user="*"/><allow own="*"/><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/>
</policy><listen>unix:path=SOCKET</listen></busconfig>"#;

/// Lets podman's own program make its rules in a namespace.
fn netavark(netns: &str) {
    if !Path::new(NETAVARK).exists() {
        println!("netavark is not installed: rules like its own are used");
        return nft(netns, LIKE_NETAVARK);
    }
    let (container, state) = (Netns::new(&unique("c")), tempfile::tempdir().unwrap());
    let mut child = Command::new("ip")
        .args(["netns", "exec", netns, NETAVARK, "--config"])
        .arg(state.path())
        .args(["setup", &format!("/run/netns/{}", container.name())])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(CONTAINER.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "netavark does not set up its network");
    let rules = common::output("ip", &["netns", "exec", netns, "nft", "list", "ruleset"]);
    assert!(rules.contains("NETAVARK"), "{rules}");
}

/// A program that is killed when the value is dropped. What it has configured stays.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Lets firewalld make its rules in a namespace, with its default zone and the port of VXLAN open.
fn firewalld(netns: &str) {
    let has =
        |program: &str| Path::new("/usr/sbin").join(program).exists() || Path::new("/usr/bin").join(program).exists();
    if !(has("firewalld") && has("firewall-cmd") && has("dbus-daemon")) {
        println!("firewalld or D-Bus is not installed: rules like firewalld's are used");
        return nft(netns, LIKE_FIREWALLD);
    }
    let dir = tempfile::tempdir().unwrap();
    let (socket, config) = (dir.path().join("bus"), dir.path().join("bus.conf"));
    std::fs::write(&config, BUS.replace("SOCKET", socket.to_str().unwrap())).unwrap();
    let start = |program: &mut Command| Running(program.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let mut bus = Command::new("dbus-daemon");
    let _bus = start(bus.arg("--config-file").arg(&config).args(["--nofork", "--nopidfile"]));
    let wait = |what: &str, mut holds: Box<dyn FnMut() -> bool>| {
        let start = Instant::now();
        while !holds() {
            assert!(start.elapsed() < PATIENCE, "{what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    let there = socket.clone();
    wait("there is no bus", Box::new(move || there.exists()));
    let address = format!("unix:path={}", socket.display());
    let inside = |program: &[&str]| {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", netns]).args(program);
        command.env("DBUS_SYSTEM_BUS_ADDRESS", &address);
        command
    };
    let _firewalld = start(&mut inside(&["firewalld", "--nofork", "--nopid"]));
    let mut open = inside(&["firewall-cmd", "--add-port=4789/udp"]);
    open.stdout(Stdio::null()).stderr(Stdio::null());
    wait(
        "firewalld does not run",
        Box::new(move || open.status().unwrap().success()),
    );
    let rules = common::output(
        "ip",
        &["netns", "exec", netns, "nft", "list", "table", "inet", "firewalld"],
    );
    assert!(rules.contains("filter_FORWARD") && rules.contains("4789"), "{rules}");
}

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
    netavark(netns);
    firewalld(netns);
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

/// Packets that a host has counted as lost at one place for one reason.
fn lost(lab: &Lab, place: &'static str, reason: &'static str) -> u64 {
    let losses = lab.engine(0, |e| e.datapath().losses().unwrap());
    let of = losses.iter().filter(|l| l.place == place && l.reason == reason);
    of.map(|l| l.frames).sum()
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
    let (to, from) = (mac_of(&host, "up0"), mac_of(lab.host(1), "up0"));
    let to_host = |packet: &[u8]| ethernet(to, from, 0x0800, packet);
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
        // The kernel accepts an error about another destination. So the refused ones were
        // well formed, too.
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
    assert_eq!(lost(&lab, "inet vfabric", "forged-mtu"), 2);
    // A redirect for the other VTEP (RFC 792): it is counted separately.
    let quoted = ipv4(us, them, 17, Fragment(1, 0, false), &tunnel);
    let redirect = icmp(5, 1, &[&[192, 0, 2, 99][..], &quoted].concat());
    let redirect = to_host(&ipv4(them, us, 1, Fragment::default(), &redirect));
    send(lab.host(1), "up0", vec![redirect]);
    lab.until(|lab| lost(lab, "inet vfabric", "forged-redirect") == 1);
    assert_eq!(lost(&lab, "inet vfabric", "forged-mtu"), 2);
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
    assert_eq!(lost(&lab, "inet vfabric", "forged-mtu"), 2);
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
    assert_eq!(lost(&lab, "blue/a", "to-host"), frames.len() as u64);
}

#[test]
fn settings_that_somebody_changed_at_one_link_are_named_and_put_right() {
    let mut lab = Lab::new(UnderlayFamily::Ipv4);
    lab.two_workloads(NET);
    let put_right = |lab: &Lab| lab.engine(0, |e| e.datapath().put_right().unwrap());
    assert_eq!(
        put_right(&lab),
        Vec::<String>::new(),
        "links are not created with the settings"
    );
    let overlay = lab.overlay(0).to_owned();
    let port = vtep_agent::object::port_name("blue/a");
    let changed = [
        ("ipv4/conf/vfb10000/forwarding".to_owned(), "1", "0"),
        (format!("ipv4/conf/{port}/arp_ignore"), "0", "8"),
        (format!("ipv4/conf/{port}/rp_filter"), "0", "1"),
        ("ipv4/conf/vfx10000/send_redirects".to_owned(), "1", "0"),
        (format!("ipv6/conf/{port}/forwarding"), "1", "0"),
        (format!("ipv6/conf/{port}/accept_ra"), "2", "0"),
    ];
    let set = |name: &str, value: &str| {
        let setting = format!("net/{name}={value}");
        common::run("ip", &["netns", "exec", &overlay, "sysctl", "-qw", &setting]);
    };
    for (name, wrong, _) in &changed {
        set(name, wrong);
    }
    let found = put_right(&lab);
    for (name, wrong, right) in &changed {
        let said = format!("{name} was {wrong} in network namespace {overlay}");
        assert!(found.contains(&said), "{said}: {found:?}");
        let setting = format!("net/{name}");
        let now = common::output("ip", &["netns", "exec", &overlay, "sysctl", "-n", &setting]);
        assert_eq!(now.trim(), *right, "{name}");
    }
    assert_eq!(put_right(&lab), Vec::<String>::new());
}
