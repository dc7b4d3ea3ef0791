//! One copy of all that control planes write and packets read.

use std::sync::Arc;

use foldhash::HashMap;

use super::layout::KeyLayout;
use super::records::{Leads, Record, Records};
use super::shared::Shelf;
use super::table::Table;

/// A member of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupMember {
    /// Slot of the member in the profile.
    pub member: u32,
    /// Its weight, at least 1.
    pub weight: u32,
    /// The port that keeps it selectable.
    pub watch: Option<u32>,
}

/// A group of a selector.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Group {
    members: Box<[GroupMember]>,
    /// Sum of the weights up to and with each member.
    until: Box<[u64]>,
    watches: bool,
}

impl Group {
    /// A group of these, in this order.
    pub fn new(members: impl IntoIterator<Item = GroupMember>) -> Self {
        let members: Box<[GroupMember]> = members.into_iter().collect();
        let mut sum = 0;
        let add = |m: &GroupMember| {
            sum += u64::from(m.weight);
            sum
        };
        Self {
            until: members.iter().map(add).collect(),
            watches: members.iter().any(|m| m.watch.is_some()),
            members,
        }
    }

    /// Its members.
    pub fn members(&self) -> &[GroupMember] {
        &self.members
    }

    /// The slot of the chosen member; none if there is none. `choose` gets the sum of the weights of the members whose
    /// watch port `is_up`, and returns a number below it.
    #[inline]
    pub fn pick(&self, is_up: impl Fn(u32) -> bool, choose: impl FnOnce(u64) -> u64) -> Option<u32> {
        if !self.watches {
            let total = self.until.last().copied().filter(|t| *t > 0)?;
            let chosen = choose(total);
            let at = self.until.partition_point(|until| *until <= chosen);
            return self.members.get(at).map(|m| m.member);
        }
        let live = || self.members.iter().filter(|m| m.watch.is_none_or(&is_up));
        let total = live().map(|m| u64::from(m.weight)).sum();
        if total == 0 {
            return None;
        }
        let mut chosen = choose(total);
        // A port may go down meanwhile; then take the last member that is left.
        let mut last = None;
        for member in live() {
            last = Some(member.member);
            match chosen.checked_sub(member.weight.into()) {
                Some(rest) => chosen = rest,
                None => break,
            }
        }
        last
    }
}

/// One copy of a packet that the replication engine makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Port it leaves by.
    pub port: u32,
    /// `egress_rid` it carries.
    pub instance: u16,
    /// Ports and `egress_rid`s to use instead, best first, while the ones before are down.
    pub backups: Box<[(u32, u16)]>,
}

impl Replica {
    /// Port and `egress_rid` to use now: of a replica with backups the first whose port is up, or none.
    #[inline]
    pub fn live(&self, is_up: impl Fn(u32) -> bool) -> Option<(u32, u16)> {
        let first = (self.port, self.instance);
        if self.backups.is_empty() {
            return Some(first);
        }
        let mut all = std::iter::once(first).chain(self.backups.iter().copied());
        all.find(|(port, _)| is_up(*port))
    }
}

/// Where mirrored packets go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CloneSession {
    /// Copies.
    pub replicas: Vec<Replica>,
    /// Octets that are kept; 0 keeps all.
    pub truncate_bytes: u32,
}

/// Members and groups of one action profile, by slot.
#[derive(Debug, Clone)]
struct Profile {
    members: Records,
    groups: Vec<Option<Arc<Group>>>,
}

/// One copy.
#[derive(Debug)]
pub struct Tables {
    tables: Vec<Table>,
    profiles: Vec<Profile>,
    multicast: HashMap<u32, Arc<[Replica]>>,
    clones: HashMap<u32, Arc<CloneSession>>,
    /// A value set is a table whose entries have no action.
    value_sets: Vec<Table>,
}

/// Words of a change in the log.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    pub(super) fn of(self, words: &[u64]) -> &[u64] {
        words.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// A change as it is made to both copies; words are in the log, records on their shelves.
#[derive(Debug)]
pub(super) enum Change {
    Insert {
        table: u32,
        place: u32,
        pattern: Span,
    },
    Replace {
        table: u32,
        old: u32,
        new: u32,
        pattern: Span,
    },
    Remove {
        table: u32,
        place: u32,
        pattern: Span,
    },
    Default {
        table: u32,
        leads: Leads,
        args: Span,
    },
    Member {
        profile: u32,
        slot: u32,
        leads: Leads,
        args: Span,
    },
    Group {
        profile: u32,
        slot: u32,
        group: Option<Arc<Group>>,
    },
    Multicast {
        id: u32,
        replicas: Option<Arc<[Replica]>>,
    },
    Clone {
        id: u32,
        session: Option<Arc<CloneSession>>,
    },
    ClearValueSet {
        set: u32,
    },
    ValueSetMember {
        set: u32,
        place: u32,
        pattern: Span,
    },
}

impl Change {
    /// Table and pattern of a change of an entry.
    fn of_entry(&self) -> Option<(u32, Span)> {
        match self {
            Self::Insert { table, pattern, .. }
            | Self::Replace { table, pattern, .. }
            | Self::Remove { table, pattern, .. } => Some((*table, *pattern)),
            _ => None,
        }
    }
}

/// Holds the records of all tables.
#[derive(Debug, Default)]
pub(super) struct Shelves {
    pub(super) tables: Vec<Shelf>,
    pub(super) value_sets: Vec<Shelf>,
}

impl Tables {
    /// Two copies of empty tables, and what holds their records: of each table its key and the words that its actions
    /// take at most; words of each profile's actions; keys of the value sets.
    pub(super) fn new(
        tables: impl IntoIterator<Item = (KeyLayout, usize)>,
        profiles: impl IntoIterator<Item = usize>,
        value_sets: impl IntoIterator<Item = KeyLayout>,
    ) -> ([Self; 2], Shelves) {
        let profile = |args| Profile {
            members: Records::new(args),
            groups: Vec::new(),
        };
        let tables = tables.into_iter().map(|(layout, args)| Table::new(layout, args));
        let (tables, of_tables) = tables.unzip();
        let value_sets = value_sets.into_iter().map(|layout| Table::new(layout, 0));
        let (value_sets, of_value_sets) = value_sets.unzip();
        let copy = Self {
            tables,
            profiles: profiles.into_iter().map(profile).collect(),
            multicast: HashMap::default(),
            clones: HashMap::default(),
            value_sets,
        };
        let shelves = Shelves {
            tables: of_tables,
            value_sets: of_value_sets,
        };
        let twin = Self {
            tables: copy.tables.iter().map(Table::twin).collect(),
            profiles: copy.profiles.clone(),
            multicast: HashMap::default(),
            clones: HashMap::default(),
            value_sets: copy.value_sets.iter().map(Table::twin).collect(),
        };
        ([copy, twin], shelves)
    }

    /// A table.
    #[inline]
    pub fn table(&self, table: usize) -> Option<&Table> {
        self.tables.get(table)
    }

    /// A member's action; vacant if there is no such member.
    #[inline]
    pub fn member(&self, profile: usize, slot: u32) -> Option<Record<'_>> {
        Some(self.profiles.get(profile)?.members.get(slot))
    }

    /// A group.
    #[inline]
    pub fn group(&self, profile: usize, slot: u32) -> Option<&Group> {
        self.profiles.get(profile)?.groups.get(slot as usize)?.as_deref()
    }

    /// The copies that a multicast group makes; none if there is no such group.
    #[inline]
    pub fn multicast(&self, id: u32) -> &[Replica] {
        self.multicast.get(&id).map_or(&[], |r| r)
    }

    /// A clone session.
    #[inline]
    pub fn clone_session(&self, id: u32) -> Option<&CloneSession> {
        self.clones.get(&id).map(|s| &**s)
    }

    /// Whether a key is in a value set.
    #[inline]
    pub fn in_value_set(&self, set: usize, key: &[u64]) -> bool {
        self.value_sets.get(set).is_some_and(|s| s.lookup(key).is_some())
    }

    /// Bytes that this copy takes, without the records that it shares, multicast groups and clone sessions.
    pub fn bytes(&self) -> usize {
        let tables = self.tables.iter().chain(&self.value_sets).map(Table::bytes);
        let profiles = self.profiles.iter().map(|p| {
            let groups = p.groups.iter().flatten();
            p.members.bytes() + groups.map(|g| g.members.len() * 24).sum::<usize>()
        });
        tables.sum::<usize>() + profiles.sum::<usize>()
    }

    /// A table, to change.
    pub(super) fn table_mut(&mut self, table: usize) -> Option<&mut Table> {
        self.tables.get_mut(table)
    }

    /// A value set.
    pub(super) fn value_set(&self, set: usize) -> Option<&Table> {
        self.value_sets.get(set)
    }

    /// Brings into the cache what the next changes will read: changes of the same table as the first one,
    /// at most [`ABREAST`](super::lpm::ABREAST).
    pub(super) fn fetch(&self, changes: &[Change], words: &[u64]) {
        let Some((table, _)) = changes.first().and_then(Change::of_entry) else {
            return;
        };
        if let Some(of) = self.tables.get(table as usize).filter(|of| of.fetches()) {
            let patterns = changes.iter().filter_map(Change::of_entry).filter(|(t, _)| *t == table);
            of.fetch(patterns.map(|(_, pattern)| pattern.of(words)));
        }
    }

    /// Makes a change.
    pub(super) fn apply(&mut self, change: &Change, words: &[u64], shelves: &Shelves) {
        match change {
            Change::Insert { table, place, pattern } => {
                let at = *table as usize;
                if let (Some(table), Some(shelf)) = (self.tables.get_mut(at), shelves.tables.get(at)) {
                    table.insert(*place, pattern.of(words), shelf);
                }
            }
            Change::Replace {
                table,
                old,
                new,
                pattern,
            } => {
                let at = *table as usize;
                if let (Some(table), Some(shelf)) = (self.tables.get_mut(at), shelves.tables.get(at)) {
                    table.replace(*old, *new, pattern.of(words), shelf);
                }
            }
            Change::Remove { table, place, pattern } => {
                if let Some(t) = self.tables.get_mut(*table as usize) {
                    t.remove(*place, pattern.of(words));
                }
            }
            Change::Default { table, leads, args } => {
                if let Some(t) = self.tables.get_mut(*table as usize) {
                    t.set_default(*leads, args.of(words));
                }
            }
            Change::Member {
                profile,
                slot,
                leads,
                args,
            } => {
                if let Some(p) = self.profiles.get_mut(*profile as usize) {
                    p.members.set(*slot, *leads, args.of(words));
                }
            }
            Change::Group { profile, slot, group } => {
                let Some(p) = self.profiles.get_mut(*profile as usize) else {
                    return;
                };
                let at = *slot as usize;
                if p.groups.len() <= at {
                    p.groups.resize(at + 1, None);
                }
                if let Some(place) = p.groups.get_mut(at) {
                    place.clone_from(group);
                }
            }
            Change::Multicast { id, replicas } => set(&mut self.multicast, *id, replicas),
            Change::Clone { id, session } => set(&mut self.clones, *id, session),
            Change::ClearValueSet { set } => {
                if let Some(s) = self.value_sets.get_mut(*set as usize) {
                    s.clear();
                }
            }
            Change::ValueSetMember { set, place, pattern } => {
                let at = *set as usize;
                if let (Some(set), Some(shelf)) = (self.value_sets.get_mut(at), shelves.value_sets.get(at)) {
                    set.insert(*place, pattern.of(words), shelf);
                }
            }
        }
    }
}

fn set<T: Clone>(map: &mut HashMap<u32, T>, id: u32, value: &Option<T>) {
    match value {
        Some(value) => map.insert(id, value.clone()),
        None => map.remove(&id),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_falls_back_to_the_first_port_that_is_up() {
        let replica = Replica {
            port: 1,
            instance: 7,
            backups: [(2, 8), (3, 9)].into(),
        };
        let live = |down: &[u32]| replica.live(|port| !down.contains(&port));
        assert_eq!(live(&[]), Some((1, 7)));
        assert_eq!(live(&[1]), Some((2, 8)));
        assert_eq!(live(&[1, 2]), Some((3, 9)));
        assert_eq!(live(&[1, 2, 3]), None);
        let alone = Replica {
            backups: Box::default(),
            ..replica.clone()
        };
        assert_eq!(alone.live(|_| false), Some((1, 7)), "without backups the port decides");
    }

    #[test]
    fn weights_are_shares_and_ports_that_are_down_have_none() {
        let member = |member, weight, watch| GroupMember { member, weight, watch };
        let group = Group::new([member(5, 2, None), member(6, 1, Some(9)), member(7, 1, None)]);
        let shares = |down: &[u32]| -> Vec<u32> {
            let pick = |n| group.pick(|port| !down.contains(&port), |total| n % total);
            (0..4).map(|n| pick(n).unwrap()).collect()
        };
        assert_eq!(shares(&[]), [5, 5, 6, 7]);
        assert_eq!(shares(&[9]), [5, 5, 7, 5]);
        let plain = Group::new([member(5, 2, None), member(6, 1, None)]);
        let picked: Vec<_> = (0..3).map(|n| plain.pick(|_| false, |_| n)).collect();
        assert_eq!(picked, [Some(5), Some(5), Some(6)]);
        assert_eq!(Group::default().pick(|_| true, |_| 0), None);
        assert_eq!(
            Group::new([member(1, 1, Some(2))]).pick(|_| false, |_| 0),
            None,
            "no port is up"
        );
    }
}
