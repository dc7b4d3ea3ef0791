//! Hosts enrol: the agent's code with the controller's code over real sockets, and the agent as a process. Needs root
//! and `ip`.

#[allow(unreachable_pub, dead_code)]
mod common;

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::{Netns, inside, ip, unique};
use fabric_bootz::authority::Authority;
use fabric_controller::access::audit::AuditLog;
use fabric_controller::device::driver::Driver as _;
use fabric_controller::driver::vtep::{VtepDriver, VtepServer};
use fabric_controller::events::News;
use fabric_controller::token_enrolment::desk::{self, Desk, Found, Member, Place, Signer, Signers};
use fabric_controller::token_enrolment::serve::Service;
use fabric_controller::token_enrolment::tokens::Tokens;
use fabric_identity::{Credentials, Dialer, Newcomer, Subject};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpSocket};
use tokio::time::timeout;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use vfabric_api::enrolment::EnrolmentTokenSpec;
use vfabric_api::ident::Name;
use vtep_agent::enrol::{EnrolError, Enrolled, Enrolment, Invitation, identity};
use vtep_proto::v1;
use vtep_proto::v1::enrolment_client::EnrolmentClient;
use vtep_proto::v1::vtep_controller_client::VtepControllerClient;

/// How long anything may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The inventory, and what was noted.
#[derive(Default)]
struct Inventory {
    hosts: Mutex<HashMap<Name, Found>>,
    news: Mutex<Vec<News>>,
}

impl desk::Inventory for Inventory {
    fn find(&self, member: &Member) -> Option<Found> {
        match member {
            Member::Host(name) => self.hosts.lock().unwrap().get(name).cloned(),
            Member::Switch(_) => None,
        }
    }

    fn note(&self, news: News) {
        self.news.lock().unwrap().push(news);
    }
}

impl Inventory {
    fn put(&self, name: &str, uid: u64, is_retired: bool) {
        let found = Found {
            uid,
            is_retired,
            place: Place::Host([192, 0, 2, 1].into(), "fd00::1".parse().unwrap()),
        };
        self.hosts.lock().unwrap().insert(name.parse().unwrap(), found);
    }
}

/// The parts of a controller that hosts talk to, with hosts `h1` and `h2`.
struct World {
    dir: TempDir,
    inventory: Arc<Inventory>,
    desk: Arc<Desk>,
    audit: Arc<AuditLog>,
    /// The controller's authority (PEM), which also signs hosts' certificates.
    ca: String,
    credentials: Arc<Credentials>,
    /// Bound, so that nobody else gets the port; it listens from [`World::serve`] on.
    socket: Option<TcpSocket>,
    url: String,
}

impl World {
    fn new(valid: Duration) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, unique("authority"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap().pem();
        let authority = || Authority::from_pem(&ca, &key.serialize_pem()).unwrap();
        let day = Duration::from_secs(86_400);
        let own = authority()
            .issue(
                &"spiffe://test/controller".parse().unwrap(),
                Vec::new(),
                None,
                day,
                std::time::SystemTime::now(),
            )
            .unwrap();
        let own_key = own.key.unwrap();
        let credentials = Credentials::from_pem(ca.as_bytes(), own.certificate.as_bytes(), own_key.as_bytes()).unwrap();
        let inventory = Arc::new(Inventory::default());
        inventory.put("h1", 1, false);
        inventory.put("h2", 2, false);
        let tokens = Tokens::open(&dir.path().join("tokens.redb")).unwrap();
        let hosts = Signer {
            authority: authority(),
            valid,
        };
        let signers = Signers {
            hosts: Some(hosts),
            switches: None,
        };
        let desk = Desk::new(Arc::clone(&inventory) as _, tokens, signers, Arc::clone(&credentials));
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self {
            url: format!("https://{}", socket.local_addr().unwrap()),
            audit: Arc::new(AuditLog::open(dir.path()).unwrap()),
            desk: Arc::new(desk),
            dir,
            inventory,
            ca,
            credentials,
            socket: Some(socket),
        }
    }

    fn services(&self) -> Routes {
        Service::routes(Arc::clone(&self.desk), Arc::clone(&self.audit))
    }

    /// Begins to serve; the driver is that of host h1.
    async fn serve(&mut self) -> VtepDriver {
        let listener = self.socket.take().unwrap().listen(64).unwrap();
        self.serve_at(listener)
    }

    fn serve_at(&self, listener: TcpListener) -> VtepDriver {
        let server = VtepServer::new();
        let driver = server.driver("h1");
        server.serve_newcomers(self.services());
        let credentials = Arc::clone(&self.credentials);
        tokio::spawn(async move { server.serve(listener, &credentials, std::future::pending()).await });
        driver
    }

    /// A token's file for a host.
    fn invite(&self, host: &str) -> PathBuf {
        let made = self
            .desk
            .make_token(&Member::Host(host.parse().unwrap()), EnrolmentTokenSpec::default())
            .unwrap();
        let path = self.dir.path().join(unique("token"));
        fs::write(&path, format!("{} {}\n", made.token, made.authority)).unwrap();
        path
    }

    fn state(&self) -> PathBuf {
        let path = self.dir.path().join(unique("state"));
        fs::create_dir(&path).unwrap();
        path
    }

    fn enrolment(&self, state: &Path) -> Enrolment {
        Enrolment::open(state, &self.url).unwrap()
    }

    /// Enrols with the token in a file.
    async fn enrol(&self, state: &Path, token: &Path) -> Result<Enrolled, EnrolError> {
        let invitation = Invitation::read(token, None).unwrap().unwrap();
        self.enrolment(state).attempt(&invitation).await
    }

    /// The reason with which a host is refused.
    async fn refused(&self, state: &Path, token: &Path) -> String {
        match self.enrol(state, token).await.unwrap_err() {
            EnrolError::Refused(status) => {
                assert_eq!(status.code(), Code::PermissionDenied);
                status.message().to_owned()
            }
            other => panic!("{other}"),
        }
    }

    /// A connection as the host whose state this is.
    async fn as_host(&self, state: &Path) -> Channel {
        let enrolment = self.enrolment(state);
        let files = enrolment.install(&enrolment.enrolled().unwrap().unwrap()).unwrap();
        let dialer = Dialer::new(Credentials::load(files).unwrap(), Subject::Controller).unwrap();
        let address = self.url.strip_prefix("https://").unwrap();
        dialer
            .channel(&Endpoint::from_static("http://controller"), address)
            .await
            .unwrap()
    }
}

fn words(file: &Path) -> Vec<String> {
    fs::read_to_string(file)
        .unwrap()
        .split_whitespace()
        .map(str::to_owned)
        .collect()
}

const MONTHS: Duration = Duration::from_secs(90 * 86_400);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_makes_one_machine_the_host() {
    let mut world = World::new(MONTHS);
    let _driver = world.serve().await;
    let (token, state) = (world.invite("h1"), world.state());
    let enrolled = world.enrol(&state, &token).await.unwrap();
    assert_eq!(
        (enrolled.host.as_str(), enrolled.vtep_ipv4, enrolled.vtep_ipv6),
        ("h1", Some([192, 0, 2, 1].into()), Some("fd00::1".parse().unwrap()))
    );
    let channel = world.as_host(&state).await;
    // The host can connect with the certificate and renew it.
    let renewed = world.enrolment(&state).renew(channel.clone()).await.unwrap();
    assert_ne!(renewed.certificate, enrolled.certificate);
    assert_eq!(world.enrolment(&state).enrolled().unwrap().unwrap(), renewed);

    // Somebody with a copy of the token is refused.
    let thief = world.state();
    let why = world.refused(&thief, &token).await;
    assert!(why.contains("used by another key"), "{why}");
    assert_eq!(world.enrolment(&thief).enrolled().unwrap(), None, "it keeps nothing");
    let noted = world.inventory.news.lock().unwrap().clone();
    assert!(
        matches!(noted.as_slice(), [news] if news.detail == why && news.device.as_ref().is_some_and(|d| d.as_str() == "h1")),
        "{noted:?}"
    );
    let records = world.audit.page(None, None, 10).items;
    let seen: Vec<_> = records
        .iter()
        .map(|r| (r.caller.as_str(), r.status, r.refused.is_some()))
        .collect();
    assert_eq!(
        seen,
        [("host/h1", 403, true), ("host/h1", 200, false), ("host/h1", 200, false)]
    );
    let text = format!("{records:?}{noted:?}");
    assert!(!text.contains(&words(&token)[0]), "no token is written down");

    // The machine is replaced: from then on the old one gets nothing more.
    let next = world.state();
    world.enrol(&next, &world.invite("h1")).await.unwrap();
    let why = world.enrolment(&state).renew(channel).await.unwrap_err().to_string();
    assert!(why.contains("not the one that enrolled"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_invitation_of_this_fabric_is_refused() {
    let mut world = World::new(MONTHS);
    let _driver = world.serve().await;
    let state = world.state();
    let token = world.invite("h1");
    let [secret, fingerprint] = words(&token).try_into().unwrap();
    let write = |text: String| {
        let path = world.dir.path().join(unique("token"));
        fs::write(&path, text).unwrap();
        path
    };
    // A wrong secret, and a token that a newer one has replaced.
    let (front, last) = secret.split_at(secret.len() - 1);
    let wrong = format!("{front}{} {fingerprint}", if last == "0" { "1" } else { "0" });
    let why = world.refused(&state, &write(wrong)).await;
    assert!(why.contains("not an enrolment token"), "{why}");
    let newer = world.invite("h1");
    let why = world.refused(&state, &token).await;
    assert!(why.contains("not an enrolment token"), "{why}");

    // A host that has left, and a later host with the same name.
    let of_h2 = world.invite("h2");
    world.inventory.put("h2", 2, true);
    let why = world.refused(&state, &of_h2).await;
    assert!(why.contains("retired"), "{why}");
    world.inventory.put("h2", 3, false);
    let why = world.refused(&state, &of_h2).await;
    assert!(why.contains("another one than the token was made for"), "{why}");

    // If the server belongs to another fabric, the connection fails before a token is sent.
    let other = World::new(MONTHS).ca;
    let other = Newcomer::trusting(other.as_bytes(), Subject::Controller);
    other
        .unwrap()
        .connect(world.url.strip_prefix("https://").unwrap())
        .await
        .unwrap_err();
    let digits: String = fingerprint
        .chars()
        .rev()
        .filter(|c| c.is_ascii_hexdigit())
        .take(64)
        .collect();
    let [fresh, _] = words(&newer).try_into().unwrap();
    let error = world
        .enrol(&state, &write(format!("{fresh} sha256:{digits}")))
        .await
        .unwrap_err();
    let error = fabric_identity::explain(&error);
    assert!(error.contains("not the expected fabric"), "{error}");
    world.enrol(&state, &newer).await.unwrap();

    // A peer without a certificate can only enrol.
    let address = world.url.strip_prefix("https://").unwrap();
    let nobody = Newcomer::trusting(world.ca.as_bytes(), Subject::Controller).unwrap();
    let channel = nobody.channel(address).await.unwrap();
    let denied = |status: Status| assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    let mut client = VtepControllerClient::new(channel.clone());
    denied(
        client
            .follow(tokio_stream::pending::<v1::AgentMessage>())
            .await
            .map(drop)
            .unwrap_err(),
    );
    denied(client.attach(v1::AttachRequest::default()).await.map(drop).unwrap_err());
    let mut client = EnrolmentClient::new(channel);
    denied(client.renew(v1::RenewRequest::default()).await.map(drop).unwrap_err());
    let garbage = v1::EnrolRequest {
        token: words(&world.invite("h1"))[0].clone(),
        certificate_signing_request: vec![0x30, 0x82, 0xff],
    };
    let status = client.enrol(garbage).await.map(drop).unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_ends_after_any_step_goes_on() {
    let mut world = World::new(MONTHS);
    let (token, state) = (world.invite("h1"), world.state());
    let invitation = Invitation::read(&token, None).unwrap().unwrap();
    // The controller is away: the agent has made only its key.
    let error = world.enrolment(&state).attempt(&invitation).await.unwrap_err();
    assert!(error.is_passing(), "{error}");
    let key = fs::read(state.join("enrolment/own.key")).unwrap();
    let _driver = world.serve().await;
    // The controller has given the certificate, but the reply was lost; something was half written.
    let lost = world.enrolment(&state).attempt(&invitation).await.unwrap();
    fs::remove_file(state.join("enrolment/enrolled.json")).unwrap();
    fs::write(state.join("enrolment/enrolled.json.new"), "{\"host").unwrap();
    let (again, _) = identity(&world.enrolment(&state), &token, None).await.unwrap();
    assert_eq!(again.host, lost.host);
    assert_eq!(fs::read(state.join("enrolment/own.key")).unwrap(), key, "the same key");
    // Only the reply is on the disk: that is enough. The controller is not asked, and the token's file may be gone.
    for file in ["ca.pem", "cert.pem", "key.pem"] {
        fs::remove_file(state.join("enrolment").join(file)).unwrap();
    }
    fs::remove_file(&token).unwrap();
    let nowhere = Enrolment::open(&state, "https://127.0.0.1:1").unwrap();
    let (kept, files) = identity(&nowhere, &token, None).await.unwrap();
    assert_eq!(kept, again);
    Credentials::load(files)
        .unwrap()
        .expect(&Subject::Host("h1".into()))
        .unwrap();
    // The stored file is damaged: the error says that a token is needed.
    fs::write(state.join("enrolment/enrolled.json"), "{").unwrap();
    let error = identity(&world.enrolment(&state), &token, None).await.unwrap_err();
    assert!(error.to_string().contains("fabricctl host token"), "{error}");
    let (mended, _) = identity(&world.enrolment(&state), &world.invite("h1"), None)
        .await
        .unwrap();
    assert_eq!(mended.host, "h1");
}

#[test]
fn the_file_of_a_token_is_read_or_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    assert!(Invitation::read(&path, None).unwrap().is_none());
    for (text, expected) in [
        ("", "expected a token"),
        ("vfenrol_x", "no fingerprint"),
        ("vfenrol_x sha256:12", "64 hexadecimal digits"),
        (&"x".repeat(5000), "too long"),
    ] {
        fs::write(&path, text).unwrap();
        let error = Invitation::read(&path, None).map(drop).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("token"), "{error}");
    }
}

/// The agent as a process, which is ended when this is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_agent_is_killed_and_comes_into_service_with_nothing_but_a_token() {
    // A certificate that is valid for so short a time is due for renewal at once.
    let mut world = World::new(Duration::from_secs(120));
    let (host, overlay) = (Netns::new(&unique("h")), Netns::later(&unique("o")));
    ip(&[
        "-n",
        host.name(),
        "link",
        "add",
        "up0",
        "mtu",
        "9216",
        "type",
        "veth",
        "peer",
        "name",
        "up1",
    ]);
    ip(&["-n", host.name(), "addr", "add", "192.0.2.1/32", "dev", "up0"]);
    ip(&["-n", host.name(), "link", "set", "up0", "up"]);
    // The controller listens in the namespace of the host.
    let listening = inside(host.name(), || {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        socket
    });
    let socket = listening.join().unwrap();
    let address = socket.local_addr().unwrap();
    world.url = format!("https://{address}");
    let (token, state) = (world.invite("h1"), world.state());
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vtep-agent"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(world.dir.path().join("agent.log"))
            .unwrap();
        command.args([
            "--controller",
            &world.url,
            "--uplink",
            "up0",
            "--overlay",
            overlay.name(),
        ]);
        command.arg("--enrol").arg(&token).arg("--state-dir").arg(&state);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = inside(host.name(), move || command.spawn().unwrap()).join().unwrap();
        Process(child)
    };
    let log = || fs::read_to_string(world.dir.path().join("agent.log")).unwrap_or_default();
    let until = async |what: &str, is_so: &dyn Fn() -> bool| {
        let waiting = async {
            while !is_so() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, waiting)
            .await
            .unwrap_or_else(|_| panic!("{what}: {}", log()));
    };
    // Killed while it waits for a reply: the controller accepts nothing yet.
    let waiting = start();
    until("it has a key", &|| state.join("enrolment/own.key").exists()).await;
    drop(waiting);
    assert!(!state.join("enrolment/enrolled.json").exists());
    // Killed as soon as it is enrolled, whatever it is doing at that moment.
    let mut driver = world.serve_at(TcpListener::from_std(socket).unwrap());
    let enrolled = start();
    until("it is enrolled", &|| state.join("enrolment/enrolled.json").exists()).await;
    drop(enrolled);
    fs::remove_file(&token).unwrap();
    let _serving = start();
    timeout(PATIENCE, driver.connect())
        .await
        .unwrap_or_else(|_| panic!("{}", log()))
        .unwrap();
    let hello = driver.hello().unwrap();
    assert_eq!(
        (hello.host.as_str(), hello.vtep_ipv4.as_slice()),
        ("h1", &[192, 0, 2, 1][..])
    );
    // The agent renews its certificate, and uses the new one.
    let first = fs::read(state.join("enrolment/cert.pem")).unwrap();
    until("the certificate is renewed", &|| {
        fs::read(state.join("enrolment/cert.pem")).unwrap() != first
    })
    .await;
    until("it uses the new one", &|| log().contains("the certificate was renewed")).await;
    let other = world.state();
    fs::write(
        &token,
        format!(
            "vfenrol_{}_{} sha256:{}",
            "0".repeat(16),
            "0".repeat(64),
            "0".repeat(64)
        ),
    )
    .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_vtep-agent"));
    command
        .args(["--controller", &world.url, "--uplink", "up0", "--enrol"])
        .arg(&token);
    command.arg("--state-dir").arg(&other);
    let refused = inside(host.name(), move || command.output().unwrap()).join().unwrap();
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        !refused.status.success() && words.contains("not the expected fabric"),
        "{words}"
    );
    let purge = ["purge", "--host", "h1", "--overlay", overlay.name()].map(str::to_owned);
    drop(_serving);
    inside(host.name(), move || {
        let purged = Command::new(env!("CARGO_BIN_EXE_vtep-agent"))
            .args(purge)
            .output()
            .unwrap();
        assert!(purged.status.success(), "{}", String::from_utf8_lossy(&purged.stderr));
    })
    .join()
    .unwrap();
}
