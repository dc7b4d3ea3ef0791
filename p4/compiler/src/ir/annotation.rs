//! Annotations with their values worked out.

use crate::ast::AnnToken;
use crate::source::Span;
use num_bigint::BigInt;
use std::rc::Rc;

#[derive(Clone, Debug)]
pub struct Annotation {
    pub name: Rc<str>,
    pub body: Body,
    pub span: Span,
}

#[derive(Clone, Debug)]
pub enum Body {
    Empty,
    Tokens(Vec<AnnToken>),
    List(Vec<Value>),
    Pairs(Vec<(Rc<str>, Value)>),
}

/// A compile-time value in a structured annotation.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Int(BigInt),
    Bool(bool),
    Str(Rc<str>),
}

/// Annotations of one declaration.
#[derive(Clone, Debug, Default)]
pub struct Annotations(pub Rc<Vec<Annotation>>);

impl Annotations {
    pub fn get(&self, name: &str) -> Option<&Annotation> {
        self.0.iter().find(|a| &*a.name == name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Annotation> {
        self.0.iter()
    }

    /// The text of `@name("text")`.
    pub fn string(&self, name: &str) -> Option<String> {
        self.get(name).and_then(Annotation::string)
    }

    /// The number of `@name(5)`.
    pub fn int(&self, name: &str) -> Option<BigInt> {
        self.get(name).and_then(|a| a.ints().first().cloned())
    }

    /// The name the control plane uses, from `@name`, or the given one.
    pub fn control_name(&self, own: &str) -> String {
        self.string("name").unwrap_or_else(|| own.to_string())
    }
}

impl Annotation {
    /// The single (possibly concatenated) string of the body.
    pub fn string(&self) -> Option<String> {
        match &self.body {
            Body::Tokens(t) if !t.is_empty() && t.iter().all(|t| t.is_string) => {
                Some(t.iter().map(|t| t.text.as_str()).collect())
            }
            Body::List(v) => match v.first() {
                Some(Value::Str(s)) => Some(s.to_string()),
                _ => None,
            },
            _ => None,
        }
    }

    /// All integers of the body.
    pub fn ints(&self) -> Vec<BigInt> {
        match &self.body {
            Body::Tokens(tokens) => tokens
                .iter()
                .filter(|t| t.is_int)
                .filter_map(|t| parse_int(&t.text))
                .collect(),
            Body::List(values) => values
                .iter()
                .filter_map(|v| if let Value::Int(i) = v { Some(i.clone()) } else { None })
                .collect(),
            _ => Vec::new(),
        }
    }

    /// The comma-separated arguments of an unstructured body, each a string (unquoted) or its tokens joined.
    pub fn args(&self) -> Vec<String> {
        let Body::Tokens(tokens) = &self.body else {
            return Vec::new();
        };
        let mut out = vec![String::new()];
        for t in tokens {
            if !t.is_string && t.text == "," {
                out.push(String::new());
            } else if let Some(last) = out.last_mut() {
                last.push_str(&t.text);
            }
        }
        out
    }
}

/// A literal as in P4 source, without its width.
pub fn parse_int(text: &str) -> Option<BigInt> {
    let clean: String = text.chars().filter(|c| *c != '_').collect();
    let digits = clean.bytes().take_while(u8::is_ascii_digit).count();
    let body = match clean.as_bytes().get(digits) {
        Some(b'w' | b's') => clean.get(digits + 1..)?,
        _ => &clean,
    };
    let (body, radix) = match body.get(..2) {
        Some("0x" | "0X") => (body.get(2..)?, 16),
        Some("0b" | "0B") => (body.get(2..)?, 2),
        Some("0o" | "0O") => (body.get(2..)?, 8),
        _ => (body, 10),
    };
    BigInt::parse_bytes(body.as_bytes(), radix)
}
