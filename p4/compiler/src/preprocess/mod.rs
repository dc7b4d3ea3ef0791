//! The preprocessor: GNU cpp as other P4 compilers call it, `-undef -nostdinc -x assembler-with-cpp`.
//!
//! P4_16 (section "Preprocessing") asks for includes, macros without arguments and conditions; programs in the field use
//! all of C's preprocessor. The phases of translation are those of ISO C (section 5.1.1.2): lines are spliced, then
//! split into tokens, then directives are carried out and macros expanded, line by line. A string literal over several lines
//! is recognised only afterwards (`quoted.rs`), so directives inside it are carried out too. As in the assembler mode of cpp, a
//! line that begins with `#` but is not a directive is not an error: it is left out.
//!
//! It works on tokens, which keep their place in the source, so diagnostics need no line markers.

mod directive;
mod expand;
mod expr;
mod include;
mod macros;
mod quoted;

use crate::diagnostics::Sink;
use crate::lex::{Lexeme, Spliced, Tok, Token};
use crate::source::{FileId, SourceMap, Span};
use expand::{Builtins, Expander};
pub use include::Includes;
use macros::Macro;
use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::rc::Rc;

/// Deepest nesting of includes; a cycle without guards ends here.
const MAX_INCLUDE_DEPTH: usize = 64;
/// Most tokens one compilation may produce; a macro that doubles itself ends here.
pub const MAX_TOKENS: usize = 1_000_000;

/// State of one preprocessing run.
pub struct Preprocessor<'a> {
    map: &'a mut SourceMap,
    sink: &'a mut Sink,
    includes: Includes<'a>,
    macros: HashMap<Rc<str>, Rc<Macro>>,
    builtins: Builtins,
    /// Files that are not read again: `#pragma once`, `#import`.
    once: HashSet<PathBuf>,
    /// Where in the search path each included file was found, for `#include_next`.
    found: HashMap<FileId, usize>,
    /// Tokens that macro expansion may still look at.
    budget: usize,
    out: Vec<Token>,
    dependencies: Vec<PathBuf>,
}

/// One open `#if`.
struct Cond {
    active: bool,
    taken: bool,
    parent: bool,
    seen_else: bool,
    span: Span,
}

/// One file that is being read.
struct Reading {
    text: Spliced,
    lexemes: Vec<Lexeme>,
    pos: usize,
    conds: Vec<Cond>,
    /// Text since the last directive, or since a macro call that is not complete.
    pending: Vec<Token>,
}

impl Reading {
    fn active(&self) -> bool {
        self.conds.last().is_none_or(|c| c.active)
    }

    /// Index of the newline that ends the line of a lexeme.
    fn line_end(&self, from: usize) -> usize {
        self.lexemes
            .get(from..)
            .and_then(|l| l.iter().position(|l| l.token.tok == Tok::Newline))
            .map_or(self.lexemes.len(), |n| from + n)
    }

    /// Position in the text where the line of a lexeme ends.
    fn line_end_at(&self, from: usize) -> usize {
        self.lexemes
            .get(self.line_end(from))
            .map_or(self.text.text().len(), |l| l.lo)
    }
}

impl<'a> Preprocessor<'a> {
    /// A preprocessor with the command line's definitions.
    pub fn new(
        map: &'a mut SourceMap,
        sink: &'a mut Sink,
        includes: Includes<'a>,
        defines: &[(String, String)],
    ) -> Self {
        let mut pp = Preprocessor {
            map,
            sink,
            includes,
            macros: HashMap::new(),
            builtins: Builtins::default(),
            once: HashSet::new(),
            found: HashMap::new(),
            budget: 2 * MAX_TOKENS,
            out: Vec::new(),
            dependencies: Vec::new(),
        };
        for (name, value) in defines {
            let text = format!("#define {name} {value}\n");
            if let Some(file) = pp.map.add("<command line>", None, &text, true) {
                pp.file(file);
            }
        }
        pp
    }

    /// Preprocesses a file and what it includes; returns the tokens for the parser, and the files that were read from
    /// disk.
    pub fn run(mut self, file: FileId) -> (Vec<Token>, Vec<PathBuf>) {
        self.builtins.base = self.map.file(file).map(|f| f.name.clone()).unwrap_or_default();
        self.file(file);
        for t in &self.out {
            if t.tok == Tok::Quote {
                self.sink.error(t.span, "this string is not closed");
            }
        }
        (self.out, self.dependencies)
    }

    fn expander(&mut self) -> Expander<'_> {
        Expander::new(self.map, self.sink, &self.macros, &mut self.builtins, &mut self.budget)
    }

    fn file(&mut self, file: FileId) {
        let text = Spliced::new(self.map, file);
        let lexemes = text.lex(0, text.text().len(), self.map, self.sink);
        let mut r = Reading {
            text,
            lexemes,
            pos: 0,
            conds: Vec::new(),
            pending: Vec::new(),
        };
        while let Some(token) = r.lexemes.get(r.pos).map(|l| l.token) {
            if self.out.len() > MAX_TOKENS || self.budget == 0 {
                self.sink
                    .error(token.span, "the program is too large after preprocessing");
                return;
            }
            if token.tok == Tok::Hash && token.after_newline {
                self.directive(&mut r);
            } else if !r.active() || token.tok == Tok::Newline {
                r.pos += 1;
            } else if token.tok == Tok::Quote {
                self.quoted(&mut r);
            } else {
                r.pending.push(token);
                r.pos += 1;
            }
        }
        self.flush(&mut r, false);
        if let Some(cond) = r.conds.first() {
            self.sink.error(cond.span, "#if without #endif");
        }
    }

    /// Expands macros in the text so far. With `more`, a call whose arguments are not complete stays: they may go on
    /// behind a directive.
    fn flush(&mut self, r: &mut Reading, more: bool) {
        if r.pending.is_empty() {
            return;
        }
        let tokens = std::mem::take(&mut r.pending);
        let mut out = std::mem::take(&mut self.out);
        let taken = self.expander().run(&tokens, more, &mut out);
        self.out = out;
        r.pending = tokens.get(taken..).unwrap_or(&[]).to_vec();
    }
}
