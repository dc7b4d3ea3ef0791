//! Statements (section "Statements").

use super::{Abandon, MAX_CHAIN, Parse, Parser};
use crate::ast::{BinOp, Block, Decl, DeclKind, Expr, ExprKind, Stmt, StmtKind, SwitchCase};
use crate::lex::Tok;
use std::rc::Rc;

impl Parser<'_> {
    pub(super) fn block(&mut self) -> Parse<Block> {
        let annotations = self.annotations()?;
        let start = self.span();
        self.expect(Tok::LBrace, "'{'")?;
        self.enter()?;
        self.push_scope();
        let mut stmts = Vec::new();
        while self.peek() != Tok::RBrace {
            if self.peek() == Tok::Eof {
                return self.fail("'}'");
            }
            let (depth, scopes) = (self.depth, self.scopes.len());
            match self.statement() {
                Ok(s) => stmts.push(s),
                Err(Abandon) => {
                    self.depth = depth;
                    self.scopes.truncate(scopes);
                    self.recover_inside();
                    if self.sink.is_flooded() {
                        return Err(Abandon);
                    }
                }
            }
        }
        self.bump();
        self.pop_scope();
        self.leave();
        Ok(Block {
            annotations,
            stmts,
            span: start.to(self.last_span()),
        })
    }

    pub(super) fn statement(&mut self) -> Parse<Stmt> {
        self.enter()?;
        let start = self.span();
        let kind = self.statement_kind()?;
        self.leave();
        Ok(Stmt {
            kind,
            span: start.to(self.last_span()),
        })
    }

    fn statement_kind(&mut self) -> Parse<StmtKind> {
        match self.peek() {
            Tok::Semi => {
                self.bump();
                return Ok(StmtKind::Empty);
            }
            Tok::LBrace => return Ok(StmtKind::Block(self.block()?)),
            Tok::At => return self.annotated(),
            _ => {}
        }
        if self.peek() == Tok::Word {
            match self.text() {
                "if" => return self.conditional(),
                "return" => {
                    self.bump();
                    let value = if self.peek() == Tok::Semi {
                        None
                    } else {
                        Some(self.expression()?)
                    };
                    self.expect_semi()?;
                    return Ok(StmtKind::Return(value));
                }
                "break" => return self.simple(StmtKind::Break),
                "continue" => return self.simple(StmtKind::Continue),
                "exit" => return self.simple(StmtKind::Exit),
                "switch" => return self.switch(),
                "for" => return self.for_loop(Rc::new(Vec::new())),
                "const" => return Ok(StmtKind::Decl(Box::new(self.constant(Rc::new(Vec::new()))?))),
                _ => {}
            }
        }
        let stmt = self.simple_statement(Rc::new(Vec::new()))?;
        self.expect_semi()?;
        Ok(stmt)
    }

    fn simple(&mut self, kind: StmtKind) -> Parse<StmtKind> {
        self.bump();
        self.expect_semi()?;
        Ok(kind)
    }

    fn annotated(&mut self) -> Parse<StmtKind> {
        let annotations = self.annotations()?;
        if self.peek() == Tok::LBrace {
            let mut block = self.block()?;
            block.annotations = annotations;
            return Ok(StmtKind::Block(block));
        }
        if self.is_word("for") {
            return self.for_loop(annotations);
        }
        if self.is_word("const") {
            return Ok(StmtKind::Decl(Box::new(self.constant(annotations)?)));
        }
        if !self.at_type() {
            return self.fail("a declaration, a block or a loop after the annotation");
        }
        let stmt = self.simple_statement(annotations)?;
        if !matches!(stmt, StmtKind::Decl(_)) {
            return self.fail("a declaration, a block or a loop after the annotation");
        }
        self.expect_semi()?;
        Ok(stmt)
    }

    /// A declaration, assignment or call, without the semicolon.
    fn simple_statement(&mut self, annotations: crate::ast::Annotations) -> Parse<StmtKind> {
        if self.at_type()
            && let Some(decl) = self.variable(annotations)?
        {
            return Ok(StmtKind::Decl(Box::new(decl)));
        }
        let left = self.lvalue_or_call()?;
        let op = match self.peek() {
            Tok::Assign => None,
            Tok::PlusEq => Some(BinOp::Add),
            Tok::MinusEq => Some(BinOp::Sub),
            Tok::StarEq => Some(BinOp::Mul),
            Tok::SlashEq => Some(BinOp::Div),
            Tok::PercentEq => Some(BinOp::Mod),
            Tok::SatAddEq => Some(BinOp::SatAdd),
            Tok::SatSubEq => Some(BinOp::SatSub),
            Tok::ShlEq => Some(BinOp::Shl),
            Tok::AndEq => Some(BinOp::And),
            Tok::OrEq => Some(BinOp::Or),
            Tok::XorEq => Some(BinOp::Xor),
            Tok::Gt if self.peek_at(1) == Tok::Ge => {
                self.bump();
                Some(BinOp::Shr)
            }
            _ if matches!(left.kind, ExprKind::Call { .. }) => return Ok(StmtKind::Call(left)),
            _ => return self.fail("'=' or a call"),
        };
        self.bump();
        let right = self.expression()?;
        Ok(StmtKind::Assign(left, op, right))
    }

    fn lvalue_or_call(&mut self) -> Parse<Expr> {
        if matches!(self.peek(), Tok::Word | Tok::Dot | Tok::LParen) {
            // Postfix expressions only: operators cannot start a statement.
            self.lvalue()
        } else {
            self.fail("a statement")
        }
    }

    /// A local variable: `type name [= value]`. `None` (nothing consumed) if it is not one, as in `T.apply()`.
    fn variable(&mut self, annotations: crate::ast::Annotations) -> Parse<Option<Decl>> {
        let start = self.span();
        let pos = self.pos;
        let ty = self.type_ref()?;
        if matches!(self.peek(), Tok::Dot | Tok::LParen) {
            if self.peek() == Tok::LParen {
                let args = self.arguments()?;
                let name = self.name()?;
                self.declare(&name, false);
                let kind = DeclKind::Instance { ty, args, body: None };
                return Ok(Some(Decl {
                    kind,
                    span: start.to(self.last_span()),
                    annotations,
                    name,
                }));
            }
            self.pos = pos;
            return Ok(None);
        }
        let name = self.name()?;
        let init = if self.eat(Tok::Assign) {
            Some(self.expression()?)
        } else {
            None
        };
        self.declare(&name, false);
        Ok(Some(Decl {
            kind: DeclKind::Var(ty, init),
            span: start.to(self.last_span()),
            annotations,
            name,
        }))
    }

    fn conditional(&mut self) -> Parse<StmtKind> {
        // A chain of `else if` is long rather than deep.
        let mut arms = Vec::new();
        let mut otherwise = None;
        loop {
            let start = self.span();
            self.bump();
            self.expect(Tok::LParen, "'('")?;
            let cond = self.expression()?;
            self.expect(Tok::RParen, "')'")?;
            let then = self.statement()?;
            arms.push((cond, then, start.to(self.last_span())));
            if arms.len() > MAX_CHAIN {
                return self.fail("a shorter chain of else if");
            }
            if !self.eat_word("else") {
                break;
            }
            if self.text() != "if" {
                otherwise = Some(Box::new(self.statement()?));
                break;
            }
        }
        let mut result = None;
        for (cond, then, span) in arms.into_iter().rev() {
            if let Some(kind) = result.take() {
                otherwise = Some(Box::new(Stmt { kind, span }));
            }
            result = Some(StmtKind::If(cond, Box::new(then), otherwise.take()));
        }
        result.map_or_else(|| self.fail("a condition"), Ok)
    }

    fn switch(&mut self) -> Parse<StmtKind> {
        self.bump();
        self.expect(Tok::LParen, "'('")?;
        let value = self.expression()?;
        self.expect(Tok::RParen, "')'")?;
        self.expect(Tok::LBrace, "'{'")?;
        let mut cases = Vec::new();
        while !self.eat(Tok::RBrace) {
            let start = self.span();
            let label = if self.eat_word("default") {
                None
            } else {
                Some(self.expression()?)
            };
            let span = start.to(self.last_span());
            self.expect(Tok::Colon, "':'")?;
            let body = if matches!(self.peek(), Tok::LBrace | Tok::At) {
                Some(self.block()?)
            } else {
                None
            };
            cases.push(SwitchCase { label, span, body });
        }
        Ok(StmtKind::Switch(value, cases))
    }

    fn for_loop(&mut self, annotations: crate::ast::Annotations) -> Parse<StmtKind> {
        self.bump();
        self.expect(Tok::LParen, "'('")?;
        self.push_scope();
        let each = self.speculate(|p| {
            let of_var = p.annotations()?;
            let ty = p.type_ref()?;
            let var = p.name()?;
            p.expect_word("in")?;
            Ok((of_var, ty, var))
        });
        let kind = if let Some((of_var, ty, var)) = each {
            // The variable lives as long as the loop, so an annotation of one holds for both.
            let annotations = Rc::new(annotations.iter().chain(&*of_var).cloned().collect());
            let from = self.expression()?;
            let to = if self.eat(Tok::DotDot) {
                Some(self.expression()?)
            } else {
                None
            };
            self.expect(Tok::RParen, "')'")?;
            self.declare(&var, false);
            let body = Box::new(self.statement()?);
            StmtKind::ForIn {
                ty,
                var,
                from,
                to,
                body,
                annotations,
            }
        } else {
            let init = self.for_statements(Tok::Semi)?;
            self.expect_semi()?;
            let cond = self.expression()?;
            self.expect_semi()?;
            let update = self.for_statements(Tok::RParen)?;
            self.expect(Tok::RParen, "')'")?;
            let body = Box::new(self.statement()?);
            StmtKind::For {
                init,
                cond,
                update,
                body,
                annotations,
            }
        };
        self.pop_scope();
        Ok(kind)
    }

    fn for_statements(&mut self, end: Tok) -> Parse<Vec<Stmt>> {
        let mut out = Vec::new();
        while self.peek() != end {
            let start = self.span();
            let annotations = self.annotations()?;
            let annotated = !annotations.is_empty();
            let kind = self.simple_statement(annotations)?;
            if annotated && !matches!(kind, StmtKind::Decl(_)) {
                return self.fail("a declaration after the annotation");
            }
            out.push(Stmt {
                kind,
                span: start.to(self.last_span()),
            });
            if !self.eat(Tok::Comma) {
                break;
            }
        }
        Ok(out)
    }
}
