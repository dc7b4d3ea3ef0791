//! Attachments: one interface of one workload in a network.

mod check;
mod migration;
mod place;
mod put;
mod view;

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vfabric_api::error::ApiError;
use vfabric_api::ident::{Mac, Name, PortId};
use vfabric_api::kind::{AttachmentSpec, Key, Kind, Place, Spec, View};
use vfabric_api::status;

use super::{Followed, Seen, TenantObject, Vdc};
use crate::ident::{AttachmentId, HostIndex, NetworkId, Owner, SwitchIndex};
use crate::model::Model;
use crate::model::change::Applied;
use crate::model::fields::Fields;
use crate::model::number::{Number, Uid};

pub use migration::Target;

/// What the store keeps of an attachment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredAttachment {
    /// Its identity.
    #[serde(default)]
    pub uid: Uid,
    /// As written.
    pub spec: AttachmentSpec,
    /// Its MAC address: allocated once, kept for life.
    pub mac: Mac,
    /// Its IP addresses.
    pub ips: Vec<IpAddr>,
    /// Number of its (port, VLAN) on its leaf; 0 on a host.
    pub access_id: u16,
}

/// Where an attachment is, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum At {
    /// On a host.
    Host(HostIndex),
    /// On an access port of a leaf, which knows it by this number.
    Port {
        /// The leaf.
        leaf: SwitchIndex,
        /// The port.
        port: PortId,
        /// Its VLAN.
        vlan: Option<u16>,
        /// Number of (port, VLAN) on the leaf.
        access_id: u16,
    },
}

/// An attachment. It contains the stored form, which readers share.
#[derive(Debug)]
pub struct Attachment {
    kept: Arc<StoredAttachment>,
    /// Its vDC.
    pub vdc: Name,
    /// Its network.
    pub network: NetworkId,
    /// Where it is.
    pub at: At,
    /// Where it is to be, while it migrates.
    pub target: Option<Target>,
}

impl Deref for Attachment {
    type Target = StoredAttachment;

    fn deref(&self) -> &StoredAttachment {
        &self.kept
    }
}

impl Attachment {
    /// The place where it is, and the one where it is to be.
    pub fn places(&self) -> impl Iterator<Item = At> {
        let target = self.target.as_ref().map(|target| At::Host(target.host));
        std::iter::once(self.at.clone()).chain(target)
    }

    /// Numbers that stand for its places.
    pub fn place_numbers(&self) -> Vec<Number> {
        let target = self.target.as_ref().map(Target::number);
        self.home_numbers().into_iter().chain(target).collect()
    }

    fn home_numbers(&self) -> Vec<Number> {
        match (&self.at, &self.spec.place) {
            (At::Host(host), Place::Host { netns, interface, .. }) => {
                let (netns, interface) = (Arc::from(netns.as_str()), Arc::from(interface.as_str()));
                vec![Number::Interface(*host, netns, interface)]
            }
            (
                At::Port {
                    leaf,
                    port,
                    vlan,
                    access_id,
                },
                _,
            ) => vec![
                Number::PortVlan(*leaf, *port, *vlan),
                Number::AccessId(*leaf, *access_id),
            ],
            (At::Host(_), _) => Vec::new(),
        }
    }

    /// Its addresses, in the network with this identity.
    pub fn address_numbers(&self, network: Uid) -> impl Iterator<Item = Number> {
        let ips = self.ips.iter().map(move |ip| Number::Ip(network, *ip));
        std::iter::once(Number::Mac(network, self.mac)).chain(ips)
    }
}

/// The handle of an attachment.
fn id_of(model: &Model, key: &Key) -> Option<AttachmentId> {
    model.vdcs.get(&key.vdc)?.attachments.get(&key.name).copied()
}

impl TenantObject for StoredAttachment {
    type Spec = AttachmentSpec;

    fn check(model: &Model, fields: &Fields<'_>, key: &Key, spec: &AttachmentSpec) -> Result<Self, ApiError> {
        model.check_attachment(fields, key, spec)
    }

    fn find(model: &Model, key: &Key) -> Option<Arc<Self>> {
        let attachment = model.attachments.get(id_of(model, key)?)?;
        Some(Arc::clone(&attachment.kept))
    }

    fn put(self: Arc<Self>, model: &mut Model, key: &Key, applied: &mut Applied) {
        model.put_attachment(key, self, applied);
    }

    fn remove(model: &mut Model, key: &Key, applied: &mut Applied) {
        model.remove_attachment(key, None, applied);
    }

    fn names(vdc: &Vdc) -> Box<dyn Iterator<Item = &Name> + '_> {
        Box::new(vdc.attachments.keys())
    }

    fn owner(model: &Model, key: &Key) -> Option<Owner> {
        id_of(model, key).map(Owner::Attachment)
    }

    fn spec(&self) -> Spec {
        Spec::Attachment(self.spec.clone())
    }

    fn uid_mut(&mut self) -> Option<&mut Uid> {
        Some(&mut self.uid)
    }

    fn networks(&self) -> &[Name] {
        std::slice::from_ref(&self.spec.network)
    }

    /// Addresses only mean something in a network that exists.
    fn numbers(&self, model: &Model, key: &Key) -> Vec<Number> {
        let mut numbers = model.stored_place_numbers(&self.spec.place, self.access_id);
        let target = self.spec.migration.as_ref().and_then(|m| m.target(&self.spec.place));
        numbers.extend(target.iter().flat_map(|place| model.stored_place_numbers(place, 0)));
        if let Some((_, network)) = model.known_network(&key.vdc, &self.spec.network) {
            let ips = self.ips.iter().map(|ip| Number::Ip(network.uid, *ip));
            numbers.extend(std::iter::once(Number::Mac(network.uid, self.mac)).chain(ips));
        }
        numbers
    }

    fn followed(&self, key: &Key) -> Followed {
        let (Place::Host { host: device, .. } | Place::Port { switch: device, .. }) = &self.spec.place;
        let network = Key::new(key.vdc.clone(), Kind::Network, self.spec.network.clone());
        Followed {
            asked: vec![key.clone()],
            waits: vec![key.clone(), network],
            device: Some(device.clone()),
            ..Followed::default()
        }
    }

    fn view(&self, seen: Seen) -> View {
        View::Attachment(status::Attachment {
            spec: self.spec.clone(),
            mac: self.mac,
            ips: self.ips.clone(),
            applied: seen.applied,
            owner: seen.owner,
            revision: seen.revision,
        })
    }
}
