//! Where `@noWarn("name")` silences warnings: within the declaration or statement that it annotates.

use crate::ast::{AnnotationBody, Annotations, Block, Decl, DeclKind, Expr, ExprKind, Stmt, StmtKind};
use crate::diagnostics::Sink;
use crate::source::Span;
use std::collections::HashMap;

/// Enters all such places into the sink. Where the name is not a literal it is known only to the type checker: those
/// places are returned, the region by the place of the annotation.
pub(super) fn regions(decls: &[Decl], sink: &mut Sink) -> HashMap<Span, Span> {
    let mut s = Silence {
        sink,
        unnamed: HashMap::new(),
    };
    decls.iter().for_each(|d| s.decl(d));
    s.unnamed
}

struct Silence<'a> {
    sink: &'a mut Sink,
    unnamed: HashMap<Span, Span>,
}

impl Silence<'_> {
    fn at(&mut self, annotations: &Annotations, span: Span) {
        for a in annotations.iter().filter(|a| &*a.name.name == "noWarn") {
            match &a.body {
                AnnotationBody::Args(_, args) | AnnotationBody::List(args) => match args.as_slice() {
                    [
                        Expr {
                            kind: ExprKind::Str(name),
                            ..
                        },
                    ] => self.sink.silence(span, name.to_string()),
                    _ => {
                        self.unnamed.insert(a.name.span, span);
                    }
                },
                _ => {}
            }
        }
    }

    fn decl(&mut self, d: &Decl) {
        self.at(&d.annotations, d.span);
        match &d.kind {
            DeclKind::Function(_, body) | DeclKind::Action(_, body) => self.block(body),
            DeclKind::Control { locals, body, .. } => {
                locals.iter().for_each(|d| self.decl(d));
                self.block(body);
            }
            DeclKind::Parser { locals, states, .. } => {
                locals.iter().for_each(|d| self.decl(d));
                for s in states {
                    self.at(&s.annotations, s.span);
                    s.stmts.iter().for_each(|s| self.stmt(s));
                }
            }
            _ => {}
        }
        let params = match &d.kind {
            DeclKind::Function(sig, _) => sig.params.as_slice(),
            DeclKind::Action(params, _) => params.as_slice(),
            DeclKind::Control { header, .. } | DeclKind::Parser { header, .. } => header.params.as_slice(),
            _ => &[],
        };
        params.iter().for_each(|p| self.at(&p.annotations, p.name.span));
    }

    fn block(&mut self, b: &Block) {
        self.at(&b.annotations, b.span);
        b.stmts.iter().for_each(|s| self.stmt(s));
    }

    fn stmt(&mut self, s: &Stmt) {
        match &s.kind {
            StmtKind::If(_, a, b) => {
                self.stmt(a);
                b.iter().for_each(|b| self.stmt(b));
            }
            StmtKind::Block(b) => self.block(b),
            StmtKind::Switch(_, cases) => cases.iter().filter_map(|c| c.body.as_ref()).for_each(|b| self.block(b)),
            StmtKind::For { body, annotations, .. } | StmtKind::ForIn { body, annotations, .. } => {
                self.at(annotations, s.span);
                self.stmt(body);
            }
            StmtKind::Decl(d) => self.decl(d),
            _ => {}
        }
    }
}
