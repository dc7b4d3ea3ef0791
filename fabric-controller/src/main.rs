//! `fabric-controller`: wires store, model, drivers and API together.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use fabric_controller::controller::Controller;
use fabric_controller::device::actor::{self, ActorHandle};
use fabric_controller::device::driver::{DeviceIndex, Driver as _};
use fabric_controller::device::packets::PacketPort;
use fabric_controller::driver::p4runtime::{P4RuntimeDriver, SwitchConfig};
use fabric_controller::driver::vtep::VtepServer;
use fabric_controller::render::FabricRender;
use fabric_controller::secrets::Secrets;
use fabric_controller::store::RedbStore;
use fabric_identity::{ClientCertificates, Dialer, Files, Listener, Subject};
use p4runtime_client::pipeline::Pipeline;
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing_subscriber::EnvFilter;
use vfabric_api::rest::{LIMITS, router, serve as serve_rest};
use vfabric_api::topology::{Role, Switch, Topology};

/// Events of devices that wait for the controller; an actor that finds it full waits.
const EVENTS: usize = 1024;
/// Frames from pipelines that wait for the controller: a probe a second from each of some
/// thousand links. More are lost, and sent again.
const FRAMES: usize = 8192;

/// The fabric controller.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    /// The topology file (YAML)
    #[arg(long)]
    topology: PathBuf,
    /// Directory of the store
    #[arg(long)]
    data_dir: PathBuf,
    /// Address of the REST API
    #[arg(long, default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Address that the hosts' agents dial
    #[arg(long)]
    agent_listen: SocketAddr,
    /// Certificate authorities to trust (PEM)
    #[arg(long)]
    tls_ca: PathBuf,
    /// Own certificate (PEM)
    #[arg(long)]
    tls_cert: PathBuf,
    /// Its key (PEM)
    #[arg(long)]
    tls_key: PathBuf,
    /// File with the API's bearer tokens, one a line
    #[arg(long)]
    token_file: PathBuf,
    /// Pipelines of another compiler: {leaf,spine}.json and {leaf,spine}.p4info.bin
    #[arg(long)]
    pipeline_dir: Option<PathBuf>,
    /// Speak plaintext to the switches (bmv2 on a trusted management network)
    #[arg(long)]
    insecure_p4runtime: bool,
    /// What to log, such as `info` or `fabric_controller=debug`
    #[arg(long, default_value = "info")]
    log_level: String,
    /// How to log
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

/// Measures the controller by itself; needs no fabric, so none of the other arguments.
#[derive(Debug, Parser)]
struct BenchArgs {
    /// Measure
    #[arg(long)]
    bench: bool,
    /// Also write the figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only the part with clients that write
    #[arg(long)]
    clients: bool,
    /// Directory of the store that these write to
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// Lines for people
    Text,
    /// JSON for programs
    Json,
}

fn main() -> ExitCode {
    let measure = std::env::args_os().any(|a| a == "--bench");
    let done = if measure {
        bench(&BenchArgs::parse())
    } else {
        run(&Args::parse())
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fabric-controller: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn bench(args: &BenchArgs) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(fabric_controller::bench::run(
        args.clients,
        &args.dir,
        args.json.as_deref(),
    ))
}

fn run(args: &Args) -> Result<()> {
    let filter = EnvFilter::try_new(&args.log_level).context("--log-level")?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
    fabric_identity::private_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(args))
}

async fn serve(args: &Args) -> Result<()> {
    let topology = Topology::from_yaml(&String::from_utf8(read(&args.topology)?)?)
        .with_context(|| args.topology.display().to_string())?;
    fabric_identity::private_directory(&args.data_dir)?;
    let store = RedbStore::open(args.data_dir.join("intent.redb"))?;
    info!(store = %store.uuid(), "store opened");
    let files = Files {
        ca: args.tls_ca.clone(),
        cert: args.tls_cert.clone(),
        key: args.tls_key.clone(),
    };
    let secrets = Secrets::load(files, args.token_file.clone())?;
    let (leaf, spine) = (pipeline(args, Role::Leaf)?, pipeline(args, Role::Spine)?);
    let rest = tokio::net::TcpListener::bind(args.listen).await;
    let rest = rest.with_context(|| format!("--listen {}", args.listen))?;
    let agents = tokio::net::TcpListener::bind(args.agent_listen).await;
    let agents = agents.with_context(|| format!("--agent-listen {}", args.agent_listen))?;

    let controller = Controller::load(topology, store, Arc::new(FabricRender)).await?;
    controller.set_credentials(Arc::clone(&secrets.credentials));
    let stop = CancellationToken::new();
    let (events, inbox) = tokio::sync::mpsc::channel(EVENTS);
    let (frames, arrived) = tokio::sync::mpsc::channel(FRAMES);
    let mut packets = Vec::new();
    let hosts = VtepServer::new(controller.topology().hosts.iter().map(|h| h.name.to_string()));
    let mut actors: Vec<ActorHandle> = Vec::new();
    let mut tasks = Vec::new();
    for (i, device) in (0u32..).zip(controller.devices()) {
        let (index, device, events, stop) = (DeviceIndex(i), Arc::clone(device), events.clone(), stop.clone());
        let (handle, task) = match controller.topology().switches.get(i as usize) {
            Some(switch) => {
                let pipeline = if switch.role == Role::Leaf { &leaf } else { &spine };
                let mut driver = P4RuntimeDriver::new(switch_config(args, &secrets, switch, pipeline)?);
                let port = PacketPort::new(index, frames.clone());
                driver.carry_packets(port.clone());
                packets.push(port);
                actor::spawn(index, device, driver, events, stop)
            }
            None => {
                let driver = hosts.driver(device.name.as_str()).context("a host without a stream")?;
                actor::spawn(index, device, driver, events, stop)
            }
        };
        actors.push(handle);
        tasks.push(task);
    }
    controller.set_actors(actors);
    drop(events);

    let agent_server = hosts.serve(agents, &secrets.credentials, stop.clone().cancelled_owned());
    let rest = Listener::tls(rest, "REST", LIMITS, &secrets.credentials, ClientCertificates::NotAsked)?;
    let tokens = secrets.tokens.clone();
    let api = serve_rest(
        rest.incoming(),
        router(Arc::clone(&controller), tokens),
        stop.clone().cancelled_owned(),
    );
    info!(rest = %args.listen, agents = %args.agent_listen, "serving");
    tokio::select! {
        signal = terminated() => { signal?; info!("stopping"); }
        done = agent_server => done.context("the agents' server ended")?,
        done = spawn(api) => done?,
        () = controller.follow(inbox) => bail!("every device actor ended"),
        () = controller.housekeeping() => {}
        () = controller.writer_ended() => bail!("the writer of changes ended"),
        () = controller.supervise(packets, arrived) => {}
        done = secrets.follow() => done.context("SIGHUP")?,
    }
    stop.cancel();
    for task in tasks {
        // An actor that panicked has said so itself.
        let _ = task.await;
    }
    Ok(())
}

/// On a task of its own, so that it can finish its requests while others end.
fn spawn<T: Send + 'static>(future: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
    tokio::spawn(future)
}

async fn terminated() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

fn pipeline(args: &Args, role: Role) -> Result<Arc<Pipeline>> {
    let (name, embedded) = match role {
        Role::Leaf => ("leaf", fabric_pipeline::Pipeline::LEAF),
        Role::Spine => ("spine", fabric_pipeline::Pipeline::SPINE),
    };
    let (info, json) = match &args.pipeline_dir {
        None => (embedded.p4info.to_vec(), Bytes::from_static(embedded.json)),
        Some(dir) => (
            read(&dir.join(format!("{name}.p4info.bin")))?,
            read(&dir.join(format!("{name}.json")))?.into(),
        ),
    };
    if json.is_empty() {
        bail!("pipeline `{name}`: none is embedded in this build; name compiled ones with --pipeline-dir");
    }
    let info = p4runtime_proto::p4::config::v1::P4Info::decode(info.as_slice());
    Ok(Arc::new(Pipeline::new(
        info.with_context(|| format!("pipeline `{name}`: P4Info"))?,
        json,
    )))
}

fn switch_config(args: &Args, secrets: &Secrets, switch: &Switch, pipeline: &Arc<Pipeline>) -> Result<SwitchConfig> {
    let subject = Subject::Switch(switch.name.to_string());
    let dialer = Dialer::new(Arc::clone(&secrets.credentials), subject)?;
    Ok(SwitchConfig {
        name: switch.name.to_string(),
        address: switch.p4runtime.to_string(),
        device_id: switch.device_id.into(),
        tls: (!args.insecure_p4runtime).then_some(dialer),
        pipeline: Arc::clone(pipeline),
    })
}
