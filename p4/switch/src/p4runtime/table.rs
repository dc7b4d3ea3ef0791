//! Table entries, default entries and their direct counters and meters (specification, section 9.1).

// Deprecated fields are still read and echoed, for older clients.
#![allow(deprecated)]

use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::table_action::Type as Wire;
use p4runtime_proto::p4::v1::update::Type;

use super::action::{self, CallRef, Use};
use super::array::{colours_to_wire, meter_config, meter_to_wire, to_colours, to_counter, to_wire as counter_to_wire};
use super::entries::{Entry, EntryAction};
use super::error::EntityError;
use super::info::{Info, Table as TableInfo};
use super::key;
use super::profile::{one_shot_to_wire, pack_one_shot};
use super::request::{Param, TableAction, TableEntry};
use super::state::{DefaultEntry, EntryChange, Extras, MeterConfig, OneShot, State};
use super::target::{Op, Owner, Target};
use super::write::{Origin, Transaction, Undo};

/// The table that an entry names.
pub(super) fn table_index(info: &Info, id: u32) -> Result<usize, EntityError> {
    info.table_index(id)
        .ok_or_else(|| EntityError::invalid(format!("table {id:#x} does not exist")))
}

/// Packs match fields into `out`.
pub(super) fn pack_match(
    state: &mut State,
    index: usize,
    entry: &TableEntry<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EntityError> {
    out.clear();
    key::pack(
        &state.info.tables[index].fields,
        &entry.matches,
        &mut state.translator,
        out,
    )
}

/// Packs match fields (and priority, if the table has priorities) into `out`: the key of an entry.
fn pack_key(state: &mut State, index: usize, entry: &TableEntry<'_>, out: &mut Vec<u8>) -> Result<(), EntityError> {
    let needs_priority = state.info.tables[index].needs_priority;
    match (needs_priority, entry.priority) {
        (true, 0) => return Err(EntityError::invalid("this table's entries need a priority")),
        (_, priority) if priority < 0 => {
            return Err(EntityError::invalid(format!("priority {priority} is negative")));
        }
        (false, priority) if priority != 0 => {
            return Err(EntityError::invalid("this table's entries take no priority"));
        }
        _ => {}
    }
    pack_match(state, index, entry, out)?;
    if needs_priority {
        out.extend_from_slice(&entry.priority.to_be_bytes());
    }
    Ok(())
}

/// Carries out an update of a table entry.
pub(super) fn write(
    transaction: &mut Transaction<'_>,
    info: &Info,
    kind: Type,
    wire: &TableEntry<'_>,
) -> Result<(), EntityError> {
    let index = table_index(info, wire.table_id)?;
    let table = &info.tables[index];
    let result = if wire.is_const {
        Err(EntityError::invalid("is_const must be false in updates"))
    } else if wire.is_default_action {
        write_default(transaction, info, kind, index, wire)
    } else {
        match kind {
            Type::Insert => insert(transaction, info, index, wire),
            Type::Modify => modify(transaction, info, index, wire),
            _ => delete(transaction, info, index, wire),
        }
    };
    result.map_err(|error| error.at(&format!("table {:?}", table.name)))
}

fn insert(
    transaction: &mut Transaction<'_>,
    info: &Info,
    index: usize,
    wire: &TableEntry<'_>,
) -> Result<(), EntityError> {
    let table = &info.tables[index];
    if table.is_const {
        return Err(EntityError::denied("the table's entries are constant"));
    }
    if table.fields.is_empty() {
        return Err(EntityError::invalid("a table without a key holds no entries"));
    }
    pack_key(transaction.state, index, wire, &mut transaction.key)?;
    let extras = extras(table, wire, transaction.origin)?;
    let action = wire
        .action
        .as_ref()
        .ok_or_else(|| EntityError::invalid("an inserted entry needs an action"))?;
    let entries = &transaction.state.tables[index].entries;
    if entries.find(&transaction.key).is_some() {
        return Err(EntityError::exists("the entry exists already"));
    }
    if table.size > 0 && entries.len() >= table.size {
        return Err(EntityError::exhausted(format!(
            "the table is full: {} entries",
            table.size
        )));
    }
    let meter = extras.as_ref().and_then(|extras| extras.meter);
    let packed = pack_action(transaction, info, table, action, &wire.params, None)?;
    let action = packed.borrowed(&transaction.args);
    let id = transaction
        .state
        .insert_entry(index, &transaction.key, action, false, extras);
    transaction.remember_entry(index, id, EntryChange::Inserted);
    transaction.ops.push(Op::Insert { table: index, id });
    push_direct(transaction, index, Owner::Entry(id), wire, meter, None);
    Ok(())
}

fn modify(
    transaction: &mut Transaction<'_>,
    info: &Info,
    index: usize,
    wire: &TableEntry<'_>,
) -> Result<(), EntityError> {
    let table = &info.tables[index];
    let id = find(transaction.state, index, wire, &mut transaction.key)?;
    let extras = extras(table, wire, transaction.origin)?;
    let old = transaction.state.tables[index].entries.get(id);
    let old = old.ok_or_else(not_found)?;
    let old_meter = old.extras.and_then(|extras| extras.meter);
    let meter = extras.as_ref().and_then(|extras| extras.meter);
    let packed = match &wire.action {
        Some(_) if table.is_const || old.is_const => {
            return Err(EntityError::denied("the entry is constant: its action cannot be set"));
        }
        Some(action) => {
            let replaced = match old.action {
                EntryAction::OneShot(set) => Some(set.clone()),
                _ => None,
            };
            pack_action(transaction, info, table, action, &wire.params, replaced.as_ref())?
        }
        None => Packed::of(old.action, &mut transaction.args),
    };
    let action = packed.borrowed(&transaction.args);
    let entries = &transaction.state.tables[index].entries;
    if !entries.is_same(id, action, extras.as_ref()) {
        let saved = &mut transaction.saved;
        let change = transaction.state.modify_entry(index, id, action, extras, saved);
        transaction.remember_entry(index, id, EntryChange::Modified(change));
        transaction.ops.push(Op::Modify { table: index, id });
    }
    push_direct(transaction, index, Owner::Entry(id), wire, meter, old_meter);
    Ok(())
}

fn delete(
    transaction: &mut Transaction<'_>,
    info: &Info,
    index: usize,
    wire: &TableEntry<'_>,
) -> Result<(), EntityError> {
    if info.tables[index].is_const {
        return Err(EntityError::denied("the table's entries are constant"));
    }
    let id = find(transaction.state, index, wire, &mut transaction.key)?;
    let old = transaction.state.tables[index].entries.get(id);
    if old.is_some_and(|old| old.is_const) {
        return Err(EntityError::denied("the entry is constant"));
    }
    transaction.state.remove_entry(index, id);
    transaction.remember_entry(index, id, EntryChange::Removed);
    transaction.ops.push(Op::Delete { table: index, id });
    Ok(())
}

fn not_found() -> EntityError {
    EntityError::not_found("the entry does not exist")
}

/// The entry with this message's key, which is packed into `key`.
pub(super) fn find(
    state: &mut State,
    index: usize,
    wire: &TableEntry<'_>,
    key: &mut Vec<u8>,
) -> Result<u32, EntityError> {
    pack_key(state, index, wire, key)?;
    state.tables[index].entries.find(key).ok_or_else(not_found)
}

fn write_default(
    transaction: &mut Transaction<'_>,
    info: &Info,
    kind: Type,
    index: usize,
    wire: &TableEntry<'_>,
) -> Result<(), EntityError> {
    let table = &info.tables[index];
    if kind != Type::Modify {
        return Err(EntityError::invalid("a default entry can only be modified"));
    }
    check_default_key(wire)?;
    let extras = extras(table, wire, transaction.origin)?.unwrap_or_default();
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
        Some(TableAction::Action(id)) => {
            let translator = &mut transaction.state.translator;
            Some(action::pack(info, table, *id, &wire.params, Use::Default, translator)?)
        }
        Some(_) => return Err(EntityError::invalid("the default action must be an action")),
    };
    let new = match wire.action {
        // Without an action, the whole entry (including cookies) returns to the program's own.
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
    let (meter, old_meter) = (new.extras.meter, old.extras.meter);
    transaction.state.tables[index].default = new;
    let old = Box::new(old);
    transaction.remember(|_| Undo::Default { table: index, old });
    push_direct(transaction, index, Owner::Default, wire, meter, old_meter);
    Ok(())
}

/// Section 9.1.3: a default entry has no match fields and no priority.
fn check_default_key(wire: &TableEntry<'_>) -> Result<(), EntityError> {
    if !wire.matches.is_empty() || wire.priority != 0 {
        return Err(EntityError::invalid(
            "a default entry has neither match fields nor priority",
        ));
    }
    if wire.idle_timeout_ns != 0 || wire.has_time_since_last_hit {
        return Err(EntityError::invalid("a default entry does not time out"));
    }
    Ok(())
}

/// Checks and collects cookies, ageing and meter configuration.
fn extras(table: &TableInfo, wire: &TableEntry<'_>, origin: Origin) -> Result<Option<Extras>, EntityError> {
    if wire.has_time_since_last_hit {
        return Err(EntityError::invalid("time_since_last_hit cannot be written"));
    }
    if wire.is_plain() {
        return Ok(None);
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
        to_colours(data, origin)?;
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
    let meter = meter
        .map(|(config, _)| meter_config(config, None, origin))
        .transpose()?;
    let extras = Extras {
        controller_metadata: wire.controller_metadata,
        metadata: wire.metadata.to_vec(),
        idle_timeout_ns: wire.idle_timeout_ns,
        meter,
    };
    Ok((extras != Extras::default()).then_some(extras))
}

/// Queues the changes of an update to direct counter and meter (section 9.1.7).
fn push_direct(
    transaction: &mut Transaction<'_>,
    index: usize,
    owner: Owner,
    wire: &TableEntry<'_>,
    config: Option<MeterConfig>,
    old_config: Option<MeterConfig>,
) {
    if let Some(data) = &wire.counter_data
        && let Ok(value) = to_counter(data)
    {
        transaction.ops.push(Op::DirectCounter {
            table: index,
            owner,
            value,
        });
    }
    if config != old_config {
        transaction.ops.push(Op::DirectMeter {
            table: index,
            owner,
            config,
        });
    }
    push_colours(transaction, (index, owner), wire.meter_counter_data.as_ref());
}

/// Queues the changes of an update to a direct meter's counters by colour, which were checked before.
fn push_colours(
    transaction: &mut Transaction<'_>,
    (table, owner): (usize, Owner),
    wire: Option<&v1::MeterCounterData>,
) {
    if let Some(data) = wire
        && let Ok(value) = to_colours(data, transaction.origin)
    {
        transaction.ops.push(Op::DirectMeterColours { table, owner, value });
    }
}

/// A checked action; the arguments of a call are stored separately.
enum Packed {
    Call(u32),
    Member(u32),
    Group(u32),
    OneShot(OneShot),
}

impl Packed {
    /// The action of an entry, its arguments copied to `args`.
    fn of(action: EntryAction<'_>, args: &mut Vec<u8>) -> Self {
        match action {
            EntryAction::Call(call) => {
                args.clear();
                args.extend_from_slice(call.args);
                Self::Call(call.action)
            }
            EntryAction::Member(id) => Self::Member(id),
            EntryAction::Group(id) => Self::Group(id),
            EntryAction::OneShot(set) => Self::OneShot(set.clone()),
        }
    }

    fn borrowed<'a>(&'a self, args: &'a [u8]) -> EntryAction<'a> {
        match self {
            Self::Call(action) => EntryAction::Call(CallRef { action: *action, args }),
            Self::Member(id) => EntryAction::Member(*id),
            Self::Group(id) => EntryAction::Group(*id),
            Self::OneShot(set) => EntryAction::OneShot(set),
        }
    }
}

/// Checks an entry's action against the table's implementation; `old` is the one-shot of the entry that it replaces.
fn pack_action(
    transaction: &mut Transaction<'_>,
    info: &Info,
    table: &TableInfo,
    wire: &TableAction<'_>,
    params: &[Param<'_>],
    old: Option<&OneShot>,
) -> Result<Packed, EntityError> {
    if *wire == TableAction::Empty {
        return Err(EntityError::invalid("the action is empty"));
    }
    let profile = table.implementation.and_then(|id| info.profile_index(id));
    let Some(profile_index) = profile else {
        return match wire {
            TableAction::Action(id) => {
                transaction.args.clear();
                let translator = &mut transaction.state.translator;
                action::pack_entry(info, table, *id, params, translator, &mut transaction.args)?;
                Ok(Packed::Call(*id))
            }
            _ => Err(EntityError::invalid("the table is direct: its entries take an action")),
        };
    };
    let profile = &info.profiles[profile_index];
    let state = &transaction.state.profiles[profile_index];
    let mixed = || EntityError::invalid("one-shots and members cannot be mixed in one selector");
    // The entry that is replaced does not count among the one-shots.
    let replaced = usize::from(old.is_some());
    match wire {
        TableAction::Member(_) | TableAction::Group(_) if state.one_shots > replaced => Err(mixed()),
        TableAction::Member(id) => match state.members.get(id) {
            Some(_) => Ok(Packed::Member(*id)),
            None => Err(EntityError::not_found(format!("member {id} does not exist"))),
        },
        TableAction::Group(_) | TableAction::Set(_) if !profile.with_selector => {
            Err(EntityError::invalid("the table's profile has no groups"))
        }
        TableAction::Group(id) => match state.groups.get(id) {
            Some(_) => Ok(Packed::Group(*id)),
            None => Err(EntityError::not_found(format!("group {id} does not exist"))),
        },
        TableAction::Set(_) if !state.members.is_empty() || !state.groups.is_empty() => Err(mixed()),
        TableAction::Set(set) => {
            let by_weight = transaction.state.by_weight(profile_index);
            let freed = old.map_or(0, |old| super::state::one_shot_size(old, by_weight));
            pack_one_shot(transaction, table, profile_index, set, freed).map(Packed::OneShot)
        }
        TableAction::Action(_) | TableAction::Empty => Err(EntityError::invalid(
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
        to_colours(data, transaction.origin)?;
    }
    let config = wire
        .config
        .as_ref()
        .map(|config| meter_config(config, Some(kind), transaction.origin))
        .transpose()?;
    match owner {
        Owner::Default => {
            let old = Box::new(transaction.state.tables[index].default.clone());
            transaction.state.tables[index].default.extras.meter = config;
            transaction.remember(|_| Undo::Default { table: index, old });
        }
        Owner::Entry(id) => {
            let old = transaction.state.tables[index].entries.get(id);
            let old = old.ok_or_else(not_found)?;
            let mut extras = old.extras.cloned().unwrap_or_default();
            extras.meter = config;
            let extras = (extras != Extras::default()).then_some(extras);
            let packed = Packed::of(old.action, &mut transaction.args);
            let action = packed.borrowed(&transaction.args);
            let saved = &mut transaction.saved;
            let change = transaction.state.modify_entry(index, id, action, extras, saved);
            transaction.remember_entry(index, id, EntryChange::Modified(change));
        }
    }
    transaction.ops.push(Op::DirectMeter {
        table: index,
        owner,
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
    let wire = TableEntry::of(wire);
    let index = table_index(&transaction.state.info, wire.table_id)?;
    if wire.is_default_action {
        check_default_key(&wire)?;
        return Ok((index, Owner::Default));
    }
    let id = find(transaction.state, index, &wire, &mut transaction.key)?;
    Ok((index, Owner::Entry(id)))
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
    /// The optional parts that a request's table entry asks for.
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
pub fn key_to_wire(state: &State, index: usize, entry: &Entry<'_>) -> v1::TableEntry {
    let table = &state.info.tables[index];
    v1::TableEntry {
        table_id: table.id,
        r#match: key::unpack(&table.fields, entry.key, &state.translator),
        priority: entry.priority,
        ..v1::TableEntry::default()
    }
}

/// Adds the cookies by which a client can recognise an entry.
pub fn add_cookies(wire: &mut v1::TableEntry, entry: &Entry<'_>) {
    if let Some(extras) = entry.extras {
        wire.controller_metadata = extras.controller_metadata;
        wire.metadata.clone_from(&extras.metadata);
        wire.idle_timeout_ns = extras.idle_timeout_ns;
    }
}

/// An action as a message; none for one that the P4Info does not name.
fn call_to_wire(state: &State, call: CallRef<'_>) -> Option<Wire> {
    state.info.action(call.action)?;
    Some(Wire::Action(action::unpack(&state.info, call, &state.translator)))
}

/// An entry as a message.
pub fn to_wire(state: &State, target: &dyn Target, index: usize, entry: &Entry<'_>, wanted: Wanted) -> v1::TableEntry {
    let table = &state.info.tables[index];
    let mut wire = key_to_wire(state, index, entry);
    wire.is_const = entry.is_const;
    wire.action = match entry.action {
        EntryAction::Call(call) => call_to_wire(state, call),
        EntryAction::Member(id) => Some(Wire::ActionProfileMemberId(id)),
        EntryAction::Group(id) => Some(Wire::ActionProfileGroupId(id)),
        EntryAction::OneShot(set) => Some(Wire::ActionProfileActionSet(one_shot_to_wire(state, set))),
    }
    .map(|action| v1::TableAction { r#type: Some(action) });
    add_cookies(&mut wire, entry);
    if wanted.meter {
        wire.meter_config = entry.extras.and_then(|extras| extras.meter).map(meter_to_wire);
    }
    if wanted.counter && table.direct_counter.is_some() {
        let value = target.direct_counter(index, Owner::Entry(entry.id));
        wire.counter_data = Some(counter_to_wire(value));
    }
    if wanted.colours && table.direct_meter.is_some() {
        let counts = target.direct_meter_colours(index, Owner::Entry(entry.id));
        wire.meter_counter_data = Some(colours_to_wire(counts));
    }
    if wanted.last_hit && table.idle_timeout {
        let elapsed_ns = i64::try_from(target.since_last_hit_ns(index, entry.id)).unwrap_or(i64::MAX);
        wire.time_since_last_hit = Some(v1::table_entry::IdleTimeout { elapsed_ns });
    }
    wire
}

/// A default entry as a message.
pub fn default_to_wire(state: &State, target: &dyn Target, index: usize, wanted: Wanted) -> v1::TableEntry {
    let table = &state.info.tables[index];
    let live = &state.tables[index];
    let call = live.default.call.as_ref().or(live.program_default.as_ref());
    let action = call.and_then(|call| call_to_wire(state, call.borrowed()));
    let action = action.map(|action| v1::TableAction { r#type: Some(action) });
    let extras = &live.default.extras;
    v1::TableEntry {
        table_id: table.id,
        is_default_action: true,
        action,
        controller_metadata: extras.controller_metadata,
        metadata: extras.metadata.clone(),
        meter_config: extras.meter.filter(|_| wanted.meter).map(meter_to_wire),
        counter_data: (wanted.counter && table.direct_counter.is_some())
            .then(|| counter_to_wire(target.direct_counter(index, Owner::Default))),
        meter_counter_data: (wanted.colours && table.direct_meter.is_some())
            .then(|| colours_to_wire(target.direct_meter_colours(index, Owner::Default))),
        ..v1::TableEntry::default()
    }
}
