//! The preprocessor: `#include`, `#define`, `#undef`, `#if` and its family, `#error`, `#warning`, `#line`, `#pragma`.
//!
//! P4_16 (section "Preprocessing") asks for the C preprocessor's include, define without arguments and
//! conditionals; programs in the field also use function-like macros, so those work too, with `#` and `##`.
//! It works on tokens, which keep the place they were written at, so diagnostics need no line markers.

mod expr;
mod macros;

use crate::diagnostics::{Lint, Sink};
use crate::lex::{Tok, Token, lex_file};
use crate::source::{FileId, SourceMap, Span};
use macros::{Macro, expand};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// Deepest nesting of includes; a cycle without guards ends here.
const MAX_INCLUDE_DEPTH: usize = 64;
/// Most tokens one compilation may produce; a macro that doubles itself ends here.
pub const MAX_TOKENS: usize = 2_000_000;

/// Finds included files.
pub struct Includes<'a> {
    /// Directories of `-I`, in order.
    pub paths: &'a [PathBuf],
    /// Files that ship with the compiler: name, text.
    pub embedded: &'a [(&'a str, &'a str)],
}

/// State of one preprocessing run.
pub struct Preprocessor<'a> {
    map: &'a mut SourceMap,
    sink: &'a mut Sink,
    includes: Includes<'a>,
    macros: HashMap<String, Macro>,
    once: HashSet<String>,
    depth: usize,
    /// Tokens that macro expansion may still look at.
    budget: usize,
    out: Vec<Token>,
    /// Files read from disk, for build scripts that watch them.
    pub dependencies: Vec<PathBuf>,
}

/// One open `#if`.
struct Cond {
    active: bool,
    taken: bool,
    parent: bool,
    seen_else: bool,
    span: Span,
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
            once: HashSet::new(),
            depth: 0,
            budget: 4 * MAX_TOKENS,
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

    /// Preprocesses a file and what it includes; returns the tokens for the parser.
    pub fn run(mut self, file: FileId) -> (Vec<Token>, Vec<PathBuf>) {
        self.file(file);
        (self.out, self.dependencies)
    }

    fn file(&mut self, file: FileId) {
        let tokens = lex_file(self.map, file, self.sink);
        let mut conds: Vec<Cond> = Vec::new();
        let mut pos = 0;
        let mut pending: Vec<Token> = Vec::new();
        while let Some(token) = tokens.get(pos).copied() {
            if self.out.len() > MAX_TOKENS {
                self.sink
                    .error(token.span, "the program is too large after preprocessing");
                return;
            }
            let active = conds.last().is_none_or(|c| c.active);
            if token.tok == Tok::Hash && token.after_newline {
                let end = line_end(&tokens, pos);
                self.flush(&mut pending);
                let line = tokens.get(pos + 1..end).unwrap_or(&[]);
                self.directive(line, token.span, active, &mut conds);
                pos = end;
                continue;
            }
            if active && token.tok != Tok::Newline {
                pending.push(token);
            }
            pos += 1;
        }
        self.flush(&mut pending);
        if let Some(cond) = conds.first() {
            self.sink.error(cond.span, "#if without #endif");
        }
    }

    /// Expands macros in the text between two directives.
    fn flush(&mut self, pending: &mut Vec<Token>) {
        if pending.is_empty() {
            return;
        }
        let tokens = std::mem::take(pending);
        if self.macros.is_empty() {
            self.out.extend(tokens);
        } else {
            expand(
                self.map,
                self.sink,
                &self.macros,
                &mut self.budget,
                &tokens,
                &mut self.out,
            );
        }
    }

    fn directive(&mut self, line: &[Token], hash: Span, active: bool, conds: &mut Vec<Cond>) {
        let Some(first) = line.first().copied() else { return };
        let word = self.map.text(first.text).to_string();
        let rest = line.get(1..).unwrap_or(&[]);
        match word.as_str() {
            "if" | "ifdef" | "ifndef" => {
                let value = active
                    && match word.as_str() {
                        "if" => self.condition(rest, first.span),
                        "ifdef" => self.is_defined(rest, first.span),
                        _ => !self.is_defined(rest, first.span),
                    };
                conds.push(Cond {
                    active: value,
                    taken: value,
                    parent: active,
                    seen_else: false,
                    span: hash,
                });
            }
            "elif" | "else" => {
                let Some(state) = conds.last() else {
                    self.sink.error(first.span, format!("#{word} without #if"));
                    return;
                };
                if state.seen_else {
                    self.sink.error(first.span, format!("#{word} after #else"));
                }
                let open = state.parent && !state.taken;
                let value = open && (word == "else" || self.condition(rest, first.span));
                if let Some(state) = conds.last_mut() {
                    state.active = value;
                    state.taken |= value;
                    state.seen_else |= word == "else";
                }
            }
            "endif" => {
                if conds.pop().is_none() {
                    self.sink.error(first.span, "#endif without #if");
                }
            }
            _ if !active => {}
            "define" => {
                if let Some((name, def)) = Macro::parse(self.map, self.sink, rest, first.span) {
                    self.macros.insert(name, def);
                }
            }
            "undef" => {
                if let Some(name) = rest.first() {
                    let name = self.map.text(name.text).to_string();
                    self.macros.remove(&name);
                }
            }
            "include" => self.include(rest, first.span),
            "error" => {
                let text = self.line_text(rest);
                self.sink.error(first.span, format!("#error {text}"));
            }
            "warning" => {
                let text = self.line_text(rest);
                self.sink
                    .warn(Lint::Unsupported, first.span, format!("#warning {text}"));
            }
            "pragma" => {
                if rest.first().is_some_and(|t| self.map.text(t.text) == "once")
                    && let Some(file) = self.map.file(hash.file)
                {
                    self.once.insert(file.name.clone());
                }
            }
            "line" => {}
            _ if first.tok == Tok::Int => {}
            _ => self.sink.error(first.span, format!("unknown directive #{word}")),
        }
    }

    fn line_text(&self, line: &[Token]) -> String {
        match (line.first(), line.last()) {
            (Some(a), Some(b)) => self.map.text(a.text.to(b.text)).to_string(),
            _ => String::new(),
        }
    }

    fn is_defined(&mut self, rest: &[Token], span: Span) -> bool {
        match rest.first() {
            Some(t) if t.tok == Tok::Word => self.macros.contains_key(self.map.text(t.text)),
            _ => {
                self.sink.error(span, "a macro name is expected here");
                false
            }
        }
    }

    fn condition(&mut self, rest: &[Token], span: Span) -> bool {
        // `defined X` must be resolved before macros are expanded.
        let mut items = Vec::new();
        let mut pos = 0;
        while let Some(t) = rest.get(pos).copied() {
            if t.tok == Tok::Word && self.map.text(t.text) == "defined" {
                let paren = rest.get(pos + 1).is_some_and(|t| t.tok == Tok::LParen);
                let at = if paren { pos + 2 } else { pos + 1 };
                let known = rest
                    .get(at)
                    .is_some_and(|n| self.macros.contains_key(self.map.text(n.text)));
                items.push(expr::Item::Bool(known, t.span));
                pos = if paren { at + 2 } else { at + 1 };
            } else {
                items.push(expr::Item::Token(t));
                pos += 1;
            }
        }
        let mut expanded = Vec::new();
        for item in items {
            match item {
                expr::Item::Token(t) => {
                    let mut run = match expanded.pop() {
                        Some(expr::Item::Run(run)) => run,
                        Some(other) => {
                            expanded.push(other);
                            Vec::new()
                        }
                        None => Vec::new(),
                    };
                    run.push(t);
                    expanded.push(expr::Item::Run(run));
                }
                other => expanded.push(other),
            }
        }
        let mut flat = Vec::new();
        for item in expanded {
            if let expr::Item::Run(run) = item {
                let mut out = Vec::new();
                expand(self.map, self.sink, &self.macros, &mut self.budget, &run, &mut out);
                flat.extend(out.into_iter().map(expr::Item::Token));
            } else {
                flat.push(item);
            }
        }
        match expr::eval(self.map, &flat) {
            Ok(value) => value != 0,
            Err(message) => {
                self.sink.error(span, format!("bad #if condition: {message}"));
                false
            }
        }
    }

    fn include(&mut self, rest: &[Token], span: Span) {
        let mut line = rest.to_vec();
        if line.first().is_some_and(|t| t.tok == Tok::Word) {
            let mut out = Vec::new();
            expand(self.map, self.sink, &self.macros, &mut self.budget, &line, &mut out);
            line = out;
        }
        let Some(first) = line.first().copied() else {
            self.sink.error(span, "#include needs a file name");
            return;
        };
        let (name, local) = if first.tok == Tok::Str {
            (self.map.text(first.text).trim_matches('"').to_string(), true)
        } else if first.tok == Tok::Lt {
            let end = line.iter().find(|t| t.tok == Tok::Gt).copied();
            let Some(end) = end else {
                self.sink.error(first.span, "#include <...> is not closed");
                return;
            };
            let text = Span {
                file: first.text.file,
                lo: first.text.hi,
                hi: end.text.lo,
            };
            (self.map.text(text).to_string(), false)
        } else {
            self.sink.error(first.span, "#include needs \"file\" or <file>");
            return;
        };
        if self.depth >= MAX_INCLUDE_DEPTH {
            self.sink.error(
                first.span,
                format!("includes are nested more than {MAX_INCLUDE_DEPTH} deep: does \"{name}\" include itself?"),
            );
            return;
        }
        let Some(file) = self.find(&name, local, first.span) else {
            return;
        };
        if self.map.file(file).is_some_and(|f| self.once.contains(&f.name)) {
            return;
        }
        self.depth += 1;
        self.file(file);
        self.depth -= 1;
    }

    fn find(&mut self, name: &str, local: bool, span: Span) -> Option<FileId> {
        let own = self.map.file(span.file).and_then(|f| f.dir.clone());
        let mut candidates: Vec<PathBuf> = Vec::new();
        if local && let Some(dir) = own {
            candidates.push(dir.join(name));
        }
        // The user's directories come before the embedded files, so that a program can bring its own.
        candidates.extend(self.includes.paths.iter().map(|p| p.join(name)));
        for path in candidates {
            match std::fs::read(&path) {
                Ok(bytes) => {
                    let text = String::from_utf8_lossy(&bytes);
                    let id = self.map.add(&path.to_string_lossy(), path.parent(), &text, false);
                    self.dependencies.push(path);
                    if id.is_none() {
                        self.sink.error(span, "too many files are included");
                    }
                    return id;
                }
                Err(e) if e.kind() == std::io::ErrorKind::NotFound || path.is_dir() => {}
                Err(e) => {
                    self.sink.error(span, format!("cannot read {}: {e}", path.display()));
                    return None;
                }
            }
        }
        let base = Path::new(name)
            .file_name()
            .map(|f| f.to_string_lossy().into_owned())
            .unwrap_or_default();
        if let Some((n, text)) = self.includes.embedded.iter().find(|(n, _)| *n == name || *n == base) {
            let id = self.map.add(&format!("<{n}>"), None, text, true);
            if id.is_none() {
                self.sink.error(span, "too many files are included");
            }
            return id;
        }
        self.sink
            .error(span, format!("cannot find \"{name}\" in the include path"));
        None
    }
}

fn line_end(tokens: &[Token], from: usize) -> usize {
    tokens
        .get(from..)
        .and_then(|t| t.iter().position(|t| t.tok == Tok::Newline))
        .map_or(tokens.len(), |n| from + n)
}
