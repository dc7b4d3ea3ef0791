//! The packet engine against the reference evaluator: the same programs, entries and
//! packets, drawn at random, give the same frames, digests, counters and registers, interpreted and
//! as machine code.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bmv2_json::{FieldWidth, KeyTarget, MatchType, Program, TableType};
use num_bigint::BigUint;
use p4_engine::tables::store::Choice;
use p4_engine::tables::{ActionCall, FieldMatch, Target, Writer};
use p4_engine::{DigestFields, Pipeline, Sink, Worker};
use p4_reference::{self as reference, Output, Switch};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const CPU: u32 = 510;
const DROP: u32 = 511;
/// Most of what is drawn at random is below this, so that tables hit.
const SMALL: u64 = 5;

/// The output, in an order that does not depend on the order of copies.
type Seen = Vec<(u32, Vec<Vec<u8>>)>;

#[derive(Default)]
struct Collect(Seen);

impl Sink for Collect {
    fn frame(&mut self, port: u32, data: &[u8]) {
        self.0.push((port, vec![data.to_vec()]));
    }

    fn digest(&mut self, id: u32, fields: DigestFields<'_>) {
        self.0.push((1 << 20 | id, fields.map(<[u8]>::to_vec).collect()));
    }
}

/// One program in both.
struct Both {
    program: Program,
    reference: Switch,
    pipeline: Arc<Pipeline>,
    writer: Writer,
    worker: Worker,
    slots: BTreeMap<usize, u32>,
    rng: StdRng,
}

fn compile(path: &str) -> Program {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    match p4_compiler::compile_file(&path, &p4_compiler::Options::default()) {
        Ok(compiled) => compiled.program,
        Err(diagnostics) => panic!("{}", diagnostics.short()),
    }
}

/// A number of this many bits in octets.
fn octets(value: u128, width: u32) -> Vec<u8> {
    let octets = width.div_ceil(8) as usize;
    let cut = if width >= 128 {
        value
    } else {
        value & ((1 << width) - 1)
    };
    let mut all = vec![0; octets.saturating_sub(16)];
    all.extend_from_slice(&cut.to_be_bytes()[16 - octets.min(16)..]);
    all
}

impl Both {
    /// With the engine interpreting the program, or with machine code for it.
    fn new(program: &Program, seed: u64, compiled: bool) -> Self {
        let reference = Switch::from_program(program, Some(CPU), DROP).unwrap();
        let (pipeline, writer) = Pipeline::new(program, Some(CPU), DROP).unwrap();
        if compiled {
            assert_eq!(pipeline.compile(), Vec::<String>::new());
        }
        Self {
            program: program.clone(),
            reference,
            worker: Worker::new(&pipeline, "test"),
            pipeline,
            writer,
            slots: BTreeMap::new(),
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// A value that packets of `frame` may well have.
    fn value(&mut self, width: u32) -> u128 {
        let pool: [u128; 14] = [
            0x02fa_b000_0001,
            0x0200_0000_0001,
            0x0200_0000_0002,
            0xffff_ffff_ffff,
            0x0800,
            0x0806,
            0x86dd,
            17,
            4789,
            0x0a00_0001,
            0x0a00_0002,
            0xffff_0a00_0001,
            0xffff_0a00_0002,
            0xfe80_0000_0000_0000_0000_0000_0000_0001,
        ];
        match self.rng.random_range(0..8) {
            0..4 => self.rng.random_range(0..SMALL).into(),
            4..7 if width > 8 => pool[self.rng.random_range(0..pool.len())],
            _ => self.rng.random(),
        }
    }

    fn key_width(&self, target: &KeyTarget) -> u32 {
        let KeyTarget::Field(field) = target else { return 1 };
        if field.1 == "$valid$" {
            return 1;
        }
        let header = self.program.headers.iter().find(|h| h.name == field.0).unwrap();
        let kind = self
            .program
            .header_types
            .iter()
            .find(|t| t.name == header.header_type)
            .unwrap();
        match kind.fields.iter().find(|f| f.name == field.1).unwrap().width {
            FieldWidth::Bits(width) => width,
            FieldWidth::Variable => 0,
        }
    }

    /// An action with arguments, for both.
    fn call(&mut self, ids: &[u32]) -> (reference::ActionCall, u32, Vec<u64>) {
        // Programs usually name the action that forwards first.
        let at = [0, 0, 0, self.rng.random_range(0..ids.len())][self.rng.random_range(0..4)];
        let id = ids[at];
        let action = self.program.actions.iter().position(|a| a.id == id).unwrap();
        let widths: Vec<u32> = self.program.actions[action]
            .runtime_data
            .iter()
            .map(|d| d.bitwidth)
            .collect();
        let args: Vec<u128> = widths.iter().map(|w| self.value(*w)).collect();
        let bytes: Vec<Vec<u8>> = args.iter().zip(&widths).map(|(v, w)| octets(*v, *w)).collect();
        let words = self.pipeline.args(action as u32, bytes.iter().map(Vec::as_slice));
        let args = bytes.iter().map(|b| BigUint::from_bytes_be(b)).collect();
        (reference::ActionCall { action, args }, action as u32, words)
    }

    fn entries(&mut self, count: usize) {
        let tables: Vec<bmv2_json::Table> = self.program.pipelines.iter().flat_map(|p| p.tables.clone()).collect();
        for _ in 0..count {
            let table = self.rng.random_range(0..tables.len());
            let source = &tables[table];
            if source.key.is_empty() || source.action_ids.is_empty() {
                continue;
            }
            self.entry(table, source);
        }
    }

    fn entry(&mut self, table: usize, source: &bmv2_json::Table) {
        let mut key = Vec::new();
        for element in &source.key {
            let width = self.key_width(&element.target);
            let value = self.value(width);
            key.push(match element.match_type {
                MatchType::Valid | MatchType::Exact => reference::Match::Exact(octets(value, width).into()),
                MatchType::Lpm => {
                    let prefix = self.rng.random_range(0..=width) as usize;
                    reference::Match::Lpm(octets(value, width).into(), prefix)
                }
                MatchType::Ternary => {
                    let masks = [u128::MAX, 0, 1, 0xff, 0xffff_ffff_0000];
                    let mask = masks[self.rng.random_range(0..masks.len())];
                    let masked = octets(value & mask, width);
                    reference::Match::Ternary(masked.into(), octets(mask, width).into())
                }
                MatchType::Range => {
                    let (a, b) = (octets(value, width), octets(self.value(width), width));
                    reference::Match::Range(a.clone().min(b.clone()).into(), a.max(b).into())
                }
            });
        }
        let by_priority = source
            .key
            .iter()
            .any(|k| matches!(k.match_type, MatchType::Ternary | MatchType::Range));
        let slot = *self.slots.entry(table).and_modify(|s| *s += 1).or_insert(0);
        // One priority each, so that there is one answer.
        let priority = if by_priority { slot as i32 + 1 } else { 0 };
        let weights = [1, 1, 2].map(|w| (w, self.rng.random_range(0..4) == 0));
        let calls: Vec<_> = weights.iter().map(|_| self.call(&source.action_ids)).collect();
        let (target, one_shot);
        let (reference_target, engine_target) = if source.kind == TableType::Simple {
            target = reference::Target::Action(calls[0].0.clone());
            let call = ActionCall {
                action: calls[0].1,
                args: &calls[0].2,
            };
            (target, Target::Action(call))
        } else {
            let all = calls.iter().zip(weights).flat_map(|((call, ..), (weight, watched))| {
                std::iter::repeat_n((call.clone(), watched.then_some(2)), weight)
            });
            target = reference::Target::OneShot(all.collect());
            let choice = |(call, (weight, watched)): (usize, (usize, bool))| Choice {
                call: ActionCall {
                    action: calls[call].1,
                    args: &calls[call].2,
                },
                weight: weight as u32,
                watch: watched.then_some(2),
            };
            one_shot = weights.into_iter().enumerate().map(choice).collect::<Vec<_>>();
            (target, Target::OneShot(&one_shot))
        };
        let (counter, meter, hit) = Default::default();
        let entry = reference::Entry::new(priority, reference_target, &counter, &meter, &hit);
        self.reference.tables_mut().put(table, &key, entry);
        let matches = key.iter().map(|m| match m {
            reference::Match::Exact(v) => FieldMatch::Exact(v),
            reference::Match::Lpm(v, prefix) => FieldMatch::Lpm(v, *prefix as u32),
            reference::Match::Ternary(v, mask) => FieldMatch::Ternary(v, mask),
            reference::Match::Range(low, high) => FieldMatch::Range(low, high),
        });
        let written = self
            .writer
            .write(0, |t| t.insert(table, slot, matches, priority, engine_target));
        written.unwrap();
    }

    /// Other default actions than those of the program, so that packets get far.
    fn defaults(&mut self) {
        let tables: Vec<bmv2_json::Table> = self.program.pipelines.iter().flat_map(|p| p.tables.clone()).collect();
        for (table, source) in tables.iter().enumerate() {
            if source.action_ids.is_empty() || source.kind != TableType::Simple || self.rng.random_range(0..3) == 0 {
                continue;
            }
            let (call, action, args) = self.call(&source.action_ids);
            self.reference.tables_mut().set_default(table, Some(call));
            let call = ActionCall { action, args: &args };
            self.writer.write(0, |t| t.set_default(table, Some(call))).unwrap();
        }
    }

    /// Multicast groups and clone sessions for small ids.
    fn copies(&mut self) {
        for id in 0..2 * SMALL as u32 {
            let replicas: Vec<(u32, u16)> = (0..id % 4)
                .map(|_| (self.rng.random_range(0..6), self.rng.random_range(0..4)))
                .collect();
            let truncate_bytes = if id % 3 == 0 { 60 } else { 0 };
            let of_reference = || {
                let replica = |(port, instance): &(u32, u16)| reference::Replica {
                    port: *port,
                    instance: *instance,
                    backups: Box::default(),
                };
                replicas.iter().map(replica).collect::<Vec<_>>()
            };
            let mut tables = self.reference.tables_mut();
            tables.set_multicast(id, Some(of_reference()));
            let session = reference::CloneSession {
                replicas: of_reference(),
                truncate_bytes,
            };
            tables.set_clone(id, Some(session));
            drop(tables);
            let of_engine = || {
                let replica = |(port, instance): &(u32, u16)| p4_engine::tables::Replica {
                    port: *port,
                    instance: *instance,
                    backups: Box::default(),
                };
                replicas.iter().map(replica).collect::<Vec<_>>()
            };
            let session = p4_engine::tables::CloneSession {
                replicas: of_engine(),
                truncate_bytes,
            };
            let written = self.writer.write(0, |t| {
                t.set_multicast(id, Some(of_engine()));
                t.set_clone(id, Some(session));
            });
            written.unwrap();
        }
    }

    /// A frame: a common sequence of headers, with some fields changed, cut anywhere.
    fn frame(&mut self) -> Vec<u8> {
        let mut frame = Vec::new();
        let vxlan = self.rng.random_range(0..3) == 0;
        if vxlan {
            self.ethernet(&mut frame, 0x0800);
            self.ipv4(&mut frame, 17);
            self.udp(&mut frame, 4789);
            frame.extend([8, 0, 0, 0, 0, 0, self.rng.random_range(0..SMALL) as u8, 0]);
        }
        match self.rng.random_range(0..5) {
            0 => {
                self.ethernet(&mut frame, 0x0806);
                frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
                frame.extend(octets(self.value(48), 48));
                frame.extend(octets(self.value(32), 32));
                frame.extend([0; 6]);
                frame.extend(octets(self.value(32), 32));
            }
            1 => {
                self.ethernet(&mut frame, 0x86dd);
                frame.extend([0x60, 0, 0, 0, 0, 24, if self.rng.random() { 58 } else { 17 }, 64]);
                frame.extend(octets(self.value(128), 128));
                frame.extend(octets(self.value(128), 128));
                frame.extend([135, 0, 0, 0, 0, 0, 0, 0]);
                frame.extend(octets(self.value(128), 128));
            }
            2 => {
                self.ethernet(&mut frame, 0x8100);
                frame.extend([0, self.rng.random_range(0..SMALL) as u8, 8, 0]);
                self.ipv4(&mut frame, 6);
            }
            _ => {
                let protocol = [1, 6, 17, 99][self.rng.random_range(0..4)];
                self.ethernet(&mut frame, 0x0800);
                self.ipv4(&mut frame, protocol);
                self.udp(&mut frame, 4789);
            }
        }
        frame.extend((0..self.rng.random_range(0..64)).map(|i| i as u8));
        for _ in 0..self.rng.random_range(0..2) {
            let at = self.rng.random_range(0..frame.len());
            frame[at] = self.rng.random();
        }
        if self.rng.random_range(0..8) == 0 {
            frame.truncate(self.rng.random_range(0..frame.len()));
        }
        frame
    }

    fn ethernet(&mut self, frame: &mut Vec<u8>, kind: u16) {
        let router = self.rng.random_range(0..3) == 0;
        let to = if router { 0x02fa_b000_0001 } else { self.value(48) };
        frame.extend(octets(to, 48));
        frame.extend(octets(self.value(48), 48));
        frame.extend(kind.to_be_bytes());
    }

    fn ipv4(&mut self, frame: &mut Vec<u8>, protocol: u8) {
        let start = frame.len();
        frame.extend([0x45, 0, 0, 60, 0, 1, 0, 0, self.rng.random_range(0..4), protocol, 0, 0]);
        frame.extend(octets(self.value(32), 32));
        frame.extend(octets(self.value(32), 32));
        let words = frame[start..]
            .chunks(2)
            .map(|c| u32::from(u16::from_be_bytes([c[0], c[1]])));
        let mut sum: u32 = words.sum();
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        frame[start + 10..start + 12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    }

    fn udp(&mut self, frame: &mut Vec<u8>, port: u16) {
        frame.extend([0xc0, 0x01]);
        frame.extend(port.to_be_bytes());
        frame.extend([0, 40, 0, 0]);
    }

    /// Runs a frame through both; what came out, sorted.
    fn run(&mut self, port: u32, frame: &[u8], now_ns: u64) -> (Seen, Seen) {
        let mut out = Vec::new();
        self.reference.process(port, frame, now_ns, &mut out);
        let mut expected: Seen = out
            .into_iter()
            .map(|o| match o {
                Output::Frame { port, data } => (port, vec![data]),
                Output::Digest(id, fields) => (1 << 20 | id, fields),
            })
            .collect();
        let mut found = Collect::default();
        self.worker.batch().process(port, frame, now_ns, &mut found);
        expected.sort();
        found.0.sort();
        (expected, found.0)
    }

    fn state(&self) -> Vec<(String, String)> {
        let mut differences = Vec::new();
        for (array, c) in self
            .program
            .counter_arrays
            .iter()
            .enumerate()
            .filter(|(_, c)| !c.is_direct)
        {
            for cell in 0..c.size.unwrap_or(0) as usize {
                let a = self.reference.counter(array, cell).map(|c| c.get());
                let b = self.pipeline.counter(array, cell).map(|c| c.get());
                if a != b {
                    differences.push((format!("{}[{cell}]", c.name), format!("{a:?} {b:?}")));
                }
            }
        }
        for (array, r) in self.program.register_arrays.iter().enumerate() {
            for cell in 0..r.size as usize {
                let a = self.reference.register(array, cell).map(|(v, _)| v);
                let b = self.pipeline.register(array, cell).map(|b| BigUint::from_bytes_be(&b));
                if a != b {
                    differences.push((format!("{}[{cell}]", r.name), format!("{a:?} {b:?}")));
                }
            }
        }
        differences
    }
}

fn agree(program: &Program, seed: u64, compiled: bool) -> Result<(), TestCaseError> {
    let mut both = Both::new(program, seed, compiled);
    both.copies();
    for round in 0..6 {
        both.entries(60);
        both.defaults();
        if round == 3 {
            both.reference.tables_mut().set_port(2, false);
            both.pipeline.store().ports.set(2, false);
        }
        for i in 0..30 {
            let frame = both.frame();
            let port = match both.rng.random_range(0..12) {
                0 => CPU,
                _ => both.rng.random_range(0..SMALL) as u32,
            };
            let (expected, found) = both.run(port, &frame, (round * 30 + i) * 1_000_000);
            prop_assert_eq!(&expected, &found, "port {}, frame {:02x?}", port, frame);
        }
    }
    prop_assert_eq!(both.state(), Vec::new());
    Ok(())
}

/// Returns how many frames came out, so that a test in which everything is dropped is noticed.
fn forwarded(program: &Program) -> usize {
    let one = |seed| {
        let mut both = Both::new(program, seed, true);
        both.copies();
        both.entries(400);
        let frames = (0..100).map(|i| {
            both.defaults();
            let frame = both.frame();
            both.run(i % 4, &frame, 0).1.len()
        });
        frames.sum::<usize>()
    };
    (0..24).map(one).sum()
}

fn check(path: &str) {
    let program = compile(path);
    let sent = forwarded(&program);
    assert!(sent > 20, "{path}: of 2400 frames only {sent} came out");
    let config = ProptestConfig {
        cases: 48,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(seed: u64, compiled: bool)| agree(&program, seed, compiled)?);
}

/// A table that is applied at two places is one node with a back edge. In this program, only the back edge is ever
/// taken.
#[test]
fn a_table_at_two_places() {
    let text = "#include <v1model.p4>
        header a_t { bit<8> x; bit<16> y; bit<8> z; bit<32> w; }
        struct headers_t { a_t a; }
        struct meta_t { bool flag; }
        parser P(packet_in p, out headers_t h, inout meta_t m, inout standard_metadata_t s) {
            state start { p.extract(h.a); transition accept; }
        }
        control V(inout headers_t h, inout meta_t m) { apply { } }
        control I(inout headers_t h, inout meta_t m, inout standard_metadata_t s) {
            action one() { h.a.y = 1; }
            table t { key = { h.a.z: exact; } actions = { one; NoAction; } default_action = NoAction(); }
            apply {
                if (m.flag == m.flag || !false) { } else { if (m.flag) { } t.apply(); }
                if (h.a.x == 1) { h.a.w = 7; }
                if (t.apply().hit) { h.a.w = 8; }
                s.egress_spec = (bit<9>)(h.a.z & 7);
            }
        }
        control E(inout headers_t h, inout meta_t m, inout standard_metadata_t s) { apply { } }
        control C(inout headers_t h, inout meta_t m) { apply { } }
        control D(packet_out p, in headers_t h) { apply { p.emit(h.a); } }
        V1Switch(P(), V(), I(), E(), C(), D()) main;";
    for level in [p4_compiler::OptLevel::O0, p4_compiler::OptLevel::O1] {
        let options = p4_compiler::Options {
            level,
            ..p4_compiler::Options::default()
        };
        let compiled = p4_compiler::compile("two.p4", None, text, &options);
        let program = compiled.map(|c| c.program).map_err(|d| d.short()).unwrap();
        let sent = forwarded(&program);
        assert!(sent > 20, "of 2400 frames only {sent} came out");
        for seed in 0..8 {
            agree(&program, seed, true).unwrap();
        }
    }
}

#[test]
fn leaf() {
    check("../fabric/leaf.p4");
}

#[test]
fn spine() {
    check("../fabric/spine.p4");
}

#[test]
fn router() {
    check("../compiler/tests/programs/router.p4");
}

#[test]
fn entities() {
    check("../switch/tests/data/entities.p4");
}
