//! The data plane as the ports see it: frames run through the program that is loaded.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;

use crate::device::Dataplane;
use crate::port::{Burst, Forwarder, Sink};
use p4_engine::trace::Traced;
use p4_engine::{self as engine, DigestFields, Worker};

/// One thread's way through the loaded program.
pub struct Engine {
    plane: Arc<Dataplane>,
    /// Packet-outs, on the thread that has them.
    inbox: Option<mpsc::Receiver<Vec<u8>>>,
    /// Runs the program that was loaded when it was last looked at.
    worker: Option<Worker>,
    traced: Option<Traced>,
}

impl Engine {
    /// For one thread. Only one is given the packet-outs.
    pub fn new(plane: Arc<Dataplane>, inbox: Option<mpsc::Receiver<Vec<u8>>>) -> Self {
        Self {
            plane,
            inbox,
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
}

/// Sends frames by their ports, and to the server what is for it.
struct Outputs<'a> {
    plane: &'a Dataplane,
    ports: &'a mut dyn Sink,
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
}

impl Forwarder for Engine {
    fn burst(&mut self, burst: &mut Burst<'_>, sink: &mut dyn Sink) {
        let plane = &self.plane;
        let Some(worker) = Self::worker(plane, &mut self.worker) else {
            // As on any switch that is not set up: frames are lost, not kept for later.
            let mut lost = 0;
            while burst.next_frame().is_some() {
                lost += 1;
            }
            plane.dropped.fetch_add(lost, Ordering::Relaxed);
            return;
        };
        let port = burst.port();
        let mut outputs = Outputs { plane, ports: sink };
        if let Some(traced) = &mut self.traced {
            let pipeline = Arc::clone(worker.pipeline());
            let mut batch = worker.batch();
            while let Some(frame) = burst.next_frame() {
                traced.process(&pipeline, &mut batch, (port, frame), plane.now_ns(), &mut outputs);
            }
            return;
        }
        let mut batch = worker.batch();
        while let Some(frame) = burst.next_frame() {
            batch.process(port, frame, plane.now_ns(), &mut outputs);
        }
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
            let mut outputs = Outputs {
                plane,
                ports: &mut *sink,
            };
            let now_ns = plane.now_ns();
            match &mut self.traced {
                Some(traced) => {
                    let pipeline = Arc::clone(worker.pipeline());
                    traced.process(&pipeline, &mut worker.batch(), (port, &frame), now_ns, &mut outputs);
                }
                None => worker.batch().process(port, &frame, now_ns, &mut outputs),
            }
        }
    }
}
