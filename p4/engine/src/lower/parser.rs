//! Parser states, value sets, checksums, the deparser, field lists and digests.

use bmv2_json::{self as json, ParserOpKind, ParserParameter, TransitionKind, Value};
use num_bigint::{BigInt, Sign};

use super::{Lower, LowerError, MAX_WIDTH, Names, index, wrong};
use crate::expr;
use crate::layout::load;
use crate::program::{
    Case, Checksum, Dest, Digest, END, Next, Op, ParserOp, Select, State, Value as Computed, ValueSet,
};
use crate::term::{Binary, Term};
use crate::word::{mask64, words_of};

impl Names<'_> {
    pub(super) fn parser(&mut self) -> Lower<()> {
        let sets = self.source.parse_vsets.iter().map(|v| ValueSet {
            name: v.name.clone(),
            widths: Box::default(),
        });
        self.program.value_sets = sets.collect();
        let Some(parser) = self.source.parsers.first() else {
            return wrong("the program has no parser");
        };
        let state = |name: &Option<String>| -> Lower<Next> {
            match name {
                Some(name) => index("parser state", &parser.parse_states, |s| &s.name, name),
                None => Ok(END),
            }
        };
        for s in &parser.parse_states {
            let lowered = self.state(s, &state);
            let lowered = lowered.map_err(|e| LowerError(format!("parser state {}: {e}", s.name)))?;
            self.program.states.push(lowered);
        }
        self.program.parser_start = state(&parser.init_state)?;
        Ok(())
    }

    fn state(&mut self, s: &json::ParseState, state: &impl Fn(&Option<String>) -> Lower<Next>) -> Lower<State> {
        let mut ops = Vec::new();
        for op in &s.parser_ops {
            // Consecutive operations run as one.
            for op in self.parser_op(op)? {
                match (ops.last_mut(), op) {
                    (Some(ParserOp::Do(before)), ParserOp::Do(more)) => {
                        *before = before.iter().chain(&more).cloned().collect();
                    }
                    (_, op) => ops.push(op),
                }
            }
        }
        let mut select = Vec::new();
        let mut widths = Vec::new();
        for key in &s.transition_key {
            let (of, width) = self.select(key)?;
            select.push(of);
            widths.push(width);
        }
        let mut cases = Vec::new();
        let mut default = s.transitions.is_empty().then_some(END);
        for t in &s.transitions {
            let next = state(&t.next_state)?;
            let text = t.value.as_deref().unwrap_or_default();
            match t.kind {
                TransitionKind::ParseVset => {
                    let set = index("value set", &self.program.value_sets, |v| &v.name, text)?;
                    if let Some(set) = self.program.value_sets.get_mut(set as usize) {
                        set.widths = widths.clone().into();
                    }
                    cases.push(Case::ValueSet(set, next));
                }
                // Version 2.0 wrote the default as the value "default".
                TransitionKind::Hexstr if text != "default" => cases.push(values(t, text, &widths, next)?),
                _ => {
                    // Nothing after it can be reached.
                    default = Some(next);
                    break;
                }
            }
        }
        Ok(State {
            name: s.name.clone(),
            ops: ops.into(),
            select: select.into(),
            cases: cases.into(),
            default,
        })
    }

    fn select(&self, key: &Value) -> Lower<(Select, u32)> {
        if let Value::Lookahead(offset, width) = key {
            if *width > MAX_WIDTH {
                return wrong("a look ahead is too wide");
            }
            return Ok((Select::Ahead(*offset, *width), *width));
        }
        let (term, width) = (self.term(key)?, self.width(key)?);
        let select = match &term {
            Term::Field(place) if words_of(place.width) == 1 => Select::Word(place.slot),
            _ => Select::Value(Computed::new(&term, width), width),
        };
        Ok((select, width))
    }

    fn parser_op(&self, op: &json::ParserOp) -> Lower<Vec<ParserOp>> {
        let parameter = |i: usize| match op.parameters.get(i) {
            Some(ParserParameter::Value(v)) => Ok(v),
            Some(ParserParameter::Call(_)) => wrong("a value is expected, not a call"),
            None => wrong(format_args!("parameter {i} of {:?} is missing", op.op)),
        };
        let word = |i| Ok(expr::lower::<u64>(&self.term(parameter(i)?)?));
        let truth = |i| {
            let term = self.term(parameter(i)?)?;
            Ok(expr::lower::<u64>(&Term::binary(Binary::Ne, term, Term::constant(0))))
        };
        let all = |ops: Vec<Op>| vec![ParserOp::Do(ops.into())];
        Ok(vec![match op.op {
            ParserOpKind::Extract => self.extract(parameter(0)?, None)?,
            ParserOpKind::ExtractVl => self.extract(parameter(0)?, Some(word(1)?))?,
            ParserOpKind::Set => match parameter(1)? {
                Value::Lookahead(_, width) if *width > MAX_WIDTH => return wrong("a look ahead is too wide"),
                Value::Lookahead(offset, width) => match self.dest(parameter(0)?)? {
                    Dest::Field(slot, to) if to >= *width && to <= 64 && (1..=64).contains(width) => {
                        ParserOp::Look(load(*offset, *width, slot), offset + width)
                    }
                    dest => ParserOp::Ahead(dest, *offset, *width),
                },
                value => return Ok(all(self.assign(parameter(0)?, value)?)),
            },
            ParserOpKind::Verify => ParserOp::Verify(truth(0)?, word(1)?),
            ParserOpKind::Advance => ParserOp::Advance(word(0)?),
            // Older documents count octets.
            ParserOpKind::Shift => {
                let octets = self.term(parameter(0)?)?;
                ParserOp::Advance(expr::lower(&Term::binary(Binary::Mul, octets, Term::constant(8))))
            }
            ParserOpKind::Primitive => match op.parameters.first() {
                Some(ParserParameter::Call(call)) => {
                    let ops = self.primitive(&call.op, &call.parameters)?;
                    if ops.iter().any(|op| matches!(op, Op::Jump(_) | Op::JumpUnless { .. })) {
                        return wrong("a parser state cannot jump");
                    }
                    return Ok(all(ops));
                }
                _ => return wrong("a call is expected"),
            },
        }])
    }

    fn extract(&self, target: &Value, bits: Option<expr::Expr<u64>>) -> Lower<ParserOp> {
        let (header, next) = match target {
            Value::Regular(h) | Value::Header(h) => (self.header(h)?, None),
            Value::Stack(s) => (self.stack(s)?, Some(self.members(s, 0)?)),
            Value::UnionStack(s, member) => {
                let members = self.members(s, self.union_member(s, member)?)?;
                (self.stack(s)?, Some(members))
            }
            other => return wrong(format_args!("{other:?} cannot be extracted")),
        };
        let headers = next.as_deref().unwrap_or(std::slice::from_ref(&header));
        let of = |h: &u32| self.program.headers.get(*h as usize);
        if bits.is_some() && headers.iter().filter_map(of).any(|h| h.variable.is_none()) {
            return wrong(format_args!("{target:?} has no variable-length field"));
        }
        Ok(match (next, bits) {
            (Some(elements), bits) => ParserOp::ExtractNext(header, elements, bits.map(Box::new)),
            (None, Some(bits)) => ParserOp::ExtractVariable(header, bits),
            (None, None) => ParserOp::Extract(header),
        })
    }

    pub(super) fn rest(&mut self) -> Lower<()> {
        for c in &self.source.checksums {
            let target = Value::Field(c.target.clone());
            let dest = self.dest(&target)?;
            let condition = match &c.if_cond {
                Some(v) => {
                    let holds = Term::binary(Binary::Ne, self.term(v)?, Term::constant(0));
                    Some(expr::lower(&holds))
                }
                None => None,
            };
            let lowered = Checksum {
                mask: mask64(dest.width()),
                dest,
                value: expr::lower(&self.term(&target)?),
                calculation: self.calculation(&c.calculation)?,
                condition,
            };
            if c.verify {
                self.program.verify.push(lowered.clone());
            }
            if c.update {
                self.program.update.push(lowered);
            }
        }
        if let Some(deparser) = self.source.deparsers.first() {
            let order = deparser.order.iter().map(|h| self.header(h));
            self.program.deparse = order.collect::<Lower<_>>()?;
        }
        for list in &self.source.field_lists {
            let mut fields = Vec::new();
            for element in &list.elements {
                if let Value::Field(_) = element
                    && let Dest::Field(slot, width) = self.dest(element)?
                {
                    fields.push((slot, words_of(width)));
                }
            }
            self.program.field_lists.insert(list.id, fields);
        }
        for list in &self.source.learn_lists {
            let element = |v: &Value| {
                let width = self.width(v)?;
                Ok((Computed::new(&self.term(v)?, width), width))
            };
            let fields = list.elements.iter().map(element).collect::<Lower<_>>()?;
            self.program.digests.push(Digest {
                id: list.id,
                name: list.name.clone(),
                fields,
            });
        }
        Ok(())
    }
}

/// A case of values: the text has them one after another, each in whole octets.
fn values(t: &json::Transition, text: &str, widths: &[u32], next: Next) -> Lower<Case> {
    let Some(value) = json::HexStr::parse(text) else {
        return wrong(format_args!("`{text}` is not a number"));
    };
    let value = value.value();
    let mask = t.mask.as_ref().map(json::HexStr::value);
    let mut words = Vec::new();
    let mut left: u32 = widths.iter().map(|w| w.div_ceil(8) * 8).sum();
    for width in widths {
        left -= width.div_ceil(8) * 8;
        let n = words_of(*width);
        let cut = |number: &BigInt| {
            let mut out = vec![0; n as usize];
            crate::term::store(&mut out, 0, *width, &(number >> left));
            out
        };
        let all = BigInt::from_biguint(Sign::Plus, (num_bigint::BigUint::from(1u8) << *width) - 1u8);
        let masks = match &mask {
            Some(mask) => cut(mask),
            None => cut(&(all << left)),
        };
        words.extend(cut(&value).into_iter().zip(masks).map(|(v, m)| (v & m, m)));
    }
    Ok(Case::Words(words.into(), next))
}
