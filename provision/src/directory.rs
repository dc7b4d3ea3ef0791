//! Decides which switch of the inventory a machine is.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

use vfabric_api::ident::{Label, Mac, Name};
use vfabric_api::topology::{Switch, Topology};

/// The part of the inventory that matters here, indexed.
#[derive(Debug, Default)]
pub struct Directory {
    fabric: String,
    switches: Vec<Switch>,
    topology: Option<Topology>,
    by_name: HashMap<Name, usize>,
    by_mac: HashMap<Mac, usize>,
    by_serial: HashMap<String, usize>,
    by_address: HashMap<IpAddr, usize>,
}

/// Why a machine is not recognised as a switch of the inventory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Neither its MAC address nor its serial number is in the inventory.
    Unknown,
    /// Its MAC address belongs to a switch with another serial number.
    Serial {
        /// The switch of that MAC address.
        switch: Name,
        /// Its serial number in the inventory.
        expected: Label,
        /// The serial number that the machine reports.
        found: Label,
    },
    /// Its serial number belongs to a switch with another MAC address.
    Mac {
        /// The switch of that serial number.
        switch: Name,
        /// Its MAC address in the inventory.
        expected: Mac,
    },
    /// Its MAC address belongs to one switch, its serial number to another.
    Two {
        /// The switch of that MAC address.
        by_mac: Name,
        /// The switch of that serial number.
        by_serial: Name,
    },
    /// Another machine with the same serial number has the switch's lease.
    Clone {
        /// The switch.
        switch: Name,
        /// The machine that has the lease.
        holder: Mac,
    },
}

impl Refusal {
    /// Whether an open enrolment window lets the machine in. A machine that contradicts the inventory stays out.
    pub fn may_enrol(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    /// The switch whose timeline should show the refusal.
    pub fn switch(&self) -> Option<&Name> {
        match self {
            Self::Unknown => None,
            Self::Serial { switch, .. } | Self::Mac { switch, .. } | Self::Clone { switch, .. } => Some(switch),
            Self::Two { by_mac, .. } => Some(by_mac),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("neither its MAC address nor its serial number is in the inventory"),
            Self::Serial {
                switch,
                expected,
                found,
            } => write!(
                f,
                "its MAC address is of `{switch}`, which has serial number {expected}, but it says {found}: \
                 is it another machine, or is the inventory wrong?"
            ),
            Self::Mac { switch, expected } => write!(
                f,
                "its serial number is of `{switch}`, whose management port has MAC address {expected}: \
                 a clone, or is the inventory wrong?"
            ),
            Self::Two { by_mac, by_serial } => write!(
                f,
                "its MAC address is of `{by_mac}` and its serial number of `{by_serial}`: are two entries swapped?"
            ),
            Self::Clone { switch, holder } => write!(
                f,
                "it has the serial number of `{switch}`, and so has {holder}, which holds the lease: a clone?"
            ),
        }
    }
}

impl Directory {
    /// The directory of a topology.
    pub fn new(topology: Topology) -> Self {
        let mut directory = Self {
            fabric: topology.fabric.name.to_string(),
            switches: topology.switches.clone(),
            topology: Some(topology),
            ..Self::default()
        };
        for (i, switch) in directory.switches.iter().enumerate() {
            directory.by_name.insert(switch.name.clone(), i);
            directory.by_mac.extend(switch.mac.map(|mac| (mac, i)));
            let serial = switch.serial.as_ref().map(Label::folded);
            directory.by_serial.extend(serial.map(|serial| (serial, i)));
            // Only addresses of switches that can be recognised: this server gives no address to others.
            if is_recognisable(switch) {
                directory.by_address.insert(switch.p4runtime.ip(), i);
            }
        }
        directory
    }

    /// Name of the fabric.
    pub fn fabric(&self) -> &str {
        &self.fabric
    }

    /// The topology; none until an inventory has been read.
    pub fn topology(&self) -> Option<&Topology> {
        self.topology.as_ref()
    }

    /// All switches.
    pub fn switches(&self) -> &[Switch] {
        &self.switches
    }

    /// The switch with a name.
    pub fn switch(&self, name: &Name) -> Option<&Switch> {
        self.by_name.get(name).and_then(|i| self.switches.get(*i))
    }

    /// The switch whose own address this is.
    pub fn switch_at(&self, address: impl Into<IpAddr>) -> Option<&Switch> {
        self.by_address.get(&address.into()).and_then(|i| self.switches.get(*i))
    }

    /// The switch that a machine is. Without a readable serial number, the MAC address alone decides.
    ///
    /// # Errors
    /// Why the machine is no switch of the inventory.
    pub fn recognise(&self, mac: Option<Mac>, serial: Option<&Label>) -> Result<&Switch, Refusal> {
        let by_mac = mac
            .and_then(|mac| self.by_mac.get(&mac))
            .and_then(|i| self.switches.get(*i));
        let by_serial = serial.and_then(|serial| self.by_serial.get(&serial.folded()));
        let by_serial = by_serial.and_then(|i| self.switches.get(*i));
        match (by_mac, by_serial) {
            (None, None) => Err(Refusal::Unknown),
            (Some(m), Some(s)) if m.name == s.name => Ok(m),
            (Some(m), Some(s)) => Err(Refusal::Two {
                by_mac: m.name.clone(),
                by_serial: s.name.clone(),
            }),
            (Some(m), None) => match (&m.serial, serial) {
                (Some(expected), Some(found)) => Err(Refusal::Serial {
                    switch: m.name.clone(),
                    expected: expected.clone(),
                    found: found.clone(),
                }),
                _ => Ok(m),
            },
            (None, Some(s)) => match (s.mac, mac) {
                (Some(expected), Some(_)) => Err(Refusal::Mac {
                    switch: s.name.clone(),
                    expected,
                }),
                _ => Ok(s),
            },
        }
    }
}

fn is_recognisable(switch: &Switch) -> bool {
    switch.mac.is_some() || switch.serial.is_some()
}

#[cfg(test)]
pub(crate) mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    pub(crate) const TOPOLOGY: &str = r#"
fabric: { name: lab }
switches:
  - { name: spine1, role: spine, device_id: 1, loopback_ipv4: 10.255.0.1, loopback_ipv6: "fd00:255::1", p4runtime: "192.0.2.11:9559", serial: AF39, mac: "02:aa:00:00:00:01", model: x86_64-acme_s1-r0, software: nos-1.0 }
  - { name: leaf1, role: leaf, device_id: 2, loopback_ipv4: 10.255.0.2, loopback_ipv6: "fd00:255::2", p4runtime: "192.0.2.12:9559", serial: AF40, mac: "02:aa:00:00:00:02", model: x86_64-acme_s1-r0, software: nos-1.0 }
  - { name: leaf2, role: leaf, device_id: 3, loopback_ipv4: 10.255.0.3, loopback_ipv6: "fd00:255::3", p4runtime: "203.0.113.13:9559", serial: AF41, software: nos-1.0 }
  - { name: leaf3, role: leaf, device_id: 4, loopback_ipv4: 10.255.0.4, loopback_ipv6: "fd00:255::4", p4runtime: "203.0.113.14:9559", mac: "02:aa:00:00:00:04" }
  - { name: leaf4, role: leaf, device_id: 5, loopback_ipv4: 10.255.0.5, loopback_ipv6: "fd00:255::5", p4runtime: "192.0.2.15:9559" }
links:
  - { a: { switch: leaf1, port: 1 }, b: { switch: spine1, port: 1 } }
"#;

    pub(crate) fn directory() -> Directory {
        Directory::new(Topology::from_yaml(TOPOLOGY).unwrap())
    }

    fn mac(last: u8) -> Option<Mac> {
        Some(Mac([2, 0xaa, 0, 0, 0, last]))
    }

    fn who(mac: Option<Mac>, serial: Option<&str>) -> String {
        let serial: Option<Label> = serial.map(|s| s.parse().unwrap());
        match directory().recognise(mac, serial.as_ref()) {
            Ok(switch) => switch.name.to_string(),
            Err(refusal) => format!("{refusal:?}").split([' ', '{']).next().unwrap().to_owned(),
        }
    }

    #[test]
    fn machines_are_recognised_and_contradictions_refused() {
        for (mac, serial, expected) in [
            (mac(1), Some("AF39"), "spine1"),
            (mac(1), Some("af39"), "spine1"),
            (mac(1), None, "spine1"),
            (None, Some("AF39"), "spine1"),
            // The inventory has only a serial number, or only a MAC address.
            (mac(9), Some("AF41"), "leaf2"),
            (mac(4), Some("ZZ"), "leaf3"),
            (mac(9), None, "Unknown"),
            (None, None, "Unknown"),
            (mac(9), Some("ZZ"), "Unknown"),
            (mac(1), Some("ZZ"), "Serial"),
            (mac(9), Some("AF39"), "Mac"),
            (mac(1), Some("AF40"), "Two"),
            (mac(4), Some("AF41"), "Two"),
        ] {
            assert_eq!(who(mac, serial), expected, "{mac:?} {serial:?}");
        }
    }

    #[test]
    fn addresses_are_kept_for_switches_that_can_be_recognised() {
        let directory = directory();
        let at = |last: u8| {
            directory
                .switch_at(Ipv4Addr::new(192, 0, 2, last))
                .map(|s| s.name.as_str())
        };
        assert_eq!((at(11), at(12), at(15)), (Some("spine1"), Some("leaf1"), None));
    }
}
