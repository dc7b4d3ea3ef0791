//! Repeated calls over HTTP: when two calls count as the same, and the response to the second.

use axum::body::Body;
use axum::http::{Request, Response, StatusCode, header};
use tower::ServiceExt as _;

use super::tests::{Door, Memory, TOKEN};
use super::*;

fn api() -> Router {
    router(Arc::new(Memory::default()), Arc::new(Door::default()), Rate::default())
}

async fn ask(api: &Router, method: &str, path: &str, (token, key): (&str, &str), body: &str) -> Response<Body> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::HOST, "localhost")
        .header("Idempotency-Key", key);
    let request = request.body(Body::from(body.to_owned())).unwrap();
    api.clone().oneshot(request).await.unwrap()
}

async fn json(response: Response<Body>) -> serde_json::Value {
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn is_replayed(response: &Response<Body>) -> bool {
    response
        .headers()
        .get("idempotent-replayed")
        .is_some_and(|value| value == "true")
}

#[tokio::test]
async fn the_second_answer_is_that_of_the_first_and_says_so() {
    let api = api();
    let blue = r#"{"name":"blue"}"#;
    let first = ask(&api, "POST", "/v1/vdcs?reason=a", (TOKEN, "k1"), blue).await;
    assert_eq!((first.status(), is_replayed(&first)), (StatusCode::CREATED, false));
    let tag = first.headers()[header::ETAG].clone();
    let first = json(first).await;
    let second = ask(&api, "POST", "/v1/vdcs?reason=a", (TOKEN, "k1"), blue).await;
    assert_eq!((second.status(), is_replayed(&second)), (StatusCode::CREATED, true));
    assert_eq!(
        (second.headers()[header::ETAG].clone(), json(second).await),
        (tag, first)
    );
    let listed = json(ask(&api, "GET", "/v1/vdcs", (TOKEN, "k1"), "").await).await;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1, "created once");
}

#[tokio::test]
async fn method_path_query_body_and_caller_make_a_call() {
    let api = api();
    let blue = r#"{"name":"blue"}"#;
    assert_eq!(ask(&api, "POST", "/v1/vdcs", (TOKEN, "k1"), blue).await.status(), 201);
    for (method, path, body) in [
        ("POST", "/v1/vdcs", r#"{"name": "blue"}"#),
        ("POST", "/v1/vdcs?reason=b", blue),
        ("PUT", "/v1/vdcs/blue", blue),
    ] {
        let refused = ask(&api, method, path, (TOKEN, "k1"), body).await;
        assert_eq!(
            refused.status(),
            StatusCode::UNPROCESSABLE_ENTITY,
            "{method} {path} {body}"
        );
        assert!(!is_replayed(&refused));
    }
    // The same key from another caller counts as another key. So the call reaches the service, which refuses the change
    // for its own reasons.
    let other = ask(
        &api,
        "POST",
        "/v1/vdcs/acme/networks",
        ("vdc-editor", "k1"),
        r#"{"name":"red"}"#,
    )
    .await;
    assert_eq!(json(other).await["code"], "in_use");
}

#[tokio::test]
async fn a_key_that_would_mean_nothing_is_refused() {
    let api = api();
    let blue = r#"{"name":"blue"}"#;
    let long = "k".repeat(256);
    for (method, path, key) in [
        ("POST", "/v1/vdcs", ""),
        ("POST", "/v1/vdcs", "two words"),
        ("POST", "/v1/vdcs", "schlüssel"),
        ("POST", "/v1/vdcs", &long),
        // A secret is shown once.
        ("POST", "/v1/users/alice/tokens", "k1"),
        ("PUT", "/v1/vdcs/acme/users/alice", "k1"),
    ] {
        let refused = ask(&api, method, path, (TOKEN, key), blue).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{method} {path} {key}");
        assert_eq!(json(refused).await["errors"][0]["field"], "Idempotency-Key");
    }
    assert_eq!(
        ask(&api, "GET", "/v1/vdcs", (TOKEN, &long), "").await.status(),
        200,
        "a read changes nothing"
    );
}

#[test]
fn the_document_says_which_operations_take_a_key() {
    let document = openapi();
    for (path, method, takes) in [
        ("/v1/vdcs", "post", true),
        ("/v1/vdcs", "get", false),
        ("/v1/apply", "post", true),
        ("/v1/vdcs/{vdc}/attachments/{name}", "patch", true),
        ("/v1/inventory/switches/{name}", "delete", true),
        ("/v1/users", "post", false),
    ] {
        let operation = &document["paths"][path][method];
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let has = parameters.iter().any(|p| p["name"] == "Idempotency-Key");
        let says = operation["responses"]["200"]["headers"]["Idempotent-Replayed"].is_object();
        assert_eq!((has, says), (takes, takes), "{method} {path}");
    }
}

#[tokio::test]
async fn a_body_with_a_key_has_the_limit_of_all_bodies() {
    let api = api();
    let blue = |octets: usize| " ".repeat(octets) + r#"{"name":"blue"}"#;
    let large = ask(&api, "POST", "/v1/vdcs", (TOKEN, "k1"), &blue(MAX_BODY_BYTES)).await;
    assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(json(large).await["code"], "too_large");
    let most = ask(&api, "POST", "/v1/vdcs", (TOKEN, "k1"), &blue(MAX_BODY_BYTES - 15)).await;
    assert_eq!(most.status(), StatusCode::CREATED);
}
