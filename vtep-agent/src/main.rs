//! The VXLAN VTEP agent of a Linux host.

mod attachment;
mod install;

use std::io::{IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use fabric_identity::{Credentials, Files, Subject};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use vtep_agent::below::Below;
use vtep_agent::datapath::kernel::{FloodLimit, Kernel, Overlay};
use vtep_agent::enrol::{self, Enrolment};
use vtep_agent::object::{LocalVteps, port_name};
use vtep_agent::stream::Controller;
use vtep_agent::trace::Packet;
use vtep_agent::watch::Watch;
use vtep_agent::{agent, below, capture, metrics, status, stream};
use vtep_proto::v1;

/// Runs the VXLAN tunnel end point of this host for the fabric controller.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: Option<Run>,
}

#[derive(Subcommand)]
enum Command {
    /// Shows what the agent on this host holds.
    Status {
        /// State directory of the agent.
        #[arg(long)]
        state_dir: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows everything about one attachment: its object, its network, its traffic and what was lost.
    Dump {
        /// The attachment, as VDC/NAME (the first column of `status`).
        attachment: String,
        /// State directory of the agent.
        #[arg(long)]
        state_dir: PathBuf,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows the path of a workload's packet through this host: filter, bridge, tunnel. Sends nothing.
    Trace {
        /// The attachment that sends it, as VDC/NAME (the first column of `status`).
        attachment: String,
        /// Where it goes.
        #[arg(long)]
        to: IpAddr,
        /// Its source address [default: one of the attachment's].
        #[arg(long)]
        from: Option<IpAddr>,
        /// Its source MAC address [default: the attachment's].
        #[arg(long)]
        mac: Option<String>,
        /// State directory of the agent.
        #[arg(long)]
        state_dir: PathBuf,
    },
    /// Captures the frames of one attachment at the host's end of its interface, as a pcap file.
    Capture {
        /// The attachment, as VDC/NAME (the first column of `status`).
        attachment: String,
        /// State directory of the agent.
        #[arg(long)]
        state_dir: PathBuf,
        /// File to write; `-` is standard output.
        #[arg(long, short, default_value = "-")]
        write: PathBuf,
        /// End after this many frames.
        #[arg(long, short)]
        count: Option<u64>,
        /// End after this many seconds.
        #[arg(long)]
        seconds: Option<u64>,
    },
    /// Shows and changes the interfaces of containers on this host while they run.
    Attachment {
        /// Socket of the agent for the CNI plugin.
        #[arg(long, default_value = vfabric_cni::protocol::SOCKET)]
        socket: PathBuf,
        #[command(subcommand)]
        verb: attachment::Verb,
    },
    /// Installs the CNI plugins and a configuration for container runtimes, or removes them.
    Cni {
        #[command(subcommand)]
        verb: install::Verb,
    },
    /// Removes everything that an agent has created on this host. The agent must not be running.
    Purge {
        /// Name of the host, as given to the agent.
        #[arg(long)]
        host: String,
        /// Name of the network namespace, if one was given to the agent.
        #[arg(long)]
        overlay: Option<String>,
    },
    /// Measures the kernel datapath on this machine, in network namespaces of its own.
    Bench {
        /// Networks on the host.
        #[arg(long, default_value_t = 1000)]
        networks: u32,
        /// Attachments to time, at most one per network.
        #[arg(long, default_value_t = 100)]
        attachments: u32,
        /// Measure TCP between two hosts instead, in this many rounds, compared with links made by hand;
        /// needs `ip`.
        #[arg(long, value_name = "ROUNDS")]
        tcp: Option<u32>,
        /// Also write the figures to this file as JSON.
        #[arg(long)]
        json: Option<PathBuf>,
    },
}

/// How long each way is measured in a round.
const TCP_SPAN: Duration = Duration::from_secs(2);

fn store_bench(figures: &impl serde::Serialize, json: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = json else { return Ok(()) };
    std::fs::write(path, serde_json::to_string_pretty(figures)?).with_context(|| path.display().to_string())
}

fn print_tcp_bench(rounds: u32, json: Option<&Path>) -> anyhow::Result<()> {
    let f = vtep_agent::bench::tcp::run(rounds, TCP_SPAN)?;
    store_bench(&f, json)?;
    print(&format!(
        "TCP between two hosts: {:.0} Mbit/s; bridge and VXLAN device by hand with the same filters: {:.0} Mbit/s ({:.3} of it over {} rounds)",
        f.ours_mbit_per_s, f.hand_made_mbit_per_s, f.of_hand_made_ratio, f.rounds
    ))
}

fn print_bench(networks: u32, attachments: u32, json: Option<&Path>) -> anyhow::Result<()> {
    let f = vtep_agent::bench::run(networks, attachments)?;
    store_bench(&f, json)?;
    print(
        &[
            format!(
                "{} networks, 10 dual-stack stations each, from nothing: {:.0} ms",
                f.networks, f.apply_ms
            ),
            format!(
                "restart to confirmed unchanged: {:.0} ms ({} changes)",
                f.restart_ms, f.restart_changes
            ),
            format!(
                "one more attachment ({} timed): p50 {:.2} ms, p99 {:.2} ms",
                f.attachments, f.attach_p50_ms, f.attach_p99_ms
            ),
            format!(
                "one attachment less, until it is out of use: p50 {:.2} ms, p99 {:.2} ms",
                f.detach_p50_ms, f.detach_p99_ms
            ),
            format!("all networks but one out of use: {:.0} ms", f.out_of_use_ms),
            format!(
                "one more attachment in the network that stays: before, p50 {:.2} ms, p99 {:.2} ms; while the kernel deletes the others \
                 ({} links meanwhile, {} left), p50 {:.2} ms, p99 {:.2} ms",
                f.add_before_p50_ms,
                f.add_before_p99_ms,
                f.deleted_meanwhile,
                f.still_waiting,
                f.add_meanwhile_p50_ms,
                f.add_meanwhile_p99_ms
            ),
            format!("resident memory with everything applied: {} KiB", f.memory_kib),
        ]
        .join("\n"),
    )
}

#[derive(Args)]
struct Run {
    /// Name of this host in the topology.
    #[arg(long, required_unless_present = "enrol")]
    host: Option<String>,
    /// Address of the controller's agent port, such as https://192.0.2.1:8444.
    #[arg(long)]
    controller: String,
    /// Get certificate, name and VTEP addresses from the controller, with the token in this file, which `fabricctl host token`
    /// prints. The file is read only while the host has no valid certificate.
    #[arg(long, value_name = "TOKEN_FILE", conflicts_with_all = ["tls_cert", "tls_key"])]
    enrol: Option<PathBuf>,
    /// Authorities of the fabric to trust (PEM). With --enrol: instead of the fingerprint in the token's file.
    #[arg(long, required_unless_present = "enrol")]
    tls_ca: Option<PathBuf>,
    /// Certificate of this host, for spiffe://FABRIC/host/HOST (PEM).
    #[arg(long, required_unless_present = "enrol")]
    tls_cert: Option<PathBuf>,
    /// Key of the certificate (PEM).
    #[arg(long, required_unless_present = "enrol")]
    tls_key: Option<PathBuf>,
    /// Link that carries the tunnels.
    #[arg(long)]
    uplink: String,
    /// VTEP address of this host, IPv4.
    #[arg(long, required_unless_present_any = ["vtep_ipv6", "enrol"])]
    vtep_ipv4: Option<Ipv4Addr>,
    /// VTEP address of this host, IPv6.
    #[arg(long)]
    vtep_ipv6: Option<Ipv6Addr>,
    /// Network namespace for bridges, VXLAN devices and the host's ends of workloads' interfaces; it is created if it
    /// does not exist [default: vfabric-<host>].
    #[arg(long)]
    overlay: Option<String>,
    /// Mount namespace in which names of network namespaces are created, such as /proc/1/ns/mnt [default: the agent's own].
    #[arg(long)]
    mounts_of: Option<PathBuf>,
    /// Broadcast and multicast frames that a workload may send each second; twice as many at once.
    #[arg(long, default_value_t = FloodLimit::default().per_second, value_parser = clap::value_parser!(u32).range(1..))]
    flood_limit: u32,
    /// Directory of the agent's cache and socket.
    #[arg(long)]
    state_dir: PathBuf,
    /// Socket of the CNI plugin [default: cni.sock in the state directory].
    #[arg(long)]
    cni_socket: Option<PathBuf>,
    /// Serve OpenMetrics at https://ADDRESS/metrics, for operators and the controller [default: not served].
    #[arg(long)]
    metrics_listen: Option<SocketAddr>,
    /// What to log: error, warn, info, debug, trace, or directives of tracing's EnvFilter.
    #[arg(long, default_value = "info")]
    log_level: String,
    /// How to log.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// Prints to standard output. A reader that has stopped early (`| head`) is not an error.
fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("standard output"),
    }
}

fn overlay(host: &str, name: Option<String>) -> String {
    name.unwrap_or_else(|| format!("vfabric-{host}"))
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", vtep_agent::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    match (cli.command, cli.run) {
        (Some(Command::Status { state_dir, json }), _) => {
            let status = runtime.block_on(status::ask(&state_dir)).context("no agent answers")?;
            let text = if json {
                serde_json::to_string_pretty(&status)?
            } else {
                status.tables()
            };
            print(&text)
        }
        (
            Some(Command::Dump {
                attachment,
                state_dir,
                json,
            }),
            _,
        ) => {
            let status = runtime.block_on(status::ask(&state_dir)).context("no agent answers")?;
            let status = status.of_attachment(&attachment);
            let status = status.with_context(|| format!("the host holds no attachment {attachment}"))?;
            let text = if json {
                serde_json::to_string_pretty(&status)?
            } else {
                status.tables()
            };
            print(&text)
        }
        (
            Some(Command::Trace {
                attachment,
                to,
                from,
                mac,
                state_dir,
            }),
            _,
        ) => {
            let packet = Packet {
                from: attachment,
                to,
                source: from,
                mac,
            };
            let way = runtime.block_on(status::ask_trace(&state_dir, &packet));
            let way = way.context("no agent answers")?.map_err(anyhow::Error::msg)?;
            print(&way.join("\n"))
        }
        (
            Some(Command::Capture {
                attachment,
                state_dir,
                write,
                count,
                seconds,
            }),
            _,
        ) => {
            let status = runtime.block_on(status::ask(&state_dir)).context("no agent answers")?;
            let held = status.of_attachment(&attachment);
            held.with_context(|| format!("the host holds no attachment {attachment}"))?;
            let until = capture::Until {
                frames: count,
                time: seconds.map(Duration::from_secs),
            };
            let mut to: Box<dyn Write> = if write.as_os_str() == "-" {
                Box::new(std::io::stdout())
            } else {
                fabric_identity::private_files();
                let file = std::fs::File::create(&write).with_context(|| write.display().to_string())?;
                Box::new(file)
            };
            let frames = capture::run(&status.overlay, &port_name(&attachment), until, &mut to)?;
            eprintln!("{frames} frames");
            Ok(())
        }
        (Some(Command::Attachment { socket, verb }), _) => print(&attachment::run(&socket, verb)?),
        (Some(Command::Cni { verb }), _) => print(&install::run(verb)?),
        (Some(Command::Purge { host, overlay: name }), _) => {
            let name = overlay(&host, name);
            let removed = Overlay::keep(&name)
                .and_then(|o| Kernel::open(o, FloodLimit::default(), Watch::default()))
                .and_then(Kernel::purge);
            removed.with_context(|| format!("cannot purge {host}"))
        }
        (
            Some(Command::Bench {
                networks,
                attachments,
                tcp,
                json,
            }),
            _,
        ) => match tcp {
            Some(rounds) => print_tcp_bench(rounds, json.as_deref()),
            None => print_bench(networks, attachments, json.as_deref()),
        },
        (None, Some(run)) => {
            log(&run)?;
            runtime.block_on(serve(run))
        }
        (None, None) => {
            anyhow::bail!("nothing to do: give --enrol or --host and the flags that go with it, or `status`")
        }
    }
}

fn log(run: &Run) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&run.log_level).with_context(|| format!("--log-level `{}`", run.log_level))?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match run.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
    Ok(())
}

/// This host's name, and its proof of identity.
struct Own {
    host: String,
    local: LocalVteps,
    credentials: Arc<Credentials>,
    /// Renews the certificate, if the controller gave it.
    enrolment: Option<Enrolment>,
}

impl Own {
    /// Takes name and proof from the command line, or gets them from the controller.
    async fn of(run: &Run) -> anyhow::Result<Self> {
        let (host, local, files, enrolment) = match (&run.enrol, &run.host, &run.tls_ca, &run.tls_cert, &run.tls_key) {
            (Some(token_file), named, ca, ..) => {
                let enrolment = Enrolment::open(&run.state_dir, &run.controller).map_err(worded)?;
                let (enrolled, files) = enrol::identity(&enrolment, token_file, ca.as_deref())
                    .await
                    .map_err(worded)?;
                let local = LocalVteps {
                    ipv4: run.vtep_ipv4.or(enrolled.vtep_ipv4),
                    ipv6: run.vtep_ipv6.or(enrolled.vtep_ipv6),
                };
                let host = named.clone().unwrap_or(enrolled.host);
                (host, local, files, Some(enrolment))
            }
            (None, Some(host), Some(ca), Some(cert), Some(key)) => {
                let files = Files {
                    ca: ca.clone(),
                    cert: cert.clone(),
                    key: key.clone(),
                };
                let local = LocalVteps {
                    ipv4: run.vtep_ipv4,
                    ipv6: run.vtep_ipv6,
                };
                (host.clone(), local, files, None)
            }
            _ => anyhow::bail!("give --enrol, or --host with --tls-ca, --tls-cert and --tls-key"),
        };
        let credentials = Credentials::load(files).map_err(worded)?;
        credentials.expect(&Subject::Host(host.clone()))?;
        Ok(Self {
            host,
            local,
            credentials,
            enrolment,
        })
    }
}

/// An error with its causes, with TLS errors in plain words.
fn worded(error: impl std::error::Error + 'static) -> anyhow::Error {
    anyhow::anyhow!("{}", fabric_identity::explain(&error))
}

async fn serve(run: Run) -> anyhow::Result<()> {
    fabric_identity::private_files();
    fabric_identity::private_directory(&run.state_dir)?;
    let Own {
        host,
        local,
        credentials,
        enrolment,
    } = Own::of(&run).await?;
    let controller = Controller::new(&run.controller, credentials.clone())?;
    let renewing = (credentials.clone(), controller.connection());
    let renewing = async move {
        match enrolment {
            Some(enrolment) => enrolment.keep(renewing.0, renewing.1).await,
            None => std::future::pending().await,
        }
    };
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let settings = agent::Settings {
        host: host.clone(),
        uplink: run.uplink.clone(),
        local,
        state_dir: run.state_dir.clone(),
        overlay: overlay(&host, run.overlay),
        flood_limit: FloodLimit {
            per_second: run.flood_limit,
            burst: run.flood_limit.saturating_mul(2),
        },
    };
    if let Some(path) = &run.mounts_of {
        vtep_agent::netns::set_mounts(path).with_context(|| format!("--mounts-of {}", path.display()))?;
    }
    let agent::Started {
        commands,
        uplink,
        watch,
    } = agent::start(settings.clone())?;
    let hello = v1::Hello {
        host,
        instance: rand::random::<[u8; 16]>().to_vec(),
        boot_id: boot_id.trim().to_owned(),
        vtep_ipv4: local.ipv4.map(|a| a.octets().to_vec()).unwrap_or_default(),
        vtep_ipv6: local.ipv6.map(|a| a.octets().to_vec()).unwrap_or_default(),
        uplink_mac: uplink.mac,
        uplink: run.uplink,
        version: env!("CARGO_PKG_VERSION").into(),
        // The rest becomes known when the stream begins.
        ..v1::Hello::default()
    };
    let below = Below::open(
        &settings.host,
        &run.state_dir,
        controller.connection(),
        commands.clone(),
    )?;
    let metrics_listener = match run.metrics_listen {
        Some(address) => {
            let bound = TcpListener::bind(address).await;
            Some(bound.with_context(|| format!("--metrics-listen {address}"))?)
        }
        None => None,
    };
    let served = (credentials.clone(), commands.clone());
    let metrics = async move {
        match metrics_listener {
            Some(listener) => metrics::serve(listener, &served.0, served.1).await,
            None => std::future::pending().await,
        }
    };
    let cni_socket = run.cni_socket.unwrap_or_else(|| run.state_dir.join("cni.sock"));
    tokio::select! {
        ended = below::serve(&cni_socket, Arc::clone(&below)) => ended?,
        () = below.tidy() => {}
        ended = metrics => ended?,
        ended = stream::follow(controller, hello, commands.clone()) => ended?,
        ended = status::serve(settings, &credentials, commands.clone(), watch.clone()) => ended?,
        ended = Arc::clone(&credentials).follow(|| {}) => ended?,
        () = renewing => {}
        () = watch.run() => {}
        () = fabric_service::run(|waits| agent::is_alive(commands.clone(), waits)) => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    fabric_service::stopping();
    // The kernel's objects stay: the kernel forwards without the agent.
    let _ = std::fs::remove_file(&cni_socket);
    let _ = std::fs::remove_file(status::socket(&run.state_dir));
    tracing::info!("stopped; the kernel keeps forwarding");
    Ok(())
}
