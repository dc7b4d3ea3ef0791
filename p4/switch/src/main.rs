//! A software P4 target that executes BMv2 JSON and serves P4Runtime and gNMI.

use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use clap::Parser;
use p4_switch::device::{Dataplane, EngineDevice, PACKET_OUT_QUEUE};
use p4_switch::forwarding::Reference;
use p4_switch::gnmi::netdev::NetdevInterfaces;
use p4_switch::links::Links;
use p4_switch::port::{Forwarder, Ports, Waker};
use p4_switch::serve::{EVENT_QUEUE, ServeConfig, Tls, listen, serve};
use tokio::signal::unix::{SignalKind, signal};

/// Options, named as those of simple_switch_grpc where it has them.
#[derive(Parser)]
#[command(version, about)]
struct Options {
    /// P4Runtime device id.
    #[arg(long, default_value_t = 1)]
    device_id: u64,
    /// Where P4Runtime and gNMI are served.
    #[arg(long, default_value = "127.0.0.1:9559")]
    grpc_server_addr: SocketAddr,
    /// A port number and the network interface behind it.
    #[arg(short = 'i', long = "interface", value_name = "PORT@IFACE", value_parser = port)]
    interfaces: Vec<(u32, String)>,
    /// Port for packet-in and packet-out.
    #[arg(long)]
    cpu_port: Option<u32>,
    /// Port that drops.
    #[arg(long, default_value_t = 511)]
    drop_port: u32,
    /// Forwarding threads [default: as many as the machine has cores]
    #[arg(long)]
    threads: Option<NonZeroU16>,
    /// Start without a program and wait for a controller.
    #[arg(long)]
    no_p4: bool,
    /// error, warn, info, debug or trace.
    #[arg(long, default_value = "info")]
    log_level: String,
    /// Certificates that sign clients (PEM); with --tls-cert and --tls-key, mutual TLS is required.
    #[arg(long, requires_all = ["tls_cert", "tls_key"])]
    tls_ca: Option<PathBuf>,
    /// Own certificate chain (PEM).
    #[arg(long, requires = "tls_ca")]
    tls_cert: Option<PathBuf>,
    /// Own private key (PEM).
    #[arg(long, requires = "tls_ca")]
    tls_key: Option<PathBuf>,
}

fn port(text: &str) -> Result<(u32, String), String> {
    let (number, name) = text.split_once('@').ok_or("PORT@IFACE is expected")?;
    let number = number.parse().map_err(|error| format!("port number: {error}"))?;
    Ok((number, name.to_owned()))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    let filter = tracing_subscriber::EnvFilter::new(&options.log_level);
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn tls(options: &Options) -> Result<Option<Tls>, String> {
    let read = |path: &PathBuf| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    match (&options.tls_ca, &options.tls_cert, &options.tls_key) {
        (Some(ca), Some(cert), Some(key)) => Ok(Some(Tls {
            ca: read(ca)?,
            cert: read(cert)?,
            key: read(key)?,
        })),
        _ => Ok(None),
    }
}

async fn run(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    let tls = tls(&options)?;
    let hostname = format!("switch{}", options.device_id);
    let interfaces = NetdevInterfaces::start(&hostname, options.interfaces.iter().cloned()).await?;
    let (events, receiver) = tokio::sync::mpsc::channel(EVENT_QUEUE);
    let (outgoing, inbox) = tokio::sync::mpsc::channel(PACKET_OUT_QUEUE);
    let names = options
        .interfaces
        .iter()
        .map(|(id, name)| (name.clone(), *id))
        .collect();
    let threads = options.threads.map_or_else(cores, |t| usize::from(t.get()));
    let waker = Arc::new(OnceLock::<Waker>::new());
    let wake = Arc::clone(&waker);
    let plane = Dataplane::new(
        names,
        options.cpu_port,
        options.drop_port,
        outgoing,
        Box::new(move || wake.get().into_iter().for_each(Waker::wake)),
        events,
    );
    let mut inbox = Some(inbox);
    let ports = Ports::start(threads, |wakers| {
        // The first thread has the packet-outs.
        if let Some(first) = wakers.first() {
            let _ = waker.set(first.clone());
        }
        let forwarder = |_: &Waker| Box::new(Reference::new(Arc::clone(&plane), inbox.take())) as Box<dyn Forwarder>;
        wakers.iter().map(forwarder).collect()
    })?;
    let links = Links::start(Arc::new(ports), Arc::clone(&plane), interfaces.as_ref())?;
    tokio::spawn(links.follow(interfaces.clone()));
    let device = Arc::new(EngineDevice(plane));
    let listener = listen(options.grpc_server_addr).await?;
    tracing::info!(address = %listener.local_addr()?, device_id = options.device_id, tls = tls.is_some(), "serving");
    let mut terminate = signal(SignalKind::terminate())?;
    let shutdown = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    let config = ServeConfig {
        device_id: options.device_id,
        tls,
    };
    Ok(serve(config, listener, device, interfaces, receiver, shutdown).await?)
}
