//! List and record literals and default values (sections "List expressions", "Structure-valued expressions").

use super::Checker;
use crate::ast;
use crate::ir::ty::Type;
use crate::ir::*;
use crate::source::Span;
use num_bigint::BigInt;

impl Checker<'_> {
    pub(super) fn list(&mut self, items: &[ast::Expr], expected: Option<&Type>, span: Span) -> Expr {
        let ty = expected.map(|t| self.zonk(t)).unwrap_or(Type::Poison);
        let want: Vec<Type> = match &ty {
            Type::Array(t, _) | Type::List(t) => vec![(**t).clone(); items.len()],
            Type::Struct(..) | Type::Tuple(_) => self.program.fields(&ty).into_iter().map(|f| f.1).collect(),
            _ => Vec::new(),
        };
        let mut out = Vec::new();
        let mut dots = false;
        for (i, item) in items.iter().enumerate() {
            if matches!(item.kind, ast::ExprKind::Dots) && i + 1 == items.len() && !want.is_empty() {
                dots = true;
                break;
            }
            let hint = want.get(i).cloned();
            let e = self.expr(item, hint.as_ref());
            out.push(match hint {
                Some(t) => self.coerce(e, &t, "an element"),
                None => e,
            });
        }
        if dots {
            let full = if let Type::Array(_, n) = &ty {
                vec![want.first().cloned().unwrap_or(Type::Poison); *n as usize]
            } else {
                want.clone()
            };
            for t in full.iter().skip(out.len()) {
                out.push(self.default_value(t, span));
            }
        }
        let too_many = matches!(&ty, Type::Array(_, n) if out.len() > *n as usize);
        let wrong = matches!(ty, Type::Struct(..) | Type::Tuple(_)) && out.len() != want.len();
        if wrong || too_many {
            let s = self.show(&ty);
            return self.error(
                span,
                format!("{s} has another number of elements than this list ({})", out.len()),
                self.poison(span),
            );
        }
        if self.program.is_union(&ty) {
            return self.error(span, "a header union has no list form", self.poison(span));
        }
        let size = out
            .iter()
            .fold(0, |sum: usize, e| sum.saturating_add(self.leaves(&e.ty)));
        if !self.check_leaves(size, span) {
            return self.poison(span);
        }
        let known = matches!(ty, Type::Struct(..) | Type::Tuple(_) | Type::Array(..) | Type::List(_));
        let ty = if known {
            ty
        } else {
            let ty = Type::Tuple(out.iter().map(|e| e.ty.clone()).collect());
            if !self.check_tuple(&ty, span) {
                return self.poison(span);
            }
            ty
        };
        Expr {
            kind: ExprKind::Aggregate(out),
            ty,
            span,
        }
    }

    pub(super) fn pairs(
        &mut self,
        pairs: &[(ast::Ident, ast::Expr)],
        dots: bool,
        expected: Option<&Type>,
        span: Span,
    ) -> Expr {
        for (i, (name, _)) in pairs.iter().enumerate() {
            if pairs.iter().take(i).any(|(n, _)| n.name == name.name) {
                return self.error(name.span, format!("{} is given twice", name.name), self.poison(span));
            }
        }
        let ty = expected.map(|t| self.zonk(t)).unwrap_or(Type::Poison);
        if !matches!(ty, Type::Struct(..)) {
            let items: Vec<Expr> = pairs.iter().map(|(_, e)| self.expr(e, None)).collect();
            let size = items
                .iter()
                .fold(0, |sum: usize, e| sum.saturating_add(self.leaves(&e.ty)));
            if !self.check_leaves(size, span) {
                return self.poison(span);
            }
            let fields = pairs
                .iter()
                .zip(&items)
                .map(|((n, _), e)| (n.name.clone(), e.ty.clone()))
                .collect();
            return Expr {
                kind: ExprKind::Aggregate(items),
                ty: Type::Record(fields),
                span,
            };
        }
        let fields = self.program.fields(&ty);
        for (name, _) in pairs {
            if !fields.iter().any(|f| f.0 == name.name) {
                let s = self.show(&ty);
                return self.error(name.span, format!("{s} has no field {}", name.name), self.poison(span));
            }
        }
        let mut out = Vec::new();
        for (name, fty) in &fields {
            match pairs.iter().find(|(n, _)| n.name == *name) {
                Some((_, e)) => {
                    let e = self.expr(e, Some(fty));
                    out.push(self.coerce(e, fty, "a field's value"));
                }
                None if dots => out.push(self.default_value(fty, span)),
                None => return self.error(span, format!("field {name} is missing"), self.poison(span)),
            }
        }
        Expr {
            kind: ExprKind::Aggregate(out),
            ty,
            span,
        }
    }

    /// The value that `...` stands for (section "Default values").
    pub(super) fn default_value(&mut self, ty: &Type, span: Span) -> Expr {
        let ty = self.zonk(ty);
        let kind = match self.program.underlying(&ty) {
            Type::Bit(_) | Type::Int(_) | Type::Integer => ExprKind::Int(BigInt::ZERO),
            Type::Bool => ExprKind::Bool(false),
            Type::Error => ExprKind::Error(0),
            Type::Str => ExprKind::Str("".into()),
            Type::Enum(_) => ExprKind::EnumMember(0),
            Type::Struct(..) if self.program.is_header(&ty) || self.program.is_union(&ty) => ExprKind::Invalid,
            Type::Struct(..) | Type::Tuple(_) => ExprKind::Aggregate(
                self.program
                    .fields(&ty)
                    .iter()
                    .map(|f| self.default_value(&f.1, span))
                    .collect(),
            ),
            Type::Array(t, n) => ExprKind::Aggregate((0..n).map(|_| self.default_value(&t, span)).collect()),
            _ => {
                let s = self.show(&ty);
                return self.error(span, format!("{s} has no default value"), self.poison(span));
            }
        };
        Expr { kind, ty, span }
    }
}
