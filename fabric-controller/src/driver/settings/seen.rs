//! What a switch reports of its settings, and what is to be set.

use std::collections::{BTreeMap, BTreeSet};

use gnmi_proto::gnmi::{self, Notification, Path, PathElem, TypedValue, typed_value::Value};
use vfabric_api::ident::PortId;

use super::super::gnmi::{port_id, text};
use super::target::Dialect;
use super::{Part, elem, keyed, path_of};
use crate::device::settings::Settings;

/// Leaves by their path without modules, with values without modules.
#[derive(Debug, Default)]
pub(super) struct Seen {
    leaves: BTreeMap<String, String>,
    /// Leaves that were as wanted at some time: if they are not any more, somebody has changed them.
    were_right: BTreeSet<String>,
}

/// A setting that differs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Repair {
    pub(super) updates: Vec<gnmi::Update>,
    /// Leaves and values that the switch has then.
    pub(super) gives: Vec<(String, String)>,
    /// What was found, in words.
    pub(super) what: String,
    /// Whether it was right before.
    pub(super) is_drift: bool,
}

fn bare(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}

/// A path as text, without modules.
pub(super) fn key_of(prefix: Option<&Path>, path: Option<&Path>) -> String {
    let elems = [prefix, path].into_iter().flatten().flat_map(|path| &path.elem);
    let mut all = String::new();
    for PathElem { name, key } in elems {
        all.push('/');
        all.push_str(bare(name));
        let keys: BTreeMap<_, _> = key.iter().collect();
        for (key, value) in keys {
            all.push_str(&format!("[{}={value}]", bare(key)));
        }
    }
    all
}

/// An update of a leaf or container with a value in RFC 7951's JSON.
fn update(path: Path, value: &serde_json::Value) -> gnmi::Update {
    gnmi::Update {
        path: Some(path),
        val: Some(TypedValue {
            value: Some(Value::JsonIetfVal(value.to_string().into_bytes())),
        }),
        ..gnmi::Update::default()
    }
}

impl Seen {
    pub(super) fn update(&mut self, notification: &Notification) {
        let prefix = notification.prefix.as_ref();
        for path in &notification.delete {
            let gone = key_of(prefix, Some(path));
            let is_below =
                |key: &String| *key == gone || key.strip_prefix(&gone).is_some_and(|rest| rest.starts_with('/'));
            self.leaves.retain(|key, _| !is_below(key));
        }
        for update in &notification.update {
            if let Some(value) = update.val.as_ref().and_then(text) {
                self.leaves.insert(key_of(prefix, update.path.as_ref()), value);
            }
        }
    }

    /// Takes note of what the switch has accepted; it will report it, too.
    pub(super) fn took(&mut self, repair: &Repair) {
        self.leaves.extend(repair.gives.iter().cloned());
    }

    /// Interfaces by the number of their port. One that reports no number, and whose name is a number, is that port.
    pub(super) fn names(&self) -> BTreeMap<PortId, String> {
        let mut names = BTreeMap::new();
        for (key, value) in &self.leaves {
            let Some((name, leaf)) = key
                .strip_prefix("/interfaces/interface[name=")
                .and_then(|rest| rest.split_once("]/"))
            else {
                continue;
            };
            match leaf {
                "config/id" => names.extend(port_id(value).map(|port| (port, name.to_owned()))),
                _ => {
                    let port = port_id(name);
                    let says_id = self
                        .leaves
                        .contains_key(&format!("/interfaces/interface[name={name}]/config/id"));
                    if let Some(port) = port.filter(|_| !says_id) {
                        names.entry(port).or_insert_with(|| name.to_owned());
                    }
                }
            }
        }
        names
    }

    fn leaf(&self, key: &str) -> Option<&str> {
        self.leaves.get(key).map(String::as_str)
    }

    /// The state of a leaf of each port, by port.
    pub(super) fn states(&self, leaf: &str) -> BTreeMap<PortId, String> {
        let of = |name: &str| {
            self.leaf(&format!(
                "/interfaces/interface[name={name}]/ethernet/state/{}",
                bare(leaf)
            ))
        };
        let names = self.names().into_iter();
        names
            .filter_map(|(port, name)| Some((port, of(&name)?.to_owned())))
            .collect()
    }

    /// Compares a leaf with what is wanted; returns what it has in words if it differs.
    fn differs(&mut self, key: &str, wanted: &str) -> Option<(String, bool)> {
        let now = self.leaf(key).map(str::to_owned);
        if now.as_deref() == Some(wanted) {
            self.were_right.insert(key.to_owned());
            return None;
        }
        let is_drift = self.were_right.contains(key);
        Some((
            now.map_or_else(|| "nothing".to_owned(), |now| format!("`{now}`")),
            is_drift,
        ))
    }

    fn leaf_repair(&mut self, path: Path, value: serde_json::Value, subject: &str) -> Option<Repair> {
        let key = key_of(None, Some(&path));
        let wanted = match &value {
            serde_json::Value::String(text) => bare(text).to_owned(),
            other => other.to_string(),
        };
        let (now, is_drift) = self.differs(&key, &wanted)?;
        let leaf = path.elem.last().map_or("", |elem| bare(&elem.name));
        Some(Repair {
            what: format!("{subject}: {leaf} was {now} instead of `{wanted}`"),
            updates: vec![update(path, &value)],
            gives: vec![(key, wanted)],
            is_drift,
        })
    }

    /// What to set for a part, and what cannot be set because it is not there.
    pub(super) fn repairs(&mut self, part: Part, plan: &Settings, dialect: Dialect) -> (Vec<Repair>, Vec<String>) {
        let (mut repairs, mut faults) = (Vec::new(), Vec::new());
        match part {
            Part::HostName => {
                let path = path_of([elem("system"), elem("config"), elem("hostname")]);
                if let Some(name) = &plan.hostname {
                    repairs.extend(self.leaf_repair(path, name.as_str().into(), "the switch"));
                }
            }
            Part::Speed | Part::Fec => {
                let names = self.names();
                for settings in plan.ports.values() {
                    let speed = settings
                        .speed
                        .map(|s| format!("openconfig-if-ethernet:{}", s.identity()));
                    let leaves: Vec<(&str, serde_json::Value)> = match part {
                        Part::Fec => {
                            let fec = settings.fec.map(|fec| dialect.fec_value(fec));
                            fec.map(|fec| (dialect.fec_leaf, fec.into())).into_iter().collect()
                        }
                        // Negotiation first: a speed is fixed only without it.
                        _ => (settings
                            .auto_negotiate
                            .map(|on| ("auto-negotiate", on.into()))
                            .into_iter())
                        .chain(speed.map(|speed| ("port-speed", speed.into())))
                        .collect(),
                    };
                    if leaves.is_empty() {
                        continue;
                    }
                    let Some(name) = names.get(&settings.port) else {
                        faults.push(format!("the switch has no port {}", settings.port));
                        continue;
                    };
                    let subject = format!("port {} ({name})", settings.port);
                    let interface = |leaf: &str| {
                        let above = [elem("interfaces"), keyed("interface", "name", name)];
                        path_of(above.into_iter().chain(["ethernet", "config", leaf].map(elem)))
                    };
                    let found: Vec<Repair> = leaves
                        .into_iter()
                        .filter_map(|(leaf, value)| self.leaf_repair(interface(leaf), value, &subject))
                        .collect();
                    repairs.extend(together(found));
                }
            }
            Part::Breakout => repairs.extend(plan.breakouts.iter().filter_map(|wanted| {
                let groups = format!(
                    "/components/component[name={}]/port/breakout-mode/groups/group[index=",
                    wanted.component
                );
                let reported = self
                    .leaves
                    .keys()
                    .find_map(|key| key.strip_prefix(&groups)?.split_once(']'));
                let index: u8 = reported
                    .and_then(|(index, _)| index.parse().ok())
                    .unwrap_or(dialect.breakout_group);
                let speed = wanted.speed.identity();
                let mut config = serde_json::json!({
                    "index": index,
                    "num-breakouts": wanted.ports,
                    "breakout-speed": format!("openconfig-if-ethernet:{speed}"),
                });
                let mut leaves = vec![
                    ("num-breakouts", wanted.ports.to_string()),
                    ("breakout-speed", speed.to_owned()),
                ];
                if let Some(lanes) = wanted.lanes {
                    config["num-physical-channels"] = lanes.into();
                    leaves.push(("num-physical-channels", lanes.to_string()));
                }
                let gives: Vec<_> = leaves
                    .into_iter()
                    .map(|(leaf, value)| (format!("{groups}{index}]/config/{leaf}"), value))
                    .collect();
                let differing: Vec<_> = gives
                    .iter()
                    .filter_map(|(key, value)| self.differs(key, value))
                    .collect();
                let is_drift = differing.iter().any(|(_, is_drift)| *is_drift);
                let (now, _) = differing.first()?;
                let path = path_of([
                    elem("components"),
                    keyed("component", "name", &wanted.component),
                    elem("port"),
                    elem("breakout-mode"),
                    elem("groups"),
                    keyed("group", "index", &index.to_string()),
                ]);
                let value = serde_json::json!({ "index": index, "config": config });
                Some(Repair {
                    updates: vec![update(path, &value)],
                    gives,
                    what: format!(
                        "component {}: its breakout was {now} instead of `{wanted}`",
                        wanted.component
                    ),
                    is_drift,
                })
            })),
        }
        (repairs, faults)
    }
}

/// Repairs of one port as one transaction.
fn together(repairs: Vec<Repair>) -> Option<Repair> {
    repairs.into_iter().reduce(|mut all, next| {
        all.updates.extend(next.updates);
        all.gives.extend(next.gives);
        all.what = format!("{}; {}", all.what, next.what);
        all.is_drift |= next.is_drift;
        all
    })
}
