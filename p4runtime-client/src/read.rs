//! Reads: everything a controller reconciles, and counters.
//!
//! Servers differ in what a wildcard covers and some ignore filters. So reads
//! name every table and profile of the P4Info, ask for default actions
//! explicitly, and check the reply against the request.

use std::{collections::HashSet, vec};

use p4runtime_grpc::p4_runtime_client::P4RuntimeClient;
use p4runtime_proto::p4::{
    config::v1::{P4Info, Table},
    v1::{self as p4, entity::Entity as Wire, packet_replication_engine_entry::Type as Replication},
};
use tonic::transport::Channel;

use crate::{
    entity::{ActionCall, CounterValue, Entity, EntityKey, EntityValue, TableAction},
    error::{Error, Result},
    session::{Options, Session, limit},
};

/// Number of entities that are decoded without a pause. This takes a fraction of a millisecond, in which other tasks of
/// the thread wait.
const READ_AT_ONCE: usize = 256;

/// What a switch holds, or a part of it.
#[derive(Debug, Default, Clone)]
pub struct Snapshot {
    /// All entities that this crate can express. Const entries and default actions of the program itself are left out:
    /// nobody wrote them.
    pub entities: Vec<Entity>,
    /// Entities that could not be understood, with the reason; they cannot be reconciled.
    pub foreign: Vec<(p4::Entity, String)>,
}

/// A counter cell that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectCount {
    /// The table entry or default action.
    pub key: EntityKey,
    /// Its counter.
    pub value: CounterValue,
}

/// A read of everything that a controller reconciles, in parts. Other calls of its session can run at the same time. It
/// fails when the session has ended.
#[derive(Debug)]
pub struct Reading {
    client: P4RuntimeClient<Channel>,
    options: Options,
    /// Requests that are still to be sent.
    patterns: vec::IntoIter<Vec<p4::Entity>>,
    /// The rest of the last reply.
    reply: vec::IntoIter<p4::Entity>,
    seen: HashSet<EntityKey>,
}

impl Reading {
    /// Returns the next part of what the switch holds, or none after the last part. `p4info` must be that of
    /// [`Session::reading`].
    ///
    /// # Errors
    /// As for any call. A kind of entity that the switch does not offer counts as empty.
    pub async fn next(&mut self, p4info: &P4Info) -> Result<Option<Snapshot>> {
        while self.reply.len() == 0 {
            let Some(patterns) = self.patterns.next() else {
                return Ok(None);
            };
            match read(&self.client, &self.options, patterns).await {
                Err(error) if not_offered(&error) => {}
                other => self.reply = other?.into_iter(),
            }
        }
        let mut part = Snapshot::default();
        for wire in self.reply.by_ref().take(READ_AT_ONCE) {
            match Entity::from_proto(&wire) {
                Ok(_) if is_const(&wire) => {}
                // Servers that ignore filters return the same entity twice.
                Ok(entity) if initial(&entity, p4info) || !self.seen.insert(entity.key().clone()) => {}
                Ok(entity) => part.entities.push(entity),
                Err(_) if nothing(&wire) => {}
                Err(error) => part.foreign.push((wire, error.to_string())),
            }
        }
        Ok(Some(part))
    }
}

async fn read(
    client: &P4RuntimeClient<Channel>,
    options: &Options,
    patterns: Vec<p4::Entity>,
) -> Result<Vec<p4::Entity>> {
    if patterns.is_empty() {
        return Ok(Vec::new());
    }
    let request = p4::ReadRequest {
        device_id: options.device_id,
        role: options.role.clone(),
        entities: patterns,
    };
    let mut client = client.clone();
    let call = async {
        let mut stream = client.read(request).await?.into_inner();
        let mut entities = Vec::new();
        while let Some(part) = stream.message().await? {
            entities.extend(part.entities);
        }
        Ok(entities)
    };
    limit("read", options.bulk_timeout, call).await
}

impl Session {
    /// Reads patterns (P4Runtime 1.4, section 13); the result is complete.
    ///
    /// # Errors
    /// As for any call.
    pub async fn read(&self, patterns: Vec<p4::Entity>) -> Result<Vec<p4::Entity>> {
        read(&self.client, &self.options, patterns).await
    }

    /// Begins to read every entity that a controller reconciles under the pipeline
    /// `p4info`: entries, changed default actions, members, groups, multicast
    /// groups, clone sessions, digests, value sets, and meters with rates.
    #[must_use]
    pub fn reading(&self, p4info: &P4Info) -> Reading {
        Reading {
            client: self.client.clone(),
            options: self.options.clone(),
            patterns: patterns(p4info).into_iter(),
            reply: Vec::new().into_iter(),
            seen: HashSet::new(),
        }
    }

    /// All parts of [`Session::reading`].
    ///
    /// # Errors
    /// As [`Reading::next`].
    pub async fn read_all(&self, p4info: &P4Info) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        let mut reading = self.reading(p4info);
        while let Some(part) = reading.next(p4info).await? {
            snapshot.entities.extend(part.entities);
            snapshot.foreign.extend(part.foreign);
            tokio::task::yield_now().await;
        }
        Ok(snapshot)
    }

    /// Reads all cells of an indirect counter, as (index, value).
    ///
    /// # Errors
    /// As for any call.
    pub async fn read_counter(&self, counter_id: u32) -> Result<Vec<(u32, CounterValue)>> {
        let pattern = Wire::CounterEntry(p4::CounterEntry {
            counter_id,
            ..Default::default()
        });
        let mut cells = Vec::new();
        for wire in self.read(vec![wrap(pattern)]).await? {
            let (key, value) = Entity::from_proto(&wire)?.into_parts();
            match (key, value) {
                (EntityKey::Counter { counter_id: id, index }, EntityValue::Counter(value)) if id == counter_id => {
                    cells.push((index, value));
                }
                _ => {}
            }
        }
        Ok(cells)
    }

    /// Reads the direct counters of all entries of a table, and of its default
    /// action where the switch counts that.
    ///
    /// # Errors
    /// As for any call.
    pub async fn read_direct_counter(&self, table_id: u32) -> Result<Vec<DirectCount>> {
        let pattern = |is_default_action| {
            wrap(Wire::TableEntry(p4::TableEntry {
                table_id,
                is_default_action,
                counter_data: Some(p4::CounterData::default()),
                ..Default::default()
            }))
        };
        let mut entries = self.read(vec![pattern(false)]).await?;
        // Not every switch counts misses.
        match self.read(vec![pattern(true)]).await {
            Ok(default) => entries.extend(default),
            Err(error) if not_offered(&error) => {}
            Err(error) => return Err(error),
        }
        let mut counts = Vec::new();
        for wire in entries {
            let Some(Wire::TableEntry(entry)) = &wire.entity else {
                continue;
            };
            let Some(data) = &entry.counter_data else {
                continue;
            };
            let key = if entry.is_default_action {
                EntityKey::DefaultAction {
                    table_id: entry.table_id,
                }
            } else {
                Entity::from_proto(&wire)?.into_parts().0
            };
            if key.table_id() == Some(table_id) {
                let value = CounterValue::from_proto(data);
                counts.push(DirectCount { key, value });
            }
        }
        Ok(counts)
    }

    /// Reads the multicast groups and clone sessions.
    ///
    /// # Errors
    /// As for any call.
    pub async fn read_replication(&self) -> Result<Vec<Entity>> {
        let wires = self.read(replication()).await?;
        wires.iter().map(Entity::from_proto).collect()
    }
}

fn wrap(entity: Wire) -> p4::Entity {
    p4::Entity { entity: Some(entity) }
}

fn replication() -> Vec<p4::Entity> {
    let kinds = [
        Replication::MulticastGroupEntry(p4::MulticastGroupEntry::default()),
        Replication::CloneSessionEntry(p4::CloneSessionEntry::default()),
    ];
    let wrap = |kind| {
        wrap(Wire::PacketReplicationEngineEntry(p4::PacketReplicationEngineEntry {
            r#type: Some(kind),
        }))
    };
    kinds.map(wrap).into()
}

/// One list of patterns per Read. Kinds are read separately, so that a switch that lacks one still returns the others.
fn patterns(p4info: &P4Info) -> Vec<Vec<p4::Entity>> {
    let id = crate::names::id;
    let mut entries = Vec::new();
    let mut defaults = Vec::new();
    for table in &p4info.tables {
        let table_id = id(table.preamble.as_ref());
        let metered = p4info.direct_meters.iter().any(|m| m.direct_table_id == table_id);
        if !table.is_const_table {
            entries.push(wrap(Wire::TableEntry(p4::TableEntry {
                table_id,
                meter_config: metered.then(p4::MeterConfig::default),
                ..Default::default()
            })));
        }
        if table.const_default_action_id == 0 {
            defaults.push(wrap(Wire::TableEntry(p4::TableEntry {
                table_id,
                is_default_action: true,
                ..Default::default()
            })));
        }
    }
    let profiles = || p4info.action_profiles.iter();
    let member = |profile: &p4runtime_proto::p4::config::v1::ActionProfile| {
        wrap(Wire::ActionProfileMember(p4::ActionProfileMember {
            action_profile_id: id(profile.preamble.as_ref()),
            ..Default::default()
        }))
    };
    let group = |profile: &p4runtime_proto::p4::config::v1::ActionProfile| {
        wrap(Wire::ActionProfileGroup(p4::ActionProfileGroup {
            action_profile_id: id(profile.preamble.as_ref()),
            ..Default::default()
        }))
    };
    let digest = |digest: &p4runtime_proto::p4::config::v1::Digest| {
        wrap(Wire::DigestEntry(p4::DigestEntry {
            digest_id: id(digest.preamble.as_ref()),
            ..Default::default()
        }))
    };
    let value_set = |set: &p4runtime_proto::p4::config::v1::ValueSet| {
        wrap(Wire::ValueSetEntry(p4::ValueSetEntry {
            value_set_id: id(set.preamble.as_ref()),
            ..Default::default()
        }))
    };
    let meter = |meter: &p4runtime_proto::p4::config::v1::Meter| {
        wrap(Wire::MeterEntry(p4::MeterEntry {
            meter_id: id(meter.preamble.as_ref()),
            ..Default::default()
        }))
    };
    let mut lists = vec![
        entries,
        profiles().map(member).collect(),
        profiles().filter(|p| p.with_selector).map(group).collect(),
        p4info.digests.iter().map(digest).collect(),
        p4info.value_sets.iter().map(value_set).collect(),
        p4info.meters.iter().map(meter).collect(),
        defaults,
    ];
    lists.extend(replication().into_iter().map(|pattern| vec![pattern]));
    lists
}

/// The switch does not have this kind of entity at all.
fn not_offered(error: &Error) -> bool {
    error.code() == Some(tonic::Code::Unimplemented)
}

fn is_const(wire: &p4::Entity) -> bool {
    matches!(&wire.entity, Some(Wire::TableEntry(entry)) if entry.is_const)
}

/// A reply that means "nothing": a default action without an action.
fn nothing(wire: &p4::Entity) -> bool {
    matches!(&wire.entity, Some(Wire::TableEntry(e)) if e.is_default_action && e.action.is_none())
}

/// Whether nobody wrote the entity: a default action that is the program's own,
/// a meter without rates, an empty value set, a digest that is off.
fn initial(entity: &Entity, p4info: &P4Info) -> bool {
    match (entity.key(), entity.value()) {
        (EntityKey::DefaultAction { table_id }, EntityValue::Table(value)) => {
            let id = |t: &&Table| crate::names::id(t.preamble.as_ref()) == *table_id;
            let Some(table) = p4info.tables.iter().find(id) else {
                return false;
            };
            match &table.initial_default_action {
                Some(call) => {
                    let arguments = call.arguments.iter().map(|a| (a.param_id, &a.value));
                    value.action == TableAction::Call(ActionCall::new(call.action_id, arguments))
                }
                // If a compiler leaves it out, it means NoAction.
                None => matches!(&value.action, TableAction::Call(call)
                    if crate::names::is_no_action(p4info, call.action_id())),
            }
        }
        (_, EntityValue::Meter(rates)) => rates.pir == 0 && rates.cir == 0,
        (_, EntityValue::ValueSet(members)) => members.is_empty(),
        (_, EntityValue::Digest(config)) => {
            config.max_list_size == 0 && config.max_timeout_ns == 0 && config.ack_timeout_ns == 0
        }
        _ => false,
    }
}
