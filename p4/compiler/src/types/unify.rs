//! Inference variables and implicit conversions (sections "Type inference" and "Implicit casts").

use super::Checker;
use crate::ir::ty::{Subst, Type};
use crate::ir::*;
use crate::source::Span;

impl Checker<'_> {
    pub(super) fn fresh(&mut self) -> Type {
        self.infer.push(None);
        Type::Var(self.infer.len() as u32 - 1)
    }

    /// The type with everything inferred so far filled in.
    pub(crate) fn zonk(&self, ty: &Type) -> Type {
        if !ty.has_vars() {
            return ty.clone();
        }
        ty.rewrite(&mut |t| match t {
            Type::Var(v) => match self.infer.get(*v as usize) {
                Some(Some(bound)) => Some(self.zonk(bound)),
                _ => Some(Type::Var(*v)),
            },
            _ => None,
        })
    }

    /// The root of a type, resolved one step.
    pub(super) fn shallow(&self, ty: &Type) -> Type {
        let mut ty = ty.clone();
        while let Type::Var(v) = ty {
            match self.infer.get(v as usize) {
                Some(Some(bound)) => ty = bound.clone(),
                _ => return ty,
            }
        }
        ty
    }

    fn occurs(&self, var: u32, ty: &Type) -> bool {
        self.zonk(ty).any(&mut |t| *t == Type::Var(var))
    }

    /// Makes two types equal if that is possible.
    pub(super) fn unify(&mut self, a: &Type, b: &Type) -> bool {
        let (a, b) = (self.shallow(a), self.shallow(b));
        if a == b {
            return true;
        }
        match (&a, &b) {
            (Type::Poison, _) | (_, Type::Poison) => true,
            (Type::Var(v), other) | (other, Type::Var(v)) => {
                if self.occurs(*v, other) {
                    return false;
                }
                if let Some(slot) = self.infer.get_mut(*v as usize) {
                    *slot = Some(other.clone());
                }
                true
            }
            (Type::Struct(i, x), Type::Struct(j, y)) => i == j && self.unify_all(x, y),
            (Type::Extern(i, x), Type::Extern(j, y)) => i == j && self.unify_all(x, y),
            (Type::Block(i, x), Type::Block(j, y)) => i == j && self.unify_all(x, y),
            (Type::Package(i, x), Type::Package(j, y)) => i == j && self.unify_all(x, y),
            (Type::Tuple(x), Type::Tuple(y)) => self.unify_all(x, y),
            (Type::List(x), Type::List(y)) | (Type::Set(x), Type::Set(y)) => self.unify(x, y),
            (Type::Array(x, n), Type::Array(y, m)) => n == m && self.unify(x, y),
            (Type::Block(id, args), Type::Control(_) | Type::Parser(_)) => self.unify_block(*id, args, &b),
            (Type::Control(_) | Type::Parser(_), Type::Block(id, args)) => self.unify_block(*id, args, &a),
            _ => false,
        }
    }

    fn unify_all(&mut self, a: &[Type], b: &[Type]) -> bool {
        a.len() == b.len() && a.iter().zip(b).all(|(x, y)| self.unify(x, y))
    }

    /// A parser or control fits a declared type if their parameters agree.
    fn unify_block(&mut self, id: BlockTypeId, args: &[Type], found: &Type) -> bool {
        let sig = match found {
            Type::Control(c) => self
                .program
                .controls
                .get(c.index())
                .map(|c| (false, c.apply_sig.clone())),
            Type::Parser(p) => self.program.parsers.get(p.index()).map(|p| (true, p.apply_sig.clone())),
            _ => None,
        };
        let (Some((is_parser, sig)), Some(want)) = (sig, self.program.block_types.get(id.index()).cloned()) else {
            return false;
        };
        // Optional parameters of the type may be missing.
        let missing = want.sig.params.get(sig.params.len()..);
        if want.is_parser != is_parser || missing.is_none_or(|m| m.iter().any(|p| p.default.is_none() && !p.optional)) {
            return false;
        }
        let map: Subst = want.sig.type_params.iter().copied().zip(args.iter().cloned()).collect();
        want.sig
            .params
            .iter()
            .zip(&sig.params)
            .all(|(w, g)| w.direction == g.direction && self.unify(&w.ty.subst(&map), &g.ty))
    }

    /// Converts an expression to a type, with the implicit casts the language allows, or reports why not.
    pub(super) fn coerce(&mut self, e: Expr, ty: &Type, what: &str) -> Expr {
        let span = e.span;
        let found = e.ty.clone();
        match self.try_coerce(e, ty) {
            Ok(e) => e,
            Err(e) => {
                let (want, got) = (self.show(ty), self.show(&found));
                self.error(
                    span,
                    format!("{what}: expected {want}, found {got}"),
                    Expr { ty: Type::Poison, ..e },
                )
            }
        }
    }

    pub(super) fn try_coerce(&mut self, e: Expr, ty: &Type) -> Result<Expr, Expr> {
        let from = self.shallow(&e.ty);
        let to = self.shallow(ty);
        if from.is_poison() || to.is_poison() || from == to {
            return Ok(e);
        }
        match (&from, &to) {
            // A literal takes the type of its context.
            (Type::Integer, Type::Bit(_) | Type::Int(_)) => return Ok(self.cast_to(e, to)),
            (Type::Integer, Type::Newtype(_)) if self.program.underlying(&to).is_fixed() => {
                return Ok(self.cast_to(e, to));
            }
            (Type::Enum(_), Type::Bit(_) | Type::Int(_)) if self.program.underlying(&from) == to => {
                return Ok(self.cast_to(e, to));
            }
            (Type::Bit(_) | Type::Int(_), Type::Integer) if e.as_int().is_some() => return Ok(self.cast_to(e, to)),
            (Type::Enum(_), Type::Integer) if self.program.underlying(&from).is_fixed() => {
                return Ok(self.cast_to(e, to));
            }
            (Type::InvalidHeader, Type::Struct(..)) if self.program.is_header(&to) || self.program.is_union(&to) => {
                return Ok(Expr { ty: to, ..e });
            }
            (Type::Tuple(_) | Type::Record(_), Type::Struct(..) | Type::Tuple(_) | Type::Array(..) | Type::List(_)) => {
                if let ExprKind::Aggregate(_) = e.kind {
                    return self.coerce_aggregate(e, &to);
                }
                if matches!(to, Type::Struct(..)) {
                    return Err(e);
                }
                let fields = self.program.fields(&to);
                let own = self.program.fields(&from);
                if !fields.is_empty()
                    && fields.len() == own.len()
                    && fields.iter().zip(&own).all(|(a, b)| self.unify(&a.1, &b.1))
                {
                    return Ok(self.cast_to(e, to));
                }
            }
            _ => {}
        }
        if self.unify(&from, &to) { Ok(e) } else { Err(e) }
    }

    fn coerce_aggregate(&mut self, e: Expr, to: &Type) -> Result<Expr, Expr> {
        let ExprKind::Aggregate(items) = &e.kind else {
            return Err(e);
        };
        let want: Vec<Type> = match to {
            Type::Array(t, n) if items.len() <= *n as usize => vec![(**t).clone(); items.len()],
            Type::List(t) => vec![(**t).clone(); items.len()],
            _ => self.program.fields(to).into_iter().map(|f| f.1).collect(),
        };
        if want.len() != items.len() {
            return Err(e);
        }
        let mut items = items.clone();
        if let Type::Record(names) = self.shallow(&e.ty) {
            let order: Vec<_> = self.program.fields(to).into_iter().map(|f| f.0).collect();
            let mut sorted = Vec::new();
            for name in &order {
                match names.iter().position(|(n, _)| n == name).and_then(|i| items.get(i)) {
                    Some(item) => sorted.push(item.clone()),
                    None => return Err(e),
                }
            }
            items = sorted;
        }
        let mut out = Vec::new();
        for (item, ty) in items.into_iter().zip(&want) {
            match self.try_coerce(item, ty) {
                Ok(item) => out.push(item),
                Err(_) => return Err(e),
            }
        }
        Ok(Expr {
            kind: ExprKind::Aggregate(out),
            ty: to.clone(),
            span: e.span,
        })
    }

    /// Fills in what inference found, everywhere in an expression.
    pub(super) fn finish(&mut self, e: &mut Expr) {
        e.ty = self.zonk(&e.ty);
        crate::ir::walk::children_mut(e, &mut |c| self.finish(c));
    }

    pub(super) fn no_vars(&mut self, ty: &Type, span: Span, what: &str) -> Type {
        let ty = self.zonk(ty);
        if ty.has_vars() {
            return self.error(
                span,
                format!("cannot infer the type of {what}; write it out"),
                Type::Poison,
            );
        }
        ty
    }
}
