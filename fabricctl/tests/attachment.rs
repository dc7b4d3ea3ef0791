//! `fabricctl attachment` against a server that keeps one vDC's attachments.

use std::collections::BTreeMap;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use fabric_identity::testing::Authority;
use fabric_identity::{ClientCertificates, Limits, Listener};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Attachments by name; each change is one revision.
type Held = Arc<Mutex<BTreeMap<String, Value>>>;

fn view(spec: &Value, revision: u64) -> Value {
    let mac = spec.get("mac").cloned().unwrap_or_else(|| json!("02:00:00:00:00:01"));
    let ips = spec.get("ips").cloned().unwrap_or_else(|| json!(["10.0.0.5"]));
    let applied = json!({ "progress": "applied", "revision": revision, "devices": 2, "applied": 2, "waiting": [] });
    json!({ "spec": spec, "mac": mac, "ips": ips, "applied": applied, "revision": revision })
}

async fn create(State(held): State<Held>, Json(spec): Json<Value>) -> (StatusCode, Json<Value>) {
    let view = view(&spec, 1);
    held.lock()
        .unwrap()
        .insert(spec["name"].as_str().unwrap().to_owned(), view.clone());
    (StatusCode::CREATED, Json(view))
}

async fn replace(
    State(held): State<Held>,
    Path(name): Path<String>,
    headers: HeaderMap,
    Json(spec): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let mut held = held.lock().unwrap();
    let revision = held[&name]["revision"].as_u64().unwrap();
    assert_eq!(headers["if-match"], format!("\"{revision}\"").as_str());
    let view = view(&spec, revision + 1);
    held.insert(name, view.clone());
    (StatusCode::OK, Json(view))
}

async fn server(held: Held) -> TempDir {
    let authority = Authority::new();
    let credentials = authority.credentials("controller");
    let tcp = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = format!("https://{}", tcp.local_addr().unwrap());
    let listener = Listener::tls(tcp, "REST", Limits::GRPC, &credentials, ClientCertificates::NotAsked).unwrap();
    let list = |State(held): State<Held>| async move {
        let items: Vec<Value> = held.lock().unwrap().values().cloned().collect();
        Json(json!({ "items": items }))
    };
    let one =
        |State(held): State<Held>, Path(name): Path<String>| async move { Json(held.lock().unwrap()[&name].clone()) };
    let router = axum::Router::new()
        .route("/v1/vdcs/blue/attachments", get(list).post(create))
        .route("/v1/vdcs/blue/attachments/{name}", get(one).put(replace))
        .with_state(held);
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

fn run(dir: &TempDir, words: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fabricctl"));
    command.arg("--config").arg(dir.path().join("client.yaml"));
    command.args(words.split(' ')).output().unwrap()
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// `web` is prepared on another host, called off, prepared again and activated.
fn migrates(dir: &TempDir, held: &Held) {
    let migration = || held.lock().unwrap()["web"]["spec"]["migration"].clone();
    let said = |words: &str| {
        let done = run(dir, words);
        assert!(done.status.success(), "{words}: {}", text(&done.stderr));
        text(&done.stdout)
    };
    let prepared = said("attachment migrate blue/web --to h2 --netns moved --timeout 60");
    assert_eq!(
        prepared,
        "applied on 2 of 2 devices\n> attachment `web` of vdc `blue` is prepared on h2\n"
    );
    let wanted = json!({ "host": "h2", "netns": "moved", "phase": "prepared", "timeout_s": 60 });
    assert_eq!(migration(), wanted);
    assert!(said("get attachments -n blue").contains("h1 pod1:eth0* > h2 moved:eth0"));
    said("attachment cancel blue/web");
    assert_eq!(migration(), Value::Null);
    assert_eq!(
        said("attachment cancel blue/web"),
        "= attachment `web` of vdc `blue` does not migrate\n"
    );
    let early = run(dir, "attachment activate blue/web");
    assert!(
        !early.status.success() && text(&early.stderr).contains("does not migrate"),
        "{early:?}"
    );
    said("attachment migrate blue/web --to h2");
    said("attachment activate blue/web --wait 0");
    assert_eq!(migration()["phase"], json!("active"));
    let late = run(dir, "attachment migrate blue/web --to h2 --moved 0.5");
    assert!(
        !late.status.success() && text(&late.stderr).contains("has not moved yet"),
        "{late:?}"
    );
    said("attachment cancel blue/web");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attachment_is_added_and_put_into_another_network_as_it_was_seen() {
    let held = Held::default();
    let dir = server(Arc::clone(&held)).await;
    let added = run(
        &dir,
        "attachment add blue/web --network red --host h1 --netns pod1 --interface eth0 --ip 10.0.0.7",
    );
    assert!(added.status.success(), "{}", text(&added.stderr));
    assert!(text(&added.stdout).starts_with("+ blue/web in red: 02:00:00:00:00:01 10.0.0.7\napplied on 2 of 2"));
    let spec = |name: &str| held.lock().unwrap()[name]["spec"].clone();
    let place = json!({ "host": { "host": "h1", "netns": "pod1", "interface": "eth0" } });
    assert_eq!(spec("web")["place"], place);
    // The addresses belonged to the old network; the MAC address stays.
    let swapped = run(&dir, "attachment swap blue/web --network green --wait 0");
    assert!(swapped.status.success(), "{}", text(&swapped.stderr));
    assert_eq!(
        text(&swapped.stdout),
        "~ blue/web in green: 02:00:00:00:00:01 10.0.0.5\n"
    );
    let now = spec("web");
    assert_eq!(
        (&now["network"], &now["mac"], now.get("ips")),
        (&json!("green"), &json!("02:00:00:00:00:01"), None)
    );
    assert_eq!(now["place"], place);
    let listed = run(&dir, "get attachments -n blue");
    assert!(
        text(&listed.stdout).contains("h1 pod1:eth0"),
        "{}",
        text(&listed.stdout)
    );
    migrates(&dir, &held);
    let port = run(
        &dir,
        "attachment add blue/box --network red --switch leaf1 --port 7 --vlan 12",
    );
    assert!(port.status.success(), "{}", text(&port.stderr));
    assert_eq!(
        spec("box")["place"],
        json!({ "port": { "switch": "leaf1", "port": 7, "vlan": 12 } })
    );
    for (wrong, said) in [
        (
            "attachment add web --network red --host h1 --netns a --interface b",
            "no vDC is named",
        ),
        ("attachment add blue/web --network red", "--host"),
        (
            "attachment add blue/web --network red --host h1 --netns a",
            "--interface",
        ),
        (
            "attachment add blue/web --network red --host h1 --netns a --interface b --switch l --port 1",
            "cannot be used with",
        ),
    ] {
        let refused = run(&dir, wrong);
        assert!(
            !refused.status.success() && text(&refused.stderr).contains(said),
            "{wrong}: {}",
            text(&refused.stderr)
        );
    }
}
