//! A software P4 target that executes BMv2 JSON and serves P4Runtime and gNMI.

mod bench;
mod cli;
mod management;
mod restart;
mod ztp;

use std::collections::HashMap;
use std::fs::File;
use std::io::IsTerminal as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use cli::{Called, Options};
use fabric_identity::{Credentials, Files, Subject, explain};
use p4_engine::trace::{Ending, Printer, Traced};
use p4_switch::commands::{Commands, client};
use p4_switch::device::{Dataplane, EngineDevice, PACKET_OUT_QUEUE};
use p4_switch::forwarding::Engine;
use p4_switch::gnmi::netdev::NetdevInterfaces;
use p4_switch::gnoi::system::Restart;
use p4_switch::gnoi::{Gnoi, certz};
use p4_switch::links::{Links, Make, SwitchPorts};
use p4_switch::port::netdev::Netdev;
use p4_switch::port::pcap::{FilePort, Recorder, Tap, Track};
use p4_switch::port::qdisc::{Qdisc, Qdiscs};
use p4_switch::port::{Forwarder, Port, Ports, Waker};
use p4_switch::serve::{EVENT_QUEUE, ServeConfig, listen, serve};
use p4_switch::startup;
use tokio::signal::unix::{SignalKind, signal};

type Error = Box<dyn std::error::Error>;

/// How long a forwarding thread may take to reply to the watchdog: a thousand times the duration of a burst.
const ANSWER: Duration = Duration::from_secs(1);

#[tokio::main]
async fn main() -> ExitCode {
    p4_switch::gnmi::tree::booted();
    let options = match cli::read(std::env::args_os()).unwrap_or_else(|error| error.exit()) {
        Called::Switch(options) => *options,
        Called::Client(options) => {
            let run = client::run(
                &options.thrift_ip,
                options.thrift_port,
                &mut std::io::stdin().lock(),
                &mut std::io::stdout().lock(),
            );
            return run.map_or_else(
                |error| {
                    eprintln!("{}: {error}", cli::SIMPLE_SWITCH_CLI);
                    ExitCode::FAILURE
                },
                |()| ExitCode::SUCCESS,
            );
        }
    };
    // Logs and captures hold tenants' frames. A switch without certificates is in a lab; its files have the usual mode,
    // as bmv2's.
    if options.tls_ca.is_some() || options.ztp.is_some() {
        fabric_identity::private_files();
    }
    if let Err(error) = log(&options) {
        eprintln!("p4-switch: {error}");
        return ExitCode::FAILURE;
    }
    for warning in &options.warnings {
        tracing::warn!("{warning}");
    }
    let done = match &options.command {
        Some(cli::Command::Bench(bench)) => bench::run(bench).map(|()| None),
        None => run(options).await,
    };
    let done = match done {
        Ok(Some(restart)) => Err(restart::begin_again(&restart).into()),
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                text = format!("{text}: {error}");
                cause = error.source();
            }
            tracing::error!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn log(options: &Options) -> Result<(), String> {
    // Cranelift logs whole functions at this level.
    let filter = format!("{},cranelift_jit=off", options.log_level.directive());
    let builder = tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::new(filter));
    match &options.log_file {
        Some(path) => {
            // The file gets the name that bmv2 would give it.
            let mut name = path.clone().into_os_string();
            name.push(".txt");
            let open = File::options().create(true).append(true).open(&name);
            let file = open.map_err(|error| format!("--log-file {}: {name:?}: {error}", path.display()))?;
            builder.with_ansi(false).with_writer(Mutex::new(file)).init();
        }
        None if options.log_console => {
            let is_terminal = std::io::stdout().is_terminal();
            builder.with_ansi(is_terminal).with_writer(std::io::stdout).init();
        }
        None => {
            let is_terminal = std::io::stderr().is_terminal();
            builder.with_ansi(is_terminal).with_writer(std::io::stderr).init();
        }
    }
    Ok(())
}

/// Reads the certificate of this switch, and reads it again when its files change.
fn tls(options: &Options) -> Result<Option<(Arc<Credentials>, Files)>, String> {
    let (Some(ca), Some(cert), Some(key)) = (&options.tls_ca, &options.tls_cert, &options.tls_key) else {
        if !options.grpc_server_addr.ip().is_loopback() {
            tracing::warn!(
                address = %options.grpc_server_addr,
                "plain text: anybody who reaches this address can change the switch"
            );
        }
        return Ok(None);
    };
    let files = Files {
        ca: ca.clone(),
        cert: cert.clone(),
        key: key.clone(),
    };
    certz::recover(&files).map_err(|error| format!("{}: {error}", files.cert.display()))?;
    let credentials = Credentials::load(files.clone()).map_err(|error| explain(&error))?;
    let identity = credentials.identity();
    if !matches!(identity.subject, Subject::Switch(_)) {
        return Err(format!("--tls-cert is for `{identity}`, which is not a switch"));
    }
    tokio::spawn({
        let credentials = Arc::clone(&credentials);
        async move {
            if let Err(error) = credentials.follow(|| {}).await {
                tracing::error!(%error, "cannot listen for SIGHUP; new certificates need a restart");
            }
        }
    });
    Ok(Some((credentials, files)))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Names and numbers of all ports.
fn names(options: &Options) -> Vec<(String, u32)> {
    let interfaces = options.interfaces.iter().map(|(port, name)| (name.clone(), *port));
    let files = options
        .file_ports()
        .into_iter()
        .map(|port| (format!("pcap{port}"), port));
    interfaces.chain(files).collect()
}

/// The capture files of what ports receive and send.
struct Captures {
    recorder: Mutex<Recorder>,
    /// Folder for the capture files of network devices.
    dir: Option<PathBuf>,
    tracks: Mutex<HashMap<String, [Track; 2]>>,
}

impl Captures {
    fn start(options: &Options) -> std::io::Result<Option<Self>> {
        if options.pcap.is_none() && options.pcap_out.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            recorder: Mutex::new(Recorder::start()?),
            dir: options.pcap.clone(),
            tracks: Mutex::default(),
        }))
    }

    fn file(&self, path: &Path) -> std::io::Result<Track> {
        self.recorder.lock().unwrap_or_else(PoisonError::into_inner).file(path)
    }

    /// The capture files of a device; when its port is opened again, it continues them.
    fn tracks(&self, name: &str) -> std::io::Result<Option<[Track; 2]>> {
        let Some(dir) = &self.dir else { return Ok(None) };
        let mut all = self.tracks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tracks) = all.get(name) {
            return Ok(Some(tracks.clone()));
        }
        let track = |way: &str| self.file(&dir.join(format!("{name}_{way}.pcap")));
        let tracks = [track("in")?, track("out")?];
        all.insert(name.to_owned(), tracks.clone());
        Ok(Some(tracks))
    }
}

/// How frames are sent to the device of a port.
async fn qdiscs(options: &Options, plane: &Arc<Dataplane>) -> std::io::Result<Box<dyn Fn(u32) -> Qdisc + Send + Sync>> {
    Ok(match options.qdisc {
        cli::Qdisc::Bypass => Box::new(|_| Qdisc::Bypass),
        cli::Qdisc::Use => Box::new(|_| Qdisc::Use),
        cli::Qdisc::Attached => {
            let (all, plane) = (Qdiscs::follow().await?, Arc::clone(plane));
            Box::new(move |port| {
                let plane = Arc::clone(&plane);
                let report = move |is_attached| plane.queues.set_shaped(port, is_attached);
                Qdisc::WhereAttached(Arc::clone(&all), Arc::new(report))
            })
        }
    })
}

fn netdev(port: Netdev, name: &str, captures: Option<&Captures>) -> std::io::Result<Box<dyn Port>> {
    let tracks = captures.map(|c| c.tracks(name)).transpose()?.flatten();
    Ok(match tracks {
        Some([received, sent]) => Box::new(Tap::new(port, received, sent)),
        None => Box::new(port),
    })
}

fn attach_files(
    options: &Options,
    ports: &Ports,
    plane: &Arc<Dataplane>,
    captures: Option<&Captures>,
) -> std::io::Result<()> {
    let of = |all: &[(u32, PathBuf)], port: u32| all.iter().find(|(p, _)| *p == port).map(|(_, f)| f.clone());
    for port in options.file_ports() {
        let output = match (of(&options.pcap_out, port), captures) {
            (Some(path), Some(captures)) => Some(captures.file(&path)?),
            _ => None,
        };
        let plane = Arc::clone(plane);
        let wait = Duration::from_secs(options.use_files.unwrap_or(0).into());
        let since = OnceLock::new();
        let is_ready = move || {
            let is_running = plane.running.load().is_some();
            is_running && since.get_or_init(Instant::now).elapsed() >= wait
        };
        ports.attach(port, &FilePort::new(of(&options.pcap_in, port), output, is_ready))?;
    }
    Ok(())
}

/// Serves until the process is asked to end or to restart.
async fn run(mut options: Options) -> Result<Option<Restart>, Error> {
    let Some(ztp) = ztp::enrol(&mut options).await? else {
        return Ok(None);
    };
    let tls = tls(&options)?;
    let pipeline = match &options.program {
        Some(json) => Some(startup::read(json, options.p4info.as_deref())?),
        None => None,
    };
    let hostname = ztp
        .hostname()
        .map_or_else(|| format!("switch{}", options.device_id), str::to_owned);
    let devices = NetdevInterfaces::start(&hostname, options.interfaces.iter().cloned()).await?;
    let (events, receiver) = tokio::sync::mpsc::channel(EVENT_QUEUE);
    let (outgoing, inbox) = tokio::sync::mpsc::channel(PACKET_OUT_QUEUE);
    let threads = options.threads.map_or_else(cores, |t| usize::from(t.get()));
    let waker = Arc::new(OnceLock::<Waker>::new());
    let wake = Arc::clone(&waker);
    let plane = Dataplane::new(
        names(&options),
        options.cpu_port,
        options.drop_port,
        outgoing,
        Box::new(move || wake.get().into_iter().for_each(Waker::wake)),
        events,
    );
    plane.queues.set_priorities(options.priority_queues);
    let (printer, ending) = if options.trace {
        Some(Printer::start(std::io::stdout())?).unzip()
    } else {
        (None, None)
    };
    let mut inbox = Some(inbox);
    let ports = Ports::start(threads, |wakers| {
        // The first thread sends the packet-outs.
        if let Some(first) = wakers.first() {
            let _ = waker.set(first.clone());
        }
        let forwarder = |_: &Waker| {
            let engine = Engine::new(Arc::clone(&plane), inbox.take());
            let engine = match &printer {
                Some(printer) => engine.with_trace(Traced::new(printer.clone(), std::io::stdout().is_terminal())),
                None => engine,
            };
            Box::new(engine) as Box<dyn Forwarder>
        };
        wakers.iter().map(forwarder).collect()
    })?;
    let ports = Arc::new(ports);
    let captures = Captures::start(&options)?.map(Arc::new);
    attach_files(&options, &ports, &plane, captures.as_deref())?;
    // `make` holds the captures only weakly, so that it does not keep the capture files open.
    let qdisc_of = qdiscs(&options, &plane).await?;
    let of_ports = captures.as_ref().map(Arc::downgrade);
    let make: Box<Make> = Box::new(move |interface, counters| {
        let captures = of_ports.as_ref().and_then(Weak::upgrade);
        let port = Netdev::with_counters(&interface.name, counters).with_qdisc(qdisc_of(interface.id));
        netdev(port, &interface.name, captures.as_deref())
    });
    let links = Links::start(&ports, Arc::clone(&plane), devices.as_ref(), make)?;
    let links = Arc::new(links);
    let following = tokio::spawn(Arc::clone(&links).follow(devices.clone()));
    let interfaces = Arc::new(SwitchPorts::new(devices, links, options.device_id));
    let commanded = Arc::clone(&plane);
    let device = Arc::new(EngineDevice(plane));
    let listener = listen(options.grpc_server_addr).await?;
    tracing::info!(address = %listener.local_addr()?, device_id = options.device_id, tls = tls.is_some(), "serving");
    let keeping = tokio::spawn(ztp.keep());
    let mut terminate = signal(SignalKind::terminate())?;
    let machine = Arc::new(restart::Process::new(Arc::clone(&ports), ANSWER));
    let restarting = Arc::clone(&machine);
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
            () = restarting.restarts() => {}
        }
    };
    if tls.is_some() && options.thrift_port.is_some() {
        tracing::warn!("--thrift-port: every program on this host can change the switch without a certificate");
    }
    let commands = match options.thrift_port {
        Some(port) => Some(Commands {
            listener: listen(SocketAddr::from((Ipv4Addr::LOCALHOST, port.get()))).await?,
            plane: commanded,
        }),
        None => None,
    };
    let profile = tls
        .as_ref()
        .map(|(credentials, files)| Arc::new(certz::Profile::new(Arc::clone(credentials), files.clone())));
    let gnoi = Gnoi {
        machine: Arc::clone(&machine) as _,
        came_from: restart::came_from(),
        profile,
        os: options.os_settings(),
    };
    let config = ServeConfig {
        device_id: options.device_id,
        tls: tls.map(|(credentials, _)| credentials),
        gnoi: Some(gnoi),
        pipeline,
        commands,
    };
    let alive = fabric_service::run(|waits| {
        let machine = Arc::clone(&machine);
        async move {
            waits.on("the thread that asks the forwarding threads");
            machine.ask_threads().await
        }
    });
    let served = tokio::select! {
        biased;
        served = serve(config, listener, device, interfaces, receiver, shutdown) => served,
        () = alive => Ok(()),
    };
    let restart = machine.due();
    if restart.is_none() {
        fabric_service::stopping();
    }
    keeping.abort();
    // End the threads first, so that nothing more is captured, then the capture files.
    following.abort();
    let _ = following.await;
    drop(machine);
    drop(ports);
    drop(captures);
    drop(printer);
    ending.into_iter().for_each(Ending::wait);
    served?;
    Ok(restart)
}
