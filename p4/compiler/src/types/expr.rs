//! Expressions.

use super::{Checker, Entity};
use crate::ast::{self, ExprKind as E};
use crate::ir::ty::Type;
use crate::ir::*;
use crate::source::Span;
use num_bigint::BigInt;
use num_traits::ToPrimitive;

impl Checker<'_> {
    /// Checks an expression; `expected` guides literals and inference, it is not enforced.
    pub(super) fn expr(&mut self, e: &ast::Expr, expected: Option<&Type>) -> Expr {
        let span = e.span;
        match &e.kind {
            E::Int(v, width) => self.int_literal(v, *width, span),
            E::Bool(b) => Expr {
                kind: ExprKind::Bool(*b),
                ty: Type::Bool,
                span,
            },
            E::Str(s) => Expr {
                kind: ExprKind::Str(s.clone()),
                ty: Type::Str,
                span,
            },
            E::Invalid => {
                let ty = expected.map(|t| self.zonk(t));
                let ty = ty.filter(|t| self.program.is_header(t) || self.program.is_union(t));
                Expr {
                    kind: ExprKind::Invalid,
                    ty: ty.unwrap_or(Type::InvalidHeader),
                    span,
                }
            }
            E::Name { global, name } => self.name(*global, name),
            E::Member(base, name) => self.member(base, name, span),
            E::Index(base, index) => self.index(base, index, span),
            E::Slice(base, hi, lo) => self.slice(base, hi, lo, span),
            E::PlusSlice(base, from, width) => self.plus_slice(base, from, width, span),
            E::List(items) => self.list(items, expected, span),
            E::Pairs(pairs, dots) => self.pairs(pairs, *dots, expected, span),
            E::Unary(op, a) => self.unary(*op, a, expected, span),
            E::Binary(op, a, b) => self.binary(*op, a, b, expected, span),
            E::Ternary(c, a, b) => self.ternary(c, a, b, expected, span),
            E::Cast(ty, a) => {
                let ty = self.ty(ty);
                // The arguments of a generic function decide what it returns; that is then cast.
                let by_arguments = matches!(&a.kind, E::Call { args, .. } if !args.is_empty());
                let a = self.expr(a, Some(&ty).filter(|_| !by_arguments));
                self.cast(a, &ty, span)
            }
            E::Call {
                callee,
                type_args,
                args,
            } => self.call(callee, type_args, args, expected, span),
            E::Mask(a, b) => {
                let a = self.expr(a, expected);
                let hint = a.ty.clone();
                let b = self.expr(b, expected.or(Some(&hint)));
                self.set_pair(a, b, expected, span, true)
            }
            E::Range(a, b) => {
                let a = self.expr(a, expected);
                let b = self.expr(b, expected);
                self.set_pair(a, b, expected, span, false)
            }
            E::Default | E::DontCare => Expr {
                kind: ExprKind::Any,
                ty: expected.cloned().unwrap_or(Type::Poison),
                span,
            },
            E::Dots => match expected {
                Some(ty) => self.default_value(&ty.clone(), span),
                None => self.error(span, "'...' is not allowed here", self.poison(span)),
            },
            E::This => self.error(span, "'this' is only allowed in an instance's body", self.poison(span)),
            E::Type(_) => self.error(span, "a value is expected here, not a type", self.poison(span)),
        }
    }

    fn set_pair(&mut self, a: Expr, b: Expr, expected: Option<&Type>, span: Span, mask: bool) -> Expr {
        let ty = match expected {
            Some(t) if !matches!(self.shallow(t), Type::Var(_)) => self.shallow(t),
            _ if a.ty == Type::Integer => b.ty.clone(),
            _ => a.ty.clone(),
        };
        let base = self.program.underlying(&ty);
        let want = if base.is_fixed() && !matches!(ty, Type::Newtype(_)) {
            base
        } else {
            ty.clone()
        };
        let a = self.coerce(a, &want, "a set expression");
        let b = self.coerce(b, &want, "a set expression");
        let (a, b) = (Box::new(a), Box::new(b));
        Expr {
            kind: if mask {
                ExprKind::Mask(a, b)
            } else {
                ExprKind::Range(a, b)
            },
            ty,
            span,
        }
    }

    fn int_literal(&mut self, v: &BigInt, width: Option<(u32, bool)>, span: Span) -> Expr {
        let Some((w, signed)) = width else {
            return Expr {
                kind: ExprKind::Int(v.clone()),
                ty: Type::Integer,
                span,
            };
        };
        if w > crate::ir::ty::MAX_WIDTH || (w == 0 && signed) {
            return self.error(span, format!("a width of {w} bits is not supported"), self.poison(span));
        }
        let ty = if signed { Type::Int(w) } else { Type::Bit(w) };
        let e = Expr {
            kind: ExprKind::Int(v.clone()),
            ty: Type::Integer,
            span,
        };
        self.cast_to(e, ty)
    }

    fn name(&mut self, global: bool, name: &ast::Ident) -> Expr {
        let span = name.span;
        match self.lookup(&name.name, global).cloned() {
            Some(Entity::Var(id)) => {
                let ty = self.program.vars.get(id.index()).map_or(Type::Poison, |v| v.ty.clone());
                Expr {
                    kind: ExprKind::Var(id),
                    ty,
                    span,
                }
            }
            Some(Entity::Const(e)) => Expr { span, ..e },
            Some(Entity::Instance(id)) => {
                let ty = self
                    .program
                    .instances
                    .get(id.index())
                    .map_or(Type::Poison, |v| v.ty.clone());
                Expr {
                    kind: ExprKind::Instance(id),
                    ty,
                    span,
                }
            }
            Some(Entity::ValueSet(id)) => {
                let ty = self
                    .program
                    .value_sets
                    .get(id.index())
                    .map_or(Type::Poison, |v| v.ty.clone());
                Expr {
                    kind: ExprKind::ValueSet(id),
                    ty: Type::Set(ty.into()),
                    span,
                }
            }
            Some(Entity::Table(_)) => self.error(span, "a table is used through apply()", self.poison(span)),
            Some(Entity::Action(_)) => self.error(span, "an action is not a value", self.poison(span)),
            Some(Entity::Poison) => self.poison(span),
            Some(_) => self.error(span, format!("{} is not a value", name.name), self.poison(span)),
            None => self.error(span, format!("{} is not declared", name.name), self.poison(span)),
        }
    }

    fn type_member(&mut self, ty: &Type, name: &ast::Ident, span: Span) -> Expr {
        match ty {
            Type::Error => match self.program.errors.iter().position(|e| *e == name.name) {
                Some(i) => Expr {
                    kind: ExprKind::Error(i as u32),
                    ty: Type::Error,
                    span,
                },
                None => self.error(
                    name.span,
                    format!("no error {} is declared", name.name),
                    self.poison(span),
                ),
            },
            Type::Enum(id) => {
                let Some(decl) = self.program.enums.get(id.index()) else {
                    return self.poison(span);
                };
                match decl.members.iter().position(|m| m.0 == name.name) {
                    Some(i) => match decl.members.get(i).and_then(|m| m.1.clone()) {
                        Some(v) => Expr {
                            kind: ExprKind::Int(v),
                            ty: ty.clone(),
                            span,
                        },
                        None => Expr {
                            kind: ExprKind::EnumMember(i as u32),
                            ty: ty.clone(),
                            span,
                        },
                    },
                    None => {
                        let message = format!("{} has no member {}", decl.name, name.name);
                        self.error(name.span, message, self.poison(span))
                    }
                }
            }
            Type::Poison => self.poison(span),
            other => {
                let s = self.show(other);
                self.error(span, format!("{s} has no member {}", name.name), self.poison(span))
            }
        }
    }

    fn member(&mut self, base: &ast::Expr, name: &ast::Ident, span: Span) -> Expr {
        if let E::Type(t) = &base.kind {
            let ty = self.ty(t);
            return self.type_member(&ty, name, span);
        }
        let base = self.expr(base, None);
        self.field(base, name, span)
    }

    pub(super) fn field(&mut self, base: Expr, name: &ast::Ident, span: Span) -> Expr {
        let ty = self.zonk(&base.ty);
        match &ty {
            Type::Struct(..) | Type::Tuple(_) | Type::Record(_) => {
                let fields = self.program.fields(&ty);
                if let Some(i) = fields.iter().position(|f| f.0 == name.name) {
                    let fty = fields.get(i).map_or(Type::Poison, |f| f.1.clone());
                    if let ExprKind::Aggregate(items) = &base.kind
                        && let Some(item) = items.get(i)
                        && !self.program.is_header(&ty)
                    {
                        return Expr { span, ..item.clone() };
                    }
                    return Expr {
                        kind: ExprKind::Field(Box::new(base), i),
                        ty: fty,
                        span,
                    };
                }
            }
            Type::Array(item, n) => {
                let prop = match &*name.name {
                    "next" => Some(StackProp::Next),
                    "last" => Some(StackProp::Last),
                    "lastIndex" => Some(StackProp::LastIndex),
                    "size" => {
                        return Expr {
                            kind: ExprKind::Int(BigInt::from(*n)),
                            ty: Type::Bit(32),
                            span,
                        };
                    }
                    _ => None,
                };
                if let Some(prop) = prop {
                    if !self.in_parser {
                        return self.error(
                            span,
                            format!("{} of a stack is only allowed in a parser", name.name),
                            self.poison(span),
                        );
                    }
                    let ty = if prop == StackProp::LastIndex {
                        Type::Bit(32)
                    } else {
                        (**item).clone()
                    };
                    return Expr {
                        kind: ExprKind::StackProp(Box::new(base), prop),
                        ty,
                        span,
                    };
                }
            }
            Type::ApplyResult(id) => {
                let value = match &*name.name {
                    "hit" => Some((ApplyValue::Hit, Type::Bool)),
                    "miss" => Some((ApplyValue::Miss, Type::Bool)),
                    "action_run" => Some((ApplyValue::ActionRun, Type::ActionRun(*id))),
                    _ => None,
                };
                if let Some((value, ty)) = value {
                    return Expr {
                        kind: ExprKind::Apply(*id, value),
                        ty,
                        span,
                    };
                }
            }
            Type::Poison => return self.poison(span),
            _ => {}
        }
        let s = self.show(&ty);
        self.error(name.span, format!("{s} has no field {}", name.name), self.poison(span))
    }

    fn index(&mut self, base: &ast::Expr, index: &ast::Expr, span: Span) -> Expr {
        let base = self.expr(base, None);
        let index = self.expr(index, None);
        if base.ty.is_poison() || index.ty.is_poison() {
            return self.poison(span);
        }
        let at = index.as_int().and_then(ToPrimitive::to_usize);
        match self.zonk(&base.ty) {
            Type::Array(item, n) => {
                if index.as_int().is_some() && at.is_none_or(|i| i >= n as usize) {
                    return self.error(
                        index.span,
                        format!("the stack has {n} elements, counted from 0"),
                        self.poison(span),
                    );
                }
                let under = self.program.underlying(&index.ty);
                if !under.is_fixed() && under != Type::Integer {
                    return self.error(index.span, "an index must be a number", self.poison(span));
                }
                let index = if index.ty == Type::Integer {
                    self.cast_to(index, Type::Bit(32))
                } else {
                    index
                };
                Expr {
                    kind: ExprKind::Index(Box::new(base), Box::new(index)),
                    ty: (*item).clone(),
                    span,
                }
            }
            Type::Tuple(items) => match at.and_then(|i| items.get(i).map(|t| (i, t.clone()))) {
                Some((i, _)) if base.is_const() => match base.kind {
                    ExprKind::Aggregate(parts) => parts
                        .into_iter()
                        .nth(i)
                        .map_or_else(|| self.poison(span), |p| Expr { span, ..p }),
                    _ => self.poison(span),
                },
                Some((i, ty)) => Expr {
                    kind: ExprKind::Field(Box::new(base), i),
                    ty,
                    span,
                },
                None => self.error(
                    index.span,
                    "a tuple's index must be a constant within its size",
                    self.poison(span),
                ),
            },
            other => {
                let s = self.show(&other);
                self.error(span, format!("{s} cannot be indexed"), self.poison(span))
            }
        }
    }

    fn slice(&mut self, base: &ast::Expr, hi: &ast::Expr, lo: &ast::Expr, span: Span) -> Expr {
        let base = self.expr(base, None);
        let (hi, lo) = (self.expr(hi, None), self.expr(lo, None));
        let bound = |e: &Expr| e.as_int().and_then(ToPrimitive::to_u32);
        match (bound(&hi), bound(&lo)) {
            (Some(hi), Some(lo)) => self.slice_of(base, hi, lo, span),
            _ if hi.ty.is_poison() || lo.ty.is_poison() => self.poison(span),
            _ => self.error(
                span,
                "the bounds of a slice must be constants that are not negative",
                self.poison(span),
            ),
        }
    }

    fn plus_slice(&mut self, base: &ast::Expr, from: &ast::Expr, width: &ast::Expr, span: Span) -> Expr {
        let base = self.expr(base, None);
        let (from, width) = (self.expr(from, None), self.expr(width, None));
        let Some(w) = width.as_int().and_then(ToPrimitive::to_u32).filter(|w| *w > 0) else {
            return self.error(
                width.span,
                "the width of a slice must be a positive constant",
                self.poison(span),
            );
        };
        if let Some(lo) = from.as_int().and_then(ToPrimitive::to_u32) {
            return self.slice_of(base, lo.saturating_add(w - 1), lo, span);
        }
        // A slice at a computed place: shift, then cut.
        let shifted = self.binary_on(ast::BinOp::Shr, base, from, span);
        self.slice_of(shifted, w - 1, 0, span)
    }

    fn slice_of(&mut self, base: Expr, hi: u32, lo: u32, span: Span) -> Expr {
        if base.ty.is_poison() {
            return self.poison(span);
        }
        let under = self.program.underlying(&base.ty);
        let width = match under {
            Type::Bit(w) | Type::Int(w) => w,
            Type::Integer if base.as_int().is_some() => u32::MAX,
            _ => {
                let s = self.show(&base.ty);
                return self.error(span, format!("{s} cannot be sliced"), self.poison(span));
            }
        };
        if lo > hi || hi >= width {
            return self.error(
                span,
                format!("[{hi}:{lo}] is not a slice of {width} bits"),
                self.poison(span),
            );
        }
        let ty = Type::Bit(hi - lo + 1);
        match base.as_int() {
            Some(v) => Expr {
                kind: ExprKind::Int(fold::slice(v, hi, lo)),
                ty,
                span,
            },
            None => {
                let base = if base.ty == under {
                    base
                } else {
                    self.cast_to(base, under)
                };
                Expr {
                    kind: ExprKind::Slice(Box::new(base), hi, lo),
                    ty,
                    span,
                }
            }
        }
    }

    fn ternary(&mut self, c: &ast::Expr, a: &ast::Expr, b: &ast::Expr, expected: Option<&Type>, span: Span) -> Expr {
        let c = self.expr(c, Some(&Type::Bool));
        let c = self.coerce(c, &Type::Bool, "the condition of '?:'");
        let mut a = self.expr(a, expected);
        let mut b = self.expr(b, expected);
        if a.ty == Type::Integer && b.ty == Type::Integer && c.as_bool().is_none() {
            match expected.map(|t| self.shallow(t)).filter(Type::is_fixed) {
                Some(t) => {
                    a = self.cast_to(a, t.clone());
                    b = self.cast_to(b, t);
                }
                None => return self.error(span, "give one of the two values a width", self.poison(span)),
            }
        }
        if a.ty == Type::Integer
            && let Ok(x) = self.try_coerce(a.clone(), &b.ty.clone())
        {
            a = x;
        } else if let Ok(x) = self.try_coerce(b.clone(), &a.ty.clone()) {
            b = x;
        } else {
            let ty = b.ty.clone();
            a = self.coerce(a, &ty, "both values of '?:' must have one type");
        }
        match c.as_bool() {
            Some(true) => a,
            Some(false) => b,
            None => {
                let ty = a.ty.clone();
                Expr {
                    kind: ExprKind::Ternary(Box::new(c), Box::new(a), Box::new(b)),
                    ty,
                    span,
                }
            }
        }
    }

    /// Whether something can be assigned to.
    pub(super) fn is_lvalue(&self, e: &Expr) -> bool {
        match &e.kind {
            ExprKind::Var(id) => !matches!(
                self.program.vars.get(id.index()).map(|v| v.kind),
                Some(VarKind::Ctor | VarKind::Param(ast::Direction::In | ast::Direction::None))
            ),
            ExprKind::Field(b, _) | ExprKind::Index(b, _) | ExprKind::Slice(b, _, _) => self.is_lvalue(b),
            ExprKind::StackProp(b, p) => *p != StackProp::LastIndex && self.is_lvalue(b),
            ExprKind::Cast(b) => matches!(e.ty, Type::Bit(_) | Type::Int(_)) && self.is_lvalue(b),
            ExprKind::Poison => true,
            _ => false,
        }
    }
}
