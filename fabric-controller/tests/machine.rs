//! Switches as machines over gNOI and gNSI: `p4-switch` over real TLS, and small servers that fail in cases in which
//! `p4-switch` does not.

use std::collections::BTreeMap;
use std::io::{Seek as _, Write as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use fabric_bootz::authority::Authority;
use fabric_bootz::testing::{Signer as Issuer, signer};
use fabric_controller::device::machine::{MachineError, Maintenance as _, Package};
use fabric_controller::driver::machine::install::{activate, install};
use fabric_controller::driver::machine::{Grpc, Signer};
use fabric_identity::{Credentials, Dialer, Files, Subject};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use gnoi_proto::gnoi::os::install_request::Request as Ask;
use gnoi_proto::gnoi::os::install_response::Response as Reply;
use gnoi_proto::gnoi::os::os_server::{Os, OsServer};
use gnoi_proto::gnoi::os::{
    ActivateError, ActivateOk, ActivateRequest, ActivateResponse, InstallError, InstallRequest, InstallResponse,
    TransferProgress, TransferReady, Validated, VerifyRequest, VerifyResponse, activate_error, activate_response,
    install_error,
};
use p4_switch::gnmi::memory::MemoryInterfaces;
use p4_switch::gnoi::certz::Profile;
use p4_switch::gnoi::{Gnoi, Machine, os};
use p4_switch::p4runtime::memory::MemoryDevice;
use p4_switch::serve::{EVENT_QUEUE, ServeConfig, listen, serve};
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming, async_trait};
use vfabric_api::machine::Component;
use vfabric_api::topology::{Switch, Topology};

const HOUR: Duration = Duration::from_secs(3600);

/// A process whose threads may be silent, and that counts its restarts.
struct Process {
    is_forwarding: AtomicBool,
    restarts: AtomicUsize,
    reasons: Mutex<Vec<String>>,
}

impl Machine for Process {
    fn is_forwarding(&self) -> BoxFuture<'_, bool> {
        async { self.is_forwarding.load(Ordering::SeqCst) }.boxed()
    }

    fn restart(&self, reason: &str) {
        self.reasons.lock().unwrap().push(reason.to_owned());
        self.restarts.fetch_add(1, Ordering::SeqCst);
    }
}

/// The fabric `test` with one authority.
struct World {
    issuer: Issuer,
    dir: tempfile::TempDir,
    process: Arc<Process>,
    /// How `p4-switch` installs software.
    os: Option<os::Settings>,
}

impl World {
    fn new() -> Self {
        Self {
            issuer: signer("fabric"),
            dir: tempfile::tempdir().unwrap(),
            process: Arc::new(Process {
                is_forwarding: AtomicBool::new(true),
                restarts: AtomicUsize::new(0),
                reasons: Mutex::default(),
            }),
            os: None,
        }
    }

    fn authority(&self) -> Authority {
        Authority::from_pem(&self.issuer.pem, &self.issuer.key).unwrap()
    }

    fn issue(&self, subject: &str) -> (String, String) {
        let identity = format!("spiffe://test/{subject}").parse().unwrap();
        let issued = self
            .authority()
            .issue(&identity, Vec::new(), None, HOUR, SystemTime::now());
        let issued = issued.unwrap();
        (issued.certificate, issued.key.unwrap())
    }

    fn controller(&self) -> Arc<Credentials> {
        let (cert, key) = self.issue("controller");
        Credentials::from_pem(self.issuer.pem.as_bytes(), cert.as_bytes(), key.as_bytes()).unwrap()
    }

    /// Access with an authority whose certificates are valid for two hours.
    fn access(&self, authority: Authority) -> Grpc {
        let signer = Signer {
            authority,
            valid: 2 * HOUR,
        };
        Grpc::new(self.controller(), false, Some(signer))
    }

    /// A `p4-switch` with a certificate for an hour.
    async fn start(&self, has_gnoi: bool) -> Switch {
        let at = |name: &str| self.dir.path().join(name);
        let files = Files {
            ca: at("ca.pem"),
            cert: at("cert.pem"),
            key: at("key.pem"),
        };
        let (cert, key) = self.issue("switch/leaf1");
        std::fs::write(&files.ca, &self.issuer.pem).unwrap();
        std::fs::write(&files.cert, cert).unwrap();
        std::fs::write(&files.key, key).unwrap();
        let device = Arc::new(MemoryDevice::new(Some(510), BTreeMap::from([(1, "p1".to_owned())])));
        let interfaces = Arc::new(MemoryInterfaces::new("s", []));
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let credentials = Credentials::load(files.clone()).unwrap();
        let gnoi = Gnoi {
            machine: Arc::clone(&self.process) as _,
            came_from: None,
            profile: Some(Arc::new(Profile::new(Arc::clone(&credentials), files))),
            os: self.os.clone(),
        };
        let config = ServeConfig {
            device_id: 1,
            tls: Some(credentials),
            pipeline: None,
            gnoi: has_gnoi.then_some(gnoi),
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
        at_address(address)
    }

    /// For how many hours the certificate that a new connection sees is valid.
    async fn shown(&self, switch: &Switch) -> i64 {
        let dialer = Dialer::new(self.controller(), Subject::Switch("leaf1".into())).unwrap();
        dialer.connect(&switch.p4runtime.to_string()).await.unwrap();
        let shown = dialer.peer_validity().unwrap();
        (shown.not_after - shown.not_before) / 3600
    }
}

fn at_address(address: SocketAddr) -> Switch {
    let text = format!(
        r#"
fabric: {{ name: test }}
switches:
  - {{ name: leaf1, role: leaf, device_id: 1, loopback_ipv4: 10.255.0.1, loopback_ipv6: "fd00:255::1", p4runtime: "{address}" }}
"#
    );
    Topology::from_yaml(&text).unwrap().switches.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_says_how_it_is_and_restarts() {
    let world = World::new();
    let switch = world.start(true).await;
    let access = world.access(world.authority());
    let status = access.look(&switch).await.unwrap();
    assert!(status.troubles.is_empty() && status.missing.is_empty(), "{status:?}");
    // Both are on one machine: the clocks differ by no more than a call takes.
    assert!(status.clock_ahead_ms.unwrap().abs() < 5000, "{status:?}");
    assert_eq!(status.software.as_deref(), Some(env!("CARGO_PKG_VERSION")));
    assert!(status.started_ms.unwrap() <= status.asked_ms, "{status:?}");
    let part = |name: &str, healthy| Component {
        name: name.into(),
        healthy: Some(healthy),
    };
    assert_eq!(status.components, [part("chassis", true), part("pipeline", true)]);

    world.process.is_forwarding.store(false, Ordering::SeqCst);
    let status = access.look(&switch).await.unwrap();
    assert_eq!(
        status.troubles,
        ["component `chassis` is unhealthy", "component `pipeline` is unhealthy"]
    );

    access.reboot(&switch, "a test").await.unwrap();
    let again = access.reboot(&switch, "a test").await.unwrap_err();
    assert!(
        matches!(&again, MachineError::Refused(words) if words.contains("pending")),
        "{again}"
    );
    let restarted = async {
        while world.process.restarts.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), restarted).await.unwrap();
    assert_eq!(*world.process.reasons.lock().unwrap(), ["a test"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_without_these_services_is_named() {
    let world = World::new();
    let switch = world.start(false).await;
    let access = world.access(world.authority());
    let status = access.look(&switch).await.unwrap();
    let missing: Vec<&str> = status.missing.iter().map(String::as_str).collect();
    assert_eq!(missing, ["gnoi.system", "gnoi.os", "gnoi.healthz"]);
    assert!(
        status.troubles.is_empty(),
        "it is no trouble to be a small target: {status:?}"
    );
    let refused = access.reboot(&switch, "a test").await.unwrap_err();
    assert_eq!(refused, MachineError::Missing("gnoi.system"));
    let refused = access.renew(&switch).await.unwrap_err();
    assert_eq!(refused, MachineError::Missing("gnsi.certz"));
    assert!(refused.to_string().contains("UNIMPLEMENTED"), "{refused}");
    // Nobody is there.
    let gone = tokio::net::TcpSocket::new_v4().unwrap();
    gone.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nowhere = at_address(gone.local_addr().unwrap());
    let error = access.look(&nowhere).await.unwrap_err();
    assert!(matches!(error, MachineError::Unreachable(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_renewed_for_a_key_that_the_switch_makes_or_stays() {
    let world = World::new();
    let switch = world.start(true).await;
    let read = |name: &str| std::fs::read_to_string(world.dir.path().join(name)).unwrap();
    let (cert, key) = (read("cert.pem"), read("key.pem"));
    assert_eq!(world.shown(&switch).await, 1);

    // The signer is an authority that the fabric does not trust: its certificate is tried, does not work,
    // and is taken back.
    let other = signer("of nobody");
    let untrusted = world.access(Authority::from_pem(&other.pem, &other.key).unwrap());
    let error = untrusted.renew(&switch).await.unwrap_err();
    assert!(matches!(error, MachineError::Refused(_)), "{error}");
    let rolled_back = async {
        while (world.shown(&switch).await, read("cert.pem")) != (1, cert.clone()) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), rolled_back)
        .await
        .unwrap();
    assert_eq!(read("key.pem"), key);

    let access = world.access(world.authority());
    assert!(access.renews());
    let not_after = access.renew(&switch).await.unwrap();
    assert_eq!(world.shown(&switch).await, 2);
    assert_ne!((read("cert.pem"), read("key.pem")), (cert, key.clone()));
    assert!(read("key.pem") != key, "the switch made a key");
    let ends = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap() + 2 * HOUR;
    assert!(not_after.abs_diff(ends.as_secs() as i64) < 600);
}

/// A switch that installs software, and fails on request.
#[derive(Clone, Default)]
struct Installer {
    wrong: &'static str,
    content: Arc<Mutex<Vec<u8>>>,
    active: Arc<Mutex<String>>,
}

#[async_trait]
impl Os for Installer {
    type InstallStream = ReceiverStream<Result<InstallResponse, Status>>;

    async fn install(
        &self,
        request: Request<Streaming<InstallRequest>>,
    ) -> Result<Response<Self::InstallStream>, Status> {
        if self.wrong == "missing" {
            return Err(Status::unimplemented("none"));
        }
        let (out, replies) = mpsc::channel(4);
        let (mut asks, own) = (request.into_inner(), self.clone());
        tokio::spawn(async move {
            let say = async |reply: Reply| {
                let _ = out.send(Ok(InstallResponse { response: Some(reply) })).await;
            };
            let mut version = String::new();
            while let Ok(Some(ask)) = asks.message().await {
                match ask.request.unwrap() {
                    Ask::TransferRequest(transfer) => {
                        version = transfer.version;
                        match own.wrong {
                            "there" => say(Reply::Validated(validated(&version))).await,
                            _ => say(Reply::TransferReady(TransferReady {})).await,
                        }
                    }
                    Ask::TransferContent(part) => {
                        let bytes_received = {
                            let mut content = own.content.lock().unwrap();
                            content.extend(part);
                            content.len() as u64
                        };
                        say(Reply::TransferProgress(TransferProgress { bytes_received })).await;
                        if own.wrong == "full" {
                            let error = InstallError {
                                r#type: install_error::Type::TooLarge.into(),
                                detail: "no room".into(),
                            };
                            return say(Reply::InstallError(error)).await;
                        }
                        if own.wrong == "breaks" {
                            return;
                        }
                    }
                    Ask::TransferEnd(_) => {
                        let name = if own.wrong == "other" { "nos-9" } else { &version };
                        say(Reply::Validated(validated(name))).await;
                    }
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(replies)))
    }

    async fn activate(&self, request: Request<ActivateRequest>) -> Result<Response<ActivateResponse>, Status> {
        let version = request.into_inner().version;
        let response = match version.as_str() {
            "nos-2" => activate_response::Response::ActivateOk(ActivateOk {}),
            _ => activate_response::Response::ActivateError(ActivateError {
                r#type: activate_error::Type::NonExistentVersion.into(),
                detail: "never seen".into(),
            }),
        };
        *self.active.lock().unwrap() = version;
        Ok(Response::new(ActivateResponse {
            response: Some(response),
        }))
    }

    async fn verify(&self, _: Request<VerifyRequest>) -> Result<Response<VerifyResponse>, Status> {
        Ok(Response::new(VerifyResponse::default()))
    }
}

fn validated(version: &str) -> Validated {
    Validated {
        version: version.into(),
        ..Validated::default()
    }
}

async fn serve_os(installer: Installer) -> Channel {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::builder().add_service(OsServer::new(installer));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    Endpoint::from_shared(format!("http://{address}"))
        .unwrap()
        .connect()
        .await
        .unwrap()
}

/// Three parts and a half.
fn package() -> (Package, Vec<u8>) {
    let octets: Vec<u8> = (0..3_670_016u32).map(|i| (i % 251) as u8).collect();
    let mut content = tempfile::tempfile().unwrap();
    content.write_all(&octets).unwrap();
    content.rewind().unwrap();
    let package = Package {
        version: "nos-2".into(),
        octets: octets.len() as u64,
        content,
    };
    (package, octets)
}

#[tokio::test(flavor = "multi_thread")]
async fn software_is_transferred_whole_checked_and_activated() {
    let installer = Installer::default();
    let channel = serve_os(installer.clone()).await;
    let (package, octets) = package();
    install(channel.clone(), package).await.unwrap();
    assert!(*installer.content.lock().unwrap() == octets, "each octet, in order");
    activate(channel.clone(), "nos-2").await.unwrap();
    let error = activate(channel, "nos-3").await.unwrap_err();
    assert!(
        error.to_string().contains("NON_EXISTENT_VERSION: never seen"),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn software_that_a_switch_refuses_is_not_installed() {
    for (wrong, words) in [
        ("missing", "no gnoi.os"),
        ("full", "TOO_LARGE: no room"),
        ("breaks", "the stream ended"),
        ("other", "of version `nos-9`, not `nos-2`"),
    ] {
        let installer = Installer {
            wrong,
            ..Installer::default()
        };
        let error = install(serve_os(installer).await, package().0).await.unwrap_err();
        assert!(error.to_string().contains(words), "{wrong}: {error}");
    }
    // A switch that has the version already wants no content.
    let installer = Installer {
        wrong: "there",
        ..Installer::default()
    };
    install(serve_os(installer.clone()).await, package().0).await.unwrap();
    assert!(installer.content.lock().unwrap().is_empty());
}

/// An operator's program whose packages begin with their version, and end with `whole`.
fn operators_program(dir: &std::path::Path) -> os::Settings {
    use std::os::unix::fs::PermissionsExt as _;
    let program = dir.join("os-program");
    let text = r#"#!/bin/sh
here=$(dirname "$0")
case $1 in
running) cat "$here/current" ;;
check) tail -c 6 "$2" | grep -q whole || { echo "not whole" >&2; exit 1; }; head -n 1 "$2" ;;
activate) if [ -e "$here/broken" ]; then echo "no room in /boot" >&2; exit 3; fi; echo "$3" > "$here/current" ;;
esac
"#;
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::write(dir.join("current"), "nos-1").unwrap();
    os::Settings {
        dir: dir.join("packages"),
        program,
        most_octets: 4 << 20,
    }
}

/// A package of `version`, announced as `called`; the operator's program accepts it if its end is `whole`.
fn package_of(version: &str, called: &str, octets: usize, end: &str) -> Package {
    let mut content = tempfile::tempfile().unwrap();
    writeln!(content, "{version}").unwrap();
    content.write_all(&vec![b'x'; octets]).unwrap();
    writeln!(content, "{end}").unwrap();
    let octets = content.stream_position().unwrap();
    content.rewind().unwrap();
    Package {
        version: called.into(),
        octets,
        content,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_switch_receives_checks_keeps_and_activates_a_package() {
    let mut world = World::new();
    let dir = tempfile::tempdir().unwrap();
    world.os = Some(operators_program(dir.path()));
    let switch = world.start(true).await;
    let access = world.access(world.authority());
    assert_eq!(access.look(&switch).await.unwrap().software.as_deref(), Some("nos-1"));
    let refused = async |package: Package, words: &str| {
        let error = access.install(&switch, package).await.unwrap_err();
        assert!(
            matches!(&error, MachineError::Refused(said) if said.contains(words)),
            "{words}: {error}"
        );
    };
    refused(package_of("nos-2", "nos-2", 1 << 20, "ends early"), "INTEGRITY_FAIL").await;
    refused(
        package_of("nos-3", "nos-2", 10, "whole"),
        "INCOMPATIBLE: the package is of version `nos-3`",
    )
    .await;
    refused(package_of("nos-2", "nos-2", 5 << 20, "whole"), "TOO_LARGE").await;
    refused(package_of("nos-2", "../nos-2", 10, "whole"), "INCOMPATIBLE").await;
    let mut longer = package_of("nos-2", "nos-2", 2 << 20, "whole");
    longer.octets -= 1;
    refused(longer, "TOO_LARGE").await;
    let packages = dir.path().join("packages");
    assert_eq!(std::fs::read_dir(&packages).unwrap().count(), 0, "nothing half is left");
    let error = access.activate(&switch, "nos-2").await.unwrap_err();
    assert!(error.to_string().contains("NON_EXISTENT_VERSION"), "{error}");

    access
        .install(&switch, package_of("nos-2", "nos-2", 3 << 20, "whole"))
        .await
        .unwrap();
    assert!(packages.join("nos-2.package").exists());
    // Again: it is there, and its content is not sent.
    let nothing = Package {
        version: "nos-2".into(),
        octets: 1,
        content: tempfile::tempfile().unwrap(),
    };
    access.install(&switch, nothing).await.unwrap();
    std::fs::write(dir.path().join("broken"), "").unwrap();
    let error = access.activate(&switch, "nos-2").await.unwrap_err();
    assert!(error.to_string().contains("no room in /boot"), "{error}");
    assert_eq!(world.process.restarts.load(Ordering::SeqCst), 0);
    std::fs::remove_file(dir.path().join("broken")).unwrap();
    // A package that was changed on the disk is not activated.
    let content = std::fs::read(packages.join("nos-2.package")).unwrap();
    std::fs::write(packages.join("nos-2.package"), "nos-2\nwhole\n").unwrap();
    let error = access.activate(&switch, "nos-2").await.unwrap_err();
    assert!(error.to_string().contains("changed on the disk"), "{error}");
    std::fs::write(packages.join("nos-2.package"), content).unwrap();
    access.activate(&switch, "nos-2").await.unwrap();
    assert_eq!(*world.process.reasons.lock().unwrap(), ["version nos-2 was activated"]);
    assert_eq!(
        std::fs::read_to_string(dir.path().join("current")).unwrap().trim(),
        "nos-2"
    );

    // The process that begins then runs it; or does not, and says so.
    let after = world.start(true).await;
    let status = access.look(&after).await.unwrap();
    assert_eq!(status.software.as_deref(), Some("nos-2"));
    assert!(status.troubles.is_empty(), "{status:?}");
    std::fs::write(dir.path().join("current"), "nos-1").unwrap();
    let after = world.start(true).await;
    let status = access.look(&after).await.unwrap();
    assert!(
        status.troubles[0].contains("`nos-2` was activated, but after the restart `nos-1` runs"),
        "{status:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_package_is_received_at_a_time() {
    let mut world = World::new();
    let dir = tempfile::tempdir().unwrap();
    world.os = Some(operators_program(dir.path()));
    let switch = world.start(true).await;
    let access = world.access(world.authority());
    let dialer = Dialer::new(world.controller(), Subject::Switch("leaf1".into())).unwrap();
    let endpoint = Endpoint::from_static("http://switch");
    let channel = dialer.channel(&endpoint, &switch.p4runtime.to_string()).await.unwrap();
    let (asks, receiver) = mpsc::channel(4);
    let transfer = gnoi_proto::gnoi::os::TransferRequest {
        version: "nos-2".into(),
        ..Default::default()
    };
    let ask = InstallRequest {
        request: Some(Ask::TransferRequest(transfer)),
    };
    asks.send(ask).await.unwrap();
    let mut os = gnoi_proto::gnoi::os::os_client::OsClient::new(channel);
    let mut replies = os.install(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let ready = replies.message().await.unwrap().unwrap().response;
    assert_eq!(ready, Some(Reply::TransferReady(TransferReady {})));
    let error = access
        .install(&switch, package_of("nos-3", "nos-3", 10, "whole"))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("INSTALL_IN_PROGRESS"), "{error}");
    // The first caller goes away; then there is room for another.
    drop((asks, replies));
    let done = async {
        while access
            .install(&switch, package_of("nos-3", "nos-3", 10, "whole"))
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), done).await.unwrap();
    let names = std::fs::read_dir(dir.path().join("packages")).unwrap();
    let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        names.iter().all(|name| name.to_str().unwrap().starts_with("nos-3")),
        "{names:?}"
    );
}
