//! Expressions.

use bmv2_json::{self as json, Expression, FieldRef, Operand, Value};
use num_bigint::BigInt;

use super::stack::Located;
use super::{Lower, LowerError, MAX_DEPTH, MAX_WIDTH, Names, index, wrong};
use crate::hash::{Algorithm, Calculation, Input};
use crate::pick::Pick;
use crate::program::{Dest, Value as Computed};
use crate::term::{Binary, Place, Term};
use crate::word::{top_bits, words_of};

impl<'a> Names<'a> {
    pub(super) fn term(&self, value: &Value) -> Lower<Term> {
        self.term_at(value, 0)
    }

    pub(super) fn term_at(&self, value: &Value, depth: usize) -> Lower<Term> {
        if depth > MAX_DEPTH {
            return wrong("an expression is nested too deeply");
        }
        Ok(match value {
            Value::Field(FieldRef(header, field)) if field == "$valid$" => self.validity(header)?,
            Value::Field(_) | Value::StackField(_) | Value::UnionStackField(..) => match self.located(value, depth)? {
                Some(field) => field.term()?,
                None => return wrong(format_args!("{value:?} is not a field")),
            },
            Value::Hexstr(h) => {
                let value = h.value();
                if value.bits() > u64::from(MAX_WIDTH) {
                    return wrong("a constant is too wide");
                }
                Term::Constant(value)
            }
            Value::Bool(b) => Term::constant(u8::from(*b)),
            Value::Header(h) | Value::HeaderUnion(h) => self.validity(h)?,
            Value::Local(i) | Value::RuntimeData(i) => {
                let Some((at, width)) = self.parameters.get(*i as usize) else {
                    return wrong(format_args!("the action has no parameter {i}"));
                };
                Term::Argument(*at, *width)
            }
            Value::Register(name, cell) => {
                let array = index("register", &self.program.registers, |r| &r.name, name)?;
                let width = self.program.registers.get(array as usize).map_or(0, |r| r.width);
                Term::Register(array, width, Box::new(self.term_at(cell, depth + 1)?))
            }
            Value::Expression(e) => self.expression(value, e, depth + 1)?,
            Value::HeaderStack(s) | Value::HeaderUnionStack(s) => self.stack_count(s)?,
            other => return wrong(format_args!("operand {other:?} cannot be computed with")),
        })
    }

    /// How many elements of a stack are valid.
    fn stack_count(&self, stack: &str) -> Lower<Term> {
        let at = self.stack(stack)? as usize;
        let stack = self.program.stacks.get(at);
        Ok(Term::Field(Place {
            slot: stack.map_or(0, |s| s.next),
            width: 32,
            signed: false,
        }))
    }

    fn valid_slot(&self, header: &str) -> Lower<u32> {
        let at = self.header(header)? as usize;
        Ok(self.program.headers.get(at).map_or(0, |h| h.slot))
    }

    pub(super) fn validity(&self, header: &str) -> Lower<Term> {
        match self.unions.get(header) {
            Some(members) => {
                let slots = members.iter().filter_map(|m| self.program.headers.get(*m as usize));
                Ok(Term::Any(slots.map(|h| h.slot).collect()))
            }
            None => Ok(Term::Field(Place {
                slot: self.valid_slot(header)?,
                width: 1,
                signed: false,
            })),
        }
    }

    fn expression(&self, value: &Value, expression: &Expression, depth: usize) -> Lower<Term> {
        let op = match expression {
            Expression::Value(value) => return self.term_at(value, depth),
            Expression::Op(op) => op,
        };
        let operand = |o: &Option<Box<Operand>>| match o.as_deref() {
            Some(Operand::Value(v)) => self.term_at(v, depth),
            Some(Operand::Offset(n)) => Ok(Term::constant(*n)),
            None => wrong(format_args!("operator {} lacks an operand", op.op)),
        };
        let boxed = |o| operand(o).map(Box::new);
        let binary = |b: Binary| Ok(Term::binary(b, operand(&op.left)?, operand(&op.right)?));
        let swapped = |b: Binary| Ok(Term::binary(b, operand(&op.right)?, operand(&op.left)?));
        // A cast's second operand is its width.
        let bits = || {
            let width = operand(&op.right)?.known_u32().filter(|w| *w <= MAX_WIDTH);
            width.ok_or_else(|| LowerError(format!("the width of {} is not known", op.op)))
        };
        match op.op.as_str() {
            "+" => binary(Binary::Add),
            "-" if op.left.is_none() => Ok(Term::Negate(boxed(&op.right)?)),
            "-" => binary(Binary::Sub),
            "*" => binary(Binary::Mul),
            "/" => binary(Binary::Div),
            "%" => binary(Binary::Mod),
            "<<" => binary(Binary::Shl),
            ">>" => binary(Binary::Shr),
            "&" => binary(Binary::BitAnd),
            "|" => binary(Binary::BitOr),
            "^" => binary(Binary::BitXor),
            "==" => match self.equal(op, depth)? {
                Some(equal) => Ok(equal),
                None => binary(Binary::Eq),
            },
            "!=" => match self.equal(op, depth)? {
                Some(equal) => Ok(Term::Not(Box::new(equal))),
                None => binary(Binary::Ne),
            },
            "<" => binary(Binary::Lt),
            ">" => swapped(Binary::Lt),
            "<=" => binary(Binary::Le),
            ">=" => swapped(Binary::Le),
            "and" => binary(Binary::And),
            "or" => binary(Binary::Or),
            "not" => Ok(Term::Not(boxed(&op.right)?)),
            "~" => Ok(Term::Complement(boxed(&op.right)?)),
            "two_comp_mod" => Ok(Term::TwosComplement(boxed(&op.left)?, bits()?)),
            "usat_cast" => Ok(Term::Saturate(boxed(&op.left)?, bits()?, false)),
            "sat_cast" => Ok(Term::Saturate(boxed(&op.left)?, bits()?, true)),
            "d2b" => {
                let value = operand(&op.right)?;
                if value.range().bits <= 1 && !value.range().signed {
                    return Ok(value);
                }
                Ok(Term::binary(Binary::Ne, value, Term::constant(0)))
            }
            "b2d" | "size_stack" => operand(&op.right),
            "valid" => match op.right.as_deref() {
                Some(Operand::Value(v)) => self.validity_of(self.header_of(v, depth)?),
                _ => wrong("`valid` lacks its header"),
            },
            "valid_union" => match op.right.as_deref() {
                Some(Operand::Value(v)) => {
                    let each = self.union_of(v, depth)?.into_iter().map(|h| self.validity_of(h));
                    each.reduce(|a, b| Ok(Term::binary(Binary::Or, a?, b?)))
                        .unwrap_or_else(|| Ok(Term::constant(0)))
                }
                _ => wrong("`valid_union` lacks its union"),
            },
            "access_field" => match self.located(value, depth)? {
                Some(field) => field.term(),
                None => wrong("a header and the number of a field are expected"),
            },
            "?" => Ok(Term::Choice(boxed(&op.cond)?, boxed(&op.left)?, boxed(&op.right)?)),
            "last_stack_index" => Ok(Term::binary(Binary::Sub, operand(&op.right)?, Term::constant(1))),
            other => wrong(format_args!("operator {other} is not known")),
        }
    }

    /// Whether a header is valid.
    fn validity_of(&self, header: Pick) -> Lower<Term> {
        let valid = Located {
            at: self.valid_slots(&header)?,
            width: 1,
            signed: false,
            variable: false,
        };
        valid.term()
    }

    pub(super) fn dest(&self, value: &Value) -> Lower<Dest> {
        Ok(match value {
            Value::Field(FieldRef(header, field)) if field == "$valid$" => Dest::Valid(self.header(header)?),
            other => match self.located(other, 0)? {
                Some(field) if field.variable => return wrong("a variable-length field takes no number"),
                Some(Located {
                    at: Pick::One(slot),
                    width,
                    ..
                }) => Dest::Field(slot, width),
                Some(field) => Dest::Picked(field.at, field.width),
                None => return wrong(format_args!("{other:?} cannot be assigned to")),
            },
        })
    }

    pub(super) fn width(&self, value: &Value) -> Lower<u32> {
        match value {
            Value::Field(FieldRef(_, field)) if field == "$valid$" => return Ok(1),
            Value::Lookahead(_, width) => return Ok(*width),
            _ => {}
        }
        if let Some(field) = self.located(value, 0)? {
            return Ok(field.width);
        }
        let range = self.term(value)?.range();
        if range.signed || range.bits > MAX_WIDTH {
            return wrong(format_args!("the width of {value:?} is not known"));
        }
        Ok(range.bits)
    }

    pub(super) fn calculations(&mut self) -> Lower<()> {
        for c in &self.source.calculations {
            let Some(algorithm) = Algorithm::by_name(&c.algo) else {
                return wrong(format_args!(
                    "calculation {}: algorithm {} is not known",
                    c.name, c.algo
                ));
            };
            let mut input = Vec::new();
            for i in &c.input {
                let lowered = self.input(i);
                input.extend(lowered.map_err(|e| LowerError(format!("calculation {}: {e}", c.name)))?);
            }
            self.calculations
                .insert(&c.name, self.program.calculations.len() as u32);
            self.program.calculations.push(Calculation::new(algorithm, input));
        }
        Ok(())
    }

    fn input(&self, input: &json::CalculationInput) -> Lower<Vec<Input>> {
        if input.kind == "payload" {
            return Ok(vec![Input::Payload]);
        }
        let tagged = serde_json::json!({ "type": input.kind, "value": input.value });
        let value: Value = serde_json::from_value(tagged).map_err(|e| LowerError(e.to_string()))?;
        match &value {
            Value::Field(FieldRef(header, field)) => {
                let variable = self.variable.get(&(header.as_str(), field.as_str()));
                match variable {
                    Some(place) => Ok(vec![Input::Variable(place.slot)]),
                    None => self.input_value(&value),
                }
            }
            Value::Header(h) => Ok(vec![Input::Header(self.header(h)?)]),
            other => {
                let Some(width) = input.bitwidth.filter(|w| *w <= MAX_WIDTH) else {
                    return wrong(format_args!("{other:?} has no bit width"));
                };
                Ok(vec![Input::Value(Computed::new(&self.term(other)?, width), width)])
            }
        }
    }

    /// A piece of input in its own width. Fields are taken word by word.
    pub(super) fn input_value(&self, value: &Value) -> Lower<Vec<Input>> {
        let (term, width) = (self.term(value)?, self.width(value)?);
        Ok(match &term {
            Term::Field(place) => {
                let words = 0..words_of(place.width);
                let bits = |i| if i == 0 { top_bits(place.width) } else { 64 };
                words.map(|i| Input::Word(place.slot + i, bits(i))).collect()
            }
            _ => vec![Input::Value(Computed::new(&term, width), width)],
        })
    }

    pub(super) fn calculation(&self, name: &str) -> Lower<u32> {
        let found = self.calculations.get(name).copied();
        found.ok_or_else(|| LowerError(format!("calculation {name} is unknown")))
    }

    /// A constant that fits 32 bits.
    pub(super) fn constant(&self, value: &Value) -> Lower<u32> {
        match value {
            Value::Hexstr(h) => {
                let value: BigInt = h.value();
                u32::try_from(&value).map_err(|_| LowerError(format!("{value} is out of range")))
            }
            other => wrong(format_args!("{other:?} is not a constant")),
        }
    }
}
