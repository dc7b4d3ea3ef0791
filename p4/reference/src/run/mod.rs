//! A packet's path through the program, in simple_switch's order: parse, verify checksums, ingress; then clones,
//! resubmission, replication or unicast; egress; then clones, recirculation, update of checksums, deparse.

mod action;
mod parser;

use std::sync::atomic::Ordering;

use num_bigint::{BigInt, BigUint};
use num_traits::ToPrimitive;

use crate::bits::{Writer, cut, octets};
use crate::hash::emit;
use crate::phv::Phv;
use crate::program::{Dest, Next, Node, Pipeline};
use crate::switch::{Replica, Switch, Tables};
use crate::table::{ActionCall, Entry, Target};

/// Most passes of one packet through the switch, its copies included: this ends a program
/// that resubmits for ever.
const MAX_PASSES: usize = 1024;
/// Most steps of one action, and most nodes of one pipeline, that a packet may take. P4
/// loops are bounded; this ends a loop that is not.
const MAX_STEPS: usize = 1 << 16;

/// Values of `instance_type`.
mod instance {
    pub(super) const NORMAL: u32 = 0;
    pub(super) const INGRESS_CLONE: u32 = 1;
    pub(super) const EGRESS_CLONE: u32 = 2;
    pub(super) const RECIRCULATED: u32 = 4;
    pub(super) const REPLICATED: u32 = 5;
    pub(super) const RESUBMITTED: u32 = 6;
}

/// The output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A frame leaves on a port; on the CPU port it is a packet-in with its header.
    Frame {
        /// The port.
        port: u32,
        /// Its octets.
        data: Vec<u8>,
    },
    /// The program sent a digest: its id, and its fields padded to octets.
    Digest(u32, Vec<Vec<u8>>),
}

/// Fields that a copy keeps: slot, width, value.
type Preserved = Vec<(usize, u32, BigUint)>;

/// A packet that waits for its turn.
enum Job {
    /// A packet for the parser: port, octets, kind, preserved fields.
    Ingress(u32, Vec<u8>, u32, Preserved),
    /// A packet for egress: the packet, its port, replica number and kind.
    Egress(Box<Phv>, u32, u16, u32),
}

/// What an action requests besides changes to the packet.
#[derive(Default)]
struct Wishes {
    clone: Option<(u32, Option<usize>)>,
    resubmit: Option<Option<usize>>,
    recirculate: Option<Option<usize>>,
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
    /// Runs a frame that arrived on a port; appends the output to `out`.
    pub fn process(&self, port: u32, frame: &[u8], now_ns: u64, out: &mut Vec<Output>) {
        self.process_with(&self.tables(), port, frame, now_ns, out);
    }

    /// As [`Self::process`], with the state already locked, for a burst of frames.
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
            fields: vec![BigUint::ZERO; p.slots],
            valid: p.headers.iter().map(|h| h.metadata).collect(),
            variable: vec![Vec::new(); p.variables],
            stack_next: vec![0; p.stacks.len()],
            payload: Vec::new(),
            truncated: usize::MAX,
            args: Vec::new(),
        }
    }

    fn set_standard(&self, phv: &mut Phv, name: &'static str, value: impl Into<BigInt>) {
        if let Some((slot, width)) = self.program.standard.get(name) {
            phv.set(slot, width, &value.into());
        }
    }

    fn standard(&self, phv: &Phv, name: &'static str) -> u32 {
        let found = self
            .program
            .standard
            .get(name)
            .and_then(|(slot, _)| phv.get(slot).to_u32());
        found.unwrap_or(0)
    }
}

impl Run<'_> {
    fn ingress(&mut self, port: u32, data: Vec<u8>, kind: u32, preserved: &Preserved) {
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
        let group = switch.standard(&phv, "mcast_grp");
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
        let spec = switch.standard(&phv, "egress_spec");
        if spec != switch.drop_port {
            // The kind is `NORMAL` however the packet arrived: in egress only copies have another kind.
            self.jobs.push(Job::Egress(Box::new(phv), spec, 0, instance::NORMAL));
        }
    }

    /// Metadata of a packet that enters the parser.
    fn enter(&self, phv: &mut Phv, port: u32, kind: u32, preserved: &Preserved) {
        let switch = self.switch;
        for (slot, width, value) in preserved {
            phv.set(*slot, *width, &value.clone().into());
        }
        switch.set_standard(phv, "ingress_port", port);
        switch.set_standard(phv, "packet_length", self.length);
        switch.set_standard(phv, "instance_type", kind);
        switch.set_standard(phv, "ingress_global_timestamp", self.now_ns / 1000);
        for cleared in ["egress_spec", "mcast_grp"] {
            switch.set_standard(phv, cleared, 0u8);
        }
    }

    fn egress(&mut self, mut phv: Phv, port: u32, rid: u16, kind: u32) {
        let switch = self.switch;
        switch.set_standard(&mut phv, "egress_port", port);
        switch.set_standard(&mut phv, "egress_rid", rid);
        switch.set_standard(&mut phv, "instance_type", kind);
        switch.set_standard(&mut phv, "egress_global_timestamp", self.now_ns / 1000);
        // Clear the field, so that a drop in egress is noticed. From here on it is not used as a port.
        switch.set_standard(&mut phv, "egress_spec", 0u8);
        let mut wishes = Wishes::default();
        self.pipeline(&switch.program.egress, &mut phv, &mut wishes);
        self.digests(&phv, &wishes.digests);
        if let Some((session, list)) = wishes.clone {
            self.clone_egress(&phv, session, list);
        }
        if switch.standard(&phv, "egress_spec") == switch.drop_port {
            return;
        }
        let data = self.deparse(&mut phv);
        match wishes.recirculate {
            Some(list) => {
                let preserved = self.preserve(&phv, list);
                let port = switch.standard(&phv, "ingress_port");
                self.jobs
                    .push(Job::Ingress(port, data, instance::RECIRCULATED, preserved));
            }
            None => self.out.push(Output::Frame { port, data }),
        }
    }

    // Checksums and deparser.

    fn verify(&self, phv: &mut Phv) {
        for c in self.switch.program.checksums.iter().filter(|c| c.verify) {
            if c.condition.as_ref().is_some_and(|e| !e.holds(phv, self.switch)) {
                continue;
            }
            let width = match &c.dest {
                Dest::Place(_, width) => *width,
                Dest::Valid(_) => 1,
            };
            let wanted = c.value.bits(width, phv, self.switch);
            if cut(&self.calculate(c.calculation, phv).into(), width) != wanted {
                self.switch.set_standard(phv, "checksum_error", 1u8);
            }
        }
    }

    fn calculate(&self, calculation: usize, phv: &Phv) -> BigUint {
        let c = self.switch.program.calculations.get(calculation);
        c.map_or(BigUint::ZERO, |c| c.run(phv, self.switch))
    }

    fn deparse(&mut self, phv: &mut Phv) -> Vec<u8> {
        let program = &self.switch.program;
        for c in program.checksums.iter().filter(|c| c.update) {
            if c.condition.as_ref().is_none_or(|e| e.holds(phv, self.switch)) {
                let value = self.calculate(c.calculation, phv);
                self.assign(&c.dest, &value.into(), phv);
            }
        }
        let mut out = Writer::default();
        for header in &program.deparse {
            emit(&program.headers, phv, *header, &mut out);
        }
        out.write_bytes(&phv.payload);
        let mut data = out.finish();
        data.truncate(phv.truncated);
        data
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
            let is_there = part.header.is_none_or(|h| phv.valid.get(h).copied().unwrap_or(true));
            let value = match is_there {
                true => part.expr.bits(part.field.width, phv, switch) & &part.mask,
                false => BigUint::ZERO,
            };
            self.key.extend(octets(&value, part.field.width));
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
            self.assign(dest, &colour.into(), phv);
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
        // The tables outlive this run. So do the entries, which are part of them.
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
        let hash = profile.hash.as_ref().map_or(BigUint::ZERO, |h| h.run(phv, self.switch));
        if count == 0 { None } else { (hash % count).to_usize() }
    }

    // Copies.

    fn preserve(&self, phv: &Phv, list: Option<usize>) -> Preserved {
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
            header
                .fields
                .iter()
                .for_each(|f| copy.set(f.slot, f.width, &BigInt::ZERO));
        }
        self.enter(
            &mut copy,
            self.switch.standard(phv, "ingress_port"),
            instance::EGRESS_CLONE,
            &preserved,
        );
        if session.truncate_bytes > 0 {
            copy.truncated = copy.truncated.min(session.truncate_bytes as usize);
        }
        self.copies(&copy, &session.replicas, instance::EGRESS_CLONE);
    }

    fn copies(&mut self, phv: &Phv, replicas: &[Replica], kind: u32) {
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
            let fields = fields
                .iter()
                .map(|(expr, width)| octets(&expr.bits(*width, phv, self.switch), *width));
            self.out.push(Output::Digest(*id, fields.collect()));
        }
    }
}
