//! Labels of objects, and selectors that choose objects by them.
//!
//! **Labels** are pairs of key and value that users choose; the controller only uses them to select objects. An object
//! has at most [`MAX_LABELS`].
//!
//! **Selectors** ([`Selector`]) are lists of requirements, separated by commas; an object is selected if it meets all of
//! them. The grammar is that of Kubernetes label selectors, so that users need not learn another one:
//!
//! | requirement | selects objects |
//! | --- | --- |
//! | `key=value`, `key==value` | that have the key with this value |
//! | `key!=value` | that have another value, or lack the key |
//! | `key in (a,b)` | that have the key with one of these values |
//! | `key notin (a,b)` | that have none of these values, or lack the key |
//! | `key` | that have the key |
//! | `!key` | that do not have it |
//!
//! A field selector has the same grammar over a few fields of each kind ([`FIELDS`]). A field with several values meets
//! `=` and `in` if one of its values matches, `!=` and `notin` if none matches.
//!
//! **Cost.** A test of an object costs the requirements, of which there are at most [`MAX_REQUIREMENTS`].

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::error::{ApiError, ErrorCode};
use crate::ident::{IdentError, OwnerName};
use crate::kind::{Kind, Place, Spec};

/// Labels that an object may have.
pub const MAX_LABELS: usize = 32;
/// Octets of a selector.
pub const MAX_SELECTOR: usize = 1024;
/// Requirements of a selector.
pub const MAX_REQUIREMENTS: usize = 16;

/// Whether a text begins and ends with a letter or digit, and has only these and `others` between.
fn is_word(text: &str, others: &[u8]) -> bool {
    let bytes = text.as_bytes();
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let inner = |b: &u8| b.is_ascii_alphanumeric() || others.contains(b);
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(inner)
}

/// Defines a newtype for a text with a rule.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $is_right:expr, $expected:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
        #[schema(value_type = String)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = IdentError;
            fn from_str(s: &str) -> Result<Self, IdentError> {
                let is_right: fn(&str) -> bool = $is_right;
                if is_right(s) {
                    return Ok(Self(s.to_owned()));
                }
                Err(IdentError {
                    value: s.chars().take(80).collect(),
                    expected: $expected,
                })
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdentError;
            fn try_from(s: String) -> Result<Self, IdentError> {
                s.parse()
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> Self {
                text.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text!(
    /// Key of a label: 1 to 63 of `A-Z a-z 0-9 . _ / -`, starting and ending with a letter or digit.
    LabelKey,
    |s| s.len() <= 63 && is_word(s, b"._/-"),
    "1 to 63 characters A-Z, a-z, 0-9, '.', '_', '/' and '-', the first and the last a letter or digit"
);
text!(
    /// Value of a label: up to 63 of `A-Z a-z 0-9 . _ -`, starting and ending with a letter or digit; or nothing.
    LabelValue,
    |s| s.is_empty() || (s.len() <= 63 && is_word(s, b"._-")),
    "up to 63 characters A-Z, a-z, 0-9, '.', '_' and '-', the first and the last a letter or digit"
);

/// The labels of an object.
pub type Labels = BTreeMap<LabelKey, LabelValue>;

/// Fields that selectors can use, and the kinds that have them.
pub const FIELDS: &[(&str, &[Kind])] = &[
    ("name", Kind::ALL),
    ("owner", Kind::ALL),
    ("network", &[Kind::Router, Kind::Attachment]),
    ("host", &[Kind::Attachment]),
    ("switch", &[Kind::Attachment]),
];

/// The fields of a kind that selectors can use.
pub fn fields_of(kind: Kind) -> impl Iterator<Item = &'static str> {
    let has = move |(_, kinds): &&(&str, &[Kind])| kinds.contains(&kind);
    FIELDS.iter().filter(has).map(|(name, _)| *name)
}

/// The values of a field of an object.
fn values<'a>(field: &str, spec: &'a Spec, owner: Option<&'a OwnerName>) -> Vec<&'a str> {
    match (field, spec) {
        ("name", spec) => vec![spec.name().as_str()],
        ("owner", _) => owner.map(OwnerName::as_str).into_iter().collect(),
        ("network", Spec::Attachment(spec)) => vec![spec.network.as_str()],
        ("network", Spec::Router(spec)) => spec.networks.iter().map(crate::ident::Name::as_str).collect(),
        ("host", Spec::Attachment(spec)) => match &spec.place {
            Place::Host { host, .. } => vec![host.as_str()],
            Place::Port { .. } => Vec::new(),
        },
        ("switch", Spec::Attachment(spec)) => match &spec.place {
            Place::Port { switch, .. } => vec![switch.as_str()],
            Place::Host { .. } => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// A requirement on the values of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    Missing,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

impl Requirement {
    fn is_met(&self, values: &[&str]) -> bool {
        match &self.test {
            Test::In(wanted) => values.iter().any(|v| wanted.contains(*v)),
            Test::NotIn(unwanted) => !values.iter().any(|v| unwanted.contains(*v)),
            Test::Exists => !values.is_empty(),
            Test::Missing => values.is_empty(),
        }
    }

    /// One requirement, without the blanks around it.
    fn parse(text: &str) -> Result<Self, &'static str> {
        const SHAPE: &str = "key, !key, key=value, key!=value, key in (a,b) or key notin (a,b)";
        let one = |value: &str| BTreeSet::from([value.trim().to_owned()]);
        let (key, test) = if let Some(key) = text.strip_prefix('!') {
            (key, Test::Missing)
        } else if let Some((key, value)) = text.split_once("!=") {
            (key, Test::NotIn(one(value)))
        } else if let Some((key, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
            (key, Test::In(one(value)))
        } else if let Some(list) = text.strip_suffix(')') {
            let (before, list) = list.split_once('(').ok_or(SHAPE)?;
            let (key, word) = before.trim().rsplit_once(char::is_whitespace).ok_or(SHAPE)?;
            let set = list.split(',').map(|value| value.trim().to_owned()).collect();
            match word {
                "in" => (key, Test::In(set)),
                "notin" => (key, Test::NotIn(set)),
                _ => return Err(SHAPE),
            }
        } else {
            (text, Test::Exists)
        };
        let key = key.trim();
        if key.is_empty() || key.contains(|c: char| c.is_whitespace() || "()!=".contains(c)) {
            return Err(SHAPE);
        }
        Ok(Self {
            key: key.to_owned(),
            test,
        })
    }

    fn values(&self) -> impl Iterator<Item = &String> {
        match &self.test {
            Test::In(values) | Test::NotIn(values) => Some(values),
            Test::Exists | Test::Missing => None,
        }
        .into_iter()
        .flatten()
    }
}

/// Splits a selector at the commas that are not within parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut from, mut depth) = (0, 0_u32);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

fn invalid(parameter: &str, value: &str, expected: impl Into<String>) -> ApiError {
    let shown: String = value.chars().take(80).collect();
    ApiError::field(ErrorCode::Invalid, parameter, shown, expected)
}

/// The requirements of `?labels=` or `?fields=`.
fn requirements(parameter: &str, text: &str) -> Result<Vec<Requirement>, ApiError> {
    if text.len() > MAX_SELECTOR {
        let expected = format!("at most {MAX_SELECTOR} octets");
        return Err(ApiError::field(ErrorCode::Invalid, parameter, text.len(), expected));
    }
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let parts = split(text);
    if parts.len() > MAX_REQUIREMENTS {
        let expected = format!("at most {MAX_REQUIREMENTS} requirements");
        return Err(ApiError::field(ErrorCode::Invalid, parameter, parts.len(), expected));
    }
    let parse = |part: &str| Requirement::parse(part.trim()).map_err(|shape| invalid(parameter, part, shape));
    parts.into_iter().map(parse).collect()
}

/// A selector. The default selects all objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

impl Selector {
    /// Reads `?labels=` and `?fields=` for objects of a kind.
    ///
    /// # Errors
    /// `Invalid`, with the parameter and the part of it that cannot be read.
    pub fn parse(kind: Kind, labels: &str, fields: &str) -> Result<Self, ApiError> {
        let selector = Self {
            labels: requirements("labels", labels)?,
            fields: requirements("fields", fields)?,
        };
        for requirement in &selector.labels {
            let wrong = |e: IdentError| invalid("labels", &e.value, e.expected);
            requirement.key.parse::<LabelKey>().map_err(wrong)?;
            for value in requirement.values() {
                value.parse::<LabelValue>().map_err(wrong)?;
            }
        }
        for requirement in &selector.fields {
            if !fields_of(kind).any(|field| field == requirement.key) {
                let known: Vec<&str> = fields_of(kind).collect();
                return Err(invalid(
                    "fields",
                    &requirement.key,
                    format!("one of {}", known.join(", ")),
                ));
            }
        }
        Ok(selector)
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether an object is selected.
    pub fn selects(&self, spec: &Spec, owner: Option<&OwnerName>) -> bool {
        self.selects_labels(spec.labels()) && self.fields.iter().all(|r| r.is_met(&values(&r.key, spec, owner)))
    }

    /// Whether labels meet the requirements on labels.
    pub fn selects_labels(&self, labels: &Labels) -> bool {
        self.labels.iter().all(|requirement| {
            let found = labels.iter().find(|(key, _)| key.as_str() == requirement.key);
            let value = found.map(|(_, value)| value.as_str());
            requirement.is_met(value.as_slice())
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        let pair = |(key, value): &(&str, &str)| (key.parse().unwrap(), value.parse().unwrap());
        pairs.iter().map(pair).collect()
    }

    fn selects(selector: &str, pairs: &[(&str, &str)]) -> bool {
        let selector = Selector::parse(Kind::Network, selector, "").unwrap();
        selector.selects_labels(&labels(pairs))
    }

    #[test]
    fn requirements_are_met_as_the_table_says() {
        let web = [("tier", "web"), ("env", "prod")];
        for (selector, expected) in [
            ("", true),
            ("tier=web", true),
            ("tier==web", true),
            ("tier=db", false),
            ("tier!=db", true),
            ("tier!=web", false),
            ("zone!=a", true),
            ("tier in (db, web)", true),
            ("tier in (db)", false),
            ("tier notin (db,cache)", true),
            ("zone notin (a)", true),
            ("tier notin (web)", false),
            ("tier", true),
            ("zone", false),
            ("!zone", true),
            ("!tier", false),
            (" tier = web , env in ( prod , test ) ,!zone", true),
            ("tier=web,env=test", false),
            ("zone=", false),
        ] {
            assert_eq!(selects(selector, &web), expected, "{selector}");
        }
        assert!(selects("empty=", &[("empty", "")]));
    }

    #[test]
    fn what_is_no_selector_is_named_with_its_parameter() {
        for (selector, part) in [
            ("tier=web,", ""),
            ("tier in web", "tier in web"),
            ("in (a)", "in (a)"),
            ("tier within (a)", "tier within (a)"),
            ("-tier=web", "-tier"),
            ("tier=a b", "a b"),
            ("=web", "=web"),
        ] {
            let error = Selector::parse(Kind::Network, selector, "").unwrap_err();
            let field = &error.errors[0];
            assert_eq!(
                (field.field.as_str(), field.value.as_str()),
                ("labels", part),
                "{selector}"
            );
        }
        let long = "a".repeat(MAX_SELECTOR + 1);
        assert!(Selector::parse(Kind::Network, &long, "").is_err());
        let many = vec!["a"; MAX_REQUIREMENTS + 1].join(",");
        assert!(Selector::parse(Kind::Network, &many, "").is_err());
        let error = Selector::parse(Kind::Network, "", "host=h1").unwrap_err();
        assert!(error.errors[0].expected.contains("name, owner"), "{error}");
    }

    #[test]
    fn fields_are_those_of_the_kind() {
        let attachment = |place: &str| {
            let text = format!(r#"{{"name": "web1", "network": "red", "place": {place}}}"#);
            Spec::read(Kind::Attachment, serde_json::from_str(&text).unwrap()).unwrap()
        };
        let on_host = attachment(r#"{"host": {"host": "h1", "netns": "w", "interface": "eth0"}}"#);
        let on_port = attachment(r#"{"port": {"switch": "leaf1", "port": 10}}"#);
        let owner: OwnerName = "file:web".parse().unwrap();
        for (selector, host, port) in [
            ("name=web1", true, true),
            ("network=red", true, true),
            ("network!=red", false, false),
            ("host=h1", true, false),
            ("host!=h1", false, true),
            ("host", true, false),
            ("switch in (leaf1,leaf2)", false, true),
            ("owner=file:web", true, false),
            ("!owner", false, true),
        ] {
            let selector = Selector::parse(Kind::Attachment, "", selector).unwrap();
            assert_eq!(selector.selects(&on_host, Some(&owner)), host, "{selector:?}");
            assert_eq!(selector.selects(&on_port, None), port, "{selector:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn anything_is_read_or_refused(text in "[a-z()!=, é]{0,40}", fields in "[a-z()!=, ]{0,20}") {
            let _ = Selector::parse(Kind::Attachment, &text, &fields);
        }

        #[test]
        fn in_and_notin_are_opposites(set in proptest::collection::btree_set("[a-c]{1,2}", 1..4), value in proptest::option::of("[a-c]{1,2}")) {
            let list: Vec<String> = set.into_iter().collect();
            let list = list.join(",");
            let pairs: Vec<(&str, &str)> = value.iter().map(|v| ("k", v.as_str())).collect();
            prop_assert_ne!(selects(&format!("k in ({list})"), &pairs), selects(&format!("k notin ({list})"), &pairs));
        }
    }
}
