//! Transactions, written and undone.

use redb::{Database, ReadableTable, ReadableTableMetadata, Table, WriteTransaction};

use super::{Failure, LOG, LOG_BYTES, META, OBJECTS, REVISION};
use crate::store::log::{Effect, Entry, now_ms};
use crate::store::{Compare, Op, Revision, StoreTransaction, expect, printable, record};

/// How much of the past the log holds. The transaction that exceeds it deletes older entries.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Most revisions.
    pub revisions: u64,
    /// Most octets of all entries.
    pub bytes: u64,
}

impl Default for Window {
    /// Hours of a busy fabric, in a file that can still be copied in a moment.
    fn default() -> Self {
        Self {
            revisions: 10_000,
            bytes: 64 << 20,
        }
    }
}

type Objects<'a> = Table<'a, &'static [u8], &'static [u8]>;

/// Carries out transactions, each as one revision; returns the last. If one is refused, none may be committed.
pub(super) fn group(
    txn: &WriteTransaction,
    transactions: &[StoreTransaction],
    window: Window,
) -> Result<Revision, Failure> {
    let mut meta = txn.open_table(META)?;
    let mut objects = txn.open_table(OBJECTS)?;
    let mut log = txn.open_table(LOG)?;
    let mut revision = meta.get(REVISION)?.map_or(0, |v| v.value());
    let mut bytes = meta.get(LOG_BYTES)?.map_or(0, |v| v.value());
    let time_ms = now_ms();
    for transaction in transactions {
        compare(&objects, &transaction.compares, revision)?;
        revision += 1;
        let mut effects = Vec::with_capacity(transaction.ops.len());
        for op in &transaction.ops {
            effects.extend(carry_out(&mut objects, op, revision)?);
        }
        let entry = Entry {
            time_ms,
            note: transaction.note.clone(),
            effects,
        };
        let entry = entry.encode(revision);
        bytes += entry.len() as u64;
        log.insert(revision, entry.as_slice())?;
    }
    let mut count = log.len()?;
    while count > window.revisions || bytes > window.bytes {
        let Some((_, oldest)) = log.pop_first()? else { break };
        bytes = bytes.saturating_sub(oldest.value().len() as u64);
        count -= 1;
    }
    meta.insert(REVISION, revision)?;
    meta.insert(LOG_BYTES, bytes)?;
    Ok(revision)
}

fn compare(objects: &Objects<'_>, compares: &[Compare], before: Revision) -> Result<(), Failure> {
    for compare in compares {
        let met = match compare {
            Compare::StoreRevision(r) => expect(|| "the store".into(), *r, before),
            Compare::KeyRevision(key, r) => {
                let found = objects.get(key.as_slice())?;
                let found = found.map_or(0, |row| record::decode(key, row.value()).revision);
                expect(|| printable(key), *r, found)
            }
        };
        met.map_err(Failure::Compare)?;
    }
    Ok(())
}

/// One operation; none if it changed nothing.
fn carry_out(objects: &mut Objects<'_>, op: &Op, revision: Revision) -> Result<Option<Effect>, Failure> {
    let (key, after) = match op {
        Op::Put(key, value) => (key, Some(value.clone())),
        Op::Delete(key) => (key, None),
    };
    let old = match &after {
        Some(value) => {
            let record = record::encode(key, revision, value);
            objects.insert(key.as_slice(), record.as_slice())?
        }
        None => objects.remove(key.as_slice())?,
    };
    let before = old.map(|row| {
        let record = record::decode(key, row.value());
        // A damaged row may say 0, which means that there was none.
        (record.revision.max(1), record.value.to_vec())
    });
    let key = key.clone();
    let changed = before.is_some() || after.is_some();
    Ok(changed.then_some(Effect { key, before, after }))
}

/// Undoes every revision after `to`, the newest first, with the earlier values that the log has.
pub(super) fn take_back(db: &Database, to: Revision) -> Result<(), Failure> {
    let txn = db.begin_write()?;
    {
        let mut meta = txn.open_table(META)?;
        let mut objects = txn.open_table(OBJECTS)?;
        let mut log = txn.open_table(LOG)?;
        let mut revision = meta.get(REVISION)?.map_or(0, |v| v.value());
        let mut bytes = meta.get(LOG_BYTES)?.map_or(0, |v| v.value());
        if revision < to {
            let words = format!("is at revision {revision}, but {to} was durable: it is not the file that was open");
            return Err(Failure::Words(words));
        }
        while revision > to {
            let entry = log.remove(revision)?;
            let stored = entry.map(|e| e.value().to_vec()).unwrap_or_default();
            let Some(entry) = Entry::decode(revision, &stored) else {
                let words = format!("revision {revision}, which was reported as failed, cannot be undone");
                return Err(Failure::Words(words));
            };
            for effect in entry.effects.iter().rev() {
                match &effect.before {
                    Some((written, value)) => {
                        let record = record::encode(&effect.key, *written, value);
                        objects.insert(effect.key.as_slice(), record.as_slice())?;
                    }
                    None => {
                        objects.remove(effect.key.as_slice())?;
                    }
                }
            }
            bytes = bytes.saturating_sub(stored.len() as u64);
            revision -= 1;
        }
        meta.insert(REVISION, revision)?;
        meta.insert(LOG_BYTES, bytes)?;
    }
    // Committed even if there is nothing to undo: it shows that the disk accepts writes.
    txn.commit()?;
    Ok(())
}
