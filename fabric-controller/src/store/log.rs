//! The log: what each of the last revisions did. It is stored beside the objects.
//!
//! **Model.** An entry for each revision names every key that it changed, with the value before and the value after.
//! So each kind of reader needs nothing but entries in order: one that follows takes the values after; one that shows
//! the history of a key takes the entries that name it; one that goes back to an older revision takes the values
//! before, the newest entry first. A reader that needs more than the window holds starts from the objects.
//!
//! **Layout.** `version (1) | checksum (4) | time (8) | note | count (4) | operations`; an operation is `key | before |
//! after` with octets (and the note) as `length (4) | octets`, `before` as `revision (8)` and octets unless that is 0,
//! `after` as a flag (1) and octets unless that is 0. All numbers are little endian. Version 1 had no note.

use std::time::{SystemTime, UNIX_EPOCH};

use super::Revision;

/// Layout of an entry.
const VERSION: u8 = 2;
/// The one before, which had no note.
const WITHOUT_NOTE: u8 = 1;
/// Version and checksum.
const HEADER: usize = 5;

/// What one operation did to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// The key.
    pub key: Vec<u8>,
    /// The value before, with the revision that wrote it; none: the key did not exist.
    pub before: Option<(Revision, Vec<u8>)>,
    /// The value after; none: the key is gone.
    pub after: Option<Vec<u8>>,
}

/// What one revision did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// When, in milliseconds since 1970 (UTC), by the clock of the machine.
    pub time_ms: u64,
    /// Who asked for the transaction, and why.
    pub note: Vec<u8>,
    /// In the order in which they were done; a key may occur more than once.
    pub effects: Vec<Effect>,
}

/// The time for an entry.
pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn put_octets(out: &mut Vec<u8>, octets: &[u8]) {
    // Values are bounded by the size of a request, far below 4 GiB.
    out.extend(u32::try_from(octets.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend(octets);
}

fn checksum(revision: Revision, body: &[u8]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&revision.to_le_bytes());
    hasher.update(body);
    hasher.finalize().to_le_bytes()
}

impl Entry {
    /// As stored under its revision.
    pub(super) fn encode(&self, revision: Revision) -> Vec<u8> {
        let mut body = self.time_ms.to_le_bytes().to_vec();
        put_octets(&mut body, &self.note);
        body.extend(u32::try_from(self.effects.len()).unwrap_or(u32::MAX).to_le_bytes());
        for effect in &self.effects {
            put_octets(&mut body, &effect.key);
            match &effect.before {
                Some((revision, value)) => {
                    body.extend(revision.to_le_bytes());
                    put_octets(&mut body, value);
                }
                None => body.extend(0u64.to_le_bytes()),
            }
            match &effect.after {
                Some(value) => {
                    body.push(1);
                    put_octets(&mut body, value);
                }
                None => body.push(0),
            }
        }
        [[VERSION].as_slice(), &checksum(revision, &body), &body].concat()
    }

    /// The entry of a revision; none if it is damaged or of a later version.
    pub(super) fn decode(revision: Revision, stored: &[u8]) -> Option<Self> {
        let body = stored.get(HEADER..)?;
        let version = *stored.first()?;
        if ![VERSION, WITHOUT_NOTE].contains(&version) || !stored.get(1..)?.starts_with(&checksum(revision, body)) {
            return None;
        }
        let mut rest = Reader(body);
        let time_ms = rest.u64()?;
        let note = if version == WITHOUT_NOTE {
            Vec::new()
        } else {
            rest.octets()?
        };
        let count = rest.u32()?;
        let mut effects = Vec::new();
        for _ in 0..count {
            effects.push(Effect {
                key: rest.octets()?,
                before: match rest.u64()? {
                    0 => None,
                    revision => Some((revision, rest.octets()?)),
                },
                after: match rest.take::<1>()? {
                    [0] => None,
                    _ => Some(rest.octets()?),
                },
            });
        }
        rest.0.is_empty().then_some(Self { time_ms, note, effects })
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn octets(&mut self) -> Option<Vec<u8>> {
        let length = usize::try_from(self.u32()?).ok()?;
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn octets() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(any::<u8>(), 0..20)
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let before = proptest::option::of((1..u64::MAX, octets()));
        let effect = (octets(), before, proptest::option::of(octets()));
        let effect = effect.prop_map(|(key, before, after)| Effect { key, before, after });
        (any::<u64>(), octets(), proptest::collection::vec(effect, 0..5)).prop_map(|(time_ms, note, effects)| Entry {
            time_ms,
            note,
            effects,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn an_entry_is_read_as_it_was_written_or_not_at_all(entry in entry(), at in any::<prop::sample::Index>(), bit in 0..8) {
            let stored = entry.encode(7);
            prop_assert_eq!(Entry::decode(7, &stored), Some(entry.clone()));
            prop_assert_eq!(Entry::decode(8, &stored), None);
            let mut flipped = stored.clone();
            flipped[at.index(stored.len())] ^= 1u8 << bit;
            prop_assert_eq!(Entry::decode(7, &flipped), None);
            prop_assert_eq!(Entry::decode(7, &stored[..at.index(stored.len())]), None);
        }

        #[test]
        fn anything_else_is_refused_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..60)) {
            // With a correct checksum.
            let stored = [[VERSION].as_slice(), &checksum(1, &body), &body].concat();
            if let Some(entry) = Entry::decode(1, &stored) {
                prop_assert_eq!(Entry::decode(1, &entry.encode(1)), Some(entry));
            }
        }
    }
}
