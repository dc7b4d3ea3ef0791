//! Serving the router, with bounds in time and a clean end.

use std::future::Future;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use fabric_identity::{Connection, Incoming, Limits};
use hyper::body::Incoming as HyperBody;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tower::ServiceExt as _;

/// Time that requests under way get to finish at shutdown; longer than a store transaction,
/// shorter than a supervisor's patience.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// Longest time for a request's header, and between two requests of a connection (HTTP/1.1).
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// HTTP/2 pings and the patience for their answers: a silent client is gone after both.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));
/// Streams that one HTTP/2 connection may have open.
const MAX_STREAMS: u32 = 128;

/// What a listener of this API should grant: a client that waits for its change is silent for
/// [`super::MAX_WAIT`], and a proxy brings many clients from one address.
pub const LIMITS: Limits = Limits {
    connections: 2048,
    per_peer: 256,
    handshake: Duration::from_secs(10),
    first_octets: Duration::from_secs(10),
    idle: Duration::from_secs(90),
};

/// Serves `router` on these connections until `shutdown` ends, then lets requests under way finish.
pub async fn serve(mut incoming: Incoming, router: Router, shutdown: impl Future<Output = ()>) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE.0)
        .keep_alive_timeout(KEEPALIVE.1)
        .max_concurrent_streams(MAX_STREAMS);
    let graceful = GracefulShutdown::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let connection = tokio::select! {
            connection = incoming.next() => connection,
            () = &mut shutdown => None,
        };
        let Some(connection) = connection else { break };
        let (builder, router, watcher) = (builder.clone(), router.clone(), graceful.watcher());
        tokio::spawn(async move { one(&builder, connection, router, watcher).await });
    }
    drop(incoming);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(SHUTDOWN_GRACE) => tracing::warn!("requests under way were cut off"),
    }
}

async fn one(builder: &Builder<TokioExecutor>, connection: Connection, router: Router, watcher: Watcher) {
    let peer = connection.peer().clone();
    let answer = move |mut request: Request<HyperBody>| {
        request.extensions_mut().insert(peer.clone());
        router.clone().oneshot(request.map(Body::new))
    };
    let serving = builder.serve_connection(TokioIo::new(connection), hyper::service::service_fn(answer));
    // Clients that go away in the middle are no news.
    if let Err(error) = watcher.watch(serving).await {
        tracing::debug!(error, "connection ended");
    }
}
