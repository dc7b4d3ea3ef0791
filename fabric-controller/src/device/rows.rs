//! Both sides of a device by key: what it should hold, and what it was last known to hold.
//!
//! **Model.** A row for each key that one of the sides has. Nearly always both have it and are equal; then they share the
//! entity. The key is not stored, because the entity contains it, and a fabric has millions of rows.
//!
//! **Cost.** A look-up costs one hash and the comparison of a key. Tenants choose parts of keys, so hashes are seeded.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::askers::Askers;
use crate::entity::{Entity, EntityKey};

/// Something that a device should hold, and the contributions that ask for it.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) entity: Arc<Entity>,
    pub(super) askers: Askers,
}

/// What the device was last known to hold under a key.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) entity: Arc<Entity>,
    /// Number of the read-back that found it, or of the last one that had begun when it was written.
    pub(super) round: u32,
}

/// Both sides of a key. Never empty while it is in the table.
#[derive(Debug, Default)]
struct Row {
    wanted: Option<Wanted>,
    held: Option<Held>,
}

impl Row {
    /// An entity that contains the key; none if the row is empty.
    fn entity(&self) -> Option<&Arc<Entity>> {
        let held = || self.held.as_ref().map(|h| &h.entity);
        self.wanted.as_ref().map(|w| &w.entity).or_else(held)
    }

    fn is_named(&self, key: &EntityKey) -> bool {
        self.entity().is_some_and(|entity| entity.is_named(key))
    }

    fn agrees(&self) -> bool {
        self.wanted.as_ref().map(|w| &w.entity) == self.held.as_ref().map(|h| &h.entity)
    }
}

/// The rows of a device.
#[derive(Debug, Default)]
pub(super) struct Rows {
    table: HashTable<Row>,
    hasher: RandomState,
    wanted: usize,
    held: usize,
}

impl Rows {
    fn get(&self, key: &EntityKey) -> Option<&Row> {
        self.table.find(self.hasher.hash_one(key), |row| row.is_named(key))
    }

    fn get_mut(&mut self, key: &EntityKey) -> Option<&mut Row> {
        let hash = self.hasher.hash_one(key);
        self.table.find_mut(hash, |row| row.is_named(key))
    }

    /// Changes a row. It is created if it does not exist, and removed if it is empty afterwards.
    fn change<T>(&mut self, key: &EntityKey, change: impl FnOnce(&mut Row) -> T) -> T {
        let Self { table, hasher, .. } = self;
        let rehash = |row: &Row| row.entity().map_or(0, |entity| hasher.hash_one(entity.key()));
        match table.entry(hasher.hash_one(key), |row| row.is_named(key), rehash) {
            Entry::Occupied(mut found) => {
                let done = change(found.get_mut());
                if found.get().entity().is_none() {
                    found.remove();
                }
                done
            }
            Entry::Vacant(place) => {
                let mut row = Row::default();
                let done = change(&mut row);
                if row.entity().is_some() {
                    place.insert(row);
                }
                done
            }
        }
    }

    /// What the device should hold under a key.
    pub(super) fn wanted(&self, key: &EntityKey) -> Option<&Wanted> {
        self.get(key)?.wanted.as_ref()
    }

    /// As [`Self::wanted`], to change it. The key stays.
    pub(super) fn wanted_mut(&mut self, key: &EntityKey) -> Option<&mut Wanted> {
        self.get_mut(key)?.wanted.as_mut()
    }

    /// What it is known to hold under a key.
    pub(super) fn held(&self, key: &EntityKey) -> Option<&Held> {
        self.get(key)?.held.as_ref()
    }

    /// As [`Self::held`], to change it. The key stays.
    pub(super) fn held_mut(&mut self, key: &EntityKey) -> Option<&mut Held> {
        self.get_mut(key)?.held.as_mut()
    }

    /// From now on it should hold this, or nothing, under a key.
    pub(super) fn set_wanted(&mut self, key: &EntityKey, wanted: Option<Wanted>) {
        let is = usize::from(wanted.is_some());
        let was = self.change(key, |row| std::mem::replace(&mut row.wanted, wanted));
        self.wanted = self.wanted + is - usize::from(was.is_some());
    }

    /// From now on it is known to hold this, or nothing, under a key. Returns what it held before.
    pub(super) fn set_held(&mut self, key: &EntityKey, held: Option<Held>) -> Option<Held> {
        let is = usize::from(held.is_some());
        let was = self.change(key, |row| std::mem::replace(&mut row.held, held));
        self.held = self.held + is - usize::from(was.is_some());
        was
    }

    /// Whether both sides of a key are equal.
    pub(super) fn agree(&self, key: &EntityKey) -> bool {
        self.get(key).is_none_or(Row::agrees)
    }

    /// Keys that it should hold.
    pub(super) fn wanted_count(&self) -> usize {
        self.wanted
    }

    /// Keys that it is known to hold.
    pub(super) fn held_count(&self) -> usize {
        self.held
    }

    /// Everything that it should hold.
    pub(super) fn all_wanted(&self) -> impl Iterator<Item = &Arc<Entity>> {
        self.table.iter().filter_map(|row| Some(&row.wanted.as_ref()?.entity))
    }

    /// Everything that it is known to hold, with whether it should hold something under that key.
    pub(super) fn all_held(&self) -> impl Iterator<Item = (&Held, bool)> {
        self.table
            .iter()
            .filter_map(|row| Some((row.held.as_ref()?, row.wanted.is_some())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ident::Source;
    use vtep_proto::{FdbEntry, HostEntity, MacAddress, Vni};

    fn entity(station: u16, vtep: u8) -> Arc<Entity> {
        let [high, low] = station.to_be_bytes();
        Arc::new(Entity::Host(HostEntity::Fdb(FdbEntry {
            vni: Vni::new(7).unwrap(),
            mac: MacAddress::new([2, 0, 0, 0, high, low]).unwrap(),
            vtep: [10, 0, 0, vtep].into(),
        })))
    }

    #[test]
    fn each_side_comes_and_goes_by_itself_and_is_counted() {
        let mut rows = Rows::default();
        // Enough for the table to grow on the way.
        for n in 0..1000 {
            let (wanted, held) = (entity(n, 1), entity(n, 2));
            let key = wanted.key();
            let askers = Askers::One(Source::Switch(1.into()));
            rows.set_wanted(&key, Some(Wanted { entity: wanted, askers }));
            assert!(!rows.agree(&key));
            assert!(rows.set_held(&key, Some(Held { entity: held, round: 1 })).is_none());
            assert!(!rows.agree(&key), "two entities with one key differ");
        }
        assert_eq!((rows.wanted_count(), rows.held_count()), (1000, 1000));
        for n in 0..1000 {
            let key = entity(n, 1).key();
            let same = Arc::clone(&rows.wanted(&key).unwrap().entity);
            let was = rows.set_held(&key, Some(Held { entity: same, round: 2 }));
            assert_eq!(was.unwrap().entity, entity(n, 2));
            assert!(rows.agree(&key));
            if n % 2 == 0 {
                rows.set_wanted(&key, None);
                assert!(!rows.agree(&key) && rows.held(&key).is_some());
            } else {
                assert!(rows.set_held(&key, None).is_some() && rows.wanted(&key).is_some());
            }
        }
        assert_eq!((rows.wanted_count(), rows.held_count()), (500, 500));
        assert!(rows.all_held().all(|(_, is_wanted)| !is_wanted));
        for n in 0..1000 {
            let key = entity(n, 1).key();
            rows.set_wanted(&key, None);
            rows.set_held(&key, None);
            assert!(rows.agree(&key));
        }
        assert_eq!(rows.table.len(), 0, "a row of which nothing is left goes");
    }
}
