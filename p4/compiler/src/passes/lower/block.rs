//! Parsers and controls: the six of the package, and nested ones where they are applied.

use super::parser::Top;
use super::{CopyOut, Frame, Lower, Mode, Place, Target, Val};
use crate::diagnostics::Lint;
use crate::ir::ty::Type;
use crate::ir::{self, Arg, Callee, InstanceId, Local, StmtKind};
use crate::lir::{Graph, HeaderRef, Loc, Term};
use crate::source::Span;
use std::rc::Rc;

impl Lower<'_> {
    /// Values of constructor parameters come from the instance.
    pub(super) fn bind_ctor(&mut self, id: InstanceId, ctor: &[ir::VarId]) {
        let Some(inst) = self.program.instances.get(id.index()) else {
            return;
        };
        for ((var, arg), param) in ctor.iter().zip(&inst.args).zip(&inst.params) {
            let Some(arg) = arg else { continue };
            // An extern that is created as an argument is named after its parameter.
            if let ir::ExprKind::Instance(made) = arg.kind {
                let path = self.instance_name(id, &self.path);
                self.object_names
                    .insert((self.path.clone(), made), (path, param.clone()));
            }
            let place = match self.expr(arg) {
                Val::Place(p) => p,
                v => Place::Value(Box::new(v)),
            };
            self.env.insert(*var, place);
        }
    }

    pub(super) fn instance_name(&self, id: InstanceId, path: &str) -> String {
        let Some(inst) = self.program.instances.get(id.index()) else {
            return String::new();
        };
        let name = inst.annotations.control_name(&inst.name);
        if path.is_empty() {
            name
        } else {
            format!("{path}.{name}")
        }
    }

    pub(super) fn apply_block(&mut self, id: InstanceId, path: &str, args: &[Arg], span: Span) {
        let Some(inst) = self.program.instances.get(id.index()) else {
            return;
        };
        let name = self.instance_name(id, path);
        match &inst.ty {
            Type::Control(c) => {
                let Some(control) = self.program.controls.get(c.index()) else {
                    return;
                };
                if self.frames.len() >= super::MAX_INLINE_DEPTH {
                    self.error(span, "controls are nested too deeply");
                    return;
                }
                let bound = self.bind_args(&control.params, args, span, true, &[]);
                self.bind_ctor(id, &control.ctor);
                let saved = std::mem::replace(&mut self.path, name.clone());
                let end = self.new_block("return");
                let mut copy_out = Vec::new();
                for (p, (place, out)) in control.params.iter().zip(bound) {
                    let place = self.fixed_place(&name, *p, place, &mut copy_out, span);
                    copy_out.extend(out);
                    self.env.insert(*p, place);
                }
                self.frames.push(Frame {
                    end,
                    result: None,
                    copy_out,
                });
                self.control_body(control);
                self.end_block(Term::Goto(end), end, span);
                self.copy_out(self.frames.len() - 1, span);
                self.frames.pop();
                self.path = saved;
            }
            Type::Parser(p) => {
                let Some(parser) = self.program.parsers.get(p.index()) else {
                    return;
                };
                let bound = self.bind_args(&parser.params, args, span, true, &[]);
                self.bind_ctor(id, &parser.ctor);
                let saved = std::mem::replace(&mut self.path, name);
                let end = self.new_block("return");
                let mut copy_out = Vec::new();
                for (p, (place, out)) in parser.params.iter().zip(bound) {
                    copy_out.extend(out);
                    self.env.insert(*p, place);
                }
                self.frames.push(Frame {
                    end,
                    result: None,
                    copy_out,
                });
                self.parser_body(parser, end);
                self.current = end;
                self.copy_out(self.frames.len() - 1, span);
                self.frames.pop();
                self.path = saved;
            }
            _ => self.error(span, "this cannot be applied"),
        }
    }

    /// An instance applied at several places has one set of tables, so its parameters need one place: the first
    /// application's; later ones copy into it and back.
    fn fixed_place(
        &mut self,
        path: &str,
        var: ir::VarId,
        place: Place,
        copy_out: &mut Vec<CopyOut>,
        span: Span,
    ) -> Place {
        let Some(ty) = self.program.vars.get(var.index()).map(|v| v.ty.clone()) else {
            return place;
        };
        let key = (path.to_string(), var);
        let Some(first) = self.fixed.get(&key).cloned() else {
            self.fixed.insert(key, place.clone());
            return place;
        };
        let (mut a, mut b) = (Vec::new(), Vec::new());
        self.footprint(&first, &mut a);
        self.footprint(&place, &mut b);
        if a == b && !matches!(first, Place::Value(_)) {
            return first;
        }
        if matches!(place, Place::Object(_) | Place::Packet | Place::Instance(..)) || matches!(first, Place::Value(_)) {
            return place;
        }
        self.store(&first, Val::Place(place.clone()), &ty, span);
        if !matches!(place, Place::Value(_)) {
            copy_out.push(CopyOut {
                to: Target::Place(place),
                from: first.clone(),
                ty,
            });
        }
        first
    }

    pub(super) fn locals(&mut self, locals: &[Local]) {
        for l in locals {
            match l {
                Local::Var(id, init) => {
                    let span = self.program.vars.get(id.index()).map_or(Span::default(), |v| v.span);
                    self.variable(*id, init.as_ref(), span);
                }
                Local::Instance(id) => {
                    if matches!(
                        self.program.instances.get(id.index()).map(|i| &i.ty),
                        Some(Type::Extern(..))
                    ) {
                        self.object(*id, self.path.clone());
                    }
                }
                Local::ValueSet(id) => {
                    self.value_set(*id);
                }
                Local::Table(id) => {
                    // In the order of declaration. A control that is never applied does not exist.
                    if self.applied.contains(id) {
                        self.table(*id);
                    }
                }
                Local::Action(_) => {}
            }
        }
    }

    fn control_body(&mut self, control: &ir::Control) {
        self.locals(&control.locals);
        self.stmts(&control.body);
    }

    pub(super) fn control_of(&self, id: InstanceId) -> Option<&ir::Control> {
        match self.program.instances.get(id.index())?.ty {
            Type::Control(c) => self.program.controls.get(c.index()),
            _ => None,
        }
    }

    pub(super) fn bind_top(&mut self, control: &ir::Control, top: &Top) {
        let mut rest = vec![&top.headers, &top.metadata, &top.standard].into_iter();
        for p in &control.params {
            let is_packet = matches!(self.program.vars.get(p.index()).map(|v| &v.ty), Some(Type::Extern(..)));
            let place = if is_packet {
                Place::Packet
            } else {
                rest.next().cloned().unwrap_or(Place::Group(Vec::new()))
            };
            self.env.insert(*p, place);
        }
    }

    pub(super) fn top_control(&mut self, id: InstanceId, top: &Top, ingress: bool) -> Graph {
        let program = self.program;
        let Some(control) = self.control_of(id).map(|c| c.name.clone()) else {
            return Graph::default();
        };
        let Some(control) = program.controls.iter().find(|c| c.name == control) else {
            return Graph::default();
        };
        self.in_ingress = ingress;
        self.mode = Mode::Control;
        // The instance is made in the package's arguments and has its type's name; `@name` is about the type.
        self.path = control.name.to_string();
        self.bind_top(control, top);
        self.bind_ctor(id, &control.ctor);
        let saved = self.start_graph();
        let end = self.new_block("end");
        self.frames.push(Frame {
            end,
            result: None,
            copy_out: Vec::new(),
        });
        self.control_body(control);
        self.end_block(Term::Goto(end), end, control.span);
        self.frames.pop();
        self.path = String::new();
        self.end_graph(saved)
    }

    pub(super) fn deparser(&mut self, id: InstanceId, top: &Top) {
        let program = self.program;
        let Some(name) = self.control_of(id).map(|c| c.name.clone()) else {
            return;
        };
        let Some(control) = program.controls.iter().find(|c| c.name == name) else {
            return;
        };
        self.bind_top(control, top);
        self.bind_ctor(id, &control.ctor);
        let saved = self.start_graph();
        self.emits(&control.body);
        self.end_graph(saved);
    }

    fn emits(&mut self, stmts: &[ir::Stmt]) {
        for s in stmts {
            match &s.kind {
                StmtKind::Block(b) => self.emits(b),
                StmtKind::Call(ir::Expr {
                    kind: ir::ExprKind::Call(call),
                    ..
                }) => match &call.callee {
                    Callee::ExternMethod(_, m) if &**m == "emit" => {
                        if let Some(e) = call.args.first().and_then(|a| a.value.as_ref()) {
                            let v = self.expr(e);
                            self.emit_value(&v, s.span);
                        }
                    }
                    Callee::Apply(object) => {
                        let Val::Place(Place::Instance(id, _)) = self.expr(object) else {
                            continue;
                        };
                        let program = self.program;
                        let Some(name) = self.control_of(id).map(|c| c.name.clone()) else {
                            continue;
                        };
                        let Some(control) = program.controls.iter().find(|c| c.name == name) else {
                            continue;
                        };
                        let places: Vec<Place> = call
                            .args
                            .iter()
                            .map(|a| a.value.as_ref().and_then(|v| self.place_of(v)).unwrap_or(Place::Packet))
                            .collect();
                        self.env.extend(control.params.iter().copied().zip(places));
                        self.bind_ctor(id, &control.ctor);
                        self.emits(&control.body);
                    }
                    _ => self.error(s.span, "a deparser may only emit headers on this target"),
                },
                // The condition that a header is valid changes nothing: emit skips invalid headers.
                StmtKind::If(
                    ir::Expr {
                        kind: ir::ExprKind::Call(c),
                        ..
                    },
                    a,
                    b,
                ) if matches!(c.callee, Callee::IsValid(_)) && b.is_empty() => self.emits(a),
                _ => self.error(s.span, "a deparser may only emit headers on this target"),
            }
        }
    }

    fn emit_value(&mut self, v: &Val, span: Span) {
        let mut names: Vec<Rc<str>> = Vec::new();
        match v {
            Val::Place(Place::Header(HeaderRef::Named(n), _)) => names.push(n.clone()),
            Val::Place(Place::Stack(s)) => {
                names.extend(
                    self.out
                        .storage
                        .stacks
                        .iter()
                        .find(|x| x.0 == *s)
                        .map(|x| x.2.clone())
                        .unwrap_or_default(),
                );
            }
            Val::Place(Place::Union(u)) => {
                names.extend(
                    self.out
                        .storage
                        .unions
                        .iter()
                        .find(|x| x.0 == *u)
                        .map(|x| x.2.clone())
                        .unwrap_or_default(),
                );
            }
            Val::Place(Place::Group(items) | Place::List(items)) => {
                for p in items.clone() {
                    self.emit_value(&Val::Place(p), span);
                }
            }
            Val::Aggregate(items) => {
                for i in items {
                    self.emit_value(i, span);
                }
            }
            _ => self.error(span, "only headers can be emitted"),
        }
        self.out.deparser.extend(names);
    }

    /// Reports annotations that would be lost silently: field lists can only have fields of the metadata, aliases only
    /// fields of the standard metadata.
    pub(super) fn unused_annotations(&mut self) {
        for f in self.program.structs.iter().flat_map(|s| &s.fields) {
            for (name, place) in [
                ("field_list", "the user's metadata"),
                ("alias", "the standard metadata"),
            ] {
                if let Some(a) = f
                    .annotations
                    .get(name)
                    .filter(|a| !self.used_annotations.contains(&a.span))
                {
                    self.sink.warn(
                        Lint::Unsupported,
                        a.span,
                        format!("@{name} is ignored: {} is not a field of {place}", f.name),
                    );
                }
            }
        }
    }

    /// `@field_list(n)` on fields of the metadata.
    pub(super) fn field_lists(&mut self, place: &Place, ty: &Type) {
        let Type::Struct(id, _) = ty else { return };
        let Some(decl) = self.program.strukt(*id) else { return };
        for (i, f) in decl.fields.iter().enumerate() {
            let Some(p) = self.member(place, ty, i, f.span) else {
                continue;
            };
            if let Some(a) = f.annotations.get("field_list") {
                self.used_annotations.insert(a.span);
                let mut leaves = Vec::new();
                self.leaves(&p, &f.ty, &mut leaves);
                // The type checker has made sure that the numbers have at most 32 bits.
                for n in a.ints().filter_map(|n| u32::try_from(n).ok()) {
                    let fields = leaves.iter().filter_map(|(l, _)| match l {
                        Loc::Field(h, f) => Some((h.clone(), f.clone())),
                        Loc::Of(..) => None,
                    });
                    match self.out.field_lists.iter_mut().find(|l| l.0 == n) {
                        Some(l) => l.1.extend(fields),
                        None => self.out.field_lists.push((n, fields.collect())),
                    }
                }
            } else {
                self.field_lists(&p, &f.ty);
            }
        }
    }
}
