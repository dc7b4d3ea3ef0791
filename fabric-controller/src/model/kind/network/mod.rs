//! Tenant networks: a VNI, its subnets, and where it has attachments.

mod check;
mod place;
mod put;
mod subnet;
mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use vfabric_api::error::ApiError;
use vfabric_api::ident::{Mac, Name, Vni};
use vfabric_api::kind::{Key, Kind, NetworkSpec, Spec, View};
use vfabric_api::status;

pub(in crate::model) use subnet::{address_at, check_ip, disjoint, give_back, is_host_address, martian, take};

use super::{Followed, Seen, TenantObject, Vdc};
use crate::ident::{AttachmentId, HostIndex, Owner, RouterId, SwitchIndex};
use crate::model::Model;
use crate::model::change::Applied;
use crate::model::fields::Fields;
use crate::model::number::{Number, Uid};
use crate::model::pool::Addresses;

/// What the store keeps of a network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredNetwork {
    /// Its identity; 0 in stores of before there were identities.
    #[serde(default)]
    pub uid: Uid,
    /// As written.
    pub spec: NetworkSpec,
    /// Its VNI.
    pub vni: Vni,
}

/// A network on or under a leaf.
#[derive(Debug, Clone, Copy)]
pub struct OnLeaf {
    /// Attachments there.
    pub count: u32,
    /// Number of its pair of flood groups; 0 where the leaf has none left.
    pub group: u16,
}

/// A network and who uses it.
#[derive(Debug)]
pub struct Network {
    /// Its identity.
    pub uid: Uid,
    /// Its vDC.
    pub vdc: Name,
    /// As written.
    pub spec: NetworkSpec,
    /// Its VNI.
    pub vni: Vni,
    /// The router that joins it.
    pub router: Option<RouterId>,
    /// Attachments in it.
    pub attachments: BTreeSet<AttachmentId>,
    /// MAC addresses in use.
    pub macs: BTreeMap<Mac, AttachmentId>,
    /// IP addresses in use.
    pub ips: BTreeMap<IpAddr, AttachmentId>,
    /// Which addresses of each subnet of `spec` can be given out.
    pub(in crate::model) pools: Vec<Addresses>,
    /// Leaves that it has attachments on or under.
    pub leaves: BTreeMap<SwitchIndex, OnLeaf>,
    /// Attachments on each host.
    pub hosts: BTreeMap<HostIndex, u32>,
}

impl TenantObject for StoredNetwork {
    type Spec = NetworkSpec;

    fn check(model: &Model, fields: &Fields<'_>, key: &Key, spec: &NetworkSpec) -> Result<Self, ApiError> {
        model.check_network(fields, key, spec)
    }

    fn user(model: &Model, key: &Key) -> Option<Key> {
        let (_, network) = model.known_network(&key.vdc, &key.name)?;
        let attachment = network.attachments.first().and_then(|a| model.attachments.get(*a));
        let router = network.router.and_then(|r| model.routers.get(r));
        let user = attachment.map(|a| (Kind::Attachment, &a.spec.name));
        let (kind, name) = user.or(router.map(|r| (Kind::Router, &r.spec.name)))?;
        Some(Key::new(key.vdc.clone(), kind, name.clone()))
    }

    fn find(model: &Model, key: &Key) -> Option<Self> {
        let (_, network) = model.known_network(&key.vdc, &key.name)?;
        Some(Self {
            uid: network.uid,
            spec: network.spec.clone(),
            vni: network.vni,
        })
    }

    fn put(self, model: &mut Model, key: &Key, _: &mut Applied) {
        model.put_network(key, self);
    }

    fn remove(model: &mut Model, key: &Key, _: &mut Applied) {
        model.remove_network(key);
    }

    fn names(vdc: &Vdc) -> Box<dyn Iterator<Item = &Name> + '_> {
        Box::new(vdc.networks.keys())
    }

    fn owner(model: &Model, key: &Key) -> Option<Owner> {
        model
            .known_network(&key.vdc, &key.name)
            .map(|(id, _)| Owner::Network(id))
    }

    fn spec(&self) -> Spec {
        Spec::Network(self.spec.clone())
    }

    fn uid_mut(&mut self) -> Option<&mut Uid> {
        Some(&mut self.uid)
    }

    fn numbers(&self, _: &Model, _: &Key) -> Vec<Number> {
        vec![Number::Vni(self.vni.get())]
    }

    fn followed(&self, key: &Key) -> Followed {
        Followed {
            asked: vec![key.clone()],
            waits: vec![key.clone()],
            ..Followed::default()
        }
    }

    fn view(&self, seen: Seen) -> View {
        View::Network(status::Network {
            spec: self.spec.clone(),
            vni: self.vni,
            router: seen.router,
            applied: seen.applied,
            owner: seen.owner,
            revision: seen.revision,
        })
    }
}
