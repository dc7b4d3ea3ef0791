//! The file: its formats, its log, and what happens to it.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use redb::StorageBackend;
use redb::backends::FileBackend;

use std::ops::ControlFlow;

use super::*;
use crate::store::{Op, log::Effect};

fn put(key: &str, value: &str) -> StoreTransaction {
    StoreTransaction {
        compares: Vec::new(),
        ops: vec![Op::Put(key.into(), value.into())],
        ..StoreTransaction::default()
    }
}

fn delete(key: &str) -> StoreTransaction {
    StoreTransaction {
        compares: Vec::new(),
        ops: vec![Op::Delete(key.into())],
        ..StoreTransaction::default()
    }
}

async fn rows(store: &RedbStore) -> Vec<String> {
    let mut found = Vec::new();
    let mut visit = |k: &[u8], v: &Versioned| {
        let (k, value) = (String::from_utf8_lossy(k), String::from_utf8_lossy(&v.value));
        found.push(format!("{k}={value}@{}", v.revision));
        ControlFlow::Continue(())
    };
    store.scan(b"", &mut visit).await.unwrap();
    found
}

async fn entries(store: &RedbStore, after: Revision) -> (Option<Revision>, Vec<(Revision, Vec<Effect>)>) {
    let past = store.past(Revision::MAX, after, usize::MAX).await.unwrap();
    let entries = past.entries.into_iter().rev();
    (
        past.oldest,
        entries.map(|(revision, entry)| (revision, entry.effects)).collect(),
    )
}

/// A copy of a file that the last version of format 1 wrote.
fn format_1(dir: &Path) -> PathBuf {
    let path = dir.join("intent.redb");
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/schema-1.redb");
    std::fs::copy(fixture, &path).unwrap();
    path
}

#[tokio::test]
async fn a_file_of_format_1_is_taken_over_whole_and_keeps_its_new_identity() {
    let dir = tempfile::tempdir().unwrap();
    let path = format_1(dir.path());
    let old: Vec<String> = {
        let db = Database::create(&path).unwrap();
        let read = db.begin_read().unwrap();
        let data: TableDefinition<'_, &[u8], (u64, &[u8])> = TableDefinition::new("data");
        let data = read.open_table(data).unwrap();
        let row = |row: Result<(redb::AccessGuard<'_, &[u8]>, redb::AccessGuard<'_, (u64, &[u8])>), _>| {
            let (key, value) = row.unwrap();
            let (revision, value) = value.value();
            let (key, value) = (String::from_utf8_lossy(key.value()), String::from_utf8_lossy(value));
            format!("{key}={value}@{revision}")
        };
        data.iter().unwrap().map(row).collect()
    };
    assert!(old.len() > 15, "{old:?}");
    let store = RedbStore::open(&path).unwrap();
    assert_eq!(rows(&store).await, old);
    assert_eq!(store.revision().await.unwrap(), 6);
    assert_eq!(entries(&store, 0).await, (None, Vec::new()));
    assert_eq!(store.commit(put("new", "x")).await.unwrap(), 7);
    let uuid = store.uuid();
    drop(store);
    let store = RedbStore::open(&path).unwrap();
    assert_eq!(store.uuid(), uuid);
    assert_eq!(rows(&store).await.len(), old.len() + 1);
    assert_eq!(entries(&store, 0).await.0, Some(7));
}

#[tokio::test]
async fn a_file_of_a_later_format_is_refused_in_words_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("intent.redb");
    RedbStore::open(&path).unwrap().commit(put("a", "x")).await.unwrap();
    {
        let db = Database::create(&path).unwrap();
        let txn = db.begin_write().unwrap();
        txn.open_table(META).unwrap().insert("schema", 9).unwrap();
        txn.commit().unwrap();
    }
    // Packages compare with this number. A version that cannot read the file never lowers it.
    let beside = dir.path().join("intent.format");
    assert_eq!(
        std::fs::read_to_string(&beside).unwrap(),
        format!("{}\n", RedbStore::FORMAT)
    );
    std::fs::write(&beside, "9\n").unwrap();
    let before = std::fs::read(&path).unwrap();
    let said = RedbStore::open(&path).err().unwrap().to_string();
    for expected in ["intent.redb", "format 9", "formats up to 4", "start that version"] {
        assert!(said.contains(expected), "{said}");
    }
    assert_eq!(std::fs::read(&path).unwrap().len(), before.len());
    assert_eq!(std::fs::read_to_string(&beside).unwrap(), "9\n");
}

#[tokio::test]
async fn the_log_says_what_was_before_and_after_and_forgets_the_oldest() {
    let dir = tempfile::tempdir().unwrap();
    let window = Window {
        revisions: 3,
        bytes: 1 << 20,
    };
    let open = |window| {
        let opener = Box::new(|path: &Path| Database::create(path));
        RedbStore::open_with(&dir.path().join("intent.redb"), window, opener).unwrap()
    };
    let store = open(window);
    let group = vec![
        put("a", "one"),
        put("a", "two"),
        put("b", "x"),
        delete("a"),
        delete("none"),
    ];
    assert_eq!(store.commit_group(group).await.unwrap(), 5);
    let effect = |key: &str, before: Option<(u64, &str)>, after: Option<&str>| Effect {
        key: key.into(),
        before: before.map(|(revision, value)| (revision, value.into())),
        after: after.map(Into::into),
    };
    let expected = vec![
        (3, vec![effect("b", None, Some("x"))]),
        (4, vec![effect("a", Some((2, "two")), None)]),
        (5, vec![]),
    ];
    assert_eq!(entries(&store, 0).await, (Some(3), expected.clone()));
    assert_eq!(entries(&store, 4).await, (Some(3), expected[2..].to_vec()));
    drop(store);
    let large = "x".repeat(500);
    let store = open(Window {
        revisions: 100,
        bytes: 1200,
    });
    for i in 0..5 {
        store.commit(put(&format!("k{i}"), &large)).await.unwrap();
    }
    let kept: Vec<u64> = entries(&store, 0)
        .await
        .1
        .into_iter()
        .map(|(revision, _)| revision)
        .collect();
    assert_eq!(kept, [9, 10]);
    let huge = "x".repeat(5000);
    store.commit(put("huge", &huge)).await.unwrap();
    assert_eq!(entries(&store, 0).await, (None, vec![]), "its bound is a bound");
    assert_eq!(rows(&store).await.len(), 7);
}

#[tokio::test]
async fn a_damaged_row_is_named_and_the_others_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("intent.redb");
    let store = RedbStore::open(&path).unwrap();
    store
        .commit_group(vec![put("a", "x"), put("b", "y"), put("c", "z")])
        .await
        .unwrap();
    drop(store);
    flip(&path, b"b");
    let store = RedbStore::open(&path).unwrap();
    let mut seen = Vec::new();
    let mut visit = |k: &[u8], _: &Versioned| {
        seen.push(k.to_vec());
        ControlFlow::Continue(())
    };
    let scanned = store.scan(b"", &mut visit).await.unwrap();
    assert_eq!(seen, [b"a", b"c"]);
    assert_eq!(
        scanned.damaged.iter().map(|d| d.key.as_slice()).collect::<Vec<_>>(),
        [b"b"]
    );
    assert!(store.get(b"b").await.unwrap_err().to_string().contains("`b`"));
    store.commit(put("b", "again")).await.unwrap();
    assert_eq!(store.get(b"b").await.unwrap().unwrap().value, b"again");
}

/// Flips one bit in the value of a row.
pub(crate) fn flip(path: &Path, key: &[u8]) {
    let db = Database::create(path).unwrap();
    let txn = db.begin_write().unwrap();
    {
        let mut objects = txn.open_table(OBJECTS).unwrap();
        let mut row = objects.get(key).unwrap().unwrap().value().to_vec();
        // In a digit or letter, so that the text stays text.
        let at = row.iter().rposition(u8::is_ascii_alphanumeric).unwrap();
        row[at] ^= 1;
        objects.insert(key, row.as_slice()).unwrap();
    }
    txn.commit().unwrap();
}

/// A disk that fails from the nth write or sync on, until it is repaired.
#[derive(Debug)]
struct Faulty {
    file: FileBackend,
    disk: Arc<Disk>,
}

#[derive(Debug, Default)]
struct Disk {
    /// Operations until it fails; negative: it does not.
    left: AtomicI64,
    done: AtomicU64,
    synced: AtomicU64,
}

impl Disk {
    fn well(&self) {
        self.left.store(-1, Ordering::SeqCst);
    }

    fn turn(&self) -> std::io::Result<()> {
        self.done.fetch_add(1, Ordering::SeqCst);
        match self.left.load(Ordering::SeqCst) {
            ..0 => Ok(()),
            0 => Err(std::io::Error::from(std::io::ErrorKind::StorageFull)),
            left => {
                self.left.store(left - 1, Ordering::SeqCst);
                Ok(())
            }
        }
    }
}

impl StorageBackend for Faulty {
    fn len(&self) -> std::io::Result<u64> {
        self.file.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> std::io::Result<()> {
        self.file.read(offset, out)
    }
    fn set_len(&self, len: u64) -> std::io::Result<()> {
        self.file.set_len(len)
    }
    /// Data may be durable although the sync returned an error.
    fn sync_data(&self) -> std::io::Result<()> {
        self.file.sync_data()?;
        self.disk.synced.fetch_add(1, Ordering::SeqCst);
        self.disk.turn()
    }
    fn write(&self, offset: u64, data: &[u8]) -> std::io::Result<()> {
        self.disk.turn()?;
        self.file.write(offset, data)
    }
    fn close(&self) -> std::io::Result<()> {
        self.file.close()
    }
}

fn on_disk(path: &Path, disk: &Arc<Disk>) -> RedbStore {
    let disk = Arc::clone(disk);
    let opener = move |path: &Path| {
        let file = std::fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path);
        let file = FileBackend::new(file.map_err(redb::StorageError::from)?)?;
        let disk = Arc::clone(&disk);
        Database::builder().create_with_backend(Faulty { file, disk })
    };
    RedbStore::open_with(path, Window::default(), Box::new(opener)).unwrap()
}

#[tokio::test]
async fn wherever_the_disk_fails_what_was_answered_as_failed_never_happens() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Disk::default());
    disk.well();
    let path = dir.path().join("intent.redb");
    let store = on_disk(&path, &disk);
    store.commit_group(vec![put("a", "0"), put("gone", "0")]).await.unwrap();
    let mut failures = 0;
    for n in 0.. {
        let before = rows(&store).await;
        let revision = store.revision().await.unwrap();
        disk.left.store(n, Ordering::SeqCst);
        let value = n.to_string();
        let group = vec![
            put("a", &value),
            delete("gone"),
            put("gone", &value),
            put(&format!("n{n}"), "x"),
        ];
        let done = store.commit_group(group).await;
        let failed = disk.left.load(Ordering::SeqCst) == 0;
        let Ok(done) = done else {
            failures += 1;
            assert!(failed, "{done:?}");
            assert!(
                store.check().await.is_err(),
                "it says that it is well while the disk fails"
            );
            disk.well();
            store.check().await.unwrap();
            assert_eq!(rows(&store).await, before, "after operation {n} failed");
            assert_eq!(store.revision().await.unwrap(), revision);
            continue;
        };
        disk.well();
        assert_eq!(done, revision + 4);
        if !failed {
            break;
        }
    }
    assert!(failures > 3, "the disk failed only {failures} times");
    let (before, revision) = (rows(&store).await, store.revision().await.unwrap());
    let logged: Vec<u64> = entries(&store, 0)
        .await
        .1
        .iter()
        .map(|(revision, _)| *revision)
        .collect();
    assert_eq!(logged, (1..=revision).collect::<Vec<_>>());
    drop(store);
    assert_eq!(rows(&RedbStore::open(&path).unwrap()).await, before);
}

/// How often a group waits for the disk.
async fn cost(store: &RedbStore, disk: &Disk, group: Vec<StoreTransaction>) -> u64 {
    let before = disk.synced.load(Ordering::SeqCst);
    store.commit_group(group).await.unwrap();
    disk.synced.load(Ordering::SeqCst) - before
}

#[tokio::test]
async fn a_group_waits_for_the_disk_as_often_as_one_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let disk = Arc::new(Disk::default());
    disk.well();
    let store = on_disk(&dir.path().join("intent.redb"), &disk);
    let group = |n: usize| (0..n).map(|i| put(&format!("k{i}"), "x")).collect::<Vec<_>>();
    cost(&store, &disk, group(1)).await;
    let one = cost(&store, &disk, group(1)).await;
    assert!(one > 0, "it is not durable");
    for n in [16, 256] {
        assert_eq!(cost(&store, &disk, group(n)).await, one, "syncs of {n} transactions");
    }
}

#[tokio::test]
async fn a_file_that_is_gone_or_replaced_is_noticed_and_one_that_comes_back_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let (path, elsewhere) = (dir.path().join("intent.redb"), dir.path().join("elsewhere"));
    let store = RedbStore::open(&path).unwrap();
    store.commit(put("a", "x")).await.unwrap();
    std::fs::rename(&path, &elsewhere).unwrap();
    for said in [
        store.check().await.unwrap_err(),
        store.commit(put("b", "lost")).await.unwrap_err(),
    ] {
        let said = said.to_string();
        assert!(
            said.contains("intent.redb") && said.contains("no longer there"),
            "{said}"
        );
    }
    std::fs::copy(&elsewhere, &path).unwrap();
    let said = store.check().await.unwrap_err().to_string();
    assert!(said.contains("was replaced"), "{said}");
    assert!(store.commit(put("b", "lost")).await.is_err());
    std::fs::rename(&elsewhere, &path).unwrap();
    store.check().await.unwrap();
    assert_eq!(store.commit(put("c", "y")).await.unwrap(), 2);
    assert_eq!(rows(&store).await, ["a=x@1", "c=y@2"]);
}

/// A full disk with a real file system. `STORE_SMALL_DISK` names a directory on a file system of a few MiB that nobody
/// else uses.
#[tokio::test]
#[ignore = "needs a small file system"]
async fn a_real_disk_that_is_full_takes_changes_again_when_there_is_room() {
    let dir = PathBuf::from(std::env::var("STORE_SMALL_DISK").unwrap());
    let (path, ballast) = (dir.join("intent.redb"), dir.join("ballast"));
    let store = RedbStore::open(&path).unwrap();
    let value = "x".repeat(10_000);
    for round in 0..3 {
        let mut file = std::fs::File::create(&ballast).unwrap();
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
        drop(file);
        let before = (rows(&store).await, store.revision().await.unwrap());
        let mut acknowledged = 0;
        let refused = loop {
            match store.commit(put(&format!("{round}/{acknowledged}"), &value)).await {
                Ok(_) => acknowledged += 1,
                Err(refused) => break refused,
            }
        };
        println!("round {round}: {acknowledged} more fitted, then: {refused}");
        println!("while it is full: {:?}", store.check().await);
        std::fs::remove_file(&ballast).unwrap();
        store.check().await.unwrap();
        assert_eq!(store.revision().await.unwrap(), before.1 + acknowledged);
        assert_eq!(rows(&store).await.len() as u64, before.0.len() as u64 + acknowledged);
        store.commit(put("after", "y")).await.unwrap();
    }
    let before = rows(&store).await;
    drop(store);
    assert_eq!(rows(&RedbStore::open(&path).unwrap()).await, before);
}
