//! Operands: values, and what can be assigned to.

use bmv2_json::{Expression, FieldRef, Operand, Operation, Value};

use super::{Lower, LowerError, MAX_DEPTH, Names, wrong};
use crate::expr::{Binary, Expr, HeaderRef, Place};
use crate::phv::Field;
use crate::program::Dest;

/// An expression without its wrapping.
enum Operator<'v> {
    Op(&'v Operation),
    Value(&'v Value),
}

/// Removes expressions that only wrap another expression.
fn inner(mut value: &Value) -> Operator<'_> {
    while let Value::Expression(e) = value {
        match e.as_ref() {
            Expression::Op(op) => return Operator::Op(op),
            Expression::Value(v) => value = v,
        }
    }
    Operator::Value(value)
}

fn value_of(operand: &Option<Box<Operand>>) -> Option<&Value> {
    match operand.as_deref() {
        Some(Operand::Value(v)) => Some(v),
        _ => None,
    }
}

fn offset_of(operand: &Option<Box<Operand>>) -> Option<usize> {
    match operand.as_deref() {
        Some(Operand::Offset(n)) => Some(*n as usize),
        _ => None,
    }
}

impl Names<'_> {
    pub(super) fn value(&self, value: &Value) -> Lower<Expr> {
        self.value_at(value, 0)
    }

    fn value_at(&self, value: &Value, depth: usize) -> Lower<Expr> {
        if depth > MAX_DEPTH {
            return wrong("an expression is nested too deeply");
        }
        Ok(match value {
            Value::Field(FieldRef(header, field)) if field == "$valid$" => self.validity(header)?,
            Value::Field(f) => Expr::Load(Place::Field(self.field(f)?.clone())),
            Value::StackField(_) | Value::UnionStackField(..) => Expr::Load(self.place(value)?),
            Value::Hexstr(h) => Expr::Constant(h.value()),
            Value::Bool(b) => Expr::constant(u8::from(*b)),
            Value::Header(h) => Expr::Valid(HeaderRef::One(self.header(h)?)),
            Value::HeaderUnion(_) => Expr::AnyValid(self.union_of(value)?),
            Value::Local(i) | Value::RuntimeData(i) => Expr::Argument(*i as usize),
            Value::Register(name, cell) => {
                let register = Self::index("register", &self.program.registers, |r| &r.0, name)?;
                Expr::Register(register, Box::new(self.value_at(cell, depth + 1)?))
            }
            Value::Expression(_) => match inner(value) {
                Operator::Op(op) => self.operation(op, depth + 1)?,
                Operator::Value(v) => self.value_at(v, depth + 1)?,
            },
            Value::HeaderStack(s) => Expr::StackSize(self.stack(s)?),
            Value::HeaderUnionStack(s) => Expr::StackSize(self.union_stack(s)?),
            other => return wrong(format_args!("operand {other:?} cannot be computed with")),
        })
    }

    /// Whether a header, or any of a union, is valid.
    pub(super) fn validity(&self, header: &str) -> Lower<Expr> {
        match self.unions.get(header) {
            Some(members) => Ok(Expr::AnyValid(members.iter().copied().map(HeaderRef::One).collect())),
            None => Ok(Expr::Valid(HeaderRef::One(self.header(header)?))),
        }
    }

    fn operation(&self, op: &Operation, depth: usize) -> Lower<Expr> {
        let operand = |o: &Option<Box<Operand>>| match o.as_deref() {
            Some(Operand::Value(v)) => self.value_at(v, depth),
            Some(Operand::Offset(n)) => Ok(Expr::constant(*n)),
            None => wrong(format_args!("operator {} lacks an operand", op.op)),
        };
        let boxed = |o| operand(o).map(Box::new);
        let binary = |b: Binary| Ok(Expr::Binary(b, boxed(&op.left)?, boxed(&op.right)?));
        match op.op.as_str() {
            "+" => binary(Binary::Add),
            "-" if op.left.is_none() => Ok(Expr::Negate(boxed(&op.right)?)),
            "-" => binary(Binary::Sub),
            "*" => binary(Binary::Mul),
            "/" => binary(Binary::Div),
            "%" => binary(Binary::Mod),
            "<<" => binary(Binary::Shl),
            ">>" => binary(Binary::Shr),
            "&" => binary(Binary::BitAnd),
            "|" => binary(Binary::BitOr),
            "^" => binary(Binary::BitXor),
            "==" | "!=" => {
                let equal = match self.header_pairs(op)? {
                    Some(pairs) => Expr::HeadersEqual(pairs),
                    None => match value_of(&op.left)
                        .zip(value_of(&op.right))
                        .and_then(|(a, b)| self.variables(a, b))
                    {
                        Some((a, b)) => Expr::OctetsEqual(a, b),
                        None => binary(Binary::Eq)?,
                    },
                };
                Ok(if op.op == "==" {
                    equal
                } else {
                    Expr::Not(Box::new(equal))
                })
            }
            "<" => binary(Binary::Lt),
            ">" => binary(Binary::Gt),
            "<=" => binary(Binary::Le),
            ">=" => binary(Binary::Ge),
            "and" => binary(Binary::And),
            "or" => binary(Binary::Or),
            "not" => Ok(Expr::Not(boxed(&op.right)?)),
            "~" => Ok(Expr::Complement(boxed(&op.right)?)),
            "two_comp_mod" => binary(Binary::TwosComplement),
            "usat_cast" => binary(Binary::SaturateUnsigned),
            "sat_cast" => binary(Binary::SaturateSigned),
            "d2b" => Ok(Expr::Binary(Binary::Ne, boxed(&op.right)?, Box::new(Expr::constant(0)))),
            "b2d" => operand(&op.right),
            "valid" => match value_of(&op.right) {
                Some(v) => Ok(Expr::Valid(self.header_of(v)?)),
                None => wrong("`valid` lacks its header"),
            },
            "valid_union" => match value_of(&op.right) {
                Some(v) => Ok(Expr::AnyValid(self.union_of(v)?)),
                None => wrong("`valid_union` lacks its union"),
            },
            "?" => Ok(Expr::Choice(boxed(&op.cond)?, boxed(&op.left)?, boxed(&op.right)?)),
            "last_stack_index" => Ok(Expr::Binary(
                Binary::Sub,
                boxed(&op.right)?,
                Box::new(Expr::constant(1)),
            )),
            "size_stack" => operand(&op.right),
            "access_field" => self.field_at(op).map(Expr::Load),
            other => wrong(format_args!("operator {other} is not known")),
        }
    }

    /// The headers to compare one by one, if the operands are not numbers.
    fn header_pairs(&self, op: &Operation) -> Lower<Option<Vec<(HeaderRef, HeaderRef)>>> {
        let (Some(left), Some(right)) = (value_of(&op.left), value_of(&op.right)) else {
            return Ok(None);
        };
        let of = |v: &Value| -> Lower<Option<Vec<HeaderRef>>> {
            let headers = |stack: usize| {
                let elements = self.program.stacks.get(stack).into_iter().flatten().flatten();
                elements.copied().map(HeaderRef::One).collect()
            };
            Ok(match inner(v) {
                Operator::Value(Value::Header(_)) => Some(vec![self.header_of(v)?]),
                Operator::Value(Value::HeaderUnion(_)) => Some(self.union_of(v)?),
                Operator::Value(Value::HeaderStack(s)) => Some(headers(self.stack(s)?)),
                Operator::Value(Value::HeaderUnionStack(s)) => Some(headers(self.union_stack(s)?)),
                Operator::Op(o) if ["dereference_header_stack", "access_union_header"].contains(&o.op.as_str()) => {
                    Some(vec![self.header_of(v)?])
                }
                Operator::Op(o) if o.op == "dereference_union_stack" => Some(self.union_of(v)?),
                _ => None,
            })
        };
        Ok(of(left)?.zip(of(right)?).map(|(a, b)| a.into_iter().zip(b).collect()))
    }

    /// A header; its index in a stack may be computed.
    pub(super) fn header_of(&self, value: &Value) -> Lower<HeaderRef> {
        match inner(value) {
            Operator::Value(Value::Header(h)) => Ok(HeaderRef::One(self.header(h)?)),
            Operator::Op(op) if op.op == "dereference_header_stack" => {
                match (value_of(&op.left), value_of(&op.right)) {
                    (Some(Value::HeaderStack(s)), Some(index)) => self.element(self.stack(s)?, 0, self.value(index)?),
                    _ => wrong("a header stack and an index are expected"),
                }
            }
            Operator::Op(op) if op.op == "access_union_header" => match (value_of(&op.left), offset_of(&op.right)) {
                (Some(union), Some(member)) => {
                    let found = self.union_of(union)?.into_iter().nth(member);
                    found.ok_or_else(|| LowerError(format!("the union has no member {member}")))
                }
                _ => wrong("a header union and a member are expected"),
            },
            _ => wrong(format_args!("{value:?} is not a header")),
        }
    }

    /// The members of a union; its index in a stack may be computed.
    pub(super) fn union_of(&self, value: &Value) -> Lower<Vec<HeaderRef>> {
        match inner(value) {
            Operator::Value(Value::HeaderUnion(u)) => {
                let members = self.unions.get(u.as_str());
                let members = members.ok_or_else(|| LowerError(format!("header union {u} is unknown")))?;
                Ok(members.iter().copied().map(HeaderRef::One).collect())
            }
            Operator::Op(op) if op.op == "dereference_union_stack" => match (value_of(&op.left), value_of(&op.right)) {
                (Some(Value::HeaderUnionStack(s)), Some(index)) => {
                    let (stack, index) = (self.union_stack(s)?, self.value(index)?);
                    let members = self
                        .program
                        .stacks
                        .get(stack)
                        .and_then(|e| e.first())
                        .map_or(0, Vec::len);
                    (0..members).map(|m| self.element(stack, m, index.clone())).collect()
                }
                _ => wrong("a header union stack and an index are expected"),
            },
            _ => wrong(format_args!("{value:?} is not a header union")),
        }
    }

    /// A member of a stack's element by its index.
    fn element(&self, stack: usize, member: usize, index: Expr) -> Lower<HeaderRef> {
        let elements = self.program.stacks.get(stack).into_iter().flatten();
        let headers: Option<Vec<usize>> = elements.map(|e| e.get(member).copied()).collect();
        match headers {
            Some(headers) => Ok(HeaderRef::At(headers, Box::new(index))),
            None => wrong(format_args!("the stack's elements have no member {member}")),
        }
    }

    /// The number of the member with that name in the elements of a union stack.
    pub(super) fn union_member(&self, stack: &str, member: &str) -> Lower<usize> {
        let found = self.source.header_union_stacks.iter().find(|s| s.name == stack);
        let kind = found.and_then(|s| self.source.header_union_types.iter().find(|t| t.name == s.union_type));
        let at = kind.and_then(|t| t.headers.iter().position(|(name, _)| name == member));
        at.ok_or_else(|| LowerError(format!("{stack} has no member {member}")))
    }

    /// A field of the last element of a stack.
    fn of_last(&self, stack: usize, member: usize, field: &str) -> Lower<Place> {
        let last = Expr::Binary(
            Binary::Sub,
            Box::new(Expr::StackSize(stack)),
            Box::new(Expr::constant(1)),
        );
        let element = self.element(stack, member, last)?;
        let first = match &element {
            HeaderRef::One(h) => Some(h),
            HeaderRef::At(headers, _) => headers.first(),
        };
        let names = first.and_then(|h| self.field_names.get(*h));
        let at = names.and_then(|names| names.iter().position(|n| *n == field));
        Ok(Place::Of(
            element,
            at.ok_or_else(|| LowerError(format!("field {field} of a stack is unknown")))?,
        ))
    }

    /// `access_field`: a field by its number.
    fn field_at(&self, op: &Operation) -> Lower<Place> {
        match (value_of(&op.left), offset_of(&op.right)) {
            (Some(header), Some(offset)) => {
                let place = Place::Of(self.header_of(header)?, offset);
                match self.shape(&place) {
                    Some(_) => Ok(place),
                    None => wrong(format_args!("the header has no field {offset}")),
                }
            }
            _ => wrong("a header and a field's number are expected"),
        }
    }

    /// What can be assigned to.
    pub(super) fn place(&self, value: &Value) -> Lower<Place> {
        match inner(value) {
            Operator::Value(Value::Field(f)) => Ok(Place::Field(self.field(f)?.clone())),
            Operator::Value(Value::StackField(FieldRef(stack, field))) => self.of_last(self.stack(stack)?, 0, field),
            Operator::Value(Value::UnionStackField(stack, member, field)) => {
                self.of_last(self.union_stack(stack)?, self.union_member(stack, member)?, field)
            }
            Operator::Op(op) if op.op == "access_field" => self.field_at(op),
            _ => wrong(format_args!("{value:?} cannot be assigned to")),
        }
    }

    /// The field at a place, or the first of the possible fields: all have the same type.
    pub(super) fn shape<'p>(&'p self, place: &'p Place) -> Option<&'p Field> {
        match place {
            Place::Field(field) => Some(field),
            Place::Of(HeaderRef::One(header), at) => self.program.headers.get(*header)?.fields.get(*at),
            Place::Of(HeaderRef::At(headers, _), at) => self.program.headers.get(*headers.first()?)?.fields.get(*at),
        }
    }

    pub(super) fn dest(&self, value: &Value) -> Lower<Dest> {
        if let Value::Field(FieldRef(header, field)) = value
            && field == "$valid$"
        {
            return Ok(Dest::Valid(HeaderRef::One(self.header(header)?)));
        }
        let place = self.place(value)?;
        let width = self.shape(&place).map_or(0, |f| f.width);
        Ok(Dest::Place(place, width))
    }

    pub(super) fn width(&self, value: &Value) -> Lower<u32> {
        Ok(match value {
            Value::Field(FieldRef(_, f)) if f == "$valid$" => 1,
            Value::Lookahead(_, width) => *width,
            other => match self.place(other) {
                Ok(place) => self.shape(&place).map_or(0, |f| f.width),
                Err(_) => return wrong(format_args!("the width of {other:?} is not known")),
            },
        })
    }
}
