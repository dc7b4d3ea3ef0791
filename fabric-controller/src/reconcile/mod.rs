//! From differences to ordered, bounded batches. Pure.
//!
//! Make before break: new and changed entities come first, from the lowest rank up; then
//! removals, from the highest rank down. For a device that may reorder the writes of a
//! batch, each batch has only one rank, so that no entity ever refers to a missing one.

mod write;

use std::sync::Arc;

pub use write::{Batch, Limits, Write};

use crate::entity::{Entity, EntityKey};

/// One key that may differ: the desired and the applied entity.
#[derive(Debug, Clone)]
pub struct Difference {
    /// What the device should hold.
    pub desired: Option<Arc<Entity>>,
    /// What it holds.
    pub applied: Option<Arc<Entity>>,
}

impl Difference {
    /// The write that removes the difference; none if there is none.
    fn write(self) -> Option<Write> {
        match (self.desired, self.applied) {
            (Some(d), Some(a)) if d == a => None,
            (Some(d), Some(_)) => Some(Write::Modify(d)),
            (Some(d), None) => Some(Write::Insert(d)),
            (None, Some(a)) => Some(Write::Delete(a)),
            (None, None) => None,
        }
    }
}

/// Batches that remove the differences. Costs n log n for n differences.
pub fn plan(
    differences: impl IntoIterator<Item = Difference>,
    limits: Limits,
    rank: impl Fn(&EntityKey) -> u16,
    epoch: u64,
) -> Vec<Batch> {
    let writes = differences.into_iter().filter_map(Difference::write);
    let mut ranked: Vec<((bool, u16), EntityKey, Write)> = writes
        .map(|write| {
            let key = write.entity().key();
            let up = rank(&key);
            let delete = matches!(write, Write::Delete(_));
            ((delete, if delete { u16::MAX - up } else { up }), key, write)
        })
        .collect();
    // By key inside a rank, so that equal inputs give equal plans.
    ranked.sort_by(|(a, ka, _), (b, kb, _)| a.cmp(b).then_with(|| ka.cmp(kb)));
    let mut batches: Vec<Batch> = Vec::new();
    let mut last = None;
    for (step, _, write) in ranked {
        let fits = |b: &&mut Batch| b.writes.len() < limits.batch && (limits.ordered || last == Some(step));
        match batches.last_mut().filter(fits) {
            Some(batch) => batch.writes.push(write),
            None => batches.push(Batch {
                epoch,
                writes: vec![write],
            }),
        }
        last = Some(step);
    }
    batches
}
