//! The REST API, judged by tools that nobody here wrote: a validator of OpenAPI documents, a client that a generator made
//! of the document, and calls that Schemathesis makes of it, as each kind of user.
//!
//! Each test has a controller of its own: a process with an empty store, and switches that are not there. Needs the
//! Python environments `openapi` and `schemathesis`, and `curl`.

use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fabric_identity::testing::Authority;
use vfabric_api::access::{Binding, Role, TokenSpec, UserKey, UserSpec};
use vfabric_api::client::{Client, ClientError};
use vfabric_api::error::ErrorCode;
use vfabric_api::ident::Name;
use vfabric_api::kind::{Key, Kind, Spec, VdcSpec};

/// Two leaves where nobody listens.
const TOPOLOGY: &str = r#"
fabric: { name: test }
switches:
  - { name: leaf1, role: leaf, device_id: 1, loopback_ipv4: 10.255.0.1, loopback_ipv6: "fd00:255::1", p4runtime: "127.0.0.1:1", access_ports: [10, 11] }
  - { name: leaf2, role: leaf, device_id: 2, loopback_ipv4: 10.255.0.2, loopback_ipv6: "fd00:255::2", p4runtime: "127.0.0.1:2", access_ports: [10, 11] }
hosts:
  - { name: host1, uplink: { switch: leaf1, port: 5 }, mac: "02:00:00:00:01:01", vtep_ipv4: 10.255.1.1, vtep_ipv6: "fd00:255:1::1" }
"#;
/// What the administrator's token is.
const TOKEN: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// A start takes less on a machine that has time for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that ends with this.
struct Process(Child);

/// A controller that runs.
struct Live {
    dir: tempfile::TempDir,
    _process: Process,
    url: String,
    ca: PathBuf,
    admin: Client,
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a controller, and waits until it says that it serves.
fn start() -> Live {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let authority = Authority::new();
    let files = authority.issue("controller").write(&authority.pem, dir.path());
    std::fs::write(at("topology.yaml"), TOPOLOGY).unwrap();
    std::fs::write(at("token"), TOKEN).unwrap();
    let notices = UnixDatagram::bind(at("notify")).unwrap();
    notices.set_read_timeout(Some(PATIENCE)).unwrap();
    let log = std::fs::File::create(at("log")).unwrap();
    let programs = Path::new(env!("CARGO_BIN_EXE_exercise")).parent().unwrap();
    let process = Command::new(programs.join("fabric-controller"))
        .arg("--topology")
        .arg(at("topology.yaml"))
        .arg("--data-dir")
        .arg(at("data"))
        .args(["--listen", "127.0.0.1:0", "--agent-listen", "127.0.0.1:0"])
        // What is tested is not how often a tenant may ask.
        .args(["--tenant-rate", "100000", "--tenant-burst", "100000"])
        .arg("--tls-ca")
        .arg(&files.ca)
        .arg("--tls-cert")
        .arg(&files.cert)
        .arg("--tls-key")
        .arg(&files.key)
        .arg("--token-file")
        .arg(at("token"))
        .env("NOTIFY_SOCKET", at("notify"))
        .stdin(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the controller is built with the workspace");
    let process = Process(process);
    let log = || std::fs::read_to_string(at("log")).unwrap_or_default();
    let mut said = [0; 4096];
    loop {
        let length = notices
            .recv(&mut said)
            .unwrap_or_else(|error| panic!("the controller does not serve ({error}): {}", log()));
        if said[..length].split(|b| *b == b'\n').any(|line| line == b"READY=1") {
            break;
        }
    }
    let log = log();
    let rest = log.split_whitespace().find_map(|word| word.strip_prefix("rest="));
    let url = format!("https://{}", rest.expect("where it serves"));
    let admin = Client::new(&url, authority.pem.as_bytes(), TOKEN).unwrap();
    Live {
        _process: process,
        url,
        ca: files.ca,
        admin,
        dir,
    }
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

impl Live {
    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its document, in a file, as anybody gets it.
    fn document(&self) -> PathBuf {
        let file = self.at("openapi.json");
        run(Command::new("curl")
            .args(["--silent", "--fail", "--show-error", "--cacert"])
            .arg(&self.ca)
            .arg("--output")
            .arg(&file)
            .arg(format!("{}/v1/openapi.json", self.url)));
        file
    }

    /// A vDC with a network, and two users with a token each: `vdc-admin` there, and `fabric-viewer`.
    async fn users(&self) -> [String; 2] {
        let acme = name("acme");
        let vdc = VdcSpec {
            hosts: vec![name("host1")],
            ..VdcSpec::new(acme.clone())
        };
        self.admin.create(&acme, &Spec::Vdc(vdc), None).await.unwrap();
        let red = network(r#"{"name": "red", "subnets": [{"cidr": "10.1.0.0/24"}]}"#);
        self.admin.create(&acme, &red, None).await.unwrap();
        let of_vdc = self.user(Some(&acme), Role::VdcAdmin).await;
        [of_vdc, self.user(None, Role::FabricViewer).await]
    }

    async fn user(&self, vdc: Option<&Name>, role: Role) -> String {
        let roles = vec![Binding {
            role,
            vdc: vdc.cloned(),
        }];
        let spec = UserSpec {
            name: name("tester"),
            description: String::new(),
            roles,
            oidc_subject: None,
        };
        self.admin.put_user(vdc, &spec).await.unwrap();
        let key = UserKey {
            vdc: vdc.cloned(),
            name: spec.name,
        };
        self.admin.make_token(&key, &TokenSpec::default()).await.unwrap().secret
    }

    /// Calls of every operation but the watch, which does not end. `coverage` goes through the document systematically.
    fn schemathesis(&self, token: &str, phases: &str, examples: &str) {
        let settings = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/rest_api/schemathesis.toml");
        let python = bmv2_tests::venv::python("schemathesis").unwrap();
        run(Command::new(python.with_file_name("st"))
            .arg("--config-file")
            .arg(settings)
            .args(["run", &format!("{}/v1/openapi.json", self.url)])
            .args(["--header", &format!("Authorization: Bearer {token}"), "--tls-verify"])
            .arg(&self.ca)
            .args(["--phases", phases, "--max-examples", examples])
            .args(["--exclude-path", "/v1/watch", "--request-timeout", "10"])
            .args(["--generation-deterministic", "--no-color"])
            .current_dir(self.dir.path()));
    }
}

/// Runs a command to its end; what it said is shown if it failed.
fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|e| panic!("{}: {e}", command.get_program().display()));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{}: {said}", command.get_program().display());
    said
}

#[test]
fn the_document_is_valid_for_a_foreign_validator() {
    let live = start();
    let document = live.document();
    let python = bmv2_tests::venv::python("openapi").unwrap();
    run(Command::new(python.with_file_name("openapi-spec-validator"))
        .args(["--schema", "3.1"])
        .arg(document));
}

#[test]
fn a_foreign_generator_makes_a_client_that_creates_and_reads_a_vdc() {
    let live = start();
    let document = live.document();
    let python = bmv2_tests::venv::python("openapi").unwrap();
    let bin = python.parent().unwrap();
    // The generator calls a formatter that lies beside it.
    let path = std::env::var("PATH").unwrap_or_default();
    run(Command::new(bin.join("openapi-python-client"))
        .args(["generate", "--meta", "none", "--fail-on-warning", "--path"])
        .arg(document)
        .arg("--output-path")
        .arg(live.at("generated"))
        .env("PATH", format!("{}:{path}", bin.display()))
        .current_dir(live.dir.path()));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/rest_api/generated_client.py");
    let said = run(Command::new(python)
        .arg(script)
        .arg(&live.url)
        .arg(&live.ca)
        .env("PYTHONPATH", live.dir.path())
        .env("VFABRIC_TOKEN", TOKEN));
    assert_eq!(said.trim(), "created and read acme");
}

fn network(text: &str) -> Spec {
    Spec::Network(serde_json::from_str(text).unwrap())
}

/// The code of a refusal.
fn refused<T: std::fmt::Debug>(done: Result<T, ClientError>) -> ErrorCode {
    match done.unwrap_err() {
        ClientError::Api(error) => error.code,
        error => panic!("{error}"),
    }
}

#[tokio::test]
async fn keys_owners_and_selectors_go_through_the_client() {
    let live = start();
    live.users().await;
    let acme = name("acme");
    let web = network(r#"{"name": "web", "labels": {"tier": "web"}, "subnets": [{"cidr": "10.2.0.0/24"}]}"#);
    let db = network(r#"{"name": "db", "labels": {"tier": "db"}}"#);
    let once = live.admin.with_key("load-1");
    let first = once.create(&acme, &web, None).await.unwrap();
    assert_eq!(once.create(&acme, &web, None).await.unwrap(), first);
    assert_eq!(refused(once.create(&acme, &db, None).await), ErrorCode::Invalid);

    let file = live.admin.as_owner("file:db.yaml".parse().ok(), false);
    file.create(&acme, &db, None).await.unwrap();
    let db = Key::new(acme.clone(), Kind::Network, name("db"));
    assert_eq!(refused(live.admin.delete(&db, None).await), ErrorCode::Owned);
    for (labels, fields, expected) in [
        ("tier in (web,db)", "", ["db", "web"].as_slice()),
        ("tier!=web", "", &["db", "red"]),
        ("", "owner=file:db.yaml", &["db"]),
        ("!tier", "name!=red", &[]),
    ] {
        let found = live
            .admin
            .list_selected(Kind::Network, Some(&acme), labels, fields)
            .await
            .unwrap();
        let found: Vec<&str> = found.iter().map(|view| view.name().as_str()).collect();
        assert_eq!(found, expected, "{labels} {fields}");
    }
    file.delete(&db, None).await.unwrap();
}

#[tokio::test]
async fn schemathesis_finds_nothing_as_fabric_admin() {
    let live = start();
    live.users().await;
    live.schemathesis(TOKEN, "coverage,fuzzing", "3");
}

#[tokio::test]
async fn schemathesis_finds_nothing_as_vdc_admin() {
    let live = start();
    let [of_vdc, _] = live.users().await;
    live.schemathesis(&of_vdc, "fuzzing", "5");
}

#[tokio::test]
async fn schemathesis_finds_nothing_as_fabric_viewer() {
    let live = start();
    let [_, viewer] = live.users().await;
    live.schemathesis(&viewer, "fuzzing", "5");
}
