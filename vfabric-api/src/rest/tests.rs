//! What a caller relies on: codes, fields, tokens, request ids.

use std::sync::Mutex;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use tower::ServiceExt;

use super::*;
use crate::error::{ApiError, ErrorCode};
use crate::history::{Diff, History, Revision};
use crate::ident::Name;
use crate::intent::Intent;
use crate::service::{ApplyOptions, Change, Committed, Key, Kind, Page, Rollback, Transaction};
use crate::status::*;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Remembers created vDCs; refuses everything else.
#[derive(Default)]
struct Memory(Mutex<Vec<Vdc>>);

impl FabricService for Memory {
    async fn commit(&self, transaction: Transaction) -> Result<Committed, ApiError> {
        let mut committed = Committed {
            revision: 7,
            ..Committed::default()
        };
        for (_, change) in transaction.changes {
            let Change::Create(name, crate::service::Spec::Vdc(spec)) = change else {
                return Err(ApiError::new(ErrorCode::InUse, "in use"));
            };
            self.0.lock().unwrap().push(Vdc {
                spec,
                networks: 0,
                routers: 0,
                attachments: 0,
                revision: 7,
            });
            committed.created.push(Key::vdc(name));
        }
        Ok(committed)
    }
    async fn apply(&self, _: Intent, _: ApplyOptions) -> Result<Committed, ApiError> {
        Err(ApiError::field(
            ErrorCode::Invalid,
            "vdcs[0].networks[0].mtu",
            99,
            "at least 1280",
        ))
    }
    async fn rollback(&self, rollback: Rollback) -> Result<Committed, ApiError> {
        Err(ApiError::field(ErrorCode::Gone, "to", rollback.to, "at least 7"))
    }
    async fn history(&self, _: Option<u64>, _: usize) -> Result<History, ApiError> {
        Ok(History::default())
    }
    async fn revision(&self, revision: u64) -> Result<Revision, ApiError> {
        Err(ApiError::not_found(revision))
    }
    async fn diff(&self, from: u64, to: u64) -> Result<Diff, ApiError> {
        Ok(Diff {
            from,
            to,
            ..Diff::default()
        })
    }
    async fn get(&self, key: &Key) -> Result<View, ApiError> {
        let found = self.0.lock().unwrap().iter().find(|v| v.spec.name == key.name).cloned();
        found.map(View::Vdc).ok_or_else(|| ApiError::not_found(key))
    }
    async fn list(&self, _: Kind, _: Option<&Name>, _: Option<&str>, limit: usize) -> Result<Page<View>, ApiError> {
        let items = self
            .0
            .lock()
            .unwrap()
            .iter()
            .take(limit)
            .cloned()
            .map(View::Vdc)
            .collect();
        Ok(Page { items, next: None })
    }
    async fn wait_applied(&self, revision: u64, _: Duration) -> Applied {
        Applied {
            revision,
            progress: Progress::Applied,
            devices: 0,
            applied: 0,
            waiting: Vec::new(),
        }
    }
    async fn fabric(&self) -> FabricStatus {
        let none = Count { ok: 0, total: 0 };
        FabricStatus {
            name: "lab".parse().unwrap(),
            revision: 7,
            switches: none,
            hosts: none,
            links: none,
            vdcs: 0,
            networks: 0,
            routers: 0,
            attachments: 0,
            vnis_in_quarantine: 0,
            store_fault: None,
            set_aside: Vec::new(),
            warnings: Vec::new(),
        }
    }
    async fn inventory(&self) -> crate::inventory::Inventory {
        let topology = crate::topology::Topology::from_yaml(
            r#"
fabric: { name: lab }
switches:
  - { name: leaf1, role: leaf, device_id: 2, loopback_ipv4: 10.255.0.2, loopback_ipv6: "fd00:255::2", p4runtime: "192.0.2.2:9559" }
"#,
        );
        let topology = topology.unwrap();
        let items = topology.switches.iter().map(|spec| crate::inventory::SwitchItem {
            spec: spec.clone(),
            uid: 1,
            vtep_id: Some(1),
            state: crate::inventory::ItemState::InService,
            waiting: Vec::new(),
        });
        crate::inventory::Inventory {
            switches: items.collect(),
            fabric: topology.fabric,
            links: Vec::new(),
            hosts: Vec::new(),
            set_aside: Vec::new(),
        }
    }
    async fn switches(&self) -> Vec<SwitchStatus> {
        Vec::new()
    }
    async fn hosts(&self) -> Vec<HostStatus> {
        Vec::new()
    }
    async fn links(&self) -> Vec<LinkStatus> {
        Vec::new()
    }
    async fn drops(&self) -> Drops {
        Drops::default()
    }
    async fn health(&self) -> Result<Vec<String>, String> {
        Ok(Vec::new())
    }
    async fn metrics(&self) -> String {
        "# EOF\n".into()
    }
    async fn entities(&self, device: &Name) -> Result<Vec<DeviceEntity>, ApiError> {
        if device.as_str() == "leaf1" {
            return Err(ApiError::new(ErrorCode::Unavailable, "leaf1 is not connected"));
        }
        Err(ApiError::not_found(format_args!("device `{device}`")))
    }
}

struct Answer {
    status: StatusCode,
    kind: String,
    request_id: String,
    body: serde_json::Value,
}

async fn ask(method: &str, path: &str, token: &str, body: &str) -> Answer {
    let router = router(Arc::new(Memory::default()), Tokens::parse(TOKEN).unwrap());
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::HOST, "localhost")
        .header("x-request-id", "test-1")
        .body(Body::from(body.to_owned()))
        .unwrap();
    let response = router.oneshot(request).await.unwrap();
    let header = |name: &str| {
        response
            .headers()
            .get(name)
            .map(|v| v.to_str().unwrap().to_owned())
            .unwrap_or_default()
    };
    let (status, kind, request_id) = (response.status(), header("content-type"), header("x-request-id"));
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    Answer {
        status,
        kind,
        request_id,
        body: serde_json::from_slice(&bytes).unwrap_or_default(),
    }
}

#[tokio::test]
async fn nothing_without_a_token() {
    for (method, path) in [
        ("GET", "/v1/vdcs"),
        ("POST", "/v1/apply"),
        ("GET", "/v1/none"),
        ("PATCH", "/v1/vdcs"),
    ] {
        let answer = ask(method, path, "wrong", "").await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{method} {path}");
        assert_eq!(answer.body["code"], "unauthenticated");
    }
    assert_eq!(ask("GET", "/v1/health", "wrong", "").await.status, StatusCode::OK);
}

#[tokio::test]
async fn metrics_need_a_token_and_say_what_they_are() {
    let answer = ask("GET", "/metrics", "wrong", "").await;
    assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
    let answer = ask("GET", "/metrics", TOKEN, "").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(
        answer.kind.starts_with("application/openmetrics-text"),
        "{}",
        answer.kind
    );
}

#[tokio::test]
async fn a_created_object_comes_back() {
    let answer = ask("POST", "/v1/vdcs?wait=0.5", TOKEN, r#"{"name":"blue"}"#).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(answer.body["spec"]["name"], "blue");
}

#[tokio::test]
async fn a_plan_is_told_from_an_object_and_a_reason_has_an_end() {
    let answer = ask("POST", "/v1/vdcs?dry_run=true", TOKEN, r#"{"name":"blue"}"#).await;
    assert_eq!(
        (answer.status, answer.kind.as_str()),
        (StatusCode::OK, "application/vnd.vfabric.plan+json")
    );
    assert_eq!(answer.body["created"][0]["name"], "blue");
    let reason = "r".repeat(501);
    let answer = ask(
        "POST",
        &format!("/v1/vdcs?reason={reason}"),
        TOKEN,
        r#"{"name":"blue"}"#,
    )
    .await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.body["errors"][0]["field"], "reason");
}

#[tokio::test]
async fn malformed_bodies_name_the_field() {
    let cases = [
        (r#"{"name":"Blue!"}"#, "name", "Blue!"),
        (r#"{"name":"blue","descriptoin":"x"}"#, "descriptoin", "x"),
        (r#"{"name":7}"#, "name", "7"),
    ];
    for (body, field, value) in cases {
        let answer = ask("POST", "/v1/vdcs", TOKEN, body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(answer.kind, "application/problem+json");
        assert_eq!(answer.body["code"], "malformed");
        assert_eq!(answer.body["errors"][0]["field"], field, "{body}");
        assert_eq!(answer.body["errors"][0]["value"], value, "{body}");
    }
    for body in ["", "{", "[]", r#"{"name":"a"} x"#, "null"] {
        assert_eq!(
            ask("POST", "/v1/vdcs", TOKEN, body).await.status,
            StatusCode::BAD_REQUEST,
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_device_is_put_under_its_name() {
    let answer = ask("GET", "/v1/inventory/switches/leaf1", TOKEN, "").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(
        (&answer.body["uid"], &answer.body["state"]),
        (&1.into(), &"in_service".into())
    );
    let spec = answer.body["spec"].to_string();
    let other = ask("PUT", "/v1/inventory/switches/leaf2", TOKEN, &spec).await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(other.body["errors"][0]["field"], "name");
}

#[tokio::test]
async fn each_error_has_its_status_and_code() {
    let cases = [
        ("GET", "/v1/vdcs/nope", "", 404, "not_found"),
        ("GET", "/v1/vdcs/No_pe", "", 404, "not_found"),
        ("GET", "/v1/nope", "", 404, "not_found"),
        ("DELETE", "/v1/vdcs/blue", "", 409, "in_use"),
        ("POST", "/v1/apply", r#"{"vdcs":[]}"#, 422, "invalid"),
        ("GET", "/v1/vdcs?limit=0", "", 400, "malformed"),
        ("GET", "/v1/vdcs?limt=5", "", 400, "malformed"),
        ("PUT", "/v1/vdcs/blue", r#"{"name":"red"}"#, 422, "invalid"),
        ("PATCH", "/v1/vdcs", "", 405, "malformed"),
        ("GET", "/v1/devices/leaf1/entities", "", 503, "unavailable"),
        ("GET", "/v1/inventory/hosts/host9", "", 404, "not_found"),
        ("GET", "/v1/inventory/switches/leaf9", "", 404, "not_found"),
        ("POST", "/v1/inventory/switches/leaf1/drain", "", 409, "in_use"),
        (
            "POST",
            "/v1/inventory/switches/leaf1/drain?cascade=true",
            "",
            400,
            "malformed",
        ),
        (
            "DELETE",
            "/v1/inventory/switches/leaf1?cascade=true&dry_run=true",
            "",
            409,
            "in_use",
        ),
        ("DELETE", "/v1/inventory/links/leaf1/1", "", 404, "not_found"),
        ("DELETE", "/v1/inventory/links/leaf1/510", "", 404, "not_found"),
        ("PATCH", "/v1/vdcs/blue", r#"{"description":"x"}"#, 409, "in_use"),
        ("PATCH", "/v1/vdcs/blue", "{", 400, "malformed"),
        ("PUT", "/v1/inventory", "{}", 400, "malformed"),
        ("POST", "/v1/history/3/rollback", "", 410, "gone"),
        ("GET", "/v1/history/3", "", 404, "not_found"),
        ("GET", "/v1/history/x", "", 404, "not_found"),
        ("GET", "/v1/history?limit=1001", "", 400, "malformed"),
        ("GET", "/v1/diff?from=1", "", 400, "malformed"),
    ];
    for (method, path, body, status, code) in cases {
        let answer = ask(method, path, TOKEN, body).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}");
        assert_eq!(answer.body["code"], code, "{method} {path}");
        assert_eq!(answer.body["request_id"], "test-1", "{method} {path}");
        assert_eq!(answer.request_id, "test-1", "{method} {path}");
    }
}

#[tokio::test]
async fn the_document_describes_every_path() {
    let answer = ask("GET", "/v1/openapi.json", "", "").await;
    let paths = answer.body["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 31);
    assert!(paths["/v1/inventory/switches/{name}/drain"]["post"].is_object());
    assert!(paths["/v1/vdcs/{vdc}/attachments"]["post"]["requestBody"].is_object());
    assert!(answer.body["components"]["schemas"]["AttachmentSpec"].is_object());
}
