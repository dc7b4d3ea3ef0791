//! Expressions. BMv2 computes with unbounded integers, so every operation that can leave its width is cut back.

use crate::ast::{BinOp, UnOp};
use crate::ir::fold::power;
use crate::lir::{Expr, ExprKind, HeaderRef, Loc, Ty};
use bmv2_json::{Expression, FieldRef, HexStr, Operand, Operation, Value};
use num_bigint::BigInt;

pub(super) fn hex(v: impl Into<BigInt>) -> Value {
    Value::Hexstr(HexStr::from_bigint(&v.into()))
}

pub(super) fn field(h: &str, f: &str) -> Value {
    Value::Field(FieldRef(h.to_string(), f.to_string()))
}

fn op(name: &str, left: Option<Value>, right: Value) -> Value {
    let boxed = |v| Box::new(Operand::Value(v));
    Value::Expression(Box::new(Expression::Op(Operation {
        op: name.into(),
        cond: None,
        left: left.map(boxed),
        right: Some(boxed(right)),
    })))
}

/// An operand of a primitive: operators are wrapped once more.
pub(super) fn wrap(v: Value) -> Value {
    match v {
        // bmv2 takes a stack field as an operand only inside an expression.
        Value::Expression(_) | Value::StackField(_) => Value::Expression(Box::new(Expression::Value(v))),
        Value::Local(i) => Value::RuntimeData(i),
        v => v,
    }
}

/// A header as an operand.
pub(super) fn header(h: &HeaderRef) -> Value {
    match h {
        HeaderRef::Named(n) => Value::Header(n.to_string()),
        HeaderRef::At(s, i) => op(
            "dereference_header_stack",
            Some(Value::HeaderStack(s.to_string())),
            data(i),
        ),
        HeaderRef::Last(s) => {
            let last = op("last_stack_index", None, Value::HeaderStack(s.to_string()));
            op(
                "dereference_header_stack",
                Some(Value::HeaderStack(s.to_string())),
                last,
            )
        }
        HeaderRef::Next(s) => {
            let size = op("size_stack", None, Value::HeaderStack(s.to_string()));
            op(
                "dereference_header_stack",
                Some(Value::HeaderStack(s.to_string())),
                size,
            )
        }
    }
}

pub(super) fn load(loc: &Loc) -> Value {
    match loc {
        Loc::Field(h, f) => field(h, f),
        Loc::Of(HeaderRef::Last(s), f, _) => Value::StackField(FieldRef(s.to_string(), f.to_string())),
        Loc::Of(h, _, at) => Value::Expression(Box::new(Expression::Op(Operation {
            op: "access_field".into(),
            cond: None,
            left: Some(Box::new(Operand::Value(header(h)))),
            right: Some(Box::new(Operand::Offset(*at as u32))),
        }))),
    }
}

/// The value as data; booleans become 0 and 1.
pub(super) fn data(e: &Expr) -> Value {
    if e.ty == Ty::Bool {
        return match &e.kind {
            ExprKind::Bool(b) => hex(u8::from(*b)),
            ExprKind::Load(loc) => load(loc),
            ExprKind::Data(i) => Value::Local(*i as u32),
            ExprKind::Valid(HeaderRef::Named(h)) => field(h, "$valid$"),
            ExprKind::Const(v) => hex(v.clone()),
            ExprKind::Lookahead(o, w) => Value::Lookahead(*o, *w),
            _ => op("b2d", None, boolean(e)),
        };
    }
    match &e.kind {
        ExprKind::Const(v) => hex(v.clone()),
        ExprKind::Load(loc) => load(loc),
        ExprKind::Data(i) => Value::Local(*i as u32),
        ExprKind::LastIndex(s) => op("last_stack_index", None, Value::HeaderStack(s.to_string())),
        ExprKind::Lookahead(o, w) => Value::Lookahead(*o, *w),
        ExprKind::Unary(UnOp::Neg, a) => cut(op("-", Some(hex(0)), data(a)), e.ty),
        ExprKind::Unary(UnOp::Complement, a) => cut(op("~", None, data(a)), e.ty),
        ExprKind::Unary(_, a) => data(a),
        ExprKind::Binary(o, a, b) => binary(*o, a, b, e.ty),
        ExprKind::Mux(c, a, b) => mux(c, data(a), data(b)),
        ExprKind::Cast(a) => cast(a, e.ty),
        ExprKind::Slice(a, hi, lo) => {
            let shifted = if *lo == 0 {
                data(a)
            } else {
                op(">>", Some(data(a)), hex(*lo))
            };
            op("&", Some(shifted), hex(power(hi - lo + 1) - 1))
        }
        ExprKind::Bool(_) | ExprKind::Valid(_) => hex(0),
    }
}

fn mux(c: &Expr, a: Value, b: Value) -> Value {
    let boxed = |v| Some(Box::new(Operand::Value(v)));
    Value::Expression(Box::new(Expression::Op(Operation {
        op: "?".into(),
        cond: boxed(boolean(c)),
        left: boxed(a),
        right: boxed(b),
    })))
}

fn cut(v: Value, ty: Ty) -> Value {
    match ty {
        Ty::Int(w) => op("two_comp_mod", Some(v), hex(w)),
        _ => op("&", Some(v), hex(power(ty.width()) - 1)),
    }
}

fn binary(o: BinOp, a: &Expr, b: &Expr, ty: Ty) -> Value {
    let plain = |name: &str| op(name, Some(data(a)), data(b));
    match o {
        BinOp::Add | BinOp::Sub | BinOp::Mul | BinOp::Shl => cut(plain(o.symbol()), ty),
        BinOp::SatAdd | BinOp::SatSub => {
            let sum = plain(if o == BinOp::SatAdd { "+" } else { "-" });
            op(
                if matches!(ty, Ty::Int(_)) {
                    "sat_cast"
                } else {
                    "usat_cast"
                },
                Some(sum),
                hex(ty.width()),
            )
        }
        BinOp::Concat => {
            let bits = |e: &Expr| {
                if matches!(e.ty, Ty::Int(_)) {
                    op("&", Some(data(e)), hex(power(e.ty.width()) - 1))
                } else {
                    data(e)
                }
            };
            let high = op("<<", Some(bits(a)), hex(b.ty.width()));
            let joined = op("|", Some(high), bits(b));
            if matches!(ty, Ty::Int(_)) {
                cut(joined, ty)
            } else {
                joined
            }
        }
        _ => plain(o.symbol()),
    }
}

fn cast(a: &Expr, to: Ty) -> Value {
    match (a.ty, to) {
        (Ty::Bool, _) => data(a),
        (Ty::Bit(v), Ty::Bit(w)) if v <= w => data(a),
        (Ty::Int(v), Ty::Int(w)) if v <= w => data(a),
        (Ty::Bit(v), Ty::Int(w)) if v < w => data(a),
        _ => cut(data(a), to),
    }
}

/// The value as a condition.
pub(super) fn boolean(e: &Expr) -> Value {
    let d2b = |v| op("d2b", None, v);
    match &e.kind {
        ExprKind::Bool(b) => Value::Bool(*b),
        ExprKind::Load(loc) => d2b(load(loc)),
        ExprKind::Data(i) => d2b(Value::Local(*i as u32)),
        ExprKind::Valid(HeaderRef::Named(h)) => d2b(field(h, "$valid$")),
        ExprKind::Valid(h) => op("valid", None, header(h)),
        ExprKind::Unary(UnOp::Not, a) => op("not", None, boolean(a)),
        ExprKind::Binary(BinOp::LogAnd, a, b) => op("and", Some(boolean(a)), boolean(b)),
        ExprKind::Binary(BinOp::LogOr, a, b) => op("or", Some(boolean(a)), boolean(b)),
        ExprKind::Binary(o, a, b) => op(o.symbol(), Some(data(a)), data(b)),
        ExprKind::Mux(c, a, b) => mux(c, boolean(a), boolean(b)),
        ExprKind::Cast(a) if a.ty == Ty::Bool => boolean(a),
        ExprKind::Cast(a) => d2b(data(a)),
        ExprKind::Const(v) => Value::Bool(*v != BigInt::ZERO),
        ExprKind::Lookahead(o, w) => d2b(Value::Lookahead(*o, *w)),
        // A number is not a condition; the type checker has refused such programs.
        ExprKind::Slice(..) | ExprKind::LastIndex(_) | ExprKind::Unary(..) => Value::Bool(false),
    }
}

/// A condition in the form that bmv2's loader wants where operands are not wrapped.
pub(super) fn condition(e: &Expr) -> Value {
    boolean(e)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(e: &Expr) -> String {
        serde_json::to_string(&data(e)).unwrap()
    }

    fn load_h(ty: Ty) -> Expr {
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

    #[test]
    fn results_that_can_leave_their_width_are_cut() {
        let sum = bin(BinOp::Add, load_h(Ty::Bit(8)), load_h(Ty::Bit(8)), Ty::Bit(8));
        assert!(json(&sum).contains("0xff"), "{}", json(&sum));
        let signed = bin(BinOp::Mul, load_h(Ty::Int(8)), load_h(Ty::Int(8)), Ty::Int(8));
        assert!(json(&signed).contains("two_comp_mod"));
        let and = bin(BinOp::And, load_h(Ty::Bit(8)), load_h(Ty::Bit(8)), Ty::Bit(8));
        assert!(!json(&and).contains("0xff"), "a mask cannot leave it");
    }

    #[test]
    fn booleans_become_data_and_back() {
        let less = bin(BinOp::Lt, load_h(Ty::Bit(8)), load_h(Ty::Bit(8)), Ty::Bool);
        assert!(json(&less).contains("b2d"));
        let flag = serde_json::to_string(&boolean(&load_h(Ty::Bool))).unwrap();
        assert!(flag.contains("d2b"), "{flag}");
    }

    #[test]
    fn a_cast_cuts_only_where_bits_are_lost() {
        let cast = |from, to| {
            json(&Expr {
                kind: ExprKind::Cast(Box::new(load_h(from))),
                ty: to,
            })
        };
        assert_eq!(cast(Ty::Bit(8), Ty::Bit(16)), json(&load_h(Ty::Bit(8))));
        assert!(cast(Ty::Bit(16), Ty::Bit(8)).contains("0xff"));
        assert!(cast(Ty::Bit(8), Ty::Int(8)).contains("two_comp_mod"));
    }
}
