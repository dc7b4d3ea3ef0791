//! How ports of a switch are set on the wire: speed, forward error correction, breakout.
//!
//! The names are those that people use (`25G`, `rs528`); OpenConfig's identities for them are in the controller and in `p4-switch`.

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ident::PortId;

/// Speed of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub enum Speed {
    /// 10 Mbit/s.
    #[serde(rename = "10M")]
    M10,
    /// 100 Mbit/s.
    #[serde(rename = "100M")]
    M100,
    /// 1 Gbit/s.
    #[serde(rename = "1G")]
    G1,
    /// 2.5 Gbit/s.
    #[serde(rename = "2.5G")]
    G2_5,
    /// 5 Gbit/s.
    #[serde(rename = "5G")]
    G5,
    /// 10 Gbit/s.
    #[serde(rename = "10G")]
    G10,
    /// 25 Gbit/s.
    #[serde(rename = "25G")]
    G25,
    /// 40 Gbit/s.
    #[serde(rename = "40G")]
    G40,
    /// 50 Gbit/s.
    #[serde(rename = "50G")]
    G50,
    /// 100 Gbit/s.
    #[serde(rename = "100G")]
    G100,
    /// 200 Gbit/s.
    #[serde(rename = "200G")]
    G200,
    /// 400 Gbit/s.
    #[serde(rename = "400G")]
    G400,
    /// 800 Gbit/s.
    #[serde(rename = "800G")]
    G800,
}

impl Speed {
    /// Every speed, with its name and OpenConfig's (openconfig-if-ethernet, `ETHERNET_SPEED`).
    pub const ALL: [(Self, &'static str, &'static str); 13] = [
        (Self::M10, "10M", "SPEED_10MB"),
        (Self::M100, "100M", "SPEED_100MB"),
        (Self::G1, "1G", "SPEED_1GB"),
        (Self::G2_5, "2.5G", "SPEED_2500MB"),
        (Self::G5, "5G", "SPEED_5GB"),
        (Self::G10, "10G", "SPEED_10GB"),
        (Self::G25, "25G", "SPEED_25GB"),
        (Self::G40, "40G", "SPEED_40GB"),
        (Self::G50, "50G", "SPEED_50GB"),
        (Self::G100, "100G", "SPEED_100GB"),
        (Self::G200, "200G", "SPEED_200GB"),
        (Self::G400, "400G", "SPEED_400GB"),
        (Self::G800, "800G", "SPEED_800GB"),
    ];

    fn names(self) -> (&'static str, &'static str) {
        let found = Self::ALL.iter().find(|(speed, ..)| *speed == self);
        found.map_or(("", ""), |(_, name, identity)| (*name, *identity))
    }

    /// OpenConfig's identity, without its module.
    pub fn identity(self) -> &'static str {
        self.names().1
    }

    /// The speed of an identity of OpenConfig, without its module; none for `SPEED_UNKNOWN` and others.
    pub fn of_identity(identity: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, _, known)| *known == identity);
        found.map(|(speed, ..)| *speed)
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.names().0)
    }
}

/// Forward error correction of a port. Both ends of a cable need the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub enum Fec {
    /// None.
    #[serde(rename = "none")]
    Disabled,
    /// The switch chooses by speed and transceiver.
    #[serde(rename = "auto")]
    Auto,
    /// Fire code (IEEE 802.3 clause 74).
    #[serde(rename = "fc")]
    Fc,
    /// Reed-Solomon (528, 514) (IEEE 802.3 clause 91).
    #[serde(rename = "rs528")]
    Rs528,
    /// Reed-Solomon (544, 514) (IEEE 802.3 clauses 91 and 134).
    #[serde(rename = "rs544")]
    Rs544,
    /// The same, two code words interleaved (IEEE 802.3 clause 119).
    #[serde(rename = "rs544-interleaved")]
    Rs544Interleaved,
}

impl Fec {
    /// Every mode, with its name and OpenConfig's (openconfig-if-ethernet, `INTERFACE_FEC`).
    pub const ALL: [(Self, &'static str, &'static str); 6] = [
        (Self::Disabled, "none", "FEC_DISABLED"),
        (Self::Auto, "auto", "FEC_AUTO"),
        (Self::Fc, "fc", "FEC_FC"),
        (Self::Rs528, "rs528", "FEC_RS528"),
        (Self::Rs544, "rs544", "FEC_RS544"),
        (Self::Rs544Interleaved, "rs544-interleaved", "FEC_RS544_2X_INTERLEAVE"),
    ];

    fn names(self) -> (&'static str, &'static str) {
        let found = Self::ALL.iter().find(|(fec, ..)| *fec == self);
        found.map_or(("", ""), |(_, name, identity)| (*name, *identity))
    }

    /// OpenConfig's identity, without its module.
    pub fn identity(self) -> &'static str {
        self.names().1
    }

    /// The mode of an identity of OpenConfig, without its module.
    pub fn of_identity(identity: &str) -> Option<Self> {
        let found = Self::ALL.iter().find(|(_, _, known)| *known == identity);
        found.map(|(fec, ..)| *fec)
    }
}

impl fmt::Display for Fec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.names().0)
    }
}

/// How one port of a switch is set, whatever it is used for. What is left out stays as the switch has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PortSettings {
    /// The port.
    pub port: PortId,
    /// Its speed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<Speed>,
    /// Its forward error correction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fec: Option<Fec>,
    /// Whether it negotiates with the other end (IEEE 802.3 clauses 28 and 73).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_negotiate: Option<bool>,
}

/// A front-panel port that is split into several.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Breakout {
    /// The front-panel port, as the switch names its component in OpenConfig: `Ethernet1/1`, `1/1`.
    #[schema(min_length = 1, max_length = 64)]
    pub component: String,
    /// How many ports it becomes, 1 to 8.
    #[schema(minimum = 1, maximum = 8)]
    pub ports: u8,
    /// Speed of each of them.
    pub speed: Speed,
    /// Lanes of each of them, 1 to 8, for switches that need this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 8)]
    pub lanes: Option<u8>,
}

impl fmt::Display for Breakout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.ports, self.speed)
    }
}

/// Longest name of a component, in octets.
const COMPONENT: usize = 64;

/// Ports and lanes that a front-panel port may be split into.
const SPLIT: std::ops::RangeInclusive<u8> = 1..=8;

/// What is wrong with the settings of a switch's ports: the field below the switch, what it is, and what is expected.
pub fn problems(ports: &[PortSettings], breakouts: &[Breakout]) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    for (i, settings) in ports.iter().enumerate() {
        if ports.iter().take(i).any(|other| other.port == settings.port) {
            let field = format!("ports[{i}].port");
            found.push((field, settings.port.to_string(), "each port once".to_owned()));
        }
    }
    for (i, breakout) in breakouts.iter().enumerate() {
        let mut say = |field: &str, value: String, expected: &str| {
            found.push((format!("breakouts[{i}].{field}"), value, expected.to_owned()));
        };
        let is_name = |name: &str| (1..=COMPONENT).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic());
        if !is_name(&breakout.component) {
            let shown = breakout.component.chars().take(COMPONENT).collect();
            say("component", shown, "1 to 64 printable ASCII characters without spaces");
        }
        if breakouts
            .iter()
            .take(i)
            .any(|other| other.component == breakout.component)
        {
            say("component", breakout.component.clone(), "each component once");
        }
        if !SPLIT.contains(&breakout.ports) {
            say("ports", breakout.ports.to_string(), "1 to 8");
        }
        if let Some(lanes) = breakout.lanes.filter(|lanes| !SPLIT.contains(lanes)) {
            say("lanes", lanes.to_string(), "1 to 8");
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_json_are_those_that_are_shown_and_those_of_openconfig_lead_back() {
        for (speed, name, identity) in Speed::ALL {
            assert_eq!(serde_json::to_value(speed).unwrap(), name);
            assert_eq!((speed.to_string().as_str(), speed.identity()), (name, identity));
            assert_eq!(Speed::of_identity(identity), Some(speed));
        }
        for (fec, name, identity) in Fec::ALL {
            assert_eq!(serde_json::to_value(fec).unwrap(), name);
            assert_eq!((fec.to_string().as_str(), fec.identity()), (name, identity));
            assert_eq!(Fec::of_identity(identity), Some(fec));
        }
        assert_eq!(Speed::of_identity("SPEED_UNKNOWN"), None);
    }
}
