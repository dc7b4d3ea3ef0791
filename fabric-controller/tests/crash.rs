//! The store's process is killed in the middle of its work, again and again: no acknowledged transaction is lost, and
//! none is half stored.

use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use fabric_controller::store::{Op, RedbStore, Store, StoreTransaction, Versioned};

/// Set for the process that is to be killed: the file it writes to.
const FILE: &str = "STORE_CRASH_TEST_FILE";
/// Kills.
const ROUNDS: u64 = 12;
/// Transactions in a group: various numbers, so that the kill hits different moments.
const GROUPS: [u64; 5] = [1, 3, 17, 2, 64];

fn pair(revision: u64) -> [Vec<u8>; 2] {
    ["left", "right"].map(|side| format!("{side}/{revision:08}").into_bytes())
}

fn transaction(revision: u64) -> StoreTransaction {
    let mut ops = pair(revision)
        .map(|key| Op::Put(key, revision.to_string().into()))
        .to_vec();
    ops.push(Op::Put(b"last".to_vec(), revision.to_string().into()));
    StoreTransaction {
        compares: Vec::new(),
        ops,
        ..StoreTransaction::default()
    }
}

/// Not a test by itself: the process that is killed. Every transaction writes three keys.
#[tokio::test]
async fn writer() {
    let Ok(file) = std::env::var(FILE) else { return };
    let store = RedbStore::open(&file).unwrap();
    let mut next = store.revision().await.unwrap() + 1;
    for count in GROUPS.into_iter().cycle() {
        let last = next + count - 1;
        eprintln!("begun {last}");
        let group = (next..=last).map(transaction).collect();
        assert_eq!(store.commit_group(group).await.unwrap(), last);
        eprintln!("acknowledged {last}");
        next = last + 1;
    }
}

/// Runs the writer for a while after its first acknowledgement and kills it. Returns the last revision that it
/// acknowledged, and the last that it had begun to write.
fn run_and_kill(file: &Path, after: Duration) -> (u64, u64) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer", "--nocapture"])
        .env(FILE, file)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut lines = lines.map_while(Result::ok);
    let (mut acknowledged, mut begun) = (0, 0);
    let mut note = |line: &str| {
        let number = |what| line.strip_prefix(what).and_then(|n| n.parse::<u64>().ok());
        acknowledged = number("acknowledged ").unwrap_or(acknowledged);
        begun = number("begun ").unwrap_or(begun);
        acknowledged > 0
    };
    while !note(&lines.next().expect("the writer ended by itself")) {}
    std::thread::sleep(after);
    // SIGKILL on Unix.
    child.kill().unwrap();
    child.wait().unwrap();
    // Output from before its death counts, too.
    lines.for_each(|line| {
        note(&line);
    });
    (acknowledged, begun)
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_and_nothing_is_half_there() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("intent.redb");
    for round in 0..ROUNDS {
        // These moments are not multiples of the duration of a group, so they fall into
        // all phases of one.
        let after = Duration::from_micros(round * 7_919 % 40_000);
        let (acknowledged, begun) = run_and_kill(&file, after);
        let store = RedbStore::open(&file).unwrap();
        let mut keys = Vec::new();
        let mut last = 0;
        let mut visit = |key: &[u8], value: &Versioned| {
            if key == b"last" {
                last = std::str::from_utf8(&value.value).unwrap().parse().unwrap();
            } else {
                keys.push(key.to_vec());
            }
            ControlFlow::Continue(())
        };
        let scanned = store.scan(b"", &mut visit).await.unwrap();
        assert!(scanned.damaged.is_empty(), "{:?}", scanned.damaged);
        let revision = scanned.revision;
        assert!(
            revision == acknowledged || revision == begun,
            "acknowledged {acknowledged}, begun {begun}, but the store is at revision {revision}"
        );
        assert_eq!(last, revision);
        let mut expected: Vec<Vec<u8>> = (1..=revision).flat_map(pair).collect();
        expected.sort();
        assert!(keys == expected, "at revision {revision} there are {} keys", keys.len());
        let past = store.past(revision, 0, usize::MAX).await.unwrap();
        let mut logged: Vec<u64> = past.entries.iter().map(|(revision, _)| *revision).collect();
        logged.reverse();
        let oldest = past.oldest.unwrap();
        assert_eq!(logged, (oldest..=revision).collect::<Vec<_>>());
    }
}
