//! Runs frames with or without a trace.

use std::sync::Arc;

use super::printer::Printer;
use super::tracer::Tracer;
use crate::{Batch, Pipeline, Sink};

/// One thread's traced packets.
pub struct Traced {
    printer: Printer,
    has_colours: bool,
    /// For the pipeline that ran last.
    tracer: Option<Tracer>,
}

impl Traced {
    /// Prints here; in colours for a terminal.
    pub fn new(printer: Printer, has_colours: bool) -> Self {
        Self {
            printer,
            has_colours,
            tracer: None,
        }
    }

    /// Runs a frame through the pipeline of the batch, traced if there are not too many.
    pub fn process(
        &mut self,
        pipeline: &Arc<Pipeline>,
        batch: &mut Batch<'_>,
        (port, frame): (u32, &[u8]),
        now_ns: u64,
        sink: &mut impl Sink,
    ) {
        let Some(number) = self.printer.admit() else {
            batch.process(port, frame, now_ns, sink);
            return;
        };
        let known = self.tracer.take().filter(|t| Arc::ptr_eq(t.pipeline(), pipeline));
        let mut tracer = known.unwrap_or_else(|| Tracer::new(pipeline, self.has_colours));
        tracer.begin(number);
        batch.trace(port, frame, now_ns, sink, &mut tracer);
        self.printer.print(tracer.text());
        self.tracer = Some(tracer);
    }
}
