//! A tenant's change may only use what was assigned to its vDC.
//!
//! A user of a vDC changes networks, routers and attachments there. Only a fabric administrator changes the vDC itself,
//! with its assignments and limits. Things that vDCs share (a host, a leaf's port and VLAN, a VNI) can only be named if
//! they are assigned to the vDC. If the vDC has address pools, its subnets must lie in them. This is checked before
//! anything else, because an error such as "in use" would reveal something about other vDCs.

use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::ident::Name;
use vfabric_api::kind::{AttachmentSpec, Key, NetworkSpec, Place, Spec, SubnetSpec, VdcSpec};
use vfabric_api::plan;
use vfabric_api::service::Change;

use crate::model::Model;

/// Checks a tenant's changes.
///
/// # Errors
/// `Forbidden`, with the field that the tenant may not choose.
pub(super) fn permit(model: &Model, changes: &[(String, Change)]) -> Result<(), ApiError> {
    changes.iter().try_for_each(|(path, change)| {
        let patched = match change {
            Change::Patch(key, patch) => Some(model.patched(key, patch.clone())?),
            _ => None,
        };
        match patched.as_ref().unwrap_or(change) {
            Change::Inventory(_) => Err(forbidden("only a `fabric-admin` changes the inventory")),
            Change::Delete(key) if *key == Key::vdc(key.vdc.clone()) => {
                Err(forbidden(format!("only a `fabric-admin` deletes {key}")))
            }
            Change::Create(vdc, spec) | Change::Replace(vdc, spec) | Change::Put(vdc, spec) => {
                let key = Key::new(vdc.clone(), spec.kind(), spec.name().clone());
                let before = model.stored(&key).map(|object| object.spec());
                let assigned = model.vdc(vdc).map(|vdc| &vdc.spec);
                let at = |field: &str| {
                    if path.is_empty() {
                        field.to_owned()
                    } else {
                        format!("{path}.{field}")
                    }
                };
                match (spec, before) {
                    (Spec::Vdc(spec), before) => same_vdc(vdc, before, spec),
                    (Spec::Attachment(spec), Some(Spec::Attachment(before))) => {
                        if before.place != spec.place {
                            place(assigned, spec, at)?;
                        }
                        match &spec.migration {
                            Some(to) if before.migration.as_ref().is_none_or(|m| m.host != to.host) => {
                                target(assigned, &to.host, at)
                            }
                            _ => Ok(()),
                        }
                    }
                    (Spec::Attachment(spec), _) => {
                        place(assigned, spec, at)?;
                        let to = spec.migration.as_ref();
                        to.map_or(Ok(()), |to| target(assigned, &to.host, at))
                    }
                    (Spec::Network(spec), Some(Spec::Network(before))) => {
                        if before.vni != spec.vni {
                            vni(assigned, spec, at)?;
                        }
                        subnets(assigned, &before.subnets, spec, at)
                    }
                    (Spec::Network(spec), _) => {
                        vni(assigned, spec, at)?;
                        subnets(assigned, &[], spec, at)
                    }
                    _ => Ok(()),
                }
            }
            Change::Delete(_) | Change::Patch(..) => Ok(()),
        }
    })
}

fn forbidden(detail: impl Into<String>) -> ApiError {
    ApiError::new(ErrorCode::Forbidden, detail)
}

fn refused(field: String, value: impl ToString, expected: &str) -> ApiError {
    ApiError::field(ErrorCode::Forbidden, field, value, expected)
}

fn same_vdc(vdc: &Name, before: Option<Spec>, spec: &VdcSpec) -> Result<(), ApiError> {
    let Some(Spec::Vdc(before)) = before else {
        return Err(forbidden("only a `fabric-admin` creates a vDC"));
    };
    if before == *spec {
        return Ok(());
    }
    let body = |spec: &VdcSpec| Spec::Vdc(spec.clone()).body().unwrap_or_default();
    let fields = plan::differences(&body(&before), &body(spec));
    let fields: Vec<String> = fields.into_iter().map(|change| format!("`{}`", change.field)).collect();
    let detail = format!(
        "only a `fabric-admin` changes vDC `{vdc}` itself; it differs in {}",
        fields.join(", ")
    );
    Err(forbidden(detail))
}

/// The host that an attachment migrates to.
fn target(assigned: Option<&VdcSpec>, host: &Name, at: impl Fn(&str) -> String) -> Result<(), ApiError> {
    match assigned {
        Some(vdc) if !vdc.hosts.contains(host) => {
            let expected = "a host that is assigned to the vDC";
            Err(refused(at("migration.host"), host, expected))
        }
        _ => Ok(()),
    }
}

fn place(assigned: Option<&VdcSpec>, spec: &AttachmentSpec, at: impl Fn(&str) -> String) -> Result<(), ApiError> {
    // If the vDC does not exist, the change is refused later, for that reason.
    let Some(vdc) = assigned else { return Ok(()) };
    match &spec.place {
        Place::Host { host, .. } if vdc.hosts.contains(host) => Ok(()),
        Place::Host { host, .. } => Err(refused(
            at("place.host.host"),
            host,
            "a host that is assigned to the vDC",
        )),
        Place::Port { switch, port, vlan } => {
            let has = vdc
                .ports
                .iter()
                .any(|p| p.switch == *switch && p.port == *port && p.takes(*vlan));
            let expected = "a port and VLAN that are assigned to the vDC";
            has.then_some(())
                .ok_or_else(|| refused(at("place.port"), format!("{switch}/{port}"), expected))
        }
    }
}

fn vni(assigned: Option<&VdcSpec>, spec: &NetworkSpec, at: impl Fn(&str) -> String) -> Result<(), ApiError> {
    let (Some(vdc), Some(vni)) = (assigned, spec.vni) else {
        return Ok(());
    };
    let has = vdc.vnis.iter().any(|range| range.contains(vni));
    let expected = "a VNI that is assigned to the vDC; the controller chooses one if it is left out";
    has.then_some(()).ok_or_else(|| refused(at("vni"), vni, expected))
}

/// Subnets that the network did not have before must lie in the vDC's address pools.
fn subnets(
    assigned: Option<&VdcSpec>,
    before: &[SubnetSpec],
    spec: &NetworkSpec,
    at: impl Fn(&str) -> String,
) -> Result<(), ApiError> {
    let Some(vdc) = assigned else { return Ok(()) };
    let is_known = |subnet: &SubnetSpec| before.iter().any(|known| known.cidr == subnet.cidr);
    let mut subnets = spec.subnets.iter().enumerate();
    match subnets.find(|(_, subnet)| !is_known(subnet) && !vdc.may_have(&subnet.cidr)) {
        None => Ok(()),
        Some((i, subnet)) => {
            let pools: Vec<String> = vdc.address_pools.iter().map(ToString::to_string).collect();
            let expected = format!("a subnet in one of the vDC's address pools: {}", pools.join(", "));
            Err(refused(at(&format!("subnets[{i}].cidr")), subnet.cidr, &expected))
        }
    }
}
