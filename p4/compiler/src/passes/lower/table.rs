//! Tables and the actions that they run.

use super::{Frame, Lower, Mode, Place, Val};
use crate::ast::Direction;
use crate::ir::{self, ActionId, Arg, TableId, VarKind};
use crate::lir::{self, ApplyNext, Expr, ExprKind, Param, Term, Ty};
use crate::source::Span;
use num_bigint::BigInt;
use std::collections::HashSet;

impl Lower<'_> {
    /// Registers a table of the current instance.
    pub(super) fn table(&mut self, id: TableId) -> usize {
        let key = (self.path.clone(), id);
        if let Some(i) = self.tables.get(&key) {
            return *i;
        }
        let Some(t) = self.program.tables.get(id.index()) else {
            return 0;
        };
        let name = self.full_name(&t.annotations, &t.name);
        if let Some(old) = self.out.tables.iter().find(|o| o.name == name) {
            let old = old.span;
            self.sink.error_note(
                t.span,
                format!("two tables are called {name} by the control plane"),
                old,
                "the other one",
            );
        }
        // Without a size, or with 0, the target chooses one.
        let size = self.size(t.size.as_ref()).filter(|n| *n > 0);
        let index = self.out.tables.len();
        self.tables.insert(key, index);
        self.out.tables.push(lir::Table {
            name,
            keys: Vec::new(),
            actions: Vec::new(),
            default_action: None,
            entries: Vec::new(),
            const_entries: t.const_entries,
            largest_priority_wins: true,
            size,
            implementation: None,
            counters: None,
            meters: None,
            support_timeout: false,
            annotations: t.annotations.clone(),
            span: t.span,
        });
        let mut actions = Vec::new();
        for a in &t.actions {
            actions.push((self.table_action(a.action, &a.args, t.span), a.annotations.clone()));
        }
        let mut entries = Vec::new();
        for e in &t.entries {
            let mut keys = Vec::new();
            e.keys.iter().for_each(|k| self.set(k, &mut keys));
            let args = self.const_args(&e.call.args);
            entries.push(lir::Entry {
                keys,
                action: e.call.index,
                args,
                priority: BigInt::from(0),
                rank: e.annotations.int("priority"),
                is_const: e.is_const,
                span: e.span,
            });
        }
        let default_action = t
            .default_action
            .as_ref()
            .map(|(c, is_const)| (c.index, self.const_args(&c.args), *is_const));
        let keys = t
            .keys
            .iter()
            .map(|k| lir::Key {
                expr: Expr {
                    kind: ExprKind::Bool(false),
                    ty: self.scalar_ty(&k.expr.ty).unwrap_or(Ty::Bit(1)),
                },
                match_kind: k.match_kind.clone(),
                name: k.name.clone(),
                p4_type: k.expr.ty.clone(),
                annotations: k.annotations.clone(),
            })
            .collect();
        let (mut implementation, mut counters, mut meters, mut timeout) = (None, None, None, false);
        let (mut largest_wins, mut delta) = (true, BigInt::from(1));
        for (name, value) in &t.properties {
            let v = self.expr(value);
            match (&**name, &v) {
                ("largest_priority_wins", Val::Scalar(e)) => largest_wins = e.kind != ExprKind::Bool(false),
                ("priority_delta", v) => delta = Self::val_int(v.clone()).unwrap_or(delta),
                _ => {}
            }
            let object = match v {
                Val::Place(Place::Object(o)) => Some(o),
                Val::Scalar(Expr {
                    kind: ExprKind::Bool(b),
                    ..
                }) => {
                    timeout |= b && matches!(&**name, "support_timeout" | "idle_timeout");
                    None
                }
                _ => None,
            };
            match &**name {
                "implementation" => implementation = object,
                "counters" => counters = object,
                "meters" => meters = object,
                _ => {}
            }
        }
        prioritise(&mut entries, &t.entries, largest_wins, &delta);
        let list = if self.in_ingress {
            &mut self.out.ingress_tables
        } else {
            &mut self.out.egress_tables
        };
        list.push(index);
        if let Some(out) = self.out.tables.get_mut(index) {
            (out.keys, out.actions, out.entries, out.default_action) = (keys, actions, entries, default_action);
            out.largest_priority_wins = largest_wins;
            (out.implementation, out.counters, out.meters, out.support_timeout) =
                (implementation, counters, meters, timeout);
        }
        index
    }

    fn const_args(&mut self, args: &[ir::Expr]) -> Vec<BigInt> {
        args.iter()
            .map(|a| self.const_int(a).unwrap_or_else(|| BigInt::from(0)))
            .collect()
    }

    /// Lowers an action for one table: parameters with a direction are bound, the others become run-time data.
    fn table_action(&mut self, id: ActionId, args: &[Arg], span: Span) -> usize {
        let Some(a) = self.program.actions.get(id.index()) else {
            return 0;
        };
        let name = self.action_name(a);
        self.check_action_name(&name, id, a.span);
        let fixed = a
            .params
            .iter()
            .filter(|p| self.direction(**p) != Direction::None)
            .copied()
            .collect::<Vec<_>>();
        if let Some(i) = self.out.actions.iter().position(|x| x.name == name && x.source == id)
            && fixed.is_empty()
        {
            return i;
        }
        let saved = self.start_graph();
        let mode = std::mem::replace(&mut self.mode, Mode::Action);
        let in_action = std::mem::replace(&mut self.in_action, true);
        let frames = std::mem::take(&mut self.frames);
        let loops = std::mem::take(&mut self.loops);
        let mut params = Vec::new();
        let data: Vec<_> = a
            .params
            .iter()
            .filter(|p| self.direction(**p) == Direction::None)
            .copied()
            .collect();
        for p in &data {
            let Some(var) = self.program.vars.get(p.index()) else {
                continue;
            };
            let ty = self.scalar_ty(&var.ty).unwrap_or_else(|| {
                self.sink.error(
                    var.span,
                    "the control plane can only give numbers, booleans and enums to an action",
                );
                Ty::Bit(1)
            });
            let data = Expr {
                kind: ExprKind::Data(params.len()),
                ty,
            };
            self.env.insert(*p, Place::Value(Box::new(Val::Scalar(data))));
            params.push(Param {
                name: var.name.clone(),
                ty,
                p4_type: var.ty.clone(),
                annotations: var.annotations.clone(),
            });
        }
        let end = self.new_block("end");
        self.frames.push(Frame {
            end,
            result: None,
            copy_out: Vec::new(),
        });
        if fixed.is_empty() {
            self.stmts(&a.body);
        } else {
            self.inline(&fixed, args, None, span, &a.body);
        }
        self.end_block(Term::Goto(end), end, span);
        self.frames = frames;
        self.loops = loops;
        self.mode = mode;
        self.in_action = in_action;
        let graph = self.end_graph(saved);
        self.out.actions.push(lir::Action {
            name,
            params,
            graph,
            annotations: a.annotations.clone(),
            source: id,
        });
        self.out.actions.len() - 1
    }

    /// Remembers an action that is called directly, for P4Info.
    pub(super) fn note_call(&mut self, id: ActionId, a: &ir::Action) {
        let name = self.action_name(a);
        self.check_action_name(&name, id, a.span);
        if self.out.called.iter().any(|c| c.name == name) {
            return;
        }
        self.out.called.push(lir::Action {
            name,
            // The program supplies all arguments, so none is left for the control plane.
            params: Vec::new(),
            graph: lir::Graph::default(),
            annotations: a.annotations.clone(),
            source: id,
        });
    }

    fn check_action_name(&mut self, name: &str, id: ActionId, span: Span) {
        let other = *self.action_names.entry(name.to_string()).or_insert(id);
        if other != id {
            let old = self.program.actions.get(other.index()).map_or(span, |a| a.span);
            self.sink.error_note(
                span,
                format!("two actions are called {name} by the control plane"),
                old,
                "the other one",
            );
        }
    }

    fn action_name(&self, a: &ir::Action) -> String {
        if a.global {
            a.annotations.control_name(&a.name).trim_start_matches('.').to_string()
        } else {
            self.full_name(&a.annotations, &a.name)
        }
    }

    fn direction(&self, v: ir::VarId) -> Direction {
        match self.program.vars.get(v.index()).map(|v| v.kind) {
            Some(VarKind::Param(d)) => d,
            _ => Direction::None,
        }
    }

    /// Ends the current block by applying a table.
    pub(super) fn apply_table(&mut self, id: TableId, next: ApplyNext, go_on: usize, span: Span) {
        if !self.can_apply_tables() {
            self.error(span, "a table cannot be applied here");
            return;
        }
        let index = self.table(id);
        let Some(t) = self.program.tables.get(id.index()) else {
            return;
        };
        for (i, k) in t.keys.iter().enumerate() {
            let mut v = self.scalar(&k.expr);
            // BMv2 matches only on fields and validity bits; other keys are computed into variables first.
            if !matches!(
                v.kind,
                ExprKind::Load(lir::Loc::Field(..)) | ExprKind::Valid(lir::HeaderRef::Named(_))
            ) {
                let place = match self
                    .fixed
                    .get(&(format!("{}.{i}", self.path), ir::VarId(u32::MAX - id.0)))
                {
                    Some(p) => p.clone(),
                    None => {
                        let p = self.temp(v.ty, "key");
                        self.fixed
                            .insert((format!("{}.{i}", self.path), ir::VarId(u32::MAX - id.0)), p.clone());
                        p
                    }
                };
                if let Place::Scalar(loc, ty) = place {
                    self.emit(lir::Op::Assign(loc.clone(), ty, v), k.span);
                    v = Self::load(loc, ty);
                }
            }
            if let Some(key) = self.out.tables.get_mut(index).and_then(|t| t.keys.get_mut(i)) {
                key.expr = v;
            }
        }
        self.end_block(Term::Apply(index, next), go_on, span);
    }
}

/// Priorities as given. An entry without one differs by `delta` from the entry before it. If the first entry has none,
/// it gets 1, or, where the larger number wins, such a number that the last entry gets 1 (section "Entry priority").
fn prioritise(entries: &mut [lir::Entry], given: &[ir::TableEntry], largest_wins: bool, delta: &BigInt) {
    let mut last: Option<BigInt> = None;
    let n = entries.len();
    for (e, given) in entries.iter_mut().zip(given) {
        e.priority = match (&given.priority, last) {
            (Some(own), _) => own.clone(),
            (None, Some(last)) if largest_wins => last - delta,
            (None, Some(last)) => last + delta,
            (None, None) if largest_wins => delta * (n - 1) + 1,
            (None, None) => BigInt::from(1),
        };
        last = Some(e.priority.clone());
    }
}

/// The tables that are applied anywhere in the program's text.
pub(super) fn applied(program: &ir::Program) -> HashSet<TableId> {
    let mut out = HashSet::new();
    for c in &program.controls {
        applied_in(&c.body, &mut out);
    }
    out
}

fn applied_in(body: &[ir::Stmt], out: &mut HashSet<TableId>) {
    ir::walk::stmt_exprs(body, &mut |e| applied_by(e, out));
    for s in body {
        switched(s, out);
    }
}

fn applied_by(e: &ir::Expr, out: &mut HashSet<TableId>) {
    match &e.kind {
        ir::ExprKind::Apply(t, _) => {
            out.insert(*t);
        }
        ir::ExprKind::Call(c) => {
            if let ir::Callee::TableApply(t) = c.callee {
                out.insert(t);
            }
        }
        _ => {}
    }
    ir::walk::children(e, &mut |c| applied_by(c, out));
}

/// `switch (t.apply().action_run)` names its table itself.
fn switched(s: &ir::Stmt, out: &mut HashSet<TableId>) {
    use ir::StmtKind as S;
    let all = |list: &[ir::Stmt], out: &mut HashSet<TableId>| list.iter().for_each(|s| switched(s, out));
    match &s.kind {
        S::SwitchAction(t, cases) => {
            out.insert(*t);
            cases.iter().for_each(|c| all(&c.body, out));
        }
        S::Switch(_, cases) => cases.iter().for_each(|c| all(&c.body, out)),
        S::If(_, a, b) => {
            all(a, out);
            all(b, out);
        }
        S::Block(b) | S::ForEach(_, _, b) => all(b, out),
        S::For { init, update, body, .. } => {
            all(init, out);
            all(update, out);
            all(body, out);
        }
        _ => {}
    }
}
