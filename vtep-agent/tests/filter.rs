//! What a workload may send: each frame is sent as it is, and either arrives or is counted by its reason. Needs root
//! and `ip`.

#[allow(unreachable_pub, dead_code)]
mod common;

use std::net::{Ipv4Addr, Ipv6Addr};

use common::frames::{BROADCAST, Fragment, Mac, arp, ethernet, icmpv6, ipv4, ipv6, ipv6_fragment, udp};
use common::wire::{Capture, send};
use common::{Lab, Netns, unique};
use vtep_agent::datapath::Datapath;
use vtep_proto::{AllowedAddress, Attachment, HostEntity, MacAddress, UnderlayFamily};

const NET: u32 = 10_000;
const OWN: Mac = [2, 0, 0, 0, 0, 1];
const OTHER: Mac = [2, 0, 0, 0, 0, 9];
const OWN4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const OTHER4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
const GATEWAY4: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 254);
const OWN6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
const OTHER6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 9);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 0xfe);
/// The link-local address that a station derives from `OWN` (RFC 4291 appendix A).
const OWN_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0xff, 0xfe00, 1);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const IP4: u16 = 0x0800;
const IP6: u16 = 0x86dd;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// Two workloads of one network on one host: one that sends, one that listens.
struct Two {
    lab: Lab,
    listener: Netns,
}

impl Two {
    fn new(change: impl FnOnce(&mut Attachment)) -> Self {
        Self::with(change, |_| {})
    }

    /// The other host gets what the network floods.
    fn with(change: impl FnOnce(&mut Attachment), change_listener: impl FnOnce(&mut Attachment)) -> Self {
        let mut lab = Lab::new(UnderlayFamily::Ipv4);
        let listener = Netns::new(&unique("l"));
        let HostEntity::Attachment(mut speaker) = lab.attachment(0, NET, "speaker") else {
            unreachable!()
        };
        let mut hearer = speaker.clone();
        hearer.id = "blue/listener".into();
        hearer.netns = listener.name().to_owned();
        hearer.mac = MacAddress::new(OTHER).unwrap();
        hearer.addresses = [format!("{OTHER4}/24"), format!("{OTHER6}/64")]
            .iter()
            .map(|a| a.parse().unwrap())
            .collect();
        change(&mut speaker);
        change_listener(&mut hearer);
        let all = vec![
            flooding(&lab, 0),
            HostEntity::Attachment(speaker),
            HostEntity::Attachment(hearer),
        ];
        let keys: Vec<_> = all.iter().map(HostEntity::key).collect();
        lab.update(0, all, &[]);
        for key in keys {
            assert_eq!(lab.error(0, &key), None);
        }
        Self { lab, listener }
    }

    /// Sends frames; returns which of them arrived.
    fn arrive(&self, frames: &[Vec<u8>]) -> Vec<bool> {
        let capture = Capture::start(self.listener.name());
        send(self.lab.workload(0), "eth0", frames.to_vec());
        let seen = capture.frames();
        frames.iter().map(|f| seen.contains(f)).collect()
    }

    /// Frames that left the speaker's interface so far, its kernel's included.
    fn sent(&self) -> u64 {
        let name = self.lab.workload(0);
        let show = ["-n", name, "-j", "-s", "link", "show", "eth0"];
        let out = std::process::Command::new("ip").args(show).output().unwrap();
        let links: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        links[0]["stats64"]["tx"]["packets"].as_u64().unwrap()
    }

    /// Frames of the speaker that were refused so far.
    fn refused(&self, reason: &'static str) -> u64 {
        self.refused_at("blue/speaker", reason)
    }

    fn refused_at(&self, place: &str, reason: &str) -> u64 {
        let losses = self.lab.engine(0, |e| e.datapath().losses().unwrap());
        let of = losses.iter().filter(|l| l.place == place && l.reason == reason);
        of.map(|l| l.frames).sum()
    }

    /// Every frame is refused, and counted, for that reason.
    #[track_caller]
    fn refuses(&self, reason: &'static str, frames: &[Vec<u8>]) {
        let before = self.refused(reason);
        let arrived = self.arrive(frames);
        assert!(!arrived.contains(&true), "{reason}: {arrived:?}");
        assert_eq!(
            self.refused(reason) - before,
            frames.len() as u64,
            "{reason} is not counted"
        );
    }

    #[track_caller]
    fn passes(&self, frames: &[Vec<u8>]) {
        let arrived = self.arrive(frames);
        assert!(!arrived.contains(&false), "{arrived:?}");
    }
}

/// The network of a host, whose other host gets what it floods.
fn flooding(lab: &Lab, host: usize) -> HostEntity {
    let HostEntity::Network(mut network) = lab.network(host, NET) else {
        unreachable!()
    };
    network.flood = [Ipv4Addr::new(192, 0, 2, 2 - host as u8).into()].into();
    HostEntity::Network(network)
}

/// Different frames for a station that nobody knows.
fn to_nobody(source: Mac, from: Ipv4Addr, ports: std::ops::Range<u16>) -> Vec<Vec<u8>> {
    let nobody: Mac = [2, 0, 0, 0, 0, 0x99];
    ports
        .map(|port| ethernet(nobody, source, IP4, &packet4(from, OTHER4, (9, port))))
        .collect()
}

/// How many of these frames there are among those seen.
fn count(frames: &[Vec<u8>], seen: &[Vec<u8>]) -> u64 {
    let seen: std::collections::HashSet<&Vec<u8>> = seen.iter().collect();
    frames.iter().filter(|f| seen.contains(f)).count() as u64
}

fn packet4(from: Ipv4Addr, to: Ipv4Addr, ports: (u16, u16)) -> Vec<u8> {
    ipv4(from, to, UDP, Fragment::default(), &udp(ports.0, ports.1, b"hello"))
}

fn packet6(from: Ipv6Addr, to: Ipv6Addr, ports: (u16, u16)) -> Vec<u8> {
    ipv6(from, to, UDP, &udp(ports.0, ports.1, b"hello"))
}

/// Neighbour advertisement for `target` (RFC 4861 section 4.4).
fn advertisement(from: Ipv6Addr, to: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    neighbour(136, (from, to), target, &[option(2, OWN)])
}

/// Neighbour solicitation (135) or advertisement (136).
fn neighbour(kind: u8, (from, to): (Ipv6Addr, Ipv6Addr), target: Ipv6Addr, options: &[[u8; 8]]) -> Vec<u8> {
    let body = [&[0x20, 0, 0, 0][..], &target.octets(), &options.concat()].concat();
    icmpv6(from, to, kind, &body)
}

/// An option of neighbour discovery with a MAC address (RFC 4861 section 4.6.1).
fn option(kind: u8, mac: Mac) -> [u8; 8] {
    let [a, b, c, d, e, f] = mac;
    [kind, 1, a, b, c, d, e, f]
}

fn to_all(kind: u16, payload: &[u8]) -> Vec<u8> {
    ethernet(BROADCAST, OWN, kind, payload)
}

fn to_other(kind: u16, payload: &[u8]) -> Vec<u8> {
    ethernet(OTHER, OWN, kind, payload)
}

#[test]
fn a_workload_is_held_to_its_addresses() {
    let two = Two::new(|_| {});
    two.refuses(
        "source-mac",
        &[
            ethernet(OTHER, [2, 0, 0, 0, 0, 0x55], IP4, &packet4(OWN4, OTHER4, (9, 9))),
            ethernet(
                BROADCAST,
                [2, 0, 0, 0, 0, 0xfe],
                0x0806,
                &arp(1, (OWN, OWN4), ([0; 6], OTHER4)),
            ),
        ],
    );
    two.refuses(
        "arp-sender",
        &[
            // The gateway's address, in a request, a reply and an announcement.
            to_all(0x0806, &arp(1, (OWN, GATEWAY4), ([0; 6], OTHER4))),
            to_other(0x0806, &arp(2, (OWN, GATEWAY4), (OTHER, OTHER4))),
            to_all(0x0806, &arp(1, (OWN, GATEWAY4), ([0; 6], GATEWAY4))),
            // Its own address at another MAC address; a reply without a sender.
            to_all(0x0806, &arp(2, (OTHER, OWN4), (OTHER, OTHER4))),
            to_other(0x0806, &arp(2, (OWN, Ipv4Addr::UNSPECIFIED), (OTHER, OTHER4))),
            // Cut off, and of another length of addresses.
            to_other(0x0806, &[0, 1, 8, 0, 8, 4, 0, 2]),
        ],
    );
    two.refuses(
        "source-ipv4",
        &[
            GATEWAY4,
            OTHER4,
            Ipv4Addr::LOCALHOST,
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::BROADCAST,
        ]
        .map(|from| to_other(IP4, &packet4(from, OTHER4, (9, 9)))),
    );
    two.refuses(
        "source-ipv6",
        &[GATEWAY6, OTHER6, Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED, ALL_NODES]
            .map(|from| to_other(IP6, &packet6(from, OTHER6, (9, 9)))),
    );
    two.passes(&[
        to_other(IP4, &packet4(OWN4, OTHER4, (9, 9))),
        to_other(IP6, &packet6(OWN6, OTHER6, (9, 9))),
        to_other(IP6, &packet6(OWN_LINK_LOCAL, OTHER6, (9, 9))),
        // A client of DHCP, and a probe for an address (RFC 5227).
        to_all(IP4, &packet4(Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, (68, 67))),
        to_all(
            0x0806,
            &arp(1, (OWN, Ipv4Addr::UNSPECIFIED), ([0; 6], Ipv4Addr::new(10, 0, 0, 77))),
        ),
        to_other(0x0806, &arp(2, (OWN, OWN4), (OTHER, OTHER4))),
        // Something that is neither IP nor ARP.
        to_other(0x88b5, b"experiment"),
    ]);
}

#[test]
fn only_the_fabric_advertises_routers_and_serves_dhcp() {
    let two = Two::new(|_| {});
    let router = |from| icmpv6(from, ALL_NODES, 134, &[64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0]);
    let hidden = router(OWN_LINK_LOCAL);
    // Behind an empty header of options (RFC 7113 section 2.1).
    let options = [&[ICMPV6, 0, 1, 4, 0, 0, 0, 0][..], &hidden].concat();
    two.refuses(
        "router-advertisement",
        &[
            to_other(IP6, &ipv6(OWN_LINK_LOCAL, ALL_NODES, ICMPV6, &hidden)),
            to_other(IP6, &ipv6(OWN6, OTHER6, ICMPV6, &router(OWN6))),
            to_other(IP6, &ipv6(OWN_LINK_LOCAL, ALL_NODES, 60, &options)),
            // The first of two fragments.
            to_other(
                IP6,
                &ipv6(
                    OWN_LINK_LOCAL,
                    ALL_NODES,
                    44,
                    &ipv6_fragment(ICMPV6, 7, 0, true, &hidden),
                ),
            ),
        ],
    );
    // A chain of headers that ends in the next fragment (RFC 7113 section 2.2).
    let chain = [ICMPV6, 30, 1, 4, 0, 0, 0, 0];
    two.refuses(
        "malformed",
        &[to_other(
            IP6,
            &ipv6(OWN_LINK_LOCAL, ALL_NODES, 44, &ipv6_fragment(60, 8, 0, true, &chain)),
        )],
    );
    two.refuses(
        "neighbour-advertisement",
        &[
            to_other(IP6, &ipv6(OWN6, OTHER6, ICMPV6, &advertisement(OWN6, OTHER6, GATEWAY6))),
            to_other(
                IP6,
                &ipv6(
                    OWN_LINK_LOCAL,
                    ALL_NODES,
                    ICMPV6,
                    &advertisement(OWN_LINK_LOCAL, ALL_NODES, OTHER6),
                ),
            ),
        ],
    );
    let redirect = [&[0; 4][..], &GATEWAY6.octets(), &OTHER6.octets()].concat();
    two.refuses(
        "redirect",
        &[to_other(
            IP6,
            &ipv6(OWN6, OTHER6, ICMPV6, &icmpv6(OWN6, OTHER6, 137, &redirect)),
        )],
    );
    two.refuses(
        "dhcp-server",
        &[
            to_other(IP4, &packet4(OWN4, OTHER4, (67, 68))),
            to_all(IP4, &packet4(OWN4, Ipv4Addr::BROADCAST, (67, 68))),
            to_other(IP6, &packet6(OWN_LINK_LOCAL, OTHER6, (547, 546))),
            // Clients do not look at the port that an answer comes from.
            to_other(IP4, &packet4(OWN4, OTHER4, (1067, 68))),
            to_other(IP6, &packet6(OWN6, OTHER6, (1547, 546))),
            // All of it in the first fragment, and behind an empty header of options.
            to_other(
                IP4,
                &ipv4(OWN4, OTHER4, UDP, Fragment(4, 0, true), &udp(1067, 68, b"12345678")),
            ),
            to_other(
                IP6,
                &ipv6(
                    OWN6,
                    OTHER6,
                    44,
                    &ipv6_fragment(UDP, 5, 0, true, &udp(1547, 546, b"12345678")),
                ),
            ),
            to_other(
                IP6,
                &ipv6(
                    OWN6,
                    OTHER6,
                    60,
                    &[&[UDP, 0, 1, 4, 0, 0, 0, 0][..], &udp(1547, 546, b"hello")].concat(),
                ),
            ),
        ],
    );
    // The same ARP behind SNAP (RFC 1042), and behind a VLAN tag.
    let poison = arp(2, (OWN, GATEWAY4), (OTHER, OTHER4));
    let snap = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 6][..], &poison].concat();
    two.refuses("snap", &[to_other(snap.len() as u16, &snap)]);
    let tagged = |tag: u16| to_other(tag, &[&[0, 5, 8, 6][..], &poison].concat());
    two.refuses("vlan-tag", &[0x8100, 0x88a8, 0x9100, 0x9200].map(tagged));
    two.passes(&[
        to_other(IP6, &ipv6(OWN6, OTHER6, ICMPV6, &advertisement(OWN6, OTHER6, OWN6))),
        to_other(
            IP6,
            &ipv6(
                OWN6,
                OTHER6,
                44,
                &ipv6_fragment(UDP, 9, 0, true, &udp(9, 9, b"12345678")),
            ),
        ),
        to_other(
            IP6,
            &ipv6(OWN6, OTHER6, 44, &ipv6_fragment(UDP, 9, 16, false, b"the rest")),
        ),
        to_other(IP4, &ipv4(OWN4, OTHER4, UDP, Fragment(3, 1480, false), b"the rest")),
    ]);
}

/// A station believes the MAC address in the option more than the frame's.
#[test]
fn neighbour_discovery_names_the_workloads_own_mac_address() {
    let two = Two::new(|_| {});
    let gateway: Mac = [2, 0, 0, 0, 0, 0xfe];
    let (between, nonce) = ((OWN6, OTHER6), [14, 1, 1, 2, 3, 4, 5, 6]);
    let solicit = |options: &[[u8; 8]]| neighbour(135, between, OTHER6, options);
    let advertise = |options: &[[u8; 8]]| neighbour(136, between, OWN6, options);
    let behind = [&[ICMPV6, 0, 1, 4, 0, 0, 0, 0][..], &advertise(&[option(2, gateway)])].concat();
    two.refuses(
        "neighbour-option",
        &[
            to_other(IP6, &ipv6(OWN6, OTHER6, ICMPV6, &solicit(&[option(1, gateway)]))),
            to_other(IP6, &ipv6(OWN6, OTHER6, ICMPV6, &solicit(&[option(1, OTHER)]))),
            to_other(IP6, &ipv6(OWN6, OTHER6, ICMPV6, &advertise(&[option(2, gateway)]))),
            to_other(IP6, &ipv6(OWN6, OTHER6, ICMPV6, &advertise(&[option(2, OTHER)]))),
            // The second option is one too many, and so is a header before the message.
            to_other(IP6, &ipv6(OWN6, OTHER6, ICMPV6, &solicit(&[nonce, option(1, gateway)]))),
            to_other(
                IP6,
                &ipv6(OWN6, OTHER6, ICMPV6, &advertise(&[option(2, OWN), option(2, gateway)])),
            ),
            to_other(IP6, &ipv6(OWN6, OTHER6, 60, &behind)),
        ],
    );
    two.passes(&[
        to_other(IP6, &ipv6(OWN6, OTHER6, ICMPV6, &solicit(&[option(1, OWN)]))),
        to_other(IP6, &ipv6(OWN6, OTHER6, ICMPV6, &solicit(&[]))),
        to_other(IP6, &ipv6(OWN6, OTHER6, ICMPV6, &advertise(&[option(2, OWN)]))),
        to_other(IP6, &ipv6(OWN6, OTHER6, ICMPV6, &advertise(&[]))),
    ]);
}

#[test]
fn protocols_of_a_link_stay_on_it_and_are_counted() {
    let two = Two::new(|a| a.port_security = false);
    // Spanning tree, pause, LACP, port access, LLDP, and the last of the block.
    let groups = [0x00, 0x01, 0x02, 0x03, 0x0e, 0x0f].map(|last| [0x01, 0x80, 0xc2, 0, 0, last]);
    let frames = groups.map(|group| ethernet(group, OWN, 0x88cc, &[0; 46]));
    two.refuses("link-group", &frames);
    // The next group is an ordinary one: MVRP (IEEE 802.1Q table 10-1).
    two.passes(&[ethernet([0x01, 0x80, 0xc2, 0, 0, 0x21], OWN, 0x88f5, &[0; 46])]);
    assert_eq!(two.refused("link-group"), 6, "a copy was counted as a loss");
}

#[test]
fn addresses_that_no_station_can_have_are_counted() {
    let two = Two::new(|a| a.port_security = false);
    let frames = [BROADCAST, [0x33, 0x33, 0, 0, 0, 1], [1, 0, 0x5e, 0, 0, 1], [0; 6]]
        .map(|source| ethernet(OTHER, source, IP4, &packet4(OWN4, OTHER4, (9, 9))));
    two.refuses("source-mac", &frames);
}

#[test]
fn exceptions_are_for_what_they_name() {
    let virtual_router: Mac = [0, 0, 0x5e, 0, 1, 7];
    let shared = Ipv4Addr::new(10, 0, 0, 100);
    let two = Two::new(|a| {
        let allow = |prefix: &str, mac: Option<Mac>| AllowedAddress {
            prefix: prefix.parse().unwrap(),
            mac: mac.and_then(MacAddress::new),
        };
        a.allowed_addresses = [
            allow("10.0.0.100/32", Some(virtual_router)),
            allow("172.16.4.0/22", None),
            allow("fd00:1::/64", None),
        ]
        .into();
    });
    let from = |mac: Mac, ip: Ipv4Addr| ethernet(OTHER, mac, IP4, &packet4(ip, OTHER4, (9, 9)));
    let inside6 = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, 5);
    two.passes(&[
        from(OWN, OWN4),
        from(virtual_router, shared),
        ethernet(
            OTHER,
            virtual_router,
            0x0806,
            &arp(1, (virtual_router, shared), ([0; 6], shared)),
        ),
        from(OWN, Ipv4Addr::new(172, 16, 7, 255)),
        to_other(IP6, &packet6(inside6, OTHER6, (9, 9))),
    ]);
    two.refuses(
        "source-ipv4",
        &[from(OWN, Ipv4Addr::new(172, 16, 8, 0)), from(OWN, GATEWAY4)],
    );
    two.refuses("source-mac", &[from([0, 0, 0x5e, 0, 1, 8], shared)]);

    // The exception is removed, and with it the permission.
    let mut two = two;
    let HostEntity::Attachment(speaker) = two.lab.attachment(0, NET, "speaker") else {
        unreachable!()
    };
    two.lab.update(0, vec![HostEntity::Attachment(speaker)], &[]);
    two.refuses("source-mac", &[from(virtual_router, shared)]);
    two.refuses("source-ipv4", &[from(OWN, Ipv4Addr::new(172, 16, 7, 255))]);
}

#[test]
fn without_port_security_only_tags_and_floods_are_refused() {
    let two = Two::new(|a| a.port_security = false);
    two.passes(&[
        ethernet(OTHER, [2, 0, 0, 0, 0, 0x55], IP4, &packet4(GATEWAY4, OTHER4, (67, 68))),
        to_other(0x0806, &arp(2, (OWN, GATEWAY4), (OTHER, OTHER4))),
    ]);
    two.refuses("vlan-tag", &[to_other(0x8100, &[0, 5, 8, 0, 1, 2, 3, 4])]);
}

#[test]
fn a_flood_is_cut_and_others_are_not_disturbed() {
    let two = Two::new(|_| {});
    // Three times what may come at once.
    let flood: Vec<Vec<u8>> = (1000..7000u16)
        .map(|i| to_all(IP4, &packet4(OWN4, Ipv4Addr::BROADCAST, (9, i))))
        .collect();
    let before = two.sent();
    let arrived = two.arrive(&flood).iter().filter(|a| **a).count() as u64;
    let refused = two.refused("flood");
    // The workload's kernel reports its multicast groups when it likes (RFC 3810), and is refused like the flood.
    let own = two.sent() - before - flood.len() as u64;
    let flood = flood.len() as u64;
    assert!(
        (flood..=flood + own).contains(&(arrived + refused)),
        "{arrived} arrived, {refused} were refused, {own} were the kernel's own"
    );
    assert!(
        refused > 0 && arrived >= 2000,
        "{arrived} arrived, {refused} were refused"
    );
    // Frames for one station are not a flood.
    two.passes(&[to_other(IP4, &packet4(OWN4, OTHER4, (9, 9)))]);
}

#[test]
fn frames_for_unknown_stations_are_limited_by_sender_and_others_are_not_disturbed() {
    let two = Two::new(|_| {});
    let inner = |capture: Capture| -> Vec<Vec<u8>> { capture.tunnelled().into_iter().map(|t| t.inner).collect() };
    // Three times what may come at once.
    let flood = to_nobody(OWN, OWN4, 1000..7000);
    let (tunnel, beside) = (Capture::start(two.lab.host(1)), Capture::start(two.listener.name()));
    send(two.lab.workload(0), "eth0", flood.clone());
    let (passed, refused) = (count(&flood, &inner(tunnel)), two.refused("unknown-unicast"));
    assert_eq!(
        passed + refused,
        flood.len() as u64,
        "{passed} passed, {refused} were refused"
    );
    assert!(refused > 0 && passed >= 2000, "{passed} passed, {refused} were refused");
    assert_eq!(
        count(&flood, &beside.frames()),
        0,
        "a port where the station cannot be got it"
    );
    // Another sender of the network, at once.
    let others = to_nobody(OTHER, OTHER4, 1000..2000);
    let tunnel = Capture::start(two.lab.host(1));
    send(two.listener.name(), "eth0", others.clone());
    assert_eq!(count(&others, &inner(tunnel)), 1000);
    assert_eq!(two.refused_at("blue/listener", "unknown-unicast"), 0);
    // Frames for a station that is known are not limited, and broadcast has a limit of its own.
    let known: Vec<Vec<u8>> = (1000..7000u16)
        .map(|i| to_other(IP4, &packet4(OWN4, OTHER4, (9, i))))
        .collect();
    two.passes(&known);
    two.passes(&[to_all(0x0806, &arp(1, (OWN, OWN4), ([0; 6], OTHER4)))]);
    // Nothing else was lost at the link for unknown stations.
    let losses = two.lab.engine(0, |e| e.datapath().losses().unwrap());
    assert!(!losses.iter().any(|l| l.place == "vfu10000"), "{losses:?}");
}

#[test]
fn a_sender_without_port_security_gains_nothing_by_many_addresses() {
    let two = Two::new(|a| a.port_security = false);
    let flood: Vec<Vec<u8>> = (0..12_000u16)
        .map(|i| {
            let [high, low] = i.to_be_bytes();
            let frame = to_nobody([2, 0, 0, 7, high, low], OWN4, i..i + 1);
            frame.into_iter().next().unwrap()
        })
        .collect();
    let tunnel = Capture::start(two.lab.host(1));
    send(two.lab.workload(0), "eth0", flood.clone());
    let seen: Vec<Vec<u8>> = tunnel.tunnelled().into_iter().map(|t| t.inner).collect();
    let passed = count(&flood, &seen);
    // Frames from an address that no attachment has are counted at the network's link.
    let refused = two.refused_at("vfu10000", "unknown-unicast");
    assert_eq!(passed + refused, flood.len() as u64, "{passed} passed");
    assert!(refused > 0 && passed >= 8000, "{passed} passed, {refused} were refused");
}

#[test]
fn a_port_with_unknown_stations_gets_what_is_flooded_at_a_limit_and_all_that_is_its_own() {
    let mut two = Two::with(|_| {}, |a| a.port_security = false);
    let flood = to_nobody(OWN, OWN4, 1000..7000);
    let beside = Capture::start(two.listener.name());
    send(two.lab.workload(0), "eth0", flood.clone());
    let arrived = count(&flood, &beside.frames());
    assert!((2000..6000).contains(&arrived), "{arrived} arrived");
    // Each frame had two paths, to the port and into the tunnel, and each path has its
    // limit.
    let refused = two.refused("unknown-unicast");
    assert!(refused >= flood.len() as u64 - arrived, "{refused} were refused");
    let known: Vec<Vec<u8>> = (1000..7000u16)
        .map(|i| to_other(IP4, &packet4(OWN4, OTHER4, (9, i))))
        .collect();
    two.passes(&known);

    // Frames that another host floods arrive, too, and do not go back.
    let HostEntity::Attachment(mut far) = two.lab.attachment(1, NET, "far") else {
        unreachable!()
    };
    far.mac = MacAddress::new([2, 0, 0, 0, 0, 3]).unwrap();
    far.addresses = ["10.0.0.3/24".parse().unwrap()].into();
    let all = vec![flooding(&two.lab, 1), HostEntity::Attachment(far)];
    two.lab.update(1, all, &[]);
    let few = to_nobody([2, 0, 0, 0, 0, 3], Ipv4Addr::new(10, 0, 0, 3), 1001..1101);
    let (beside, tunnel) = (Capture::start(two.listener.name()), Capture::start(two.lab.host(0)));
    send(two.lab.workload(1), "eth0", few.clone());
    assert_eq!(count(&few, &beside.frames()), 100);
    let seen = tunnel.tunnelled();
    let inner: Vec<&Vec<u8>> = seen.iter().map(|t| &t.inner).collect();
    let once = few.iter().all(|f| inner.iter().filter(|i| **i == f).count() == 1);
    assert!(once, "a frame went back into the tunnel");
}

#[test]
fn limits_of_unknown_stations_are_put_right_and_survive_a_restart() {
    let mut two = Two::with(|_| {}, |a| a.port_security = false);
    let overlay = two.lab.overlay(0).to_owned();
    let chains = |overlay: &str| {
        let words = ["netns", "exec", overlay, "nft", "list", "table", "netdev", "vfabric"];
        let table = common::output("ip", &words);
        ["chain unknown-of-", "chain other-"].map(|c| table.matches(c).count())
    };
    assert_eq!(chains(&overlay), [1, 1]);
    assert!(two.lab.restart(0).is_empty(), "the restart found something to repair");
    assert_eq!(chains(&overlay), [1, 1]);
    common::ip(&["netns", "exec", &overlay, "nft", "flush", "table", "netdev", "vfabric"]);
    two.lab.engine(0, |e| e.datapath().put_right().unwrap());
    two.lab.check(0, &vtep_agent::datapath::Scope::All);
    assert_eq!(chains(&overlay), [1, 1]);
    // The port gets port security: nothing is flooded to it.
    let HostEntity::Attachment(mut hearer) = two.lab.attachment(0, NET, "listener") else {
        unreachable!()
    };
    hearer.netns = two.listener.name().to_owned();
    hearer.mac = MacAddress::new(OTHER).unwrap();
    two.lab.update(0, vec![HostEntity::Attachment(hearer.clone())], &[]);
    assert_eq!(two.lab.error(0, &HostEntity::Attachment(hearer).key()), None);
    assert_eq!(chains(&overlay), [1, 0]);
    let keys = two.lab.keys(0);
    two.lab.update(0, vec![], &keys);
    assert_eq!(chains(&overlay), [0, 0]);
}

#[test]
fn what_was_counted_goes_with_the_port() {
    let mut two = Two::new(|_| {});
    two.refuses("source-ipv4", &[to_other(IP4, &packet4(GATEWAY4, OTHER4, (9, 9)))]);
    let key = two.lab.attachment(0, NET, "speaker").key();
    two.lab.update(0, vec![], &[key]);
    two.lab.check(0, &vtep_agent::datapath::Scope::All);
    assert_eq!(two.refused("source-ipv4"), 0);
    let losses = two.lab.engine(0, |e| e.datapath().losses().unwrap());
    assert!(!losses.iter().any(|l| l.reason == "source-ipv4"), "{losses:?}");
    let words = [
        "netns",
        "exec",
        two.lab.overlay(0),
        "nft",
        "list",
        "table",
        "netdev",
        "vfabric",
    ];
    let table = std::process::Command::new("ip").args(words).output().unwrap();
    let chains = String::from_utf8(table.stdout).unwrap().matches("chain port-").count();
    assert_eq!(chains, 1, "that of the listener stays, that of the speaker goes");
}
