//! The packet engine of `p4-switch`, without ports and server: with machine code and interpreted, and the reference
//! evaluator as the judge of both. All hold the same entries.

use std::collections::BTreeMap;

use bmv2_json::Program;
use bmv2_tests::program::Core;
use bmv2_tests::stf::names::Names;
use bmv2_tests::stf::target::{Action, Call, Entry, Key, Rates, Replica, Target};
use fabric_pipeline::Pipeline;
use fabric_pipeline::tables::counters::{ICMP_ERRORS, INGRESS_DROPS};
use fabric_pipeline::tables::host_refusal;
use p4runtime_client::canonical;
use p4runtime_client::entity::{ActionCall, Entity, EntityKey, EntityValue, FieldMatch, Match, TableAction};
use p4runtime_proto::p4::config::v1::{P4Info, Preamble};

use crate::Outcome;

/// A loaded program, with the names that P4Info gives its ids.
struct Loaded {
    target: Box<dyn Target>,
    program: Program,
    info: P4Info,
    refusals: Vec<(EntityKey, Entry)>,
}

fn name(preamble: Option<&Preamble>, id: u32) -> Option<String> {
    preamble.filter(|p| p.id == id).map(|p| p.name.clone())
}

/// A value in the octets of a field.
fn padded(value: &[u8], width: i32) -> Vec<u8> {
    let number = canonical::to_u128(value).unwrap().to_be_bytes();
    number[16 - (width as usize).div_ceil(8)..].to_vec()
}

impl Loaded {
    fn profile(&self, id: u32) -> String {
        let mut profiles = self.info.action_profiles.iter();
        profiles.find_map(|p| name(p.preamble.as_ref(), id)).unwrap()
    }

    fn call(&self, call: &ActionCall) -> Call {
        let id = call.action_id();
        let mut actions = self.info.actions.iter();
        let info = actions
            .find(|a| a.preamble.as_ref().is_some_and(|p| p.id == id))
            .unwrap();
        let action = info.preamble.as_ref().unwrap().name.clone();
        let width = |id: u32| info.params.iter().find(|p| p.id == id).unwrap().bitwidth;
        Call {
            id: self.program.actions.iter().find(|a| a.name == action).unwrap().id,
            action,
            args: call.params().map(|(id, value)| padded(value, width(id))).collect(),
        }
    }

    /// The name of a table, and a key of it.
    fn key(&self, table: u32, key: &Match) -> (String, Vec<Key>) {
        let mut tables = self.info.tables.iter();
        let info = tables
            .find(|t| t.preamble.as_ref().is_some_and(|p| p.id == table))
            .unwrap();
        let part = |field: &p4runtime_proto::p4::config::v1::MatchField| match key.field(field.id) {
            Some(FieldMatch::Exact(v)) => Key::Exact(padded(v, field.bitwidth)),
            Some(FieldMatch::Lpm { value, prefix_len }) => Key::Lpm(padded(value, field.bitwidth), prefix_len as usize),
            // Every value matches a prefix of no bits, which is therefore left out.
            None => Key::Lpm(padded(&[0], field.bitwidth), 0),
            other => panic!("field {}: {other:?}", field.name),
        };
        let name = info.preamble.as_ref().unwrap().name.clone();
        (name, info.match_fields.iter().map(part).collect())
    }

    /// The cells of a counter that counted packets; none if the program has no such counter.
    fn counted(&mut self, id: u32) -> BTreeMap<u32, i64> {
        let mut counters = self.info.counters.iter();
        let Some(counter) = counters.find_map(|c| name(c.preamble.as_ref(), id)) else {
            return BTreeMap::new();
        };
        let cells = (0..).map_while(|i: u32| Some((i, self.target.counter(&counter, i.into()).ok()?.packets as i64)));
        cells.filter(|(_, packets)| *packets > 0).collect()
    }

    fn write(&mut self, entity: &Entity) {
        match (entity.key(), entity.value()) {
            (EntityKey::Table(key), EntityValue::Table(value)) => {
                let action = match &value.action {
                    TableAction::Call(call) => Action::Call(self.call(call)),
                    TableAction::Group(id) => Action::Group(*id),
                    other => panic!("{other:?}"),
                };
                let (table, fields) = self.key(key.table_id, &key.fields);
                let entry = Entry {
                    table,
                    key: fields,
                    priority: key.priority,
                    action,
                };
                self.target.add(&entry).unwrap();
                if let Some(meter) = value.extra.as_ref().and_then(|e| e.meter) {
                    let rates = Rates {
                        cir: meter.cir as u64 * 1_000_000,
                        cbs: meter.cburst as u64,
                        pir: meter.pir as u64 * 1_000_000,
                        pbs: meter.pburst as u64,
                    };
                    self.target.direct_meter(&entry, rates).unwrap();
                }
                if key.table_id == host_refusal::ID {
                    self.refusals.push((entity.key().clone(), entry));
                }
            }
            (EntityKey::Member { profile_id, member_id }, EntityValue::Member(call)) => {
                let (profile, call) = (self.profile(*profile_id), self.call(call));
                self.target.member(&profile, *member_id, &call).unwrap();
            }
            (EntityKey::Group { profile_id, group_id }, EntityValue::Group(group)) => {
                let profile = self.profile(*profile_id);
                let members = group
                    .members
                    .iter()
                    .map(|m| (m.member_id, m.watch_port.map(|p| p.0)))
                    .collect::<Vec<_>>();
                self.target.group(&profile, *group_id, &members).unwrap();
            }
            (EntityKey::MulticastGroup(id), EntityValue::MulticastGroup(group)) => {
                let copy = |r: &p4runtime_client::entity::Replica| Replica {
                    port: r.port.0,
                    rid: r.instance,
                };
                let copies: Vec<_> = group.replicas.iter().map(copy).collect();
                self.target.multicast(*id, &copies).unwrap();
            }
            _ => panic!("{entity:?}"),
        }
    }
}

/// Runs all packets through a pipeline on one of the implementations.
pub(crate) fn run(core: Core, pipeline: Pipeline, entities: &[Entity], packets: &[(u16, Vec<u8>)]) -> Outcome {
    let program = Program::from_slice(pipeline.json).unwrap();
    let names = Names::new(&program).unwrap();
    let mut loaded = Loaded {
        target: core.load(&program, &names).unwrap(),
        program,
        info: pipeline.decode_p4info().unwrap(),
        refusals: Vec::new(),
    };
    // Contributions share entities.
    let entities: BTreeMap<&EntityKey, &Entity> = entities.iter().map(|e| (e.key(), e)).collect();
    let mut entities: Vec<&Entity> = entities.into_values().collect();
    entities.sort_by_key(|e| e.key().rank());
    for entity in entities {
        loaded.write(entity);
    }
    let mut out: BTreeMap<u16, Vec<Vec<u8>>> = BTreeMap::new();
    for (port, frame) in packets {
        loaded.target.packet((*port).into(), frame).unwrap();
        for (port, data) in loaded.target.frames().unwrap() {
            out.entry(port as u16).or_default().push(data);
        }
    }
    assert!(
        loaded.target.digests().unwrap().is_empty(),
        "the pipelines send no digests"
    );
    let drops = loaded.counted(INGRESS_DROPS);
    let icmp_errors = loaded.counted(ICMP_ERRORS);
    let mut refusals = BTreeMap::new();
    for (key, entry) in &loaded.refusals {
        let packets = loaded.target.direct_counter(entry).unwrap().packets;
        if packets > 0 {
            refusals.insert(key.clone(), packets as i64);
        }
    }
    Outcome {
        out,
        drops,
        icmp_errors,
        refusals,
    }
}
