//! Macro definitions.

use crate::diagnostics::Sink;
use crate::lex::{Tok, Token};
use crate::source::{SourceMap, Span};

/// Name of the arguments that `...` takes, where it has no name of its own.
pub const VARIADIC: &str = "__VA_ARGS__";
/// `__VA_OPT__(x)` is x if there are such arguments.
const VA_OPT: &str = "__VA_OPT__";
/// Deepest nesting of parentheses inside `__VA_OPT__`.
const MAX_DEPTH: usize = 64;

/// One `#define`.
#[derive(Clone, Debug)]
pub struct Macro {
    /// Parameters; `None` for an object-like macro. A variadic one has the name of the rest as its last parameter.
    pub params: Option<Vec<String>>,
    /// The last parameter takes all remaining arguments.
    pub variadic: bool,
    /// The text that replaces the name.
    pub body: Vec<Part>,
    /// The definition as written, to distinguish a different definition from a repeated one.
    text: String,
    /// The place of its name.
    pub span: Span,
}

/// A piece of a macro's body.
#[derive(Clone, Debug)]
pub struct Part {
    pub kind: Kind,
    /// `##` follows: the last token of this piece is joined with the first of the next.
    pub paste: bool,
}

/// Kinds of piece.
#[derive(Clone, Debug)]
pub enum Kind {
    Token(Token),
    /// The argument of a parameter.
    Param(usize, Token),
    /// `#x`: the argument as a string.
    Quoted(usize, Token),
    /// `__VA_OPT__(...)`.
    IfVariadic(Vec<Part>),
}

impl Macro {
    /// Whether two definitions are the same but for their place.
    pub fn same(&self, other: &Macro) -> bool {
        self.params == other.params && self.variadic == other.variadic && self.text == other.text
    }

    /// Parses the rest of a `#define` line.
    pub fn parse(map: &SourceMap, sink: &mut Sink, line: &[Token], span: Span) -> Option<(String, Macro)> {
        let Some(name) = line.first().filter(|t| t.tok == Tok::Word) else {
            sink.error(span, "#define needs a name");
            return None;
        };
        let text = map.text(name.text).to_string();
        if text == "defined" || text == VARIADIC {
            sink.error(name.span, format!("{text} cannot be the name of a macro"));
            return None;
        }
        let function = line.get(1).is_some_and(|t| t.tok == Tok::LParen && !t.after_space);
        let (params, variadic, body) = if function {
            let (params, variadic, end) = parameters(map, sink, line, name.span)?;
            (Some(params), variadic, line.get(end..).unwrap_or(&[]))
        } else {
            (None, false, line.get(1..).unwrap_or(&[]))
        };
        let spelled = |t: &Token| format!("{}{}", if t.after_space { " " } else { "" }, map.text(t.text));
        let mut reader = Reader {
            map,
            sink,
            params: params.as_deref(),
            variadic,
        };
        let parts = reader.parts(body, name.span, 0)?;
        Some((
            text,
            Macro {
                params,
                variadic,
                body: parts,
                text: body.iter().map(spelled).collect::<String>().trim().to_string(),
                span: name.span,
            },
        ))
    }
}

/// The parameters after `NAME(`, whether the last one takes the rest, and where the body begins.
fn parameters(map: &SourceMap, sink: &mut Sink, line: &[Token], span: Span) -> Option<(Vec<String>, bool, usize)> {
    let mut params: Vec<String> = Vec::new();
    let mut pos = 2;
    let tok = |pos: usize| line.get(pos).map(|t| t.tok);
    if tok(pos) == Some(Tok::RParen) {
        return Some((params, false, pos + 1));
    }
    loop {
        let mut variadic = false;
        let name = match line.get(pos) {
            Some(t) if t.tok == Tok::Word => {
                let name = map.text(t.text).to_string();
                // `rest...`, as GNU C has it.
                if tok(pos + 1) == Some(Tok::Dots) {
                    variadic = true;
                    pos += 1;
                }
                name
            }
            Some(t) if t.tok == Tok::Dots => {
                variadic = true;
                VARIADIC.to_string()
            }
            _ => {
                sink.error(span, "a parameter of this macro is missing, or its list is not closed");
                return None;
            }
        };
        if params.contains(&name) {
            sink.error(span, format!("parameter {name} of this macro is given twice"));
            return None;
        }
        params.push(name);
        pos += 1;
        match tok(pos) {
            Some(Tok::RParen) => return Some((params, variadic, pos + 1)),
            Some(Tok::Comma) if !variadic => pos += 1,
            _ => {
                sink.error(span, "the parameter list of this macro is not closed");
                return None;
            }
        }
    }
}

struct Reader<'a> {
    map: &'a SourceMap,
    sink: &'a mut Sink,
    params: Option<&'a [String]>,
    variadic: bool,
}

impl Reader<'_> {
    fn param(&self, t: &Token) -> Option<usize> {
        let name = (t.tok == Tok::Word).then(|| self.map.text(t.text))?;
        self.params?.iter().position(|p| p == name)
    }

    fn parts(&mut self, body: &[Token], span: Span, depth: usize) -> Option<Vec<Part>> {
        let mut out: Vec<Part> = Vec::new();
        let mut pos = 0;
        while let Some(t) = body.get(pos).copied() {
            pos += 1;
            if t.tok == Tok::HashHash {
                match out.last_mut() {
                    Some(last) if pos < body.len() => last.paste = true,
                    _ => {
                        self.sink.error(span, "## cannot stand at an end of a macro's body");
                        return None;
                    }
                }
                continue;
            }
            let next = body.get(pos);
            let kind = if let (Tok::Hash, Some(index)) = (t.tok, next.and_then(|n| self.param(n))) {
                pos += 1;
                Kind::Quoted(index, t)
            } else if self.variadic && t.tok == Tok::Word && self.map.text(t.text) == VA_OPT {
                let inner = self.parenthesised(body, &mut pos, t.span)?;
                if depth >= MAX_DEPTH {
                    self.sink.error(t.span, "__VA_OPT__ is nested too deeply");
                    return None;
                }
                Kind::IfVariadic(self.parts(inner, t.span, depth + 1)?)
            } else if let Some(index) = self.param(&t) {
                Kind::Param(index, t)
            } else {
                Kind::Token(t)
            };
            out.push(Part { kind, paste: false });
        }
        Some(out)
    }

    /// The tokens between a parenthesis at `pos` and the closing one. Moves `pos` past that.
    fn parenthesised<'t>(&mut self, body: &'t [Token], pos: &mut usize, span: Span) -> Option<&'t [Token]> {
        let first = *pos + 1;
        let mut depth = 0usize;
        while let Some(t) = body.get(*pos) {
            match t.tok {
                Tok::LParen => depth += 1,
                Tok::RParen => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 {
                break;
            }
            *pos += 1;
        }
        if *pos < first || *pos >= body.len() {
            self.sink.error(span, "__VA_OPT__ needs (...)");
            return None;
        }
        let inner = body.get(first..*pos);
        *pos += 1;
        inner
    }
}
