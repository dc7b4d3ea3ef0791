//! Tests of everything that a caller relies on: codes, fields, tokens, request ids.

use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use serde_json::json;
use tower::ServiceExt;

use super::operation::Operations;
use super::*;
use crate::access::{AuditRecord, Needs, Role};
use crate::ident::Name;

mod double;

pub(super) use double::*;

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
async fn a_plan_differs_from_an_object_and_a_reason_has_an_end() {
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

/// The document has the bounds that the code checks, so that a client can read them beforehand.
#[test]
fn the_document_has_the_bounds_of_the_code() {
    let document = openapi();
    let at = |place: &str| format!("/components/schemas/{place}");
    let host = "Place_host/properties";
    let port = "Place_port/properties";
    for (place, rule, value) in [
        ("VdcSpec/properties/description".to_owned(), "maxLength", json!(500)),
        ("VdcIntent/properties/description".to_owned(), "maxLength", json!(500)),
        ("VlanRange/properties/first".to_owned(), "minimum", json!(1)),
        ("VlanRange/properties/last".to_owned(), "maximum", json!(4094)),
        ("NetworkSpec/properties/mtu".to_owned(), "minimum", json!(576)),
        (
            "SubnetSpec/properties/cidr".to_owned(),
            "$ref",
            json!("#/components/schemas/IpPrefix"),
        ),
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

/// Whether a role is enough. A role of a vDC is held in vDC `acme`.
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
    // Watches have tests of their own: they do not end.
    for (template, method, needs) in operations.all().filter(|(template, ..)| !template.ends_with("/watch")) {
        let path = path_in(template, "acme");
        assert_eq!(
            ask_of(&router, method.as_str(), &path, "wrong", "").await.status,
            401,
            "{method} {path}"
        );
        for role in ROLES {
            let answer = ask_of(&router, method.as_str(), &path, &role.to_string(), "").await;
            // With a role of a vDC, a rollback must name the vDC.
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

#[test]
fn the_document_says_what_attributes_of_fields_cannot() {
    let schemas = &openapi()["components"]["schemas"];
    let kinds = serde_json::json!(["network", "router", "attachment"]);
    assert_eq!(schemas["Removal"]["properties"]["kind"]["enum"], kinds);
    assert_eq!(schemas["UserSpec"]["properties"]["oidc_subject"]["minLength"], 1);
    assert!(schemas["Place_host"]["properties"]["interface"]["not"].is_object());
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
    // The metrics are an operation, but not in the document.
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

/// The first `count` events of a watch.
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
        // The last change is to an object with other labels.
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

#[tokio::test(start_paused = true)]
async fn events_are_shown_to_those_whose_they_are() {
    let numbers = |body: &serde_json::Value| -> Vec<u64> {
        let items = body["items"].as_array().unwrap().iter();
        items.map(|event| event["number"].as_u64().unwrap()).collect()
    };
    let of = |path: &'static str, token: &'static str| async move { ask("GET", path, token, "").await };
    let all = of("/v1/events", TOKEN).await.body;
    assert_eq!((numbers(&all).len(), &all["upto"]), (9, &9.into()));
    assert_eq!(numbers(&of("/v1/events?after=5", "vdc-viewer").await.body), [6, 9]);
    assert_eq!(numbers(&of("/v1/events?after=5&vdc=acme", TOKEN).await.body), [6, 9]);
    for (path, status) in [
        ("/v1/events?vdc=other", 404),
        ("/v1/events?limit=0", 400),
        ("/v1/events?after=x", 400),
        ("/v1/events/watch?vdc=other", 404),
        ("/v1/events/watch?after=x", 400),
    ] {
        assert_eq!(ask("GET", path, "vdc-viewer", "").await.status, status, "{path}");
    }
    let seen = events("/v1/events/watch?after=4", "vdc-viewer", 3).await;
    assert!(
        seen[0].contains("event: event") && seen[0].contains("id: 6") && seen[1].contains("id: 9"),
        "{seen:?}"
    );
    assert!(seen[2].contains("event: bookmark"), "{seen:?}");
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
