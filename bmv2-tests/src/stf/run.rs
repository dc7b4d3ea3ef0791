//! Runs a script on a target and reports what differed from its expectations.

use std::collections::{BTreeMap, HashMap, VecDeque};

use num_bigint::BigUint;

use super::command::{Cell, Command, Compare, CountType, Rate, Script};
use super::names::{Names, padded};
use super::pattern::{Pattern, hex};
use super::pre::Pre;
use super::target::{Count, Entry, Rates, Target};

/// Which ports of a switch a script covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// The ports that the script names in `packet` and `expect`. Frames on other ports are ignored, as in p4c's runner.
    Named,
    /// Every port: all frames that leave must be expected.
    All,
}

/// Runs a script.
///
/// # Errors
/// What differs from the script's expectations, or cannot be done; each begins with file and line.
pub fn run(script: &Script, names: &Names, target: &mut dyn Target, ports: Ports) -> Result<(), Vec<String>> {
    let mut run = Run {
        names,
        target,
        pre: Pre::default(),
        added: Vec::new(),
        aliases: HashMap::new(),
        value_sets: HashMap::new(),
        expected: BTreeMap::new(),
        received: BTreeMap::new(),
        digests: VecDeque::new(),
        silent: false,
    };
    let mut failures = Vec::new();
    let place = |line: usize, what: String| format!("{}:{line}: {what}", script.file);
    for statement in &script.statements {
        if let Err(what) = run.command(statement.line, &statement.command) {
            failures.push(place(statement.line, what));
        }
    }
    if let Err(what) = run.receive() {
        failures.push(format!("{}: {what}", script.file));
    }
    failures.extend(run.compare(ports).into_iter().map(|(line, what)| match line {
        Some(line) => place(line, what),
        None => format!("{}: {what}", script.file),
    }));
    if failures.is_empty() { Ok(()) } else { Err(failures) }
}

struct Run<'a> {
    names: &'a Names,
    target: &'a mut dyn Target,
    pre: Pre,
    added: Vec<Entry>,
    aliases: HashMap<String, Entry>,
    value_sets: HashMap<String, Vec<Vec<Vec<u8>>>>,
    /// By port, in order: the line, and the pattern for the frame.
    expected: BTreeMap<u32, Vec<(usize, Option<Pattern>)>>,
    /// Frames that left, by port. A port that is named has a list, perhaps empty.
    received: BTreeMap<u32, Vec<Vec<u8>>>,
    digests: VecDeque<(String, Vec<Vec<u8>>)>,
    /// The script says that nothing else leaves.
    silent: bool,
}

impl Run<'_> {
    fn command(&mut self, line: usize, command: &Command) -> Result<(), String> {
        match command {
            Command::Add {
                table,
                priority,
                key,
                action,
                alias,
            } => {
                let entry = self.names.entry(table, *priority, key, action)?;
                self.target.add(&entry)?;
                if let Some(alias) = alias {
                    self.aliases.insert(alias.clone(), entry.clone());
                }
                self.added.push(entry);
            }
            Command::RemoveAll => {
                for entry in std::mem::take(&mut self.added) {
                    self.target.remove(&entry)?;
                }
            }
            Command::Remove(alias) => {
                let entry = self.entry(alias)?.clone();
                self.target.remove(&entry)?;
                self.added.retain(|e| *e != entry);
            }
            Command::SetDefault { table, call } => {
                let table = self.names.table(table)?;
                let call = self.names.call(table, call)?;
                self.target.set_default(&table.name, &call)?;
            }
            Command::Packet { port, data } => {
                self.expected.entry(*port).or_default();
                self.target.packet(*port, data)?;
            }
            Command::Expect { port, pattern } => {
                self.expected.entry(*port).or_default().push((line, pattern.clone()));
            }
            Command::NoPacket => self.silent = true,
            Command::Wait { ms } => self.target.wait(*ms)?,
            Command::PortState { port, up } => self.target.port(*port, *up)?,
            Command::Member { profile, id, call } => {
                let profile = self.names.profile(profile)?;
                self.target
                    .member(profile, *id, &self.names.member_call(profile, call)?)?;
            }
            Command::Group { profile, id, members } => {
                self.target.group(self.names.profile(profile)?, *id, members)?;
            }
            Command::ValueSetAdd { set, values } => {
                let (name, member) = self.names.value_set(set, values)?;
                let members = self.value_sets.entry(name.to_owned()).or_default();
                members.push(member);
                self.target.value_set(name, members)?;
            }
            Command::ExpectDigest { digest, fields } => {
                let fields: Vec<&BigUint> = fields.iter().map(|f| &f.value).collect();
                self.expect_digest(digest, &fields)?;
            }
            Command::Print => {}
            Command::MirroringAdd { .. }
            | Command::MirroringAddMulticast { .. }
            | Command::MirroringDelete { .. }
            | Command::GroupCreate { .. }
            | Command::NodeCreate { .. }
            | Command::NodeUpdate { .. }
            | Command::NodeAssociate { .. } => self.replication(command)?,
            _ => self.state(command)?,
        }
        Ok(())
    }

    fn replication(&mut self, command: &Command) -> Result<(), String> {
        match command {
            Command::MirroringAdd { session, port } => self.pre.mirror_port(*session, *port),
            Command::MirroringAddMulticast { session, group } => self.pre.mirror_group(*session, *group),
            Command::MirroringDelete { session } => {
                self.pre.delete_mirror(*session);
                self.target.mirror(*session, None)?;
            }
            Command::GroupCreate { group } => self.pre.create_group(*group),
            Command::NodeCreate { rid, ports } => self.pre.create_node(*rid, ports.clone()),
            Command::NodeUpdate { node, ports } => self.pre.update_node(*node, ports.clone())?,
            Command::NodeAssociate { group, node } => self.pre.associate(*group, *node)?,
            _ => {}
        }
        // There are few of both, so it does no harm to send unchanged ones again.
        for (group, replicas) in self.pre.groups() {
            self.target.multicast(group, &replicas)?;
        }
        for (session, replicas) in self.pre.mirrors() {
            self.target.mirror(session, Some(&replicas))?;
        }
        Ok(())
    }

    /// Counters, meters, registers, idle time.
    fn state(&mut self, command: &Command) -> Result<(), String> {
        match command {
            Command::CheckCounter { counter, cell, check } => {
                let (name, table) = self.names.counter(counter)?;
                let count = match (cell, table) {
                    (Cell::Index(cell), None) => self.target.counter(name, *cell)?,
                    (Cell::Alias(alias), Some(_)) => {
                        let entry = self.entry(alias)?.clone();
                        self.target.direct_counter(&entry)?
                    }
                    (Cell::Index(_), Some(table)) => {
                        return Err(format!("{name} is direct: name an entry of {table}, not an index"));
                    }
                    (Cell::Alias(_), None) => return Err(format!("{name} is an array: give an index")),
                };
                if let Some((kind, compare, wanted)) = check {
                    let found = match kind {
                        CountType::Bytes => count.bytes,
                        CountType::Packets => count.packets,
                    };
                    holds(*compare, &found, wanted)?;
                }
            }
            Command::CounterWrite {
                counter,
                cell,
                bytes,
                packets,
            } => {
                let (name, _) = self.names.counter(counter)?;
                self.target.set_counter(
                    name,
                    *cell,
                    Count {
                        packets: *packets,
                        bytes: *bytes,
                    },
                )?;
            }
            Command::RegisterWrite { register, cell, value } => {
                let (name, _, width) = self.names.register(register)?;
                self.target.set_register(name, *cell, &padded(&value.value, width))?;
            }
            Command::RegisterReset { register } => {
                let (name, cells, width) = self.names.register(register)?;
                for cell in 0..cells {
                    self.target
                        .set_register(name, cell.into(), &padded(&BigUint::ZERO, width))?;
                }
            }
            Command::CheckRegister {
                register,
                cell,
                compare,
                value,
            } => {
                let (name, ..) = self.names.register(register)?;
                let found = BigUint::from_bytes_be(&self.target.register(name, *cell)?);
                holds(*compare, &found, &value.value)?;
            }
            Command::MeterSetRates { meter, cell, rates } => {
                let name = self.names.meter(meter)?;
                self.target.meter(name, *cell, two_rates(rates)?)?;
            }
            Command::DirectMeterSetRates { alias, rates } => {
                let entry = self.entry(alias)?.clone();
                self.target.direct_meter(&entry, two_rates(rates)?)?;
            }
            Command::CheckIdle { alias, compare, ms } => {
                let entry = self.entry(alias)?.clone();
                holds(*compare, &self.target.idle_ms(&entry)?, ms)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn entry(&self, alias: &str) -> Result<&Entry, String> {
        self.aliases
            .get(alias)
            .ok_or_else(|| format!("no entry was named {alias}"))
    }

    fn expect_digest(&mut self, digest: &str, wanted: &[&BigUint]) -> Result<(), String> {
        let name = self.names.digest(digest)?;
        self.digests.extend(self.target.digests()?);
        let at = self.digests.iter().position(|(n, _)| n == name);
        let (_, fields) = at
            .and_then(|at| self.digests.remove(at))
            .ok_or_else(|| format!("no digest {name} was sent"))?;
        let found: Vec<BigUint> = fields.iter().map(|f| BigUint::from_bytes_be(f)).collect();
        if found.iter().collect::<Vec<_>>() == wanted {
            Ok(())
        } else {
            Err(format!("the digest has {found:x?}, not {wanted:x?}"))
        }
    }

    fn receive(&mut self) -> Result<(), String> {
        for (port, frame) in self.target.frames()? {
            self.received.entry(port).or_default().push(frame);
        }
        Ok(())
    }

    /// Compares the frames that left with the expected ones, port by port.
    fn compare(&self, ports: Ports) -> Vec<(Option<usize>, String)> {
        let mut wrong = Vec::new();
        let every = ports == Ports::All || self.silent;
        for (port, frames) in &self.received {
            if every && !self.expected.contains_key(port) {
                let shown: Vec<String> = frames.iter().map(|f| hex(f)).collect();
                wrong.push((None, format!("port {port}: not expected: {}", shown.join(", "))));
            }
        }
        for (port, expected) in &self.expected {
            let received = self.received.get(port).map_or(&[][..], Vec::as_slice);
            for (at, (line, pattern)) in expected.iter().enumerate() {
                let Some(frame) = received.get(at) else {
                    wrong.push((Some(*line), format!("port {port}: no frame")));
                    continue;
                };
                if let Some(Err(what)) = pattern.as_ref().map(|p| p.check(frame)) {
                    wrong.push((Some(*line), format!("port {port}, frame {at}: {what}")));
                }
            }
            for frame in received.get(expected.len()..).unwrap_or_default() {
                wrong.push((None, format!("port {port}: not expected: {}", hex(frame))));
            }
        }
        wrong
    }
}

fn holds<T: PartialOrd + std::fmt::Display>(compare: Compare, found: &T, wanted: &T) -> Result<(), String> {
    if compare.holds(found, wanted) {
        Ok(())
    } else {
        Err(format!("it is {found}, which is not {compare:?} {wanted}"))
    }
}

/// Committed and peak rate; scripts give both.
fn two_rates(rates: &[Rate]) -> Result<Rates, String> {
    match rates {
        [committed, peak] => Ok(Rates {
            cir: committed.millionths,
            cbs: committed.burst,
            pir: peak.millionths,
            pbs: peak.burst,
        }),
        _ => Err(format!("two rates are expected, not {}", rates.len())),
    }
}
