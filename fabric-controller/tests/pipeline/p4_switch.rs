//! The engine of `p4-switch` as the target: no ports, no server.

use std::collections::BTreeMap;
use std::sync::Arc;

use fabric_pipeline::Pipeline;
use fabric_pipeline::tables::counters::INGRESS_DROPS;
use fabric_pipeline::tables::host_refusal;
use p4_switch::reference::{self, Entry, Output, Switch, Target};
use p4runtime_client::canonical;
use p4runtime_client::entity::{ActionCall, Entity, EntityKey, EntityValue, FieldMatch, Match, TableAction};
use p4runtime_proto::p4::config::v1::{P4Info, Preamble};

use crate::Outcome;

/// A loaded switch, with the names that P4Info gives its ids.
struct Loaded {
    switch: Switch,
    info: P4Info,
    refusals: Vec<(EntityKey, Arc<reference::Counter>)>,
}

fn name(preamble: Option<&Preamble>, id: u32) -> Option<&str> {
    preamble.filter(|p| p.id == id).map(|p| p.name.as_str())
}

impl Loaded {
    fn table(&self, id: u32) -> (usize, Vec<(u32, i32)>) {
        let table = self
            .info
            .tables
            .iter()
            .find(|t| name(t.preamble.as_ref(), id).is_some())
            .unwrap();
        let fields = table.match_fields.iter().map(|f| (f.id, f.bitwidth)).collect();
        (
            self.switch.table(&table.preamble.as_ref().unwrap().name).unwrap(),
            fields,
        )
    }

    fn profile(&self, id: u32) -> usize {
        let found = self
            .info
            .action_profiles
            .iter()
            .find_map(|p| name(p.preamble.as_ref(), id))
            .unwrap();
        self.switch.profile(found).unwrap()
    }

    fn call(&self, table: Option<usize>, call: &ActionCall) -> reference::ActionCall {
        let found = self
            .info
            .actions
            .iter()
            .find_map(|a| name(a.preamble.as_ref(), call.action_id()))
            .unwrap();
        let args = call
            .params()
            .map(|(_, v)| canonical::to_u128(v).unwrap().into())
            .collect();
        reference::ActionCall {
            action: self.switch.action(table, found).unwrap(),
            args,
        }
    }

    fn key(&self, fields: &[(u32, i32)], key: &Match) -> Vec<reference::Match> {
        let padded = |value: &[u8], width: i32| {
            let number = canonical::to_u128(value).unwrap().to_be_bytes();
            Box::from(&number[16 - (width as usize).div_ceil(8)..])
        };
        let part = |&(id, width): &(u32, i32)| match key.field(id) {
            Some(FieldMatch::Exact(v)) => reference::Match::Exact(padded(v, width)),
            Some(FieldMatch::Lpm { value, prefix_len }) => {
                reference::Match::Lpm(padded(value, width), prefix_len as usize)
            }
            other => panic!("field {id}: {other:?}"),
        };
        fields.iter().map(part).collect()
    }

    fn write(&mut self, entity: &Entity) {
        let mut tables = self.switch.tables_mut();
        match (entity.key(), entity.value()) {
            (EntityKey::Table(key), EntityValue::Table(value)) => {
                let (table, fields) = self.table(key.table_id);
                let target = match &value.action {
                    TableAction::Call(call) => Target::Action(self.call(Some(table), call)),
                    TableAction::Group(id) => Target::Group(*id),
                    other => panic!("{other:?}"),
                };
                let counter = Arc::default();
                let entry = Entry::new(key.priority, target, &counter, &Arc::default(), &Arc::default());
                if key.table_id == host_refusal::ID {
                    self.refusals.push((entity.key().clone(), counter));
                }
                tables.put(table, &self.key(&fields, &key.fields), entry);
            }
            (EntityKey::Member { profile_id, member_id }, EntityValue::Member(call)) => {
                let (table, _) = self.table(fabric_pipeline::tables::path::ID);
                tables.set_member(
                    self.profile(*profile_id),
                    *member_id,
                    Some(self.call(Some(table), call)),
                );
            }
            (EntityKey::Group { profile_id, group_id }, EntityValue::Group(group)) => {
                let members = group
                    .members
                    .iter()
                    .map(|m| (m.member_id, m.watch_port.map(|p| p.0)))
                    .collect();
                tables.set_group(self.profile(*profile_id), *group_id, Some(reference::Group { members }));
            }
            (EntityKey::MulticastGroup(id), EntityValue::MulticastGroup(group)) => {
                let copy = |r: &p4runtime_client::entity::Replica| reference::Replica {
                    port: r.port.0,
                    instance: r.instance as u16,
                    backups: Box::default(),
                };
                tables.set_multicast(*id, Some(group.replicas.iter().map(copy).collect()));
            }
            _ => panic!("{entity:?}"),
        }
    }

    /// Entries of the program itself.
    fn own_entries(&self, json: &[u8]) {
        let json: serde_json::Value = serde_json::from_slice(json).unwrap();
        let list = |v: &serde_json::Value| v.as_array().cloned().unwrap_or_default();
        let octets = |v: &serde_json::Value| -> Box<[u8]> {
            let digits = v.as_str().unwrap().trim_start_matches("0x");
            let octet = |i: usize| u8::from_str_radix(&digits[i..i + 2], 16).unwrap();
            (0..digits.len()).step_by(2).map(octet).collect()
        };
        for table in list(&json["pipelines"]).iter().flat_map(|p| list(&p["tables"])) {
            let index = self.switch.table(table["name"].as_str().unwrap()).unwrap();
            for entry in list(&table["entries"]) {
                let part = |f: &serde_json::Value| match f["match_type"].as_str() {
                    Some("ternary") => reference::Match::Ternary(octets(&f["key"]), octets(&f["mask"])),
                    other => panic!("{other:?} in an entry of the program"),
                };
                let key: Vec<_> = list(&entry["match_key"]).iter().map(part).collect();
                let call = &entry["action_entry"];
                assert_eq!(list(&call["action_data"]).len(), 0);
                let action = list(&json["actions"])
                    .into_iter()
                    .find(|a| a["id"] == call["action_id"])
                    .unwrap();
                let target = Target::Action(reference::ActionCall {
                    action: self
                        .switch
                        .action(Some(index), action["name"].as_str().unwrap())
                        .unwrap(),
                    args: Box::default(),
                });
                let entry = Entry::new(0, target, &Arc::default(), &Arc::default(), &Arc::default());
                self.switch.tables_mut().put(index, &key, entry);
            }
        }
    }

    /// Default actions of the program, those of tables that the compiler made included.
    fn defaults(&self, json: &[u8]) {
        let json: serde_json::Value = serde_json::from_slice(json).unwrap();
        let list = |v: &serde_json::Value| v.as_array().cloned().unwrap_or_default();
        for table in list(&json["pipelines"]).iter().flat_map(|p| list(&p["tables"])) {
            let Some(id) = table["default_entry"]["action_id"].as_u64() else {
                continue;
            };
            let action = list(&json["actions"])
                .into_iter()
                .find(|a| a["id"].as_u64() == Some(id))
                .unwrap();
            let index = self.switch.table(table["name"].as_str().unwrap()).unwrap();
            let action = self
                .switch
                .action(Some(index), action["name"].as_str().unwrap())
                .unwrap();
            let call = reference::ActionCall {
                action,
                args: Box::default(),
            };
            self.switch.tables_mut().set_default(index, Some(call));
        }
    }
}

/// Runs all packets through a pipeline.
pub(crate) fn run(pipeline: Pipeline, entities: &[Entity], packets: &[(u16, Vec<u8>)]) -> Outcome {
    let cpu = u32::from(fabric_pipeline::CPU_PORT);
    let switch = Switch::new(pipeline.json, Some(cpu), 511).unwrap();
    let mut loaded = Loaded {
        switch,
        info: pipeline.decode_p4info().unwrap(),
        refusals: Vec::new(),
    };
    loaded.defaults(pipeline.json);
    loaded.own_entries(pipeline.json);
    for entity in entities {
        loaded.write(entity);
    }
    let mut out: BTreeMap<u16, Vec<Vec<u8>>> = BTreeMap::new();
    for (i, (port, frame)) in packets.iter().enumerate() {
        let mut outputs = Vec::new();
        loaded.switch.process((*port).into(), frame, i as u64, &mut outputs);
        for output in outputs {
            match output {
                Output::Frame { port, data } => out.entry(port as u16).or_default().push(data),
                Output::Digest(..) => panic!("the pipelines send no digests"),
            }
        }
    }
    let counters = &loaded.info.counters;
    let drops = counters
        .iter()
        .find_map(|c| name(c.preamble.as_ref(), INGRESS_DROPS))
        .unwrap();
    let array = loaded.switch.counter_array(drops).unwrap();
    let cell = |i: u32| Some((i, loaded.switch.counter(array, i as usize)?.get().0 as i64));
    let drops = (0..32).filter_map(cell).filter(|(_, packets)| *packets > 0).collect();
    let refusals = loaded
        .refusals
        .iter()
        .map(|(key, counter)| (key.clone(), counter.get().0 as i64));
    Outcome {
        out,
        drops,
        refusals: refusals.filter(|(_, packets)| *packets > 0).collect(),
    }
}
