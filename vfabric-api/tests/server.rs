//! The server over real TLS: protocols, `Host`, clients that hold on to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use fabric_identity::testing::Authority;
use fabric_identity::{ClientCertificates, Limits, Listener};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use vfabric_api::rest::{LIMITS, require_host, serve};

/// Long enough for a loaded machine; a passing test never waits this long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A response without an end: how many octets were made for it, and how many such responses the server holds.
#[derive(Clone, Default)]
struct Endless {
    octets: Arc<AtomicU64>,
    held: Arc<AtomicU64>,
}

/// One response.
struct Held(Endless);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Endless {
    const PART: usize = 64 << 10;

    fn body(&self) -> Body {
        self.held.fetch_add(1, Ordering::Relaxed);
        Body::from_stream(futures::stream::unfold(Held(self.clone()), |held| async {
            held.0.octets.fetch_add(Self::PART as u64, Ordering::Relaxed);
            let part = Bytes::from_static(&[b'x'; Self::PART]);
            Some((Ok::<_, std::convert::Infallible>(part), held))
        }))
    }

    /// Waits until a response was begun, and until it was given up.
    async fn given_up(&self) -> bool {
        let over = async {
            while self.octets.load(Ordering::Relaxed) == 0 || self.held.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, over).await.is_ok()
    }
}

/// A server that lets go of a client that takes nothing for a second.
async fn start_endless() -> (Authority, String, Endless) {
    let authority = Authority::new();
    let credentials = authority.credentials("controller");
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let limits = Limits {
        idle: Duration::from_secs(1),
        ..LIMITS
    };
    let listener = Listener::tls(tcp, "REST", limits, &credentials, ClientCertificates::Welcome).unwrap();
    let endless = Endless::default();
    let shown = endless.clone();
    let router = Router::new()
        .route("/", get(|| async { "ok" }))
        .route("/endless", get(move || async move { shown.body() }));
    tokio::spawn(serve(listener.incoming(), router, std::future::pending()));
    (authority, address, endless)
}

async fn start(limits: Limits) -> (Authority, String) {
    let authority = Authority::new();
    let credentials = authority.credentials("controller");
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let listener = Listener::tls(tcp, "REST", limits, &credentials, ClientCertificates::Welcome).unwrap();
    let router = Router::new().route("/", get(|| async { "ok" }));
    let router = router.layer(axum::middleware::from_fn(require_host));
    tokio::spawn(serve(listener.incoming(), router, std::future::pending()));
    (authority, address)
}

async fn connect(authority: &Authority, address: &str, protocols: &[&str]) -> TlsStream<TcpStream> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
    let tcp = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .unwrap()
}

async fn answer(stream: &mut TlsStream<TcpStream>, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut text))
        .await
        .unwrap();
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn http_2_and_1_1_are_negotiated() {
    let (authority, address) = start(LIMITS).await;
    let stream = connect(&authority, &address, &["h2", "http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut stream = connect(&authority, &address, &["http/1.1"]).await;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let text = answer(
        &mut stream,
        "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    )
    .await;
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}

/// RFC 9112, section 3.2.
#[tokio::test]
async fn http_1_1_needs_one_host() {
    let (authority, address) = start(LIMITS).await;
    for hosts in ["", "Host: a\r\nHost: b\r\n"] {
        let mut stream = connect(&authority, &address, &["http/1.1"]).await;
        let text = answer(
            &mut stream,
            &format!("GET / HTTP/1.1\r\n{hosts}Connection: close\r\n\r\n"),
        )
        .await;
        assert!(text.starts_with("HTTP/1.1 400"), "{hosts:?}: {text}");
    }
    let mut stream = connect(&authority, &address, &["http/1.1"]).await;
    let text = answer(&mut stream, "GET / HTTP/1.0\r\n\r\n").await;
    assert!(text.starts_with("HTTP/1.0 200"), "{text}");
}

/// RFC 9112, section 9.3.
#[tokio::test]
async fn a_connection_outlives_a_body_that_nobody_reads() {
    let (authority, address) = start(LIMITS).await;
    let mut stream = connect(&authority, &address, &["http/1.1"]).await;
    for _ in 0..20 {
        // The head goes out in a packet of its own.
        for part in [
            "PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n",
            "hello",
        ] {
            stream.write_all(part.as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            tokio::task::yield_now().await;
        }
    }
    let last = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let text = answer(&mut stream, last).await;
    assert_eq!(text.matches("HTTP/1.1 405").count(), 20, "{text}");
    assert_eq!(text.matches("HTTP/1.1 200").count(), 1, "{text}");
}

#[tokio::test]
async fn an_answer_to_an_unfinished_body_says_that_the_connection_ends() {
    let (authority, address) = start(LIMITS).await;
    for more in ["", "Expect: 100-continue\r\n"] {
        let mut stream = connect(&authority, &address, &["http/1.1"]).await;
        let head = format!("PUT / HTTP/1.1\r\nHost: localhost\r\n{more}Content-Length: 5\r\n\r\n");
        let text = answer(&mut stream, &head).await.to_lowercase();
        assert!(
            text.starts_with("http/1.1 405") && text.contains("connection: close"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn idle_clients_leave_room_for_others_and_end() {
    let (authority, address) = start(Limits {
        per_peer: 16,
        first_octets: Duration::from_secs(3),
        ..LIMITS
    })
    .await;
    let mut idle = Vec::new();
    for _ in 0..8 {
        let mut stream = connect(&authority, &address, &["http/1.1"]).await;
        stream.write_all(b"GET / HTTP").await.unwrap();
        idle.push(stream);
    }
    let request = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut good = connect(&authority, &address, &["http/1.1"]).await;
    assert!(answer(&mut good, request).await.starts_with("HTTP/1.1 200"));
    for mut stream in idle {
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest))
            .await
            .expect("the server waits for ever for the rest of a header");
    }
}

/// What the server may make for a client that takes nothing: the buffers of both sockets.
const MOST: u64 = 64 << 20;

#[tokio::test]
async fn a_client_of_http_1_1_that_does_not_read_is_cut_off() {
    let (authority, address, endless) = start_endless().await;
    let mut stream = connect(&authority, &address, &["http/1.1"]).await;
    // The beginning of another request keeps the server from waiting for the end of this connection.
    let request = "GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP";
    stream.write_all(request.as_bytes()).await.unwrap();
    assert!(endless.given_up().await, "the server holds the response for ever");
    let made = endless.octets.load(Ordering::Relaxed);
    assert!(made < MOST, "{made} octets were made for a client that takes none");
}

/// RFC 9113, section 5.2: a client gives room for 1 KiB and keeps the connection alive.
#[tokio::test]
async fn a_client_of_http_2_that_gives_no_room_is_cut_off_although_it_answers() {
    let (authority, address, endless) = start_endless().await;
    let stream = connect(&authority, &address, &["h2"]).await;
    let (mut client, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(1024)
        .keep_alive_interval(Duration::from_millis(100))
        .handshake::<_, Body>(TokioIo::new(stream))
        .await
        .unwrap();
    let alive = tokio::spawn(connection);
    let mut ask = |path: &str| {
        let request = axum::http::Request::builder().uri(format!("https://localhost{path}"));
        client.send_request(request.body(Body::empty()).unwrap())
    };
    let (endless_answer, other) = (ask("/endless"), ask("/"));
    let endless_answer = endless_answer.await.unwrap();
    assert_eq!(
        other.await.unwrap().status(),
        200,
        "other requests are served meanwhile"
    );
    assert!(endless.given_up().await, "the server holds the response for ever");
    let _ended = tokio::time::timeout(PATIENCE, alive)
        .await
        .expect("the connection is open");
    let made = endless.octets.load(Ordering::Relaxed);
    assert!(made <= 4 * Endless::PART as u64, "{made} octets were made");
    drop(endless_answer);
}

/// A client that reads slowly, but reads, keeps its connection.
#[tokio::test]
async fn a_slow_client_that_reads_is_served_to_the_end() {
    let (authority, address, endless) = start_endless().await;
    let mut stream = connect(&authority, &address, &["http/1.1"]).await;
    stream
        .write_all(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut part = vec![0; 1 << 20];
    // Three times as long as a client may take nothing. It has to say something now and then, too.
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_millis(250)).await;
        stream
            .read_exact(&mut part)
            .await
            .expect("the server ended a connection in use");
        stream.write_all(b"G").await.unwrap();
    }
    assert_eq!(endless.held.load(Ordering::Relaxed), 1);
}
