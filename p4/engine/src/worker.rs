//! A packet's path through the switch, in the order of simple_switch: parse, verify checksums,
//! ingress; then clones, resubmission, replication or unicast; egress; then clones, update
//! of checksums, deparse, recirculation.

use std::sync::Arc;

use crate::core::{Core, Scratch, Wishes};
use crate::native::Native;
use crate::packet::Packet;
use crate::pipeline::Pipeline;
use crate::sink::{DigestFields, Sink};
use crate::tables::Tables;
use crate::tables::snapshot::{Guard, Reader};
use crate::tables::state::Replica;
use crate::trace::{Dropped, NoTrace, Trace};
use crate::wire::BitWriter;

/// Most passes of one packet through the switch, its copies included. This stops a program that resubmits
/// for ever.
const MAX_PASSES: usize = 1024;
/// Most copies of one packet that wait at a time. Replicas of a multicast group do not wait, so
/// this limits clones and recirculated packets; more are lost, as in a switch with full buffers.
const MAX_WAITING: usize = 256;
/// Buffers that are kept for later packets.
const POOL: usize = 32;

/// Values of `instance_type`.
mod instance {
    pub(super) const NORMAL: u64 = 0;
    pub(super) const INGRESS_CLONE: u64 = 1;
    pub(super) const EGRESS_CLONE: u64 = 2;
    pub(super) const RECIRCULATED: u64 = 4;
    pub(super) const REPLICATED: u64 = 5;
    pub(super) const RESUBMITTED: u64 = 6;
}

/// A packet that waits for its turn.
struct Job {
    packet: Packet,
    kind: u64,
    /// Port and replica number for egress; none for the parser.
    egress: Option<(u32, u16)>,
}

/// A packet between ingress and egress, in a queue of its port.
#[derive(Debug)]
pub struct Waiting {
    packet: Packet,
    kind: u64,
    port: u32,
    replica: u16,
    /// The program that it runs through.
    program: u64,
}

impl Waiting {
    /// The port that it is for.
    pub fn port(&self) -> u32 {
        self.port
    }
}

/// What one thread needs to run packets: its buffers, and its view of the tables.
pub struct Worker {
    pipeline: Arc<Pipeline>,
    reader: Reader<Tables>,
    buffers: Buffers,
}

struct Buffers {
    scratch: Scratch,
    main: Packet,
    replica: Packet,
    jobs: Vec<Job>,
    pool: Vec<Packet>,
}

impl Buffers {
    fn spare(&mut self) -> Packet {
        self.pool.pop().unwrap_or_default()
    }

    fn give_back(&mut self, packet: Packet) {
        if self.pool.len() < POOL {
            self.pool.push(packet);
        }
    }
}

impl Worker {
    /// A worker. If a writer waits for it in vain, the error has its `name`.
    pub fn new(pipeline: &Arc<Pipeline>, name: &str) -> Self {
        Self {
            reader: pipeline.store.reader(name),
            pipeline: Arc::clone(pipeline),
            buffers: Buffers {
                scratch: Scratch::new(pipeline.seed()),
                main: Packet::default(),
                replica: Packet::default(),
                jobs: Vec::new(),
                pool: Vec::new(),
            },
        }
    }

    /// The program that it runs.
    pub fn pipeline(&self) -> &Arc<Pipeline> {
        &self.pipeline
    }

    /// Runs frames, which all see the tables as they are now. Keep it only for one
    /// burst, because writers of the tables wait for it.
    pub fn batch(&mut self) -> Batch<'_> {
        Batch {
            pipeline: &self.pipeline,
            native: self.pipeline.native(),
            tables: self.reader.pin(),
            buffers: &mut self.buffers,
        }
    }
}

/// A burst of frames.
pub struct Batch<'a> {
    pipeline: &'a Pipeline,
    native: Option<&'a Native>,
    tables: Guard<'a, Tables>,
    buffers: &'a mut Buffers,
}

impl Batch<'_> {
    /// Runs a frame that arrived at a port; the output goes to the sink. `now_ns` is the
    /// switch's clock.
    pub fn process(&mut self, port: u32, frame: &[u8], now_ns: u64, sink: &mut impl Sink) {
        self.trace(port, frame, now_ns, sink, &mut NoTrace);
    }

    /// As [`Self::process`], with each step reported to `trace`.
    pub fn trace<T: Trace>(&mut self, port: u32, frame: &[u8], now_ns: u64, sink: &mut impl Sink, trace: &mut T) {
        let mut main = std::mem::take(&mut self.buffers.main);
        main.fill(&self.pipeline.program, port, frame);
        let mut run = Run {
            pipeline: self.pipeline,
            // Machine code reports no steps.
            native: self.native.filter(|_| !T::ON),
            tables: &self.tables,
            buffers: self.buffers,
            now_ns,
            sink,
            trace,
        };
        run.ingress(&mut main, instance::NORMAL);
        run.rest();
        self.buffers.main = main;
    }

    /// Takes a packet that waited through egress; `behind` packets still wait at its port. False, and the packet is
    /// lost, if it waited for another program.
    pub fn leave(&mut self, waiting: Waiting, behind: usize, now_ns: u64, sink: &mut impl Sink) -> bool {
        let Waiting {
            mut packet,
            kind,
            port,
            replica,
            program,
        } = waiting;
        if program != self.pipeline.number {
            return false;
        }
        let standard = &self.pipeline.program.standard;
        let words = &mut packet.words;
        let since_us = (now_ns / 1000).wrapping_sub(standard.enq_timestamp.get(words));
        standard.deq_timedelta.set(words, since_us);
        standard.deq_qdepth.set(words, behind as u64);
        let mut run = Run {
            pipeline: self.pipeline,
            native: self.native,
            tables: &self.tables,
            buffers: self.buffers,
            now_ns,
            sink,
            trace: &mut NoTrace,
        };
        run.leave(&mut packet, port, replica, kind);
        run.rest();
        self.buffers.give_back(packet);
        true
    }
}

impl Drop for Batch<'_> {
    fn drop(&mut self) {
        // Flush before the tables are released: after that, a slot may belong to another entry.
        self.buffers.scratch.counts.flush(&self.pipeline.store);
    }
}

/// One frame's run.
struct Run<'a, S: Sink, T: Trace> {
    pipeline: &'a Pipeline,
    native: Option<&'a Native>,
    tables: &'a Tables,
    buffers: &'a mut Buffers,
    now_ns: u64,
    sink: &'a mut S,
    trace: &'a mut T,
}

impl<S: Sink, T: Trace> Run<'_, S, T> {
    fn core(&mut self) -> Core<'_, T> {
        let (pipeline, trace) = (self.pipeline, &mut *self.trace);
        Core {
            trace,
            program: &pipeline.program,
            store: &pipeline.store,
            tables: self.tables,
            externs: &pipeline.externs,
            drop_port: pipeline.drop_port,
            now_ns: self.now_ns,
            scratch: &mut self.buffers.scratch,
        }
    }

    /// The context of machine code.
    fn untraced<'b>(&'b mut self, none: &'b mut NoTrace) -> Core<'b, NoTrace> {
        let pipeline = self.pipeline;
        Core {
            trace: none,
            program: &pipeline.program,
            store: &pipeline.store,
            tables: self.tables,
            externs: &pipeline.externs,
            drop_port: pipeline.drop_port,
            now_ns: self.now_ns,
            scratch: &mut self.buffers.scratch,
        }
    }

    /// Parses a packet.
    fn parse(&mut self, p: &mut Packet) {
        let native = self.native;
        if !native.is_some_and(|n| n.parse(self.untraced(&mut NoTrace), p)) {
            self.core().parse(p);
        }
    }

    /// Verifies a packet's checksums and runs ingress.
    fn run_ingress(&mut self, p: &mut Packet) {
        let (pipeline, native) = (self.pipeline, self.native);
        if !native.is_some_and(|n| n.ingress(self.untraced(&mut NoTrace), p)) {
            let mut core = self.core();
            core.verify(p);
            core.control(&pipeline.program.ingress, false, p);
        }
    }

    /// Runs egress.
    fn run_egress(&mut self, p: &mut Packet) {
        let (pipeline, native) = (self.pipeline, self.native);
        if !native.is_some_and(|n| n.egress(self.untraced(&mut NoTrace), p)) {
            self.core().control(&pipeline.program.egress, true, p);
        }
    }

    /// Updates a packet's checksums and writes its headers.
    fn deparse(&mut self, p: &mut Packet) {
        let native = self.native;
        if !native.is_some_and(|n| n.deparse(self.untraced(&mut NoTrace), p)) {
            self.core().deparse(p);
        }
    }

    /// Runs the waiting packets.
    fn rest(&mut self) {
        for _ in 0..MAX_PASSES {
            let Some(mut job) = self.buffers.jobs.pop() else { return };
            match job.egress {
                Some((port, replica)) => self.egress(&mut job.packet, port, replica, job.kind),
                None => self.ingress(&mut job.packet, job.kind),
            }
            self.buffers.give_back(job.packet);
        }
        while let Some(job) = self.buffers.jobs.pop() {
            self.trace.dropped(Dropped::TooMany);
            self.buffers.give_back(job.packet);
        }
    }

    fn push(&mut self, packet: Packet, kind: u64, egress: Option<(u32, u16)>) {
        if self.buffers.jobs.len() < MAX_WAITING {
            self.buffers.jobs.push(Job { packet, kind, egress });
        } else {
            self.trace.dropped(Dropped::TooMany);
            self.buffers.give_back(packet);
        }
    }

    fn ingress(&mut self, p: &mut Packet, kind: u64) {
        let (program, now_us) = (&self.pipeline.program, self.now_ns / 1000);
        let standard = &program.standard;
        standard.ingress_port.set(&mut p.words, p.port.into());
        standard.packet_length.set(&mut p.words, p.length as u64);
        standard.instance_type.set(&mut p.words, kind);
        standard.ingress_global_timestamp.set(&mut p.words, now_us);
        if T::ON {
            self.trace.ingress(p.port, kind, p.frame());
        }
        self.buffers.scratch.wishes = Wishes::default();
        self.parse(p);
        self.run_ingress(p);

        let wishes = self.buffers.scratch.wishes;
        if wishes.digest_count > 0 {
            self.digests(p, wishes.digest_count);
        }
        if let Some((session, list)) = wishes.clone {
            self.clone_ingress(p, session, list);
        }
        if let Some(list) = wishes.resubmit {
            let mut again = self.buffers.spare();
            again.fill(program, p.port, p.frame());
            preserve(self.pipeline, list, p, &mut again);
            self.push(again, instance::RESUBMITTED, None);
            return;
        }
        let group = standard.mcast_grp.get(&p.words) as u32;
        if group != 0 {
            let replicas = self.tables.multicast(group);
            if T::ON && replicas.is_empty() {
                self.trace.dropped(Dropped::NoReplicas);
            }
            let mut copy = std::mem::take(&mut self.buffers.replica);
            for replica in replicas {
                if let Some((port, number)) = self.live(replica) {
                    copy.copy(p);
                    self.egress(&mut copy, port, number, instance::REPLICATED);
                }
            }
            self.buffers.replica = copy;
            return;
        }
        let port = standard.egress_spec.get(&p.words) as u32;
        if port == self.pipeline.drop_port {
            self.trace.dropped(Dropped::Ingress);
        } else {
            self.egress(p, port, 0, instance::NORMAL);
        }
    }

    fn live(&self, replica: &Replica) -> Option<(u32, u16)> {
        replica.live(|port| self.pipeline.store.ports.is_up(port))
    }

    /// Takes a packet to a port: through egress, or into the port's queue.
    fn egress(&mut self, p: &mut Packet, port: u32, replica: u16, kind: u64) {
        let standard = &self.pipeline.program.standard;
        standard.enq_timestamp.set(&mut p.words, self.now_ns / 1000);
        let Some(waiting) = self.sink.waiting(port) else {
            self.leave(p, port, replica, kind);
            return;
        };
        standard.enq_qdepth.set(&mut p.words, waiting as u64);
        let priority = standard.priority.get(&p.words);
        let mut packet = self.buffers.spare();
        packet.copy(p);
        let waiting = Waiting {
            packet,
            kind,
            port,
            replica,
            program: self.pipeline.number,
        };
        self.sink.enqueue(priority, waiting);
    }

    fn leave(&mut self, p: &mut Packet, port: u32, replica: u16, kind: u64) {
        let (program, now_us) = (&self.pipeline.program, self.now_ns / 1000);
        let standard = &program.standard;
        let words = &mut p.words;
        standard.egress_port.set(words, port.into());
        standard.egress_rid.set(words, replica.into());
        standard.instance_type.set(words, kind);
        standard.egress_global_timestamp.set(words, now_us);
        let priority = standard.priority.get(words);
        standard.qid.set(words, priority);
        let length = u64::try_from(p.register_length).unwrap_or(0);
        standard.packet_length.set(words, length);
        // Reset, so that a drop in egress is noticed. The old port has no meaning any more.
        let not_dropped = self.pipeline.drop_port.wrapping_add(1);
        standard.egress_spec.set(words, not_dropped.into());
        if T::ON {
            self.trace.egress(port, replica, kind);
        }
        self.buffers.scratch.wishes = Wishes::default();
        self.run_egress(p);

        let wishes = self.buffers.scratch.wishes;
        if wishes.digest_count > 0 {
            self.digests(p, wishes.digest_count);
        }
        if let Some((session, list)) = wishes.clone {
            self.clone_egress(p, session, list);
        }
        if standard.egress_spec.get(&p.words) as u32 == self.pipeline.drop_port {
            self.trace.dropped(Dropped::Egress);
            return;
        }
        self.deparse(p);
        p.truncate();
        match wishes.recirculate {
            Some(list) => {
                let mut again = self.buffers.spare();
                again.fill(program, p.port, p.frame());
                preserve(self.pipeline, list, p, &mut again);
                self.push(again, instance::RECIRCULATED, None);
            }
            None => {
                if T::ON {
                    self.trace.sent(port, p.frame());
                }
                self.sink.frame(port, p.frame());
            }
        }
    }

    /// A copy of the packet as it came in, parsed again, for egress.
    fn clone_ingress(&mut self, p: &Packet, session: u32, list: u32) {
        let Some(session) = self.tables.clone_session(session) else {
            return;
        };
        let program = &self.pipeline.program;
        let mut copy = self.buffers.spare();
        copy.fill(program, p.port, p.frame());
        if session.truncate_bytes > 0 {
            copy.cut(session.truncate_bytes as usize);
        }
        // The parser may select on these.
        program.standard.ingress_port.set(&mut copy.words, p.port.into());
        self.parse(&mut copy);
        let error = program.standard.parser_error.get(&copy.words);
        reset_metadata(self.pipeline, &mut copy);
        program.standard.parser_error.set(&mut copy.words, error);
        program.standard.ingress_port.set(&mut copy.words, p.port.into());
        preserve(self.pipeline, list, p, &mut copy);
        self.copies(copy, &session.replicas, instance::INGRESS_CLONE);
    }

    /// A copy of the packet as it leaves, for egress again.
    fn clone_egress(&mut self, p: &Packet, session: u32, list: u32) {
        let Some(session) = self.tables.clone_session(session) else {
            return;
        };
        let mut copy = self.buffers.spare();
        copy.copy(p);
        reset_metadata(self.pipeline, &mut copy);
        let standard = &self.pipeline.program.standard;
        standard.ingress_port.set(&mut copy.words, p.port.into());
        preserve(self.pipeline, list, p, &mut copy);
        if session.truncate_bytes > 0 {
            copy.truncated = copy.truncated.min(session.truncate_bytes as usize);
        }
        self.copies(copy, &session.replicas, instance::EGRESS_CLONE);
    }

    fn copies(&mut self, packet: Packet, replicas: &[Replica], kind: u64) {
        for replica in replicas.iter().rev() {
            if let Some(to) = self.live(replica) {
                let mut copy = self.buffers.spare();
                copy.copy(&packet);
                self.push(copy, kind, Some(to));
            }
        }
        self.buffers.give_back(packet);
    }

    fn digests(&mut self, p: &Packet, count: u8) {
        let pipeline = self.pipeline;
        let mut bytes = std::mem::take(&mut self.buffers.scratch.bytes);
        let wanted = self.buffers.scratch.digests;
        for id in wanted.iter().take(count.into()) {
            let Some(digest) = pipeline.program.digests.iter().find(|d| d.id == *id) else {
                continue;
            };
            let context = self.core().parts(&[]).context(&p.words);
            let mut out = BitWriter::new(&mut bytes);
            for (value, width) in &digest.fields {
                // Each is padded to whole octets at its front.
                out.write(0, width.div_ceil(8) * 8 - width);
                value.write(*width, &context, &mut out);
            }
            out.finish();
            self.sink.digest(*id, DigestFields::new(&digest.fields, &bytes));
        }
        self.buffers.scratch.bytes = bytes;
    }
}

/// Copies the fields of a list.
fn preserve(pipeline: &Pipeline, list: u32, from: &Packet, to: &mut Packet) {
    for (slot, count) in pipeline.program.field_lists.get(&list).into_iter().flatten() {
        let range = *slot as usize..(*slot + *count) as usize;
        to.words[range.clone()].copy_from_slice(&from.words[range]);
    }
}

/// The initial metadata of a packet.
fn reset_metadata(pipeline: &Pipeline, p: &mut Packet) {
    for header in pipeline.program.headers.iter().filter(|h| h.metadata) {
        let at = header.slot as usize + 1;
        p.words[at..at + header.words as usize - 1].fill(0);
    }
}
