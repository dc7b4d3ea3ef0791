//! Declarations of types with parts: structs, headers, unions, enums, externs.

use super::rules::{Site, contains};
use super::{Checker, Entity};
use crate::ast::{self, StructKind};
use crate::ir::annotation::Annotations;
use crate::ir::ty::Type;
use crate::ir::*;
use crate::known::Place;
use crate::source::Span;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Words in an expression that are not names.
const WORDS: [&str; 6] = ["bit", "int", "varbit", "bool", "true", "false"];

impl Checker<'_> {
    pub(super) fn structure(
        &mut self,
        d: &ast::Decl,
        kind: StructKind,
        type_params: &[ast::Ident],
        fields: &[ast::Field],
    ) {
        self.push();
        let type_params = self.type_params(type_params);
        let mut out: Vec<FieldDecl> = Vec::new();
        let mut seen: HashMap<Rc<str>, Span> = HashMap::new();
        for f in fields {
            let ty = self.full_ty(&f.ty);
            if kind == StructKind::Header {
                self.check_length(&f.annotations, &seen);
            }
            if let Some(old) = seen.insert(f.name.name.clone(), f.name.span) {
                self.sink.error_note(
                    f.name.span,
                    format!("field {} is declared twice", f.name.name),
                    old,
                    "first declared here",
                );
            }
            if !self.field_allowed(kind, &ty) {
                let s = self.show(&ty);
                self.sink
                    .error(f.ty.span, format!("a field of type {s} is not allowed here"));
            }
            let annotations = self.annotations(&f.annotations, Place::Field);
            out.push(FieldDecl {
                name: f.name.name.clone(),
                ty,
                annotations,
                span: f.name.span,
            });
        }
        let size = out
            .iter()
            .fold(0, |sum: usize, f| sum.saturating_add(self.leaves(&f.ty)));
        if !self.check_leaves(size, d.name.span) {
            out.clear();
        }
        self.pop();
        let id = StructId(self.program.structs.len() as u32);
        let annotations = self.annotations(&d.annotations, Place::Type);
        self.program.structs.push(StructDecl {
            kind,
            name: d.name.name.clone(),
            type_params,
            fields: out,
            annotations,
            span: d.span,
        });
        self.declare(&d.name, Entity::Struct(id));
    }

    /// `@length` computes the length of a varbit field from the fields before it.
    fn check_length(&mut self, annotations: &ast::Annotations, before: &HashMap<Rc<str>, Span>) {
        for a in annotations.iter().filter(|a| &*a.name.name == "length") {
            let ast::AnnotationBody::Tokens(tokens) = &a.body else {
                continue;
            };
            let mut member = false;
            for t in tokens.iter().filter(|t| !t.is_string) {
                let is_name = t.text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
                let known = || WORDS.contains(&t.text.as_str()) || before.contains_key(t.text.as_str());
                if is_name && !member && !known() && self.lookup(&t.text, false).is_none() {
                    self.sink.error(
                        t.span,
                        format!("{} is not declared before this field, whose length it gives", t.text),
                    );
                }
                member = t.text == ".";
            }
        }
    }

    /// Section "Type nesting rules".
    pub(super) fn field_allowed(&self, kind: StructKind, ty: &Type) -> bool {
        let under = self.program.underlying(ty);
        match kind {
            StructKind::Union => self.program.is_header(ty) || matches!(ty, Type::Poison | Type::Param(_)),
            StructKind::Header => match &under {
                Type::Bit(_) | Type::Int(_) | Type::Varbit(_) | Type::Bool | Type::Poison | Type::Param(_) => true,
                Type::Struct(..) if self.program.struct_kind(&under) == Some(StructKind::Struct) => self
                    .program
                    .fields(&under)
                    .iter()
                    .all(|f| self.field_allowed(kind, &f.1)),
                Type::Array(item, _) => {
                    let item = self.program.underlying(item);
                    item.is_fixed() || matches!(item, Type::Bool | Type::Poison)
                }
                _ => false,
            },
            StructKind::Struct => !matches!(
                under,
                Type::Integer
                    | Type::Void
                    | Type::Extern(..)
                    | Type::Package(..)
                    | Type::Control(_)
                    | Type::Parser(_)
                    | Type::Block(..)
                    | Type::MatchKind
                    | Type::Set(_)
            ),
        }
    }

    pub(super) fn enumeration(
        &mut self,
        d: &ast::Decl,
        repr: Option<&ast::TypeRef>,
        members: &[(ast::Ident, Option<ast::Expr>)],
    ) {
        let repr_ty = repr.map(|t| self.ty(t));
        if let (Some(t), Some(r)) = (&repr_ty, repr)
            && !t.is_fixed()
            && !t.is_poison()
        {
            self.sink
                .error(r.span, "an enum's underlying type must be bit<w> or int<w>");
        }
        let mut out: Vec<(Rc<str>, Option<num_bigint::BigInt>)> = Vec::new();
        let mut seen: HashSet<Rc<str>> = HashSet::new();
        for (name, value) in members {
            if !seen.insert(name.name.clone()) {
                self.sink.error(name.span, format!("{} is declared twice", name.name));
            }
            let v = match (&repr_ty, value) {
                (Some(ty), Some(e)) => {
                    let e = self.expr(e, Some(ty));
                    let under = self.program.underlying(ty);
                    if let Some(v) = e.as_int()
                        && e.ty == Type::Integer
                        && under.is_fixed()
                        && !fold::fits(v, &under)
                    {
                        let (v, shown) = (v.clone(), self.show(&under));
                        self.sink
                            .error(e.span, format!("{v} does not fit {shown}, the enum's underlying type"));
                    }
                    let e = self.coerce(e, &under, "the member's value");
                    match e.as_int() {
                        Some(v) => Some(v.clone()),
                        None if e.ty.is_poison() => Some(0.into()),
                        None => self.error(name.span, "the member's value must be a constant", Some(0.into())),
                    }
                }
                (Some(_), None) => self.error(name.span, format!("{} needs a value", name.name), Some(0.into())),
                (None, Some(_)) => self.error(
                    name.span,
                    "members have values only if the enum has an underlying type",
                    None,
                ),
                (None, None) => None,
            };
            out.push((name.name.clone(), v));
        }
        let id = EnumId(self.program.enums.len() as u32);
        let annotations = self.annotations(&d.annotations, Place::Other);
        self.program.enums.push(EnumDecl {
            name: d.name.name.clone(),
            repr: repr_ty,
            members: out,
            annotations,
        });
        self.declare(&d.name, Entity::Type(Type::Enum(id)));
    }

    pub(super) fn extern_object(&mut self, d: &ast::Decl, type_params: &[ast::Ident], methods: &[ast::FunctionSig]) {
        let id = ExternId(self.program.externs.len() as u32);
        self.program.externs.push(ExternDecl {
            name: d.name.name.clone(),
            type_params: Vec::new(),
            constructors: Vec::new(),
            methods: Vec::new(),
            annotations: Annotations::default(),
        });
        self.declare(&d.name, Entity::Extern(id));
        self.push();
        let type_params = self.type_params(type_params);
        let (mut constructors, mut others) = (Vec::new(), Vec::new());
        for m in methods {
            self.push();
            let sig = self.signature(m);
            self.check_params(&sig.params, Site::Function(false));
            self.pop();
            // Section "Scoping": a type is known after its declaration.
            let own = |t: &Type| contains(t, &|t| matches!(t, Type::Extern(e, _) if *e == id));
            if own(&sig.result) || sig.params.iter().any(|p| own(&p.ty)) {
                self.sink
                    .error(m.name.span, format!("extern {} refers to itself here", d.name.name));
            }
            if m.result.is_some() && m.name.name == d.name.name {
                self.sink.error(m.name.span, "a constructor has no return type");
            }
            let list: &mut Vec<Signature> = if m.result.is_none() {
                &mut constructors
            } else {
                &mut others
            };
            let same = |o: &Signature| {
                o.name == sig.name
                    && o.params.len() == sig.params.len()
                    && o.params.iter().zip(&sig.params).all(|(a, b)| a.name == b.name)
            };
            if let Some(old) = list.iter().find(|o| same(o)) {
                self.sink.error_note(
                    m.name.span,
                    format!("{} is declared twice", m.name.name),
                    old.span,
                    "first declared here, with parameters of the same names",
                );
            }
            list.push(sig);
        }
        self.pop();
        let annotations = self.annotations(&d.annotations, Place::Other);
        if let Some(e) = self.program.externs.get_mut(id.index()) {
            *e = ExternDecl {
                name: d.name.name.clone(),
                type_params,
                constructors,
                methods: others,
                annotations,
            };
        }
    }
}
