//! A store without a disk, for tests and for measuring the engine alone: so no key costs more because
//! others exist, but a scan has to sort.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Compare, Op, Revision, Scanned, Store, StoreError, StoreTransaction, Versioned, Visit, expect, printable};

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

    async fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<Scanned, StoreError> {
        let inner = self.lock();
        let mut found: Vec<_> = inner.data.iter().filter(|(k, _)| k.starts_with(prefix)).collect();
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
        let mut undo: Vec<(Vec<u8>, Option<Versioned>)> = Vec::new();
        let before = inner.revision;
        for transaction in transactions {
            if let Err(refused) = inner.carry_out(transaction, &mut undo) {
                inner.revision = before;
                for (key, old) in undo.into_iter().rev() {
                    inner.set(key, old);
                }
                return Err(refused);
            }
        }
        Ok(inner.revision)
    }
}

impl Inner {
    fn set(&mut self, key: Vec<u8>, value: Option<Versioned>) -> Option<Versioned> {
        match value {
            Some(value) => self.data.insert(key, value),
            None => self.data.remove(&key),
        }
    }

    fn carry_out(
        &mut self,
        transaction: StoreTransaction,
        undo: &mut Vec<(Vec<u8>, Option<Versioned>)>,
    ) -> Result<(), StoreError> {
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
        for op in transaction.ops {
            let (key, value) = match op {
                Op::Put(key, value) => (key, Some(Versioned { revision, value })),
                Op::Delete(key) => (key, None),
            };
            let old = self.set(key.clone(), value);
            undo.push((key, old));
        }
        Ok(())
    }
}
