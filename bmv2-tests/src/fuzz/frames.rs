//! Frames that get somewhere in a program: each follows one random path through its parser.
//!
//! Random octets nearly always end at the first `select`. So a frame is built header by header, as the states extract them, and the
//! bits that a transition compares get the value that leads to the state that was chosen. Fields that nothing compares are random,
//! with many small values. Some frames are cut off, and all others get some payload.
//!
//! It follows the parser's graph and does not run it: values that a state computes, variable-length fields and value sets are left to
//! chance.

use std::collections::HashMap;

use bmv2_json::{
    FieldRef, FieldWidth, HeaderType, ParseState, ParserOpKind, ParserParameter, Program, Transition, Value,
};
use rand::Rng;
use rand::rngs::StdRng;

/// A path through a parser with loops ends after this many states.
const MAX_STATES: usize = 32;
/// Frames are not longer than this, in bits.
const MAX_BITS: usize = 512 * 8;
/// Longest payload behind the headers, in octets.
const MAX_PAYLOAD: usize = 24;
/// One of so many frames is cut off at a random place.
const CUT: u32 = 8;

/// Values that fields of headers had in frames, each with the bits of its field.
pub type Seen = HashMap<FieldRef, Vec<Vec<u8>>>;

/// Makes frames for a program.
pub struct Frames<'a> {
    /// Types of headers and of the elements of stacks, by instance.
    types: HashMap<&'a str, &'a HeaderType>,
    states: HashMap<&'a str, &'a ParseState>,
    first: Option<&'a str>,
}

/// A frame under construction.
#[derive(Default)]
struct Frame {
    /// One octet for each bit.
    bits: Vec<u8>,
    /// Where fields were extracted last: position and width.
    places: HashMap<FieldRef, (usize, usize)>,
    /// Bits that transitions compare, by position; they may lie ahead of what was extracted.
    wanted: HashMap<usize, u8>,
}

impl<'a> Frames<'a> {
    /// Reads the parser of a program.
    pub fn new(program: &'a Program) -> Self {
        let by_name: HashMap<&str, &HeaderType> = program.header_types.iter().map(|t| (t.name.as_str(), t)).collect();
        let headers = program
            .headers
            .iter()
            .map(|h| (h.name.as_str(), h.header_type.as_str()));
        let stacks = program
            .header_stacks
            .iter()
            .map(|s| (s.name.as_str(), s.header_type.as_str()));
        let types = headers
            .chain(stacks)
            .filter_map(|(name, of)| Some((name, *by_name.get(of)?)));
        let parser = program.parsers.first();
        Self {
            types: types.collect(),
            states: parser.map_or_else(HashMap::new, |p| {
                p.parse_states.iter().map(|s| (s.name.as_str(), s)).collect()
            }),
            first: parser.and_then(|p| p.init_state.as_deref()),
        }
    }

    /// One frame; the values of its fields are added to `seen`.
    pub fn next(&self, rng: &mut StdRng, seen: &mut Seen) -> Vec<u8> {
        let mut frame = Frame::default();
        let mut state = self.first;
        for _ in 0..MAX_STATES {
            let Some(at) = state.and_then(|name| self.states.get(name)) else {
                break;
            };
            for op in &at.parser_ops {
                self.extract(op.op, &op.parameters, &mut frame, rng);
            }
            if frame.bits.len() > MAX_BITS || at.transitions.is_empty() {
                break;
            }
            let Some(edge) = at.transitions.get(rng.random_range(0..at.transitions.len())) else {
                break;
            };
            frame.want(edge, &at.transition_key, self);
            state = edge.next_state.as_deref();
        }
        frame.finish(rng, seen)
    }

    fn extract(&self, kind: ParserOpKind, parameters: &[ParserParameter], frame: &mut Frame, rng: &mut StdRng) {
        match (kind, parameters.first()) {
            (ParserOpKind::Extract | ParserOpKind::ExtractVl, Some(ParserParameter::Value(of))) => {
                let (Value::Regular(name) | Value::Stack(name)) = of else {
                    return;
                };
                for field in self.types.get(name.as_str()).into_iter().flat_map(|t| &t.fields) {
                    let width = match field.width {
                        FieldWidth::Bits(bits) => bits as usize,
                        FieldWidth::Variable => 8 * rng.random_range(0..5),
                    };
                    let place = (frame.bits.len(), width);
                    frame.places.insert(FieldRef(name.clone(), field.name.clone()), place);
                    frame.extend(width, rng);
                }
            }
            (ParserOpKind::Advance | ParserOpKind::Shift, Some(ParserParameter::Value(Value::Hexstr(by)))) => {
                let by = usize::try_from(by.value()).unwrap_or(0);
                let bits = if kind == ParserOpKind::Shift {
                    by.saturating_mul(8)
                } else {
                    by
                };
                frame.extend(bits.min(MAX_BITS), rng);
            }
            // The compiler copies what it looks at ahead into a field, and selects on that.
            (ParserOpKind::Set, Some(ParserParameter::Value(Value::Field(to)))) => {
                if let Some(ParserParameter::Value(Value::Lookahead(offset, width))) = parameters.get(1) {
                    let at = frame.bits.len() + *offset as usize;
                    frame.places.insert(to.clone(), (at, *width as usize));
                }
            }
            _ => {}
        }
    }

    fn width(&self, field: &FieldRef) -> Option<usize> {
        let of = self.types.get(field.0.as_str())?;
        match of.fields.iter().find(|f| f.name == field.1)?.width {
            FieldWidth::Bits(bits) => Some(bits as usize),
            FieldWidth::Variable => None,
        }
    }
}

impl Frame {
    /// Appends random bits, octet by octet.
    fn extend(&mut self, bits: usize, rng: &mut StdRng) {
        let octets: Vec<u8> = (0..bits.div_ceil(8)).map(|_| super::differential::octet(rng)).collect();
        let skipped = octets.len() * 8 - bits;
        let all = octets.iter().flat_map(|o| (0..8).rev().map(move |bit| (o >> bit) & 1));
        self.bits.extend(all.skip(skipped));
    }

    /// Notes the bits with which the parser takes an edge. The value has whole octets for each part of the key.
    fn want(&mut self, edge: &Transition, key: &[Value], frames: &Frames<'_>) {
        let Some(value) = edge.value.as_ref().and_then(|v| bmv2_json::HexStr::parse(v.clone())) else {
            return;
        };
        let places: Option<Vec<(Option<usize>, usize)>> = key.iter().map(|part| self.place(part, frames)).collect();
        let Some(places) = places else { return };
        let octets: usize = places.iter().map(|(_, width)| width.div_ceil(8)).sum();
        let (value, mask) = (whole(&value, octets), edge.mask.as_ref().map(|m| whole(m, octets)));
        let mut end = 0;
        for (place, width) in places {
            end += width.div_ceil(8) * 8;
            let Some(place) = place else { continue };
            for bit in 0..width {
                let at = end - width + bit;
                let of = |octets: &[u8]| octets.get(at / 8).map_or(0, |o| (o >> (7 - at % 8)) & 1);
                if mask.as_deref().is_none_or(|m| of(m) == 1) {
                    self.wanted.insert(place + bit, of(&value));
                }
            }
        }
    }

    /// Position and width of a part of a key. The position of a field that is not part of the frame is unknown; without a width the
    /// other parts cannot be found either.
    fn place(&self, part: &Value, frames: &Frames<'_>) -> Option<(Option<usize>, usize)> {
        match part {
            Value::Field(field) | Value::StackField(field) => match self.places.get(field) {
                Some((at, width)) => Some((Some(*at), *width)),
                None => Some((None, frames.width(field)?)),
            },
            Value::Lookahead(offset, width) => Some((Some(self.bits.len() + *offset as usize), *width as usize)),
            _ => None,
        }
    }

    /// The octets.
    fn finish(mut self, rng: &mut StdRng, seen: &mut Seen) -> Vec<u8> {
        let payload = rng.random_range(0..=MAX_PAYLOAD) * 8;
        let ahead = self.wanted.keys().max().map_or(0, |last| (last + 1).min(MAX_BITS));
        let bits = self.bits.len().max(ahead).next_multiple_of(8) - self.bits.len();
        self.extend(bits + payload, rng);
        for (at, bit) in &self.wanted {
            if let Some(place) = self.bits.get_mut(*at) {
                *place = *bit;
            }
        }
        for (field, (at, width)) in self.places {
            if let Some(bits) = self.bits.get(at..at + width) {
                seen.entry(field).or_default().push(bits.to_vec());
            }
        }
        let mut octets: Vec<u8> = self
            .bits
            .chunks(8)
            .map(|bits| bits.iter().fold(0, |octet, bit| (octet << 1) | bit))
            .collect();
        if octets.is_empty() {
            octets.push(0);
        }
        if rng.random_ratio(1, CUT) {
            octets.truncate(rng.random_range(1..=octets.len()));
        }
        octets
    }
}

/// The last octets of a number, with zeros in front.
fn whole(value: &bmv2_json::HexStr, octets: usize) -> Vec<u8> {
    let bytes = value.bytes();
    let mut out = vec![0; octets.saturating_sub(bytes.len())];
    out.extend(bytes.iter().skip(bytes.len().saturating_sub(octets)));
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fuzz::differential::compile;
    use p4_compiler::OptLevel;
    use rand::SeedableRng;

    const PROGRAM: &str = "
        #include <v1model.p4>
        header first_t { bit<4> a; bit<12> kind; }
        header second_t { bit<16> n; }
        struct headers { first_t first; second_t second; }
        struct meta {}
        parser P(packet_in b, out headers h, inout meta m, inout standard_metadata_t s) {
            state start {
                b.extract(h.first);
                transition select(h.first.kind, b.lookahead<bit<8>>()) { (0xabc, 0x5a): more; default: accept; }
            }
            state more { b.extract(h.second); transition accept; }
        }
        control V(inout headers h, inout meta m) { apply {} }
        control I(inout headers h, inout meta m, inout standard_metadata_t s) { apply {} }
        control D(packet_out b, in headers h) { apply { b.emit(h); } }
        V1Switch(P(), V(), I(), I(), V(), D()) main;";

    #[test]
    fn frames_reach_every_state_and_their_fields_are_known() {
        let compiled = compile("frames.p4", PROGRAM, OptLevel::O1).unwrap();
        let frames = Frames::new(&compiled.program);
        let (mut rng, mut seen) = (StdRng::seed_from_u64(1), Seen::new());
        let all: Vec<Vec<u8>> = (0..64).map(|_| frames.next(&mut rng, &mut seen)).collect();
        let both = |f: &&Vec<u8>| f.len() >= 4 && f[0] & 0x0f == 0x0a && f[1] == 0xbc && f[2] == 0x5a;
        assert!(all.iter().filter(both).count() >= 8, "{all:02x?}");
        assert!(all.iter().any(|f| !both(&f)), "other frames come, too");
        let kind = &seen[&FieldRef("first".into(), "kind".into())];
        assert_eq!(kind.len(), 64);
        assert!(kind.iter().all(|bits| bits.len() == 12));
    }
}
