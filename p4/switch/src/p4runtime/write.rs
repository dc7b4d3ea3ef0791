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
use super::info::Info;
use super::request::{Decoded, TableEntry};
use super::role::RoleConfig;
use super::state::{CloneSession, DefaultEntry, DigestConfig, EntryChange, MeterArray, Multicast, Selected, State};
use super::target::{Device, Op, Target};
use super::{array, digest, pre, profile, table, value_set};

/// What to restore when a batch is rolled back.
#[derive(Debug)]
pub(super) enum Undo {
    Entry {
        table: usize,
        id: u32,
        change: EntryChange,
    },
    Default {
        table: usize,
        // Boxed like the other large variants, because each update has one of these
        // values.
        old: Box<DefaultEntry>,
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
        old: Option<Box<Multicast>>,
    },
    Clone {
        id: u32,
        old: Option<Box<CloneSession>>,
    },
    ValueSet {
        set: usize,
        old: Vec<Box<[u8]>>,
    },
    Meter {
        meter: usize,
        old: Box<MeterArray>,
    },
    Digest {
        id: u32,
        old: Option<DigestConfig>,
    },
}

/// The author of a write.
#[derive(Clone, Copy)]
pub enum Writer<'a> {
    /// A client, perhaps of a role that restricts it.
    Client(Option<&'a RoleConfig>),
    /// This host's operator, who needs no session.
    Host,
    /// The previous pipeline, whose entities are carried over.
    Predecessor,
}

/// Where the entities of a batch come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A client of P4Runtime.
    Client,
    /// This host's operator.
    Host,
    /// The previous pipeline.
    Predecessor,
}

/// One `Write` in progress.
pub struct Transaction<'a> {
    /// The entities.
    pub state: &'a mut State,
    /// For information about ports.
    pub device: &'a dyn Device,
    /// Operations for the target.
    pub ops: Vec<Op>,
    /// Where the updates come from.
    pub origin: Origin,
    undo: Vec<Undo>,
    /// Rows of entries that were modified.
    pub(super) saved: Vec<u8>,
    /// Key and arguments of the entry that is being packed.
    pub(super) key: Vec<u8>,
    pub(super) args: Vec<u8>,
}

/// The updates of a batch.
#[derive(Debug, Clone, Copy)]
pub enum Updates<'a> {
    /// As messages.
    Messages(&'a [v1::Update]),
    /// As the wire has them.
    Octets(&'a [&'a [u8]]),
}

impl Updates<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Messages(all) => all.len(),
            Self::Octets(all) => all.len(),
        }
    }
}

impl<'a> From<&'a [v1::Update]> for Updates<'a> {
    fn from(messages: &'a [v1::Update]) -> Self {
        Self::Messages(messages)
    }
}

impl Transaction<'_> {
    /// Remembers how to undo a change.
    pub(super) fn remember(&mut self, undo: impl FnOnce(&State) -> Undo) {
        let entry = undo(self.state);
        self.undo.push(entry);
    }

    /// Records the outcome for an entry.
    pub(super) fn remember_entry(&mut self, table: usize, id: u32, change: EntryChange) {
        self.undo.push(Undo::Entry { table, id, change });
    }

    fn roll_back(&mut self) {
        self.ops.clear();
        for undo in std::mem::take(&mut self.undo).into_iter().rev() {
            match undo {
                Undo::Entry { table, id, change } => self.state.undo_entry(table, id, change, &self.saved),
                Undo::Default { table, old } => self.state.tables[table].default = *old,
                Undo::Member { profile, id, old } => {
                    self.state.put_member(profile, id, old);
                }
                Undo::Group { profile, id, old } => {
                    self.state.put_group(profile, id, old);
                }
                Undo::Multicast { id, old } => put(&mut self.state.multicast, id, old.map(|old| *old)),
                Undo::Clone { id, old } => put(&mut self.state.clone_sessions, id, old.map(|old| *old)),
                Undo::ValueSet { set, old } => self.state.value_sets[set] = old,
                Undo::Meter { meter, old } => self.state.meters[meter] = *old,
                Undo::Digest { id, old } => {
                    put(&mut self.state.digests, id, old);
                    self.state.digest_changes += 1;
                }
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

/// Carries out a batch of a client with the given role, or of entities that are carried over from another pipeline; one
/// result per update, in order.
pub fn write(
    state: &mut State,
    target: &mut dyn Target,
    device: &dyn Device,
    writer: Writer<'_>,
    updates: Updates<'_>,
    atomicity: Atomicity,
) -> Vec<Result<(), EntityError>> {
    state.settle();
    let info = Arc::clone(&state.info);
    let info = &*info;
    let all_or_none = atomicity != Atomicity::ContinueOnError;
    let mut transaction = Transaction {
        state,
        device,
        ops: Vec::with_capacity(updates.len()),
        origin: match writer {
            Writer::Client(_) => Origin::Client,
            Writer::Host => Origin::Host,
            Writer::Predecessor => Origin::Predecessor,
        },
        undo: Vec::with_capacity(updates.len()),
        saved: Vec::new(),
        key: Vec::new(),
        args: Vec::new(),
    };
    let role = match writer {
        Writer::Client(role) => role,
        Writer::Host | Writer::Predecessor => None,
    };
    let mut entry = TableEntry::default();
    let mut results: Vec<_> = match updates {
        Updates::Messages(updates) => {
            let each = updates.iter().map(|update| match table_entry(update) {
                Some(message) => {
                    entry.read(message);
                    write_entry(&mut transaction, info, role, update.r#type, &entry)
                }
                None => write_other(&mut transaction, info, role, update),
            });
            each.collect()
        }
        Updates::Octets(updates) => {
            let each = updates.iter().map(|octets| match entry.decode(octets) {
                Ok(Decoded::Entry(kind)) => write_entry(&mut transaction, info, role, kind, &entry),
                Ok(Decoded::Other(update)) => write_other(&mut transaction, info, role, &update),
                Err(error) => Err(EntityError::invalid(format!("the update cannot be decoded: {error}"))),
            });
            each.collect()
        }
    };
    if all_or_none && results.iter().any(Result::is_err) {
        transaction.roll_back();
        abort(&mut results);
        return results;
    }
    let ops = std::mem::take(&mut transaction.ops);
    if ops.is_empty() {
        return results;
    }
    if let Err(error) = target.apply(transaction.state, ops) {
        // Validation accepted something that the target cannot do, or a packet thread is stuck.
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

fn table_entry(update: &v1::Update) -> Option<&v1::TableEntry> {
    match update.entity.as_ref()?.entity.as_ref()? {
        Kind::TableEntry(entry) => Some(entry),
        _ => None,
    }
}

fn kind_of(kind: i32) -> Result<Type, EntityError> {
    match Type::try_from(kind) {
        Ok(Type::Unspecified) | Err(_) => Err(EntityError::invalid(format!("update type {kind} is not valid"))),
        Ok(kind) => Ok(kind),
    }
}

fn write_entry(
    transaction: &mut Transaction<'_>,
    info: &Info,
    role: Option<&RoleConfig>,
    kind: i32,
    entry: &TableEntry<'_>,
) -> Result<(), EntityError> {
    let kind = kind_of(kind)?;
    if let Some(role) = role {
        role.check_table(entry.table_id)?;
    }
    table::write(transaction, info, kind, entry)
}

fn write_other(
    transaction: &mut Transaction<'_>,
    info: &Info,
    role: Option<&RoleConfig>,
    update: &v1::Update,
) -> Result<(), EntityError> {
    let kind = kind_of(update.r#type)?;
    let entity = update.entity.as_ref().and_then(|entity| entity.entity.as_ref());
    let entity = entity.ok_or_else(|| EntityError::invalid("the update has no entity"))?;
    if let Some(role) = role {
        role.check_write(entity)?;
    }
    match entity {
        Kind::TableEntry(entry) => table::write(transaction, info, kind, &TableEntry::of(entry)),
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
