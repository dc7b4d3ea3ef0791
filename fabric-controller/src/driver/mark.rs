//! The last revision that a switch received, remembered by the switch.
//!
//! The only place for a controller's own data in P4Runtime is the metadata of entities (specification, section
//! 9.5). So the revision is kept in the metadata of a multicast group without replicas that no network uses. The switch
//! forgets it together with its tables, and nothing else sees it: [`Read::take_from`] removes it from the read-back.
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
    /// Whether the mark was written after the current read-back began; then the read-back may not show it.
    written_meanwhile: bool,
}

impl Mark {
    /// The revision that the switch remembers.
    pub(super) fn revision(&self) -> Option<u64> {
        self.revision
    }

    /// A read-back begins.
    pub(super) fn begin_read(&mut self) -> Read {
        self.written_meanwhile = false;
        Read::default()
    }

    /// Everything was read.
    pub(super) fn end_read(&mut self, read: Read) {
        if !self.written_meanwhile {
            (self.stands, self.revision) = (read.stands, read.revision);
        }
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
        self.written_meanwhile = true;
    }

    /// The switch refused it: do not try again in this session.
    pub(super) fn refused(&mut self) {
        self.refused = true;
    }
}

/// What a read-back has found of it so far.
#[derive(Debug, Default)]
pub(super) struct Read {
    stands: bool,
    revision: Option<u64>,
}

impl Read {
    /// Removes it from a part of what a switch holds.
    pub(super) fn take_from(&mut self, held: &mut Vec<Entity>) {
        let key = EntityKey::MulticastGroup(GROUP);
        let Some(at) = held.iter().position(|entity| *entity.key() == key) else {
            return;
        };
        let group = held.swap_remove(at);
        self.stands = true;
        self.revision = match group.value() {
            EntityValue::MulticastGroup(group) => group.metadata.as_slice().try_into().ok().map(u64::from_be_bytes),
            _ => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a switch that holds this.
    fn read(mark: &mut Mark, held: &mut Vec<Entity>) {
        let mut read = mark.begin_read();
        read.take_from(held);
        mark.end_read(read);
    }

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
        read(&mut mark, &mut Vec::new());
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
        read(&mut mark, &mut held);
        assert_eq!((mark.revision(), held.len()), (Some(258), 2));
        // A mark of another program, or a damaged one, means nothing and is overwritten.
        read(&mut mark, &mut vec![group(GROUP, b"x")]);
        assert_eq!(
            (mark.revision(), metadata(mark.change(3, Instant::now())).map(|c| c.0)),
            (None, Some(false))
        );
    }

    #[test]
    fn a_read_back_that_is_older_than_a_write_says_nothing() {
        let (mut mark, now) = (Mark::default(), Instant::now());
        let begun = mark.begin_read();
        mark.written(7, now);
        mark.end_read(begun);
        assert_eq!(mark.revision(), Some(7));
        assert_eq!(metadata(mark.change(8, now + EVERY)).map(|c| c.0), Some(false));
        // The next one shows that the switch has lost it.
        read(&mut mark, &mut Vec::new());
        assert_eq!(metadata(mark.change(8, now + EVERY)).map(|c| c.0), Some(true));
    }
}
