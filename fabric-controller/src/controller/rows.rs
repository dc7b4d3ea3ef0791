//! The rows of the store, and which of them a transaction writes.
//!
//! | key | value |
//! | --- | --- |
//! | `object/<rank of its kind>/<vDC>/<name>` | an object with what was allocated for it |
//! | `group/<leaf>/<VNI>` | number of a network's pair of flood groups |
//! | `rest/<revision>/<number>` | a number in quarantine since that revision: its last owner, and the devices that may hold it |
//! | `link/<end>/<end>` | state of a link across restarts |
//! | `uid` | the identity that the next object gets |
//! | `inventory/<rank of its kind>/<name>` | a switch, host or link, or the settings, with what was allocated for it |
//! | `inventory/next` | the handles that the next device and the next link get |
//! | `user/<vDC or nothing>/<name>` | a user with its roles and the hashes of its tokens |
//! | `request/<digest of caller and key>` | a call that may be repeated, with its answer |

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use vfabric_api::ident::Name;
use vfabric_api::service::Origin;

use super::{Controller, inventory};
use crate::model::Model;
use crate::model::change::Applied;
use crate::model::kind::store_key;
use crate::model::number::{StoredNumber, Uid};
use crate::store::{Compare, Op, Store, StoreTransaction};

/// Key of the identity that the next object gets.
pub(super) const UID_KEY: &[u8] = b"uid";

/// The key of a number in quarantine. It begins with the revision that put the number there, as 16 hexadecimal digits.
/// So the rows of a transaction come right after those of the transaction before, and rows that are deleted together
/// are next to each other. A group of transactions therefore changes few pages of the store, however many numbers it
/// moves. Rows of format 3 have no revision (0).
pub(super) fn rest_key(number: &StoredNumber, revision: u64) -> Vec<u8> {
    let number = to_json(number);
    if revision == 0 {
        return [b"rest/".as_slice(), &number].concat();
    }
    [format!("rest/{revision:016x}/").as_bytes(), &number].concat()
}

/// Reads number and revision from a key of [`rest_key`], without its `rest/`.
///
/// # Errors
/// The text is not such a key; the error says why.
pub(super) fn parse_rest_key(key: &str) -> Result<(StoredNumber, u64), String> {
    let by_revision = key.split_at_checked(REVISION_DIGITS);
    let by_revision = by_revision.and_then(|(revision, number)| {
        let revision = u64::from_str_radix(revision, 16).ok().filter(|r| *r != 0)?;
        Some((revision, number.strip_prefix('/')?))
    });
    let (revision, number) = by_revision.unwrap_or((0, key));
    let number = serde_json::from_str(number).map_err(|e| e.to_string())?;
    Ok((number, revision))
}

/// Digits of the revision in the key of a number in quarantine.
const REVISION_DIGITS: usize = 16;

/// Serializing these types cannot fail: their map keys are strings.
pub(super) fn to_json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// The row of a number in quarantine.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rest {
    /// Its last owner.
    pub(super) owner: Uid,
    /// Devices that may hold it.
    pub(super) devices: Vec<Name>,
}

impl<S: Store> Controller<S> {
    /// The rows that a transaction writes after it was applied to the model. `before` is the revision before it.
    pub(super) fn to_store(
        &self,
        model: &Model,
        applied: &Applied,
        expired: &[Vec<u8>],
        rests: &[(Vec<u8>, Rest)],
        (before, origin): (u64, &Origin),
    ) -> StoreTransaction {
        let mut ops: Vec<Op> = expired.iter().cloned().map(Op::Delete).collect();
        // A number that was in quarantine before gets a new row, so its old row is deleted.
        ops.extend(applied.left.iter().filter_map(|left| {
            let number = StoredNumber::of(&left.number, &model.fabric)?;
            Some(Op::Delete(rest_key(&number, left.row_before()?)))
        }));
        for (key, object) in &applied.objects {
            ops.push(match object {
                Some(object) => Op::Put(store_key(key), to_json(object)),
                None => Op::Delete(store_key(key)),
            });
        }
        ops.extend(inventory::rows(model, applied));
        for change in &applied.groups {
            let Some(name) = model.fabric.switch_name(change.leaf) else {
                continue;
            };
            let key = format!("group/{name}/{}", change.vni).into_bytes();
            ops.push(match change.now {
                Some(group) => Op::Put(key, group.to_string().into()),
                None => Op::Delete(key),
            });
        }
        ops.extend(rests.iter().map(|(key, rest)| Op::Put(key.clone(), to_json(rest))));
        if applied.uids {
            ops.push(Op::Put(UID_KEY.to_vec(), model.next_uid().to_string().into()));
        }
        StoreTransaction {
            compares: vec![Compare::StoreRevision(before)],
            ops,
            note: to_json(origin),
        }
    }

    /// The rows of the numbers that a transaction puts into quarantine, one for each number. `revision` is the
    /// transaction's.
    pub(super) fn rests(&self, model: &Model, applied: &Applied, revision: u64) -> Vec<(Vec<u8>, Rest)> {
        let mut rows = BTreeMap::new();
        for left in &applied.left {
            let Some((number, owner, devices)) = model.resting(&left.number) else {
                continue;
            };
            let names = devices.iter().filter_map(|d| model.fabric.device_name(*d));
            let devices = names.filter_map(|name| name.parse().ok()).collect();
            rows.insert(rest_key(&number, revision), Rest { owner, devices });
        }
        rows.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_numbers_are_ordered_by_revision_and_those_of_format_3_are_read() {
        let number = StoredNumber::Vni(10_000);
        let key = |revision| String::from_utf8(rest_key(&number, revision)).unwrap();
        assert!(key(0xff) < key(0x100) && key(0x100) < key(u64::MAX));
        for revision in [0, 1, 0x1234_5678_9abc, u64::MAX] {
            let key = key(revision);
            assert_eq!(
                parse_rest_key(key.strip_prefix("rest/").unwrap()),
                Ok((number.clone(), revision)),
                "{key}"
            );
        }
        for wrong in [
            "",
            "0000000000000001",
            "0000000000000001/",
            "0000000000000000/{\"vni\":1}",
            "zz/{\"vni\":1}",
            "é",
        ] {
            assert!(parse_rest_key(wrong).is_err(), "{wrong}");
        }
    }
}
