//! Match tables: entries found by packed keys.
//!
//! | table | how | cost of a look-up |
//! | --- | --- | --- |
//! | exact | one hash map | one probe |
//! | LPM | a hash map for each prefix length in use, longest first | one probe a length |
//! | ternary, range, optional | tuple space: a hash map for each mask in use, by best priority | one probe a mask, less those that cannot win |
//!
//! Insertion and removal cost one probe each, however many entries there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustc_hash::FxHashMap;

use crate::meter::Meter;

/// An action with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionCall {
    /// Index of the action in the program.
    pub action: usize,
    /// Its arguments.
    pub args: Box<[num_bigint::BigUint]>,
}

/// What an entry makes the packet do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// An action.
    Action(ActionCall),
    /// A member of the table's profile.
    Member(u32),
    /// A group of the table's selector.
    Group(u32),
    /// One of these, by the selector's hash. A member counts only while its port, if any, is up.
    OneShot(Vec<(ActionCall, Option<u32>)>),
}

/// Packets and octets.
#[derive(Debug, Default)]
pub struct Counter {
    packets: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    /// Counts a packet.
    pub(crate) fn count(&self, bytes: usize) {
        self.packets.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Packets and octets so far.
    pub fn get(&self) -> (u64, u64) {
        (self.packets.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }

    /// Sets it.
    pub fn set(&self, packets: u64, bytes: u64) {
        self.packets.store(packets, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }
}

/// Bounds of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Range {
    /// Where the field starts in the packed key.
    at: usize,
    /// Lowest value, in the field's octets.
    low: Box<[u8]>,
    /// Highest value, in the field's octets.
    high: Box<[u8]>,
}

/// An entry as packets see it.
#[derive(Debug)]
pub struct Entry {
    /// Larger wins.
    pub priority: i32,
    /// What it leads to.
    pub target: Target,
    /// Bounds of range fields.
    pub(crate) ranges: Vec<Range>,
    /// Its direct counter.
    pub counter: Arc<Counter>,
    /// Its direct meter.
    pub meter: Arc<Meter>,
    /// When it was last hit, in nanoseconds of the switch's clock.
    pub last_hit_ns: Arc<AtomicU64>,
}

impl Entry {
    /// An entry; it has a counter, a meter and ageing if these are given.
    pub fn new(
        priority: i32,
        target: Target,
        counter: &Arc<Counter>,
        meter: &Arc<Meter>,
        last_hit_ns: &Arc<AtomicU64>,
    ) -> Self {
        let (counter, meter, last_hit_ns) = (Arc::clone(counter), Arc::clone(meter), Arc::clone(last_hit_ns));
        Self {
            priority,
            target,
            ranges: Vec::new(),
            counter,
            meter,
            last_hit_ns,
        }
    }
}

/// How one field of a key matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Exact,
    Lpm,
    Ternary,
    Range,
}

/// One field of a key: how it matches, and the octets it takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyField {
    pub(crate) kind: Kind,
    pub(crate) width: u32,
}

impl KeyField {
    pub(crate) fn octets(self) -> usize {
        (self.width as usize).div_ceil(8)
    }
}

/// The condition of one field of an entry's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// This value.
    Exact(Box<[u8]>),
    /// These leading bits.
    Lpm(Box<[u8]>, usize),
    /// This value under this mask.
    Ternary(Box<[u8]>, Box<[u8]>),
    /// From and to.
    Range(Box<[u8]>, Box<[u8]>),
}

type Bucket = FxHashMap<Box<[u8]>, Vec<Arc<Entry>>>;

/// Entries under one mask.
#[derive(Debug)]
struct Tuple {
    mask: Box<[u8]>,
    /// Bits of the LPM field; order of tuples in an LPM table.
    prefix: usize,
    best: i32,
    entries: Bucket,
    count: usize,
}

/// A table's entries.
#[derive(Debug)]
pub(crate) struct Entries {
    fields: Vec<KeyField>,
    /// Whether the key alone finds the entry.
    exact: bool,
    by_prefix: bool,
    map: FxHashMap<Box<[u8]>, Arc<Entry>>,
    tuples: Vec<Tuple>,
}

/// A key, split into the value to hash, its mask, and the bounds that are compared
/// separately.
struct Split {
    key: Box<[u8]>,
    mask: Box<[u8]>,
    prefix: usize,
    ranges: Vec<Range>,
}

impl Entries {
    pub(crate) fn new(fields: Vec<KeyField>) -> Self {
        let has = |k: Kind| fields.iter().any(|f| f.kind == k);
        let exact = !has(Kind::Lpm) && !has(Kind::Ternary) && !has(Kind::Range);
        let by_prefix = has(Kind::Lpm) && !has(Kind::Ternary) && !has(Kind::Range);
        Self {
            exact,
            by_prefix,
            fields,
            map: FxHashMap::default(),
            tuples: Vec::new(),
        }
    }

    fn split(&self, key: &[Match]) -> Split {
        let mut split = Split {
            key: Box::default(),
            mask: Box::default(),
            prefix: 0,
            ranges: Vec::new(),
        };
        let (mut bytes, mut mask): (Vec<u8>, Vec<u8>) = Default::default();
        for (field, part) in self.fields.iter().zip(key) {
            let octets = field.octets();
            let at = bytes.len();
            match part {
                Match::Exact(value) => {
                    bytes.extend_from_slice(value);
                    mask.resize(at + octets, 0xff);
                }
                Match::Lpm(value, prefix) => {
                    bytes.extend_from_slice(value);
                    mask.extend(prefix_mask(field.width, *prefix));
                    split.prefix = *prefix;
                }
                Match::Ternary(value, m) => {
                    bytes.extend_from_slice(value);
                    mask.extend_from_slice(m);
                }
                Match::Range(low, high) => {
                    split.ranges.push(Range {
                        at,
                        low: low.clone(),
                        high: high.clone(),
                    });
                }
            }
            bytes.resize(at + octets, 0);
            mask.resize(at + octets, 0);
        }
        bytes.iter_mut().zip(&mask).for_each(|(b, m)| *b &= m);
        (split.key, split.mask) = (bytes.into(), mask.into());
        split
    }

    /// Inserts an entry. It replaces one with the same key and priority.
    pub(crate) fn put(&mut self, key: &[Match], mut entry: Entry) {
        let split = self.split(key);
        entry.ranges = split.ranges;
        if self.exact {
            self.map.insert(split.key, Arc::new(entry));
            return;
        }
        let by_prefix = self.by_prefix;
        let at = self
            .tuples
            .iter()
            .position(|t| t.mask == split.mask)
            .unwrap_or_else(|| {
                let entries = FxHashMap::default();
                let new = Tuple {
                    mask: split.mask,
                    prefix: split.prefix,
                    best: i32::MIN,
                    entries,
                    count: 0,
                };
                self.tuples.push(new);
                self.tuples.len() - 1
            });
        if let Some(tuple) = self.tuples.get_mut(at) {
            tuple.best = tuple.best.max(entry.priority);
            let bucket = tuple.entries.entry(split.key).or_default();
            let same = |e: &Arc<Entry>| e.priority == entry.priority && e.ranges == entry.ranges;
            if let Some(old) = bucket.iter_mut().find(|e| same(e)) {
                *old = Arc::new(entry);
            } else {
                let place = bucket.partition_point(|e| e.priority >= entry.priority);
                bucket.insert(place, Arc::new(entry));
                tuple.count += 1;
            }
        }
        self.order(by_prefix);
    }

    /// Removes an entry.
    pub(crate) fn remove(&mut self, key: &[Match], priority: i32) {
        let split = self.split(key);
        if self.exact {
            self.map.remove(&split.key);
            return;
        }
        let Some(at) = self.tuples.iter().position(|t| t.mask == split.mask) else {
            return;
        };
        let Some(tuple) = self.tuples.get_mut(at) else { return };
        if let Some(bucket) = tuple.entries.get_mut(&split.key) {
            let before = bucket.len();
            bucket.retain(|e| e.priority != priority || e.ranges != split.ranges);
            tuple.count -= before - bucket.len();
            if bucket.is_empty() {
                tuple.entries.remove(&split.key);
            }
        }
        // `best` may now be too high. That costs a probe, but changes no result.
        if tuple.count == 0 {
            self.tuples.remove(at);
        }
    }

    /// Sorts the tuples. There are few, and they are nearly always in order already, so this is quick.
    fn order(&mut self, by_prefix: bool) {
        if by_prefix {
            self.tuples.sort_by_key(|t| std::cmp::Reverse(t.prefix));
        } else {
            self.tuples.sort_by_key(|t| std::cmp::Reverse(t.best));
        }
    }

    /// The entry that a key matches.
    pub(crate) fn find(&self, key: &[u8], scratch: &mut Vec<u8>) -> Option<&Arc<Entry>> {
        if self.exact {
            return self.map.get(key);
        }
        let mut found: Option<&Arc<Entry>> = None;
        for tuple in &self.tuples {
            if !self.by_prefix && found.is_some_and(|f| f.priority >= tuple.best) {
                break;
            }
            scratch.clear();
            scratch.extend(key.iter().zip(&tuple.mask).map(|(k, m)| k & m));
            let Some(bucket) = tuple.entries.get(scratch.as_slice()) else {
                continue;
            };
            let fits = |e: &&Arc<Entry>| e.ranges.iter().all(|r| in_range(key, r));
            let Some(best) = bucket.iter().find(fits) else { continue };
            if self.by_prefix {
                return Some(best);
            }
            if found.is_none_or(|f| best.priority > f.priority) {
                found = Some(best);
            }
        }
        found
    }
}

/// Octet strings of the same length have the order of their numbers.
fn in_range(key: &[u8], range: &Range) -> bool {
    let value = key.get(range.at..range.at + range.low.len());
    value.is_some_and(|v| *range.low <= *v && *v <= *range.high)
}

/// Octets of a mask of the leading `prefix` of `width` bits; a width that does not fill its
/// octets leaves the first bits of the first one unused.
fn prefix_mask(width: u32, prefix: usize) -> Vec<u8> {
    let octets = (width as usize).div_ceil(8);
    let unused = octets * 8 - width as usize;
    let bit = |i: usize| u8::from((unused..unused + prefix).contains(&i));
    (0..octets)
        .map(|o| (0..8).fold(0, |m, b| m << 1 | bit(o * 8 + b)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(priority: i32, action: usize) -> Entry {
        let call = ActionCall {
            action,
            args: Box::default(),
        };
        Entry {
            priority,
            target: Target::Action(call),
            ranges: Vec::new(),
            counter: Arc::default(),
            meter: Arc::default(),
            last_hit_ns: Arc::default(),
        }
    }

    fn found(entries: &Entries, key: &[u8]) -> Option<usize> {
        match entries.find(key, &mut Vec::new()).map(|e| &e.target) {
            Some(Target::Action(call)) => Some(call.action),
            _ => None,
        }
    }

    fn bytes(b: &[u8]) -> Box<[u8]> {
        b.into()
    }

    #[test]
    fn the_longest_prefix_wins() {
        let fields = vec![
            KeyField {
                kind: Kind::Exact,
                width: 8,
            },
            KeyField {
                kind: Kind::Lpm,
                width: 20,
            },
        ];
        let mut table = Entries::new(fields);
        for (prefix, action) in [(0, 1), (20, 2), (12, 3)] {
            table.put(
                &[
                    Match::Exact(bytes(&[7])),
                    Match::Lpm(bytes(&[0x0a, 0xbc, 0xde]), prefix),
                ],
                entry(0, action),
            );
        }
        assert_eq!(found(&table, &[7, 0x0a, 0xbc, 0xde]), Some(2));
        assert_eq!(found(&table, &[7, 0x0a, 0xbc, 0x00]), Some(3));
        assert_eq!(found(&table, &[7, 0x00, 0x00, 0x00]), Some(1));
        assert_eq!(found(&table, &[8, 0x0a, 0xbc, 0xde]), None);
        table.remove(
            &[Match::Exact(bytes(&[7])), Match::Lpm(bytes(&[0x0a, 0xbc, 0xde]), 20)],
            0,
        );
        assert_eq!(found(&table, &[7, 0x0a, 0xbc, 0xde]), Some(3));
    }

    #[test]
    fn the_highest_priority_wins() {
        let fields = vec![
            KeyField {
                kind: Kind::Ternary,
                width: 8,
            },
            KeyField {
                kind: Kind::Range,
                width: 16,
            },
        ];
        let mut table = Entries::new(fields);
        let range = |a: u16, b: u16| Match::Range(bytes(&a.to_be_bytes()), bytes(&b.to_be_bytes()));
        let ternary = |v, m| Match::Ternary(bytes(&[v]), bytes(&[m]));
        table.put(&[ternary(0, 0), range(0, 0xffff)], entry(1, 1));
        table.put(&[ternary(0x10, 0xf0), range(80, 443)], entry(9, 2));
        table.put(&[ternary(0x10, 0xf0), range(443, 9000)], entry(5, 3));
        let key = |a: u8, p: u16| [[a].as_slice(), &p.to_be_bytes()].concat();
        assert_eq!(found(&table, &key(0x15, 443)), Some(2));
        assert_eq!(found(&table, &key(0x15, 444)), Some(3));
        assert_eq!(found(&table, &key(0x25, 443)), Some(1));
        table.remove(&[ternary(0x10, 0xf0), range(80, 443)], 9);
        assert_eq!(found(&table, &key(0x15, 443)), Some(3));
    }
}
