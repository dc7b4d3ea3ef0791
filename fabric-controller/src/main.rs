//! `fabric-controller`: wires store, model, drivers and API together.

use std::future::Future;
use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::{Parser, ValueEnum};
use fabric_bootz::authority::Authority;
use fabric_bootz::enrol::book::Book;
use fabric_bootz::enrol::serve::{Desk as SwitchDesk, Keys, serve as serve_enrolment};
use fabric_bootz::enrol::unary::serve as serve_unary;
use fabric_controller::access::audit::AuditLog;
use fabric_controller::access::oidc;
use fabric_controller::bootz::settings::Settings;
use fabric_controller::controller::fleet::Fleet;
use fabric_controller::controller::gate::Gate;
use fabric_controller::controller::{Controller, Start};
use fabric_controller::device::claim::Claim;
use fabric_controller::driver::launch::Devices;
use fabric_controller::driver::machine::{Grpc, Signer as MachineSigner};
use fabric_controller::driver::vtep::VtepServer;
use fabric_controller::images::{Bounds, Shelf};
use fabric_controller::render::FabricRender;
use fabric_controller::secrets::Secrets;
use fabric_controller::store::{RedbStore, Window};
use fabric_controller::tables::Tables;
use fabric_controller::token_enrolment::desk::{Desk, Signer, Signers};
use fabric_controller::token_enrolment::serve::Service;
use fabric_controller::token_enrolment::tokens::Tokens;
use fabric_controller::topology::pace::Pace;
use fabric_identity::{ClientCertificates, Credentials, Files, Listener};
use p4runtime_client::pipeline::Pipeline;
use prost::Message as _;
use tokio_util::sync::CancellationToken;
use tracing::info;
use tracing_subscriber::EnvFilter;
use vfabric_api::rest::{LIMITS, Rate, router, serve as serve_rest};
use vfabric_api::topology::{Role, Topology};

/// Changes allocate many small objects.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The version, with the highest store format that it reads: packages refuse a downgrade below the format of the store.
static VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{} (store format {})", env!("CARGO_PKG_VERSION"), RedbStore::FORMAT));

/// The fabric controller.
#[derive(Debug, Parser)]
#[command(version = VERSION.as_str(), about)]
struct Args {
    /// The topology file (YAML), from which the first inventory is made. Later it is only compared with the inventory
    #[arg(long)]
    topology: Option<PathBuf>,
    /// Change the stored inventory to match the topology file
    #[arg(long, requires = "topology")]
    import_topology: bool,
    /// Take over devices that belonged to another store, and delete from them what this store does not have
    #[arg(long)]
    adopt: bool,
    /// Directory of the store
    #[arg(long)]
    data_dir: PathBuf,
    /// Revisions that the history keeps
    #[arg(long, default_value_t = Window::default().revisions, value_parser = clap::value_parser!(u64).range(1..))]
    history_revisions: u64,
    /// Address of the REST API
    #[arg(long, default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Address to which the hosts' agents connect
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
    /// File with bearer tokens of administrators, one a line; if it is missing, it is created with one token
    #[arg(long)]
    token_file: PathBuf,
    /// Identity provider whose tokens are accepted: its name in `iss`
    #[arg(long, requires_all = ["oidc_audience", "oidc_jwks"])]
    oidc_issuer: Option<String>,
    /// Name of this API for the identity provider, in `aud`
    #[arg(long, requires = "oidc_issuer")]
    oidc_audience: Option<String>,
    /// File with the identity provider's keys (JWK set)
    #[arg(long, requires = "oidc_issuer")]
    oidc_jwks: Option<PathBuf>,
    /// Requests a second that a user without a role of the fabric may make
    #[arg(long, default_value_t = Rate::default().per_second)]
    tenant_rate: NonZeroU32,
    /// Requests that such a user may make in a burst
    #[arg(long, default_value_t = Rate::default().burst)]
    tenant_burst: NonZeroU32,
    /// Time between two probes of a link's end (50ms to 10s). A next hop that is dead although its port is up is left
    /// out after three and a half of these intervals
    #[arg(long, default_value_t = Pace::default())]
    probe_interval: Pace,
    /// Settings of enrolment (YAML): the paths of keys, certificates and vouchers. Without it no switch can enrol
    #[arg(long)]
    bootz: Option<PathBuf>,
    /// Authority that signs certificates of hosts (PEM), so that they can enrol with a token; the agents' port then also takes
    /// peers without a certificate
    #[arg(long, requires = "host_authority_key")]
    host_authority: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, requires = "host_authority")]
    host_authority_key: Option<PathBuf>,
    /// Days for which certificates of hosts are valid
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=825))]
    host_certificate_days: u32,
    /// Authority that signs certificates of switches (PEM): for switches that enrol with a token, and for renewals by the controller.
    /// The agents' port then also takes peers without a certificate. Without it renewals use the authority of --bootz
    #[arg(long, requires = "switch_authority_key")]
    switch_authority: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, requires = "switch_authority")]
    switch_authority_key: Option<PathBuf>,
    /// Days for which certificates that it signs are valid
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=825))]
    switch_certificate_days: u32,
    /// Directory of images for switches, which the provisioning server serves. Without it images cannot be uploaded
    #[arg(long)]
    images: Option<PathBuf>,
    /// Largest image, in octets
    #[arg(long, default_value_t = 8 << 30, requires = "images")]
    image_octets: u64,
    /// Largest size of all images together, in octets
    #[arg(long, default_value_t = 64 << 30, requires = "images")]
    images_octets: u64,
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

/// Measures the controller alone; needs no fabric, so none of the other arguments.
#[derive(Debug, Parser)]
struct BenchArgs {
    /// Measure
    #[arg(long)]
    bench: bool,
    /// Also write the figures to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Only the part with writing clients
    #[arg(long)]
    clients: bool,
    /// Directory of the store for these clients
    #[arg(long, default_value = ".")]
    dir: PathBuf,
}

/// Replaces the store by a backup; needs none of the other arguments.
#[derive(Debug, Parser)]
struct RestoreArgs {
    /// The backup, as `fabricctl backup` wrote it
    #[arg(long, value_name = "BACKUP")]
    restore: PathBuf,
    /// Directory of the store; no controller may be running with it
    #[arg(long)]
    data_dir: PathBuf,
    /// Replace an existing store; it is kept as intent.redb.before-restore
    #[arg(long)]
    replace: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    /// Text lines for people
    Text,
    /// JSON for programs
    Json,
}

fn main() -> ExitCode {
    let has = |flag: &str| std::env::args_os().any(|a| a == flag);
    let done = if has("--bench") {
        bench(&BenchArgs::parse())
    } else if has("--restore") {
        restore(&RestoreArgs::parse())
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

fn restore(args: &RestoreArgs) -> Result<()> {
    fabric_identity::private_files();
    fabric_identity::private_directory(&args.data_dir)?;
    let store = args.data_dir.join("intent.redb");
    let content = fabric_controller::store::restore(&args.restore, &store, args.replace)?;
    let (revision, rows) = (content.revision, content.rows);
    println!(
        "restored {}: revision {revision}, {rows} rows, all checksums right",
        store.display()
    );
    Ok(())
}

fn run(args: &Args) -> Result<()> {
    let filter = EnvFilter::try_new(&args.log_level).context("--log-level")?;
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match args.log_format {
        LogFormat::Text => logs.init(),
        LogFormat::Json => logs.json().init(),
    }
    fabric_identity::private_files();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(args))
}

async fn serve(args: &Args) -> Result<()> {
    let topology = args.topology.as_deref().map(topology).transpose()?;
    fabric_identity::private_directory(&args.data_dir)?;
    let window = Window {
        revisions: args.history_revisions,
        ..Window::default()
    };
    let store = RedbStore::open_keeping(args.data_dir.join("intent.redb"), window)?;
    info!(store = %store.uuid(), "store opened");
    let files = Files {
        ca: args.tls_ca.clone(),
        cert: args.tls_cert.clone(),
        key: args.tls_key.clone(),
    };
    let secrets = Secrets::load(files, args.token_file.clone(), provider(args))?;
    let audit = AuditLog::open(&args.data_dir);
    let audit = Arc::new(audit.with_context(|| format!("audit log in {}", args.data_dir.display()))?);
    let mark = store.mark();
    let (leaf, spine) = (pipeline(args, Role::Leaf, mark)?, pipeline(args, Role::Spine, mark)?);
    let rest = tokio::net::TcpListener::bind(args.listen).await;
    let rest = rest.with_context(|| format!("--listen {}", args.listen))?;
    let agents = tokio::net::TcpListener::bind(args.agent_listen).await;
    let agents = agents.with_context(|| format!("--agent-listen {}", args.agent_listen))?;
    // Port 0 lets the system choose one.
    let (rest_address, agents_address) = (rest.local_addr()?, agents.local_addr()?);

    let enrolment = enrolment(args).await?;

    let start = Start {
        topology,
        import: args.import_topology,
        claim: Arc::new(Claim::new(mark, args.adopt)),
        tables: Tables::of(leaf.p4info(), spine.p4info()),
    };
    let controller = Controller::load(start, store, Arc::new(FabricRender)).await?;
    controller.set_credentials(Arc::clone(&secrets.credentials));
    controller.set_pace(args.probe_interval);
    if let Some(directory) = &args.images {
        let bounds = Bounds {
            each: args.image_octets,
            total: args.images_octets,
        };
        let shelf = Shelf::open(directory, bounds).with_context(|| format!("--images {}", directory.display()))?;
        controller.set_images(Arc::new(shelf));
    }
    let stop = CancellationToken::new();
    let hosts = VtepServer::new();
    hosts.serve_below(Arc::clone(&controller).below());
    if let Some((tokens, signers)) = token_enrolment(args, &secrets)? {
        let desk = Desk::new(
            Arc::clone(&controller) as _,
            tokens,
            signers,
            Arc::clone(&secrets.credentials),
        );
        let desk = Arc::new(desk);
        hosts.serve_newcomers(Service::routes(Arc::clone(&desk), Arc::clone(&audit)));
        controller.enrol_by_tokens(desk);
    }
    let renewing = match &enrolment {
        _ if args.switch_authority.is_some() => switch_signer(args, &secrets)?,
        Some(enrolment) => Some(enrolment.renewing()?),
        None => None,
    };
    let renewing = renewing.map(|Signer { authority, valid }| MachineSigner { authority, valid });
    let access = Grpc::new(Arc::clone(&secrets.credentials), args.insecure_p4runtime, renewing);
    controller.set_maintenance(Arc::new(access));
    let devices = Devices {
        credentials: Arc::clone(&secrets.credentials),
        insecure_p4runtime: args.insecure_p4runtime,
        leaf,
        spine,
        hosts: hosts.clone(),
    };
    let (fleet, inbox) = Fleet::new(devices, stop.child_token());
    controller.start(fleet);

    let (roster, credentials) = (Arc::clone(&controller), Arc::clone(&secrets.credentials));
    let enrolling = async {
        match enrolment {
            Some(enrolment) => enrolment.serve(roster, credentials, args.tls_ca.clone(), &stop).await,
            None => std::future::pending().await,
        }
    };
    let agent_server = hosts.serve(agents, &secrets.credentials, stop.clone().cancelled_owned());
    let rest = Listener::tls(rest, "REST", LIMITS, &secrets.credentials, ClientCertificates::Welcome)?;
    let (tokens, provider) = (secrets.tokens.clone(), secrets.provider.clone());
    let gate = Gate::new(Arc::clone(&controller), tokens, provider, audit);
    let rate = Rate {
        per_second: args.tenant_rate,
        burst: args.tenant_burst,
    };
    let api = serve_rest(
        rest.incoming(),
        router(Arc::clone(&controller), Arc::new(gate), rate),
        stop.clone().cancelled_owned(),
    );
    info!(rest = %rest_address, agents = %agents_address, "serving");
    tokio::select! {
        signal = terminated() => { signal?; info!("stopping"); }
        done = agent_server => done.context("the agents' server ended")?,
        done = enrolling => done.context("the server for enrolment ended")?,
        done = spawn(api) => done?,
        () = controller.follow(inbox.events) => bail!("the controller has no more actors"),
        () = controller.housekeeping() => {}
        () = controller.tend_machines() => {}
        () = controller.writer_ended() => bail!("the writer of changes ended"),
        () = controller.supervise(inbox.frames) => {}
        done = secrets.follow() => done.context("SIGHUP")?,
        () = fabric_service::run(|waits| controller.is_alive(waits)) => {}
    }
    fabric_service::stopping();
    stop.cancel();
    controller.shut_down().await;
    Ok(())
}

/// The parts for enrolment.
struct Enrolment {
    /// For the provisioning server.
    listener: tokio::net::TcpListener,
    /// For devices that prove their identity in the TLS handshake.
    unary: Option<tokio::net::TcpListener>,
    book: Book,
    keys: Keys,
    settings: Settings,
}

impl Enrolment {
    /// A signer with the authority of enrolment, for renewals by the controller.
    fn renewing(&self) -> Result<Signer> {
        Ok(Signer {
            authority: self.settings.keys()?.authority,
            valid: self.keys.valid,
        })
    }

    /// Serves the provisioning server and unary calls, until one of the two fails or `stop` is cancelled.
    async fn serve(
        self,
        roster: Arc<Controller<RedbStore>>,
        credentials: Arc<Credentials>,
        ca: PathBuf,
        stop: &CancellationToken,
    ) -> Result<()> {
        let desk = SwitchDesk::new(roster, self.book, self.keys, credentials, ca);
        let unary = async {
            match self.unary {
                Some(listener) => serve_unary(Arc::clone(&desk), listener, stop.clone().cancelled_owned()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            done = serve_enrolment(Arc::clone(&desk), self.listener, stop.clone().cancelled_owned()) => Ok(done?),
            done = unary => Ok(done?),
        }
    }
}

/// The parts for enrolment, if it is enabled.
async fn enrolment(args: &Args) -> Result<Option<Enrolment>> {
    let Some(path) = &args.bootz else { return Ok(None) };
    let settings = Settings::load(path).context("--bootz")?;
    let keys = settings.keys().with_context(|| format!("--bootz {}", path.display()))?;
    let book = Book::open(&args.data_dir.join("bindings.redb"))?;
    let listener = tokio::net::TcpListener::bind(settings.listen).await;
    let listener = listener.with_context(|| format!("--bootz: listen: {}", settings.listen))?;
    info!(address = %settings.listen, "enrolment");
    let unary = match settings.unary {
        Some(address) => {
            let listener = tokio::net::TcpListener::bind(address).await;
            info!(%address, "enrolment of devices that make unary calls");
            Some(listener.with_context(|| format!("--bootz: unary: {address}"))?)
        }
        None => None,
    };
    Ok(Some(Enrolment {
        listener,
        unary,
        book,
        keys,
        settings,
    }))
}

/// An authority that members of the fabric trust.
fn signer(secrets: &Secrets, certificate: &Path, key: &Path, days: u32) -> Result<Signer> {
    let pem = String::from_utf8(read(certificate)?).with_context(|| certificate.display().to_string())?;
    let secret = String::from_utf8(read(key)?).with_context(|| key.display().to_string())?;
    if !secrets.credentials.trusts_all(pem.as_bytes())? {
        bail!(
            "{}: nobody would trust the certificates that it signs: add this authority to the file of --tls-ca",
            certificate.display()
        );
    }
    Ok(Signer {
        authority: Authority::from_pem(&pem, &secret)?,
        valid: Duration::from_secs(u64::from(days) * 86_400),
    })
}

fn host_signer(args: &Args, secrets: &Secrets) -> Result<Option<Signer>> {
    let files = args.host_authority.as_ref().zip(args.host_authority_key.as_ref());
    files
        .map(|(certificate, key)| signer(secrets, certificate, key, args.host_certificate_days))
        .transpose()
}

fn switch_signer(args: &Args, secrets: &Secrets) -> Result<Option<Signer>> {
    let files = args.switch_authority.as_ref().zip(args.switch_authority_key.as_ref());
    files
        .map(|(certificate, key)| signer(secrets, certificate, key, args.switch_certificate_days))
        .transpose()
}

/// The parts for enrolment with tokens, if there is an authority for it.
fn token_enrolment(args: &Args, secrets: &Secrets) -> Result<Option<(Tokens, Signers)>> {
    let signers = Signers {
        hosts: host_signer(args, secrets)?,
        switches: switch_signer(args, secrets)?,
    };
    if signers.hosts.is_none() && signers.switches.is_none() {
        return Ok(None);
    }
    let tokens = Tokens::open(&args.data_dir.join("enrolment-tokens.redb"))?;
    Ok(Some((tokens, signers)))
}

/// The identity provider, if there is one.
fn provider(args: &Args) -> Option<oidc::Settings> {
    Some(oidc::Settings {
        issuer: args.oidc_issuer.clone()?,
        audience: args.oidc_audience.clone()?,
        jwks: args.oidc_jwks.clone()?,
    })
}

/// Runs a server on a task of its own, so that it can finish its requests while others end.
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

fn topology(path: &Path) -> Result<Topology> {
    Topology::from_yaml(&String::from_utf8(read(path)?)?).with_context(|| path.display().to_string())
}

fn pipeline(args: &Args, role: Role, mark: u32) -> Result<Arc<Pipeline>> {
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
    let info = info.with_context(|| format!("pipeline `{name}`: P4Info"))?;
    Ok(Arc::new(Pipeline::new(info, json).kept_by(mark)))
}
