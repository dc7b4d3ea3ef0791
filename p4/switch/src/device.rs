//! The packet engine as a target of the P4Runtime server: P4Info ids to program indexes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;

use crate::p4runtime::action::{self, Call};
use crate::p4runtime::bind::{Bound, bind};
use crate::p4runtime::bytestring;
use crate::p4runtime::error::EntityError;
use crate::p4runtime::info::Info;
use crate::p4runtime::key::{Part, parts};
use crate::p4runtime::state::{Entry, EntryAction, MeterConfig};
use crate::p4runtime::target::{Cells, CounterValue, Device, Event, InitialEntry, Op, Owner, Target};
use crate::reference::{self, ActionCall, Counter, Group, Match, Meter, Output, Rates, Switch, Tables};

/// Packet-outs that wait for the forwarding thread.
pub const PACKET_OUT_QUEUE: usize = 1024;

/// What the server, the forwarding thread and loaded programs share.
pub struct Dataplane {
    /// The program that packets run through, with the P4Info ids of its digests.
    pub running: ArcSwapOption<Running>,
    /// Since when the clock runs.
    started: Instant,
    cpu_port: Option<u32>,
    drop_port: u32,
    ports: Vec<(String, u32)>,
    down: Mutex<Vec<u32>>,
    outgoing: mpsc::Sender<Vec<u8>>,
    wake: Box<dyn Fn() + Send + Sync>,
    events: mpsc::Sender<Event>,
    /// Events that the server had no room for.
    pub lost_events: AtomicU64,
}

/// A program that packets run through.
pub struct Running {
    /// The program with its state.
    pub switch: Arc<Switch>,
    digests: FxHashMap<u32, u32>,
}

impl Dataplane {
    /// A data plane without a program. `outgoing` takes packet-outs, and `wake` tells the
    /// thread that empties it; `events` takes packet-ins and digests.
    pub fn new(
        ports: Vec<(String, u32)>,
        cpu_port: Option<u32>,
        drop_port: u32,
        outgoing: mpsc::Sender<Vec<u8>>,
        wake: Box<dyn Fn() + Send + Sync>,
        events: mpsc::Sender<Event>,
    ) -> Arc<Self> {
        Arc::new(Self {
            running: ArcSwapOption::empty(),
            started: Instant::now(),
            cpu_port,
            drop_port,
            ports,
            down: Mutex::default(),
            outgoing,
            wake,
            events,
            lost_events: AtomicU64::new(0),
        })
    }

    /// The switch's clock.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Notes whether a port carries traffic; selectors leave out members that watch it.
    pub fn set_port(&self, port: u32, up: bool) {
        let mut down = self.down.lock().unwrap_or_else(PoisonError::into_inner);
        down.retain(|p| *p != port);
        if !up {
            down.push(port);
        }
        if let Some(running) = self.running.load().as_ref() {
            running.switch.tables_mut().set_port(port, up);
        }
    }

    /// Hands an output that is not for a port to the server; false if it is for one.
    pub fn take(&self, output: &mut Output) -> bool {
        let event = match output {
            Output::Frame { port, data } if Some(*port) == self.cpu_port => Event::PacketIn(std::mem::take(data)),
            Output::Frame { .. } => return false,
            Output::Digest(id, fields) => {
                let running = self.running.load();
                let Some(digest_id) = running.as_ref().and_then(|r| r.digests.get(id)).copied() else {
                    return true;
                };
                Event::Digest {
                    digest_id,
                    message: std::mem::take(fields),
                }
            }
        };
        if self.events.try_send(event).is_err() {
            self.lost_events.fetch_add(1, Ordering::Relaxed);
        }
        true
    }
}

/// The device that the P4Runtime server works with.
pub struct EngineDevice(pub Arc<Dataplane>);

impl Device for EngineDevice {
    fn load(&self, info: &mut Info, device_config: &[u8]) -> Result<Box<dyn Target>, EntityError> {
        let program = bmv2_json::Program::from_slice(device_config)
            .map_err(|error| EntityError::invalid(format!("device config: {error}")))?;
        let bound = bind(info, &program)?;
        let switch = Switch::from_program(&program, self.0.cpu_port, self.0.drop_port)
            .map_err(|error| EntityError::invalid(format!("device config: {error}")))?;
        for port in self.0.down.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            switch.tables_mut().set_port(*port, false);
        }
        Ok(Box::new(EngineTarget::new(
            Arc::clone(&self.0),
            Arc::new(switch),
            info.clone(),
            bound,
        )?))
    }

    fn cpu_port(&self) -> Option<u32> {
        self.0.cpu_port
    }

    fn has_port(&self, port: u32) -> bool {
        self.0.ports.iter().any(|(_, number)| *number == port)
    }

    fn ports(&self) -> Vec<(String, u32)> {
        self.0.ports.clone()
    }

    fn packet_out(&self, frame: Vec<u8>) -> Result<(), EntityError> {
        if self.0.cpu_port.is_none() {
            return Err(EntityError::precondition("the switch has no CPU port"));
        }
        let queued = self.0.outgoing.try_send(frame);
        queued.map_err(|_| EntityError::exhausted("the input queue is full"))?;
        (self.0.wake)();
        Ok(())
    }
}

/// What an entry keeps when its action changes.
#[derive(Clone, Default)]
struct Direct {
    counter: Arc<Counter>,
    meter: Arc<Meter>,
    last_hit_ns: Arc<AtomicU64>,
}

/// Indexes of P4Info objects in the program.
struct Indexes {
    tables: Vec<usize>,
    profiles: Vec<usize>,
    counters: Vec<usize>,
    meters: Vec<usize>,
    registers: Vec<usize>,
    value_sets: Vec<usize>,
    actions: FxHashMap<u32, usize>,
}

struct EngineTarget {
    plane: Arc<Dataplane>,
    switch: Arc<Switch>,
    info: Info,
    bound: Bound,
    indexes: Indexes,
    direct: Vec<FxHashMap<u32, Direct>>,
}

impl EngineTarget {
    fn new(plane: Arc<Dataplane>, switch: Arc<Switch>, info: Info, bound: Bound) -> Result<Self, EntityError> {
        fn all<'a>(
            kind: &str,
            names: impl Iterator<Item = &'a str>,
            find: impl Fn(&str) -> Option<usize>,
        ) -> Result<Vec<usize>, EntityError> {
            let missing = |n: &str| EntityError::invalid(format!("{kind} {n:?} is not in the device config"));
            names.map(|n| find(n).ok_or_else(|| missing(n))).collect()
        }
        let s = &switch;
        let indexes = Indexes {
            tables: all("table", info.tables.iter().map(|t| t.name.as_str()), |n| s.table(n))?,
            profiles: all("action profile", info.profiles.iter().map(|p| p.name.as_str()), |n| {
                s.profile(n)
            })?,
            counters: all("counter", info.counters.iter().map(|c| c.name.as_str()), |n| {
                s.counter_array(n)
            })?,
            meters: all("meter", info.meters.iter().map(|(m, _)| m.name.as_str()), |n| {
                s.meter_array(n)
            })?,
            registers: all("register", info.registers.iter().map(|r| r.array.name.as_str()), |n| {
                s.register_array(n)
            })?,
            value_sets: all("value set", info.value_sets.iter().map(|v| v.name.as_str()), |n| {
                s.value_set(n)
            })?,
            // One that no table uses may be gone from the program.
            actions: info
                .actions
                .iter()
                .filter_map(|a| Some((a.id, s.action(None, &a.name)?)))
                .collect(),
        };
        let direct = vec![FxHashMap::default(); info.tables.len()];
        Ok(Self {
            plane,
            switch,
            info,
            bound,
            indexes,
            direct,
        })
    }

    fn call(&self, table: Option<usize>, call: &Call) -> Option<ActionCall> {
        let action = self.info.action(call.action)?;
        let args = action::args(&action.params, &call.args)
            .map(|(_, bytes)| number(bytes))
            .collect();
        // Copies of an action differ by table where the compiler wrote one for each.
        let of_table = table.and_then(|t| self.switch.action(Some(t), &action.name));
        Some(ActionCall {
            action: of_table.or_else(|| self.indexes.actions.get(&call.action).copied())?,
            args,
        })
    }

    fn key(&self, table: usize, entry: &Entry) -> Vec<Match> {
        let Some(info) = self.info.tables.get(table) else {
            return Vec::new();
        };
        parts(&info.fields, entry.packed_match())
            .map(|(_, part)| match part {
                Part::Exact(v) => Match::Exact(v.into()),
                Part::Lpm(v, prefix) => Match::Lpm(v.into(), prefix),
                Part::Ternary(v, m) => Match::Ternary(v.into(), m.into()),
                Part::Range(low, high) => Match::Range(low.into(), high.into()),
                Part::Optional(Some(v)) => Match::Ternary(v.into(), vec![0xff; v.len()].into()),
                Part::Optional(None) => Match::Ternary(Box::default(), Box::default()),
            })
            .collect()
    }

    fn target(&self, table: usize, action: &EntryAction) -> Option<reference::Target> {
        Some(match action {
            EntryAction::Call(call) => reference::Target::Action(self.call(Some(table), call)?),
            EntryAction::Member(id) => reference::Target::Member(*id),
            EntryAction::Group(id) => reference::Target::Group(*id),
            EntryAction::OneShot(set) => {
                let mut calls = Vec::new();
                for a in &set.actions {
                    let call = self.call(Some(table), &a.call)?;
                    let watch = a.watch.as_ref().map(|w| w.port);
                    calls.extend(std::iter::repeat_n((call, watch), a.weight.max(1) as usize));
                }
                reference::Target::OneShot(calls)
            }
        })
    }

    fn put(&mut self, tables: &mut Tables, table: usize, entry: &Entry) {
        let Some(index) = self.indexes.tables.get(table).copied() else {
            return;
        };
        let Some(target) = self.target(index, &entry.action) else {
            return;
        };
        let key = self.key(table, entry);
        let now = self.plane.now_ns();
        let Some(direct) = self.direct.get_mut(table) else {
            return;
        };
        let direct = direct.entry(entry.id).or_insert_with(|| {
            let fresh = Direct::default();
            fresh.last_hit_ns.store(now, Ordering::Relaxed);
            fresh
        });
        let entry = reference::Entry::new(
            entry.priority(),
            target,
            &direct.counter,
            &direct.meter,
            &direct.last_hit_ns,
        );
        tables.put(index, &key, entry);
    }

    fn one(&mut self, tables: &mut Tables, op: Op) {
        let rates = |c: MeterConfig| Rates {
            cir: c.cir,
            cbs: c.cburst,
            pir: c.pir,
            pbs: c.pburst,
        };
        let now = self.plane.now_ns();
        match op {
            Op::Insert { table, entry } | Op::Modify { table, entry } => self.put(tables, table, &entry),
            Op::Delete { table, entry } => {
                let key = self.key(table, &entry);
                if let (Some(index), Some(direct)) = (self.indexes.tables.get(table), self.direct.get_mut(table)) {
                    tables.remove(*index, &key, entry.priority());
                    direct.remove(&entry.id);
                }
            }
            Op::Default { table, call } => {
                let Some(index) = self.indexes.tables.get(table).copied() else {
                    return;
                };
                let call = call.or_else(|| self.initial_default(table));
                tables.set_default(index, call.and_then(|c| self.call(Some(index), &c)));
            }
            Op::Member { profile, id, call } => {
                let call = call.and_then(|c| self.call(None, &c));
                self.indexes
                    .profiles
                    .get(profile)
                    .into_iter()
                    .for_each(|p| tables.set_member(*p, id, call.clone()));
            }
            Op::Group { profile, id, members } => {
                let group = members.map(|all| {
                    let each = all.iter().flat_map(|m| {
                        let watch = m.watch.as_ref().map(|w| w.port);
                        std::iter::repeat_n((m.member, watch), m.weight.max(1) as usize)
                    });
                    Group {
                        members: each.collect(),
                    }
                });
                self.indexes
                    .profiles
                    .get(profile)
                    .into_iter()
                    .for_each(|p| tables.set_group(*p, id, group.clone()));
            }
            Op::Multicast { id, replicas } => tables.set_multicast(id, replicas.map(|r| copies(&r))),
            Op::Clone { id, session } => {
                let session = session.map(|s| reference::CloneSession {
                    replicas: copies(&s.replicas),
                    truncate_bytes: s.truncate_bytes,
                });
                tables.set_clone(id, session);
            }
            Op::ValueSet { set, members } => {
                self.indexes
                    .value_sets
                    .get(set)
                    .into_iter()
                    .for_each(|i| tables.set_value_set(*i, members.clone()));
            }
            Op::Counter { counter, cells, value } => {
                let Some(array) = self.indexes.counters.get(counter).copied() else {
                    return;
                };
                each(cells, |cell| {
                    self.switch
                        .counter(array, cell)
                        .map(|c| c.set(value.packets, value.bytes))
                });
            }
            Op::DirectCounter { table, owner, value } => {
                self.direct_of(tables, table, &owner, |counter, _| {
                    counter.set(value.packets, value.bytes)
                });
            }
            Op::Meter { meter, cells, config } => {
                let Some(array) = self.indexes.meters.get(meter).copied() else {
                    return;
                };
                each(cells, |cell| {
                    self.switch
                        .meter(array, cell)
                        .map(|m| m.configure(config.map(rates), now))
                });
            }
            Op::DirectMeter { table, owner, config } => {
                self.direct_of(tables, table, &owner, |_, meter| {
                    meter.configure(config.map(rates), now)
                });
            }
            Op::Register { register, cells, value } => {
                let Some(array) = self.indexes.registers.get(register).copied() else {
                    return;
                };
                each(cells, |cell| {
                    self.switch.register(array, cell)?;
                    self.switch.set_register(array, cell, number(&value));
                    Some(())
                });
            }
        }
    }

    fn direct_of<T>(
        &self,
        tables: &Tables,
        table: usize,
        owner: &Owner,
        f: impl FnOnce(&Counter, &Meter) -> T,
    ) -> Option<T> {
        match owner {
            Owner::Entry(entry) => {
                let direct = self.direct.get(table)?.get(&entry.id)?;
                Some(f(&direct.counter, &direct.meter))
            }
            Owner::Default => {
                let (counter, meter) = tables.default_counter(*self.indexes.tables.get(table)?)?;
                Some(f(counter, meter))
            }
        }
    }
}

fn number(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |n, b| n << 8 | u128::from(*b))
}

fn copies(replicas: &[crate::p4runtime::state::Replica]) -> Vec<reference::Replica> {
    let copy = |r: &crate::p4runtime::state::Replica| reference::Replica {
        port: r.port,
        instance: r.instance,
        backups: r.backups.as_slice().into(),
    };
    replicas.iter().map(copy).collect()
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

impl Target for EngineTarget {
    fn initial_entries(&self, table: usize) -> Vec<InitialEntry> {
        self.bound.entries.get(table).cloned().unwrap_or_default()
    }

    fn initial_default(&self, table: usize) -> Option<Call> {
        self.bound.defaults.get(table).cloned().flatten()
    }

    fn adopt(&mut self, table: usize, entries: &[Arc<Entry>]) {
        let switch = Arc::clone(&self.switch);
        let mut tables = switch.tables_mut();
        entries.iter().for_each(|e| self.put(&mut tables, table, e));
    }

    fn apply(&mut self, ops: Vec<Op>) -> Result<(), EntityError> {
        let switch = Arc::clone(&self.switch);
        let mut tables = switch.tables_mut();
        ops.into_iter().for_each(|op| self.one(&mut tables, op));
        Ok(())
    }

    fn counter(&self, counter: usize, cell: usize) -> CounterValue {
        let array = self.indexes.counters.get(counter);
        array
            .and_then(|a| self.switch.counter(*a, cell))
            .map(value)
            .unwrap_or_default()
    }

    fn direct_counter(&self, table: usize, owner: &Owner) -> CounterValue {
        self.direct_of(&self.switch.tables(), table, owner, |c, _| value(c))
            .unwrap_or_default()
    }

    fn register(&self, register: usize, cell: usize) -> Vec<u8> {
        let array = self.indexes.registers.get(register);
        let Some((value, width)) = array.and_then(|a| self.switch.register(*a, cell)) else {
            return Vec::new();
        };
        let octets = bytestring::bytes(width as usize).min(16);
        value.to_be_bytes().get(16 - octets..).unwrap_or_default().to_vec()
    }

    fn since_last_hit_ns(&self, table: usize, entry: &Entry) -> u64 {
        let direct = self.direct.get(table).and_then(|d| d.get(&entry.id));
        direct.map_or(0, |d| {
            self.plane
                .now_ns()
                .saturating_sub(d.last_hit_ns.load(Ordering::Relaxed))
        })
    }

    fn activate(&mut self) {
        // Links may have changed since the program was loaded.
        let down = self.plane.down.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tables = self.switch.tables_mut();
        self.plane
            .ports
            .iter()
            .for_each(|(_, port)| tables.set_port(*port, !down.contains(port)));
        drop((tables, down));
        let ids = self
            .info
            .digests
            .iter()
            .filter_map(|d| Some((self.switch.digest(&d.name)?, d.id)));
        let running = Running {
            switch: Arc::clone(&self.switch),
            digests: ids.collect(),
        };
        self.plane.running.store(Some(Arc::new(running)));
    }
}
