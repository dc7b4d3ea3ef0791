//! Routers: a VRF that joins networks of a vDC.

mod check;
mod put;
mod routes;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::HashMap;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use vfabric_api::error::ApiError;
use vfabric_api::ident::{Name, Vni};
use vfabric_api::kind::{Key, Kind, RouterSpec, Spec, View};
use vfabric_api::status;

use super::{Followed, Seen, TenantObject, Vdc};
use crate::ident::{NetworkId, Source, SwitchIndex};
use crate::model::Model;
use crate::model::change::Applied;
use crate::model::fields::Fields;
use crate::model::number::{Number, Uid};

/// A router as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredRouter {
    /// Its identity.
    #[serde(default)]
    pub uid: Uid,
    /// As written.
    pub spec: RouterSpec,
    /// Its L3 VNI.
    pub vrf: Vni,
}

/// A router and where it is needed.
#[derive(Debug)]
pub struct Router {
    /// Its identity.
    pub uid: Uid,
    /// Its vDC.
    pub vdc: Name,
    /// As written.
    pub spec: RouterSpec,
    /// Its L3 VNI.
    pub vrf: Vni,
    /// The networks it joins.
    pub networks: Vec<NetworkId>,
    /// Prefixes that it sends to each address.
    pub routes: HashMap<IpAddr, Vec<IpNet>>,
    /// Attachments of its networks on or under each leaf.
    pub leaves: BTreeMap<SwitchIndex, u32>,
}

impl TenantObject for StoredRouter {
    type Spec = RouterSpec;

    fn check(model: &Model, fields: &Fields<'_>, key: &Key, spec: &RouterSpec) -> Result<Self, ApiError> {
        model.check_router(fields, key, spec)
    }

    fn find(model: &Model, key: &Key) -> Option<Arc<Self>> {
        let id = model.vdcs.get(&key.vdc)?.routers.get(&key.name)?;
        let router = model.routers.get(*id)?;
        Some(Arc::new(Self {
            uid: router.uid,
            spec: router.spec.clone(),
            vrf: router.vrf,
        }))
    }

    fn put(self: Arc<Self>, model: &mut Model, key: &Key, applied: &mut Applied) {
        // Its VRF stays, but it may leave some of its networks.
        model.remove_router(key, applied);
        model.insert_router(key, Arc::unwrap_or_clone(self));
    }

    fn remove(model: &mut Model, key: &Key, applied: &mut Applied) {
        model.remove_router(key, applied);
    }

    fn names(vdc: &Vdc) -> Box<dyn Iterator<Item = &Name> + '_> {
        Box::new(vdc.routers.keys())
    }

    fn spec(&self) -> Spec {
        Spec::Router(self.spec.clone())
    }

    fn uid_mut(&mut self) -> Option<&mut Uid> {
        Some(&mut self.uid)
    }

    fn networks(&self) -> &[Name] {
        &self.spec.networks
    }

    fn numbers(&self, _: &Model, _: &Key) -> Vec<Number> {
        vec![Number::Vni(self.vrf.get())]
    }

    /// Leaves hold a router in the form of the networks that it joins.
    fn followed(&self, key: &Key) -> Followed {
        let network = |name: &Name| Key::new(key.vdc.clone(), Kind::Network, name.clone());
        Followed {
            asked: self.spec.networks.iter().map(network).collect(),
            counts: |source| matches!(source, Source::RoutedOnLeaf(..)),
            ..Followed::default()
        }
    }

    fn view(&self, seen: Seen) -> View {
        View::Router(status::Router {
            spec: self.spec.clone(),
            vrf: self.vrf,
            applied: seen.applied,
            owner: seen.owner,
            revision: seen.revision,
        })
    }
}
