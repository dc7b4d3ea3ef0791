//! Frames that a workload or machine must not send, wherever it is attached. The same frames are sent from an interface
//! on a host, whose filter refuses them, and from an access port, whose leaf refuses them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use vfabric_api::ident::Mac;

use super::cast::{Cast, Member};
use super::frame::{self, Ip, ethernet, kind, protocol};
use super::volley::{Fate, Volley};
use crate::counters::Counter;

/// A MAC address that nobody has.
pub(super) const NOBODY: Mac = Mac([0x02, 0, 0, 0, 0xba, 0xd0]);
/// All nodes of a link (RFC 4291 section 2.7.1), and its MAC address (RFC 2464 section 7).
pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// See [`ALL_NODES`].
pub(super) const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);
/// UDP port of the frames: discard (RFC 863).
pub(super) const DISCARD: u16 = 9;
/// Frames of each variant: enough to distinguish a counter that moves once from one that counts each frame.
const COPIES: usize = 3;

/// The reasons for which a place refuses each kind of lie.
pub(super) struct Refusal {
    pub(super) mac: &'static [&'static str],
    pub(super) ipv4: &'static [&'static str],
    pub(super) ipv6: &'static [&'static str],
    pub(super) arp: &'static [&'static str],
    pub(super) nd: &'static [&'static str],
    pub(super) router: &'static [&'static str],
    pub(super) dhcp: &'static [&'static str],
}

/// The filter of a host (`vtep-agent`, `docs/vtep-agent.md`).
pub(super) const HOST: Refusal = Refusal {
    mac: &["source-mac"],
    ipv4: &["source-ipv4"],
    ipv6: &["source-ipv6"],
    arp: &["arp-sender"],
    nd: &["neighbour-advertisement", "neighbour-option", "source-ipv6"],
    router: &["router-advertisement", "redirect", "malformed", "source-ipv6"],
    dhcp: &["dhcp-server"],
};

/// The source guard of a leaf (`p4/fabric/control/source_guard.p4`).
pub(super) const LEAF: Refusal = Refusal {
    mac: &["source_mac"],
    ipv4: &["source_ip"],
    ipv6: &["source_ip"],
    arp: &["source_neighbour", "source_ip"],
    nd: &["source_neighbour", "source_ip"],
    router: &["rogue_server"],
    dhcp: &["rogue_server"],
};

/// A liar, with the device that refuses its lies and the reasons.
pub(super) struct Liar<'a> {
    pub(super) cast: &'a Cast<'a>,
    pub(super) who: &'a Member,
    pub(super) refusal: &'static Refusal,
}

impl<'a> Liar<'a> {
    /// All members on hosts, or all members on access ports.
    pub(super) fn all(cast: &'a Cast<'a>, on_hosts: bool) -> impl Iterator<Item = Self> {
        let refusal = if on_hosts { &HOST } else { &LEAF };
        let who = cast
            .members
            .iter()
            .filter(move |m| m.endpoint.host.is_some() == on_hosts);
        who.map(move |who| Self { cast, who, refusal })
    }

    /// A member on an access port.
    pub(super) fn on_port(cast: &'a Cast<'a>, who: &'a Member) -> Self {
        Self {
            cast,
            who,
            refusal: &LEAF,
        }
    }

    fn counters(&self, reasons: &[&str]) -> Vec<Counter> {
        let place = |reason: &&str| match &self.who.endpoint.host {
            Some(host) => Counter::at(host, &self.who.endpoint.id, reason),
            None => self.who.leaf(reason),
        };
        reasons.iter().map(place).collect()
    }

    pub(super) fn fate(&self, reasons: &[&str]) -> Fate {
        Fate::refused(self.counters(reasons))
    }

    /// Some copies of a frame with one fate.
    pub(super) fn fire(&self, volley: &mut Volley<'_>, fate: &Fate, build: impl Fn(&[u8]) -> Vec<u8>) {
        for _ in 0..COPIES {
            volley.fire(&self.who.port, fate, |token| build(token));
        }
    }

    /// MAC addresses that are not the speaker's: a neighbour's, a stranger's, the gateway's, nobody's.
    fn others(&self) -> Result<[Mac; 4]> {
        Ok([
            self.cast.neighbour(self.who)?.mac,
            self.cast.stranger(self.who)?.mac,
            self.cast.gateway,
            NOBODY,
        ])
    }
}

/// A frame from another MAC address: with IP, ARP, and a protocol that nobody looks into.
pub(super) fn mac(liar: &Liar<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let fate = liar.fate(liar.refusal.mac);
    let (who, to) = (liar.who, liar.cast.neighbour(liar.who)?);
    let ip = Ip::new(who.v4, to.v4);
    for source in liar.others()? {
        for destination in [to.mac, frame::BROADCAST, liar.cast.gateway] {
            liar.fire(volley, &fate, |t| {
                ethernet(destination, source, kind::IPV4, &ip.udp(DISCARD, DISCARD, t))
            });
            // EtherType for local experiments (IEEE 802).
            liar.fire(volley, &fate, |t| ethernet(destination, source, 0x88b5, t));
        }
    }
    Ok(())
}

/// From addresses that no station can have: groups, and the null address.
pub(super) fn impossible_mac(liar: &Liar<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let fate = match liar.who.endpoint.host {
        Some(_) => liar.fate(&["source-mac"]),
        None => liar.fate(&["malformed", "source_mac"]),
    };
    let (who, to) = (liar.who, liar.cast.neighbour(liar.who)?);
    let ip = Ip::new(who.v4, to.v4);
    for source in [frame::BROADCAST, ALL_NODES_MAC, Mac([1, 0, 0x5e, 0, 0, 1]), Mac([0; 6])] {
        liar.fire(volley, &fate, |t| {
            ethernet(to.mac, source, kind::IPV4, &ip.udp(DISCARD, DISCARD, t))
        });
    }
    Ok(())
}

/// From an IPv4 address that is not the speaker's, to everybody; martians among them.
pub(super) fn ipv4(liar: &Liar<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let fate = liar.fate(liar.refusal.ipv4);
    let (who, to) = (liar.who, liar.cast.neighbour(liar.who)?);
    let sources = [
        to.v4,
        who.gateway4,
        liar.cast.beyond(who)?.v4,
        Ipv4Addr::new(198, 51, 100, 7),
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::BROADCAST,
        Ipv4Addr::new(169, 254, 1, 1),
        Ipv4Addr::new(224, 0, 0, 1),
        Ipv4Addr::new(240, 0, 0, 1),
    ];
    for source in sources {
        for destination in [to.mac, liar.cast.gateway, frame::BROADCAST] {
            let ip = Ip::new(source, to.v4);
            liar.fire(volley, &fate, |t| {
                ethernet(destination, who.mac, kind::IPV4, &ip.udp(DISCARD, DISCARD, t))
            });
        }
        // The second half of a datagram has no other header than this one.
        let later = Ip {
            fragment: 100,
            ..Ip::new(source, to.v4)
        };
        liar.fire(volley, &fate, |t| {
            ethernet(to.mac, who.mac, kind::IPV4, &later.packet(protocol::UDP, t))
        });
    }
    Ok(())
}

/// As [`ipv4`], with IPv6 addresses.
pub(super) fn ipv6(liar: &Liar<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let fate = liar.fate(liar.refusal.ipv6);
    let (who, to) = (liar.who, liar.cast.neighbour(liar.who)?);
    let sources = [
        to.v6,
        to.link_local,
        who.gateway6,
        liar.cast.beyond(who)?.v6,
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7),
        Ipv6Addr::UNSPECIFIED,
        Ipv6Addr::LOCALHOST,
        ALL_NODES,
        who.v4.to_ipv6_mapped(),
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
    ];
    for source in sources {
        for destination in [to.mac, liar.cast.gateway] {
            let ip = Ip::new(source, to.v6);
            liar.fire(volley, &fate, |t| {
                ethernet(destination, who.mac, kind::IPV6, &ip.udp(DISCARD, DISCARD, t))
            });
        }
    }
    Ok(())
}

/// ARP that claims somebody else's address, or that is not what ARP for IPv4 looks like.
pub(super) fn arp(liar: &Liar<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let fate = liar.fate(liar.refusal.arp);
    let (who, to) = (liar.who, liar.cast.neighbour(liar.who)?);
    let nobody = Mac([0; 6]);
    let mut all = Vec::new();
    for claimed in [who.gateway4, to.v4, Ipv4Addr::new(198, 51, 100, 7)] {
        all.push(frame::arp(1, (who.mac, claimed), (nobody, to.v4)));
        all.push(frame::arp(2, (who.mac, claimed), (to.mac, to.v4)));
        // Gratuitous: sender and target are one (RFC 5944 section 4.6).
        all.push(frame::arp(1, (who.mac, claimed), (nobody, claimed)));
        all.push(frame::arp(2, (who.mac, claimed), (nobody, claimed)));
    }
    for mac in liar.others()? {
        all.push(frame::arp(1, (mac, who.v4), (nobody, to.v4)));
        all.push(frame::arp(2, (mac, who.v4), (to.mac, to.v4)));
    }
    // Another kind of hardware, of protocol, and other lengths of addresses.
    for (at, octet) in [(1, 6u8), (2, 0x86), (4, 8), (5, 16)] {
        let mut odd = frame::arp(2, (who.mac, to.v4), (to.mac, to.v4));
        if let Some(o) = odd.get_mut(at) {
            *o = octet;
        }
        all.push(odd);
    }
    for message in all {
        for destination in [frame::BROADCAST, to.mac] {
            liar.fire(volley, &fate, |t| {
                ethernet(destination, who.mac, kind::ARP, &[&message[..], t].concat())
            });
        }
    }
    Ok(())
}

/// Neighbour discovery that claims somebody else's address.
pub(super) fn nd(liar: &Liar<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let fate = liar.fate(liar.refusal.nd);
    let (who, to) = (liar.who, liar.cast.neighbour(liar.who)?);
    let mut all = Vec::new();
    for target in [who.gateway6, to.v6, to.link_local] {
        for destination in [ALL_NODES, to.v6] {
            // From the speaker's own address, and from the claimed one.
            all.push(frame::advertisement(Ip::new(who.v6, destination), target, who.mac));
            all.push(frame::advertisement(Ip::new(target, destination), target, who.mac));
        }
        // A solicitation tells the asker's addresses, too.
        all.push(frame::solicitation(Ip::new(target, to.v6), to.v6, who.mac));
    }
    // The own address at somebody else's MAC address.
    for mac in liar.others()? {
        let ip = Ip::new(who.v6, to.v6);
        all.push(frame::advertisement(ip, who.v6, mac));
        all.push(frame::solicitation(ip, to.v6, mac));
    }
    for message in all {
        liar.fire(volley, &fate, |t| {
            ethernet(ALL_NODES_MAC, who.mac, kind::IPV6, &[&message[..], t].concat())
        });
    }
    Ok(())
}

/// Router advertisements and redirects, plain and behind extension headers (RFC 7113).
pub(super) fn router(liar: &Liar<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let fate = liar.fate(liar.refusal.router);
    let (who, to) = (liar.who, liar.cast.neighbour(liar.who)?);
    let mut all = Vec::new();
    for source in [who.link_local, who.v6] {
        let ip = Ip::new(source, ALL_NODES);
        all.push(frame::router_advertisement(ip, who.mac));
        all.push(frame::redirect(ip, who.v6, to.v6));
        let advertisement = frame::router_advertisement(ip, who.mac);
        let message = advertisement.get(40..).unwrap_or_default();
        // Padding of six octets; a fragment that is the whole packet.
        let padding = [&[protocol::ICMPV6, 0, 1, 4, 0, 0, 0, 0][..], message].concat();
        all.push(ip.ttl(255).packet(protocol::DESTINATION_OPTIONS, &padding));
        all.push(ip.ttl(255).packet(0, &padding));
        let whole = [&[protocol::ICMPV6, 0, 0, 0, 0, 0, 0, 9][..], message].concat();
        all.push(ip.ttl(255).packet(protocol::FRAGMENT, &whole));
    }
    // Frames that pretend to be from the gateway itself.
    all.push(frame::router_advertisement(Ip::new(who.gateway6, ALL_NODES), who.mac));
    for message in all {
        liar.fire(volley, &fate, |t| {
            ethernet(ALL_NODES_MAC, who.mac, kind::IPV6, &[&message[..], t].concat())
        });
    }
    Ok(())
}

/// Offers of a DHCP server, IPv4 and IPv6; from other ports, too.
pub(super) fn dhcp(liar: &Liar<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let fate = liar.fate(liar.refusal.dhcp);
    let (who, to) = (liar.who, liar.cast.neighbour(liar.who)?);
    let offers: [(IpAddr, IpAddr, u16, u16, Mac); 6] = [
        (who.v4.into(), Ipv4Addr::BROADCAST.into(), 67, 68, frame::BROADCAST),
        (who.v4.into(), to.v4.into(), 67, 68, to.mac),
        (who.link_local.into(), to.link_local.into(), 547, 546, to.mac),
        (who.v6.into(), to.v6.into(), 547, 546, to.mac),
        // Clients do not look at the port that an answer comes from.
        (who.v4.into(), to.v4.into(), 1067, 68, to.mac),
        (who.v6.into(), to.v6.into(), 1547, 546, to.mac),
    ];
    for (from, destination, sport, dport, mac) in offers {
        let ip = Ip::new(from, destination);
        liar.fire(volley, &fate, |t| {
            ethernet(mac, who.mac, ip.kind(), &ip.udp(sport, dport, t))
        });
    }
    Ok(())
}

/// From the right source, through the gateway, to addresses that nobody has: the leaf refuses them.
pub(super) fn martian_destination(liar: &Liar<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let fate = Fate::refused([liar.who.leaf("martian")]);
    let who = liar.who;
    let v4 = [
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::new(0, 0, 0, 1),
        Ipv4Addr::new(169, 254, 1, 1),
        Ipv4Addr::new(224, 0, 0, 5),
        Ipv4Addr::new(240, 0, 0, 1),
        Ipv4Addr::BROADCAST,
    ];
    let v6 = [
        Ipv6Addr::UNSPECIFIED,
        Ipv6Addr::LOCALHOST,
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
        Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 5),
        who.v4.to_ipv6_mapped(),
    ];
    let all = v4.map(|to| Ip::new(who.v4, to)).into_iter();
    for ip in all.chain(v6.map(|to| Ip::new(who.v6, to))) {
        liar.fire(volley, &fate, |t| {
            ethernet(liar.cast.gateway, who.mac, ip.kind(), &ip.udp(DISCARD, DISCARD, t))
        });
    }
    Ok(())
}

/// Packets that a gateway does not answer: anything but an unfragmented echo request.
pub(super) fn to_gateway(liar: &Liar<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let fate = Fate::refused([liar.who.leaf("gateway_protocol")]);
    let who = liar.who;
    for ip in [Ip::new(who.v4, who.gateway4), Ip::new(who.v6, who.gateway6)] {
        let mut all: Vec<Box<dyn Fn(&[u8]) -> Vec<u8>>> = vec![
            Box::new(move |t| ip.udp(DISCARD, 179, t)),
            Box::new(move |t| ip.packet(6, &[&[0, 9, 0, 22][..], &[0; 16], t].concat())),
        ];
        if ip.from.is_ipv4() {
            let first = Ip { fragment: 0x2000, ..ip };
            all.push(Box::new(move |t| first.icmp(8, 0, &[&[0, 1, 0, 1][..], t].concat())));
            // "Fragmentation needed" about somebody's packet.
            all.push(Box::new(move |t| ip.icmp(3, 4, &[&[0, 0, 0x02, 0x40][..], t].concat())));
        } else {
            all.push(Box::new(move |t| ip.icmp(2, 0, &[&[0, 0, 0x05, 0][..], t].concat())));
        }
        for packet in all {
            liar.fire(volley, &fate, |t| {
                ethernet(liar.cast.gateway, who.mac, ip.kind(), &packet(t))
            });
        }
    }
    Ok(())
}

/// Through the gateway with a TTL that is used up.
pub(super) fn ttl(liar: &Liar<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let fate = Fate::refused([liar.who.leaf("ttl_expired")]);
    let (who, to) = (liar.who, liar.cast.beyond(liar.who)?);
    for ip in [Ip::new(who.v4, to.v4), Ip::new(who.v6, to.v6)] {
        for ttl in [0, 1] {
            liar.fire(volley, &fate, |t| {
                let packet = ip.ttl(ttl).udp(DISCARD, DISCARD, t);
                ethernet(liar.cast.gateway, who.mac, ip.kind(), &packet)
            });
        }
    }
    Ok(())
}

/// VXLAN with the VNI of a stranger's network, through the gateway to every VTEP of the fabric.
pub(super) fn own_tunnel(liar: &Liar<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let fate = Fate::refused([liar.who.leaf("no_route")]);
    let (who, victim) = (liar.who, liar.cast.stranger(liar.who)?);
    for (v4, v6) in liar.cast.underlay() {
        for ip in [Ip::new(who.v4, v4), Ip::new(who.v6, v6)] {
            volley.fire(&who.port, &fate, |t| {
                ethernet(liar.cast.gateway, who.mac, ip.kind(), &tunnel_for(victim, ip, t))
            });
        }
    }
    Ok(())
}

/// A packet that would reach the victim if its outer header were believed.
pub(super) fn tunnel_for(victim: &Member, ip: Ip, token: &[u8]) -> Vec<u8> {
    let inner = Ip::new(victim.gateway4, victim.v4).udp(DISCARD, DISCARD, token);
    let inner = ethernet(victim.mac, NOBODY, kind::IPV4, &inner);
    ip.udp(50_000, frame::VXLAN_PORT, &frame::vxlan(victim.vni, &inner))
}

/// To the MAC address of a stranger, and to addresses that only others have.
pub(super) fn strangers(liar: &Liar<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let kept = liar.cast.flooded(liar.who);
    let (who, victim) = (liar.who, liar.cast.stranger(liar.who)?);
    for ip in [Ip::new(who.v4, victim.v4), Ip::new(who.v6, victim.v6)] {
        liar.fire(volley, &kept, |t| {
            ethernet(victim.mac, who.mac, ip.kind(), &ip.udp(DISCARD, DISCARD, t))
        });
    }
    let nowhere = Fate::refused([who.leaf("no_route")]);
    let elsewhere = [
        Ip::new(who.v4, Ipv4Addr::new(198, 51, 100, 7)),
        Ip::new(who.v6, Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7)),
    ];
    for ip in elsewhere {
        liar.fire(volley, &nowhere, |t| {
            ethernet(liar.cast.gateway, who.mac, ip.kind(), &ip.udp(DISCARD, DISCARD, t))
        });
    }
    Ok(())
}
