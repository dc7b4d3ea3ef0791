//! One loaded pipeline: its configuration, entities and target; and how entities move to the next pipeline.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::entity::Entity as Kind;
use p4runtime_proto::p4::v1::update::Type;
use p4runtime_proto::p4::v1::write_request::Atomicity;
use tonic::Code;

use super::entries::EntryAction;
use super::error::EntityError;
use super::info::Info;
use super::state::{State, Timed};
use super::target::{Device, Target};
use super::translation::Translator;
use super::write::{Updates, Writer};
use super::{read, table, write};

/// A pipeline that was verified and can hold entities.
pub struct Pipeline {
    /// The configuration, as the client sent it.
    pub config: v1::ForwardingPipelineConfig,
    /// All entities.
    pub state: State,
    /// The target that executes it.
    pub target: Box<dyn Target>,
    deadlines: BinaryHeap<Reverse<Deadline>>,
}

/// When an entry is next checked for idleness. Ordered only by time.
struct Deadline {
    at_ns: u64,
    of: Timed,
}

impl PartialEq for Deadline {
    fn eq(&self, other: &Self) -> bool {
        self.at_ns == other.at_ns
    }
}

impl Eq for Deadline {}

impl PartialOrd for Deadline {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Deadline {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at_ns.cmp(&other.at_ns)
    }
}

impl Pipeline {
    /// Verifies a configuration and loads it beside the running one.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` if P4Info or device config are missing, contradictory or not executable.
    pub fn load(device: &dyn Device, config: v1::ForwardingPipelineConfig) -> Result<Self, EntityError> {
        let p4info = config
            .p4info
            .as_ref()
            .ok_or_else(|| EntityError::invalid("the config has no P4Info"))?;
        let mut info = Info::new(p4info)?;
        let mut target = device.load(&mut info, &config.p4_device_config)?;
        let translator = Translator::new(device.cpu_port().map(Into::into), device.ports());
        let mut state = State::new(Arc::new(info), translator);
        for index in 0..state.tables.len() {
            state.tables[index].program_default = target.initial_default(index);
            for initial in target.initial_entries(index) {
                let table = &state.info.tables[index];
                let (is_const, mut key) = (initial.is_const || table.is_const, initial.key);
                if table.needs_priority {
                    key.extend_from_slice(&initial.priority.to_be_bytes());
                }
                // If several entries have the same key, the first one counts, as in the program.
                if state.tables[index].entries.find(&key).is_none() {
                    let action = EntryAction::Call(initial.call.borrowed());
                    state.insert_entry(index, &key, action, is_const, None);
                }
            }
            target.adopt(index, &state.tables[index].entries);
        }
        Ok(Self {
            config,
            state,
            target,
            deadlines: BinaryHeap::new(),
        })
    }

    /// Carries the entities of `old` over to this pipeline: every object that both pipelines know under the same id and
    /// name. Counters and registers keep their values.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` naming the first entity of such an object that no longer fits.
    pub fn inherit(&mut self, old: &mut Self, device: &dyn Device) -> Result<(), EntityError> {
        for requests in inheritance_order(&old.state) {
            let mut plan = read::plan(&mut old.state, &*old.target, None, &requests).with_fine_rates();
            while let Some(page) = plan.next_page(&old.state, &*old.target) {
                let entities = page.entities.into_iter().filter_map(|entity| entity.entity);
                let entities: Vec<_> = entities.filter(|entity| self.knows(&old.state.info, entity)).collect();
                self.insert_all(device, entities)?;
            }
        }
        Ok(())
    }

    fn insert_all(&mut self, device: &dyn Device, entities: Vec<Kind>) -> Result<(), EntityError> {
        let update = |kind: Type, entity: Kind| v1::Update {
            r#type: kind.into(),
            entity: Some(v1::Entity { entity: Some(entity) }),
        };
        let updates: Vec<_> = entities
            .into_iter()
            .filter(|entity| !is_programs_own(entity))
            .map(|entity| update(first_try(&entity), entity))
            .collect();
        let results = self.take_over(device, &updates);
        let mut again = Vec::new();
        for (result, failed) in results.into_iter().zip(updates) {
            match result {
                Ok(()) => {}
                // If the new program also has the entry, the running one wins.
                Err(error) if error.code == Code::AlreadyExists => {
                    again.push(v1::Update {
                        r#type: Type::Modify.into(),
                        ..failed
                    });
                }
                Err(error) => return Err(cannot_keep(&error)),
            }
        }
        let results = self.take_over(device, &again);
        results
            .into_iter()
            .find_map(Result::err)
            .map_or(Ok(()), |error| Err(cannot_keep(&error)))
    }

    /// Whether an entity's object exists here under the same name.
    fn knows(&self, old: &Info, entity: &Kind) -> bool {
        let new = &self.state.info;
        let table = |id: u32| match (old.table(id), new.table(id)) {
            (Some(old), Some(new)) => old.name == new.name,
            _ => false,
        };
        let of_entry = |entry: &Option<v1::TableEntry>| entry.as_ref().is_some_and(|entry| table(entry.table_id));
        let same = |id: u32| matches!((old.object_name(id), new.object_name(id)), (Some(old), Some(new)) if old == new);
        match entity {
            Kind::TableEntry(entry) => table(entry.table_id),
            Kind::DirectCounterEntry(direct) => {
                of_entry(&direct.table_entry)
                    && direct
                        .table_entry
                        .as_ref()
                        .and_then(|entry| new.table(entry.table_id))
                        .is_some_and(|t| t.direct_counter.is_some())
            }
            Kind::DirectMeterEntry(direct) => {
                of_entry(&direct.table_entry)
                    && direct
                        .table_entry
                        .as_ref()
                        .and_then(|entry| new.table(entry.table_id))
                        .is_some_and(|t| t.direct_meter.is_some())
            }
            Kind::ActionProfileMember(member) => same(member.action_profile_id),
            Kind::ActionProfileGroup(group) => same(group.action_profile_id),
            Kind::CounterEntry(counter) => same(counter.counter_id) && new.has_cell(counter.counter_id, counter.index),
            Kind::MeterEntry(meter) => same(meter.meter_id) && new.has_cell(meter.meter_id, meter.index),
            Kind::RegisterEntry(register) => {
                same(register.register_id) && new.has_cell(register.register_id, register.index)
            }
            Kind::ValueSetEntry(set) => same(set.value_set_id),
            Kind::DigestEntry(digest) => same(digest.digest_id),
            Kind::PacketReplicationEngineEntry(_) => true,
            Kind::ExternEntry(_) => false,
        }
    }

    fn take_over(&mut self, device: &dyn Device, updates: &[v1::Update]) -> Vec<Result<(), EntityError>> {
        let (state, target) = (&mut self.state, &mut *self.target);
        write::write(
            state,
            target,
            device,
            Writer::Predecessor,
            updates.into(),
            Atomicity::ContinueOnError,
        )
    }

    /// Carries out a batch of updates of a client.
    pub fn write(
        &mut self,
        device: &dyn Device,
        role: Option<&super::role::RoleConfig>,
        updates: &[v1::Update],
        atomicity: Atomicity,
    ) -> Vec<Result<(), EntityError>> {
        self.write_updates(device, Writer::Client(role), updates.into(), atomicity)
    }

    /// As [`Self::write`], for updates in either form and from any writer.
    pub fn write_updates(
        &mut self,
        device: &dyn Device,
        writer: Writer<'_>,
        updates: Updates<'_>,
        atomicity: Atomicity,
    ) -> Vec<Result<(), EntityError>> {
        let (state, target) = (&mut self.state, &mut *self.target);
        write::write(state, target, device, writer, updates, atomicity)
    }

    /// Entries that were idle for their timeout, in the form of notifications. Their clocks restart.
    pub fn expired(&mut self, now_ns: u64) -> Vec<v1::TableEntry> {
        for of in std::mem::take(&mut self.state.fresh_timed) {
            let at_ns = now_ns.saturating_add(of.timeout_ns);
            self.deadlines.push(Reverse(Deadline { at_ns, of }));
        }
        let mut expired = Vec::new();
        while let Some(Reverse(next)) = self.deadlines.peek()
            && next.at_ns <= now_ns
            && let Some(Reverse(mut due)) = self.deadlines.pop()
        {
            let Timed { table, id, .. } = due.of;
            let entries = &self.state.tables[table].entries;
            // A modified entry has a deadline of its own.
            if entries.stamp(id) != Some(due.of.stamp) {
                continue;
            }
            let Some(entry) = entries.get(id) else { continue };
            let timeout_ns = due.of.timeout_ns;
            let idle_ns = self.target.since_last_hit_ns(table, id);
            let wait_ns = if idle_ns >= timeout_ns {
                let mut wire = table::key_to_wire(&self.state, table, &entry);
                table::add_cookies(&mut wire, &entry);
                expired.push(wire);
                timeout_ns
            } else {
                timeout_ns - idle_ns
            };
            due.at_ns = now_ns.saturating_add(wait_ns.max(1));
            self.deadlines.push(Reverse(due));
        }
        expired
    }
}

fn cannot_keep(error: &EntityError) -> EntityError {
    EntityError::invalid(format!("the forwarding state cannot be kept: {}", error.message))
}

/// Entries that no client can write: constant ones, and those with an action that the P4Info does not name.
fn is_programs_own(entity: &Kind) -> bool {
    matches!(entity, Kind::TableEntry(entry) if entry.is_const || entry.action.is_none())
}

/// Objects that always exist can only be modified.
fn first_try(entity: &Kind) -> Type {
    match entity {
        Kind::TableEntry(entry) if entry.is_default_action => Type::Modify,
        Kind::TableEntry(_)
        | Kind::ActionProfileMember(_)
        | Kind::ActionProfileGroup(_)
        | Kind::PacketReplicationEngineEntry(_)
        | Kind::DigestEntry(_) => Type::Insert,
        _ => Type::Modify,
    }
}

/// Wildcard requests for everything, in an order in which objects come before those that refer to them.
fn inheritance_order(old: &State) -> Vec<Vec<v1::Entity>> {
    use v1::packet_replication_engine_entry::Type as Pre;
    let pre = |of| Kind::PacketReplicationEngineEntry(v1::PacketReplicationEngineEntry { r#type: Some(of) });
    let everything = v1::TableEntry {
        meter_config: Some(v1::MeterConfig::default()),
        counter_data: Some(v1::CounterData::default()),
        meter_counter_data: Some(v1::MeterCounterData::default()),
        ..v1::TableEntry::default()
    };
    let meters = v1::MeterEntry {
        counter_data: Some(v1::MeterCounterData::default()),
        ..v1::MeterEntry::default()
    };
    // Default entries that clients set. For others, the new program's apply. Direct resources always exist.
    let set = old.info.tables.iter().zip(&old.tables);
    let set = set.filter(|(_, live)| live.default.call.is_some());
    let default = |table_id| v1::TableEntry {
        table_id,
        is_default_action: true,
        ..v1::TableEntry::default()
    };
    let defaults = set.map(|(table, _)| Kind::TableEntry(default(table.id)));
    let resources = [
        Kind::DirectCounterEntry(v1::DirectCounterEntry {
            table_entry: Some(default(0)),
            data: None,
        }),
        Kind::DirectMeterEntry(v1::DirectMeterEntry {
            table_entry: Some(default(0)),
            counter_data: Some(v1::MeterCounterData::default()),
            config: None,
        }),
    ];
    let kinds = vec![
        Kind::ActionProfileMember(v1::ActionProfileMember::default()),
        Kind::ActionProfileGroup(v1::ActionProfileGroup::default()),
        Kind::TableEntry(everything),
        pre(Pre::MulticastGroupEntry(v1::MulticastGroupEntry::default())),
        pre(Pre::CloneSessionEntry(v1::CloneSessionEntry::default())),
        Kind::ValueSetEntry(v1::ValueSetEntry::default()),
        Kind::DigestEntry(v1::DigestEntry::default()),
        Kind::CounterEntry(v1::CounterEntry::default()),
        Kind::MeterEntry(meters),
        Kind::RegisterEntry(v1::RegisterEntry::default()),
    ];
    kinds
        .into_iter()
        .chain(defaults)
        .chain(resources)
        .map(|kind| vec![v1::Entity { entity: Some(kind) }])
        .collect()
}
