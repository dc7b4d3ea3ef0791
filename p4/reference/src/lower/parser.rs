//! The parser: states, what they do, and where they lead.

use bmv2_json::{self as json, ParserOpKind, ParserParameter, TransitionKind, Value};
use num_bigint::BigUint;

use super::{Lower, LowerError, Names, wrong};
use crate::bits::ones;
use crate::expr::{Binary, Expr};
use crate::program::{Case, Next, ParserState, ParserStep, Select};

impl Names<'_> {
    pub(super) fn parser(&mut self) -> Lower<()> {
        self.program.value_sets = self.source.parse_vsets.iter().map(|v| v.name.clone()).collect();
        let Some(parser) = self.source.parsers.first() else {
            return wrong("the program has no parser");
        };
        let state = |name: &Option<String>| -> Lower<Next> {
            let Some(name) = name else { return Ok(None) };
            Self::index("parser state", &parser.parse_states, |s| &s.name, name).map(Some)
        };
        for s in &parser.parse_states {
            let place = |e: LowerError| LowerError(format!("parser state {}: {e}", s.name));
            let mut steps = Vec::new();
            for op in &s.parser_ops {
                steps.push(self.parser_step(op).map_err(place)?);
            }
            let mut select = Vec::new();
            for key in &s.transition_key {
                select.push(match key {
                    Value::Lookahead(offset, width) => Select::Ahead(*offset as usize, *width),
                    other => Select::Value(self.value(other).map_err(place)?, self.width(other).map_err(place)?),
                });
            }
            let mut cases = Vec::new();
            for t in &s.transitions {
                cases.push((self.case(t, &select).map_err(place)?, state(&t.next_state)?));
            }
            self.program.states.push(ParserState { steps, select, cases });
        }
        self.program.parser_start = state(&parser.init_state)?;
        Ok(())
    }

    fn case(&self, t: &json::Transition, select: &[Select]) -> Lower<Case> {
        let text = t.value.as_deref().unwrap_or_default();
        Ok(match t.kind {
            TransitionKind::Default => Case::Default,
            TransitionKind::ParseVset => {
                Case::ValueSet(Self::index("value set", &self.program.value_sets, |v| v, text)?)
            }
            // Version 2.0 wrote the default as the value "default".
            TransitionKind::Hexstr if text == "default" => Case::Default,
            TransitionKind::Hexstr => {
                let Some(value) = json::HexStr::parse(text) else {
                    return wrong(format_args!("`{text}` is not a number"));
                };
                let octets: usize = select.iter().map(|s| (s.width() as usize).div_ceil(8)).sum();
                let value = padded(&value, octets);
                let mask_bytes = t
                    .mask
                    .as_ref()
                    .map_or_else(|| vec![0xff; octets], |m| padded(m, octets));
                let mut at = 0;
                let mut values = Vec::new();
                for s in select {
                    let next = at + (s.width() as usize).div_ceil(8);
                    let cut = |b: &[u8]| BigUint::from_bytes_be(b.get(at..next).unwrap_or_default()) & ones(s.width());
                    let m = cut(&mask_bytes);
                    values.push((cut(&value) & &m, m));
                    at = next;
                }
                Case::Values(values)
            }
        })
    }

    fn parser_step(&self, op: &json::ParserOp) -> Lower<ParserStep> {
        let parameter = |i: usize| match op.parameters.get(i) {
            Some(ParserParameter::Value(v)) => Ok(v),
            Some(ParserParameter::Call(_)) => wrong("a value is expected, not a call"),
            None => wrong(format_args!("parameter {i} of {:?} is missing", op.op)),
        };
        Ok(match op.op {
            ParserOpKind::Extract => self.extract(parameter(0)?, None)?,
            ParserOpKind::ExtractVl => self.extract(parameter(0)?, Some(self.value(parameter(1)?)?))?,
            ParserOpKind::Set => match parameter(1)? {
                Value::Lookahead(offset, width) => {
                    ParserStep::SetAhead(self.dest(parameter(0)?)?, *offset as usize, *width)
                }
                value => ParserStep::Set(self.dest(parameter(0)?)?, self.value(value)?),
            },
            ParserOpKind::Verify => ParserStep::Verify(self.value(parameter(0)?)?, self.value(parameter(1)?)?),
            ParserOpKind::Advance => ParserStep::Advance(self.value(parameter(0)?)?),
            // Older documents count octets.
            ParserOpKind::Shift => {
                let octets = Box::new(self.value(parameter(0)?)?);
                ParserStep::Advance(Expr::Binary(Binary::Mul, octets, Box::new(Expr::constant(8))))
            }
            ParserOpKind::Primitive => match op.parameters.first() {
                Some(ParserParameter::Call(call)) => ParserStep::Do(self.step(&call.op, &call.parameters)?),
                _ => return wrong("a call is expected"),
            },
        })
    }

    fn extract(&self, target: &Value, length: Option<Expr>) -> Lower<ParserStep> {
        Ok(match target {
            Value::Regular(h) | Value::Header(h) => ParserStep::Extract(self.header(h)?, length),
            Value::Stack(s) => ParserStep::ExtractNext(self.stack(s)?, 0, length),
            Value::UnionStack(s, member) => {
                ParserStep::ExtractNext(self.union_stack(s)?, self.union_member(s, member)?, length)
            }
            other => return wrong(format_args!("{other:?} cannot be extracted")),
        })
    }
}

/// The number's octets, filled up with zeros at the front.
fn padded(value: &json::HexStr, octets: usize) -> Vec<u8> {
    let bytes = value.bytes();
    let skip = bytes.len().saturating_sub(octets);
    let mut out = vec![0; octets.saturating_sub(bytes.len())];
    out.extend_from_slice(bytes.get(skip..).unwrap_or_default());
    out
}
