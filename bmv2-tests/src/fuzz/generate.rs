//! Random well-typed programs on v1model, for comparing what two compilations of one program do.
//!
//! A program depends on its seed alone. It has what is difficult for compilers: variables that are written only on some
//! paths, copies of copies, conditions that are known, loops, calls with copy-in/copy-out, early ends, headers that
//! come and go, stacks with computed indexes, slices that are written, switches, tables whose actions write what the
//! code around them reads, values that ingress leaves for egress. All variables are initialised, and at the end they
//! are written into the packet to be seen. Fields of headers that are not valid are read too: the language does not
//! define their values, but a rewritten program must still see the same ones.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Statements nest at most this deep; deeper ones add size, not kinds of code.
const MAX_DEPTH: usize = 3;
/// Operators nest at most this deep, for the same reason.
const MAX_EXPR_DEPTH: usize = 3;

/// Widths that variables and fields have.
const WIDTHS: [u32; 4] = [8, 16, 32, 9];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ty {
    Bits(u32),
    Signed(u32),
    Bool,
}

impl Ty {
    fn text(self) -> String {
        match self {
            Ty::Bits(w) => format!("bit<{w}>"),
            Ty::Signed(w) => format!("int<{w}>"),
            Ty::Bool => "bool".into(),
        }
    }
}

/// Where code is, which decides what it may contain.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Parser,
    Action,
    Ingress,
    Egress,
}

struct Generator {
    rng: StdRng,
    /// Variables that can be read and written here: text and type.
    vars: Vec<(String, Ty)>,
    /// Values that can only be read.
    values: Vec<(String, Ty)>,
    place: Place,
    tables: usize,
    fresh: usize,
    /// Number of loops around the current code.
    loops: usize,
    /// Whether the code is a function's body.
    in_function: bool,
}

/// The program of a seed.
pub fn program(seed: u64) -> String {
    let mut g = Generator {
        rng: StdRng::seed_from_u64(seed),
        vars: Vec::new(),
        values: Vec::new(),
        place: Place::Parser,
        tables: 0,
        fresh: 0,
        loops: 0,
        in_function: false,
    };
    g.program()
}

impl Generator {
    fn below(&mut self, n: usize) -> usize {
        self.rng.random_range(0..n.max(1))
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn program(&mut self) -> String {
        let mut out = String::from(
            "#include <v1model.p4>\n\
             header a_t { bit<8> x; bit<16> y; bit<8> z; bit<32> w; }\n\
             header b_t { bit<8> x; bit<16> y; int<16> s; bit<7> p; bit<9> q; }\n\
             header s_t { bit<8> x; bit<16> y; }\n\
             struct headers_t { a_t a; b_t b; a_t c; s_t[3] st; }\n\
             struct meta_t { bit<8> m8; bit<16> m16; bit<9> m9; bool flag; @field_list(1) bit<16> kept; }\n",
        );
        let fields = [
            ("h.a.x", 8),
            ("h.a.y", 16),
            ("h.a.z", 8),
            ("h.a.w", 32),
            ("m.m8", 8),
            ("m.m16", 16),
            ("m.m9", 9),
            ("m.kept", 16),
        ];
        let mut base: Vec<(String, Ty)> = fields.iter().map(|(n, w)| (n.to_string(), Ty::Bits(*w))).collect();
        base.push(("m.flag".into(), Ty::Bool));
        out += &self.function();
        self.place = Place::Parser;
        self.vars = base.clone();
        let init = "m.m8 = 1; m.m16 = 2; m.m9 = 3; m.flag = false; m.kept = 4;";
        let code = self.stmts(2);
        let more = self.stmts(1);
        out += &format!(
            "parser P(packet_in p, out headers_t h, inout meta_t m, inout standard_metadata_t s) {{\n\
             state start {{ {init} p.extract(h.a);\n{code} transition select(h.a.x, m.m8) {{\n\
             (0 .. 127, _): more;\n(_, 7): more;\ndefault: accept; }} }}\n\
             state more {{ p.extract(h.b);\n{more} transition select(h.b.p) {{ 0 .. 63: items; default: accept; }} }}\n\
             state items {{ p.extract(h.st.next); transition select(h.st.last.x) {{ 0 .. 7: items; default: accept; }} }} }}\n\
             control V(inout headers_t h, inout meta_t m) {{ apply {{}} }}\n"
        );
        base.extend(["h.b.x", "h.c.x", "h.st[0].x", "h.st[2].x"].map(|n| (n.to_string(), Ty::Bits(8))));
        base.extend([
            ("h.b.y".into(), Ty::Bits(16)),
            ("h.st[1].y".into(), Ty::Bits(16)),
            // An element that the packet selects.
            ("h.st[(bit<32>)(m.m8 & 1)].y".into(), Ty::Bits(16)),
            ("h.b.s".into(), Ty::Signed(16)),
            ("h.b.q".into(), Ty::Bits(9)),
        ]);
        out += &self.control("I", Place::Ingress, &base);
        out += &self.control("E", Place::Egress, &base);
        out += "control C(inout headers_t h, inout meta_t m) { apply {} }\n\
                control D(packet_out p, in headers_t h) { apply { p.emit(h.a); p.emit(h.b); p.emit(h.c); p.emit(h.st); } }\n\
                V1Switch(P(), V(), I(), E(), C(), D()) main;\n";
        out
    }

    /// A function with an end in its middle, and a parameter that it writes.
    fn function(&mut self) -> String {
        (self.place, self.in_function) = (Place::Action, true);
        self.vars = vec![("b".into(), Ty::Bits(16)), ("l".into(), Ty::Bits(8))];
        self.values = vec![("a".into(), Ty::Bits(16))];
        let (first, c, early) = (self.stmts(1), self.expr(Ty::Bool, 1), self.expr(Ty::Bits(16), 1));
        let (second, late) = (self.stmts(1), self.expr(Ty::Bits(16), 1));
        (self.vars, self.values) = (Vec::new(), Vec::new());
        self.in_function = false;
        format!(
            "bit<16> fun(in bit<16> a, inout bit<16> b) {{\nbit<8> l = 8w3;\n{first}\
             if ({c}) {{ return {early}; }}\n{second}return {late};\n}}\n"
        )
    }

    fn control(&mut self, name: &str, place: Place, base: &[(String, Ty)]) -> String {
        let mut out = format!(
            "control {name}(inout headers_t h, inout meta_t m, inout standard_metadata_t s) {{\nregister<bit<16>>(4) reg;\n"
        );
        self.vars = base.to_vec();
        self.values = vec![("s.ingress_port".into(), Ty::Bits(9))];
        self.place = place;
        for i in 0..4 + self.below(4) {
            let ty = self.any_type();
            let init = self.constant(ty);
            out += &format!("{} v{i} = {init};\n", ty.text());
            self.vars.push((format!("v{i}"), ty));
        }
        let actions = 2 + self.below(3);
        for i in 0..actions {
            let outer = self.vars.len();
            self.place = Place::Action;
            self.values.push(("arg".into(), Ty::Bits(8)));
            let code = self.stmts(2);
            self.values.pop();
            self.vars.truncate(outer);
            out += &format!("action act{i}(bit<8> arg) {{\n{code}}}\n");
        }
        let code = {
            self.place = Place::Action;
            let (vars, values) = (std::mem::take(&mut self.vars), std::mem::take(&mut self.values));
            self.vars = vec![("b".into(), Ty::Bits(16)), ("c".into(), Ty::Bits(8))];
            self.values = vec![("a".into(), Ty::Bits(8))];
            let code = self.stmts(1);
            (self.vars, self.values) = (vars, values);
            code
        };
        out += &format!("action call(in bit<8> a, inout bit<16> b, out bit<8> c) {{ c = a;\n{code}}}\n");
        self.tables = 1 + self.below(2);
        for i in 0..self.tables {
            let n = 1 + self.below(2);
            let keys: String = (0..n)
                .map(|_| {
                    let ty = Ty::Bits(WIDTHS[self.below(WIDTHS.len())]);
                    let key = self.expr(ty, 1);
                    let kind = ["exact", "ternary"][self.below(2)];
                    self.fresh += 1;
                    format!("{key}: {kind} @name(\"k{}\");\n", self.fresh)
                })
                .collect();
            let list: String = (0..actions).map(|a| format!("act{a}; ")).collect();
            let default = self.below(actions);
            out += &format!(
                "table t{i} {{ key = {{ {keys} }} actions = {{ {list} NoAction; }} default_action = act{default}({}); }}\n",
                self.below(256)
            );
        }
        self.place = place;
        let code = self.stmts(4);
        out += &format!("apply {{\n{code}");
        // Writes the final values of the variables into the packet.
        let vars: Vec<(String, Ty)> = self
            .vars
            .iter()
            .filter(|v| v.0.starts_with(['v', 'm']))
            .cloned()
            .collect();
        for (name, ty) in vars {
            let part = match ty {
                Ty::Bits(w) => format!("(bit<32>)(bit<{w}>){name}"),
                Ty::Signed(w) => format!("(bit<32>)(bit<{w}>){name}"),
                Ty::Bool => format!("({name} ? 32w0x55 : 32w0xaa)"),
            };
            out += &format!("h.a.w = (h.a.w << 3) ^ (h.a.w >> 7) ^ {part};\n");
        }
        if place == Place::Ingress {
            out += "s.egress_spec = (bit<9>)(h.a.z & 7);\n";
        }
        self.tables = 0;
        out + "} }\n"
    }

    fn any_type(&mut self) -> Ty {
        match self.below(6) {
            0 => Ty::Bool,
            1 => Ty::Signed(16),
            _ => Ty::Bits(WIDTHS[self.below(WIDTHS.len())]),
        }
    }

    fn stmts(&mut self, n: usize) -> String {
        let n = 1 + self.below(n * 2);
        self.block(n, 0)
    }

    fn block(&mut self, n: usize, depth: usize) -> String {
        let outer = self.vars.len();
        let code = (0..n).map(|_| self.stmt(depth)).collect();
        self.vars.truncate(outer);
        code
    }

    fn stmt(&mut self, depth: usize) -> String {
        let deeper = depth < MAX_DEPTH && self.place != Place::Parser;
        let in_control = matches!(self.place, Place::Ingress | Place::Egress);
        match self.below(20) {
            0 | 1 if deeper => {
                let (c, n) = (self.expr(Ty::Bool, 0), 1 + self.below(3));
                let yes = self.block(n, depth + 1);
                if self.chance(50) {
                    let no = self.block(n, depth + 1);
                    return format!("if ({c}) {{\n{yes}}} else {{\n{no}}}\n");
                }
                format!("if ({c}) {{\n{yes}}}\n")
            }
            2 if deeper => {
                self.fresh += 1;
                let (i, n) = (self.fresh, 1 + self.below(2));
                self.values.push((format!("i{i}"), Ty::Bits(8)));
                self.loops += 1;
                let body = self.block(n, depth + 1);
                self.loops -= 1;
                self.values.pop();
                format!(
                    "for (bit<8> i{i} = 0; i{i} < {}; i{i} = i{i} + 1) {{\n{body}}}\n",
                    1 + self.below(3)
                )
            }
            3 if deeper => {
                self.fresh += 1;
                let (i, ty) = (self.fresh, self.any_type());
                let init = self.expr(ty, 0);
                self.vars.push((format!("l{i}"), ty));
                format!("{} l{i} = {init};\n", ty.text())
            }
            4 | 5 if in_control && self.tables > 0 => {
                let t = self.below(self.tables);
                // BMv2 has one kind of branch after a table, so the first table is asked for `hit`, the second for its action.
                if deeper && t == 0 && self.chance(50) {
                    let yes = self.block(1, depth + 1);
                    let not = if self.chance(30) { "!" } else { "" };
                    return format!("if ({not}t{t}.apply().hit) {{\n{yes}}}\n");
                }
                format!("t{t}.apply();\n")
            }
            6 if in_control => {
                let a = self.expr(Ty::Bits(8), 0);
                let (b, c) = (self.var(Ty::Bits(16)), self.var(Ty::Bits(8)));
                match (b, c) {
                    (Some(b), Some(c)) => format!("call({a}, {b}, {c});\n"),
                    _ => format!("act0({a});\n"),
                }
            }
            7 if in_control => {
                let all = [
                    "h.b.setInvalid();\n",
                    "h.c.setValid();\n",
                    "h.c = h.a;\n",
                    "h.st.push_front(1);\n",
                    "h.st.pop_front(1);\n",
                    "h.st[1] = h.st[0];\n",
                    "h.st[2] = { 1, m.m16 };\n",
                ];
                all[self.below(all.len())].into()
            }
            8 if deeper && self.chance(30) => {
                let c = self.expr(Ty::Bool, 0);
                let words = ["exit", "return", "break", "continue"];
                // A function cannot exit, and returns a value.
                let known = match (self.in_function, self.loops > 0) {
                    (true, false) => return String::new(),
                    (true, true) => &words[2..],
                    (false, false) => &words[..2],
                    (false, true) => &words[..],
                };
                let word = known[self.below(known.len())];
                format!("if ({c}) {{ {word}; }}\n")
            }
            9 if self.place != Place::Parser && !self.in_function => match self.var(Ty::Bits(16)) {
                Some(v) if self.chance(50) => format!("m.kept = {v};\n"),
                Some(v) if in_control => format!("reg.read({v}, {});\n", self.below(4)),
                _ => String::new(),
            },
            10 if in_control => {
                let (i, v) = (self.below(4), self.expr(Ty::Bits(16), 1));
                format!("reg.write({i}, {v});\n")
            }
            11 if deeper => {
                let (value, n) = (self.expr(Ty::Bits(8), 1), 1 + self.below(2));
                let (one, two) = (self.block(n, depth + 1), self.block(n, depth + 1));
                let rest = self.block(1, depth + 1);
                format!("switch ({value}) {{ 8w0: {{\n{one}}}\n8w1:\n8w255: {{\n{two}}}\ndefault: {{\n{rest}}} }}\n")
            }
            12 if in_control && deeper && self.tables > 1 => {
                let (one, rest) = (self.block(1, depth + 1), self.block(1, depth + 1));
                format!("switch (t1.apply().action_run) {{ act0: {{\n{one}}}\nact1:\ndefault: {{\n{rest}}} }}\n")
            }
            13 => match self.var(Ty::Bits(16)) {
                Some(v) => {
                    let (lo, value) = (self.below(9), self.expr(Ty::Bits(8), 1));
                    format!("{v}[{}:{lo}] = {value};\n", lo + 7)
                }
                None => String::new(),
            },
            14 if in_control => match (self.var(Ty::Bits(16)), self.var(Ty::Bits(16))) {
                (Some(to), Some(v)) => {
                    let (a, more) = (self.expr(Ty::Bits(16), 1), self.expr(Ty::Bits(16), 2));
                    format!("{to} = fun({a}, {v}) - {more};\n")
                }
                _ => String::new(),
            },
            _ => {
                let at = self.below(self.vars.len());
                let Some((name, ty)) = self.vars.get(at).cloned() else {
                    return String::new();
                };
                let value = self.expr(ty, 0);
                format!("{name} = {value};\n")
            }
        }
    }

    fn var(&mut self, ty: Ty) -> Option<String> {
        let all: Vec<String> = self.vars.iter().filter(|v| v.1 == ty).map(|v| v.0.clone()).collect();
        let at = self.below(all.len());
        all.get(at).cloned()
    }

    fn constant(&mut self, ty: Ty) -> String {
        // Small numbers and the ends of the range match more often than random numbers.
        let edge = |w: u32| (1u64 << w) - 1;
        match ty {
            Ty::Bool => self.chance(50).to_string(),
            Ty::Bits(w) => {
                let v = match self.below(4) {
                    0 => 0,
                    1 => edge(w),
                    2 => self.below(4) as u64,
                    _ => self.rng.random_range(0..=edge(w)),
                };
                format!("{w}w{v}")
            }
            Ty::Signed(w) => format!("{w}s{}", self.rng.random_range(0..=edge(w - 1))),
        }
    }

    fn leaf(&mut self, ty: Ty) -> String {
        let all: Vec<String> = self
            .vars
            .iter()
            .chain(&self.values)
            .filter(|v| v.1 == ty)
            .map(|v| v.0.clone())
            .collect();
        let at = self.below(all.len());
        match all.get(at) {
            Some(name) if self.chance(75) => name.clone(),
            _ => self.constant(ty),
        }
    }

    fn expr(&mut self, ty: Ty, depth: usize) -> String {
        if depth >= MAX_EXPR_DEPTH || self.chance(35) {
            return self.leaf(ty);
        }
        let d = depth + 1;
        match ty {
            Ty::Bool => match self.below(6) {
                0 if self.place != Place::Parser && !self.in_function => {
                    ["h.b.isValid()", "h.c.isValid()"][self.below(2)].into()
                }
                1 => format!("!({})", self.expr(Ty::Bool, d)),
                2 | 3 => {
                    let op = ["&&", "||", "==", "!="][self.below(4)];
                    format!("({} {op} {})", self.expr(Ty::Bool, d), self.expr(Ty::Bool, d))
                }
                _ => {
                    let ty = if self.chance(20) {
                        Ty::Signed(16)
                    } else {
                        Ty::Bits(WIDTHS[self.below(WIDTHS.len())])
                    };
                    let op = ["==", "!=", "<", "<=", ">", ">="][self.below(6)];
                    format!("({} {op} {})", self.expr(ty, d), self.expr(ty, d))
                }
            },
            Ty::Signed(w) => match self.below(4) {
                0 => format!("(int<{w}>)({})", self.expr(Ty::Bits(w), d)),
                1 => format!("(-({}))", self.expr(ty, d)),
                _ => {
                    let op = ["+", "-", "*", "&", "|", "^", "|+|", "|-|"][self.below(8)];
                    format!("({} {op} {})", self.expr(ty, d), self.expr(ty, d))
                }
            },
            Ty::Bits(w) => match self.below(9) {
                0 => {
                    let from = WIDTHS[self.below(WIDTHS.len())];
                    format!("(bit<{w}>)({})", self.expr(Ty::Bits(from), d))
                }
                1 => format!("(~({}))", self.expr(ty, d)),
                2 => {
                    let c = self.expr(Ty::Bool, d);
                    format!("({c} ? {} : {})", self.expr(ty, d), self.expr(ty, d))
                }
                3 => {
                    let op = ["<<", ">>"][self.below(2)];
                    format!("({} {op} {})", self.expr(ty, d), self.below(w as usize + 2))
                }
                4 if w == 16 => format!("({} ++ {})", self.expr(Ty::Bits(8), d), self.expr(Ty::Bits(8), d)),
                4 if w == 8 => {
                    let lo = self.below(8);
                    format!("({})[{}:{lo}]", self.leaf(Ty::Bits(16)), lo + 7)
                }
                _ => {
                    let op = ["+", "-", "*", "&", "|", "^", "|+|", "|-|"][self.below(8)];
                    format!("({} {op} {})", self.expr(ty, d), self.expr(ty, d))
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_program_and_programs_compile() {
        assert_eq!(program(1), program(1));
        assert_ne!(program(1), program(2));
        for seed in 0..40 {
            let text = program(seed);
            if let Err(d) = p4_compiler::compile("seed.p4", None, &text, &Default::default()) {
                panic!("seed {seed}: {}\n{text}", d.short());
            }
        }
    }
}
