//! Invalid addresses, names and documents, sent to the REST API of a controller: each is refused with its status, its
//! field and the expected value, and none is stored.

use axum::body::Body;
use axum::http::{Method, Request, header};
use serde_json::{Value, json};
use tower::ServiceExt as _;
use vfabric_api::rest::{MAX_BODY_BYTES, Rate, router};

use super::gate::Gate;
use super::tests::*;
use crate::access::audit::AuditLog;
use crate::access::file::Tokens;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const JSON: &str = "application/json";

/// The REST API of a controller with vDC `v`.
struct Api {
    world: World<MemoryStore>,
    router: axum::Router,
    _log: tempfile::TempDir,
}

/// The content of a refusal.
#[derive(Debug, PartialEq)]
struct Refusal {
    status: u16,
    code: String,
    field: String,
    expected: String,
}

impl Api {
    async fn new() -> Self {
        let world = World::over(topology(), MemoryStore::default(), fakes()).await;
        world.applied(basics()).await;
        let log = tempfile::tempdir().unwrap();
        let audit = AuditLog::open(log.path()).unwrap();
        let controller = Arc::clone(&world.controller);
        let gate = Gate::new(Arc::clone(&controller), Tokens::parse(TOKEN).unwrap(), None, audit);
        let router = router(controller, Arc::new(gate), Rate::default());
        Self {
            world,
            router,
            _log: log,
        }
    }

    async fn send(&self, method: Method, path: &str, kind: &str, body: impl Into<Body>) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
            .header(header::CONTENT_TYPE, kind)
            .header(header::HOST, "localhost")
            .body(body.into())
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(Method::POST, path, JSON, body.to_string()).await
    }
}

fn refusal((status, body): (u16, Value)) -> Refusal {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Refusal {
        status,
        code: text(&body["code"]),
        field: text(&body["errors"][0]["field"]),
        expected: text(&body["errors"][0]["expected"]),
    }
}

fn subnet(cidr: &str) -> Value {
    json!({"name": "n", "subnets": [{"cidr": cidr}]})
}

fn on_host(netns: &str, interface: &str) -> Value {
    let place = json!({"host": {"host": "host1", "netns": netns, "interface": interface}});
    json!({"name": "a", "network": "red", "place": place})
}

fn allowing(entry: Value) -> Value {
    let mut body = on_host("a", "eth0");
    body["allowed_addresses"] = json!([entry]);
    body
}

#[tokio::test]
async fn what_is_no_value_of_its_field_is_refused_with_field_and_expectation() {
    let api = Api::new().await;
    let (vdcs, networks, attachments) = ("/v1/vdcs", "/v1/vdcs/v/networks", "/v1/vdcs/v/attachments");
    let place = |place: Value| json!({"name": "a", "network": "red", "place": place});
    let cases = [
        // Spellings that different programs read differently.
        (
            networks,
            subnet("010.1.0.0/24"),
            "subnets[0].cidr",
            "without leading zeros",
        ),
        (
            networks,
            subnet("10.01.0.0/24"),
            "subnets[0].cidr",
            "without leading zeros",
        ),
        (
            networks,
            subnet("10.1.0.0/024"),
            "subnets[0].cidr",
            "without leading zeros",
        ),
        (networks, subnet("10.1.0.0"), "subnets[0].cidr", "a prefix such as"),
        // Addresses that no host may have, and prefixes around them.
        (
            networks,
            subnet("224.0.0.0/4"),
            "subnets[0].cidr",
            "224.0.0.0/4 is multicast",
        ),
        (
            networks,
            subnet("239.1.0.0/24"),
            "subnets[0].cidr",
            "224.0.0.0/4 is multicast",
        ),
        (
            networks,
            subnet("240.0.0.0/4"),
            "subnets[0].cidr",
            "240.0.0.0/4 is reserved",
        ),
        (
            networks,
            subnet("255.255.255.0/24"),
            "subnets[0].cidr",
            "240.0.0.0/4 is reserved",
        ),
        (
            networks,
            subnet("127.0.0.0/8"),
            "subnets[0].cidr",
            "127.0.0.0/8 is loopback",
        ),
        (
            networks,
            subnet("127.9.0.0/16"),
            "subnets[0].cidr",
            "127.0.0.0/8 is loopback",
        ),
        (
            networks,
            subnet("96.0.0.0/3"),
            "subnets[0].cidr",
            "127.0.0.0/8 is loopback",
        ),
        (
            networks,
            subnet("0.1.0.0/16"),
            "subnets[0].cidr",
            "0.0.0.0/8 is this network",
        ),
        (networks, subnet("::ffff:0:0/96"), "subnets[0].cidr", "IPv4-mapped"),
        (
            networks,
            subnet("::ffff:10.1.0.0/120"),
            "subnets[0].cidr",
            "IPv4-mapped",
        ),
        (networks, subnet("::/64"), "subnets[0].cidr", "::/96 is unspecified"),
        (
            networks,
            subnet("fe80::/64"),
            "subnets[0].cidr",
            "fe80::/10 is link-local",
        ),
        (
            networks,
            subnet("ff02::/64"),
            "subnets[0].cidr",
            "ff00::/8 is multicast",
        ),
        (
            attachments,
            allowing(json!({"ip": "127.0.0.1"})),
            "allowed_addresses[0].ip",
            "loopback",
        ),
        (
            attachments,
            allowing(json!({"ip": "::ffff:1.2.3.4"})),
            "allowed_addresses[0].ip",
            "IPv4-mapped",
        ),
        (
            attachments,
            allowing(json!({"cidr": "240.1.0.0/16"})),
            "allowed_addresses[0].cidr",
            "reserved",
        ),
        (
            attachments,
            allowing(json!({"cidr": "010.0.0.0/8"})),
            "allowed_addresses[0].cidr",
            "leading zeros",
        ),
        // Names with a special meaning on a Linux host.
        (
            attachments,
            on_host("a", "lo"),
            "place.host.interface",
            "not `lo`, `all`",
        ),
        (
            attachments,
            on_host("a", "all"),
            "place.host.interface",
            "not `lo`, `all`",
        ),
        (
            attachments,
            on_host("a", "default"),
            "place.host.interface",
            "or `default`",
        ),
        (attachments, on_host("a", "%d"), "place.host.interface", "`%`"),
        (attachments, on_host("a", "eth%d"), "place.host.interface", "`%`"),
        (attachments, on_host("a", "eth0:1"), "place.host.interface", "`:`"),
        (attachments, on_host("a", "a/b"), "place.host.interface", "without `/`"),
        (
            attachments,
            on_host("a", ".."),
            "place.host.interface",
            "an interface name",
        ),
        (
            attachments,
            on_host("a", ""),
            "place.host.interface",
            "1 to 15 characters",
        ),
        (
            attachments,
            on_host("a", "sixteen-letters-"),
            "place.host.interface",
            "1 to 15 characters",
        ),
        (attachments, on_host("../x", "eth0"), "place.host.netns", "not a path"),
        // Arrays in the place of objects, outside and inside.
        (vdcs, json!(["w"]), "", "invalid type: sequence"),
        (vdcs, json!(null), "", "invalid type: null"),
        (
            networks,
            json!({"name": "n", "subnets": [["10.9.0.0/24", null]]}),
            "subnets[0]",
            "sequence",
        ),
        (
            attachments,
            place(json!({"host": ["host1", "a", "eth0"]})),
            "place.host",
            "sequence",
        ),
        ("/v1/apply", json!([[]]), "", "sequence"),
        ("/v1/apply", json!({"vdcs": [["w"]]}), "vdcs[0]", "sequence"),
        // Too much, too long, and numbers out of range.
        (
            vdcs,
            json!({"name": "w", "description": "d".repeat(1 << 20)}),
            "description",
            "at most 500 octets",
        ),
        (
            attachments,
            place(json!({"port": {"switch": "leaf1", "port": 510}})),
            "place.port.port",
            "from 1 to 509",
        ),
        (
            attachments,
            place(json!({"port": {"switch": "leaf1", "port": 10, "vlan": 4095}})),
            "place.port.vlan",
            "from 1 to 4094",
        ),
        (networks, json!({"name": "n", "vni": 0}), "vni", "from 1 to 16777215"),
    ];
    let before = api.world.controller.fabric().await.revision;
    for (path, body, field, expected) in cases {
        let shown: String = body.to_string().chars().take(120).collect();
        let said = refusal(api.post(path, &body).await);
        // An error about the whole document names no field.
        let named = said.field == field || (field.is_empty() && said.field == ".");
        assert_eq!((said.status, said.code.as_str()), (422, "invalid"), "{shown}: {said:?}");
        assert!(named && said.expected.contains(expected), "{shown}: {said:?}");
    }
    assert_eq!(
        api.world.controller.fabric().await.revision,
        before,
        "something was stored"
    );
    // A patch of an existing object is read by the same rules.
    let patch = json!({"place": {"host": ["host1", "a1", "eth1"]}}).to_string();
    let said = refusal(api.send(Method::PATCH, "/v1/vdcs/v/attachments/a1", JSON, patch).await);
    assert_eq!((said.status, said.field.as_str()), (422, "place.host"), "{said:?}");
    // Similar values that are valid are accepted.
    for (path, body) in [
        (
            networks,
            json!({"name": "n1", "subnets": [{"cidr": "126.0.0.0/8"}, {"cidr": "fd00::/64"}]}),
        ),
        (attachments, on_host("a", "eth0.7")),
        (vdcs, json!({"name": "w", "description": "d".repeat(500)})),
    ] {
        let (status, said) = api.post(path, &body).await;
        assert_eq!(status, 201, "{body}: {said}");
    }
}

#[tokio::test]
async fn what_is_no_document_has_its_own_status() {
    let api = Api::new().await;
    let vdc = r#"{"name":"w"}"#;
    for kind in [
        "application/jsonxyz",
        "application/json+x",
        "text/plain",
        "application/yaml",
    ] {
        let said = refusal(api.send(Method::POST, "/v1/vdcs", kind, vdc).await);
        assert_eq!(
            (said.status, said.field.as_str()),
            (415, "Content-Type"),
            "{kind}: {said:?}"
        );
        assert_eq!(said.expected, JSON);
    }
    let large = " ".repeat(MAX_BODY_BYTES + (1 << 20)) + vdc;
    let (status, said) = api.send(Method::POST, "/v1/vdcs", JSON, large).await;
    assert_eq!((status, &said["code"]), (413, &json!("too_large")), "{said}");
    assert_eq!(
        said["detail"],
        format!("the body has more than {MAX_BODY_BYTES} octets")
    );
    for wait in ["-1", "NaN", "-inf", "-0.5"] {
        let said = refusal(
            api.send(Method::POST, &format!("/v1/vdcs?wait={wait}"), JSON, vdc)
                .await,
        );
        assert_eq!((said.status, said.field.as_str()), (422, "wait"), "{wait}: {said:?}");
        assert_eq!(said.expected, "a number of seconds, 0 or more");
    }
    assert_eq!(
        api.send(Method::GET, "/v1/vdcs/w", JSON, "").await.0,
        404,
        "one of them was stored"
    );
    // With a charset or in upper case it is still the same media type.
    let kind = "Application/JSON; charset=utf-8";
    assert_eq!(api.send(Method::POST, "/v1/vdcs", kind, vdc).await.0, 201);
}
