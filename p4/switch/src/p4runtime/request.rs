//! Reads write requests from the octets on the wire: table entries are read in one pass, without intermediate messages
//! and without an allocation for each field.
//!
//! [`WriteRequest::decode`] cuts a request into updates. [`TableEntry::decode`] reads one that inserts, modifies or
//! deletes a table entry into a form that borrows from the octets and reuses its lists for the next one. Two kinds of
//! update are left to prost ([`Decoded::Other`]): an update of anything else, and one in an encoding that no usual
//! encoder writes (a field twice, a group, an unexpected wire type). Both paths use the same checks, so they can only
//! differ in decoding.

// Deprecated fields are still read and echoed, for older clients.
#![allow(deprecated)]

use std::borrow::Cow;

use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::field_match::FieldMatchType;
use p4runtime_proto::p4::v1::table_action::Type as ActionType;
use prost::Message as _;

/// The octets are not in the form that encoders write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unusual;

/// The content of one field of a message.
#[derive(Clone, Copy)]
enum Value<'a> {
    Varint(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    fn number(self) -> Result<u64, Unusual> {
        match self {
            Self::Varint(n) => Ok(n),
            Self::Bytes(_) => Err(Unusual),
        }
    }

    fn bytes(self) -> Result<&'a [u8], Unusual> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Varint(_) => Err(Unusual),
        }
    }
}

/// Reads fields from the front (Protocol Buffers encoding, "Message Structure").
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// Nearly all numbers in an update, lengths included, have one octet.
    #[inline]
    fn varint(&mut self) -> Result<u64, Unusual> {
        match self.0 {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.0 = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Unusual> {
        let mut value = 0;
        for (i, byte) in self.0.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if *byte < 0x80 {
                self.0 = self.0.get(i + 1..).unwrap_or_default();
                return if i == 9 && *byte > 1 { Err(Unusual) } else { Ok(value) };
            }
        }
        Err(Unusual)
    }

    /// Number and value of the next field; none at the end.
    #[inline]
    fn next(&mut self) -> Result<Option<(u32, Value<'a>)>, Unusual> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = u32::try_from(self.varint()?).map_err(|_| Unusual)?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| Unusual)?;
                let (bytes, rest) = self.0.split_at_checked(len).ok_or(Unusual)?;
                self.0 = rest;
                Value::Bytes(bytes)
            }
            _ => return Err(Unusual),
        };
        if key < 8 {
            return Err(Unusual);
        }
        Ok(Some((key >> 3, value)))
    }
}

/// Sets a field that must not be set yet.
fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Unusual> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Unusual),
    }
}

/// A `WriteRequest`.
#[derive(Debug, Clone, PartialEq)]
pub enum WriteRequest<'a> {
    /// The updates are still encoded.
    Octets {
        /// All but the updates.
        header: v1::WriteRequest,
        /// `Update` messages.
        updates: Vec<&'a [u8]>,
    },
    /// Decoded.
    Messages(v1::WriteRequest),
}

impl<'a> WriteRequest<'a> {
    /// Splits an encoded request.
    ///
    /// # Errors
    /// Octets that are not a message of this type. The updates themselves are not checked.
    pub fn decode(octets: &'a [u8]) -> Result<Self, prost::DecodeError> {
        const UPDATES: u32 = 4;
        let (mut updates, mut header) = (Vec::new(), Vec::new());
        let mut fields = Fields(octets);
        loop {
            let before = fields.0;
            match fields.next() {
                Ok(None) => break,
                Ok(Some((UPDATES, Value::Bytes(update)))) => updates.push(update),
                Ok(Some(_)) => {
                    let len = before.len() - fields.0.len();
                    header.extend_from_slice(before.get(..len).unwrap_or_default());
                }
                Err(Unusual) => {
                    // prost finds the error, or reads it as a whole.
                    let updates = v1::WriteRequest::decode(octets)?;
                    return Ok(Self::Messages(updates));
                }
            }
        }
        let header = v1::WriteRequest::decode(header.as_slice())?;
        Ok(Self::Octets { header, updates })
    }
}

/// The match of a field of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match<'a> {
    /// Value.
    Exact(&'a [u8]),
    /// Value and mask.
    Ternary(&'a [u8], &'a [u8]),
    /// Value and prefix length.
    Lpm(&'a [u8], i32),
    /// Low and high bound.
    Range(&'a [u8], &'a [u8]),
    /// Value.
    Optional(&'a [u8]),
    /// Of a kind that this target does not know.
    Other,
}

/// `FieldMatch`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FieldMatch<'a> {
    /// Id of the match field.
    pub field_id: u32,
    /// Its match.
    pub matches: Option<Match<'a>>,
}

/// `Action.Param`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Param<'a> {
    /// Id of the parameter.
    pub param_id: u32,
    /// Its value.
    pub value: &'a [u8],
}

/// `TableAction`.
#[derive(Debug, Clone, PartialEq)]
pub enum TableAction<'a> {
    /// Nothing is set.
    Empty,
    /// An action by id; its arguments are in [`TableEntry::params`].
    Action(u32),
    /// A member of the table's profile.
    Member(u32),
    /// A group of the table's selector.
    Group(u32),
    /// A one-shot.
    Set(Cow<'a, v1::ActionProfileActionSet>),
}

/// `TableEntry`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TableEntry<'a> {
    /// Id of the table.
    pub table_id: u32,
    /// Its key.
    pub matches: Vec<FieldMatch<'a>>,
    /// Its action.
    pub action: Option<TableAction<'a>>,
    /// Arguments of its action.
    pub params: Vec<Param<'a>>,
    /// Larger wins.
    pub priority: i32,
    /// Deprecated cookie.
    pub controller_metadata: u64,
    /// Cookie.
    pub metadata: &'a [u8],
    /// Configuration of the direct meter.
    pub meter_config: Option<v1::MeterConfig>,
    /// Value of the direct counter.
    pub counter_data: Option<v1::CounterData>,
    /// Counters of the direct meter's colours.
    pub meter_counter_data: Option<v1::MeterCounterData>,
    /// Whether it is the default entry.
    pub is_default_action: bool,
    /// Nanoseconds until it is reported as idle.
    pub idle_timeout_ns: i64,
    /// Whether `time_since_last_hit` is set.
    pub has_time_since_last_hit: bool,
    /// Whether the client calls it constant.
    pub is_const: bool,
}

/// The kind of an encoded update.
#[derive(Debug, PartialEq)]
pub enum Decoded {
    /// Of a table entry, with its type.
    Entry(i32),
    /// An update of something else, or one in an unusual encoding.
    Other(Box<v1::Update>),
}

impl<'a> TableEntry<'a> {
    /// Reads an update. If it is one of a table entry, the entry is in `self` afterwards.
    ///
    /// # Errors
    /// The octets are not an `Update`.
    pub fn decode(&mut self, update: &'a [u8]) -> Result<Decoded, prost::DecodeError> {
        match self.decode_update(update) {
            Ok(Some(kind)) => Ok(Decoded::Entry(kind)),
            Ok(None) | Err(Unusual) => Ok(Decoded::Other(Box::new(v1::Update::decode(update)?))),
        }
    }

    fn decode_update(&mut self, update: &'a [u8]) -> Result<Option<i32>, Unusual> {
        let (mut kind, mut entity) = (None, None);
        let mut fields = Fields(update);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => once(&mut kind, value.number()? as i32)?,
                2 => once(&mut entity, value.bytes()?)?,
                _ => {}
            }
        }
        let mut fields = Fields(entity.unwrap_or_default());
        let Some((2, Value::Bytes(entry))) = fields.next()? else {
            return Ok(None);
        };
        if !fields.0.is_empty() {
            return Err(Unusual);
        }
        self.decode_entry(entry)?;
        Ok(Some(kind.unwrap_or(0)))
    }

    /// Whether it has only a key and an action.
    pub fn is_plain(&self) -> bool {
        self.controller_metadata == 0
            && self.metadata.is_empty()
            && self.idle_timeout_ns == 0
            && self.meter_config.is_none()
            && self.counter_data.is_none()
            && self.meter_counter_data.is_none()
    }

    /// Clears the entry, field by field. That is quick: most fields are small, and the others are rarely set.
    fn clear(&mut self) {
        let Self {
            table_id,
            matches,
            action,
            params,
            priority,
            controller_metadata,
            metadata,
            meter_config,
            counter_data,
            meter_counter_data,
            is_default_action,
            idle_timeout_ns,
            has_time_since_last_hit,
            is_const,
        } = self;
        matches.clear();
        params.clear();
        (*table_id, *priority, *controller_metadata, *idle_timeout_ns) = (0, 0, 0, 0);
        (*is_default_action, *has_time_since_last_hit, *is_const) = (false, false, false);
        (*action, *metadata) = (None, &[]);
        (*meter_config, *counter_data, *meter_counter_data) = (None, None, None);
    }

    fn decode_entry(&mut self, octets: &'a [u8]) -> Result<(), Unusual> {
        fn message<M: prost::Message + Default>(value: Value<'_>) -> Result<M, Unusual> {
            M::decode(value.bytes()?).map_err(|_| Unusual)
        }
        self.clear();
        let mut fields = Fields(octets);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => self.table_id = value.number()? as u32,
                2 => self.matches.push(FieldMatch::decode(value.bytes()?)?),
                3 => {
                    let action = self.decode_action(value.bytes()?)?;
                    once(&mut self.action, action)?;
                }
                4 => self.priority = value.number()? as i32,
                5 => self.controller_metadata = value.number()?,
                6 => once(&mut self.meter_config, message(value)?)?,
                7 => once(&mut self.counter_data, message(value)?)?,
                8 => self.is_default_action = value.number()? != 0,
                9 => self.idle_timeout_ns = value.number()? as i64,
                10 => {
                    message::<v1::table_entry::IdleTimeout>(value)?;
                    self.has_time_since_last_hit = true;
                }
                11 => self.metadata = value.bytes()?,
                12 => once(&mut self.meter_counter_data, message(value)?)?,
                13 => self.is_const = value.number()? != 0,
                _ => {}
            }
        }
        Ok(())
    }

    fn decode_action(&mut self, octets: &'a [u8]) -> Result<TableAction<'a>, Unusual> {
        let mut fields = Fields(octets);
        let Some((number, value)) = fields.next()? else {
            return Ok(TableAction::Empty);
        };
        if !fields.0.is_empty() {
            return Err(Unusual);
        }
        Ok(match number {
            1 => {
                let mut id = 0;
                let mut fields = Fields(value.bytes()?);
                while let Some((number, value)) = fields.next()? {
                    match number {
                        1 => id = value.number()? as u32,
                        4 => self.params.push(Param::decode(value.bytes()?)?),
                        _ => {}
                    }
                }
                TableAction::Action(id)
            }
            2 => TableAction::Member(value.number()? as u32),
            3 => TableAction::Group(value.number()? as u32),
            4 => {
                let set = v1::ActionProfileActionSet::decode(value.bytes()?);
                TableAction::Set(Cow::Owned(set.map_err(|_| Unusual)?))
            }
            _ => TableAction::Empty,
        })
    }

    /// Reads a message.
    pub fn read(&mut self, message: &'a v1::TableEntry) {
        self.clear();
        self.table_id = message.table_id;
        self.matches.extend(message.r#match.iter().map(FieldMatch::of));
        self.action = message.action.as_ref().map(|action| match &action.r#type {
            None => TableAction::Empty,
            Some(ActionType::Action(action)) => {
                self.params.extend(action.params.iter().map(Param::of));
                TableAction::Action(action.action_id)
            }
            Some(ActionType::ActionProfileMemberId(id)) => TableAction::Member(*id),
            Some(ActionType::ActionProfileGroupId(id)) => TableAction::Group(*id),
            Some(ActionType::ActionProfileActionSet(set)) => TableAction::Set(Cow::Borrowed(set)),
        });
        self.priority = message.priority;
        self.controller_metadata = message.controller_metadata;
        self.metadata = &message.metadata;
        self.meter_config = message.meter_config;
        self.counter_data = message.counter_data;
        self.meter_counter_data = message.meter_counter_data;
        self.is_default_action = message.is_default_action;
        self.idle_timeout_ns = message.idle_timeout_ns;
        self.has_time_since_last_hit = message.time_since_last_hit.is_some();
        self.is_const = message.is_const;
    }

    /// Borrows the content of a decoded message.
    pub fn of(message: &'a v1::TableEntry) -> Self {
        let mut entry = Self::default();
        entry.read(message);
        entry
    }
}

impl<'a> Param<'a> {
    fn decode(octets: &'a [u8]) -> Result<Self, Unusual> {
        let mut param = Self {
            param_id: 0,
            value: &[],
        };
        let mut fields = Fields(octets);
        while let Some((number, value)) = fields.next()? {
            match number {
                2 => param.param_id = value.number()? as u32,
                3 => param.value = value.bytes()?,
                _ => {}
            }
        }
        Ok(param)
    }

    /// Borrows the content of a decoded message.
    pub fn of(message: &'a v1::action::Param) -> Self {
        Self {
            param_id: message.param_id,
            value: &message.value,
        }
    }
}

impl<'a> FieldMatch<'a> {
    fn decode(octets: &'a [u8]) -> Result<Self, Unusual> {
        let (mut field_id, mut matches) = (0, None);
        let mut fields = Fields(octets);
        while let Some((number, value)) = fields.next()? {
            match number {
                1 => field_id = value.number()? as u32,
                2 => once(&mut matches, Match::Exact(pair(value, |_| Ok(()))?.0))?,
                3 => {
                    let (value, mask) = pair(value, Value::bytes)?;
                    once(&mut matches, Match::Ternary(value, mask))?;
                }
                4 => {
                    let (value, prefix_len) = pair(value, Value::number)?;
                    once(&mut matches, Match::Lpm(value, prefix_len as i32))?;
                }
                6 => {
                    let (low, high) = pair(value, Value::bytes)?;
                    once(&mut matches, Match::Range(low, high))?;
                }
                7 => once(&mut matches, Match::Optional(pair(value, |_| Ok(()))?.0))?,
                100 => once(&mut matches, Match::Other)?,
                _ => {}
            }
        }
        Ok(Self { field_id, matches })
    }

    /// Borrows the content of a decoded message.
    pub fn of(message: &'a v1::FieldMatch) -> Self {
        let matches = message.field_match_type.as_ref().map(|of| match of {
            FieldMatchType::Exact(exact) => Match::Exact(&exact.value),
            FieldMatchType::Ternary(ternary) => Match::Ternary(&ternary.value, &ternary.mask),
            FieldMatchType::Lpm(lpm) => Match::Lpm(&lpm.value, lpm.prefix_len),
            FieldMatchType::Range(range) => Match::Range(&range.low, &range.high),
            FieldMatchType::Optional(optional) => Match::Optional(&optional.value),
            FieldMatchType::Other(_) => Match::Other,
        });
        Self {
            field_id: message.field_id,
            matches,
        }
    }
}

/// All kinds of match are messages with octets in field 1, and octets or a number in field 2.
#[inline]
fn pair<'a, T: Default>(
    value: Value<'a>,
    read: impl Fn(Value<'a>) -> Result<T, Unusual>,
) -> Result<(&'a [u8], T), Unusual> {
    let (mut first, mut second) = (&[][..], T::default());
    let mut fields = Fields(value.bytes()?);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => first = value.bytes()?,
            2 => second = read(value)?,
            _ => {}
        }
    }
    Ok((first, second))
}

#[cfg(test)]
mod tests {
    use super::*;
    use p4runtime_proto::p4::v1::entity::Entity as Kind;
    use proptest::prelude::*;

    fn kind() -> impl Strategy<Value = Option<FieldMatchType>> {
        let bytes = || prop::collection::vec(any::<u8>(), 0..5);
        prop::option::of(prop_oneof![
            bytes().prop_map(|value| FieldMatchType::Exact(v1::field_match::Exact { value })),
            (bytes(), bytes())
                .prop_map(|(value, mask)| { FieldMatchType::Ternary(v1::field_match::Ternary { value, mask }) }),
            (bytes(), any::<i32>())
                .prop_map(|(value, prefix_len)| FieldMatchType::Lpm(v1::field_match::Lpm { value, prefix_len })),
            (bytes(), bytes()).prop_map(|(low, high)| FieldMatchType::Range(v1::field_match::Range { low, high })),
            bytes().prop_map(|value| FieldMatchType::Optional(v1::field_match::Optional { value })),
        ])
    }

    fn action() -> impl Strategy<Value = Option<v1::TableAction>> {
        let param = (any::<u32>(), prop::collection::vec(any::<u8>(), 0..9));
        let params = prop::collection::vec(
            param.prop_map(|(param_id, value)| v1::action::Param { param_id, value }),
            0..4,
        );
        let of = prop_oneof![
            (any::<u32>(), params).prop_map(|(action_id, params)| ActionType::Action(v1::Action { action_id, params })),
            any::<u32>().prop_map(ActionType::ActionProfileMemberId),
            any::<u32>().prop_map(ActionType::ActionProfileGroupId),
            any::<i32>().prop_map(|action_selection_mode| {
                ActionType::ActionProfileActionSet(v1::ActionProfileActionSet {
                    action_selection_mode,
                    ..Default::default()
                })
            }),
        ];
        prop::option::of(prop::option::of(of).prop_map(|r#type| v1::TableAction { r#type }))
    }

    prop_compose! {
        fn update()(
            kind in 0..4,
            table_id in any::<u32>(),
            matches in prop::collection::vec((any::<u32>(), kind()), 0..4),
            action in action(),
            numbers in any::<(i32, u64, i64)>(),
            flags in any::<(bool, bool, bool, bool)>(),
            metadata in prop::collection::vec(any::<u8>(), 0..9),
        ) -> v1::Update {
            let matches = matches.into_iter().map(|(field_id, field_match_type)| v1::FieldMatch { field_id, field_match_type });
            let entry = v1::TableEntry {
                table_id,
                r#match: matches.collect(),
                action,
                priority: numbers.0,
                controller_metadata: numbers.1,
                idle_timeout_ns: numbers.2,
                is_default_action: flags.0,
                is_const: flags.1,
                time_since_last_hit: flags.2.then_some(v1::table_entry::IdleTimeout { elapsed_ns: 7 }),
                meter_config: flags.3.then_some(v1::MeterConfig { cir: 5, ..Default::default() }),
                counter_data: flags.3.then_some(v1::CounterData { byte_count: 5, packet_count: 6 }),
                metadata,
                ..Default::default()
            };
            v1::Update { r#type: kind, entity: Some(v1::Entity { entity: Some(Kind::TableEntry(entry)) }) }
        }
    }

    /// The result of prost, in our form.
    fn check(octets: &[u8]) -> Result<(), TestCaseError> {
        // Reused, as for the next update of a batch.
        let mut read = TableEntry {
            is_const: true,
            metadata: &[1],
            ..TableEntry::default()
        };
        match (v1::Update::decode(octets), read.decode(octets)) {
            (Err(_), Err(_)) => {}
            (Ok(message), Ok(Decoded::Other(other))) => prop_assert_eq!(message, *other),
            (Ok(message), Ok(Decoded::Entry(kind))) => {
                prop_assert_eq!(kind, message.r#type);
                let entity = message.entity.and_then(|entity| entity.entity);
                let Some(Kind::TableEntry(entry)) = entity else {
                    return Err(TestCaseError::fail("prost finds no table entry"));
                };
                prop_assert_eq!(&read, &TableEntry::of(&entry));
            }
            (message, decoded) => return Err(TestCaseError::fail(format!("{message:?} {decoded:?}"))),
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn reads_what_prost_reads(update in update()) {
            check(&update.encode_to_vec())?;
        }

        #[test]
        fn reads_damaged_octets_as_prost_does(update in update(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
            let mut octets = update.encode_to_vec();
            for (at, byte) in damage {
                if !octets.is_empty() {
                    let at = at.index(octets.len());
                    octets[at] = byte;
                }
            }
            check(&octets)?;
        }

        #[test]
        fn cuts_requests_apart(updates in prop::collection::vec(update(), 0..3), role: String, device_id: u64) {
            let request = v1::WriteRequest { updates, role, device_id, atomicity: 1, ..Default::default() };
            let octets = request.encode_to_vec();
            let decoded = WriteRequest::decode(&octets).unwrap();
            let WriteRequest::Octets { header, updates } = decoded else {
                return Err(TestCaseError::fail("not cut"));
            };
            let updates = updates.into_iter().map(|u| v1::Update::decode(u).unwrap());
            prop_assert_eq!(v1::WriteRequest { updates: updates.collect(), ..header }, request);
        }
    }
}
