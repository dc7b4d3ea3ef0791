//! Expressions: parts with effects are evaluated first, in order; the rest stays a tree (section "Expression evaluation
//! order").

use super::{Lower, Mode, Place, Val};
use crate::ast::BinOp;
use crate::ir::ty::Type;
use crate::ir::walk::has_effects;
use crate::ir::{self, ApplyValue, Callee, ExprKind as E, StackProp};
use crate::lir::{self, Expr, ExprKind, HeaderRef, Op, Term, Ty};
use num_bigint::BigInt;
use num_traits::ToPrimitive;

/// Deepest expression tree that is written as one.
const MAX_TREE: usize = 12;
/// Deepest tree of an index.
const MAX_INDEX_TREE: usize = 3;

/// Whether a tree has more levels than that.
fn deeper(e: &Expr, levels: usize) -> bool {
    let Some(left) = levels.checked_sub(1) else { return true };
    match &e.kind {
        ExprKind::Unary(_, a) | ExprKind::Cast(a) | ExprKind::Slice(a, ..) => deeper(a, left),
        ExprKind::Binary(_, a, b) => deeper(a, left) || deeper(b, left),
        ExprKind::Mux(c, a, b) => deeper(c, left) || deeper(a, left) || deeper(b, left),
        ExprKind::Valid(HeaderRef::At(_, i)) => deeper(i, left),
        ExprKind::Load(lir::Loc::Of(HeaderRef::At(_, i), ..)) => deeper(i, left),
        _ => false,
    }
}

impl Lower<'_> {
    pub(super) fn scalar(&mut self, e: &ir::Expr) -> Expr {
        let ty = self.scalar_ty(&e.ty).unwrap_or(Ty::Bit(32));
        let v = self.expr(e);
        match self.to_scalar(v) {
            Some(x) => x,
            None => {
                if !matches!(e.kind, E::Poison) {
                    self.error(e.span, "this value cannot be computed by the target");
                }
                Self::constant(0, ty)
            }
        }
    }

    pub(super) fn to_scalar(&self, v: Val) -> Option<Expr> {
        match v {
            Val::Scalar(e) => Some(e),
            Val::Place(Place::Scalar(loc, ty)) => Some(Expr {
                kind: ExprKind::Load(loc),
                ty,
            }),
            Val::Place(Place::Value(v)) => self.to_scalar(*v),
            Val::Place(Place::Choice(index, items)) => self.chosen(&index, &items),
            _ => None,
        }
    }

    /// Evaluates in order; earlier values are saved if a later operand has effects.
    pub(super) fn in_order(&mut self, items: &[&ir::Expr]) -> Vec<Expr> {
        let mut out = Vec::new();
        for (i, item) in items.iter().enumerate() {
            let v = self.scalar(item);
            let later = items.iter().skip(i + 1).any(|e| has_effects(e));
            out.push(if later { self.save(v, item.span) } else { v });
        }
        out
    }

    pub(super) fn save(&mut self, v: Expr, span: crate::source::Span) -> Expr {
        if matches!(v.kind, ExprKind::Const(_) | ExprKind::Bool(_)) {
            return v;
        }
        let ty = v.ty;
        match self.temp(ty, "tmp") {
            Place::Scalar(loc, _) => {
                self.emit(Op::Assign(loc.clone(), ty, v), span);
                Expr {
                    kind: ExprKind::Load(loc),
                    ty,
                }
            }
            _ => v,
        }
    }

    /// A deep expression is split by means of a variable, because readers of the document limit the nesting.
    fn shallow(&mut self, e: Expr, span: crate::source::Span) -> Expr {
        if deeper(&e, MAX_TREE) { self.save(e, span) } else { e }
    }

    /// An index is used several times, so a large one is stored in a variable.
    fn index_value(&mut self, index: &ir::Expr) -> Expr {
        let i = self.scalar(index);
        if deeper(&i, MAX_INDEX_TREE) {
            self.save(i, index.span)
        } else {
            i
        }
    }

    pub(super) fn expr(&mut self, e: &ir::Expr) -> Val {
        if self.step(e.span) {
            self.expr_inner(e)
        } else {
            Val::Unit
        }
    }

    fn expr_inner(&mut self, e: &ir::Expr) -> Val {
        let ty = self.scalar_ty(&e.ty).unwrap_or(Ty::Bit(32));
        let done = |kind| Val::Scalar(Expr { kind, ty });
        match &e.kind {
            E::Int(v) => done(ExprKind::Const(v.clone())),
            E::Bool(b) => Val::Scalar(Expr {
                kind: ExprKind::Bool(*b),
                ty: Ty::Bool,
            }),
            E::Str(s) => Val::Str(s.clone()),
            E::Error(i) | E::EnumMember(i) => done(ExprKind::Const(BigInt::from(*i))),
            E::Var(id) => match self.env.get(id) {
                Some(Place::Value(v)) => (**v).clone(),
                Some(p) => Val::Place(p.clone()),
                None => {
                    let name = self
                        .program
                        .vars
                        .get(id.index())
                        .map_or_else(|| "?".to_string(), |v| v.name.to_string());
                    self.error(e.span, format!("{name} is not available here"));
                    Val::Unit
                }
            },
            E::Instance(id) => Val::Place(self.instance_place(*id)),
            E::Field(b, i) => self.field(b, *i, e),
            E::Index(b, i) => self.index(b, i, e),
            E::Slice(b, hi, lo) => {
                let b = self.scalar(b);
                done(ExprKind::Slice(Box::new(b), *hi, *lo))
            }
            E::StackProp(b, p) => self.stack_prop(b, *p, e),
            E::Unary(op, a) => {
                let a = self.scalar(a);
                done(ExprKind::Unary(*op, Box::new(a)))
            }
            E::Binary(op, a, b) => self.binary(*op, a, b, e),
            E::Ternary(c, a, b) => self.ternary(c, a, b, e),
            E::Cast(a) => {
                let from = self.program.underlying(&a.ty);
                if from == Type::Integer {
                    let v = self.scalar(a);
                    return Val::Scalar(cast(v, ty));
                }
                if self.scalar_ty(&from).is_none() {
                    return self.expr(a);
                }
                let a = self.scalar(a);
                Val::Scalar(cast(a, ty))
            }
            E::Aggregate(items) => {
                let mut out = Vec::new();
                for (i, item) in items.iter().enumerate() {
                    let v = self.expr(item);
                    let later = items.iter().skip(i + 1).any(has_effects);
                    out.push(if later { self.detach_item(v, item.span) } else { v });
                }
                Val::Aggregate(out)
            }
            E::Invalid => Val::Invalid,
            E::Call(call) => self.call(call, e),
            E::Apply(table, what) => self.apply_value(*table, *what, e),
            E::Mask(..) | E::Range(..) | E::Any | E::ValueSet(_) | E::MatchKind(_) => Val::Unit,
            E::Poison => Val::Unit,
        }
    }

    fn apply_value(&mut self, table: ir::TableId, what: ApplyValue, e: &ir::Expr) -> Val {
        let (yes, no, join) = (self.new_block("hit"), self.new_block("miss"), self.new_block("applied"));
        let flag = self.temp(Ty::Bool, "hit");
        self.apply_table(table, lir::ApplyNext::HitMiss(yes, no), yes, e.span);
        let Place::Scalar(loc, _) = flag else { return Val::Unit };
        for (at, is_hit) in [(yes, true), (no, false)] {
            self.current = at;
            let value = Expr {
                kind: ExprKind::Bool(is_hit == (what != ApplyValue::Miss)),
                ty: Ty::Bool,
            };
            self.emit(Op::Assign(loc.clone(), Ty::Bool, value), e.span);
            self.end_block(Term::Goto(join), join, e.span);
        }
        Val::Scalar(Expr {
            kind: ExprKind::Load(loc),
            ty: Ty::Bool,
        })
    }

    fn instance_place(&mut self, id: ir::InstanceId) -> Place {
        let ty = self.program.instances.get(id.index()).map(|i| i.ty.clone());
        match ty {
            Some(Type::Extern(..)) => Place::Object(self.object(id, self.path.clone())),
            _ => Place::Instance(id, self.path.clone()),
        }
    }

    fn field(&mut self, base: &ir::Expr, index: usize, e: &ir::Expr) -> Val {
        match self.expr(base) {
            Val::Place(p) => match self.member(&p, &base.ty, index, e.span) {
                Some(Place::Value(v)) => *v,
                Some(p) => Val::Place(p),
                None => {
                    self.error(e.span, "this field cannot be reached on this target");
                    Val::Unit
                }
            },
            Val::Aggregate(items) => items.into_iter().nth(index).unwrap_or(Val::Unit),
            _ => Val::Unit,
        }
    }

    fn index(&mut self, base: &ir::Expr, index: &ir::Expr, e: &ir::Expr) -> Val {
        let b = self.expr(base);
        let i = self.index_value(index);
        match (b, &i.kind) {
            (Val::Place(Place::Stack(name)), _) => {
                let Some((_, t, elements)) = self.out.storage.stacks.iter().find(|s| s.0 == name) else {
                    return Val::Unit;
                };
                let t = *t;
                let h = match &i.kind {
                    ExprKind::Const(v) => match v.to_usize().and_then(|v| elements.get(v)) {
                        Some(h) => HeaderRef::Named(h.clone()),
                        None => return Val::Unit,
                    },
                    _ => HeaderRef::At(name, Box::new(within(i, elements.len()))),
                };
                Val::Place(Place::Header(h, t))
            }
            (Val::Place(Place::List(items)), ExprKind::Const(v)) => match v.to_usize().and_then(|v| items.get(v)) {
                Some(p) => Val::Place(p.clone()),
                None => Val::Unit,
            },
            (Val::Place(Place::List(items)), _) if !items.is_empty() => Val::Place(Place::Choice(Box::new(i), items)),
            (Val::Aggregate(items), ExprKind::Const(v)) => {
                v.to_usize().and_then(|v| items.into_iter().nth(v)).unwrap_or(Val::Unit)
            }
            _ => {
                self.error(
                    e.span,
                    "only header stacks can be indexed by a value computed at run time",
                );
                Val::Unit
            }
        }
    }

    fn stack_prop(&mut self, base: &ir::Expr, prop: StackProp, e: &ir::Expr) -> Val {
        let name = match self.expr(base) {
            Val::Place(Place::Stack(name)) => name,
            Val::Place(Place::List(items)) if !items.is_empty() => {
                if let Some(v) = self.union_stack_prop(&items, prop, e.span) {
                    return v;
                }
                self.error(e.span, "next, last and lastIndex work on header stacks only");
                return Val::Unit;
            }
            _ => {
                self.error(e.span, "next, last and lastIndex work on header stacks only");
                return Val::Unit;
            }
        };
        let t = self.out.storage.stacks.iter().find(|s| s.0 == name).map_or(0, |s| s.1);
        match prop {
            StackProp::Next => Val::Place(Place::Header(HeaderRef::Next(name), t)),
            StackProp::Last => Val::Place(Place::Header(HeaderRef::Last(name), t)),
            StackProp::LastIndex => Val::Scalar(Expr {
                kind: ExprKind::LastIndex(name),
                ty: Ty::Bit(32),
            }),
        }
    }

    fn ternary(&mut self, c: &ir::Expr, a: &ir::Expr, b: &ir::Expr, e: &ir::Expr) -> Val {
        let scalar = self.scalar_ty(&e.ty);
        if let Some(ty) = scalar
            && !has_effects(a)
            && !has_effects(b)
        {
            let (c, a, b) = (self.scalar(c), self.scalar(a), self.scalar(b));
            let (c, a, b) = (
                self.shallow(c, e.span),
                self.shallow(a, e.span),
                self.shallow(b, e.span),
            );
            return Val::Scalar(Expr {
                kind: ExprKind::Mux(Box::new(c), Box::new(a), Box::new(b)),
                ty,
            });
        }
        let result = self.allocate("tmp", &e.ty, e.span);
        let (yes, no, join) = (self.new_block("then"), self.new_block("else"), self.new_block("join"));
        let c = self.scalar(c);
        self.end_block(Term::Branch(c, yes, no), yes, e.span);
        let v = self.expr(a);
        self.store(&result, v, &e.ty, e.span);
        self.end_block(Term::Goto(join), no, e.span);
        let v = self.expr(b);
        self.store(&result, v, &e.ty, e.span);
        self.end_block(Term::Goto(join), join, e.span);
        Val::Place(result)
    }

    fn binary(&mut self, op: BinOp, a: &ir::Expr, b: &ir::Expr, e: &ir::Expr) -> Val {
        let ty = self.scalar_ty(&e.ty).unwrap_or(Ty::Bool);
        if matches!(op, BinOp::LogAnd | BinOp::LogOr) && has_effects(b) {
            return self.short_circuit(op, a, b, e);
        }
        if matches!(op, BinOp::Eq | BinOp::Ne) && self.scalar_ty(&a.ty).is_none() {
            let (x, y) = (self.expr(a), self.expr(b));
            let same = self.equal(&x, &y, &a.ty, e);
            return Val::Scalar(if op == BinOp::Eq { same } else { not(same) });
        }
        let mut items = self.in_order(&[a, b]).into_iter();
        let (Some(a), Some(b)) = (items.next(), items.next()) else {
            return Val::Unit;
        };
        let (a, b) = (self.shallow(a, e.span), self.shallow(b, e.span));
        if let (ExprKind::Const(x), ExprKind::Const(y)) = (&a.kind, &b.kind)
            && let Some(v) = fold(op, x, y, a.ty, ty)
        {
            return Val::Scalar(v);
        }
        Val::Scalar(Expr {
            kind: ExprKind::Binary(op, Box::new(a), Box::new(b)),
            ty,
        })
    }

    fn short_circuit(&mut self, op: BinOp, a: &ir::Expr, b: &ir::Expr, e: &ir::Expr) -> Val {
        let Place::Scalar(loc, _) = self.temp(Ty::Bool, "tmp") else {
            return Val::Unit;
        };
        let a = self.scalar(a);
        self.emit(Op::Assign(loc.clone(), Ty::Bool, a), e.span);
        let value = Expr {
            kind: ExprKind::Load(loc.clone()),
            ty: Ty::Bool,
        };
        let (more, join) = (self.new_block("more"), self.new_block("join"));
        let term = if op == BinOp::LogAnd {
            Term::Branch(value.clone(), more, join)
        } else {
            Term::Branch(value.clone(), join, more)
        };
        self.end_block(term, more, e.span);
        let b = self.scalar(b);
        self.emit(Op::Assign(loc, Ty::Bool, b), e.span);
        self.end_block(Term::Goto(join), join, e.span);
        Val::Scalar(value)
    }

    /// Equality of structs, headers and stacks (section "Operations on headers" and following).
    fn equal(&mut self, a: &Val, b: &Val, ty: &Type, e: &ir::Expr) -> Expr {
        if self.scalar_ty(ty).is_some() {
            return match (self.to_scalar(a.clone()), self.to_scalar(b.clone())) {
                (Some(x), Some(y)) => Expr {
                    kind: ExprKind::Binary(BinOp::Eq, Box::new(x), Box::new(y)),
                    ty: Ty::Bool,
                },
                _ => truth(false),
            };
        }
        if let Type::Array(item, n) = self.program.underlying(ty) {
            let mut all = truth(true);
            for i in 0..n as usize {
                let (x, y) = (self.element(a, i), self.element(b, i));
                let same = self.equal(&x, &y, &item, e);
                all = and(all, same);
            }
            return all;
        }
        let mut fields = truth(true);
        for (i, (_, t)) in self
            .program
            .fields(&self.program.underlying(ty))
            .into_iter()
            .enumerate()
        {
            let (x, y) = (self.part(a, ty, i, e), self.part(b, ty, i, e));
            let same = self.equal(&x, &y, &t, e);
            fields = and(fields, same);
        }
        if !self.program.is_header(ty) {
            return fields;
        }
        let (va, vb) = (self.validity(a), self.validity(b));
        let neither = and(not(va.clone()), not(vb.clone()));
        or(neither, and(and(va, vb), fields))
    }

    pub(super) fn element(&self, v: &Val, i: usize) -> Val {
        match v {
            Val::Place(Place::Stack(name)) => match self.out.storage.stacks.iter().find(|s| s.0 == *name) {
                Some((_, t, items)) => items.get(i).map_or(Val::Unit, |h| {
                    Val::Place(Place::Header(HeaderRef::Named(h.clone()), *t))
                }),
                None => Val::Unit,
            },
            Val::Place(Place::List(items)) => items.get(i).map_or(Val::Unit, |p| Val::Place(p.clone())),
            Val::Aggregate(items) => items.get(i).cloned().unwrap_or(Val::Unit),
            _ => Val::Unit,
        }
    }

    pub(super) fn part(&mut self, v: &Val, ty: &Type, i: usize, e: &ir::Expr) -> Val {
        match v {
            Val::Place(p) => match self.member(p, ty, i, e.span) {
                Some(p) => Val::Place(p),
                None => Val::Unit,
            },
            Val::Aggregate(items) => items.get(i).cloned().unwrap_or(Val::Unit),
            other => other.clone(),
        }
    }

    pub(super) fn validity(&self, v: &Val) -> Expr {
        match v {
            Val::Place(Place::Header(h, _)) => Expr {
                kind: ExprKind::Valid(h.clone()),
                ty: Ty::Bool,
            },
            Val::Place(Place::Union(u)) => {
                let members = self
                    .out
                    .storage
                    .unions
                    .iter()
                    .find(|x| x.0 == *u)
                    .map(|x| x.2.clone())
                    .unwrap_or_default();
                members.into_iter().fold(truth(false), |acc, m| {
                    or(
                        acc,
                        Expr {
                            kind: ExprKind::Valid(HeaderRef::Named(m)),
                            ty: Ty::Bool,
                        },
                    )
                })
            }
            Val::Place(Place::Choice(index, items)) => {
                self.chosen_validity(index, items).unwrap_or_else(|| truth(false))
            }
            Val::Invalid => truth(false),
            _ => truth(true),
        }
    }

    pub(super) fn can_apply_tables(&self) -> bool {
        self.mode == Mode::Control
    }

    /// Whether a call is `isValid`, which is pure.
    pub(super) fn pure_call(&mut self, call: &ir::Call) -> Option<Val> {
        match &call.callee {
            Callee::IsValid(h) => {
                let v = self.expr(h);
                Some(Val::Scalar(self.validity(&v)))
            }
            _ => None,
        }
    }
}

pub(super) fn truth(b: bool) -> Expr {
    Expr {
        kind: ExprKind::Bool(b),
        ty: Ty::Bool,
    }
}

pub(super) fn not(e: Expr) -> Expr {
    match e.kind {
        ExprKind::Bool(b) => truth(!b),
        _ => Expr {
            kind: ExprKind::Unary(crate::ast::UnOp::Not, Box::new(e)),
            ty: Ty::Bool,
        },
    }
}

pub(super) fn and(a: Expr, b: Expr) -> Expr {
    match (&a.kind, &b.kind) {
        (ExprKind::Bool(true), _) => b,
        (_, ExprKind::Bool(true)) => a,
        _ => Expr {
            kind: ExprKind::Binary(BinOp::LogAnd, Box::new(a), Box::new(b)),
            ty: Ty::Bool,
        },
    }
}

pub(super) fn or(a: Expr, b: Expr) -> Expr {
    match (&a.kind, &b.kind) {
        (ExprKind::Bool(false), _) => b,
        (_, ExprKind::Bool(false)) => a,
        _ => Expr {
            kind: ExprKind::Binary(BinOp::LogOr, Box::new(a), Box::new(b)),
            ty: Ty::Bool,
        },
    }
}

pub(super) fn cast(e: Expr, to: Ty) -> Expr {
    if e.ty == to {
        return e;
    }
    match (&e.kind, to) {
        (ExprKind::Const(v), Ty::Bool) => truth(*v != BigInt::ZERO),
        (ExprKind::Const(v), Ty::Bit(w)) => Expr {
            kind: ExprKind::Const(ir::fold::wrap(v, &Type::Bit(w))),
            ty: to,
        },
        (ExprKind::Const(v), Ty::Int(w)) => Expr {
            kind: ExprKind::Const(ir::fold::wrap(v, &Type::Int(w))),
            ty: to,
        },
        _ => Expr {
            kind: ExprKind::Cast(Box::new(e)),
            ty: to,
        },
    }
}

fn fold(op: BinOp, a: &BigInt, b: &BigInt, operand: Ty, ty: Ty) -> Option<Expr> {
    let t = match operand {
        Ty::Bit(w) => Type::Bit(w),
        Ty::Int(w) => Type::Int(w),
        _ => return None,
    };
    match ir::fold::binary(op, a, b, &t).ok()? {
        ir::fold::Value::Int(v) => Some(Expr {
            kind: ExprKind::Const(v),
            ty,
        }),
        ir::fold::Value::Bool(b) => Some(truth(b)),
    }
}

/// A computed index kept inside its stack: reading outside gives some element's value, which the specification
/// allows (section "Operations on header stacks"), where the target would stop.
pub(super) fn within(index: Expr, size: usize) -> Expr {
    let ty = index.ty;
    if ty.width() < usize::BITS && (1usize << ty.width()) <= size {
        return index;
    }
    let number = |n: usize| Expr {
        kind: ExprKind::Const(BigInt::from(n)),
        ty,
    };
    let inside = Expr {
        kind: ExprKind::Binary(BinOp::Lt, Box::new(index.clone()), Box::new(number(size))),
        ty: Ty::Bool,
    };
    Expr {
        kind: ExprKind::Mux(
            Box::new(inside),
            Box::new(index),
            Box::new(number(size.saturating_sub(1))),
        ),
        ty,
    }
}
