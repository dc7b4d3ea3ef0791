//! The interface of a loaded program to the P4Runtime server: turns P4Info ids into indexes of the program, octets into
//! the words of keys and arguments, and a batch into one transaction of the tables.

use std::sync::{Arc, PoisonError};

use rustc_hash::FxHashMap;

use super::{Dataplane, Running};
use crate::p4runtime::action::{self, Call, CallRef};
use crate::p4runtime::bind::Bound;
use crate::p4runtime::entries::{Entries, Entry, EntryAction};
use crate::p4runtime::error::EntityError;
use crate::p4runtime::info::Info;
use crate::p4runtime::key::{Part, parts};
use crate::p4runtime::state::{self, MeterConfig, State};
use crate::p4runtime::target::{Cells, ColourCounts, CounterValue, InitialEntry, Op, Owner, Target};
use p4_engine::Pipeline;
use p4_engine::tables::meter::{Meter, Rates};
use p4_engine::tables::store::{Choice, Transaction};
use p4_engine::tables::{self, ABREAST, ActionCall, Counter, FieldMatch, Writer};

/// Indexes of P4Info objects in the program.
struct Indexes {
    tables: Vec<usize>,
    profiles: Vec<usize>,
    counters: Vec<usize>,
    meters: Vec<usize>,
    registers: Vec<usize>,
    value_sets: Vec<usize>,
    actions: FxHashMap<u32, u32>,
    /// The same by table of the program: copies of an action differ where the compiler wrote one for each.
    table_actions: FxHashMap<(usize, u32), u32>,
}

/// A loaded program.
pub(super) struct EngineTarget {
    writer: Writer,
    program: Loaded,
    /// Words of the arguments that are being converted.
    args: Vec<u64>,
}

/// Everything except the writer.
struct Loaded {
    plane: Arc<Dataplane>,
    pipeline: Arc<Pipeline>,
    info: Info,
    bound: Bound,
    indexes: Indexes,
}

/// An action with its arguments in words.
struct Words {
    action: u32,
    args: Vec<u64>,
}

impl Words {
    fn call(&self) -> ActionCall<'_> {
        ActionCall {
            action: self.action,
            args: &self.args,
        }
    }
}

impl EngineTarget {
    pub(super) fn new(
        plane: Arc<Dataplane>,
        pipeline: Arc<Pipeline>,
        writer: Writer,
        info: Info,
        bound: Bound,
    ) -> Result<Self, EntityError> {
        fn all<'a>(
            kind: &str,
            names: impl Iterator<Item = &'a str>,
            find: impl Fn(&str) -> Option<usize>,
        ) -> Result<Vec<usize>, EntityError> {
            let missing = |n: &str| EntityError::invalid(format!("{kind} {n:?} is not in the device config"));
            names.map(|n| find(n).ok_or_else(|| missing(n))).collect()
        }
        let p = &pipeline;
        let tables = all("table", info.tables.iter().map(|t| t.name.as_str()), |n| p.table(n))?;
        let table_actions = tables.iter().zip(&info.tables).flat_map(|(table, of)| {
            of.actions.iter().filter_map(|(id, _)| {
                let index = p.action(Some(*table), &info.action(*id)?.name)?;
                Some(((*table, *id), index))
            })
        });
        let indexes = Indexes {
            table_actions: table_actions.collect(),
            tables,
            profiles: all("action profile", info.profiles.iter().map(|p| p.name.as_str()), |n| {
                p.profile(n)
            })?,
            counters: all("counter", info.counters.iter().map(|c| c.name.as_str()), |n| {
                p.counter_array(n)
            })?,
            meters: all("meter", info.meters.iter().map(|(m, _)| m.name.as_str()), |n| {
                p.meter_array(n)
            })?,
            registers: all("register", info.registers.iter().map(|r| r.array.name.as_str()), |n| {
                p.register_array(n)
            })?,
            value_sets: all("value set", info.value_sets.iter().map(|v| v.name.as_str()), |n| {
                p.value_set(n)
            })?,
            // The compiler may have removed an action that no table uses.
            actions: info
                .actions
                .iter()
                .filter_map(|a| Some((a.id, p.action(None, &a.name)?)))
                .collect(),
        };
        Ok(Self {
            writer,
            args: Vec::new(),
            program: Loaded {
                plane,
                pipeline,
                info,
                bound,
                indexes,
            },
        })
    }

    /// Carries out changes as one transaction.
    fn write(&mut self, change: impl FnOnce(&mut Change<'_, '_>)) -> Result<(), EntityError> {
        let Self { writer, program, args } = self;
        let now = program.plane.now_ns();
        let written = writer.write(now, |t| {
            change(&mut Change { program, args, t });
        });
        written.map_err(|stalled| EntityError::internal(stalled.to_string()))
    }
}

impl Loaded {
    /// The program's action of a call, with its arguments appended to `args`.
    fn call_into(&self, table: Option<usize>, call: CallRef<'_>, args: &mut Vec<u64>) -> Option<u32> {
        let Some(action) = self.info.action(call.action) else {
            let (index, action) = self.bound.unnamed.get(call.action)?;
            let octets = action::args(&action.params, call.args).map(|(_, octets)| octets);
            self.pipeline.args_into(index, octets, args);
            return Some(index);
        };
        let of_table = table.and_then(|t| self.indexes.table_actions.get(&(t, call.action)));
        let index = *of_table.or_else(|| self.indexes.actions.get(&call.action))?;
        let octets = action::args(&action.params, call.args).map(|(_, octets)| octets);
        self.pipeline.args_into(index, octets, args);
        Some(index)
    }

    fn call(&self, table: Option<usize>, call: CallRef<'_>) -> Option<Words> {
        let mut args = Vec::new();
        let action = self.call_into(table, call, &mut args)?;
        Some(Words { action, args })
    }

    fn key<'e>(&'e self, table: usize, key: &'e [u8]) -> impl Iterator<Item = FieldMatch<'e>> {
        let info = self.info.tables.get(table);
        let parts = info.map(|info| parts(&info.fields, key));
        parts.into_iter().flatten().map(|(_, part)| match part {
            Part::Exact(value) | Part::Optional(Some(value)) => FieldMatch::Exact(value),
            Part::Lpm(value, prefix) => FieldMatch::Lpm(value, prefix as u32),
            Part::Ternary(value, mask) => FieldMatch::Ternary(value, mask),
            Part::Range(low, high) => FieldMatch::Range(low, high),
            Part::Optional(None) => FieldMatch::Any,
        })
    }

    /// Resolves the action of an entry, and passes it on.
    fn with_target(
        &self,
        table: usize,
        action: EntryAction<'_>,
        args: &mut Vec<u64>,
        put: impl FnOnce(tables::Target<'_>),
    ) {
        match action {
            EntryAction::Call(call) => {
                args.clear();
                if let Some(action) = self.call_into(Some(table), call, args) {
                    put(tables::Target::Action(ActionCall { action, args }));
                }
            }
            EntryAction::Member(id) => put(tables::Target::Member(id)),
            EntryAction::Group(id) => put(tables::Target::Group(id)),
            EntryAction::OneShot(set) => {
                let calls = set.actions.iter().filter_map(|a| {
                    let watch = a.watch.as_ref().map(|w| w.port);
                    Some((self.call(Some(table), a.call.borrowed())?, weight(a.weight), watch))
                });
                let calls: Vec<_> = calls.collect();
                let choices: Vec<Choice<'_>> = calls
                    .iter()
                    .map(|(words, weight, watch)| Choice {
                        call: words.call(),
                        weight: *weight,
                        watch: *watch,
                    })
                    .collect();
                put(tables::Target::OneShot(&choices));
            }
        }
    }

    /// Sets cells, which are not part of a transaction.
    fn array(&self, op: Op) {
        let now = self.plane.now_ns();
        match op {
            Op::Counter { counter, cells, value } => {
                if let Some(array) = self.indexes.counters.get(counter).copied() {
                    each(cells, |cell| {
                        let counter = self.pipeline.counter(array, cell)?;
                        counter.set(value.packets, value.bytes);
                        Some(())
                    });
                }
            }
            Op::DirectCounter { table, owner, value } => {
                if let Some(counter) = self.direct_counter(table, owner) {
                    counter.set(value.packets, value.bytes);
                }
            }
            Op::Meter { meter, cells, config } => {
                if let Some(array) = self.indexes.meters.get(meter).copied() {
                    each(cells, |cell| {
                        self.pipeline.meter(array, cell)?.configure(config.map(rates), now);
                        Some(())
                    });
                }
            }
            Op::DirectMeter { table, owner, config } => {
                if let Some(meter) = self.direct_meter(table, owner) {
                    meter.configure(config.map(rates), now);
                }
            }
            Op::MeterColours { meter, cells, value } => {
                if let Some(array) = self.indexes.meters.get(meter).copied() {
                    each(cells, |cell| {
                        set_colours(self.pipeline.meter(array, cell)?, value);
                        Some(())
                    });
                }
            }
            Op::DirectMeterColours { table, owner, value } => {
                if let Some(meter) = self.direct_meter(table, owner) {
                    set_colours(meter, value);
                }
            }
            Op::Register { register, cells, value } => {
                if let Some(array) = self.indexes.registers.get(register).copied() {
                    each(cells, |cell| self.pipeline.set_register(array, cell, &value));
                }
            }
            _ => {}
        }
    }

    /// Counters and meters of a table, and the slot of the entry that is meant; none for the default entry.
    fn direct(&self, table: usize, owner: Owner) -> Option<(&tables::Direct, Option<u32>)> {
        let direct = self.pipeline.store().direct(*self.indexes.tables.get(table)?)?;
        match owner {
            Owner::Entry(id) => Some((direct, Some(id))),
            Owner::Default => Some((direct, None)),
        }
    }

    fn direct_counter(&self, table: usize, owner: Owner) -> Option<&Counter> {
        let (direct, slot) = self.direct(table, owner)?;
        direct.counter(slot)
    }

    fn direct_meter(&self, table: usize, owner: Owner) -> Option<&Meter> {
        let (direct, slot) = self.direct(table, owner)?;
        direct.meter(slot)
    }
}

/// A batch on its way into the tables.
struct Change<'p, 't> {
    program: &'p Loaded,
    args: &'p mut Vec<u64>,
    t: &'p mut Transaction<'t>,
}

impl Change<'_, '_> {
    /// Puts an entry in. Its id is its slot: the server reuses an id only in a later batch.
    fn insert(&mut self, table: usize, entry: &Entry<'_>) {
        let Self { program, args, t } = self;
        if let Some(index) = program.indexes.tables.get(table).copied() {
            program.with_target(index, entry.action, args, |target| {
                t.insert(index, entry.id, program.key(table, entry.key), entry.priority, target);
            });
        }
    }

    /// Announces the entries of the next operations, as far as they are in one table.
    fn announce(&mut self, state: &State, ops: &[Op]) {
        let entry = |op: &Op| match op {
            Op::Insert { table, id } | Op::Modify { table, id } | Op::Delete { table, id } => Some((*table, *id)),
            _ => None,
        };
        let Some((table, _)) = ops.first().and_then(entry) else {
            return;
        };
        let (Some(of), Some(index)) = (state.tables.get(table), self.program.indexes.tables.get(table)) else {
            return;
        };
        let ids = ops.iter().take(ABREAST).filter_map(entry).filter(|(t, _)| *t == table);
        let entries = ids.filter_map(|(_, id)| of.entries.get(id));
        self.t
            .announce(*index, entries.map(|entry| self.program.key(table, entry.key)));
    }

    fn entry(&mut self, state: &State, op: &Op) {
        let program = self.program;
        let (Op::Insert { table, id } | Op::Modify { table, id } | Op::Delete { table, id }) = op else {
            return;
        };
        let (entries, index) = (state.tables.get(*table), program.indexes.tables.get(*table).copied());
        let entry = entries.and_then(|table| table.entries.get(*id));
        let (Some(entry), Some(index)) = (entry, index) else {
            return;
        };
        match op {
            Op::Insert { .. } => self.insert(*table, &entry),
            Op::Modify { .. } => {
                let t = &mut self.t;
                program.with_target(index, entry.action, self.args, |target| {
                    t.modify(index, *id, program.key(*table, entry.key), target);
                });
            }
            _ => self.t.remove(index, *id, program.key(*table, entry.key)),
        }
    }

    fn one(&mut self, state: &State, op: Op) {
        let (program, t) = (self.program, &mut *self.t);
        match op {
            Op::Insert { .. } | Op::Modify { .. } | Op::Delete { .. } => self.entry(state, &op),
            Op::Default { table, call } => {
                let Some(index) = program.indexes.tables.get(table).copied() else {
                    return;
                };
                let call = call.or_else(|| program.bound.defaults.get(table).cloned().flatten());
                let words = call.and_then(|c| program.call(Some(index), c.borrowed()));
                t.set_default(index, words.as_ref().map(Words::call));
            }
            Op::Member { profile, id, call } => {
                let words = call.and_then(|c| program.call(None, c.borrowed()));
                if let Some(profile) = program.indexes.profiles.get(profile) {
                    t.set_member(*profile, id, words.as_ref().map(Words::call));
                }
            }
            Op::Group { profile, id, members } => {
                let members: Option<Vec<_>> = members.map(|all| {
                    let each = all.iter().map(|m| {
                        let watch = m.watch.as_ref().map(|w| w.port);
                        (m.member, weight(m.weight), watch)
                    });
                    each.collect()
                });
                if let Some(profile) = program.indexes.profiles.get(profile) {
                    t.set_group(*profile, id, members.as_deref());
                }
            }
            Op::Multicast { id, replicas } => t.set_multicast(id, replicas.map(|r| copies(&r))),
            Op::Clone { id, session } => {
                let session = session.map(|s| tables::CloneSession {
                    replicas: copies(&s.replicas),
                    truncate_bytes: s.truncate_bytes,
                });
                t.set_clone(id, session);
            }
            Op::ValueSet { set, members } => {
                if let Some(index) = program.indexes.value_sets.get(set).copied() {
                    let widths = program.pipeline.value_set_widths(index);
                    t.set_value_set(index, members.iter().map(|m| fields(m, widths)));
                }
            }
            other => program.array(other),
        }
    }
}

/// A weight; 0 stands for one that was not written.
fn weight(weight: i32) -> u32 {
    u32::try_from(weight).unwrap_or(0).max(1)
}

fn rates(c: MeterConfig) -> Rates {
    Rates {
        cir: c.cir,
        cbs: c.cburst,
        pir: c.pir,
        pbs: c.pburst,
    }
}

fn copies(replicas: &[state::Replica]) -> Vec<tables::Replica> {
    let copy = |r: &state::Replica| tables::Replica {
        port: r.port,
        instance: r.instance,
        backups: r.backups.as_slice().into(),
    };
    replicas.iter().map(copy).collect()
}

/// The fields of a member of a value set, each in whole octets.
fn fields<'m>(mut member: &'m [u8], widths: &'m [u32]) -> impl Iterator<Item = FieldMatch<'m>> {
    widths.iter().map_while(move |width| {
        let (field, rest) = member.split_at_checked(width.div_ceil(8) as usize)?;
        member = rest;
        Some(FieldMatch::Exact(field))
    })
}

/// Calls `f` for one cell, or for all from 0 until there is none.
fn each(cells: Cells, mut f: impl FnMut(usize) -> Option<()>) {
    match cells {
        Cells::One(cell) => {
            f(cell);
        }
        Cells::All => {
            (0..).map_while(f).for_each(drop);
        }
    }
}

fn value(counter: &Counter) -> CounterValue {
    let (packets, bytes) = counter.get();
    CounterValue { bytes, packets }
}

fn colours(meter: &Meter) -> ColourCounts {
    meter.marked().each_ref().map(value)
}

fn set_colours(meter: &Meter, to: ColourCounts) {
    for (counter, to) in meter.marked().iter().zip(to) {
        counter.set(to.packets, to.bytes);
    }
}

impl Target for EngineTarget {
    fn initial_entries(&self, table: usize) -> Vec<InitialEntry> {
        self.program.bound.entries.get(table).cloned().unwrap_or_default()
    }

    fn initial_default(&self, table: usize) -> Option<Call> {
        self.program.bound.defaults.get(table).cloned().flatten()
    }

    fn adopt(&mut self, table: usize, entries: &Entries) {
        // Nothing runs through the program yet, so no reader can hold this up.
        let _ = self.write(|change| entries.iter().for_each(|entry| change.insert(table, &entry)));
    }

    fn apply(&mut self, state: &State, ops: Vec<Op>) -> Result<(), EntityError> {
        self.write(|change| {
            let mut rest = ops.into_iter();
            while !rest.as_slice().is_empty() {
                change.announce(state, rest.as_slice());
                rest.by_ref().take(ABREAST).for_each(|op| change.one(state, op));
            }
        })
    }

    fn counter(&self, counter: usize, cell: usize) -> CounterValue {
        let array = self.program.indexes.counters.get(counter);
        array
            .and_then(|a| self.program.pipeline.counter(*a, cell))
            .map(value)
            .unwrap_or_default()
    }

    fn direct_counter(&self, table: usize, owner: Owner) -> CounterValue {
        self.program.direct_counter(table, owner).map(value).unwrap_or_default()
    }

    fn meter_colours(&self, meter: usize, cell: usize) -> ColourCounts {
        let program = &self.program;
        let array = program.indexes.meters.get(meter);
        let meter = array.and_then(|a| program.pipeline.meter(*a, cell));
        meter.map(colours).unwrap_or_default()
    }

    fn direct_meter_colours(&self, table: usize, owner: Owner) -> ColourCounts {
        self.program.direct_meter(table, owner).map(colours).unwrap_or_default()
    }

    fn register(&self, register: usize, cell: usize) -> Vec<u8> {
        let array = self.program.indexes.registers.get(register);
        array
            .and_then(|a| self.program.pipeline.register(*a, cell))
            .unwrap_or_default()
    }

    fn since_last_hit_ns(&self, table: usize, id: u32) -> u64 {
        let program = &self.program;
        let direct = program
            .indexes
            .tables
            .get(table)
            .and_then(|t| program.pipeline.store().direct(*t));
        let hit = direct.and_then(|d| d.last_hit_ns(id));
        hit.map_or(0, |hit| program.plane.now_ns().saturating_sub(hit))
    }

    fn activate(&mut self) {
        let (plane, pipeline) = (&self.program.plane, &self.program.pipeline);
        // Held until the program runs, so that `set_port` records link changes in this program, too.
        let down = plane.down.lock().unwrap_or_else(PoisonError::into_inner);
        down.iter().for_each(|port| pipeline.store().ports.set(*port, false));
        let ids = self.program.info.digests.iter();
        let digests = ids.filter_map(|d| Some((pipeline.digest(&d.name)?, d.id))).collect();
        plane.running.store(Some(Arc::new(Running {
            pipeline: Arc::clone(pipeline),
            digests,
        })));
        // Packets are interpreted until there is machine code.
        let made = Arc::clone(pipeline);
        let compile = move || {
            let (started, interpreted) = (std::time::Instant::now(), made.compile());
            let took_ms = started.elapsed().as_millis() as u64;
            tracing::info!(took_ms, ?interpreted, "the program runs as machine code");
        };
        if let Err(error) = std::thread::Builder::new().name("compile".into()).spawn(compile) {
            tracing::warn!(%error, "packets are interpreted: no thread for making machine code");
        }
    }
}
