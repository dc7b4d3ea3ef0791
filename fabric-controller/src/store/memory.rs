//! A store without a disk, for tests and for measuring the engine alone. It is a hash map, so that a key costs the same
//! however many there are; a scan has to sort.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::log::{Effect, Entry, now_ms};
use super::{
    Compare, Op, Past, Revision, Scanned, Store, StoreError, StoreTransaction, Versioned, Visit, expect, printable,
};

/// Revisions that are remembered.
const REMEMBERED: usize = 1000;

#[derive(Default)]
struct Inner {
    revision: Revision,
    data: HashMap<Vec<u8>, Versioned>,
    /// The last one belongs to the last revision.
    log: VecDeque<Entry>,
}

/// Keeps everything in memory. Clones share it.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Inner>>);

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy as it is now, which does not change with the original.
    #[cfg(test)]
    pub(crate) fn copy(&self) -> Self {
        let inner = self.lock();
        Self(Arc::new(Mutex::new(Inner {
            revision: inner.revision,
            data: inner.data.clone(),
            log: VecDeque::new(),
        })))
    }
}

impl Store for MemoryStore {
    async fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.lock().revision)
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        Ok(self.lock().data.get(key).cloned())
    }

    async fn scan_range(&self, from: &[u8], before: Option<&[u8]>, visit: Visit<'_>) -> Result<Scanned, StoreError> {
        let inner = self.lock();
        let within = |key: &[u8]| key >= from && before.is_none_or(|before| key < before);
        let mut found: Vec<_> = inner.data.iter().filter(|(key, _)| within(key.as_slice())).collect();
        found.sort_unstable_by_key(|(key, _)| *key);
        for (key, value) in found {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(Scanned {
            revision: inner.revision,
            damaged: Vec::new(),
        })
    }

    async fn commit_group(&self, transactions: Vec<StoreTransaction>) -> Result<Revision, StoreError> {
        let mut inner = self.lock();
        let mut done = Vec::new();
        let before = inner.revision;
        for transaction in transactions {
            match inner.carry_out(transaction) {
                Ok(entry) => done.push(entry),
                Err(refused) => {
                    inner.revision = before;
                    for effect in done
                        .into_iter()
                        .rev()
                        .flat_map(|entry: Entry| entry.effects.into_iter().rev())
                    {
                        let old = effect.before.map(|(revision, value)| Versioned { revision, value });
                        inner.set(effect.key, old);
                    }
                    return Err(refused);
                }
            }
        }
        inner.log.extend(done);
        let old = inner.log.len().saturating_sub(REMEMBERED);
        inner.log.drain(..old);
        Ok(inner.revision)
    }

    async fn past(&self, from: Revision, to: Revision, limit: usize) -> Result<Past, StoreError> {
        let inner = self.lock();
        let oldest = inner.revision + 1 - inner.log.len() as Revision;
        let all = inner
            .log
            .iter()
            .rev()
            .zip(0..)
            .map(|(entry, back)| (inner.revision - back, entry));
        let wanted = all.filter(|(revision, _)| *revision <= from && *revision > to);
        Ok(Past {
            entries: wanted
                .take(limit)
                .map(|(revision, entry)| (revision, entry.clone()))
                .collect(),
            oldest: (!inner.log.is_empty()).then_some(oldest),
        })
    }
}

impl Inner {
    fn set(&mut self, key: Vec<u8>, value: Option<Versioned>) -> Option<Versioned> {
        match value {
            Some(value) => self.data.insert(key, value),
            None => self.data.remove(&key),
        }
    }

    fn carry_out(&mut self, transaction: StoreTransaction) -> Result<Entry, StoreError> {
        for compare in &transaction.compares {
            match compare {
                Compare::StoreRevision(r) => expect(|| "the store".into(), *r, self.revision)?,
                Compare::KeyRevision(key, r) => {
                    expect(|| printable(key), *r, self.data.get(key).map_or(0, |v| v.revision))?;
                }
            }
        }
        self.revision += 1;
        let revision = self.revision;
        let mut effects = Vec::new();
        for op in transaction.ops {
            let (key, after) = match op {
                Op::Put(key, value) => (key, Some(value)),
                Op::Delete(key) => (key, None),
            };
            let value = after.clone().map(|value| Versioned { revision, value });
            let before = self.set(key.clone(), value).map(|old| (old.revision, old.value));
            if before.is_some() || after.is_some() {
                effects.push(Effect { key, before, after });
            }
        }
        Ok(Entry {
            time_ms: now_ms(),
            note: transaction.note,
            effects,
        })
    }
}
