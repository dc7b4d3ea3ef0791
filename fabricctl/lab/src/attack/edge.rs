//! Attacks that differ between an interface on a host and an access port of a leaf: VLAN tags, link-local group
//! addresses, cut-off headers, the fabric's own MAC addresses, storms.

use anyhow::{Context, Result};
use vfabric_api::ident::Mac;

use super::cast::Cast;
use super::frame::{self, Ip, ethernet, kind, protocol, tagged};
use super::speech::{DISCARD, Liar, tunnel_for};
use super::volley::{Fate, Volley};
use crate::Target;

/// Broadcasts of a storm: more than an agent lets one workload send at once, and a leaf one access
/// port (2,000 at once, then 1,000 a second).
const STORM: usize = 4000;
/// Broadcasts of a storm on [`Target::Bmv2`], where frames are sent at 1,667 a second: the limit takes effect after the
/// first 5,000.
const SLOW_STORM: usize = 12_000;
/// Service tags that are in use besides the one of IEEE 802.1ad.
const OLD_SERVICE_TAGS: [u16; 2] = [0x9100, 0x9200];

/// Group addresses that no bridge forwards (IEEE 802.1Q table 8-1): spanning tree, pause, LACP,
/// port access, LLDP, and one without a use.
fn link_groups() -> [Mac; 6] {
    [0x00, 0x01, 0x02, 0x03, 0x0e, 0x0f].map(|last| Mac([0x01, 0x80, 0xc2, 0, 0, last]))
}

/// Frames with tags from an interface of a workload, which has no VLANs.
pub(super) fn workload_tags(liar: &Liar<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let (who, to) = (liar.who, liar.cast.neighbour(liar.who)?);
    let ip = Ip::new(who.v4, to.v4);
    let plain = |t: &[u8]| ethernet(to.mac, who.mac, kind::IPV4, &ip.udp(DISCARD, DISCARD, t));
    let here = liar.fate(&["vlan-tag"]);
    for vlan in [0, 1, 20, 4095] {
        liar.fire(volley, &here, |t| tagged(kind::VLAN, vlan, &plain(t)));
        liar.fire(volley, &here, |t| tagged(kind::SERVICE_VLAN, vlan, &plain(t)));
        liar.fire(volley, &here, |t| {
            tagged(kind::VLAN, vlan, &tagged(kind::VLAN, 20, &plain(t)))
        });
    }
    // Either the host's filter or the leaf refuses such a frame.
    let either = Fate::refused([who.filter("vlan-tag")?, who.leaf("inner_vlan")]);
    for tag in OLD_SERVICE_TAGS {
        liar.fire(volley, &either, |t| tagged(tag, 20, &plain(t)));
    }
    Ok(())
}

/// Frames with VLANs of others, and with more than one tag, on an access port.
pub(super) fn metal_tags(liar: &Liar<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let (who, to) = (liar.who, liar.cast.neighbour(liar.who)?);
    let ip = Ip::new(who.v4, to.v4);
    let plain = |t: &[u8]| ethernet(to.mac, who.mac, kind::IPV4, &ip.udp(DISCARD, DISCARD, t));
    let unknown = liar.fate(&["unknown_port"]);
    for vlan in [1, 20, 4095] {
        liar.fire(volley, &unknown, |t| tagged(kind::VLAN, vlan, &plain(t)));
        liar.fire(volley, &unknown, |t| {
            tagged(kind::VLAN, vlan, &tagged(kind::VLAN, 0, &plain(t)))
        });
    }
    let double = liar.fate(&["double_tag"]);
    for tag in [kind::VLAN, kind::SERVICE_VLAN].into_iter().chain(OLD_SERVICE_TAGS) {
        liar.fire(volley, &double, |t| tagged(kind::VLAN, 0, &tagged(tag, 20, &plain(t))));
    }
    for tag in [kind::SERVICE_VLAN].into_iter().chain(OLD_SERVICE_TAGS) {
        liar.fire(volley, &double, |t| tagged(tag, 20, &plain(t)));
    }
    Ok(())
}

/// Protocols of a link, which neighbours of the attacker must not receive: spanning tree, pause, LACP, LLDP.
pub(super) fn link_protocols(liar: &Liar<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let who = liar.who;
    let reserved = match who.endpoint.host {
        Some(_) => Fate::refused([who.filter("link-group")?]),
        None => liar.fate(&["reserved_mac"]),
    };
    for group in link_groups() {
        // Slow protocols, LLDP, and a length with LLC in front of a BPDU.
        for kind in [0x8809, kind::LLDP, 60] {
            liar.fire(volley, &reserved, |t| {
                ethernet(group, who.mac, kind, &[&[0x42, 0x42, 3][..], t].concat())
            });
        }
    }
    Ok(())
}

/// IP headers that are incomplete or contradict the frame.
fn broken(ip: Ip, token: &[u8]) -> Vec<Vec<u8>> {
    let whole = ip.udp(DISCARD, DISCARD, token);
    let changed = |changes: &[(usize, u8)]| {
        let mut packet = whole.clone();
        for (at, octet) in changes {
            if let Some(o) = packet.get_mut(*at) {
                *o = *octet;
            }
        }
        packet
    };
    if ip.from.is_ipv4() {
        // Wrong version; header shorter than the minimum; total length beyond the frame; total length shorter than the
        // header.
        vec![
            changed(&[(0, 0x55)]),
            changed(&[(0, 0x43)]),
            changed(&[(2, 0x20), (3, 0)]),
            changed(&[(2, 0), (3, 19)]),
        ]
    } else {
        // Wrong version; payload beyond the frame.
        vec![changed(&[(0, 0x50)]), changed(&[(4, 0x20), (5, 0)])]
    }
}

/// Broken headers, which a host's filter cannot read.
pub(super) fn workload_broken(liar: &Liar<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let fate = liar.fate(&["malformed"]);
    let (who, to) = (liar.who, liar.cast.neighbour(liar.who)?);
    for ip in [Ip::new(who.v4, to.v4), Ip::new(who.v6, to.v6)] {
        for variant in 0..broken(ip, &[]).len() {
            liar.fire(volley, &fate, |t| {
                let packet = broken(ip, t).swap_remove(variant);
                ethernet(to.mac, who.mac, ip.kind(), &packet)
            });
        }
    }
    let snap = liar.fate(&["snap"]);
    liar.fire(volley, &snap, |t| {
        let hidden = Ip::new(to.v4, to.v4).udp(DISCARD, DISCARD, t);
        let payload = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &hidden].concat();
        ethernet(to.mac, who.mac, u16::try_from(payload.len()).unwrap_or(64), &payload)
    });
    Ok(())
}

/// Frames that end in the middle of a header, on an access port: they have no room for a token.
pub(super) fn metal_broken(liar: &Liar<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let fate = liar.fate(&["malformed"]);
    let (who, to) = (liar.who, liar.cast.neighbour(liar.who)?);
    for ip in [Ip::new(who.v4, to.v4), Ip::new(who.v6, to.v6)] {
        for length in [15, 20, 33] {
            liar.fire(volley, &fate, |_| {
                let mut frame = ethernet(to.mac, who.mac, ip.kind(), &ip.udp(DISCARD, DISCARD, &[]));
                frame.truncate(length);
                frame
            });
        }
    }
    for length in [15, 30, 41] {
        liar.fire(volley, &fate, |_| {
            let message = frame::arp(1, (who.mac, who.v4), (to.mac, to.v4));
            let mut frame = ethernet(to.mac, who.mac, kind::ARP, &message);
            frame.truncate(length);
            frame
        });
    }
    Ok(())
}

/// Frames from a machine to the MAC addresses of the fabric's own routers, plain ones and tunnelled ones.
pub(super) fn metal_to_router(liar: &Liar<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let fate = liar.fate(&["fabric_mac"]);
    let (who, victim) = (liar.who, liar.cast.stranger(liar.who)?);
    for (router, ip) in routers(liar) {
        liar.fire(volley, &fate, |t| {
            ethernet(router, who.mac, ip.kind(), &tunnel_for(victim, ip, t))
        });
        liar.fire(volley, &fate, |t| {
            ethernet(router, who.mac, ip.kind(), &ip.udp(DISCARD, DISCARD, t))
        });
    }
    Ok(())
}

/// Tunnelled frames to these addresses from a workload. Nobody in its network has them, so the frames are flooded.
pub(super) fn workload_to_router(liar: &Liar<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let fate = liar.cast.flooded(liar.who);
    let (who, victim) = (liar.who, liar.cast.stranger(liar.who)?);
    for (router, ip) in routers(liar) {
        liar.fire(volley, &fate, |t| {
            ethernet(router, who.mac, ip.kind(), &tunnel_for(victim, ip, t))
        });
    }
    Ok(())
}

/// The router MAC address of each switch, with headers of packets from the liar to its loopback, IPv4 and IPv6.
fn routers(liar: &Liar<'_>) -> Vec<(Mac, Ip)> {
    let who = liar.who;
    let switches = liar.cast.cx.lab.topology.switches.iter();
    let both = switches.map(|s| {
        let (v4, v6) = (Ip::new(who.v4, s.loopback_ipv4), Ip::new(who.v6, s.loopback_ipv6));
        [(s.router_mac(), v4), (s.router_mac(), v6)]
    });
    both.flatten().collect()
}

/// UDP behind IPv4 options and IPv6 extension headers, first fragments, and SNAP: these could hide a DHCP server's
/// reply, or ARP, from the leaf.
pub(super) fn metal_hidden(liar: &Liar<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let fate = liar.fate(&["rogue_server"]);
    let (who, to) = (liar.who, liar.cast.neighbour(liar.who)?);
    let options = Ip {
        option_words: 1,
        ..Ip::new(who.v4, to.v4)
    };
    liar.fire(volley, &fate, |t| {
        ethernet(to.mac, who.mac, kind::IPV4, &options.udp(67, 68, t))
    });
    let first = Ip {
        fragment: 0x2000,
        ..Ip::new(who.v4, std::net::Ipv4Addr::BROADCAST)
    };
    liar.fire(volley, &fate, |t| {
        ethernet(frame::BROADCAST, who.mac, kind::IPV4, &first.udp(67, 68, t))
    });
    // Replies to a single station: one that is whole in the first IPv4 fragment, one behind IPv6 options, and one in an
    // IPv6 fragment.
    let first = Ip {
        fragment: 0x2000,
        ..Ip::new(who.v4, to.v4)
    };
    liar.fire(volley, &fate, |t| {
        ethernet(to.mac, who.mac, kind::IPV4, &first.udp(67, 68, t))
    });
    let ip = Ip::new(who.v6, to.v6);
    for (header, place) in [(protocol::DESTINATION_OPTIONS, [1, 4]), (protocol::FRAGMENT, [0, 1])] {
        liar.fire(volley, &fate, |t| {
            let head = [protocol::UDP, 0, place[0], place[1], 0, 0, 0, 0];
            let chain = [&head[..], &ip.datagram(547, 546, t)].concat();
            ethernet(to.mac, who.mac, kind::IPV6, &ip.packet(header, &chain))
        });
    }
    // ARP for another address behind SNAP (RFC 1042).
    liar.fire(volley, &fate, |t| {
        let poison = frame::arp(2, (who.mac, who.gateway4), (to.mac, to.v4));
        let payload = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 6][..], &poison, t].concat();
        ethernet(to.mac, who.mac, u16::try_from(payload.len()).unwrap_or(64), &payload)
    });
    Ok(())
}

/// Datagrams in overlapping fragments, from the right source: they are forwarded unchanged, and nothing on the path
/// reassembles them.
pub(super) fn fragments(liar: &Liar<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let (who, to) = (liar.who, liar.cast.neighbour(liar.who)?);
    let to = to.clone();
    let fate = Fate::Kept([to.endpoint.namespace.clone()].into());
    for place in [0x2000, 0x2001, 0x0001, 0x0002] {
        let ip = Ip {
            fragment: place,
            ..Ip::new(who.v4, to.v4)
        };
        liar.fire(volley, &fate, |t| {
            ethernet(
                to.mac,
                who.mac,
                kind::IPV4,
                &ip.packet(protocol::UDP, &[&[0; 8][..], t].concat()),
            )
        });
    }
    Ok(())
}

/// What a storm consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Storm {
    /// Broadcasts.
    Broadcast,
    /// Frames for a station that nobody knows: devices flood them.
    ToNobody,
}

/// A MAC address that nobody in the lab has: from a range that is not given to stations (RFC 7042 section 2.1.2), administered locally.
const NOBODY: Mac = Mac([0x02, 0x00, 0x5e, 0x00, 0x53, 0x99]);

/// More flooded frames than a workload or a machine may send. Only one sender in each vDC does it, so that there is
/// room for the legitimate traffic.
pub(super) fn storm(cast: &Cast<'_>, volley: &mut Volley<'_>, on_hosts: bool, storm: Storm) -> Result<()> {
    let frames = match cast.cx.lab.options.target {
        Target::P4Switch => STORM,
        Target::Bmv2 => SLOW_STORM,
    };
    for vdc in &cast.cx.lab.intent.vdcs {
        let mut of_vdc = Liar::all(cast, on_hosts).filter(|l| l.who.endpoint.vdc == vdc.name);
        let liar = of_vdc.next().context("a vDC without such a member")?;
        let who = liar.who;
        let limit = match (on_hosts, storm) {
            (true, Storm::Broadcast) => who.filter("flood")?,
            (true, Storm::ToNobody) => who.filter("unknown-unicast")?,
            (false, _) => who.leaf("flood_limit"),
        };
        // Hosts receive a frame for nobody, but do not pass it on to workloads.
        let network = match storm {
            Storm::Broadcast => cast.network(who),
            Storm::ToNobody => &cast.network(who) | &cast.hosts_beside(who),
        };
        let fate = Fate::Limited {
            network,
            by: [limit].into(),
        };
        let (to, ip) = match storm {
            Storm::Broadcast => (frame::BROADCAST, Ip::new(who.v4, std::net::Ipv4Addr::BROADCAST)),
            Storm::ToNobody => (NOBODY, Ip::new(who.v4, cast.neighbour(who)?.v4)),
        };
        for _ in 0..frames {
            volley.fire(&who.port, &fate, |t| {
                ethernet(to, who.mac, kind::IPV4, &ip.udp(DISCARD, DISCARD, t))
            });
        }
    }
    Ok(())
}
