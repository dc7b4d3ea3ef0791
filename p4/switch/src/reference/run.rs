//! A packet's way through the program, as simple_switch orders it: parse, verify
//! checksums, ingress; then clones, resubmission, replication or unicast; egress; then
//! clones, recirculation, update of checksums, deparse.

use std::sync::atomic::Ordering;

use super::bits::{self, Writer, mask};
use super::expr::Expr;
use super::hash::emit;
use super::phv::Phv;
use super::program::{Action, Case, Dest, Next, Node, ParserState, ParserStep, Pipeline, Select, Step};
use super::switch::{Replica, Switch, Tables};
use super::table::{ActionCall, Entry, Target};

/// Passes of one packet through the switch, its copies included: a program that resubmits
/// for ever ends here.
const MAX_PASSES: usize = 1024;
/// Steps of one parse: a parser that loops without reading ends here.
const MAX_STATES: usize = 512;

/// Steps of one action, and nodes of one pipeline, that a packet may take: P4 loops are
/// bounded, and one that is not ends here.
const MAX_STEPS: usize = 1 << 16;

/// Values of `instance_type`.
mod instance {
    pub(super) const NORMAL: u128 = 0;
    pub(super) const INGRESS_CLONE: u128 = 1;
    pub(super) const EGRESS_CLONE: u128 = 2;
    pub(super) const RECIRCULATED: u128 = 4;
    pub(super) const REPLICATED: u128 = 5;
    pub(super) const RESUBMITTED: u128 = 6;
}

/// What comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A frame leaves by a port; for the CPU port, a packet-in with its header.
    Frame {
        /// The port.
        port: u32,
        /// Its octets.
        data: Vec<u8>,
    },
    /// The program sent a digest: its id, and its fields padded to octets.
    Digest(u32, Vec<Vec<u8>>),
}

/// A packet that waits for its turn.
enum Job {
    /// For the parser: port, octets, kind, preserved fields.
    Ingress(u32, Vec<u8>, u128, Vec<(usize, u32, u128)>),
    /// For egress: what it is, port, replica number, kind.
    Egress(Box<Phv>, u32, u16, u128),
}

/// What an action asked for besides changes of the packet.
#[derive(Default)]
struct Wishes {
    clone: Option<(u32, Option<usize>)>,
    resubmit: Option<Option<usize>>,
    recirculate: Option<Option<usize>>,
    truncate: Option<usize>,
    digests: Vec<u32>,
    exit: bool,
}

/// One packet's run.
struct Run<'a> {
    switch: &'a Switch,
    tables: &'a Tables,
    now_ns: u64,
    jobs: Vec<Job>,
    out: &'a mut Vec<Output>,
    key: Vec<u8>,
    scratch: Vec<u8>,
    /// Octets of the packet that is being processed, for counters and meters.
    length: usize,
}

impl Switch {
    /// Runs a frame that came in by a port; what comes out is appended to `out`.
    pub fn process(&self, port: u32, frame: &[u8], now_ns: u64, out: &mut Vec<Output>) {
        self.process_with(&self.tables(), port, frame, now_ns, out);
    }

    /// The same with the state already locked, for a burst of frames.
    pub fn process_with(&self, tables: &Tables, port: u32, frame: &[u8], now_ns: u64, out: &mut Vec<Output>) {
        let jobs = vec![Job::Ingress(port, frame.to_vec(), instance::NORMAL, Vec::new())];
        let (key, scratch) = (Vec::with_capacity(64), Vec::with_capacity(64));
        let mut run = Run {
            switch: self,
            tables,
            now_ns,
            jobs,
            out,
            key,
            scratch,
            length: 0,
        };
        for _ in 0..MAX_PASSES {
            match run.jobs.pop() {
                Some(Job::Ingress(port, data, kind, preserved)) => run.ingress(port, data, kind, &preserved),
                Some(Job::Egress(phv, port, rid, kind)) => run.egress(*phv, port, rid, kind),
                None => return,
            }
        }
    }

    fn blank(&self) -> Phv {
        let p = &self.program;
        Phv {
            fields: vec![0; p.slots],
            valid: p.headers.iter().map(|h| h.metadata).collect(),
            variable: vec![Vec::new(); p.variables],
            stack_next: vec![0; p.stacks.len()],
            payload: Vec::new(),
            args: Vec::new(),
        }
    }

    fn set_standard(&self, phv: &mut Phv, name: &'static str, value: u128) {
        if let Some((slot, width)) = self.program.standard.get(name) {
            phv.set(slot, width, value);
        }
    }

    fn standard(&self, phv: &Phv, name: &'static str) -> u128 {
        self.program.standard.get(name).map_or(0, |(slot, _)| phv.get(slot))
    }
}

impl Run<'_> {
    fn ingress(&mut self, port: u32, data: Vec<u8>, kind: u128, preserved: &[(usize, u32, u128)]) {
        let switch = self.switch;
        let mut phv = switch.blank();
        self.length = data.len();
        self.enter(&mut phv, port, kind, preserved);
        self.parse(&mut phv, &data);
        self.verify(&mut phv);
        let mut wishes = Wishes::default();
        self.pipeline(&switch.program.ingress, &mut phv, &mut wishes);

        self.digests(&phv, &wishes.digests);
        if let Some((session, list)) = wishes.clone {
            self.clone_ingress(&phv, port, &data, session, list);
        }
        if let Some(list) = wishes.resubmit {
            let preserved = self.preserve(&phv, list);
            self.jobs
                .push(Job::Ingress(port, data, instance::RESUBMITTED, preserved));
            return;
        }
        if let Some(octets) = wishes.truncate {
            self.truncate(&mut phv, octets);
        }
        let group = switch.standard(&phv, "mcast_grp") as u32;
        if group != 0 {
            for replica in self.tables.multicast.get(&group).into_iter().flatten().rev() {
                let Some((port, rid)) = replica.live(&self.tables.ports_down) else {
                    continue;
                };
                self.jobs
                    .push(Job::Egress(Box::new(phv.clone()), port, rid, instance::REPLICATED));
            }
            return;
        }
        let spec = switch.standard(&phv, "egress_spec") as u32;
        if spec != switch.drop_port {
            self.jobs.push(Job::Egress(Box::new(phv), spec, 0, kind));
        }
    }

    /// Metadata of a packet that enters the parser.
    fn enter(&self, phv: &mut Phv, port: u32, kind: u128, preserved: &[(usize, u32, u128)]) {
        let switch = self.switch;
        for (slot, width, value) in preserved {
            phv.set(*slot, *width, *value);
        }
        switch.set_standard(phv, "ingress_port", port.into());
        switch.set_standard(phv, "packet_length", self.length as u128);
        switch.set_standard(phv, "instance_type", kind);
        switch.set_standard(phv, "ingress_global_timestamp", u128::from(self.now_ns / 1000));
        for cleared in ["egress_spec", "mcast_grp"] {
            switch.set_standard(phv, cleared, 0);
        }
    }

    fn egress(&mut self, mut phv: Phv, port: u32, rid: u16, kind: u128) {
        let switch = self.switch;
        switch.set_standard(&mut phv, "egress_port", port.into());
        switch.set_standard(&mut phv, "egress_rid", rid.into());
        switch.set_standard(&mut phv, "instance_type", kind);
        switch.set_standard(&mut phv, "egress_global_timestamp", u128::from(self.now_ns / 1000));
        // So that a drop in egress is seen; as port it has no meaning any more.
        switch.set_standard(&mut phv, "egress_spec", 0);
        let mut wishes = Wishes::default();
        self.pipeline(&switch.program.egress, &mut phv, &mut wishes);
        self.digests(&phv, &wishes.digests);
        if let Some((session, list)) = wishes.clone {
            self.clone_egress(&phv, session, list);
        }
        if switch.standard(&phv, "egress_spec") as u32 == switch.drop_port {
            return;
        }
        if let Some(octets) = wishes.truncate {
            self.truncate(&mut phv, octets);
        }
        let data = self.deparse(&mut phv);
        match wishes.recirculate {
            Some(list) => {
                let preserved = self.preserve(&phv, list);
                let port = switch.standard(&phv, "ingress_port") as u32;
                self.jobs
                    .push(Job::Ingress(port, data, instance::RECIRCULATED, preserved));
            }
            None => self.out.push(Output::Frame { port, data }),
        }
    }

    // Parser.

    fn parse(&self, phv: &mut Phv, data: &[u8]) {
        let mut at = 0;
        let mut state = self.switch.program.parser_start;
        let mut failed = None;
        for _ in 0..MAX_STATES {
            let Some(current) = state.and_then(|s| self.switch.program.states.get(s)) else {
                break;
            };
            match self.state(current, phv, data, &mut at) {
                Ok(next) => state = next,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        self.switch.set_standard(phv, "parser_error", failed.unwrap_or(0));
        phv.payload.extend_from_slice(data.get(at / 8..).unwrap_or_default());
    }

    fn state(&self, state: &ParserState, phv: &mut Phv, data: &[u8], at: &mut usize) -> Result<Next, u128> {
        let errors = &self.switch.program.errors;
        for step in &state.steps {
            self.parser_step(step, phv, data, at)?;
        }
        if state.cases.is_empty() {
            return Ok(None);
        }
        let mut values = [0u128; 16];
        for (value, select) in values.iter_mut().zip(&state.select) {
            *value = match select {
                Select::Value(expr, width) => expr.eval(phv, self.switch).bits & mask(*width),
                Select::Ahead(offset, width) => bits::read(data, *at + offset, *width).ok_or(errors.too_short)?,
            };
        }
        for (case, next) in &state.cases {
            let hit = match case {
                Case::Default => true,
                Case::Values(wanted) => wanted.iter().zip(&values).all(|((v, m), value)| value & m == *v),
                Case::ValueSet(set) => {
                    let mut key = Vec::new();
                    for (select, value) in state.select.iter().zip(&values) {
                        push_octets(&mut key, *value, select.width());
                    }
                    self.tables
                        .value_sets
                        .get(*set)
                        .is_some_and(|s| s.iter().any(|m| **m == *key))
                }
            };
            if hit {
                return Ok(*next);
            }
        }
        Err(errors.no_match)
    }

    fn parser_step(&self, step: &ParserStep, phv: &mut Phv, data: &[u8], at: &mut usize) -> Result<(), u128> {
        let errors = &self.switch.program.errors;
        let program = &self.switch.program;
        match step {
            ParserStep::Extract(h) => self.extract(*h, 0, phv, data, at)?,
            ParserStep::ExtractVariable(h, length) => {
                let bits = length.eval(phv, self.switch).bits;
                let bits = usize::try_from(bits).map_err(|_| errors.header_too_short)?;
                self.extract(*h, bits, phv, data, at)?;
            }
            ParserStep::ExtractNext(stack) => {
                let next = phv.stack_next.get(*stack).copied().unwrap_or(0);
                let header = program.stacks.get(*stack).and_then(|s| s.get(next));
                let header = *header.ok_or(errors.stack_out_of_bounds)?;
                self.extract(header, 0, phv, data, at)?;
                if let Some(n) = phv.stack_next.get_mut(*stack) {
                    *n += 1;
                }
            }
            ParserStep::Set(dest, expr) => {
                let value = expr.eval(phv, self.switch).bits;
                self.assign(dest, value, phv);
            }
            ParserStep::SetAhead(dest, offset, width) => {
                let value = bits::read(data, *at + offset, *width).ok_or(errors.too_short)?;
                self.assign(dest, value, phv);
            }
            ParserStep::Verify(condition, error) => {
                if !condition.holds(phv, self.switch) {
                    return Err(error.eval(phv, self.switch).bits);
                }
            }
            ParserStep::Advance(bits) => {
                let bits = usize::try_from(bits.eval(phv, self.switch).bits).map_err(|_| errors.too_short)?;
                let end = at.checked_add(bits).filter(|end| *end <= data.len() * 8);
                *at = end.ok_or(errors.too_short)?;
            }
            ParserStep::Do(step) => {
                let mut ignored = Wishes::default();
                self.step(step, phv, &mut ignored);
            }
        }
        Ok(())
    }

    fn extract(&self, header: usize, variable: usize, phv: &mut Phv, data: &[u8], at: &mut usize) -> Result<(), u128> {
        let program = &self.switch.program;
        let errors = &program.errors;
        let Some(h) = program.headers.get(header) else {
            return Ok(());
        };
        let fixed: usize = h
            .fields
            .iter()
            .filter(|f| f.variable.is_none())
            .map(|f| f.width as usize)
            .sum();
        let most = h
            .fields
            .iter()
            .find(|f| f.variable.is_some())
            .map_or(usize::MAX, |f| f.width as usize);
        if variable > most || !variable.is_multiple_of(8) {
            return Err(errors.header_too_short);
        }
        if *at + fixed + variable > data.len() * 8 {
            return Err(errors.too_short);
        }
        for field in &h.fields {
            match field.variable {
                Some(v) => {
                    let from = *at / 8;
                    if let Some(content) = phv.variable.get_mut(v) {
                        content.clear();
                        content.extend_from_slice(data.get(from..from + variable / 8).unwrap_or_default());
                    }
                    *at += variable;
                }
                None => {
                    let value = bits::read(data, *at, field.width).ok_or(errors.too_short)?;
                    phv.set(field.slot, field.width, value);
                    *at += field.width as usize;
                }
            }
        }
        phv.set_valid(&program.headers, header, true);
        Ok(())
    }

    // Checksums and deparser.

    fn verify(&self, phv: &mut Phv) {
        for c in self.switch.program.checksums.iter().filter(|c| c.verify) {
            if c.condition.as_ref().is_some_and(|e| !e.holds(phv, self.switch)) {
                continue;
            }
            let held = c.value.eval(phv, self.switch).bits;
            if self.calculate(c.calculation, phv) & dest_mask(&c.dest) != held {
                self.switch.set_standard(phv, "checksum_error", 1);
            }
        }
    }

    fn calculate(&self, calculation: usize, phv: &Phv) -> u128 {
        let c = self.switch.program.calculations.get(calculation);
        c.map_or(0, |c| c.run(&self.switch.program.headers, phv, self.switch))
    }

    fn deparse(&mut self, phv: &mut Phv) -> Vec<u8> {
        let program = &self.switch.program;
        for c in program.checksums.iter().filter(|c| c.update) {
            if c.condition.as_ref().is_none_or(|e| e.holds(phv, self.switch)) {
                let value = self.calculate(c.calculation, phv);
                self.assign(&c.dest, value, phv);
            }
        }
        let mut out = Writer::reuse(Vec::with_capacity(phv.payload.len() + 128));
        for header in &program.deparse {
            emit(&program.headers, phv, *header, &mut out);
        }
        out.write_bytes(&phv.payload);
        out.finish()
    }

    /// Cuts what will leave to so many octets.
    fn truncate(&mut self, phv: &mut Phv, octets: usize) {
        let program = &self.switch.program;
        let mut headers = Writer::default();
        for header in &program.deparse {
            emit(&program.headers, phv, *header, &mut headers);
        }
        phv.payload.truncate(octets.saturating_sub(headers.finish().len()));
    }

    // Control flow.

    fn pipeline(&mut self, pipeline: &Pipeline, phv: &mut Phv, wishes: &mut Wishes) {
        let mut next = pipeline.start;
        for _ in 0..MAX_STEPS {
            let Some(node) = next.and_then(|n| pipeline.nodes.get(n)) else {
                return;
            };
            next = match node {
                Node::Table(table) => self.table(*table, phv, wishes),
                Node::If(condition, yes, no) => {
                    if condition.holds(phv, self.switch) {
                        *yes
                    } else {
                        *no
                    }
                }
                Node::Call(action, next) => {
                    phv.args.clear();
                    self.action(*action, phv, wishes);
                    *next
                }
            };
            if wishes.exit {
                return;
            }
        }
    }

    fn table(&mut self, index: usize, phv: &mut Phv, wishes: &mut Wishes) -> Next {
        let (switch, tables) = (self.switch, self.tables);
        let table = switch.program.tables.get(index)?;
        self.key.clear();
        for part in &table.key {
            let value = part.expr.eval(phv, switch).bits & part.mask;
            push_octets(&mut self.key, value, part.field.width);
        }
        let entry = tables
            .entries
            .get(index)
            .and_then(|e| e.find(&self.key, &mut self.scratch));
        let default = tables.defaults.get(index);
        let (counter, meter) = match entry {
            Some(e) => (Some(&e.counter), Some(&e.meter)),
            None => (default.map(|d| &d.1), default.map(|d| &d.2)),
        };
        if let (Some(counter), true) = (counter, table.counts) {
            counter.count(self.length);
        }
        if let (Some(meter), Some((octets, dest))) = (meter, &table.meter) {
            let colour = meter.colour(if *octets { self.length as u64 } else { 1 }, self.now_ns);
            self.assign(dest, colour, phv);
        }
        if let Some(entry) = entry {
            entry.last_hit_ns.store(self.now_ns, Ordering::Relaxed);
        }
        let call = match entry {
            Some(entry) => self.resolve(entry, table.profile, phv),
            None => default.and_then(|d| d.0.as_ref()),
        };
        if let Some(call) = call {
            phv.args.clear();
            phv.args.extend_from_slice(&call.args);
            self.action(call.action, phv, wishes);
        }
        let by_hit = if entry.is_some() {
            table.next.hit
        } else {
            table.next.miss
        };
        let by_action = call.and_then(|c| table.next.by_action.get(&c.action).copied());
        by_hit.or(by_action).unwrap_or(table.next.base)
    }

    /// The action of an entry, through members and groups.
    fn resolve<'t>(&self, entry: &'t Entry, profile: Option<usize>, phv: &Phv) -> Option<&'t ActionCall>
    where
        Self: 't,
    {
        // The state outlives the run, as do entries, which are part of it.
        let tables: &'t Tables = self.tables;
        let is_up = |watch: &Option<u32>| watch.is_none_or(|port| !tables.ports_down.contains(&port));
        match &entry.target {
            Target::Action(call) => Some(call),
            Target::Member(id) => tables.members.get(profile?)?.get(id),
            Target::Group(id) => {
                let members = &tables.groups.get(profile?)?.get(id)?.members;
                let live: Vec<u32> = members.iter().filter(|(_, w)| is_up(w)).map(|(m, _)| *m).collect();
                let at = self.selected(profile?, phv, live.len())?;
                tables.members.get(profile?)?.get(live.get(at)?)
            }
            Target::OneShot(set) => {
                let live: Vec<&ActionCall> = set.iter().filter(|(_, w)| is_up(w)).map(|(c, _)| c).collect();
                live.get(self.selected(profile?, phv, live.len())?).copied()
            }
        }
    }

    /// Which of `count` members the selector's hash picks.
    fn selected(&self, profile: usize, phv: &Phv, count: usize) -> Option<usize> {
        let profile = self.switch.program.profiles.get(profile)?;
        let hash = profile
            .hash
            .as_ref()
            .map_or(0, |h| h.run(&self.switch.program.headers, phv, self.switch));
        (hash as usize).checked_rem(count)
    }

    fn action(&self, index: usize, phv: &mut Phv, wishes: &mut Wishes) {
        let Some(Action { steps, .. }) = self.switch.program.actions.get(index) else {
            return;
        };
        let mut at = 0;
        for _ in 0..MAX_STEPS {
            let Some(step) = steps.get(at) else { return };
            at = match step {
                Step::JumpIfZero(condition, to) if !condition.holds(phv, self.switch) => *to,
                Step::Jump(to) => *to,
                step => {
                    self.step(step, phv, wishes);
                    at + 1
                }
            };
            if wishes.exit {
                return;
            }
        }
    }

    fn step(&self, step: &Step, phv: &mut Phv, wishes: &mut Wishes) {
        let switch = self.switch;
        let headers = &switch.program.headers;
        let number = |e: &Expr, phv: &Phv| e.eval(phv, switch).bits;
        let cell = |e: &Expr, phv: &Phv| usize::try_from(number(e, phv)).unwrap_or(usize::MAX);
        match step {
            Step::Assign(dest, expr) => {
                let value = number(expr, phv);
                self.assign(dest, value, phv);
            }
            Step::AssignVariable(to, from) => {
                let content = phv.variable.get(*from).cloned().unwrap_or_default();
                if let Some(v) = phv.variable.get_mut(*to) {
                    *v = content;
                }
            }
            Step::SetValid(header, valid) => phv.set_valid(headers, *header, *valid),
            Step::CopyHeader(from, to) => phv.copy_header(headers, *from, *to),
            Step::CopyHeaders(pairs, from, to) => {
                pairs.iter().for_each(|(a, b)| phv.copy_header(headers, *a, *b));
                let next = phv.stack_next.get(*from).copied();
                if let (Some(next), Some(n)) = (next, phv.stack_next.get_mut(*to)) {
                    *n = next;
                }
            }
            Step::Push(stack, count) => self.shift(*stack, *count, true, phv),
            Step::Pop(stack, count) => self.shift(*stack, *count, false, phv),
            Step::MarkToDrop => {
                switch.set_standard(phv, "egress_spec", switch.drop_port.into());
                switch.set_standard(phv, "mcast_grp", 0);
            }
            Step::Count(array, index) => {
                if let Some(counter) = switch.counter(*array, cell(index, phv)) {
                    counter.count(self.length);
                }
            }
            Step::Meter(array, index, dest) => {
                let octets = switch.program.meters.get(*array).is_some_and(|m| m.2);
                let size = if octets { self.length as u64 } else { 1 };
                let meter = switch.meter(*array, cell(index, phv));
                let colour = meter.map_or(super::meter::GREEN, |m| m.colour(size, self.now_ns));
                self.assign(dest, colour, phv);
            }
            Step::RegisterRead(dest, array, index) => {
                let value = switch.register(*array, cell(index, phv)).map_or(0, |(v, _)| v);
                self.assign(dest, value, phv);
            }
            Step::RegisterWrite(array, index, value) => {
                switch.set_register(*array, cell(index, phv), number(value, phv));
            }
            Step::Hash(dest, base, calculation, size) => {
                let (base, size) = (number(base, phv), number(size, phv));
                let hash = self.calculate(*calculation, phv);
                let value = base.wrapping_add(hash.checked_rem(size).unwrap_or(0));
                self.assign(dest, value, phv);
            }
            Step::HashPlain(dest, calculation) => {
                let value = self.calculate(*calculation, phv);
                self.assign(dest, value, phv);
            }
            Step::Random(dest, low, high) => {
                let (low, high) = (number(low, phv), number(high, phv));
                let span = high.saturating_sub(low).saturating_add(1);
                self.assign(dest, low.saturating_add(u128::from(switch.next_random()) % span), phv);
            }
            Step::Digest(id) => wishes.digests.push(*id),
            Step::CloneIngress(session, list) | Step::CloneEgress(session, list) => {
                wishes.clone = Some((number(session, phv) as u32, *list));
            }
            Step::Resubmit(list) => wishes.resubmit = Some(*list),
            Step::Recirculate(list) => wishes.recirculate = Some(*list),
            Step::Truncate(octets) => wishes.truncate = Some(cell(octets, phv)),
            // A program that asserts what does not hold loses the packet, not the switch.
            Step::Assert(condition) => {
                if !condition.holds(phv, switch) {
                    switch.set_standard(phv, "egress_spec", switch.drop_port.into());
                    switch.set_standard(phv, "mcast_grp", 0);
                    wishes.exit = true;
                }
            }
            Step::Exit => wishes.exit = true,
            Step::JumpIfZero(..) | Step::Jump(_) | Step::Nothing => {}
        }
    }

    fn assign(&self, dest: &Dest, value: u128, phv: &mut Phv) {
        match dest {
            Dest::Field(slot, width) => phv.set(*slot, *width, value),
            Dest::Valid(header) => phv.set_valid(&self.switch.program.headers, *header, value != 0),
            Dest::StackLast(stack, slots, width) => {
                let next = phv.stack_next.get(*stack).copied().unwrap_or(0);
                if let Some(slot) = next.checked_sub(1).and_then(|i| slots.get(i)) {
                    phv.set(*slot, *width, value);
                }
            }
        }
    }

    /// Moves a stack's elements towards its end (push) or its start (pop).
    fn shift(&self, stack: usize, count: usize, push: bool, phv: &mut Phv) {
        let Some(elements) = self.switch.program.stacks.get(stack) else {
            return;
        };
        let headers = &self.switch.program.headers;
        let size = elements.len();
        let count = count.min(size);
        let order: Vec<usize> = if push {
            (0..size).rev().collect()
        } else {
            (0..size).collect()
        };
        for to in order {
            let from = if push {
                to.checked_sub(count)
            } else {
                Some(to + count).filter(|f| *f < size)
            };
            let (Some(target), source) = (elements.get(to), from.and_then(|f| elements.get(f))) else {
                continue;
            };
            match source {
                Some(source) => phv.copy_header(headers, *source, *target),
                None => {
                    for f in headers.get(*target).into_iter().flat_map(|h| &h.fields) {
                        phv.set(f.slot, f.width, 0);
                    }
                    phv.set_valid(headers, *target, false);
                }
            }
        }
        if let Some(next) = phv.stack_next.get_mut(stack) {
            *next = if push {
                (*next + count).min(size)
            } else {
                next.saturating_sub(count)
            };
        }
    }

    // Copies.

    fn preserve(&self, phv: &Phv, list: Option<usize>) -> Vec<(usize, u32, u128)> {
        let fields = list.and_then(|l| self.switch.program.field_lists.get(&l));
        fields
            .into_iter()
            .flatten()
            .map(|(slot, width)| (*slot, *width, phv.get(*slot)))
            .collect()
    }

    /// A copy of the packet as it came in, parsed again, for egress.
    fn clone_ingress(&mut self, phv: &Phv, port: u32, data: &[u8], session: u32, list: Option<usize>) {
        let Some(session) = self.tables.clones.get(&session) else {
            return;
        };
        let kept = if session.truncate_bytes == 0 {
            data.len()
        } else {
            data.len().min(session.truncate_bytes as usize)
        };
        let preserved = self.preserve(phv, list);
        let mut copy = self.switch.blank();
        self.enter(&mut copy, port, instance::INGRESS_CLONE, &preserved);
        self.parse(&mut copy, data.get(..kept).unwrap_or(data));
        self.copies(&copy, &session.replicas, instance::INGRESS_CLONE);
    }

    /// A copy of the packet as it leaves, for egress again.
    fn clone_egress(&mut self, phv: &Phv, session: u32, list: Option<usize>) {
        let Some(session) = self.tables.clones.get(&session) else {
            return;
        };
        let preserved = self.preserve(phv, list);
        let mut copy = phv.clone();
        for header in self.switch.program.headers.iter().filter(|h| h.metadata) {
            header.fields.iter().for_each(|f| copy.set(f.slot, f.width, 0));
        }
        self.enter(
            &mut copy,
            self.switch.standard(phv, "ingress_port") as u32,
            instance::EGRESS_CLONE,
            &preserved,
        );
        if session.truncate_bytes > 0 {
            self.truncate(&mut copy, session.truncate_bytes as usize);
        }
        self.copies(&copy, &session.replicas, instance::EGRESS_CLONE);
    }

    fn copies(&mut self, phv: &Phv, replicas: &[Replica], kind: u128) {
        for replica in replicas.iter().rev() {
            let Some((port, rid)) = replica.live(&self.tables.ports_down) else {
                continue;
            };
            self.jobs.push(Job::Egress(Box::new(phv.clone()), port, rid, kind));
        }
    }

    fn digests(&mut self, phv: &Phv, ids: &[u32]) {
        for id in ids {
            let Some((_, fields)) = self.switch.program.digests.get(id) else {
                continue;
            };
            let octets = |(expr, width): &(Expr, u32)| {
                let mut out = Vec::new();
                push_octets(&mut out, expr.eval(phv, self.switch).bits & mask(*width), *width);
                out
            };
            self.out.push(Output::Digest(*id, fields.iter().map(octets).collect()));
        }
    }
}

/// Appends a value, padded to whole octets.
fn push_octets(out: &mut Vec<u8>, value: u128, width: u32) {
    let octets = (width as usize).div_ceil(8);
    out.extend_from_slice(value.to_be_bytes().get(16 - octets.min(16)..).unwrap_or_default());
}

fn dest_mask(dest: &Dest) -> u128 {
    match dest {
        Dest::Field(_, width) | Dest::StackLast(_, _, width) => mask(*width),
        Dest::Valid(_) => 1,
    }
}
