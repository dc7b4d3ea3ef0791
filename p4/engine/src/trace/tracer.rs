//! Writes the steps of a packet as text.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::tables::{Leads, Record};
use crate::{Dropped, Pipeline, Trace};

/// A colour of the terminal (ECMA-48, select graphic rendition).
#[derive(Clone, Copy)]
enum Colour {
    Bold,
    Red,
    Green,
    Yellow,
    Cyan,
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "\x1b[1m",
            Self::Red => "\x1b[31m",
            Self::Green => "\x1b[32m",
            Self::Yellow => "\x1b[33m",
            Self::Cyan => "\x1b[36m",
        }
    }
}

struct Field {
    header: usize,
    name: String,
    slot: usize,
    width: u32,
    variable: bool,
}

/// Traces the packets of one thread through one pipeline.
pub struct Tracer {
    pipeline: Arc<Pipeline>,
    /// Headers with the words that say whether they are valid.
    headers: Vec<(String, usize)>,
    fields: Vec<Field>,
    has_colours: bool,
    number: u64,
    /// The arena as it was shown last; empty before that.
    before: Vec<u64>,
    is_parsing: bool,
    text: String,
}

impl Tracer {
    /// A tracer for packets through this pipeline; `has_colours` is for output to a terminal.
    pub fn new(pipeline: &Arc<Pipeline>, has_colours: bool) -> Self {
        let headers: Vec<(String, usize)> = pipeline.header_names().map(|(n, v)| (n.to_owned(), v)).collect();
        let fields = pipeline.field_names().filter_map(|f| {
            Some(Field {
                header: headers.iter().position(|(_, valid)| *valid == f.valid)?,
                name: f.field.to_owned(),
                slot: f.slot,
                width: f.width,
                variable: f.variable,
            })
        });
        Self {
            fields: fields.collect(),
            headers,
            pipeline: Arc::clone(pipeline),
            has_colours,
            number: 0,
            before: Vec::new(),
            is_parsing: false,
            text: String::new(),
        }
    }

    /// The pipeline whose packets this tracer can trace.
    pub fn pipeline(&self) -> &Arc<Pipeline> {
        &self.pipeline
    }

    /// Starts to trace a packet.
    pub fn begin(&mut self, number: u64) {
        self.number = number;
        self.text.clear();
        self.before.clear();
        self.is_parsing = false;
    }

    /// The text about the packet so far.
    pub fn text(&self) -> &str {
        &self.text
    }

    fn painted(&mut self, colour: Colour, text: &str) {
        if self.has_colours {
            self.text.push_str(colour.code());
        }
        self.text.push_str(text);
        if self.has_colours {
            self.text.push_str("\x1b[0m");
        }
    }

    fn line(&mut self, indent: usize, colour: Colour, text: &str) {
        self.text.extend(std::iter::repeat_n(' ', indent));
        self.painted(colour, text);
        self.text.push('\n');
    }

    fn call(&self, action: u32, args: &[u64]) -> String {
        let mut text = self.pipeline.action_name(action).to_owned();
        text.push('(');
        let mut rest = args;
        for (at, (name, width)) in self.pipeline.parameter_names(action).enumerate() {
            let (value, others) = rest.split_at(Pipeline::words(width).min(rest.len()));
            rest = others;
            let comma = if at > 0 { ", " } else { "" };
            // Writing to a string does not fail.
            let _ = write!(text, "{comma}{name} = {}", named(name, value, width));
        }
        text.push(')');
        text
    }

    fn validity(&mut self, words: &[u64]) {
        let is_valid = |words: &[u64], at: usize| words.get(at).is_some_and(|w| *w != 0);
        let mut marks = [String::new(), String::new()];
        for (name, valid) in &self.headers {
            let (was, is) = (is_valid(&self.before, *valid), is_valid(words, *valid));
            if was != is {
                let mark = usize::from(was);
                let _ = write!(marks[mark], " {name}");
            }
        }
        let [added, removed] = marks;
        if !added.is_empty() {
            self.line(4, Colour::Green, &format!("+{added}"));
        }
        if !removed.is_empty() {
            self.line(4, Colour::Red, &format!("-{removed}"));
        }
    }

    fn changes(&mut self, words: &[u64]) {
        for field in &self.fields {
            let range = field.slot..field.slot + Pipeline::words(field.width);
            let (was, is) = (self.before.get(range.clone()), words.get(range));
            if was == is {
                continue;
            }
            let (was, is) = (was.unwrap_or_default(), is.unwrap_or_default());
            let header = self.headers.get(field.header).map_or("", |(name, _)| name);
            let _ = if field.variable {
                let bits = is.first().copied().unwrap_or(0);
                writeln!(self.text, "    {header}.{}: {bits} bits", field.name)
            } else {
                let written = |words| named(&field.name, words, field.width);
                let (was, is) = (written(was), written(is));
                writeln!(self.text, "    {header}.{}: {was} -> {is}", field.name)
            };
        }
    }
}

/// Suffixes of the usual names of fields that hold addresses.
const ADDRESSES: [&str; 9] = [
    "addr",
    "address",
    "src",
    "dst",
    "source",
    "destination",
    "ip",
    "gateway",
    "next_hop",
];

/// A value in the form that its field's name suggests: an IP address, a protocol type, or a number.
fn named(name: &str, words: &[u64], width: u32) -> String {
    let name = name.rsplit('.').next().unwrap_or(name).to_ascii_lowercase();
    let is_address = ADDRESSES.iter().any(|end| name.ends_with(end));
    match (width, words) {
        (32, [word]) if is_address => Ipv4Addr::from_bits(*word as u32).to_string(),
        (128, [high, low]) if is_address => Ipv6Addr::from_bits(u128::from(*high) << 64 | u128::from(*low)).to_string(),
        (16, [word]) if name.ends_with("type") => format!("0x{word:04x}"),
        _ => number(words, width),
    }
}

/// A value as people write it: addresses and other wide values in base 16, the rest in base 10.
fn number(words: &[u64], width: u32) -> String {
    let value = words
        .iter()
        .fold(String::new(), |text, word| format!("{text}{word:016x}"));
    let digits = width.div_ceil(4) as usize;
    let value = value.get(value.len().saturating_sub(digits)..).unwrap_or_default();
    match (width, words) {
        (48, _) => {
            let pairs: Vec<_> = (0..6).filter_map(|at| value.get(at * 2..at * 2 + 2)).collect();
            pairs.join(":")
        }
        (0..=23, [word]) => word.to_string(),
        _ => format!("0x{value}"),
    }
}

fn kind_name(kind: u64) -> &'static str {
    match kind {
        0 => "",
        1 => ", cloned in ingress",
        2 => ", cloned in egress",
        4 => ", recirculated",
        5 => ", replicated",
        6 => ", resubmitted",
        _ => ", of another kind",
    }
}

impl Trace for Tracer {
    const ON: bool = true;

    fn ingress(&mut self, port: u32, kind: u64, frame: &[u8]) {
        let (number, length) = (self.number, frame.len());
        let text = format!("#{number} in  port {port}, {length} octets{}", kind_name(kind));
        self.line(0, Colour::Bold, &text);
        self.before.clear();
        self.is_parsing = false;
    }

    fn egress(&mut self, port: u32, replica: u16, kind: u64) {
        let replica = if replica > 0 {
            format!(", replica {replica}")
        } else {
            String::new()
        };
        let text = format!("egress  port {port}{replica}{}", kind_name(kind));
        self.line(2, Colour::Cyan, &text);
    }

    fn state(&mut self, state: u32, bit: usize) {
        if !std::mem::replace(&mut self.is_parsing, true) {
            self.line(2, Colour::Cyan, "parser");
        }
        let _ = write!(
            self.text,
            "    {} at octet {}",
            self.pipeline.state_name(state),
            bit / 8
        );
        if !bit.is_multiple_of(8) {
            let _ = write!(self.text, " bit {}", bit % 8);
        }
        self.text.push('\n');
    }

    fn parser_error(&mut self, error: u64) {
        let text = format!("error {}", self.pipeline.error_name(error));
        self.line(4, Colour::Red, &text);
    }

    fn branch(&mut self, egress: bool, condition: u32, holds: bool) {
        // One line, even if the source has several.
        let text = self.pipeline.condition_text(egress, condition);
        let words: Vec<&str> = text.split_whitespace().collect();
        let answer = if holds { "yes" } else { "no" };
        let _ = writeln!(self.text, "  if {}: {answer}", words.join(" "));
    }

    fn table(&mut self, table: u32, key: &[u64], entry: Option<u32>, action: Option<Record<'_>>) {
        self.text.push_str("  ");
        let pipeline = Arc::clone(&self.pipeline);
        self.painted(Colour::Cyan, pipeline.table_name(table));
        let mut rest = key;
        for (at, field) in pipeline.key_names(table).enumerate() {
            let (value, others) = rest.split_at(Pipeline::words(field.width).min(rest.len()));
            rest = others;
            let comma = if at > 0 { ", " } else { "  " };
            let written = named(field.name, value, field.width);
            let _ = write!(self.text, "{comma}{} = {written}", field.name);
        }
        self.text.push('\n');
        let call = match action.map(|record| (record.leads(), record.args())) {
            Some((Leads::Action(action), args)) => self.call(action, args),
            _ => "no action".to_owned(),
        };
        match entry {
            Some(entry) => self.line(4, Colour::Green, &format!("hit entry {entry}: {call}")),
            None => self.line(4, Colour::Yellow, &format!("miss: {call}")),
        }
    }

    fn arena(&mut self, words: &[u64]) {
        if std::mem::take(&mut self.is_parsing) || self.before.is_empty() {
            // All fields are new, so the names of the headers are enough.
            self.before.clear();
            self.validity(words);
        } else {
            self.validity(words);
            self.changes(words);
        }
        self.before.clear();
        self.before.extend_from_slice(words);
    }

    fn dropped(&mut self, why: Dropped) {
        let why = match why {
            Dropped::Ingress => "dropped by ingress",
            Dropped::Egress => "dropped by egress",
            Dropped::NoReplicas => "its multicast group makes no copies",
            Dropped::TooMany => "too many copies or passes",
        };
        let text = format!("#{} end {why}", self.number);
        self.line(0, Colour::Red, &text);
    }

    fn sent(&mut self, port: u32, frame: &[u8]) {
        let text = format!("#{} out port {port}, {} octets", self.number, frame.len());
        self.line(0, Colour::Bold, &text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DigestFields, Sink, Worker};

    struct Nowhere;

    impl Sink for Nowhere {
        fn frame(&mut self, _: u32, _: &[u8]) {}
        fn digest(&mut self, _: u32, _: DigestFields<'_>) {}
    }

    fn traced(port: u32, frame: &[u8], has_colours: bool) -> String {
        let json = include_bytes!("../../../switch/tests/data/entities.json");
        let program = bmv2_json::Program::from_slice(json).unwrap();
        let (pipeline, _writer) = Pipeline::new(&program, Some(510), 511).unwrap();
        let mut tracer = Tracer::new(&pipeline, has_colours);
        let mut worker = Worker::new(&pipeline, "test");
        tracer.begin(7);
        worker.batch().trace(port, frame, 0, &mut Nowhere, &mut tracer);
        tracer.text().to_owned()
    }

    /// All of these lines must appear in this order; there may be others between them.
    fn tells(text: &str, lines: &[&str]) {
        let mut rest = text.lines();
        for line in lines {
            assert!(
                rest.any(|l| l == *line),
                "{line:?} is missing or out of order in:\n{text}"
            );
        }
    }

    #[test]
    fn a_packet_is_described_step_by_step() {
        // A packet-out for port 2: nine bits of port, seven of padding.
        let mut frame = vec![0x01, 0x00];
        frame.extend([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x12, 0x34]);
        let text = traced(510, &frame, false);
        let lines = [
            "#7 in  port 510, 16 octets",
            "  parser",
            "    packet_out at octet 0",
            "    ethernet at octet 2",
            "    - packet_out",
            "  egress  port 2",
            "#7 out port 2, 14 octets",
        ];
        tells(&text, &lines);
        assert!(text.contains("standard_metadata.egress_spec: 0 -> 2\n"), "{text}");
    }

    #[test]
    fn a_miss_and_a_drop_are_described() {
        let text = traced(1, &[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x12, 0x34], false);
        let lines = [
            "#7 in  port 1, 14 octets",
            "  ingress.source  hdr.ethernet.src = 02:00:00:00:00:01",
            "    miss: ingress.learn()",
            "  ingress.l2  hdr.ethernet.dst = 02:00:00:00:00:02",
            "    miss: ingress.drop()",
            "#7 end dropped by ingress",
        ];
        tells(&text, &lines);
    }

    #[test]
    fn colours_are_for_terminals() {
        let frame = [0; 14];
        assert!(!traced(1, &frame, false).contains('\x1b'));
        assert!(traced(1, &frame, true).contains("\x1b[33m"));
    }

    #[test]
    fn numbers_are_written_as_people_do() {
        assert_eq!(number(&[0x0200_0000_0001], 48), "02:00:00:00:00:01");
        assert_eq!(number(&[0x0a00_0001], 32), "0x0a000001");
        assert_eq!(number(&[510], 9), "510");
        assert_eq!(named("hdr.ipv4.dst_addr", &[0x0a00_0001], 32), "10.0.0.1");
        assert_eq!(named("ipv6.srcAddr", &[0xfd00 << 48, 1], 128), "fd00::1");
        assert_eq!(named("ether_type", &[0x800], 16), "0x0800");
        assert_eq!(named("hdr.ethernet.dst", &[0x0200_0000_0001], 48), "02:00:00:00:00:01");
        assert_eq!(number(&[1, 2], 128), "0x00000000000000010000000000000002");
    }
}
