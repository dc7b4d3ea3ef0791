//! The controller at the size of a data centre: a million tenant networks.
//!
//! **Problem.** "One more attachment costs the same at a million networks as at ten" is a promise that only a measurement
//! at that size can show.
//!
//! **Model.** The controller is the shipped program in a separate process, with its durable store, and everything reaches
//! it as in a fabric: REST over TLS, P4Runtime, gNMI and the agents' stream with mutual TLS. Devices are in memory, in
//! this process, so that the measurement shows the controller ([`switch`], [`host`]): they store what they receive,
//! and return it. Clients are in this process too, and take processor time from the controller.
//!
//! **Reading the figures.** Each row has its goal. If OVN is installed, it is measured in the same run
//! ([`ovn`]). A busy machine makes rows worse, so a figure counts only from a quiet one.

mod clients;
mod faults;
mod host;
mod load;
mod objects;
mod ovn;
mod plan;
pub(crate) mod report;
mod size;
pub(crate) mod switch;
mod watch;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use tokio::runtime::Runtime;

use crate::say;
use report::{Goal, Report};
pub use size::Size;
use world::World;

/// Rows that can be left out, in their order; the load is needed by all. The restart comes before links come and go: what is
/// known of them is stored within a second, and a start goes by that.
const ROWS: [&str; 8] = ["writers", "burst", "crowd", "plan", "watch", "restart", "leaf", "spine"];

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    size: Size,
    /// Small sizes: shows in seconds that everything works, but says nothing about speed
    #[arg(long)]
    small: bool,
    /// Only these rows, with the load
    #[arg(long, value_delimiter = ',', value_parser = ROWS)]
    only: Vec<String>,
    /// Do not measure OVN
    #[arg(long)]
    no_peer: bool,
    /// Directory for the store, certificates and logs; it is created, must not exist yet, and is kept
    #[arg(long)]
    dir: PathBuf,
    /// Directory of the daemons' binaries [default: where fabricctl is]
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// Write the figures to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Measures and prints.
///
/// A missed goal is success; a row that could not be measured is not, and the others are measured all the same.
///
/// # Errors
/// The fabric or its load could not be made, or the figures not be written.
pub fn run(args: Args, runtime: &Runtime) -> Result<ExitCode> {
    let size = if args.small { Size::small() } else { args.size };
    let here = std::env::current_exe()?;
    let bin_dir = args
        .bin_dir
        .or_else(|| here.parent().map(PathBuf::from))
        .context("--bin-dir")?;
    let all = Measure {
        size,
        only: args.only,
        peer: !args.no_peer,
        dir: args.dir,
        bin_dir,
    };
    let report = runtime.block_on(all.run())?;
    say!("\n{}", report.table());
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report.document())?;
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    Ok(match report.failed() {
        [] => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Measures at small sizes with the programs in a directory: a test that all rows can be measured. Returns the document.
///
/// # Errors
/// Something could not be measured.
pub async fn rehearse(dir: PathBuf, bin_dir: PathBuf) -> Result<serde_json::Value> {
    let all = Measure {
        size: Size::small(),
        only: Vec::new(),
        peer: false,
        dir,
        bin_dir,
    };
    let report = all.run().await?;
    let failed: Vec<String> = report
        .failed()
        .iter()
        .map(|(what, why)| format!("{what}: {why}"))
        .collect();
    ensure!(failed.is_empty(), "{}", failed.join("; "));
    Ok(report.document())
}

struct Measure {
    size: Size,
    only: Vec<String>,
    peer: bool,
    dir: PathBuf,
    bin_dir: PathBuf,
}

impl Measure {
    async fn run(self) -> Result<Report> {
        std::fs::create_dir(&self.dir).with_context(|| self.dir.display().to_string())?;
        let dir = std::path::absolute(&self.dir)?;
        let wants = |row: &str| self.only.is_empty() || self.only.iter().any(|only| only == row);
        let mut report = Report::default();
        disk(&dir, &mut report)?;
        let peer = self.peer && wants("burst");
        if peer && ovn::is_installed() {
            let done = ovn::run(&dir, self.size.burst, &mut report).await;
            report.measured("OVN", done);
        } else if peer {
            say!("OVN is not installed (ovn-central): no peer");
        }
        let mut world = World::start(self.size.clone(), &dir, &self.bin_dir).await?;
        load::run(&world, &mut report).await?;
        for row in ROWS.into_iter().filter(|row| wants(row)) {
            let done = measure(row, &mut world, &mut report).await;
            report.measured(row, done);
        }
        if world.is_alive() {
            let done = world.stop_controller().await;
            report.measured("the controller's end", done);
        }
        Ok(report)
    }
}

/// Measures a row. One that failed before it may have left no controller: then that is started again.
async fn measure(row: &str, world: &mut World, report: &mut Report) -> Result<()> {
    if !world.is_alive() {
        world.start_controller().await?;
        world.in_sync().await?;
    }
    match row {
        "writers" => clients::writers(world, report).await,
        "burst" => {
            let took = clients::burst(world).await?;
            let what = format!("{} networks with an attachment each", world.size.burst);
            report.add(&what, "until applied", took.as_secs_f64(), "s", Goal::Below(8.0));
            Ok(())
        }
        "crowd" => clients::crowd(world, report).await,
        "plan" => plan::run(world, report).await,
        "watch" => watch::run(world, report).await,
        "restart" => faults::restart(world, report).await,
        "leaf" => faults::leaf(world, report).await,
        "spine" => faults::spine(world, report).await,
        other => bail!("{other}: no such row"),
    }
}

/// Times that the disk is asked to make a page durable.
const SYNCS: usize = 100;

/// The time that the disk takes for one page: no change can be durable sooner.
fn disk(dir: &std::path::Path, report: &mut Report) -> Result<()> {
    use std::os::unix::fs::FileExt as _;
    let path = dir.join("sync");
    let file = std::fs::File::create(&path)?;
    let mut took = report::times()?;
    for n in 0..SYNCS {
        let started = std::time::Instant::now();
        file.write_all_at(&[1; 4096], n as u64 * 4096)?;
        file.sync_data()?;
        report::record(&mut took, started.elapsed())?;
    }
    std::fs::remove_file(&path)?;
    report.add_times("the disk alone, one page", &took, Goal::None, Goal::None);
    Ok(())
}
