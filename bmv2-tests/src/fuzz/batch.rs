//! One program with the same entries and frames on two switches, each in one go: on a switch in another process, or with two compilers'
//! output on the packet engine.
//!
//! Frames follow the program's parser ([`super::frames`]), and many entries have keys that fields of these frames have. Frames that
//! leave are compared by port, without their order: switches with threads may send a copy before or after the next frame.

use std::collections::BTreeMap;
use std::path::Path;

use bmv2_json::{KeyTarget, MatchType, Program};
use p4_compiler::Compiled;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::differential::{Choice, Input, bits, masked, ones, random_entry};
use super::frames::{Frames, Seen};
use crate::program::Core;
use crate::stf::names::Names;
use crate::stf::target::{Key, Process, Target};

/// Ports by which frames come in, and at which those that leave are looked at.
const PORTS: u32 = 8;
/// Width of a port in v1model. Arguments of this width are mostly ports of the switch.
const PORT_BITS: u32 = 9;
/// Lines of a comparison that are shown for a port.
const SHOWN: usize = 2;

/// What left a switch, by port.
type Left = BTreeMap<u32, Vec<Vec<u8>>>;

/// Entries and frames for a program.
///
/// # Errors
/// The program contradicts itself where a name stands.
pub fn input(program: &Program, seed: u64, frames: usize) -> Result<Input, String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let maker = Frames::new(program);
    let mut seen = Seen::new();
    let frames = (0..frames).map(|_| {
        let frame = maker.next(&mut rng, &mut seen);
        (rng.random_range(0..PORTS), frame)
    });
    let frames = frames.collect();
    let entries = Input::entries(program, &mut rng, |p, names, table, rng| {
        entry(p, names, table, &seen, rng)
    })?;
    Ok(Input { entries, frames })
}

/// A random entry; where a key is a field of frames, mostly with a value that the field has.
fn entry(p: &Program, names: &Names, table: &str, seen: &Seen, rng: &mut StdRng) -> Option<Choice> {
    let (mut key, action, mut args) = random_entry(p, names, table, rng)?;
    let of = p.pipelines.iter().flat_map(|p| &p.tables).find(|t| t.name == table)?;
    let fields = &names.table(table).ok()?.key;
    for ((part, element), field) in key.iter_mut().zip(&of.key).zip(fields) {
        let KeyTarget::Field(at) = &element.target else {
            continue;
        };
        let Some(values) = seen.get(at).filter(|_| rng.random_ratio(3, 4)) else {
            continue;
        };
        let value = values.get(rng.random_range(0..values.len().max(1)))?;
        if value.len() != field.width as usize {
            continue;
        }
        let value = octets(value);
        *part = match field.kind {
            MatchType::Exact | MatchType::Valid => Key::Exact(value),
            MatchType::Lpm => {
                let length = rng.random_range(0..=value.len() * 8).min(field.width as usize);
                Key::Lpm(masked(&value, &ones(field.width, length)), length)
            }
            MatchType::Ternary => {
                let mask = bits(field.width, rng);
                Key::Ternary(masked(&value, &mask), mask)
            }
            MatchType::Range => Key::Range(value.clone(), value),
        };
    }
    let id = names.table(table).ok()?.actions.iter().find(|a| a.0 == action)?.1;
    let widths = &p.actions.iter().find(|a| a.id == id)?.runtime_data;
    for (arg, data) in args.iter_mut().zip(widths) {
        if data.bitwidth == PORT_BITS && rng.random_ratio(7, 8) {
            *arg = vec![0, rng.random_range(0..PORTS) as u8];
        }
    }
    Some((key, action, args))
}

/// Bits as octets, with zeros in front.
fn octets(bits: &[u8]) -> Vec<u8> {
    let first = bits.len() % 8;
    let (head, rest) = bits.split_at(first);
    let octet = |bits: &[u8]| bits.iter().fold(0, |octet, bit| (octet << 1) | bit);
    let head = (!head.is_empty()).then(|| octet(head));
    head.into_iter().chain(rest.chunks(8).map(octet)).collect()
}

/// The reason why frames of a program cannot be compared, if there is one: their content then depends on more than what came in.
/// Between our own switches, time is the same.
pub fn unpredictable(program: &Program, clocks_differ: bool) -> Option<&'static str> {
    const TIMES: [&str; 7] = [
        "ingress_global_timestamp",
        "egress_global_timestamp",
        "enq_timestamp",
        "enq_qdepth",
        "deq_timedelta",
        "deq_timestamp",
        "deq_qdepth",
    ];
    let parts = serde_json::json!([
        program.actions,
        program.pipelines,
        program.parsers,
        program.calculations,
        program.checksums,
        program.field_lists,
        program.learn_lists
    ]);
    let mut todo = vec![&parts];
    while let Some(part) = todo.pop() {
        match part {
            serde_json::Value::String(s) if s == "modify_field_rng_uniform" => return Some("it uses random numbers"),
            serde_json::Value::Array(all) => {
                if let [serde_json::Value::String(_), serde_json::Value::String(field)] = all.as_slice()
                    && clocks_differ
                    && TIMES.contains(&field.as_str())
                {
                    return Some("it uses time stamps or queue depths");
                }
                todo.extend(all);
            }
            serde_json::Value::Object(all) => todo.extend(all.values()),
            _ => {}
        }
    }
    None
}

/// A comparison that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compared {
    /// Frames that came in.
    pub frames: usize,
    /// Entries in the tables.
    pub entries: usize,
    /// Entries that the other switch refused; then none of the two had them.
    pub refused: usize,
}

/// Compares the packet engine with a switch in another process that has `simple_switch_grpc`'s command line.
///
/// # Errors
/// The frames that differ, or why a switch cannot run the program.
pub fn with_process(binary: &Path, compiled: &Compiled, input: &Input) -> Result<Compared, String> {
    let ports = (0..PORTS).map(|port| (port, true)).collect();
    let names = Names::new(&compiled.program)?;
    let mut peer = Process::start(binary, compiled, &ports)?;
    let mut accepted = Input {
        frames: input.frames.clone(),
        ..Input::default()
    };
    for entry in &input.entries {
        if peer.add(&entry.resolved(&names)?).is_ok() {
            accepted.entries.push(entry.clone());
        }
    }
    for (port, frame) in &input.frames {
        peer.packet(*port, frame)?;
    }
    let theirs = by_port(peer.frames()?);
    let ours = on_engine(&compiled.program, &accepted)?;
    same("p4-switch", &ours, "the other switch", &theirs)?;
    Ok(Compared {
        frames: input.frames.len(),
        entries: accepted.entries.len(),
        refused: input.entries.len() - accepted.entries.len(),
    })
}

/// Compares our compiler's output with another compiler's, both on the packet engine.
///
/// # Errors
/// The frames that differ, or why the engine cannot run one of them.
pub fn with_document(ours: &Program, theirs: &Program, input: &Input) -> Result<Compared, String> {
    let here = on_engine(ours, input)?;
    let there = on_engine(theirs, input).map_err(|why| format!("with the other compiler's output: {why}"))?;
    same("our output", &here, "the other compiler's", &there)?;
    Ok(Compared {
        frames: input.frames.len(),
        entries: input.entries.len(),
        refused: 0,
    })
}

/// The frames that leave the packet engine.
fn on_engine(program: &Program, input: &Input) -> Result<Left, String> {
    let names = Names::new(program)?;
    let mut engine = Core::Engine.load(program, &names)?;
    for entry in &input.entries {
        engine.add(&entry.resolved(&names)?)?;
    }
    for (port, frame) in &input.frames {
        engine.packet(*port, frame)?;
    }
    Ok(by_port(engine.frames()?))
}

fn by_port(frames: Vec<(u32, Vec<u8>)>) -> Left {
    let mut left = Left::new();
    for (port, frame) in frames {
        left.entry(port).or_default().push(frame);
    }
    left.values_mut().for_each(|frames| frames.sort());
    left
}

/// Compares what left by the ports that both switches have.
fn same(here: &str, ours: &Left, there: &str, theirs: &Left) -> Result<(), String> {
    let none = Vec::new();
    let mut wrong = Vec::new();
    for port in 0..PORTS {
        let (a, b) = (ours.get(&port).unwrap_or(&none), theirs.get(&port).unwrap_or(&none));
        if a == b {
            continue;
        }
        wrong.push(format!(
            "port {port}: {} frames of {here}, {} of {there}",
            a.len(),
            b.len()
        ));
        for (side, mine, other) in [(here, a, b), (there, b, a)] {
            let only = mine.iter().filter(|frame| !other.contains(frame)).take(SHOWN);
            wrong.extend(only.map(|frame| format!("  only {side}: {}", hex(frame))));
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => Err(wrong.join("\n")),
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|o| format!("{o:02x}")).collect()
}
