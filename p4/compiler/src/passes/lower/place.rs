//! Storage for variables: structs are split into fields, headers, stacks and unions.

use super::{Lower, Place};
use crate::ir::ty::Type;
use crate::lir::{self, FieldType, HeaderRef, HeaderType, Loc, Ty};
use crate::source::Span;
use std::rc::Rc;

impl Lower<'_> {
    pub(super) fn scalar_ty(&self, ty: &Type) -> Option<Ty> {
        Some(match self.program.underlying(ty) {
            Type::Bool => Ty::Bool,
            Type::Bit(w) => Ty::Bit(w),
            Type::Int(w) => Ty::Int(w),
            Type::Varbit(w) => Ty::Varbit(w),
            Type::Enum(_) | Type::Error => Ty::Bit(32),
            _ => return None,
        })
    }

    pub(super) fn header_type(&mut self, ty: &Type) -> usize {
        if let Some(i) = self.header_types.get(ty) {
            return *i;
        }
        let mut fields = Vec::new();
        self.flat_fields(ty, "", &mut fields);
        let name = self.program.show(ty);
        let n = self.out.storage.header_types.len();
        self.out.storage.header_types.push(HeaderType { name, fields });
        self.header_types.insert(ty.clone(), n);
        n
    }

    fn flat_fields(&mut self, ty: &Type, prefix: &str, out: &mut Vec<FieldType>) {
        for (name, fty) in self.program.fields(ty) {
            let name = if prefix.is_empty() {
                name.to_string()
            } else {
                format!("{prefix}.{name}")
            };
            self.flat_field(&fty, name, out);
        }
    }

    fn flat_field(&mut self, ty: &Type, name: String, out: &mut Vec<FieldType>) {
        if let Some(t) = self.scalar_ty(ty) {
            out.push(FieldType {
                name: name.into(),
                ty: t,
            });
        } else if let Type::Array(item, n) = self.program.underlying(ty) {
            for i in 0..n {
                self.flat_field(&item, format!("{name}[{i}]"), out);
            }
        } else {
            self.flat_fields(ty, &name, out);
        }
    }

    fn new_header(&mut self, name: &str, ty: &Type) -> (Rc<str>, usize) {
        let t = self.header_type(ty);
        let name = self.unique(name);
        self.out.storage.headers.push(lir::Header {
            name: name.clone(),
            ty: t,
            metadata: false,
        });
        (name, t)
    }

    /// Makes storage for a variable.
    pub(super) fn allocate(&mut self, name: &str, ty: &Type, span: Span) -> Place {
        if let Some(t) = self.scalar_ty(ty) {
            return self.temp(t, name);
        }
        let ty = self.program.underlying(ty);
        if self.program.is_header(&ty) {
            let (name, t) = self.new_header(name, &ty);
            return Place::Header(HeaderRef::Named(name), t);
        }
        if self.program.is_union(&ty) {
            return self.new_union(name, &ty);
        }
        match &ty {
            Type::Array(item, n) if self.program.is_header(item) => {
                let stack = self.unique(name);
                let mut elements = Vec::new();
                for i in 0..*n {
                    elements.push(self.new_header(&format!("{stack}[{i}]"), item).0);
                }
                let t = self.header_type(item);
                self.out.storage.stacks.push((stack.clone(), t, elements));
                Place::Stack(stack)
            }
            Type::Array(item, n) => {
                let items: Vec<Place> = (0..*n)
                    .map(|i| self.allocate(&format!("{name}[{i}]"), item, span))
                    .collect();
                self.union_stack(name, &items);
                Place::List(items)
            }
            Type::Struct(..) | Type::Tuple(_) | Type::Record(_) => {
                let fields = self.program.fields(&ty);
                Place::Group(
                    fields
                        .iter()
                        .map(|(f, t)| self.allocate(&format!("{name}.{f}"), t, span))
                        .collect(),
                )
            }
            Type::Void | Type::Poison => Place::Group(Vec::new()),
            other => {
                let s = self.program.show(other);
                self.error(span, format!("a variable of type {s} cannot be stored"));
                Place::Group(Vec::new())
            }
        }
    }

    fn new_union(&mut self, name: &str, ty: &Type) -> Place {
        let union = self.unique(name);
        let mut members = Vec::new();
        let mut types = Vec::new();
        for (f, t) in self.program.fields(ty) {
            let (h, t) = self.new_header(&format!("{union}.{f}"), &t);
            members.push(h);
            types.push((f, t));
        }
        let type_name = self.program.show(ty);
        let at = match self.out.storage.union_types.iter().position(|u| u.0 == type_name) {
            Some(i) => i,
            None => {
                self.out.storage.union_types.push((type_name, types));
                self.out.storage.union_types.len() - 1
            }
        };
        self.out.storage.unions.push((union.clone(), at, members));
        Place::Union(union)
    }

    /// Storage of the standard metadata: one header, made once.
    pub(super) fn standard_metadata(&mut self, ty: &Type) -> Place {
        let t = self.header_type(ty);
        let name: Rc<str> = "standard_metadata".into();
        if !self.metadata_ready {
            self.metadata_ready = true;
            self.taken.insert(name.clone());
            self.out.storage.headers.push(lir::Header {
                name: name.clone(),
                ty: t,
                metadata: true,
            });
            if let Some(h) = self.out.storage.header_types.get_mut(t) {
                h.name = "standard_metadata".into();
            }
            if let Type::Struct(id, _) = ty
                && let Some(decl) = self.program.strukt(*id)
            {
                for f in &decl.fields {
                    if let Some(a) = f.annotations.get("alias")
                        && let Some(alias) = a.string()
                    {
                        self.used_annotations.insert(a.span);
                        self.out.aliases.push((alias, name.clone(), f.name.clone()));
                    }
                }
            }
        }
        let fields = self.program.fields(ty);
        Place::Group(
            fields
                .iter()
                .map(|(f, t)| {
                    let t = self.scalar_ty(t).unwrap_or(Ty::Bit(32));
                    Place::Scalar(Loc::Field(name.clone(), f.clone()), t)
                })
                .collect(),
        )
    }

    /// The member of a place, by position.
    pub(super) fn member(&mut self, place: &Place, ty: &Type, index: usize, _: Span) -> Option<Place> {
        match place {
            Place::Group(items) | Place::List(items) => items.get(index).cloned(),
            Place::Header(h, t) => self.header_member(h, self.out.storage.header_types.get(*t)?, ty, index, ""),
            Place::Union(u) => {
                let (_, t, members) = self.out.storage.unions.iter().find(|x| x.0 == *u)?;
                let name = members.get(index)?.clone();
                let t = self.out.storage.union_types.get(*t)?.1.get(index)?.1;
                Some(Place::Header(HeaderRef::Named(name), t))
            }
            Place::Choice(i, items) => Some(Place::Choice(
                i.clone(),
                items
                    .iter()
                    .map(|p| self.member(p, ty, index, Span::default()))
                    .collect::<Option<Vec<_>>>()?,
            )),
            _ => None,
        }
    }

    /// Fields of a struct inside a header get dotted names; elements of an array get their index as the name.
    fn header_member(
        &self,
        h: &HeaderRef,
        header: &HeaderType,
        ty: &Type,
        index: usize,
        prefix: &str,
    ) -> Option<Place> {
        let (name, fty) = self.program.fields(ty).get(index).cloned()?;
        let full = if prefix.is_empty() {
            name.to_string()
        } else {
            format!("{prefix}.{name}")
        };
        self.header_part(h, header, &fty, full)
    }

    fn header_part(&self, h: &HeaderRef, header: &HeaderType, ty: &Type, full: String) -> Option<Place> {
        if let Some(t) = self.scalar_ty(ty) {
            let at = header.fields.iter().position(|f| *f.name == *full)?;
            let field: Rc<str> = full.into();
            let loc = match h {
                HeaderRef::Named(n) => Loc::Field(n.clone(), field),
                other => Loc::Of(other.clone(), field, at),
            };
            return Some(Place::Scalar(loc, t));
        }
        if let Type::Array(item, n) = self.program.underlying(ty) {
            let items = (0..n).map(|i| self.header_part(h, header, &item, format!("{full}[{i}]")));
            return Some(Place::List(items.collect::<Option<Vec<_>>>()?));
        }
        let n = self.program.fields(ty).len();
        Some(Place::Group(
            (0..n)
                .filter_map(|i| self.header_member(h, header, ty, i, &full))
                .collect(),
        ))
    }

    /// All fields of a place in order; for headers their fields.
    pub(super) fn leaves(&mut self, place: &Place, ty: &Type, out: &mut Vec<(Loc, Ty)>) {
        match place {
            Place::Scalar(l, t) => out.push((l.clone(), *t)),
            Place::Group(items) => {
                let fields = self.program.fields(&self.program.underlying(ty));
                for (i, p) in items.iter().enumerate() {
                    let t = fields.get(i).map_or(Type::Poison, |f| f.1.clone());
                    self.leaves(p, &t, out);
                }
            }
            Place::List(items) => {
                if let Type::Array(item, _) = self.program.underlying(ty) {
                    items.iter().for_each(|p| self.leaves(p, &item, out));
                }
            }
            Place::Header(..) => {
                for i in 0..self.program.fields(ty).len() {
                    if let Some(p) = self.member(place, ty, i, Span::default()) {
                        let t = self.program.fields(ty).get(i).map_or(Type::Poison, |f| f.1.clone());
                        self.leaves(&p, &t, out);
                    }
                }
            }
            _ => {}
        }
    }

    /// Names of all storage in the place, to see whether two places overlap.
    pub(super) fn footprint(&self, place: &Place, out: &mut Vec<String>) {
        match place {
            Place::Scalar(Loc::Field(h, f), _) if &**h == "scalars" || &**h == "standard_metadata" => {
                out.push(format!("{h}.{f}"))
            }
            Place::Scalar(Loc::Field(h, _), _) => out.push(h.to_string()),
            Place::Scalar(Loc::Of(h, _, _), _) | Place::Header(h, _) => match h {
                HeaderRef::Named(n) => out.push(n.to_string()),
                HeaderRef::At(s, _) | HeaderRef::Next(s) | HeaderRef::Last(s) => self.stack_footprint(s, out),
            },
            Place::Stack(s) => self.stack_footprint(s, out),
            Place::Union(u) => {
                if let Some(x) = self.out.storage.unions.iter().find(|x| x.0 == *u) {
                    out.extend(x.2.iter().map(|m| m.to_string()));
                }
            }
            Place::Group(items) | Place::List(items) | Place::Choice(_, items) => {
                items.iter().for_each(|p| self.footprint(p, out));
            }
            _ => {}
        }
    }

    fn stack_footprint(&self, stack: &str, out: &mut Vec<String>) {
        if let Some(s) = self.out.storage.stacks.iter().find(|s| &*s.0 == stack) {
            out.extend(s.2.iter().map(|m| m.to_string()));
        }
    }
}
