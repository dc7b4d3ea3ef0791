//! How a port is set on the wire: speed, negotiation, forward error correction (openconfig-if-ethernet).

use std::fmt;

/// Forward error correction (openconfig-if-ethernet, `INTERFACE_FEC`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fec {
    /// None.
    Disabled,
    /// The device chooses.
    Auto,
    /// Fire code (IEEE 802.3 clause 74).
    Fc,
    /// Reed-Solomon (528, 514).
    Rs528,
    /// Reed-Solomon (544, 514).
    Rs544,
    /// Reed-Solomon (544, 514), two code words interleaved.
    Rs544Interleaved,
}

/// Modes and their identities.
const FEC: [(Fec, &str); 6] = [
    (Fec::Disabled, "FEC_DISABLED"),
    (Fec::Auto, "FEC_AUTO"),
    (Fec::Fc, "FEC_FC"),
    (Fec::Rs528, "FEC_RS528"),
    (Fec::Rs544, "FEC_RS544"),
    (Fec::Rs544Interleaved, "FEC_RS544_2X_INTERLEAVE"),
];

/// Speeds in bits per second and their identities (openconfig-if-ethernet, `ETHERNET_SPEED`).
const SPEEDS: [(u64, &str); 13] = [
    (10_000_000, "SPEED_10MB"),
    (100_000_000, "SPEED_100MB"),
    (1_000_000_000, "SPEED_1GB"),
    (2_500_000_000, "SPEED_2500MB"),
    (5_000_000_000, "SPEED_5GB"),
    (10_000_000_000, "SPEED_10GB"),
    (25_000_000_000, "SPEED_25GB"),
    (40_000_000_000, "SPEED_40GB"),
    (50_000_000_000, "SPEED_50GB"),
    (100_000_000_000, "SPEED_100GB"),
    (200_000_000_000, "SPEED_200GB"),
    (400_000_000_000, "SPEED_400GB"),
    (800_000_000_000, "SPEED_800GB"),
];

impl Fec {
    /// The mode of an identity, with or without its module.
    pub fn of_identity(identity: &str) -> Option<Self> {
        let found = FEC.iter().find(|(_, name)| *name == bare(identity));
        found.map(|(fec, _)| *fec)
    }

    /// Its identity, without its module.
    pub fn identity(self) -> &'static str {
        let found = FEC.iter().find(|(fec, _)| *fec == self);
        found.map_or("FEC_DISABLED", |(_, name)| name)
    }
}

impl fmt::Display for Fec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.identity())
    }
}

fn bare(identity: &str) -> &str {
    identity.rsplit(':').next().unwrap_or_default()
}

/// The identity of a speed in bits per second.
pub fn speed_identity(bps: Option<u64>) -> &'static str {
    let found = SPEEDS.iter().find(|(speed, _)| Some(*speed) == bps);
    found.map_or("SPEED_UNKNOWN", |(_, name)| name)
}

/// The speed of an identity, in bits per second.
pub fn speed_of_identity(identity: &str) -> Option<u64> {
    let found = SPEEDS.iter().find(|(_, name)| *name == bare(identity));
    found.map(|(speed, _)| *speed)
}

/// What a `Set` asked of a port; what it did not ask for stays as the device has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// Bits per second.
    pub speed_bps: Option<u64>,
    /// Whether it negotiates with the other end.
    pub auto_negotiate: Option<bool>,
    /// Forward error correction.
    pub fec: Option<Fec>,
}

impl Settings {
    /// What of these is new beside earlier ones.
    pub fn beside(self, before: Self) -> Self {
        Self {
            speed_bps: self.speed_bps.filter(|_| self.speed_bps != before.speed_bps),
            auto_negotiate: self
                .auto_negotiate
                .filter(|_| self.auto_negotiate != before.auto_negotiate),
            fec: self.fec.filter(|_| self.fec != before.fec),
        }
    }
}

/// A port on the wire, apart from its speed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ethernet {
    /// What was asked of it.
    pub config: Settings,
    /// Whether it negotiates, if the device says so.
    pub auto_negotiate: Option<bool>,
    /// Forward error correction that is in use, if the device says so.
    pub fec: Option<Fec>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_come_with_or_without_their_module() {
        assert_eq!(
            speed_of_identity("openconfig-if-ethernet:SPEED_25GB"),
            Some(25_000_000_000)
        );
        assert_eq!(speed_of_identity("SPEED_UNKNOWN"), None);
        assert_eq!(speed_identity(Some(1)), "SPEED_UNKNOWN");
        assert_eq!(
            Fec::of_identity("openconfig-if-ethernet:FEC_RS544_2X_INTERLEAVE"),
            Some(Fec::Rs544Interleaved)
        );
        for (fec, name) in FEC {
            assert_eq!((Fec::of_identity(name), fec.identity()), (Some(fec), name));
        }
    }
}
