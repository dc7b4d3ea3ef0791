//! Runs a command: turns words into P4Runtime messages, and replies into text.

use std::collections::BTreeMap;
use std::sync::Arc;

use p4runtime_proto::p4::config::v1::{Action, P4Info, Preamble, Table};
use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::entity::Entity as Kind;
use p4runtime_proto::p4::v1::packet_replication_engine_entry::Type as Pre;
use p4runtime_proto::p4::v1::update::Type;

use super::pre::Replication;
use super::value::{field, needs_priority, value};
use crate::device::Dataplane;
use crate::p4runtime::server::Server;
use crate::queues::Setting;

/// Entries whose handles are remembered.
const MAX_HANDLES: usize = 1 << 16;

const HELP: &str = "\
table_add TABLE ACTION KEY... => [PARAMETER...] [PRIORITY]
table_set_default TABLE ACTION [PARAMETER...]
table_reset_default TABLE
table_modify TABLE ACTION HANDLE [PARAMETER...]
table_delete TABLE HANDLE
table_clear TABLE
table_dump TABLE
table_num_entries TABLE
show_tables
show_actions
mc_mgrp_create GROUP, mc_mgrp_destroy GROUP
mc_node_create RID PORT..., mc_node_update HANDLE PORT..., mc_node_destroy HANDLE
mc_node_associate GROUP HANDLE, mc_node_dissociate GROUP HANDLE
mc_dump
mirroring_add SESSION PORT
mirroring_add_mc SESSION GROUP
mirroring_delete SESSION
counter_read COUNTER INDEX
counter_reset COUNTER
counter_write COUNTER INDEX PACKETS OCTETS
register_read REGISTER [INDEX]
register_write REGISTER INDEX VALUE
register_reset REGISTER
meter_set_rates METER INDEX RATE:BURST RATE:BURST
meter_get_rates METER INDEX
meter_array_set_rates METER RATE:BURST RATE:BURST
set_queue_depth PACKETS [PORT [PRIORITY]]
set_queue_rate PACKETS_PER_SECOND [PORT [PRIORITY]]
";

/// State between commands.
pub(super) struct Session {
    server: Arc<Server>,
    plane: Arc<Dataplane>,
    replication: Replication,
    /// Entries by table id and handle.
    pub(super) entries: BTreeMap<(u32, u32), v1::TableEntry>,
    next_handle: u32,
    /// Rates that `meter_array_set_rates` gave to all entries of a table, also to those that follow.
    pub(super) table_rates: BTreeMap<u32, v1::MeterConfig>,
}

pub(super) type Reply = Result<String, String>;

/// An object by its name, its alias, or the end of its name that no other has.
pub(super) fn by_name<'a, T>(
    what: &str,
    name: &str,
    all: &'a [T],
    preamble: impl Fn(&T) -> Option<&Preamble>,
) -> Result<(u32, &'a T), String> {
    let named = |is_it: &dyn Fn(&Preamble) -> bool| {
        let mut found = all.iter().filter_map(|of| {
            let id = preamble(of).filter(|p| is_it(p))?.id;
            Some((id, of))
        });
        let first = found.next();
        first.filter(|_| found.next().is_none())
    };
    let end = format!(".{name}");
    named(&|p| p.name == name)
        .or_else(|| named(&|p| p.alias == name))
        .or_else(|| named(&|p| p.name.ends_with(&end)))
        .ok_or_else(|| format!("there is no {what} {name:?}, or more than one"))
}

fn table<'a>(info: &'a P4Info, name: &str) -> Result<(u32, &'a Table), String> {
    by_name("table", name, &info.tables, |t| t.preamble.as_ref())
}

/// An action with its parameters.
fn call(info: &P4Info, name: &str, words: &[&str]) -> Result<v1::Action, String> {
    let (action_id, action) = by_name("action", name, &info.actions, |a: &Action| a.preamble.as_ref())?;
    if action.params.len() != words.len() {
        let (wanted, given) = (action.params.len(), words.len());
        return Err(format!("action {name} takes {wanted} parameters, {given} are given"));
    }
    let params = action.params.iter().zip(words).map(|(param, word)| {
        Ok(v1::action::Param {
            param_id: param.id,
            value: value(word, param.bitwidth)?,
        })
    });
    Ok(v1::Action {
        action_id,
        params: params.collect::<Result<_, String>>()?,
    })
}

fn action(call: v1::Action) -> Option<v1::TableAction> {
    Some(v1::TableAction {
        r#type: Some(v1::table_action::Type::Action(call)),
    })
}

pub(super) fn number<T: std::str::FromStr>(what: &str, word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{word:?} is not a {what}"))
}

fn numbers(what: &str, words: &[&str]) -> Result<Vec<u32>, String> {
    words.iter().map(|word| number(what, word)).collect()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

impl Session {
    pub(super) fn new(server: Arc<Server>, plane: Arc<Dataplane>) -> Self {
        Self {
            server,
            plane,
            replication: Replication::default(),
            entries: BTreeMap::new(),
            next_handle: 0,
            table_rates: BTreeMap::new(),
        }
    }

    /// Runs a line; returns the text to print.
    pub(super) fn run(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some((command, words)) = words.split_first() else {
            return String::new();
        };
        if command.starts_with('#') {
            return String::new();
        }
        match self.command(command, words) {
            Ok(text) if text.is_empty() || text.ends_with('\n') => text,
            Ok(text) => text + "\n",
            Err(error) => format!("Error: {command}: {error}\n"),
        }
    }

    fn command(&mut self, command: &str, words: &[&str]) -> Reply {
        match (command, words) {
            ("help", _) => Ok(HELP.to_owned()),
            ("table_add", [table, action, rest @ ..]) => self.table_add(table, action, rest),
            ("table_set_default", [table, action, rest @ ..]) => self.table_default(table, Some((action, rest))),
            ("table_reset_default", [table]) => self.table_default(table, None),
            ("table_modify", [table, action, handle, rest @ ..]) => self.table_modify(table, action, handle, rest),
            ("table_delete", [table, handle]) => self.table_delete(table, handle),
            ("table_clear", [table]) => self.table_clear(table),
            ("table_dump", [table]) => self.table_dump(table),
            ("table_num_entries", [table]) => Ok(self.entries_of(table)?.len().to_string()),
            ("show_tables", []) => self.show(|info| names(info.tables.iter().map(|t| &t.preamble))),
            ("show_actions", []) => self.show(|info| names(info.actions.iter().map(|a| &a.preamble))),
            ("counter_read" | "counter_write" | "counter_reset", [name, rest @ ..]) => {
                self.counter(command, name, rest)
            }
            ("register_read" | "register_write" | "register_reset", [name, rest @ ..]) => {
                self.register(command, name, rest)
            }
            ("meter_set_rates", [name, cell, rest @ ..]) => self.set_rates(name, Some(cell), rest),
            ("meter_array_set_rates", [name, rest @ ..]) => self.set_rates(name, None, rest),
            ("meter_get_rates", [name, cell]) => self.get_rates(name, cell),
            ("set_queue_depth", [depth, rest @ ..]) => {
                self.queue(Setting::Depth(number("number of packets", depth)?), rest)
            }
            ("set_queue_rate", [rate, rest @ ..]) => {
                self.queue(Setting::Rate(number("number of packets a second", rate)?), rest)
            }
            _ if command.starts_with("mc_") => self.multicast(command, words),
            _ if command.starts_with("mirroring_") => self.mirroring(command, words),
            _ => Err(format!("no such command with {} words; help lists them", words.len())),
        }
    }

    pub(super) fn info(&self) -> Result<P4Info, String> {
        self.server.p4info().map_err(|error| error.to_string())
    }

    fn show(&self, text: impl FnOnce(&P4Info) -> String) -> Reply {
        Ok(text(&self.info()?))
    }

    pub(super) fn write(&self, kind: Type, entity: Kind) -> Result<(), String> {
        let update = v1::Update {
            r#type: kind.into(),
            entity: Some(v1::Entity { entity: Some(entity) }),
        };
        let results = self
            .server
            .write_locally(&[update])
            .map_err(|error| error.to_string())?;
        let failed = results.into_iter().find_map(Result::err);
        failed.map_or(Ok(()), |error| Err(error.to_string()))
    }

    pub(super) fn read(&self, entity: Kind) -> Result<Vec<Kind>, String> {
        self.server.read_locally(entity).map_err(|error| error.to_string())
    }

    fn table_add(&mut self, name: &str, action_name: &str, words: &[&str]) -> Reply {
        let info = self.info()?;
        let (table_id, of) = table(&info, name)?;
        let arrow = words.iter().position(|word| *word == "=>");
        let arrow = arrow.ok_or("=> is expected between the key and the parameters")?;
        let (key, rest) = words.split_at(arrow);
        let mut params = rest.get(1..).unwrap_or_default();
        if key.len() != of.match_fields.len() {
            let (wanted, given) = (of.match_fields.len(), key.len());
            return Err(format!("table {name} has {wanted} match fields, {given} are given"));
        }
        let mut entry = v1::TableEntry {
            table_id,
            ..v1::TableEntry::default()
        };
        if needs_priority(&of.match_fields) {
            let (last, before) = params.split_last().ok_or("a priority is expected at the end")?;
            let priority: i32 = number("priority", last)?;
            // In bmv2, the smaller priority wins; in P4Runtime the larger one, and 0 means none.
            entry.priority = i32::MAX - priority.max(0);
            params = before;
        }
        for (of, word) in of.match_fields.iter().zip(key) {
            entry.r#match.extend(field(of, word)?);
        }
        entry.action = action(call(&info, action_name, params)?);
        entry.meter_config = self.table_rates.get(&table_id).copied();
        self.write(Type::Insert, Kind::TableEntry(entry.clone()))?;
        if self.entries.len() >= MAX_HANDLES {
            return Ok(format!(
                "Entry has been added; handles of {MAX_HANDLES} entries are kept, not of this one"
            ));
        }
        let handle = self.next_handle;
        self.next_handle = self.next_handle.wrapping_add(1);
        self.entries.insert((table_id, handle), entry);
        Ok(format!("Entry has been added with handle {handle}"))
    }

    fn table_default(&self, name: &str, to: Option<(&&str, &[&str])>) -> Reply {
        let info = self.info()?;
        let (table_id, _) = table(&info, name)?;
        let to = to.map(|(action, words)| call(&info, action, words)).transpose()?;
        let entry = v1::TableEntry {
            table_id,
            is_default_action: true,
            action: to.and_then(action),
            ..v1::TableEntry::default()
        };
        self.write(Type::Modify, Kind::TableEntry(entry))?;
        Ok(format!("Default action of {name} is set"))
    }

    pub(super) fn entry(&self, table_id: u32, handle: &str) -> Result<(u32, v1::TableEntry), String> {
        let number: u32 = number("handle", handle)?;
        let entry = self.entries.get(&(table_id, number)).cloned();
        let entry = entry.ok_or_else(|| format!("no entry was added with handle {handle}"))?;
        Ok((number, entry))
    }

    fn table_modify(&mut self, name: &str, action_name: &str, handle: &str, words: &[&str]) -> Reply {
        let info = self.info()?;
        let (table_id, _) = table(&info, name)?;
        let (handle, mut entry) = self.entry(table_id, handle)?;
        entry.action = action(call(&info, action_name, words)?);
        self.write(Type::Modify, Kind::TableEntry(entry.clone()))?;
        self.entries.insert((table_id, handle), entry);
        Ok(format!("Entry has been modified with handle {handle}"))
    }

    fn table_delete(&mut self, name: &str, handle: &str) -> Reply {
        let info = self.info()?;
        let (table_id, _) = table(&info, name)?;
        let (handle, entry) = self.entry(table_id, handle)?;
        self.write(Type::Delete, Kind::TableEntry(entry))?;
        self.entries.remove(&(table_id, handle));
        Ok(format!("Deleted entry {handle} of {name}"))
    }

    fn entries_of(&self, name: &str) -> Result<Vec<v1::TableEntry>, String> {
        let (table_id, _) = table(&self.info()?, name)?;
        self.entries_in(table_id)
    }

    pub(super) fn entries_in(&self, table_id: u32) -> Result<Vec<v1::TableEntry>, String> {
        let all = v1::TableEntry {
            table_id,
            ..v1::TableEntry::default()
        };
        let found = self.read(Kind::TableEntry(all))?.into_iter();
        Ok(found
            .filter_map(|entity| match entity {
                Kind::TableEntry(entry) => Some(entry),
                _ => None,
            })
            .collect())
    }

    fn table_clear(&mut self, name: &str) -> Reply {
        let entries = self.entries_of(name)?;
        for entry in entries {
            self.write(Type::Delete, Kind::TableEntry(entry))?;
        }
        let (table_id, _) = table(&self.info()?, name)?;
        self.entries.retain(|(table, _), _| *table != table_id);
        Ok(format!("Cleared {name}"))
    }

    fn table_dump(&self, name: &str) -> Reply {
        use v1::field_match::FieldMatchType as M;
        let info = self.info()?;
        let (_, of) = table(&info, name)?;
        let mut text = format!("==========\nTABLE ENTRIES of {name}\n");
        for entry in self.entries_of(name)? {
            text += "**********\nMatch key:\n";
            for matched in &entry.r#match {
                let field = of.match_fields.iter().find(|field| field.id == matched.field_id);
                let value = match &matched.field_match_type {
                    Some(M::Exact(m)) => hex(&m.value),
                    Some(M::Lpm(m)) => format!("{}/{}", hex(&m.value), m.prefix_len),
                    Some(M::Ternary(m)) => format!("{} &&& {}", hex(&m.value), hex(&m.mask)),
                    Some(M::Range(m)) => format!("{} -> {}", hex(&m.low), hex(&m.high)),
                    Some(M::Optional(m)) => hex(&m.value),
                    _ => String::new(),
                };
                text += &format!("* {:20}: {value}\n", field.map_or("", |field| field.name.as_str()));
            }
            if entry.priority != 0 {
                text += &format!("Priority: {}\n", i32::MAX - entry.priority);
            }
            if let Some(v1::table_action::Type::Action(call)) = entry.action.and_then(|a| a.r#type) {
                let named = info.actions.iter().filter_map(|a| a.preamble.as_ref());
                let action = named.into_iter().find(|p| p.id == call.action_id);
                let params: Vec<_> = call.params.iter().map(|param| hex(&param.value)).collect();
                let name = action.map_or("", |p| p.name.as_str());
                text += &format!("Action entry: {name} - {}\n", params.join(", "));
            }
        }
        text += "==========";
        Ok(text)
    }

    fn queue(&self, setting: Setting, words: &[&str]) -> Reply {
        let (port, priority) = match words {
            [] => (None, None),
            [port] => (Some(number("port", port)?), None),
            [port, priority] => (Some(number("port", port)?), Some(number("priority", priority)?)),
            _ => return Err("expected at most a port and a priority".to_owned()),
        };
        let is_set = self.plane.queues.set(port, priority, setting);
        self.plane.wake();
        let most = self.plane.queues.priorities();
        is_set
            .then(String::new)
            .ok_or_else(|| format!("no such queue: priorities are below {most} (--priority-queues)"))
    }

    fn write_group(&self, group: u32) -> Result<(), String> {
        let entry = self.replication.entry(group)?;
        let kind = |entry| Kind::PacketReplicationEngineEntry(pre(Pre::MulticastGroupEntry(entry)));
        self.write(Type::Modify, kind(entry))
    }

    fn multicast(&mut self, command: &str, words: &[&str]) -> Reply {
        let whole = |entry| Kind::PacketReplicationEngineEntry(pre(Pre::MulticastGroupEntry(entry)));
        match (command, words) {
            ("mc_mgrp_create", [group]) => {
                let group = number("multicast group", group)?;
                self.replication.create_group(group)?;
                let entry = self.replication.entry(group)?;
                if let Err(error) = self.write(Type::Insert, whole(entry)) {
                    self.replication.destroy_group(group)?;
                    return Err(error);
                }
                Ok(format!("Creating multicast group {group}"))
            }
            ("mc_mgrp_destroy", [group]) => {
                let group = number("multicast group", group)?;
                let entry = self.replication.entry(group)?;
                self.write(Type::Delete, whole(entry))?;
                self.replication.destroy_group(group)?;
                Ok(format!("Destroying multicast group {group}"))
            }
            ("mc_node_create", [rid, ports @ ..]) => {
                let ports = ports
                    .iter()
                    .copied()
                    .take_while(|word| *word != "|")
                    .collect::<Vec<_>>();
                let handle = self
                    .replication
                    .create_node(number("replication id", rid)?, numbers("port", &ports)?)?;
                Ok(format!("node was created with handle {handle}"))
            }
            ("mc_node_update", [handle, ports @ ..]) => {
                let groups = self
                    .replication
                    .update_node(number("handle", handle)?, numbers("port", ports)?)?;
                groups.into_iter().try_for_each(|group| self.write_group(group))?;
                Ok(String::new())
            }
            ("mc_node_destroy", [handle]) => {
                let groups = self.replication.destroy_node(number("handle", handle)?)?;
                groups.into_iter().try_for_each(|group| self.write_group(group))?;
                Ok(String::new())
            }
            ("mc_node_associate" | "mc_node_dissociate", [group, handle]) => {
                let (group, handle) = (number("multicast group", group)?, number("handle", handle)?);
                let is_in = command == "mc_node_associate";
                self.replication.associate(group, handle, is_in)?;
                if let Err(error) = self.write_group(group) {
                    self.replication.associate(group, handle, !is_in)?;
                    return Err(error);
                }
                let what = if is_in { "Associating" } else { "Dissociating" };
                Ok(format!("{what} node {handle} and multicast group {group}"))
            }
            ("mc_dump", []) => Ok(self.replication.describe()),
            _ => Err("no such command with these words; help lists them".to_owned()),
        }
    }

    fn mirroring(&self, command: &str, words: &[&str]) -> Reply {
        let kind = |entry| Kind::PacketReplicationEngineEntry(pre(Pre::CloneSessionEntry(entry)));
        let session = |session: &str| {
            Ok::<_, String>(v1::CloneSessionEntry {
                session_id: number("session", session)?,
                ..v1::CloneSessionEntry::default()
            })
        };
        let entry = match (command, words) {
            ("mirroring_delete", [id]) => {
                self.write(Type::Delete, kind(session(id)?))?;
                return Ok(format!("Deleting mirroring session {id}"));
            }
            ("mirroring_add", [id, port]) => {
                let port: u32 = number("port", port)?;
                v1::CloneSessionEntry {
                    replicas: vec![v1::Replica {
                        port_kind: Some(v1::replica::PortKind::Port(port.to_be_bytes().to_vec())),
                        ..v1::Replica::default()
                    }],
                    ..session(id)?
                }
            }
            ("mirroring_add_mc", [id, group]) => {
                let group = self.replication.entry(number("multicast group", group)?)?;
                v1::CloneSessionEntry {
                    replicas: group.replicas,
                    ..session(id)?
                }
            }
            _ => return Err("no such command with these words; help lists them".to_owned()),
        };
        // Adding a session again replaces it, as in bmv2.
        let id = entry.session_id;
        let added = self.write(Type::Insert, kind(entry.clone()));
        added.or_else(|_| self.write(Type::Modify, kind(entry)))?;
        Ok(format!("Adding mirroring session {id}"))
    }
}

fn pre(of: Pre) -> v1::PacketReplicationEngineEntry {
    v1::PacketReplicationEngineEntry { r#type: Some(of) }
}

fn names<'a>(all: impl Iterator<Item = &'a Option<Preamble>>) -> String {
    all.flatten().map(|preamble| format!("{}\n", preamble.name)).collect()
}
