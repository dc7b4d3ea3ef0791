//! Constant folding (section "Compile-time known values", sections "Operations on ..." for what each operator means).
//!
//! Expressions only: an operator on constants becomes its result, an operator that changes nothing disappears. What
//! is dropped has no effects, because expressions of the flat program have none, except that looking ahead in the
//! parser can fail; such operands stay.

use super::effects::walk;
use crate::ast::{BinOp, UnOp};
use crate::ir::fold::{self, Value};
use crate::ir::ty::Type;
use crate::lir::{Expr, ExprKind, HeaderRef, Loc, Ty};
use num_bigint::BigInt;
use num_traits::Zero;

fn type_of(ty: Ty) -> Type {
    match ty {
        Ty::Bool => Type::Bool,
        Ty::Bit(w) => Type::Bit(w),
        Ty::Int(w) => Type::Int(w),
        Ty::Varbit(w) => Type::Varbit(w),
    }
}

fn int(value: BigInt, ty: Ty) -> Expr {
    Expr {
        kind: ExprKind::Const(fold::wrap(&value, &type_of(ty))),
        ty,
    }
}

fn truth(value: bool) -> Expr {
    Expr {
        kind: ExprKind::Bool(value),
        ty: Ty::Bool,
    }
}

/// The value, if it is a constant number.
pub(super) fn as_int(e: &Expr) -> Option<&BigInt> {
    match &e.kind {
        ExprKind::Const(v) if e.ty != Ty::Bool => Some(v),
        _ => None,
    }
}

/// The value, if it is a constant condition.
pub(super) fn as_bool(e: &Expr) -> Option<bool> {
    match &e.kind {
        ExprKind::Bool(b) => Some(*b),
        ExprKind::Const(v) if e.ty == Ty::Bool => Some(!v.is_zero()),
        _ => None,
    }
}

/// Whether evaluating the expression has no effect besides its value.
pub(super) fn is_pure(e: &Expr) -> bool {
    let mut pure = true;
    walk(e, &mut |x| {
        pure &= !matches!(
            &x.kind,
            ExprKind::Lookahead(..)
                | ExprKind::LastIndex(_)
                | ExprKind::Load(Loc::Of(..))
                | ExprKind::Valid(HeaderRef::At(..) | HeaderRef::Next(_) | HeaderRef::Last(_))
        );
    });
    pure
}

/// Folds the expression and everything in it.
pub(super) fn expr(e: &mut Expr) {
    match &mut e.kind {
        ExprKind::Load(Loc::Of(HeaderRef::At(_, i), ..)) | ExprKind::Valid(HeaderRef::At(_, i)) => expr(i),
        ExprKind::Unary(_, a) | ExprKind::Cast(a) | ExprKind::Slice(a, ..) => expr(a),
        ExprKind::Binary(_, a, b) => {
            expr(a);
            expr(b);
        }
        ExprKind::Mux(c, a, b) => {
            expr(c);
            expr(a);
            expr(b);
        }
        _ => {}
    }
    if let Some(simpler) = simpler(e) {
        *e = simpler;
    }
}

fn simpler(e: &Expr) -> Option<Expr> {
    match &e.kind {
        ExprKind::Unary(op, a) => unary(*op, a, e.ty),
        ExprKind::Binary(op, a, b) => binary(*op, a, b, e.ty),
        ExprKind::Mux(c, a, b) => match as_bool(c) {
            Some(true) => Some((**a).clone()),
            Some(false) => Some((**b).clone()),
            None if a == b && is_pure(c) => Some((**a).clone()),
            None => None,
        },
        ExprKind::Cast(a) => cast(a, e.ty),
        ExprKind::Slice(a, hi, lo) => match as_int(a) {
            Some(v) => Some(int(fold::slice(v, *hi, *lo), e.ty)),
            None if *lo == 0 && *hi + 1 == a.ty.width() && a.ty == e.ty => Some((**a).clone()),
            None => None,
        },
        _ => None,
    }
}

fn unary(op: UnOp, a: &Expr, ty: Ty) -> Option<Expr> {
    if op == UnOp::Not {
        if let ExprKind::Unary(UnOp::Not, inner) = &a.kind {
            return Some((**inner).clone());
        }
        return as_bool(a).map(|b| truth(!b));
    }
    if op == UnOp::Plus {
        return Some(a.clone());
    }
    as_int(a).map(|v| int(fold::unary(op, v, &type_of(ty)), ty))
}

fn binary(op: BinOp, a: &Expr, b: &Expr, ty: Ty) -> Option<Expr> {
    match op {
        BinOp::LogAnd | BinOp::LogOr => {
            // The value of the whole expression, if one side alone decides it.
            let decides = op == BinOp::LogOr;
            return match (as_bool(a), as_bool(b)) {
                (Some(x), _) if x == decides => Some(truth(decides)),
                (Some(_), _) => Some(b.clone()),
                (_, Some(y)) if y == decides && is_pure(a) => Some(truth(decides)),
                (_, Some(y)) if y != decides => Some(a.clone()),
                _ => None,
            };
        }
        BinOp::Eq | BinOp::Ne if a.ty == Ty::Bool => {
            let (x, y) = (as_bool(a), as_bool(b));
            let equal = op == BinOp::Eq;
            let not = |e: &Expr| Expr {
                kind: ExprKind::Unary(UnOp::Not, Box::new(e.clone())),
                ty: Ty::Bool,
            };
            return match (x, y) {
                (Some(x), Some(y)) => Some(truth((x == y) == equal)),
                (Some(x), None) => Some(if x == equal { b.clone() } else { not(b) }),
                (None, Some(y)) => Some(if y == equal { a.clone() } else { not(a) }),
                (None, None) => None,
            };
        }
        BinOp::Concat => {
            let (x, y) = (as_int(a)?, as_int(b)?);
            return Some(int(fold::concat(x, y, b.ty.width()), ty));
        }
        _ => {}
    }
    match (as_int(a), as_int(b)) {
        (Some(x), Some(y)) => match fold::binary(op, x, y, &type_of(a.ty)).ok()? {
            Value::Int(v) => Some(int(v, ty)),
            Value::Bool(v) => Some(truth(v)),
        },
        (None, Some(y)) if a.ty == ty && changes_nothing(op, y, ty) => Some(a.clone()),
        (Some(x), None) if b.ty == ty && is_commutative(op) && changes_nothing(op, x, ty) => Some(b.clone()),
        (None, Some(y)) if gives_zero(op, y) && is_pure(a) => Some(int(BigInt::zero(), ty)),
        (Some(x), None) if is_commutative(op) && gives_zero(op, x) && is_pure(b) => Some(int(BigInt::zero(), ty)),
        _ => None,
    }
}

fn is_commutative(op: BinOp) -> bool {
    matches!(op, BinOp::Add | BinOp::Mul | BinOp::And | BinOp::Or | BinOp::Xor)
}

/// Whether `x op y` is `x`.
fn changes_nothing(op: BinOp, y: &BigInt, ty: Ty) -> bool {
    match op {
        BinOp::Add | BinOp::Sub | BinOp::Or | BinOp::Xor | BinOp::Shl | BinOp::Shr => y.is_zero(),
        BinOp::Mul => *y == BigInt::from(1),
        BinOp::And => *y == fold::wrap(&(fold::power(ty.width()) - 1), &type_of(ty)),
        _ => false,
    }
}

/// Whether `x op y` is 0.
fn gives_zero(op: BinOp, y: &BigInt) -> bool {
    matches!(op, BinOp::And | BinOp::Mul) && y.is_zero()
}

fn cast(a: &Expr, ty: Ty) -> Option<Expr> {
    if a.ty == ty {
        return Some(a.clone());
    }
    match (as_bool(a), ty) {
        (Some(b), Ty::Bit(_)) => return Some(int(BigInt::from(u8::from(b)), ty)),
        (Some(_), _) => return None,
        _ => {}
    }
    let v = as_int(a)?;
    match (a.ty, ty) {
        (Ty::Bit(_) | Ty::Int(_), Ty::Bit(_) | Ty::Int(_)) => Some(int(v.clone(), ty)),
        (Ty::Bit(1), Ty::Bool) => Some(truth(!v.is_zero())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bits(v: i64, w: u32) -> Expr {
        int(BigInt::from(v), Ty::Bit(w))
    }

    fn signed(v: i64, w: u32) -> Expr {
        int(BigInt::from(v), Ty::Int(w))
    }

    fn load(ty: Ty) -> Expr {
        Expr {
            kind: ExprKind::Load(Loc::Field("h".into(), "f".into())),
            ty,
        }
    }

    fn bin(op: BinOp, a: Expr, b: Expr, ty: Ty) -> Expr {
        Expr {
            kind: ExprKind::Binary(op, Box::new(a), Box::new(b)),
            ty,
        }
    }

    fn folded(mut e: Expr) -> Expr {
        expr(&mut e);
        e
    }

    #[test]
    fn results_keep_to_their_width() {
        let w = Ty::Bit(8);
        assert_eq!(folded(bin(BinOp::Add, bits(250, 8), bits(10, 8), w)), bits(4, 8));
        assert_eq!(folded(bin(BinOp::SatAdd, bits(250, 8), bits(10, 8), w)), bits(255, 8));
        assert_eq!(folded(bin(BinOp::Sub, bits(1, 8), bits(2, 8), w)), bits(255, 8));
        let i = Ty::Int(8);
        assert_eq!(
            folded(bin(BinOp::Add, signed(127, 8), signed(1, 8), i)),
            signed(-128, 8)
        );
        assert_eq!(folded(bin(BinOp::Shr, signed(-128, 8), bits(2, 8), i)), signed(-32, 8));
        let c = bin(BinOp::Concat, signed(-1, 4), signed(-2, 4), Ty::Int(8));
        assert_eq!(folded(c), signed(-2, 8), "patterns are put together: 0xf, 0xe");
    }

    #[test]
    fn nested_operators_fold_from_within() {
        let sum = bin(BinOp::Add, bits(1, 8), bits(2, 8), Ty::Bit(8));
        let e = bin(BinOp::Eq, sum, bits(3, 8), Ty::Bool);
        assert_eq!(as_bool(&folded(e)), Some(true));
    }

    #[test]
    fn operators_that_change_nothing_disappear() {
        let x = load(Ty::Bit(8));
        for (op, c) in [
            (BinOp::Add, 0),
            (BinOp::Or, 0),
            (BinOp::Mul, 1),
            (BinOp::And, 255),
            (BinOp::Shl, 0),
        ] {
            assert_eq!(folded(bin(op, x.clone(), bits(c, 8), Ty::Bit(8))), x, "{op:?}");
        }
        assert_eq!(folded(bin(BinOp::And, x.clone(), bits(0, 8), Ty::Bit(8))), bits(0, 8));
        let other = bin(BinOp::Sub, bits(0, 8), x, Ty::Bit(8));
        assert_eq!(folded(other.clone()), other, "0 - x is not x");
    }

    #[test]
    fn conditions_are_decided_by_one_side() {
        let x = load(Ty::Bool);
        assert_eq!(
            folded(bin(BinOp::LogAnd, truth(false), x.clone(), Ty::Bool)),
            truth(false)
        );
        assert_eq!(folded(bin(BinOp::LogOr, x.clone(), truth(true), Ty::Bool)), truth(true));
        assert_eq!(folded(bin(BinOp::LogAnd, truth(true), x.clone(), Ty::Bool)), x);
        assert_eq!(folded(bin(BinOp::Eq, x.clone(), truth(true), Ty::Bool)), x);
    }

    #[test]
    fn what_can_fail_stays() {
        let ahead = Expr {
            kind: ExprKind::Lookahead(0, 8),
            ty: Ty::Bit(8),
        };
        let e = bin(BinOp::And, ahead, bits(0, 8), Ty::Bit(8));
        assert_eq!(folded(e.clone()), e);
        let div = bin(BinOp::Div, bits(1, 8), bits(0, 8), Ty::Bit(8));
        assert_eq!(folded(div.clone()), div);
    }

    #[test]
    fn casts_of_constants() {
        let to = |e: Expr, ty| {
            folded(Expr {
                kind: ExprKind::Cast(Box::new(e)),
                ty,
            })
        };
        assert_eq!(to(bits(255, 8), Ty::Int(8)), signed(-1, 8));
        assert_eq!(to(signed(-1, 8), Ty::Bit(16)), bits(0xffff, 16));
        assert_eq!(to(bits(0x1ff, 9), Ty::Bit(8)), bits(0xff, 8));
        assert_eq!(to(truth(true), Ty::Bit(1)), bits(1, 1));
        assert_eq!(to(bits(1, 1), Ty::Bool), truth(true));
    }
}
