//! Stacks of header unions, and places that an index computed at run time selects.
//!
//! BMv2 addresses elements of plain header stacks at run time; for everything else the choice is written out:
//! reading is a tree of `?:`, writing a chain of branches. A stack of unions has its `nextIndex` (section
//! "Operations on header stacks") in a variable.

use super::{Lower, Place, Val};
use crate::ast::BinOp;
use crate::ir::ty::Type;
use crate::ir::{self, StackProp};
use crate::lir::{Expr, ExprKind, HeaderRef, Loc, Op, Term, Ty};
use crate::source::Span;

/// Type of `nextIndex` and `lastIndex`.
const INDEX: Ty = Ty::Bit(32);

impl Lower<'_> {
    /// Makes the stack's `nextIndex`.
    pub(super) fn union_stack(&mut self, name: &str, items: &[Place]) {
        if let Some(Place::Union(first)) = items.first()
            && let Place::Scalar(loc, _) = self.temp(INDEX, &format!("{name}.nextIndex"))
        {
            self.next_index.insert(first.clone(), loc);
        }
    }

    fn next_index_of(&self, items: &[Place]) -> Option<Loc> {
        match items.first() {
            Some(Place::Union(first)) => self.next_index.get(first).cloned(),
            _ => None,
        }
    }

    /// Forgets what was extracted into the stack.
    pub(super) fn reset_next_index(&mut self, items: &[Place], span: Span) {
        if let Some(loc) = self.next_index_of(items) {
            self.emit(Op::Assign(loc, INDEX, Self::constant(0, INDEX)), span);
        }
    }

    /// `next`, `last` and `lastIndex` of a stack of unions.
    pub(super) fn union_stack_prop(&mut self, items: &[Place], prop: StackProp, span: Span) -> Option<Val> {
        let next = Self::load(self.next_index_of(items)?, INDEX);
        let last = binary(BinOp::Sub, next.clone(), Self::constant(1, INDEX), INDEX);
        let (index, inside) = match prop {
            StackProp::LastIndex => return Some(Val::Scalar(last)),
            StackProp::Next => (
                next.clone(),
                binary(BinOp::Lt, next, Self::constant(items.len(), INDEX), Ty::Bool),
            ),
            StackProp::Last => (last, binary(BinOp::Ne, next, Self::constant(0, INDEX), Ty::Bool)),
        };
        let code = self.program.errors.iter().position(|e| &**e == "StackOutOfBounds");
        self.emit(Op::Verify(inside, Self::constant(code.unwrap_or(3), Ty::Bit(32))), span);
        Some(Val::Place(Place::Choice(Box::new(index), items.to_vec())))
    }

    /// Moves `next` on by one element after an extraction into `stack.next.member`.
    pub(super) fn advance_next_index(&mut self, target: &ir::Expr, span: Span) {
        let mut at = target;
        loop {
            match &at.kind {
                ir::ExprKind::Field(base, _) => at = base,
                ir::ExprKind::StackProp(base, StackProp::Next) => {
                    if let Some(Place::List(items)) = self.place_of(base)
                        && let Some(loc) = self.next_index_of(&items)
                    {
                        let next = Self::load(loc.clone(), INDEX);
                        let more = binary(BinOp::Add, next, Self::constant(1, INDEX), INDEX);
                        self.emit(Op::Assign(loc, INDEX, more), span);
                    }
                    return;
                }
                _ => return,
            }
        }
    }

    /// `push_front` and `pop_front` of a stack that is not a header stack.
    pub(super) fn shift_list(&mut self, items: &[Place], ty: &Type, count: usize, push: bool, span: Span) {
        let size = items.len();
        let count = count.min(size);
        let order: Vec<usize> = if push {
            (0..size).rev().collect()
        } else {
            (0..size).collect()
        };
        for i in order {
            let from = if push {
                i.checked_sub(count)
            } else {
                i.checked_add(count)
            };
            let value = from
                .and_then(|f| items.get(f))
                .map_or(Val::Invalid, |p| Val::Place(p.clone()));
            if let Some(p) = items.get(i) {
                self.store(p, value, ty, span);
            }
        }
        let Some(loc) = self.next_index_of(items) else { return };
        let (next, n) = (Self::load(loc.clone(), INDEX), Self::constant(count, INDEX));
        let (moved, bound, outside) = if push {
            let full = Self::constant(size, INDEX);
            let room = Self::constant(size - count, INDEX);
            (
                binary(BinOp::Add, next.clone(), n, INDEX),
                full,
                binary(BinOp::Gt, next, room, Ty::Bool),
            )
        } else {
            let empty = Self::constant(0, INDEX);
            (
                binary(BinOp::Sub, next.clone(), n.clone(), INDEX),
                empty,
                binary(BinOp::Lt, next, n, Ty::Bool),
            )
        };
        let value = mux(outside, bound, moved, INDEX);
        self.emit(Op::Assign(loc, INDEX, value), span);
    }

    /// Runs code for the element that the index selects; an index outside the stack has no effect.
    pub(super) fn choose(&mut self, index: &Expr, items: &[Place], span: Span, f: &mut dyn FnMut(&mut Self, &Place)) {
        let join = self.new_block("join");
        for (i, item) in items.iter().enumerate() {
            if !self.step(span) {
                break;
            }
            let (this, other) = (self.new_block("element"), self.new_block("else"));
            let same = binary(BinOp::Eq, index.clone(), Self::constant(i, index.ty), Ty::Bool);
            self.end_block(Term::Branch(same, this, other), this, span);
            f(self, item);
            self.end_block(Term::Goto(join), other, span);
        }
        self.end_block(Term::Goto(join), join, span);
    }

    /// The value of the selected element; for an index outside the stack, that of the nearest element.
    pub(super) fn chosen(&self, index: &Expr, items: &[Place]) -> Option<Expr> {
        self.chosen_by(index, items, 0, &|l, p| l.to_scalar(Val::Place(p.clone())))
    }

    /// Whether the selected header or union is valid.
    pub(super) fn chosen_validity(&self, index: &Expr, items: &[Place]) -> Option<Expr> {
        self.chosen_by(index, items, 0, &|l, p| Some(l.validity(&Val::Place(p.clone()))))
    }

    fn chosen_by(
        &self,
        index: &Expr,
        items: &[Place],
        first: usize,
        read: &dyn Fn(&Self, &Place) -> Option<Expr>,
    ) -> Option<Expr> {
        match items {
            [] => None,
            [one] => read(self, one),
            _ => {
                let (low, high) = items.split_at(items.len() / 2);
                let middle = first + low.len();
                let below = binary(BinOp::Lt, index.clone(), Self::constant(middle, index.ty), Ty::Bool);
                let low = self.chosen_by(index, low, first, read)?;
                let high = self.chosen_by(index, high, middle, read)?;
                let ty = low.ty;
                Some(mux(below, low, high, ty))
            }
        }
    }

    /// Sets the validity of the header at a place.
    pub(super) fn set_valid(&mut self, place: &Place, valid: bool, span: Span) {
        match place {
            Place::Header(h, _) => self.emit(Op::SetValid(h.clone(), valid), span),
            Place::Choice(index, items) => {
                self.choose(index, items, span, &mut |l, p| l.set_valid(p, valid, span));
            }
            _ => self.error(span, "only a header can be made valid or invalid"),
        }
    }

    /// Extracts into the header at a place.
    pub(super) fn extract(&mut self, place: &Place, size: Option<&Expr>, span: Span) {
        match place {
            Place::Header(h @ (HeaderRef::Named(_) | HeaderRef::Next(_)), _) => {
                self.emit(Op::Extract(h.clone(), size.cloned()), span);
            }
            Place::Header(HeaderRef::At(stack, index), t) => {
                let Some((_, _, elements)) = self.out.storage.stacks.iter().find(|s| s.0 == *stack) else {
                    return;
                };
                let items: Vec<Place> = elements
                    .iter()
                    .map(|h| Place::Header(HeaderRef::Named(h.clone()), *t))
                    .collect();
                let index = match &index.kind {
                    ExprKind::Mux(_, index, _) => (**index).clone(),
                    _ => (**index).clone(),
                };
                self.choose(&index, &items, span, &mut |l, p| l.extract(p, size, span));
            }
            Place::Choice(index, items) => {
                self.choose(index, items, span, &mut |l, p| l.extract(p, size, span));
            }
            _ => self.error(span, "only headers can be extracted"),
        }
    }
}

fn binary(op: BinOp, a: Expr, b: Expr, ty: Ty) -> Expr {
    Expr {
        kind: ExprKind::Binary(op, Box::new(a), Box::new(b)),
        ty,
    }
}

fn mux(c: Expr, a: Expr, b: Expr, ty: Ty) -> Expr {
    Expr {
        kind: ExprKind::Mux(Box::new(c), Box::new(a), Box::new(b)),
        ty,
    }
}
