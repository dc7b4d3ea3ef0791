//! Expressions.

use bmv2_json::{self as json, Expression, FieldRef, Operand, Value};
use num_bigint::BigInt;

use super::{Lower, LowerError, MAX_DEPTH, MAX_WIDTH, Names, index, wrong};
use crate::engine::hash::{Algorithm, Calculation, Input};
use crate::engine::program::{Dest, Value as Computed};
use crate::engine::term::{Binary, LastOf, Place, Term};
use crate::engine::word::{top_bits, words_of};

impl<'a> Names<'a> {
    pub(super) fn term(&self, value: &Value) -> Lower<Term> {
        self.term_at(value, 0)
    }

    fn term_at(&self, value: &Value, depth: usize) -> Lower<Term> {
        if depth > MAX_DEPTH {
            return wrong("an expression is nested too deeply");
        }
        Ok(match value {
            Value::Field(FieldRef(header, field)) if field == "$valid$" => self.validity(header)?,
            Value::Field(f) => Term::Field(self.field(f)?),
            Value::Hexstr(h) => {
                let value = h.value();
                if value.bits() > u64::from(MAX_WIDTH) {
                    return wrong("a constant is too wide");
                }
                Term::Constant(value)
            }
            Value::Bool(b) => Term::constant(u8::from(*b)),
            Value::StackField(f) => Term::Last(self.last_of(f)?),
            Value::UnionStackField(stack, member, field) => Term::Last(self.last_of_union(stack, member, field)?),
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
            Value::Expression(e) => self.expression(e, depth + 1)?,
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

    fn last_of(&self, FieldRef(stack, field): &FieldRef) -> Lower<LastOf> {
        let found = self.program.stacks.get(self.stack(stack)? as usize);
        let elements = found
            .into_iter()
            .flat_map(|s| s.elements.iter().filter_map(|e| e.first()));
        let elements: Vec<u32> = elements.copied().collect();
        self.last(found.map_or(0, |s| s.next), &elements, stack, field)
    }

    fn last_of_union(&self, stack: &str, member: &str, field: &str) -> Lower<LastOf> {
        let found = self.program.stacks.get(self.stack(stack)? as usize);
        let elements = self.union_members(stack, member)?;
        self.last(found.map_or(0, |s| s.next), &elements, stack, field)
    }

    /// The headers of one member of a stack of unions, by element.
    pub(super) fn union_members(&self, stack: &str, member: &str) -> Lower<Vec<u32>> {
        let found = self.union_stacks.get(stack).and_then(|s| s.get(member));
        found
            .cloned()
            .ok_or_else(|| LowerError(format!("{stack} has no member {member}")))
    }

    fn last(&self, next: u32, elements: &[u32], stack: &str, field: &str) -> Lower<LastOf> {
        let mut slots = Vec::new();
        let mut width = 0;
        for element in elements {
            let name = self
                .program
                .headers
                .get(*element as usize)
                .map_or("", |h| h.name.as_str());
            let Some(place) = self.fields.get(&(name, field)) else {
                return wrong(format_args!("field {stack}[].{field} is unknown"));
            };
            slots.push(place.slot);
            width = place.width;
        }
        Ok(LastOf {
            next,
            slots: slots.into(),
            width,
        })
    }

    fn expression(&self, expression: &Expression, depth: usize) -> Lower<Term> {
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
            "==" => match self.headers_equal(op)? {
                Some(equal) => Ok(equal),
                None => binary(Binary::Eq),
            },
            "!=" => match self.headers_equal(op)? {
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
            "b2d" | "valid" | "valid_union" | "size_stack" => operand(&op.right),
            "?" => Ok(Term::Choice(boxed(&op.cond)?, boxed(&op.left)?, boxed(&op.right)?)),
            "last_stack_index" => Ok(Term::binary(Binary::Sub, operand(&op.right)?, Term::constant(1))),
            other => wrong(format_args!("operator {other} is not known")),
        }
    }

    fn headers_equal(&self, op: &json::Operation) -> Lower<Option<Term>> {
        let (Some(Operand::Value(Value::Header(a))), Some(Operand::Value(Value::Header(b)))) =
            (op.left.as_deref(), op.right.as_deref())
        else {
            return Ok(None);
        };
        let of = |name: &str| -> Lower<(u32, u32)> {
            let header = self.program.headers.get(self.header(name)? as usize);
            Ok(header.map_or((0, 0), |h| (h.slot, h.words)))
        };
        let ((a, n), (b, m)) = (of(a)?, of(b)?);
        if n != m {
            return wrong("headers of different types are compared");
        }
        Ok(Some(Term::HeadersEqual(a, b, n)))
    }

    pub(super) fn dest(&self, value: &Value) -> Lower<Dest> {
        Ok(match value {
            Value::Field(FieldRef(header, field)) if field == "$valid$" => Dest::Valid(self.header(header)?),
            Value::Field(f) => {
                let place = self.field(f)?;
                Dest::Field(place.slot, place.width)
            }
            Value::StackField(f) => Dest::Last(Box::new(self.last_of(f)?)),
            Value::UnionStackField(stack, member, field) => {
                Dest::Last(Box::new(self.last_of_union(stack, member, field)?))
            }
            other => return wrong(format_args!("{other:?} cannot be assigned to")),
        })
    }

    pub(super) fn width(&self, value: &Value) -> Lower<u32> {
        let width = match value {
            Value::Field(FieldRef(_, f)) if f == "$valid$" => 1,
            Value::Field(f) => self.field(f)?.width,
            Value::StackField(f) => self.last_of(f)?.width,
            Value::UnionStackField(stack, member, field) => self.last_of_union(stack, member, field)?.width,
            Value::Lookahead(_, width) => *width,
            other => {
                let range = self.term(other)?.range();
                if range.signed || range.bits > MAX_WIDTH {
                    return wrong(format_args!("the width of {other:?} is not known"));
                }
                range.bits
            }
        };
        Ok(width)
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

    /// A piece of input as wide as it is; fields word by word.
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
            other => wrong(format_args!("{other:?} is no constant")),
        }
    }
}
