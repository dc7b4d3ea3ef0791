//! Match keys and action arguments, packed into one shared allocation each.
//!
//! A controller holds every entry of every switch twice (desired and applied), so an entry must be small, and cheap to
//! hash, compare and clone. A key is therefore one byte string: per field its id, its kind and its values, all
//! length-prefixed, fields in ascending order of their ids, values canonical, fields that match anything left out. Two
//! keys name the same entry exactly if their bytes are equal. The format is used only inside this process.

use std::{fmt, sync::Arc};

use crate::canonical::canonical;

/// Immutable bytes, shared between the maps that hold them.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Packed(Arc<[u8]>);

/// Reads a packed byte string front to back.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn number(&mut self) -> Option<u32> {
        let mut number = 0u32;
        for shift in (0..u32::BITS).step_by(7) {
            let byte = self.byte()?;
            number |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}

fn put_number(out: &mut Vec<u8>, mut number: u32) {
    while number >= 0x80 {
        out.push((number as u8 & 0x7f) | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // No value is 4 GiB long: the limit of gRPC messages is far lower.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    put_number(out, length);
    out.extend_from_slice(bytes);
}

/// The value of one match field; bytes are canonical.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldMatch<'a> {
    /// Equal.
    Exact(&'a [u8]),
    /// Equal in the bits where the mask has ones.
    Ternary {
        /// Its bits are zero wherever the mask is zero.
        value: &'a [u8],
        /// Not zero.
        mask: &'a [u8],
    },
    /// Longest prefix.
    Lpm {
        /// Zero after the prefix.
        value: &'a [u8],
        /// Bits, more than 0.
        prefix_len: u32,
    },
    /// Bounds included.
    Range {
        /// Lower bound.
        low: &'a [u8],
        /// Upper bound.
        high: &'a [u8],
    },
    /// Equal, in a field that could match anything.
    Optional(&'a [u8]),
}

const EXACT: u8 = 0;
const TERNARY: u8 = 1;
const LPM: u8 = 2;
const RANGE: u8 = 3;
const OPTIONAL: u8 = 4;

impl<'a> FieldMatch<'a> {
    fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Exact(value) => {
                out.push(EXACT);
                put_bytes(out, value);
            }
            Self::Ternary { value, mask } => {
                out.push(TERNARY);
                put_bytes(out, value);
                put_bytes(out, mask);
            }
            Self::Lpm { value, prefix_len } => {
                out.push(LPM);
                put_bytes(out, value);
                put_number(out, *prefix_len);
            }
            Self::Range { low, high } => {
                out.push(RANGE);
                put_bytes(out, low);
                put_bytes(out, high);
            }
            Self::Optional(value) => {
                out.push(OPTIONAL);
                put_bytes(out, value);
            }
        }
    }

    fn get(reader: &mut Reader<'a>) -> Option<Self> {
        Some(match reader.byte()? {
            EXACT => Self::Exact(reader.bytes()?),
            TERNARY => Self::Ternary {
                value: reader.bytes()?,
                mask: reader.bytes()?,
            },
            LPM => Self::Lpm {
                value: reader.bytes()?,
                prefix_len: reader.number()?,
            },
            RANGE => Self::Range {
                low: reader.bytes()?,
                high: reader.bytes()?,
            },
            OPTIONAL => Self::Optional(reader.bytes()?),
            _ => return None,
        })
    }
}

/// The match fields of a table entry.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Match(Packed);

impl Match {
    /// Starts a match without any field: it matches every packet.
    #[must_use]
    pub fn builder() -> MatchBuilder {
        MatchBuilder::default()
    }

    /// The fields by ascending id; fields that match anything are absent.
    pub fn fields(&self) -> impl Iterator<Item = (u32, FieldMatch<'_>)> {
        let mut reader = Reader(&self.0.0);
        std::iter::from_fn(move || Some((reader.number()?, FieldMatch::get(&mut reader)?)))
    }

    /// The value of one field, or `None` when it matches anything.
    #[must_use]
    pub fn field(&self, id: u32) -> Option<FieldMatch<'_>> {
        self.fields().find_map(|(field, value)| (field == id).then_some(value))
    }
}

impl fmt::Debug for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.fields()).finish()
    }
}

/// Collects match fields, in any order; each field at most once.
#[derive(Debug, Default, Clone)]
pub struct MatchBuilder {
    fields: Vec<(u32, Vec<u8>)>,
}

impl MatchBuilder {
    fn push(mut self, id: u32, field: FieldMatch<'_>) -> Self {
        let mut bytes = Vec::with_capacity(24);
        put_number(&mut bytes, id);
        field.put(&mut bytes);
        self.fields.push((id, bytes));
        self
    }

    /// Field `id` equals `value` (big-endian, leading zeros allowed).
    #[must_use]
    pub fn exact(self, id: u32, value: impl AsRef<[u8]>) -> Self {
        self.push(id, FieldMatch::Exact(canonical(value.as_ref())))
    }

    /// Field `id`, of `bitwidth` bits, starts with the first `prefix_len` bits
    /// of `value`; the bits after them are cleared. Length 0 matches anything.
    #[must_use]
    pub fn lpm(self, id: u32, bitwidth: u32, value: impl AsRef<[u8]>, prefix_len: u32) -> Self {
        if prefix_len == 0 {
            return self;
        }
        let mut value = canonical(value.as_ref()).to_vec();
        clear_low_bits(&mut value, bitwidth.saturating_sub(prefix_len));
        let value = canonical(&value);
        self.push(id, FieldMatch::Lpm { value, prefix_len })
    }

    /// Field `id` equals `value` where `mask` has ones. A zero mask matches
    /// anything.
    #[must_use]
    pub fn ternary(self, id: u32, value: impl AsRef<[u8]>, mask: impl AsRef<[u8]>) -> Self {
        let mask = canonical(mask.as_ref());
        if mask.iter().all(|byte| *byte == 0) {
            return self;
        }
        // Value and mask are aligned at their last bytes. Bytes of the value before the mask's first byte are dropped.
        let value = canonical(value.as_ref()).iter().rev();
        let mut masked: Vec<u8> = value.zip(mask.iter().rev()).map(|(v, m)| v & m).collect();
        masked.reverse();
        let value = if masked.is_empty() { &[0] } else { canonical(&masked) };
        self.push(id, FieldMatch::Ternary { value, mask })
    }

    /// Field `id`, of `bitwidth` bits, lies between `low` and `high`, both
    /// included. The full range matches anything.
    #[must_use]
    pub fn range(self, id: u32, bitwidth: u32, low: impl AsRef<[u8]>, high: impl AsRef<[u8]>) -> Self {
        let (low, high) = (canonical(low.as_ref()), canonical(high.as_ref()));
        let ones: u32 = high.iter().map(|byte| byte.count_ones()).sum();
        if low.iter().all(|byte| *byte == 0) && bitwidth > 0 && ones == bitwidth {
            return self;
        }
        self.push(id, FieldMatch::Range { low, high })
    }

    /// Field `id`, which could match anything, equals `value`.
    #[must_use]
    pub fn optional(self, id: u32, value: impl AsRef<[u8]>) -> Self {
        self.push(id, FieldMatch::Optional(canonical(value.as_ref())))
    }

    /// The match.
    #[must_use]
    pub fn build(mut self) -> Match {
        self.fields.sort_by_key(|(id, _)| *id);
        let length = self.fields.iter().map(|(_, bytes)| bytes.len()).sum();
        let mut packed = Vec::with_capacity(length);
        for (_, bytes) in &self.fields {
            packed.extend_from_slice(bytes);
        }
        Match(Packed(packed.into()))
    }
}

/// Clears the `count` lowest bits of a big-endian number.
fn clear_low_bits(number: &mut [u8], mut count: u32) {
    for byte in number.iter_mut().rev() {
        if count == 0 {
            break;
        }
        *byte &= u8::MAX.checked_shl(count).unwrap_or(0);
        count = count.saturating_sub(u8::BITS);
    }
}

/// An action with its arguments.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ActionCall {
    action_id: u32,
    params: Packed,
}

impl ActionCall {
    /// A call of the action `action_id`; arguments are (parameter id, value),
    /// in any order, big-endian, leading zeros allowed.
    pub fn new<V: AsRef<[u8]>>(action_id: u32, params: impl IntoIterator<Item = (u32, V)>) -> Self {
        let mut params: Vec<(u32, V)> = params.into_iter().collect();
        params.sort_by_key(|(id, _)| *id);
        let mut packed = Vec::with_capacity(params.len() * 8);
        for (id, value) in &params {
            put_number(&mut packed, *id);
            put_bytes(&mut packed, canonical(value.as_ref()));
        }
        Self {
            action_id,
            params: Packed(packed.into()),
        }
    }

    /// A call of an action that has no parameters.
    #[must_use]
    pub fn bare(action_id: u32) -> Self {
        Self::new::<&[u8]>(action_id, [])
    }

    /// The action.
    #[must_use]
    pub fn action_id(&self) -> u32 {
        self.action_id
    }

    /// (parameter id, canonical value), by ascending id.
    pub fn params(&self) -> impl Iterator<Item = (u32, &[u8])> {
        let mut reader = Reader(&self.params.0);
        std::iter::from_fn(move || Some((reader.number()?, reader.bytes()?)))
    }

    /// The argument of one parameter.
    #[must_use]
    pub fn param(&self, id: u32) -> Option<&[u8]> {
        self.params().find_map(|(param, value)| (param == id).then_some(value))
    }
}

impl fmt::Debug for ActionCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "action {:#x} ", self.action_id)?;
        f.debug_map().entries(self.params()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn order_and_leading_zeros_do_not_matter() {
        let a = Match::builder().exact(2, [0, 7]).exact(1, [1, 0]).build();
        let b = Match::builder().exact(1, [0, 1, 0]).exact(2, [7]).build();
        assert_eq!(a, b);
        assert_eq!(a.field(1), Some(FieldMatch::Exact(&[1, 0])));
    }

    #[test]
    fn fields_that_match_anything_vanish() {
        let none = Match::builder()
            .lpm(1, 32, [10, 0, 0, 0], 0)
            .ternary(2, [5], [0, 0])
            .range(3, 16, [0], [0xff, 0xff])
            .build();
        assert_eq!(none, Match::builder().build());
        let some = Match::builder().range(3, 16, [0], [0xff, 0xfe]).build();
        assert_eq!(some.fields().count(), 1);
    }

    #[test]
    fn host_bits_are_cleared() {
        let a = Match::builder().lpm(1, 32, [10, 1, 2, 3], 15).build();
        let (value, prefix_len) = (&[10, 0, 0, 0][..], 15);
        assert_eq!(a.field(1), Some(FieldMatch::Lpm { value, prefix_len }));
        // This value becomes shorter, because its first byte is zero.
        let b = Match::builder().lpm(1, 32, [0, 1, 2, 3], 24).build();
        let (value, prefix_len) = (&[1, 2, 0][..], 24);
        assert_eq!(b.field(1), Some(FieldMatch::Lpm { value, prefix_len }));
    }

    #[test]
    fn ternary_values_are_masked() {
        let a = Match::builder().ternary(1, [0xab, 0xcd], [0x0f]).build();
        let (value, mask) = (&[0x0d][..], &[0x0f][..]);
        assert_eq!(a.field(1), Some(FieldMatch::Ternary { value, mask }));
    }

    proptest! {
        #[test]
        fn packed_calls_read_back(
            id: u32,
            params in proptest::collection::btree_map(any::<u32>(), any::<u64>(), 0..6),
        ) {
            let call = ActionCall::new(id, params.iter().map(|(k, v)| (*k, v.to_be_bytes())));
            prop_assert_eq!(call.action_id(), id);
            let back: Vec<_> = call.params().map(|(k, v)| (k, v.to_vec())).collect();
            let want: Vec<_> = params
                .iter()
                .map(|(k, v)| (*k, crate::canonical::from_u128(u128::from(*v))))
                .collect();
            prop_assert_eq!(back, want);
        }

        #[test]
        fn packed_matches_read_back(
            fields in proptest::collection::btree_map(any::<u32>(), any::<(u64, u64)>(), 0..6),
        ) {
            let mut builder = Match::builder();
            for (id, (a, _)) in fields.iter().rev() {
                builder = builder.exact(*id, a.to_be_bytes());
            }
            let packed = builder.build();
            let ids: Vec<u32> = packed.fields().map(|(id, _)| id).collect();
            prop_assert_eq!(ids, fields.keys().copied().collect::<Vec<_>>());
            for (id, (a, _)) in &fields {
                let want = crate::canonical::from_u128(u128::from(*a));
                prop_assert_eq!(packed.field(*id), Some(FieldMatch::Exact(&want)));
            }
        }
    }
}
