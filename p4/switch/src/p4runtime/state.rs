//! All entities of one pipeline as plain data, each stored under its key.
//!
//! The functions named `put_*` replace one object and return what was there before: applying the returned value again
//! undoes the change. They keep the reference counts of members and groups right and nothing else; validation is done
//! before by the modules of each entity kind. The cost of each is independent of how many objects there are.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::action::{Call, Watch};
use super::info::Info;
use super::translation::Translator;
use crate::tables::Slots;

/// Meter rates and bursts, in bytes or packets as the meter counts (RFC 2698).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeterConfig {
    /// Committed information rate per second.
    pub cir: u64,
    /// Committed burst.
    pub cburst: u64,
    /// Peak information rate per second.
    pub pir: u64,
    /// Peak burst.
    pub pburst: u64,
    /// Excess burst (RFC 2697 only).
    pub eburst: u64,
}

/// What an entry does with a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryAction {
    /// Runs an action.
    Call(Call),
    /// Runs a member's action.
    Member(u32),
    /// Runs the action of one of a group's members.
    Group(u32),
    /// Runs one of its own actions.
    OneShot(Box<OneShot>),
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

/// One match entry.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// Packed key followed by the priority (4 bytes, big-endian).
    pub key: Box<[u8]>,
    /// Names the entry within its table for as long as it exists; small and dense.
    pub id: u32,
    /// Whether only direct resources may be changed.
    pub is_const: bool,
    /// What it does.
    pub action: EntryAction,
    /// Cookies, ageing and metering.
    pub extras: Option<Box<Extras>>,
}

impl Entry {
    /// The packed match fields without the priority.
    pub fn packed_match(&self) -> &[u8] {
        self.key.split_last_chunk::<4>().map_or(&[], |(key, _)| key)
    }

    /// Larger wins; 0 if the table takes no priorities.
    pub fn priority(&self) -> i32 {
        self.key.last_chunk::<4>().map_or(0, |bytes| i32::from_be_bytes(*bytes))
    }

    /// Nanoseconds after which an unused entry is reported; 0 for never.
    pub fn idle_timeout_ns(&self) -> i64 {
        self.extras.as_ref().map_or(0, |extras| extras.idle_timeout_ns)
    }
}

/// An entry in a set, found by its key.
#[derive(Debug, Clone)]
struct ByKey(Arc<Entry>);

impl Borrow<[u8]> for ByKey {
    fn borrow(&self) -> &[u8] {
        &self.0.key
    }
}

impl Hash for ByKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.key.hash(state);
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}

/// A table's default entry where it differs from the program's own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DefaultEntry {
    /// The client's default action; `None` is the program's.
    pub call: Option<Call>,
    /// Cookies and metering.
    pub extras: Extras,
}

/// One table.
#[derive(Debug, Default)]
pub struct Table {
    entries: FxHashSet<ByKey>,
    /// The default entry.
    pub default: DefaultEntry,
    /// The program's own default action.
    pub program_default: Option<Call>,
    ids: Slots,
}

impl Table {
    /// Entries in it.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry with this key (with priority).
    pub fn get(&self, key: &[u8]) -> Option<&Arc<Entry>> {
        self.entries.get(key).map(|by_key| &by_key.0)
    }

    /// All entries, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.iter().map(|by_key| &by_key.0)
    }

    /// An id for a new entry; one that an entry had before only after [`State::settle`].
    pub fn allocate_id(&mut self) -> u32 {
        self.ids.take()
    }
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

/// Configurations of one meter array; cells not listed have the array's.
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

/// All entities of one pipeline.
#[derive(Debug, Default)]
pub struct State {
    /// What the ids mean.
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
    /// By group id.
    pub multicast: BTreeMap<u32, Multicast>,
    /// By session id.
    pub clone_sessions: BTreeMap<u32, CloneSession>,
    /// Entries with an idle timeout (and their table) that were put in since the ageing clock last took them.
    pub fresh_timed: Vec<(usize, Arc<Entry>)>,
}

impl State {
    /// Empty tables for a pipeline.
    pub fn new(info: Arc<Info>, translator: Translator) -> Self {
        let mut state = Self {
            translator,
            ..Self::default()
        };
        state.tables.resize_with(info.tables.len(), Table::default);
        state.profiles.resize_with(info.profiles.len(), Profile::default);
        state.value_sets.resize_with(info.value_sets.len(), Vec::new);
        state.meters.resize_with(info.meters.len(), MeterArray::default);
        state.info = info;
        state
    }

    /// A batch is done: ids of entries that it removed may be given to others. Not before, because packets that still
    /// see what was before the batch count on them.
    pub fn settle(&mut self) {
        self.tables.iter_mut().for_each(|table| table.ids.settle());
    }

    /// A batch was undone, change by change: it has used no ids and freed none.
    pub fn unsettle(&mut self) {
        self.tables.iter_mut().for_each(|table| table.ids.roll_back());
    }

    /// Puts an entry in, replaces or removes it.
    pub fn put_entry(&mut self, table: usize, old: Option<&Arc<Entry>>, new: Option<&Arc<Entry>>) {
        let implementation = self.info.tables[table].implementation;
        let profile = implementation.and_then(|id| self.info.profile_index(id));
        if let (Some(profile), Some(old)) = (profile, old) {
            self.count_use(profile, &old.action, false);
        }
        if let (Some(profile), Some(new)) = (profile, new) {
            self.count_use(profile, &new.action, true);
        }
        let state = &mut self.tables[table];
        match (old, new) {
            (_, Some(new)) => {
                state.entries.replace(ByKey(new.clone()));
                if new.idle_timeout_ns() > 0 {
                    self.fresh_timed.push((table, new.clone()));
                }
            }
            (Some(old), None) => {
                state.entries.remove(&*old.key);
                state.ids.give_back(old.id);
            }
            (None, None) => {}
        }
    }

    fn count_use(&mut self, profile: usize, action: &EntryAction, used: bool) {
        let step = |count: &mut usize| *count = if used { *count + 1 } else { count.saturating_sub(1) };
        let by_weight = self.by_weight(profile);
        let state = &mut self.profiles[profile];
        match action {
            EntryAction::Call(_) => {}
            EntryAction::Member(id) => {
                if let Some(member) = state.members.get_mut(id) {
                    step(&mut member.users);
                }
            }
            EntryAction::Group(id) => {
                if let Some(group) = state.groups.get_mut(id) {
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
