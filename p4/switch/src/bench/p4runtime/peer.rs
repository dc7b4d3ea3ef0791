//! The same updates against switches in separate processes: ours and simple_switch_grpc.
//!
//! Both get the same program, the same client and the same batches, once with few entries in the table and once with
//! many. Figures: updates per second of wall-clock time and of the server's processor time, and growth of its resident
//! memory per inserted entry.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use p4runtime_grpc::p4_runtime_client::P4RuntimeClient;
use p4runtime_proto::p4::v1;
use p4runtime_proto::p4::v1::set_forwarding_pipeline_config_request::Action;
use tonic::transport::{Channel, Endpoint};

use super::super::process::Process;
use super::super::report::Report;
use super::{Error, Ids, Kind, become_primary, filling, raw};

/// Updates in a batch.
const BATCH: u32 = 1000;

/// Entries that a small table holds.
const FEW: u32 = 1000;

/// How long a server may take until it answers.
const PATIENCE: Duration = Duration::from_secs(10);

/// A switch that serves P4Runtime.
struct Server {
    process: Process,
    address: String,
}

impl Server {
    /// Starts simple_switch_grpc, or our own switch, without a program.
    fn start(peer: Option<&Path>) -> Result<Self, Error> {
        // Another process may take the port in between; then this one ends with an error.
        let free = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = match peer {
            Some(peer) => Command::new(peer),
            None => Command::new(std::env::current_exe()?),
        };
        command.args(["--no-p4", "--device-id", "1", "-L", "error", "--"]);
        command.args(["--grpc-server-addr", &free.to_string()]);
        Ok(Self {
            process: Process::spawn(command)?,
            address: format!("http://{free}"),
        })
    }

    async fn connect(&self) -> Result<Channel, Error> {
        let started = Instant::now();
        loop {
            match Endpoint::from_shared(self.address.clone())?.connect().await {
                Ok(channel) => return Ok(channel),
                Err(error) if started.elapsed() > PATIENCE => return Err(error.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    fn cpu(&self) -> Duration {
        self.process.cpu().unwrap_or_default()
    }

    fn resident_bytes(&self) -> usize {
        self.process.resident_bytes()
    }
}

/// Measures one kind on our switch and on the peer.
pub(super) async fn compare(
    report: &mut Report,
    peer: &Path,
    kind: &Kind,
    ids: &Ids,
    many: u32,
    config: &v1::ForwardingPipelineConfig,
) -> Result<(), Error> {
    let own = served(None, kind, ids, many, config).await?;
    let other = served(Some(peer), kind, ids, many, config).await?;
    report.row(&format!("process, {}", kind.name), &own);
    report.row(&format!("peer process, {}", kind.name), &other);
    let ratios: Vec<(String, f64)> = own
        .iter()
        .zip(&other)
        .filter(|(_, (_, theirs))| *theirs > 0.0)
        .map(|((name, ours), (_, theirs))| (ratio_of(name), ours / theirs))
        .collect();
    let ratios: Vec<(&str, f64)> = ratios.iter().map(|(name, ratio)| (name.as_str(), *ratio)).collect();
    report.row(&format!("process / peer, {}", kind.name), &ratios);
    Ok(())
}

/// Name of the ratio of two figures with this name, which ends with their unit.
fn ratio_of(figure: &str) -> String {
    let what = figure.split_once("_per_").map_or(figure, |(what, _)| what);
    format!("{}_ratio", what.rsplit_once('_').map_or(what, |(what, _)| what))
}

async fn served(
    peer: Option<&Path>,
    kind: &Kind,
    ids: &Ids,
    many: u32,
    config: &v1::ForwardingPipelineConfig,
) -> Result<Vec<(&'static str, f64)>, Error> {
    let server = Server::start(peer)?;
    let channel = server.connect().await?;
    let mut client = P4RuntimeClient::new(channel.clone());
    let _stream = become_primary(&mut client).await?;
    client
        .set_forwarding_pipeline_config(v1::SetForwardingPipelineConfigRequest {
            device_id: 1,
            election_id: Some(v1::Uint128 { high: 0, low: 1 }),
            action: Action::VerifyAndCommit.into(),
            config: Some(config.clone()),
            ..Default::default()
        })
        .await?;
    let requests = ids.run(kind, BATCH);
    let mut fill = filling(kind, ids, many);
    let mut figures = Vec::new();
    for request in fill.by_ref().take((FEW / BATCH) as usize) {
        raw::write(&channel, request).await?;
    }
    figures.extend(rates(&server, &channel, &requests, "small").await?);
    let (before, mut entries) = (server.resident_bytes(), 0);
    for request in fill {
        entries += BATCH as usize;
        raw::write(&channel, request).await?;
    }
    let grown = server.resident_bytes().saturating_sub(before);
    figures.push(("memory_bytes_per_entry", grown as f64 / entries.max(1) as f64));
    figures.extend(rates(&server, &channel, &requests, "large").await?);
    Ok(figures)
}

async fn rates(
    server: &Server,
    channel: &Channel,
    requests: &[Bytes],
    table: &str,
) -> Result<[(&'static str, f64); 2], Error> {
    let (started, busy) = (Instant::now(), server.cpu());
    let mut updates = 0;
    for request in requests {
        updates += BATCH as usize;
        raw::write(channel, request.clone()).await?;
    }
    let (wall, spent) = (started.elapsed(), server.cpu().saturating_sub(busy));
    let per = |time: Duration| updates as f64 / time.as_secs_f64().max(0.01);
    let names = match table {
        "small" => ["small_table_wall_updates_per_s", "small_table_server_updates_per_s"],
        _ => ["large_table_wall_updates_per_s", "large_table_server_updates_per_s"],
    };
    Ok([(names[0], per(wall)), (names[1], per(spent))])
}
