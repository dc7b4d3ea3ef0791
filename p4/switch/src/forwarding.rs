//! The data plane as the ports see it: frames run through the program that is loaded, by its reference evaluator.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::device::Dataplane;
use crate::port::{Burst, Forwarder, Sink};
use crate::reference::{Output, Switch};

/// One thread's way through the loaded program.
pub struct Reference {
    plane: Arc<Dataplane>,
    /// Packet-outs, on the thread that has them.
    inbox: Option<mpsc::Receiver<Vec<u8>>>,
    outputs: Vec<Output>,
}

impl Reference {
    /// For one thread. Only one is given the packet-outs.
    pub fn new(plane: Arc<Dataplane>, inbox: Option<mpsc::Receiver<Vec<u8>>>) -> Self {
        Self {
            plane,
            inbox,
            outputs: Vec::new(),
        }
    }

    fn send(plane: &Dataplane, outputs: &mut Vec<Output>, sink: &mut dyn Sink) {
        for mut output in outputs.drain(..) {
            if plane.take(&mut output) {
                continue;
            }
            if let Output::Frame { port, data } = output {
                sink.frame(port, &data);
            }
        }
    }
}

impl Forwarder for Reference {
    fn burst(&mut self, burst: &mut Burst<'_>, sink: &mut dyn Sink) {
        let running = self.plane.running.load();
        let Some(switch) = running.as_ref().map(|r| r.switch.as_ref()) else {
            // As on any switch that is not set up: frames are lost, not kept for later.
            while burst.next_frame().is_some() {}
            return;
        };
        let port = burst.port();
        // Taken once a burst; a writer waits for one burst at the most.
        let tables = switch.tables();
        while let Some(frame) = burst.next_frame() {
            switch.process_with(&tables, port, frame, self.plane.now_ns(), &mut self.outputs);
            Self::send(&self.plane, &mut self.outputs, sink);
        }
    }

    fn woken(&mut self, sink: &mut dyn Sink) {
        let Some(inbox) = &mut self.inbox else { return };
        while let Ok(frame) = inbox.try_recv() {
            let running = self.plane.running.load();
            let switch: Option<&Switch> = running.as_ref().map(|r| r.switch.as_ref());
            let Some((switch, port)) = switch.and_then(|s| Some((s, s.cpu_port?))) else {
                continue;
            };
            switch.process(port, &frame, self.plane.now_ns(), &mut self.outputs);
            Self::send(&self.plane, &mut self.outputs, sink);
        }
    }
}
