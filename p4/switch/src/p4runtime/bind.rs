//! Binds a P4Info to the BMv2 JSON of the same program: checks that they agree, and finds the widths of translated
//! values on the data plane and the program's own entries and default actions.
//!
//! The JSON may have objects that the P4Info does not name: `@hidden` tables and actions. They also run ([`Unnamed`]).

use bmv2_json::{EntryKey, FieldWidth, HexStr, KeyTarget, MatchType, Program};
use rustc_hash::FxHashMap;

use super::action::Call;
use super::bytestring;
use super::error::EntityError;
use super::info::{Field, Info, MatchKind, Param};
use super::key;
use super::target::InitialEntry;
use super::unnamed::Unnamed;

/// A program, with its own entries and default action for each table of the P4Info.
#[derive(Debug, Clone, Default)]
pub struct Bound {
    /// By table index.
    pub entries: Vec<Vec<InitialEntry>>,
    /// By table index.
    pub defaults: Vec<Option<Call>>,
    /// Bits of a cell, by register index.
    pub register_bits: Vec<usize>,
    /// Actions of the program without a name in the P4Info.
    pub unnamed: Unnamed,
}

/// Checks that every object of the P4Info is in the program, and fills in data plane widths.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the first object that the program does not have or defines differently.
pub fn bind(info: &mut Info, program: &Program) -> Result<Bound, EntityError> {
    let missing = |kind: &str, name: &str| EntityError::invalid(format!("{kind} {name:?} is not in the device config"));
    let widths = Widths::new(program);
    let tables: FxHashMap<&str, &bmv2_json::Table> = program
        .pipelines
        .iter()
        .flat_map(|pipeline| &pipeline.tables)
        .map(|table| (table.name.as_str(), table))
        .collect();
    let actions: FxHashMap<&str, &bmv2_json::Action> = program
        .actions
        .iter()
        .map(|action| (action.name.as_str(), action))
        .collect();
    for action in &mut info.actions {
        // The compiler may have removed actions that no table uses.
        let Some(found) = actions.get(action.name.as_str()) else {
            continue;
        };
        if found.runtime_data.len() != action.params.len() {
            return Err(EntityError::invalid(format!(
                "action {:?} has other parameters in the device config",
                action.name
            )));
        }
        for (param, data) in action.params.iter_mut().zip(&found.runtime_data) {
            set_width(&mut param.value, data.bitwidth as usize, &param.name)?;
        }
    }
    let mut bound = Bound {
        unnamed: Unnamed::new(info, program),
        ..Bound::default()
    };
    for index in 0..info.tables.len() {
        let name = info.tables[index].name.clone();
        let found = tables.get(name.as_str()).ok_or_else(|| missing("table", &name))?;
        let keys: Vec<_> = found.key.iter().collect();
        if keys.len() != info.tables[index].fields.len() {
            return Err(EntityError::invalid(format!(
                "table {name:?} has another key in the device config"
            )));
        }
        for (field, element) in info.tables[index].fields.iter_mut().zip(keys) {
            check_kind(field, element.match_type, &name)?;
            if let Some(width) = widths.of(&element.target) {
                set_width(&mut field.value, width, &field.name)?;
            }
        }
        let source = Source {
            info,
            program,
            unnamed: &bound.unnamed,
        };
        let default = found.default_entry.as_ref();
        let default = default.and_then(|default| source.call(default.action_id, &default.action_data));
        let entries = source.initial_entries(index, found);
        bound.defaults.push(default);
        bound.entries.push(entries);
    }
    let headers = [("packet_in", false), ("packet_out", true)];
    for (name, out) in headers {
        let header = if out { &mut info.packet_out } else { &mut info.packet_in };
        if let Some(params) = header {
            widths.bind_header(program, name, params);
        }
    }
    for register in &info.registers {
        let found = program
            .register_arrays
            .iter()
            .find(|array| array.name == register.array.name);
        let found = found.ok_or_else(|| missing("register", &register.array.name))?;
        bound.register_bits.push(found.bitwidth as usize);
    }
    let counters = |name: &str| program.counter_arrays.iter().any(|array| array.name == name);
    if let Some(counter) = info.counters.iter().find(|counter| !counters(&counter.name)) {
        return Err(missing("counter", &counter.name));
    }
    let meters = |name: &str| program.meter_arrays.iter().any(|array| array.name == name);
    if let Some((meter, _)) = info.meters.iter().find(|(meter, _)| !meters(&meter.name)) {
        return Err(missing("meter", &meter.name));
    }
    Ok(bound)
}

fn set_width(value: &mut super::info::ValueType, width: usize, name: &str) -> Result<(), EntityError> {
    if value.translation.is_none() && value.width != width {
        return Err(EntityError::invalid(format!(
            "{name:?} has {} bits in the P4Info and {width} in the device config",
            value.width
        )));
    }
    value.data_width = width;
    Ok(())
}

fn check_kind(field: &Field, kind: MatchType, table: &str) -> Result<(), EntityError> {
    let fits = match field.kind {
        MatchKind::Exact => matches!(kind, MatchType::Exact | MatchType::Valid),
        MatchKind::Lpm => kind == MatchType::Lpm,
        // The device config writes optional as ternary.
        MatchKind::Ternary | MatchKind::Optional => kind == MatchType::Ternary,
        MatchKind::Range => kind == MatchType::Range,
    };
    match fits {
        true => Ok(()),
        false => Err(EntityError::invalid(format!(
            "table {table:?}: field {:?} is matched as {kind:?} in the device config",
            field.name
        ))),
    }
}

/// Widths of header fields by instance and field name.
struct Widths<'a>(FxHashMap<(&'a str, &'a str), usize>);

impl<'a> Widths<'a> {
    fn new(program: &'a Program) -> Self {
        let types: FxHashMap<&str, &bmv2_json::HeaderType> = program
            .header_types
            .iter()
            .map(|kind| (kind.name.as_str(), kind))
            .collect();
        let headers = program
            .headers
            .iter()
            .map(|header| (header.name.as_str(), header.header_type.as_str()));
        let stacks = program
            .header_stacks
            .iter()
            .map(|stack| (stack.name.as_str(), stack.header_type.as_str()));
        let mut widths = FxHashMap::default();
        for (instance, kind) in headers.chain(stacks) {
            for field in types.get(kind).into_iter().flat_map(|kind| &kind.fields) {
                if let FieldWidth::Bits(bits) = field.width {
                    widths.insert((instance, field.name.as_str()), bits as usize);
                }
            }
        }
        Self(widths)
    }

    fn of(&self, target: &KeyTarget) -> Option<usize> {
        match target {
            KeyTarget::Field(field) => self.0.get(&(field.0.as_str(), field.1.as_str())).copied(),
            KeyTarget::Header(_) => Some(1),
            KeyTarget::Expression(_) => None,
        }
    }

    /// Translated header fields, found in the header whose name or type is that of the controller header.
    fn bind_header(&self, program: &Program, name: &str, params: &mut [Param]) {
        let names_of = |header: &&bmv2_json::Header| {
            header.name == name || header.name.ends_with(name) || header.header_type.starts_with(name)
        };
        let Some(header) = program.headers.iter().find(names_of) else {
            return;
        };
        for param in params.iter_mut().filter(|param| param.value.translation.is_some()) {
            if let Some(width) = self.0.get(&(header.name.as_str(), param.name.as_str())) {
                param.value.data_width = *width;
            }
        }
    }
}

fn pad(value: &HexStr, width: usize) -> Vec<u8> {
    let bytes = value.bytes();
    bytestring::padded(if bytes.is_empty() { &[0] } else { &bytes }, width)
        .unwrap_or_else(|_| vec![0; bytestring::bytes(width)])
}

/// A program whose own entries are converted to the form of P4Runtime.
struct Source<'a> {
    info: &'a Info,
    program: &'a Program,
    unnamed: &'a Unnamed,
}

impl Source<'_> {
    /// An action with arguments.
    fn call(&self, action_id: u32, data: &[HexStr]) -> Option<Call> {
        let name = &self.program.actions.iter().find(|action| action.id == action_id)?.name;
        let named = self.info.actions.iter().find(|action| action.name == *name);
        let action = named.or_else(|| self.unnamed.of_program(action_id))?;
        let args = action
            .params
            .iter()
            .zip(data)
            .flat_map(|(param, value)| pad(value, param.value.data_width));
        Some(Call {
            action: action.id,
            args: args.collect(),
        })
    }

    fn initial_entries(&self, index: usize, table: &bmv2_json::Table) -> Vec<InitialEntry> {
        let Some(of) = self.info.tables.get(index) else {
            return Vec::new();
        };
        let entries = table.entries.as_deref().unwrap_or_default();
        let highest = highest_priority(entries);
        let converted = entries.iter().filter_map(|entry| {
            let mut packed = Vec::new();
            for (field, value) in of.fields.iter().zip(&entry.match_key) {
                pack(field, value, &mut packed);
            }
            let call = self.call(entry.action_entry.action_id, &entry.action_entry.action_data)?;
            let priority = priority(entry, highest);
            Some(InitialEntry {
                key: packed,
                priority: if of.needs_priority { priority } else { 0 },
                call,
                is_const: of.is_const,
            })
        });
        converted.collect()
    }
}

/// The largest priority among entries of the device config.
pub fn highest_priority(entries: &[bmv2_json::Entry]) -> i64 {
    entries.iter().map(|entry| entry.priority).max().unwrap_or(0)
}

/// The P4Runtime priority of an entry of the device config: there the smaller one wins, here the larger.
pub fn priority(entry: &bmv2_json::Entry, highest: i64) -> i32 {
    i32::try_from(highest.saturating_sub(entry.priority).saturating_add(1)).unwrap_or(1)
}

fn pack(field: &Field, value: &EntryKey, out: &mut Vec<u8>) {
    let width = field.value.data_width;
    let start = out.len();
    match value {
        EntryKey::Valid { key } => out.push(u8::from(*key)),
        EntryKey::Exact { key } => out.extend(pad(key, width)),
        EntryKey::Lpm { key, prefix_length } => {
            out.extend(pad(key, width));
            out.extend_from_slice(&(*prefix_length as u16).to_be_bytes());
        }
        EntryKey::Ternary { key, mask } if field.kind == MatchKind::Optional => {
            out.extend(pad(key, width));
            out.push(u8::from(mask.bytes().iter().any(|byte| *byte != 0)));
        }
        EntryKey::Ternary { key, mask } => {
            out.extend(pad(key, width));
            out.extend(pad(mask, width));
        }
        EntryKey::Range { start, end } => {
            out.extend(pad(start, width));
            out.extend(pad(end, width));
        }
    }
    // A key of another kind than the field's would shift all that follow.
    out.resize(start + key::packed_len(field), 0);
}
