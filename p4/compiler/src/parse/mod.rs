//! Tokens to syntax tree: a hand-written recursive-descent parser, Pratt style for expressions.
//!
//! P4's grammar needs to know which names are types (`(T) x` against `(a) - b`), so the parser keeps a stack of scopes,
//! which record for each declared name whether it is a type. It recovers at declarations and statements, so a file
//! shows several syntax errors at once. Nesting is bounded by [`MAX_DEPTH`].

mod annotation;
mod decl;
mod expr;
mod stmt;
mod table;
mod types;

use crate::ast::{Decl, Ident};
use crate::diagnostics::Sink;
use crate::lex::{Tok, Token};
use crate::source::{SourceMap, Span};
use std::collections::HashMap;
use std::rc::Rc;

/// Deepest nesting of expressions, types, statements and blocks.
pub const MAX_DEPTH: usize = 200;
/// Longest chain of left-associative operators or postfix operations: each adds a level to the tree.
pub const MAX_CHAIN: usize = 1500;

/// Marks that an error was reported and the construct is abandoned.
#[derive(Debug, Clone, Copy)]
pub struct Abandon;

pub type Parse<T> = Result<T, Abandon>;

pub struct Parser<'a> {
    map: &'a SourceMap,
    sink: &'a mut Sink,
    tokens: &'a [Token],
    pos: usize,
    depth: usize,
    scopes: Vec<HashMap<Rc<str>, bool>>,
    names: HashMap<String, Rc<str>>,
    /// Types declared inside the current declaration; they are put before it.
    inner: Vec<Decl>,
    /// Names of annotations to leave out.
    disabled: &'a [String],
}

/// Parses a whole program; what could be parsed is returned even if there are errors.
/// Annotations of the names in `disabled` are left out.
pub fn parse(map: &SourceMap, sink: &mut Sink, tokens: &[Token], disabled: &[String]) -> Vec<Decl> {
    let mut p = Parser {
        map,
        sink,
        tokens,
        pos: 0,
        depth: 0,
        scopes: vec![HashMap::new()],
        names: HashMap::new(),
        inner: Vec::new(),
        disabled,
    };
    let mut out = Vec::new();
    while p.peek() != Tok::Eof {
        if p.eat(Tok::Semi) {
            continue;
        }
        let start = p.pos;
        match p.declaration() {
            Ok(decl) => {
                out.append(&mut p.inner);
                out.push(decl);
            }
            Err(Abandon) => {
                p.inner.clear();
                p.scopes.truncate(1);
                p.depth = 0;
                p.recover_declaration(start);
            }
        }
        if p.sink.is_flooded() {
            break;
        }
    }
    out
}

/// Reserved words that are never names.
const RESERVED: &[&str] = &[
    "abstract",
    "action",
    "bit",
    "bool",
    "break",
    "const",
    "continue",
    "control",
    "default",
    "else",
    "enum",
    "error",
    "exit",
    "extern",
    "false",
    "for",
    "header",
    "header_union",
    "if",
    "in",
    "inout",
    "int",
    "match_kind",
    "out",
    "package",
    "parser",
    "return",
    "select",
    "string",
    "struct",
    "switch",
    "table",
    "this",
    "transition",
    "true",
    "tuple",
    "typedef",
    "varbit",
    "value_set",
    "void",
    "_",
];

impl Parser<'_> {
    fn token(&self) -> Token {
        self.token_at(0)
    }

    fn token_at(&self, ahead: usize) -> Token {
        match self.tokens.get(self.pos + ahead) {
            Some(t) => *t,
            None => {
                let last = self.tokens.last().map_or(Span::default(), |t| t.span);
                let span = Span { lo: last.hi, ..last };
                Token {
                    tok: Tok::Eof,
                    text: Span::default(),
                    span,
                    after_newline: true,
                    after_space: true,
                    no_expand: false,
                }
            }
        }
    }

    fn peek(&self) -> Tok {
        self.token().tok
    }

    fn peek_at(&self, ahead: usize) -> Tok {
        self.token_at(ahead).tok
    }

    fn text(&self) -> &str {
        self.map.text(self.token().text)
    }

    fn text_at(&self, ahead: usize) -> &str {
        self.map.text(self.token_at(ahead).text)
    }

    fn span(&self) -> Span {
        self.token().span
    }

    /// Span of the token before the current one.
    fn last_span(&self) -> Span {
        self.pos
            .checked_sub(1)
            .and_then(|p| self.tokens.get(p))
            .map_or(Span::default(), |t| t.span)
    }

    fn bump(&mut self) -> Token {
        let t = self.token();
        if self.pos < self.tokens.len() {
            self.pos += 1;
        }
        t
    }

    fn eat(&mut self, tok: Tok) -> bool {
        if self.peek() == tok {
            self.bump();
            true
        } else {
            false
        }
    }

    fn is_word(&self, word: &str) -> bool {
        self.peek() == Tok::Word && self.text() == word
    }

    fn eat_word(&mut self, word: &str) -> bool {
        if self.is_word(word) {
            self.bump();
            true
        } else {
            false
        }
    }

    fn fail<T>(&mut self, what: &str) -> Parse<T> {
        let found = match self.peek() {
            Tok::Eof => "the end of the file".to_string(),
            _ => format!("'{}'", self.text()),
        };
        let span = self.span();
        self.sink.error(span, format!("expected {what}, found {found}"));
        Err(Abandon)
    }

    fn expect(&mut self, tok: Tok, what: &str) -> Parse<Token> {
        if self.peek() == tok {
            Ok(self.bump())
        } else {
            self.fail(what)
        }
    }

    fn expect_semi(&mut self) -> Parse<()> {
        self.expect(Tok::Semi, "';'").map(|_| ())
    }

    fn expect_word(&mut self, word: &str) -> Parse<()> {
        if self.eat_word(word) {
            Ok(())
        } else {
            self.fail(&format!("'{word}'"))
        }
    }

    fn intern(&mut self, text: &str) -> Rc<str> {
        if let Some(rc) = self.names.get(text) {
            return rc.clone();
        }
        let rc: Rc<str> = Rc::from(text);
        self.names.insert(text.to_string(), rc.clone());
        rc
    }

    /// Whether the current token can be a name.
    fn at_name(&self) -> bool {
        self.is_name_at(0)
    }

    fn is_name_at(&self, ahead: usize) -> bool {
        self.peek_at(ahead) == Tok::Word && !RESERVED.contains(&self.text_at(ahead))
    }

    fn name(&mut self) -> Parse<Ident> {
        if !self.at_name() {
            if self.peek() == Tok::Word {
                let (span, text) = (self.span(), self.text().to_string());
                self.sink
                    .error(span, format!("'{text}' is a reserved word and cannot be a name"));
                return Err(Abandon);
            }
            return self.fail("a name");
        }
        let t = self.bump();
        let map = self.map;
        let name = self.intern(map.text(t.text));
        Ok(Ident { name, span: t.span })
    }

    fn enter(&mut self) -> Parse<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            let span = self.span();
            self.sink
                .error(span, format!("this is nested more than {MAX_DEPTH} levels deep"));
            return Err(Abandon);
        }
        Ok(())
    }

    fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    fn push_scope(&mut self) {
        self.scopes.push(HashMap::new());
    }

    fn pop_scope(&mut self) {
        if self.scopes.len() > 1 {
            self.scopes.pop();
        }
    }

    fn declare(&mut self, name: &Ident, is_type: bool) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.name.clone(), is_type);
        }
    }

    fn is_type_name(&self, name: &str) -> bool {
        self.scopes
            .iter()
            .rev()
            .find_map(|s| s.get(name))
            .copied()
            .unwrap_or(false)
    }

    /// Whether the word at `ahead` names a type in scope (after an optional leading dot).
    fn type_name_at(&self, ahead: usize) -> bool {
        if !self.is_name_at(ahead) {
            return false;
        }
        let name = self.text_at(ahead);
        if ahead > 0 && self.peek_at(ahead - 1) == Tok::Dot {
            return self.scopes.first().and_then(|s| s.get(name)).copied().unwrap_or(false);
        }
        self.is_type_name(name)
    }

    /// Tries a parse whose failure is not an error: restores everything if it fails.
    fn speculate<T>(&mut self, f: impl FnOnce(&mut Self) -> Parse<T>) -> Option<T> {
        let (pos, depth, scopes) = (self.pos, self.depth, self.scopes.len());
        self.sink.mute();
        let result = f(self);
        self.sink.unmute();
        if result.is_err() {
            self.pos = pos;
            self.depth = depth;
            self.scopes.truncate(scopes);
        }
        result.ok()
    }

    /// Skips to the start of the next declaration: after a `;` or a closing brace at the outermost level.
    fn recover_declaration(&mut self, start: usize) {
        let mut depth = 0i32;
        for t in self.tokens.get(start..self.pos).unwrap_or(&[]) {
            match t.tok {
                Tok::LBrace => depth += 1,
                Tok::RBrace => depth -= 1,
                _ => {}
            }
        }
        if self.pos == start {
            match self.bump().tok {
                Tok::LBrace => depth += 1,
                Tok::Semi if depth <= 0 => return,
                _ => {}
            }
        }
        while self.peek() != Tok::Eof {
            match self.bump().tok {
                Tok::LBrace => depth += 1,
                Tok::RBrace => {
                    depth -= 1;
                    if depth <= 0 {
                        return;
                    }
                }
                Tok::Semi if depth <= 0 => return,
                _ => {}
            }
        }
    }

    /// Skips to the end of a broken statement or member, staying inside the enclosing braces.
    fn recover_inside(&mut self) {
        let mut depth = 0usize;
        while self.peek() != Tok::Eof {
            match self.peek() {
                Tok::LBrace => depth += 1,
                Tok::RBrace if depth == 0 => return,
                Tok::RBrace => {
                    depth -= 1;
                    if depth == 0 {
                        self.bump();
                        return;
                    }
                }
                Tok::Semi if depth == 0 => {
                    self.bump();
                    return;
                }
                _ => {}
            }
            self.bump();
        }
    }
}
