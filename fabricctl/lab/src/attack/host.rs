//! A compromised host. It sends arbitrary frames on its uplink; its leaf trusts none of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use vfabric_api::ident::Mac;
use vfabric_api::topology::{Host, Switch};

use super::cast::{Cast, Member};
use super::frame::{self, Ip, VXLAN_PORT, ethernet, kind, protocol, tagged};
use super::speech::{DISCARD, NOBODY};
use super::volley::{Fate, Volley};
use super::watch::Port;
use crate::counters::Counter;
use crate::plan;

/// A VNI that the controller never allocates: the largest (24 bits).
const NO_VNI: u32 = 0xff_ffff;
/// Frames of each variant.
const COPIES: usize = 3;

/// A compromised host, and what it needs to lie well.
struct Intruder<'a> {
    cast: &'a Cast<'a>,
    host: &'a Host,
    leaf: &'a Switch,
    port: Port,
}

/// A UDP source port of tunnels.
const ENTROPY: u16 = 50_000;

impl<'a> Intruder<'a> {
    fn all(cast: &'a Cast<'a>) -> Result<Vec<Self>> {
        let hosts = cast.cx.lab.topology.hosts.iter();
        hosts
            .map(|host| {
                Ok(Self {
                    cast,
                    host,
                    leaf: cast.leaf_of(host)?,
                    port: Port::new(&plan::namespace(&host.name), "eth0"),
                })
            })
            .collect()
    }

    fn refused(&self, reason: &str) -> Fate {
        Fate::refused([Counter::switch(&self.leaf.name, reason)])
    }

    /// From the host's own addresses to an address of the same version.
    fn to(&self, to: IpAddr) -> Ip {
        match to {
            IpAddr::V4(to) => Ip::new(self.host.vtep_ipv4, to),
            IpAddr::V6(to) => Ip::new(self.host.vtep_ipv6, to),
        }
    }

    /// A packet to the leaf, which routes it.
    fn frame(&self, ip: Ip, packet: &[u8]) -> Vec<u8> {
        ethernet(self.leaf.router_mac(), self.host.mac, ip.kind(), packet)
    }

    /// A frame to the leaf with a tunnelled frame inside.
    fn tunnel(&self, ip: Ip, vni: u32, inner: &[u8]) -> Vec<u8> {
        self.frame(ip, &ip.udp(ENTROPY, VXLAN_PORT, &frame::vxlan(vni, inner)))
    }

    /// VTEPs of all leaves and of all other hosts.
    fn vteps(&self) -> Vec<IpAddr> {
        let lab = self.cast.cx.lab;
        let leaves = lab.leaves().map(|l| (l.loopback_ipv4, l.loopback_ipv6));
        let others = lab.topology.hosts.iter().filter(|h| h.name != self.host.name);
        let all = leaves.chain(others.map(|h| (h.vtep_ipv4, h.vtep_ipv6)));
        all.flat_map(|(v4, v6)| [IpAddr::V4(v4), IpAddr::V6(v6)]).collect()
    }

    /// A workload of this host, in whose network the host may send.
    fn own(&self) -> Result<&'a Member> {
        let mut here = self.cast.workloads();
        here.find(|m| m.endpoint.host.as_ref() == Some(&self.host.name))
            .with_context(|| format!("{} has no workload", self.host.name))
    }
}

/// To a victim, as if one of the victim's neighbours had sent it.
fn inner(victim: &Member, token: &[u8]) -> Vec<u8> {
    let packet = Ip::new(victim.gateway4, victim.v4).udp(DISCARD, DISCARD, token);
    ethernet(victim.mac, NOBODY, kind::IPV4, &packet)
}

/// In every network in which the host has no attachment, and in one that does not exist.
pub(super) fn foreign_vni(cast: &Cast<'_>, volley: &mut Volley<'_>) -> Result<()> {
    for i in Intruder::all(cast)? {
        let fate = Fate::refused([Counter::at(&i.leaf.name, &i.host.name, "host_vni")]);
        let mut victims: Vec<&Member> = cast.workloads().filter(|m| !cast.holds(i.host, m)).collect();
        victims.sort_by_key(|m| m.vni);
        victims.dedup_by_key(|m| m.vni);
        for to in i.vteps() {
            let ip = i.to(to);
            for victim in &victims {
                volley.fire(&i.port, &fate, |t| i.tunnel(ip, victim.vni, &inner(victim, t)));
            }
            let own = i.own()?;
            volley.fire(&i.port, &fate, |t| i.tunnel(ip, NO_VNI, &inner(own, t)));
            volley.fire(&i.port, &fate, |t| i.tunnel(ip, 0, &inner(own, t)));
        }
    }
    Ok(())
}

/// With the outer source address of every other device: tunnels, and an echo request.
pub(super) fn foreign_source(cast: &Cast<'_>, volley: &mut Volley<'_>) -> Result<()> {
    for i in Intruder::all(cast)? {
        let fate = i.refused("host_source");
        let own = i.own()?;
        let mine = [IpAddr::V4(i.host.vtep_ipv4), IpAddr::V6(i.host.vtep_ipv6)];
        let others = cast.underlay().into_iter();
        let nobody = (
            Ipv4Addr::new(198, 51, 100, 7),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7),
        );
        let sources = others
            .chain([nobody])
            .flat_map(|(v4, v6)| [IpAddr::V4(v4), IpAddr::V6(v6)]);
        for source in sources.filter(|s| !mine.contains(s)) {
            let leaf: IpAddr = match source {
                IpAddr::V4(_) => i.leaf.loopback_ipv4.into(),
                IpAddr::V6(_) => i.leaf.loopback_ipv6.into(),
            };
            let ip = Ip::new(source, leaf);
            volley.fire(&i.port, &fate, |t| i.tunnel(ip, own.vni, &inner(own, t)));
            let echo = if source.is_ipv4() { 8 } else { 128 };
            volley.fire(&i.port, &fate, |t| i.frame(ip, &ip.icmp(echo, 0, t)));
        }
    }
    Ok(())
}

/// Tunnels in one of its own networks that violate RFC 7348.
pub(super) fn odd_tunnel(cast: &Cast<'_>, volley: &mut Volley<'_>) -> Result<()> {
    for i in Intruder::all(cast)? {
        let own = i.own()?;
        for leaf in [IpAddr::V4(i.leaf.loopback_ipv4), IpAddr::V6(i.leaf.loopback_ipv6)] {
            let ip = i.to(leaf);
            // Where the UDP header begins in the packet.
            let udp = if leaf.is_ipv4() { 20 } else { 40 };
            let with = |t: &[u8], change: &dyn Fn(&mut [u8])| {
                let mut payload = frame::vxlan(own.vni, &inner(own, t));
                change(&mut payload);
                ip.udp(ENTROPY, VXLAN_PORT, &payload)
            };
            for _ in 0..COPIES {
                let reserved = i.refused("vxlan_reserved");
                for (at, octet) in [(0, 0x88), (0, 0x00), (0, 0x0c), (1, 1), (3, 1), (7, 1)] {
                    volley.fire(&i.port, &reserved, |t| {
                        let packet = with(t, &|v: &mut [u8]| {
                            v.iter_mut().skip(at).take(1).for_each(|o| *o = octet)
                        });
                        i.frame(ip, &packet)
                    });
                }
                let malformed = i.refused("malformed");
                // A checksum that is present but wrong; lengths of UDP and IP that differ from the frame's.
                let lengths: &[(usize, u8)] = if leaf.is_ipv4() {
                    &[(udp + 6, 0x55), (udp + 5, 8)]
                } else {
                    &[(udp + 6, 0x55), (udp + 5, 8), (5, 9)]
                };
                for (at, octet) in lengths {
                    volley.fire(&i.port, &malformed, |t| {
                        let mut packet = with(t, &|_| {});
                        packet.iter_mut().skip(*at).take(1).for_each(|o| *o ^= *octet);
                        i.frame(ip, &packet)
                    });
                }
                let group = i.refused("malformed");
                volley.fire(&i.port, &group, |t| {
                    let packet = Ip::new(own.v4, own.v4).udp(DISCARD, DISCARD, t);
                    let inner = ethernet(own.mac, frame::BROADCAST, kind::IPV4, &packet);
                    i.tunnel(ip, own.vni, &inner)
                });
            }
        }
    }
    Ok(())
}

/// Tags inside tunnels of one of its own networks.
pub(super) fn inner_tag(cast: &Cast<'_>, volley: &mut Volley<'_>) -> Result<()> {
    for i in Intruder::all(cast)? {
        let (own, fate) = (i.own()?, i.refused("inner_vlan"));
        for to in i.vteps() {
            let ip = i.to(to);
            for tag in [kind::VLAN, kind::SERVICE_VLAN, 0x9100, 0x9200] {
                volley.fire(&i.port, &fate, |t| {
                    i.tunnel(ip, own.vni, &tagged(tag, 20, &inner(own, t)))
                });
            }
        }
    }
    Ok(())
}

/// Ways to carry a tunnel past the leaf's check: fragments, options, extension headers.
pub(super) fn hidden_tunnel(cast: &Cast<'_>, volley: &mut Volley<'_>) -> Result<()> {
    for i in Intruder::all(cast)? {
        let (own, fate) = (i.own()?, i.refused("host_protocol"));
        for to in i.vteps() {
            let ip = i.to(to);
            let inside = |t: &[u8]| ip.datagram(ENTROPY, VXLAN_PORT, &frame::vxlan(own.vni, &inner(own, t)));
            if ip.from.is_ipv4() {
                for fragment in [0x2000, 0x0001, 0x2001] {
                    let part = Ip { fragment, ..ip };
                    volley.fire(&i.port, &fate, |t| i.frame(ip, &part.packet(protocol::UDP, &inside(t))));
                }
                let options = Ip { option_words: 1, ..ip };
                volley.fire(&i.port, &fate, |t| {
                    i.frame(ip, &options.packet(protocol::UDP, &inside(t)))
                });
            } else {
                for header in [protocol::FRAGMENT, protocol::DESTINATION_OPTIONS, 0, 43] {
                    // Next header, length 0: an options header with padding, or a fragment that is the whole packet.
                    let rest = if header == protocol::FRAGMENT {
                        [0; 6]
                    } else {
                        [1, 4, 0, 0, 0, 0]
                    };
                    volley.fire(&i.port, &refused_at_leaf(&i, to), |t| {
                        let chain = [&[protocol::UDP, 0][..], &rest, &inside(t)].concat();
                        i.frame(ip, &ip.packet(header, &chain))
                    });
                }
            }
        }
    }
    Ok(())
}

/// A leaf refuses packets to itself because of their protocol, and packets to others because hosts may not send them.
fn refused_at_leaf(i: &Intruder<'_>, to: IpAddr) -> Fate {
    let own = to == IpAddr::V4(i.leaf.loopback_ipv4) || to == IpAddr::V6(i.leaf.loopback_ipv6);
    let reasons: &[&str] = if own {
        &["local_protocol", "host_protocol"]
    } else {
        &["host_protocol"]
    };
    Fate::refused(reasons.iter().map(|r| Counter::switch(&i.leaf.name, r)))
}

/// ICMP errors about tunnels of others, with which a host could cut their path MTU (RFC 5927).
pub(super) fn icmp_errors(cast: &Cast<'_>, volley: &mut Volley<'_>) -> Result<()> {
    for i in Intruder::all(cast)? {
        for to in i.vteps() {
            let ip = i.to(to);
            // The packet that the error claims to be about: from the victim to another VTEP.
            let about = Ip::new(ip.to, ip.from).udp(ENTROPY, VXLAN_PORT, &[8, 0, 0, 0, 0, 0, 0, 0]);
            let (too_big, unreachable) = if to.is_ipv4() {
                ((3, 4), (3, 1))
            } else {
                ((2, 0), (1, 0))
            };
            for (message, code) in [too_big, unreachable] {
                volley.fire(&i.port, &refused_at_leaf(&i, to), |t| {
                    i.frame(
                        ip,
                        &ip.icmp(message, code, &[&[0, 0, 0x02, 0x40][..], &about, t].concat()),
                    )
                });
            }
        }
    }
    Ok(())
}

/// Anything else to other hosts, to switches, and to the management network.
pub(super) fn plain(cast: &Cast<'_>, volley: &mut Volley<'_>) -> Result<()> {
    for i in Intruder::all(cast)? {
        let spines = cast
            .underlay()
            .into_iter()
            .flat_map(|(v4, v6)| [IpAddr::V4(v4), IpAddr::V6(v6)]);
        let mine = [IpAddr::V4(i.host.vtep_ipv4), IpAddr::V6(i.host.vtep_ipv6)];
        let management = [IpAddr::V4(cast.cx.lab.plan.controller)];
        for to in spines.filter(|a| !mine.contains(a)).chain(management) {
            let (ip, fate) = (i.to(to), refused_at_leaf(&i, to));
            volley.fire(&i.port, &fate, |t| i.frame(ip, &ip.udp(DISCARD, DISCARD, t)));
            // TCP to P4Runtime, REST or SSH; the rest of the header does not matter.
            volley.fire(&i.port, &fate, |t| {
                i.frame(
                    ip,
                    &ip.packet(6, &[&[0x9c, 0x40, 0x25, 0x57][..], &[0; 16], t].concat()),
                )
            });
        }
    }
    Ok(())
}

/// Frames that are not for the leaf's router: to other stations, to all stations, and of the link's own protocols.
pub(super) fn not_for_leaf(cast: &Cast<'_>, volley: &mut Volley<'_>) -> Result<()> {
    for i in Intruder::all(cast)? {
        let (own, fate) = (i.own()?, i.refused("not_for_router"));
        let victim = cast.stranger(own)?;
        let nearest_bridge = Mac([0x01, 0x80, 0xc2, 0, 0, 0x0e]);
        let others = cast
            .cx
            .lab
            .topology
            .hosts
            .iter()
            .filter(|h| h.name != i.host.name)
            .map(|h| h.mac);
        let to: Vec<Mac> = others.chain([victim.mac, cast.gateway, frame::BROADCAST]).collect();
        let ip = Ip::new(i.host.vtep_ipv4, i.leaf.loopback_ipv4);
        for mac in to {
            volley.fire(&i.port, &fate, |t| {
                let packet = ip.udp(ENTROPY, VXLAN_PORT, &frame::vxlan(victim.vni, &inner(victim, t)));
                ethernet(mac, i.host.mac, kind::IPV4, &packet)
            });
            // "The leaf's address is at mine."
            let claim = frame::arp(2, (i.host.mac, i.leaf.loopback_ipv4), (mac, i.host.vtep_ipv4));
            volley.fire(&i.port, &fate, |t| {
                ethernet(mac, i.host.mac, kind::ARP, &[&claim[..], t].concat())
            });
        }
        volley.fire(&i.port, &fate, |t| ethernet(nearest_bridge, i.host.mac, kind::LLDP, t));
    }
    Ok(())
}

/// IPv4 addresses that hide in IPv6 headers (RFC 4291 section 2.5.5.2).
pub(super) fn mapped(cast: &Cast<'_>, volley: &mut Volley<'_>) -> Result<()> {
    for i in Intruder::all(cast)? {
        let (own, fate) = (i.own()?, i.refused("outer_address"));
        let mapped = |a: Ipv4Addr| a.to_ipv6_mapped();
        let pairs = [
            (mapped(i.host.vtep_ipv4), i.leaf.loopback_ipv6),
            (i.host.vtep_ipv6, mapped(i.leaf.loopback_ipv4)),
            (mapped(i.host.vtep_ipv4), mapped(i.leaf.loopback_ipv4)),
        ];
        for (from, to) in pairs {
            let ip = Ip::new(from, to);
            for _ in 0..COPIES {
                volley.fire(&i.port, &fate, |t| i.tunnel(ip, own.vni, &inner(own, t)));
            }
        }
    }
    Ok(())
}

/// Inside its own networks, a compromised host can claim any address; its frames stay in that vDC.
pub(super) fn forged_inside(cast: &Cast<'_>, volley: &mut Volley<'_>) -> Result<()> {
    for i in Intruder::all(cast)? {
        let own = i.own()?;
        let (neighbour, beyond) = (cast.neighbour(own)?, cast.beyond(own)?);
        let fate = Fate::Kept(cast.vdc(&own.endpoint.vdc));
        let leaf = i.to(i.leaf.loopback_ipv4.into());
        for _ in 0..COPIES {
            // As the neighbour, and as the gateway, to a machine that the leaf bridges to.
            for source in [neighbour.mac, cast.gateway, NOBODY] {
                volley.fire(&i.port, &fate, |t| {
                    let packet = Ip::new(neighbour.v4, own.v4).udp(DISCARD, DISCARD, t);
                    i.tunnel(leaf, own.vni, &ethernet(frame::BROADCAST, source, kind::IPV4, &packet))
                });
            }
            // Routed by the leaf, from somebody else's address.
            volley.fire(&i.port, &fate, |t| {
                let packet = Ip::new(neighbour.v4, beyond.v4).udp(DISCARD, DISCARD, t);
                i.tunnel(leaf, own.vni, &ethernet(cast.gateway, own.mac, kind::IPV4, &packet))
            });
        }
        let martian = i.refused("martian");
        for source in [
            Ipv4Addr::LOCALHOST,
            Ipv4Addr::UNSPECIFIED,
            Ipv4Addr::new(224, 0, 0, 1),
            Ipv4Addr::BROADCAST,
        ] {
            volley.fire(&i.port, &martian, |t| {
                let packet = Ip::new(source, beyond.v4).udp(DISCARD, DISCARD, t);
                i.tunnel(leaf, own.vni, &ethernet(cast.gateway, own.mac, kind::IPV4, &packet))
            });
        }
    }
    Ok(())
}
