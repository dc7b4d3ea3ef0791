//! Warnings about a legal program: declarations without a use, variables read before they are written, statements that
//! are never reached. Each is reported only where the structure of the code shows that it holds on every run.

use super::{Checker, Entity};
use crate::ast::Direction;
use crate::diagnostics::Lint;
use crate::ir::ty::Type;
use crate::ir::*;
use crate::source::Span;
use std::collections::{HashMap, HashSet};

/// Everything the program refers to.
#[derive(Default)]
struct Used {
    read: HashSet<VarId>,
    written: HashSet<VarId>,
    actions: HashSet<ActionId>,
    tables: HashSet<TableId>,
    instances: HashSet<InstanceId>,
    value_sets: HashSet<ValueSetId>,
    functions: HashSet<FunctionId>,
}

impl Used {
    fn value(&mut self, e: &Expr) {
        match &e.kind {
            ExprKind::Var(v) => {
                self.read.insert(*v);
            }
            ExprKind::Instance(i) => {
                self.instances.insert(*i);
            }
            ExprKind::ValueSet(v) => {
                self.value_sets.insert(*v);
            }
            ExprKind::Apply(t, _) => {
                self.tables.insert(*t);
            }
            ExprKind::Call(call) => {
                self.call(call);
                return;
            }
            _ => {}
        }
        walk::children(e, &mut |c| self.value(c));
    }

    fn call(&mut self, call: &Call) {
        match &call.callee {
            Callee::Action(a) => {
                self.actions.insert(*a);
            }
            Callee::Function(f) => {
                self.functions.insert(*f);
            }
            Callee::TableApply(t) => {
                self.tables.insert(*t);
            }
            Callee::SetValid(o) | Callee::SetInvalid(o) | Callee::Push(o, _) | Callee::Pop(o, _) => self.target(o),
            Callee::ExternMethod(o, _) | Callee::Apply(o) | Callee::IsValid(o) => self.value(o),
            Callee::ExternFunction(_) => {}
        }
        for a in &call.args {
            let Some(v) = &a.value else { continue };
            if matches!(a.direction, Direction::Out | Direction::InOut) {
                self.target(v);
            }
            if a.direction != Direction::Out {
                self.value(v);
            }
        }
    }

    /// A place that is written; its indices are read.
    fn target(&mut self, e: &Expr) {
        match &e.kind {
            ExprKind::Var(v) => {
                self.written.insert(*v);
            }
            ExprKind::Index(b, i) => {
                self.target(b);
                self.value(i);
            }
            _ => walk::children(e, &mut |c| self.target(c)),
        }
    }

    fn block(&mut self, stmts: &[Stmt]) {
        for s in stmts {
            match &s.kind {
                StmtKind::Assign(l, r) => {
                    self.target(l);
                    self.value(r);
                }
                StmtKind::Update(l, v, r) => {
                    self.target(l);
                    self.read.insert(*v);
                    self.value(r);
                }
                StmtKind::Call(e) => self.value(e),
                StmtKind::If(c, a, b) => {
                    self.value(c);
                    self.block(a);
                    self.block(b);
                }
                StmtKind::Block(b) => self.block(b),
                StmtKind::Return(e) => e.iter().for_each(|e| self.value(e)),
                StmtKind::Var(v, init) => self.variable(*v, init.as_ref()),
                StmtKind::Switch(v, cases) => {
                    self.value(v);
                    cases.iter().for_each(|c| self.block(&c.body));
                }
                StmtKind::SwitchAction(t, cases) => {
                    self.tables.insert(*t);
                    cases.iter().for_each(|c| self.block(&c.body));
                }
                StmtKind::For {
                    init,
                    cond,
                    update,
                    body,
                } => {
                    self.value(cond);
                    [init, update, body].into_iter().for_each(|b| self.block(b));
                }
                StmtKind::ForEach(v, values, body) => {
                    // Counting rounds is a use of the loop's variable.
                    self.read.insert(*v);
                    self.written.insert(*v);
                    values.iter().for_each(|v| self.value(v));
                    self.block(body);
                }
                StmtKind::Break | StmtKind::Continue | StmtKind::Exit => {}
            }
        }
    }

    fn variable(&mut self, v: VarId, init: Option<&Expr>) {
        if let Some(e) = init {
            self.written.insert(v);
            self.value(e);
        }
    }

    fn locals(&mut self, locals: &[Local]) {
        for l in locals {
            if let Local::Var(v, init) = l {
                self.variable(*v, init.as_ref());
            }
        }
    }

    fn program(&mut self, p: &Program) {
        for c in &p.controls {
            self.locals(&c.locals);
            self.block(&c.body);
        }
        for q in &p.parsers {
            self.locals(&q.locals);
            for s in &q.states {
                self.block(&s.body);
                if let Transition::Select(keys, cases) = &s.transition {
                    keys.iter().for_each(|k| self.value(k));
                    cases.iter().flat_map(|c| &c.0).for_each(|s| self.value(s));
                }
            }
        }
        p.functions.iter().for_each(|f| self.block(&f.body));
        p.actions.iter().for_each(|a| self.block(&a.body));
        for i in &p.instances {
            i.args.iter().flatten().for_each(|a| self.value(a));
        }
        for t in &p.tables {
            t.keys.iter().for_each(|k| self.value(&k.expr));
            for a in &t.actions {
                self.actions.insert(a.action);
                let arg = |d: Direction| matches!(d, Direction::Out | Direction::InOut);
                for a in &a.args {
                    if let Some(v) = &a.value {
                        self.value(v);
                        if arg(a.direction) {
                            self.target(v);
                        }
                    }
                }
            }
            t.properties.iter().for_each(|p| self.value(&p.1));
            let calls = t.entries.iter().map(|e| &e.call);
            let calls = calls.chain(t.default_action.iter().map(|d| &d.0));
            calls.flat_map(|c| &c.args).for_each(|a| self.value(a));
            t.entries.iter().flat_map(|e| &e.keys).for_each(|k| self.value(k));
        }
    }
}

/// Follows one body: which tracked variables may have no value yet.
struct Flow<'a, 'b, 'c> {
    checker: &'a mut Checker<'b>,
    empty: &'c mut HashSet<VarId>,
}

impl Flow<'_, '_, '_> {
    fn read(&mut self, e: &Expr) {
        match &e.kind {
            ExprKind::Var(v) => {
                if self.empty.remove(v) {
                    let name = self.checker.program.vars.get(v.index()).map(|v| v.name.clone());
                    let name = name.unwrap_or_else(|| "this".into());
                    self.checker.sink.warn(
                        Lint::Uninitialized,
                        e.span,
                        format!("{name} is read before it is written"),
                    );
                }
            }
            ExprKind::Call(call) => {
                for a in &call.args {
                    match &a.value {
                        Some(v) if a.direction != Direction::Out => self.read(v),
                        _ => {}
                    }
                }
                for a in &call.args {
                    match &a.value {
                        Some(v) if matches!(a.direction, Direction::Out | Direction::InOut) => self.write(v),
                        _ => {}
                    }
                }
                // How an action uses variables of its control is not tracked.
                if matches!(call.callee, Callee::Action(_)) {
                    self.empty.clear();
                }
            }
            _ => walk::children(e, &mut |c| self.read(c)),
        }
    }

    fn write(&mut self, e: &Expr) {
        match &e.kind {
            ExprKind::Var(v) => {
                self.empty.remove(v);
            }
            ExprKind::Index(b, i) => {
                self.read(i);
                self.write(b);
            }
            _ => walk::children(e, &mut |c| self.write(c)),
        }
    }

    fn arm(&mut self, body: &[Stmt], before: &HashSet<VarId>, after: &mut HashSet<VarId>) -> bool {
        *self.empty = before.clone();
        let goes_on = self.block(body);
        if goes_on {
            after.extend(self.empty.iter().copied());
        }
        goes_on
    }

    /// Whether the end of the block is reached.
    fn block(&mut self, stmts: &[Stmt]) -> bool {
        for (i, s) in stmts.iter().enumerate() {
            if !self.stmt(s) {
                if let Some(next) = stmts.get(i + 1) {
                    self.checker
                        .sink
                        .warn(Lint::Unreachable, next.span, "this is never reached");
                }
                return false;
            }
        }
        true
    }

    fn stmt(&mut self, s: &Stmt) -> bool {
        match &s.kind {
            StmtKind::Assign(l, r) => {
                self.read(r);
                self.write(l);
            }
            StmtKind::Update(l, v, r) => {
                self.empty.remove(v);
                self.read(r);
                self.read(l);
            }
            StmtKind::Call(e) => self.read(e),
            StmtKind::Var(v, None) => {
                let scalar = self.checker.program.vars.get(v.index());
                if scalar.is_some_and(|v| is_scalar(&self.checker.program, &v.ty)) {
                    self.empty.insert(*v);
                }
            }
            StmtKind::Var(_, Some(e)) => self.read(e),
            StmtKind::Block(b) => return self.block(b),
            StmtKind::If(c, a, b) => {
                self.read(c);
                let before = self.empty.clone();
                let mut after = HashSet::new();
                let first = self.arm(a, &before, &mut after);
                let second = self.arm(b, &before, &mut after);
                *self.empty = after;
                return first || second;
            }
            StmtKind::Switch(v, cases) => {
                self.read(v);
                return self.cases(cases.iter().map(|c| (c.default, &c.body)));
            }
            StmtKind::SwitchAction(_, cases) => return self.cases(cases.iter().map(|c| (c.default, &c.body))),
            StmtKind::For {
                init,
                cond,
                update,
                body,
            } => {
                self.block(init);
                self.read(cond);
                let before = self.empty.clone();
                if self.block(body) {
                    self.block(update);
                }
                *self.empty = before;
            }
            StmtKind::ForEach(_, values, body) => {
                values.iter().for_each(|v| self.read(v));
                let before = self.empty.clone();
                self.block(body);
                *self.empty = before;
            }
            StmtKind::Return(e) => {
                e.iter().for_each(|e| self.read(e));
                return false;
            }
            StmtKind::Break | StmtKind::Continue | StmtKind::Exit => return false,
        }
        true
    }

    fn cases<'s>(&mut self, cases: impl Iterator<Item = (bool, &'s Block)>) -> bool {
        let before = self.empty.clone();
        let (mut after, mut goes_on, mut total) = (HashSet::new(), false, false);
        for (default, body) in cases {
            total |= default;
            goes_on |= self.arm(body, &before, &mut after);
        }
        if !total {
            after.extend(before);
        }
        *self.empty = after;
        goes_on || !total
    }
}

fn is_scalar(program: &Program, ty: &Type) -> bool {
    matches!(
        program.underlying(ty),
        Type::Bool | Type::Bit(_) | Type::Int(_) | Type::Enum(_) | Type::Error
    )
}

impl Checker<'_> {
    /// Warnings that need the whole program.
    pub(super) fn lint(&mut self) {
        let mut used = Used::default();
        used.program(&self.program);
        self.unused(&used);
        self.never_written(&used);
        let bodies: Vec<(Vec<VarId>, Block)> = self
            .program
            .controls
            .iter()
            .map(|c| (c.params.clone(), c.body.clone()))
            .chain(
                self.program
                    .functions
                    .iter()
                    .map(|f| (f.params.clone(), f.body.clone())),
            )
            .chain(self.program.actions.iter().map(|a| (a.params.clone(), a.body.clone())))
            .chain(
                self.program
                    .parsers
                    .iter()
                    .flat_map(|p| p.states.iter().map(|s| (Vec::new(), s.body.clone()))),
            )
            .collect();
        for (params, body) in bodies {
            let mut empty: HashSet<VarId> = params.into_iter().filter(|p| self.starts_empty(*p)).collect();
            let mut flow = Flow {
                checker: self,
                empty: &mut empty,
            };
            flow.block(&body);
        }
    }

    fn starts_empty(&self, v: VarId) -> bool {
        self.program
            .vars
            .get(v.index())
            .is_some_and(|v| v.kind == VarKind::Param(Direction::Out) && is_scalar(&self.program, &v.ty))
    }

    fn unused(&mut self, used: &Used) {
        // A specialised function has its variables once per specialisation.
        let spans = |ids: &mut dyn Iterator<Item = VarId>| -> HashSet<Span> {
            ids.filter_map(|v| self.program.vars.get(v.index()).map(|v| v.span))
                .collect()
        };
        let touched = spans(&mut used.read.iter().chain(&used.written).copied());
        let data: HashSet<VarId> = self.program.actions.iter().flat_map(|a| a.params.clone()).collect();
        let mut blocks: HashSet<Type> = HashSet::new();
        for i in &self.program.instances {
            blocks.insert(i.ty.clone());
        }
        let mut called: HashMap<usize, bool> = HashMap::new();
        for (i, f) in self.functions.iter().enumerate() {
            let alive = f.source.is_none() || f.instances.values().any(|id| used.functions.contains(id));
            called.insert(i, alive);
        }
        for (entity, name, span) in std::mem::take(&mut self.declared) {
            let what = match &entity {
                Entity::Var(v) => {
                    let kind = self.program.vars.get(v.index()).map(|v| v.kind);
                    let counts = match kind {
                        Some(VarKind::Local) => true,
                        Some(VarKind::Param(Direction::None)) => data.contains(v),
                        _ => false,
                    };
                    let what = if kind == Some(VarKind::Local) {
                        "variable"
                    } else {
                        "parameter"
                    };
                    (counts && !touched.contains(&span)).then_some(what)
                }
                Entity::Action(a) => (!used.actions.contains(a) && &*name != "NoAction").then_some("action"),
                Entity::Table(t) => (!used.tables.contains(t)).then_some("table"),
                Entity::ValueSet(v) => (!used.value_sets.contains(v)).then_some("value set"),
                Entity::Control(c) => (!blocks.contains(&Type::Control(*c))).then_some("control"),
                Entity::Parser(p) => (!blocks.contains(&Type::Parser(*p))).then_some("parser"),
                Entity::Instance(i) => {
                    let global = self.program.instances.get(i.index()).is_none_or(|i| i.global);
                    (!global && !used.instances.contains(i)).then_some("instance")
                }
                Entity::Functions(list) => list
                    .last()
                    .is_some_and(|f| called.get(f) == Some(&false))
                    .then_some("function"),
                _ => None,
            };
            if let Some(what) = what
                && !name.starts_with('_')
            {
                self.sink
                    .warn(Lint::Unused, span, format!("{what} {name} is never used"));
            }
        }
    }

    /// Variables declared outside `apply` and the states. The order in which code uses them is not tracked, but some
    /// are never written at all.
    fn never_written(&mut self, used: &Used) {
        let locals = self.program.controls.iter().map(|c| &c.locals);
        let locals = locals.chain(self.program.parsers.iter().map(|p| &p.locals));
        let mut found = Vec::new();
        for l in locals.flatten() {
            if let Local::Var(v, None) = l
                && used.read.contains(v)
                && !used.written.contains(v)
                && let Some(var) = self.program.vars.get(v.index())
                && is_scalar(&self.program, &var.ty)
            {
                found.push((var.name.clone(), var.span));
            }
        }
        for (name, span) in found {
            self.sink
                .warn(Lint::Uninitialized, span, format!("{name} is read but never written"));
        }
    }
}
