//! `Set`: understood and checked as a whole before anything is done (gNMI specification, section 3.4).

use gnmi_proto::gnmi;
use gnmi_proto::gnmi::typed_value::Value as Wire;
use serde_json::Value as Json;
use tonic::Status;

use super::path::{self, Elem};
use super::tree::Interfaces;

/// Smallest and largest MTU of an Ethernet port, in bytes (RFC 791 section 3.1 sets the lower bound).
const MTU_RANGE: std::ops::RangeInclusive<u64> = 68..=65_535;

/// Longest host name (RFC 1123 section 2.1).
const MAX_HOSTNAME_LEN: usize = 253;

/// One change of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Administrative state of an interface.
    Enabled(String, bool),
    /// MTU of an interface.
    Mtu(String, u16),
    /// Name of the switch.
    Hostname(String),
}

/// Understands one update.
///
/// # Errors
/// `INVALID_ARGUMENT` for a wrong value, `NOT_FOUND` for an unknown path, `PERMISSION_DENIED` for state.
pub fn changes(source: &dyn Interfaces, path: &[Elem], value: &gnmi::TypedValue) -> Result<Vec<Change>, Status> {
    let invalid = |what: &str| Status::invalid_argument(format!("{}: {what}", path::display(path)));
    let json = match &value.value {
        Some(Wire::JsonVal(text) | Wire::JsonIetfVal(text)) => {
            serde_json::from_slice(text).map_err(|error| invalid(&format!("not JSON: {error}")))?
        }
        Some(Wire::StringVal(text)) => Json::from(text.clone()),
        Some(Wire::UintVal(number)) => Json::from(*number),
        Some(Wire::IntVal(number)) => Json::from(*number),
        Some(Wire::BoolVal(value)) => Json::from(*value),
        _ => return Err(invalid("the value's encoding is not supported")),
    };
    let mut found = Vec::new();
    walk(source, &mut path.to_vec(), &json, &mut found)?;
    Ok(found)
}

/// Depth-first over a JSON document; recursion is bounded by the depth of the model, as unknown nodes are refused.
fn walk(source: &dyn Interfaces, at: &mut Vec<Elem>, json: &Json, found: &mut Vec<Change>) -> Result<(), Status> {
    if !super::tree::is_known(at) {
        return Err(Status::not_found(format!("{} does not exist", path::display(at))));
    }
    match json {
        Json::Object(members) => {
            for (name, value) in members {
                let name = name.rsplit_once(':').map_or(name.as_str(), |(_, name)| name);
                at.push(Elem::new(name));
                let result = walk(source, at, value, found);
                at.pop();
                result?;
            }
            Ok(())
        }
        Json::Array(entries) => {
            for entry in entries {
                let name = entry.get("name").and_then(Json::as_str);
                let name = name.ok_or_else(|| Status::invalid_argument("a list entry has no name"))?;
                let last = at.pop().unwrap_or_else(|| Elem::new(""));
                at.push(Elem::keyed(&last.name, "name", name));
                let result = walk(source, at, entry, found);
                at.pop();
                at.push(last);
                result?;
            }
            Ok(())
        }
        scalar => leaf(source, at, scalar, found),
    }
}

fn leaf(source: &dyn Interfaces, at: &[Elem], value: &Json, found: &mut Vec<Change>) -> Result<(), Status> {
    let names: Vec<_> = at
        .iter()
        .map(|elem| elem.name.rsplit(':').next().unwrap_or_default())
        .collect();
    let invalid = |what: &str| Status::invalid_argument(format!("{}: {what}", path::display(at)));
    if names.contains(&"state") {
        return Err(Status::permission_denied(format!("{} is read-only", path::display(at))));
    }
    let interface = || {
        let name = at
            .get(1)
            .and_then(|elem| elem.keys.get("name"))
            .filter(|name| name.as_str() != "*");
        let name = name.ok_or_else(|| invalid("the interface is not named"))?;
        match source.get(name) {
            Some(interface) => Ok(interface),
            None => Err(Status::not_found(format!("interface {name:?} does not exist"))),
        }
    };
    match names.as_slice() {
        ["interfaces", "interface", "config", "enabled"] => {
            let enabled = value.as_bool().ok_or_else(|| invalid("a boolean is expected"))?;
            found.push(Change::Enabled(interface()?.name, enabled));
        }
        ["interfaces", "interface", "config", "mtu"] => {
            let mtu = value
                .as_u64()
                .filter(|mtu| MTU_RANGE.contains(mtu))
                .and_then(|mtu| u16::try_from(mtu).ok());
            let mtu = mtu.ok_or_else(|| invalid("a number from 68 to 65535 is expected"))?;
            found.push(Change::Mtu(interface()?.name, mtu));
        }
        ["system", "config", "hostname"] => {
            let name = value
                .as_str()
                .filter(|name| !name.is_empty() && name.len() <= MAX_HOSTNAME_LEN);
            found.push(Change::Hostname(
                name.ok_or_else(|| invalid("a host name is expected"))?.to_owned(),
            ));
        }
        // Writing what is there already changes nothing.
        ["interfaces", "interface", "name"] | ["interfaces", "interface", "config", "name"] => {
            if value.as_str() != Some(&interface()?.name) {
                return Err(invalid("a port cannot be renamed"));
            }
        }
        ["interfaces", "interface", "config", "type"] => {
            interface()?;
        }
        ["interfaces", "interface", "config", "id"] => {
            if value.as_u64() != Some(interface()?.id.into()) {
                return Err(Status::unimplemented(format!(
                    "{}: port ids are fixed",
                    path::display(at)
                )));
            }
        }
        _ => return Err(Status::not_found(format!("{} does not exist", path::display(at)))),
    }
    Ok(())
}

/// Carries out changes; if one fails, those before it are undone.
///
/// # Errors
/// The first failure.
pub fn apply(source: &dyn Interfaces, changes: &[Change]) -> Result<(), Status> {
    let mut undo = Vec::new();
    for change in changes {
        let before = match change {
            Change::Enabled(name, _) => source.get(name).map(|port| Change::Enabled(port.name, port.enabled)),
            Change::Mtu(name, _) => source.get(name).map(|port| Change::Mtu(port.name, port.mtu)),
            Change::Hostname(_) => Some(Change::Hostname(source.hostname())),
        };
        if let Err(error) = apply_one(source, change) {
            for change in undo.iter().rev() {
                if let Err(error) = apply_one(source, change) {
                    tracing::error!(%error, ?change, "a failed gNMI Set could not be undone");
                }
            }
            return Err(error);
        }
        undo.extend(before);
    }
    Ok(())
}

fn apply_one(source: &dyn Interfaces, change: &Change) -> Result<(), Status> {
    match change {
        Change::Enabled(name, enabled) => source.set_enabled(name, *enabled),
        Change::Mtu(name, mtu) => source.set_mtu(name, *mtu),
        Change::Hostname(name) => source.set_hostname(name),
    }
}
