//! The packet engine, in this process, with a clock that only scripts move.

use std::collections::HashMap;
use std::sync::Arc;

use p4_engine::tables::{self, ActionCall, FieldMatch, Transaction, Writer, meter};
use p4_engine::{DigestFields, Pipeline, Sink, Worker};

use super::{
    Action, Call, Count, DROP_PORT, Entry, FRAME_NS, Failed, Key, Rates, Replica, START_NS, Target, index, known,
    known_cell,
};
use crate::stf::names::Names;

/// The engine's output.
#[derive(Default)]
struct Collected {
    frames: Vec<(u32, Vec<u8>)>,
    digests: Vec<(u32, Vec<Vec<u8>>)>,
}

impl Sink for Collected {
    fn frame(&mut self, port: u32, data: &[u8]) {
        self.frames.push((port, data.to_vec()));
    }

    fn digest(&mut self, id: u32, fields: DigestFields<'_>) {
        self.digests.push((id, fields.map(<[u8]>::to_vec).collect()));
    }
}

/// The packet engine with one program.
pub struct Engine {
    pipeline: Arc<Pipeline>,
    writer: Writer,
    worker: Worker,
    now_ns: u64,
    collected: Collected,
    digest_names: HashMap<u32, String>,
    /// Entries with their table and slot.
    entries: Vec<(Entry, usize, u32)>,
    /// The next slot of each table; no slot is used twice.
    next_slot: HashMap<usize, u32>,
}

/// The part for which no machine code is made on purpose, in the words of [`Pipeline::compile`]. The interpreter writes
/// the headers if one of them has a variable-length field or is not a whole number of octets, or if they are very long.
/// The rest of such a program is machine code.
const INTERPRETED: &[&str] = &["deparser: headers that the interpreter has to write"];

/// Makes machine code for a program.
///
/// # Errors
/// The parts besides [`INTERPRETED`] that the interpreter would have to run, each with the reason.
pub(crate) fn all_compiled(pipeline: &Pipeline) -> Result<(), Failed> {
    let mut left = pipeline.compile();
    left.retain(|what| !INTERPRETED.contains(&what.as_str()));
    if left.is_empty() {
        return Ok(());
    }
    Err(format!("packet engine: no machine code: {}", left.join("; ")))
}

impl Engine {
    /// Loads a program with its own entries; makes machine code for it, or leaves it to the interpreter.
    ///
    /// # Errors
    /// The engine cannot run it, or machine code was asked for and cannot be made for a part of it: a comparison with the
    /// interpreter would compare it with itself.
    pub fn new(program: &bmv2_json::Program, names: &Names, compiled: bool) -> Result<Self, Failed> {
        let loaded = Pipeline::new(program, None, DROP_PORT);
        let (pipeline, writer) = loaded.map_err(|e| format!("packet engine: {e}"))?;
        if compiled {
            all_compiled(&pipeline)?;
        }
        let mut target = Self {
            worker: Worker::new(&pipeline, "stf"),
            pipeline,
            writer,
            now_ns: START_NS,
            collected: Collected::default(),
            digest_names: program.learn_lists.iter().map(|l| (l.id, l.name.clone())).collect(),
            entries: Vec::new(),
            next_slot: HashMap::new(),
        };
        names.entries().iter().try_for_each(|entry| target.add(entry))?;
        Ok(target)
    }

    fn write(&mut self, change: impl FnOnce(&mut Transaction<'_>)) -> Result<(), Failed> {
        self.writer.write(self.now_ns, change).map_err(|e| e.to_string())
    }

    fn table(&self, name: &str) -> Result<usize, Failed> {
        known(self.pipeline.table(name), "table", name)
    }

    fn profile(&self, name: &str) -> Result<usize, Failed> {
        known(self.pipeline.profile(name), "profile", name)
    }

    /// An action's index, and the words of its arguments.
    fn call(&self, table: Option<usize>, call: &Call) -> Result<(u32, Vec<u64>), Failed> {
        let action = self.pipeline.action(table, &call.action);
        let action = known(action, "action", &call.action)?;
        Ok((action, self.pipeline.args(action, call.args.iter().map(Vec::as_slice))))
    }

    /// Table and slot of an entry.
    fn place(&self, entry: &Entry) -> Result<(usize, u32), Failed> {
        let found = self.entries.iter().find(|(e, ..)| e == entry);
        found
            .map(|(_, table, slot)| (*table, *slot))
            .ok_or_else(|| "the entry is gone".into())
    }

    /// The given cell of the array, or all cells.
    fn cells(&self, array: usize, cell: Option<u64>) -> Vec<usize> {
        match cell {
            Some(cell) => vec![index(cell)],
            None => (0..).take_while(|c| self.pipeline.meter(array, *c).is_some()).collect(),
        }
    }
}

fn matches(key: &[Key]) -> impl Iterator<Item = FieldMatch<'_>> {
    key.iter().map(|key| match key {
        Key::Exact(v) => FieldMatch::Exact(v),
        Key::Lpm(v, prefix) => FieldMatch::Lpm(v, *prefix as u32),
        Key::Ternary(v, m) => FieldMatch::Ternary(v, m),
        Key::Range(low, high) => FieldMatch::Range(low, high),
    })
}

fn replicas(replicas: &[Replica]) -> Vec<tables::Replica> {
    let one = |r: &Replica| tables::Replica {
        port: r.port,
        instance: r.rid as u16,
        backups: Box::default(),
    };
    replicas.iter().map(one).collect()
}

fn rates(r: Rates) -> meter::Rates {
    let rate = |millionths: u64| meter::Rate {
        per_second: millionths / 1_000_000,
        millionths: (millionths % 1_000_000) as u32,
    };
    meter::Rates {
        cir: rate(r.cir),
        cbs: r.cbs,
        pir: rate(r.pir),
        pbs: r.pbs,
    }
}

impl Target for Engine {
    fn add(&mut self, entry: &Entry) -> Result<(), Failed> {
        let table = self.table(&entry.table)?;
        let slot = self.next_slot.entry(table).or_default();
        let taken = *slot;
        *slot += 1;
        let (action, args) = match &entry.action {
            Action::Call(call) => self.call(Some(table), call)?,
            Action::Member(_) | Action::Group(_) => Default::default(),
        };
        let target = match &entry.action {
            Action::Call(_) => tables::Target::Action(ActionCall { action, args: &args }),
            Action::Member(id) => tables::Target::Member(*id),
            Action::Group(id) => tables::Target::Group(*id),
        };
        self.write(|t| t.insert(table, taken, matches(&entry.key), entry.priority, target))?;
        self.entries.push((entry.clone(), table, taken));
        Ok(())
    }

    fn remove(&mut self, entry: &Entry) -> Result<(), Failed> {
        let (table, slot) = self.place(entry)?;
        self.write(|t| t.remove(table, slot, matches(&entry.key)))?;
        self.entries.retain(|(e, ..)| e != entry);
        Ok(())
    }

    fn set_default(&mut self, table: &str, call: &Call) -> Result<(), Failed> {
        let table = self.table(table)?;
        let (action, args) = self.call(Some(table), call)?;
        self.write(|t| t.set_default(table, Some(ActionCall { action, args: &args })))
    }

    fn member(&mut self, profile: &str, id: u32, call: &Call) -> Result<(), Failed> {
        let profile = self.profile(profile)?;
        let (action, args) = self.call(None, call)?;
        self.write(|t| t.set_member(profile, id, Some(ActionCall { action, args: &args })))
    }

    fn group(&mut self, profile: &str, id: u32, members: &[(u32, Option<u32>)]) -> Result<(), Failed> {
        let profile = self.profile(profile)?;
        let members: Vec<_> = members.iter().map(|(member, watch)| (*member, 1, *watch)).collect();
        self.write(|t| t.set_group(profile, id, Some(&members)))
    }

    fn value_set(&mut self, set: &str, members: &[Vec<Vec<u8>>]) -> Result<(), Failed> {
        let at = known(self.pipeline.value_set(set), "value set", set)?;
        let members = members.iter().map(|m| m.iter().map(|v| FieldMatch::Exact(v)));
        self.write(|t| t.set_value_set(at, members))
    }

    fn multicast(&mut self, group: u32, copies: &[Replica]) -> Result<(), Failed> {
        self.write(|t| t.set_multicast(group, Some(replicas(copies))))
    }

    fn mirror(&mut self, session: u32, copies: Option<&[Replica]>) -> Result<(), Failed> {
        let session_of = |r: &[Replica]| tables::CloneSession {
            replicas: replicas(r),
            truncate_bytes: 0,
        };
        self.write(|t| t.set_clone(session, copies.map(session_of)))
    }

    fn port(&mut self, port: u32, up: bool) -> Result<(), Failed> {
        self.pipeline.store().ports.set(port, up);
        Ok(())
    }

    fn counter(&mut self, counter: &str, cell: u64) -> Result<Count, Failed> {
        let array = known(self.pipeline.counter_array(counter), "counter", counter)?;
        let found = self.pipeline.counter(array, index(cell));
        let (packets, bytes) = known_cell(found, counter, cell)?.get();
        Ok(Count { packets, bytes })
    }

    fn set_counter(&mut self, counter: &str, cell: u64, count: Count) -> Result<(), Failed> {
        let array = known(self.pipeline.counter_array(counter), "counter", counter)?;
        let found = self.pipeline.counter(array, index(cell));
        known_cell(found, counter, cell)?.set(count.packets, count.bytes);
        Ok(())
    }

    fn direct_counter(&mut self, entry: &Entry) -> Result<Count, Failed> {
        let (table, slot) = self.place(entry)?;
        let direct = self.pipeline.store().direct(table);
        let (packets, bytes) = direct
            .and_then(|d| d.counter(Some(slot)))
            .ok_or("the table has no counters")?
            .get();
        Ok(Count { packets, bytes })
    }

    fn meter(&mut self, meter: &str, cell: Option<u64>, to: Rates) -> Result<(), Failed> {
        let array = known(self.pipeline.meter_array(meter), "meter", meter)?;
        for at in self.cells(array, cell) {
            let found = known_cell(self.pipeline.meter(array, at), meter, at)?;
            found.configure(Some(rates(to)), self.now_ns);
        }
        Ok(())
    }

    fn direct_meter(&mut self, entry: &Entry, to: Rates) -> Result<(), Failed> {
        let (table, slot) = self.place(entry)?;
        let direct = self.pipeline.store().direct(table);
        let meter = direct
            .and_then(|d| d.meter(Some(slot)))
            .ok_or("the table has no meters")?;
        meter.configure(Some(rates(to)), self.now_ns);
        Ok(())
    }

    fn register(&mut self, register: &str, cell: u64) -> Result<Vec<u8>, Failed> {
        let array = known(self.pipeline.register_array(register), "register", register)?;
        known_cell(self.pipeline.register(array, index(cell)), register, cell)
    }

    fn set_register(&mut self, register: &str, cell: u64, value: &[u8]) -> Result<(), Failed> {
        let array = known(self.pipeline.register_array(register), "register", register)?;
        let written = self.pipeline.set_register(array, index(cell), value);
        known_cell(written, register, cell)
    }

    fn idle_ms(&mut self, entry: &Entry) -> Result<u64, Failed> {
        let (table, slot) = self.place(entry)?;
        let last = self.pipeline.store().direct(table).and_then(|d| d.last_hit_ns(slot));
        let last = last.ok_or("entries of this table do not age")?;
        Ok(self.now_ns.saturating_sub(last) / 1_000_000)
    }

    fn wait(&mut self, ms: u64) -> Result<(), Failed> {
        self.now_ns = self.now_ns.saturating_add(ms.saturating_mul(1_000_000));
        Ok(())
    }

    fn packet(&mut self, port: u32, frame: &[u8]) -> Result<(), Failed> {
        self.now_ns += FRAME_NS;
        self.worker
            .batch()
            .process(port, frame, self.now_ns, &mut self.collected);
        Ok(())
    }

    fn frames(&mut self) -> Result<Vec<(u32, Vec<u8>)>, Failed> {
        Ok(std::mem::take(&mut self.collected.frames))
    }

    fn digests(&mut self) -> Result<Vec<(String, Vec<Vec<u8>>)>, Failed> {
        let sent = std::mem::take(&mut self.collected.digests).into_iter();
        let named = sent.map(|(id, fields)| match self.digest_names.get(&id) {
            Some(name) => Ok((name.clone(), fields)),
            None => Err(format!("digest id {id} is unknown")),
        });
        named.collect()
    }
}
