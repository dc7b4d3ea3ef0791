//! Annotations: their arguments are evaluated in the scope in which they are written.

use super::Checker;
use crate::ast::{self, AnnotationBody, TypeRefKind};
use crate::diagnostics::Lint;
use crate::ir::annotation::{Annotation, Annotations, Body, Value};
use crate::ir::ty::Type;
use crate::ir::{Expr, ExprKind};
use crate::known::{self, Form, Place};
use crate::source::Span;
use num_bigint::BigInt;
use num_traits::ToPrimitive;
use std::rc::Rc;

/// Most annotations of one declaration.
const MAX_ANNOTATIONS: usize = 256;

impl Checker<'_> {
    pub(super) fn annotations(&mut self, list: &ast::Annotations, at: Place) -> Annotations {
        let mut out: Vec<Annotation> = Vec::new();
        if let Some(more) = list.get(MAX_ANNOTATIONS) {
            self.sink.error(
                more.name.span,
                format!("there are more than {MAX_ANNOTATIONS} annotations here"),
            );
        }
        for a in list.iter().take(MAX_ANNOTATIONS) {
            let name = &*a.name.name;
            let body = self.annotation_body(a);
            if let Some(form) = known::form(name) {
                self.check_form(name, form, &a.body, &body, a.name.span);
            }
            if !known::means(name, at) {
                self.sink.warn(
                    Lint::Unsupported,
                    a.name.span,
                    format!("@{name} means nothing here and is ignored"),
                );
            }
            let structured = |b: &Body| matches!(b, Body::List(_) | Body::Pairs(_));
            if let Some(old) = out
                .iter()
                .find(|o| *o.name == *name && (structured(&body) || structured(&o.body)))
            {
                let old = old.span;
                self.sink.error_note(
                    a.name.span,
                    format!("structured annotation @{name} is given twice"),
                    old,
                    "first given here",
                );
            }
            if matches!(name, "name" | "id" | "field_list") && out.iter().any(|o| *o.name == *name) {
                self.sink.warn(
                    Lint::Duplicate,
                    a.name.span,
                    format!("@{name} is given twice; the first one counts"),
                );
                continue;
            }
            if name == "noWarn" {
                self.silence_late(a.name.span, &body);
            }
            out.push(Annotation {
                name: a.name.name.clone(),
                body,
                span: a.name.span,
            });
        }
        Annotations(Rc::new(out))
    }

    fn annotation_body(&mut self, a: &ast::Annotation) -> Body {
        match &a.body {
            AnnotationBody::Empty => Body::Empty,
            AnnotationBody::Tokens(t) => Body::Tokens(t.clone()),
            AnnotationBody::Args(_, l) => Body::Args(l.iter().filter_map(|e| self.annotation_value(e)).collect()),
            AnnotationBody::NamedArgs(_, l) => Body::NamedArgs(self.annotation_pairs(l)),
            AnnotationBody::List(l) => {
                let values: Vec<Value> = l.iter().filter_map(|e| self.annotation_value(e)).collect();
                self.check_width(values.iter(), a.name.span);
                Body::List(values)
            }
            AnnotationBody::Pairs(l) => {
                let pairs = self.annotation_pairs(l);
                self.check_width(pairs.iter().map(|p| &p.1), a.name.span);
                Body::Pairs(pairs)
            }
        }
    }

    fn annotation_pairs(&mut self, pairs: &[(ast::Ident, ast::Expr)]) -> Vec<(Rc<str>, Value)> {
        pairs
            .iter()
            .filter_map(|(n, e)| Some((n.name.clone(), self.annotation_value(e)?)))
            .collect()
    }

    fn annotation_value(&mut self, e: &ast::Expr) -> Option<Value> {
        if let ast::ExprKind::Type(t) = &e.kind {
            return self.annotation_type(t);
        }
        let mut v = self.expr(e, None);
        self.finish(&mut v);
        match v {
            Expr {
                kind: ExprKind::Int(i), ..
            } => Some(Value::Int(i)),
            Expr {
                kind: ExprKind::Bool(b),
                ..
            } => Some(Value::Bool(b)),
            Expr {
                kind: ExprKind::Str(s), ..
            } => Some(Value::Str(s)),
            Expr {
                kind: ExprKind::MatchKind(k),
                ..
            } => Some(Value::MatchKind(k)),
            v if v.ty.is_poison() || matches!(v.kind, ExprKind::Poison) => None,
            _ => self.error(
                e.span,
                "an annotation's value must be a constant number, boolean or string",
                None,
            ),
        }
    }

    /// P4Info holds numbers of structured annotations in 64 bits.
    fn check_width<'v>(&mut self, mut values: impl Iterator<Item = &'v Value>, span: Span) {
        if values.any(|v| matches!(v, Value::Int(i) if i.to_i64().is_none())) {
            self.sink.error(
                span,
                "a number of a structured annotation must fit 64 bits; write it as a string",
            );
        }
    }

    fn annotation_type(&mut self, t: &ast::TypeRef) -> Option<Value> {
        if matches!(t.kind, TypeRefKind::String) {
            return Some(Value::StringType);
        }
        match self.ty(t) {
            Type::Bit(w) => Some(Value::Int(BigInt::from(w))),
            Type::Poison => None,
            other => {
                let shown = self.show(&other);
                self.error(t.span, format!("{shown} cannot be an annotation's value"), None)
            }
        }
    }

    /// Reports arguments that the annotation does not take. `written` is the syntax, whose arguments may be missing in
    /// `body` because an error in them was reported.
    fn check_form(&mut self, name: &str, form: Form, written: &AnnotationBody, body: &Body, span: Span) {
        let (given, worked_out) = match (written, body) {
            (AnnotationBody::Args(_, w) | AnnotationBody::List(w), Body::Args(b) | Body::List(b)) => (w.len(), b.len()),
            (AnnotationBody::NamedArgs(_, w) | AnnotationBody::Pairs(w), Body::NamedArgs(b) | Body::Pairs(b)) => {
                (w.len(), b.len())
            }
            // Tokens of a known annotation could not be parsed, which was reported.
            (AnnotationBody::Tokens(_), _) => return,
            _ => (0, 0),
        };
        if given != worked_out {
            return;
        }
        let (list, pairs): (&[Value], &[(Rc<str>, Value)]) = match body {
            Body::Args(l) | Body::List(l) => (l, &[]),
            Body::NamedArgs(p) | Body::Pairs(p) => (&[], p),
            _ => (&[], &[]),
        };
        let wrong = match form {
            Form::Empty => (given > 0).then(|| "takes no arguments".to_string()),
            Form::Text => (!matches!(list, [Value::Str(_)])).then(|| "needs one string".to_string()),
            Form::TextOrEmpty => (given > 0 && !matches!(list, [Value::Str(_)])).then(|| "needs a string".to_string()),
            Form::Number(least, most) => match list {
                [Value::Int(v)] if v.to_i64().is_some_and(|v| least <= v && v <= most) => None,
                _ => Some(match (least, most) {
                    (i64::MIN, _) => "needs one whole number".to_string(),
                    _ => format!("needs one whole number from {least} to {most}"),
                }),
            },
            Form::Numbers => {
                let ok = |v: &Value| matches!(v, Value::Int(v) if v.to_u32().is_some());
                (!pairs.is_empty() || !list.iter().all(ok)).then(|| "needs whole numbers of 32 bits".to_string())
            }
            Form::MatchKind => {
                (!matches!(list, [Value::MatchKind(_)])).then(|| "needs the name of a match kind".to_string())
            }
            Form::TextPairs => {
                let ok = |p: &(Rc<str>, Value)| matches!(p.1, Value::Str(_));
                (!list.is_empty() || !pairs.iter().all(ok)).then(|| "needs key = \"text\" pairs".to_string())
            }
            Form::NumberPairs => {
                let ok = |p: &(Rc<str>, Value)| matches!(&p.1, Value::Int(v) if v.to_i32().is_some());
                (!list.is_empty() || !pairs.iter().all(ok)).then(|| "needs key = number pairs".to_string())
            }
            Form::Translation => (!matches!(list, [Value::Str(_), Value::Int(_) | Value::StringType]))
                .then(|| "needs a URI and bit<W>, string or a number of bits".to_string()),
        };
        if let Some(wrong) = wrong {
            self.sink.error(span, format!("@{name} {wrong}"));
        }
    }

    /// `@noWarn` with anything but a literal: its region is known since before the check, its name only now.
    fn silence_late(&mut self, span: Span, body: &Body) {
        if let (Some(region), Body::Args(values) | Body::List(values)) = (self.unnamed.get(&span).copied(), body)
            && let [Value::Str(name)] = values.as_slice()
        {
            self.sink.silence(region, name.to_string());
        }
    }
}
