//! Benchmarks of the switch's parts, as hidden subcommands: `p4-switch bench ports`.
//!
//! They print what they measure, and write it as JSON where asked. Nothing here asserts a time.

mod bare;
mod ports;
mod report;

use clap::Subcommand;

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Bench {
    /// Whole switches on veths: packets/s, loss, latency, against a bare forwarder and simple_switch_grpc.
    Ports(ports::PortsOptions),
    /// Forwards between ports without a pipeline, as the limit for others.
    Bare(bare::BareOptions),
}

/// Measures and prints.
///
/// # Errors
/// The JSON cannot be written, or something that is measured failed.
pub(crate) fn run(bench: &Bench) -> Result<(), Box<dyn std::error::Error>> {
    match bench {
        Bench::Ports(options) => {
            let report = ports::run(options).map_err(|error| error as Box<dyn std::error::Error>)?;
            report.finish(options.json())
        }
        Bench::Bare(options) => bare::run(options),
    }
}
