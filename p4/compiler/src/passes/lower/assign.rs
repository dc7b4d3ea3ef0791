//! Assignment of whole values.

use super::{Lower, Place, Val};
use crate::ast::BinOp;
use crate::ir::fold::power;
use crate::ir::ty::Type;
use crate::ir::walk::has_effects;
use crate::ir::{self, ExprKind as E};
use crate::lir::{Expr, ExprKind, HeaderRef, Loc, Op, Term, Ty};
use crate::source::Span;

impl Lower<'_> {
    pub(super) fn assign(&mut self, left: &ir::Expr, right: &ir::Expr, span: Span) {
        if let E::Slice(base, hi, lo) = &left.kind {
            return self.assign_slice(base, *hi, *lo, right, span);
        }
        if let E::Cast(inner) = &left.kind {
            // A slice of a newtype: the cast only drops the name.
            return self.assign(inner, right, span);
        }
        // The left side's indices are evaluated before the right side.
        let early = if has_effects(left) || has_effects(right) {
            self.place_of(left).map(|p| self.freeze(p, span))
        } else {
            None
        };
        let value = self.expr(right);
        let value = if matches!(value, Val::Aggregate(_)) {
            self.detach(value, span)
        } else {
            value
        };
        match early.or_else(|| self.place_of(left)) {
            Some(p) => self.store(&p, value, &left.ty, span),
            None => self.error(span, "this cannot be assigned to"),
        }
    }

    /// `left op= right` where evaluating the left side has effects: it is evaluated once.
    pub(super) fn update(&mut self, left: &ir::Expr, var: ir::VarId, value: &ir::Expr, span: Span) {
        let Some(place) = self.place_of(left) else {
            return self.error(span, "this cannot be assigned to");
        };
        let place = self.freeze(place, span);
        self.env.insert(var, place.clone());
        let v = self.expr(value);
        self.store(&place, v, &left.ty, span);
    }

    /// Saves computed stack indices, so that the place stays the same while other code runs.
    pub(super) fn freeze(&mut self, place: Place, span: Span) -> Place {
        let hold = |l: &mut Self, h: HeaderRef| match h {
            HeaderRef::At(s, i) if matches!(i.kind, ExprKind::Mux(..)) => {
                let size = l.out.storage.stacks.iter().find(|x| x.0 == s).map_or(1, |x| x.2.len());
                let ExprKind::Mux(_, index, _) = i.kind else {
                    return HeaderRef::Next(s);
                };
                let saved = l.save(*index, span);
                HeaderRef::At(s, Box::new(super::expr::within(saved, size)))
            }
            HeaderRef::At(s, i) => HeaderRef::At(s, Box::new(l.save(*i, span))),
            other => other,
        };
        match place {
            Place::Scalar(Loc::Of(h, f, at), ty) => Place::Scalar(Loc::Of(hold(self, h), f, at), ty),
            Place::Header(h, t) => Place::Header(hold(self, h), t),
            Place::Choice(index, items) => Place::Choice(Box::new(self.save(*index, span)), items),
            other => other,
        }
    }

    /// Elements of a list are read before any of them is written: `{a, b} = {b, a}` swaps.
    fn detach(&mut self, v: Val, span: Span) -> Val {
        match v {
            Val::Aggregate(items) if items.len() > 1 => {
                Val::Aggregate(items.into_iter().map(|i| self.detach_item(i, span)).collect())
            }
            other => other,
        }
    }

    pub(super) fn detach_item(&mut self, v: Val, span: Span) -> Val {
        match v {
            Val::Aggregate(items) => Val::Aggregate(items.into_iter().map(|i| self.detach_item(i, span)).collect()),
            Val::Scalar(e) => Val::Scalar(self.save(e, span)),
            Val::Place(Place::Scalar(loc, ty)) => Val::Scalar(self.save(
                Expr {
                    kind: ExprKind::Load(loc),
                    ty,
                },
                span,
            )),
            other => other,
        }
    }

    fn assign_slice(&mut self, base: &ir::Expr, hi: u32, lo: u32, right: &ir::Expr, span: Span) {
        let value = self.scalar(right);
        let (mut base, mut hi, mut lo) = (base, hi, lo);
        while let E::Slice(inner, _, inner_lo) = &base.kind {
            (base, hi, lo) = (inner, hi + inner_lo, lo + inner_lo);
        }
        self.write_slice(base, hi, lo, value, span);
    }

    fn write_slice(&mut self, base: &ir::Expr, hi: u32, lo: u32, value: Expr, span: Span) {
        let base = if let E::Cast(inner) = &base.kind { inner } else { base };
        let Val::Place(Place::Scalar(loc, ty)) = self.expr(base) else {
            self.error(span, "this slice cannot be assigned to");
            return;
        };
        let width = ty.width();
        let field = (power(hi - lo + 1) - 1) << lo;
        let keep = power(width) - 1 - &field;
        let bits = Ty::Bit(width);
        let wide = super::expr::cast(value, bits);
        let op = |op, a, b| Expr {
            kind: ExprKind::Binary(op, Box::new(a), Box::new(b)),
            ty: bits,
        };
        let old = super::expr::cast(
            Expr {
                kind: ExprKind::Load(loc.clone()),
                ty,
            },
            bits,
        );
        let kept = op(BinOp::And, old, Self::constant(keep, bits));
        let moved = op(BinOp::Shl, wide, Self::constant(lo, Ty::Bit(32)));
        let new = super::expr::cast(
            op(BinOp::Or, kept, op(BinOp::And, moved, Self::constant(field, bits))),
            ty,
        );
        self.emit(Op::Assign(loc, ty, new), span);
    }

    /// Writes a value of type `ty` into a place.
    pub(super) fn store(&mut self, place: &Place, value: Val, ty: &Type, span: Span) {
        let ty = self.program.underlying(ty);
        let value = match value {
            Val::Place(Place::Value(v)) => *v,
            v => v,
        };
        if let Place::Choice(index, items) = place {
            return self.choose(index, items, span, &mut |l, p| l.store(p, value.clone(), &ty, span));
        }
        if let Val::Place(Place::Choice(index, items)) = &value
            && !matches!(place, Place::Scalar(..))
        {
            return self.choose(index, items, span, &mut |l, p| {
                l.store(place, Val::Place(p.clone()), &ty, span);
            });
        }
        // Writing outside a stack has no effect.
        if let Place::Scalar(Loc::Of(HeaderRef::At(s, i), f, at), t) = place
            && let ExprKind::Mux(inside, index, _) = &i.kind
        {
            let (write, join) = (self.new_block("write"), self.new_block("join"));
            let Some(e) = self.to_scalar(value) else { return };
            self.end_block(Term::Branch((**inside).clone(), write, join), write, span);
            let loc = Loc::Of(HeaderRef::At(s.clone(), index.clone()), f.clone(), *at);
            self.emit(Op::Assign(loc, *t, e), span);
            self.end_block(Term::Goto(join), join, span);
            return;
        }
        match (place, value) {
            (Place::Scalar(loc, t), v) => {
                let Some(e) = self.to_scalar(v) else { return };
                if matches!(&e.kind, ExprKind::Load(l) if l == loc) {
                    return;
                }
                self.emit(Op::Assign(loc.clone(), *t, e), span);
            }
            (Place::Header(h, _), Val::Place(Place::Header(from, _))) if *h != from => {
                self.emit(Op::AssignHeader(h.clone(), from), span);
            }
            (Place::Header(h, _), Val::Invalid) => self.emit(Op::SetValid(h.clone(), false), span),
            (Place::Header(h, _), v) => {
                self.emit(Op::SetValid(h.clone(), true), span);
                self.store_parts(place, &v, &ty, span);
            }
            (Place::Stack(s), Val::Place(Place::Stack(from))) if *s != from => {
                self.emit(Op::AssignStack(s.clone(), from), span);
            }
            (Place::Stack(s), Val::Aggregate(items)) => {
                let Some((_, t, elements)) = self.out.storage.stacks.iter().find(|x| x.0 == *s).cloned() else {
                    return;
                };
                let Type::Array(item, _) = &ty else { return };
                for (h, v) in elements.into_iter().zip(items) {
                    self.store(&Place::Header(HeaderRef::Named(h), t), v, item, span);
                }
            }
            (Place::Union(u), Val::Place(Place::Union(from))) if *u != from => {
                self.emit(Op::AssignUnion(u.clone(), from), span);
            }
            (Place::Union(u), Val::Invalid) => {
                let members = self
                    .out
                    .storage
                    .unions
                    .iter()
                    .find(|x| x.0 == *u)
                    .map(|x| x.2.clone())
                    .unwrap_or_default();
                for m in members {
                    self.emit(Op::SetValid(HeaderRef::Named(m), false), span);
                }
            }
            (Place::List(items), v) => {
                let Type::Array(item, _) = &ty else { return };
                for (i, p) in items.iter().enumerate() {
                    let part = match &v {
                        Val::Place(Place::List(from)) => from.get(i).map(|p| Val::Place(p.clone())),
                        Val::Aggregate(from) => from.get(i).cloned(),
                        _ => None,
                    };
                    if let Some(part) = part {
                        self.store(p, part, item, span);
                    }
                }
            }
            (Place::Group(_), v) => self.store_parts(place, &v, &ty, span),
            _ => {}
        }
    }

    fn store_parts(&mut self, place: &Place, value: &Val, ty: &Type, span: Span) {
        let e = ir::Expr {
            kind: E::Poison,
            ty: Type::Poison,
            span,
        };
        for (i, (_, t)) in self.program.fields(ty).into_iter().enumerate() {
            let part = self.part(value, ty, i, &e);
            if let Some(p) = self.member(place, ty, i, span) {
                self.store(&p, part, &t, span);
            }
        }
    }

    /// Headers of a fresh variable are invalid (section "Default values").
    pub(super) fn reset(&mut self, place: &Place, span: Span) {
        match place {
            Place::Header(h, _) => self.emit(Op::SetValid(h.clone(), false), span),
            Place::Stack(s) => {
                let items = self
                    .out
                    .storage
                    .stacks
                    .iter()
                    .find(|x| x.0 == *s)
                    .map(|x| x.2.clone())
                    .unwrap_or_default();
                for h in items {
                    self.emit(Op::SetValid(HeaderRef::Named(h), false), span);
                }
            }
            Place::Union(_) => self.store(place, Val::Invalid, &Type::Poison, span),
            Place::Group(items) => items.iter().for_each(|p| self.reset(p, span)),
            Place::List(items) => {
                items.iter().for_each(|p| self.reset(p, span));
                self.reset_next_index(items, span);
            }
            _ => {}
        }
    }

    pub(super) fn load(loc: Loc, ty: Ty) -> Expr {
        Expr {
            kind: ExprKind::Load(loc),
            ty,
        }
    }
}
