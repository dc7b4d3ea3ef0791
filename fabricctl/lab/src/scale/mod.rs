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

use anyhow::{Context as _, Result};
use tokio::runtime::Runtime;

use crate::say;
use report::{Report, Target};
pub use size::Size;
use world::World;

/// Rows that can be left out; the load is needed by all.
const ROWS: [&str; 8] = ["writers", "burst", "crowd", "plan", "watch", "leaf", "spine", "restart"];

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
/// # Errors
/// Something could not be measured. A missed goal is no error.
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
    Ok(ExitCode::SUCCESS)
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
    Ok(all.run().await?.document())
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
            ovn::run(&dir, self.size.burst, &mut report).await?;
        } else if peer {
            say!("OVN is not installed (ovn-central): no peer");
        }
        let mut world = World::start(self.size.clone(), &dir, &self.bin_dir).await?;
        load::run(&world, &mut report).await?;
        if wants("writers") {
            clients::writers(&world, &mut report).await?;
        }
        if wants("burst") {
            let took = clients::burst(&world).await?;
            let what = format!("{} networks with an attachment each", world.size.burst);
            report.add(&what, "until applied", took.as_secs_f64(), "s", Target::Below(8.0));
        }
        if wants("crowd") {
            clients::crowd(&world, &mut report).await?;
        }
        if wants("plan") {
            plan::run(&world, &mut report).await?;
        }
        if wants("watch") {
            watch::run(&world, &mut report).await?;
        }
        // Before links come and go: what is known of them is stored within a second, and a start goes by that.
        if wants("restart") {
            faults::restart(&mut world, &mut report).await?;
        }
        if wants("leaf") {
            faults::leaf(&world, &mut report).await?;
        }
        if wants("spine") {
            faults::spine(&world, &mut report).await?;
        }
        world.stop_controller().await?;
        Ok(report)
    }
}

/// Times that the disk is asked to make a page durable.
const SYNCS: usize = 100;

/// What the disk takes for one page: no change can be durable sooner.
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
    report.add_times("the disk alone, one page", &took, Target::None, Target::None);
    Ok(())
}
