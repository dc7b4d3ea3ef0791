//! The words of a statement, taken one after the other.

use num_traits::ToPrimitive;

use super::Parse;
use crate::stf::command::{Call, Compare, Digits, KeyValue, Rate};
use crate::stf::lex::Token;

pub(super) fn shown(token: &Token) -> String {
    match token {
        Token::Name(text) | Token::Number(_, text) => format!("`{text}`"),
        Token::Mark(mark) => format!("`{mark}`"),
    }
}

/// The words that are left.
pub(super) struct Words<'a> {
    pub(super) tokens: &'a [Token],
}

impl<'a> Words<'a> {
    pub(super) fn next(&mut self) -> Option<&'a Token> {
        let (first, rest) = self.tokens.split_first()?;
        self.tokens = rest;
        Some(first)
    }

    pub(super) fn expected<T>(&self, what: &str) -> Parse<T> {
        match self.tokens.first() {
            Some(token) => Err(format!("{what} is expected, not {}", shown(token))),
            None => Err(format!("{what} is missing")),
        }
    }

    pub(super) fn has(&mut self, mark: &str) -> bool {
        let found = matches!(self.tokens.first(), Some(Token::Mark(m)) if *m == mark);
        if found {
            self.next();
        }
        found
    }

    pub(super) fn mark(&mut self, mark: &str) -> Parse<()> {
        if self.has(mark) {
            Ok(())
        } else {
            self.expected(&format!("`{mark}`"))
        }
    }

    pub(super) fn name(&mut self) -> Parse<String> {
        match self.tokens.first() {
            Some(Token::Name(name)) => {
                self.next();
                Ok(name.clone())
            }
            _ => self.expected("a name"),
        }
    }

    /// `a.b[2].c`
    pub(super) fn qualified(&mut self) -> Parse<String> {
        let mut name = self.name()?;
        loop {
            if self.has(".") {
                name = format!("{name}.{}", self.name()?);
            } else if self.has("[") {
                name = format!("{name}[{}]", self.integer::<u32>()?);
                self.mark("]")?;
            } else {
                return Ok(name);
            }
        }
    }

    pub(super) fn digits(&mut self) -> Parse<Digits> {
        match self.tokens.first() {
            Some(Token::Number(digits, _)) => {
                self.next();
                Ok(digits.clone())
            }
            _ => self.expected("a number"),
        }
    }

    pub(super) fn integer<T: TryFrom<u64>>(&mut self) -> Parse<T> {
        let digits = self.digits()?;
        let small = digits.value.to_u64().and_then(|n| T::try_from(n).ok());
        small.ok_or_else(|| format!("{} is too large", digits.value))
    }

    pub(super) fn integers<T: TryFrom<u64>>(&mut self) -> Parse<Vec<T>> {
        let mut out = Vec::new();
        while matches!(self.tokens.first(), Some(Token::Number(..))) {
            out.push(self.integer()?);
        }
        Ok(out)
    }

    /// Numbers up to the end of the line.
    pub(super) fn numbers(&mut self) -> Parse<Vec<Digits>> {
        let mut out = Vec::new();
        while !self.tokens.is_empty() {
            out.push(self.digits()?);
        }
        Ok(out)
    }

    pub(super) fn call(&mut self) -> Parse<Call> {
        let action = self.qualified()?;
        self.arguments(action)
    }

    pub(super) fn arguments(&mut self, action: String) -> Parse<Call> {
        self.mark("(")?;
        let mut args = Vec::new();
        while !self.has(")") {
            if !args.is_empty() {
                self.mark(",")?;
            }
            let name = self.name()?;
            self.mark(":")?;
            args.push((name, self.digits()?));
        }
        Ok(Call { action, args })
    }

    pub(super) fn key_value(&mut self) -> Parse<KeyValue> {
        let value = self.digits()?;
        Ok(if self.has("/") {
            KeyValue::Prefix(value, self.integer()?)
        } else if self.has("&&&") {
            KeyValue::Masked(value, self.digits()?)
        } else if self.has("->") {
            KeyValue::Range(value, self.digits()?)
        } else {
            KeyValue::Plain(value)
        })
    }

    /// The name of an entry, with or without `$`.
    pub(super) fn alias(&mut self) -> Parse<String> {
        let name = self.name()?;
        Ok(name.strip_prefix('$').unwrap_or(&name).to_owned())
    }

    pub(super) fn compare(&mut self) -> Parse<Compare> {
        let all = [
            ("==", Compare::Eq),
            ("!=", Compare::Ne),
            ("<=", Compare::Le),
            (">=", Compare::Ge),
            ("<", Compare::Lt),
            (">", Compare::Gt),
        ];
        match all.into_iter().find(|(mark, _)| self.has(mark)) {
            Some((_, compare)) => Ok(compare),
            None => self.expected("a comparison"),
        }
    }

    /// `RATE:BURST ...`, the rate in units a microsecond.
    pub(super) fn rates(&mut self) -> Parse<Vec<Rate>> {
        let mut out = Vec::new();
        while let Some(Token::Number(_, whole)) = self.tokens.first() {
            self.next();
            let mut text = whole.clone();
            if self.has(".") {
                match self.next() {
                    Some(Token::Number(_, fraction)) => text = format!("{text}.{fraction}"),
                    _ => return Err("a rate ends with its point".into()),
                }
            }
            let per_us: f64 = text.parse().map_err(|_| format!("`{text}` is not a rate"))?;
            self.mark(":")?;
            out.push(Rate {
                millionths: (per_us * 1e12).round() as u64,
                burst: self.integer()?,
            });
        }
        Ok(out)
    }
}
