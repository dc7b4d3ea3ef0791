//! Images through the whole API: from a request to the disk.

use axum::body::Body;
use axum::http::{Method, Request, header};
use ring::digest::{SHA256, digest};
use serde_json::Value;
use tower::ServiceExt as _;
use vfabric_api::rest::{Rate, router};

use super::gate::Gate;
use super::tests::*;
use crate::access::audit::AuditLog;
use crate::access::file::Tokens;
use crate::images::{Bounds, Shelf};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";

struct Api {
    _world: World<MemoryStore>,
    router: axum::Router,
    dir: tempfile::TempDir,
}

impl Api {
    /// leaf1 runs `nos-1.0`.
    async fn new(stores_images: bool) -> Self {
        let mut topology = topology();
        let leaf = topology
            .switches
            .iter_mut()
            .find(|s| s.name.as_str() == "leaf1")
            .unwrap();
        leaf.software = Some("nos-1.0".parse().unwrap());
        let world = World::over(topology, MemoryStore::default(), fakes()).await;
        let dir = tempfile::tempdir().unwrap();
        let controller = Arc::clone(&world.controller);
        if stores_images {
            let bounds = Bounds {
                each: 200 << 20,
                total: 300 << 20,
            };
            let shelf = Shelf::open(&dir.path().join("images"), bounds).unwrap();
            controller.set_images(Arc::new(shelf));
        }
        let audit = AuditLog::open(dir.path()).unwrap();
        let gate = Gate::new(Arc::clone(&controller), Tokens::parse(TOKEN).unwrap(), None, audit);
        let router = router(controller, Arc::new(gate), Rate::default());
        Self {
            _world: world,
            router,
            dir,
        }
    }

    async fn send(&self, method: Method, path: &str, body: impl Into<Body>) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
            .header(header::HOST, "localhost")
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .body(body.into())
            .unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }
}

fn sha256(content: &[u8]) -> String {
    let digest = digest(&SHA256, content);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_uploaded_listed_and_kept_while_a_switch_needs_it() {
    let api = Api::new(true).await;
    // More than the largest body of other calls: images are not held in memory.
    let content = vec![7u8; vfabric_api::rest::MAX_BODY_BYTES + 1];
    let sum = sha256(&content);
    let path = format!("/v1/images/nos.bin?sha256={sum}&software=nos-1.0");
    let (status, image) = api.send(Method::PUT, &path, content.clone()).await;
    assert_eq!(
        (status, &image["sha256"], &image["switches"]),
        (201, &sum.as_str().into(), &serde_json::json!(["leaf1"]))
    );
    assert_eq!(std::fs::read(api.dir.path().join("images/nos.bin")).unwrap(), content);
    // Again is the same; a wrong digest and other content are refused.
    assert_eq!(api.send(Method::PUT, &path, content).await.0, 201);
    let (status, refused) = api
        .send(Method::PUT, &format!("/v1/images/b.bin?sha256={sum}"), "x")
        .await;
    assert_eq!((status, &refused["errors"][0]["field"]), (422, &"sha256".into()));
    let other = format!("/v1/images/nos.bin?sha256={}", sha256(b"x"));
    assert_eq!(api.send(Method::PUT, &other, "x").await.0, 409);
    for bad in [
        "/v1/images/b.bin?sha256=12",
        "/v1/images/b.bin",
        "/v1/images/b.bin?sha256=12&models=a,/b",
    ] {
        assert_eq!(api.send(Method::PUT, bad, "x").await.0, 400, "{bad}");
    }
    assert_eq!(
        api.send(Method::PUT, &format!("/v1/images/.b?sha256={sum}"), "x")
            .await
            .0,
        404
    );
    let (_, all) = api.send(Method::GET, "/v1/images", "").await;
    assert_eq!(all.as_array().unwrap().len(), 1, "{all}");

    let (status, refused) = api.send(Method::DELETE, "/v1/images/nos.bin", "").await;
    assert_eq!((status, &refused["code"]), (409, &"in_use".into()));
    assert!(refused["detail"].as_str().unwrap().contains("leaf1"), "{refused}");
    assert_eq!(
        api.send(Method::DELETE, "/v1/images/nos.bin?force=true", "").await.0,
        204
    );
    assert_eq!(api.send(Method::DELETE, "/v1/images/nos.bin", "").await.0, 404);
    // An image that no switch needs is deleted without force, but not if its software is not known.
    for (name, said, status) in [("c.bin", "&software=nos-2.0", 204), ("d.bin", "", 409)] {
        let path = format!("/v1/images/{name}?sha256={}{said}", sha256(b"x"));
        assert_eq!(api.send(Method::PUT, &path, "x").await.0, 201);
        assert_eq!(
            api.send(Method::DELETE, &format!("/v1/images/{name}"), "").await.0,
            status,
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let api = Api::new(true).await;
    let parts = [
        Ok(bytes::Bytes::from_static(b"half")),
        Err(std::io::Error::other("gone")),
    ];
    let body = Body::from_stream(futures::stream::iter(parts));
    let path = format!("/v1/images/nos.bin?sha256={}", sha256(b"half of it"));
    let (status, refused) = api.send(Method::PUT, &path, body).await;
    assert_eq!(status, 400, "{refused}");
    assert_eq!(std::fs::read_dir(api.dir.path().join("images")).unwrap().count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_directory_there_are_no_images() {
    let api = Api::new(false).await;
    let (status, refused) = api.send(Method::GET, "/v1/images", "").await;
    assert_eq!(status, 412, "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("--images"), "{refused}");
}
