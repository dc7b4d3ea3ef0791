//! Reading what users write.
//!
//! What serde derives for a struct also takes an array, with the fields in their order: `["blue", ""]` would be a vDC. No
//! document says so, and a field that is added later would change what such an array means. [`Strict`] stands around a
//! deserializer and has structs read from maps only, however deep they stand. Everything else goes through as it is.
//! [`refusal`] says what was wrong with a document: the field, its value, what was expected.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde_json::Value;
use serde_path_to_error::Segment;

use crate::error::{ApiError, ErrorCode, FieldError};

/// Longest piece of a wrong value that an error repeats.
const SHOWN_CHARS: usize = 80;

/// What a caller hears of a document that cannot be read; `root` is the document, if it is JSON.
pub(crate) fn refusal(error: &serde_path_to_error::Error<serde_json::Error>, root: Option<&Value>) -> ApiError {
    // JSON with a value that its field does not take, or no JSON.
    let code = if error.inner().is_data() {
        ErrorCode::Invalid
    } else {
        ErrorCode::Malformed
    };
    let error = FieldError {
        field: error.path().to_string(),
        value: root.map(|root| value_at(root, error.path())).unwrap_or_default(),
        expected: error.inner().to_string(),
    };
    ApiError {
        errors: vec![error],
        ..ApiError::new(code, "the body is not as documented")
    }
}

/// The value at a path, shortened; empty where there is none.
fn value_at(root: &Value, path: &serde_path_to_error::Path) -> String {
    let mut at = root;
    for segment in path {
        let next = match segment {
            Segment::Seq { index } => at.get(*index),
            Segment::Map { key } => at.get(key),
            Segment::Enum { variant } => at.get(variant).or(Some(at)),
            Segment::Unknown => None,
        };
        let Some(next) = next else { return String::new() };
        at = next;
    }
    match at {
        Value::String(s) => s.chars().take(SHOWN_CHARS).collect(),
        other => other.to_string().chars().take(SHOWN_CHARS).collect(),
    }
}

/// Something of serde's around which this rule stands.
pub(crate) struct Strict<T>(pub(crate) T);

/// The methods of a deserializer that only hand their visitor on.
macro_rules! hand_on {
    ($($method:ident($($argument:ident: $type:ty),*);)+) => {$(
        fn $method<V: Visitor<'de>>(self, $($argument: $type,)* visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method($($argument,)* Strict(visitor))
        }
    )+};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<D> {
    type Error = D::Error;

    hand_on! {
        deserialize_any();
        deserialize_bool();
        deserialize_i8();
        deserialize_i16();
        deserialize_i32();
        deserialize_i64();
        deserialize_u8();
        deserialize_u16();
        deserialize_u32();
        deserialize_u64();
        deserialize_f32();
        deserialize_f64();
        deserialize_char();
        deserialize_str();
        deserialize_string();
        deserialize_bytes();
        deserialize_byte_buf();
        deserialize_option();
        deserialize_unit();
        deserialize_unit_struct(name: &'static str);
        deserialize_newtype_struct(name: &'static str);
        deserialize_seq();
        deserialize_tuple(len: usize);
        deserialize_tuple_struct(name: &'static str, len: usize);
        deserialize_map();
        deserialize_enum(name: &'static str, variants: &'static [&'static str]);
        deserialize_identifier();
        deserialize_ignored_any();
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Strict(visitor))
    }
}

/// The methods of a visitor that only hand a value on.
macro_rules! visit {
    ($($method:ident: $type:ty;)+) => {$(
        fn $method<E: Error>(self, value: $type) -> Result<V::Value, E> {
            self.0.$method(value)
        }
    )+};
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Strict<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    visit! {
        visit_bool: bool;
        visit_i8: i8;
        visit_i16: i16;
        visit_i32: i32;
        visit_i64: i64;
        visit_u8: u8;
        visit_u16: u16;
        visit_u32: u32;
        visit_u64: u64;
        visit_f32: f32;
        visit_f64: f64;
        visit_char: char;
        visit_str: &str;
        visit_borrowed_str: &'de str;
        visit_string: String;
        visit_bytes: &[u8];
        visit_borrowed_bytes: &'de [u8];
        visit_byte_buf: Vec<u8>;
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }
    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }
    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Strict(inner))
    }
    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(Strict(inner))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Strict(seq))
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Strict(map))
    }
    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(Strict(data))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        self.0.next_element_seed(Strict(seed))
    }
    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_key_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        self.0.next_key_seed(Strict(seed))
    }
    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.0.next_value_seed(Strict(seed))
    }
    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, T: DeserializeSeed<'de>> DeserializeSeed<'de> for Strict<T> {
    type Value = T::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<T::Value, D::Error> {
        self.0.deserialize(Strict(inner))
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Strict<A> {
    type Error = A::Error;
    type Variant = Strict<A::Variant>;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self::Variant), A::Error> {
        let (value, variant) = self.0.variant_seed(Strict(seed))?;
        Ok((value, Strict(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.unit_variant()
    }
    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, A::Error> {
        self.0.newtype_variant_seed(Strict(seed))
    }
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.0.tuple_variant(len, Strict(visitor))
    }
    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, A::Error> {
        // The fields of a variant are its one value: a map.
        self.0.newtype_variant_seed(Fields(visitor))
    }
}

/// Reads the fields of a struct from a map.
struct Fields<V>(V);

impl<'de, V: Visitor<'de>> DeserializeSeed<'de> for Fields<V> {
    type Value = V::Value;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<V::Value, D::Error> {
        inner.deserialize_map(Strict(self.0))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        a: Option<u16>,
        b: Vec<Inner>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Either {
        Unit,
        Tuple(u8, u8),
        Struct { inner: Inner },
    }

    fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, String> {
        T::deserialize(Strict(&mut serde_json::Deserializer::from_str(text))).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_no_struct_is_read_as_ever() {
        for text in [r#"{"a":7,"b":[{"a":null,"b":[]}]}"#, r#"{"b":[]}"#] {
            assert_eq!(read::<Inner>(text).unwrap(), serde_json::from_str(text).unwrap());
        }
        for text in [r#""unit""#, r#"{"tuple":[1,2]}"#, r#"{"struct":{"inner":{"b":[]}}}"#] {
            assert_eq!(read::<Either>(text).unwrap(), serde_json::from_str(text).unwrap());
        }
        let pairs = r#"{"x":[1,"y"]}"#;
        let read: std::collections::BTreeMap<String, (u8, String)> = read(pairs).unwrap();
        assert_eq!(read["x"], (1, "y".to_owned()));
    }

    #[test]
    fn a_struct_is_not_read_from_an_array_at_any_depth() {
        for text in ["[7,[]]", r#"{"b":[[7,[]]]}"#, r#"{"b":[{"b":[[null,[]]]}]}"#] {
            assert!(
                serde_json::from_str::<Inner>(text).is_ok(),
                "serde's own rule has changed"
            );
            assert!(
                read::<Inner>(text).unwrap_err().contains("invalid type: sequence"),
                "{text}"
            );
        }
        for text in [r#"{"struct":[{"b":[]}]}"#, r#"{"struct":{"inner":[null,[]]}}"#] {
            assert!(
                serde_json::from_str::<Either>(text).is_ok(),
                "serde's own rule has changed"
            );
            assert!(
                read::<Either>(text).unwrap_err().contains("invalid type: sequence"),
                "{text}"
            );
        }
    }
}
