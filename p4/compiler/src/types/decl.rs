//! Declarations of the program's outermost level and of parsers, controls and instances.

use super::rules::{Site, contains};
use super::{Checker, Entity, FunctionDecl};
use crate::ast::{self, DeclKind as D, Direction};
use crate::ir::annotation::Annotations;
use crate::ir::ty::{Subst, Type, no_args};
use crate::ir::*;
use crate::known::Place;
use crate::source::Span;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

impl Checker<'_> {
    pub(super) fn global(&mut self, d: &ast::Decl) {
        let is_type = matches!(
            d.kind,
            D::ExternObject { .. }
                | D::Struct { .. }
                | D::Parser { .. }
                | D::Control { .. }
                | D::ParserType(_)
                | D::ControlType(_)
                | D::Package(_)
        );
        if &*d.name.name == "main" && is_type {
            self.sink.error(d.name.span, "main must be an instance of a package");
        }
        match &d.kind {
            D::Const(..) => self.constant(d),
            D::Errors(names) => {
                let mut known: HashSet<Rc<str>> = self.program.errors.iter().cloned().collect();
                for n in names {
                    if !known.insert(n.name.clone()) {
                        self.sink.error(n.span, format!("error {} is declared twice", n.name));
                    } else {
                        self.program.errors.push(n.name.clone());
                    }
                }
            }
            D::MatchKinds(names) => {
                for n in names {
                    if self.program.match_kinds.contains(&n.name) {
                        self.sink
                            .error(n.span, format!("match kind {} is declared twice", n.name));
                    } else {
                        self.program.match_kinds.push(n.name.clone());
                        let kind = ExprKind::MatchKind(n.name.clone());
                        self.declare(
                            n,
                            Entity::Const(Expr {
                                kind,
                                ty: Type::MatchKind,
                                span: n.span,
                            }),
                        );
                    }
                }
            }
            D::Struct {
                kind,
                type_params,
                fields,
            } => self.structure(d, *kind, type_params, fields),
            D::Enum { repr, members } => self.enumeration(d, repr.as_ref(), members),
            D::Typedef(t) => {
                let ty = self.full_ty(t);
                self.annotations(&d.annotations, Place::Other);
                self.declare(&d.name, Entity::Type(ty));
            }
            D::NewType(t) => {
                let ty = self.full_ty(t);
                let ok = matches!(
                    self.program.underlying(&ty),
                    Type::Bit(_)
                        | Type::Int(_)
                        | Type::Bool
                        | Type::Varbit(_)
                        | Type::Poison
                        | Type::Integer
                        | Type::Error
                        | Type::Enum(_)
                ) || matches!(ty, Type::Newtype(_));
                if !ok {
                    let s = self.show(&ty);
                    self.sink.error(t.span, format!("a new type cannot be made of {s}"));
                }
                let id = NewtypeId(self.program.newtypes.len() as u32);
                let annotations = self.annotations(&d.annotations, Place::NewType);
                self.program.newtypes.push(NewtypeDecl {
                    name: d.name.name.clone(),
                    ty,
                    annotations,
                });
                self.declare(&d.name, Entity::Type(Type::Newtype(id)));
            }
            D::ExternObject { type_params, methods } => self.extern_object(d, type_params, methods),
            D::ExternFunction(sig) => {
                self.push();
                let s = self.signature(sig);
                self.check_params(&s.params, Site::Function(false));
                self.pop();
                self.add_function(
                    &d.name,
                    FunctionDecl {
                        sig: Rc::new(s),
                        source: None,
                        instances: HashMap::new(),
                    },
                );
            }
            D::Function(sig, body) => self.function(d, sig, body),
            D::Action(params, body) => self.action(d, params, body, true),
            D::ParserType(t) | D::ControlType(t) => {
                let is_parser = matches!(d.kind, D::ParserType(_));
                self.push();
                let sig = self.block_sig(d, &t.type_params, &t.params);
                self.check_params(&sig.params, Site::Block);
                self.pop();
                let id = BlockTypeId(self.program.block_types.len() as u32);
                self.program.block_types.push(BlockType { is_parser, sig });
                self.declare(&d.name, Entity::BlockType(id));
            }
            D::Package(t) => {
                self.push();
                let sig = self.block_sig(d, &t.type_params, &t.params);
                self.check_params(&sig.params, Site::Package);
                self.pop();
                let id = PackageId(self.program.packages.len() as u32);
                self.program.packages.push(sig);
                self.declare(&d.name, Entity::Package(id));
            }
            D::Parser {
                header,
                ctor,
                locals,
                states,
            } => self.parser(d, header, ctor, locals, states),
            D::Control {
                header,
                ctor,
                locals,
                body,
            } => self.control(d, header, ctor, locals, body),
            D::Instance { ty, args, body } => self.global_instance(d, ty, args, body.is_some()),
            D::Var(..) => self
                .sink
                .error(d.span, "a variable cannot be declared outside a parser or control"),
            D::ValueSet { .. } | D::Table(_) => self
                .sink
                .error(d.span, "this cannot be declared outside a parser or control"),
        }
    }

    fn global_instance(&mut self, d: &ast::Decl, ty: &ast::TypeRef, args: &[ast::Arg], abstract_body: bool) {
        if abstract_body {
            self.sink
                .error(d.span, "instances with a body are not supported by this architecture");
        }
        let place = self.instance_place(ty);
        let annotations = self.annotations(&d.annotations, place);
        let id = self.instance(&d.name, ty, args, annotations, d.span);
        self.declare(&d.name, id.map_or(Entity::Poison, Entity::Instance));
        let Some(id) = id else { return };
        let Some(i) = self.program.instances.get_mut(id.index()) else {
            return;
        };
        i.global = true;
        let is_main = &*d.name.name == "main";
        match i.ty {
            Type::Control(_) | Type::Parser(_) => {
                self.sink
                    .error(ty.span, "a parser or control cannot be instantiated outside all blocks");
            }
            Type::Package(..) => {}
            _ if is_main => self.sink.error(ty.span, "main must be an instance of a package"),
            _ => {}
        }
        if is_main {
            self.program.main = Some(id);
        }
    }

    pub(super) fn constant(&mut self, d: &ast::Decl) {
        let D::Const(written, value) = &d.kind else { return };
        let ty = self.ty(written);
        let inferred = self.zonk(&ty).has_vars();
        self.annotations(&d.annotations, Place::Other);
        self.check_local_name(&d.name);
        let e = self.expr(value, Some(&ty));
        let poison = e.ty.is_poison();
        let mut e = self.coerce(e, &ty, "the constant's value");
        self.finish(&mut e);
        if !e.is_const() && !poison && !e.ty.is_poison() && !matches!(e.kind, ExprKind::Var(_)) {
            self.sink
                .error(value.span, "the value of a constant must be known at compile time");
        }
        let failed = e.ty.is_poison();
        e.ty = self.zonk(&ty);
        // Type arguments that were inferred before the failure do not make a type either.
        if failed && inferred {
            e.ty = Type::Poison;
        }
        // Section "Type nesting rules": what is inferred must be as legal as what is written.
        let int_in =
            |t: &Type| matches!(t, Type::Struct(_, a) if a.iter().any(|a| contains(a, &|t| *t == Type::Integer)));
        if inferred && contains(&e.ty, &int_in) {
            let shown = self.show(&e.ty);
            self.sink.error(
                written.span,
                format!("this would be {shown}, and an int has no place in it; write the type arguments out"),
            );
        }
        self.declare(&d.name, Entity::Const(e));
    }

    pub(super) fn type_params(&mut self, names: &[ast::Ident]) -> Vec<TypeParamId> {
        let mut out = Vec::new();
        for n in names {
            let id = TypeParamId(self.program.type_params.len() as u32);
            self.program.type_params.push(n.name.clone());
            self.declare(n, Entity::Type(Type::Param(id)));
            out.push(id);
        }
        out
    }

    /// Declarations of parameters; `action` says whether they are an action's, some of which the control plane supplies.
    fn param_decls(&mut self, params: &[ast::Param], action: bool) -> Vec<ParamDecl> {
        let mut out: Vec<ParamDecl> = Vec::new();
        for p in params {
            let ty = self.ty(&p.ty);
            let default = p.default.as_ref().map(|e| {
                let e = self.expr(e, Some(&ty));
                let mut e = self.coerce(e, &ty, "the default value");
                self.finish(&mut e);
                e
            });
            if out.iter().any(|o| o.name == p.name.name) {
                self.sink
                    .error(p.name.span, format!("parameter {} is declared twice", p.name.name));
            }
            if ty == Type::Void {
                self.sink.error(p.name.span, "a parameter cannot be void");
            }
            let annotations = self.annotations(&p.annotations, param_place(p, action));
            let optional = annotations.has("optional");
            out.push(ParamDecl {
                name: p.name.name.clone(),
                direction: p.direction,
                ty,
                default,
                optional,
                annotations,
                span: p.name.span,
            });
        }
        out
    }

    pub(super) fn signature(&mut self, sig: &ast::FunctionSig) -> Signature {
        let type_params = self.type_params(&sig.type_params);
        let result = sig.result.as_ref().map_or(Type::Void, |t| self.ty(t));
        for p in &sig.params {
            if sig.type_params.iter().any(|t| t.name == p.name.name) {
                self.sink
                    .error(p.name.span, format!("{} is declared twice", p.name.name));
            }
        }
        if let Some(t) = &sig.result {
            self.check_result(&result, t.span);
        }
        let params = self.param_decls(&sig.params, false);
        let annotations = self.annotations(&sig.annotations, Place::Other);
        Signature {
            name: sig.name.name.clone(),
            type_params,
            params,
            result,
            annotations,
            is_abstract: sig.is_abstract,
            span: sig.name.span,
        }
    }

    fn block_sig(&mut self, d: &ast::Decl, type_params: &[ast::Ident], params: &[ast::Param]) -> Signature {
        let type_params = self.type_params(type_params);
        let params = self.param_decls(params, false);
        let annotations = self.annotations(&d.annotations, Place::Other);
        Signature {
            name: d.name.name.clone(),
            type_params,
            params,
            result: Type::Void,
            annotations,
            is_abstract: false,
            span: d.name.span,
        }
    }

    fn function(&mut self, d: &ast::Decl, sig: &ast::FunctionSig, body: &ast::Block) {
        self.push();
        let s = self.signature(sig);
        self.check_params(&s.params, Site::Function(true));
        self.pop();
        let params = s.type_params.clone();
        let source = Some(Rc::new((sig.clone(), body.clone())));
        // The body is checked once here, with the type parameters as they are, to report its errors; the function's
        // own name is not declared yet, so there is no recursion.
        let id = FunctionId(self.program.functions.len() as u32);
        self.program.functions.push(Function {
            name: sig.name.name.clone(),
            params: Vec::new(),
            result: Type::Void,
            body: Vec::new(),
        });
        let args: Vec<Type> = params.iter().map(|p| Type::Param(*p)).collect();
        self.function_body(id, sig, body, &args);
        let mut instances = HashMap::new();
        if params.is_empty() {
            instances.insert(Vec::new(), id);
        }
        self.add_function(
            &d.name,
            FunctionDecl {
                sig: Rc::new(s),
                source,
                instances,
            },
        );
    }

    pub(super) fn function_body(&mut self, id: FunctionId, sig: &ast::FunctionSig, body: &ast::Block, args: &[Type]) {
        // A body sees only the global scope, wherever the call is that needs the specialisation.
        let globals = self.scopes.drain(1..).collect::<Vec<_>>();
        let state = (self.result.take(), self.in_action, self.in_parser, self.loops);
        (self.in_action, self.in_parser, self.loops) = (false, false, 0);
        self.depth += 1;
        self.push();
        for (n, t) in sig.type_params.iter().zip(args) {
            self.declare(n, Entity::Type(t.clone()));
        }
        let result = sig.result.as_ref().map_or(Type::Void, |t| self.ty(t));
        let params = self.params(&sig.params, false);
        let unit = std::mem::replace(&mut self.unit_scope, self.scopes.len() - 1);
        // The same syntax was or will be checked with other type arguments.
        let tried = std::mem::take(&mut self.tried);
        self.result = Some(result.clone());
        let block = self.annotated_block(body);
        if result != Type::Void && !result.is_poison() && !always_returns(&block) {
            self.sink.error(
                sig.name.span,
                format!("{} does not return a value on every path", sig.name.name),
            );
        }
        self.pop();
        self.unit_scope = unit;
        self.tried = tried;
        self.depth -= 1;
        self.scopes.extend(globals);
        (self.result, self.in_action, self.in_parser, self.loops) = state;
        if let Some(f) = self.program.functions.get_mut(id.index()) {
            *f = Function {
                name: sig.name.name.clone(),
                params,
                result,
                body: block,
            };
        }
    }

    /// Declares the parameters in the current scope.
    pub(super) fn params(&mut self, params: &[ast::Param], action: bool) -> Vec<VarId> {
        let mut out = Vec::new();
        for p in params {
            let ty = self.ty(&p.ty);
            let annotations = self.annotations(&p.annotations, param_place(p, action));
            let id = self.new_var(&p.name, ty, VarKind::Param(p.direction), annotations);
            self.declare(&p.name, Entity::Var(id));
            out.push(id);
        }
        out
    }

    pub(super) fn action(&mut self, d: &ast::Decl, params: &[ast::Param], body: &ast::Block, global: bool) {
        let mut seen_data = false;
        for p in params {
            if p.direction == Direction::None {
                seen_data = true;
            } else if seen_data {
                self.sink
                    .error(p.name.span, "parameters with a direction come before those without");
            }
        }
        self.push();
        let decls = self.param_decls(params, true);
        self.check_params(&decls, Site::Action);
        self.pop();
        self.push();
        let vars = self.params(params, true);
        let unit = std::mem::replace(&mut self.unit_scope, self.scopes.len() - 1);
        let state = (self.result.take(), self.in_action);
        self.in_action = true;
        let body = self.annotated_block(body);
        (self.result, self.in_action) = state;
        self.unit_scope = unit;
        self.pop();
        let annotations = self.annotations(&d.annotations, Place::Action);
        let id = ActionId(self.program.actions.len() as u32);
        self.program.actions.push(Action {
            name: d.name.name.clone(),
            params: vars,
            defaults: decls.into_iter().map(|d| d.default).collect(),
            body,
            annotations,
            global,
            span: d.span,
        });
        self.declare(&d.name, Entity::Action(id));
    }

    pub(super) fn ctor_params(&mut self, params: &[ast::Param]) -> (Vec<VarId>, Signature) {
        let decls = self.param_decls(params, false);
        self.check_params(&decls, Site::Constructor);

        let mut vars = Vec::new();
        for (p, d) in params.iter().zip(&decls) {
            if p.direction != Direction::None {
                self.sink
                    .error(p.name.span, "a constructor's parameter has no direction");
            }
            let id = self.new_var(&p.name, d.ty.clone(), VarKind::Ctor, d.annotations.clone());
            self.declare(&p.name, Entity::Var(id));
            vars.push(id);
        }
        let sig = Signature {
            name: "constructor".into(),
            type_params: Vec::new(),
            params: decls,
            result: Type::Void,
            annotations: Annotations::default(),
            is_abstract: false,
            span: Span::default(),
        };
        (vars, sig)
    }

    fn control(
        &mut self,
        d: &ast::Decl,
        header: &ast::BlockTypeDecl,
        ctor: &[ast::Param],
        locals: &[ast::Decl],
        body: &ast::Block,
    ) {
        if !header.type_params.is_empty() {
            self.sink
                .error(d.name.span, "a control with a body cannot have type parameters");
        }
        self.push();
        let apply_sig = self.block_sig(d, &header.type_params, &header.params);
        self.check_params(&apply_sig.params, Site::Block);
        self.pop();
        self.push();
        let params = self.params(&header.params, false);
        let (ctor, ctor_sig) = self.ctor_params(ctor);
        let unit = std::mem::replace(&mut self.unit_scope, self.scopes.len() - 1);
        self.push();
        let state = (self.result.take(), self.in_action, self.in_parser);
        (self.in_action, self.in_parser) = (false, false);
        let locals = locals.iter().filter_map(|l| self.local(l)).collect();
        let body = self.annotated_block(body);
        (self.result, self.in_action, self.in_parser) = state;
        self.unit_scope = unit;
        self.pop();
        self.pop();
        let annotations = self.annotations(&d.annotations, Place::Other);
        let id = ControlId(self.program.controls.len() as u32);
        let control = Control {
            name: d.name.name.clone(),
            params,
            ctor,
            ctor_sig,
            apply_sig,
            locals,
            body,
            annotations,
            span: d.span,
        };
        self.program.controls.push(control);
        self.declare(&d.name, Entity::Control(id));
    }

    /// A declaration inside a parser or control.
    pub(super) fn local(&mut self, d: &ast::Decl) -> Option<Local> {
        match &d.kind {
            D::Const(..) => {
                self.constant(d);
                None
            }
            D::Var(..) => match self.local_decl(d)? {
                StmtKind::Var(id, init) => Some(Local::Var(id, init)),
                _ => None,
            },
            D::Instance { ty, args, body } => {
                if body.is_some() {
                    self.sink
                        .error(d.span, "instances with a body are not supported by this architecture");
                }
                let place = self.instance_place(ty);
                let annotations = self.annotations(&d.annotations, place);
                let id = self.instance(&d.name, ty, args, annotations, d.span);
                self.declare(&d.name, id.map_or(Entity::Poison, Entity::Instance));
                id.map(Local::Instance)
            }
            D::Action(params, body) if !self.in_parser => {
                self.action(d, params, body, false);
                Some(Local::Action(ActionId(self.program.actions.len() as u32 - 1)))
            }
            D::Table(properties) if !self.in_parser => {
                let id = self.table(d, properties);
                self.declare(&d.name, Entity::Table(id));
                Some(Local::Table(id))
            }
            D::ValueSet { ty, size } => {
                let id = self.value_set(d, ty, size);
                self.declare(&d.name, Entity::ValueSet(id));
                Some(Local::ValueSet(id))
            }
            _ => self.error(d.span, "this cannot be declared here", None),
        }
    }

    /// The kind of object that annotations of an instance of this type belong to.
    fn instance_place(&mut self, t: &ast::TypeRef) -> Place {
        match self.ty(t) {
            Type::Package(..) => Place::Package,
            Type::Extern(id, _) => match self.program.externs.get(id.index()).map(|e| &*e.name) {
                Some("action_profile" | "action_selector") => Place::Profile,
                Some("counter" | "direct_counter" | "meter" | "direct_meter" | "register") => Place::Object,
                _ => Place::Other,
            },
            _ => Place::Other,
        }
    }

    /// An instance of an extern, parser, control or package.
    pub(super) fn instance(
        &mut self,
        name: &ast::Ident,
        t: &ast::TypeRef,
        args: &[ast::Arg],
        annotations: Annotations,
        span: Span,
    ) -> Option<InstanceId> {
        let ty = self.ty(t);
        let (sigs, map): (Vec<Signature>, Subst) = match &ty {
            Type::Extern(id, a) => {
                let e = self.program.externs.get(id.index())?;
                (
                    e.constructors.clone(),
                    e.type_params.iter().copied().zip(a.iter().cloned()).collect(),
                )
            }
            Type::Control(id) => (
                vec![self.program.controls.get(id.index())?.ctor_sig.clone()],
                Subst::new(),
            ),
            Type::Parser(id) => (
                vec![self.program.parsers.get(id.index())?.ctor_sig.clone()],
                Subst::new(),
            ),
            Type::Package(id, a) => {
                let p = self.program.packages.get(id.index())?;
                let map = p.type_params.iter().copied().zip(a.iter().cloned()).collect();
                let mut sig = p.clone();
                sig.type_params = Vec::new();
                (vec![sig], map)
            }
            Type::Poison => return None,
            _ => {
                let s = self.show(&ty);
                return self.error(t.span, format!("{s} has no constructor"), None);
            }
        };
        let fits: Vec<&Signature> = sigs
            .iter()
            .filter(|s| {
                args.len() <= s.params.len()
                    && args.len() >= s.params.iter().filter(|p| p.default.is_none() && !p.optional).count()
            })
            .collect();
        let Some(sig) = fits.first().copied().or(sigs.first()) else {
            return self.error(t.span, "this type has no constructor", None);
        };
        let (bound, _, _) = self.bind(sig, &map, &[], args, None, span)?;
        if let Type::Extern(id, _) = &ty
            && let Some(m) = self
                .program
                .externs
                .get(id.index())
                .and_then(|e| e.methods.iter().find(|m| m.is_abstract))
        {
            let method = m.name.clone();
            return self.error(
                t.span,
                format!("abstract method {method} needs an implementation in the instance's body"),
                None,
            );
        }
        for a in bound.iter().filter_map(|a| a.value.as_ref()) {
            if !self.is_elaborated(a) {
                self.sink
                    .error(a.span, "a constructor's argument must be known at compile time");
            }
        }
        let ty = self.zonk(&ty);
        let ty = if ty.has_vars() && !matches!(ty, Type::Package(..)) {
            self.error(
                t.span,
                "cannot infer the type arguments; write them out",
                Type::Extern(ExternId(u32::MAX), no_args()),
            )
        } else {
            ty
        };
        let id = InstanceId(self.program.instances.len() as u32);
        self.program.instances.push(Instance {
            name: name.name.clone(),
            ty,
            args: bound.into_iter().map(|a| a.value).collect(),
            params: sig.params.iter().map(|p| p.name.clone()).collect(),
            annotations,
            global: false,
            nameless: false,
            span,
        });
        Some(id)
    }
}

fn param_place(p: &ast::Param, action: bool) -> Place {
    if action && p.direction == Direction::None {
        Place::Data
    } else {
        Place::Param
    }
}

fn always_returns(block: &[Stmt]) -> bool {
    block.iter().any(|s| match &s.kind {
        StmtKind::Return(_) | StmtKind::Exit => true,
        StmtKind::If(_, a, b) => always_returns(a) && always_returns(b),
        StmtKind::Block(b) => always_returns(b),
        StmtKind::Switch(_, cases) => cases.iter().any(|c| c.default) && cases.iter().all(|c| always_returns(&c.body)),
        _ => false,
    })
}
