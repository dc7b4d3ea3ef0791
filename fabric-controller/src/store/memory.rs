//! A store without a disk, for tests and for measuring the engine alone: so no key costs more because
//! others exist, but a scan has to sort.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Compare, Op, Revision, Store, StoreError, StoreTransaction, Versioned, Visit, expect, printable};

#[derive(Default)]
struct Inner {
    revision: Revision,
    data: HashMap<Vec<u8>, Versioned>,
}

/// Keeps everything in memory.
#[derive(Default)]
pub struct MemoryStore(Mutex<Inner>);

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for MemoryStore {
    async fn revision(&self) -> Result<Revision, StoreError> {
        Ok(self.lock().revision)
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        Ok(self.lock().data.get(key).cloned())
    }

    async fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<Revision, StoreError> {
        let inner = self.lock();
        let mut found: Vec<_> = inner.data.iter().filter(|(k, _)| k.starts_with(prefix)).collect();
        found.sort_unstable_by_key(|(key, _)| *key);
        for (key, value) in found {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(inner.revision)
    }

    async fn commit(&self, transaction: StoreTransaction) -> Result<Revision, StoreError> {
        let mut inner = self.lock();
        for compare in &transaction.compares {
            match compare {
                Compare::StoreRevision(r) => expect(|| "the store".into(), *r, inner.revision)?,
                Compare::KeyRevision(key, r) => {
                    expect(|| printable(key), *r, inner.data.get(key).map_or(0, |v| v.revision))?;
                }
            }
        }
        inner.revision += 1;
        let revision = inner.revision;
        for op in transaction.ops {
            match op {
                Op::Put(key, value) => inner.data.insert(key, Versioned { revision, value }),
                Op::Delete(key) => inner.data.remove(&key),
            };
        }
        Ok(revision)
    }
}
