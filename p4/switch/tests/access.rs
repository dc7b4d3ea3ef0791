//! Access control over real TLS: every call of P4Runtime and gNMI with every kind of certificate.

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use fabric_identity::testing::{Authority, granted_streams};
use fabric_identity::{Credentials, Dialer, Subject};
use gnmi_proto::gnmi::g_nmi_client::GNmiClient;
use gnmi_proto::gnmi::{CapabilityRequest, GetRequest, SetRequest, SubscribeRequest};
use p4_switch::gnmi::memory::MemoryInterfaces;
use p4_switch::p4runtime::memory::MemoryDevice;
use p4_switch::serve::{EVENT_QUEUE, ServeConfig, listen, serve};
use p4runtime_grpc::p4_runtime_client::P4RuntimeClient;
use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::stream_message_request::Update;
use p4runtime_proto::p4::v1::stream_message_response::Update as News;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

/// Long enough for a loaded machine; a passing test never waits this long.
const PATIENCE: Duration = Duration::from_secs(20);

async fn start(credentials: Arc<Credentials>) -> SocketAddr {
    let device = Arc::new(MemoryDevice::new(Some(510), BTreeMap::from([(1, "p1".to_owned())])));
    let interfaces = Arc::new(MemoryInterfaces::new("s", []));
    let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let config = ServeConfig {
        device_id: 1,
        tls: Some(credentials),
        pipeline: None,
        gnoi: None,
        commands: None,
    };
    let (_, events) = mpsc::channel(EVENT_QUEUE);
    tokio::spawn(serve(
        config,
        listener,
        device,
        interfaces,
        events,
        std::future::pending(),
    ));
    address
}

/// An authority, and a switch named leaf1 that trusts it.
async fn world() -> (Authority, SocketAddr) {
    let authority = Authority::new();
    let address = start(authority.credentials("switch/leaf1")).await;
    (authority, address)
}

async fn channel(credentials: Arc<Credentials>, address: SocketAddr) -> Channel {
    let dialer = Dialer::new(credentials, Subject::Switch("leaf1".into())).unwrap();
    let endpoint = Endpoint::from_static("http://switch");
    dialer.channel(&endpoint, &address.to_string()).await.unwrap()
}

fn bid(id: u128) -> v1::StreamMessageRequest {
    let update = v1::MasterArbitrationUpdate {
        device_id: 1,
        election_id: Some(v1::Uint128 {
            high: (id >> 64) as u64,
            low: id as u64,
        }),
        ..Default::default()
    };
    v1::StreamMessageRequest {
        update: Some(Update::Arbitration(update)),
    }
}

struct Stream {
    bids: mpsc::Sender<v1::StreamMessageRequest>,
    news: Streaming<v1::StreamMessageResponse>,
}

impl Stream {
    async fn open(channel: &Channel, id: u128) -> Result<Self, Status> {
        let (bids, receiver) = mpsc::channel(4);
        bids.send(bid(id)).await.unwrap();
        let mut client = P4RuntimeClient::new(channel.clone());
        let news = client.stream_channel(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Self { bids, news })
    }

    async fn standing(&mut self) -> Code {
        let next = tokio::time::timeout(PATIENCE, self.news.message()).await.unwrap();
        match next.unwrap().unwrap().update {
            Some(News::Arbitration(update)) => Code::from(update.status.unwrap().code),
            other => panic!("not an arbitration update: {other:?}"),
        }
    }
}

fn code<T>(result: Result<T, Status>) -> Code {
    result.err().map_or(Code::Ok, |status| status.code())
}

/// Whether each call passed access control, whatever its result; reading calls come first.
async fn calls(channel: &Channel) -> [(&'static str, bool); 10] {
    let mut p4 = P4RuntimeClient::new(channel.clone());
    let mut gnmi = GNmiClient::new(channel.clone());
    let device_id = 1;
    let read = v1::ReadRequest {
        device_id,
        ..Default::default()
    };
    let get = v1::GetForwardingPipelineConfigRequest {
        device_id,
        ..Default::default()
    };
    let write = v1::WriteRequest {
        device_id,
        ..Default::default()
    };
    let set = v1::SetForwardingPipelineConfigRequest {
        device_id,
        ..Default::default()
    };
    let subscribe = tokio_stream::once(SubscribeRequest::default());
    let through = |code: Code, status: Option<Status>| {
        // The switch's own refusals have the same code but another text.
        let by_certificate = status.is_some_and(|s| s.message().contains("operator"));
        !(code == Code::PermissionDenied && by_certificate)
    };
    macro_rules! ask {
        ($name:literal, $call:expr) => {{
            let status = $call.await.err();
            let code = status.as_ref().map_or(Code::Ok, Status::code);
            ($name, through(code, status))
        }};
    }
    [
        ask!("Read", p4.read(read)),
        ask!("GetForwardingPipelineConfig", p4.get_forwarding_pipeline_config(get)),
        ask!("Capabilities", p4.capabilities(v1::CapabilitiesRequest::default())),
        ask!("gNMI Capabilities", gnmi.capabilities(CapabilityRequest::default())),
        ask!("gNMI Get", gnmi.get(GetRequest::default())),
        ask!("gNMI Subscribe", gnmi.subscribe(subscribe)),
        ask!("Write", p4.write(write)),
        ask!("SetForwardingPipelineConfig", p4.set_forwarding_pipeline_config(set)),
        ask!("gNMI Set", gnmi.set(SetRequest::default())),
        ask!("StreamChannel", Stream::open(channel, 1)),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_for_those_who_need_it() {
    let (authority, address) = world().await;
    for (subject, reads, writes) in [
        ("controller", true, true),
        ("operator/ada/admin", true, true),
        ("operator/ada", true, false),
        ("host/h1", false, false),
        ("switch/leaf1", false, false),
        ("switch/leaf2", false, false),
        ("user/ada", false, false),
        ("provision", false, false),
    ] {
        let channel = channel(authority.credentials(subject), address).await;
        let calls = calls(&channel).await;
        for (n, (call, through)) in calls.into_iter().enumerate() {
            let expected = if n < 6 { reads } else { writes };
            assert_eq!(through, expected, "{subject}: {call}");
        }
    }
}

/// What this process has logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// The log of all tests, from the first call on, as the switch writes it by default.
    fn of_all() -> &'static Self {
        static LOG: LazyLock<Log> = LazyLock::new(|| {
            let log = Log::default();
            let writer = log.clone();
            let lines = tracing_subscriber::fmt()
                .with_ansi(false)
                .with_writer(move || writer.clone());
            lines.with_max_level(tracing::Level::INFO).init();
            log
        });
        &LOG
    }

    fn lines(&self, about: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|l| l.contains(about)).map(str::to_owned).collect()
    }
}

/// Emergency access: each call that changes something leaves a line with who called, from where, and which call; a call
/// that reads leaves none.
#[tokio::test(flavor = "multi_thread")]
async fn an_operator_who_acts_instead_of_the_controller_leaves_a_line_for_each_call() {
    let log = Log::of_all();
    let (authority, address) = world().await;
    let channel = channel(authority.credentials("operator/grace/admin"), address).await;
    for _ in 0..2 {
        calls(&channel).await;
    }
    let lines = log.lines("operator/grace/admin");
    let said = |line: &String| {
        line.contains(" WARN ")
            && line.contains(" audit: an operator acts instead of the controller")
            && line.contains("peer=spiffe://test/operator/grace/admin at 127.0.0.1:")
    };
    assert!(lines.iter().all(said), "{lines:#?}");
    let count = |call: &str| {
        lines
            .iter()
            .filter(|l| l.ends_with(&format!("call=\"{call}\"")))
            .count()
    };
    for call in [
        "/p4.v1.P4Runtime/Write",
        "/p4.v1.P4Runtime/SetForwardingPipelineConfig",
        "/p4.v1.P4Runtime/StreamChannel",
        "/gnmi.gNMI/Set",
    ] {
        assert_eq!(count(call), 2, "{call}: {lines:#?}");
    }
    assert_eq!(lines.len(), 8, "{lines:#?}");
}

/// This client trusts a switch of any fabric, so the switch itself has to refuse.
#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_that_the_authority_signed_is_refused() {
    let (authority, address) = world().await;
    // A host's certificate with the controller's name beside its own, as a careless authority might sign it.
    let two = authority.issue_with(&["spiffe://test/host/h1", "spiffe://test/controller"], |_| {});
    let tls = tonic::transport::ClientTlsConfig::new()
        .ca_certificate(tonic::transport::Certificate::from_pem(&authority.pem))
        .identity(tonic::transport::Identity::from_pem(two.cert, two.key))
        .domain_name("localhost");
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
    let request = v1::CapabilitiesRequest::default();
    let status = P4RuntimeClient::new(channel).capabilities(request).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("no member of this fabric"), "{status}");
}

/// The controller of another fabric, which the same authority signed.
#[tokio::test(flavor = "multi_thread")]
async fn another_fabrics_controller_is_a_stranger() {
    let (authority, address) = world().await;
    let other = authority.issue_with(&["spiffe://other/controller"], |_| {});
    let tls = tonic::transport::ClientTlsConfig::new()
        .ca_certificate(tonic::transport::Certificate::from_pem(&authority.pem))
        .identity(tonic::transport::Identity::from_pem(other.cert, other.key))
        .domain_name("localhost");
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
    let status = Stream::open(&channel, 1).await.err().unwrap();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    let read = v1::ReadRequest {
        device_id: 1,
        ..Default::default()
    };
    let status = P4RuntimeClient::new(channel).read(read).await.err().unwrap();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_streams_of_a_connection_are_limited() {
    let (authority, address) = world().await;
    let leaf1 = Subject::Switch("leaf1".into());
    let dialer = Dialer::new(authority.credentials("host/h1"), leaf1).unwrap();
    let connection = dialer.connect(&address.to_string()).await.unwrap();
    let granted = tokio::time::timeout(PATIENCE, granted_streams(connection)).await;
    assert_eq!(granted.unwrap(), Some(128));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_greatest_election_id_of_others_does_not_lock_the_controller_out() {
    let (authority, address) = world().await;
    let host = channel(authority.credentials("host/h1"), address).await;
    assert_eq!(code(Stream::open(&host, u128::MAX).await), Code::PermissionDenied);
    let admin = channel(authority.credentials("operator/ada/admin"), address).await;
    let mut admin = Stream::open(&admin, u128::MAX).await.unwrap();
    assert_eq!(
        admin.standing().await,
        Code::Ok,
        "there is no controller, so the operator can be primary"
    );

    let controller = channel(authority.credentials("controller"), address).await;
    let mut controller = Stream::open(&controller, 5).await.unwrap();
    assert_eq!(controller.standing().await, Code::Ok);
    assert_eq!(admin.standing().await, Code::AlreadyExists);
    admin.bids.send(bid(u128::MAX)).await.unwrap();
    assert_eq!(admin.standing().await, Code::AlreadyExists);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_controllers_key_is_worth_nothing_once_its_authority_is_gone() {
    let (old, new) = (Authority::new(), Authority::new());
    let both = format!("{}{}", old.pem, new.pem);
    let own = new.issue("switch/leaf1");
    let credentials = own.credentials(&both);
    let address = start(Arc::clone(&credentials)).await;
    let thief = channel(old.issue("controller").credentials(&both), address).await;
    let mut thief = Stream::open(&thief, u128::MAX).await.unwrap();
    assert_eq!(thief.standing().await, Code::Ok);

    credentials
        .replace(new.pem.as_bytes(), own.cert.as_bytes(), own.key.as_bytes())
        .unwrap();
    let ended = tokio::time::timeout(PATIENCE, thief.news.message()).await.unwrap();
    assert!(!matches!(ended, Ok(Some(_))), "the thief's stream goes on");
    let controller = channel(new.credentials("controller"), address).await;
    let mut controller = Stream::open(&controller, u128::MAX).await.unwrap();
    assert_eq!(controller.standing().await, Code::Ok);
}
