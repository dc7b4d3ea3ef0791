//! Operands (`{"type", "value"}` pairs) and expressions.

use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{HexStr, PrimitiveCall};

/// A field: header instance name, then field name. `$valid$` is the validity bit of the header.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FieldRef(
    /// Header instance; for a stack field, the header stack.
    pub String,
    /// Field of that header.
    pub String,
);

/// An operand (section "The type value object"); the variant is the `type`, its content the `value`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", content = "value", rename_all = "snake_case")]
pub enum Value {
    /// A field of a header instance.
    Field(FieldRef),
    /// A constant.
    Hexstr(HexStr),
    /// A boolean constant.
    Bool(bool),
    /// A character string.
    String(String),
    /// A header instance.
    Header(String),
    /// A header stack.
    HeaderStack(String),
    /// A header union.
    HeaderUnion(String),
    /// A stack of header unions.
    HeaderUnionStack(String),
    /// A field of the last valid header of a stack.
    StackField(FieldRef),
    /// A field of the last valid union of a stack: union stack, member, field.
    UnionStackField(String, String, String),
    /// Bits of the packet ahead of the parser: offset, width.
    Lookahead(u32, u32),
    /// A register cell: array, index.
    Register(String, Box<Value>),
    /// An operator tree.
    Expression(Box<Expression>),
    /// An action parameter inside an expression.
    Local(u32),
    /// An action parameter as an operand of a primitive.
    RuntimeData(u32),
    /// A calculation (hash).
    Calculation(String),
    /// A register array.
    RegisterArray(String),
    /// A meter array.
    MeterArray(String),
    /// A counter array.
    CounterArray(String),
    /// An extern instance.
    Extern(String),
    /// Arguments of `log_msg`.
    ParametersVector(Vec<Value>),
    /// A header instance to extract into.
    Regular(String),
    /// A header stack to extract into.
    Stack(String),
    /// A union stack and the member to extract into.
    UnionStack(String, String),
    /// The rest of the packet, in a calculation.
    Payload(()),
}

/// What an `expression` holds: an operator, or just an operand (some compilers wrap operands twice).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// An operator with its operands.
    Op(Operation),
    /// A plain operand.
    Value(Value),
}

/// An operator with its operands; unary operators use `right` alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// The operator: `+`, `d2b`, `?`, `access_field` ...
    pub op: String,
    /// Condition of `?`.
    pub cond: Option<Box<Operand>>,
    /// Left operand.
    pub left: Option<Box<Operand>>,
    /// Right operand.
    pub right: Option<Box<Operand>>,
}

/// An operand of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operand {
    /// An ordinary operand.
    Value(Value),
    /// The bare offset of `access_field` and `access_union_header`.
    Offset(u32),
}

/// A parameter of a parser operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParserParameter {
    /// An operand.
    Value(Value),
    /// The call inside a `primitive` operation.
    Call(PrimitiveCall),
}

impl Value {
    /// Reads the content of a value whose `type` is `kind`.
    fn read<'de, A: MapAccess<'de>>(kind: &str, map: &mut A) -> Result<Value, A::Error> {
        Ok(match kind {
            "field" => Value::Field(map.next_value()?),
            "hexstr" => Value::Hexstr(map.next_value()?),
            "bool" => Value::Bool(map.next_value()?),
            "string" => Value::String(map.next_value()?),
            "header" => Value::Header(map.next_value()?),
            "header_stack" => Value::HeaderStack(map.next_value()?),
            "header_union" => Value::HeaderUnion(map.next_value()?),
            "header_union_stack" => Value::HeaderUnionStack(map.next_value()?),
            "stack_field" => Value::StackField(map.next_value()?),
            "union_stack_field" => {
                let (a, b, c) = map.next_value()?;
                Value::UnionStackField(a, b, c)
            }
            "lookahead" => {
                let (a, b) = map.next_value()?;
                Value::Lookahead(a, b)
            }
            "register" => {
                let (a, b) = map.next_value::<(String, Value)>()?;
                Value::Register(a, Box::new(b))
            }
            "expression" => Value::Expression(Box::new(map.next_value()?)),
            "local" => Value::Local(map.next_value()?),
            "runtime_data" => Value::RuntimeData(map.next_value()?),
            "calculation" => Value::Calculation(map.next_value()?),
            "register_array" => Value::RegisterArray(map.next_value()?),
            "meter_array" => Value::MeterArray(map.next_value()?),
            "counter_array" => Value::CounterArray(map.next_value()?),
            "extern" => Value::Extern(map.next_value()?),
            "parameters_vector" => Value::ParametersVector(map.next_value::<LogArguments>()?.0),
            "regular" => Value::Regular(map.next_value()?),
            "stack" => Value::Stack(map.next_value()?),
            "union_stack" => {
                let (a, b) = map.next_value()?;
                Value::UnionStack(a, b)
            }
            "payload" => {
                map.next_value::<de::IgnoredAny>()?;
                Value::Payload(())
            }
            other => return Err(de::Error::custom(format!("unknown operand type `{other}`"))),
        })
    }
}

/// Arguments of `log_msg`; p4c writes an empty list as `{}`.
struct LogArguments(Vec<Value>);

impl<'de> Deserialize<'de> for LogArguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Arguments;
        impl<'de> Visitor<'de> for Arguments {
            type Value = Vec<Value>;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a list of operands")
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Value>, A::Error> {
                std::iter::from_fn(|| seq.next_element().transpose()).collect()
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<Value>, A::Error> {
                match map.next_key::<String>()? {
                    None => Ok(Vec::new()),
                    Some(key) => Err(de::Error::unknown_field(&key, &[])),
                }
            }
        }
        deserializer.deserialize_any(Arguments).map(LogArguments)
    }
}

/// The keys of an object that stands for an operand, an operator or a call. No object has all of them.
#[derive(Default)]
struct Parts {
    value: Option<Value>,
    op: Option<String>,
    cond: Option<Operand>,
    left: Option<Operand>,
    right: Option<Operand>,
    parameters: Option<Vec<Value>>,
    source_info: Option<crate::SourceInfo>,
}

impl Parts {
    fn read<'de, A: MapAccess<'de>>(mut map: A) -> Result<Self, A::Error> {
        let mut parts = Parts::default();
        let mut kind: Option<String> = None;
        let mut early: Option<serde_json::Value> = None;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "type" => kind = Some(map.next_value()?),
                "value" => match &kind {
                    Some(kind) => parts.value = Some(Value::read(kind, &mut map)?),
                    None => early = Some(map.next_value()?),
                },
                "op" => parts.op = Some(map.next_value()?),
                "cond" => parts.cond = map.next_value()?,
                "left" => parts.left = map.next_value()?,
                "right" => parts.right = map.next_value()?,
                "parameters" => parts.parameters = map.next_value()?,
                "source_info" => parts.source_info = map.next_value()?,
                _ => {
                    map.next_value::<de::IgnoredAny>()?;
                }
            }
        }
        // `value` was written before `type`: read it again now that the type is known.
        if let (Some(kind), Some(value)) = (&kind, early) {
            let object = serde_json::json!({ "type": kind, "value": value });
            parts.value = Some(serde_json::from_value(object).map_err(de::Error::custom)?);
        }
        if parts.value.is_none() && kind.as_deref() == Some("payload") {
            parts.value = Some(Value::Payload(()));
        }
        Ok(parts)
    }

    fn into_value<E: de::Error>(self) -> Result<Value, E> {
        self.value
            .ok_or_else(|| E::custom("expected an object with `type` and `value`"))
    }
}

struct PartsVisitor;

impl<'de> Visitor<'de> for PartsVisitor {
    type Value = Parts;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an operand or an operator object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Parts, A::Error> {
        Parts::read(map)
    }
}

struct OperandVisitor;

impl<'de> Visitor<'de> for OperandVisitor {
    type Value = Operand;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an operand object or an offset")
    }

    fn visit_u64<E: de::Error>(self, offset: u64) -> Result<Operand, E> {
        u32::try_from(offset).map(Operand::Offset).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Operand, A::Error> {
        Parts::read(map)?.into_value().map(Operand::Value)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PartsVisitor)?.into_value()
    }
}

impl<'de> Deserialize<'de> for Operand {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OperandVisitor)
    }
}

impl<'de> Deserialize<'de> for Expression {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut parts = deserializer.deserialize_map(PartsVisitor)?;
        match parts.op.take() {
            Some(op) => Ok(Expression::Op(Operation {
                op,
                cond: parts.cond.map(Box::new),
                left: parts.left.map(Box::new),
                right: parts.right.map(Box::new),
            })),
            None => parts.into_value().map(Expression::Value),
        }
    }
}

impl<'de> Deserialize<'de> for ParserParameter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut parts = deserializer.deserialize_map(PartsVisitor)?;
        match parts.op.take() {
            Some(op) => Ok(ParserParameter::Call(PrimitiveCall {
                op,
                parameters: parts.parameters.unwrap_or_default(),
                source_info: parts.source_info,
            })),
            None => parts.into_value().map(ParserParameter::Value),
        }
    }
}

impl Serialize for Operand {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Operand::Value(value) => value.serialize(serializer),
            Operand::Offset(offset) => serializer.serialize_u32(*offset),
        }
    }
}

impl Serialize for Expression {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let operation = match self {
            Expression::Value(value) => return value.serialize(serializer),
            Expression::Op(operation) => operation,
        };
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("op", &operation.op)?;
        if let Some(cond) = &operation.cond {
            map.serialize_entry("cond", cond)?;
        }
        map.serialize_entry("left", &operation.left)?;
        map.serialize_entry("right", &operation.right)?;
        map.end()
    }
}

impl Serialize for ParserParameter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ParserParameter::Value(value) => value.serialize(serializer),
            ParserParameter::Call(call) => call.serialize(serializer),
        }
    }
}

impl From<Expression> for Value {
    fn from(expression: Expression) -> Self {
        Value::Expression(Box::new(expression))
    }
}
