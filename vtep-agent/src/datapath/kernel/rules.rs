//! The rules of the packet filter ([`super::filter`]), which are the same for all ports. In order:
//!
//! - Frames from VXLAN devices pass: the leaf has admitted them. Frames from a link that is
//!   not known are dropped, so that a port is closed until its elements are there.
//! - Frames that a bridge would drop without counting are dropped and counted earlier ([`super::entrance`]).
//! - Frames with a VLAN tag are dropped.
//! - Ports with port security: source MAC address; sender of ARP (RFC 826); source address of
//!   IPv4 and IPv6; target and MAC address of neighbour discovery (RFC 4861); router
//!   advertisements, redirects, DHCP servers (RFC 2131, RFC 8415). Headers that are cut off are
//!   dropped (RFC 7113 section 3), and so are frames that hide a protocol behind SNAP (RFC 1042).
//! - Broadcast and multicast frames above a rate are dropped. So are frames for stations that no bridge knows ([`super::unknown`]).
//!
//! No frame enters or leaves the IP stack of the overlay; those for the MAC address of a link of the host are counted.

use super::filter::{DROPS, FLOODS, FloodLimit, Reason, Set, TABLE};
use super::nft::expression::{Base, Rule};
use super::nft::message::{Hook, Message, SetKind};

/// Hooks of bridges (linux/netfilter_bridge.h).
const PRE_ROUTING: u32 = 0;
const LOCAL_IN: u32 = 1;
const LOCAL_OUT: u32 = 3;
/// Before br_netfilter and connection tracking.
const FIRST: i32 = -300;

const ARP: &[u8] = &[0x08, 0x06];
const IPV4: &[u8] = &[0x08, 0x00];
const IPV6: &[u8] = &[0x86, 0xdd];
/// 802.1Q, 802.1ad and the tags before it.
const TAGS: [&[u8]; 4] = [&[0x81, 0x00], &[0x88, 0xa8], &[0x91, 0x00], &[0x92, 0x00]];
/// Largest value of the field after the addresses that is a length (IEEE 802.3).
const MAX_LENGTH: u16 = 1500;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;

/// The whole table, without elements.
pub(super) fn table(note: &[u8], limit: FloodLimit) -> Vec<Message> {
    let mut messages = vec![TABLE.create(note)];
    for (id, set) in (1..).zip(Set::ALL) {
        let (fields, kind) = set.shape();
        messages.push(TABLE.set(id, set.name(), fields, kind));
    }
    messages.push(TABLE.set(100, DROPS, &[4, 4], SetKind::Filled));
    messages.push(TABLE.set(101, FLOODS, &[4], SetKind::Filled));
    let base = |number, priority, drop| Some(Hook { number, priority, drop });
    let chains = [
        ("from-port", base(PRE_ROUTING, FIRST, false)),
        ("to-host", base(LOCAL_IN, 0, true)),
        ("from-host", base(LOCAL_OUT, 0, true)),
    ];
    messages.extend(chains.map(|(name, hook)| TABLE.chain(name, hook)));
    for name in [
        "guarded",
        "arp",
        "ipv4",
        "ipv4-sent",
        "ipv6",
        "ipv6-sent",
        "ipv6-payload",
        "icmpv6",
        "advertisement",
        "neighbour-option",
    ] {
        messages.push(TABLE.chain(name, None));
    }
    for reason in Reason::ALL {
        messages.push(TABLE.chain(&reason.chain(), None));
        messages.extend(reason.drop_in(DROPS).map(|rule| TABLE.rule(&reason.chain(), rule)));
    }
    let lists = [
        ("from-port", from_port(limit)),
        ("to-host", to_host()),
        ("guarded", guarded()),
        ("arp", arp()),
        ("ipv4", ipv4()),
        ("ipv4-sent", ipv4_sent()),
        ("ipv6", ipv6()),
        ("ipv6-sent", ipv6_sent()),
        ("ipv6-payload", ipv6_payload()),
        ("icmpv6", icmpv6()),
        ("advertisement", advertisement()),
        ("neighbour-option", neighbour_option()),
    ];
    for (chain, list) in lists {
        messages.extend(list.into_iter().map(|rule| TABLE.rule(chain, rule)));
    }
    messages
}

fn from_port(limit: FloodLimit) -> Vec<Rule> {
    let mut rules = vec![
        Rule::new().link_starts_with("vfx").accept(),
        Rule::new()
            .link(0)
            .not_in_set(Set::Ports.name())
            .goto(&Reason::UnknownPort.chain()),
    ];
    let tagged = TAGS.map(|tag| {
        let rule = Rule::new().is(Base::Ethernet, 12, tag);
        rule.goto(&Reason::VlanTag.chain())
    });
    rules.extend(tagged);
    rules.push(Rule::new().link(0).in_set(Set::Guarded.name()).jump("guarded"));
    let flood = Rule::new().for_a_group().link(0);
    rules.push(
        flood
            .exceeds(FLOODS, limit.per_second, limit.burst)
            .goto(&Reason::Flood.chain()),
    );
    rules
}

/// Frames for a link of the host itself. Nobody needs them. A frame to a group comes here as a copy, so nothing is
/// lost.
fn to_host() -> Vec<Rule> {
    vec![Rule::new().for_a_station().goto(&Reason::ToHost.chain())]
}

fn guarded() -> Vec<Rule> {
    let kind = |value: &[u8]| Rule::new().is(Base::Ethernet, 12, value);
    vec![
        // Loads go in the order of the key: the link's index, then the field.
        Rule::new()
            .link(0)
            .load(Base::Ethernet, 6, 6, 1)
            .not_in_set(Set::Macs.name())
            .goto(&Reason::SourceMac.chain()),
        kind(ARP).goto("arp"),
        kind(IPV4).goto("ipv4"),
        kind(IPV6).goto("ipv6"),
        // DSAP and SSAP 0xaa, control 3.
        Rule::new()
            .at_most(Base::Ethernet, 12, MAX_LENGTH)
            .is(Base::Network, 0, &[0xaa, 0xaa, 0x03])
            .goto(&Reason::Snap.chain()),
    ]
}

/// Holds when this field of the network header, together with the link's index, is in the set.
fn network_field(set: Set, offset: u32, length: u32) -> Rule {
    let rule = Rule::new().link(0).load(Base::Network, offset, length, 1);
    rule.in_set(set.name())
}

fn arp() -> Vec<Rule> {
    let refuse = Reason::ArpSender.chain();
    vec![
        // Ethernet and IPv4, with addresses of 6 and 4 octets.
        Rule::new().differs(Base::Network, 0, &[0, 1, 8, 0, 6, 4]).goto(&refuse),
        Rule::new()
            .link(0)
            .load(Base::Network, 8, 6, 1)
            .not_in_set(Set::Macs.name())
            .goto(&refuse),
        // A probe names no sender (RFC 5227 section 1.1).
        Rule::new()
            .is(Base::Network, 6, &[0, 1])
            .is(Base::Network, 14, &[0; 4])
            .back(),
        network_field(Set::Ipv4, 14, 4).back(),
        network_field(Set::Ranges4, 14, 4).back(),
        Rule::new().goto(&refuse),
    ]
}

fn ipv4() -> Vec<Rule> {
    vec![
        network_field(Set::Ipv4, 12, 4).has_complete_headers().goto("ipv4-sent"),
        network_field(Set::Ranges4, 12, 4)
            .has_complete_headers()
            .goto("ipv4-sent"),
        // A client that asks for its first address (RFC 2131 section 4.1).
        Rule::new()
            .carries(UDP)
            .is(Base::Network, 12, &[0, 0, 0, 0, 255, 255, 255, 255])
            .is(Base::Transport, 0, &[0, 68, 0, 67])
            .back(),
        Rule::new().has_complete_headers().goto(&Reason::SourceIpv4.chain()),
        Rule::new().goto(&Reason::Malformed.chain()),
    ]
}

fn ipv4_sent() -> Vec<Rule> {
    vec![
        // From the port of a DHCP server.
        Rule::new()
            .carries(UDP)
            .is(Base::Transport, 0, &67u16.to_be_bytes())
            .goto(&Reason::DhcpServer.chain()),
        // Clients do not look at the port that an answer comes from.
        Rule::new()
            .carries(UDP)
            .is(Base::Transport, 2, &68u16.to_be_bytes())
            .goto(&Reason::DhcpServer.chain()),
    ]
}

fn ipv6() -> Vec<Rule> {
    // Packets that a station sends before it has an address (RFC 4861 section 4.1, RFC 4862 section 5.4.2, RFC 3590):
    // solicitations, and reports and ends of memberships.
    let unspecified = [131u8, 132, 133, 135, 143].map(|kind| {
        Rule::new()
            .carries(ICMPV6)
            .is(Base::Network, 8, &[0; 16])
            .is(Base::Transport, 0, &[kind])
            .back()
    });
    let mut rules = vec![
        network_field(Set::Ipv6, 8, 16).has_complete_headers().goto("ipv6-sent"),
        network_field(Set::Ranges6, 8, 16)
            .has_complete_headers()
            .goto("ipv6-sent"),
    ];
    rules.extend(unspecified);
    rules.push(Rule::new().has_complete_headers().goto(&Reason::SourceIpv6.chain()));
    rules.push(Rule::new().goto(&Reason::Malformed.chain()));
    rules
}

fn ipv6_sent() -> Vec<Rule> {
    vec![
        Rule::new().later_ipv6_fragment().back(),
        Rule::new().reaches_its_payload().goto("ipv6-payload"),
        // The headers end in another fragment (RFC 7113 section 2.2).
        Rule::new().goto(&Reason::Malformed.chain()),
    ]
}

fn ipv6_payload() -> Vec<Rule> {
    vec![
        Rule::new()
            .carries(UDP)
            .is(Base::Transport, 0, &547u16.to_be_bytes())
            .goto(&Reason::DhcpServer.chain()),
        Rule::new()
            .carries(UDP)
            .is(Base::Transport, 2, &546u16.to_be_bytes())
            .goto(&Reason::DhcpServer.chain()),
        Rule::new().carries(ICMPV6).goto("icmpv6"),
    ]
}

fn icmpv6() -> Vec<Rule> {
    let kind = |value: u8| Rule::new().is(Base::Transport, 0, &[value]);
    vec![
        kind(134).goto(&Reason::RouterAdvertisement.chain()),
        kind(137).goto(&Reason::Redirect.chain()),
        kind(135).goto("neighbour-option"),
        kind(136).goto("advertisement"),
    ]
}

fn advertisement() -> Vec<Rule> {
    let target = |set: Set| {
        let rule = Rule::new().link(0).load(Base::Transport, 8, 16, 1);
        rule.in_set(set.name()).goto("neighbour-option")
    };
    vec![
        target(Set::Ipv6),
        target(Set::Ranges6),
        Rule::new().goto(&Reason::NeighbourAdvertisement.chain()),
    ]
}

/// Solicitations and advertisements: a station believes the MAC address in their option more than the frame's (RFC 4861
/// sections 7.2.3 and 7.2.5). One with more options, or behind extension headers, has its option elsewhere.
fn neighbour_option() -> Vec<Rule> {
    let refuse = Reason::NeighbourOption.chain();
    // Payload length and next header of the IPv6 header: 24 octets, and 8 of one option.
    let (bare, with_option) = ([0, 24, ICMPV6], [0, 32, ICMPV6]);
    let mut rules = vec![
        Rule::new().is(Base::Network, 4, &bare).back(),
        Rule::new().differs(Base::Network, 4, &with_option).goto(&refuse),
    ];
    // Source and target link-layer address (RFC 4861 section 4.6.1).
    for option in [1, 2] {
        let of_kind = Rule::new().is(Base::Transport, 24, &[option]);
        let known = of_kind.clone().link(0).load(Base::Transport, 26, 6, 1);
        rules.push(known.in_set(Set::Macs.name()).back());
        rules.push(of_kind.goto(&refuse));
    }
    rules
}
