//! A loaded program with its state, as control planes see it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::externs::Externs;
use crate::lower::{LowerError, lower};
use crate::native::Native;
use crate::program::{MatchKind, Program};
use crate::refused::Refused;
use crate::tables::meter::Meter;
use crate::tables::store::{ActionCall, Store, TableSpec, Writer};
use crate::tables::{Counter, FieldKind, KeyField};
use crate::word::words_of;

/// Of the next pipeline.
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A program that packets run through, shared by its workers.
pub struct Pipeline {
    pub(crate) program: Program,
    pub(crate) store: Arc<Store>,
    pub(crate) externs: Externs,
    /// Port for packet-in and packet-out.
    pub cpu_port: Option<u32>,
    /// Port that drops.
    pub drop_port: u32,
    /// Distinguishes programs that run one after the other.
    pub(crate) number: u64,
    seeds: AtomicU64,
    /// Machine code for the program, once it is made, or why there is none. It is dropped with the program.
    native: OnceLock<Result<Native, Refused>>,
}

impl Pipeline {
    /// Loads a program and sets its default actions. The control plane must insert the program's own entries.
    ///
    /// # Errors
    /// Something in it cannot be run.
    pub fn new(
        json: &bmv2_json::Program,
        cpu_port: Option<u32>,
        drop_port: u32,
    ) -> Result<(Arc<Self>, Writer), LowerError> {
        let program = lower(json)?;
        // Records have room for the arguments of all actions that a table may have: machine code counts on it.
        let args = |action: u32| -> usize {
            let action = program.actions.get(action as usize);
            let widths = action.into_iter().flat_map(|a| a.parameters.iter());
            widths.map(|p| words_of(p.width) as usize).sum()
        };
        let sources: Vec<&bmv2_json::Table> = json.pipelines.iter().flat_map(|p| &p.tables).collect();
        let index = |id: u32| json.actions.iter().position(|a| a.id == id).map(|at| at as u32);
        let mut specs = Vec::new();
        let mut of_profiles = vec![0; program.profiles.len()];
        for table in &program.tables {
            let most = table.actions.iter().map(|a| args(*a)).max().unwrap_or(0);
            if let Some(of) = table.profile.and_then(|p| of_profiles.get_mut(p as usize)) {
                *of = most.max(*of);
            }
            let key = table.key.iter().map(|k| KeyField {
                kind: match k.kind {
                    MatchKind::Exact => FieldKind::Exact,
                    MatchKind::Lpm => FieldKind::Lpm,
                    MatchKind::Ternary => FieldKind::Ternary,
                    MatchKind::Range => FieldKind::Range,
                },
                width: k.width,
            });
            specs.push(TableSpec {
                key: key.collect(),
                args: most,
                profile: table.profile.map(|p| p as usize),
                counter: table.counts,
                meter: table.meter.is_some(),
                ages: table.ages,
            });
        }
        let exact = |width: &u32| KeyField {
            kind: FieldKind::Exact,
            width: *width,
        };
        let sets: Vec<Vec<KeyField>> = program
            .value_sets
            .iter()
            .map(|s| s.widths.iter().map(exact).collect())
            .collect();
        let (store, mut writer) = Store::new(&specs, &of_profiles, &sets);
        let pipeline = Self {
            externs: Externs::new(&program),
            program,
            store,
            cpu_port,
            drop_port,
            number: NUMBER.fetch_add(1, Ordering::Relaxed),
            seeds: AtomicU64::new(0x9e37_79b9_7f4a_7c15),
            native: OnceLock::new(),
        };
        // Nobody reads yet, so this does not wait.
        let _ = writer.write(0, |t| {
            for (table, source) in sources.iter().enumerate() {
                let Some(default) = &source.default_entry else { continue };
                let Some(action) = index(default.action_id) else {
                    continue;
                };
                let bytes: Vec<Vec<u8>> = default.action_data.iter().map(|d| d.bytes()).collect();
                let args = pipeline.args(action, bytes.iter().map(Vec::as_slice));
                t.set_default(table, Some(ActionCall { action, args: &args }));
            }
        });
        Ok((Arc::new(pipeline), writer))
    }

    /// Makes machine code for the program, which all workers use from their next burst on. Until then, and where none
    /// can be made, packets are interpreted. Returns what is still interpreted, with the reason.
    pub fn compile(&self) -> Vec<String> {
        let made = self.native.get_or_init(|| {
            // SAFETY: the code points at parts of the program that lie on the heap, so they stay where they are; nothing
            // changes them, and the code is dropped with them.
            #[allow(unsafe_code)]
            let make = || unsafe { Native::new(&self.program, self.drop_port) };
            // A fault inside the library that makes code must only cost speed.
            let made = std::panic::catch_unwind(std::panic::AssertUnwindSafe(make));
            made.unwrap_or(Err(Refused::PANIC))
        });
        match made {
            Ok(native) => native
                .refused()
                .iter()
                .map(|(stage, reason)| format!("{stage}: {reason}"))
                .collect(),
            Err(reason) => vec![format!("everything: {reason}")],
        }
    }

    /// Machine code, once it is made.
    pub(crate) fn native(&self) -> Option<&Native> {
        self.native.get()?.as_ref().ok()
    }

    /// The tables, and all else that control planes write.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The seed of a worker's random numbers.
    pub(crate) fn seed(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15;
        self.seeds.fetch_add(step, Ordering::Relaxed)
    }

    /// The arguments of an action as tables keep them, from big-endian octets of any length;
    /// missing ones are 0.
    pub fn args<'a>(&self, action: u32, values: impl Iterator<Item = &'a [u8]>) -> Vec<u64> {
        let mut out = Vec::new();
        self.args_into(action, values, &mut out);
        out
    }

    /// As [`Self::args`], appended to `out`.
    pub fn args_into<'a>(&self, action: u32, mut values: impl Iterator<Item = &'a [u8]>, out: &mut Vec<u64>) {
        let action = self.program.actions.get(action as usize);
        for parameter in action.into_iter().flat_map(|a| a.parameters.iter()) {
            let start = out.len();
            out.resize(start + words_of(parameter.width) as usize, 0);
            crate::tables::layout::words(values.next().unwrap_or_default(), &mut out[start..]);
        }
    }

    /// Index of a table by its name.
    pub fn table(&self, name: &str) -> Option<usize> {
        self.program.tables.iter().position(|t| t.name == name)
    }

    /// Index of an action by its name. Several may share one; `table` picks the right one.
    pub fn action(&self, table: Option<usize>, name: &str) -> Option<u32> {
        let is_it = |a: &u32| self.program.actions.get(*a as usize).is_some_and(|a| a.name == name);
        let of_table = table.and_then(|t| self.program.tables.get(t)).and_then(|t| {
            let mut actions = t.by_action.iter().map(|(action, _)| *action);
            actions.find(is_it)
        });
        let any = || self.program.actions.iter().position(|a| a.name == name);
        of_table.or_else(|| any().map(|at| at as u32))
    }

    /// Index of an action profile by its name.
    pub fn profile(&self, name: &str) -> Option<usize> {
        self.program.profiles.iter().position(|p| p.name == name)
    }

    /// Index of a counter array by its name.
    pub fn counter_array(&self, name: &str) -> Option<usize> {
        self.program.counters.iter().position(|(n, _)| n == name)
    }

    /// Index of a meter array by its name.
    pub fn meter_array(&self, name: &str) -> Option<usize> {
        self.program.meters.iter().position(|m| m.name == name)
    }

    /// Index of a register array by its name.
    pub fn register_array(&self, name: &str) -> Option<usize> {
        self.program.registers.iter().position(|r| r.name == name)
    }

    /// Index of a value set by its name.
    pub fn value_set(&self, name: &str) -> Option<usize> {
        self.program.value_sets.iter().position(|v| v.name == name)
    }

    /// Bits of the values that a state selects with a value set.
    pub fn value_set_widths(&self, index: usize) -> &[u32] {
        self.program.value_sets.get(index).map_or(&[], |v| &v.widths)
    }

    /// Id of a digest by the name of its list.
    pub fn digest(&self, name: &str) -> Option<u32> {
        self.program.digests.iter().find(|d| d.name == name).map(|d| d.id)
    }

    /// A counter cell.
    pub fn counter(&self, array: usize, cell: usize) -> Option<&Counter> {
        self.externs.counters.get(array)?.get(cell)
    }

    /// A meter cell.
    pub fn meter(&self, array: usize, cell: usize) -> Option<&Meter> {
        self.externs.meters.get(array)?.get(cell)
    }

    /// Reads a register cell as big-endian octets, as many as its width takes.
    pub fn register(&self, array: usize, cell: usize) -> Option<Vec<u8>> {
        let register = self.externs.registers.get(array)?;
        if cell >= register.len() {
            return None;
        }
        let mut words = vec![0; words_of(register.width()) as usize];
        register.read(cell, &mut words);
        let octets: Vec<u8> = words.iter().flat_map(|w| w.to_be_bytes()).collect();
        let skip = octets.len() - register.width().div_ceil(8) as usize;
        Some(octets.get(skip..).unwrap_or_default().to_vec())
    }

    /// Writes a register cell from big-endian octets of any length; `None` if there is no such cell.
    pub fn set_register(&self, array: usize, cell: usize, value: &[u8]) -> Option<()> {
        let register = self.externs.registers.get(array)?;
        if cell >= register.len() {
            return None;
        }
        let mut words = vec![0; words_of(register.width()) as usize];
        crate::tables::layout::words(value, &mut words);
        register.write(cell, &words);
        Some(())
    }
}
