//! The server: sockets first, then fewer rights, then files, then service.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result, bail};
use arc_swap::ArcSwap;
use fabric_identity::{ClientCertificates, Credentials, Files, Listener, Subject};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing_subscriber::EnvFilter;

use super::{LogFormat, Serve, files, user_of};
use crate::board::{Board, now};
use crate::bootz::owner::Remote;
use crate::bootz::serve::Desk;
use crate::dhcp::journal::Journal;
use crate::dhcp::leases::Leases;
use crate::dhcp::run::{Port, Serve as Decides, Shell, open};
use crate::dhcp::server::Server;
use crate::dhcp6::run::{duid, open as open6};
use crate::dhcp6::server::Server as Server6;
use crate::directory::Directory;
use crate::settings::Settings;
use crate::source::{Follower, Source};
use crate::{bootz, control, http, rights, tftp};

/// UDP port of TFTP.
const TFTP_PORT: u16 = 69;

/// Sockets that only root, or a process with the capability for low ports, can open.
struct Sockets {
    dhcp: Vec<Port>,
    dhcp6: Vec<Port<Ipv6Addr>>,
    http: Vec<TcpListener>,
    https: Vec<TcpListener>,
    tftp: Vec<(Ipv4Addr, UdpSocket)>,
    bootz: Vec<TcpListener>,
}

fn sockets(settings: &Settings) -> Result<Sockets> {
    let own = settings.subnets.iter().map(|s| settings.address_in(Some(s)));
    let tftp_addresses: BTreeSet<Ipv4Addr> = own.chain([settings.address]).collect();
    let ipv6 = settings.ipv6.as_ref();
    let own = ipv6
        .into_iter()
        .flat_map(|ipv6| ipv6.subnets.iter().map(|s| ipv6.address_in(s)).chain([ipv6.address]));
    let addresses = tftp_addresses.iter().copied().map(IpAddr::V4);
    let addresses: BTreeSet<IpAddr> = addresses.chain(own.map(IpAddr::V6)).collect();
    let mut sockets = Sockets {
        dhcp: open(settings)?,
        dhcp6: ipv6.map(|ipv6| open6(settings, ipv6)).transpose()?.unwrap_or_default(),
        http: Vec::new(),
        https: Vec::new(),
        tftp: Vec::new(),
        bootz: Vec::new(),
    };
    let tcp = |address: IpAddr, port: u16| -> Result<TcpListener> {
        let listener = TcpListener::bind((address, port)).with_context(|| format!("TCP port {port} of {address}"))?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    for address in addresses {
        sockets.http.push(tcp(address, settings.http_port)?);
        if let Some(https) = &settings.https {
            sockets.https.push(tcp(address, https.port)?);
        }
        if let Some(bootz) = &settings.bootz_server {
            sockets.bootz.push(tcp(address, bootz.port)?);
        }
    }
    if settings.tftp {
        for address in tftp_addresses {
            let tftp = UdpSocket::bind((address, TFTP_PORT));
            let tftp = tftp.with_context(|| format!("UDP port {TFTP_PORT} of {address}"))?;
            tftp.set_nonblocking(true)?;
            sockets.tftp.push((address, tftp));
        }
    }
    Ok(sockets)
}

pub(super) fn run(args: &Serve) -> Result<()> {
    let filter = EnvFilter::try_new(&args.log_level).context("--log-level")?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match args.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
    let settings = Settings::load(&args.common.settings)?;
    // Read the token of the API now: this process may soon lose the right to read it.
    let source = args.from.source()?;
    fabric_identity::private_files();
    user_of(&settings.state, args.user.as_deref())?;
    let sockets = sockets(&settings)?;
    rights::give_up(args.user.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(settings, source, sockets))
}

async fn serve(settings: Settings, source: Source, sockets: Sockets) -> Result<()> {
    let control = control::open(&settings.state).await?;
    let (directory, board) = (
        Arc::new(ArcSwap::from_pointee(Directory::default())),
        Arc::<Board>::default(),
    );
    let loaded = Journal::open::<Ipv4Addr>(&settings.state).context("the file of leases")?;
    for (line, why) in &loaded.damaged {
        board.trouble(now(), &format!("line {line} of the leases is lost: {why}"));
    }
    let follower = Follower::start(source, &settings.state, Arc::clone(&directory), Arc::clone(&board)).await;
    let files = Arc::new(files(settings, Arc::clone(&directory), Arc::clone(&board)));
    let stopped = Arc::new(AtomicBool::new(false));
    let leases = Leases::new(loaded.leases);
    info!(leases = leases.all().count(), "leases of earlier");
    let shell = Shell {
        ports: sockets.dhcp,
        server: Server::new(Arc::clone(&files.settings), leases),
        keeper: Box::new(loaded.journal),
        directory: Arc::clone(&directory),
        board: Arc::clone(&board),
        stop: Arc::clone(&stopped),
    };
    let (dhcp_ended, mut ended) = tokio::sync::mpsc::channel(1);
    let mut threads = vec![thread("dhcp", shell, dhcp_ended.clone())?];
    if let Some(ipv6) = &files.settings.ipv6 {
        let state = &files.settings.state;
        let loaded = Journal::open::<Ipv6Addr>(state).context("the file of DHCPv6 leases")?;
        for (line, why) in &loaded.damaged {
            board.trouble(now(), &format!("line {line} of the DHCPv6 leases is lost: {why}"));
        }
        let leases = Leases::new(loaded.leases);
        info!(leases = leases.all().count(), "DHCPv6 leases of earlier");
        let shell = Shell {
            ports: sockets.dhcp6,
            server: Server6::new(Arc::clone(&files.settings), ipv6.clone(), duid(state)?, leases),
            keeper: Box::new(loaded.journal),
            directory,
            board,
            stop: Arc::clone(&stopped),
        };
        threads.push(thread("dhcp6", shell, dhcp_ended)?);
    }
    let stop = CancellationToken::new();
    let mut servers = JoinSet::new();
    for listener in sockets.http {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        info!(address = %listener.local_addr()?, "HTTP");
        let incoming = Listener::plain(listener, "HTTP", http::LIMITS).incoming();
        servers.spawn(http::serve(incoming, http::router(Arc::clone(&files)), stop.clone()));
    }
    if let Some(https) = &files.settings.https {
        let credentials = credentials("https", &https.tls_ca, &https.tls_cert, &https.tls_key)?;
        for listener in sockets.https {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            info!(address = %listener.local_addr()?, "HTTPS");
            let clients = ClientCertificates::NotAsked;
            let incoming = Listener::tls(listener, "HTTPS", http::LIMITS, &credentials, clients)?.incoming();
            servers.spawn(http::serve(incoming, http::router(Arc::clone(&files)), stop.clone()));
        }
        servers.spawn(follow(credentials, stop.clone()));
    }
    for (address, socket) in sockets.tftp {
        info!(%address, "TFTP");
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        servers.spawn(tftp::serve(socket, address, Arc::clone(&files), stop.clone()));
    }
    if let Some(own) = &files.settings.bootz_server {
        let credentials = credentials("bootz_server", &own.tls_ca, &own.tls_cert, &own.tls_key)?;
        let owner = Arc::new(Remote::new(Arc::clone(&credentials), own.owner.clone())?);
        let (tell, steps) = tokio::sync::mpsc::channel(bootz::tell::QUEUE);
        files.board.tell(tell);
        servers.spawn(bootz::tell::tell(owner.clone(), steps, stop.clone()));
        let desk = Arc::new(Desk {
            directory: Arc::clone(&files.directory),
            board: Arc::clone(&files.board),
            owner,
        });
        for listener in sockets.bootz {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            info!(address = %listener.local_addr()?, owner = own.owner, "Bootz");
            let limits = bootz::serve::LIMITS;
            let clients = ClientCertificates::Welcome;
            let incoming = Listener::tls(listener, "Bootz", limits, &credentials, clients)?.incoming();
            let serving = bootz::serve::serve(incoming, Arc::clone(&desk), stop.clone());
            servers.spawn(async move {
                if let Err(error) = serving.await {
                    tracing::error!(%error, "Bootz");
                }
            });
        }
        servers.spawn(follow(credentials, stop.clone()));
    }
    let checking = Arc::clone(&files);
    tokio::task::spawn_blocking(move || checking.check_images());
    let control = control::serve(control, Arc::clone(&files), stop.clone());
    info!(
        address = %files.settings.address,
        interfaces = files.settings.interfaces.join(" "),
        "serving"
    );
    let result = tokio::select! {
        signal = terminated() => signal,
        ended = ended.recv() => match ended {
            Some(Err(error)) => Err(error).context("DHCP"),
            _ => bail!("DHCP ended"),
        },
        done = control => done.context("the control socket"),
        _ = servers.join_next() => bail!("a server ended"),
        () = follower.follow() => Ok(()),
    };
    info!("stopping");
    stopped.store(true, Ordering::Relaxed);
    stop.cancel();
    while servers.join_next().await.is_some() {}
    // They look at the flag several times a second.
    let _ = tokio::task::spawn_blocking(move || threads.into_iter().for_each(|thread| drop(thread.join()))).await;
    result
}

/// Runs a DHCP server on a thread of its own, because it waits for the disk.
fn thread<S: Decides + 'static>(
    name: &str,
    shell: Shell<S>,
    ended: tokio::sync::mpsc::Sender<std::io::Result<()>>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let run = move || drop(ended.blocking_send(shell.run()));
    std::thread::Builder::new().name(name.into()).spawn(run)
}

/// Certificate and key of one of this process's servers.
fn credentials(setting: &str, ca: &Path, cert: &Path, key: &Path) -> Result<Arc<Credentials>> {
    let files = Files {
        ca: ca.to_owned(),
        cert: cert.to_owned(),
        key: key.to_owned(),
    };
    let loaded = Credentials::load(files).and_then(|c| c.expect(&Subject::Provision).map(|()| c));
    loaded.map_err(|error| anyhow::anyhow!("{setting}: {}", fabric_identity::explain(&error)))
}

/// Reads credentials again when their files change.
async fn follow(credentials: Arc<Credentials>, stop: CancellationToken) {
    tokio::select! {
        followed = credentials.follow(|| {}) => if let Err(error) = followed {
            tracing::error!(%error, "cannot listen for SIGHUP");
        },
        () = stop.cancelled() => {}
    }
}

async fn terminated() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
    Ok(())
}
