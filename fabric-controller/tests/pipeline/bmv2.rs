//! `simple_switch_grpc` as the target: entries over P4Runtime, packets in capture files.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fabric_pipeline::Pipeline;
use fabric_pipeline::tables::counters::{ICMP_ERRORS, INGRESS_DROPS};
use fabric_pipeline::tables::host_refusal;
use p4runtime_client::entity::Entity;
use p4runtime_client::pipeline::Pipeline as Loaded;
use p4runtime_client::session::{ElectionId, Options, Session};
use p4runtime_client::write::Change;

use crate::{Outcome, PORTS};

/// Seconds after its start when the switch reads the packets; entries are in by then.
const PACKETS_AFTER_S: u32 = 6;

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn write_pcap(path: &Path, frames: &[(usize, &[u8])]) {
    let mut file = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65_535, 1] {
        file.extend(word.to_le_bytes());
    }
    for (i, frame) in frames {
        // Time in seconds gives the order across ports.
        for word in [*i as u32, 0, frame.len() as u32, frame.len() as u32] {
            file.extend(word.to_le_bytes());
        }
        file.extend(*frame);
    }
    std::fs::File::create(path).unwrap().write_all(&file).unwrap();
}

fn read_pcap(path: &Path) -> Vec<Vec<u8>> {
    let file = std::fs::read(path).unwrap_or_default();
    let mut rest = file.get(24..).unwrap_or_default();
    let mut frames = Vec::new();
    while rest.len() >= 16 {
        let len = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        let Some(frame) = rest.get(16..16 + len) else { break };
        frames.push(frame.to_vec());
        rest = &rest[16 + len..];
    }
    frames
}

/// Runs all packets through a pipeline.
pub(crate) async fn run(
    pipeline: Pipeline,
    mut entities: Vec<Entity>,
    packets: &[(u16, Vec<u8>)],
    device_id: u64,
) -> Outcome {
    // Contributions share entities.
    entities.sort_by(|a, b| a.key().cmp(b.key()));
    entities.dedup();
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("simple_switch_grpc");
    for port in PORTS {
        let mine: Vec<(usize, &[u8])> = packets
            .iter()
            .enumerate()
            .filter(|(_, (p, _))| *p == port)
            .map(|(i, (_, frame))| (i, frame.as_slice()))
            .collect();
        write_pcap(&dir.path().join(format!("p{port}_in.pcap")), &mine);
        command.args(["-i", &format!("{port}@p{port}")]);
    }
    let address = format!("127.0.0.1:{}", 29_550 + device_id);
    command.args(["--use-files", &PACKETS_AFTER_S.to_string(), "--no-p4", "--log-file"]);
    command.args([
        std::env::var("BMV2_LOG").unwrap_or("switch".into()).as_str(),
        "--log-flush",
        "--device-id",
        &device_id.to_string(),
    ]);
    // Where it was built with Thrift, each instance needs a port for that.
    let help = Command::new("simple_switch_grpc").arg("--help").output();
    if help.is_ok_and(|h| String::from_utf8_lossy(&h.stdout).contains("--thrift-port")) {
        command.args(["--thrift-port", &(29_090 + device_id).to_string()]);
    }
    command.args(["--", "--grpc-server-addr", &address, "--cpu-port", "510"]);
    let child = command
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let switch = Killed(child.expect("simple_switch_grpc is installed"));

    let options = Options::new(address, device_id, ElectionId(1));
    let mut attempts = 0;
    let session = loop {
        match Session::open(options.clone()).await {
            Ok(session) => break session,
            Err(e) if attempts > 40 => panic!("no session: {e}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
        attempts += 1;
    };
    let loaded = Loaded::new(pipeline.decode_p4info().unwrap(), pipeline.json.into());
    session.install(&loaded).await.unwrap();
    let mut changes: Vec<Change> = entities.into_iter().map(Change::Insert).collect();
    changes.sort_by_key(|c| c.key().rank());
    for (outcome, change) in session.write(&changes).await.unwrap().iter().zip(&changes) {
        assert!(outcome.is_ok(), "{change:?}: {outcome:?}");
    }

    // Packets start after the wait; the counters stand still when all are through.
    tokio::time::sleep(Duration::from_secs(u64::from(PACKETS_AFTER_S) + 2)).await;
    let counted = session.read_counter(INGRESS_DROPS).await.unwrap();
    let drops = counted
        .into_iter()
        .filter(|(_, v)| v.packets > 0)
        .map(|(i, v)| (i, v.packets))
        .collect();
    let icmp_errors = if pipeline == Pipeline::LEAF {
        let counted = session.read_counter(ICMP_ERRORS).await.unwrap();
        let seen = counted.into_iter().filter(|(_, v)| v.packets > 0);
        seen.map(|(i, v)| (i, v.packets)).collect()
    } else {
        BTreeMap::new()
    };
    let refusals = if pipeline == Pipeline::LEAF {
        let counted = session.read_direct_counter(host_refusal::ID).await.unwrap();
        counted
            .into_iter()
            .filter(|c| c.value.packets > 0)
            .map(|c| (c.key, c.value.packets))
            .collect()
    } else {
        BTreeMap::new()
    };
    drop(switch);
    let out = PORTS.map(|p| (p, read_pcap(&dir.path().join(format!("p{p}_out.pcap")))));
    Outcome {
        out: out.into_iter().collect(),
        drops,
        icmp_errors,
        refusals,
    }
}
