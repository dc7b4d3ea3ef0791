//! Serving the router over TLS, with a clean end.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::RustlsConfig;

/// Time that requests under way get to finish at shutdown; longer than a store transaction,
/// shorter than a supervisor's patience.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("REST API on {address}: {source}")]
pub struct ServeError {
    /// The address that was to be listened on.
    address: SocketAddr,
    source: std::io::Error,
}

/// Serves `router` on `listener` until `shutdown` ends, then lets requests under way finish.
///
/// # Errors
/// The listener broke.
pub async fn serve_tls(
    listener: std::net::TcpListener,
    tls: Arc<rustls::ServerConfig>,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let address = listener.local_addr().unwrap_or_else(|_| ([0, 0, 0, 0], 0).into());
    let handle = Handle::new();
    let stop = handle.clone();
    tokio::spawn(async move {
        shutdown.await;
        stop.graceful_shutdown(Some(SHUTDOWN_GRACE));
    });
    let serve = async {
        listener.set_nonblocking(true)?;
        let server = axum_server::from_tcp_rustls(listener, RustlsConfig::from_config(tls))?;
        // A small answer must not wait for the acknowledgement of the one before.
        let server = server.map(|tls| tls.acceptor(NoDelayAcceptor::new()));
        server.handle(handle).serve(router.into_make_service()).await
    };
    serve.await.map_err(|source| ServeError { address, source })
}
