//! Operands that are not numbers: headers, unions, stacks and their fields, some of them chosen by an index when a
//! packet runs.

use bmv2_json::{Expression, FieldRef, Operand, Operation, Value};

use super::{Lower, LowerError, MAX_DEPTH, Names, wrong};
use crate::expr;
use crate::layout::Header;
use crate::pick::{Index, Pick};
use crate::term::{Binary, Place, Term};
use crate::word::words_of;

/// The operand itself, without the expressions that only wrap it.
enum Inner<'v> {
    Op(&'v Operation),
    Value(&'v Value),
}

fn inner(mut value: &Value) -> Inner<'_> {
    while let Value::Expression(e) = value {
        match &**e {
            Expression::Op(op) => return Inner::Op(op),
            Expression::Value(v) => value = v,
        }
    }
    Inner::Value(value)
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

/// A field, and where it is.
#[derive(Debug, Clone)]
pub(super) struct Located {
    /// Its first slot.
    pub(super) at: Pick,
    /// Its bits; of a variable one, the most.
    pub(super) width: u32,
    pub(super) signed: bool,
    pub(super) variable: bool,
}

impl Located {
    /// Words that it takes.
    pub(super) fn words(&self) -> u32 {
        words_of(self.width) + u32::from(self.variable)
    }

    /// Its number.
    pub(super) fn term(self) -> Lower<Term> {
        match self.at {
            _ if self.variable => wrong("a variable-length field is not a number"),
            Pick::One(slot) => Ok(Term::Field(Place {
                slot,
                width: self.width,
                signed: self.signed,
            })),
            at => Ok(Term::Picked(at, self.width, self.signed)),
        }
    }
}

impl Names<'_> {
    /// A header, which may be an element of a stack.
    pub(super) fn header_of(&self, value: &Value, depth: usize) -> Lower<Pick> {
        match inner(value) {
            Inner::Value(Value::Header(h)) => Ok(Pick::One(self.header(h)?)),
            Inner::Op(op) if op.op == "dereference_header_stack" => match (value_of(&op.left), value_of(&op.right)) {
                (Some(Value::HeaderStack(stack)), Some(index)) => self.element(stack, 0, self.index(index, depth)?),
                _ => wrong("a header stack and an index are expected"),
            },
            Inner::Op(op) if op.op == "access_union_header" => match (value_of(&op.left), offset_of(&op.right)) {
                (Some(union), Some(member)) => {
                    let found = self.union_of(union, depth)?.into_iter().nth(member);
                    found.ok_or_else(|| LowerError(format!("the union has no member {member}")))
                }
                _ => wrong("a header union and a member are expected"),
            },
            _ => wrong(format_args!("{value:?} is not a header")),
        }
    }

    /// The members of a union, which may be an element of a stack.
    pub(super) fn union_of(&self, value: &Value, depth: usize) -> Lower<Vec<Pick>> {
        match inner(value) {
            Inner::Value(Value::HeaderUnion(union)) => {
                let members = self.unions.get(union.as_str());
                let members = members.ok_or_else(|| LowerError(format!("header union {union} is unknown")))?;
                Ok(members.iter().copied().map(Pick::One).collect())
            }
            Inner::Op(op) if op.op == "dereference_union_stack" => match (value_of(&op.left), value_of(&op.right)) {
                (Some(Value::HeaderUnionStack(stack)), Some(index)) => {
                    let index = self.index(index, depth)?;
                    let found = self.program.stacks.get(self.stack(stack)? as usize);
                    let members = found.and_then(|s| s.elements.first()).map_or(0, |e| e.len());
                    (0..members).map(|m| self.element(stack, m, index.clone())).collect()
                }
                _ => wrong("a stack of header unions and an index are expected"),
            },
            _ => wrong(format_args!("{value:?} is not a header union")),
        }
    }

    /// An index: a number that is compared with the stack's size before anything else is done
    /// with it, so it is computed exactly.
    fn index(&self, value: &Value, depth: usize) -> Lower<Index> {
        if depth > MAX_DEPTH {
            return wrong("an expression is nested too deeply");
        }
        let term = self.term_at(value, depth + 1)?;
        let range = term.range();
        let exact = if range.bits > 64 || range.signed {
            let fits = |op, bound: u32| Term::binary(op, term.clone(), Term::constant(bound));
            let inside = Term::binary(
                Binary::And,
                Term::Not(Box::new(fits(Binary::Lt, 0))),
                fits(Binary::Le, u32::MAX),
            );
            Term::Choice(
                Box::new(inside),
                Box::new(term.clone()),
                Box::new(Term::constant(u64::MAX)),
            )
        } else {
            term
        };
        Ok(Index::At(expr::lower(&exact)))
    }

    /// A member of an element of a stack.
    fn element(&self, stack: &str, member: usize, index: Index) -> Lower<Pick> {
        let found = self.program.stacks.get(self.stack(stack)? as usize);
        let elements = found.into_iter().flat_map(|s| s.elements.iter());
        let headers: Option<Box<[u32]>> = elements.map(|e| e.get(member).copied()).collect();
        match headers {
            Some(headers) => Ok(Pick::Of(Box::new((index, headers)))),
            None => wrong(format_args!("{stack} has no member {member}")),
        }
    }

    fn last(&self, stack: &str, member: usize) -> Lower<Pick> {
        let found = self.program.stacks.get(self.stack(stack)? as usize);
        self.element(stack, member, Index::Last(found.map_or(0, |s| s.next)))
    }

    /// Which member of the elements of a union stack has that name.
    pub(super) fn union_member(&self, stack: &str, member: &str) -> Lower<usize> {
        let found = self.source.header_union_stacks.iter().find(|s| s.name == stack);
        let kind = found.and_then(|s| self.source.header_union_types.iter().find(|t| t.name == s.union_type));
        let at = kind.and_then(|t| t.headers.iter().position(|(name, _)| name == member));
        at.ok_or_else(|| LowerError(format!("{stack} has no member {member}")))
    }

    /// The headers of one member of a stack's elements.
    pub(super) fn members(&self, stack: &str, member: usize) -> Lower<Box<[u32]>> {
        match self.last(stack, member)? {
            Pick::Of(of) => Ok(of.1),
            Pick::One(header) => Ok([header].into()),
        }
    }

    /// The slots of the validity of headers.
    pub(super) fn valid_slots(&self, headers: &Pick) -> Lower<Pick> {
        let slots = headers.map(|h| Some(self.program.headers.get(h as usize)?.slot));
        slots.ok_or_else(|| LowerError("a header is unknown".into()))
    }

    fn sample(&self, headers: &Pick) -> Option<&Header> {
        self.program.headers.get(headers.sample()? as usize)
    }

    /// A field of a header by its number.
    fn field_of(&self, headers: &Pick, field: usize) -> Lower<Located> {
        let missing = || LowerError(format!("the header has no field {field}"));
        let header = self.sample(headers).ok_or_else(missing)?;
        let shape = header.fields.get(field).ok_or_else(missing)?;
        let at = headers.map(|h| Some(self.program.headers.get(h as usize)?.fields.get(field)?.slot));
        let place = self.fields.get(&(header.name.as_str(), shape.name.as_str()));
        Ok(Located {
            at: at.ok_or_else(missing)?,
            width: shape.width,
            signed: place.is_some_and(|p| p.signed),
            variable: shape.variable,
        })
    }

    fn field_of_last(&self, stack: &str, member: usize, field: &str) -> Lower<Located> {
        let last = self.last(stack, member)?;
        let header = self.sample(&last);
        let found = header.and_then(|h| h.fields.iter().position(|f| f.name == field));
        match found {
            Some(at) => self.field_of(&last, at),
            None => wrong(format_args!("field {stack}[].{field} is unknown")),
        }
    }

    /// A field, if the operand is one.
    pub(super) fn located(&self, value: &Value, depth: usize) -> Lower<Option<Located>> {
        Ok(Some(match inner(value) {
            Inner::Value(Value::Field(f)) if f.1 == "$valid$" => return Ok(None),
            Inner::Value(Value::Field(FieldRef(header, field))) => {
                let key = (header.as_str(), field.as_str());
                let (place, variable) = match (self.fields.get(&key), self.variable.get(&key)) {
                    (Some(place), _) => (place, false),
                    (None, Some(place)) => (place, true),
                    (None, None) => return wrong(format_args!("field {header}.{field} is unknown")),
                };
                Located {
                    at: Pick::One(place.slot),
                    width: place.width,
                    signed: place.signed,
                    variable,
                }
            }
            Inner::Value(Value::StackField(FieldRef(stack, field))) => self.field_of_last(stack, 0, field)?,
            Inner::Value(Value::UnionStackField(stack, member, field)) => {
                self.field_of_last(stack, self.union_member(stack, member)?, field)?
            }
            Inner::Op(op) if op.op == "access_field" => match (value_of(&op.left), offset_of(&op.right)) {
                (Some(header), Some(field)) => self.field_of(&self.header_of(header, depth)?, field)?,
                _ => return wrong("a header and the number of a field are expected"),
            },
            _ => return Ok(None),
        }))
    }

    /// Whether two operands that are not numbers are equal: headers, unions and stacks (compared header by header), and
    /// variable-length fields.
    pub(super) fn equal(&self, op: &Operation, depth: usize) -> Lower<Option<Term>> {
        let (Some(left), Some(right)) = (value_of(&op.left), value_of(&op.right)) else {
            return Ok(None);
        };
        if let (Some(left), Some(right)) = (self.headers_of(left, depth)?, self.headers_of(right, depth)?) {
            let mut pairs = Vec::new();
            for (a, b) in left.iter().zip(&right) {
                let words = |h| self.sample(h).map_or(0, |h| h.words);
                if words(a) != words(b) {
                    return wrong("headers of different types are compared");
                }
                pairs.push((self.valid_slots(a)?, self.valid_slots(b)?, words(a)));
            }
            return Ok(Some(Term::HeadersEqual(pairs.into())));
        }
        match (self.located(left, depth)?, self.located(right, depth)?) {
            (Some(a), Some(b)) if a.variable && b.variable => {
                if a.width != b.width {
                    return wrong("variable-length fields of different sizes are compared");
                }
                let words = a.words();
                Ok(Some(Term::VariablesEqual(Box::new((a.at, b.at, words)))))
            }
            _ => Ok(None),
        }
    }

    /// The headers that an operand consists of, if it does.
    fn headers_of(&self, value: &Value, depth: usize) -> Lower<Option<Vec<Pick>>> {
        Ok(match inner(value) {
            Inner::Value(Value::Header(_)) => Some(vec![self.header_of(value, depth)?]),
            Inner::Value(Value::HeaderUnion(_)) => Some(self.union_of(value, depth)?),
            Inner::Value(Value::HeaderStack(stack) | Value::HeaderUnionStack(stack)) => {
                let found = self.program.stacks.get(self.stack(stack)? as usize);
                let all = found.into_iter().flat_map(|s| s.elements.iter().flatten());
                Some(all.copied().map(Pick::One).collect())
            }
            Inner::Op(op) => match op.op.as_str() {
                "dereference_header_stack" | "access_union_header" => Some(vec![self.header_of(value, depth)?]),
                "dereference_union_stack" => Some(self.union_of(value, depth)?),
                _ => None,
            },
            Inner::Value(_) => None,
        })
    }
}
