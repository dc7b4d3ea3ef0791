//! Macro definitions and their expansion.

use super::MAX_TOKENS;
use crate::diagnostics::Sink;
use crate::lex::{Tok, Token, lex_file};
use crate::source::{SourceMap, Span};
use std::collections::HashMap;

/// Deepest nesting of macro uses inside macro bodies.
const MAX_DEPTH: usize = 128;

/// One `#define`.
#[derive(Clone, Debug)]
pub struct Macro {
    /// Parameters; `None` for an object-like macro.
    params: Option<Vec<String>>,
    /// The last parameter takes all remaining arguments.
    variadic: bool,
    body: Vec<Token>,
}

impl Macro {
    /// Parses the rest of a `#define` line.
    pub fn parse(map: &SourceMap, sink: &mut Sink, line: &[Token], span: Span) -> Option<(String, Macro)> {
        let Some(name) = line.first().filter(|t| t.tok == Tok::Word) else {
            sink.error(span, "#define needs a name");
            return None;
        };
        let text = map.text(name.text).to_string();
        let open = line.get(1).filter(|t| t.tok == Tok::LParen && !t.after_space);
        let Some(_) = open else {
            return Some((
                text,
                Macro {
                    params: None,
                    variadic: false,
                    body: line.get(1..).unwrap_or(&[]).to_vec(),
                },
            ));
        };
        let mut params = Vec::new();
        let mut variadic = false;
        let mut pos = 2;
        loop {
            match line.get(pos).map(|t| t.tok) {
                Some(Tok::RParen) => break,
                Some(Tok::Comma) => {}
                Some(Tok::Dots) => {
                    variadic = true;
                    params.push("__VA_ARGS__".to_string());
                }
                Some(Tok::Word) => params.push(line.get(pos).map(|t| map.text(t.text).to_string()).unwrap_or_default()),
                _ => {
                    sink.error(name.span, "the parameter list of this macro is not closed");
                    return None;
                }
            }
            pos += 1;
        }
        let body = line.get(pos + 1..).unwrap_or(&[]).to_vec();
        Some((
            text,
            Macro {
                params: Some(params),
                variadic,
                body,
            },
        ))
    }
}

struct Expander<'a> {
    map: &'a mut SourceMap,
    sink: &'a mut Sink,
    macros: &'a HashMap<String, Macro>,
    active: Vec<String>,
    budget: &'a mut usize,
}

/// Expands all macros of `tokens` into `out`.
pub fn expand(
    map: &mut SourceMap,
    sink: &mut Sink,
    macros: &HashMap<String, Macro>,
    budget: &mut usize,
    tokens: &[Token],
    out: &mut Vec<Token>,
) {
    let mut e = Expander {
        map,
        sink,
        macros,
        active: Vec::new(),
        budget,
    };
    e.run(tokens, None, out);
}

impl Expander<'_> {
    fn run(&mut self, tokens: &[Token], site: Option<Span>, out: &mut Vec<Token>) {
        let macros = self.macros;
        let mut pos = 0;
        while let Some(mut token) = tokens.get(pos).copied() {
            if out.len() > MAX_TOKENS {
                return;
            }
            // Macros that double each other end here, also where they expand to nothing.
            *self.budget = self.budget.saturating_sub(1);
            if *self.budget == 0 {
                self.sink
                    .error(token.span, "the program is too large after preprocessing");
                return;
            }
            pos += 1;
            if let Some(site) = site {
                token.span = site;
            }
            if token.tok != Tok::Word {
                out.push(token);
                continue;
            }
            let name = self.map.text(token.text);
            let found = if name == "__LINE__" {
                None
            } else {
                macros.get_key_value(name)
            };
            if name == "__LINE__" {
                let (line, _) = self.map.line_col(token.span);
                let text = line.to_string();
                self.scratch(&text, token, out);
                continue;
            }
            let Some((name, def)) = found else {
                out.push(token);
                continue;
            };
            if self.active.iter().any(|a| a == name) {
                out.push(token);
                continue;
            }
            if self.active.len() >= MAX_DEPTH {
                self.sink.error(token.span, "macros are nested too deeply");
                out.push(token);
                continue;
            }
            let args = match &def.params {
                None => Vec::new(),
                Some(params) => {
                    if tokens.get(pos).is_none_or(|t| t.tok != Tok::LParen) {
                        out.push(token);
                        continue;
                    }
                    match self.arguments(tokens, &mut pos, token.span) {
                        Some(args) => self.fit(args, params, def.variadic, name, token.span),
                        None => return,
                    }
                }
            };
            let body = self.substitute(def, &args, token.span);
            self.active.push(name.clone());
            let start = out.len();
            self.run(&body, Some(token.span), out);
            self.active.pop();
            if let Some(first) = out.get_mut(start) {
                first.after_newline = token.after_newline;
                first.after_space = token.after_space;
            }
        }
    }

    fn arguments(&mut self, tokens: &[Token], pos: &mut usize, span: Span) -> Option<Vec<Vec<Token>>> {
        *pos += 1;
        let mut depth = 0usize;
        let mut args = vec![Vec::new()];
        loop {
            let Some(t) = tokens.get(*pos).copied() else {
                self.sink.error(span, "the arguments of this macro are not closed");
                return None;
            };
            *pos += 1;
            match t.tok {
                Tok::RParen if depth == 0 => return Some(args),
                Tok::LParen | Tok::LBracket | Tok::LBrace => depth += 1,
                Tok::RParen | Tok::RBracket | Tok::RBrace => depth = depth.saturating_sub(1),
                Tok::Comma if depth == 0 => {
                    args.push(Vec::new());
                    continue;
                }
                _ => {}
            }
            if let Some(last) = args.last_mut() {
                last.push(t);
            }
        }
    }

    fn fit(
        &mut self,
        mut args: Vec<Vec<Token>>,
        params: &[String],
        variadic: bool,
        name: &str,
        span: Span,
    ) -> Vec<(String, Vec<Token>)> {
        if params.is_empty() && args.len() == 1 && args.first().is_some_and(Vec::is_empty) {
            return Vec::new();
        }
        if variadic && args.len() >= params.len() && !params.is_empty() {
            let rest = args.split_off(params.len() - 1);
            let mut joined = Vec::new();
            for (i, a) in rest.into_iter().enumerate() {
                if i > 0
                    && let Some(comma) = a.first()
                {
                    joined.push(Token {
                        tok: Tok::Comma,
                        ..*comma
                    });
                }
                joined.extend(a);
            }
            args.push(joined);
        }
        if args.len() != params.len() {
            self.sink.error(
                span,
                format!("macro {name} takes {} arguments, not {}", params.len(), args.len()),
            );
        }
        params
            .iter()
            .cloned()
            .zip(args.into_iter().chain(std::iter::repeat(Vec::new())))
            .collect()
    }

    /// The body with its parameters replaced; `#x` makes a string, `a ## b` one token.
    fn substitute(&mut self, def: &Macro, args: &[(String, Vec<Token>)], span: Span) -> Vec<Token> {
        let mut out: Vec<Token> = Vec::new();
        let mut pos = 0;
        while let Some(t) = def.body.get(pos).copied() {
            pos += 1;
            let arg = |t: &Token| {
                let text = self.map.text(t.text);
                (t.tok == Tok::Word)
                    .then(|| args.iter().find(|(n, _)| n == text))
                    .flatten()
                    .map(|(_, a)| a.clone())
            };
            if t.tok == Tok::Hash
                && def.params.is_some()
                && let Some(value) = def.body.get(pos).and_then(arg)
            {
                pos += 1;
                let text: Vec<String> = value.iter().map(|t| self.map.text(t.text).to_string()).collect();
                let text = format!("\"{}\"", text.join(" ").replace('\\', "\\\\").replace('"', "\\\""));
                self.scratch(&text, t, &mut out);
                continue;
            }
            if t.tok == Tok::HashHash {
                let Some(next) = def.body.get(pos).copied() else { break };
                pos += 1;
                let right = arg(&next).unwrap_or_else(|| vec![next]);
                let mut right = right.into_iter();
                let a = out.pop();
                let b = right.next();
                let text = format!(
                    "{}{}",
                    a.map_or("", |t| self.map.text(t.text)),
                    b.map_or("", |t| self.map.text(t.text))
                );
                self.scratch(&text, t, &mut out);
                out.extend(right);
                continue;
            }
            let pasted = def.body.get(pos).is_some_and(|n| n.tok == Tok::HashHash);
            match arg(&t) {
                Some(value) if pasted => out.extend(value),
                Some(value) => {
                    let mut full = Vec::new();
                    if self.active.len() < MAX_DEPTH {
                        let depth = self.active.len();
                        self.active.resize(depth + 1, String::new());
                        self.run(&value, Some(span), &mut full);
                        self.active.truncate(depth);
                    }
                    out.extend(full);
                }
                None => out.push(t),
            }
        }
        out
    }

    /// Text made by the preprocessor becomes a small file of its own.
    fn scratch(&mut self, text: &str, at: Token, out: &mut Vec<Token>) {
        let Some(file) = self.map.add("<macro>", None, text, false) else {
            self.sink.error(at.span, "too many tokens are made by macros");
            return;
        };
        for mut t in lex_file(self.map, file, self.sink) {
            t.span = at.span;
            t.after_newline = false;
            out.push(t);
        }
    }
}
