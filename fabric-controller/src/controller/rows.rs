//! The rows of the store, and which of them a transaction writes.
//!
//! | key | value |
//! | --- | --- |
//! | `object/<rank of its kind>/<vDC>/<name>` | an object with what was allocated for it |
//! | `group/<leaf>/<VNI>` | number of a network's pair of flood groups |
//! | `rest/<number>` | its last owner, and the devices that may hold it |
//! | `link/<end>/<end>` | what is remembered of a link |
//! | `uid` | the identity that the next object gets |
//! | `inventory/<rank of its kind>/<name>` | a switch, host or link, or the settings, with what was allocated for it |
//! | `inventory/next` | the handles that the next device and the next link get |
//! | `user/<vDC or nothing>/<name>` | a user with its roles and the hashes of its tokens |
//! | `request/<digest of caller and key>` | a call that may be sent again, with its answer |

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

pub(super) fn rest_key(number: &StoredNumber) -> Vec<u8> {
    [b"rest/".as_slice(), &to_json(number)].concat()
}

/// Serializing these types cannot fail: their map keys are strings.
pub(super) fn to_json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}

/// What the store keeps of a number in quarantine.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Rest {
    /// Its last owner.
    pub(super) owner: Uid,
    /// Devices that may hold it.
    pub(super) devices: Vec<Name>,
}

impl<S: Store> Controller<S> {
    /// What is to be stored of a transaction that was carried out, behind revision `before`.
    pub(super) fn to_store(
        &self,
        model: &Model,
        applied: &Applied,
        expired: &[Vec<u8>],
        rests: &[(Vec<u8>, Rest)],
        (before, origin): (u64, &Origin),
    ) -> StoreTransaction {
        // Deletes come first: the same transaction may put a key back into quarantine.
        let mut ops: Vec<Op> = expired.iter().cloned().map(Op::Delete).collect();
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

    /// What the store is to keep of the numbers that a transaction takes from devices: one row for each number.
    pub(super) fn rests(&self, model: &Model, applied: &Applied) -> Vec<(Vec<u8>, Rest)> {
        let mut rows = BTreeMap::new();
        for left in &applied.left {
            let Some((number, owner, devices)) = model.resting(&left.number) else {
                continue;
            };
            let names = devices.iter().filter_map(|d| model.fabric.device_name(*d));
            let devices = names.filter_map(|name| name.parse().ok()).collect();
            rows.insert(rest_key(&number), Rest { owner, devices });
        }
        rows.into_iter().collect()
    }
}
