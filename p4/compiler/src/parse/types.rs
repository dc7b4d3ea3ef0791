//! Type references.

use super::{Parse, Parser};
use crate::ast::{Expr, Ident, TypeRef, TypeRefKind};
use crate::lex::Tok;

impl Parser<'_> {
    /// Whether a type may start here: a base type or a name known to be a type.
    pub(super) fn at_type(&self) -> bool {
        if self.peek() == Tok::Dot {
            return self.type_name_at(1);
        }
        if self.peek() != Tok::Word {
            return false;
        }
        match self.text() {
            "bool" | "bit" | "int" | "varbit" | "string" | "tuple" | "void" | "match_kind" => true,
            // `error.X` is an expression.
            "error" => self.peek_at(1) != Tok::Dot,
            "list" => self.peek_at(1) == Tok::Lt,
            _ => self.type_name_at(0),
        }
    }

    pub(super) fn type_ref(&mut self) -> Parse<TypeRef> {
        self.enter()?;
        let start = self.span();
        let kind = self.type_kind()?;
        let mut ty = TypeRef {
            kind,
            span: start.to(self.last_span()),
        };
        if self.peek() == Tok::Lt && matches!(ty.kind, TypeRefKind::Name { .. }) {
            let args = self.type_args()?;
            ty = TypeRef {
                kind: TypeRefKind::Specialized(Box::new(ty), args),
                span: start.to(self.last_span()),
            };
        }
        let mut dims = 0;
        while self.peek() == Tok::LBracket {
            self.bump();
            let size = self.expression()?;
            self.expect(Tok::RBracket, "']'")?;
            ty = TypeRef {
                kind: TypeRefKind::Array(Box::new(ty), Box::new(size)),
                span: start.to(self.last_span()),
            };
            dims += 1;
            if dims > 8 {
                return self.fail("fewer array dimensions");
            }
        }
        self.leave();
        Ok(ty)
    }

    fn type_kind(&mut self) -> Parse<TypeRefKind> {
        if self.peek() == Tok::Dot {
            self.bump();
            let name = self.name()?;
            return Ok(TypeRefKind::Name { global: true, name });
        }
        if self.peek() != Tok::Word {
            return self.fail("a type");
        }
        let word = self.text().to_string();
        Ok(match word.as_str() {
            "bool" => self.base(TypeRefKind::Bool),
            "error" => self.base(TypeRefKind::Error),
            "match_kind" => self.base(TypeRefKind::MatchKind),
            "string" => self.base(TypeRefKind::String),
            "void" => self.base(TypeRefKind::Void),
            "_" => self.base(TypeRefKind::DontCare),
            "bit" => {
                self.bump();
                let width = if self.peek() == Tok::Lt {
                    Some(Box::new(self.width()?))
                } else {
                    None
                };
                TypeRefKind::Bit(width)
            }
            "int" => {
                self.bump();
                if self.peek() == Tok::Lt {
                    TypeRefKind::Int(Box::new(self.width()?))
                } else {
                    TypeRefKind::Integer
                }
            }
            "varbit" => {
                self.bump();
                TypeRefKind::Varbit(Box::new(self.width()?))
            }
            "tuple" => {
                self.bump();
                TypeRefKind::Tuple(self.type_args()?)
            }
            "list" if self.peek_at(1) == Tok::Lt => {
                self.bump();
                let mut args = self.type_args()?.into_iter();
                match (args.next(), args.next()) {
                    (Some(ty), None) => TypeRefKind::List(Box::new(ty)),
                    _ => return self.fail("one type argument of list"),
                }
            }
            _ => {
                let name: Ident = self.name()?;
                TypeRefKind::Name { global: false, name }
            }
        })
    }

    fn base(&mut self, kind: TypeRefKind) -> TypeRefKind {
        self.bump();
        kind
    }

    /// `<8>`, `<W + 1>` or `<(W > 8 ? 8 : 16)>`: outside of parentheses, `>` ends the width.
    fn width(&mut self) -> Parse<Expr> {
        self.expect(Tok::Lt, "'<'")?;
        let e = self.width_expression()?;
        self.expect_gt()?;
        Ok(e)
    }

    pub(super) fn expect_gt(&mut self) -> Parse<()> {
        self.expect(Tok::Gt, "'>'").map(|_| ())
    }

    /// `<T1, T2>`
    pub(super) fn type_args(&mut self) -> Parse<Vec<TypeRef>> {
        self.expect(Tok::Lt, "'<'")?;
        let mut out = Vec::new();
        while self.peek() != Tok::Gt {
            out.push(self.type_ref()?);
            if !self.eat(Tok::Comma) {
                break;
            }
        }
        self.expect_gt()?;
        Ok(out)
    }

    /// `<T, U>` of a declaration; the names become types in the current scope.
    pub(super) fn type_params(&mut self) -> Parse<Vec<Ident>> {
        let mut out = Vec::new();
        if self.eat(Tok::Lt) {
            while self.peek() != Tok::Gt {
                let name = self.name()?;
                self.declare(&name, true);
                out.push(name);
                if !self.eat(Tok::Comma) {
                    break;
                }
            }
            self.expect_gt()?;
        }
        Ok(out)
    }
}
