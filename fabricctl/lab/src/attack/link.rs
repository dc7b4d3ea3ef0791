//! An attacker on a link between switches, or a compromised switch. Fabric ports trust what is inside the tunnels of
//! the switch at the other end; they trust nothing else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result};
use vfabric_api::ident::Mac;
use vfabric_api::topology::{Role, Switch};

use super::cast::Cast;
use super::frame::{self, Ip, VXLAN_PORT, ethernet, kind, tagged};
use super::speech::{DISCARD, NOBODY};
use super::volley::{Fate, Volley};
use super::watch::Port;
use crate::counters::Counter;

/// A VNI that the controller never allocates.
const NO_VNI: u32 = 0xff_ffff;
/// Frames of each variant.
const COPIES: usize = 3;
/// Group address of LLDP (IEEE 802.1AB table 7-1).
const NEAREST_BRIDGE: Mac = Mac([0x01, 0x80, 0xc2, 0, 0, 0x0e]);

fn refused(switch: &Switch, reasons: &[&str]) -> Fate {
    Fate::refused(reasons.iter().map(|r| Counter::switch(&switch.name, r)))
}

/// A packet for the switch at the other end of a link.
fn to_switch(switch: &Switch, ip: Ip, packet: &[u8]) -> Vec<u8> {
    ethernet(switch.router_mac(), NOBODY, ip.kind(), packet)
}

/// Some copies of each frame that `each` makes, for both directions of every link.
fn every(cast: &Cast<'_>, mut each: impl FnMut(&Port, &Switch) -> Result<()>) -> Result<()> {
    for (port, switch) in cast.links()? {
        for _ in 0..COPIES {
            each(&port, switch)?;
        }
    }
    Ok(())
}

fn loopbacks(switch: &Switch) -> [IpAddr; 2] {
    [switch.loopback_ipv4.into(), switch.loopback_ipv6.into()]
}

/// From an address of the underlay that is of the same version.
fn from_host(cast: &Cast<'_>, to: IpAddr) -> Result<Ip> {
    let host = cast.cx.lab.topology.hosts.first().context("the topology has no host")?;
    Ok(match to {
        IpAddr::V4(to) => Ip::new(host.vtep_ipv4, to),
        IpAddr::V6(to) => Ip::new(host.vtep_ipv6, to),
    })
}

/// Probes that name a link that does not exist. Only the controller can sign probes.
pub(super) fn lldp(cast: &Cast<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let switches = &cast.cx.lab.topology.switches;
    every(cast, |port, switch| {
        let fate = Fate::Punted(switch.name.to_string());
        for named in switches {
            volley.fire(port, &fate, |t| {
                let name = named.name.as_str().as_bytes();
                let tlv = |kind: u8, value: &[u8]| {
                    let length = u8::try_from(value.len()).unwrap_or(0);
                    [&[kind << 1, length][..], value].concat()
                };
                let pdu = [
                    tlv(1, &[&[7], name].concat()),
                    tlv(2, b"\x071"),
                    tlv(3, &[0, 3]),
                    // The controller's own TLV, with a signature of zeros; then the end.
                    tlv(127, &[&[0x02, 0xfa, 0xb0, 1][..], &[0xff; 8], &[0; 32]].concat()),
                    vec![0, 0],
                    t.to_vec(),
                ];
                ethernet(NEAREST_BRIDGE, switch.router_mac(), kind::LLDP, &pdu.concat())
            });
        }
        Ok(())
    })
}

/// Frames that are not for the switch: to others, to all, and ARP claims.
pub(super) fn not_for_switch(cast: &Cast<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let victim = cast.members.first().context("the intent has no attachment")?;
    every(cast, |port, switch| {
        let fate = refused(switch, &["not_for_router"]);
        let ip = from_host(cast, switch.loopback_ipv4.into())?;
        for mac in [victim.mac, cast.gateway, frame::BROADCAST, NOBODY] {
            volley.fire(port, &fate, |t| {
                let inner = Ip::new(victim.gateway4, victim.v4).udp(DISCARD, DISCARD, t);
                ethernet(mac, NOBODY, kind::IPV4, &inner)
            });
            let claim = frame::arp(2, (NOBODY, switch.loopback_ipv4), (mac, Ipv4Addr::UNSPECIFIED));
            volley.fire(port, &fate, |t| {
                ethernet(mac, NOBODY, kind::ARP, &[&claim[..], t].concat())
            });
            volley.fire(port, &fate, |t| {
                ethernet(mac, NOBODY, kind::IPV4, &ip.udp(50_000, VXLAN_PORT, t))
            });
        }
        Ok(())
    })
}

/// Tags on links that have none.
pub(super) fn tags(cast: &Cast<'_>, volley: &mut Volley<'_>) -> Result<()> {
    every(cast, |port, switch| {
        let ip = from_host(cast, switch.loopback_ipv4.into())?;
        let fate = refused(switch, &["unknown_port", "not_for_router", "double_tag"]);
        for tag in [kind::VLAN, kind::SERVICE_VLAN] {
            volley.fire(port, &fate, |t| {
                tagged(tag, 20, &to_switch(switch, ip, &ip.udp(50_000, VXLAN_PORT, t)))
            });
        }
        Ok(())
    })
}

/// To the switch itself, which answers only echo requests.
pub(super) fn to_the_switch(cast: &Cast<'_>, volley: &mut Volley<'_>) -> Result<()> {
    every(cast, |port, switch| {
        let fate = refused(switch, &["local_protocol"]);
        for to in loopbacks(switch) {
            let ip = from_host(cast, to)?;
            volley.fire(port, &fate, |t| to_switch(switch, ip, &ip.udp(DISCARD, 9559, t)));
            let (error, code) = if to.is_ipv4() { (3, 4) } else { (2, 0) };
            volley.fire(port, &fate, |t| {
                to_switch(switch, ip, &ip.icmp(error, code, &[&[0, 0, 2, 0x40][..], t].concat()))
            });
        }
        Ok(())
    })
}

/// To addresses that the underlay does not have, including those of tenants and of the management network.
pub(super) fn nowhere(cast: &Cast<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let victim = cast.members.first().context("the intent has no attachment")?;
    let to: [IpAddr; 4] = [
        victim.v4.into(),
        victim.v6.into(),
        cast.cx.lab.plan.controller.into(),
        Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 7).into(),
    ];
    every(cast, |port, switch| {
        let fate = refused(switch, &["no_underlay_route"]);
        for to in to {
            let ip = from_host(cast, to)?;
            volley.fire(port, &fate, |t| to_switch(switch, ip, &ip.udp(DISCARD, DISCARD, t)));
        }
        Ok(())
    })
}

/// With a TTL that is used up.
pub(super) fn ttl(cast: &Cast<'_>, volley: &mut Volley<'_>) -> Result<()> {
    every(cast, |port, switch| {
        let fate = refused(switch, &["ttl_expired"]);
        let other = cast.underlay().into_iter().find(|(v4, _)| *v4 != switch.loopback_ipv4);
        let (v4, v6) = other.context("the topology has one device only")?;
        for to in [IpAddr::V4(v4), IpAddr::V6(v6)] {
            let ip = from_host(cast, to)?;
            for ttl in [0, 1] {
                volley.fire(port, &fate, |t| {
                    to_switch(switch, ip, &ip.ttl(ttl).udp(DISCARD, DISCARD, t))
                });
            }
        }
        Ok(())
    })
}

/// Headers that contradict themselves, and IPv4 addresses hidden in IPv6.
pub(super) fn malformed(cast: &Cast<'_>, volley: &mut Volley<'_>) -> Result<()> {
    every(cast, |port, switch| {
        let ip = from_host(cast, switch.loopback_ipv4.into())?;
        let wrong = refused(switch, &["malformed"]);
        volley.fire(port, &wrong, |t| {
            let mut packet = ip.udp(50_000, VXLAN_PORT, t);
            packet.iter_mut().skip(10).take(1).for_each(|o| *o ^= 0x55);
            to_switch(switch, ip, &packet)
        });
        let mapped = refused(switch, &["outer_address"]);
        let mapped_ip = Ip::new(
            switch.loopback_ipv4.to_ipv6_mapped(),
            switch.loopback_ipv4.to_ipv6_mapped(),
        );
        volley.fire(port, &mapped, |t| {
            to_switch(switch, mapped_ip, &mapped_ip.udp(DISCARD, DISCARD, t))
        });
        Ok(())
    })
}

/// Tunnels to a leaf: in networks that it does not have, with tags inside, from a group address.
pub(super) fn tunnels(cast: &Cast<'_>, volley: &mut Volley<'_>) -> Result<()> {
    let victim = cast.members.first().context("the intent has no attachment")?;
    every(cast, |port, switch| {
        if switch.role != Role::Leaf {
            return Ok(());
        }
        for to in loopbacks(switch) {
            let ip = from_host(cast, to)?;
            let inner = |source: Mac, t: &[u8]| {
                let packet = Ip::new(victim.gateway4, victim.v4).udp(DISCARD, DISCARD, t);
                ethernet(victim.mac, source, kind::IPV4, &packet)
            };
            let tunnel =
                |vni: u32, inner: &[u8]| to_switch(switch, ip, &ip.udp(50_000, VXLAN_PORT, &frame::vxlan(vni, inner)));
            let unknown = refused(switch, &["unknown_vni"]);
            volley.fire(port, &unknown, |t| tunnel(NO_VNI, &inner(NOBODY, t)));
            volley.fire(port, &unknown, |t| tunnel(0, &inner(NOBODY, t)));
            let tag = refused(switch, &["inner_vlan"]);
            volley.fire(port, &tag, |t| {
                tunnel(victim.vni, &tagged(kind::VLAN, 20, &inner(NOBODY, t)))
            });
            let group = refused(switch, &["malformed"]);
            volley.fire(port, &group, |t| tunnel(victim.vni, &inner(frame::BROADCAST, t)));
        }
        Ok(())
    })
}

/// A tunnelled frame for somebody behind another leaf: a loop, if it were bridged back.
pub(super) fn bridged_back(cast: &Cast<'_>, volley: &mut Volley<'_>) -> Result<()> {
    every(cast, |port, switch| {
        if switch.role != Role::Leaf {
            return Ok(());
        }
        let ip = from_host(cast, switch.loopback_ipv4.into())?;
        let fate = refused(switch, &["split_horizon"]);
        // In a network that this leaf has, too.
        let here = |vni: u32| {
            cast.members
                .iter()
                .any(|m| m.vni == vni && m.endpoint.leaf == switch.name)
        };
        let mut far = cast.workloads().filter(|m| m.endpoint.leaf != switch.name);
        let victim = far
            .find(|m| here(m.vni))
            .context("no network has members under two leaves")?;
        volley.fire(port, &fate, |t| {
            let packet = Ip::new(victim.gateway4, victim.v4).udp(DISCARD, DISCARD, t);
            let inner = ethernet(victim.mac, NOBODY, kind::IPV4, &packet);
            to_switch(
                switch,
                ip,
                &ip.udp(50_000, VXLAN_PORT, &frame::vxlan(victim.vni, &inner)),
            )
        });
        Ok(())
    })
}
