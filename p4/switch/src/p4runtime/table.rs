//! Table entries, default entries and their direct counters and meters (specification, section 9.1).

// Deprecated fields are still read and echoed, for older clients.
#![allow(deprecated)]

use std::sync::Arc;

use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::table_action::Type as Wire;
use p4runtime_proto::p4::v1::update::Type;

use super::action::{self, Use};
use super::array::{colours_to_wire, meter_config, meter_to_wire, to_colours, to_counter, to_wire as counter_to_wire};
use super::error::EntityError;
use super::info::{Info, Table as TableInfo};
use super::key;
use super::profile::{one_shot_to_wire, pack_one_shot};
use super::state::{DefaultEntry, Entry, EntryAction, Extras, State};
use super::target::{Op, Owner, Target};
use super::write::{Transaction, Undo};

/// The table that an entry names.
pub(super) fn table_index(info: &Info, id: u32) -> Result<usize, EntityError> {
    info.table_index(id)
        .ok_or_else(|| EntityError::invalid(format!("table {id:#x} does not exist")))
}

/// Packs match fields and priority into an entry's key.
pub(super) fn pack_key(state: &mut State, index: usize, entry: &v1::TableEntry) -> Result<Vec<u8>, EntityError> {
    let table = &state.info.tables[index];
    match (table.needs_priority, entry.priority) {
        (true, 0) => return Err(EntityError::invalid("this table's entries need a priority")),
        (_, priority) if priority < 0 => {
            return Err(EntityError::invalid(format!("priority {priority} is negative")));
        }
        (false, priority) if priority != 0 => {
            return Err(EntityError::invalid("this table's entries take no priority"));
        }
        _ => {}
    }
    let len = table.fields.iter().map(key::packed_len).sum::<usize>() + 4;
    let mut packed = Vec::with_capacity(len);
    key::pack(&table.fields, &entry.r#match, &mut state.translator, &mut packed)?;
    packed.extend_from_slice(&entry.priority.to_be_bytes());
    Ok(packed)
}

/// Carries out an update of a table entry.
pub(super) fn write(transaction: &mut Transaction<'_>, kind: Type, wire: &v1::TableEntry) -> Result<(), EntityError> {
    let info = transaction.state.info.clone();
    let index = table_index(&info, wire.table_id)?;
    let table = &info.tables[index];
    let result = if wire.is_const {
        Err(EntityError::invalid("is_const must be false in updates"))
    } else if wire.is_default_action {
        write_default(transaction, kind, index, wire)
    } else {
        match kind {
            Type::Insert => insert(transaction, index, wire),
            Type::Modify => modify(transaction, index, wire),
            _ => delete(transaction, index, wire),
        }
    };
    result.map_err(|error| error.at(&format!("table {:?}", table.name)))
}

fn insert(transaction: &mut Transaction<'_>, index: usize, wire: &v1::TableEntry) -> Result<(), EntityError> {
    let info = transaction.state.info.clone();
    let table = &info.tables[index];
    if table.is_const {
        return Err(EntityError::denied("the table's entries are constant"));
    }
    if table.fields.is_empty() {
        return Err(EntityError::invalid("a table without a key holds no entries"));
    }
    let key = pack_key(transaction.state, index, wire)?;
    let extras = extras(table, wire, transaction.is_inherited)?;
    let action = wire
        .action
        .as_ref()
        .ok_or_else(|| EntityError::invalid("an inserted entry needs an action"))?;
    let state = &mut *transaction.state;
    if state.tables[index].get(&key).is_some() {
        return Err(EntityError::exists("the entry exists already"));
    }
    if table.size > 0 && state.tables[index].len() >= table.size {
        return Err(EntityError::exhausted(format!(
            "the table is full: {} entries",
            table.size
        )));
    }
    let action = pack_action(transaction, table, action, None)?;
    let state = &mut *transaction.state;
    let id = state.tables[index].allocate_id();
    let entry = Arc::new(Entry {
        key: key.into_boxed_slice(),
        id,
        is_const: false,
        action,
        extras,
    });
    state.put_entry(index, None, Some(&entry));
    transaction.remember(|_| Undo::Entry {
        table: index,
        old: None,
        new: Some(entry.clone()),
    });
    transaction.ops.push(Op::Insert {
        table: index,
        entry: entry.clone(),
    });
    push_direct(transaction, index, Owner::Entry(entry), wire, None);
    Ok(())
}

fn modify(transaction: &mut Transaction<'_>, index: usize, wire: &v1::TableEntry) -> Result<(), EntityError> {
    let info = transaction.state.info.clone();
    let table = &info.tables[index];
    let old = find(transaction.state, index, wire)?;
    let extras = extras(table, wire, transaction.is_inherited)?;
    let action = match &wire.action {
        Some(_) if table.is_const || old.is_const => {
            return Err(EntityError::denied("the entry is constant: its action cannot be set"));
        }
        Some(action) => pack_action(transaction, table, action, Some(&old))?,
        None => old.action.clone(),
    };
    let entry = Arc::new(Entry {
        key: old.key.clone(),
        id: old.id,
        is_const: old.is_const,
        action,
        extras,
    });
    if entry != old {
        transaction.state.put_entry(index, Some(&old), Some(&entry));
        transaction.remember(|_| Undo::Entry {
            table: index,
            old: Some(old.clone()),
            new: Some(entry.clone()),
        });
        transaction.ops.push(Op::Modify {
            table: index,
            entry: entry.clone(),
        });
    }
    let old_meter = old.extras.as_ref().and_then(|extras| extras.meter);
    push_direct(transaction, index, Owner::Entry(entry), wire, old_meter);
    Ok(())
}

fn delete(transaction: &mut Transaction<'_>, index: usize, wire: &v1::TableEntry) -> Result<(), EntityError> {
    if transaction.state.info.tables[index].is_const {
        return Err(EntityError::denied("the table's entries are constant"));
    }
    let old = find(transaction.state, index, wire)?;
    if old.is_const {
        return Err(EntityError::denied("the entry is constant"));
    }
    transaction.state.put_entry(index, Some(&old), None);
    transaction.remember(|_| Undo::Entry {
        table: index,
        old: Some(old.clone()),
        new: None,
    });
    transaction.ops.push(Op::Delete {
        table: index,
        entry: old,
    });
    Ok(())
}

/// The entry with this message's key.
pub(super) fn find(state: &mut State, index: usize, wire: &v1::TableEntry) -> Result<Arc<Entry>, EntityError> {
    let key = pack_key(state, index, wire)?;
    let found = state.tables[index].get(&key).cloned();
    found.ok_or_else(|| EntityError::not_found("the entry does not exist"))
}

fn write_default(
    transaction: &mut Transaction<'_>,
    kind: Type,
    index: usize,
    wire: &v1::TableEntry,
) -> Result<(), EntityError> {
    let info = transaction.state.info.clone();
    let table = &info.tables[index];
    if kind != Type::Modify {
        return Err(EntityError::invalid("a default entry can only be modified"));
    }
    check_default_key(wire)?;
    let extras = extras(table, wire, transaction.is_inherited)?
        .map(|extras| *extras)
        .unwrap_or_default();
    let old = transaction.state.tables[index].default.clone();
    let call = match &wire.action {
        None if table.const_default => old.call.clone(),
        None => None,
        Some(_) if table.const_default => {
            return Err(EntityError::denied("the default action is constant"));
        }
        Some(_) if table.implementation.is_some() => {
            return Err(EntityError::denied(
                "the default action of an indirect table is constant",
            ));
        }
        Some(v1::TableAction {
            r#type: Some(Wire::Action(action)),
        }) => {
            let translator = &mut transaction.state.translator;
            Some(action::pack(&info, table, action, Use::Default, translator)?)
        }
        Some(_) => return Err(EntityError::invalid("the default action must be an action")),
    };
    let new = match wire.action {
        // Without an action the entry goes back to what the program says, cookies and all.
        None => DefaultEntry {
            call,
            extras: Extras {
                meter: extras.meter,
                ..Extras::default()
            },
        },
        Some(_) => DefaultEntry { call, extras },
    };
    if new.call != old.call {
        transaction.ops.push(Op::Default {
            table: index,
            call: new.call.clone(),
        });
    }
    let old_meter = old.extras.meter;
    transaction.state.tables[index].default = new;
    transaction.remember(|_| Undo::Default { table: index, old });
    push_direct(transaction, index, Owner::Default, wire, old_meter);
    Ok(())
}

/// Section 9.1.3: a default entry has no match fields and no priority.
fn check_default_key(wire: &v1::TableEntry) -> Result<(), EntityError> {
    if !wire.r#match.is_empty() || wire.priority != 0 {
        return Err(EntityError::invalid(
            "a default entry has neither match fields nor priority",
        ));
    }
    if wire.idle_timeout_ns != 0 || wire.time_since_last_hit.is_some() {
        return Err(EntityError::invalid("a default entry does not time out"));
    }
    Ok(())
}

/// Checks and collects cookies, ageing and meter configuration.
fn extras(table: &TableInfo, wire: &v1::TableEntry, is_inherited: bool) -> Result<Option<Box<Extras>>, EntityError> {
    if wire.time_since_last_hit.is_some() {
        return Err(EntityError::invalid("time_since_last_hit cannot be written"));
    }
    if wire.idle_timeout_ns < 0 {
        return Err(EntityError::invalid("idle_timeout_ns is negative"));
    }
    if wire.idle_timeout_ns > 0 && !table.idle_timeout {
        return Err(EntityError::invalid("the table's entries do not time out"));
    }
    if wire.meter_counter_data.is_some() && table.direct_meter.is_none() {
        return Err(EntityError::invalid("the table has no direct meter"));
    }
    if let Some(data) = &wire.meter_counter_data {
        to_colours(data, is_inherited)?;
    }
    if wire.counter_data.is_some() && table.direct_counter.is_none() {
        return Err(EntityError::invalid("the table has no direct counter"));
    }
    if let Some(data) = &wire.counter_data {
        to_counter(data)?;
    }
    let meter = match (&wire.meter_config, table.direct_meter) {
        (None, _) => None,
        (Some(_), None) => return Err(EntityError::invalid("the table has no direct meter")),
        (Some(config), Some(id)) => Some((config, id)),
    };
    let meter = meter.map(|(config, _)| meter_config(config, None)).transpose()?;
    let extras = Extras {
        controller_metadata: wire.controller_metadata,
        metadata: wire.metadata.clone(),
        idle_timeout_ns: wire.idle_timeout_ns,
        meter,
    };
    Ok((extras != Extras::default()).then(|| Box::new(extras)))
}

/// Queues what an update says about direct counter and meter (section 9.1.7).
fn push_direct(
    transaction: &mut Transaction<'_>,
    index: usize,
    owner: Owner,
    wire: &v1::TableEntry,
    old_meter: Option<super::state::MeterConfig>,
) {
    if let Some(data) = &wire.counter_data
        && let Ok(value) = to_counter(data)
    {
        transaction.ops.push(Op::DirectCounter {
            table: index,
            owner: owner.clone(),
            value,
        });
    }
    let colours_of = owner.clone();
    let config = match &owner {
        Owner::Entry(entry) => entry.extras.as_ref().and_then(|extras| extras.meter),
        Owner::Default => transaction.state.tables[index].default.extras.meter,
    };
    if config != old_meter {
        transaction.ops.push(Op::DirectMeter {
            table: index,
            owner,
            config,
        });
    }
    push_colours(transaction, (index, colours_of), wire.meter_counter_data.as_ref());
}

/// Queues what an update says about a direct meter's counters by colour, which was found right before.
fn push_colours(
    transaction: &mut Transaction<'_>,
    (table, owner): (usize, Owner),
    wire: Option<&v1::MeterCounterData>,
) {
    if let Some(data) = wire
        && let Ok(value) = to_colours(data, transaction.is_inherited)
    {
        transaction.ops.push(Op::DirectMeterColours { table, owner, value });
    }
}

/// Checks an entry's action against the table's implementation; `old` is the entry that it replaces.
fn pack_action(
    transaction: &mut Transaction<'_>,
    table: &TableInfo,
    wire: &v1::TableAction,
    old: Option<&Entry>,
) -> Result<EntryAction, EntityError> {
    let info = transaction.state.info.clone();
    let wire = wire
        .r#type
        .as_ref()
        .ok_or_else(|| EntityError::invalid("the action is empty"))?;
    let profile = table.implementation.and_then(|id| info.profile_index(id));
    let Some(profile_index) = profile else {
        return match wire {
            Wire::Action(action) => {
                let translator = &mut transaction.state.translator;
                action::pack(&info, table, action, Use::Entry, translator).map(EntryAction::Call)
            }
            _ => Err(EntityError::invalid("the table is direct: its entries take an action")),
        };
    };
    let profile = &info.profiles[profile_index];
    let state = &transaction.state.profiles[profile_index];
    let mixed = || EntityError::invalid("one-shots and members cannot be mixed in one selector");
    // The entry that is replaced does not count among the one-shots.
    let replaced = usize::from(old.is_some_and(|old| matches!(old.action, EntryAction::OneShot(_))));
    match wire {
        Wire::ActionProfileMemberId(_) | Wire::ActionProfileGroupId(_) if state.one_shots > replaced => Err(mixed()),
        Wire::ActionProfileMemberId(id) => match state.members.get(id) {
            Some(_) => Ok(EntryAction::Member(*id)),
            None => Err(EntityError::not_found(format!("member {id} does not exist"))),
        },
        Wire::ActionProfileGroupId(_) | Wire::ActionProfileActionSet(_) if !profile.with_selector => {
            Err(EntityError::invalid("the table's profile has no groups"))
        }
        Wire::ActionProfileGroupId(id) => match state.groups.get(id) {
            Some(_) => Ok(EntryAction::Group(*id)),
            None => Err(EntityError::not_found(format!("group {id} does not exist"))),
        },
        Wire::ActionProfileActionSet(_) if !state.members.is_empty() || !state.groups.is_empty() => Err(mixed()),
        Wire::ActionProfileActionSet(set) => {
            let freed = match old.map(|old| &old.action) {
                Some(EntryAction::OneShot(old)) => {
                    super::state::one_shot_size(old, transaction.state.by_weight(profile_index))
                }
                _ => 0,
            };
            pack_one_shot(transaction, table, profile_index, set, freed)
        }
        Wire::Action(_) => Err(EntityError::invalid(
            "the table is indirect: its entries take a member, a group or an action set",
        )),
    }
}

/// `DirectCounterEntry` (section 9.3.1).
pub(super) fn write_direct_counter(
    transaction: &mut Transaction<'_>,
    kind: Type,
    wire: &v1::DirectCounterEntry,
) -> Result<(), EntityError> {
    let (index, owner) = direct_owner(transaction, kind, wire.table_entry.as_ref())?;
    if transaction.state.info.tables[index].direct_counter.is_none() {
        return Err(EntityError::invalid("the table has no direct counter"));
    }
    if let Some(data) = &wire.data {
        let value = to_counter(data)?;
        transaction.ops.push(Op::DirectCounter {
            table: index,
            owner,
            value,
        });
    }
    Ok(())
}

/// `DirectMeterEntry` (section 9.4.1): an unset config resets the meter to green.
pub(super) fn write_direct_meter(
    transaction: &mut Transaction<'_>,
    kind: Type,
    wire: &v1::DirectMeterEntry,
) -> Result<(), EntityError> {
    let (index, owner) = direct_owner(transaction, kind, wire.table_entry.as_ref())?;
    let info = transaction.state.info.clone();
    let Some(kind) = info.direct_meter_kind(&info.tables[index]) else {
        return Err(EntityError::invalid("the table has no direct meter"));
    };
    if let Some(data) = &wire.counter_data {
        to_colours(data, transaction.is_inherited)?;
    }
    let config = wire
        .config
        .as_ref()
        .map(|config| meter_config(config, Some(kind)))
        .transpose()?;
    let owner = match owner {
        Owner::Default => {
            let old = transaction.state.tables[index].default.clone();
            transaction.state.tables[index].default.extras.meter = config;
            transaction.remember(|_| Undo::Default { table: index, old });
            Owner::Default
        }
        Owner::Entry(old) => {
            let mut extras = old.extras.clone().unwrap_or_default();
            extras.meter = config;
            let entry = Arc::new(Entry {
                key: old.key.clone(),
                id: old.id,
                is_const: old.is_const,
                action: old.action.clone(),
                extras: (*extras != Extras::default()).then_some(extras),
            });
            transaction.state.put_entry(index, Some(&old), Some(&entry));
            transaction.remember(|_| Undo::Entry {
                table: index,
                old: Some(old),
                new: Some(entry.clone()),
            });
            Owner::Entry(entry)
        }
    };
    transaction.ops.push(Op::DirectMeter {
        table: index,
        owner: owner.clone(),
        config,
    });
    push_colours(transaction, (index, owner), wire.counter_data.as_ref());
    Ok(())
}

fn direct_owner(
    transaction: &mut Transaction<'_>,
    kind: Type,
    wire: Option<&v1::TableEntry>,
) -> Result<(usize, Owner), EntityError> {
    if kind != Type::Modify {
        return Err(EntityError::invalid("a direct resource can only be modified"));
    }
    let wire = wire.ok_or_else(|| EntityError::invalid("the table entry is missing"))?;
    let index = table_index(&transaction.state.info, wire.table_id)?;
    if wire.is_default_action {
        check_default_key(wire)?;
        return Ok((index, Owner::Default));
    }
    Ok((index, Owner::Entry(find(transaction.state, index, wire)?)))
}

/// Which optional parts a read response carries: those that the request has set.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted {
    /// `meter_config`.
    pub meter: bool,
    /// `counter_data`.
    pub counter: bool,
    /// Counters by colour: `meter_counter_data`, or `counter_data` of a direct meter.
    pub colours: bool,
    /// `time_since_last_hit`.
    pub last_hit: bool,
}

impl Wanted {
    /// What a request's table entry asks for.
    pub fn of(wire: &v1::TableEntry) -> Self {
        Self {
            meter: wire.meter_config.is_some(),
            counter: wire.counter_data.is_some(),
            colours: wire.meter_counter_data.is_some(),
            last_hit: wire.time_since_last_hit.is_some(),
        }
    }
}

/// The key fields of an entry as a message.
pub fn key_to_wire(state: &State, index: usize, entry: &Entry) -> v1::TableEntry {
    let table = &state.info.tables[index];
    v1::TableEntry {
        table_id: table.id,
        r#match: key::unpack(&table.fields, entry.packed_match(), &state.translator),
        priority: entry.priority(),
        ..v1::TableEntry::default()
    }
}

/// Adds what a client may recognise an entry by.
pub fn add_cookies(wire: &mut v1::TableEntry, entry: &Entry) {
    if let Some(extras) = &entry.extras {
        wire.controller_metadata = extras.controller_metadata;
        wire.metadata.clone_from(&extras.metadata);
        wire.idle_timeout_ns = extras.idle_timeout_ns;
    }
}

/// An entry as a message.
pub fn to_wire(state: &State, target: &dyn Target, index: usize, entry: &Arc<Entry>, wanted: Wanted) -> v1::TableEntry {
    let table = &state.info.tables[index];
    let mut wire = key_to_wire(state, index, entry);
    wire.is_const = entry.is_const;
    let action = match &entry.action {
        EntryAction::Call(call) => Wire::Action(action::unpack(&state.info, call, &state.translator)),
        EntryAction::Member(id) => Wire::ActionProfileMemberId(*id),
        EntryAction::Group(id) => Wire::ActionProfileGroupId(*id),
        EntryAction::OneShot(set) => Wire::ActionProfileActionSet(one_shot_to_wire(state, set)),
    };
    wire.action = Some(v1::TableAction { r#type: Some(action) });
    add_cookies(&mut wire, entry);
    if wanted.meter {
        wire.meter_config = entry.extras.as_ref().and_then(|extras| extras.meter).map(meter_to_wire);
    }
    if wanted.counter && table.direct_counter.is_some() {
        let value = target.direct_counter(index, &Owner::Entry(entry.clone()));
        wire.counter_data = Some(counter_to_wire(value));
    }
    if wanted.colours && table.direct_meter.is_some() {
        let counts = target.direct_meter_colours(index, &Owner::Entry(entry.clone()));
        wire.meter_counter_data = Some(colours_to_wire(counts));
    }
    if wanted.last_hit && table.idle_timeout {
        let elapsed_ns = i64::try_from(target.since_last_hit_ns(index, entry)).unwrap_or(i64::MAX);
        wire.time_since_last_hit = Some(v1::table_entry::IdleTimeout { elapsed_ns });
    }
    wire
}

/// A default entry as a message.
pub fn default_to_wire(state: &State, target: &dyn Target, index: usize, wanted: Wanted) -> v1::TableEntry {
    let table = &state.info.tables[index];
    let live = &state.tables[index];
    let call = live.default.call.as_ref().or(live.program_default.as_ref());
    let action = call.map(|call| v1::TableAction {
        r#type: Some(Wire::Action(action::unpack(&state.info, call, &state.translator))),
    });
    let extras = &live.default.extras;
    v1::TableEntry {
        table_id: table.id,
        is_default_action: true,
        action,
        controller_metadata: extras.controller_metadata,
        metadata: extras.metadata.clone(),
        meter_config: extras.meter.filter(|_| wanted.meter).map(meter_to_wire),
        counter_data: (wanted.counter && table.direct_counter.is_some())
            .then(|| counter_to_wire(target.direct_counter(index, &Owner::Default))),
        meter_counter_data: (wanted.colours && table.direct_meter.is_some())
            .then(|| colours_to_wire(target.direct_meter_colours(index, &Owner::Default))),
        ..v1::TableEntry::default()
    }
}
