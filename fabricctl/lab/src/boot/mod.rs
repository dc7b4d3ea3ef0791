//! How long blank switches take from power-on to service, and a wrong cable until it is named.
//!
//! **Model.** The controller and the provisioning server are the shipped programs, each a process, with their stores on the disk. The
//! switches are blank: an identity of their manufacturer, and nothing else. Many of them are in this process ([`device`]): each
//! runs the boot client of `p4-switch` over real sockets (DHCP through a relay of its rack, Bootz, mutual TLS), then serves P4Runtime
//! and gNMI; only its ports and its packet engine are not real, and frames of the controller's probes cross cables that are a table.
//! A few are whole `p4-switch` processes, cabled by veth pairs. Everything is in a network namespace of its own, so nothing
//! else on the machine is touched.
//!
//! **Reading the figures.** Time counts from the moment at which all are powered on at once until the API shows the last one in
//! service. That includes the probes of all links. A busy machine makes rows worse.

mod device;
mod world;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use tokio::runtime::Runtime;

use crate::scale::report::{Goal, Report};
use crate::{netns, say};
use world::{Kind, World};

/// What to measure.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Switches in memory, at most 16 of them spines
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(2..=256))]
    switches: u16,
    /// Switches that are processes
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(2..=64))]
    processes: u16,
    /// Few switches: shows in seconds that everything works, but says nothing about speed
    #[arg(long)]
    small: bool,
    /// Directory for stores, certificates and logs; it is created, must not exist yet, and is kept
    #[arg(long)]
    dir: PathBuf,
    /// Directory of the daemons' binaries [default: where fabricctl is]
    #[arg(long)]
    bin_dir: Option<PathBuf>,
    /// Write the figures to this file as JSON
    #[arg(long)]
    json: Option<PathBuf>,
    /// It is in a network namespace of its own already
    #[arg(long, hide = true)]
    inside: bool,
}

/// Measures and prints.
///
/// # Errors
/// Something could not be measured. A missed goal is not an error.
pub fn run(args: Args, runtime: &Runtime) -> Result<ExitCode> {
    let here = std::env::current_exe()?;
    if !args.inside {
        // The namespace ends with the processes in it.
        let status = Command::new("unshare")
            .arg("--net")
            .arg(here)
            .args(std::env::args_os().skip(1))
            .arg("--inside")
            .status()
            .context("`unshare` (Debian package util-linux)")?;
        return Ok(if status.success() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        });
    }
    let bin_dir = args
        .bin_dir
        .or_else(|| here.parent().map(PathBuf::from))
        .context("--bin-dir")?;
    let (switches, processes) = if args.small {
        (6, 3)
    } else {
        (args.switches, args.processes)
    };
    std::fs::create_dir(&args.dir).with_context(|| args.dir.display().to_string())?;
    let dir = std::path::absolute(&args.dir)?;
    let mut report = Report::default();
    netns::ip_batch(None, "link set lo up")?;
    runtime.block_on(async {
        let world = World::start(Kind::Memory, usize::from(switches), &dir.join("memory"), &bin_dir).await?;
        in_memory(world, &mut report).await?;
        let world = World::start(
            Kind::Processes,
            usize::from(processes),
            &dir.join("processes"),
            &bin_dir,
        )
        .await?;
        as_processes(world, &mut report).await
    })?;
    say!("\n{}", report.table());
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&report.document())?;
        std::fs::write(path, text).with_context(|| path.display().to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds how long the switches took, all together and each.
async fn in_service(world: &World, what: &str, powered_on: Instant, aim: f64, report: &mut Report) -> Result<()> {
    world.in_service().await?;
    let all = powered_on.elapsed().as_secs_f64();
    report.add(what, "all in service", all, "s", Goal::Below(aim));
    let lines = world.client.provisioning().await?;
    let took = lines.iter().filter_map(|line| line.took_ms).max().unwrap_or_default();
    let slowest = Duration::from_millis(took).as_secs_f64();
    report.add(what, "the slowest, since its first request", slowest, "s", Goal::None);
    report.add(what, "links that probes crossed", world.links() as f64, "", Goal::None);
    report.add(
        what,
        "whole processes among them",
        world.processes() as f64,
        "",
        Goal::None,
    );
    Ok(())
}

async fn in_memory(mut world: World, report: &mut Report) -> Result<()> {
    let what = format!("{} blank switches in memory", world.switches());
    let powered_on = Instant::now();
    world.power_on()?;
    in_service(&world, &what, powered_on, 20.0, report).await?;
    let named = world.miscable().await?;
    report.add(
        "a wrong cable",
        "named after the link came up",
        named.as_secs_f64(),
        "s",
        Goal::Below(2.0),
    );
    world.stop().await
}

async fn as_processes(mut world: World, report: &mut Report) -> Result<()> {
    let what = format!("{} blank p4-switch processes", world.switches());
    let powered_on = Instant::now();
    world.power_on()?;
    in_service(&world, &what, powered_on, 5.0, report).await?;
    world.stop().await
}
