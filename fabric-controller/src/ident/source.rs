//! Contributions: what one object, or one pair of objects, adds to one device.

use super::{AttachmentId, HostIndex, NetworkId, SwitchIndex};

/// Names a contribution. Each is rendered, counted and replaced separately, so its size is the unit of incremental
/// work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// `Render::switch`.
    Switch(SwitchIndex),
    /// `Render::path` on the first, towards the second.
    Path(SwitchIndex, SwitchIndex),
    /// `Render::behind` on the first switch, about the second switch and the hosts under it.
    Behind(SwitchIndex, SwitchIndex),
    /// `Render::local_host`, on the host's leaf.
    LocalHost(HostIndex),
    /// `Render::network_on_leaf`.
    NetworkOnLeaf(NetworkId, SwitchIndex),
    /// `Render::routed_network_on_leaf`.
    RoutedOnLeaf(NetworkId, SwitchIndex),
    /// `Render::flood_on_leaf`.
    Flood(NetworkId, SwitchIndex),
    /// `Render::host_network_on_leaf`, on the host's leaf.
    HostNetworkOnLeaf(NetworkId, HostIndex),
    /// `Render::network_on_host`.
    NetworkOnHost(NetworkId, HostIndex),
    /// `Render::attachment_on_leaf`.
    AttachmentOnLeaf(AttachmentId, SwitchIndex),
    /// `Render::attachment_on_host`.
    AttachmentOnHost(AttachmentId, HostIndex),
}

/// The owner of a contribution: the object that asks for its entities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// A switch of the fabric.
    Switch(SwitchIndex),
    /// A host of the fabric.
    Host(HostIndex),
    /// A tenant network.
    Network(NetworkId),
    /// An attachment.
    Attachment(AttachmentId),
}

impl Source {
    /// The owner. (A network may also be on a leaf because of the router that joins it.)
    pub fn owner(self) -> Owner {
        match self {
            Self::Switch(s) => Owner::Switch(s),
            // A path to a switch exists because that switch exists.
            Self::Path(_, to) | Self::Behind(_, to) => Owner::Switch(to),
            Self::LocalHost(h) => Owner::Host(h),
            Self::NetworkOnLeaf(n, _)
            | Self::RoutedOnLeaf(n, _)
            | Self::Flood(n, _)
            | Self::HostNetworkOnLeaf(n, _)
            | Self::NetworkOnHost(n, _) => Owner::Network(n),
            Self::AttachmentOnLeaf(a, _) | Self::AttachmentOnHost(a, _) => Owner::Attachment(a),
        }
    }
}
