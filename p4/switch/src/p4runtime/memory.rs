//! A target without a packet engine: holds programs, entities, counters and registers, forwards nothing.
//!
//! It is the fake for the server's tests, and for controllers where only the control plane matters.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustc_hash::FxHashMap;

use super::action::Call;
use super::bind::{Bound, bind};
use super::bytestring;
use super::device_config;
use super::entries::Entries;
use super::error::EntityError;
use super::info::Info;
use super::ports::PortNames;
use super::server::lock;
use super::state::State;
use super::streams::PuntCounters;
use super::target::{Cells, ColourCounts, CounterValue, Device, InitialEntry, Op, Owner, Target};

/// Most cells of one array; a program with more is refused.
const MAX_CELLS: usize = 1 << 22;

/// Packet-outs kept until a test reads them.
const MAX_FRAMES: usize = 1024;

/// A device that only stores state.
#[derive(Debug, Default)]
pub struct MemoryDevice {
    cpu_port: Option<u32>,
    ports: Arc<PortNames>,
    punted: Arc<PuntCounters>,
    frames: Mutex<Vec<Vec<u8>>>,
}

impl MemoryDevice {
    /// A device with these ports.
    pub fn new(cpu_port: Option<u32>, ports: BTreeMap<u32, String>) -> Self {
        Self {
            cpu_port,
            ports: Arc::new(PortNames::new(ports.into_iter().map(|(number, name)| (name, number)))),
            punted: Arc::default(),
            frames: Mutex::default(),
        }
    }

    /// Takes the frames that were sent out so far.
    pub fn take_frames(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut lock(&self.frames))
    }
}

impl Device for MemoryDevice {
    fn load(&self, info: &mut Info, device_config: &[u8]) -> Result<Box<dyn Target>, EntityError> {
        let program = device_config::program(device_config)?;
        let bound = bind(info, &program)?;
        let arrays = info
            .counters
            .iter()
            .chain(info.registers.iter().map(|register| &register.array));
        for array in arrays {
            if array.size > MAX_CELLS {
                return Err(EntityError::invalid(format!(
                    "{:?} has more than {MAX_CELLS} cells",
                    array.name
                )));
            }
        }
        Ok(Box::new(MemoryTarget::new(info, bound)))
    }

    fn cpu_port(&self) -> Option<u32> {
        self.cpu_port
    }

    fn ports(&self) -> Arc<PortNames> {
        Arc::clone(&self.ports)
    }

    fn punted(&self) -> Arc<PuntCounters> {
        Arc::clone(&self.punted)
    }

    fn packet_out(&self, frame: Vec<u8>) -> Result<(), EntityError> {
        if self.cpu_port.is_none() {
            return Err(EntityError::precondition("the switch has no CPU port"));
        }
        let mut frames = lock(&self.frames);
        if frames.len() >= MAX_FRAMES {
            return Err(EntityError::exhausted("the input queue is full"));
        }
        frames.push(frame);
        Ok(())
    }
}

/// Owner of a direct counter: an entry's id, or the default entry.
type DirectKey = (usize, Option<u32>);

struct MemoryTarget {
    bound: Bound,
    counters: Vec<Vec<CounterValue>>,
    direct: FxHashMap<DirectKey, CounterValue>,
    registers: Vec<Vec<Vec<u8>>>,
    /// When entries with an idle timeout were put in.
    inserted: FxHashMap<DirectKey, Instant>,
}

impl MemoryTarget {
    fn new(info: &Info, bound: Bound) -> Self {
        let registers = info.registers.iter().zip(&bound.register_bits);
        Self {
            counters: info
                .counters
                .iter()
                .map(|array| vec![CounterValue::default(); array.size])
                .collect(),
            registers: registers
                .map(|(register, bits)| vec![vec![0; bytestring::bytes(*bits)]; register.array.size])
                .collect(),
            direct: FxHashMap::default(),
            inserted: FxHashMap::default(),
            bound,
        }
    }

    fn touch(&mut self, state: &State, table: usize, id: u32) {
        let entry = state.tables.get(table).and_then(|table| table.entries.get(id));
        if entry.is_some_and(|entry| entry.idle_timeout_ns() > 0) {
            self.inserted.insert((table, Some(id)), Instant::now());
        }
    }
}

fn direct_key(table: usize, owner: Owner) -> DirectKey {
    match owner {
        Owner::Entry(id) => (table, Some(id)),
        Owner::Default => (table, None),
    }
}

fn fill<T: Clone>(array: &mut [T], cells: Cells, value: &T) {
    match cells {
        Cells::All => array.fill(value.clone()),
        Cells::One(cell) => {
            if let Some(place) = array.get_mut(cell) {
                *place = value.clone();
            }
        }
    }
}

impl Target for MemoryTarget {
    fn initial_entries(&self, table: usize) -> Vec<InitialEntry> {
        self.bound.entries.get(table).cloned().unwrap_or_default()
    }

    fn initial_default(&self, table: usize) -> Option<Call> {
        self.bound.defaults.get(table).cloned().flatten()
    }

    fn adopt(&mut self, _: usize, _: &Entries) {}

    fn apply(&mut self, state: &State, ops: Vec<Op>) -> Result<(), EntityError> {
        for op in ops {
            match op {
                Op::Insert { table, id } | Op::Modify { table, id } => self.touch(state, table, id),
                Op::Delete { table, id } => {
                    self.direct.remove(&(table, Some(id)));
                    self.inserted.remove(&(table, Some(id)));
                }
                Op::Counter { counter, cells, value } => fill(&mut self.counters[counter], cells, &value),
                Op::DirectCounter { table, owner, value } => {
                    self.direct.insert(direct_key(table, owner), value);
                }
                Op::Register { register, cells, value } => fill(&mut self.registers[register], cells, &value),
                Op::Default { .. }
                | Op::Member { .. }
                | Op::Group { .. }
                | Op::Multicast { .. }
                | Op::Clone { .. }
                | Op::ValueSet { .. }
                | Op::Meter { .. }
                | Op::DirectMeter { .. }
                // Without packets they are 0 and stay so.
                | Op::MeterColours { .. }
                | Op::DirectMeterColours { .. } => {}
            }
        }
        Ok(())
    }

    fn counter(&self, counter: usize, cell: usize) -> CounterValue {
        self.counters
            .get(counter)
            .and_then(|array| array.get(cell))
            .copied()
            .unwrap_or_default()
    }

    fn direct_counter(&self, table: usize, owner: Owner) -> CounterValue {
        self.direct.get(&direct_key(table, owner)).copied().unwrap_or_default()
    }

    fn meter_colours(&self, _: usize, _: usize) -> ColourCounts {
        ColourCounts::default()
    }

    fn direct_meter_colours(&self, _: usize, _: Owner) -> ColourCounts {
        ColourCounts::default()
    }

    fn register(&self, register: usize, cell: usize) -> Vec<u8> {
        self.registers
            .get(register)
            .and_then(|array| array.get(cell))
            .cloned()
            .unwrap_or_default()
    }

    fn since_last_hit_ns(&self, table: usize, id: u32) -> u64 {
        let inserted = self.inserted.get(&(table, Some(id)));
        inserted.map_or(0, |at| u64::try_from(at.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn activate(&mut self) {}
}
