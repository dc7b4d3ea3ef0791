//! A thousand idle connections, and a process without descriptors.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fabric_identity::testing::Authority;
use fabric_identity::{ClientCertificates, Credentials, Dialer, Incoming, Limits, Listener, Subject};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, socket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

/// Long enough for a loaded machine; a passing test never waits this long.
const PATIENCE: Duration = Duration::from_secs(30);

async fn listen(credentials: &Arc<Credentials>, limits: Limits) -> (SocketAddr, Incoming) {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let listener = Listener::tls(tcp, "test", limits, credentials, ClientCertificates::Required).unwrap();
    (address, listener.incoming())
}

/// A plain connection from 127.0.0.`from`.
async fn idle(from: u8, to: SocketAddr) -> std::io::Result<tokio::net::TcpStream> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from(([127, 0, 0, from], 0)))?;
    socket.connect(to).await
}

/// Fails unless the server ends the connection by itself.
async fn expect_end(mut stream: tokio::net::TcpStream) {
    let mut buffer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut buffer))
        .await
        .expect("the server keeps an idle connection");
}

#[tokio::test]
async fn a_thousand_idle_connections_of_one_peer_leave_room_for_others_and_end() {
    let authority = Authority::new();
    let limits = Limits {
        per_peer: 8,
        handshake: Duration::from_secs(2),
        ..Limits::GRPC
    };
    let (address, mut incoming) = listen(&authority.credentials("switch/leaf1"), limits).await;
    let mut idles = Vec::new();
    for _ in 0..1000 {
        idles.push(idle(2, address).await.unwrap());
    }
    let dialer = Dialer::new(authority.credentials("controller"), Subject::Switch("leaf1".into())).unwrap();
    let text = address.to_string();
    let (connection, stream) = tokio::join!(tokio::time::timeout(PATIENCE, incoming.next()), dialer.connect(&text));
    assert!(connection.unwrap().is_some());
    stream.unwrap();
    for stream in idles {
        expect_end(stream).await;
    }
}

#[tokio::test]
async fn a_client_that_says_nothing_after_its_handshake_is_let_go() {
    let authority = Authority::new();
    let limits = Limits {
        first_octets: Duration::from_millis(200),
        ..Limits::GRPC
    };
    let (address, mut incoming) = listen(&authority.credentials("switch/leaf1"), limits).await;
    let dialer = Dialer::new(authority.credentials("controller"), Subject::Switch("leaf1".into())).unwrap();
    let text = address.to_string();
    let (connection, _stream) = tokio::join!(incoming.next(), dialer.connect(&text));
    let error = tokio::time::timeout(PATIENCE, connection.unwrap().read_u8())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_client_that_falls_silent_is_let_go() {
    use tokio::io::AsyncWriteExt as _;
    let authority = Authority::new();
    let limits = Limits {
        idle: Duration::from_millis(200),
        ..Limits::GRPC
    };
    let (address, mut incoming) = listen(&authority.credentials("switch/leaf1"), limits).await;
    let dialer = Dialer::new(authority.credentials("controller"), Subject::Switch("leaf1".into())).unwrap();
    let text = address.to_string();
    let (connection, stream) = tokio::join!(incoming.next(), dialer.connect(&text));
    let (mut connection, mut stream) = (connection.unwrap(), stream.unwrap());
    stream.write_all(&[0; 24]).await.unwrap();
    let mut octets = [0; 24];
    connection.read_exact(&mut octets).await.unwrap();
    let error = tokio::time::timeout(PATIENCE, connection.read_u8())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_let_go() {
    use tokio::io::AsyncWriteExt as _;
    let authority = Authority::new();
    let limits = Limits {
        idle: Duration::from_secs(1),
        ..Limits::GRPC
    };
    let (address, mut incoming) = listen(&authority.credentials("switch/leaf1"), limits).await;
    let dialer = Dialer::new(authority.credentials("controller"), Subject::Switch("leaf1".into())).unwrap();
    let text = address.to_string();
    let (connection, stream) = tokio::join!(incoming.next(), dialer.connect(&text));
    let (mut connection, _stream) = (connection.unwrap(), stream.unwrap());
    let part = [0; 64 << 10];
    let mut written = 0u64;
    // This server only writes and never reads.
    let flood = async {
        loop {
            if let Err(error) = connection.write_all(&part).await {
                return error;
            }
            written += part.len() as u64;
        }
    };
    let error = tokio::time::timeout(PATIENCE, flood).await.unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert!(connection.peer().liveness.ended());
    // No more than the buffers of two sockets hold.
    assert!(written < 64 << 20, "{written} octets");
}

/// CPU time that this process has used.
fn cpu() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    let time =
        |t: nix::sys::time::TimeVal| Duration::from_secs(t.tv_sec() as u64) + Duration::from_micros(t.tv_usec() as u64);
    time(usage.user_time()) + time(usage.system_time())
}

/// Needs a process of its own, because it uses up the descriptors. nextest gives it one. `cargo test` runs all tests of
/// this file in one process, so the test starts itself again as a child process.
#[test]
fn a_listener_without_descriptors_waits_and_recovers() {
    const ALONE: &str = "FABRIC_IDENTITY_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = "a_listener_without_descriptors_waits_and_recovers";
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        let status = again
            .args(["--exact", name, "--nocapture"])
            .env(ALONE, "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(without_descriptors());
}

async fn without_descriptors() {
    let authority = Authority::new();
    let (address, mut incoming) = listen(&authority.credentials("switch/leaf1"), Limits::GRPC).await;
    // Clients' sockets first, then every other descriptor that the lowered limit leaves.
    let sockets: Vec<OwnedFd> = (0..50)
        .map(|_| socket(AddressFamily::Inet, SockType::Stream, SockFlag::empty(), None).unwrap())
        .collect();
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 256, hard).unwrap();
    let mut fillers = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        fillers.push(file);
    }
    let std::net::SocketAddr::V4(v4) = address else {
        panic!("loopback is IPv4 here")
    };
    for socket in &sockets {
        connect(socket.as_raw_fd(), &SockaddrIn::from(v4)).unwrap();
    }
    let before = cpu();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let used = cpu() - before;
    assert!(
        used < Duration::from_secs(1),
        "the accept loop spins: {used:?} of CPU in 2 s"
    );
    drop((fillers, sockets));
    let dialer = Dialer::new(authority.credentials("controller"), Subject::Switch("leaf1".into())).unwrap();
    let text = address.to_string();
    let (connection, stream) = tokio::join!(tokio::time::timeout(PATIENCE, incoming.next()), dialer.connect(&text));
    assert!(connection.unwrap().is_some(), "no connection is accepted any more");
    stream.unwrap();
}
