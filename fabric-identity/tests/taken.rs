//! A gRPC client that asks for much, gives no room for it, and answers every ping.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use fabric_identity::testing::Authority;
use fabric_identity::{ClientCertificates, Dialer, Limits, Listener, Subject, TakenLayer};
use hyper::body::{Body, Frame};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{Bytes, Service};
use tonic::server::NamedService;
use tonic::transport::Server;

/// Long enough for a loaded machine; a passing test never waits this long.
const PATIENCE: Duration = Duration::from_secs(30);
/// Octets of one message.
const MESSAGE: usize = 64 << 10;

/// Streams without an end: octets made, and streams that the server holds.
#[derive(Clone, Default)]
struct Endless {
    octets: Arc<AtomicU64>,
    held: Arc<AtomicU64>,
}

struct Stream(Endless);

impl Body for Stream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.octets.fetch_add(MESSAGE as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; MESSAGE])))))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Service<Request<tonic::body::Body>> for Endless {
    type Response = Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<tonic::body::Body>) -> Self::Future {
        self.held.fetch_add(1, Ordering::Relaxed);
        let body = tonic::body::Body::new(Stream(self.clone()));
        std::future::ready(Ok(Response::new(body)))
    }
}

impl NamedService for Endless {
    const NAME: &'static str = "test.Endless";
}

#[tokio::test]
async fn what_the_server_holds_for_it_goes_with_its_connection() {
    let authority = Authority::new();
    let limits = Limits {
        idle: Duration::from_secs(1),
        ..Limits::GRPC
    };
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let own = authority.credentials("switch/leaf1");
    let listener = Listener::tls(tcp, "test", limits, &own, ClientCertificates::Required).unwrap();
    let endless = Endless::default();
    let serving = Server::builder()
        .layer(TakenLayer)
        .add_service(endless.clone())
        .serve_with_incoming(listener.incoming());
    tokio::spawn(serving);
    let dialer = Dialer::new(authority.credentials("controller"), Subject::Switch("leaf1".into())).unwrap();
    let stream = dialer.connect(&address).await.unwrap();
    let (mut client, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(1024)
        .keep_alive_interval(Duration::from_millis(100))
        .handshake::<_, tonic::body::Body>(TokioIo::new(stream))
        .await
        .unwrap();
    let alive = tokio::spawn(connection);
    let mut answers = Vec::new();
    for _ in 0..8 {
        let request = Request::post("https://leaf1/test.Endless/Call").body(tonic::body::Body::empty());
        answers.push(client.send_request(request.unwrap()).await.unwrap());
    }
    assert_eq!(endless.held.load(Ordering::Relaxed), 8);
    let ended = tokio::time::timeout(PATIENCE, alive).await;
    let _how = ended.expect("the server keeps the connection");
    let over = async {
        while endless.held.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, over)
        .await
        .expect("the server holds streams of nobody");
    // A part or two of each stream.
    let made = endless.octets.load(Ordering::Relaxed);
    assert!(made <= 8 * 3 * MESSAGE as u64, "{made} octets");
    drop(answers);
}
