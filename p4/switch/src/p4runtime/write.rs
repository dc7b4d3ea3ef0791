//! `Write`: updates checked one by one against the state, then carried out by the target as one list.
//!
//! An update either changes the state and adds its operations, or fails and changes nothing. The target sees the
//! operations of a whole request at once, so every batch is atomic for packets. `ROLLBACK_ON_ERROR` and
//! `DATAPLANE_ATOMIC` only differ from `CONTINUE_ON_ERROR` in that one failure undoes the rest (section 12.2).

use std::sync::Arc;

use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::entity::Entity as Kind;
use p4runtime_proto::p4::v1::update::Type;
use p4runtime_proto::p4::v1::write_request::Atomicity;

use super::action::Call;
use super::error::EntityError;
use super::role::RoleConfig;
use super::state::{CloneSession, DefaultEntry, DigestConfig, Entry, MeterArray, Multicast, Selected, State};
use super::target::{Device, Op, Target};
use super::{array, digest, pre, profile, table, value_set};

/// What to put back when a batch is rolled back.
#[derive(Debug)]
pub(super) enum Undo {
    Entry {
        table: usize,
        old: Option<Arc<Entry>>,
        new: Option<Arc<Entry>>,
    },
    Default {
        table: usize,
        old: DefaultEntry,
    },
    Member {
        profile: usize,
        id: u32,
        old: Option<Call>,
    },
    Group {
        profile: usize,
        id: u32,
        old: Option<(Vec<Selected>, i32)>,
    },
    Multicast {
        id: u32,
        old: Option<Multicast>,
    },
    Clone {
        id: u32,
        old: Option<CloneSession>,
    },
    ValueSet {
        set: usize,
        old: Vec<Box<[u8]>>,
    },
    Meter {
        meter: usize,
        old: MeterArray,
    },
    Digest {
        id: u32,
        old: Option<DigestConfig>,
    },
}

/// Who writes.
#[derive(Clone, Copy)]
pub enum Writer<'a> {
    /// A client, perhaps of a role that restricts it.
    Client(Option<&'a RoleConfig>),
    /// The pipeline that ran before, whose entities are taken over.
    Predecessor,
}

/// One `Write` in progress.
pub struct Transaction<'a> {
    /// The entities.
    pub state: &'a mut State,
    /// For facts about ports.
    pub device: &'a dyn Device,
    /// What the target will be told.
    pub ops: Vec<Op>,
    /// Whether the updates are entities of a pipeline that this one follows, and not a client's.
    pub is_inherited: bool,
    undo: Vec<Undo>,
}

impl Transaction<'_> {
    /// Remembers how to undo a change.
    pub(super) fn remember(&mut self, undo: impl FnOnce(&State) -> Undo) {
        let entry = undo(self.state);
        self.undo.push(entry);
    }

    fn roll_back(&mut self) {
        self.ops.clear();
        for undo in std::mem::take(&mut self.undo).into_iter().rev() {
            match undo {
                Undo::Entry { table, old, new } => {
                    self.state.put_entry(table, new.as_ref(), old.as_ref());
                }
                Undo::Default { table, old } => self.state.tables[table].default = old,
                Undo::Member { profile, id, old } => {
                    self.state.put_member(profile, id, old);
                }
                Undo::Group { profile, id, old } => {
                    self.state.put_group(profile, id, old);
                }
                Undo::Multicast { id, old } => put(&mut self.state.multicast, id, old),
                Undo::Clone { id, old } => put(&mut self.state.clone_sessions, id, old),
                Undo::ValueSet { set, old } => self.state.value_sets[set] = old,
                Undo::Meter { meter, old } => self.state.meters[meter] = old,
                Undo::Digest { id, old } => put(&mut self.state.digests, id, old),
            }
        }
        self.state.unsettle();
    }
}

fn put<K: Ord, V>(map: &mut std::collections::BTreeMap<K, V>, key: K, value: Option<V>) {
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
}

/// Carries out a batch of a client, whose role is given, or of entities that are inherited from another pipeline; one
/// result per update, in order.
pub fn write(
    state: &mut State,
    target: &mut dyn Target,
    device: &dyn Device,
    writer: Writer<'_>,
    updates: &[v1::Update],
    atomicity: Atomicity,
) -> Vec<Result<(), EntityError>> {
    state.settle();
    let all_or_none = atomicity != Atomicity::ContinueOnError;
    let mut transaction = Transaction {
        state,
        device,
        ops: Vec::with_capacity(updates.len()),
        is_inherited: matches!(writer, Writer::Predecessor),
        undo: Vec::with_capacity(updates.len()),
    };
    let role = match writer {
        Writer::Client(role) => role,
        Writer::Predecessor => None,
    };
    let mut results: Vec<_> = updates
        .iter()
        .map(|update| write_one(&mut transaction, role, update))
        .collect();
    if all_or_none && results.iter().any(Result::is_err) {
        transaction.roll_back();
        abort(&mut results);
        return results;
    }
    let ops = std::mem::take(&mut transaction.ops);
    if ops.is_empty() {
        return results;
    }
    if let Err(error) = target.apply(ops) {
        // Validation let something through that the target cannot do, or packets stand still.
        tracing::error!(%error, "the target refused a validated batch");
        transaction.roll_back();
        results.fill(Err(error));
    }
    results
}

fn abort(results: &mut [Result<(), EntityError>]) {
    for result in results.iter_mut().filter(|result| result.is_ok()) {
        *result = Err(EntityError::aborted());
    }
}

fn write_one(
    transaction: &mut Transaction<'_>,
    role: Option<&RoleConfig>,
    update: &v1::Update,
) -> Result<(), EntityError> {
    let kind = match Type::try_from(update.r#type) {
        Ok(Type::Unspecified) | Err(_) => {
            return Err(EntityError::invalid(format!(
                "update type {} is not valid",
                update.r#type
            )));
        }
        Ok(kind) => kind,
    };
    let entity = update.entity.as_ref().and_then(|entity| entity.entity.as_ref());
    let entity = entity.ok_or_else(|| EntityError::invalid("the update has no entity"))?;
    if let Some(role) = role {
        role.check_write(entity)?;
    }
    match entity {
        Kind::TableEntry(entry) => table::write(transaction, kind, entry),
        Kind::ActionProfileMember(member) => profile::write_member(transaction, kind, member),
        Kind::ActionProfileGroup(group) => profile::write_group(transaction, kind, group),
        Kind::MeterEntry(meter) => array::write_meter(transaction, kind, meter),
        Kind::DirectMeterEntry(meter) => table::write_direct_meter(transaction, kind, meter),
        Kind::CounterEntry(counter) => array::write_counter(transaction, kind, counter),
        Kind::DirectCounterEntry(counter) => table::write_direct_counter(transaction, kind, counter),
        Kind::RegisterEntry(register) => array::write_register(transaction, kind, register),
        Kind::PacketReplicationEngineEntry(entry) => pre::write(transaction, kind, entry),
        Kind::ValueSetEntry(set) => value_set::write(transaction, kind, set),
        Kind::DigestEntry(config) => digest::write_config(transaction, kind, config),
        Kind::ExternEntry(_) => Err(EntityError::unimplemented("this target has no further externs")),
    }
}
