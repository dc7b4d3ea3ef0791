//! Expressions (section "Expressions"): precedence climbing over the operators of the grammar's table.

use super::annotation::unescape;
use super::{MAX_CHAIN, Parse, Parser};
use crate::ast::{Arg, BinOp, Expr, ExprKind, Ident, UnOp};
use crate::lex::Tok;
use crate::source::Span;
use num_bigint::BigInt;
use std::rc::Rc;

/// Binding power of `?:`; every binary operator binds tighter.
const TERNARY: u8 = 1;

/// Whether `>` is an operator. Inside the angle brackets of a width it ends the width (`nonGrtExpression` of the grammar).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Greater {
    Operator,
    End,
}

impl Parser<'_> {
    pub(super) fn expression(&mut self) -> Parse<Expr> {
        self.expr_prec(TERNARY, Greater::Operator)
    }

    /// An expression without `>` and `>>` outside of parentheses.
    pub(super) fn width_expression(&mut self) -> Parse<Expr> {
        self.expr_prec(TERNARY, Greater::End)
    }

    fn binary_operator(&self) -> Option<(BinOp, u8, usize)> {
        let next_adjacent = |tok| {
            let n = self.token_at(1);
            n.tok == tok && !n.after_space
        };
        Some(match self.peek() {
            Tok::OrOr => (BinOp::LogOr, 2, 1),
            Tok::AndAnd => (BinOp::LogAnd, 3, 1),
            Tok::EqEq => (BinOp::Eq, 4, 1),
            Tok::Ne => (BinOp::Ne, 4, 1),
            Tok::Lt => (BinOp::Lt, 5, 1),
            Tok::Le => (BinOp::Le, 5, 1),
            Tok::Gt if next_adjacent(Tok::Gt) => (BinOp::Shr, 9, 2),
            // `>>=` belongs to a statement.
            Tok::Gt if next_adjacent(Tok::Ge) => return None,
            Tok::Gt => (BinOp::Gt, 5, 1),
            Tok::Ge => (BinOp::Ge, 5, 1),
            Tok::Or => (BinOp::Or, 6, 1),
            Tok::Xor => (BinOp::Xor, 7, 1),
            Tok::And => (BinOp::And, 8, 1),
            Tok::Shl => (BinOp::Shl, 9, 1),
            Tok::PlusPlus => (BinOp::Concat, 10, 1),
            Tok::Plus => (BinOp::Add, 10, 1),
            Tok::Minus => (BinOp::Sub, 10, 1),
            Tok::SatAdd => (BinOp::SatAdd, 10, 1),
            Tok::SatSub => (BinOp::SatSub, 10, 1),
            Tok::Star => (BinOp::Mul, 11, 1),
            Tok::Slash => (BinOp::Div, 11, 1),
            Tok::Percent => (BinOp::Mod, 11, 1),
            _ => return None,
        })
    }

    fn expr_prec(&mut self, min: u8, greater: Greater) -> Parse<Expr> {
        self.enter()?;
        let mut left = self.unary()?;
        let mut chain = 0;
        loop {
            chain += 1;
            if chain > MAX_CHAIN {
                return self.fail("a shorter expression");
            }
            // `a +: b` in a slice is not an addition.
            if self.peek() == Tok::Plus && self.peek_at(1) == Tok::Colon {
                break;
            }
            if greater == Greater::End && self.peek() == Tok::Gt {
                break;
            }
            if let Some((op, prec, len)) = self.binary_operator() {
                if prec < min {
                    break;
                }
                for _ in 0..len {
                    self.bump();
                }
                let right = self.expr_prec(prec + 1, greater)?;
                let span = left.span.to(right.span);
                left = Expr {
                    kind: ExprKind::Binary(op, Box::new(left), Box::new(right)),
                    span,
                };
            } else if self.peek() == Tok::Question && min <= TERNARY {
                self.bump();
                let a = self.expression()?;
                self.expect(Tok::Colon, "':'")?;
                let b = self.expr_prec(TERNARY, greater)?;
                let span = left.span.to(b.span);
                left = Expr {
                    kind: ExprKind::Ternary(Box::new(left), Box::new(a), Box::new(b)),
                    span,
                };
            } else {
                break;
            }
        }
        self.leave();
        Ok(left)
    }

    fn unary(&mut self) -> Parse<Expr> {
        let start = self.span();
        let op = match self.peek() {
            Tok::Not => UnOp::Not,
            Tok::Tilde => UnOp::Complement,
            Tok::Minus => UnOp::Neg,
            Tok::Plus => UnOp::Plus,
            _ => {
                if self.peek() == Tok::LParen
                    && let Some(cast) = self.cast()?
                {
                    return Ok(cast);
                }
                let primary = self.primary()?;
                return self.postfix(primary);
            }
        };
        self.enter()?;
        self.bump();
        let e = self.unary()?;
        self.leave();
        let span = start.to(e.span);
        Ok(Expr {
            kind: ExprKind::Unary(op, Box::new(e)),
            span,
        })
    }

    /// A primary with postfix operations, as at the start of a statement.
    pub(super) fn lvalue(&mut self) -> Parse<Expr> {
        let primary = self.primary()?;
        self.postfix(primary)
    }

    /// `(type) expression`, if there is a type in the parentheses.
    fn cast(&mut self) -> Parse<Option<Expr>> {
        let start = self.span();
        self.bump();
        let is_type = self.at_type();
        self.pos -= 1;
        if !is_type {
            return Ok(None);
        }
        let ty = self.speculate(|p| {
            p.bump();
            let ty = p.type_ref()?;
            p.expect(Tok::RParen, "')'")?;
            Ok(ty)
        });
        let Some(ty) = ty else { return Ok(None) };
        self.enter()?;
        let e = self.unary()?;
        self.leave();
        let span = start.to(e.span);
        Ok(Some(Expr {
            kind: ExprKind::Cast(ty, Box::new(e)),
            span,
        }))
    }

    /// Inside `bit<...>`: a number or a name, without operators.
    fn member_name(&mut self) -> Parse<Ident> {
        self.name()
    }

    fn primary(&mut self) -> Parse<Expr> {
        let start = self.span();
        let done = |kind, p: &Self| {
            Ok(Expr {
                kind,
                span: start.to(p.last_span()),
            })
        };
        match self.peek() {
            Tok::Int => {
                let t = self.bump();
                let kind = self.number(t.text, t.span)?;
                done(kind, self)
            }
            Tok::Str => {
                let t = self.bump();
                let text: Rc<str> = Rc::from(unescape(self.map.text(t.text)));
                done(ExprKind::Str(text), self)
            }
            Tok::Dots => {
                self.bump();
                done(ExprKind::Dots, self)
            }
            Tok::Invalid => {
                self.bump();
                done(ExprKind::Invalid, self)
            }
            Tok::LParen => {
                self.bump();
                let e = self.expression()?;
                self.expect(Tok::RParen, "')'")?;
                Ok(Expr {
                    kind: e.kind,
                    span: start.to(self.last_span()),
                })
            }
            Tok::LBrace => {
                self.bump();
                self.enter()?;
                let kind = self.brace_list()?;
                self.leave();
                done(kind, self)
            }
            Tok::Dot if self.type_name_at(1) => {
                let ty = self.type_ref()?;
                done(ExprKind::Type(ty), self)
            }
            Tok::Dot => {
                self.bump();
                let name = self.name()?;
                done(ExprKind::Name { global: true, name }, self)
            }
            Tok::Word => self.word(start),
            _ => self.fail("an expression"),
        }
    }

    fn word(&mut self, start: Span) -> Parse<Expr> {
        let text = self.text().to_string();
        let kind = match text.as_str() {
            "true" | "false" => {
                self.bump();
                ExprKind::Bool(text == "true")
            }
            "this" => {
                self.bump();
                ExprKind::This
            }
            "error" | "match_kind" | "bit" | "int" | "bool" | "varbit" | "tuple" | "string" => {
                ExprKind::Type(self.type_ref()?)
            }
            "list" if self.peek_at(1) == Tok::Lt => ExprKind::Type(self.type_ref()?),
            _ if self.type_name_at(0) => ExprKind::Type(self.type_ref()?),
            _ => ExprKind::Name {
                global: false,
                name: self.name()?,
            },
        };
        Ok(Expr {
            kind,
            span: start.to(self.last_span()),
        })
    }

    fn brace_list(&mut self) -> Parse<ExprKind> {
        if self.at_name() && self.peek_at(1) == Tok::Assign {
            let mut pairs = Vec::new();
            let mut dots = false;
            while self.peek() != Tok::RBrace {
                if self.eat(Tok::Dots) {
                    dots = true;
                } else {
                    let name = self.name()?;
                    self.expect(Tok::Assign, "'='")?;
                    pairs.push((name, self.expression()?));
                }
                if !self.eat(Tok::Comma) {
                    break;
                }
            }
            self.expect(Tok::RBrace, "'}'")?;
            return Ok(ExprKind::Pairs(pairs, dots));
        }
        let mut items = Vec::new();
        while self.peek() != Tok::RBrace {
            items.push(self.expression()?);
            if !self.eat(Tok::Comma) {
                break;
            }
        }
        self.expect(Tok::RBrace, "'}'")?;
        Ok(ExprKind::List(items))
    }

    fn postfix(&mut self, mut e: Expr) -> Parse<Expr> {
        let start = e.span;
        for _ in 0..MAX_CHAIN {
            let kind = match self.peek() {
                Tok::Dot => {
                    self.bump();
                    let name = self.member_name()?;
                    ExprKind::Member(Box::new(e), name)
                }
                Tok::LBracket => {
                    self.bump();
                    let a = self.expression()?;
                    let kind = if self.eat(Tok::Colon) {
                        let b = self.expression()?;
                        ExprKind::Slice(Box::new(e), Box::new(a), Box::new(b))
                    } else if self.peek() == Tok::Plus && self.peek_at(1) == Tok::Colon {
                        self.bump();
                        self.bump();
                        let b = self.expression()?;
                        ExprKind::PlusSlice(Box::new(e), Box::new(a), Box::new(b))
                    } else {
                        ExprKind::Index(Box::new(e), Box::new(a))
                    };
                    self.expect(Tok::RBracket, "']'")?;
                    kind
                }
                Tok::LParen => {
                    let args = self.arguments()?;
                    ExprKind::Call {
                        callee: Box::new(e),
                        type_args: Vec::new(),
                        args,
                    }
                }
                Tok::Lt if matches!(e.kind, ExprKind::Member(..) | ExprKind::Name { .. }) => {
                    // Type arguments of a call, or a comparison: only the call has `>(` after it.
                    let Some(type_args) = self.speculate(|p| {
                        let args = p.type_args()?;
                        if p.peek() == Tok::LParen {
                            Ok(args)
                        } else {
                            Err(super::Abandon)
                        }
                    }) else {
                        return Ok(e);
                    };
                    let args = self.arguments()?;
                    ExprKind::Call {
                        callee: Box::new(e),
                        type_args,
                        args,
                    }
                }
                _ => return Ok(e),
            };
            e = Expr {
                kind,
                span: start.to(self.last_span()),
            };
        }
        self.fail("a shorter expression")
    }

    pub(super) fn arguments(&mut self) -> Parse<Vec<Arg>> {
        self.expect(Tok::LParen, "'('")?;
        let mut out = Vec::new();
        while self.peek() != Tok::RParen {
            let start = self.span();
            let name = if self.at_name() && self.peek_at(1) == Tok::Assign {
                let name = self.name()?;
                self.bump();
                Some(name)
            } else {
                None
            };
            let value = if self.eat_word("_") {
                None
            } else {
                Some(self.expression()?)
            };
            out.push(Arg {
                name,
                value,
                span: start.to(self.last_span()),
            });
            if !self.eat(Tok::Comma) {
                break;
            }
        }
        self.expect(Tok::RParen, "')'")?;
        Ok(out)
    }

    /// A set expression of `select`, `entries` or a value list.
    pub(super) fn simple_keyset(&mut self) -> Parse<Expr> {
        let start = self.span();
        if self.eat_word("default") {
            return Ok(Expr {
                kind: ExprKind::Default,
                span: start,
            });
        }
        if self.eat_word("_") {
            return Ok(Expr {
                kind: ExprKind::DontCare,
                span: start,
            });
        }
        let a = self.expression()?;
        let kind = if self.eat(Tok::Mask) {
            ExprKind::Mask(Box::new(a), Box::new(self.expression()?))
        } else if self.eat(Tok::DotDot) {
            ExprKind::Range(Box::new(a), Box::new(self.expression()?))
        } else {
            return Ok(a);
        };
        Ok(Expr {
            kind,
            span: start.to(self.last_span()),
        })
    }

    /// A keyset: one set expression, or several in parentheses (returned as a list).
    pub(super) fn keyset(&mut self) -> Parse<Expr> {
        let start = self.span();
        if self.peek() == Tok::LParen {
            let tuple = self.speculate(|p| {
                p.bump();
                let mut items = vec![p.simple_keyset()?];
                while p.eat(Tok::Comma) {
                    items.push(p.simple_keyset()?);
                }
                p.expect(Tok::RParen, "')'")?;
                // `(a) + b: state` is one expression that starts with a parenthesis.
                if p.peek() == Tok::Colon {
                    Ok(items)
                } else {
                    Err(super::Abandon)
                }
            });
            if let Some(items) = tuple {
                return Ok(Expr {
                    kind: ExprKind::List(items),
                    span: start.to(self.last_span()),
                });
            }
        }
        self.simple_keyset()
    }

    /// A number literal: optional width and sign (`8w`, `4s`), radix prefix, digits with `_`.
    fn number(&mut self, text: Span, span: Span) -> Parse<ExprKind> {
        let raw = self.map.text(text);
        match parse_number(raw) {
            Ok((value, width)) => Ok(ExprKind::Int(value, width)),
            Err(why) => {
                self.sink.error(span, format!("'{raw}' is not a number: {why}"));
                Err(super::Abandon)
            }
        }
    }
}

/// Longest literal accepted, in characters: conversion is quadratic in the length.
const MAX_DIGITS: usize = 4096;

type Number = (BigInt, Option<(u32, bool)>);

fn parse_number(raw: &str) -> Result<Number, String> {
    if raw.len() > MAX_DIGITS {
        return Err("it is too long".into());
    }
    let mut width = None;
    let mut body = raw;
    // A width is decimal digits followed by `w` or `s`; in `0xas` the letters are digits of another radix.
    let digits = raw.bytes().take_while(u8::is_ascii_digit).count();
    if let Some(sign @ (b'w' | b's')) = raw.as_bytes().get(digits) {
        let w = raw
            .get(..digits)
            .and_then(|d| d.parse::<u32>().ok())
            .ok_or("the width is too large")?;
        width = Some((w, *sign == b's'));
        body = raw.get(digits + 1..).unwrap_or("");
    }
    let clean: String = body.chars().filter(|c| *c != '_').collect();
    let (digits, radix) = match clean.get(..2) {
        Some("0x" | "0X") => (clean.get(2..).unwrap_or(""), 16),
        Some("0b" | "0B") => (clean.get(2..).unwrap_or(""), 2),
        Some("0o" | "0O") => (clean.get(2..).unwrap_or(""), 8),
        Some("0d" | "0D") => (clean.get(2..).unwrap_or(""), 10),
        _ => (clean.as_str(), 10),
    };
    if digits.is_empty() {
        return Err("digits are missing".into());
    }
    let value = BigInt::parse_bytes(digits.as_bytes(), radix).ok_or_else(|| format!("bad digits for base {radix}"))?;
    Ok((value, width))
}
