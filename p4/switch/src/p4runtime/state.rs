//! All entities of one pipeline as plain data, each stored under its key.
//!
//! The functions named `put_*` replace one object and return what was there before: applying the returned value again
//! undoes the change. They only update the reference counts of members and groups; the modules of each entity kind have
//! validated the object before. The cost of each is independent of the number of objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use p4_engine::tables::meter::Rate;
use rustc_hash::FxHashMap;

use super::action::{Call, Watch};
use super::entries::{Entries, EntryAction, Saved};
use super::info::Info;
use super::translation::Translator;

/// Meter rates and bursts, in bytes or packets as the meter counts (RFC 2698).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeterConfig {
    /// Committed information rate.
    pub cir: Rate,
    /// Committed burst.
    pub cburst: u64,
    /// Peak information rate.
    pub pir: Rate,
    /// Peak burst.
    pub pburst: u64,
    /// Excess burst (RFC 2697 only).
    pub eburst: u64,
}

/// A one-shot action set (section 9.2.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneShot {
    /// Actions in the order written.
    pub actions: Vec<OneShotAction>,
    /// `action_selection_mode` as written.
    pub selection_mode: i32,
    /// `size_semantics` as written.
    pub size_semantics: i32,
}

/// One action of a one-shot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OneShotAction {
    /// The action.
    pub call: Call,
    /// Its weight; 0 where weights are disallowed.
    pub weight: i32,
    /// The port that keeps it selectable.
    pub watch: Option<Watch>,
}

/// The rarer parts of an entry, allocated only where used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Extras {
    /// Deprecated 64-bit cookie.
    pub controller_metadata: u64,
    /// Opaque cookie.
    pub metadata: Vec<u8>,
    /// 0 never expires.
    pub idle_timeout_ns: i64,
    /// Configuration of the direct meter.
    pub meter: Option<MeterConfig>,
}

/// The parts of a table's default entry that differ from the program's own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DefaultEntry {
    /// The client's default action; `None` is the program's.
    pub call: Option<Call>,
    /// Cookies and metering.
    pub extras: Extras,
}

/// One table.
#[derive(Debug)]
pub struct Table {
    /// Its entries.
    pub entries: Entries,
    /// The default entry.
    pub default: DefaultEntry,
    /// The program's own default action.
    pub program_default: Option<Call>,
}

/// A member of an action profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its action.
    pub call: Call,
    /// Groups and entries that use it.
    pub users: usize,
}

/// A member as a group lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selected {
    /// Member id.
    pub member: u32,
    /// Its weight; 0 where weights are disallowed.
    pub weight: i32,
    /// The port that keeps it selectable.
    pub watch: Option<Watch>,
}

/// A group of an action selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its members in the order written.
    pub members: Vec<Selected>,
    /// As the client gave it.
    pub max_size: i32,
    /// Entries that use it.
    pub users: usize,
}

impl Group {
    /// Size as the selector counts it.
    pub fn size(&self, by_weight: bool) -> i64 {
        match by_weight {
            true => self.members.iter().map(|member| i64::from(member.weight.max(1))).sum(),
            false => self.members.len() as i64,
        }
    }
}

/// One action profile or selector.
#[derive(Debug, Default)]
pub struct Profile {
    /// Members by id.
    pub members: BTreeMap<u32, Member>,
    /// Groups by id.
    pub groups: BTreeMap<u32, Group>,
    /// Entries that are one-shots; manual and one-shot programming exclude each other.
    pub one_shots: usize,
    /// Size over all groups and one-shots, as the selector counts it.
    pub total_size: i64,
}

/// One copy that the replication engine makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Data plane port.
    pub port: u32,
    /// `egress_rid`.
    pub instance: u16,
    /// Ports to use instead, best first, while the ones before are down.
    pub backups: Vec<(u32, u16)>,
    /// Whether the client used the deprecated 32-bit field.
    pub deprecated: bool,
}

/// A multicast group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Multicast {
    /// Its copies.
    pub replicas: Vec<Replica>,
    /// Opaque cookie.
    pub metadata: Vec<u8>,
}

/// A clone session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloneSession {
    /// Its copies.
    pub replicas: Vec<Replica>,
    /// Priority of the copies.
    pub class_of_service: u8,
    /// Copies are cut to this many bytes; 0 leaves them whole.
    pub truncate_bytes: u32,
}

/// How lists of one digest are built (section 9.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigestConfig {
    /// Longest wait of a message in the buffer.
    pub max_timeout_ns: u64,
    /// Messages per list; 0 leaves it to the server.
    pub max_list_size: usize,
    /// How long a message is not sent again.
    pub ack_timeout_ns: u64,
}

/// Configurations of one meter array.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MeterArray {
    /// Of all cells that are not in `cells`.
    pub all: Option<MeterConfig>,
    /// Of single cells.
    pub cells: FxHashMap<usize, Option<MeterConfig>>,
}

impl MeterArray {
    /// The configuration of a cell.
    pub fn get(&self, cell: usize) -> Option<MeterConfig> {
        self.cells.get(&cell).copied().unwrap_or(self.all)
    }
}

/// The change of an entry.
#[derive(Debug)]
pub(super) enum EntryChange {
    Inserted,
    Modified(Saved),
    Removed,
}

/// An entry with an idle timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timed {
    /// Table index.
    pub table: usize,
    /// The entry.
    pub id: u32,
    /// The change that gave it the timeout; a later change gives another.
    pub stamp: u64,
    /// The timeout.
    pub timeout_ns: u64,
}

/// All entities of one pipeline.
#[derive(Debug, Default)]
pub struct State {
    /// The P4Info, which gives ids their meaning.
    pub info: Arc<Info>,
    /// Translated values.
    pub translator: Translator,
    /// By table index.
    pub tables: Vec<Table>,
    /// By profile index.
    pub profiles: Vec<Profile>,
    /// Packed members, by value set index.
    pub value_sets: Vec<Vec<Box<[u8]>>>,
    /// By meter index.
    pub meters: Vec<MeterArray>,
    /// By digest id.
    pub digests: BTreeMap<u32, DigestConfig>,
    /// How often `digests` was changed.
    pub digest_changes: u64,
    /// By group id.
    pub multicast: BTreeMap<u32, Multicast>,
    /// By session id.
    pub clone_sessions: BTreeMap<u32, CloneSession>,
    /// Entries that were given an idle timeout since the ageing clock last took them.
    pub fresh_timed: Vec<Timed>,
}

impl State {
    /// Empty tables for a pipeline.
    pub fn new(info: Arc<Info>, translator: Translator) -> Self {
        let mut state = Self {
            translator,
            ..Self::default()
        };
        let table = |table| Table {
            entries: Entries::new(&info, table),
            default: DefaultEntry::default(),
            program_default: None,
        };
        state.tables = info.tables.iter().map(table).collect();
        state.profiles.resize_with(info.profiles.len(), Profile::default);
        state.value_sets.resize_with(info.value_sets.len(), Vec::new);
        state.meters.resize_with(info.meters.len(), MeterArray::default);
        state.info = info;
        state
    }

    /// A batch is done: see [`Entries`].
    pub fn settle(&mut self) {
        self.tables.iter_mut().for_each(|table| table.entries.settle());
    }

    /// A batch was undone, change by change.
    pub fn unsettle(&mut self) {
        self.tables.iter_mut().for_each(|table| table.entries.unsettle());
    }

    fn profile_of(&self, table: usize) -> Option<usize> {
        self.info.profile_index(self.info.tables[table].implementation?)
    }

    /// Inserts an entry under a new key (including priority); returns its id.
    pub fn insert_entry(
        &mut self,
        table: usize,
        key: &[u8],
        action: EntryAction<'_>,
        is_const: bool,
        extras: Option<Extras>,
    ) -> u32 {
        let id = self.tables[table].entries.insert(key, action, is_const, extras);
        self.count_entry(table, id, true);
        self.time(table, id);
        id
    }

    /// Removes an entry.
    pub fn remove_entry(&mut self, table: usize, id: u32) {
        self.count_entry(table, id, false);
        self.tables[table].entries.remove(id);
    }

    /// Changes an entry; `saved` stores its earlier state.
    pub(super) fn modify_entry(
        &mut self,
        table: usize,
        id: u32,
        action: EntryAction<'_>,
        extras: Option<Extras>,
        saved: &mut Vec<u8>,
    ) -> Saved {
        self.count_entry(table, id, false);
        let entries = &mut self.tables[table].entries;
        let old = entries.save(id, saved);
        entries.modify(id, action, extras);
        self.count_entry(table, id, true);
        self.time(table, id);
        old
    }

    /// Undoes the change of an entry.
    pub(super) fn undo_entry(&mut self, table: usize, id: u32, change: EntryChange, saved: &[u8]) {
        match change {
            EntryChange::Inserted => {
                self.count_entry(table, id, false);
                self.tables[table].entries.uninsert(id);
            }
            EntryChange::Modified(old) => {
                self.count_entry(table, id, false);
                self.tables[table].entries.restore(id, old, saved);
                self.count_entry(table, id, true);
                self.time(table, id);
            }
            EntryChange::Removed => {
                self.tables[table].entries.unremove(id);
                self.count_entry(table, id, true);
                self.time(table, id);
            }
        }
    }

    /// Registers an entry that ages.
    fn time(&mut self, table: usize, id: u32) {
        let entries = &self.tables[table].entries;
        if let Some(stamp) = entries.stamp(id)
            && let Some(entry) = entries.get(id)
            && entry.idle_timeout_ns() > 0
        {
            let timeout_ns = entry.idle_timeout_ns().unsigned_abs();
            self.fresh_timed.push(Timed {
                table,
                id,
                stamp,
                timeout_ns,
            });
        }
    }

    /// Counts what an entry uses of the table's profile.
    fn count_entry(&mut self, table: usize, id: u32, used: bool) {
        let Some(profile) = self.profile_of(table) else {
            return;
        };
        let by_weight = self.by_weight(profile);
        let Some(entry) = self.tables[table].entries.get(id) else {
            return;
        };
        let state = &mut self.profiles[profile];
        let step = |count: &mut usize| *count = if used { *count + 1 } else { count.saturating_sub(1) };
        match entry.action {
            EntryAction::Call(_) => {}
            EntryAction::Member(id) => {
                if let Some(member) = state.members.get_mut(&id) {
                    step(&mut member.users);
                }
            }
            EntryAction::Group(id) => {
                if let Some(group) = state.groups.get_mut(&id) {
                    step(&mut group.users);
                }
            }
            EntryAction::OneShot(set) => {
                step(&mut state.one_shots);
                let size = one_shot_size(set, by_weight);
                state.total_size += if used { size } else { -size };
            }
        }
    }

    /// Whether a selector's sizes count weights.
    pub fn by_weight(&self, profile: usize) -> bool {
        self.info.profiles[profile].semantics == super::info::SizeSemantics::SumOfWeights
    }

    /// Sets a member's action, creates or removes the member.
    pub fn put_member(&mut self, profile: usize, id: u32, call: Option<Call>) -> Option<Call> {
        let members = &mut self.profiles[profile].members;
        match call {
            Some(call) => match members.get_mut(&id) {
                Some(member) => Some(std::mem::replace(&mut member.call, call)),
                None => {
                    members.insert(id, Member { call, users: 0 });
                    None
                }
            },
            None => members.remove(&id).map(|member| member.call),
        }
    }

    /// Sets a group's members, creates or removes the group.
    pub fn put_group(
        &mut self,
        profile: usize,
        id: u32,
        group: Option<(Vec<Selected>, i32)>,
    ) -> Option<(Vec<Selected>, i32)> {
        let by_weight = self.by_weight(profile);
        let state = &mut self.profiles[profile];
        let old = state.groups.remove(&id);
        let users = old.as_ref().map_or(0, |old| old.users);
        if let Some(old) = &old {
            state.total_size -= old.size(by_weight);
            for selected in &old.members {
                if let Some(member) = state.members.get_mut(&selected.member) {
                    member.users = member.users.saturating_sub(1);
                }
            }
        }
        if let Some((members, max_size)) = group {
            for selected in &members {
                if let Some(member) = state.members.get_mut(&selected.member) {
                    member.users += 1;
                }
            }
            let group = Group {
                members,
                max_size,
                users,
            };
            state.total_size += group.size(by_weight);
            state.groups.insert(id, group);
        }
        old.map(|old| (old.members, old.max_size))
    }
}

/// Size of a one-shot as its selector counts it.
pub fn one_shot_size(set: &OneShot, by_weight: bool) -> i64 {
    match by_weight {
        true => set.actions.iter().map(|action| i64::from(action.weight.max(1))).sum(),
        false => set.actions.len() as i64,
    }
}
