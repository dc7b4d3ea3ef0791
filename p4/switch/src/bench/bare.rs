//! A forwarder without a pipeline on the switch's own ports and threads: port 1 to port 2 and back.

use std::num::NonZeroU16;

use clap::Args;
use p4_switch::port::netdev::Netdev;
use p4_switch::port::{Burst, Forwarder, Ports, Sink};

/// Options of `bench bare`.
#[derive(Debug, Args)]
pub(crate) struct BareOptions {
    /// A port number and the network interface behind it.
    #[arg(short = 'i', long = "interface", value_name = "PORT@IFACE", value_parser = crate::cli::interface)]
    interfaces: Vec<(u32, String)>,
    /// Forwarding threads.
    #[arg(long)]
    threads: Option<NonZeroU16>,
}

struct Crossover;

impl Forwarder for Crossover {
    fn burst(&mut self, burst: &mut Burst<'_>, sink: &mut dyn Sink) {
        let to = if burst.port() == 1 { 2 } else { 1 };
        while let Some(frame) = burst.next_frame() {
            sink.frame(to, frame);
        }
    }
}

/// Forwards until the process is killed.
///
/// # Errors
/// An interface cannot be opened.
pub(super) fn run(options: &BareOptions) -> Result<(), Box<dyn std::error::Error>> {
    let threads = options.threads.map_or_else(crate::cores, |t| usize::from(t.get()));
    let make = |wakers: &[_]| {
        wakers
            .iter()
            .map(|_| Box::new(Crossover) as Box<dyn Forwarder>)
            .collect()
    };
    let ports = Ports::start(threads, make)?;
    for (number, name) in &options.interfaces {
        ports.attach(*number, &Netdev::new(name))?;
    }
    loop {
        std::thread::park();
    }
}
