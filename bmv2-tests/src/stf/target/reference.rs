//! The reference evaluator, in this process, with a clock that only scripts move.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use num_bigint::BigUint;
use p4_reference::{self as core, ActionCall, Match, Output, Switch};

use super::{
    Action, Call, Count, DROP_PORT, Entry, FRAME_NS, Failed, Key, Rates, Replica, START_NS, Target, index, known,
    known_cell,
};
use crate::stf::names::Names;

/// Parts of an entry that are read later.
#[derive(Default, Clone)]
struct Direct {
    counter: Arc<core::Counter>,
    meter: Arc<core::Meter>,
    last_hit_ns: Arc<AtomicU64>,
}

/// The reference evaluator with one program.
pub struct Reference {
    switch: Switch,
    now_ns: u64,
    out: Vec<Output>,
    frames: Vec<(u32, Vec<u8>)>,
    digests: Vec<(String, Vec<Vec<u8>>)>,
    digest_names: HashMap<u32, String>,
    direct: Vec<(Entry, Direct)>,
}

impl Reference {
    /// Loads a program with its own entries.
    ///
    /// # Errors
    /// The evaluator cannot run it.
    pub fn new(program: &bmv2_json::Program, names: &Names) -> Result<Self, Failed> {
        let switch = Switch::from_program(program, None, DROP_PORT).map_err(|e| format!("reference evaluator: {e}"))?;
        let mut target = Self {
            switch,
            now_ns: START_NS,
            out: Vec::new(),
            frames: Vec::new(),
            digests: Vec::new(),
            digest_names: program.learn_lists.iter().map(|l| (l.id, l.name.clone())).collect(),
            direct: Vec::new(),
        };
        names.entries().iter().try_for_each(|entry| target.add(entry))?;
        Ok(target)
    }

    fn table(&self, name: &str) -> Result<usize, Failed> {
        known(self.switch.table(name), "table", name)
    }

    fn call(&self, table: Option<usize>, call: &Call) -> Result<ActionCall, Failed> {
        let action = self.switch.action(table, &call.action);
        Ok(ActionCall {
            action: known(action, "action", &call.action)?,
            args: call.args.iter().map(|a| BigUint::from_bytes_be(a)).collect(),
        })
    }

    fn profile(&self, name: &str) -> Result<usize, Failed> {
        known(self.switch.profile(name), "profile", name)
    }

    fn direct(&self, entry: &Entry) -> Result<&Direct, Failed> {
        let found = self.direct.iter().find(|(e, _)| e == entry);
        found.map(|(_, d)| d).ok_or_else(|| "the entry is gone".into())
    }

    fn cells(&self, array: usize, cell: Option<u64>) -> std::ops::Range<usize> {
        match cell {
            Some(cell) => {
                let cell = usize::try_from(cell).unwrap_or(usize::MAX - 1);
                cell..cell + 1
            }
            None => 0..(0..).take_while(|c| self.switch.meter(array, *c).is_some()).count(),
        }
    }
}

fn key(entry: &Entry) -> Vec<Match> {
    let part = |key: &Key| match key {
        Key::Exact(v) => Match::Exact(v.as_slice().into()),
        Key::Lpm(v, prefix) => Match::Lpm(v.as_slice().into(), *prefix),
        Key::Ternary(v, m) => Match::Ternary(v.as_slice().into(), m.as_slice().into()),
        Key::Range(low, high) => Match::Range(low.as_slice().into(), high.as_slice().into()),
    };
    entry.key.iter().map(part).collect()
}

fn replicas(replicas: &[Replica]) -> Vec<core::Replica> {
    let one = |r: &Replica| core::Replica {
        port: r.port,
        instance: r.rid as u16,
        backups: Box::default(),
    };
    replicas.iter().map(one).collect()
}

impl Target for Reference {
    fn add(&mut self, entry: &Entry) -> Result<(), Failed> {
        let table = self.table(&entry.table)?;
        let target = match &entry.action {
            Action::Call(call) => core::Target::Action(self.call(Some(table), call)?),
            Action::Member(id) => core::Target::Member(*id),
            Action::Group(id) => core::Target::Group(*id),
        };
        let direct = Direct::default();
        direct.last_hit_ns.store(self.now_ns, Ordering::Relaxed);
        let put = core::Entry::new(
            entry.priority,
            target,
            &direct.counter,
            &direct.meter,
            &direct.last_hit_ns,
        );
        self.switch.tables_mut().put(table, &key(entry), put);
        self.direct.push((entry.clone(), direct));
        Ok(())
    }

    fn remove(&mut self, entry: &Entry) -> Result<(), Failed> {
        let table = self.table(&entry.table)?;
        self.direct(entry)?;
        self.switch.tables_mut().remove(table, &key(entry), entry.priority);
        self.direct.retain(|(e, _)| e != entry);
        Ok(())
    }

    fn set_default(&mut self, table: &str, call: &Call) -> Result<(), Failed> {
        let table = self.table(table)?;
        let call = self.call(Some(table), call)?;
        self.switch.tables_mut().set_default(table, Some(call));
        Ok(())
    }

    fn member(&mut self, profile: &str, id: u32, call: &Call) -> Result<(), Failed> {
        let (profile, call) = (self.profile(profile)?, self.call(None, call)?);
        self.switch.tables_mut().set_member(profile, id, Some(call));
        Ok(())
    }

    fn group(&mut self, profile: &str, id: u32, members: &[(u32, Option<u32>)]) -> Result<(), Failed> {
        let profile = self.profile(profile)?;
        let group = core::Group {
            members: members.to_vec(),
        };
        self.switch.tables_mut().set_group(profile, id, Some(group));
        Ok(())
    }

    fn value_set(&mut self, set: &str, members: &[Vec<Vec<u8>>]) -> Result<(), Failed> {
        let at = known(self.switch.value_set(set), "value set", set)?;
        let members = members.iter().map(|m| m.concat().into()).collect();
        self.switch.tables_mut().set_value_set(at, members);
        Ok(())
    }

    fn multicast(&mut self, group: u32, copies: &[Replica]) -> Result<(), Failed> {
        self.switch.tables_mut().set_multicast(group, Some(replicas(copies)));
        Ok(())
    }

    fn mirror(&mut self, session: u32, copies: Option<&[Replica]>) -> Result<(), Failed> {
        let session_of = |r: &[Replica]| core::CloneSession {
            replicas: replicas(r),
            truncate_bytes: 0,
        };
        self.switch.tables_mut().set_clone(session, copies.map(session_of));
        Ok(())
    }

    fn port(&mut self, port: u32, up: bool) -> Result<(), Failed> {
        self.switch.tables_mut().set_port(port, up);
        Ok(())
    }

    fn counter(&mut self, counter: &str, cell: u64) -> Result<Count, Failed> {
        let array = known(self.switch.counter_array(counter), "counter", counter)?;
        let found = self.switch.counter(array, index(cell));
        let (packets, bytes) = known_cell(found, counter, cell)?.get();
        Ok(Count { packets, bytes })
    }

    fn set_counter(&mut self, counter: &str, cell: u64, count: Count) -> Result<(), Failed> {
        let array = known(self.switch.counter_array(counter), "counter", counter)?;
        let found = self.switch.counter(array, index(cell));
        known_cell(found, counter, cell)?.set(count.packets, count.bytes);
        Ok(())
    }

    fn direct_counter(&mut self, entry: &Entry) -> Result<Count, Failed> {
        let (packets, bytes) = self.direct(entry)?.counter.get();
        Ok(Count { packets, bytes })
    }

    fn meter(&mut self, meter: &str, cell: Option<u64>, rates: Rates) -> Result<(), Failed> {
        let array = known(self.switch.meter_array(meter), "meter", meter)?;
        for at in self.cells(array, cell) {
            let found = known_cell(self.switch.meter(array, at), meter, at)?;
            found.configure(Some(core_rates(rates)), self.now_ns);
        }
        Ok(())
    }

    fn direct_meter(&mut self, entry: &Entry, rates: Rates) -> Result<(), Failed> {
        self.direct(entry)?
            .meter
            .configure(Some(core_rates(rates)), self.now_ns);
        Ok(())
    }

    fn register(&mut self, register: &str, cell: u64) -> Result<Vec<u8>, Failed> {
        let array = known(self.switch.register_array(register), "register", register)?;
        let found = self.switch.register(array, index(cell));
        let (value, _) = known_cell(found, register, cell)?;
        Ok(value.to_bytes_be())
    }

    fn set_register(&mut self, register: &str, cell: u64, value: &[u8]) -> Result<(), Failed> {
        let array = known(self.switch.register_array(register), "register", register)?;
        let found = self.switch.register(array, index(cell));
        known_cell(found, register, cell)?;
        self.switch
            .set_register(array, index(cell), &BigUint::from_bytes_be(value));
        Ok(())
    }

    fn idle_ms(&mut self, entry: &Entry) -> Result<u64, Failed> {
        let last = self.direct(entry)?.last_hit_ns.load(Ordering::Relaxed);
        Ok(self.now_ns.saturating_sub(last) / 1_000_000)
    }

    fn wait(&mut self, ms: u64) -> Result<(), Failed> {
        self.now_ns = self.now_ns.saturating_add(ms.saturating_mul(1_000_000));
        Ok(())
    }

    fn packet(&mut self, port: u32, frame: &[u8]) -> Result<(), Failed> {
        self.now_ns += FRAME_NS;
        self.switch.process(port, frame, self.now_ns, &mut self.out);
        for output in self.out.drain(..) {
            match output {
                Output::Frame { port, data } => self.frames.push((port, data)),
                Output::Digest(id, fields) => {
                    let name = self
                        .digest_names
                        .get(&id)
                        .ok_or_else(|| format!("digest id {id} is unknown"))?;
                    self.digests.push((name.clone(), fields));
                }
            }
        }
        Ok(())
    }

    fn frames(&mut self) -> Result<Vec<(u32, Vec<u8>)>, Failed> {
        Ok(std::mem::take(&mut self.frames))
    }

    fn digests(&mut self) -> Result<Vec<(String, Vec<Vec<u8>>)>, Failed> {
        Ok(std::mem::take(&mut self.digests))
    }
}

fn core_rates(r: Rates) -> core::Rates {
    core::Rates {
        cir: r.cir.into(),
        cbs: r.cbs,
        pir: r.pir.into(),
        pbs: r.pbs,
    }
}
