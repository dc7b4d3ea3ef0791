//! Annotations (section "Annotations") and `@pragma` lines.

use super::{Parse, Parser};
use crate::ast::{AnnToken, Annotation, AnnotationBody, Annotations, Ident};
use crate::lex::Tok;
use std::rc::Rc;

impl Parser<'_> {
    pub(super) fn annotations(&mut self) -> Parse<Annotations> {
        let mut out = Vec::new();
        while self.peek() == Tok::At {
            out.push(self.annotation()?);
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
            let mut tokens = Vec::new();
            while self.peek() != Tok::Eof && !self.token().after_newline {
                tokens.push(self.annotation_token());
            }
            return Ok(Annotation {
                name,
                body: AnnotationBody::Tokens(tokens),
            });
        }
        let body = match self.peek() {
            Tok::LParen => {
                self.bump();
                let mut depth = 0usize;
                let mut tokens = Vec::new();
                loop {
                    match self.peek() {
                        Tok::Eof => return self.fail("')' that closes the annotation"),
                        Tok::LParen => depth += 1,
                        Tok::RParen if depth == 0 => break,
                        Tok::RParen => depth -= 1,
                        _ => {}
                    }
                    tokens.push(self.annotation_token());
                }
                self.bump();
                AnnotationBody::Tokens(tokens)
            }
            Tok::LBracket => {
                self.bump();
                self.structured_body()?
            }
            _ => AnnotationBody::Empty,
        };
        Ok(Annotation { name, body })
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
