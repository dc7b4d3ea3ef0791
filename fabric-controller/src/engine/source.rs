//! Contributions: what one object, or one pair of objects, adds to one device.

use crate::model::{AttachmentId, HostIndex, NetworkId, SwitchIndex};

/// Names a contribution. Each is rendered, counted and replaced by itself, so its size is
/// the grain of incremental work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// `Render::switch`.
    Switch(SwitchIndex),
    /// `Render::path` on the first, towards the second.
    Path(SwitchIndex, SwitchIndex),
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
