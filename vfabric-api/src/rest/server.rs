//! Serving the router, with bounds in time and a clean end.
//!
//! If a request is refused because of its head, its body stays unread. Then HTTP/1.1 has to end the connection, and the
//! next request of a client that has already sent it fails. So the rest of a body is read before the response is sent,
//! up to [`LEFT_BYTES`] and [`LEFT_TIME`]; if that is not enough, the response announces that the connection ends (RFC
//! 9112, section 9.6).

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::header::{CONNECTION, EXPECT};
use axum::http::{HeaderValue, Request, Version};
use bytes::Bytes;
use fabric_identity::{Connection, Incoming, Limits, Taken};
use hyper::body::{Body as _, Frame, Incoming as HyperBody, SizeHint};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tower::ServiceExt as _;

/// Time that requests under way get to finish at shutdown; longer than a store transaction,
/// shorter than a supervisor's patience.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);
/// Longest time for a request's header, and between two requests of a connection (HTTP/1.1).
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval and timeout of HTTP/2 pings: together, the time until a silent client counts as gone.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));
/// Streams that one HTTP/2 connection may have open.
const MAX_STREAMS: u32 = 128;

/// Most octets of an unwanted body that are read. Reading more would cost more than a new connection.
const LEFT_BYTES: usize = 64 << 10;
/// Longest time for reading them. A client that has sent the head has usually sent them, too.
const LEFT_TIME: Duration = Duration::from_secs(1);

/// Limits for a listener of this API: a client that waits for its change is silent for [`super::MAX_WAIT`], and many
/// clients may come from the address of one proxy.
pub const LIMITS: Limits = Limits {
    connections: 2048,
    per_peer: 256,
    handshake: Duration::from_secs(10),
    first_octets: Duration::from_secs(10),
    idle: Duration::from_secs(90),
};

/// Signals that the server stops; an extension of each request.
#[derive(Clone)]
pub(super) struct Stopping(tokio::sync::watch::Receiver<bool>);

impl Stopping {
    /// Ends when the server stops.
    pub(super) async fn stopped(mut self) {
        // The sender lives as long as the server takes connections.
        let _ = self.0.wait_for(|stopping| *stopping).await;
    }
}

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
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let stopping = Stopping(stopping);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let connection = tokio::select! {
            connection = incoming.next() => connection,
            () = &mut shutdown => None,
        };
        let Some(connection) = connection else { break };
        let (builder, router, watcher) = (builder.clone(), router.clone(), graceful.watcher());
        let stopping = stopping.clone();
        tokio::spawn(async move { one(&builder, connection, router, (watcher, stopping)).await });
    }
    drop(incoming);
    stop.send_replace(true);
    tokio::select! {
        () = graceful.shutdown() => {}
        () = tokio::time::sleep(SHUTDOWN_GRACE) => tracing::warn!("requests under way were cut off"),
    }
}

async fn one(
    builder: &Builder<TokioExecutor>,
    connection: Connection,
    router: Router,
    (watcher, stopping): (Watcher, Stopping),
) {
    let peer = connection.peer().clone();
    let answer = move |mut request: Request<HyperBody>| {
        request.extensions_mut().insert(peer.clone());
        request.extensions_mut().insert(stopping.clone());
        let (response, liveness) = (answer(router.clone(), request), peer.liveness.clone());
        async move { Ok::<_, Infallible>(response.await?.map(|body| Taken::new(body, &liveness))) }
    };
    let serving = builder.serve_connection(TokioIo::new(connection), hyper::service::service_fn(answer));
    // Clients that go away in the middle are not worth a warning.
    if let Err(error) = watcher.watch(serving).await {
        tracing::debug!(error, "connection ended");
    }
}

/// A body that outlives its reader.
struct Shared(Arc<Mutex<HyperBody>>);

fn lock(body: &Mutex<HyperBody>) -> MutexGuard<'_, HyperBody> {
    body.lock().unwrap_or_else(PoisonError::into_inner)
}

impl hyper::body::Body for Shared {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut *lock(&self.0)).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        lock(&self.0).is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.0).size_hint()
    }
}

/// The router's response, after the body was read or the response announces the end of the connection.
async fn answer(router: Router, request: Request<HyperBody>) -> Result<axum::response::Response, Infallible> {
    let (parts, body) = request.into_parts();
    // Streams of HTTP/2 end one by one.
    let is_http_1 = parts.version <= Version::HTTP_11;
    // A client that waits for `100 Continue` is not asked for an unwanted body.
    let waits = parts.headers.contains_key(EXPECT);
    let body = Arc::new(Mutex::new(body));
    let request = Request::from_parts(parts, Body::new(Shared(Arc::clone(&body))));
    let mut response = router.oneshot(request).await?;
    let is_over = lock(&body).is_end_stream();
    if is_http_1 && !is_over && (waits || !read_rest(&body).await) {
        response
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    Ok(response)
}

/// Reads the rest of a body; returns whether it was read to the end.
async fn read_rest(body: &Mutex<HyperBody>) -> bool {
    let mut room = LEFT_BYTES;
    let read = poll_fn(|cx| {
        loop {
            let frame = ready!(Pin::new(&mut *lock(body)).poll_frame(cx));
            let octets = match frame {
                None => return Poll::Ready(true),
                Some(Err(_)) => return Poll::Ready(false),
                Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
            };
            let Some(less) = room.checked_sub(octets) else {
                return Poll::Ready(false);
            };
            room = less;
        }
    });
    tokio::time::timeout(LEFT_TIME, read).await.unwrap_or(false)
}
