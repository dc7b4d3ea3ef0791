//! Helpers that build flat code for tests of passes. Scalars and flags are variables with a simple name: scalars have
//! eight bits, flags are booleans.

use crate::ast::BinOp;
use crate::lir::{Block, Expr, ExprKind, ExternArg, Graph, Loc, Op, Term, Ty};
use crate::source::Span;

pub(super) type Code = (Op, Span);

fn scalar(name: &str) -> Loc {
    Loc::Field("scalars".into(), name.into())
}

fn load(l: Loc, ty: Ty) -> Expr {
    Expr {
        kind: ExprKind::Load(l),
        ty,
    }
}

fn binary(op: BinOp, a: Expr, b: Expr, ty: Ty) -> Expr {
    Expr {
        kind: ExprKind::Binary(op, Box::new(a), Box::new(b)),
        ty,
    }
}

pub(super) fn bits(v: u32) -> Expr {
    Expr {
        kind: ExprKind::Const(v.into()),
        ty: Ty::Bit(8),
    }
}

pub(super) fn x(name: &str) -> Expr {
    load(scalar(name), Ty::Bit(8))
}

pub(super) fn flag(name: &str) -> Expr {
    load(scalar(name), Ty::Bool)
}

pub(super) fn field(h: &str, f: &str) -> Expr {
    load(Loc::Field(h.into(), f.into()), Ty::Bit(8))
}

pub(super) fn plus(a: Expr, b: Expr) -> Expr {
    binary(BinOp::Add, a, b, Ty::Bit(8))
}

pub(super) fn less(a: Expr, b: Expr) -> Expr {
    binary(BinOp::Lt, a, b, Ty::Bool)
}

pub(super) fn set(name: &str, e: Expr) -> Code {
    (Op::Assign(scalar(name), Ty::Bit(8), e), Span::default())
}

pub(super) fn set_flag(name: &str, b: bool) -> Code {
    let value = Expr {
        kind: ExprKind::Bool(b),
        ty: Ty::Bool,
    };
    (Op::Assign(scalar(name), Ty::Bool, value), Span::default())
}

pub(super) fn put(h: &str, f: &str, e: Expr) -> Code {
    (
        Op::Assign(Loc::Field(h.into(), f.into()), Ty::Bit(8), e),
        Span::default(),
    )
}

pub(super) fn out(name: &str, to: &str) -> Code {
    let op = Op::Extern {
        name: name.into(),
        object: None,
        args: vec![ExternArg::Out(scalar(to), Ty::Bit(8))],
        data_type: None,
    };
    (op, Span::default())
}

pub(super) fn block(ops: Vec<Code>, term: Term) -> Block {
    Block {
        name: String::new(),
        ops,
        term,
        span: Span::default(),
    }
}

/// A block's operations as the dump prints them, scalars by their name alone.
pub(super) fn text(g: &Graph, block: usize) -> Vec<String> {
    let ops = g.blocks.get(block).map(|b| b.ops.as_slice()).unwrap_or_default();
    ops.iter()
        .map(|(o, _)| crate::dump::flat::op(o).replace("scalars.", ""))
        .collect()
}
