//! Written types to types.

use super::{Checker, Entity};
use crate::ast::{self, TypeRefKind};
use crate::ir::ty::{MAX_WIDTH, Type, no_args};
use num_traits::ToPrimitive;
use std::rc::Rc;

/// Largest header stack.
const MAX_STACK: u32 = 1024;

impl Checker<'_> {
    /// A type with nothing left to infer.
    pub(super) fn full_ty(&mut self, t: &ast::TypeRef) -> Type {
        let ty = self.ty(t);
        if self.zonk(&ty).has_vars() {
            return self.error(
                t.span,
                "write the type arguments of this generic type out",
                Type::Poison,
            );
        }
        ty
    }

    pub(super) fn ty(&mut self, t: &ast::TypeRef) -> Type {
        match &t.kind {
            TypeRefKind::Void => Type::Void,
            TypeRefKind::Bool => Type::Bool,
            TypeRefKind::Error => Type::Error,
            TypeRefKind::MatchKind => Type::MatchKind,
            TypeRefKind::String => Type::Str,
            TypeRefKind::Integer => Type::Integer,
            TypeRefKind::DontCare => self.fresh(),
            TypeRefKind::Bit(None) => Type::Bit(1),
            TypeRefKind::Bit(Some(w)) => self.width(w, 0).map_or(Type::Poison, Type::Bit),
            TypeRefKind::Int(w) => self.width(w, 1).map_or(Type::Poison, Type::Int),
            TypeRefKind::Varbit(w) => self.width(w, 0).map_or(Type::Poison, Type::Varbit),
            TypeRefKind::Tuple(items) => {
                let types: Vec<Type> = items.iter().map(|i| self.ty(i)).collect();
                for (ty, at) in types.iter().zip(items) {
                    self.check_component(ty, at.span);
                }
                let ty = Type::Tuple(types.into());
                if self.check_tuple(&ty, t.span) {
                    ty
                } else {
                    Type::Poison
                }
            }
            TypeRefKind::List(item) => {
                let ty = self.ty(item);
                self.check_component(&ty, item.span);
                Type::List(Rc::new(ty))
            }
            TypeRefKind::Array(item, size) => {
                let at = item.span;
                let item = self.ty(item);
                self.check_component(&item, at);
                let n = self.expr(size, None);
                match n.as_int().and_then(ToPrimitive::to_u32) {
                    Some(n) if n > 0 && n <= MAX_STACK => {
                        let ty = Type::Array(Rc::new(item), n);
                        if self.check_size(&ty, t.span) { ty } else { Type::Poison }
                    }
                    _ if item.is_poison() || n.ty.is_poison() => Type::Poison,
                    _ => self.error(
                        size.span,
                        format!("a stack's size must be a constant from 1 to {MAX_STACK}"),
                        Type::Poison,
                    ),
                }
            }
            TypeRefKind::Name { global, name } => self.named(t, *global, name, &[]),
            TypeRefKind::Specialized(base, args) => {
                let args: Vec<Type> = args.iter().map(|a| self.ty(a)).collect();
                match &base.kind {
                    TypeRefKind::Name { global, name } => self.named(t, *global, name, &args),
                    _ => self.error(t.span, "this type takes no arguments", Type::Poison),
                }
            }
        }
    }

    fn width(&mut self, e: &ast::Expr, min: u32) -> Option<u32> {
        let v = self.expr(e, None);
        if v.ty.is_poison() {
            return None;
        }
        match v.as_int().and_then(ToPrimitive::to_u32) {
            Some(w) if w >= min && w <= MAX_WIDTH => Some(w),
            Some(_) | None if v.as_int().is_some() => {
                self.error(e.span, format!("a width must be from {min} to {MAX_WIDTH}"), None)
            }
            _ => self.error(e.span, "a width must be known at compile time", None),
        }
    }

    fn named(&mut self, t: &ast::TypeRef, global: bool, name: &ast::Ident, args: &[Type]) -> Type {
        let entity = self.lookup(&name.name, global).cloned();
        let (params, make): (usize, Box<dyn FnOnce(Rc<[Type]>) -> Type>) = match entity {
            Some(Entity::Type(ty)) => (0, Box::new(move |_| ty)),
            Some(Entity::Struct(id)) => (
                self.program.strukt(id).map_or(0, |s| s.type_params.len()),
                Box::new(move |a| Type::Struct(id, a)),
            ),
            Some(Entity::Extern(id)) => (
                self.program.externs.get(id.index()).map_or(0, |s| s.type_params.len()),
                Box::new(move |a| Type::Extern(id, a)),
            ),
            Some(Entity::BlockType(id)) => (
                self.program
                    .block_types
                    .get(id.index())
                    .map_or(0, |s| s.sig.type_params.len()),
                Box::new(move |a| Type::Block(id, a)),
            ),
            Some(Entity::Package(id)) => (
                self.program.packages.get(id.index()).map_or(0, |s| s.type_params.len()),
                Box::new(move |a| Type::Package(id, a)),
            ),
            Some(Entity::Control(id)) => (0, Box::new(move |_| Type::Control(id))),
            Some(Entity::Parser(id)) => (0, Box::new(move |_| Type::Parser(id))),
            Some(Entity::Poison) => return Type::Poison,
            Some(_) => return self.error(name.span, format!("{} is not a type", name.name), Type::Poison),
            None => return self.error(name.span, format!("no type {} is declared", name.name), Type::Poison),
        };
        if args.len() == params {
            if params == 0 {
                return make(no_args());
            }
            let ty = make(args.iter().cloned().collect());
            return if self.check_type_args(&ty, t.span) {
                ty
            } else {
                Type::Poison
            };
        }
        if args.is_empty() {
            // Left out: inferred from the use.
            let fresh: Rc<[Type]> = (0..params).map(|_| self.fresh()).collect();
            return make(fresh);
        }
        self.error(
            t.span,
            format!("{} takes {params} type arguments, not {}", name.name, args.len()),
            Type::Poison,
        )
    }
}
