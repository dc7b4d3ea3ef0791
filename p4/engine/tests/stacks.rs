//! The packet engine against the reference evaluator on random programs with header stacks whose
//! index is known only when a packet runs, unions in stacks, headers and variable-length fields
//! that are compared and copied, lengths that a parser refuses, and hashes that pass octets on.

use p4_engine::{DigestFields, Pipeline, Sink, Worker};
use p4_reference::{Output, Switch};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const CPU: u32 = 510;
const DROP: u32 = 511;
/// Statements of a program: enough for some to feed others.
const STATEMENTS: usize = 14;
/// Frames for each program.
const FRAMES: usize = 40;

const HEAD: &str = r"
#include <core.p4>
#include <v1model.p4>
header ctl_t { bit<8> ns; bit<8> nu; bit<8> i; bit<8> j; bit<8> bits; bit<8> skip; bit<16> err; bit<32> o; bit<72> w; }
header e_t { bit<8> n; bit<4> a; int<12> s; bit<72> w; }
header x_t { bit<16> x; }
header y_t { bit<8> y; }
header v_t { bit<8> k; varbit<64> v; }
header_union u_t { x_t x; y_t y; }
struct headers { ctl_t c; v_t f; v_t g; e_t[3] s; e_t[3] t; e_t one; u_t[2] u; }
struct meta { bit<8> left; bit<8> m; }
parser P(packet_in p, out headers h, inout meta m, inout standard_metadata_t sm) {
    state start {
        p.extract(h.c);
        m.left = h.c.ns;
        p.advance((bit<32>)h.c.skip);
        p.extract(h.f, (bit<32>)h.c.bits);
        h.g.setValid();
        transition stack;
    }
    state stack { transition select(m.left) { 0: unions; default: element; } }
    state element { p.extract(h.s.next); m.left = m.left - 1; transition stack; }
    state unions { m.left = h.c.nu; transition union; }
    state union { transition select(m.left) { 0: accept; default: member; } }
    state member {
        m.left = m.left - 1;
        transition select(p.lookahead<bit<1>>()) { 1: member_x; default: member_y; }
    }
    state member_x { p.extract(h.u.next.x); transition union; }
    state member_y { p.extract(h.u.next.y); transition union; }
}
control V(inout headers h, inout meta m) { apply {} }
control E(inout headers h, inout meta m, inout standard_metadata_t sm) { apply {} }
control C(inout headers h, inout meta m) { apply {} }
control D(packet_out p, in headers h) {
    apply { p.emit(h.c); p.emit(h.f); p.emit(h.g); p.emit(h.s); p.emit(h.t); p.emit(h.one); p.emit(h.u); }
}
";

struct Generator(StdRng);

impl Generator {
    fn below(&mut self, n: usize) -> usize {
        self.0.random_range(0..n)
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn index(&mut self) -> &'static str {
        self.one(&[
            "h.c.i",
            "h.c.j",
            "h.c.i & 3",
            "h.s[h.c.j].n",
            "m.m",
            "h.c.i + h.c.j",
            "0",
            "1",
        ])
    }

    fn element(&mut self) -> String {
        match self.below(6) {
            0 => "h.one".into(),
            1 | 2 => format!("h.t[{}]", self.index()),
            _ => format!("h.s[{}]", self.index()),
        }
    }

    fn truth(&mut self) -> String {
        match self.below(8) {
            0 => format!("{} == {}", self.element(), self.element()),
            1 => format!("{} != {}", self.element(), self.element()),
            2 => self.one(&["h.f == h.g", "h.f != h.g", "h.s == h.t"]).into(),
            3 => format!("h.u[{}].{}.isValid()", self.index(), self.one(&["x", "y"])),
            4 => format!("h.u[{}].isValid()", self.index()),
            5 => format!("{}.s < {}.s", self.element(), self.element()),
            6 => format!("{}.w > {}.w", self.element(), self.element()),
            _ => format!("{}.isValid()", self.element()),
        }
    }

    fn statement(&mut self, depth: usize) -> String {
        match self.below(17) {
            0 => format!("{}.n = {}.n + 1;", self.element(), self.element()),
            1 => format!("{}.w = {}.w ^ h.c.w;", self.element(), self.element()),
            2 => format!("{}.s = {}.s - 12s3;", self.element(), self.element()),
            3 => format!("{} = {};", self.element(), self.element()),
            4 => format!("{}.setValid();", self.element()),
            5 => format!("{}.setInvalid();", self.element()),
            6 => format!("h.u[{}].{}.setValid();", self.index(), self.one(&["x", "y"])),
            7 => format!("h.u[{}].x.x = h.u[{}].x.x + 5;", self.index(), self.index()),
            8 => format!("h.u[{}].y.y = {}.n;", self.index(), self.element()),
            9 => format!(
                "{}.{}({});",
                self.one(&["h.s", "h.t"]),
                self.one(&["push_front", "pop_front"]),
                1 + self.below(3)
            ),
            10 => self
                .one(&[
                    "h.f = h.g;",
                    "h.g = h.f;",
                    "h.g.setInvalid();",
                    "h.t = h.s;",
                    "h.u[0] = h.u[1];",
                ])
                .into(),
            11 => format!("m.m = {}.n;", self.element()),
            12 => {
                let fields = self.one(&["h.c.w, h.c.o", "h.c.i, h.c.j", "h.one.w, h.s[0].w"]);
                format!(
                    "hash(h.c.o, HashAlgorithm.{}, 32w0, {{ {fields} }}, 64w0x100000000);",
                    self.one(&["identity", "crc32", "xor16"])
                )
            }
            13 => format!("h.c.w = {}.w << 3;", self.element()),
            14 | 15 if depth < 2 => {
                let condition = self.truth();
                let (yes, no) = (self.statement(depth + 1), self.statement(depth + 1));
                format!("if ({condition}) {{ {yes} }} else {{ {no} }}")
            }
            _ => format!("if ({}) {{ h.c.o = h.c.o * 3 + 1; }}", self.truth()),
        }
    }

    fn program(&mut self) -> String {
        let body: String = (0..STATEMENTS).map(|_| self.statement(0) + "\n").collect();
        let port = "sm.egress_spec = 3; h.c.err = (bit<16>)(bit<8>)m.m;";
        let error = "if (sm.parser_error == error.ParserInvalidArgument) { h.c.err = 1; }
            if (sm.parser_error == error.StackOutOfBounds) { h.c.err = 2; }
            if (sm.parser_error == error.PacketTooShort) { h.c.err = 3; }
            if (sm.parser_error == error.HeaderTooShort) { h.c.err = 4; }";
        format!(
            "{HEAD}control I(inout headers h, inout meta m, inout standard_metadata_t sm) {{\n\
             apply {{ {port} {error}\n{body} }} }}\n\
             V1Switch(P(), V(), I(), E(), C(), D()) main;\n"
        )
    }

    /// Mostly small numbers, so that indexes are hit; sometimes any number.
    fn frame(&mut self) -> Vec<u8> {
        let (elements, unions) = (self.below(5), self.below(4));
        let small = |rng: &mut StdRng| rng.random_range(0..5u8);
        let bits = [0, 8, 16, 64, 72, 12, 255][self.below(7)];
        let skip = [0, 0, 0, 8, 3][self.below(5)];
        let mut frame = vec![
            elements as u8,
            unions as u8,
            small(&mut self.0),
            small(&mut self.0),
            bits,
            skip,
        ];
        frame.extend((0..15).map(|_| self.0.random::<u8>()));
        frame.resize(frame.len() + usize::from(skip / 8), 0);
        frame.extend((0..1 + usize::from(bits / 8)).map(|_| small(&mut self.0)));
        for _ in 0..elements {
            frame.push(small(&mut self.0));
            frame.extend((0..11).map(|_| if self.0.random() { 0xff } else { small(&mut self.0) }));
        }
        frame.extend((0..self.below(9)).map(|_| self.0.random::<u8>()));
        if self.below(10) == 0 {
            frame.truncate(self.below(frame.len()));
        }
        frame
    }
}

#[derive(Default)]
struct Collect(Vec<(u32, Vec<u8>)>);

impl Sink for Collect {
    fn frame(&mut self, port: u32, data: &[u8]) {
        self.0.push((port, data.to_vec()));
    }

    fn digest(&mut self, _: u32, _: DigestFields<'_>) {}
}

fn agree(seed: u64) -> Result<(), TestCaseError> {
    let mut generator = Generator(StdRng::seed_from_u64(seed));
    let text = generator.program();
    let compiled = p4_compiler::compile("random.p4", None, &text, &p4_compiler::Options::default());
    let program = match compiled {
        Ok(compiled) => compiled.program,
        Err(diagnostics) => return Err(TestCaseError::fail(format!("{}\n{text}", diagnostics.short()))),
    };
    let reference = Switch::from_program(&program, Some(CPU), DROP).unwrap();
    let (pipeline, _writer) = Pipeline::new(&program, Some(CPU), DROP).unwrap();
    let mut worker = Worker::new(&pipeline, "test");
    for n in 0..FRAMES {
        if n == FRAMES / 2 {
            // Interpreted before, machine code from here on.
            pipeline.compile();
        }
        let frame = generator.frame();
        let (mut expected, mut found) = (Vec::new(), Collect::default());
        reference.process(1, &frame, 0, &mut expected);
        worker.batch().process(1, &frame, 0, &mut found);
        let frames = expected.into_iter().filter_map(|o| match o {
            Output::Frame { port, data } => Some((port, data)),
            Output::Digest(..) => None,
        });
        let expected: Vec<_> = frames.collect();
        prop_assert_eq!(&expected, &found.0, "frame {:02x?}\n{}", frame, text);
        // A frame that contains the first header leaves, whatever is wrong after it.
        prop_assert_eq!(found.0.len(), 1);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_programs_do_the_same(seed: u64) {
        agree(seed)?;
    }
}

/// The specification leaves open what happens beyond the end of a stack. Here, a read returns 0 (not valid), a write is
/// lost, and the packet goes on.
#[test]
fn an_index_beyond_the_stack_changes_nothing() {
    let body = "sm.egress_spec = 3;
        h.c.o = (bit<32>)h.s[h.c.i].n;
        if (h.s[h.c.i].isValid() || h.u[h.c.i].isValid()) { h.c.err = 7; }
        h.s[h.c.i].n = 9;
        h.s[h.c.i].setValid();
        h.s[h.c.i] = h.s[0];
        h.s[0] = h.t[h.c.i];
        h.u[h.c.i].y.setValid();";
    let text = format!(
        "{HEAD}control I(inout headers h, inout meta m, inout standard_metadata_t sm) {{ apply {{ {body} }} }}
        V1Switch(P(), V(), I(), E(), C(), D()) main;\n"
    );
    let compiled = p4_compiler::compile("beyond.p4", None, &text, &p4_compiler::Options::default());
    let program = compiled.map(|c| c.program).map_err(|d| d.short()).unwrap();
    for (index, compiled) in [3, 4, 255].into_iter().flat_map(|i| [(i, false), (i, true)]) {
        let (pipeline, _writer) = Pipeline::new(&program, Some(CPU), DROP).unwrap();
        let mut worker = Worker::new(&pipeline, "test");
        if compiled {
            pipeline.compile();
        }
        // One element, which the copies from beyond the stack leave alone.
        let mut frame = vec![1, 0, index, 0, 0, 0, 0, 0, 1, 2, 3, 4];
        frame.extend([0; 9]);
        frame.push(5);
        frame.extend([6; 12]);
        let mut found = Collect::default();
        worker.batch().process(1, &frame, 0, &mut found);
        let mut expected = frame.clone();
        expected[8..12].fill(0);
        // The header that the parser made valid: an octet and no variable part.
        expected.insert(22, 0);
        assert_eq!(found.0, [(3, expected)], "index {index}");
    }
}
