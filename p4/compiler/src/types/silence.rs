//! Where `@noWarn("name")` silences warnings: within what it is written at.

use crate::ast::{Annotation, AnnotationBody, Annotations, Block, Decl, DeclKind, Stmt, StmtKind};
use crate::diagnostics::Sink;
use crate::source::Span;

/// Tells the sink of all such places.
pub(super) fn regions(decls: &[Decl], sink: &mut Sink) {
    decls.iter().for_each(|d| decl(d, sink));
}

fn at(annotations: &Annotations, span: Span, sink: &mut Sink) {
    for a in annotations.iter().filter(|a| &*a.name.name == "noWarn") {
        for name in names(a) {
            sink.silence(span, name);
        }
    }
}

fn names(a: &Annotation) -> Vec<String> {
    match &a.body {
        AnnotationBody::Tokens(tokens) => tokens.iter().filter(|t| t.is_string).map(|t| t.text.clone()).collect(),
        _ => Vec::new(),
    }
}

fn decl(d: &Decl, sink: &mut Sink) {
    at(&d.annotations, d.span, sink);
    match &d.kind {
        DeclKind::Function(_, body) | DeclKind::Action(_, body) => block(body, sink),
        DeclKind::Control { locals, body, .. } => {
            regions(locals, sink);
            block(body, sink);
        }
        DeclKind::Parser { locals, states, .. } => {
            regions(locals, sink);
            for s in states {
                at(&s.annotations, s.span, sink);
                s.stmts.iter().for_each(|s| stmt(s, sink));
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
    params.iter().for_each(|p| at(&p.annotations, p.name.span, sink));
}

fn block(b: &Block, sink: &mut Sink) {
    at(&b.annotations, b.span, sink);
    b.stmts.iter().for_each(|s| stmt(s, sink));
}

fn stmt(s: &Stmt, sink: &mut Sink) {
    match &s.kind {
        StmtKind::If(_, a, b) => {
            stmt(a, sink);
            b.iter().for_each(|b| stmt(b, sink));
        }
        StmtKind::Block(b) => block(b, sink),
        StmtKind::Switch(_, cases) => cases
            .iter()
            .filter_map(|c| c.body.as_ref())
            .for_each(|b| block(b, sink)),
        StmtKind::For { body, annotations, .. } | StmtKind::ForIn { body, annotations, .. } => {
            at(annotations, s.span, sink);
            stmt(body, sink);
        }
        StmtKind::Decl(d) => decl(d, sink),
        _ => {}
    }
}
