//! Formats of the file, and the conversion from each to the next.
//!
//! | format | table of objects | besides |
//! | --- | --- | --- |
//! | 1 | `data`: key to (revision, value) | |
//! | 2 | `objects`: key to a record with checksum | the log, the store's identity |
//! | 3 | the same; objects may have an owner; rows for calls that may be repeated | |
//! | 4 | the same; keys of numbers in quarantine begin with a revision (older keys are still read) | |
//!
//! Each step is one transaction: a crash leaves the old format or the new one.

use std::path::Path;

use redb::{Database, ReadableTable, TableDefinition, WriteTransaction};
use tracing::{info, warn};
use uuid::Uuid;

use super::{Failure, LOG, META, OBJECTS, REVISION};
use crate::store::{Revision, StoreError, record};

/// Objects of format 1.
const DATA_1: TableDefinition<'_, &[u8], (u64, &[u8])> = TableDefinition::new("data");
pub(super) const SCHEMA: &str = "schema";
const UUID_HIGH: &str = "uuid_high";
const UUID_LOW: &str = "uuid_low";
/// Format of this version; raised together with a migration.
pub(super) const FORMAT: u64 = 4;

/// Writes the format beside the file, for packages: they refuse a version that could not read the file. Before the file is
/// of that format, so that a crash between the two cannot leave a number that is too small.
fn note(path: &Path) -> std::io::Result<()> {
    let (beside, text) = (path.with_extension("format"), format!("{FORMAT}\n"));
    if std::fs::read_to_string(&beside).is_ok_and(|found| found == text) {
        return Ok(());
    }
    let new = path.with_extension("format.new");
    std::fs::write(&new, text)?;
    std::fs::rename(new, beside)
}

/// Brings a file to the current format. Returns the store's identity and revision.
///
/// # Errors
/// The file cannot be read or written, or is of a later format.
pub(super) fn prepare(db: &Database, path: &Path) -> Result<(Uuid, Revision), StoreError> {
    let txn = db.begin_write().map_err(|e| Failure::from(e).at(path))?;
    let found = format(&txn).map_err(|e| e.at(path))?;
    if found.is_some_and(|f| f > FORMAT) {
        return Err(StoreError::Schema {
            path: path.display().to_string(),
            found: found.unwrap_or(FORMAT),
            expected: FORMAT,
        });
    }
    note(path).map_err(|e| Failure::Words(format!("its format cannot be noted beside it: {e}")).at(path))?;
    let prepared = migrate(&txn, found).map_err(|e| e.at(path))?;
    txn.commit().map_err(|e| Failure::from(e).at(path))?;
    if let Some(from) = found.filter(|f| *f < FORMAT) {
        info!(path = %path.display(), from, to = FORMAT, "the store was brought to a new format");
    }
    Ok(prepared)
}

fn format(txn: &WriteTransaction) -> Result<Option<u64>, Failure> {
    Ok(txn.open_table(META)?.get(SCHEMA)?.map(|v| v.value()))
}

fn migrate(txn: &WriteTransaction, found: Option<u64>) -> Result<(Uuid, Revision), Failure> {
    let mut meta = txn.open_table(META)?;
    let mut objects = txn.open_table(OBJECTS)?;
    let log = txn.open_table(LOG)?;
    if found == Some(1) {
        {
            let data = txn.open_table(DATA_1)?;
            for row in data.iter()? {
                let (key, value) = row?;
                let (revision, value) = value.value();
                let record = record::encode(key.value(), revision, value);
                objects.insert(key.value(), record.as_slice())?;
            }
        }
        txn.delete_table(DATA_1)?;
    }
    meta.insert(SCHEMA, FORMAT)?;
    let part = |key: &str| -> Result<Option<u64>, Failure> { Ok(meta.get(key)?.map(|v| v.value())) };
    let known = part(UUID_HIGH)?.zip(part(UUID_LOW)?);
    let uuid = known.map_or_else(Uuid::new_v4, |(high, low)| Uuid::from_u64_pair(high, low));
    let mut revision = part(REVISION)?.unwrap_or(0);
    let (high, low) = uuid.as_u64_pair();
    meta.insert(UUID_HIGH, high)?;
    meta.insert(UUID_LOW, low)?;
    // The two are written together: if they differ, one was damaged, and the log's is checked on its own.
    let last = log.last()?.map(|(last, _)| last.value());
    if let Some(last) = last.filter(|last| *last != revision) {
        warn!(
            revision,
            last, "the store's revision differs from that of its log; the log's is used"
        );
        revision = last;
        meta.insert(REVISION, revision)?;
    }
    Ok((uuid, revision))
}
