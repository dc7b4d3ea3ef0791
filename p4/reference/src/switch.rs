//! A loaded program with its forwarding state, as control planes see it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rustc_hash::FxHashMap;

use num_bigint::{BigInt, BigUint};
use num_traits::ToPrimitive;

use crate::expr::World;
use crate::lower::{LowerError, lower};
use crate::meter::Meter;
use crate::phv::Header;
use crate::program::Program;
use crate::table::{ActionCall, Counter, Entries, Entry, Match};

/// A group of a selector.
#[derive(Debug, Clone, Default)]
pub struct Group {
    /// Members, each repeated as often as its weight says, with the port that must be up for it, if any.
    pub members: Vec<(u32, Option<u32>)>,
}

/// One copy of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// Port on which it leaves.
    pub port: u32,
    /// Its `egress_rid`.
    pub instance: u16,
    /// Ports and `egress_rid`s to use instead, best first, while the ones before are down.
    pub backups: Box<[(u32, u16)]>,
}

impl Replica {
    /// The port and `egress_rid` to use now. For a replica with backups, the first whose port is up, or none.
    pub(super) fn live(&self, ports_down: &std::collections::HashSet<u32>) -> Option<(u32, u16)> {
        let first = (self.port, self.instance);
        if self.backups.is_empty() {
            return Some(first);
        }
        let all = std::iter::once(first).chain(self.backups.iter().copied());
        all.into_iter().find(|(port, _)| !ports_down.contains(port))
    }
}

/// Where mirrored packets go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CloneSession {
    /// Copies.
    pub replicas: Vec<Replica>,
    /// Octets that are kept; 0 keeps all.
    pub truncate_bytes: u32,
}

/// The state that writers change and packets read.
#[derive(Debug)]
pub struct Tables {
    pub(super) entries: Vec<Entries>,
    /// Default action of each table, with its counter and meter.
    pub(super) defaults: Vec<(Option<ActionCall>, Arc<Counter>, Arc<Meter>)>,
    pub(super) members: Vec<FxHashMap<u32, ActionCall>>,
    pub(super) groups: Vec<FxHashMap<u32, Group>>,
    pub(super) multicast: FxHashMap<u32, Vec<Replica>>,
    pub(super) clones: FxHashMap<u32, CloneSession>,
    pub(super) value_sets: Vec<Vec<Box<[u8]>>>,
    /// Ports that do not carry traffic, so that selectors leave their members out.
    pub(super) ports_down: std::collections::HashSet<u32>,
}

impl Tables {
    /// Inserts an entry. It may take over `counter` and the like from the entry that it replaces.
    pub fn put(&mut self, table: usize, key: &[Match], entry: Entry) {
        if let Some(t) = self.entries.get_mut(table) {
            t.put(key, entry);
        }
    }

    /// Removes an entry.
    pub fn remove(&mut self, table: usize, key: &[Match], priority: i32) {
        if let Some(t) = self.entries.get_mut(table) {
            t.remove(key, priority);
        }
    }

    /// Sets a table's default action.
    pub fn set_default(&mut self, table: usize, call: Option<ActionCall>) {
        if let Some(t) = self.defaults.get_mut(table) {
            t.0 = call;
        }
    }

    /// Counter and meter of a table's default entry.
    pub fn default_counter(&self, table: usize) -> Option<(&Arc<Counter>, &Arc<Meter>)> {
        self.defaults.get(table).map(|(_, c, m)| (c, m))
    }

    /// Sets or removes a member of a profile.
    pub fn set_member(&mut self, profile: usize, id: u32, call: Option<ActionCall>) {
        set(self.members.get_mut(profile), id, call);
    }

    /// Sets or removes a group of a selector.
    pub fn set_group(&mut self, profile: usize, id: u32, group: Option<Group>) {
        set(self.groups.get_mut(profile), id, group);
    }

    /// Sets or removes a multicast group.
    pub fn set_multicast(&mut self, id: u32, replicas: Option<Vec<Replica>>) {
        set(Some(&mut self.multicast), id, replicas);
    }

    /// Sets or removes a clone session.
    pub fn set_clone(&mut self, id: u32, session: Option<CloneSession>) {
        set(Some(&mut self.clones), id, session);
    }

    /// Sets all members of a value set, as packed values.
    pub fn set_value_set(&mut self, index: usize, members: Vec<Box<[u8]>>) {
        if let Some(v) = self.value_sets.get_mut(index) {
            *v = members;
        }
    }

    /// Notes whether a port carries traffic.
    pub fn set_port(&mut self, port: u32, up: bool) {
        if up {
            self.ports_down.remove(&port);
        } else {
            self.ports_down.insert(port);
        }
    }
}

fn set<T>(map: Option<&mut FxHashMap<u32, T>>, id: u32, value: Option<T>) {
    if let Some(map) = map {
        match value {
            Some(value) => map.insert(id, value),
            None => map.remove(&id),
        };
    }
}

/// A loaded program with its state.
pub struct Switch {
    pub(super) program: Program,
    tables: RwLock<Tables>,
    pub(super) counters: Vec<Vec<Counter>>,
    pub(super) meters: Vec<Vec<Meter>>,
    pub(super) registers: Vec<Mutex<Vec<BigUint>>>,
    /// Port for packet-in and packet-out. Packets that leave on it go to the control plane.
    pub cpu_port: Option<u32>,
    /// The port that means "drop".
    pub drop_port: u32,
    pub(super) random: AtomicU64,
}

impl Switch {
    /// Loads a program: BMv2 JSON as text.
    ///
    /// # Errors
    /// Not JSON of that format (with the path), or something in it cannot be run.
    pub fn new(
        json: &[u8],
        cpu_port: Option<u32>,
        drop_port: u32,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self::from_program(
            &bmv2_json::Program::from_slice(json)?,
            cpu_port,
            drop_port,
        )?)
    }

    /// Loads a program that was read already.
    ///
    /// # Errors
    /// Something in it cannot be run.
    pub fn from_program(json: &bmv2_json::Program, cpu_port: Option<u32>, drop_port: u32) -> Result<Self, LowerError> {
        let program = lower(json)?;
        let entries = program
            .tables
            .iter()
            .map(|t| Entries::new(t.key.iter().map(|k| k.field).collect()));
        let profiles = program.profiles.len();
        let tables = Tables {
            entries: entries.collect(),
            defaults: program.tables.iter().map(|_| Default::default()).collect(),
            members: vec![FxHashMap::default(); profiles],
            groups: vec![FxHashMap::default(); profiles],
            multicast: FxHashMap::default(),
            clones: FxHashMap::default(),
            value_sets: vec![Vec::new(); program.value_sets.len()],
            ports_down: Default::default(),
        };
        let mut tables = tables;
        for (table, found) in json.pipelines.iter().flat_map(|p| &p.tables).enumerate() {
            let Some(default) = &found.default_entry else { continue };
            let action = json.actions.iter().position(|a| a.id == default.action_id);
            let args = default
                .action_data
                .iter()
                .map(|d| BigUint::from_bytes_be(&d.bytes()))
                .collect();
            tables.set_default(table, action.map(|action| ActionCall { action, args }));
        }
        let many = |cells: usize| (0..cells).map(|_| Counter::default()).collect();
        Ok(Self {
            counters: program.counters.iter().map(|(_, cells)| many(*cells)).collect(),
            meters: program
                .meters
                .iter()
                .map(|(_, cells, _)| (0..*cells).map(|_| Meter::default()).collect())
                .collect(),
            registers: program
                .registers
                .iter()
                .map(|(_, cells, _)| Mutex::new(vec![BigUint::ZERO; *cells]))
                .collect(),
            tables: RwLock::new(tables),
            cpu_port,
            drop_port,
            random: AtomicU64::new(0x9e37_79b9_7f4a_7c15),
            program,
        })
    }

    /// The state, to read; writers wait.
    pub fn tables(&self) -> RwLockReadGuard<'_, Tables> {
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, to change; packets see all of the changes or none.
    pub fn tables_mut(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Index of a table by its name.
    pub fn table(&self, name: &str) -> Option<usize> {
        Program::find(&self.program.tables, |t| &t.name, name)
    }

    /// Index of an action by its name. Several may share one; `table` picks the right one.
    pub fn action(&self, table: Option<usize>, name: &str) -> Option<usize> {
        let of_table = table.and_then(|t| self.program.tables.get(t)).and_then(|t| {
            t.next
                .by_action
                .keys()
                .copied()
                .find(|a| self.program.actions.get(*a).is_some_and(|a| a.name == name))
        });
        of_table.or_else(|| Program::find(&self.program.actions, |a| &a.name, name))
    }

    /// Widths of an action's parameters, in bits.
    pub fn parameters(&self, action: usize) -> &[u32] {
        self.program.actions.get(action).map_or(&[], |a| &a.widths)
    }

    /// Index of an action profile by its name.
    pub fn profile(&self, name: &str) -> Option<usize> {
        Program::find(&self.program.profiles, |p| &p.name, name)
    }

    /// Index of a counter array by its name.
    pub fn counter_array(&self, name: &str) -> Option<usize> {
        Program::find(&self.program.counters, |c| &c.0, name)
    }

    /// Index of a meter array by its name.
    pub fn meter_array(&self, name: &str) -> Option<usize> {
        Program::find(&self.program.meters, |m| &m.0, name)
    }

    /// Index of a register array by its name.
    pub fn register_array(&self, name: &str) -> Option<usize> {
        Program::find(&self.program.registers, |r| &r.0, name)
    }

    /// Index of a value set by its name.
    pub fn value_set(&self, name: &str) -> Option<usize> {
        Program::find(&self.program.value_sets, |v| v, name)
    }

    /// Id of a digest by the name of its list.
    pub fn digest(&self, name: &str) -> Option<u32> {
        self.program
            .digests
            .iter()
            .find(|(_, (n, _))| n == name)
            .map(|(id, _)| *id)
    }

    /// A counter cell.
    pub fn counter(&self, array: usize, cell: usize) -> Option<&Counter> {
        self.counters.get(array)?.get(cell)
    }

    /// A meter cell.
    pub fn meter(&self, array: usize, cell: usize) -> Option<&Meter> {
        self.meters.get(array)?.get(cell)
    }

    /// Reads a register cell, and its width in bits.
    pub fn register(&self, array: usize, cell: usize) -> Option<(BigUint, u32)> {
        let width = self.program.registers.get(array)?.2;
        let cells = self
            .registers
            .get(array)?
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Some((cells.get(cell)?.clone(), width))
    }

    /// Writes a register cell; one beyond the end is left alone.
    pub fn set_register(&self, array: usize, cell: usize, value: &BigUint) {
        let width = self.program.registers.get(array).map_or(0, |r| r.2);
        let Some(cells) = self.registers.get(array) else { return };
        if let Some(c) = cells.lock().unwrap_or_else(PoisonError::into_inner).get_mut(cell) {
            *c = value & super::bits::ones(width);
        }
    }

    /// A pseudorandom number, good enough for programs (xorshift64*).
    pub(super) fn next_random(&self) -> u64 {
        let step = |mut x: u64| {
            x ^= x >> 12;
            x ^= x << 25;
            x ^ x >> 27
        };
        let before = self
            .random
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |x| Some(step(x)));
        step(before.unwrap_or_else(|x| x)).wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

impl World for Switch {
    fn headers(&self) -> &[Header] {
        &self.program.headers
    }

    fn register(&self, array: usize, cell: &BigInt) -> BigUint {
        let cell = cell.to_usize().and_then(|c| Switch::register(self, array, c));
        cell.map_or(BigUint::ZERO, |(v, _)| v)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_falls_back_to_the_first_port_that_is_up() {
        let replica = Replica {
            port: 1,
            instance: 7,
            backups: [(2, 8), (3, 9)].into(),
        };
        let live = |down: &[u32]| replica.live(&down.iter().copied().collect());
        assert_eq!(live(&[]), Some((1, 7)));
        assert_eq!(live(&[1]), Some((2, 8)));
        assert_eq!(live(&[1, 2]), Some((3, 9)));
        assert_eq!(live(&[1, 2, 3]), None);
        let alone = Replica {
            backups: Box::default(),
            ..replica.clone()
        };
        assert_eq!(
            alone.live(&[1].into()),
            Some((1, 7)),
            "without backups the port decides"
        );
    }
}
