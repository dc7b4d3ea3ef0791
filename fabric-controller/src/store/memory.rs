//! A store without a disk, for tests and for measuring the engine alone.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Compare, Op, Revision, Store, StoreError, StoreTransaction, Versioned, Visit, expect, printable};

#[derive(Default)]
struct Inner {
    revision: Revision,
    data: BTreeMap<Vec<u8>, Versioned>,
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
        for (key, value) in inner
            .data
            .range(prefix.to_vec()..)
            .take_while(|(k, _)| k.starts_with(prefix))
        {
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
