//! Benchmarks of the switch's parts, as hidden subcommands: `p4-switch bench ports`.
//!
//! They print their figures, and write them as JSON on request. Nothing here asserts a time.

mod bare;
mod p4runtime;
mod ports;
mod process;
mod report;
mod startup;
mod tables;

use clap::Subcommand;

type Error = Box<dyn std::error::Error>;

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Look-ups and updates of the match tables, without packets and without a server.
    Tables(tables::TablesOptions),
    /// Updates of entries through the P4Runtime server into the packet engine.
    P4runtime(p4runtime::P4runtimeOptions),
    /// Whole switches on veths: packets/s, loss, latency, against a bare forwarder and simple_switch_grpc.
    Ports(ports::PortsOptions),
    /// Time from the start of the process until it answers, has its program, and forwards; compared with
    /// simple_switch_grpc.
    Startup(startup::StartupOptions),
    /// Forwards between ports without a pipeline, as the limit for others.
    Bare(bare::BareOptions),
}

/// Measures and prints.
///
/// # Errors
/// The JSON cannot be written, or a measurement failed.
pub(crate) fn run(bench: &Bench) -> Result<(), Error> {
    match bench {
        Bench::Tables(options) => tables::run(options)?.finish(options.json.as_deref()),
        Bench::P4runtime(options) => p4runtime::run(options)?.finish(options.json.as_deref()),
        Bench::Ports(options) => {
            let report = ports::run(options).map_err(|error| error as Error)?;
            report.finish(options.json())
        }
        Bench::Startup(options) => {
            let report = startup::run(options).map_err(|error| error as Error)?;
            report.finish(options.json())
        }
        Bench::Bare(options) => bare::run(options),
    }
}
