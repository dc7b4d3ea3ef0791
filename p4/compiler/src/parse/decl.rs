//! Declarations.

use super::{Abandon, Parse, Parser};
use crate::ast::{
    Annotations, BlockTypeDecl, Decl, DeclKind, Direction, Expr, Field, FunctionSig, Ident, Param, SelectCase, State,
    StructKind, Transition, TypeRef, TypeRefKind,
};
use crate::lex::Tok;
use crate::source::Span;
use std::rc::Rc;

impl Parser<'_> {
    pub(super) fn declaration(&mut self) -> Parse<Decl> {
        let annotations = self.annotations()?;
        let start = self.span();
        if self.peek() != Tok::Word && self.peek() != Tok::Dot {
            return self.fail("a declaration");
        }
        let word = self.text().to_string();
        let mut decl = match word.as_str() {
            "const" => self.constant(annotations.clone())?,
            "extern" => self.extern_decl(annotations.clone())?,
            "action" => self.action(annotations.clone())?,
            "parser" | "control" | "package" => self.block_decl(annotations.clone())?,
            "header" | "struct" | "header_union" => self.structure(annotations.clone())?,
            "enum" => self.enumeration(annotations.clone())?,
            "typedef" => self.typedef(annotations.clone(), true)?,
            "type" if self.peek_at(1) == Tok::Word => self.typedef(annotations.clone(), false)?,
            "error" | "match_kind" if self.peek_at(1) == Tok::LBrace && !annotations.is_empty() => {
                return self.fail("a declaration that can have annotations");
            }
            "error" if self.peek_at(1) == Tok::LBrace => self.name_set(true)?,
            "match_kind" if self.peek_at(1) == Tok::LBrace => self.name_set(false)?,
            _ => self.function_or_instance(annotations.clone())?,
        };
        decl.span = start.to(self.last_span());
        Ok(decl)
    }

    pub(super) fn constant(&mut self, annotations: Annotations) -> Parse<Decl> {
        let start = self.span();
        self.bump();
        let ty = self.type_ref()?;
        let name = self.name()?;
        self.expect(Tok::Assign, "'='")?;
        let value = self.expression()?;
        self.expect_semi()?;
        self.declare(&name, false);
        Ok(Decl {
            kind: DeclKind::Const(ty, value),
            span: start.to(self.last_span()),
            annotations,
            name,
        })
    }

    fn extern_decl(&mut self, annotations: Annotations) -> Parse<Decl> {
        let start = self.span();
        self.bump();
        // `extern Name<T> {` declares an object; everything else is a function prototype.
        let object = self.at_name() && !self.at_type_then_name();
        if object {
            let name = self.name()?;
            self.declare(&name, true);
            self.push_scope();
            let type_params = self.type_params()?;
            let mut methods = Vec::new();
            if self.eat(Tok::Semi) {
                self.pop_scope();
                let kind = DeclKind::ExternObject { type_params, methods };
                return Ok(Decl {
                    kind,
                    span: start.to(self.last_span()),
                    annotations,
                    name,
                });
            }
            self.expect(Tok::LBrace, "'{'")?;
            while !self.eat(Tok::RBrace) {
                let annotations = self.annotations()?;
                let is_abstract = self.eat_word("abstract");
                self.push_scope();
                let constructor = self.is_word(&name.name.clone()) && self.peek_at(1) == Tok::LParen;
                let mut sig = if constructor {
                    let name = self.name()?;
                    let params = self.params()?;
                    FunctionSig {
                        annotations: annotations.clone(),
                        is_abstract,
                        result: None,
                        name,
                        type_params: Vec::new(),
                        params,
                    }
                } else {
                    self.prototype()?
                };
                self.pop_scope();
                sig.annotations = annotations;
                sig.is_abstract = is_abstract;
                self.expect_semi()?;
                methods.push(sig);
            }
            self.pop_scope();
            let kind = DeclKind::ExternObject { type_params, methods };
            return Ok(Decl {
                kind,
                span: start.to(self.last_span()),
                annotations,
                name,
            });
        }
        self.push_scope();
        let mut sig = self.prototype()?;
        self.pop_scope();
        sig.annotations = annotations.clone();
        self.expect_semi()?;
        let name = sig.name.clone();
        self.declare(&name, false);
        Ok(Decl {
            kind: DeclKind::ExternFunction(sig),
            span: start.to(self.last_span()),
            annotations,
            name,
        })
    }

    /// Looks ahead whether `name ... name (` follows, which is a function's result type and name.
    fn at_type_then_name(&mut self) -> bool {
        // A name followed by `{`, `<...> {` or `;` is an object.
        match self.peek_at(1) {
            Tok::LBrace | Tok::Semi => false,
            Tok::Lt => {
                let mut depth = 0usize;
                let mut n = 1;
                loop {
                    match self.peek_at(n) {
                        Tok::Lt => depth += 1,
                        Tok::Gt => {
                            depth = depth.saturating_sub(1);
                            if depth == 0 {
                                break;
                            }
                        }
                        Tok::Eof => return true,
                        _ => {}
                    }
                    n += 1;
                }
                !matches!(self.peek_at(n + 1), Tok::LBrace | Tok::Semi)
            }
            _ => true,
        }
    }

    /// `type name<T>(params)`. A result type may be a type parameter that is declared only after it.
    pub(super) fn prototype(&mut self) -> Parse<FunctionSig> {
        let result = self.type_ref()?;
        let name = self.name()?;
        let type_params = self.type_params()?;
        let params = self.params()?;
        Ok(FunctionSig {
            annotations: Rc::new(Vec::new()),
            is_abstract: false,
            result: Some(result),
            name,
            type_params,
            params,
        })
    }

    pub(super) fn params(&mut self) -> Parse<Vec<Param>> {
        self.expect(Tok::LParen, "'('")?;
        let mut out = Vec::new();
        while self.peek() != Tok::RParen {
            let annotations = self.annotations()?;
            let direction = if self.eat_word("in") {
                Direction::In
            } else if self.eat_word("out") {
                Direction::Out
            } else if self.eat_word("inout") {
                Direction::InOut
            } else {
                Direction::None
            };
            let ty = self.type_ref()?;
            let name = self.name()?;
            let default = if self.eat(Tok::Assign) {
                Some(self.expression()?)
            } else {
                None
            };
            self.declare(&name, false);
            out.push(Param {
                annotations,
                direction,
                ty,
                name,
                default,
            });
            if !self.eat(Tok::Comma) {
                break;
            }
        }
        self.expect(Tok::RParen, "')'")?;
        Ok(out)
    }

    pub(super) fn action(&mut self, annotations: Annotations) -> Parse<Decl> {
        let start = self.span();
        self.bump();
        let name = self.name()?;
        self.push_scope();
        let params = self.params()?;
        let body = self.block()?;
        self.pop_scope();
        self.declare(&name, false);
        Ok(Decl {
            kind: DeclKind::Action(params, body),
            span: start.to(self.last_span()),
            annotations,
            name,
        })
    }

    fn block_decl(&mut self, annotations: Annotations) -> Parse<Decl> {
        let start = self.span();
        let word = self.text().to_string();
        self.bump();
        let name = self.name()?;
        self.declare(&name, true);
        self.push_scope();
        let type_params = self.type_params()?;
        let params = self.params()?;
        let header = BlockTypeDecl { type_params, params };
        let kind = if word == "package" {
            self.expect_semi()?;
            DeclKind::Package(header)
        } else if self.eat(Tok::Semi) {
            if word == "parser" {
                DeclKind::ParserType(header)
            } else {
                DeclKind::ControlType(header)
            }
        } else {
            let ctor = if self.peek() == Tok::LParen {
                self.params()?
            } else {
                Vec::new()
            };
            self.expect(Tok::LBrace, "'{'")?;
            if word == "parser" {
                self.parser_body(header, ctor)?
            } else {
                self.control_body(header, ctor)?
            }
        };
        self.pop_scope();
        Ok(Decl {
            kind,
            span: start.to(self.last_span()),
            annotations,
            name,
        })
    }

    fn parser_body(&mut self, header: BlockTypeDecl, ctor: Vec<Param>) -> Parse<DeclKind> {
        let mut locals = Vec::new();
        let mut states = Vec::new();
        while !self.eat(Tok::RBrace) {
            let (depth, scopes) = (self.depth, self.scopes.len());
            let result = self.parser_member(&mut locals, &mut states);
            if result.is_err() {
                self.depth = depth;
                self.scopes.truncate(scopes);
                self.recover_inside();
                if self.peek() == Tok::Eof || self.sink.is_flooded() {
                    return Err(Abandon);
                }
            }
        }
        Ok(DeclKind::Parser {
            header,
            ctor,
            locals,
            states,
        })
    }

    fn parser_member(&mut self, locals: &mut Vec<Decl>, states: &mut Vec<State>) -> Parse<()> {
        let annotations = self.annotations()?;
        if self.is_word("state") && self.is_name_at(1) {
            states.push(self.state(annotations)?);
        } else {
            locals.push(self.local(annotations)?);
        }
        Ok(())
    }

    fn state(&mut self, annotations: Annotations) -> Parse<State> {
        let start = self.span();
        self.bump();
        let name = self.name()?;
        self.expect(Tok::LBrace, "'{'")?;
        self.push_scope();
        let mut stmts = Vec::new();
        let mut transition = Transition::None;
        while self.peek() != Tok::RBrace {
            if self.eat_word("transition") {
                transition = self.transition()?;
                break;
            }
            stmts.push(self.statement()?);
        }
        self.expect(Tok::RBrace, "'}'")?;
        self.pop_scope();
        Ok(State {
            annotations,
            name,
            stmts,
            transition,
            span: start.to(self.last_span()),
        })
    }

    fn transition(&mut self) -> Parse<Transition> {
        let start = self.span();
        if !self.eat_word("select") {
            let name = self.name()?;
            self.expect_semi()?;
            return Ok(Transition::Direct(name));
        }
        self.expect(Tok::LParen, "'('")?;
        let mut keys = Vec::new();
        while self.peek() != Tok::RParen {
            keys.push(self.expression()?);
            if !self.eat(Tok::Comma) {
                break;
            }
        }
        self.expect(Tok::RParen, "')'")?;
        self.expect(Tok::LBrace, "'{'")?;
        let mut cases = Vec::new();
        while !self.eat(Tok::RBrace) {
            let keyset = self.keyset()?;
            self.expect(Tok::Colon, "':'")?;
            let state = self.name()?;
            self.expect_semi()?;
            cases.push(SelectCase { keyset, state });
        }
        Ok(Transition::Select(keys, cases, start.to(self.last_span())))
    }

    fn control_body(&mut self, header: BlockTypeDecl, ctor: Vec<Param>) -> Parse<DeclKind> {
        let mut locals = Vec::new();
        loop {
            let (depth, scopes) = (self.depth, self.scopes.len());
            if self.is_word("apply") && matches!(self.peek_at(1), Tok::LBrace | Tok::At) {
                self.bump();
                let body = self.block()?;
                self.expect(Tok::RBrace, "'}' after the apply block")?;
                return Ok(DeclKind::Control {
                    header,
                    ctor,
                    locals,
                    body,
                });
            }
            if matches!(self.peek(), Tok::RBrace | Tok::Eof) {
                return self.fail("the control's apply block");
            }
            let result = self.annotations().and_then(|a| self.local(a));
            match result {
                Ok(decl) => locals.push(decl),
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
    }

    /// A member of a parser, control or instance body.
    pub(super) fn local(&mut self, annotations: Annotations) -> Parse<Decl> {
        let word = if self.peek() == Tok::Word {
            self.text().to_string()
        } else {
            String::new()
        };
        match word.as_str() {
            "const" => self.constant(annotations),
            "action" => self.action(annotations),
            "table" => self.table(annotations),
            "value_set" => self.value_set(annotations),
            _ => self.function_or_instance(annotations),
        }
    }

    fn value_set(&mut self, annotations: Annotations) -> Parse<Decl> {
        let start = self.span();
        self.bump();
        self.expect(Tok::Lt, "'<'")?;
        let ty = self.type_ref()?;
        self.expect_gt()?;
        self.expect(Tok::LParen, "'('")?;
        let size = self.expression()?;
        self.expect(Tok::RParen, "')'")?;
        let name = self.name()?;
        self.expect_semi()?;
        self.declare(&name, false);
        Ok(Decl {
            kind: DeclKind::ValueSet { ty, size },
            span: start.to(self.last_span()),
            annotations,
            name,
        })
    }

    /// `type name(params) {...}`, `type(args) name;` or `type name [= value];`.
    fn function_or_instance(&mut self, annotations: Annotations) -> Parse<Decl> {
        let start = self.span();
        if !self.at_type() && !self.at_name() {
            return self.fail("a declaration");
        }
        self.push_scope();
        let ty = self.type_ref()?;
        if self.peek() == Tok::LParen {
            let args = self.arguments()?;
            let name = self.name()?;
            let body = if self.eat(Tok::Assign) {
                Some(self.instance_body()?)
            } else {
                None
            };
            self.expect_semi()?;
            self.pop_scope();
            self.declare(&name, false);
            return Ok(Decl {
                kind: DeclKind::Instance { ty, args, body },
                span: start.to(self.last_span()),
                annotations,
                name,
            });
        }
        let name = self.name()?;
        if matches!(self.peek(), Tok::Lt | Tok::LParen) {
            let type_params = self.type_params()?;
            let params = self.params()?;
            let sig = FunctionSig {
                annotations: annotations.clone(),
                is_abstract: false,
                result: Some(ty),
                name: name.clone(),
                type_params,
                params,
            };
            let body = self.block()?;
            self.pop_scope();
            self.declare(&name, false);
            return Ok(Decl {
                kind: DeclKind::Function(sig, body),
                span: start.to(self.last_span()),
                annotations,
                name,
            });
        }
        let init = if self.eat(Tok::Assign) {
            Some(self.expression()?)
        } else {
            None
        };
        self.expect_semi()?;
        self.pop_scope();
        self.declare(&name, false);
        Ok(Decl {
            kind: DeclKind::Var(ty, init),
            span: start.to(self.last_span()),
            annotations,
            name,
        })
    }

    fn instance_body(&mut self) -> Parse<Vec<Decl>> {
        self.expect(Tok::LBrace, "'{'")?;
        let mut out = Vec::new();
        while !self.eat(Tok::RBrace) {
            let annotations = self.annotations()?;
            out.push(self.local(annotations)?);
        }
        Ok(out)
    }

    fn structure(&mut self, annotations: Annotations) -> Parse<Decl> {
        let start = self.span();
        let kind = match self.text() {
            "struct" => StructKind::Struct,
            "header" => StructKind::Header,
            _ => StructKind::Union,
        };
        self.bump();
        let name = self.name()?;
        self.declare(&name, true);
        self.push_scope();
        let type_params = self.type_params()?;
        self.expect(Tok::LBrace, "'{'")?;
        let mut fields = Vec::new();
        while !self.eat(Tok::RBrace) {
            let annotations = self.annotations()?;
            let mut ty = self.type_ref()?;
            let name = self.name()?;
            // p4c also accepts the size of an array after the field's name.
            if self.eat(Tok::LBracket) {
                let size = self.expression()?;
                self.expect(Tok::RBracket, "']'")?;
                ty = TypeRef {
                    span: ty.span,
                    kind: TypeRefKind::Array(Box::new(ty), Box::new(size)),
                };
            }
            self.expect_semi()?;
            fields.push(Field { annotations, ty, name });
        }
        self.pop_scope();
        let kind = DeclKind::Struct {
            kind,
            type_params,
            fields,
        };
        Ok(Decl {
            kind,
            span: start.to(self.last_span()),
            annotations,
            name,
        })
    }

    fn enumeration(&mut self, annotations: Annotations) -> Parse<Decl> {
        let start = self.span();
        self.bump();
        let repr = if self.at_name() && self.peek_at(1) == Tok::LBrace {
            None
        } else {
            Some(self.type_ref()?)
        };
        let name = self.name()?;
        self.declare(&name, true);
        self.expect(Tok::LBrace, "'{'")?;
        let mut members: Vec<(Ident, Option<Expr>)> = Vec::new();
        while self.peek() != Tok::RBrace {
            let name = self.name()?;
            let value = if self.eat(Tok::Assign) {
                Some(self.expression()?)
            } else {
                None
            };
            members.push((name, value));
            if !self.eat(Tok::Comma) {
                break;
            }
        }
        self.expect(Tok::RBrace, "'}'")?;
        Ok(Decl {
            kind: DeclKind::Enum { repr, members },
            span: start.to(self.last_span()),
            annotations,
            name,
        })
    }

    fn typedef(&mut self, annotations: Annotations, alias: bool) -> Parse<Decl> {
        let start = self.span();
        self.bump();
        let declares = |text: &str| matches!(text, "struct" | "header" | "header_union" | "enum");
        let is_derived = self.peek() == Tok::At || self.peek() == Tok::Word && declares(self.text());
        let ty = if alias && is_derived {
            self.derived_type()?
        } else {
            self.type_ref()?
        };
        let name = self.name()?;
        self.expect_semi()?;
        self.declare(&name, true);
        let kind = if alias {
            DeclKind::Typedef(ty)
        } else {
            DeclKind::NewType(ty)
        };
        Ok(Decl {
            kind,
            span: start.to(self.last_span()),
            annotations,
            name,
        })
    }

    /// The declaration of a type inside a `typedef`, as that type.
    fn derived_type(&mut self) -> Parse<TypeRef> {
        let start = self.span();
        let annotations = self.annotations()?;
        let mut decl = match self.text() {
            "enum" => self.enumeration(annotations)?,
            "struct" | "header" | "header_union" => self.structure(annotations)?,
            _ => return self.fail("a type"),
        };
        decl.span = start.to(self.last_span());
        let kind = TypeRefKind::Name {
            global: false,
            name: decl.name.clone(),
        };
        let span = decl.span;
        self.inner.push(decl);
        Ok(TypeRef { kind, span })
    }

    fn name_set(&mut self, errors: bool) -> Parse<Decl> {
        let start: Span = self.span();
        let word = self.bump();
        let map = self.map;
        let name = Ident {
            name: self.intern(map.text(word.text)),
            span: word.span,
        };
        self.expect(Tok::LBrace, "'{'")?;
        let mut names = Vec::new();
        while self.peek() != Tok::RBrace {
            names.push(self.name()?);
            if !self.eat(Tok::Comma) {
                break;
            }
        }
        self.expect(Tok::RBrace, "'}'")?;
        let kind = if errors {
            DeclKind::Errors(names)
        } else {
            DeclKind::MatchKinds(names)
        };
        Ok(Decl {
            kind,
            span: start.to(self.last_span()),
            annotations: Rc::new(Vec::new()),
            name,
        })
    }
}
