//! Requests as boot clients send them, without sockets.

use axum::body::Body;
use axum::http::Request as HttpRequest;
use tower::ServiceExt as _;

use super::*;
use crate::board::Status;
use crate::dhcp::leases::Lease;
use crate::directory::tests::directory;
use crate::settings::tests::good;

struct World {
    dir: tempfile::TempDir,
    files: Arc<Files>,
}

struct Got {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl World {
    /// Images of both models; spine1 has the address 192.0.2.11.
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        crate::image::tests::add(dir.path(), "nos-1.0-acme.bin", b"0123456789");
        crate::image::tests::add(dir.path(), "nos-1.0.bin", b"other");
        let board = Arc::new(Board::default());
        let lease = Lease {
            holder: Holder::Switch("spine1".parse().unwrap()),
            mac: vfabric_api::ident::Mac([2, 0xaa, 0, 0, 0, 1]),
            address: std::net::Ipv4Addr::new(192, 0, 2, 11),
            expires: now() + 1000,
        };
        board.set_leases([lease].iter());
        let files = Files {
            settings: Arc::new(good()),
            directory: Arc::new(ArcSwap::from_pointee(directory())),
            board,
            images: Images::new(Some(dir.path().to_owned())),
            templates: Templates::new(None),
        };
        Self {
            dir,
            files: Arc::new(files),
        }
    }

    async fn ask(&self, method: &str, path: &str, peer: &str, headers: &[(&str, &str)]) -> Got {
        let mut request = HttpRequest::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).unwrap();
        let peer: SocketAddr = format!("{peer}:4000").parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        let response = router(Arc::clone(&self.files)).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        Got {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    async fn get(&self, path: &str, peer: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let got = self.ask("GET", path, peer, headers).await;
        (got.status, got.body)
    }

    fn status(&self) -> Status {
        self.files.board.status(now())
    }

    fn steps(&self, switch: &str) -> Vec<String> {
        let status = self.status();
        let line = status.switches.get(&switch.parse().unwrap());
        let steps = line.map(|l| l.steps.iter().map(|s| format!("{}: {}", s.what, s.detail)).collect());
        steps.unwrap_or_default()
    }
}

const SPINE: &str = "192.0.2.11";
const NOBODY: &str = "192.0.2.200";
const IMAGE: &str = "/images/nos-1.0-acme.bin";

#[tokio::test]
async fn images_come_whole_in_ranges_and_as_heads() {
    let world = World::new();
    let whole = world.ask("GET", IMAGE, SPINE, &[]).await;
    assert_eq!((whole.status, whole.body.as_str()), (200, "0123456789"));
    assert_eq!(
        (
            whole.headers["content-length"].to_str().unwrap(),
            &whole.headers["accept-ranges"]
        ),
        ("10", &"bytes".parse::<axum::http::HeaderValue>().unwrap())
    );
    assert_eq!(whole.headers["x-checksum-sha256"].len(), 64);
    let head = world.ask("HEAD", IMAGE, SPINE, &[]).await;
    assert_eq!(
        (
            head.status,
            head.body.as_str(),
            head.headers["content-length"].to_str().unwrap()
        ),
        (200, "", "10")
    );
    let rest = world.ask("GET", IMAGE, SPINE, &[("range", "bytes=4-")]).await;
    assert_eq!((rest.status, rest.body.as_str()), (206, "456789"));
    assert_eq!(rest.headers["content-range"], "bytes 4-9/10");
    let beyond = world.ask("GET", IMAGE, SPINE, &[("range", "bytes=10-")]).await;
    assert_eq!(beyond.status, 416);
    // A download is resumed if the file is the one that it began with.
    let tag = whole.headers["etag"].to_str().unwrap();
    let resumed = world
        .get(IMAGE, SPINE, &[("range", "bytes=9-"), ("if-range", tag)])
        .await;
    assert_eq!(resumed, (206, "9".into()));
    let restarted = world
        .get(IMAGE, SPINE, &[("range", "bytes=9-"), ("if-range", "\"other\"")])
        .await;
    assert_eq!(restarted, (200, "0123456789".into()));
    let steps = world.steps("spine1");
    assert!(
        steps[0].starts_with("image fetched: nos-1.0-acme.bin, 10 octets, sha256 "),
        "{steps:?}"
    );
    assert!(steps[1].contains("6 octets, bytes 4-9/10"), "{steps:?}");
}

#[tokio::test]
async fn damaged_unlisted_and_foreign_files_are_not_served() {
    let world = World::new();
    std::fs::write(world.dir.path().join("nos-1.0-acme.bin"), b"0123456780").unwrap();
    let (status, body) = world.get(IMAGE, SPINE, &[]).await;
    assert!(status == 404 && body.contains("is damaged"), "{body}");
    assert!(world.status().troubles[0].detail.contains("nos-1.0-acme.bin"));
    for path in [
        "/images/SHA256SUMS",
        "/images/..%2f..%2fetc%2fpasswd",
        "/images/%2e%2e/x",
        "/images/",
        "/",
        "/etc/passwd",
        "/ztp/spine1/../../x",
    ] {
        let (status, _) = world.get(path, SPINE, &[]).await;
        assert_eq!(status, 404, "{path}");
    }
    let post = world.ask("POST", IMAGE, SPINE, &[]).await;
    assert_eq!(post.status, 405);
}

#[tokio::test]
async fn onie_finds_the_image_of_its_switch_under_each_name_that_it_tries() {
    let world = World::new();
    let names = [
        "onie-installer-x86_64-acme_s1-r0",
        "onie-installer-x86_64-acme_s1",
        "onie-installer-acme_s1",
        "onie-installer-x86_64",
        "onie-installer",
        "onie-installer-x86_64.bin",
    ];
    for name in names {
        let got = world.get(&format!("/{name}"), SPINE, &[]).await;
        assert_eq!(got, (200, "0123456789".into()), "{name}");
    }
    // With the operator's own DHCP server, the headers identify the client.
    let headers = [
        ("onie-serial-number", "AF41"),
        ("onie-eth-addr", "02:aa:00:00:00:09"),
        ("user-agent", "onie/1.0"),
    ];
    let got = world.get("/onie-installer", NOBODY, &headers).await;
    assert_eq!(got, (200, "other".into()));
    assert_eq!(world.steps("leaf2").len(), 1);
    // A client that is not ours, and names that are not those of an installer.
    assert_eq!(
        world
            .get("/onie-installer", NOBODY, &[("onie-serial-number", "ZZ")])
            .await
            .0,
        404
    );
    let (status, body) = world
        .get("/onie-updater", SPINE, &[("onie-operation", "onie-update")])
        .await;
    assert!(status == 404 && body.contains("no file of this name"), "{body}");
    crate::image::tests::add(world.dir.path(), "onie-updater", b"updater");
    assert_eq!(world.get("/onie-updater", SPINE, &[]).await, (200, "updater".into()));
    // No software in the inventory.
    let (_, body) = world
        .get("/onie-installer", NOBODY, &[("onie-eth-addr", "02:aa:00:00:00:04")])
        .await;
    assert!(body.contains("names no software"), "{body}");
}

#[tokio::test]
async fn first_boot_files_are_for_their_own_switch() {
    let world = World::new();
    let (status, body) = world.get("/ztp/spine1/ztp.json", SPINE, &[]).await;
    assert!(status == 200 && body.contains("/images/nos-1.0-acme.bin"), "{body}");
    assert_eq!(world.ask("HEAD", "/ztp/spine1/ztp.json", SPINE, &[]).await.status, 200);
    let by_name = world.get("/first-boot.sh", SPINE, &[("serial-number", "N/A")]).await;
    assert!(by_name.1.contains("hostname spine1"), "{by_name:?}");
    for (path, peer) in [
        ("/ztp/leaf1/ztp.json", SPINE),
        ("/ztp/spine1/ztp.json", NOBODY),
        ("/ztp.json", NOBODY),
        ("/ztp/spine1/other", SPINE),
    ] {
        assert_eq!(world.get(path, peer, &[]).await.0, 404, "{path} {peer}");
    }
    let sonic = world
        .get("/ztp/leaf1/ztp.json", NOBODY, &[("serial-number", "AF40")])
        .await;
    assert_eq!(sonic.0, 200);
    let steps = world.steps("spine1");
    assert!(
        steps[0].starts_with("script fetched: ztp.json (other at 192.0.2.11)"),
        "{steps:?}"
    );
    assert!(
        steps[1].starts_with("script fetched: first-boot.sh"),
        "HEAD is no step: {steps:?}"
    );
}

#[tokio::test]
async fn who_contradicts_itself_gets_nothing_and_the_switch_shows_it() {
    let world = World::new();
    for headers in [
        &[("onie-serial-number", "AF40")][..],
        &[("onie-serial-number", "ZZ99"), ("onie-eth-addr", "02:aa:00:00:00:01")],
    ] {
        for path in [IMAGE, "/onie-installer", "/ztp/spine1/ztp.json"] {
            let (status, body) = world.get(path, SPINE, headers).await;
            assert_eq!(status, 403, "{path} {headers:?}");
            assert!(
                !body.contains("AF39"),
                "the reply must not contain the inventory's serial number: {body}"
            );
        }
    }
    assert!(world.steps("spine1").iter().all(|s| s.starts_with("refused: ")));
}

mod requests {
    use proptest::prelude::*;

    use super::*;

    fn part() -> impl Strategy<Value = String> {
        let known = [
            "images",
            "ztp",
            "spine1",
            "ztp.json",
            "first-boot.sh",
            "onie-installer",
            "nos-1.0.bin",
            "..",
            "",
        ];
        let escaped = |octets: Vec<u8>| octets.iter().map(|b| format!("%{b:02x}")).collect::<String>();
        prop_oneof![
            3 => proptest::sample::select(known.to_vec()).prop_map(str::to_owned),
            1 => proptest::collection::vec(any::<u8>(), 0..20).prop_map(escaped),
        ]
    }

    fn header() -> impl Strategy<Value = (&'static str, Vec<u8>)> {
        let names = [
            "onie-serial-number",
            "onie-eth-addr",
            "serial-number",
            "range",
            "if-range",
            "if-modified-since",
        ];
        let values = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            Just(b"AF39".to_vec()),
            Just(b"bytes=0-".to_vec()),
            Just(b"bytes=9-1,-5,99999999999999999999-".to_vec()),
        ];
        (proptest::sample::select(names.to_vec()), values)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        /// No request makes the server panic or fail, and none returns a file that is not for its sender.
        #[test]
        fn no_request_makes_it_fail(
            parts in proptest::collection::vec(part(), 0..5),
            headers in proptest::collection::vec(header(), 0..4),
            method in proptest::sample::select(vec!["GET", "HEAD", "POST", "DELETE"]),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let world = World::new();
                let mut request = HttpRequest::builder().method(method).uri(format!("/{}", parts.join("/")));
                for (name, value) in &headers {
                    if let Ok(value) = axum::http::HeaderValue::from_bytes(value) {
                        request = request.header(*name, value);
                    }
                }
                let mut request = request.body(Body::empty()).unwrap();
                request.extensions_mut().insert(ConnectInfo::<SocketAddr>("192.0.2.11:4000".parse().unwrap()));
                let response = router(Arc::clone(&world.files)).oneshot(request).await.unwrap();
                let status = response.status().as_u16();
                prop_assert!(status < 500, "{status}");
                let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
                prop_assert!(!String::from_utf8_lossy(&body).contains("  nos-1.0.bin\n"), "the list is not served");
                Ok(())
            })?;
        }
    }
}
