//! Annotations with their values computed.

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
    /// `@a(...)` without a meaning for the compiler.
    Tokens(Vec<AnnToken>),
    /// `@a(...)` of a known annotation (`known.rs`).
    Args(Vec<Value>),
    NamedArgs(Vec<(Rc<str>, Value)>),
    List(Vec<Value>),
    Pairs(Vec<(Rc<str>, Value)>),
}

/// A compile-time value in an annotation.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Int(BigInt),
    Bool(bool),
    Str(Rc<str>),
    /// `ternary` of `@match(ternary)`.
    MatchKind(Rc<str>),
    /// `string` of `@p4runtime_translation("uri", string)`; `bit<W>` there is the number W.
    StringType,
}

impl std::fmt::Display for Value {
    /// As P4 source.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Int(v) => write!(f, "{v}"),
            Value::Bool(v) => write!(f, "{v}"),
            Value::Str(v) => write!(f, "\"{}\"", v.replace('\\', "\\\\").replace('"', "\\\"")),
            Value::MatchKind(v) => f.write_str(v),
            Value::StringType => f.write_str("string"),
        }
    }
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
        self.get(name).and_then(|a| a.ints().next().cloned())
    }

    /// The name the control plane uses, from `@name`, or the given one.
    pub fn control_name(&self, own: &str) -> String {
        self.string("name").unwrap_or_else(|| own.to_string())
    }
}

impl Annotation {
    /// The arguments in order; empty for key=value pairs.
    pub fn values(&self) -> &[Value] {
        match &self.body {
            Body::Args(v) | Body::List(v) => v,
            _ => &[],
        }
    }

    /// The key=value pairs.
    pub fn pairs(&self) -> &[(Rc<str>, Value)] {
        match &self.body {
            Body::NamedArgs(v) | Body::Pairs(v) => v,
            _ => &[],
        }
    }

    /// The first argument, if it is a string.
    pub fn string(&self) -> Option<String> {
        match self.values().first() {
            Some(Value::Str(s)) => Some(s.to_string()),
            _ => None,
        }
    }

    /// The arguments that are whole numbers. If a known annotation takes numbers, these are all of its arguments.
    pub fn ints(&self) -> impl Iterator<Item = &BigInt> {
        self.values()
            .iter()
            .filter_map(|v| if let Value::Int(i) = v { Some(i) } else { None })
    }
}
