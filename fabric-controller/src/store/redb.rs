//! The single-node store: redb, a copy-on-write B+tree in one checksummed file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};

use super::{Compare, Op, Revision, Store, StoreError, StoreTransaction, Versioned, Visit, expect, printable};

/// Key to (revision that wrote it, value).
const DATA: TableDefinition<'_, &[u8], (u64, &[u8])> = TableDefinition::new("data");
/// `revision` and `schema`.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const REVISION: &str = "revision";
const SCHEMA: &str = "schema";
/// Version of the layout of keys and values; raised together with a migration.
const SCHEMA_VERSION: u64 = 1;

/// A store in one file. Clones share it.
#[derive(Clone)]
pub struct RedbStore {
    db: Arc<Database>,
    path: Arc<PathBuf>,
}

fn storage(path: &Path, e: impl std::fmt::Display) -> StoreError {
    StoreError::Storage {
        path: path.display().to_string(),
        message: e.to_string(),
    }
}

impl RedbStore {
    /// Opens or creates the file. Only one process can have it open.
    ///
    /// # Errors
    /// [`StoreError`], which names the file: it cannot be opened, is damaged, is not a
    /// database, or is of a later version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref();
        let db = Database::create(path).map_err(|e| storage(path, e))?;
        let store = Self {
            db: Arc::new(db),
            path: Arc::new(path.to_owned()),
        };
        store.prepare()?;
        Ok(store)
    }

    fn prepare(&self) -> Result<(), StoreError> {
        let err = |e: redb::Error| storage(&self.path, e);
        let write = self.db.begin_write().map_err(|e| err(e.into()))?;
        write.open_table(DATA).map_err(|e| err(e.into()))?;
        let found = {
            let mut meta = write.open_table(META).map_err(|e| err(e.into()))?;
            let found = meta.get(SCHEMA).map_err(|e| err(e.into()))?.map(|v| v.value());
            if found.is_none() {
                meta.insert(SCHEMA, SCHEMA_VERSION).map_err(|e| err(e.into()))?;
            }
            found.unwrap_or(SCHEMA_VERSION)
        };
        if found != SCHEMA_VERSION {
            let path = self.path.display().to_string();
            return Err(StoreError::Schema {
                path,
                found,
                expected: SCHEMA_VERSION,
            });
        }
        write.commit().map_err(|e| err(e.into()))
    }

    /// Runs `work` off the async threads: it waits for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, StoreError> {
        let db = Arc::clone(&self.db);
        match tokio::task::spawn_blocking(move || work(&db)).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(Failure::Compare(e))) => Err(e),
            Ok(Err(Failure::Storage(e))) => Err(storage(&self.path, e)),
            Err(e) => Err(storage(&self.path, e)),
        }
    }
}

enum Failure {
    Compare(StoreError),
    Storage(Box<redb::Error>),
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(e: E) -> Self {
        Self::Storage(Box::new(e.into()))
    }
}

fn write(txn: &WriteTransaction, transaction: &StoreTransaction) -> Result<Revision, Failure> {
    let mut meta = txn.open_table(META)?;
    let mut data = txn.open_table(DATA)?;
    let before = meta.get(REVISION)?.map_or(0, |v| v.value());
    for compare in &transaction.compares {
        let met = match compare {
            Compare::StoreRevision(r) => expect(|| "the store".into(), *r, before),
            Compare::KeyRevision(key, r) => {
                let found = data.get(key.as_slice())?.map_or(0, |v| v.value().0);
                expect(|| printable(key), *r, found)
            }
        };
        met.map_err(Failure::Compare)?;
    }
    let revision = before + 1;
    for op in &transaction.ops {
        match op {
            Op::Put(key, value) => {
                data.insert(key.as_slice(), (revision, value.as_slice()))?;
            }
            Op::Delete(key) => {
                data.remove(key.as_slice())?;
            }
        }
    }
    meta.insert(REVISION, revision)?;
    Ok(revision)
}

impl Store for RedbStore {
    async fn revision(&self) -> Result<Revision, StoreError> {
        self.blocking(|db| {
            Ok(db
                .begin_read()?
                .open_table(META)?
                .get(REVISION)?
                .map_or(0, |v| v.value()))
        })
        .await
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        let key = key.to_vec();
        self.blocking(move |db| {
            let found = db.begin_read()?.open_table(DATA)?;
            let found = found.get(key.as_slice())?.map(|v| {
                let (revision, value) = v.value();
                Versioned {
                    revision,
                    value: value.to_vec(),
                }
            });
            Ok(found)
        })
        .await
    }

    async fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> Result<Revision, StoreError> {
        // On this thread: it happens once, at the start, and `visit` borrows.
        let err = |e: redb::Error| storage(&self.path, e);
        let read = self.db.begin_read().map_err(|e| err(e.into()))?;
        let meta = read.open_table(META).map_err(|e| err(e.into()))?;
        let revision = meta.get(REVISION).map_err(|e| err(e.into()))?.map_or(0, |v| v.value());
        let data = read.open_table(DATA).map_err(|e| err(e.into()))?;
        for row in data.range(prefix..).map_err(|e| err(e.into()))? {
            let (key, value) = row.map_err(|e| err(e.into()))?;
            if !key.value().starts_with(prefix) {
                break;
            }
            let (revision, bytes) = value.value();
            if visit(
                key.value(),
                &Versioned {
                    revision,
                    value: bytes.to_vec(),
                },
            )
            .is_break()
            {
                break;
            }
        }
        Ok(revision)
    }

    async fn commit(&self, transaction: StoreTransaction) -> Result<Revision, StoreError> {
        self.blocking(move |db| {
            let txn = db.begin_write()?;
            let revision = write(&txn, &transaction)?;
            txn.commit()?;
            Ok(revision)
        })
        .await
    }
}
