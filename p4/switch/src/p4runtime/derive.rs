//! Derives a P4Info from BMv2 JSON, for a program without one.
//!
//! Ids are those that compilers assign to objects without `@id`: the kind's prefix and a 24-bit hash of the name
//! (P4Runtime specification, section "ID Allocation for P4Info Objects"), so that they usually agree with the program's
//! own P4Info. Everything that the JSON does not have is missing: `@id`, translated types, `optional` keys (they are
//! `ternary`), which actions are for defaults only, the fields of a value set's elements beyond their sum, and the
//! struct of a digest (it has members `f0`, `f1`, ...). Controller headers are recognised by the instance names
//! `packet_in` and `packet_out`.

use bmv2_json::{Expression, FieldWidth, FieldWidths, KeyTarget, MatchType, MeterKind, Operand, Program, Table, Value};
use p4runtime_proto::p4::config::v1 as config;
use rustc_hash::{FxHashMap, FxHashSet};

const ACTION: u32 = 0x01;
const TABLE: u32 = 0x02;
const VALUE_SET: u32 = 0x03;
const CONTROLLER_HEADER: u32 = 0x04;
const ACTION_PROFILE: u32 = 0x11;
const COUNTER: u32 = 0x12;
const DIRECT_COUNTER: u32 = 0x13;
const METER: u32 = 0x14;
const DIRECT_METER: u32 = 0x15;
const REGISTER: u32 = 0x16;
const DIGEST: u32 = 0x17;

/// Jenkins' one-at-a-time hash.
fn hash(name: &str) -> u32 {
    let step = |mut h: u32, octet: u8| {
        h = h.wrapping_add(octet.into());
        h = h.wrapping_add(h << 10);
        h ^ h >> 6
    };
    let mut h = name.bytes().fold(0, step);
    h = h.wrapping_add(h << 3);
    h ^= h >> 11;
    h.wrapping_add(h << 15)
}

#[derive(Default)]
struct Ids {
    taken: FxHashSet<u32>,
    of: FxHashMap<(u32, String), u32>,
}

impl Ids {
    fn preamble(&mut self, prefix: u32, name: &str) -> Option<config::Preamble> {
        let mut low = hash(name) & 0xff_ffff;
        while low == 0 || !self.taken.insert(prefix << 24 | low) {
            low = (low + 1) & 0xff_ffff;
        }
        let id = prefix << 24 | low;
        self.of.insert((prefix, name.to_owned()), id);
        Some(config::Preamble {
            id,
            name: name.to_owned(),
            alias: name.rsplit('.').next().unwrap_or(name).to_owned(),
            ..Default::default()
        })
    }

    fn get(&self, prefix: u32, name: &str) -> u32 {
        self.of.get(&(prefix, name.to_owned())).copied().unwrap_or(0)
    }
}

/// Bits of a field of a header stack's element whose index is computed.
fn element_width(program: &Program, value: &Value) -> Option<u32> {
    let operation = |value: &'_ Value| match value {
        Value::Expression(e) => match (**e).clone() {
            Expression::Op(op) => Some(op),
            Expression::Value(_) => None,
        },
        _ => None,
    };
    let access = operation(value).filter(|op| op.op == "access_field")?;
    let (Operand::Value(element), Operand::Offset(at)) = (*access.left?, *access.right?) else {
        return None;
    };
    let Operand::Value(Value::HeaderStack(stack)) = *operation(&element)?.left? else {
        return None;
    };
    let stack = program.header_stacks.iter().find(|s| s.name == stack)?;
    let kind = program.header_types.iter().find(|t| t.name == stack.header_type)?;
    match kind.fields.get(at as usize)?.width {
        FieldWidth::Bits(bits) => Some(bits),
        FieldWidth::Variable => None,
    }
}

/// Whether the compiler made a table to wrap a statement.
fn is_hidden(table: &Table) -> bool {
    table.key.is_empty() && table.name.starts_with("tbl_")
}

fn size(size: u32) -> i64 {
    size.into()
}

/// Derives a P4Info.
pub fn p4info(program: &Program) -> config::P4Info {
    let mut ids = Ids::default();
    let widths = FieldWidths::new(program);
    let all = || program.pipelines.iter().flat_map(|p| &p.tables);
    let mut info = config::P4Info {
        pkg_info: Some(config::PkgInfo {
            arch: "v1model".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    // Allocate all ids first, then the objects that refer to them.
    let mut preambles = Vec::new();
    for table in all().filter(|t| !is_hidden(t)) {
        preambles.push((table, ids.preamble(TABLE, &table.name)));
    }
    info.actions = actions(program, &mut ids);
    info.action_profiles = profiles(program, &mut ids);
    arrays(program, &mut ids, &mut info);
    info.controller_packet_metadata = ["packet_in", "packet_out"]
        .iter()
        .filter_map(|name| controller_header(program, &mut ids, name))
        .collect();
    info.tables = preambles
        .into_iter()
        .map(|(found, preamble)| table(program, &ids, &widths, found, preamble))
        .collect();
    for list in &program.learn_lists {
        let preamble = ids.preamble(DIGEST, &list.name);
        let member = |(at, element): (usize, &Value)| config::p4_struct_type_spec::Member {
            name: format!("f{at}"),
            type_spec: Some(data(match element {
                Value::Field(field) => widths.of(&field.0, &field.1).unwrap_or(0),
                _ => 0,
            })),
        };
        let spec = config::P4StructTypeSpec {
            members: list.elements.iter().enumerate().map(member).collect(),
            ..Default::default()
        };
        let types = info.type_info.get_or_insert_default();
        types.structs.insert(list.name.clone(), spec);
        info.digests.push(config::Digest {
            preamble,
            type_spec: Some(config::P4DataTypeSpec {
                type_spec: Some(config::p4_data_type_spec::TypeSpec::Struct(config::P4NamedType {
                    name: list.name.clone(),
                })),
            }),
        });
    }
    info
}

/// The actions of tables that control planes see.
fn actions(program: &Program, ids: &mut Ids) -> Vec<config::Action> {
    let tables = program.pipelines.iter().flat_map(|p| &p.tables);
    let used = tables.filter(|t| !is_hidden(t)).flat_map(|t| &t.action_ids);
    let used: FxHashSet<u32> = used.copied().collect();
    let mut seen = FxHashSet::default();
    let mut actions = Vec::new();
    for action in program.actions.iter().filter(|a| used.contains(&a.id)) {
        // Compilers write a copy of an action for each table.
        if !seen.insert(action.name.as_str()) {
            continue;
        }
        let param = |(id, data): (u32, &bmv2_json::RuntimeData)| config::action::Param {
            id,
            name: data.name.clone(),
            bitwidth: data.bitwidth as i32,
            ..Default::default()
        };
        actions.push(config::Action {
            preamble: ids.preamble(ACTION, &action.name),
            params: (1..).zip(&action.runtime_data).map(param).collect(),
        });
    }
    actions
}

fn profiles(program: &Program, ids: &mut Ids) -> Vec<config::ActionProfile> {
    let tables = |name: &str| {
        let all = program.pipelines.iter().flat_map(|p| &p.tables);
        let of = all.filter(|t| t.action_profile.as_deref() == Some(name));
        of.map(|t| t.name.as_str()).collect::<Vec<_>>()
    };
    let all = program.pipelines.iter().flat_map(|p| &p.action_profiles);
    let profile = |profile: &bmv2_json::ActionProfile| config::ActionProfile {
        preamble: ids.preamble(ACTION_PROFILE, &profile.name),
        table_ids: tables(&profile.name).into_iter().map(|t| ids.get(TABLE, t)).collect(),
        with_selector: profile.selector.is_some(),
        size: size(profile.max_size),
        ..Default::default()
    };
    all.map(profile).collect()
}

fn arrays(program: &Program, ids: &mut Ids, info: &mut config::P4Info) {
    let bound = |ids: &Ids, binding: &Option<String>| binding.as_deref().map_or(0, |t| ids.get(TABLE, t));
    for counter in &program.counter_arrays {
        let spec = Some(config::CounterSpec {
            unit: config::counter_spec::Unit::Both.into(),
        });
        if counter.is_direct {
            info.direct_counters.push(config::DirectCounter {
                preamble: ids.preamble(DIRECT_COUNTER, &counter.name),
                spec,
                direct_table_id: bound(ids, &counter.binding),
            });
        } else {
            info.counters.push(config::Counter {
                preamble: ids.preamble(COUNTER, &counter.name),
                spec,
                size: size(counter.size.unwrap_or(0)),
                ..Default::default()
            });
        }
    }
    for meter in &program.meter_arrays {
        let unit = match meter.kind {
            MeterKind::Bytes => config::meter_spec::Unit::Bytes,
            MeterKind::Packets => config::meter_spec::Unit::Packets,
        };
        let spec = Some(config::MeterSpec {
            unit: unit.into(),
            ..Default::default()
        });
        if meter.is_direct {
            info.direct_meters.push(config::DirectMeter {
                preamble: ids.preamble(DIRECT_METER, &meter.name),
                spec,
                direct_table_id: bound(ids, &meter.binding),
            });
        } else {
            info.meters.push(config::Meter {
                preamble: ids.preamble(METER, &meter.name),
                spec,
                size: size(meter.size),
                ..Default::default()
            });
        }
    }
    for register in &program.register_arrays {
        info.registers.push(config::Register {
            preamble: ids.preamble(REGISTER, &register.name),
            type_spec: Some(data(register.bitwidth)),
            size: register.size as i32,
            ..Default::default()
        });
    }
    for set in &program.parse_vsets {
        info.value_sets.push(config::ValueSet {
            preamble: ids.preamble(VALUE_SET, &set.name),
            r#match: vec![field(1, "value", set.compressed_bitwidth, MatchType::Exact)],
            size: set.max_size.unwrap_or(0) as i32,
        });
    }
}

fn data(bits: u32) -> config::P4DataTypeSpec {
    use config::p4_bitstring_like_type_spec::TypeSpec;
    let bits = config::P4BitTypeSpec { bitwidth: bits as i32 };
    config::P4DataTypeSpec {
        type_spec: Some(config::p4_data_type_spec::TypeSpec::Bitstring(
            config::P4BitstringLikeTypeSpec {
                type_spec: Some(TypeSpec::Bit(bits)),
                ..Default::default()
            },
        )),
    }
}

fn field(id: u32, name: &str, bits: u32, kind: MatchType) -> config::MatchField {
    use config::match_field::{Match, MatchType as Wire};
    let kind = match kind {
        MatchType::Exact | MatchType::Valid => Wire::Exact,
        MatchType::Lpm => Wire::Lpm,
        MatchType::Ternary => Wire::Ternary,
        MatchType::Range => Wire::Range,
    };
    config::MatchField {
        id,
        name: name.to_owned(),
        bitwidth: bits as i32,
        r#match: Some(Match::MatchType(kind.into())),
        ..Default::default()
    }
}

fn table(
    program: &Program,
    ids: &Ids,
    widths: &FieldWidths<'_>,
    table: &Table,
    preamble: Option<config::Preamble>,
) -> config::Table {
    let fields = (1..).zip(&table.key).map(|(id, key)| {
        let (name, bits) = match &key.target {
            KeyTarget::Field(f) => (format!("{}.{}", f.0, f.1), widths.of(&f.0, &f.1).unwrap_or(0)),
            KeyTarget::Header(header) => (format!("{header}.$valid$"), 1),
            KeyTarget::Expression(value) => (format!("key{id}"), element_width(program, value).unwrap_or(0)),
        };
        field(id, key.name.as_deref().unwrap_or(&name), bits, key.match_type)
    });
    let name_of = |id: u32| {
        program
            .actions
            .iter()
            .find(|a| a.id == id)
            .map_or("", |a| a.name.as_str())
    };
    let action = |name: &String| config::ActionRef {
        id: ids.get(ACTION, name),
        ..Default::default()
    };
    let default = table.default_entry.as_ref();
    let constant = default.filter(|d| d.action_const);
    let direct = |prefix, found: Option<&str>| found.map(|name| ids.get(prefix, name));
    let counter = program
        .counter_arrays
        .iter()
        .find(|c| c.is_direct && c.binding.as_ref() == Some(&table.name));
    let meter = direct(DIRECT_METER, table.direct_meters.as_deref());
    let direct_resource_ids = direct(DIRECT_COUNTER, counter.map(|c| c.name.as_str()))
        .into_iter()
        .chain(meter);
    let notify = config::table::IdleTimeoutBehavior::NotifyControl;
    let profile = table.action_profile.as_deref();
    config::Table {
        preamble,
        match_fields: fields.collect(),
        action_refs: table.actions.iter().map(action).collect(),
        const_default_action_id: constant.map_or(0, |d| ids.get(ACTION, name_of(d.action_id))),
        implementation_id: profile.map_or(0, |name| ids.get(ACTION_PROFILE, name)),
        direct_resource_ids: direct_resource_ids.collect(),
        size: size(table.max_size),
        idle_timeout_behavior: if table.support_timeout { notify.into() } else { 0 },
        is_const_table: table.entries.as_ref().is_some_and(|e| !e.is_empty()),
        ..Default::default()
    }
}

fn controller_header(program: &Program, ids: &mut Ids, name: &str) -> Option<config::ControllerPacketMetadata> {
    let header = program.headers.iter().find(|h| h.name == name)?;
    let kind = program.header_types.iter().find(|t| t.name == header.header_type)?;
    let field = |(id, field): (u32, &bmv2_json::FieldDecl)| {
        let FieldWidth::Bits(bits) = field.width else {
            return None;
        };
        Some(config::controller_packet_metadata::Metadata {
            id,
            name: field.name.clone(),
            bitwidth: bits as i32,
            ..Default::default()
        })
    };
    // Compilers hash the name of the type to get this id.
    let preamble = ids.preamble(CONTROLLER_HEADER, &header.header_type);
    Some(config::ControllerPacketMetadata {
        preamble: preamble.map(|p| config::Preamble {
            name: name.to_owned(),
            alias: name.to_owned(),
            ..p
        }),
        metadata: (1..).zip(&kind.fields).filter_map(field).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::p4runtime::bind::bind;
    use crate::p4runtime::info::Info;
    use prost::Message as _;
    use std::collections::BTreeMap;

    #[test]
    fn objects_without_an_id_of_their_own_have_those_of_the_compiler() {
        let json = include_bytes!("../../tests/data/entities.json");
        let program = Program::from_slice(json).unwrap();
        let given = config::P4Info::decode(&include_bytes!("../../tests/data/entities.p4info.bin")[..]).unwrap();
        let derived = p4info(&program);
        let names = |info: &config::P4Info| {
            let mut names = BTreeMap::new();
            let mut note = |p: &Option<config::Preamble>| {
                let p = p.clone().unwrap_or_default();
                names.insert(p.name, p.id);
            };
            info.tables.iter().for_each(|o| note(&o.preamble));
            info.actions.iter().for_each(|o| note(&o.preamble));
            info.action_profiles.iter().for_each(|o| note(&o.preamble));
            info.counters.iter().for_each(|o| note(&o.preamble));
            info.direct_counters.iter().for_each(|o| note(&o.preamble));
            info.meters.iter().for_each(|o| note(&o.preamble));
            info.direct_meters.iter().for_each(|o| note(&o.preamble));
            info.registers.iter().for_each(|o| note(&o.preamble));
            info.digests.iter().for_each(|o| note(&o.preamble));
            info.value_sets.iter().for_each(|o| note(&o.preamble));
            info.controller_packet_metadata.iter().for_each(|o| note(&o.preamble));
            names
        };
        assert_eq!(names(&derived), names(&given));
        let keys = |info: &config::P4Info| {
            let of = |t: &config::Table| {
                // In the derived P4Info, constant tables are as large as necessary; in the compiler's, they have the
                // default size.
                let size = if t.is_const_table { 0 } else { t.size };
                let name = t.preamble.clone().unwrap_or_default().name;
                let fields: Vec<_> = t
                    .match_fields
                    .iter()
                    .map(|f| (f.id, f.name.clone(), f.bitwidth))
                    .collect();
                (name, (fields, size, t.implementation_id, t.direct_resource_ids.clone()))
            };
            info.tables.iter().map(of).collect::<BTreeMap<_, _>>()
        };
        assert_eq!(keys(&derived), keys(&given));
        let mut info = Info::new(&derived).unwrap();
        bind(&mut info, &program).unwrap();
    }
}
