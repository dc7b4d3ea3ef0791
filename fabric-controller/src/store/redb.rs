//! The single-node store: redb, a copy-on-write B+tree in one file.
//!
//! **Tables.** Objects by key ([`super::record`]), the log of the last revisions ([`super::log`]) and a few numbers about
//! the store itself. All three change in one transaction of redb, which is durable when it returns.
//!
//! **Faults.** After a disk error redb refuses everything, and it is unknown whether the last transaction is in the
//! file. So the file is opened again before the next transaction, and transactions that were reported as failed are
//! undone with the help of the log. A file that is deleted or replaced while it is open is noticed before and after
//! every transaction.

mod backup;
mod file;
mod schema;
mod write;

use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{Database, DatabaseError, ReadableDatabase, ReadableTable, TableDefinition};
use uuid::Uuid;

use super::log::Entry;
use super::record;
use super::{Damaged, Past, Revision, Scanned, Store, StoreError, StoreTransaction, Versioned, Visit};
pub use backup::{Content, restore};
use file::Identity;
pub use write::Window;

/// Key to record.
const OBJECTS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("objects");
/// Revision to entry.
const LOG: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("log");
/// Numbers about the store.
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const REVISION: &str = "revision";
/// Octets of all entries of the log.
const LOG_BYTES: &str = "log_bytes";

/// Size of redb's page cache, in octets. Commits read the same few pages again and again: inner pages, and the ends of
/// the log and of the quarantine. All other pages are read once, at the start; the kernel caches them while there is
/// room.
const CACHE: usize = 64 << 20;

/// How the file is opened; tests put a failing disk here.
type Opener = dyn Fn(&Path) -> Result<Database, DatabaseError> + Send + Sync;

/// The open file.
struct Open {
    /// None after an error, until it is opened again.
    db: Option<Database>,
    identity: Identity,
    /// The last revision that was reported as durable.
    acknowledged: Revision,
}

struct Inner {
    path: PathBuf,
    opener: Box<Opener>,
    window: Window,
    uuid: Uuid,
    open: Mutex<Open>,
}

/// A store in one file. Clones share it.
#[derive(Clone)]
pub struct RedbStore(Arc<Inner>);

/// Why a call failed.
enum Failure {
    /// An expectation was wrong; the file is intact.
    Compare(StoreError),
    /// The disk or the file failed.
    Storage(Box<redb::Error>),
    /// The disk or the file failed; the text says how.
    Words(String),
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(e: E) -> Self {
        Self::Storage(Box::new(e.into()))
    }
}

impl Failure {
    fn at(self, path: &Path) -> StoreError {
        let message = match self {
            Self::Compare(e) => return e,
            Self::Storage(e) => e.to_string(),
            Self::Words(words) => words,
        };
        StoreError::Storage {
            path: path.display().to_string(),
            message,
        }
    }
}

fn create(path: &Path) -> Result<Database, DatabaseError> {
    Database::builder().set_cache_size(CACHE).create(path)
}

impl RedbStore {
    /// Highest file format that this version reads. The format of a file is also in a file beside it, as a number in
    /// `NAME.format`.
    pub const FORMAT: u64 = schema::FORMAT;

    /// Opens or creates the file. Only one process can have it open. A file of an older format is converted.
    ///
    /// # Errors
    /// [`StoreError`], which names the file: it cannot be opened, is damaged, is not a database, or is of a later
    /// version.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_keeping(path, Window::default())
    }

    /// As [`RedbStore::open`], with a log of the size `window`.
    ///
    /// # Errors
    /// As [`RedbStore::open`].
    pub fn open_keeping(path: impl AsRef<Path>, window: Window) -> Result<Self, StoreError> {
        Self::open_with(path.as_ref(), window, Box::new(create))
    }

    fn open_with(path: &Path, window: Window, opener: Box<Opener>) -> Result<Self, StoreError> {
        let db = opener(path).map_err(|e| Failure::from(e).at(path))?;
        let (uuid, acknowledged) = schema::prepare(&db, path)?;
        let open = Open {
            db: Some(db),
            identity: Identity::of(path).map_err(|e| e.at(path))?,
            acknowledged,
        };
        Ok(Self(Arc::new(Inner {
            path: path.to_owned(),
            opener,
            window,
            uuid,
            open: Mutex::new(open),
        })))
    }

    /// Identity of the store: chosen at random when it was created, never changed. Copies of the file have the same one.
    pub fn uuid(&self) -> Uuid {
        self.0.uuid
    }

    /// A number derived from the identity, by which devices remember the store; never 0.
    pub fn mark(&self) -> u32 {
        let (first, ..) = self.0.uuid.as_fields();
        first.max(1)
    }

    /// Runs `work` off the async threads: it waits for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = Arc::clone(&self.0);
        let ended = |e| Failure::Words(format!("the work ended early: {e}")).at(&self.0.path);
        tokio::task::spawn_blocking(move || work(&inner)).await.map_err(ended)?
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read<T>(&self, work: impl FnOnce(&Database) -> Result<T, Failure>) -> Result<T, StoreError> {
        let open = self.lock();
        let closed = || Failure::Words("is closed after an error".into());
        let db = open.db.as_ref().ok_or_else(closed);
        db.and_then(work).map_err(|e| e.at(&self.path))
    }

    /// Commits a group. If an earlier disk error has closed the file, it is opened again first; a disk error closes it.
    fn commit(&self, transactions: &[StoreTransaction]) -> Result<Revision, StoreError> {
        let mut open = self.lock();
        let done = self.commit_open(&mut open, transactions);
        if let Err(Failure::Storage(_) | Failure::Words(_)) = &done {
            // Nobody knows whether the file has it; that is checked when the file is opened again.
            open.db = None;
        }
        done.map_err(|e| e.at(&self.path))
    }

    fn commit_open(&self, open: &mut Open, transactions: &[StoreTransaction]) -> Result<Revision, Failure> {
        let db = self.reopened(open)?;
        let txn = db.begin_write()?;
        let revision = write::group(&txn, transactions, self.window)?;
        txn.commit()?;
        open.identity.still_at(&self.path)?;
        open.acknowledged = revision;
        Ok(revision)
    }

    /// The database. If it was closed after an error, it is opened again first, and transactions that were reported as
    /// failed are undone.
    fn reopened<'a>(&self, open: &'a mut Open) -> Result<&'a Database, Failure> {
        open.identity.still_at(&self.path)?;
        if open.db.is_none() {
            let db = (self.opener)(&self.path)?;
            write::take_back(&db, open.acknowledged)?;
            open.db = Some(db);
        }
        open.db.as_ref().ok_or_else(|| Failure::Words("is closed".into()))
    }

    /// Whether a transaction could probably be committed now; does not commit one. After an error, tries to open the file.
    fn check(&self) -> Result<(), StoreError> {
        let mut open = self.lock();
        self.reopened(&mut open).map(|_| ()).map_err(|e| e.at(&self.path))
    }
}

fn scan(db: &Database, (from, before): (&[u8], Option<&[u8]>), visit: Visit<'_>) -> Result<Scanned, Failure> {
    let read = db.begin_read()?;
    let revision = read.open_table(META)?.get(REVISION)?.map_or(0, |v| v.value());
    let objects = read.open_table(OBJECTS)?;
    let mut damaged = Vec::new();
    let end = before.map_or(Bound::Unbounded, Bound::Excluded);
    for row in objects.range::<&[u8]>((Bound::Included(from), end))? {
        let (key, row) = row?;
        let record = record::decode(key.value(), row.value());
        let (revision, value) = (record.revision, record.value.to_vec());
        if !record.sound {
            damaged.push(Damaged {
                key: key.value().to_vec(),
                value,
                reason: "its checksum is wrong".into(),
            });
        } else if visit(key.value(), &Versioned { revision, value }).is_break() {
            break;
        }
    }
    Ok(Scanned { revision, damaged })
}

fn past(db: &Database, from: Revision, to: Revision, limit: usize) -> Result<Past, Failure> {
    let read = db.begin_read()?;
    let log = read.open_table(LOG)?;
    let mut past = Past {
        oldest: log.first()?.map(|(revision, _)| revision.value()),
        ..Past::default()
    };
    if to >= from {
        return Ok(past);
    }
    for row in log.range(to + 1..=from)?.rev().take(limit) {
        let (revision, stored) = row?;
        let entry = Entry::decode(revision.value(), stored.value());
        let damaged = || Failure::Words(format!("the log of revision {} is damaged", revision.value()));
        past.entries.push((revision.value(), entry.ok_or_else(damaged)?));
    }
    Ok(past)
}

impl Store for RedbStore {
    async fn revision(&self) -> Result<Revision, StoreError> {
        let work = |db: &Database| {
            Ok(db
                .begin_read()?
                .open_table(META)?
                .get(REVISION)?
                .map_or(0, |v| v.value()))
        };
        self.blocking(move |inner| inner.read(work)).await
    }

    async fn get(&self, key: &[u8]) -> Result<Option<Versioned>, StoreError> {
        let key = key.to_vec();
        let work = move |db: &Database| {
            let objects = db.begin_read()?.open_table(OBJECTS)?;
            let Some(row) = objects.get(key.as_slice())? else {
                return Ok(None);
            };
            let record = record::decode(&key, row.value());
            let damaged = || Failure::Words(format!("the value of `{}` is damaged", super::printable(&key)));
            record.sound.then_some(()).ok_or_else(damaged)?;
            Ok(Some(Versioned {
                revision: record.revision,
                value: record.value.to_vec(),
            }))
        };
        self.blocking(move |inner| inner.read(work)).await
    }

    async fn scan_range(&self, from: &[u8], before: Option<&[u8]>, visit: Visit<'_>) -> Result<Scanned, StoreError> {
        // On this thread: it happens at the start only, and `visit` borrows.
        self.0.read(|db| scan(db, (from, before), visit))
    }

    async fn commit_group(&self, transactions: Vec<StoreTransaction>) -> Result<Revision, StoreError> {
        self.blocking(move |inner| inner.commit(&transactions)).await
    }

    async fn past(&self, from: Revision, to: Revision, limit: usize) -> Result<Past, StoreError> {
        self.blocking(move |inner| inner.read(|db| past(db, from, to, limit)))
            .await
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.blocking(Inner::check).await
    }

    async fn backup(&self) -> Result<Option<(Revision, std::fs::File)>, StoreError> {
        self.blocking(Inner::backup).await.map(Some)
    }
}

#[cfg(test)]
pub(crate) mod tests;
