//! What a caller relies on: codes, fields, tokens, request ids.

use std::sync::Mutex;

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use fabric_identity::Peer;
use futures::future::BoxFuture;
use serde_json::json;
use tower::ServiceExt;

use super::operation::Operations;
use super::*;
use crate::access::{
    AuditPage, AuditRecord, Binding, Caller, Grants, Needs, NewToken, Role, TokenSpec, User, UserKey, UserSpec,
};
use crate::error::{ApiError, ErrorCode};
use crate::history::{Changes, Diff, History, Revision};
use crate::ident::Name;
use crate::intent::Intent;
use crate::service::{ApplyOptions, Change, Committed, Key, Kind, Page, Repeatable, Rollback, Transaction};
use crate::status::*;

pub(super) const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// Remembers created vDCs, and what it answered to calls with a key; refuses everything else.
#[derive(Default)]
pub(super) struct Memory(Mutex<Vec<Vdc>>, Mutex<Vec<(Repeatable, Committed)>>);

impl FabricService for Memory {
    async fn commit(&self, transaction: Transaction) -> Result<Committed, ApiError> {
        let repeatable = transaction.origin.repeatable;
        let mut answered = self.1.lock().unwrap();
        let known = answered
            .iter()
            .find(|(known, _)| Some(known.key) == repeatable.map(|r| r.key));
        match known {
            Some((known, committed)) if Some(*known) == repeatable => return Ok(committed.clone()),
            Some(_) => return Err(ApiError::new(ErrorCode::Invalid, "another call with this key")),
            None => {}
        }
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
                owner: None,
                revision: 7,
            });
            committed.created.push(Key::vdc(name));
        }
        let again = Committed {
            replay: Some(Default::default()),
            ..committed.clone()
        };
        answered.extend(repeatable.map(|repeatable| (repeatable, again)));
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
    async fn changes(&self, after: u64, _: usize) -> Result<Changes, ApiError> {
        if after == 1 {
            return Err(ApiError::field(ErrorCode::Gone, "after", after, "at least 2"));
        }
        let labels = |value: &str| match value {
            "" => Default::default(),
            value => [("tier".parse().unwrap(), value.parse().unwrap())].into(),
        };
        let revision = |number: u64| {
            let vdc = ["acme", "other"][number as usize % 2];
            let created = vec![Key::vdc(vdc.parse().unwrap())];
            Arc::new(Revision {
                revision: number,
                time_ms: 1,
                origin: Default::default(),
                objects: crate::history::Objects {
                    labels: [(
                        created[0].clone(),
                        [labels(""), labels(if number < 7 { "a" } else { "b" })],
                    )]
                    .into(),
                    created,
                    ..Default::default()
                },
                inventory: vec!["host h1".into()],
            })
        };
        Ok(Changes {
            items: (after + 1..=7).map(revision).collect(),
            upto: 7,
        })
    }
    fn revision_now(&self) -> u64 {
        7
    }
    async fn changed(&self, after: u64) {
        if after >= 7 {
            std::future::pending::<()>().await;
        }
    }
    async fn get(&self, key: &Key) -> Result<View, ApiError> {
        let found = self.0.lock().unwrap().iter().find(|v| v.spec.name == key.name).cloned();
        found.map(View::Vdc).ok_or_else(|| ApiError::not_found(key))
    }
    async fn list(
        &self,
        _: Kind,
        _: Option<&Name>,
        _: &crate::labels::Selector,
        _: Option<&str>,
        limit: usize,
    ) -> Result<Page<View>, ApiError> {
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

/// Knows the administrator's token, and a token for each role: `fabric-viewer`, and those of vDC `acme`.
#[derive(Default)]
pub(super) struct Door {
    records: Mutex<Vec<AuditRecord>>,
    fault: Mutex<Option<String>>,
}

impl Access for Door {
    fn identify<'a>(&'a self, token: Option<&'a str>, _: Option<&'a Peer>) -> BoxFuture<'a, Result<Caller, String>> {
        let role = match token.unwrap_or_default() {
            TOKEN => Some(Role::FabricAdmin),
            name => serde_json::from_value(name.into()).ok(),
        };
        let caller = role.map(|role: Role| {
            let vdc = (!role.is_of_fabric()).then(|| "acme".parse().unwrap());
            let roles = vec![Binding { role, vdc }];
            Caller {
                name: format!("user-{role}"),
                proof: "token 1".into(),
                grants: Grants::of(&roles),
                roles,
                expires_ms: None,
            }
        });
        Box::pin(std::future::ready(caller.ok_or_else(|| "no valid bearer token".into())))
    }
    fn users(&self, _: Option<&Name>) -> Vec<User> {
        Vec::new()
    }
    fn user(&self, _: &UserKey) -> Option<User> {
        None
    }
    fn put_user(&self, vdc: Option<Name>, spec: UserSpec, _: bool) -> BoxFuture<'_, Result<User, ApiError>> {
        let is_own = |b: &Binding| vdc.is_none() || b.vdc == vdc;
        assert!(
            spec.roles.iter().all(is_own),
            "a role of another vDC came through: {spec:?}"
        );
        let tokens = Vec::new();
        Box::pin(std::future::ready(Ok(User { spec, tokens })))
    }
    fn delete_user(&self, key: UserKey) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(std::future::ready(Err(ApiError::not_found(key))))
    }
    fn make_token(&self, key: UserKey, _: TokenSpec) -> BoxFuture<'_, Result<NewToken, ApiError>> {
        Box::pin(std::future::ready(Err(ApiError::not_found(key))))
    }
    fn revoke_token(&self, key: UserKey, _: String) -> BoxFuture<'_, Result<(), ApiError>> {
        Box::pin(std::future::ready(Err(ApiError::not_found(key))))
    }
    fn can_record(&self) -> Result<(), String> {
        self.fault.lock().unwrap().clone().map_or(Ok(()), Err)
    }
    fn record(&self, record: AuditRecord) -> BoxFuture<'_, ()> {
        self.records.lock().unwrap().push(record);
        Box::pin(std::future::ready(()))
    }
    fn audit(&self, _: Option<&Name>, _: Option<u64>, _: usize) -> AuditPage {
        AuditPage::default()
    }
}

struct Answer {
    status: StatusCode,
    kind: String,
    request_id: String,
    body: serde_json::Value,
}

async fn ask(method: &str, path: &str, token: &str, body: &str) -> Answer {
    let router = router(Arc::new(Memory::default()), Arc::new(Door::default()), Rate::default());
    ask_of(&router, method, path, token, body).await
}

async fn ask_of(router: &axum::Router, method: &str, path: &str, token: &str, body: &str) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::HOST, "localhost")
        .header("x-request-id", "test-1")
        .body(Body::from(body.to_owned()))
        .unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
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
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{body}");
        assert_eq!(answer.kind, "application/problem+json");
        assert_eq!(answer.body["code"], "invalid");
        assert_eq!(answer.body["errors"][0]["field"], field, "{body}");
        assert_eq!(answer.body["errors"][0]["value"], value, "{body}");
    }
    for body in ["", "{", r#"{"name":"a"} x"#, r#"{"name":"a\u00"}"#] {
        assert_eq!(
            ask("POST", "/v1/vdcs", TOKEN, body).await.status,
            StatusCode::BAD_REQUEST,
            "{body}"
        );
    }
}

/// Bounds that the code checks and a client can read beforehand.
#[test]
fn the_document_has_the_bounds_of_the_code() {
    let document = openapi();
    let at = |place: &str| format!("/components/schemas/{place}");
    let host = "Place_host/properties";
    let port = "Place/oneOf/1/properties/port/properties";
    for (place, rule, value) in [
        ("VdcSpec/properties/description".to_owned(), "maxLength", json!(500)),
        ("VdcIntent/properties/description".to_owned(), "maxLength", json!(500)),
        ("VlanRange/properties/first".to_owned(), "minimum", json!(1)),
        ("VlanRange/properties/last".to_owned(), "maximum", json!(4094)),
        ("NetworkSpec/properties/mtu".to_owned(), "minimum", json!(576)),
        ("SubnetSpec/properties/cidr".to_owned(), "format", json!("ip-prefix")),
        (format!("{host}/interface"), "maxLength", json!(15)),
        (
            format!("{host}/interface"),
            "not",
            json!({"enum": ["lo", "all", "default"]}),
        ),
        (
            format!("{host}/interface"),
            "pattern",
            json!(r"^[!-$&-\-0-9;-~][!-$&-.0-9;-~]*$"),
        ),
        (format!("{host}/netns"), "pattern", json!(r"^[!-\-0-~][!-.0-~]*$")),
        (format!("{host}/netns"), "maxLength", json!(255)),
        (format!("{port}/vlan"), "minimum", json!(1)),
        (format!("{port}/vlan"), "maximum", json!(4094)),
        (
            "AttachmentSpec/properties/allowed_addresses".to_owned(),
            "maxItems",
            json!(64),
        ),
    ] {
        let schema = document.pointer(&at(&place)).unwrap_or_else(|| panic!("no {place}"));
        assert_eq!(schema[rule], value, "{rule} of {place}: {schema}");
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
        ("DELETE", "/v1/vdcs/blue?wait=-1", "", 422, "invalid"),
        ("POST", "/v1/apply?wait=NaN", r#"{"vdcs":[]}"#, 422, "invalid"),
        ("PUT", "/v1/inventory", "{}", 422, "invalid"),
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
    assert_eq!(paths.len(), 43);
    assert!(paths["/v1/inventory/switches/{name}/drain"]["post"].is_object());
    assert!(paths["/v1/vdcs/{vdc}/attachments"]["post"]["requestBody"].is_object());
    assert!(answer.body["components"]["schemas"]["AttachmentSpec"].is_object());
}

/// A path of a template, in a vDC.
fn path_in(template: &str, vdc: &str) -> String {
    let path = template
        .replace("{vdc}", vdc)
        .replace("{revision}", "3")
        .replace("{port}", "1");
    ["{name}", "{switch}", "{id}"]
        .iter()
        .fold(path, |path, name| path.replace(name, "x"))
}

/// Whether a role, in vDC `acme` if it is one of a vDC, is enough.
fn is_enough(role: Role, needs: Needs) -> bool {
    let (level, of_fabric) = (role.level(), role.is_of_fabric());
    match needs {
        Needs::Known => true,
        Needs::Vdc(needed) => level >= needed,
        Needs::Fabric(needed) => of_fabric && level >= needed,
    }
}

const ROLES: [Role; 5] = [
    Role::FabricAdmin,
    Role::FabricViewer,
    Role::VdcAdmin,
    Role::VdcEditor,
    Role::VdcViewer,
];

#[tokio::test]
async fn every_operation_asks_for_its_role() {
    let operations = Operations::new();
    let router = router(Arc::new(Memory::default()), Arc::new(Door::default()), Rate::default());
    assert!(operations.all().count() > 60);
    // A watch has a test of its own: it does not end.
    for (template, method, needs) in operations.all().filter(|(template, ..)| *template != "/v1/watch") {
        let path = path_in(template, "acme");
        assert_eq!(
            ask_of(&router, method.as_str(), &path, "wrong", "").await.status,
            401,
            "{method} {path}"
        );
        for role in ROLES {
            let answer = ask_of(&router, method.as_str(), &path, &role.to_string(), "").await;
            // A role of a vDC rolls back with the vDC named only.
            let alone = template.ends_with("/rollback") && role != Role::FabricAdmin;
            let allowed = is_enough(role, needs) && !alone;
            assert_eq!(
                answer.status != 403,
                allowed,
                "{method} {path} as {role}: {}",
                answer.body
            );
            assert_ne!(answer.status, 401, "{method} {path} as {role}");
            if !allowed && !alone {
                let wanted = needs.role().unwrap().to_string();
                assert!(
                    answer.body["detail"].as_str().unwrap().contains(&wanted),
                    "{}",
                    answer.body
                );
            }
            if !role.is_of_fabric() && template.contains("{vdc}") {
                let other = ask_of(
                    &router,
                    method.as_str(),
                    &path_in(template, "other"),
                    &role.to_string(),
                    "",
                )
                .await;
                assert_eq!(
                    (other.status.as_u16(), &other.body["code"]),
                    (404, &"not_found".into()),
                    "{method} {path}"
                );
                assert_eq!(other.body["detail"], "vdc `other` does not exist");
            }
        }
    }
}

#[tokio::test]
async fn the_document_and_the_table_have_the_same_operations() {
    let document = openapi();
    let operations = Operations::new();
    let mut described = 0;
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = method.to_uppercase().parse().unwrap();
            let needs = operations
                .needs(&method, path)
                .unwrap_or_else(|| panic!("{method} {path} is in no table"));
            let role = needs.role().map(|r| r.to_string());
            assert_eq!(operation["x-vfabric-role"].as_str(), role.as_deref(), "{method} {path}");
            let problem = &operation["responses"]["default"];
            assert!(
                problem["content"]["application/problem+json"]["schema"].is_object(),
                "{method} {path}"
            );
            assert!(
                problem["description"].as_str().is_some_and(|d| !d.is_empty()),
                "{method} {path}"
            );
            described += 1;
        }
    }
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["UserRole"]["enum"].as_array().unwrap().len(), 5);
    assert_eq!(
        schemas["Role"]["enum"],
        serde_json::json!(["leaf", "spine"]),
        "two types of one name"
    );
    for name in ["Name", "Label", "Mac"] {
        assert!(schemas[name]["pattern"].is_string(), "{name}");
    }
    // The metrics are beside the API.
    assert_eq!(described + 1, operations.all().count());
}

#[tokio::test]
async fn a_file_is_applied_and_a_vdc_rolled_back_where_the_caller_may_edit() {
    let file = |vdc: &str| format!(r#"{{"vdcs":[{{"name":"acme"}},{{"name":"{vdc}"}}]}}"#);
    for (role, vdc, status) in [
        ("vdc-editor", "acme", 422),
        ("vdc-editor", "other", 404),
        ("vdc-viewer", "acme", 403),
        ("fabric-viewer", "acme", 403),
    ] {
        let answer = ask("POST", "/v1/apply", role, &file(vdc)).await;
        assert_eq!(answer.status, status, "{role} {vdc}: {}", answer.body);
        let answer = ask("POST", &format!("/v1/history/3/rollback?vdc={vdc}"), role, "").await;
        let status = if status == 422 { 410 } else { status };
        assert_eq!(answer.status, status, "{role} {vdc}: {}", answer.body);
    }
    let answer = ask("POST", "/v1/history/3/rollback", "vdc-admin", "").await;
    assert!(answer.body["detail"].as_str().unwrap().contains("name it with `vdc`"));
}

#[tokio::test]
async fn a_vdcs_administrator_gives_no_role_beyond_it() {
    for (roles, status, field) in [
        (r#"[{"role":"vdc-admin"}]"#, 201, ""),
        (r#"[{"role":"vdc-admin","vdc":"acme"}]"#, 201, ""),
        (r#"[{"role":"vdc-admin","vdc":"other"}]"#, 422, "roles[0].vdc"),
        (
            r#"[{"role":"vdc-viewer"},{"role":"fabric-viewer"}]"#,
            422,
            "roles[1].role",
        ),
    ] {
        let body = format!(r#"{{"name":"eve","roles":{roles}}}"#);
        let answer = ask("POST", "/v1/vdcs/acme/users", "vdc-admin", &body).await;
        assert_eq!(answer.status, status, "{roles}: {}", answer.body);
        assert_eq!(answer.body["errors"][0]["field"].as_str().unwrap_or_default(), field);
        let answer = ask("PUT", "/v1/vdcs/acme/users/eve", "vdc-admin", &body).await;
        assert_eq!(answer.status, if status == 201 { 200 } else { status }, "{roles}");
        assert_eq!(ask("POST", "/v1/users", "vdc-admin", &body).await.status, 403);
    }
}

#[tokio::test]
async fn changes_and_refusals_are_recorded_and_nothing_changes_without_the_record() {
    let door = Arc::new(Door::default());
    let access: Arc<dyn Access> = Arc::clone(&door) as _;
    let router = router(Arc::new(Memory::default()), access, Rate::default());
    ask_of(&router, "POST", "/v1/vdcs", TOKEN, r#"{"name":"blue"}"#).await;
    ask_of(&router, "GET", "/v1/vdcs", "vdc-viewer", "").await;
    ask_of(&router, "POST", "/v1/vdcs", "vdc-viewer", r#"{"name":"red"}"#).await;
    ask_of(&router, "GET", "/v1/vdcs/other", "vdc-viewer", "").await;
    ask_of(&router, "GET", "/v1/vdcs", "wrong", "").await;
    let records = door.records.lock().unwrap().clone();
    let shown = |r: &AuditRecord| (r.caller.clone(), r.path.clone(), r.status, r.refused.is_some());
    let expected = [
        ("user-fabric-admin", "/v1/vdcs", 201, false),
        ("user-vdc-viewer", "/v1/vdcs", 403, true),
        ("user-vdc-viewer", "/v1/vdcs/other", 404, true),
        ("", "/v1/vdcs", 401, true),
    ];
    let expected =
        expected.map(|(caller, path, status, refused)| (caller.to_owned(), path.to_owned(), status, refused));
    assert_eq!(records.iter().map(shown).collect::<Vec<_>>(), expected);
    assert!(
        records.iter().all(|r| r.time_ms > 0 && r.request_id == "test-1"),
        "{records:?}"
    );
    assert_eq!(records[2].vdc.as_ref().map(Name::as_str), Some("other"));

    *door.fault.lock().unwrap() = Some("disk full".into());
    let answer = ask_of(&router, "POST", "/v1/vdcs", TOKEN, r#"{"name":"green"}"#).await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    let answer = ask_of(&router, "GET", "/v1/vdcs", TOKEN, "").await;
    assert_eq!(
        (answer.status.as_u16(), answer.body["items"].as_array().unwrap().len()),
        (200, 1)
    );
}

#[tokio::test]
async fn a_tenants_requests_are_limited_and_an_operators_are_not() {
    let n = |n| std::num::NonZeroU32::new(n).unwrap();
    let rate = Rate {
        per_second: n(1),
        burst: n(3),
    };
    let router = router(Arc::new(Memory::default()), Arc::new(Door::default()), rate);
    let mut refused = 0;
    for _ in 0..20 {
        refused += u32::from(ask_of(&router, "GET", "/v1/vdcs", "vdc-viewer", "").await.status == 429);
        assert_eq!(
            ask_of(&router, "GET", "/v1/vdcs", "fabric-viewer", "").await.status,
            200
        );
    }
    assert!((1..=17).contains(&refused), "{refused}");
    assert_eq!(
        ask_of(&router, "GET", "/v1/vdcs", "vdc-editor", "").await.status,
        200,
        "each has its own limit"
    );
}

#[tokio::test]
async fn whoami_says_what_the_caller_is() {
    let answer = ask("GET", "/v1/whoami", "vdc-editor", "").await;
    assert_eq!(answer.body["user"], "user-vdc-editor");
    assert_eq!(
        answer.body["roles"][0],
        serde_json::json!({"role": "vdc-editor", "vdc": "acme"})
    );
}

/// The first events of a watch, as they come.
async fn events(path: &str, token: &str, count: usize) -> Vec<String> {
    use futures::StreamExt as _;
    let router = router(Arc::new(Memory::default()), Arc::new(Door::default()), Rate::default());
    let request = Request::builder()
        .uri(path)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::HOST, "localhost");
    let response = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let body = response.into_body().into_data_stream();
    let texts = body
        .take(count)
        .map(|chunk| String::from_utf8(chunk.unwrap().to_vec()).unwrap());
    texts.collect().await
}

#[tokio::test(start_paused = true)]
async fn a_watch_shows_in_order_what_the_caller_may_see_and_where_it_is() {
    let all = events("/v1/watch?after=4", TOKEN, 4).await;
    let ids = |events: &[String]| -> Vec<String> {
        let line = |event: &String| event.lines().find_map(|l| l.strip_prefix("id: ")).unwrap().to_owned();
        events.iter().map(line).collect()
    };
    assert_eq!(ids(&all), ["5", "6", "7", "7"]);
    assert!(
        all[0].contains("event: revision") && all[0].contains("host h1"),
        "{}",
        all[0]
    );
    assert!(all[3].contains("event: bookmark"), "{}", all[3]);
    for path in ["/v1/watch?after=2", "/v1/watch?after=2&vdc=acme"] {
        // Labels of the last one are others.
        let labelled = events(&format!("{path}&labels=tier%3Da"), TOKEN, 3).await;
        assert_eq!(
            ids(&labelled[..1]),
            [if path.contains("vdc") { "4" } else { "3" }],
            "{labelled:?}"
        );
        let own = events(path, "vdc-viewer", 3).await;
        assert_eq!(ids(&own), ["4", "6", "7"], "{path}");
        assert!(!own[0].contains("host h1") && own[2].contains("bookmark"), "{own:?}");
    }
    for (path, token, status) in [
        ("/v1/watch?after=1", TOKEN, 410),
        ("/v1/watch?after=x", TOKEN, 400),
        ("/v1/watch?labels=-", TOKEN, 422),
        ("/v1/watch?vdc=other", "vdc-viewer", 404),
        ("/v1/watch", "wrong", 401),
    ] {
        assert_eq!(ask("GET", path, token, "").await.status, status, "{path}");
    }
}

#[tokio::test]
async fn a_vdc_that_is_spelled_otherwise_is_no_way_around() {
    for (path, as_tenant, as_admin) in [
        ("/v1/vdcs/%6fther/networks", 404, 200),
        ("/v1/vdcs/oth%65r/attachments", 404, 200),
        ("/v1/vdcs/%61cme/networks", 200, 200),
        ("/v1/vdcs/acme%2f..%2fother/networks", 404, 404),
        ("/v1/vdcs/OTHER/networks", 404, 404),
        ("/v1/vdcs/acme/../other/networks", 404, 404),
        ("/v1//vdcs/other/networks", 404, 404),
        ("/v1/vdcs/other%00/networks", 404, 404),
    ] {
        let answer = ask("GET", path, "vdc-admin", "").await;
        assert_eq!(answer.status, as_tenant, "{path}: {}", answer.body);
        assert_eq!(ask("GET", path, TOKEN, "").await.status, as_admin, "{path}");
    }
}
