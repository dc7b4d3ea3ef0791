//! Equal updates to two switches in separate processes: ours and simple_switch_grpc.
//!
//! Both get the same program, the same client and the same batches, once with few entries in the table and once with
//! many. Figures: updates per second of wall-clock time and of the server's processor time, and growth of its resident
//! memory per inserted entry.
//!
//! The two take turns, so that both see the same changes of the machine's speed. Each rate is the median of its turns, each
//! ratio the median of those of neighbouring turns.

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
use super::{Error, Ids, Kind, ROUNDS, Stream, become_primary, filling, raw};

/// Updates in a batch.
const BATCH: u32 = 1000;

/// Entries that a small table holds.
const FEW: u32 = 1000;

/// Turns of each switch. An odd number, so that there is a middle one.
const TURNS: usize = 5;

/// Shortest time of a turn; all turns together measure a switch for at least five seconds.
const TURN: Duration = Duration::from_secs(1);

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

/// A switch under measurement.
struct Side {
    server: Server,
    channel: Channel,
    /// The client is primary as long as this is open.
    _stream: Stream,
}

impl Side {
    /// Starts the peer, or our own switch, and loads the program.
    async fn start(peer: Option<&Path>, config: &v1::ForwardingPipelineConfig) -> Result<Self, Error> {
        let server = Server::start(peer)?;
        let channel = server.connect().await?;
        let mut client = P4RuntimeClient::new(channel.clone());
        let stream = become_primary(&mut client).await?;
        client
            .set_forwarding_pipeline_config(v1::SetForwardingPipelineConfigRequest {
                device_id: 1,
                election_id: Some(v1::Uint128 { high: 0, low: 1 }),
                action: Action::VerifyAndCommit.into(),
                config: Some(config.clone()),
                ..Default::default()
            })
            .await?;
        Ok(Self {
            server,
            channel,
            _stream: stream,
        })
    }

    async fn write_all(&self, requests: impl IntoIterator<Item = Bytes>) -> Result<(), Error> {
        for request in requests {
            raw::write(&self.channel, request).await?;
        }
        Ok(())
    }

    /// Fills the table and returns how much the resident memory grew, in bytes.
    async fn fill(&self, requests: &[Bytes]) -> Result<usize, Error> {
        let before = self.server.resident_bytes();
        self.write_all(requests.iter().cloned()).await?;
        Ok(self.server.resident_bytes().saturating_sub(before))
    }

    /// Writes all requests again and again, for as long as a turn takes.
    async fn turn(&self, requests: &[Bytes]) -> Result<Rates, Error> {
        let (started, busy) = (Instant::now(), self.server.cpu());
        let mut updates = 0;
        while started.elapsed() < TURN {
            self.write_all(requests.iter().cloned()).await?;
            updates += requests.len() * BATCH as usize;
        }
        let (wall, spent) = (started.elapsed(), self.server.cpu().saturating_sub(busy));
        let per = |time: Duration| updates as f64 / time.as_secs_f64().max(0.01);
        Ok(Rates {
            wall: per(wall),
            server: per(spent),
        })
    }
}

/// Updates per second of wall-clock time, and of the server's processor time.
#[derive(Clone, Copy)]
struct Rates {
    wall: f64,
    server: f64,
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
    let own = Side::start(None, config).await?;
    let other = Side::start(Some(peer), config).await?;
    let fill: Vec<Bytes> = filling(kind, ids, many).collect();
    let (few, more) = fill.split_at((FEW / BATCH) as usize);
    own.fill(few).await?;
    other.fill(few).await?;
    // The slower switch decides how many batches a run has, so that a turn of either switch has at
    // least one run.
    let started = Instant::now();
    other.write_all(ids.run(kind, BATCH, 1)).await?;
    let rounds = (TURN.as_secs_f64() / started.elapsed().as_secs_f64()) as usize;
    let requests = ids.run(kind, BATCH, rounds.clamp(1, ROUNDS));

    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for (table, entries) in [("small", few), ("large", more)] {
        if table == "large" {
            let per_entry = |grown: usize| grown as f64 / (entries.len() * BATCH as usize).max(1) as f64;
            let (own, other) = (
                per_entry(own.fill(entries).await?),
                per_entry(other.fill(entries).await?),
            );
            ours.push(("memory_bytes_per_entry".to_owned(), own));
            theirs.push(("memory_bytes_per_entry".to_owned(), other));
            if other > 0.0 {
                ratios.push(("memory_ratio".to_owned(), own / other));
            }
        }
        let mut turns = Vec::new();
        for _ in 0..TURNS {
            turns.push((own.turn(&requests).await?, other.turn(&requests).await?));
        }
        for (clock, of) in [("wall", (|r| r.wall) as fn(&Rates) -> f64), ("server", |r| r.server)] {
            let name = format!("{table}_table_{clock}_updates_per_s");
            ours.push((name.clone(), median(turns.iter().map(|(own, _)| of(own)))));
            theirs.push((name, median(turns.iter().map(|(_, other)| of(other)))));
            let ratio = median(turns.iter().map(|(own, other)| of(own) / of(other)));
            ratios.push((format!("{table}_table_{clock}_ratio"), ratio));
        }
    }
    for (what, figures) in [("process", ours), ("peer process", theirs), ("process / peer", ratios)] {
        let figures: Vec<(&str, f64)> = figures.iter().map(|(name, of)| (name.as_str(), *of)).collect();
        report.row(&format!("{what}, {}", kind.name), &figures);
    }
    Ok(())
}

/// The middle one of an odd number of figures.
fn median(figures: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<f64> = figures.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
