//! The data plane as the ports see it: frames run through the program that is loaded.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::device::Dataplane;
use crate::port::{Burst, Forwarder, Sink};
use crate::queues::Next;
use p4_engine::trace::Traced;
use p4_engine::{self as engine, DigestFields, Waiting, Worker};

/// Most packets that are taken from egress queues before the ports get another turn.
const DRAIN: usize = 64;

/// The loaded program on one thread.
pub struct Engine {
    plane: Arc<Dataplane>,
    /// Packet-outs; only one thread has them. That thread also empties the egress queues.
    inbox: Option<mpsc::Receiver<Vec<u8>>>,
    /// How long to wait for the next packet of an egress queue.
    rest: Option<Duration>,
    /// Runs the program that was loaded at the last check.
    worker: Option<Worker>,
    traced: Option<Traced>,
}

impl Engine {
    /// An engine for one thread. Only one thread gets the packet-outs.
    pub fn new(plane: Arc<Dataplane>, inbox: Option<mpsc::Receiver<Vec<u8>>>) -> Self {
        Self {
            plane,
            inbox,
            rest: None,
            worker: None,
            traced: None,
        }
    }

    /// Traces packets.
    #[must_use]
    pub fn with_trace(self, traced: Traced) -> Self {
        Self {
            traced: Some(traced),
            ..self
        }
    }

    /// The worker of the program that is loaded now; none if there is no program.
    fn worker<'a>(plane: &Dataplane, worker: &'a mut Option<Worker>) -> Option<&'a mut Worker> {
        let running = plane.running.load();
        match running.as_ref() {
            None => *worker = None,
            Some(running) => {
                let is_current = |w: &Worker| Arc::ptr_eq(w.pipeline(), &running.pipeline);
                if !worker.as_ref().is_some_and(is_current) {
                    let thread = std::thread::current();
                    *worker = Some(Worker::new(&running.pipeline, thread.name().unwrap_or("forward")));
                }
            }
        }
        worker.as_mut()
    }

    /// Takes packets from egress queues, as many as one turn allows. Returns how long to wait for the next one.
    fn drain(plane: &Dataplane, worker: &mut Worker, sink: &mut dyn Sink) -> Option<Duration> {
        let mut batch = worker.batch();
        for _ in 0..DRAIN {
            let now_ns = plane.now_ns();
            match plane.queues.pop(now_ns, |port| sink.has_room(port)) {
                Next::Packet(packet, behind) => {
                    let mut outputs = Outputs::new(plane, &mut *sink);
                    if !batch.leave(packet, behind, now_ns, &mut outputs) {
                        plane.dropped.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Next::Later(wait_ns) => return Some(Duration::from_nanos(wait_ns)),
                Next::Empty => return None,
            }
        }
        Some(Duration::ZERO)
    }

    /// Called after packets ran: empties queues, or wakes the thread that does.
    fn follow_up(&mut self, has_queued: bool, sink: &mut dyn Sink) {
        if !self.plane.queues.is_on() {
            return;
        }
        match (&self.inbox, Self::worker(&self.plane, &mut self.worker)) {
            (Some(_), Some(worker)) => self.rest = Self::drain(&self.plane, worker, sink),
            (Some(_), None) => self.rest = None,
            (None, _) if has_queued => self.plane.wake(),
            (None, _) => {}
        }
    }
}

/// Sends frames to their ports, and packet-ins and digests to the server.
struct Outputs<'a> {
    plane: &'a Dataplane,
    ports: &'a mut dyn Sink,
    has_queued: bool,
}

impl<'a> Outputs<'a> {
    fn new(plane: &'a Dataplane, ports: &'a mut dyn Sink) -> Self {
        Self {
            plane,
            ports,
            has_queued: false,
        }
    }
}

impl engine::Sink for Outputs<'_> {
    fn frame(&mut self, port: u32, data: &[u8]) {
        if !self.plane.packet_in(port, data) && !self.ports.frame(port, data) {
            self.plane.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn digest(&mut self, id: u32, fields: DigestFields<'_>) {
        self.plane.digest(id, fields);
    }

    fn waiting(&mut self, port: u32) -> Option<usize> {
        // Checked for each packet, because a frame of this burst may have arrived after queues were set up.
        if self.plane.queues.is_on() {
            self.plane.queues.waiting(port)
        } else {
            None
        }
    }

    fn enqueue(&mut self, priority: u64, packet: Waiting) {
        self.has_queued = true;
        self.plane.queues.push(packet.port(), priority, packet);
    }
}

impl Forwarder for Engine {
    fn burst(&mut self, burst: &mut Burst<'_>, sink: &mut dyn Sink) {
        let plane = &self.plane;
        let Some(worker) = Self::worker(plane, &mut self.worker) else {
            // As on any switch that is not set up, frames are lost, and not kept for later.
            let mut lost = 0;
            while burst.next_frame().is_some() {
                lost += 1;
            }
            plane.dropped.fetch_add(lost, Ordering::Relaxed);
            return;
        };
        let port = burst.port();
        let mut outputs = Outputs::new(plane, &mut *sink);
        if let Some(traced) = &mut self.traced {
            let pipeline = Arc::clone(worker.pipeline());
            let mut batch = worker.batch();
            while let Some(frame) = burst.next_frame() {
                traced.process(&pipeline, &mut batch, (port, frame), plane.now_ns(), &mut outputs);
            }
        } else {
            let mut batch = worker.batch();
            while let Some(frame) = burst.next_frame() {
                batch.process(port, frame, plane.now_ns(), &mut outputs);
            }
        }
        let has_queued = outputs.has_queued;
        self.follow_up(has_queued, sink);
    }

    fn woken(&mut self, sink: &mut dyn Sink) {
        let (plane, worker) = (&self.plane, &mut self.worker);
        let Some(inbox) = &mut self.inbox else { return };
        while let Ok(frame) = inbox.try_recv() {
            let Some(worker) = Self::worker(plane, worker) else {
                plane.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let Some(port) = worker.pipeline().cpu_port else {
                continue;
            };
            let mut outputs = Outputs::new(plane, &mut *sink);
            let now_ns = plane.now_ns();
            match &mut self.traced {
                Some(traced) => {
                    let pipeline = Arc::clone(worker.pipeline());
                    traced.process(&pipeline, &mut worker.batch(), (port, &frame), now_ns, &mut outputs);
                }
                None => worker.batch().process(port, &frame, now_ns, &mut outputs),
            }
        }
        self.follow_up(false, sink);
    }

    fn rest(&self) -> Option<Duration> {
        self.rest
    }
}
