//! Tables (section "Tables").

use super::{Parse, Parser};
use crate::ast::{ActionRef, Annotations, Decl, DeclKind, Entry, Ident, KeyElement, Property, PropertyValue};
use crate::lex::Tok;
use std::rc::Rc;

impl Parser<'_> {
    pub(super) fn table(&mut self, annotations: Annotations) -> Parse<Decl> {
        let start = self.span();
        self.bump();
        let name = self.name()?;
        self.expect(Tok::LBrace, "'{'")?;
        let mut properties = Vec::new();
        while !self.eat(Tok::RBrace) {
            properties.push(self.property()?);
        }
        self.declare(&name, false);
        Ok(Decl {
            kind: DeclKind::Table(properties),
            span: start.to(self.last_span()),
            annotations,
            name,
        })
    }

    fn property(&mut self) -> Parse<Property> {
        let annotations = self.annotations()?;
        let is_const = self.eat_word("const");
        if matches!(self.text(), "key" | "actions") && !annotations.is_empty() {
            return self.fail("a property that can have annotations");
        }
        let name = self.name()?;
        self.expect(Tok::Assign, "'='")?;
        let value = match &*name.name {
            "key" => PropertyValue::Key(self.key()?),
            "actions" => PropertyValue::Actions(self.actions()?),
            "entries" => PropertyValue::Entries(self.entries()?),
            _ => {
                let e = self.expression()?;
                self.expect_semi()?;
                PropertyValue::Expr(e)
            }
        };
        // A semicolon after the braces is common and harmless.
        if !matches!(value, PropertyValue::Expr(_)) {
            self.eat(Tok::Semi);
        }
        Ok(Property {
            annotations,
            is_const,
            name,
            value,
        })
    }

    fn key(&mut self) -> Parse<Vec<KeyElement>> {
        self.expect(Tok::LBrace, "'{'")?;
        let mut out = Vec::new();
        while !self.eat(Tok::RBrace) {
            let expr = self.expression()?;
            self.expect(Tok::Colon, "':'")?;
            let match_kind: Ident = self.name()?;
            let annotations = self.annotations()?;
            self.expect_semi()?;
            out.push(KeyElement {
                expr,
                match_kind,
                annotations,
            });
        }
        Ok(out)
    }

    fn actions(&mut self) -> Parse<Vec<ActionRef>> {
        self.expect(Tok::LBrace, "'{'")?;
        let mut out = Vec::new();
        while !self.eat(Tok::RBrace) {
            let annotations = self.annotations()?;
            let action = self.action_ref(annotations)?;
            self.expect_semi()?;
            out.push(action);
        }
        Ok(out)
    }

    fn action_ref(&mut self, annotations: Annotations) -> Parse<ActionRef> {
        let start = self.span();
        let global = self.eat(Tok::Dot);
        let name = self.name()?;
        let args = if self.peek() == Tok::LParen {
            Some(self.arguments()?)
        } else {
            None
        };
        Ok(ActionRef {
            annotations,
            global,
            name,
            args,
            span: start.to(self.last_span()),
        })
    }

    fn entries(&mut self) -> Parse<Vec<Entry>> {
        self.expect(Tok::LBrace, "'{'")?;
        let mut out = Vec::new();
        while !self.eat(Tok::RBrace) {
            let start = self.span();
            let is_const = self.eat_word("const");
            let priority = if self.is_word("priority") && self.peek_at(1) == Tok::Assign {
                self.bump();
                self.bump();
                let e = self.expression()?;
                self.expect(Tok::Colon, "':'")?;
                Some(e)
            } else {
                None
            };
            let keyset = self.keyset()?;
            self.expect(Tok::Colon, "':'")?;
            let action = self.action_ref(Rc::new(Vec::new()))?;
            let annotations = self.annotations()?;
            self.expect_semi()?;
            out.push(Entry {
                is_const,
                priority,
                keyset,
                action,
                annotations,
                span: start.to(self.last_span()),
            });
        }
        Ok(out)
    }
}
