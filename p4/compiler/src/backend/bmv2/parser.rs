//! Parser states and transitions.

use super::Bmv2;
use super::expr::{condition, data, field, load, wrap};
use crate::ir::fold::power;
use crate::lir::{Expr, ExprKind, Graph, HeaderRef, Loc, Match, Op, Term, Ty};
use crate::passes::simplify::reachable;
use crate::source::Span;
use bmv2_json::{
    self as json, Expression, HexStr, ParserOp, ParserOpKind, ParserParameter, Transition, TransitionKind, Value,
};
use num_bigint::BigInt;
use num_traits::Signed;
use std::collections::{HashMap, HashSet};

/// A range of values becomes at most this many masked values.
const MAX_RANGE_PARTS: usize = 4096;

impl Bmv2<'_> {
    pub(super) fn parsers(&mut self) {
        let graph = &self.program.parser;
        let order = reachable(graph);
        let mut names: HashMap<usize, String> = HashMap::new();
        let mut taken = HashSet::new();
        for b in &order {
            let Some(block) = graph.blocks.get(*b) else { continue };
            if block.ops.is_empty() && matches!(block.term, Term::End | Term::Reject) {
                continue;
            }
            let mut name = if *b == 0 {
                "start".to_string()
            } else {
                block.name.clone()
            };
            let mut n = 0;
            while !taken.insert(name.clone()) {
                name = format!("{}_{n}", block.name);
                n += 1;
            }
            names.insert(*b, name);
        }
        let mut states = Vec::new();
        for b in order {
            if let Some(name) = names.get(&b) {
                let id = states.len() as u32;
                states.push(self.state(graph, b, name.clone(), id, &names));
            }
        }
        let init_state = names.get(&0).cloned();
        self.json.parsers.push(json::Parser {
            name: "parser".into(),
            id: 0,
            init_state,
            parse_states: states,
        });
    }

    fn state(
        &mut self,
        graph: &Graph,
        b: usize,
        name: String,
        id: u32,
        names: &HashMap<usize, String>,
    ) -> json::ParseState {
        let mut ops = Vec::new();
        let mut transitions = Vec::new();
        let mut key = Vec::new();
        let Some(block) = graph.blocks.get(b) else {
            return json::ParseState {
                name,
                id,
                parser_ops: ops,
                transitions,
                transition_key: key,
            };
        };
        for (op, span) in &block.ops {
            self.parser_op(op, *span, &mut ops);
        }
        let to = |b: &usize| names.get(b).cloned();
        let default = |next| Transition {
            kind: TransitionKind::Default,
            value: None,
            mask: None,
            next_state: next,
        };
        match &block.term {
            Term::Goto(n) => transitions.push(default(to(n))),
            Term::Branch(c, yes, no) => {
                let f = self.temp(Ty::Bool, "cond");
                ops.push(set(field("scalars", &f), data(c)));
                key.push(field("scalars", &f));
                let value = Some("0x01".to_string());
                transitions.push(Transition {
                    kind: TransitionKind::Hexstr,
                    value,
                    mask: None,
                    next_state: to(yes),
                });
                transitions.push(default(to(no)));
            }
            Term::Select(keys, cases) => {
                let types: Vec<Ty> = keys.iter().map(|k| k.ty).collect();
                for k in keys {
                    key.push(self.key(k, &mut ops));
                }
                for (row, next) in cases {
                    self.case(row, &types, to(next), &mut transitions, block.span);
                }
            }
            _ => transitions.push(default(None)),
        }
        json::ParseState {
            name,
            id,
            parser_ops: ops,
            transitions,
            transition_key: key,
        }
    }

    fn key(&mut self, k: &Expr, ops: &mut Vec<ParserOp>) -> Value {
        match &k.kind {
            ExprKind::Load(Loc::Field(..)) => load_of(k),
            ExprKind::Load(Loc::Of(HeaderRef::Last(_), _, _)) => load_of(k),
            _ => {
                let f = self.temp(k.ty, "key");
                ops.push(set(field("scalars", &f), data(k)));
                field("scalars", &f)
            }
        }
    }

    fn case(&mut self, row: &[Match], types: &[Ty], next: Option<String>, out: &mut Vec<Transition>, span: Span) {
        if let [Match::ValueSet(name)] = row {
            out.push(Transition {
                kind: TransitionKind::ParseVset,
                value: Some(name.clone()),
                mask: None,
                next_state: next,
            });
            return;
        }
        if row.iter().all(|m| matches!(m, Match::Any)) {
            out.push(Transition {
                kind: TransitionKind::Default,
                value: None,
                mask: None,
                next_state: next,
            });
            return;
        }
        // Splits each range of the row into masked values, and returns every combination of these.
        let mut rows: Vec<Vec<(BigInt, Option<BigInt>)>> = vec![Vec::new()];
        for (m, ty) in row.iter().zip(types) {
            let parts = match m {
                Match::Value(v, mask) => vec![(unsigned(v, *ty), mask.as_ref().map(|m| unsigned(m, *ty)))],
                Match::Any => vec![(BigInt::from(0), Some(BigInt::from(0)))],
                Match::Range(a, b) => prefixes(&unsigned(a, *ty), &unsigned(b, *ty), ty.width()),
                Match::ValueSet(_) => {
                    self.sink
                        .error(span, "a value set must be the whole key on this target");
                    return;
                }
            };
            if rows.len() * parts.len() > MAX_RANGE_PARTS {
                self.sink
                    .error(span, "the ranges of this case fall into too many masked values");
                return;
            }
            rows = rows
                .iter()
                .flat_map(|r| parts.iter().map(|p| r.iter().cloned().chain([p.clone()]).collect()))
                .collect();
        }
        for r in rows {
            let masked = r.iter().any(|p| p.1.is_some());
            let (mut value, mut mask) = (String::from("0x"), String::from("0x"));
            for ((v, m), ty) in r.iter().zip(types) {
                let digits = (ty.width().div_ceil(8).max(1) * 2) as usize;
                let full = power(ty.width()) - 1;
                value.push_str(&format!("{v:0>digits$x}"));
                let m = m.as_ref().unwrap_or(&full);
                mask.push_str(&format!("{m:0>digits$x}"));
            }
            let mask = if masked { HexStr::parse(mask) } else { None };
            out.push(Transition {
                kind: TransitionKind::Hexstr,
                value: Some(value),
                mask,
                next_state: next.clone(),
            });
        }
    }

    fn parser_op(&mut self, op: &Op, span: Span, out: &mut Vec<ParserOp>) {
        let p = |kind, parameters: Vec<Value>| ParserOp {
            parameters: parameters.into_iter().map(ParserParameter::Value).collect(),
            op: kind,
        };
        match op {
            Op::Assign(loc @ Loc::Field(..), ty, e) if !matches!(ty, Ty::Varbit(_)) => {
                out.push(set(load(loc), data(e)))
            }
            Op::Extract(h, size) => {
                let target = match h {
                    HeaderRef::Named(n) => Value::Regular(n.to_string()),
                    HeaderRef::Next(s) => Value::Stack(s.to_string()),
                    _ => {
                        self.sink
                            .error(span, "only a header or a stack's next can be extracted");
                        return;
                    }
                };
                match size {
                    None => out.push(p(ParserOpKind::Extract, vec![target])),
                    Some(e) => {
                        let size = match data(e) {
                            v @ Value::Expression(_) => wrap(v),
                            v => Value::Expression(Box::new(Expression::Value(v))),
                        };
                        out.push(p(ParserOpKind::ExtractVl, vec![target, size]));
                    }
                }
            }
            Op::Advance(e) => out.push(p(ParserOpKind::Advance, vec![wrap(data(e))])),
            Op::Verify(c, e) => {
                // Unlike in all other operations, neither operand is wrapped a second time.
                out.push(p(ParserOpKind::Verify, vec![condition(c), data(e)]));
            }
            other => {
                let mut calls = Vec::new();
                self.op(other, span, &mut calls);
                for c in calls {
                    out.push(ParserOp {
                        parameters: vec![ParserParameter::Call(c)],
                        op: ParserOpKind::Primitive,
                    });
                }
            }
        }
    }
}

fn load_of(e: &Expr) -> Value {
    data(e)
}

fn set(target: Value, value: Value) -> ParserOp {
    let parameters = vec![ParserParameter::Value(target), ParserParameter::Value(wrap(value))];
    ParserOp {
        parameters,
        op: ParserOpKind::Set,
    }
}

pub(super) fn unsigned(v: &BigInt, ty: Ty) -> BigInt {
    if v.is_negative() {
        v + power(ty.width())
    } else {
        v.clone()
    }
}

/// The fewest value/mask pairs that cover `lo..=hi`.
pub(super) fn prefixes(lo: &BigInt, hi: &BigInt, width: u32) -> Vec<(BigInt, Option<BigInt>)> {
    let mut out = Vec::new();
    let mut at = lo.clone();
    let full: BigInt = power(width) - 1;
    while at <= *hi && out.len() <= MAX_RANGE_PARTS {
        let mut bits = 0;
        while bits < width && (&at % power(bits + 1)) == BigInt::from(0) && &at + power(bits + 1) - 1 <= *hi {
            bits += 1;
        }
        let free: BigInt = power(bits) - 1;
        out.push((at.clone(), Some(&full - &free)));
        at += power(bits);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that each number from `lo` to `hi` fits exactly one masked value, and no other number fits any. Returns
    /// how many masked values there are.
    fn covers(lo: u32, hi: u32, width: u32) -> usize {
        let parts = prefixes(&lo.into(), &hi.into(), width);
        for v in 0..1u32 << width {
            let hits = parts.iter().filter(|(value, mask)| {
                let mask = mask.clone().unwrap_or_default();
                BigInt::from(v) & &mask == value & &mask
            });
            assert_eq!(hits.count(), usize::from((lo..=hi).contains(&v)), "{v} in {lo}..{hi}");
        }
        parts.len()
    }

    #[test]
    fn a_range_falls_into_the_fewest_masked_values() {
        assert_eq!(covers(0, 255, 8), 1);
        assert_eq!(covers(7, 7, 8), 1);
        assert_eq!(covers(1, 6, 3), 4);
        assert_eq!(covers(100, 200, 8), 6);
        assert_eq!(covers(1, 254, 8), 14, "the worst case: two for each bit but one");
    }

    #[test]
    fn signed_values_are_matched_as_patterns() {
        assert_eq!(unsigned(&(-1).into(), Ty::Int(8)), 255.into());
        assert_eq!(unsigned(&5.into(), Ty::Int(8)), 5.into());
    }
}
