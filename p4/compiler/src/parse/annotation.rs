//! Annotations (section "Annotations") and `@pragma` lines.

use super::{Parse, Parser};
use crate::ast::{AnnToken, Annotation, AnnotationBody, Annotations, BinOp, Expr, ExprKind, Ident};
use crate::known::{self, Form};
use crate::lex::Tok;
use std::rc::Rc;

impl Parser<'_> {
    pub(super) fn annotations(&mut self) -> Parse<Annotations> {
        let mut out = Vec::new();
        while self.peek() == Tok::At {
            let a = self.annotation()?;
            if !self.disabled.iter().any(|d| **d == *a.name.name) {
                out.push(a);
            }
        }
        Ok(Rc::new(out))
    }

    fn annotation(&mut self) -> Parse<Annotation> {
        self.expect(Tok::At, "'@'")?;
        if self.peek() != Tok::Word {
            return self.fail("an annotation's name");
        }
        let t = self.bump();
        let map = self.map;
        let mut name = Ident {
            name: self.intern(map.text(t.text)),
            span: t.span,
        };
        if &*name.name == "pragma" && self.peek() == Tok::Word {
            let t = self.bump();
            name = Ident {
                name: self.intern(map.text(t.text)),
                span: t.span,
            };
            let first = self.pos;
            while self.peek() != Tok::Eof && !self.token().after_newline {
                self.bump();
            }
            let body = self.unstructured_body(&name, first, self.pos);
            return Ok(Annotation { name, body });
        }
        let body = match self.peek() {
            Tok::LParen => {
                self.bump();
                let first = self.pos;
                let mut depth = 0usize;
                loop {
                    match self.peek() {
                        Tok::Eof => return self.fail("')' that closes the annotation"),
                        Tok::LParen => depth += 1,
                        Tok::RParen if depth == 0 => break,
                        Tok::RParen => depth -= 1,
                        _ => {}
                    }
                    self.bump();
                }
                let body = self.unstructured_body(&name, first, self.pos);
                self.bump();
                body
            }
            Tok::LBracket => {
                self.bump();
                self.structured_body()?
            }
            _ => AnnotationBody::Empty,
        };
        Ok(Annotation { name, body })
    }

    /// Parses the body between two positions, and leaves the parser at the second one.
    fn unstructured_body(&mut self, name: &Ident, first: usize, end: usize) -> AnnotationBody {
        self.pos = first;
        let mut tokens = Vec::new();
        while self.pos < end {
            tokens.push(self.annotation_token());
        }
        let Some(form) = known::form(&name.name) else {
            return AnnotationBody::Tokens(tokens);
        };
        if tokens.is_empty() {
            return AnnotationBody::Empty;
        }
        // Hide the tokens after the body, so that no expression reads beyond it.
        let whole = self.tokens;
        self.tokens = whole.get(..end).unwrap_or(whole);
        self.pos = first;
        let depth = self.depth;
        let args = match form {
            Form::TextPairs | Form::NumberPairs => self.named_arguments().map(Err),
            _ => self.listed_arguments().map(Ok),
        };
        self.tokens = whole;
        self.pos = end;
        self.depth = depth;
        match args {
            Ok(Ok(list)) => AnnotationBody::Args(tokens, list),
            Ok(Err(pairs)) => AnnotationBody::NamedArgs(tokens, pairs),
            // The error is reported; from here on the annotation counts as one without arguments.
            Err(_) => AnnotationBody::Tokens(tokens),
        }
    }

    fn listed_arguments(&mut self) -> Parse<Vec<Expr>> {
        let mut out = vec![self.annotation_argument()?];
        while self.eat(Tok::Comma) && self.peek() != Tok::Eof {
            out.push(self.annotation_argument()?);
        }
        self.end_of_arguments()?;
        Ok(out)
    }

    fn named_arguments(&mut self) -> Parse<Vec<(Ident, Expr)>> {
        let mut out: Vec<(Ident, Expr)> = Vec::new();
        while self.peek() != Tok::Eof {
            let name = self.name()?;
            self.expect(Tok::Assign, "'='")?;
            if out.iter().any(|(n, _)| n.name == name.name) {
                self.sink.error(name.span, format!("{} is given twice", name.name));
            }
            out.push((name, self.expression()?));
            if !self.eat(Tok::Comma) {
                break;
            }
        }
        self.end_of_arguments()?;
        Ok(out)
    }

    /// An expression; neighbouring strings are one string.
    fn annotation_argument(&mut self) -> Parse<Expr> {
        let mut e = self.expression()?;
        while self.peek() == Tok::Str {
            let right = self.expression()?;
            let span = e.span.to(right.span);
            e = Expr {
                kind: ExprKind::Binary(BinOp::Concat, Box::new(e), Box::new(right)),
                span,
            };
        }
        Ok(e)
    }

    fn end_of_arguments(&mut self) -> Parse<()> {
        match self.peek() {
            Tok::Eof => Ok(()),
            _ => self.fail("',' or the end of the annotation"),
        }
    }

    fn structured_body(&mut self) -> Parse<AnnotationBody> {
        let mut pairs = Vec::new();
        let mut list = Vec::new();
        while self.peek() != Tok::RBracket {
            if self.peek() == Tok::Word && self.peek_at(1) == Tok::Assign {
                let name = self.name()?;
                self.bump();
                pairs.push((name, self.expression()?));
            } else {
                list.push(self.expression()?);
            }
            if !self.eat(Tok::Comma) {
                break;
            }
        }
        let span = self.span();
        self.expect(Tok::RBracket, "']'")?;
        if !pairs.is_empty() && !list.is_empty() {
            self.sink
                .error(span, "an annotation holds either values or key=value pairs, not both");
        }
        Ok(if pairs.is_empty() {
            AnnotationBody::List(list)
        } else {
            AnnotationBody::Pairs(pairs)
        })
    }

    fn annotation_token(&mut self) -> AnnToken {
        let t = self.bump();
        let raw = self.map.text(t.text);
        let is_string = t.tok == Tok::Str;
        let text = if is_string { unescape(raw) } else { raw.to_string() };
        AnnToken {
            text,
            is_string,
            is_int: t.tok == Tok::Int,
            space_before: t.after_space,
            span: t.span,
        }
    }
}

/// Contents of a string literal: `\"`, `\\` and `\n` are the escapes of the specification.
pub(super) fn unescape(raw: &str) -> String {
    let body = raw.strip_prefix('"').unwrap_or(raw);
    let body = body.strip_suffix('"').unwrap_or(body);
    let mut out = String::with_capacity(body.len());
    let mut chars = body.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('n') => out.push('\n'),
            Some(c @ ('"' | '\\')) => out.push(c),
            Some(c) => {
                out.push('\\');
                out.push(c);
            }
            None => {}
        }
    }
    out
}
