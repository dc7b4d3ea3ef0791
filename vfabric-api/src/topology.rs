//! The physical fabric: switches, the links between them, hosts and their uplinks.
//!
//! A topology is a YAML file (`fabricctl lab` ships one) that a controller with an
//! empty store imports. [`Topology::from_yaml`] parses and validates it; every problem
//! is reported, each with the path of the field.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ethernet::{self, Breakout, PortSettings};
use crate::ident::schema::SocketAddress;
use crate::ident::{Label, Mac, Name, PortId, Vni};

/// A whole fabric.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Topology {
    /// Settings that hold for the fabric as a whole.
    pub fabric: Fabric,
    /// Every switch.
    pub switches: Vec<Switch>,
    /// Every cable between two switches.
    #[serde(default)]
    pub links: Vec<Link>,
    /// Every host, each with one uplink.
    #[serde(default)]
    pub hosts: Vec<Host>,
}

/// Settings of the fabric as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Fabric {
    /// Name of the fabric.
    pub name: Name,
    /// Largest IP packet of the underlay, in octets; the MTU of tenant networks must leave room
    /// for the encapsulation ([`OVERLAY_OVERHEAD_V6`]).
    #[serde(default = "default_underlay_mtu")]
    #[schema(minimum = 1350, maximum = 65535)]
    pub mtu: u16,
    /// Address family of the VXLAN tunnels. Loopbacks of both families are routed.
    #[serde(default)]
    pub vxlan_underlay: IpFamily,
    /// MAC address that every leaf answers to as default gateway of every network.
    #[serde(default = "default_gateway_mac")]
    pub gateway_mac: Mac,
    /// VNIs for tenant networks and routers.
    #[serde(default)]
    pub vni_pool: VniPool,
}

/// Octets that VXLAN over IPv4 adds to a tenant's IP packet: 14 inner Ethernet, 8 VXLAN,
/// 8 UDP, 20 IPv4 (RFC 7348 section 5).
pub const OVERLAY_OVERHEAD_V4: u16 = 50;
/// Octets that VXLAN over IPv6 adds.
pub const OVERLAY_OVERHEAD_V6: u16 = 70;

fn default_underlay_mtu() -> u16 {
    9216
}

fn default_gateway_mac() -> Mac {
    Mac([0x00, 0x00, 0x5e, 0x00, 0x01, 0x01])
}

/// An IP version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum IpFamily {
    /// IPv4.
    #[default]
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl IpFamily {
    /// Octets that a tunnel over this version adds to a packet of a tenant.
    pub fn overlay_overhead(self) -> u16 {
        match self {
            Self::Ipv4 => OVERLAY_OVERHEAD_V4,
            Self::Ipv6 => OVERLAY_OVERHEAD_V6,
        }
    }
}

/// A range of VNIs, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VniPool {
    /// The first.
    pub first: Vni,
    /// The last.
    pub last: Vni,
}

impl Default for VniPool {
    fn default() -> Self {
        // Both are constants in range, so the fallback is never taken.
        let vni = |v| Vni::try_from(v).unwrap_or_else(|_| unreachable!());
        Self {
            first: vni(10_000),
            last: vni(16_777_214),
        }
    }
}

/// Role of a switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Connects hosts and bare-metal ports; a VTEP; routes between tenant networks.
    Leaf,
    /// Connects leaves; routes the underlay only.
    Spine,
}

/// One P4 switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// Name of the switch.
    pub name: Name,
    /// Its role, which decides its pipeline.
    pub role: Role,
    /// P4Runtime device id, unique in the fabric, 1 to 65535.
    #[schema(minimum = 1, maximum = 65535)]
    pub device_id: u16,
    /// Loopback (router id, VTEP of a leaf), IPv4.
    #[schema(value_type = String, format = "ipv4")]
    pub loopback_ipv4: Ipv4Addr,
    /// Loopback, IPv6.
    #[schema(value_type = String, format = "ipv6")]
    pub loopback_ipv6: Ipv6Addr,
    /// Address of its P4Runtime (and gNMI) server.
    #[schema(value_type = SocketAddress)]
    pub p4runtime: SocketAddr,
    /// Ports for tenants' bare-metal machines.
    #[serde(default)]
    pub access_ports: Vec<PortId>,
    /// Serial number of the machine, unique in the fabric (upper and lower case are the same). A new machine is recognised by
    /// this and `mac`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<Label>,
    /// MAC address of its management port, unique in the fabric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// Model of the machine, as ONIE calls its platform: `x86_64-accton_wedge100bf_32x-r0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Label>,
    /// Release of the software that it should run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub software: Option<Label>,
    /// Speed and forward error correction of ports that need other settings than the switch has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortSettings>,
    /// Front-panel ports that are split into several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub breakouts: Vec<Breakout>,
}

impl Switch {
    /// MAC address the switch uses on all its routed ports.
    pub fn router_mac(&self) -> Mac {
        let [hi, lo] = self.device_id.to_be_bytes();
        Mac([0x02, 0xfa, 0xb0, 0x00, hi, lo])
    }
}

/// One end of a cable.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PortRef {
    /// The switch.
    pub switch: Name,
    /// Its port.
    pub port: PortId,
}

/// A cable between two switches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// One end.
    pub a: PortRef,
    /// The other end.
    pub b: PortRef,
}

/// One Linux host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// Name of the host.
    pub name: Name,
    /// The leaf port at the other end of its uplink.
    pub uplink: PortRef,
    /// MAC address of its uplink.
    pub mac: Mac,
    /// Its VTEP address, IPv4.
    #[schema(value_type = String, format = "ipv4")]
    pub vtep_ipv4: Ipv4Addr,
    /// Its VTEP address, IPv6.
    #[schema(value_type = String, format = "ipv6")]
    pub vtep_ipv6: Ipv6Addr,
}

/// One thing wrong with a topology.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Path of the field, such as `hosts[2].uplink.port`.
    pub field: String,
    /// What was found and what was expected.
    pub message: String,
}

/// Why a topology was refused.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// Not YAML, or without the documented form.
    #[error("topology: {0}")]
    Parse(String),
    /// Well formed, but contradicts itself.
    #[error("topology: {}", .0.iter().map(|p| format!("{}: {}", p.field, p.message)).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Problem>),
}

impl Topology {
    /// Parses and validates a topology file.
    ///
    /// # Errors
    /// [`TopologyError::Parse`] with line and column, or [`TopologyError::Invalid`] with
    /// every problem found.
    pub fn from_yaml(text: &str) -> Result<Self, TopologyError> {
        let topology: Self = crate::yaml::read(text).map_err(|e| TopologyError::Parse(e.to_string()))?;
        let problems = topology.validate();
        if problems.is_empty() {
            Ok(topology)
        } else {
            Err(TopologyError::Invalid(problems))
        }
    }

    /// The switch of that name.
    pub fn switch(&self, name: &Name) -> Option<&Switch> {
        self.switches.iter().find(|s| &s.name == name)
    }

    /// The host of that name.
    pub fn host(&self, name: &Name) -> Option<&Host> {
        self.hosts.iter().find(|h| &h.name == name)
    }

    /// Everything that contradicts itself; empty when the topology can be used.
    pub fn validate(&self) -> Vec<Problem> {
        let mut check = Check::default();
        check.fabric(&self.fabric);
        for (i, s) in self.switches.iter().enumerate() {
            check.switch(&format!("switches[{i}]"), s);
        }
        for (i, l) in self.links.iter().enumerate() {
            check.link(&format!("links[{i}]"), l, self);
        }
        for (i, h) in self.hosts.iter().enumerate() {
            check.host(&format!("hosts[{i}]"), h, self);
        }
        check.problems
    }
}

/// The values seen so far, to notice those that are used twice.
#[derive(Default)]
struct Check<'a> {
    problems: Vec<Problem>,
    names: HashMap<&'a str, String>,
    device_ids: HashMap<u16, String>,
    addresses: HashMap<std::net::IpAddr, String>,
    macs: HashMap<Mac, String>,
    serials: HashMap<String, String>,
    servers: HashMap<SocketAddr, String>,
    ports: HashMap<(&'a str, PortId), String>,
    leaves: HashSet<&'a str>,
}

impl<'a> Check<'a> {
    fn say(&mut self, field: String, message: String) {
        self.problems.push(Problem { field, message });
    }

    fn once<K: std::hash::Hash + Eq + std::fmt::Debug + Clone>(
        seen: impl FnOnce(&mut Self) -> &mut HashMap<K, String>,
        this: &mut Self,
        key: K,
        shown: &str,
        field: String,
    ) {
        let before = seen(this).insert(key, field.clone());
        if let Some(before) = before {
            this.say(field, format!("`{shown}` is already used by {before}"));
        }
    }

    fn address(&mut self, address: std::net::IpAddr, field: String) {
        let unusable = address.is_unspecified() || address.is_multicast() || address.is_loopback();
        if unusable {
            self.say(
                field.clone(),
                format!("`{address}` cannot be used: expected a unicast address"),
            );
        }
        Self::once(|c| &mut c.addresses, self, address, &address.to_string(), field);
    }

    fn fabric(&mut self, fabric: &Fabric) {
        if fabric.mtu < 1280 + OVERLAY_OVERHEAD_V6 {
            let least = 1280 + OVERLAY_OVERHEAD_V6;
            self.say(
                "fabric.mtu".into(),
                format!("`{}` is too small: expected at least {least}", fabric.mtu),
            );
        }
        if !fabric.gateway_mac.is_unicast() {
            self.say(
                "fabric.gateway_mac".into(),
                format!("`{}` is not a unicast MAC address", fabric.gateway_mac),
            );
        }
        if fabric.vni_pool.first > fabric.vni_pool.last {
            self.say(
                "fabric.vni_pool".into(),
                "`first` is greater than `last`: expected a range".into(),
            );
        }
    }

    fn switch(&mut self, path: &str, s: &'a Switch) {
        Self::once(
            |c| &mut c.names,
            self,
            s.name.as_str(),
            s.name.as_str(),
            format!("{path}.name"),
        );
        Self::once(
            |c| &mut c.device_ids,
            self,
            s.device_id,
            &s.device_id.to_string(),
            format!("{path}.device_id"),
        );
        Self::once(
            |c| &mut c.servers,
            self,
            s.p4runtime,
            &s.p4runtime.to_string(),
            format!("{path}.p4runtime"),
        );
        if s.device_id == 0 {
            self.say(
                format!("{path}.device_id"),
                "`0` is not allowed: expected 1 to 65535".into(),
            );
        }
        self.address(s.loopback_ipv4.into(), format!("{path}.loopback_ipv4"));
        self.address(s.loopback_ipv6.into(), format!("{path}.loopback_ipv6"));
        if let Some(mac) = s.mac {
            self.mac(mac, format!("{path}.mac"));
        }
        if let Some(serial) = &s.serial {
            Self::once(
                |c| &mut c.serials,
                self,
                serial.folded(),
                serial.as_str(),
                format!("{path}.serial"),
            );
        }
        if s.role == Role::Leaf {
            self.leaves.insert(s.name.as_str());
        } else if !s.access_ports.is_empty() {
            self.say(format!("{path}.access_ports"), "a spine has no access ports".into());
        }
        for (i, port) in s.access_ports.iter().enumerate() {
            self.port(&s.name, *port, format!("{path}.access_ports[{i}]"));
        }
        for (field, value, expected) in ethernet::problems(&s.ports, &s.breakouts) {
            self.say(
                format!("{path}.{field}"),
                format!("`{value}` cannot be used: expected {expected}"),
            );
        }
    }

    fn mac(&mut self, mac: Mac, field: String) {
        if !mac.is_unicast() {
            self.say(field.clone(), format!("`{mac}` is not a unicast MAC address"));
        }
        Self::once(|c| &mut c.macs, self, mac, &mac.to_string(), field);
    }

    fn port(&mut self, switch: &'a Name, port: PortId, field: String) {
        Self::once(
            |c| &mut c.ports,
            self,
            (switch.as_str(), port),
            &format!("{switch}:{port}"),
            field,
        );
    }

    fn port_ref(&mut self, r: &'a PortRef, path: String, t: &Topology) {
        if t.switch(&r.switch).is_none() {
            self.say(
                format!("{path}.switch"),
                format!("`{}` is unknown: expected the name of a switch", r.switch),
            );
        }
        self.port(&r.switch, r.port, format!("{path}.port"));
    }

    fn link(&mut self, path: &str, l: &'a Link, t: &Topology) {
        self.port_ref(&l.a, format!("{path}.a"), t);
        self.port_ref(&l.b, format!("{path}.b"), t);
        if l.a.switch == l.b.switch {
            self.say(
                path.to_owned(),
                format!("both ends are on `{}`: expected two switches", l.a.switch),
            );
        }
    }

    fn host(&mut self, path: &str, h: &'a Host, t: &Topology) {
        Self::once(
            |c| &mut c.names,
            self,
            h.name.as_str(),
            h.name.as_str(),
            format!("{path}.name"),
        );
        self.mac(h.mac, format!("{path}.mac"));
        self.port_ref(&h.uplink, format!("{path}.uplink"), t);
        if t.switch(&h.uplink.switch).is_some() && !self.leaves.contains(h.uplink.switch.as_str()) {
            self.say(
                format!("{path}.uplink.switch"),
                format!("`{}` is not a leaf", h.uplink.switch),
            );
        }
        self.address(h.vtep_ipv4.into(), format!("{path}.vtep_ipv4"));
        self.address(h.vtep_ipv6.into(), format!("{path}.vtep_ipv6"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
fabric: { name: lab }
switches:
  - { name: spine1, role: spine, device_id: 1, loopback_ipv4: 10.255.0.1, loopback_ipv6: "fd00:255::1", p4runtime: "192.0.2.1:9559" }
  - { name: leaf1, role: leaf, device_id: 2, loopback_ipv4: 10.255.0.2, loopback_ipv6: "fd00:255::2", p4runtime: "192.0.2.2:9559", access_ports: [10] }
links:
  - { a: { switch: leaf1, port: 1 }, b: { switch: spine1, port: 1 } }
hosts:
  - { name: host1, uplink: { switch: leaf1, port: 3 }, mac: "02:00:00:00:01:01", vtep_ipv4: 10.255.1.1, vtep_ipv6: "fd00:255:1::1" }
"#;

    fn problems(text: &str) -> String {
        Topology::from_yaml(text).unwrap_err().to_string()
    }

    #[test]
    fn defaults_are_filled_in() {
        let t = Topology::from_yaml(GOOD).unwrap();
        assert_eq!(t.fabric.mtu, 9216);
        assert_eq!(t.fabric.vni_pool.first.get(), 10_000);
        assert_eq!(t.switches[1].router_mac().to_string(), "02:fa:b0:00:00:02");
    }

    #[test]
    fn every_problem_names_its_field() {
        let bad = GOOD
            .replace("device_id: 2", "device_id: 1")
            .replace("port: 3 }, mac", "port: 10 }, mac")
            .replace("10.255.1.1", "10.255.0.2");
        let said = problems(&bad);
        for field in ["switches[1].device_id", "hosts[0].uplink.port", "hosts[0].vtep_ipv4"] {
            assert!(said.contains(field), "{field} missing in {said}");
        }
    }

    #[test]
    fn a_machine_is_named_once() {
        let with = |first: &str, second: &str| {
            let text = GOOD.replace("device_id: 1,", &format!("device_id: 1, {first},"));
            Topology::from_yaml(&text.replace("device_id: 2,", &format!("device_id: 2, {second},")))
        };
        let spine = r#"serial: AF39, mac: "02:aa:00:00:00:01", model: x86_64-acme_s1-r0, software: nos-1.0"#;
        let good = with(spine, r#"serial: AF40, mac: "02:aa:00:00:00:02""#).unwrap();
        assert_eq!(good.switches[0].serial.as_ref().map(Label::as_str), Some("AF39"));
        for (other, field) in [
            ("serial: af39", "switches[1].serial"),
            (r#"mac: "02:aa:00:00:00:01""#, "switches[1].mac"),
            (r#"mac: "03:aa:00:00:00:02""#, "switches[1].mac"),
            (r#"mac: "02:00:00:00:01:01""#, "hosts[0].mac"),
        ] {
            let said = with(spine, other).unwrap_err().to_string();
            assert!(said.contains(&format!("{field}: ")), "{field} is not in {said}");
        }
        assert!(with("model: ../etc", "serial: A1").is_err());
    }

    #[test]
    fn settings_of_ports_are_checked() {
        let with = |more: &str| Topology::from_yaml(&GOOD.replace("device_id: 1,", &format!("device_id: 1, {more},")));
        let good = "ports: [{ port: 1, speed: 25G, fec: rs528, auto_negotiate: false }], \
                    breakouts: [{ component: 1/1, ports: 4, speed: 25G, lanes: 1 }]";
        let spine = with(good).unwrap().switches.remove(0);
        assert_eq!(spine.ports[0].fec, Some(ethernet::Fec::Rs528));
        assert_eq!(spine.breakouts[0].to_string(), "4x25G");
        for (wrong, words) in [
            ("ports: [{ port: 1, speed: 26G }]", "26G"),
            ("ports: [{ port: 1 }, { port: 1 }]", "switches[0].ports[1].port"),
            (
                "breakouts: [{ component: 1/1, ports: 9, speed: 25G }]",
                "switches[0].breakouts[0].ports",
            ),
            (
                "breakouts: [{ component: '', ports: 2, speed: 25G }]",
                "switches[0].breakouts[0].component",
            ),
        ] {
            let said = with(wrong).unwrap_err().to_string();
            assert!(said.contains(words), "{words} is not in {said}");
        }
    }

    #[test]
    fn unknown_names_and_fields_are_refused() {
        assert!(problems(&GOOD.replace("switch: spine1", "switch: spine9")).contains("links[0].b.switch"));
        assert!(problems(&GOOD.replace("access_ports", "acces_ports")).contains("acces_ports"));
        assert!(
            problems(&GOOD.replace("uplink: { switch: leaf1", "uplink: { switch: spine1")).contains("is not a leaf")
        );
        assert!(problems("switches: [").starts_with("topology: "));
    }
}
