//! Calls: inlining of functions, actions, controls and parsers; extern calls.

use super::{CopyOut, Frame, Lower, MAX_INLINE_DEPTH, Place, Target, Val};
use crate::ast::Direction;
use crate::ir::ty::Type;
use crate::ir::{self, Arg, Callee, VarId};
use crate::lir::{Expr, ExprKind, ExternArg, HeaderRef, Leaf, Op, Term, Ty};
use crate::source::Span;
use std::collections::HashSet;
use std::rc::Rc;

impl Lower<'_> {
    pub(super) fn call(&mut self, call: &ir::Call, e: &ir::Expr) -> Val {
        if let Some(v) = self.pure_call(call) {
            return v;
        }
        match &call.callee {
            Callee::SetValid(h) | Callee::SetInvalid(h) => {
                if let Some(place) = self.place_of(h) {
                    self.set_valid(&place, matches!(call.callee, Callee::SetValid(_)), e.span);
                }
                Val::Unit
            }
            Callee::Push(s, n) | Callee::Pop(s, n) => {
                match self.place_of(s) {
                    Some(Place::Stack(s)) if matches!(call.callee, Callee::Push(..)) => {
                        self.emit(Op::Push(s, *n), e.span)
                    }
                    Some(Place::Stack(s)) => self.emit(Op::Pop(s, *n), e.span),
                    Some(Place::List(items)) => {
                        let Type::Array(item, _) = self.program.underlying(&s.ty) else {
                            return Val::Unit;
                        };
                        let push = matches!(call.callee, Callee::Push(..));
                        self.shift_list(&items, &item, *n as usize, push, e.span);
                    }
                    _ => self.error(e.span, "only header stacks can be shifted"),
                }
                Val::Unit
            }
            Callee::Function(id) => {
                let Some(f) = self.program.functions.get(id.index()) else {
                    return Val::Unit;
                };
                let result = if f.result == Type::Void {
                    None
                } else {
                    Some(self.allocate(&format!("{}.result", f.name), &f.result, e.span))
                };
                self.inline(&f.params, &call.args, result.clone(), e.span, &f.body);
                result.map_or(Val::Unit, Val::Place)
            }
            Callee::Action(id) => {
                let Some(a) = self.program.actions.get(id.index()) else {
                    return Val::Unit;
                };
                // An action that only other actions call becomes part of them.
                if !self.in_action {
                    self.note_call(*id, a);
                }
                let outer = std::mem::replace(&mut self.in_action, true);
                self.inline(&a.params, &call.args, None, e.span, &a.body);
                self.in_action = outer;
                Val::Unit
            }
            Callee::Apply(object) => {
                if let Val::Place(Place::Instance(id, path)) = self.expr(object) {
                    self.apply_block(id, &path, &call.args, e.span);
                }
                Val::Unit
            }
            Callee::TableApply(t) => {
                let next = self.new_block("applied");
                self.apply_table(*t, crate::lir::ApplyNext::Always(next), next, e.span);
                Val::Unit
            }
            Callee::ExternFunction(name) => self.extern_function(name, call, e),
            Callee::ExternMethod(object, method) => self.extern_method(object, method, call, e),
            Callee::IsValid(_) => Val::Unit,
        }
    }

    /// Runs a body with its parameters bound to the arguments.
    pub(super) fn inline(
        &mut self,
        params: &[VarId],
        args: &[Arg],
        result: Option<Place>,
        span: Span,
        body: &[ir::Stmt],
    ) {
        if self.frames.len() >= MAX_INLINE_DEPTH {
            self.error(span, "calls are nested too deeply");
            return;
        }
        let outer = self.outer_footprint(params, body);
        let bound = self.bind_args(params, args, span, false, &outer);
        let saved: Vec<_> = params.iter().map(|p| (*p, self.env.get(p).cloned())).collect();
        let end = self.new_block("return");
        let mut copy_out = Vec::new();
        for (p, (place, out)) in params.iter().zip(bound) {
            if let Some(o) = out {
                copy_out.push(o);
            }
            self.env.insert(*p, place);
        }
        self.frames.push(Frame { end, result, copy_out });
        let loops = std::mem::take(&mut self.loops);
        self.stmts(body);
        self.loops = loops;
        self.end_block(Term::Goto(end), end, span);
        self.copy_out(self.frames.len() - 1, span);
        self.frames.pop();
        for (p, old) in saved {
            if let Some(old) = old {
                self.env.insert(p, old);
            }
        }
    }

    /// The variables that a body uses besides its parameters: an action sees those of its control.
    fn outer_footprint(&mut self, params: &[VarId], body: &[ir::Stmt]) -> Vec<String> {
        let mut seen = Seen::default();
        ir::walk::stmt_exprs(body, &mut |e| seen.expr(self.program, e));
        let mut out = Vec::new();
        for v in seen.order {
            if !params.contains(&v)
                && let Some(p) = self.env.get(&v).cloned()
            {
                self.footprint(&p, &mut out);
            }
        }
        out
    }

    /// For each parameter, its place and the copy to make at the end.
    pub(super) fn bind_args(
        &mut self,
        params: &[VarId],
        args: &[Arg],
        span: Span,
        alias_scalars: bool,
        outer: &[String],
    ) -> Vec<(Place, Option<CopyOut>)> {
        let values: Vec<Option<Val>> = args.iter().map(|a| a.value.as_ref().map(|v| self.expr(v))).collect();
        let prints: Vec<Vec<String>> = values
            .iter()
            .map(|v| {
                let mut out = Vec::new();
                if let Some(Val::Place(p)) = v {
                    self.footprint(p, &mut out);
                }
                out
            })
            .collect();
        let mut bound = Vec::new();
        for (i, (arg, value)) in args.iter().zip(values).enumerate() {
            let var = params.get(i).and_then(|p| self.program.vars.get(p.index()));
            let name = var.map_or_else(|| "arg".to_string(), |v| v.name.to_string());
            let ty = var.map_or_else(|| arg.ty.clone(), |v| v.ty.clone());
            let writes = matches!(arg.direction, Direction::Out | Direction::InOut);
            let own = prints.get(i).map(Vec::as_slice).unwrap_or(&[]);
            let overlaps = own.iter().any(|n| outer.contains(n))
                || prints.iter().enumerate().any(|(j, other)| {
                    let other_writes = args
                        .get(j)
                        .is_some_and(|a| matches!(a.direction, Direction::Out | Direction::InOut));
                    j != i
                        && (writes || other_writes)
                        && other.iter().any(|n| prints.get(i).is_some_and(|own| own.contains(n)))
                });
            let place = match value {
                Some(Val::Place(p @ (Place::Object(_) | Place::Instance(..) | Place::Packet))) => (p, None),
                Some(Val::Scalar(e)) if matches!(e.kind, ExprKind::Const(_) | ExprKind::Bool(_)) => {
                    (Place::Value(Box::new(Val::Scalar(e))), None)
                }
                Some(Val::Str(s)) => (Place::Value(Box::new(Val::Str(s))), None),
                Some(Val::Place(p))
                    if !overlaps && is_static(&p) && (alias_scalars || (writes && !matches!(p, Place::Scalar(..)))) =>
                {
                    if arg.direction == Direction::Out {
                        self.reset(&p, span);
                    }
                    (p, None)
                }
                value => {
                    let place = self.allocate(&name, &ty, span);
                    let mut out = None;
                    match (&value, arg.direction) {
                        (_, Direction::Out) => self.reset(&place, span),
                        (Some(v), _) => self.store(&place, v.clone(), &ty, span),
                        _ => {}
                    }
                    if writes {
                        out = match (&value, &arg.value) {
                            (Some(Val::Place(p)), _) => {
                                let target = self.freeze(p.clone(), span);
                                Some(CopyOut {
                                    to: Target::Place(target),
                                    from: place.clone(),
                                    ty: ty.clone(),
                                })
                            }
                            (Some(_), Some(e)) => Some(CopyOut {
                                to: Target::Expr(e.clone()),
                                from: place.clone(),
                                ty: ty.clone(),
                            }),
                            _ => None,
                        };
                    }
                    (place, out)
                }
            };
            bound.push(place);
        }
        bound
    }

    fn extern_args(&mut self, args: &[Arg], span: Span) -> (Vec<ExternArg>, Vec<(ir::Expr, Place)>) {
        let mut out = Vec::new();
        let mut after = Vec::new();
        for a in args {
            let Some(v) = &a.value else {
                let place = self.allocate("unused", &a.ty, span);
                if let Place::Scalar(l, t) = place {
                    out.push(ExternArg::Out(l, t));
                }
                continue;
            };
            if matches!(a.direction, Direction::Out | Direction::InOut) && self.scalar_ty(&a.ty).is_some() {
                match self.expr(v) {
                    Val::Place(Place::Scalar(l, t)) => out.push(ExternArg::Out(l, t)),
                    _ => {
                        let place = self.allocate("tmp", &a.ty, span);
                        if let Place::Scalar(l, t) = &place {
                            out.push(ExternArg::Out(l.clone(), *t));
                            after.push((v.clone(), place));
                        }
                    }
                }
                continue;
            }
            if a.direction == Direction::Out {
                let shown = self.program.show(&a.ty);
                self.error(v.span, format!("an extern of this target cannot write a {shown}"));
            }
            match self.expr(v) {
                Val::Str(s) => out.push(ExternArg::Str(s)),
                value => match self.to_scalar(value.clone()) {
                    Some(e) => out.push(ExternArg::Expr(e)),
                    None => {
                        let mut leaves = Vec::new();
                        self.value_leaves(&value, &a.ty, &mut leaves, false);
                        out.push(ExternArg::List(leaves));
                    }
                },
            }
        }
        (out, after)
    }

    /// The parts of a hash or digest input.
    pub(super) fn value_leaves(&mut self, v: &Val, ty: &Type, out: &mut Vec<Leaf>, headers: bool) {
        let poison = ir::Expr {
            kind: ir::ExprKind::Poison,
            ty: Type::Poison,
            span: Span::default(),
        };
        if let Some(e) = self.to_scalar(v.clone()) {
            out.push(Leaf::Expr(e));
            return;
        }
        match v {
            Val::Place(Place::Header(h @ HeaderRef::Named(_), _)) if headers => out.push(Leaf::Header(h.clone())),
            Val::Place(Place::Stack(s)) => {
                let items = self
                    .out
                    .storage
                    .stacks
                    .iter()
                    .find(|x| x.0 == *s)
                    .map(|x| x.2.clone())
                    .unwrap_or_default();
                out.extend(items.into_iter().map(|h| Leaf::Header(HeaderRef::Named(h))));
            }
            _ => {
                let under = self.program.underlying(ty);
                if let Type::Array(item, n) = &under {
                    for i in 0..*n as usize {
                        let part = self.element(v, i);
                        self.value_leaves(&part, item, out, headers);
                    }
                    return;
                }
                for (i, (_, t)) in self.program.fields(&under).into_iter().enumerate() {
                    let part = self.part(v, &under, i, &poison);
                    self.value_leaves(&part, &t, out, headers);
                }
            }
        }
    }

    fn extern_function(&mut self, name: &Rc<str>, call: &ir::Call, e: &ir::Expr) -> Val {
        if &**name == "verify" {
            let items: Vec<&ir::Expr> = call.args.iter().filter_map(|a| a.value.as_ref()).collect();
            let mut v = self.in_order(&items).into_iter();
            if let (Some(c), Some(err)) = (v.next(), v.next()) {
                self.emit(Op::Verify(c, err), e.span);
            }
            return Val::Unit;
        }
        let (mut args, after) = self.extern_args(&call.args, e.span);
        let result = self.extern_result(name, e, &mut args);
        let data_type = match &**name {
            "digest" => call.args.get(1).map(|a| a.ty.clone()),
            _ => None,
        };
        self.emit(
            Op::Extern {
                name: name.to_string(),
                object: None,
                args,
                data_type,
            },
            e.span,
        );
        self.write_back(after, e.span);
        result
    }

    /// BMv2's primitives return nothing: the result becomes an output, the first argument.
    fn extern_result(&mut self, name: &str, e: &ir::Expr, args: &mut Vec<ExternArg>) -> Val {
        if e.ty == Type::Void {
            return Val::Unit;
        }
        match self.scalar_ty(&e.ty).map(|ty| self.temp(ty, &format!("{name}.result"))) {
            Some(Place::Scalar(loc, ty)) => {
                args.insert(0, ExternArg::Out(loc.clone(), ty));
                Val::Place(Place::Scalar(loc, ty))
            }
            _ => {
                let ty = self.program.show(&e.ty);
                self.error(
                    e.span,
                    format!("{name} returns {ty}, which this target has no place for"),
                );
                Val::Unit
            }
        }
    }

    fn write_back(&mut self, after: Vec<(ir::Expr, Place)>, span: Span) {
        for (target, place) in after {
            let value = self.program.vars.len() as u32;
            let _ = value;
            if let Place::Scalar(loc, ty) = place {
                self.assign_value(&target, Self::load(loc, ty), span);
            }
        }
    }

    pub(super) fn assign_value(&mut self, target: &ir::Expr, value: Expr, span: Span) {
        // Bind the value to a fresh variable of the typed program's numbering, which nothing else uses.
        let id = VarId(u32::MAX);
        self.env.insert(id, Place::Value(Box::new(Val::Scalar(value))));
        let right = ir::Expr {
            kind: ir::ExprKind::Var(id),
            ty: target.ty.clone(),
            span,
        };
        self.assign(target, &right, span);
        self.env.remove(&id);
    }

    fn extern_method(&mut self, object: &ir::Expr, method: &str, call: &ir::Call, e: &ir::Expr) -> Val {
        let kind = match &object.ty {
            Type::Extern(id, _) => self
                .program
                .externs
                .get(id.index())
                .map_or_else(String::new, |x| x.name.to_string()),
            _ => String::new(),
        };
        if kind == "packet_in" {
            return self.packet_in(method, call, e);
        }
        let Some(Place::Object(name)) = self.place_of(object) else {
            self.error(e.span, format!("{kind}.{method} is not supported here"));
            return Val::Unit;
        };
        let (mut args, after) = self.extern_args(&call.args, e.span);
        let result = self.extern_result(method, e, &mut args);
        self.emit(
            Op::Extern {
                name: format!("{kind}.{method}"),
                object: Some(name),
                args,
                data_type: None,
            },
            e.span,
        );
        self.write_back(after, e.span);
        result
    }

    fn packet_in(&mut self, method: &str, call: &ir::Call, e: &ir::Expr) -> Val {
        let first = call.args.first().and_then(|a| a.value.as_ref());
        match (method, first) {
            ("extract", _) => {
                let size = call.args.get(1).and_then(|a| a.value.as_ref()).map(|v| self.scalar(v));
                match first.map(|f| self.expr(f)) {
                    Some(Val::Place(place)) => {
                        self.extract(&place, size.as_ref(), e.span);
                        if let Some(target) = first {
                            self.advance_next_index(target, e.span);
                        }
                    }
                    None => {
                        // `extract<T>(_)`: skip over a header.
                        let bits = call.args.first().and_then(|a| self.program.width(&a.ty)).unwrap_or(0);
                        self.emit(Op::Advance(Self::constant(bits, Ty::Bit(32))), e.span);
                    }
                    Some(_) => self.error(e.span, "only headers can be extracted"),
                }
                Val::Unit
            }
            ("advance", Some(n)) => {
                let n = self.scalar(n);
                self.emit(Op::Advance(n), e.span);
                Val::Unit
            }
            ("lookahead", _) => self.lookahead(&e.ty, e.span),
            _ => {
                self.error(e.span, format!("packet_in.{method} is not supported by this target"));
                Val::Unit
            }
        }
    }

    fn lookahead(&mut self, ty: &Type, span: Span) -> Val {
        let place = self.allocate("lookahead", ty, span);
        let mut offset = 0;
        self.look_into(&place, ty, &mut offset, span);
        Val::Place(place)
    }

    /// Fills a place from the bits at `offset`; headers in it become valid.
    fn look_into(&mut self, place: &Place, ty: &Type, offset: &mut u32, span: Span) {
        let under = self.program.underlying(ty);
        match (place, &under) {
            (Place::Scalar(_, t), _) if t.width() == 0 => {}
            (Place::Scalar(loc, t), _) => {
                let value = Expr {
                    kind: ExprKind::Lookahead(*offset, t.width()),
                    ty: *t,
                };
                self.emit(Op::Assign(loc.clone(), *t, value), span);
                *offset = offset.saturating_add(t.width());
            }
            (Place::Header(..) | Place::Group(_), _) => {
                if let Place::Header(h, _) = place {
                    self.emit(Op::SetValid(h.clone(), true), span);
                }
                for (i, (_, t)) in self.program.fields(&under).into_iter().enumerate() {
                    if let Some(part) = self.member(place, &under, i, span) {
                        self.look_into(&part, &t, offset, span);
                    }
                }
            }
            (Place::Stack(s), Type::Array(item, _)) => {
                let stack = self.out.storage.stacks.iter().find(|x| x.0 == *s).cloned();
                for (header, t) in stack
                    .into_iter()
                    .flat_map(|(_, t, all)| all.into_iter().map(move |h| (h, t)))
                {
                    self.look_into(&Place::Header(HeaderRef::Named(header), t), item, offset, span);
                }
            }
            (Place::List(items), Type::Array(item, _)) => {
                items.iter().for_each(|p| self.look_into(p, item, offset, span));
            }
            _ => {
                let shown = self.program.show(ty);
                self.error(span, format!("this target cannot look ahead into {shown}"));
            }
        }
    }
}

/// Storage that does not depend on a value that may change.
fn is_static(p: &Place) -> bool {
    match p {
        Place::Scalar(crate::lir::Loc::Of(..), _) => false,
        Place::Header(h, _) => matches!(h, HeaderRef::Named(_)),
        Place::Group(items) | Place::List(items) => items.iter().all(is_static),
        Place::Choice(..) => false,
        _ => true,
    }
}

/// Variables that code names, also through the actions it calls.
#[derive(Default)]
struct Seen {
    vars: HashSet<VarId>,
    actions: HashSet<ir::ActionId>,
    order: Vec<VarId>,
}

impl Seen {
    fn expr(&mut self, program: &ir::Program, e: &ir::Expr) {
        match &e.kind {
            ir::ExprKind::Var(v) if self.vars.insert(*v) => self.order.push(*v),
            ir::ExprKind::Call(c) => {
                if let Callee::Action(a) = &c.callee
                    && self.actions.insert(*a)
                    && let Some(a) = program.actions.get(a.index())
                {
                    ir::walk::stmt_exprs(&a.body, &mut |e| self.expr(program, e));
                }
            }
            _ => {}
        }
        ir::walk::children(e, &mut |c| self.expr(program, c));
    }
}
