//! Blank devices become switches: the device's own client, this Bootz server and the owner's decisions, over real sockets and TLS.

#[allow(unreachable_pub)]
mod common;

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bootz_proto::request::owner_client::OwnerClient;
use bootz_proto::request::{BootstrapRequest, ReportRequest};
use fabric_bootz::client::Client;
use fabric_bootz::testing::signer;
use fabric_identity::{ClientCertificates, Credentials, Dialer, Listener, Subject};
use fabric_provision::board::{What, now};
use fabric_provision::bootz::serve::LIMITS;
use fabric_provision::dhcp::leases::{Holder, Lease};
use fabric_provision::testing::Fabric;
use tokio::net::TcpListener;

/// How long something that must happen may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a device from any step to the end of enrolment. Returns the certificate with which it serves.
async fn to_the_end(client: &Client, server: &str) -> Arc<Credentials> {
    let enrolled = client.enrol(server).await;
    let files = client.install(&enrolled).unwrap();
    let credentials = Credentials::load(files).unwrap();
    if !client.is_reported() {
        client.report(&enrolled).await.unwrap();
    }
    assert!(client.is_reported());
    credentials
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blank_device_becomes_the_switch_of_its_serial_number() {
    let fabric = Fabric::new().await;
    let dir = fabric.deliver(&fabric.world.maker.device("AF40"), "AF40", "leaf1");
    let client = Client::open(&dir).unwrap();
    let credentials = to_the_end(&client, &fabric.bootz).await;
    assert_eq!(credentials.identity().to_string(), "spiffe://test/switch/leaf1");
    let config = client.enrolled().unwrap().unwrap().config;
    assert_eq!(
        (config.device_id, config.listen.to_string().as_str()),
        (1, "192.0.2.11:9559")
    );
    // The key of the certificate was made by the device, and never left it.
    let kept = std::fs::read_to_string(dir.join("bootstrap.json")).unwrap();
    assert!(!kept.contains("PRIVATE KEY"), "{kept}");
    use What::{Bootstrapped, Bootstrapping, Challenged, Enrolled};
    assert_eq!(
        fabric.steps("leaf1"),
        [Challenged, Enrolled, Bootstrapping, Challenged, Bootstrapped]
    );

    // The switch serves its controller, which trusts the authority of enrolment as well as its own.
    let both = format!("{}{}", fabric.authority.pem, fabric.enrolling.pem);
    let controller = fabric.authority.issue("controller").credentials(&both);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let listener = Listener::tls(listener, "switch", LIMITS, &credentials, ClientCertificates::Required).unwrap();
    let mut incoming = listener.incoming();
    let right = Dialer::new(Arc::clone(&controller), Subject::Switch("leaf1".into())).unwrap();
    let (called, taken) = tokio::join!(right.connect(&address), incoming.next());
    called.unwrap();
    assert_eq!(taken.unwrap().peer().subject(), Some(&Subject::Controller));
    let wrong = Dialer::new(controller, Subject::Switch("leaf2".into())).unwrap();
    assert!(wrong.connect(&address).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_killed_after_any_step_goes_on() {
    const STEPS: [&str; 6] = ["own.key", "bootstrap.json", "ca.pem", "tls.key", "cert.pem", "reported"];
    let fabric = Fabric::new().await;
    let made = fabric.world.maker.device("AF40");
    let whole = fabric.deliver(&made, "AF40", "whole");
    let before = to_the_end(&Client::open(&whole).unwrap(), &fabric.bootz).await;
    let left: Vec<String> = std::fs::read_dir(&whole)
        .unwrap()
        .map(|f| f.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(left.len(), 4 + STEPS.len(), "a step is missing in this test: {left:?}");
    for done in 0..=STEPS.len() {
        let dir = fabric.path(&format!("after{done}"));
        fabric.world.deliver(&made, &dir);
        for step in &STEPS[..done] {
            std::fs::copy(whole.join(step), dir.join(step)).unwrap();
        }
        // Also remove the file that it was writing.
        if let Some(step) = STEPS.get(done) {
            std::fs::write(dir.join(format!("{step}.new")), "half").unwrap();
        }
        let client = Client::open(&dir).unwrap();
        let credentials = to_the_end(&client, &fabric.bootz).await;
        assert_eq!(credentials.identity(), before.identity(), "after {done} steps");
        if done > 0 {
            let key = |dir: &Path| std::fs::read(dir.join("own.key")).unwrap();
            assert!(key(&dir) == key(&whole), "the key is made once");
        }
    }
    let bound = fabric.steps("leaf1");
    assert!(!bound.contains(&What::Refused), "{bound:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_goes_to_the_server_that_dhcp_names_now() {
    let fabric = Fabric::new().await;
    let dir = fabric.deliver(&fabric.world.maker.device("AF40"), "AF40", "leaf1");
    let client = Client::open(&dir).unwrap().running("nos-0.9");
    let mut enrolled = client.enrol(&fabric.bootz).await;
    assert_eq!(enrolled.software.as_deref(), Some("nos-1.0"));
    client.install(&enrolled).unwrap();
    // The server that it enrolled at has moved: a port that is bound, so that nobody else gets it, and does not listen.
    let gone = tokio::net::TcpSocket::new_v4().unwrap();
    gone.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    enrolled.server = gone.local_addr().unwrap().to_string();
    let of_dhcp = fabric.bootz.clone();
    let keeping = async { client.keep(enrolled, || vec![of_dhcp.clone()]).await };
    let reported = async {
        while !client.is_reported() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = keeping => panic!("it keeps its certificate for good"),
        done = tokio::time::timeout(PATIENCE, reported) => done.unwrap(),
    }
    assert_eq!(fabric.steps("leaf1").last(), Some(&What::Bootstrapped));
    // From now on the device knows that server, also when DHCP names none.
    assert_eq!(client.enrolled().unwrap().unwrap().server, fabric.bootz);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_addresses_that_dhcp_names_are_tried_in_turn() {
    let fabric = Fabric::new().await;
    let dir = fabric.deliver(&fabric.world.maker.device("AF40"), "AF40", "leaf1");
    let client = Client::open(&dir).unwrap();
    // Nobody listens at the first one; the second one is no Bootz server.
    let gone = tokio::net::TcpSocket::new_v4().unwrap();
    gone.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let gone = gone.local_addr().unwrap().to_string();
    let servers = [gone.clone(), fabric.owner.clone(), fabric.bootz.clone()];
    let enrolled = tokio::time::timeout(PATIENCE, client.attempt(&servers)).await.unwrap();
    assert_eq!(enrolled.unwrap().server, fabric.bootz);
    // The error of the last one is what an operator sees if none works.
    let other = fabric.deliver(&fabric.world.maker.device("AF41"), "AF41", "leaf2");
    let error = Client::open(&other)
        .unwrap()
        .attempt(&[fabric.owner.clone(), gone.clone()])
        .await;
    let error = error.map(drop).unwrap_err().to_string();
    assert!(error.contains(&gone), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_clones_are_refused_and_named() {
    let fabric = Fabric::new().await;
    let maker = &fabric.world.maker;
    let first = fabric.deliver(&maker.device("AF40"), "AF40", "first");
    to_the_end(&Client::open(&first).unwrap(), &fabric.bootz).await;

    // A second device with the same serial number, from the same manufacturer: its key is another.
    let clone = fabric.deliver(&maker.device("AF40"), "AF40", "clone");
    let said = fabric.refused(&clone).await;
    assert!(
        said.contains("bound to another device since 20") && said.contains("a clone?"),
        "{said}"
    );
    assert_eq!(fabric.steps("leaf1").last(), Some(&What::Refused));
    // The bound device may still ask again.
    Client::open(&first)
        .unwrap()
        .bootstrap(&fabric.bootz, None)
        .await
        .unwrap();

    // A manufacturer that nobody knows.
    let forged = fabric.deliver(&signer("other maker").device("AF41"), "AF41", "forged");
    let said = fabric.refused(&forged).await;
    assert!(said.contains("vouches for the IDevID certificate"), "{said}");

    // A device that is not in the inventory: everything that is known about it is shown.
    let stranger = fabric.deliver(&maker.device("ZZ99"), "ZZ99", "stranger");
    let said = fabric.refused(&stranger).await;
    assert!(said.contains("ZZ99 is not in the inventory"), "{said}");
    let troubles = fabric.board.status(now()).troubles;
    let shown = troubles.iter().any(|t| {
        ["127.0.0.1", "ZZ99", "Acme", "x86_64-acme_s1-r0", "key "]
            .iter()
            .all(|part| t.detail.contains(part))
    });
    assert!(shown, "{troubles:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_switches_that_are_swapped_are_named() {
    let fabric = Fabric::new().await;
    let maker = &fabric.world.maker;
    // The address is leased to one switch, and the proof is from the other.
    let lease = Lease {
        holder: Holder::Switch("leaf1".parse().unwrap()),
        mac: vfabric_api::ident::Mac([2, 0, 0, 0, 0, 1]),
        address: Ipv4Addr::LOCALHOST,
        expires: now() + 1000,
    };
    fabric.board.set_leases([lease].iter());
    let swapped = fabric.deliver(&maker.device("AF41"), "AF41", "swapped");
    let said = fabric.refused(&swapped).await;
    assert!(
        said.contains("leased to `leaf1`, but its certificate is of `leaf2`"),
        "{said}"
    );
    fabric.board.set_leases::<Ipv4Addr>([].iter());
    to_the_end(&Client::open(&swapped).unwrap(), &fabric.bootz).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_is_replaced_and_a_switch_retired() {
    let fabric = Fabric::new().await;
    let old = fabric.deliver(&fabric.world.maker.device("AF40"), "AF40", "old");
    to_the_end(&Client::open(&old).unwrap(), &fabric.bootz).await;
    // The inventory has another serial number for the same switch.
    fabric.switches.clear();
    fabric.switches.put(1, "leaf1", "AF41", "192.0.2.11:9559", false);
    let new = fabric.deliver(&fabric.world.maker.device("AF41"), "AF41", "new");
    let credentials = to_the_end(&Client::open(&new).unwrap(), &fabric.bootz).await;
    assert_eq!(credentials.identity().to_string(), "spiffe://test/switch/leaf1");
    let again = Client::open(&old)
        .unwrap()
        .bootstrap(&fabric.bootz, None)
        .await
        .unwrap_err();
    assert!(again.to_string().contains("AF40 is not in the inventory"), "{again}");
    fabric.switches.put(1, "leaf1", "AF41", "192.0.2.11:9559", true);
    let retired = Client::open(&new)
        .unwrap()
        .bootstrap(&fabric.bootz, None)
        .await
        .unwrap_err();
    assert!(retired.to_string().contains("was retired"), "{retired}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_wait_for_a_controller_that_is_away() {
    let fabric = Fabric::without_owner().await;
    let dir = fabric.deliver(&fabric.world.maker.device("AF40"), "AF40", "leaf1");
    let said = fabric.refused(&dir).await;
    assert!(said.contains("cannot be asked"), "{said}");
    let server = fabric.bootz.clone();
    let waiting = tokio::spawn(async move {
        let client = Client::open(&dir).unwrap();
        to_the_end(&client, &server).await.identity().to_string()
    });
    // It has asked in vain at least once more.
    let refusals = || {
        fabric
            .board
            .status(now())
            .counters
            .get("bootz refused")
            .copied()
            .unwrap_or_default()
    };
    let began = std::time::Instant::now();
    while refusals() < 2 {
        assert!(began.elapsed() < PATIENCE, "the device does not ask again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    fabric.own().await;
    let identity = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert_eq!(identity, "spiffe://test/switch/leaf1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_binds_no_device_and_the_device_comes_again_when_there_is_room() {
    let fabric = Fabric::without_owner().await;
    let disk = fabric.path("disk");
    let _mounted = common::Mount::small(&disk, "4M");
    fabric.own_with(&disk.join("bindings.redb")).await;
    let dir = fabric.deliver(&fabric.world.maker.device("AF40"), "AF40", "leaf1");
    let filler = disk.join("filler");
    let filled = std::fs::write(&filler, vec![1; 8 << 20]).unwrap_err();
    assert_eq!(filled.kind(), std::io::ErrorKind::StorageFull);
    for _ in 0..2 {
        let said = fabric.refused(&dir).await;
        assert!(said.contains("cannot be stored"), "{said}");
    }
    std::fs::remove_file(&filler).unwrap();
    to_the_end(&Client::open(&dir).unwrap(), &fabric.bootz).await;
    // Another device with its serial number comes too late.
    let clone = fabric.deliver(&fabric.world.maker.device("AF40"), "AF40", "clone");
    let said = fabric.refused(&clone).await;
    assert!(said.contains("a clone?"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_but_the_provisioning_server_may_ask_the_owner() {
    let fabric = Fabric::new().await;
    for who in [
        "switch/leaf1",
        "host/h1",
        "operator/ada",
        "operator/ada/admin",
        "user/ada",
    ] {
        let dialer = Dialer::new(fabric.authority.credentials(who), Subject::Controller).unwrap();
        let endpoint = tonic::transport::Endpoint::from_static("http://controller");
        let mut client = OwnerClient::new(dialer.channel(&endpoint, &fabric.owner).await.unwrap());
        let bootstrap = client.bootstrap(BootstrapRequest::default()).await.unwrap_err();
        let report = client.report(ReportRequest::default()).await.unwrap_err();
        for refused in [bootstrap, report] {
            assert_eq!(refused.code(), tonic::Code::PermissionDenied, "{who}: {refused}");
        }
    }
}
