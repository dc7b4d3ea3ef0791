//! Text to tokens (P4_16 specification, section "Lexical constructs").
//!
//! Words are not yet split into keywords and names: the preprocessor may define any word. `>` is always one
//! token, so that `bit<bit<8>>` needs no care; the parser joins neighbours into `>>`.

use crate::diagnostics::Sink;
use crate::source::{FileId, SourceMap, Span};
use logos::Logos;

/// Token kinds. The text is found through the token's span.
#[derive(Logos, Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[logos(skip r"[ \t\r\f]+")]
#[logos(skip(r"//[^\n]*", allow_greedy = true))]
#[logos(skip r"/\*([^*]|\*+[^*/])*\*+/")]
pub enum Tok {
    /// End of a line; only the preprocessor sees it.
    #[token("\n")]
    Newline,
    /// A name or keyword.
    #[regex(r"[A-Za-z_][A-Za-z0-9_]*")]
    Word,
    /// A number in any notation.
    #[regex(r"[0-9][0-9A-Za-z_]*")]
    Int,
    /// A string literal with its quotes, on one line; those over several lines are made by the preprocessor.
    #[regex(r#""([^"\\\n]|\\[^\n])*""#)]
    Str,
    /// A quote that no other quote on its line ends; only the preprocessor sees it.
    #[token("\"")]
    Quote,
    /// `#` that starts a directive.
    #[token("#")]
    Hash,
    /// `##` of a macro.
    #[token("##")]
    HashHash,
    /// `{#}`, the invalid header.
    #[token("{#}")]
    Invalid,
    #[token("(")]
    LParen,
    #[token(")")]
    RParen,
    #[token("{")]
    LBrace,
    #[token("}")]
    RBrace,
    #[token("[")]
    LBracket,
    #[token("]")]
    RBracket,
    #[token("<")]
    Lt,
    #[token(">")]
    Gt,
    #[token("<=")]
    Le,
    #[token(">=")]
    Ge,
    #[token("==")]
    EqEq,
    #[token("!=")]
    Ne,
    #[token("=")]
    Assign,
    #[token("+")]
    Plus,
    #[token("-")]
    Minus,
    #[token("*")]
    Star,
    #[token("/")]
    Slash,
    #[token("%")]
    Percent,
    #[token("++")]
    PlusPlus,
    #[token("|+|")]
    SatAdd,
    #[token("|-|")]
    SatSub,
    #[token("<<")]
    Shl,
    #[token("&")]
    And,
    #[token("|")]
    Or,
    #[token("^")]
    Xor,
    #[token("~")]
    Tilde,
    #[token("!")]
    Not,
    #[token("&&")]
    AndAnd,
    #[token("||")]
    OrOr,
    #[token("&&&")]
    Mask,
    #[token("..")]
    DotDot,
    #[token("...")]
    Dots,
    #[token("?")]
    Question,
    #[token(":")]
    Colon,
    #[token(";")]
    Semi,
    #[token(",")]
    Comma,
    #[token(".")]
    Dot,
    #[token("@")]
    At,
    #[token("+=")]
    PlusEq,
    #[token("-=")]
    MinusEq,
    #[token("*=")]
    StarEq,
    #[token("/=")]
    SlashEq,
    #[token("%=")]
    PercentEq,
    #[token("|+|=")]
    SatAddEq,
    #[token("|-|=")]
    SatSubEq,
    #[token("<<=")]
    ShlEq,
    #[token("&=")]
    AndEq,
    #[token("|=")]
    OrEq,
    #[token("^=")]
    XorEq,
    /// A character that starts no token; legal only inside an unstructured annotation.
    Unexpected,
    /// End of input.
    Eof,
}

impl Tok {
    /// Whether the parser joins it with an adjacent token into one operator: `>` `>`, `>` `>=`.
    pub fn joins(self) -> bool {
        matches!(self, Tok::Gt | Tok::Ge)
    }
}

/// A token and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Kind.
    pub tok: Tok,
    /// Where the text is.
    pub text: Span,
    /// Where to point at: the use of the macro that brought it, or the text itself.
    pub span: Span,
    /// There is a newline before it.
    pub after_newline: bool,
    /// There is white space or a newline before it.
    pub after_space: bool,
    /// The name of a macro inside that macro's own expansion: it is never expanded again.
    pub no_expand: bool,
}

/// A token and its range in the text without line splices.
#[derive(Clone, Copy, Debug)]
pub struct Lexeme {
    /// The token.
    pub token: Token,
    /// First octet.
    pub lo: usize,
    /// One past the last octet.
    pub hi: usize,
}

/// The text of a file after the second phase of translation (ISO C, section 5.1.1.2): a backslash at the end of a line
/// joins it with the next one, also inside a name or a string.
pub struct Spliced {
    file: FileId,
    text: String,
    /// Position after each splice, and how many octets were taken out up to it.
    cuts: Vec<(usize, usize)>,
}

impl Spliced {
    /// The text of a file; empty if there is no such file.
    pub fn new(map: &SourceMap, file: FileId) -> Spliced {
        let source = map.file(file).map_or("", |f| f.text.as_str());
        let mut out = Spliced {
            file,
            text: String::with_capacity(source.len()),
            cuts: Vec::new(),
        };
        let (mut rest, mut removed) = (source, 0usize);
        if let Some(after) = source.strip_prefix('\u{feff}') {
            (rest, removed) = (after, source.len() - after.len());
            out.cuts.push((0, removed));
        }
        while let Some(at) = rest.find('\\') {
            let (before, from) = rest.split_at(at);
            out.text.push_str(before);
            let after = from.get(1..).unwrap_or("");
            // Blanks after the backslash do no harm, as in GCC.
            let blanks = after.len() - after.trim_start_matches([' ', '\t', '\r']).len();
            if after.as_bytes().get(blanks) == Some(&b'\n') {
                removed += blanks + 2;
                out.cuts.push((out.text.len(), removed));
                rest = after.get(blanks + 1..).unwrap_or("");
            } else {
                out.text.push('\\');
                rest = after;
            }
        }
        out.text.push_str(rest);
        out
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The position in the file of an octet of the text.
    fn origin(&self, at: usize) -> usize {
        let before = self.cuts.partition_point(|c| c.0 <= at);
        let removed = before.checked_sub(1).and_then(|i| self.cuts.get(i)).map_or(0, |c| c.1);
        at + removed
    }

    fn span(&self, lo: usize, hi: usize) -> Span {
        let start = self.origin(lo);
        let end = hi.checked_sub(1).map_or(start, |last| self.origin(last) + 1);
        Span {
            file: self.file,
            lo: start as u32,
            hi: end.max(start) as u32,
        }
    }

    /// Splits a part of the text into tokens, newlines included. Bad characters become [`Tok::Unexpected`]; an
    /// unterminated comment is reported.
    pub fn lex(&self, from: usize, to: usize, map: &mut SourceMap, sink: &mut Sink) -> Vec<Lexeme> {
        let text = self.text.get(from..to).unwrap_or("");
        let mut out = Vec::with_capacity(text.len() / 4);
        let mut lexer = Tok::lexer(text);
        let mut after_newline = from == 0;
        let mut end = 0;
        while let Some(result) = lexer.next() {
            let range = lexer.span();
            let (lo, hi) = (from + range.start, from + range.end);
            let span = self.span(lo, hi);
            let tok = result.unwrap_or(Tok::Unexpected);
            if tok == Tok::Unexpected && text.get(range.start..).is_some_and(|t| t.starts_with("/*")) {
                sink.error(span, "this comment is not closed");
                break;
            }
            let whole = (span.hi - span.lo) as usize == hi - lo;
            let text_span = if whole {
                Some(span)
            } else {
                map.make(text.get(range.clone()).unwrap_or(""))
            };
            let Some(text_span) = text_span else {
                sink.error(span, "the program is too large after preprocessing");
                break;
            };
            let token = Token {
                tok,
                text: text_span,
                span,
                after_newline,
                after_space: after_newline || range.start != end,
                no_expand: false,
            };
            out.push(Lexeme { token, lo, hi });
            after_newline = tok == Tok::Newline;
            end = range.end;
        }
        out
    }
}

/// Whether two adjacent tokens would be read as different tokens.
pub fn would_join(left: &str, right: &str) -> bool {
    let both = format!("{left}{right}");
    let first = Tok::lexer(&both).spanned().next();
    // Here a string over several lines is not a token, so it cannot join with one.
    !left.starts_with('"') && first.is_some_and(|(_, range)| range != (0..left.len()))
}

/// Tokens of a text that the preprocessor made, pointing at the place that it was made for.
pub fn lex_made(map: &SourceMap, made: Span, at: Span) -> Vec<Token> {
    let text = map.text(made);
    let mut out = Vec::new();
    let mut end = 0;
    for (result, range) in Tok::lexer(text).spanned() {
        out.push(Token {
            tok: result.unwrap_or(Tok::Unexpected),
            text: Span {
                file: made.file,
                lo: made.lo + range.start as u32,
                hi: made.lo + range.end as u32,
            },
            span: at,
            after_newline: false,
            after_space: range.start != end,
            no_expand: false,
        });
        end = range.end;
    }
    out
}
