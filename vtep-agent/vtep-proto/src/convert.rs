//! Conversions between the wire format and the canonical form.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use crate::entity::{
    AllowedAddress, Attachment, FdbEntry, Gateway, HostEntity, HostKey, Mode, Neighbour, Network, Route, UnderlayFamily,
};
use crate::error::DecodeError;
use crate::ident::{MacAddress, Vni};
use crate::v1;

/// Smallest MTU of a network: IPv6 requires this much of every link (RFC 8200 section 5).
const MIN_MTU: u32 = 1280;
/// Largest MTU of a network: the length field of IPv4 less the overhead of VXLAN over IPv6.
const MAX_MTU: u32 = 65_535 - 70;
/// Longest id of an attachment, in octets: it must fit into the alias of a link (256 octets), together with other text.
const MAX_ATTACHMENT_ID: usize = 160;
/// Longest interface name, in octets (IFNAMSIZ less the terminator).
const MAX_INTERFACE: usize = 15;
/// Longest name of a namespace, in octets (NAME_MAX).
const MAX_NETNS: usize = 255;

fn hex(octets: &[u8]) -> String {
    octets.iter().take(40).map(|b| format!("{b:02x}")).collect()
}

fn vni(field: &str, value: u32) -> Result<Vni, DecodeError> {
    Vni::new(value).ok_or_else(|| DecodeError::new(field, value, "a VNI from 1 to 16777215"))
}

fn mac(field: &str, octets: &[u8]) -> Result<MacAddress, DecodeError> {
    let bad = || DecodeError::new(field, hex(octets), "6 octets of a unicast MAC address");
    MacAddress::new(octets.try_into().map_err(|_| bad())?).ok_or_else(bad)
}

fn ip(field: &str, octets: &[u8]) -> Result<IpAddr, DecodeError> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        Ok(Ipv4Addr::from(v4).into())
    } else if let Ok(v6) = <[u8; 16]>::try_from(octets) {
        Ok(Ipv6Addr::from(v6).into())
    } else {
        Err(DecodeError::new(
            field,
            hex(octets),
            "4 octets (IPv4) or 16 octets (IPv6)",
        ))
    }
}

/// An address that a single station can have.
fn unicast(field: &str, octets: &[u8]) -> Result<IpAddr, DecodeError> {
    let ip = ip(field, octets)?;
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() || broadcast {
        return Err(DecodeError::new(field, ip, "a unicast address"));
    }
    Ok(ip)
}

fn octets(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

fn prefix(field: &str, p: Option<&v1::IpPrefix>, host: bool) -> Result<IpNet, DecodeError> {
    let p = p.ok_or_else(|| DecodeError::new(field, "", "a prefix"))?;
    let ip = if host {
        unicast(&format!("{field}.ip"), &p.ip)?
    } else {
        ip(&format!("{field}.ip"), &p.ip)?
    };
    let bad = || {
        DecodeError::new(
            format!("{field}.prefix_len"),
            p.prefix_len,
            "0 to 32 (IPv4) or 0 to 128 (IPv6)",
        )
    };
    let len = u8::try_from(p.prefix_len).map_err(|_| bad())?;
    let net = IpNet::new(ip, len).map_err(|_| bad())?;
    if !host && net.trunc() != net {
        return Err(DecodeError::new(field, net, "a prefix with no host bits set"));
    }
    Ok(net)
}

fn wire_prefix(net: &IpNet) -> v1::IpPrefix {
    v1::IpPrefix {
        ip: octets(net.addr()),
        prefix_len: net.prefix_len().into(),
    }
}

fn same_family(field: &str, ip: IpAddr, family: UnderlayFamily) -> Result<IpAddr, DecodeError> {
    if UnderlayFamily::of(ip) == family {
        Ok(ip)
    } else {
        Err(DecodeError::new(
            field,
            ip,
            "an address of the network's underlay family",
        ))
    }
}

fn mtu(field: &str, value: u32) -> Result<u32, DecodeError> {
    if (MIN_MTU..=MAX_MTU).contains(&value) {
        Ok(value)
    } else {
        Err(DecodeError::new(field, value, "an MTU from 1280 to 65465"))
    }
}

fn network(n: &v1::Network) -> Result<Network, DecodeError> {
    let underlay = match n.underlay() {
        v1::IpFamily::Ipv4 => UnderlayFamily::Ipv4,
        v1::IpFamily::Ipv6 => UnderlayFamily::Ipv6,
        v1::IpFamily::Unspecified => {
            return Err(DecodeError::new("network.underlay", n.underlay, "IPv4 (1) or IPv6 (2)"));
        }
    };
    let vtep = |field: &str, octets: &[u8]| same_family(field, unicast(field, octets)?, underlay);
    let flood = n
        .flood
        .iter()
        .enumerate()
        .map(|(i, f)| vtep(&format!("network.flood[{i}]"), f));
    let gateway = |(i, g): (usize, &v1::Gateway)| {
        let path = format!("network.gateways[{i}]");
        let ips = g
            .ips
            .iter()
            .enumerate()
            .map(|(j, a)| unicast(&format!("{path}.ips[{j}]"), a));
        Ok(Gateway {
            mac: mac(&format!("{path}.mac"), &g.mac)?,
            vtep: vtep(&format!("{path}.vtep"), &g.vtep)?,
            ips: ips.collect::<Result<_, _>>()?,
        })
    };
    Ok(Network {
        vni: vni("network.vni", n.vni)?,
        mtu: mtu("network.mtu", n.mtu)?,
        underlay,
        flood: flood.collect::<Result<_, _>>()?,
        gateways: n.gateways.iter().enumerate().map(gateway).collect::<Result<_, _>>()?,
    })
}

fn attachment_id(field: &str, id: &str) -> Result<String, DecodeError> {
    if id.is_empty() || id.len() > MAX_ATTACHMENT_ID || !id.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(DecodeError::new(
            field,
            id,
            "1 to 160 printable ASCII characters without spaces",
        ));
    }
    Ok(id.to_owned())
}

/// An interface name the kernel accepts (`dev_valid_name` in net/core/dev.c), in ASCII.
fn interface(field: &str, name: &str) -> Result<String, DecodeError> {
    let good = |b: u8| b.is_ascii_graphic() && b != b'/' && b != b':' && b != b'%';
    if name.is_empty() || name.len() > MAX_INTERFACE || name == "." || name == ".." || !name.bytes().all(good) {
        return Err(DecodeError::new(
            field,
            name,
            "1 to 15 printable ASCII characters without '/', ':', '%' and spaces",
        ));
    }
    Ok(name.to_owned())
}

fn netns(field: &str, value: &str) -> Result<String, DecodeError> {
    let good = |b: u8| b.is_ascii_graphic() && b != b'/';
    if value.is_empty() || value.len() > MAX_NETNS || value.starts_with('.') || !value.bytes().all(good) {
        return Err(DecodeError::new(
            field,
            value,
            "the name of a network namespace in /run/netns: no path, and no `.` at its start",
        ));
    }
    Ok(value.to_owned())
}

fn attachment(a: &v1::Attachment) -> Result<Attachment, DecodeError> {
    let addresses = a
        .addresses
        .iter()
        .enumerate()
        .map(|(i, p)| prefix(&format!("attachment.addresses[{i}]"), Some(p), true));
    let route = |(i, r): (usize, &v1::Route)| {
        let path = format!("attachment.routes[{i}]");
        let destination = prefix(&format!("{path}.destination"), r.destination.as_ref(), false)?;
        let via = if r.via.is_empty() {
            None
        } else {
            Some(unicast(&format!("{path}.via"), &r.via)?)
        };
        match via {
            Some(via) if via.is_ipv4() != destination.addr().is_ipv4() => Err(DecodeError::new(
                format!("{path}.via"),
                via,
                "a next hop of the destination's family",
            )),
            _ => Ok(Route { destination, via }),
        }
    };
    Ok(Attachment {
        id: attachment_id("attachment.id", &a.id)?,
        vni: vni("attachment.vni", a.vni)?,
        mac: mac("attachment.mac", &a.mac)?,
        addresses: addresses.collect::<Result<_, _>>()?,
        routes: a.routes.iter().enumerate().map(route).collect::<Result<_, _>>()?,
        netns: netns("attachment.netns", &a.netns)?,
        interface: interface("attachment.interface", &a.interface)?,
        mtu: if a.mtu == 0 { 0 } else { mtu("attachment.mtu", a.mtu)? },
        allowed_addresses: a
            .allowed_addresses
            .iter()
            .enumerate()
            .map(allowed_address)
            .collect::<Result<_, _>>()?,
        port_security: !a.port_security_off,
        shared_netns: a.shared_netns,
        mode: mode(a)?,
    })
}

fn mode(a: &v1::Attachment) -> Result<Mode, DecodeError> {
    match v1::AttachmentMode::try_from(a.mode) {
        Ok(v1::AttachmentMode::Serving) => Ok(Mode::Serving),
        Ok(v1::AttachmentMode::Standby) => Ok(Mode::Standby),
        Ok(v1::AttachmentMode::Leaving) => Ok(Mode::Leaving),
        // An agent that does not know a mode must not open the port.
        Err(_) => Err(DecodeError::new(
            "attachment.mode",
            a.mode,
            "serving (0), standby (1) or leaving (2)",
        )),
    }
}

fn wire_mode(mode: Mode) -> v1::AttachmentMode {
    match mode {
        Mode::Serving => v1::AttachmentMode::Serving,
        Mode::Standby => v1::AttachmentMode::Standby,
        Mode::Leaving => v1::AttachmentMode::Leaving,
    }
}

fn allowed_address((i, a): (usize, &v1::AllowedAddress)) -> Result<AllowedAddress, DecodeError> {
    let path = format!("attachment.allowed_addresses[{i}]");
    let mac = (!a.mac.is_empty()).then(|| mac(&format!("{path}.mac"), &a.mac));
    Ok(AllowedAddress {
        prefix: prefix(&format!("{path}.prefix"), a.prefix.as_ref(), false)?,
        mac: mac.transpose()?,
    })
}

impl TryFrom<&v1::HostObject> for HostEntity {
    type Error = DecodeError;

    fn try_from(object: &v1::HostObject) -> Result<Self, DecodeError> {
        use v1::host_object::Object;
        let object = object.object.as_ref();
        match object.ok_or_else(|| DecodeError::new("object", "", "one of network, fdb, neighbour, attachment"))? {
            Object::Network(n) => Ok(Self::Network(network(n)?)),
            Object::Fdb(e) => Ok(Self::Fdb(FdbEntry {
                vni: vni("fdb.vni", e.vni)?,
                mac: mac("fdb.mac", &e.mac)?,
                vtep: unicast("fdb.vtep", &e.vtep)?,
            })),
            Object::Neighbour(n) => Ok(Self::Neighbour(Neighbour {
                vni: vni("neighbour.vni", n.vni)?,
                ip: unicast("neighbour.ip", &n.ip)?,
                mac: mac("neighbour.mac", &n.mac)?,
            })),
            Object::Attachment(a) => Ok(attachment(a)?.into()),
        }
    }
}

impl From<&HostEntity> for v1::HostObject {
    fn from(entity: &HostEntity) -> Self {
        use v1::host_object::Object;
        let object = match entity {
            HostEntity::Network(n) => Object::Network(wire_network(n)),
            HostEntity::Fdb(e) => Object::Fdb(v1::FdbEntry {
                vni: e.vni.get(),
                mac: e.mac.octets().to_vec(),
                vtep: octets(e.vtep),
            }),
            HostEntity::Neighbour(n) => Object::Neighbour(v1::Neighbour {
                vni: n.vni.get(),
                ip: octets(n.ip),
                mac: n.mac.octets().to_vec(),
            }),
            HostEntity::Attachment(a) => Object::Attachment(wire_attachment(a)),
        };
        Self { object: Some(object) }
    }
}

fn wire_network(n: &Network) -> v1::Network {
    let underlay = match n.underlay {
        UnderlayFamily::Ipv4 => v1::IpFamily::Ipv4,
        UnderlayFamily::Ipv6 => v1::IpFamily::Ipv6,
    };
    let gateway = |g: &Gateway| v1::Gateway {
        mac: g.mac.octets().to_vec(),
        vtep: octets(g.vtep),
        ips: g.ips.iter().copied().map(octets).collect(),
    };
    v1::Network {
        vni: n.vni.get(),
        mtu: n.mtu,
        underlay: underlay.into(),
        flood: n.flood.iter().copied().map(octets).collect(),
        gateways: n.gateways.iter().map(gateway).collect(),
    }
}

fn wire_attachment(a: &Attachment) -> v1::Attachment {
    let route = |r: &Route| v1::Route {
        destination: Some(wire_prefix(&r.destination)),
        via: r.via.map(octets).unwrap_or_default(),
    };
    v1::Attachment {
        id: a.id.clone(),
        vni: a.vni.get(),
        mac: a.mac.octets().to_vec(),
        addresses: a.addresses.iter().map(wire_prefix).collect(),
        routes: a.routes.iter().map(route).collect(),
        netns: a.netns.clone(),
        interface: a.interface.clone(),
        mtu: a.mtu,
        allowed_addresses: a
            .allowed_addresses
            .iter()
            .map(|a| v1::AllowedAddress {
                prefix: Some(wire_prefix(&a.prefix)),
                mac: a.mac.map(|m| m.octets().to_vec()).unwrap_or_default(),
            })
            .collect(),
        port_security_off: !a.port_security,
        shared_netns: a.shared_netns,
        mode: wire_mode(a.mode).into(),
    }
}

impl TryFrom<&v1::ObjectKey> for HostKey {
    type Error = DecodeError;

    fn try_from(key: &v1::ObjectKey) -> Result<Self, DecodeError> {
        use v1::object_key::Key;
        let key = key.key.as_ref();
        match key.ok_or_else(|| DecodeError::new("key", "", "one of network, fdb, neighbour, attachment"))? {
            Key::Network(v) => Ok(Self::Network(vni("key.network", *v)?)),
            Key::Fdb(k) => Ok(Self::Fdb(vni("key.fdb.vni", k.vni)?, mac("key.fdb.mac", &k.mac)?)),
            Key::Neighbour(k) => Ok(Self::Neighbour(
                vni("key.neighbour.vni", k.vni)?,
                unicast("key.neighbour.ip", &k.ip)?,
            )),
            Key::Attachment(id) => Ok(Self::Attachment(attachment_id("key.attachment", id)?)),
        }
    }
}

impl From<&HostKey> for v1::ObjectKey {
    fn from(key: &HostKey) -> Self {
        use v1::object_key::Key;
        let key = match key {
            HostKey::Network(vni) => Key::Network(vni.get()),
            HostKey::Fdb(vni, mac) => Key::Fdb(v1::FdbKey {
                vni: vni.get(),
                mac: mac.octets().to_vec(),
            }),
            HostKey::Neighbour(vni, ip) => Key::Neighbour(v1::NeighbourKey {
                vni: vni.get(),
                ip: octets(*ip),
            }),
            HostKey::Attachment(id) => Key::Attachment(id.clone()),
        };
        Self { key: Some(key) }
    }
}

/// The key of an object that could not be decoded, as far as it can be read. With it, the sender knows which object the
/// error is about.
pub fn invalid_key(object: &v1::HostObject) -> v1::ObjectKey {
    use v1::{host_object::Object, object_key::Key};
    let key = object.object.as_ref().map(|o| match o {
        Object::Network(n) => Key::Network(n.vni),
        Object::Fdb(e) => Key::Fdb(v1::FdbKey {
            vni: e.vni,
            mac: e.mac.clone(),
        }),
        Object::Neighbour(n) => Key::Neighbour(v1::NeighbourKey {
            vni: n.vni,
            ip: n.ip.clone(),
        }),
        Object::Attachment(a) => Key::Attachment(a.id.clone()),
    });
    v1::ObjectKey { key }
}

/// An error about an object, in wire format.
pub fn object_error(key: &HostKey, code: v1::ErrorCode, message: impl Into<String>, retrying: bool) -> v1::ObjectError {
    v1::ObjectError {
        key: Some(key.into()),
        code: code.into(),
        message: message.into(),
        retrying,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn arb_ip() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            any::<[u8; 3]>().prop_map(|[a, b, c]| IpAddr::from([10, a, b, c])),
            any::<[u8; 15]>().prop_map(|rest| {
                let mut all = [0xfd; 16];
                all[1..].copy_from_slice(&rest);
                IpAddr::from(all)
            }),
        ]
    }

    fn arb_mac() -> impl Strategy<Value = MacAddress> {
        any::<[u8; 5]>().prop_map(|[a, b, c, d, e]| MacAddress::new([2, a, b, c, d, e]).unwrap())
    }

    fn arb_vni() -> impl Strategy<Value = Vni> {
        (1..=Vni::MAX).prop_map(|v| Vni::new(v).unwrap())
    }

    fn arb_net() -> impl Strategy<Value = IpNet> {
        (arb_ip(), 0u8..=32).prop_map(|(ip, len)| IpNet::new(ip, len).unwrap())
    }

    fn arb_route() -> impl Strategy<Value = Route> {
        (arb_net(), proptest::option::of(arb_ip())).prop_map(|(net, via)| Route {
            destination: net.trunc(),
            via: via.filter(|v| v.is_ipv4() == net.addr().is_ipv4()),
        })
    }

    fn arb_network() -> impl Strategy<Value = Network> {
        let v4 = || any::<[u8; 3]>().prop_map(|[a, b, c]| IpAddr::from([10, a, b, c]));
        let gateway = (arb_mac(), v4(), proptest::collection::btree_set(arb_ip(), 0..3))
            .prop_map(|(mac, vtep, ips)| Gateway { mac, vtep, ips });
        let sets = (
            proptest::collection::btree_set(v4(), 0..3),
            proptest::collection::btree_set(gateway, 0..3),
        );
        (arb_vni(), MIN_MTU..=MAX_MTU, sets).prop_map(|(vni, mtu, (flood, gateways))| Network {
            vni,
            mtu,
            underlay: UnderlayFamily::Ipv4,
            flood,
            gateways,
        })
    }

    fn arb_attachment() -> impl Strategy<Value = Attachment> {
        let allowed = (arb_net(), proptest::option::of(arb_mac())).prop_map(|(net, mac)| AllowedAddress {
            prefix: net.trunc(),
            mac,
        });
        let sets = (
            proptest::collection::btree_set(arb_net(), 0..4),
            proptest::collection::btree_set(arb_route(), 0..4),
            proptest::collection::btree_set(allowed, 0..4),
            any::<(bool, bool)>(),
            prop_oneof![Just(Mode::Serving), Just(Mode::Standby), Just(Mode::Leaving)],
        );
        (
            "[a-z0-9/-]{1,40}",
            arb_vni(),
            arb_mac(),
            sets,
            "[a-z0-9]{1,20}",
            "[a-z0-9]{1,15}",
        )
            .prop_map(
                |(id, vni, mac, (addresses, routes, allowed, flags, mode), netns, interface)| Attachment {
                    id,
                    vni,
                    mac,
                    addresses,
                    routes,
                    netns,
                    interface,
                    mtu: 0,
                    allowed_addresses: allowed,
                    port_security: flags.0,
                    shared_netns: flags.1,
                    mode,
                },
            )
    }

    fn arb_entity() -> impl Strategy<Value = HostEntity> {
        prop_oneof![
            arb_network().prop_map(HostEntity::Network),
            arb_attachment().prop_map(HostEntity::from),
            (arb_vni(), arb_mac(), arb_ip()).prop_map(|(vni, mac, vtep)| HostEntity::Fdb(FdbEntry { vni, mac, vtep })),
            (arb_vni(), arb_ip(), arb_mac()).prop_map(|(vni, ip, mac)| HostEntity::Neighbour(Neighbour {
                vni,
                ip,
                mac
            })),
        ]
    }

    proptest! {
        #[test]
        fn wire_and_back_is_the_same(entity in arb_entity()) {
            let wire = v1::HostObject::from(&entity);
            prop_assert_eq!(HostEntity::try_from(&wire).unwrap(), entity.clone());
            let key = entity.key();
            prop_assert_eq!(HostKey::try_from(&v1::ObjectKey::from(&key)).unwrap(), key.clone());
            prop_assert_eq!(HostKey::try_from(&invalid_key(&wire)).unwrap(), key);
        }

        #[test]
        fn a_key_names_what_has_it_and_nothing_else(a in arb_entity(), b in arb_entity()) {
            prop_assert!(a.is_named(&a.key()));
            prop_assert_eq!(a.is_named(&b.key()), a.key() == b.key());
        }
    }

    fn field_of(attachment: v1::Attachment) -> String {
        let wire = v1::HostObject {
            object: Some(v1::host_object::Object::Attachment(attachment)),
        };
        HostEntity::try_from(&wire).unwrap_err().field
    }

    #[test]
    fn every_malformed_field_is_named() {
        let good = v1::Attachment {
            id: "blue/a".into(),
            vni: 10_000,
            mac: vec![2, 0, 0, 0, 0, 1],
            addresses: vec![v1::IpPrefix {
                ip: vec![10, 0, 0, 2],
                prefix_len: 24,
            }],
            routes: vec![],
            netns: "w1".into(),
            interface: "eth0".into(),
            mtu: 1500,
            ..Default::default()
        };
        let default = v1::IpPrefix {
            ip: vec![0; 4],
            prefix_len: 0,
        };
        let cases = [
            (
                "attachment.id",
                v1::Attachment {
                    id: "a b".into(),
                    ..good.clone()
                },
            ),
            (
                "attachment.vni",
                v1::Attachment {
                    vni: 1 << 24,
                    ..good.clone()
                },
            ),
            (
                "attachment.mac",
                v1::Attachment {
                    mac: vec![3, 0, 0, 0, 0, 1],
                    ..good.clone()
                },
            ),
            (
                "attachment.netns",
                v1::Attachment {
                    netns: "a/b".into(),
                    ..good.clone()
                },
            ),
            (
                "attachment.netns",
                v1::Attachment {
                    netns: "/proc/self/ns/net".into(),
                    ..good.clone()
                },
            ),
            (
                "attachment.netns",
                v1::Attachment {
                    netns: "..".into(),
                    ..good.clone()
                },
            ),
            (
                "attachment.allowed_addresses[0].mac",
                v1::Attachment {
                    allowed_addresses: vec![v1::AllowedAddress {
                        prefix: good
                            .addresses
                            .first()
                            .cloned()
                            .map(|p| v1::IpPrefix { prefix_len: 32, ..p }),
                        mac: vec![1],
                    }],
                    ..good.clone()
                },
            ),
            (
                "attachment.interface",
                v1::Attachment {
                    interface: "sixteen-octets-x".into(),
                    ..good.clone()
                },
            ),
            (
                "attachment.mtu",
                v1::Attachment {
                    mtu: 1279,
                    ..good.clone()
                },
            ),
            (
                "attachment.addresses[0].prefix_len",
                v1::Attachment {
                    addresses: vec![v1::IpPrefix {
                        ip: vec![10, 0, 0, 2],
                        prefix_len: 33,
                    }],
                    ..good.clone()
                },
            ),
            (
                "attachment.routes[0].via",
                v1::Attachment {
                    routes: vec![v1::Route {
                        destination: Some(default),
                        via: vec![0xfd; 16],
                    }],
                    ..good.clone()
                },
            ),
        ];
        for (field, bad) in cases {
            assert_eq!(field_of(bad), field);
        }
    }

    #[test]
    fn vteps_are_of_the_underlay_family() {
        let wire = v1::HostObject {
            object: Some(v1::host_object::Object::Network(v1::Network {
                vni: 1,
                mtu: 1500,
                underlay: v1::IpFamily::Ipv6.into(),
                flood: vec![vec![10, 0, 0, 1]],
                gateways: vec![],
            })),
        };
        assert_eq!(HostEntity::try_from(&wire).unwrap_err().field, "network.flood[0]");
    }
}
