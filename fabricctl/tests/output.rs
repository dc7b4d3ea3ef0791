//! Output of commands when its reader stops early.

use std::process::{Command, Output, Stdio};

use axum::Json;
use axum::routing::get;
use fabric_identity::testing::Authority;
use fabric_identity::{ClientCertificates, Limits, Listener};
use serde_json::json;
use tempfile::TempDir;
use vfabric_api::history::{Diff, History};
use vfabric_api::kind::{Key, Kind};
use vfabric_api::status::{DeviceEntity, LinkStatus};

/// Things of each sort: more than a pipe holds.
const MANY: u16 = 5000;

fn entities() -> Vec<DeviceEntity> {
    let entity = |i: u16| DeviceEntity {
        table: "ipv4_route".into(),
        key: format!("192.0.2.{i}"),
        action: "forward(port=1)".into(),
        applied: true,
        asked_by: vec![],
    };
    (0..MANY).map(entity).collect()
}

fn links() -> Vec<LinkStatus> {
    let link = |i: u16| {
        let end = json!({ "switch": "leaf1", "port": i % 500 + 1 });
        serde_json::from_value(json!({ "a": end, "b": end, "up": true })).unwrap()
    };
    (0..MANY).map(link).collect()
}

fn diff() -> Diff {
    let mut diff = Diff::default();
    let key = |i: u16| {
        Key::new(
            "blue".parse().unwrap(),
            Kind::Network,
            format!("net{i}").parse().unwrap(),
        )
    };
    diff.objects.created = (0..MANY).map(key).collect();
    diff
}

fn history() -> History {
    let revision = |i: u16| {
        let value = json!({ "revision": i, "time_ms": 0, "author": "someone", "reason": "a reason of some length" });
        serde_json::from_value(value).unwrap()
    };
    History {
        items: (0..MANY).map(revision).collect(),
        ..History::default()
    }
}

/// A controller with long answers, and a file with a client's settings.
async fn controller() -> TempDir {
    let authority = Authority::new();
    let credentials = authority.credentials("controller");
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("https://{}", tcp.local_addr().unwrap());
    let listener = Listener::tls(tcp, "REST", Limits::GRPC, &credentials, ClientCertificates::NotAsked).unwrap();
    let router = axum::Router::new()
        .route("/v1/devices/leaf1/entities", get(|| async { Json(entities()) }))
        .route("/v1/links", get(|| async { Json(links()) }))
        .route("/v1/history", get(|| async { Json(history()) }))
        .route("/v1/diff", get(|| async { Json(diff()) }));
    tokio::spawn(vfabric_api::rest::serve(
        listener.incoming(),
        router,
        std::future::pending(),
    ));
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("ca.pem"), &authority.pem).unwrap();
    std::fs::write(dir.path().join("token"), "token").unwrap();
    let settings = json!({ "server": server, "ca": "ca.pem", "token": "token" });
    std::fs::write(dir.path().join("client.yaml"), settings.to_string()).unwrap();
    dir
}

/// Runs a command; its reader goes away at once, or reads all.
fn run(dir: &TempDir, words: &str, reads: bool) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fabricctl"));
    command.arg("--config").arg(dir.path().join("client.yaml"));
    command
        .args(words.split(' '))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    if !reads {
        drop(child.stdout.take());
    }
    child.wait_with_output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_is_no_error() {
    let dir = controller().await;
    for words in [
        "get entities leaf1",
        "get entities leaf1 -o json",
        "get entities leaf1 -o yaml",
        "get links",
        "history",
        "diff 1 2",
    ] {
        let read = run(&dir, words, true);
        let said = String::from_utf8_lossy(&read.stderr);
        assert!(read.status.success() && read.stdout.len() > 1 << 16, "{words}: {said}");
        let left = run(&dir, words, false);
        assert!(left.status.success(), "{words}: {:?}", left.status);
        assert_eq!(String::from_utf8_lossy(&left.stderr), "", "{words}");
    }
}
