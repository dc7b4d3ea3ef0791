//! Virtual data centres and the names in them.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::{Name, PortId};
use vfabric_api::kind::{AssignedPort, Key, Kind, Place, Spec, VdcSpec, View, VniRange};
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
    /// Static routes of these routers.
    pub routes: usize,
    /// Attachments by name.
    pub attachments: BTreeMap<Name, AttachmentId>,
}

/// Longest description, in octets.
const MAX_DESCRIPTION: usize = 500;
/// Most entries of each list of assignments.
const MAX_ASSIGNED: usize = 4096;
/// Most objects that a refusal names.
const NAMED: usize = 8;
/// The greatest VLAN id (IEEE 802.1Q).
const MAX_VLAN: u16 = 4094;

impl Vdc {
    /// How many objects of a kind are in it; a vDC is not in itself.
    pub fn count(&self, kind: Kind) -> usize {
        // The iterator over the names of a map knows its length.
        self.names(kind).size_hint().0
    }

    fn new(spec: VdcSpec) -> Self {
        Self {
            spec,
            networks: BTreeMap::new(),
            routers: BTreeMap::new(),
            routes: 0,
            attachments: BTreeMap::new(),
        }
    }
}

/// Checks ranges and lists, which may be too long or reversed.
fn check_assigned(fields: &Fields<'_>, spec: &VdcSpec) -> Result<(), ApiError> {
    let length = spec.description.len();
    if length > MAX_DESCRIPTION {
        let expected = format!("at most {MAX_DESCRIPTION} octets");
        return Err(fields.invalid("description", format!("{length} octets"), expected));
    }
    for (field, length) in [
        ("hosts", spec.hosts.len()),
        ("ports", spec.ports.len()),
        ("vnis", spec.vnis.len()),
        ("address_pools", spec.address_pools.len()),
    ] {
        if length > MAX_ASSIGNED {
            return Err(fields.invalid(field, length, format!("at most {MAX_ASSIGNED} entries")));
        }
    }
    if let Some(percent) = spec.limits.table_percent.filter(|percent| !(1..=100).contains(percent)) {
        return Err(fields.invalid("limits.table_percent", percent, "a percentage from 1 to 100"));
    }
    let mut vnis = spec.vnis.iter().enumerate();
    if let Some((i, range)) = vnis.find(|(_, range)| range.first > range.last) {
        let expected = format!("at least {}, the first", range.first);
        return Err(fields.invalid(&format!("vnis[{i}].last"), range.last, expected));
    }
    let mut pools = spec.address_pools.iter().enumerate();
    if let Some((i, pool)) = pools.find(|(_, pool)| pool.trunc() != **pool) {
        let expected = format!("a prefix without host bits, such as {}", pool.trunc());
        return Err(fields.invalid(&format!("address_pools[{i}]"), pool, expected));
    }
    for (i, port) in spec.ports.iter().enumerate() {
        let wrong = port
            .vlans
            .filter(|r| r.first > r.last || r.first < 1 || r.last > MAX_VLAN);
        if let Some(range) = wrong {
            let expected = format!("VLAN ids from 1 to {MAX_VLAN}, the first not above the last");
            return Err(fields.invalid(
                &format!("ports[{i}].vlans"),
                format!("{}-{}", range.first, range.last),
                expected,
            ));
        }
    }
    Ok(())
}

/// Refuses a change that takes away what is in use.
fn check_taken_away(model: &Model, fields: &Fields<'_>, vdc: &Vdc, spec: &VdcSpec) -> Result<(), ApiError> {
    for kind in Kind::ALL {
        let (count, limit) = (vdc.count(*kind), spec.limits.of(*kind));
        if let Some(limit) = limit.filter(|limit| *limit < count) {
            let expected = format!("at least {count}, the current number");
            return Err(fields.error(ErrorCode::InUse, &format!("limits.{}", kind.plural()), limit, expected));
        }
    }
    if let Some(limit) = spec.limits.routes.filter(|limit| (*limit as usize) < vdc.routes) {
        let expected = format!("at least {}, the current number", vdc.routes);
        return Err(fields.error(ErrorCode::InUse, "limits.routes", limit, expected));
    }
    let lost = lost(model, vdc, spec);
    match lost.first() {
        None => Ok(()),
        Some(Lost { field, value, .. }) => {
            let same: Vec<String> = lost
                .iter()
                .filter(|l| l.field == *field)
                .map(|l| l.user.to_string())
                .collect();
            let more = match same.len().saturating_sub(NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let named = same.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
            let expected = format!("that it stays: it is used by {named}{more}");
            Err(fields.error(ErrorCode::InUse, field, value, expected))
        }
    }
}

/// Something that a vDC would lose although one of its objects uses it.
struct Lost {
    /// The field that no longer has it.
    field: &'static str,
    /// The lost thing.
    value: String,
    user: Key,
}

/// Assignments that a vDC loses although they are in use. If something is taken away, this walks the vDC's objects.
fn lost(model: &Model, vdc: &Vdc, spec: &VdcSpec) -> Vec<Lost> {
    let lost_host = |host: &Name| vdc.spec.hosts.contains(host) && !spec.hosts.contains(host);
    let takes = |ports: &[AssignedPort], switch: &Name, port: &PortId, vlan: Option<u16>| {
        ports
            .iter()
            .any(|p| p.switch == *switch && p.port == *port && p.takes(vlan))
    };
    let mut lost = Vec::new();
    let key = |kind, name: &Name| Key::new(vdc.spec.name.clone(), kind, name.clone());
    if vdc.spec.hosts.iter().any(lost_host) || vdc.spec.ports != spec.ports {
        for (name, id) in &vdc.attachments {
            let attachment = model.attachments.get(*id);
            let target = attachment.and_then(|a| a.spec.migration.as_ref());
            let place = match attachment.map(|attachment| &attachment.spec.place) {
                _ if target.is_some_and(|target| lost_host(&target.host)) => (
                    "hosts",
                    target.map(|target| target.host.to_string()).unwrap_or_default(),
                ),
                Some(Place::Host { host, .. }) if lost_host(host) => ("hosts", host.to_string()),
                Some(Place::Port { switch, port, vlan })
                    if takes(&vdc.spec.ports, switch, port, *vlan) && !takes(&spec.ports, switch, port, *vlan) =>
                {
                    ("ports", format!("{switch}/{port}"))
                }
                _ => continue,
            };
            let (field, value) = place;
            let user = key(Kind::Attachment, name);
            lost.push(Lost { field, value, user });
        }
    }
    if vdc.spec.vnis != spec.vnis {
        let has = |ranges: &[VniRange], vni| ranges.iter().any(|range| range.contains(vni));
        for (name, id) in &vdc.networks {
            let named = model.networks.get(*id).and_then(|network| network.spec.vni);
            if let Some(vni) = named.filter(|vni| has(&vdc.spec.vnis, *vni) && !has(&spec.vnis, *vni)) {
                let user = key(Kind::Network, name);
                let value = vni.to_string();
                lost.push(Lost {
                    field: "vnis",
                    value,
                    user,
                });
            }
        }
    }
    if vdc.spec.address_pools != spec.address_pools && !spec.address_pools.is_empty() {
        for (name, id) in &vdc.networks {
            let subnets = model.networks.get(*id).map(|network| network.spec.subnets.iter());
            let outside = |cidr: &IpNet| vdc.spec.may_have(cidr) && !spec.may_have(cidr);
            if let Some(subnet) = subnets.into_iter().flatten().find(|subnet| outside(&subnet.cidr)) {
                let user = key(Kind::Network, name);
                let value = subnet.cidr.to_string();
                lost.push(Lost {
                    field: "address_pools",
                    value,
                    user,
                });
            }
        }
    }
    lost
}

/// Attachments that use something that a vDC would lose; none if the vDC does not exist.
pub(in crate::model) fn attachments_to_drain(model: &Model, vdc: &Name, spec: &VdcSpec) -> Vec<Key> {
    let lost = model.vdcs.get(vdc).map(|vdc| lost(model, vdc, spec));
    let users = lost.into_iter().flatten().map(|lost| lost.user);
    users.filter(|user| user.kind == Kind::Attachment).collect()
}

/// A vDC has no meaning in packets, so it is stored exactly as the user wrote it.
impl TenantObject for VdcSpec {
    type Spec = Self;

    fn check(model: &Model, fields: &Fields<'_>, key: &Key, spec: &Self) -> Result<Self, ApiError> {
        check_assigned(fields, spec)?;
        if let Some(vdc) = model.vdcs.get(&key.vdc) {
            check_taken_away(model, fields, vdc, spec)?;
        }
        Ok(spec.clone())
    }

    fn user(model: &Model, key: &Key) -> Option<Key> {
        let vdc = model.vdcs.get(&key.vdc)?;
        let first = |kind: &Kind| Some(Key::new(key.vdc.clone(), *kind, vdc.names(*kind).next()?.clone()));
        Kind::ALL.iter().find_map(first)
    }

    fn find(model: &Model, key: &Key) -> Option<Arc<Self>> {
        Some(Arc::new(model.vdcs.get(&key.vdc)?.spec.clone()))
    }

    fn put(self: Arc<Self>, model: &mut Model, key: &Key, _: &mut Applied) {
        let spec = Arc::unwrap_or_clone(self);
        match model.vdcs.get_mut(&key.vdc) {
            Some(vdc) => vdc.spec = spec,
            None => {
                model.vdcs.insert(key.vdc.clone(), Vdc::new(spec));
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
            owner: seen.owner,
            revision: seen.revision,
        })
    }
}
