//! The parser: from octets to headers.

use num_bigint::BigUint;
use num_traits::ToPrimitive;

use super::{Run, Wishes};
use crate::bits::{self, octets};
use crate::expr::Expr;
use crate::phv::Phv;
use crate::program::{Case, Next, ParserState, ParserStep, Select};

/// Most states of one parse. This ends a parser that loops without reading.
const MAX_STATES: usize = 512;

/// Why a parser stops, as the program numbers it.
type Stop = BigUint;

impl Run<'_> {
    pub(super) fn parse(&self, phv: &mut Phv, data: &[u8]) {
        let mut at = 0;
        let mut state = self.switch.program.parser_start;
        let mut failed = BigUint::from(self.switch.program.errors.timeout);
        for _ in 0..MAX_STATES {
            let Some(current) = state.and_then(|s| self.switch.program.states.get(s)) else {
                failed = BigUint::ZERO;
                break;
            };
            match self.state(current, phv, data, &mut at) {
                Ok(next) => state = next,
                Err(error) => {
                    failed = error;
                    break;
                }
            }
        }
        self.switch.set_standard(phv, "parser_error", failed);
        phv.payload.extend_from_slice(data.get(at / 8..).unwrap_or_default());
    }

    fn state(&self, state: &ParserState, phv: &mut Phv, data: &[u8], at: &mut usize) -> Result<Next, Stop> {
        let errors = &self.switch.program.errors;
        for step in &state.steps {
            self.parser_step(step, phv, data, at)?;
        }
        if state.cases.is_empty() {
            return Ok(None);
        }
        let mut values = Vec::with_capacity(state.select.len());
        for select in &state.select {
            values.push(match select {
                Select::Value(expr, width) => expr.bits(*width, phv, self.switch),
                Select::Ahead(offset, width) => bits::read(data, *at + offset, *width).ok_or(errors.too_short)?,
            });
        }
        for (case, next) in &state.cases {
            let hit = match case {
                Case::Default => true,
                Case::Values(wanted) => wanted.iter().zip(&values).all(|((v, m), value)| value & m == *v),
                Case::ValueSet(set) => {
                    let parts = state.select.iter().zip(&values);
                    let key: Vec<u8> = parts.flat_map(|(s, value)| octets(value, s.width())).collect();
                    let members = self.tables.value_sets.get(*set);
                    members.is_some_and(|s| s.iter().any(|m| **m == *key))
                }
            };
            if hit {
                return Ok(*next);
            }
        }
        Err(errors.no_match.into())
    }

    fn parser_step(&self, step: &ParserStep, phv: &mut Phv, data: &[u8], at: &mut usize) -> Result<(), Stop> {
        let errors = &self.switch.program.errors;
        let program = &self.switch.program;
        match step {
            ParserStep::Extract(h, length) => self.extract(*h, length.as_ref(), phv, data, at)?,
            ParserStep::ExtractNext(stack, member, length) => {
                let next = phv.stack_next.get(*stack).copied().unwrap_or(0);
                let header = program.stacks.get(*stack).and_then(|s| s.get(next)?.get(*member));
                let header = *header.ok_or(errors.stack_out_of_bounds)?;
                self.extract(header, length.as_ref(), phv, data, at)?;
                if let Some(n) = phv.stack_next.get_mut(*stack) {
                    *n += 1;
                }
            }
            ParserStep::Set(dest, expr) => {
                let value = expr.eval(phv, self.switch);
                self.assign(dest, &value, phv);
            }
            ParserStep::SetAhead(dest, offset, width) => {
                let value = bits::read(data, *at + offset, *width).ok_or(errors.too_short)?;
                self.assign(dest, &value.into(), phv);
            }
            ParserStep::Verify(condition, error) => {
                if !condition.holds(phv, self.switch) {
                    return Err(error.bits(u32::BITS, phv, self.switch));
                }
            }
            ParserStep::Advance(bits) => {
                let bits = bits.eval(phv, self.switch).to_usize().ok_or(errors.too_short)?;
                if !bits.is_multiple_of(8) {
                    return Err(errors.invalid_argument.into());
                }
                let end = at.checked_add(bits).filter(|end| *end <= data.len() * 8);
                *at = end.ok_or(errors.too_short)?;
            }
            ParserStep::Do(step) => {
                let mut ignored = Wishes::default();
                self.step(step, phv, &mut ignored);
            }
        }
        Ok(())
    }

    /// Reads a header. Errors in its length are checked in bmv2's order: not a whole number of octets, beyond the
    /// packet's end, larger than the header's type allows.
    fn extract(
        &self,
        header: usize,
        length: Option<&Expr>,
        phv: &mut Phv,
        data: &[u8],
        at: &mut usize,
    ) -> Result<(), Stop> {
        let program = &self.switch.program;
        let errors = &program.errors;
        let Some(h) = program.headers.get(header) else {
            return Ok(());
        };
        let variable = match length.map(|e| e.eval(phv, self.switch)) {
            None => 0,
            Some(bits) => bits.to_usize().ok_or(errors.too_short)?,
        };
        if !variable.is_multiple_of(8) {
            return Err(errors.invalid_argument.into());
        }
        let fixed: usize = h
            .fields
            .iter()
            .filter(|f| f.variable.is_none())
            .map(|f| f.width as usize)
            .sum();
        let end = at.checked_add(fixed).and_then(|end| end.checked_add(variable));
        if end.is_none_or(|end| end > data.len() * 8) {
            return Err(errors.too_short.into());
        }
        let most = h.fields.iter().find(|f| f.variable.is_some()).map(|f| f.width as usize);
        if most.is_some_and(|most| variable > most) {
            return Err(errors.header_too_short.into());
        }
        for field in &h.fields {
            match field.variable {
                Some(v) => {
                    let from = *at / 8;
                    if let Some(content) = phv.variable.get_mut(v) {
                        content.clear();
                        content.extend_from_slice(data.get(from..from + variable / 8).unwrap_or_default());
                    }
                    *at += variable;
                }
                None => {
                    let value = bits::read(data, *at, field.width).ok_or(errors.too_short)?;
                    phv.set(field.slot, field.width, &value.into());
                    *at += field.width as usize;
                }
            }
        }
        phv.set_valid(&program.headers, header, true);
        Ok(())
    }
}
