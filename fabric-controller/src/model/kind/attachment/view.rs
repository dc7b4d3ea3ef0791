//! The view of an attachment, and its contributions.

use vfabric_api::kind::Place;

use super::{At, Attachment, Target};
use crate::ident::{AttachmentId, Source};
use crate::model::Model;
use crate::view::{AccessView, AllowedView, AttachmentView, PlaceView, TargetView};

impl Model {
    pub(in crate::model) fn attachment_view(&self, attachment: &Attachment) -> Option<AttachmentView> {
        let place = match (&attachment.at, &attachment.spec.place) {
            (At::Host(host), Place::Host { netns, interface, .. }) => PlaceView::Host {
                host: self.fabric.host_view(*host)?.clone(),
                netns: netns.clone(),
                interface: interface.clone(),
            },
            (At::Port { .. }, _) => PlaceView::Port(self.access_view(attachment)?),
            (At::Host(_), _) => return None,
        };
        Some(AttachmentView {
            id: format!("{}/{}", attachment.vdc, attachment.spec.name),
            mac: attachment.mac,
            ips: attachment.ips.clone(),
            place,
            port_security: attachment.spec.port_security,
            allowed: attachment
                .spec
                .allowed_addresses
                .iter()
                .filter_map(|a| {
                    Some(AllowedView {
                        net: a.net()?,
                        mac: a.mac.unwrap_or(attachment.mac),
                    })
                })
                .collect(),
            routes: self.routes_to(attachment),
            target: attachment.target.as_ref().and_then(|target| self.target_view(target)),
        })
    }

    fn target_view(&self, target: &Target) -> Option<TargetView> {
        Some(TargetView {
            host: self.fabric.host_view(target.host)?.clone(),
            netns: target.netns.clone(),
            interface: target.interface.clone(),
            active: target.active,
        })
    }

    pub(in crate::model) fn access_view(&self, attachment: &Attachment) -> Option<AccessView> {
        let At::Port {
            leaf,
            port,
            vlan,
            access_id,
        } = &attachment.at
        else {
            return None;
        };
        let leaf = self.fabric.switch_view(*leaf)?.vtep.clone();
        Some(AccessView {
            leaf,
            port: *port,
            vlan: *vlan,
            access_id: *access_id,
        })
    }

    /// Contributions that an attachment owns.
    pub(in crate::model) fn sources_of_attachment(&self, id: AttachmentId) -> Vec<Source> {
        let Some(network) = self.attachments.get(id).and_then(|a| self.networks.get(a.network)) else {
            return Vec::new();
        };
        let routed = network
            .router
            .and_then(|r| self.routers.get(r))
            .into_iter()
            .flat_map(|r| r.leaves.keys());
        let leaves = network
            .used()
            .leaves
            .keys()
            .chain(routed)
            .map(|l| Source::AttachmentOnLeaf(id, *l));
        let hosts = network.used().hosts.keys().map(|h| Source::AttachmentOnHost(id, *h));
        let mut sources: Vec<Source> = leaves.chain(hosts).collect();
        sources.sort_unstable();
        sources.dedup();
        sources
    }
}
