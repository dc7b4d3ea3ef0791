//! Calls that may be repeated: their responses, stored with their changes.
//!
//! **Model.** A call with an `Idempotency-Key` is identified by two digests: of its caller and key, and of its content. Its
//! response is a row of the store, written in the transaction of its change, or in a separate one if it changed nothing.
//! The same call with the same key gets this response; another call with that key is refused. Refused calls and dry runs
//! leave no row, because nothing happened.
//!
//! **Invariants.** A change is durable if and only if its response is. This module has only durable rows; the round
//! knows those of groups under way. So nothing has to be undone when a group cannot be stored.
//!
//! **Bounds.** A row is kept for [`LIFETIME_MS`]. There are at most [`OF_CALLER`] rows of one caller, and [`OF_ALL`] of all. Beyond
//! that, the oldest are deleted with the next row that is written. Groups under way may exceed a bound by their own number.
//!
//! **Cost.** A keyed call costs one more row, and the rows that are deleted for it. Memory: the rows in their stored form.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use vfabric_api::error::{ApiError, ErrorCode};
use vfabric_api::kind::{Key, Kind};
use vfabric_api::service::{Change, Committed, Origin, Repeatable, Replay, Transaction};
use vfabric_api::status::{Applied, Progress};

use super::rows::to_json;
use crate::access::now_ms;
use crate::model::Model;
use crate::model::kind::Seen;

/// How long a call can be repeated: longer than any client tries again.
const LIFETIME_MS: u64 = 24 * 60 * 60 * 1000;
/// Most rows of one caller, and their octets, so that a tenant cannot displace the rows of others.
const OF_CALLER: (usize, usize) = (1000, 8 << 20);
/// Most rows of all callers, and their octets.
const OF_ALL: (usize, usize) = (50_000, 64 << 20);
/// Most rows that are deleted with a new one: limits the cost of one call.
const GO_AT_ONCE: usize = 64;
/// Prefix of the keys of these rows.
const PREFIX: &str = "request/";

/// SHA-256 of a caller and its key.
type Digest = [u8; 32];

/// The stored row of a call.
#[derive(Debug, Serialize, Deserialize)]
struct Row {
    caller: String,
    /// SHA-256 of the call's content, in hexadecimal digits.
    request: String,
    /// When, in milliseconds since 1970.
    time_ms: u64,
    committed: Committed,
    /// For a call that created or changed one object: the object as the API showed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    object: Option<serde_json::Value>,
}

/// A call in memory.
#[derive(Debug, Clone)]
pub(super) struct Record {
    caller: Arc<str>,
    time_ms: u64,
    row: Arc<[u8]>,
    /// The revision that wrote the row.
    revision: u64,
}

/// A record that a transaction writes, and those that it deletes.
pub(super) struct Written {
    digest: Digest,
    record: Record,
    gone: Vec<Digest>,
}

/// Rows of a caller, by the revision that wrote them, and their octets.
#[derive(Debug, Default)]
struct OfCaller {
    rows: BTreeMap<u64, Digest>,
    octets: usize,
}

/// Every call that may be repeated.
#[derive(Debug, Default)]
pub(super) struct Requests {
    records: HashMap<Digest, Record>,
    by_age: BTreeMap<u64, Digest>,
    of_callers: HashMap<Arc<str>, OfCaller>,
    octets: usize,
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The store's key of a row.
fn row_key(digest: &Digest) -> Vec<u8> {
    format!("{PREFIX}{}", hex(digest)).into_bytes()
}

fn parse_row_key(key: &[u8]) -> Option<Digest> {
    let digits = std::str::from_utf8(key).ok()?.strip_prefix(PREFIX)?;
    let mut digest = [0; 32];
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    for (octet, at) in digest.iter_mut().zip((0..64).step_by(2)) {
        *octet = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
    }
    Some(digest)
}

impl Record {
    /// The response to the call, if the new call has the same content.
    pub(super) fn answer(&self, repeated: &Repeatable) -> Result<Committed, ApiError> {
        let unreadable = |error| {
            ApiError::new(
                ErrorCode::Internal,
                format!("the stored answer cannot be read: {error}"),
            )
        };
        let row: Row = serde_json::from_slice(&self.row).map_err(unreadable)?;
        if row.request != hex(&repeated.request) {
            let detail = "the `Idempotency-Key` was used for another call: method, path, query or body differ";
            return Err(ApiError::new(ErrorCode::Invalid, detail));
        }
        Ok(Committed {
            replay: Some(Replay { object: row.object }),
            ..row.committed
        })
    }

    fn is_over(&self, now_ms: u64) -> bool {
        self.time_ms.saturating_add(LIFETIME_MS) <= now_ms
    }
}

impl Written {
    /// The operations of the store: the deleted rows, and the new one.
    pub(super) fn rows(&self) -> (Vec<Vec<u8>>, (Vec<u8>, Vec<u8>)) {
        let gone = self.gone.iter().map(row_key).collect();
        (gone, (row_key(&self.digest), self.record.row.to_vec()))
    }

    /// The record, if it is that of this key.
    pub(super) fn of(&self, repeated: &Repeatable) -> Option<&Record> {
        (self.digest == repeated.key).then_some(&self.record)
    }
}

impl Requests {
    /// The response to the call with this key.
    pub(super) fn find(&self, repeated: &Repeatable) -> Option<&Record> {
        self.records
            .get(&repeated.key)
            .filter(|record| !record.is_over(now_ms()))
    }

    /// The record of a call that was carried out as `revision`, and those that are deleted to make room for it.
    pub(super) fn write(
        &self,
        repeated: &Repeatable,
        origin: &Origin,
        (committed, object): (&Committed, Option<serde_json::Value>),
        revision: u64,
    ) -> Written {
        let time_ms = now_ms();
        let row = Row {
            caller: origin.author.clone(),
            request: hex(&repeated.request),
            time_ms,
            committed: committed.clone(),
            object,
        };
        let row: Arc<[u8]> = to_json(&row).into();
        let gone = self.gone(&origin.author, row.len(), time_ms);
        let record = Record {
            caller: origin.author.as_str().into(),
            time_ms,
            row,
            revision,
        };
        Written {
            digest: repeated.key,
            record,
            gone,
        }
    }

    /// The oldest rows that must be deleted to make room for a row with this many octets.
    fn gone(&self, caller: &str, octets: usize, now_ms: u64) -> Vec<Digest> {
        let mut gone = Vec::new();
        let size = |digest: &Digest| self.records.get(digest).map_or(0, |record| record.row.len());
        let mut freed = (0, 0);
        if let Some(own) = self.of_callers.get(caller) {
            for digest in own.rows.values().take(GO_AT_ONCE) {
                let (count, bytes) = (own.rows.len() + 1 - freed.0, own.octets + octets - freed.1);
                if count <= OF_CALLER.0 && bytes <= OF_CALLER.1 {
                    break;
                }
                freed = (freed.0 + 1, freed.1 + size(digest));
                gone.push(*digest);
            }
        }
        for digest in self.by_age.values() {
            let (count, bytes) = (self.records.len() + 1 - freed.0, self.octets + octets - freed.1);
            let is_over = self.records.get(digest).is_some_and(|record| record.is_over(now_ms));
            let fits = count <= OF_ALL.0 && bytes <= OF_ALL.1;
            if gone.len() >= GO_AT_ONCE || (fits && !is_over) {
                break;
            }
            if !gone.contains(digest) {
                freed = (freed.0 + 1, freed.1 + size(digest));
                gone.push(*digest);
            }
        }
        gone
    }

    /// A record is durable, and others are gone.
    pub(super) fn publish(&mut self, written: Written) {
        written.gone.iter().for_each(|digest| self.remove(digest));
        self.insert(written.digest, written.record);
    }

    fn insert(&mut self, digest: Digest, record: Record) {
        self.remove(&digest);
        let of_caller = self.of_callers.entry(Arc::clone(&record.caller)).or_default();
        of_caller.rows.insert(record.revision, digest);
        of_caller.octets += record.row.len();
        self.octets += record.row.len();
        self.by_age.insert(record.revision, digest);
        self.records.insert(digest, record);
    }

    fn remove(&mut self, digest: &Digest) {
        let Some(record) = self.records.remove(digest) else {
            return;
        };
        self.by_age.remove(&record.revision);
        self.octets -= record.row.len();
        if let Some(of_caller) = self.of_callers.get_mut(&record.caller) {
            of_caller.rows.remove(&record.revision);
            of_caller.octets -= record.row.len();
            if of_caller.rows.is_empty() {
                self.of_callers.remove(&record.caller);
            }
        }
    }

    /// Store keys of a caller's rows. They are deleted so that a later caller of that name does not find them.
    pub(super) fn keys_of(&self, caller: &str) -> Vec<Vec<u8>> {
        let rows = self.of_callers.get(caller).into_iter().flat_map(|of| of.rows.values());
        rows.map(row_key).collect()
    }

    /// The rows of a caller are gone from the store.
    pub(super) fn forget(&mut self, caller: &str) {
        let rows = self
            .of_callers
            .get(caller)
            .map(|of| of.rows.values().copied().collect());
        let rows: Vec<Digest> = rows.unwrap_or_default();
        rows.iter().for_each(|digest| self.remove(digest));
    }

    /// Loads a row of the store. Returns false if it has expired.
    ///
    /// # Errors
    /// The row is not that of a stored call.
    pub(super) fn restore(&mut self, key: &[u8], value: &[u8], revision: u64) -> Result<bool, String> {
        let digest = parse_row_key(key).ok_or("names no call")?;
        let row: Row = serde_json::from_slice(value).map_err(|e| e.to_string())?;
        let record = Record {
            caller: row.caller.as_str().into(),
            time_ms: row.time_ms,
            row: value.into(),
            revision,
        };
        // One revision writes one row.
        if record.is_over(now_ms()) || self.by_age.contains_key(&revision) {
            return Ok(false);
        }
        self.insert(digest, record);
        Ok(true)
    }
}

/// The object that a transaction of one change creates or changes.
pub(super) fn changed_object(transaction: &Transaction) -> Option<Key> {
    let [(_, change)] = transaction.changes.as_slice() else {
        return None;
    };
    match change {
        Change::Create(vdc, spec) | Change::Replace(vdc, spec) | Change::Put(vdc, spec) => {
            Some(Key::new(vdc.clone(), spec.kind(), spec.name().clone()))
        }
        Change::Patch(key, _) => Some(key.clone()),
        Change::Delete(_) | Change::Inventory(_) => None,
    }
}

/// An object that was created or changed, as the API shows it before any device has applied it.
pub(super) fn object_of(model: &Model, key: &Key, revision: u64) -> Option<serde_json::Value> {
    let object = model.stored(key)?;
    let vdc = model.vdc(&key.vdc)?;
    let router = vdc.networks.get(&key.name).filter(|_| key.kind == Kind::Network);
    let router = router.and_then(|id| model.network(*id)?.router);
    let mut counts = crate::model::kind::Counts::default();
    for (count, kind) in counts.iter_mut().zip(Kind::ALL) {
        *count = vdc.count(*kind);
    }
    let owner = object.owner.clone();
    let view = object.view(Seen {
        owner,
        applied: Applied {
            revision,
            progress: Progress::Pending,
            devices: 0,
            applied: 0,
            waiting: Vec::new(),
        },
        router: router
            .and_then(|id| model.router(id))
            .map(|router| router.spec.name.clone()),
        counts,
        revision,
    });
    serde_json::to_value(view).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repeatable(n: u64) -> Repeatable {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&n.to_be_bytes());
        Repeatable { key, request: key }
    }

    fn origin(author: &str) -> Origin {
        Origin {
            author: author.to_owned(),
            ..Origin::default()
        }
    }

    /// Carries out call `n` of a caller, as revision `n`.
    fn call(requests: &mut Requests, author: &str, n: u64, object: Option<serde_json::Value>) -> usize {
        let committed = Committed {
            revision: n,
            ..Committed::default()
        };
        let written = requests.write(&repeatable(n), &origin(author), (&committed, object), n);
        let (gone, (key, value)) = written.rows();
        let mut restored = Requests::default();
        assert_eq!(
            restored.restore(&key, &value, n),
            Ok(true),
            "a row is read as it was written"
        );
        requests.publish(written);
        gone.len()
    }

    #[test]
    fn the_same_call_gets_the_answer_and_another_one_is_refused() {
        let mut requests = Requests::default();
        call(&mut requests, "alice", 7, Some("object".into()));
        let found = requests.find(&repeatable(7)).unwrap();
        let answer = found.answer(&repeatable(7)).unwrap();
        assert_eq!(
            (answer.revision, answer.replay.unwrap().object),
            (7, Some("object".into()))
        );
        let other = Repeatable {
            request: [9; 32],
            ..repeatable(7)
        };
        assert_eq!(found.answer(&other).unwrap_err().code, ErrorCode::Invalid);
        assert!(requests.find(&repeatable(8)).is_none());
    }

    #[test]
    fn a_caller_pushes_out_its_own_rows_only() {
        let mut requests = Requests::default();
        call(&mut requests, "bob", 1, None);
        let count = OF_CALLER.0 as u64;
        for n in 2..=count + 1 {
            assert_eq!(call(&mut requests, "alice", n, None), 0, "{n}");
        }
        assert_eq!(call(&mut requests, "alice", count + 2, None), 1);
        assert!(requests.find(&repeatable(2)).is_none(), "the oldest of alice");
        assert!(requests.find(&repeatable(1)).is_some(), "bob's");
        // Three of these exceed the limit of octets.
        let large = Some(serde_json::Value::String("x".repeat(3 << 20)));
        for n in 1..=3 {
            call(&mut requests, "carol", 10_000 + n, large.clone());
        }
        let has = |n: u64| requests.find(&repeatable(10_000 + n)).is_some();
        assert_eq!([has(1), has(2), has(3)], [false, true, true]);
    }

    #[test]
    fn rows_end_and_go_with_their_caller() {
        let mut requests = Requests::default();
        for n in 1..4 {
            call(&mut requests, if n == 3 { "bob" } else { "alice" }, n, None);
        }
        let old = requests.records.get_mut(&repeatable(1).key).unwrap();
        old.time_ms -= LIFETIME_MS;
        assert!(requests.find(&repeatable(1)).is_none());
        assert_eq!(requests.gone("carol", 10, now_ms()), [repeatable(1).key]);
        assert_eq!(requests.keys_of("alice").len(), 2);
        requests.forget("alice");
        assert_eq!(
            (requests.records.len(), requests.by_age.len(), requests.of_callers.len()),
            (1, 1, 1)
        );
        requests.forget("bob");
        assert_eq!(requests.octets, 0);
        let mut over = Requests::default();
        let row = br#"{"caller": "alice", "request": "", "time_ms": 1, "committed": {"revision": 1, "created": [], "updated": [],
            "deleted": [], "unchanged": 0}}"#;
        assert_eq!(over.restore(&row_key(&[7; 32]), row, 1), Ok(false));
        assert!(over.restore(b"request/77", row, 1).is_err());
    }
}
