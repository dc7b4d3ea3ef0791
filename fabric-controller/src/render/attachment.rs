//! What a leaf needs to reach an attachment.

use fabric_pipeline::tables::{bridge_mac, port_vlan, replica};

use super::network::{access_replica, answer};
use super::route::{self, Way};
use super::{convert, flood_rate, source_guard};
use crate::entity::Entity;
use crate::view::{AccessView, AttachmentView, NetworkView, PlaceView, SwitchView};

/// `Render::attachment_on_leaf`.
pub(super) fn on_leaf(
    leaf: &SwitchView,
    network: &NetworkView,
    attachment: &AttachmentView,
    bridged: bool,
    out: &mut Vec<Entity>,
) {
    let bd = convert::vni(network.vni);
    let dmac = convert::mac(attachment.mac);
    let way = match &attachment.place {
        PlaceView::Host { host, .. } => Way::Tunnel {
            vtep_id: attachment.served_by().unwrap_or(&host.vtep).vtep_id.into(),
        },
        PlaceView::Port(access) if access.leaf.vtep_id == leaf.vtep.vtep_id => {
            access_port(network, attachment, access, out);
            Way::Access {
                port: convert::port(access.port),
                vid: convert::vid(access.vlan),
            }
        }
        PlaceView::Port(access) => Way::Tunnel {
            vtep_id: access.leaf.vtep_id.into(),
        },
    };
    if bridged {
        let action = match way {
            Way::Tunnel { vtep_id } => bridge_mac::Action::BridgeToVtep { vtep_id },
            Way::Access { port, vid } => bridge_mac::Action::BridgeToAccess { port, vid },
        };
        out.push(bridge_mac::Key { bd, dmac }.entry(action).into());
        out.extend(
            attachment
                .ips
                .iter()
                .map(|ip| Entity::from(answer(bd, *ip, dmac, false))),
        );
    }
    if let Some(vrf) = network.vrf.map(convert::vni) {
        let to = route::To {
            network: bd,
            mtu: network.mtu,
            dmac,
            way,
        };
        out.extend(attachment.ips.iter().map(|ip| to.host(vrf, *ip)));
        out.extend(attachment.routes.iter().map(|net| to.prefix(vrf, *net)));
    }
}

/// An access port of this leaf, and copies of flooded frames to it.
fn access_port(network: &NetworkView, attachment: &AttachmentView, access: &AccessView, out: &mut Vec<Entity>) {
    let (port, vid) = (convert::port(access.port), convert::vid(access.vlan));
    let access_id = access_replica(access).into();
    let (bd, vrf) = (convert::vni(network.vni), convert::vrf(network.vrf));
    let speaks_for = if attachment.port_security {
        source_guard::access(network, attachment, access_id, out);
        port_vlan::Action::SetGuardedAccess { bd, vrf, access_id }
    } else {
        port_vlan::Action::SetAccess { bd, vrf, access_id }
    };
    out.push(port_vlan::Key { port, vid }.entry(speaks_for).into());
    let key = replica::Key { replica: access_id };
    out.push(key.entry(replica::Action::ReplicateAccess { vid }).into());
    out.push(flood_rate::of(bd, access_id));
}
