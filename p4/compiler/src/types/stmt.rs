//! Statements.

use super::{Checker, Entity};
use crate::ast::{self, BinOp, StmtKind as S};
use crate::ir::ty::Type;
use crate::ir::*;
use crate::known::Place;
use crate::source::Span;
use num_bigint::BigInt;

impl Checker<'_> {
    pub(super) fn block(&mut self, stmts: &[ast::Stmt]) -> Block {
        self.push();
        let out = stmts.iter().flat_map(|s| self.stmt(s)).collect();
        self.pop();
        out
    }

    pub(super) fn annotated_block(&mut self, b: &ast::Block) -> Block {
        self.annotations(&b.annotations, Place::Other);
        self.block(&b.stmts)
    }

    fn nested(&mut self, s: &ast::Stmt) -> Block {
        self.block(std::slice::from_ref(s))
    }

    pub(super) fn stmt(&mut self, s: &ast::Stmt) -> Option<Stmt> {
        let span = s.span;
        let kind = match &s.kind {
            S::Empty => return None,
            S::Assign(l, op, r) => self.assign(l, *op, r, span)?,
            S::Call(e) => {
                let mut e = self.expr(e, None);
                self.finish(&mut e);
                match &e.kind {
                    ExprKind::Call(_) => StmtKind::Call(e),
                    _ => return None,
                }
            }
            S::If(c, a, b) => {
                let c = self.condition(c);
                let a = self.nested(a);
                let b = b.as_ref().map(|b| self.nested(b)).unwrap_or_default();
                StmtKind::If(c, a, b)
            }
            S::Block(b) => StmtKind::Block(self.annotated_block(b)),
            S::Return(_) if self.in_parser && self.result.is_none() => {
                return self.error(span, "return is not allowed in a parser", None);
            }
            S::Return(value) => StmtKind::Return(self.return_value(value.as_ref(), span)),
            S::Break | S::Continue if self.loops == 0 => {
                self.sink.error(span, "break and continue are only allowed in a loop");
                return None;
            }
            S::Break => StmtKind::Break,
            S::Continue => StmtKind::Continue,
            S::Exit => {
                if self.result.is_some() || self.in_parser {
                    self.sink.error(span, "exit is not allowed in a function or parser");
                }
                StmtKind::Exit
            }
            S::Switch(value, cases) => self.switch(value, cases, span)?,
            S::For {
                init,
                cond,
                update,
                body,
                annotations,
            } => {
                self.annotations(annotations, Place::Other);
                self.push();
                let init = init.iter().flat_map(|s| self.stmt(s)).collect();
                let cond = self.condition(cond);
                let update = update.iter().flat_map(|s| self.stmt(s)).collect();
                self.loops += 1;
                let body = self.nested(body);
                self.loops -= 1;
                self.pop();
                StmtKind::For {
                    init,
                    cond,
                    update,
                    body,
                }
            }
            S::ForIn {
                ty,
                var,
                from,
                to,
                body,
                annotations,
            } => {
                self.annotations(annotations, Place::Other);
                self.for_in(ty, var, from, to.as_ref(), body, span)?
            }
            S::Decl(d) => self.local_decl(d)?,
        };
        Some(Stmt { kind, span })
    }

    fn condition(&mut self, c: &ast::Expr) -> Expr {
        let e = self.expr(c, Some(&Type::Bool));
        let mut e = self.coerce(e, &Type::Bool, "a condition");
        self.finish(&mut e);
        e
    }

    fn return_value(&mut self, value: Option<&ast::Expr>, span: Span) -> Option<Expr> {
        let want = self.result.clone();
        match (want, value) {
            (None | Some(Type::Void), None) => None,
            (None | Some(Type::Void), Some(_)) => self.error(span, "nothing can be returned here", None),
            (Some(_), None) => self.error(span, "this function returns a value", None),
            (Some(ty), Some(v)) => {
                let e = self.expr(v, Some(&ty));
                let mut e = self.coerce(e, &ty, "the returned value");
                self.finish(&mut e);
                Some(e)
            }
        }
    }

    fn assign(&mut self, l: &ast::Expr, op: Option<BinOp>, r: &ast::Expr, span: Span) -> Option<StmtKind> {
        let left = self.expr(l, None);
        if !self.is_lvalue(&left) {
            return self.error(left.span, "this cannot be assigned to", None);
        }
        let hint = left.ty.clone();
        let mut right = self.expr(r, Some(&hint));
        if let Some(op) = op
            && crate::ir::walk::has_effects(&left)
            && !matches!(left.kind, ExprKind::Slice(..))
        {
            let name = ast::Ident {
                name: "target".into(),
                span,
            };
            let var = self.new_var(&name, left.ty.clone(), VarKind::Local, Default::default());
            let stand_in = Expr {
                kind: ExprKind::Var(var),
                ty: left.ty.clone(),
                span,
            };
            let value = self.binary_on(op, stand_in, right, span);
            let mut value = self.coerce(value, &hint, "the assigned value");
            let mut left = left;
            self.finish(&mut left);
            self.finish(&mut value);
            return Some(StmtKind::Update(left, var, value));
        }
        if let Some(op) = op {
            right = self.binary_on(op, left.clone(), right, span);
        }
        let mut right = self.coerce(right, &hint, "the assigned value");
        let mut left = left;
        self.finish(&mut left);
        self.finish(&mut right);
        if matches!(self.shallow(&left.ty), Type::Extern(..) | Type::Set(_) | Type::Table(_)) {
            return self.error(span, "objects cannot be assigned", None);
        }
        Some(StmtKind::Assign(left, right))
    }

    pub(super) fn local_decl(&mut self, d: &ast::Decl) -> Option<StmtKind> {
        match &d.kind {
            ast::DeclKind::Var(ty, init) => {
                let ty = self.ty(ty);
                self.check_local_name(&d.name);
                let init = init.as_ref().map(|e| {
                    let e = self.expr(e, Some(&ty));
                    let mut e = self.coerce(e, &ty, "the initial value");
                    self.finish(&mut e);
                    e
                });
                let ty = self.no_vars(&ty, d.span, &d.name.name);
                if matches!(
                    ty,
                    Type::Integer
                        | Type::Str
                        | Type::Extern(..)
                        | Type::Package(..)
                        | Type::Control(_)
                        | Type::Parser(_)
                        | Type::Block(..)
                        | Type::Void
                        | Type::MatchKind
                ) {
                    let s = self.show(&ty);
                    self.sink.error(d.span, format!("a variable cannot have type {s}"));
                }
                let annotations = self.annotations(&d.annotations, Place::Other);
                let id = self.new_var(&d.name, ty, VarKind::Local, annotations);
                self.declare(&d.name, Entity::Var(id));
                Some(StmtKind::Var(id, init))
            }
            ast::DeclKind::Const(..) => {
                self.constant(d);
                None
            }
            _ => self.error(d.span, "this cannot be declared here", None),
        }
    }

    /// A local variable or constant must not hide a parameter of the block that declares it.
    pub(super) fn check_local_name(&mut self, name: &ast::Ident) {
        let Some((Entity::Var(_), old)) = self.scopes.get(self.unit_scope).and_then(|s| s.get(&name.name)) else {
            return;
        };
        // Declarations beside `apply` and the states are one scope further out and only worth a warning.
        let outer = usize::from(!self.in_action && self.result.is_none());
        if self.unit_scope > 0 && self.scopes.len() > self.unit_scope + 1 + outer {
            let old = *old;
            self.sink.error_note(
                name.span,
                format!("{} hides a parameter", name.name),
                old,
                "the parameter is declared here",
            );
        }
    }

    fn switch(&mut self, value: &ast::Expr, cases: &[ast::SwitchCase], span: Span) -> Option<StmtKind> {
        let mut v = self.expr(value, None);
        self.finish(&mut v);
        if let ExprKind::Apply(table, ApplyValue::ActionRun) = v.kind {
            return self.switch_action(table, cases);
        }
        let ty = v.ty.clone();
        let under = self.program.underlying(&ty);
        if !under.is_fixed()
            && !matches!(
                under,
                Type::Bool | Type::Enum(_) | Type::Error | Type::Poison | Type::Integer
            )
        {
            let s = self.show(&ty);
            return self.error(span, format!("a switch cannot be made on {s}"), None);
        }
        let mut out: Vec<Case<Expr>> = Vec::new();
        let mut labels = Vec::new();
        let mut default = false;
        let mut seen_default = false;
        let mut known: Vec<Expr> = Vec::new();
        for case in cases {
            if seen_default && case.label.is_some() {
                self.sink.error(case.span, "no label can follow default");
            }
            match &case.label {
                Some(l) => {
                    let e = self.expr(l, Some(&ty));
                    let e = self.coerce(e, &ty, "a label");
                    if !e.is_const() && !matches!(e.kind, ExprKind::Poison) {
                        self.sink.error(case.span, "a label must be a constant");
                    }
                    if known.iter().any(|k| super::operator::same_const(k, &e) == Some(true)) {
                        self.sink.error(case.span, "this label is given twice");
                    }
                    known.push(e.clone());
                    labels.push(e);
                }
                None => {
                    if seen_default {
                        self.sink.error(case.span, "default is given twice");
                    }
                    seen_default = true;
                    default = true;
                }
            }
            if let Some(body) = &case.body {
                let body = self.annotated_block(body);
                out.push(Case {
                    labels: std::mem::take(&mut labels),
                    default: std::mem::take(&mut default),
                    body,
                });
            }
        }
        Some(StmtKind::Switch(v, out))
    }

    fn switch_action(&mut self, table: TableId, cases: &[ast::SwitchCase]) -> Option<StmtKind> {
        let names: Vec<_> = self
            .program
            .tables
            .get(table.index())
            .map(|t| t.actions.iter().map(|a| a.action).collect())
            .unwrap_or_default();
        let names: Vec<_> = names
            .iter()
            .map(|a: &ActionId| self.program.actions.get(a.index()).map(|a| a.name.clone()))
            .collect();
        let mut out: Vec<Case<usize>> = Vec::new();
        let mut labels = Vec::new();
        let mut default = false;
        let mut seen_default = false;
        let mut seen: Vec<usize> = Vec::new();
        for case in cases {
            match &case.label {
                Some(_) if seen_default => self.sink.error(case.span, "no label can follow default"),
                None if seen_default => self.sink.error(case.span, "default is given twice"),
                Some(ast::Expr {
                    kind: ast::ExprKind::Name { name, .. },
                    ..
                }) => match names.iter().position(|n| n.as_ref() == Some(&name.name)) {
                    Some(i) if seen.contains(&i) => self.sink.error(case.span, format!("{} is given twice", name.name)),
                    Some(i) => {
                        seen.push(i);
                        labels.push(i);
                    }
                    None => self
                        .sink
                        .error(case.span, format!("{} is not an action of this table", name.name)),
                },
                Some(_) => self.sink.error(case.span, "an action's name is expected here"),
                None => {
                    seen_default = true;
                    default = true;
                }
            }
            if let Some(body) = &case.body {
                let body = self.annotated_block(body);
                out.push(Case {
                    labels: std::mem::take(&mut labels),
                    default: std::mem::take(&mut default),
                    body,
                });
            }
        }
        Some(StmtKind::SwitchAction(table, out))
    }

    fn for_in(
        &mut self,
        ty: &ast::TypeRef,
        var: &ast::Ident,
        from: &ast::Expr,
        to: Option<&ast::Expr>,
        body: &ast::Stmt,
        span: Span,
    ) -> Option<StmtKind> {
        let ty = self.ty(ty);
        self.push();
        let id = self.new_var(var, ty.clone(), VarKind::Local, Default::default());
        let first = self.expr(from, Some(&ty));
        let kind = match to {
            Some(to) => {
                let from = self.coerce(first, &ty, "the first value");
                let to = self.expr(to, Some(&ty));
                let to = self.coerce(to, &ty, "the last value");
                self.declare(var, Entity::Var(id));
                self.loops += 1;
                let body = self.nested(body);
                self.loops -= 1;
                Some(self.range_loop(id, &ty, from, to, body, span))
            }
            None => {
                let items = match (&first.kind, self.zonk(&first.ty)) {
                    (ExprKind::Aggregate(items), _) => items.clone(),
                    (_, Type::Array(t, n)) => (0..n)
                        .map(|i| {
                            let index = Expr {
                                kind: ExprKind::Int(BigInt::from(i)),
                                ty: Type::Bit(32),
                                span,
                            };
                            Expr {
                                kind: ExprKind::Index(Box::new(first.clone()), Box::new(index)),
                                ty: (*t).clone(),
                                span,
                            }
                        })
                        .collect(),
                    (_, Type::Poison) => Vec::new(),
                    _ => {
                        self.sink.error(from.span, "a list or stack is expected here");
                        Vec::new()
                    }
                };
                let mut values = Vec::new();
                for item in items {
                    let mut item = self.coerce(item, &ty, "an element");
                    self.finish(&mut item);
                    values.push(item);
                }
                self.declare(var, Entity::Var(id));
                self.loops += 1;
                let body = self.nested(body);
                self.loops -= 1;
                Some(StmtKind::ForEach(id, values, body))
            }
        };
        self.pop();
        kind
    }

    /// `for (T x in a .. b)`: bounds are evaluated once; the test comes before the increment, so that the type's
    /// largest value ends the loop.
    fn range_loop(&mut self, id: VarId, ty: &Type, mut from: Expr, mut to: Expr, body: Block, span: Span) -> StmtKind {
        self.finish(&mut from);
        self.finish(&mut to);
        let name = ast::Ident {
            name: "last".into(),
            span,
        };
        let more = ast::Ident {
            name: "more".into(),
            span,
        };
        let last = self.new_var(&name, ty.clone(), VarKind::Local, Default::default());
        let flag = self.new_var(&more, Type::Bool, VarKind::Local, Default::default());
        let var = |v, ty: &Type| Expr {
            kind: ExprKind::Var(v),
            ty: ty.clone(),
            span,
        };
        let st = |kind| Stmt { kind, span };
        let binary = |op, a, b, ty| Expr {
            kind: ExprKind::Binary(op, Box::new(a), Box::new(b)),
            ty,
            span,
        };
        let one = Expr {
            kind: ExprKind::Int(BigInt::from(1)),
            ty: ty.clone(),
            span,
        };
        let init = vec![
            st(StmtKind::Var(id, Some(from))),
            st(StmtKind::Var(last, Some(to))),
            st(StmtKind::Var(
                flag,
                Some(binary(BinOp::Le, var(id, ty), var(last, ty), Type::Bool)),
            )),
        ];
        let update = vec![
            st(StmtKind::Assign(
                var(flag, &Type::Bool),
                binary(BinOp::Lt, var(id, ty), var(last, ty), Type::Bool),
            )),
            st(StmtKind::Assign(
                var(id, ty),
                binary(BinOp::Add, var(id, ty), one, ty.clone()),
            )),
        ];
        StmtKind::For {
            init,
            cond: var(flag, &Type::Bool),
            update,
            body,
        }
    }
}
