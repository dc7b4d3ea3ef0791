//! Compares every structure with a list that is searched from front to back.

use std::time::Duration;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::layout::prefix_mask;
use super::shared::Shelf;
use super::*;

/// An entry of the model.
#[derive(Debug, Clone)]
struct Entry {
    slot: u32,
    pattern: Vec<u64>,
    priority: i32,
    args: [u64; 2],
}

/// What one look-up must find: one of these slots (several only if priorities are equal).
fn expected(layout: &KeyLayout, entries: &[Entry], key: &[u64]) -> Vec<u32> {
    let of = |kind| layout.places().iter().filter(|p| p.field.kind == kind).count();
    let by_length = of(FieldKind::Lpm) == 1 && of(FieldKind::Exact) + 1 == layout.places().len();
    let matching = entries.iter().filter(|e| {
        let (a, b) = e.pattern.split_at(layout.words());
        layout.places().iter().all(|p| {
            let field = p.at..p.at + p.words;
            let (key, a, b) = (&key[field.clone()], &a[field.clone()], &b[field]);
            match p.field.kind {
                FieldKind::Range => a <= key && key <= b,
                _ => (0..p.words).all(|i| key[i] & b[i] == a[i]),
            }
        })
    });
    let rank = |e: &&Entry| match by_length {
        true => e.pattern[layout.words()..].iter().map(|w| w.count_ones()).sum::<u32>() as i32,
        false => e.priority,
    };
    let best = matching.clone().map(|e| rank(&e)).max();
    matching.filter(|e| Some(rank(e)) == best).map(|e| e.slot).collect()
}

fn big(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|w| w.to_be_bytes()).collect()
}

/// A value with few distinct forms, so that prefixes nest, masks repeat and ranges overlap.
fn value(rng: &mut StdRng, width: u32) -> Vec<u64> {
    let words = (width as usize).div_ceil(64);
    let mut out = vec![0; words];
    match rng.random_range(0..4) {
        0 => out.fill_with(|| rng.random()),
        1 => out[words - 1] = rng.random_range(0..8),
        2 => out[0] = rng.random_range(0..8_u64) << (width - 1).saturating_sub(3).min(60),
        _ => {
            let all: u64 = if rng.random() { u64::MAX } else { 0 };
            out.fill(all);
            out[rng.random_range(0..words)] ^= 1 << rng.random_range(0..width.min(64));
        }
    }
    let mut mask = vec![0; words];
    prefix_mask(width, width, &mut mask);
    out.iter_mut().zip(mask).for_each(|(o, m)| *o &= m);
    out
}

fn pattern(rng: &mut StdRng, layout: &KeyLayout) -> Vec<u64> {
    let mut parts = Vec::new();
    for place in layout.places() {
        let width = place.field.width;
        let (a, b) = (value(rng, width), value(rng, width));
        parts.push((
            place.field.kind,
            big(&a.clone().min(b.clone())),
            big(&b.max(a)),
            rng.random_range(0..=width),
            rng.random_ratio(1, 4),
        ));
    }
    let matches = parts.iter().map(|(kind, a, b, prefix, any)| match kind {
        FieldKind::Exact => FieldMatch::Exact(a),
        FieldKind::Lpm => FieldMatch::Lpm(a, *prefix),
        _ if *any => FieldMatch::Any,
        FieldKind::Ternary => FieldMatch::Ternary(b, a),
        FieldKind::Range => FieldMatch::Range(a, b),
        FieldKind::Optional => FieldMatch::Exact(a),
    });
    let mut out = Vec::new();
    layout.pattern(matches, &mut out);
    out
}

/// A key: any, or one that an entry matches in most fields.
fn key(rng: &mut StdRng, layout: &KeyLayout, entries: &[Entry]) -> Vec<u64> {
    let mut key: Vec<u64> = layout.places().iter().flat_map(|p| value(rng, p.field.width)).collect();
    if entries.is_empty() {
        return key;
    }
    let near = &entries[rng.random_range(0..entries.len())].pattern;
    let (a, b) = near.split_at(layout.words());
    for place in layout.places() {
        if rng.random_ratio(1, 16) {
            continue;
        }
        for i in place.at..place.at + place.words {
            key[i] = match place.field.kind {
                FieldKind::Range => a[i],
                _ => key[i] & !b[i] | a[i],
            };
        }
        if place.field.kind == FieldKind::Range && rng.random() {
            key[place.at..place.at + place.words].copy_from_slice(&b[place.at..place.at + place.words]);
        }
    }
    key
}

/// One copy of a table, written as a transaction does it.
struct One {
    table: Table,
    shelf: Shelf,
}

impl One {
    fn new(layout: KeyLayout, args: usize) -> Self {
        let (table, shelf) = Table::new(layout, args);
        Self { table, shelf }
    }

    fn insert(&mut self, slot: u32, pattern: &[u64], priority: i32, leads: Leads, args: &[u64]) {
        let table = &self.table;
        let fill = |extra: &mut [u64]| table.fill(pattern, priority, extra);
        let place = self.shelf.take(slot, leads, args, fill);
        let inserted = self.table.insert(place, pattern, &self.shelf);
        if let Some(tuple) = inserted.tuple {
            self.shelf
                .amend(place, |extra| super::ternary::Ternary::set_tuple(extra, tuple));
        }
        assert_eq!(inserted.replaced, None);
    }

    fn modify(&mut self, slot: u32, pattern: &[u64], leads: Leads, args: &[u64]) {
        let old = self.shelf.place(slot).unwrap();
        let new = self.shelf.exchange(slot, leads, args);
        self.table.replace(old, new, pattern, &self.shelf);
        self.shelf.settle();
    }

    fn remove(&mut self, slot: u32, pattern: &[u64]) {
        self.table.remove(self.shelf.place(slot).unwrap(), pattern);
        self.shelf.give_back(slot);
        self.shelf.settle();
    }
}

/// Random insertions, modifications, removals and look-ups; many of the patterns are of few masks if `few_masks`.
fn compare(fields: Vec<KeyField>, seed: u64, steps: usize, few_masks: bool) {
    let mut rng = StdRng::seed_from_u64(seed);
    let layout = KeyLayout::new(fields);
    let mut one = One::new(layout.clone(), 2);
    let mut entries: Vec<Entry> = Vec::new();
    let mut slots = Slots::default();
    let of = |kind| layout.places().iter().filter(|p| p.field.kind == kind).count();
    let by_key = of(FieldKind::Lpm) <= 1 && of(FieldKind::Exact) + of(FieldKind::Lpm) == layout.places().len();
    let pool: Vec<Vec<u64>> = (0..8).map(|_| pattern(&mut rng, &layout)).collect();
    for _ in 0..steps {
        match rng.random_range(0..10) {
            0..5 => {
                let mut new = pattern(&mut rng, &layout);
                let has_ranges = layout.has(FieldKind::Range);
                if few_masks && !has_ranges {
                    // Another entry's mask over these values.
                    let (_, mask) = pool[rng.random_range(0..pool.len())].split_at(layout.words());
                    new.truncate(layout.words());
                    new.iter_mut().zip(mask).for_each(|(v, m)| *v &= m);
                    new.extend_from_slice(mask);
                }
                let priority = rng.random_range(1..40);
                let exists = |e: &Entry| e.pattern == new && (by_key || e.priority == priority);
                if entries.iter().any(exists) {
                    continue;
                }
                let entry = Entry {
                    slot: slots.take(),
                    pattern: new,
                    priority,
                    args: [rng.random(), rng.random()],
                };
                let leads = Leads::Action(entry.slot);
                one.insert(entry.slot, &entry.pattern, priority, leads, &entry.args);
                entries.push(entry);
            }
            5 if !entries.is_empty() => {
                let at = rng.random_range(0..entries.len());
                let entry = &mut entries[at];
                entry.args[0] = rng.random();
                one.modify(entry.slot, &entry.pattern, Leads::Action(entry.slot), &entry.args);
            }
            6 | 7 if !entries.is_empty() => {
                let at = rng.random_range(0..entries.len());
                let entry = entries.swap_remove(at);
                one.remove(entry.slot, &entry.pattern);
                slots.give_back(entry.slot);
                slots.settle();
            }
            _ => {}
        }
        let (table, absent) = (&one.table, pattern(&mut rng, &layout));
        let present = entries.iter().map(|e| e.pattern.as_slice());
        table.fetch([absent.as_slice()].into_iter().chain(present));
        assert_eq!(table.len(), entries.len());
        for _ in 0..3 {
            let key = key(&mut rng, &layout, &entries);
            let found = table.lookup(&key);
            let expected = expected(&layout, &entries, &key);
            match found {
                Some(record) => {
                    let slot = record.slot();
                    assert!(
                        expected.contains(&slot),
                        "{layout:?} {key:x?}: {slot} not in {expected:?}"
                    );
                    let entry = entries.iter().find(|e| e.slot == slot).unwrap();
                    assert_eq!(record.leads(), Leads::Action(slot));
                    assert_eq!(record.args(), entry.args);
                }
                None => assert!(expected.is_empty(), "{layout:?} {key:x?}: none, not {expected:?}"),
            }
        }
    }
    for entry in &entries {
        one.remove(entry.slot, &entry.pattern);
    }
    assert!(one.table.is_empty());
    assert!(one.table.lookup(&key(&mut rng, &layout, &entries)).is_none());
}

fn field(kinds: Vec<FieldKind>) -> impl Strategy<Value = KeyField> {
    let width = prop_oneof![1_u32..=200, Just(9), Just(32), Just(48), Just(64), Just(128)];
    (prop::sample::select(kinds), width).prop_map(|(kind, width)| KeyField { kind, width })
}

use FieldKind::{Exact, Lpm, Optional, Range, Ternary};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn exact(fields in prop::collection::vec(field(vec![Exact]), 1..4), seed: u64) {
        compare(fields, seed, 400, false);
    }

    #[test]
    fn lpm(
        before in prop::collection::vec(field(vec![Exact]), 0..2),
        lpm in field(vec![Lpm]),
        after in prop::collection::vec(field(vec![Exact]), 0..2),
        seed: u64,
    ) {
        let fields = before.into_iter().chain([lpm]).chain(after).collect();
        compare(fields, seed, 400, false);
    }

    #[test]
    fn ternary_of_many_masks(fields in prop::collection::vec(field(vec![Exact, Ternary, Optional, Lpm]), 1..4), seed: u64) {
        compare(fields, seed, 400, false);
    }

    #[test]
    fn ternary_of_few_masks(fields in prop::collection::vec(field(vec![Exact, Ternary, Optional]), 1..4), seed: u64) {
        compare(fields, seed, 400, true);
    }

    #[test]
    fn range(
        range in field(vec![Range]),
        others in prop::collection::vec(field(vec![Exact, Ternary, Optional, Range, Lpm]), 0..3),
        seed: u64,
    ) {
        let fields = [range].into_iter().chain(others).collect();
        compare(fields, seed, 400, false);
    }
}

/// Many prefixes of one length and their neighbours, so that nodes fill up and empty again.
#[test]
fn a_dense_trie_fills_and_empties() {
    let layout = KeyLayout::new([KeyField { kind: Lpm, width: 32 }]);
    let mut one = One::new(layout.clone(), 1);
    let empty = one.table.bytes();
    let pattern = |n: u32, length: u32| {
        let mut out = Vec::new();
        layout.pattern([FieldMatch::Lpm(&(n << (32 - length)).to_be_bytes(), length)], &mut out);
        out
    };
    for n in 0..4096 {
        one.insert(n, &pattern(n, 12), 0, Leads::Action(n), &[]);
        one.insert(4096 + n, &pattern(n, 17), 0, Leads::Action(n), &[]);
    }
    let found = |one: &One, key| one.table.lookup(&[key]).map(|record| record.slot());
    for n in 0..4096_u64 {
        // The longer prefixes cover the first 128 of the shorter ones.
        let longest = if n < 128 { 4096 + (n << 5 | 31) } else { n };
        assert_eq!(found(&one, n << 20 | 0xf_ffff), Some(longest as u32), "/12 at {n}");
        assert_eq!(found(&one, n << 15 | 0x7fff), Some(4096 + n as u32), "/17 at {n}");
    }
    for n in 0..4096 {
        one.remove(n, &pattern(n, 12));
        one.remove(4096 + n, &pattern(n, 17));
    }
    assert!(one.table.is_empty());
    assert!(one.table.lookup(&[0]).is_none());
    // Inserting again takes no more than the first time: nothing was lost.
    let full = one.table.bytes();
    for n in 0..4096 {
        one.insert(n, &pattern(n, 12), 0, Leads::Action(n), &[]);
        one.insert(4096 + n, &pattern(n, 17), 0, Leads::Action(n), &[]);
    }
    assert!(one.table.bytes() <= full + full / 8 && full > empty);
}

fn spec(kinds: &[FieldKind]) -> TableSpec {
    TableSpec {
        key: kinds.iter().map(|kind| KeyField { kind: *kind, width: 32 }).collect(),
        args: 1,
        counter: true,
        ages: true,
        ..TableSpec::default()
    }
}

/// Four tables of different kinds and a default action are given the same generation in each transaction; packet
/// threads look all of them up and must never find two generations side by side.
#[test]
fn a_batch_over_several_tables_is_seen_whole() {
    let tables = [spec(&[Exact]), spec(&[Lpm]), spec(&[Ternary]), spec(&[Range])];
    let (store, mut writer) = Store::new(&tables, &[], &[]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let relaxed = std::sync::atomic::Ordering::Relaxed;
    let seen = std::sync::atomic::AtomicU64::new(0);
    std::thread::scope(|scope| {
        for n in 0..2 {
            let (store, stop, seen) = (&store, &stop, &seen);
            scope.spawn(move || {
                let mut reader = store.reader(&format!("thread {n}"));
                let (mut last, mut key) = (0, 0_u64);
                while !stop.load(relaxed) {
                    let tables = reader.pin();
                    let default = tables.table(0).unwrap().default().args().first().copied().unwrap_or(0);
                    assert!(default >= last);
                    if default != last {
                        seen.fetch_add(1, relaxed);
                    }
                    last = default;
                    for _ in 0..8 {
                        key = (key + 1) % 16;
                        for t in 0..4 {
                            let table = tables.table(t).unwrap();
                            // Half of the entries are gone in odd generations.
                            let found = table.lookup(&[key]);
                            assert_eq!(
                                found.is_some(),
                                default > 0 && (default % 2 == 0 || key < 8),
                                "{t} {key}"
                            );
                            if let Some(record) = found {
                                assert_eq!(record.args(), [default], "table {t}");
                            }
                        }
                    }
                }
            });
        }
        let mut ids = Slots::default();
        let mut slots = [0; 16];
        let mut generation = 0_u64;
        while generation < 500 || (seen.load(relaxed) < 50 && generation < 50_000) {
            generation += 1;
            ids.settle();
            let done = writer.write(generation, |tx| {
                let args = [generation];
                let call = ActionCall { action: 0, args: &args };
                tx.set_default(0, Some(call));
                for n in 0..16_u32 {
                    let bytes = n.to_be_bytes();
                    let matches = [
                        FieldMatch::Exact(&bytes),
                        FieldMatch::Lpm(&bytes, 32),
                        FieldMatch::Ternary(&bytes, &[0xff; 4]),
                        FieldMatch::Range(&bytes, &bytes),
                    ];
                    let slot = &mut slots[n as usize];
                    let is_in = generation > 1 && (generation.is_multiple_of(2) || n < 8);
                    if generation == 1 && n < 8 || generation.is_multiple_of(2) && n >= 8 {
                        *slot = ids.take();
                    }
                    for (t, m) in matches.iter().enumerate() {
                        match (is_in, n < 8) {
                            (true, true) => tx.modify(t, *slot, [*m], Target::Action(call)),
                            (false, true) => tx.insert(t, *slot, [*m], 1, Target::Action(call)),
                            (true, false) => tx.insert(t, *slot, [*m], 1, Target::Action(call)),
                            (false, false) if generation > 1 => tx.remove(t, *slot, [*m]),
                            (false, false) => {}
                        }
                    }
                    if !is_in && n >= 8 && generation > 1 {
                        ids.give_back(*slot);
                    }
                }
            });
            done.unwrap();
        }
        stop.store(true, relaxed);
    });
    assert!(seen.load(relaxed) > 0);
}

#[test]
fn slots_rest_for_a_transaction_and_come_back_when_it_is_undone() {
    let mut slots = Slots::default();
    assert_eq!([slots.take(), slots.take(), slots.take()], [0, 1, 2]);
    slots.settle();
    slots.give_back(1);
    assert_eq!(slots.take(), 3, "1 rests");
    slots.roll_back();
    assert_eq!(slots.take(), 3, "1 is in use after all, 3 is not");
    slots.roll_back();
    slots.give_back(0);
    slots.settle();
    assert_eq!([slots.take(), slots.take()], [0, 3]);
    slots.roll_back();
    assert_eq!([slots.take(), slots.take()], [0, 3]);
}

#[test]
fn counters_outlive_modification_and_start_afresh() {
    let (store, mut writer) = Store::new(&[spec(&[Exact])], &[], &[]);
    let call = |args| Target::Action(ActionCall { action: 1, args });
    let key = [FieldMatch::Exact(&[5])];
    writer.write(10, |tx| tx.insert(0, 3, key, 0, call(&[1]))).unwrap();
    let direct = store.direct(0).unwrap();
    direct.counter(Some(3)).unwrap().count(100);
    direct.hit(3, 25);
    writer.write(30, |tx| tx.modify(0, 3, key, call(&[2]))).unwrap();
    assert_eq!(direct.counter(Some(3)).unwrap().get(), (1, 100));
    assert_eq!(direct.last_hit_ns(3), Some(25));
    let mut reader = store.reader("test");
    assert_eq!(reader.pin().table(0).unwrap().lookup(&[5]).unwrap().args(), [2]);
    writer.write(40, |tx| tx.remove(0, 3, key)).unwrap();
    assert!(reader.pin().table(0).unwrap().lookup(&[5]).is_none());
    writer.write(50, |tx| tx.insert(0, 3, key, 0, call(&[4]))).unwrap();
    assert_eq!(direct.counter(Some(3)).unwrap().get(), (0, 0));
    assert_eq!(direct.last_hit_ns(3), Some(50));
}

#[test]
fn members_change_under_the_entries_that_use_them() {
    let indirect = TableSpec {
        profile: Some(0),
        ..spec(&[Exact])
    };
    let (store, mut writer) = Store::new(&[indirect], &[2], &[]);
    let call = |action| ActionCall { action, args: &[9, 9] };
    let done = writer.write(0, |tx| {
        tx.set_member(0, 700, Some(call(1)));
        tx.set_member(0, 800, Some(call(2)));
        tx.set_group(0, 5, Some(&[(700, 1, None), (800, 0, Some(3)), (999, 1, None)]));
        tx.insert(0, 0, [FieldMatch::Exact(&[1])], 0, Target::Member(700));
        tx.insert(0, 1, [FieldMatch::Exact(&[2])], 0, Target::Group(5));
        let choice = |action, weight| Choice {
            call: call(action),
            weight,
            watch: None,
        };
        let choices = [choice(11, 1), choice(12, 2)];
        tx.insert(0, 2, [FieldMatch::Exact(&[3])], 0, Target::OneShot(&choices));
        tx.insert(0, 3, [FieldMatch::Exact(&[4])], 0, Target::Member(12345));
    });
    done.unwrap();
    let mut reader = store.reader("test");
    let mut actions = |key: u64| -> Vec<Option<u32>> {
        let tables = reader.pin();
        let table = tables.table(0).unwrap();
        let action = |member| match tables.member(0, member).unwrap().leads() {
            Leads::Action(n) => Some(n),
            _ => None,
        };
        match table.lookup(&[key]).map(|record| record.leads()) {
            Some(Leads::Member(member)) => vec![action(member)],
            Some(Leads::Group(group)) => match tables.group(0, group) {
                Some(group) => (0..3)
                    .map(|n| action(group.pick(|p| store.ports.is_up(p), |total| n % total)?))
                    .collect(),
                None => vec![],
            },
            _ => vec![],
        }
    };
    assert_eq!(actions(1), [Some(1)]);
    assert_eq!(actions(2), [Some(1), Some(2), Some(1)]);
    assert_eq!(actions(3), [Some(11), Some(12), Some(12)]);
    assert_eq!(actions(4), [None], "a member that does not exist leads nowhere");
    store.ports.set(3, false);
    assert_eq!(actions(2), [Some(1), Some(1), Some(1)]);
    let done = writer.write(0, |tx| {
        tx.set_member(0, 700, Some(call(8)));
        tx.modify(0, 2, [FieldMatch::Exact(&[3])], Target::Member(800));
    });
    done.unwrap();
    assert_eq!((actions(1), actions(3)), (vec![Some(8)], vec![Some(2)]));
}

#[test]
fn value_sets_and_replication_are_part_of_a_batch() {
    let fields = vec![KeyField { kind: Exact, width: 16 }, KeyField { kind: Exact, width: 80 }];
    let (store, mut writer) = Store::new(&[], &[], &[fields]);
    let replica = Replica {
        port: 4,
        instance: 1,
        backups: Box::default(),
    };
    let mut set = |members: &[&[u8]]| {
        let done = writer.write(0, |tx| {
            tx.set_value_set(
                0,
                members
                    .iter()
                    .map(|m| [FieldMatch::Exact(m), FieldMatch::Exact(&[7; 10])]),
            );
            tx.set_multicast(9, (!members.is_empty()).then(|| vec![replica.clone()]));
            tx.set_clone(1, (!members.is_empty()).then(CloneSession::default));
        });
        done.unwrap();
    };
    set(&[&[8, 0], &[0x86, 0xdd]]);
    let mut reader = store.reader("test");
    let key = |ether| [ether, 0x0707, 0x0707_0707_0707_0707];
    assert!(reader.pin().in_value_set(0, &key(0x800)) && reader.pin().in_value_set(0, &key(0x86dd)));
    assert_eq!(reader.pin().multicast(9).len(), 1);
    set(&[&[8, 6]]);
    assert!(!reader.pin().in_value_set(0, &key(0x800)) && reader.pin().in_value_set(0, &key(0x806)));
    set(&[]);
    assert!(!reader.pin().in_value_set(0, &key(0x806)));
    assert!(reader.pin().multicast(9).is_empty() && reader.pin().clone_session(1).is_none());
}

#[test]
fn a_stalled_reader_fails_a_write_that_then_changes_nothing() {
    let (store, mut writer) = Store::new(&[spec(&[Exact])], &[], &[]);
    writer.set_patience(Duration::from_millis(2));
    let mut reader = store.reader("port 1");
    let guard = reader.pin();
    let call = Target::Action(ActionCall { action: 1, args: &[] });
    let mut insert = |n: u8| writer.write(0, |tx| tx.insert(0, n.into(), [FieldMatch::Exact(&[n])], 0, call));
    assert!(insert(1).is_ok(), "the first write needs the other copy only");
    assert_eq!(insert(2).unwrap_err().reader, "port 1");
    assert!(guard.table(0).unwrap().is_empty());
    drop(guard);
    assert_eq!(reader.pin().table(0).unwrap().len(), 1);
    let mut insert = |n: u8| writer.write(0, |tx| tx.insert(0, n.into(), [FieldMatch::Exact(&[n])], 0, call));
    assert!(insert(3).is_ok());
    assert_eq!(reader.pin().table(0).unwrap().len(), 2);
}
