//! `Read`: requests are turned into a list of objects to send, and pages are built as the client reads them (section
//! 13).
//!
//! [`plan`] runs while no write can. It fixes the objects to send by taking a reference to each of them.
//! [`Plan::next_page`] then builds one response at a time, so that a million entries never exist as messages at once
//! and a slow client delays no write.

// Deprecated fields are still read and echoed, for older clients.
#![allow(deprecated)]

use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::entity::Entity as Kind;
use p4runtime_proto::p4::v1::packet_replication_engine_entry::Type as Pre;

use super::entries::{Entry, EntryAction, Snapshot};
use super::error::EntityError;
use super::info::Array;
use super::request::TableEntry;
use super::role::RoleConfig;
use super::state::State;
use super::table::{self, Wanted};
use super::target::{Cells, Owner, Target};
use super::{array, digest, pre, profile, value_set};

/// Entities per response: large enough to amortise a message, small enough to stay far below gRPC's default 4 MiB.
pub const PAGE_SIZE: usize = 1000;

/// The rest of one request.
enum Item {
    /// Built already: small things.
    Ready(std::vec::IntoIter<Kind>),
    Entries {
        table: usize,
        entries: Snapshot,
        wanted: Wanted,
        form: Form,
    },
    Counters {
        counter: usize,
        cells: std::ops::Range<usize>,
    },
    Meters {
        meter: usize,
        cells: std::ops::Range<usize>,
        /// Whether counters by colour are asked for.
        colours: bool,
    },
    Registers {
        register: usize,
        cells: std::ops::Range<usize>,
    },
}

/// The kind of entity in which a table entry is sent.
#[derive(Clone, Copy)]
enum Form {
    Entry,
    Counter,
    Meter,
}

/// Everything that a `Read` will send, and the results of its requests.
#[derive(Default)]
pub struct Plan {
    items: std::collections::VecDeque<Item>,
    /// One per request, in order.
    pub results: Vec<Result<(), EntityError>>,
    /// Whether rates of meters keep their fractions, which P4Runtime cannot express.
    has_fine_rates: bool,
}

/// Plans a `Read`.
pub fn plan(state: &mut State, target: &dyn Target, role: Option<&RoleConfig>, requests: &[v1::Entity]) -> Plan {
    let mut plan = Plan::default();
    for request in requests {
        let result = plan.add(state, target, role, request);
        plan.results.push(result);
    }
    plan
}

impl Plan {
    /// Rates of meters keep their fractions ([`array::fine_rate`]): for readers in this process.
    pub(super) fn with_fine_rates(self) -> Self {
        Self {
            has_fine_rates: true,
            ..self
        }
    }

    fn add(
        &mut self,
        state: &mut State,
        target: &dyn Target,
        role: Option<&RoleConfig>,
        request: &v1::Entity,
    ) -> Result<(), EntityError> {
        let request = request
            .entity
            .as_ref()
            .ok_or_else(|| EntityError::invalid("the request has no entity"))?;
        let mut ready = Vec::new();
        match request {
            Kind::TableEntry(entry) => self.add_tables(state, target, entry, Form::Entry, &mut ready)?,
            Kind::DirectCounterEntry(direct) => {
                let entry = direct.table_entry.clone().unwrap_or_default();
                self.add_tables(state, target, &entry, Form::Counter, &mut ready)?;
            }
            Kind::DirectMeterEntry(direct) => {
                let entry = v1::TableEntry {
                    meter_counter_data: direct.counter_data,
                    ..direct.table_entry.clone().unwrap_or_default()
                };
                self.add_tables(state, target, &entry, Form::Meter, &mut ready)?;
            }
            Kind::ActionProfileMember(member) => members(state, member, &mut ready)?,
            Kind::ActionProfileGroup(group) => groups(state, group, &mut ready)?,
            Kind::PacketReplicationEngineEntry(entry) => replication(state, entry, &mut ready)?,
            Kind::CounterEntry(counter) => self.add_counters(state, counter)?,
            Kind::MeterEntry(meter) => self.add_meters(state, meter)?,
            Kind::RegisterEntry(register) => self.add_registers(state, register)?,
            Kind::ValueSetEntry(set) => {
                let one = named(set.value_set_id, |id| value_set::set_index(&state.info, id))?;
                let sets = one.map_or(0..state.info.value_sets.len(), |index| index..index + 1);
                ready.extend(sets.map(|index| Kind::ValueSetEntry(value_set::to_wire(state, index))));
            }
            Kind::DigestEntry(wire) => {
                named(wire.digest_id, |id| digest::digest_index(&state.info, id))?;
                let configs = state
                    .digests
                    .iter()
                    .filter(|(id, _)| wire.digest_id == 0 || wire.digest_id == **id);
                ready.extend(configs.map(|(id, config)| Kind::DigestEntry(digest::config_to_wire(*id, config))));
            }
            // A wildcard over externs that do not exist finds nothing.
            Kind::ExternEntry(entry) if entry.extern_type_id == 0 && entry.extern_id == 0 => {}
            Kind::ExternEntry(_) => return Err(EntityError::unimplemented("this target has no further externs")),
        }
        self.items.push_back(Item::Ready(ready.into_iter()));
        if let Some(role) = role {
            self.retain(state, role);
        }
        Ok(())
    }

    /// Drops entities that the role may not see.
    fn retain(&mut self, state: &State, role: &RoleConfig) {
        let info = &state.info;
        self.items.retain_mut(|item| match item {
            Item::Ready(ready) => {
                let seen: Vec<_> = ready.by_ref().filter(|entity| role.may_read(entity)).collect();
                *ready = seen.into_iter();
                true
            }
            Item::Entries { table, .. } => role.may_observe(info.tables[*table].id),
            Item::Counters { counter, .. } => role.may_observe(info.counters[*counter].id),
            Item::Meters { meter, .. } => role.may_observe(info.meters[*meter].0.id),
            Item::Registers { register, .. } => role.may_observe(info.registers[*register].array.id),
        });
    }

    fn add_tables(
        &mut self,
        state: &mut State,
        target: &dyn Target,
        wire: &v1::TableEntry,
        form: Form,
        ready: &mut Vec<Kind>,
    ) -> Result<(), EntityError> {
        let one = named(wire.table_id, |id| table::table_index(&state.info, id))?;
        if one.is_none() && has_filter(wire) {
            return Err(EntityError::invalid("without a table id no other filter can be used"));
        }
        if let Some(index) = one {
            check_form(state, index, form)?;
            check_read(state, index, wire)?;
        }
        let wanted = Wanted::of(wire);
        let tables = one.map_or(0..state.info.tables.len(), |index| index..index + 1);
        for index in tables {
            if check_form(state, index, form).is_err() {
                continue;
            }
            if wire.is_default_action {
                if let Some(entity) = default_entity(state, target, index, form, wanted) {
                    ready.push(entity);
                }
                continue;
            }
            let entries = select(state, index, wire, form)?;
            self.items.push_back(Item::Entries {
                table: index,
                entries,
                wanted,
                form,
            });
        }
        Ok(())
    }

    fn add_counters(&mut self, state: &State, wire: &v1::CounterEntry) -> Result<(), EntityError> {
        let one = named(wire.counter_id, |id| array::counter_index(&state.info, id))?;
        for counter in one.map_or(0..state.info.counters.len(), |index| index..index + 1) {
            let cells = range(&state.info.counters[counter], one.and(wire.index.as_ref()))?;
            self.items.push_back(Item::Counters { counter, cells });
        }
        Ok(())
    }

    fn add_meters(&mut self, state: &State, wire: &v1::MeterEntry) -> Result<(), EntityError> {
        let one = named(wire.meter_id, |id| array::meter_index(&state.info, id))?;
        for meter in one.map_or(0..state.info.meters.len(), |index| index..index + 1) {
            let cells = range(&state.info.meters[meter].0, one.and(wire.index.as_ref()))?;
            let colours = wire.counter_data.is_some();
            self.items.push_back(Item::Meters { meter, cells, colours });
        }
        Ok(())
    }

    fn add_registers(&mut self, state: &State, wire: &v1::RegisterEntry) -> Result<(), EntityError> {
        let one = named(wire.register_id, |id| array::register_index(&state.info, id))?;
        for register in one.map_or(0..state.info.registers.len(), |index| index..index + 1) {
            let spec = &state.info.registers[register];
            let cells = range(&spec.array, one.and(wire.index.as_ref()))?;
            // Report at once, and not in the middle of the stream, that the cell type cannot be sent.
            match array::register_to_wire(spec, &[0]) {
                Ok(_) => self.items.push_back(Item::Registers { register, cells }),
                Err(error) if one.is_some() => return Err(error),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// The next response, or `None` when all is sent.
    pub fn next_page(&mut self, state: &State, target: &dyn Target) -> Option<v1::ReadResponse> {
        let mut entities = Vec::new();
        while entities.len() < PAGE_SIZE {
            let Some(item) = self.items.front_mut() else { break };
            match item.next(state, target) {
                Some(mut entity) => {
                    if !self.has_fine_rates {
                        array::round_rates(&mut entity);
                    }
                    entities.push(v1::Entity { entity: Some(entity) });
                }
                None => {
                    self.items.pop_front();
                }
            }
        }
        (!entities.is_empty()).then_some(v1::ReadResponse { entities })
    }
}

impl Item {
    fn next(&mut self, state: &State, target: &dyn Target) -> Option<Kind> {
        match self {
            Self::Ready(ready) => ready.next(),
            Self::Entries {
                table,
                entries,
                wanted,
                form,
            } => {
                let entry = entries.take_next()?;
                Some(entity_of(state, target, *table, &entry, *wanted, *form))
            }
            Self::Counters { counter, cells } => {
                let cell = cells.next()?;
                Some(Kind::CounterEntry(v1::CounterEntry {
                    counter_id: state.info.counters[*counter].id,
                    index: Some(v1::Index { index: cell as i64 }),
                    data: Some(array::to_wire(target.counter(*counter, cell))),
                }))
            }
            Self::Meters { meter, cells, colours } => {
                let cell = cells.next()?;
                Some(Kind::MeterEntry(v1::MeterEntry {
                    meter_id: state.info.meters[*meter].0.id,
                    index: Some(v1::Index { index: cell as i64 }),
                    config: state.meters[*meter].get(cell).map(array::meter_to_wire),
                    counter_data: colours.then(|| array::colours_to_wire(target.meter_colours(*meter, cell))),
                }))
            }
            Self::Registers { register, cells } => {
                let cell = cells.next()?;
                let spec = &state.info.registers[*register];
                Some(Kind::RegisterEntry(v1::RegisterEntry {
                    register_id: spec.array.id,
                    index: Some(v1::Index { index: cell as i64 }),
                    data: array::register_to_wire(spec, &target.register(*register, cell)).ok(),
                }))
            }
        }
    }
}

fn entity_of(state: &State, target: &dyn Target, index: usize, entry: &Entry<'_>, wanted: Wanted, form: Form) -> Kind {
    match form {
        Form::Entry => Kind::TableEntry(table::to_wire(state, target, index, entry, wanted)),
        Form::Counter => Kind::DirectCounterEntry(v1::DirectCounterEntry {
            table_entry: Some(table::key_to_wire(state, index, entry)),
            data: Some(array::to_wire(target.direct_counter(index, Owner::Entry(entry.id)))),
        }),
        Form::Meter => Kind::DirectMeterEntry(v1::DirectMeterEntry {
            table_entry: Some(table::key_to_wire(state, index, entry)),
            config: entry.extras.and_then(|extras| extras.meter).map(array::meter_to_wire),
            counter_data: wanted
                .colours
                .then(|| array::colours_to_wire(target.direct_meter_colours(index, Owner::Entry(entry.id)))),
        }),
    }
}

fn default_entity(state: &State, target: &dyn Target, index: usize, form: Form, wanted: Wanted) -> Option<Kind> {
    let key = || v1::TableEntry {
        table_id: state.info.tables[index].id,
        is_default_action: true,
        ..v1::TableEntry::default()
    };
    Some(match form {
        Form::Entry => Kind::TableEntry(table::default_to_wire(state, target, index, wanted)),
        Form::Counter => Kind::DirectCounterEntry(v1::DirectCounterEntry {
            table_entry: Some(key()),
            data: Some(array::to_wire(target.direct_counter(index, Owner::Default))),
        }),
        Form::Meter => Kind::DirectMeterEntry(v1::DirectMeterEntry {
            table_entry: Some(key()),
            config: state.tables[index].default.extras.meter.map(array::meter_to_wire),
            counter_data: wanted
                .colours
                .then(|| array::colours_to_wire(target.direct_meter_colours(index, Owner::Default))),
        }),
    })
}

/// Resolves an id, where 0 is the wildcard.
fn named(id: u32, index: impl FnOnce(u32) -> Result<usize, EntityError>) -> Result<Option<usize>, EntityError> {
    if id == 0 { Ok(None) } else { index(id).map(Some) }
}

fn range(array: &Array, index: Option<&v1::Index>) -> Result<std::ops::Range<usize>, EntityError> {
    Ok(match array::cells(array, index)? {
        Cells::All => 0..array.size,
        Cells::One(cell) => cell..cell + 1,
    })
}

fn has_filter(wire: &v1::TableEntry) -> bool {
    !wire.r#match.is_empty()
        || wire.priority != 0
        || wire.controller_metadata != 0
        || !wire.metadata.is_empty()
        || wire.action.is_some()
}

fn check_form(state: &State, index: usize, form: Form) -> Result<(), EntityError> {
    let table = &state.info.tables[index];
    let missing = match form {
        Form::Counter if table.direct_counter.is_none() => "direct counter",
        Form::Meter if table.direct_meter.is_none() => "direct meter",
        _ => return Ok(()),
    };
    Err(EntityError::invalid(format!("table {:?} has no {missing}", table.name)))
}

fn check_read(state: &State, index: usize, wire: &v1::TableEntry) -> Result<(), EntityError> {
    let table = &state.info.tables[index];
    if wire.is_default_action && (!wire.r#match.is_empty() || wire.priority != 0) {
        return Err(EntityError::invalid(
            "a default entry has neither match fields nor priority",
        ));
    }
    if wire.time_since_last_hit.is_some() && (!table.idle_timeout || wire.is_default_action) {
        return Err(EntityError::invalid(format!(
            "entries of table {:?} do not time out",
            table.name
        )));
    }
    Ok(())
}

/// The entries that a request names. A whole key finds one entry without a walk.
fn select(state: &mut State, index: usize, wire: &v1::TableEntry, form: Form) -> Result<Snapshot, EntityError> {
    let needs_priority = state.info.tables[index].needs_priority;
    let (mut wanted_key, mut key) = (None, Vec::new());
    if !wire.r#match.is_empty() {
        if wire.priority != 0 || !needs_priority {
            let found = table::find(state, index, &TableEntry::of(wire), &mut key);
            let entries = &state.tables[index].entries;
            return match found {
                Ok(id) => {
                    let passes = entries.get(id).is_some_and(|entry| passes(&entry, wire));
                    Ok(entries.snapshot(if passes { vec![id] } else { Vec::new() }))
                }
                // A missing entry is an empty answer for a table entry, but an error for its counter or meter.
                Err(error) if error.code == tonic::Code::NotFound && matches!(form, Form::Entry) => {
                    Ok(Snapshot::default())
                }
                Err(error) => Err(error),
            };
        }
        // Without a priority several entries may have these match fields.
        table::pack_match(state, index, &TableEntry::of(wire), &mut key)?;
        wanted_key = Some(key);
    }
    let entries = &state.tables[index].entries;
    let wanted = entries.iter().filter(|entry| {
        let key = wanted_key.as_ref().is_none_or(|key| entry.key == key.as_slice());
        key && (wire.priority == 0 || entry.priority == wire.priority) && passes(entry, wire)
    });
    let ids = wanted.map(|entry| entry.id).collect();
    Ok(entries.snapshot(ids))
}

/// Filters by cookies and action id (section 9.1.6).
fn passes(entry: &Entry<'_>, wire: &v1::TableEntry) -> bool {
    use v1::table_action::Type;
    let extras = entry.extras;
    let controller_metadata = extras.map_or(0, |extras| extras.controller_metadata);
    let metadata = extras.map_or(&[][..], |extras| extras.metadata.as_slice());
    let action = match wire.action.as_ref().and_then(|action| action.r#type.as_ref()) {
        Some(Type::Action(wanted)) => {
            matches!(entry.action, EntryAction::Call(call) if call.action == wanted.action_id)
        }
        _ => true,
    };
    action
        && (wire.controller_metadata == 0 || wire.controller_metadata == controller_metadata)
        && (wire.metadata.is_empty() || wire.metadata == metadata)
}

fn members(state: &State, wire: &v1::ActionProfileMember, ready: &mut Vec<Kind>) -> Result<(), EntityError> {
    let one = named(wire.action_profile_id, |id| profile::profile_index(&state.info, id))?;
    for index in one.map_or(0..state.info.profiles.len(), |index| index..index + 1) {
        let ids = state.profiles[index]
            .members
            .keys()
            .filter(|id| wire.member_id == 0 || **id == wire.member_id);
        ready.extend(
            ids.filter_map(|id| profile::member_to_wire(state, index, *id))
                .map(Kind::ActionProfileMember),
        );
    }
    Ok(())
}

fn groups(state: &State, wire: &v1::ActionProfileGroup, ready: &mut Vec<Kind>) -> Result<(), EntityError> {
    let one = named(wire.action_profile_id, |id| profile::profile_index(&state.info, id))?;
    for index in one.map_or(0..state.info.profiles.len(), |index| index..index + 1) {
        let ids = state.profiles[index]
            .groups
            .keys()
            .filter(|id| wire.group_id == 0 || **id == wire.group_id);
        ready.extend(
            ids.filter_map(|id| profile::group_to_wire(state, index, *id))
                .map(Kind::ActionProfileGroup),
        );
    }
    Ok(())
}

fn replication(
    state: &State,
    wire: &v1::PacketReplicationEngineEntry,
    ready: &mut Vec<Kind>,
) -> Result<(), EntityError> {
    let wanted = |one: u32, id: u32| one == 0 || one == id;
    match &wire.r#type {
        Some(Pre::MulticastGroupEntry(group)) => {
            let ids = state
                .multicast
                .keys()
                .filter(|id| wanted(group.multicast_group_id, **id));
            ready.extend(
                ids.filter_map(|id| pre::multicast_to_wire(state, *id))
                    .map(Kind::PacketReplicationEngineEntry),
            );
        }
        Some(Pre::CloneSessionEntry(session)) => {
            let ids = state
                .clone_sessions
                .keys()
                .filter(|id| wanted(session.session_id, **id));
            ready.extend(
                ids.filter_map(|id| pre::clone_to_wire(state, *id))
                    .map(Kind::PacketReplicationEngineEntry),
            );
        }
        None => {
            return Err(EntityError::invalid(
                "neither a multicast group nor a clone session is named",
            ));
        }
    }
    Ok(())
}
