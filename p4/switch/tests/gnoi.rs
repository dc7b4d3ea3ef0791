//! gNOI and gNSI with clients over real TLS: who may call what, a certificate that is rotated, and a process that restarts.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use fabric_bootz::authority::Authority;
use fabric_bootz::testing::{Signer, signer};
use fabric_identity::{Credentials, Dialer, Files, Subject};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use gnmi_proto::gnmi::g_nmi_client::GNmiClient;
use gnmi_proto::gnmi::{GetRequest, Path as GnmiPath, PathElem, typed_value};
use gnoi_proto::gnoi::healthz::healthz_client::HealthzClient;
use gnoi_proto::gnoi::healthz::{GetRequest as HealthRequest, ListRequest, Status as Health};
use gnoi_proto::gnoi::os::os_client::OsClient;
use gnoi_proto::gnoi::os::{ActivateRequest, VerifyRequest, activate_response};
use gnoi_proto::gnoi::system::system_client::SystemClient;
use gnoi_proto::gnoi::system::{CancelRebootRequest, RebootMethod, RebootRequest, RebootStatusRequest, TimeRequest};
use gnoi_proto::gnsi::certz::v1::certificate::{CertificateType as Raw, PrivateKeyType};
use gnoi_proto::gnsi::certz::v1::certz_client::CertzClient;
use gnoi_proto::gnsi::certz::v1::entity::Entity as Part;
use gnoi_proto::gnsi::certz::v1::rotate_certificate_request::RotateRequest as Ask;
use gnoi_proto::gnsi::certz::v1::rotate_certificate_response::RotateResponse as Reply;
use gnoi_proto::gnsi::certz::v1::{
    CanGenerateCsrRequest, Certificate, CertificateChain, CertificateEncoding, CertificateType, Entity,
    FinalizeRequest, GenerateCsrRequest, GetProfileListRequest, RotateCertificateRequest, RotateCertificateResponse,
    UploadRequest,
};
use p4_switch::gnmi::memory::MemoryInterfaces;
use p4_switch::gnoi::certz::{PROFILE, Profile, recover};
use p4_switch::gnoi::{Gnoi, Machine};
use p4_switch::p4runtime::memory::MemoryDevice;
use p4_switch::serve::{EVENT_QUEUE, ServeConfig, listen, serve};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

/// Long enough for a loaded machine; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

struct Idle;

impl Machine for Idle {
    fn is_forwarding(&self) -> BoxFuture<'_, bool> {
        async { true }.boxed()
    }

    fn restart(&self, _: &str) {}
}

/// An authority of the fabric `test`.
struct World {
    signer: Signer,
    authority: Authority,
    dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let signer = signer("fabric");
        Self {
            authority: Authority::from_pem(&signer.pem, &signer.key).unwrap(),
            signer,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// A certificate with its key (PEM), or for the key of a request.
    fn issue(&self, subject: &str, request: Option<&[u8]>, valid: Duration) -> (String, Option<String>) {
        let identity = format!("spiffe://test/{subject}").parse().unwrap();
        let issued = self
            .authority
            .issue(&identity, Vec::new(), request, valid, SystemTime::now())
            .unwrap();
        (issued.certificate, issued.key)
    }

    fn credentials(&self, subject: &str) -> Arc<Credentials> {
        let (cert, key) = self.issue(subject, None, HOUR);
        Credentials::from_pem(self.signer.pem.as_bytes(), cert.as_bytes(), key.unwrap().as_bytes()).unwrap()
    }

    /// Files of the switch, with a certificate for an hour.
    fn files(&self) -> Files {
        let at = |name: &str| self.dir.path().join(name);
        let files = Files {
            ca: at("ca.pem"),
            cert: at("cert.pem"),
            key: at("key.pem"),
        };
        let (cert, key) = self.issue("switch/leaf1", None, HOUR);
        std::fs::write(&files.ca, &self.signer.pem).unwrap();
        std::fs::write(&files.cert, cert).unwrap();
        std::fs::write(&files.key, key.unwrap()).unwrap();
        files
    }

    async fn start(&self, files: &Files) -> SocketAddr {
        let device = Arc::new(MemoryDevice::new(Some(510), BTreeMap::from([(1, "p1".to_owned())])));
        let interfaces = Arc::new(MemoryInterfaces::new("s", []));
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let credentials = Credentials::load(files.clone()).unwrap();
        tokio::spawn(Arc::clone(&credentials).follow(|| {}));
        let config = ServeConfig {
            device_id: 1,
            tls: Some(Arc::clone(&credentials)),
            pipeline: None,
            gnoi: Some(Gnoi {
                machine: Arc::new(Idle),
                came_from: None,
                profile: Some(Arc::new(Profile::new(credentials, files.clone()))),
                os: None,
            }),
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

    fn dialer(&self, subject: &str) -> Dialer {
        Dialer::new(self.credentials(subject), Subject::Switch("leaf1".into())).unwrap()
    }

    async fn channel(&self, subject: &str, address: &str) -> Channel {
        let endpoint = Endpoint::from_static("http://switch");
        self.dialer(subject).channel(&endpoint, address).await.unwrap()
    }

    /// How long the certificate is valid that a new connection gets to see, in whole hours.
    async fn shown(&self, address: SocketAddr) -> i64 {
        let dialer = self.dialer("controller");
        dialer.connect(&address.to_string()).await.unwrap();
        let validity = dialer.peer_validity().unwrap();
        (validity.not_after - validity.not_before) / 3600
    }
}

/// For each call, whether access control let it pass (it may still have failed afterwards). Calls
/// that only read come first.
async fn calls(channel: &Channel) -> [(&'static str, bool); 11] {
    let mut system = SystemClient::new(channel.clone());
    let mut healthz = HealthzClient::new(channel.clone());
    let mut os = OsClient::new(channel.clone());
    let mut certz = CertzClient::new(channel.clone());
    macro_rules! ask {
        ($name:literal, $call:expr) => {{
            let status: Option<Status> = $call.await.err();
            (
                $name,
                status.is_none_or(|status| status.code() != Code::PermissionDenied),
            )
        }};
    }
    [
        ask!("Time", system.time(TimeRequest {})),
        ask!("RebootStatus", system.reboot_status(RebootStatusRequest::default())),
        ask!("Healthz.Get", healthz.get(HealthRequest::default())),
        ask!("Healthz.List", healthz.list(ListRequest::default())),
        ask!("OS.Verify", os.verify(VerifyRequest {})),
        ask!("GetProfileList", certz.get_profile_list(GetProfileListRequest {})),
        ask!(
            "CanGenerateCSR",
            certz.can_generate_csr(CanGenerateCsrRequest::default())
        ),
        // Malformed, so that nothing happens.
        ask!("Reboot", system.reboot(RebootRequest::default())),
        ask!("CancelReboot", system.cancel_reboot(CancelRebootRequest::default())),
        ask!("OS.Activate", os.activate(ActivateRequest::default())),
        ask!("Rotate", certz.rotate(tokio_stream::empty())),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_is_for_those_who_need_it() {
    let world = World::new();
    let address = world.start(&world.files()).await.to_string();
    for (subject, reads, changes) in [
        ("controller", true, true),
        ("operator/ada/admin", true, true),
        ("operator/ada", true, false),
        ("host/h1", false, false),
        ("switch/leaf1", false, false),
        ("provision", false, false),
        ("user/eve", false, false),
    ] {
        let channel = world.channel(subject, &address).await;
        for (n, (call, through)) in calls(&channel).await.into_iter().enumerate() {
            assert_eq!(through, if n < 7 { reads } else { changes }, "{subject}: {call}");
        }
    }
}

/// A rotation as a client speaks it.
struct Rotation {
    asks: mpsc::Sender<RotateCertificateRequest>,
    replies: Streaming<RotateCertificateResponse>,
}

fn request(ask: Ask) -> RotateCertificateRequest {
    RotateCertificateRequest {
        ssl_profile_id: PROFILE.into(),
        rotate_request: Some(ask),
        ..RotateCertificateRequest::default()
    }
}

fn link(pem: &str, key: Option<&str>) -> CertificateChain {
    CertificateChain {
        certificate: Some(Certificate {
            r#type: CertificateType::X509.into(),
            encoding: CertificateEncoding::Pem.into(),
            certificate_type: Some(Raw::RawCertificate(pem.as_bytes().to_vec())),
            private_key_type: key.map(|key| PrivateKeyType::RawPrivateKey(key.as_bytes().to_vec())),
            ..Certificate::default()
        }),
        parent: None,
    }
}

fn upload(cert: &str, key: Option<&str>, ca: Option<&str>) -> Ask {
    let entity = |part: Part| Entity {
        entity: Some(part),
        ..Entity::default()
    };
    let own = entity(Part::CertificateChain(link(cert, key)));
    let trusted = ca.map(|ca| entity(Part::TrustBundle(link(ca, None))));
    Ask::Certificates(UploadRequest {
        entities: [own].into_iter().chain(trusted).collect(),
    })
}

impl Rotation {
    async fn open(channel: &Channel) -> Self {
        let (asks, receiver) = mpsc::channel(4);
        let mut client = CertzClient::new(channel.clone());
        let replies = client.rotate(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        Self { asks, replies }
    }

    async fn next(&mut self) -> Result<Option<Reply>, Status> {
        let next = tokio::time::timeout(PATIENCE, self.replies.message()).await.unwrap()?;
        Ok(next.and_then(|reply| reply.rotate_response))
    }

    async fn ask(&mut self, ask: Ask) -> Result<Option<Reply>, Status> {
        self.asks.send(request(ask)).await.unwrap();
        self.next().await
    }

    async fn accepted(&mut self, ask: Ask) {
        assert!(matches!(self.ask(ask).await, Ok(Some(Reply::Certificates(_)))));
    }

    /// Ends without finalizing; what the switch says then.
    async fn end(mut self) -> Code {
        drop(self.asks);
        let ended = tokio::time::timeout(PATIENCE, self.replies.message()).await.unwrap();
        ended.unwrap_err().code()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_rotated_or_comes_back() {
    let world = World::new();
    let files = world.files();
    let address = world.start(&files).await;
    let channel = world.channel("controller", &address.to_string()).await;
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let first = read(&files.cert);
    assert_eq!(world.shown(address).await, 1);

    // The switch makes a key, and tries the certificate for it; the client does not finalize.
    let mut rotation = Rotation::open(&channel).await;
    let generated = rotation
        .ask(Ask::GenerateCsr(GenerateCsrRequest::default()))
        .await
        .unwrap();
    let Some(Reply::GeneratedCsr(generated)) = generated else {
        panic!()
    };
    let csr = generated.certificate_signing_request.unwrap();
    assert_eq!(csr.encoding(), CertificateEncoding::Der);
    let csr = csr.certificate_signing_request;
    let (cert, _) = world.issue("switch/leaf1", Some(&csr), 2 * HOUR);
    rotation.accepted(upload(&cert, None, None)).await;
    assert_eq!((world.shown(address).await, read(&files.cert)), (2, first.clone()));
    // Nobody else may rotate meanwhile.
    let second = CertzClient::new(channel.clone()).rotate(tokio_stream::empty()).await;
    assert_eq!(second.unwrap_err().code(), Code::Unavailable);
    assert_eq!(rotation.end().await, Code::Aborted);
    assert_eq!(world.shown(address).await, 1);

    // Somebody else's certificate, one whose key is not there, and what is none.
    let (other, other_key) = world.issue("switch/leaf2", None, HOUR);
    let garbage = upload("-----BEGIN CERTIFICATE-----\nx\n", None, None);
    for bad in [
        upload(&other, other_key.as_deref(), None),
        upload(&cert, None, None),
        garbage,
    ] {
        let mut rotation = Rotation::open(&channel).await;
        assert_eq!(rotation.ask(bad).await.unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(world.shown(address).await, 1);
    }
    let mut rotation = Rotation::open(&channel).await;
    let early = rotation
        .ask(Ask::FinalizeRotation(FinalizeRequest {}))
        .await
        .unwrap_err();
    assert_eq!(early.code(), Code::FailedPrecondition);
    let mut rotation = Rotation::open(&channel).await;
    rotation.asks.send(RotateCertificateRequest::default()).await.unwrap();
    assert_eq!(rotation.next().await.unwrap_err().code(), Code::NotFound);

    // Finalized, with a key and an authority that were sent.
    let (cert, key) = world.issue("switch/leaf1", None, 3 * HOUR);
    let mut rotation = Rotation::open(&channel).await;
    rotation
        .accepted(upload(&cert, key.as_deref(), Some(&world.signer.pem)))
        .await;
    rotation
        .asks
        .send(request(Ask::FinalizeRotation(FinalizeRequest {})))
        .await
        .unwrap();
    assert!(rotation.next().await.unwrap().is_none(), "the switch ends the stream");
    assert_eq!(
        (world.shown(address).await, read(&files.cert), read(&files.key)),
        (3, cert.clone(), key.unwrap())
    );

    // The process ended in the middle of writing the files: a certificate beside the key of another.
    std::fs::write(&files.cert, &first).unwrap();
    recover(&files).unwrap();
    assert_eq!(read(&files.cert), cert);
    Credentials::load(files.clone()).unwrap();
    // Newer files that somebody else wrote stay.
    std::thread::sleep(Duration::from_millis(1100));
    let (newer, newer_key) = world.issue("switch/leaf1", None, HOUR);
    std::fs::write(&files.cert, &newer).unwrap();
    std::fs::write(&files.key, newer_key.unwrap()).unwrap();
    recover(&files).unwrap();
    assert_eq!(read(&files.cert), newer);
}

/// A process that ends with the value.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// When the switch says that it began, in nanoseconds since 1970.
async fn boot_time(channel: &Channel) -> Result<u64, Status> {
    let elem = |name: &str| PathElem {
        name: name.into(),
        ..PathElem::default()
    };
    let path = GnmiPath {
        elem: ["system", "state", "boot-time"].map(elem).to_vec(),
        ..GnmiPath::default()
    };
    let get = GetRequest {
        path: vec![path],
        encoding: gnmi_proto::gnmi::Encoding::JsonIetf.into(),
        ..GetRequest::default()
    };
    let said = GNmiClient::new(channel.clone()).get(get).await?.into_inner();
    let value = said.notification[0].update[0].val.as_ref().unwrap();
    let Some(typed_value::Value::JsonIetfVal(json)) = &value.value else {
        panic!("{value:?}")
    };
    // 64-bit numbers are strings (RFC 7951, section 6.1).
    Ok(serde_json::from_slice::<String>(json).unwrap().parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_restarts_and_says_so() {
    let world = World::new();
    let files = world.files();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let mut command = Command::new(env!("CARGO_BIN_EXE_p4-switch"));
    command.args(["--no-p4", "--grpc-server-addr", &address]);
    command
        .arg("--tls-ca")
        .arg(&files.ca)
        .arg("--tls-cert")
        .arg(&files.cert)
        .arg("--tls-key")
        .arg(&files.key);
    let log = std::fs::File::create(world.dir.path().join("log")).unwrap();
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log);
    let mut process = Process(command.spawn().unwrap());
    let log = || std::fs::read_to_string(world.dir.path().join("log")).unwrap();
    // A connection that is made as often as it takes.
    let dialer = world.dialer("controller");
    let connect = async || {
        let trying = async {
            loop {
                let endpoint = Endpoint::from_static("http://switch");
                if let Ok(channel) = dialer.channel(&endpoint, &address).await {
                    return channel;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, trying)
            .await
            .unwrap_or_else(|_| panic!("{}", log()))
    };
    let channel = connect().await;
    let before = boot_time(&channel).await.unwrap();
    let health = HealthzClient::new(channel.clone())
        .get(HealthRequest::default())
        .await
        .unwrap();
    assert_eq!(health.into_inner().component.unwrap().status(), Health::Healthy);
    let version = OsClient::new(channel.clone())
        .verify(VerifyRequest {})
        .await
        .unwrap()
        .into_inner()
        .version;
    assert_eq!(version, env!("CARGO_PKG_VERSION"));
    for (version, is_ok) in [(version.as_str(), true), ("99", false)] {
        let activate = ActivateRequest {
            version: version.into(),
            ..ActivateRequest::default()
        };
        let outcome = OsClient::new(channel.clone())
            .activate(activate)
            .await
            .unwrap()
            .into_inner()
            .response;
        assert_eq!(
            matches!(outcome, Some(activate_response::Response::ActivateOk(_))),
            is_ok,
            "{outcome:?}"
        );
    }
    let reboot = RebootRequest {
        method: RebootMethod::Cold.into(),
        message: "a test".into(),
        ..RebootRequest::default()
    };
    SystemClient::new(channel.clone()).reboot(reboot).await.unwrap();
    let again = async {
        loop {
            let channel = connect().await;
            match boot_time(&channel).await {
                Ok(at) if at > before => return channel,
                _ => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let channel = tokio::time::timeout(PATIENCE, again)
        .await
        .unwrap_or_else(|_| panic!("{}", log()));
    let status = SystemClient::new(channel)
        .reboot_status(RebootStatusRequest::default())
        .await
        .unwrap();
    let status = status.into_inner();
    assert_eq!(
        (status.active, status.count, status.reason.as_str()),
        (false, 1, "a test")
    );
    assert!(
        process.0.try_wait().unwrap().is_none(),
        "it is the same process: {}",
        log()
    );
}
