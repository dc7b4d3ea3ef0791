//! The entries of one table: each a row of bytes, found by its key.
//!
//! A row holds the parts that most entries have, in as few bytes as possible:
//!
//! ```text
//! tag 1 | action, member or group id 4 | key | priority 4, where the table has one | arguments
//! ```
//!
//! All rows of a table are of one length, that of the action with the longest arguments, so an entry's id determines
//! its place. Rows are in chunks that never move, so no insertion has to copy earlier rows. Rare parts (cookies,
//! ageing, meter, one-shots) are stored separately, by id.
//!
//! The row of a removed entry stays until the batch is settled, so a removal can be undone without writing the row
//! again.

use rustc_hash::FxHashMap;

use super::action::CallRef;
use super::bytestring;
use super::info::{Info, Table};
use super::key;
use super::state::{Extras, OneShot};
use p4_engine::tables::Slots;
use p4_engine::tables::index::{Index, Seed};

/// Rows in a chunk: an allocation of some ten kilobytes.
const CHUNK_ROWS: usize = 512;

/// Octets of a priority.
const PRIORITY: usize = 4;

/// Octets before the key.
const HEADER: usize = 5;

/// What an entry does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryAction<'a> {
    /// Runs an action.
    Call(CallRef<'a>),
    /// Runs a member's action.
    Member(u32),
    /// Runs the action of one of a group's members.
    Group(u32),
    /// Runs one of its own actions.
    OneShot(&'a OneShot),
}

/// One match entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Names the entry within its table for as long as it exists; small and dense.
    pub id: u32,
    /// Whether only direct resources may be changed.
    pub is_const: bool,
    /// The packed match fields.
    pub key: &'a [u8],
    /// Larger wins; 0 if the table takes no priorities.
    pub priority: i32,
    /// What it does. Unused octets may follow the arguments.
    pub action: EntryAction<'a>,
    /// Cookies, ageing and metering.
    pub extras: Option<&'a Extras>,
}

impl Entry<'_> {
    /// Nanoseconds after which an unused entry is reported; 0 for never.
    pub fn idle_timeout_ns(&self) -> i64 {
        self.extras.map_or(0, |extras| extras.idle_timeout_ns)
    }
}

/// The rare parts of an entry.
#[derive(Debug, Clone, Default)]
struct Rare {
    extras: Option<Extras>,
    one_shot: Option<OneShot>,
    /// Which change gave the entry its idle timeout.
    stamp: u64,
}

/// The first octet of a row.
#[derive(Debug, Clone, Copy)]
struct Tag(u8);

impl Tag {
    const KIND: u8 = 3;
    const CONST: u8 = 4;
    const RARE: u8 = 8;
    const LIVE: u8 = 16;

    fn has(self, bit: u8) -> bool {
        self.0 & bit != 0
    }
}

/// The layout of a table's rows.
#[derive(Debug, Clone, Copy, Default)]
struct Shape {
    key: usize,
    priority: usize,
    args: usize,
}

impl Shape {
    fn of(info: &Info, table: &Table) -> Self {
        let args = table.actions.iter().filter_map(|(id, _)| {
            let params = &info.action(*id)?.params;
            Some(params.iter().map(|p| bytestring::bytes(p.value.data_width)).sum())
        });
        Self {
            key: table.fields.iter().map(key::packed_len).sum(),
            priority: if table.needs_priority { PRIORITY } else { 0 },
            // In tables with an action profile, entries name members and groups and have no arguments.
            args: if table.implementation.is_some() {
                0
            } else {
                args.max().unwrap_or(0)
            },
        }
    }

    /// Octets of key and priority.
    fn found_by(self) -> usize {
        self.key + self.priority
    }

    fn row(self) -> usize {
        HEADER + self.found_by() + self.args
    }

    fn entry<'a>(self, id: u32, row: &'a [u8], rare: Option<&'a Rare>) -> Option<Entry<'a>> {
        let ([tag, value @ ..], rest) = row.split_first_chunk::<HEADER>()?;
        let (key, rest) = rest.split_at_checked(self.key)?;
        let (priority, args) = rest.split_at_checked(self.priority)?;
        let (tag, value) = (Tag(*tag), u32::from_ne_bytes(*value));
        let action = match tag.0 & Tag::KIND {
            0 => EntryAction::Call(CallRef { action: value, args }),
            1 => EntryAction::Member(value),
            2 => EntryAction::Group(value),
            _ => EntryAction::OneShot(rare?.one_shot.as_ref()?),
        };
        Some(Entry {
            id,
            is_const: tag.has(Tag::CONST),
            key,
            priority: priority.try_into().map_or(0, i32::from_be_bytes),
            action,
            extras: rare.and_then(|rare| rare.extras.as_ref()),
        })
    }

    /// Writes a row except for its key.
    fn put(self, row: &mut [u8], flags: u8, action: EntryAction<'_>) {
        let (kind, value, args) = match action {
            EntryAction::Call(call) => (0, call.action, call.args),
            EntryAction::Member(id) => (1, id, &[][..]),
            EntryAction::Group(id) => (2, id, &[][..]),
            EntryAction::OneShot(_) => (3, 0, &[][..]),
        };
        let Some((header, rest)) = row.split_first_chunk_mut::<HEADER>() else {
            return;
        };
        let value: [u8; 4] = value.to_ne_bytes();
        *header = [kind | flags, value[0], value[1], value[2], value[3]];
        if let Some(place) = rest.get_mut(self.found_by()..self.found_by() + args.len()) {
            place.copy_from_slice(args);
        }
    }
}

/// Rows of one length in chunks.
#[derive(Debug, Default)]
struct Rows {
    chunks: Vec<Box<[u8]>>,
    row: usize,
}

impl Rows {
    fn place(&self, id: u32) -> (usize, std::ops::Range<usize>) {
        let (chunk, at) = (id as usize / CHUNK_ROWS, id as usize % CHUNK_ROWS * self.row);
        (chunk, at..at + self.row)
    }

    fn get(&self, id: u32) -> &[u8] {
        let (chunk, range) = self.place(id);
        let row = self.chunks.get(chunk).and_then(|chunk| chunk.get(range));
        row.unwrap_or_default()
    }

    fn get_mut(&mut self, id: u32) -> &mut [u8] {
        let (chunk, range) = self.place(id);
        let row = self.chunks.get_mut(chunk).and_then(|chunk| chunk.get_mut(range));
        row.unwrap_or_default()
    }

    /// A row to write; created if necessary.
    fn ensure(&mut self, id: u32) -> &mut [u8] {
        let (chunk, _) = self.place(id);
        while self.chunks.len() <= chunk {
            self.chunks.push(vec![0; CHUNK_ROWS * self.row].into());
        }
        self.get_mut(id)
    }
}

/// The earlier state of a modified entry.
#[derive(Debug)]
pub(super) struct Saved {
    /// Where its row lies in the log.
    at: usize,
    rare: Option<Box<Rare>>,
}

/// A snapshot of entries.
#[derive(Debug, Default)]
pub struct Snapshot {
    shape: Shape,
    ids: std::vec::IntoIter<u32>,
    rows: Vec<u8>,
    rare: FxHashMap<u32, Box<Rare>>,
    next: usize,
}

impl Snapshot {
    /// The next entry of the snapshot.
    pub fn take_next(&mut self) -> Option<Entry<'_>> {
        let id = self.ids.next()?;
        let at = self.next * self.shape.row();
        self.next += 1;
        let row = self.rows.get(at..at + self.shape.row())?;
        self.shape.entry(id, row, self.rare.get(&id).map(|rare| &**rare))
    }
}

/// Entries by key and by id.
#[derive(Debug)]
pub struct Entries {
    shape: Shape,
    rows: Rows,
    seed: Seed,
    index: Index,
    ids: Slots,
    rare: FxHashMap<u32, Box<Rare>>,
    /// Entries removed in this batch that have rare parts.
    removed: Vec<u32>,
    stamp: u64,
}

impl Entries {
    /// The entries of a table, none yet.
    pub fn new(info: &Info, table: &Table) -> Self {
        let shape = Shape::of(info, table);
        Self {
            shape,
            rows: Rows {
                chunks: Vec::new(),
                row: shape.row(),
            },
            seed: Seed::random(),
            index: Index::default(),
            ids: Slots::default(),
            rare: FxHashMap::default(),
            removed: Vec::new(),
            stamp: 0,
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    fn key_of(&self, id: u32) -> &[u8] {
        let key = self.rows.get(id).get(HEADER..HEADER + self.shape.found_by());
        key.unwrap_or_default()
    }

    /// The id of the entry with this packed key. Where the table has priorities, the key ends with the priority.
    pub fn find(&self, key: &[u8]) -> Option<u32> {
        self.index.find(self.seed.hash_bytes(key), |id| self.key_of(id) == key)
    }

    fn tag(&self, id: u32) -> Tag {
        Tag(self.rows.get(id).first().copied().unwrap_or(0))
    }

    /// An entry, also one that was removed in the batch under way.
    pub fn get(&self, id: u32) -> Option<Entry<'_>> {
        let rare = self.tag(id).has(Tag::RARE).then(|| self.rare.get(&id)).flatten();
        self.shape.entry(id, self.rows.get(id), rare.map(|rare| &**rare))
    }

    /// All entries, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        self.index.slots().filter_map(|id| self.get(id))
    }

    /// Which change gave an entry its idle timeout; none if it has none (any more).
    pub fn stamp(&self, id: u32) -> Option<u64> {
        let live = self.tag(id).has(Tag::LIVE);
        self.rare.get(&id).filter(|_| live).map(|rare| rare.stamp)
    }

    /// Copies of some entries.
    pub fn snapshot(&self, ids: Vec<u32>) -> Snapshot {
        let mut rows = Vec::with_capacity(ids.len() * self.shape.row());
        let mut rare = FxHashMap::default();
        for id in &ids {
            rows.extend_from_slice(self.rows.get(*id));
            if self.tag(*id).has(Tag::RARE)
                && let Some(of) = self.rare.get(id)
            {
                rare.insert(*id, of.clone());
            }
        }
        Snapshot {
            shape: self.shape,
            ids: ids.into_iter(),
            rows,
            rare,
            next: 0,
        }
    }

    /// Inserts an entry under a new key; returns its id.
    pub(super) fn insert(
        &mut self,
        key: &[u8],
        action: EntryAction<'_>,
        is_const: bool,
        extras: Option<Extras>,
    ) -> u32 {
        let id = self.ids.take();
        let hash = self.seed.hash_bytes(key);
        let flags = if is_const { Tag::CONST } else { 0 } | self.put_rare(id, action, extras);
        let shape = self.shape;
        let row = self.rows.ensure(id);
        shape.put(row, flags | Tag::LIVE, action);
        if let Some(place) = row.get_mut(HEADER..HEADER + shape.found_by()) {
            // All keys of a table have the same length.
            place.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
        }
        self.index.insert(hash, id);
        id
    }

    /// Sets the rare parts; returns whether there are any.
    fn put_rare(&mut self, id: u32, action: EntryAction<'_>, extras: Option<Extras>) -> u8 {
        let one_shot = match action {
            EntryAction::OneShot(set) => Some(set.clone()),
            _ => None,
        };
        if one_shot.is_none() && extras.is_none() {
            if !self.rare.is_empty() {
                self.rare.remove(&id);
            }
            return 0;
        }
        self.stamp += 1;
        let rare = Rare {
            extras,
            one_shot,
            stamp: self.stamp,
        };
        self.rare.insert(id, Box::new(rare));
        Tag::RARE
    }

    /// Saves the state of an entry before a modification.
    pub(super) fn save(&self, id: u32, log: &mut Vec<u8>) -> Saved {
        let at = log.len();
        log.extend_from_slice(self.rows.get(id));
        let rare = self.rare.get(&id).filter(|_| self.tag(id).has(Tag::RARE));
        Saved {
            at,
            rare: rare.cloned(),
        }
    }

    /// Whether an entry has this action and these extras already.
    pub(super) fn is_same(&self, id: u32, action: EntryAction<'_>, extras: Option<&Extras>) -> bool {
        let Some(old) = self.get(id) else { return false };
        let same_action = match (old.action, action) {
            (EntryAction::Call(old), EntryAction::Call(new)) => {
                old.action == new.action && old.args.get(..new.args.len()) == Some(new.args)
            }
            (old, new) => old == new,
        };
        same_action && old.extras == extras
    }

    /// Changes all but the key of an entry.
    pub(super) fn modify(&mut self, id: u32, action: EntryAction<'_>, extras: Option<Extras>) {
        let flags = self.tag(id).0 & Tag::CONST | Tag::LIVE | self.put_rare(id, action, extras);
        self.shape.put(self.rows.get_mut(id), flags, action);
    }

    /// Undoes a modification.
    pub(super) fn restore(&mut self, id: u32, saved: Saved, log: &[u8]) {
        if let Some(old) = log.get(saved.at..saved.at + self.shape.row()) {
            self.rows.get_mut(id).copy_from_slice(old);
        }
        match saved.rare {
            Some(rare) => self.rare.insert(id, rare),
            None => self.rare.remove(&id),
        };
    }

    fn unlink(&mut self, id: u32) {
        let hash = self.seed.hash_bytes(self.key_of(id));
        self.index.remove(hash, id);
        if self.tag(id).has(Tag::RARE) {
            self.removed.push(id);
        }
        if let Some(tag) = self.rows.get_mut(id).first_mut() {
            *tag &= !Tag::LIVE;
        }
    }

    /// Removes an entry. Its row stays until [`Self::settle`].
    pub(super) fn remove(&mut self, id: u32) {
        self.unlink(id);
        self.ids.give_back(id);
    }

    /// Undoes an insertion. The caller must call [`Self::unsettle`] afterwards.
    pub(super) fn uninsert(&mut self, id: u32) {
        self.unlink(id);
    }

    /// Undoes a removal. The caller must call [`Self::unsettle`] afterwards.
    pub(super) fn unremove(&mut self, id: u32) {
        let hash = self.seed.hash_bytes(self.key_of(id));
        self.index.insert(hash, id);
        if let Some(tag) = self.rows.get_mut(id).first_mut() {
            *tag |= Tag::LIVE;
        }
    }

    /// Ends a batch: ids of entries that it removed may be reused from now on, and not earlier, because packets that
    /// still see the state before the batch are counted under these ids.
    pub(super) fn settle(&mut self) {
        self.ids.settle();
        for id in std::mem::take(&mut self.removed) {
            if !self.tag(id).has(Tag::LIVE) {
                self.rare.remove(&id);
            }
        }
    }

    /// Ends a batch that was undone, change by change: it has neither used nor freed ids.
    pub(super) fn unsettle(&mut self) {
        self.ids.roll_back();
    }
}
