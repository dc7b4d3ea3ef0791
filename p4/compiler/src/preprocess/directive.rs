//! Directives.

use super::expand::BUILTIN;
use super::{Cond, Macro, Preprocessor, Reading, expr};
use crate::diagnostics::Lint;
use crate::lex::{Tok, Token, lex_made};
use crate::source::Span;
use std::rc::Rc;

impl Preprocessor<'_> {
    /// Executes the directive at the current position, and moves past its line.
    pub(super) fn directive(&mut self, r: &mut Reading) {
        let end = r.line_end(r.pos);
        let Some(hash) = r.lexemes.get(r.pos).copied() else {
            return;
        };
        let line: Vec<Token> = r
            .lexemes
            .get(r.pos + 1..end)
            .unwrap_or(&[])
            .iter()
            .map(|l| l.token)
            .collect();
        let raw_end = r.line_end_at(r.pos);
        let raw_start = r.lexemes.get(r.pos + 1).map_or(hash.hi, |l| l.hi).min(raw_end);
        let raw = r.text.text().get(raw_start..raw_end).unwrap_or("").to_string();
        r.pos = end;
        let Some(first) = line.first().copied() else { return };
        let rest = line.get(1..).unwrap_or(&[]);
        let word = self.map.text(first.text).to_string();
        if self.condition_directive(r, &word, rest, first.span, hash.token.span) || !r.active() {
            return;
        }
        match word.as_str() {
            "include" | "include_next" | "import" => {
                self.flush(r, false);
                self.include(&word, rest, &raw, first.span);
            }
            "define" => {
                self.flush(r, true);
                self.define(rest, first.span);
            }
            "undef" => {
                self.flush(r, true);
                match rest.first().filter(|t| t.tok == Tok::Word) {
                    Some(name) => {
                        self.macros.remove(self.map.text(name.text));
                    }
                    None => self.sink.error(first.span, "#undef needs the name of a macro"),
                }
            }
            "error" => {
                let text = raw.trim();
                self.sink.error(first.span, format!("#error {text}"));
            }
            "warning" => {
                let text = raw.trim();
                self.sink
                    .warn(Lint::Unsupported, first.span, format!("#warning {text}"));
            }
            "pragma" => self.pragma(rest, hash.token.span),
            "line" => {
                self.flush(r, true);
                self.line(rest, hash.token.span);
            }
            _ if first.tok == Tok::Int => {
                self.flush(r, true);
                self.line(&line, hash.token.span);
            }
            // Old directives of C and of assemblers without an effect on the text after them.
            "ident" | "sccs" | "assert" | "unassert" => {}
            _ => {
                // `# text` is a comment, as in a shell; `#text` may be one, or a directive that is misspelt.
                if first.tok == Tok::Word && !first.after_space {
                    self.sink.warn(
                        Lint::Unsupported,
                        first.span,
                        format!("#{word} is not a directive; the line is ignored"),
                    );
                }
            }
        }
    }

    /// Handles `#if` and the related directives. Returns whether `word` is one of them.
    fn condition_directive(&mut self, r: &mut Reading, word: &str, rest: &[Token], span: Span, hash: Span) -> bool {
        let active = r.active();
        match word {
            "if" | "ifdef" | "ifndef" => {
                self.flush(r, true);
                let value = active && self.truth(word, rest, span);
                r.conds.push(Cond {
                    active: value,
                    taken: value,
                    parent: active,
                    seen_else: false,
                    span: hash,
                });
            }
            "elif" | "elifdef" | "elifndef" | "else" => {
                self.flush(r, true);
                let Some(state) = r.conds.last() else {
                    self.sink.error(span, format!("#{word} without #if"));
                    return true;
                };
                if state.seen_else {
                    self.sink.error(span, format!("#{word} after #else"));
                }
                let open = state.parent && !state.taken;
                let value = open && (word == "else" || self.truth(word, rest, span));
                if let Some(state) = r.conds.last_mut() {
                    state.active = value;
                    state.taken |= value;
                    state.seen_else |= word == "else";
                }
            }
            "endif" => {
                self.flush(r, true);
                if r.conds.pop().is_none() {
                    self.sink.error(span, "#endif without #if");
                }
            }
            _ => return false,
        }
        true
    }

    fn truth(&mut self, word: &str, rest: &[Token], span: Span) -> bool {
        match word {
            "if" | "elif" => self.condition(rest, span),
            "ifdef" | "elifdef" => self.is_defined(rest, span),
            _ => !self.is_defined(rest, span),
        }
    }

    fn is_defined(&mut self, rest: &[Token], span: Span) -> bool {
        match rest.first() {
            Some(t) if t.tok == Tok::Word => {
                let name = self.map.text(t.text);
                self.macros.contains_key(name) || BUILTIN.contains(&name)
            }
            _ => {
                self.sink.error(span, "a macro name is expected here");
                false
            }
        }
    }

    fn condition(&mut self, rest: &[Token], span: Span) -> bool {
        let line = self.has_includes(rest);
        let mut tokens = Vec::new();
        let mut expander = self.expander();
        expander.condition = true;
        expander.run(&line, false, &mut tokens);
        match expr::eval(self.map, &tokens) {
            Ok(value) => value != 0,
            Err(message) => {
                self.sink.error(span, format!("bad #if condition: {message}"));
                false
            }
        }
    }

    /// Replaces `__has_include(file)` by 1 or 0.
    fn has_includes(&mut self, line: &[Token]) -> Vec<Token> {
        let mut out = Vec::new();
        let mut pos = 0;
        while let Some(t) = line.get(pos).copied() {
            pos += 1;
            let word = if t.tok == Tok::Word { self.map.text(t.text) } else { "" };
            let next = word == "__has_include_next";
            let called = line.get(pos).is_some_and(|t| t.tok == Tok::LParen);
            if !(next || word == "__has_include") || !called {
                out.push(t);
                continue;
            }
            let mut depth = 0usize;
            let first = pos + 1;
            while let Some(t) = line.get(pos) {
                match t.tok {
                    Tok::LParen => depth += 1,
                    Tok::RParen => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    break;
                }
                pos += 1;
            }
            let inner = line.get(first..pos).unwrap_or(&[]);
            pos += 1;
            let raw = match (inner.first(), inner.last()) {
                (Some(a), Some(b)) => self.map.text(a.text.to(b.text)).to_string(),
                _ => String::new(),
            };
            let Some((name, local)) = self.file_name(inner, &raw, t.span) else {
                continue;
            };
            let found = self.has_include(&name, local, next, t.span);
            if let Some(made) = self.map.make(if found { "1" } else { "0" }) {
                out.extend(lex_made(self.map, made, t.span));
            }
        }
        out
    }

    fn define(&mut self, rest: &[Token], span: Span) {
        let Some((name, def)) = Macro::parse(self.map, self.sink, rest, span) else {
            return;
        };
        if let Some(old) = self.macros.get(name.as_str()).filter(|old| !old.same(&def)) {
            self.sink.warn_note(
                Lint::Duplicate,
                def.span,
                format!("macro {name} is defined again, differently"),
                old.span,
                "first defined here",
            );
        }
        self.macros.insert(name.into(), Rc::new(def));
    }

    fn pragma(&mut self, rest: &[Token], hash: Span) {
        // Others are for compilers of other languages, or for tools that read the source.
        if rest.first().is_some_and(|t| self.map.text(t.text) == "once") {
            self.once.insert(self.identity(hash.file));
        }
    }

    /// `#line 5 "name"`: the next line has this number, for `__LINE__` and `__FILE__`.
    fn line(&mut self, rest: &[Token], hash: Span) {
        let mut line = Vec::new();
        self.expander().run(rest, false, &mut line);
        let number = line.first().and_then(|t| self.map.text(t.text).parse::<i64>().ok());
        let Some(number) = number else {
            self.sink.error(hash, "#line needs a line's number");
            return;
        };
        let (here, _) = self.map.line_col(hash);
        self.builtins.line_shift = number - i64::from(here) - 1;
        if let Some(name) = line.get(1).filter(|t| t.tok == Tok::Str) {
            self.builtins.file = Some(self.map.text(name.text).trim_matches('"').to_string());
        }
    }
}
