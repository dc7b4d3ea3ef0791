//! Parsers, their states and value sets (section "Packet parsing").

use super::rules::Site;
use super::{Checker, Entity};
use crate::ast::{self, ExprKind as E};
use crate::diagnostics::Lint;
use crate::ir::ty::Type;
use crate::ir::*;
use crate::known::Place;
use std::collections::HashMap;
use std::rc::Rc;

impl Checker<'_> {
    pub(super) fn parser(
        &mut self,
        d: &ast::Decl,
        header: &ast::BlockTypeDecl,
        ctor: &[ast::Param],
        locals: &[ast::Decl],
        states: &[ast::State],
    ) {
        if !header.type_params.is_empty() {
            self.sink
                .error(d.name.span, "a parser with a body cannot have type parameters");
        }
        let was = std::mem::replace(&mut self.in_parser, true);
        self.push();
        let decls = self.params_sig(d, &header.params);
        self.check_params(&decls.params, Site::Block);
        self.pop();
        self.push();
        let params = self.params(&header.params, false);
        let (ctor, ctor_sig) = self.ctor_params(ctor);
        let unit = std::mem::replace(&mut self.unit_scope, self.scopes.len() - 1);
        self.push();
        let locals = locals.iter().filter_map(|l| self.local(l)).collect();
        let mut names: HashMap<Rc<str>, usize> = HashMap::new();
        for (i, s) in states.iter().enumerate() {
            if names.contains_key(&s.name.name) {
                self.sink
                    .error(s.name.span, format!("state {} is declared twice", s.name.name));
            }
            if matches!(&*s.name.name, "accept" | "reject") {
                self.sink
                    .error(s.name.span, format!("state {} cannot be declared", s.name.name));
            }
            names.entry(s.name.name.clone()).or_insert(i);
        }
        let start = names.get("start").copied();
        if start.is_none() {
            self.sink
                .error(d.name.span, format!("parser {} has no start state", d.name.name));
        }
        let source = states;
        let states: Vec<State> = states.iter().map(|s| self.state(s, &names)).collect();
        if let Some(start) = start {
            let live = reachable(&states, start);
            for (i, s) in source.iter().enumerate() {
                if live.get(i) == Some(&false) {
                    self.sink.warn(
                        Lint::Unreachable,
                        s.name.span,
                        format!("state {} is never reached", s.name.name),
                    );
                }
            }
        }
        if let Some(start) = start
            && !reaches_end(&states, start)
        {
            self.sink
                .error(d.name.span, "no path of this parser reaches accept or reject");
        }
        self.unit_scope = unit;
        self.pop();
        self.pop();
        self.in_parser = was;
        let annotations = self.annotations(&d.annotations, Place::Other);
        let id = ParserId(self.program.parsers.len() as u32);
        self.program.parsers.push(Parser {
            name: d.name.name.clone(),
            params,
            ctor,
            ctor_sig,
            apply_sig: decls,
            locals,
            states,
            start: start.unwrap_or(0),
            annotations,
            span: d.span,
        });
        self.declare(&d.name, Entity::Parser(id));
    }

    fn params_sig(&mut self, d: &ast::Decl, params: &[ast::Param]) -> Signature {
        let sig = ast::FunctionSig {
            annotations: d.annotations.clone(),
            is_abstract: false,
            result: None,
            name: d.name.clone(),
            type_params: Vec::new(),
            params: params.to_vec(),
        };
        self.signature(&sig)
    }

    fn state(&mut self, s: &ast::State, names: &HashMap<Rc<str>, usize>) -> State {
        self.push();
        let body = s.stmts.iter().flat_map(|s| self.stmt(s)).collect();
        let transition = match &s.transition {
            ast::Transition::None => Transition::Direct(StateRef::Reject),
            ast::Transition::Direct(name) => Transition::Direct(self.state_ref(name, names)),
            ast::Transition::Select(keys, cases, _) => self.select(keys, cases, names),
        };
        self.pop();
        let annotations = self.annotations(&s.annotations, Place::Other);
        State {
            name: s.name.name.clone(),
            body,
            transition,
            annotations,
            span: s.span,
        }
    }

    fn state_ref(&mut self, name: &ast::Ident, names: &HashMap<Rc<str>, usize>) -> StateRef {
        match &*name.name {
            "accept" => StateRef::Accept,
            "reject" => StateRef::Reject,
            _ => match names.get(&name.name).copied() {
                Some(i) => StateRef::State(i),
                None => self.error(
                    name.span,
                    format!("no state {} is declared", name.name),
                    StateRef::Reject,
                ),
            },
        }
    }

    fn select(&mut self, keys: &[ast::Expr], cases: &[ast::SelectCase], names: &HashMap<Rc<str>, usize>) -> Transition {
        let mut out_keys = Vec::new();
        for k in keys {
            let mut e = self.expr(k, None);
            self.finish(&mut e);
            if e.ty == Type::Integer {
                self.sink.error(k.span, "give this value a width");
            }
            let ty = self.zonk(&e.ty);
            let under = self.program.underlying(&ty);
            let scalar = matches!(
                under,
                Type::Bit(_) | Type::Int(_) | Type::Bool | Type::Enum(_) | Type::Error | Type::Integer | Type::Poison
            );
            if !scalar && !matches!(under, Type::Tuple(_)) {
                let shown = self.show(&ty);
                self.sink
                    .error(k.span, format!("select cannot look at a value of type {shown}"));
            }
            out_keys.push(e);
        }
        let types: Vec<Type> = out_keys.iter().map(|k| k.ty.clone()).collect();
        let mut out = Vec::new();
        let mut total = false;
        for c in cases {
            if total {
                self.sink
                    .warn(Lint::Unreachable, c.keyset.span, "the cases before match everything");
                total = false;
            }
            total |= matches!(c.keyset.kind, E::Default | E::DontCare);
            let sets = self.keyset(&c.keyset, &types);
            let state = self.state_ref(&c.state, names);
            out.push((sets, state));
        }
        Transition::Select(out_keys, out)
    }

    /// One set expression per key.
    pub(super) fn keyset(&mut self, e: &ast::Expr, types: &[Type]) -> Vec<Expr> {
        let items: Vec<&ast::Expr> = match &e.kind {
            E::Default | E::DontCare => {
                return types
                    .iter()
                    .map(|t| Expr {
                        kind: ExprKind::Any,
                        ty: t.clone(),
                        span: e.span,
                    })
                    .collect();
            }
            E::List(items) => items.iter().collect(),
            _ => vec![e],
        };
        if items.len() == 1 && types.len() > 1 {
            // A value set, or a constant for the whole key.
            if let Some(one) = items.first() {
                let v = self.expr(one, None);
                if matches!(v.kind, ExprKind::ValueSet(_)) {
                    return vec![v];
                }
                if let ExprKind::Aggregate(parts) = v.kind
                    && parts.len() == types.len()
                {
                    return parts
                        .into_iter()
                        .zip(types)
                        .map(|(p, t)| self.coerce(p, t, "a set expression"))
                        .collect();
                }
            }
        }
        if items.len() != types.len() {
            return self.error(
                e.span,
                format!("{} values are needed here, not {}", types.len(), items.len()),
                Vec::new(),
            );
        }
        items
            .iter()
            .zip(types)
            .map(|(item, ty)| self.set_expr(item, ty))
            .collect()
    }

    fn set_expr(&mut self, e: &ast::Expr, ty: &Type) -> Expr {
        let mut v = self.expr(e, Some(ty));
        match v.kind {
            ExprKind::Mask(ref a, ref b) | ExprKind::Range(ref a, ref b) => {
                for part in [a, b] {
                    if !part.ty.is_poison() && !self.is_elaborated(part) {
                        self.sink.error(part.span, "this value must be known at compile time");
                    }
                }
            }
            ExprKind::Any | ExprKind::Poison => {}
            ExprKind::ValueSet(_) => {
                if let Type::Set(inner) = v.ty.clone()
                    && !self.unify(&inner, ty)
                {
                    let single = self.program.fields(&inner);
                    if !matches!(single.as_slice(), [one] if self.unify(&one.1.clone(), ty)) {
                        self.sink.error(e.span, "this value set holds another type");
                    }
                }
            }
            _ => {
                v = self.coerce(v, ty, "a set expression");
                if !v.ty.is_poison() && !self.is_elaborated(&v) {
                    self.sink.error(e.span, "this value must be known at compile time");
                }
            }
        }
        self.finish(&mut v);
        v
    }

    pub(super) fn value_set(&mut self, d: &ast::Decl, ty: &ast::TypeRef, size: &ast::Expr) -> ValueSetId {
        let ty = self.ty(ty);
        let size = self.size(size, "a value set's size");
        let id = ValueSetId(self.program.value_sets.len() as u32);
        let annotations = self.annotations(&d.annotations, Place::ValueSet);
        self.program.value_sets.push(ValueSet {
            name: d.name.name.clone(),
            ty,
            size,
            annotations,
            span: d.span,
        });
        id
    }
}

/// Whether some path ends; a select that may match nothing rejects.
fn reaches_end(states: &[State], start: usize) -> bool {
    let mut seen = vec![false; states.len()];
    let mut todo = vec![start];
    while let Some(i) = todo.pop() {
        let Some(state) = states.get(i) else { return true };
        match seen.get_mut(i) {
            Some(s) if !*s => *s = true,
            _ => continue,
        }
        let next: Vec<StateRef> = match &state.transition {
            Transition::Direct(s) => vec![*s],
            Transition::Select(_, cases) => {
                let total = |sets: &[Expr]| sets.iter().all(|s| matches!(s.kind, ExprKind::Any));
                if !cases.iter().any(|c| total(&c.0)) {
                    return true;
                }
                cases.iter().map(|c| c.1).collect()
            }
        };
        for s in next {
            match s {
                StateRef::Accept | StateRef::Reject => return true,
                StateRef::State(i) => todo.push(i),
            }
        }
    }
    false
}

/// States that some path from the start reaches.
fn reachable(states: &[State], start: usize) -> Vec<bool> {
    let mut seen = vec![false; states.len()];
    let mut todo = vec![StateRef::State(start)];
    while let Some(next) = todo.pop() {
        let StateRef::State(i) = next else { continue };
        match seen.get_mut(i) {
            Some(s) if !*s => *s = true,
            _ => continue,
        }
        match states.get(i).map(|s| &s.transition) {
            Some(Transition::Direct(s)) => todo.push(*s),
            Some(Transition::Select(_, cases)) => todo.extend(cases.iter().map(|c| c.1)),
            None => {}
        }
    }
    seen
}
