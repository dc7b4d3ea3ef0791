//! HTTP/1.1 connections with bounds in number and time.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::Request;
use fabric_identity::{Connection, Incoming, Limits};
use hyper::body::Incoming as HyperBody;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// Longest time for a request's header, and between two requests of a connection.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// Room for a request's header. Boot clients send some hundreds of octets.
const HEADER_OCTETS: usize = 16 << 10;
/// Time that transfers get to finish at the end. An image takes longer; clients resume it.
const GRACE: Duration = Duration::from_secs(2);

/// Limits of the listener: enough for some hundred switches that boot at once, each with its downloads.
pub const LIMITS: Limits = Limits {
    connections: 1024,
    per_peer: 16,
    handshake: Duration::from_secs(10),
    first_octets: Duration::from_secs(10),
    // A client is silent while it receives an image, so this is the longest time of one transfer. Between requests, the
    // limit for a header applies; the kernel finds clients that vanished.
    idle: Duration::from_secs(1800),
};

/// Serves until it is stopped.
pub async fn serve(mut incoming: Incoming, router: Router, stop: CancellationToken) {
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_OCTETS)
        .half_close(true);
    let mut tasks = JoinSet::new();
    loop {
        let connection = tokio::select! {
            connection = incoming.next() => connection,
            Some(_) = tasks.join_next() => continue,
            () = stop.cancelled() => None,
        };
        let Some(connection) = connection else { break };
        let (builder, router) = (builder.clone(), router.clone());
        tasks.spawn(async move { one(&builder, connection, router).await });
    }
    drop(incoming);
    let ended = async { while tasks.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(GRACE, ended).await;
}

async fn one(builder: &hyper::server::conn::http1::Builder, connection: Connection, router: Router) {
    let peer: SocketAddr = connection.peer().address;
    let answer = move |mut request: Request<HyperBody>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request.map(Body::new))
    };
    let service = hyper::service::service_fn(answer);
    // Clients that leave in the middle are noticed where the transfer is counted.
    if let Err(error) = builder.serve_connection(TokioIo::new(connection), service).await {
        tracing::debug!(%peer, %error, "connection ended");
    }
}
