//! One gRPC port: P4Runtime, gNMI, gNOI, gNSI, health and reflection, with or without mutual TLS.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fabric_identity::{ClientCertificates, Credentials, Limits, Listener, TakenLayer};
use gnmi_proto::gnmi::g_nmi_server::GNmiServer;
use gnoi_proto::gnoi::healthz::healthz_server::HealthzServer;
use gnoi_proto::gnoi::os::os_server::OsServer;
use gnoi_proto::gnoi::system::system_server::SystemServer;
use gnoi_proto::gnsi::certz::v1::certz_server::CertzServer;
use p4runtime_proto::p4::v1::ForwardingPipelineConfig;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tonic::transport::Server;

use crate::access::AccessLayer;
use crate::commands::Commands;
use crate::gnmi::service::Service as GnmiService;
use crate::gnmi::tree::Interfaces;
use crate::gnoi::Gnoi;
use crate::gnoi::certz::CertzService;
use crate::gnoi::healthz::HealthzService;
use crate::gnoi::os::OsService;
use crate::gnoi::system::SystemService;
use crate::p4runtime::error::EntityError;
use crate::p4runtime::octets::P4Runtime;
use crate::p4runtime::server::Server as P4RuntimeState;
use crate::p4runtime::service::Service as P4RuntimeService;
use crate::p4runtime::target::{Device, Event};

/// Largest accepted message: pipelines of large programs and batches of tens of thousands of updates fit.
const MAX_MESSAGE_LEN: usize = 128 << 20;

/// How often digest buffers and idle entries are checked.
const TICK: Duration = Duration::from_millis(10);

/// Dead peers are noticed after this plus the timeout, so that a primary that lost power can be replaced.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Longest wait for the reply to a keep-alive.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Streams that one connection may have open. The controller has a handful; a client that opens more waits.
const MAX_STREAMS: u32 = 128;

/// HTTP/2 flow control window in bytes: a batch of some thousand updates is sent without waiting for the server.
const WINDOW: u32 = 4 << 20;

/// Most events of the data plane that wait for the server; the engine drops (and counts) further ones.
pub const EVENT_QUEUE: usize = 4096;

/// Name of the server in logs.
const NAME: &str = "P4Runtime and gNMI";

/// Why serving ended.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The server cannot listen on the port.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// TLS cannot be set up.
    #[error("TLS")]
    Tls(#[from] rustls::Error),
    /// The transport failed.
    #[error("gRPC server")]
    Transport(#[from] tonic::transport::Error),
    /// The pipeline to start with cannot be run.
    #[error("the program cannot be run")]
    Pipeline(#[from] EntityError),
    /// The directory of packages cannot be used.
    #[error("the directory of packages")]
    Packages(#[from] std::io::Error),
    /// The reflection service refused the descriptors.
    #[error("gRPC reflection")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Settings of the server.
pub struct ServeConfig {
    /// P4Runtime device id.
    pub device_id: u64,
    /// Mutual TLS, with rights by certificate ([`crate::access`]). `None` is plain text: everybody may do everything.
    pub tls: Option<Arc<Credentials>>,
    /// The pipeline to run from the start; without one, the switch waits for a controller to set it.
    pub pipeline: Option<ForwardingPipelineConfig>,
    /// gNOI and gNSI, if they are served.
    pub gnoi: Option<Gnoi>,
    /// The listener for the commands of `simple_switch_CLI`, if they are enabled.
    pub commands: Option<Commands>,
}

/// Listens on an address.
///
/// # Errors
/// [`ServeError::Listen`].
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Listen { address, source })
}

/// Serves until `shutdown` is ready, then ends open calls and returns.
///
/// # Errors
/// TLS that cannot be set up, a pipeline that cannot be run, or a failed transport.
pub async fn serve(
    config: ServeConfig,
    listener: TcpListener,
    device: Arc<dyn Device>,
    interfaces: Arc<dyn Interfaces>,
    mut events: mpsc::Receiver<Event>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let state = Arc::new(P4RuntimeState::new(config.device_id, device));
    if let Some(pipeline) = config.pipeline {
        state.start_with(pipeline)?;
    }
    let p4runtime = P4Runtime::new(P4RuntimeService(state.clone()), MAX_MESSAGE_LEN);
    let gnmi = GNmiServer::new(GnmiService::new(interfaces));
    let (system, healthz, os, certz) = match config.gnoi {
        Some(gnoi) => {
            let system = SystemService::new(Arc::clone(&gnoi.machine), gnoi.came_from);
            let os = OsService::new(Arc::clone(&gnoi.machine), gnoi.os).await?;
            let healthz = HealthzService::new(gnoi.machine);
            let os = OsServer::new(os).max_decoding_message_size(MAX_MESSAGE_LEN);
            let certz = gnoi.profile.map(|profile| CertzServer::new(CertzService::new(profile)));
            (
                Some(SystemServer::new(system)),
                Some(HealthzServer::new(healthz)),
                Some(os),
                certz,
            )
        }
        None => (None, None, None, None),
    };
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<P4Runtime>().await;
    health.set_serving::<GNmiServer<GnmiService>>().await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(p4runtime_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(gnmi_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(gnoi_proto::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let listener = match &config.tls {
        Some(credentials) => Listener::tls(listener, NAME, Limits::GRPC, credentials, ClientCertificates::Required)?,
        None => Listener::plain(listener, NAME, Limits::GRPC),
    };
    let mut server = Server::builder()
        .layer(TakenLayer)
        .layer(AccessLayer::default())
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT));
    let router = server
        .add_service(p4runtime)
        .add_service(gnmi)
        .add_optional_service(system)
        .add_optional_service(healthz)
        .add_optional_service(os)
        .add_optional_service(certz)
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    let background = async {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut open = true;
        loop {
            tokio::select! {
                event = events.recv(), if open => match event {
                    Some(event) => state.dataplane_event(event),
                    None => open = false,
                },
                _ = ticks.tick() => state.tick(),
            }
        }
    };
    let commands = async {
        match config.commands {
            Some(commands) => commands.serve(Arc::clone(&state)).await,
            None => std::future::pending().await,
        }
    };
    // Open streams never end by themselves, so serving is dropped, not drained.
    tokio::select! {
        served = router.serve_with_incoming(listener.incoming()) => Ok(served?),
        () = background => Ok(()),
        () = commands => Ok(()),
        () = shutdown => Ok(()),
    }
}
