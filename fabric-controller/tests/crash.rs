//! The store is killed in the middle of its work, again and again: nothing acknowledged is lost.

use std::io::{BufRead, BufReader};
use std::ops::ControlFlow;
use std::path::Path;
use std::process::{Command, Stdio};

use fabric_controller::store::{Op, RedbStore, Store, StoreTransaction, Versioned};

/// Set for the process that is to be killed: the file it writes to.
const FILE: &str = "STORE_CRASH_TEST_FILE";
/// Kills.
const ROUNDS: usize = 6;
/// Acknowledgements before each kill; different, so that the kill meets different moments.
const ACKNOWLEDGED: [u64; ROUNDS] = [1, 7, 2, 31, 13, 64];

fn pair(revision: u64) -> [Vec<u8>; 2] {
    ["left", "right"].map(|side| format!("{side}/{revision:08}").into_bytes())
}

/// Not a test by itself: the process that is killed. Every transaction writes two keys.
#[tokio::test]
async fn writer() {
    let Ok(file) = std::env::var(FILE) else { return };
    let store = RedbStore::open(&file).unwrap();
    loop {
        let next = store.revision().await.unwrap() + 1;
        let ops = pair(next).map(|key| Op::Put(key, next.to_string().into())).to_vec();
        let revision = store
            .commit(StoreTransaction {
                compares: Vec::new(),
                ops,
            })
            .await
            .unwrap();
        assert_eq!(revision, next);
        eprintln!("acknowledged {revision}");
    }
}

/// Runs the writer until it has acknowledged so many, kills it; answers the last one.
fn run_and_kill(file: &Path, acknowledged: u64) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer", "--nocapture"])
        .env(FILE, file)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let number = |line: String| line.strip_prefix("acknowledged ").and_then(|n| n.parse::<u64>().ok());
    let mut last = 0;
    let mut seen = 0;
    while seen < acknowledged {
        let line = lines.next().expect("the writer ended by itself");
        if let Some(revision) = number(line) {
            (last, seen) = (revision, seen + 1);
        }
    }
    // SIGKILL on Unix.
    child.kill().unwrap();
    child.wait().unwrap();
    // What it said before it died counts, too.
    lines.filter_map(number).last().unwrap_or(last)
}

#[tokio::test]
async fn nothing_acknowledged_is_lost_and_nothing_is_half_there() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("intent.redb");
    for acknowledged in ACKNOWLEDGED {
        let last = run_and_kill(&file, acknowledged);
        let store = RedbStore::open(&file).unwrap();
        let mut keys = Vec::new();
        let mut visit = |key: &[u8], _: &Versioned| {
            keys.push(key.to_vec());
            ControlFlow::Continue(())
        };
        let revision = store.scan(b"", &mut visit).await.unwrap();
        assert!(revision >= last, "acknowledged {last}, but the store is at {revision}");
        let mut expected: Vec<Vec<u8>> = (1..=revision).flat_map(pair).collect();
        expected.sort();
        assert!(keys == expected, "at revision {revision} there are {} keys", keys.len());
    }
}
