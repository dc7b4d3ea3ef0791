//! The REST API, tested with tools of other projects: a validator of OpenAPI documents, a client that a generator made
//! from the document, and calls that Schemathesis generates from it, as each kind of user.
//!
//! Each test has its own controller: a process with an empty store, and switches that do not exist. Needs the Python
//! environments `openapi` and `schemathesis`, and `curl`.

mod live;

use std::path::{Path, PathBuf};
use std::process::Command;

use live::{Live, TOKEN, name};
use vfabric_api::access::{Binding, Role, TokenSpec, UserKey, UserSpec};
use vfabric_api::client::ClientError;
use vfabric_api::error::ErrorCode;
use vfabric_api::ident::Name;
use vfabric_api::kind::{Key, Kind, Spec, VdcSpec};

/// The controller that the tools test.
impl Live {
    /// Its document, in a file.
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

    /// Calls every operation except the watches, which do not end. Its phase `coverage` tests the document
    /// systematically.
    fn schemathesis(&self, token: &str, phases: &str, examples: &str) {
        let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/rest_api");
        let settings = ours.join("schemathesis.toml");
        let python = bmv2_tests::venv::python("schemathesis").unwrap();
        run(Command::new(python.with_file_name("st"))
            .arg("--config-file")
            .arg(settings)
            .args(["run", &format!("{}/v1/openapi.json", self.url)])
            .args(["--header", &format!("Authorization: Bearer {token}"), "--tls-verify"])
            .arg(&self.ca)
            .args(["--phases", phases, "--max-examples", examples])
            .args(["--exclude-path", "/v1/watch", "--exclude-path", "/v1/events/watch"])
            .args(["--request-timeout", "10"])
            .args(["--generation-deterministic", "--no-color"])
            .env("SCHEMATHESIS_HOOKS", ours.join("reasons.py"))
            .current_dir(self.dir.path()));
    }
}

/// Runs a command to its end, and shows its output if it failed.
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
    let live = Live::start();
    let document = live.document();
    let python = bmv2_tests::venv::python("openapi").unwrap();
    run(Command::new(python.with_file_name("openapi-spec-validator"))
        .args(["--schema", "3.1"])
        .arg(document));
}

#[test]
fn a_foreign_generator_makes_a_client_that_creates_and_reads_a_vdc() {
    let live = Live::start();
    let document = live.document();
    let python = bmv2_tests::venv::python("openapi").unwrap();
    let bin = python.parent().unwrap();
    // The generator calls a formatter in the same directory.
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
    let live = Live::start();
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
    let live = Live::start();
    live.users().await;
    live.schemathesis(TOKEN, "coverage,fuzzing", "3");
}

#[tokio::test]
async fn schemathesis_finds_nothing_as_vdc_admin() {
    let live = Live::start();
    let [of_vdc, _] = live.users().await;
    live.schemathesis(&of_vdc, "fuzzing", "5");
}

#[tokio::test]
async fn schemathesis_finds_nothing_as_fabric_viewer() {
    let live = Live::start();
    let [_, viewer] = live.users().await;
    live.schemathesis(&viewer, "fuzzing", "5");
}
