//! Where intent is kept: ordered keys, transactions over many keys with compare, revisions.
//!
//! **Model.** As in etcd: a store has one revision that every committed transaction
//! raises by one; a key remembers the revision that wrote it. A transaction names what it
//! expects ([`Compare`]) and what it does ([`Op`]); if an expectation is wrong, nothing
//! happens. Transactions are committed in groups: one wait for the disk, one revision each.
//! Beside the objects there is a bounded log of what the last revisions changed ([`log`]).
//!
//! **Invariants.** `commit_group` returns when the whole group is durable. A group is
//! seen as a whole or not at all, even after a crash at any instant. A damaged row is
//! noticed when it is read, and named; the other rows are still read.
//!
//! **What it does not do.** It does not know what the bytes mean, and it does not watch for changes by
//! others: only one process writes.

pub mod log;
mod memory;
mod record;
mod redb;

use std::future::Future;
use std::ops::ControlFlow;

pub use self::memory::MemoryStore;
#[cfg(test)]
pub(crate) use self::redb::tests::flip;
pub use self::redb::{Content, RedbStore, Window, restore};

/// Revision of a store or of a key; 0 is before the first transaction.
pub type Revision = u64;

/// What a transaction expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Compare {
    /// The whole store is at this revision.
    StoreRevision(Revision),
    /// The key was last written by this revision; 0: it does not exist.
    KeyRevision(Vec<u8>, Revision),
}

/// What a transaction does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Creates or replaces a value.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a key; one that does not exist is not an error.
    Delete(Vec<u8>),
}

/// A set of operations that happens whole or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreTransaction {
    /// Must all hold.
    pub compares: Vec<Compare>,
    /// Carried out in order.
    pub ops: Vec<Op>,
    /// What the log also keeps: who asked for it, and why.
    pub note: Vec<u8>,
}

/// A value with the revision that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// Revision that wrote it.
    pub revision: Revision,
    /// The value.
    pub value: Vec<u8>,
}

/// Why the store refused or failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An expectation was wrong; nothing happened.
    #[error("store: expectation not met: {0}")]
    Compare(String),
    /// The disk or the file failed; nothing happened. Says which file.
    #[error("store {path}: {message}")]
    Storage {
        /// The file.
        path: String,
        /// The message of the storage library.
        message: String,
    },
    /// The file is of a later version.
    #[error(
        "store {path} has format {found}, written by a later version of the controller; this one knows formats up to \
         {expected}: start that version, or restore a copy of the file from before"
    )]
    Schema {
        /// The file.
        path: String,
        /// Format of the file.
        found: u64,
        /// Greatest format that this program knows.
        expected: u64,
    },
}

impl StoreTransaction {
    /// Octets of its keys and values.
    pub fn bytes(&self) -> usize {
        let octets = |op: &Op| match op {
            Op::Put(key, value) => key.len() + value.len(),
            Op::Delete(key) => key.len(),
        };
        self.ops.iter().map(octets).sum()
    }
}

/// A damaged row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// Its key, which may be damaged too.
    pub key: Vec<u8>,
    /// Its value as it is.
    pub value: Vec<u8>,
    /// What is wrong.
    pub reason: String,
}

/// The result of a scan, besides the rows passed to `visit`.
#[derive(Debug, Default)]
pub struct Scanned {
    /// The revision that it saw.
    pub revision: Revision,
    /// Damaged rows, which were skipped.
    pub damaged: Vec<Damaged>,
}

/// Entries of the log.
#[derive(Debug, Default)]
pub struct Past {
    /// Each with its revision, the newest first.
    pub entries: Vec<(Revision, log::Entry)>,
    /// The oldest revision that the log holds; none if it is empty.
    pub oldest: Option<Revision>,
}

/// Called for each key and value of a scan, in order; `Break` ends it.
pub type Visit<'a> = &'a mut (dyn FnMut(&[u8], &Versioned) -> ControlFlow<()> + Send);

/// A store.
pub trait Store: Send + Sync + 'static {
    /// Revision of the last transaction.
    fn revision(&self) -> impl Future<Output = Result<Revision, StoreError>> + Send;

    /// Value of a key.
    fn get(&self, key: &[u8]) -> impl Future<Output = Result<Option<Versioned>, StoreError>> + Send;

    /// All keys from `from` on and before `before` (`None`: to the last one), in order, as of one revision. Damaged rows
    /// are returned, not visited.
    fn scan_range(
        &self,
        from: &[u8],
        before: Option<&[u8]>,
        visit: Visit<'_>,
    ) -> impl Future<Output = Result<Scanned, StoreError>> + Send;

    /// As [`Self::scan_range`], for all keys that start with `prefix`.
    fn scan(&self, prefix: &[u8], visit: Visit<'_>) -> impl Future<Output = Result<Scanned, StoreError>> + Send {
        async move { self.scan_range(prefix, after(prefix).as_deref(), visit).await }
    }

    /// Commits transactions in order, each as one revision, all or none; durable when it returns. Returns the last
    /// revision. After an error, no part of the group is stored, and none ever will be.
    fn commit_group(
        &self,
        transactions: Vec<StoreTransaction>,
    ) -> impl Future<Output = Result<Revision, StoreError>> + Send;

    /// Commits one transaction; returns its revision.
    fn commit(&self, transaction: StoreTransaction) -> impl Future<Output = Result<Revision, StoreError>> + Send {
        self.commit_group(vec![transaction])
    }

    /// Revisions from `from` down to but not including `to`, the newest first; at most `limit`.
    fn past(&self, from: Revision, to: Revision, limit: usize)
    -> impl Future<Output = Result<Past, StoreError>> + Send;

    /// Whether it can probably be written, without writing. A store that failed tries to recover.
    fn check(&self) -> impl Future<Output = Result<(), StoreError>> + Send {
        async { Ok(()) }
    }

    /// A copy of the whole store at one revision, as a file without a name that is positioned at its start; none if the store
    /// is not in a file. Changes go on meanwhile.
    fn backup(&self) -> impl Future<Output = Result<Option<(Revision, std::fs::File)>, StoreError>> + Send {
        async { Ok(None) }
    }
}

/// The first key after all keys that start with `prefix`; none if there is no such key.
pub(crate) fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|octet| *octet != u8::MAX)?;
    let mut after = prefix.get(..=last)?.to_vec();
    *after.last_mut()? += 1;
    Some(after)
}

/// True when `revision` is what `compare` expects of a key.
fn expect(what: impl Fn() -> String, expected: Revision, found: Revision) -> Result<(), StoreError> {
    if expected == found {
        Ok(())
    } else {
        Err(StoreError::Compare(format!(
            "{} is at revision {found}, expected {expected}",
            what()
        )))
    }
}

/// A key for people.
fn printable(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(k: &str, v: &str) -> Op {
        Op::Put(k.into(), v.into())
    }

    async fn keys<S: Store>(s: &S, prefix: &str) -> Vec<String> {
        let mut found = Vec::new();
        let mut visit = |k: &[u8], v: &Versioned| {
            found.push(format!("{}={}@{}", printable(k), printable(&v.value), v.revision));
            ControlFlow::Continue(())
        };
        s.scan(prefix.as_bytes(), &mut visit).await.unwrap();
        found
    }

    /// What every store must do.
    async fn conforms<S: Store>(s: &S) {
        assert_eq!(s.revision().await.unwrap(), 0);
        let t = StoreTransaction {
            compares: vec![],
            ops: vec![put("a/1", "x"), put("a/2", "y"), put("b", "z")],
            ..StoreTransaction::default()
        };
        assert_eq!(s.commit(t).await.unwrap(), 1);
        assert_eq!(keys(s, "a/").await, ["a/1=x@1", "a/2=y@1"]);

        let wrong = vec![
            Compare::KeyRevision("a/1".into(), 7),
            Compare::KeyRevision("b".into(), 0),
            Compare::StoreRevision(0),
        ];
        for compare in wrong {
            let t = StoreTransaction {
                compares: vec![compare],
                ops: vec![put("a/1", "lost"), put("c", "lost")],
                ..StoreTransaction::default()
            };
            assert!(matches!(s.commit(t).await, Err(StoreError::Compare(_))));
        }
        assert_eq!(
            keys(s, "").await,
            ["a/1=x@1", "a/2=y@1", "b=z@1"],
            "a refused transaction leaves nothing"
        );

        let compares = vec![
            Compare::KeyRevision("a/1".into(), 1),
            Compare::KeyRevision("c".into(), 0),
        ];
        let ops = vec![
            put("a/1", "new"),
            Op::Delete("b".into()),
            Op::Delete("not-there".into()),
        ];
        assert_eq!(
            s.commit(StoreTransaction {
                compares,
                ops,
                ..StoreTransaction::default()
            })
            .await
            .unwrap(),
            2
        );
        assert_eq!(keys(s, "").await, ["a/1=new@2", "a/2=y@1"]);
        assert_eq!(s.get(b"a/1").await.unwrap().unwrap().value, b"new");
        assert_eq!(s.get(b"b").await.unwrap(), None);
        assert_eq!(s.revision().await.unwrap(), 2);

        let one = |ops| StoreTransaction {
            ops,
            ..StoreTransaction::default()
        };
        let second = StoreTransaction {
            compares: vec![Compare::StoreRevision(3), Compare::KeyRevision("d".into(), 3)],
            ops: vec![put("d", "two"), put("e", "two")],
            ..StoreTransaction::default()
        };
        let group = vec![one(vec![put("d", "one")]), second, one(vec![])];
        assert_eq!(s.commit_group(group).await.unwrap(), 5, "each has a revision");
        assert_eq!(keys(s, "").await, ["a/1=new@2", "a/2=y@1", "d=two@4", "e=two@4"]);
        let wrong = StoreTransaction {
            compares: vec![Compare::KeyRevision("d".into(), 4)],
            ops: vec![],
            ..StoreTransaction::default()
        };
        let refused = s.commit_group(vec![one(vec![put("d", "lost")]), wrong]).await;
        assert!(matches!(refused, Err(StoreError::Compare(_))));
        assert_eq!(s.revision().await.unwrap(), 5);
        assert_eq!(keys(s, "").await, ["a/1=new@2", "a/2=y@1", "d=two@4", "e=two@4"]);
        s.check().await.unwrap();
    }

    #[tokio::test]
    async fn memory_conforms() {
        conforms(&MemoryStore::default()).await;
    }

    #[tokio::test]
    async fn redb_conforms_and_persists() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("intent.redb");
        let store = RedbStore::open(&path).unwrap();
        conforms(&store).await;
        drop(store);
        let store = RedbStore::open(&path).unwrap();
        assert_eq!(store.revision().await.unwrap(), 5);
        assert_eq!(keys(&store, "").await, ["a/1=new@2", "a/2=y@1", "d=two@4", "e=two@4"]);
    }

    #[tokio::test]
    async fn a_second_process_and_a_foreign_file_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("intent.redb");
        let _held = RedbStore::open(&path).unwrap();
        let said = RedbStore::open(&path).err().unwrap().to_string();
        assert!(said.contains("intent.redb"), "{said}");

        let other = dir.path().join("other.redb");
        std::fs::write(
            &other,
            b"this is not a database, but long enough to look at".repeat(100),
        )
        .unwrap();
        let said = RedbStore::open(&other).err().unwrap().to_string();
        assert!(said.contains("other.redb"), "{said}");
    }
}
