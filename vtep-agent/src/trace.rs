//! `vtep-agent trace`: the path of one packet through this host, as text.
//!
//! **Model.** A pure function over what the host holds: the workload's addresses and routes, the filter's rules, the
//! neighbours that the bridge replies for, the bridge's and the VXLAN device's entries, in the order in which a packet
//! passes them. It ends at the workload on this host, at the tunnel to another VTEP, or where the packet is dropped.
//! It reports objects that are not in place. It sends no packet.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use vtep_proto::{Attachment, HostEntity, HostKey, MacAddress, Network, Vni};

use crate::object::{bridge_name, port_name, vxlan_name};

/// A packet that a workload of this host sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packet {
    /// The attachment that sends it, as `VDC/NAME`.
    pub from: String,
    /// Where it goes.
    pub to: IpAddr,
    /// Its source address; none: one of the attachment's.
    pub source: Option<IpAddr>,
    /// Its source MAC address; none: the attachment's.
    pub mac: Option<String>,
}

/// The parts of the host that a packet passes.
pub(crate) struct Held<'a> {
    pub(crate) entities: &'a BTreeMap<HostKey, HostEntity>,
    /// Why an entity is not in place; none if it is.
    pub(crate) failure: &'a dyn Fn(&HostKey) -> Option<String>,
}

/// The steps of the packet's path, as text.
///
/// # Errors
/// As text: the host holds no such attachment, or the attachment could not send such a packet.
pub(crate) fn trace(held: &Held<'_>, packet: &Packet) -> Result<Vec<String>, String> {
    let key = HostKey::Attachment(packet.from.clone());
    let Some(HostEntity::Attachment(a)) = held.entities.get(&key) else {
        return Err(format!("the host should hold no attachment {}", packet.from));
    };
    let mut way = vec![format!(
        "workload: interface {} in netns {}, {}",
        a.interface, a.netns, a.mac
    )];
    if let Some(why) = (held.failure)(&key) {
        way.push(format!("dropped: the attachment is not in place: {why}"));
        return Ok(way);
    }
    let source = source(a, packet)?;
    let Some(next) = next_hop(a, packet.to, &mut way) else {
        return Ok(way);
    };
    way.push(format!("port {}: sent from {source}", port_name(&a.id)));
    if !passes(a, source, packet, &mut way)? {
        return Ok(way);
    }
    let Some(HostEntity::Network(network)) = held.entities.get(&HostKey::Network(a.vni)) else {
        way.push(format!("dropped: network {} is not on this host", a.vni));
        return Ok(way);
    };
    if let Some(why) = (held.failure)(&HostKey::Network(a.vni)) {
        way.push(format!("dropped: {} is not in place: {why}", bridge_name(a.vni)));
        return Ok(way);
    }
    match station_of(held, network, next) {
        Some((mac, how)) => {
            way.push(format!(
                "bridge {}: {} for {next} is answered here: {mac} ({how})",
                bridge_name(a.vni),
                if next.is_ipv4() {
                    "an ARP request"
                } else {
                    "a neighbour solicitation"
                },
            ));
            forward(held, network, mac, &mut way);
        }
        None => way.push(format!(
            "bridge {}: nobody here knows {next}; the request for it goes to {} (VNI {}), which replicates it",
            bridge_name(a.vni),
            vteps(network),
            a.vni
        )),
    }
    Ok(way)
}

fn vteps(network: &Network) -> String {
    let each = network.flood.iter().map(|vtep| format!("VTEP {vtep}"));
    match each.collect::<Vec<_>>().join(", ") {
        none if none.is_empty() => "no VTEP".to_owned(),
        some => some,
    }
}

/// The packet's source address.
fn source(a: &Attachment, packet: &Packet) -> Result<IpAddr, String> {
    let fits = |ip: &IpAddr| ip.is_ipv4() == packet.to.is_ipv4();
    match packet.source {
        Some(source) if !fits(&source) => Err(format!(
            "from: `{source}`: expected an address of the family of {}",
            packet.to
        )),
        Some(source) => Ok(source),
        None => {
            let own = a.addresses.iter().map(|net| net.addr()).find(fits);
            own.ok_or_else(|| format!("attachment {} has no address of the family of {}", a.id, packet.to))
        }
    }
}

/// The station on the link that the workload sends to. A packet without a route ends there.
fn next_hop(a: &Attachment, to: IpAddr, way: &mut Vec<String>) -> Option<IpAddr> {
    if a.addresses.iter().any(|net| net.contains(&to)) {
        way.push(format!("workload: {to} is on the link"));
        return Some(to);
    }
    let routes = a.routes.iter().filter(|r| r.destination.contains(&to));
    match routes.max_by_key(|r| r.destination.prefix_len()) {
        Some(route) => {
            let via = route.via.unwrap_or(to);
            way.push(format!(
                "workload: route {} via {via} (routes that it has set itself come first)",
                route.destination
            ));
            Some(via)
        }
        None => {
            way.push(format!("dropped: this interface has no route to {to}"));
            None
        }
    }
}

/// Whether the filter lets the packet in.
fn passes(a: &Attachment, source: IpAddr, packet: &Packet, way: &mut Vec<String>) -> Result<bool, String> {
    if !a.port_security {
        way.push("filter: port security is off; only VLAN tags, groups of the link and floods are checked".to_owned());
        return Ok(true);
    }
    let mac = match &packet.mac {
        None => a.mac,
        Some(text) => {
            let parsed: Option<macaddr::MacAddr6> = text.parse().ok();
            let mac = parsed.and_then(|mac| MacAddress::new(mac.into_array()));
            mac.ok_or_else(|| format!("mac: `{text}`: expected the MAC address of a station"))?
        }
    };
    let allowed = a.allowed_addresses.iter();
    if mac != a.mac && !allowed.clone().any(|allowed| allowed.mac == Some(mac)) {
        way.push(format!(
            "dropped by the filter: source-mac ({mac} is not the attachment's)"
        ));
        return Ok(false);
    }
    let own = a.addresses.iter().any(|net| net.addr() == source);
    if !own && !allowed.clone().any(|allowed| allowed.prefix.contains(&source)) {
        let reason = if source.is_ipv4() { "source-ipv4" } else { "source-ipv6" };
        way.push(format!(
            "dropped by the filter: {reason} ({source} is not the attachment's)"
        ));
        return Ok(false);
    }
    way.push("filter: source MAC address and address are the attachment's".to_owned());
    Ok(true)
}

/// The MAC address with which the bridge replies for an address, and its station.
fn station_of(held: &Held<'_>, network: &Network, ip: IpAddr) -> Option<(MacAddress, String)> {
    let here = held.entities.values().find_map(|entity| match entity {
        HostEntity::Attachment(a) if a.vni == network.vni && a.addresses.iter().any(|net| net.addr() == ip) => {
            Some((a.mac, format!("attachment {} on this host", a.id)))
        }
        _ => None,
    });
    let elsewhere = || match held.entities.get(&HostKey::Neighbour(network.vni, ip)) {
        Some(HostEntity::Neighbour(n)) => Some((n.mac, "a station elsewhere".to_owned())),
        _ => None,
    };
    let gateway = || {
        let gateway = network.gateways.iter().find(|g| g.ips.contains(&ip))?;
        Some((gateway.mac, "the gateway".to_owned()))
    };
    here.or_else(elsewhere).or_else(gateway)
}

/// The step in which the bridge forwards a frame to a MAC address.
fn forward(held: &Held<'_>, network: &Network, mac: MacAddress, way: &mut Vec<String>) {
    let vni: Vni = network.vni;
    let here = held.entities.values().find_map(|entity| match entity {
        HostEntity::Attachment(a) if a.vni == vni && a.mac == mac => Some(a),
        _ => None,
    });
    if let Some(a) = here {
        let mut step = format!(
            "bridge {}: port {}, interface {} in netns {}",
            bridge_name(vni),
            port_name(&a.id),
            a.interface,
            a.netns
        );
        if let Some(why) = (held.failure)(&HostKey::Attachment(a.id.clone())) {
            // Writing to a string cannot fail.
            let _ = write!(step, ", which is not in place: {why}");
        }
        way.push(step);
        return;
    }
    let key = HostKey::Fdb(vni, mac);
    let (vtep, whose) = match held.entities.get(&key) {
        Some(HostEntity::Fdb(entry)) => (Some(entry.vtep), "the station's host or leaf"),
        _ => (
            network.gateways.iter().find(|g| g.mac == mac).map(|g| g.vtep),
            "the leaf, which routes it",
        ),
    };
    let failure = (held.failure)(&key);
    match (vtep, failure) {
        (_, Some(why)) => way.push(format!("dropped: the entry of {mac} is not in place: {why}")),
        (Some(vtep), None) => way.push(format!(
            "{}: VXLAN, VNI {vni}, to UDP port 4789 of VTEP {vtep} ({whose}); the leaf admits it if this host may send into the network",
            vxlan_name(vni)
        )),
        (None, None) => way.push(format!(
            "bridge {}: {mac} has no entry; the frame is flooded to {} (VNI {vni})",
            bridge_name(vni),
            vteps(network)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vtep_proto::{FdbEntry, Gateway, Neighbour, Route, UnderlayFamily};

    fn mac(last: u8) -> MacAddress {
        MacAddress::new([2, 0, 0, 0, 0, last]).unwrap()
    }

    fn attachment(name: &str, last: u8) -> HostEntity {
        HostEntity::Attachment(Box::new(Attachment {
            id: format!("blue/{name}"),
            vni: Vni::new(7).unwrap(),
            mac: mac(last),
            addresses: [format!("10.0.0.{last}/24").parse().unwrap()].into(),
            routes: [Route {
                destination: "0.0.0.0/0".parse().unwrap(),
                via: "10.0.0.1".parse().ok(),
            }]
            .into(),
            netns: name.into(),
            interface: "eth0".into(),
            mtu: 0,
            allowed_addresses: Default::default(),
            port_security: true,
            shared_netns: false,
            mode: Default::default(),
        }))
    }

    /// Two workloads here, a station elsewhere, and a gateway.
    fn held() -> BTreeMap<HostKey, HostEntity> {
        let vni = Vni::new(7).unwrap();
        let leaf: IpAddr = "192.0.2.254".parse().unwrap();
        let gateway = Gateway {
            mac: mac(1),
            vtep: leaf,
            ips: ["10.0.0.1".parse().unwrap()].into(),
        };
        let network = HostEntity::Network(Network {
            vni,
            mtu: 1500,
            underlay: UnderlayFamily::Ipv4,
            flood: [leaf].into(),
            gateways: [gateway].into(),
        });
        let (ip, vtep) = ("10.0.0.9".parse().unwrap(), "192.0.2.9".parse().unwrap());
        let neighbour = HostEntity::Neighbour(Neighbour { vni, ip, mac: mac(9) });
        let fdb = HostEntity::Fdb(FdbEntry { vni, mac: mac(9), vtep });
        let all = [network, neighbour, fdb, attachment("a", 2), attachment("b", 3)];
        all.into_iter().map(|e| (e.key(), e)).collect()
    }

    fn packet(to: &str) -> Packet {
        Packet {
            from: "blue/a".into(),
            to: to.parse().unwrap(),
            source: None,
            mac: None,
        }
    }

    /// The last step of a packet's path.
    fn end(packet: &Packet) -> String {
        let entities = held();
        let failure = |_: &HostKey| None;
        let held = Held {
            entities: &entities,
            failure: &failure,
        };
        trace(&held, packet).unwrap().pop().unwrap()
    }

    #[test]
    fn a_packet_ends_at_a_workload_a_tunnel_or_the_leaf() {
        let here = end(&packet("10.0.0.3"));
        assert!(here.ends_with("interface eth0 in netns b"), "{here}");
        let elsewhere = end(&packet("10.0.0.9"));
        assert!(
            elsewhere.starts_with("vfx7: VXLAN, VNI 7") && elsewhere.contains("VTEP 192.0.2.9"),
            "{elsewhere}"
        );
        let routed = end(&packet("10.9.9.9"));
        assert!(
            routed.contains("VTEP 192.0.2.254 (the leaf, which routes it)"),
            "{routed}"
        );
        let unknown = end(&packet("10.0.0.77"));
        assert!(unknown.contains("nobody here knows 10.0.0.77"), "{unknown}");
    }

    #[test]
    fn what_a_workload_may_not_send_ends_at_the_filter() {
        let forged = Packet {
            source: "10.0.0.3".parse().ok(),
            ..packet("10.0.0.9")
        };
        assert!(
            end(&forged).starts_with("dropped by the filter: source-ipv4"),
            "{}",
            end(&forged)
        );
        let forged = Packet {
            mac: Some(mac(3).to_string()),
            ..packet("10.0.0.9")
        };
        assert!(
            end(&forged).starts_with("dropped by the filter: source-mac"),
            "{}",
            end(&forged)
        );
    }

    #[test]
    fn what_is_not_in_place_and_what_was_asked_wrongly_is_reported() {
        let entities = held();
        let failure = |key: &HostKey| matches!(key, HostKey::Fdb(..)).then(|| "no room".to_owned());
        let held = Held {
            entities: &entities,
            failure: &failure,
        };
        let way = trace(&held, &packet("10.0.0.9")).unwrap();
        assert_eq!(
            way.last().unwrap(),
            &format!("dropped: the entry of {} is not in place: no room", mac(9))
        );
        let wrong = |change: fn(&mut Packet)| {
            let mut packet = packet("10.0.0.9");
            change(&mut packet);
            trace(&held, &packet).unwrap_err()
        };
        assert!(wrong(|p| p.from = "blue/z".into()).contains("no attachment blue/z"));
        assert!(wrong(|p| p.mac = Some("x".into())).starts_with("mac: `x`"));
        assert!(wrong(|p| p.source = "fd00::1".parse().ok()).starts_with("from: `fd00::1`"));
    }
}
