//! `p4-switch --ztp`: the process starts with only an identity, is killed several times, and becomes the switch that
//! its owner wants.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
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
    start_with(dir, server, &[])
}

fn start_with(dir: &Path, server: &str, more: &[&str]) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_p4-switch"));
    command
        .arg("--ztp")
        .arg(dir)
        .args(["--ztp-server", &format!("bootz://{server}")])
        .args(more);
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

/// A software TPM, which ends with the value.
struct Tpm {
    dir: PathBuf,
    _process: Process,
}

impl Tpm {
    async fn start(dir: &Path) -> Self {
        std::fs::create_dir_all(dir.join("state")).unwrap();
        let socket = |name: &str| format!("type=unixio,path={}", dir.join(name).display());
        let mut command = Command::new("swtpm");
        command.args([
            "socket",
            "--tpm2",
            "--flags",
            "not-need-init,startup-clear",
            "--tpmstate",
        ]);
        command.arg(format!("dir={}", dir.join("state").display()));
        command.args(["--server", &socket("tpm"), "--ctrl", &socket("tpm.ctrl")]);
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = Process(process.expect("Debian package swtpm"));
        until("the TPM listens", || {
            dir.join("tpm").exists() && dir.join("tpm.ctrl").exists()
        })
        .await;
        Self {
            dir: dir.to_owned(),
            _process: process,
        }
    }

    fn interface(&self) -> String {
        format!("swtpm:path={}", self.dir.join("tpm").display())
    }

    /// Runs a command of tpm2-tools.
    fn run(&self, words: &str) {
        let mut words = words.split(' ');
        let program = words.next().unwrap();
        let mut command = Command::new(program);
        command
            .args(words)
            .current_dir(&self.dir)
            .env("TPM2TOOLS_TCTI", self.interface());
        let output = command.output().expect("Debian package tpm2-tools");
        assert!(
            output.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_identity_key_never_leaves_a_tpm() {
    let fabric = Fabric::new().await;
    let [.., a, b] = std::process::id().to_be_bytes();
    let address = format!("127.78.{a}.{b}:9559");
    fabric.switches.put(1, "leaf1", "AF40", &address, false);
    // The manufacturer: a key that is made in the TPM and cannot leave it, and a certificate for it.
    let tpm = Tpm::start(&fabric.path("tpm")).await;
    let fixed = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|sign";
    tpm.run(&format!("tpm2_createprimary -Q -C o -G ecc256 -a {fixed} -c key.ctx"));
    tpm.run("tpm2_evictcontrol -Q -C o -c key.ctx 0x81000001");
    tpm.run("tpm2_readpublic -Q -c 0x81000001 -f pem -o public.pem");
    let dir = fabric.deliver(&fabric.world.maker.device("AF40"), "AF40", "leaf1");
    std::fs::remove_file(dir.join("idevid.key")).unwrap();
    let (public, maker, key) = (
        tpm.dir.join("public.pem"),
        fabric.path("maker.pem"),
        fabric.path("maker.key"),
    );
    // A certificate with an extension is of version 3.
    let extensions = fabric.path("idevid.cnf");
    std::fs::write(&extensions, "keyUsage = critical, digitalSignature\n").unwrap();
    let mut openssl = Command::new("openssl");
    openssl
        .args([
            "x509",
            "-new",
            "-days",
            "30",
            "-subj",
            "/serialNumber=AF40",
            "-force_pubkey",
        ])
        .arg(public);
    openssl
        .arg("-CA")
        .arg(maker)
        .arg("-CAkey")
        .arg(key)
        .arg("-extfile")
        .arg(extensions)
        .arg("-out")
        .arg(dir.join("idevid.pem"));
    let issued = openssl.output().unwrap();
    assert!(issued.status.success(), "{}", String::from_utf8_lossy(&issued.stderr));

    let signer = fabric.path("signer");
    let text = format!(
        "#!/bin/sh\nset -e\ncd {}\ncat > $$\nTPM2TOOLS_TCTI={} tpm2_sign -Q -c 0x81000001 -g sha256 -f plain -o $$.sig $$\ncat $$.sig\n",
        tpm.dir.display(),
        tpm.interface()
    );
    std::fs::write(&signer, text).unwrap();
    std::fs::set_permissions(&signer, std::fs::Permissions::from_mode(0o755)).unwrap();
    let _serving = start_with(&dir, &fabric.bootz, &["--ztp-signer", signer.to_str().unwrap()]);
    let client = Client::open_with_signer(&dir, &signer).unwrap();
    until("it has reported", || client.is_reported()).await;
    let both = format!("{}{}", fabric.authority.pem, fabric.enrolling.pem);
    let controller = fabric.authority.issue("controller").credentials(&both);
    let channel = connect(&controller, "leaf1", &address).await;
    let mut client = P4RuntimeClient::new(channel);
    client.capabilities(v1::CapabilitiesRequest::default()).await.unwrap();
}
