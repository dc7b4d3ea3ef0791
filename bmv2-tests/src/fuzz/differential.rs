//! One program compiled at two levels does the same to the same packets, entries and registers on each of our switches,
//! and all switches do the same.

use super::generate;
use crate::program::Core;
use crate::stf::names::Names;
use crate::stf::target::{Action, Call, Entry, Key, Target};
use bmv2_json::{MatchType, Program};
use p4_compiler::{Compiled, OptLevel, Options};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Entries for each table: enough for hits and misses, few enough that both happen often.
const ENTRIES: usize = 4;
/// Packets for each program.
const PACKETS: usize = 24;
/// Longest packet: all headers of the generated programs and some payload.
const MAX_OCTETS: usize = 48;

/// Compares the two levels on the program of a seed.
///
/// # Errors
/// What differs, with the program.
pub fn generated(seed: u64) -> Result<(), String> {
    let text = generate::program(seed);
    given(&format!("seed_{seed}.p4"), &text, seed).map_err(|why| format!("seed {seed}: {why}\n{text}"))
}

/// Compares the two levels on a program's text, with the entries and packets of a seed.
///
/// # Errors
/// What differs, or why it does not compile.
pub fn given(name: &str, text: &str, seed: u64) -> Result<(), String> {
    let compiled = |level| compile(name, text, level);
    same(&compiled(OptLevel::O0)?, &compiled(OptLevel::O1)?, seed)
}

/// Compiles a text at a level.
///
/// # Errors
/// The compiler's messages.
pub fn compile(name: &str, text: &str, level: OptLevel) -> Result<Compiled, String> {
    let options = Options {
        level,
        ..Options::default()
    };
    p4_compiler::compile(name, None, text, &options).map_err(|d| d.short())
}

/// Runs two compilations of one program on the same random input, which the seed determines.
///
/// # Errors
/// The first difference.
pub fn same(plain: &Compiled, short: &Compiled, seed: u64) -> Result<(), String> {
    if plain.p4info != short.p4info || plain.entries != short.entries {
        return Err("the control plane sees different programs".into());
    }
    let input = Input::random(&plain.program, seed)?;
    on_our_switches(plain, short, &input)
}

/// An entry that was chosen for a table.
#[derive(Debug, Clone)]
pub struct Chosen {
    /// Full name of the table.
    pub table: String,
    /// Its key.
    pub key: Vec<Key>,
    /// Larger wins, where the table has priorities.
    pub priority: i32,
    /// Full name of the action.
    pub action: String,
    /// Arguments in the octets of the parameters' widths.
    pub args: Vec<Vec<u8>>,
}

/// What all sides get: entries, then frames with the ports by which they come in.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// Entries.
    pub entries: Vec<Chosen>,
    /// Port and octets.
    pub frames: Vec<(u32, Vec<u8>)>,
}

impl Input {
    /// Random octets as frames.
    ///
    /// # Errors
    /// A name in the program contradicts the rest of the program.
    pub fn random(program: &Program, seed: u64) -> Result<Self, String> {
        let mut rng = StdRng::seed_from_u64(seed);
        let entries = Self::entries(program, &mut rng, random_entry)?;
        let frames = (0..PACKETS).map(|_| {
            let frame = (0..rng.random_range(1..=MAX_OCTETS)).map(|_| octet(&mut rng)).collect();
            (rng.random_range(0..8), frame)
        });
        let frames = frames.collect();
        Ok(Self { entries, frames })
    }

    /// Entries for each table that takes some; `choose` makes one.
    pub(super) fn entries(
        program: &Program,
        rng: &mut StdRng,
        choose: impl Fn(&Program, &Names, &str, &mut StdRng) -> Option<Choice>,
    ) -> Result<Vec<Chosen>, String> {
        let names = Names::new(program)?;
        let mut entries = Vec::new();
        for table in user_tables(program) {
            let mut keys = Vec::new();
            for priority in 1..=ENTRIES as i32 {
                let Some((key, action, args)) = choose(program, &names, table, rng) else {
                    continue;
                };
                // Each key is used only once, as P4Runtime demands.
                if keys.contains(&key) {
                    continue;
                }
                keys.push(key.clone());
                entries.push(Chosen {
                    table: table.to_owned(),
                    key,
                    priority,
                    action,
                    args,
                });
            }
        }
        Ok(entries)
    }
}

/// Runs two compilations of one program on the same input: both levels, on every switch.
///
/// # Errors
/// The first difference.
pub fn on_our_switches(plain: &Compiled, short: &Compiled, input: &Input) -> Result<(), String> {
    let mut sides = Vec::new();
    for core in Core::ALL {
        sides.push(Side::new(core, "-O0", &plain.program)?);
        sides.push(Side::new(core, "-O1", &short.program)?);
    }
    for entry in &input.entries {
        for side in &mut sides {
            let added = side.add(entry);
            added.map_err(|why| format!("{}: {}: {why}", side.name, entry.table))?;
        }
    }
    for (n, (port, frame)) in input.frames.iter().enumerate() {
        let mut first: Option<(String, Output)> = None;
        for side in &mut sides {
            let output = side
                .packet(*port, frame)
                .map_err(|why| format!("{}: {why}", side.name))?;
            match &first {
                None => first = Some((side.name.clone(), output)),
                Some((name, wanted)) if *wanted != output => {
                    let other = &side.name;
                    return Err(format!(
                        "packet {n} on port {port}: {frame:02x?}\n  {name}: {wanted:02x?}\n  {other}: {output:02x?}"
                    ));
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

/// Small values and all ones, so that many keys match ranges, masks and entries.
pub(super) fn octet(rng: &mut StdRng) -> u8 {
    match rng.random_range(0..4) {
        0 => 0,
        1 => 0xff,
        2 => rng.random_range(0..8),
        _ => rng.random(),
    }
}

/// One compilation on one switch.
struct Side {
    name: String,
    names: Names,
    target: Box<dyn Target>,
}

impl Chosen {
    /// The entry as a target takes it: with the ids of the target's own document.
    ///
    /// # Errors
    /// The document has no such table or action.
    pub(super) fn resolved(&self, names: &Names) -> Result<Entry, String> {
        let table = names.table(&self.table)?;
        let found = table.actions.iter().find(|a| a.0 == self.action);
        let (_, id) = found.ok_or_else(|| format!("{} has lost its action {}", self.table, self.action))?;
        Ok(Entry {
            table: self.table.clone(),
            key: self.key.clone(),
            priority: if table.has_priorities() { self.priority } else { 0 },
            action: Action::Call(Call {
                action: self.action.clone(),
                id: *id,
                args: self.args.clone(),
            }),
        })
    }
}

/// Frames by port and digests by name.
type Output = (Vec<(u32, Vec<u8>)>, Vec<(String, Vec<Vec<u8>>)>);

impl Side {
    fn new(core: Core, level: &str, program: &Program) -> Result<Self, String> {
        let name = format!("{level} on the {}", core.name());
        let names = Names::new(program)?;
        let target = core.load(program, &names).map_err(|why| format!("{name}: {why}"))?;
        Ok(Self { name, names, target })
    }

    fn add(&mut self, entry: &Chosen) -> Result<(), String> {
        self.target.add(&entry.resolved(&self.names)?)
    }

    fn packet(&mut self, port: u32, frame: &[u8]) -> Result<Output, String> {
        self.target.packet(port, frame)?;
        Ok((self.target.frames()?, self.target.digests()?))
    }
}

/// Tables of the program that accept entries.
fn user_tables(p: &Program) -> impl Iterator<Item = &str> {
    p.pipelines
        .iter()
        .flat_map(|p| &p.tables)
        .filter(|t| !t.key.is_empty() && t.action_profile.is_none() && t.entries.is_none())
        .map(|t| t.name.as_str())
}

/// A key, an action and its arguments.
pub(super) type Choice = (Vec<Key>, String, Vec<Vec<u8>>);

pub(super) fn random_entry(p: &Program, names: &Names, table: &str, rng: &mut StdRng) -> Option<Choice> {
    let table = names.table(table).ok()?;
    let key = table.key.iter().map(|k| {
        let value = bits(k.width, rng);
        match k.kind {
            MatchType::Exact | MatchType::Valid => Key::Exact(value),
            MatchType::Lpm => {
                let length = rng.random_range(0..=k.width as usize);
                Key::Lpm(masked(&value, &ones(k.width, length)), length)
            }
            MatchType::Ternary => {
                let mask = bits(k.width, rng);
                Key::Ternary(masked(&value, &mask), mask)
            }
            MatchType::Range => {
                let other = bits(k.width, rng);
                Key::Range(value.clone().min(other.clone()), value.max(other))
            }
        }
    });
    let key = key.collect();
    let (action, id) = table
        .actions
        .get(rng.random_range(0..table.actions.len().max(1)))?
        .clone();
    let widths = &p.actions.iter().find(|a| a.id == id)?.runtime_data;
    let args = widths.iter().map(|d| bits(d.bitwidth, rng)).collect();
    Some((key, action, args))
}

/// A value in the octets of its width.
pub(super) fn bits(width: u32, rng: &mut StdRng) -> Vec<u8> {
    let mut out: Vec<u8> = (0..width.div_ceil(8)).map(|_| octet(rng)).collect();
    if let Some(first) = out.first_mut() {
        *first &= 0xff_u8 >> ((8 - width % 8) % 8);
    }
    out
}

/// The mask of the leading bits.
pub(super) fn ones(width: u32, length: usize) -> Vec<u8> {
    let width = width as usize;
    let mut out = vec![0u8; width.div_ceil(8)];
    for bit in width - length..width {
        let at = out.len() - 1 - bit / 8;
        if let Some(o) = out.get_mut(at) {
            *o |= 1 << (bit % 8);
        }
    }
    out
}

pub(super) fn masked(value: &[u8], mask: &[u8]) -> Vec<u8> {
    value.iter().zip(mask).map(|(v, m)| v & m).collect()
}
