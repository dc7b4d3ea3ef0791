//! What a target can do and where it deviates from the specification.
//!
//! The rest of the crate looks at this struct and never checks which product it talks to. The defaults work with every
//! known target. For a server that says it follows P4Runtime 1.4 or newer, more is used.

/// Capabilities and quirks of a P4Runtime server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Most updates in one Write. A failed Write carries one error per update
    /// in its trailer; 200 of them stay below the usual limit of header bytes.
    pub max_updates: usize,
    /// Offers RECONCILE_AND_COMMIT. bmv2 fails on it for programs with
    /// counters, and then refuses every other pipeline until a bare COMMIT.
    pub reconciles: bool,
    /// Multicast groups and clone sessions survive VERIFY_AND_COMMIT in the
    /// dataplane although reads show none, and inserting them again doubles
    /// their copies. They are deleted before a pipeline is pushed.
    pub keeps_replication: bool,
    /// Group members may watch a port. bmv2 reports the port of one member for all of them, and cannot remove a member
    /// that watches a port from a group: the Write fails half-way, and the switch may crash.
    pub watches_ports: bool,
    /// Keeps the metadata of multicast groups (P4Runtime 1.4, `MulticastGroupEntry.metadata`).
    pub keeps_metadata: bool,
}

/// Updates per Write for servers that follow 1.4. Larger batches gain little and delay other calls.
const MAX_UPDATES_CURRENT: usize = 1000;

impl Target {
    /// Assumes nothing that a server need not have; this fits bmv2 up to 1.15.
    pub const CAUTIOUS: Self = Self {
        max_updates: 200,
        reconciles: false,
        keeps_replication: true,
        watches_ports: false,
        keeps_metadata: false,
    };

    /// Follows P4Runtime 1.4.
    pub const CURRENT: Self = Self {
        max_updates: MAX_UPDATES_CURRENT,
        reconciles: true,
        keeps_replication: false,
        watches_ports: true,
        keeps_metadata: true,
    };

    /// Chosen by the version that Capabilities reported ("1.4.0"); for an unreadable version, the cautious defaults.
    #[must_use]
    pub fn from_version(version: &str) -> Self {
        let mut numbers = version.split(['.', '-', '+']).map_while(|n| n.parse::<u32>().ok());
        match (numbers.next(), numbers.next()) {
            (Some(major), Some(minor)) if (major, minor) >= (1, 4) => Self::CURRENT,
            _ => Self::CAUTIOUS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_readable_new_version_is_trusted() {
        for new in ["1.4.0", "1.5.0-dev", "2.0", "1.10"] {
            assert_eq!(Target::from_version(new), Target::CURRENT, "{new}");
        }
        for old in ["1.3.0", "", "v1.4", "1", "one.five"] {
            assert_eq!(Target::from_version(old), Target::CAUTIOUS, "{old}");
        }
    }
}
