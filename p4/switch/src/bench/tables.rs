//! Look-ups and updates of the match tables at a million entries.
//!
//! Keys are drawn from those that entries match, in random order, so nearly every look-up misses the processor's
//! caches. A look-up includes reading what the entry leads to. Updates replace entries: half of them remove the oldest
//! one, half insert a new one. Single updates are counted, in transactions of 1, 100 and 1000.

use std::hint::black_box;
use std::path::PathBuf;

use p4_engine::tables::snapshot::Stalled;
use p4_engine::tables::{
    ActionCall, FieldKind, FieldMatch, KeyField, KeyLayout, Slots, Store, TableSpec, Target, Writer,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use std::collections::{HashMap, HashSet};

use super::report::{Report, rate, resident_bytes};

/// One field of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Exact(u128),
    Lpm(u128, u32),
    Ternary(u128, u128),
    Range(u128, u128),
    Any,
}

/// An entry to insert.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Entry {
    parts: Vec<Part>,
    priority: i32,
}

/// Makes entries of one kind.
struct Workload {
    name: &'static str,
    fields: Vec<KeyField>,
    make: Box<dyn FnMut(&mut StdRng) -> Entry>,
}

fn fields(of: &[(FieldKind, u32)]) -> Vec<KeyField> {
    of.iter()
        .map(|(kind, width)| KeyField {
            kind: *kind,
            width: *width,
        })
        .collect()
}

/// Ones in the leading `prefix` of `width` bits.
fn mask(width: u32, prefix: u32) -> u128 {
    let all = |n: u32| if n == 0 { 0 } else { u128::MAX >> (128 - n) };
    all(width) & !all(width - prefix)
}

/// One of the lengths, drawn according to its share.
fn weighted(rng: &mut StdRng, shares: &[(u32, u32)]) -> u32 {
    let total: u32 = shares.iter().map(|(_, share)| share).sum();
    let mut at = rng.random_range(0..total);
    for (length, share) in shares {
        match at.checked_sub(*share) {
            Some(rest) => at = rest,
            None => return *length,
        }
    }
    0
}

/// Shares of prefix lengths in the Internet's IPv4 routing table (rounded from public BGP statistics).
const IPV4_LENGTHS: [(u32, u32); 12] = [
    (8, 1),
    (12, 1),
    (14, 1),
    (16, 14),
    (17, 9),
    (18, 15),
    (19, 26),
    (20, 45),
    (21, 55),
    (22, 115),
    (23, 105),
    (24, 613),
];

/// The same for IPv6, with host routes as a fabric has them.
const IPV6_LENGTHS: [(u32, u32); 9] = [
    (29, 20),
    (32, 110),
    (36, 30),
    (40, 60),
    (44, 80),
    (48, 450),
    (56, 50),
    (64, 100),
    (128, 100),
];

/// Masks of an access list over addresses, protocol and ports.
fn acl_masks(rng: &mut StdRng, count: usize) -> Vec<[u128; 5]> {
    let sources = [(0, 20), (8, 4), (16, 10), (20, 4), (24, 25), (28, 5), (30, 3), (32, 30)];
    let mut masks = HashSet::new();
    while masks.len() < count {
        // Besides the usual lengths, others occur, so that there are as many masks as requested.
        let length = |rng: &mut StdRng| match rng.random_ratio(1, 2) {
            true => weighted(rng, &sources),
            false => rng.random_range(8..=32),
        };
        let port = |rng: &mut StdRng| if rng.random_ratio(1, 2) { 0xffff } else { 0 };
        let (source, destination) = (length(rng), length(rng).max(16));
        let protocol = if rng.random_ratio(4, 5) { 0xff } else { 0 };
        let of = [mask(32, source), mask(32, destination), protocol, port(rng), port(rng)];
        masks.insert(of);
    }
    masks.into_iter().collect()
}

fn acl(name: &'static str, masks: usize) -> Workload {
    use FieldKind::Ternary;
    let all = acl_masks(&mut StdRng::seed_from_u64(7), masks);
    Workload {
        name,
        fields: fields(&[(Ternary, 32), (Ternary, 32), (Ternary, 8), (Ternary, 16), (Ternary, 16)]),
        make: Box::new(move |rng| {
            // Few masks have most of the entries.
            let at = (all.len() as f64 * rng.random::<f64>().powi(2)) as usize;
            let masks = all.get(at).copied().unwrap_or_default();
            let part = |mask: u128| match mask {
                0 => Part::Any,
                mask => Part::Ternary(rng.random::<u128>() & mask, mask),
            };
            Entry {
                parts: masks.map(part).to_vec(),
                priority: rng.random_range(1..1_000_000),
            }
        }),
    }
}

fn single(
    name: &'static str,
    kind: FieldKind,
    width: u32,
    mut part: impl FnMut(&mut StdRng) -> Part + 'static,
) -> Workload {
    Workload {
        name,
        fields: fields(&[(kind, width)]),
        make: Box::new(move |rng| Entry {
            parts: vec![part(rng)],
            priority: 1,
        }),
    }
}

fn workloads() -> Vec<Workload> {
    use FieldKind::{Exact, Lpm, Optional, Range};
    let lpm = |rng: &mut StdRng, width, shares: &[(u32, u32)]| {
        let length = weighted(rng, shares);
        // IPv6 routes share the leading bits that the Internet's registries were given.
        let value = match width {
            128 => 0x2 << 124 | (rng.random::<u128>() & mask(128, 128) >> 4) & !(0xff << 112),
            _ => rng.random::<u128>(),
        };
        Part::Lpm(value & mask(width, length), length)
    };
    vec![
        single("exact 48 bits", Exact, 48, |rng| {
            Part::Exact(rng.random::<u128>() & mask(48, 48))
        }),
        single("exact 128 bits", Exact, 128, |rng| Part::Exact(rng.random())),
        single("lpm IPv4", Lpm, 32, move |rng| lpm(rng, 32, &IPV4_LENGTHS)),
        single("lpm IPv6", Lpm, 128, move |rng| lpm(rng, 128, &IPV6_LENGTHS)),
        Workload {
            name: "lpm VRF 16 bits + IPv4",
            fields: fields(&[(Exact, 16), (Lpm, 32)]),
            make: Box::new(move |rng| Entry {
                parts: vec![Part::Exact(rng.random_range(0..4096)), lpm(rng, 32, &IPV4_LENGTHS)],
                priority: 1,
            }),
        },
        acl("ternary 5-tuple, 16 masks", 16),
        acl("ternary 5-tuple, 1000 masks", 1000),
        Workload {
            name: "range 16 bits + exact 32 bits",
            fields: fields(&[(Exact, 32), (Range, 16)]),
            make: Box::new(|rng| {
                let (a, b) = (rng.random::<u16>(), rng.random::<u16>());
                Entry {
                    parts: vec![
                        Part::Exact(rng.random_range(0..100_000)),
                        Part::Range(a.min(b).into(), a.max(b).into()),
                    ],
                    priority: rng.random_range(1..1_000_000),
                }
            }),
        },
        single("range 32 bits", Range, 32, |rng| {
            let low = rng.random_range(0..u128::from(u32::MAX) - 4096);
            Part::Range(low, low + rng.random_range(0..4096))
        }),
        Workload {
            name: "optional 32 + 16 + 16 bits",
            fields: fields(&[(Optional, 32), (Optional, 16), (Optional, 16)]),
            make: Box::new(|rng| {
                let mut part = |width| match rng.random_ratio(3, 4) {
                    true => Part::Exact(rng.random::<u128>() & mask(width, width)),
                    false => Part::Any,
                };
                Entry {
                    parts: vec![Part::Exact(u128::from(part(32) == Part::Any) + 7), part(16), part(16)],
                    priority: 1,
                }
            }),
        },
    ]
}

/// A store with one table, and a ring of entries, some of which are in the table.
struct Bed {
    writer: Writer,
    slots: Slots,
    ring: Vec<(u32, Entry)>,
    /// First and last position in the ring of the entries that are in the table.
    first: usize,
    end: usize,
}

const ARGS: [u64; 2] = [1, 2];

impl Bed {
    fn new(fields: &[KeyField], entries: Vec<Entry>) -> Self {
        let spec = TableSpec {
            key: fields.to_vec(),
            args: ARGS.len(),
            counter: true,
            ..TableSpec::default()
        };
        let (_, writer) = Store::new(&[spec], &[], &[]);
        Self {
            writer,
            slots: Slots::default(),
            ring: entries.into_iter().map(|entry| (0, entry)).collect(),
            first: 0,
            end: 0,
        }
    }

    /// One transaction: inserts the next entries, removes the oldest ones.
    fn write(&mut self, insert: usize, remove: usize) -> Result<(), Stalled> {
        self.slots.settle();
        let (slots, ring, first, end) = (&mut self.slots, &mut self.ring, &mut self.first, &mut self.end);
        let len = ring.len();
        self.writer.write(0, |tx| {
            for _ in 0..remove {
                if let Some((slot, entry)) = ring.get(*first % len) {
                    with_matches(&entry.parts, |matches| tx.remove(0, *slot, matches.iter().copied()));
                    slots.give_back(*slot);
                }
                *first += 1;
            }
            let target = Target::Action(ActionCall { action: 3, args: &ARGS });
            for _ in 0..insert {
                if let Some((slot, entry)) = ring.get_mut(*end % len) {
                    *slot = slots.take();
                    with_matches(&entry.parts, |matches| {
                        tx.insert(0, *slot, matches.iter().copied(), entry.priority, target);
                    });
                }
                *end += 1;
            }
        })
    }
}

fn with_matches<T>(parts: &[Part], f: impl FnOnce(&[FieldMatch<'_>]) -> T) -> T {
    let bytes: Vec<[[u8; 16]; 2]> = parts
        .iter()
        .map(|part| {
            let (a, b) = match *part {
                Part::Exact(a) | Part::Lpm(a, _) => (a, 0),
                Part::Ternary(a, b) | Part::Range(a, b) => (a, b),
                Part::Any => (0, 0),
            };
            [a.to_be_bytes(), b.to_be_bytes()]
        })
        .collect();
    let matches: Vec<FieldMatch<'_>> = parts
        .iter()
        .zip(&bytes)
        .map(|(part, [a, b])| match part {
            Part::Exact(_) => FieldMatch::Exact(a),
            Part::Lpm(_, length) => FieldMatch::Lpm(a, *length),
            Part::Ternary(..) => FieldMatch::Ternary(a, b),
            Part::Range(..) => FieldMatch::Range(a, b),
            Part::Any => FieldMatch::Any,
        })
        .collect();
    f(&matches)
}

/// A key that an entry matches.
fn key(rng: &mut StdRng, layout: &KeyLayout, entry: &Entry, out: &mut Vec<u64>) {
    for (part, place) in entry.parts.iter().zip(layout.places()) {
        let width = place.field.width;
        let value = match *part {
            Part::Exact(value) => value,
            Part::Lpm(value, length) => value | rng.random::<u128>() & mask(width, width) & !mask(width, length),
            Part::Ternary(value, m) => value | rng.random::<u128>() & mask(width, width) & !m,
            Part::Range(low, high) => rng.random_range(low..=high),
            Part::Any => rng.random::<u128>() & mask(width, width),
        };
        if place.words == 2 {
            out.push((value >> 64) as u64);
        }
        out.push(value as u64);
    }
}

/// Keys that are looked up in turn; too many for a cache.
const KEYS: usize = 1 << 18;

/// Entries put in by one transaction while filling.
const FILL: usize = 10_000;

/// Options of `bench tables`.
#[derive(Debug, clap::Args)]
pub(crate) struct TablesOptions {
    /// Writes the figures to this file too.
    #[arg(long)]
    pub(super) json: Option<PathBuf>,
    /// Entries in each table.
    #[arg(long, default_value_t = 1_000_000)]
    entries: usize,
    /// Measures only kinds of table whose name contains this.
    #[arg(long, default_value = "")]
    only: String,
}

/// Measures all kinds that are asked for.
pub(super) fn run(options: &TablesOptions) -> Result<Report, Box<dyn std::error::Error>> {
    let (entries, only) = (options.entries, options.only.as_str());
    let mut report = Report::new("tables");
    for mut workload in workloads().into_iter().filter(|w| w.name.contains(only)) {
        measure(&mut report, &mut workload, entries)?;
    }
    if "peer".contains(only) {
        peer(&mut report, entries);
    }
    Ok(report)
}

fn measure(report: &mut Report, workload: &mut Workload, count: usize) -> Result<(), Box<dyn std::error::Error>> {
    let mut rng = StdRng::seed_from_u64(1);
    let mut known = HashSet::new();
    let mut ring = Vec::new();
    // Updates insert entries that are not in the table.
    while ring.len() < count + count / 4 {
        let entry = (workload.make)(&mut rng);
        if known.insert(entry.clone()) {
            ring.push(entry);
        }
    }
    drop(known);
    let mut bed = Bed::new(&workload.fields, ring);
    let before = resident_bytes();
    let mut error = None;
    while bed.end < count {
        bed.write(FILL.min(count - bed.end), 0)?;
    }
    // Repeats the last batch on the second copy.
    bed.write(0, 0)?;
    let resident = resident_bytes().saturating_sub(before);
    let table = bed.writer.tables().table(0).ok_or("the store has no table")?;
    let bytes = 2 * table.bytes() + bed.writer.shared_bytes(0) + bed.writer.store().direct(0).map_or(0, |d| d.bytes());
    let (words, layout) = (table.layout().words(), table.layout().clone());
    let mut keys = Vec::with_capacity(KEYS * words);
    for _ in 0..KEYS {
        if let Some((_, entry)) = bed.ring.get(rng.random_range(0..count)) {
            key(&mut rng, &layout, entry, &mut keys);
        }
    }
    let lookups = rate(|| {
        let mut found = 0;
        for key in keys.chunks_exact(words) {
            if let Some(record) = table.lookup(key) {
                found += black_box(record.args()).len();
            }
        }
        black_box(found);
        KEYS
    });
    let found = keys
        .chunks_exact(words)
        .filter(|key| table.lookup(key).is_some())
        .count();
    let mut figures = vec![
        ("lookups_per_s", lookups),
        ("lookup_ns", 1e9 / lookups),
        ("tables_bytes_per_entry", bytes as f64 / count as f64),
        ("resident_bytes_per_entry", resident as f64 / count as f64),
        ("tuples", table.tuples() as f64),
        ("found_percent", 100.0 * found as f64 / KEYS as f64),
    ];
    for (batch, name) in [
        (1, "by_1_updates_per_s"),
        (100, "by_100_updates_per_s"),
        (1000, "by_1000_updates_per_s"),
    ] {
        let updates = rate(|| {
            let done = match batch {
                1 => bed.write(1, 0).and_then(|()| bed.write(0, 1)),
                _ => bed.write(batch / 2, batch / 2),
            };
            error = error.take().or(done.err());
            batch.max(2)
        });
        figures.push((name, updates));
    }
    report.row(workload.name, &figures);
    error.map_or(Ok(()), |error| Err(error.into()))
}

/// The standard library's map with 48-bit keys, as a measure of the machine.
fn peer(report: &mut Report, count: usize) {
    let mut rng = StdRng::seed_from_u64(1);
    let keys: Vec<u64> = (0..count).map(|_| rng.random::<u64>() >> 16).collect();
    let map: HashMap<u64, [u64; 3]> = keys.iter().map(|k| (*k, [*k, 1, 2])).collect();
    let probes: Vec<u64> = (0..KEYS).filter_map(|_| keys.choose(&mut rng).copied()).collect();
    let lookups = rate(|| {
        let found = probes
            .iter()
            .filter_map(|key| map.get(key))
            .map(|v| black_box(v)[1])
            .sum::<u64>();
        black_box(found);
        KEYS
    });
    report.row(
        "peer: std HashMap, 64-bit keys",
        &[("lookups_per_s", lookups), ("lookup_ns", 1e9 / lookups)],
    );
}
