//! Calls: functions, actions, extern methods, built-in methods, `apply`, constructors; overloads and arguments.

use super::{Checker, Entity, FunctionDecl, MAX_SPECIALISATIONS};
use crate::ast::{self, Direction, ExprKind as E};
use crate::diagnostics::Lint;
use crate::ir::ty::{Subst, Type};
use crate::ir::*;
use crate::source::Span;
use num_bigint::BigInt;
use num_traits::ToPrimitive;
use std::rc::Rc;

/// Largest count of `push_front` and `pop_front`.
const MAX_SHIFT: u32 = 65_535;

impl Checker<'_> {
    pub(super) fn call(
        &mut self,
        callee: &ast::Expr,
        targs: &[ast::TypeRef],
        args: &[ast::Arg],
        expected: Option<&Type>,
        span: Span,
    ) -> Expr {
        match &callee.kind {
            E::Name { global, name } => self.call_name(*global, name, targs, args, expected, span),
            E::Type(t) => self.construct(t, args, span),
            E::Member(base, name) => self.call_method(base, name, targs, args, expected, span),
            _ => self.error(span, "this cannot be called", self.poison(span)),
        }
    }

    fn call_name(
        &mut self,
        global: bool,
        name: &ast::Ident,
        targs: &[ast::TypeRef],
        args: &[ast::Arg],
        expected: Option<&Type>,
        span: Span,
    ) -> Expr {
        match self.lookup(&name.name, global).cloned() {
            Some(Entity::Functions(list)) => {
                let sigs: Vec<(usize, Rc<Signature>)> = list
                    .iter()
                    .filter_map(|i| self.functions.get(*i).map(|f| (*i, f.sig.clone())))
                    .collect();
                let Some(index) = self.overload(
                    &sigs.iter().map(|s| (*s.1).clone()).collect::<Vec<_>>(),
                    args,
                    name,
                    span,
                ) else {
                    return self.poison(span);
                };
                let Some((id, sig)) = sigs.get(index).cloned() else {
                    return self.poison(span);
                };
                self.deprecated(&sig, span);
                let Some((call_args, type_args, result)) = self.bind(&sig, &Subst::new(), targs, args, expected, span)
                else {
                    return self.poison(span);
                };
                self.check_args(&call_args, span);
                if &*sig.name == "verify"
                    && !self.in_parser
                    && self.result.is_none()
                    && self.functions.get(id).is_some_and(|f| f.source.is_none())
                {
                    return self.error(span, "verify can only be called in a parser", self.poison(span));
                }
                if &*sig.name == "static_assert" {
                    return self.static_assert(&call_args, span);
                }
                let callee = if self.functions.get(id).is_some_and(|f| f.source.is_some()) {
                    match self.specialise(id, &type_args, span) {
                        Some(f) => Callee::Function(f),
                        None => return self.poison(span),
                    }
                } else {
                    Callee::ExternFunction(sig.name.clone())
                };
                let call = Call {
                    callee,
                    type_args,
                    args: call_args,
                };
                Expr {
                    kind: ExprKind::Call(Box::new(call)),
                    ty: result,
                    span,
                }
            }
            Some(Entity::Action(_)) if self.in_parser || self.result.is_some() => {
                let place = if self.in_parser { "parser" } else { "function" };
                self.error(span, format!("a {place} cannot call an action"), self.poison(span))
            }
            Some(Entity::Action(id)) => {
                let sig = self.action_sig(id);
                let Some((args, _, _)) = self.bind(&sig, &Subst::new(), targs, args, None, span) else {
                    return self.poison(span);
                };
                let call = Call {
                    callee: Callee::Action(id),
                    type_args: Vec::new(),
                    args,
                };
                Expr {
                    kind: ExprKind::Call(Box::new(call)),
                    ty: Type::Void,
                    span,
                }
            }
            Some(Entity::Poison) => self.poison(span),
            Some(_) => self.error(span, format!("{} cannot be called", name.name), self.poison(span)),
            None => self.error(
                name.span,
                format!("no function or action {} is declared", name.name),
                self.poison(span),
            ),
        }
    }

    fn static_assert(&mut self, args: &[Arg], span: Span) -> Expr {
        let value = args.first().and_then(|a| a.value.as_ref());
        match value.map(|v| v.as_bool()) {
            Some(Some(true)) => Expr {
                kind: ExprKind::Bool(true),
                ty: Type::Bool,
                span,
            },
            Some(Some(false)) => {
                let text = args.get(1).and_then(|a| a.value.as_ref()).map(|v| match &v.kind {
                    ExprKind::Str(s) => s.to_string(),
                    _ => String::new(),
                });
                let text = text.map_or_else(
                    || "static_assert failed".to_string(),
                    |t| format!("static_assert failed: {t}"),
                );
                self.error(span, text, self.poison(span))
            }
            _ => self.error(
                span,
                "static_assert needs a condition known at compile time",
                self.poison(span),
            ),
        }
    }

    pub(super) fn deprecated(&mut self, sig: &Signature, span: Span) {
        if let Some(a) = sig.annotations.get("deprecated") {
            let text = a.string().unwrap_or_default();
            self.sink
                .warn(Lint::Deprecated, span, format!("{} is deprecated: {text}", sig.name));
        }
    }

    pub(super) fn action_sig(&self, id: ActionId) -> Signature {
        let action = self.program.actions.get(id.index());
        let params = action.map(|a| a.params.clone()).unwrap_or_default();
        let defaults = action.map(|a| a.defaults.clone()).unwrap_or_default();
        let params = params
            .iter()
            .zip(defaults)
            .filter_map(|(p, default)| self.program.vars.get(p.index()).map(|v| (v, default)))
            .map(|(v, default)| ParamDecl {
                name: v.name.clone(),
                direction: if let VarKind::Param(d) = v.kind {
                    d
                } else {
                    Direction::None
                },
                ty: v.ty.clone(),
                default,
                optional: false,
                annotations: v.annotations.clone(),
                span: v.span,
            });
        Signature {
            name: action.map_or_else(|| "".into(), |a| a.name.clone()),
            type_params: Vec::new(),
            params: params.collect(),
            result: Type::Void,
            annotations: Default::default(),
            is_abstract: false,
            span: action.map_or(Span::default(), |a| a.span),
        }
    }

    /// Picks an overload by the number and names of the arguments, then, if several remain, by their types.
    fn overload(&mut self, sigs: &[Signature], args: &[ast::Arg], name: &ast::Ident, span: Span) -> Option<usize> {
        let fits = |s: &Signature| {
            let required = s.params.iter().filter(|p| p.default.is_none() && !p.optional).count();
            let named = args
                .iter()
                .filter_map(|a| a.name.as_ref())
                .all(|n| s.params.iter().any(|p| p.name == n.name));
            args.len() <= s.params.len() && args.len() >= required.min(s.params.len()) && named
        };
        let mut list: Vec<usize> = sigs
            .iter()
            .enumerate()
            .filter(|(_, s)| fits(s))
            .map(|(i, _)| i)
            .collect();
        if list.len() > 1 {
            self.trying += 1;
            let values: Vec<Option<Expr>> = args.iter().map(|a| a.value.as_ref().map(|v| self.tried(v))).collect();
            list.retain(|i| sigs.get(*i).is_some_and(|s| self.types_fit(s, args, &values)));
            self.trying -= 1;
            if self.trying == 0 {
                self.tried.clear();
            }
        }
        match list.as_slice() {
            [one] => Some(*one),
            [] if sigs.len() == 1 => Some(0),
            [] => self.error(
                span,
                format!("no declaration of {} takes these arguments", name.name),
                None,
            ),
            [first, second, ..] => {
                let notes = [first, second].map(|i| sigs.get(*i).map_or(span, |s| s.span));
                let [first, _] = notes;
                self.sink.error_note(
                    span,
                    format!("this call of {} is ambiguous", name.name),
                    first,
                    "one candidate",
                );
                None
            }
        }
    }

    fn tried(&mut self, value: &ast::Expr) -> Expr {
        let key = std::ptr::from_ref(value);
        if let Some(e) = self.tried.get(&key) {
            return e.clone();
        }
        self.sink.mute();
        let e = self.expr(value, None);
        self.sink.unmute();
        self.tried.insert(key, e.clone());
        e
    }

    fn types_fit(&mut self, sig: &Signature, args: &[ast::Arg], values: &[Option<Expr>]) -> bool {
        let saved = self.infer.clone();
        let map: Subst = sig.type_params.iter().map(|p| (*p, self.fresh())).collect();
        let mut ok = true;
        for (i, (arg, value)) in args.iter().zip(values).enumerate() {
            let param = match &arg.name {
                Some(n) => sig.params.iter().find(|p| p.name == n.name),
                None => sig.params.get(i),
            };
            let (Some(param), Some(value)) = (param, value) else {
                continue;
            };
            let ty = param.ty.subst(&map);
            // An argument that could not be checked without its parameter may still fit.
            ok &= matches!(value.kind, ExprKind::Poison) || self.try_coerce(value.clone(), &ty).is_ok();
        }
        self.infer = saved;
        ok
    }

    /// Matches arguments to parameters, infers type arguments, and checks directions.
    #[allow(clippy::type_complexity)]
    pub(super) fn bind(
        &mut self,
        sig: &Signature,
        outer: &Subst,
        targs: &[ast::TypeRef],
        args: &[ast::Arg],
        expected: Option<&Type>,
        span: Span,
    ) -> Option<(Vec<Arg>, Vec<Type>, Type)> {
        let mut map = outer.clone();
        if !targs.is_empty() && targs.len() != sig.type_params.len() {
            return self.error(
                span,
                format!(
                    "{} takes {} type arguments, not {}",
                    sig.name,
                    sig.type_params.len(),
                    targs.len()
                ),
                None,
            );
        }
        for (i, p) in sig.type_params.iter().enumerate() {
            let ty = match targs.get(i) {
                Some(t) => self.ty(t),
                None => self.fresh(),
            };
            map.insert(*p, ty);
        }
        let result = sig.result.subst(&map);
        if let Some(expected) = expected
            && targs.is_empty()
            && matches!(self.shallow(&result), Type::Var(_))
            && !matches!(self.shallow(expected), Type::Integer | Type::Tuple(_) | Type::Record(_))
        {
            self.unify(&result, &expected.clone());
        }
        let slots = self.arrange(sig, args, span)?;
        let mut out: Vec<Option<Arg>> = vec![None; sig.params.len()];
        // Literals without a width wait until the other arguments have fixed the type.
        for late in [false, true] {
            for (i, param) in sig.params.iter().enumerate() {
                let Some(slot) = slots.get(i) else { continue };
                let is_late = slot.is_some_and(|a| a.value.as_ref().is_some_and(is_bare_literal));
                if is_late != late || out.get(i).is_some_and(Option::is_some) {
                    continue;
                }
                let ty = param.ty.subst(&map);
                let value = self.argument(*slot, param, &ty, span);
                if let Some(o) = out.get_mut(i) {
                    *o = Some(Arg {
                        direction: param.direction,
                        value,
                        ty,
                    });
                }
            }
        }
        let mut type_args = Vec::new();
        for p in &sig.type_params {
            let ty = map.get(p).cloned().unwrap_or(Type::Poison);
            type_args.push(self.zonk(&ty));
        }
        let mut out: Vec<Arg> = out.into_iter().flatten().collect();
        for a in &mut out {
            a.ty = self.zonk(&a.ty);
            if let Some(v) = &mut a.value {
                self.finish(v);
            }
        }
        let result = self.zonk(&result);
        Some((out, type_args, result))
    }

    /// For each parameter the argument written for it.
    fn arrange<'b>(&mut self, sig: &Signature, args: &'b [ast::Arg], span: Span) -> Option<Vec<Option<&'b ast::Arg>>> {
        let mut slots: Vec<Option<&ast::Arg>> = vec![None; sig.params.len()];
        for (i, arg) in args.iter().enumerate() {
            let at = match &arg.name {
                Some(n) => match sig.params.iter().position(|p| p.name == n.name) {
                    Some(at) => at,
                    None => return self.error(n.span, format!("{} has no parameter {}", sig.name, n.name), None),
                },
                None => i,
            };
            match slots.get_mut(at) {
                Some(slot @ None) => *slot = Some(arg),
                Some(_) => return self.error(arg.span, "this argument is given twice", None),
                None => {
                    let n = sig.params.len();
                    return self.error(
                        arg.span,
                        format!("{} takes {n} arguments, not {}", sig.name, args.len()),
                        None,
                    );
                }
            }
        }
        for (slot, p) in slots.iter().zip(&sig.params) {
            if slot.is_none() && p.default.is_none() && !p.optional {
                return self.error(span, format!("argument {} of {} is missing", p.name, sig.name), None);
            }
        }
        if args.iter().any(|a| a.name.is_some()) && args.iter().any(|a| a.name.is_none()) {
            return self.error(span, "either all arguments are named or none", None);
        }
        Some(slots)
    }

    fn argument(&mut self, slot: Option<&ast::Arg>, param: &ParamDecl, ty: &Type, span: Span) -> Option<Expr> {
        let Some(arg) = slot else {
            return param.default.clone().map(|d| Expr { span, ..d });
        };
        let Some(value) = &arg.value else {
            if param.direction != Direction::Out {
                self.sink.error(arg.span, "'_' stands only for an out parameter");
            }
            return None;
        };
        let e = self.expr(value, Some(ty));
        let writes = matches!(param.direction, Direction::Out | Direction::InOut);
        if writes {
            if !self.is_lvalue(&e) {
                return self.error(
                    arg.span,
                    format!("parameter {} is written: a variable is needed here", param.name),
                    Some(self.poison(arg.span)),
                );
            }
            if !self.unify(ty, &e.ty.clone()) {
                let (w, g) = (self.show(ty), self.show(&e.ty));
                return self.error(
                    arg.span,
                    format!("parameter {}: expected {w}, found {g}", param.name),
                    Some(self.poison(arg.span)),
                );
            }
            return Some(e);
        }
        Some(self.coerce(e, ty, &format!("parameter {}", param.name)))
    }

    /// The function's body for these type arguments.
    fn specialise(&mut self, index: usize, type_args: &[Type], span: Span) -> Option<FunctionId> {
        let f = self.functions.get(index)?;
        if let Some(id) = f.instances.get(type_args) {
            return Some(*id);
        }
        if type_args.iter().any(|t| t.has_vars() || *t == Type::Void) {
            return self.error(
                span,
                "cannot infer the type arguments of this call; write them out",
                None,
            );
        }
        let (sig, source) = (f.sig.clone(), f.source.clone()?);
        if self.program.functions.len() > MAX_SPECIALISATIONS || self.depth > 100 {
            return self.error(span, "too many specialisations of functions", None);
        }
        let id = FunctionId(self.program.functions.len() as u32);
        let empty = Function {
            name: sig.name.clone(),
            params: Vec::new(),
            result: Type::Void,
            body: Vec::new(),
        };
        self.program.functions.push(empty);
        if let Some(f) = self.functions.get_mut(index) {
            f.instances.insert(type_args.to_vec(), id);
        }
        self.function_body(id, &source.0, &source.1, type_args);
        Some(id)
    }

    pub(super) fn add_function(&mut self, name: &ast::Ident, decl: FunctionDecl) -> usize {
        let index = self.functions.len();
        let mut list = match self.lookup(&name.name, true) {
            Some(Entity::Functions(list)) => list.clone(),
            _ => Vec::new(),
        };
        for old in &list {
            if let Some(f) = self.functions.get(*old)
                && f.sig.params.len() == decl.sig.params.len()
                && f.sig
                    .params
                    .iter()
                    .zip(&decl.sig.params)
                    .all(|(a, b)| a.name == b.name && a.ty == b.ty)
                && f.sig.type_params.is_empty()
            {
                let old = f.sig.span;
                self.sink.error_note(
                    name.span,
                    format!("{} is declared twice", name.name),
                    old,
                    "first declared here",
                );
            }
        }
        list.push(index);
        self.functions.push(decl);
        self.declare(name, Entity::Functions(list));
        index
    }

    fn call_method(
        &mut self,
        base: &ast::Expr,
        name: &ast::Ident,
        targs: &[ast::TypeRef],
        args: &[ast::Arg],
        expected: Option<&Type>,
        span: Span,
    ) -> Expr {
        if let E::Name { global, name: table } = &base.kind
            && let Some(Entity::Table(id)) = self.lookup(&table.name, *global)
        {
            let id = *id;
            if &*name.name != "apply" || !args.is_empty() {
                return self.error(span, "a table only has apply(), without arguments", self.poison(span));
            }
            if self.in_action || self.result.is_some() || self.in_parser {
                return self.error(
                    span,
                    "a table is applied only in a control's apply block",
                    self.poison(span),
                );
            }
            let call = Call {
                callee: Callee::TableApply(id),
                type_args: Vec::new(),
                args: Vec::new(),
            };
            return Expr {
                kind: ExprKind::Call(Box::new(call)),
                ty: Type::ApplyResult(id),
                span,
            };
        }
        if let E::Type(t) = &base.kind {
            return self.direct_apply(t, name, args, span);
        }
        let object = self.expr(base, None);
        let ty = self.zonk(&object.ty);
        match &ty {
            Type::Poison => self.poison(span),
            Type::Extern(id, targs_outer) => {
                self.extern_method(object, *id, targs_outer, name, targs, args, expected, span)
            }
            Type::Control(_) | Type::Parser(_) | Type::Block(..) if &*name.name == "apply" => {
                self.block_apply(object, &ty, args, span)
            }
            _ => self.builtin(object, &ty, name, args, span),
        }
    }

    #[allow(clippy::too_many_arguments)]
    fn extern_method(
        &mut self,
        object: Expr,
        id: ExternId,
        outer: &Rc<[Type]>,
        name: &ast::Ident,
        targs: &[ast::TypeRef],
        args: &[ast::Arg],
        expected: Option<&Type>,
        span: Span,
    ) -> Expr {
        let Some(decl) = self.program.externs.get(id.index()) else {
            return self.poison(span);
        };
        let decl_name = decl.name.clone();
        let map: Subst = decl.type_params.iter().copied().zip(outer.iter().cloned()).collect();
        let sigs: Vec<Signature> = decl.methods.iter().filter(|m| m.name == name.name).cloned().collect();
        if sigs.is_empty() {
            let message = format!("{} has no method {}", decl.name, name.name);
            return self.error(name.span, message, self.poison(span));
        }
        let Some(sig) = self
            .overload(&sigs, args, name, span)
            .and_then(|i| sigs.get(i).cloned())
        else {
            return self.poison(span);
        };
        self.deprecated(&sig, span);
        let is_packet_in = &*decl_name == "packet_in";
        let Some((args, type_args, ty)) = self.bind(&sig, &map, targs, args, expected, span) else {
            return self.poison(span);
        };
        self.check_args(&args, span);
        if is_packet_in {
            self.check_packet_in(&name.name, &args, &ty, span);
        }
        let call = Call {
            callee: Callee::ExternMethod(Box::new(object), name.name.clone()),
            type_args,
            args,
        };
        Expr {
            kind: ExprKind::Call(Box::new(call)),
            ty,
            span,
        }
    }

    fn block_apply(&mut self, object: Expr, ty: &Type, args: &[ast::Arg], span: Span) -> Expr {
        let sig = match ty {
            Type::Control(id) => self.program.controls.get(id.index()).map(|c| c.apply_sig.clone()),
            Type::Parser(id) => self.program.parsers.get(id.index()).map(|c| c.apply_sig.clone()),
            // A constructor parameter: its block is known only when the instance is made.
            Type::Block(id, targs) => self.program.block_types.get(id.index()).map(|b| {
                let map: Subst = b.sig.type_params.iter().copied().zip(targs.iter().cloned()).collect();
                let mut sig = b.sig.clone();
                sig.type_params.clear();
                sig.params.iter_mut().for_each(|p| p.ty = p.ty.subst(&map));
                sig
            }),
            _ => None,
        };
        let Some(sig) = sig else { return self.poison(span) };
        let is_parser = match ty {
            Type::Block(id, _) => self.program.block_types.get(id.index()).is_some_and(|b| b.is_parser),
            _ => matches!(ty, Type::Parser(_)),
        };
        if is_parser != self.in_parser || self.in_action || self.result.is_some() {
            return self.error(
                span,
                "a parser is applied only in a parser, a control only in a control",
                self.poison(span),
            );
        }
        let Some((args, _, _)) = self.bind(&sig, &Subst::new(), &[], args, None, span) else {
            return self.poison(span);
        };
        let call = Call {
            callee: Callee::Apply(Box::new(object)),
            type_args: Vec::new(),
            args,
        };
        Expr {
            kind: ExprKind::Call(Box::new(call)),
            ty: Type::Void,
            span,
        }
    }

    /// `T.apply(...)`: an instance is made on the spot (section "Direct type invocation").
    fn direct_apply(&mut self, t: &ast::TypeRef, name: &ast::Ident, args: &[ast::Arg], span: Span) -> Expr {
        let ty = self.ty(t);
        if ty.is_poison() {
            return self.poison(span);
        }
        if &*name.name == "minSizeInBits"
            || &*name.name == "minSizeInBytes"
            || &*name.name == "maxSizeInBits"
            || &*name.name == "maxSizeInBytes"
        {
            return self.size_of(&ty, &name.name, span);
        }
        if &*name.name != "apply" || !matches!(ty, Type::Control(_) | Type::Parser(_)) {
            return self.error(span, format!("a type has no {}", name.name), self.poison(span));
        }
        let object = self.construct(t, &[], span);
        let ty = object.ty.clone();
        if let ExprKind::Instance(id) = object.kind
            && let Some(i) = self.program.instances.get_mut(id.index())
        {
            i.nameless = false;
        }
        self.block_apply(object, &ty, args, span)
    }

    fn size_of(&mut self, ty: &Type, what: &str, span: Span) -> Expr {
        let bits = if what.starts_with("min") {
            self.min_width(ty)
        } else {
            self.program.width(ty)
        };
        match bits {
            Some(bits) => {
                let value = if what.ends_with("Bytes") {
                    bits.div_ceil(8)
                } else {
                    bits
                };
                Expr {
                    kind: ExprKind::Int(BigInt::from(value)),
                    ty: Type::Integer,
                    span,
                }
            }
            None => {
                let s = self.show(ty);
                self.error(span, format!("{s} has no size"), self.poison(span))
            }
        }
    }

    fn min_width(&self, ty: &Type) -> Option<u64> {
        match self.program.underlying(ty) {
            Type::Varbit(_) => Some(0),
            ref t @ (Type::Struct(..) | Type::Tuple(_)) => {
                let mut all = Vec::new();
                for f in self.program.fields(t) {
                    all.push(self.min_width(&f.1)?);
                }
                if self.program.is_union(t) {
                    Some(all.into_iter().min().unwrap_or(0))
                } else {
                    Some(all.iter().sum())
                }
            }
            Type::Array(t, n) => self.min_width(&t)?.checked_mul(u64::from(n)),
            _ => self.program.width(ty),
        }
    }

    fn builtin(&mut self, object: Expr, ty: &Type, name: &ast::Ident, args: &[ast::Arg], span: Span) -> Expr {
        if name.name.starts_with("minSizeIn") || name.name.starts_with("maxSizeIn") {
            return self.size_of(ty, &name.name, span);
        }
        let header = self.program.is_header(ty);
        let union = self.program.is_union(ty);
        let lvalue = self.is_lvalue(&object);
        let object_box = Box::new(object);
        let count = |c: &mut Self| -> Option<u32> {
            let arg = args.first().and_then(|a| a.value.as_ref())?;
            let e = c.expr(arg, None);
            match e.as_int().and_then(ToPrimitive::to_u32) {
                Some(n) if n <= MAX_SHIFT && args.len() == 1 => Some(n),
                _ => c.error(arg.span, "the count must be a constant that is not negative", None),
            }
        };
        let (callee, result, writes) = match &*name.name {
            "isValid" if header || union => (Callee::IsValid(object_box), Type::Bool, false),
            "setValid" if header => (Callee::SetValid(object_box), Type::Void, true),
            "setInvalid" if header => (Callee::SetInvalid(object_box), Type::Void, true),
            "push_front" | "pop_front" if matches!(ty, Type::Array(..)) => {
                let Some(n) = count(self) else { return self.poison(span) };
                let callee = if &*name.name == "push_front" {
                    Callee::Push(object_box, n)
                } else {
                    Callee::Pop(object_box, n)
                };
                (callee, Type::Void, true)
            }
            _ => {
                let s = self.show(ty);
                return self.error(name.span, format!("{s} has no method {}", name.name), self.poison(span));
            }
        };
        if writes && !lvalue {
            return self.error(span, "this cannot be changed here", self.poison(span));
        }
        if !args.is_empty() && matches!(callee, Callee::IsValid(_) | Callee::SetValid(_) | Callee::SetInvalid(_)) {
            return self.error(span, format!("{} takes no arguments", name.name), self.poison(span));
        }
        let call = Call {
            callee,
            type_args: Vec::new(),
            args: Vec::new(),
        };
        Expr {
            kind: ExprKind::Call(Box::new(call)),
            ty: result,
            span,
        }
    }

    /// A constructor call in an expression: a nameless instance.
    fn construct(&mut self, t: &ast::TypeRef, args: &[ast::Arg], span: Span) -> Expr {
        let name = ast::Ident {
            name: match &t.kind {
                ast::TypeRefKind::Name { name, .. } => name.name.clone(),
                _ => "".into(),
            },
            span,
        };
        match self.instance(&name, t, args, Default::default(), span) {
            Some(id) => {
                let ty = self
                    .program
                    .instances
                    .get(id.index())
                    .map_or(Type::Poison, |i| i.ty.clone());
                if let Some(i) = self.program.instances.get_mut(id.index()) {
                    i.nameless = true;
                }
                Expr {
                    kind: ExprKind::Instance(id),
                    ty,
                    span,
                }
            }
            None => self.poison(span),
        }
    }
}

fn is_bare_literal(e: &ast::Expr) -> bool {
    match &e.kind {
        E::Int(_, None) => true,
        E::Unary(_, a) => is_bare_literal(a),
        E::Binary(_, a, b) => is_bare_literal(a) && is_bare_literal(b),
        _ => false,
    }
}
