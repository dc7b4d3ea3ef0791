//! Copies of the store: made while it is in use, and put in its place.
//!
//! **Model.** A backup is a file like the store's own, with all tables as of one transaction. It is read with a transaction
//! of its own, which sees one revision while others write (redb keeps the pages that it needs). The copy has no name,
//! so it disappears when nobody has it open any more, even after a crash.
//!
//! **Invariants.** A backup is handed out only after each of its rows was read back and counted. A restore checks the
//! checksum of every row before it puts the file in place, and keeps the file that was there.

use std::fs::File;
use std::io::Seek as _;
use std::path::{Path, PathBuf};

use redb::{Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata};

use super::{Entry, Failure, Inner, LOG, META, OBJECTS, REVISION, schema};
use crate::store::{Revision, StoreError, printable, record};

/// What is in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// Its revision.
    pub revision: Revision,
    /// Rows of objects, users and the like.
    pub rows: u64,
    /// Revisions of the log.
    pub logged: u64,
}

fn words(what: &str) -> impl FnOnce(std::io::Error) -> Failure + use<> {
    let what = what.to_owned();
    move |error| Failure::Words(format!("{what}: {error}"))
}

fn content(read: &ReadTransaction) -> Result<Content, Failure> {
    Ok(Content {
        revision: read.open_table(META)?.get(REVISION)?.map_or(0, |v| v.value()),
        rows: read.open_table(OBJECTS)?.len()?,
        logged: read.open_table(LOG)?.len()?,
    })
}

/// Copies every table.
fn copy(from: &ReadTransaction, to: &Database) -> Result<(), Failure> {
    let txn = to.begin_write()?;
    {
        let (source, mut target) = (from.open_table(META)?, txn.open_table(META)?);
        for row in source.iter()? {
            let (key, value) = row?;
            target.insert(key.value(), value.value())?;
        }
        let (source, mut target) = (from.open_table(OBJECTS)?, txn.open_table(OBJECTS)?);
        for row in source.iter()? {
            let (key, value) = row?;
            target.insert(key.value(), value.value())?;
        }
        let (source, mut target) = (from.open_table(LOG)?, txn.open_table(LOG)?);
        for row in source.iter()? {
            let (key, value) = row?;
            target.insert(key.value(), value.value())?;
        }
    }
    txn.commit()?;
    Ok(())
}

impl Inner {
    /// A copy of the store as of the last transaction. Changes go on meanwhile.
    ///
    /// # Errors
    /// There is no room for it beside the store, or the store cannot be read.
    pub(super) fn backup(&self) -> Result<(Revision, File), StoreError> {
        self.write_copy().map_err(|e| e.at(&self.path))
    }

    fn write_copy(&self) -> Result<(Revision, File), Failure> {
        let read = {
            let open = self.lock();
            let db = open
                .db
                .as_ref()
                .ok_or_else(|| Failure::Words("is closed after an error".into()))?;
            db.begin_read()?
        };
        let dir = self.path.parent().unwrap_or(Path::new("."));
        let fail = || words("a copy beside it cannot be written");
        let copied = tempfile::tempfile_in(dir).map_err(fail())?;
        let mut file = copied.try_clone().map_err(fail())?;
        let copied = redb::Builder::new().create_file(copied)?;
        copy(&read, &copied)?;
        let (expected, found) = (content(&read)?, content(&copied.begin_read()?)?);
        if expected != found {
            let words = format!("its copy has {found:?} instead of {expected:?}");
            return Err(Failure::Words(words));
        }
        // Closing it marks it as whole.
        drop(copied);
        file.rewind().map_err(fail())?;
        Ok((found.revision, file))
    }
}

/// Reads every row of a file, and looks at the checksums.
fn verify(db: &Database) -> Result<Content, Failure> {
    let read = db.begin_read()?;
    let format = read.open_table(META)?.get(schema::SCHEMA)?.map(|v| v.value());
    match format {
        Some(format) if format <= schema::FORMAT => {}
        Some(format) => {
            let known = schema::FORMAT;
            return Err(Failure::Words(format!(
                "has format {format}, and this version knows formats up to {known}"
            )));
        }
        None => return Err(Failure::Words("is not a store of a controller".into())),
    }
    for row in read.open_table(OBJECTS)?.iter()? {
        let (key, row) = row?;
        if !record::decode(key.value(), row.value()).sound {
            let key = printable(key.value());
            return Err(Failure::Words(format!("is damaged: the checksum of `{key}` is wrong")));
        }
    }
    for row in read.open_table(LOG)?.iter()? {
        let (revision, entry) = row?;
        if Entry::decode(revision.value(), entry.value()).is_none() {
            let revision = revision.value();
            return Err(Failure::Words(format!(
                "is damaged: the log of revision {revision} cannot be read"
            )));
        }
    }
    content(&read)
}

/// Puts a backup in the place of a store that no controller has open. A store that is there is kept beside it, as
/// `NAME.before-restore`.
///
/// # Errors
/// The backup is damaged or of a later version; a controller is running; there is a store, and `replace` does not say that it
/// may be replaced; there is one from an earlier restore; a file cannot be written.
pub fn restore(backup: &Path, store: &Path, replace: bool) -> Result<Content, StoreError> {
    let part = store.with_extension("restoring");
    let restored = put_in_place(backup, store, &part, replace);
    if restored.is_err() {
        // It may not be there.
        let _ = std::fs::remove_file(&part);
    }
    restored.map_err(|(path, failure)| failure.at(&path))
}

/// A fault of one of the files.
type AtFile = (PathBuf, Failure);

fn of(path: &Path) -> impl FnOnce(Failure) -> AtFile + use<> {
    let path = path.to_owned();
    move |failure| (path, failure)
}

fn io(path: &Path, what: &str) -> impl FnOnce(std::io::Error) -> AtFile + use<> {
    let (of, words) = (of(path), words(what));
    move |error| of(words(error))
}

fn put_in_place(backup: &Path, store: &Path, part: &Path, replace: bool) -> Result<Content, AtFile> {
    let kept = store.with_extension("redb.before-restore");
    let is_there = store.exists();
    if is_there {
        // A damaged store does not open either, and may be replaced: that is what restoring is for.
        if let Err(DatabaseError::DatabaseAlreadyOpen) = Database::open(store) {
            return Err(of(store)(Failure::Words(
                "a controller is running with it: stop it first".into(),
            )));
        }
        if !replace {
            return Err(of(store)(Failure::Words(
                "exists already: use --replace to put the backup in its place".into(),
            )));
        }
        if kept.exists() {
            return Err(of(&kept)(Failure::Words(
                "is there from an earlier restore: move it away first".into(),
            )));
        }
    }
    std::fs::copy(backup, part).map_err(io(backup, "cannot be copied"))?;
    let db = Database::open(part).map_err(|e| of(backup)(e.into()))?;
    let content = verify(&db).map_err(of(backup))?;
    drop(db);
    let whole = File::open(part).and_then(|file| file.sync_all());
    whole.map_err(io(part, "cannot be written"))?;
    if is_there {
        std::fs::rename(store, &kept).map_err(io(store, "cannot be moved away"))?;
    }
    std::fs::rename(part, store).map_err(io(store, "cannot be put in place"))?;
    let dir = store.parent().unwrap_or(Path::new("."));
    let synced = File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(io(store, "cannot be put in place"))?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;
    use crate::store::{Op, RedbStore, Store as _, StoreTransaction};

    fn put(key: &str, value: &str) -> StoreTransaction {
        StoreTransaction {
            ops: vec![Op::Put(key.into(), value.into())],
            ..StoreTransaction::default()
        }
    }

    /// A backup of a store, in a file.
    async fn backup(store: &RedbStore, to: &Path) -> Revision {
        let (revision, mut file) = store.backup().await.unwrap().unwrap();
        let mut octets = Vec::new();
        file.read_to_end(&mut octets).unwrap();
        std::fs::write(to, octets).unwrap();
        revision
    }

    #[tokio::test]
    async fn a_backup_is_of_one_revision_while_others_write_and_comes_back_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let store = RedbStore::open(at("intent.redb")).unwrap();
        for number in 0..100 {
            store.commit(put(&format!("k/{number:03}"), "first")).await.unwrap();
        }
        let writer = {
            let store = store.clone();
            tokio::spawn(async move {
                for number in 0..100 {
                    // Two rows of one transaction: both or none are in the backup.
                    let mut both = put(&format!("l/{number:03}"), "left");
                    both.ops.extend(put(&format!("r/{number:03}"), "right").ops);
                    store.commit(both).await.unwrap();
                }
            })
        };
        let revision = backup(&store, &at("backup")).await;
        writer.await.unwrap();
        assert!((100..=200).contains(&revision));
        let files = std::fs::read_dir(dir.path()).unwrap().count();
        assert_eq!(files, 3, "the store, its format, the backup");

        let running = restore(&at("backup"), &at("intent.redb"), true)
            .unwrap_err()
            .to_string();
        assert!(running.contains("a controller is running"), "{running}");
        let uuid = store.uuid();
        drop(store);
        let there = restore(&at("backup"), &at("intent.redb"), false)
            .unwrap_err()
            .to_string();
        assert!(there.contains("exists already"), "{there}");
        let content = restore(&at("backup"), &at("intent.redb"), true).unwrap();
        assert_eq!((content.revision, content.logged), (revision, revision));
        assert_eq!(content.rows, 100 + 2 * (revision - 100));
        assert!(at("intent.redb.before-restore").exists());
        let again = restore(&at("backup"), &at("intent.redb"), true)
            .unwrap_err()
            .to_string();
        assert!(again.contains("earlier restore"), "{again}");

        let store = RedbStore::open(at("intent.redb")).unwrap();
        assert_eq!((store.uuid(), store.revision().await.unwrap()), (uuid, revision));
        assert_eq!(store.get(b"k/042").await.unwrap().unwrap().value, b"first");
        let last = format!("r/{:03}", revision - 100);
        assert_eq!(store.get(last.as_bytes()).await.unwrap(), None);
        assert_eq!(store.commit(put("more", "x")).await.unwrap(), revision + 1);
    }

    #[tokio::test]
    async fn an_incomplete_backup_is_refused_and_the_store_stays() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let store = RedbStore::open(at("intent.redb")).unwrap();
        store.commit(put("key", "a value that is easy to find")).await.unwrap();
        backup(&store, &at("backup")).await;
        drop(store);
        let whole = std::fs::read(at("backup")).unwrap();
        let value = b"a value that is easy to find";
        let place = whole.windows(value.len()).position(|w| w == value).unwrap();
        let mut changed = whole.clone();
        changed[place] ^= 1;
        let cut = &whole[..whole.len() / 2];
        for (octets, words) in [
            (changed.as_slice(), "checksum"),
            (cut, "backup"),
            (b"nothing", "backup"),
        ] {
            let mut file = File::create(at("backup")).unwrap();
            file.write_all(octets).unwrap();
            let said = restore(&at("backup"), &at("intent.redb"), true)
                .unwrap_err()
                .to_string();
            assert!(said.contains(words), "{said}");
            assert!(!at("intent.restoring").exists() && !at("intent.redb.before-restore").exists());
        }
        let store = RedbStore::open(at("intent.redb")).unwrap();
        assert_eq!(store.get(b"key").await.unwrap().unwrap().value, value);
    }
}
