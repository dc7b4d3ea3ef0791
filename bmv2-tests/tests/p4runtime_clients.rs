//! P4Runtime and gNMI clients of other projects, with the server of p4-switch.
//!
//! Entities are held by the packet engine; it has no ports, and every packet-out comes back as a packet-in and as a digest.
//! What is tested is the protocol, not what packets do.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use bmv2_tests::venv;
use p4_switch::device::{Dataplane, EngineDevice, PACKET_OUT_QUEUE};
use p4_switch::gnmi::memory::MemoryInterfaces;
use p4_switch::gnmi::tree::{Counters, Interface};
use p4_switch::p4runtime::target::Event;
use p4_switch::serve::{EVENT_QUEUE, ServeConfig, listen, serve};
use tokio::process::Command;
use tokio::sync::mpsc;

/// P4Info id of the digest `learn_t` of the test program.
const LEARN: u32 = 398_033_514;

/// Port of packet-in and packet-out in the test program.
const CPU_PORT: u32 = 510;

/// The port that means "drop".
const DROP_PORT: u32 = 511;

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
        shut: false,
        is_up: true,
        mtu: 1500,
        mac: [2, 0, 0, 0, 0, id as u8],
        speed_bps: Some(10_000_000_000),
        ethernet: Default::default(),
        description: String::new(),
        counters: Counters::default(),
    }
}

/// Turns packet-outs (16 bits of header) into packet-ins and digests.
async fn reflect(mut frames: mpsc::Receiver<Vec<u8>>, events: mpsc::Sender<Event>) {
    while let Some(frame) = frames.recv().await {
        let source = frame.get(8..14).unwrap_or_default().to_vec();
        let digest = Event::Digest {
            digest_id: LEARN,
            message: vec![source, vec![0, 1]],
        };
        for event in [Event::PacketIn(frame), digest] {
            // The receiver lives as long as the server.
            let _ = events.send(event).await;
        }
    }
}

/// Serves on a free port for as long as the test runs.
async fn start() -> Result<SocketAddr> {
    let ports = [(1, "p1"), (2, "p2")];
    let interfaces = MemoryInterfaces::new("leaf1", ports.map(|(id, name)| interface(id, name)));
    let interfaces = Arc::new(interfaces.with_spare([(3, "p3"), (4, "p4")].map(|(id, name)| interface(id, name))));
    let names = ports.map(|(id, name)| (name.to_owned(), id)).to_vec();
    let (sender, receiver) = mpsc::channel(EVENT_QUEUE);
    let (outgoing, frames) = mpsc::channel(PACKET_OUT_QUEUE);
    tokio::spawn(reflect(frames, sender.clone()));
    let plane = Dataplane::new(names, Some(CPU_PORT), DROP_PORT, outgoing, Box::new(|| {}), sender);
    let device = Arc::new(EngineDevice(plane));
    let listener = listen("127.0.0.1:0".parse()?).await?;
    let address = listener.local_addr()?;
    let config = ServeConfig {
        device_id: 1,
        tls: None,
        pipeline: None,
        gnoi: None,
        commands: None,
    };
    tokio::spawn(serve(
        config,
        listener,
        device,
        interfaces,
        receiver,
        std::future::pending(),
    ));
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
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
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
