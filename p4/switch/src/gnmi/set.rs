//! `Set`: the new configuration, checked as a whole before anything is done (gNMI specification, section 3.4).
//!
//! # Model
//! [`Config`] is the configuration as plain data. The operations of a request change a copy of it, in the order deletes,
//! replacements, updates (section 3.4.3); [`steps`] leads from the old one to the copy, so that two ports may
//! exchange their numbers in one request. [`apply`] does the steps, and undoes them if one fails.

use std::collections::BTreeMap;

use gnmi_proto::gnmi;
use gnmi_proto::gnmi::typed_value::Value as Wire;
use serde_json::Value as Json;
use tonic::Status;

use super::ethernet::{Fec, Settings, speed_of_identity};
use super::path::{self, Elem};
use super::tree::{Interface, Interfaces, is_known};

/// Smallest and largest MTU of an Ethernet port, in bytes (RFC 791 section 3.1 sets the lower bound).
const MTU_RANGE: std::ops::RangeInclusive<u64> = 68..=65_535;

/// Port numbers that openconfig-p4rt allows for ports; larger ones have other meanings.
const ID_RANGE: std::ops::RangeInclusive<u64> = 1..=0xffff_feff;

/// Longest host name (RFC 1123 section 2.1).
const MAX_HOSTNAME_LEN: usize = 253;

/// Longest description, in octets: as long as the kernel's alias of a device may be (`IFALIASZ`).
const MAX_DESCRIPTION_LEN: usize = 255;

/// Longest name of a network device, in octets (`IFNAMSIZ`, without the end).
const MAX_NAME_LEN: usize = 15;

/// The configuration of one interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceConfig {
    /// P4Runtime port number; every interface needs one in the end.
    pub id: Option<u32>,
    /// Administrative state; a new interface is enabled unless the request says otherwise (openconfig-interfaces).
    pub enabled: Option<bool>,
    /// Whether a request names the administrative state. The port then gets it, even if only a local user of the switch
    /// changed it.
    pub says_enabled: bool,
    /// MTU in bytes; a new interface keeps that of its device unless the request says otherwise.
    pub mtu: Option<u16>,
    /// Description.
    pub description: String,
    /// Speed, negotiation, forward error correction.
    pub ethernet: Settings,
}

/// The configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// By name.
    pub interfaces: BTreeMap<String, InterfaceConfig>,
    /// Name of the switch.
    pub hostname: String,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Remove a port.
    Remove(String),
    /// Add a port with this number.
    Add(String, u32),
    /// Administrative state of an interface.
    Enabled(String, bool),
    /// MTU of an interface.
    Mtu(String, u16),
    /// Description of an interface.
    Description(String, String),
    /// Speed, negotiation and forward error correction of an interface.
    Ethernet(String, Settings),
    /// Name of the switch.
    Hostname(String),
}

fn config_of(interface: &Interface) -> InterfaceConfig {
    InterfaceConfig {
        id: Some(interface.id),
        enabled: Some(!interface.shut),
        says_enabled: false,
        mtu: Some(interface.mtu),
        description: interface.description.clone(),
        ethernet: interface.ethernet.config,
    }
}

/// Names of a path without their modules.
fn names(at: &[Elem]) -> Vec<&str> {
    at.iter()
        .map(|elem| elem.name.rsplit(':').next().unwrap_or_default())
        .collect()
}

fn unknown(at: &[Elem]) -> Status {
    Status::not_found(format!("{} does not exist", path::display(at)))
}

fn invalid(at: &[Elem], what: &str) -> Status {
    Status::invalid_argument(format!("{}: {what}", path::display(at)))
}

fn read_only(at: &[Elem]) -> Status {
    Status::permission_denied(format!("{} is read-only", path::display(at)))
}

/// The interface that a path names; none if it means all.
fn key(at: &[Elem]) -> Option<&str> {
    let key = at.get(1)?.keys.get("name")?;
    (key != "*").then_some(key)
}

impl Config {
    /// The current configuration.
    pub fn of(source: &dyn Interfaces) -> Self {
        let interfaces = source.list();
        Self {
            interfaces: interfaces.iter().map(|i| (i.name.clone(), config_of(i))).collect(),
            hostname: source.hostname(),
        }
    }

    /// Deletes the nodes that a path names. Missing ones count as deleted (section 3.4.6).
    ///
    /// # Errors
    /// `NOT_FOUND` for a path that no model has, `PERMISSION_DENIED` for state, `INVALID_ARGUMENT` for nodes that
    /// always exist.
    pub fn delete(&mut self, at: &[Elem]) -> Result<(), Status> {
        if !is_known(at) {
            return Err(unknown(at));
        }
        let names = names(at);
        if names.contains(&"state") {
            return Err(read_only(at));
        }
        match names.as_slice() {
            [] | ["interfaces"] => self.interfaces.clear(),
            ["interfaces", "interface"] => match key(at) {
                Some(name) => {
                    self.interfaces.remove(name);
                }
                None => self.interfaces.clear(),
            },
            ["interfaces", "interface", "config", leaf @ ("enabled" | "description")] => {
                self.each(at, |interface| match *leaf {
                    "enabled" => (interface.enabled, interface.says_enabled) = (Some(true), true),
                    _ => interface.description.clear(),
                });
            }
            ["interfaces", "interface", "ethernet"] | ["interfaces", "interface", "ethernet", "config"] => {
                self.each(at, |interface| interface.ethernet = Settings::default());
            }
            ["interfaces", "interface", "ethernet", "config", leaf] => self.each(at, |interface| match *leaf {
                "port-speed" => interface.ethernet.speed_bps = None,
                "auto-negotiate" => interface.ethernet.auto_negotiate = None,
                _ => interface.ethernet.fec = None,
            }),
            _ => return Err(invalid(at, "it always exists and cannot be deleted")),
        }
        Ok(())
    }

    /// Changes the interface that a path names, or all.
    fn each(&mut self, at: &[Elem], change: impl Fn(&mut InterfaceConfig)) {
        let wanted = key(at);
        let named = self.interfaces.iter_mut();
        let named = named.filter(|(name, _)| wanted.is_none_or(|wanted| wanted == *name));
        named.for_each(|(_, interface)| change(interface));
    }

    /// Replaces everything below a path with a value.
    ///
    /// # Errors
    /// As for [`Self::update`].
    pub fn replace(&mut self, at: &[Elem], value: &gnmi::TypedValue) -> Result<(), Status> {
        match names(at).as_slice() {
            // A switch always has a name, so nothing else needs to be deleted.
            [] | ["interfaces"] => self.interfaces.clear(),
            ["interfaces", "interface"] | ["interfaces", "interface", "config"] => {
                if let Some(old) = key(at).and_then(|name| self.interfaces.get_mut(name)) {
                    // Number and MTU have no default; without a new value they stay.
                    (old.enabled, old.says_enabled) = (Some(true), true);
                    old.description.clear();
                    if names(at).len() == 2 {
                        old.ethernet = Settings::default();
                    }
                }
            }
            ["interfaces", "interface", "ethernet"] | ["interfaces", "interface", "ethernet", "config"] => {
                self.each(at, |interface| interface.ethernet = Settings::default());
            }
            _ => {}
        }
        self.update(at, value)
    }

    /// Merges a value; nodes that it does not contain stay unchanged.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` for a wrong value, `NOT_FOUND` for an unknown path, `PERMISSION_DENIED` for state.
    pub fn update(&mut self, at: &[Elem], value: &gnmi::TypedValue) -> Result<(), Status> {
        let json = match &value.value {
            Some(Wire::JsonVal(text) | Wire::JsonIetfVal(text)) => {
                serde_json::from_slice(text).map_err(|error| invalid(at, &format!("not JSON: {error}")))?
            }
            Some(Wire::StringVal(text)) => Json::from(text.clone()),
            Some(Wire::UintVal(number)) => Json::from(*number),
            Some(Wire::IntVal(number)) => Json::from(*number),
            Some(Wire::BoolVal(value)) => Json::from(*value),
            _ => return Err(invalid(at, "the value's encoding is not supported")),
        };
        self.walk(&mut at.to_vec(), &json)
    }

    /// Depth-first over a JSON document; recursion is bounded by the depth of the model, as unknown nodes are refused.
    fn walk(&mut self, at: &mut Vec<Elem>, json: &Json) -> Result<(), Status> {
        if !is_known(at) {
            return Err(unknown(at));
        }
        match json {
            Json::Object(members) => {
                for (name, value) in members {
                    let name = name.rsplit_once(':').map_or(name.as_str(), |(_, name)| name);
                    at.push(Elem::new(name));
                    let result = self.walk(at, value);
                    at.pop();
                    result?;
                }
                Ok(())
            }
            Json::Array(entries) => {
                for entry in entries {
                    let name = entry.get("name").and_then(Json::as_str);
                    let name = name.ok_or_else(|| invalid(at, "a list entry has no name"))?;
                    let last = at.pop().unwrap_or_else(|| Elem::new(""));
                    at.push(Elem::keyed(&last.name, "name", name));
                    let result = self.walk(at, entry);
                    at.pop();
                    at.push(last);
                    result?;
                }
                Ok(())
            }
            scalar => self.leaf(at, scalar),
        }
    }

    fn leaf(&mut self, at: &[Elem], value: &Json) -> Result<(), Status> {
        let names = names(at);
        if names.contains(&"state") {
            return Err(read_only(at));
        }
        let text = |limit: usize| value.as_str().filter(|text| text.len() <= limit);
        match names.as_slice() {
            ["interfaces", "interface", below @ ..] => {
                let name = key(at).ok_or_else(|| invalid(at, "the interface is not named"))?;
                let interface = self.interfaces.entry(name.to_owned()).or_default();
                match below {
                    ["name"] | ["config", "name"] if value.as_str() == Some(name) => {}
                    ["name"] | ["config", "name"] => return Err(invalid(at, "it is not the name in the path")),
                    ["config", "type"] => {
                        let kind = value.as_str().unwrap_or_default();
                        if kind.rsplit(':').next() != Some("ethernetCsmacd") {
                            return Err(invalid(at, "only ethernetCsmacd is supported"));
                        }
                    }
                    ["config", "id"] => {
                        let id = value.as_u64().filter(|id| ID_RANGE.contains(id));
                        let id = id.and_then(|id| u32::try_from(id).ok());
                        // One from the command line may be another.
                        let is_same = value.as_u64().is_some() && value.as_u64() == interface.id.map(u64::from);
                        if !is_same {
                            let expected = || invalid(at, "a port number from 1 to 4294967039 is expected");
                            interface.id = Some(id.ok_or_else(expected)?);
                        }
                    }
                    ["config", "enabled"] => {
                        let enabled = value.as_bool();
                        interface.enabled = Some(enabled.ok_or_else(|| invalid(at, "a boolean is expected"))?);
                        interface.says_enabled = true;
                    }
                    ["config", "mtu"] => {
                        let mtu = value.as_u64().filter(|mtu| MTU_RANGE.contains(mtu));
                        let mtu = mtu.and_then(|mtu| u16::try_from(mtu).ok());
                        let expected = || invalid(at, "a number from 68 to 65535 is expected");
                        interface.mtu = Some(mtu.ok_or_else(expected)?);
                    }
                    ["config", "description"] => {
                        let expected = || invalid(at, "a text of at most 255 octets is expected");
                        text(MAX_DESCRIPTION_LEN)
                            .ok_or_else(expected)?
                            .clone_into(&mut interface.description);
                    }
                    ["ethernet", "config", leaf] => set_ethernet(at, leaf, value, &mut interface.ethernet)?,
                    _ => return Err(invalid(at, "it cannot be set")),
                }
            }
            ["system", "config", "hostname"] => {
                let name = text(MAX_HOSTNAME_LEN).filter(|name| !name.is_empty());
                name.ok_or_else(|| invalid(at, "a host name is expected"))?
                    .clone_into(&mut self.hostname);
            }
            _ => return Err(invalid(at, "it cannot be set")),
        }
        Ok(())
    }
}

/// Sets a leaf of openconfig-if-ethernet.
fn set_ethernet(at: &[Elem], leaf: &str, value: &Json, settings: &mut Settings) -> Result<(), Status> {
    match leaf {
        "port-speed" => {
            let speed = value.as_str().and_then(speed_of_identity);
            let expected = || invalid(at, "a speed of openconfig-if-ethernet is expected, as SPEED_25GB");
            settings.speed_bps = Some(speed.ok_or_else(expected)?);
        }
        "auto-negotiate" => {
            let on = value.as_bool();
            settings.auto_negotiate = Some(on.ok_or_else(|| invalid(at, "a boolean is expected"))?);
        }
        "fec-mode" => {
            let fec = value.as_str().and_then(Fec::of_identity);
            let expected = || invalid(at, "a mode of openconfig-if-ethernet is expected, as FEC_RS528");
            settings.fec = Some(fec.ok_or_else(expected)?);
        }
        _ => return Err(invalid(at, "it cannot be set")),
    }
    Ok(())
}

/// The steps from one configuration to another: removals of ports, then additions, then settings.
///
/// # Errors
/// The new configuration is impossible: a port has no number, two have the same, or a port cannot exist.
pub fn steps(source: &dyn Interfaces, from: &Config, to: &Config) -> Result<Vec<Step>, Status> {
    let mut numbers = BTreeMap::new();
    let (mut removals, mut additions, mut settings) = (Vec::new(), Vec::new(), Vec::new());
    for (name, interface) in &to.interfaces {
        let Some(id) = interface.id else {
            return Err(Status::invalid_argument(format!(
                "interface {name:?} does not exist; to add it, its config/id, the P4Runtime port number, is needed"
            )));
        };
        if let Some(other) = numbers.insert(id, name) {
            return Err(Status::already_exists(format!(
                "interface {name:?}: port {id} is in use by {other:?}"
            )));
        }
        let old = from.interfaces.get(name);
        let is_new = old.is_none_or(|old| old.id != Some(id));
        if is_new {
            check_name(name)?;
            source.check_new(name, id)?;
            additions.push(Step::Add(name.clone(), id));
            removals.extend(old.map(|_| Step::Remove(name.clone())));
        }
        let had = old.cloned().unwrap_or_default();
        let enabled = interface.enabled.unwrap_or(true);
        if let Some(mtu) = interface.mtu
            && had.mtu != Some(mtu)
        {
            settings.push(Step::Mtu(name.clone(), mtu));
        }
        // A port that is added again under another number keeps the state of its device.
        let is_left = had.enabled == Some(enabled) && (enabled || !is_new);
        let drifted = interface.says_enabled && source.get(name).is_some_and(|now| now.enabled != enabled);
        if !is_left || drifted {
            settings.push(Step::Enabled(name.clone(), enabled));
        }
        let wire = if is_new { Settings::default() } else { had.ethernet };
        if wire != interface.ethernet {
            settings.push(Step::Ethernet(name.clone(), interface.ethernet));
        }
        // An added port has none, even if it only changes its number.
        let described = if is_new { "" } else { &had.description };
        if described != interface.description {
            settings.push(Step::Description(name.clone(), interface.description.clone()));
        }
    }
    let gone = from.interfaces.keys().filter(|name| !to.interfaces.contains_key(*name));
    removals.extend(gone.cloned().map(Step::Remove));
    let hostname = (from.hostname != to.hostname).then(|| Step::Hostname(to.hostname.clone()));
    Ok(removals
        .into_iter()
        .chain(additions)
        .chain(settings)
        .chain(hostname)
        .collect())
}

/// A name that the kernel accepts (`dev_valid_name`).
fn check_name(name: &str) -> Result<(), Status> {
    let is_valid = |c: char| !c.is_whitespace() && c != '/' && c != ':';
    if name.is_empty() || name.len() > MAX_NAME_LEN || !name.chars().all(is_valid) {
        return Err(Status::invalid_argument(format!(
            "{name:?} is not the name of a network device"
        )));
    }
    Ok(())
}

/// Does the steps; if one fails, those before it are undone.
///
/// # Errors
/// The first failure.
pub fn apply(source: &dyn Interfaces, steps: &[Step]) -> Result<(), Status> {
    let mut undo: Vec<Step> = Vec::new();
    for step in steps {
        let before = before(source, step);
        if let Err(error) = apply_one(source, step) {
            for step in undo.iter().rev() {
                if let Err(error) = apply_one(source, step) {
                    tracing::error!(%error, ?step, "a failed gNMI Set could not be undone");
                }
            }
            return Err(error);
        }
        undo.extend(before);
    }
    Ok(())
}

/// The steps that undo a step, the last first.
fn before(source: &dyn Interfaces, step: &Step) -> Vec<Step> {
    let old = |name: &String| source.get(name);
    let undo = match step {
        Step::Add(name, _) => Some(vec![Step::Remove(name.clone())]),
        Step::Remove(name) => old(name).map(|port| {
            vec![
                Step::Ethernet(name.clone(), port.ethernet.config),
                Step::Description(name.clone(), port.description),
                Step::Add(name.clone(), port.id),
            ]
        }),
        Step::Enabled(name, _) => old(name).map(|port| vec![Step::Enabled(name.clone(), !port.shut)]),
        Step::Mtu(name, _) => old(name).map(|port| vec![Step::Mtu(name.clone(), port.mtu)]),
        Step::Description(name, _) => old(name).map(|port| vec![Step::Description(name.clone(), port.description)]),
        Step::Ethernet(name, _) => old(name).map(|port| vec![Step::Ethernet(name.clone(), port.ethernet.config)]),
        Step::Hostname(_) => Some(vec![Step::Hostname(source.hostname())]),
    };
    undo.unwrap_or_default()
}

fn apply_one(source: &dyn Interfaces, step: &Step) -> Result<(), Status> {
    match step {
        Step::Remove(name) => source.remove(name),
        Step::Add(name, id) => source.add(name, *id).map(drop),
        Step::Enabled(name, enabled) => source.set_enabled(name, *enabled),
        Step::Mtu(name, mtu) => source.set_mtu(name, *mtu),
        Step::Ethernet(name, settings) => source.set_ethernet(name, *settings),
        Step::Description(name, text) => source.set_description(name, text),
        Step::Hostname(name) => source.set_hostname(name),
    }
}

#[cfg(test)]
#[path = "set_tests.rs"]
mod tests;
