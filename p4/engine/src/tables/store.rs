//! Everything a control plane writes, behind one interface: readers for packet threads, transactions for a writer.
//!
//! A transaction changes the copy that packets do not read, one call after the other, and notes the changes in a log;
//! when it ends, the copies are exchanged. The next transaction first repeats the log on the other copy. So a change
//! costs twice its own work, the log holds one transaction, and a transaction that cannot begin (a packet thread stands
//! still, see [`super::snapshot`]) has changed nothing.
//!
//! # Slots
//! The caller chooses the slot of an entry, small numbers first ([`Slots`] does that). When an entry is removed, its
//! slot must not be given to another entry in the *same* transaction: packets that use the old copy may still count
//! there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::HashMap;
use rustc_hash::FxHashMap;

use super::direct::Direct;
use super::index::NO_SLOT;
use super::layout::{FieldMatch, KeyField, KeyLayout};
use super::lpm::ABREAST;
use super::records::Leads;
use super::shared::Shelf;
use super::snapshot::{self, Reader, Snapshots, Stalled};
use super::state::{Change, CloneSession, Group, GroupMember, Replica, Shelves, Span, Tables};
use super::ternary::Ternary;

/// How long a transaction waits for packet threads to finish their current batch. Normally that takes microseconds,
/// or longer while the machine does not let the threads run. A thread that takes longer than this counts as stuck.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// Capacity of the log, in words and changes, that is kept between transactions.
const LOG_KEPT: usize = 1 << 16;

/// Ports whose state is known; higher numbers count as up. Port numbers of v1model have 9 bits.
const PORTS: usize = 1 << 16;

/// The definition of a table.
#[derive(Debug, Clone, Default)]
pub struct TableSpec {
    /// Its key.
    pub key: Vec<KeyField>,
    /// Words that the arguments of its actions take, at most.
    pub args: usize,
    /// Index of its action profile.
    pub profile: Option<usize>,
    /// Whether entries have counters.
    pub counter: bool,
    /// Whether entries have meters.
    pub meter: bool,
    /// Whether entries age.
    pub ages: bool,
}

/// An action with its arguments: each takes `ceil(width / 64)` words, most significant first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActionCall<'a> {
    /// Index of the action.
    pub action: u32,
    /// Words of its arguments.
    pub args: &'a [u64],
}

/// One action of a one-shot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choice<'a> {
    /// The action.
    pub call: ActionCall<'a>,
    /// Its weight; 0 counts as 1.
    pub weight: u32,
    /// The port that keeps it selectable.
    pub watch: Option<u32>,
}

/// What an entry should make packets do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target<'a> {
    /// An action.
    Action(ActionCall<'a>),
    /// The member of this id.
    Member(u32),
    /// The group of this id.
    Group(u32),
    /// One of these, by the selector's hash.
    OneShot(&'a [Choice<'a>]),
}

/// Allocates small numbers. Numbers that were given back are allocated again from the next transaction on.
#[derive(Debug, Clone, Default)]
pub struct Slots {
    next: u32,
    /// `next` when the transaction began.
    began: u32,
    /// Numbers that were free before the transaction; it has taken all but the first `left`.
    free: Vec<u32>,
    left: usize,
    /// Taken back in this transaction.
    resting: Vec<u32>,
}

impl Slots {
    /// A number that is not in use.
    pub fn take(&mut self) -> u32 {
        let free = self.left.checked_sub(1).and_then(|last| self.free.get(last));
        match free {
            Some(slot) => {
                self.left -= 1;
                *slot
            }
            None => {
                self.next += 1;
                self.next - 1
            }
        }
    }

    /// Takes a number back.
    pub fn give_back(&mut self, slot: u32) {
        self.resting.push(slot);
    }

    /// A transaction has ended and another begins.
    pub fn settle(&mut self) {
        self.free.truncate(self.left);
        self.free.append(&mut self.resting);
        self.left = self.free.len();
        self.began = self.next;
    }

    /// Undoes the transaction: the same numbers are in use as when it began.
    pub fn roll_back(&mut self) {
        self.resting.clear();
        self.left = self.free.len();
        self.next = self.began;
    }
}

/// Which ports carry traffic. Changes at once, for packets under way too.
#[derive(Debug)]
pub struct Ports(Box<[AtomicU64]>);

impl Default for Ports {
    fn default() -> Self {
        Self((0..PORTS / 64).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Ports {
    /// Whether a port carries traffic, as far as is known.
    #[inline]
    pub fn is_up(&self, port: u32) -> bool {
        let word = self.0.get(port as usize / 64);
        word.is_none_or(|w| w.load(Ordering::Relaxed) >> (port % 64) & 1 == 0)
    }

    /// Notes whether a port carries traffic.
    pub fn set(&self, port: u32, up: bool) {
        let Some(word) = self.0.get(port as usize / 64) else {
            return;
        };
        let bit = 1 << (port % 64);
        if up {
            word.fetch_and(!bit, Ordering::Relaxed);
        } else {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }
}

/// What packet threads and control planes share.
pub struct Store {
    snapshots: Snapshots<Tables>,
    direct: Box<[Direct]>,
    /// Which ports carry traffic.
    pub ports: Ports,
}

/// Ids of members or groups, by profile, and their slots.
#[derive(Debug, Default)]
struct Ids {
    slots: HashMap<u32, u32>,
    free: Slots,
}

impl Ids {
    fn find(&self, id: u32) -> u32 {
        self.slots.get(&id).copied().unwrap_or(NO_SLOT)
    }

    fn find_or_take(&mut self, id: u32) -> u32 {
        *self.slots.entry(id).or_insert_with(|| self.free.take())
    }

    fn remove(&mut self, id: u32) -> Option<u32> {
        let slot = self.slots.remove(&id)?;
        self.free.give_back(slot);
        Some(slot)
    }
}

/// Members and groups of one profile.
#[derive(Debug, Default)]
struct Profile {
    members: Ids,
    groups: Ids,
}

/// Slots that a one-shot uses in its profile: a group and members without ids.
#[derive(Debug)]
struct OneShot {
    group: u32,
    members: Vec<u32>,
}

/// State that only the writer needs.
#[derive(Debug, Default)]
struct Directory {
    /// Profile of each table.
    tables: Vec<Option<usize>>,
    layouts: Vec<KeyLayout>,
    value_sets: Vec<KeyLayout>,
    profiles: Vec<Profile>,
    one_shots: FxHashMap<(usize, u32), OneShot>,
}

/// Changes of the last transaction, which the stale copy has yet to see.
#[derive(Debug, Default)]
struct Log {
    changes: Vec<Change>,
    words: Vec<u64>,
    /// Patterns of announced entries.
    announced: Vec<u64>,
}

impl Log {
    fn words(&mut self, words: &[u64]) -> Span {
        let start = self.words.len() as u32;
        self.words.extend_from_slice(words);
        Span {
            start,
            end: self.words.len() as u32,
        }
    }

    fn pattern<'a>(&mut self, layout: &KeyLayout, matches: impl IntoIterator<Item = FieldMatch<'a>>) -> Span {
        let start = self.words.len() as u32;
        layout.pattern(matches, &mut self.words);
        Span {
            start,
            end: self.words.len() as u32,
        }
    }

    fn clear(&mut self) {
        self.changes.clear();
        self.words.clear();
        self.changes.shrink_to(LOG_KEPT);
        self.words.shrink_to(LOG_KEPT);
    }
}

/// The writer of a store, which has exactly one.
pub struct Writer {
    store: Arc<Store>,
    copies: snapshot::Writer<Tables>,
    log: Log,
    directory: Directory,
    shelves: Shelves,
    patience: Duration,
}

impl Store {
    /// An empty store for these tables. `profiles` has, for each profile, the most words that the arguments of its
    /// actions take; `value_sets` has the key of each value set.
    pub fn new(tables: &[TableSpec], profiles: &[usize], value_sets: &[Vec<KeyField>]) -> (Arc<Self>, Writer) {
        let layouts: Vec<_> = tables.iter().map(|t| KeyLayout::new(t.key.iter().copied())).collect();
        let sets: Vec<_> = value_sets
            .iter()
            .map(|fields| KeyLayout::new(fields.iter().copied()))
            .collect();
        let of_tables = layouts.iter().cloned().zip(tables.iter().map(|t| t.args));
        let (copies, shelves) = Tables::new(of_tables, profiles.iter().copied(), sets.iter().cloned());
        let (snapshots, copies) = snapshot::new(copies);
        let direct = tables.iter().map(|t| Direct::new(t.counter, t.meter, t.ages));
        let store = Arc::new(Self {
            snapshots,
            direct: direct.collect(),
            ports: Ports::default(),
        });
        let directory = Directory {
            tables: tables.iter().map(|t| t.profile).collect(),
            layouts,
            value_sets: sets,
            profiles: profiles.iter().map(|_| Profile::default()).collect(),
            one_shots: FxHashMap::default(),
        };
        let writer = Writer {
            store: Arc::clone(&store),
            copies,
            log: Log::default(),
            directory,
            shelves,
            patience: PATIENCE,
        };
        (store, writer)
    }

    /// A reader for a packet thread; its name appears in the error if a writer waits for it in vain.
    pub fn reader(&self, name: &str) -> Reader<Tables> {
        self.snapshots.reader(name)
    }

    /// Counters, meters and ages of a table's entries.
    #[inline]
    pub fn direct(&self, table: usize) -> Option<&Direct> {
        self.direct.get(table)
    }
}

impl Writer {
    /// The store that it writes.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// What packets see.
    pub fn tables(&self) -> &Tables {
        self.copies.live()
    }

    /// Bytes of a table's records, which both copies share.
    pub fn shared_bytes(&self, table: usize) -> usize {
        self.shelves.tables.get(table).map_or(0, Shelf::bytes)
    }

    /// How long transactions wait for packet threads, instead of [`PATIENCE`].
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Changes what packets see: all that `change` does becomes visible at once when it returns.
    ///
    /// # Errors
    /// A packet thread hangs; then `change` was not called.
    pub fn write<T>(&mut self, now_ns: u64, change: impl FnOnce(&mut Transaction<'_>) -> T) -> Result<T, Stalled> {
        let tables = self.copies.stale(self.patience)?;
        for changes in self.log.changes.chunks(ABREAST) {
            tables.fetch(changes, &self.log.words);
            for change in changes {
                tables.apply(change, &self.log.words, &self.shelves);
            }
        }
        self.log.clear();
        // No copy leads any more to the places that the last transaction gave back.
        let shelves = self.shelves.tables.iter_mut().chain(&mut self.shelves.value_sets);
        shelves.for_each(Shelf::settle);
        for profile in &mut self.directory.profiles {
            profile.members.free.settle();
            profile.groups.free.settle();
        }
        let mut transaction = Transaction {
            store: &self.store,
            tables,
            log: &mut self.log,
            directory: &mut self.directory,
            shelves: &mut self.shelves,
            now_ns,
        };
        let result = change(&mut transaction);
        self.copies.publish();
        Ok(result)
    }
}

/// A batch of changes.
pub struct Transaction<'a> {
    store: &'a Store,
    tables: &'a mut Tables,
    log: &'a mut Log,
    directory: &'a mut Directory,
    shelves: &'a mut Shelves,
    now_ns: u64,
}

impl Transaction<'_> {
    /// Announces, by what they match, up to [`ABREAST`] entries that the next calls insert, change or remove. This
    /// only makes these calls faster. It is useful before many calls on a large table.
    pub fn announce<'m, M>(&mut self, table: usize, entries: impl IntoIterator<Item = M>)
    where
        M: IntoIterator<Item = FieldMatch<'m>>,
    {
        let (Some(layout), Some(of)) = (self.directory.layouts.get(table), self.tables.table(table)) else {
            return;
        };
        if !of.fetches() {
            return;
        }
        let patterns = &mut self.log.announced;
        patterns.clear();
        for matches in entries.into_iter().take(ABREAST) {
            layout.pattern(matches, patterns);
        }
        of.fetch(patterns.chunks(2 * layout.words()));
    }

    fn push(&mut self, change: Change) {
        self.tables.apply(&change, &self.log.words, self.shelves);
        self.log.changes.push(change);
    }

    /// Puts an entry into a slot that is free; fields beyond the end of `matches` match anything. Larger priorities
    /// win. Its counter and meter start afresh.
    pub fn insert<'m>(
        &mut self,
        table: usize,
        slot: u32,
        matches: impl IntoIterator<Item = FieldMatch<'m>>,
        priority: i32,
        target: Target<'_>,
    ) {
        let (leads, args) = self.resolve(table, slot, target);
        let Some(layout) = self.directory.layouts.get(table) else {
            return;
        };
        let pattern = self.log.pattern(layout, matches);
        if let Some(direct) = self.store.direct.get(table) {
            direct.start(slot, self.now_ns);
        }
        let (Some(of), Some(shelf)) = (self.tables.table_mut(table), self.shelves.tables.get_mut(table)) else {
            return;
        };
        if leads == Leads::Vacant || !of.has_key() || shelf.place(slot).is_some() {
            return;
        }
        let words = pattern.of(&self.log.words);
        let fill = |extra: &mut [u64]| of.fill(words, priority, extra);
        let place = shelf.take(slot, leads, args.of(&self.log.words), fill);
        let inserted = of.insert(place, words, shelf);
        if let Some(tuple) = inserted.tuple {
            shelf.amend(place, |extra| Ternary::set_tuple(extra, tuple));
        }
        if let Some(replaced) = inserted.replaced {
            shelf.give_back(shelf.slot(replaced));
        }
        let table = table as u32;
        self.log.changes.push(Change::Insert { table, place, pattern });
    }

    /// Changes the target of the entry in a slot. `matches` must be what the entry was inserted with.
    pub fn modify<'m>(
        &mut self,
        table: usize,
        slot: u32,
        matches: impl IntoIterator<Item = FieldMatch<'m>>,
        target: Target<'_>,
    ) {
        self.drop_one_shot(table, slot);
        let (leads, args) = self.resolve(table, slot, target);
        let (Some(shelf), Some(layout)) = (self.shelves.tables.get_mut(table), self.directory.layouts.get(table))
        else {
            return;
        };
        let Some(old) = shelf.place(slot).filter(|_| leads != Leads::Vacant) else {
            return;
        };
        let pattern = self.log.pattern(layout, matches);
        let new = shelf.exchange(slot, leads, args.of(&self.log.words));
        let table = table as u32;
        self.push(Change::Replace {
            table,
            old,
            new,
            pattern,
        });
    }

    /// Removes the entry in a slot. `matches` must be what the entry was inserted with.
    pub fn remove<'m>(&mut self, table: usize, slot: u32, matches: impl IntoIterator<Item = FieldMatch<'m>>) {
        let (Some(shelf), Some(layout)) = (self.shelves.tables.get_mut(table), self.directory.layouts.get(table))
        else {
            return;
        };
        if let Some(place) = shelf.place(slot) {
            shelf.give_back(slot);
            let pattern = self.log.pattern(layout, matches);
            self.push(Change::Remove {
                table: table as u32,
                place,
                pattern,
            });
        }
        self.drop_one_shot(table, slot);
    }

    /// The form in which the copies of a table store a target.
    fn resolve(&mut self, table: usize, slot: u32, target: Target<'_>) -> (Leads, Span) {
        let profile = self.directory.tables.get(table).copied().flatten();
        let ids = profile.and_then(|p| self.directory.profiles.get(p));
        let leads = match target {
            Target::Action(call) => return (Leads::Action(call.action), self.log.words(call.args)),
            Target::Member(id) => Leads::Member(ids.map_or(NO_SLOT, |p| p.members.find(id))),
            Target::Group(id) => Leads::Group(ids.map_or(NO_SLOT, |p| p.groups.find(id))),
            Target::OneShot(choices) => match profile {
                Some(profile) => self.one_shot(profile, (table, slot), choices),
                None => Leads::Group(NO_SLOT),
            },
        };
        (leads, Span::default())
    }

    /// Makes a group of members that have no id.
    fn one_shot(&mut self, profile: usize, entry: (usize, u32), choices: &[Choice<'_>]) -> Leads {
        let Some(ids) = self.directory.profiles.get_mut(profile) else {
            return Leads::Group(NO_SLOT);
        };
        let group = ids.groups.free.take();
        let members: Vec<u32> = choices.iter().map(|_| ids.members.free.take()).collect();
        for (choice, slot) in choices.iter().zip(&members) {
            self.push_member(profile, *slot, Some(choice.call));
        }
        let of = |(choice, member): (&Choice<'_>, &u32)| GroupMember {
            member: *member,
            weight: choice.weight.max(1),
            watch: choice.watch,
        };
        self.push(Change::Group {
            profile: profile as u32,
            slot: group,
            group: Some(Arc::new(Group::new(choices.iter().zip(&members).map(of)))),
        });
        self.directory.one_shots.insert(entry, OneShot { group, members });
        Leads::Group(group)
    }

    fn drop_one_shot(&mut self, table: usize, slot: u32) {
        let Some(one_shot) = self.directory.one_shots.remove(&(table, slot)) else {
            return;
        };
        let Some(profile) = self.directory.tables.get(table).copied().flatten() else {
            return;
        };
        self.push(Change::Group {
            profile: profile as u32,
            slot: one_shot.group,
            group: None,
        });
        for member in &one_shot.members {
            self.push_member(profile, *member, None);
        }
        if let Some(ids) = self.directory.profiles.get_mut(profile) {
            ids.groups.free.give_back(one_shot.group);
            one_shot.members.iter().for_each(|m| ids.members.free.give_back(*m));
        }
    }

    /// Sets a table's default action.
    pub fn set_default(&mut self, table: usize, call: Option<ActionCall<'_>>) {
        let (leads, args) = self.call(call);
        let table = table as u32;
        self.push(Change::Default { table, leads, args });
    }

    fn call(&mut self, call: Option<ActionCall<'_>>) -> (Leads, Span) {
        match call {
            Some(call) => (Leads::Action(call.action), self.log.words(call.args)),
            None => (Leads::Vacant, Span::default()),
        }
    }

    fn push_member(&mut self, profile: usize, slot: u32, call: Option<ActionCall<'_>>) {
        let (leads, args) = self.call(call);
        self.push(Change::Member {
            profile: profile as u32,
            slot,
            leads,
            args,
        });
    }

    /// Sets or removes a member of a profile.
    pub fn set_member(&mut self, profile: usize, id: u32, call: Option<ActionCall<'_>>) {
        let Some(ids) = self.directory.profiles.get_mut(profile) else {
            return;
        };
        let slot = match call {
            Some(_) => Some(ids.members.find_or_take(id)),
            None => ids.members.remove(id),
        };
        if let Some(slot) = slot {
            self.push_member(profile, slot, call);
        }
    }

    /// Sets or removes a group of a selector: ids of its members with weight (0 counts as 1) and watch port. Members
    /// that do not exist are left out.
    pub fn set_group(&mut self, profile: usize, id: u32, members: Option<&[(u32, u32, Option<u32>)]>) {
        let Some(ids) = self.directory.profiles.get_mut(profile) else {
            return;
        };
        let slot = match members {
            Some(_) => Some(ids.groups.find_or_take(id)),
            None => ids.groups.remove(id),
        };
        let Some(slot) = slot else { return };
        let group = members.map(|members| {
            let known = members.iter().filter_map(|(id, weight, watch)| {
                Some(GroupMember {
                    member: *ids.members.slots.get(id)?,
                    weight: (*weight).max(1),
                    watch: *watch,
                })
            });
            Arc::new(Group::new(known))
        });
        let profile = profile as u32;
        self.push(Change::Group { profile, slot, group });
    }

    /// Sets or removes a multicast group.
    pub fn set_multicast(&mut self, id: u32, replicas: Option<Vec<Replica>>) {
        let replicas = replicas.map(Into::into);
        self.push(Change::Multicast { id, replicas });
    }

    /// Sets or removes a clone session.
    pub fn set_clone(&mut self, id: u32, session: Option<CloneSession>) {
        let session = session.map(Arc::new);
        self.push(Change::Clone { id, session });
    }

    /// Sets all members of a value set.
    pub fn set_value_set<'m, M>(&mut self, set: usize, members: impl IntoIterator<Item = M>)
    where
        M: IntoIterator<Item = FieldMatch<'m>>,
    {
        self.push(Change::ClearValueSet { set: set as u32 });
        if let Some(shelf) = self.shelves.value_sets.get_mut(set) {
            shelf.clear();
        }
        for (slot, member) in members.into_iter().enumerate() {
            let layout = self.directory.value_sets.get(set);
            let (Some(layout), Some(shelf)) = (layout, self.shelves.value_sets.get_mut(set)) else {
                return;
            };
            let pattern = self.log.pattern(layout, member);
            let (words, of) = (pattern.of(&self.log.words), self.tables.value_set(set));
            let fill = |extra: &mut [u64]| of.into_iter().for_each(|of| of.fill(words, 0, extra));
            let place = shelf.take(slot as u32, Leads::Action(0), &[], fill);
            let set = set as u32;
            self.push(Change::ValueSetMember { set, place, pattern });
        }
    }
}
