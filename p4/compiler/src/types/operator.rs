//! Operators and casts, with folding of constants.

use super::Checker;
use crate::ast::{self, BinOp, UnOp};
use crate::diagnostics::Lint;
use crate::ir::fold::{self, Value};
use crate::ir::ty::Type;
use crate::ir::*;
use crate::source::Span;
use num_bigint::BigInt;
use num_traits::{Signed, ToPrimitive};

/// Longest constant string, in octets.
const MAX_STRING: usize = 1 << 16;

impl Checker<'_> {
    pub(super) fn unary(&mut self, op: UnOp, e: &ast::Expr, expected: Option<&Type>, span: Span) -> Expr {
        let e = self.expr(e, if op == UnOp::Not { None } else { expected });
        if e.ty.is_poison() {
            return self.poison(span);
        }
        let e = self.decay(e);
        let ok = match op {
            UnOp::Not => e.ty == Type::Bool,
            UnOp::Complement => e.ty.is_fixed(),
            UnOp::Neg | UnOp::Plus => e.ty.is_fixed() || e.ty == Type::Integer,
        };
        if !ok {
            let ty = self.show(&e.ty);
            return self.error(span, format!("this operator does not work on {ty}"), self.poison(span));
        }
        let ty = e.ty.clone();
        let kind = match (&e.kind, op) {
            (ExprKind::Bool(b), UnOp::Not) => ExprKind::Bool(!b),
            (ExprKind::Int(v), _) => ExprKind::Int(fold::unary(op, v, &ty)),
            (_, UnOp::Plus) => e.kind,
            _ => ExprKind::Unary(op, Box::new(e)),
        };
        Expr { kind, ty, span }
    }

    /// Serialisable enums act as their underlying type in arithmetic.
    fn decay(&mut self, mut e: Expr) -> Expr {
        e.ty = self.shallow(&e.ty);
        if let Type::Enum(_) = e.ty {
            let ty = self.program.underlying(&e.ty);
            if ty.is_fixed() {
                return self.cast_to(e, ty);
            }
        }
        e
    }

    pub(super) fn binary(
        &mut self,
        op: BinOp,
        a: &ast::Expr,
        b: &ast::Expr,
        expected: Option<&Type>,
        span: Span,
    ) -> Expr {
        let _ = expected;
        let left = self.expr(a, None);
        let hint = left.ty.clone();
        let compare = matches!(op, BinOp::Eq | BinOp::Ne);
        let right = self.expr(b, if compare { Some(&hint) } else { None });
        self.binary_on(op, left, right, span)
    }

    pub(super) fn binary_on(&mut self, op: BinOp, left: Expr, right: Expr, span: Span) -> Expr {
        if left.ty.is_poison() || right.ty.is_poison() {
            return self.poison(span);
        }
        if matches!(op, BinOp::Eq | BinOp::Ne) {
            return self.equality(op, left, right, span);
        }
        let (mut left, mut right) = (self.decay(left), self.decay(right));
        match op {
            BinOp::LogAnd | BinOp::LogOr => {
                left = self.coerce(left, &Type::Bool, "a condition");
                right = self.coerce(right, &Type::Bool, "a condition");
                return self.logic(op, left, right, span);
            }
            BinOp::Shl | BinOp::Shr => return self.shift(op, left, right, span),
            BinOp::Concat => return self.concat(left, right, span),
            _ => {}
        }
        if matches!(op, BinOp::Div | BinOp::Mod)
            && [&left, &right]
                .iter()
                .any(|e| e.as_int().is_some_and(Signed::is_negative))
        {
            let message = format!("'{}' is not defined on negative numbers", op.symbol());
            return self.error(span, message, self.poison(span));
        }
        if left.ty == Type::Integer && right.ty.is_fixed() {
            let ty = right.ty.clone();
            left = self.cast_to(left, ty);
        } else if right.ty == Type::Integer && left.ty.is_fixed() {
            let ty = left.ty.clone();
            right = self.cast_to(right, ty);
        }
        let ty = left.ty.clone();
        let saturating = matches!(op, BinOp::SatAdd | BinOp::SatSub);
        let numeric = ty.is_fixed() || (ty == Type::Integer && !saturating);
        let division = matches!(op, BinOp::Div | BinOp::Mod);
        if left.ty != right.ty || !numeric || (division && matches!(ty, Type::Int(_))) {
            let (l, r) = (self.show(&left.ty), self.show(&right.ty));
            return self.error(
                span,
                format!("'{}' does not work on {l} and {r}", op.symbol()),
                self.poison(span),
            );
        }
        let result = if matches!(op, BinOp::Lt | BinOp::Le | BinOp::Gt | BinOp::Ge) {
            Type::Bool
        } else {
            ty.clone()
        };
        self.fold_binary(op, left, right, &ty, result, span)
    }

    fn fold_binary(&mut self, op: BinOp, left: Expr, right: Expr, ty: &Type, result: Type, span: Span) -> Expr {
        if matches!(op, BinOp::Div | BinOp::Mod) && right.as_int().is_some_and(|v| *v == BigInt::ZERO) {
            return self.error(span, "division by zero", self.poison(span));
        }
        if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
            return match fold::binary(op, a, b, ty) {
                Ok(Value::Int(v)) => Expr {
                    kind: ExprKind::Int(v),
                    ty: result,
                    span,
                },
                Ok(Value::Bool(v)) => Expr {
                    kind: ExprKind::Bool(v),
                    ty: result,
                    span,
                },
                Err(why) => self.error(span, why, self.poison(span)),
            };
        }
        Expr {
            kind: ExprKind::Binary(op, Box::new(left), Box::new(right)),
            ty: result,
            span,
        }
    }

    fn logic(&mut self, op: BinOp, left: Expr, right: Expr, span: Span) -> Expr {
        let stop = op == BinOp::LogOr;
        match (left.as_bool(), right.as_bool()) {
            (Some(a), _) if a == stop => Expr {
                kind: ExprKind::Bool(stop),
                ty: Type::Bool,
                span,
            },
            (Some(_), _) => right,
            (None, Some(b)) if b != stop => left,
            _ => Expr {
                kind: ExprKind::Binary(op, Box::new(left), Box::new(right)),
                ty: Type::Bool,
                span,
            },
        }
    }

    fn shift(&mut self, op: BinOp, left: Expr, right: Expr, span: Span) -> Expr {
        let ty = left.ty.clone();
        let ok = (ty.is_fixed() || ty == Type::Integer) && matches!(right.ty, Type::Bit(_) | Type::Integer);
        let signed_const = matches!(right.ty, Type::Int(_)) && right.as_int().is_some_and(|v| !v.is_negative());
        if !(ok || signed_const && ty.is_fixed()) {
            let (l, r) = (self.show(&left.ty), self.show(&right.ty));
            return self.error(
                span,
                format!("'{}' does not work on {l} and {r}", op.symbol()),
                self.poison(span),
            );
        }
        if right.as_int().is_some_and(Signed::is_negative) {
            return self.error(span, "the shift amount is negative", self.poison(span));
        }
        if ty == Type::Integer && left.as_int().is_some() && right.as_int().is_none() {
            return self.error(span, "give the left operand a width", self.poison(span));
        }
        if let (Type::Bit(w) | Type::Int(w), Some(n)) = (&ty, right.as_int())
            && n.to_u64().is_none_or(|n| n >= u64::from(*w))
            && left.as_int().is_none()
        {
            self.sink.warn(
                Lint::Overflow,
                span,
                format!("a shift by {n} leaves nothing of a value of {w} bits"),
            );
        }
        self.fold_binary(op, left, right, &ty, ty.clone(), span)
    }

    fn concat(&mut self, left: Expr, right: Expr, span: Span) -> Expr {
        if left.ty == Type::Str
            && right.ty == Type::Str
            && let (ExprKind::Str(a), ExprKind::Str(b)) = (&left.kind, &right.kind)
        {
            if a.len() + b.len() > MAX_STRING {
                return self.error(span, "this string is too long", self.poison(span));
            }
            return Expr {
                kind: ExprKind::Str(format!("{a}{b}").into()),
                ty: Type::Str,
                span,
            };
        }
        let (Type::Bit(a) | Type::Int(a), Type::Bit(b) | Type::Int(b)) = (&left.ty, &right.ty) else {
            let (l, r) = (self.show(&left.ty), self.show(&right.ty));
            return self.error(
                span,
                format!("'++' does not work on {l} and {r}: both need a width"),
                self.poison(span),
            );
        };
        let (width, b) = (a.saturating_add(*b), *b);
        if width > crate::ir::ty::MAX_WIDTH {
            return self.error(span, "the result is too wide", self.poison(span));
        }
        let ty = if matches!(left.ty, Type::Bit(_)) {
            Type::Bit(width)
        } else {
            Type::Int(width)
        };
        if let (Some(x), Some(y)) = (left.as_int(), right.as_int()) {
            let v = fold::wrap(&fold::concat(x, y, b), &ty);
            return Expr {
                kind: ExprKind::Int(v),
                ty,
                span,
            };
        }
        Expr {
            kind: ExprKind::Binary(BinOp::Concat, Box::new(left), Box::new(right)),
            ty,
            span,
        }
    }

    fn equality(&mut self, op: BinOp, mut left: Expr, mut right: Expr, span: Span) -> Expr {
        if left.ty == Type::Integer
            && let Ok(l) = self.try_coerce(left.clone(), &right.ty.clone())
        {
            left = l;
        } else if let Ok(r) = self.try_coerce(right.clone(), &left.ty.clone()) {
            right = r;
        } else if let Ok(l) = self.try_coerce(left.clone(), &right.ty.clone()) {
            left = l;
        } else {
            // Values of two serialisable enums are compared as the numbers they are.
            let (l, r) = (self.decay(left.clone()), self.decay(right.clone()));
            if l.ty != r.ty || (l.ty == left.ty && r.ty == right.ty) {
                let (l, r) = (self.show(&left.ty), self.show(&right.ty));
                return self.error(span, format!("cannot compare {l} and {r}"), self.poison(span));
            }
            (left, right) = (l, r);
        }
        if !self.comparable(&left.ty.clone()) {
            let l = self.show(&left.ty);
            return self.error(span, format!("values of {l} cannot be compared"), self.poison(span));
        }
        if left.is_const()
            && right.is_const()
            && let Some(same) = same_const(&left, &right)
        {
            return Expr {
                kind: ExprKind::Bool(same == (op == BinOp::Eq)),
                ty: Type::Bool,
                span,
            };
        }
        Expr {
            kind: ExprKind::Binary(op, Box::new(left), Box::new(right)),
            ty: Type::Bool,
            span,
        }
    }

    fn comparable(&self, ty: &Type) -> bool {
        match self.shallow(ty) {
            Type::Struct(..) | Type::Tuple(_) | Type::Record(_) => self
                .program
                .fields(&self.shallow(ty))
                .iter()
                .all(|f| self.comparable(&f.1)),
            Type::Array(t, _) | Type::List(t) => self.comparable(&t),
            Type::Table(_) | Type::Action | Type::Extern(..) | Type::Block(..) | Type::Control(_) | Type::Parser(_) => {
                false
            }
            Type::Package(..) | Type::ApplyResult(_) | Type::ActionRun(_) | Type::Void | Type::Param(_) => false,
            _ => true,
        }
    }

    /// An explicit cast `(ty) e` (section "Casts").
    pub(super) fn cast(&mut self, e: Expr, ty: &Type, span: Span) -> Expr {
        let to = self.shallow(ty);
        let from = self.shallow(&e.ty);
        if from.is_poison() || to.is_poison() {
            return self.poison(span);
        }
        let under = |c: &Self, t: &Type| c.program.underlying(t);
        let (uf, ut) = (under(self, &from), under(self, &to));
        let ok = match (&uf, &ut) {
            // A new type can be made only from its own original type.
            _ if matches!(to, Type::Newtype(_)) && from != to && uf != ut && from != Type::Integer => false,
            _ if from == to => true,
            (Type::Bit(1), Type::Bool) | (Type::Bool, Type::Bit(1)) => true,
            (Type::Bit(a), Type::Int(b)) | (Type::Int(a), Type::Bit(b)) => a == b || from != uf || to != ut,
            (Type::Bit(_), Type::Bit(_)) | (Type::Int(_), Type::Int(_)) => true,
            (Type::Integer, Type::Bit(_) | Type::Int(_) | Type::Integer) => true,
            (Type::Integer, Type::Bool) => e
                .as_int()
                .is_some_and(|v| *v == BigInt::from(0) || *v == BigInt::from(1)),
            (Type::Bit(_) | Type::Int(_), Type::Integer) => e.as_int().is_some(),
            _ if uf == ut && (from != uf || to != ut) => true,
            _ => false,
        };
        if ok {
            return Expr {
                span,
                ..self.cast_to(e, to)
            };
        }
        let message = format!("cannot cast {} to {}", self.show(&from), self.show(&to));
        match self.try_coerce(e, &to) {
            Ok(e) => Expr { span, ty: to, ..e },
            Err(_) => self.error(span, message, self.poison(span)),
        }
    }

    /// A cast known to be legal; constants are converted here and now.
    pub(super) fn cast_to(&mut self, e: Expr, to: Type) -> Expr {
        let under = self.program.underlying(&to);
        let span = e.span;
        if e.ty == to {
            return e;
        }
        match (&e.kind, &under) {
            (ExprKind::Int(v), Type::Bit(_) | Type::Int(_)) => {
                let wrapped = fold::wrap(v, &under);
                let literal = e.ty == Type::Integer;
                let negative_bits = v.is_negative() && fold::fits(&-v, &under);
                if literal && wrapped != *v && !negative_bits {
                    self.sink.warn(
                        Lint::Overflow,
                        span,
                        format!("{v} does not fit {} and becomes {wrapped}", self.program.show(&to)),
                    );
                }
                Expr {
                    kind: ExprKind::Int(wrapped),
                    ty: to,
                    span,
                }
            }
            (ExprKind::Int(v), Type::Integer) => Expr {
                kind: ExprKind::Int(v.clone()),
                ty: to,
                span,
            },
            (ExprKind::Int(v), Type::Bool) => Expr {
                kind: ExprKind::Bool(*v != BigInt::ZERO),
                ty: to,
                span,
            },
            (ExprKind::Bool(b), Type::Bit(_)) => Expr {
                kind: ExprKind::Int(BigInt::from(u8::from(*b))),
                ty: to,
                span,
            },
            (ExprKind::Bool(_) | ExprKind::Error(_) | ExprKind::Str(_), _) => Expr { ty: to, ..e },
            _ => Expr {
                kind: ExprKind::Cast(Box::new(e)),
                ty: to,
                span,
            },
        }
    }
}

/// Whether two constants are equal; `None` if that cannot be decided here.
pub(super) fn same_const(a: &Expr, b: &Expr) -> Option<bool> {
    Some(match (&a.kind, &b.kind) {
        (ExprKind::Int(x), ExprKind::Int(y)) => x == y,
        (ExprKind::Bool(x), ExprKind::Bool(y)) => x == y,
        (ExprKind::Str(x), ExprKind::Str(y)) => x == y,
        (ExprKind::Error(x), ExprKind::Error(y)) | (ExprKind::EnumMember(x), ExprKind::EnumMember(y)) => x == y,
        (ExprKind::Aggregate(x), ExprKind::Aggregate(y)) if x.len() == y.len() => {
            let mut all = true;
            for (p, q) in x.iter().zip(y) {
                all &= same_const(p, q)?;
            }
            all
        }
        _ => return None,
    })
}
