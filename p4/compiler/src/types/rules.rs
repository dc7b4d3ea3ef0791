//! Which types and forms are allowed where (sections "Type nesting rules", "Parameters", "Generic types").

use super::Checker;
use crate::ast::Direction;
use crate::ir::ty::{Subst, Type};
use crate::ir::*;
use crate::source::Span;

/// Most plain values in one value: a stack of 1024 headers with 64 fields.
const MAX_LEAVES: usize = 1 << 16;

/// Most values in one tuple or list, because the size of its type grows with their number.
const MAX_TUPLE: usize = 1 << 12;

/// What the parameters belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Site {
    /// Functions and methods; the flag is set for one with a body.
    Function(bool),
    Action,
    /// `apply` of a parser or control, or of its type.
    Block,
    Constructor,
    Package,
}

impl Checker<'_> {
    pub(super) fn check_params(&mut self, params: &[ParamDecl], site: Site) {
        for p in params {
            self.check_param(p, site);
        }
    }

    fn check_param(&mut self, p: &ParamDecl, site: Site) {
        let (span, directed) = (p.span, p.direction != Direction::None);
        let ty = self.zonk(&p.ty);
        let shown = self.show(&ty);
        match &ty {
            Type::Extern(..) if site == Site::Action => {
                self.sink.error(
                    span,
                    format!("an action cannot have a parameter of extern type {shown}"),
                );
            }
            Type::Integer if site == Site::Action => {
                self.sink.error(span, "an action cannot have a parameter of type int");
            }
            Type::Extern(..) | Type::Str | Type::Integer | Type::Package(..) if directed => {
                self.sink
                    .error(span, format!("a parameter of type {shown} cannot have a direction"));
            }
            Type::Package(..) if site != Site::Package => {
                self.sink.error(span, format!("a parameter cannot be package {shown}"));
            }
            Type::Control(_) | Type::Parser(_) if site != Site::Package => {
                self.sink.error(span, format!("a parameter cannot have type {shown}"));
            }
            Type::Block(..) if !matches!(site, Site::Package | Site::Constructor) => {
                self.sink.error(span, format!("a parameter cannot have type {shown}"));
            }
            _ => {}
        }
        if site != Site::Package && ty.has_vars() {
            self.sink
                .error(span, format!("write the type arguments of parameter {} out", p.name));
        }
        if p.default.is_some() && matches!(p.direction, Direction::Out | Direction::InOut) {
            self.sink.error(
                span,
                format!("parameter {} is written and cannot have a default value", p.name),
            );
        }
        if p.default.is_some() && p.optional {
            self.sink.error(
                span,
                format!("optional parameter {} cannot have a default value", p.name),
            );
        }
        if p.optional && matches!(site, Site::Function(true) | Site::Action | Site::Constructor) {
            self.sink.error(
                span,
                "@optional is only allowed on parameters of externs, packages and types",
            );
        }
        if let Some(d) = &p.default
            && !d.ty.is_poison()
            && !self.is_elaborated(d)
        {
            self.sink.error(d.span, "a default value must be known at compile time");
        }
    }

    /// Built of constants, instances and constructor parameters only: known once the program is elaborated.
    pub(super) fn is_elaborated(&self, e: &Expr) -> bool {
        match &e.kind {
            ExprKind::Var(id) => {
                let var = self.program.vars.get(id.index());
                return var.is_none_or(|v| v.kind == VarKind::Ctor);
            }
            ExprKind::Instance(_) | ExprKind::Poison => return true,
            ExprKind::Call(_) | ExprKind::Apply(..) => return false,
            _ => {}
        }
        let mut ok = true;
        walk::children(e, &mut |c| ok &= self.is_elaborated(c));
        ok
    }

    /// A result must be a value.
    pub(super) fn check_result(&mut self, ty: &Type, span: Span) {
        let ty = self.zonk(ty);
        let module = matches!(
            ty,
            Type::Control(_) | Type::Parser(_) | Type::Block(..) | Type::Package(..)
        );
        if module || ty.has_vars() {
            let shown = self.show(&ty);
            self.sink.error(span, format!("{shown} cannot be returned"));
        }
    }

    /// What a call passes by value; literals need a width where the parameter has a direction.
    pub(super) fn check_args(&mut self, args: &[Arg], span: Span) {
        for a in args {
            let at = a.value.as_ref().map_or(span, |v| v.span);
            let ty = self.zonk(&a.ty);
            if matches!(
                ty,
                Type::Control(_) | Type::Parser(_) | Type::Block(..) | Type::Package(..)
            ) {
                let shown = self.show(&ty);
                self.sink.error(at, format!("an argument cannot have type {shown}"));
            } else if contains(&ty, &|t| matches!(t, Type::Record(_))) {
                self.sink
                    .error(at, "cannot infer which struct this is; write a cast to it");
            } else if a.direction != Direction::None && contains(&ty, &|t| *t == Type::Integer) {
                self.sink.error(at, "cannot infer a width for this value; write one");
            } else if a.direction != Direction::None && ty == Type::Str {
                self.sink
                    .error(at, "a string can only be given to a parameter without direction");
            }
        }
    }

    /// Arguments of a generic type: it must not contain itself, and fields must stay legal.
    pub(super) fn check_type_args(&mut self, ty: &Type, span: Span) -> bool {
        let (same, args): (fn(&Type, &Type) -> bool, _) = match ty {
            Type::Struct(_, a) => (
                |a, b| matches!((a, b), (Type::Struct(i, _), Type::Struct(j, _)) if i == j),
                a,
            ),
            Type::Extern(_, a) => (
                |a, b| matches!((a, b), (Type::Extern(i, _), Type::Extern(j, _)) if i == j),
                a,
            ),
            Type::Package(_, a) => (
                |a, b| matches!((a, b), (Type::Package(i, _), Type::Package(j, _)) if i == j),
                a,
            ),
            _ => return true,
        };
        if args.iter().any(|a| contains(&self.zonk(a), &|t| same(ty, t))) {
            let shown = self.show(ty);
            return self.error(span, format!("{shown} contains its own type as a type argument"), false);
        }
        if !self.check_size(&self.zonk(ty), span) {
            return false;
        }
        let Type::Struct(id, args) = ty else { return true };
        let Some(decl) = self.program.strukt(*id).cloned() else {
            return true;
        };
        let map: Subst = decl.type_params.iter().copied().zip(args.iter().cloned()).collect();
        for f in &decl.fields {
            let field = self.zonk(&f.ty.subst(&map));
            if !field.has_vars() && !self.field_allowed(decl.kind, &field) {
                let (shown, whole) = (self.show(&field), self.show(ty));
                return self.error(
                    span,
                    format!("field {} of {whole} cannot have type {shown}", f.name),
                    false,
                );
            }
        }
        true
    }

    /// Number of plain values in a value of the type.
    pub(super) fn leaves(&self, ty: &Type) -> usize {
        match self.program.underlying(&self.shallow(ty)) {
            ref t @ (Type::Struct(..) | Type::Tuple(_) | Type::Record(_)) => self
                .program
                .fields(t)
                .iter()
                .fold(1, |sum: usize, f| sum.saturating_add(self.leaves(&f.1))),
            Type::Array(t, n) => self.leaves(&t).saturating_mul(n as usize),
            Type::List(t) => self.leaves(&t),
            _ => 1,
        }
    }

    /// Stops types that double each other.
    pub(super) fn check_size(&mut self, ty: &Type, span: Span) -> bool {
        let leaves = self.leaves(ty);
        self.check_leaves(leaves, span)
    }

    pub(super) fn check_leaves(&mut self, leaves: usize, span: Span) -> bool {
        self.check_bound(leaves, MAX_LEAVES, span)
    }

    pub(super) fn check_tuple(&mut self, ty: &Type, span: Span) -> bool {
        let leaves = self.leaves(ty);
        self.check_bound(leaves, MAX_TUPLE, span)
    }

    fn check_bound(&mut self, leaves: usize, most: usize, span: Span) -> bool {
        if leaves > most {
            self.sink
                .error(span, format!("a value of this type has more than {most} parts"));
        }
        leaves <= most
    }

    /// Components of tuples, lists and stacks are values.
    pub(super) fn check_component(&mut self, ty: &Type, span: Span) -> bool {
        let ok = !matches!(
            ty,
            Type::Extern(..)
                | Type::Package(..)
                | Type::Control(_)
                | Type::Parser(_)
                | Type::Block(..)
                | Type::Void
                | Type::Set(_)
        );
        if !ok {
            let shown = self.show(ty);
            self.sink
                .error(span, format!("a tuple, list or stack cannot hold a {shown}"));
        }
        ok
    }

    fn varbits(&self, ty: &Type) -> usize {
        match self.program.underlying(ty) {
            Type::Varbit(_) => 1,
            ref t @ (Type::Struct(..) | Type::Tuple(_)) => {
                self.program.fields(t).iter().map(|f| self.varbits(&f.1)).sum()
            }
            Type::Array(t, _) => self.varbits(&t),
            _ => 0,
        }
    }

    /// Whether some part of a type has no bits in a packet: header unions, errors, enums without an underlying type.
    fn has_no_layout(&self, ty: &Type) -> bool {
        match self.program.underlying(ty) {
            Type::Error => true,
            Type::Enum(id) => self.program.enums.get(id.index()).is_none_or(|e| e.repr.is_none()),
            Type::Array(item, _) => self.has_no_layout(&item),
            under if self.program.is_union(&under) => true,
            under => self.program.fields(&under).iter().any(|f| self.has_no_layout(&f.1)),
        }
    }

    /// Methods of `packet_in` want headers (section "Data extraction").
    pub(super) fn check_packet_in(&mut self, method: &str, args: &[Arg], result: &Type, span: Span) {
        match (method, args) {
            ("extract", [header, rest @ ..]) => {
                let ty = self.zonk(&header.ty);
                let at = header.value.as_ref().map_or(span, |v| v.span);
                if ty.is_poison() {
                } else if ty.has_vars() {
                    self.sink
                        .error(span, "cannot infer which header is extracted; write its type");
                } else if !self.program.is_header(&ty) {
                    let shown = self.show(&ty);
                    self.sink
                        .error(at, format!("only a header can be extracted, this is {shown}"));
                } else if self.varbits(&ty) > 1 {
                    self.sink
                        .error(at, "a header with more than one varbit field cannot be extracted");
                } else if rest.is_empty() == (self.varbits(&ty) > 0) {
                    let message = if rest.is_empty() {
                        "a header with a varbit field is extracted with its size as second argument"
                    } else {
                        "a size is only given for a header with a varbit field"
                    };
                    self.sink.error(at, message);
                }
            }
            ("lookahead", _)
                if !result.is_poison()
                    && (self.program.width(result).is_none()
                        || self.varbits(result) > 0
                        || self.has_no_layout(result)) =>
            {
                let shown = self.show(result);
                self.sink
                    .error(span, format!("{shown} has no fixed width to look ahead by"));
            }
            _ => {}
        }
    }
}

/// Whether this holds for a type or a part of it.
pub(super) fn contains(ty: &Type, what: &dyn Fn(&Type) -> bool) -> bool {
    ty.any(&mut |t| what(t))
}

/// Whether two expressions are the same, wherever they stand.
pub(super) fn same_expr(a: &Expr, b: &Expr) -> bool {
    use ExprKind as E;
    let head = match (&a.kind, &b.kind) {
        (E::Int(x), E::Int(y)) => x == y,
        (E::Bool(x), E::Bool(y)) => x == y,
        (E::Str(x), E::Str(y)) | (E::MatchKind(x), E::MatchKind(y)) => x == y,
        (E::Error(x), E::Error(y)) | (E::EnumMember(x), E::EnumMember(y)) => x == y,
        (E::Var(x), E::Var(y)) => x == y,
        (E::Instance(x), E::Instance(y)) => x == y,
        (E::Field(_, x), E::Field(_, y)) => x == y,
        (E::Slice(_, h, l), E::Slice(_, i, m)) => (h, l) == (i, m),
        (E::StackProp(_, x), E::StackProp(_, y)) => x == y,
        (E::Unary(x, _), E::Unary(y, _)) => x == y,
        (E::Binary(x, ..), E::Binary(y, ..)) => x == y,
        (E::Call(x), E::Call(y)) => match (&x.callee, &y.callee) {
            (Callee::Function(f), Callee::Function(g)) => f == g,
            (Callee::ExternFunction(f), Callee::ExternFunction(g)) => f == g,
            (Callee::ExternMethod(_, f), Callee::ExternMethod(_, g)) => f == g,
            (f, g) => std::mem::discriminant(f) == std::mem::discriminant(g),
        },
        (x, y) => std::mem::discriminant(x) == std::mem::discriminant(y),
    };
    let (mut x, mut y) = (Vec::new(), Vec::new());
    walk::children(a, &mut |c| x.push(c.clone()));
    walk::children(b, &mut |c| y.push(c.clone()));
    head && x.len() == y.len() && x.iter().zip(&y).all(|(x, y)| same_expr(x, y))
}
