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
#[logos(skip r"\\\r?\n")]
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
    /// A string literal with its quotes.
    #[regex(r#""([^"\\]|\\(.|\n))*""#)]
    Str,
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

/// A token and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Kind.
    pub tok: Tok,
    /// Where the text is.
    pub text: Span,
    /// Where to point at: the use of the macro that brought it, or the text itself.
    pub span: Span,
    /// A newline stands before it.
    pub after_newline: bool,
    /// White space or a newline stands before it.
    pub after_space: bool,
}

/// Splits one file into tokens, newlines included. Bad characters become [`Tok::Unexpected`]; an unterminated
/// comment or string is reported.
pub fn lex_file(map: &SourceMap, file: FileId, sink: &mut Sink) -> Vec<Token> {
    let Some(source) = map.file(file) else {
        return Vec::new();
    };
    let text = source.text.clone();
    let mut out = Vec::with_capacity(text.len() / 4);
    let mut lexer = Tok::lexer(&text);
    let mut after_newline = true;
    let mut end = 0;
    while let Some(result) = lexer.next() {
        let range = lexer.span();
        let span = Span {
            file,
            lo: range.start as u32,
            hi: range.end as u32,
        };
        let tok = result.unwrap_or(Tok::Unexpected);
        if tok == Tok::Unexpected {
            let rest = text.get(range.start..).unwrap_or("");
            if rest.starts_with("/*") {
                sink.error(span, "this comment is not closed");
                break;
            }
            if rest.starts_with('"') {
                sink.error(span, "this string is not closed");
                let skip = rest.find('\n').unwrap_or(rest.len());
                lexer.bump(skip.saturating_sub(range.len()));
                continue;
            }
        }
        out.push(Token {
            tok,
            text: span,
            span,
            after_newline,
            after_space: after_newline || range.start != end,
        });
        after_newline = tok == Tok::Newline;
        end = range.end;
    }
    out
}
