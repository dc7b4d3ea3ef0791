//! Match keys: `FieldMatch` messages to and from one packed string of bytes (specification, section 9.1.1).
//!
//! Per field in P4Info order, values padded to whole bytes:
//!
//! | kind     | packed                                    | don't care    |
//! | -------- | ----------------------------------------- | ------------- |
//! | exact    | value                                     | -             |
//! | LPM      | value, prefix length (2 bytes)            | all zero      |
//! | ternary  | value, mask                               | all zero      |
//! | range    | low, high                                 | 0, all ones   |
//! | optional | value, 1                                  | all zero      |
//!
//! A key has exactly one packed form, so equality of keys is equality of bytes.

use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::field_match::FieldMatchType;

use super::bytestring;
use super::error::EntityError;
use super::info::{Field, MatchKind, ValueType, position};
use super::request::{FieldMatch, Match};
use super::translation::{SdnType, Translator};

/// Bytes that a field takes in a packed key.
pub fn packed_len(field: &Field) -> usize {
    let value = bytestring::bytes(field.value.data_width);
    match field.kind {
        MatchKind::Exact => value,
        MatchKind::Lpm => value + 2,
        MatchKind::Ternary | MatchKind::Range => 2 * value,
        MatchKind::Optional => value + 1,
    }
}

/// One field of a packed key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'a> {
    /// Value.
    Exact(&'a [u8]),
    /// Value and prefix length in bits.
    Lpm(&'a [u8], usize),
    /// Value and mask.
    Ternary(&'a [u8], &'a [u8]),
    /// Low and high bound, both included.
    Range(&'a [u8], &'a [u8]),
    /// Value, or anything.
    Optional(Option<&'a [u8]>),
}

/// Cuts a packed key into its fields.
pub fn parts<'a>(fields: &'a [Field], packed: &'a [u8]) -> impl Iterator<Item = (&'a Field, Part<'a>)> {
    let mut rest = packed;
    fields.iter().map_while(move |field| {
        let (this, after) = rest.split_at_checked(packed_len(field))?;
        rest = after;
        let (value, extra) = this.split_at_checked(bytestring::bytes(field.value.data_width))?;
        let part = match field.kind {
            MatchKind::Exact => Part::Exact(value),
            MatchKind::Lpm => Part::Lpm(value, bytestring::to_u64(extra).unwrap_or(0) as usize),
            MatchKind::Ternary => Part::Ternary(value, extra),
            MatchKind::Range => Part::Range(value, extra),
            MatchKind::Optional => Part::Optional((extra == [1]).then_some(value)),
        };
        Some((field, part))
    })
}

/// Appends the packed form of `matches` to `out`.
///
/// # Errors
/// `INVALID_ARGUMENT` naming the field for everything that section 9.1.1 forbids: unknown, repeated or missing fields,
/// the wrong kind, values that do not fit, written-out don't-cares and value bits outside of the mask.
pub fn pack(
    fields: &[Field],
    matches: &[FieldMatch<'_>],
    translator: &mut Translator,
    out: &mut Vec<u8>,
) -> Result<(), EntityError> {
    // Matches are nearly always in order; then they need not be sorted.
    let mut next = matches.iter().peekable();
    let ordered = fields
        .iter()
        .filter(|field| next.next_if(|m| m.field_id == field.id).is_some())
        .count();
    if ordered == matches.len() {
        let mut next = matches.iter().peekable();
        for field in fields {
            let given = next.next_if(|m| m.field_id == field.id);
            pack_given(field, given.map(|m| set(field, m)).transpose()?, translator, out)?;
        }
        return Ok(());
    }
    let mut given: Vec<Option<Match<'_>>> = vec![None; fields.len()];
    for field_match in matches {
        let id = field_match.field_id;
        let (index, field) =
            position(fields, id).ok_or_else(|| EntityError::invalid(format!("match field id {id} does not exist")))?;
        if given[index].replace(set(field, field_match)?).is_some() {
            return Err(EntityError::invalid(format!(
                "match field {:?} is given twice",
                field.name
            )));
        }
    }
    for (field, given) in fields.iter().zip(given) {
        pack_given(field, given, translator, out)?;
    }
    Ok(())
}

/// The match that a message sets.
fn set<'m>(field: &Field, field_match: &FieldMatch<'m>) -> Result<Match<'m>, EntityError> {
    let kind = field_match.matches;
    kind.ok_or_else(|| EntityError::invalid(format!("match field {:?}: no match is set", field.name)))
}

fn pack_given(
    field: &Field,
    given: Option<Match<'_>>,
    translator: &mut Translator,
    out: &mut Vec<u8>,
) -> Result<(), EntityError> {
    match given {
        Some(given) => pack_field(field, given, translator, out).map_err(|error| {
            let code = tonic::Code::InvalidArgument;
            EntityError { code, ..error }.at(&format!("match field {:?}", field.name))
        }),
        None => pack_dont_care(field, out),
    }
}

fn pack_dont_care(field: &Field, out: &mut Vec<u8>) -> Result<(), EntityError> {
    let width = field.value.data_width;
    match field.kind {
        MatchKind::Exact => {
            return Err(EntityError::invalid(format!(
                "exact match field {:?} is missing",
                field.name
            )));
        }
        MatchKind::Range => {
            out.resize(out.len() + bytestring::bytes(width), 0);
            bytestring::push_ones(out, width);
        }
        MatchKind::Lpm | MatchKind::Ternary | MatchKind::Optional => {
            out.resize(out.len() + packed_len(field), 0);
        }
    }
    Ok(())
}

/// Whether masks, prefixes and bounds of the type have no equivalent on the data plane.
fn is_opaque(value: &ValueType) -> bool {
    let text = |sdn| sdn == SdnType::Text;
    value.width != value.data_width || value.translation.as_ref().is_some_and(|t| text(t.sdn))
}

fn pack_field(
    field: &Field,
    given: Match<'_>,
    translator: &mut Translator,
    out: &mut Vec<u8>,
) -> Result<(), EntityError> {
    let of = &field.value;
    match (field.kind, given) {
        (MatchKind::Exact, Match::Exact(value)) => translator.inward(of, value, out)?,
        (MatchKind::Optional, Match::Optional(value)) => {
            translator.inward(of, value, out)?;
            out.push(1);
        }
        (MatchKind::Lpm, Match::Lpm(value, prefix_len)) => pack_lpm(of, value, prefix_len, translator, out)?,
        (MatchKind::Ternary, Match::Ternary(value, mask)) => pack_ternary(of, value, mask, translator, out)?,
        (MatchKind::Range, Match::Range(low, high)) => pack_range(of, low, high, translator, out)?,
        _ => {
            return Err(EntityError::invalid(format!(
                "the field is matched as {:?}",
                field.kind
            )));
        }
    }
    Ok(())
}

fn pack_lpm(
    of: &ValueType,
    value: &[u8],
    given: i32,
    translator: &mut Translator,
    out: &mut Vec<u8>,
) -> Result<(), EntityError> {
    let prefix_len = usize::try_from(given).ok().filter(|len| (1..=of.width).contains(len));
    let prefix_len = prefix_len.ok_or_else(|| {
        let expected = format!("prefix length {given} is not in 1..={}", of.width);
        EntityError::invalid(if given == 0 {
            "omit a field that matches anything".into()
        } else {
            expected
        })
    })?;
    let start = out.len();
    translator.inward(of, value, out)?;
    let prefix_len = match is_opaque(of) {
        true if prefix_len == of.width => of.data_width,
        true => {
            return Err(EntityError::invalid(
                "a translated value can only be matched as a whole",
            ));
        }
        false => prefix_len,
    };
    if bytestring::is_beyond(&out[start..], of.data_width - prefix_len) {
        return Err(EntityError::invalid("the value has bits set beyond the prefix"));
    }
    out.extend_from_slice(&(prefix_len as u16).to_be_bytes());
    Ok(())
}

fn pack_ternary(
    of: &ValueType,
    value: &[u8],
    bits: &[u8],
    translator: &mut Translator,
    out: &mut Vec<u8>,
) -> Result<(), EntityError> {
    let start = out.len();
    translator.inward(of, value, out)?;
    let middle = out.len();
    if is_opaque(of) {
        let mask = bytestring::padded(bits, of.width.max(1))?;
        let mut full = Vec::new();
        bytestring::push_ones(&mut full, of.width.max(1));
        if mask != full {
            return Err(EntityError::invalid(
                "a translated value can only be matched as a whole",
            ));
        }
        bytestring::push_ones(out, of.data_width);
        return Ok(());
    }
    bytestring::push_padded(out, bits, of.width)?;
    let (value, mask) = out[start..].split_at(middle - start);
    if mask.iter().all(|byte| *byte == 0) {
        return Err(EntityError::invalid("omit a field that matches anything"));
    }
    if bytestring::outside_mask(value, mask) {
        return Err(EntityError::invalid("the value has bits set outside of the mask"));
    }
    Ok(())
}

fn pack_range(
    of: &ValueType,
    from: &[u8],
    to: &[u8],
    translator: &mut Translator,
    out: &mut Vec<u8>,
) -> Result<(), EntityError> {
    if is_opaque(of) && bytestring::canonical(from) != bytestring::canonical(to) {
        return Err(EntityError::invalid(
            "a translated value can only be matched as a whole",
        ));
    }
    let start = out.len();
    translator.inward(of, from, out)?;
    let middle = out.len();
    translator.inward(of, to, out)?;
    let (low, high) = out[start..].split_at(middle - start);
    if low > high {
        return Err(EntityError::invalid("the low bound is above the high bound"));
    }
    if low.iter().all(|byte| *byte == 0) && bytestring::is_ones(high, of.data_width) {
        return Err(EntityError::invalid("omit a field that matches anything"));
    }
    Ok(())
}

/// The canonical `FieldMatch` messages of a packed key: don't-cares omitted, values shortest.
pub fn unpack(fields: &[Field], packed: &[u8], translator: &Translator) -> Vec<v1::FieldMatch> {
    let mut matches = Vec::with_capacity(fields.len());
    for (field, part) in parts(fields, packed) {
        let value = |value| translator.outward(&field.value, value);
        let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        let kind = match part {
            Part::Exact(exact) => FieldMatchType::Exact(v1::field_match::Exact { value: value(exact) }),
            Part::Optional(Some(exact)) => FieldMatchType::Optional(v1::field_match::Optional { value: value(exact) }),
            Part::Lpm(prefix, len) if len > 0 => {
                let opaque = is_opaque(&field.value);
                let prefix_len = if opaque { field.value.width } else { len } as i32;
                FieldMatchType::Lpm(v1::field_match::Lpm {
                    value: value(prefix),
                    prefix_len,
                })
            }
            Part::Ternary(bits, mask) if !is_zero(mask) => {
                let mask = if is_opaque(&field.value) {
                    let mut ones = Vec::new();
                    bytestring::push_ones(&mut ones, field.value.width.max(1));
                    ones
                } else {
                    bytestring::canonical_vec(mask)
                };
                FieldMatchType::Ternary(v1::field_match::Ternary {
                    value: value(bits),
                    mask,
                })
            }
            Part::Range(low, high) => {
                let mut ones = Vec::new();
                bytestring::push_ones(&mut ones, field.value.data_width);
                if is_zero(low) && high == ones {
                    continue;
                }
                FieldMatchType::Range(v1::field_match::Range {
                    low: value(low),
                    high: value(high),
                })
            }
            Part::Optional(None) | Part::Lpm(..) | Part::Ternary(..) => continue,
        };
        matches.push(v1::FieldMatch {
            field_id: field.id,
            field_match_type: Some(kind),
        });
    }
    matches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(id: u32, kind: MatchKind, width: usize) -> Field {
        let value = ValueType {
            width,
            data_width: width,
            translation: None,
        };
        Field {
            id,
            name: format!("f{id}"),
            kind,
            value,
        }
    }

    fn all_kinds() -> Vec<Field> {
        use MatchKind::{Exact, Lpm, Optional, Range, Ternary};
        [
            (1, Exact, 9),
            (2, Lpm, 32),
            (3, Ternary, 48),
            (4, Range, 16),
            (5, Optional, 8),
        ]
        .map(|(id, kind, width)| field(id, kind, width))
        .into()
    }

    fn matches(kinds: impl IntoIterator<Item = (u32, FieldMatchType)>) -> Vec<v1::FieldMatch> {
        let wrap = |(field_id, kind)| v1::FieldMatch {
            field_id,
            field_match_type: Some(kind),
        };
        kinds.into_iter().map(wrap).collect()
    }

    fn exact(value: &[u8]) -> FieldMatchType {
        FieldMatchType::Exact(v1::field_match::Exact { value: value.into() })
    }

    fn lpm(value: &[u8], prefix_len: i32) -> FieldMatchType {
        FieldMatchType::Lpm(v1::field_match::Lpm {
            value: value.into(),
            prefix_len,
        })
    }

    fn ternary(value: &[u8], mask: &[u8]) -> FieldMatchType {
        FieldMatchType::Ternary(v1::field_match::Ternary {
            value: value.into(),
            mask: mask.into(),
        })
    }

    fn range(low: &[u8], high: &[u8]) -> FieldMatchType {
        FieldMatchType::Range(v1::field_match::Range {
            low: low.into(),
            high: high.into(),
        })
    }

    fn optional(value: &[u8]) -> FieldMatchType {
        FieldMatchType::Optional(v1::field_match::Optional { value: value.into() })
    }

    fn packed(fields: &[Field], matches: &[v1::FieldMatch]) -> Result<Vec<u8>, EntityError> {
        let mut out = Vec::new();
        let matches: Vec<_> = matches.iter().map(FieldMatch::of).collect();
        pack(fields, &matches, &mut Translator::default(), &mut out).map(|()| out)
    }

    #[test]
    fn every_kind_survives_the_way_in_and_out() {
        let fields = all_kinds();
        let full = matches([
            (1, exact(&[1, 0xff])),
            (2, lpm(&[10, 0, 0, 0], 8)),
            (3, ternary(&[5], &[7])),
            (4, range(&[80], &[1, 0xbb])),
            (5, optional(&[6])),
        ]);
        let key = packed(&fields, &full).unwrap();
        assert_eq!(key.len(), fields.iter().map(packed_len).sum::<usize>());
        assert_eq!(unpack(&fields, &key, &Translator::default()), full);

        let mut reversed = full.clone();
        reversed.reverse();
        assert_eq!(packed(&fields, &reversed).unwrap(), key);

        let least = matches([(1, exact(&[1]))]);
        let key = packed(&fields, &least).unwrap();
        assert_eq!(unpack(&fields, &key, &Translator::default()), least);
    }

    #[test]
    fn padded_values_make_the_same_key_and_read_back_canonical() {
        let fields = [field(1, MatchKind::Exact, 32)];
        let short = matches([(1, exact(&[5]))]);
        let long = packed(&fields, &matches([(1, exact(&[0, 0, 0, 0, 5]))])).unwrap();
        assert_eq!(packed(&fields, &short).unwrap(), long);
        assert_eq!(unpack(&fields, &long, &Translator::default()), short);
    }

    #[test]
    fn what_the_specification_forbids() {
        let fields = all_kinds();
        let with = |id, kind| packed(&fields, &matches([(1, exact(&[1])), (id, kind)]));
        for (what, result) in [
            ("missing exact", packed(&fields, &[])),
            ("unknown field", with(9, exact(&[1]))),
            ("repeated field", with(1, exact(&[1]))),
            ("wrong kind", with(2, exact(&[1]))),
            ("too wide", packed(&fields, &matches([(1, exact(&[2, 0]))]))),
            ("empty value", packed(&fields, &matches([(1, exact(&[]))]))),
            ("prefix 0", with(2, lpm(&[0], 0))),
            ("prefix too long", with(2, lpm(&[10, 0, 0, 0], 33))),
            ("negative prefix", with(2, lpm(&[10, 0, 0, 0], -1))),
            ("bits beyond the prefix", with(2, lpm(&[10, 0, 0, 1], 8))),
            ("mask 0", with(3, ternary(&[0], &[0]))),
            ("bits outside of the mask", with(3, ternary(&[8], &[7]))),
            ("low above high", with(4, range(&[2], &[1]))),
            ("whole range", with(4, range(&[0], &[0xff, 0xff]))),
            (
                "nothing set",
                packed(
                    &fields,
                    &[v1::FieldMatch {
                        field_id: 1,
                        field_match_type: None,
                    }],
                ),
            ),
        ] {
            let code = result.as_ref().map_err(|error| error.code).err();
            assert_eq!(code, Some(tonic::Code::InvalidArgument), "{what}: {result:?}");
        }
    }

    #[test]
    fn translated_fields_match_as_a_whole_only() {
        let translation = super::super::translation::Translation {
            type_name: "port_id_t".into(),
            sdn: SdnType::Bits,
            is_port: true,
        };
        let value = ValueType {
            width: 32,
            data_width: 9,
            translation: Some(translation),
        };
        let fields = [Field {
            id: 1,
            name: "port".into(),
            kind: MatchKind::Ternary,
            value,
        }];
        let whole = matches([(1, ternary(&[5], &[0xff; 4]))]);
        let key = packed(&fields, &whole).unwrap();
        assert_eq!(key, [0, 5, 1, 0xff]);
        assert_eq!(unpack(&fields, &key, &Translator::default()), whole);
        assert!(packed(&fields, &matches([(1, ternary(&[4], &[0xfc]))])).is_err());
    }
}
