//! `p4-switch --ztp`: the process starts with only an identity, is killed several times, and becomes the switch that
//! its owner wants.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fabric_bootz::client::Client;
use fabric_identity::{Credentials, Dialer, Subject};
use fabric_provision::board::What;
use fabric_provision::testing::Fabric;
use gnmi_proto::gnmi::g_nmi_client::GNmiClient;
use gnmi_proto::gnmi::typed_value::Value;
use gnmi_proto::gnmi::{GetRequest, Path as GnmiPath, PathElem};
use p4runtime_grpc::p4_runtime_client::P4RuntimeClient;
use p4runtime_proto::p4::v1;
use tonic::transport::{Channel, Endpoint};

/// How long something that must happen may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A switch that is killed when the value is dropped, as by a loss of power.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(dir: &Path, server: &str) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_p4-switch"));
    command
        .arg("--ztp")
        .arg(dir)
        .args(["--ztp-server", &format!("bootz://{server}")]);
    Process(command.stdin(Stdio::null()).spawn().unwrap())
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Connects as the controller, to the switch of this name and to no other.
async fn connect(controller: &Arc<Credentials>, name: &str, address: &str) -> Channel {
    let dialer = Dialer::new(Arc::clone(controller), Subject::Switch(name.into())).unwrap();
    let endpoint = Endpoint::from_static("http://switch");
    let began = Instant::now();
    loop {
        match dialer.channel(&endpoint, address).await {
            Ok(channel) => return channel,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{}", fabric_identity::explain(&error)),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blank_process_becomes_a_switch_though_it_is_killed_on_the_way() {
    let fabric = Fabric::without_owner().await;
    // An address of its own on the loopback device, so that the port is free.
    let [.., a, b] = std::process::id().to_be_bytes();
    let address = format!("127.77.{a}.{b}:9559");
    fabric.switches.put(1, "leaf1", "AF40", &address, false);
    let dir = fabric.deliver(&fabric.world.maker.device("AF40"), "AF40", "leaf1");
    let both = format!("{}{}", fabric.authority.pem, fabric.enrolling.pem);
    let controller = fabric.authority.issue("controller").credentials(&both);

    // Killed while its owner cannot be reached.
    let waiting = start(&dir, &fabric.bootz);
    until("it was refused", || fabric.steps("leaf1").contains(&What::Refused)).await;
    drop(waiting);
    assert!(!dir.join("bootstrap.json").exists());

    // Killed when it has its bootstrap data, at an arbitrary point.
    fabric.own().await;
    let enrolled = start(&dir, &fabric.bootz);
    until("it has its bootstrap data", || dir.join("bootstrap.json").exists()).await;
    drop(enrolled);

    // Let it finish.
    let serving = start(&dir, &fabric.bootz);
    let client = Client::open(&dir).unwrap();
    until("it has reported", || client.is_reported()).await;
    assert_eq!(fabric.steps("leaf1").last(), Some(&What::Bootstrapped));
    let is_good = async || {
        let channel = connect(&controller, "leaf1", &address).await;
        P4RuntimeClient::new(channel.clone())
            .capabilities(v1::CapabilitiesRequest::default())
            .await
            .unwrap();
        let elem = |name: &str| PathElem {
            name: name.into(),
            ..PathElem::default()
        };
        let hostname = GnmiPath {
            elem: ["system", "state", "hostname"].map(elem).to_vec(),
            ..GnmiPath::default()
        };
        let get = GetRequest {
            path: vec![hostname],
            encoding: gnmi_proto::gnmi::Encoding::JsonIetf.into(),
            ..GetRequest::default()
        };
        let said = GNmiClient::new(channel).get(get).await.unwrap().into_inner();
        let value = said.notification[0].update[0].val.as_ref().unwrap();
        assert_eq!(value.value, Some(Value::JsonIetfVal(br#""leaf1""#.to_vec())));
    };
    is_good().await;

    // Killed while it serves: it serves again without contacting its owner.
    drop(serving);
    let steps = fabric.steps("leaf1").len();
    let _again = start(&dir, &fabric.bootz);
    is_good().await;
    assert_eq!(fabric.steps("leaf1").len(), steps, "enrolment has ended for good");
}
