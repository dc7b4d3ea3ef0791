//! Unary calls over TLS: a device whose certificate is right gets its data, and every other one is refused and named.

use std::sync::{Arc, Mutex};

use bootz_proto::bootz::bootstrap_client::BootstrapClient;
use bootz_proto::bootz::report_status_request::BootstrapStatus;
use bootz_proto::bootz::{GetBootstrapDataRequest, GetBootstrapDataResponse};
use fabric_bootz::data::{self, SwitchConfig};
use fabric_bootz::device::Device;
use fabric_bootz::dial::connect_as;
use fabric_bootz::enrol::book::Book;
use fabric_bootz::enrol::serve::{Desk, Found, Roster, SeenStep};
use fabric_bootz::enrol::unary;
use fabric_bootz::proof;
use fabric_bootz::testing::{Made, World, signer};
use fabric_identity::testing::Authority;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{PrivateKeyDer, UnixTime};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// Two switches, of which the second has left, and what is said of machines.
#[derive(Default)]
struct Inventory(Mutex<Vec<SeenStep>>);

impl Roster for Inventory {
    fn by_serial(&self, serial: &str) -> Option<Found> {
        let (uid, name) = match serial {
            "AF40" => (1, "leaf1"),
            "AF41" => (2, "leaf2"),
            _ => return None,
        };
        Some(Found {
            uid,
            config: SwitchConfig {
                hostname: name.into(),
                device_id: uid,
                listen: "192.0.2.11:9559".parse().unwrap(),
            },
            model: Some("s1".into()),
            software: Some("nos-1.0".into()),
            is_retired: uid == 2,
        })
    }

    fn note_seen(&self, seen: &[SeenStep]) {
        self.0.lock().unwrap().extend_from_slice(seen);
    }
}

struct Owner {
    _dir: tempfile::TempDir,
    world: World,
    inventory: Arc<Inventory>,
    address: String,
}

impl Owner {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let world = World::new(dir.path());
        for serial in ["AF40", "AF41"] {
            world.lay_down(serial, &world.voucher_text(serial, ""));
        }
        let authority = Authority::new();
        let ca = dir.path().join("ca.pem");
        std::fs::write(&ca, &authority.pem).unwrap();
        let inventory = Arc::new(Inventory::default());
        let desk = Desk::new(
            Arc::clone(&inventory) as Arc<dyn Roster>,
            Book::open(&dir.path().join("bindings.redb")).unwrap(),
            world.keys(&signer("enrolment")),
            authority.credentials("controller"),
            ca,
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(unary::serve(desk, listener, std::future::pending()));
        Self {
            _dir: dir,
            world,
            inventory,
            address,
        }
    }

    fn device(&self, made: &Made) -> Device {
        let makers = self.world.maker.pem.as_bytes();
        Device::new("Acme", "s1", &made.certificate, made.key.as_bytes(), makers).unwrap()
    }

    /// Connects as a device; without one it shows no certificate.
    async fn connect(&self, made: Option<&Made>) -> BootstrapClient<Channel> {
        let shown = made.map(|made| {
            let chain = fabric_bootz::x509::certificates("idevid", made.certificate.as_bytes()).unwrap();
            (chain, PrivateKeyDer::from_pem_slice(made.key.as_bytes()).unwrap())
        });
        connect_as(&self.address, None, shown).await.unwrap()
    }

    async fn ask(
        &self,
        made: Option<&Made>,
        request: GetBootstrapDataRequest,
    ) -> Result<GetBootstrapDataResponse, Status> {
        let mut client = self.connect(made).await;
        Ok(client.get_bootstrap_data(request).await?.into_inner())
    }

    /// Steps of machines since the last call: switch, step, words.
    fn told(&self) -> Vec<(String, String, String)> {
        let told = std::mem::take(&mut *self.inventory.0.lock().unwrap());
        told.into_iter().map(|t| (t.switch, t.what, t.detail)).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_proves_its_identity_in_the_handshake_and_may_ask_again() {
    let owner = Owner::new().await;
    let made = owner.world.maker.device("AF40");
    let device = owner.device(&made);
    for _ in 0..2 {
        let nonce = proof::nonce().unwrap();
        let response = owner.ask(Some(&made), device.request(&nonce)).await.unwrap();
        let data = device.accept_unary(&response, &nonce, UnixTime::now()).unwrap();
        let (config, profile) = data::read(&data).unwrap();
        assert_eq!(config.hostname, "leaf1");
        assert!(profile.key.is_some(), "a unary call has no room for a request");
        // The answer to another request, and changed data, are not believed.
        assert!(device.accept_unary(&response, b"other", UnixTime::now()).is_err());
        let mut changed = response.clone();
        changed.serialized_bootstrap_data[0] ^= 1;
        assert!(device.accept_unary(&changed, &nonce, UnixTime::now()).is_err());
    }
    let mut client = owner.connect(Some(&made)).await;
    client
        .report_status(device.report(BootstrapStatus::Success, "serving"))
        .await
        .unwrap();
    let steps: Vec<_> = owner.told().into_iter().map(|(s, what, _)| (s, what)).collect();
    let step = |what: &str| ("leaf1".to_owned(), what.to_owned());
    assert_eq!(steps, [step("enrolled"), step("enrolled"), step("bootstrapped")]);
    let streams = client.bootstrap_stream_v1(tokio_stream::empty()).await.unwrap_err();
    assert_eq!(streams.code(), Code::Unimplemented);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_not_right_is_refused_and_named() {
    let owner = Owner::new().await;
    let maker = &owner.world.maker;
    let right = maker.device("AF40");
    let request = |made: &Made| owner.device(made).request(b"A");
    // The first one is bound.
    owner.ask(Some(&right), request(&right)).await.unwrap();
    owner.told();

    let expired = maker.device_with("AF40", |params| {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let foreign = signer("maker").device("AF40");
    let clone = maker.device("AF40");
    let stranger = maker.device("ZZ99");
    let retired = maker.device("AF41");
    let other_chassis = request(&stranger);
    let mut other_identity = request(&right);
    other_identity.identity = request(&retired).identity;
    let mut no_nonce = request(&right);
    no_nonce.nonce.clear();
    let cases = [
        (
            None,
            request(&right),
            Code::Unauthenticated,
            "",
            "no client certificate",
        ),
        (
            Some(&expired),
            request(&expired),
            Code::PermissionDenied,
            "leaf1",
            "vouches for the IDevID certificate: CertExpired",
        ),
        (
            Some(&foreign),
            request(&foreign),
            Code::PermissionDenied,
            "leaf1",
            "vouches for the IDevID certificate",
        ),
        (
            Some(&clone),
            request(&clone),
            Code::PermissionDenied,
            "leaf1",
            "bound to another device since 20",
        ),
        (
            Some(&stranger),
            request(&stranger),
            Code::PermissionDenied,
            "",
            "serial number ZZ99 is not in the inventory",
        ),
        (
            Some(&retired),
            request(&retired),
            Code::PermissionDenied,
            "leaf2",
            "was retired",
        ),
        (
            Some(&right),
            {
                let mut r = request(&right);
                r.chassis_descriptor = other_chassis.chassis_descriptor;
                r
            },
            Code::PermissionDenied,
            "leaf1",
            "it says serial number \"ZZ99\", but its certificate is for AF40",
        ),
        (
            Some(&right),
            other_identity,
            Code::PermissionDenied,
            "leaf1",
            "names device AF41, but the TLS handshake was signed by device AF40",
        ),
        (
            Some(&right),
            no_nonce,
            Code::PermissionDenied,
            "leaf1",
            "does not ask for a voucher",
        ),
    ];
    for (made, request, code, switch, words) in cases {
        let status = owner.ask(made, request).await.unwrap_err();
        assert_eq!(status.code(), code, "{words}: {status}");
        assert!(status.message().contains(words), "{status}: expected {words}");
        let told = owner.told();
        let [(named, what, said)] = told.as_slice() else {
            panic!("{words}: {told:?}");
        };
        assert_eq!((named.as_str(), what.as_str()), (switch, "refused"), "{said}");
        assert!(said.contains("from 127.0.0.1") && said.contains(words), "{said}");
    }
    // A stranger is shown with all that is known of it.
    let _ = owner.ask(Some(&stranger), request(&stranger)).await;
    let said = owner.told().remove(0).2;
    for part in ["ZZ99", "Acme", "s1", "key "] {
        assert!(said.contains(part), "{said}");
    }
    // A report needs a binding of the same key.
    let mut client = owner.connect(Some(&clone)).await;
    let report = owner.device(&clone).report(BootstrapStatus::Success, "serving");
    let status = client.report_status(report).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    // And the right one may still come.
    owner.ask(Some(&right), request(&right)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refusals_of_a_minute_are_bounded() {
    let owner = Owner::new().await;
    let mut client = owner.connect(None).await;
    let began = std::time::Instant::now();
    for _ in 0..40 {
        client
            .get_bootstrap_data(GetBootstrapDataRequest::default())
            .await
            .unwrap_err();
    }
    let told = owner.told();
    // On a machine that needs a minute for this, a second minute has begun.
    let minutes = 1 + usize::try_from(began.elapsed().as_secs() / 60).unwrap();
    assert!((1..=30 * minutes).contains(&told.len()), "{}", told.len());
}
