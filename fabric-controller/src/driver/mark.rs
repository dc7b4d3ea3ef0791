//! The last revision that a switch received, remembered by the switch.
//!
//! The only place for a controller's own data in P4Runtime is the metadata of entities (specification, section
//! 9.5). So the revision is kept in the metadata of a multicast group without replicas that no network uses. The switch
//! forgets it together with its tables, and nothing else sees it: [`Mark::read`] removes it from the read-back.
//!
//! **Cost.** At most one write in [`EVERY`], when the switch has reached another revision; the sweep writes the last
//! one.

use std::time::{Duration, Instant};

use p4runtime_client::entity::{Entity, EntityKey, EntityValue};
use p4runtime_client::write::Change;

/// The multicast group. Flood groups come in pairs and end with 0xfffe.
const GROUP: u32 = 0xffff;
/// Shortest time between two writes of it. A copy of the store that is older by less than this is not noticed.
const EVERY: Duration = Duration::from_secs(1);

/// The state of the mark in a session.
#[derive(Debug, Default)]
pub(super) struct Mark {
    /// Whether the group exists.
    stands: bool,
    revision: Option<u64>,
    written: Option<Instant>,
    refused: bool,
}

impl Mark {
    /// The revision that the switch remembers.
    pub(super) fn revision(&self) -> Option<u64> {
        self.revision
    }

    /// Removes it from everything that a switch holds.
    pub(super) fn read(&mut self, held: &mut Vec<Entity>) {
        let key = EntityKey::MulticastGroup(GROUP);
        let at = held.iter().position(|entity| *entity.key() == key);
        let group = at.map(|at| held.swap_remove(at));
        self.stands = group.is_some();
        self.revision = group.and_then(|group| match group.value() {
            EntityValue::MulticastGroup(group) => group.metadata.as_slice().try_into().ok().map(u64::from_be_bytes),
            _ => None,
        });
    }

    /// The write for a revision that the switch has received; none if the switch has it already, or if it is too early.
    pub(super) fn change(&self, revision: u64, now: Instant) -> Option<Change> {
        let recent = self.written.is_some_and(|then| now.duration_since(then) < EVERY);
        if recent || self.refused || self.revision == Some(revision) {
            return None;
        }
        let group = Entity::multicast_group_with(GROUP, Vec::new(), revision.to_be_bytes().to_vec());
        Some(if self.stands {
            Change::Modify(group)
        } else {
            Change::Insert(group)
        })
    }

    /// The switch accepted it.
    pub(super) fn written(&mut self, revision: u64, now: Instant) {
        (self.stands, self.revision, self.written) = (true, Some(revision), Some(now));
    }

    /// The switch refused it: do not try again in this session.
    pub(super) fn refused(&mut self) {
        self.refused = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(change: Option<Change>) -> Option<(bool, Vec<u8>)> {
        let (inserts, entity) = match change? {
            Change::Insert(entity) => (true, entity),
            Change::Modify(entity) => (false, entity),
            Change::Delete(key) => panic!("{key:?}"),
        };
        match entity.value() {
            EntityValue::MulticastGroup(group) => Some((inserts, group.metadata.clone())),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn it_is_written_once_a_revision_and_once_a_second() {
        let (mut mark, now) = (Mark::default(), Instant::now());
        mark.read(&mut Vec::new());
        assert_eq!(mark.revision(), None);
        assert_eq!(
            metadata(mark.change(7, now)),
            Some((true, vec![0, 0, 0, 0, 0, 0, 0, 7]))
        );
        mark.written(7, now);
        assert_eq!(
            (mark.revision(), metadata(mark.change(7, now + EVERY))),
            (Some(7), None)
        );
        assert_eq!(metadata(mark.change(8, now + EVERY / 2)), None);
        assert_eq!(
            metadata(mark.change(8, now + EVERY)),
            Some((false, vec![0, 0, 0, 0, 0, 0, 0, 8]))
        );
        mark.refused();
        assert_eq!(metadata(mark.change(8, now + EVERY)), None);
    }

    #[test]
    fn it_is_nobody_elses_entity() {
        let group = |id, metadata: &[u8]| Entity::multicast_group_with(id, Vec::new(), metadata.to_vec());
        let mut held = vec![group(1, b""), group(GROUP, &[0, 0, 0, 0, 0, 0, 1, 2]), group(2, b"")];
        let mut mark = Mark::default();
        mark.read(&mut held);
        assert_eq!((mark.revision(), held.len()), (Some(258), 2));
        // A mark of another program, or a damaged one, means nothing and is overwritten.
        mark.read(&mut vec![group(GROUP, b"x")]);
        assert_eq!(
            (mark.revision(), metadata(mark.change(3, Instant::now())).map(|c| c.0)),
            (None, Some(false))
        );
    }
}
