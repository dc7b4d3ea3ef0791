//! String literals over several lines.
//!
//! For cpp a string ends at the end of its line. If it continues on the next line, cpp sees only an unmatched quote,
//! and treats the following lines as ordinary text: it executes directives and expands macros. Other P4 compilers join
//! its output again. White space is written as by cpp: one blank for each run of blanks inside a line, an empty line
//! for each directive.

use super::{Preprocessor, Reading};
use crate::lex::{Lexeme, Tok, Token};

impl Preprocessor<'_> {
    /// Reads a string from its opening quote at the current position.
    pub(super) fn quoted(&mut self, r: &mut Reading) {
        let Some(open) = r.lexemes.get(r.pos).copied() else {
            return;
        };
        let mut text = String::from("\"");
        let mut from = open.hi;
        loop {
            let end = r.line_end(r.pos);
            let line_end = r.line_end_at(r.pos);
            // The opening line has no second quote: otherwise the string would end on it.
            let close = if from == open.hi {
                None
            } else {
                closing(r.text.text(), from, line_end)
            };
            self.piece(r, from, close.unwrap_or(line_end), &mut text);
            if let Some(close) = close {
                text.push('"');
                self.end_quoted(r, open, &text, (close + 1, line_end), end);
                return;
            }
            // Moves to the next line that is not skipped.
            r.pos = end;
            loop {
                text.push('\n');
                if r.pos + 1 >= r.lexemes.len() {
                    self.sink.error(open.token.span, "this string is not closed");
                    r.pos = r.lexemes.len();
                    return;
                }
                from = r.lexemes.get(r.pos).map_or(line_end, |l| l.hi);
                r.pos += 1;
                let first = r.lexemes.get(r.pos).map_or(Tok::Eof, |l| l.token.tok);
                if first == Tok::Hash {
                    let pending = std::mem::take(&mut r.pending);
                    self.directive(r);
                    r.pending = pending;
                } else if r.active() {
                    break;
                } else {
                    r.pos = r.line_end(r.pos);
                }
            }
        }
    }

    /// Continues after the closing quote.
    fn end_quoted(&mut self, r: &mut Reading, open: Lexeme, text: &str, rest: (usize, usize), end: usize) {
        let Some(made) = self.map.make(text) else {
            self.sink
                .error(open.token.span, "the program is too large after preprocessing");
            r.pos = r.lexemes.len();
            return;
        };
        r.pending.push(Token {
            tok: Tok::Str,
            text: made,
            ..open.token
        });
        // The rest of the line was split into tokens as if the quote opened a string.
        let lexemes = r.text.lex(rest.0, rest.1, self.map, self.sink);
        r.lexemes.splice(r.pos..end, lexemes);
    }

    /// A part of a line inside the string: its macros are expanded.
    fn piece(&mut self, r: &Reading, from: usize, to: usize, out: &mut String) {
        let source = r.text.text();
        let tokens = r.text.lex(from, to, self.map, self.sink);
        let is_macro: Vec<bool> = tokens
            .iter()
            .map(|l| l.token.tok == Tok::Word && self.macros.contains_key(self.map.text(l.token.text)))
            .collect();
        if !is_macro.contains(&true) {
            squeeze(source.get(from..to).unwrap_or(""), out);
            return;
        }
        let mut at = from;
        let mut pos = 0;
        while let Some(l) = tokens.get(pos) {
            squeeze(source.get(at..l.lo).unwrap_or(""), out);
            let rest: Vec<Token> = tokens.get(pos..).unwrap_or(&[]).iter().map(|l| l.token).collect();
            // A macro takes its arguments; every other token stands for itself.
            let taken = match is_macro.get(pos) {
                Some(true) => call_length(&rest),
                _ => 1,
            };
            let mut expanded = Vec::new();
            self.expander()
                .run(rest.get(..taken).unwrap_or(&[]), false, &mut expanded);
            for (i, t) in expanded.iter().enumerate() {
                if i > 0 && t.after_space {
                    out.push(' ');
                }
                out.push_str(self.map.text(t.text));
            }
            pos += taken;
            at = tokens.get(pos - 1).map_or(to, |l| l.hi);
        }
        squeeze(source.get(at..to).unwrap_or(""), out);
    }
}

/// How many tokens a name and its arguments are, if it has any.
fn call_length(tokens: &[Token]) -> usize {
    if tokens.get(1).is_none_or(|t| t.tok != Tok::LParen) {
        return 1;
    }
    let mut depth = 0usize;
    for (i, t) in tokens.iter().enumerate().skip(1) {
        match t.tok {
            Tok::LParen => depth += 1,
            Tok::RParen => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    1
}

/// The first quote of a line that is not escaped with a backslash.
fn closing(text: &str, from: usize, to: usize) -> Option<usize> {
    let mut escaped = false;
    for (i, c) in text.get(from..to)?.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some(from + i),
            _ => {}
        }
    }
    None
}

/// Copies text; white space inside a line becomes one blank, at its beginning it stays.
fn squeeze(text: &str, out: &mut String) {
    let mut blanks = String::new();
    for c in text.chars() {
        if matches!(c, ' ' | '\t' | '\r' | '\u{c}') {
            blanks.push(c);
            continue;
        }
        flush_blanks(&mut blanks, out);
        out.push(c);
    }
    flush_blanks(&mut blanks, out);
}

fn flush_blanks(blanks: &mut String, out: &mut String) {
    if blanks.is_empty() {
        return;
    }
    if out.ends_with('\n') {
        out.push_str(blanks);
    } else {
        out.push(' ');
    }
    blanks.clear();
}
