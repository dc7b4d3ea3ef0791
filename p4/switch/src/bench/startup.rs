//! How long a switch takes from the start of its process until it can be used.
//!
//! Two ways to start: with the program on the command line, and bare, with the program by
//! `SetForwardingPipelineConfig`. Times from the start of the process, each after the one before it:
//! - *answers*: `Capabilities` is answered over gRPC;
//! - *loaded*: a read of all table entries is answered, which needs a program (the peer also needs P4Info, which only
//!   the second way has);
//! - *forwards*: a frame came through the program from one veth to another.
//!
//! Starts alternate with starts of the peer, so that other work on the machine affects both. Reported are the median
//! and the 90th percentile.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Args;
use hdrhistogram::Histogram;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use p4_switch::p4runtime::derive;
use p4runtime_grpc::p4_runtime_client::P4RuntimeClient;
use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::set_forwarding_pipeline_config_request::Action;
use tonic::transport::{Channel, Endpoint};

use super::p4runtime::become_primary;
use super::ports::bed::{RECEIVE, SEND, ip};
use super::ports::subject::Kind;
use super::ports::traffic::{Generator, frames};
use super::ports::{Error, ROUTER, leaf};
use super::process::Process;
use super::report::Report;

/// How long a switch may take until it answers.
const PATIENCE: Duration = Duration::from_secs(20);

/// Interval between requests: far below the measured times, but long enough to leave the switch the processor.
const PERIOD: Duration = Duration::from_micros(300);

/// The address of switches; nothing else is in the network namespace.
const ADDRESS: &str = "127.0.0.1:9559";

/// Options of `bench startup`.
#[derive(Debug, Args)]
pub(crate) struct StartupOptions {
    /// Writes the figures to this file too.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Starts simple_switch_grpc too.
    #[arg(long, value_name = "PATH", num_args = 0..=1, default_missing_value = "simple_switch_grpc")]
    peer: Option<PathBuf>,
    /// BMv2 JSON of the fabric's leaf; without it the leaf is left out.
    #[arg(long, value_name = "JSON")]
    leaf: Option<PathBuf>,
    /// Starts of each kind.
    #[arg(long, default_value_t = 30)]
    starts: u32,
}

impl StartupOptions {
    pub(super) fn json(&self) -> Option<&Path> {
        self.json.as_deref()
    }
}

/// A program, and a frame that it forwards from port 1 to port 2.
struct Subject {
    name: &'static str,
    file: PathBuf,
    config: v1::ForwardingPipelineConfig,
    frames: Vec<Vec<u8>>,
}

/// Which switch is started, and how it gets its program.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Way {
    is_peer: bool,
    is_bare: bool,
}

/// What is measured, in milliseconds from the start.
#[derive(Clone, Copy)]
struct Times {
    answers: f64,
    loaded: Option<f64>,
    forwards: f64,
}

/// Measures and prints. Needs root.
///
/// # Errors
/// The namespace cannot be made, or a switch does not answer or forward.
pub(super) fn run(options: &StartupOptions) -> Result<Report, Error> {
    std::thread::scope(|scope| {
        // Use a thread of our own, because it moves to another network namespace and blocks on its own runtime.
        let measured = scope.spawn(|| {
            enter()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(measure(options))
        });
        measured.join().unwrap_or_else(|_| Err("the benchmark panicked".into()))
    })
}

/// Moves this thread to a network namespace of its own, with ports `p1` and `p2` and their peers, and its own `/sys`,
/// where simple_switch_grpc looks for interfaces. The namespace ends with the thread.
fn enter() -> Result<(), Error> {
    let not_root = |error| format!("a network namespace cannot be made (are you root?): {error}");
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).map_err(not_root)?;
    let nothing = None::<&Path>;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing)?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), nothing)?;
    ip("link set lo up")?;
    for port in [1, 2] {
        ip(&format!("link add p{port} type veth peer name g{port}"))?;
        for link in [format!("p{port}"), format!("g{port}")] {
            // Nothing else sends on these links.
            ip(&format!("link set {link} addrgenmode none up"))?;
        }
    }
    Ok(())
}

fn subject(name: &'static str, kind: Kind, json: Vec<u8>, dir: &Path) -> Result<Subject, Error> {
    let file = dir.join(format!("{name}.json"));
    std::fs::write(&file, &json).map_err(|error| format!("{}: {error}", file.display()))?;
    let program = bmv2_json::Program::from_slice(&json)?;
    Ok(Subject {
        name,
        file,
        config: v1::ForwardingPipelineConfig {
            p4info: Some(derive::p4info(&program)),
            p4_device_config: json,
            cookie: None,
        },
        frames: frames(kind, 64),
    })
}

async fn measure(options: &StartupOptions) -> Result<Report, Error> {
    let dir = std::env::temp_dir().join(format!("p4bench-startup-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let measured = measure_in(options, &dir).await;
    let _ = std::fs::remove_dir_all(&dir);
    measured
}

async fn measure_in(options: &StartupOptions, dir: &Path) -> Result<Report, Error> {
    let mut subjects = vec![subject("router", Kind::Router, ROUTER.to_vec(), dir)?];
    if let Some(path) = &options.leaf {
        subjects.push(subject("leaf", Kind::Leaf, leaf::with_entries(path)?, dir)?);
    }
    let mut generator = Generator::open(SEND, RECEIVE)?;
    let mut report = Report::new("startup");
    for subject in &subjects {
        for (how, is_bare) in [("with its program", false), ("bare, then set", true)] {
            let (mut own, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..options.starts.max(1) {
                let way = Way {
                    is_peer: false,
                    is_bare,
                };
                own.push(start(way, subject, None, &mut generator).await?);
                if let Some(peer) = options.peer.as_deref() {
                    let way = Way { is_peer: true, ..way };
                    theirs.push(start(way, subject, Some(peer), &mut generator).await?);
                }
            }
            let own_p50 = row(&mut report, &format!("{}, {how}", subject.name), &own);
            if !theirs.is_empty() {
                let peer_p50 = row(&mut report, &format!("peer {}, {how}", subject.name), &theirs);
                let name = format!("{} / peer, {how}", subject.name);
                report.row(&name, &[("forwards_p50_ratio", own_p50 / peer_p50)]);
            }
        }
    }
    Ok(report)
}

/// Adds a line; the median of when the switch forwards.
fn row(report: &mut Report, name: &str, all: &[Times]) -> f64 {
    // Times are in milliseconds; the histogram is in microseconds, up to ten minutes.
    let share = |of: fn(&Times) -> Option<f64>, percent: f64| {
        let mut times = Histogram::<u64>::new_with_max(600_000_000, 3).ok()?;
        all.iter()
            .filter_map(of)
            .for_each(|ms| times.saturating_record((ms * 1e3) as u64));
        (!times.is_empty()).then(|| times.value_at_percentile(percent) as f64 / 1e3)
    };
    let forwards = share(|t| Some(t.forwards), 50.0).unwrap_or(f64::NAN);
    let figures = [
        ("answers_p50_ms", share(|t| Some(t.answers), 50.0)),
        ("loaded_p50_ms", share(|t| t.loaded, 50.0)),
        ("loaded_p90_ms", share(|t| t.loaded, 90.0)),
        ("forwards_p50_ms", Some(forwards)),
        ("forwards_p90_ms", share(|t| Some(t.forwards), 90.0)),
    ];
    let figures: Vec<(&str, f64)> = figures.into_iter().filter_map(|(name, of)| Some((name, of?))).collect();
    report.row(name, &figures);
    forwards
}

async fn start(way: Way, subject: &Subject, peer: Option<&Path>, generator: &mut Generator) -> Result<Times, Error> {
    let mut command = match peer {
        Some(peer) => Command::new(peer),
        None => Command::new(std::env::current_exe()?),
    };
    command.args(["--device-id", "1", "-L", "error", "-i", "1@p1", "-i", "2@p2"]);
    if way.is_bare {
        command.arg("--no-p4");
    } else {
        command.arg(&subject.file);
    }
    command.args(["--", "--grpc-server-addr", ADDRESS, "--cpu-port", "510"]);
    // Do this before the start, because it takes a while.
    let mut rx = generator.open_receiver()?;
    let process = Process::spawn(command)?;
    let since = process.started;
    let ms = || since.elapsed().as_secs_f64() * 1e3;
    let mut client = client(&process).await?;
    client.capabilities(v1::CapabilitiesRequest { device_id: 1 }).await?;
    let answers = ms();
    let _stream = if way.is_bare {
        let stream = become_primary(&mut client).await.map_err(|error| error.to_string())?;
        client.set_forwarding_pipeline_config(set(&subject.config)).await?;
        Some(stream)
    } else {
        None
    };
    let loaded = if way.is_peer && !way.is_bare {
        None
    } else {
        read_tables(&mut client).await?;
        Some(ms())
    };
    let forwards = generator.until_arrival(&subject.frames, &mut *rx, since)?;
    Ok(Times {
        answers,
        loaded,
        forwards: forwards.as_secs_f64() * 1e3,
    })
}

fn set(config: &v1::ForwardingPipelineConfig) -> v1::SetForwardingPipelineConfigRequest {
    v1::SetForwardingPipelineConfigRequest {
        device_id: 1,
        election_id: Some(v1::Uint128 { high: 0, low: 1 }),
        action: Action::VerifyAndCommit.into(),
        config: Some(config.clone()),
        ..Default::default()
    }
}

/// Connects as soon as the switch listens.
async fn client(process: &Process) -> Result<P4RuntimeClient<Channel>, Error> {
    let endpoint = Endpoint::from_static("http://127.0.0.1:9559").tcp_nodelay(true);
    loop {
        match endpoint.connect().await {
            Ok(channel) => return Ok(P4RuntimeClient::new(channel)),
            Err(error) if process.started.elapsed() > PATIENCE => return Err(error.into()),
            Err(_) => tokio::time::sleep(PERIOD).await,
        }
    }
}

async fn read_tables(client: &mut P4RuntimeClient<Channel>) -> Result<(), Error> {
    let entity = v1::entity::Entity::TableEntry(v1::TableEntry::default());
    let request = v1::ReadRequest {
        device_id: 1,
        entities: vec![v1::Entity { entity: Some(entity) }],
        ..Default::default()
    };
    let mut answers = client.read(request).await?.into_inner();
    while answers.message().await?.is_some() {}
    Ok(())
}
