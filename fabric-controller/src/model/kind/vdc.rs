//! Virtual data centres: what is in them.

use std::collections::BTreeMap;

use vfabric_api::error::ApiError;
use vfabric_api::ident::Name;
use vfabric_api::kind::{Key, Kind, Spec, VdcSpec, View};
use vfabric_api::status;

use super::{Seen, TenantObject};
use crate::ident::{AttachmentId, NetworkId, RouterId};
use crate::model::Model;
use crate::model::change::Applied;
use crate::model::fields::Fields;

/// A vDC and the names in it.
#[derive(Debug)]
pub struct Vdc {
    /// As written.
    pub spec: VdcSpec,
    /// Networks by name.
    pub networks: BTreeMap<Name, NetworkId>,
    /// Routers by name.
    pub routers: BTreeMap<Name, RouterId>,
    /// Attachments by name.
    pub attachments: BTreeMap<Name, AttachmentId>,
}

impl Vdc {
    fn new(spec: VdcSpec) -> Self {
        Self {
            spec,
            networks: BTreeMap::new(),
            routers: BTreeMap::new(),
            attachments: BTreeMap::new(),
        }
    }
}

/// No packet meets a vDC, so the store keeps no more than what the user wrote.
impl TenantObject for VdcSpec {
    type Spec = Self;

    fn check(_: &Model, _: &Fields<'_>, _: &Key, spec: &Self) -> Result<Self, ApiError> {
        Ok(spec.clone())
    }

    fn user(model: &Model, key: &Key) -> Option<Key> {
        let vdc = model.vdcs.get(&key.vdc)?;
        let first = |kind: &Kind| Some(Key::new(key.vdc.clone(), *kind, vdc.names(*kind).next()?.clone()));
        Kind::ALL.iter().find_map(first)
    }

    fn find(model: &Model, key: &Key) -> Option<Self> {
        Some(model.vdcs.get(&key.vdc)?.spec.clone())
    }

    fn put(self, model: &mut Model, key: &Key, _: &mut Applied) {
        match model.vdcs.get_mut(&key.vdc) {
            Some(vdc) => vdc.spec = self,
            None => {
                model.vdcs.insert(key.vdc.clone(), Vdc::new(self));
            }
        }
    }

    fn remove(model: &mut Model, key: &Key, _: &mut Applied) {
        model.vdcs.remove(&key.vdc);
    }

    fn names(_: &Vdc) -> Box<dyn Iterator<Item = &Name> + '_> {
        Box::new(std::iter::empty())
    }

    fn spec(&self) -> Spec {
        Spec::Vdc(self.clone())
    }

    fn view(&self, seen: Seen) -> View {
        let count = |kind: Kind| seen.counts.get(usize::from(kind.rank())).copied().unwrap_or(0);
        View::Vdc(status::Vdc {
            spec: self.clone(),
            networks: count(Kind::Network),
            routers: count(Kind::Router),
            attachments: count(Kind::Attachment),
            revision: seen.revision,
        })
    }
}
