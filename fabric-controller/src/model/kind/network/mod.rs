//! Tenant networks: a VNI, its subnets, and where it has attachments.

mod check;
mod place;
mod put;
mod subnet;
mod view;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vfabric_api::error::ApiError;
use vfabric_api::ident::{Mac, Name, Vni};
use vfabric_api::kind::{Key, Kind, NetworkSpec, Spec, View};
use vfabric_api::status;

use subnet::pools;
pub(in crate::model) use subnet::{
    address_at, check_ip, disjoint, give_back, is_host_address, martian, reserved_to, take,
};

use super::{Followed, Seen, TenantObject, Vdc};
use crate::ident::{AttachmentId, HostIndex, Owner, RouterId, SwitchIndex};
use crate::model::Model;
use crate::model::change::Applied;
use crate::model::fields::Fields;
use crate::model::number::{Number, Uid};
use crate::model::pool::Addresses;

/// A network as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredNetwork {
    /// Its identity; 0 in stores from before there were identities.
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

/// A network and its users. It contains the stored form, which readers share.
#[derive(Debug)]
pub struct Network {
    kept: Arc<StoredNetwork>,
    /// Its vDC.
    pub vdc: Name,
    /// The router that joins it.
    pub router: Option<RouterId>,
    /// Boxed, because most networks of a large fabric are empty; none before the first attachment.
    used: Option<Box<Used>>,
}

/// What attachments use of a network.
#[derive(Debug)]
pub struct Used {
    /// Attachments in it.
    pub attachments: BTreeSet<AttachmentId>,
    /// MAC addresses in use.
    pub macs: BTreeMap<Mac, AttachmentId>,
    /// IP addresses in use.
    pub ips: BTreeMap<IpAddr, AttachmentId>,
    /// The free addresses of each subnet.
    pub(in crate::model) pools: Vec<Addresses>,
    /// Leaves that it has attachments on or under.
    pub leaves: BTreeMap<SwitchIndex, OnLeaf>,
    /// Attachments on each host.
    pub hosts: BTreeMap<HostIndex, u32>,
}

impl Used {
    /// Empty, without pools.
    const NOTHING: Self = Self {
        attachments: BTreeSet::new(),
        macs: BTreeMap::new(),
        ips: BTreeMap::new(),
        pools: Vec::new(),
        leaves: BTreeMap::new(),
        hosts: BTreeMap::new(),
    };
}

impl Deref for Network {
    type Target = StoredNetwork;

    fn deref(&self) -> &StoredNetwork {
        &self.kept
    }
}

impl Network {
    /// What attachments use of it, except the pools: see [`Network::pools`].
    pub fn used(&self) -> &Used {
        static NOTHING: Used = Used::NOTHING;
        self.used.as_deref().unwrap_or(&NOTHING)
    }

    /// As [`Self::used`], to change it.
    pub(in crate::model) fn used_mut(&mut self) -> &mut Used {
        self.parts_mut().1
    }

    /// The stored form, and what attachments use.
    pub(in crate::model) fn parts_mut(&mut self) -> (&StoredNetwork, &mut Used) {
        let Self { kept, used, .. } = self;
        let fresh = || {
            Box::new(Used {
                pools: pools(&kept.spec, std::iter::empty()),
                ..Used::NOTHING
            })
        };
        (kept, used.get_or_insert_with(fresh))
    }

    /// The free addresses of each subnet.
    pub(in crate::model) fn pools(&self) -> Cow<'_, [Addresses]> {
        match &self.used {
            Some(used) => Cow::Borrowed(&used.pools),
            None => Cow::Owned(pools(&self.spec, std::iter::empty())),
        }
    }
}

impl TenantObject for StoredNetwork {
    type Spec = NetworkSpec;

    fn check(model: &Model, fields: &Fields<'_>, key: &Key, spec: &NetworkSpec) -> Result<Self, ApiError> {
        model.check_network(fields, key, spec)
    }

    fn user(model: &Model, key: &Key) -> Option<Key> {
        let (_, network) = model.known_network(&key.vdc, &key.name)?;
        let attachment = network
            .used()
            .attachments
            .first()
            .and_then(|a| model.attachments.get(*a));
        let router = network.router.and_then(|r| model.routers.get(r));
        let user = attachment.map(|a| (Kind::Attachment, &a.spec.name));
        let (kind, name) = user.or(router.map(|r| (Kind::Router, &r.spec.name)))?;
        Some(Key::new(key.vdc.clone(), kind, name.clone()))
    }

    fn find(model: &Model, key: &Key) -> Option<Arc<Self>> {
        let (_, network) = model.known_network(&key.vdc, &key.name)?;
        Some(Arc::clone(&network.kept))
    }

    fn put(self: Arc<Self>, model: &mut Model, key: &Key, _: &mut Applied) {
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
