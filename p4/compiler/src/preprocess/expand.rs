//! Macro expansion, as ISO C section 6.10.3 and the GNU preprocessor have it.
//!
//! Tokens come from a stack of contexts: the text at the bottom, above it the bodies of the macros that are being
//! expanded. A macro is not expanded again inside its own context, and a name that was met there is never expanded
//! later. The arguments of a function-like macro may reach from its context into the ones below, as in `#define F G`
//! and `F(1)`.

use super::MAX_TOKENS;
use super::macros::{Kind, Macro, Part};
use crate::diagnostics::{Lint, Sink};
use crate::lex::{Tok, Token, lex_made};
use crate::source::{SourceMap, Span};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// Deepest nesting of macro uses inside macro bodies.
const MAX_CONTEXTS: usize = 4096;
/// Deepest nesting of separately expanded arguments: for each level the expander calls itself.
const MAX_ARGUMENT_DEPTH: usize = 128;

/// The values of macros that the compiler itself defines.
#[derive(Debug, Default)]
pub struct Builtins {
    /// `__COUNTER__`: the next number.
    pub counter: u64,
    /// `__INCLUDE_LEVEL__`.
    pub level: usize,
    /// `__BASE_FILE__`.
    pub base: String,
    /// `#line`: what is added to the line numbers of the current file.
    pub line_shift: i64,
    /// The name that `#line` gave.
    pub file: Option<String>,
}

/// Names of macros that the compiler defines by itself.
pub const BUILTIN: [&str; 7] = [
    "__LINE__",
    "__FILE__",
    "__BASE_FILE__",
    "__INCLUDE_LEVEL__",
    "__COUNTER__",
    "__has_include",
    "__has_include_next",
];

/// The parts of a preprocessor that expansion needs.
pub struct Expander<'a> {
    pub map: &'a mut SourceMap,
    pub sink: &'a mut Sink,
    pub macros: &'a HashMap<Rc<str>, Rc<Macro>>,
    pub builtins: &'a mut Builtins,
    /// Number of tokens that may still be read; stops macros that double each other.
    pub budget: &'a mut usize,
    /// Inside `#if`: `defined` is an operator.
    pub condition: bool,
    stack: Vec<Context>,
    /// Macros whose bodies are on the stack.
    active: HashSet<Rc<str>>,
    /// A context ended: the next token must not join with the one before it.
    padded: bool,
    argument_depth: usize,
}

struct Context {
    tokens: Rc<[Token]>,
    pos: usize,
    /// The macro whose body this is.
    name: Option<Rc<str>>,
}

/// Result of reading a macro's arguments.
enum Arguments {
    Complete(Vec<Vec<Token>>),
    /// No parenthesis follows: the name is only a name.
    NoCall,
    /// The text ended inside them.
    Open,
    /// The text ended before them.
    End,
}

impl<'a> Expander<'a> {
    pub fn new(
        map: &'a mut SourceMap,
        sink: &'a mut Sink,
        macros: &'a HashMap<Rc<str>, Rc<Macro>>,
        builtins: &'a mut Builtins,
        budget: &'a mut usize,
    ) -> Self {
        Expander {
            map,
            sink,
            macros,
            builtins,
            budget,
            condition: false,
            stack: Vec::new(),
            active: HashSet::new(),
            padded: false,
            argument_depth: 0,
        }
    }

    /// Expands all macros of `tokens` into `out`, and returns the number of tokens used. If more text follows (`more`),
    /// the tokens of an unfinished call are not used: the caller passes them again with that text.
    pub fn run(&mut self, tokens: &[Token], more: bool, out: &mut Vec<Token>) -> usize {
        let base = self.stack.len();
        self.push(tokens.into(), None);
        let taken = self.expand(base, more, out);
        while self.stack.len() > base {
            self.pop();
        }
        taken.unwrap_or(tokens.len())
    }

    fn push(&mut self, tokens: Rc<[Token]>, name: Option<Rc<str>>) {
        if let Some(name) = &name {
            self.active.insert(name.clone());
        }
        self.stack.push(Context { tokens, pos: 0, name });
    }

    fn pop(&mut self) {
        if let Some(name) = self.stack.pop().and_then(|c| c.name) {
            self.active.remove(&name);
        }
    }

    /// The next token of the contexts from `base` on.
    fn next(&mut self, base: usize) -> Option<Token> {
        loop {
            let is_base = self.stack.len() == base + 1;
            let top = self.stack.last_mut()?;
            if let Some(t) = top.tokens.get(top.pos).copied() {
                top.pos += 1;
                let padded = std::mem::take(&mut self.padded) && t.tok.joins();
                return Some(Token {
                    after_space: t.after_space || padded,
                    ..t
                });
            }
            if is_base {
                return None;
            }
            self.pop();
            self.padded = true;
        }
    }

    /// `Some(n)` if the call that starts at token `n` is not complete.
    fn expand(&mut self, base: usize, more: bool, out: &mut Vec<Token>) -> Option<usize> {
        // The position of the last token of the text itself, and what was before it.
        let (mut start, mut before) = (0, out.len());
        loop {
            if self.stack.len() == base + 1 {
                (start, before) = (self.stack.last().map_or(0, |c| c.pos), out.len());
            }
            let t = self.next(base)?;
            if *self.budget == 0 {
                return None;
            }
            *self.budget -= 1;
            if *self.budget == 0 || out.len() > MAX_TOKENS {
                *self.budget = 0;
                self.sink.error(t.span, "the program is too large after preprocessing");
                return None;
            }
            if t.tok != Tok::Word || t.no_expand {
                out.push(t);
                continue;
            }
            let name = self.map.text(t.text);
            if self.condition && name == "defined" {
                self.defined(t, base, out);
                continue;
            }
            let Some((name, def)) = self.macros.get_key_value(name) else {
                self.builtin(t, base, out);
                continue;
            };
            let (name, def) = (name.clone(), def.clone());
            if self.active.contains(&name) {
                out.push(Token { no_expand: true, ..t });
                continue;
            }
            if self.stack.len() >= MAX_CONTEXTS {
                self.sink.error(t.span, "macros are nested too deeply");
                out.push(t);
                continue;
            }
            let args = match &def.params {
                None => Vec::new(),
                Some(_) => match self.arguments(base, t.span) {
                    Arguments::Complete(args) => match self.fit(args, &def, &name, t.span) {
                        Some(args) => args,
                        None => continue,
                    },
                    Arguments::NoCall => {
                        out.push(t);
                        continue;
                    }
                    Arguments::Open | Arguments::End if more => {
                        out.truncate(before);
                        return Some(start);
                    }
                    Arguments::End => {
                        out.push(t);
                        continue;
                    }
                    Arguments::Open => {
                        self.sink.error_note(
                            t.span,
                            format!("the arguments of macro {name} are not closed"),
                            def.span,
                            "defined here",
                        );
                        continue;
                    }
                },
            };
            let mut body = self.substitute(&def, &args, t.span);
            for b in &mut body {
                b.span = t.span;
                b.after_newline = false;
            }
            match body.first_mut() {
                Some(first) => {
                    first.after_space = t.after_space || first.tok.joins();
                    first.after_newline = t.after_newline;
                }
                None => self.padded = true,
            }
            self.push(body.into(), Some(name));
        }
    }

    /// `defined X` and `defined(X)`.
    fn defined(&mut self, t: Token, base: usize, out: &mut Vec<Token>) {
        let mut name = self.next(base);
        let paren = name.is_some_and(|n| n.tok == Tok::LParen);
        if paren {
            name = self.next(base);
        }
        let Some(name) = name.filter(|n| n.tok == Tok::Word) else {
            self.sink.error(t.span, "defined needs the name of a macro");
            return;
        };
        if paren && self.next(base).is_none_or(|n| n.tok != Tok::RParen) {
            self.sink.error(t.span, "')' is missing after defined");
        }
        let text = self.map.text(name.text);
        let known = self.macros.contains_key(text) || BUILTIN.contains(&text);
        self.made(if known { "1" } else { "0" }, t, out);
    }

    fn builtin(&mut self, t: Token, base: usize, out: &mut Vec<Token>) {
        let text = match self.map.text(t.text) {
            "__LINE__" => {
                let (line, _) = self.map.line_col(t.span);
                (i64::from(line) + self.builtins.line_shift).to_string()
            }
            "__FILE__" => {
                let own = || self.map.name(t.span).to_string();
                quote(&self.builtins.file.clone().unwrap_or_else(own))
            }
            "__BASE_FILE__" => quote(&self.builtins.base),
            "__INCLUDE_LEVEL__" => self.builtins.level.to_string(),
            "__COUNTER__" => {
                self.builtins.counter += 1;
                (self.builtins.counter - 1).to_string()
            }
            "_Pragma" => {
                // A pragma at this place has no effect in this compiler.
                match self.arguments(base, t.span) {
                    Arguments::Complete(_) => {
                        self.sink.warn(
                            Lint::Unsupported,
                            t.span,
                            "this pragma means nothing here and is ignored",
                        );
                    }
                    _ => out.push(t),
                }
                return;
            }
            _ => {
                out.push(t);
                return;
            }
        };
        self.made(&text, t, out);
    }

    /// Reads `(a, b)`. If the name is not followed by a parenthesis, the token after it is put back.
    fn arguments(&mut self, base: usize, span: Span) -> Arguments {
        match self.next(base) {
            None => return Arguments::End,
            Some(t) if t.tok != Tok::LParen => {
                self.push(Rc::from([t]), None);
                return Arguments::NoCall;
            }
            Some(_) => {}
        }
        let mut depth = 0usize;
        let mut args = vec![Vec::new()];
        loop {
            let Some(mut t) = self.next(base) else {
                return Arguments::Open;
            };
            if *self.budget == 0 {
                return Arguments::Open;
            }
            *self.budget -= 1;
            match t.tok {
                Tok::RParen if depth == 0 => return Arguments::Complete(args),
                Tok::LParen => depth += 1,
                Tok::RParen => depth -= 1,
                Tok::Comma if depth == 0 => {
                    args.push(Vec::new());
                    continue;
                }
                _ => {}
            }
            // Here the end of a line is only white space.
            t.after_space |= t.after_newline;
            t.after_newline = false;
            t.span = span;
            if t.tok == Tok::Word && self.active.contains(self.map.text(t.text)) {
                t.no_expand = true;
            }
            if let Some(last) = args.last_mut() {
                last.push(t);
            }
        }
    }

    /// One list of tokens for each parameter; the rest of a variadic macro with its commas is the last one.
    fn fit(&mut self, mut args: Vec<Vec<Token>>, def: &Macro, name: &str, span: Span) -> Option<Vec<Vec<Token>>> {
        let params = def.params.as_deref().unwrap_or(&[]);
        let nothing = args.len() == 1 && args.first().is_some_and(Vec::is_empty);
        if params.is_empty() && nothing {
            return Some(Vec::new());
        }
        if def.variadic {
            let named = params.len().saturating_sub(1);
            if args.len() == named {
                args.push(Vec::new());
            } else if args.len() > named {
                let rest = args.split_off(named);
                let comma = Token {
                    tok: Tok::Comma,
                    text: if rest.len() > 1 { self.comma() } else { span },
                    span,
                    after_newline: false,
                    after_space: false,
                    no_expand: false,
                };
                args.push(rest.join(&comma));
            }
        }
        if args.len() == params.len() {
            return Some(args);
        }
        let least = if def.variadic { "at least " } else { "" };
        let wanted = params.len() - usize::from(def.variadic);
        let given = if nothing { 0 } else { args.len() };
        self.sink.error_note(
            span,
            format!("macro {name} takes {least}{wanted} arguments, not {given}"),
            def.span,
            "defined here",
        );
        None
    }

    /// Text of a comma that the preprocessor puts between arguments.
    fn comma(&mut self) -> Span {
        self.map.make(",").unwrap_or_default()
    }

    /// The body with its parameters replaced.
    fn substitute(&mut self, def: &Macro, args: &[Vec<Token>], span: Span) -> Vec<Token> {
        let mut expanded: Vec<Option<Vec<Token>>> = vec![None; args.len()];
        self.parts(&def.body, def, args, &mut expanded, span)
    }

    fn parts(
        &mut self,
        parts: &[Part],
        def: &Macro,
        args: &[Vec<Token>],
        expanded: &mut [Option<Vec<Token>>],
        span: Span,
    ) -> Vec<Token> {
        let rest = def.params.as_ref().map_or(0, Vec::len).wrapping_sub(1);
        let mut out: Vec<Token> = Vec::new();
        // The result so far of pasting pieces together.
        let mut chain: Vec<Token> = Vec::new();
        let mut pasting = false;
        for part in parts {
            let piece = match &part.kind {
                Kind::Token(t) => vec![*t],
                Kind::Quoted(i, t) => self.stringised(args.get(*i).map_or(&[][..], Vec::as_slice), *t),
                Kind::IfVariadic(inner) => {
                    let given = self.argument(rest, args, expanded, span).is_some_and(|a| !a.is_empty());
                    if given {
                        self.parts(inner, def, args, expanded, span)
                    } else {
                        Vec::new()
                    }
                }
                Kind::Param(i, t) => {
                    let raw = args.get(*i).map_or(&[][..], Vec::as_slice);
                    // GNU C: `, ## __VA_ARGS__` drops the comma if there are no arguments, and pastes nothing.
                    let comma = chain.last().is_some_and(|c| c.tok == Tok::Comma);
                    if pasting && def.variadic && *i == rest && comma {
                        if raw.is_empty() {
                            chain.pop();
                        }
                        chain.extend_from_slice(raw);
                        pasting = part.paste;
                        continue;
                    }
                    let mut piece = if pasting || part.paste {
                        raw.to_vec()
                    } else {
                        self.argument(*i, args, expanded, span).cloned().unwrap_or_default()
                    };
                    if let Some(first) = piece.first_mut() {
                        first.after_space = t.after_space;
                    }
                    piece
                }
            };
            if pasting {
                self.paste(&mut chain, piece, span);
            } else {
                out.append(&mut chain);
                chain = piece;
            }
            pasting = part.paste;
        }
        out.append(&mut chain);
        out
    }

    /// An argument with its macros expanded, which is done once.
    fn argument<'e>(
        &mut self,
        index: usize,
        args: &[Vec<Token>],
        expanded: &'e mut [Option<Vec<Token>>],
        span: Span,
    ) -> Option<&'e Vec<Token>> {
        let raw = args.get(index)?;
        let slot = expanded.get_mut(index)?;
        if slot.is_none() {
            let mut full = Vec::new();
            if self.argument_depth >= MAX_ARGUMENT_DEPTH {
                self.sink.error(span, "macros are nested too deeply");
            } else {
                self.argument_depth += 1;
                let padded = std::mem::take(&mut self.padded);
                self.run(raw, false, &mut full);
                self.padded = padded;
                self.argument_depth -= 1;
            }
            *slot = Some(full);
        }
        slot.as_ref()
    }

    /// Joins the last token of `left` with the first one of `right`. If the result is not a token, they stay separate.
    fn paste(&mut self, left: &mut Vec<Token>, right: Vec<Token>, span: Span) {
        let mut right = right.into_iter();
        let Some(b) = right.next() else { return };
        match left.pop() {
            None => left.push(b),
            Some(a) => {
                let text = format!("{}{}", self.map.text(a.text), self.map.text(b.text));
                let first = left.len();
                let at = Token { span, ..a };
                self.made(&text, at, left);
                if let Some(joined) = left.get_mut(first) {
                    joined.after_space = a.after_space;
                }
            }
        }
        left.extend(right);
    }

    /// Tokens as one string (ISO C, section 6.10.3.2).
    fn stringised(&mut self, tokens: &[Token], at: Token) -> Vec<Token> {
        let mut text = String::new();
        for t in tokens {
            if t.after_space && !text.is_empty() {
                text.push(' ');
            }
            let spelled = self.map.text(t.text);
            if t.tok == Tok::Str {
                text.push_str(&spelled.replace('\\', "\\\\").replace('"', "\\\""));
            } else {
                text.push_str(spelled);
            }
        }
        let mut out = Vec::new();
        self.made(&format!("\"{text}\""), at, &mut out);
        if let Some(first) = out.first_mut() {
            first.after_space = at.after_space;
        }
        out
    }

    /// Adds tokens of a text that is not in a file.
    fn made(&mut self, text: &str, at: Token, out: &mut Vec<Token>) {
        let Some(made) = self.map.make(text) else {
            *self.budget = 0;
            self.sink.error(at.span, "the program is too large after preprocessing");
            return;
        };
        let first = out.len();
        out.extend(lex_made(self.map, made, at.span));
        if let Some(t) = out.get_mut(first) {
            t.after_newline = at.after_newline;
            t.after_space = at.after_space;
        }
    }
}

/// A text as a string literal.
fn quote(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
