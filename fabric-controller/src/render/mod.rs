//! From the model to what devices should hold: pure functions, one per kind of contribution.
//!
//! **Contract with the engine.** A contribution ([`Source`](crate::ident::Source)) is what
//! one object, or one pair of objects, adds to ONE device. When something changes, the
//! engine renders exactly the contributions whose view may have changed, and compares the result
//! with the old one. So an output may depend only on its view. Two contributions may make
//! the same entity (the engine counts them), but it must have the same content. The cost of a call is
//! linear in its output.

mod allowed;
mod attachment;
mod convert;
mod fabric;
mod flood_rate;
mod host;
mod icmp_error;
mod network;
mod route;
mod source_guard;
mod underlay;

pub use fabric::FabricRender;

use vfabric_api::topology::Role;

use crate::entity::Entity;
use crate::entity::counter::{CounterQuery, CounterValue};
use crate::view::{
    AttachmentView, BehindView, FabricView, FloodView, HostView, NetworkView, PathView, SwitchView, View,
};

/// What is rendered for each device; the implementation depends on the pipeline.
pub trait Render: Send + Sync + 'static {
    /// On every switch: what does not depend on tenants or paths (own loopback, ports,
    /// router MACs, neighbours of fabric ports, default entries ...).
    fn switch(&self, fabric: &FabricView, switch: &SwitchView, out: &mut Vec<Entity>);

    /// On every switch, for each other switch: the group of next hops towards it.
    fn path(&self, path: &PathView, out: &mut Vec<Entity>);

    /// On every switch, for each other switch: underlay routes to it and to the hosts behind it. (Leaves: also the
    /// `remote_vtep` entries.)
    fn behind(&self, fabric: &FabricView, switch: &SwitchView, behind: &BehindView, out: &mut Vec<Entity>);

    /// On a leaf, for each of its hosts: route, neighbour, admission of its address.
    fn local_host(&self, fabric: &FabricView, leaf: &SwitchView, host: &HostView, out: &mut Vec<Entity>);

    /// On a leaf that has an attachment in the network (port or host).
    fn network_on_leaf(&self, fabric: &FabricView, leaf: &SwitchView, network: &NetworkView, out: &mut Vec<Entity>);

    /// On a leaf that has an attachment in any network of the router, for every network of
    /// that router (whether or not it has one in that network): gateways in the VRF.
    fn routed_network_on_leaf(
        &self,
        fabric: &FabricView,
        leaf: &SwitchView,
        network: &NetworkView,
        out: &mut Vec<Entity>,
    );

    /// On a leaf that has an attachment in the network: its flood groups.
    fn flood_on_leaf(
        &self,
        fabric: &FabricView,
        leaf: &SwitchView,
        network: &NetworkView,
        flood: &FloodView,
        out: &mut Vec<Entity>,
    );

    /// On the leaf of a host that has an attachment in the network: admission of the VNI.
    fn host_network_on_leaf(
        &self,
        fabric: &FabricView,
        leaf: &SwitchView,
        host: &HostView,
        network: &NetworkView,
        out: &mut Vec<Entity>,
    );

    /// On a leaf that has an attachment in the attachment's network or (`bridged` false)
    /// only in another network of the same router: how to reach this attachment.
    /// If it is on an access port of this very leaf, the port too.
    fn attachment_on_leaf(
        &self,
        fabric: &FabricView,
        leaf: &SwitchView,
        network: &NetworkView,
        attachment: &AttachmentView,
        bridged: bool,
        out: &mut Vec<Entity>,
    );

    /// On a host that has an attachment in the network: the network.
    fn network_on_host(&self, fabric: &FabricView, host: &HostView, network: &NetworkView, out: &mut Vec<Entity>);

    /// On a host that has an attachment in the attachment's network: this attachment itself if it is
    /// there, otherwise how to reach it.
    fn attachment_on_host(
        &self,
        fabric: &FabricView,
        host: &HostView,
        network: &NetworkView,
        attachment: &AttachmentView,
        out: &mut Vec<Entity>,
    );

    /// The counters of drops on a switch of that role.
    fn drop_counters(&self, role: Role) -> Vec<CounterQuery>;

    /// The meaning of a counter cell: the pipeline's name of the reason, and the `vtep_id` of
    /// the host, if the cell is about one. `None` if it does not count drops.
    fn drop_reason(&self, role: Role, value: &CounterValue) -> Option<(String, Option<u16>)>;

    /// An entity as text for people: table (or kind of kernel object), key, action.
    fn describe(&self, role: Option<Role>, entity: &Entity) -> (String, String, String);
}

/// Renders one contribution.
pub fn render(render: &dyn Render, fabric: &FabricView, view: &View<'_>) -> Vec<Entity> {
    let mut out = Vec::new();
    match view {
        View::Switch(switch) => render.switch(fabric, switch, &mut out),
        View::Path(_, path) => render.path(path, &mut out),
        View::Behind(switch, behind) => render.behind(fabric, switch, behind, &mut out),
        View::LocalHost(leaf, host) => render.local_host(fabric, leaf, host, &mut out),
        View::NetworkOnLeaf(leaf, network) => render.network_on_leaf(fabric, leaf, network, &mut out),
        View::RoutedOnLeaf(leaf, network) => render.routed_network_on_leaf(fabric, leaf, network, &mut out),
        View::Flood(leaf, network, flood) => render.flood_on_leaf(fabric, leaf, network, flood, &mut out),
        View::HostNetworkOnLeaf(leaf, host, network) => {
            render.host_network_on_leaf(fabric, leaf, host, network, &mut out);
        }
        View::NetworkOnHost(host, network) => render.network_on_host(fabric, host, network, &mut out),
        View::AttachmentOnLeaf(leaf, network, attachment, bridged) => {
            render.attachment_on_leaf(fabric, leaf, network, attachment, *bridged, &mut out);
        }
        View::AttachmentOnHost(host, network, attachment) => {
            render.attachment_on_host(fabric, host, network, attachment, &mut out);
        }
    }
    out
}
