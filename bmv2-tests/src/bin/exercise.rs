//! Runs an exercise in the way of p4lang's tutorials or of p4-utils, or a network of ONOS' netcfg.json, unmodified: see [`bmv2_tests::exercise`].

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use bmv2_tests::exercise::network::Network;
use bmv2_tests::exercise::runtime::{self, Runtime};
use bmv2_tests::exercise::{self, Exercise, Matrix, Options};
use clap::{Parser, Subcommand};
use p4runtime_client::names::Names;
use p4runtime_client::pipeline::Pipeline;
use p4runtime_client::session::{ElectionId, Session};
use p4runtime_client::write::Change;
use tokio::signal::unix::{SignalKind, signal};

/// Run an exercise in the way of p4lang's tutorials (topology.json, sX-runtime.json) or of p4-utils (p4app.json), or the
/// network of a netcfg.json of ONOS.
#[derive(Parser)]
#[command(name = "exercise", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Bring the exercise up, then ping, run a command, or wait for Ctrl-C
    Run(Run),
    /// Give a switch its program and what a runtime file says
    Load(Load),
}

#[derive(clap::Args)]
struct Run {
    /// The exercise's folder (with topology.json, pod-topo/topology.json, p4app.json or netcfg.json), or the topology file
    exercise: PathBuf,
    /// P4 program: the first is for switches that name none, each replaces one of the same file name
    #[arg(long = "program")]
    programs: Vec<PathBuf>,
    /// One more link: two ends, each a host or SWITCH/PORT, as in h1,leaf1/3
    #[arg(long = "link", value_name = "END,END")]
    links: Vec<String>,
    /// Every host pings every other; fails when one does not answer
    #[arg(long)]
    check: bool,
    /// Run this shell command where the switches are, with EXERCISE_PREFIX set; its exit status is this one's
    #[arg(long)]
    run: Option<String>,
    /// The switch: p4-switch or a program with its command line [default: beside this program]
    #[arg(long)]
    switch: Option<PathBuf>,
    /// Compiled programs, logs and captures [default: a temporary folder]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Record each port's packets
    #[arg(long)]
    pcap: bool,
    /// Leave out the links' delays and losses, on a kernel without sch_netem
    #[arg(long)]
    without_delay: bool,
}

#[derive(clap::Args)]
struct Load {
    /// The runtime file
    runtime: PathBuf,
    /// P4Runtime server of the switch, as HOST:PORT
    #[arg(long)]
    address: String,
    /// The switch's device id
    #[arg(long)]
    device_id: u64,
    /// BMv2 JSON instead of the one that the runtime file names
    #[arg(long)]
    json: Option<PathBuf>,
    /// P4Info in text format instead of the one that the runtime file names
    #[arg(long)]
    p4info: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(run) => tokio_runtime().and_then(|r| r.block_on(until_signal(run))),
        Command::Load(load) => tokio_runtime()
            .and_then(|r| r.block_on(write(&load)))
            .map(|()| ExitCode::SUCCESS),
    };
    done.unwrap_or_else(|error| {
        eprintln!("exercise: {error:#}");
        ExitCode::FAILURE
    })
}

fn tokio_runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Runs on a thread of its own, so that a signal at any moment leaves nothing behind.
async fn until_signal(run: Run) -> Result<ExitCode> {
    let (mut int, mut term) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let is_interactive = !run.check && run.run.is_none();
    let mut work = tokio::task::spawn_blocking(move || start(&run));
    tokio::select! {
        done = &mut work => return done?,
        _ = int.recv() => {}
        _ = term.recv() => {}
    }
    Network::remove(&Network::own_prefix());
    // The thread may still wait for a child that is gone; it has nothing left to do.
    std::process::exit(if is_interactive { 0 } else { INTERRUPTED });
}

/// Exit status of a program that SIGINT ended, as in shells.
const INTERRUPTED: i32 = 130;

fn start(run: &Run) -> Result<ExitCode> {
    let me = std::env::current_exe()?;
    let temporary = tempfile::Builder::new().prefix("exercise-").tempdir()?;
    let beside = me.with_file_name("p4-switch");
    let options = Options {
        topology: topology(&run.exercise)?,
        programs: run.programs.clone(),
        links: run.links.clone(),
        switch: std::path::absolute(run.switch.as_ref().unwrap_or(&beside))?,
        loader: me,
        out: std::path::absolute(run.out.as_deref().unwrap_or(temporary.path()))?,
        pcap: run.pcap,
        without_delay: run.without_delay,
    };
    let up = exercise::run(&options, |what| eprintln!("   {what}"))?;
    describe(&up);
    if run.check {
        let matrix = Matrix::measure(up.network(), up.topology())?;
        println!("{matrix}");
        if matrix.silent().next().is_some() {
            return Ok(ExitCode::FAILURE);
        }
    }
    if let Some(command) = &run.run {
        let mut shell = Network::command(&up.network().switches(), "sh");
        shell
            .args(["-c", command])
            .env("EXERCISE_PREFIX", up.network().prefix());
        let status = shell.status()?;
        return Ok(status
            .code()
            .and_then(|c| u8::try_from(c).ok())
            .map_or(ExitCode::FAILURE, ExitCode::from));
    }
    if !run.check {
        println!("Ctrl-C ends it.");
        // The signal ends the process, not this thread.
        loop {
            std::thread::park();
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(up: &Exercise) {
    println!("switches: ip netns exec {}", up.network().switches());
    for (name, switch) in &up.topology().switches {
        if let Some(server) = &switch.server {
            println!("{name}: grpc://{} device id {}", server.address, server.device_id);
        }
    }
    for (name, host) in &up.topology().hosts {
        let address = host.ip.as_ref().or(host.ipv6.first());
        let address = address.map_or("no address", String::as_str);
        println!("{name} ({address}): ip netns exec {}", up.network().host(name));
    }
}

/// The topology of a folder.
fn topology(exercise: &Path) -> Result<PathBuf> {
    if exercise.is_file() {
        return Ok(exercise.to_owned());
    }
    let mut found: Vec<_> = ["topology.json", "p4app.json", "netcfg.json"]
        .map(|f| exercise.join(f))
        .into();
    for entry in std::fs::read_dir(exercise).with_context(|| exercise.display().to_string())? {
        found.push(entry?.path().join("topology.json"));
    }
    found.retain(|p| p.is_file());
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => bail!("{}: no topology.json, p4app.json or netcfg.json", exercise.display()),
        several => bail!("{}: {} topologies; name one of them", exercise.display(), several.len()),
    }
}

async fn write(load: &Load) -> Result<()> {
    let file = Runtime::read(&load.runtime)?;
    let base = load.runtime.parent().unwrap_or(Path::new("."));
    // Paths in a runtime file are relative to the exercise's folder, which may be above the file.
    let find = |named: &Path| {
        let found = base.ancestors().take(3).map(|f| f.join(named)).find(|p| p.is_file());
        found.with_context(|| format!("{}: no {} near it", load.runtime.display(), named.display()))
    };
    let json = load.json.clone().map_or_else(|| find(&file.bmv2_json), Ok)?;
    let p4info = load.p4info.clone().map_or_else(|| find(&file.p4info), Ok)?;
    let text = std::fs::read_to_string(&p4info).with_context(|| p4info.display().to_string())?;
    let info = runtime::p4info(&text).with_context(|| p4info.display().to_string())?;
    let config = std::fs::read(&json).with_context(|| json.display().to_string())?;
    let names = Names::new(info.clone());
    let entities = file
        .entities(&names)
        .with_context(|| load.runtime.display().to_string())?;
    let options = p4runtime_client::session::Options::new(&load.address, load.device_id, ElectionId(1));
    let session = Session::open(options).await?;
    session.install(&Pipeline::new(info, config.into())).await?;
    let changes: Vec<Change> = entities.into_iter().map(Change::Insert).collect();
    for (change, outcome) in changes.iter().zip(session.write(&changes).await?) {
        outcome.with_context(|| format!("{}: {}", load.runtime.display(), names.describe(change.key())))?;
    }
    Ok(())
}
