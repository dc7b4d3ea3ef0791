//! Whole switches on veths: packets/s delivered, loss, latency, start-up time.
//!
//! A generator on one veth sends, as fast as it can and at fixed rates, through the switch to another veth, in network
//! namespaces made for it. The limit is a bare forwarder: the same ports and threads without a pipeline. Every switch is
//! a separate process, so that its cost can be separated from the generator's. The receiving device counts delivered
//! packets, because another capture would affect the measurement.
//!
//! Programs contain their entries as constant ones, so that every switch is set up alike and no controller is needed.

pub(super) mod bed;
pub(super) mod leaf;
pub(super) mod subject;
pub(super) mod traffic;

use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use self::bed::Bed;
use self::subject::Kind;
use self::traffic::{Generator, frames};
use super::process::Process;
use super::report::Report;

pub(super) type Error = Box<dyn std::error::Error + Send + Sync>;

pub(super) const ROUTER: &[u8] = include_bytes!("router.json");

/// Rates that are offered, in packets/s, one after the other until most are lost.
const RATES: [u32; 8] = [50_000, 100_000, 200_000, 300_000, 400_000, 600_000, 800_000, 1_200_000];
/// The rate at which loss is reported.
const LOSS_AT: u32 = 200_000;
/// How long each is offered.
const STEP: Duration = Duration::from_millis(700);
/// If less than this share is delivered, higher rates are not tried.
const OVERLOAD: f64 = 0.5;
/// Octets of frames, without the checksum of the wire.
const SIZES: [usize; 2] = [64, 1400];

/// Options of `bench ports`.
#[derive(Debug, Args)]
pub(crate) struct PortsOptions {
    /// Writes the figures to this file too.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Runs simple_switch_grpc too.
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = "simple_switch_grpc")]
    peer: Option<PathBuf>,
    /// BMv2 JSON of the fabric's leaf; without it the leaf is left out.
    #[arg(long, value_name = "JSON")]
    leaf: Option<PathBuf>,
    /// Forwarding threads of our switches [default: one for each core]
    #[arg(long)]
    threads: Option<NonZeroU16>,
    /// How often everything is measured; the best counts, because other work on the machine can only slow it down.
    #[arg(long, default_value_t = 2)]
    rounds: u32,
}

impl PortsOptions {
    pub(super) fn json(&self) -> Option<&std::path::Path> {
        self.json.as_deref()
    }
}

/// The figures of one switch with frames of one size.
#[derive(Clone, Copy, Default)]
struct Figures {
    pps: f64,
    pps_per_core: f64,
    loss_percent: f64,
    p50_us: f64,
    p99_us: f64,
}

impl Figures {
    /// The better value of each figure.
    fn merge(self, other: Self) -> Self {
        Self {
            pps: self.pps.max(other.pps),
            pps_per_core: self.pps_per_core.max(other.pps_per_core),
            loss_percent: self.loss_percent.min(other.loss_percent),
            p50_us: self.p50_us.min(other.p50_us),
            p99_us: self.p99_us.min(other.p99_us),
        }
    }
}

/// Measures and prints. Needs root.
///
/// # Errors
/// Namespaces cannot be made, or a switch does not forward.
pub(super) fn run(options: &PortsOptions) -> Result<Report, Error> {
    std::thread::scope(|scope| {
        // Use a thread of our own, because it moves to another network namespace.
        let measured = scope.spawn(|| measure_all(options));
        measured.join().unwrap_or_else(|_| Err("the benchmark panicked".into()))
    })
}

fn kinds(options: &PortsOptions) -> Vec<(&'static str, Kind)> {
    let mut kinds = vec![("bare", Kind::Bare), ("router", Kind::Router)];
    if options.leaf.is_some() {
        kinds.push(("leaf", Kind::Leaf));
    }
    if options.peer.is_some() {
        kinds.push(("peer router", Kind::PeerRouter));
        if options.leaf.is_some() {
            kinds.push(("peer leaf", Kind::PeerLeaf));
        }
    }
    kinds
}

fn measure_all(options: &PortsOptions) -> Result<Report, Error> {
    let bed = Bed::new()?;
    let leaf = options.leaf.as_deref().map(leaf::with_entries).transpose()?;
    let programs = subject::Programs {
        router: bed.file("router.json", ROUTER)?,
        leaf: leaf.map(|l| bed.file("leaf.json", &l)).transpose()?,
    };
    let mut generator = Generator::open(bed::SEND, bed::RECEIVE)?;
    let mut report = Report::new("ports");
    let kinds = kinds(options);
    let mut all: Vec<Vec<Option<Figures>>> = vec![vec![None; SIZES.len()]; kinds.len()];
    let mut startup_ms: Vec<f64> = vec![f64::INFINITY; kinds.len()];
    for _ in 0..options.rounds.max(1) {
        for (at, (_, kind)) in kinds.iter().enumerate() {
            let process = subject::start(*kind, &bed, &programs, options)?;
            let probe = frames(*kind, SIZES[0]);
            let started = generator.first(&probe, process.started)?;
            startup_ms[at] = startup_ms[at].min(started.as_secs_f64() * 1e3);
            for (of, size) in SIZES.iter().enumerate() {
                let figures = measure(&mut generator, &process, &frames(*kind, *size))?;
                let before = all[at][of];
                all[at][of] = Some(before.map_or(figures, |b| b.merge(figures)));
            }
        }
    }
    for (of, size) in SIZES.iter().enumerate() {
        for ((name, _), figures) in kinds.iter().zip(&all) {
            let figures = figures[of].unwrap_or_default();
            report.row(
                &format!("{name}, {size} octets"),
                &[
                    ("pps", figures.pps),
                    ("pps_per_core", figures.pps_per_core),
                    ("loss_at_200k_percent", figures.loss_percent),
                    ("latency_p50_us", figures.p50_us),
                    ("latency_p99_us", figures.p99_us),
                ],
            );
        }
    }
    for ((name, _), ms) in kinds.iter().zip(&startup_ms) {
        report.row(&format!("{name}, start to first packet"), &[("ms", *ms)]);
    }
    let find = |name: &str, of: usize| {
        let at = kinds.iter().position(|(n, _)| *n == name)?;
        all[at][of]
    };
    for (of, size) in SIZES.iter().enumerate() {
        for (ours, base, target) in [("router", "bare", 0.70), ("leaf", "bare", 0.45)] {
            if let (Some(a), Some(b)) = (find(ours, of), find(base, of)) {
                let name = format!("{ours} / {base}, {size} octets");
                report.row(&name, &[("pps_ratio", a.pps / b.pps), ("target", target)]);
            }
        }
        for (ours, base) in [("router", "peer router"), ("leaf", "peer leaf")] {
            if let (Some(a), Some(b)) = (find(ours, of), find(base, of)) {
                report.row(
                    &format!("{ours} / {base}, {size} octets"),
                    &[
                        ("pps_ratio", a.pps / b.pps),
                        ("pps_per_core_ratio", a.pps_per_core / b.pps_per_core),
                        ("latency_p50_ratio", a.p50_us / b.p50_us),
                    ],
                );
            }
        }
    }
    Ok(report)
}

fn time(process: &Process) -> Result<Duration, Error> {
    process.cpu().ok_or_else(|| "its processor time is not known".into())
}

fn measure(generator: &mut Generator, subject: &Process, frames: &[Vec<u8>]) -> Result<Figures, Error> {
    let (p50, p99) = generator.latency(frames)?;
    let mut figures = Figures {
        p50_us: p50.as_secs_f64() * 1e6,
        p99_us: p99.as_secs_f64() * 1e6,
        loss_percent: 100.0,
        ..Figures::default()
    };
    for rate in RATES {
        let cpu = time(subject)?;
        let run = generator.run(frames, rate, STEP)?;
        let cores = (time(subject)? - cpu).as_secs_f64() / run.time.as_secs_f64();
        let pps = run.delivered as f64 / run.time.as_secs_f64();
        let share = run.delivered as f64 / run.sent.max(1) as f64;
        if rate == LOSS_AT {
            figures.loss_percent = (1.0 - share).max(0.0) * 100.0;
        }
        if pps > figures.pps {
            figures.pps = pps;
            figures.pps_per_core = pps / cores.max(0.01);
        }
        // The generator itself may be slower than the rate.
        let is_slow = (run.sent as f64) < 0.8 * f64::from(rate) * run.time.as_secs_f64();
        if rate >= LOSS_AT && (share < OVERLOAD || is_slow) {
            break;
        }
    }
    Ok(figures)
}
