//! The meta plugin: as a CNI plugin when a runtime starts it, and with commands of its own otherwise.

use std::io::{IsTerminal, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Parser, Subcommand};
use sd_notify::NotifyState;
use tracing_subscriber::EnvFilter;
use vfabric_cni::error::Error;
use vfabric_cni::multi::journal::{Journal, PodRef};
use vfabric_cni::multi::settings::Settings;
use vfabric_cni::multi::{follow, status, work};

/// Comparisons for each period of the watchdog: one may be late.
const BEATS: u32 = 3;
/// Most octets of a network configuration that are read: a list of valid attachments (GC) takes 100 octets each.
const MAX_INPUT: u64 = 1 << 20;

/// Attaches pods to several networks. Runtimes start it as a CNI plugin (`type: vfabric-multi`).
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// The network configuration or list with `type: vfabric-multi`.
    #[arg(long, default_value = "/etc/cni/net.d/00-vfabric-multi.conflist")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Follows pods and definitions, and changes the interfaces of running pods.
    Follow {
        /// What to log: error, warn, info, debug, trace, or directives of tracing's EnvFilter.
        #[arg(long, default_value = "info")]
        log_level: String,
    },
    /// Lists the interfaces of pods: pod, container, interface, network, state.
    List,
    /// Prints a pod's network status, as in the annotation `k8s.v1.cni.cncf.io/network-status`.
    Status {
        /// The pod, as `namespace/name`.
        pod: String,
    },
}

fn main() -> ExitCode {
    let environment = |name: &str| std::env::var(name).ok();
    if environment("CNI_COMMAND").is_some() {
        return plugin(environment);
    }
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// One call of a runtime.
fn plugin(environment: impl Fn(&str) -> Option<String>) -> ExitCode {
    let mut input = Vec::new();
    let read = std::io::stdin().take(MAX_INPUT).read_to_end(&mut input);
    let done = match read {
        Ok(_) => work::run(&environment, &input),
        Err(e) => Err(Error::io(format!("standard input: {e}"))),
    };
    match done {
        Ok(Some(result)) => {
            println!("{result}");
            ExitCode::SUCCESS
        }
        Ok(None) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{}", error.document(environment("CNI_COMMAND").as_deref(), &input));
            ExitCode::FAILURE
        }
    }
}

/// Prints to standard output. A reader that stops early (`| head`) is not an error.
fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{text}") {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("standard output"),
    }
}

/// Follows, and reports to the service manager (sd_notify(3)): `READY=1` after the first comparison, `WATCHDOG=1` after every further
/// one.
fn serve(settings: Settings) -> Result<(), Error> {
    let period = sd_notify::watchdog_enabled().filter(|p| !p.is_zero());
    let mut state = NotifyState::Ready;
    follow::follow(settings, period.map_or(Duration::MAX, |p| p / BEATS), || {
        let what = state.to_string();
        if let Err(error) = sd_notify::notify(std::slice::from_ref(&state)) {
            tracing::warn!(%error, "the service manager does not accept `{what}`");
        }
        state = NotifyState::Watchdog;
    })
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let place = cli.config.display();
    let text = std::fs::read_to_string(&cli.config).with_context(|| format!("--config {place}"))?;
    let settings = Settings::of_file(&text).with_context(|| format!("--config {place}"))?;
    match cli.command {
        Command::Follow { log_level } => {
            let filter = EnvFilter::try_new(&log_level).with_context(|| format!("--log-level `{log_level}`"))?;
            tracing_subscriber::fmt()
                .with_env_filter(filter)
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal())
                .init();
            Ok(serve(settings)?)
        }
        Command::List => {
            let mut all = Journal::open(&settings.state_dir)?.all()?;
            all.sort_by(|a, b| a.slot.cmp(&b.slot));
            for sandbox in all {
                let (pod, container) = (&sandbox.pod, &sandbox.slot.container);
                for a in &sandbox.attachments {
                    let state = format!("{:?}", a.state).to_lowercase();
                    print(&format!(
                        "{}/{} {container} {} {} {state}",
                        pod.namespace, pod.name, a.interface, a.network
                    ))?;
                }
            }
            Ok(())
        }
        Command::Status { pod } => {
            let (namespace, name) = pod.split_once('/').context("expected namespace/name")?;
            let pod = PodRef {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                uid: None,
            };
            let path = status::path(&settings.status_dir, &pod);
            print(&std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?)
        }
    }
}
