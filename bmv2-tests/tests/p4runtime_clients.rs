//! P4Runtime and gNMI clients that nobody here wrote, against the server of p4-switch.
//!
//! The server runs on a target that only remembers, and every packet-out comes back as a packet-in and as a digest: what
//! is tested is the protocol, not the packet engine.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bmv2_tests::venv;
use p4_switch::gnmi::memory::MemoryInterfaces;
use p4_switch::gnmi::tree::{Counters, Interface};
use p4_switch::p4runtime::memory::MemoryDevice;
use p4_switch::p4runtime::target::Event;
use p4_switch::serve::{EVENT_QUEUE, ServeConfig, listen, serve};
use tokio::process::Command;
use tokio::sync::mpsc;

/// P4Info id of the digest `learn_t` of the test program.
const LEARN: u32 = 398_033_514;

/// Port of packet-in and packet-out in the test program.
const CPU_PORT: u32 = 510;

/// How often the reflecting target looks for packets.
const REFLECT_EVERY: Duration = Duration::from_millis(5);

fn data(file: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../p4/switch/tests/data")).join(file)
}

fn script(file: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/python")).join(file)
}

fn interface(id: u32, name: &str) -> Interface {
    Interface {
        name: name.to_owned(),
        id,
        ifindex: id + 100,
        enabled: true,
        is_up: true,
        mtu: 1500,
        mac: [2, 0, 0, 0, 0, id as u8],
        speed_bps: Some(10_000_000_000),
        counters: Counters::default(),
    }
}

/// Turns packet-outs (16 bits of header) into packet-ins and digests.
async fn reflect(device: Arc<MemoryDevice>, events: mpsc::Sender<Event>) {
    loop {
        for frame in device.take_frames() {
            let source = frame.get(8..14).unwrap_or_default().to_vec();
            let digest = Event::Digest { digest_id: LEARN, message: vec![source, vec![0, 1]] };
            for event in [Event::PacketIn(frame), digest] {
                // The receiver lives as long as the server.
                let _ = events.send(event).await;
            }
        }
        tokio::time::sleep(REFLECT_EVERY).await;
    }
}

/// Serves on a free port for as long as the test runs.
async fn start() -> Result<SocketAddr> {
    let ports = BTreeMap::from([(1, "p1".to_owned()), (2, "p2".to_owned())]);
    let interfaces = ports.iter().map(|(id, name)| interface(*id, name)).collect::<Vec<_>>();
    let interfaces = Arc::new(MemoryInterfaces::new("leaf1", interfaces));
    let device = Arc::new(MemoryDevice::new(Some(CPU_PORT), ports));
    let (sender, receiver) = mpsc::channel(EVENT_QUEUE);
    tokio::spawn(reflect(device.clone(), sender));
    let listener = listen("127.0.0.1:0".parse()?).await?;
    let address = listener.local_addr()?;
    let config = ServeConfig { device_id: 1, tls: None };
    tokio::spawn(serve(config, listener, device, interfaces, receiver, std::future::pending()));
    Ok(address)
}

async fn run(venv: &str, file: &str, arguments: &[&str]) -> Result<()> {
    let address = start().await?;
    let output = Command::new(venv::python(venv)?)
        .arg(script(file))
        .arg(address.to_string())
        .args(arguments)
        .output()
        .await
        .with_context(|| format!("cannot start {file}"))?;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{file} failed:\n{text}");
    ensure!(text.contains("all checks held"), "{file} ended early:\n{text}");
    Ok(())
}

fn pipeline() -> [String; 2] {
    ["entities.json", "entities.p4info.txtpb"].map(|file| data(file).display().to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn finsy_writes_and_reads_every_entity_and_stream_message() -> Result<()> {
    let pipeline = pipeline();
    run("finsy", "finsy_entities.py", &[&pipeline[0], &pipeline[1]]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn pygnmi_gets_sets_and_subscribes() -> Result<()> {
    run("pygnmi", "pygnmi_interfaces.py", &[]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn p4runtime_shell_writes_and_reads_what_it_knows() -> Result<()> {
    let pipeline = pipeline();
    run("p4runtime-shell", "shell_entities.py", &[&pipeline[0], &pipeline[1]]).await
}
