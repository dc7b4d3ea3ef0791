//! Conditions of `#if` and `#elif`: C integer expressions.

use crate::lex::{Tok, Token};
use crate::source::SourceMap;

/// Deepest nesting of parentheses and unary operators.
const MAX_DEPTH: usize = 64;

/// Value of a condition whose macros are expanded.
pub fn eval(map: &SourceMap, items: &[Token]) -> Result<i128, String> {
    let mut p = Parser {
        map,
        items,
        pos: 0,
        depth: 0,
        skipped: 0,
    };
    let value = p.binary(0)?;
    if p.pos < items.len() {
        return Err("unexpected text after the expression".into());
    }
    Ok(value)
}

struct Parser<'a> {
    map: &'a SourceMap,
    items: &'a [Token],
    pos: usize,
    depth: usize,
    /// Inside operands that `&&`, `||` and `?:` do not evaluate: there a division by zero is not an error.
    skipped: usize,
}

impl Parser<'_> {
    fn tok(&self, ahead: usize) -> Option<Tok> {
        self.items.get(self.pos + ahead).map(|t| t.tok)
    }

    fn operator(&self) -> Option<(&'static str, u8, usize)> {
        Some(match self.tok(0)? {
            Tok::OrOr => ("||", 1, 1),
            Tok::AndAnd => ("&&", 2, 1),
            Tok::Or => ("|", 3, 1),
            Tok::Xor => ("^", 4, 1),
            Tok::And => ("&", 5, 1),
            Tok::EqEq => ("==", 6, 1),
            Tok::Ne => ("!=", 6, 1),
            Tok::Lt => ("<", 7, 1),
            Tok::Le => ("<=", 7, 1),
            Tok::Gt if self.tok(1) == Some(Tok::Gt) => (">>", 8, 2),
            Tok::Gt => (">", 7, 1),
            Tok::Ge => (">=", 7, 1),
            Tok::Shl => ("<<", 8, 1),
            Tok::Plus => ("+", 9, 1),
            Tok::Minus => ("-", 9, 1),
            Tok::Star => ("*", 10, 1),
            Tok::Slash => ("/", 10, 1),
            Tok::Percent => ("%", 10, 1),
            _ => return None,
        })
    }

    fn binary(&mut self, min: u8) -> Result<i128, String> {
        let mut left = self.unary()?;
        while let Some((op, prec, len)) = self.operator() {
            if prec <= min {
                break;
            }
            self.pos += len;
            let decided = (op == "&&" && left == 0) || (op == "||" && left != 0);
            self.skipped += usize::from(decided);
            let right = self.binary(prec)?;
            self.skipped -= usize::from(decided);
            left = match apply(op, left, right) {
                Err(_) if self.skipped > 0 => 0,
                other => other?,
            };
        }
        if min == 0 && self.tok(0) == Some(Tok::Question) {
            self.pos += 1;
            self.skipped += usize::from(left == 0);
            let a = self.binary(0)?;
            self.skipped -= usize::from(left == 0);
            if self.tok(0) != Some(Tok::Colon) {
                return Err("':' is missing".into());
            }
            self.pos += 1;
            self.skipped += usize::from(left != 0);
            let b = self.binary(0)?;
            self.skipped -= usize::from(left != 0);
            left = if left != 0 { a } else { b };
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<i128, String> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("it is nested too deeply".into());
        }
        let result = self.primary();
        self.depth -= 1;
        result
    }

    fn primary(&mut self) -> Result<i128, String> {
        let t = self.items.get(self.pos).ok_or("a value is missing")?;
        self.pos += 1;
        match t.tok {
            Tok::Not => Ok(i128::from(self.unary()? == 0)),
            Tok::Minus => Ok(self.unary()?.wrapping_neg()),
            Tok::Plus => self.unary(),
            Tok::Tilde => Ok(!self.unary()?),
            Tok::LParen => {
                let value = self.binary(0)?;
                if self.tok(0) != Some(Tok::RParen) {
                    return Err("')' is missing".into());
                }
                self.pos += 1;
                Ok(value)
            }
            // A name that is not a macro counts as 0, as in C.
            Tok::Word => {
                let text = self.map.text(t.text);
                if self.tok(0) == Some(Tok::LParen) {
                    return Err(format!("{text} is not a macro"));
                }
                Ok(0)
            }
            Tok::Int => int(self.map.text(t.text)),
            _ => Err(format!("unexpected '{}'", self.map.text(t.text))),
        }
    }
}

fn int(text: &str) -> Result<i128, String> {
    let clean: String = text.chars().filter(|c| *c != '_').collect();
    let lower = clean.to_ascii_lowercase();
    let body = lower.trim_end_matches(['u', 'l']);
    let (digits, radix) = match body.get(..2) {
        Some("0x") => (body.get(2..).unwrap_or(""), 16),
        Some("0b") => (body.get(2..).unwrap_or(""), 2),
        Some("0o") => (body.get(2..).unwrap_or(""), 8),
        _ if body.len() > 1 && body.starts_with('0') => (body, 8),
        _ => (body, 10),
    };
    i128::from_str_radix(digits, radix).map_err(|_| format!("'{text}' is not a number"))
}

fn apply(op: &str, a: i128, b: i128) -> Result<i128, String> {
    let truth = i128::from;
    Ok(match op {
        "||" => truth(a != 0 || b != 0),
        "&&" => truth(a != 0 && b != 0),
        "|" => a | b,
        "^" => a ^ b,
        "&" => a & b,
        "==" => truth(a == b),
        "!=" => truth(a != b),
        "<" => truth(a < b),
        "<=" => truth(a <= b),
        ">" => truth(a > b),
        ">=" => truth(a >= b),
        "<<" => a.checked_shl(u32::try_from(b).unwrap_or(u32::MAX)).unwrap_or(0),
        ">>" => a.checked_shr(u32::try_from(b).unwrap_or(u32::MAX)).unwrap_or(0),
        "+" => a.wrapping_add(b),
        "-" => a.wrapping_sub(b),
        "*" => a.wrapping_mul(b),
        "/" => a.checked_div(b).ok_or("division by zero")?,
        _ => a.checked_rem(b).ok_or("division by zero")?,
    })
}
