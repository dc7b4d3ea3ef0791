//! What the generated bindings are made of: match fields, keys, actions, and how to read these back from an entity.

use p4runtime_client::canonical;
use p4runtime_client::entity::{EntityKey, EntityValue, FieldMatch, TableAction, TableExtra, TableKey};

pub use crate::bits::Bits;
pub use p4runtime_client::entity::{ActionCall, Entity, Match, MatchBuilder, MeterRates};

/// Why an entity does not belong to this table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is not an entry of that table.
    #[error("not an entry of table `{table}`")]
    NotThisTable {
        /// The table.
        table: &'static str,
    },
    /// A match field is missing, of another kind, or too wide.
    #[error("match field `{field}` does not fit the program")]
    Field {
        /// The field.
        field: &'static str,
    },
    /// An action parameter is missing or too wide.
    #[error("action parameter `{param}` does not fit the program")]
    Param {
        /// The parameter.
        param: &'static str,
    },
    /// An action that entries of this table cannot have.
    #[error("action {id:#010x} is not one of this table")]
    UnknownAction {
        /// P4Info id of the action.
        id: u32,
    },
}

/// A longest-prefix match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Lpm<const W: u32> {
    /// The prefix; bits after its length do not matter.
    pub value: Bits<W>,
    /// Its length in bits, 0 (anything) to `W`.
    pub prefix_len: u32,
}

impl<const W: u32> Lpm<W> {
    /// Matches one value.
    pub fn host(value: impl Into<Bits<W>>) -> Self {
        Self {
            value: value.into(),
            prefix_len: W,
        }
    }
}

/// A match of the bits where the mask has ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ternary<const W: u32> {
    /// The value.
    pub value: Bits<W>,
    /// The mask; 0 matches anything.
    pub mask: Bits<W>,
}

/// A match of all numbers between two, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Range<const W: u32> {
    /// The least.
    pub low: Bits<W>,
    /// The greatest.
    pub high: Bits<W>,
}

/// One match field of a key.
pub trait Field: Sized {
    /// Adds the field to a match.
    fn put(self, fields: MatchBuilder, id: u32) -> MatchBuilder;
    /// Reads the field from a match.
    ///
    /// # Errors
    /// [`DecodeError::Field`] if the field is missing, of another kind or too wide.
    fn get(fields: &Match, id: u32, name: &'static str) -> Result<Self, DecodeError>;
    /// The match as text, for people.
    fn show(&self) -> String;
}

fn bits<const W: u32>(bytes: &[u8]) -> Option<Bits<W>> {
    canonical::to_u128(bytes).and_then(Bits::new)
}

impl<const W: u32> Field for Bits<W> {
    fn put(self, fields: MatchBuilder, id: u32) -> MatchBuilder {
        fields.exact(id, self.bytes())
    }

    fn get(fields: &Match, id: u32, field: &'static str) -> Result<Self, DecodeError> {
        match fields.field(id) {
            Some(FieldMatch::Exact(value)) => bits(value),
            _ => None,
        }
        .ok_or(DecodeError::Field { field })
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl<const W: u32> Field for Option<Bits<W>> {
    fn put(self, fields: MatchBuilder, id: u32) -> MatchBuilder {
        match self {
            Some(value) => fields.optional(id, value.bytes()),
            None => fields,
        }
    }

    fn get(fields: &Match, id: u32, field: &'static str) -> Result<Self, DecodeError> {
        match fields.field(id) {
            None => Ok(None),
            Some(FieldMatch::Optional(value)) => bits(value).map(Some).ok_or(DecodeError::Field { field }),
            _ => Err(DecodeError::Field { field }),
        }
    }

    fn show(&self) -> String {
        self.map_or_else(|| "*".into(), |value| value.to_string())
    }
}

impl<const W: u32> Field for Lpm<W> {
    fn put(self, fields: MatchBuilder, id: u32) -> MatchBuilder {
        fields.lpm(id, W, self.value.bytes(), self.prefix_len)
    }

    fn get(fields: &Match, id: u32, field: &'static str) -> Result<Self, DecodeError> {
        match fields.field(id) {
            None => Some(Self {
                value: Bits::default(),
                prefix_len: 0,
            }),
            Some(FieldMatch::Lpm { value, prefix_len }) if prefix_len <= W => {
                bits(value).map(|value| Self { value, prefix_len })
            }
            _ => None,
        }
        .ok_or(DecodeError::Field { field })
    }

    fn show(&self) -> String {
        if self.prefix_len == W {
            self.value.to_string()
        } else {
            format!("{}/{}", self.value, self.prefix_len)
        }
    }
}

impl<const W: u32> Field for Ternary<W> {
    fn put(self, fields: MatchBuilder, id: u32) -> MatchBuilder {
        fields.ternary(id, self.value.bytes(), self.mask.bytes())
    }

    fn get(fields: &Match, id: u32, field: &'static str) -> Result<Self, DecodeError> {
        match fields.field(id) {
            None => Some(Self {
                value: Bits::default(),
                mask: Bits::default(),
            }),
            Some(FieldMatch::Ternary { value, mask }) => {
                bits(value).zip(bits(mask)).map(|(value, mask)| Self { value, mask })
            }
            _ => None,
        }
        .ok_or(DecodeError::Field { field })
    }

    fn show(&self) -> String {
        format!("{}&{}", self.value, self.mask)
    }
}

impl<const W: u32> Field for Range<W> {
    fn put(self, fields: MatchBuilder, id: u32) -> MatchBuilder {
        fields.range(id, W, self.low.bytes(), self.high.bytes())
    }

    fn get(fields: &Match, id: u32, field: &'static str) -> Result<Self, DecodeError> {
        match fields.field(id) {
            None => Some(Self {
                low: Bits::default(),
                high: Bits::masked(Bits::<W>::MAX),
            }),
            Some(FieldMatch::Range { low, high }) => bits(low).zip(bits(high)).map(|(low, high)| Self { low, high }),
            _ => None,
        }
        .ok_or(DecodeError::Field { field })
    }

    fn show(&self) -> String {
        format!("{}..{}", self.low, self.high)
    }
}

/// The key of a table.
pub trait KeyFields: Copy + std::fmt::Display {
    /// P4Info id of the table.
    const TABLE_ID: u32;
    /// Short name of the table.
    const TABLE: &'static str;
    /// As P4Runtime has it.
    fn to_match(self) -> MatchBuilder;
    /// From what was read back from a switch.
    ///
    /// # Errors
    /// [`DecodeError::Field`] if a field does not fit the program.
    fn from_match(fields: &Match) -> Result<Self, DecodeError>;
}

/// The actions of a table.
pub trait ActionParams: Copy + std::fmt::Display {
    /// As P4Runtime has it.
    fn to_call(self) -> ActionCall;
    /// From what was read back from a switch.
    ///
    /// # Errors
    /// [`DecodeError::UnknownAction`] or [`DecodeError::Param`] if it does not fit the program.
    fn from_call(call: &ActionCall) -> Result<Self, DecodeError>;
}

/// Reads one parameter of an action.
///
/// # Errors
/// [`DecodeError::Param`] if the parameter is missing or too wide.
pub fn param<const W: u32>(call: &ActionCall, id: u32, param: &'static str) -> Result<Bits<W>, DecodeError> {
    call.param(id).and_then(bits).ok_or(DecodeError::Param { param })
}

/// A table entry with an action of its own.
pub fn table_entry<K: KeyFields, A: ActionParams>(key: K, priority: i32, action: A) -> Entity {
    Entity::table(
        TableKey::with_priority(K::TABLE_ID, key.to_match(), priority),
        action.to_call(),
    )
}

/// As [`table_entry`], for an exact or longest-prefix match in a table with direct meters.
pub fn metered_entry<K: KeyFields, A: ActionParams>(key: K, action: A, rates: MeterRates) -> Entity {
    let extra = TableExtra {
        meter: Some(rates),
        ..TableExtra::default()
    };
    Entity::table_with(TableKey::new(K::TABLE_ID, key.to_match()), action.to_call(), extra)
}

/// Reads a table entry.
///
/// # Errors
/// The entity is not an entry of this table with an action of its own, or does not fit the program.
pub fn decode<K: KeyFields, A: ActionParams>(entity: &Entity) -> Result<(K, A), DecodeError> {
    let not = DecodeError::NotThisTable { table: K::TABLE };
    let (EntityKey::Table(key), EntityValue::Table(value)) = (entity.key(), entity.value()) else {
        return Err(not);
    };
    let TableAction::Call(call) = &value.action else {
        return Err(not);
    };
    if key.table_id != K::TABLE_ID {
        return Err(not);
    }
    Ok((K::from_match(&key.fields)?, A::from_call(call)?))
}

/// A table entry in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// Short name of the table.
    pub table: &'static str,
    /// Fields and their values.
    pub key: String,
    /// Action and its arguments, or the group or member it points to.
    pub action: String,
}

/// A table entry in words; `None` if it does not fit the program.
pub fn described<K: KeyFields, A: ActionParams>(entity: &Entity) -> Option<Described> {
    let EntityValue::Table(value) = entity.value() else {
        return None;
    };
    let action = match &value.action {
        TableAction::Call(call) => A::from_call(call).ok()?.to_string(),
        TableAction::Group(id) => format!("group {id}"),
        TableAction::Member(id) => format!("member {id}"),
        TableAction::OneShot(_) => "one-shot group".into(),
    };
    let key = match entity.key() {
        EntityKey::Table(key) => K::from_match(&key.fields).ok()?.to_string(),
        _ => "default".into(),
    };
    Some(Described {
        table: K::TABLE,
        key,
        action,
    })
}
