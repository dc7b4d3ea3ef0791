//! Two ends on loopback: which peers are accepted, what both sides report, and the effect of new credentials.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use fabric_identity::testing::{Authority, Issued};
use fabric_identity::{
    Claim, ClientCertificates, Connection, Credentials, Dialer, Incoming, Limits, Listener, SpiffeError, Subject,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Long enough for a loaded machine; a passing test never waits this long.
const PATIENCE: Duration = Duration::from_secs(20);

async fn listen(credentials: &Arc<Credentials>) -> (String, Incoming) {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let listener = Listener::tls(tcp, "test", Limits::GRPC, credentials, ClientCertificates::Required).unwrap();
    (address, listener.incoming())
}

fn switch(name: &str) -> Subject {
    Subject::Switch(name.to_owned())
}

/// Connects and sends an octet; returns the reply, or why there was none.
async fn speak(client: &Arc<Credentials>, expected: Subject, address: &str) -> io::Result<u8> {
    let dialer = Dialer::new(Arc::clone(client), expected).unwrap();
    let mut stream = dialer.connect(address).await?;
    stream.write_u8(1).await?;
    tokio::time::timeout(PATIENCE, stream.read_u8()).await.unwrap()
}

/// Takes connections and answers each octet with another.
async fn answer(mut incoming: Incoming, mut seen: impl FnMut(&Connection)) {
    while let Some(mut connection) = incoming.next().await {
        seen(&connection);
        tokio::spawn(
            async move { while connection.read_u8().await.is_ok() && connection.write_u8(2).await.is_ok() {} },
        );
    }
}

/// Starts a server as `switch/leaf1`, and returns what a client with these credentials gets from it.
async fn attempt(server: &Arc<Credentials>, client: &Arc<Credentials>) -> io::Result<u8> {
    let (address, incoming) = listen(server).await;
    let answering = tokio::spawn(answer(incoming, |_| {}));
    let got = speak(client, switch("leaf1"), &address).await;
    answering.abort();
    got
}

#[tokio::test]
async fn both_ends_know_each_other() {
    let authority = Authority::new();
    let (server, client) = (
        authority.credentials("switch/leaf1"),
        authority.credentials("controller"),
    );
    let (address, mut incoming) = listen(&server).await;
    let dialer = Dialer::new(client, switch("leaf1")).unwrap();
    let (connection, stream) = tokio::join!(incoming.next(), dialer.connect(&address));
    stream.unwrap();
    let connection = connection.unwrap();
    assert_eq!(connection.peer().subject(), Some(&Subject::Controller));
    let shown = connection.peer().to_string();
    assert!(shown.starts_with("spiffe://test/controller at 127.0.0.1:"), "{shown}");
}

#[tokio::test]
async fn a_client_speaks_only_to_the_server_that_it_means() {
    let authority = Authority::new();
    let controller = authority.credentials("controller");
    for other in ["switch/leaf2", "host/leaf1", "controller", "operator/leaf1"] {
        let error = attempt(&authority.credentials(other), &controller).await.unwrap_err();
        let text = error.to_string();
        let expected = format!(
            "wrong peer: expected `spiffe://test/switch/leaf1`, but its certificate says `spiffe://test/{other}`"
        );
        assert_eq!(text, expected);
    }
    let issued = authority.issue_with(&["spiffe://other/switch/leaf1"], |_| {});
    let error = attempt(&issued.credentials(&authority.pem), &controller)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("says `spiffe://other/switch/leaf1`"),
        "{error}"
    );
    assert_eq!(
        attempt(&authority.credentials("switch/leaf1"), &controller)
            .await
            .unwrap(),
        2
    );
}

async fn claim(server: &Arc<Credentials>, client: &Issued, ca: &str) -> Claim {
    let (address, mut incoming) = listen(server).await;
    // `Credentials` cannot make a client of another fabric, or one without a name.
    let mut roots = rustls::RootCertStore::empty();
    use rustls_pki_types::pem::PemObject as _;
    let der = |pem: &str| rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    roots.add(der(ca)).unwrap();
    let key = rustls_pki_types::PrivateKeyDer::from_pem_slice(client.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(vec![der(&client.cert)], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let tcp = tokio::net::TcpStream::connect(&address).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
    let (connection, stream) = tokio::join!(incoming.next(), connector.connect(name, tcp));
    stream.unwrap();
    connection.unwrap().peer().claim.clone()
}

#[tokio::test]
async fn a_certificate_of_the_authority_alone_makes_nobody_a_member() {
    let authority = Authority::new();
    let server = authority.credentials("switch/leaf1");
    let ca = &authority.pem;
    let with = |uris: &[&str]| authority.issue_with(uris, |_| {});
    assert_eq!(
        claim(&server, &with(&[]), ca).await,
        Claim::Nobody(SpiffeError::Missing)
    );
    let two = with(&["spiffe://test/host/h1", "spiffe://test/controller"]);
    assert_eq!(claim(&server, &two, ca).await, Claim::Nobody(SpiffeError::Several(2)));
    let other = claim(&server, &with(&["spiffe://other/controller"]), ca).await;
    assert!(matches!(other, Claim::Nobody(SpiffeError::OtherFabric(_))), "{other:?}");
    let unknown = claim(&server, &with(&["spiffe://test/root"]), ca).await;
    assert!(
        matches!(unknown, Claim::Nobody(SpiffeError::UnknownSubject(_))),
        "{unknown:?}"
    );
}

#[tokio::test]
async fn the_reason_is_in_words_on_the_clients_side() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let controller = authority.credentials("controller");
    let valid = |from: i32, until: i32| {
        authority.issue_with(&["spiffe://test/switch/leaf1"], |params| {
            params.not_before = rcgen::date_time_ymd(from, 1, 1);
            params.not_after = rcgen::date_time_ymd(until, 1, 1);
        })
    };
    let cases = [
        (
            valid(2000, 2001).credentials(&authority.pem),
            "expired at Jan  1 00:00:00 2001",
        ),
        (valid(2090, 2091).credentials(&authority.pem), "compare the clocks"),
        (stranger.issue("switch/leaf1").credentials(&authority.pem), "unknown CA"),
    ];
    for (server, words) in cases {
        let text = attempt(&server, &controller).await.unwrap_err().to_string();
        assert!(text.contains(words), "{words}: {text}");
    }
    // The server refuses the client with an alert. The client reads it only after its own handshake.
    let server = authority.credentials("switch/leaf1");
    let expired = authority.issue_with(&["spiffe://test/controller"], |params| {
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    });
    let text = attempt(&server, &expired.credentials(&authority.pem))
        .await
        .unwrap_err()
        .to_string();
    assert!(text.contains("our certificate has expired"), "{text}");
    let unknown = stranger.issue("controller").credentials(&authority.pem);
    let text = attempt(&server, &unknown).await.unwrap_err().to_string();
    assert!(
        text.contains("does not trust the authority that signed our certificate"),
        "{text}"
    );
}

#[tokio::test]
async fn an_authority_is_replaced_while_everything_runs() {
    let (old, new) = (Authority::new(), Authority::new());
    let both = format!("{}{}", old.pem, new.pem);
    let (server, client) = (old.credentials("switch/leaf1"), old.credentials("controller"));
    let (address, incoming) = listen(&server).await;
    tokio::spawn(answer(incoming, |_| {}));
    let works = async || speak(&client, switch("leaf1"), &address).await.unwrap();
    works().await;
    let replace = |credentials: &Credentials, ca: &str, issued: &Issued| {
        credentials
            .replace(ca.as_bytes(), issued.cert.as_bytes(), issued.key.as_bytes())
            .unwrap();
    };
    // First both authorities are trusted everywhere; then every member gets a certificate of the new one; then the old
    // one is removed.
    let (server_new, client_new) = (new.issue("switch/leaf1"), new.issue("controller"));
    replace(&server, &both, &old.issue("switch/leaf1"));
    works().await;
    replace(&client, &both, &client_new);
    works().await;
    replace(&server, &both, &server_new);
    works().await;
    replace(&server, &new.pem, &server_new);
    works().await;
    replace(&client, &new.pem, &client_new);
    works().await;
    let left_behind = old.issue("controller").credentials(&both);
    let text = speak(&left_behind, switch("leaf1"), &address)
        .await
        .unwrap_err()
        .to_string();
    assert!(text.contains("unknown CA"), "{text}");
}

#[tokio::test]
async fn an_open_connection_ends_with_the_trust_in_its_peer() {
    let (old, new) = (Authority::new(), Authority::new());
    let both = format!("{}{}", old.pem, new.pem);
    let server = old.issue("switch/leaf1").credentials(&both);
    let stolen = old.credentials("controller");
    let good = new.issue("controller").credentials(&both);
    let (address, incoming) = listen(&server).await;
    tokio::spawn(answer(incoming, |_| {}));
    let open = async |credentials: &Arc<Credentials>| {
        let dialer = Dialer::new(Arc::clone(credentials), switch("leaf1")).unwrap();
        let mut stream = dialer.connect(&address).await.unwrap();
        stream.write_u8(1).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), 2);
        stream
    };
    let (mut stolen, mut good) = (open(&stolen).await, open(&good).await);
    let issued = old.issue("switch/leaf1");
    server
        .replace(new.pem.as_bytes(), issued.cert.as_bytes(), issued.key.as_bytes())
        .unwrap();
    let ended = tokio::time::timeout(PATIENCE, stolen.read_u8()).await.unwrap();
    assert!(
        ended.is_err(),
        "the connection of a peer that nobody vouches for any more was kept"
    );
    good.write_u8(1).await.unwrap();
    assert_eq!(
        tokio::time::timeout(PATIENCE, good.read_u8()).await.unwrap().unwrap(),
        2
    );
}

#[tokio::test]
async fn an_open_connection_ends_when_the_peers_certificate_expires() {
    let authority = Authority::new();
    let server = authority.credentials("switch/leaf1");
    let brief = authority.issue_with(&["spiffe://test/controller"], |params| {
        params.not_after = std::time::SystemTime::now()
            .checked_add(Duration::from_secs(3))
            .unwrap()
            .into();
    });
    let (address, incoming) = listen(&server).await;
    tokio::spawn(answer(incoming, |_| {}));
    let dialer = Dialer::new(brief.credentials(&authority.pem), switch("leaf1")).unwrap();
    let mut stream = dialer.connect(&address).await.unwrap();
    stream.write_u8(1).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), 2);
    let ended = tokio::time::timeout(PATIENCE, stream.read_u8()).await.unwrap();
    assert!(ended.is_err(), "the connection outlived its certificate");
}

#[tokio::test]
async fn where_certificates_are_welcome_a_user_is_known_by_one_and_a_strangers_is_refused() {
    let authority = Authority::new();
    let server = authority.credentials("controller");
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap().to_string();
    let listener = Listener::tls(tcp, "test", Limits::GRPC, &server, ClientCertificates::Welcome).unwrap();
    let mut incoming = listener.incoming();
    let dialer = Dialer::new(authority.credentials("user/ada"), Subject::Controller).unwrap();
    let (connection, stream) = tokio::join!(incoming.next(), dialer.connect(&address));
    stream.unwrap();
    assert_eq!(connection.unwrap().peer().subject(), Some(&Subject::User("ada".into())));

    // A client whose certificate comes from another authority.
    let answering = tokio::spawn(answer(incoming, |connection| panic!("{} came in", connection.peer())));
    let stranger = Authority::new().credentials("user/ada");
    assert!(speak(&stranger, Subject::Controller, &address).await.is_err());
    answering.abort();
}
