//! Statements to blocks and edges.

use super::{CopyOut, Loop, Lower, Place, Target, Val};
use crate::ast::BinOp;
use crate::ir::{self, StmtKind as S};
use crate::lir::{ApplyNext, Expr, ExprKind, Term, Ty};
use crate::source::Span;

impl Lower<'_> {
    pub(super) fn stmts(&mut self, list: &[ir::Stmt]) {
        for s in list {
            if !self.step(s.span) {
                return;
            }
            self.stmt(s);
        }
    }

    fn stmt(&mut self, s: &ir::Stmt) {
        let span = s.span;
        match &s.kind {
            S::Assign(l, r) => self.assign(l, r, span),
            S::Update(l, var, v) => self.update(l, *var, v, span),
            S::Call(e) => {
                if let ir::ExprKind::Call(call) = &e.kind
                    && let ir::Callee::TableApply(t) = call.callee
                {
                    let next = self.new_block("applied");
                    self.apply_table(t, ApplyNext::Always(next), next, span);
                    return;
                }
                self.expr(e);
            }
            S::Block(b) => self.stmts(b),
            S::If(c, a, b) => self.conditional(c, a, b, span),
            S::Var(id, init) => self.variable(*id, init.as_ref(), span),
            S::Return(value) => {
                if let (Some(v), Some(result)) = (value, self.frames.last().and_then(|f| f.result.clone())) {
                    let x = self.expr(v);
                    self.store(&result, x, &v.ty, span);
                }
                let end = self.frames.last().map(|f| f.end);
                let dead = self.new_block("dead");
                self.end_block(end.map_or(Term::End, Term::Goto), dead, span);
            }
            S::Exit => {
                for i in (0..self.frames.len()).rev() {
                    self.copy_out(i, span);
                }
                let dead = self.new_block("dead");
                self.end_block(Term::Exit, dead, span);
            }
            S::Break | S::Continue => {
                let target = self
                    .loops
                    .last()
                    .map(|l| if matches!(s.kind, S::Break) { l.end } else { l.next });
                let dead = self.new_block("dead");
                self.end_block(target.map_or(Term::End, Term::Goto), dead, span);
            }
            S::Switch(v, cases) => self.switch(v, cases, span),
            S::SwitchAction(table, cases) => self.switch_action(*table, cases, span),
            S::For {
                init,
                cond,
                update,
                body,
            } => {
                self.stmts(init);
                let (test, top, next, end) = (
                    self.new_block("test"),
                    self.new_block("loop"),
                    self.new_block("next"),
                    self.new_block("done"),
                );
                self.end_block(Term::Goto(test), test, span);
                let c = self.scalar(cond);
                self.end_block(Term::Branch(c, top, end), top, span);
                self.loops.push(Loop { next, end });
                self.stmts(body);
                self.loops.pop();
                self.end_block(Term::Goto(next), next, span);
                self.stmts(update);
                self.end_block(Term::Goto(test), end, span);
            }
            S::ForEach(var, values, body) => {
                let end = self.new_block("done");
                self.variable(*var, None, span);
                for v in values {
                    let next = self.new_block("next");
                    let x = self.expr(v);
                    if let Some(p) = self.env.get(var).cloned() {
                        self.store(&p, x, &v.ty, span);
                    }
                    self.loops.push(Loop { next, end });
                    self.stmts(body);
                    self.loops.pop();
                    self.end_block(Term::Goto(next), next, span);
                }
                self.end_block(Term::Goto(end), end, span);
            }
        }
    }

    pub(super) fn copy_out(&mut self, frame: usize, span: Span) {
        let list = self.frames.get(frame).map(|f| f.copy_out.clone()).unwrap_or_default();
        for CopyOut { to, from, ty } in list {
            match (to, from) {
                (Target::Place(to), from) => self.store(&to, Val::Place(from), &ty, span),
                (Target::Expr(e), Place::Scalar(loc, ty)) => self.assign_value(&e, Self::load(loc, ty), span),
                (Target::Expr(e), _) => self.error(e.span, "this cannot be written back"),
            }
        }
    }

    pub(super) fn variable(&mut self, id: ir::VarId, init: Option<&ir::Expr>, span: Span) {
        let Some(var) = self.program.vars.get(id.index()) else {
            return;
        };
        let (name, ty) = (var.name.clone(), var.ty.clone());
        let value = init.map(|e| self.expr(e));
        let path = if self.path.is_empty() {
            name.to_string()
        } else {
            format!("{}.{name}", self.path)
        };
        let place = self.allocate(&path, &ty, span);
        match value {
            Some(v) => self.store(&place, v, &ty, span),
            None => self.reset(&place, span),
        }
        self.env.insert(id, place);
    }

    fn conditional(&mut self, c: &ir::Expr, a: &[ir::Stmt], b: &[ir::Stmt], span: Span) {
        let (yes, no, join) = (self.new_block("then"), self.new_block("else"), self.new_block("join"));
        self.branch(c, yes, no, c.span);
        self.current = yes;
        self.stmts(a);
        self.end_block(Term::Goto(join), no, span);
        self.stmts(b);
        self.end_block(Term::Goto(join), join, span);
    }

    /// Turns a condition into edges, so that `hit`, `!`, `&&` and `||` with side effects need no variable.
    fn branch(&mut self, c: &ir::Expr, yes: usize, no: usize, span: Span) {
        match &c.kind {
            ir::ExprKind::Apply(t, what) => {
                let (hit, miss) = if *what == ir::ApplyValue::Miss {
                    (no, yes)
                } else {
                    (yes, no)
                };
                self.apply_table(*t, ApplyNext::HitMiss(hit, miss), yes, span);
            }
            ir::ExprKind::Unary(crate::ast::UnOp::Not, inner) => self.branch(inner, no, yes, span),
            ir::ExprKind::Binary(op @ (BinOp::LogAnd | BinOp::LogOr), a, b) if ir::walk::has_effects(c) => {
                let more = self.new_block("more");
                if *op == BinOp::LogAnd {
                    self.branch(a, more, no, span)
                } else {
                    self.branch(a, yes, more, span)
                }
                self.current = more;
                self.branch(b, yes, no, span);
            }
            _ => {
                let v = self.scalar(c);
                let term = match v.kind {
                    ExprKind::Bool(b) => Term::Goto(if b { yes } else { no }),
                    _ => Term::Branch(v, yes, no),
                };
                self.end_block(term, yes, span);
            }
        }
    }

    fn switch(&mut self, v: &ir::Expr, cases: &[ir::Case<ir::Expr>], span: Span) {
        let value = self.scalar(v);
        let value = self.save(value, span);
        let end = self.new_block("done");
        let bodies: Vec<usize> = cases.iter().map(|_| self.new_block("case")).collect();
        let mut default = end;
        for (case, body) in cases.iter().zip(&bodies) {
            if case.default {
                default = *body;
            }
            for label in &case.labels {
                let next = self.new_block("test");
                let l = self.scalar(label);
                let same = Expr {
                    kind: ExprKind::Binary(BinOp::Eq, Box::new(value.clone()), Box::new(l)),
                    ty: Ty::Bool,
                };
                self.end_block(Term::Branch(same, *body, next), next, span);
            }
        }
        self.end_block(Term::Goto(default), end, span);
        for (case, body) in cases.iter().zip(&bodies) {
            self.current = *body;
            self.stmts(&case.body);
            self.end_block(Term::Goto(end), end, span);
        }
    }

    fn switch_action(&mut self, table: ir::TableId, cases: &[ir::Case<usize>], span: Span) {
        let end = self.new_block("done");
        let bodies: Vec<usize> = cases.iter().map(|_| self.new_block("case")).collect();
        let mut default = end;
        let mut edges = Vec::new();
        for (case, body) in cases.iter().zip(&bodies) {
            if case.default {
                default = *body;
            }
            edges.extend(case.labels.iter().map(|l| (*l, *body)));
        }
        self.apply_table(table, ApplyNext::Actions(edges, default), end, span);
        for (case, body) in cases.iter().zip(&bodies) {
            self.current = *body;
            self.stmts(&case.body);
            self.end_block(Term::Goto(end), end, span);
        }
        self.current = end;
    }

    pub(super) fn place_of(&mut self, e: &ir::Expr) -> Option<Place> {
        match self.expr(e) {
            Val::Place(p) => Some(p),
            _ => None,
        }
    }
}
